//! Errors in which a request is wrong, in OpenAI's shape whichever server found that: clients read one, and
//! servers write a dozen. What is in it already, and says nothing that is not for clients, stays as it is.

use serde::Deserialize;
use serde_json::Value;

use super::fault::{self, FAULT_BYTES_MAX, Told};
use super::screen::screened;
use super::{Dialect, Fault};
use crate::openai::error::ApiError;

/// What is said where an engine says nothing that is for clients.
const NO_REASON: &str = "the engine refused the request and gives no reason";

/// An error of OpenAI's API, as its makers document it.
#[derive(Deserialize)]
struct Whole {
    error: Inner,
}

#[derive(Deserialize)]
struct Inner {
    message: String,
    #[serde(rename = "type")]
    _kind: String,
    #[serde(rename = "param", default)]
    _param: Option<String>,
    #[serde(rename = "code", default)]
    _code: Option<String>,
}

/// An error with a status of 400 to 499 in OpenAI's shape; none where it has that already.
pub fn wrong(dialect: Dialect, status: u16, body: &[u8]) -> Option<ApiError> {
    if is_told(body) {
        return None;
    }
    let Told { fault, message, code, .. } = fault::read(dialect, status, body);
    let message = screened(&message).unwrap_or_else(|| NO_REASON.to_owned());
    let error = match fault {
        Fault::TooLong => ApiError::context_length_exceeded(message),
        Fault::UnknownModel => ApiError::model_not_found(message),
        Fault::Unsupported => {
            let error = ApiError::invalid_request(message).with_code("unsupported_by_runtime");
            ApiError { status, ..error }
        }
        _ => {
            // OpenAI has no status for what is understood and wrong all the same.
            let status = if status == 422 { 400 } else { status };
            let error = ApiError { status, ..ApiError::invalid_request(message) };
            let named = |code: &String| !code.bytes().all(|byte| byte.is_ascii_digit());
            match code.filter(named) {
                Some(code) => error.with_code(code),
                None => error,
            }
        }
    };
    Some(match param(body) {
        Some(param) => error.with_param(param),
        None => error,
    })
}

fn is_told(body: &[u8]) -> bool {
    let whole =
        serde_json::from_slice::<Whole>(body).ok().filter(|_| body.len() <= FAULT_BYTES_MAX);
    whole.is_some_and(|whole| {
        let message = whole.error.message;
        screened(&message).is_some_and(|screened| screened == message.trim())
    })
}

/// The parameter that is wrong, where the server names it.
fn param(body: &[u8]) -> Option<String> {
    let all = serde_json::from_slice::<Value>(body).ok()?;
    let param = all.get("error").and_then(|error| error.get("param")).or_else(|| all.get("param"));
    param?.as_str().map(str::to_owned)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn check(dialect: Dialect, status: u16, body: &str, expect: Option<(u16, &str)>) {
        let error = wrong(dialect, status, body.as_bytes());
        let told = error.map(|error| {
            let kept = (error.status, String::from_utf8(error.body()).unwrap());
            // A shape that would be told again is none.
            assert_eq!(wrong(dialect, kept.0, kept.1.as_bytes()), None, "{}", kept.1);
            kept
        });
        assert_eq!(told, expect.map(|(status, body)| (status, body.to_owned())), "{body}");
    }

    #[test]
    fn what_has_the_shape_stays_as_it_is() {
        for body in [
            r#"{"error":{"message":"no","type":"invalid_request_error","param":null,"code":null}}"#,
            r#"{"error":{"message":"no","type":"x","param":"model","code":"y","more":1}}"#,
            r#"{"error":{"message":"no","type":"x"}}"#,
        ] {
            check(Dialect::Auto, 400, body, None);
            check(Dialect::Pilotage, 404, body, None);
        }
    }

    #[test]
    fn every_server_is_told_in_one_shape() {
        check(
            Dialect::Vllm,
            400,
            r#"{"error":{"message":"temperature must be non-negative","type":"BadRequestError","param":"temperature","code":400}}"#,
            Some((
                400,
                r#"{"error":{"message":"temperature must be non-negative","type":"invalid_request_error","param":"temperature","code":null}}"#,
            )),
        );
        check(
            Dialect::Sglang,
            400,
            r#"{"object":"error","message":"The input (9 tokens) is longer than the model's context length (4 tokens).","type":"BadRequestError","param":null,"code":400}"#,
            Some((
                400,
                r#"{"error":{"message":"The input (9 tokens) is longer than the model's context length (4 tokens).","type":"invalid_request_error","param":null,"code":"context_length_exceeded"}}"#,
            )),
        );
        check(
            Dialect::LlamaCpp,
            400,
            r#"{"error":{"code":400,"message":"request (9031 tokens) exceeds","type":"exceed_context_size_error","n_ctx":2048}}"#,
            Some((
                400,
                r#"{"error":{"message":"request (9031 tokens) exceeds","type":"invalid_request_error","param":null,"code":"context_length_exceeded"}}"#,
            )),
        );
        check(
            Dialect::Tgi,
            422,
            r#"{"error":"Input validation error","error_type":"validation"}"#,
            Some((
                400,
                r#"{"error":{"message":"Input validation error","type":"invalid_request_error","param":null,"code":null}}"#,
            )),
        );
        check(
            Dialect::Auto,
            422,
            r#"{"detail":[{"type":"missing","loc":["body","messages",0,"role"],"msg":"Field required","input":{"a":"b"}}]}"#,
            Some((
                400,
                r#"{"error":{"message":"messages.0.role: Field required","type":"invalid_request_error","param":null,"code":null}}"#,
            )),
        );
        check(
            Dialect::Vllm,
            404,
            r#"{"detail":"Not Found"}"#,
            Some((
                404,
                r#"{"error":{"message":"Not Found","type":"invalid_request_error","param":null,"code":"unsupported_by_runtime"}}"#,
            )),
        );
        check(
            Dialect::Auto,
            413,
            "<html>nginx/1.2 at 10.0.0.1</html>",
            Some((
                413,
                r#"{"error":{"message":"the engine refused the request and gives no reason","type":"invalid_request_error","param":null,"code":null}}"#,
            )),
        );
    }

    #[test]
    fn what_is_inside_does_not_leave_in_the_right_shape_either() {
        check(
            Dialect::Auto,
            400,
            r#"{"error":{"message":"cannot read /models/x/adapter at 10.0.0.7:8000","type":"x","param":null,"code":"bad"}}"#,
            Some((
                400,
                r#"{"error":{"message":"cannot read […] at […]","type":"invalid_request_error","param":null,"code":"bad"}}"#,
            )),
        );
    }

    #[test]
    fn every_fault_of_the_table_is_told() {
        for dialect in Dialect::ALL {
            for marked in dialect.differences().faults.iter().filter(|one| one.status < 500) {
                let told = wrong(dialect, marked.status, marked.body.as_bytes());
                let body = told.map_or_else(|| marked.body.as_bytes().to_vec(), |told| told.body());
                assert!(is_told(&body), "{}", marked.body);
            }
        }
    }
}
