//! A request that ended.

use std::sync::Arc;

use pilotage_core::{Band, Span, Tokens};
use pilotage_lens::{Phases, Record, Termination};

/// A request with that number: 10 + n prompt tokens, n answer tokens, a second in the engine.
pub(crate) fn record(number: u32, tenant: &str, unix_ms: u64) -> Arc<Record> {
    let second = Span::from_millis(1000);
    Arc::new(Record {
        unix_ms,
        request_id: format!("req-{number}").into(),
        trace_id: number.into(),
        parent_span: None,
        span_id: 1,
        sampled: false,
        tenant: Some(tenant.into()),
        tenant_path: Some(format!("org/{tenant}").into()),
        path: "/v1/chat/completions",
        route: Some("chat".into()),
        lane: Some("tiny".into()),
        version: Some("sha256:1".into()),
        adapter: None,
        runtime: Some("pilotage"),
        runtime_version: None,
        hardware: Some("cpu".into()),
        band: Band::Standard,
        stream: true,
        status: 200,
        termination: Termination::Ok,
        attempts: 1,
        stops: 0,
        merged: false,
        mirror: false,
        cache: None,
        resumed: 0,
        corrupted: false,
        earlier_replicas: Vec::new(),
        replica: Some("tiny-0".into()),
        region: None,
        why: None,
        route_why: None,
        tokens: Tokens { input: 10 + number, cached: 1, output: number },
        reasoning: 0,
        counted: true,
        charged: u64::from(number),
        phases: Phases { prefill: second, ..Phases::default() },
        total: second,
        ttft: None,
        tpot: None,
        itl: None,
    })
}
