//! By a hash of the session: one conversation or user stays at one replica, as long as that has not
//! much more to do than the others; those without go where least is to do.

use super::{Pick, View, prefix_hash};

#[derive(Debug)]
pub(super) struct Session;

impl Pick for Session {
    fn name(&self) -> &'static str {
        "session"
    }

    fn pick(&mut self, view: &View<'_>) -> Option<usize> {
        match view.prompt.session {
            0 => view.least(|candidate| candidate.replica.requests),
            session => prefix_hash::ranked(view, session),
        }
    }
}
