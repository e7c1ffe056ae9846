//! `/usage`: sums, by whatever is asked for.

use std::collections::BTreeMap;

use axum::extract::State;
use pilotage_lens::usage::Sums;
use pilotage_shell::date;
use serde::Deserialize;
use serde_json::{Map, Value, json};

use super::answer::{self, Answer, Wrong, cell, money};
use super::params::{Ask, Span, ends};
use crate::ledger::Ledger;
use crate::store::{self, Dimension, Summed};

/// The most groups of an answer.
const GROUPS_MAX: u32 = 10_000;

/// What can be asked.
#[derive(Debug, Default, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub(super) struct Params {
    from: Option<String>,
    to: Option<String>,
    by: Option<String>,
    tenant: Option<String>,
    model: Option<String>,
    format: Option<String>,
}

/// Sums of one group, from all pieces of the range.
#[derive(Clone, Copy, Debug, Default)]
struct Total {
    sums: Sums,
    accelerator_us: f64,
    cost_micros: Option<f64>,
}

/// Names and what is grouped by.
const DIMENSIONS: [(&str, Dimension); 8] = [
    ("tenant", Dimension::Tenant),
    ("tenant_path", Dimension::TenantPath),
    ("model", Dimension::Model),
    ("version", Dimension::Version),
    ("hardware", Dimension::Hardware),
    ("band", Dimension::Band),
    ("day", Dimension::Day),
    ("hour", Dimension::Hour),
];

const COLUMNS: [&str; 9] = [
    "requests",
    "input_tokens",
    "cached_tokens",
    "output_tokens",
    "reasoning_tokens",
    "gpu_seconds",
    "kv_token_seconds",
    "price",
    "cost",
];

pub(super) async fn answer(State(ledger): State<Ledger>, Ask(params): Ask<Params>) -> Answer {
    let by = dimensions(params.by.as_deref().unwrap_or("tenant"))?;
    let is_csv = match params.format.as_deref() {
        None | Some("json") => false,
        Some("csv") => true,
        Some(_) => return Err(Wrong::question("`format` is `json` or `csv`")),
    };
    let now = ledger.inner.clock.unix_ms();
    let span = Span::of(now, params.from.as_deref(), params.to.as_deref())?;
    let ask = store::Ask {
        range: span.hours(),
        by: by.iter().map(|(_, by)| *by).collect(),
        tenant: params.tenant,
        below: None,
        model: params.model,
        groups_max: GROUPS_MAX + 1,
    };
    let found = ledger.inner.store.sums(ask).await?;
    let groups = merge(found);
    if groups.len() > GROUPS_MAX as usize {
        return Err(Wrong::question(format!(
            "that is more than {GROUPS_MAX} rows; ask for less time, for one tenant or model, or by less"
        )));
    }
    let mut total = Total::default();
    groups.values().for_each(|group| total.add(*group));
    if is_csv {
        return Ok(answer::csv(csv(&by, &groups)));
    }
    let rows: Vec<Value> = groups
        .iter()
        .map(|(keys, group)| {
            let keys = std::iter::zip(&by, keys)
                .map(|((name, by), key)| ((*name).to_owned(), json!(shown(*by, key))));
            Value::Object(keys.chain(group.json()).collect())
        })
        .collect();
    let (from, to) = ends(span.hours());
    Ok(answer::json(&json!({
        "from": from,
        "to": to,
        "by": by.iter().map(|(name, _)| *name).collect::<Vec<_>>(),
        "rows": rows,
        "total": Value::Object(total.json().collect::<Map<_, _>>()),
        "currency": currency(&ledger),
    })))
}

/// The currency, where it was said.
pub(super) fn currency(ledger: &Ledger) -> Option<&str> {
    Some(ledger.inner.settings.currency.as_str()).filter(|currency| !currency.is_empty())
}

fn dimensions(text: &str) -> Result<Vec<(&'static str, Dimension)>, Wrong> {
    let mut by: Vec<(&'static str, Dimension)> = Vec::new();
    for name in text.split(',').map(str::trim).filter(|name| !name.is_empty()) {
        let Some(one) = DIMENSIONS.iter().find(|(known, _)| *known == name) else {
            let known: Vec<&str> = DIMENSIONS.iter().map(|(name, _)| *name).collect();
            return Err(Wrong::question(format!(
                "`by` takes some of {}, divided by commas",
                known.join(", ")
            )));
        };
        if !by.contains(one) {
            by.push(*one);
        }
    }
    Ok(by)
}

/// Groups in order. Numbers of days and hours sort as such.
fn merge(found: Vec<Summed>) -> BTreeMap<Vec<String>, Total> {
    let mut groups: BTreeMap<Vec<String>, Total> = BTreeMap::new();
    for Summed { keys, sums, accelerator_us, cost_micros } in
        found.into_iter().filter(|one| one.sums.requests > 0)
    {
        groups.entry(keys).or_default().add(Total { sums, accelerator_us, cost_micros });
    }
    groups
}

impl Total {
    fn add(&mut self, other: Self) {
        self.sums += other.sums;
        self.accelerator_us += other.accelerator_us;
        self.cost_micros = match (self.cost_micros, other.cost_micros) {
            (Some(one), Some(two)) => Some(one + two),
            (one, two) => one.or(two),
        };
    }

    fn json(self) -> impl Iterator<Item = (String, Value)> {
        let sums = self.sums;
        let values = [
            json!(sums.requests),
            json!(sums.input),
            json!(sums.cached),
            json!(sums.output),
            json!(sums.reasoning),
            json!(thousandths(self.accelerator_us / 1e6)),
            json!(thousandths(sums.kv_token_ms as f64 / 1e3)),
            json!(money(sums.charged_micros)),
            json!(self.cost_micros.map(|micros| money(micros.round() as u64))),
        ];
        COLUMNS.into_iter().map(str::to_owned).zip(values)
    }
}

fn csv(by: &[(&'static str, Dimension)], groups: &BTreeMap<Vec<String>, Total>) -> String {
    let mut out = String::new();
    let names = by.iter().map(|(name, _)| (*name).to_owned());
    answer::line(names.chain(COLUMNS.map(str::to_owned)), &mut out);
    for (keys, group) in groups {
        let keys = std::iter::zip(by, keys).map(|((_, by), key)| cell(&shown(*by, key)));
        let numbers = group.json().map(|(_, value)| match value {
            Value::String(text) => text,
            Value::Null => String::new(),
            number => number.to_string(),
        });
        answer::line(keys.chain(numbers), &mut out);
    }
    out
}

/// A key for people: days and hours are numbers in the store.
fn shown(by: Dimension, key: &str) -> String {
    let seconds = |each: u64| key.parse::<u64>().unwrap_or_default().saturating_mul(each);
    match by {
        Dimension::Day => date::utc(seconds(86_400)).chars().take(10).collect(),
        Dimension::Hour => date::utc(seconds(3600)),
        Dimension::Tenant
        | Dimension::TenantPath
        | Dimension::Model
        | Dimension::Version
        | Dimension::Hardware
        | Dimension::Band => key.to_owned(),
    }
}

fn thousandths(number: f64) -> f64 {
    (number * 1e3).round() / 1e3
}
