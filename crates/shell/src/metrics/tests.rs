//! What is registered, and what scrapers of each format get of it.

use prometheus_client::encoding::EncodeLabelSet;
use prometheus_client::metrics::family::Family as ClientFamily;
use prometheus_client::metrics::histogram::Histogram as ClientHistogram;
use proptest::prelude::*;

use super::*;

const LANE: Labels = Labels::names(&["lane"]);

fn text(metrics: &Metrics, accept: &str) -> String {
    String::from_utf8(metrics.expose(Some(accept)).body.to_vec()).unwrap()
}

fn protobuf(metrics: &Metrics) -> Vec<model::Family> {
    let accept = "application/vnd.google.protobuf;proto=io.prometheus.client.MetricFamily;encoding=delimited";
    let exposition = metrics.expose(Some(accept));
    assert!(exposition.content_type.starts_with("application/vnd.google.protobuf;"));
    let mut body = exposition.body;
    let mut families = Vec::new();
    while !body.is_empty() {
        families.push(model::Family::decode_length_delimited(&mut body).unwrap());
    }
    families
}

#[test]
fn what_is_registered_is_written_and_described() {
    let metrics = Metrics::new();
    let counter = metrics.register("pilotage_things", "Things seen.", Counter::<u64>::default());
    counter.inc();
    let own = metrics.family::<Counter>(About::new("pilotage_own", "Ours", LANE));
    own.get(&["a"], &[]).inc_by(2);
    let text = metrics.encode();
    assert!(text.contains("# TYPE pilotage_things counter\npilotage_things_total 1\n"), "{text}");
    assert!(text.contains("# HELP pilotage_own Ours.\n# TYPE pilotage_own counter\npilotage_own_total{lane=\"a\"} 2\n"), "{text}");
    assert!(text.ends_with("# EOF\n"));
    let described = metrics.described();
    let of = |name: &str| described.iter().find(|each| each.name == name).unwrap();
    assert_eq!((of("pilotage_things").kind, of("pilotage_own").kind), ("counter", "counter"));
    assert_eq!(of("pilotage_own").labels, ["lane"]);
    let plain = String::from_utf8(metrics.expose(None).body.to_vec()).unwrap();
    assert!(
        plain.contains("# TYPE pilotage_own_total counter\npilotage_own_total{lane=\"a\"} 2\n")
    );
    assert!(!plain.contains("# EOF"), "what 0.0.4 does not have");
}

#[derive(Clone, Debug, EncodeLabelSet, Eq, Hash, PartialEq)]
struct Quoted {
    said: String,
}

#[test]
fn what_others_register_is_the_same_in_every_format() {
    let metrics = Metrics::new();
    let said = "a \"b\", c=\"d\"} 5 # {\\n\nnext";
    let labels = Quoted { said: said.to_owned() };
    let counters = ClientFamily::<Quoted, Counter>::default();
    counters.get_or_create(&labels).inc_by(7);
    metrics.register("quoted", "A \\ and more", counters);
    let histograms =
        ClientFamily::<Quoted, ClientHistogram, fn() -> ClientHistogram>::new_with_constructor(
            || ClientHistogram::new([0.5, 1.0]),
        );
    histograms.get_or_create(&labels).observe(0.7);
    metrics.register("sizes", "Sizes", histograms);
    let gauge = metrics.register("share", "Share", Measure::default());
    gauge.set(0.25);

    let families = protobuf(&metrics);
    let of = |name: &str| families.iter().find(|each| each.name == name).unwrap();
    let counted = &of("quoted_total").metric[0];
    assert_eq!(counted.label[0].value, said);
    assert_eq!(counted.counter.unwrap().value, 7.0);
    assert_eq!(of("share").metric[0].gauge.unwrap().value, 0.25);
    let sizes = &of("sizes").metric[0];
    assert_eq!(sizes.label.len(), 1);
    let histogram = sizes.histogram.as_ref().unwrap();
    let buckets: Vec<_> =
        histogram.bucket.iter().map(|each| (each.upper_bound, each.cumulative_count)).collect();
    assert_eq!(buckets, [(0.5, 0), (1.0, 1), (f64::INFINITY, 1)]);
    assert_eq!((histogram.sample_count, histogram.sample_sum), (1, 0.7));

    // What is written is read as the same again.
    let again = read::families(&metrics.encode());
    let shares = |all: &[model::Family], name: &str| {
        all.iter().find(|each| each.name == name).unwrap().metric.clone()
    };
    assert_eq!(shares(&again, "quoted_total"), shares(&families, "quoted_total"));
    assert_eq!(shares(&again, "sizes"), shares(&families, "sizes"));
}

#[test]
fn a_histogram_has_examples_in_openmetrics_and_native_buckets_in_protobuf() {
    let metrics = Metrics::new();
    let about = About::new("took_seconds", "How long it took", LANE);
    let family = metrics.histograms(about, &TTFT_SECONDS);
    let example = Example { unix_ms: 1_700_000_000_250, trace_id: 0xabc };
    let series = family.get(&["a"], &[]);
    series.observe_example(0.3, Some(example));
    series.observe(70.0);

    let open = text(&metrics, "application/openmetrics-text; version=1.0.0");
    let line = format!(
        "took_seconds_bucket{{lane=\"a\",le=\"0.3\"}} 1 # {{trace_id=\"{:032x}\"}} 0.3 1700000000.250\n",
        0xabc
    );
    assert!(open.contains(&line), "{open}");
    assert!(open.contains("took_seconds_bucket{lane=\"a\",le=\"1.0\"} 1\n"), "{open}");
    assert!(open.contains("took_seconds_bucket{lane=\"a\",le=\"+Inf\"} 2\n"), "{open}");
    assert!(!text(&metrics, "text/plain").contains("trace_id"));
    let labels = format!("trace_id{:032x}", u128::MAX);
    assert!(labels.chars().count() <= 128, "more is not allowed in an example");

    let families = protobuf(&metrics);
    let family = families.iter().find(|each| each.name == "took_seconds").unwrap();
    let histogram = family.metric[0].histogram.as_ref().unwrap();
    assert_eq!(histogram.schema, 3);
    assert_eq!(histogram.positive_span.iter().map(|span| span.length).sum::<u32>(), 2);
    assert!(
        histogram.zero_threshold > 0.0,
        "by which scrapers know it, before anything is counted"
    );
    assert_eq!(histogram.bucket.len(), TTFT_SECONDS.len() + 1);
}

#[test]
fn hostile_names_are_one_series() {
    let metrics = Metrics::new();
    let about = About::new("things", "Things", LANE).at_most(5);
    let family = metrics.family::<Counter>(about);
    let long = "x".repeat(10_000);
    for name in ["", "a\nb 1", "a\"b", "a\\b", "日本", "\u{7f}", &long] {
        family.get(&[name], &[]).inc();
    }
    let text = metrics.encode();
    assert!(text.contains("things_total{lane=\"_other\"} 7\n"), "{text}");
    assert_eq!(text.matches("things_total{").count(), 1, "{text}");
}

#[test]
fn names_beyond_the_limit_are_added_up() {
    let metrics = Metrics::new();
    let labels = Labels::new(&["tenant"], &["type"]);
    let family = metrics.family::<Counter>(About::new("tokens", "Tokens", labels).at_most(3));
    for number in 0..10_000 {
        for word in ["input", "output"] {
            family.get(&[&format!("tenant-{number}")], &[word]).inc();
        }
    }
    let text = metrics.encode();
    assert_eq!(text.matches("tokens_total{").count(), 8, "three names, `_other`, two words each");
    assert!(text.contains("tokens_total{tenant=\"_other\",type=\"input\"} 9997\n"), "{text}");
    // Where somebody goes, there is room for somebody else.
    family.remove(&["tenant-1"]);
    family.get(&["new"], &["input"]).inc();
    let text = metrics.encode();
    assert!(!text.contains("tenant-1"), "{text}");
    assert!(text.contains("tenant=\"_other\""), "{text}");
    family.remove(&["_other"]);
    assert!(metrics.encode().contains("tenant=\"_other\""), "it is nobody's to take");
}

#[test]
fn of_two_names_that_are_too_many_the_first_stays() {
    let metrics = Metrics::new();
    let labels = Labels::new(&["lane", "replica"], &["fault"]);
    let family = metrics.family::<Counter>(About::new("faults", "Faults", labels).at_most(2));
    for (lane, replica) in [("a", "1"), ("a", "2"), ("a", "3"), ("b", "1"), ("b", "2")] {
        family.get(&[lane, replica], &["reset"]).inc();
    }
    let text = metrics.encode();
    for line in [
        "faults_total{lane=\"a\",replica=\"2\",fault=\"reset\"} 1",
        "faults_total{lane=\"a\",replica=\"_other\",fault=\"reset\"} 1",
        "faults_total{lane=\"b\",replica=\"_other\",fault=\"reset\"} 2",
    ] {
        assert!(text.lines().any(|known| known == line), "{line} is not in\n{text}");
    }
    assert_eq!(text.matches("faults_total{").count(), 4, "{text}");
    // However many lanes there are.
    for number in 0..1000 {
        family.get(&[&format!("lane-{number}"), "1"], &["reset"]).inc();
    }
    assert!(metrics.encode().matches("faults_total{").count() <= 5);
}

#[test]
fn what_ends_late_brings_nothing_back() {
    let metrics = Metrics::new();
    let labels = Labels::new(&["lane", "replica"], &["fault"]);
    let family = metrics.family::<Counter>(About::new("faults", "Faults", labels));
    drop(family.get(&["a", "_other"], &["reset"]));
    family.enter(&["a", "1"]);
    assert_eq!(metrics.encode().matches("faults_total{").count(), 1, "nothing is known of it");
    let count = || family.of(&["a", "1"], &["reset"]).inc();
    count();
    family.keep(|names| &*names[1] == "_other");
    count();
    family.remove(&["a"]);
    count();
    let text = metrics.encode();
    assert!(
        text.contains("faults_total{lane=\"_other\",replica=\"_other\",fault=\"reset\"} 1\n"),
        "{text}"
    );
    assert_eq!(text.matches("faults_total{").count(), 1, "{text}");
}

#[test]
fn gauges_that_are_too_many_are_added_up_and_leave() {
    let metrics = Metrics::new();
    let labels = Labels::names(&["lane", "replica"]);
    let family = metrics.family::<Level>(About::new("held", "Held", labels).at_most(3));
    let lines = || {
        let text = metrics.encode();
        let own = text.lines().filter_map(|line| line.strip_prefix("held{lane=\"a\",replica="));
        own.map(str::to_owned).collect::<Vec<_>>()
    };
    let names: Vec<String> = (2..9).map(|number| format!("r{number}")).collect();
    let rows = |from: usize| names[from..].iter().map(|name| (["a", name.as_str()], 10));
    family.show(rows(0));
    assert_eq!(lines(), ["\"_other\"} 40", "\"r2\"} 10", "\"r3\"} 10", "\"r4\"} 10"]);
    // Who has a series keeps it when somebody else comes, whatever the order.
    family.show(rows(0).chain([(["a", "r1"], 5)]));
    assert_eq!(lines()[0], "\"_other\"} 45");
    assert_eq!(lines().len(), 4);
    // Where somebody goes, there is room; and without others there is no sum of them.
    family.show(rows(2));
    assert_eq!(lines(), ["\"_other\"} 20", "\"r4\"} 10", "\"r5\"} 10", "\"r6\"} 10"]);
    family.show(rows(4));
    assert_eq!(lines(), ["\"r6\"} 10", "\"r7\"} 10", "\"r8\"} 10"]);
    family.show([(["a", "no\nname"], 1), (["a", "nor\nthis"], 2), (["a", "r6"], 1)]);
    assert_eq!(lines(), ["\"_other\"} 3", "\"r6\"} 1"]);
    family.show::<2>([]);
    assert!(lines().is_empty());
}

#[test]
fn a_family_goes_with_the_first_of_its_names() {
    let metrics = Metrics::new();
    let labels = Labels::names(&["lane", "replica"]);
    let family = metrics.family::<Level>(About::new("held", "Held", labels));
    for (lane, replica) in [("a", "1"), ("a", "2"), ("b", "1")] {
        family.get(&[lane, replica], &[]).set(1);
    }
    family.keep(|names| &*names[1] != "2");
    assert_eq!(metrics.encode().matches("held{").count(), 2);
    family.remove(&["a"]);
    let text = metrics.encode();
    assert!(text.contains("held{lane=\"b\",replica=\"1\"} 1\n"), "{text}");
    assert_eq!(text.matches("held{").count(), 1);
    family.remove(&["b", "1"]);
    assert!(!metrics.encode().contains("held"), "without a series there is no family");
}

#[test]
fn an_alias_is_the_same_under_another_name() {
    let metrics = Metrics::new();
    let labels = Labels::new(&["lane"], &["how"]);
    let family = metrics.family::<Counter>(About::new("ended", "Ended", labels));
    for how in ["ok", "bad", "worse"] {
        family.get(&["a"], &[how]).inc();
    }
    let relabel: Relabel = |name, value| match (name, value) {
        ("lane", _) => Relabelled::As(&["model_name", "target"]),
        (_, "ok") => Relabelled::NoSeries,
        _ => Relabelled::LeftOut,
    };
    let about = About::new("errors", "Errors", Labels::names(&["model_name", "target"]));
    metrics.alias(about, &family, relabel, &[("job", "x")]);
    let text = metrics.encode();
    assert!(text.contains("errors_total{model_name=\"a\",target=\"a\",job=\"x\"} 2\n"), "{text}");
}

proptest! {
    #[test]
    fn whatever_names_are_there_is_one_line_for_each_series(names in proptest::collection::vec(".*", 1..20)) {
        let metrics = Metrics::new();
        let family = metrics.family::<Counter>(About::new("things", "Things", LANE).at_most(4));
        for name in &names {
            family.get(&[name], &[]).inc();
        }
        let text = metrics.encode();
        let own: Vec<&str> = text.lines().filter(|line| line.starts_with("things_total{")).collect();
        prop_assert!(own.len() <= 5);
        let sum: u64 = own.iter().map(|line| line.rsplit(' ').next().unwrap().parse::<u64>().unwrap()).sum();
        prop_assert_eq!(sum, names.len() as u64);
        let own = |line: &str| line.starts_with("# ") || line.starts_with("things_total{") || line.starts_with("process_") || line == "# EOF";
        prop_assert!(text.lines().all(own), "{}", text);
    }
}
