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
use pilotage_lens::trace::{
    self, Convention, Drawn, Goals, Head, Kept, Outcome, Reasons, Sampler, Tail, Tracer,
};
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

/// Traces a second that are recorded only as their clients ask for it, where nothing else is said.
pub(in crate::cmd) const CLIENTS_PER_SECOND_MAX: u32 = 100;

/// How long the end may wait for the collector.
pub(in crate::cmd) const CLOSE_MAX: Duration = Duration::from_secs(5);

/// The traces of a gateway; nothing where none are sent. Clones are the same.
#[derive(Clone, Default)]
pub(in crate::cmd) struct Traces(Option<Sending>);

#[derive(Clone)]
struct Sending {
    exporter: Exporter<Arc<Record>>,
    sampler: Sampler,
    clients_max: u32,
    goals: Arc<RwLock<BTreeMap<Name, Goals>>>,
    clock: Clock,
}

/// Decides which traces there are, and hands those over.
#[derive(Debug)]
struct Keep {
    exporter: Exporter<Arc<Record>>,
    goals: Arc<RwLock<BTreeMap<Name, Goals>>>,
    usual: Goals,
    head: Head,
    tail: Tail,
    clock: Clock,
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
        let Settings { collector, convention, sampler, clients_max } = Settings::read()?;
        let Some(collector) = collector else { return Ok(Self(None)) };
        let scope = Scope {
            name: "pilotage",
            version: env!("CARGO_PKG_VERSION"),
            schema_url: convention.schema_url(),
        };
        let spans = move |record: &Arc<Record>, out: &mut Vec<TraceSpan>| {
            let mut all = Vec::new();
            trace::spans(record, record.kept, convention, &mut all);
            out.extend(all.into_iter().map(message));
        };
        let exporter = Exporter::start(collector, scope, counts, clock, spans)?;
        let this = Sending { exporter, sampler, clients_max, goals: Arc::default(), clock };
        let this = Self(Some(this));
        this.set_goals(config);
        Ok(this)
    }

    /// Takes the records of that gateway, and decides which of its traces there are.
    pub(in crate::cmd) fn follow(&self, gateway: &Gateway) {
        let Some(sending) = self.0.clone() else { return };
        let Sending { exporter, sampler, clients_max, goals, clock } = sending;
        let head = Head::new(sampler, clients_max);
        let tail = Tail::new(TAIL_PER_SECOND_MAX);
        let usual = Policy::default().goals;
        let keep = Arc::new(Keep { exporter, goals, usual, head, tail, clock });
        gateway.set_tracer(Arc::clone(&keep) as Arc<dyn Tracer>);
        gateway.add_sink(keep);
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

impl Tracer for Keep {
    fn samples(&self, trace_id: u128, parent: Option<bool>) -> bool {
        match self.head.draws(trace_id, parent, self.clock.unix_ms()) {
            Drawn::Recorded => true,
            Drawn::Left => false,
            Drawn::TooMany => {
                self.exporter.hold_back();
                false
            }
        }
    }

    fn keeps(&self, record: &Record) -> Reasons {
        let reasons = {
            let goals = self.goals.read();
            let of_lane = record.lane.as_ref().and_then(|lane| goals.get(lane));
            Reasons::of(record, of_lane.unwrap_or(&self.usual))
        };
        if !reasons.any() {
            return reasons;
        }
        if !reasons.has(Kept::Sampled) && !self.tail.admits(record.unix_ms) {
            self.exporter.hold_back();
            return Reasons::default();
        }
        let takes = self.exporter.takes(reasons.is_telling());
        if takes { reasons } else { Reasons::default() }
    }
}

impl Sink for Keep {
    fn take(&self, record: &Arc<Record>) {
        if record.kept.any() {
            self.exporter.offer(Arc::clone(record));
        }
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
    clients_max: u32,
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
        let clients_max = match env::get(Var::TracesOfClients) {
            None => CLIENTS_PER_SECOND_MAX,
            Some(text) => text.trim().parse().map_err(|_| {
                let told = format!("is `{text}`; write a whole number");
                wrong(ConfigError::new(Var::TracesOfClients, told))
            })?,
        };
        Ok(Self { collector, convention, sampler, clients_max })
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
        attributes: said_as(span.attributes),
        events: events
            .map(|event| Event {
                time_unix_nano: event.at_nanos,
                name: event.name.to_owned(),
                attributes: said_as(event.attributes),
            })
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

fn said_as(attributes: Vec<(&'static str, trace::Value)>) -> Vec<KeyValue> {
    attributes.into_iter().map(|(key, said)| KeyValue::new(key, value(said))).collect()
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
            events: vec![trace::Event {
                name: "stall",
                at_nanos: 2,
                attributes: vec![("gap", 1.5.into())],
            }],
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
        assert_eq!((sent.events[0].name.as_str(), sent.events[0].time_unix_nano), ("stall", 2));
        assert_eq!(sent.events[0].attributes, [KeyValue::new("gap", Value::Number(1.5))]);
        let ended = sent.status.unwrap();
        assert_eq!((ended.code, ended.message.as_str()), (status::ERROR, "timeout"));
        let alone =
            trace::TraceSpan { parent: None, parent_is_remote: false, sampled: false, ..span };
        let sent = message(alone);
        assert_eq!((sent.parent_span_id.len(), sent.flags), (0, 0x100));
    }
}
