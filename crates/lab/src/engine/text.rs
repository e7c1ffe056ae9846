//! Tokens of a scripted engine: four bytes make one, and which comes next is decided by the prompt's
//! beginning and the position alone. So a test knows every answer in advance, an answer that is not
//! its request's own is found out, and an answer goes on elsewhere where it stopped.

use super::stats::Fingerprint;

/// Bytes of one token.
pub const TOKEN_BYTES: usize = 4;
/// Tokens of a prompt that decide its answer.
pub const VOICE_TOKENS: usize = 8;

/// The tokens of a text.
pub fn tokens(text: &[u8]) -> Vec<u32> {
    let token = |bytes: &[u8]| {
        let mut word = [0; TOKEN_BYTES];
        for (to, from) in word.iter_mut().zip(bytes) {
            *to = *from;
        }
        u32::from_le_bytes(word)
    };
    text.chunks(TOKEN_BYTES).map(token).collect()
}

/// What says how an answer goes on.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Voice(u64);

impl Voice {
    /// The voice that answers a prompt.
    pub fn of(prompt: &[u32]) -> Self {
        let mut print = Fingerprint::default();
        for token in prompt.iter().take(VOICE_TOKENS) {
            print.push(&token.to_le_bytes());
        }
        Self(print.value())
    }

    /// The token at a position, counted from the first token of the prompt.
    pub fn token(self, position: usize) -> u32 {
        u32::from_le_bytes(self.bytes(position))
    }

    /// Its text: a space, and three letters or digits.
    pub fn text(self, position: usize) -> String {
        self.bytes(position).iter().copied().map(char::from).collect()
    }

    /// The text of an answer of so many tokens to a prompt of so many.
    pub fn answer(self, prompt: usize, tokens: usize) -> String {
        (prompt..prompt + tokens).map(|position| self.text(position)).collect()
    }

    fn bytes(self, position: usize) -> [u8; TOKEN_BYTES] {
        let mut bits = mix(self.0.wrapping_add(position as u64));
        let mut next = || {
            let letter = (bits % 36) as u8;
            bits /= 36;
            if letter < 10 { b'0' + letter } else { b'a' + letter - 10 }
        };
        [b' ', next(), next(), next()]
    }
}

/// Makes near numbers far from each other (SplitMix64).
pub(super) const fn mix(value: u64) -> u64 {
    let value = value.wrapping_add(0x9e37_79b9_7f4a_7c15);
    let value = (value ^ (value >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
    let value = (value ^ (value >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
    value ^ (value >> 31)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn goes_on_where_an_answer_stopped() {
        let prompt = "u:What is the capital of a country that nobody knows?\n";
        let before = tokens(prompt.as_bytes());
        let voice = Voice::of(&before);
        let whole = voice.answer(before.len(), 10);
        assert_eq!(whole.len(), 10 * TOKEN_BYTES);

        let mut so_far = before.clone();
        so_far.extend((0..4).map(|index| voice.token(before.len() + index)));
        let rest = Voice::of(&so_far).answer(so_far.len(), 6);
        assert_eq!(whole, voice.answer(before.len(), 4) + &rest);
    }

    #[test]
    fn answers_differ() {
        let answer = |prompt: &str| {
            let tokens = tokens(prompt.as_bytes());
            Voice::of(&tokens).answer(tokens.len(), 8)
        };
        assert_ne!(answer("one prompt"), answer("two prompt"));
    }
}
