//! The gateway and its clients: one loop that every request goes through, connections that are kept or
//! made, clients that read slowly, endpoints with a quota. And what it tells of requests when they end.

use std::collections::BTreeMap;
use std::fmt::Write as _;

use pilotage_core::Time;
use pilotage_lens::Termination;
use pilotage_lens::triage::observe::Ended;

use super::setup::{WARM_S, WINDOW_S};
use crate::arrival::{seconds, time};
use crate::run::{Fate, Record, Run};
use crate::{Arrival, Scenario};

/// The begin of the run, in seconds since 1970.
pub(super) const EPOCH_S: f64 = 1_800_000_000.0;

/// What the gateway and those around it are like.
#[derive(Clone, Copy, Debug)]
pub(super) struct Front {
    /// Milliseconds of its one loop that each request takes.
    pub(super) loop_ms: f64,
    /// Milliseconds to make a connection, and after how many of idling the other side closes it.
    pub(super) dial_ms: f64,
    pub(super) idle_ms: f64,
    /// The part of the clients that read slowly, and how many tokens a second these read.
    pub(super) slow_clients: f64,
    pub(super) slow_rate: f64,
    /// Requests a minute that endpoints answer to this account; the others get 429.
    pub(super) account: Option<f64>,
    /// Tokens that a prompt and the longest answer may have together; others get 400.
    pub(super) context: u32,
}

impl Front {
    /// A gateway with little to do, its connections kept.
    pub(super) const USUAL: Self = Self {
        loop_ms: 0.3,
        dial_ms: 1.0,
        idle_ms: 30_000.0,
        slow_clients: 0.0,
        slow_rate: 0.0,
        account: None,
        context: 32_768,
    };
}

/// What became of requests before they came to the scheduler, and what is known of the loop.
#[derive(Clone, Debug, Default)]
pub(super) struct Entered {
    /// When each came to the gateway, by its place among the arrivals.
    came: Vec<f64>,
    /// Ends that no replica had to do with.
    rows: Vec<Ended>,
    /// Refused for their length, by when.
    too_long: Vec<f64>,
    /// How late the loop was for each, by when.
    late: Vec<(f64, f64)>,
    loop_s: f64,
}

/// Sends what comes through the loop, and refuses what endpoints would.
pub(super) fn enter(front: &Front, scenario: &mut Scenario) -> Entered {
    let mut entered = Entered { loop_s: front.loop_ms / 1e3, ..Entered::default() };
    let (mut free, mut tokens, mut before) = (0.0_f64, front.account.unwrap_or(0.0) / 60.0, 0.0);
    let mut kept: Vec<Arrival> = Vec::new();
    let fresh: Vec<Arrival> = std::mem::take(&mut scenario.arrivals);
    let mut again = BTreeMap::new();
    for (place, mut arrival) in fresh.into_iter().enumerate() {
        if arrival.at == crate::scenario::NEVER {
            entered.came.push(f64::INFINITY);
            kept.push(arrival);
            continue;
        }
        let came = seconds(arrival.at);
        let begins = came.max(free);
        free = begins + entered.loop_s;
        entered.late.push((came, begins - came));
        let number = place as u64;
        if arrival.input + arrival.output_max > front.context {
            entered.too_long.push(free);
            entered.rows.push(refused(number, (came, free), 400));
            continue;
        }
        if let Some(account) = front.account {
            tokens = (tokens + (came - before) * account / 60.0).min(account / 60.0);
            before = came;
            if tokens < 1.0 {
                entered.rows.push(refused(number, (came, free + 0.02), 429));
                continue;
            }
            tokens -= 1.0;
        }
        arrival.at = time(free);
        again.insert(place, kept.len());
        entered.came.push(came);
        kept.push(arrival);
    }
    // Nobody is refused in worlds in which clients try again.
    debug_assert!(scenario.again.is_empty() || entered.rows.is_empty());
    scenario.arrivals = kept;
    entered
}

fn refused(number: u64, (came, end): (f64, f64), status: u16) -> Ended {
    Ended {
        unix_ms: Some((EPOCH_S + end) * 1e3),
        request_id: Some(format!("refused-{number}")),
        lane: Some("m".to_owned()),
        replica: Some("m-0".to_owned()),
        status: Some(status),
        termination: Some(Termination::Ok.name().to_owned()),
        t_connect_ms: Some((end - came) * 1e3),
        t_total_ms: Some((end - came) * 1e3),
        ..Ended::default()
    }
}

/// Connections that were made and used again.
#[derive(Clone, Copy, Debug, Default)]
struct Dialed {
    new: f64,
    kept: f64,
    seconds: f64,
}

/// What the gateway tells, and what its own page showed at each look.
pub(super) struct Told {
    pub(super) rows: Vec<Ended>,
    /// When each connection was made or used again.
    dials: Vec<(f64, bool)>,
    dial_s: f64,
}

/// Records of what ended in the window.
pub(super) fn tell(
    front: &Front,
    entered: &Entered,
    scenario: &Scenario,
    run: &Run,
    names: &[String],
    versions: &[&str],
) -> Told {
    let dials = dial(front, run);
    let made: BTreeMap<usize, bool> =
        dials.iter().map(|(place, _, is_new)| (*place, *is_new)).collect();
    let origin: BTreeMap<usize, usize> =
        scenario.again.iter().map(|(from, to)| (*to, *from)).collect();
    let mut rows = entered.rows.clone();
    for (place, record) in run.records.iter().enumerate() {
        let Some(end) = record.end else { continue };
        let mut first = place;
        while let Some(before) = origin.get(&first) {
            first = *before;
        }
        let came = record.came.map_or(0.0, seconds);
        // What is sent again goes through the loop as well, which has time for it here.
        let came = entered.came.get(place).copied().filter(|at| at.is_finite()).unwrap_or(came);
        let is_new = made.get(&place).copied().unwrap_or(false);
        let extra = if is_new { front.dial_ms / 1e3 } else { 0.0 };
        let name = record.replica.and_then(|at| names.get(at as usize));
        let version = record.replica.and_then(|at| versions.get(at as usize));
        let slow = is_slow(front, place);
        let row = Row {
            record,
            arrival: &scenario.arrivals[place],
            came,
            end: seconds(end),
            extra,
            slow,
        };
        rows.push(Ended {
            request_id: Some(format!("r{first}")),
            replica: name.cloned(),
            runtime: Some("vllm".to_owned()),
            runtime_version: version.map(|version| (*version).to_owned()),
            ..row.ended(front)
        });
    }
    let is_in = |one: &Ended| {
        let at = one.unix_ms.unwrap_or(0.0) / 1e3 - EPOCH_S;
        (WARM_S..=WARM_S + WINDOW_S).contains(&at)
    };
    rows.retain(is_in);
    let dials = dials.into_iter().map(|(_, at, is_new)| (at, is_new)).collect();
    Told { rows, dials, dial_s: front.dial_ms / 1e3 }
}

/// Every client is slow or is not, whatever it asks.
fn is_slow(front: &Front, place: usize) -> bool {
    (pilotage_chance::mix(place as u64) % 1000) as f64 / 1000.0 < front.slow_clients
}

struct Row<'a> {
    record: &'a Record,
    arrival: &'a Arrival,
    came: f64,
    end: f64,
    extra: f64,
    slow: bool,
}

impl Row<'_> {
    fn ended(&self, front: &Front) -> Ended {
        let record = self.record;
        let at = |time: Option<Time>| time.map(seconds);
        let entered = record.came.map_or(self.came, seconds).max(self.came);
        let sent = at(record.dispatched).unwrap_or(self.end);
        let first = at(record.first_token).unwrap_or(self.end);
        let is_whole = record.fate == Some(Fate::Served);
        let blocked = if self.slow && is_whole {
            // The gateway keeps what its client does not take.
            (f64::from(record.generated) / front.slow_rate - (self.end - first)).max(0.0)
        } else {
            0.0
        };
        let total = self.end - self.came + self.extra + blocked;
        let ms = |seconds: f64| Some(seconds.max(0.0) * 1e3);
        let gaps = f64::from(record.generated.saturating_sub(1)).max(1.0);
        let (termination, status) = ending(record.fate);
        Ended {
            unix_ms: Some((EPOCH_S + self.end + self.extra + blocked) * 1e3),
            lane: Some("m".to_owned()),
            status: Some(status),
            termination: Some(termination.name().to_owned()),
            input: Some(f64::from(self.arrival.input)),
            cached: Some(f64::from(record.cached)),
            output: Some(f64::from(record.generated)),
            t_read_ms: ms(entered - self.came),
            t_queue_ms: ms(sent - entered),
            t_connect_ms: ms(self.extra),
            t_prefill_ms: ms(first - sent),
            t_decode_ms: ms(self.end - first),
            t_client_blocked_ms: ms(blocked),
            t_total_ms: ms(total),
            ttft_ms: record.first_token.and_then(|_| ms(first - self.came)),
            tpot_ms: ms((self.end - first) / gaps).filter(|_| is_whole),
            ..Ended::default()
        }
    }
}

fn ending(fate: Option<Fate>) -> (Termination, u16) {
    match fate {
        Some(Fate::Served) | None => (Termination::Ok, 200),
        Some(Fate::Cancelled) => (Termination::ClientCancel, 499),
        Some(Fate::Interrupted) => (Termination::UpstreamInterrupted, 200),
        Some(Fate::Refused("queue_full" | "queue_share")) => (Termination::QueueFull, 429),
        Some(Fate::Refused("deadline_passed")) => (Termination::Deadline, 504),
        Some(Fate::Refused("overloaded" | "exhausted" | "unreachable")) => {
            (Termination::UpstreamError, 502)
        }
        Some(Fate::Refused(_)) => (Termination::Quota, 429),
    }
}

/// Which requests needed a new connection: an idle one is kept by the other side for only so long.
fn dial(front: &Front, run: &Run) -> Vec<(usize, f64, bool)> {
    let idle_s = front.idle_ms / 1e3;
    let mut order: Vec<(f64, bool, usize)> = Vec::new();
    for (place, record) in run.records.iter().enumerate() {
        if let Some((sent, _)) = record.dispatched.zip(record.replica) {
            order.push((seconds(sent), true, place));
            if let Some(end) = record.end {
                order.push((seconds(end), false, place));
            }
        }
    }
    order.sort_by(|left, right| left.0.total_cmp(&right.0).then(left.1.cmp(&right.1)));
    let mut idle: BTreeMap<u32, Vec<f64>> = BTreeMap::new();
    let mut dials = Vec::new();
    for (at, is_sent, place) in order {
        let pool = idle.entry(run.records[place].replica.unwrap_or(0)).or_default();
        if is_sent {
            pool.retain(|since| at - since < idle_s);
            dials.push((place, at, pool.pop().is_none()));
        } else {
            pool.push(at);
        }
    }
    dials
}

/// The gateway's page at that time of the run.
pub(super) fn page(entered: &Entered, told: &Told, at: f64) -> String {
    let mut dialed = Dialed::default();
    for (_, is_new) in told.dials.iter().take_while(|(when, _)| *when <= at) {
        if *is_new {
            dialed =
                Dialed { new: dialed.new + 1.0, seconds: dialed.seconds + told.dial_s, ..dialed };
        } else {
            dialed.kept += 1.0;
        }
    }
    let came = entered.late.partition_point(|(when, _)| *when <= at);
    let late: f64 = entered.late[..came].iter().map(|(_, late)| late).sum();
    let too_long = entered.too_long.iter().filter(|when| **when <= at).count();
    let mut out = String::new();
    let _ = writeln!(
        out,
        "pilotage_event_loop_delay_seconds_sum {late}\npilotage_event_loop_delay_seconds_count {came}\n\
         pilotage_runtime_workers 1\nprocess_cpu_seconds_total {}\n\
         pilotage_upstream_connect_seconds_sum {}\npilotage_upstream_connect_seconds_count {}\n\
         pilotage_upstream_connections_total{{reused=\"false\"}} {}\n\
         pilotage_upstream_connections_total{{reused=\"true\"}} {}\n\
         pilotage_upstream_faults_total{{replica=\"m-0\",fault=\"too_long\"}} {too_long}",
        came as f64 * entered.loop_s,
        dialed.seconds,
        dialed.new,
        dialed.new,
        dialed.kept
    );
    out
}
