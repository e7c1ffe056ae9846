//! `pilotage status`: what a running `pilotage up` says about itself.

use serde_json::Value;

use super::why::ms;
use crate::admin::Admin;
use crate::args::Status;
use crate::installation::Installation;
use crate::output::{self, Format, list, text};

/// Prints the status.
pub(crate) async fn run(args: Status) -> anyhow::Result<()> {
    let admin = Admin::new(&args.reach)?;
    let status = admin.get("/status").await?;
    match args.output {
        Format::Json => output::json(&status)?,
        Format::Table => {
            if args.reach.url.is_none() {
                let state = Installation::at(args.reach.data_dir)?.state()?;
                output::line(&format!("gateway  {}", state.url));
            }
            output::line(&format!("admin    {}", admin.url()));
            for line in config(&status["config"]) {
                output::line(&line);
            }
            output::line("");
            output::table(
                &["MODEL", "REPLICA", "STATE", "IN FLIGHT", "QUEUED", "LAST ERROR", "URL"],
                &rows(&status),
            );
            let scaling = scaling(&status);
            if !scaling.is_empty() {
                output::line("");
                output::table(&["MODEL", "WANTED", "NOW", "FOR", "WHY"], &scaling);
            }
            let tenants = tenants(&status);
            if !tenants.is_empty() {
                output::line("");
                output::table(
                    &["MODEL", "TENANT", "WAITING", "KV TOKENS", "GUARANTEED", "SERVICE"],
                    &tenants,
                );
            }
        }
    }
    Ok(())
}

/// What is loaded, and what is wrong with what was read since.
fn config(config: &Value) -> Vec<String> {
    if config.is_null() {
        return Vec::new();
    }
    let (generation, at) = (text(&config["generation"]), text(&config["loadedAt"]));
    let loaded = format!("config   generation {generation}, loaded {at}");
    let refused = config["error"].as_str();
    let refused = refused.map(|error| format!("         not taken over: {error}"));
    std::iter::once(loaded).chain(refused).collect()
}

fn rows(status: &Value) -> Vec<Vec<String>> {
    let mut rows = Vec::new();
    for lane in list(&status["lanes"]) {
        for replica in list(&lane["replicas"]) {
            let error = &replica["last_error"];
            let ago = error["ago_ms"].as_f64().map(ms).unwrap_or_default();
            let error = error["kind"].as_str().map(|kind| format!("{kind} {ago} ago"));
            rows.push(vec![
                text(&lane["name"]),
                text(&replica["name"]),
                state(replica),
                text(&replica["in_flight"]),
                text(&lane["queue"]["requests"]),
                error.unwrap_or_else(|| "-".to_owned()),
                text(&replica["url"]),
            ]);
        }
    }
    rows
}

/// Whether a replica gets work, and why not.
fn state(replica: &Value) -> String {
    match (replica["up"] == true, replica["health"].as_str()) {
        (false, _) => "down".to_owned(),
        (true, None | Some("healthy")) => "up".to_owned(),
        (true, Some(health)) => health.to_owned(),
    }
}

/// How many copies models are to have by their load, and why.
fn scaling(status: &Value) -> Vec<Vec<String>> {
    let models = status["scaling"].as_object().into_iter().flatten();
    let row = |(name, one): (&String, &Value)| {
        let asleep = one["asleep"].as_u64().filter(|asleep| *asleep > 0);
        let asleep = asleep.map(|asleep| format!(" and {asleep} asleep")).unwrap_or_default();
        let since = one["forMs"].as_u64().unwrap_or(0) / 1000;
        vec![
            name.clone(),
            format!("{}{asleep}", text(&one["awake"])),
            text(&one["now"]),
            format!("{since} s"),
            text(&one["why"]),
        ]
    };
    models.map(row).collect()
}

/// Tenants that wait, run or were served, by lane.
fn tenants(status: &Value) -> Vec<Vec<String>> {
    let mut rows = Vec::new();
    for lane in list(&status["lanes"]) {
        let busy =
            |tenant: &&Value| ["queued", "usage", "service"].iter().any(|name| tenant[*name] != 0);
        for tenant in list(&lane["tenants"]).iter().filter(busy) {
            let columns = ["name", "queued", "usage", "guaranteed", "service"];
            let row = columns.iter().map(|name| text(&tenant[*name]));
            rows.push(std::iter::once(text(&lane["name"])).chain(row).collect());
        }
    }
    rows
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn replicas_are_shown_as_they_stand() {
        let check = |up: bool, health: Value, expect: &str| {
            assert_eq!(state(&json!({"up": up, "health": health})), expect);
        };
        check(true, json!("healthy"), "up");
        check(true, Value::Null, "up");
        check(
            true,
            json!("ejected: 5 of 5 health checks failed"),
            "ejected: 5 of 5 health checks failed",
        );
        check(false, json!("healthy"), "down");
        let one = json!({"name": "m-0", "up": true, "in_flight": 1, "url": "http://a",
            "last_error": {"kind": "connect", "ago_ms": 1500}});
        let rows =
            rows(&json!({"lanes": [{"name": "m", "queue": {"requests": 2}, "replicas": [one]}]}));
        assert_eq!(rows, [["m", "m-0", "up", "1", "2", "connect 1.5 s ago", "http://a"]]);
    }

    #[test]
    fn copies_are_shown_with_why() {
        let one = json!({"awake": 0, "asleep": 1, "now": 1, "why": "nobody asks", "forMs": 2500});
        let rows = scaling(&json!({"scaling": {"tiny": one}}));
        assert_eq!(rows, [["tiny", "0 and 1 asleep", "1", "2 s", "nobody asks"]]);
        assert!(scaling(&json!({})).is_empty());
    }

    #[test]
    fn a_mistake_is_shown_beside_what_holds() {
        let check = |value: Value, expect: &[&str]| assert_eq!(config(&value), expect);
        let loaded = "config   generation 2, loaded 2027-01-31T12:00:00Z";
        let at = "2027-01-31T12:00:00Z";
        check(Value::Null, &[]);
        check(json!({"generation": 2, "loadedAt": at, "error": null}), &[loaded]);
        check(
            json!({"generation": 2, "loadedAt": at, "error": "a.yaml:3: no"}),
            &[loaded, "         not taken over: a.yaml:3: no"],
        );
    }
}
