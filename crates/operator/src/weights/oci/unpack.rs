//! Files out of a tar, and nothing else: no links, no devices, no path that leads out, no more bytes than
//! weights of that size could have been packed into.

use std::fs::{self, File};
use std::io::{self, BufReader, Read, Write as _};
use std::path::Path;

use flate2::read::MultiGzDecoder;
use tar::{Archive, Entry, EntryType};

use crate::weights::listing;

/// How often a layer's size its files may have together: weights are close to random numbers, and pack
/// to half their size at best.
const RATIO_MAX: u64 = 20;

/// What small layers may have anyway.
const BYTES_MIN: u64 = 64 << 20;

/// Unpacks into a folder; the paths of the files.
///
/// # Errors
/// The archive is damaged, or holds what it must not.
pub(super) fn unpack(archive: &Path, gzip: bool, folder: &Path) -> Result<Vec<String>, String> {
    let file = File::open(archive).map_err(text)?;
    let packed = file.metadata().map_err(text)?.len();
    let bytes_max = packed.saturating_mul(RATIO_MAX).max(BYTES_MIN);
    let file = BufReader::with_capacity(1 << 20, file);
    if gzip {
        files(MultiGzDecoder::new(file).take(bytes_max), folder)
    } else {
        files(file.take(bytes_max), folder)
    }
}

fn files(reader: io::Take<impl Read>, folder: &Path) -> Result<Vec<String>, String> {
    let mut archive = Archive::new(reader);
    let mut paths = Vec::new();
    for entry in archive.entries().map_err(text)? {
        let mut entry = entry.map_err(text)?;
        let path = path(&entry)?;
        match entry.header().entry_type() {
            EntryType::Regular | EntryType::Continuous => {}
            EntryType::Directory | EntryType::XGlobalHeader => continue,
            _ => return Err(format!("{path:?} is a link, a device or the like")),
        }
        if let Some(reason) = listing::refuse_path(&path) {
            return Err(format!("the path {path:?} {reason}"));
        }
        if paths.len() >= listing::FILES_MAX {
            return Err(format!("there are more than {} files", listing::FILES_MAX));
        }
        write(&mut entry, &folder.join(&path)).map_err(|error| format!("{path:?}: {error}"))?;
        paths.push(path);
    }
    Ok(paths)
}

fn path(entry: &Entry<'_, impl Read>) -> Result<String, String> {
    let bytes = entry.path_bytes();
    let path = str::from_utf8(&bytes).map_err(|_| "a path is no text".to_owned())?;
    Ok(path.strip_prefix("./").unwrap_or(path).to_owned())
}

fn write(entry: &mut Entry<'_, impl Read>, path: &Path) -> io::Result<()> {
    if let Some(folder) = path.parent() {
        fs::create_dir_all(folder)?;
    }
    let announced = entry.size();
    // Two members of one name, or layers of one name, would leave open which of them counts.
    let mut file = File::create_new(path)?;
    let written = io::copy(entry, &mut file)?;
    file.flush()?;
    if written != announced {
        return Err(io::Error::other(format!(
            "it has {written} of {announced} bytes, or the archive holds far more than its size allows"
        )));
    }
    Ok(())
}

fn text(error: io::Error) -> String {
    error.to_string()
}

#[cfg(test)]
mod tests {
    use flate2::Compression;
    use flate2::write::GzEncoder;
    use tar::{Builder, Header};

    use super::*;

    /// A tar with that one member, whose header need not be honest.
    fn packed(name: &str, kind: EntryType, content: &[u8], announced: u64) -> Vec<u8> {
        let mut header = Header::new_gnu();
        // Not by the crate's own function, which refuses what shall be tried.
        header.as_old_mut().name[..name.len()].copy_from_slice(name.as_bytes());
        header.set_entry_type(kind);
        header.set_size(announced);
        header.set_mode(0o644);
        header.set_cksum();
        let mut tar = header.as_bytes().to_vec();
        tar.extend_from_slice(content);
        tar.resize(tar.len().next_multiple_of(512) + 1024, 0);
        tar
    }

    fn try_out(tar: &[u8], gzip: bool) -> (Result<Vec<String>, String>, Vec<String>) {
        let folder = tempfile::tempdir().unwrap();
        let (archive, target) = (folder.path().join("tar"), folder.path().join("in/target"));
        fs::create_dir_all(&target).unwrap();
        fs::write(&archive, tar).unwrap();
        let result = unpack(&archive, gzip, &target);
        let mut there = listing::paths(&folder.path().join("in")).unwrap();
        there.retain(|path| !path.starts_with("target/"));
        (result, there)
    }

    #[test]
    fn files_come_out() {
        let mut builder = Builder::new(GzEncoder::new(Vec::new(), Compression::fast()));
        let long = format!("{}/{}.json", "d".repeat(120), "f".repeat(120));
        for name in ["./config.json", "a/b.txt", long.as_str()] {
            let mut header = Header::new_gnu();
            header.set_size(3);
            header.set_mode(0o644);
            builder.append_data(&mut header, name, &b"abc"[..]).unwrap();
        }
        let tar = builder.into_inner().unwrap().finish().unwrap();
        let (result, _) = try_out(&tar, true);
        assert_eq!(result.unwrap(), ["config.json", "a/b.txt", long.as_str()]);
    }

    #[test]
    fn nothing_else_comes_out() {
        let check = |name: &str, kind: EntryType, part: &str| {
            let (result, outside) = try_out(&packed(name, kind, b"x", 1), false);
            let said = result.unwrap_err();
            assert!(said.contains(part), "{name}: {said}");
            assert_eq!(outside, Vec::<String>::new(), "{name}");
        };
        check("../evil", EntryType::Regular, "leads out");
        check("a/../../evil", EntryType::Regular, "leads out");
        check("/evil", EntryType::Regular, "leads out");
        check("a", EntryType::Symlink, "a link");
        check("a", EntryType::Link, "a link");
        check("a", EntryType::Char, "a device");
        check("a", EntryType::Fifo, "or the like");
        check("a", EntryType::GNUSparse, "");
        check("a\\b", EntryType::Regular, "backslashes");
    }

    #[test]
    fn sizes_that_lie_are_noticed() {
        let check = |tar: &[u8], gzip: bool| assert!(try_out(tar, gzip).0.is_err());
        check(&packed("a", EntryType::Regular, b"x", 1 << 40), false);
        check(&packed("a", EntryType::Regular, b"x", u64::MAX >> 1), false);
        check(b"no tar at all, but long enough to be taken for the begin of a header", true);
        let twice = [
            &packed("a", EntryType::Regular, b"x", 1)[..1024],
            &packed("a", EntryType::Regular, b"y", 1),
        ]
        .concat();
        check(&twice, false);
        // Zeros that pack to nothing.
        let zeros = usize::try_from(BYTES_MIN + 1).unwrap();
        let mut bomb = GzEncoder::new(Vec::new(), Compression::fast());
        let tar = packed("a", EntryType::Regular, &vec![0; zeros], zeros as u64);
        bomb.write_all(&tar).unwrap();
        check(&bomb.finish().unwrap(), true);
    }
}
