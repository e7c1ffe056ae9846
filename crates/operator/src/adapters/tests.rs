//! A scripted engine, scripted downloads, and time that stands still until nothing else is to be done.

use std::collections::{BTreeMap, BTreeSet};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use parking_lot::Mutex;
use pilotage_plan::adapters::{AdapterList, Listed, State, Told};
use pilotage_shell::clock::Clock;
use pilotage_shell::tasks;
use tempfile::TempDir;
use tokio::sync::watch;
use tokio::task::JoinHandle;

use super::{Engine, FIRST_PATIENCE, Fetch, KEPT, LINGER, Listing, Settings, Unheard, keep};
use crate::weights::Held;

/// What an engine does.
#[derive(Default)]
struct Script {
    is_gone: bool,
    is_silent: bool,
    is_asleep: bool,
    /// Whether it lists no adapters, as older releases of SGLang.
    is_mute: bool,
    adapters: BTreeMap<String, PathBuf>,
    /// Folders that it does not load, and what it says.
    refuses: BTreeMap<String, &'static str>,
    /// How long answers take, as `unload sql`; what was asked is done before.
    takes: BTreeMap<String, Duration>,
    /// Answers to unloading that are lost.
    lost: usize,
    /// What it was told.
    log: Vec<String>,
}

#[derive(Clone, Default)]
struct Scripted(Arc<Mutex<Script>>);

impl Engine for Scripted {
    async fn listed(&self) -> Result<Listing, Unheard> {
        let script = self.0.lock();
        match (script.is_gone, script.is_silent, script.is_mute) {
            (true, ..) => Err(Unheard::Gone),
            (_, true, _) => Err(Unheard::Silent("503".to_owned())),
            (.., true) => Ok(Listing::default()),
            _ => {
                let adapters = script.adapters.iter();
                let adapters = adapters.map(|(name, at)| (name.clone(), Some(at.clone())));
                Ok(Listing { adapters: adapters.collect(), is_sure: true })
            }
        }
    }

    async fn is_asleep(&self) -> bool {
        self.0.lock().is_asleep
    }

    async fn load(&self, name: &str, folder: &Path) -> Result<(), String> {
        let takes = {
            let mut script = self.0.lock();
            script.log.push(format!("load {name} {}", folder.display()));
            if script.adapters.contains_key(name) {
                return Err("400: it has already been loaded".to_owned());
            }
            if let Some(why) = script.refuses.get(&folder.display().to_string()) {
                return Err((*why).to_owned());
            }
            script.adapters.insert(name.to_owned(), folder.to_owned());
            script.takes.get(&format!("load {name}")).copied().unwrap_or_default()
        };
        tokio::time::sleep(takes).await;
        Ok(())
    }

    async fn unload(&self, name: &str) -> Result<(), String> {
        let (takes, result) = {
            let mut script = self.0.lock();
            script.log.push(format!("unload {name}"));
            let was_there = script.adapters.remove(name).is_some();
            let takes = script.takes.get(&format!("unload {name}")).copied().unwrap_or_default();
            let result = match (was_there, script.lost) {
                (false, _) => Err("404: not found".to_owned()),
                (true, 0) => Ok(()),
                (true, _) => Err("no answer within 300 s".to_owned()),
            };
            script.lost = script.lost.saturating_sub(1);
            (takes, result)
        };
        tokio::time::sleep(takes).await;
        result
    }
}

/// Where files come from.
#[derive(Clone, Default)]
struct Shelf(Arc<Mutex<Books>>);

#[derive(Default)]
struct Books {
    takes: Duration,
    missing: BTreeSet<String>,
    fetched: Vec<String>,
    sweeps: usize,
}

impl Fetch for Shelf {
    async fn fetch(&self, adapter: &Listed) -> Result<Held, String> {
        let source = adapter.source.to_string();
        let takes = {
            let mut books = self.0.lock();
            books.fetched.push(source.clone());
            books.takes
        };
        tokio::time::sleep(takes).await;
        if self.0.lock().missing.contains(&source) {
            return Err("404 Not Found".to_owned());
        }
        let path = format!("/files/{}", source.trim_start_matches("hf:o/"));
        Ok(Held { path: path.into(), lease: None })
    }

    fn sweep(&self) {
        self.0.lock().sweeps += 1;
    }
}

/// An engine with who keeps its adapters.
struct Rig {
    folder: TempDir,
    clock: Clock,
    engine: Scripted,
    shelf: Shelf,
    told: watch::Receiver<Told>,
    work: JoinHandle<Option<()>>,
}

impl Rig {
    fn start(list: &[(&str, &str)], prepare: impl FnOnce(&mut Script, &mut Books)) -> Self {
        let folder = tempfile::tempdir().unwrap();
        let (engine, shelf, clock) = (Scripted::default(), Shelf::default(), Clock::start());
        prepare(&mut engine.0.lock(), &mut shelf.0.lock());
        let (sender, told) = watch::channel(Told::default());
        let work = begin(&folder, clock, (&engine, &shelf), sender);
        let rig = Self { folder, clock, engine, shelf, told, work };
        rig.list(list);
        rig
    }

    /// Another list.
    fn list(&self, list: &[(&str, &str)]) {
        let one = |(name, source): &(&str, &str)| {
            ((*name).to_owned(), format!("hf:o/{source}").parse().unwrap())
        };
        let list = AdapterList::of(&list.iter().map(one).collect(), None);
        self.write(&list.text());
    }

    fn write(&self, text: &str) {
        std::fs::write(self.folder.path().join("list"), text).unwrap();
    }

    /// The process beside the engine, begun anew.
    fn again(&mut self) {
        self.work.abort();
        let (sender, told) = watch::channel(Told::default());
        self.work = begin(&self.folder, self.clock, (&self.engine, &self.shelf), sender);
        self.told = told;
    }

    async fn until(&mut self, what: impl Fn(&Told) -> bool) -> Told {
        self.told.wait_for(|told| what(told)).await.unwrap().clone()
    }

    async fn until_ready(&mut self) -> Told {
        self.until(|told| told.ready).await
    }

    async fn until_states(&mut self, expect: &[(&str, State)]) -> Told {
        let is_so = |told: &Told| {
            let got = told.adapters.iter().map(|one| (one.name.as_str(), one.state));
            got.eq(expect.iter().copied())
        };
        self.until(is_so).await
    }

    fn log(&self) -> Vec<String> {
        self.engine.0.lock().log.clone()
    }

    fn seconds(&self) -> u64 {
        self.clock.now_nanos() / 1_000_000_000
    }
}

fn begin(
    folder: &TempDir,
    clock: Clock,
    (engine, shelf): (&Scripted, &Shelf),
    told: watch::Sender<Told>,
) -> JoinHandle<Option<()>> {
    let settings = Settings { list: folder.path().join("list"), clock };
    tasks::spawn("keep", keep(settings, engine.clone(), shelf.clone(), told))
}

async fn pass(span: Duration) {
    tokio::time::sleep(span).await;
}

const MINUTE: Duration = Duration::from_secs(60);

#[tokio::test(start_paused = true)]
async fn an_engine_serves_once_its_first_adapters_are_there() {
    let mut rig = Rig::start(&[("law", "law"), ("sql", "sql")], |engine, shelf| {
        engine.is_gone = true;
        shelf.takes = MINUTE;
    });
    pass(MINUTE * 2).await;
    assert!(!rig.told.borrow().ready, "an engine that is not there is not ready");
    assert_eq!(rig.log(), [""; 0]);
    rig.engine.0.lock().is_gone = false;
    let told = rig.until_ready().await;
    assert!(told.adapters.iter().all(|one| one.state == State::Loaded), "{told:?}");
    assert_eq!(rig.log(), ["load law /files/law", "load sql /files/sql"]);
}

#[tokio::test(start_paused = true)]
async fn it_is_not_ready_while_they_are_fetched() {
    let mut rig = Rig::start(&[("sql", "sql")], |_, shelf| shelf.takes = MINUTE);
    rig.until_ready().await;
    assert!(rig.seconds() >= 60, "{}", rig.seconds());
}

#[tokio::test(start_paused = true)]
async fn another_adapter_takes_nothing_from_one_that_serves() {
    let mut rig = Rig::start(&[("sql", "sql")], |_, _| {});
    rig.until_ready().await;
    rig.shelf.0.lock().takes = MINUTE;
    rig.list(&[("law", "law"), ("sql", "sql")]);
    let mut seen = rig.told.clone();
    let watching = async {
        loop {
            seen.changed().await.unwrap();
            assert!(seen.borrow_and_update().ready);
        }
    };
    tokio::select! {
        () = watching => {}
        _ = rig.told.wait_for(|told| told.adapters.iter().filter(|one| one.state == State::Loaded).count() == 2) => {}
    }
    assert_eq!(rig.log(), ["load sql /files/sql", "load law /files/law"]);
}

#[tokio::test(start_paused = true)]
async fn what_is_listed_no_more_goes_after_a_while() {
    let mut rig = Rig::start(&[("law", "law"), ("sql", "sql")], |_, _| {});
    rig.until_ready().await;
    let since = rig.seconds();
    rig.list(&[]);
    rig.until_states(&[("law", State::Leaving), ("sql", State::Leaving)]).await;
    assert_eq!(rig.log().len(), 2);
    let told = rig.until_states(&[]).await;
    assert!(rig.seconds() - since >= LINGER.as_secs() && told.ready);
    assert_eq!(rig.log()[2..], ["unload law", "unload sql"]);
    // Whoever still reads their files has time for it.
    assert_eq!(rig.shelf.0.lock().sweeps, 0);
    pass(KEPT + MINUTE).await;
    assert_eq!(rig.shelf.0.lock().sweeps, 1);
}

#[tokio::test(start_paused = true)]
async fn one_that_is_listed_again_in_time_stays() {
    let mut rig = Rig::start(&[("sql", "sql")], |_, _| {});
    rig.until_ready().await;
    rig.list(&[]);
    rig.until_states(&[("sql", State::Leaving)]).await;
    rig.list(&[("sql", "sql")]);
    rig.until_states(&[("sql", State::Loaded)]).await;
    pass(LINGER * 2).await;
    assert_eq!(rig.log(), ["load sql /files/sql"]);
    assert_eq!(rig.shelf.0.lock().fetched.len(), 1);
}

#[tokio::test(start_paused = true)]
async fn another_source_takes_the_place_at_once_when_it_is_there() {
    let mut rig = Rig::start(&[("sql", "sql")], |_, _| {});
    rig.until_ready().await;
    rig.shelf.0.lock().takes = MINUTE;
    rig.list(&[("sql", "sql2")]);
    rig.until_states(&[("sql", State::Older)]).await;
    assert_eq!(rig.log().len(), 1);
    rig.until_states(&[("sql", State::Loaded)]).await;
    assert_eq!(rig.log()[1..], ["unload sql", "load sql /files/sql2"]);
}

#[tokio::test(start_paused = true)]
async fn an_engine_that_starts_anew_gets_them_again() {
    let mut rig = Rig::start(&[("sql", "sql")], |_, _| {});
    rig.until_ready().await;
    rig.engine.0.lock().is_gone = true;
    rig.engine.0.lock().adapters.clear();
    rig.until(|told| !told.ready).await;
    rig.engine.0.lock().is_gone = false;
    rig.until_ready().await;
    assert_eq!(rig.log(), ["load sql /files/sql"; 2]);
    // One whose end nobody saw lists nothing.
    rig.engine.0.lock().adapters.clear();
    pass(Duration::from_secs(5)).await;
    assert_eq!(rig.log(), ["load sql /files/sql"; 3]);
    assert_eq!(rig.shelf.0.lock().fetched.len(), 1);
}

#[tokio::test(start_paused = true)]
async fn an_engine_that_does_not_answer_for_a_moment_stays_ready() {
    let mut rig = Rig::start(&[("sql", "sql")], |_, _| {});
    rig.until_ready().await;
    rig.engine.0.lock().is_silent = true;
    let told = rig.until(|told| told.engine.is_some()).await;
    assert!(told.ready);
    rig.engine.0.lock().is_silent = false;
    rig.until(|told| told.engine.is_none()).await;
    assert_eq!(rig.log(), ["load sql /files/sql"]);
}

#[tokio::test(start_paused = true)]
async fn what_cannot_be_had_keeps_nothing_else_from_serving() {
    let rank = "400: LoRA rank 64 is greater than max_lora_rank 16";
    let mut rig =
        Rig::start(&[("big", "big"), ("gone", "gone"), ("sql", "sql")], |engine, shelf| {
            engine.refuses.insert("/files/big".to_owned(), rank);
            shelf.missing.insert("hf:o/gone".to_owned());
        });
    let told = rig.until_ready().await;
    let troubles: Vec<&str> =
        told.adapters.iter().map(|one| one.trouble.as_deref().unwrap_or("-")).collect();
    assert!(troubles[0].contains("max_lora_rank 16; give the Model a higher one"), "{troubles:?}");
    assert!(troubles[1].contains("cannot be fetched: 404"), "{troubles:?}");
    assert_eq!(troubles[2], "-");
    // It is tried again, and less and less often.
    pass(MINUTE * 60).await;
    let tries = rig.log().iter().filter(|line| *line == "load big /files/big").count();
    assert!((8..=16).contains(&tries), "{tries}");
    rig.engine.0.lock().refuses.clear();
    rig.shelf.0.lock().missing.clear();
    let loaded = [("big", State::Loaded), ("gone", State::Loaded), ("sql", State::Loaded)];
    let told = rig.until_states(&loaded).await;
    assert!(told.adapters.iter().all(|one| one.trouble.is_none()), "{told:?}");
}

#[tokio::test(start_paused = true)]
async fn a_new_one_that_is_refused_leaves_the_old_one_in_its_place() {
    let mut rig = Rig::start(&[("sql", "sql")], |engine, _| {
        engine.refuses.insert("/files/bad".to_owned(), "400: no adapter");
    });
    rig.until_ready().await;
    rig.list(&[("sql", "bad")]);
    let told = rig.until(|told| told.adapters[0].trouble.is_some()).await;
    assert_eq!((told.adapters[0].state, told.ready), (State::Older, true));
    assert_eq!(rig.engine.0.lock().adapters["sql"], PathBuf::from("/files/sql"));
}

#[tokio::test(start_paused = true)]
async fn a_list_that_cannot_be_read_changes_nothing() {
    let mut rig = Rig::start(&[("sql", "sql")], |_, _| {});
    rig.until_ready().await;
    rig.write("{");
    let told = rig.until(|told| told.list.is_some()).await;
    assert_eq!((told.ready, told.adapters[0].state), (true, State::Loaded));
    rig.list(&[("law", "law"), ("sql", "sql")]);
    rig.until_states(&[("law", State::Loaded), ("sql", State::Loaded)]).await;
    assert_eq!(rig.told.borrow().list, None);
}

#[tokio::test(start_paused = true)]
async fn nothing_waits_for_ever() {
    let mut rig = Rig::start(&[("sql", "sql")], |_, shelf| shelf.takes = MINUTE * 600);
    rig.until_ready().await;
    assert!(rig.seconds() >= FIRST_PATIENCE.as_secs(), "{}", rig.seconds());
    let mut silent = Rig::start(&[], |engine, _| engine.is_silent = true);
    silent.until_ready().await;
    assert!(silent.seconds() >= FIRST_PATIENCE.as_secs(), "{}", silent.seconds());
    let mut without = Rig::start(&[], |_, _| {});
    without.write("no list");
    assert!(without.until_ready().await.list.is_some());
}

#[tokio::test(start_paused = true)]
async fn whoever_starts_anew_beside_an_engine_finds_what_it_has() {
    let mut rig = Rig::start(&[("sql", "sql")], |_, _| {});
    rig.until_ready().await;
    rig.again();
    rig.until_ready().await;
    assert_eq!(rig.log(), ["load sql /files/sql"]);
    // One that lists nothing is told to load what it has.
    rig.engine.0.lock().is_mute = true;
    rig.again();
    rig.until_ready().await;
    let load = "load sql /files/sql";
    assert_eq!(rig.log(), [load, load, "unload sql", load]);
}

#[tokio::test(start_paused = true)]
async fn nothing_of_an_engine_that_sleeps_is_changed() {
    let mut rig = Rig::start(&[("sql", "sql")], |_, _| {});
    rig.until_ready().await;
    rig.engine.0.lock().is_asleep = true;
    rig.list(&[("law", "law"), ("sql", "sql")]);
    rig.until_states(&[("law", State::Waiting), ("sql", State::Loaded)]).await;
    pass(MINUTE).await;
    assert_eq!(rig.log().len(), 1);
    rig.engine.0.lock().is_asleep = false;
    rig.until_states(&[("law", State::Loaded), ("sql", State::Loaded)]).await;
}

/// As with SGLang, while a request for the former one goes on.
#[tokio::test(start_paused = true)]
async fn an_unload_that_takes_long_holds_up_nothing_else() {
    let mut rig = Rig::start(&[("sql", "sql")], |engine, _| {
        engine.takes.insert("unload sql".to_owned(), MINUTE);
    });
    rig.until_ready().await;
    let since = rig.seconds();
    rig.list(&[("sql", "sql2")]);
    rig.until_states(&[("sql", State::Waiting)]).await;
    rig.list(&[("law", "law"), ("sql", "sql2")]);
    rig.until_states(&[("law", State::Loaded), ("sql", State::Waiting)]).await;
    assert!(rig.seconds() - since < 30, "{}", rig.seconds() - since);
    assert_eq!(rig.log()[1..], ["unload sql", "load law /files/law"]);
    rig.until_states(&[("law", State::Loaded), ("sql", State::Loaded)]).await;
    assert!(rig.seconds() - since >= 60, "{}", rig.seconds() - since);
    assert_eq!(rig.log()[3..], ["load sql /files/sql2"]);
}

/// What an engine that has ended was told says nothing of the one that took its place.
#[tokio::test(start_paused = true)]
async fn an_engine_that_starts_anew_meanwhile_gets_all_of_them() {
    let mut rig = Rig::start(&[("sql", "sql")], |engine, _| {
        engine.is_mute = true;
        engine.takes.insert("load sql".to_owned(), MINUTE);
    });
    pass(MINUTE / 2).await;
    assert_eq!(rig.log(), ["load sql /files/sql"]);
    rig.engine.0.lock().is_gone = true;
    rig.until(|told| told.engine.is_some()).await;
    {
        let mut engine = rig.engine.0.lock();
        (engine.is_gone, engine.adapters) = (false, BTreeMap::new());
        engine.takes.clear();
    }
    let told = rig.until_ready().await;
    assert_eq!(told.adapters[0].state, State::Loaded);
    assert_eq!(rig.log(), ["load sql /files/sql"; 2]);
}

#[tokio::test(start_paused = true)]
async fn an_unload_whose_answer_was_lost_is_not_asked_for_ever() {
    let mut rig = Rig::start(&[("sql", "sql")], |engine, _| {
        (engine.is_mute, engine.lost) = (true, 1);
    });
    rig.until_ready().await;
    rig.list(&[("sql", "sql2")]);
    let told = rig.until(|told| told.adapters[0].trouble.is_some()).await;
    let trouble = told.adapters[0].trouble.as_deref().unwrap_or_default();
    assert!(trouble.contains("does not unload the former one: no answer"), "{trouble}");
    let told = rig.until_states(&[("sql", State::Loaded)]).await;
    assert_eq!(told.adapters[0].trouble, None);
    assert_eq!(rig.log()[1..], ["unload sql", "unload sql", "load sql /files/sql2"]);
    // The same of one that is listed no more.
    rig.engine.0.lock().lost = 1;
    rig.list(&[]);
    rig.until_states(&[]).await;
    assert_eq!(rig.log()[4..], ["unload sql", "unload sql"]);
    pass(MINUTE * 5).await;
    assert_eq!(rig.log().len(), 6);
}
