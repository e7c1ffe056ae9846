//! `pilotage probe`: which runtime answers somewhere, and what it can do. Questions and answers go over
//! the network here; what they mean is decided where nothing else is, in [`detect`].

mod ask;

use std::time::Duration;

use anyhow::{Context as _, bail};
use pilotage_shell::client::{Client, ClientError};
use pilotage_shell::env;
use pilotage_shell::secret::Secret;
use pilotage_wire::dialect::detect::{self, Finding};
use pilotage_wire::dialect::observe::observe;
use pilotage_wire::dialect::{Capability, Dialect, Metric, Version};
use serde_json::{Value, json};

use crate::args::Probe;
use crate::exit::Wrong;
use crate::output::{self, Format};
use ask::Asking;

/// Most models that the table names.
const MODELS_SHOWN_MAX: usize = 8;

/// How long an answer may take where nobody says.
const PATIENCE: Duration = Duration::from_secs(10);

/// A server that answers, and what it is.
#[derive(Debug)]
pub(super) struct Answering {
    /// Its address.
    pub(super) url: String,
    /// What it is.
    pub(super) finding: Finding,
    asking: Asking,
}

impl Answering {
    /// Requests that its metrics show, computed or waiting; none where they show none of both.
    pub(super) async fn load(&self) -> Option<u32> {
        let dialect = self.finding.dialect;
        let path = dialect.differences().paths.metrics?;
        let page = self.asking.own(path.to_owned()).await.ok()?;
        let seen = observe(dialect, &page.body);
        match (seen.running, seen.waiting) {
            (None, None) => None,
            (running, waiting) => Some(running.unwrap_or(0) + waiting.unwrap_or(0)),
        }
    }
}

/// Asks who answers at an address.
pub(super) async fn find(
    url: &str,
    key: Option<Secret>,
    model: Option<&str>,
) -> anyhow::Result<Answering> {
    let url = address(url)?;
    let asking = Asking { client: Client::new()?, url: url.clone(), key, patience: PATIENCE };
    match asking.all(model).await {
        Ok(heard) => Ok(Answering { url, finding: detect::judge(&heard, model), asking }),
        Err(error) => Err(unreachable(&url, &error)),
    }
}

/// Asks, and says what was found.
pub(crate) async fn run(args: Probe) -> anyhow::Result<()> {
    let url = address(&args.url)?;
    let asking = Asking {
        client: client(&args)?,
        url: url.clone(),
        key: key(args.key_env.as_deref())?,
        patience: Duration::from_secs(args.timeout),
    };
    let model = args.model.as_deref();
    let heard = match asking.all(model).await {
        Ok(heard) => heard,
        Err(error) => return Err(unreachable(&url, &error)),
    };
    let found = detect::judge(&heard, model);
    match args.output {
        Format::Json => output::json(&told(&url, &found))?,
        Format::Table => show(&url, &found),
    }
    verdict(&found, model, args.key_env.is_some())
}

/// Whether that is what was hoped for.
fn verdict(found: &Finding, model: Option<&str>, has_key: bool) -> anyhow::Result<()> {
    if found.is_refused && found.models.is_empty() {
        output::hint(if has_key {
            "it knows another key: ask its owner for one"
        } else {
            "name the environment variable that holds its key: --key-env NAME"
        });
        bail!("it answers, and wants a key");
    }
    if found.dialect == Dialect::Auto {
        output::hint("is there another port, or a path before /v1? then say so in the URL");
        bail!("something answers there, but no server of models that is known");
    }
    let is_served = |model: &str| found.models.iter().any(|served| served.id == model);
    if let Some(model) = model.filter(|model| !found.models.is_empty() && !is_served(model)) {
        output::hint("write the name that it has there into `servedModel`");
        bail!("it is up, and serves another model than `{model}`");
    }
    Ok(())
}

/// The address without what the questions begin with themselves.
fn address(url: &str) -> anyhow::Result<String> {
    let url = url.trim();
    let url = if url.contains("://") { url.to_owned() } else { format!("http://{url}") };
    let url = url.trim_end_matches('/').trim_end_matches("/v1").to_owned();
    let known = url.starts_with("http://") || url.starts_with("https://");
    let parsed = url.parse::<http::Uri>().ok().filter(|url| known && url.host().is_some());
    if parsed.is_none() {
        bail!(
            Wrong::new(format!("`{url}` is no address of a server"))
                .hint("write http://HOST:PORT or https://HOST")
        );
    }
    Ok(url)
}

fn client(args: &Probe) -> anyhow::Result<Client> {
    let Some(path) = &args.ca_file else { return Ok(Client::new()?) };
    let pem = std::fs::read(path).with_context(|| format!("cannot read {}", path.display()))?;
    let client = Client::trusting(&pem);
    client.map_err(|error| Wrong::new(format!("{}: {error}", path.display())).into())
}

pub(super) fn key(variable: Option<&str>) -> anyhow::Result<Option<Secret>> {
    let Some(name) = variable else { return Ok(None) };
    match env::named(name) {
        Some(key) => Ok(Some(Secret::new(key))),
        None => Err(Wrong::new(format!("the environment variable `{name}` is not set"))
            .hint("--key-env takes the name of a variable, not the key itself")
            .into()),
    }
}

/// Why nobody answered, and what to do about it.
fn unreachable(url: &str, error: &ask::Silence) -> anyhow::Error {
    let is_https = url.starts_with("https://");
    let hint = match error {
        ask::Silence::Client(ClientError::Refused(_)) => {
            "nobody listens there: is it started, and is that its port?"
        }
        ask::Silence::Client(ClientError::Connect(_) | ClientError::Tls(_)) if is_https => {
            "where its certificate is signed by your own authority, name that: --ca-file FILE; where it speaks plain HTTP, write http://"
        }
        ask::Silence::Client(ClientError::Connect(_) | ClientError::Tls(_)) => {
            "is that its name, and may this machine reach it?"
        }
        ask::Silence::Client(ClientError::Broken(_)) => {
            "it speaks something else than HTTP there; perhaps https://, or another port"
        }
        ask::Silence::Late => {
            "it is busy, or something on the way drops what is sent; try --timeout 60"
        }
    };
    output::hint(hint);
    anyhow::anyhow!("cannot ask {url}: {error}")
}

fn told(url: &str, found: &Finding) -> Value {
    let row = found.dialect.differences();
    let models = found.models.iter().map(|model| json!({"id": model.id, "context": model.context}));
    let capabilities = found.capabilities.iter();
    let capabilities: serde_json::Map<String, Value> =
        capabilities.map(|(one, answer)| (one.name().to_owned(), answer.name().into())).collect();
    let names =
        |metrics: &[&Metric]| -> Vec<&str> { metrics.iter().map(|metric| metric.name).collect() };
    json!({
        "url": url,
        "dialect": row.name,
        "server": row.title,
        "version": found.version.as_ref().map(Version::as_str),
        "models": models.collect::<Vec<_>>(),
        "context": found.context,
        "capabilities": capabilities,
        "metrics": {"found": names(&found.metrics), "missing": names(&found.missing)},
        "evidence": found.evidence,
        "warnings": found.warnings,
    })
}

fn show(url: &str, found: &Finding) {
    let row = found.dialect.differences();
    let version = found.version.as_ref().map(|version| format!(" {version}")).unwrap_or_default();
    output::line(&format!("address   {url}"));
    output::line(&format!("server    {}{version}", row.title));
    output::line(&format!("dialect   {}", row.name));
    for served in found.models.iter().take(MODELS_SHOWN_MAX) {
        let context = served.context.or(found.context);
        let context = context.map(|tokens| format!(", {tokens} tokens of context"));
        output::line(&format!("model     {}{}", served.id, context.unwrap_or_default()));
    }
    if found.models.len() > MODELS_SHOWN_MAX {
        output::line(&format!("          and {} more", found.models.len() - MODELS_SHOWN_MAX));
    }
    for why in &found.evidence {
        output::line(&format!("because   {why}"));
    }
    if found.dialect != Dialect::Auto {
        output::line("");
        let rows = found.capabilities.iter().map(|(capability, answer)| {
            let note = note(found.dialect, *capability);
            vec![capability.title().to_owned(), answer.name().to_owned(), note]
        });
        output::table(&["CAN", "", "WHAT TO KNOW"], &rows.collect::<Vec<_>>());
    }
    if !found.metrics.is_empty() || !found.missing.is_empty() {
        output::line("");
        let row = |word: &'static str| {
            move |metric: &&Metric| {
                vec![metric.meaning.title().to_owned(), word.to_owned(), metric.name.to_owned()]
            }
        };
        let rows = found.metrics.iter().map(row("found"));
        let rows = rows.chain(found.missing.iter().map(row("missing")));
        output::table(&["TELLS", "", "METRIC"], &rows.collect::<Vec<_>>());
    }
    for warning in &found.warnings {
        output::marked(("warning:", "1;33"), warning);
    }
}

fn note(dialect: Dialect, capability: Capability) -> String {
    dialect.differences().capabilities.get(capability).note.to_owned()
}

#[cfg(test)]
mod tests;
