//! Whether a process takes requests. Health is enough where the program is ours; of somebody else's it is
//! also seen that it serves the model that was asked for, and that it can answer.

use std::time::Duration;

use bytes::Bytes;
use http::{Request, StatusCode, header};
use http_body_util::{BodyExt as _, Limited};
use pilotage_plan::ProcessSpec;
use pilotage_shell::secret::Secret;
use serde::Deserialize;
use serde_json::json;

use super::Machine;

/// How often a starting process is asked.
const PAUSE: Duration = Duration::from_millis(20);

/// The same for programs that take minutes.
const PAUSE_LONG: Duration = Duration::from_millis(250);

/// How long one answer may take.
const PATIENCE: Duration = Duration::from_secs(5);

/// How long the answer to the first request may take: what is compiled at the first one is compiled now.
const WARM_UP_PATIENCE: Duration = Duration::from_secs(300);

/// Characters of an error that are shown.
const SAID_MAX: usize = 300;

/// How often the first request is tried.
const WARM_UPS: u32 = 5;

/// Before the second try; twice as long before each further one.
const WARM_UP_PAUSE: Duration = Duration::from_millis(50);

/// Most bytes of an answer.
const BYTES_MAX: usize = 4 << 20;

/// Whom to ask.
pub(super) struct Asked<'a> {
    pub(super) machine: &'a Machine,
    pub(super) spec: &'a ProcessSpec,
    pub(super) url: &'a str,
    /// What it asks its clients for.
    pub(super) key: &'a Secret,
}

#[derive(Deserialize)]
struct Models {
    data: Vec<Listed>,
}

#[derive(Deserialize)]
struct Listed {
    id: String,
}

impl Asked<'_> {
    /// Until it is ready.
    ///
    /// # Errors
    /// Why it never will be, or was not in time.
    pub(super) async fn wait(&self) -> Result<(), String> {
        let own = self.machine.start_timeout;
        let said = self.spec.readiness.start_seconds;
        let limit = said.map_or(own, |seconds| Duration::from_secs(seconds.into()));
        let late = || format!("it was not ready after {} s", limit.as_secs());
        tokio::time::timeout(limit, self.become_ready()).await.unwrap_or_else(|_| Err(late()))
    }

    async fn become_ready(&self) -> Result<(), String> {
        let readiness = &self.spec.readiness;
        let is_ours = !readiness.lists_model && !readiness.warms_up;
        while !self.is_well().await {
            tokio::time::sleep(if is_ours { PAUSE } else { PAUSE_LONG }).await;
        }
        if readiness.lists_model {
            self.has_model().await?;
        }
        if readiness.warms_up {
            self.warm_up().await?;
        }
        Ok(())
    }

    async fn is_well(&self) -> bool {
        let Ok(request) = self.request("GET", &self.spec.health_path, Bytes::new()) else {
            return false;
        };
        self.ask(request, PATIENCE).await.is_some_and(|(status, _)| status.is_success())
    }

    /// A program without a list of models is taken at its word.
    async fn has_model(&self) -> Result<(), String> {
        let Ok(request) = self.request("GET", "/v1/models", Bytes::new()) else { return Ok(()) };
        let Some((status, body)) = self.ask(request, PATIENCE).await else { return Ok(()) };
        if status == StatusCode::UNAUTHORIZED {
            return Err("it refuses our key: another program listens at its port".to_owned());
        }
        let Ok(models) = serde_json::from_slice::<Models>(&body) else { return Ok(()) };
        let wanted = &self.spec.served_model;
        if models.data.is_empty() || models.data.iter().any(|model| model.id == *wanted) {
            return Ok(());
        }
        let others: Vec<String> = models.data.into_iter().map(|model| model.id).take(5).collect();
        Err(format!("it serves {} and not `{wanted}`", others.join(", ")))
    }

    /// One token for nobody. What it refuses as wrong it has at least read; what fails by itself is
    /// tried again, as the first request may have been too early.
    async fn warm_up(&self) -> Result<(), String> {
        let model = &self.spec.served_model;
        let completion = json!({"model": model, "prompt": "Hello", "max_tokens": 1});
        let chat = json!({"model": model, "max_tokens": 1,
                          "messages": [{"role": "user", "content": "Hello"}]});
        for (path, body) in [("/v1/completions", completion), ("/v1/chat/completions", chat)] {
            let body = Bytes::from(body.to_string());
            for left in (0..WARM_UPS).rev() {
                let Ok(request) = self.request("POST", path, body.clone()) else { return Ok(()) };
                match self.ask(request, WARM_UP_PATIENCE).await {
                    Some((StatusCode::NOT_FOUND | StatusCode::METHOD_NOT_ALLOWED, _)) => break,
                    Some((StatusCode::NOT_IMPLEMENTED, _)) => return Ok(()),
                    Some((status, _)) if !status.is_server_error() => return Ok(()),
                    Some((status, _)) if left == 0 => {
                        return Err(format!(
                            "it is well, but answers its first request with {status}"
                        ));
                    }
                    None if left == 0 => {
                        return Err("it is well, but does not answer its first request".to_owned());
                    }
                    _ => tokio::time::sleep(WARM_UP_PAUSE * (1 << (WARM_UPS - 1 - left))).await,
                }
            }
        }
        Ok(())
    }

    /// Calls it for something that is no request of a client.
    ///
    /// # Errors
    /// Why it did not do it.
    pub(super) async fn call(&self, method: &str, path: &str, body: Bytes) -> Result<(), String> {
        let request = self.request(method, path, body).map_err(|error| error.to_string())?;
        let answer = self.ask(request, WARM_UP_PATIENCE).await;
        let (status, body) = answer.ok_or("it did not answer")?;
        if status.is_success() {
            return Ok(());
        }
        let said: String = String::from_utf8_lossy(&body).chars().take(SAID_MAX).collect();
        Err(format!("{status}: {said}"))
    }

    fn request(&self, method: &str, path: &str, body: Bytes) -> http::Result<Request<Bytes>> {
        let mut request = Request::builder().method(method).uri(format!("{}{path}", self.url));
        if self.spec.takes_key() {
            let key = format!("Bearer {}", self.key.expose());
            request = request.header(header::AUTHORIZATION, key);
        }
        request.header(header::CONTENT_TYPE, "application/json").body(body)
    }

    async fn ask(
        &self,
        request: Request<Bytes>,
        patience: Duration,
    ) -> Option<(StatusCode, Bytes)> {
        let asking = async {
            let response = self.machine.client.request(request).await.ok()?;
            let status = response.status();
            let body = Limited::new(response.into_body(), BYTES_MAX).collect().await.ok()?;
            Some((status, body.to_bytes()))
        };
        tokio::time::timeout(patience, asking).await.ok().flatten()
    }
}
