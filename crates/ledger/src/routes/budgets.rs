//! `/usage/budgets`: what is spent of each budget, what will be, and when it is used up.

use axum::extract::State;
use pilotage_lens::usage::forecast;
use pilotage_shell::date;
use serde::Deserialize;
use serde_json::{Value, json};

use super::answer::{self, Answer, money};
use super::params::Ask;
use crate::ledger::{Budget, Ledger};
use crate::store::{Done, Range, Spent};

const HOUR_MS: u64 = 3_600_000;
const DAY_MS: u64 = 86_400_000;

/// Whole days before today that forecasts look at: each weekday four times.
const DAYS: u64 = 28;

/// What can be asked: nothing.
#[derive(Debug, Default, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub(super) struct Params {}

pub(super) async fn answer(State(ledger): State<Ledger>, Ask(Params {}): Ask<Params>) -> Answer {
    let now_ms = ledger.inner.clock.unix_ms();
    let budgets = (ledger.inner.looks.budgets)();
    // One question for all of them: there may be as many budgets as tenants.
    let known = match budgets.is_empty() {
        true => Known::default(),
        false => Known::ask(&ledger, now_ms, &budgets).await?,
    };
    let shown = budgets.iter().map(|budget| known.show(&ledger, now_ms, budget));
    Ok(answer::json(&Value::Array(shown.collect())))
}

/// What everybody spent: by the day up to today, and today by the hour.
#[derive(Debug, Default)]
struct Known {
    today: u64,
    days: Vec<Spent>,
    hours: Vec<Spent>,
}

impl Known {
    async fn ask(ledger: &Ledger, now_ms: u64, budgets: &[Budget]) -> Done<Self> {
        let today = now_ms / DAY_MS;
        let windows = budgets.iter().map(|budget| budget.from_ms / DAY_MS);
        let first = windows.chain([today.saturating_sub(DAYS)]).min().unwrap_or(today);
        // A window that began within a day before today wants that day's hours.
        let within = budgets.iter().filter(|budget| budget.from_ms < today * DAY_MS);
        let within = within.filter(|budget| !budget.from_ms.is_multiple_of(DAY_MS));
        let hours = within.map(|budget| budget.from_ms / HOUR_MS).chain([today * 24]).min();
        let store = &ledger.inner.store;
        let until = now_ms / HOUR_MS + 1;
        let hours = Range { from: hours.unwrap_or(today * 24), until };
        Ok(Self {
            today,
            days: store.spent(Range { from: first * 24, until: today * 24 }, false).await?,
            hours: store.spent(hours, true).await?,
        })
    }

    fn show(&self, ledger: &Ledger, now_ms: u64, budget: &Budget) -> Value {
        let spent = budget.spent_micros.unwrap_or_else(|| self.spent(budget));
        let window = (budget.from_ms, budget.until_ms);
        let limit = Some(budget.limit_micros);
        let forecast = forecast(now_ms, window, spent, limit, &self.whole_days(budget));
        let utc = |unix_ms: u64| date::utc(unix_ms / 1000);
        json!({
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
        })
    }

    /// What was spent in its window: in whole days where it has them, and in hours around those.
    fn spent(&self, budget: &Budget) -> u64 {
        let from = budget.from_ms / HOUR_MS;
        let first_day = budget.from_ms.div_ceil(DAY_MS) * 24;
        let days = self.days.iter().filter(|one| one.at >= first_day);
        let is_hour = |at: u64| at >= self.today * 24 || at < first_day;
        let hours = self.hours.iter().filter(|one| one.at >= from && is_hour(one.at));
        days.chain(hours).filter(|one| is_below(one, budget)).map(|one| one.charged_micros).sum()
    }

    /// What was spent on whole days before today, from the first on which anything was.
    fn whole_days(&self, budget: &Budget) -> Vec<u64> {
        let first = self.today.saturating_sub(DAYS);
        let mut days = vec![0; usize::try_from(self.today - first).unwrap_or_default()];
        for one in self.days.iter().filter(|one| is_below(one, budget)) {
            let place = (one.at / 24).checked_sub(first).and_then(|at| usize::try_from(at).ok());
            if let Some(sum) = place.and_then(|at| days.get_mut(at)) {
                *sum += one.charged_micros;
            }
        }
        let known = days.iter().position(|sum| *sum > 0).unwrap_or(days.len());
        days.split_off(known)
    }
}

/// Whether it is of the budget's tenant, or of one below it.
fn is_below(spent: &Spent, budget: &Budget) -> bool {
    let rest = spent.tenant_path.strip_prefix(&budget.tenant_path);
    rest.is_some_and(|rest| rest.is_empty() || rest.starts_with('/'))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_window_is_whole_days_and_hours_around_them() {
        let spent = |path: &str, at: u64, charged_micros| Spent {
            tenant_path: path.to_owned(),
            at,
            charged_micros,
        };
        let today = 20_000;
        let known = Known {
            today,
            days: vec![
                spent("org/a", (today - 2) * 24, 1000),
                spent("org/a", (today - 1) * 24, 100),
                spent("organ", (today - 1) * 24, 7),
            ],
            hours: vec![
                spent("org/a", (today - 1) * 24 + 20, 60),
                spent("org/a", (today - 1) * 24 + 2, 40),
                spent("org", today * 24 + 1, 5),
            ],
        };
        let check = |path: &str, from: u64, expect: u64| {
            let budget = Budget {
                tenant_path: path.to_owned(),
                from_ms: from * HOUR_MS,
                ..Budget::default()
            };
            assert_eq!(known.spent(&budget), expect, "{path} {from}");
        };
        check("org", (today - 2) * 24, 1105);
        check("org", (today - 1) * 24 + 10, 65);
        check("org", today * 24, 5);
        check("org", today * 24 + 2, 0);
        check("org/a", (today - 1) * 24, 100);
        check("organ", 0, 7);
        let org = Budget { tenant_path: "org".to_owned(), ..Budget::default() };
        assert_eq!(known.whole_days(&org), [1000, 100]);
    }
}
