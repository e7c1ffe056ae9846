//! Where a ledger keeps its rows, and its limits.

use std::path::PathBuf;
use std::time::Duration;

use pilotage_shell::secret::Secret;

/// A ledger's settings.
#[derive(Clone, Debug)]
pub struct Settings {
    /// The folder of the journal; this process is the only one that uses it.
    pub folder: PathBuf,
    /// Where rows end up.
    pub place: Where,
    /// Limits.
    pub bounds: Bounds,
    /// How long rows are kept; sums by the day are kept for good.
    pub rows_age_max: Duration,
    /// How long sums by the hour are kept.
    pub hours_age_max: Duration,
    /// Whose replicas they are that are metered. Gateways that say the same see the same replicas, and what several of
    /// them see counts once; those that say something else have others, whatever these are called.
    pub fleet: String,
    /// The currency that prices are in, for whoever reads them. Empty where it was not said.
    pub currency: String,
}

impl Settings {
    /// Those of a ledger in that folder, its database beside the journal.
    pub fn in_folder(folder: impl Into<PathBuf>) -> Self {
        let folder = folder.into();
        Self {
            place: Where::Sqlite(folder.join("usage.db")),
            folder,
            bounds: Bounds::default(),
            rows_age_max: Duration::from_secs(90 * 86_400),
            hours_age_max: Duration::from_secs(400 * 86_400),
            fleet: String::new(),
            currency: String::new(),
        }
    }
}

/// Where rows end up.
#[derive(Clone, Debug)]
pub enum Where {
    /// In a file of this machine.
    Sqlite(PathBuf),
    /// In a database that several gateways share: `postgres://USER:PASSWORD@HOST/NAME?sslmode=require`.
    Postgres(Secret),
}

/// Limits of a ledger.
#[derive(Clone, Copy, Debug)]
pub struct Bounds {
    /// Rows that wait in memory for the journal; what comes beyond them is folded into sums.
    pub waiting_max: usize,
    /// Sums that rows are folded into; beyond them sums are by tenant and hour alone.
    pub folds_max: usize,
    /// Bytes of the journal, while the database is away.
    pub journal_bytes_max: u64,
    /// Bytes of one file of it.
    pub segment_bytes_max: u64,
    /// Rows that are stored at a time.
    pub batch_rows_max: usize,
    /// Between two times that the disk is told to keep what was written: so much may be lost when the
    /// machine loses power. A process that is killed loses nothing that was written.
    pub sync_interval: Duration,
    /// How long storing a batch may take before the database counts as away.
    pub store_timeout: Duration,
    /// The longest wait between two attempts at a database that is away.
    pub retry_wait_max: Duration,
}

impl Default for Bounds {
    fn default() -> Self {
        Self {
            waiting_max: 16_384,
            folds_max: 20_000,
            journal_bytes_max: 1 << 30,
            segment_bytes_max: 8 << 20,
            batch_rows_max: 1000,
            sync_interval: Duration::from_secs(1),
            store_timeout: Duration::from_secs(30),
            retry_wait_max: Duration::from_secs(30),
        }
    }
}
