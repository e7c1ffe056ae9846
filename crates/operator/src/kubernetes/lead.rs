//! Keeps asking who leads, and tries to: what is decided is `plan`'s, here it is carried out.
//!
//! Contract: who cannot renew its lead in time has none, also while it waits for an answer.

use std::sync::Arc;
use std::time::Duration;

use pilotage_plan::cluster::Failure;
use pilotage_plan::cluster::lease::{Candidate, NAME, RETRY_MS, Step};
use serde_json::Value;
use tokio_util::sync::CancellationToken;

use super::call::{Calls, Path};
use super::{Shared, chance};

/// How long a call may take: two fit into the time for which a leader goes on without an answer.
const CALL_TIMEOUT: Duration = Duration::from_secs(5);

/// Leads, or waits to, until it is told to stop; then gives the lead back.
pub(super) async fn keep(shared: Arc<Shared>, stop: CancellationToken) {
    let calls = Calls::within(shared.calls.client(), CALL_TIMEOUT);
    let mut candidate = Candidate::new(shared.settings.name.clone());
    loop {
        let due_ms = turn_in_time(&shared, &calls, &mut candidate).await;
        let leads = candidate.leads(shared.now_ms());
        if leads != shared.leads() {
            turned(&shared, leads);
        }
        tokio::select! {
            () = stop.cancelled() => break,
            () = shared.until_ms(due_ms) => {}
            () = lapse(&shared, candidate.leads_until_ms()) => turned(&shared, false),
        }
    }
    give_back(&shared, &calls, &candidate).await;
}

async fn give_back(shared: &Shared, calls: &Calls, candidate: &Candidate) {
    shared.leads.send_replace(false);
    let now_ms = shared.now_ms();
    let system = &shared.settings.cluster.system;
    if let Some(lease) = candidate.release(now_ms, system, now_ms) {
        let given = calls.replace(path(system), &lease).await;
        tracing::info!(given = given.is_ok(), "the lead is given back");
    }
}

/// Takes one turn, and leads no more where that takes too long; returns when the next one is due.
async fn turn_in_time(shared: &Shared, calls: &Calls, candidate: &mut Candidate) -> u64 {
    let until_ms = candidate.leads_until_ms();
    let turn = turn(shared, calls, candidate);
    tokio::pin!(turn);
    tokio::select! {
        due_ms = &mut turn => due_ms,
        () = lapse(shared, until_ms) => {
            turned(shared, false);
            turn.await
        }
    }
}

/// Waits until the lead is over that nobody renewed; for ever where this one does not lead.
async fn lapse(shared: &Shared, until_ms: Option<u64>) {
    match until_ms.filter(|_| shared.leads()) {
        Some(until_ms) => shared.until_ms(until_ms).await,
        None => std::future::pending().await,
    }
}

fn turned(shared: &Shared, leads: bool) {
    tracing::info!(leads, name = shared.settings.name, "who leads has changed");
    shared.leads.send_replace(leads);
    shared.counters.leads(leads);
}

/// Takes one turn; returns when the next one is due.
async fn turn(shared: &Shared, calls: &Calls, candidate: &mut Candidate) -> u64 {
    let now_ms = shared.now_ms();
    if let Err(failure) = attempt(shared, calls, candidate, now_ms).await {
        // Another was faster, which the next look shows.
        if failure.code != 409 {
            tracing::warn!(
                code = failure.code,
                error = failure.message,
                "the Lease cannot be read or written"
            );
        }
        shared.counters.lease_failed();
        return shared.now_ms() + RETRY_MS + u64::from(chance()) / 2;
    }
    shared.now_ms() + RETRY_MS
}

async fn attempt(
    shared: &Shared,
    calls: &Calls,
    candidate: &mut Candidate,
    now_ms: u64,
) -> Result<(), Failure> {
    let system = &shared.settings.cluster.system;
    let lease: Option<Value> = calls.get(path(system)).await?;
    candidate.seen(shared.now_ms(), lease.as_ref());
    let written = match candidate.next(now_ms, system, now_ms) {
        Step::Wait(_) => return Ok(()),
        Step::Create(lease) => calls.create(path(system), &lease).await?,
        Step::Replace(lease) => calls.replace(path(system), &lease).await?,
    };
    candidate.written(now_ms, &written);
    Ok(())
}

const fn path(system: &str) -> Path<'_> {
    Path {
        api_version: "coordination.k8s.io/v1",
        plural: "leases",
        namespace: system,
        name: NAME,
        part: "",
    }
}
