//! What the VTC paper's authors measured, suite by suite, and how near a simulated run comes.
//!
//! Numbers are recomputed from the runs in the paper's artifact. Tolerances are wide where a suite is
//! sensitive: two clients with equal requests at equal distances fall into step with the engine's
//! batches, and a little more or less time for a step changes who gets ahead.

use serde::Serialize;

use crate::arrival::seconds;
use crate::metrics::time_to_first_token;
use crate::outcome;
use crate::run::Run;
use crate::scenario::Scenario;

/// One suite's numbers.
#[derive(Clone, Copy, Debug)]
pub struct Published {
    /// The scenario that plays it.
    pub scenario: &'static str,
    /// Tokens a second.
    pub throughput: Option<f64>,
    /// Average distance of rates of service.
    pub difference: Option<f64>,
    /// The widest that accumulated services came apart.
    pub accumulated: Option<f64>,
    /// Mean seconds to the first token by client, or of all where the name is empty.
    pub first_token: &'static [(&'static str, f64)],
    /// What the simulation does not match.
    pub apart: &'static [&'static str],
}

/// One number beside its counterpart.
#[derive(Clone, Debug, PartialEq, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct Comparison {
    /// Which: `tok/s`, `AvgDiff`, `acc`, or `TTFT` and the client's name.
    pub measure: String,
    /// What was measured.
    pub published: f64,
    /// What was simulated.
    pub simulated: f64,
    /// Whether they are as near as they should be; none where no nearness is asked for.
    pub holds: Option<bool>,
}

impl Published {
    /// Every number of it beside that of a run.
    pub fn compare(&self, scenario: &Scenario, run: &Run) -> Vec<Comparison> {
        let fair = outcome::fairness(scenario, run);
        let is_real = self.scenario.starts_with("vtc/real");
        let part = |got: f64, expect: f64, part: f64| (got / expect - 1.0).abs() <= part;
        let mut found = Vec::new();
        let mut put = |measure: String, published: f64, simulated: f64, holds: Option<bool>| {
            found.push(Comparison { measure, published, simulated, holds });
        };
        if let Some(expect) = self.throughput {
            let got = fair.tokens_per_second;
            put("tok/s".to_owned(), expect, got, Some(part(got, expect, 0.05)));
        }
        if let Some(expect) = self.difference {
            let got = fair.difference.mean;
            put("AvgDiff".to_owned(), expect, got, is_real.then(|| part(got, expect, 0.10)));
        }
        if let Some(expect) = self.accumulated {
            let got = fair.accumulated_max;
            let ratio = got / expect;
            put("acc".to_owned(), expect, got, Some((1.0 / 3.0..=3.0).contains(&ratio)));
        }
        let served = outcome::served(scenario, run);
        for (client, expect) in self.first_token {
            let name = |at: u32| scenario.tenants.get(at as usize).map(|one| one.name.as_str());
            let wanted = |at: u32| client.is_empty() || name(at) == Some(client);
            let got = time_to_first_token(&served, wanted).map_or(0.0, |times| times.mean);
            // Published times are rounded to tenths of a second.
            let holds = (got - expect).abs() <= 0.15 * expect + 0.05;
            put(format!("TTFT {client}").trim_end().to_owned(), *expect, got, Some(holds));
        }
        found
    }

    /// Whether it is known that the simulation does not match this measure.
    pub fn is_apart(&self, measure: &str) -> bool {
        self.apart.contains(&measure)
    }
}

/// Seconds that a run took, for tables.
pub fn length(run: &Run) -> f64 {
    seconds(run.end)
}

const NONE: Published = Published {
    scenario: "",
    throughput: None,
    difference: None,
    accumulated: None,
    first_token: &[],
    apart: &[],
};

/// A row of table 2: throughput, average difference, mean time to the first token.
const fn real(
    scenario: &'static str,
    throughput: f64,
    difference: f64,
    first_token: &'static [(&'static str, f64)],
) -> Published {
    let (throughput, difference) = (Some(throughput), Some(difference));
    Published { scenario, throughput, difference, first_token, ..NONE }
}

/// A synthetic suite: throughput, average difference, widest accumulated difference where known.
const fn suite(
    scenario: &'static str,
    throughput: f64,
    difference: f64,
    accumulated: Option<f64>,
    first_token: &'static [(&'static str, f64)],
) -> Published {
    let (throughput, difference) = (Some(throughput), Some(difference));
    Published { scenario, throughput, difference, accumulated, first_token, ..NONE }
}

const fn accumulated(scenario: &'static str, accumulated: f64) -> Published {
    Published { scenario, accumulated: Some(accumulated), ..NONE }
}

const fn apart(published: Published, apart: &'static [&'static str]) -> Published {
    Published { apart, ..published }
}

/// All of it.
pub const PUBLISHED: &[Published] = &[
    real("vtc/real-fcfs", 777.0, 433.53, &[("", 46.8)]),
    real("vtc/real-lcf", 778.0, 323.82, &[("", 41.2)]),
    real("vtc/real-vtc", 779.0, 251.66, &[("", 39.7)]),
    real("vtc/real-predict", 773.0, 240.33, &[("", 39.7)]),
    real("vtc/real-oracle", 781.0, 227.51, &[("", 40.0)]),
    apart(real("vtc/real-rpm5", 340.0, 83.58, &[("", 0.2)]), &["AvgDiff"]),
    real("vtc/real-rpm10", 532.0, 128.24, &[("", 0.5)]),
    real("vtc/real-rpm15", 626.0, 161.06, &[("", 1.7)]),
    real("vtc/real-rpm20", 694.0, 195.71, &[("", 3.7)]),
    real("vtc/real-rpm30", 747.0, 309.45, &[("", 19.9)]),
    suite("vtc/overload", 893.0, 113.0, Some(7_654.0), &[("0", 124.5), ("1", 353.4)]),
    suite("vtc/overload-fcfs", 876.0, 438.0, Some(248_716.0), &[("0", 485.0), ("1", 485.0)]),
    accumulated("vtc/overload-oracle", 5_265.0),
    suite(
        "vtc/overload-multi",
        875.0,
        175.0,
        Some(3_332.0),
        &[("slow-1", 150.0), ("slow-2", 150.0), ("fast-1", 295.0), ("fast-5", 295.0)],
    ),
    suite("vtc/overload-multi-fcfs", 875.0, 237.0, Some(22_102.0), &[]),
    Published {
        scenario: "vtc/overload-weighted",
        first_token: &[("0", 224.7), ("1", 224.9), ("2", 225.6), ("3", 225.4)],
        ..NONE
    },
    apart(
        suite("vtc/proportional", 883.0, 14.0, None, &[("0", 4.8), ("1", 4.9), ("2", 124.4)]),
        &["TTFT 0"],
    ),
    suite("vtc/proportional-fcfs", 856.0, 145.0, None, &[("0", 97.0), ("1", 97.0), ("2", 96.0)]),
    suite("vtc/on-off-less", 877.0, 59.0, None, &[("0", 3.5), ("1", 102.4)]),
    apart(
        suite("vtc/on-off-overload", 879.0, 119.0, Some(8_757.0), &[("a", 75.0), ("b", 510.0)]),
        &["acc"],
    ),
    suite("vtc/on-off-overload-fcfs", 876.0, 439.0, Some(370_598.0), &[]),
    apart(
        suite(
            "vtc/poisson-short-long",
            1445.0,
            41.0,
            Some(18_099.0),
            &[("short", 132.7), ("long", 44.9)],
        ),
        &["TTFT long"],
    ),
    suite("vtc/poisson-short-long-fcfs", 1475.0, 212.0, Some(211_842.0), &[]),
    apart(
        suite(
            "vtc/poisson-short-long-2",
            1671.0,
            49.0,
            Some(41_458.0),
            &[("0", 902.0), ("1", 303.0)],
        ),
        &["tok/s"],
    ),
    apart(suite("vtc/dist-shift", 903.0, 29.0, None, &[("0", 16.0), ("1", 124.0)]), &["TTFT 0"]),
    suite("vtc/dist-shift-lcf", 899.0, 80.0, None, &[]),
    accumulated("vtc/overload-s4-256", 45_257.0),
    accumulated("vtc/overload-s4-512", 23_993.0),
    accumulated("vtc/overload-s4-768", 31_987.0),
    accumulated("vtc/overload-s4-512-65k", 31_335.0),
];
