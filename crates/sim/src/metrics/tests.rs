//! The paper's numbers from its authors' runs, and small cases that one can reckon by hand.

use proptest::prelude::*;

use super::*;
use crate::trace;

/// A committed run, and how long it took in all.
fn run(name: &str) -> (Vec<Served>, f64) {
    let folder = concat!(env!("CARGO_MANIFEST_DIR"), "/traces/vtc_osdi24");
    let file = format!("{name}.csv");
    let text = std::fs::read_to_string(format!("{folder}/{file}")).unwrap();
    let index = std::fs::read_to_string(format!("{folder}/INDEX.csv")).unwrap();
    let line = index.lines().find(|line| line.starts_with(&file)).unwrap();
    (trace::served(&text).unwrap(), line.split(',').nth(3).unwrap().parse().unwrap())
}

/// That a number is the one which was published with so many decimals. Recorded times are rounded to
/// a tenth of a millisecond, which a variance shows in its last decimal.
fn same(got: f64, expect: f64, decimals: i32) -> bool {
    (got - expect).abs() <= 0.5 * 0.1_f64.powi(decimals) + 2e-6 * expect
}

fn mean_to_first_token(served: &[Served], tenant: u32) -> f64 {
    time_to_first_token(served, |one| one == tenant).unwrap().mean
}

/// The paper's Table 2: arrivals of 600 seconds, of which the first 30 warm up.
#[test]
fn table_2_comes_out() {
    let check = |name: &str, difference: [f64; 3], throughput: f64, first: f64, count: usize| {
        let (served, seconds) = run(name);
        let got = measure(&served, Cost::default(), Ticks::of_paper(30.0, 600.0), seconds);
        let [max, mean, variance] = difference;
        assert!(same(got.difference.max, max, 2), "{name}: {got:?}");
        assert!(same(got.difference.mean, mean, 2), "{name}: {got:?}");
        assert!(same(got.difference.variance, variance, 2), "{name}: {got:?}");
        assert!(same(got.tokens_per_second, throughput, 0), "{name}: {got:?}");
        assert!(same(got.time_to_first_token.unwrap().mean, first, 1), "{name}: {got:?}");
        assert_eq!(served.iter().filter(|one| one.first_token.is_some()).count(), count);
    };
    check("FCFS__real", [759.97, 433.53, 32112.00], 777.0, 46.8, 1500);
    check("LCF__real", [750.49, 323.82, 29088.90], 778.0, 41.2, 1500);
    check("VTC__real", [368.40, 251.66, 6549.16], 779.0, 39.7, 1500);
    check("VTC_oracle__real", [329.46, 227.51, 4475.76], 781.0, 40.0, 1500);
    check("LShare-rpm5__real", [143.86, 83.58, 1020.46], 340.0, 0.2, 581);
    check("LShare-rpm20__real", [446.76, 195.71, 7449.79], 694.0, 3.7, 1158);
}

/// The synthetic experiments: no warm-up, arrivals up to the last whole second.
#[test]
fn synthetic_experiments_come_out() {
    let check = |name: &str, difference: [f64; 2], accumulated: Option<f64>, throughput: f64| {
        let (served, seconds) = run(name);
        let end = served.iter().map(|one| one.arrived).fold(0.0, f64::max).floor();
        let got = measure(&served, Cost::default(), Ticks::of_paper(0.0, end), seconds);
        assert!(same(got.difference.max, difference[0], 0), "{name}: {got:?}");
        assert!(same(got.difference.mean, difference[1], 0), "{name}: {got:?}");
        let gap = accumulated.is_none_or(|expect| same(got.accumulated_max, expect, 0));
        assert!(gap, "{name}: {got:?}");
        assert!(same(got.tokens_per_second, throughput, 0), "{name}: {got:?}");
    };
    check("FCFS__overload", [446.0, 438.0], Some(248_716.0), 876.0);
    check("VTC__overload", [192.0, 113.0], Some(7_654.0), 893.0);
    check("FCFS__proportional", [159.0, 145.0], None, 856.0);
    check("VTC__proportional", [81.0, 14.0], None, 883.0);
    check("VTC__on_off_less", [64.0, 59.0], None, 877.0);
    check("LCF__dist_shift", [183.0, 80.0], None, 899.0);
    check("VTC__dist_shift", [108.0, 29.0], None, 903.0);
    check("VTC__poisson_short_long_2", [680.0, 49.0], Some(41_458.0), 1671.0);
}

#[test]
fn times_to_first_token_come_out() {
    let check = |name: &str, expect: &[f64], decimals: i32| {
        let (served, _) = run(name);
        for (tenant, expect) in (0..).zip(expect) {
            let got = mean_to_first_token(&served, tenant);
            assert!(same(got, *expect, decimals), "{name}, client {tenant}: {got}");
        }
    };
    check("FCFS__overload", &[485.0, 485.0], 0);
    check("VTC__overload", &[124.5, 353.4], 1);
    check("FCFS__proportional", &[97.0, 97.0, 96.0], 0);
    check("VTC__proportional", &[4.8, 4.9, 124.4], 1);
    check("VTC__on_off_less", &[3.5, 102.4], 1);
    check("VTC__dist_shift", &[16.0, 124.0], 0);
    check("VTC__poisson_short_long_2", &[902.0, 303.0], 0);
    check("WVTC__overload-weighted", &[224.7, 224.9, 225.6, 225.4], 1);
}

fn request(tenant: u32, arrived: f64, first: f64, end: f64) -> Served {
    Served { arrived, tenant, input: 20, output: 40, first_token: Some(first), end }
}

#[test]
fn service_is_spread_between_first_token_and_end() {
    let served = [
        request(0, 0.0, 10.0, 20.0),
        request(0, 5.0, 15.0, 35.0),
        Served { first_token: None, ..request(1, 0.0, 0.0, 0.0) },
    ];
    let service = Service::new(&served, Cost::default());
    let check = |from: f64, to: f64, expect: f64| assert_eq!(service.got(0, from, to), expect);
    check(0.0, 10.0, 0.0);
    check(10.0, 15.0, 50.0);
    check(10.0, 20.0, 125.0);
    check(0.0, 100.0, 200.0);
    assert_eq!(service.asked(0, 0.0, 5.0), 200.0);
    assert_eq!(service.asked(0, 0.0, 4.9), 100.0);
    assert_eq!(service.tenants().collect::<Vec<_>>(), [0], "nobody got anything but the first");
}

#[test]
fn who_asks_for_little_lacks_little() {
    // Both arrive and end in the window around 60 s: tenant 1 got all it asked for.
    let mut served = vec![request(0, 40.0, 40.0, 80.0); 6];
    served.push(request(1, 40.0, 40.0, 80.0));
    let ticks = Ticks { warmup_seconds: 0.0, end_seconds: 120.0, parts: 2, window_seconds: 60.0 };
    let service = Service::new(&served, Cost::default());
    assert_eq!(ticks.moments().collect::<Vec<_>>(), [60.0]);
    assert_eq!(ticks.rates(&service, 0), [10.0]);
    assert_eq!(ticks.difference(&service), Difference::default());
    // Asking for more makes it lack, up to what the other got.
    served.push(request(1, 40.0, 400.0, 500.0));
    let service = Service::new(&served, Cost::default());
    let lacks = ticks.difference(&service);
    assert!((lacks.max - 100.0 / 60.0).abs() < 1e-9, "{lacks:?}");
    assert_eq!((lacks.mean, lacks.variance), (lacks.max, 0.0));
    assert_eq!(ticks.accumulated(&service), [250.0]);
}

#[test]
fn quantiles_are_values() {
    let check = |values: &[f64], expect: Option<(f64, f64, f64)>| {
        let got = Quantiles::of(values.to_vec()).map(|one| (one.mean, one.p50, one.p99));
        assert_eq!(got, expect);
    };
    check(&[], None);
    check(&[3.0], Some((3.0, 3.0, 3.0)));
    check(&[4.0, 1.0, 3.0, 2.0], Some((2.5, 2.0, 4.0)));
    let hundred: Vec<f64> = (1..=100).map(f64::from).collect();
    check(&hundred, Some((50.5, 50.0, 99.0)));
}

#[test]
fn jain_tells_equal_from_unequal() {
    let check = |shares: &[f64], expect: f64| assert_eq!(jain(shares), expect, "{shares:?}");
    check(&[], 1.0);
    check(&[0.0, 0.0], 1.0);
    check(&[5.0, 5.0, 5.0], 1.0);
    check(&[9.0, 0.0, 0.0, 0.0], 0.25);
    check(&[1.0, 3.0], 0.8);
}

#[test]
fn an_empty_run_has_measures_too() {
    let got = measure(&[], Cost::default(), Ticks::of_paper(0.0, 600.0), 0.0);
    assert_eq!((got.difference, got.accumulated_max), (Difference::default(), 0.0));
    assert_eq!((got.jain, got.tokens_per_second, got.time_to_first_token), (1.0, 0.0, None));
}

proptest! {
    /// Every token is counted once, wherever the time is cut.
    #[test]
    fn service_is_conserved(
        requests in prop::collection::vec((0..3_u32, 0.0..100.0, 0.0..50.0, 0.1..50.0), 1..20),
        cut in 0.0..300.0,
    ) {
        let served: Vec<Served> = requests
            .iter()
            .map(|(tenant, at, wait, takes)| request(*tenant, *at, at + wait, at + wait + takes))
            .collect();
        let service = Service::new(&served, Cost::default());
        for (tenant, total) in service.totals() {
            let parts = service.got(tenant, 0.0, cut) + service.got(tenant, cut, 300.0);
            prop_assert!((parts - total).abs() < 1e-6);
            prop_assert!((service.asked(tenant, 0.0, 100.0) - total).abs() < 1e-6);
        }
    }
}
