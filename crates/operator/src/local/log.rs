//! What a process says, kept: in a file of limited size, and its last lines for the question why it
//! died.

use std::collections::VecDeque;
use std::fs::{self, File, OpenOptions};
use std::io::{self, Write as _};
use std::path::{Path, PathBuf};
use std::sync::Arc;

use parking_lot::Mutex;
use tokio::io::{AsyncBufReadExt as _, AsyncRead, BufReader};

/// Bytes of a log before it is put aside.
const LOG_BYTES_MAX: u64 = 10 << 20;

/// Logs put aside that are kept.
const LOGS_KEPT: u32 = 3;

/// Last lines that are remembered.
const LINES_MAX: usize = 50;

/// Bytes of a line that are kept.
const LINE_BYTES_MAX: usize = 16 << 10;

/// A process's log. Clones write to the same one.
#[derive(Clone, Debug)]
pub(super) struct Log {
    inner: Arc<Mutex<Inner>>,
}

#[derive(Debug)]
struct Inner {
    path: PathBuf,
    file: Option<File>,
    size: u64,
    last: VecDeque<String>,
}

impl Log {
    /// The log at that path, which is continued.
    pub(super) fn at(path: PathBuf) -> Self {
        let inner = Inner { path, file: None, size: 0, last: VecDeque::new() };
        Self { inner: Arc::new(Mutex::new(inner)) }
    }

    /// Takes in everything a process says, until it closes its end.
    pub(super) async fn read(self, from: impl AsyncRead + Unpin) {
        let mut lines = BufReader::with_capacity(LINE_BYTES_MAX, from);
        let mut line = Vec::new();
        loop {
            let Ok(buffer) = lines.fill_buf().await else { return };
            if buffer.is_empty() {
                self.write(&line);
                return;
            }
            let end = buffer.iter().position(|byte| *byte == b'\n');
            let taken = end.map_or(buffer.len(), |end| end + 1);
            let room = LINE_BYTES_MAX.saturating_sub(line.len());
            line.extend_from_slice(&buffer[..end.unwrap_or(taken).min(room)]);
            lines.consume(taken);
            if end.is_some() {
                self.write(&line);
                line.clear();
            }
        }
    }

    /// The last lines.
    pub(super) fn last(&self, count: usize) -> Vec<String> {
        let inner = self.inner.lock();
        let skip = inner.last.len().saturating_sub(count);
        inner.last.iter().skip(skip).cloned().collect()
    }

    fn write(&self, line: &[u8]) {
        if line.is_empty() {
            return;
        }
        let mut inner = self.inner.lock();
        if inner.last.len() == LINES_MAX {
            inner.last.pop_front();
        }
        inner.last.push_back(String::from_utf8_lossy(line).into_owned());
        // A full disk must not stop the process that is being watched.
        let _ = inner.append(line);
    }
}

impl Inner {
    fn append(&mut self, line: &[u8]) -> io::Result<()> {
        if self.size > LOG_BYTES_MAX {
            self.file = None;
            rotate(&self.path)?;
        }
        if self.file.is_none() {
            if let Some(folder) = self.path.parent() {
                fs::create_dir_all(folder)?;
            }
            let file = OpenOptions::new().create(true).append(true).open(&self.path)?;
            self.size = file.metadata()?.len();
            self.file = Some(file);
        }
        let Some(file) = &mut self.file else { return Ok(()) };
        file.write_all(line)?;
        file.write_all(b"\n")?;
        self.size += line.len() as u64 + 1;
        Ok(())
    }
}

/// `x.log` becomes `x.log.1`, that `x.log.2`, and the oldest goes.
fn rotate(path: &Path) -> io::Result<()> {
    let aside = |number: u32| PathBuf::from(format!("{}.{number}", path.display()));
    for number in (1..LOGS_KEPT).rev() {
        let _ = fs::rename(aside(number), aside(number + 1));
    }
    fs::rename(path, aside(1))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn lines_are_kept_and_logs_put_aside() {
        let folder = tempfile::tempdir().unwrap();
        let log = Log::at(folder.path().join("a/x.log"));
        log.clone().read(&b"one\ntwo\nthree"[..]).await;
        assert_eq!(log.last(2), ["two", "three"]);
        log.inner.lock().size = LOG_BYTES_MAX + 1;
        log.clone().read(&b"four\n"[..]).await;
        let read = |name: &str| fs::read_to_string(folder.path().join(name)).unwrap();
        assert_eq!(
            (read("a/x.log").as_str(), read("a/x.log.1").as_str()),
            ("four\n", "one\ntwo\nthree\n")
        );
    }

    #[tokio::test]
    async fn endless_lines_are_cut() {
        let folder = tempfile::tempdir().unwrap();
        let log = Log::at(folder.path().join("x.log"));
        log.clone().read(&vec![b'x'; LINE_BYTES_MAX * 3][..]).await;
        assert_eq!(log.last(1)[0].len(), LINE_BYTES_MAX);
    }
}
