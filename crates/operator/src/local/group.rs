//! All that a process has started: they are one process group, and end together.

use std::fs;

use rustix::process::{Pid, Signal, kill_process_group};

/// Ends what is left of a group whose leader has ended: a program that died leaves its workers, and
/// their memory, behind.
pub(super) fn end_rest(leader: u32) {
    if let Some(group) = i32::try_from(leader).ok().and_then(Pid::from_raw) {
        // An error means that nobody is left.
        let _ = kill_process_group(group, Signal::KILL);
    }
}

/// Kibibytes of memory that a group takes together; none where the system does not tell.
pub(super) fn resident_kib(leader: u32) -> Option<u64> {
    let entries = fs::read_dir("/proc").ok()?;
    let ids = entries.filter_map(|entry| entry.ok()?.file_name().to_str()?.parse::<u32>().ok());
    let of_group = ids.filter(|id| {
        let stat = fs::read_to_string(format!("/proc/{id}/stat"));
        stat.is_ok_and(|stat| group_in(&stat) == Some(leader))
    });
    let taken = of_group.filter_map(|id| {
        super::memory::kib(&fs::read_to_string(format!("/proc/{id}/status")).ok()?, "VmRSS:")
    });
    taken.reduce(|sum, one| sum.saturating_add(one))
}

/// The group in a line of `/proc/PID/stat`: the third field after the name, which is in parentheses and
/// may hold anything.
fn group_in(stat: &str) -> Option<u32> {
    stat.rsplit_once(')')?.1.split_whitespace().nth(2)?.parse().ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn groups_are_read_past_strange_names() {
        assert_eq!(group_in("12 (a) b (c) S 1 34 34 0"), Some(34));
        assert_eq!(group_in("12 (sh) R 1"), None);
        assert_eq!(group_in(""), None);
    }

    #[test]
    fn a_group_takes_memory() {
        let group = rustix::process::getpgrp().as_raw_nonzero().get();
        assert!(resident_kib(u32::try_from(group).unwrap()).unwrap() > 100);
        assert_eq!(resident_kib(u32::MAX), None);
    }
}
