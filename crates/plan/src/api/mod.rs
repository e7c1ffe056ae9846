//! The resource kinds, one file a kind: what people write in manifests.
//!
//! The shape is that of Kubernetes (`apiVersion`, `kind`, `metadata`, `spec`), so that one file
//! serves `pilotage up -f` and a cluster alike. Every field that is accepted has an effect; a field
//! without one is refused by name.

pub mod capability;
pub mod cluster;
pub mod endpoint;
pub mod fleet;
pub mod model;
pub mod money;
pub mod name;
pub mod quota;
pub mod reuse;
pub mod rollout;
pub mod route;
pub mod rule;
pub mod scheduling;
pub mod status;
pub mod tenant;
mod text;
pub mod url;

use std::collections::BTreeMap;
use std::fmt;
use std::sync::Arc;

use schemars::{JsonSchema, Schema};
use serde::ser::SerializeStruct;
use serde::{Deserialize, Serialize, Serializer};

pub use capability::{Capabilities, Language, Tier};
pub use cluster::{
    Access, Effect, PodTemplate, ScaleBy, Scaling, Storage, StorageKind, Toleration, Updates, Zero,
};
pub use endpoint::{Breaker, Dialect, Endpoint, Health, KvEvents, Resume};
pub use fleet::{FleetKind, FleetSpec};
pub use model::{ModelSpec, Prices, Runtime};
pub use money::Money;
pub use name::{PublicName, ResourceName};
pub use quota::{Budget, BudgetWindow, Quota, Share};
pub use reuse::{Cache, Charge, Hedge, Merge, Policy, Region};
pub use rollout::{Canary, Experiment, Mirror, OnFail, Step, Tolerance, Unit, UpdateCanary};
pub use route::{QueueLimits, Retries, RouteSpec, Target, Timeouts};
pub use rule::{HeaderMatch, HeaderName, Rule, When};
pub use scheduling::{BandRights, Preemption, Scheduling, TokenCost};
pub use tenant::{BandName, Identity, IssuerUrl, KeyHash, TenantKey, TenantSpec};
pub use url::{EndpointUrl, EnvName, EventsUrl, FilePath};

/// The only `apiVersion` there is.
pub const API_VERSION: &str = "pilotage.dev/v1alpha1";

/// A model to run.
pub type Model = Object<ModelSpec>;
/// A team or customer.
pub type Tenant = Object<TenantSpec>;
/// Public names and where their requests go.
pub type Route = Object<RouteSpec>;
/// Hardware to run on.
pub type Fleet = Object<FleetSpec>;

/// A parsed resource of any kind.
#[derive(Clone, Debug, PartialEq)]
#[expect(clippy::large_enum_variant, reason = "there are dozens of them, and most are Models")]
pub enum Resource {
    /// A model to run.
    Model(Model),
    /// A team or customer.
    Tenant(Tenant),
    /// Public names and where their requests go.
    Route(Route),
    /// Hardware to run on.
    Fleet(Fleet),
}

/// A resource of one kind.
#[derive(Clone, Debug, PartialEq)]
pub struct Object<S> {
    /// What it is called.
    pub metadata: Metadata,
    /// What is wanted.
    pub spec: S,
    /// Where it was written.
    pub origin: Origin,
}

/// The place of a document, for messages.
#[derive(Clone, Debug, Default, Eq, PartialEq)]
pub struct Origin {
    /// The file, as the caller named it; empty when the resource was not read from one.
    pub file: Arc<str>,
    /// The line at which the document starts, from 1; 0 when it is unknown.
    pub line: u64,
    /// The lines of the fields that were written, by path (`spec.targets[0].model`).
    pub fields: Arc<BTreeMap<String, u64>>,
}

/// A resource's name and its owner's notes on it.
#[derive(Clone, Debug, Deserialize, Eq, JsonSchema, PartialEq, Serialize)]
#[serde(deny_unknown_fields)]
pub struct Metadata {
    /// Name, unique among the resources of one kind: lower-case letters, digits, `-` and `.`, at
    /// most 63 characters, as in Kubernetes.
    pub name: ResourceName,
    /// On Kubernetes: the namespace. Without it the one that is applied to.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub namespace: Option<ResourceName>,
    /// Your own notes to select resources by, as in Kubernetes; Pilotage passes them over.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub labels: BTreeMap<String, String>,
    /// Your own notes for people and tools, as in Kubernetes; Pilotage passes them over.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub annotations: BTreeMap<String, String>,
}

/// The kinds of resources.
#[derive(Clone, Copy, Debug, Eq, Hash, Ord, PartialEq, PartialOrd)]
pub enum Kind {
    /// A model to run.
    Model,
    /// A team or customer.
    Tenant,
    /// Public names and where their requests go.
    Route,
    /// Hardware to run on.
    Fleet,
}

impl Kind {
    /// Every kind, in the order a reader wants to meet them.
    pub const ALL: [Self; 4] = [Self::Model, Self::Route, Self::Tenant, Self::Fleet];

    /// The name in a manifest.
    pub const fn name(self) -> &'static str {
        match self {
            Self::Model => "Model",
            Self::Tenant => "Tenant",
            Self::Route => "Route",
            Self::Fleet => "Fleet",
        }
    }

    /// The kind of that name.
    pub fn parse(name: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|kind| kind.name() == name)
    }

    /// The JSON schema of a `spec` of this kind, without references to other schemas.
    pub fn spec_schema(self) -> Schema {
        match self {
            Self::Model => schema_of::<ModelSpec>(),
            Self::Tenant => schema_of::<TenantSpec>(),
            Self::Route => schema_of::<RouteSpec>(),
            Self::Fleet => schema_of::<FleetSpec>(),
        }
    }
}

/// The JSON schema of `metadata`, which every kind has.
pub fn metadata_schema() -> Schema {
    schema_of::<Metadata>()
}

pub(crate) fn schema_of<T: JsonSchema>() -> Schema {
    let settings = schemars::generate::SchemaSettings::draft2020_12();
    settings
        .with(|settings| settings.inline_subschemas = true)
        .for_deserialize()
        .into_generator()
        .into_root_schema_for::<T>()
}

impl Resource {
    /// Its kind.
    pub const fn kind(&self) -> Kind {
        match self {
            Self::Model(_) => Kind::Model,
            Self::Tenant(_) => Kind::Tenant,
            Self::Route(_) => Kind::Route,
            Self::Fleet(_) => Kind::Fleet,
        }
    }

    /// Its name and notes.
    pub const fn metadata(&self) -> &Metadata {
        match self {
            Self::Model(object) => &object.metadata,
            Self::Tenant(object) => &object.metadata,
            Self::Route(object) => &object.metadata,
            Self::Fleet(object) => &object.metadata,
        }
    }

    /// Its name.
    pub fn name(&self) -> &str {
        self.metadata().name.as_str()
    }

    /// Where it was written.
    pub const fn origin(&self) -> &Origin {
        match self {
            Self::Model(object) => &object.origin,
            Self::Tenant(object) => &object.origin,
            Self::Route(object) => &object.origin,
            Self::Fleet(object) => &object.origin,
        }
    }
}

impl Origin {
    /// The line of a field, or of the document when the field was not written.
    pub fn line_of(&self, field: &str) -> u64 {
        self.fields.get(field).copied().unwrap_or(self.line)
    }
}

impl<S> Object<S> {
    /// A resource that no file holds, for example one made from command-line flags.
    pub fn new(name: ResourceName, spec: S) -> Self {
        let metadata = Metadata {
            name,
            namespace: None,
            labels: BTreeMap::new(),
            annotations: BTreeMap::new(),
        };
        Self { metadata, spec, origin: Origin::default() }
    }

    /// Its name.
    pub fn name(&self) -> &str {
        self.metadata.name.as_str()
    }
}

impl fmt::Display for Kind {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(self.name())
    }
}

impl Serialize for Resource {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        let mut out = serializer.serialize_struct("Resource", 4)?;
        out.serialize_field("apiVersion", API_VERSION)?;
        out.serialize_field("kind", self.kind().name())?;
        out.serialize_field("metadata", self.metadata())?;
        match self {
            Self::Model(object) => out.serialize_field("spec", &object.spec)?,
            Self::Tenant(object) => out.serialize_field("spec", &object.spec)?,
            Self::Route(object) => out.serialize_field("spec", &object.spec)?,
            Self::Fleet(object) => out.serialize_field("spec", &object.spec)?,
        }
        out.end()
    }
}
