//! Asks gateways what they see, and tells engines to sleep and to wake up.

use std::future::Future;
use std::time::Duration;

use bytes::Bytes;
use http::{Method, Request, StatusCode, header};
use http_body_util::{BodyExt as _, Limited};
use pilotage_core::scale::Report;
use pilotage_shell::client::{Client, ClientError};
use pilotage_shell::secret::Secret;
use thiserror::Error;
use tokio::time::timeout;

/// Most bytes of what a gateway says: a thousand models with some replicas each.
const REPORT_BYTES_MAX: usize = 16 << 20;

/// How long a gateway may take to say it.
const REPORT_TIMEOUT: Duration = Duration::from_secs(2);

/// How long an engine may take to put its weights away or to fetch them.
const REST_TIMEOUT: Duration = Duration::from_secs(120);

/// What is asked of gateways and engines.
pub trait Ask: Send + Sync {
    /// What a gateway sees.
    fn report(&self, url: &str) -> impl Future<Output = Result<Report, ReachError>> + Send;

    /// Puts an engine to sleep or wakes it; answers when that is done.
    fn rest(
        &self,
        url: &str,
        key: Option<&Secret>,
        asleep: Asleep,
    ) -> impl Future<Output = Result<(), ReachError>> + Send;
}

/// What an engine is to do.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum Asleep {
    /// Its weights into the host's memory.
    Sleep,
    /// And back.
    Wake,
}

/// Why there is no answer.
#[derive(Debug, Error)]
pub enum ReachError {
    /// It cannot be asked.
    #[error(transparent)]
    Client(#[from] ClientError),
    /// It took too long.
    #[error("no answer within {} s", .0.as_secs())]
    Late(Duration),
    /// It refused.
    #[error("status {0}")]
    Status(StatusCode),
    /// What it said makes no sense.
    #[error("an answer that cannot be read: {0}")]
    Answer(String),
    /// Nobody knows where it is.
    #[error("its pod has no address")]
    Nowhere,
    /// It was not asked, as the key that it wants cannot be had.
    #[error("it was not asked, as its key cannot be read: {0}")]
    Key(String),
}

/// Over HTTP.
#[derive(Clone, Debug)]
pub struct Reach {
    client: Client,
    /// The key of gateways' listeners for operators.
    admin: Option<Secret>,
}

impl Reach {
    /// With the key of gateways' listeners for operators.
    pub const fn new(client: Client, admin: Option<Secret>) -> Self {
        Self { client, admin }
    }

    async fn call(
        &self,
        method: Method,
        url: String,
        key: Option<&Secret>,
    ) -> Result<Bytes, ReachError> {
        let mut request = Request::builder().method(method).uri(&url);
        if let Some(key) = key {
            request = request.header(header::AUTHORIZATION, format!("Bearer {}", key.expose()));
        }
        let request =
            request.body(Bytes::new()).map_err(|error| ReachError::Answer(error.to_string()))?;
        let (head, body) = self.client.request(request).await?.into_parts();
        if !head.status.is_success() {
            return Err(ReachError::Status(head.status));
        }
        let body = Limited::new(body, REPORT_BYTES_MAX).collect().await;
        body.map(http_body_util::Collected::to_bytes)
            .map_err(|error| ReachError::Answer(error.to_string()))
    }
}

impl Ask for Reach {
    async fn report(&self, url: &str) -> Result<Report, ReachError> {
        let call = self.call(Method::GET, format!("{url}/scaling"), self.admin.as_ref());
        let body = timeout(REPORT_TIMEOUT, call).await;
        let body = body.map_err(|_| ReachError::Late(REPORT_TIMEOUT))??;
        serde_json::from_slice(&body).map_err(|error| ReachError::Answer(error.to_string()))
    }

    async fn rest(
        &self,
        url: &str,
        key: Option<&Secret>,
        asleep: Asleep,
    ) -> Result<(), ReachError> {
        let path = match asleep {
            Asleep::Sleep => "/sleep?level=1",
            Asleep::Wake => "/wake_up",
        };
        let call = self.call(Method::POST, format!("{url}{path}"), key);
        let done = timeout(REST_TIMEOUT, call).await;
        done.map_err(|_| ReachError::Late(REST_TIMEOUT))?.map(|_| ())
    }
}
