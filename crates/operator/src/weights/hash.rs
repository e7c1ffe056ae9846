//! What a file is: its digests, in one reading.

use std::fs::File;
use std::io::{self, Read as _};
use std::path::Path;

use pilotage_plan::Digest;
use ring::digest::{Context, SHA1_FOR_LEGACY_USE_ONLY, SHA512};
use sha2::{Digest as _, Sha256};

use super::Progress;

/// Bytes read at once. Between them others have their turn: large files take minutes.
const READ_BYTES: usize = 4 << 20;

/// The digests of a file.
pub(super) struct Hashes {
    pub size_bytes: u64,
    pub sha256: Digest,
    /// What signatures are made over.
    pub sha512: Option<Vec<u8>>,
    /// The name of the file's content in git, in hexadecimal digits.
    pub git_blob: Option<String>,
}

/// Which digests are wanted beside SHA-256.
#[derive(Clone, Copy, Default)]
pub(super) struct Beside {
    pub sha512: bool,
    pub git_blob: bool,
}

/// Reads a file whole.
///
/// # Errors
/// It cannot be read.
pub(super) async fn of(
    path: &Path,
    beside: Beside,
    progress: Option<&dyn Progress>,
) -> io::Result<Hashes> {
    let mut file = File::open(path)?;
    let announced = file.metadata()?.len();
    let mut sha256 = Sha256::new();
    let mut sha512 = beside.sha512.then(|| Context::new(&SHA512));
    let mut git = beside.git_blob.then(|| {
        let mut git = Context::new(&SHA1_FOR_LEGACY_USE_ONLY);
        git.update(format!("blob {announced}\0").as_bytes());
        git
    });
    let mut buffer = vec![0; READ_BYTES];
    let mut done = 0;
    loop {
        let count = file.read(&mut buffer)?;
        if count == 0 {
            break;
        }
        let read = &buffer[..count];
        sha256.update(read);
        for other in [&mut sha512, &mut git].into_iter().flatten() {
            other.update(read);
        }
        done += count as u64;
        if let Some(progress) = progress {
            progress.advance_to(done);
        }
        tokio::task::yield_now().await;
    }
    let bytes = |context: Context| context.finish().as_ref().to_vec();
    Ok(Hashes {
        size_bytes: done,
        sha256: Digest::from_bytes(sha256.finalize().into()),
        sha512: sha512.map(bytes),
        git_blob: git.map(|git| hex(&bytes(git))),
    })
}

/// Hexadecimal digits in lower case.
fn hex(bytes: &[u8]) -> String {
    bytes.iter().map(|byte| format!("{byte:02x}")).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn digests_are_those_of_other_tools() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("a");
        std::fs::write(&path, "hello\n").unwrap();
        let hashes = of(&path, Beside { sha512: true, git_blob: true }, None).await.unwrap();
        // `printf 'hello\n' | git hash-object --stdin`
        assert_eq!(hashes.git_blob.unwrap(), "ce013625030ba8dba906f756967f9e9ca394464a");
        let sha256 = "5891b5b522d5df086d0ff0b110fbd9d21bb4fc7163af34d08286a2e846f6be03";
        assert_eq!(hashes.sha256.hex(), sha256);
        assert_eq!(hex(&hashes.sha512.unwrap())[..16], *"e7c22b994c59d9cf");
        assert_eq!(hashes.size_bytes, 6);
    }
}
