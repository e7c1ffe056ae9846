//! The tenants of a plan: who there is, who belongs to whom, and what each has a right to, in the
//! scheduler's own terms, so that whoever carries the plan out computes nothing.

use std::cmp::Reverse;
use std::collections::BTreeMap;

use pilotage_core::admit::Quota;
use pilotage_core::{Band, TenantId, TenantShare};
use serde::Serialize;

use crate::Resource;
use crate::api::{Identity, ResourceName, Share, Tenant, TenantKey};

/// A tenant, its place among the others, and how to recognise it.
#[derive(Clone, Debug, Eq, PartialEq, Serialize)]
pub struct TenantSpec {
    /// Its name.
    pub name: String,
    /// The tenant it belongs to, which is in the plan, too; none at the top.
    pub parent: Option<String>,
    /// What it gets of what guarantees leave, beside others of its parent, in thousandths.
    pub weight: u32,
    /// Its share of each lane's capacity.
    pub share: ShareSpec,
    /// Its limits, which hold for all that belong to it together.
    pub quota: Quota,
    /// Seconds that an answer may take in all where the request does not say.
    pub deadline_seconds: Option<u32>,
    /// The most urgent band its requests may ask for.
    pub highest_band: Band,
    /// The hashes of its keys.
    pub keys: Vec<TenantKey>,
    /// The tokens whose bearers belong to it.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub identities: Vec<Identity>,
    /// Whether it is a gateway of another region, which says whose its requests are.
    #[serde(skip_serializing_if = "crate::api::tenant::is_false")]
    pub relays: bool,
}

/// A share of a lane's capacity in KV tokens, in thousandths of it; see [`TenantShare`].
#[derive(Clone, Copy, Debug, Default, Eq, PartialEq, Serialize)]
pub struct ShareSpec {
    /// What is its own before anybody else's.
    pub guaranteed: u32,
    /// What it may use above; none is no limit.
    pub borrowing_limit: Option<u32>,
    /// What others may use of it; none is all.
    pub lending_limit: Option<u32>,
}

impl TenantSpec {
    /// Its place in the scheduler's tree.
    pub fn in_tree(&self, id: impl Fn(&str) -> TenantId) -> TenantShare {
        TenantShare {
            id: id(&self.name),
            parent: self.parent.as_deref().map(id),
            weight: self.weight,
            guaranteed: self.share.guaranteed,
            borrowing_limit: self.share.borrowing_limit,
            lending_limit: self.share.lending_limit,
        }
    }
}

/// All tenants from the top down, each followed by those that belong to it, in the order of names.
/// Who has no way to the top is left out; [`crate::manifest::check`] finds those before.
pub(crate) fn tenants(resources: &[Resource]) -> Vec<TenantSpec> {
    let mut below: BTreeMap<Option<&ResourceName>, Vec<&Tenant>> = BTreeMap::new();
    for resource in resources {
        if let Resource::Tenant(tenant) = resource {
            below.entry(tenant.spec.parent.as_ref()).or_default().push(tenant);
        }
    }
    // The next one is taken from the end.
    for tenants in below.values_mut() {
        tenants.sort_by_key(|tenant| Reverse(tenant.name()));
    }
    let mut open = below.remove(&None).unwrap_or_default();
    let mut found = Vec::new();
    while let Some(tenant) = open.pop() {
        found.push(spec(tenant));
        open.extend(below.remove(&Some(&tenant.metadata.name)).into_iter().flatten());
    }
    found
}

fn spec(tenant: &Tenant) -> TenantSpec {
    let spec = &tenant.spec;
    TenantSpec {
        name: tenant.name().to_owned(),
        parent: spec.parent.as_ref().map(ToString::to_string),
        weight: spec.weight.saturating_mul(1000),
        share: spec.share.into(),
        quota: (&spec.quota).into(),
        deadline_seconds: spec.deadline_seconds,
        highest_band: spec.highest_band.into(),
        keys: spec.keys.clone(),
        identities: spec.identities.clone(),
        relays: spec.relay,
    }
}

impl From<Share> for ShareSpec {
    fn from(share: Share) -> Self {
        let thousandths = |percent: u32| percent.saturating_mul(10);
        Self {
            guaranteed: thousandths(share.guaranteed_percent),
            borrowing_limit: share.borrowing_limit_percent.map(thousandths),
            lending_limit: share.lending_limit_percent.map(thousandths),
        }
    }
}
