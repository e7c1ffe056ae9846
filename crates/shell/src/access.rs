//! The access log: a line for each request, beside the other events and in their form, but written by
//! a thread of its own, many at once: who answers requests never waits for whoever reads the log.
//!
//! A line waits for at most [`LAG`]. Where the reader is so slow that [`BYTES_MAX`] wait, lines are left
//! out, and the next one that is written says how many.

use std::cell::RefCell;
use std::io::Write as _;
use std::sync::OnceLock;
use std::time::Duration;

use parking_lot::{Condvar, Mutex};
use serde::Serialize;

use crate::date;
use crate::telemetry::LogFormat;

/// How long a line may wait for others.
pub const LAG: Duration = Duration::from_millis(50);

/// Bytes of lines that may wait.
pub const BYTES_MAX: usize = 8 << 20;

static LOG: OnceLock<Log> = OnceLock::new();

/// Lines that wait, and what writes them.
struct Log {
    format: LogFormat,
    waiting: Mutex<Waiting>,
    came: Condvar,
    /// Held while lines are written, so that they stay in order.
    writing: Mutex<Vec<u8>>,
}

#[derive(Default)]
struct Waiting {
    lines: Vec<u8>,
    left_out: u64,
}

thread_local! {
    /// A line in the making, and the second whose text its time begins with.
    static LINE: RefCell<Line> = RefCell::new(Line::default());
}

#[derive(Default)]
struct Line {
    bytes: Vec<u8>,
    second: u64,
    /// That second without its last letter.
    date: String,
}

/// Starts the thread that writes; calling it again changes nothing.
pub(crate) fn init(format: LogFormat) {
    let log =
        Log { format, waiting: Mutex::default(), came: Condvar::new(), writing: Mutex::default() };
    if LOG.set(log).is_err() {
        return;
    }
    let started = std::thread::Builder::new().name("access-log".to_owned()).spawn(|| {
        while let Some(log) = LOG.get() {
            log.wait();
            std::thread::sleep(LAG);
            log.flush();
        }
    });
    if let Err(error) = started {
        tracing::error!(%error, "the access log has no thread: its lines come at the end");
    }
}

/// Adds the line of one request, where the filter lets events of the target `access` through. In a
/// process that logs in its own way it is one of its events. The time is in milliseconds since 1970.
pub fn write(unix_ms: u64, record: &impl Serialize) {
    if !tracing::enabled!(target: "access", tracing::Level::INFO) {
        return;
    }
    if let Some(log) = LOG.get() {
        LINE.with_borrow_mut(|line| {
            line.begin(log.format, unix_ms);
            line.end(log.format, record);
            log.add(&line.bytes);
        });
    } else if let Ok(line) = serde_json::to_string(record) {
        tracing::info!(target: "access", record = line, "request");
    }
}

/// Writes what waits: at the end of the process, nothing else would.
pub fn flush() {
    if let Some(log) = LOG.get() {
        log.flush();
    }
}

impl Log {
    fn add(&self, line: &[u8]) {
        let mut waiting = self.waiting.lock();
        if waiting.lines.len() + line.len() > BYTES_MAX {
            waiting.left_out += 1;
            return;
        }
        let first = waiting.lines.is_empty();
        waiting.lines.extend_from_slice(line);
        drop(waiting);
        if first {
            self.came.notify_one();
        }
    }

    fn wait(&self) {
        let mut waiting = self.waiting.lock();
        while waiting.lines.is_empty() {
            self.came.wait(&mut waiting);
        }
    }

    fn flush(&self) {
        let mut writing = self.writing.lock();
        let left_out = {
            let mut waiting = self.waiting.lock();
            std::mem::swap(&mut waiting.lines, &mut writing);
            std::mem::take(&mut waiting.left_out)
        };
        // Nobody is left to be told that nobody reads.
        let _ = std::io::stderr().lock().write_all(&writing);
        writing.clear();
        if left_out > 0 {
            tracing::warn!(
                left_out,
                "the access log is read too slowly: requests are missing in it"
            );
        }
    }
}

impl Line {
    fn begin(&mut self, format: LogFormat, unix_ms: u64) {
        if self.second != unix_ms / 1000 || self.date.is_empty() {
            self.second = unix_ms / 1000;
            self.date = date::utc(self.second);
            self.date.pop();
        }
        self.bytes.clear();
        let (date, ms) = (&self.date, unix_ms % 1000);
        let begun = match format {
            LogFormat::Json => write!(
                self.bytes,
                r#"{{"timestamp":"{date}.{ms:03}Z","level":"INFO","message":"request","target":"access","record":"#
            ),
            LogFormat::Human => write!(self.bytes, "{date}.{ms:03}Z  INFO request record="),
        };
        debug_assert!(begun.is_ok(), "memory takes every byte");
    }

    fn end(&mut self, format: LogFormat, record: &impl Serialize) {
        if serde_json::to_writer(&mut self.bytes, record).is_err() {
            self.bytes.clear();
            return;
        }
        let end: &[u8] = match format {
            LogFormat::Json => b"}\n",
            LogFormat::Human => b"\n",
        };
        self.bytes.extend_from_slice(end);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn line(format: LogFormat, record: &impl Serialize) -> String {
        let mut line = Line::default();
        line.begin(format, 1_795_231_523_007);
        line.end(format, record);
        String::from_utf8(line.bytes).unwrap()
    }

    #[test]
    fn a_line_is_one_line_in_either_form() {
        let record = serde_json::json!({"tenant": "a\nERROR forged \u{1b}[31m"});
        let json = line(LogFormat::Json, &record);
        let read: serde_json::Value = serde_json::from_str(&json).unwrap();
        assert_eq!(read["timestamp"], "2026-11-21T03:25:23.007Z");
        assert_eq!(read["record"], record);
        let human = line(LogFormat::Human, &record);
        assert!(human.starts_with("2026-11-21T03:25:23.007Z  INFO request record={"), "{human}");
        for line in [json, human] {
            assert_eq!(line.matches('\n').count(), 1, "{line:?}");
            assert!(!line.contains('\u{1b}'), "{line:?}");
        }
    }

    #[test]
    fn lines_beyond_the_limit_are_left_out_and_counted() {
        let log = Log {
            format: LogFormat::Json,
            waiting: Mutex::default(),
            came: Condvar::new(),
            writing: Mutex::default(),
        };
        log.add(&vec![b'x'; BYTES_MAX - 1]);
        log.add(b"ab");
        log.add(b"c");
        let waiting = log.waiting.lock();
        assert_eq!((waiting.lines.len(), waiting.left_out), (BYTES_MAX, 1));
    }
}
