//! What workloads come to: rates, distances, shares, lengths, and the same again for the same seed.

use proptest::prelude::*;

use super::*;
use crate::arrival::seconds;

fn tenants() -> Vec<String> {
    ["a", "b"].map(str::to_owned).to_vec()
}

fn parse(json: &str) -> Workload {
    serde_json::from_str(json).unwrap()
}

/// A workload of tenant `a` with that pattern.
fn patterned(pattern: &str, seconds: f64) -> Workload {
    parse(&format!(
        r#"{{"seconds": {seconds}, "arrivals": {pattern},
            "requests": [{{"tenant": "a", "input": 256, "output": 256}}]}}"#
    ))
}

/// The moments of that pattern.
fn moments(pattern: &str, length: f64) -> Vec<f64> {
    let arrivals = patterned(pattern, length).arrivals(42, &tenants()).unwrap();
    arrivals.iter().map(|arrival| seconds(arrival.at)).collect()
}

/// How many moments lie in a span.
fn between(moments: &[f64], from: f64, to: f64) -> usize {
    moments.iter().filter(|at| (from..to).contains(*at)).count()
}

#[test]
fn gaps_are_as_described() {
    let check = |pattern: &str, mean: f64, cv: f64| {
        let moments = moments(pattern, 20_000.0);
        let gaps: Vec<f64> = moments.windows(2).map(|pair| pair[1] - pair[0]).collect();
        let average = gaps.iter().sum::<f64>() / gaps.len() as f64;
        let squares = gaps.iter().map(|gap| (gap - average).powi(2)).sum::<f64>();
        let varies = (squares / gaps.len() as f64).sqrt() / average;
        assert!((average / mean - 1.0).abs() < 0.03, "{pattern}: {average}");
        assert!((varies - cv).abs() < 0.06, "{pattern}: {varies}");
    };
    check(r#"{"poisson": {"perSecond": 2}}"#, 0.5, 1.0);
    check(r#"{"gamma": {"perSecond": 2, "cv": 2}}"#, 0.5, 2.0);
    check(r#"{"gamma": {"perSecond": 2, "cv": 0.5}}"#, 0.5, 0.5);
    check(r#"{"uniform": {"perSecond": 2}}"#, 0.5, 0.0);
}

#[test]
fn evenly_spaced_requests_come_in_full_number() {
    let check = |rate: f64, length: f64, expect: usize| {
        let moments = moments(&format!(r#"{{"uniform": {{"perSecond": {rate}}}}}"#), length);
        assert_eq!(moments.len(), expect, "{rate}");
        assert!(moments[0] < 1.0 / rate && moments[expect - 1] < length);
    };
    check(0.6, 360.0, 216);
    check(1.5, 360.0, 540);
    check(3.0, 600.0, 1800);
}

#[test]
fn a_pause_is_empty() {
    let pattern = r#"{"onOff": {"perSecond": 2, "onSeconds": 60, "offSeconds": 30}}"#;
    let moments = moments(pattern, 270.0);
    for period in 0..3 {
        let begin = f64::from(period) * 90.0;
        assert_eq!(between(&moments, begin, begin + 60.0), 120);
        assert_eq!(between(&moments, begin + 60.0, begin + 90.0), 0);
    }
}

#[test]
fn a_ramp_rises_and_falls() {
    let check = |from: f64, to: f64, halves: (usize, usize)| {
        let ramp = format!(r#"{{"ramp": {{"fromPerSecond": {from}, "toPerSecond": {to}}}}}"#);
        let moments = moments(&ramp, 100.0);
        let got = (between(&moments, 0.0, 50.0), between(&moments, 50.0, 100.0));
        let near = |got: usize, expect: usize| got.abs_diff(expect) <= 1;
        assert!(near(got.0, halves.0) && near(got.1, halves.1), "{ramp}: {got:?}");
    };
    check(0.0, 4.0, (50, 150));
    check(4.0, 0.0, (150, 50));
    check(2.0, 2.0, (100, 100));
}

#[test]
fn phases_follow_each_other_and_then_nothing() {
    let pattern = r#"{"phases": [
        {"seconds": 100, "arrivals": {"uniform": {"perSecond": 1}}},
        {"seconds": 50, "arrivals": {"uniform": {"perSecond": 4}}}]}"#;
    let all = moments(pattern, 300.0);
    assert_eq!(between(&all, 0.0, 100.0), 100);
    assert_eq!(between(&all, 100.0, 150.0), 200);
    assert_eq!(all.len(), 300);
    assert!(all.is_sorted());
    assert_eq!(moments(pattern, 110.0).len(), 140);
}

#[test]
fn one_stream_is_split_by_shares() {
    let workload = parse(
        r#"{"seconds": 4000, "start": 10, "arrivals": {"poisson": {"perSecond": 9.5}},
            "requests": [
                {"tenant": "b", "share": 8, "input": 512, "output": 32},
                {"tenant": "a", "share": 1.5, "input": 32, "output": 512, "outputMax": 500}]}"#,
    );
    let arrivals = workload.arrivals(1, &tenants()).unwrap();
    let of = |tenant: u32| arrivals.iter().filter(move |arrival| arrival.tenant == tenant);
    let ratio = of(1).count() as f64 / of(0).count() as f64;
    assert!((ratio - 8.0 / 1.5).abs() < 0.3, "{ratio}");
    assert!(of(1).all(|one| (one.input, one.output, one.output_max) == (512, 32, 32)));
    assert!(of(0).all(|one| (one.input, one.output, one.output_max) == (32, 500, 500)));
    assert!(arrivals.iter().all(|arrival| seconds(arrival.at) > 10.0));
}

#[test]
fn lengths_are_as_described() {
    let check = |length: &str, mean: f64, least: u32, most: u32| {
        let length: Length = serde_json::from_str(length).unwrap();
        length.check().unwrap();
        let mut draws = Draws::new(3, "lengths");
        let drawn: Vec<u32> = (0..50_000).map(|_| length.draw(&mut draws)).collect();
        let average = drawn.iter().map(|one| f64::from(*one)).sum::<f64>() / 50_000.0;
        assert!((average / mean - 1.0).abs() < 0.03, "{length:?}: {average}");
        assert!(drawn.iter().all(|one| (least..=most).contains(one)), "{length:?}");
    };
    check("256", 256.0, 256, 256);
    check(r#"{"fixed": 7}"#, 7.0, 7, 7);
    check(r#"{"uniform": {"min": 10, "max": 20}}"#, 15.0, 10, 20);
    let mean = 100.0 * (0.5_f64 * 0.25).exp();
    check(r#"{"lognormal": {"median": 100, "sigma": 0.5, "max": 5000}}"#, mean, 1, 5000);
    check(r#"{"empirical": {"lengths": [10, 30]}}"#, 20.0, 10, 30);
    check(r#"{"empirical": {"lengths": [10, 30], "weights": [3, 1]}}"#, 15.0, 10, 30);
}

#[test]
fn prefixes_are_shared_within_their_group() {
    let prefixed = |name: &str| {
        let json = format!(
            r#"{{"seconds": 100, "arrivals": {{"poisson": {{"perSecond": 5}}}}, "requests": [
                {{"tenant": "a", "input": 10, "output": 1,
                  "prefix": {{"groups": 3, "tokens": 70, "blockTokens": 16{name}}}}},
                {{"tenant": "b", "input": 10, "output": 1,
                  "prefix": {{"groups": 3, "tokens": 70, "blockTokens": 16{name}}}}}]}}"#
        );
        let arrivals = parse(&json).arrivals(1, &tenants()).unwrap();
        assert!(arrivals.iter().all(|one| (one.input, one.prefix.len()) == (80, 4)));
        let mut blocks: Vec<u64> = arrivals.iter().flat_map(|one| one.prefix.to_vec()).collect();
        blocks.sort_unstable();
        blocks.dedup();
        blocks.len()
    };
    assert_eq!(prefixed(""), 24, "three groups of four blocks for each tenant");
    assert_eq!(prefixed(r#", "name": "house""#), 12, "the same for both");
}

#[test]
fn changing_lengths_leaves_times_and_senders() {
    let one = patterned(r#"{"poisson": {"perSecond": 5}}"#, 60.0);
    let mut other = one.clone();
    other.requests[0].output = Length::Uniform(Range { min: 1, max: 900 });
    let when = |workload: &Workload, seed: u64| {
        let arrivals = workload.arrivals(seed, &tenants()).unwrap();
        arrivals.iter().map(|arrival| arrival.at).collect::<Vec<_>>()
    };
    assert_eq!(when(&one, 5), when(&other, 5));
    assert_ne!(when(&one, 5), when(&one, 6));
}

#[test]
fn what_cannot_be_is_refused() {
    let check = |pattern: &str, length: f64, expect: &str| {
        let error = patterned(pattern, length).arrivals(1, &tenants()).unwrap_err();
        assert!(error.to_string().contains(expect), "{error}");
    };
    check(r#"{"poisson": {"perSecond": 0}}"#, 1.0, "`perSecond` is 0, but must be above zero");
    check(r#"{"poisson": {"perSecond": 1}}"#, -1.0, "`seconds` is -1");
    check(r#"{"poisson": {"perSecond": 1000}}"#, 1e6, "about 1000000000 arrivals, at most 1000000");
    check(r#"{"gamma": {"perSecond": 1, "cv": 0}}"#, 1.0, "`cv` is 0");
    check(r#"{"ramp": {"fromPerSecond": 0, "toPerSecond": 0}}"#, 1.0, "`toPerSecond` is 0");
    check(r#"{"phases": []}"#, 1.0, "`phases` is empty");
    let mut workload = patterned(r#"{"poisson": {"perSecond": 1}}"#, 1.0);
    workload.requests[0].tenant = "c".to_owned();
    let error = workload.arrivals(1, &tenants()).unwrap_err();
    assert_eq!(error.to_string(), "there is no tenant `c`, use one of: a, b");
    let typo = r#"{"seconds": 1, "arrivals": {"poisson": {"perSec": 1}}, "requests": []}"#;
    assert!(serde_json::from_str::<Workload>(typo).is_err());
    assert!(serde_json::from_str::<Length>("-1").is_err());
    assert!(serde_json::from_str::<Length>(r#""many""#).is_err());
}

#[test]
fn descriptions_survive_a_round_trip() {
    let text = r#"{"start":0.0,"seconds":1.0,"arrivals":{"phases":[{"seconds":1.0,"arrivals":{"ramp":{"fromPerSecond":1.0,"toPerSecond":2.0}}}]},"requests":[{"tenant":"a","share":1.0,"input":5,"output":{"uniform":{"min":1,"max":2}}}]}"#;
    assert_eq!(serde_json::to_string(&parse(text)).unwrap(), text);
}

#[test]
fn descriptions_are_pleasant_in_yaml() {
    let text = "
seconds: 600
arrivals:
  phases:
  - seconds: 300
    arrivals: { onOff: { perSecond: 2, onSeconds: 60, offSeconds: 60 } }
  - seconds: 300
    arrivals:
      poisson: { perSecond: 0.5 }
requests:
- tenant: a
  input: 256
  output:
    lognormal: { median: 200, sigma: 1 }
  prefix: { groups: 4, tokens: 1024 }
";
    let workload: Workload = serde_saphyr::from_str(text).unwrap();
    assert_eq!(workload.requests[0].input, Length::Fixed(256));
    let lognormal = Lognormal { median: 200.0, sigma: 1.0, max: LENGTH_MAX };
    assert_eq!(workload.requests[0].output, Length::Lognormal(lognormal));
    assert!(!workload.arrivals(1, &tenants()).unwrap().is_empty());
    let wrong = text.replace("input: 256", "input: many");
    let error = serde_saphyr::from_str::<Workload>(&wrong).unwrap_err().to_string();
    assert!(error.contains("a number of tokens"), "{error}");
}

proptest! {
    /// Whatever the rate and the seed, moments ascend and stay inside, and come again.
    #[test]
    fn moments_ascend_within_the_workload(seed: u64, rate in 0.01..50.0, to in 0.01..50.0, cv in 0.1..5.0) {
        let patterns = [
            Pattern::Poisson(Poisson { per_second: rate }),
            Pattern::Gamma(Gamma { per_second: rate, cv }),
            Pattern::Uniform(Uniform { per_second: rate }),
            Pattern::OnOff(OnOff { per_second: rate, on_seconds: cv, off_seconds: to }),
            Pattern::Ramp(Ramp { from_per_second: rate, to_per_second: to }),
        ];
        for pattern in patterns {
            let drawn = |seed: u64| pattern.moments(30.0, &mut Draws::new(seed, "moments"));
            let moments = drawn(seed);
            prop_assert!(moments.is_sorted());
            prop_assert!(moments.iter().all(|at| (0.0..=30.0).contains(at)));
            prop_assert_eq!(moments, drawn(seed));
        }
    }
}
