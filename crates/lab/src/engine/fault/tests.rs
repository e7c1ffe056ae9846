//! The table itself.

use std::collections::HashSet;

use super::table::FAULTS;
use super::*;
use crate::engine::piece::Part;

#[test]
fn every_fault_has_a_name_of_its_own_and_says_what_it_does() {
    let names: HashSet<_> = FAULTS.iter().map(|fault| fault.name).collect();
    assert_eq!(names.len(), FAULTS.len());
    assert!(FAULTS.len() >= 40);
    for fault in FAULTS {
        let digits = fault.id.strip_prefix('F').unwrap();
        assert!(digits.len() == 2 && digits.parse::<u8>().unwrap() <= 50, "{}", fault.id);
        assert!(!fault.does.is_empty() && !fault.expect.words.is_empty(), "{}", fault.name);
    }
}

/// The pieces of a stream, and of a whole answer, as they leave an engine with a fault.
fn played(tamper: Tamper) -> Vec<Vec<Act>> {
    let head = Bytes::from_static(b"HTTP/1.1 200 OK\r\ncontent-length: 40\r\n\r\n");
    let event = Bytes::from_static(
        b"data: {\"id\":\"a\",\"created\":1,\"model\":\"m\",\"usage\":{\"prompt_tokens\":1}}\n\n",
    );
    let tokens = (0..6).map(|index| (Part::Token(index), event.clone()));
    let stream = [
        (Part::Begin, Bytes::new()),
        (Part::StreamHead, head.clone()),
        (Part::Role, event.clone()),
    ]
    .into_iter()
    .chain(tokens)
    .chain([Part::Finish, Part::Usage, Part::Done].map(|part| (part, event.clone())))
    .chain([(Part::End, Bytes::new())]);
    let whole = [(Part::Begin, Bytes::new()), (Part::WholeHead, head), (Part::Body, event.clone())];
    let mut memories = [Memory { held: None, reused: true }, Memory { held: None, reused: true }];
    let [first, second] = &mut memories;
    let streamed =
        stream.map(|(part, bytes)| tamper(&Piece { part, bytes }, first)).collect::<Vec<_>>();
    let sent = whole.into_iter().map(|(part, bytes)| tamper(&Piece { part, bytes }, second));
    streamed.into_iter().chain(sent).collect()
}

#[test]
fn every_fault_changes_something() {
    let healthy = played(|piece, _| piece.acts());
    for fault in FAULTS {
        let (Strikes::Work(tamper) | Strikes::Health(tamper) | Strikes::Metrics(tamper)) =
            fault.strikes
        else {
            continue;
        };
        assert_ne!(played(tamper), healthy, "{}", fault.name);
    }
}
