//! Each signature is found in its world and not in its neighbours.

use std::collections::BTreeSet;

use super::*;

/// Every world with this seed: its own signature is the verdict and no other, and where all is well there is none. What
/// else is found follows from it.
fn check(seed: u64) {
    let mut wrong = Vec::new();
    for trouble in all() {
        let tried = Tried::of(trouble, seed);
        if tried.first != trouble.id || !tried.beside.is_empty() {
            let (id, about) = (trouble.id, trouble.about);
            let Tried { first, found, beside, .. } = tried;
            wrong.push(format!("{id:?} ({about}): {first:?}, of {found:?}, beside it {beside:?}"));
        }
    }
    assert!(wrong.is_empty(), "with seed {seed}:\n{}", wrong.join("\n"));
}

#[test]
fn each_signature_is_found_in_its_world_and_not_in_its_neighbours() {
    check(0);
}

#[test]
fn so_it_is_with_another_seed() {
    check(1);
}

#[test]
fn and_with_a_third() {
    check(2);
}

/// The tests above hold every run's verdict to its world, and that nothing is found beside it, so that all that the table
/// counts follows from them.
#[test]
fn the_table_is_what_was_found() {
    let right = |trouble: &'static Trouble| {
        let found: Vec<&str> = trouble.id.into_iter().collect();
        (0..SEEDS).map(move |seed| Tried {
            trouble,
            seed,
            first: trouble.id,
            found: found.clone(),
            beside: Vec::new(),
        })
    };
    let tried: Vec<Tried> = all().iter().flat_map(right).collect();
    let write = "cargo run -p pilotage-sim --example trouble table \
                 > crates/sim/src/trouble/precision_and_recall.md";
    assert_eq!(table(&tried), PRECISION_AND_RECALL, "write it anew: {write}");
    assert_eq!(SEEDS, 3, "as many as there are tests");
}

#[test]
fn there_is_a_world_for_each_signature() {
    let ids: BTreeSet<&str> = all().iter().filter_map(|trouble| trouble.id).collect();
    let expect: BTreeSet<String> = (1..=34).map(|number| format!("S{number:02}")).collect();
    assert_eq!(ids, expect.iter().map(String::as_str).collect());
    assert!(all().iter().filter(|trouble| trouble.id.is_none()).count() >= 3);
}

#[test]
fn the_same_seed_gives_the_same_evidence() {
    let trouble = &all()[0];
    assert_eq!(trouble.evidence(7), trouble.evidence(7));
    assert_ne!(trouble.evidence(7), trouble.evidence(8));
}
