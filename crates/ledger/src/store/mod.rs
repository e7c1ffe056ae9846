//! Where rows end up: one trait, two drivers, and what is asked of them.

mod migrations;
mod postgres;
mod sql;
mod sqlite;
mod tls;

use std::fmt::Debug;
use std::sync::Arc;
use std::time::Duration;

use futures_util::future::BoxFuture;
use pilotage_lens::usage::{Entitled, Group, Sums};
use thiserror::Error;

use crate::entry::Entry;

/// How long a question may take, of either database.
const QUESTION: Duration = Duration::from_secs(20);

pub use postgres::Postgres;
pub use sqlite::Sqlite;

/// What keeps rows for good.
///
/// A batch is stored whole or not at all, and once, however often it comes: the store keeps the highest number
/// of each instance that it has, in the same transaction.
pub trait Store: Debug + Send + Sync {
    /// Its name: `sqlite` or `postgres`.
    fn kind(&self) -> &'static str;

    /// Stores what of a batch it has not got yet.
    fn put(&self, batch: Batch) -> BoxFuture<'_, Done<()>>;

    /// Sums of usage, at most [`Ask::groups_max`] of them for each of the pieces that a range has.
    fn sums(&self, ask: Ask) -> BoxFuture<'_, Done<Vec<Summed>>>;

    /// One page of rows, the newest first.
    fn rows(&self, ask: AskRows) -> BoxFuture<'_, Done<Page>>;

    /// Sums for sharing cost out: pools of one hour or one day each, in order.
    fn pools(&self, range: Range) -> BoxFuture<'_, Done<Vec<Used>>>;

    /// What was charged in hours or whole days of a range, by the paths of tenants; nothing where nothing was.
    fn spent(&self, range: Range, by_hour: bool) -> BoxFuture<'_, Done<Vec<Spent>>>;

    /// Forgets what is old, at most a few thousand rows of each table.
    fn forget(&self, old: Old) -> BoxFuture<'_, Done<Forgotten>>;
}

/// What came of something.
pub type Done<T> = Result<T, StoreError>;

/// Why a store did not do something.
#[derive(Clone, Debug, Error)]
pub enum StoreError {
    /// It cannot be reached, or cannot write: later it may.
    #[error("the usage database cannot be used: {0}")]
    Away(String),
    /// It does not take this, ever.
    #[error("the usage database refuses this: {0}")]
    Refused(String),
    /// The question takes longer than it may.
    #[error(
        "that was not answered within {0} s; ask for less time with `from` and `to`, for one tenant or model, or by less"
    )]
    Slow(u64),
}

/// Entries of one instance, in order.
#[derive(Clone, Debug)]
pub struct Batch {
    /// Which run of which process.
    pub instance: String,
    /// Numbers and entries.
    pub entries: Vec<(u64, Entry)>,
}

/// A stretch of time in whole hours since 1970, without its end.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub struct Range {
    /// The first hour.
    pub from: u64,
    /// The hour behind the last one.
    pub until: u64,
}

/// What sums are grouped by.
#[derive(Clone, Copy, Debug, Eq, Ord, PartialEq, PartialOrd)]
pub enum Dimension {
    /// Whose.
    Tenant,
    /// Whose, below those above.
    TenantPath,
    /// The Model.
    Model,
    /// What its weights are.
    Version,
    /// The class of the hardware.
    Hardware,
    /// How urgent.
    Band,
    /// The day since 1970, as a number.
    Day,
    /// The hour since 1970, as a number.
    Hour,
}

/// A question for sums.
#[derive(Clone, Debug)]
pub struct Ask {
    /// When.
    pub range: Range,
    /// By what.
    pub by: Vec<Dimension>,
    /// Of this tenant alone.
    pub tenant: Option<String>,
    /// Of tenants whose path is this or below it.
    pub below: Option<String>,
    /// Of this Model alone.
    pub model: Option<String>,
    /// The most groups.
    pub groups_max: u32,
}

/// One group's sums.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Summed {
    /// What it has in common, in the order of [`Ask::by`].
    pub keys: Vec<String>,
    /// Its sums.
    pub sums: Sums,
    /// Its share of the time in which accelerators were busy, by KV token-seconds, in microseconds.
    pub accelerator_us: f64,
    /// Its share of what those cost while they were busy, in millionths; none where no cost is known.
    pub cost_micros: Option<f64>,
}

/// A question for rows.
#[derive(Clone, Debug, Default)]
pub struct AskRows {
    /// That ended from then on, in milliseconds since 1970.
    pub from_ms: u64,
    /// And before then.
    pub until_ms: u64,
    /// Behind this one.
    pub after: Option<PageKey>,
    /// Of this tenant alone.
    pub tenant: Option<String>,
    /// Of this Model alone.
    pub model: Option<String>,
    /// With this request id.
    pub request_id: Option<String>,
    /// With where their time went, as `detail`.
    pub detail: bool,
    /// At most so many.
    pub limit: u32,
}

/// What was charged to whom in an hour or a day.
#[derive(Clone, Debug, Default, Eq, PartialEq)]
pub struct Spent {
    /// The tenant below those above it.
    pub tenant_path: String,
    /// The hour, or the first one of the day.
    pub at: u64,
    /// What was charged, in millionths of the currency's unit.
    pub charged_micros: u64,
}

/// What is old by now.
#[derive(Clone, Copy, Debug, Default, Eq, PartialEq)]
pub struct Old {
    /// Rows that ended before then.
    pub rows_before_ms: u64,
    /// Sums by the hour before that one.
    pub hours_before: u64,
    /// What was seen of replicas before that hour. Readings that come later than that count for nothing.
    pub meters_before: u64,
}

/// What was forgotten.
#[derive(Clone, Copy, Debug, Default, Eq, PartialEq)]
pub struct Forgotten {
    /// Rows.
    pub rows: u64,
    /// Whether there is more.
    pub more: bool,
}

/// Where a page ends: the next one begins behind it, whatever came meanwhile.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub struct PageKey {
    /// When its last row ended.
    pub unix_ms: u64,
    /// That row's place in the store.
    pub id: u64,
}

/// Rows, and where the next page begins.
#[derive(Clone, Debug, Default)]
pub struct Page {
    /// Rows as JSON.
    pub rows: Vec<String>,
    /// None where no more come.
    pub next: Option<PageKey>,
}

/// What a tenant used of one Model on one class of hardware in one hour or day. With no tenant and no use:
/// only that the replicas were up.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Used {
    /// The hour, or the first one of the day.
    pub at: u64,
    /// What they have in common.
    pub group: Group,
    /// Sums.
    pub sums: Sums,
    /// Accelerator-milliseconds of the whole pool.
    pub up_ms: u64,
    /// What the whole pool cost, in millionths.
    pub cost_micros: u64,
    /// Who could count on what of it: the same list for all that have the same.
    pub entitled: Arc<[Entitled]>,
}
