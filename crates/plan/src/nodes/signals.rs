//! Who says what of nodes: one row for each taint, condition or label that announces something, with what it
//! means, how much notice it gives, and where that is written.
//!
//! Names and numbers are those of the projects' own sources and documentation, named above each row. What is not
//! written down anywhere is not here.

/// How a node says something.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum Signal {
    /// It takes no more pods: `spec.unschedulable`.
    Unschedulable,
    /// Its object is being deleted.
    Deleted,
    /// A taint of that key.
    Taint(&'static str),
    /// A condition of that type and status, with that word in its reason or message where there is one.
    Condition(&'static str, &'static str, &'static str),
    /// A label with that value; with any where it is empty.
    Label(&'static str, &'static str),
}

/// What it means for pods.
#[derive(Clone, Copy, Debug, Eq, Ord, PartialEq, PartialOrd)]
pub enum Meaning {
    /// Its machine is off, as somebody vouches who knows.
    Off,
    /// Nobody hears of the node.
    Lost,
    /// The node goes.
    Leaving,
    /// It says itself that it is not ready.
    NotReady,
    /// It is to have no more pods, and whoever said so probably waits until it has none.
    Cordoned,
    /// Something of it does not work.
    Broken,
    /// It may go, some time; nothing follows.
    Hint,
}

/// From when a notice counts.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum Clock {
    /// From when the signal was given.
    Given,
    /// From the seconds since 1970 in the taint's value.
    Value,
    /// Until the date in the condition's message, as RFC 1123 writes it; else from when the signal was given.
    Message,
}

/// One signal.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub struct Row {
    /// Whose it is.
    pub whose: &'static str,
    /// What is seen.
    pub signal: Signal,
    /// The label that nodes have for which it counts: key and value.
    pub only: Option<(&'static str, &'static str)>,
    /// What it means.
    pub meaning: Meaning,
    /// Seconds that are left to pods at least; none where nobody says.
    pub notice_seconds: Option<u32>,
    /// From when they count.
    pub clock: Clock,
    /// It in words, after "its node".
    pub words: &'static str,
}

impl Row {
    /// What is seen, as the guide writes it.
    pub fn name(&self) -> &'static str {
        match self.signal {
            Signal::Unschedulable => "spec.unschedulable",
            Signal::Deleted => "metadata.deletionTimestamp",
            Signal::Taint(name) | Signal::Condition(name, ..) | Signal::Label(name, _) => name,
        }
    }
}

/// A row without notice.
const fn row(whose: &'static str, signal: Signal, meaning: Meaning, words: &'static str) -> Row {
    Row { whose, signal, only: None, meaning, notice_seconds: None, clock: Clock::Given, words }
}

/// A row with that many seconds.
const fn noticed(of: Row, seconds: u32) -> Row {
    Row { notice_seconds: Some(seconds), ..of }
}

/// A row for nodes with that label alone.
const fn only(of: Row, key: &'static str, value: &'static str) -> Row {
    Row { only: Some((key, value)), ..of }
}

const fn clocked(of: Row, clock: Clock) -> Row {
    Row { clock, ..of }
}

const fn taint(key: &'static str) -> Signal {
    Signal::Taint(key)
}

/// A condition that is bad when it is true.
const fn problem(kind: &'static str) -> Signal {
    Signal::Condition(kind, "True", "")
}

/// A condition that is bad when it is not.
const fn unready(kind: &'static str) -> Signal {
    Signal::Condition(kind, "False", "")
}

const KUBERNETES: &str = "Kubernetes";
const AWS_HANDLER: &str = "AWS Node Termination Handler";
const KARPENTER: &str = "Karpenter";
const EKS: &str = "EKS node monitoring agent";
const GKE: &str = "GKE";
const AKS: &str = "AKS";
const AUTOSCALER: &str = "Cluster Autoscaler";
const PROBLEM_DETECTOR: &str = "Node Problem Detector";
const NVSENTINEL: &str = "NVSentinel";

/// All of them.
pub const ROWS: &[Row] = &[
    // kubernetes.io/docs/reference/labels-annotations-taints: the node controller's taint where a node's state is
    // unknown, by which pods are evicted after what they tolerate.
    row(KUBERNETES, taint("node.kubernetes.io/unreachable"), Meaning::Lost, "is unreachable"),
    // The same, where the kubelet says so itself; also while it starts.
    row(KUBERNETES, taint("node.kubernetes.io/not-ready"), Meaning::NotReady, "is not ready"),
    // kubernetes.io/docs/concepts/architecture/nodes: `Ready` is Unknown when the node controller has heard nothing
    // for its grace period.
    row(KUBERNETES, Signal::Condition("Ready", "Unknown", ""), Meaning::Lost, "is not heard of"),
    // github.com/kubernetes/kubernetes/blob/master/pkg/kubelet/nodeshutdown: the error in `Ready` while the kubelet
    // stops pods before the machine stops. How long that takes is its `shutdownGracePeriod`, which no node tells;
    // GKE's is 30 s, half of it for pods that are not critical (see below).
    noticed(
        row(
            KUBERNETES,
            Signal::Condition("Ready", "False", "node is shutting down"),
            Meaning::Leaving,
            "shuts down",
        ),
        15,
    ),
    row(KUBERNETES, unready("Ready"), Meaning::NotReady, "says that it is not ready"),
    // kubernetes.io/docs/concepts/cluster-administration/node-shutdown, "Non-graceful node shutdown handling": who
    // sets it vouches that the machine is off, and pods are deleted by force and volumes detached.
    row(
        KUBERNETES,
        taint("node.kubernetes.io/out-of-service"),
        Meaning::Off,
        "is declared out of service",
    ),
    // kubernetes.io/docs/reference/labels-annotations-taints: a cloud's controller found the machine shut down.
    row(
        KUBERNETES,
        taint("node.cloudprovider.kubernetes.io/shutdown"),
        Meaning::Off,
        "is shut down",
    ),
    // kubernetes.io/docs/tasks/administer-cluster/safely-drain-node: `kubectl cordon` and the first step of `drain`.
    row(KUBERNETES, Signal::Unschedulable, Meaning::Cordoned, "is cordoned"),
    // kubernetes.io/docs/reference/labels-annotations-taints: the taint that follows from it.
    row(KUBERNETES, taint("node.kubernetes.io/unschedulable"), Meaning::Cordoned, "is cordoned"),
    // Any API object whose deletion waits for finalizers; Karpenter's nodes are drained so.
    row(KUBERNETES, Signal::Deleted, Meaning::Leaving, "is being deleted"),
    // github.com/aws/aws-node-termination-handler/blob/main/pkg/node/node.go has the keys. Two minutes:
    // docs.aws.amazon.com/AWSEC2/latest/UserGuide/spot-instance-termination-notices.html. The value is the id of
    // the event, so that the time counts from when the taint is seen.
    noticed(
        row(
            AWS_HANDLER,
            taint("aws-node-termination-handler/spot-itn"),
            Meaning::Leaving,
            "is a spot instance that is taken away",
        ),
        120,
    ),
    // The same file. A recommendation: the interruption may follow, with its own two minutes.
    row(
        AWS_HANDLER,
        taint("aws-node-termination-handler/rebalance-recommendation"),
        Meaning::Leaving,
        "is a spot instance that will probably be taken away",
    ),
    // The same file. When, is in EC2's event and not on the node.
    row(
        AWS_HANDLER,
        taint("aws-node-termination-handler/scheduled-maintenance"),
        Meaning::Leaving,
        "is stopped for maintenance",
    ),
    // The same file. The group's lifecycle hook waits as long as its owner says.
    row(
        AWS_HANDLER,
        taint("aws-node-termination-handler/asg-lifecycle-termination"),
        Meaning::Leaving,
        "is ended by its Auto Scaling group",
    ),
    // github.com/kubernetes-sigs/karpenter/blob/main/pkg/apis/v1/taints.go. It waits for pods as long as the
    // NodePool's `terminationGracePeriod` says, of which the node says nothing.
    row(KARPENTER, taint("karpenter.sh/disrupted"), Meaning::Leaving, "is replaced by Karpenter"),
    // Where our budget refuses evictions, Karpenter begins nothing by its own choice (karpenter.sh/docs/concepts/
    // disruption: nodes with pods that cannot be evicted are passed over), so that on spot instances it is
    // mostly an interruption, whose two minutes count.
    noticed(
        only(
            row(
                KARPENTER,
                taint("karpenter.sh/disrupted"),
                Meaning::Leaving,
                "is a spot instance that Karpenter replaces",
            ),
            "karpenter.sh/capacity-type",
            "spot",
        ),
        120,
    ),
    // pkg/apis/v1beta1/taints.go of releases before 1.0.
    row(KARPENTER, taint("karpenter.sh/disruption"), Meaning::Leaving, "is replaced by Karpenter"),
    // docs.aws.amazon.com/eks/latest/userguide/node-health-nma.html; false means that repair is wanted, which comes
    // 10 minutes later where automatic repair is on, and 30 for the others.
    row(EKS, unready("AcceleratedHardwareReady"), Meaning::Broken, "has accelerators that fail"),
    row(EKS, unready("StorageReady"), Meaning::Broken, "has storage that fails"),
    row(EKS, unready("NetworkingReady"), Meaning::Broken, "has a network that fails"),
    row(EKS, unready("KernelReady"), Meaning::Broken, "has a kernel that fails"),
    row(
        EKS,
        unready("ContainerRuntimeReady"),
        Meaning::Broken,
        "has a container runtime that fails",
    ),
    // cloud.google.com/kubernetes-engine/docs/concepts/handle-disruption-gpu-tpu: GKE stops its workloads. On nodes
    // that are not spot it waits for pods, up to an hour where that is configured.
    row(
        GKE,
        taint("cloud.google.com/impending-node-termination"),
        Meaning::Leaving,
        "is about to be ended",
    ),
    // cloud.google.com/kubernetes-engine/docs/concepts/spot-vms: of 30 seconds the first 15 are for pods that are
    // not critical, unless the pool is configured for more.
    noticed(
        only(
            row(
                GKE,
                taint("cloud.google.com/impending-node-termination"),
                Meaning::Leaving,
                "is a spot machine that is taken away",
            ),
            "cloud.google.com/gke-spot",
            "true",
        ),
        15,
    ),
    // handle-disruption-gpu-tpu: maintenance of the host has begun to stop workloads.
    row(
        GKE,
        Signal::Label("cloud.google.com/active-node-maintenance", "ONGOING"),
        Meaning::Leaving,
        "is stopped for maintenance of its host",
    ),
    // handle-disruption-gpu-tpu: it is planned, and the machine comes back.
    row(
        GKE,
        Signal::Label("cloud.google.com/scheduled-maintenance-time", ""),
        Meaning::Hint,
        "will be stopped for maintenance of its host",
    ),
    // github.com/Azure/karpenter-provider-azure, the parser of the message: "Preempt Scheduled: Sat, 01 Aug 2026
    // 05:41:02 GMT. …". Thirty seconds: learn.microsoft.com/azure/virtual-machines/linux/scheduled-events.
    noticed(
        clocked(
            row(
                AKS,
                problem("PreemptionScheduled"),
                Meaning::Leaving,
                "is a spot machine that is taken away",
            ),
            Clock::Message,
        ),
        30,
    ),
    // learn.microsoft.com/azure/aks/node-problem-detector has the condition and the five events that it tells;
    // their notices are those of scheduled-events.
    noticed(
        clocked(
            row(
                AKS,
                Signal::Condition("VMEventScheduled", "True", "Preempt"),
                Meaning::Leaving,
                "is a spot machine that is taken away",
            ),
            Clock::Message,
        ),
        30,
    ),
    noticed(
        clocked(
            row(
                AKS,
                Signal::Condition("VMEventScheduled", "True", "Terminate"),
                Meaning::Leaving,
                "is scheduled to be deleted",
            ),
            Clock::Message,
        ),
        300,
    ),
    noticed(
        clocked(
            row(
                AKS,
                Signal::Condition("VMEventScheduled", "True", "Redeploy"),
                Meaning::Leaving,
                "is scheduled to move to another host",
            ),
            Clock::Message,
        ),
        600,
    ),
    noticed(
        clocked(
            row(
                AKS,
                Signal::Condition("VMEventScheduled", "True", "Reboot"),
                Meaning::Leaving,
                "is scheduled to restart",
            ),
            Clock::Message,
        ),
        900,
    ),
    // A pause of a few seconds, which a copy outlives.
    row(
        AKS,
        Signal::Condition("VMEventScheduled", "True", "Freeze"),
        Meaning::Hint,
        "is scheduled to pause for seconds",
    ),
    // Releases whose detector has a condition for each of them, with the names of the events.
    noticed(
        clocked(
            row(
                AKS,
                problem("PreemptScheduled"),
                Meaning::Leaving,
                "is a spot machine that is taken away",
            ),
            Clock::Message,
        ),
        30,
    ),
    noticed(
        clocked(
            row(AKS, problem("TerminateScheduled"), Meaning::Leaving, "is scheduled to be deleted"),
            Clock::Message,
        ),
        300,
    ),
    noticed(
        clocked(
            row(
                AKS,
                problem("RedeployScheduled"),
                Meaning::Leaving,
                "is scheduled to move to another host",
            ),
            Clock::Message,
        ),
        600,
    ),
    noticed(
        clocked(
            row(AKS, problem("RebootScheduled"), Meaning::Leaving, "is scheduled to restart"),
            Clock::Message,
        ),
        900,
    ),
    row(AKS, problem("FreezeScheduled"), Meaning::Hint, "is scheduled to pause for seconds"),
    // learn.microsoft.com/azure/aks/node-auto-drain: what AKS sets when it drains by itself.
    row(
        AKS,
        taint("remediator.kubernetes.azure.com/unschedulable"),
        Meaning::Leaving,
        "is drained by AKS",
    ),
    // learn.microsoft.com/azure/aks/node-problem-detector, those for nodes with GPUs.
    row(AKS, problem("GPUMissing"), Meaning::Broken, "has fewer GPUs than it should"),
    row(AKS, problem("NVLinkStatusInactive"), Meaning::Broken, "has NVLinks that are down"),
    row(AKS, problem("XIDErrors"), Meaning::Broken, "has a GPU whose driver reports errors (XID)"),
    row(AKS, problem("IBLinkFlapping"), Meaning::Hint, "has InfiniBand links that come and go"),
    // github.com/kubernetes/autoscaler/blob/master/cluster-autoscaler/utils/taints/taints.go: the value is the
    // second at which it was set. There is no deadline in it: when evictions are refused for two minutes
    // (`--max-pod-eviction-time`), the autoscaler takes the taint back.
    clocked(
        row(
            AUTOSCALER,
            taint("ToBeDeletedByClusterAutoscaler"),
            Meaning::Leaving,
            "is deleted by the autoscaler",
        ),
        Clock::Value,
    ),
    // The same file: it is considered, and mostly nothing comes of it.
    row(
        AUTOSCALER,
        taint("DeletionCandidateOfClusterAutoscaler"),
        Meaning::Hint,
        "is one that the autoscaler would delete",
    ),
    // github.com/kubernetes/node-problem-detector/blob/master/config/kernel-monitor.json and readonly-monitor.json.
    row(PROBLEM_DETECTOR, problem("KernelDeadlock"), Meaning::Broken, "has a kernel that hangs"),
    row(
        PROBLEM_DETECTOR,
        problem("ReadonlyFilesystem"),
        Meaning::Broken,
        "has a file system that cannot be written",
    ),
    // github.com/NVIDIA/NVSentinel: the health monitor makes the names of DCGM's (`DCGM_HEALTH_WATCH_PCIE` is
    // `GpuPcieWatch`), and what is fatal becomes a condition. Temperature and power are left out: they pass.
    row(NVSENTINEL, problem("GpuMemWatch"), Meaning::Broken, "has a GPU with errors of memory"),
    row(NVSENTINEL, problem("GpuPcieWatch"), Meaning::Broken, "has a GPU with errors of PCIe"),
    row(NVSENTINEL, problem("GpuNvlinkWatch"), Meaning::Broken, "has a GPU with errors of NVLink"),
    row(
        NVSENTINEL,
        problem("GpuInforomWatch"),
        Meaning::Broken,
        "has a GPU whose configuration is corrupt",
    ),
    // docs.nvidia.com/nvsentinel/configuration/syslog-health-monitor: what it finds in the system's log.
    row(
        NVSENTINEL,
        problem("SysLogsXIDError"),
        Meaning::Broken,
        "has a GPU whose driver reports errors (XID)",
    ),
    row(
        NVSENTINEL,
        problem("SysLogsSXIDError"),
        Meaning::Broken,
        "has an NVSwitch whose driver reports errors (SXID)",
    ),
    row(
        NVSENTINEL,
        problem("SysLogsGPUFallenOff"),
        Meaning::Broken,
        "has a GPU that fell off its bus",
    ),
];
