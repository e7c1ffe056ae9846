//! The usage ledger of a front: what every request used, in the data directory or in the database that the environment
//! names, and answered for on the admin listener.

use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use anyhow::Context as _;
use axum::Router;
use parking_lot::RwLock;
use pilotage_core::admit::Window;
use pilotage_gateway::{Gateway, GatewayConfig, Ledger as Acknowledge, TenantConfig};
use pilotage_ledger::{Budget, Ledger, Looks, Now, Settings, State, Where};
use pilotage_lens::usage::{Entitled, Replica};
use pilotage_shell::clock::Clock;
use pilotage_shell::env::{self, Var};
use pilotage_shell::id::random_u64;
use pilotage_shell::secret::Secret;
use pilotage_shell::{date, tasks};
use tokio_util::sync::CancellationToken;

use super::load::Load;
use super::prices::Prices;
use crate::exit::Wrong;

/// How long the end of an answer waits at most for its row to be written: longer than a write takes on a machine
/// that is busy, and less than anybody sees.
const PATIENCE: Duration = Duration::from_millis(20);

/// Between two looks at which replicas are up.
const LOOK: Duration = Duration::from_secs(5);

/// Between two times that the price book is read.
const READ_SECONDS: u64 = 60;

/// How long the end may take to store what is left; the rest is stored at the next start.
const CLOSE_MAX: Duration = Duration::from_secs(5);

/// The ledger of a front, and what it is told about who serves. Clones are the same.
#[derive(Clone)]
pub(in crate::cmd) struct Book {
    ledger: Ledger,
    told: Arc<RwLock<Told>>,
    prices: Arc<Prices>,
    clock: Clock,
}

#[derive(Default)]
struct Told {
    now: Now,
    /// Tenant, its path, window and limit.
    budgets: Vec<(String, String, Window, u64)>,
}

impl Book {
    /// Opens the ledger in a data directory.
    ///
    /// # Errors
    /// A setting cannot be used, or the folder cannot.
    pub(in crate::cmd) fn open(folder: &Path, clock: Clock) -> anyhow::Result<Self> {
        let mut settings = Settings::in_folder(folder.join("usage"));
        if let Some(url) = env::get(Var::DatabaseUrl).filter(|url| !url.is_empty()) {
            settings.place = place(url)?;
            settings.fleet = match env::get(Var::UsageFleet).filter(|name| !name.is_empty()) {
                Some(name) => name,
                None => own_fleet(&settings.folder)?,
            };
        }
        if let Some(days) = env::get(Var::UsageDays) {
            settings.rows_age_max = Duration::from_secs(days_of(&days)? * 86_400);
        }
        let prices = Prices::from_env()?;
        settings.currency = prices.currency();
        let told: Arc<RwLock<Told>> = Arc::default();
        let (now, budgets) = (Arc::clone(&told), Arc::clone(&told));
        let looks = Looks {
            now: Arc::new(move || now.read().now.clone()),
            budgets: Arc::new(move || budgets.read().budgets(clock.unix_ms())),
        };
        let ledger = Ledger::open(settings, clock, looks)?;
        Ok(Self { ledger, told, prices: Arc::new(prices), clock })
    }

    /// Takes the records of that gateway.
    pub(in crate::cmd) fn follow(&self, gateway: &Gateway) {
        let ledger = self.ledger.clone();
        let acknowledge = Acknowledge {
            add: Arc::new(move |record| ledger.add(record)),
            written: self.ledger.written(),
            patience: PATIENCE,
        };
        gateway.set_ledger(acknowledge);
    }

    /// How it does.
    pub(in crate::cmd) fn state(&self) -> State {
        self.ledger.state()
    }

    /// Its routes.
    pub(in crate::cmd) fn router(&self) -> Router {
        self.ledger.router()
    }

    /// Who may use what from now on.
    pub(in crate::cmd) fn set_tenants(&self, config: &GatewayConfig) {
        let mut told = self.told.write();
        told.now.entitled = entitled(&config.tenants);
        told.budgets.clear();
        for tenant in &config.tenants {
            let path = path(&config.tenants, tenant);
            let budgets = tenant.quota.budgets.iter();
            told.budgets.extend(
                budgets.map(|one| (tenant.name.clone(), path.clone(), one.window, one.hard)),
            );
        }
    }

    /// Looks which replicas are up, until it shall stop.
    pub(in crate::cmd) fn watch(&self, admin: Router, key: Secret, stop: CancellationToken) {
        let this = self.clone();
        let looks = async move {
            let mut every = tokio::time::interval(LOOK);
            let mut read_s = this.clock.unix_ms() / 1000;
            loop {
                every.tick().await;
                let now_s = this.clock.unix_ms() / 1000;
                if now_s.abs_diff(read_s) >= READ_SECONDS {
                    read_s = now_s;
                    let prices = Arc::clone(&this.prices);
                    drop(tokio::task::spawn_blocking(move || prices.read_again()).await);
                }
                this.look(&admin, &key).await;
            }
        };
        drop(tasks::spawn("usage-replicas", async move {
            stop.run_until_cancelled(looks).await;
        }));
    }

    async fn look(&self, admin: &Router, key: &Secret) {
        let Ok(load) = Load::of(admin, key).await else { return };
        let now_s = self.clock.unix_ms() / 1000;
        let replicas = load.up().map(|stands| Replica {
            name: stands.name.to_owned(),
            model: stands.lane.to_owned(),
            hardware: stands.hardware.to_owned(),
            accelerators: stands.accelerators,
            micros_per_hour: self.prices.micros_per_hour(now_s, &stands),
        });
        self.told.write().now.replicas = replicas.collect();
    }

    /// Writes and stores what is left, within a bound.
    pub(in crate::cmd) async fn close(&self) {
        self.ledger.close(CLOSE_MAX).await;
    }
}

impl Told {
    fn budgets(&self, now_ms: u64) -> Vec<Budget> {
        let budget = |(tenant, path, window, limit): &(String, String, Window, u64)| {
            let (from_ms, until_ms) = ends(*window, now_ms);
            Budget {
                tenant: tenant.clone(),
                tenant_path: path.clone(),
                window: window.name(),
                limit_micros: *limit,
                // Each of several gateways knows its own; the ledger knows all.
                spent_micros: None,
                from_ms,
                until_ms,
            }
        };
        self.budgets.iter().map(budget).collect()
    }
}

/// When a window begins and ends, UTC.
fn ends(window: Window, now_ms: u64) -> (u64, u64) {
    let hour = 3_600_000;
    let day = 24 * hour;
    let even = |each: u64| (now_ms / each * each, (now_ms / each + 1) * each);
    match window {
        Window::Hour => even(hour),
        Window::Day => even(day),
        Window::Month => {
            let today = now_ms / day;
            let first = today + 1 - date::civil(today).2;
            let next = (first + 28..first + 32).find(|day| date::civil(*day).2 == 1);
            (first * day, next.unwrap_or(first + 31) * day)
        }
    }
}

/// What each tenant may count on by itself: of a guarantee, what those below it have is theirs.
fn entitled(tenants: &[TenantConfig]) -> Vec<Entitled> {
    let below = |name: &str| {
        let name = name.to_owned();
        tenants.iter().filter(move |one| one.parent.as_deref() == Some(name.as_str()))
    };
    let own = |tenant: &TenantConfig| {
        let theirs: u32 = below(&tenant.name).map(|one| one.guaranteed).sum();
        let is_leaf = below(&tenant.name).next().is_none();
        Entitled {
            tenant: tenant.name.clone(),
            guaranteed: tenant.guaranteed.saturating_sub(theirs),
            weight: if is_leaf { tenant.weight } else { 0 },
        }
    };
    tenants.iter().map(own).collect()
}

/// A tenant below those above it.
fn path(tenants: &[TenantConfig], tenant: &TenantConfig) -> String {
    let mut names = vec![tenant.name.as_str()];
    let mut parent = tenant.parent.as_deref();
    // A tree is not deeper than it has nodes.
    for _ in tenants {
        let Some(name) = parent else { break };
        names.push(name);
        parent = tenants.iter().find(|one| one.name == name).and_then(|one| one.parent.as_deref());
    }
    names.reverse();
    names.join("/")
}

fn place(url: String) -> anyhow::Result<Where> {
    match url.split_once("://") {
        Some(("postgres" | "postgresql", _)) => Ok(Where::Postgres(Secret::new(url))),
        Some(("sqlite", path)) => Ok(Where::Sqlite(path.into())),
        _ => Err(Wrong::new("DATABASE_URL is for no database that is known")
            .hint("write postgres://USER:PASSWORD@HOST/NAME, sqlite:///FOLDER/FILE, or unset it for a file in the data directory")
            .into()),
    }
}

/// A name that nobody else has, kept in the folder: whoever shares a database and says nothing has replicas of its own,
/// though others' may be called the same.
fn own_fleet(folder: &Path) -> anyhow::Result<String> {
    let path = folder.join("fleet");
    let wrong =
        || format!("cannot use {}; check that the data directory can be written", path.display());
    match std::fs::read_to_string(&path) {
        Ok(name) if !name.trim().is_empty() => return Ok(name.trim().to_owned()),
        Err(error) if error.kind() != std::io::ErrorKind::NotFound => {
            return Err(error).with_context(wrong);
        }
        _ => {}
    }
    let name = format!("{:016x}", random_u64());
    std::fs::create_dir_all(folder).with_context(wrong)?;
    std::fs::write(&path, &name).with_context(wrong)?;
    Ok(name)
}

fn days_of(text: &str) -> anyhow::Result<u64> {
    let days = text.trim().parse().ok().filter(|days| (1..=36_500).contains(days));
    days.ok_or_else(|| {
        Wrong::new("PILOTAGE_USAGE_DAYS is no number of days")
            .hint("write a whole number from 1 to 36500")
            .into()
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn windows_begin_and_end_where_the_calendar_says() {
        let day = 86_400_000;
        // 2024-02-29, noon.
        let now = 19_782 * day + day / 2;
        assert_eq!(ends(Window::Month, now), (19_754 * day, 19_783 * day));
        assert_eq!(ends(Window::Day, now), (19_782 * day, 19_783 * day));
    }

    #[test]
    fn a_data_directory_keeps_the_name_of_its_fleet() {
        let folders = [tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap()];
        let names =
            folders.each_ref().map(|folder| own_fleet(&folder.path().join("usage")).unwrap());
        assert_eq!(names[0].len(), 16);
        assert_ne!(names[0], names[1]);
        assert_eq!(own_fleet(&folders[0].path().join("usage")).unwrap(), names[0]);
    }

    #[test]
    fn settings_are_read_or_refused() {
        assert!(days_of("0").is_err() && days_of("x").is_err());
        assert!(place("mysql://x".to_owned()).is_err());
    }

    #[test]
    fn guarantees_belong_to_those_who_have_them_themselves() {
        let tenant = |name: &str, parent: Option<&str>, guaranteed| TenantConfig {
            parent: parent.map(str::to_owned),
            guaranteed,
            ..TenantConfig::named(name)
        };
        let tenants = [
            tenant("org", None, 600),
            tenant("a", Some("org"), 200),
            tenant("b", Some("org"), 100),
        ];
        let got: Vec<_> = entitled(&tenants)
            .into_iter()
            .map(|one| (one.tenant, one.guaranteed, one.weight))
            .collect();
        let expect = [("org", 300, 0), ("a", 200, 1000), ("b", 100, 1000)];
        assert_eq!(
            got,
            expect.map(|(name, guaranteed, weight)| (name.to_owned(), guaranteed, weight))
        );
        assert_eq!(path(&tenants, &tenants[1]), "org/a");
    }
}
