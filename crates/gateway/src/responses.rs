//! Looking at responses that are kept: what was answered, what was asked, and forgetting both.

use axum::body::Body;
use axum::extract::{Path, Query, RawQuery, State};
use axum::response::Response;
use http::{HeaderMap, HeaderValue, StatusCode, header};
use pilotage_core::TenantId;
use pilotage_wire::openai::error::ApiError;
use pilotage_wire::openai::params::wrong;
use serde::Deserialize;
use serde_json::{Value, json};

use crate::app::Gateway;
use crate::reply;

/// Most items of one page.
const PAGE_MAX: usize = 100;

/// Items of a page when nothing is said.
const PAGE: usize = 20;

/// How a list is asked for.
#[derive(Debug, Deserialize)]
pub(crate) struct Page {
    limit: Option<usize>,
    order: Option<String>,
    after: Option<String>,
}

pub(crate) async fn get(
    State(gateway): State<Gateway>,
    Path(id): Path<String>,
    RawQuery(query): RawQuery,
    headers: HeaderMap,
) -> Response {
    answer(&gateway, &headers, |tenant| {
        if query.is_some_and(|query| query.contains("stream=true")) {
            return wrong("stream", "is not supported here: a response that is kept comes whole");
        }
        gateway
            .inner
            .stored
            .response(tenant, &id)
            .map(|response| response.to_string())
            .ok_or_else(gone)
    })
    .await
}

pub(crate) async fn delete(
    State(gateway): State<Gateway>,
    Path(id): Path<String>,
    headers: HeaderMap,
) -> Response {
    answer(&gateway, &headers, |tenant| {
        if !gateway.inner.stored.delete(tenant, &id) {
            return Err(gone());
        }
        Ok(json!({"id": id, "object": "response", "deleted": true}).to_string())
    })
    .await
}

pub(crate) async fn input_items(
    State(gateway): State<Gateway>,
    Path(id): Path<String>,
    page: Result<Query<Page>, axum::extract::rejection::QueryRejection>,
    headers: HeaderMap,
) -> Response {
    answer(&gateway, &headers, |tenant| {
        let Ok(Query(page)) = page else { return wrong("limit", "must be a number") };
        let turns = gateway.inner.stored.turns(tenant, &id).ok_or_else(gone)?;
        let (last, before) = turns.split_last().ok_or_else(gone)?;
        let mut items: Vec<Value> = before.iter().flat_map(|turn| turn.items()).collect();
        items.extend(last.input());
        listed(items, &page).map(|list| list.to_string())
    })
    .await
}

/// One page of a list.
fn listed(mut items: Vec<Value>, page: &Page) -> Result<Value, ApiError> {
    let limit = page.limit.unwrap_or(PAGE);
    if !(1..=PAGE_MAX).contains(&limit) {
        return wrong("limit", &format!("must be 1 to {PAGE_MAX}"));
    }
    match page.order.as_deref() {
        None | Some("desc") => items.reverse(),
        Some("asc") => {}
        Some(_) => return wrong("order", "must be `asc` or `desc`"),
    }
    if let Some(after) = &page.after {
        let Some(at) = items.iter().position(|item| item["id"] == **after) else {
            return wrong("after", "names no item of this list");
        };
        items.drain(..=at);
    }
    let has_more = items.len() > limit;
    items.truncate(limit);
    let id = |item: Option<&Value>| item.map(|item| item["id"].clone()).unwrap_or_default();
    let (first, last) = (id(items.first()), id(items.last()));
    Ok(json!({
        "object": "list",
        "data": items,
        "first_id": first,
        "last_id": last,
        "has_more": has_more,
    }))
}

async fn answer(
    gateway: &Gateway,
    headers: &HeaderMap,
    find: impl FnOnce(TenantId) -> Result<String, ApiError>,
) -> Response {
    let caller = gateway.tenants().find(headers).await;
    match caller.and_then(|caller| find(caller.id)) {
        Ok(json) => {
            let mut response = Response::new(Body::from(json));
            *response.status_mut() = StatusCode::OK;
            let kind = HeaderValue::from_static("application/json");
            response.headers_mut().insert(header::CONTENT_TYPE, kind);
            response
        }
        Err(error) => reply::error(&error),
    }
}

/// Another tenant's response is as much gone as one that never was.
fn gone() -> ApiError {
    ApiError::not_found("there is no such response: it was not stored, was deleted, or is too old")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn pages_follow_each_other() {
        let check =
            |limit, order: &str, after: Option<&str>, expect: Result<(&[&str], bool), &str>| {
                let items = ["a", "b", "c"].map(|id| json!({"id": id})).to_vec();
                let page =
                    Page { limit, order: Some(order.to_owned()), after: after.map(str::to_owned) };
                let found = listed(items, &page).map_err(|error| error.param.unwrap());
                let found = found.map(|list| {
                    let ids: Vec<String> = list["data"]
                        .as_array()
                        .unwrap()
                        .iter()
                        .map(|item| item["id"].as_str().unwrap().to_owned())
                        .collect();
                    (ids, list["has_more"] == true)
                });
                let expect = expect
                    .map(|(ids, more)| (ids.iter().map(|id| (*id).to_owned()).collect(), more));
                assert_eq!(found, expect.map_err(str::to_owned));
            };
        check(None, "desc", None, Ok((&["c", "b", "a"], false)));
        check(Some(2), "asc", None, Ok((&["a", "b"], true)));
        check(Some(2), "asc", Some("b"), Ok((&["c"], false)));
        check(Some(2), "desc", Some("a"), Ok((&[], false)));
        check(Some(0), "asc", None, Err("limit"));
        check(Some(101), "asc", None, Err("limit"));
        check(None, "up", None, Err("order"));
        check(None, "asc", Some("x"), Err("after"));
    }
}
