//! `pilotage status`: what a running `pilotage up` says about itself.

use anyhow::{Context as _, bail};
use bytes::Bytes;
use http::{Request, header};
use http_body_util::BodyExt as _;
use pilotage_shell::client::Client;
use serde_json::Value;

use crate::args::Status;
use crate::exit::Wrong;
use crate::installation::Installation;
use crate::output::{self, Format, list, text};

/// Prints the status.
pub(crate) async fn run(args: Status) -> anyhow::Result<()> {
    let installation = Installation::at(args.data_dir)?;
    let state = installation.state()?;
    let key = installation.existing_key("admin.key")?.context("the admin key is gone")?;
    let request = Request::get(format!("{}/status", state.admin_url))
        .header(header::AUTHORIZATION, format!("Bearer {}", key.expose()))
        .body(Bytes::new())?;
    let response = Client::new()?.request(request).await.map_err(|error| {
        Wrong::new(format!("cannot reach {}: {error}", state.admin_url))
            .hint("it may have been killed; start it again with `pilotage up`")
    })?;
    if !response.status().is_success() {
        bail!("{} answered {}", state.admin_url, response.status());
    }
    let status: Value = serde_json::from_slice(&response.into_body().collect().await?.to_bytes())?;
    match args.output {
        Format::Json => output::json(&status)?,
        Format::Table => {
            output::line(&format!("gateway  {}", state.url));
            output::line(&format!("admin    {}", state.admin_url));
            for line in config(&status["config"]) {
                output::line(&line);
            }
            output::line("");
            output::table(
                &["MODEL", "REPLICA", "STATE", "IN FLIGHT", "QUEUED", "URL"],
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
            let state = if replica["up"] == true { "up" } else { "down" };
            rows.push(vec![
                text(&lane["name"]),
                text(&replica["name"]),
                state.to_owned(),
                text(&replica["in_flight"]),
                text(&lane["queue"]["requests"]),
                text(&replica["url"]),
            ]);
        }
    }
    rows
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
