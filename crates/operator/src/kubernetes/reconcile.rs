//! The loop: what is heard goes into the world, what it asks for is done, as many things at once as is
//! good, one at a time for each resource.

use std::fmt::Write as _;
use std::sync::Arc;
use std::sync::atomic::Ordering;

use futures_util::FutureExt as _;
use futures_util::future::BoxFuture;
use futures_util::stream::{FuturesUnordered, StreamExt as _};
use kube::runtime::events::{Recorder, Reporter};
use pilotage_plan::api::API_VERSION;
use pilotage_plan::cluster::{Action, Failure, KEYS, MANAGER, Plan, Ref, Watched, trouble};
use tokio_util::sync::CancellationToken;

use super::discover::{self, Offered, offered};
use super::watches::{Heard, Watches};
use super::write::{carry_out, collected, existing_key, keep};
use super::{Shared, call, moves};

/// Resources that something is done about at once.
const AT_ONCE_MAX: usize = 16;

/// Things heard that are taken in before something is done again.
const HEARD_MAX: usize = 512;

/// How long the keys' Secret is left alone after it was written or refused: keys come in swarms.
const KEYS_EVERY_MS: u64 = 2_000;

/// What was ended.
enum Done {
    /// What was to be done about a resource.
    Resource(Ref),
    /// What was to be done about keys, and what came of it.
    Keys(Result<(), Failure>),
    /// A look at which kinds there are.
    Offered(Result<Offered, Failure>),
    /// What was to be done about copies whose nodes go.
    Moves,
}

struct Loop {
    shared: Arc<Shared>,
    recorder: Recorder,
    watches: Watches,
    running: FuturesUnordered<BoxFuture<'static, Done>>,
    /// Whether what the keys' Secret holds was read, since this one leads.
    keys_read: bool,
    keys_busy: bool,
    keys_due_ms: u64,
    /// How often in a row keys could not be read or written, and why.
    keys_failures: u32,
    keys_hindrance: Option<String>,
    /// When it is looked next which kinds there are.
    looked_ms: u64,
    offered: Option<Offered>,
}

/// Works until it is told to stop.
pub(super) async fn run(shared: Arc<Shared>, stop: CancellationToken) {
    let mut work = Loop::new(shared);
    let mut leads = work.shared.leads.subscribe();
    loop {
        work.look_around();
        work.act();
        let shared = Arc::clone(&work.shared);
        let due_ms = work.due_ms();
        tokio::select! {
            () = stop.cancelled() => break,
            heard = work.watches.next() => work.hear(heard),
            Some(done) = work.running.next() => work.done(done),
            _ = leads.changed() => work.lead_changed(),
            () = work.shared.nudge.notified() => {}
            () = shared.until_ms(due_ms) => {}
        }
    }
    // What was begun is ended, as far as that is quick.
    let grace = work.shared.pause_ms(5_000);
    tokio::pin!(grace);
    while !work.running.is_empty() {
        tokio::select! {
            () = &mut grace => break,
            _ = work.running.next() => {}
        }
    }
}

/// What would be done, as text.
pub(super) async fn dry_run(shared: &Arc<Shared>) -> Result<String, Failure> {
    list(shared, Sight::Operators).await?;
    // Writing to a text does not fail.
    let mut text = String::new();
    let _ = write!(text, "{}", moved(shared));
    for (_, plan) in plans(shared).await? {
        let _ = write!(text, "{plan}");
    }
    if let Some(keys) = shared.world.lock().plan_keys() {
        let _ = write!(text, "{keys}");
    }
    Ok(text)
}

/// Whose rights are looked with.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(super) enum Sight {
    /// An operator's, who needs all that it asks for but nodes.
    Operators,
    /// Somebody's who is not let see the keys of all Models, nor every kind that others bring.
    Peoples,
}

impl Sight {
    /// Whether one goes on without that.
    fn passes_over(self, watched: Watched) -> bool {
        match watched {
            Watched::Nodes => true,
            Watched::Made(sort) => self == Self::Peoples && sort.is_of_others(),
            Watched::Resources(_) | Watched::Pods => false,
        }
    }
}

/// Hears once of everything that there is.
pub(super) async fn list(shared: &Arc<Shared>, sight: Sight) -> Result<Offered, Failure> {
    let mut work = Loop::new(Arc::clone(shared));
    let offered = offered(&shared.calls).await?;
    work.take(offered);
    match collected(shared).await {
        Ok(keys) => shared.world.lock().collected(keys),
        Err(failure) if failure.code == 403 && sight == Sight::Peoples => {}
        Err(failure) => return Err(failure),
    }
    while work.watches.unsynced() > 0 {
        let heard = work.watches.next().await;
        if let (watched, Err(error)) = &heard {
            let failure = watch_failure(error);
            if failure.code != 403 || !sight.passes_over(*watched) {
                return Err(failure);
            }
        }
        work.hear(heard);
    }
    Ok(offered)
}

/// Most looks at resources of a dry run.
const LOOKS_MAX: usize = 100_000;

/// All that would be done, resource by resource. Keys that are there are read, and others taken to be made.
pub(super) async fn plans(shared: &Arc<Shared>) -> Result<Vec<(Ref, Plan)>, Failure> {
    let mut all = Vec::new();
    for _ in 0..LOOKS_MAX {
        let Some((at, mut plan)) = look(shared) else { break };
        let mut made = Vec::new();
        for action in &plan.actions {
            let Action::Key { about, secret } = action else { continue };
            let there = match existing_key(shared, secret).await {
                // Who may not see it is shown none.
                Err(failure) if failure.code == 403 => Some(String::new()),
                there => there?,
            };
            made.push(there.is_none());
            let now_ms = shared.now_ms();
            shared.world.lock().key(now_ms, about, there.unwrap_or_default());
        }
        let mut made = made.into_iter();
        plan.actions.retain(|action| {
            !matches!(action, Action::Key { .. }) || made.next().unwrap_or_default()
        });
        if !plan.is_empty() {
            all.push((at, plan));
        }
    }
    Ok(all)
}

/// What would be done about copies whose nodes go, which comes before all plans.
pub(super) fn moved(shared: &Shared) -> Plan {
    let mut world = shared.world.lock();
    let plan = world.plan_moves(shared.now_ms());
    world.moves_done();
    plan
}

fn look(shared: &Shared) -> Option<(Ref, Plan)> {
    let now_ms = shared.now_ms();
    let mut world = shared.world.lock();
    let at = world.next(now_ms)?;
    let plan = world.plan(now_ms, &at);
    world.finished(&at);
    Some((at, plan))
}

impl Loop {
    fn new(shared: Arc<Shared>) -> Self {
        let client = shared.calls.client();
        let name = shared.settings.name.clone();
        let reporter = Reporter { controller: MANAGER.to_owned(), instance: Some(name) };
        Self {
            watches: Watches::new(client.clone(), shared.settings.namespace.clone()),
            recorder: Recorder::new(client, reporter),
            running: FuturesUnordered::new(),
            keys_read: false,
            keys_busy: false,
            keys_due_ms: 0,
            keys_failures: 0,
            keys_hindrance: None,
            looked_ms: 0,
            offered: None,
            shared,
        }
    }

    /// Looks which kinds there are, from time to time.
    fn look_around(&mut self) {
        let now_ms = self.shared.now_ms();
        if now_ms < self.looked_ms || self.shared.gate.shut_until().is_some() {
            return;
        }
        self.looked_ms = now_ms + discover::EVERY_MS;
        let calls = self.shared.calls.clone();
        self.running.push(async move { Done::Offered(offered(&calls).await) }.boxed());
    }

    fn looked(&mut self, offered: Result<Offered, Failure>) {
        match offered {
            Ok(offered) => {
                self.shared.gate.answered();
                self.take(offered);
            }
            Err(failure) => {
                tracing::warn!(error = failure.message, "the API server cannot be asked");
                if self.offered.is_none() {
                    let why = format!("the API server cannot be asked: {}", failure.message);
                    *self.shared.hindrance.lock() = Some(why);
                }
                self.looked_ms = 0;
                self.shared.gate.failed(&failure);
            }
        }
    }

    fn take(&mut self, offered: Offered) {
        self.offered = Some(offered);
        let mut world = self.shared.world.lock();
        world.offers(offered.minor, offered.has);
        let setting = world.setting().clone();
        self.watches.follow(&setting, &offered, &mut world);
        drop(world);
        self.note_sync();
    }

    fn hear(&mut self, heard: Heard) {
        let shared = Arc::clone(&self.shared);
        let mut world = shared.world.lock();
        world.heard_at(shared.now_ms());
        let mut next = Some(heard);
        let mut room = HEARD_MAX;
        while let Some((watched, event)) = next {
            match event {
                Ok(event) => self.watches.tell(watched, event, &mut world),
                Err(error) => {
                    let failure = watch_failure(&error);
                    self.watches.failed(watched, &failure);
                    let is_forbidden = failure.code == 403;
                    if !(is_forbidden && self.watches.shut_out(watched, &mut world)) {
                        watch_failed(&shared, watched, &error);
                    }
                }
            }
            room -= 1;
            // What is taken out of a watch is told: it does not come again.
            next = (room > 0).then(|| self.watches.ready()).flatten();
        }
        drop(world);
        shared.counters.heard(shared.now_ms());
        shared.changed.send_modify(|count| *count += 1);
        self.note_sync();
    }

    fn note_sync(&self) {
        let unsynced = self.watches.unsynced();
        self.shared.counters.unsynced(unsynced);
        let is_ours = self.offered.is_some_and(|offered| offered.is_ours);
        let hindrance = match is_ours {
            false if self.offered.is_none() => return,
            false => Some(format!(
                "the cluster does not serve {API_VERSION}: install the definitions with `pilotage crd | kubectl apply --server-side -f -`"
            )),
            true => self.watches.hindrance(),
        };
        self.shared.is_synced.store(hindrance.is_none(), Ordering::Relaxed);
        *self.shared.hindrance.lock() = hindrance.or_else(|| self.keys_hindrance.clone());
    }

    /// Begins what is due.
    fn act(&mut self) {
        let is_synced = self.shared.is_synced.load(Ordering::Relaxed);
        if !is_synced || !self.shared.leads() || self.shared.gate.shut_until().is_some() {
            return;
        }
        self.act_on_keys();
        self.act_on_moves();
        let now_ms = self.shared.now_ms();
        while self.running.len() < AT_ONCE_MAX {
            let mut world = self.shared.world.lock();
            let Some(at) = world.next(now_ms) else { break };
            let plan = world.plan(now_ms, &at);
            self.shared.counters.looked(world.waiting());
            drop(world);
            if !plan.is_empty() {
                self.start(at, plan);
            }
        }
    }

    fn start(&self, at: Ref, plan: Plan) {
        let (shared, recorder) = (Arc::clone(&self.shared), self.recorder.clone());
        let work = async move { Done::Resource(carry_out(&shared, &recorder, at, plan).await) };
        self.running.push(work.boxed());
    }

    fn act_on_moves(&self) {
        let shared = Arc::clone(&self.shared);
        let plan = shared.world.lock().plan_moves(shared.now_ms());
        if plan.is_empty() {
            return;
        }
        let recorder = self.recorder.clone();
        let work = async move {
            moves::carry_out(shared, recorder, plan).await;
            Done::Moves
        };
        self.running.push(work.boxed());
    }

    fn lead_changed(&mut self) {
        self.keys_read = false;
        (self.keys_failures, self.keys_due_ms, self.keys_hindrance) = (0, 0, None);
        self.note_sync();
        self.shared.world.lock().look_at_ground();
    }

    fn act_on_keys(&mut self) {
        if self.keys_busy || self.shared.now_ms() < self.keys_due_ms {
            return;
        }
        let shared = Arc::clone(&self.shared);
        if !self.keys_read {
            self.keys_busy = true;
            let work = async move {
                let read = collected(&shared).await;
                Done::Keys(read.map(|keys| shared.world.lock().collected(keys)))
            };
            return self.running.push(work.boxed());
        }
        let Some(action) = self.shared.world.lock().plan_keys() else { return };
        self.keys_busy = true;
        self.running.push(async move { Done::Keys(keep(&shared, &action).await) }.boxed());
    }

    fn done(&mut self, done: Done) {
        match done {
            Done::Resource(at) => self.shared.world.lock().finished(&at),
            Done::Moves => self.shared.world.lock().moves_done(),
            Done::Keys(done) => self.keys_done(done),
            Done::Offered(offered) => self.looked(offered),
        }
    }

    fn keys_done(&mut self, done: Result<(), Failure>) {
        self.keys_busy = false;
        let before = self.keys_hindrance.take();
        match done {
            Ok(()) => (self.keys_read, self.keys_failures) = (true, 0),
            Err(failure) => {
                self.keys_failures += 1;
                if failure.is_servers() {
                    self.shared.gate.failed(&failure);
                } else {
                    self.keys_hindrance = Some(no_keys(&failure));
                }
                if self.keys_hindrance.is_none() || self.keys_hindrance != before {
                    tracing::warn!(
                        error = failure.message,
                        "the keys of engines cannot be read or written"
                    );
                }
            }
        }
        let doubled = KEYS_EVERY_MS << self.keys_failures.min(5);
        self.keys_due_ms = self.shared.now_ms() + doubled;
        self.note_sync();
    }

    /// When something is due though nothing is heard.
    fn due_ms(&self) -> u64 {
        let now_ms = self.shared.now_ms();
        if let Some(until) = self.shared.gate.shut_until() {
            return self.shared.origin_ms + until / 1_000_000 + 1;
        }
        let mut due_ms = self.looked_ms.max(now_ms + 1);
        let is_synced = self.shared.is_synced.load(Ordering::Relaxed);
        if is_synced && self.shared.leads() && self.running.len() < AT_ONCE_MAX {
            let world = self.shared.world.lock();
            let next_ms = world.wakeup_ms().into_iter().chain(world.moves_due_ms()).min();
            due_ms = due_ms.min(next_ms.unwrap_or(u64::MAX));
            if (world.is_collecting() || !self.keys_read) && !self.keys_busy {
                due_ms = due_ms.min(self.keys_due_ms);
            }
        }
        due_ms.max(now_ms + 1)
    }
}

fn no_keys(failure: &Failure) -> String {
    let advice = match trouble(failure) {
        Some(trouble) => trouble.tell(&failure.message),
        None => failure.message.clone(),
    };
    format!("gateways do not get the keys of engines: the Secret `{KEYS}` cannot be kept: {advice}")
}

fn watch_failed(shared: &Shared, watched: Watched, error: &kube::runtime::watcher::Error) {
    shared.counters.watch_failed();
    tracing::warn!(?watched, error = %error, "a watch failed");
}

fn watch_failure(error: &kube::runtime::watcher::Error) -> Failure {
    use kube::runtime::watcher::Error;
    match error {
        Error::InitialListFailed(error)
        | Error::WatchStartFailed(error)
        | Error::WatchFailed(error) => call::failure(error),
        other => Failure { message: other.to_string(), ..Failure::default() },
    }
}
