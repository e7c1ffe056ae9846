//! File descriptors: as many as the system lets this process have. Each stream takes two, one to its
//! client and one to its engine, and the usual limit is a thousand.

use rustix::process::{Resource, getrlimit, setrlimit};

/// Kept for everything that is no request: files, listeners, engines' reports.
const RESERVED: u64 = 256;

/// Raises the limit to what the system allows; says how many connections of clients fit, each with one
/// to an engine.
pub fn raise() -> usize {
    let mut limit = getrlimit(Resource::Nofile);
    if limit.current != limit.maximum {
        let wanted = rustix::process::Rlimit { current: limit.maximum, maximum: limit.maximum };
        match setrlimit(Resource::Nofile, wanted) {
            Ok(()) => limit.current = limit.maximum,
            Err(error) => tracing::warn!(%error, "the limit of open files cannot be raised"),
        }
    }
    pairs(limit.current)
}

fn pairs(limit: Option<u64>) -> usize {
    let Some(limit) = limit else { return usize::MAX };
    usize::try_from(limit.saturating_sub(RESERVED) / 2).unwrap_or(usize::MAX).max(1)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_client_has_a_descriptor_for_its_engine() {
        assert_eq!(pairs(None), usize::MAX);
        assert_eq!(pairs(Some(20_256)), 10_000);
        assert_eq!(pairs(Some(100)), 1);
    }
}
