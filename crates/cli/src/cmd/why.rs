//! `pilotage why`: one request explained.

use serde_json::Value;

use crate::admin::{Admin, escaped};
use crate::args::Why;
use crate::exit::Ended;
use crate::output::{self, Format, list, text};

/// Columns of the bars.
const WIDTH: f64 = 32.0;

/// Prints why.
pub(crate) async fn run(args: Why) -> anyhow::Result<()> {
    let admin = Admin::new(&args.reach)?;
    let id = escaped(&args.id);
    let told = match admin.find(&format!("/records/{id}")).await? {
        Some(told) => Some(told),
        // The ledger remembers for longer.
        None => admin.find(&format!("/usage/why?id={id}")).await?,
    };
    let Some(told) = told else {
        output::failure(&format!(
            "no request `{}` is under way, among the last ones or in the ledger",
            args.id
        ));
        output::hint(
            "`pilotage tap` shows ids as requests end, `pilotage usage rows` those of before",
        );
        return Err(Ended(1).into());
    };
    match args.output {
        Format::Json => output::json(&told)?,
        Format::Table if told["live"].is_object() => print_live(&told["live"]),
        Format::Table if told["explanation"].is_null() => print_without(&told["record"]),
        Format::Table => print(&told["record"], &told["explanation"]),
    }
    Ok(())
}

/// A row of the ledger from before it kept where time went.
fn print_without(record: &Value) {
    output::line("Where its time went was not kept; the ledger has this of it:");
    output::line("");
    for line in facts(record) {
        output::line(&line);
    }
}

fn print(record: &Value, explanation: &Value) {
    output::line(&text(&explanation["verdict"]));
    output::line("");
    for line in facts(record) {
        output::line(&line);
    }
    output::line("");
    let rows: Vec<Vec<String>> = list(&explanation["lines"]).iter().map(row).collect();
    output::table(&["PHASE", "TOOK", "SHARE", "USUALLY", "", "WHAT"], &rows);
    for note in list(&explanation["notes"]) {
        output::line("");
        output::line(&text(note));
    }
    if let Some(hint) = explanation["hint"].as_str() {
        output::line("");
        output::hint(hint);
    }
}

/// Who, what, where.
fn facts(record: &Value) -> Vec<String> {
    let name = |field: &str| record[field].as_str().unwrap_or("-").to_owned();
    // Rows of the ledger have longer names.
    let number = |field: &str| match &record[field] {
        Value::Null => text(&record[format!("{field}_tokens")]),
        count => text(count),
    };
    let model = record["lane"].as_str().or_else(|| record["model"].as_str()).unwrap_or("-");
    let mut facts = vec![
        format!("tenant   {}, band {}", name("tenant_path"), name("band")),
        format!("model    {model} at {}", name("replica")),
        format!(
            "tokens   {} in ({} of them cached), {} out",
            number("input"),
            number("cached"),
            number("output")
        ),
        format!("trace    {}", name("trace_id")),
    ];
    if let Some(why) = record["why"].as_str() {
        facts.push(format!("placed   {why}"));
    }
    facts
}

fn row(line: &Value) -> Vec<String> {
    let share = line["share"].as_f64().unwrap_or(0.0).clamp(0.0, 1.0);
    let usual = line["usual_ms"].as_f64().map_or_else(|| "-".to_owned(), ms);
    vec![
        text(&line["phase"]),
        ms(line["ms"].as_f64().unwrap_or(0.0)),
        format!("{:.0} %", share * 100.0),
        usual,
        "█".repeat((share * WIDTH).round() as usize),
        text(&line["what"]),
    ]
}

fn print_live(live: &Value) {
    let age = ms(live["age_ms"].as_f64().unwrap_or(0.0));
    let phase = text(&live["phase"]);
    output::line(&format!("It is under way: for {age} now, in its phase {phase}."));
    output::line("");
    let phases = live["phases"].as_object().into_iter().flatten();
    let rows: Vec<Vec<String>> = phases
        .filter(|(_, took)| took.as_f64().is_some_and(|took| took > 0.0))
        .map(|(name, took)| {
            let name = name.trim_start_matches("t_").trim_end_matches("_ms");
            vec![name.to_owned(), ms(took.as_f64().unwrap_or(0.0))]
        })
        .collect();
    output::table(&["PHASE", "SO FAR"], &rows);
}

/// Milliseconds for people.
pub(super) fn ms(ms: f64) -> String {
    match ms {
        ms if ms < 10.0 => format!("{ms:.1} ms"),
        ms if ms < 1000.0 => format!("{ms:.0} ms"),
        ms if ms < 100_000.0 => format!("{:.1} s", ms / 1000.0),
        ms => format!("{:.0} s", ms / 1000.0),
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn a_row_of_the_ledger_says_what_a_record_does() {
        let record = json!({"tenant_path": "org/a", "band": "standard", "lane": "m", "replica": "m-0",
            "input": 7, "cached": 1, "output": 3, "trace_id": "ab"});
        let row = json!({"tenant_path": "org/a", "band": "standard", "model": "m", "replica": "m-0",
            "input_tokens": 7, "cached_tokens": 1, "output_tokens": 3, "trace_id": "ab"});
        assert_eq!(facts(&row), facts(&record));
        assert!(facts(&row)[2].contains("7 in (1 of them cached), 3 out"), "{:?}", facts(&row));
    }
}
