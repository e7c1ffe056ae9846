//! What crates registered with `prometheus-client` itself, read back from the text that it writes, so that
//! one scrape holds all. It writes protobuf too, but wants a compiler of schemas for that, and thirty
//! more crates, where the text of our own process takes a page to read.

use super::model::{Bucket, Family, Histogram, Kind, LabelPair, Metric, Number};

/// Families of OpenMetrics text. Examples are left out: who has some has a histogram of ours.
pub(super) fn families(text: &str) -> Vec<Family> {
    let mut families: Vec<Family> = Vec::new();
    let mut help = "";
    for line in text.lines() {
        if let Some(rest) = line.strip_prefix("# HELP ") {
            help = rest.split_once(' ').map_or("", |(_, help)| help);
        } else if let Some(rest) = line.strip_prefix("# TYPE ") {
            let (name, kind) = rest.split_once(' ').unwrap_or((rest, "unknown"));
            families.push(family(name, help, kind));
        } else if !line.starts_with('#')
            && let Some(family) = families.last_mut()
            && let Some(sample) = sample(line)
        {
            add(family, sample);
        }
    }
    families
}

fn family(name: &str, help: &str, kind: &str) -> Family {
    let (suffix, kind) = match kind {
        "counter" => ("_total", Kind::Counter),
        "gauge" => ("", Kind::Gauge),
        "histogram" => ("", Kind::Histogram),
        "info" => ("_info", Kind::Gauge),
        _ => ("", Kind::Untyped),
    };
    let help = help.replace("\\n", "\n").replace("\\\"", "\"").replace("\\\\", "\\");
    Family { name: format!("{name}{suffix}"), help, kind: kind as i32, metric: Vec::new() }
}

struct Line<'a> {
    name: &'a str,
    label: Vec<LabelPair>,
    value: f64,
}

fn add(family: &mut Family, line: Line<'_>) {
    let number = Some(Number { value: line.value });
    let metric = Metric { label: line.label, ..Default::default() };
    match Kind::try_from(family.kind) {
        Ok(Kind::Counter) => family.metric.push(Metric { counter: number, ..metric }),
        Ok(Kind::Gauge) => family.metric.push(Metric { gauge: number, ..metric }),
        Ok(Kind::Histogram) => {
            let part = line.name.strip_prefix(&*family.name).unwrap_or_default();
            add_part(&mut family.metric, part, metric.label, line.value);
        }
        _ => family.metric.push(Metric { untyped: number, ..metric }),
    }
}

/// The lines of one histogram come one after another, in whatever order.
fn add_part(metrics: &mut Vec<Metric>, part: &str, mut label: Vec<LabelPair>, value: f64) {
    let le = label.iter().position(|pair| pair.name == "le").map(|at| label.remove(at).value);
    if metrics.last().is_none_or(|last| last.label != label) {
        metrics.push(Metric { label, histogram: Some(Histogram::default()), ..Default::default() });
    }
    let last = metrics.last_mut().and_then(|last| last.histogram.as_mut());
    let Some(histogram) = last else { return };
    // Counts are whole numbers that an f64 holds exactly.
    let count = value as u64;
    match (part, le.and_then(|le| le.parse().ok())) {
        ("_sum", _) => histogram.sample_sum = value,
        ("_count", _) => histogram.sample_count = count,
        ("_bucket", Some(upper_bound)) => {
            histogram.bucket.push(Bucket { cumulative_count: count, upper_bound, exemplar: None });
        }
        _ => {}
    }
}

/// `name{label="value",…} number`.
fn sample(line: &str) -> Option<Line<'_>> {
    let end = line.find(['{', ' '])?;
    let (name, mut rest) = line.split_at(end);
    let mut label = Vec::new();
    if let Some(inner) = rest.strip_prefix('{') {
        rest = inner;
        while !rest.starts_with('}') {
            rest = rest.trim_start_matches(',');
            let (name, after) = rest.split_once("=\"")?;
            let (value, after) = quoted(after)?;
            label.push(LabelPair { name: name.to_owned(), value });
            rest = after;
        }
        rest = &rest[1..];
    }
    let value = rest.split_whitespace().next()?;
    Some(Line { name, label, value: value.parse().ok()? })
}

/// What stands before the closing quote, and what comes after that.
fn quoted(text: &str) -> Option<(String, &str)> {
    let mut value = String::new();
    let mut chars = text.char_indices();
    while let Some((at, char)) = chars.next() {
        match char {
            '"' => return Some((value, &text[at + 1..])),
            '\\' => match chars.next()?.1 {
                'n' => value.push('\n'),
                other => value.push(other),
            },
            other => value.push(other),
        }
    }
    None
}
