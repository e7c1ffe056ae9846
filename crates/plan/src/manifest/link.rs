//! Holds all resources against each other: names that are used twice and references that lead
//! nowhere.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use super::conform::{self, Finding};
use super::node::Node;
use super::{ERRORS_MAX, ManifestError, Problem, document_schema};
use super::{clusters, models, routes, scheduling, tenants};
use crate::api::{Kind, Model, Origin, Resource, Route, TenantKey};
use crate::routes::{adapters, implied_routes, public_names};

/// Everything that is wrong with the resources as a whole, at most [`ERRORS_MAX`]; resources that
/// were not read from a manifest are held against their schemas, too.
pub fn check(resources: &[Resource]) -> Vec<ManifestError> {
    let mut errors = check_each(resources);
    errors.truncate(ERRORS_MAX);
    errors
}

/// Everything that is wrong with the resources as a whole, however much that is.
pub(crate) fn check_each(resources: &[Resource]) -> Vec<ManifestError> {
    let mut errors = Vec::new();
    values(resources, &mut errors);
    duplicates(resources, &mut errors);
    models::check(resources, &mut errors);
    routes::check(resources, &mut errors);
    names(resources, &mut errors);
    keys(resources, &mut errors);
    identities(resources, &mut errors);
    clusters::fleets(resources, &mut errors);
    tenants::check(resources, &mut errors);
    scheduling::check(resources, &mut errors);
    errors
}

/// A mistake in a field, where that was written.
pub(crate) fn error(origin: &Origin, field: &str, problem: Problem) -> ManifestError {
    ManifestError::new(&origin.file, origin.line_of(field), field, problem)
}

/// Where a resource is, for a message about another one.
fn place(resource: &Resource) -> String {
    let origin = resource.origin();
    match origin.line {
        0 => format!("{} {}", resource.kind(), resource.name()),
        line => format!("{}:{line}", origin.file),
    }
}

/// A manifest is checked when it is read; what a program made is checked here.
fn values(resources: &[Resource], errors: &mut Vec<ManifestError>) {
    let made = resources.iter().filter(|resource| resource.origin().file.is_empty());
    for resource in made {
        let Ok(value) = serde_json::to_value(resource) else { continue };
        let mut found = Vec::new();
        conform::check(&Node::from_json(value), &document_schema(resource.kind()), &mut found);
        let file: Arc<str> = format!("{} {}", resource.kind(), resource.name()).into();
        let error = |f: Finding| ManifestError::new(&file, f.line, &f.field, f.problem);
        errors.extend(found.into_iter().map(error));
    }
}

fn duplicates(resources: &[Resource], errors: &mut Vec<ManifestError>) {
    let mut seen: BTreeMap<(Kind, &str), &Resource> = BTreeMap::new();
    for resource in resources {
        let (kind, name) = (resource.kind(), resource.name());
        if let Some(first) = seen.get(&(kind, name)) {
            let (name, first) = (name.to_owned(), place(first));
            let problem = Problem::Duplicate { kind, name, first };
            errors.push(error(resource.origin(), "metadata.name", problem));
        } else {
            seen.insert((kind, name), resource);
        }
    }
}

/// A public name leads to one route; the name of a model without a route counts as one, and so does
/// a name with an adapter behind it.
fn names(resources: &[Resource], errors: &mut Vec<ManifestError>) {
    let (models, routes) = split(resources);
    let mut taken: BTreeMap<String, String> = BTreeMap::new();
    let mut take = |name: String, owner: &str, origin: &Origin, field: &str| {
        if let Some(first) = taken.get(&name) {
            let problem = Problem::NameTaken { name, first: first.clone() };
            errors.push(error(origin, field, problem));
        } else {
            taken.insert(name, owner.to_owned());
        }
    };
    let mut seen = BTreeSet::new();
    for model in implied_routes(&models, &routes) {
        if !seen.insert(model.name()) {
            continue; // A duplicate, which has a message of its own.
        }
        let owner = format!("the Model `{}`", model.name());
        take(model.name().to_owned(), &owner, &model.origin, "metadata.name");
        for (index, adapter) in model.spec.adapter_names().into_iter().enumerate() {
            let is_here = model.spec.adapters.is_empty();
            let field = format!("spec.adapters[{index}]");
            let field = if is_here { "spec.adapterSources".to_owned() } else { field };
            take(format!("{}:{adapter}", model.name()), &owner, &model.origin, &field);
        }
    }
    for route in &routes {
        let listed = !route.spec.models.is_empty();
        let adapters = adapters(route, &models);
        for (index, name) in public_names(route).into_iter().enumerate() {
            let field =
                if listed { format!("spec.models[{index}]") } else { "metadata.name".to_owned() };
            let owner = format!("the Route `{}`", route.name());
            for adapter in &adapters {
                take(format!("{name}:{adapter}"), &owner, &route.origin, &field);
            }
            take(name, &owner, &route.origin, &field);
        }
    }
}

/// A key in two places would make it a matter of luck who a client is.
fn keys(resources: &[Resource], errors: &mut Vec<ManifestError>) {
    let mut taken = BTreeMap::new();
    for resource in resources {
        let Resource::Tenant(tenant) = resource else { continue };
        for (index, key) in tenant.spec.keys.iter().enumerate() {
            if never_counts(key) {
                let problem = Problem::Value(
                    "the key ends before it begins; write a moment after `notBefore`".to_owned(),
                );
                let field = format!("spec.keys[{index}].expires");
                errors.push(error(&tenant.origin, &field, problem));
            }
            if let Some(first) = taken.get(&key.sha256) {
                let problem = Problem::KeyTaken { first: String::clone(first) };
                let field = format!("spec.keys[{index}].sha256");
                errors.push(error(&tenant.origin, &field, problem));
            } else {
                taken.insert(key.sha256, tenant.name().to_owned());
            }
        }
    }
}

fn never_counts(key: &TenantKey) -> bool {
    match (&key.not_before, &key.expires) {
        (Some(from), Some(until)) => until.unix_seconds() <= from.unix_seconds(),
        _ => false,
    }
}

/// Two equal rules would leave it open whose a token is. Rules that differ and still fit one token
/// equally well cannot be found here: the gateway refuses such a token.
fn identities(resources: &[Resource], errors: &mut Vec<ManifestError>) {
    let mut taken = BTreeMap::new();
    for resource in resources {
        let Resource::Tenant(tenant) = resource else { continue };
        for (index, identity) in tenant.spec.identities.iter().enumerate() {
            let rule = (&identity.issuer, &identity.audience, &identity.claims);
            if let Some(first) = taken.get(&rule) {
                let problem = Problem::IdentityTaken { first: String::clone(first) };
                let field = format!("spec.identities[{index}]");
                errors.push(error(&tenant.origin, &field, problem));
            } else {
                taken.insert(rule, tenant.name().to_owned());
            }
        }
    }
}

/// The models and the routes, in the order in which they were written.
pub(super) fn split(resources: &[Resource]) -> (Vec<&Model>, Vec<&Route>) {
    let models = resources.iter().filter_map(|resource| match resource {
        Resource::Model(model) => Some(model),
        Resource::Route(_) | Resource::Tenant(_) | Resource::Fleet(_) => None,
    });
    let routes = resources.iter().filter_map(|resource| match resource {
        Resource::Route(route) => Some(route),
        Resource::Model(_) | Resource::Tenant(_) | Resource::Fleet(_) => None,
    });
    (models.collect(), routes.collect())
}
