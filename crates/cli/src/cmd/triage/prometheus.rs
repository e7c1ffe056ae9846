//! A Prometheus server as evidence.

use std::collections::BTreeMap;
use std::time::Duration;

use anyhow::bail;
use http::StatusCode;
use pilotage_lens::triage::Evidence;
use pilotage_lens::triage::observe::prometheus::{
    ANSWER_BYTES_MAX, About, Ask, alerts, observed, series,
};
use pilotage_lens::triage::observe::{Deployment, Series, deployments};
use pilotage_shell::clock::Clock;

use super::fetch::{Asking, escaped};
use crate::args::Triage;
use crate::exit::Wrong;
use crate::output;

/// The window where nothing is said.
const WINDOW: Duration = Duration::from_secs(600);

/// How long a query may take: Prometheus' own limit is two minutes.
const PATIENCE: Duration = Duration::from_secs(120);

/// Most deployments that are looked at where none is named.
const DEPLOYMENTS_MAX: usize = 16;

/// What a server knows of the window, and of the one before where that is wanted, of the model that was named or of
/// each that there is, the busiest first.
pub(super) async fn evidence(
    args: &Triage,
    url: &str,
) -> anyhow::Result<Vec<(Deployment, Evidence)>> {
    let server = server(args, url)?;
    let until_s = args.at.unwrap_or_else(|| Clock::start().unix_ms() as f64 / 1e3);
    let window_s = args.window.unwrap_or(WINDOW).as_secs_f64();
    let ask = Ask { until_s, window_s, selector: args.selector.clone() };
    let answers = all(&server, &ask).await?;
    let before = match args.before {
        Some(before) => {
            let then = Ask { until_s: until_s - before.as_secs_f64(), ..ask.clone() };
            let answers = all(&server, &then).await?;
            Some((then, answers))
        }
        None => None,
    };
    let alerts = rules(&server).await;
    let about = |about: About| answers.get(&about).map_or(&[][..], Vec::as_slice);
    let known = deployments(about(About::Engines), about(About::Gateway));
    let seen = chosen(args, known)?.into_iter().map(|of| {
        let mut now = observed(&ask, &answers, &of);
        now.alerts.clone_from(&alerts);
        now.baseline = before.as_ref().and_then(|(then, answers)| {
            let seen = observed(then, answers, &of);
            // With nobody there at that time there is nothing to compare with.
            (!seen.replicas.is_empty()).then(|| Box::new(seen))
        });
        let evidence = now.evidence();
        (of, evidence)
    });
    Ok(seen.collect())
}

fn server(args: &Triage, url: &str) -> anyhow::Result<Asking> {
    let mut server = Asking::new(url, PATIENCE)?;
    if let Some(path) = &args.key_file {
        let key = std::fs::read_to_string(path)
            .map_err(|error| Wrong::new(format!("cannot read {}: {error}", path.display())))?;
        server = server.key(&key)?;
    }
    match &args.header_file {
        Some(path) => server.headers(path),
        None => Ok(server),
    }
}

async fn all(server: &Asking, ask: &Ask) -> anyhow::Result<BTreeMap<About, Vec<Series>>> {
    let mut answers = BTreeMap::new();
    for about in About::ALL {
        let query = escaped(&about.query(ask));
        let path = format!("/api/v1/query?time={:.3}&query={query}", ask.until_s);
        let (code, text) = server.get(&path, ANSWER_BYTES_MAX).await.map_err(|error| {
            Wrong::new(format!("cannot ask Prometheus: {error}"))
                .hint("see that --prometheus is its address; a shorter --window or a --selector asks for less")
        })?;
        if matches!(code, StatusCode::UNAUTHORIZED | StatusCode::FORBIDDEN) {
            let wrong = Wrong::new(format!("Prometheus answered {code}"));
            bail!(wrong.hint(
                "name a file with its token in --key-file, or with headers in --header-file"
            ));
        }
        let rows = series(&text).map_err(|error| {
            Wrong::new(format!("Prometheus answered {code}: {error}"))
                .hint("see that --prometheus is the address of a Prometheus server and --selector is right")
        })?;
        answers.insert(about, rows);
    }
    Ok(answers)
}

/// The deployments of the model that was named; all where none is.
fn chosen(args: &Triage, known: Vec<Deployment>) -> anyhow::Result<Vec<Deployment>> {
    let Some(model) = &args.model else {
        let left_out = known.len().saturating_sub(DEPLOYMENTS_MAX);
        if left_out > 0 {
            output::note(&format!(
                "{left_out} models with less to do are left out; --model names one"
            ));
        }
        let known = if known.is_empty() { vec![Deployment::default()] } else { known };
        return Ok(known.into_iter().take(DEPLOYMENTS_MAX).collect());
    };
    let told: Vec<String> = known.iter().map(ToString::to_string).collect();
    // Of servers that name no model the one that was named may be one.
    let is_named = known.iter().any(|one| one.model.is_some());
    let is_it = |one: &Deployment| one.model.as_ref() == Some(model) || !is_named;
    let own: Vec<Deployment> = known.into_iter().filter(is_it).take(DEPLOYMENTS_MAX).collect();
    if own.is_empty() && is_named {
        let wrong = Wrong::new(format!("no server has a model `{model}` in that window"));
        bail!(wrong.hint(format!("there are: {}", told.join(", "))));
    }
    let named = Deployment { model: Some(model.clone()), namespace: None };
    Ok(if own.is_empty() { vec![named] } else { own })
}

/// Alert rules and all names; none where the server does not tell them.
async fn rules(server: &Asking) -> Option<pilotage_lens::triage::evidence::Alerts> {
    let (_, rules) = server.get("/api/v1/rules?type=alert", ANSWER_BYTES_MAX).await.ok()?;
    let (_, names) = server.get("/api/v1/label/__name__/values", ANSWER_BYTES_MAX).await.ok()?;
    alerts(&rules, &names).ok().filter(|alerts| !alerts.rules.is_empty())
}

#[cfg(test)]
mod tests {
    use clap::Parser as _;

    use super::*;
    use crate::args::{Args, Command};

    #[test]
    fn of_several_models_each_is_looked_at_or_the_one_that_was_named() {
        let of = |model: &str, namespace: &str| Deployment {
            model: Some(model.to_owned()).filter(|model| !model.is_empty()),
            namespace: Some(namespace.to_owned()),
        };
        let check = |model: Option<&str>, known: &[Deployment], expect: Option<usize>| {
            let flags = ["pilotage", "triage", "--prometheus", "http://p"];
            let more = model.map(|model| ["--model", model]);
            let typed = Args::try_parse_from(flags.into_iter().chain(more.into_iter().flatten()));
            let Command::Triage(args) = typed.unwrap().command else { panic!("another command") };
            let found = chosen(&args, known.to_vec()).ok().map(|all| all.len());
            assert_eq!(found, expect, "{model:?} {known:?}");
        };
        let two = [of("a", "x"), of("b", "x"), of("a", "y")];
        check(None, &two, Some(3));
        check(Some("a"), &two, Some(2));
        check(Some("c"), &two, None);
        check(None, &[], Some(1));
        check(Some("a"), &[], Some(1));
        check(Some("a"), &[of("", "x")], Some(1));
        check(None, &vec![of("a", "x"); 40], Some(DEPLOYMENTS_MAX));
    }
}
