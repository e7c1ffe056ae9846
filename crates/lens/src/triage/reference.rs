//! The page of signatures, which findings point to: made of the rules, so that it has them all.

use std::fmt::Write as _;

use super::rules::RULES;

/// Markdown with a heading for each signature, as its finding's `runbook` names it.
pub fn reference() -> String {
    let mut page = String::new();
    for rule in RULES {
        let heading = rule.name.replace('_', " ");
        // Writing into a text cannot fail.
        let _ = write!(page, "### {} {heading}\n\nSeverity: {}. ", rule.id, rule.severity.name());
        let _ = writeln!(page, "What is so: {}.\n", rule.title);
        if !rule.explains.is_empty() {
            let phases: Vec<&str> = rule.explains.iter().map(|phase| phase.name()).collect();
            let _ = writeln!(page, "It explains time spent {}.\n", phases.join(", "));
        }
        if !rule.masks.is_empty() {
            let _ = writeln!(page, "From it may follow {}.\n", rule.masks.join(", "));
        }
        let _ = writeln!(page, "It is not so if {}.\n", rule.refuted_by);
    }
    page
}

#[cfg(test)]
mod tests {
    use super::super::scenarios::scenario;
    use super::super::triage;
    use super::*;

    #[test]
    fn findings_point_to_headings() {
        let page = reference();
        let anchors: Vec<String> = page
            .lines()
            .filter_map(|line| line.strip_prefix("### "))
            .map(|heading| heading.to_lowercase().replace(' ', "-"))
            .collect();
        for rule in RULES {
            let report = triage(&scenario(rule.id));
            let runbook = &report.findings[0].runbook;
            assert!(anchors.contains(runbook), "no heading for {runbook}");
        }
    }
}
