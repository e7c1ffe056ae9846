//! What answers look like: JSON, CSV, and errors in OpenAI's shape.

use axum::http::{StatusCode, header};
use axum::response::{IntoResponse as _, Response};
use serde_json::{Value, json};

use crate::store::StoreError;

/// An answer or an error.
pub(super) type Answer = Result<Response, Wrong>;

/// An error, as it is told to whoever asked.
#[derive(Debug)]
pub(super) struct Wrong {
    status: StatusCode,
    code: &'static str,
    message: String,
}

impl Wrong {
    /// The question is wrong.
    pub(super) fn question(message: impl Into<String>) -> Self {
        Self { status: StatusCode::BAD_REQUEST, code: "invalid_parameter", message: message.into() }
    }

    /// There is no such thing.
    pub(super) fn not_found(message: impl Into<String>) -> Self {
        Self { status: StatusCode::NOT_FOUND, code: "not_found", message: message.into() }
    }
}

impl From<StoreError> for Wrong {
    fn from(error: StoreError) -> Self {
        if matches!(error, StoreError::Slow(_)) {
            let (status, code) = (StatusCode::GATEWAY_TIMEOUT, "usage_question_too_slow");
            return Self { status, code, message: error.to_string() };
        }
        if let StoreError::Refused(why) = error {
            return Self::question(format!("the database does not take a parameter: {why}"));
        }
        let message = format!(
            "{error}; requests go on, and their usage is kept until it is back: see /ledger"
        );
        Self {
            status: StatusCode::SERVICE_UNAVAILABLE,
            code: "usage_database_unavailable",
            message,
        }
    }
}

impl axum::response::IntoResponse for Wrong {
    fn into_response(self) -> Response {
        let kind =
            if self.status.is_client_error() { "invalid_request_error" } else { "api_error" };
        let body = json!({"error": {"message": self.message, "type": kind, "param": null, "code": self.code}});
        (self.status, json(&body)).into_response()
    }
}

pub(super) fn json(body: &Value) -> Response {
    ([(header::CONTENT_TYPE, "application/json")], body.to_string()).into_response()
}

pub(super) fn csv(text: String) -> Response {
    ([(header::CONTENT_TYPE, "text/csv; charset=utf-8")], text).into_response()
}

/// One line of CSV as of RFC 4180.
pub(super) fn line(cells: impl IntoIterator<Item = String>, out: &mut String) {
    for (at, text) in cells.into_iter().enumerate() {
        if at > 0 {
            out.push(',');
        }
        out.push_str(&text);
    }
    out.push_str("\r\n");
}

/// A name as a cell. Spreadsheets take what begins like a formula for one, and run it: such a name gets an
/// apostrophe before it, as OWASP says on CSV injection.
pub(super) fn cell(name: &str) -> String {
    let formula = name.starts_with(['=', '+', '-', '@', '\t', '\r']);
    let quoted = formula || name.contains(['"', ',', '\n', '\r']);
    match quoted {
        true => format!("\"{}{}\"", if formula { "'" } else { "" }, name.replace('"', "\"\"")),
        false => name.to_owned(),
    }
}

/// Millionths as a decimal number, without needless zeros.
pub(super) fn money(micros: u64) -> String {
    let text = format!("{}.{:06}", micros / 1_000_000, micros % 1_000_000);
    text.trim_end_matches('0').trim_end_matches('.').to_owned()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn money_is_exact() {
        let check = |micros, expect| assert_eq!(money(micros), expect);
        check(0, "0");
        check(1, "0.000001");
        check(1_500_000, "1.5");
        check(100_000_000, "100");
        check(u64::MAX, "18446744073709.551615");
    }

    #[test]
    fn names_are_cells() {
        let check = |name, expect| assert_eq!(cell(name), expect);
        check("acme", "acme");
        check("a,b", "\"a,b\"");
        check("a\"b\n", "\"a\"\"b\n\"");
        check("=HYPERLINK(\"x\")", "\"'=HYPERLINK(\"\"x\"\")\"");
    }
}
