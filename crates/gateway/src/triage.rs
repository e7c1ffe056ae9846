//! The gateway's own look at what it serves: what its engines, its metrics and its status show, kept for some
//! minutes, and what is wrong by that whenever somebody asks.

use std::collections::BTreeMap;
use std::sync::{Arc, OnceLock};

use futures_util::{StreamExt as _, stream};
use parking_lot::Mutex;
use pilotage_lens::triage::observe::{Collector, Ended, Look, StatusSeen};
use pilotage_lens::triage::{Report, live, together};
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
    seen: Mutex<Collector>,
    /// Says how many copies models are to have.
    scaling: OnceLock<More>,
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
        let engines = self.engine_pages().await;
        let at_s = self.inner.clock.unix_ms() as f64 / 1e3;
        let look = Look { at_s, status: &status, page: Some(&page), replicas: &engines };
        self.inner.watchman.seen.lock().look(look, WINDOW_S);
    }

    /// What engines show of themselves, by their names.
    async fn engine_pages(&self) -> Vec<(String, String)> {
        let table = self.table();
        let shown = |replica: &Arc<Replica>| replica.metrics.is_some() && !replica.is_gateway;
        let engines = table.lanes().iter().flat_map(|lane| lane.handle.replicas());
        let engines: Vec<Arc<Replica>> = engines.filter(shown).take(ENGINES_MAX).collect();
        let asked = stream::iter(engines).map(|replica| async move {
            let client = replica.client.as_ref().unwrap_or(&self.inner.client);
            let page = reports::page(client, &replica).await?;
            Some((replica.name.to_string(), String::from_utf8_lossy(&page).into_owned()))
        });
        asked.buffer_unordered(ENGINES_AT_ONCE).filter_map(std::future::ready).collect().await
    }

    /// What is wrong with a model, or with each that has anything to do, by what was seen of late.
    pub fn triage(&self, model: Option<&str>) -> Report {
        let seen = self.inner.watchman.seen.lock().clone();
        let recent = seen.recent(RECENT_S);
        let mut lanes = model.map_or_else(|| seen.lanes(), |model| vec![model.to_owned()]);
        lanes.truncate(MODELS_MAX);
        // What ended before the counters began would be measured by less than there was.
        let from_ms = (seen.from_s() * 1e3) as u64;
        let records = self.inner.trail.recent.page(None, RECORDS_MAX, |record| {
            record.unix_ms >= from_ms
                && model.is_none_or(|model| record.lane.as_deref() == Some(model))
        });
        let mut ended: BTreeMap<&str, Vec<Ended>> = BTreeMap::new();
        for (_, record) in &records {
            if let (Some(lane), Some(one)) = (record.lane.as_deref(), Ended::of(&**record)) {
                ended.entry(lane).or_default().push(one);
            }
        }
        let of = |lane: String| {
            let ended = ended.get(lane.as_str()).map(Vec::as_slice).unwrap_or_default();
            let report = live(&recent, &seen, Some(&lane), ended);
            (lane, report)
        };
        let reports = lanes.into_iter().map(of).collect();
        together(reports).unwrap_or_else(|| live(&recent, &seen, None, &[]))
    }
}
