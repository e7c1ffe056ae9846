//! A report for people: the verdict first, then what it rests on, what to change, and what would show
//! that it is not so.

use super::attribution::Part;
use super::finding::{Finding, Line, Report, Verdict};
use super::sanity::Note;

/// Most further findings, phases and notes that are told.
const LISTED_MAX: usize = 8;

/// Longest text that others had a part in, such as names of replicas, in characters.
const FOREIGN_MAX: usize = 1000;

/// The whole report, ending with a line break.
pub fn text(report: &Report) -> String {
    let mut out = String::new();
    verdict(&mut out, report);
    if let (Verdict::Found { .. }, Some(first)) = (&report.verdict, report.findings.first()) {
        finding(&mut out, first);
    }
    let further = if matches!(report.verdict, Verdict::Found { .. }) { 1 } else { 0 };
    others(&mut out, report.findings.get(further..).unwrap_or_default());
    time(&mut out, report);
    capacity(&mut out, report);
    notes(&mut out, report);
    out
}

/// A number with three digits that count, without zeros that say nothing.
pub fn number(value: f64) -> String {
    let digits = match value.abs() {
        large if large >= 100.0 => 0,
        large if large >= 10.0 => 1,
        large if large >= 1.0 => 2,
        large if large >= 0.1 => 3,
        _ => 5,
    };
    let text = format!("{value:.digits$}");
    if digits == 0 { text } else { text.trim_end_matches('0').trim_end_matches('.').to_owned() }
}

/// What others have written, without what terminals obey.
fn foreign(text: &str) -> String {
    text.chars().take(FOREIGN_MAX).map(|char| if char.is_control() { ' ' } else { char }).collect()
}

fn line(out: &mut String, text: &str) {
    out.push_str(text.trim_end());
    out.push('\n');
}

fn verdict(out: &mut String, report: &Report) {
    match &report.verdict {
        Verdict::Found { id, title, confidence } => {
            let percent = confidence * 100.0;
            let of = report.model.as_ref().map(|model| format!("{}: ", foreign(model)));
            let of = of.unwrap_or_default();
            line(out, &format!("{of}{id}: {}. {percent:.0} % sure.", foreign(title)));
        }
        Verdict::NothingWrong { judged } => {
            line(out, &format!("Nothing is wrong, as far as {judged} signatures of trouble tell."));
        }
        Verdict::NotEnough { missing } => {
            line(out, "Too little is known to say what is wrong. Missing:");
            missing.iter().for_each(|measure| line(out, &format!("  {measure}")));
        }
    }
}

fn finding(out: &mut String, finding: &Finding) {
    if !finding.about.is_empty() {
        line(out, &format!("It is about {}.", foreign(&finding.about.join(", "))));
    }
    line(out, "\nWhy");
    finding.evidence.iter().for_each(|one| evidence(out, one));
    let share = finding.impact.share * 100.0;
    match finding.impact.seconds {
        Some(seconds) => line(
            out,
            &format!("  It explains {share:.0} % of the requests' time, {} s.", number(seconds)),
        ),
        None if share >= 1.0 => {
            line(out, &format!("  It concerns {share:.0} % of the requests or of their time."));
        }
        None => {}
    }
    line(out, &format!("\nWhat to do\n  {}", sentence(&finding.fix.what)));
    for change in &finding.fix.changes {
        let place = format!("{}:", change.place);
        let text = foreign_lines(&change.text).join("\n                ");
        line(out, &format!("    {place:<11} {text}"));
    }
    line(out, &format!("  Then: {}", sentence(&finding.fix.predicted)));
    line(out, &format!("\nIt is not so if {}.", finding.refuted_by));
    line(out, &format!("More: docs/reference/triage.md#{}", finding.runbook));
}

fn foreign_lines(text: &str) -> Vec<String> {
    text.lines().map(|line| line.chars().filter(|char| !char.is_control()).collect()).collect()
}

fn sentence(text: &str) -> String {
    let mut chars = text.chars();
    let first =
        chars.next().map(|first| first.to_uppercase().collect::<String>()).unwrap_or_default();
    foreign(&format!("{first}{}.", chars.as_str()))
}

fn evidence(out: &mut String, one: &Line) {
    let unit = if one.unit.is_empty() { String::new() } else { format!(" {}", one.unit) };
    let value = format!("{}{unit}", number(one.value));
    let against = if one.holds { "" } else { "   speaks against it" };
    line(out, &format!("  {:<52} {value:>9}   {}{against}", one.measure, one.expected));
}

fn others(out: &mut String, findings: &[Finding]) {
    if findings.is_empty() {
        return;
    }
    line(out, "\nAlso found");
    for one in findings.iter().take(LISTED_MAX) {
        let from =
            one.follows_from.map_or_else(String::new, |from| format!(" (follows from {from})"));
        let percent = one.confidence * 100.0;
        line(out, &format!("  {}: {}, {percent:.0} % sure{from}", one.id, foreign(&one.title)));
    }
}

fn time(out: &mut String, report: &Report) {
    let attribution = &report.attribution;
    if attribution.parts.is_empty() {
        return;
    }
    line(out, &format!("\nWhere the time of {} requests went", number(attribution.requests)));
    let told = attribution.parts.iter().filter(|part| part.share >= 0.005);
    for part in told.take(LISTED_MAX) {
        line(out, &phase(part));
    }
}

fn phase(part: &Part) -> String {
    let percent = format!("{:.0} %", part.share * 100.0);
    let each = format!("{} s each", number(part.each_s));
    let more = match part.more_s {
        Some(more) if more.abs() >= 0.0005 => {
            format!("   {}{} s", if more > 0.0 { "+" } else { "" }, number(more))
        }
        _ => String::new(),
    };
    format!("  {:<24} {percent:>6}   {each:>14}{more}", part.phase.name())
}

fn capacity(out: &mut String, report: &Report) {
    let typical = &report.capacity.typical;
    let rows = [
        ("places taken", typical.slots_used),
        ("KV cache in use", typical.kv_use),
        ("tokens of a step in use", typical.step_tokens_use),
        ("bandwidth in use (MBU)", typical.mbu),
        ("arithmetic in use (MFU)", typical.mfu),
    ];
    if rows.iter().all(|(_, used)| used.is_none()) {
        return;
    }
    line(out, "\nHow full a replica is");
    for (name, used) in rows {
        let used =
            used.map_or_else(|| "unknown".to_owned(), |used| format!("{:.0} %", used * 100.0));
        line(out, &format!("  {name:<24} {used:>7}"));
    }
    if let Some(limit) = report.capacity.limit {
        line(out, &format!("  What limits it: {}.", limit.name()));
    }
}

fn notes(out: &mut String, report: &Report) {
    if !report.usable.notes.is_empty() {
        line(out, "\nBe careful");
        let said = |note: &Note| format!("  {}: {}", foreign(&note.what), note.so);
        let mut told: Vec<String> = Vec::new();
        for note in report.usable.notes.iter().map(said) {
            // Several runs have the same to be careful about.
            if !told.contains(&note) && told.len() < LISTED_MAX {
                line(out, &note);
                told.push(note);
            }
        }
    }
    if !report.blind.is_empty() {
        let count = report.blind.len();
        let missing = super::wanted(&report.blind).join("; ");
        line(out, &format!("\nNot looked for: {count} signatures, for want of: {missing}"));
    }
}

#[cfg(test)]
mod tests {
    use super::super::scenarios::{healthy, scenario};
    use super::super::{Evidence, triage};
    use super::*;

    #[test]
    fn numbers_are_short() {
        let check = |value: f64, expect: &str| assert_eq!(number(value), expect);
        check(0.0, "0");
        check(0.9, "0.9");
        check(1.0, "1");
        check(12.34, "12.3");
        check(1234.5, "1234");
        check(0.00512, "0.00512");
        check(100.0, "100");
    }

    #[test]
    fn reports_read_like_this() {
        insta::assert_snapshot!("slot_bound", text(&triage(&scenario("S01"))));
        insta::assert_snapshot!("healthy", text(&triage(&healthy())));
        insta::assert_snapshot!("nothing_known", text(&triage(&Evidence::default())));
    }

    #[test]
    fn names_of_others_command_no_terminal() {
        let mut evidence = scenario("S12");
        for replica in &mut evidence.replicas {
            replica.name = format!("\u{1b}[2J\r\n{}", replica.name);
        }
        let text = text(&triage(&evidence));
        assert!(text.chars().all(|char| !char.is_control() || char == '\n'), "{text:?}");
    }
}
