//! Which resources of a cluster count. Names are of one whole cluster, whoever writes them, and
//! one mistake takes nobody else's resources away.
//!
//! Gateways and the operator ask here, so that both go by the same resources. Contract: the same objects
//! in any order give the same answer; the older of two that contradict each other stays; what is being
//! deleted does not count and is not refused either; what is refused is left as it is by everybody.

use std::collections::{BTreeMap, BTreeSet};

use serde_json::Value;

use crate::api::{API_VERSION, Kind, Resource};
use crate::manifest::{self, ManifestError, Problem};

/// A resource as the API server has it.
#[derive(Clone, Debug, PartialEq)]
pub struct Seen {
    /// Which one it is.
    pub identity: Identity,
    /// What it says, or why that cannot be read.
    pub resource: Result<Resource, Refusal>,
}

/// Which resource it is.
#[derive(Clone, Debug, Eq, Ord, PartialEq, PartialOrd)]
pub struct Identity {
    /// When it was made, as the API server writes it: `2027-01-31T12:00:00Z`, which sorts by time.
    pub created: String,
    /// Its namespace.
    pub namespace: String,
    /// Its name.
    pub name: String,
    /// Its kind.
    pub kind: Kind,
    /// What tells it from another one of its name, later.
    pub uid: String,
    /// Counts changes of what it says.
    pub generation: u64,
    /// Whether it is on its way out.
    pub is_deleted: bool,
}

/// Why a resource does not count.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct Refusal {
    /// The reason of its condition `Accepted`.
    pub reason: Reason,
    /// What is wrong, and what to do.
    pub message: String,
}

/// A resource that does not count.
#[derive(Clone, Debug, PartialEq)]
pub struct Refused {
    /// Which one.
    pub identity: Identity,
    /// Why.
    pub refusal: Refusal,
    /// What it says, where that can be read.
    pub resource: Option<Resource>,
}

/// Why a resource does not count, as one word for programs.
#[derive(Clone, Copy, Debug, Eq, Ord, PartialEq, PartialOrd)]
pub enum Reason {
    /// Another one has its name, or a public name or a key that it says.
    NameTaken,
    /// It says what cannot be.
    Invalid,
    /// It is of a version that is not read here.
    OtherVersion,
    /// Tenants belong to each other in a circle.
    TenantCycle,
    /// It names something that is not there.
    ReferenceMissing,
    /// It names something that is refused itself.
    ReferenceRefused,
}

/// What counts, and what does not.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Admission {
    /// The resources that count, oldest first.
    pub resources: Vec<Resource>,
    /// Which ones they are, one for each of `resources`.
    pub identities: Vec<Identity>,
    /// Those that do not count.
    pub refused: Vec<Refused>,
}

impl Reason {
    /// The word for it.
    pub const fn name(self) -> &'static str {
        match self {
            Self::NameTaken => "NameTaken",
            Self::Invalid => "Invalid",
            Self::OtherVersion => "OtherVersion",
            Self::TenantCycle => "TenantCycle",
            Self::ReferenceMissing => "ReferenceMissing",
            Self::ReferenceRefused => "ReferenceRefused",
        }
    }
}

impl Seen {
    /// Reads an object of that kind.
    pub fn read(kind: Kind, object: &Value) -> Self {
        let identity = Identity::read(kind, object);
        let refused = |reason, message| Err(Refusal { reason, message });
        let resource = match object["apiVersion"].as_str() {
            Some(version) if version != API_VERSION => refused(
                Reason::OtherVersion,
                format!(
                    "it is of {version}, and {API_VERSION} is read here; update the definitions with `pilotage crd` and the operator together"
                ),
            ),
            _ => manifest::from_object(kind, &identity.place(), object).or_else(|errors| {
                refused(Reason::Invalid, errors.first().map(what).unwrap_or_default())
            }),
        };
        Self { identity, resource }
    }
}

impl Identity {
    fn read(kind: Kind, object: &Value) -> Self {
        let metadata = &object["metadata"];
        let text = |name: &str| metadata[name].as_str().unwrap_or_default().to_owned();
        Self {
            created: text("creationTimestamp"),
            namespace: text("namespace"),
            name: text("name"),
            kind,
            uid: text("uid"),
            generation: metadata["generation"].as_u64().unwrap_or_default(),
            is_deleted: metadata["deletionTimestamp"].is_string(),
        }
    }

    /// Where it is, as messages say it.
    pub fn place(&self) -> String {
        format!("{} {}/{}", self.kind, self.namespace, self.name)
    }
}

/// Decides which resources count.
pub fn admit<'a>(seen: impl IntoIterator<Item = &'a Seen>) -> Admission {
    let mut all: Vec<&Seen> = seen.into_iter().filter(|one| !one.identity.is_deleted).collect();
    all.sort_by(|a, b| a.identity.cmp(&b.identity));
    let mut admission = Admission::default();
    let mut names: BTreeMap<(Kind, &str), &Identity> = BTreeMap::new();
    for one in all {
        let identity = &one.identity;
        let resource = match &one.resource {
            Ok(resource) => resource,
            Err(refusal) => {
                admission.refuse(identity, refusal.clone(), None);
                continue;
            }
        };
        if let Some(first) = names.get(&(identity.kind, identity.name.as_str())) {
            let refusal = name_taken(identity, first);
            admission.refuse(identity, refusal, Some(resource.clone()));
            continue;
        }
        names.insert((identity.kind, &identity.name), identity);
        admission.resources.push(resource.clone());
        admission.identities.push(identity.clone());
    }
    // What one names may go with another, so that each round may find more, and each takes one at least.
    while admission.round() {}
    admission.refused.sort_by(|a, b| a.identity.cmp(&b.identity));
    admission
}

fn name_taken(identity: &Identity, first: &Identity) -> Refusal {
    let (kind, name) = (identity.kind, &identity.name);
    let message = format!(
        "the namespace `{}` has a {kind} `{name}` that is older; names are of the whole cluster: rename one of the two",
        first.namespace
    );
    Refusal { reason: Reason::NameTaken, message }
}

impl Admission {
    /// The one of that name that counts.
    pub fn identity_of(&self, kind: Kind, name: &str) -> Option<&Identity> {
        self.identities.iter().find(|one| one.kind == kind && one.name == name)
    }

    fn refuse(&mut self, identity: &Identity, refusal: Refusal, resource: Option<Resource>) {
        self.refused.push(Refused { identity: identity.clone(), refusal, resource });
    }

    /// Takes out what is wrong with those that are left; whether there was anything.
    fn round(&mut self) -> bool {
        let errors = manifest::check_each(&self.resources);
        if errors.is_empty() {
            return false;
        }
        let gone: BTreeSet<(Kind, String)> =
            self.refused.iter().map(|one| (one.identity.kind, one.identity.name.clone())).collect();
        let mut wrong: BTreeMap<&str, Refusal> = BTreeMap::new();
        // A circle is a mistake of all that are in it.
        let mut circles: BTreeMap<&str, Refusal> = BTreeMap::new();
        for error in &errors {
            let refusal = refusal(error, &gone);
            if let Problem::Cycle { names } = &error.problem {
                let each = names.iter().map(|name| (name.as_str(), refusal.clone()));
                circles.extend(each);
            }
            wrong.entry(&error.file).or_insert(refusal);
        }
        let mut taken = false;
        let all = std::mem::take(&mut self.resources);
        let identities = std::mem::take(&mut self.identities);
        for (resource, identity) in all.into_iter().zip(identities) {
            let circle = circles.get(identity.name.as_str());
            let circle = circle.filter(|_| identity.kind == Kind::Tenant);
            match circle.or_else(|| wrong.get(identity.place().as_str())) {
                Some(refusal) => {
                    taken = true;
                    self.refuse(&identity, refusal.clone(), Some(resource));
                }
                None => {
                    self.resources.push(resource);
                    self.identities.push(identity);
                }
            }
        }
        taken
    }
}

fn refusal(error: &ManifestError, gone: &BTreeSet<(Kind, String)>) -> Refusal {
    let reason = match &error.problem {
        Problem::NameTaken { .. } | Problem::Duplicate { .. } | Problem::KeyTaken { .. } => {
            Reason::NameTaken
        }
        Problem::IdentityTaken { .. } | Problem::LaneTaken { .. } => Reason::NameTaken,
        Problem::Cycle { .. } => Reason::TenantCycle,
        Problem::Dangling { kind, name, .. } if gone.contains(&(*kind, name.clone())) => {
            let message = format!(
                "{}: the {kind} `{name}` is refused itself; its condition says why",
                error.field
            );
            return Refusal { reason: Reason::ReferenceRefused, message };
        }
        Problem::Dangling { .. } => Reason::ReferenceMissing,
        _ => Reason::Invalid,
    };
    Refusal { reason, message: what(error) }
}

/// What is wrong, without where: its condition is at its place.
fn what(error: &ManifestError) -> String {
    match error.field.as_str() {
        "" => error.problem.to_string(),
        field => format!("{field}: {}", error.problem),
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;
    use serde_json::json;

    use super::*;

    /// `KIND namespace/name@second {spec}`, one a line.
    fn seen(lines: &str) -> Vec<Seen> {
        let lines = lines.lines().map(str::trim).filter(|line| !line.is_empty());
        lines.map(|line| one(line).unwrap()).collect()
    }

    fn one(line: &str) -> Option<Seen> {
        let (kind, rest) = line.split_once(' ')?;
        let (place, spec) = rest.split_once(' ').unwrap_or((rest, "{}"));
        let (place, second) = place.split_once('@')?;
        let (namespace, name) = place.split_once('/')?;
        let spec: Value = serde_json::from_str(spec).unwrap();
        let object = json!({
            "apiVersion": API_VERSION,
            "kind": kind,
            "metadata": {
                "name": name, "namespace": namespace, "uid": format!("uid-{namespace}-{name}"),
                "generation": 1, "resourceVersion": "7", "managedFields": [],
                "creationTimestamp": format!("2027-01-01T00:00:{second}Z"),
            },
            "spec": spec,
            "status": {},
        });
        Some(Seen::read(Kind::parse(kind)?, &object))
    }

    const HERE: &str = r#"{"endpoints":[{"url":"http://127.0.0.1:8000"}]}"#;

    /// What is accepted, and what is refused with its reason.
    fn told(admission: &Admission) -> (Vec<String>, Vec<String>) {
        let accepted = admission.identities.iter().map(Identity::place).collect();
        let refused = admission.refused.iter();
        let refused =
            refused.map(|one| format!("{} {}", one.identity.place(), one.refusal.reason.name()));
        (accepted, refused.collect())
    }

    fn check(lines: &str, accepted: &[&str], refused: &[&str]) {
        let lines = lines.replace("HERE", HERE);
        let admission = admit(&seen(&lines));
        let (got, not) = told(&admission);
        assert_eq!(got, accepted);
        assert_eq!(not, refused);
        assert_eq!(admission.resources.len(), admission.identities.len());
        assert_eq!(manifest::check(&admission.resources), []);
        for one in &admission.refused {
            assert!(!one.refusal.message.is_empty());
        }
    }

    #[test]
    fn the_older_of_two_has_the_name() {
        check(
            "Model b/m@02 HERE\nModel a/m@09 HERE\nModel a/n@01 HERE",
            &["Model a/n", "Model b/m"],
            &["Model a/m NameTaken"],
        );
    }

    #[test]
    fn one_mistake_takes_nobody_else_away() {
        check(
            r#"Model a/m@01 HERE
               Model a/bad@02 {"source":"file:m.gguf","replicas":-1}
               Model a/worse@03 {"source":"file:m.gguf","noSuchField":1}
               Fleet a/f@04 {"kind":"nodes","hardware":"none-such"}"#,
            &["Model a/m"],
            &["Model a/bad Invalid", "Model a/worse Invalid", "Fleet a/f Invalid"],
        );
    }

    #[test]
    fn who_names_what_is_refused_is_told_so() {
        check(
            r#"Route a/r@01 {"models":["chat"],"targets":[{"model":"bad"}]}
               Route a/s@02 {"models":["talk"],"targets":[{"model":"none"}]}
               Model a/m@03 HERE
               Model b/m@04 HERE
               Route b/t@05 {"models":["m2"],"targets":[{"model":"m"}]}
               Model a/bad@06 {"source":"file:m.gguf","noSuchField":1}"#,
            &["Model a/m", "Route b/t"],
            &[
                "Route a/r ReferenceRefused",
                "Route a/s ReferenceMissing",
                "Model b/m NameTaken",
                "Model a/bad Invalid",
            ],
        );
    }

    #[test]
    fn circles_across_namespaces_are_refused_with_all_below_them() {
        check(
            r#"Tenant a/x@01 {"parent":"y"}
               Tenant b/y@02 {"parent":"z"}
               Tenant c/z@03 {"parent":"x"}
               Tenant c/below@04 {"parent":"z"}
               Tenant c/free@05 {}"#,
            &["Tenant c/free"],
            &[
                "Tenant a/x TenantCycle",
                "Tenant b/y TenantCycle",
                "Tenant c/z TenantCycle",
                "Tenant c/below ReferenceRefused",
            ],
        );
    }

    #[test]
    fn what_is_deleted_does_not_count() {
        let mut all = seen(&"Model a/m@01 HERE\nModel b/m@02 HERE".replace("HERE", HERE));
        all[0].identity.is_deleted = true;
        assert_eq!(told(&admit(&all)), (vec!["Model b/m".to_owned()], vec![]));
    }

    #[test]
    fn other_versions_are_told() {
        let object = json!({ "apiVersion": "pilotage.dev/v2", "kind": "Model", "metadata": {} });
        let refusal = Seen::read(Kind::Model, &object).resource.unwrap_err();
        assert_eq!(refusal.reason, Reason::OtherVersion);
    }

    proptest! {
        #[test]
        fn order_does_not_matter(
            parts in prop::collection::vec((0..3u8, 0..3u8, 0..4u8), 0..12)
        ) {
            let lines = |parts: &[(u8, u8, u8)]| {
                let mut met = BTreeSet::new();
                let fresh = parts.iter().filter(|(space, name, _)| met.insert((*space, *name)));
                let line = |&(space, name, parent): &(u8, u8, u8)| {
                    let spec = if parent == 3 { "{}".to_owned() } else { format!(r#"{{"parent":"t{parent}"}}"#) };
                    format!("Tenant n{space}/t{name}@0{parent} {spec}")
                };
                let mut lines: Vec<String> = fresh.map(line).collect();
                lines.sort();
                lines
            };
            let first = lines(&parts);
            let mut turned = first.clone();
            turned.reverse();
            prop_assert_eq!(admit(&seen(&first.join("\n"))), admit(&seen(&turned.join("\n"))));
        }
    }
}
