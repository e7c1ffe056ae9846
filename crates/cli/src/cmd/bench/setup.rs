//! From what was typed to what is sent: mistakes are found here, before anything is.

use std::fs;
use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use anyhow::Context as _;
use bytes::Bytes;
use http::Request;
use http_body_util::BodyExt as _;
use pilotage_lab::arrivals::{Process, Profile, trace};
use pilotage_lab::load::{CONNECTIONS_MAX, Endpoint, Limits, Options, Target};
use pilotage_lab::report::Setting;
use pilotage_lab::slo::{Slo, millis};
use pilotage_lab::workload::{
    GROUPS_MAX, Load, Prefix, Spec, TENANTS_MAX, Tenant, WarmUp, Workload,
};
use pilotage_shell::client::Client;
use pilotage_shell::secret::Secret;
use rustix::process::{Resource, Rlimit, getrlimit, setrlimit};
use serde_json::{Map, Value};

use crate::args::{Asked, LoadArgs};
use crate::exit::Wrong;
use crate::installation::key_from_env;

/// How long to send when nothing is said.
const DURATION_DEFAULT: Duration = Duration::from_secs(60);

/// The warm-up when nothing is said is this part of the run …
const WARM_UP_PART: u64 = 10;

/// … and this at most.
const WARM_UP_MAX: Duration = Duration::from_secs(10);

/// What does not change from load to load of one command.
#[derive(Debug)]
pub(super) struct Prepared {
    pub(super) limits: Limits,
    pub(super) slo: Option<Slo>,
    endpoint: Endpoint,
    model: String,
    keys: Vec<Option<Secret>>,
    workload: Workload,
    headers: Vec<(String, String)>,
    extra: Map<String, Value>,
}

impl Prepared {
    /// Reads files, and asks the server for its first model where none was named.
    pub(super) async fn new(asked: &Asked) -> anyhow::Result<Self> {
        let (tenants, keys) = tenants(asked)?;
        let endpoint = endpoint(asked)?;
        let connections = asked.connections.map_or(CONNECTIONS_MAX, |most| most as usize);
        let limits = Limits {
            connections,
            timeout: time("--timeout", &asked.timeout)?,
            grace: time("--grace", &asked.grace)?,
        };
        let workload = Workload {
            input: asked.input_tokens.parse().map_err(|error| flag("--input-tokens", error))?,
            output: asked.output_tokens.parse().map_err(|error| flag("--output-tokens", error))?,
            prefix: asked.shared_prefix.as_deref().map(prefix).transpose()?,
            turns: asked.turns,
            think_seconds: time("--think-time", &asked.think_time)?.as_secs_f64(),
            tenants,
        };
        let slo = asked.slo.as_deref().map(str::parse).transpose();
        let slo = slo.map_err(|error| flag("--slo", error))?;
        let model = match (&asked.model, &endpoint) {
            (Some(model), _) => model.clone(),
            (None, Endpoint::Raw { .. }) => String::new(),
            (None, _) => first_model(&asked.url, keys.first().and_then(Option::as_ref)).await?,
        };
        let headers = asked.header.iter().map(|text| header(text)).collect::<Result<_, _>>()?;
        let extra = extra(asked)?;
        Ok(Self { limits, slo, endpoint, model, keys, workload, headers, extra })
    }

    /// The server.
    pub(super) fn target(&self, asked: &Asked) -> anyhow::Result<Target> {
        let options = Options {
            model: self.model.clone(),
            stream: !asked.no_stream,
            keys: self.keys.clone(),
            headers: self.headers.clone(),
            extra: self.extra.clone(),
        };
        let target = Target::new(&asked.url, self.endpoint.clone(), options);
        target.map_err(|error| Wrong::new(error.to_string()).into())
    }

    /// What a report says was asked for.
    pub(super) fn setting(
        &self,
        asked: &Asked,
        load: &LoadArgs,
        spec: &Spec,
    ) -> anyhow::Result<Setting> {
        let prefix = self.workload.prefix.map(|prefix| (prefix.groups, prefix.tokens));
        let names = self.workload.tenants.iter().map(|tenant| tenant.name.clone());
        let (kind, rate, concurrency) = match &spec.load {
            Load::Closed { concurrency } => ("closed", None, Some(*concurrency)),
            Load::Open { profile, .. } if profile.is_ramp() => {
                ("ramp", Some(profile.from.max(profile.to)), None)
            }
            Load::Open { profile, .. } => ("open", Some(profile.from), None),
            Load::Trace { .. } => ("trace", load.rate, None),
        };
        let arrivals = load.arrivals.clone().unwrap_or_else(|| "poisson".to_owned());
        Ok(Setting {
            command: command(),
            url: asked.url.clone(),
            endpoint: asked.endpoint.clone(),
            model: self.model.clone(),
            stream: !asked.no_stream,
            load: kind.to_owned(),
            arrivals: (kind != "closed").then_some(arrivals),
            rate,
            concurrency,
            connections: self.limits.connections,
            input_tokens: self.workload.input.to_string(),
            output_tokens: self.workload.output.to_string(),
            shared_prefix: prefix,
            turns: self.workload.turns,
            tenants: names.collect(),
            seed: asked.seed,
            slo: self.slo,
            slots: asked.slots.map(f64::from),
        })
    }
}

/// What is sent.
pub(super) fn spec(asked: &Asked, args: &LoadArgs, prepared: &Prepared) -> anyhow::Result<Spec> {
    let duration = args.duration.as_deref().map(|text| time("--duration", text)).transpose()?;
    let load = load(args, duration)?;
    let bounded = args.requests.is_some() || matches!(load, Load::Trace { .. });
    let duration = duration.or_else(|| (!bounded).then_some(DURATION_DEFAULT));
    let warm_up = warm_up(args, duration, &load)?;
    Ok(Spec {
        load,
        workload: prepared.workload.clone(),
        seed: asked.seed,
        end_nanos: duration.map(nanos),
        requests: args.requests,
        warm_up,
    })
}

fn load(args: &LoadArgs, duration: Option<Duration>) -> anyhow::Result<Load> {
    if let Some(concurrency) = args.concurrency {
        return Ok(Load::Closed { concurrency: concurrency as usize });
    }
    let arrivals = args.arrivals.as_deref().unwrap_or("poisson");
    if let Some(path) = arrivals.strip_prefix("trace:") {
        return recorded(Path::new(path), args);
    }
    let process: Process = arrivals.parse().map_err(|error| flag("--arrivals", error))?;
    let profile = match (&args.ramp, args.rate) {
        (Some(ramp), _) => {
            let seconds = duration.unwrap_or(DURATION_DEFAULT).as_secs_f64();
            let (from, to) = ramp
                .split_once(':')
                .and_then(|(from, to)| Some((from.parse().ok()?, to.parse().ok()?)))
                .filter(|(from, to): &(f64, f64)| *from >= 0.0 && to.is_finite() && *to > 0.0)
                .filter(|(from, _)| from.is_finite())
                .ok_or_else(|| flag("--ramp", format!("`{ramp}` is no FROM:TO, as in 1:20")))?;
            Profile { from, to, seconds }
        }
        (None, Some(rate)) if rate.is_finite() && rate > 0.0 => Profile::constant(rate),
        (None, Some(rate)) => {
            return Err(flag("--rate", format!("`{rate}` is no rate: give a number above 0")));
        }
        (None, None) => {
            return Err(Wrong::new("nothing says how much to send")
                .hint(
                    "give --rate 10 for ten requests a second, or --concurrency 8, or --ramp 1:20",
                )
                .into());
        }
    };
    Ok(Load::Open { process, profile })
}

fn recorded(path: &Path, args: &LoadArgs) -> anyhow::Result<Load> {
    let text = read(path)?;
    let rows = trace::read(&text).map_err(|error| {
        Wrong::new(format!("{}: {error}", path.display()))
            .hint("Azure's CSV and Mooncake's lines of JSON are understood")
    })?;
    let seconds = rows.last().map_or(0.0, |row| row.at);
    let recorded = rows.len() as f64 / seconds.max(1e-9);
    let stretch = args.rate.map_or(1.0, |rate| recorded / rate);
    if !stretch.is_finite() || stretch <= 0.0 {
        return Err(flag("--rate", "give a number above 0".to_owned()));
    }
    Ok(Load::Trace { rows: Arc::from(rows), stretch })
}

/// What is given, or a tenth of the run.
fn warm_up(args: &LoadArgs, duration: Option<Duration>, load: &Load) -> anyhow::Result<WarmUp> {
    if let Some(text) = &args.warm_up {
        return match text.parse() {
            Ok(requests) => Ok(WarmUp::Requests(requests)),
            Err(_) => Ok(WarmUp::Nanos(nanos(time("--warm-up", text)?))),
        };
    }
    let tenth = |duration: Duration| (duration / WARM_UP_PART as u32).min(WARM_UP_MAX);
    let of_trace = |rows: &Arc<[trace::Row]>, stretch: f64| {
        Duration::from_secs_f64((rows.last().map_or(0.0, |row| row.at) * stretch).min(1e9))
    };
    Ok(match (args.requests, duration, load) {
        (Some(requests), _, _) => WarmUp::Requests(requests / WARM_UP_PART),
        (None, Some(duration), _) => WarmUp::Nanos(nanos(tenth(duration))),
        (None, None, Load::Trace { rows, stretch }) => {
            WarmUp::Nanos(nanos(tenth(of_trace(rows, *stretch))))
        }
        (None, None, _) => WarmUp::Nanos(0),
    })
}

fn endpoint(asked: &Asked) -> anyhow::Result<Endpoint> {
    match (asked.endpoint.as_str(), &asked.body_file) {
        ("chat", None) => Ok(Endpoint::Chat),
        ("completions", None) => Ok(Endpoint::Completions),
        ("embeddings", None) => Ok(Endpoint::Embeddings),
        (raw, body) if raw.starts_with("raw:/") => {
            let path = raw["raw:".len()..].to_owned();
            let body = body.as_deref().map(read).transpose()?.map(Bytes::from);
            Ok(Endpoint::Raw { path, body })
        }
        ("chat" | "completions" | "embeddings", Some(_)) => {
            Err(Wrong::new("--body-file is for --endpoint raw:/PATH").into())
        }
        (other, _) => {
            let what = format!("`{other}` is none of chat, completions, embeddings and raw:/PATH");
            Err(flag("--endpoint", what))
        }
    }
}

fn prefix(text: &str) -> anyhow::Result<Prefix> {
    let numbers = text.split_once(':').and_then(|(groups, tokens)| {
        Some(Prefix { groups: groups.parse().ok()?, tokens: tokens.parse().ok()? })
    });
    let fits = numbers.filter(|prefix| (1..=GROUPS_MAX).contains(&prefix.groups));
    fits.filter(|prefix| prefix.tokens <= pilotage_lab::workload::length::TOKENS_MAX).ok_or_else(
        || flag("--shared-prefix", format!("`{text}` is no GROUPS:TOKENS, as in 20:1024")),
    )
}

/// Who asks, and with which keys.
fn tenants(asked: &Asked) -> anyhow::Result<(Vec<Tenant>, Vec<Option<Secret>>)> {
    if asked.tenants.is_empty() {
        let key = match &asked.key_file {
            Some(path) => Some(key(path)?),
            None => key_from_env(),
        };
        return Ok((vec![Tenant { name: "all".to_owned(), weight: 1.0 }], vec![key]));
    }
    if asked.tenants.len() > TENANTS_MAX {
        return Err(flag("--tenants", format!("at most {TENANTS_MAX}")));
    }
    let mut all = (Vec::new(), Vec::new());
    for text in &asked.tenants {
        let wrong = || flag("--tenants", format!("`{text}` is no NAME=KEY-FILE:WEIGHT"));
        let (name, rest) = text.split_once('=').ok_or_else(wrong)?;
        let (file, weight) = match rest.rsplit_once(':') {
            Some((file, weight)) => (file, weight.parse().map_err(|_| wrong())?),
            None => (rest, 1.0),
        };
        if !(weight > 0.0 && f64::is_finite(weight)) {
            return Err(wrong());
        }
        all.0.push(Tenant { name: name.to_owned(), weight });
        all.1.push(Some(key(Path::new(file))?));
    }
    Ok(all)
}

fn key(path: &Path) -> anyhow::Result<Secret> {
    Ok(Secret::new(read(path)?.trim().to_owned()))
}

fn read(path: &Path) -> anyhow::Result<String> {
    let text = fs::read_to_string(path);
    text.map_err(|error| Wrong::new(format!("cannot read {}: {error}", path.display())).into())
}

fn header(text: &str) -> anyhow::Result<(String, String)> {
    let parts = text.split_once(':').map(|(name, value)| (name.trim(), value.trim()));
    let (name, value) =
        parts.ok_or_else(|| flag("--header", format!("`{text}` is no NAME:VALUE")))?;
    Ok((name.to_owned(), value.to_owned()))
}

fn extra(asked: &Asked) -> anyhow::Result<Map<String, Value>> {
    let text = asked.extra.as_deref().unwrap_or("{}");
    let mut extra: Map<String, Value> =
        serde_json::from_str(text).map_err(|error| flag("--extra", error))?;
    if asked.ignore_eos {
        extra.insert("ignore_eos".to_owned(), true.into());
    }
    Ok(extra)
}

async fn first_model(url: &str, key: Option<&Secret>) -> anyhow::Result<String> {
    let first = models(url, key).await?.into_iter().next();
    first.ok_or_else(|| {
        Wrong::new(format!("{url} names no model"))
            .hint("name one with --model; a key is given with --key-file")
            .into()
    })
}

/// The models that a server lists.
pub(crate) async fn models(url: &str, key: Option<&Secret>) -> anyhow::Result<Vec<String>> {
    let base = url.trim_end_matches('/').trim_end_matches("/v1");
    let mut request = Request::get(format!("{base}/v1/models"));
    if let Some(key) = key {
        request = request.header(http::header::AUTHORIZATION, format!("Bearer {}", key.expose()));
    }
    let request = request.body(Bytes::new());
    let request =
        request.map_err(|_| flag("URL", format!("`{url}` is no http:// or https:// URL")))?;
    let asked = tokio::time::timeout(Duration::from_secs(30), async {
        let response = Client::new()?.request(request).await?;
        let status = response.status();
        anyhow::Ok((status, response.into_body().collect().await?.to_bytes()))
    });
    let (status, body) = asked
        .await
        .context("no answer in 30 s")
        .flatten()
        .with_context(|| format!("cannot ask {base}/v1/models which models there are"))?;
    let list: Option<Value> = serde_json::from_slice(&body).ok();
    let Some(list) = list.as_ref().and_then(|list| list["data"].as_array()) else {
        let wrong = Wrong::new(format!("{base}/v1/models answers {status} and names no model"));
        return Err(wrong.hint("name one with --model; a key is given with --key-file").into());
    };
    Ok(list.iter().filter_map(|one| one["id"].as_str()).map(str::to_owned).collect())
}

fn time(name: &str, text: &str) -> anyhow::Result<Duration> {
    let millis = millis(text).filter(|millis| *millis <= 1e12);
    let millis =
        millis.ok_or_else(|| flag(name, format!("`{text}` is no time: write 500ms, 30s or 5m")))?;
    Ok(Duration::from_secs_f64(millis / 1e3))
}

fn nanos(duration: Duration) -> u64 {
    u64::try_from(duration.as_nanos()).unwrap_or(u64::MAX)
}

fn flag(name: &str, error: impl std::fmt::Display) -> anyhow::Error {
    Wrong::new(format!("{name}: {error}")).into()
}

/// The command line as it was typed, so that a report says how to make it again.
fn command() -> String {
    let quoted = std::env::args().skip(1).map(|arg| {
        let plain = |char: char| char.is_ascii_alphanumeric() || "/._-:=,@+%".contains(char);
        if !arg.is_empty() && arg.chars().all(plain) {
            arg
        } else {
            format!("'{}'", arg.replace('\'', r"'\''"))
        }
    });
    format!("pilotage {}", quoted.collect::<Vec<_>>().join(" "))
}

/// A connection is an open file: as many as the system lets this process have.
pub(crate) fn raise_open_files() {
    let limit = getrlimit(Resource::Nofile);
    // Where it is refused, opening connections fails later and says so.
    let _ = setrlimit(Resource::Nofile, Rlimit { current: limit.maximum, maximum: limit.maximum });
}

#[cfg(test)]
mod tests {
    use clap::Parser as _;

    use super::*;
    use crate::args::{Args, BenchCommand, BenchRun, Command};

    fn typed(flags: &str) -> BenchRun {
        let line = format!("pilotage bench run http://host --model m {flags}");
        let args = Args::try_parse_from(line.split_whitespace()).unwrap();
        let Command::Bench(bench) = args.command else { unreachable!() };
        let BenchCommand::Run(run) = bench.command else { unreachable!() };
        *run
    }

    async fn made(flags: &str) -> anyhow::Result<Spec> {
        let run = typed(flags);
        let prepared = Prepared::new(&run.asked).await?;
        prepared.target(&run.asked)?;
        spec(&run.asked, &run.load, &prepared)
    }

    #[tokio::test]
    async fn the_length_of_a_run_decides_its_warm_up() {
        let check = async |flags: &str, seconds: Option<u64>, warm_up: WarmUp| {
            let spec = made(flags).await.unwrap();
            assert_eq!(spec.end_nanos, seconds.map(|seconds| seconds * 1_000_000_000), "{flags}");
            assert_eq!(spec.warm_up, warm_up, "{flags}");
        };
        let seconds = |seconds: u64| WarmUp::Nanos(seconds * 1_000_000_000);
        check("--rate 10", Some(60), seconds(6)).await;
        check("--rate 10 --duration 5m", Some(300), seconds(10)).await;
        check("--rate 10 --requests 200", None, WarmUp::Requests(20)).await;
        check("--concurrency 4 --duration 20s --warm-up 7", Some(20), WarmUp::Requests(7)).await;
        check("--rate 1 --warm-up 3s", Some(60), seconds(3)).await;
    }

    #[tokio::test]
    async fn mistakes_name_their_flag() {
        let check = async |flags: &str, expect: &str| {
            let error = made(flags).await.unwrap_err();
            assert!(error.downcast_ref::<Wrong>().is_some(), "{flags}");
            assert!(error.to_string().contains(expect), "{error}");
        };
        check("", "nothing says how much").await;
        check("--rate 0", "--rate").await;
        check("--rate NaN", "--rate").await;
        check("--ramp 5", "--ramp").await;
        check("--rate 1 --duration 30", "--duration").await;
        check("--rate 1 --arrivals weekly", "--arrivals").await;
        check("--rate 1 --arrivals trace:no-such-file", "no-such-file").await;
        check("--rate 1 --input-tokens many", "--input-tokens").await;
        check("--rate 1 --shared-prefix 9", "--shared-prefix").await;
        check("--rate 1 --slo fast", "--slo").await;
        check("--rate 1 --tenants a", "--tenants").await;
        check("--rate 1 --endpoint images", "--endpoint").await;
        check("--rate 1 --extra [1]", "--extra").await;
        check("--rate 1 --header x", "--header").await;
    }

    #[test]
    fn rates_and_counts_exclude_each_other() {
        let check = |flags: &str| {
            let line = format!("pilotage bench run http://host {flags}");
            assert!(Args::try_parse_from(line.split_whitespace()).is_err(), "{flags}");
        };
        check("--rate 1 --concurrency 2");
        check("--rate 1 --ramp 1:2");
        check("--concurrency 2 --arrivals poisson");
        check("--concurrency 0");
    }
}
