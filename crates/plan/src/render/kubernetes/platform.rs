//! What platforms call the same things: nodes with accelerators, nodes that can be taken away, classes
//! of storage, load balancers. One row a platform.

use serde_json::{Value, json};

use crate::api::{Effect, Toleration};
use crate::hardware::{Accelerator, Vendor};

/// Whose cluster it is.
#[derive(Clone, Copy, Debug, Default, Eq, PartialEq)]
pub enum Platform {
    /// Any.
    #[default]
    Plain,
    /// Red Hat OpenShift.
    OpenShift,
    /// Amazon EKS, with nodes made by Karpenter or EKS Auto Mode; those of node groups have no such labels.
    Eks,
    /// Google GKE.
    Gke,
    /// Microsoft AKS.
    Aks,
}

/// A label: its key and value.
pub(super) type Label = (&'static str, &'static str);

/// What differs.
#[derive(Clone, Copy, Debug)]
pub(super) struct Row {
    /// The name on the command line.
    pub(super) name: &'static str,
    /// Whether pods name the users that they run as; OpenShift gives each namespace a range of its own.
    pub(super) fixed_users: bool,
    /// The label of nodes that can be taken away, and whether they have a taint of that name.
    pub(super) spot: Option<(Label, bool)>,
    /// The taint of nodes with accelerators, beside the device plugin's own.
    pub(super) taint: Option<Label>,
    /// The class for files that pods of all nodes read.
    pub(super) shared_class: Option<&'static str>,
    /// The class for files of one node.
    pub(super) single_class: Option<&'static str>,
    /// Where names are looked up, beside port 53: policies see ports of pods, and not those of Services.
    pub(super) dns: Option<u16>,
    /// Annotations of a Service that is reached from the platform's own network.
    pub(super) balancer: &'static [Label],
}

impl Platform {
    /// All of them.
    pub const ALL: [Self; 5] = [Self::Plain, Self::OpenShift, Self::Eks, Self::Gke, Self::Aks];

    /// The name on the command line.
    pub const fn name(self) -> &'static str {
        self.row().name
    }

    /// The one of that name.
    pub fn parse(name: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|platform| platform.name() == name)
    }

    pub(super) const fn row(self) -> Row {
        match self {
            Self::Plain => PLAIN,
            Self::OpenShift => Row {
                name: "openshift",
                fixed_users: false,
                dns: Some(5353),
                shared_class: Some("ocs-storagecluster-cephfs"),
                ..PLAIN
            },
            Self::Eks => Row {
                name: "eks",
                spot: Some((("karpenter.sh/capacity-type", "spot"), false)),
                shared_class: Some("efs-sc"),
                single_class: Some("gp3"),
                balancer: &[
                    ("service.beta.kubernetes.io/aws-load-balancer-type", "external"),
                    ("service.beta.kubernetes.io/aws-load-balancer-nlb-target-type", "ip"),
                    ("service.beta.kubernetes.io/aws-load-balancer-scheme", "internal"),
                ],
                ..PLAIN
            },
            Self::Gke => Row {
                name: "gke",
                spot: Some((("cloud.google.com/gke-spot", "true"), true)),
                shared_class: Some("standard-rwx"),
                single_class: Some("premium-rwo"),
                balancer: &[("networking.gke.io/load-balancer-type", "Internal")],
                ..PLAIN
            },
            Self::Aks => Row {
                name: "aks",
                spot: Some((("kubernetes.azure.com/scalesetpriority", "spot"), true)),
                taint: Some(("sku", "gpu")),
                shared_class: Some("azurefile-csi-premium"),
                single_class: Some("managed-csi-premium"),
                balancer: &[("service.beta.kubernetes.io/azure-load-balancer-internal", "true")],
                ..PLAIN
            },
        }
    }

    /// What nodes with such accelerators are known by; none where the platform has nothing for them.
    pub(super) fn hardware(self, class: &Accelerator) -> Option<Known> {
        if class.vendor != Vendor::Nvidia {
            return None;
        }
        let labelled = |key: &'static str, value: &str, who: &'static str| Known {
            label: Some((key, value.to_owned())),
            terms: Vec::new(),
            who,
        };
        match self {
            Self::Plain | Self::OpenShift => Some(Known {
                label: Some(("nvidia.com/gpu.family", family(class.generation).to_owned())),
                // A generation has small ones, too.
                terms: vec![json!({ "matchExpressions": sized("nvidia.com/gpu.memory", class) })],
                who: "NVIDIA's GPU feature discovery",
            }),
            Self::Eks => amazon(class.id).map(|name| Known {
                label: None,
                terms: ["karpenter.k8s.aws", "eks.amazonaws.com"]
                    .map(|whose| {
                        let is = json!({ "key": format!("{whose}/instance-gpu-name"), "operator": "In", "values": [name] });
                        let sized = sized(&format!("{whose}/instance-gpu-memory"), class);
                        let all: Vec<Value> = std::iter::once(is).chain(sized).collect();
                        json!({ "matchExpressions": all })
                    })
                    .to_vec(),
                who: "Karpenter or EKS Auto Mode, and no node group",
            }),
            Self::Gke => {
                google(class.id).map(|name| labelled("cloud.google.com/gke-accelerator", name, "GKE"))
            }
            Self::Aks => Some(labelled("kubernetes.azure.com/accelerator", "nvidia", "AKS")),
        }
    }

    /// Whether the platform makes that class of storage by itself.
    pub(crate) fn makes_class(self, name: &str) -> bool {
        let made: &[&str] = match self {
            Self::Gke => &["premium-rwo"],
            Self::Aks => &["azurefile-csi-premium", "managed-csi-premium"],
            Self::Plain | Self::OpenShift | Self::Eks => &[],
        };
        made.contains(&name)
    }
}

/// What nodes with some accelerators are known by.
#[derive(Clone, Debug)]
pub(crate) struct Known {
    /// A label that they all have.
    pub(crate) label: Option<(&'static str, String)>,
    /// What else holds for them: one of these terms of a node affinity.
    pub(crate) terms: Vec<Value>,
    /// Who sets these labels.
    pub(crate) who: &'static str,
}

/// Expressions by which memory in MiB is that of a class, give or take a tenth: every program counts it another way.
fn sized(key: &str, class: &Accelerator) -> [Value; 2] {
    let mib = class.memory_bytes >> 20;
    let (less, more) = (mib - mib / 10, mib + mib / 10);
    [("Gt", less), ("Lt", more)].map(
        |(operator, mib)| json!({ "key": key, "operator": operator, "values": [mib.to_string()] }),
    )
}

/// What Amazon calls a class.
fn amazon(id: &str) -> Option<&'static str> {
    Some(match id {
        "t4" => "t4",
        "a10g" => "a10g",
        "a100-40" | "a100-80" => "a100",
        "v100-32" => "v100",
        "l4" => "l4",
        "l40s" => "l40s",
        "h100-sxm" => "h100",
        "h200" => "h200",
        "b200" => "b200",
        _ => return None,
    })
}

const PLAIN: Row = Row {
    name: "plain",
    fixed_users: true,
    spot: None,
    taint: None,
    shared_class: None,
    single_class: None,
    dns: None,
    balancer: &[],
};

/// What feature discovery calls a generation.
fn family(generation: &str) -> &str {
    match generation {
        "ada" => "ada-lovelace",
        other => other,
    }
}

/// What Google calls a class.
fn google(id: &str) -> Option<&'static str> {
    Some(match id {
        "t4" => "nvidia-tesla-t4",
        "l4" => "nvidia-l4",
        "a100-40" => "nvidia-tesla-a100",
        "a100-80" => "nvidia-a100-80gb",
        "h100-sxm" => "nvidia-h100-80gb",
        "h200" => "nvidia-h200-141gb",
        "b200" => "nvidia-b200",
        _ => return None,
    })
}

/// A toleration as Kubernetes has it.
pub(super) fn toleration(one: &Toleration) -> Value {
    let operator = if one.value.is_some() { "Equal" } else { "Exists" };
    let mut all = json!({ "operator": operator });
    if let Some(key) = &one.key {
        all["key"] = key.as_str().into();
    }
    if let Some(value) = &one.value {
        all["value"] = value.as_str().into();
    }
    if let Some(effect) = one.effect {
        all["effect"] = effect.name().into();
    }
    all
}

/// A toleration of a taint with a key, and perhaps a value.
pub(super) fn bears(key: &str, value: Option<&str>) -> Toleration {
    Toleration {
        key: Some(key.to_owned()),
        value: value.map(str::to_owned),
        effect: Some(Effect::NoSchedule),
    }
}
