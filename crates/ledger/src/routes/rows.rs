//! `/usage/rows`: requests one by one, a page at a time.

use axum::extract::State;
use axum::http::header;
use axum::response::IntoResponse as _;
use serde::Deserialize;

use super::answer::{Answer, Wrong};
use super::params::{Ask, Span};
use crate::ledger::Ledger;
use crate::store::{AskRows, PageKey};

const LIMIT_USUAL: u32 = 100;
const LIMIT_MAX: u32 = 1000;

/// What can be asked.
#[derive(Debug, Default, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub(super) struct Params {
    limit: Option<u32>,
    after: Option<String>,
    tenant: Option<String>,
    model: Option<String>,
    from: Option<String>,
    to: Option<String>,
    id: Option<String>,
}

pub(super) async fn answer(State(ledger): State<Ledger>, Ask(params): Ask<Params>) -> Answer {
    let limit = params.limit.unwrap_or(LIMIT_USUAL);
    if !(1..=LIMIT_MAX).contains(&limit) {
        return Err(Wrong::question(format!("`limit` is 1 to {LIMIT_MAX}")));
    }
    let after = match params.after.as_deref() {
        Some(text) => Some(
            key(text).ok_or_else(|| Wrong::question("`after` is the `next` of the page before"))?,
        ),
        None => None,
    };
    let now = ledger.inner.clock.unix_ms();
    // Whoever asks for one request wants all of it, from whenever it is.
    let detail = params.id.is_some();
    let mut span = Span::of(now, params.from.as_deref(), params.to.as_deref())?;
    if detail && params.from.is_none() {
        span.from_ms = 0;
    }
    let ask = AskRows {
        from_ms: span.from_ms,
        until_ms: span.until_ms,
        after,
        tenant: params.tenant,
        model: params.model,
        request_id: params.id,
        detail,
        limit,
    };
    let mut page = ledger.inner.store.rows(ask).await?;
    if detail {
        page.rows.iter_mut().for_each(|row| *row = super::why::named(row));
    }
    // Rows are JSON already.
    let next = page.next.map(|PageKey { unix_ms, id }| format!("\"{unix_ms}-{id}\""));
    let body = format!(
        "{{\"rows\":[{}],\"next\":{}}}",
        page.rows.join(","),
        next.as_deref().unwrap_or("null")
    );
    Ok(([(header::CONTENT_TYPE, "application/json")], body).into_response())
}

fn key(text: &str) -> Option<PageKey> {
    let (unix_ms, id) = text.split_once('-')?;
    Some(PageKey { unix_ms: unix_ms.parse().ok()?, id: id.parse().ok()? })
}
