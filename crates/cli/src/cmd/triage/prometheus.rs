//! A Prometheus server as evidence.

use std::collections::BTreeMap;
use std::time::Duration;

use anyhow::bail;
use http::StatusCode;
use pilotage_lens::triage::Evidence;
use pilotage_lens::triage::observe::Series;
use pilotage_lens::triage::observe::prometheus::{
    ANSWER_BYTES_MAX, About, Ask, alerts, models, observed, series,
};
use pilotage_shell::clock::Clock;

use super::fetch::{Asking, escaped};
use crate::args::Triage;
use crate::exit::Wrong;
use crate::output;

/// The window where nothing is said.
const WINDOW: Duration = Duration::from_secs(600);

/// How long a query may take: Prometheus' own limit is two minutes.
const PATIENCE: Duration = Duration::from_secs(120);

/// What a server knows of the window, and of the one before where that is wanted.
pub(super) async fn evidence(args: &Triage, url: &str) -> anyhow::Result<Evidence> {
    let server = server(args, url)?;
    let until_s = args.at.unwrap_or_else(|| Clock::start().unix_ms() as f64 / 1e3);
    let window_s = args.window.unwrap_or(WINDOW).as_secs_f64();
    let ask = Ask { until_s, window_s, selector: args.selector.clone() };
    let answers = all(&server, &ask).await?;
    let known = models(answers.get(&About::Engines).map_or(&[], Vec::as_slice));
    let model = model(args, &known)?;
    let mut now = observed(&ask, answers, model.as_deref());
    now.alerts = rules(&server).await;
    if let Some(before) = args.before {
        let then = Ask { until_s: until_s - before.as_secs_f64(), ..ask };
        let seen = observed(&then, all(&server, &then).await?, model.as_deref());
        // With nobody there at that time there is nothing to compare with.
        now.baseline = Some(Box::new(seen)).filter(|seen| !seen.replicas.is_empty());
    }
    Ok(now.evidence())
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

fn model(args: &Triage, known: &[String]) -> anyhow::Result<Option<String>> {
    match &args.model {
        Some(model) if known.is_empty() || known.contains(model) => Ok(Some(model.clone())),
        Some(model) => {
            let wrong = Wrong::new(format!("no server has a model `{model}` in that window"));
            bail!(wrong.hint(format!("there are: {}", known.join(", "))));
        }
        None => {
            let first = known.first().cloned();
            if let Some(first) = first.as_ref().filter(|_| known.len() > 1) {
                let count = known.len();
                output::note(&format!(
                    "of {count} models this is about `{first}`; --model names another"
                ));
            }
            Ok(first)
        }
    }
}

/// Alert rules and all names; none where the server does not tell them.
async fn rules(server: &Asking) -> Option<pilotage_lens::triage::evidence::Alerts> {
    let (_, rules) = server.get("/api/v1/rules?type=alert", ANSWER_BYTES_MAX).await.ok()?;
    let (_, names) = server.get("/api/v1/label/__name__/values", ANSWER_BYTES_MAX).await.ok()?;
    alerts(&rules, &names).ok().filter(|alerts| !alerts.rules.is_empty())
}
