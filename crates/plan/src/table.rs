//! How a plan prints, and how two plans differ: for people, in lines that fit a terminal.

use std::collections::BTreeMap;
use std::fmt;

use serde::Serialize;
use serde_json::Value;

use crate::api::{Mirror, Rule, Target};
use crate::lane::{EndpointSpec, KeySource, Lane};
use crate::plan::Plan;
use crate::render::WeightsSpec;
use crate::routes::Route;
use crate::tenants::{ShareSpec, TenantSpec};

/// What has to change to get from one plan to another.
#[derive(Clone, Debug, Default, Eq, PartialEq, Serialize)]
pub struct Changes(pub Vec<Change>);

/// One thing that differs between two plans.
#[derive(Clone, Debug, Eq, PartialEq, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum Change {
    /// It is new.
    Add {
        /// `process`, `endpoint`, `lane`, `route` or `tenant`.
        what: &'static str,
        /// Its name.
        name: String,
    },
    /// It is gone.
    Remove {
        /// `process`, `endpoint`, `lane`, `route` or `tenant`.
        what: &'static str,
        /// Its name.
        name: String,
    },
    /// It differs.
    Alter {
        /// `process`, `endpoint`, `lane`, `route` or `tenant`.
        what: &'static str,
        /// Its name.
        name: String,
        /// The fields that differ.
        fields: Vec<Altered>,
    },
}

/// A field that differs.
#[derive(Clone, Debug, Eq, PartialEq, Serialize)]
pub struct Altered {
    /// Its name.
    pub field: String,
    /// What it was.
    pub before: String,
    /// What it is.
    pub after: String,
}

impl Plan {
    /// What has to change to get here from an earlier plan.
    pub fn changes_from(&self, before: &Self) -> Changes {
        let mut changes = Vec::new();
        let process = |plan: &Self| items(&plan.processes, |process| &process.name);
        compare("process", &process(before), &process(self), &mut changes);
        let endpoint = |plan: &Self| items(&plan.endpoints, |endpoint| &endpoint.name);
        compare("endpoint", &endpoint(before), &endpoint(self), &mut changes);
        let lane = |plan: &Self| items(&plan.lanes, |lane| &lane.name);
        compare("lane", &lane(before), &lane(self), &mut changes);
        let route = |plan: &Self| items(&plan.routes, |route| &route.name);
        compare("route", &route(before), &route(self), &mut changes);
        let tenant = |plan: &Self| items(&plan.tenants, |tenant| &tenant.name);
        compare("tenant", &tenant(before), &tenant(self), &mut changes);
        Changes(changes)
    }
}

/// A thing's name and its fields as text.
type Item = (String, Vec<(String, String)>);

fn items<T: Serialize>(things: &[T], name: impl Fn(&T) -> &String) -> Vec<Item> {
    things.iter().map(|thing| (name(thing).clone(), fields(thing))).collect()
}

/// A thing that is no JSON object has no fields and so never differs; plans hold only objects.
fn fields(thing: &impl Serialize) -> Vec<(String, String)> {
    let Ok(Value::Object(map)) = serde_json::to_value(thing) else { return Vec::new() };
    let mut fields = Vec::new();
    for (key, value) in map {
        match value {
            Value::Array(args) if key == "args" => flags(&args, &mut fields),
            Value::String(text) => fields.push((key, text)),
            value => fields.push((key, value.to_string())),
        }
    }
    fields
}

/// Arguments as fields of their own, so that a change shows the flag and not the whole line.
fn flags(args: &[Value], fields: &mut Vec<(String, String)>) {
    let mut args = args.iter().filter_map(Value::as_str).peekable();
    while let Some(arg) = args.next() {
        let value = args.next_if(|next| arg.starts_with("--") && !next.starts_with("--"));
        fields.push((arg.to_owned(), value.unwrap_or_default().to_owned()));
    }
}

fn compare(what: &'static str, before: &[Item], after: &[Item], changes: &mut Vec<Change>) {
    let find = |items: &[Item], name: &str| items.iter().position(|item| item.0 == name);
    for (name, _) in before.iter().filter(|item| find(after, &item.0).is_none()) {
        changes.push(Change::Remove { what, name: name.clone() });
    }
    for (name, new) in after {
        let Some(at) = find(before, name) else {
            changes.push(Change::Add { what, name: name.clone() });
            continue;
        };
        let fields = altered(&before[at].1, new);
        if !fields.is_empty() {
            changes.push(Change::Alter { what, name: name.clone(), fields });
        }
    }
}

/// Fields that differ, those that are gone or new included; what is not there prints as nothing.
fn altered(before: &[(String, String)], after: &[(String, String)]) -> Vec<Altered> {
    let find = |fields: &[(String, String)], name: &str| {
        let found = fields.iter().find(|(field, _)| field == name);
        found.map(|(_, value)| value.clone()).unwrap_or_default()
    };
    let gone = before.iter().filter(|(field, _)| !after.iter().any(|(other, _)| other == field));
    let names = after.iter().chain(gone).map(|(field, _)| field);
    let pairs = names.map(|field| (field, find(before, field), find(after, field)));
    pairs
        .filter(|(_, before, after)| before != after)
        .map(|(field, before, after)| Altered { field: field.clone(), before, after })
        .collect()
}

impl fmt::Display for Changes {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if self.0.is_empty() {
            return writeln!(f, "nothing changes");
        }
        for change in &self.0 {
            match change {
                Change::Add { what, name } => writeln!(f, "+ {what} {name}")?,
                Change::Remove { what, name } => writeln!(f, "- {what} {name}")?,
                Change::Alter { what, name, fields } => {
                    writeln!(f, "~ {what} {name}")?;
                    for Altered { field, before, after } in fields {
                        writeln!(f, "    {field}: {before} -> {after}")?;
                    }
                }
            }
        }
        Ok(())
    }
}

impl fmt::Display for Plan {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if !self.processes.is_empty() {
            let head = ["PROCESS", "MODEL", "THREADS", "SLOTS", "CONTEXT", "WEIGHTS"];
            table(f, head, self.process_rows())?;
            writeln!(f)?;
        }
        if !self.endpoints.is_empty() {
            let head = ["ENDPOINT", "MODEL", "SLOTS", "KV TOKENS", "REGION", "KEY"];
            table(f, head, self.endpoint_rows())?;
            writeln!(f)?;
        }
        let head = ["MODEL", "REPLICAS", "CONTEXT", "QUEUE", "POLICY", "RESUME"];
        table(f, head, self.lane_rows())?;
        writeln!(f)?;
        let head = ["ROUTE", "NAMES", "GOES TO", "WAIT", "TOTAL", "ATTEMPTS"];
        table(f, head, self.route_rows())?;
        if !self.tenants.is_empty() {
            writeln!(f)?;
            let head =
                ["TENANT", "PARENT", "BAND", "WEIGHT", "SHARE", "KEYS", "IDENTITIES", "LIMITS"];
            table(f, head, self.tenant_rows())?;
        }
        if !self.notes.is_empty() {
            writeln!(f)?;
        }
        for note in &self.notes {
            writeln!(f, "note: {note}")?;
        }
        Ok(())
    }
}

impl Plan {
    fn process_rows(&self) -> Vec<[String; 6]> {
        let context = |model: &str| {
            self.lane(model).map(|lane| lane.context_tokens.to_string()).unwrap_or_default()
        };
        let row = |process: &crate::ProcessSpec| {
            [
                process.name.clone(),
                process.lane.clone(),
                process.threads.to_string(),
                process.slots.to_string(),
                context(&process.lane),
                weights(&process.weights),
            ]
        };
        self.processes.iter().map(row).collect()
    }

    fn endpoint_rows(&self) -> Vec<[String; 6]> {
        let or_nothing = |text: Option<String>| text.unwrap_or_else(|| NOTHING.to_owned());
        let row = |endpoint: &EndpointSpec| {
            let place = [&endpoint.region, &endpoint.zone].map(|part| part.as_deref());
            let place: Vec<&str> = place.into_iter().flatten().collect();
            let place = (!place.is_empty()).then(|| place.join("/"));
            [
                endpoint.name.clone(),
                endpoint.lane.clone(),
                endpoint.slots.to_string(),
                or_nothing(endpoint.kv_tokens.map(|tokens| tokens.to_string())),
                or_nothing(place),
                or_nothing(endpoint.key.as_ref().map(key)),
            ]
        };
        self.endpoints.iter().map(row).collect()
    }

    fn lane_rows(&self) -> Vec<[String; 6]> {
        let row = |lane: &Lane| {
            [
                lane.name.clone(),
                lane.replicas.len().to_string(),
                lane.context_tokens.to_string(),
                lane.queue.requests_max.to_string(),
                word(&lane.policy),
                word(&lane.resume),
            ]
        };
        self.lanes.iter().map(row).collect()
    }

    fn route_rows(&self) -> Vec<[String; 6]> {
        let row = |route: &Route| {
            [
                route.name.clone(),
                route.public_names.join(" "),
                goes_to(route),
                format!("{} s", route.timeouts.queue_seconds),
                format!("{} s", route.timeouts.total_seconds),
                route.retries.attempts_max.to_string(),
            ]
        };
        self.routes.iter().map(row).collect()
    }
}

impl Plan {
    /// Names are indented by level: those that belong to a tenant follow it.
    fn tenant_rows(&self) -> Vec<[String; 8]> {
        let mut levels: BTreeMap<&str, usize> = BTreeMap::new();
        let row = |tenant: &TenantSpec, level: usize| {
            [
                format!("{:1$}{2}", "", 2 * level, tenant.name),
                tenant.parent.clone().unwrap_or_else(|| NOTHING.to_owned()),
                tenant.highest_band.name().to_owned(),
                decimal(tenant.weight.into(), 1000),
                share(&tenant.share),
                tenant.keys.len().to_string(),
                tenant.identities.len().to_string(),
                limits(tenant),
            ]
        };
        let mut rows = Vec::new();
        for tenant in &self.tenants {
            let above = tenant.parent.as_ref().and_then(|parent| levels.get(parent.as_str()));
            let level = above.map_or(0, |level| level + 1);
            levels.insert(&tenant.name, level);
            rows.push(row(tenant, level));
        }
        rows
    }
}

/// Where requests of a route go: targets with their parts, and what else there is.
fn goes_to(route: &Route) -> String {
    let asked = |target: &Target| match &route.adapter {
        Some(adapter) => format!("{}:{adapter}", target.model),
        None => target.model.to_string(),
    };
    let sum: u64 = route.targets.iter().map(|target| u64::from(target.weight)).sum();
    let part = |target: &Target| match &route.targets[..] {
        [_] => asked(target),
        _ => {
            let percent = u64::from(target.weight) * 1000 / sum.max(1);
            format!("{} {} %", asked(target), decimal(percent, 10))
        }
    };
    let mut all: Vec<String> = route.targets.iter().map(part).collect();
    let rule = |rule: &Rule| {
        let targets: Vec<String> = rule.targets.iter().map(asked).collect();
        format!("{}: {}", rule.name, targets.join("+"))
    };
    all.extend(route.rules.iter().map(rule));
    all.extend(route.fallbacks.iter().map(|model| format!("else {model}")));
    all.extend(route.canary.iter().map(|canary| format!("canary {}", canary.model)));
    let mirror = |mirror: &Mirror| format!("mirror {} {} %", mirror.model, mirror.percent);
    all.extend(route.mirror.iter().map(mirror));
    all.join(", ")
}

fn key(source: &KeySource) -> String {
    match source {
        KeySource::File(path) => format!("file {path}"),
        KeySource::Env(name) => format!("${name}"),
    }
}

/// A choice as manifests have it.
fn word(choice: &impl Serialize) -> String {
    let value = serde_json::to_value(choice).unwrap_or_default();
    value.as_str().unwrap_or_default().to_owned()
}

/// What stands where nothing is said.
const NOTHING: &str = "-";

fn share(share: &ShareSpec) -> String {
    let percent = |thousandths: u32| format!("{} %", decimal(thousandths.into(), 10));
    let mut text = percent(share.guaranteed);
    if let Some(limit) = share.borrowing_limit {
        text.push_str(&format!(", borrows {}", percent(limit)));
    }
    if let Some(limit) = share.lending_limit {
        text.push_str(&format!(", lends {}", percent(limit)));
    }
    text
}

/// Quota, budgets and deadline, as far as there are any.
fn limits(tenant: &TenantSpec) -> String {
    let quota = &tenant.quota;
    let counts = [
        (quota.requests_per_minute, "requests/min"),
        (quota.input_tokens_per_minute, "tokens in/min"),
        (quota.output_tokens_per_minute, "tokens out/min"),
        (quota.concurrency, "at once"),
        (quota.queued_requests, "waiting"),
        (quota.queued_bytes, "bytes waiting"),
    ];
    let counts =
        counts.into_iter().filter_map(|(most, what)| most.map(|most| format!("{most} {what}")));
    let money = |millionths: u64| decimal(millionths, 1_000_000);
    let budgets = quota.budgets.iter().map(|budget| {
        let soft = budget.soft.map(|soft| format!(" (warning from {})", money(soft)));
        format!("{} a {}{}", money(budget.hard), budget.window.name(), soft.unwrap_or_default())
    });
    let deadline = tenant.deadline_seconds.map(|seconds| format!("{seconds} s an answer"));
    let all: Vec<_> = counts.chain(budgets).chain(deadline).collect();
    if all.is_empty() { NOTHING.to_owned() } else { all.join(", ") }
}

/// A number of parts of one, without zeros that say nothing.
fn decimal(parts: u64, one: u64) -> String {
    let digits = one.ilog10() as usize;
    let text = format!("{}.{:0>digits$}", parts / one, parts % one);
    text.trim_end_matches('0').trim_end_matches('.').to_owned()
}

/// Where weights come from and the start of their digest, which is enough to tell two apart.
fn weights(weights: &WeightsSpec) -> String {
    const DIGITS: usize = 12;
    match weights.digest {
        Some(digest) => format!("{} ({})", weights.source, &digest.hex()[..DIGITS]),
        None => weights.source.to_string(),
    }
}

/// Columns as wide as their widest cell; the last one is not padded.
fn table<const N: usize>(
    f: &mut fmt::Formatter<'_>,
    head: [&str; N],
    rows: Vec<[String; N]>,
) -> fmt::Result {
    let mut lines = vec![head.map(str::to_owned)];
    lines.extend(rows);
    let width = |column: usize| {
        lines.iter().map(|line| line[column].chars().count()).max().unwrap_or_default()
    };
    let widths: Vec<_> = (0..N).map(width).collect();
    for line in &lines {
        let cells = line.iter().zip(&widths).map(|(cell, width)| format!("{cell:width$}"));
        writeln!(f, "{}", cells.collect::<Vec<_>>().join("  ").trim_end())?;
    }
    Ok(())
}
