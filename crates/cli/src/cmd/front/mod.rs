//! The gateway of a process that also finds out what it serves: listeners, lanes and replicas, and how a
//! new plan takes the place of the one before without a request noticing.
//!
//! `pilotage up` brings the processes of this machine into it, `pilotage gateway` the pods of a cluster;
//! both take a plan over by the same steps.

pub(in crate::cmd) mod backing;
mod budgets;
mod console;
mod current;
mod fleet;
pub(in crate::cmd) mod gpus;
mod ledger;
mod listen;
mod load;
pub(in crate::cmd) mod prepared;
mod prices;
pub(in crate::cmd) mod traces;
mod traffic;
mod trials;
mod weights;

use axum::Router;
use pilotage_core::traffic::Zone;
use pilotage_gateway::admin::{Beside, More};
use pilotage_gateway::epp::PickerConfig;
use pilotage_gateway::{Gateway, Readiness};
use pilotage_shell::clock::Clock;
use pilotage_shell::env::{self, Var};
use pilotage_shell::metrics::{Metrics, Names};
use pilotage_shell::serve::{Certificates, Entrance, ServeLimits};
use pilotage_shell::{descriptors, tasks};
use tokio::net::TcpListener;
use tokio::task::JoinHandle;
use tokio_util::sync::CancellationToken;

use crate::args::{FrontArgs, MetricsCompat};
use crate::exit::Wrong;
use crate::installation::{Installation, url_of};
use crate::output;
use backing::Backing;
use budgets::Budgets;
use gpus::Gpus;
use ledger::Book;
use load::Load;
use prepared::Prepared;
use traces::Traces;
use trials::Trials;

pub(in crate::cmd) use budgets::EVERY as SAVE_EVERY;
pub(in crate::cmd) use current::Current;
pub(in crate::cmd) use fleet::Fleet;
pub(in crate::cmd) use listen::{bind, certificates, entrance};
pub(in crate::cmd) use traffic::{Keys, has_local};
pub(in crate::cmd) use weights::Weights;

use traffic::gateway_config;

/// How often it is looked whether what shall go is free.
pub(in crate::cmd) const LOOK: std::time::Duration = std::time::Duration::from_millis(250);

/// Who connects to a front.
pub(in crate::cmd) enum Face {
    /// Clients.
    Clients,
    /// Proxies, which carry clients' requests themselves.
    Picker(PickerConfig),
}

/// What a front begins with.
pub(in crate::cmd) struct Begin {
    pub(in crate::cmd) current: Current,
    /// Why it is not ready from its first moment on; none where what it begins with is what is served.
    pub(in crate::cmd) waits: Option<&'static str>,
    pub(in crate::cmd) keys: Keys,
    pub(in crate::cmd) clock: Clock,
    /// Where this process runs.
    pub(in crate::cmd) zone: Option<Zone>,
    pub(in crate::cmd) face: Face,
    /// What counts.
    pub(in crate::cmd) metrics: Metrics,
    /// What is added to the status.
    pub(in crate::cmd) more: Vec<(&'static str, More)>,
}

/// Where things are counted, under the names that the command line and the environment ask for.
pub(in crate::cmd) fn metrics(args: &FrontArgs) -> anyhow::Result<Metrics> {
    let names = Names {
        llm_d_epp: matches!(args.metrics_compat, Some(MetricsCompat::LlmDEpp)),
        ..Names::default()
    };
    let opted_in = env::get(Var::SemconvOptIn);
    let wrong = |error| Wrong::new(format!("{error}"));
    Ok(Metrics::named(names.opt_in(opted_in.as_deref()).map_err(wrong)?))
}

/// A gateway while it runs.
pub(in crate::cmd) struct Front {
    pub(in crate::cmd) gateway: Gateway,
    pub(in crate::cmd) fleet: Fleet,
    pub(in crate::cmd) current: Current,
    keys: Keys,
    clock: Clock,
    /// The admin listener's routes, for what only the gateway's status tells.
    admin: Router,
    listeners: Vec<JoinHandle<Option<usize>>>,
    stop: CancellationToken,
    budgets: Budgets,
    trials: Trials,
    traces: Traces,
    book: Book,
}

/// The gateway keeps what whoever looks on wants to know, until it stops.
fn observe(gateway: &Gateway, stop: &CancellationToken) {
    let (kept, until) = (gateway.clone(), stop.clone());
    drop(tasks::spawn("history", async move {
        until.run_until_cancelled(kept.keep_history()).await;
    }));
    let (felt, until) = (gateway.clone(), stop.clone());
    drop(tasks::spawn("pulse", async move {
        until.run_until_cancelled(felt.keep_pulse()).await;
    }));
    let (watched, until) = (gateway.clone(), stop.clone());
    drop(tasks::spawn("watch", async move {
        until.run_until_cancelled(watched.keep_watch()).await;
    }));
}

/// What is looked at behind the gateway.
struct Behind {
    gpus: Gpus,
    backing: Backing,
    certificates: Option<Certificates>,
}

impl Behind {
    fn new(metrics: &Metrics, clock: Clock, entrance: &Entrance) -> anyhow::Result<Self> {
        let (gpus, backing) = (Gpus::from_env(metrics, clock)?, Backing::register(metrics));
        Ok(Self { gpus, backing, certificates: entrance.certificates().cloned() })
    }

    /// It is, until `stop`.
    fn watch(self, book: &Book, (routes, keys): (&Router, &Keys), stop: &CancellationToken) {
        book.watch(routes.clone(), keys.admin.clone(), stop.clone());
        self.gpus.watch(routes.clone(), keys.admin.clone(), stop.clone());
        self.backing.watch(book, self.certificates, stop.clone());
    }
}

/// What was let go at a look.
pub(in crate::cmd) struct Gone {
    /// Names of replicas.
    pub(in crate::cmd) replicas: Vec<String>,
    /// Whether lanes that were left over are closed.
    pub(in crate::cmd) lanes: bool,
}

impl Front {
    /// Serves on these listeners from now on.
    pub(in crate::cmd) fn start(
        begin: Begin,
        installation: &Installation,
        entrance: Entrance,
        admin: TcpListener,
    ) -> anyhow::Result<Self> {
        let Begin { current, waits, keys, clock, zone, face, metrics, mut more } = begin;
        let config = gateway_config(current.plan(), &keys);
        let traces = Traces::start(&config, &metrics, clock)?;
        let book = Book::open(installation.folder(), clock)?;
        book.set_tenants(&config);
        let behind = Behind::new(&metrics, clock, &entrance)?;
        let gateway = Gateway::new(config, clock, metrics)?;
        traces.follow(&gateway);
        book.follow(&gateway);
        if let Some(why) = waits {
            gateway.set_readiness(Readiness::Waits(why));
        }
        let budgets = Budgets::read(installation.folder())?;
        let trials = Trials::read(installation.folder());
        let shown = current.shown();
        more.push((
            "config",
            std::sync::Arc::new(move || serde_json::to_value(&*shown.lock()).unwrap_or_default()),
        ));
        more.extend(traces.status());
        let pages = console::beside(&gateway, &keys, clock);
        let beside = Beside { status: more, closed: book.router(), ..pages };
        let routes = gateway.admin_router(beside);
        let stop = CancellationToken::new();
        behind.watch(&book, (&routes, &keys), &stop);
        observe(&gateway, &stop);
        let usual = ServeLimits::default();
        let connections_max = usual.connections_max.min(descriptors::raise());
        let drain_timeout = current.patience();
        let limits = ServeLimits { connections_max, drain_timeout, ..usual };
        let url = url_of(entrance.scheme(), entrance.local_addr()?);
        let admin_url = url_of("http", admin.local_addr()?);
        let listeners = vec![
            match face {
                Face::Clients => listen::clients(entrance, &gateway, limits, &stop),
                Face::Picker(config) => {
                    listen::proxies(entrance, (&gateway, config), limits, &stop)
                }
            },
            listen::operators(admin, routes.clone(), limits, &stop),
        ];
        installation.announce(url, admin_url)?;
        let fleet = Fleet::new(gateway.clone(), drain_timeout).in_zone(zone);
        let mut this = Self {
            gateway,
            fleet,
            current,
            keys,
            clock,
            admin: routes,
            listeners,
            stop,
            budgets,
            trials,
            traces,
            book,
        };
        if waits.is_none() {
            this.remember();
        }
        this.raise_endpoints();
        Ok(this)
    }

    /// Whether something shall go that is not gone.
    pub(in crate::cmd) fn is_busy(&self) -> bool {
        self.fleet.is_resting() || self.current.has_left()
    }

    /// Takes a new plan over, and says what differs; one that cannot be changes nothing.
    pub(in crate::cmd) fn replace(&mut self, prepared: Prepared) -> anyhow::Result<String> {
        let changes = prepared.plan.changes_from(self.current.plan()).to_string();
        let next = self.follow(prepared)?;
        self.remember();
        self.current.take(next);
        self.raise_endpoints();
        Ok(changes)
    }

    /// Takes over what the same manifests come to by now.
    pub(in crate::cmd) fn turn(&mut self, prepared: Prepared) -> anyhow::Result<()> {
        let next = self.follow(prepared)?;
        self.current.turn(next);
        self.raise_endpoints();
        Ok(())
    }

    /// The gateway knows tenants and routes by now: what was kept of them over a restart holds.
    fn remember(&mut self) {
        self.budgets.restore(&self.gateway);
        self.trials.restore(&self.gateway);
    }

    /// The gateway serves it.
    fn follow(&self, prepared: Prepared) -> anyhow::Result<Current> {
        let next = self.current.followed_by(prepared);
        let config = gateway_config(&next.served(), &self.keys);
        self.gateway.set_config(&config)?;
        self.traces.set_goals(&config);
        self.book.set_tenants(&config);
        Ok(next)
    }

    /// Takes over endpoints of a plan that is the same otherwise.
    pub(in crate::cmd) fn set_endpoints(&mut self, prepared: Prepared) {
        self.current.set_prepared(prepared);
        self.raise_endpoints();
    }

    /// Lets go what is free by now; nothing where the status says nothing.
    pub(in crate::cmd) async fn look(&mut self) -> Option<Gone> {
        let load = match Load::of(&self.admin, &self.keys.admin).await {
            Ok(load) => load,
            Err(error) => {
                tracing::error!(error = format!("{error:#}"), "no status");
                return None;
            }
        };
        let replicas = self.fleet.let_go(self.clock.now_nanos(), &load);
        let lanes = self.current.forget_empty(&load);
        if lanes {
            let config = gateway_config(&self.current.served(), &self.keys);
            if let Err(error) = self.gateway.set_config(&config) {
                tracing::error!(%error, "lanes that are left over cannot be closed");
            }
            self.raise_endpoints();
        }
        Some(Gone { replicas, lanes })
    }

    /// Takes nothing new from now on. What is returned is over once running requests are finished and the listeners
    /// are closed.
    pub(in crate::cmd) fn close(&mut self) -> impl Future<Output = ()> + use<> {
        self.gateway.drain();
        self.stop.cancel();
        let listeners = std::mem::take(&mut self.listeners);
        let (traces, book) = (self.traces.clone(), self.book.clone());
        async move {
            for listener in listeners {
                match listener.await {
                    Ok(Some(cut)) if cut > 0 => {
                        output::note(&format!(
                            "{cut} connections were cut at the end of the drain"
                        ));
                    }
                    _ => {}
                }
            }
            book.close().await;
            traces.close().await;
        }
    }

    /// Writes down what shall survive a restart.
    pub(in crate::cmd) fn save(&mut self) {
        self.budgets.save(&self.gateway);
        self.trials.save(&self.gateway);
    }

    /// The routes of operators.
    #[cfg(test)]
    pub(in crate::cmd) fn admin(&self) -> Router {
        self.admin.clone()
    }

    /// Nanoseconds of the clock.
    pub(in crate::cmd) fn now_nanos(&self) -> u64 {
        self.clock.now_nanos()
    }

    fn raise_endpoints(&mut self) {
        let plan = self.current.served();
        self.fleet.set_lanes(&plan.lanes, &plan.routes);
        self.fleet.set_endpoints(self.clock.now_nanos(), &self.current.endpoints());
        let processes = self.current.processes();
        self.fleet.set_grounds(processes.iter().map(|placed| &placed.spec));
    }
}
