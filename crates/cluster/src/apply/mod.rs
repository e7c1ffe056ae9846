//! Server-side apply: who manages which field of an object, what an applied configuration makes of
//! it, and who is in the way.

mod managers;
mod set;
mod walk;

#[cfg(test)]
mod tests;

use serde_json::Value;

pub(crate) use managers::{Conflict, Managers, Who};
pub(crate) use set::Set;
pub(crate) use walk::{compare, entry, merge};

use crate::shape::{NodeId, Types};
use walk::{Difference, fields, without};

/// What a manager has at hand: the types, and the fields that the endpoint it writes to ignores.
pub(crate) struct Scope<'a> {
    pub(crate) types: &'a Types,
    pub(crate) root: NodeId,
    /// `status` at the object itself, all but `status` at its status.
    pub(crate) ignored: &'a Set,
    pub(crate) api_version: &'a str,
}

/// Why a configuration was not applied.
#[derive(Debug)]
pub(crate) enum ApplyError {
    /// Others manage fields with other values.
    Conflicts(Vec<Conflict>),
    /// The configuration does not fit the types.
    Invalid(String),
}

impl Scope<'_> {
    fn compare(&self, old: &Value, new: &Value) -> Difference {
        let mut found = compare(self.types, self.root, old, new);
        found.removed.exclude(self.ignored);
        found.modified.exclude(self.ignored);
        found.added.exclude(self.ignored);
        found
    }

    /// Notes that `who` made `new` of `live` by other means than applying.
    pub(crate) fn updated(&self, live: &Value, new: &Value, managers: &mut Managers, who: &Who) {
        let found = self.compare(live, new);
        let mut changed = found.modified;
        changed.union(&found.added);
        managers.lose(&changed, &found.removed, None);
        changed.difference(&Set::of(&META));
        managers.gain(who, &changed, self.api_version);
    }

    /// Applies `config` to `live`: the object that comes of it. `managers` are those of `live`, and
    /// of the result afterwards.
    pub(crate) fn apply(
        &self,
        (live, config): (&Value, &Value),
        managers: &mut Managers,
        who: &Who,
        force: bool,
    ) -> Result<Value, ApplyError> {
        let merged = merge(self.types, self.root, live, config)
            .map_err(|what| ApplyError::Invalid(format!("failed to merge config: {what}")))?;
        let mut set = fields(self.types, self.root, config);
        set.exclude(self.ignored);
        let last = managers.set(who).cloned();
        managers.put(who, set, self.api_version);
        let new = match last.filter(|last| !last.is_empty()) {
            Some(last) => self.prune(&merged, managers, &last),
            None => merged,
        };
        let found = self.compare(live, &new);
        let mut changed = found.modified;
        changed.union(&found.added);
        if !force {
            let conflicts = managers.conflicts(&changed, who);
            if !conflicts.is_empty() {
                return Err(ApplyError::Conflicts(conflicts));
            }
        }
        managers.lose(&changed, &found.removed, Some(who));
        managers.strip(who, &Set::of(&META));
        if *live != new {
            managers.touch(who);
        }
        Ok(new)
    }

    /// `merged` without what its applier applied last time and not now, unless somebody else has it.
    fn prune(&self, merged: &Value, managers: &Managers, last: &Set) -> Value {
        let (types, root) = (self.types, self.root);
        let whole = |set: &Set| set.with_parents(types, root);
        let left = |gone: &Set| {
            without(types, root, merged, gone).unwrap_or_else(|| Value::Object(Default::default()))
        };
        let last = whole(last);
        let pruned = left(&last);
        let all = whole(&fields(types, root, merged));
        let mut kept = whole(&fields(types, root, &pruned));
        kept.union(&whole(&managers.all()));
        let mut gone = all.clone();
        gone.difference(&kept);
        let pruned = left(&gone);
        let mut gone = all;
        gone.difference(&whole(&fields(types, root, &pruned)));
        left(&gone.intersection(&last))
    }
}

/// Fields that nobody manages.
const META: [&str; 12] = [
    "apiVersion",
    "kind",
    "metadata",
    "metadata.name",
    "metadata.namespace",
    "metadata.creationTimestamp",
    "metadata.selfLink",
    "metadata.uid",
    "metadata.clusterName",
    "metadata.generation",
    "metadata.managedFields",
    "metadata.resourceVersion",
];
