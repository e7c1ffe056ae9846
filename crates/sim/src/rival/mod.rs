//! How others pick replicas, by the formulas and constants that they publish: what the policies of
//! `core` are compared with.
//!
//! Rivals send every request on at once, to engines that have queues of their own, and learn of those
//! what they would learn: nothing, or what was true when they last asked. Where their sources leave
//! something open, the choice made here is said, and is the one in their favour.

mod agentgateway;
mod aibrix;
mod board;
mod clairvoyant;
mod dynamo;
mod even;
mod kubeai;
mod llm_d;
mod memory;
mod smg;
#[cfg(test)]
mod tests;
mod vllm_router;

use std::fmt;
use std::sync::Arc;

use pilotage_core::prefix::blocks::digest;
use pilotage_core::route::{Pick, View};
use pilotage_core::{Policy, Span};

pub(crate) use board::Board;
use memory::Memory;

/// How replicas are picked in a simulation.
#[derive(Clone, Copy, Debug, PartialEq)]
pub enum Route {
    /// By a policy of `core`, whose requests wait in the gateway for a place at an engine.
    Policy(Policy),
    /// As others do it.
    Rival(Rival),
}

/// Somebody else's way.
#[derive(Clone, Copy)]
pub struct Rival {
    /// What it is called.
    pub name: &'static str,
    /// Whose it is, and with which constants.
    pub about: &'static str,
    /// How often it asks engines how they are; none where it goes by what it sent there.
    scrape: Option<Span>,
    make: fn(Arc<Board>) -> Box<dyn Pick>,
}

impl fmt::Debug for Rival {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.name)
    }
}

impl PartialEq for Rival {
    fn eq(&self, other: &Self) -> bool {
        self.name == other.name
    }
}

/// The one that knows what nobody can know.
const CLAIRVOYANT: &str = "clairvoyant";

const RIVALS: &[Rival] = &[
    Rival {
        name: CLAIRVOYANT,
        about: "knows every engine's cache and remaining work, and takes the earliest true end",
        scrape: None,
        make: |board| Box::new(clairvoyant::Clairvoyant(board)),
    },
    Rival {
        name: "smg-cache-aware",
        about: "SMG cache_aware, defaults of its command line (0.3, 64, 1.5)",
        scrape: None,
        make: |board| Box::new(smg::CacheAware::new(&board, "smg-cache-aware", 0.3, (64, 1.5))),
    },
    Rival {
        name: "smg-cache-aware-library",
        about: "SMG cache_aware, defaults of its library (0.5, 32, 1.1)",
        scrape: None,
        make: |board| {
            Box::new(smg::CacheAware::new(&board, "smg-cache-aware-library", 0.5, (32, 1.1)))
        },
    },
    Rival {
        name: "smg-cache-aware-tuned",
        about: "SMG cache_aware, thresholds for small batches (0.3, 12, 1.2)",
        scrape: None,
        make: |board| {
            Box::new(smg::CacheAware::new(&board, "smg-cache-aware-tuned", 0.3, (12, 1.2)))
        },
    },
    Rival {
        name: "smg-cache-aware-tight",
        about: "SMG cache_aware, tighter still (0.3, 4, 1.2)",
        scrape: None,
        make: |board| {
            Box::new(smg::CacheAware::new(&board, "smg-cache-aware-tight", 0.3, (4, 1.2)))
        },
    },
    Rival {
        name: "smg-least-load",
        about: "SMG least_load: seconds of work at the measured throughput, asked for every 10 s",
        scrape: Some(Span::from_secs(10)),
        make: |board| Box::new(smg::LeastLoad::new(board)),
    },
    Rival {
        name: "llm-d-default",
        about: "llm-d's endpoint picker: queue 2, KV cache 2, prefix 3, asked for every 50 ms",
        scrape: Some(Span::from_millis(50)),
        make: |board| Box::new(llm_d::Weighted::new(board)),
    },
    Rival {
        name: "llm-d-affinity",
        about: "llm-d's optimized baseline: prefix affinity filter, token load, weighted random",
        scrape: None,
        make: |board| Box::new(llm_d::Affinity::new(&board)),
    },
    Rival {
        name: "dynamo-kv",
        about: "Dynamo's KV router with KV events, temperature 0",
        scrape: None,
        make: |board| Box::new(dynamo::Kv::new(board, "dynamo-kv", 0.0)),
    },
    Rival {
        name: "dynamo-kv-decay",
        about: "the same, with the overlap's credit decaying under load (1.0)",
        scrape: None,
        make: |board| Box::new(dynamo::Kv::new(board, "dynamo-kv-decay", 1.0)),
    },
    Rival {
        name: "aibrix-prefix-cache",
        about: "AIBrix prefix-cache: best match within one deviation of the mean load",
        scrape: None,
        make: |board| Box::new(aibrix::PrefixCache::new(&board)),
    },
    Rival {
        name: "kubeai-chwbl",
        about: "KubeAI: consistent hashing of the prompt's begin, load bounded at 125 %",
        scrape: None,
        make: |board| Box::new(kubeai::Chwbl::new(board.len())),
    },
    Rival {
        name: "vllm-router-hash",
        about: "vllm-router consistent_hash: by session, 160 points each",
        scrape: None,
        make: |board| Box::new(vllm_router::ConsistentHash::new(board.len())),
    },
    Rival {
        name: "agentgateway-p2c",
        about: "agentgateway: the better of two by latency and pending requests",
        scrape: None,
        make: |board| Box::new(agentgateway::PowerOfTwo(board)),
    },
    Rival {
        name: "even-round-robin",
        about: "one after the other, sent at once, as a Kubernetes service does",
        scrape: None,
        make: |_| Box::new(even::RoundRobin),
    },
    Rival {
        name: "random",
        about: "any of them, sent at once",
        scrape: None,
        make: |_| Box::new(even::Random),
    },
];

impl Route {
    /// Every one, `core`'s first.
    pub fn all() -> impl Iterator<Item = Self> {
        let own = Policy::ALL.into_iter().map(Self::Policy);
        own.chain(RIVALS.iter().copied().map(Self::Rival))
    }

    /// The names of all.
    pub fn names() -> impl Iterator<Item = &'static str> {
        Self::all().map(Self::name)
    }

    /// The one of that name.
    pub fn find(name: &str) -> Option<Self> {
        Self::all().find(|route| route.name() == name)
    }

    /// Its name.
    pub const fn name(self) -> &'static str {
        match self {
            Self::Policy(policy) => policy.name(),
            Self::Rival(rival) => rival.name,
        }
    }

    /// What it is, in a few words.
    pub const fn about(self) -> &'static str {
        match self {
            Self::Policy(_) => "Pilotage's own",
            Self::Rival(rival) => rival.about,
        }
    }

    /// Whether it sends requests on at once.
    pub const fn is_direct(self) -> bool {
        matches!(self, Self::Rival(_))
    }

    /// Whether it knows what nobody can know: the yardstick, and no competitor.
    pub fn is_yardstick(self) -> bool {
        self.name() == CLAIRVOYANT
    }

    /// Whether it wants to know engines' true state of each request that comes.
    pub(crate) fn foresees(self) -> bool {
        self.is_yardstick() || self.name().starts_with("dynamo")
    }

    /// How often it asks engines how they are.
    pub(crate) const fn scrape(self) -> Option<Span> {
        match self {
            Self::Policy(_) => None,
            Self::Rival(rival) => rival.scrape,
        }
    }

    /// It in action.
    pub(crate) fn pick(self, board: &Arc<Board>) -> Box<dyn Pick> {
        match self {
            Self::Policy(policy) => policy.picker(),
            Self::Rival(rival) => (rival.make)(Arc::clone(board)),
        }
    }
}

/// Blocks of the prompt, at least one.
fn blocks(view: &View<'_>) -> f64 {
    view.prompt.blocks().len().max(1) as f64
}

/// A number that the request alone decides.
fn lot(view: &View<'_>, which: u64) -> u64 {
    digest(view.turn ^ (which << 56), &view.id.0.to_le_bytes())
}

/// A number from zero up to but not including one that the request alone decides.
fn chance(view: &View<'_>, which: u64) -> f64 {
    (lot(view, which) >> 11) as f64 / (1_u64 << 53) as f64
}

/// Of all candidates the one with the most of something, ties broken by chance.
fn best(view: &View<'_>, score: impl Fn(usize) -> f64) -> Option<usize> {
    best_of(view, 0..view.candidates.len(), score)
}

fn best_of(
    view: &View<'_>,
    among: impl Iterator<Item = usize>,
    score: impl Fn(usize) -> f64,
) -> Option<usize> {
    let scored: Vec<(usize, f64)> = among.map(|at| (at, score(at))).collect();
    let most = scored.iter().map(|(_, score)| *score).fold(f64::MIN, f64::max);
    let tied: Vec<usize> = scored.iter().filter(|one| one.1 >= most).map(|one| one.0).collect();
    let one = lot(view, 0) % tied.len().max(1) as u64;
    tied.get(usize::try_from(one).unwrap_or(0)).copied()
}

/// The fewest requests in flight.
fn least_requests(view: &View<'_>) -> Option<usize> {
    best(view, |at| -f64::from(view.candidates[at].replica.requests))
}

/// Points on a ring, each some replica's.
#[derive(Debug)]
struct Ring(Vec<(u64, u32)>);

impl Ring {
    fn new(replicas: usize, points: u32) -> Self {
        let point =
            |replica: u32, at: u32| (digest(u64::from(replica), &at.to_le_bytes()), replica);
        let replicas = 0..u32::try_from(replicas).unwrap_or(u32::MAX);
        let mut ring: Vec<(u64, u32)> =
            replicas.flat_map(|one| (0..points).map(move |at| point(one, at))).collect();
        ring.sort_unstable();
        Self(ring)
    }

    /// Replicas from a key on, each as often as it has points.
    fn from(&self, key: u64) -> impl Iterator<Item = usize> {
        let begin = self.0.partition_point(|(point, _)| *point < key);
        let (before, after) = self.0.split_at(begin);
        after.iter().chain(before).map(|(_, replica)| *replica as usize)
    }
}
