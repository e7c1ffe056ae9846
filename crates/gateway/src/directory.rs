//! The tenants by name: an id for each, that stays with its name when the tenants change, and the
//! tree and quotas that the core knows them by.

use std::collections::{BTreeMap, HashMap};

use pilotage_core::admit::Quota;
use pilotage_core::{TenantId, TenantShare, TenantTree, TreeError};
use thiserror::Error;

use crate::config::TenantConfig;

/// Ids and names.
#[derive(Debug, Default)]
pub(crate) struct Directory {
    ids: HashMap<String, TenantId>,
    names: Vec<String>,
    tree: TenantTree,
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
    /// Ids for all these tenants: those that were there before keep theirs.
    pub(crate) fn learn(&mut self, tenants: &[TenantConfig]) -> Result<Known, DirectoryError> {
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
        self.tree = tree.clone();
        Ok(Known { ids, tree, quotas })
    }

    /// A tenant's name.
    pub(crate) fn name(&self, id: TenantId) -> &str {
        self.names.get(id.0 as usize).map_or("", String::as_str)
    }

    /// A tenant and those above it, nearest first.
    pub(crate) fn path(&self, id: TenantId) -> Vec<TenantId> {
        self.tree.path(id).collect()
    }

    /// The id of a name that was learnt.
    pub(crate) fn find(&self, name: &str) -> Option<TenantId> {
        self.ids.get(name).copied()
    }

    fn id(&mut self, name: &str) -> TenantId {
        if let Some(id) = self.ids.get(name) {
            return *id;
        }
        let id = TenantId(u32::try_from(self.names.len()).unwrap_or(u32::MAX));
        self.names.push(name.to_owned());
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
        let first = directory.learn(&[tenant("team", Some("org")), tenant("org", None)]).unwrap();
        let second = directory
            .learn(&[tenant("new", Some("org")), tenant("org", None), tenant("team", None)])
            .unwrap();
        assert_eq!((first.ids[0], first.ids[1]), (second.ids[2], second.ids[1]));
        assert_eq!(directory.name(second.ids[0]), "new");
        assert_eq!(directory.name(TenantId(77)), "");
    }

    #[test]
    fn what_is_no_tree_is_named() {
        let check = |tenants: &[TenantConfig], expect: &str| {
            let error = Directory::default().learn(tenants).unwrap_err().to_string();
            assert!(error.contains(expect), "{error}");
        };
        check(&[tenant("a", Some("b"))], "`a` belongs to `b`");
        check(&[tenant("a", Some("b")), tenant("b", Some("a"))], "tenant `a`: ");
        check(&[TenantConfig { weight: 0, ..tenant("a", None) }], "`a`: the weight");
    }
}
