//! `pilotage usage`: what the ledger of a running gateway says.

use serde_json::{Value, json};

use crate::admin::{Admin, escaped};
use crate::args::{
    Usage, UsageBudgets, UsageCommand, UsageCost, UsageFormat, UsageRows, UsageSums, UsageWhen,
};
use crate::output::{self, list, text};

/// Rows of one page.
const PAGE: u64 = 1000;

/// Columns of sums behind what they are grouped by: names in the answer, and for people.
const SUMS: [(&str, &str); 9] = [
    ("requests", "REQUESTS"),
    ("input_tokens", "IN"),
    ("cached_tokens", "CACHED"),
    ("output_tokens", "OUT"),
    ("reasoning_tokens", "REASONING"),
    ("gpu_seconds", "GPU S"),
    ("kv_token_seconds", "KV TOKEN S"),
    ("price", "PRICE"),
    ("cost", "COST"),
];

const ROWS: [(&str, &str); 9] = [
    ("unix_ms", "ENDED"),
    ("request_id", "REQUEST"),
    ("tenant", "TENANT"),
    ("model", "MODEL"),
    ("termination", "END"),
    ("input_tokens", "IN"),
    ("cached_tokens", "CACHED"),
    ("output_tokens", "OUT"),
    ("total_us", "TOOK"),
];

const COST: [(&str, &str); 5] = [
    ("tenant", "TENANT"),
    ("usage", "USED"),
    ("reserved", "RESERVED"),
    ("idle", "IDLE"),
    ("total", "TOTAL"),
];

const BUDGETS: [(&str, &str); 7] = [
    ("tenant", "TENANT"),
    ("window", "WINDOW"),
    ("until", "UNTIL"),
    ("limit", "LIMIT"),
    ("spent", "SPENT"),
    ("forecast", "FORECAST"),
    ("exhausted_at", "USED UP"),
];

/// Prints what was asked.
pub(crate) async fn run(args: Usage) -> anyhow::Result<()> {
    match args.command {
        None => sums(args.sums).await,
        Some(UsageCommand::Rows(args)) => rows(args).await,
        Some(UsageCommand::Cost(args)) => cost(args).await,
        Some(UsageCommand::Budgets(args)) => budgets(args).await,
    }
}

async fn sums(args: UsageSums) -> anyhow::Result<()> {
    let mut path = Path::new("/usage");
    path.add("by", Some(&args.by));
    path.when(&args.when);
    path.add("tenant", args.of.tenant.as_deref());
    path.add("model", args.of.model.as_deref());
    let told = Admin::new(&args.reach)?.get(&path.0).await?;
    if args.output == UsageFormat::Json {
        return output::json(&told);
    }
    let by: Vec<String> = list(&told["by"]).iter().map(text).collect();
    let mut columns: Vec<(&str, String)> =
        by.iter().map(|name| (name.as_str(), name.to_uppercase())).collect();
    columns.extend(SUMS.map(|(name, head)| (name, head.to_owned())));
    let rows = list(&told["rows"]);
    if args.output == UsageFormat::Table && rows.is_empty() {
        output::line(&format!(
            "nothing was used from {} to {}",
            text(&told["from"]),
            text(&told["to"])
        ));
        output::hint("`pilotage usage --from 365d` looks further back");
        return Ok(());
    }
    let mut all = rows.to_vec();
    if args.output == UsageFormat::Table && rows.len() > 1 && !by.is_empty() {
        let mut total = told["total"].clone();
        total[by[0].as_str()] = json!("total");
        all.push(total);
    }
    show(args.output, &columns, &all);
    Ok(())
}

async fn rows(args: UsageRows) -> anyhow::Result<()> {
    let admin = Admin::new(&args.reach)?;
    let mut path = Path::new("/usage/rows");
    path.when(&args.when);
    path.add("tenant", args.of.tenant.as_deref());
    path.add("model", args.of.model.as_deref());
    path.add("id", args.id.as_deref());
    let mut found: Vec<Value> = Vec::new();
    let mut after: Option<String> = None;
    loop {
        let mut page = Path(path.0.clone());
        let limit = PAGE.min(args.limit - found.len() as u64);
        page.add("limit", Some(&limit.to_string()));
        page.add("after", after.as_deref());
        let told = admin.get(&page.0).await?;
        found.extend(list(&told["rows"]).iter().cloned());
        after = told["next"].as_str().map(str::to_owned);
        if after.is_none() || found.len() as u64 >= args.limit {
            break;
        }
    }
    match args.output {
        UsageFormat::Json => output::json(&json!({"rows": found, "next": after})),
        format => {
            if format == UsageFormat::Table {
                found.iter_mut().for_each(readable);
            }
            show(format, &ROWS, &found);
            Ok(())
        }
    }
}

async fn cost(args: UsageCost) -> anyhow::Result<()> {
    let mut path = Path::new("/usage/cost");
    path.when(&args.when);
    let told = Admin::new(&args.reach)?.get(&path.0).await?;
    match args.output {
        UsageFormat::Json => return output::json(&told),
        UsageFormat::Csv => show(args.output, &COST, list(&told["tenants"])),
        UsageFormat::Table => {
            let mut all = list(&told["tenants"]).to_vec();
            for (name, what) in [("overhead", "(overhead)"), ("unshared", "(nobody)")] {
                if told[name] != "0" {
                    all.push(json!({"tenant": what, "total": told[name]}));
                }
            }
            all.push(
                json!({"tenant": "total", "usage": told["usage"], "reserved": told["reserved"],
                "idle": told["idle"], "total": told["bill"]}),
            );
            show(args.output, &COST, &all);
            if told["bill"] == "0" {
                output::hint(
                    "a Fleet's `pricePerHour` or a file that PILOTAGE_PRICE_BOOK names says what replicas cost",
                );
            }
        }
    }
    Ok(())
}

async fn budgets(args: UsageBudgets) -> anyhow::Result<()> {
    let told = Admin::new(&args.reach)?.get("/usage/budgets").await?;
    match args.output {
        UsageFormat::Json => return output::json(&told),
        UsageFormat::Table if list(&told).is_empty() => {
            output::line("no tenant has a budget");
            output::hint("a Tenant gets one with `quota.budget`");
        }
        format => show(format, &BUDGETS, list(&told)),
    }
    Ok(())
}

/// A path with its parameters.
struct Path(String);

impl Path {
    fn new(path: &str) -> Self {
        Self(path.to_owned())
    }

    fn add(&mut self, name: &str, value: Option<&str>) {
        let Some(value) = value else { return };
        let first = if self.0.contains('?') { '&' } else { '?' };
        self.0.push_str(&format!("{first}{name}={}", escaped(value)));
    }

    fn when(&mut self, when: &UsageWhen) {
        self.add("from", when.from.as_deref());
        self.add("to", when.to.as_deref());
    }
}

/// Times for people.
fn readable(row: &mut Value) {
    let ended = row["unix_ms"].as_u64().unwrap_or_default();
    row["unix_ms"] = json!(pilotage_shell::date::utc(ended / 1000));
    let took = row["total_us"].as_u64().unwrap_or_default();
    row["total_us"] = json!(format!("{:.3} s", took as f64 / 1e6));
}

fn show(format: UsageFormat, columns: &[(&str, impl AsRef<str>)], rows: &[Value]) {
    match format {
        UsageFormat::Csv => {
            let names: Vec<String> = columns.iter().map(|(name, _)| (*name).to_owned()).collect();
            output::line(&names.join(","));
            for row in rows {
                let cells: Vec<String> =
                    columns.iter().map(|(name, _)| cell(&row[*name])).collect();
                output::line(&cells.join(","));
            }
        }
        UsageFormat::Table | UsageFormat::Json => {
            let heads: Vec<&str> = columns.iter().map(|(_, head)| head.as_ref()).collect();
            let shown = |value: &Value| match value {
                Value::Null => "-".to_owned(),
                value => text(value)
                    .chars()
                    .map(|one| if one.is_control() { '?' } else { one })
                    .collect(),
            };
            let rows: Vec<Vec<String>> = rows
                .iter()
                .map(|row| columns.iter().map(|(name, _)| shown(&row[*name])).collect())
                .collect();
            output::table(&heads, &rows);
        }
    }
}

/// A cell of CSV as of RFC 4180. What a spreadsheet would take for a formula gets an apostrophe before it.
fn cell(value: &Value) -> String {
    let Value::String(name) = value else {
        return if value.is_null() { String::new() } else { value.to_string() };
    };
    let formula = name.starts_with(['=', '+', '-', '@', '\t', '\r']);
    match formula || name.contains(['"', ',', '\n', '\r']) {
        true => format!("\"{}{}\"", if formula { "'" } else { "" }, name.replace('"', "\"\"")),
        false => name.clone(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn cells_are_numbers_or_quoted_names() {
        let check = |value: Value, expect: &str| assert_eq!(cell(&value), expect);
        check(json!(1.5), "1.5");
        check(json!(null), "");
        check(json!("a,\"b\""), "\"a,\"\"b\"\"\"");
        check(json!("=1+1"), "\"'=1+1\"");
    }

    #[test]
    fn parameters_are_escaped() {
        let mut path = Path::new("/usage");
        path.add("tenant", Some("a&b=c d"));
        path.add("model", None);
        path.add("from", Some("7d"));
        assert_eq!(path.0, "/usage?tenant=a%26b%3Dc%20d&from=7d");
    }
}
