//! Pages of metrics, as text for Prometheus or in OpenMetrics' form, looked at several times.
//!
//! Pages may be hostile: no more than [`PAGE_BYTES_MAX`] of one is read, and of all no more than
//! [`SERIES_MAX`] series are kept. Buckets of histograms are left out: sums and counts are exact.

use std::collections::BTreeMap;

use super::series::{Point, Series};

/// Longest page that is read.
pub const PAGE_BYTES_MAX: usize = 8 << 20;

/// Most series that are kept of one source.
pub const SERIES_MAX: usize = 20_000;

/// Most points of a series.
pub const POINTS_MAX: usize = 1000;

/// Longest name, and most labels of a series.
const NAME_MAX: usize = 256;
const LABELS_MAX: usize = 32;

/// One line of a page.
#[derive(Clone, Debug, PartialEq)]
pub struct Sample {
    /// The metric.
    pub name: String,
    /// Its labels.
    pub labels: BTreeMap<String, String>,
    /// Its value.
    pub value: f64,
}

/// The samples of a page, without buckets, and without lines that are none.
pub fn samples(page: &str) -> impl Iterator<Item = Sample> + '_ {
    let mut end = page.len().min(PAGE_BYTES_MAX);
    while !page.is_char_boundary(end) {
        end -= 1;
    }
    let whole = page.get(..end).unwrap_or_default();
    // A line whose end was cut off may say anything.
    let whole =
        if end < page.len() { whole.rsplit_once('\n').map_or("", |(all, _)| all) } else { whole };
    whole.lines().filter_map(sample)
}

fn sample(line: &str) -> Option<Sample> {
    let line = line.trim();
    let name_end = line.find(['{', ' ', '\t'])?;
    let (name, rest) = line.split_at(name_end);
    if name.is_empty()
        || name.len() > NAME_MAX
        || name.starts_with('#')
        || name.ends_with("_bucket")
    {
        return None;
    }
    let (labels, rest) = match rest.strip_prefix('{') {
        Some(rest) => labels(rest)?,
        None => (BTreeMap::new(), rest),
    };
    let value = rest.split_ascii_whitespace().next()?;
    Some(Sample { name: name.to_owned(), labels, value: number(value)? })
}

/// Labels up to their closing brace, and what comes after it.
fn labels(mut rest: &str) -> Option<(BTreeMap<String, String>, &str)> {
    let mut labels = BTreeMap::new();
    loop {
        rest = rest.trim_start_matches([',', ' ']);
        if let Some(after) = rest.strip_prefix('}') {
            return Some((labels, after));
        }
        let (name, value) = rest.split_once('=')?;
        let (value, after) = quoted(value.trim_start())?;
        if labels.len() < LABELS_MAX {
            labels.insert(name.trim().to_owned(), value);
        }
        rest = after;
    }
}

/// A text in quotes, and what comes after it.
fn quoted(text: &str) -> Option<(String, &str)> {
    let mut chars = text.strip_prefix('"')?.char_indices();
    let mut value = String::new();
    while let Some((at, char)) = chars.next() {
        match char {
            '"' => return Some((value, text.get(at + 2..)?)),
            '\\' => value.push(match chars.next()?.1 {
                'n' => '\n',
                other => other,
            }),
            other => value.push(other),
        }
    }
    None
}

fn number(text: &str) -> Option<f64> {
    match text {
        "+Inf" | "Inf" => Some(f64::INFINITY),
        "-Inf" => Some(f64::NEG_INFINITY),
        "NaN" => Some(f64::NAN),
        other => other.parse().ok(),
    }
}

/// Several looks at one source.
#[derive(Clone, Debug, Default)]
pub struct Looks {
    series: BTreeMap<Key, Vec<Point>>,
}

/// A name and labels.
pub(super) type Key = (String, BTreeMap<String, String>);

impl Looks {
    /// What a page showed at that time, in seconds since 1970.
    pub fn add(&mut self, at_s: f64, page: &str) {
        for Sample { name, labels, value } in samples(page) {
            self.insert((name, labels), Point { at_s, value });
        }
    }

    pub(super) fn insert(&mut self, key: Key, point: Point) {
        if self.series.len() >= SERIES_MAX && !self.series.contains_key(&key) {
            return;
        }
        let points = self.series.entry(key).or_default();
        // A series that comes twice on a page is one.
        if points.last().is_none_or(|last| last.at_s < point.at_s) {
            points.push(point);
        }
        if points.len() > POINTS_MAX {
            points.remove(0);
        }
    }

    /// Whether nothing is kept.
    pub fn is_empty(&self) -> bool {
        self.series.is_empty()
    }

    /// How many series are kept.
    pub(super) fn len(&self) -> usize {
        self.series.len()
    }

    /// Forgets what was before that time, but for the last point that was not after it, from which counters grew.
    pub fn forget(&mut self, before_s: f64) {
        self.series.retain(|_, points| {
            let kept = points.partition_point(|point| point.at_s <= before_s);
            points.drain(..kept.saturating_sub(1));
            points.last().is_some_and(|last| last.at_s >= before_s)
        });
    }

    /// All series.
    pub fn series(&self) -> Vec<Series> {
        let one = |((name, labels), points): (&Key, &Vec<Point>)| Series {
            name: name.clone(),
            labels: labels.clone(),
            points: points.clone(),
        };
        self.series.iter().map(one).collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// A name, labels and a value.
    type Read<'a> = (&'a str, &'a [(&'a str, &'a str)], f64);

    #[test]
    fn lines_are_read_as_they_are_written() {
        let check = |line: &str, expect: Option<Read<'_>>| {
            let got = samples(line).next();
            let got = got.as_ref().map(|one| {
                let labels: Vec<(&str, &str)> = one
                    .labels
                    .iter()
                    .map(|(name, value)| (name.as_str(), value.as_str()))
                    .collect();
                (one.name.as_str(), labels, one.value)
            });
            let expect = expect.map(|(name, labels, value)| (name, labels.to_vec(), value));
            assert_eq!(got, expect, "{line}");
        };
        check("a 1", Some(("a", &[], 1.0)));
        check(
            "vllm:a{x=\"1\",y=\"b c\"} 2.5e3 1700000000",
            Some(("vllm:a", &[("x", "1"), ("y", "b c")], 2500.0)),
        );
        check(r#"a{x="q\"}\n",} 1 # {trace_id="e"} 0.5"#, Some(("a", &[("x", "q\"}\n")], 1.0)));
        check("a_bucket{le=\"1\"} 1", None);
        check("# HELP a 1", None);
        check("a{x=\"1\" 2", None);
        check("a", None);
        check("a b", None);
        check("", None);
    }

    #[test]
    fn a_page_that_is_cut_loses_its_last_line() {
        let mut page = "a 1\n".repeat(PAGE_BYTES_MAX / 4);
        page.push_str("b 2\n");
        assert!(samples(&page).all(|sample| sample.name == "a"));
        assert_eq!(samples(&"é".repeat(PAGE_BYTES_MAX)).count(), 0);
    }

    #[test]
    fn looks_make_series() {
        let mut looks = Looks::default();
        looks.add(1.0, "a_total 5\nb 1\n");
        looks.add(2.0, "a_total 7\n");
        looks.add(3.0, "a_total 7\na_total 9\n");
        let find = |looks: &Looks, name: &str| {
            looks.series().into_iter().find(|one| one.name == name).map(|one| one.growth())
        };
        assert_eq!(find(&looks, "a_total"), Some(Some(2.0)));
        assert_eq!(find(&looks, "b"), Some(None), "seen once, it did not grow by anything known");
        looks.forget(2.5);
        assert_eq!(find(&looks, "b"), None);
        assert_eq!(find(&looks, "a_total"), Some(Some(0.0)));
    }

    #[test]
    fn hostile_pages_are_bounded() {
        let mut looks = Looks::default();
        let page: String = (0..SERIES_MAX + 50).map(|at| format!("a{{x=\"{at}\"}} 1\n")).collect();
        looks.add(1.0, &page);
        assert_eq!(looks.series().len(), SERIES_MAX);
    }
}
