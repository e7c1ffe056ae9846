//! What requests used, what that cost, and where spending is heading: rows of the usage ledger and sums over
//! them. Where they are kept is somebody else's.

mod cost;
mod forecast;
mod occupied;
mod row;
mod sums;

pub use cost::{Part, Pool, Share, Split, attribute, share_out};
pub use forecast::{Forecast, forecast};
pub use occupied::Occupied;
pub use row::{NAME_BYTES_MAX, Row, name};
pub use sums::{Entitled, Group, Replica, Sums, UpTime};
