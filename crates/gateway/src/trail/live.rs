//! Requests that are under way. Each has a seat; what is seen of it is noted where that changes, under a lock
//! that few share.

use std::sync::atomic::{AtomicUsize, Ordering};

use parking_lot::Mutex;
use pilotage_core::traffic::Name;
use pilotage_core::{Band, Time};
use pilotage_lens::{Phase, Timeline};
use serde_json::{Map, Value, json};

use crate::driver::Reason;

/// Tables, so that requests rarely wait for each other.
const TABLES: usize = 16;

/// Those under way.
#[derive(Debug, Default)]
pub(crate) struct Live {
    tables: [Mutex<Table>; TABLES],
    next: AtomicUsize,
}

#[derive(Debug, Default)]
struct Table {
    seats: Vec<Option<Seen>>,
    /// Seats that nobody has: as many as were ever taken at once, at most.
    free: Vec<usize>,
}

/// A place among those under way, which has to be given back.
#[derive(Debug)]
pub(crate) struct Seat {
    table: usize,
    at: usize,
}

/// What is seen of one request.
#[derive(Clone, Debug)]
pub(crate) struct Seen {
    pub(crate) request_id: Name,
    pub(crate) timeline: Timeline,
    /// Its tenant: name, and path.
    pub(crate) tenant: Option<(Name, Name)>,
    pub(crate) lane: Option<Name>,
    pub(crate) why: Option<Reason>,
    pub(crate) band: Band,
    pub(crate) stream: bool,
    /// Tokens of its answer so far.
    pub(crate) output: u32,
}

impl Live {
    /// One more.
    pub(crate) fn enter(&self, request_id: &Name, timeline: Timeline) -> Seat {
        let table = self.next.fetch_add(1, Ordering::Relaxed) % TABLES;
        let seen = Seen {
            request_id: request_id.clone(),
            timeline,
            tenant: None,
            lane: None,
            why: None,
            band: Band::default(),
            stream: false,
            output: 0,
        };
        let mut seats = self.tables[table].lock();
        let at = seats.free.pop().unwrap_or(seats.seats.len());
        if at == seats.seats.len() {
            seats.seats.push(Some(seen));
        } else {
            seats.seats[at] = Some(seen);
        }
        Seat { table, at }
    }

    /// Notes something of one.
    pub(crate) fn note(&self, seat: &Seat, note: impl FnOnce(&mut Seen)) {
        let mut table = self.tables[seat.table].lock();
        if let Some(seen) = table.seats.get_mut(seat.at).and_then(Option::as_mut) {
            note(seen);
        }
    }

    /// One less.
    pub(crate) fn leave(&self, seat: Seat) {
        let mut table = self.tables[seat.table].lock();
        let seen = table.seats.get_mut(seat.at).and_then(Option::take);
        table.free.push(seat.at);
        drop(table);
        drop(seen);
    }

    /// How many there are, and those of them that began first.
    pub(crate) fn oldest(&self, most: usize, fits: impl Fn(&Seen) -> bool) -> (usize, Vec<Seen>) {
        let mut all: Vec<Seen> = Vec::new();
        for table in &self.tables {
            let table = table.lock();
            all.extend(table.seats.iter().flatten().filter(|seen| fits(seen)).cloned());
        }
        let total = all.len();
        all.sort_by_key(|seen| seen.timeline.begun());
        all.truncate(most);
        (total, all)
    }
}

impl Seen {
    /// It as the admin API shows it.
    pub(crate) fn json(&self, now: Time) -> Value {
        let phases = self.timeline.phases(now);
        let spent: Map<String, Value> = Phase::ALL
            .into_iter()
            .map(|phase| (format!("t_{}_ms", phase.name()), ms(phases.of(phase).as_nanos())))
            .collect();
        let tenant = self.tenant.as_ref();
        json!({
            "request_id": self.request_id,
            "tenant": tenant.map(|(name, _)| name),
            "tenant_path": tenant.map(|(_, path)| path),
            "lane": self.lane,
            "replica": self.why.as_ref().map(|why| &why.replica().name),
            "band": self.band,
            "stream": self.stream,
            "age_ms": ms(now.since(self.timeline.begun()).as_nanos()),
            "phase": self.timeline.phase(),
            "phases": spent,
            "output": self.output,
            "why": self.why.as_ref().map(ToString::to_string),
        })
    }
}

fn ms(nanos: u64) -> Value {
    json!((nanos / 1000) as f64 / 1000.0)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn begun(ms: u64) -> Timeline {
        Timeline::new(Time::from_millis(ms))
    }

    #[test]
    fn the_oldest_come_first_and_who_left_is_gone() {
        let live = Live::default();
        let seats: Vec<Seat> = [30, 10, 20]
            .into_iter()
            .map(|ms| live.enter(&Name::from(format!("r{ms}")), begun(ms)))
            .collect();
        let names = |most| {
            let (total, seen) = live.oldest(most, |_| true);
            let names: Vec<String> = seen.iter().map(|seen| seen.request_id.to_string()).collect();
            (total, names.join(" "))
        };
        assert_eq!(names(2), (3, "r10 r20".to_owned()));
        let [thirty, ten, twenty] = seats.try_into().unwrap();
        live.leave(ten);
        live.note(&twenty, |seen| seen.output = 7);
        assert_eq!(names(9), (2, "r20 r30".to_owned()));
        assert_eq!(live.oldest(1, |_| true).1[0].output, 7);
        live.leave(thirty);
        live.leave(twenty);
        assert_eq!(live.oldest(9, |_| true).0, 0);
    }

    #[test]
    fn a_seat_is_used_again_without_what_was_noted_there() {
        let live = Live::default();
        for _ in 0..3 {
            let seats: Vec<Seat> =
                (0..40).map(|_| live.enter(&Name::from("r"), begun(1))).collect();
            assert!(live.oldest(99, |_| true).1.iter().all(|seen| seen.output == 0));
            for seat in seats {
                live.note(&seat, |seen| seen.output = 1);
                live.leave(seat);
            }
        }
        let seats: usize = live.tables.iter().map(|table| table.lock().seats.len()).sum();
        assert!(seats <= 48, "{seats}");
    }
}
