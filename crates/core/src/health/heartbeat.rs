//! Whether a replica that has work does any: tokens that come from it are its heartbeat.
//!
//! Engines hang with a green `/health`. A replica hangs when it has requests and for longer than it may take nothing
//! has come for any of them, and the engine's own counter, where it is read, has not moved either.
//! How long it may take follows from its requests (prompts that have to be computed, answers that
//! come in one piece) and from how it was in the last minutes.
//!
//! An answer in one piece is silent for as long as its tokens take, unless the engine itself speaks: where its counter
//! moves with every step and stands still, or its health checks fail, it is not computing that answer
//! either, and has as long as for a prompt, at most half of the time that the request has left, so
//! that another replica has the other half.

use crate::{Span, Time};

/// How long silence is borne.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct HeartbeatConfig {
    /// At least so long.
    pub floor: Span,
    /// Times the usual span between two tokens.
    pub factor: f64,
    /// The usual span counts as at most this: one long pause must not make the next one last.
    pub gap_max: Span,
    /// Prompt tokens that it computes in a second where nothing is known of it: a slow processor's.
    pub prefill_per_second_min: f64,
    /// Seconds for each token of an answer where nothing is known of it.
    pub token_seconds_max: f64,
}

impl Default for HeartbeatConfig {
    fn default() -> Self {
        Self {
            floor: Span::from_secs(10),
            factor: 10.0,
            gap_max: Span::from_secs(6),
            prefill_per_second_min: 50.0,
            token_seconds_max: 0.5,
        }
    }
}

/// How old what an engine's counter said may be.
const COUNTER_AGE_MAX: Span = Span::from_secs(10);

/// The least that silence is borne, however little time a request has.
const BORNE_MIN: Span = Span::from_secs(3);

/// How fast a high value fades: a peak counts for about a minute.
const FADE_SECS: f64 = 60.0;

/// The highest of the last while: at once up, slowly down (as in Finagle's peak EWMA).
#[derive(Clone, Copy, Debug, Default)]
struct Peak {
    value: f64,
    at: Time,
    known: bool,
}

impl Peak {
    fn add(&mut self, now: Time, value: f64) {
        let fade = (-now.since(self.at).as_secs_f64() / FADE_SECS).exp();
        self.value = value.max(self.value * fade + value * (1.0 - fade));
        self.at = now;
        self.known = true;
    }

    const fn or(&self, default: f64) -> f64 {
        if self.known { self.value } else { default }
    }
}

/// What runs on a replica, as far as silence is concerned.
#[derive(Clone, Copy, Debug, Default, Eq, PartialEq)]
pub struct Load {
    /// Requests there.
    pub requests: u32,
    /// Prompt tokens of those whose answers have not begun.
    pub prefill: u64,
    /// The most tokens of an answer that comes in one piece.
    pub silent: u64,
    /// Half of the time that the one of those has left that has least.
    pub patience: Option<Span>,
    /// Its health checks fail.
    pub unwell: bool,
}

/// A reading of an engine's own counter of progress.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub struct Counted {
    /// When it was read.
    pub read: Time,
    /// What it said.
    pub value: u64,
    /// Whether it moves with each step, and not only when an answer ends.
    pub each_step: bool,
}

/// The heartbeat of one replica.
#[derive(Clone, Copy, Debug, Default)]
pub struct Heartbeat {
    /// When it last had nothing to do, or something came.
    quiet_since: Time,
    /// When a token last came while others were on their way.
    last_token: Option<Time>,
    gap_secs: Peak,
    prefill_secs: Peak,
    token_secs: Peak,
    counter: Option<Counted>,
    counter_moved: Option<Time>,
    /// Something came since the counter was read.
    came: bool,
    /// Something came while the counter stood still: it does not tell.
    frozen: bool,
}

impl Heartbeat {
    /// A request was sent there, beside so many.
    pub const fn sent(&mut self, now: Time, before: u32) {
        if before == 0 {
            self.quiet_since = now;
            self.last_token = None;
        }
    }

    /// A further token of an answer came.
    pub fn beat(&mut self, now: Time) {
        if let Some(last) = self.last_token {
            self.gap_secs.add(now, now.since(last).as_secs_f64());
        }
        self.last_token = Some(now);
        self.quiet_since = now;
        self.came = true;
    }

    /// An answer's first token came, so long after it was sent. How long nothing came before it
    /// tells of its prompt, and not of the pauses between tokens.
    pub fn first_token(&mut self, now: Time, span: Span, prefill: u64) {
        if prefill > 0 {
            self.prefill_secs.add(now, span.as_secs_f64() / prefill as f64);
        }
        self.last_token = Some(now);
        self.quiet_since = now;
        self.came = true;
    }

    /// An answer ended; so long for so many tokens.
    pub fn ended(&mut self, now: Time, decode: Span, tokens: u64) {
        if tokens > 0 {
            self.token_secs.add(now, decode.as_secs_f64() / tokens as f64);
        }
        self.quiet_since = now;
        self.came = true;
    }

    /// Silence counts from now on: what hung was dealt with.
    pub const fn restart(&mut self, now: Time) {
        self.quiet_since = now;
        self.last_token = None;
    }

    /// Its own counter of progress, read at a time. Whether it moved.
    pub fn count(&mut self, counted: Counted) -> bool {
        let Some(before) = self.counter.replace(counted) else {
            self.came = false;
            return false;
        };
        let moved = before.value != counted.value;
        let came = std::mem::take(&mut self.came);
        if moved {
            self.counter_moved = self.counter_moved.max(Some(counted.read));
        }
        self.frozen = !moved && (self.frozen || came);
        moved
    }

    /// Whether the engine itself shows that it does nothing.
    fn stands_still(&self, now: Time, load: &Load) -> bool {
        let since = self.quiet_since.max(self.counter_moved.unwrap_or_default());
        let counter = self.counter.filter(|counter| counter.each_step && !self.frozen);
        let still = counter.is_some_and(|counter| {
            counter.read > since && now.since(counter.read) <= COUNTER_AGE_MAX
        });
        still || load.unwell
    }

    /// How long nothing has come while it had work.
    pub fn quiet(&self, now: Time, load: &Load) -> Span {
        if load.requests == 0 {
            return Span::ZERO;
        }
        // A counter that is read late or frozen has moved long ago, and says nothing.
        now.since(self.quiet_since.max(self.counter_moved.unwrap_or_default()))
    }

    /// How long that may be.
    pub fn limit(&self, now: Time, load: &Load, config: &HeartbeatConfig) -> Span {
        let gap = self.gap_secs.or(0.0).min(config.gap_max.as_secs_f64());
        let usual = (gap * config.factor).max(config.floor.as_secs_f64());
        let slowest = 1.0 / config.prefill_per_second_min.max(1e-3);
        // Known speeds are doubled, and never taken for more than four times the slowest assumed.
        let prefill = (self.prefill_secs.or(slowest / 2.0) * 2.0).min(slowest * 4.0);
        let token = (self.token_secs.or(config.token_seconds_max / 2.0) * 2.0)
            .min(config.token_seconds_max * 4.0);
        let visible = Span::from_nanos(((usual + prefill * load.prefill as f64) * 1e9) as u64);
        if load.silent > 0 && self.stands_still(now, load) {
            return load.patience.map_or(visible, |most| visible.min(most.max(BORNE_MIN)));
        }
        visible + Span::from_nanos((token * load.silent as f64 * 1e9) as u64)
    }

    /// How long it has been quiet beyond what is borne, if it is.
    pub fn hung(&self, now: Time, load: &Load, config: &HeartbeatConfig) -> Option<(Span, Span)> {
        let (quiet, limit) = (self.quiet(now, load), self.limit(now, load, config));
        (load.requests > 0 && quiet > limit).then_some((quiet, limit))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const CONFIG: HeartbeatConfig = HeartbeatConfig {
        floor: Span::from_secs(10),
        factor: 10.0,
        gap_max: Span::from_secs(6),
        prefill_per_second_min: 100.0,
        token_seconds_max: 0.5,
    };

    fn at(secs: u64) -> Time {
        Time::from_millis(secs * 1000)
    }

    fn read(secs: u64, value: u64) -> Counted {
        Counted { read: at(secs), value, each_step: true }
    }

    fn hung(heart: &Heartbeat, secs: u64, load: &Load) -> bool {
        heart.hung(at(secs), load, &CONFIG).is_some()
    }

    #[test]
    fn silence_with_work_is_a_hang_and_without_is_none() {
        let mut heart = Heartbeat::default();
        let load = Load { requests: 1, ..Load::default() };
        heart.sent(at(100), 0);
        assert!(!hung(&heart, 110, &load));
        assert!(hung(&heart, 111, &load));
        assert!(!hung(&heart, 1000, &Load::default()));
        // A second request does not make it look alive.
        heart.sent(at(109), 1);
        assert!(hung(&heart, 111, &load));
        heart.beat(at(111));
        assert!(!hung(&heart, 120, &load));
    }

    #[test]
    fn long_prompts_and_whole_answers_take_their_time() {
        let mut heart = Heartbeat::default();
        heart.sent(at(0), 0);
        let long = Load { requests: 1, prefill: 10_000, ..Load::default() };
        assert!(!hung(&heart, 110, &long));
        assert!(hung(&heart, 111, &long));
        let whole = Load { requests: 1, silent: 1000, ..Load::default() };
        assert!(!hung(&heart, 510, &whole));
        assert!(hung(&heart, 511, &whole));
        // Waiting for a prompt is no pause between tokens.
        heart.beat(at(0));
        heart.first_token(at(40), Span::from_secs(40), 10_000);
        assert!(hung(&heart, 51, &Load { requests: 1, ..Load::default() }));
        // Once it is known to be fast, less is borne.
        let mut heart = Heartbeat::default();
        heart.sent(at(0), 0);
        heart.first_token(at(1), Span::from_secs(1), 10_000);
        assert!(hung(&heart, 16, &long));
        heart.ended(at(2), Span::from_secs(10), 1000);
        assert!(!hung(&heart, 25, &whole));
        assert!(hung(&heart, 40, &whole));
    }

    #[test]
    fn usual_pauses_are_borne_up_to_a_limit() {
        let mut heart = Heartbeat::default();
        let load = Load { requests: 1, ..Load::default() };
        heart.sent(at(0), 0);
        (0..20).for_each(|step| heart.beat(at(step * 3)));
        assert!(!hung(&heart, 57 + 29, &load), "{heart:?}");
        assert!(hung(&heart, 57 + 31, &load));
        heart.beat(at(1000));
        assert!(hung(&heart, 1061, &load), "one long pause does not make the next one longer");
    }

    #[test]
    fn its_own_counter_speaks_for_it_while_it_moves() {
        let mut heart = Heartbeat::default();
        let load = Load { requests: 1, ..Load::default() };
        heart.sent(at(0), 0);
        assert!(!heart.count(read(1, 5)) && heart.count(read(9, 6)));
        assert!(!hung(&heart, 19, &load));
        assert!(hung(&heart, 20, &load));
        assert!(heart.count(read(20, 7)) && !heart.count(read(29, 7)));
        assert!(!hung(&heart, 30, &load));
        assert!(hung(&heart, 31, &load), "a frozen counter is no sign of life");
    }

    /// From when on a replica hangs that has an answer of 1000 tokens in one piece since time zero, of
    /// which the counter says this, each second.
    fn hangs_from(
        each_step: bool,
        unwell: bool,
        patience: Option<u64>,
        value: fn(u64) -> u64,
    ) -> Option<u64> {
        let mut heart = Heartbeat::default();
        let patience = patience.map(Span::from_secs);
        let load = Load { requests: 1, silent: 1000, patience, unwell, ..Load::default() };
        heart.sent(at(0), 0);
        let hangs = |second: &u64| {
            heart.count(Counted { each_step, ..read(*second, value(*second)) });
            hung(&heart, *second, &load)
        };
        (1..2000).find(hangs)
    }

    #[test]
    fn a_whole_answer_is_waited_for_while_its_engine_may_compute_it() {
        let moves = |second| second;
        let stands = |_| 7;
        let stops = |second: u64| second.min(30);
        assert_eq!(hangs_from(true, false, None, stands), Some(11));
        assert_eq!(hangs_from(true, false, None, stops), Some(41));
        assert_eq!(hangs_from(true, false, Some(5), stands), Some(6));
        assert_eq!(hangs_from(true, false, Some(1), stands), Some(4), "not at once");
        assert_eq!(
            hangs_from(false, false, Some(5), stands),
            Some(511),
            "it may tell at the end only"
        );
        assert_eq!(hangs_from(false, true, Some(300), stands), Some(11));
        assert_eq!(hangs_from(true, false, None, moves), None);
    }

    #[test]
    fn a_frozen_counter_is_not_believed() {
        let mut heart = Heartbeat::default();
        let load = Load { requests: 2, silent: 1000, ..Load::default() };
        heart.sent(at(0), 0);
        heart.count(read(1, 5));
        heart.ended(at(2), Span::from_secs(2), 0);
        heart.count(read(3, 5));
        (4..300).for_each(|second| _ = heart.count(read(second, 5)));
        assert!(!hung(&heart, 299, &load));
        // It moves again.
        heart.count(read(300, 6));
        (301..312).for_each(|second| _ = heart.count(read(second, 6)));
        assert!(hung(&heart, 312, &load));
    }
}
