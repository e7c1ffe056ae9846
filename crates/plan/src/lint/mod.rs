//! What is likely to go wrong on a cluster though nothing is wrong with the manifests: findings with
//! what, why and a way out, each with its file and line.
//!
//! A rule is a row of a table in `models.rs` or `fleets.rs`, with a function that looks at one Model
//! with everything decided. Rules judge and change nothing.

mod fleets;
mod models;

use std::fmt;

use serde::Serialize;

use crate::api::{Model, Resource, Route};
use crate::manifest;
use crate::render::kubernetes::settle::{Settled, settle};
use crate::render::kubernetes::{Cluster, fleet_of};

/// How bad it is.
#[derive(Clone, Copy, Debug, Eq, Ord, PartialEq, PartialOrd, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum Severity {
    /// It will not work.
    Error,
    /// It will go wrong some day.
    Warning,
    /// It is good to know.
    Info,
}

/// One finding.
#[derive(Clone, Debug, Eq, PartialEq, Serialize)]
pub struct Finding {
    /// How bad it is.
    pub severity: Severity,
    /// The rule, as one word.
    pub rule: &'static str,
    /// The file, as the caller named it.
    pub file: String,
    /// The line, from 1.
    pub line: u64,
    /// The path of the field.
    pub field: String,
    /// What was found.
    pub what: String,
    /// Why it matters.
    pub why: &'static str,
    /// What to do.
    pub fix: &'static str,
}

/// A rule: what it is called, how bad it is, and what to say where it finds something.
struct Rule {
    name: &'static str,
    severity: Severity,
    /// The field that can put it right.
    field: &'static str,
    /// What is found, where something is.
    look: fn(&Scene<'_>) -> Option<String>,
    why: &'static str,
    fix: &'static str,
}

/// A Model with everything decided, and what is around it.
struct Scene<'a> {
    settled: &'a Settled<'a>,
    model: &'a Model,
    routes: Vec<&'a Route>,
    resources: &'a [Resource],
}

/// Everything that is found, errors first, then in the order of files and lines.
///
/// # Errors
/// What is wrong with the resources themselves.
pub fn lint(
    resources: &[Resource],
    cluster: &Cluster,
) -> Result<Vec<Finding>, Vec<manifest::ManifestError>> {
    let errors = manifest::check(resources);
    if !errors.is_empty() {
        return Err(errors);
    }
    let mut findings = Vec::new();
    let routes: Vec<&Route> = resources.iter().filter_map(route).collect();
    for resource in resources {
        let Resource::Model(model) = resource else { continue };
        if model.spec.source.is_none() {
            continue;
        }
        match settle(model, fleet_of(model, resources), cluster) {
            Ok(settled) => {
                let scene = Scene { settled: &settled, model, routes: routes.clone(), resources };
                findings.extend(found(&scene));
            }
            Err(error) => findings.push(finding(
                model,
                (Severity::Error, "cannot-run", error.field()),
                error.to_string(),
                ("nothing can be made of this Model on this cluster", "see what the message says"),
            )),
        }
    }
    findings.sort_by(|one, other| {
        let place = |finding: &Finding| (finding.severity, finding.file.clone(), finding.line);
        place(one).cmp(&place(other)).then_with(|| one.rule.cmp(other.rule))
    });
    Ok(findings)
}

fn found(scene: &Scene<'_>) -> Vec<Finding> {
    let rules = models::RULES.iter().chain(fleets::RULES);
    let looked = rules.filter_map(|rule| {
        let what = (rule.look)(scene)?;
        let kind = (rule.severity, rule.name, rule.field);
        Some(finding(scene.model, kind, what, (rule.why, rule.fix)))
    });
    looked.collect()
}

fn finding(
    model: &Model,
    (severity, rule, field): (Severity, &'static str, &str),
    what: String,
    (why, fix): (&'static str, &'static str),
) -> Finding {
    Finding {
        severity,
        rule,
        file: model.origin.file.to_string(),
        line: model.origin.line_of(field),
        field: field.to_owned(),
        what: format!("{}: {what}", model.name()),
        why,
        fix,
    }
}

fn route(resource: &Resource) -> Option<&Route> {
    match resource {
        Resource::Route(route) => Some(route),
        Resource::Model(_) | Resource::Tenant(_) | Resource::Fleet(_) => None,
    }
}

impl Severity {
    /// The word for it.
    pub const fn name(self) -> &'static str {
        match self {
            Self::Error => "error",
            Self::Warning => "warning",
            Self::Info => "info",
        }
    }
}

impl fmt::Display for Finding {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { severity, rule, file, line, field, what, why, fix } = self;
        write!(
            f,
            "{}[{rule}] {file}:{line}: {field}\n  {what}\n  why: {why}\n  fix: {fix}",
            severity.name()
        )
    }
}
