//! The whole screen of a terminal, taken and given back as it was, whatever happens in between.

use std::io::{Read as _, Write as _};

use pilotage_shell::plain;
use rustix::termios::{self, OptionalActions, Termios};
use serde_json::Value;
use tokio::sync::mpsc::UnboundedSender;

use super::views::{self, View};

/// Takes the screen, and hides the cursor.
const ENTER: &str = "\x1b[?1049h\x1b[?25l";

/// Gives both back.
const LEAVE: &str = "\x1b[?25h\x1b[?1049l";

/// What was pressed.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(super) enum Key {
    Quit,
    Pause,
    Next,
    View(usize),
}

/// The screen, while it is ours.
pub(super) struct Screen {
    before: Termios,
}

impl Screen {
    /// Takes it; keys are told there.
    pub(super) fn open(told: UnboundedSender<Key>) -> anyhow::Result<Self> {
        let before = termios::tcgetattr(std::io::stdin())?;
        let mut raw = before.clone();
        raw.local_modes.remove(termios::LocalModes::ICANON | termios::LocalModes::ECHO);
        termios::tcsetattr(std::io::stdin(), OptionalActions::Now, &raw)?;
        let this = Self { before };
        print(ENTER);
        // It ends with the process: nothing can wake it from reading.
        std::thread::Builder::new().name("keys".to_owned()).spawn(move || {
            let mut byte = [0];
            while let Ok(1) = std::io::stdin().read(&mut byte) {
                if Key::of(byte[0]).is_some_and(|key| told.send(key).is_err()) {
                    return;
                }
            }
        })?;
        Ok(this)
    }

    /// Shows a page.
    pub(super) fn draw(&self, seen: &Value, view: View, is_paused: bool, trouble: Option<&str>) {
        let size = termios::tcgetwinsize(std::io::stdout());
        let (rows, columns) =
            size.map_or((24, 80), |size| (usize::from(size.ws_row), usize::from(size.ws_col)));
        let mut lines = views::page(view, seen, rows.saturating_sub(2));
        lines.truncate(rows.saturating_sub(1));
        let state = match (trouble, is_paused) {
            (Some(trouble), _) => format!("no answer: {trouble}"),
            (None, true) => "paused: p goes on".to_owned(),
            (None, false) => "1-4 or tab: views  p: pause  q: quit".to_owned(),
        };
        let mut frame = String::from("\x1b[H");
        for line in &lines {
            frame.push_str(&cut(&plain::line(line), columns));
            frame.push_str("\x1b[K\r\n");
        }
        frame.push_str("\x1b[J");
        frame.push_str(&format!(
            "\x1b[{rows};1H\x1b[7m{}\x1b[0m\x1b[K",
            cut(&plain::line(&state), columns)
        ));
        print(&frame);
    }
}

impl Drop for Screen {
    fn drop(&mut self) {
        print(LEAVE);
        // Where the terminal is gone there is nothing to give back.
        let _ = termios::tcsetattr(std::io::stdin(), OptionalActions::Now, &self.before);
    }
}

impl Key {
    fn of(byte: u8) -> Option<Self> {
        match byte {
            b'q' | b'Q' => Some(Self::Quit),
            b'p' | b' ' => Some(Self::Pause),
            b'\t' => Some(Self::Next),
            b'1'..=b'9' => Some(Self::View(usize::from(byte - b'1'))),
            _ => None,
        }
    }
}

/// As much of a line as fits.
fn cut(line: &str, columns: usize) -> String {
    line.chars().take(columns).collect()
}

fn print(text: &str) {
    let mut out = std::io::stdout().lock();
    // A terminal that is gone shows nothing.
    let _ = out.write_all(text.as_bytes()).and_then(|()| out.flush());
}
