//! The web console: pages that show what a gateway does, served by its admin listener, with nothing
//! to install and nothing fetched from elsewhere.
//!
//! The pages are plain files in `assets/`, part of the program. They read the admin listener's own
//! JSON, so that they show nothing that `curl` with the admin key would not. Who opens them proves
//! once that they have a key, and gets a session.

use std::fmt;
use std::future::Future;
use std::pin::Pin;
use std::sync::Arc;

use axum::Router;
use axum::body::Body;
use axum::extract::{Path, Request, State};
use axum::middleware;
use axum::response::{IntoResponse as _, Redirect, Response};
use axum::routing::{any, get, post};
use http::{HeaderMap, Method, StatusCode, header};
use parking_lot::Mutex;
use pilotage_shell::clock::Clock;
use pilotage_shell::secret::{KeyHash, Secret};
use serde_json::json;

use crate::assets::Assets;
use crate::login::Tries;
use crate::session::Sessions;

mod assets;
mod guard;
mod login;
mod session;
mod trial;

/// What somebody who logged in may do.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum Role {
    /// Look at everything.
    Viewer,
    /// Try models out and change things, besides.
    Admin,
}

impl Role {
    /// Whether a request of that method is this role's: viewers only look.
    pub fn may(self, method: &Method) -> bool {
        self == Self::Admin || matches!(*method, Method::GET | Method::HEAD)
    }

    /// Its name, as the pages are told it.
    pub const fn name(self) -> &'static str {
        match self {
            Self::Viewer => "viewer",
            Self::Admin => "admin",
        }
    }
}

/// Answers a request of the playground as the clients' listener would.
pub type Forward =
    Arc<dyn Fn(Request) -> Pin<Box<dyn Future<Output = Response> + Send>> + Send + Sync>;

/// Where the playground's requests go.
#[derive(Clone)]
pub struct Playground {
    /// The API of clients.
    pub forward: Forward,
    /// The key that requests get which bring none of their own; without it, people give theirs.
    pub key: Option<Secret>,
}

impl fmt::Debug for Playground {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Playground").field("key", &self.key).finish_non_exhaustive()
    }
}

/// What a console needs to know.
#[derive(Clone, Debug)]
pub struct ConsoleConfig {
    /// The key that lets in as [`Role::Admin`].
    pub admin_key: KeyHash,
    /// The key that lets in as [`Role::Viewer`], if there is one.
    pub viewer_key: Option<KeyHash>,
    /// Names under which the console is reached, besides addresses, `localhost`, names without a dot
    /// and those of Services in a cluster. Others are refused, so that no web site can have its own
    /// name lead here.
    pub hosts: Vec<String>,
    /// Whether the listener is encrypted: cookies are then sent over nothing else.
    pub https: bool,
    /// Where the playground's requests go; without it, there is none.
    pub playground: Option<Playground>,
}

/// The console. Clones are the same one, with the same sessions.
#[derive(Clone, Debug)]
pub struct Console {
    inner: Arc<Inner>,
}

#[derive(Debug)]
struct Inner {
    config: ConsoleConfig,
    clock: Clock,
    assets: Assets,
    sessions: Mutex<Sessions>,
    tries: Mutex<Tries>,
}

impl Console {
    /// A console in which nobody is logged in yet.
    pub fn new(config: ConsoleConfig, clock: Clock) -> Self {
        let (assets, sessions) = (Assets::load(), Mutex::default());
        Self { inner: Arc::new(Inner { config, clock, assets, sessions, tries: Mutex::default() }) }
    }

    /// Its routes: `/console/…`, and `/`, which leads there.
    pub fn router(&self) -> Router {
        Router::new()
            .route("/", get(|| async { Redirect::temporary("/console/") }))
            .route("/console", get(|| async { Redirect::temporary("/console/") }))
            .route("/console/", get(index))
            .route("/console/login", get(login::page).post(login::enter))
            .route("/console/logout", post(login::leave))
            .route("/console/session", get(session))
            .route("/console/try/{*path}", any(trial::forward))
            .route("/console/{version}/{*file}", get(asset))
            .layer(middleware::from_fn_with_state(self.clone(), guard::guard))
            .with_state(self.clone())
    }

    /// Whom a request's cookie shows, if anybody who is logged in here.
    pub fn allows(&self, headers: &HeaderMap) -> Option<Role> {
        if !guard::is_own_host(headers, &self.inner.config.hosts) {
            return None;
        }
        let id = login::cookie(headers)?;
        self.inner.sessions.lock().role(self.inner.clock.now_nanos(), &KeyHash::of(id))
    }

    /// Whether a request of that method may pass for its cookie's sake: in place of the admin key,
    /// on the admin listener's other routes.
    pub fn lets(&self, method: &Method, headers: &HeaderMap) -> bool {
        guard::is_same_origin(headers) && self.allows(headers).is_some_and(|role| role.may(method))
    }
}

/// The one page. It holds nothing yet, and is for everybody: it asks for the session itself.
async fn index(State(console): State<Console>, headers: HeaderMap) -> Response {
    console.inner.assets.page("index.html", &headers)
}

async fn asset(
    State(console): State<Console>,
    Path((version, file)): Path<(String, String)>,
    headers: HeaderMap,
) -> Response {
    console.inner.assets.file(&version, &file, &headers)
}

/// Who is logged in, for the pages.
async fn session(State(console): State<Console>, headers: HeaderMap) -> Response {
    let Some(role) = console.allows(&headers) else {
        return refuse(StatusCode::UNAUTHORIZED, "log in at /console/login");
    };
    let playground = console.inner.config.playground.as_ref();
    let body = json!({
        "role": role.name(),
        "version": env!("CARGO_PKG_VERSION"),
        "playground": playground.is_some() && role == Role::Admin,
        "playground_has_key": playground.is_some_and(|playground| playground.key.is_some()),
    });
    ([(header::CACHE_CONTROL, "no-store")], axum::Json(body)).into_response()
}

/// An error in the shape of the admin listener's others.
fn refuse(status: StatusCode, message: &str) -> Response {
    let kind = if status.is_server_error() { "server_error" } else { "invalid_request_error" };
    let body = json!({"error": {"message": message, "type": kind, "code": null}});
    (status, axum::Json(body)).into_response()
}

/// A body's bytes, up to so many; none where there are more.
async fn read(body: Body, bytes_max: usize) -> Option<Vec<u8>> {
    use http_body_util::BodyExt as _;
    let limited = http_body_util::Limited::new(body, bytes_max);
    limited.collect().await.ok().map(|read| read.to_bytes().to_vec())
}

#[cfg(test)]
mod tests;
