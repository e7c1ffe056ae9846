//! The loop: look at the list, fetch, ask the engine what it has, tell it what differs.
//!
//! Contract: it waits for no download, and for nothing that the engine was told to do.

use std::collections::{BTreeMap, BTreeSet};
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use pilotage_plan::adapters::{AdapterList, AdapterTold, BYTES_MAX, Listed, State, Told};
use pilotage_shell::{files, tasks};
use tokio::sync::{mpsc, watch};

use super::engine::{Engine, Listing, Unheard};
use super::errand::{Ended, Errand};
use super::{
    ERRANDS_MAX, EVERY, FETCHES_MAX, FIRST_PATIENCE, Fetch, Folders, KEPT, LINGER, RETRY,
    RETRY_MAX, Settings, Step, steps,
};
use crate::weights::Held;

/// Keeps one engine's adapters.
pub(super) struct Keeper<E, F> {
    settings: Settings,
    engine: Arc<E>,
    fetch: Arc<F>,
    told: watch::Sender<Told>,
    /// What the list names.
    wanted: BTreeMap<String, Listed>,
    list_trouble: Option<String>,
    /// Files that are there, or were of use a while ago.
    kept: Vec<Kept>,
    underway: BTreeSet<String>,
    done: (mpsc::Sender<Fetched>, mpsc::Receiver<Fetched>),
    troubles: BTreeMap<String, Trouble>,
    /// What the engine has.
    loaded: Folders,
    /// What it is being told, by adapters, with the folders that it may read meanwhile.
    errands: BTreeMap<String, Vec<PathBuf>>,
    ended: (mpsc::Sender<Ended>, mpsc::Receiver<Ended>),
    /// How often it was found gone: what an errand to one before came to says nothing of this one.
    life: u64,
    /// Since when those are listed no more that are still loaded.
    leaving: BTreeMap<String, u64>,
    silence: Option<String>,
    /// Since when the engine says anything.
    up_nanos: Option<u64>,
    is_ready: bool,
}

/// Files of an adapter.
struct Kept {
    of: Listed,
    held: Held,
    unused_nanos: Option<u64>,
}

/// What went wrong about one.
struct Trouble {
    of: Listed,
    what: String,
    times: u32,
    again_nanos: u64,
}

struct Fetched {
    of: Listed,
    result: Result<Held, String>,
}

impl<E: Engine + 'static, F: Fetch> Keeper<E, F> {
    pub(super) fn new(
        settings: Settings,
        engine: Arc<E>,
        fetch: Arc<F>,
        told: watch::Sender<Told>,
    ) -> Self {
        Self {
            settings,
            engine,
            fetch,
            told,
            wanted: BTreeMap::new(),
            list_trouble: None,
            kept: Vec::new(),
            underway: BTreeSet::new(),
            done: mpsc::channel(FETCHES_MAX),
            troubles: BTreeMap::new(),
            loaded: Folders::new(),
            errands: BTreeMap::new(),
            ended: mpsc::channel(ERRANDS_MAX),
            life: 0,
            leaving: BTreeMap::new(),
            silence: None,
            up_nanos: None,
            is_ready: false,
        }
    }

    pub(super) async fn run(mut self) {
        loop {
            self.read_list();
            self.begin_fetches();
            self.look().await;
            self.forget_files();
            self.tell();
            let pause = tokio::time::sleep(EVERY);
            tokio::pin!(pause);
            tokio::select! {
                () = &mut pause => {}
                Some(fetched) = self.done.1.recv() => self.fetched(fetched),
                Some(ended) = self.ended.1.recv() => self.ended(ended),
            }
            while let Ok(ended) = self.ended.1.try_recv() {
                self.ended(ended);
            }
        }
    }

    fn now(&self) -> u64 {
        self.settings.clock.now_nanos()
    }

    /// What is listed now; what was listed before, where that cannot be read.
    fn read_list(&mut self) {
        let text = files::read_bounded(&self.settings.list, BYTES_MAX);
        let list = text.map_err(|error| error.to_string());
        let list = list
            .and_then(|text| AdapterList::read(&text).map_err(|error| error.to_string()))
            .map_err(|error| format!("{}: {error}", self.settings.list.display()));
        let list = match list {
            Ok(list) => list,
            Err(error) => {
                if self.list_trouble.as_ref() != Some(&error) {
                    tracing::warn!(
                        error,
                        "the list of adapters is of no use; what it said before holds"
                    );
                }
                self.list_trouble = Some(error);
                return;
            }
        };
        self.list_trouble = None;
        self.wanted = list.adapters.into_iter().map(|one| (one.name.clone(), one)).collect();
        let wanted = &self.wanted;
        self.troubles.retain(|name, trouble| wanted.get(name) == Some(&trouble.of));
    }

    fn begin_fetches(&mut self) {
        let now = self.now();
        for (name, of) in &self.wanted {
            if self.underway.len() >= FETCHES_MAX {
                return;
            }
            let is_there = self.kept.iter().any(|kept| kept.of == *of);
            let is_early = self.troubles.get(name).is_some_and(|one| one.again_nanos > now);
            if is_there || is_early || !self.underway.insert(name.clone()) {
                continue;
            }
            let (fetch, of, done) = (Arc::clone(&self.fetch), of.clone(), self.done.0.clone());
            let work = async move {
                let result = fetch.fetch(&of).await;
                // Who would want it is gone only when all of this ends.
                let _ = done.send(Fetched { of, result }).await;
            };
            drop(tasks::spawn("adapter", work));
        }
    }

    fn fetched(&mut self, Fetched { of, result }: Fetched) {
        self.underway.remove(&of.name);
        match result {
            Ok(held) => self.kept.push(Kept { of, held, unused_nanos: None }),
            Err(why) if self.wanted.get(&of.name) == Some(&of) => {
                self.failed(&of, format!("it cannot be fetched: {why}"));
            }
            Err(_) => {}
        }
    }

    fn failed(&mut self, of: &Listed, what: String) {
        let before = self.troubles.get(&of.name).map_or(0, |trouble| trouble.times);
        let pause = RETRY.saturating_mul(1 << before.min(16)).min(RETRY_MAX);
        warn(&of.name, &what, pause);
        let again_nanos = self.now().saturating_add(nanos(pause));
        let trouble =
            Trouble { of: of.clone(), what, times: before.saturating_add(1), again_nanos };
        self.troubles.insert(of.name.clone(), trouble);
    }

    /// Asks the engine what it has, and tells it what differs.
    async fn look(&mut self) {
        match self.engine.listed().await {
            Ok(listing) => {
                self.silence = None;
                self.heard(listing);
                self.settle().await;
            }
            Err(Unheard::Gone) => {
                // One that comes back has none.
                self.silence = Some("nobody listens there: it starts, or has ended".to_owned());
                self.loaded.clear();
                self.life = self.life.saturating_add(1);
                self.up_nanos = None;
                self.is_ready = false;
                return;
            }
            Err(Unheard::Silent(why)) => self.silence = Some(why),
        }
        let now = self.now();
        let up_nanos = *self.up_nanos.get_or_insert(now);
        let is_over = now >= up_nanos.saturating_add(nanos(FIRST_PATIENCE));
        self.is_ready |= is_over || (self.silence.is_none() && self.is_settled());
    }

    /// Believes what an engine lists.
    fn heard(&mut self, listing: Listing) {
        if listing.is_sure {
            self.loaded.retain(|name, _| listing.adapters.contains_key(name));
        }
        for (name, folder) in listing.adapters {
            match folder {
                Some(folder) => _ = self.loaded.insert(name, folder),
                // Whoever loaded it did not say from where.
                None => _ = self.loaded.entry(name).or_default(),
            }
        }
    }

    /// What the engine is to have now: what is listed, once its files are there, and until then what it has.
    fn target(&mut self) -> Folders {
        let now = self.now();
        let mut target = Folders::new();
        for (name, of) in &self.wanted {
            let fetched = self.kept.iter().find(|kept| kept.of == *of);
            let folder = fetched.map(|kept| kept.held.path.clone());
            if let Some(folder) = folder.or_else(|| self.loaded.get(name).cloned()) {
                target.insert(name.clone(), folder);
            }
        }
        self.leaving
            .retain(|name, _| self.loaded.contains_key(name) && !self.wanted.contains_key(name));
        for (name, folder) in &self.loaded {
            if self.wanted.contains_key(name) {
                continue;
            }
            let since = *self.leaving.entry(name.clone()).or_insert(now);
            if now < since.saturating_add(nanos(LINGER)) {
                target.insert(name.clone(), folder.clone());
            }
        }
        target
    }

    /// Begins what leads from what the engine has to what it is to have.
    async fn settle(&mut self) {
        let target = self.target();
        let mut todo = steps(&self.loaded, &target);
        todo.retain(|step| {
            let is_off = matches!(step, Step::Off(_));
            !self.errands.contains_key(step.name()) && (is_off || !self.is_early(step.name()))
        });
        if todo.iter().any(|step| matches!(step, Step::Off(_))) {
            // What they make room for comes with the next look.
            todo.retain(|step| matches!(step, Step::Off(_)));
        }
        if todo.is_empty() || self.engine.is_asleep().await {
            return;
        }
        let room = ERRANDS_MAX.saturating_sub(self.errands.len());
        todo.into_iter().take(room).for_each(|step| self.begin(step));
    }

    fn begin(&mut self, step: Step) {
        let name = step.name().to_owned();
        let before = match &step {
            // From now on it may refuse requests for it.
            Step::Swap(..) => self.loaded.remove(&name),
            Step::Off(_) | Step::On(..) => self.loaded.get(&name).cloned(),
        };
        let of = self.wanted.get(&name).cloned();
        let errand = Errand { step, before, of, life: self.life };
        self.errands.insert(name, errand.folders());
        let (engine, ended) = (Arc::clone(&self.engine), self.ended.0.clone());
        let work = async move {
            // Who would want it is gone only when all of this ends.
            let _ = ended.send(errand.run(&*engine).await).await;
        };
        drop(tasks::spawn("errand", work));
    }

    fn ended(&mut self, Ended { errand, has, why }: Ended) {
        let name = errand.step.name();
        self.errands.remove(name);
        if errand.life != self.life {
            return;
        }
        match has {
            Some(folder) => drop(self.loaded.insert(name.to_owned(), folder)),
            None => drop(self.loaded.remove(name)),
        }
        match (&errand.step, why) {
            (Step::Off(_), None) => {
                tracing::info!(adapter = name, "an adapter was unloaded");
            }
            (Step::Off(_), Some(why)) => {
                warn_of_stay(name, &why);
                // It is asked again, and not at once.
                self.leaving.insert(name.to_owned(), self.now());
            }
            (Step::Swap(_, folder) | Step::On(_, folder), None) => {
                tracing::info!(adapter = name, folder = %folder.display(), "an adapter was loaded");
                self.troubles.remove(name);
            }
            (Step::Swap(..) | Step::On(..), Some(why)) => match errand.of {
                Some(of) if self.wanted.get(name) == Some(&of) => self.failed(&of, why),
                _ => {}
            },
        }
    }

    /// Whether it is too early to try again what failed.
    fn is_early(&self, name: &str) -> bool {
        let now = self.now();
        self.troubles.get(name).is_some_and(|trouble| trouble.again_nanos > now)
    }

    /// Whether each of the list was loaded, or failed.
    fn is_settled(&self) -> bool {
        self.wanted
            .keys()
            .all(|name| self.state(name) == State::Loaded || self.troubles.contains_key(name))
    }

    fn state(&self, name: &str) -> State {
        let Some(of) = self.wanted.get(name) else { return State::Leaving };
        let fetched = self.kept.iter().find(|kept| kept.of == *of);
        match (self.loaded.get(name), fetched) {
            (Some(there), Some(kept)) if *there == kept.held.path => State::Loaded,
            (Some(_), _) => State::Older,
            (None, None) => State::Fetching,
            (None, Some(_)) => State::Waiting,
        }
    }

    /// Lets go of files that nothing has named for a while.
    fn forget_files(&mut self) {
        let now = self.now();
        for kept in &mut self.kept {
            let is_wanted = self.wanted.get(&kept.of.name) == Some(&kept.of);
            let mut folders = self.loaded.values().chain(self.errands.values().flatten());
            let is_used = is_wanted || folders.any(|folder| *folder == kept.held.path);
            kept.unused_nanos = if is_used { None } else { kept.unused_nanos.or(Some(now)) };
        }
        let before = self.kept.len();
        let is_over = |since: u64| now >= since.saturating_add(nanos(KEPT));
        self.kept.retain(|kept| !kept.unused_nanos.is_some_and(is_over));
        if self.kept.len() < before {
            self.fetch.sweep();
        }
    }

    fn tell(&self) {
        let names: BTreeSet<&String> = self.wanted.keys().chain(self.loaded.keys()).collect();
        let one = |name: &String| AdapterTold {
            name: name.clone(),
            source: self.wanted.get(name).map(|of| of.source.clone()),
            state: self.state(name),
            trouble: self.troubles.get(name).map(|trouble| trouble.what.clone()),
        };
        let told = Told {
            ready: self.is_ready,
            list: self.list_trouble.clone(),
            engine: self.silence.clone(),
            adapters: names.into_iter().map(one).collect(),
        };
        self.told.send_if_modified(|before| {
            let changes = *before != told;
            *before = told;
            changes
        });
    }
}

fn warn_of_stay(adapter: &str, why: &str) {
    tracing::warn!(
        adapter,
        why,
        again_s = LINGER.as_secs(),
        "the engine does not unload an adapter; it is asked again"
    );
}

fn warn(adapter: &str, what: &str, pause: Duration) {
    tracing::warn!(
        adapter,
        what,
        again_s = pause.as_secs(),
        "an adapter is not there; it is tried again"
    );
}

fn nanos(span: Duration) -> u64 {
    u64::try_from(span.as_nanos()).unwrap_or(u64::MAX)
}
