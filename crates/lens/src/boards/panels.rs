//! The boards. Queries hold Grafana's variables: `$model` and `$tenant` are regular expressions,
//! `$__rate_interval` a time.

use super::{clients, gpu, servers};

/// What a panel's numbers are, in Grafana's words.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum Unit {
    /// Seconds.
    Seconds,
    /// So many a second.
    PerSecond,
    /// A part of the whole, from 0 to 1.
    Part,
    /// A number of things.
    Count,
    /// Bytes.
    Bytes,
    /// Degrees.
    Celsius,
    /// Watts.
    Watts,
}

impl Unit {
    /// The unit's id in Grafana.
    pub const fn id(self) -> &'static str {
        match self {
            Self::Seconds => "s",
            Self::PerSecond => "cps",
            Self::Part => "percentunit",
            Self::Count => "short",
            Self::Bytes => "bytes",
            Self::Celsius => "celsius",
            Self::Watts => "watt",
        }
    }
}

/// One line, or one for each series.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct Query {
    /// In PromQL.
    pub expr: String,
    /// What a series is called, with its labels in `{{}}`.
    pub legend: &'static str,
}

/// One picture.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct Panel {
    /// Its title.
    pub title: &'static str,
    /// What it tells, and when to worry.
    pub what: &'static str,
    /// What its numbers are.
    pub unit: Unit,
    /// What it shows.
    pub queries: Vec<Query>,
}

/// A page of panels.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct Board {
    /// Its id, by which others link to it, and the name of its file.
    pub uid: &'static str,
    /// Its title.
    pub title: &'static str,
    /// The question that it answers.
    pub what: &'static str,
    /// Its panels, in order.
    pub panels: Vec<Panel>,
}

pub(super) fn panel(
    title: &'static str,
    what: &'static str,
    unit: Unit,
    queries: Vec<Query>,
) -> Panel {
    Panel { title, what, unit, queries }
}

pub(super) fn query(legend: &'static str, expr: &str) -> Query {
    Query { expr: expr.to_owned(), legend }
}

/// How fast a counter grows, by a label.
pub(super) fn rate(by: &str, counter: &str) -> String {
    format!("sum by ({by}) (rate({counter}[$__rate_interval]))")
}

/// A percentile of a histogram of lanes, whether it was scraped with classic buckets or with native ones.
fn quantile(part: &str, histogram: &str) -> String {
    let of = r#"{lane=~"$model"}"#;
    format!(
        "histogram_quantile({part}, sum by (lane, le) (rate({histogram}_bucket{of}[$__rate_interval]))) \
         or histogram_quantile({part}, sum by (lane) (rate({histogram}{of}[$__rate_interval])))"
    )
}

pub(super) fn percentiles(histogram: &str) -> Vec<Query> {
    vec![
        query("{{lane}} p50", &quantile("0.5", histogram)),
        query("{{lane}} p99", &quantile("0.99", histogram)),
    ]
}

/// All boards.
pub fn boards() -> Vec<Board> {
    vec![
        clients::overview(),
        clients::tenants(),
        servers::models(),
        servers::engines(),
        gpu::board(),
        servers::gateway(),
        clients::cost(),
    ]
}
