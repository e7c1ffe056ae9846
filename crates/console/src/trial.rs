//! The playground's requests: from a page of the admin listener to the API of clients, for who may.

use axum::extract::{Path, Request, State};
use axum::response::Response;
use http::{HeaderValue, Method, StatusCode, header};

use crate::{Console, Role, guard, refuse};

/// What can be tried out: everything else of the API has no page.
const PATHS: [(Method, &str); 2] =
    [(Method::GET, "v1/models"), (Method::POST, "v1/chat/completions")];

/// Hands a request over, with the key that it brings or the console's own.
pub(crate) async fn forward(
    State(console): State<Console>,
    Path(path): Path<String>,
    mut request: Request,
) -> Response {
    if !guard::is_same_origin(request.headers()) {
        return refuse(StatusCode::FORBIDDEN, "the playground is used from the console's own page");
    }
    match console.allows(request.headers()) {
        None => return refuse(StatusCode::UNAUTHORIZED, "log in at /console/login"),
        Some(Role::Viewer) => {
            let message = "the playground uses tokens, so it wants the admin key; log in with that";
            return refuse(StatusCode::FORBIDDEN, message);
        }
        Some(Role::Admin) => {}
    }
    let Some(playground) = &console.inner.config.playground else {
        return refuse(StatusCode::NOT_FOUND, "this gateway has no playground");
    };
    if !PATHS.iter().any(|(method, known)| method == request.method() && *known == path) {
        return refuse(
            StatusCode::NOT_FOUND,
            "the playground asks for models and chat completions",
        );
    }
    let Ok(uri) = format!("/{path}").parse() else {
        return refuse(StatusCode::BAD_REQUEST, "the path is none");
    };
    *request.uri_mut() = uri;
    let headers = request.headers_mut();
    headers.remove(header::COOKIE);
    if !headers.contains_key(header::AUTHORIZATION)
        && let Some(key) = &playground.key
        && let Ok(mut value) = HeaderValue::from_str(&format!("Bearer {}", key.expose()))
    {
        value.set_sensitive(true);
        headers.insert(header::AUTHORIZATION, value);
    }
    (playground.forward)(request).await
}
