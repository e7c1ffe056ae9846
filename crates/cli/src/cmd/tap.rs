//! `pilotage tap`: requests as they end.

use pilotage_shell::date;
use serde_json::Value;

use crate::admin::{Admin, query};
use crate::args::{Only, Tap};
use crate::cmd::why::ms;
use crate::output::{self, Format, list};

/// Prints them, until there were enough.
pub(crate) async fn run(args: Tap) -> anyhow::Result<()> {
    let admin = Admin::new(&args.reach)?;
    let asked = asked(&args.only);
    let mut lines = admin.follow(&format!("/records/stream{}", query(asked.clone()))).await?;
    let mut left = args.count.unwrap_or(u64::MAX);
    if args.output == Format::Table {
        output::line(&head());
    }
    if args.last > 0 {
        let limit = ("limit", Some(args.last.to_string()));
        let page =
            admin.get(&format!("/records{}", query(asked.into_iter().chain([limit])))).await?;
        for record in list(&page["records"]).iter().rev().take(usize::try_from(left)?) {
            show(record, args.output);
            left -= 1;
        }
    }
    while left > 0 {
        let line = tokio::select! {
            line = lines.next() => line?,
            _ = tokio::signal::ctrl_c() => return Ok(()),
        };
        let Some(line) = line else {
            output::note("the gateway ended the stream: it is stopping");
            return Ok(());
        };
        let Ok(record) = serde_json::from_str::<Value>(&line) else { continue };
        if let Some(missed) = record["missed"].as_u64() {
            output::note(&format!(
                "{missed} requests were missed: they end faster than they are read"
            ));
            continue;
        }
        show(&record, args.output);
        left -= 1;
    }
    Ok(())
}

fn asked(only: &Only) -> Vec<(&'static str, Option<String>)> {
    vec![
        ("tenant", only.tenant.clone()),
        ("model", only.model.clone()),
        ("replica", only.replica.clone()),
        ("band", only.band.clone()),
        ("termination", only.termination.clone()),
        ("min_ms", only.min_ms.map(|ms| ms.to_string())),
    ]
}

fn show(record: &Value, format: Format) {
    match format {
        Format::Json => output::line(&record.to_string()),
        Format::Table => output::line(&line(record)),
    }
}

fn head() -> String {
    columns(["TIME", "ID", "TENANT", "MODEL", "REPLICA", "ENDED", "FIRST", "WHOLE", "IN", "OUT"])
}

fn line(record: &Value) -> String {
    let name = |field: &str| record[field].as_str().unwrap_or("-").to_owned();
    let time = |field: &str| record[field].as_f64().map_or_else(|| "-".to_owned(), ms);
    let at = record["unix_ms"].as_u64().unwrap_or(0) / 1000;
    let at = date::utc(at);
    let at = at.get(11..19).unwrap_or("-");
    let ended = match (name("termination").as_str(), record["status"].as_u64().unwrap_or(0)) {
        ("ok", status) => status.to_string(),
        (other, _) => other.to_owned(),
    };
    columns([
        at,
        &name("request_id"),
        &name("tenant_path"),
        &name("lane"),
        &name("replica"),
        &ended,
        &time("ttft_ms"),
        &time("t_total_ms"),
        &record["input"].to_string(),
        &record["output"].to_string(),
    ])
}

/// Columns of a width that most of what is in them has: a stream cannot know the widest.
fn columns(cells: [&str; 10]) -> String {
    const WIDTHS: [usize; 10] = [8, 36, 18, 16, 16, 14, 8, 8, 6, 6];
    let padded = cells.iter().zip(WIDTHS).map(|(cell, width)| format!("{cell:width$}"));
    padded.collect::<Vec<_>>().join("  ").trim_end().to_owned()
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn a_line_has_what_people_ask_for() {
        let record = json!({
            "unix_ms": 1_795_231_523_007_u64, "request_id": "abc", "tenant_path": "company/team",
            "lane": "m", "replica": "m-0", "termination": "ok", "status": 200,
            "ttft_ms": 12.345, "t_total_ms": 2345.6, "input": 10, "output": 20,
        });
        let shown = line(&record);
        for part in ["03:25:23", "abc", "company/team", "m-0", "200", "12 ms", "2.3 s", "20"] {
            assert!(shown.contains(part), "{part}: {shown}");
        }
        let failed = json!({"termination": "upstream_error", "status": 502});
        assert!(line(&failed).contains("upstream_error"));
    }
}
