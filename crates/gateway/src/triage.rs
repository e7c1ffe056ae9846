//! The gateway's own look at what it serves: what its engines, its metrics and its status show, kept for some
//! minutes, and what is wrong by that whenever somebody asks.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::{Arc, OnceLock};

use futures_util::{StreamExt as _, stream};
use parking_lot::Mutex;
use pilotage_lens::Record;
use pilotage_lens::triage::observe::{Collector, Ended, Look, StatusSeen};
use pilotage_lens::triage::{Evidence, Report, live, together, triage};
use serde_json::{Value, json};

use crate::admin::More;
use crate::app::Gateway;
use crate::driver::Replica;
use crate::reports;

/// Nanoseconds between two looks.
const EVERY_NANOS: u64 = 10_000_000_000;

/// Seconds that are looked back, for what is rare.
const WINDOW_S: f64 = 300.0;

/// Seconds that are looked back first: what has been so for that long is found, whatever was before.
const RECENT_S: f64 = 60.0;

/// Most engines whose metrics are read for it; of a larger fleet some stand for all.
const ENGINES_MAX: usize = 64;

/// Engines that are read at once.
const ENGINES_AT_ONCE: usize = 4;

/// Most models that are looked at where none is named, the busiest.
const MODELS_MAX: usize = 256;

/// Requests that are looked at, of all models together.
const RECORDS_MAX: usize = 10_000;

/// What was seen.
#[derive(Default)]
pub(crate) struct Watchman {
    seen: Mutex<Seen>,
    /// Says how many copies models are to have.
    scaling: OnceLock<More>,
    /// What was said of all models, after so many looks. Who asks meanwhile waits for that.
    said: tokio::sync::Mutex<Option<(u64, Arc<Report>)>>,
}

/// The looks, and how many there were.
#[derive(Default)]
struct Seen {
    looks: u64,
    collector: Arc<Collector>,
}

impl Watchman {
    /// From now on it hears how many copies there are to be, from who decides that.
    pub(crate) fn hear(&self, scaling: &More) {
        self.scaling.get_or_init(|| Arc::clone(scaling));
    }

    fn wanted(&self) -> Value {
        self.scaling.get().map_or_else(|| json!({}), |told| told())
    }
}

impl std::fmt::Debug for Watchman {
    fn fmt(&self, out: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        out.debug_struct("Watchman").finish_non_exhaustive()
    }
}

impl Gateway {
    /// Looks, time and again, for as long as it is polled.
    pub async fn keep_watch(&self) {
        let clock = self.inner.clock;
        let mut at = clock.now_nanos();
        loop {
            self.look().await;
            at = at.max(clock.now_nanos()).saturating_add(EVERY_NANOS);
            clock.sleep_until_nanos(at).await;
        }
    }

    async fn look(&self) {
        let lanes = self.lanes_status().await;
        let wanted = self.inner.watchman.wanted();
        let status = json!({ "lanes": lanes, "scaling": wanted });
        let status: StatusSeen = serde_json::from_value(status).unwrap_or_default();
        let page = self.inner.metrics.encode();
        let engines = self.engine_pages(&status).await;
        let at_s = self.inner.clock.unix_ms() as f64 / 1e3;
        let look = Look { at_s, status: &status, page: Some(&page), replicas: &engines };
        let mut seen = self.inner.watchman.seen.lock();
        seen.looks += 1;
        Arc::make_mut(&mut seen.collector).look(look, WINDOW_S);
    }

    /// What engines that are up show of themselves, by their names. Of more than can be asked some of each lane.
    async fn engine_pages(&self, status: &StatusSeen) -> Vec<(String, String)> {
        let up = status.lanes.iter().flat_map(|lane| &lane.replicas).filter(|one| one.up);
        let up: BTreeSet<&str> = up.map(|one| one.name.as_str()).collect();
        let is_shown = |replica: &Arc<Replica>| {
            replica.metrics.is_some() && !replica.is_gateway && up.contains(replica.name.as_str())
        };
        let table = self.table();
        let lanes = table.lanes().iter();
        let lanes: Vec<Vec<Arc<Replica>>> = lanes
            .map(|lane| lane.handle.replicas().into_iter().filter(is_shown).collect())
            .collect();
        let asked = stream::iter(in_turn(lanes, ENGINES_MAX)).map(|replica| async move {
            let client = replica.client.as_ref().unwrap_or(&self.inner.client);
            let page = reports::page(client, &replica).await?;
            Some((replica.name.to_string(), String::from_utf8_lossy(&page).into_owned()))
        });
        asked.buffer_unordered(ENGINES_AT_ONCE).filter_map(std::future::ready).collect().await
    }

    /// What is wrong with a model, or with each that has anything to do, by what was seen of late.
    pub async fn triage(&self, model: Option<String>) -> Arc<Report> {
        if model.is_some() {
            return self.triaged(model).await.1;
        }
        let mut said = self.inner.watchman.said.lock().await;
        let looks = self.inner.watchman.seen.lock().looks;
        match &*said {
            Some((then, report)) if *then == looks => Arc::clone(report),
            _ => Arc::clone(&said.insert(self.triaged(None).await).1),
        }
    }

    /// The same by what was seen in so many looks, computed where it holds up no request.
    async fn triaged(&self, model: Option<String>) -> (u64, Arc<Report>) {
        let (looks, seen) = {
            let seen = self.inner.watchman.seen.lock();
            (seen.looks, Arc::clone(&seen.collector))
        };
        // What ended before the counters began would be measured by less than there was.
        let from_ms = (seen.from_s() * 1e3) as u64;
        let (records, cut_ms) = self.inner.trail.recent.since(from_ms, RECORDS_MAX);
        let work = move || Arc::new(judge(&seen, &records, cut_ms, model));
        let report = tokio::task::spawn_blocking(work).await;
        (looks, report.unwrap_or_else(|_| Arc::new(triage(&Evidence::default()))))
    }
}

/// What is wrong with a model, or with all of them, by looks and the requests that ended meanwhile. Of those the older
/// ones may be missing, before that time.
fn judge(
    seen: &Collector,
    records: &[Arc<Record>],
    cut_ms: Option<u64>,
    model: Option<String>,
) -> Report {
    // Counters over more than the records cover would say that most requests are missing.
    let later = cut_ms.map(|cut| seen.since(cut as f64 / 1e3));
    let (all, are_whole) = match &later {
        Some(later) if later.is_ready() => (later, true),
        Some(_) => (seen, false),
        None => (seen, true),
    };
    let recent = all.recent(RECENT_S);
    let mut ended: BTreeMap<&str, Vec<Ended>> = BTreeMap::new();
    for record in records.iter().filter(|_| are_whole) {
        let lane =
            record.lane.as_deref().filter(|lane| model.as_deref().is_none_or(|of| of == *lane));
        if let (Some(lane), Some(one)) = (lane, Ended::of(&**record)) {
            ended.entry(lane).or_default().push(one);
        }
    }
    let mut lanes = model.map_or_else(|| all.lanes(), |model| vec![model]);
    lanes.truncate(MODELS_MAX);
    let of = |lane: String| {
        let own = ended.get(lane.as_str()).map(Vec::as_slice).unwrap_or_default();
        let report = live(&recent, all, Some(&lane), are_whole.then_some(own));
        (lane, report)
    };
    let reports = lanes.into_iter().map(of).collect();
    together(reports).unwrap_or_else(|| triage(&Evidence::default()))
}

/// At most so many, one of each line after the other.
fn in_turn<T>(lines: Vec<Vec<T>>, most: usize) -> Vec<T> {
    let mut lines: Vec<_> = lines.into_iter().map(Vec::into_iter).collect();
    let mut all = Vec::new();
    while all.len() < most {
        let before = all.len();
        all.extend(lines.iter_mut().filter_map(Iterator::next));
        if all.len() == before {
            break;
        }
    }
    all.truncate(most);
    all
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn of_each_line_some_are_asked() {
        let check = |lines: &[&[u8]], most: usize, expect: &[u8]| {
            let lines = lines.iter().map(|line| line.to_vec()).collect();
            assert_eq!(in_turn(lines, most), expect);
        };
        check(&[&[1, 2, 3], &[4], &[5, 6]], 9, &[1, 4, 5, 2, 6, 3]);
        check(&[&[1, 2, 3], &[4], &[5, 6]], 4, &[1, 4, 5, 2]);
        check(&[&[], &[]], 4, &[]);
    }
}
