//! What Pilotage is on Kubernetes: resources in, objects out, by pure functions.
//!
//! ```text
//! Model + Fleet + Cluster ──settle──▶ LaunchSpec and words ──workload, network, scale, …──▶ Object…
//! ```
//!
//! The objects leave no choice to who applies them: the same input gives the same bytes, in the
//! order in which they are to be applied. Nothing here is random: secrets are made of material that
//! the caller hands in, or are left out and listed as [`Wanted`].

mod adapters;
mod container;
pub mod helm;
pub mod install;
mod labels;
mod mesh;
mod monitor;
pub mod name;
mod network;
mod object;
mod platform;
mod pod;
mod scale;
pub(crate) mod settle;
mod storage;
pub mod unified;
mod workload;
pub mod yaml;

use std::collections::BTreeMap;

use thiserror::Error;

use crate::api::{Fleet, FleetKind, Model, Resource};
use crate::launch::LaunchError;
use crate::manifest::Problem;
use crate::size::ModelFacts;
use crate::update::{self, RevisionError};
use crate::{ManifestError, manifest};

pub(crate) use adapters::list_name as adapters_name;

pub use adapters::PORT_NAME as ADAPTERS_PORT_NAME;
pub(crate) use container::stopping;
pub use labels::{HELD, HELD_HERE, HELD_MOVING, SURGED};
pub use mesh::Mesh;
pub use object::Object;
pub use platform::Platform;
pub(crate) use settle::accelerator_of;

/// The oldest Kubernetes that objects are rendered for: 1.29, whose pods sleep before they stop only
/// with a command of their own.
pub const MINOR_MIN: u32 = 29;

/// The Kubernetes that objects are rendered for when nothing is said.
pub const MINOR_DEFAULT: u32 = 32;

/// A cluster as far as it decides what is rendered.
#[derive(Clone, Debug, PartialEq)]
pub struct Cluster {
    /// Where objects of Models go.
    pub namespace: String,
    /// Where Pilotage itself is.
    pub system: String,
    /// Its Kubernetes: 1.`minor`.
    pub minor: u32,
    /// Whose it is.
    pub platform: Platform,
    /// The mesh that its pods are in.
    pub mesh: Option<Mesh>,
    /// Which kinds beyond Kubernetes' own it has.
    pub has: Installed,
    /// Pilotage's own image.
    pub image: String,
    /// Labels of monitors, by which Prometheus' operator chooses among them.
    pub monitor_labels: BTreeMap<String, String>,
    /// The UIDs of Models, so that what is made of them goes with them.
    pub owners: BTreeMap<String, String>,
    /// Material of secrets, by their names.
    pub material: BTreeMap<String, String>,
    /// What was read of weights, by their sources as manifests have them.
    pub facts: BTreeMap<String, ModelFacts>,
    /// The versions that there are to be of Models with `updates.canary`, by their names, the one that is wanted
    /// last; those without have one, and all copies are of it.
    pub versions: BTreeMap<String, Vec<Version>>,
    /// Groups of several nodes beyond those that a Model wants, while others move away from their nodes: by its
    /// name and the version they are of, where it has several.
    pub surged: BTreeMap<(String, Option<String>), u32>,
}

/// A version of a Model, as [`update`] names them.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct Version {
    /// Its name.
    pub revision: String,
    /// What runs, as it was kept; that of the Model itself where there is none.
    pub kept: Option<String>,
    /// Copies of it; as the Model says where there is none.
    pub replicas: Option<u32>,
}

/// Kinds that others bring into a cluster.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub struct Installed {
    /// LeaderWorkerSet: groups of pods.
    pub leader_worker_set: bool,
    /// ScaledObject of KEDA.
    pub keda: bool,
    /// PodMonitor and ServiceMonitor of Prometheus' operator.
    pub monitors: bool,
    /// VerticalPodAutoscaler.
    pub vertical: bool,
}

/// What was rendered.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Rendered {
    /// Objects in the order in which they are to be applied.
    pub objects: Vec<Object>,
    /// Secrets that there was no material for.
    pub secrets: Vec<Wanted>,
    /// What a reader had better know.
    pub notes: Vec<String>,
    /// Seconds that a start takes at most, where it is one Model's.
    pub start_seconds: u32,
}

/// A secret that has to be made where there is chance.
#[derive(Clone, Debug, Eq, Ord, PartialEq, PartialOrd)]
pub struct Wanted {
    /// Its name.
    pub name: String,
    /// The entry that holds it.
    pub entry: &'static str,
    /// How it is made.
    pub how: &'static str,
}

/// How keys between gateway and engines are made.
pub const KEY_HOW: &str = "32 random bytes in hexadecimal digits; made once and kept";

/// Why a Model has no objects.
#[derive(Clone, Debug, Eq, Error, PartialEq)]
pub enum RenderError {
    /// Its program is not started so.
    #[error(transparent)]
    Launch(#[from] LaunchError),
    /// There is no image.
    #[error("no image of {0} for this hardware is known; name one in `spec.image`")]
    Image(&'static str),
    /// Its weights cannot be had there.
    #[error("{0}")]
    Weights(&'static str),
    /// What was kept of the version that serves.
    #[error(transparent)]
    Kept(#[from] RevisionError),
    /// Kubernetes is too old.
    #[error("{what} wants Kubernetes 1.{minor} or later; {instead}")]
    Version {
        /// What does.
        what: &'static str,
        /// Which release has it.
        minor: u32,
        /// What to do else.
        instead: &'static str,
    },
    /// Something has to be installed first.
    #[error("{what} is not installed in this cluster; {instead}")]
    Absent {
        /// What is missing.
        what: &'static str,
        /// What to do.
        instead: &'static str,
    },
    /// Its program wants rights that restricted pods do not have.
    #[error(
        "{0} over several nodes is started by SSH as root, which restricted pods cannot do; choose vLLM or SGLang, or a shape of one node"
    )]
    Rights(&'static str),
    /// Its Fleet has fewer nodes.
    #[error(
        "one copy takes {wanted} nodes and the Fleet has {there}; take a smaller shape or more nodes"
    )]
    Nodes {
        /// Nodes that one copy takes.
        wanted: u32,
        /// Nodes there are.
        there: u32,
    },
}

impl RenderError {
    /// The field of the Model that can put it right.
    pub const fn field(&self) -> &'static str {
        match self {
            Self::Launch(_) | Self::Rights(_) => "spec.runtime",
            Self::Image(_) => "spec.image",
            Self::Weights(_) => "spec.source",
            Self::Kept(_) => "status.update",
            Self::Version { .. } => "spec.storage.kind",
            Self::Absent { .. } => "spec.scaling.by",
            Self::Nodes { .. } => "spec.parallelism",
        }
    }
}

impl Default for Cluster {
    fn default() -> Self {
        Self {
            namespace: "default".to_owned(),
            system: install::NAMESPACE.to_owned(),
            minor: MINOR_DEFAULT,
            platform: Platform::Plain,
            mesh: None,
            has: Installed {
                leader_worker_set: true,
                keda: true,
                monitors: false,
                vertical: false,
            },
            image: IMAGE.to_owned(),
            monitor_labels: BTreeMap::new(),
            owners: BTreeMap::new(),
            material: BTreeMap::new(),
            facts: BTreeMap::new(),
            versions: BTreeMap::new(),
            surged: BTreeMap::new(),
        }
    }
}

/// Pilotage's own image where nobody names one.
pub const IMAGE: &str = concat!("ghcr.io/pilotage-dev/pilotage:", env!("CARGO_PKG_VERSION"));

/// The objects of all Models that run in the cluster, by the names of Models.
///
/// # Errors
/// What is wrong with the resources, each with its place.
pub fn render(resources: &[Resource], cluster: &Cluster) -> Result<Rendered, Vec<ManifestError>> {
    let mut errors = manifest::check(resources);
    if !errors.is_empty() {
        return Err(errors);
    }
    let mut rendered = Rendered::default();
    let mut models: Vec<&Model> = resources.iter().filter_map(in_cluster).collect();
    models.sort_by_key(|model| model.name());
    for one in models {
        match model(one, fleet_of(one, resources), cluster) {
            Ok(mut more) => {
                rendered.objects.append(&mut more.objects);
                rendered.secrets.append(&mut more.secrets);
                rendered.notes.append(&mut more.notes);
            }
            Err(error) => {
                let problem = Problem::Value(error.to_string());
                errors.push(manifest::mistake(&one.origin, error.field(), problem));
            }
        }
    }
    if errors.is_empty() { Ok(rendered) } else { Err(errors) }
}

/// How many copies a Model says there are to be, whatever their versions.
pub fn replicas(model: &Model) -> u32 {
    let replicas = model.spec.replicas;
    match model.spec.scaling {
        None => replicas,
        Some(scaling) => replicas.clamp(scaling.floor().min(scaling.max), scaling.max),
    }
}

/// The Fleet that a Model's copies run on: the one it names, and none where it names none, so that a Fleet which comes
/// or goes moves nobody who does not speak of it.
pub fn fleet_of<'a>(model: &Model, resources: &'a [Resource]) -> Option<&'a Fleet> {
    let name = model.spec.fleet.as_ref()?;
    let mut all = resources.iter().filter_map(|resource| match resource {
        Resource::Fleet(fleet) if fleet.spec.kind == FleetKind::Nodes => Some(fleet),
        Resource::Fleet(_) | Resource::Model(_) | Resource::Tenant(_) | Resource::Route(_) => None,
    });
    all.find(|fleet| fleet.metadata.name == *name)
}

fn in_cluster(resource: &Resource) -> Option<&Model> {
    match resource {
        Resource::Model(model) if model.spec.source.is_some() => Some(model),
        Resource::Model(_) | Resource::Tenant(_) | Resource::Route(_) | Resource::Fleet(_) => None,
    }
}

/// The objects of one Model that runs in the cluster.
///
/// # Errors
/// [`RenderError`] when it cannot run there so.
pub fn model(
    model: &Model,
    fleet: Option<&Fleet>,
    cluster: &Cluster,
) -> Result<Rendered, RenderError> {
    let versions = versions(model, cluster)?;
    let mut rendered = Rendered::default();
    let mut list = None;
    for (version, of) in &versions {
        let settled =
            settle::Settled { version: version.clone(), ..settle::settle(of, fleet, cluster)? };
        // Pods of one that does are not started without it, whatever the others do.
        list = settled.adapter_list().or(list);
        for object in version_objects(&settled) {
            // Versions share what belongs to their weights.
            if !rendered.objects.contains(&object) {
                rendered.objects.push(object);
            }
        }
    }
    let (version, of) =
        versions.last().map_or((None, model), |(version, of)| (version.clone(), of));
    let settled = settle::Settled { version, ..settle::settle(of, fleet, cluster)? };
    rendered.objects.extend(settled.key_secret());
    rendered.objects.extend(network::objects(&settled, list.is_some()));
    rendered.objects.extend(list);
    rendered.objects.extend(scale::objects(&settled)?);
    rendered.objects.extend(monitor::objects(&settled));
    rendered.objects.sort_by_key(Object::order);
    let has_material = cluster.material.contains_key(&settled.key_name());
    if settled.takes_key() && !has_material {
        rendered.secrets.push(Wanted { name: settled.key_name(), entry: "key", how: KEY_HOW });
    }
    rendered.notes = settled.notes;
    rendered.start_seconds = settled.spec.probes.startup.patience_seconds();
    Ok(rendered)
}

/// The versions with the Model as each of them has it.
fn versions(
    model: &Model,
    cluster: &Cluster,
) -> Result<Vec<(Option<Version>, Model)>, RenderError> {
    let by_canary = model.spec.updates.as_ref().is_some_and(|updates| updates.canary.is_some());
    let Some(named) = cluster.versions.get(model.name()) else {
        let revision = update::revision(&model.spec);
        let own = Version { revision, kept: None, replicas: Some(replicas(model)) };
        return Ok(vec![(by_canary.then_some(own), model.clone())]);
    };
    let each = named.iter().map(|version| {
        let mut of = model.clone();
        if let Some(kept) = &version.kept {
            of.spec = update::running(&model.spec, kept)?;
        }
        Ok((Some(version.clone()), of))
    });
    each.collect()
}

/// What each version has for itself.
fn version_objects(settled: &settle::Settled<'_>) -> Vec<Object> {
    let mut objects = Vec::new();
    objects.extend(settled.files());
    objects.extend(storage::objects(settled));
    objects.extend(network::services(settled));
    objects.extend(workload::objects(settled));
    objects.extend(mesh::objects(settled));
    objects
}
