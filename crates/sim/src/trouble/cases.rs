//! What is done to each world. What is not said is as where all is well: four replicas a quarter full.

use super::Trouble;
use super::front::Front;
use super::machine::Ill;
use super::setup::{Setup, Stream, WARM_S, WINDOW_S};
use super::world::World;
use crate::engine::Extras;

/// The end of every run.
const END_S: f64 = WARM_S + WINDOW_S;

/// A system that is well, or ill in one way.
const fn trouble(id: &'static str, about: &'static str, world: fn() -> World) -> Trouble {
    Trouble { id: Some(id), about, world }
}

/// All of them, those that are well last.
pub fn all() -> &'static [Trouble] {
    ALL
}

const ALL: &[Trouble] = &[
    trouble("S01", "eight places in each batch, half as many as the load needs", || {
        World::of(|setup| setup.slots = 8)
    }),
    trouble("S02", "long prompts, and a KV cache that holds a dozen of them", kv_bound),
    trouble(
        "S03",
        "answers outgrow a small KV cache, and everything is let in at once",
        preemption,
    ),
    trouble("S04", "prompts of 12,000 tokens, answers of three", prefill_bound),
    trouble(
        "S05",
        "now and then a prompt of 24,000 tokens beside chats, in steps of 16,384",
        interference,
    ),
    trouble("S06", "a step takes what reading the weights takes, and less was promised", || {
        World {
            tpot_s: 0.005,
            ..World::of(|setup| (setup.step_ms, setup.sequence_ms) = (5.4, 0.0))
        }
    }),
    trouble("S07", "five requests a second for four replicas", || {
        World::of(|setup| setup.streams = vec![Stream::usual(5.0)])
    }),
    trouble("S08", "steps without graphs: the processor takes two thirds of each", host_bound),
    trouble("S09", "one replica stands still and says that it is well", || {
        fault(2, WARM_S + 20.0, END_S, "hung")
    }),
    trouble("S10", "one replica takes twice as long for everything", || {
        World::of(|setup| (setup.route, setup.slowness) = ("least_requests", vec![1.0, 2.0]))
    }),
    trouble("S11", "heat lowers the clock of one accelerator", || ill(1, Ill::Hot(1.8))),
    trouble("S12", "the driver of one accelerator reports errors of its memory", || {
        ill(3, Ill::Errors(&[63, 48]))
    }),
    trouble(
        "S13",
        "sessions stick to replicas by their hash, and there are few of them",
        imbalance,
    ),
    trouble("S14", "metrics stay as they were, and replicas are picked by them", herd),
    trouble(
        "S15",
        "replicas are picked by chance, where they were picked by what their caches have",
        prefix_miss,
    ),
    trouble(
        "S16",
        "a replica comes up within the window, and its first steps are slow",
        cold_start,
    ),
    trouble("S17", "the gateway's loop needs 29 ms for each request", || {
        front(Front { loop_ms: 29.0, ..Front::USUAL })
    }),
    trouble(
        "S18",
        "what is between gateway and replicas closes connections after 20 ms, and makes them in 30",
        || front(Front { dial_ms: 30.0, idle_ms: 20.0, ..Front::USUAL }),
    ),
    trouble("S19", "every second client takes forty tokens a second", || {
        front(Front { slow_clients: 0.5, slow_rate: 40.0, ..Front::USUAL })
    }),
    trouble("S20", "a tenant may send 600 requests a minute and sends twice as many", || {
        World::of(|setup| {
            let limited = Stream { quota: Some(600), ..Stream::usual(20.0) };
            setup.streams = vec![Stream::usual(12.0), limited];
        })
    }),
    trouble(
        "S21",
        "endpoints answer 1,500 requests of the account a minute, and 1,920 come",
        || front(Front { account: Some(1500.0), ..Front::USUAL }),
    ),
    trouble("S22", "answers are twice as long as before, and cut off more often", || {
        let mut world = World::usual();
        world.setup.streams[0].output = (200, 600);
        world
    }),
    trouble("S23", "one request in twelve asks for more than the context has", context_overflow),
    trouble("S24", "clients wait half a second and send the same again", retry_storm),
    trouble("S25", "clients leave, and replicas go on with their requests", cancel_leak),
    trouble("S26", "KV cache goes from replica to replica at 6 Gbit/s", || divided(2, 0.75e9)),
    trouble("S27", "one replica for prompts, three for answers", pd_ratio),
    trouble("S28", "two of six replicas find no node", || World {
        room: 4,
        ..World::of(|setup| (setup.replicas, setup.streams) = (6, vec![Stream::usual(40.0)]))
    }),
    trouble("S29", "others take the processors below one replica", || ill(1, Ill::Crowded(1.7))),
    trouble("S30", "one replica is of another version, with a shorter context", || World {
        old: vec![2],
        before: None,
        ..World::usual()
    }),
    trouble("S31", "a benchmark whose client needs 45 ms of its thread for each request", || {
        World { client_ms: Some(45.0), before: None, ..World::usual() }
    }),
    trouble("S32", "drafts that were right are wrong", || {
        let mut world = World::usual();
        let drafts = |accept: f64| Extras { drafts: 3, draft_accept: accept, ..Extras::default() };
        world.setup.extras = drafts(0.25);
        world.before = Some(Setup { extras: drafts(0.85), ..Setup::usual() });
        world
    }),
    trouble("S33", "eight adapters, of which a batch holds two", lora_thrash),
    trouble("S34", "alert rules with the names of an older version", || World {
        alerts: &[
            ("KvCacheFull", "max by (pod) (vllm:gpu_cache_usage_perc) > 0.9"),
            ("Preempting", "rate(vllm:num_preemptions[5m]) > 1"),
        ],
        before: None,
        ..World::usual()
    }),
    Trouble { id: None, about: "four replicas, a quarter full", world: World::usual },
    Trouble {
        id: None,
        about: "prompts and answers on replicas of their own, over 200 Gbit/s",
        world: || divided(2, 25e9),
    },
    Trouble {
        id: None,
        about: "a single replica with something to do",
        world: || {
            World::of(|setup| (setup.replicas, setup.streams) = (1, vec![Stream::usual(8.0)]))
        },
    },
    Trouble {
        id: None,
        about: "engines behind a Kubernetes service, each with its own queue",
        world: || World::of(|setup| setup.route = "even-round-robin"),
    },
];

fn ill(replica: usize, ill: Ill) -> World {
    // Who sends by cost hardly sends anything to a slow one, as long as there is room elsewhere.
    World { ill: vec![(replica, ill)], ..World::of(|setup| setup.route = "least_requests") }
}

fn front(front: Front) -> World {
    World { front, before: None, ..World::usual() }
}

fn fault(replica: usize, from: f64, until: f64, kind: &str) -> World {
    World::of(|setup| setup.faults = vec![(replica, from, until, kind.to_owned())])
}

fn divided(prompts: usize, bytes_s: f64) -> World {
    World { divided: Some((prompts, bytes_s)), before: None, ..World::usual() }
}

fn kv_bound() -> World {
    World::of(|setup| {
        (setup.kv_tokens, setup.token_ms) = (60_000, 0.005);
        let long = Stream {
            input: (3800, 4200),
            output: (150, 250),
            output_max: 300,
            prefix: None,
            ..Stream::usual(40.0)
        };
        setup.streams = vec![long];
    })
}

fn preemption() -> World {
    World::of(|setup| {
        (setup.kv_tokens, setup.route) = (24_000, "even-round-robin");
        let growing = Stream {
            input: (200, 400),
            output: (400, 800),
            output_max: 1000,
            prefix: None,
            ..Stream::usual(28.0)
        };
        setup.streams = vec![growing];
    })
}

fn prefill_bound() -> World {
    World::of(|setup| {
        setup.step_tokens = 8192;
        let long = Stream {
            input: (11_000, 13_000),
            output: (2, 4),
            output_max: 16,
            prefix: None,
            ..Stream::usual(6.0)
        };
        setup.streams = vec![long];
    })
}

fn interference() -> World {
    World::of(|setup| {
        setup.step_tokens = 16_384;
        let chat = Stream {
            input: (10, 40),
            output: (200, 400),
            output_max: 600,
            prefix: None,
            ..Stream::usual(16.0)
        };
        let document = Stream {
            input: (22_000, 26_000),
            output: (20, 60),
            output_max: 100,
            prefix: None,
            ..Stream::usual(0.8)
        };
        setup.streams = vec![chat, document];
    })
}

fn host_bound() -> World {
    World { eager: true, ..World::of(|setup| setup.streams = vec![Stream::usual(56.0)]) }
}

fn imbalance() -> World {
    World::of(|setup| {
        setup.route = "vllm-router-hash";
        let sessions = Stream { prefix: Some((5, 512)), session: true, ..Stream::usual(32.0) };
        setup.streams = vec![sessions];
    })
}

fn herd() -> World {
    World::of(|setup| {
        setup.route = "llm-d-default";
        setup.streams = vec![Stream { prefix: None, ..Stream::usual(24.0) }];
        setup.faults = (0..4).map(|at| (at, WARM_S, END_S, "blind".to_owned())).collect();
    })
}

fn prefix_miss() -> World {
    let mut world = World::usual();
    let many = Setup {
        kv_tokens: 90_000,
        streams: vec![Stream { prefix: Some((200, 1024)), ..Stream::usual(20.0) }],
        ..Setup::usual()
    };
    world.setup = Setup { route: "random", ..many.clone() };
    world.before = Some(many);
    world
}

fn cold_start() -> World {
    let up = WARM_S + 40.0;
    World::of(|setup| {
        setup.faults =
            vec![(3, 0.0, up, "down".to_owned()), (3, up, up + 5.0, "{ slow: 40 }".to_owned())];
    })
}

fn context_overflow() -> World {
    World {
        front: Front { context: 8192, ..Front::USUAL },
        ..World::of(|setup| {
            let long = Stream { input: (8000, 9000), prefix: None, ..Stream::usual(3.0) };
            setup.streams = vec![Stream::usual(30.0), long];
        })
    }
}

fn retry_storm() -> World {
    let mut world = World::usual();
    world.setup.slots = 12;
    world.setup.streams[0].patience_s = Some(0.5);
    world.setup.streams[0].retries = 4;
    world
}

fn cancel_leak() -> World {
    World::of(|setup| {
        let hasty = Stream { patience_s: Some(0.02), ..Stream::usual(10.0) };
        setup.streams = vec![Stream::usual(20.0), hasty];
        setup.faults = (0..4).map(|at| (at, 0.0, END_S + 1.0, "leaky".to_owned())).collect();
    })
}

fn pd_ratio() -> World {
    let mut world = divided(1, 12.5e9);
    world.setup.token_ms = 0.06;
    world.setup.streams = vec![Stream { prefix: None, input: (900, 1500), ..Stream::usual(16.0) }];
    world
}

fn lora_thrash() -> World {
    World::of(|setup| {
        setup.route = "even-round-robin";
        setup.extras = Extras { adapters_max: 2, adapter_ms: 150.0, ..Extras::default() };
        setup.streams = (0..8).map(|_| Stream::usual(2.5)).collect();
    })
}
