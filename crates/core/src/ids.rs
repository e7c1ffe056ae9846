//! Names for things, small enough to copy: the host maps them to strings at its edge.

use serde::{Deserialize, Serialize};

macro_rules! id {
    ($(#[$doc:meta])* $name:ident($inner:ty)) => {
        $(#[$doc])*
        #[derive(
            Clone, Copy, Debug, Default, Deserialize, Eq, Hash, Ord, PartialEq, PartialOrd,
            Serialize,
        )]
        pub struct $name(pub $inner);
    };
}

id! {
    /// One request, unique within a process.
    RequestId(u64)
}
id! {
    /// One running copy of a model. An id is never used again after its replica is gone.
    ReplicaId(u32)
}
id! {
    /// A node of the tenant tree, from authenticated identity only.
    TenantId(u32)
}
