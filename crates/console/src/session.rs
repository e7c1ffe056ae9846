//! Who is logged in: random ids of which only the hash is kept, bounded in number and in time.

use std::collections::VecDeque;

use pilotage_shell::secret::KeyHash;

use crate::Role;

/// Sessions at once. One more ends the oldest.
pub(crate) const SESSIONS_MAX: usize = 256;

/// How long a session lasts, used or not.
pub(crate) const LIFE_S: u64 = 12 * 3600;

/// How long one lasts that nobody uses. A page that is looked at uses it every few seconds.
pub(crate) const IDLE_S: u64 = 2 * 3600;

const SECOND: u64 = 1_000_000_000;

/// The sessions, the oldest first.
#[derive(Debug, Default)]
pub(crate) struct Sessions(VecDeque<Session>);

#[derive(Debug)]
struct Session {
    id: KeyHash,
    role: Role,
    begun_ns: u64,
    used_ns: u64,
}

impl Sessions {
    /// Begins one.
    pub(crate) fn begin(&mut self, now_ns: u64, id: KeyHash, role: Role) {
        self.0.retain(|session| session.lasts(now_ns));
        while self.0.len() >= SESSIONS_MAX {
            self.0.pop_front();
        }
        self.0.push_back(Session { id, role, begun_ns: now_ns, used_ns: now_ns });
    }

    /// Whose it is, if it lasts; it is used then.
    pub(crate) fn role(&mut self, now_ns: u64, id: &KeyHash) -> Option<Role> {
        let session = self.0.iter_mut().find(|session| session.id.matches(id))?;
        if !session.lasts(now_ns) {
            return None;
        }
        session.used_ns = now_ns;
        Some(session.role)
    }

    /// Ends one.
    pub(crate) fn end(&mut self, id: &KeyHash) {
        self.0.retain(|session| !session.id.matches(id));
    }
}

impl Session {
    const fn lasts(&self, now_ns: u64) -> bool {
        now_ns.saturating_sub(self.begun_ns) < LIFE_S * SECOND
            && now_ns.saturating_sub(self.used_ns) < IDLE_S * SECOND
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn id(number: usize) -> KeyHash {
        KeyHash::of(&number.to_string())
    }

    #[test]
    fn a_session_ends_by_itself() {
        let check = |used_s: &[u64], at_s: u64, expect: Option<Role>| {
            let mut sessions = Sessions::default();
            sessions.begin(0, id(1), Role::Viewer);
            for at in used_s {
                sessions.role(at * SECOND, &id(1)).unwrap();
            }
            assert_eq!(sessions.role(at_s * SECOND, &id(1)), expect);
        };
        check(&[], IDLE_S - 1, Some(Role::Viewer));
        check(&[], IDLE_S, None);
        check(&[IDLE_S - 1], IDLE_S, Some(Role::Viewer));
        let often: Vec<u64> = (1..LIFE_S / 3600).map(|hour| hour * 3600).collect();
        check(&often, LIFE_S - 1, Some(Role::Viewer));
        check(&often, LIFE_S, None);
    }

    #[test]
    fn there_are_only_so_many_and_others_end_none() {
        let mut sessions = Sessions::default();
        (0..=SESSIONS_MAX).for_each(|number| sessions.begin(0, id(number), Role::Admin));
        assert_eq!(sessions.0.len(), SESSIONS_MAX);
        assert_eq!(sessions.role(1, &id(0)), None, "the oldest one");
        assert_eq!(sessions.role(1, &id(1)), Some(Role::Admin));
        sessions.end(&id(1));
        assert_eq!(sessions.role(1, &id(1)), None);
        assert_eq!(sessions.role(1, &id(2)), Some(Role::Admin));
    }
}
