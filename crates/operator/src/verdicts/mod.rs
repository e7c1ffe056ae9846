//! Says in the status of GatewayClasses, Gateways, HTTPRoutes and InferencePools what becomes of them here.
//!
//! ```text
//! watch ──▶ Catalogue and what counts ──▶ verdicts ──▶ status, where the object is still what was seen
//! ```
//!
//! Contract: one operator writes, that which leads; nothing is written at rest; what other controllers say is
//! theirs. What is said is what gateways do, since both ask the same of the same.

#[cfg(test)]
mod tests;

use std::time::Duration;

use kube::Client;
use kube::api::{Api, ApiResource, DynamicObject, GroupVersionKind, Patch, PatchParams};
use pilotage_plan::cluster::{Admission, MANAGER, admit};
use pilotage_plan::gateway_api::{GATEWAY_GROUP, Write};
use pilotage_shell::clock::Clock;
use pilotage_shell::date;
use pilotage_watch::{Known, Purpose, Scope, Watching};
use serde_json::{Value, json};
use tokio_util::sync::CancellationToken;

use crate::kubernetes;

/// How long further news is waited for: what belongs together comes in several pieces.
const SETTLE: Duration = Duration::from_millis(300);

/// How often it is looked whether the cluster has the Gateway API.
const LOOK: Duration = Duration::from_secs(60);

/// The first pause after a write that failed; twice as long after each further one.
const PAUSE_MIN: Duration = Duration::from_secs(1);

/// The longest.
const PAUSE_MAX: Duration = Duration::from_secs(60);

/// Writes of one round; others come with the next.
const WRITES_MAX: usize = 200;

/// Where to look.
#[derive(Clone, Debug)]
pub struct Settings {
    /// The namespace whose resources count; none is all of them.
    pub namespace: Option<String>,
    /// Pilotage's own namespace.
    pub system: String,
    /// The Service whose addresses are those of Gateways.
    pub gateways: String,
}

/// Says it for as long as this operator leads, until `stop`.
pub async fn run(mut known: kubernetes::Known, settings: Settings, stop: CancellationToken) {
    loop {
        let (leads, client) = (known.leads(), known.client());
        let work = async {
            match leads {
                true => judge(client, &settings).await,
                false => std::future::pending().await,
            }
        };
        tokio::select! {
            () = stop.cancelled() => return,
            () = known.lead_changed() => {}
            () = work => {}
        }
    }
}

/// Says what there is to say, for ever.
async fn judge(client: Client, settings: &Settings) {
    let version = format!("{GATEWAY_GROUP}/v1");
    while client.list_api_group_resources(&version).await.is_err() {
        tokio::time::sleep(LOOK).await;
    }
    let clock = Clock::start();
    let scope = Scope {
        namespace: settings.namespace.clone(),
        system: settings.system.clone(),
        gateways: settings.gateways.clone(),
        purpose: Purpose::Judge,
    };
    let mut judge = Judge {
        watching: Watching::start(&client, &scope, clock),
        client,
        clock,
        admitted: None,
        failures: 0,
    };
    loop {
        judge.watching.changed().await;
        tokio::time::sleep(SETTLE).await;
        while let Some(pause) = judge.round().await {
            tokio::time::sleep(pause).await;
        }
    }
}

struct Judge {
    watching: Watching,
    client: Client,
    clock: Clock,
    admitted: Option<(u64, Admission)>,
    failures: u32,
}

impl Judge {
    /// Writes what there is to write; how long to wait before the rest, where there is some.
    async fn round(&mut self) -> Option<Duration> {
        if !self.watching.read(Known::is_known) {
            return None;
        }
        let revision = self.watching.read(Known::revision);
        if self.admitted.as_ref().is_none_or(|(of, _)| *of != revision) {
            let admission = self.watching.read(|known| admit(known.resources()));
            self.admitted = Some((revision, admission));
        }
        let (_, admission) = self.admitted.as_ref()?;
        let now = date::utc(self.clock.unix_ms() / 1000);
        let writes = self.watching.read(|known| known.verdicts(admission, &now));
        let (mut failed, is_more) = (false, writes.len() > WRITES_MAX);
        for write in writes.iter().take(WRITES_MAX) {
            failed |= !self.write(write).await;
        }
        self.failures = if failed { self.failures + 1 } else { 0 };
        let doubled = PAUSE_MIN.saturating_mul(1 << self.failures.saturating_sub(1).min(10));
        (failed || is_more).then(|| doubled.min(PAUSE_MAX))
    }

    /// Whether it was written, or need not be: of an object that is another by now, or gone, news come.
    async fn write(&self, write: &Write) -> bool {
        match say(&self.client, write).await {
            Ok(()) => true,
            Err(kube::Error::Api(status)) if matches!(status.code, 404 | 409) => true,
            Err(error) => {
                let Write { plural, namespace, name, .. } = write;
                let error = error.to_string();
                tracing::warn!(plural, namespace, name, error, "a status was not written");
                false
            }
        }
    }
}

async fn say(client: &Client, write: &Write) -> Result<(), kube::Error> {
    let (group, version) = write.api_version.split_once('/').unwrap_or_default();
    let gvk = GroupVersionKind::gvk(group, version, "");
    let of = ApiResource::from_gvk_with_plural(&gvk, write.plural);
    let api: Api<DynamicObject> = match write.namespace.as_str() {
        "" => Api::all_with(client.clone(), &of),
        namespace => Api::namespaced_with(client.clone(), namespace, &of),
    };
    let change: Value = json!({
        "metadata": { "resourceVersion": write.resource_version },
        "status": write.status,
    });
    let how = PatchParams { field_manager: Some(MANAGER.to_owned()), ..PatchParams::default() };
    api.patch_status(&write.name, &how, &Patch::Merge(&change)).await.map(drop)
}
