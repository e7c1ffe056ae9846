//! The requests of a run in order: when each is meant to be sent, whose it is and what it holds.

use pilotage_chance::Draws;

use crate::arrivals::trace::Row;
use crate::arrivals::{Arrivals, Process, Profile};

use super::Workload;

/// Everything that decides what is sent; a run is its function, but for the server's answers.
#[derive(Clone, Debug)]
pub struct Spec {
    /// When requests are sent.
    pub load: Load,
    /// What they are.
    pub workload: Workload,
    /// The seed of all that is drawn.
    pub seed: u64,
    /// Nanoseconds after which nothing more is sent.
    pub end_nanos: Option<u64>,
    /// Requests after which nothing more is sent.
    pub requests: Option<u64>,
    /// How much of the begin does not count.
    pub warm_up: WarmUp,
}

/// The part of a run that only warms caches up.
#[derive(Clone, Copy, Debug, PartialEq)]
pub enum WarmUp {
    /// What is meant to be sent before that many nanoseconds.
    Nanos(u64),
    /// That many requests.
    Requests(u64),
}

/// When requests are sent.
#[derive(Clone, Debug)]
pub enum Load {
    /// At their times, however the server does.
    Open {
        /// How gaps vary.
        process: Process,
        /// How often, in requests a second.
        profile: Profile,
    },
    /// As recorded, times stretched by a factor.
    Trace {
        /// The recorded requests.
        rows: std::sync::Arc<[Row]>,
        /// What times are multiplied by.
        stretch: f64,
    },
    /// So many at once: the next when one is done.
    Closed {
        /// How many.
        concurrency: usize,
    },
}

/// One request, the first turn of a conversation where there are several.
#[derive(Clone, Debug, PartialEq)]
pub struct Item {
    /// When it is meant to be sent, in nanoseconds since the start; zero in a closed loop.
    pub at: u64,
    /// Its number, from zero.
    pub number: u64,
    /// Whose it is.
    pub tenant: usize,
    /// Tokens of its own prompt.
    pub input: u32,
    /// Tokens that its answer may have.
    pub output: u32,
    /// What the prompt begins with.
    pub opening: Opening,
}

/// What a prompt begins with.
#[derive(Clone, Debug, PartialEq)]
pub enum Opening {
    /// Nothing that others begin with.
    Own,
    /// What its group begins with.
    Group(u32),
    /// Blocks that other requests of a trace begin with, too, and the tokens of each; part of the prompt's length.
    Blocks(Box<[u64]>, u32),
}

/// Goes through the requests.
#[derive(Debug)]
pub struct Plan {
    times: Times,
    input: Draws,
    output: Draws,
    tenants: Draws,
    groups: Draws,
    workload: Workload,
    weights: Vec<f64>,
    number: u64,
    items_max: u64,
    end_nanos: u64,
}

#[derive(Debug)]
enum Times {
    Drawn(Arrivals),
    Recorded(std::sync::Arc<[Row]>, f64),
    OnDemand,
}

impl Plan {
    /// The plan of a run. Where conversations have turns, the rate and the number of requests count
    /// every turn, so that fewer conversations begin.
    pub fn new(spec: &Spec) -> Self {
        let turns = spec.workload.turns.max(1);
        let times = match &spec.load {
            Load::Open { process, profile } => {
                let by = f64::from(turns);
                let profile = Profile { from: profile.from / by, to: profile.to / by, ..*profile };
                Times::Drawn(Arrivals::new(spec.seed, *process, profile))
            }
            Load::Trace { rows, stretch } => Times::Recorded(rows.clone(), *stretch),
            Load::Closed { .. } => Times::OnDemand,
        };
        Self {
            times,
            input: Draws::of_part(spec.seed, "input"),
            output: Draws::of_part(spec.seed, "output"),
            tenants: Draws::of_part(spec.seed, "tenants"),
            groups: Draws::of_part(spec.seed, "groups"),
            weights: spec.workload.tenants.iter().map(|tenant| tenant.weight).collect(),
            workload: spec.workload.clone(),
            number: 0,
            items_max: spec.requests.map_or(u64::MAX, |all| all.div_ceil(u64::from(turns))),
            end_nanos: spec.end_nanos.unwrap_or(u64::MAX),
        }
    }

    /// Tokens of a later turn: of its prompt and of its answer.
    pub fn turn(&mut self) -> (u32, u32) {
        (self.workload.input.draw(&mut self.input), self.workload.output.draw(&mut self.output))
    }

    fn recorded(row: &Row, stretch: f64) -> (u64, u32, u32, Opening) {
        let opening = match row.blocks.is_empty() {
            true => Opening::Own,
            false => Opening::Blocks(row.blocks.as_slice().into(), row.block_tokens),
        };
        ((row.at * stretch * 1e9) as u64, row.input.max(1), row.output.max(1), opening)
    }
}

impl Iterator for Plan {
    type Item = Item;

    fn next(&mut self) -> Option<Item> {
        if self.number >= self.items_max {
            return None;
        }
        let recorded = match &mut self.times {
            Times::Recorded(rows, stretch) => {
                Some(Self::recorded(rows.get(self.number as usize)?, *stretch))
            }
            Times::Drawn(_) | Times::OnDemand => None,
        };
        let (at, input, output, opening) = match recorded {
            Some(recorded) => recorded,
            None => {
                let at = match &mut self.times {
                    Times::Drawn(arrivals) => arrivals.next()?,
                    Times::Recorded(..) | Times::OnDemand => 0,
                };
                let (input, output) = self.turn();
                let group = |prefix: super::Prefix| self.groups.below(prefix.groups as usize);
                let group = self.workload.prefix.map(group);
                let opening = group.map_or(Opening::Own, |group| Opening::Group(group as u32));
                (at, input, output, opening)
            }
        };
        if at >= self.end_nanos {
            return None;
        }
        let tenant = self.tenants.weighted(&self.weights);
        let number = self.number;
        self.number += 1;
        Some(Item { at, number, tenant, input, output, opening })
    }
}

#[cfg(test)]
mod tests {
    use super::super::{Length, Prefix, Tenant};
    use super::*;

    fn spec(load: Load) -> Spec {
        let tenant = |name: &str, weight| Tenant { name: name.to_owned(), weight };
        let workload = Workload {
            input: Length::Uniform(10, 20),
            output: Length::Fixed(5),
            prefix: Some(Prefix { groups: 4, tokens: 8 }),
            turns: 1,
            think_seconds: 0.0,
            tenants: vec![tenant("a", 1.0), tenant("b", 3.0)],
        };
        let warm_up = WarmUp::Nanos(0);
        Spec { load, workload, seed: 1, end_nanos: None, requests: None, warm_up }
    }

    fn open(rate: f64) -> Load {
        Load::Open { process: Process::Poisson, profile: Profile::constant(rate) }
    }

    #[test]
    fn the_same_seed_plans_the_same() {
        let plan = |seed| Plan::new(&Spec { seed, ..spec(open(10.0)) }).take(50);
        assert!(plan(1).eq(plan(1)));
        assert!(!plan(1).eq(plan(2)));
    }

    #[test]
    fn tenants_and_groups_get_their_part() {
        let items: Vec<Item> = Plan::new(&spec(open(10.0))).take(4_000).collect();
        let second = items.iter().filter(|item| item.tenant == 1).count();
        assert!((2_850..3_150).contains(&second), "{second}");
        let group = items.iter().filter(|item| item.opening == Opening::Group(2)).count();
        assert!((850..1_150).contains(&group), "{group}");
        assert!(items.iter().all(|item| (10..=20).contains(&item.input) && item.output == 5));
    }

    #[test]
    fn a_plan_ends_by_time_or_by_number() {
        let count = |end_nanos, requests, turns| {
            let mut spec = Spec { end_nanos, requests, ..spec(open(100.0)) };
            spec.workload.turns = turns;
            Plan::new(&spec).count()
        };
        assert_eq!(count(None, Some(30), 1), 30);
        assert_eq!(count(None, Some(30), 3), 10);
        let one = count(Some(60_000_000_000), None, 1);
        assert!((5_700..6_300).contains(&one), "{one}");
        let three = count(Some(60_000_000_000), None, 3);
        assert!((1_850..2_150).contains(&three), "{three}");
    }

    #[test]
    fn a_trace_is_followed() {
        let rows = [(0.0, 600, vec![3]), (2.0, 0, vec![])];
        let rows =
            rows.map(|(at, input, blocks)| Row { at, input, output: 9, blocks, block_tokens: 512 });
        let plan = Plan::new(&spec(Load::Trace { rows: rows.into(), stretch: 0.5 }));
        let items: Vec<Item> = plan.collect();
        assert_eq!(items.len(), 2);
        assert_eq!((items[0].at, items[0].input, items[0].output), (0, 600, 9));
        assert_eq!(items[0].opening, Opening::Blocks([3].into(), 512));
        assert_eq!((items[1].at, items[1].input), (1_000_000_000, 1));
    }
}
