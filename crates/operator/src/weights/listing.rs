//! What a folder of weights is: a list of its files, in the order of their paths, as `sha256sum` prints
//! it. The digest of that list is the folder's own, and anybody can compute it:
//!
//! ```text
//! find -L . -type f -printf '%P\0' | LC_ALL=C sort -z | xargs -0 sha256sum | sha256sum
//! ```

use std::collections::BTreeMap;
use std::fs;
use std::io;
use std::path::Path;

use pilotage_plan::Digest;
use serde::{Deserialize, Serialize};
use sha2::{Digest as _, Sha256};

use super::Progress;
use super::hash::{self, Beside};

/// Most files of a folder: far more than the shards of any model.
pub const FILES_MAX: usize = 10_000;

/// Deepest folder in a folder.
const DEPTH_MAX: u32 = 32;

/// One file of a folder.
#[derive(Clone, Debug, Deserialize, Eq, PartialEq, Serialize)]
pub struct Listed {
    /// Where it is in the folder.
    pub path: String,
    /// Its size in bytes.
    pub size_bytes: u64,
    /// What it is.
    pub sha256: Digest,
    /// When it was verified: its modification time in nanoseconds since 1970.
    #[serde(default)]
    pub(super) modified_ns: u128,
}

/// The digest of a list; the files are brought into their order.
pub(super) fn digest(files: &mut [Listed]) -> Digest {
    files.sort_by(|one, other| one.path.as_bytes().cmp(other.path.as_bytes()));
    let mut hash = Sha256::new();
    for file in files {
        hash.update(format!("{}  {}\n", file.sha256.hex(), file.path));
    }
    Digest::from_bytes(hash.finalize().into())
}

/// The list that `sha256sum` printed; nothing where it is something else.
pub(super) fn parse(text: &str) -> Option<BTreeMap<&str, Digest>> {
    let lines = text.lines().filter(|line| !line.is_empty());
    let entry = |line| {
        let (hex, path) = str::split_once(line, ' ')?;
        // A space for text, an asterisk for a binary file, which are the same on Linux.
        let path = path.strip_prefix([' ', '*'])?;
        let path = path.strip_prefix("./").unwrap_or(path);
        Some((path, Digest::from_hex(hex).ok()?))
    };
    let mut files = BTreeMap::new();
    for line in lines {
        let (path, digest) = entry(line)?;
        if files.insert(path, digest).is_some() {
            return None;
        }
    }
    Some(files)
}

/// Reads every file of a folder but those whose digest is known. Links are followed, as runtimes do.
///
/// # Errors
/// One cannot be read, has a name that is no text, or there are too many.
pub(super) async fn read(
    folder: &Path,
    known: &BTreeMap<String, Digest>,
    progress: Option<&dyn Progress>,
) -> io::Result<Vec<Listed>> {
    let mut files = Vec::new();
    for path in paths(folder)? {
        if let Some(&sha256) = known.get(&path) {
            let size_bytes = fs::metadata(folder.join(&path))?.len();
            files.push(Listed { path, size_bytes, sha256, modified_ns: 0 });
            continue;
        }
        let hashes = hash::of(&folder.join(&path), Beside::default(), progress).await?;
        let (size_bytes, sha256) = (hashes.size_bytes, hashes.sha256);
        files.push(Listed { path, size_bytes, sha256, modified_ns: 0 });
    }
    Ok(files)
}

/// The paths of all files in a folder.
pub(super) fn paths(folder: &Path) -> io::Result<Vec<String>> {
    let mut paths = Vec::new();
    collect(folder, "", DEPTH_MAX, &mut paths)?;
    paths.sort_unstable();
    Ok(paths)
}

fn collect(folder: &Path, prefix: &str, depth: u32, paths: &mut Vec<String>) -> io::Result<()> {
    if depth == 0 {
        return Err(io::Error::other(format!("{prefix} is more than {DEPTH_MAX} folders deep")));
    }
    for entry in fs::read_dir(folder)? {
        let entry = entry?;
        let name = entry.file_name().into_string();
        let name = name.map_err(|name| io::Error::other(format!("{name:?} is no text")))?;
        let path = format!("{prefix}{name}");
        if fs::metadata(entry.path())?.is_dir() {
            collect(&entry.path(), &format!("{path}/"), depth - 1, paths)?;
        } else {
            paths.push(path);
        }
        if paths.len() > FILES_MAX {
            return Err(io::Error::other(format!("there are more than {FILES_MAX} files")));
        }
    }
    Ok(())
}

/// Why a path cannot be a file's in a folder: it would lead out of it, or could not be told in a list.
pub(super) fn refuse_path(path: &str) -> Option<&'static str> {
    if path.is_empty() || path.len() > 1024 {
        return Some("is empty or very long");
    }
    if path.chars().any(|c| c.is_control() || c == '\\') {
        return Some("has control characters or backslashes");
    }
    let outside = path.split('/').any(|part| matches!(part, "" | "." | ".."));
    outside.then_some("leads out of its folder")
}

#[cfg(test)]
mod tests {
    use super::*;

    fn listed(path: &str, content: &str) -> Listed {
        let sha256 = Digest::from_bytes(Sha256::digest(content).into());
        Listed { path: path.to_owned(), size_bytes: content.len() as u64, sha256, modified_ns: 0 }
    }

    #[test]
    fn the_digest_is_that_of_sha256sum() {
        // printf one >b; mkdir a; printf two >a/c; and the command above.
        let mut files = [listed("b", "one"), listed("a/c", "two")];
        let expect = "79644203bbdb195b91dbdcbbdcb72f22d650df374eb6db3f2cc5ead281e28b2d";
        assert_eq!(digest(&mut files).hex(), expect);
        assert_eq!(files[0].path, "a/c");
    }

    #[tokio::test]
    async fn folders_are_read_whole_and_in_order() {
        let folder = tempfile::tempdir().unwrap();
        fs::create_dir_all(folder.path().join("a")).unwrap();
        fs::write(folder.path().join("b"), "one").unwrap();
        fs::write(folder.path().join("a/c"), "two").unwrap();
        let files = read(folder.path(), &BTreeMap::new(), None).await.unwrap();
        assert_eq!(files, [listed("a/c", "two"), listed("b", "one")]);
    }

    #[test]
    fn lists_are_read() {
        let hex = "ab".repeat(32);
        let digest = Digest::from_hex(&hex).unwrap();
        let text = format!("{hex}  a b\n{hex} *./c/d\n\n");
        let parsed = parse(&text).unwrap();
        assert_eq!(parsed, BTreeMap::from([("a b", digest), ("c/d", digest)]));
        let check = |text: &str| assert_eq!(parse(text), None, "{text}");
        check("no list");
        check(&format!("{hex} a"));
        check(&format!("{hex}  a\n{hex}  ./a"));
        check(&format!("{}  a", &hex[1..]));
    }

    #[test]
    fn paths_stay_inside() {
        let check =
            |path: &str, fits: bool| assert_eq!(refuse_path(path).is_none(), fits, "{path}");
        check("model.safetensors", true);
        check("1_Pooling/config.json", true);
        check("..a/b", true);
        for bad in ["", "/etc/passwd", "../a", "a/../b", "a//b", "a/.", "a\\b", "a\nb", "a/"] {
            check(bad, false);
        }
    }
}
