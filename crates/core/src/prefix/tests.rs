//! The index against a plain model of caches.

use std::collections::VecDeque;

use proptest::prelude::*;

use super::*;

impl Index {
    /// A prompt is sent to a replica, and answered.
    fn keep(&mut self, replica: ReplicaId, prompt: &[u64]) {
        self.hold(replica, prompt);
        self.release(replica, prompt);
    }
}

fn tokens(blocks: u32) -> u64 {
    u64::from(blocks) * u64::from(BLOCK_TOKENS)
}

fn depth(index: &Index, replica: u32, prompt: &[u64]) -> u32 {
    let found = index.find(prompt);
    found.iter().find(|(id, _)| id.0 == replica).map_or(0, |(_, found)| found.blocks())
}

#[test]
fn finds_what_was_sent() {
    let mut index = Index::default();
    index.add(ReplicaId(3), tokens(100));
    index.add(ReplicaId(9), tokens(100));
    index.keep(ReplicaId(3), &[1, 2, 3]);
    index.keep(ReplicaId(9), &[1, 7]);
    assert_eq!((depth(&index, 3, &[1, 2, 8]), depth(&index, 9, &[1, 2, 8])), (2, 1));
    // What comes after a block that is not there is worth nothing.
    assert_eq!(depth(&index, 3, &[1, 8, 3]), 1);
    index.clear(ReplicaId(3));
    assert_eq!((depth(&index, 3, &[1]), depth(&index, 9, &[1])), (0, 1));
    index.remove(ReplicaId(9));
    assert!(index.is_empty() && index.blocks.0.is_empty());
    index.add(ReplicaId(11), tokens(100));
    assert_eq!(index.find(&[1]), [], "a place that is used again is empty");
}

#[test]
fn what_leaves_the_device_may_be_in_the_hosts_memory() {
    let mut index = Index::default();
    index.add(ReplicaId(0), tokens(BLOCKS_MIN));
    index.set_host_tokens(ReplicaId(0), tokens(4));
    index.keep(ReplicaId(0), &[1, 2]);
    let others: Vec<u64> = (100..100 + u64::from(BLOCKS_MIN)).collect();
    index.keep(ReplicaId(0), &others);
    assert_eq!(index.find(&[1, 2]), [(ReplicaId(0), Found { device: 0, host: 2, used: 0 })]);
    index.keep(ReplicaId(0), &[1]);
    assert_eq!(index.find(&[1, 2]), [(ReplicaId(0), Found { device: 1, host: 1, used: 0 })]);
    index.keep(ReplicaId(0), &(200..200 + u64::from(BLOCKS_MIN)).collect::<Vec<_>>());
    assert_eq!(index.len(), BLOCKS_MIN as usize + 4);
}

#[test]
fn reports_and_answers_correct_it() {
    let mut index = Index::default();
    index.add(ReplicaId(0), tokens(100));
    index.keep(ReplicaId(0), &[1, 2, 3, 4]);
    index.evicted(ReplicaId(0), tokens(1));
    assert_eq!(depth(&index, 0, &[1, 2, 3, 4]), 3, "the end goes first");
    index.fill(ReplicaId(0), 64 * 98);
    assert_eq!(depth(&index, 0, &[1, 2, 3]), 2, "answers take place as well");
    // One that did not say how much it holds is believed to hold less when it found less.
    index.add(ReplicaId(1), u64::MAX);
    let prompt: Vec<u64> = (1..=1000).collect();
    index.keep(ReplicaId(1), &prompt);
    index.learn(ReplicaId(1), 1000, 10);
    assert_eq!(depth(&index, 1, &prompt), 875);
    index.learn(ReplicaId(0), 1000, 10);
    assert_eq!(depth(&index, 0, &[1, 2, 3]), 2, "one that said so is believed");
}

#[test]
fn what_engines_tell_is_not_dropped_twice() {
    let mut index = Index::default();
    index.add(ReplicaId(0), tokens(100));
    index.keep(ReplicaId(0), &(1..=100).collect::<Vec<_>>());
    // Ten more make the last ten leave, here at once and there some time later.
    index.keep(ReplicaId(0), &(201..=210).collect::<Vec<_>>());
    let first: Vec<u64> = (1..=100).collect();
    assert_eq!(depth(&index, 0, &first), 90);
    index.evicted(ReplicaId(0), tokens(10));
    assert_eq!(depth(&index, 0, &first), 90, "that is known");
    index.evicted(ReplicaId(0), tokens(10));
    assert_eq!(depth(&index, 0, &first), 80, "somebody else's took their place");
    index.resize(ReplicaId(0), Some(tokens(50)), Some(tokens(20)));
    assert_eq!((depth(&index, 0, &first), index.len()), (60, 70), "the rest is with the host");
    index.resize(ReplicaId(9), Some(tokens(50)), Some(1));
    index.keep(ReplicaId(9), &[1]);
    assert_eq!(depth(&index, 9, &[1]), 0, "one that is gone stays so");
}

#[test]
fn memory_is_bounded() {
    let mut index = Index::default();
    for replica in 0..4 {
        index.add(ReplicaId(replica), u64::MAX - 1);
    }
    for round in 0..400_u64 {
        let prompt: Vec<u64> = (0..4096).map(|at| round * 10_000 + at + 1).collect();
        index.keep(ReplicaId(round as u32 % 4), &prompt);
        // The same again and again adds nothing.
        index.keep(ReplicaId(round as u32 % 4), &prompt);
    }
    assert!(index.len() <= ENTRIES_MAX && index.len() > ENTRIES_MAX * 9 / 10, "{}", index.len());
    assert!(index.blocks.0.len() <= ENTRIES_MAX);
}

proptest! {
    /// One cache is a list in the order of use, cut at its size.
    #[test]
    fn is_what_a_plain_list_is(
        prompts in prop::collection::vec((0_u64..4, 1_usize..30), 1..60),
        most in BLOCKS_MIN..60,
    ) {
        let mut index = Index::default();
        index.add(ReplicaId(0), tokens(most));
        let mut plain: VecDeque<u64> = VecDeque::new();
        for (kind, length) in prompts {
            let prompt: Vec<u64> = (1..=length as u64).map(|at| kind * 1000 + at).collect();
            index.keep(ReplicaId(0), &prompt);
            for name in prompt.iter().rev() {
                plain.retain(|other| other != name);
                plain.push_back(*name);
            }
            while plain.len() > most as usize {
                plain.pop_front();
            }
            let expect = prompt.iter().take_while(|name| plain.contains(name)).count();
            prop_assert_eq!(depth(&index, 0, &prompt) as usize, expect);
            prop_assert_eq!(index.len(), plain.len());
        }
    }
}
