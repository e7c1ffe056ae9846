//! The id by which a request is found in logs and records: what came in goes out again.

use axum::extract::Request;
use axum::middleware::Next;
use axum::response::Response;
use pilotage_wire::envelope::{REQUEST_ID, is_request_id};

pub(super) async fn echo(request: Request, next: Next) -> Response {
    let id = request.headers().get(REQUEST_ID);
    let id = id.filter(|id| id.to_str().is_ok_and(is_request_id)).cloned();
    let mut response = next.run(request).await;
    if let Some(id) = id {
        response.headers_mut().insert(REQUEST_ID, id);
    }
    response
}
