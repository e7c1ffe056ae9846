//! The table of resources: those that every cluster has, and those that definitions bring.

use std::collections::BTreeMap;
use std::sync::Arc;

use crate::shape::{NodeId, Types, shared};

/// A resource's place in the table. Never used again once its definition is gone.
pub(crate) type ResourceId = usize;

/// A resource: a kind of objects at a path.
#[derive(Debug)]
pub(crate) struct Resource {
    pub(crate) group: Box<str>,
    pub(crate) plural: Box<str>,
    pub(crate) singular: Box<str>,
    pub(crate) kind: Box<str>,
    pub(crate) list_kind: Box<str>,
    pub(crate) short: Vec<Box<str>>,
    pub(crate) categories: Vec<Box<str>>,
    pub(crate) namespaced: bool,
    /// Brought by a definition.
    pub(crate) custom: bool,
    /// Its objects are those of the core group, told in other words.
    pub(crate) twin: bool,
    pub(crate) versions: Vec<Version>,
    pub(crate) habits: Habits,
    /// Fields that selectors may name besides name and namespace, and where they are.
    pub(crate) selectable: Vec<(Box<str>, Box<str>)>,
}

/// What kinds do differently from each other.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct Habits {
    /// Counts changes of what is wished for.
    pub(crate) generation: bool,
    /// An update must say which version of the object it is of.
    pub(crate) versioned_updates: bool,
    /// Deletion waits for a node.
    pub(crate) graceful: bool,
    /// Deletion answers with the object.
    pub(crate) returns_deleted: bool,
    /// Deletion leaves dependents alone unless told otherwise.
    pub(crate) orphans: bool,
}

/// A version that a resource is served in.
#[derive(Debug)]
pub(crate) struct Version {
    pub(crate) name: Box<str>,
    pub(crate) served: bool,
    pub(crate) types: Arc<Types>,
    pub(crate) root: NodeId,
    pub(crate) status: bool,
    pub(crate) scale: Option<Scale>,
}

/// Where a kind's scale is, as JSON pointers.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Scale {
    pub(crate) spec: String,
    pub(crate) status: String,
    pub(crate) selector: Option<String>,
}

impl Resource {
    /// `apps/v1`.
    pub(crate) fn api_version(&self, version: &Version) -> String {
        if self.group.is_empty() {
            version.name.to_string()
        } else {
            format!("{}/{}", self.group, version.name)
        }
    }
}

/// All resources.
#[derive(Debug)]
pub(crate) struct Kinds {
    all: Vec<Option<Arc<Resource>>>,
    by_path: BTreeMap<(Box<str>, Box<str>), ResourceId>,
}

impl Kinds {
    pub(crate) fn builtin() -> Self {
        let mut kinds = Self { all: Vec::new(), by_path: BTreeMap::new() };
        for resource in TABLE.lines().filter_map(row) {
            kinds.add(resource);
        }
        kinds
    }

    pub(crate) fn add(&mut self, resource: Resource) -> ResourceId {
        let id = self.all.len();
        let path = (resource.group.clone(), resource.plural.clone());
        self.by_path.insert(path, id);
        self.all.push(Some(Arc::new(resource)));
        id
    }

    pub(crate) fn replace(&mut self, id: ResourceId, resource: Resource) {
        if let Some(place) = self.all.get_mut(id) {
            *place = Some(Arc::new(resource));
        }
    }

    pub(crate) fn remove(&mut self, id: ResourceId) {
        if let Some(gone) = self.all.get_mut(id).and_then(Option::take) {
            self.by_path.remove(&(gone.group.clone(), gone.plural.clone()));
        }
    }

    pub(crate) fn get(&self, id: ResourceId) -> Option<&Arc<Resource>> {
        self.all.get(id).and_then(Option::as_ref)
    }

    pub(crate) fn find(&self, group: &str, plural: &str) -> Option<(ResourceId, &Arc<Resource>)> {
        let id = *self.by_path.get(&(Box::from(group), Box::from(plural)))?;
        Some((id, self.get(id)?))
    }

    /// The resource whose objects these are.
    pub(crate) fn stored(&self, id: ResourceId, resource: &Resource) -> ResourceId {
        let core = if resource.twin { self.find("", &resource.plural) } else { None };
        core.map_or(id, |(core, _)| core)
    }

    pub(crate) fn iter(&self) -> impl Iterator<Item = (ResourceId, &Arc<Resource>)> {
        self.all.iter().enumerate().filter_map(|(id, resource)| Some((id, resource.as_ref()?)))
    }
}

/// Version, plural, kind, short names, habits: `c` lives in no namespace, `s` has a status, `g`
/// counts generations, `r` scales, `v` wants versions, `p` goes gracefully, `d` returns what was
/// deleted, `o` orphans dependents.
const TABLE: &str = "\
v1 namespaces Namespace ns csd
v1 pods Pod po sgpd
v1 services Service svc sd
v1 configmaps ConfigMap cm -
v1 secrets Secret - -
v1 nodes Node no cs
v1 events Event ev -
v1 persistentvolumeclaims PersistentVolumeClaim pvc sd
v1 persistentvolumes PersistentVolume pv csd
v1 serviceaccounts ServiceAccount sa d
v1 endpoints Endpoints ep -
v1 resourcequotas ResourceQuota quota sd
v1 limitranges LimitRange limits -
apps/v1 deployments Deployment deploy sgr
apps/v1 statefulsets StatefulSet sts sgr
apps/v1 replicasets ReplicaSet rs sgr
apps/v1 daemonsets DaemonSet ds sg
apps/v1 controllerrevisions ControllerRevision - -
batch/v1 jobs Job - sgo
policy/v1 poddisruptionbudgets PodDisruptionBudget pdb sgv
autoscaling/v2 horizontalpodautoscalers HorizontalPodAutoscaler hpa s
networking.k8s.io/v1 networkpolicies NetworkPolicy netpol g
networking.k8s.io/v1 ingresses Ingress ing sg
discovery.k8s.io/v1 endpointslices EndpointSlice - g
events.k8s.io/v1 events Event ev -
storage.k8s.io/v1 storageclasses StorageClass sc cd
scheduling.k8s.io/v1 priorityclasses PriorityClass pc c
rbac.authorization.k8s.io/v1 roles Role - -
rbac.authorization.k8s.io/v1 rolebindings RoleBinding - -
rbac.authorization.k8s.io/v1 clusterroles ClusterRole - c
rbac.authorization.k8s.io/v1 clusterrolebindings ClusterRoleBinding - c
coordination.k8s.io/v1 leases Lease - v
apiextensions.k8s.io/v1 customresourcedefinitions CustomResourceDefinition crd,crds csgv
apiregistration.k8s.io/v1 apiservices APIService - csv
admissionregistration.k8s.io/v1 validatingadmissionpolicies ValidatingAdmissionPolicy - csg
admissionregistration.k8s.io/v1 validatingadmissionpolicybindings ValidatingAdmissionPolicyBinding - cg
";

/// Fields that selectors may name, by plural.
const SELECTABLE: [(&str, &[&str]); 9] = [
    (
        "pods",
        &[
            "spec.nodeName",
            "spec.restartPolicy",
            "spec.schedulerName",
            "spec.serviceAccountName",
            "spec.hostNetwork",
            "status.phase",
            "status.podIP",
            "status.nominatedNodeName",
        ],
    ),
    (
        "events",
        &[
            "involvedObject.kind",
            "involvedObject.namespace",
            "involvedObject.name",
            "involvedObject.uid",
            "involvedObject.apiVersion",
            "involvedObject.resourceVersion",
            "involvedObject.fieldPath",
            "reason",
            "reportingComponent",
            "source",
            "type",
        ],
    ),
    ("secrets", &["type"]),
    ("namespaces", &["status.phase"]),
    ("nodes", &["spec.unschedulable"]),
    ("replicasets", &["status.replicas"]),
    ("jobs", &["status.successful"]),
    ("services", &["spec.clusterIP", "spec.type"]),
    ("persistentvolumes", &["spec.claimRef"]),
];

fn row(text: &'static str) -> Option<Resource> {
    let mut words = text.split(' ');
    let (path, plural, kind) = (words.next()?, words.next()?, words.next()?);
    let (short, flags) = (words.next()?, words.next()?);
    let (group, version) = path.split_once('/').unwrap_or(("", path));
    let has = |flag: char| flags.contains(flag);
    // Events are the one kind that is told in two groups.
    let (types, root) = shared(if group == "events.k8s.io" { "EventsEvent" } else { kind });
    let scale = Scale {
        spec: "/spec/replicas".into(),
        status: "/status/replicas".into(),
        selector: Some("/spec/selector".into()),
    };
    let fields = SELECTABLE.iter().find(|(name, _)| *name == plural);
    let fields = fields.map_or(&[][..], |(_, fields)| fields);
    let pointer = |field: &str| format!("/{}", field.replace('.', "/")).into_boxed_str();
    Some(Resource {
        group: group.into(),
        plural: plural.into(),
        singular: kind.to_lowercase().into(),
        kind: kind.into(),
        list_kind: format!("{kind}List").into(),
        short: short.split(',').filter(|name| *name != "-").map(Into::into).collect(),
        categories: Vec::new(),
        namespaced: !has('c'),
        custom: false,
        twin: group == "events.k8s.io",
        versions: vec![Version {
            name: version.into(),
            served: true,
            types,
            root,
            status: has('s'),
            scale: has('r').then_some(scale),
        }],
        habits: Habits {
            generation: has('g'),
            versioned_updates: has('v'),
            graceful: has('p'),
            returns_deleted: has('d'),
            orphans: has('o'),
        },
        selectable: fields.iter().map(|field| ((*field).into(), pointer(field))).collect(),
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::shape::DEDUCED;

    #[test]
    fn every_kind_has_its_types() {
        let kinds = Kinds::builtin();
        assert_eq!(kinds.iter().count(), TABLE.lines().count());
        for (_, resource) in kinds.iter() {
            assert_ne!(resource.versions[0].root, DEDUCED, "{}", resource.kind);
        }
        let (_, leases) = kinds.find("coordination.k8s.io", "leases").unwrap();
        assert!(leases.habits.versioned_updates && leases.namespaced);
    }
}
