//! Answers that say no, in the API's form (`Status`), with the reasons and words that clients act on.

use serde_json::{Value, json};

/// Why a call failed.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Failure {
    pub(crate) code: u16,
    pub(crate) reason: &'static str,
    pub(crate) message: String,
    pub(crate) details: Option<Box<Details>>,
    pub(crate) retry_after_s: Option<u64>,
}

/// What a failure is about.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct Details {
    pub(crate) name: String,
    pub(crate) group: String,
    /// The plural of objects, the kind of what is invalid.
    pub(crate) kind: String,
    pub(crate) uid: String,
    pub(crate) causes: Vec<Cause>,
}

/// A part of why.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Cause {
    pub(crate) reason: &'static str,
    pub(crate) message: String,
    pub(crate) field: String,
}

impl Cause {
    pub(crate) fn of(reason: &'static str, field: impl Into<String>, message: String) -> Self {
        Self { reason, message, field: field.into() }
    }

    /// A value that is not as it must be.
    pub(crate) fn invalid(field: impl Into<String>, value: &Value, why: &str) -> Self {
        Self::of("FieldValueInvalid", field, format!("Invalid value: {value}: {why}"))
    }

    pub(crate) fn required(field: impl Into<String>) -> Self {
        Self::of("FieldValueRequired", field, "Required value".into())
    }

    pub(crate) fn forbidden(field: impl Into<String>, why: &str) -> Self {
        Self::of("FieldValueForbidden", field, format!("Forbidden: {why}"))
    }
}

/// An object by the names that messages use.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Named<'a> {
    pub(crate) group: &'a str,
    pub(crate) plural: &'a str,
    pub(crate) name: &'a str,
}

impl Named<'_> {
    /// `deployments.apps`.
    fn qualified(&self) -> String {
        let Self { group, plural, .. } = self;
        if group.is_empty() { (*plural).into() } else { format!("{plural}.{group}") }
    }

    fn details(&self) -> Option<Box<Details>> {
        let (name, group, kind) = (self.name.into(), self.group.into(), self.plural.into());
        Some(Box::new(Details { name, group, kind, ..Details::default() }))
    }
}

impl Failure {
    pub(crate) fn new(code: u16, reason: &'static str, message: impl Into<String>) -> Self {
        Self { code, reason, message: message.into(), details: None, retry_after_s: None }
    }

    pub(crate) fn bad_request(message: impl Into<String>) -> Self {
        Self::new(400, "BadRequest", message)
    }

    /// There is no such path: in words, not as a `Status`.
    pub(crate) fn no_path() -> Self {
        Self::new(404, "", "404 page not found\n")
    }

    pub(crate) fn not_found(of: Named<'_>) -> Self {
        let message = format!("{} {:?} not found", of.qualified(), of.name);
        Self { details: of.details(), ..Self::new(404, "NotFound", message) }
    }

    pub(crate) fn exists(of: Named<'_>) -> Self {
        let message = format!("{} {:?} already exists", of.qualified(), of.name);
        Self { details: of.details(), ..Self::new(409, "AlreadyExists", message) }
    }

    pub(crate) fn conflict(of: Named<'_>, why: &str) -> Self {
        let (kind, name) = (of.qualified(), of.name);
        let message = format!("Operation cannot be fulfilled on {kind} {name:?}: {why}");
        Self { details: of.details(), ..Self::new(409, "Conflict", message) }
    }

    pub(crate) fn modified(of: Named<'_>) -> Self {
        let why = "the object has been modified; please apply your changes to the latest version and try again";
        Self::conflict(of, why)
    }

    pub(crate) fn forbidden(of: Named<'_>, why: &str) -> Self {
        let (kind, name) = (of.qualified(), of.name);
        let message = if name.is_empty() {
            format!("{kind} is forbidden: {why}")
        } else {
            format!("{kind} {name:?} is forbidden: {why}")
        };
        Self { details: of.details(), ..Self::new(403, "Forbidden", message) }
    }

    /// An object that breaks rules of its kind.
    pub(crate) fn invalid(group: &str, kind: &str, name: &str, causes: Vec<Cause>) -> Self {
        let said: Vec<String> =
            causes.iter().map(|cause| format!("{}: {}", cause.field, cause.message)).collect();
        let said = match said.as_slice() {
            [one] => one.clone(),
            many => format!("[{}]", many.join(", ")),
        };
        let dotted = if group.is_empty() { kind.to_owned() } else { format!("{kind}.{group}") };
        let message = format!("{dotted} {name:?} is invalid: {said}");
        let details = Details {
            name: name.into(),
            group: group.into(),
            kind: kind.into(),
            causes,
            ..Details::default()
        };
        Self { details: Some(Box::new(details)), ..Self::new(422, "Invalid", message) }
    }

    pub(crate) fn expired(message: impl Into<String>) -> Self {
        Self::new(410, "Expired", message)
    }

    pub(crate) fn method_not_allowed() -> Self {
        let message = "the server does not allow this method on the requested resource";
        Self::new(405, "MethodNotAllowed", message)
    }

    pub(crate) fn media_type(accepted: &str) -> Self {
        let message = format!(
            "the body of the request was in an unknown format - accepted media types include: {accepted}"
        );
        Self::new(415, "UnsupportedMediaType", message)
    }

    pub(crate) fn too_many(message: &str, retry_after_s: u64) -> Self {
        let failure = Self::new(429, "TooManyRequests", message);
        Self { retry_after_s: Some(retry_after_s), ..failure }
    }

    /// As a `Status`.
    pub(crate) fn status(&self) -> Value {
        let mut status = json!({
            "kind": "Status",
            "apiVersion": "v1",
            "metadata": {},
            "status": "Failure",
            "message": self.message,
            "reason": self.reason,
        });
        let mut details = serde_json::Map::new();
        let known = self.details.as_deref().cloned().unwrap_or_default();
        let texts = [
            ("name", known.name),
            ("group", known.group),
            ("kind", known.kind),
            ("uid", known.uid),
        ];
        for (name, text) in texts {
            if !text.is_empty() {
                details.insert(name.into(), text.into());
            }
        }
        if !known.causes.is_empty() {
            let cause = |cause: &Cause| json!({"reason": cause.reason, "message": cause.message, "field": cause.field});
            details.insert("causes".into(), known.causes.iter().map(cause).collect());
        }
        if let Some(seconds) = self.retry_after_s {
            details.insert("retryAfterSeconds".into(), seconds.into());
        }
        if !details.is_empty() {
            status["details"] = details.into();
        }
        status["code"] = self.code.into();
        status
    }
}
