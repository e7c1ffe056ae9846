//! Copies of requests, for a model on trial: sent beside the original once that is in line, answered to
//! nobody, paid by nobody.
//!
//! Nothing of a copy reaches the client: it has a task of its own, goes with the lowest band, is tried
//! once, and its end is counted in series of its own. What would be more copies at once than the limit
//! is dropped.

use std::sync::Arc;

use http_body_util::BodyExt as _;
use pilotage_core::traffic::Shadow;
use pilotage_shell::tasks;

use super::place::{self, Sent};
use super::{Asking, Missed, Watch, span};
use crate::app::Gateway;
use crate::auth::Caller;
use crate::config::Timeouts;
use crate::table::Lane;

/// Where a copy goes.
pub(super) struct Copied {
    pub(super) shadow: Shadow,
    pub(super) lane: Arc<Lane>,
    pub(super) timeouts: Timeouts,
}

/// Sends a copy on its way, if there is room for one. One for an adapter that its model does not have
/// is not sent.
pub(super) fn send(
    gateway: &Gateway,
    asking: &Asking,
    copy: Copied,
    adapter: Option<&str>,
    watch: &Watch,
) {
    let Copied { shadow, lane, timeouts } = copy;
    if adapter.is_some_and(|adapter| !lane.has_adapter(adapter)) {
        return;
    }
    let Ok(room) = Arc::clone(&gateway.inner.mirrors).try_acquire_owned() else {
        gateway.inner.counts.copy_dropped(&lane.config.name);
        return;
    };
    let caller = Caller { band: shadow.band, ..asking.caller.clone() };
    // The client's patience is not the copy's.
    let asking = Asking { caller, deadline: None, ..asking.clone() };
    let (gateway, watch) = (gateway.clone(), watch.copy());
    let adapter = adapter.map(str::to_owned);
    drop(tasks::spawn("mirror", async move {
        let _room = room;
        run(&gateway, &asking, (&lane, timeouts), adapter.as_deref(), watch).await;
    }));
}

async fn run(
    gateway: &Gateway,
    asking: &Asking,
    (lane, timeouts): (&Arc<Lane>, Timeouts),
    adapter: Option<&str>,
    mut watch: Watch,
) {
    let now = watch.begun();
    let sent = Sent {
        lane,
        timeouts,
        // It is never tried again, whatever would be allowed.
        retry: None,
        adapter,
        id: gateway.next_id(),
        now,
        until: now + span(timeouts.total),
        charged: false,
        is_copy: true,
        hedge: false,
        by_proxy: false,
        seen: true,
        among: None,
    };
    match place::send(gateway, asking, &sent, None, &mut watch).await {
        Ok(response) => {
            let mut body = response.into_body();
            while let Some(Ok(_)) = body.frame().await {}
        }
        Err(Missed { refused, .. }) => watch.end(refused.error.status, refused.termination),
    }
}
