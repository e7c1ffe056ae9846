//! The tenants by name: an id for each, that stays with its name when the tenants change, and the
//! tree and quotas that the core knows them by. Who is gone is forgotten once nothing of theirs is left.

use std::collections::{BTreeMap, HashMap, HashSet};

use pilotage_core::admit::Quota;
use pilotage_core::{TenantId, TenantShare, TenantTree, TreeError};
use thiserror::Error;

use crate::config::TenantConfig;
use crate::driver::TenantStatus;

/// Ids and names.
#[derive(Debug, Default)]
pub(crate) struct Directory {
    ids: HashMap<String, TenantId>,
    names: HashMap<TenantId, String>,
    /// The next id: none is given twice, so that what ends late counts for nobody else.
    next: u32,
    /// Who there is.
    there: Vec<TenantId>,
    tree: TenantTree,
    /// What part each tenant has when everybody wants everything.
    entitled: BTreeMap<TenantId, f64>,
}

/// The tenants as the core knows them.
#[derive(Debug)]
pub(crate) struct Known {
    /// In the order of the configuration.
    pub(crate) ids: Vec<TenantId>,
    pub(crate) tree: TenantTree,
    pub(crate) quotas: BTreeMap<TenantId, Quota>,
}

/// Why tenants cannot be used. Nothing changed; whoever wrote them can put it right.
#[derive(Clone, Debug, Eq, Error, PartialEq)]
pub enum DirectoryError {
    /// A parent that is not there.
    #[error("tenant `{tenant}` belongs to `{parent}`, which does not exist")]
    UnknownParent {
        /// Whose parent.
        tenant: String,
        /// Its name.
        parent: String,
    },
    /// They are no tree, or share out more than there is.
    #[error("tenant `{tenant}`: {error}")]
    Tree {
        /// Whom it is about; empty when about several.
        tenant: String,
        /// What is wrong.
        error: TreeError,
    },
}

impl Directory {
    /// Ids for all these tenants: those that were there before keep theirs. `is_used` says of others whether
    /// anything of theirs runs, or is spent.
    pub(crate) fn learn(
        &mut self,
        tenants: &[TenantConfig],
        is_used: impl Fn(TenantId) -> bool,
    ) -> Result<Known, DirectoryError> {
        self.forget(is_used);
        let ids: Vec<TenantId> = tenants.iter().map(|tenant| self.id(&tenant.name)).collect();
        let by_name: HashMap<&str, TenantId> =
            tenants.iter().zip(&ids).map(|(tenant, id)| (tenant.name.as_str(), *id)).collect();
        let share = |(tenant, id): (&TenantConfig, &TenantId)| {
            let parent = match &tenant.parent {
                None => None,
                Some(parent) => {
                    let unknown = || DirectoryError::UnknownParent {
                        tenant: tenant.name.clone(),
                        parent: parent.clone(),
                    };
                    Some(*by_name.get(parent.as_str()).ok_or_else(unknown)?)
                }
            };
            Ok(TenantShare {
                id: *id,
                parent,
                weight: tenant.weight,
                guaranteed: tenant.guaranteed,
                borrowing_limit: tenant.borrowing_limit,
                lending_limit: tenant.lending_limit,
            })
        };
        let shares: Vec<TenantShare> =
            tenants.iter().zip(&ids).map(share).collect::<Result<_, DirectoryError>>()?;
        let tree = TenantTree::new(shares).map_err(|error| DirectoryError::Tree {
            tenant: whom(error).map_or_else(String::new, |id| self.name(id).to_owned()),
            error,
        })?;
        let quotas = tenants.iter().zip(&ids).map(|(tenant, id)| (*id, tenant.quota.clone()));
        let quotas = quotas.collect();
        self.entitled = tree.entitled();
        self.tree = tree.clone();
        self.there.clone_from(&ids);
        Ok(Known { ids, tree, quotas })
    }

    /// A tenant's name.
    pub(crate) fn name(&self, id: TenantId) -> &str {
        self.names.get(&id).map_or("", String::as_str)
    }

    /// A tenant and those above it, nearest first.
    pub(crate) fn path(&self, id: TenantId) -> Vec<TenantId> {
        self.tree.path(id).collect()
    }

    /// Fills in what only names and the tree tell of a tenant.
    pub(crate) fn show(&self, tenant: &mut TenantStatus) {
        let id = tenant.entitlement.tenant;
        self.name(id).clone_into(&mut tenant.name);
        let parent = self.tree.get(id).and_then(|share| share.parent);
        tenant.parent = parent.map(|parent| self.name(parent).to_owned());
        tenant.entitled_share = self.entitled.get(&id).copied().unwrap_or(0.0);
    }

    /// The id of a name that was learnt.
    pub(crate) fn find(&self, name: &str) -> Option<TenantId> {
        self.ids.get(name).copied()
    }

    /// Forgets who is not there, and has nothing that runs or is spent.
    fn forget(&mut self, is_used: impl Fn(TenantId) -> bool) {
        let there: HashSet<TenantId> = self.there.iter().copied().collect();
        self.names.retain(|id, _| there.contains(id) || is_used(*id));
        let names = &self.names;
        self.ids.retain(|_, id| names.contains_key(id));
    }

    fn id(&mut self, name: &str) -> TenantId {
        if let Some(id) = self.ids.get(name) {
            return *id;
        }
        let id = TenantId(self.next);
        self.next = self.next.saturating_add(1);
        self.names.insert(id, name.to_owned());
        self.ids.insert(name.to_owned(), id);
        id
    }
}

const fn whom(error: TreeError) -> Option<TenantId> {
    match error {
        TreeError::Twice(id)
        | TreeError::UnknownParent { tenant: id, .. }
        | TreeError::Cycle(id)
        | TreeError::TooDeep(id)
        | TreeError::Nothing(id)
        | TreeError::Weight(id) => Some(id),
        TreeError::Overcommitted { parent, .. } => parent,
        TreeError::TooMany(_) => None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn tenant(name: &str, parent: Option<&str>) -> TenantConfig {
        TenantConfig { parent: parent.map(str::to_owned), ..TenantConfig::named(name) }
    }

    #[test]
    fn ids_stay_with_their_names() {
        let mut directory = Directory::default();
        let mut learn = |tenants: &[TenantConfig]| directory.learn(tenants, |_| false).unwrap();
        let first = learn(&[tenant("team", Some("org")), tenant("org", None)]);
        let second =
            learn(&[tenant("new", Some("org")), tenant("org", None), tenant("team", None)]);
        assert_eq!((first.ids[0], first.ids[1]), (second.ids[2], second.ids[1]));
        assert_eq!(directory.name(second.ids[0]), "new");
        assert_eq!(directory.name(TenantId(77)), "");
    }

    #[test]
    fn who_is_gone_is_forgotten_once_nothing_of_theirs_is_left() {
        let mut directory = Directory::default();
        let all = [tenant("stays", None), tenant("runs", None), tenant("gone", None)];
        let ids = directory.learn(&all, |_| false).unwrap().ids;
        for _ in 0..3 {
            // It holds from when it is learnt that they are gone.
            directory.learn(&all[..1], |id| id == ids[1]).unwrap();
        }
        let names: Vec<&str> = ids.iter().map(|id| directory.name(*id)).collect();
        assert_eq!(names, ["stays", "runs", ""]);
        assert_eq!((directory.names.len(), directory.ids.len()), (2, 2));
        let again = directory.learn(&all, |_| false).unwrap().ids;
        assert_eq!(again[0], ids[0]);
        assert!(!ids.contains(&again[2]), "nobody gets an id that was another's");
        for round in 0..100 {
            directory.learn(&[tenant(&format!("t-{round}"), None)], |_| false).unwrap();
        }
        assert!(directory.names.len() <= 2, "{:?}", directory.names);
    }

    #[test]
    fn what_is_no_tree_is_named() {
        let check = |tenants: &[TenantConfig], expect: &str| {
            let error = Directory::default().learn(tenants, |_| false).unwrap_err().to_string();
            assert!(error.contains(expect), "{error}");
        };
        check(&[tenant("a", Some("b"))], "`a` belongs to `b`");
        check(&[tenant("a", Some("b")), tenant("b", Some("a"))], "tenant `a`: ");
        check(&[TenantConfig { weight: 0, ..tenant("a", None) }], "`a`: the weight");
    }
}
