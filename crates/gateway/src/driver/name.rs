//! The name that a replica knows its model by, where nobody said it: servers elsewhere are started with names
//! of their own, and refuse requests for others. What it lists is asked for once, before its first request,
//! and again when it says that it knows no such model.

use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use http::{Request, header};
use http_body_util::{BodyExt as _, Limited};
use parking_lot::Mutex;
use pilotage_shell::client::Client;
use pilotage_shell::clock::Clock;
use pilotage_shell::secret::Secret;
use pilotage_wire::dialect::detect::{self, Heard};
use tokio::sync::OnceCell;

use super::Replica;

/// What a server is asked for.
const ASKED: [&str; 2] = ["/v1/models", "/info"];

/// How long all answers may take: a request waits for them.
const PATIENCE: Duration = Duration::from_secs(2);

/// Before a server that did not answer is asked again, in nanoseconds.
const AGAIN_NANOS: u64 = 10_000_000_000;

/// Most bytes of an answer.
const BYTES_MAX: usize = 1 << 20;

/// What is known of a replica's name for its model.
#[derive(Debug)]
pub(crate) struct Name {
    replica: String,
    url: String,
    key: Option<Secret>,
    found: Mutex<Arc<OnceCell<Found>>>,
}

/// What was found, and when.
#[derive(Debug)]
struct Found {
    /// Nothing where it is the one that was asked for, or cannot be told.
    name: Option<Arc<str>>,
    /// Whether anything was answered.
    is_sure: bool,
    at_nanos: u64,
}

impl Name {
    /// Nothing yet.
    pub(super) fn at(replica: &Replica) -> Self {
        let (name, url) = (replica.name.to_string(), replica.url.clone());
        Self { replica: name, url, key: replica.key.clone(), found: Mutex::default() }
    }

    /// The replica's name for what its lane calls `wanted`; none where that is it.
    pub(crate) async fn of(
        &self,
        (client, clock): (&Client, Clock),
        wanted: &str,
    ) -> Option<Arc<str>> {
        let cell = {
            let mut cell = self.found.lock();
            let is_old = |found: &Found| {
                !found.is_sure && clock.now_nanos() >= found.at_nanos.saturating_add(AGAIN_NANOS)
            };
            if cell.get().is_some_and(is_old) {
                *cell = Arc::default();
            }
            Arc::clone(&cell)
        };
        // Those who come meanwhile wait for the one who asks.
        let found = cell.get_or_init(|| async {
            let heard = tokio::time::timeout(PATIENCE, self.ask(client)).await;
            let heard = heard.unwrap_or_default();
            let name = detect::name(&heard, wanted).map(Arc::from);
            if let Some(name) = &name {
                let replica = &self.replica;
                tracing::info!(replica, wanted, %name, "it serves its model by another name");
            }
            let at_nanos = clock.now_nanos();
            Found { name, is_sure: heard.len() == ASKED.len(), at_nanos }
        });
        found.await.name.clone()
    }

    /// It knows no such model any more.
    pub(crate) fn forget(&self) {
        *self.found.lock() = Arc::default();
    }

    async fn ask(&self, client: &Client) -> Vec<Heard> {
        let mut heard = Vec::new();
        for path in ASKED {
            heard.extend(self.one(client, path).await);
        }
        heard
    }

    async fn one(&self, client: &Client, path: &str) -> Option<Heard> {
        let mut request = Request::get(format!("{}{path}", self.url));
        if let Some(key) = &self.key {
            request = request.header(header::AUTHORIZATION, format!("Bearer {}", key.expose()));
        }
        let response = client.request(request.body(Bytes::new()).ok()?).await.ok()?;
        let status = response.status().as_u16();
        let body = Limited::new(response.into_body(), BYTES_MAX).collect().await.ok()?;
        let body = body.to_bytes().to_vec();
        Some(Heard { path: path.to_owned(), status, body, ..Heard::default() })
    }
}
