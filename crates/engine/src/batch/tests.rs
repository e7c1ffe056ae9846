//! The batcher against a model of the cells: whatever happens, positions are contiguous, every
//! sequence computes exactly its tokens in order, nothing is leaked and nobody waits for ever.

use std::collections::{BTreeMap, HashMap};
use std::sync::Arc;

use pilotage_core::{
    Band, BandPolicy, Cost, FairConfig, Gate, Lift, Predict, QueueLimits, TenantId, Time,
};
use proptest::prelude::*;

use super::{BatchConfig, Batcher, Move, Sequence, Step};
use crate::job::{JobId, Token};

const CONFIG: BatchConfig = BatchConfig {
    slots: 3,
    context: 256,
    step_tokens: 16,
    queue: QueueLimits { requests_max: 64, tokens_max: 1 << 20 },
    prefix_reuse: true,
    swapped_cells_max: 1 << 10,
    swap_after_tokens: 2,
    swaps_max: 2,
    fair: FairConfig {
        cost: Cost::VTC,
        bands: [BandPolicy::STRICT; 4],
        quantum: 0,
        predict: Predict::Off,
        lift: Lift::Full,
        gate: Gate::Sum,
    },
};

fn sequence(id: JobId, band: Band, prompt: &[Token], tokens_max: u32) -> Sequence {
    Sequence {
        id,
        origin: None,
        displaces: None,
        tenant: TenantId(0),
        band,
        deadline: None,
        prompt: prompt.into(),
        tokens_max,
        reuse_prefix: true,
    }
}

/// What the backend would hold, and what every sequence should have computed by now.
struct Machine {
    batcher: Batcher,
    slots: Vec<Vec<Token>>,
    host: BTreeMap<JobId, Vec<Token>>,
    /// Every live sequence's tokens, and how many it still generates.
    live: HashMap<JobId, (Vec<Token>, u32)>,
    finished: Vec<JobId>,
}

impl Machine {
    fn new(config: BatchConfig) -> Self {
        Self {
            slots: vec![Vec::new(); config.slots as usize],
            batcher: Batcher::new(config),
            host: BTreeMap::new(),
            live: HashMap::new(),
            finished: Vec::new(),
        }
    }

    fn submit(&mut self, sequence: Sequence) {
        let (id, tokens, left) = (sequence.id, sequence.prompt.to_vec(), sequence.tokens_max);
        self.batcher.submit(Time::ZERO, sequence).unwrap();
        self.live.insert(id, (tokens, left));
    }

    fn cancel(&mut self, id: JobId) {
        self.batcher.remove(Time::ZERO, id);
        self.live.remove(&id);
        self.host.remove(&id);
    }

    /// One step, carried out and checked.
    fn step(&mut self) -> Step {
        let step = self.batcher.step(Time::ZERO);
        for change in &step.moves {
            self.carry_out(*change);
        }
        assert!(step.entries.len() <= self.batcher.config.step_tokens as usize, "over the budget");
        for entry in &step.entries {
            let cells = &mut self.slots[entry.slot as usize];
            assert_eq!(cells.len(), entry.position as usize, "a gap in slot {}", entry.slot);
            cells.push(entry.token);
            let (tokens, _) = &self.live[&entry.job];
            assert_eq!(cells[..], tokens[..cells.len()], "cells that are not the job's own");
            assert_eq!(entry.logits, cells.len() == tokens.len());
        }
        for entry in step.entries.iter().filter(|entry| entry.logits) {
            self.generate(entry.job);
        }
        step
    }

    fn carry_out(&mut self, change: Move) {
        match change {
            Move::SwapOut { slot, job } => {
                let cells = std::mem::take(&mut self.slots[slot as usize]);
                assert!(self.host.insert(job, cells).is_none());
            }
            Move::SwapIn { slot, job } => {
                assert!(self.slots[slot as usize].is_empty(), "swapped into a used slot");
                self.slots[slot as usize] = self.host.remove(&job).unwrap();
            }
            Move::Copy { from, to } => {
                assert_ne!(from, to);
                self.slots[to as usize] = self.slots[from as usize].clone();
            }
            Move::Keep { slot, len } => {
                assert!(
                    self.slots[slot as usize].len() >= len as usize,
                    "keeps cells that are not there"
                );
                self.slots[slot as usize].truncate(len as usize);
            }
        }
    }

    /// The fake model's next token: a function of all before, so that mixed-up cells show.
    fn generate(&mut self, job: JobId) {
        let (tokens, left) = self.live.get_mut(&job).unwrap();
        let next = tokens.iter().fold(7, |hash: Token, token| hash.wrapping_mul(31) ^ token) & 0xff;
        tokens.push(next);
        *left -= 1;
        if *left == 0 {
            self.live.remove(&job);
            self.batcher.remove(Time::ZERO, job);
            self.finished.push(job);
        } else {
            self.batcher.generated(Time::ZERO, job, next);
        }
    }

    fn run_dry(&mut self) {
        for _ in 0..100_000 {
            if self.batcher.is_idle() {
                break;
            }
            let step = self.step();
            assert!(!step.entries.is_empty(), "work waits and nothing is computed");
        }
        assert!(self.live.is_empty(), "never finished: {:?}", self.live.keys());
        assert!(self.host.is_empty(), "left in the host's memory");
        assert_eq!(
            (self.batcher.cells_held(), self.batcher.running(), self.batcher.waiting()),
            (0, 0, 0)
        );
    }
}

#[test]
fn running_answers_go_on_while_a_long_prompt_comes_in() {
    let mut machine = Machine::new(CONFIG);
    machine.submit(sequence(1, Band::Standard, &[1, 2], 40));
    machine.step();
    machine.submit(sequence(2, Band::Standard, &[9; 100], 2));
    for _ in 0..6 {
        let step = machine.step();
        assert_eq!(step.entries[0].job, 1, "the answer has its token in every step");
        assert_eq!(step.entries.len(), 16, "the prompt gets the rest of the budget");
    }
    machine.run_dry();
}

#[test]
fn a_shared_prefix_is_computed_once() {
    let mut machine = Machine::new(CONFIG);
    let prompt: Vec<Token> = (0..80).collect();
    machine.submit(sequence(1, Band::Standard, &prompt, 3));
    machine.run_dry();
    let other = [&prompt[..70], &[500, 501]].concat();
    machine.submit(sequence(2, Band::Standard, &other, 30));
    assert_eq!(machine.step().started, [(2, 70)]);
    machine.submit(sequence(3, Band::Standard, &other, 3));
    let step = machine.step();
    assert_eq!(step.started, [(3, 71)], "a copy from the running one, up to the last token");
    assert!(matches!(step.moves[0], Move::Copy { .. }));
    machine.run_dry();
}

#[test]
fn answers_to_the_same_prompt_wait_for_the_first_and_copy() {
    let mut machine = Machine::new(CONFIG);
    let prompt: Arc<[Token]> = (0..100).collect();
    for id in 1..=3 {
        let prompt = Arc::clone(&prompt);
        machine.submit(Sequence { prompt, ..sequence(id, Band::Standard, &[0], 5) });
    }
    let mut computed = 0;
    while !machine.batcher.is_idle() {
        computed += machine.step().entries.len();
    }
    assert!(computed < 100 + 3 * 10, "computed {computed} tokens");
}

#[test]
fn slots_in_use_follow_each_other_and_so_do_their_tokens() {
    let mut machine = Machine::new(BatchConfig { slots: 6, ..CONFIG });
    for id in 1..=3 {
        machine.submit(sequence(id, Band::Standard, &[id as Token], 30));
        machine.run_dry();
    }
    // By age alone these would go to the slots 3, 4 and 5, and later ones far from them.
    for id in 4..=7 {
        machine.submit(sequence(id, Band::Standard, &[id as Token * 10], 30));
        let step = machine.step();
        let slots: Vec<u32> = step.entries.iter().map(|entry| entry.slot).collect();
        assert!(slots.windows(2).all(|pair| pair[0] + 1 == pair[1]), "{slots:?}");
        assert_eq!(slots.len() as u64, id - 3);
    }
    machine.run_dry();
}

#[test]
fn who_shares_nothing_starts_empty_and_leaves_nothing() {
    let mut machine = Machine::new(BatchConfig { slots: 1, ..CONFIG });
    let prompt: Vec<Token> = (0..60).collect();
    for id in 1..=3 {
        let alone = Sequence { reuse_prefix: false, ..sequence(id, Band::Standard, &prompt, 2) };
        machine.submit(alone);
        let mut shapes = Vec::new();
        while !machine.batcher.is_idle() {
            shapes.push(machine.step().entries.len());
        }
        assert_eq!(shapes, [16, 16, 16, 12, 1], "the same batches every time");
    }
}

#[test]
fn the_urgent_take_a_slot_and_the_others_come_back() {
    let mut machine = Machine::new(BatchConfig { slots: 1, ..CONFIG });
    machine.submit(sequence(1, Band::Batch, &[1, 2, 3], 20));
    machine.step();
    machine.submit(sequence(2, Band::Realtime, &[4, 5], 3));
    assert_eq!(machine.step().entries[0].job, 1, "too young to be moved");
    let step = machine.step();
    assert!(step.moves.contains(&Move::SwapOut { slot: 0, job: 1 }), "{step:?}");
    assert_eq!(step.entries[0].job, 2);
    machine.run_dry();
    assert_eq!(machine.finished, [2, 1]);
    assert_eq!(machine.batcher.swap_outs(), 1);
}

#[test]
fn a_named_sequence_makes_place_even_in_the_middle_of_its_prompt() {
    let mut machine = Machine::new(BatchConfig { slots: 2, ..CONFIG });
    let named = |id, origin, prompt: &[Token]| Sequence {
        origin: Some(origin),
        ..sequence(id, Band::Standard, prompt, 20)
    };
    machine.submit(named(1, 71, &[1; 100]));
    machine.submit(named(2, 72, &[2, 2]));
    machine.step();
    let urgent = Sequence { displaces: Some(71), ..named(3, 73, &[3, 3]) };
    machine.submit(urgent);
    let step = machine.step();
    assert!(step.moves.contains(&Move::SwapOut { slot: 0, job: 1 }), "{step:?}");
    assert!(step.started.contains(&(3, 0)));
    // One that is gone by now is nobody's victim: the fourth waits like everybody.
    machine.submit(Sequence { displaces: Some(99), ..named(4, 74, &[4]) });
    assert_eq!(machine.step().started, []);
    machine.run_dry();
    assert_eq!(machine.finished.len(), 4);
}

#[test]
fn a_realtime_prompt_is_computed_alone() {
    let mut machine = Machine::new(CONFIG);
    machine.submit(sequence(1, Band::Bulk, &[1, 2], 40));
    machine.submit(sequence(2, Band::Batch, &[9; 100], 2));
    machine.step();
    machine.submit(sequence(3, Band::Realtime, &[3; 30], 2));
    for _ in 0..2 {
        let step = machine.step();
        assert!(step.entries.iter().all(|entry| entry.job == 3), "{step:?}");
    }
    let step = machine.step();
    assert!(step.entries.iter().any(|entry| entry.job == 1), "answers go on together");
    machine.run_dry();
}

#[test]
fn one_realtime_prompt_after_the_other_does_not_stop_the_others() {
    let mut machine = Machine::new(CONFIG);
    machine.submit(sequence(1, Band::Bulk, &[1, 2], 100));
    machine.step();
    let mut shared = 0;
    for id in 2..12 {
        machine.submit(sequence(id, Band::Realtime, &[id as Token; 60], 1));
        for _ in 0..4 {
            shared += u32::from(machine.step().entries.iter().any(|entry| entry.job == 1));
        }
    }
    assert!((6..=20).contains(&shared), "{shared} of 40 steps");
    machine.run_dry();
}

#[test]
fn patient_prompts_take_small_steps() {
    let mut machine = Machine::new(CONFIG);
    machine.batcher.set_patient_tokens(4);
    machine.submit(sequence(1, Band::Bulk, &[1; 40], 2));
    assert_eq!(machine.step().entries.len(), 4);
    machine.submit(sequence(2, Band::Standard, &[2; 40], 2));
    assert_eq!(machine.step().entries.len(), 16, "the other band gets the whole rest");
    machine.run_dry();
}

#[test]
fn among_equal_tenants_the_warmest_prompt_goes_first() {
    let fair = FairConfig { quantum: 1_000_000, ..CONFIG.fair };
    let mut machine = Machine::new(BatchConfig { slots: 1, fair, ..CONFIG });
    let prompt: Vec<Token> = (0..60).collect();
    let of = |id, tenant, prompt: &[Token]| Sequence {
        tenant: TenantId(tenant),
        ..sequence(id, Band::Standard, prompt, 2)
    };
    machine.submit(of(1, 1, &prompt));
    machine.step();
    machine.submit(of(2, 2, &[7; 60]));
    machine.submit(of(3, 3, &prompt));
    machine.run_dry();
    assert_eq!(machine.finished, [1, 3, 2]);
}

#[test]
fn equals_do_not_displace_each_other_and_swaps_are_limited() {
    let mut machine = Machine::new(BatchConfig { slots: 1, ..CONFIG });
    machine.submit(sequence(1, Band::Standard, &[1], 60));
    for id in 2..8 {
        machine.submit(sequence(
            id,
            if id == 2 { Band::Standard } else { Band::Realtime },
            &[2],
            4,
        ));
    }
    machine.run_dry();
    assert!(machine.batcher.swap_outs() <= 2);
    assert_eq!(*machine.finished.last().unwrap(), 2, "the equal one waited for its turn");
}

#[test]
fn a_full_host_memory_stops_swapping() {
    let mut machine = Machine::new(BatchConfig { slots: 1, swapped_cells_max: 3, ..CONFIG });
    machine.submit(sequence(1, Band::Batch, &[1, 2, 3], 20));
    machine.step();
    machine.submit(sequence(2, Band::Realtime, &[4, 5], 3));
    machine.run_dry();
    assert_eq!(machine.finished, [1, 2]);
}

#[test]
fn a_distrusted_slot_is_nobodys_source() {
    let mut machine = Machine::new(BatchConfig { slots: 1, ..CONFIG });
    let prompt: Vec<Token> = (0..50).collect();
    machine.submit(sequence(1, Band::Standard, &prompt, 2));
    machine.run_dry();
    machine.batcher.distrust(0);
    machine.submit(sequence(2, Band::Standard, &prompt, 2));
    assert_eq!(machine.step().started, [(2, 0)]);
}

#[test]
fn the_expired_leave_the_queue() {
    let mut batcher = Batcher::new(BatchConfig { slots: 1, ..CONFIG });
    batcher.submit(Time::ZERO, sequence(1, Band::Standard, &[1], 5)).unwrap();
    let late =
        Sequence { deadline: Some(Time::from_millis(5)), ..sequence(2, Band::Standard, &[1], 5) };
    batcher.submit(Time::ZERO, late).unwrap();
    batcher.step(Time::ZERO);
    assert_eq!(batcher.expire(Time::from_millis(4)), [] as [JobId; 0]);
    assert_eq!(batcher.expire(Time::from_millis(5)), [2]);
    assert_eq!(batcher.waiting(), 0);
}

#[derive(Clone, Debug)]
enum Act {
    Submit { band: usize, family: Token, prompt: usize, tokens: u32, reuse: bool, displaces: u64 },
    Step,
    Cancel(u64),
}

fn act() -> impl Strategy<Value = Act> {
    prop_oneof![
        3 => (0usize..4, 0..3, 1usize..120, 1u32..20, prop::bool::weighted(0.8), 0u64..12).prop_map(
            |(band, family, prompt, tokens, reuse, displaces)| {
                Act::Submit { band, family, prompt, tokens, reuse, displaces }
            }
        ),
        6 => Just(Act::Step),
        1 => (0u64..60).prop_map(Act::Cancel),
    ]
}

proptest! {
    #[test]
    fn any_history_computes_every_sequence_exactly(acts in prop::collection::vec(act(), 1..80)) {
        let mut machine = Machine::new(CONFIG);
        let mut next = 0_u64;
        for act in acts {
            match act {
                Act::Submit { band, family, prompt, tokens, reuse, displaces } => {
                    next += 1;
                    // Prompts of a family share prefixes of many lengths.
                    let prompt: Vec<Token> = (0..prompt).map(|at| if at < 60 { family } else { at as Token }).collect();
                    let band = Band::ALL[band];
                    let displaces = next.checked_sub(displaces).filter(|_| displaces > 0);
                    let sequence = sequence(next, band, &prompt, tokens);
                    let (origin, tenant) = (Some(next), TenantId((next % 3) as u32));
                    machine.submit(Sequence { reuse_prefix: reuse, origin, displaces, tenant, ..sequence });
                }
                Act::Step => { machine.step(); }
                Act::Cancel(id) => machine.cancel(id),
            }
        }
        machine.run_dry();
    }
}
