//! `/usage/budgets`: what is spent of each budget, what will be, and when it is used up.

use axum::extract::State;
use pilotage_lens::usage::forecast;
use pilotage_shell::date;
use serde::Deserialize;
use serde_json::{Value, json};

use super::answer::{self, Answer, money};
use super::params::{Ask, Span};
use crate::ledger::{Budget, Ledger};
use crate::store::{self, Dimension, Done};

const DAY_MS: u64 = 86_400_000;

/// Whole days before today that forecasts look at: each weekday four times.
const DAYS: u64 = 28;

/// What can be asked: nothing.
#[derive(Debug, Default, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub(super) struct Params {}

pub(super) async fn answer(State(ledger): State<Ledger>, Ask(Params {}): Ask<Params>) -> Answer {
    let now_ms = ledger.inner.clock.unix_ms();
    let mut shown = Vec::new();
    for budget in (ledger.inner.looks.budgets)() {
        shown.push(show(&ledger, now_ms, &budget).await?);
    }
    Ok(answer::json(&Value::Array(shown)))
}

async fn show(ledger: &Ledger, now_ms: u64, budget: &Budget) -> Done<Value> {
    let spent = match budget.spent_micros {
        Some(spent) => spent,
        None => {
            let span = Span { from_ms: budget.from_ms, until_ms: now_ms + 1 };
            let found = ledger.inner.store.sums(ask(budget, span, Vec::new())).await?;
            found.iter().map(|one| one.sums.charged_micros).sum()
        }
    };
    let days = days(ledger, now_ms, budget).await?;
    let window = (budget.from_ms, budget.until_ms);
    let forecast = forecast(now_ms, window, spent, Some(budget.limit_micros), &days);
    let utc = |unix_ms: u64| date::utc(unix_ms / 1000);
    Ok(json!({
        "tenant": budget.tenant,
        "window": budget.window,
        "from": utc(budget.from_ms),
        "until": utc(budget.until_ms),
        "limit": money(budget.limit_micros),
        "spent": money(spent),
        "forecast": money(forecast.by_weekday.unwrap_or(forecast.straight)),
        "forecast_straight": money(forecast.straight),
        "forecast_by_weekday": forecast.by_weekday.map(money),
        "exhausted_at": forecast.exhausted_ms.map(utc),
        "currency": super::sums::currency(ledger),
    }))
}

/// What was spent on whole days before today, from the first on which anything was.
async fn days(ledger: &Ledger, now_ms: u64, budget: &Budget) -> Done<Vec<u64>> {
    let today = now_ms / DAY_MS;
    let first = today.saturating_sub(DAYS);
    let span = Span { from_ms: first * DAY_MS, until_ms: today * DAY_MS };
    let found = ledger.inner.store.sums(ask(budget, span, vec![Dimension::Day])).await?;
    let mut days = vec![0; usize::try_from(today - first).unwrap_or_default()];
    for one in &found {
        let day: Option<u64> = one.keys.first().and_then(|day| day.parse().ok());
        let place = day.and_then(|day| usize::try_from(day.checked_sub(first)?).ok());
        if let Some(sum) = place.and_then(|at| days.get_mut(at)) {
            *sum += one.sums.charged_micros;
        }
    }
    let known = days.iter().position(|sum| *sum > 0).unwrap_or(days.len());
    Ok(days.split_off(known))
}

fn ask(budget: &Budget, span: Span, by: Vec<Dimension>) -> store::Ask {
    let below = Some(budget.tenant_path.clone());
    store::Ask { range: span.hours(), by, tenant: None, below, model: None, groups_max: 100 }
}
