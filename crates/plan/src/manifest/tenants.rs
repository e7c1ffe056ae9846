//! Holds tenants against each other: parents that do not exist, circles, levels, guarantees that
//! cannot all be kept, and budgets that contradict themselves.

use std::collections::{BTreeMap, BTreeSet};

use pilotage_core::queue::tree::DEPTH_MAX;

use super::error::nearest;
use super::link::error;
use super::{ManifestError, Problem};
use crate::api::{Budget, Kind, Money, Resource, ResourceName, Tenant};

/// The whole capacity in percent.
const WHOLE_PERCENT: u64 = 100;

/// Adds everything about the tenants that does not fit together.
pub(super) fn check(resources: &[Resource], errors: &mut Vec<ManifestError>) {
    let tenants = resources.iter().filter_map(|resource| match resource {
        Resource::Tenant(tenant) => Some(tenant),
        Resource::Model(_) | Resource::Route(_) | Resource::Fleet(_) => None,
    });
    let tenants: Vec<&Tenant> = tenants.collect();
    let mut named = BTreeMap::new();
    for tenant in &tenants {
        named.entry(&tenant.metadata.name).or_insert(*tenant);
    }
    let check = Check { tenants, named };
    check.parents(errors);
    check.levels(errors);
    check.guarantees(errors);
    for tenant in &check.tenants {
        service(tenant, errors);
        budgets(tenant, errors);
    }
}

struct Check<'a> {
    tenants: Vec<&'a Tenant>,
    named: BTreeMap<&'a ResourceName, &'a Tenant>,
}

impl<'a> Check<'a> {
    fn parents(&self, errors: &mut Vec<ManifestError>) {
        for tenant in &self.tenants {
            let Some(parent) = &tenant.spec.parent else { continue };
            if self.named.contains_key(parent) {
                continue;
            }
            let known: Vec<_> = self.named.keys().map(ToString::to_string).collect();
            let problem = Problem::Dangling {
                kind: Kind::Tenant,
                name: parent.to_string(),
                suggestion: nearest(parent.as_str(), &known),
                known,
            };
            errors.push(error(&tenant.origin, "spec.parent", problem));
        }
    }

    /// The tenant's parent, where it exists: for one that does not there is a message of its own.
    fn parent(&self, tenant: &Tenant) -> Option<&'a Tenant> {
        self.named.get(tenant.spec.parent.as_ref()?).copied()
    }

    /// Goes down from the top, level by level. Who is not met is in a circle, or below one.
    fn levels(&self, errors: &mut Vec<ManifestError>) {
        let mut below: BTreeMap<Option<&ResourceName>, Vec<&Tenant>> = BTreeMap::new();
        for tenant in &self.tenants {
            let parent = self.parent(tenant).map(|parent| &parent.metadata.name);
            below.entry(parent).or_default().push(tenant);
        }
        let mut met = BTreeSet::new();
        let mut row = below.remove(&None).unwrap_or_default();
        for level in 1.. {
            if row.is_empty() {
                break;
            }
            if level == DEPTH_MAX + 1 {
                let deep = |tenant: &&Tenant| too_deep(tenant, level);
                errors.extend(row.iter().map(deep));
            }
            met.extend(row.iter().map(|tenant| &tenant.metadata.name));
            let next = row.iter().filter_map(|tenant| below.remove(&Some(&tenant.metadata.name)));
            row = next.flatten().collect();
        }
        self.circles(met, errors);
    }

    /// Follows parents from everybody who was not met; each circle is found once.
    fn circles(&self, mut seen: BTreeSet<&'a ResourceName>, errors: &mut Vec<ManifestError>) {
        for start in &self.tenants {
            let mut walk: Vec<&Tenant> = Vec::new();
            let mut at = *start;
            while seen.insert(&at.metadata.name) {
                walk.push(at);
                let Some(parent) = self.parent(at) else { break };
                at = parent;
            }
            let Some(from) = walk.iter().position(|tenant| tenant.name() == at.name()) else {
                continue;
            };
            if at.spec.parent.is_some() {
                let names = walk[from..].iter().map(|tenant| tenant.name().to_owned()).collect();
                errors.push(error(&at.origin, "spec.parent", Problem::Cycle { names }));
            }
        }
    }

    /// A guarantee is a part of the parent's. Of siblings the first that is too much is named.
    fn guarantees(&self, errors: &mut Vec<ManifestError>) {
        let mut sums: BTreeMap<Option<&ResourceName>, u64> = BTreeMap::new();
        let mut over = Vec::new();
        for tenant in &self.tenants {
            let most = match (&tenant.spec.parent, self.parent(tenant)) {
                (None, _) => WHOLE_PERCENT,
                (Some(_), Some(parent)) => parent.spec.share.guaranteed_percent.into(),
                (Some(_), None) => continue,
            };
            let sum = sums.entry(tenant.spec.parent.as_ref()).or_default();
            let before = *sum;
            *sum += u64::from(tenant.spec.share.guaranteed_percent);
            if before <= most && *sum > most {
                over.push((tenant, most));
            }
        }
        for (tenant, most) in over {
            let parent = tenant.spec.parent.as_ref();
            let sum = sums.get(&parent).copied().unwrap_or_default();
            let problem =
                Problem::Overcommitted { parent: parent.map(ToString::to_string), sum, most };
            errors.push(error(&tenant.origin, "spec.share.guaranteedPercent", problem));
        }
    }
}

fn too_deep(tenant: &Tenant, level: usize) -> ManifestError {
    let problem = Problem::TooDeep { name: tenant.name().to_owned(), level, most: DEPTH_MAX };
    error(&tenant.origin, "spec.parent", problem)
}

fn service(tenant: &Tenant, errors: &mut Vec<ManifestError>) {
    let share = tenant.spec.share;
    if share.guaranteed_percent == 0 && share.borrowing_limit_percent == Some(0) {
        let problem = Problem::Value(
            "the tenant has no guarantee and may borrow nothing, so it would never be served; give \
             it a `guaranteedPercent`, or raise or remove this limit"
                .to_owned(),
        );
        errors.push(error(&tenant.origin, "spec.share.borrowingLimitPercent", problem));
    }
}

fn budgets(tenant: &Tenant, errors: &mut Vec<ManifestError>) {
    let budgets = &tenant.spec.quota.budgets;
    for (index, budget) in budgets.iter().enumerate() {
        let mut report = |field: &str, text: &str| {
            let field = format!("spec.quota.budgets[{index}].{field}");
            errors.push(error(&tenant.origin, &field, Problem::Value(text.to_owned())));
        };
        if budgets[..index].iter().any(|earlier| earlier.window == budget.window) {
            report("window", "there is a budget for this window already; remove one of the two");
        }
        amounts(budget, &mut report);
    }
}

fn amounts(budget: &Budget, report: &mut impl FnMut(&str, &str)) {
    let zero = Money::default();
    if budget.hard == zero {
        report("hard", "a budget of nothing refuses everything that costs; write more than 0");
    }
    match budget.soft {
        Some(soft) if soft == zero => {
            report("soft", "nobody can spend less than nothing; write more than 0");
        }
        Some(soft) if soft > budget.hard => {
            report("soft", "the warning would come after the end; write at most what `hard` says");
        }
        Some(_) | None => {}
    }
}
