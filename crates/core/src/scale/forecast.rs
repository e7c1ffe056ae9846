//! How many requests will come? A level with a trend that fades (Holt's method, damped), days and weeks
//! that are like those before, and how wrong it has been.
//!
//! Observations may come at any distance. A jump that no noise explains is believed when it is seen
//! twice, instead of being averaged away.

use std::collections::VecDeque;

use super::policy::{Foresight, Season};
use crate::{Span, Time};

/// Over how long past mistakes are averaged.
const MISTAKES: f64 = 900.0;

/// Beyond how many standard deviations an observation is no noise.
const JUMP: f64 = 3.0;

/// Observations before noise is known well enough to tell a jump from it.
const KNOWN: u32 = 6;

/// Most predictions whose turn has not come.
const PENDING_MAX: usize = 512;

/// How far a day may be from the one before and be like it.
const ALIKE: (f64, f64) = (0.5, 2.0);

/// What the newest day counts for what days are like.
const NEWEST_DAY: f64 = 0.5;

/// What is to be expected.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub struct Estimate {
    /// The most likely.
    pub mean: f64,
    /// So much less would not surprise.
    pub low: f64,
    /// So much more would not surprise.
    pub high: f64,
}

/// A series, and where it goes.
#[derive(Clone, Debug)]
pub struct Forecast {
    settings: Foresight,
    /// Where Time's origin lies in every season.
    phase: Span,
    state: Option<State>,
    seasons: Vec<Profile>,
    /// What was predicted for when.
    pending: VecDeque<(Time, f64)>,
    /// The mean square of mistakes at the distance that matters: where more came, and where less did.
    mistakes: (f64, f64),
}

#[derive(Clone, Copy, Debug)]
struct State {
    at: Time,
    level: f64,
    /// Of a second.
    trend: f64,
    /// The mean square of what observations were off by.
    noise: f64,
    seen: u32,
    /// The last observation, where it was beyond noise: by how much.
    jumped: Option<(f64, f64)>,
}

impl Forecast {
    /// Nothing seen yet. `phase` is how far into its seasons the origin of time is.
    pub fn new(settings: Foresight, phase: Span) -> Self {
        let seasons = settings.seasons.iter().copied().map(Profile::new).collect();
        let pending = VecDeque::new();
        Self { settings, phase, state: None, seasons, pending, mistakes: (0.0, 0.0) }
    }

    /// So much was seen; what is no number was not. What comes after `lead` is predicted, to learn from it
    /// when it has come.
    pub fn observe(&mut self, now: Time, value: f64, lead: Span) {
        if !value.is_finite() {
            return;
        }
        let Some(mut state) = self.state else {
            self.state = Some(State::new(now, value));
            return;
        };
        let passed = now.since(state.at).as_secs_f64();
        if passed <= 0.0 {
            return;
        }
        if state.take(now, value, passed, &self.settings) {
            // Nobody foresees a jump: what was predicted before it is no measure of what is now.
            self.pending.clear();
        }
        self.state = Some(state);
        let moment = self.phase + now.since(Time::ZERO);
        self.seasons.iter_mut().for_each(|season| season.take(moment, state.level));
        self.learn(now, state.level, passed);
        if self.pending.len() < PENDING_MAX {
            self.pending.push_back((now + lead, self.mean(now, lead)));
        }
    }

    fn learn(&mut self, now: Time, level: f64, passed: f64) {
        let share = -(-passed / MISTAKES).exp_m1();
        while let Some((due, predicted)) = self.pending.front().copied() {
            if due > now {
                break;
            }
            self.pending.pop_front();
            let (more, less) = ((level - predicted).max(0.0), (predicted - level).max(0.0));
            self.mistakes.0 += share * (more * more - self.mistakes.0);
            self.mistakes.1 += share * (less * less - self.mistakes.1);
        }
    }

    /// The level now.
    pub fn level(&self) -> Option<f64> {
        self.state.map(|state| state.level.max(0.0))
    }

    /// What is to be expected so far ahead; none before anything was seen.
    pub fn at(&self, now: Time, ahead: Span) -> Option<Estimate> {
        self.state?;
        let mean = self.mean(now, ahead);
        let off = |square: f64| self.settings.deviations * square.sqrt();
        let (more, less) = (off(self.mistakes.0), off(self.mistakes.1));
        Some(Estimate { mean, low: (mean - less).max(0.0), high: mean + more })
    }

    /// The most that is to be expected until then.
    pub fn peak(&self, now: Time, ahead: Span) -> Option<Estimate> {
        let parts = [0, 1, 2, 3, 4].map(|part| Span::from_nanos(ahead.as_nanos() / 4 * part));
        let all = parts.into_iter().filter_map(|part| self.at(now, part));
        all.reduce(|most, one| if one.high > most.high { one } else { most })
    }

    fn mean(&self, now: Time, ahead: Span) -> f64 {
        let Some(state) = self.state else { return 0.0 };
        let level = state.level.max(0.0);
        if !self.settings.enabled {
            return level;
        }
        let ahead_seconds = now.since(state.at).as_secs_f64() + ahead.as_secs_f64();
        let drifted = level + state.trend * reach(ahead_seconds, &self.settings);
        let from = self.phase + now.since(Time::ZERO);
        let seasonal = self.seasons.iter().filter_map(|season| season.at(from, ahead, level));
        seasonal.fold(drifted.max(0.0), f64::max)
    }
}

/// How many seconds' worth of its trend a series goes in so many seconds.
fn reach(seconds: f64, settings: &Foresight) -> f64 {
    let damping = settings.damping.as_secs_f64();
    damping * -(-seconds / damping).exp_m1()
}

impl State {
    const fn new(at: Time, value: f64) -> Self {
        Self { at, level: value, trend: 0.0, noise: 0.0, seen: 1, jumped: None }
    }

    /// Takes an observation in; whether it and the one before it are a jump.
    fn take(&mut self, now: Time, value: f64, passed: f64, settings: &Foresight) -> bool {
        let part = |over: Span| -(-passed / over.as_secs_f64()).exp_m1();
        let foreseen = self.level + self.trend * reach(passed, settings);
        let off = value - foreseen;
        self.at = now;
        self.seen = self.seen.saturating_add(1);
        let (level, trend) = (part(settings.level), part(settings.trend));
        let share = level.max(1.0 / f64::from(self.seen));
        let strange = self.seen > KNOWN && off * off > JUMP * JUMP * self.noise;
        if let Some((past, last)) = self.jumped.take() {
            if strange && past.signum() == off.signum() {
                (self.level, self.trend) = (f64::midpoint(value, last), 0.0);
                return true;
            }
            // It was noise after all.
            self.noise += share * (past * past - self.noise);
        }
        if strange {
            self.jumped = Some((off, value));
        } else {
            self.noise += share * (off * off - self.noise);
        }
        let faded = self.trend * (-passed / settings.damping.as_secs_f64()).exp();
        // Of the first few none is a better sample than the others.
        self.level = foreseen + share * off;
        self.trend = faded + level * trend * off / passed;
        false
    }
}

/// What a season is like, part by part.
#[derive(Clone, Debug)]
struct Profile {
    season: Season,
    slots: Vec<Option<f64>>,
    /// The part that goes on: which, its sum, and how much was seen of it.
    current: Option<(usize, f64, u32)>,
}

impl Profile {
    fn new(season: Season) -> Self {
        Self { season, slots: vec![None; season.slots.max(1) as usize], current: None }
    }

    fn slot(&self, moment: Span) -> usize {
        let period = self.season.period.as_nanos().max(1);
        let into = u128::from(moment.as_nanos() % period) * self.slots.len() as u128;
        usize::try_from(into / u128::from(period)).unwrap_or(0)
    }

    fn take(&mut self, moment: Span, value: f64) {
        let slot = self.slot(moment);
        let (at, sum, count) = self.current.unwrap_or((slot, 0.0, 0));
        if at == slot {
            self.current = Some((slot, sum + value, count.saturating_add(1)));
            return;
        }
        let mean = sum / f64::from(count.max(1));
        let known = &mut self.slots[at];
        *known = Some(known.map_or(mean, |old| old + NEWEST_DAY * (mean - old)));
        self.current = Some((slot, value, 1));
    }

    /// What the last times were like then, as far as now is like them.
    fn at(&self, from: Span, ahead: Span, level: f64) -> Option<f64> {
        let here = self.slots[self.slot(from)]?;
        let then = self.slots[self.slot(from + ahead)]?;
        let ratio = if here > 0.0 { (level / here).clamp(ALIKE.0, ALIKE.1) } else { 1.0 };
        Some(then * ratio)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const LEAD: Span = Span::from_secs(180);

    fn at(seconds: f64) -> Time {
        Time::from_nanos((seconds * 1e9) as u64)
    }

    fn seen(settings: Foresight, until: u32, value: impl Fn(f64) -> f64) -> Forecast {
        let mut forecast = Forecast::new(settings, Span::ZERO);
        for step in 0..=until / 10 {
            let seconds = f64::from(step) * 10.0;
            forecast.observe(at(seconds), value(seconds), LEAD);
        }
        forecast
    }

    #[test]
    fn a_ramp_goes_on() {
        let forecast = seen(Foresight::default(), 1800, |seconds| 2.0 + seconds / 100.0);
        let ahead = forecast.at(at(1800.0), LEAD).unwrap();
        // 20 now, 21.8 then; it is believed in part.
        assert!(ahead.mean > 20.8 && ahead.mean < 22.5, "{ahead:?}");
        assert!(ahead.low <= ahead.mean && ahead.mean <= ahead.high);
        let off = Foresight { enabled: false, ..Foresight::default() };
        let forecast = seen(off, 1800, |seconds| 2.0 + seconds / 100.0);
        assert!(forecast.at(at(1800.0), LEAD).unwrap().mean < 20.0, "not looked ahead");
    }

    #[test]
    fn a_jump_is_believed_at_the_second_sight() {
        let crowd = |seconds: f64| if seconds < 600.0 { 5.0 } else { 50.0 };
        let once = seen(Foresight::default(), 600, crowd).level().unwrap();
        assert!(once < 15.0, "one may be chance: {once}");
        let twice = seen(Foresight::default(), 610, crowd).level().unwrap();
        assert!((twice - 50.0).abs() < 1e-9, "{twice}");
    }

    #[test]
    fn tomorrow_is_like_today() {
        let hours = |seconds: f64| (seconds / 3600.0) % 24.0;
        let day = |seconds: f64| if hours(seconds) >= 8.0 { 20.0 } else { 2.0 };
        let seasons = vec![Season::DAY];
        let known =
            seen(Foresight { seasons, ..Foresight::default() }, 86_400 + 8 * 3600 - 60, day);
        let now = at(86_400.0 + 8.0 * 3600.0 - 60.0);
        assert!(known.peak(now, Span::from_secs(300)).unwrap().mean > 15.0);
        let unknown = seen(Foresight::default(), 86_400 + 8 * 3600 - 60, day);
        assert!(unknown.peak(now, Span::from_secs(300)).unwrap().mean < 3.0);
    }

    #[test]
    fn mistakes_widen_the_band() {
        let calm = seen(Foresight::default(), 3600, |_| 10.0).at(at(3600.0), LEAD).unwrap();
        let wave = |seconds: f64| 10.0 + 5.0 * (seconds / 120.0).sin();
        let wild = seen(Foresight::default(), 3600, wave).at(at(3600.0), LEAD).unwrap();
        assert!(calm.high - calm.mean < 0.01 && wild.high - wild.mean > 1.0, "{calm:?} {wild:?}");
    }
}
