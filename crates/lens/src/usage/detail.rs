//! What explains one request when it is long over: where its time went, in a few dozen bytes beside its row.

use pilotage_core::{Span, Tokens};
use serde::{Deserialize, Deserializer, Serialize, Serializer};

use super::row::{Row, micros, name};
use crate::{Itl, Phase, Phases, Record, Termination};

/// The form in which details are written. Forms that are out in the world stay readable.
const VERSION: u8 = 1;

/// The phases of that form, in its order, whatever phases there may be besides.
const PHASES: [Phase; 10] = [
    Phase::Auth,
    Phase::Read,
    Phase::Route,
    Phase::Queue,
    Phase::Retry,
    Phase::Connect,
    Phase::Prefill,
    Phase::Decode,
    Phase::ClientBlocked,
    Phase::Other,
];

/// The most replicas before the last one that are kept by name.
const EARLIER_MAX: usize = 8;

/// Where a request's time went, and what else was unusual. All times in whole microseconds.
///
/// Written as a list without names, `[1,[0,12,…],8000,[…],0,false,["r-1"]]`: the version, phases, the time between tokens,
/// gaps (p50, p90, p99, longest, stalls, their time), times it went on elsewhere, whether something had to be put right, the
/// replicas before the last one. One of another version reads as none.
#[derive(Clone, Debug, Default, Eq, PartialEq)]
pub struct Detail {
    /// Its phases.
    pub phases: Phases,
    /// Mean time between tokens.
    pub tpot: Option<Span>,
    /// The gaps between tokens.
    pub itl: Option<Itl>,
    /// Times its answer broke off and went on elsewhere.
    pub resumed: u32,
    /// Whether the engine said something that had to be put right.
    pub corrupted: bool,
    /// The replicas of the attempts before the last one, in order; of many the last ones.
    pub earlier: Vec<String>,
}

/// As it is written.
type Written = (u8, Vec<u64>, Option<u64>, Option<[u64; 6]>, u32, bool, Vec<String>);

impl Detail {
    /// That of a record.
    pub fn of(record: &Record) -> Self {
        let earlier = &record.earlier_replicas;
        let last = earlier.len().saturating_sub(EARLIER_MAX);
        Self {
            phases: record.phases,
            tpot: record.tpot,
            itl: record.itl,
            resumed: record.resumed,
            corrupted: record.corrupted,
            earlier: earlier[last..].iter().map(|replica| name(replica).into_owned()).collect(),
        }
    }
}

impl Serialize for Detail {
    fn serialize<S: Serializer>(&self, out: S) -> Result<S::Ok, S::Error> {
        let phases: Vec<u64> = PHASES.iter().map(|phase| micros(self.phases.of(*phase))).collect();
        let itl = self.itl.map(|itl| {
            let gaps = [itl.p50, itl.p90, itl.p99, itl.max].map(micros);
            [gaps[0], gaps[1], gaps[2], gaps[3], itl.stalls.into(), micros(itl.stalled)]
        });
        let rest = (self.resumed, self.corrupted, self.earlier.clone());
        let written: Written =
            (VERSION, phases, self.tpot.map(micros), itl, rest.0, rest.1, rest.2);
        written.serialize(out)
    }
}

impl<'de> Deserialize<'de> for Detail {
    fn deserialize<D: Deserializer<'de>>(from: D) -> Result<Self, D::Error> {
        let (version, phases, tpot, itl, resumed, corrupted, earlier) = Written::deserialize(from)?;
        if version != VERSION {
            return Err(serde::de::Error::custom("a detail of a version that is not known"));
        }
        let mut spans = Phases::default();
        for (phase, micros) in PHASES.into_iter().zip(phases) {
            *slot(&mut spans, phase) = span(micros);
        }
        let itl = itl.map(|[p50, p90, p99, max, stalls, stalled]| Itl {
            p50: span(p50),
            p90: span(p90),
            p99: span(p99),
            max: span(max),
            stalls: u32::try_from(stalls).unwrap_or(u32::MAX),
            stalled: span(stalled),
        });
        Ok(Self { phases: spans, tpot: tpot.map(span), itl, resumed, corrupted, earlier })
    }
}

impl Row {
    /// The record that it was, as far as it is kept, for explaining it: see [`crate::why::explain`]. None where its
    /// phases are not kept.
    pub fn record(&self) -> Option<Record> {
        let detail = self.detail.as_ref()?;
        let count = |tokens: u64| u32::try_from(tokens).unwrap_or(u32::MAX);
        let shared = |text: &Option<String>| text.as_deref().map(Into::into);
        let termination = Termination::ALL.into_iter().find(|one| one.name() == self.termination);
        Some(Record {
            unix_ms: self.unix_ms,
            request_id: self.request_id.as_str().into(),
            trace_id: u128::from_str_radix(&self.trace_id, 16).unwrap_or_default(),
            tenant: shared(&self.tenant),
            tenant_path: shared(&self.tenant_path),
            route: shared(&self.route),
            lane: shared(&self.model),
            version: shared(&self.version),
            adapter: shared(&self.adapter),
            runtime_version: shared(&self.runtime_version),
            hardware: shared(&self.hardware),
            stream: self.stream,
            status: self.status,
            termination: termination.unwrap_or_default(),
            attempts: self.attempts,
            stops: self.stops,
            merged: self.merged,
            mirror: self.mirror,
            resumed: detail.resumed,
            corrupted: detail.corrupted,
            earlier_replicas: detail.earlier.iter().map(|one| one.as_str().into()).collect(),
            replica: shared(&self.replica),
            region: shared(&self.region),
            tokens: Tokens {
                input: count(self.input),
                cached: count(self.cached),
                output: count(self.output),
            },
            reasoning: count(self.reasoning),
            counted: self.counted,
            charged: self.charged_micros,
            phases: detail.phases,
            total: span(self.total_us),
            ttft: self.ttft_us.map(span),
            tpot: detail.tpot,
            itl: detail.itl,
            ..Record::default()
        })
    }
}

const fn span(micros: u64) -> Span {
    Span::from_nanos(micros.saturating_mul(1000))
}

const fn slot(phases: &mut Phases, phase: Phase) -> &mut Span {
    match phase {
        Phase::Auth => &mut phases.auth,
        Phase::Read => &mut phases.read,
        Phase::Route => &mut phases.route,
        Phase::Queue => &mut phases.queue,
        Phase::Retry => &mut phases.retry,
        Phase::Connect => &mut phases.connect,
        Phase::Prefill => &mut phases.prefill,
        Phase::Decode => &mut phases.decode,
        Phase::ClientBlocked => &mut phases.client_blocked,
        Phase::Other => &mut phases.other,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::why::explain;

    /// A request that stood in line, went elsewhere and stalled.
    fn record() -> Record {
        let ms = Span::from_millis;
        let phases = Phases {
            auth: ms(1),
            queue: ms(3000),
            retry: ms(20),
            prefill: ms(120),
            decode: ms(900),
            other: Span::from_nanos(7000),
            ..Phases::default()
        };
        let itl =
            Itl { p50: ms(9), p90: ms(10), p99: ms(40), max: ms(300), stalls: 1, stalled: ms(300) };
        Record {
            request_id: "r".into(),
            trace_id: 0xabc,
            lane: Some("chat".into()),
            stream: true,
            status: 200,
            attempts: 2,
            resumed: 1,
            earlier_replicas: vec!["chat-0".into()],
            replica: Some("chat-1".into()),
            tokens: Tokens { input: 500, cached: 20, output: 90 },
            counted: true,
            total: phases.total(),
            phases,
            ttft: Some(ms(3141)),
            tpot: Some(ms(10)),
            itl: Some(itl),
            ..Record::default()
        }
    }

    #[test]
    fn a_row_explains_as_its_record_does() {
        let record = record();
        let text = serde_json::to_string(&Row::of(&record, 0)).unwrap();
        let row: Row = serde_json::from_str(&text).unwrap();
        let again = row.record().unwrap();
        let told = |record: &Record| serde_json::to_value(explain(record, None)).unwrap();
        assert_eq!(told(&again), told(&record));
        assert_eq!(again.phases, record.phases);
        assert_eq!((again.itl, again.ttft, again.trace_id), (record.itl, record.ttft, 0xabc));
        let length = serde_json::to_string(&row.detail).unwrap().len();
        assert!(length < 120, "{length}");
    }

    #[test]
    fn what_is_not_known_is_none() {
        let check = |text: &str| serde_json::from_str::<Detail>(text).is_ok();
        assert!(check("[1,[1,2],null,null,0,false,[]]"));
        assert!(!check("[2,[1,2],null,null,0,false,[]]"));
        assert_eq!(Row::default().record().map(|_| ()), None);
        // A form that comes later takes nothing else of the row away.
        let row: Row = serde_json::from_str(r#"{"input_tokens":7,"detail":[9,"x"]}"#).unwrap();
        assert_eq!((row.input, row.detail), (7, None));
    }
}
