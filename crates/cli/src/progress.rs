//! How long work shows: on a terminal a bar with bytes, speed and time left; elsewhere one line at
//! its begin.

use std::io::IsTerminal as _;

use indicatif::{ProgressBar, ProgressStyle};
use parking_lot::Mutex;
use pilotage_operator::weights::Progress;

use crate::output;

/// Progress on stderr.
#[derive(Default)]
pub(crate) struct Shown {
    bar: Mutex<Option<ProgressBar>>,
}

impl Progress for Shown {
    fn begin(&self, what: &str, total: Option<u64>) {
        self.end();
        if !std::io::stderr().is_terminal() {
            output::note(&format!("fetching {what}"));
            return;
        }
        let bar = total.map_or_else(ProgressBar::new_spinner, ProgressBar::new);
        let form = if total.is_some() {
            "{msg}  {bar:32} {bytes} of {total_bytes}, {bytes_per_sec}, {eta} left"
        } else {
            "{msg}  {bytes}, {bytes_per_sec}"
        };
        if let Ok(style) = ProgressStyle::with_template(form) {
            bar.set_style(style);
        }
        bar.set_message(what.to_owned());
        *self.bar.lock() = Some(bar);
    }

    fn advance_to(&self, bytes: u64) {
        if let Some(bar) = &*self.bar.lock() {
            bar.set_position(bytes);
        }
    }

    fn note(&self, text: &str) {
        match &*self.bar.lock() {
            Some(bar) => bar.println(text),
            None => output::note(text),
        }
    }

    fn end(&self) {
        if let Some(bar) = self.bar.lock().take() {
            bar.finish_and_clear();
        }
    }
}
