//! How far the measurements are: they take minutes, and whoever waits wants to know.

use std::io::IsTerminal as _;
use std::time::Duration;

use indicatif::{ProgressBar, ProgressStyle};
use pilotage_shell::clock::Clock;

use crate::output;

/// How often progress is told where there is no terminal.
const LINES_APART: Duration = Duration::from_secs(10);

/// How far it is: a bar on a terminal, elsewhere a line now and then.
pub(super) struct Told {
    bar: ProgressBar,
    lines: bool,
    clock: Clock,
    count: u64,
    total: u64,
    said_nanos: u64,
}

impl Told {
    pub(super) fn new(clock: Clock, total: u64) -> Self {
        let shown = std::io::stderr().is_terminal();
        let bar = if shown { ProgressBar::new(total) } else { ProgressBar::hidden() };
        let form = "{bar:32} {pos} of {len} measurements, {elapsed}";
        if let Ok(style) = ProgressStyle::with_template(form) {
            bar.set_style(style);
        }
        Self { bar, lines: !shown, clock, count: 0, total, said_nanos: clock.now_nanos() }
    }

    pub(super) fn inc(&mut self) {
        self.count += 1;
        self.bar.inc(1);
        let now = self.clock.now_nanos();
        if self.lines && now.saturating_sub(self.said_nanos) >= LINES_APART.as_nanos() as u64 {
            self.said_nanos = now;
            output::note(&format!("measurement {} of {}", self.count, self.total));
        }
    }

    pub(super) fn end(&self) {
        self.bar.finish_and_clear();
    }
}
