//! How far apart tenants were, looked at from tick to tick.

use serde::{Deserialize, Serialize};

use super::Service;

/// When to look. Ticks lie evenly from the end of the warm-up to the end of what is looked at; the
/// first, which lies on the warm-up's end itself, is left out.
#[derive(Clone, Copy, Debug, Deserialize, PartialEq, Serialize)]
#[serde(deny_unknown_fields, rename_all = "camelCase")]
pub struct Ticks {
    /// Seconds at the begin that are not looked at.
    pub warmup_seconds: f64,
    /// Seconds at which looking ends.
    pub end_seconds: f64,
    /// How many parts lie between, and so one more than there are ticks.
    pub parts: u32,
    /// Seconds around a tick that its rates are taken from.
    pub window_seconds: f64,
}

/// The distance between tenants' rates of service, in weighted tokens a second, over all ticks.
#[derive(Clone, Copy, Debug, Default, Deserialize, PartialEq, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct Difference {
    /// The widest.
    pub max: f64,
    /// The average.
    pub mean: f64,
    /// How much it varies.
    pub variance: f64,
}

impl Ticks {
    /// As the paper's tables do it for a run of that many seconds of arrivals.
    pub fn of_paper(warmup_seconds: f64, end_seconds: f64) -> Self {
        Self { warmup_seconds, end_seconds, parts: 20, window_seconds: 60.0 }
    }

    /// The ticks, in seconds from the run's start.
    pub fn moments(&self) -> impl Iterator<Item = f64> {
        let part = (self.end_seconds - self.warmup_seconds) / f64::from(self.parts.max(1));
        let warmup = self.warmup_seconds;
        (1..self.parts).map(move |number| warmup + part * f64::from(number))
    }

    /// A tenant's rate of service around each tick.
    pub fn rates(&self, service: &Service, tenant: u32) -> Vec<f64> {
        let windows = self.moments().map(|tick| self.window(tick));
        windows.map(|(from, to)| service.got(tenant, from, to) / self.window_seconds).collect()
    }

    /// What a tenant got from the warm-up's end to each tick.
    pub fn totals(&self, service: &Service, tenant: u32) -> Vec<f64> {
        self.moments().map(|tick| service.got(tenant, self.warmup_seconds, tick)).collect()
    }

    /// At each tick, how much more the tenant with the most has accumulated than that with the least.
    pub fn accumulated(&self, service: &Service) -> Vec<f64> {
        let gap = |tick: f64| {
            let got = service.tenants().map(|one| service.got(one, self.warmup_seconds, tick));
            let (least, most) = got
                .fold((f64::INFINITY, f64::NEG_INFINITY), |(least, most), got| {
                    (least.min(got), most.max(got))
                });
            (most - least).max(0.0)
        };
        self.moments().map(gap).collect()
    }

    /// The distance between tenants' rates.
    pub fn difference(&self, service: &Service) -> Difference {
        let distances: Vec<f64> = self.moments().map(|tick| self.distance(service, tick)).collect();
        let count = distances.len().max(1) as f64;
        let mean = distances.iter().sum::<f64>() / count;
        let squares = distances.iter().map(|distance| (distance - mean).powi(2)).sum::<f64>();
        let max = distances.into_iter().fold(0.0, f64::max);
        Difference { max, mean, variance: squares / count }
    }

    /// How much each tenant lacks of the most that any tenant gets, but at most what it asks for and
    /// does not get, summed over tenants: who asks for little lacks little.
    fn distance(&self, service: &Service, tick: f64) -> f64 {
        let (from, to) = self.window(tick);
        let rate = |tokens: f64| tokens / self.window_seconds;
        let rates: Vec<(f64, f64)> = service
            .tenants()
            .map(|one| (rate(service.got(one, from, to)), rate(service.asked(one, from, to))))
            .collect();
        let most = rates.iter().map(|(got, _)| *got).fold(0.0, f64::max);
        rates.iter().map(|(got, asked)| (most - got).min((asked - got).abs())).sum()
    }

    fn window(&self, tick: f64) -> (f64, f64) {
        (tick - self.window_seconds / 2.0, tick + self.window_seconds / 2.0)
    }
}
