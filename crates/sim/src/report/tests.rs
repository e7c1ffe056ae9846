//! What a page has to hold: everything of the report, nothing that breaks out, nothing from elsewhere.

use super::*;
use crate::metrics::{Cost, Served, measure};
use crate::trace;

/// A report on a recorded run.
fn recorded(text: &str, names: usize) -> Report {
    let served = trace::served(text).unwrap();
    let cost = Cost::default();
    let service = Service::new(&served, cost);
    let ticks = Ticks::of_paper(0.0, 600.0);
    let seconds = served.iter().map(|one| one.end).fold(0.0, f64::max);
    let last = served.iter().map(|one| one.arrived).fold(0.0, f64::max);
    let all: f64 = service.totals().values().sum();
    let tenant = |number: u32| tenant(&served, &service, number, all, names);
    let count = u32::try_from(names).unwrap();
    let gap: Vec<(f64, f64)> =
        (0..600).map(|at| (f64::from(at), f64::from(at * 37 % 17_104))).collect();
    Report {
        scenario: "overload <script>alert(1)</script>".to_owned(),
        description: "Two tenants & one \"GPU\".".to_owned(),
        setting: "VTC on one replica, 10,000 tokens".to_owned(),
        seed: 42,
        replay: "pilotage sim 'overload.yaml' --seed 42".to_owned(),
        seconds: seconds.into(),
        tenants: (0..count).map(tenant).collect(),
        fairness: measure(&served, cost, Ticks::of_paper(0.0, last.floor()), seconds).into(),
        service_rate: Series::rates(&service, Ticks { parts: 100, ..ticks }, count),
        service_total: Series::totals(&service, Ticks { parts: 100, ..ticks }, count),
        counter_gap: Some(CounterGap::new(20_000.0, &gap, 300)),
        stops: 0,
        notes: vec!["one <b>note</b>".to_owned()],
    }
}

fn tenant(served: &[Served], service: &Service, number: u32, all: f64, names: usize) -> Tenant {
    let own: Vec<&Served> = served.iter().filter(|one| one.tenant == number).collect();
    let times = crate::metrics::time_to_first_token(served, |one| one == number);
    let got = service.totals().get(&number).copied().unwrap_or_default();
    let count = own.iter().filter(|one| one.first_token.is_some()).count() as u64;
    let requests = own.len() as u64;
    let refused = (requests > count).then(|| ("rate".to_owned(), requests - count));
    Tenant {
        name: format!("team-{number}"),
        weight: 1.0.into(),
        requests,
        served: count,
        refused: refused.into_iter().collect(),
        input_tokens: own.iter().map(|one| u64::from(one.input)).sum(),
        output_tokens: own.iter().map(|one| u64::from(one.output)).sum(),
        service: got.into(),
        share: (got / all).into(),
        entitlement: (1.0 / names as f64).into(),
        time_to_first_token: times.map(Latency::from),
        wait: times.map(Latency::from),
    }
}

fn two() -> Report {
    recorded(include_str!("../../traces/vtc_osdi24/VTC__overload.csv"), 2)
}

fn many() -> Report {
    recorded(include_str!("../../traces/vtc_osdi24/LShare-rpm5__real.csv"), 27)
}

/// That every element which is opened is closed, in order.
fn assert_balanced(page: &str) {
    let mut open = Vec::new();
    let page =
        page.split("<style>").next().unwrap().to_owned() + page.split("</style>").nth(1).unwrap();
    for tag in page.split('<').skip(1) {
        let tag = tag.split('>').next().unwrap();
        let name = tag.split([' ', '/']).find(|part| !part.is_empty()).unwrap();
        let empty = tag.ends_with('/') || ["!doctype", "meta", "br"].contains(&name);
        if tag.starts_with('/') {
            assert_eq!(open.pop(), Some(name.to_owned()), "</{name}>");
        } else if !empty {
            open.push(name.to_owned());
        }
    }
    assert_eq!(open, Vec::<String>::new());
}

#[test]
fn a_page_is_whole_and_alone() {
    for report in [two(), many(), Report::default()] {
        let page = html(&report);
        assert!(page.starts_with("<!doctype html>\n<html lang=\"en\">"));
        assert_balanced(&page);
        for outside in ["<script", "http:", "https:", "src=", "@import", "url(", "href=", "NaN"] {
            assert!(!page.contains(outside), "{outside}");
        }
        assert_eq!(page.matches("role=\"img\"").count(), page.matches("<desc ").count());
    }
}

#[test]
fn what_a_scenario_says_stays_text() {
    let mut report = two();
    report.tenants[0].name = "<img onerror=x> & \"co\"".to_owned();
    report.tenants[0].refused = BTreeMap::from([("<i>".to_owned(), 3)]);
    let page = html(&report);
    for raw in ["<img", "<i>", "<b>note", "\"co\"", "alert(1)</script>"] {
        assert!(!page.contains(raw), "{raw}");
    }
    let shown = ["&lt;script&gt;alert(1)&lt;/script&gt;", "Two tenants &amp; one", "3 &lt;i&gt;"];
    shown.into_iter().for_each(|shown| assert!(page.contains(shown), "{shown}"));
}

#[test]
fn a_page_has_every_tenant_and_every_plot() {
    let page = html(&many());
    for tenant in 0..27 {
        let row = format!("<th scope=\"row\">team-{tenant}</th>");
        assert_eq!(page.matches(&row).count(), 2, "{row}");
    }
    for id in ["rate", "total", "gap", "ttft"] {
        assert!(page.contains(&format!("id=\"{id}-title\"")), "{id}");
    }
    assert_eq!(page.matches("class=\"line other\" d=\"M1").count(), 0, "grey lines have no key");
    assert!(page.contains("19 tenants with less"));
    assert!(page.contains("pilotage sim &#39;overload.yaml&#39; --seed 42"));
}

#[test]
fn a_broken_bound_is_said() {
    let check = |gap: f64, expect: &str| {
        let points = [(1.0, gap / 2.0), (2.0, gap)];
        let counter_gap = Some(CounterGap::new(20_000.0, &points, 10));
        let page = html(&Report { counter_gap, ..two() });
        assert!(page.contains(expect), "{gap}");
    };
    check(17_104.0, "✓ The bound holds: the widest gap is 17,104 of 20,000, 85.5 %.");
    check(31_294.0, "✗ The bound is broken: the widest gap is 31,294 of 20,000, 156.5 %.");
}

#[test]
fn thinning_keeps_the_widest_gap() {
    let points: Vec<(f64, f64)> =
        (0..1000).map(|at| (f64::from(at), if at == 777 { 9.0 } else { 1.0 })).collect();
    let gap = CounterGap::new(5.0, &points, 10);
    assert_eq!((gap.points.len(), gap.max), (10, 9.0.into()));
    assert!(gap.points.contains(&(777.0.into(), 9.0.into())));
    assert_eq!(CounterGap::new(5.0, &[], 10).points, []);
}

#[test]
fn numbers_are_rounded_and_always_json() {
    let check = |number: f64, expect: &str| {
        assert_eq!(serde_json::to_string(&Rounded::from(number)).unwrap(), expect);
    };
    check(1.0 / 3.0, "0.3333");
    check(-0.000_01, "0.0");
    check(0.1 + 0.2, "0.3");
    check(f64::NAN, "0.0");
    check(f64::INFINITY, "0.0");
    let json = serde_json::to_value(two()).unwrap();
    assert_eq!(json["tenants"][0]["timeToFirstToken"]["mean"], 124.4688);
    assert_eq!(json["fairness"]["accumulatedMax"], 7653.5747);
    assert_eq!(json["serviceRate"]["tenants"][1].as_array().unwrap().len(), 99);
}

#[test]
fn equal_runs_give_equal_bytes() {
    assert_eq!(html(&many()), html(&many()));
    assert_eq!(serde_json::to_string(&two()).unwrap(), serde_json::to_string(&two()).unwrap());
}
