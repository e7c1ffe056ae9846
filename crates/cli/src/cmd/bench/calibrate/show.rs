//! What was measured and fitted, as tables and as JSON.

use pilotage_lab::calibrate::Doubt;
use pilotage_plan::size::fitted::{Row, Trial};
use pilotage_plan::size::{Errors, Phase, Stored};
use serde_json::{Value, json};

use crate::output;

/// For machines.
pub(super) fn told(stored: &Stored, doubts: &[Doubt]) -> Value {
    let mut told = serde_json::to_value(stored).unwrap_or_default();
    told["doubts"] = doubts.iter().map(ToString::to_string).collect::<Vec<_>>().into();
    told["valid"] = json!(doubts.is_empty());
    told
}

/// For people.
pub(super) fn table(stored: &Stored) {
    let subject = &stored.subject;
    let version = subject.version.as_deref().unwrap_or("version unknown");
    let hardware = subject.hardware.as_deref().unwrap_or("hardware not said");
    output::line(&format!(
        "{} at {}: {} {version}, {hardware}",
        subject.model, stored.url, subject.runtime
    ));
    output::line("");
    let head = [
        "WHAT", "TOKENS", "AT ONCE", "MEASURED", "SPREAD", "BEFORE", "ERROR", "AFTER", "ERROR",
        "LINES", "ERROR", "",
    ];
    output::table(&head, &stored.fit.rows.iter().map(row).collect::<Vec<_>>());
    output::line("");
    for line in lines(stored) {
        output::line(&line);
    }
    if !stored.loads.is_empty() {
        output::line("");
        let head =
            ["LOAD", "AT ONCE", "TOKENS/S", "BEFORE", "ERROR", "AFTER", "ERROR", "LINES", "ERROR"];
        output::table(&head, &stored.loads.iter().map(load).collect::<Vec<_>>());
    }
    for note in &stored.notes {
        output::note(&format!("note: {note}"));
    }
}

fn row(row: &Row) -> Vec<String> {
    let (what, tokens, at_once) = match row.point.phase {
        Phase::Prefill { tokens } => ("prompt", tokens, 1),
        Phase::Decode { sequences, context } => ("step", context, sequences),
    };
    let mut cells = vec![
        what.to_owned(),
        tokens.to_string(),
        at_once.to_string(),
        ms(row.point.seconds),
        format!("±{:.0} %", row.point.spread * 100.0),
    ];
    for predicted in [row.assumed_seconds, row.fitted_seconds, Some(row.pace_seconds)] {
        cells.extend(pair(predicted, row.point.seconds, ms));
    }
    cells.push(if row.held_out { "held out" } else { "" }.to_owned());
    cells
}

fn load(trial: &Trial) -> Vec<String> {
    let number = |rate: f64| format!("{rate:.1}");
    let mut cells = vec![
        format!("{} + {}", trial.prompt, trial.answer),
        trial.concurrency.to_string(),
        number(trial.tokens_per_second),
    ];
    for predicted in [trial.assumed, trial.fitted, Some(trial.pace)] {
        cells.extend(pair(predicted, trial.tokens_per_second, number));
    }
    cells
}

fn pair(predicted: Option<f64>, measured: f64, text: fn(f64) -> String) -> [String; 2] {
    let Some(predicted) = predicted else { return ["-".to_owned(), "-".to_owned()] };
    [text(predicted), format!("{:+.0} %", (predicted / measured - 1.0) * 100.0)]
}

/// What was fitted, and how far off that is.
fn lines(stored: &Stored) -> Vec<String> {
    let (fit, pace) = (&stored.fit, &stored.fit.pace);
    let mut lines = vec![
        format!(
            "prompt  {} + {} a token + {} a pair of them",
            ms(pace.prefill_seconds),
            ms(pace.token_seconds),
            ms(pace.pair_seconds)
        ),
        format!(
            "step    {} + {} a sequence + {} a token that they hold",
            ms(pace.step_seconds),
            ms(pace.sequence_seconds),
            ms(pace.context_seconds)
        ),
    ];
    if let Some(found) = &fit.calibration {
        lines.push(format!(
            "reached {:.1} % of arithmetic, {:.1} % in attention, {:.1} % of bandwidth; {} a step, {} a sequence in it",
            found.compute * 100.0,
            found.attention * 100.0,
            found.bandwidth * 100.0,
            ms(found.step_seconds),
            ms(found.sequence_seconds)
        ));
    }
    lines.push(String::new());
    if fit.held_out.points == 0 {
        lines.push("too few measurements to hold any out: errors above are of the fit".to_owned());
        return lines;
    }
    let errors = |errors: &Errors| {
        format!("{:.0} % on average, {:.0} % at most", errors.mean * 100.0, errors.most * 100.0)
    };
    lines.push(format!("off by, on {} measurements that were held out:", fit.held_out.points));
    lines.extend(fit.held_out.assumed.as_ref().map(|it| format!("  before  {}", errors(it))));
    lines.extend(fit.held_out.fitted.as_ref().map(|it| format!("  after   {}", errors(it))));
    lines.push(format!("  lines   {}", errors(&fit.held_out.pace)));
    lines
}

/// A time, in milliseconds with three digits.
fn ms(seconds: f64) -> String {
    let ms = seconds * 1e3;
    match ms {
        ms if ms >= 100.0 => format!("{ms:.0} ms"),
        ms if ms >= 1.0 => format!("{ms:.1} ms"),
        ms if ms >= 0.01 => format!("{ms:.3} ms"),
        0.0 => "0 ms".to_owned(),
        ms => format!("{ms:.5} ms"),
    }
}
