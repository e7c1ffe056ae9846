//! Makes reality match a plan, with local processes: weights fetched, engines started, watched and
//! started again.

pub mod local;
pub mod weights;
