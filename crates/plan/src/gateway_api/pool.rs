//! InferencePools: pods that somebody else runs, told as a Model without weights, whose replicas are the
//! pods that its selector picks, at each of its ports.

use std::collections::BTreeSet;

use pilotage_core::traffic::ANY;
use serde::Deserialize as _;
use serde_json::{Value, json};

use super::{
    CONTEXT_ANNOTATION, DIALECT_ANNOTATION, MODELS_ANNOTATION, PARALLEL_ANNOTATION, Place, Verdict,
};
use crate::api::endpoint::{ENDPOINT_PARALLEL_DEFAULT, ENDPOINT_PARALLEL_MAX};
use crate::api::model::CONTEXT_MAX;
use crate::api::{
    self, Dialect, Kind, Model, ModelSpec, Origin, PublicName, Resource, ResourceName, RouteSpec,
};
use crate::cluster::admit::Reason;
use crate::cluster::{Refusal, Seen};

/// Most ports of a pool, as its definition has it.
const PORTS_MAX: usize = 8;

/// Most characters of what somebody wrote that are said again.
const QUOTED_CHARS_MAX: usize = 100;

/// What an InferencePool says.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct Pool {
    /// Where it is.
    pub place: Place,
    /// What its pods are selected by, as the API server takes it: `a=b,c=d`.
    pub selector: String,
    /// The ports at which each of its pods is asked, one of them at least.
    pub ports: Vec<u16>,
    /// What its pods run, where that was said.
    pub dialect: Dialect,
    /// Sequences that a pod computes at once at each port.
    pub parallel: u32,
    /// Tokens of context of each sequence, where that was said.
    pub context: Option<u32>,
    /// Names that clients write, where they were said.
    pub models: Vec<PublicName>,
}

/// What a pool is called among our Models.
pub(super) fn model_name(namespace: &str, pool: &str) -> String {
    format!("{namespace}.{pool}")
}

/// The pool that a Model of a namespace is.
pub fn pool_of<'a>(namespace: &str, model: &'a str) -> Option<&'a str> {
    model.strip_prefix(namespace)?.strip_prefix('.')
}

impl Pool {
    /// Reads an InferencePool.
    ///
    /// # Errors
    /// It says what cannot be done.
    pub fn read(object: &Value) -> Result<Self, Verdict> {
        let text = |name: &str| object["metadata"][name].as_str().unwrap_or_default().to_owned();
        let said = |name: &str| object["metadata"]["annotations"][name].as_str();
        if !matches!(object["spec"]["appProtocol"].as_str(), None | Some("" | "http")) {
            return Err(unsupported("appProtocol", "pods are asked over HTTP/1.1; write `http`"));
        }
        let dialect = said(DIALECT_ANNOTATION).map(|name| {
            let what = "name a server as `dialect` of a Model does, `vllm` or `sglang`";
            Dialect::deserialize(Value::from(name))
                .map_err(|_| unsupported(DIALECT_ANNOTATION, what))
        });
        let names = said(MODELS_ANNOTATION).unwrap_or_default().split(',').map(str::trim);
        let name = |name: &str| {
            name.parse().map_err(|error| unsupported(MODELS_ANNOTATION, &format!("{error}")))
        };
        let number = |annotation: &str, most: u32| match said(annotation) {
            None => Ok(None),
            Some(text) => match text.parse() {
                Ok(number @ 1..) if number <= most => Ok(Some(number)),
                _ => Err(unsupported(annotation, &format!("write a number from 1 to {most}"))),
            },
        };
        Ok(Self {
            place: (text("namespace"), text("name")),
            selector: selector(object)?,
            ports: ports(object)?,
            dialect: dialect.transpose()?.unwrap_or_default(),
            parallel: number(PARALLEL_ANNOTATION, ENDPOINT_PARALLEL_MAX)?
                .unwrap_or(ENDPOINT_PARALLEL_DEFAULT),
            context: number(CONTEXT_ANNOTATION, CONTEXT_MAX)?,
            models: names.filter(|name| !name.is_empty()).map(name).collect::<Result<_, _>>()?,
        })
    }

    /// It as a picker serves it: whichever model a request names goes there as it is.
    pub fn picked(&self) -> [Resource; 2] {
        let name = ResourceName::internal(model_name(&self.place.0, &self.place.1));
        let mut spec = self.spec();
        spec.served_model = Some(ANY.to_owned());
        let mut route = RouteSpec::to_model(name.clone());
        route.models.clone_from(&self.models);
        route.models.push(PublicName::internal(ANY.to_owned()));
        // Names that people do not write are not held against what they may write.
        let (namespace, pool) = &self.place;
        let file = format!("InferencePool {namespace}/{pool}").into();
        let mut route = api::Route::new(name.clone(), route);
        route.origin = Origin { file, ..Origin::default() };
        [Resource::Model(Model::new(name, spec)), Resource::Route(route)]
    }

    fn spec(&self) -> ModelSpec {
        let usual = ModelSpec::from_endpoints(Vec::new());
        ModelSpec {
            pool_ports: self.ports.clone(),
            dialect: self.dialect,
            parallel: self.parallel,
            context: self.context.unwrap_or(usual.context),
            ..usual
        }
    }
}

/// An InferencePool as it counts among our Models.
pub(super) fn model(object: &Value) -> Seen {
    let mut metadata = object["metadata"].clone();
    let text = |name: &str| metadata[name].as_str().unwrap_or_default().to_owned();
    let name = model_name(&text("namespace"), &text("name"));
    metadata["name"] = name.as_str().into();
    let identity = Seen::read(Kind::Model, &json!({ "metadata": metadata })).identity;
    let refusal = |message| Refusal { reason: Reason::Invalid, message };
    let resource =
        Pool::read(object).map_err(|verdict| refusal(verdict.message)).and_then(|pool| {
            let name = name.parse().map_err(|error| {
                let what = "namespace and name of the pool together";
                refusal(format!("{what}: {error}; shorten one of them"))
            })?;
            let mut model = Model::new(name, pool.spec());
            model.origin = Origin { file: identity.place().into(), ..Origin::default() };
            Ok(Resource::Model(model))
        });
    Seen { identity, resource }
}

fn selector(object: &Value) -> Result<String, Verdict> {
    let labels = object["spec"]["selector"]["matchLabels"].as_object();
    // Their definition says nothing of keys, and what the API server cannot read it never answers well.
    if let Some((key, _)) = labels.into_iter().flatten().find(|(key, value)| !is_label(key, value))
    {
        let key: String = key.chars().take(QUOTED_CHARS_MAX).collect();
        let what = format!("`{key}` and its value are no label; no pod can have it");
        return Err(unsupported("selector", &what));
    }
    let pairs: Vec<String> = labels
        .into_iter()
        .flatten()
        .map(|(key, value)| format!("{key}={}", value.as_str().unwrap_or_default()))
        .collect();
    if pairs.is_empty() {
        return Err(unsupported("selector", "name one label at least, or all pods would be meant"));
    }
    Ok(pairs.join(","))
}

/// Whether labels of objects may be such: `[DOMAIN/]NAME` and a value, as Kubernetes has them.
fn is_label(key: &str, value: &Value) -> bool {
    let (domain, name) =
        key.split_once('/').map_or((None, key), |(domain, name)| (Some(domain), name));
    let part = |part: &str| {
        let is_inner =
            |byte: u8| byte.is_ascii_lowercase() || byte.is_ascii_digit() || byte == b'-';
        !part.is_empty()
            && part.bytes().all(is_inner)
            && !part.starts_with('-')
            && !part.ends_with('-')
    };
    let is_domain = |domain: &str| domain.len() <= 253 && domain.split('.').all(part);
    let is_name = |name: &str| {
        let is_inner = |byte: u8| byte.is_ascii_alphanumeric() || b"-_.".contains(&byte);
        let is_end = |byte: Option<u8>| byte.is_some_and(|byte| byte.is_ascii_alphanumeric());
        name.len() <= 63
            && name.bytes().all(is_inner)
            && is_end(name.bytes().next())
            && is_end(name.bytes().last())
    };
    let value = value.as_str();
    is_name(name)
        && domain.is_none_or(is_domain)
        && value.is_some_and(|value| value.is_empty() || is_name(value))
}

fn ports(object: &Value) -> Result<Vec<u16>, Verdict> {
    let all = object["spec"]["targetPorts"].as_array().map(Vec::as_slice).unwrap_or_default();
    let read = |port: &Value| u16::try_from(port["number"].as_u64()?).ok().filter(|port| *port > 0);
    let ports: Option<Vec<u16>> = all.iter().map(read).collect();
    let ports = ports.unwrap_or_default();
    let differ: BTreeSet<u16> = ports.iter().copied().collect();
    if ports.is_empty() || ports.len() > PORTS_MAX || differ.len() < ports.len() {
        return Err(unsupported("targetPorts", "name one to eight ports that differ"));
    }
    Ok(ports)
}

fn unsupported(field: &str, what: &str) -> Verdict {
    Verdict::new("NotSupportedByParent", format!("{field}: {what}"))
}
