//! Whether a process has room beside the one that it replaces: what that one takes is the best
//! estimate of what another one like it will.

use std::fs;
use std::path::Path;

use super::group;

/// Whether what the process with that id and all it started take, or the weights alone where they are larger, is
/// available once more. Where the system does not tell, there is room: a process that does not fit
/// dies, and the one that it was to replace serves on.
pub fn has_room(pid: u32, weights: &Path) -> bool {
    let field = |file: &str, name: &str| kib(&fs::read_to_string(file).ok()?, name);
    let available = field("/proc/meminfo", "MemAvailable:");
    let taken = group::resident_kib(pid).unwrap_or(0);
    let weights = fs::metadata(weights).map_or(0, |file| file.len() / 1024);
    available.is_none_or(|available| taken.max(weights) <= available)
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
        assert!(has_room(std::process::id(), Path::new("/no/such/weights")));
    }
}
