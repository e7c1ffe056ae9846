//! Calls of the API server: JSON in, JSON out, and what went wrong as a [`Failure`].

use std::fmt::Write as _;
use std::time::Duration;

use http::{Method, Request};
use kube::Client;
use kube::core::response::StatusDetails;
use pilotage_plan::cluster::{Failure, MANAGER, Sort};
use serde_json::{Value, json};

/// How long a call may take.
const CALL_TIMEOUT: Duration = Duration::from_secs(20);

/// Makes calls.
#[derive(Clone)]
pub(crate) struct Calls {
    client: Client,
    timeout: Duration,
}

/// Where an object is.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Path<'a> {
    pub(crate) api_version: &'a str,
    pub(crate) plural: &'a str,
    /// None for what belongs to the whole cluster.
    pub(crate) namespace: &'a str,
    pub(crate) name: &'a str,
    /// `status`, where that is meant.
    pub(crate) part: &'a str,
}

/// Who applies, and how.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Manner {
    /// The name that is written by.
    pub(crate) manager: &'static str,
    /// Whether fields of others are taken over.
    pub(crate) force: bool,
    /// Whether it is only tried.
    pub(crate) dry_run: bool,
}

impl Manner {
    fn query(self) -> String {
        let dry = if self.dry_run { "&dryRun=All" } else { "" };
        format!("?fieldManager={}&force={}{dry}", self.manager, self.force)
    }
}

impl<'a> Path<'a> {
    /// Where an object of that sort is.
    pub(crate) const fn of(sort: Sort, namespace: &'a str, name: &'a str) -> Self {
        let row = sort.row();
        Self { api_version: row.api_version, plural: row.plural, namespace, name, part: "" }
    }

    fn text(self) -> String {
        let root = if self.api_version.contains('/') { "apis" } else { "api" };
        let mut path = format!("/{root}/{}", self.api_version);
        if !self.namespace.is_empty() {
            let _ = write!(path, "/namespaces/{}", self.namespace);
        }
        for step in [self.plural, self.name, self.part].into_iter().filter(|step| !step.is_empty())
        {
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
    pub(crate) const fn new(client: Client) -> Self {
        Self { client, timeout: CALL_TIMEOUT }
    }

    /// Calls that may take so long.
    pub(crate) const fn within(client: Client, timeout: Duration) -> Self {
        Self { client, timeout }
    }

    pub(crate) fn client(&self) -> Client {
        self.client.clone()
    }

    /// An object, if it is there.
    pub(crate) async fn get(&self, path: Path<'_>) -> Result<Option<Value>, Failure> {
        match self.ask(Method::GET, &path.text(), "", None).await {
            Ok(object) => Ok(Some(object)),
            Err(failure) if failure.code == 404 => Ok(None),
            Err(failure) => Err(failure),
        }
    }

    /// Whatever is at a path.
    pub(crate) async fn read(&self, path: &str) -> Result<Value, Failure> {
        self.ask(Method::GET, path, "", None).await
    }

    /// Applies an object: what others wrote into its fields gives way only with `force`.
    pub(crate) async fn apply(
        &self,
        path: Path<'_>,
        object: &Value,
        force: bool,
    ) -> Result<Value, Failure> {
        let manner = Manner { manager: MANAGER, force, dry_run: false };
        self.apply_as(path, object, manner).await
    }

    /// Applies an object in that manner.
    pub(crate) async fn apply_as(
        &self,
        path: Path<'_>,
        object: &Value,
        manner: Manner,
    ) -> Result<Value, Failure> {
        let target = path.text() + &manner.query();
        self.ask(Method::PATCH, &target, "application/apply-patch+yaml", Some(object)).await
    }

    /// Changes fields of an object, in that manner.
    pub(crate) async fn merge_as(
        &self,
        path: Path<'_>,
        change: &Value,
        manner: Manner,
    ) -> Result<Value, Failure> {
        let dry = if manner.dry_run { "&dryRun=All" } else { "" };
        let target = format!("{}?fieldManager={}{dry}", path.text(), manner.manager);
        self.ask(Method::PATCH, &target, "application/merge-patch+json", Some(change)).await
    }

    pub(crate) async fn create(&self, path: Path<'_>, object: &Value) -> Result<Value, Failure> {
        let path = Path { name: "", ..path };
        let target = format!("{}?fieldManager={MANAGER}", path.text());
        self.ask(Method::POST, &target, "application/json", Some(object)).await
    }

    pub(crate) async fn replace(&self, path: Path<'_>, object: &Value) -> Result<Value, Failure> {
        let target = format!("{}?fieldManager={MANAGER}", path.text());
        self.ask(Method::PUT, &target, "application/json", Some(object)).await
    }

    /// Deletes the object of that UID; one that is gone, or another one by now, is well.
    pub(crate) async fn delete(&self, path: Path<'_>, uid: &str) -> Result<Option<Value>, Failure> {
        self.delete_in(path, uid, None).await
    }

    /// The same of one that has so many seconds to end.
    pub(super) async fn delete_in(
        &self,
        path: Path<'_>,
        uid: &str,
        grace_seconds: Option<u32>,
    ) -> Result<Option<Value>, Failure> {
        let mut how = json!({
            "apiVersion": "v1", "kind": "DeleteOptions",
            "propagationPolicy": "Background", "preconditions": { "uid": uid },
        });
        if let Some(seconds) = grace_seconds {
            how["gracePeriodSeconds"] = seconds.into();
        }
        match self.ask(Method::DELETE, &path.text(), "application/json", Some(&how)).await {
            Ok(left) => Ok(Some(left)),
            Err(failure) if matches!(failure.code, 404 | 409) => Ok(None),
            Err(failure) => Err(failure),
        }
    }

    /// Changes the object of the UID that the patch names; one that is gone, or another one by now, is well.
    pub(super) async fn patch(
        &self,
        path: Path<'_>,
        patch: &Value,
    ) -> Result<Option<Value>, Failure> {
        let target = format!("{}?fieldManager={MANAGER}", path.text());
        let kind = "application/strategic-merge-patch+json";
        match self.ask(Method::PATCH, &target, kind, Some(patch)).await {
            Ok(object) => Ok(Some(object)),
            Err(failure) if matches!(failure.code, 404 | 409) => Ok(None),
            Err(failure) => Err(failure),
        }
    }

    pub(crate) async fn ask(
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
        match tokio::time::timeout(self.timeout, self.client.request::<Value>(request)).await {
            Ok(answer) => answer.map_err(|error| failure(&error)),
            Err(_) => Err(lost(format!("no answer came within {} s", self.timeout.as_secs()))),
        }
    }
}

const fn lost(message: String) -> Failure {
    Failure { code: 0, reason: String::new(), message, cause: String::new(), retry_after_s: None }
}

/// What went wrong.
pub(crate) fn failure(error: &kube::Error) -> Failure {
    match error {
        kube::Error::Api(status) => {
            let details = status.details.as_ref();
            Failure {
                code: status.code,
                reason: status.reason.clone(),
                message: status.message.clone(),
                cause: details.map(cause).unwrap_or_default(),
                retry_after_s: details.map(|one| one.retry_after_seconds).filter(|s| *s > 0),
            }
        }
        other => lost(other.to_string()),
    }
}

/// The first cause that has a word.
fn cause(details: &StatusDetails) -> String {
    let mut words = details.causes.iter().map(|cause| &cause.reason);
    words.find(|word| !word.is_empty()).cloned().unwrap_or_default()
}
