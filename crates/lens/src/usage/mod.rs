//! What requests used, what that cost, and where spending is heading: rows of the usage ledger and sums over
//! them. Where they are kept is somebody else's.

mod cost;
mod detail;
mod forecast;
mod meter;
mod occupied;
mod row;
mod seconds;
mod sums;

pub use cost::{Part, Pool, Share, Split, attribute, share_out};
pub use detail::Detail;
pub use forecast::{Forecast, forecast};
pub use meter::{Added, Entitlement, Meters, Reading, digest};
pub use occupied::Occupied;
pub use row::{Elsewhere, NAME_BYTES_MAX, Row, name};
pub use seconds::{HOUR_SECONDS, Seconds};
pub use sums::{Entitled, Group, Replica, Sums, UpTime};
