//! Pilotage itself put into a cluster, and taken out again.
//!
//! ```text
//! what is asked for ──preflight──▶ nothing hinders ──apply in order──▶ definitions are served, parts are there ──wait──▶ available
//! ```
//!
//! Contract: nothing is written before all that can be known to hinder was looked at; what somebody else owns is
//! left alone; doing it again changes nothing. The key of operators' listeners is made once and never shown.

mod apply;
mod own;
mod place;
mod preflight;
mod remove;
mod said;
mod wait;

#[cfg(test)]
mod tests;

use std::fmt;
use std::time::Duration;

use kube::Client;
use pilotage_plan::cluster::Failure;
use pilotage_plan::render::kubernetes::install::{self, Installation};
use pilotage_plan::render::kubernetes::{
    Cluster, IMAGE, Installed, MINOR_MIN, Mesh, Object, Platform,
};
use pilotage_shell::clock::Clock;
use serde_json::Value;
use thiserror::Error;

pub use remove::Inventory;
pub use said::Said;

use self::place::Place;
use crate::kubernetes::call::{Calls, Manner};
use crate::kubernetes::discover;

/// The name that it writes by.
pub const MANAGER: &str = "pilotage-install";

/// How long a call may take: definitions have rules that API servers compile.
const CALL_TIMEOUT: Duration = Duration::from_secs(60);

/// The operator's Deployment, at which is kept what was said.
const OPERATOR: &str = "pilotage-operator";

/// Calls that are tried again when the API server has too much to do.
const TRIES_MAX: u32 = 6;

/// What is to be installed.
#[derive(Clone, Debug)]
pub struct Wish {
    /// The installation, as it was found to fit the cluster.
    pub installation: Installation,
    /// Resource definitions; none where they are there already.
    pub definitions: Vec<Value>,
    /// Whether fields are taken over that others have written.
    pub force: bool,
    /// How long is waited for the parts to be available.
    pub wait: Duration,
    /// What was said, which is kept for who installs again.
    pub said: Said,
}

/// What a cluster is, as far as it decides what is installed.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct Surroundings {
    /// Its Kubernetes: 1.`minor`.
    pub minor: u32,
    /// Kinds that others brought.
    pub has: Installed,
    /// Whether it is OpenShift.
    pub is_openshift: bool,
    /// Ports at which its API server is reached behind its Service; none where that may not be seen.
    pub api_ports: Vec<u16>,
}

/// What an operator was told.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Told {
    /// What it renders for: its overlays, its image, the labels of monitors.
    pub cluster: Cluster,
    /// The namespace whose resources count; none is all of them.
    pub namespace: Option<String>,
}

/// What was done.
#[derive(Clone, Copy, Debug, Default, Eq, PartialEq)]
pub struct Done {
    /// Objects that were made.
    pub made: usize,
    /// Objects that were changed.
    pub changed: usize,
    /// Objects that were as they were to be.
    pub kept: usize,
    /// Objects that the installation before had and this one has not.
    pub gone: usize,
    /// Whether the key of operators' listeners was made.
    pub key_made: bool,
}

/// Why it is not installed, or not removed.
#[derive(Debug, Error)]
pub enum InstallError {
    /// The API server does not answer as it should.
    #[error("the cluster's API server does not answer as it should: {}", .0.message)]
    Server(Failure),
    /// The API server does not let this user look.
    #[error("the API server refuses: {0}")]
    Forbidden(String),
    /// It is too old.
    #[error("the cluster has Kubernetes 1.{0}, and 1.{min} is the oldest that this works with", min = MINOR_MIN)]
    TooOld(u32),
    /// What is asked for wants a newer one.
    #[error("{what} wants Kubernetes 1.{minor} or later")]
    Version {
        /// What does.
        what: &'static str,
        /// Which release has it.
        minor: u32,
    },
    /// Rights are missing: those, as `verb resource`.
    #[error("you have no right to {}", .0.join(", "))]
    Rights(Vec<String>),
    /// Helm has it.
    #[error("{what} belongs to the Helm release `{release}`")]
    Helm {
        /// The object.
        what: String,
        /// The release.
        release: String,
    },
    /// There is one for the whole cluster in another namespace.
    #[error("Pilotage is installed for the whole cluster in the namespace `{0}` already")]
    Elsewhere(String),
    /// Somebody else serves external metrics.
    #[error(
        "the external metrics API of this cluster is served by {0} already, and a cluster has one"
    )]
    MetricsTaken(String),
    /// Objects are stored in a version that these definitions do not have.
    #[error("the definition {name} stores objects as {versions}, which this release does not know")]
    OtherVersion {
        /// The definition.
        name: String,
        /// The versions.
        versions: String,
    },
    /// Others have written what would be written.
    #[error("{what} was written by others, too: {message}")]
    Conflict {
        /// The object.
        what: String,
        /// The API server's words.
        message: String,
    },
    /// The API server says no.
    #[error("{what} was refused: {message}")]
    Refused {
        /// The object.
        what: String,
        /// The API server's words.
        message: String,
    },
    /// The Secret is there without what it is for.
    #[error("the Secret `{}` is there, and has no entry `key`", install::ADMIN_SECRET)]
    NoKey,
    /// There is no randomness to make a key of.
    #[error("no key can be made: {0}")]
    Chance(#[source] std::io::Error),
    /// The API server does not serve the definitions in time.
    #[error("the API server does not serve {0} yet")]
    NotServed(String),
    /// What was applied is not available in time.
    #[error("it is installed and not available yet: {0}")]
    NotAvailable(String),
}

impl InstallError {
    /// What to do about it.
    pub fn hint(&self) -> Option<&'static str> {
        Some(match self {
            Self::Rights(_) | Self::Forbidden(_) => {
                "ask for these rights, or for `--dry-run`'s output to be applied by who has them; --no-crds leaves the \
                 resource definitions out"
            }
            Self::MetricsTaken(_) => {
                "leave out --external-metrics, and write `scaling.by: keda` or `pilotage` in Models"
            }
            Self::Helm { .. } => {
                "go on with `helm upgrade` and `helm uninstall`, or remove the release before"
            }
            Self::Elsewhere(_) => {
                "install into that namespace, or here with --namespaced for its own resources alone"
            }
            Self::OtherVersion { .. } => {
                "install the release that has this version, or a later one"
            }
            Self::Conflict { .. } => {
                "look at `pilotage install --diff`; --force-conflicts takes these fields over"
            }
            Self::NoKey => "delete the Secret, and it is made anew",
            Self::NotServed(_) => "run the same command again",
            Self::NotAvailable(_) => {
                "put right what is said there; running the same command again waits again"
            }
            Self::Refused { message, .. } if message.contains("not currently held") => {
                "who gives rights must have them: let an administrator of the cluster do this"
            }
            Self::Server(_)
            | Self::TooOld(_)
            | Self::Version { .. }
            | Self::Refused { .. }
            | Self::Chance(_) => return None,
        })
    }
}

/// Who is told how far it is.
pub type Tell = Box<dyn Fn(&str) + Send + Sync>;

/// Installs into one cluster.
pub struct Installer {
    calls: Calls,
    clock: Clock,
    tell: Tell,
}

impl fmt::Debug for Installer {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Installer")
    }
}

impl Installer {
    /// One for the cluster of that client.
    pub fn new(client: Client, tell: Tell) -> Self {
        Self { calls: Calls::within(client, CALL_TIMEOUT), clock: Clock::start(), tell }
    }

    /// What the cluster is.
    ///
    /// # Errors
    /// The API server does not say, or is too old.
    pub async fn surroundings(&self) -> Result<Surroundings, InstallError> {
        let offered = discover::offered(&self.calls).await.map_err(asked)?;
        if offered.minor < MINOR_MIN {
            return Err(InstallError::TooOld(offered.minor));
        }
        let groups = self.calls.read("/apis").await.map_err(asked)?;
        let mut groups = groups["groups"].as_array().into_iter().flatten();
        let is_openshift = groups.any(|group| group["name"] == "security.openshift.io");
        let api_ports = self.api_ports().await?;
        Ok(Surroundings { minor: offered.minor, has: offered.has, is_openshift, api_ports })
    }

    /// Where the API server is behind its Service: policies of the network see that port, and not the Service's.
    async fn api_ports(&self) -> Result<Vec<u16>, InstallError> {
        let sort = ("discovery.k8s.io/v1", "endpointslices");
        let slice = Place::named(sort, "default", "kubernetes");
        let slice = match self.calls.get(slice.path()).await {
            Ok(slice) => slice.unwrap_or_default(),
            Err(failure) if failure.code == 403 => Value::Null,
            Err(failure) => return Err(asked(failure)),
        };
        let ports = slice["ports"].as_array().into_iter().flatten();
        let ports = ports.filter_map(|one| one["port"].as_u64());
        Ok(ports.filter_map(|port| u16::try_from(port).ok()).collect())
    }

    /// What was said when Pilotage was installed in that namespace, if it is there.
    ///
    /// # Errors
    /// The API server does not say.
    pub async fn said(&self, namespace: &str) -> Result<Option<Said>, InstallError> {
        let place = Place::named(("apps/v1", "deployments"), namespace, OPERATOR);
        let is = self.calls.get(place.path()).await.map_err(asked)?;
        // The release's own image has another tag in each.
        let own = IMAGE.rsplit_once(':').map_or(IMAGE, |(own, _)| own);
        Ok(is.map(|is| Said::read(&is, &format!("{own}:"))))
    }

    /// What the operator in that namespace was told, if there is one.
    ///
    /// # Errors
    /// [`InstallError::Forbidden`] where the user may not look, [`InstallError::Server`] where the API server does
    /// not say.
    pub async fn operator(&self, namespace: &str) -> Result<Option<Told>, InstallError> {
        let place = Place::named(("apps/v1", "deployments"), namespace, OPERATOR);
        let is = self.calls.get(place.path()).await.map_err(asked)?;
        Ok(is.map(|is| Told::read(&is)))
    }

    /// Waits for that long.
    async fn pause(&self, time: Duration) {
        let nanos = u64::try_from(time.as_nanos()).unwrap_or(u64::MAX);
        self.clock.sleep_until_nanos(self.clock.now_nanos().saturating_add(nanos)).await;
    }
}

impl Wish {
    /// All objects, in the order in which they are applied: the namespace, definitions, the rest.
    pub fn objects(&self) -> Vec<Value> {
        let all = install::objects(&self.installation);
        let is_first = |object: &&Object| object.kind() == "Namespace";
        let first = all.iter().filter(is_first).map(Object::value).cloned();
        let rest = all.iter().filter(|object| !is_first(object)).map(Object::value).cloned();
        let rest = rest.map(|mut object| {
            if object["kind"] == "Deployment" && object["metadata"]["name"] == OPERATOR {
                self.said.write(&mut object);
            }
            object
        });
        first.chain(self.definitions.iter().cloned()).chain(rest).collect()
    }

    const fn manner(&self) -> Manner {
        Manner { manager: MANAGER, force: self.force, dry_run: false }
    }
}

impl Told {
    /// What the Deployment of an operator tells it.
    fn read(deployment: &Value) -> Self {
        let args = &deployment["spec"]["template"]["spec"]["containers"][0]["args"];
        let args: Vec<&str> =
            args.as_array().into_iter().flatten().filter_map(Value::as_str).collect();
        let (mut cluster, mut namespace) = (Cluster::default(), None);
        for pair in args.windows(2) {
            match pair {
                ["--image", image] => cluster.image = (*image).to_owned(),
                ["--namespace", name] => namespace = Some((*name).to_owned()),
                ["--monitor-label", label] => {
                    let pair = label.split_once('=');
                    let pair = pair.map(|(key, value)| (key.to_owned(), value.to_owned()));
                    cluster.monitor_labels.extend(pair);
                }
                ["--overlay", name] => {
                    cluster.platform = Platform::parse(name).unwrap_or(cluster.platform);
                    cluster.mesh = Mesh::parse(name).or(cluster.mesh);
                }
                _ => {}
            }
        }
        Self { cluster, namespace }
    }
}

/// What a call that asks could not learn.
fn asked(failure: Failure) -> InstallError {
    match failure.code {
        401 | 403 => InstallError::Forbidden(failure.message),
        _ => InstallError::Server(failure),
    }
}

/// An object in words.
fn words(object: &Value) -> String {
    let text = |pointer: &str| object.pointer(pointer).and_then(Value::as_str).unwrap_or_default();
    format!("{} {}", text("/kind"), text("/metadata/name"))
}
