//! From token bytes to text that can be sent: characters whole, stop texts found wherever they are
//! cut, and nothing sent that might turn out to be the beginning of one. A token that ends within a
//! character is held back as a whole, so that what was sent is always the text of whole tokens, and
//! an answer that stops there can go on from their ids.

/// The text of one answer as it grows.
#[derive(Debug)]
pub struct TextOut {
    stops: Vec<String>,
    /// Bytes of a character that is not complete.
    partial: Vec<u8>,
    /// Text that may be the beginning of a stop text.
    held: String,
}

/// What is certain after a piece.
#[derive(Clone, Debug, Default, Eq, PartialEq)]
pub struct Text {
    /// Text to send.
    pub text: String,
    /// The stop text that was found; the answer ends before it.
    pub stopped: Option<String>,
}

impl TextOut {
    /// An answer that ends at any of these texts. Empty ones are ignored.
    pub fn new(stops: &[String]) -> Self {
        let stops = stops.iter().filter(|stop| !stop.is_empty()).cloned().collect();
        Self { stops, partial: Vec::new(), held: String::new() }
    }

    /// Takes in a token's bytes.
    pub fn push(&mut self, bytes: &[u8]) -> Text {
        self.partial.extend_from_slice(bytes);
        let whole = self.take_whole();
        self.held.push_str(&whole);
        if let Some((at, stop)) = self.find_stop() {
            self.held.truncate(at);
            self.partial.clear();
            return Text { text: std::mem::take(&mut self.held), stopped: Some(stop) };
        }
        let keep = if self.partial.is_empty() {
            self.stops.iter().map(|stop| overlap(&self.held, stop)).max().unwrap_or(0)
        } else {
            self.held.len()
        };
        let rest = self.held.split_off(self.held.len() - keep);
        Text { text: std::mem::replace(&mut self.held, rest), stopped: None }
    }

    /// What was held back: the answer is over. An incomplete character becomes U+FFFD.
    pub fn finish(&mut self) -> String {
        let mut text = std::mem::take(&mut self.held);
        if !std::mem::take(&mut self.partial).is_empty() {
            text.push(char::REPLACEMENT_CHARACTER);
        }
        text
    }

    /// Takes the complete characters out of `partial`; bytes that can begin none become U+FFFD.
    fn take_whole(&mut self) -> String {
        let mut text = String::new();
        loop {
            match std::str::from_utf8(&self.partial) {
                Ok(valid) => {
                    text.push_str(valid);
                    self.partial.clear();
                    return text;
                }
                Err(error) => {
                    let (valid, rest) = self.partial.split_at(error.valid_up_to());
                    text.push_str(&String::from_utf8_lossy(valid));
                    let Some(bad) = error.error_len() else {
                        self.partial = rest.to_vec();
                        return text;
                    };
                    text.push(char::REPLACEMENT_CHARACTER);
                    self.partial = rest[bad..].to_vec();
                }
            }
        }
    }

    /// The first stop text in what is held, the longest of those that begin at the same place.
    fn find_stop(&self) -> Option<(usize, String)> {
        let found =
            self.stops.iter().filter_map(|stop| Some((self.held.find(stop.as_str())?, stop)));
        let first = found.min_by_key(|(at, stop)| (*at, std::cmp::Reverse(stop.len())))?;
        Some((first.0, first.1.clone()))
    }
}

/// Bytes at the end of `text` that are the beginning of `stop`, but not all of it.
fn overlap(text: &str, stop: &str) -> usize {
    let longest = text.len().min(stop.len() - 1);
    let fits = |len: &usize| {
        let begin = text.len() - len;
        text.is_char_boundary(begin) && stop.as_bytes().starts_with(&text.as_bytes()[begin..])
    };
    (1..=longest).rev().find(fits).unwrap_or(0)
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    /// The text of pieces, and the stop text that ended it.
    fn run(stops: &[&str], pieces: &[&[u8]]) -> (String, Option<String>) {
        let stops: Vec<String> = stops.iter().map(|stop| (*stop).to_owned()).collect();
        let mut out = TextOut::new(&stops);
        let mut text = String::new();
        for piece in pieces {
            let more = out.push(piece);
            text.push_str(&more.text);
            if more.stopped.is_some() {
                return (text, more.stopped);
            }
        }
        text.push_str(&out.finish());
        (text, None)
    }

    #[test]
    fn stops_are_found_across_pieces() {
        let check = |stops: &[&str], pieces: &[&str], expect: &str, stopped: Option<&str>| {
            let pieces: Vec<&[u8]> = pieces.iter().map(|piece| piece.as_bytes()).collect();
            assert_eq!(
                run(stops, &pieces),
                (expect.to_owned(), stopped.map(str::to_owned)),
                "{pieces:?}"
            );
        };
        check(&["END"], &["ab", "E", "N", "Dx"], "ab", Some("END"));
        check(&["END"], &["ab", "E", "N", "!"], "abEN!", None);
        check(&["END"], &["abEN"], "abEN", None);
        check(&["aab"], &["aaab"], "a", Some("aab"));
        check(&["b", "ab"], &["xa", "b"], "x", Some("ab"));
        check(&["é!"], &["café", "!"], "caf", Some("é!"));
        check(&[""], &["a"], "a", None);
    }

    #[test]
    fn tokens_come_whole() {
        let mut out = TextOut::new(&[]);
        let mut push = |bytes: &[u8]| out.push(bytes).text;
        let texts = [push(b"a"), push(b" \xe2\x80"), push(b"\x9cb"), push(b"\xf0"), push(b"x")];
        assert_eq!(texts, ["a", "", " \u{201c}b", "", "\u{fffd}x"]);
    }

    #[test]
    fn characters_come_whole() {
        assert_eq!(run(&[], &[b"\xf0\x9f", b"\x98", b"\x80!"]).0, "😀!");
        assert_eq!(run(&[], &[b"a\xff", b"b"]).0, "a\u{fffd}b");
        assert_eq!(run(&[], &[b"a\xf0\x9f"]).0, "a\u{fffd}");
    }

    proptest! {
        #[test]
        fn any_cut_gives_the_same_text(text in "[ab€😀]{0,20}", stop in "[ab€]{1,3}", cuts in prop::collection::vec(any::<prop::sample::Index>(), 0..6)) {
            let bytes = text.as_bytes();
            let mut at: Vec<usize> = cuts.iter().map(|cut| cut.index(bytes.len() + 1)).collect();
            at.extend([0, bytes.len()]);
            at.sort_unstable();
            let pieces: Vec<&[u8]> = at.windows(2).map(|pair| &bytes[pair[0]..pair[1]]).collect();
            let expect = text.find(&stop).map_or_else(|| (text.clone(), None), |at| (text[..at].to_owned(), Some(stop.clone())));
            prop_assert_eq!(run(&[&stop], &pieces), expect);
        }
    }
}
