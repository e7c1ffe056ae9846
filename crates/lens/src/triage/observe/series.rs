//! Series: what one metric with one set of labels was at several points in time, and what that comes to
//! over a window.

use std::collections::BTreeMap;

use super::super::evidence::Lasted;

/// A value at a time.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Point {
    /// Seconds since 1970.
    pub at_s: f64,
    /// What it was.
    pub value: f64,
}

/// One metric with one set of labels.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Series {
    /// Its name.
    pub name: String,
    /// Its labels.
    pub labels: BTreeMap<String, String>,
    /// What it was, in order of time.
    pub points: Vec<Point>,
}

/// A label and the value that it must have.
pub(super) type Only = Option<(&'static str, &'static str)>;

impl Series {
    /// The newest.
    pub fn last(&self) -> Option<Point> {
        self.points.last().copied()
    }

    /// The mean time between two points.
    pub fn interval_s(&self) -> Option<f64> {
        let (first, last) = (self.points.first()?, self.points.last()?);
        let gaps = self.points.len().checked_sub(1).filter(|gaps| *gaps > 0)?;
        Some((last.at_s - first.at_s) / gaps as f64)
    }

    /// The mean of a gauge.
    pub fn mean(&self) -> Option<f64> {
        let known: Vec<f64> =
            self.points.iter().map(|point| point.value).filter(|value| value.is_finite()).collect();
        (!known.is_empty()).then(|| known.iter().sum::<f64>() / known.len() as f64)
    }

    /// How much a counter grew; none where it was seen once. One that fell began again from zero.
    pub fn growth(&self) -> Option<f64> {
        (self.points.len() > 1).then(|| self.steps().map(|(_, grown)| grown).sum())
    }

    /// What it grew by from each point to the next, with the second one's time.
    pub(super) fn steps(&self) -> impl Iterator<Item = (f64, f64)> + '_ {
        self.points.windows(2).map(|pair| {
            let (before, after) = (pair[0].value, pair[1].value);
            let grown = if after >= before { after - before } else { after };
            let is_known = before.is_finite() && grown.is_finite();
            (pair[1].at_s, if is_known { grown.max(0.0) } else { 0.0 })
        })
    }

    /// How often it fell.
    pub(super) fn falls(&self) -> usize {
        self.points.windows(2).filter(|pair| pair[1].value < pair[0].value).count()
    }
}

/// Series to look things up in. Names come in the order in which they are preferred: of several, the
/// first that is there is taken, so that a metric under its old and its new name counts once.
#[derive(Clone, Copy, Debug)]
pub struct Seen<'a>(pub &'a [Series]);

impl<'a> Seen<'a> {
    /// All series of the first of these names that is there.
    pub(super) fn of(&self, names: &[&str], only: Only) -> Vec<&'a Series> {
        let is = |series: &&Series, name: &str| {
            same(&series.name, name)
                && only.is_none_or(|(label, value)| {
                    series.labels.get(label).is_some_and(|own| own == value)
                })
        };
        let of = |name: &&str| -> Vec<&'a Series> {
            self.0.iter().filter(|series| is(series, name)).collect()
        };
        names.iter().map(of).find(|found| !found.is_empty()).unwrap_or_default()
    }

    /// The sum of the gauges' means.
    pub(super) fn gauge(&self, names: &[&str], only: Only) -> Option<f64> {
        let known: Vec<f64> = self.of(names, only).iter().filter_map(|one| one.mean()).collect();
        (!known.is_empty()).then(|| known.iter().sum())
    }

    /// The largest of the gauges' means.
    pub(super) fn fullest(&self, names: &[&str]) -> Option<f64> {
        self.of(names, None).iter().filter_map(|one| one.mean()).reduce(f64::max)
    }

    /// The newest value; of several series the largest.
    pub(super) fn newest(&self, names: &[&str]) -> Option<f64> {
        let last = self.of(names, None).into_iter().filter_map(Series::last);
        last.map(|point| point.value).filter(|value| value.is_finite()).reduce(f64::max)
    }

    /// What the counters grew by, together.
    pub(super) fn grown(&self, names: &[&str], only: Only) -> Option<f64> {
        let known: Vec<f64> = self.of(names, only).iter().filter_map(|one| one.growth()).collect();
        (!known.is_empty()).then(|| known.iter().sum())
    }

    /// What a histogram's sum and count grew by; the names are without `_sum` and `_count`.
    pub(super) fn lasted(&self, names: &[&str]) -> Lasted {
        for name in names {
            let grown = |end: &str| self.grown(&[format!("{name}{end}").as_str()], None);
            if let (Some(seconds), Some(count)) = (grown("_sum"), grown("_count")) {
                return Lasted { seconds: Some(seconds), count: Some(count) };
            }
        }
        Lasted::default()
    }

    /// What a label says, in the newest series that has it.
    pub(super) fn label(&self, names: &[&str], label: &str) -> Option<&'a str> {
        let of = self.of(names, None);
        let newest =
            of.iter().filter(|one| one.labels.contains_key(label)).max_by(|left, right| {
                let at = |one: &Series| one.last().map_or(0.0, |point| point.at_s);
                at(left).total_cmp(&at(right))
            });
        newest.and_then(|one| one.labels.get(label)).map(String::as_str)
    }

    /// A label's number.
    pub(super) fn label_number(&self, names: &[&str], label: &str) -> Option<f64> {
        self.label(names, label)?.parse().ok().filter(|value: &f64| value.is_finite())
    }
}

/// Whether two names are the same metric: what cannot have a colon has an underscore instead.
pub(super) fn same(theirs: &str, ours: &str) -> bool {
    theirs.len() == ours.len()
        && theirs
            .bytes()
            .zip(ours.bytes())
            .all(|(theirs, ours)| theirs == ours || (ours == b':' && theirs == b'_'))
}

/// The one in the middle.
pub(super) fn middle(mut values: Vec<f64>) -> Option<f64> {
    values.retain(|value| value.is_finite());
    values.sort_by(f64::total_cmp);
    values.get(values.len() / 2).copied()
}

/// A series for tests.
#[cfg(test)]
pub(super) fn series(name: &str, labels: &[(&str, &str)], values: &[f64]) -> Series {
    let points =
        values.iter().enumerate().map(|(at, value)| Point { at_s: at as f64 * 5.0, value: *value });
    Series {
        name: name.to_owned(),
        labels: labels
            .iter()
            .map(|(name, value)| ((*name).to_owned(), (*value).to_owned()))
            .collect(),
        points: points.collect(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn counters_that_fall_began_again() {
        let check = |values: &[f64], expect: Option<f64>| {
            assert_eq!(series("a_total", &[], values).growth(), expect, "{values:?}");
        };
        check(&[], None);
        check(&[5.0], None);
        check(&[5.0, 5.0], Some(0.0));
        check(&[5.0, 9.0, 2.0, 3.0], Some(4.0 + 2.0 + 1.0));
        check(&[5.0, f64::NAN, 7.0], Some(0.0));
    }

    #[test]
    fn the_first_name_that_is_there_is_taken() {
        let all = [
            series("vllm:new_total", &[("engine", "0")], &[1.0, 3.0]),
            series("vllm:new_total", &[("engine", "1")], &[0.0, 5.0]),
            series("vllm_old_total", &[], &[1.0, 8.0]),
        ];
        let seen = Seen(&all);
        assert_eq!(seen.grown(&["vllm:new_total", "vllm:old_total"], None), Some(7.0));
        assert_eq!(
            seen.grown(&["vllm:old_total"], None),
            Some(7.0),
            "a colon may be an underscore"
        );
        assert_eq!(seen.grown(&["vllm:none_total"], None), None, "absent is not zero");
        assert_eq!(seen.grown(&["vllm:new_total"], Some(("engine", "1"))), Some(5.0));
        assert_eq!(seen.gauge(&["vllm:new_total"], Some(("engine", "2"))), None);
    }

    #[test]
    fn histograms_need_both_parts() {
        let all = [
            series("t_seconds_sum", &[], &[1.0, 4.0]),
            series("t_seconds_count", &[], &[1.0, 3.0]),
        ];
        assert_eq!(Seen(&all).lasted(&["t_seconds"]).mean(), Some(1.5));
        assert_eq!(Seen(&all[..1]).lasted(&["t_seconds"]), Lasted::default());
    }
}
