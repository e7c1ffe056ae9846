//! One request's usage, as it is kept: who, with what, and how much. No word of the prompt or the answer.

use std::borrow::Cow;

use pilotage_core::Span;
use pilotage_core::traffic::Name;
use serde::{Deserialize, Deserializer, Serialize};

use super::detail::Detail;
use super::sums::{Group, Sums};
use crate::Record;
use crate::ran::{Ran, to_ms};

/// The most bytes of a name that is kept; what is longer ends in a hash of the whole. Databases index names,
/// and refuse what does not fit a page of theirs.
pub const NAME_BYTES_MAX: usize = 253;

/// One request in the usage ledger. Names that are not known are left out.
#[derive(Clone, Debug, Default, Deserialize, Eq, PartialEq, Serialize)]
#[serde(default)]
pub struct Row {
    /// When it ended, in milliseconds since 1970.
    pub unix_ms: u64,
    /// The request's id.
    pub request_id: String,
    /// The trace it belongs to, 32 hexadecimal digits.
    pub trace_id: String,
    /// Whose it was.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub tenant: Option<String>,
    /// The tenant below those above it, divided by `/`.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub tenant_path: Option<String>,
    /// The path, one of the API's own.
    pub path: String,
    /// The route that it took.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub route: Option<String>,
    /// The Model that served it.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub model: Option<String>,
    /// What its weights are.
    #[serde(rename = "model_version", skip_serializing_if = "Option::is_none")]
    pub version: Option<String>,
    /// The LoRA adapter.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub adapter: Option<String>,
    /// The server, such as `vllm`.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub runtime: Option<String>,
    /// Its version.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub runtime_version: Option<String>,
    /// The class of the hardware.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub hardware: Option<String>,
    /// The replica of the last attempt.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub replica: Option<String>,
    /// The region of that.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub region: Option<String>,
    /// How urgent it was.
    pub band: String,
    /// How it ended.
    pub termination: String,
    /// The HTTP status.
    pub status: u16,
    /// Whether the answer was a stream.
    pub stream: bool,
    /// Attempts made.
    pub attempts: u32,
    /// Times it was stopped for somebody else.
    pub stops: u32,
    /// Whether its answer is one that another request had asked for already.
    pub merged: bool,
    /// Whether it is a copy, whose answer nobody sees.
    pub mirror: bool,
    /// Whether its answer was one that had been kept, `hit` or `miss`.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub cache: Option<String>,
    /// Prompt tokens.
    #[serde(rename = "input_tokens")]
    pub input: u64,
    /// Prompt tokens found in a cache, part of the input.
    #[serde(rename = "cached_tokens")]
    pub cached: u64,
    /// Generated tokens.
    #[serde(rename = "output_tokens")]
    pub output: u64,
    /// Thoughts, part of the output.
    #[serde(rename = "reasoning_tokens")]
    pub reasoning: u64,
    /// Whether the engine itself told the tokens.
    pub counted: bool,
    /// What its tenant was charged, in millionths of the currency's unit.
    pub charged_micros: u64,
    /// What it occupied of a KV cache, in token-milliseconds: see [`Row::of`].
    pub kv_token_ms: u64,
    /// What attempts that came to nothing occupied besides, in token-milliseconds: nobody's bill.
    pub overhead_kv_token_ms: u64,
    /// Accelerator-microseconds that this request alone made busy: see [`super::Occupied`].
    pub busy_us: u64,
    /// What of these two was not on hardware of this class for this Model, but where attempts were made before.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub elsewhere: Vec<Elsewhere>,
    /// Waiting for its turn, in microseconds.
    pub queue_us: u64,
    /// All of its time, in microseconds.
    pub total_us: u64,
    /// To the first token, in microseconds.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub ttft_us: Option<u64>,
    /// Where the time went; none in rows of before it was kept, and where it was not asked for.
    #[serde(skip_serializing_if = "Option::is_none", deserialize_with = "if_known")]
    pub detail: Option<Detail>,
}

/// What attempts of a request took of another Model, or of hardware of another class, than the one that it ended with.
#[derive(Clone, Debug, Default, Deserialize, Eq, PartialEq, Serialize)]
#[serde(default)]
pub struct Elsewhere {
    /// The Model; empty where it is not known, as all of these.
    pub model: String,
    /// What its weights are.
    #[serde(rename = "model_version")]
    pub version: String,
    /// The class of the hardware.
    pub hardware: String,
    /// Part of [`Row::overhead_kv_token_ms`].
    pub overhead_kv_token_ms: u64,
    /// Part of [`Row::busy_us`].
    pub busy_us: u64,
}

impl Row {
    /// The row of a request, where `busy_us` is what it added to the busy time of its replica.
    pub fn of(record: &Record, busy_us: u64) -> Self {
        Self::of_attempts(record, &[busy_us])
    }

    /// The row of a request, where `busy_us` is what each of its attempts added to the busy time of its replica, in the order
    /// of [`Ran::pieces`] where there are these.
    ///
    /// KV token-seconds are the integral of the context over the time in the engine. The prompt counts whole
    /// from the dispatch on, for its place is taken then, and answers grow evenly:
    /// `input · (connect + prefill) + (input + output / 2) · decode`. Justitia (arXiv 2510.17015) takes the same
    /// product of memory and time as what a request costs. Where there was more than one attempt, or an answer that
    /// several requests share, [`crate::Ran`] says it attempt by attempt. A kept answer occupies nothing.
    pub fn of_attempts(record: &Record, busy_us: &[u64]) -> Self {
        let (kv, overhead) = occupies(record);
        let text = |text: Option<&str>| text.map(|text| name(text).into_owned());
        Self {
            unix_ms: record.unix_ms,
            request_id: name(&record.request_id).into_owned(),
            trace_id: format!("{:032x}", record.trace_id),
            tenant: text(record.tenant.as_deref()),
            tenant_path: text(record.tenant_path.as_deref()),
            path: record.path.to_owned(),
            route: text(record.route.as_deref()),
            model: text(record.lane.as_deref()),
            version: text(record.version.as_deref()),
            adapter: text(record.adapter.as_deref()),
            runtime: text(record.runtime),
            runtime_version: text(record.runtime_version.as_deref()),
            hardware: text(record.hardware.as_deref()),
            replica: text(record.replica.as_deref()),
            region: text(record.region.as_deref()),
            band: record.band.name().to_owned(),
            termination: record.termination.name().to_owned(),
            status: record.status,
            stream: record.stream,
            attempts: record.attempts,
            stops: record.stops,
            merged: record.merged,
            mirror: record.mirror,
            cache: record.cache.map(str::to_owned),
            input: record.tokens.input.into(),
            cached: record.tokens.cached.into(),
            output: record.tokens.output.into(),
            reasoning: record.reasoning.into(),
            counted: record.counted,
            charged_micros: record.charged,
            kv_token_ms: kv,
            overhead_kv_token_ms: overhead,
            busy_us: busy_us.iter().sum(),
            elsewhere: elsewhere(record, busy_us),
            queue_us: micros(record.phases.queue),
            total_us: micros(record.total),
            ttft_us: record.ttft.map(micros),
            detail: Some(Detail::of(record)),
        }
    }

    /// What sums over rows are kept by.
    pub fn group(&self) -> Group {
        let text = |name: &Option<String>| name.clone().unwrap_or_default();
        Group {
            tenant: text(&self.tenant),
            tenant_path: text(&self.tenant_path),
            model: text(&self.model),
            version: text(&self.version),
            hardware: text(&self.hardware),
            band: self.band.clone(),
        }
    }

    /// What it adds to sums, by what those are kept by: what its own Model and hardware had of it, and what others had.
    pub fn shares(&self) -> Vec<(Group, Sums)> {
        let (mut own, group) = (self.sums(), self.group());
        let mut shares = Vec::with_capacity(1 + self.elsewhere.len());
        for other in &self.elsewhere {
            let sums = Sums {
                overhead_kv_token_ms: other.overhead_kv_token_ms.min(own.overhead_kv_token_ms),
                busy_us: other.busy_us.min(own.busy_us),
                ..Sums::default()
            };
            own.overhead_kv_token_ms -= sums.overhead_kv_token_ms;
            own.busy_us -= sums.busy_us;
            let Elsewhere { model, version, hardware, .. } = other.clone();
            shares.push((Group { model, version, hardware, ..group.clone() }, sums));
        }
        shares.push((group, own));
        shares
    }

    /// What it adds to sums in all. A copy for tests is nobody's request: it counts as overhead of its replicas, and as
    /// nothing else.
    pub fn sums(&self) -> Sums {
        if self.mirror {
            return Sums {
                overhead_kv_token_ms: self.overhead_kv_token_ms.saturating_add(self.kv_token_ms),
                busy_us: self.busy_us,
                ..Sums::default()
            };
        }
        Sums {
            requests: 1,
            input: self.input,
            cached: self.cached,
            output: self.output,
            reasoning: self.reasoning,
            charged_micros: self.charged_micros,
            kv_token_ms: self.kv_token_ms,
            overhead_kv_token_ms: self.overhead_kv_token_ms,
            busy_us: self.busy_us,
        }
    }
}

/// The name as it is kept: without the zero character, which PostgreSQL's texts cannot hold, and not longer
/// than [`NAME_BYTES_MAX`].
pub fn name(text: &str) -> Cow<'_, str> {
    if text.len() <= NAME_BYTES_MAX && !text.contains('\0') {
        return Cow::Borrowed(text);
    }
    let mut kept = text.replace('\0', "\u{fffd}");
    if kept.len() > NAME_BYTES_MAX {
        // FNV-1a tells names apart that begin alike.
        let fnv = |hash: u64, byte| (hash ^ u64::from(byte)).wrapping_mul(0x0100_0000_01b3);
        let hash = text.bytes().fold(0xcbf2_9ce4_8422_2325, fnv);
        kept.truncate(kept.floor_char_boundary(NAME_BYTES_MAX - 17));
        kept.push_str(&format!("~{hash:016x}"));
    }
    Cow::Owned(kept)
}

/// What attempts took of other Models and classes of hardware than the record's own.
fn elsewhere(record: &Record, busy_us: &[u64]) -> Vec<Elsewhere> {
    let Some(ran) = &record.ran else { return Vec::new() };
    let mut all: Vec<Elsewhere> = Vec::new();
    for (at, piece) in ran.pieces.iter().enumerate() {
        let busy_us = busy_us.get(at).copied().unwrap_or(0);
        let lost = piece.lost_token_ms;
        let place = (&piece.at.lane, &piece.at.version, &piece.at.hardware);
        let is_own = place == (&record.lane, &record.version, &record.hardware);
        if is_own || (busy_us == 0 && lost == 0) {
            continue;
        }
        let text = |text: &Option<Name>| name(text.as_deref().unwrap_or_default()).into_owned();
        let (model, version, hardware) = (text(place.0), text(place.1), text(place.2));
        let known = all
            .iter_mut()
            .find(|one| (&one.model, &one.version, &one.hardware) == (&model, &version, &hardware));
        if let Some(known) = known {
            known.overhead_kv_token_ms = known.overhead_kv_token_ms.saturating_add(lost);
            known.busy_us = known.busy_us.saturating_add(busy_us);
        } else {
            let overhead_kv_token_ms = lost;
            all.push(Elsewhere { model, version, hardware, overhead_kv_token_ms, busy_us });
        }
    }
    all
}

/// Token-milliseconds of what the answer was made of, and of what came to nothing. A copy's are overhead: nobody
/// asked for it.
fn occupies(record: &Record) -> (u64, u64) {
    if let Some(ran) = &record.ran {
        let Ran { used_token_ms: used, lost_token_ms: lost, .. } = **ran;
        return if record.mirror { (0, used.saturating_add(lost)) } else { (used, lost) };
    }
    if record.merged || record.cache == Some("hit") || record.replica.is_none() {
        return (0, 0);
    }
    let phases = &record.phases;
    let tokens = |tokens: u32| u128::from(tokens);
    let nanos = |span: Span| u128::from(span.as_nanos());
    let input = tokens(record.tokens.input);
    let output = tokens(record.tokens.output);
    // An answer in one piece shows nothing of when its tokens came: they are taken to have come all the time.
    if !record.stream {
        let whole = nanos(phases.connect) + nanos(phases.prefill) + nanos(phases.decode);
        let kv = to_ms((2 * input + output) * whole / 2);
        let lost = to_ms(input * nanos(phases.retry));
        return if record.mirror { (0, kv.saturating_add(lost)) } else { (kv, lost) };
    }
    let still = input * (nanos(phases.connect) + nanos(phases.prefill));
    let growing = (2 * input + output) * nanos(phases.decode) / 2;
    let kv = to_ms(still + growing);
    let lost = to_ms(input * nanos(phases.retry));
    if record.mirror { (0, kv.saturating_add(lost)) } else { (kv, lost) }
}

pub(super) const fn micros(span: Span) -> u64 {
    span.as_nanos() / 1000
}

/// A detail that can be read; another is none, and takes nothing of the row with it.
fn if_known<'de, D: Deserializer<'de>>(from: D) -> Result<Option<Detail>, D::Error> {
    let value = serde_json::Value::deserialize(from)?;
    Ok(serde_json::from_value(value).ok())
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;
    use crate::{At, Piece};

    #[test]
    fn names_fit_and_stay_apart() {
        let check = |text: &str, expect: &str| assert_eq!(name(text), expect);
        check("acme", "acme");
        check("'; DROP TABLE rows; --", "'; DROP TABLE rows; --");
        check("a\0b", "a\u{fffd}b");
        let (one, other) = ("ä".repeat(300), format!("{}b", "ä".repeat(299)));
        assert!(name(&one).len() <= NAME_BYTES_MAX, "{}", name(&one).len());
        assert_ne!(name(&one), name(&other));
    }

    proptest! {
        /// Wherever attempts were made, each pool has what it had of them, and all have all of it.
        #[test]
        fn pools_have_what_they_had(
            attempts in prop::collection::vec((0usize..3, 0usize..2, 0u64..9, 0u64..9), 1..6),
        ) {
            let pool = |lane: usize, class: usize| {
                (Name::from(["a", "b", "c"][lane]), Name::from(["h100", "l4"][class]))
            };
            let pieces = attempts.iter().map(|(lane, class, lost, _)| {
                let (lane, class) = pool(*lane, *class);
                let at = At { lane: Some(lane), hardware: Some(class), ..At::default() };
                Piece { at, lost_token_ms: *lost, from_ago: Span::ZERO, until_ago: Span::ZERO }
            });
            let lost_token_ms = attempts.iter().map(|one| one.2).sum();
            let ran = Ran { used_token_ms: 100, lost_token_ms, pieces: pieces.collect() };
            let last = attempts[attempts.len() - 1];
            let (lane, class) = pool(last.0, last.1);
            let record = Record {
                lane: Some(lane),
                hardware: Some(class),
                ran: Some(Box::new(ran)),
                ..Record::default()
            };
            let busy: Vec<u64> = attempts.iter().map(|one| one.3).collect();
            let row = Row::of_attempts(&record, &busy);
            let again: Row = serde_json::from_str(&serde_json::to_string(&row).unwrap()).unwrap();
            prop_assert_eq!(&again, &row);
            let shares = row.shares();
            let mut all = Sums::default();
            shares.iter().for_each(|(_, sums)| all += *sums);
            prop_assert_eq!(all, row.sums());
            for (lane, class) in (0..3).flat_map(|lane| (0..2).map(move |class| (lane, class))) {
                let there = attempts.iter().filter(|one| (one.0, one.1) == (lane, class));
                let expect = there.fold((0, 0), |sum, one| (sum.0 + one.2, sum.1 + one.3));
                let (lane, class) = pool(lane, class);
                let of = shares.iter().filter(|(group, _)| {
                    (group.model.as_str(), group.hardware.as_str()) == (lane.as_str(), class.as_str())
                });
                let found = of.fold((0, 0), |sum, (_, sums)| {
                    (sum.0 + sums.overhead_kv_token_ms, sum.1 + sums.busy_us)
                });
                prop_assert_eq!(found, expect);
            }
            let requests: Vec<u64> = shares.iter().map(|(_, sums)| sums.requests).collect();
            prop_assert_eq!(requests.iter().sum::<u64>(), 1);
            prop_assert_eq!(requests.last(), Some(&1));
        }
    }

    #[test]
    fn rows_survive_json() {
        let row =
            Row { request_id: "a".to_owned(), tenant: Some("\"\n".to_owned()), ..Row::default() };
        let text = serde_json::to_string(&row).unwrap();
        assert_eq!(serde_json::from_str::<Row>(&text).unwrap(), row);
        // Fields that come later are not in rows of before.
        assert_eq!(serde_json::from_str::<Row>("{}").unwrap(), Row::default());
    }
}
