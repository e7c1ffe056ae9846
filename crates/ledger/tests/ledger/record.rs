//! A request that ended.

use std::sync::Arc;

use pilotage_core::{Band, Span, Tokens};
use pilotage_lens::{Phases, Record};

/// A request with that number: 10 + n prompt tokens, n answer tokens, a second in the engine.
pub(crate) fn record(number: u32, tenant: &str, unix_ms: u64) -> Arc<Record> {
    let second = Span::from_millis(1000);
    Arc::new(Record {
        unix_ms,
        request_id: format!("req-{number}").into(),
        trace_id: number.into(),
        span_id: 1,
        tenant: Some(tenant.into()),
        tenant_path: Some(format!("org/{tenant}").into()),
        path: "/v1/chat/completions",
        route: Some("chat".into()),
        lane: Some("tiny".into()),
        version: Some("sha256:1".into()),
        runtime: Some("pilotage"),
        hardware: Some("cpu".into()),
        band: Band::Standard,
        stream: true,
        status: 200,
        attempts: 1,
        replica: Some("tiny-0".into()),
        tokens: Tokens { input: 10 + number, cached: 1, output: number },
        counted: true,
        charged: u64::from(number),
        phases: Phases { prefill: second, ..Phases::default() },
        total: second,
        ..Record::default()
    })
}
