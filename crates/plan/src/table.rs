//! How a plan prints, and how two plans differ: for people, in lines that fit a terminal.

use std::collections::BTreeMap;
use std::fmt;

use serde::Serialize;
use serde_json::Value;

use crate::plan::Plan;
use crate::render::WeightsSpec;
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
        /// `process`, `lane` or `tenant`.
        what: &'static str,
        /// Its name.
        name: String,
    },
    /// It is gone.
    Remove {
        /// `process`, `lane` or `tenant`.
        what: &'static str,
        /// Its name.
        name: String,
    },
    /// It differs.
    Alter {
        /// `process`, `lane` or `tenant`.
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
        let lane = |plan: &Self| items(&plan.lanes, |lane| &lane.name);
        compare("lane", &lane(before), &lane(self), &mut changes);
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
        table(
            f,
            ["PROCESS", "MODEL", "THREADS", "SLOTS", "CONTEXT", "WEIGHTS"],
            self.process_rows(),
        )?;
        writeln!(f)?;
        table(f, ["ROUTE", "NAMES", "REPLICAS", "QUEUE", "TOTAL", "ATTEMPTS"], self.lane_rows())?;
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
            let lane = self.lanes.iter().find(|lane| lane.served_model == model);
            lane.map(|lane| lane.context_tokens.to_string()).unwrap_or_default()
        };
        let row = |process: &crate::ProcessSpec| {
            [
                process.name.clone(),
                process.served_model.clone(),
                process.threads.to_string(),
                process.slots.to_string(),
                context(&process.served_model),
                weights(&process.weights),
            ]
        };
        self.processes.iter().map(row).collect()
    }

    fn lane_rows(&self) -> Vec<[String; 6]> {
        let row = |lane: &crate::Lane| {
            [
                lane.name.clone(),
                lane.public_names.join(" "),
                lane.replicas.len().to_string(),
                format!("{} for {} s", lane.queue.requests_max, lane.timeouts.queue_seconds),
                format!("{} s", lane.timeouts.total_seconds),
                lane.retries.attempts_max.to_string(),
            ]
        };
        self.lanes.iter().map(row).collect()
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
