//! The gateway and its engines while they run: who came up goes into its lanes, who died comes out.

use std::collections::HashMap;
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use axum::Router;
use pilotage_core::{Capacity, ReplicaId};
use pilotage_gateway::{Gateway, Replica};
use pilotage_operator::local::{Event, Supervisor};
use pilotage_plan::Plan;
use pilotage_shell::metrics::Metrics;
use pilotage_shell::secret::Secret;
use pilotage_shell::serve::{ServeLimits, serve};
use pilotage_shell::signals::Shutdown;
use pilotage_shell::tasks;
use tokio::net::TcpListener;
use tokio::sync::mpsc::UnboundedReceiver;
use tokio::task::JoinHandle;
use tokio_util::sync::CancellationToken;
use tower::ServiceExt as _;

use super::banner;
use super::budgets::{self, Budgets};
use super::setup::{self, Setup};
use crate::output;

/// Everything that runs.
pub(super) struct Serving {
    gateway: Gateway,
    supervisor: Supervisor,
    happened: UnboundedReceiver<Event>,
    fleet: Fleet,
    listeners: Vec<JoinHandle<Option<usize>>>,
    stop: CancellationToken,
    greeting: Option<banner::Greeting>,
    budgets: Budgets,
    /// The key of the tenant `local`.
    key: Option<Secret>,
}

/// Which process serves which lanes, and which replica each is at the moment.
struct Fleet {
    lanes: Vec<(String, Vec<String>)>,
    capacities: HashMap<String, Capacity>,
    key: Secret,
    next: u32,
    current: HashMap<String, ReplicaId>,
}

impl Serving {
    pub(super) fn start(
        setup: Setup,
        listener: TcpListener,
        admin: TcpListener,
        drain_timeout: Duration,
    ) -> anyhow::Result<Self> {
        let (at, admin_at) = (listener.local_addr()?, admin.local_addr()?);
        let capacities = setup
            .processes
            .iter()
            .map(|(spec, _)| {
                let lanes = setup.lanes_of(&spec.name);
                let capacity = capacity(spec.slots, lanes, setup.context_of(&spec.name));
                (spec.name.clone(), capacity)
            })
            .collect();
        let gateway = Gateway::new(setup.gateway, setup.clock, Metrics::new())?;
        let budgets = Budgets::restore(setup.installation.folder(), &gateway)?;
        let key = setup.key.clone();
        let greeting =
            banner::Greeting::new(&setup.processes, setup.model, setup.key, at, admin_at);
        let engine_key = setup.machine.engine_key.clone();
        let (supervisor, happened) = Supervisor::start(&setup.machine, setup.processes);
        let states = supervisor.states();
        let processes: pilotage_gateway::admin::More =
            Arc::new(move || serde_json::to_value(&*states.lock()).unwrap_or_default());
        let stop = CancellationToken::new();
        let limits = ServeLimits { drain_timeout, ..ServeLimits::default() };
        let listeners = vec![
            listen(listener, gateway.router(), limits, &stop),
            listen(admin, gateway.admin_router(vec![("processes", processes)]), limits, &stop),
        ];
        setup.installation.announce(at, admin_at)?;
        let fleet = Fleet {
            lanes: setup.lanes,
            capacities,
            key: engine_key,
            next: 0,
            current: HashMap::new(),
        };
        Ok(Self {
            gateway,
            supervisor,
            happened,
            fleet,
            listeners,
            stop,
            greeting: Some(greeting),
            budgets,
            key,
        })
    }

    /// Takes in what happens to processes until a signal, and names that.
    pub(super) async fn watch(&mut self, signals: &mut Shutdown) -> &'static str {
        loop {
            tokio::select! {
                signal = signals.next() => return signal,
                event = self.happened.recv() => match event {
                    Some(event) => self.take(event).await,
                    None => std::future::pending().await,
                },
                () = tokio::time::sleep(budgets::EVERY) => self.budgets.save(&self.gateway),
            }
        }
    }

    /// Takes the tenants of a new plan over; what is wrong with it is said, and changes nothing.
    pub(super) fn set_tenants(&self, plan: anyhow::Result<Plan>) {
        let tenants = plan.map(|plan| setup::tenants(&plan, self.key.as_ref()));
        let taken = tenants.and_then(|tenants| {
            self.gateway.set_tenants(&tenants)?;
            Ok(tenants.len())
        });
        match taken {
            Ok(count) => output::note(&format!("SIGHUP: {count} tenants read again")),
            Err(error) => output::note(&format!("SIGHUP: nothing changed: {error:#}")),
        }
    }

    /// Lets running requests finish, then stops everything.
    pub(super) async fn drain(&mut self) {
        self.gateway.drain();
        self.stop.cancel();
        for listener in self.listeners.drain(..) {
            match listener.await {
                Ok(Some(cut)) if cut > 0 => {
                    output::note(&format!("{cut} connections were cut at the end of the drain"));
                }
                _ => {}
            }
        }
        self.supervisor.stop().await;
        self.budgets.save(&self.gateway);
    }

    async fn take(&mut self, event: Event) {
        match event {
            Event::Ready { name, url } => {
                self.fleet.up(&self.gateway, &name, url);
                if self.gateway.unready().await.is_empty()
                    && let Some(greeting) = self.greeting.take()
                {
                    greeting.show();
                } else {
                    tracing::info!(process = name, "ready");
                }
            }
            Event::Down { name, reason, again_ms } => {
                self.fleet.down(&self.gateway, &name);
                tracing::warn!(process = name, reason, again_ms, "a process died");
            }
        }
    }
}

impl Fleet {
    fn up(&mut self, gateway: &Gateway, name: &str, url: String) {
        self.down(gateway, name);
        self.next += 1;
        let id = ReplicaId(self.next);
        self.current.insert(name.to_owned(), id);
        for lane in self.lanes_of(name) {
            let Some(lane) = gateway.lane(lane) else { continue };
            let capacity = self.capacities.get(name).copied().unwrap_or(Capacity::of_requests(1));
            let key = Some(self.key.clone());
            lane.replica_up(id, Replica { name: name.to_owned(), url: url.clone(), key, capacity });
        }
    }

    fn down(&mut self, gateway: &Gateway, name: &str) {
        let Some(id) = self.current.remove(name) else { return };
        for lane in self.lanes_of(name) {
            if let Some(lane) = gateway.lane(lane) {
                lane.replica_down(id);
            }
        }
    }

    fn lanes_of(&self, process: &str) -> impl Iterator<Item = &str> {
        let serves = move |(_, replicas): &&(String, Vec<String>)| {
            replicas.iter().any(|name| name == process)
        };
        self.lanes.iter().filter(serves).map(|(lane, _)| lane.as_str())
    }
}

/// What the embedded engine takes from one lane: each slot has a whole context to itself, and it can
/// pause as many sequences as it runs. Lanes of the same engine know nothing of each other, so that
/// each has its part of the places.
fn capacity(slots: u32, lanes: u32, context: u32) -> Capacity {
    let slots = (slots / lanes.max(1)).max(1);
    Capacity {
        requests_max: slots,
        tokens_max: u64::from(slots) * u64::from(context),
        prefill_max: u64::MAX,
        pauses_max: slots,
    }
}

fn listen(
    listener: TcpListener,
    router: Router,
    limits: ServeLimits,
    stop: &CancellationToken,
) -> JoinHandle<Option<usize>> {
    let service = move |request: http::Request<hyper::body::Incoming>| {
        let router = router.clone();
        async move { router.oneshot(request.map(axum::body::Body::new)).await }
    };
    tasks::spawn("listener", serve(listener, service, limits, stop.clone()))
}

/// Addresses as the banner shows them.
pub(super) fn shown(listen: SocketAddr) -> String {
    crate::installation::url_of(listen)
}
