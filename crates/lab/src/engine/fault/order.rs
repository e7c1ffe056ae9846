//! What `POST /scripted/fault` says: which faults an engine has from now on, and when they strike.

use serde::Deserialize;
use thiserror::Error;

use super::{Rule, When, find};

/// Why an order is not carried out.
#[derive(Debug, Error)]
pub enum OrderError {
    /// It is not what an order looks like.
    #[error(
        "an order looks like {{\"fault\": \"crash-mid-stream\", \"when\": {{\"first\": 3}}}}: {0}"
    )]
    Json(#[from] serde_json::Error),
    /// There is no such fault.
    #[error("there is no fault {0:?}; `none` is what ends all")]
    Unknown(String),
}

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
struct Order {
    fault: String,
    #[serde(default)]
    when: When,
}

#[derive(Debug, Deserialize)]
#[serde(untagged)]
enum Orders {
    One(Order),
    Many(Vec<Order>),
}

/// The rules of an order, or of a list of them.
pub(in crate::engine) fn read(body: &[u8]) -> Result<Vec<Rule>, OrderError> {
    let orders = match serde_json::from_slice(body)? {
        Orders::One(order) => vec![order],
        Orders::Many(orders) => orders,
    };
    let wanted = orders.into_iter().filter(|order| order.fault != "none");
    wanted.map(|Order { fault, when }| rule(&fault, when)).collect()
}

/// The rule of a fault by its name or id.
///
/// # Errors
/// There is no such fault.
pub fn rule(name: &str, when: When) -> Result<Rule, OrderError> {
    let fault = find(name).ok_or_else(|| OrderError::Unknown(name.to_owned()))?;
    Ok(Rule { fault, when })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn reads_orders() {
        let check = |body: &str, expect: &[(&str, When)]| {
            let rules = read(body.as_bytes()).unwrap();
            let said: Vec<_> = rules.iter().map(|rule| (rule.fault.name, rule.when)).collect();
            assert_eq!(said, expect, "{body}");
        };
        check(r#"{"fault":"none"}"#, &[]);
        check(r#"{"fault":"F02"}"#, &[("crash-before-first-token", When::Always)]);
        check(
            r#"[{"fault":"busy","when":{"nth":2}},{"fault":"late","when":"always"}]"#,
            &[("busy", When::Nth(2)), ("late", When::Always)],
        );
        check(
            r#"{"fault":"busy","when":{"chance":{"probability":0.5,"seed":1}}}"#,
            &[("busy", When::Chance { probability: 0.5, seed: 1 })],
        );
        for wrong in ["{}", r#"{"fault":"F99"}"#, r#"{"fault":"busy","wen":1}"#, "x"] {
            assert!(read(wrong.as_bytes()).is_err(), "{wrong}");
        }
    }
}
