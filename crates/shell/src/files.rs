//! Writing files so that a reader never sees half of one, and secrets so that only their owner
//! sees them.

use std::fs::{self, File, OpenOptions};
use std::io::{self, Write as _};
use std::os::unix::fs::{DirBuilderExt as _, OpenOptionsExt as _};
use std::path::Path;

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
