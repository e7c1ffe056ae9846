//! Writing files so that a reader never sees half of one, and secrets so that only their owner
//! sees them; reading keys; telling whether a file is another one by now.

use std::fmt;
use std::fs::{self, File, OpenOptions};
use std::io::{self, Read as _, Write as _};
use std::os::unix::fs::{DirBuilderExt as _, MetadataExt as _, OpenOptionsExt as _};
use std::path::Path;

use crate::secret::Secret;

/// Most bytes of a file that holds a key: longer than any key or token.
pub const KEY_BYTES_MAX: u64 = 64 << 10;

/// What tells one content of a file from the next without reading it.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub struct Stamp {
    inode: u64,
    bytes: u64,
    seconds: i64,
    nanos: i64,
}

impl fmt::Display for Stamp {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}-{}-{}.{:09}", self.inode, self.bytes, self.seconds, self.nanos)
    }
}

/// The stamp of a file, or of the one that a link leads to; none when it cannot be seen.
pub fn stamp(path: &Path) -> Option<Stamp> {
    let data = fs::metadata(path).ok()?;
    let (seconds, nanos) = (data.mtime(), data.mtime_nsec());
    Some(Stamp { inode: data.ino(), bytes: data.len(), seconds, nanos })
}

/// The key that a file holds: its text without blanks and line ends around it.
///
/// # Errors
/// The file cannot be read, is longer than [`KEY_BYTES_MAX`], or holds nothing or what no header
/// can carry.
pub fn read_key(path: &Path) -> io::Result<Secret> {
    let mut text = String::new();
    let bytes = File::open(path)?.take(KEY_BYTES_MAX + 1).read_to_string(&mut text)?;
    if bytes as u64 > KEY_BYTES_MAX {
        return Err(io::Error::other(format!("it has more than {KEY_BYTES_MAX} bytes")));
    }
    let key = text.trim();
    if key.is_empty() || !key.bytes().all(|byte| byte.is_ascii_graphic()) {
        return Err(io::Error::other("it holds no key: one word of printable characters"));
    }
    Ok(Secret::new(key.to_owned()))
}

/// The whole of a file that is not larger than that.
///
/// # Errors
/// The file cannot be read, or is larger.
pub fn read_bounded(path: &Path, bytes_max: u64) -> io::Result<Vec<u8>> {
    let mut bytes = Vec::new();
    File::open(path)?.take(bytes_max + 1).read_to_end(&mut bytes)?;
    if bytes.len() as u64 > bytes_max {
        return Err(io::Error::other(format!("it has more than {bytes_max} bytes")));
    }
    Ok(bytes)
}

/// Writes a whole file: readers see the old content or the new one.
///
/// # Errors
/// Whatever the file system says; the old content is then still there.
pub fn write(path: &Path, content: &[u8]) -> io::Result<()> {
    replace(path, content, 0o644, 0o755)
}

/// The same for a secret: file and new folders are for their owner alone.
///
/// # Errors
/// Whatever the file system says; the old content is then still there.
pub fn write_secret(path: &Path, content: &[u8]) -> io::Result<()> {
    replace(path, content, 0o600, 0o700)
}

fn replace(path: &Path, content: &[u8], mode: u32, folder_mode: u32) -> io::Result<()> {
    let folder = path.parent().unwrap_or_else(|| Path::new("."));
    fs::DirBuilder::new().recursive(true).mode(folder_mode).create(folder)?;
    let name = path.file_name().ok_or(io::ErrorKind::InvalidInput)?.to_string_lossy();
    let fresh = folder.join(format!(".{name}.{}.tmp", std::process::id()));
    let written = write_new(&fresh, content, mode).and_then(|()| fs::rename(&fresh, path));
    if written.is_err() {
        let _ = fs::remove_file(&fresh);
        return written;
    }
    File::open(folder)?.sync_all()
}

fn write_new(path: &Path, content: &[u8], mode: u32) -> io::Result<()> {
    let mut file =
        OpenOptions::new().write(true).create(true).truncate(true).mode(mode).open(path)?;
    file.write_all(content)?;
    file.sync_all()
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::PermissionsExt as _;

    use super::*;

    #[test]
    fn keys_are_read_whole_or_not_at_all() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("key");
        let check = |content: &[u8], expect: Option<&str>| {
            fs::write(&path, content).unwrap();
            let key = read_key(&path).ok();
            assert_eq!(key.as_ref().map(Secret::expose), expect, "{content:?}");
        };
        check(b"sk-1\n", Some("sk-1"));
        check(b" sk-1 \r\n", Some("sk-1"));
        check(b"\n", None);
        check(b"one two", None);
        check(b"\xff", None);
        check(&[b'a'; KEY_BYTES_MAX as usize + 1], None);
        assert!(read_key(Path::new("/no/such/key")).is_err());
    }

    #[test]
    fn files_are_read_up_to_their_limit() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("ca.pem");
        fs::write(&path, b"1234").unwrap();
        assert_eq!(read_bounded(&path, 4).unwrap(), b"1234");
        assert!(read_bounded(&path, 3).unwrap_err().to_string().contains("more than 3"));
        assert!(read_bounded(&folder.path().join("none"), 4).is_err());
    }

    #[test]
    fn a_file_that_is_replaced_has_another_stamp() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("a");
        assert_eq!(stamp(&path), None);
        write(&path, b"one").unwrap();
        let first = stamp(&path).unwrap();
        assert_eq!(stamp(&path), Some(first));
        write(&path, b"three").unwrap();
        assert_ne!(stamp(&path), Some(first));
    }

    #[test]
    fn secrets_are_for_their_owner_alone() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("keys/a.key");
        write_secret(&path, b"one").unwrap();
        write_secret(&path, b"two").unwrap();
        assert_eq!(fs::read(&path).unwrap(), b"two");
        assert_eq!(fs::metadata(&path).unwrap().permissions().mode() & 0o777, 0o600);
        assert_eq!(
            fs::metadata(path.parent().unwrap()).unwrap().permissions().mode() & 0o777,
            0o700
        );
        assert_eq!(fs::read_dir(path.parent().unwrap()).unwrap().count(), 1, "no leftovers");
    }
}
