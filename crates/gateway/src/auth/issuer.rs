//! An identity provider's keys: fetched when first needed, kept, and fetched again when they are
//! old or a token names one that is not among them.
//!
//! Whoever sends tokens decides neither how often the provider is asked (at most once in
//! `fetch_interval_min`, whatever keys tokens name) nor for how long (each fetch has a limit of time
//! and size). One fetch runs at a time, on its own, so that a client that leaves ends none that
//! others wait for. While the provider is away, the last good keys count for `keys_stale_max`.

use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use http::{Request, Uri, header};
use http_body_util::{BodyExt as _, LengthLimitError, Limited};
use parking_lot::Mutex;
use pilotage_shell::client::{Client, ClientError};
use pilotage_shell::clock::Clock;
use pilotage_shell::jwt::{KeySet, KeySetError};
use pilotage_shell::tasks;
use serde::Deserialize;
use thiserror::Error;
use tokio::sync::watch;

use crate::config::Oidc;

/// A provider and what is known of its keys.
#[derive(Debug)]
pub(super) struct Issuer {
    inner: Arc<Inner>,
}

/// The provider's keys are not known, so that no token of it can be judged.
#[derive(Clone, Copy, Debug, Error)]
#[error("the token's issuer cannot be asked for its keys at the moment; retry later")]
pub(super) struct IssuerAway;

#[derive(Debug)]
struct Inner {
    name: String,
    limits: Oidc,
    client: Client,
    clock: Clock,
    state: Mutex<State>,
}

#[derive(Debug, Default)]
struct State {
    /// The last good keys, and when they came.
    good: Option<(Arc<KeySet>, u64)>,
    /// When the last fetch began.
    tried_at: Option<u64>,
    /// The fetch that runs; its channel closes when it ends.
    flight: Option<watch::Receiver<()>>,
}

/// What to do for a token.
enum Step {
    Use(Arc<KeySet>),
    Wait(watch::Receiver<()>),
    Refuse,
}

/// Why keys could not be fetched; for the log.
#[derive(Debug, Error)]
enum FetchError {
    #[error("{0} is no URL that can be asked")]
    Url(String),
    #[error(transparent)]
    Client(#[from] ClientError),
    #[error("it did not answer within {} s", .0.as_secs())]
    Timeout(Duration),
    #[error("{url} answered with status {status}; redirects are not followed")]
    Status { url: String, status: u16 },
    #[error("{url} sent more than {max} bytes")]
    TooLarge { url: String, max: usize },
    #[error("{0} broke its answer off")]
    Broken(String),
    #[error("{0} is no JSON object with `issuer` and `jwks_uri`")]
    Malformed(String),
    #[error("its configuration is of another issuer, `{0}`; write the issuer as it does")]
    OtherIssuer(String),
    #[error("its keys are at {0}, which must be https")]
    Insecure(String),
    #[error(transparent)]
    Keys(#[from] KeySetError),
}

impl Issuer {
    pub(super) fn new(name: String, limits: Oidc, client: Client, clock: Clock) -> Self {
        let state = Mutex::new(State::default());
        Self { inner: Arc::new(Inner { name, limits, client, clock, state }) }
    }

    /// The provider's keys, with the one of that name if the provider has it and may be asked.
    ///
    /// # Errors
    /// There are none, or only keys that are too old, and the provider is away.
    pub(super) async fn keys(&self, key_id: Option<&str>) -> Result<Arc<KeySet>, IssuerAway> {
        match self.step(key_id) {
            Step::Use(keys) => Ok(keys),
            Step::Refuse => Err(IssuerAway),
            Step::Wait(mut flight) => {
                // Nothing is ever sent: it ends with an error when the fetch is over.
                let _ = flight.changed().await;
                let now = self.inner.clock.now_nanos();
                self.inner.state.lock().usable(now, &self.inner.limits).ok_or(IssuerAway)
            }
        }
    }

    fn step(&self, key_id: Option<&str>) -> Step {
        let limits = &self.inner.limits;
        let now = self.inner.clock.now_nanos();
        let mut state = self.inner.state.lock();
        let usable = state.usable(now, limits);
        let fresh =
            state.good.as_ref().is_some_and(|(_, at)| is_within(*at, now, limits.keys_age_max));
        let known = usable.as_ref().is_some_and(|keys| keys.has(key_id));
        if let Some(keys) = usable.clone().filter(|_| known && fresh) {
            return Step::Use(keys);
        }
        let flight = self.fly(now, &mut state);
        match (usable, flight) {
            (Some(keys), _) if known => Step::Use(keys),
            (_, Some(flight)) => Step::Wait(flight),
            (Some(keys), None) => Step::Use(keys),
            (None, None) => Step::Refuse,
        }
    }

    /// The fetch that runs, or a new one if the provider may be asked again.
    fn fly(&self, now: u64, state: &mut State) -> Option<watch::Receiver<()>> {
        // The channel of a fetch that panicked is closed, too.
        let running = state.flight.clone().filter(|flight| flight.has_changed().is_ok());
        if running.is_some() {
            return running;
        }
        let interval = self.inner.limits.fetch_interval_min;
        if state.tried_at.is_some_and(|at| is_within(at, now, interval)) {
            return None;
        }
        let (done, flight) = watch::channel(());
        state.tried_at = Some(now);
        state.flight = Some(flight.clone());
        drop(tasks::spawn("issuer", fetch(Arc::clone(&self.inner), done)));
        Some(flight)
    }
}

impl State {
    fn usable(&self, now: u64, limits: &Oidc) -> Option<Arc<KeySet>> {
        let (keys, at) = self.good.as_ref()?;
        is_within(*at, now, limits.keys_stale_max).then(|| Arc::clone(keys))
    }
}

fn is_within(then_nanos: u64, now_nanos: u64, span: Duration) -> bool {
    u128::from(now_nanos.saturating_sub(then_nanos)) < span.as_nanos()
}

async fn fetch(inner: Arc<Inner>, done: watch::Sender<()>) {
    let limit = inner.limits.fetch_timeout;
    let fetched = tokio::time::timeout(limit, inner.fetch_keys()).await;
    let fetched = fetched.unwrap_or(Err(FetchError::Timeout(limit)));
    let mut state = inner.state.lock();
    match fetched {
        Ok(keys) => state.good = Some((Arc::new(keys), inner.clock.now_nanos())),
        Err(error) => {
            let kept = state.good.is_some();
            let issuer = inner.name.as_str();
            tracing::warn!(issuer, %error, kept, "cannot fetch the keys of an identity provider");
        }
    }
    state.flight = None;
    drop(state);
    drop(done);
}

impl Inner {
    async fn fetch_keys(&self) -> Result<KeySet, FetchError> {
        #[derive(Deserialize)]
        struct Configuration {
            issuer: String,
            jwks_uri: String,
        }
        let url = format!("{}/.well-known/openid-configuration", self.name.trim_end_matches('/'));
        let document = self.get(&url).await?;
        let configuration: Configuration =
            serde_json::from_slice(&document).map_err(|_| FetchError::Malformed(url))?;
        // Else one provider could speak for another (OpenID Connect Discovery 1.0, section 4.3).
        if configuration.issuer != self.name {
            return Err(FetchError::OtherIssuer(shown(&configuration.issuer)));
        }
        if !may_hold_keys(&configuration.jwks_uri, &self.name) {
            return Err(FetchError::Insecure(shown(&configuration.jwks_uri)));
        }
        Ok(KeySet::parse(&self.get(&configuration.jwks_uri).await?)?)
    }

    async fn get(&self, url: &str) -> Result<Bytes, FetchError> {
        let request = Request::get(url)
            .header(header::ACCEPT, "application/json")
            .header(header::USER_AGENT, concat!("pilotage/", env!("CARGO_PKG_VERSION")))
            .body(Bytes::new())
            .map_err(|_| FetchError::Url(shown(url)))?;
        let response = self.client.request(request).await?;
        let url = shown(url);
        if response.status() != http::StatusCode::OK {
            return Err(FetchError::Status { url, status: response.status().as_u16() });
        }
        let max = self.limits.document_bytes_max;
        match Limited::new(response.into_body(), max).collect().await {
            Ok(body) => Ok(body.to_bytes()),
            Err(error) if error.is::<LengthLimitError>() => Err(FetchError::TooLarge { url, max }),
            Err(_) => Err(FetchError::Broken(url)),
        }
    }
}

/// Keys come over https; over http only on a loopback address, from a provider that is on one.
fn may_hold_keys(url: &str, issuer: &str) -> bool {
    let Ok(uri) = url.parse::<Uri>() else { return false };
    let is_loopback =
        uri.host().is_some_and(|host| matches!(host, "127.0.0.1" | "[::1]" | "localhost"));
    match uri.scheme_str() {
        Some("https") => true,
        Some("http") => is_loopback && issuer.starts_with("http://"),
        _ => false,
    }
}

/// What a provider sent, short and harmless enough for a log.
fn shown(text: &str) -> String {
    text.chars().take(200).map(|c| if c.is_control() { ' ' } else { c }).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn keys_come_over_https_or_stay_on_the_machine() {
        let check = |url: &str, issuer: &str, expect: bool| {
            assert_eq!(may_hold_keys(url, issuer), expect, "{url}");
        };
        check("https://keys.example.com/jwks", "https://id.example.com", true);
        check("https://keys.example.com/jwks", "http://127.0.0.1:1", true);
        check("http://127.0.0.1:9/jwks", "http://127.0.0.1:9", true);
        check("http://[::1]:9/jwks", "http://[::1]:9", true);
        check("http://127.0.0.1:9/jwks", "https://id.example.com", false);
        check("http://keys.example.com/jwks", "http://127.0.0.1:9", false);
        check("http://127.0.0.1.example.com/", "http://127.0.0.1:9", false);
        check("http://127.0.0.1@example.com/", "http://127.0.0.1:9", false);
        check("file:///etc/passwd", "https://id.example.com", false);
        check("/jwks", "https://id.example.com", false);
        check("", "https://id.example.com", false);
    }
}
