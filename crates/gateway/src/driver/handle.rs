//! The way to a lane, for everybody to whom something happens there.

use std::collections::BTreeSet;
use std::fmt;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use parking_lot::Mutex;
use pilotage_core::health::Probe;
use pilotage_core::route::Bounds;
use pilotage_core::traffic::Regions;
use pilotage_core::{
    Input, Prompt, ReplicaId, Report, Request, RequestId, Scheduler, SchedulerConfig, TenantTree,
    Time,
};
use pilotage_shell::client::Client;
use pilotage_shell::clock::Clock;
use pilotage_shell::tasks;
use tokio::sync::{Notify, oneshot};

use super::{Driver, Lack, LaneExplanation, LaneStatus, Message, Replica, Ticket, Up, mailbox};
use crate::metrics::{Fault, LaneGauges};

/// The way to a lane. Clones are the same one.
#[derive(Clone, Debug)]
pub struct LaneHandle {
    name: Arc<str>,
    pub(super) shared: Arc<Shared>,
    up: Arc<Up>,
    /// Whether its model has adapters, so that replicas are asked for which they have.
    has_adapters: Arc<AtomicBool>,
}

/// A lane's scheduler, for one at a time.
pub(super) struct Shared {
    pub(super) driver: Mutex<Driver>,
    /// The loop has to look at the time anew.
    sooner: Notify,
}

impl fmt::Debug for Shared {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Shared").finish_non_exhaustive()
    }
}

impl Shared {
    /// Takes in what happened; returns whether the loop has to look at the time anew.
    fn happened(&self, lane: &str, message: Message) -> bool {
        let (late, news) = self.driver.lock().happened(message);
        news.iter().for_each(|news| news.tell(lane));
        late
    }
}

/// How long a lane whose loop ended in a panic is without one.
const AGAIN: Duration = Duration::from_millis(100);

/// Keeps a loop that watches the time for a lane until that is gone.
async fn keep_time(shared: Arc<Shared>, name: Arc<str>, clock: Clock) {
    loop {
        let watching = watch_time(Arc::clone(&shared), Arc::clone(&name), clock);
        if tasks::spawn("lane", watching).await.is_ok_and(|ended| ended.is_some()) {
            return;
        }
        tokio::time::sleep(AGAIN).await;
    }
}

/// Watches the time for a lane until that is gone.
async fn watch_time(shared: Arc<Shared>, name: Arc<str>, clock: Clock) {
    loop {
        let Some(armed) = shared.driver.lock().arm() else { return };
        let alarm = async {
            match armed {
                Some(at) => clock.sleep_until_nanos(at.as_nanos()).await,
                None => std::future::pending().await,
            }
        };
        tokio::select! {
            () = shared.sooner.notified() => {}
            () = alarm => {
                shared.happened(&name, Message::Happened(Input::Tick));
            }
        }
    }
}

impl LaneHandle {
    /// Starts a lane.
    pub(crate) fn start(
        name: String,
        (config, tenants): (SchedulerConfig, TenantTree),
        client: Client,
        clock: Clock,
        gauges: LaneGauges,
    ) -> Self {
        let mut scheduler = Scheduler::new(config);
        scheduler.set_tenants(Time::ZERO, tenants);
        let driver = Driver::new(name.clone(), scheduler, clock, gauges);
        let up = Arc::clone(&driver.up);
        let shared = Arc::new(Shared { driver: Mutex::new(driver), sooner: Notify::new() });
        let has_adapters = Arc::default();
        let lane = Self { name: name.into(), shared: Arc::clone(&shared), up, has_adapters };
        shared.driver.lock().reading = Some((client, lane.clone()));
        drop(tasks::spawn("lanes", keep_time(shared, Arc::clone(&lane.name), clock)));
        lane
    }

    /// A replica may be used.
    pub fn replica_up(&self, id: ReplicaId, replica: Replica) {
        self.send(Message::Up(id, Arc::new(replica)));
    }

    /// A replica must not be used any more: it is gone, and what was in flight there fails at once
    /// instead of waiting for its connection to break.
    pub fn replica_down(&self, id: ReplicaId) {
        self.send(Message::Down(id));
    }

    /// The same of one that was not meant to go: what ran there is suspected of it.
    pub fn replica_died(&self, id: ReplicaId) {
        self.send(Message::Died(id));
    }

    /// The replicas at these addresses: host and port, or a host with whichever port.
    pub(crate) fn at(&self, addresses: &[String]) -> Vec<ReplicaId> {
        self.shared.driver.lock().at(addresses)
    }

    /// Whether any of its replicas is a gateway of another region.
    pub(crate) fn has_gateways(&self) -> bool {
        self.shared.driver.lock().has_gateways()
    }

    /// Whether any replica that is no gateway of another region takes work.
    pub(crate) fn is_open_near(&self) -> bool {
        self.up.near.load(Ordering::Relaxed) > 0
    }

    /// Whether any of those gets work, as far as its answers tell.
    pub(crate) fn works_near(&self) -> bool {
        self.is_open_near() && self.shared.driver.lock().works_near()
    }

    /// Requests that wait, requests at replicas, and replicas that take work.
    pub(crate) fn load(&self) -> (u32, u32, u32) {
        self.shared.driver.lock().load()
    }

    /// All replicas that are known.
    pub(crate) fn replicas(&self) -> Vec<Arc<Replica>> {
        self.shared.driver.lock().known_replicas()
    }

    /// Its name: the model's.
    pub(crate) fn name(&self) -> &str {
        &self.name
    }

    /// Requests that wait for their turn.
    pub(crate) fn waiting(&self) -> u32 {
        self.up.waiting.load(Ordering::Relaxed)
    }

    /// The attempt of a request at a replica failed so.
    pub(crate) fn faulted(&self, id: RequestId, fault: Fault) {
        self.shared.driver.lock().faulted(id, fault);
    }

    /// Whether any replica takes work.
    pub(crate) fn is_open(&self) -> bool {
        self.up() > 0
    }

    /// Replicas that take work.
    pub(crate) fn up(&self) -> u32 {
        self.up.all.load(Ordering::Relaxed)
    }

    /// Limits and policies from now on.
    pub(crate) fn set_config(&self, config: SchedulerConfig) {
        self.send(Message::Config(Box::new(config)));
    }

    /// Where replicas are preferred from now on.
    pub(crate) fn set_regions(&self, regions: Option<Regions>) {
        self.send(Message::Regions(regions));
    }

    /// Tenants from now on.
    pub(crate) fn set_tenants(&self, tenants: TenantTree) {
        self.send(Message::Tenants(tenants));
    }

    /// What a replica says about itself: it corrects the ledger for a few seconds.
    pub fn replica_reports(&self, replica: ReplicaId, report: Report) {
        self.send(Message::Happened(Input::Reported { replica, report }));
    }

    /// How a health check of a replica went.
    pub(crate) fn replica_checked(&self, replica: ReplicaId, probe: Probe) {
        self.send(Message::Happened(Input::Checked { replica, probe }));
    }

    /// Nobody listens at a replica's address.
    pub(crate) fn replica_refused(&self, replica: ReplicaId) {
        self.send(Message::Happened(Input::Refused { replica }));
    }

    /// Which adapters a replica has loaded, by their keys.
    pub(crate) fn replica_adapters(&self, replica: ReplicaId, adapters: Vec<u64>) {
        self.send(Message::Adapters(replica, adapters));
    }

    /// Which adapters a replica can be asked for.
    pub(crate) fn replica_lists(&self, replica: ReplicaId, adapters: BTreeSet<String>) {
        self.send(Message::Listed(replica, adapters));
    }

    /// The replica that a request is at refused its adapter.
    pub(crate) fn adapter_refused(&self, id: RequestId, adapter: u64) {
        self.shared.driver.lock().refused(id, adapter);
    }

    /// What those that take work lack for a request.
    pub(crate) fn lack(&self, bounds: &Bounds) -> Option<Lack> {
        self.shared.driver.lock().lack(bounds)
    }

    /// Whether a request may go to another replica than the one that it is at.
    pub(crate) fn others_may(&self, id: RequestId, bounds: &Bounds) -> bool {
        self.shared.driver.lock().others_may(id, bounds)
    }

    /// Whether its model has adapters.
    pub(crate) fn has_adapters(&self) -> bool {
        self.has_adapters.load(Ordering::Relaxed)
    }

    /// Whether its model has adapters from now on.
    pub(crate) fn set_has_adapters(&self, has: bool) {
        self.has_adapters.store(has, Ordering::Relaxed);
    }

    /// A replica dropped so many tokens from its prefix cache; `u64::MAX` for all.
    pub fn replica_evicted(&self, replica: ReplicaId, tokens: u64) {
        self.send(Message::Happened(Input::Evicted { replica, tokens }));
    }

    /// A replica shows how many tokens its prefix cache holds, in its accelerator's memory and in the
    /// host's, where that is known.
    pub(crate) fn replica_cache(&self, replica: ReplicaId, device: Option<u64>, host: Option<u64>) {
        self.send(Message::Happened(Input::CacheSize { replica, device, host }));
    }

    /// Nothing new is let in, and the lane ends with the last request.
    pub(crate) fn retire(&self) {
        self.send(Message::Retire);
    }

    /// Nothing new is let in.
    pub(crate) fn drain(&self) {
        self.send(Message::Happened(Input::Drain));
    }

    /// A request gets in line.
    pub(crate) fn arrive(&self, request: Request, prompt: Prompt) -> Ticket {
        let (say, turns) = mailbox::new();
        self.send(Message::Arrive(request, prompt, say));
        Ticket::new(request.id, self.clone(), turns)
    }

    /// A copy of a request that runs goes out under an id of its own; where it may not, its ticket is
    /// over at once.
    pub(crate) fn hedge(&self, of: RequestId, id: RequestId) -> Ticket {
        let (say, turns) = mailbox::new();
        self.send(Message::Hedge(of, id, say));
        Ticket::of_copy(id, self.clone(), turns)
    }

    /// What the lane looks like; none when it is gone.
    pub(crate) async fn status(&self) -> Option<LaneStatus> {
        let (reply, status) = oneshot::channel();
        self.send(Message::Status(reply));
        status.await.ok()
    }

    /// What would become of a request; none when the lane's loop is gone.
    pub(crate) async fn explain(
        &self,
        request: Request,
        prompt: Prompt,
    ) -> Option<LaneExplanation> {
        let (reply, told) = oneshot::channel();
        self.send(Message::Explain(Box::new((request, prompt)), reply));
        told.await.ok()
    }

    pub(super) fn send(&self, message: Message) {
        if self.shared.happened(&self.name, message) {
            self.shared.sooner.notify_one();
        }
    }
}
