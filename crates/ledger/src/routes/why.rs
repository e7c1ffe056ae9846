//! `/usage/why`: one request explained, long after the gateway forgot it: by the same words as of the last ones, beside
//! what others of its model took at that time.

use axum::extract::State;
use pilotage_lens::Record;
use pilotage_lens::usage::Row;
use pilotage_lens::why::{Usual, explain};
use serde::Deserialize;
use serde_json::{Value, json};

use super::answer::{self, Answer, Wrong};
use super::params::Ask;
use crate::ledger::Ledger;
use crate::store::{AskRows, Done};

/// How long before a request others may have been for being compared with it.
const BESIDE_MS: u64 = 7 * 86_400_000;

/// Rows that are looked at for others.
const BESIDE_ROWS: u32 = 500;

/// What can be asked.
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct Params {
    id: String,
}

/// The record as far as it is kept, under the names of the gateway's own records; and the explanation, null for rows of
/// before phases were kept.
pub(super) async fn answer(State(ledger): State<Ledger>, Ask(params): Ask<Params>) -> Answer {
    let until_ms = ledger.inner.clock.unix_ms().saturating_add(BESIDE_MS);
    let request_id = Some(params.id.clone());
    let ask = AskRows { until_ms, request_id, detail: true, limit: 1, ..AskRows::default() };
    let found = ledger.inner.store.rows(ask).await?.rows;
    let Some((text, row)) = found.first().and_then(|text| Some((text, read(text)?))) else {
        let days = ledger.inner.settings.rows_age_max.as_secs() / 86_400;
        return Err(Wrong::not_found(format!(
            "no request `{}` is in the ledger, which keeps them for {days} days",
            params.id
        )));
    };
    let explanation = match row.record() {
        Some(record) => {
            let usual = usual(&ledger, &row, &record).await?;
            json!(explain(&record, usual.as_ref()))
        }
        None => Value::Null,
    };
    let record: Value = serde_json::from_str(&named(text)).unwrap_or_default();
    Ok(answer::json(&json!({"record": record, "explanation": explanation, "from": "ledger"})))
}

/// What others of the same model took before it.
async fn usual(ledger: &Ledger, row: &Row, of: &Record) -> Done<Option<Usual>> {
    let ask = AskRows {
        from_ms: row.unix_ms.saturating_sub(BESIDE_MS),
        until_ms: row.unix_ms,
        model: row.model.clone(),
        detail: true,
        limit: BESIDE_ROWS,
        ..AskRows::default()
    };
    let page = ledger.inner.store.rows(ask).await?;
    let others = page.rows.iter().filter_map(|text| read(text)?.record());
    let alike = |record: &Record| {
        record.is_answered()
            && record.lane == of.lane
            && record.stream == of.stream
            && record.request_id != of.request_id
    };
    let alike: Vec<Record> = others.filter(alike).collect();
    Ok(Usual::among(&alike))
}

fn read(text: &str) -> Option<Row> {
    serde_json::from_str(text).ok()
}

/// A row's JSON with where its time went by the names of records: `t_queue_ms`, `ttft_ms`, `itl` and so on, in place of
/// `detail`. Where that is not kept, there is how long it took.
pub(super) fn named(text: &str) -> String {
    let (Some(row), Ok(Value::Object(mut all))) = (read(text), serde_json::from_str(text)) else {
        return text.to_owned();
    };
    all.remove("detail");
    all.insert("t_total_ms".to_owned(), json!(row.total_us as f64 / 1000.0));
    if let Some(model) = &row.model {
        all.insert("lane".to_owned(), json!(model));
    }
    let told = row.record().and_then(|record| serde_json::to_value(&record).ok());
    if let Some(Value::Object(told)) = told {
        all.extend(told.into_iter().filter(|(name, _)| is_of_detail(name)));
    }
    Value::Object(all).to_string()
}

/// Whether a row says it in its detail alone.
fn is_of_detail(name: &str) -> bool {
    let named = ["ttft_ms", "tpot_ms", "itl", "resumed", "corrupted", "earlier_replicas"];
    named.contains(&name) || (name.starts_with("t_") && name.ends_with("_ms"))
}
