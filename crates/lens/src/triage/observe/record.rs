//! Requests that ended, as the gateway tells of them: read from the JSON of its records, so that those of
//! another version are understood as far as they go.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};

use super::super::evidence::{Lasted, PhaseSeconds, Replica};
use crate::record::Termination;

/// Fewest requests of a replica of which a mean is taken.
const REQUESTS_MIN: usize = 3;

/// A record. What it does not say is none.
#[derive(Clone, Debug, Default, Deserialize, PartialEq, Serialize)]
#[serde(default)]
pub struct Ended {
    /// When it ended, in milliseconds since 1970.
    pub unix_ms: Option<f64>,
    /// Its id.
    pub request_id: Option<String>,
    /// The lane that served it.
    pub lane: Option<String>,
    /// The replica of its last attempt.
    pub replica: Option<String>,
    /// That one's server.
    pub runtime: Option<String>,
    /// The server's version.
    pub runtime_version: Option<String>,
    /// Its status.
    pub status: Option<u16>,
    /// How it ended.
    pub termination: Option<String>,
    /// Whether it was answered with another's answer.
    pub merged: bool,
    /// Whether it is a copy that nobody sees.
    pub mirror: bool,
    /// Tokens of its prompt.
    pub input: Option<f64>,
    /// Those of them that were cached.
    pub cached: Option<f64>,
    /// Tokens of its answer.
    pub output: Option<f64>,
    /// Finding out whose it is.
    pub t_auth_ms: Option<f64>,
    /// Reading it.
    pub t_read_ms: Option<f64>,
    /// Choosing where it may go.
    pub t_route_ms: Option<f64>,
    /// Waiting for its turn.
    pub t_queue_ms: Option<f64>,
    /// Attempts that failed.
    pub t_retry_ms: Option<f64>,
    /// Until the replica began to answer.
    pub t_connect_ms: Option<f64>,
    /// From then to its first token.
    pub t_prefill_ms: Option<f64>,
    /// From its first to its last token.
    pub t_decode_ms: Option<f64>,
    /// Its client took nothing.
    pub t_client_blocked_ms: Option<f64>,
    /// After its last token, its client's reading included (of older versions).
    pub t_flush_ms: Option<f64>,
    /// All of it.
    pub t_total_ms: Option<f64>,
    /// Time to its first token.
    pub ttft_ms: Option<f64>,
    /// Mean time between its tokens.
    pub tpot_ms: Option<f64>,
    /// Times between its tokens.
    pub itl: Option<GapsSeen>,
}

/// Times between the tokens of an answer.
#[derive(Clone, Copy, Debug, Default, Deserialize, PartialEq, Serialize)]
#[serde(default)]
pub struct GapsSeen {
    /// The median.
    pub p50_ms: Option<f64>,
    /// The longest.
    pub max_ms: Option<f64>,
}

impl Ended {
    /// Of a record, whoever's; none where it is no object of JSON.
    pub fn of(record: &impl Serialize) -> Option<Self> {
        let value = serde_json::to_value(record).ok().filter(serde_json::Value::is_object)?;
        serde_json::from_value(value).ok()
    }

    /// How it ended.
    pub fn termination(&self) -> Option<Termination> {
        let name = self.termination.as_deref()?;
        Termination::ALL.into_iter().find(|one| one.name() == name)
    }

    /// Whether it ended at that time or later, in seconds since 1970. What does not say when, did.
    pub fn is_since(&self, from_s: f64) -> bool {
        self.unix_ms.is_none_or(|at| at >= from_s * 1e3)
    }

    /// Whether a replica answered it to the end.
    pub(super) fn is_answered(&self) -> bool {
        self.termination() == Some(Termination::Ok) && self.status.is_none_or(|status| status < 400)
    }

    /// When it was sent to its replica, in seconds since 1970.
    pub(super) fn sent_s(&self) -> Option<f64> {
        let after =
            [self.t_connect_ms, self.t_prefill_ms, self.t_decode_ms, self.t_client_blocked_ms];
        let after: f64 = after.into_iter().flatten().sum();
        self.replica.as_ref()?;
        Some((self.unix_ms? - after) / 1e3)
    }
}

/// Seconds of all of them in each phase.
pub(super) fn phases(records: &[Ended]) -> PhaseSeconds {
    let sum = |of: &[fn(&Ended) -> Option<f64>]| {
        let known: Vec<f64> =
            records.iter().flat_map(|one| of.iter().filter_map(move |of| of(one))).collect();
        (!known.is_empty()).then(|| known.iter().sum::<f64>() / 1e3)
    };
    PhaseSeconds {
        read: sum(&[|one| one.t_auth_ms, |one| one.t_read_ms, |one| one.t_route_ms]),
        queue: sum(&[|one| one.t_queue_ms]),
        retry: sum(&[|one| one.t_retry_ms]),
        connect: sum(&[|one| one.t_connect_ms]),
        prefill: sum(&[|one| one.t_prefill_ms]),
        decode: sum(&[|one| one.t_decode_ms]),
        flush: sum(&[|one| one.t_client_blocked_ms, |one| one.t_flush_ms]),
        total: sum(&[|one| one.t_total_ms]),
    }
}

/// What records say of replicas that do not say it themselves.
pub(super) fn fill(replicas: &mut [Replica], records: &[Ended]) {
    let mut by_name: BTreeMap<&str, Vec<&Ended>> = BTreeMap::new();
    for one in records.iter().filter(|one| one.is_answered() && !one.merged) {
        if let Some(name) = &one.replica {
            by_name.entry(name).or_default().push(one);
        }
    }
    for replica in replicas {
        if let Some(own) = by_name.get(replica.name.as_str()) {
            complete(replica, own);
        }
    }
}

fn complete(replica: &mut Replica, own: &[&Ended]) {
    let sum = |of: fn(&Ended) -> Option<f64>| {
        let known: Vec<f64> = own.iter().filter_map(|one| of(one)).collect();
        (known.len() >= REQUESTS_MIN).then(|| known.iter().sum::<f64>())
    };
    let lasted = |of: fn(&Ended) -> Option<f64>| {
        let count = own.iter().filter(|one| of(one).is_some()).count() as f64;
        sum(of).map_or_else(Lasted::default, |ms| Lasted::new(ms / 1e3, count))
    };
    let deltas = &mut replica.deltas;
    // A replica that is counted from outside has at least ended these. That it did nothing, only its own
    // counters can say: an answer may take longer than the window.
    deltas.requests =
        deltas.requests.or_else(|| (own.len() >= REQUESTS_MIN).then_some(own.len() as f64));
    deltas.prompt_tokens = deltas.prompt_tokens.or_else(|| sum(|one| one.input));
    deltas.cached_tokens = deltas.cached_tokens.or_else(|| sum(|one| one.cached));
    deltas.generation_tokens = deltas.generation_tokens.or_else(|| sum(|one| one.output));
    let times = &mut replica.times;
    let fill = |time: &mut Lasted, other: Lasted| {
        if time.seconds.is_none() {
            *time = other;
        }
    };
    fill(&mut times.tpot, lasted(|one| one.tpot_ms));
    // Of an answer in one piece all of its time is in these phases.
    let first = |one: &Ended| {
        one.ttft_ms?;
        Some(one.t_connect_ms.unwrap_or(0.0) + one.t_prefill_ms?)
    };
    fill(&mut times.ttft, lasted(first));
    let gaps = |of: fn(&GapsSeen) -> Option<f64>| -> Vec<f64> {
        own.iter().filter_map(|one| of(one.itl.as_ref()?)).map(|ms| ms / 1e3).collect()
    };
    times.itl_p50_s = times.itl_p50_s.or_else(|| super::series::middle(gaps(|gaps| gaps.p50_ms)));
    times.itl_max_s =
        times.itl_max_s.or_else(|| gaps(|gaps| gaps.max_ms).into_iter().reduce(f64::max));
    let said =
        |of: fn(&Ended) -> Option<&String>| own.iter().rev().find_map(|one| of(one)).cloned();
    replica.version = replica.version.take().or_else(|| said(|one| one.runtime_version.as_ref()));
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn ended(value: serde_json::Value) -> Ended {
        serde_json::from_value(value).unwrap()
    }

    #[test]
    fn only_streams_say_how_soon_answers_begin() {
        let replica = |ttft: Option<f64>| {
            let one = || {
                ended(json!({"replica": "a", "termination": "ok", "status": 200, "output": 5,
                    "t_connect_ms": 1.0, "t_prefill_ms": 5000.0, "ttft_ms": ttft}))
            };
            let records: Vec<Ended> = (0..REQUESTS_MIN).map(|_| one()).collect();
            let mut replicas = [Replica { name: "a".to_owned(), ..Replica::default() }];
            fill(&mut replicas, &records);
            replicas[0].times.ttft.seconds
        };
        assert_eq!(replica(None), None);
        assert_eq!(replica(Some(5001.0)), Some(5.001 * REQUESTS_MIN as f64));
    }

    #[test]
    fn records_of_other_versions_are_read_as_far_as_they_go() {
        let one = ended(
            json!({"request_id": "r", "termination": "who_knows", "why": {"a": 1}, "ttft_ms": null}),
        );
        assert_eq!((one.termination(), one.ttft_ms), (None, None));
        assert_eq!(ended(json!({"termination": "ok"})).termination(), Some(Termination::Ok));
        assert_eq!(Ended::of(&json!([1])), None);
    }

    #[test]
    fn phases_add_up_over_requests() {
        let records = [
            ended(
                json!({"t_auth_ms": 1.0, "t_read_ms": 2.0, "t_queue_ms": 500.0, "t_total_ms": 900.0}),
            ),
            ended(json!({"t_read_ms": 1.0, "t_total_ms": 100.0})),
        ];
        let phases = phases(&records);
        assert_eq!((phases.read, phases.queue, phases.total), (Some(0.004), Some(0.5), Some(1.0)));
        assert_eq!(phases.decode, None);
    }

    #[test]
    fn replicas_without_metrics_are_known_by_their_answers() {
        let one = ended(
            json!({"replica": "a", "termination": "ok", "status": 200, "tpot_ms": 20.0, "output": 10, "t_prefill_ms": 100.0}),
        );
        let mut replicas = [Replica { name: "a".to_owned(), ..Replica::default() }];
        fill(&mut replicas, &[one.clone(), one.clone()]);
        assert_eq!(replicas[0].times.tpot.mean(), None, "two are no mean");
        fill(&mut replicas, &[one.clone(), one.clone(), one]);
        assert_eq!(replicas[0].times.tpot.mean(), Some(0.02));
        assert_eq!(replicas[0].deltas.generation_tokens, Some(30.0));
        assert_eq!(replicas[0].deltas.iterations, None);
    }
}
