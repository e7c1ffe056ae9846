//! The last quarter of an hour in steps of five seconds: what ended, how long first tokens took, what waited.
//! Enough for somebody who looks; Prometheus keeps the rest.

use std::collections::{HashMap, VecDeque};
use std::sync::Arc;

use parking_lot::Mutex;
use pilotage_core::Span;
use pilotage_core::traffic::Name;
use pilotage_lens::Record;
use serde_json::{Map, Value, json};

/// Seconds of a step.
pub(crate) const STEP: u64 = 5;

/// Steps that are kept.
const STEPS: usize = 180;

/// Tenants of a step by name; further ones count together.
const TENANTS_MAX: usize = 256;

/// Buckets of a sketch of times, from a millisecond on, each a quarter wider than the one before: up to
/// 1.25^63, which is 21 minutes.
const BUCKETS: usize = 64;

/// It.
#[derive(Debug, Default)]
pub(crate) struct History {
    /// Shared with who shows them, so that nobody waits for that.
    steps: Mutex<VecDeque<Arc<Step>>>,
}

#[derive(Clone, Debug, Default)]
struct Step {
    /// Its number since 1970.
    number: u64,
    lanes: HashMap<Name, OfLane>,
    tenants: HashMap<Name, OfTenant>,
    /// Tenants beyond the limit.
    others: OfTenant,
}

#[derive(Clone, Debug, Default)]
struct OfLane {
    requests: u64,
    errors: u64,
    input: u64,
    output: u64,
    ttft: Sketch,
    tpot: Sketch,
    now: Option<LaneNow>,
}

#[derive(Clone, Copy, Debug, Default)]
struct OfTenant {
    requests: u64,
    tokens: u64,
}

/// How a lane stands at one moment.
#[derive(Clone, Copy, Debug)]
pub(crate) struct LaneNow {
    pub(crate) queued: u32,
    pub(crate) in_flight: u32,
    pub(crate) replicas_up: u32,
}

#[derive(Clone, Debug)]
struct Sketch([u16; BUCKETS]);

impl Default for Sketch {
    fn default() -> Self {
        Self([0; BUCKETS])
    }
}

impl History {
    /// A request ended.
    pub(crate) fn add(&self, record: &Record) {
        let mut steps = self.steps.lock();
        let step = at(&mut steps, record.unix_ms / 1000 / STEP);
        if let Some(name) = record.lane.as_ref().filter(|_| !record.mirror) {
            let lane = of(&mut step.lanes, name);
            lane.requests += 1;
            lane.errors += u64::from(record.status >= 500);
            lane.input += u64::from(record.tokens.input);
            lane.output += u64::from(record.tokens.output);
            lane.ttft.add(record.ttft);
            lane.tpot.add(record.tpot);
        }
        if let Some(name) = record.tenant.as_ref().filter(|_| !record.mirror) {
            let is_full = step.tenants.len() >= TENANTS_MAX && !step.tenants.contains_key(name);
            let tenant = if is_full { &mut step.others } else { of(&mut step.tenants, name) };
            tenant.requests += 1;
            tenant.tokens += record.tokens.total();
        }
    }

    /// How lanes stand.
    pub(crate) fn sample(&self, unix_ms: u64, lanes: impl Iterator<Item = (Name, LaneNow)>) {
        let mut steps = self.steps.lock();
        let step = at(&mut steps, unix_ms / 1000 / STEP);
        for (name, now) in lanes {
            of(&mut step.lanes, &name).now = Some(now);
        }
    }

    /// The last seconds, as the admin API shows them: a row for each number, a place for each step, null where
    /// nothing was seen.
    pub(crate) fn json(&self, unix_ms: u64, seconds: u64) -> Value {
        let steps = self.steps.lock().clone();
        let count = seconds.div_ceil(STEP).clamp(1, STEPS as u64);
        let last = unix_ms / 1000 / STEP;
        let first = (last + 1).saturating_sub(count);
        let shown: Vec<Option<&Step>> = (first..=last)
            .map(|number| steps.iter().find(|step| step.number == number).map(|step| &**step))
            .collect();
        let row = |get: &dyn Fn(&Step) -> Value| -> Value {
            shown.iter().map(|step| step.map_or(Value::Null, get)).collect()
        };
        let lanes = names(&shown, |step| step.lanes.keys()).map(|name| {
            let one = |get: &dyn Fn(&OfLane) -> Value| {
                row(&|step| step.lanes.get(name).map_or(Value::Null, get))
            };
            let now = |get: &dyn Fn(&LaneNow) -> u32| {
                one(&|lane| lane.now.as_ref().map_or(Value::Null, |now| json!(get(now))))
            };
            let rows = json!({
                "requests": one(&|lane| json!(lane.requests)),
                "errors": one(&|lane| json!(lane.errors)),
                "input_tokens": one(&|lane| json!(lane.input)),
                "output_tokens": one(&|lane| json!(lane.output)),
                "queued": now(&|now| now.queued),
                "in_flight": now(&|now| now.in_flight),
                "replicas_up": now(&|now| now.replicas_up),
                "ttft_p50_ms": one(&|lane| lane.ttft.quantile(0.5)),
                "ttft_p99_ms": one(&|lane| lane.ttft.quantile(0.99)),
                "tpot_p50_ms": one(&|lane| lane.tpot.quantile(0.5)),
            });
            (name.to_string(), rows)
        });
        let lanes: Map<String, Value> = lanes.collect();
        let tenants = names(&shown, |step| step.tenants.keys()).map(|name| {
            let one = |get: &dyn Fn(&OfTenant) -> u64| {
                row(&|step| json!(step.tenants.get(name).map_or(0, get)))
            };
            let rows = json!({
                "requests": one(&|tenant| tenant.requests),
                "tokens": one(&|tenant| tenant.tokens),
            });
            (name.to_string(), rows)
        });
        let tenants: Map<String, Value> = tenants.collect();
        let others = row(&|step| json!(step.others.requests));
        json!({
            "step_s": STEP,
            "from_unix_ms": first * STEP * 1000,
            "lanes": lanes,
            "tenants": tenants,
            "other_tenants_requests": others,
        })
    }
}

/// The step of that number. Only the last one grows; what comes late for another counts there.
fn at(steps: &mut VecDeque<Arc<Step>>, number: u64) -> &mut Step {
    if steps.back().is_none_or(|last| last.number < number) {
        if steps.len() >= STEPS {
            steps.pop_front();
        }
        steps.push_back(Arc::new(Step { number, ..Step::default() }));
    }
    let last = steps.len() - 1;
    Arc::make_mut(&mut steps[last])
}

/// What is counted under a name, without making one where there is one.
fn of<'a, T: Default>(all: &'a mut HashMap<Name, T>, name: &Name) -> &'a mut T {
    if !all.contains_key(name) {
        all.insert(name.clone(), T::default());
    }
    all.entry(name.clone()).or_default()
}

/// All names of these steps, in order.
fn names<'a, I: Iterator<Item = &'a Name>>(
    steps: &[Option<&'a Step>],
    of: impl Fn(&'a Step) -> I,
) -> impl Iterator<Item = &'a Name> {
    let mut names: Vec<&Name> = steps.iter().copied().flatten().flat_map(of).collect();
    names.sort_unstable();
    names.dedup();
    names.into_iter()
}

impl Sketch {
    fn add(&mut self, span: Option<Span>) {
        let Some(span) = span else { return };
        let ms = span.as_nanos() as f64 / 1e6;
        let bucket = (ms.max(1.0).ln() / 1.25_f64.ln()) as usize;
        let count = &mut self.0[bucket.min(BUCKETS - 1)];
        *count = count.saturating_add(1);
    }

    fn quantile(&self, part: f64) -> Value {
        let all: u64 = self.0.iter().map(|count| u64::from(*count)).sum();
        let wanted = (all as f64 * part).ceil() as u64;
        let mut seen = 0;
        for (bucket, count) in (0_i32..).zip(self.0) {
            seen += u64::from(count);
            if seen >= wanted && seen > 0 {
                let middle = 1.25_f64.powi(bucket) * 1.25_f64.sqrt();
                return json!((middle * 10.0).round() / 10.0);
            }
        }
        Value::Null
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const NOW: u64 = 1_800_000_000_000;

    #[test]
    fn steps_without_anything_are_null_and_old_ones_are_gone() {
        let history = History::default();
        let now = LaneNow { queued: 3, in_flight: 2, replicas_up: 1 };
        history.sample(NOW, [("m".into(), now)].into_iter());
        history.sample(NOW + 10_000, [("m".into(), now)].into_iter());
        let shown = history.json(NOW + 10_000, 15);
        assert_eq!(shown["lanes"]["m"]["queued"], json!([3, null, 3]));
        assert_eq!(shown["lanes"]["m"]["ttft_p50_ms"], json!([null, null, null]));
        assert_eq!(shown["from_unix_ms"], NOW);
        let later = NOW + 5000 * STEPS as u64;
        assert_eq!(history.json(later + 20_000, 900)["lanes"], json!({}));
    }

    #[test]
    fn quantiles_are_off_by_an_eighth_at_most() {
        let mut sketch = Sketch::default();
        for ms in 1..=1000 {
            sketch.add(Some(Span::from_millis(ms)));
        }
        for (part, expect) in [(0.5, 500.0), (0.99, 990.0)] {
            let got = sketch.quantile(part).as_f64().unwrap();
            assert!((got / expect - 1.0).abs() < 0.125, "{part}: {got}");
        }
    }
}
