//! Looks at a running gateway, kept for a while: its status, its metrics, those of its replicas. The gateway
//! itself calls it with its own values, `pilotage triage --url` with what it fetched.

use std::collections::BTreeMap;

use serde::Deserialize;

use super::super::evidence::{Accelerator, Planned, Role, Runtime};
use super::super::finding::Report;
use super::gateway::is_read;
use super::page::{self, Looks, Sample};
use super::record::Ended;
use super::series::{Point, Seen, Series};
use super::{Observed, Watched};

/// Most looks that are kept.
pub const LOOKS_MAX: usize = page::POINTS_MAX;

/// Most series of a gateway's metrics that are kept, of all lanes together.
const GATEWAY_SERIES_MAX: usize = 100_000;

/// Seconds after which a gateway asks a replica again for what it says of itself, at most: as often as it
/// asks those that have nothing to do (`EVERY_IDLE` of its reports is made of this).
pub const REPORTS_EVERY_S: u64 = 5;

/// The status of a gateway, as far as it is needed.
#[derive(Clone, Debug, Default, Deserialize)]
#[serde(default)]
pub struct StatusSeen {
    /// Its lanes.
    pub lanes: Vec<LaneSeen>,
    /// How many copies models are to have, where that follows the load.
    pub scaling: BTreeMap<String, ScalingSeen>,
}

/// A lane.
#[derive(Clone, Debug, Default, Deserialize)]
#[serde(default)]
pub struct LaneSeen {
    /// Its name.
    pub name: String,
    /// What waits for a turn.
    pub queue: QueueSeen,
    /// Where it may go.
    pub replicas: Vec<ReplicaSeen>,
    /// What manifests and weights say of all of them.
    pub planned: Planned,
}

/// What waits.
#[derive(Clone, Copy, Debug, Default, Deserialize)]
#[serde(default)]
pub struct QueueSeen {
    /// How many requests.
    pub requests: Option<f64>,
}

/// A replica.
#[derive(Clone, Debug, Default, Deserialize)]
#[serde(default)]
pub struct ReplicaSeen {
    /// Its name.
    pub name: String,
    /// Where it is.
    pub url: String,
    /// Whether it takes work.
    pub up: bool,
    /// Requests that it may have at once.
    pub places: Option<f64>,
    /// Those that it has.
    pub in_flight: Option<f64>,
    /// Milliseconds since it said something about itself.
    pub report_age_ms: Option<f64>,
    /// Whether it gets work, as far as its answers tell.
    pub health: Option<String>,
    /// How many accelerators it has.
    pub accelerators: Option<f64>,
    /// What one of them can do.
    pub accelerator: Accelerator,
}

/// What is wanted of a model.
#[derive(Clone, Copy, Debug, Default, Deserialize)]
#[serde(default)]
pub struct ScalingSeen {
    /// Copies that are to be awake.
    pub awake: Option<f64>,
}

/// One look.
#[derive(Clone, Copy, Debug)]
pub struct Look<'a> {
    /// When, in seconds since 1970.
    pub at_s: f64,
    /// What the gateway says.
    pub status: &'a StatusSeen,
    /// Its metrics.
    pub page: Option<&'a str>,
    /// The metrics of replicas that could be reached, by their names.
    pub replicas: &'a [(String, String)],
}

/// Looks that were taken.
#[derive(Clone, Debug, Default)]
pub struct Collector {
    /// When each of them was, in order of time.
    looks: Vec<f64>,
    failures: f64,
    /// Of each lane what the status said.
    status: BTreeMap<String, Looks>,
    /// Of each lane what the gateway's metrics said, and under none what is of all of them.
    gateway: BTreeMap<Option<String>, Looks>,
    replicas: BTreeMap<String, Looks>,
    health: BTreeMap<String, (bool, f64)>,
    /// Of each lane what is planned, and of its replicas by their names; as the newest look has it.
    planned: BTreeMap<String, (Planned, BTreeMap<String, Planned>)>,
}

impl Collector {
    /// Keeps a look, and forgets what is older than `window_s` before it.
    pub fn look(&mut self, look: Look<'_>, window_s: f64) {
        let Look { at_s, status, page, replicas } = look;
        self.looks.push(at_s);
        for lane in &status.lanes {
            self.note_lane(at_s, lane);
        }
        self.planned = status.lanes.iter().map(|lane| (lane.name.clone(), planned(lane))).collect();
        for (model, scaling) in &status.scaling {
            if let Some(awake) = scaling.awake {
                let looks = self.status.entry(model.clone()).or_default();
                looks.put(at_s, "wanted", &[("lane", model)], awake);
            }
        }
        if let Some(page) = page {
            self.note_page(at_s, page);
        }
        for (name, page) in replicas.iter().take(super::REPLICAS_MAX) {
            self.replicas.entry(name.clone()).or_default().add(at_s, page);
        }
        let begin = self.begin(window_s);
        self.forget(begin);
    }

    /// What was seen in so many seconds before the last look, or little more: it begins with a look.
    #[must_use]
    pub fn recent(&self, window_s: f64) -> Self {
        let mut recent = self.clone();
        recent.forget(self.begin(window_s));
        recent
    }

    /// What was seen since that time, in seconds since 1970, or a little later: it begins with a look.
    #[must_use]
    pub fn since(&self, from_s: f64) -> Self {
        let mut later = self.clone();
        let begin = self.looks.iter().copied().find(|at| *at >= from_s);
        later.forget(begin.unwrap_or(f64::INFINITY));
        later
    }

    /// The last look that many seconds before the newest, or earlier.
    fn begin(&self, window_s: f64) -> f64 {
        let (last, first) = (self.until_s(), self.from_s());
        let is_before = |at: &&f64| **at <= last - window_s;
        self.looks.iter().rev().find(is_before).copied().unwrap_or(first)
    }

    fn forget(&mut self, before_s: f64) {
        self.looks.retain(|at| *at >= before_s);
        for looks in self.status.values_mut().chain(self.gateway.values_mut()) {
            looks.forget(before_s);
        }
        self.replicas.values_mut().for_each(|looks| looks.forget(before_s));
        self.status.retain(|_, looks| !looks.is_empty());
        self.gateway.retain(|_, looks| !looks.is_empty());
        self.replicas.retain(|_, looks| !looks.is_empty());
    }

    /// A look that failed.
    pub fn failed(&mut self) {
        self.failures += 1.0;
    }

    /// What a replica said of its health, and how many seconds it took.
    pub fn health(&mut self, replica: &str, is_well: bool, took_s: f64) {
        self.health.insert(replica.to_owned(), (is_well, took_s));
    }

    /// Whether anything was seen in two looks or more: counters need a before.
    pub const fn is_ready(&self) -> bool {
        self.looks.len() > 1
    }

    /// The begin of what is kept, in seconds since 1970.
    pub fn from_s(&self) -> f64 {
        self.looks.first().copied().unwrap_or_default()
    }

    /// Its end.
    pub fn until_s(&self) -> f64 {
        self.looks.last().copied().unwrap_or_default()
    }

    /// The lanes, the one first that had most to do.
    pub fn lanes(&self) -> Vec<String> {
        let busy = |looks: &Looks| -> f64 {
            let loads = looks
                .series()
                .into_iter()
                .filter(|one| matches!(one.name.as_str(), "in_flight" | "queued"));
            loads.filter_map(|one| one.mean()).sum()
        };
        let mut lanes: Vec<(&String, f64)> =
            self.status.iter().map(|(name, looks)| (name, busy(looks))).collect();
        lanes.sort_by(|left, right| right.1.total_cmp(&left.1));
        lanes.into_iter().map(|(name, _)| name.clone()).collect()
    }

    /// What was seen of a lane, with the requests that ended.
    pub fn observed(&self, lane: &str, records: Option<&[Ended]>) -> Observed {
        let from_s = self.from_s();
        let own = self.status.get(lane).map(Looks::series).unwrap_or_default();
        let of_lane = |one: &&Ended| one.lane.as_deref() == Some(lane) && one.is_since(from_s);
        let records: Option<Vec<Ended>> =
            records.map(|all| all.iter().filter(of_lane).cloned().collect());
        let seen = Seen(&own);
        let ages = seen.of(&["report_age_s"], None);
        // The oldest is what a choice may have gone by.
        let age = ages.iter().filter_map(|one| one.mean()).reduce(f64::max);
        Observed {
            from_s,
            until_s: self.until_s(),
            failures: Some(self.failures),
            goals: self.planned.get(lane).map(|(of, _)| of.goals.clone()).unwrap_or_default(),
            replicas: self.watched(lane, &seen, records.as_deref()),
            gateway: self.gateway_of(lane),
            cluster: cluster(&seen),
            queued: seen.gauge(&["queued"], None),
            reports_age_s: age,
            // How often it asks, and not how old answers are: where all are old, that would be usual.
            reports_interval_s: age.map(|_| REPORTS_EVERY_S as f64),
            records,
            ..Observed::default()
        }
    }

    /// What is wrong, of the lane of that name or of the busiest.
    pub fn report(&self, lane: Option<&str>, records: Option<&[Ended]>) -> Report {
        let lane = lane.map(str::to_owned).or_else(|| self.lanes().into_iter().next());
        let observed = lane.map(|lane| self.observed(&lane, records)).unwrap_or_default();
        super::super::triage(&observed.evidence())
    }

    fn note_lane(&mut self, at_s: f64, lane: &LaneSeen) {
        let name = lane.name.as_str();
        let looks = self.status.entry(name.to_owned()).or_default();
        if let Some(queued) = lane.queue.requests {
            looks.put(at_s, "queued", &[("lane", name)], queued);
        }
        let up = lane.replicas.iter().filter(|one| one.up).count() as f64;
        looks.put(at_s, "up", &[("lane", name)], up);
        for one in lane.replicas.iter().filter(|one| one.up) {
            let labels = [("lane", name), ("replica", one.name.as_str())];
            let mut put = |name: &str, value: Option<f64>| {
                if let Some(value) = value {
                    looks.put(at_s, name, &labels, value);
                }
            };
            put("in_flight", one.in_flight);
            put("places", one.places);
            // Nobody is sent by what one said before that is taken out.
            let is_out = one.health.as_deref().is_some_and(|health| health.starts_with("ejected"));
            put("report_age_s", one.report_age_ms.filter(|_| !is_out).map(|ms| ms / 1e3));
        }
    }

    /// Of the gateway's metrics those that anything is concluded from.
    fn note_page(&mut self, at_s: f64, page: &str) {
        let kept: usize = self.gateway.values().map(Looks::len).sum();
        let told = page::samples(page).filter(|one| is_read(&one.name));
        for Sample { name, labels, value } in told.take(GATEWAY_SERIES_MAX) {
            let lane = labels.get("lane").cloned();
            if kept < GATEWAY_SERIES_MAX || self.gateway.contains_key(&lane) {
                let looks = self.gateway.entry(lane).or_default();
                looks.insert((name, labels), Point { at_s, value });
            }
        }
    }

    fn watched(&self, lane: &str, seen: &Seen<'_>, records: Option<&[Ended]>) -> Vec<Watched> {
        let planned = self.planned.get(lane);
        let mut names: Vec<String> =
            seen.0.iter().filter_map(|one| one.labels.get("replica").cloned()).collect();
        names.sort();
        names.dedup();
        let one = |name: String| {
            let own: Vec<Series> = seen
                .0
                .iter()
                .filter(|one| one.labels.get("replica") == Some(&name))
                .cloned()
                .collect();
            let gauge = |of: &str| Seen(&own).gauge(&[of], None);
            let runtime = records.and_then(|all| {
                let of = all.iter().rev().filter(|one| one.replica.as_ref() == Some(&name));
                of.filter_map(|one| one.runtime.as_deref()).find_map(runtime)
            });
            Watched {
                role: Role::Both,
                runtime,
                places: gauge("places").filter(|places| *places > 0.0),
                in_flight: gauge("in_flight"),
                health: self.health.get(&name).copied(),
                series: self.replicas.get(&name).map(Looks::series).unwrap_or_default(),
                version: None,
                // One that came or went meanwhile is as its lane says.
                planned: planned
                    .map(|(of, replicas)| replicas.get(&name).unwrap_or(of).clone())
                    .unwrap_or_default(),
                name,
            }
        };
        names.into_iter().take(super::REPLICAS_MAX).map(one).collect()
    }

    /// The gateway's series without those of other lanes.
    fn gateway_of(&self, lane: &str) -> Vec<Series> {
        let own = [None, Some(lane.to_owned())].into_iter().filter_map(|of| self.gateway.get(&of));
        own.flat_map(Looks::series).collect()
    }
}

fn cluster(seen: &Seen<'_>) -> Vec<Series> {
    let renamed = |from: &str, to: &str| -> Vec<Series> {
        let of = seen.of(&[from], None);
        of.into_iter().map(|one| Series { name: to.to_owned(), ..one.clone() }).collect()
    };
    let mut wanted = renamed("wanted", "pilotage_replicas_wanted");
    if !wanted.is_empty() {
        wanted.extend(renamed("up", "pilotage_replicas_up"));
    }
    wanted
}

/// What is planned of a lane, and of each of its replicas: that, with what it runs on.
fn planned(lane: &LaneSeen) -> (Planned, BTreeMap<String, Planned>) {
    let of = |one: &ReplicaSeen| {
        let mut own = lane.planned.clone();
        own.accelerator = one.accelerator.or(&own.accelerator);
        own.accelerator.count = one.accelerators;
        (one.name.clone(), own)
    };
    let replicas = lane.replicas.iter().take(super::REPLICAS_MAX).map(of).collect();
    (lane.planned.clone(), replicas)
}

/// The server of that name in records.
fn runtime(name: &str) -> Option<Runtime> {
    serde_json::from_value(serde_json::Value::String(name.to_lowercase())).ok()
}

impl Looks {
    /// One value at a time.
    pub fn put(&mut self, at_s: f64, name: &str, labels: &[(&str, &str)], value: f64) {
        let labels = labels.iter().map(|(name, value)| ((*name).to_owned(), (*value).to_owned()));
        self.insert((name.to_owned(), labels.collect()), Point { at_s, value });
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::super::super::Verdict;
    use super::*;

    fn status(queued: u32, in_flight: u32) -> StatusSeen {
        let replica = |name: &str| json!({"name": name, "up": true, "places": 8, "in_flight": in_flight, "report_age_ms": 500});
        serde_json::from_value(json!({
            "version": "1", "lanes": [
                {"name": "idle", "queue": {"requests": 0}, "replicas": []},
                {"name": "m", "queue": {"requests": queued, "tokens": 5}, "replicas": [replica("a"), replica("b")]},
            ],
            "scaling": {"m": {"awake": 3, "asleep": 0, "why": "load"}},
        }))
        .unwrap()
    }

    fn records(count: u32) -> Vec<Ended> {
        let one = |at: u32| {
            json!({"unix_ms": 1e12 + 1e3 * f64::from(at), "request_id": at.to_string(), "lane": "m",
                "replica": (["a", "b"][at as usize % 2]), "runtime": "vllm", "status": 200,
                "termination": "ok", "input": 100, "cached": 0, "output": 50, "t_read_ms": 1.0,
                "t_queue_ms": 3000.0, "t_connect_ms": 1.0, "t_prefill_ms": 50.0, "t_decode_ms": 1000.0,
                "t_total_ms": 4052.0, "ttft_ms": 3051.0, "tpot_ms": 20.0})
        };
        (0..count).map(|at| serde_json::from_value(one(at)).unwrap()).collect()
    }

    #[test]
    fn a_full_gateway_is_seen_from_its_status_and_records_alone() {
        let mut collector = Collector::default();
        for at in 0..13 {
            let status = StatusSeen { scaling: BTreeMap::new(), ..status(6, 8) };
            let look = Look {
                at_s: 1e9 + 5.0 * f64::from(at),
                status: &status,
                page: None,
                replicas: &[],
            };
            collector.look(look, 600.0);
        }
        assert_eq!(collector.lanes()[0], "m");
        let report = collector.report(None, Some(&records(60)));
        assert!(
            matches!(&report.verdict, Verdict::Found { id: "S01", .. }),
            "{:?} {:?}",
            report.verdict,
            report.findings.iter().map(|one| one.id).collect::<Vec<_>>()
        );
    }

    /// Looks each ten seconds for five minutes: full for the last one, and an error of an accelerator before.
    fn five_minutes(page: impl Fn(u32) -> String) -> Collector {
        let mut collector = Collector::default();
        for at in 0..31 {
            let status = if at >= 24 { status(6, 8) } else { status(0, 0) };
            let status = StatusSeen { scaling: BTreeMap::new(), ..status };
            let at_s = 1e9 - 240.0 + 10.0 * f64::from(at);
            let page = page(at);
            let look = Look { at_s, status: &status, page: Some(&page), replicas: &[] };
            collector.look(look, 300.0);
        }
        collector
    }

    fn live(recent: &Collector, all: &Collector) -> Report {
        super::super::super::live(recent, all, Some("m"), Some(&records(60)))
    }

    #[test]
    fn a_trouble_that_has_just_begun_is_seen() {
        let collector = five_minutes(|_| String::new());
        let recent = collector.recent(60.0);
        let told = |report: Report| match report.verdict {
            Verdict::Found { id, .. } => (id, report.window_s),
            other => panic!("{other:?}"),
        };
        assert_eq!(told(live(&recent, &collector)), ("S01", Some(60.0)));
        let whole = collector.report(Some("m"), Some(&records(60)));
        assert!(whole.findings.iter().all(|one| one.id != "S01"), "{:?}", whole.findings);
        // Where nothing is wrong of late, what was so before is told.
        assert_eq!(told(live(&Collector::default(), &recent)), ("S01", Some(60.0)));
    }

    #[test]
    fn what_broke_before_is_told_beside_what_has_just_begun() {
        let labels = "uuid=\"GPU-1\",gpu=\"0\",replica=\"a\",lane=\"m\"";
        let page = |at: u32| {
            let broke = at >= 15;
            let xid = format!("pilotage_gpu_xids_total{{{labels},xid=\"79\"}} 1\n");
            let xid = if broke { xid } else { String::new() };
            format!("pilotage_gpu_xid_errors_total{{{labels}}} {}\n{xid}", u32::from(broke))
        };
        let collector = five_minutes(page);
        let report = live(&collector.recent(60.0), &collector);
        let told: Vec<_> = report.findings.iter().map(|one| (one.id, one.follows_from)).collect();
        assert_eq!(told, [("S12", None), ("S01", None)]);
        assert!(matches!(report.verdict, Verdict::Found { id: "S12", .. }), "{:?}", report.verdict);
    }

    /// It begins with a look, from which counters grew and since which requests are counted.
    #[test]
    fn windows_begin_with_a_look() {
        let collector = five_minutes(|at| format!("pilotage_requests_total{{lane=\"m\"}} {at}\n"));
        let check = |seen: &Collector, from_s: f64| {
            assert_eq!(seen.from_s(), 1e9 + from_s);
            let traffic = seen.observed("m", None).evidence().gateway.traffic;
            assert_eq!(traffic.requests, Some((60.0 - from_s) / 10.0), "{from_s}");
        };
        check(&collector, -240.0);
        check(&collector.recent(60.0), 0.0);
        check(&collector.recent(65.0), -10.0);
        check(&collector.since(1e9 + 35.0), 40.0);
        check(&collector.since(1e9 + 40.0), 40.0);
        assert!(!collector.since(1e9 + 55.0).is_ready());
        assert!(!collector.since(1e9 + 70.0).is_ready());
    }

    #[test]
    fn one_that_keeps_up_is_left_alone() {
        let mut collector = Collector::default();
        for at in 0..13 {
            let status = StatusSeen { scaling: BTreeMap::new(), ..status(0, 3) };
            let look = Look {
                at_s: 1e9 + 5.0 * f64::from(at),
                status: &status,
                page: None,
                replicas: &[],
            };
            collector.look(look, 600.0);
        }
        let mut records = records(60);
        for one in &mut records {
            (one.t_queue_ms, one.t_total_ms, one.ttft_ms) = (Some(0.0), Some(1052.0), Some(51.0));
        }
        let report = collector.report(None, Some(&records));
        assert!(report.findings.is_empty(), "{:?}", report.findings);
    }

    #[test]
    fn missing_copies_are_those_that_are_wanted_and_not_up() {
        let mut collector = Collector::default();
        for at in 0..20 {
            let look = Look {
                at_s: 1e9 + 5.0 * f64::from(at),
                status: &status(0, 1),
                page: None,
                replicas: &[],
            };
            collector.look(look, 600.0);
        }
        let evidence = collector.observed("m", None).evidence();
        assert_eq!((evidence.cluster.desired, evidence.cluster.ready), (Some(3.0), Some(2.0)));
        assert_eq!(evidence.cluster.short_s, Some(95.0));
        assert_eq!(evidence.gateway.traffic.requests, None);
    }

    /// Two full engines of four places each on an RTX 4090, of which the gateway's plan says what they run, on what,
    /// for whom; or says nothing.
    fn full(is_planned: bool) -> super::super::super::Evidence {
        let lab = super::super::super::scenarios::lab::replica(
            &super::super::super::scenarios::lab::RUNS[2],
        );
        let mut collector = Collector::default();
        for at in 0..13 {
            let mut status = StatusSeen { scaling: BTreeMap::new(), ..status(6, 4) };
            status.lanes[1].replicas.iter_mut().for_each(|one| one.places = Some(4.0));
            if is_planned {
                let mut planned = Planned { dims: lab.dims.clone(), ..Planned::default() };
                planned.config.max_num_seqs = Some(4.0);
                planned.goals.tpot_s = Some(0.05);
                status.lanes[1].planned = planned;
                for one in &mut status.lanes[1].replicas {
                    one.accelerator = lab.accelerator.clone();
                    one.accelerators = Some(1.0);
                }
            }
            let page = format!(
                "vllm:num_requests_running 4\nvllm:num_requests_waiting 3\nvllm:kv_cache_usage_perc 0.1\n\
                 vllm:cache_config_info{{block_size=\"16\",num_gpu_blocks=\"3000\",cache_dtype=\"auto\"}} 1\n\
                 vllm:request_success_total{{finished_reason=\"stop\"}} {}\n\
                 vllm:prompt_tokens_total {}\nvllm:generation_tokens_total {}\n\
                 vllm:request_time_per_output_token_seconds_sum {}\n\
                 vllm:request_time_per_output_token_seconds_count {}\n\
                 vllm:request_prefill_time_seconds_sum {}\nvllm:request_prefill_time_seconds_count {}\n",
                at * 9,
                at * 9 * 512,
                at * 9 * 128,
                f64::from(at * 9) * 0.0181,
                at * 9,
                f64::from(at * 9) * 0.035,
                at * 9
            );
            let pages = [("a".to_owned(), page.clone()), ("b".to_owned(), page)];
            let at_s = 1e9 + 5.0 * f64::from(at);
            collector.look(Look { at_s, status: &status, page: None, replicas: &pages }, 600.0);
        }
        collector.observed("m", Some(&records(60))).evidence()
    }

    #[test]
    fn what_is_planned_says_by_how_much_more_places_help() {
        let said = |is_planned: bool| {
            let evidence = full(is_planned);
            let report = super::super::super::triage(&evidence);
            let found = report.findings.iter().find(|one| one.id == "S01").unwrap();
            (evidence, found.fix.predicted.clone())
        };
        let (evidence, predicted) = said(true);
        for one in &evidence.replicas {
            assert_eq!((one.dims.layers, one.accelerator.count), (Some(28.0), Some(1.0)));
            assert_eq!(one.accelerator.bandwidth_bytes_s, Some(1008e9));
            assert_eq!(one.config.num_gpu_blocks, Some(3000.0), "what it says itself is kept");
        }
        assert_eq!(evidence.goals.tpot_s, Some(0.05));
        assert!(predicted.contains("times the requests"), "{predicted}");
        assert!(predicted.contains("then KV cache limits"), "{predicted}");
        let (evidence, predicted) = said(false);
        assert_eq!(evidence.replicas[0].accelerator.bandwidth_bytes_s, None);
        assert!(predicted.contains("double again"), "{predicted}");
    }

    /// Reports that stopped coming, with all picks of an interval to one replica or spread over both.
    #[test]
    fn choices_by_old_reports_are_a_herd() {
        let check = |age_ms: fn(u32) -> u32, is_herd: bool, expect: bool| {
            let mut collector = Collector::default();
            for at in 0..13 {
                let mut status = StatusSeen { scaling: BTreeMap::new(), ..status(0, 3) };
                for one in status.lanes.iter_mut().flat_map(|lane| &mut lane.replicas) {
                    one.report_age_ms = Some(f64::from(age_ms(at)));
                }
                let at_s = 1e9 + 5.0 * f64::from(at);
                collector.look(Look { at_s, status: &status, page: None, replicas: &[] }, 600.0);
            }
            let mut records = records(60);
            for (at, one) in records.iter_mut().enumerate() {
                let place = if is_herd { at / 5 % 2 } else { at % 2 };
                // Sent so that five go to one replica between two looks.
                one.unix_ms = Some(1e12 + 1e3 * at as f64 + 1051.0);
                one.replica = Some(["a", "b"][place].to_owned());
            }
            let observed = collector.observed("m", Some(&records));
            assert_eq!(observed.reports_interval_s, Some(5.0));
            let report = collector.report(None, Some(&records));
            let is_found = report.findings.iter().any(|one| one.id == "S14");
            assert_eq!(is_found, expect, "{is_herd} {:?}", observed.reports_age_s);
        };
        check(|at| 500 + 5000 * at, true, true);
        check(|at| 500 + 5000 * at, false, false);
        check(|_| 2500, true, false);
    }

    #[test]
    fn what_is_old_is_forgotten() {
        let mut collector = Collector::default();
        for at in 0..100 {
            let pages = [("a".to_owned(), format!("vllm:generation_tokens_total {at}\n"))];
            let look = Look {
                at_s: 1e9 + f64::from(at),
                status: &status(0, 1),
                page: Some(
                    "pilotage_requests_total{lane=\"m\"} 1\npilotage_requests_total{lane=\"o\"} 1\npilotage_x{lane=\"m\"} 1\n",
                ),
                replicas: &pages,
            };
            collector.look(look, 10.0);
        }
        let observed = collector.observed("m", None);
        assert_eq!(observed.until_s - observed.from_s, 10.0);
        assert_eq!(observed.gateway.len(), 1);
        assert_eq!(observed.evidence().replicas[0].deltas.generation_tokens, Some(10.0));
    }
}
