//! What a router remembers of which prompts it sent where: the approximate index that rivals have,
//! with their bounds of number and age.

use std::collections::VecDeque;

use hashbrown::HashTable;
use pilotage_core::{Span, Time};

/// Blocks by replica, those used least recently forgotten first.
#[derive(Debug)]
pub(super) struct Memory {
    most: usize,
    age_max: Option<Span>,
    blocks: HashTable<(u64, Vec<(usize, Time)>)>,
    lines: Vec<Line>,
}

#[derive(Clone, Debug, Default)]
struct Line {
    held: usize,
    uses: VecDeque<(u64, Time)>,
}

impl Memory {
    /// For so many replicas, so many blocks of each, for so long.
    pub(super) fn new(replicas: usize, most: usize, age_max: Option<Span>) -> Self {
        let lines = vec![Line::default(); replicas];
        Self { most, age_max, blocks: HashTable::new(), lines }
    }

    /// How many of a prompt's first blocks each replica has.
    pub(super) fn find(&self, now: Time, prompt: &[u64]) -> Vec<usize> {
        let mut found = vec![0; self.lines.len()];
        for (depth, name) in prompt.iter().enumerate() {
            let Some((_, holders)) = self.blocks.find(*name, |one| one.0 == *name) else { break };
            let mut any = false;
            for (place, at) in holders {
                let fresh = self.age_max.is_none_or(|most| now.since(*at) <= most);
                if fresh && found[*place] == depth {
                    found[*place] += 1;
                    any = true;
                }
            }
            if !any {
                break;
            }
        }
        found
    }

    /// A prompt was sent there.
    pub(super) fn keep(&mut self, now: Time, place: usize, prompt: &[u64]) {
        for name in prompt.iter().rev() {
            let entry = self.blocks.entry(*name, |one| one.0 == *name, |one| one.0);
            let holders = &mut entry.or_insert_with(|| (*name, Vec::new())).into_mut().1;
            match holders.iter_mut().find(|(other, _)| *other == place) {
                Some((_, at)) => *at = now,
                None => {
                    holders.push((place, now));
                    self.lines[place].held += 1;
                }
            }
            self.lines[place].uses.push_back((*name, now));
        }
        while self.lines[place].held > self.most {
            let Some((name, at)) = self.lines[place].uses.pop_front() else { break };
            self.forget(place, name, at);
        }
    }

    fn forget(&mut self, place: usize, name: u64, at: Time) {
        let Ok(mut found) = self.blocks.find_entry(name, |one| one.0 == name) else { return };
        let holders = &mut found.get_mut().1;
        let before = holders.len();
        holders.retain(|holder| *holder != (place, at));
        self.lines[place].held -= before - holders.len();
        if holders.is_empty() {
            found.remove();
        }
    }
}
