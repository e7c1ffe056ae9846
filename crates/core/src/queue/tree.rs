//! Who shares with whom: organisations, their teams, their applications, each with a weight and a
//! share of the capacity.
//!
//! Kueue's vocabulary: a node has a *guaranteed* share (its nominal quota), may borrow what others
//! leave unused up to its *borrowing limit*, and lends its own unused share up to its *lending
//! limit*. Shares are in thousandths of the lane's capacity in KV tokens, so that they hold
//! whatever the number of replicas. What is left over the guarantees is shared by *weight*.

use std::collections::{BTreeMap, BTreeSet};

use thiserror::Error;

use crate::TenantId;

/// Levels of a tree below its root.
pub const DEPTH_MAX: usize = 8;

/// Tenants of one tree.
pub const TENANTS_MAX: usize = 1_000_000;

/// The whole capacity, in thousandths.
pub const WHOLE: u32 = 1000;

/// A weight of one, in thousandths.
pub const WEIGHT_ONE: u32 = 1000;

/// The largest weight, in thousandths: a million to one is beyond any use.
pub const WEIGHT_MAX: u32 = 1_000_000_000;

/// One tenant's place and share.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub struct TenantShare {
    /// Who.
    pub id: TenantId,
    /// The tenant it belongs to; none for an organisation at the top.
    pub parent: Option<TenantId>,
    /// What it gets of the leftover beside its siblings, in thousandths.
    pub weight: u32,
    /// What is its own before anybody else's, in thousandths of the capacity.
    pub guaranteed: u32,
    /// What it may use above its guarantee, in thousandths of the capacity; none is no limit.
    pub borrowing_limit: Option<u32>,
    /// What others may use of its unused guarantee, in thousandths of the capacity; none is all.
    pub lending_limit: Option<u32>,
}

impl TenantShare {
    /// A tenant at the top with weight one and no guarantee.
    pub const fn top(id: TenantId) -> Self {
        Self {
            id,
            parent: None,
            weight: WEIGHT_ONE,
            guaranteed: 0,
            borrowing_limit: None,
            lending_limit: None,
        }
    }
}

/// What is wrong with a tree. Whoever wrote it can put it right.
#[derive(Clone, Copy, Debug, Eq, Error, PartialEq)]
pub enum TreeError {
    /// Two tenants have one id.
    #[error("tenant {} is there twice", .0.0)]
    Twice(TenantId),
    /// The parent does not exist.
    #[error("the parent {} of tenant {} does not exist", .parent.0, .tenant.0)]
    UnknownParent {
        /// Whose parent.
        tenant: TenantId,
        /// Which one.
        parent: TenantId,
    },
    /// Following parents leads back to the tenant.
    #[error("tenant {} is its own ancestor", .0.0)]
    Cycle(TenantId),
    /// More than [`DEPTH_MAX`] levels.
    #[error("tenant {} lies deeper than {DEPTH_MAX} levels", .0.0)]
    TooDeep(TenantId),
    /// More than [`TENANTS_MAX`] tenants.
    #[error("{0} tenants are more than {TENANTS_MAX}")]
    TooMany(usize),
    /// A weight of zero, or beyond [`WEIGHT_MAX`].
    #[error("the weight of tenant {} must be more than 0 and at most 1000000", .0.0)]
    Weight(TenantId),
    /// No guarantee, and nothing may be borrowed: its requests would wait for ever.
    #[error("tenant {} has no guarantee and may borrow nothing, so it would never be served", .0.0)]
    Nothing(TenantId),
    /// The guarantees of siblings add up to more than there is.
    #[error("the guarantees below {parent:?} add up to {sum} thousandths, {most} are there")]
    Overcommitted {
        /// Whose children; none at the top.
        parent: Option<TenantId>,
        /// What they add up to.
        sum: u64,
        /// What their parent has.
        most: u32,
    },
}

/// A checked tree: no cycles, no unknown parents, no share beyond what is there.
#[derive(Clone, Debug, Default, Eq, PartialEq)]
pub struct TenantTree {
    tenants: BTreeMap<TenantId, TenantShare>,
    parents: BTreeSet<TenantId>,
}

impl TenantTree {
    /// Checks and keeps the tenants.
    ///
    /// # Errors
    /// [`TreeError`], the first that is found.
    pub fn new(tenants: impl IntoIterator<Item = TenantShare>) -> Result<Self, TreeError> {
        let mut tree = Self::default();
        for tenant in tenants {
            if tenant.weight == 0 || tenant.weight > WEIGHT_MAX {
                return Err(TreeError::Weight(tenant.id));
            }
            if tenant.guaranteed == 0 && tenant.borrowing_limit == Some(0) {
                return Err(TreeError::Nothing(tenant.id));
            }
            if tree.tenants.insert(tenant.id, tenant).is_some() {
                return Err(TreeError::Twice(tenant.id));
            }
            tree.parents.extend(tenant.parent);
        }
        if tree.tenants.len() > TENANTS_MAX {
            return Err(TreeError::TooMany(tree.tenants.len()));
        }
        tree.check_parents()?;
        tree.check_sums()?;
        Ok(tree)
    }

    /// One tenant's share; none when it is not in the tree.
    pub fn get(&self, id: TenantId) -> Option<&TenantShare> {
        self.tenants.get(&id)
    }

    /// Every tenant, in the order of ids.
    pub fn iter(&self) -> impl Iterator<Item = &TenantShare> {
        self.tenants.values()
    }

    /// Whether others belong to this tenant.
    pub fn is_parent(&self, id: TenantId) -> bool {
        self.parents.contains(&id)
    }

    /// The tenant and those it belongs to, from itself upwards. A tenant that is not in the tree
    /// is alone.
    pub fn path(&self, id: TenantId) -> impl Iterator<Item = TenantId> {
        std::iter::successors(Some(id), |id| self.tenants.get(id)?.parent)
    }

    /// What part of all capacity, 0 to 1, each tenant has when everybody wants everything: its guarantee, and
    /// of what guarantees leave of its parent's part as much as its weight among its siblings.
    pub fn entitled(&self) -> BTreeMap<TenantId, f64> {
        let mut below: BTreeMap<Option<TenantId>, (u64, u64)> = BTreeMap::new();
        for tenant in self.tenants.values() {
            let (guaranteed, weights) = below.entry(tenant.parent).or_default();
            *guaranteed += u64::from(tenant.guaranteed);
            *weights += u64::from(tenant.weight);
        }
        let mut parts: BTreeMap<TenantId, f64> = BTreeMap::new();
        for id in self.tenants.keys() {
            let path: Vec<TenantId> = self.path(*id).collect();
            let mut of_parent = 1.0;
            for tenant in path.iter().rev().filter_map(|id| self.tenants.get(id)) {
                let (guaranteed, weights) = below[&tenant.parent];
                let whole = f64::from(WHOLE);
                let left = (of_parent - guaranteed as f64 / whole).max(0.0);
                let own = f64::from(tenant.guaranteed) / whole;
                of_parent = own + left * f64::from(tenant.weight) / weights.max(1) as f64;
            }
            parts.insert(*id, of_parent);
        }
        parts
    }

    fn check_parents(&self) -> Result<(), TreeError> {
        for tenant in self.tenants.values() {
            if let Some(parent) = tenant.parent.filter(|parent| !self.tenants.contains_key(parent))
            {
                return Err(TreeError::UnknownParent { tenant: tenant.id, parent });
            }
        }
        for tenant in self.tenants.keys() {
            if self.path(*tenant).nth(DEPTH_MAX).is_some() {
                let mut seen = BTreeSet::new();
                let again = self.path(*tenant).find(|ancestor| !seen.insert(*ancestor));
                return Err(again.map_or(TreeError::TooDeep(*tenant), TreeError::Cycle));
            }
        }
        Ok(())
    }

    fn check_sums(&self) -> Result<(), TreeError> {
        let mut sums: BTreeMap<Option<TenantId>, u64> = BTreeMap::new();
        for tenant in self.tenants.values() {
            *sums.entry(tenant.parent).or_default() += u64::from(tenant.guaranteed);
        }
        for (parent, sum) in sums {
            let most = parent.and_then(|id| self.get(id)).map_or(WHOLE, |tenant| tenant.guaranteed);
            if sum > u64::from(most) {
                return Err(TreeError::Overcommitted { parent, sum, most });
            }
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn share(id: u32, parent: Option<u32>, weight: u32, guaranteed: u32) -> TenantShare {
        let parent = parent.map(TenantId);
        TenantShare { parent, weight, guaranteed, ..TenantShare::top(TenantId(id)) }
    }

    #[test]
    fn what_is_guaranteed_comes_before_what_weights_share_out() {
        let tree = TenantTree::new([
            share(1, None, 1000, 400),
            share(2, None, 3000, 0),
            share(3, Some(1), 1000, 0),
            share(4, Some(1), 1000, 200),
        ]);
        let parts = tree.unwrap().entitled();
        // 0.6 are left at the top, a quarter of them for the first; below it 0.35 beside its child's 0.2.
        let expect = [(1, 0.55), (2, 0.45), (3, 0.175), (4, 0.375)];
        for (id, part) in expect {
            assert!((parts[&TenantId(id)] - part).abs() < 1e-9, "{id}: {parts:?}");
        }
    }

    #[test]
    fn bad_trees_are_refused() {
        let check = |tenants: &[TenantShare], error: TreeError| {
            assert_eq!(TenantTree::new(tenants.iter().copied()), Err(error), "{error}");
        };
        let id = TenantId;
        check(&[share(1, None, 0, 0)], TreeError::Weight(id(1)));
        check(&[share(1, None, WEIGHT_MAX + 1, 0)], TreeError::Weight(id(1)));
        check(&[share(1, None, 1, 0), share(1, None, 1, 0)], TreeError::Twice(id(1)));
        let nothing = TenantShare { borrowing_limit: Some(0), ..TenantShare::top(id(1)) };
        check(&[nothing], TreeError::Nothing(id(1)));
        let unknown = TreeError::UnknownParent { tenant: id(1), parent: id(9) };
        check(&[share(1, Some(9), 1, 0)], unknown);
        check(&[share(1, Some(1), 1, 0)], TreeError::Cycle(id(1)));
        check(&[share(1, Some(2), 1, 0), share(2, Some(1), 1, 0)], TreeError::Cycle(id(1)));
        let below = [share(0, Some(1), 1, 0), share(1, Some(2), 1, 0), share(2, Some(1), 1, 0)];
        check(&below, TreeError::Cycle(id(1)));
        let deep: Vec<_> =
            (0..=8).map(|at: u32| share(at, at.checked_sub(1), WEIGHT_ONE, 0)).collect();
        check(&deep, TreeError::TooDeep(id(8)));
        assert!(TenantTree::new(deep[..8].iter().copied()).is_ok());
        let over = TreeError::Overcommitted { parent: None, sum: 1001, most: 1000 };
        check(&[share(1, None, 1, 600), share(2, None, 1, 401)], over);
        let over = TreeError::Overcommitted { parent: Some(id(1)), sum: 301, most: 300 };
        check(&[share(1, None, 1, 300), share(2, Some(1), 1, 301)], over);
    }

    #[test]
    fn paths_lead_upwards() {
        let tenants = [share(1, None, 1, 0), share(2, Some(1), 1, 0), share(3, Some(2), 1, 0)];
        let tree = TenantTree::new(tenants).unwrap();
        assert_eq!(tree.path(TenantId(3)).collect::<Vec<_>>(), [3, 2, 1].map(TenantId));
        assert_eq!(tree.path(TenantId(7)).collect::<Vec<_>>(), [TenantId(7)]);
        assert!(tree.is_parent(TenantId(2)) && !tree.is_parent(TenantId(3)));
    }
}
