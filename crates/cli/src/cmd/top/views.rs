//! The pages of `pilotage top`: lines of text from what the gateway tells.

use serde_json::Value;

use crate::cmd::why::ms;
use crate::output::{self, list, text};

/// What is shown.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(super) enum View {
    Models,
    Tenants,
    Replicas,
    Requests,
}

impl View {
    pub(super) const ALL: [Self; 4] = [Self::Models, Self::Tenants, Self::Replicas, Self::Requests];

    const fn title(self) -> &'static str {
        match self {
            Self::Models => "1 models",
            Self::Tenants => "2 tenants",
            Self::Replicas => "3 replicas",
            Self::Requests => "4 requests",
        }
    }

    pub(super) fn next(self) -> Self {
        let at = Self::ALL.iter().position(|view| *view == self).unwrap_or(0);
        Self::ALL[(at + 1) % Self::ALL.len()]
    }
}

/// At most so many lines of a page.
pub(super) fn page(view: View, seen: &Value, most: usize) -> Vec<String> {
    let mut lines = vec![summary(seen), tabs(view), String::new()];
    let (head, rows): (&[&str], Vec<Vec<String>>) = match view {
        View::Models => (
            &[
                "MODEL",
                "UP",
                "REPLICAS",
                "IN FLIGHT",
                "QUEUED",
                "REQ/S",
                "TOK/S",
                "ERRORS",
                "TTFT P50",
                "TTFT P99",
            ],
            list(&seen["status"]["lanes"]).iter().map(|lane| model(lane, seen)).collect(),
        ),
        View::Tenants => (
            &["MODEL", "TENANT", "USES", "ENTITLED", "", "QUEUED", "KV TOKENS", "STANDS"],
            list(&seen["status"]["lanes"]).iter().flat_map(tenants).collect(),
        ),
        View::Replicas => (
            &[
                "MODEL",
                "REPLICA",
                "STATE",
                "IN FLIGHT",
                "PLACES",
                "KV TOKENS",
                "HEARD",
                "LAST ERROR",
            ],
            list(&seen["status"]["lanes"]).iter().flat_map(replicas).collect(),
        ),
        View::Requests => (
            &["AGE", "PHASE", "ID", "TENANT", "MODEL", "REPLICA", "BAND", "TOKENS"],
            list(&seen["live"]["requests"]).iter().map(request).collect(),
        ),
    };
    let room = most.saturating_sub(lines.len() + 1);
    let left = rows.len().saturating_sub(room);
    let shown: Vec<Vec<String>> = rows.into_iter().take(room).collect();
    lines.extend(output::aligned(head, &shown));
    if shown.is_empty() {
        lines.push(nothing(view).to_owned());
    }
    if left > 0 {
        lines.push(format!("… and {left} more"));
    }
    lines
}

const fn nothing(view: View) -> &'static str {
    match view {
        View::Models => "no model is served: `pilotage up` serves the built-in one",
        View::Tenants => "nobody waits, runs or was served yet",
        View::Replicas => "no replica is known",
        View::Requests => "no request is under way",
    }
}

fn summary(seen: &Value) -> String {
    let lanes = list(&seen["status"]["lanes"]);
    let sum = |of: &dyn Fn(&Value) -> f64| lanes.iter().map(of).sum::<f64>();
    let queued = sum(&|lane| lane["queue"]["requests"].as_f64().unwrap_or(0.0));
    let rates = |row: &str| sum(&|lane| rate(seen, &text(&lane["name"]), row));
    format!(
        "{}  {} under way, {queued} waiting  {:.1} requests/s  {:.0} tokens/s",
        text(&seen["url"]),
        text(&seen["live"]["total"]),
        rates("requests"),
        rates("output_tokens"),
    )
}

fn tabs(view: View) -> String {
    let tab = |one: View| match one == view {
        true => format!("[{}]", one.title()),
        false => format!(" {} ", one.title()),
    };
    View::ALL.map(tab).join(" ")
}

/// What there was of a row of the history in each second. The last step is not over, and does not count.
fn rate(seen: &Value, lane: &str, row: &str) -> f64 {
    let history = &seen["history"];
    let steps = list(&history["lanes"][lane][row]);
    let over = &steps[..steps.len().saturating_sub(1)];
    let step = history["step_s"].as_f64().unwrap_or(1.0);
    let sum: f64 = over.iter().filter_map(Value::as_f64).sum();
    sum / (step * over.len().max(1) as f64)
}

/// The last value that was seen of a row.
fn last(seen: &Value, lane: &str, row: &str) -> String {
    let steps = list(&seen["history"]["lanes"][lane][row]);
    let last = steps.iter().rev().find_map(Value::as_f64);
    last.map_or_else(|| "-".to_owned(), ms)
}

fn model(lane: &Value, seen: &Value) -> Vec<String> {
    let name = text(&lane["name"]);
    let replicas = list(&lane["replicas"]);
    let up = replicas.iter().filter(|replica| replica["up"] == true).count();
    let in_flight: u64 = replicas.iter().filter_map(|replica| replica["in_flight"].as_u64()).sum();
    vec![
        name.clone(),
        up.to_string(),
        replicas.len().to_string(),
        in_flight.to_string(),
        text(&lane["queue"]["requests"]),
        format!("{:.1}", rate(seen, &name, "requests")),
        format!("{:.0}", rate(seen, &name, "output_tokens")),
        format!("{:.1}", rate(seen, &name, "errors")),
        last(seen, &name, "ttft_p50_ms"),
        last(seen, &name, "ttft_p99_ms"),
    ]
}

fn tenants(lane: &Value) -> Vec<Vec<String>> {
    let busy =
        |tenant: &&Value| ["queued", "usage", "service"].iter().any(|name| tenant[*name] != 0);
    let mut all: Vec<&Value> = list(&lane["tenants"]).iter().filter(busy).collect();
    let used = |tenant: &Value| tenant["used_share"].as_f64().unwrap_or(0.0);
    all.sort_by(|one, other| used(other).total_cmp(&used(one)));
    let waits = all.iter().any(|tenant| tenant["queued"].as_u64().unwrap_or(0) > 0);
    let row = |tenant: &&Value| {
        let (used, entitled) = (used(tenant), tenant["entitled_share"].as_f64().unwrap_or(0.0));
        vec![
            text(&lane["name"]),
            text(&tenant["name"]),
            percent(used),
            percent(entitled),
            bar(used, entitled),
            text(&tenant["queued"]),
            text(&tenant["usage"]),
            stands(used, entitled, waits).to_owned(),
        ]
    };
    all.iter().map(row).collect()
}

/// How a tenant stands to what it is entitled to.
fn stands(used: f64, entitled: f64, others_wait: bool) -> &'static str {
    match (used > entitled * 1.1, others_wait) {
        (true, true) => "over its share while others wait",
        (true, false) => "borrows what others leave",
        (false, _) if used > 0.0 => "within its share",
        (false, _) => "",
    }
}

fn percent(part: f64) -> String {
    format!("{:.0} %", part * 100.0)
}

/// A bar of what is used, with a mark where the entitlement ends.
fn bar(used: f64, entitled: f64) -> String {
    const WIDTH: usize = 20;
    let at = |part: f64| ((part.clamp(0.0, 1.0) * WIDTH as f64).round() as usize).min(WIDTH);
    let mark = at(entitled).min(WIDTH - 1);
    let cell = |column: usize| match (column < at(used), column == mark) {
        (_, true) => '|',
        (true, false) => '#',
        (false, false) => '.',
    };
    (0..WIDTH).map(cell).collect()
}

fn replicas(lane: &Value) -> Vec<Vec<String>> {
    let row = |replica: &Value| {
        let state = match (replica["up"] == true, replica["health"].as_str()) {
            (true, Some(health)) => health.to_owned(),
            (true, None) => "up".to_owned(),
            (false, _) => "down".to_owned(),
        };
        let age = replica["report_age_ms"].as_f64().map_or_else(|| "-".to_owned(), ms);
        let error = &replica["last_error"];
        let error = match error["ago_ms"].as_f64() {
            Some(ago) => format!("{}, {} ago", text(&error["kind"]), ms(ago)),
            None => "-".to_owned(),
        };
        vec![
            text(&lane["name"]),
            text(&replica["name"]),
            state,
            text(&replica["in_flight"]),
            text(&replica["places"]),
            text(&replica["tokens_in_flight"]),
            age,
            error,
        ]
    };
    list(&lane["replicas"]).iter().map(row).collect()
}

fn request(live: &Value) -> Vec<String> {
    let name = |field: &str| live[field].as_str().unwrap_or("-").to_owned();
    vec![
        live["age_ms"].as_f64().map_or_else(|| "-".to_owned(), ms),
        name("phase"),
        name("request_id"),
        name("tenant_path"),
        name("lane"),
        name("replica"),
        name("band"),
        text(&live["output"]),
    ]
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn seen() -> Value {
        json!({
            "url": "http://gateway",
            "status": {"lanes": [{
                "name": "m",
                "queue": {"requests": 3},
                "replicas": [{"name": "m-0", "up": true, "in_flight": 2, "places": 4, "tokens_in_flight": 70,
                    "health": null, "report_age_ms": 120, "last_error": {"kind": "timeout", "ago_ms": 1500}}],
                "tenants": [
                    {"name": "small", "queued": 3, "usage": 10, "service": 1, "used_share": 0.1, "entitled_share": 0.5},
                    {"name": "large", "queued": 0, "usage": 90, "service": 1, "used_share": 0.9, "entitled_share": 0.5},
                    {"name": "idle", "queued": 0, "usage": 0, "service": 0, "used_share": 0.0, "entitled_share": 0.1},
                ],
            }]},
            "live": {"total": 1, "requests": [{"request_id": "r", "age_ms": 12.0, "phase": "queue", "output": 0}]},
            "history": {"step_s": 5, "lanes": {"m": {"requests": [10, 20, 1], "output_tokens": [null, 100, 0],
                "ttft_p50_ms": [null, 250.0, null]}}},
        })
    }

    #[test]
    fn who_is_over_its_share_comes_first_and_is_told_so() {
        let page = page(View::Tenants, &seen(), usize::MAX).join("\n");
        let large = page.lines().find(|line| line.contains("large")).unwrap();
        assert!(
            large.contains("90 %") && large.contains("over its share while others wait"),
            "{page}"
        );
        assert!(
            page.find("large").unwrap() < page.find("small").unwrap() && !page.contains("idle"),
            "{page}"
        );
    }

    #[test]
    fn rates_are_over_steps_that_are_over() {
        let page = page(View::Models, &seen(), usize::MAX).join("\n");
        assert!(page.contains("3.0 requests/s  10 tokens/s"), "{page}");
        assert!(page.contains("250 ms"), "{page}");
    }

    #[test]
    fn every_page_has_rows_and_what_does_not_fit_is_counted() {
        for view in View::ALL {
            let lines = page(view, &seen(), usize::MAX);
            assert!(lines.len() > 4, "{lines:?}");
        }
        assert_eq!(page(View::Tenants, &seen(), 5).last().unwrap(), "… and 1 more");
        let empty = page(View::Requests, &json!({}), usize::MAX).join("\n");
        assert!(empty.contains("no request is under way"), "{empty}");
    }
}
