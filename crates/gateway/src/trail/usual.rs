//! What requests of a model usually take: the median of each phase among the last that were answered.

use std::sync::Arc;

use pilotage_core::Span;
use pilotage_lens::why::Usual;
use pilotage_lens::{Phase, Record};

use super::Recent;

/// Records that are looked at.
const SAMPLE: usize = 500;

impl Recent {
    /// What others took that a request may be compared with.
    pub(crate) fn usual(&self, of: &Record) -> Option<Usual> {
        let alike = |record: &Record| {
            record.is_answered()
                && record.lane == of.lane
                && record.stream == of.stream
                && record.request_id != of.request_id
        };
        let others: Vec<Arc<Record>> =
            self.page(None, SAMPLE, alike).into_iter().map(|(_, record)| record).collect();
        let phases =
            Phase::ALL.map(|phase| median(others.iter().map(|record| record.phases.of(phase))));
        Some(Usual {
            count: u32::try_from(others.len()).unwrap_or(u32::MAX),
            phases,
            total: median(others.iter().map(|record| record.total)),
            tpot: middle(others.iter().filter_map(|record| record.tpot)),
            input: u32::try_from(median_of(
                others.iter().map(|record| u64::from(record.tokens.input)),
            ))
            .unwrap_or(u32::MAX),
            output: u32::try_from(median_of(
                others.iter().map(|record| u64::from(record.tokens.output)),
            ))
            .unwrap_or(u32::MAX),
        })
        .filter(|usual| usual.count > 0)
    }
}

fn median(spans: impl Iterator<Item = Span>) -> Span {
    Span::from_nanos(median_of(spans.map(Span::as_nanos)))
}

fn middle(spans: impl Iterator<Item = Span>) -> Option<Span> {
    let mut spans = spans.peekable();
    spans.peek()?;
    Some(median(spans))
}

fn median_of(values: impl Iterator<Item = u64>) -> u64 {
    let mut values: Vec<u64> = values.collect();
    values.sort_unstable();
    values.get(values.len() / 2).copied().unwrap_or(0)
}
