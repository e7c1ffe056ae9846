//! Records, ledgers, stores that fail, and a PostgreSQL server.

use std::future::Future;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::Duration;

use futures_util::FutureExt as _;
use futures_util::future::BoxFuture;
use pilotage_ledger::*;
use pilotage_shell::clock::Clock;
use pilotage_shell::secret::Secret;

pub(crate) const HOUR_MS: u64 = 3_600_000;
/// Noon of a day.
pub(crate) const NOON: u64 = 1_800_014_400_000;

/// Waits until it holds.
pub(crate) async fn until<F: Future<Output = bool>>(what: &str, check: impl Fn() -> F) {
    let mut every = tokio::time::interval(Duration::from_millis(5));
    for _ in 0..6000 {
        if check().await {
            return;
        }
        every.tick().await;
    }
    panic!("waited too long for {what}");
}

pub(crate) fn settings(folder: &Path) -> Settings {
    let mut settings = Settings::in_folder(folder);
    settings.rows_age_max = Duration::from_secs(100 * 365 * 86_400);
    settings.bounds.retry_wait_max = Duration::from_millis(20);
    settings
}

pub(crate) fn open(settings: Settings, store: Arc<dyn Store>) -> Ledger {
    Ledger::open_with(settings, Clock::start(), Looks::default(), store).unwrap()
}

/// Every row, over pages of 7.
pub(crate) async fn all_rows(store: &dyn Store, ask: AskRows) -> Vec<serde_json::Value> {
    let mut ask = AskRows { until_ms: 1 << 42, limit: 7, ..ask };
    let mut rows = Vec::new();
    loop {
        let page = store.rows(ask.clone()).await.unwrap();
        rows.extend(page.rows.iter().map(|row| serde_json::from_str(row).unwrap()));
        match page.next {
            Some(next) => ask.after = Some(next),
            None => return rows,
        }
    }
}

/// All sums of all time, by this.
pub(crate) fn by(by: &[Dimension]) -> Ask {
    let range = Range { from: 0, until: 1 << 20 };
    Ask { range, by: by.to_vec(), tenant: None, below: None, model: None, groups_max: 1000 }
}

/// A store that can be away, and can fail after it has stored.
#[derive(Debug)]
pub(crate) struct Unsure {
    pub(crate) inner: Sqlite,
    pub(crate) away: AtomicBool,
    /// Every so often it says that it failed though it did not.
    pub(crate) lies_every: u64,
    puts: AtomicU64,
}

impl Unsure {
    pub(crate) fn at(path: PathBuf, away: bool, lies_every: u64) -> Arc<Self> {
        let inner = Sqlite::at(path);
        Arc::new(Self { inner, away: AtomicBool::new(away), lies_every, puts: AtomicU64::new(0) })
    }
}

impl Store for Unsure {
    fn kind(&self) -> &'static str {
        "sqlite"
    }

    fn put(&self, batch: Batch) -> BoxFuture<'_, Done<()>> {
        async move {
            if self.away.load(Ordering::Relaxed) {
                return Err(StoreError::Away("on holiday".to_owned()));
            }
            self.inner.put(batch).await?;
            let put = self.puts.fetch_add(1, Ordering::Relaxed);
            match self.lies_every > 0 && put.is_multiple_of(self.lies_every) {
                true => Err(StoreError::Away("broke after it was stored".to_owned())),
                false => Ok(()),
            }
        }
        .boxed()
    }

    fn sums(&self, ask: Ask) -> BoxFuture<'_, Done<Vec<Summed>>> {
        self.inner.sums(ask)
    }

    fn rows(&self, ask: AskRows) -> BoxFuture<'_, Done<Page>> {
        self.inner.rows(ask)
    }

    fn pools(&self, range: Range) -> BoxFuture<'_, Done<Vec<Used>>> {
        self.inner.pools(range)
    }

    fn spent(&self, range: Range, by_hour: bool) -> BoxFuture<'_, Done<Vec<Spent>>> {
        self.inner.spent(range, by_hour)
    }

    fn forget(&self, old: Old) -> BoxFuture<'_, Done<Forgotten>> {
        self.inner.forget(old)
    }
}

/// A PostgreSQL server of one's own, on a socket in a temporary folder.
pub(crate) struct Server {
    folder: tempfile::TempDir,
    programs: PathBuf,
    process: Child,
}

impl Server {
    /// Starts one; none where it is not installed.
    pub(crate) fn start() -> Option<Self> {
        let programs = std::fs::read_dir("/usr/lib/postgresql").ok().and_then(|versions| {
            versions.filter_map(Result::ok).map(|version| version.path().join("bin")).max()
        });
        let Some(programs) = programs.filter(|bin| bin.join("initdb").exists()) else {
            eprintln!(
                "skipped: PostgreSQL is not installed; `apt-get install postgresql` brings it"
            );
            return None;
        };
        let folder = tempfile::tempdir().unwrap();
        if is_root() {
            // It refuses to be root.
            assert!(
                Command::new("chown")
                    .arg("postgres")
                    .arg(folder.path())
                    .status()
                    .unwrap()
                    .success()
            );
        }
        let made = as_user(&programs.join("initdb"))
            .args(["--auth=trust", "--username=postgres", "--encoding=UTF8", "--no-sync", "-D"])
            .arg(folder.path().join("data"))
            .stdout(Stdio::null())
            .status()
            .unwrap();
        assert!(made.success());
        let process = Self::spawn(&programs, folder.path());
        Some(Self { folder, programs, process })
    }

    fn spawn(programs: &Path, folder: &Path) -> Child {
        as_user(&programs.join("postgres"))
            .arg("-D")
            .arg(folder.join("data"))
            .args(["-c", "listen_addresses=", "-c", "fsync=off", "-k"])
            .arg(folder)
            .stderr(Stdio::null())
            .spawn()
            .unwrap()
    }

    pub(crate) fn url(&self) -> Secret {
        Secret::new(format!("host={} user=postgres dbname=postgres", self.folder.path().display()))
    }

    /// It is gone at once.
    pub(crate) fn kill(&mut self) {
        let pid = std::fs::read_to_string(self.folder.path().join("data/postmaster.pid"));
        let pid: i32 = pid.unwrap().lines().next().unwrap().parse().unwrap();
        let pid = rustix::process::Pid::from_raw(pid).unwrap();
        // Without time to say goodbye.
        rustix::process::kill_process(pid, rustix::process::Signal::QUIT).unwrap();
        self.process.wait().unwrap();
    }

    /// And back.
    pub(crate) fn again(&mut self) {
        self.process = Self::spawn(&self.programs, self.folder.path());
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        if self.folder.path().join("data/postmaster.pid").exists() {
            self.kill();
        }
    }
}

fn is_root() -> bool {
    rustix::process::geteuid().is_root()
}

fn as_user(program: &Path) -> Command {
    if !is_root() {
        return Command::new(program);
    }
    let mut command = Command::new("setpriv");
    command.args(["--reuid=postgres", "--regid=postgres", "--clear-groups"]).arg(program);
    command.current_dir("/");
    command
}
