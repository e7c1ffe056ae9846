//! Traces of requests: which are kept, and that their spans are sent to the collector that the environment names.
//!
//! On the way of a request there is one look at its record, and a reference to it in a bounded queue; its spans
//! are made where they are sent.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use parking_lot::RwLock;
use pilotage_core::scale::Policy;
use pilotage_core::traffic::Name;
use pilotage_gateway::admin::More;
use pilotage_gateway::{Gateway, GatewayConfig};
use pilotage_lens::trace::{self, Convention, Goals, Kept, Outcome, Reasons, Sampler, Tail};
use pilotage_lens::{Record, Sink};
use pilotage_shell::clock::Clock;
use pilotage_shell::env::{self, Var};
use pilotage_shell::metrics::Metrics;
use pilotage_shell::otlp::{
    Config, ConfigError, Counts, Event, Exporter, KeyValue, Scope, SpanStatus, TraceSpan, Value,
    kind, status,
};

use crate::exit::Wrong;

/// What these processes are called where the environment says nothing.
const SERVICE: &str = "pilotage";

/// Traces a second that are kept for how they went, beside those that were drawn.
pub(in crate::cmd) const TAIL_PER_SECOND_MAX: u32 = 100;

/// How long the end may wait for the collector.
pub(in crate::cmd) const CLOSE_MAX: Duration = Duration::from_secs(5);

/// The traces of a gateway; nothing where none are sent. Clones are the same.
#[derive(Clone, Default)]
pub(in crate::cmd) struct Traces(Option<Sending>);

#[derive(Clone)]
struct Sending {
    exporter: Exporter<KeptRecord>,
    sampler: Sampler,
    goals: Arc<RwLock<BTreeMap<Name, Goals>>>,
}

/// A request that is kept, and why.
type KeptRecord = (Arc<Record>, Reasons);

/// Hands records over that are kept.
#[derive(Debug)]
struct Keep {
    exporter: Exporter<KeptRecord>,
    goals: Arc<RwLock<BTreeMap<Name, Goals>>>,
    usual: Goals,
    tail: Tail,
}

impl Traces {
    /// Starts to send, where the environment names a collector. The metrics are there in any case.
    ///
    /// # Errors
    /// A setting cannot be used.
    pub(in crate::cmd) fn start(
        config: &GatewayConfig,
        metrics: &Metrics,
        clock: Clock,
    ) -> anyhow::Result<Self> {
        let counts = Counts::register(metrics);
        let Settings { collector, convention, sampler } = Settings::read()?;
        let Some(collector) = collector else { return Ok(Self(None)) };
        let scope = Scope {
            name: "pilotage",
            version: env!("CARGO_PKG_VERSION"),
            schema_url: convention.schema_url(),
        };
        let spans = move |(record, reasons): &KeptRecord, out: &mut Vec<TraceSpan>| {
            let mut all = Vec::new();
            trace::spans(record, *reasons, convention, &mut all);
            out.extend(all.into_iter().map(message));
        };
        let exporter = Exporter::start(collector, scope, counts, clock, spans)?;
        let this = Sending { exporter, sampler, goals: Arc::default() };
        let this = Self(Some(this));
        this.set_goals(config);
        Ok(this)
    }

    /// Takes the records of that gateway, and decides which of its traces are sampled.
    pub(in crate::cmd) fn follow(&self, gateway: &Gateway) {
        let Some(Sending { exporter, sampler, goals }) = self.0.clone() else { return };
        gateway.set_sampler(sampler);
        let usual = Policy::default().goals;
        let tail = Tail::new(TAIL_PER_SECOND_MAX);
        gateway.add_sink(Arc::new(Keep { exporter, goals, usual, tail }));
    }

    /// What Models promise by now.
    pub(in crate::cmd) fn set_goals(&self, config: &GatewayConfig) {
        if let Some(Sending { goals, .. }) = &self.0 {
            let lanes = config.lanes.iter();
            *goals.write() =
                lanes.map(|lane| (Name::from(lane.name.as_str()), lane.goals)).collect();
        }
    }

    /// What the status says of it.
    pub(in crate::cmd) fn status(&self) -> Option<(&'static str, More)> {
        let exporter = self.0.as_ref()?.exporter.clone();
        let state = move || serde_json::to_value(exporter.state()).unwrap_or_default();
        Some(("traces", Arc::new(state)))
    }

    /// Sends what is left, within a bound.
    pub(in crate::cmd) async fn close(&self) {
        if let Some(Sending { exporter, .. }) = &self.0 {
            exporter.close(CLOSE_MAX).await;
        }
    }
}

impl Sink for Keep {
    fn take(&self, record: &Arc<Record>) {
        let reasons = {
            let goals = self.goals.read();
            let of_lane = record.lane.as_ref().and_then(|lane| goals.get(lane));
            Reasons::of(record, of_lane.unwrap_or(&self.usual))
        };
        if !reasons.any() {
            return;
        }
        if !reasons.has(Kept::Sampled) && !self.tail.admits(record.unix_ms) {
            return self.exporter.hold_back();
        }
        self.exporter.offer((Arc::clone(record), reasons));
    }
}

fn wrong(error: ConfigError) -> anyhow::Error {
    Wrong::new(error.to_string()).into()
}

/// What the environment says.
struct Settings {
    /// None where no traces are sent. What else is wrong is said even then.
    collector: Option<Config>,
    convention: Convention,
    sampler: Sampler,
}

impl Settings {
    fn read() -> anyhow::Result<Self> {
        let collector = Config::of_environment(SERVICE).map_err(wrong)?;
        let convention = Convention::parse(env::get(Var::SemconvOptIn).as_deref());
        let convention = convention.map_err(|error| {
            let unknown = format!("cannot be fulfilled: {error}");
            wrong(ConfigError::new(Var::SemconvOptIn, unknown))
        })?;
        let (name, part) = (env::get(Var::TracesSampler), env::get(Var::TracesSamplerArg));
        let sampler = Sampler::parse(name.as_deref(), part.as_deref()).map_err(|error| {
            let var = match &error {
                trace::SamplerError::Name(_) => Var::TracesSampler,
                trace::SamplerError::Ratio(_) => Var::TracesSamplerArg,
            };
            wrong(ConfigError::new(var, format!("cannot be used: {error}")))
        })?;
        Ok(Self { collector, convention, sampler })
    }
}

/// Whether the settings of traces can be used: said before anything is fetched or started.
///
/// # Errors
/// One cannot.
pub(in crate::cmd) fn check() -> anyhow::Result<()> {
    Settings::read().map(drop)
}

/// A span as it is sent.
fn message(span: trace::TraceSpan) -> TraceSpan {
    let remote = if span.parent_is_remote { TraceSpan::PARENT_IS_REMOTE } else { 0 };
    let sampled = if span.sampled { TraceSpan::SAMPLED } else { 0 };
    let attributes = span.attributes.into_iter();
    let events = span.events.into_iter();
    TraceSpan {
        trace_id: span.trace_id.to_be_bytes().to_vec(),
        span_id: span.span_id.to_be_bytes().to_vec(),
        parent_span_id: span.parent.map(|id| id.to_be_bytes().to_vec()).unwrap_or_default(),
        name: span.name.as_str().to_owned(),
        kind: match span.kind {
            trace::Kind::Internal => kind::INTERNAL,
            trace::Kind::Server => kind::SERVER,
            trace::Kind::Client => kind::CLIENT,
        },
        start_time_unix_nano: span.begin_nanos,
        end_time_unix_nano: span.end_nanos,
        attributes: attributes.map(|(key, said)| KeyValue::new(key, value(said))).collect(),
        events: events
            .map(|event| Event { time_unix_nano: event.at_nanos, name: event.name.to_owned() })
            .collect(),
        status: match span.outcome {
            Outcome::Unset => None,
            Outcome::Error(how) => {
                Some(SpanStatus { message: how.to_owned(), code: status::ERROR })
            }
        },
        flags: sampled | TraceSpan::KNOWS_REMOTE | remote,
    }
}

fn value(said: trace::Value) -> Value {
    match said {
        trace::Value::Word(word) => word.into(),
        trace::Value::Text(text) => text.as_str().into(),
        trace::Value::Count(count) => Value::Count(i64::try_from(count).unwrap_or(i64::MAX)),
        trace::Value::Number(number) => Value::Number(number),
        trace::Value::Flag(flag) => Value::Flag(flag),
        trace::Value::Words(words) => words.into_iter().collect(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn spans_are_sent_as_they_are() {
        let span = trace::TraceSpan {
            trace_id: 0x0102,
            span_id: 0x0a,
            parent: Some(0x0b),
            parent_is_remote: true,
            sampled: true,
            name: "POST /v1/chat/completions".into(),
            kind: trace::Kind::Server,
            begin_nanos: 1,
            end_nanos: 3,
            attributes: vec![
                ("word", "a".into()),
                ("text", Name::from("b").into()),
                ("count", 7_u32.into()),
                ("number", 0.5.into()),
                ("flag", true.into()),
                ("words", trace::Value::Words(vec!["c", "d"])),
            ],
            events: vec![trace::Event { name: "first_token", at_nanos: 2 }],
            outcome: Outcome::Error("timeout"),
        };
        let sent = message(span.clone());
        assert_eq!(sent.trace_id, [0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 1, 2]);
        assert_eq!(sent.span_id, [0, 0, 0, 0, 0, 0, 0, 10]);
        assert_eq!(sent.parent_span_id, [0, 0, 0, 0, 0, 0, 0, 11]);
        assert_eq!((sent.kind, sent.flags), (kind::SERVER, 0x301));
        assert_eq!((sent.start_time_unix_nano, sent.end_time_unix_nano), (1, 3));
        let expect = [
            KeyValue::new("word", "a"),
            KeyValue::new("text", "b"),
            KeyValue::new("count", Value::Count(7)),
            KeyValue::new("number", Value::Number(0.5)),
            KeyValue::new("flag", Value::Flag(true)),
            KeyValue::new("words", ["c", "d"].into_iter().collect::<Value>()),
        ];
        assert_eq!(sent.attributes, expect);
        assert_eq!(
            (sent.events[0].name.as_str(), sent.events[0].time_unix_nano),
            ("first_token", 2)
        );
        let ended = sent.status.unwrap();
        assert_eq!((ended.code, ended.message.as_str()), (status::ERROR, "timeout"));
        let alone =
            trace::TraceSpan { parent: None, parent_is_remote: false, sampled: false, ..span };
        let sent = message(alone);
        assert_eq!((sent.parent_span_id.len(), sent.flags), (0, 0x100));
    }
}
