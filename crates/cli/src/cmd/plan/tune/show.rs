//! What was found, as a table with a plot for people, as JSON and as a page.

use std::fs;

use anyhow::Context as _;
use pilotage_sim::report::{self, Rounded, Tuned};
use pilotage_sim::tune::{Goal, Limits, Origin, Outcome, Pick, Tried};
use serde_json::json;

use crate::args::PlanTune;
use crate::output::{self, Format};

/// The plot's size, in characters.
const COLUMNS: usize = 60;
const ROWS: usize = 12;

/// Points that are so many times higher than the highest of the best are not drawn.
const CUT: f64 = 3.0;

/// All that there is to show.
pub(super) struct Shown<'a> {
    pub(super) args: &'a PlanTune,
    pub(super) title: String,
    pub(super) about: String,
    pub(super) replay: String,
    pub(super) requests: usize,
    pub(super) limits: Limits,
    pub(super) goal: Goal,
    pub(super) calibrated: Option<String>,
    pub(super) tried: Vec<Tried>,
    pub(super) picked: Option<Pick>,
    pub(super) launch: Vec<String>,
    pub(super) notes: Vec<String>,
}

impl Shown<'_> {
    /// Shows it all.
    pub(super) fn all(&self) -> anyhow::Result<()> {
        if let Some(path) = &self.args.report {
            fs::write(path, self.page())
                .with_context(|| format!("cannot write {}", path.display()))?;
            output::note(&format!("wrote {}", path.display()));
        }
        if self.args.output == Format::Json {
            return output::json(&self.json());
        }
        output::line(&self.about);
        output::line("");
        self.table();
        for line in plot(&self.tried) {
            output::line(&line);
        }
        output::line("");
        self.recommended();
        for note in &self.notes {
            output::line(&format!("note: {note}"));
        }
        output::line(&format!("again: {}", self.replay));
        Ok(())
    }

    /// As a page.
    pub(super) fn page(&self) -> String {
        report::tuned(&Tuned {
            title: &self.title,
            about: &self.about,
            replay: &self.replay,
            tried: &self.tried,
            picked: self.taken().map(|(one, pick)| (one, pick.reason.as_str())),
            launch: &self.launch,
            notes: &self.notes,
        })
    }

    /// For machines.
    pub(super) fn json(&self) -> serde_json::Value {
        let recommended = self.taken().map(|(one, pick)| {
            json!({"name": one.name, "place": pick.place, "reason": pick.reason, "launch": self.launch})
        });
        json!({
            "model": self.title,
            "hardware": self.args.hardware,
            "requests": self.requests,
            "limits": self.limits,
            "goal": self.goal,
            "calibrated": self.calibrated,
            "price": self.args.price,
            "shapes": self.tried,
            "recommended": recommended,
            "notes": self.notes,
            "replay": self.replay,
        })
    }

    fn taken(&self) -> Option<(&Tried, &Pick)> {
        let pick = self.picked.as_ref()?;
        Some((self.tried.get(pick.place)?, pick))
    }

    fn recommended(&self) {
        let Some((one, pick)) = self.taken() else {
            output::line("take none: none answered all requests");
            return;
        };
        output::line(&format!("take {}: {}", one.name, pick.reason));
        for line in &self.launch {
            output::line(&format!("  {line}"));
        }
        output::line("");
    }

    /// All servers, and of simulated shapes the best.
    fn table(&self) {
        let is_predicted = self.tried.iter().any(|one| one.predicted.is_some());
        let mut head = vec![
            "SHAPE",
            "BEST",
            "FROM",
            "ACCELERATORS",
            "COST/H",
            "TTFT P99",
            "TPOT P99",
            "GOOD/S",
            "GOOD",
            "LOST",
        ];
        if is_predicted {
            head.extend(["TTFT PREDICTED", "TPOT PREDICTED"]);
        }
        let is_shown = |one: &&Tried| one.best || self.args.all || one.origin == Origin::Measured;
        let shown: Vec<&Tried> = self.tried.iter().filter(is_shown).collect();
        let rows: Vec<Vec<String>> = shown.iter().map(|one| row(one, is_predicted)).collect();
        output::table(&head, &rows);
        for one in &shown {
            for note in one.failed.iter().chain(&one.notes) {
                output::line(&format!("{}: {note}", one.name));
            }
        }
        let hidden = self.tried.len() - shown.len();
        if hidden > 0 {
            output::note(&format!(
                "{hidden} more shapes are no better in anything: --all shows them"
            ));
        }
    }
}

fn row(one: &Tried, is_predicted: bool) -> Vec<String> {
    let Outcome { ttft_p99, tpot_p99, goodput, good, requests, lost } = one.outcome;
    let dash = || "-".to_owned();
    let of = |text: String| if requests == 0 { dash() } else { text };
    let timed = |text: String| if lost == requests { dash() } else { text };
    let mut cells = vec![
        one.name.clone(),
        if one.best { "*" } else { "" }.to_owned(),
        if one.origin == Origin::Measured { "measured" } else { "simulated" }.to_owned(),
        one.accelerators.map_or_else(dash, |count| count.to_string()),
        one.cost.map_or_else(dash, |cost| format!("{:.2}", cost.get())),
        timed(format!("{:.0} ms", ttft_p99.get() * 1e3)),
        timed(next(tpot_p99)),
        of(format!("{:.2}", goodput.get())),
        of(format!("{:.1} %", good.get() * 100.0)),
        of(lost.to_string()),
    ];
    if is_predicted {
        let off = |part: Option<f64>| {
            part.map_or_else(String::new, |part| format!(" ({:+.0} %)", part * 100.0))
        };
        let [first, next] = one.errors();
        cells.extend(match &one.predicted {
            Some(predicted) => [
                format!("{:.0} ms{}", predicted.ttft_p99.get() * 1e3, off(first)),
                format!("{}{}", self::next(predicted.tpot_p99), off(next)),
            ],
            None => [dash(), dash()],
        });
    }
    cells
}

/// A time for each further token, where it is known.
fn next(tpot: Option<Rounded>) -> String {
    tpot.map_or_else(|| "-".to_owned(), |tpot| format!("{:.1} ms", tpot.get() * 1e3))
}

/// Time to the first token against cost, line by line; nothing where there is nothing to compare.
fn plot(tried: &[Tried]) -> Vec<String> {
    let ttft = |one: &Tried| one.outcome.ttft_p99.get();
    let most_best = tried.iter().filter(|one| one.best).map(ttft).fold(0.0, f64::max);
    let mut drawn: Vec<&Tried> =
        tried.iter().filter(|one| one.is_whole() && ttft(one) <= most_best * CUT).collect();
    if drawn.len() < 2 {
        return Vec::new();
    }
    // The best come last, and lie on top.
    drawn.sort_by_key(|one| one.best);
    let high = drawn.iter().map(|one| ttft(one)).fold(f64::MIN_POSITIVE, f64::max);
    let wide = drawn.iter().map(|one| one.weight()).fold(f64::MIN_POSITIVE, f64::max);
    let place =
        |part: f64, count: usize| ((part * (count - 1) as f64).round() as usize).min(count - 1);
    let mut grid = vec![vec![' '; COLUMNS]; ROWS];
    for one in drawn {
        let (x, y) = (place(one.weight() / wide, COLUMNS), place(ttft(one) / high, ROWS));
        if let Some(cell) = grid.get_mut(ROWS - 1 - y).and_then(|row| row.get_mut(x)) {
            *cell = if one.best { '*' } else { '.' };
        }
    }
    let is_cost = tried.iter().any(|one| one.cost.is_some());
    let unit = if is_cost { "cost an hour" } else { "accelerators" };
    let mut lines = vec![String::new(), format!("TTFT p99 against {unit}: * best, . others")];
    for (number, row) in grid.into_iter().enumerate() {
        let label = if number == 0 { format!("{:.0} ms", high * 1e3) } else { String::new() };
        let row: String = row.into_iter().collect();
        lines.push(format!("{label:>10} |{}", row.trim_end()));
    }
    lines.push(format!("{:>10} +{}", "0", "-".repeat(COLUMNS)));
    let most = if is_cost { format!("{wide:.2}") } else { format!("{wide:.0}") };
    lines.push(format!("{:>10}  0{most:>width$}", "", width = COLUMNS - 1));
    lines
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_plot_has_the_cheap_left_and_the_fast_low() {
        let of = |accelerators: u32, ttft: f64, best: bool| Tried {
            accelerators: Some(accelerators),
            outcome: Outcome { ttft_p99: ttft.into(), requests: 1, ..Outcome::default() },
            best,
            ..Tried::default()
        };
        let lines =
            plot(&[of(1, 1.0, true), of(4, 0.1, true), of(4, 0.5, false), of(4, 99.0, false)]);
        let at =
            |line: &str| line.find('|').map(|bar| line[bar + 1..].to_owned()).unwrap_or_default();
        let rows: Vec<String> =
            lines.iter().map(|line| at(line)).filter(|row| !row.is_empty()).collect();
        assert_eq!(rows[0].find('*'), Some(15), "{lines:#?}");
        assert_eq!(rows[1].find('.'), Some(COLUMNS - 1));
        assert_eq!(rows[2].find('*'), Some(COLUMNS - 1));
        assert!(lines.iter().any(|line| line.contains("1000 ms")), "{lines:#?}");
        assert!(lines.last().unwrap().ends_with('4'));
        assert!(plot(&[of(1, 1.0, true)]).is_empty());
        assert!(plot(&[]).is_empty());
    }
}
