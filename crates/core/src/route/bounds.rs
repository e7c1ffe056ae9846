//! Which replicas a request may go to, whatever they cost: what it needs of them, where it comes from and who
//! carries it. Each is asked anew whenever it is a request's turn, for what replicas have changes while it waits.

use std::fmt;
use std::sync::Arc;

use crate::fleet::Replica;
use crate::{ReplicaId, Time};

/// Where a request may go.
#[derive(Clone, Debug, Default, Eq, PartialEq)]
pub struct Bounds {
    /// The only replicas that it may go to; none where it may go to any.
    pub among: Option<Arc<[ReplicaId]>>,
    /// Whether it came through a gateway, and goes to none of another region from here: see
    /// [`crate::Site::passes_on`].
    pub stays: bool,
    /// Whether a proxy carries it, which cannot speak with every replica: see [`crate::Site::only_by_us`].
    pub by_proxy: bool,
    /// A number for the LoRA adapter that its replica has to have; zero for none.
    pub adapter: u64,
}

/// Why a request may not go to a replica.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum Bar {
    /// It is none of those that it is kept to.
    LeftOut,
    /// It is a gateway of another region, and the request came from one.
    PassesOn,
    /// A proxy carries the request, and cannot speak with it.
    ByProxy,
    /// It has not the adapter.
    Adapter,
}

impl Bounds {
    /// Whether it may go anywhere.
    pub const fn is_free(&self) -> bool {
        self.among.is_none() && !self.stays && !self.by_proxy && self.adapter == 0
    }

    /// Why a request may not go to a replica; none where it may.
    pub fn bar(&self, now: Time, replica: &Replica) -> Option<Bar> {
        let lacks = self.adapter != 0 && !replica.answers_for(now, self.adapter);
        self.wall(replica).or_else(|| lacks.then_some(Bar::Adapter))
    }

    /// The same, whatever adapters it has.
    pub fn wall(&self, replica: &Replica) -> Option<Bar> {
        if self.among.as_ref().is_some_and(|all| !all.contains(&replica.id)) {
            return Some(Bar::LeftOut);
        }
        if self.stays && replica.site.passes_on {
            return Some(Bar::PassesOn);
        }
        (self.by_proxy && replica.site.only_by_us).then_some(Bar::ByProxy)
    }
}

impl fmt::Display for Bar {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::LeftOut => "the request is kept to others",
            Self::PassesOn => {
                "it is a gateway of another region, and the request came from one already"
            }
            Self::ByProxy => "a proxy carries the request, and cannot speak with it",
            Self::Adapter => "it has not loaded the adapter",
        })
    }
}
