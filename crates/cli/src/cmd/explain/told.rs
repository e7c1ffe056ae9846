//! What a gateway tells about a request, laid out for people: the Route's choice, then for each lane
//! what it decides, replica by replica.

use serde_json::Value;

use crate::output::{self, list, text};

/// The parts of a cost, as they are told, and the columns that show them.
const PARTS: [(&str, &str); 8] = [
    ("total", "TOTAL"),
    ("queue", "QUEUE"),
    ("prefill", "PREFILL"),
    ("decode", "DECODE"),
    ("burden", "BURDEN"),
    ("memory", "MEMORY"),
    ("network", "NETWORK"),
    ("adapter", "ADAPTER"),
];

/// Prints all of it.
pub(super) fn print(told: &Value) {
    request(told).iter().for_each(|line| output::line(line));
    for lane in list(&told["lanes"]) {
        output::line("");
        verdict(lane).iter().for_each(|line| output::line(line));
        if lane["replicas"].is_null() {
            continue;
        }
        let (head, rows) = table(lane);
        output::table(&head, &rows);
        output::line(&format!("other policies: {}", others(lane)));
    }
}

/// The request and its route.
fn request(told: &Value) -> Vec<String> {
    let most = match told["answer_tokens_max"].as_u64() {
        Some(most) => format!("an answer of at most {most}"),
        None => "an answer without a limit".to_owned(),
    };
    let mut lines = vec![
        format!(
            "request   {} of tenant {}, band {}: about {} prompt tokens, {most}",
            text(&told["path"]),
            text(&told["tenant"]),
            text(&told["band"]),
            told["prompt_tokens"],
        ),
        format!("route     {}", text(&told["route"]["said"])),
    ];
    for rule in list(&told["route"]["rules"]) {
        let holds = if rule["holds"] == true { "holds" } else { "does not hold" };
        lines.push(format!("rule      {} {holds}", text(&rule["name"])));
    }
    for model in list(&told["models"]) {
        let name = text(&model["name"]);
        if let Some(lacks) = model["lacks"].as_str() {
            lines.push(format!("model     {name} {lacks}"));
        } else if model["open"] == false {
            lines.push(format!("model     {name} has no replica that takes work"));
        }
    }
    let fallbacks: Vec<String> = list(&told["route"]["fallbacks"]).iter().map(text).collect();
    if !fallbacks.is_empty() {
        lines.push(format!("then      {}", fallbacks.join(", ")));
    }
    if let Some(mirror) = told["route"]["mirror"].as_str() {
        lines.push(format!("copy      to {mirror}"));
    }
    lines
}

/// What a lane decides, in words.
fn verdict(lane: &Value) -> Vec<String> {
    let name = text(&lane["name"]);
    if let Some(refusal) = lane["refusal"].as_str() {
        return vec![format!("{name}: refused: {refusal}")];
    }
    let queue = &lane["queue"];
    let waiting = queue["requests"].as_u64().unwrap_or(0);
    let held = queue["held"].as_u64().unwrap_or(0);
    let turn = if waiting == held { "now" } else { "when it is its turn" };
    let decision = &lane["decision"];
    let decided = match decision["decision"].as_str() {
        Some("go") => format!("goes to {} {turn}", text(&decision["replica"])),
        Some("wait") => format!(
            "waits at most {} ms for {}, which has more of its prompt than those with room",
            decision["most_ms"],
            text(&decision["replica"])
        ),
        Some("apart") => format!("waits: {}", text(&lane["suspicion"]["said"])),
        _ if lane["lent"] == false => "waits: what is free is kept for other tenants".to_owned(),
        _ => "waits: no replica has room for it".to_owned(),
    };
    let mut lines = vec![format!("{name}: {decided} (policy {})", text(&lane["policy"]))];
    if let Some(said) =
        lane["suspicion"]["said"].as_str().filter(|_| decision["decision"] != "apart")
    {
        lines.push(format!("guard: {said}"));
    }
    if waiting > 0 {
        let wait = queue["wait_ms"].as_f64();
        let wait = wait
            .map_or_else(|| "for how long is not known".to_owned(), |ms| format!("about {ms} ms"));
        let ahead = &queue["ahead"];
        lines.push(format!(
            "in line: {waiting} wait, {held} of them for a replica of their choice; {ahead} weighted tokens come before it, {wait}"
        ));
    }
    if queue["full"] == true {
        lines.push(
            "in line: the queue is full: it or the newest of whoever has most there is refused"
                .to_owned(),
        );
    }
    lines
}

/// One row for each replica, the best first. Parts that are nothing anywhere have no column.
fn table(lane: &Value) -> (Vec<&'static str>, Vec<Vec<String>>) {
    let mut replicas: Vec<&Value> = list(&lane["replicas"]).iter().collect();
    let total = |one: &Value| one["costs_ms"]["total"].as_f64().unwrap_or(f64::INFINITY);
    replicas.sort_by(|one, other| {
        let chosen = (other["chosen"] == true).cmp(&(one["chosen"] == true));
        chosen.then(total(one).total_cmp(&total(other)))
    });
    let matters = |part: &str| {
        replicas.iter().any(|one| one["costs_ms"][part].as_f64().is_some_and(|ms| ms > 0.0))
    };
    let parts: Vec<(&str, &'static str)> =
        PARTS.into_iter().filter(|(part, _)| *part == "total" || matters(part)).collect();
    let place = |one: &Value| {
        let parts = ["region", "zone"].map(|part| one[part].as_str());
        let parts: Vec<&str> = parts.into_iter().flatten().collect();
        (!parts.is_empty()).then(|| parts.join("/"))
    };
    let regions = replicas.iter().any(|one| place(one).is_some());
    let mut head = vec!["", "REPLICA"];
    head.extend(regions.then_some("REGION"));
    head.extend(parts.iter().map(|(_, column)| *column));
    head.extend(["CACHED", "IN FLIGHT", "WHY"]);
    let rows = replicas.iter().map(|one| {
        let mark = match (one["chosen"] == true, one["near"] == true) {
            (true, _) => "->",
            (false, true) => "~",
            _ => "",
        };
        let mut row = vec![mark.to_owned(), text(&one["name"])];
        row.extend(regions.then(|| place(one).unwrap_or_else(|| "-".to_owned())));
        row.extend(parts.iter().map(|(part, _)| {
            one["costs_ms"][*part].as_f64().map_or_else(|| "-".to_owned(), |ms| format!("{ms:.1}"))
        }));
        row.push(text(&one["cached_tokens"]));
        row.push(format!("{}/{}", one["in_flight"], one["places"]));
        row.push(reason(lane, one));
        row
    });
    let rows = rows.collect();
    (head, rows)
}

fn reason(lane: &Value, one: &Value) -> String {
    if let Some(closed) = one["closed"].as_str() {
        let chosen = if one["chosen"] == true { "worth waiting for: " } else { "" };
        return format!("{chosen}{closed}");
    }
    let said = match (one["chosen"] == true, one["near"] == true) {
        (true, true) => "as good as any",
        (true, false) if lane["policy"] == "cost" => "the cheapest with room",
        (true, false) => "the policy's choice",
        (false, true) => "as good as the best",
        (false, false) => "costs more",
    };
    said.to_owned()
}

/// What other policies would do, by what they would choose.
fn others(lane: &Value) -> String {
    let one = |other: &Value| {
        let to = match other["decision"].as_str() {
            Some("go") => text(&other["replica"]),
            Some("wait") => format!("wait for {}", text(&other["replica"])),
            _ => "wait".to_owned(),
        };
        format!("{} {to}", text(&other["policy"]))
    };
    let all: Vec<String> = list(&lane["policies"]).iter().map(one).collect();
    all.join(", ")
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn lane() -> Value {
        let costs = |total: f64, network: f64| {
            json!({
                "total": total, "queue": 0.0, "prefill": total - network, "decode": 0.0,
                "burden": 0.0, "memory": 0.0, "network": network, "adapter": 0.0,
            })
        };
        json!({
            "name": "small", "policy": "cost", "refusal": null, "lent": true,
            "queue": {"requests": 0, "held": 0, "ahead": 0, "wait_ms": 0.0, "full": false},
            "decision": {"decision": "go", "replica": "b", "why": ""},
            "replicas": [
                {"name": "a", "region": "oslo", "chosen": false, "near": false, "closed": null,
                 "costs_ms": costs(90.0, 40.0), "cached_tokens": 0, "in_flight": 1, "places": 4},
                {"name": "c", "region": null, "chosen": false, "near": false,
                 "closed": "all its places are taken", "costs_ms": null, "cached_tokens": 0,
                 "in_flight": 4, "places": 4},
                {"name": "b", "region": "paris", "zone": "a", "chosen": true, "near": true, "closed": null,
                 "costs_ms": costs(52.25, 2.0), "cached_tokens": 96, "in_flight": 0, "places": 4},
            ],
            "policies": [
                {"policy": "roundRobin", "decision": "go", "replica": "a", "why": ""},
                {"policy": "session", "decision": "full"},
            ],
        })
    }

    #[test]
    fn the_chosen_comes_first_and_columns_of_nothing_are_left_out() {
        let lane = lane();
        let (head, rows) = table(&lane);
        assert_eq!(head.join(" "), " REPLICA REGION TOTAL PREFILL NETWORK CACHED IN FLIGHT WHY");
        let rows: Vec<String> = rows.iter().map(|row| row.join("|")).collect();
        let expect = [
            "->|b|paris/a|52.2|50.2|2.0|96|0/4|as good as any",
            "|a|oslo|90.0|50.0|40.0|0|1/4|costs more",
            "|c|-|-|-|-|0|4/4|all its places are taken",
        ];
        assert_eq!(rows, expect);
        assert_eq!(others(&lane), "roundRobin a, session wait");
    }

    #[test]
    fn what_is_decided_is_said_in_words() {
        let check = |change: fn(&mut Value), expect: &[&str]| {
            let mut lane = lane();
            change(&mut lane);
            assert_eq!(verdict(&lane), expect);
        };
        check(|_| {}, &["small: goes to b now (policy cost)"]);
        check(|lane| lane["refusal"] = "shutting down".into(), &["small: refused: shutting down"]);
        check(
            |lane| {
                lane["queue"] =
                    json!({"requests": 3, "held": 1, "ahead": 812, "wait_ms": 1.5, "full": false});
            },
            &[
                "small: goes to b when it is its turn (policy cost)",
                "in line: 3 wait, 1 of them for a replica of their choice; 812 weighted tokens come before it, about 1.5 ms",
            ],
        );
        check(
            |lane| lane["decision"] = json!({"decision": "wait", "replica": "c", "most_ms": 30.0}),
            &[
                "small: waits at most 30.0 ms for c, which has more of its prompt than those with room (policy cost)",
            ],
        );
        check(
            |lane| {
                lane["lent"] = false.into();
                lane["decision"] = json!({"decision": "full"});
            },
            &["small: waits: what is free is kept for other tenants (policy cost)"],
        );
        let said = "2 replicas died under this request; it runs apart from the like";
        check(
            |lane| {
                lane["suspicion"] = json!({"ruling": "watched", "deaths": 2, "wait_ms": null,
                    "said": "2 replicas died under this request; it runs apart from the like"});
            },
            &["small: goes to b now (policy cost)", &format!("guard: {said}")],
        );
        check(
            |lane| {
                lane["suspicion"] = json!({"ruling": "trial", "deaths": 2, "wait_ms": 900.0,
                    "said": "its trial begins in 900 ms"});
                lane["decision"] = json!({"decision": "apart"});
            },
            &["small: waits: its trial begins in 900 ms (policy cost)"],
        );
    }

    #[test]
    fn a_route_says_what_each_model_lacks() {
        let told = json!({
            "path": "/v1/chat/completions", "tenant": "team", "band": "standard",
            "prompt_tokens": 12, "answer_tokens_max": null,
            "route": {"said": "route `chat`; model `a`, the only one that fits",
                      "rules": [{"name": "images", "holds": false}], "fallbacks": ["z"], "mirror": "m"},
            "models": [{"name": "a", "open": true, "lacks": null},
                       {"name": "b", "open": true, "lacks": "has no vision"},
                       {"name": "z", "open": false, "lacks": null}],
        });
        let expect = [
            "request   /v1/chat/completions of tenant team, band standard: about 12 prompt tokens, an answer without a limit",
            "route     route `chat`; model `a`, the only one that fits",
            "rule      images does not hold",
            "model     b has no vision",
            "model     z has no replica that takes work",
            "then      z",
            "copy      to m",
        ];
        assert_eq!(request(&told), expect);
    }
}
