//! From what is known of a cluster to what is served, each time it is something else.
//!
//! Contract: before all of it is known once, nothing is served and the gateway says that it waits. From then
//! on what was known last is served, however long the API server is away. One resource that cannot be used
//! takes nothing else away; pods that come and go change no lane.

use std::borrow::Cow;
use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use parking_lot::Mutex;
use pilotage_core::traffic::Zone;
use pilotage_gateway::Readiness;
use pilotage_gateway::admin::More;
use pilotage_plan::api::Kind;
use pilotage_plan::api::status::UpdateStatus;
use pilotage_plan::cluster::{Admission, Seen, admit};
use pilotage_plan::gateway_api::pool_of;
use pilotage_plan::pods::{self, Pod, Stage};
use pilotage_plan::update::{self, Staged};
use pilotage_plan::{EndpointSpec, Plan, Resource};
use pilotage_shell::clock::Clock;
use pilotage_shell::metrics::Metrics;
use pilotage_shell::secret::Secret;
use pilotage_shell::serve::Entrance;
use pilotage_watch::{Known, Purpose, Watching};
use tokio::net::TcpListener;
use tokio::time::{Interval, MissedTickBehavior};

use super::region::region_key;
use super::view::{View, status};
use crate::cmd::front::prepared::{Prepared, Reached, reach};
use crate::cmd::front::{Begin, Current, Face, Front, Keys, LOOK, SAVE_EVERY};
use crate::installation::Installation;

/// How long further news is waited for: what belongs together comes in several pieces.
const SETTLE: Duration = Duration::from_millis(100);

/// What the gateway waits for at its start.
const WAITS: &str = "what there is in the cluster is not known yet";

/// What a picker waits for.
const NO_POOL: &str = "the InferencePool is not there, or cannot be served; the status says why";

/// Where this gateway is, and how long what ends may take.
pub(super) struct Place {
    pub(super) pod: Option<String>,
    pub(super) zone: Option<Zone>,
    pub(super) drain: Duration,
    /// What counts.
    pub(super) metrics: Metrics,
    /// Who connects.
    pub(super) face: Face,
    /// What is served of the cluster.
    pub(super) purpose: Purpose,
}

/// A gateway of a cluster while it runs.
pub(super) struct Serving {
    front: Front,
    watching: Watching,
    purpose: Purpose,
    admitted: Option<(u64, Admission)>,
    /// The pod that this is, as long as its zone is to be found out.
    pod: Option<String>,
    view: Arc<Mutex<View>>,
    /// When news are taken over, in nanoseconds of the clock.
    due_nanos: Option<u64>,
    clock: Clock,
    saving: Interval,
    /// What else happens puts off no look.
    looking: Interval,
}

impl Serving {
    pub(super) fn start(
        watching: Watching,
        (keys, clock): (Keys, Clock),
        place: Place,
        installation: &Installation,
        (entrance, admin): (Entrance, TcpListener),
    ) -> anyhow::Result<Self> {
        let view = Arc::new(Mutex::new(View::default()));
        let (known, shown) = (watching.shared(), Arc::clone(&view));
        let cluster: More = Arc::new(move || {
            let known = known.lock();
            status(clock.now_nanos(), &known, &shown.lock())
        });
        let nothing = Prepared {
            plan: Plan::default(),
            processes: Vec::new(),
            endpoints: Vec::new(),
            leases: Arc::default(),
        };
        let pod = place.pod.filter(|_| place.zone.is_none());
        let begin = Begin {
            current: Current::first(nothing, clock, place.drain),
            waits: Some(WAITS),
            keys,
            clock,
            zone: place.zone,
            face: place.face,
            metrics: place.metrics,
            more: vec![("cluster", cluster)],
        };
        let front = Front::start(begin, installation, entrance, admin)?;
        let saving = tokio::time::interval(SAVE_EVERY);
        let mut looking = tokio::time::interval(LOOK);
        looking.set_missed_tick_behavior(MissedTickBehavior::Delay);
        let purpose = place.purpose;
        Ok(Self {
            front,
            watching,
            purpose,
            admitted: None,
            pod,
            view,
            due_nanos: None,
            clock,
            saving,
            looking,
        })
    }

    /// Serves for ever.
    pub(super) async fn serve(&mut self) {
        loop {
            self.step().await;
        }
    }

    /// Takes the next thing in that happens. Broken off, it has taken in nothing, or all of it.
    pub(super) async fn step(&mut self) {
        let (busy, due) = (self.front.is_busy(), self.due_nanos);
        let clock = self.clock;
        tokio::select! {
            () = self.watching.changed() => {
                let settle = u64::try_from(SETTLE.as_nanos()).unwrap_or(u64::MAX);
                self.due_nanos = due.or_else(|| Some(clock.now_nanos().saturating_add(settle)));
            }
            () = clock.sleep_until_nanos(due.unwrap_or(u64::MAX)), if due.is_some() => {
                self.due_nanos = None;
                self.take();
            }
            _ = self.looking.tick(), if busy => drop(self.front.look().await),
            _ = self.saving.tick() => self.front.save(),
        }
    }

    /// Lets running requests finish.
    pub(super) async fn drain(&mut self) {
        self.front.close().await;
        self.front.save();
    }

    /// Takes over what is known.
    fn take(&mut self) {
        if !self.watching.read(Known::is_known) {
            return;
        }
        let revision = self.watching.read(Known::revision);
        if self.admitted.as_ref().is_none_or(|(of, _)| *of != revision) {
            let admission = self.watching.read(|known| self.admit(known));
            self.view.lock().refuse(&admission.refused);
            self.admitted = Some((revision, admission));
        }
        match self.prepare() {
            Ok(Some(prepared)) => self.carry_out(prepared),
            Ok(None) => {}
            Err(error) => self.fail(&error),
        }
    }

    /// What counts.
    fn admit(&self, known: &Known) -> Admission {
        if self.purpose == Purpose::Serve {
            return admit(known.resources());
        }
        let is_tenant = |seen: &&Seen| seen.identity.kind == Kind::Tenant;
        admit(known.resources().filter(is_tenant))
    }

    /// Which Models are served, and by which resources; nothing as long as a pool is on its way.
    fn served<'a>(
        &self,
        admission: &'a Admission,
    ) -> anyhow::Result<Option<(Models, Cow<'a, [Resource]>)>> {
        let Purpose::Pool(namespace, _) = &self.purpose else {
            return Ok(Some((Models::of(admission), Cow::Borrowed(&admission.resources))));
        };
        if let Some(trouble) = self.watching.read(Known::pool_trouble) {
            self.front.gateway.set_readiness(Readiness::Waits(NO_POOL));
            anyhow::bail!(trouble);
        }
        let pool = self.watching.read(|known| known.pools().first().cloned());
        Ok(pool.map(|pool| {
            let picked = pool.picked();
            let models = Models::of_pool(namespace, picked[0].name());
            (models, admission.resources.iter().cloned().chain(picked).collect())
        }))
    }

    /// What is to be served, by what counts.
    fn prepare(&mut self) -> anyhow::Result<Option<Prepared>> {
        let Some((_, admission)) = &self.admitted else { return Ok(None) };
        let Some((models, resources)) = self.served(admission)? else { return Ok(None) };
        let ((pods, staged), gateways, keys) = self
            .watching
            .read(|known| (models.pods(known), known.gateways(), known.keys().clone()));
        let mut plan = update::serve(&resources, &pods, &staged)?;
        let ready = gateways.iter().filter(|pod| pod.stage == Stage::Ready).count();
        let sharing = u32::try_from(ready.max(1)).unwrap_or(u32::MAX);
        for tenant in &mut plan.tenants {
            tenant.quota = tenant.quota.shared_by(sharing);
        }
        let mut left_out = Vec::new();
        let reach = |spec: &EndpointSpec| match models.reach(spec, &keys) {
            Ok(reached) => Some(reached),
            Err(why) => {
                left_out.push(why);
                None
            }
        };
        let endpoints: Vec<Reached> = plan.endpoints.iter().filter_map(reach).collect();
        let mut view = self.view.lock();
        (view.gateways, view.left_out) = (sharing, left_out);
        drop(view);
        self.find_zone(&gateways);
        Ok(Some(Prepared { plan, processes: Vec::new(), endpoints, leases: Arc::default() }))
    }

    /// The zone of the pod that this is, once the cluster says it.
    fn find_zone(&mut self, gateways: &[Pod]) {
        let Some(own) = &self.pod else { return };
        let zone = gateways.iter().find(|pod| pod.name == *own).and_then(|pod| pod.zone.as_ref());
        let Some(zone) = zone.and_then(|zone| zone.parse::<Zone>().ok()) else { return };
        tracing::info!(zone = zone.name(), "this gateway's zone");
        self.view.lock().zone = Some(zone.name().to_owned());
        self.front.fleet.set_zone(Some(zone));
        self.pod = None;
    }

    fn carry_out(&mut self, prepared: Prepared) {
        if self.front.current.differs_in_pods_only(&prepared.plan) {
            self.front.set_endpoints(prepared);
        } else {
            match self.front.replace(prepared) {
                Ok(changes) => {
                    let generation = self.front.current.generation();
                    tracing::info!(
                        generation,
                        changes = changes.trim_end(),
                        "resources taken over"
                    );
                }
                Err(error) => return self.fail(&error),
            }
        }
        self.view.lock().error = None;
        self.front.gateway.set_readiness(Readiness::Serves);
    }

    fn fail(&self, error: &anyhow::Error) {
        let error = format!("{error:#}");
        tracing::error!(error, "what there is in the cluster cannot be served");
        self.view.lock().error = Some(error);
    }

    #[cfg(test)]
    pub(super) const fn front(&self) -> &Front {
        &self.front
    }
}

/// Pods that sleep get nothing, though they are ready.
fn awake(mut pods: Vec<Pod>, asleep: &[String]) -> Vec<Pod> {
    for pod in pods.iter_mut().filter(|pod| asleep.contains(&pod.name)) {
        pod.stage = Stage::Unready.min(pod.stage);
    }
    pods
}

/// Pods of a version that serves no more: they get nothing new, and end what they have begun.
fn leaving(mut pods: Vec<Pod>) -> Vec<Pod> {
    for pod in &mut pods {
        pod.stage = pod.stage.min(Stage::Leaving);
    }
    pods
}

/// The Services of a Model whose pods serve, or are to.
fn services(name: &str, update: &UpdateStatus) -> Vec<String> {
    let next = update.next.iter().map(|next| &next.revision);
    let versions = update.serving.iter().chain(next);
    let versions = versions.map(|revision| pods::service_of(name, revision));
    std::iter::once(pods::service(name)).chain(versions).collect()
}

/// Where Models are, by their names.
struct Models(BTreeMap<String, (String, Copies)>);

/// Where the copies of a Model are.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
enum Copies {
    /// In pods of its own.
    Own,
    /// In the pods of an InferencePool.
    Pool,
    /// Not in this cluster, as far as is known here.
    Elsewhere,
}

impl Models {
    fn of(admission: &Admission) -> Self {
        let all = admission.identities.iter().zip(&admission.resources);
        let place = |(identity, resource): (&pilotage_plan::cluster::Identity, &Resource)| {
            let Resource::Model(model) = resource else { return None };
            let copies = match (&model.spec.source, model.spec.is_pool()) {
                (Some(_), _) => Copies::Own,
                (None, true) => Copies::Pool,
                (None, false) => Copies::Elsewhere,
            };
            Some((identity.name.clone(), (identity.namespace.clone(), copies)))
        };
        Self(all.filter_map(place).collect())
    }

    /// That of a pool alone.
    fn of_pool(namespace: &str, model: &str) -> Self {
        Self(BTreeMap::from([(model.to_owned(), (namespace.to_owned(), Copies::Pool))]))
    }

    /// The pods of those that run in the cluster, and of their next versions.
    fn pods(&self, known: &Known) -> (BTreeMap<String, Vec<Pod>>, BTreeMap<String, Staged>) {
        let (mut all, mut staged) = (BTreeMap::new(), BTreeMap::new());
        for (name, (namespace, copies)) in &self.0 {
            if *copies == Copies::Pool {
                let pool = pool_of(namespace, name).unwrap_or_default();
                all.insert(name.clone(), known.pods_of_pool(namespace, pool));
            }
            if *copies != Copies::Own {
                continue;
            }
            let mut own = known.pods(namespace, &pods::service(name));
            let state = known.state(namespace, name).cloned().unwrap_or_default();
            let of = |revision: &str| known.pods(namespace, &pods::service_of(name, revision));
            if let Some(update) = state.update {
                own.extend(update.serving.as_deref().map(of).unwrap_or_default());
                own.extend(leaving(known.left(namespace, name, &services(name, &update))));
                let next = update.next.as_ref().map(|next| of(&next.revision)).unwrap_or_default();
                let pods = awake(next, &state.asleep);
                staged.insert(name.clone(), Staged { update, pods });
            }
            all.insert(name.clone(), awake(own, &state.asleep));
        }
        (all, staged)
    }

    /// What speaking to an endpoint takes. Keys of all of them are in one Secret: files and variables of
    /// this pod are not for whoever may write a Model. A region's key, which Models of all namespaces have in
    /// common, goes nowhere but to the origin that is written beside it.
    fn reach(
        &self,
        spec: &EndpointSpec,
        keys: &BTreeMap<String, Secret>,
    ) -> Result<Reached, String> {
        let model = update::model_of(&spec.lane);
        let namespace = self.0.get(model).map(|(namespace, _)| namespace.as_str());
        let entry = match spec.gateway {
            true => pods::key_entry_of_region(spec.region.as_deref().unwrap_or_default()),
            false => pods::key_entry(namespace.unwrap_or_default(), model),
        };
        if spec.key.is_some() {
            return Err(format!(
                "{}: on Kubernetes its key is the entry `{entry}` of the Secret {}, not a file or a variable",
                spec.name,
                pilotage_watch::KEYS,
            ));
        }
        let mut reached = reach(std::slice::from_ref(spec)).map_err(|error| error.to_string())?;
        let mut reached = reached.pop().ok_or_else(|| spec.name.clone())?;
        if let Some(pod) = &mut reached.spec.pod {
            pod.namespace = namespace.map(str::to_owned);
        }
        let kept = keys.get(&entry);
        reached.key = match spec.gateway {
            true => kept.map(|kept| region_key(spec, kept, &entry)).transpose()?,
            false => kept.cloned(),
        };
        Ok(reached)
    }
}
