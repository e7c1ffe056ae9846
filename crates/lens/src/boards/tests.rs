//! The tables hold what they promise, and what is checked in is made of them.

use super::*;

#[test]
fn every_alert_says_what_to_do() {
    let mut names: Vec<&str> = Vec::new();
    let page = page();
    for alert in alerts() {
        assert!(!alert.steps.is_empty(), "{}", alert.name);
        assert!(!alert.means.is_empty() && !alert.summary.is_empty(), "{}", alert.name);
        assert!(page.contains(&format!("\n## {}\n", alert.name)), "{}", alert.name);
        assert!(alert.runbook().ends_with(&alert.name.to_lowercase()));
        names.push(alert.name);
    }
    names.sort_unstable();
    let count = names.len();
    names.dedup();
    assert_eq!(names.len(), count, "names are unique");
}

#[test]
fn alerts_name_only_recordings_that_there_are() {
    let known: Vec<String> = recordings().into_iter().map(|each| each.record).collect();
    for alert in alerts() {
        for word in alert.expr.split(|char: char| !(char.is_alphanumeric() || "_:".contains(char)))
        {
            if word.starts_with("lane:") {
                assert!(known.iter().any(|name| name == word), "{word} of {}", alert.name);
            }
        }
    }
}

#[test]
fn every_panel_has_a_unit_a_description_and_a_query() {
    for board in boards() {
        assert!(!board.panels.is_empty());
        for panel in &board.panels {
            assert!(panel.what.ends_with('.'), "{}: {}", board.title, panel.title);
            assert!(!panel.queries.is_empty(), "{}: {}", board.title, panel.title);
            for query in &panel.queries {
                let opened = query.expr.matches('(').count();
                assert_eq!(opened, query.expr.matches(')').count(), "{}", query.expr);
            }
        }
    }
}

#[test]
fn boards_are_json_that_asks_nobody_else() {
    for (name, text) in files(NonZeroU16::MIN) {
        assert!(!text.contains("http://"), "{name}");
        if name.ends_with(".json") {
            let board: serde_json::Value = serde_json::from_str(&text).unwrap();
            assert_eq!(board["templating"]["list"].as_array().unwrap().len(), 3, "{name}");
            assert!(!text.contains("https://"), "{name} works without the internet");
        }
    }
}

#[test]
fn rules_in_a_hurry_have_shorter_windows_and_delays_and_are_else_the_same() {
    let text = |hurry| {
        let mut files = files(NonZeroU16::new(hurry).unwrap()).into_iter();
        files.find(|(name, _)| name == "prometheus/rules.yaml").unwrap().1
    };
    let (usual, hurried) = (text(1), text(60));
    let check = |usual_line: &str, line: &str| {
        assert!(usual.contains(usual_line), "{usual_line}");
        assert!(hurried.contains(line) && !hurried.contains(usual_line), "{line}");
    };
    check(
        "increase(pilotage_ejections_total[15m]) > 2",
        "increase(pilotage_ejections_total[15s]) > 2",
    );
    check("rate(pilotage_slo_misses_total[6h])", "rate(pilotage_slo_misses_total[360s])");
    check("for: 15m\n", "for: 15s\n");
    check("interval: 30s\n", "interval: 1s\n");
    assert!(
        hurried.contains("for: 0s\n") && hurried.contains("lane:pilotage_slo_misses:ratio_rate6h")
    );
    assert_eq!(usual.lines().count(), hurried.lines().count());
}
