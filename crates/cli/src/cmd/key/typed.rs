//! Reading a key that somebody types or pipes in, without showing it.

use std::io::{BufRead as _, IsTerminal as _, Read as _, Stdin};

use anyhow::Context as _;
use pilotage_shell::secret::{KeyHash, hex};
use rustix::termios::{LocalModes, OptionalActions, Termios, tcgetattr, tcsetattr};
use serde_json::json;

use crate::exit::Wrong;
use crate::output::{self, Format};

/// Longest key that is read.
const KEY_BYTES_MAX: u64 = 4096;

/// Shorter keys can be found by trying, once somebody has their hash.
const KEY_BYTES_SAFE: usize = 20;

/// Prints the hash of a key.
pub(super) fn hash(format: Format) -> anyhow::Result<()> {
    let stdin = std::io::stdin();
    let text = if stdin.is_terminal() { ask(&stdin)? } else { piped(&stdin)? };
    let key = key(&text)?;
    if key.len() < KEY_BYTES_SAFE {
        output::hint(
            "short keys can be guessed from their hash; `pilotage key new` makes long ones",
        );
    }
    let hash = hex(KeyHash::of(key).bytes());
    match format {
        Format::Table => output::line(&hash),
        Format::Json => output::json(&json!({ "sha256": hash }))?,
    }
    Ok(())
}

/// The key in what was read.
fn key(text: &[u8]) -> anyhow::Result<&str> {
    if text.len() as u64 > KEY_BYTES_MAX {
        let message = format!("this has more than {KEY_BYTES_MAX} bytes, which no key has");
        return Err(Wrong::new(message).hint("pipe in the key alone").into());
    }
    let text = std::str::from_utf8(text).map_err(|_| {
        Wrong::new("this is no text, so that no client can send it as a key")
            .hint("`pilotage key new` makes a key")
    })?;
    let key = text.strip_suffix('\n').map_or(text, |line| line.strip_suffix('\r').unwrap_or(line));
    let sendable = key.bytes().all(|byte| byte.is_ascii_graphic());
    if key.is_empty() || !sendable {
        let what = if key.is_empty() {
            "there is no key"
        } else {
            "this is no key: it has blanks or signs that no header can carry"
        };
        return Err(Wrong::new(what).hint("pipe one in: `pilotage key hash < FILE`").into());
    }
    Ok(key)
}

fn piped(stdin: &Stdin) -> anyhow::Result<Vec<u8>> {
    let mut text = Vec::new();
    let mut limited = stdin.lock().take(KEY_BYTES_MAX + 1);
    limited.read_to_end(&mut text).context("cannot read the key from stdin")?;
    Ok(text)
}

fn ask(stdin: &Stdin) -> anyhow::Result<Vec<u8>> {
    output::ask("Key (not shown): ");
    let silent = Silent::new(stdin)?;
    let mut line = Vec::new();
    let read = stdin.lock().take(KEY_BYTES_MAX + 1).read_until(b'\n', &mut line);
    drop(silent);
    output::note("");
    read.context("cannot read the key from the terminal")?;
    Ok(line)
}

/// While it lives, the terminal does not show what is typed.
struct Silent<'a> {
    stdin: &'a Stdin,
    before: Termios,
}

impl<'a> Silent<'a> {
    fn new(stdin: &'a Stdin) -> anyhow::Result<Self> {
        let before = tcgetattr(stdin).context("cannot ask the terminal for its settings")?;
        let mut silent = before.clone();
        silent.local_modes.remove(LocalModes::ECHO);
        tcsetattr(stdin, OptionalActions::Now, &silent)
            .context("cannot keep the terminal from showing the key")?;
        Ok(Self { stdin, before })
    }
}

impl Drop for Silent<'_> {
    fn drop(&mut self) {
        let _ = tcsetattr(self.stdin, OptionalActions::Now, &self.before);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn one_line_break_is_not_part_of_a_key() {
        let check = |text: &[u8], expect: Option<&str>| {
            assert_eq!(key(text).ok(), expect, "{text:?}");
        };
        check(b"pk-1", Some("pk-1"));
        check(b"pk-1\n", Some("pk-1"));
        check(b"pk-1\r\n", Some("pk-1"));
        for bad in
            [&b""[..], b"\n", b"pk-1\n\n", b"pk 1", b" pk-1", b"pk-1\r", b"\xff", "pk-é".as_bytes()]
        {
            check(bad, None);
        }
        check(&[b'x'; 4096], Some(&"x".repeat(4096)));
        check(&[b'x'; 4097], None);
    }
}
