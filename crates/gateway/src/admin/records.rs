//! What the admin API tells of requests: the last ones, those that come, those under way, and why one took so
//! long.

use std::convert::Infallible;
use std::sync::Arc;

use axum::body::Body;
use axum::extract::rejection::QueryRejection;
use axum::extract::{Path, Query, State};
use axum::response::{IntoResponse as _, Response};
use bytes::Bytes;
use futures_util::stream;
use http::{HeaderValue, StatusCode, header};
use pilotage_core::Time;
use pilotage_lens::Record;
use pilotage_lens::why::{Ahead, explain};
use pilotage_wire::openai::error::ApiError;
use serde::{Deserialize, Serialize};
use serde_json::{Value, json};
use tokio::sync::broadcast::error::RecvError;

use super::Admin;
use crate::reply;
use crate::trail::{Filter, RecordsQuery};

/// A record with its number.
#[derive(Serialize)]
struct Numbered<'a> {
    seq: u64,
    #[serde(flatten)]
    record: &'a Record,
}

type Asked<T> = Result<Query<T>, QueryRejection>;

/// A query that was understood.
fn asked<T>(query: Asked<T>) -> Result<T, ApiError> {
    query
        .map(|Query(query)| query)
        .map_err(|rejection| ApiError::invalid_request(rejection.body_text()))
}

fn or_error(result: Result<Response, ApiError>) -> Response {
    result.unwrap_or_else(|error| reply::error(&error))
}

/// The last ones, newest first.
pub(super) async fn list(State(admin): State<Admin>, query: Asked<RecordsQuery>) -> Response {
    let page = || {
        let query = asked(query)?;
        let (limit, filter) = (query.limit()?, query.filter()?);
        let recent = &admin.gateway.inner.trail.recent;
        let page = recent.page(query.before, limit + 1, |record| filter.fits(record));
        let next = (page.len() > limit).then(|| page[limit - 1].0);
        let shown = page.iter().take(limit);
        let shown: Vec<Numbered<'_>> =
            shown.map(|(seq, record)| Numbered { seq: *seq, record }).collect();
        Ok(reply::json(StatusCode::OK, &json!({"records": shown, "next": next})))
    };
    or_error(page())
}

/// Those that come, a line for each.
pub(super) async fn follow(State(admin): State<Admin>, query: Asked<RecordsQuery>) -> Response {
    let begin = || {
        let filter = asked(query)?.filter()?;
        let records = admin.gateway.inner.trail.follow();
        let lines = stream::unfold((records, filter), |(mut records, filter)| async move {
            loop {
                let line = match records.recv().await {
                    Ok(record) => line(&filter, &record),
                    Err(RecvError::Lagged(missed)) => Some(format!("{{\"missed\":{missed}}}\n")),
                    Err(RecvError::Closed) => return None,
                };
                if let Some(line) = line {
                    return Some((Ok::<_, Infallible>(Bytes::from(line)), (records, filter)));
                }
            }
        });
        let mut response = Response::new(Body::from_stream(lines));
        let headers = response.headers_mut();
        headers.insert(header::CONTENT_TYPE, HeaderValue::from_static("application/x-ndjson"));
        headers.insert(header::CACHE_CONTROL, HeaderValue::from_static("no-cache"));
        Ok(response)
    };
    or_error(begin())
}

fn line(filter: &Filter, record: &Arc<Record>) -> Option<String> {
    if !filter.fits(record) {
        return None;
    }
    serde_json::to_string(&**record).ok().map(|line| line + "\n")
}

/// One, and why it took so long.
pub(super) async fn one(State(admin): State<Admin>, Path(id): Path<String>) -> Response {
    let trail = &admin.gateway.inner.trail;
    let Some(record) = trail.recent.find(&id) else {
        let (_, live) = trail.live.oldest(1, |seen| seen.request_id.as_str() == id);
        if let Some(seen) = live.first() {
            return reply::json(StatusCode::OK, &json!({"live": seen.json(now(&admin))}));
        }
        let message = format!(
            "no request `{id}` is under way or among the last {}; `pilotage usage rows` knows older ones",
            admin.gateway.inner.config.limits.records_kept
        );
        return reply::error(&ApiError::not_found(message));
    };
    let mut explanation = explain(&record, trail.recent.usual(&record).as_ref());
    explanation.notes.extend(Ahead::of(&record).and_then(|mut ahead| {
        let others = trail.recent.page(None, usize::MAX, |other| ahead.is_about(other));
        others.iter().for_each(|(_, other)| ahead.add(other));
        ahead.sentence()
    }));
    let body = json!({"record": &*record, "explanation": explanation});
    reply::json(StatusCode::OK, &body)
}

/// Those under way, oldest first.
pub(super) async fn live(State(admin): State<Admin>, query: Asked<RecordsQuery>) -> Response {
    let page = || {
        let query = asked(query)?;
        let (limit, filter) = (query.limit()?, query.filter()?);
        let now = now(&admin);
        let fits = |seen: &crate::trail::Seen| filter.fits_live(seen);
        let (total, seen) = admin.gateway.inner.trail.live.oldest(limit, fits);
        let requests: Vec<Value> = seen.iter().map(|seen| seen.json(now)).collect();
        Ok(reply::json(StatusCode::OK, &json!({"total": total, "requests": requests})))
    };
    or_error(page())
}

/// How far back to look.
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct HistoryQuery {
    #[serde(default = "all_of_it")]
    seconds: u64,
}

const fn all_of_it() -> u64 {
    900
}

/// The last minutes, in steps.
pub(super) async fn history(State(admin): State<Admin>, query: Asked<HistoryQuery>) -> Response {
    let shown = || {
        let HistoryQuery { seconds } = asked(query)?;
        let inner = &admin.gateway.inner;
        let shown = inner.trail.history.json(inner.clock.unix_ms(), seconds);
        Ok((StatusCode::OK, axum::Json(shown)).into_response())
    };
    or_error(shown())
}

fn now(admin: &Admin) -> Time {
    Time::from_nanos(admin.gateway.inner.clock.now_nanos())
}
