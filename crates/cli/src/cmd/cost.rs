//! `pilotage cost`: on which Fleets a Model runs cheapest.

use anyhow::{Context as _, bail};
use bytes::Bytes;
use http::{Request, header};
use http_body_util::{BodyExt as _, Limited};
use pilotage_core::scale::Report;
use pilotage_plan::Resource;
use pilotage_plan::api::{Fleet, FleetKind, Model};
use pilotage_plan::scaling::bill::{Costs, Demand, Question, bill};
use pilotage_shell::client::Client;
use pilotage_shell::env::{self, Var};

use super::render::{facts, resources};
use crate::args::Cost;
use crate::exit::{NoPlan, Wrong};
use crate::output::{self, Format};

/// Most bytes of what a gateway says.
const REPORT_BYTES_MAX: usize = 16 << 20;

/// Prints what it costs.
pub(crate) async fn run(args: Cost) -> anyhow::Result<()> {
    let resources = resources(&args.manifests)?;
    let model = model(&resources, args.model.as_deref())?;
    let fleets: Vec<&Fleet> = resources.iter().filter_map(nodes).collect();
    for (name, _) in &args.capacities {
        known(&fleets, name)?;
    }
    for (name, _) in &args.now {
        known(&fleets, name)?;
    }
    let all = facts(&args.manifests, &resources).await?;
    let source = model.spec.source.as_ref().map(ToString::to_string);
    let facts = source.and_then(|source| all.get(&source));
    let demand = match (&args.url, args.rate) {
        (Some(url), _) => seen(url, model.name(), args.times).await?,
        (None, rate) => {
            Demand { rate: rate.unwrap_or_default(), prompt: args.prompt, answer: args.answer }
        }
    };
    let question = Question {
        demand,
        measured: args.capacities.into_iter().collect(),
        now: args.now.into_iter().collect(),
        interruptions: args.interruptions / 100.0,
        on_demand: f64::from(args.on_demand) / 100.0,
        spot_share_max: f64::from(args.spot_share_max) / 100.0,
    };
    let costs =
        bill(model, &fleets, facts, &question).map_err(|error| NoPlan::new(error.to_string()))?;
    match args.output {
        Format::Json => output::json(&costs)?,
        Format::Table => show(&costs),
    }
    Ok(())
}

fn model<'a>(resources: &'a [Resource], name: Option<&str>) -> anyhow::Result<&'a Model> {
    let mut models = resources.iter().filter_map(|resource| match resource {
        Resource::Model(model) => Some(model),
        Resource::Tenant(_) | Resource::Route(_) | Resource::Fleet(_) => None,
    });
    if let Some(name) = name {
        let found = models.find(|model| model.name() == name);
        return Ok(found.ok_or_else(|| Wrong::new(format!("there is no Model `{name}`")))?);
    }
    match (models.next(), models.next()) {
        (Some(model), None) => Ok(model),
        (None, _) => bail!(Wrong::new("the manifests have no Model")),
        (Some(_), Some(_)) => {
            let wrong = Wrong::new("the manifests have several Models");
            bail!(wrong.hint("name one with --model"))
        }
    }
}

fn nodes(resource: &Resource) -> Option<&Fleet> {
    match resource {
        Resource::Fleet(fleet) if fleet.spec.kind == FleetKind::Nodes => Some(fleet),
        Resource::Fleet(_) | Resource::Model(_) | Resource::Tenant(_) | Resource::Route(_) => None,
    }
}

fn known(fleets: &[&Fleet], name: &str) -> anyhow::Result<()> {
    if fleets.iter().any(|fleet| fleet.metadata.name.to_string() == name) {
        return Ok(());
    }
    bail!(Wrong::new(format!("there is no Fleet `{name}` of kind `nodes` in the manifests")))
}

/// What comes for a model by what a gateway sees.
async fn seen(url: &str, model: &str, times: f64) -> anyhow::Result<Demand> {
    let mut request = Request::get(format!("{}/scaling", url.trim_end_matches('/')));
    if let Some(key) = env::get(Var::AdminKey) {
        request = request.header(header::AUTHORIZATION, format!("Bearer {key}"));
    }
    let request = request.body(Bytes::new()).map_err(|_| Wrong::new("--url is no address"))?;
    let response = Client::new()?.request(request).await.map_err(|error| {
        Wrong::new(format!("cannot reach {url}: {error}")).hint(
            "it is the address of the listener for operators: its own port, not that of clients",
        )
    })?;
    if !response.status().is_success() {
        let wrong = Wrong::new(format!("{url} answered {}", response.status()));
        bail!(wrong.hint("set PILOTAGE_ADMIN_KEY to the key of the listener for operators"));
    }
    let body = Limited::new(response.into_body(), REPORT_BYTES_MAX).collect().await;
    let body = body.map_err(|error| anyhow::anyhow!("{url} broke off: {error}"))?.to_bytes();
    let report: Report = serde_json::from_slice(&body).context("the gateway's answer")?;
    let said = report.models.get(model).and_then(|model| model.arrivals);
    let bands =
        said.with_context(|| format!("{url} says nothing of requests for `{model}`"))?.value;
    let sum = bands.realtime + bands.standard + bands.bulk + bands.batch;
    if sum.requests <= 0.0 {
        bail!(NoPlan::new(format!("nobody asks for `{model}` at {url}; say --rate instead")));
    }
    let each = |tokens: f64| ((tokens / sum.requests).round() as u64).max(1);
    Ok(Demand { rate: sum.requests * times, prompt: each(sum.prompt), answer: each(sum.answer) })
}

fn show(costs: &Costs) {
    let demand = &costs.demand;
    output::line(&format!(
        "{}: {:.2} requests/s of {} and {} tokens",
        costs.model, demand.rate, demand.prompt, demand.answer
    ));
    output::line(&costs.bill.to_string());
    output::line("");
    let head = ["FLEET", "COPIES", "A COPY PER HOUR", "REQUESTS/S", "BY", "NODES", "NOT WEIGHED"];
    output::table(&head, &rows(costs));
    output::line("");
    for line in notes(costs) {
        output::line(&line);
    }
}

fn rows(costs: &Costs) -> Vec<Vec<String>> {
    let number = |number: Option<f64>| number.map_or_else(String::new, |it| format!("{it:.2}"));
    let row = |fleet: &pilotage_plan::scaling::bill::Offered| {
        let at = costs.bill.fleets.iter().position(|name| *name == fleet.fleet);
        let copies = at.and_then(|at| costs.bill.best.counts.get(at).copied());
        let by = match (fleet.rate, fleet.measured) {
            (None, _) => "",
            (Some(_), true) => "measured",
            (Some(_), false) => "predicted",
        };
        vec![
            fleet.fleet.clone(),
            copies.map_or_else(String::new, |copies| copies.to_string()),
            number(fleet.price),
            number(fleet.rate),
            by.to_owned(),
            if fleet.spot { "may go" } else { "stay" }.to_owned(),
            fleet.without.clone().unwrap_or_default(),
        ]
    };
    costs.fleets.iter().map(row).collect()
}

/// What else there is to know: what is kept free, and what nobody's requests cost.
fn notes(costs: &Costs) -> Vec<String> {
    let (goal, idle) = (&costs.goal, &costs.idle);
    let aim = |name: &str, seconds: Option<f64>| {
        seconds.map(|seconds| format!("{name} {:.0} ms", seconds * 1000.0))
    };
    let aims: Vec<String> = [aim("TTFT", goal.ttft_seconds), aim("TPOT", goal.tpot_seconds)]
        .into_iter()
        .flatten()
        .collect();
    let mut notes = vec![format!(
        "Each copy is asked for {:.0} % of what it does within {}: what comes in bursts needs the rest.",
        goal.utilisation * 100.0,
        aims.join(" and ")
    )];
    let copies: u32 = costs.bill.best.counts.iter().sum();
    if copies > costs.copies_max {
        notes.push(format!(
            "The Model has at most {} copies: raise `scaling.max`, or `replicas`, or the other {} never come.",
            costs.copies_max,
            copies - costs.copies_max
        ));
    }
    notes.push(match (idle.copies, idle.after_seconds > 0.0) {
        (0, _) => format!(
            "Nothing is paid once nobody has asked for {:.0} s; whoever asks first waits for a start.",
            idle.after_seconds
        ),
        (copies, true) => format!(
            "Idle, {copies} stay, for {:.2} an hour at least; `scaling.zero` says what becomes of the last one.",
            idle.price
        ),
        (copies, false) => format!(
            "The Model says `replicas: {copies}`, which are paid for always, whatever the load; with `scaling` there are as many as it needs."
        ),
    });
    notes.push(
        "Nothing is moved by itself: start what is to be there first, and drain what is over once that serves."
            .to_owned(),
    );
    notes
}
