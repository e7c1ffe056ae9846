//! A scrape: lanes are asked how they stand, and everything is written in the format that is asked for.

use pilotage_shell::metrics::Exposition;

use crate::app::Gateway;

impl Gateway {
    /// All metrics now, in the format that an `Accept` header asks for.
    pub async fn exposition(&self, accept: Option<&str>) -> Exposition {
        let inner = &self.inner;
        let mut lanes = Vec::new();
        for lane in self.table().lanes() {
            lanes.extend(lane.handle.status().await);
        }
        {
            let directory = inner.directory.read();
            for tenant in lanes.iter_mut().flat_map(|lane| &mut lane.tenants) {
                directory.name(tenant.entitlement.tenant).clone_into(&mut tenant.name);
            }
            inner.counts.show(&lanes);
        }
        inner.metrics.expose(accept)
    }
}
