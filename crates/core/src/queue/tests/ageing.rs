//! Strict bands starve nobody while they age, whatever floods come from above.

use super::*;

/// Between two turns.
const TURN: Span = Span::from_millis(100);

/// Turns given for age that may pass before a band that aged has one.
const ROTATION: u64 = 5 * Band::ALL.len() as u64;

/// A queue in which more work comes into every band of the flood than there are turns.
struct Flood {
    queue: Queue,
    now: Time,
    next: u64,
}

impl Flood {
    fn push(&mut self, tenant: u32, band: Band) -> RequestId {
        self.next += 1;
        let ticket =
            Ticket { tenant: TenantId(tenant), arrived: self.now, ..ticket(self.next, band, 10) };
        self.queue.push(ticket).unwrap();
        ticket.id
    }

    fn turn(&mut self) -> RequestId {
        self.now = self.now + TURN;
        let id = pop(&mut self.queue, self.now).unwrap().id;
        self.queue.settle(self.now, id, None);
        id
    }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(48))]

    #[test]
    fn nobody_starves_under_a_flood_from_above(
        band in 1usize..4,
        from in prop::collection::vec((0usize..3, 0u32..4), 1..6),
        floor in (0usize..4, prop::sample::select(vec![0u32, 500])),
        begin in 0u64..100,
    ) {
        let mut config = FairConfig::default();
        config.bands[floor.0].floor = floor.1;
        let tenants: Vec<_> = (0..4).map(|id| share(id, None, 1000 * (id + 1))).collect();
        let mut flood =
            Flood { queue: queue(config, &tenants, 1_000_000), now: Time::ZERO, next: 0 };
        let flow = |flood: &mut Flood| {
            for (above, tenant) in &from {
                flood.push(*tenant, Band::ALL[above % band]);
            }
        };
        for _ in 0..begin {
            flow(&mut flood);
            flood.turn();
        }
        let (probe, since) = (flood.push(3, Band::ALL[band]), flood.now);
        let age = config.bands[band].age_after.unwrap();
        let last = since + age + Span::from_nanos(TURN.as_nanos() * ROTATION);
        loop {
            flow(&mut flood);
            if flood.turn() == probe {
                break;
            }
            prop_assert!(flood.now <= last, "{:?} waits since {since:?}", Band::ALL[band]);
        }
    }
}
