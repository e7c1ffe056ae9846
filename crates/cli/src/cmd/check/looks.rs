//! What `pilotage check` looks at, each in what a gateway tells about itself.

use serde_json::Value;

use super::{Finding, answers};
use crate::cmd::why::ms;
use crate::output::{list, text};

/// A replica that said nothing about itself for so long is not heard, in milliseconds.
const SILENT_MS: f64 = 30_000.0;

/// Requests that wait for each place: beyond, the line is long.
const LINE_LONG: f64 = 4.0;

/// A budget of which this part is spent will not last.
const BUDGET_LOW: f64 = 0.9;

/// What was told.
pub(super) struct Look<'a> {
    pub(super) status: &'a Value,
    /// What has addresses of its own.
    pub(super) more: &'a Value,
    /// Milliseconds since 1970.
    pub(super) now_ms: u64,
}

impl Look<'_> {
    /// All looks.
    pub(super) fn all(&self) -> Vec<Finding> {
        let mut findings = vec![self.ready(), self.version()];
        findings.extend(self.config());
        for lane in list(&self.status["lanes"]) {
            findings.push(replicas(lane));
            findings.extend(answers::of_model(&text(&lane["name"]), &self.records()));
            findings.extend(silent(lane));
            findings.push(line(lane));
        }
        findings.extend(list(&self.status["routes"]).iter().filter_map(canary));
        findings.extend(answers::of_tenants(&self.records()));
        findings.extend(self.budgets());
        findings.extend(self.ledger());
        findings.extend(self.traces());
        findings.extend(self.triage());
        findings
    }

    /// Requests that ended of late.
    fn records(&self) -> Vec<&Value> {
        let since = self.now_ms.saturating_sub(answers::LATE_MS);
        let is_late = |one: &&Value| one["unix_ms"].as_u64().is_some_and(|at| at >= since);
        list(&self.more["records"]["records"]).iter().filter(is_late).collect()
    }

    fn ready(&self) -> Finding {
        let question = "it is ready";
        match self.status["ready"] == true {
            true => Finding::well(question, "yes"),
            false => Finding::wrong(
                question,
                "a model has no replica that takes work, or what to serve is not known yet",
                "`pilotage status` shows which; an engine's own log says why it does not start",
            ),
        }
    }

    fn version(&self) -> Finding {
        let (question, own) = ("it has this program's version", env!("CARGO_PKG_VERSION"));
        let running = text(&self.status["version"]);
        if running == own {
            return Finding::well(question, running);
        }
        let answer = format!("it is {running}, this is {own}");
        Finding::warning(
            question,
            answer,
            "start the gateway again to run the version that is installed",
        )
    }

    fn config(&self) -> Option<Finding> {
        let config = &self.status["config"];
        let question = "what it read last is in force";
        config.as_object()?;
        Some(match config["error"].as_str() {
            None => Finding::well(question, format!("since {}", text(&config["loadedAt"]))),
            Some(error) => Finding::wrong(
                question,
                error,
                "put the manifest right; what was loaded before goes on",
            ),
        })
    }

    fn budgets(&self) -> Vec<Finding> {
        let spent = |budget: &&Value| {
            let (limit, spent) = (number(&budget["limit"]), number(&budget["spent"]));
            limit
                .zip(spent)
                .is_some_and(|(limit, spent)| limit > 0.0 && spent >= limit * BUDGET_LOW)
        };
        let finding = |budget: &Value| {
            let question = format!("the budget of {} lasts", text(&budget["tenant"]));
            let answer =
                format!("{} of {} are spent", text(&budget["spent"]), text(&budget["limit"]));
            Finding::warning(
                &question,
                answer,
                "raise it in the Tenant, or its requests end with 402",
            )
        };
        list(&self.more["budgets"]).iter().filter(spent).map(finding).collect()
    }

    fn ledger(&self) -> Option<Finding> {
        let ledger = &self.more["ledger"];
        let kind = ledger["kind"].as_str()?;
        let question = "usage is booked";
        let count = |name: &str| ledger[name].as_u64().unwrap_or(0);
        let hint = "see whether its database answers and its disk has room; nothing billed is lost meanwhile";
        if count("lost_rows") > 0 {
            let answer = format!("{} rows are lost", count("lost_rows"));
            return Some(Finding::wrong(question, answer, hint));
        }
        let condition = ledger["condition"].as_str().unwrap_or("ok");
        if condition != "ok" {
            let error = ledger["last_error"].as_str().unwrap_or(condition);
            let answer = format!("{error}; {} rows wait", count("behind_rows"));
            return Some(Finding::wrong(question, answer, hint));
        }
        if count("refused_rows") > 0 {
            let answer = format!("its database refused {} rows", count("refused_rows"));
            return Some(Finding::warning(
                question,
                answer,
                "they are in refused.jsonl beside the journal",
            ));
        }
        if count("folded_rows") > 0 {
            let answer = format!("{} rows are kept as sums only", count("folded_rows"));
            return Some(Finding::warning(question, answer, hint));
        }
        Some(Finding::well(question, format!("in {kind}, {} rows wait", count("behind_rows"))))
    }

    fn traces(&self) -> Option<Finding> {
        let traces = &self.status["traces"];
        let endpoint = traces["endpoint"].as_str()?;
        let question = "traces are taken";
        Some(match traces["last_error"].as_str() {
            None => Finding::well(question, format!("by {endpoint}")),
            Some(error) => Finding::warning(
                question,
                format!("{endpoint}: {error}"),
                "requests are not held up; see whether the collector runs",
            ),
        })
    }

    fn triage(&self) -> Vec<Finding> {
        let question = "what triage finds";
        let finding = |found: &Value| {
            let hint = "`pilotage triage --url …` says what it rests on, and what to change";
            let title = text(&found["title"]);
            let answer = match found["model"].as_str() {
                Some(model) => format!("{model}: {title}"),
                None => title,
            };
            Finding::warning(question, answer, hint)
        };
        // What is less likely so than not is for whoever asks triage itself.
        let is_likely =
            |found: &&Value| found["confidence"].as_f64().is_none_or(|sure| sure >= 0.5);
        let findings = list(&self.more["triage"]["findings"]).iter().filter(is_likely);
        let mut all: Vec<Finding> = findings.map(finding).collect();
        if all.is_empty() && self.more["triage"].is_object() {
            all.push(Finding::well(question, "nothing"));
        }
        all
    }
}

/// Whether a model's replicas take work.
fn replicas(lane: &Value) -> Finding {
    let question = format!("{} has replicas that take work", text(&lane["name"]));
    let all = list(&lane["replicas"]);
    let down: Vec<String> = all
        .iter()
        .filter(|replica| !takes_work(replica))
        .map(|replica| {
            let health = replica["health"].as_str().filter(|_| replica["up"] == true);
            let why = health.or_else(|| replica["last_error"]["kind"].as_str());
            let why = why.map(|why| format!(" ({why})")).unwrap_or_default();
            format!("{}{why}", text(&replica["name"]))
        })
        .collect();
    let up = all.len() - down.len();
    match (up, down.len()) {
        (0, 0) => Finding::warning(
            &question,
            "it has none",
            "a model that sleeps starts with its first request; else see `pilotage status`",
        ),
        (0, _) => Finding::wrong(
            &question,
            format!("none of {}: {}", all.len(), down.join(", ")),
            "the engines' own logs say why",
        ),
        (_, 0) => Finding::well(&question, format!("{up} of {}", all.len())),
        _ => Finding::warning(
            &question,
            format!("{up} of {}; not {}", all.len(), down.join(", ")),
            "the engines' own logs say why",
        ),
    }
}

/// Whether a replica takes work, and is not only asked because no other is left.
fn takes_work(replica: &Value) -> bool {
    let health = replica["health"].as_str().unwrap_or_default();
    let ends = ["ejected", "counts although", "down"];
    replica["up"] == true && !ends.iter().any(|end| health.starts_with(end))
}

/// Whether replicas are heard.
fn silent(lane: &Value) -> Option<Finding> {
    let is_silent = |replica: &&Value| {
        takes_work(replica) && replica["report_age_ms"].as_f64().is_some_and(|age| age > SILENT_MS)
    };
    let silent: Vec<String> = list(&lane["replicas"])
        .iter()
        .filter(is_silent)
        .map(|one| {
            format!(
                "{} for {}",
                text(&one["name"]),
                ms(one["report_age_ms"].as_f64().unwrap_or(0.0))
            )
        })
        .collect();
    if silent.is_empty() {
        return None;
    }
    let question = format!("replicas of {} tell about themselves", text(&lane["name"]));
    let answer = format!("not {}", silent.join(", "));
    Some(Finding::warning(
        &question,
        answer,
        "requests are placed by what the gateway knows itself meanwhile; see whether the metrics path answers",
    ))
}

/// Whether what waits is in proportion to what there is.
fn line(lane: &Value) -> Finding {
    let question = format!("the line of {} is short", text(&lane["name"]));
    let waiting = lane["queue"]["requests"].as_f64().unwrap_or(0.0);
    let places: f64 = list(&lane["replicas"])
        .iter()
        .filter(|replica| replica["up"] == true)
        .filter_map(|replica| replica["places"].as_f64())
        .sum();
    let answer = format!("{waiting} wait for {places} places");
    match waiting > 0.0 && waiting > places * LINE_LONG {
        false => Finding::well(&question, answer),
        true => Finding::warning(
            &question,
            answer,
            "`pilotage triage` says what binds; `pilotage top` who waits",
        ),
    }
}

/// How a canary stands.
fn canary(route: &Value) -> Option<Finding> {
    let canary = &route["canary"];
    let verdict = canary["verdict"].as_str()?;
    let question = format!("the canary of {} does well", text(&route["name"]));
    let answer = format!("{verdict}, at {} %: {}", text(&canary["percent"]), text(&canary["why"]));
    let is_worse = ["rollback", "hold"].contains(&verdict);
    Some(match is_worse {
        true => Finding::warning(
            &question,
            answer,
            "requests go to the version before; see what differs in the console's routes",
        ),
        false => Finding::well(&question, answer),
    })
}

/// A number, also where it is told as text.
fn number(value: &Value) -> Option<f64> {
    value.as_f64().or_else(|| value.as_str()?.parse().ok())
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::super::Grade;
    use super::*;

    const NOW_MS: u64 = 1_800_000_000_000;

    fn status() -> Value {
        json!({
            "version": env!("CARGO_PKG_VERSION"), "ready": true,
            "config": {"generation": 1, "loadedAt": "2026-11-21T00:00:00Z", "error": null},
            "lanes": [{"name": "m", "queue": {"requests": 0}, "tenants": [],
                "replicas": [{"name": "m-0", "up": true, "places": 4, "report_age_ms": 100, "last_error": null}]}],
            "routes": [{"name": "r", "canary": null}],
        })
    }

    fn worst(status: &Value, more: &Value) -> (Grade, String) {
        let findings = Look { status, more, now_ms: NOW_MS }.all();
        let worst = findings.iter().max_by_key(|finding| finding.grade as u8).unwrap();
        (worst.grade, format!("{}: {}", worst.question, worst.answer))
    }

    #[test]
    fn what_is_well_is_told_as_well() {
        assert_eq!(worst(&status(), &json!({})).0, Grade::Well);
    }

    #[test]
    fn each_trouble_is_told_as_what_it_is() {
        let check = |change: &dyn Fn(&mut Value, &mut Value), grade: Grade, part: &str| {
            let (mut status, mut more) = (status(), json!({}));
            change(&mut status, &mut more);
            let (worst, told) = worst(&status, &more);
            assert_eq!(worst, grade, "{told}");
            assert!(told.contains(part), "{told}");
        };
        check(&|status, _| status["ready"] = json!(false), Grade::Wrong, "ready");
        check(&|status, _| status["version"] = json!("0.0.1"), Grade::Warning, "0.0.1");
        check(&|status, _| status["config"]["error"] = json!("line 3"), Grade::Wrong, "line 3");
        let down = |status: &mut Value, _: &mut Value| {
            status["lanes"][0]["replicas"][0]["up"] = json!(false);
            status["lanes"][0]["replicas"][0]["last_error"] =
                json!({"kind": "connect", "ago_ms": 1});
        };
        check(&down, Grade::Wrong, "m-0 (connect)");
        let panics = |status: &mut Value, _: &mut Value| {
            status["lanes"][0]["replicas"][0]["health"] =
                json!("counts although: 5 of 5 health checks failed; too few others are left");
        };
        check(&panics, Grade::Wrong, "m-0 (counts although: 5 of 5");
        let failing = |_: &mut Value, more: &mut Value| {
            let one = |ago: u64| json!({"lane": "m", "termination": "upstream_error", "unix_ms": NOW_MS - ago});
            more["records"] =
                json!({"records": (0..9).map(|at| one(at * 1000)).collect::<Vec<_>>()});
        };
        check(
            &failing,
            Grade::Wrong,
            "0 of 9 in the last minute; the others ended with upstream_error (9)",
        );
        let failed = |_: &mut Value, more: &mut Value| {
            let one =
                json!({"lane": "m", "termination": "upstream_error", "unix_ms": NOW_MS - 70_000});
            more["records"] = json!({"records": vec![one; 9]});
        };
        check(&failed, Grade::Well, "");
        check(&|status, _| status["lanes"][0]["replicas"] = json!([]), Grade::Warning, "none");
        let silent = |status: &mut Value, _: &mut Value| {
            status["lanes"][0]["replicas"][0]["report_age_ms"] = json!(60_000);
        };
        check(&silent, Grade::Warning, "m-0 for 60.0 s");
        let long = |status: &mut Value, _: &mut Value| {
            status["lanes"][0]["queue"]["requests"] = json!(17);
        };
        check(&long, Grade::Warning, "17 wait for 4 places");
        let lost = |_: &mut Value, more: &mut Value| {
            more["ledger"] = json!({"kind": "sqlite", "lost_rows": 2, "behind_rows": 0});
        };
        check(&lost, Grade::Wrong, "2 rows are lost");
        let away = |_: &mut Value, more: &mut Value| {
            more["ledger"] = json!({"kind": "postgres", "condition": "store_away", "lost_rows": 0, "last_error": "no route", "behind_rows": 9});
        };
        check(&away, Grade::Wrong, "no route; 9 rows wait");
        let mute = |status: &mut Value, _: &mut Value| {
            status["traces"] = json!({"endpoint": "http://c:4317", "last_error": "refused"});
        };
        check(&mute, Grade::Warning, "refused");
        let found = |_: &mut Value, more: &mut Value| {
            more["triage"] = json!({"findings": [{"title": "the batch is full"}]});
        };
        check(&found, Grade::Warning, "the batch is full");
        let unlikely = |_: &mut Value, more: &mut Value| {
            more["triage"] =
                json!({"findings": [{"title": "the batch is full", "confidence": 0.4}]});
        };
        check(&unlikely, Grade::Well, "");
    }
}
