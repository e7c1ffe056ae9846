//! The kinds of objects that Models become, with what a client has to know of each.

use crate::render::kubernetes::Installed;

/// A kind of object that the operator makes.
#[derive(Clone, Copy, Debug, Eq, Ord, PartialEq, PartialOrd)]
pub enum Sort {
    /// Files that a program wants.
    ConfigMap,
    /// Room for weights.
    Claim,
    /// What fetches weights.
    Job,
    /// Where engines are found.
    Service,
    /// Who reaches them.
    NetworkPolicy,
    /// Copies of one node.
    Deployment,
    /// Copies of several nodes.
    LeaderWorkerSet,
    /// Copies of several nodes, where groups are not installed.
    StatefulSet,
    /// How many copies may be away.
    Budget,
    /// What scales copies.
    Autoscaler,
    /// What has KEDA scale them.
    ScaledObject,
    /// What Prometheus reads.
    PodMonitor,
    /// What Istio must not do.
    VirtualService,
}

/// What a client has to know of a kind.
#[derive(Clone, Copy, Debug)]
pub struct Row {
    /// Group and version: `apps/v1`.
    pub api_version: &'static str,
    /// The kind: `Deployment`.
    pub kind: &'static str,
    /// In paths: `deployments`.
    pub plural: &'static str,
}

const fn row(api_version: &'static str, kind: &'static str, plural: &'static str) -> Row {
    Row { api_version, kind, plural }
}

impl Sort {
    /// All of them, in the order in which objects are made.
    pub const ALL: [Self; 13] = [
        Self::ConfigMap,
        Self::Claim,
        Self::Job,
        Self::Service,
        Self::NetworkPolicy,
        Self::Deployment,
        Self::LeaderWorkerSet,
        Self::StatefulSet,
        Self::Budget,
        Self::Autoscaler,
        Self::ScaledObject,
        Self::PodMonitor,
        Self::VirtualService,
    ];

    /// What a client has to know of it.
    pub const fn row(self) -> Row {
        match self {
            Self::ConfigMap => row("v1", "ConfigMap", "configmaps"),
            Self::Claim => row("v1", "PersistentVolumeClaim", "persistentvolumeclaims"),
            Self::Job => row("batch/v1", "Job", "jobs"),
            Self::Service => row("v1", "Service", "services"),
            Self::NetworkPolicy => row("networking.k8s.io/v1", "NetworkPolicy", "networkpolicies"),
            Self::Deployment => row("apps/v1", "Deployment", "deployments"),
            Self::LeaderWorkerSet => {
                row("leaderworkerset.x-k8s.io/v1", "LeaderWorkerSet", "leaderworkersets")
            }
            Self::StatefulSet => row("apps/v1", "StatefulSet", "statefulsets"),
            Self::Budget => row("policy/v1", "PodDisruptionBudget", "poddisruptionbudgets"),
            Self::Autoscaler => {
                row("autoscaling/v2", "HorizontalPodAutoscaler", "horizontalpodautoscalers")
            }
            Self::ScaledObject => row("keda.sh/v1alpha1", "ScaledObject", "scaledobjects"),
            Self::PodMonitor => row("monitoring.coreos.com/v1", "PodMonitor", "podmonitors"),
            Self::VirtualService => {
                row("networking.istio.io/v1", "VirtualService", "virtualservices")
            }
        }
    }

    /// The one of that kind of object.
    pub fn of(kind: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|sort| sort.row().kind == kind)
    }

    /// Whether clusters that have those kinds have this one.
    pub const fn is_there(self, has: Installed, istio: bool) -> bool {
        match self {
            Self::LeaderWorkerSet => has.leader_worker_set,
            Self::ScaledObject => has.keda,
            Self::PodMonitor => has.monitors,
            Self::VirtualService => istio,
            _ => true,
        }
    }

    /// Whether it is a kind that others bring into a cluster.
    pub const fn is_of_others(self) -> bool {
        matches!(
            self,
            Self::LeaderWorkerSet | Self::ScaledObject | Self::PodMonitor | Self::VirtualService
        )
    }

    /// Whether others can change its number of copies by its scale.
    pub const fn has_scale(self) -> bool {
        matches!(self, Self::Deployment | Self::LeaderWorkerSet)
    }

    /// Whether it changes the number of copies of others.
    pub const fn scales(self) -> bool {
        matches!(self, Self::Autoscaler | Self::ScaledObject)
    }

    /// Whether pods come of it that serve.
    pub const fn is_workload(self) -> bool {
        matches!(self, Self::Deployment | Self::LeaderWorkerSet | Self::StatefulSet)
    }
}
