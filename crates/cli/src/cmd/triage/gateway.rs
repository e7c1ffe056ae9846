//! A running gateway as evidence: looked at every few seconds through its admin listener, and its replicas at
//! their own addresses where they can be reached from here.

use std::time::Duration;

use anyhow::{Context as _, bail};
use http::StatusCode;
use pilotage_lens::triage::observe::page::PAGE_BYTES_MAX;
use pilotage_lens::triage::observe::{Collector, Ended, Look, ReplicaSeen, StatusSeen};
use pilotage_shell::clock::Clock;
use pilotage_shell::env::{self, Var};
use serde::Deserialize;
use tokio::task::JoinSet;
use tokio::time::sleep;

use super::Seen;
use super::fetch::Asking;
use crate::args::Triage;
use crate::exit::Wrong;
use crate::installation::Installation;
use crate::output;

/// How long it is looked at where nothing is said.
const WINDOW: Duration = Duration::from_secs(30);

/// Looks in a window, and the least time between two.
const LOOKS: u32 = 15;
const EVERY_MIN: Duration = Duration::from_millis(500);

/// How long the gateway's answers may take, and those of a replica.
const PATIENCE: Duration = Duration::from_secs(10);
const REPLICA_PATIENCE: Duration = Duration::from_secs(2);

/// Longest status or page of records.
const STATUS_BYTES_MAX: usize = 16 << 20;

/// Records of a page, and most pages.
const RECORDS_PAGE: usize = 500;
const PAGES_MAX: usize = 20;

/// Most models that are looked at where none is named, the busiest.
const LANES_MAX: usize = 16;

/// Most replicas that are asked.
const REPLICAS_MAX: usize = 64;

#[derive(Default, Deserialize)]
#[serde(default)]
struct Page {
    records: Vec<Row>,
    next: Option<u64>,
}

#[derive(Deserialize)]
struct Row {
    #[serde(flatten)]
    ended: Ended,
}

/// What is seen of the gateway that was named, or that runs here.
/// What is about one model cannot be about several: there it is of the busiest, and says so.
pub(super) async fn evidence(args: &Triage) -> anyhow::Result<Vec<Seen>> {
    let gateway = gateway(args)?;
    let clock = Clock::start();
    let window = args.window.unwrap_or(WINDOW);
    let every = (window / LOOKS).max(EVERY_MIN);
    let (mut collector, mut looks) = (Collector::default(), 0);
    let status = loop {
        let status = look(&gateway, &clock, &mut collector, window).await?;
        looks += 1;
        let next = every * looks;
        if next > window && collector.is_ready() {
            break status;
        }
        let passed = Duration::from_nanos(clock.now_nanos());
        sleep(next.saturating_sub(passed).max(EVERY_MIN)).await;
    };
    health(&mut collector, &status).await;
    let lanes = lanes(args, &collector, &status)?;
    let mut seen = Vec::new();
    for lane in &lanes {
        let records = records(&gateway, lane, collector.from_s()).await?;
        let evidence = collector.observed(lane, records.as_deref()).evidence();
        seen.push(((lanes.len() > 1).then(|| lane.clone()), evidence));
    }
    Ok(seen)
}

fn gateway(args: &Triage) -> anyhow::Result<Asking> {
    let from_file = match &args.key_file {
        Some(path) => Some(
            std::fs::read_to_string(path)
                .map_err(|error| Wrong::new(format!("cannot read {}: {error}", path.display())))?,
        ),
        None => None,
    };
    let installation = || Installation::at(args.data_dir.clone());
    let (url, key) = match &args.source.url {
        Some(url) => {
            let key = from_file.or_else(|| env::get(Var::AdminKey));
            let none = || {
                Wrong::new(format!("no key for {url}"))
                    .hint("name a file with it in --key-file, or set PILOTAGE_ADMIN_KEY")
            };
            (url.clone(), key.ok_or_else(none)?)
        }
        None => {
            let own = installation()?;
            let url = own.state()?.admin_url;
            let key = own.existing_key("admin.key")?.context("the admin key is gone")?;
            (url, from_file.unwrap_or_else(|| key.expose().to_owned()))
        }
    };
    Asking::new(&url, PATIENCE)?.key(&key)
}

async fn look(
    gateway: &Asking,
    clock: &Clock,
    collector: &mut Collector,
    window: Duration,
) -> anyhow::Result<StatusSeen> {
    let (code, text) = gateway.get("/status", STATUS_BYTES_MAX).await.map_err(|error| {
        Wrong::new(format!("cannot reach the gateway: {error}"))
            .hint("give the address of its admin listener in --url, or start `pilotage up`")
    })?;
    if !code.is_success() {
        let wrong = Wrong::new(format!("the gateway answered {code}"));
        bail!(
            wrong.hint("--url is the address of its admin listener, --key-file has the admin key")
        );
    }
    let status: StatusSeen =
        serde_json::from_str(&text).context("what answers there is no gateway of Pilotage")?;
    let page = gateway.get("/metrics", PAGE_BYTES_MAX).await;
    let page = page.ok().filter(|(code, _)| code.is_success()).map(|(_, text)| text);
    if page.is_none() {
        collector.failed();
    }
    let replicas = pages(&status).await;
    let at_s = clock.unix_ms() as f64 / 1e3;
    let look = Look { at_s, status: &status, page: page.as_deref(), replicas: &replicas };
    collector.look(look, window.as_secs_f64());
    Ok(status)
}

/// The replicas that may be asked.
fn replicas(status: &StatusSeen) -> impl Iterator<Item = &ReplicaSeen> {
    let all = status.lanes.iter().flat_map(|lane| &lane.replicas);
    all.filter(|one| one.up && one.url.starts_with("http")).take(REPLICAS_MAX)
}

/// Someone who asks a replica, with the key that engines share where this process has one.
fn asking(replica: &ReplicaSeen) -> Option<Asking> {
    let asking = Asking::new(&replica.url, REPLICA_PATIENCE).ok()?;
    match env::get(Var::EngineKey) {
        Some(key) => asking.key(&key).ok(),
        None => Some(asking),
    }
}

/// The metrics of those that show them here. Those that do not are known by what the gateway saw.
async fn pages(status: &StatusSeen) -> Vec<(String, String)> {
    let mut asked = JoinSet::new();
    for replica in replicas(status) {
        let (name, asking) = (replica.name.clone(), asking(replica));
        asked.spawn(async move {
            let (code, text) = asking?.get("/metrics", PAGE_BYTES_MAX).await.ok()?;
            code.is_success().then_some((name, text))
        });
    }
    asked.join_all().await.into_iter().flatten().collect()
}

/// Asks each replica once how it is, and how long it takes to say so.
async fn health(collector: &mut Collector, status: &StatusSeen) {
    let mut asked = JoinSet::new();
    for replica in replicas(status) {
        let (name, asking) = (replica.name.clone(), asking(replica));
        asked.spawn(async move {
            let clock = Clock::start();
            let answer = asking?.get("/health", PAGE_BYTES_MAX).await;
            let took = clock.now_nanos() as f64 / 1e9;
            // Who asks for a key, or has no such path, says nothing of its health.
            let is_well = match answer {
                Ok((code, _)) if code.is_success() => true,
                Ok((code, _)) if code.is_server_error() => false,
                _ => return None,
            };
            Some((name, is_well, took))
        });
    }
    for (name, is_well, took) in asked.join_all().await.into_iter().flatten() {
        collector.health(&name, is_well, took);
    }
}

fn lanes(args: &Triage, collector: &Collector, status: &StatusSeen) -> anyhow::Result<Vec<String>> {
    let known: Vec<&str> = status.lanes.iter().map(|lane| lane.name.as_str()).collect();
    if let Some(model) = &args.model {
        if known.contains(&model.as_str()) {
            return Ok(vec![model.clone()]);
        }
        let wrong = Wrong::new(format!("the gateway has no model `{model}`"));
        bail!(wrong.hint(format!("it has: {}", known.join(", "))));
    }
    let mut lanes = collector.lanes();
    if lanes.is_empty() {
        lanes = known.iter().map(|name| (*name).to_owned()).take(1).collect();
    }
    let Some(busiest) = lanes.first() else {
        bail!(Wrong::new("the gateway has no models").hint("add one to its manifests"));
    };
    let most = if args.save.is_some() || args.baseline.is_some() || args.weights.is_some() {
        if known.len() > 1 {
            let number = known.len();
            output::note(&format!(
                "of {number} models this is about `{busiest}`; --model names another"
            ));
        }
        1
    } else {
        LANES_MAX
    };
    lanes.truncate(most);
    Ok(lanes)
}

/// The requests of a lane that ended since then, newest first; none where the gateway does not tell.
async fn records(gateway: &Asking, lane: &str, from_s: f64) -> anyhow::Result<Option<Vec<Ended>>> {
    let (mut all, mut before) = (Vec::new(), String::new());
    for _ in 0..PAGES_MAX {
        let model = super::fetch::escaped(lane);
        let path = format!("/records?limit={RECORDS_PAGE}&model={model}{before}");
        let (code, text) = gateway.get(&path, STATUS_BYTES_MAX).await?;
        if code == StatusCode::NOT_FOUND {
            output::note("the gateway does not tell of single requests; its counters have to do");
            return Ok(None);
        }
        if !code.is_success() {
            bail!("the gateway answered {code} when it was asked for its records");
        }
        let page: Page = serde_json::from_str(&text).context("the gateway's records")?;
        let is_past = page.records.last().is_none_or(|last| !last.ended.is_since(from_s));
        all.extend(page.records.into_iter().map(|row| row.ended));
        match page.next.filter(|_| !is_past) {
            Some(next) => before = format!("&before={next}"),
            None => break,
        }
        // The admin listener has others to answer to.
        sleep(Duration::from_millis(10)).await;
    }
    Ok(Some(all))
}
