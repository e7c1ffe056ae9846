//! Pages of made-up results.

use super::*;
use crate::load::Run;
use crate::record::tests::answered;
use crate::report::{Environment, Setting, report};
use crate::stats::book::Book;
use crate::workload::WarmUp;

/// Ten requests a second for a minute, each served for `serve` milliseconds, one after the other
/// where that is more than there is time.
fn made(serve: u64, name: &str) -> Report {
    let mut book = Book::default();
    let mut free = 0;
    for number in 0..600 {
        let at = number * 100;
        let begin = at.max(free);
        free = begin + serve;
        book.add(answered(at, begin + 5, free), &[0.01; 9]);
    }
    let setting = Setting {
        command: "pilotage bench run 'a&b'".to_owned(),
        url: "http://host".to_owned(),
        model: format!("<{name}>"),
        load: "open".to_owned(),
        rate: Some(10.0),
        tenants: vec!["all".to_owned(), "none".to_owned()],
        slo: "ttft=50ms".parse().ok(),
        ..Setting::default()
    };
    let second = 1_000_000_000;
    let run = Run {
        book,
        sent_until: 60 * second,
        over: 61 * second,
        started_unix_ms: 0,
        cpu_seconds: 0.1,
        interrupted: false,
        reconnects: 0,
    };
    report(&run, setting, Environment::default(), WarmUp::Nanos(0))
}

fn is_self_contained(page: &str) {
    for part in ["<script", "src=", "href=", "http-equiv", "@import", "url("] {
        assert!(!page.contains(part), "{part}");
    }
    assert!(page.starts_with("<!doctype html>") && page.ends_with("</html>\n"));
    let count = |part: &str| page.matches(part).count();
    assert_eq!(count("<svg"), count("</svg>"));
    assert_eq!(count("<table>"), count("<caption>"));
    assert_eq!(count("role=\"img\""), count("<desc"));
}

#[test]
fn a_page_has_numbers_drawings_and_tables_beside_them() {
    let page = run(&made(80, "m"));
    is_self_contained(&page);
    assert_eq!(page.matches("<figure>").count(), 8);
    assert!(page.contains("Time per output token") && page.contains("a steady state was measured"));
    assert!(page.contains("&lt;m&gt;") && page.contains("&#39;a&amp;b&#39;"));
    assert!(!page.contains("NaN") && !page.contains("inf"));
}

#[test]
fn a_growing_queue_has_no_curves() {
    let page = run(&made(200, "m"));
    is_self_contained(&page);
    assert_eq!(page.matches("<figure>").count(), 4);
    assert!(page.contains("no steady state"));
    assert!(!page.contains("Latency, counted from"));
}

#[test]
fn a_sweep_says_what_holds() {
    let mut points = vec![made(200, "m"), made(80, "m")];
    points[0].setting.rate = Some(20.0);
    let swept = Sweep::of("pilotage bench sweep".to_owned(), 0.99, points);
    assert_eq!((swept.best, swept.limit), (Some(10.0), Some(20.0)));
    let page = sweep(&swept);
    is_self_contained(&page);
    assert!(page.contains("10 holds, 20 does not"));
    assert!(page.contains("queue grows"));
    assert_eq!(page.matches("<figure>").count(), 4);
}
