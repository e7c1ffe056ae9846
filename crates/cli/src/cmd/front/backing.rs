//! What the gateway leans on, as series: whether the ledger's journal and store take what there is, and how long the
//! certificate is valid that clients are shown.

use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use pilotage_ledger::State;
use pilotage_shell::certificate::Validity;
use pilotage_shell::metrics::Metrics;
use pilotage_shell::serve::Certificates;
use pilotage_shell::tasks;
use prometheus_client::metrics::counter::Counter;
use prometheus_client::metrics::gauge::Gauge;
use tokio_util::sync::CancellationToken;

use super::ledger::Book;

/// Between two looks.
const LOOK: Duration = Duration::from_secs(2);

type Value = Gauge<f64, AtomicU64>;

/// The series. Clones are the same ones.
#[derive(Clone, Debug)]
pub(in crate::cmd) struct Backing {
    journal_up: Value,
    store_up: Value,
    waiting: Value,
    behind: Value,
    journal_bytes: Value,
    stored: Counter,
    folded: Counter,
    refused: Counter,
    lost: Counter,
    valid_from: Value,
    valid_until: Value,
}

impl Backing {
    /// Registers everything.
    pub(in crate::cmd) fn register(metrics: &Metrics) -> Self {
        let value = |name, help| metrics.register(name, help, Value::default());
        let count = |name, help| metrics.register(name, help, Counter::default());
        let this = Self {
            journal_up: value(
                "pilotage_ledger_journal_up",
                "Whether the ledger's journal takes rows, 1 or 0; while it does not, rows wait in memory.",
            ),
            store_up: value(
                "pilotage_ledger_store_up",
                "Whether the ledger's store takes rows, 1 or 0; while it does not, rows wait in the journal.",
            ),
            waiting: value(
                "pilotage_ledger_waiting_rows",
                "Rows in memory that are not in the ledger's journal yet.",
            ),
            behind: value(
                "pilotage_ledger_behind_rows",
                "Rows in the ledger's journal that are not in its store yet.",
            ),
            journal_bytes: value(
                "pilotage_ledger_journal_bytes",
                "The size of the ledger's journal.",
            ),
            stored: count("pilotage_ledger_stored_rows", "Rows that the ledger's store took."),
            folded: count(
                "pilotage_ledger_folded_rows",
                "Rows of which only sums were kept, as the journal took none and memory is bounded.",
            ),
            refused: count(
                "pilotage_ledger_refused_rows",
                "Rows that the ledger's store refused for what they are, kept in a file of their own.",
            ),
            lost: count(
                "pilotage_ledger_lost_rows",
                "Rows at least that are lost, as the ledger's journal was damaged on its disk.",
            ),
            valid_from: value(
                "pilotage_certificate_not_before_timestamp_seconds",
                "Since when the certificate is valid that clients are shown; NaN where there is none.",
            ),
            valid_until: value(
                "pilotage_certificate_not_after_timestamp_seconds",
                "Until when the certificate is valid that clients are shown; NaN where there is none.",
            ),
        };
        this.show_certificate(None);
        this
    }

    /// How the ledger does.
    pub(super) fn show_ledger(&self, state: &State) {
        self.journal_up.set(f64::from(u8::from(state.journal_up)));
        self.store_up.set(f64::from(u8::from(state.store_up)));
        self.waiting.set(state.waiting_rows as f64);
        self.behind.set(state.behind_rows as f64);
        self.journal_bytes.set(state.journal_bytes as f64);
        for (counter, count) in [
            (&self.stored, state.stored_rows),
            (&self.folded, state.folded_rows),
            (&self.refused, state.refused_rows),
            (&self.lost, state.lost_rows),
        ] {
            counter.inner().store(count, Ordering::Relaxed);
        }
    }

    /// What clients are shown.
    pub(super) fn show_certificate(&self, validity: Option<Validity>) {
        let seconds = |part: fn(Validity) -> u64| validity.map_or(f64::NAN, |one| part(one) as f64);
        self.valid_from.set(seconds(|one| one.from));
        self.valid_until.set(seconds(|one| one.until));
    }

    /// Both, from now on until `stop`.
    pub(super) fn watch(
        &self,
        book: &Book,
        certificates: Option<Certificates>,
        stop: CancellationToken,
    ) {
        let (this, book) = (self.clone(), book.clone());
        let looks = async move {
            let mut every = tokio::time::interval(LOOK);
            loop {
                every.tick().await;
                this.show_ledger(&book.state());
                this.show_certificate(certificates.as_ref().and_then(Certificates::validity));
            }
        };
        drop(tasks::spawn("backing", async move {
            stop.run_until_cancelled(looks).await;
        }));
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_behind_and_what_ends_is_shown() {
        let metrics = Metrics::new();
        let backing = Backing::register(&metrics);
        let has =
            |line: &str| assert!(metrics.encode().contains(line), "{line} in {}", metrics.encode());
        has("pilotage_certificate_not_after_timestamp_seconds NaN");
        let state = State { store_up: true, behind_rows: 3, lost_rows: 2, ..State::default() };
        backing.show_ledger(&state);
        has("pilotage_ledger_journal_up 0");
        has("pilotage_ledger_store_up 1");
        has("pilotage_ledger_behind_rows 3");
        has("pilotage_ledger_lost_rows_total 2");
        backing.show_certificate(Some(Validity { from: 5, until: 7 }));
        has("pilotage_certificate_not_before_timestamp_seconds 5");
        has("pilotage_certificate_not_after_timestamp_seconds 7");
    }
}
