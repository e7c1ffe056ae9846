//! Calls of the API server: JSON in, JSON out, and what went wrong as a [`Failure`].

use std::fmt::Write as _;
use std::time::Duration;

use http::{Method, Request};
use kube::Client;
use pilotage_plan::cluster::{Failure, MANAGER};
use serde_json::{Value, json};

/// How long a call may take.
const CALL_TIMEOUT: Duration = Duration::from_secs(20);

/// Makes calls.
#[derive(Clone)]
pub(super) struct Calls {
    client: Client,
}

/// Where an object is.
#[derive(Clone, Copy, Debug)]
pub(super) struct Path<'a> {
    pub(super) api_version: &'a str,
    pub(super) plural: &'a str,
    pub(super) namespace: &'a str,
    pub(super) name: &'a str,
    /// `status`, where that is meant.
    pub(super) part: &'a str,
}

impl Path<'_> {
    fn text(self) -> String {
        let root = if self.api_version.contains('/') { "apis" } else { "api" };
        let mut path =
            format!("/{root}/{}/namespaces/{}/{}", self.api_version, self.namespace, self.plural);
        for step in [self.name, self.part].into_iter().filter(|step| !step.is_empty()) {
            // Writing to a text does not fail.
            let _ = write!(path, "/{step}");
        }
        path
    }
}

impl std::fmt::Debug for Calls {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("Calls")
    }
}

impl Calls {
    pub(super) const fn new(client: Client) -> Self {
        Self { client }
    }

    pub(super) fn client(&self) -> Client {
        self.client.clone()
    }

    /// An object, if it is there.
    pub(super) async fn get(&self, path: Path<'_>) -> Result<Option<Value>, Failure> {
        match self.ask(Method::GET, &path.text(), "", None).await {
            Ok(object) => Ok(Some(object)),
            Err(failure) if failure.code == 404 => Ok(None),
            Err(failure) => Err(failure),
        }
    }

    /// Whatever is at a path.
    pub(super) async fn read(&self, path: &str) -> Result<Value, Failure> {
        self.ask(Method::GET, path, "", None).await
    }

    /// Applies an object: what others wrote into its fields gives way only with `force`.
    pub(super) async fn apply(
        &self,
        path: Path<'_>,
        object: &Value,
        force: bool,
    ) -> Result<Value, Failure> {
        self.apply_as(MANAGER, path, object, force).await
    }

    /// The same by another name.
    pub(super) async fn apply_as(
        &self,
        manager: &str,
        path: Path<'_>,
        object: &Value,
        force: bool,
    ) -> Result<Value, Failure> {
        let query = format!("?fieldManager={manager}&force={force}");
        let target = path.text() + &query;
        self.ask(Method::PATCH, &target, "application/apply-patch+yaml", Some(object)).await
    }

    pub(super) async fn create(&self, path: Path<'_>, object: &Value) -> Result<Value, Failure> {
        let path = Path { name: "", ..path };
        let target = format!("{}?fieldManager={MANAGER}", path.text());
        self.ask(Method::POST, &target, "application/json", Some(object)).await
    }

    pub(super) async fn replace(&self, path: Path<'_>, object: &Value) -> Result<Value, Failure> {
        let target = format!("{}?fieldManager={MANAGER}", path.text());
        self.ask(Method::PUT, &target, "application/json", Some(object)).await
    }

    /// Deletes the object of that UID; one that is gone, or another one by now, is well.
    pub(super) async fn delete(&self, path: Path<'_>, uid: &str) -> Result<Option<Value>, Failure> {
        let how = json!({
            "apiVersion": "v1", "kind": "DeleteOptions",
            "propagationPolicy": "Background", "preconditions": { "uid": uid },
        });
        match self.ask(Method::DELETE, &path.text(), "application/json", Some(&how)).await {
            Ok(left) => Ok(Some(left)),
            Err(failure) if matches!(failure.code, 404 | 409) => Ok(None),
            Err(failure) => Err(failure),
        }
    }

    async fn ask(
        &self,
        method: Method,
        target: &str,
        content: &str,
        body: Option<&Value>,
    ) -> Result<Value, Failure> {
        let mut request = Request::builder().method(method).uri(target);
        if !content.is_empty() {
            request = request.header(http::header::CONTENT_TYPE, content);
        }
        let body = body.map(|body| body.to_string().into_bytes()).unwrap_or_default();
        let request = request.body(body).map_err(|error| lost(error.to_string()))?;
        match tokio::time::timeout(CALL_TIMEOUT, self.client.request::<Value>(request)).await {
            Ok(answer) => answer.map_err(|error| failure(&error)),
            Err(_) => Err(lost(format!("no answer came within {} s", CALL_TIMEOUT.as_secs()))),
        }
    }
}

const fn lost(message: String) -> Failure {
    Failure { code: 0, reason: String::new(), message, retry_after_s: None }
}

/// What went wrong.
pub(super) fn failure(error: &kube::Error) -> Failure {
    match error {
        kube::Error::Api(status) => {
            let details = status.details.as_ref();
            Failure {
                code: status.code,
                reason: status.reason.clone(),
                message: status.message.clone(),
                retry_after_s: details.map(|one| one.retry_after_seconds).filter(|s| *s > 0),
            }
        }
        other => lost(other.to_string()),
    }
}
