//! Fleets that grow and shrink: who decides how many replicas there are, how long they take to come,
//! and what they cost.

use pilotage_core::scale::{Foresight, Goal, Policy, Season, Zero};
use pilotage_core::{Band, Span, Time};
use serde::Deserialize;
use serde_saphyr::Spanned;

use super::resolve::{line, span, within};
use super::{REPLICAS_MAX, ScenarioError};
use crate::arrival::time;
use crate::scaler::Autoscaler;

type Result<T> = std::result::Result<T, ScenarioError>;

/// What a file says.
#[derive(Clone, Debug, Deserialize)]
#[serde(default, deny_unknown_fields, rename_all = "camelCase")]
pub(super) struct File {
    pub scaler: Option<Spanned<String>>,
    /// Replicas that serve from the begin.
    pub begin: u32,
    pub min: u32,
    pub max: u32,
    pub zero: ZeroName,
    pub start_seconds: f64,
    pub wake_seconds: f64,
    pub idle_seconds: f64,
    pub asleep_max: u32,
    /// How long a replica may take to end what it has.
    pub drain_seconds: f64,
    pub ttft_ms: f64,
    pub tpot_ms: f64,
    pub attainment: f64,
    pub season: Option<SeasonFile>,
    pub price_per_hour: f64,
    /// What a sleeping replica costs, as a part of one awake.
    pub asleep_part: f64,
    pub spot: Option<SpotFile>,
    /// How many times slower replicas are taken to be than they are.
    pub believed_slowness: f64,
}

impl Default for File {
    fn default() -> Self {
        Self {
            scaler: None,
            begin: 1,
            min: 1,
            max: 12,
            zero: ZeroName::AlwaysWarm,
            start_seconds: 120.0,
            wake_seconds: 5.0,
            idle_seconds: 600.0,
            asleep_max: 1,
            drain_seconds: 600.0,
            ttft_ms: 2000.0,
            tpot_ms: 100.0,
            attainment: 0.95,
            season: None,
            price_per_hour: 2.0,
            asleep_part: 0.2,
            spot: None,
            believed_slowness: 1.0,
        }
    }
}

#[derive(Clone, Copy, Debug, Deserialize, Eq, PartialEq)]
#[serde(rename_all = "camelCase")]
pub(super) enum ZeroName {
    AlwaysWarm,
    WarmZero,
    HotZero,
    ColdZero,
}

#[derive(Clone, Copy, Debug, Deserialize)]
#[serde(deny_unknown_fields, rename_all = "camelCase")]
pub(super) struct SeasonFile {
    pub seconds: f64,
    pub slots: u32,
}

#[derive(Clone, Debug, Default, Deserialize)]
#[serde(default, deny_unknown_fields, rename_all = "camelCase")]
pub(super) struct SpotFile {
    /// Most replicas on it.
    pub max: u32,
    /// Replicas that are not, before any is.
    pub on_demand_min: u32,
    pub price_per_hour: f64,
    /// How often each is taken away.
    pub interruptions_per_hour: f64,
    pub notice_seconds: f64,
    /// When all of them are taken away.
    pub reclaimed_at: Vec<f64>,
}

/// How a fleet grows and shrinks.
#[derive(Clone, Debug, PartialEq)]
pub struct Scaling {
    /// Who decides.
    pub scaler: Autoscaler,
    /// What is asked for.
    pub policy: Policy,
    /// Replicas that serve from the begin.
    pub begin: u32,
    /// How long a replica may take to end what it has.
    pub drain: Span,
    /// What a replica costs in an hour.
    pub price: f64,
    /// What a sleeping one costs of that.
    pub asleep_part: f64,
    /// Those that may be taken away.
    pub spot: Option<Spot>,
    /// How many times slower replicas are taken to be than they are.
    pub believed_slowness: f64,
}

/// Replicas that cost less and may be taken away.
#[derive(Clone, Debug, PartialEq)]
pub struct Spot {
    /// Most of them.
    pub max: u32,
    /// Others that there have to be before any of them.
    pub on_demand_min: u32,
    /// What one costs in an hour.
    pub price: f64,
    /// How often each is taken away in an hour.
    pub per_hour: f64,
    /// How long before that it is told.
    pub notice: Span,
    /// When all of them are told to go.
    pub reclaimed: Vec<Time>,
}

impl Scaling {
    /// Engines to have, so that new ones can start while old ones end what they have.
    pub(super) fn slots(&self) -> u32 {
        self.policy.max.saturating_mul(2).saturating_add(2).min(REPLICAS_MAX)
    }

    /// What is expected of a request of that band.
    pub fn goal(&self, band: Band) -> Goal {
        self.policy.goals[band as usize]
    }
}

pub(super) fn resolve(given: &File) -> Result<Scaling> {
    let named = given.scaler.as_ref().map(|name| {
        Autoscaler::find(&name.value).ok_or_else(|| {
            let known = Autoscaler::names().collect::<Vec<_>>().join(", ");
            let problem = format!("no scaler `{}` (known: {known})", name.value);
            ScenarioError::new(line(name), "scaling.scaler", problem)
        })
    });
    let scaler = named.transpose()?.unwrap_or_else(Autoscaler::ours);
    within("scaling.max", f64::from(given.max), 1.0, f64::from(REPLICAS_MAX / 2 - 1))?;
    within("scaling.begin", f64::from(given.begin), 0.0, f64::from(given.max))?;
    let number =
        |field: &str, value: f64, most: f64| within(&format!("scaling.{field}"), value, 0.0, most);
    let seconds = |field: &str, value: f64| number(field, value, 86_400.0).map(span);
    let policy = policy(given)?;
    Ok(Scaling {
        scaler,
        policy: policy
            .checked()
            .map_err(|error| ScenarioError::new(0, "scaling", error.to_string()))?,
        begin: given.begin,
        drain: seconds("drainSeconds", given.drain_seconds)?,
        price: number("pricePerHour", given.price_per_hour, 1e6)?,
        asleep_part: number("asleepPart", given.asleep_part, 1.0)?,
        spot: given.spot.as_ref().map(spot).transpose()?,
        believed_slowness: within("scaling.believedSlowness", given.believed_slowness, 0.1, 10.0)?,
    })
}

fn policy(given: &File) -> Result<Policy> {
    let seconds = |field: &str, value: f64| {
        within(&format!("scaling.{field}"), value, 0.0, 86_400.0).map(span)
    };
    let goal = |field: &str, ms: f64| {
        within(&format!("scaling.{field}"), ms, 1.0, 1e7).map(|ms| Some(span(ms / 1000.0)))
    };
    let mut policy = Policy {
        min: given.min,
        max: given.max,
        attainment: given.attainment,
        asleep_max: given.asleep_max,
        zero: match given.zero {
            ZeroName::AlwaysWarm => Zero::AlwaysWarm,
            ZeroName::WarmZero => Zero::WarmZero,
            ZeroName::HotZero => Zero::HotZero,
            ZeroName::ColdZero => Zero::ColdZero,
        },
        start: seconds("startSeconds", given.start_seconds)?,
        wake: seconds("wakeSeconds", given.wake_seconds)?,
        idle: seconds("idleSeconds", given.idle_seconds)?,
        ..Policy::default()
    };
    for band in &mut policy.goals[..2] {
        band.ttft = goal("ttftMs", given.ttft_ms)?;
        band.tpot = goal("tpotMs", given.tpot_ms)?;
    }
    let season = given.season.map(|season| {
        let period = within("scaling.season.seconds", season.seconds, 60.0, 604_800.0)?;
        Ok::<_, ScenarioError>(Season { period: span(period), slots: season.slots })
    });
    let seasons = season.transpose()?.into_iter().collect();
    policy.foresight = Foresight { seasons, ..Foresight::default() };
    Ok(policy)
}

fn spot(given: &SpotFile) -> Result<Spot> {
    let number = |field: &str, value: f64, most: f64| {
        within(&format!("scaling.spot.{field}"), value, 0.0, most)
    };
    let reclaimed = given.reclaimed_at.iter().map(|at| number("reclaimedAt", *at, 1e9).map(time));
    Ok(Spot {
        max: given.max,
        on_demand_min: given.on_demand_min,
        price: number("pricePerHour", given.price_per_hour, 1e6)?,
        per_hour: number("interruptionsPerHour", given.interruptions_per_hour, 3600.0)?,
        notice: span(number("noticeSeconds", given.notice_seconds, 3600.0)?),
        reclaimed: reclaimed.collect::<Result<_>>()?,
    })
}
