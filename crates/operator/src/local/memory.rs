//! Whether a process has room beside the one that it replaces: what that one takes is the best
//! estimate of what another one like it will.

use std::fs;
use std::path::Path;

use super::group;

/// Whether so many kibibytes are available, or as many as the weights at that path take where those are more. Where
/// the system does not tell, there is room: a process that does not fit dies, and the others serve on.
pub fn has_room(taken_kib: u64, weights: &Path) -> bool {
    let text = fs::read_to_string("/proc/meminfo").ok();
    let available = text.and_then(|text| kib(&text, "MemAvailable:"));
    available.is_none_or(|available| taken_kib.max(size_bytes(weights) / 1024) <= available)
}

/// Kibibytes of memory that the process with that id and all it started take; none where the system does not tell.
pub fn taken_kib(pid: u32) -> Option<u64> {
    group::resident_kib(pid)
}

/// Bytes of a file, of all parts where it is one of several, or of the files in a folder.
fn size_bytes(weights: &Path) -> u64 {
    let size = |path: &Path| fs::metadata(path).map_or(0, |file| file.len());
    let within = |folder: &Path, is_part: &dyn Fn(&str) -> bool| {
        let names = fs::read_dir(folder).into_iter().flatten().flatten();
        let own = names.filter(|one| one.file_name().to_str().is_some_and(is_part));
        let files = own.map(|one| one.path()).filter(|path| path.is_file());
        files.map(|path| size(&path)).fold(0, u64::saturating_add)
    };
    if weights.is_dir() {
        return within(weights, &|_| true);
    }
    let name = weights.file_name().and_then(|name| name.to_str()).and_then(part);
    match (weights.parent(), name) {
        (Some(folder), Some(own)) => within(folder, &|name| part(name) == Some(own)),
        _ => size(weights),
    }
}

/// What all parts of a split file have in common, `NAME` and the rest of `NAME-00001-of-00004.gguf`; none of a
/// name of another form.
fn part(name: &str) -> Option<(&str, &str)> {
    let (before, count) = name.rsplit_once("-of-")?;
    let (name, number) = before.rsplit_once('-')?;
    let is_number = !number.is_empty() && number.bytes().all(|byte| byte.is_ascii_digit());
    (is_number && count.starts_with(|first: char| first.is_ascii_digit())).then_some((name, count))
}

/// A number of kibibytes in a file of `/proc`.
pub(super) fn kib(text: &str, name: &str) -> Option<u64> {
    let line = text.lines().find_map(|line| line.strip_prefix(name))?;
    line.split_whitespace().next()?.parse().ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn fields_are_found_by_name() {
        let text = "MemTotal:       16 kB\nMemAvailable:   9 kB\n";
        assert_eq!(kib(text, "MemAvailable:"), Some(9));
        assert_eq!(kib(text, "VmRSS:"), None);
        assert_eq!(kib("VmRSS: much", "VmRSS:"), None);
        assert!(has_room(1, Path::new("/no/such/weights")));
        assert!(!has_room(u64::MAX, Path::new("/no/such/weights")));
    }

    #[test]
    fn weights_are_all_their_files() {
        let folder = tempfile::tempdir().unwrap();
        let write = |name: &str, bytes: usize| {
            let path = folder.path().join(name);
            fs::create_dir_all(path.parent().unwrap()).unwrap();
            fs::write(&path, vec![0; bytes]).unwrap();
            path
        };
        let one = write("files/m-00001-of-00003.gguf", 100);
        write("files/m-00002-of-00003.gguf", 200);
        write("files/m-00001-of-00002.gguf", 7000);
        write("files/n-00003-of-00003.gguf", 8000);
        assert_eq!(size_bytes(&one), 300);
        let single = write("files/m.gguf", 50);
        assert_eq!(size_bytes(&single), 50);
        write("folder/config.json", 3);
        let blob = write("blobs/one", 4000);
        std::os::unix::fs::symlink(&blob, folder.path().join("folder/model.safetensors")).unwrap();
        write("folder/deeper/of-others", 9000);
        assert_eq!(size_bytes(&folder.path().join("folder")), 4003);
        assert_eq!(size_bytes(&folder.path().join("no")), 0);
    }
}
