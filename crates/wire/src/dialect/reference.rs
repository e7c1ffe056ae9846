//! The pages about servers, made from the table that is used, so that they cannot say anything else.

use std::fmt::Write as _;

use super::metric::Take;
use super::{Call, Capability, Dialect, Feature, Metric, Own, Pair};

/// The overview: who can do what.
pub fn overview() -> String {
    let rows: Vec<Dialect> = known().collect();
    let mut out = "# Runtimes\n\nServers that Models can have as endpoints, by their `dialect`. `pilotage probe URL` finds out \
         which one answers somewhere. What is not known was not read up: nobody has guessed.\n\n\
         | `dialect` | Server | For | Compared with |\n|---|---|---|---|\n"
        .to_owned();
    for row in &rows {
        let row = row.differences();
        let checked = row.checked.unwrap_or("–");
        let _ = writeln!(
            out,
            "| [`{}`]({}.md) | {} | {} | {checked} |",
            row.name, row.name, row.title, row.about
        );
    }
    out.push_str("\n## What they can do\n\n| |");
    for row in &rows {
        let _ = write!(out, " {} |", row.title());
    }
    let _ = write!(out, "\n|---|{}", "---|".repeat(rows.len()));
    for capability in Capability::ALL {
        let _ = write!(out, "\n| {} |", capability.title());
        for row in &rows {
            let told = row.differences().capabilities.get(capability).support.told();
            let _ = write!(out, " {told} |");
        }
    }
    out.push('\n');
    out
}

/// The page about one server.
pub fn page(dialect: Dialect) -> String {
    let row = dialect.differences();
    let mut out = format!("# {}\n\nFor {}.\n\n", row.title, row.about);
    let _ = writeln!(out, "`dialect: {}`. Read in: {}.", row.name, row.source);
    if let Some(checked) = row.checked {
        let _ = writeln!(out, "Newest version that was compared: {checked}.");
    }
    paths(dialect, &mut out);
    api(dialect, &mut out);
    let _ =
        write!(out, "\n## What it can do\n\n| | | What to know | Read in |\n|---|---|---|---|\n");
    for capability in Capability::ALL {
        let feature = row.capabilities.get(capability);
        feature_row(capability.title(), feature, &mut out);
    }
    metrics(row.metrics, &mut out);
    for (title, pair) in [("Adapters at run time", row.adapters), ("Sleep and wake", row.sleep)] {
        if let Some(Pair { on, off }) = pair {
            let _ = write!(out, "\n## {title}\n\n{}\n{}\n", call(&on), call(&off));
        }
    }
    faults(dialect, &mut out);
    out.push_str("\n## What surprises\n\n");
    for quirk in row.quirks {
        let _ = writeln!(out, "- {quirk}.");
    }
    out
}

/// Those with a page.
pub fn known() -> impl Iterator<Item = Dialect> {
    Dialect::ALL.into_iter().filter(|dialect| *dialect != Dialect::Auto)
}

fn paths(dialect: Dialect, out: &mut String) {
    let paths = &dialect.differences().paths;
    let rows = [
        ("Whether it is well", Some(paths.health)),
        ("The same, by computing something", paths.ready),
        ("Metrics", paths.metrics),
        ("Models", paths.models),
        ("Version", paths.version),
        ("How it is set up", paths.info),
    ];
    out.push_str("\n## Where it tells about itself\n\n| | |\n|---|---|\n");
    for (what, path) in rows {
        let Some(path) = path else { continue };
        let port = paths.metrics_port.filter(|_| what == "Metrics");
        let port = port.map(|port| format!(", port {port}")).unwrap_or_default();
        let _ = writeln!(out, "| {what} | `{path}`{port} |");
    }
}

fn api(dialect: Dialect, out: &mut String) {
    let api = &dialect.differences().api;
    out.push_str("\n## API\n\n| Path | | What to know | Read in |\n|---|---|---|---|\n");
    for route in api.openai {
        feature_row(&format!("`{}`", route.path), &route.feature, out);
    }
    let Some(own) = api.own else { return };
    let path = match own {
        Own::Triton => "POST /v2/models/NAME/generate` and `generate_stream",
        Own::DeepSpeed => "POST /mii/NAME",
        Own::Tgi => "POST /generate` and `/generate_stream",
        Own::Ollama => "POST /api/chat` and `/api/generate",
    };
    let when = if api.is_only_own {
        "clients ask for completions as ever, and the gateway tells them in it; chats, and what it has no words for, get status 400"
    } else {
        "not used by the gateway, which asks in OpenAI's"
    };
    let _ = writeln!(out, "\nIts own API is `{path}`: {when}.");
}

fn feature_row(what: &str, feature: &Feature, out: &mut String) {
    let Feature { support, note, source } = feature;
    let _ = writeln!(out, "| {what} | {} | {note} | {source} |", support.told());
}

fn metrics(metrics: &[Metric], out: &mut String) {
    out.push_str("\n## Metrics\n\n");
    if metrics.is_empty() {
        out.push_str("None: how full it is follows from what was sent there.\n");
        return;
    }
    out.push_str("| Name | Means | Of several samples | | What to know | Read in |\n|---|---|---|---|---|---|\n");
    for metric in metrics {
        let only = metric.only.map(|(label, value)| format!("{{{label}=\"{value}\"}}"));
        let Feature { support, note, source } = metric.feature;
        let until = metric.until.map(|until| format!(", until {until}")).unwrap_or_default();
        let _ = writeln!(
            out,
            "| `{}{}` | {} | {} | {}{until} | {note} | {source} |",
            metric.name,
            only.unwrap_or_default(),
            metric.meaning.title(),
            taken(metric.take),
            support.told(),
        );
    }
}

fn taken(take: Take) -> String {
    match take {
        Take::Sum => "sum".to_owned(),
        Take::Max => "largest".to_owned(),
        Take::Histogram => "`_sum` and `_count`".to_owned(),
        Take::LabelSum(label) => format!("sum of the label `{label}`"),
        Take::LabelMax(label) => format!("largest label `{label}`"),
        Take::LabelNewest(label) => format!("newest label `{label}`"),
    }
}

fn call(call: &Call) -> String {
    let body = if call.body.is_empty() { String::new() } else { format!(" with `{}`", call.body) };
    format!("- `{} {}`{body}", call.method, call.path)
}

fn faults(dialect: Dialect, out: &mut String) {
    out.push_str("\n## How it says what is wrong\n\n");
    for marked in dialect.differences().faults {
        let again =
            if marked.fault.is_retryable() { "tried elsewhere" } else { "the client's answer" };
        let _ = write!(
            out,
            "- {} ({again}), status {}, from {}:\n\n  ```text\n  {}\n  ```\n",
            marked.fault.name(),
            marked.status,
            marked.source,
            marked.body
        );
    }
}
