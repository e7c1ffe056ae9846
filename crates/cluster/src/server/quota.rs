//! What namespaces may hold: quotas of objects and of what pods and claims ask for.
//!
//! What is used is counted when something is to be made, so that only namespaces with quotas pay for it.

use std::collections::BTreeMap;

use serde_json::Value;

use super::{Ask, Cluster};
use crate::api::failure::Failure;
use crate::api::kinds::Resource;
use crate::check::Quantity;

/// Amounts by what quotas call them.
type Amounts = BTreeMap<String, Quantity>;

/// Kinds that quotas count by their plural alone.
const COUNTED: [&str; 6] =
    ["configmaps", "persistentvolumeclaims", "pods", "resourcequotas", "secrets", "services"];

impl Cluster {
    /// Whether a new object fits into all quotas of its namespace.
    pub(super) fn fits(&self, ask: &Ask<'_>, object: &Value) -> Result<(), Failure> {
        let namespace = ask.namespace();
        let Some(quotas) = self.table("", "resourcequotas").filter(|_| !namespace.is_empty())
        else {
            return Ok(());
        };
        let name = object.pointer("/metadata/name").and_then(Value::as_str).unwrap_or_default();
        for (_, quota) in quotas.iter(Some(namespace)) {
            let hard = amounts(&quota.shared(), "/spec/hard");
            let asked = usage(&ask.resource, object);
            if let Some(missing) = unsaid(&ask.resource, object, &hard) {
                let why = format!("failed quota: {}: must specify {missing}", quota.name);
                return Err(Failure::forbidden(ask.named(name), &why));
            }
            let concerns: Vec<&String> =
                hard.keys().filter(|one| asked.contains_key(*one)).collect();
            if concerns.is_empty() {
                continue;
            }
            let used = self.used(namespace);
            let of = |all: &Amounts, one: &str| all.get(one).copied().unwrap_or(Quantity::ZERO);
            let over = concerns
                .into_iter()
                .filter(|one| of(&used, one).plus(of(&asked, one)).exceeds(of(&hard, one)));
            let over: Vec<&String> = over.collect();
            if !over.is_empty() {
                let told = |all: &Amounts| {
                    let each = over.iter().map(|one| format!("{one}={}", of(all, one)));
                    each.collect::<Vec<String>>().join(",")
                };
                let why = format!(
                    "exceeded quota: {}, requested: {}, used: {}, limited: {}",
                    quota.name,
                    told(&asked),
                    told(&used),
                    told(&hard)
                );
                return Err(Failure::forbidden(ask.named(name), &why));
            }
        }
        Ok(())
    }

    /// What a namespace holds.
    fn used(&self, namespace: &str) -> Amounts {
        let mut all = Amounts::new();
        for (id, resource) in self.kinds.iter().filter(|(_, one)| one.namespaced) {
            let table = self.tables.get(id);
            for (_, object) in table.into_iter().flat_map(|table| table.iter(Some(namespace))) {
                for (name, amount) in usage(resource, &object.shared()) {
                    add(&mut all, name, amount);
                }
            }
        }
        all
    }
}

fn add(all: &mut Amounts, name: String, amount: Quantity) {
    let sum = all.entry(name).or_insert(Quantity::ZERO);
    *sum = sum.plus(amount);
}

fn amounts(value: &Value, at: &str) -> Amounts {
    let all = value.pointer(at).and_then(Value::as_object).into_iter().flatten();
    all.filter_map(|(name, value)| Some((name.clone(), Quantity::parse(value.as_str()?)?)))
        .collect()
}

/// What an object takes.
fn usage(resource: &Resource, object: &Value) -> Amounts {
    let mut all = Amounts::new();
    let plural = &*resource.plural;
    let phase = object.pointer("/status/phase").and_then(Value::as_str);
    let is_pod = plural == "pods" && resource.group.is_empty();
    if is_pod && matches!(phase, Some("Succeeded" | "Failed")) {
        return all;
    }
    let dot = if resource.group.is_empty() { "" } else { "." };
    add(&mut all, format!("count/{plural}{dot}{}", resource.group), Quantity::count(1));
    if resource.group.is_empty() && COUNTED.contains(&plural) {
        add(&mut all, plural.to_owned(), Quantity::count(1));
    }
    if is_pod {
        for (of, container) in containers(object) {
            for (name, amount) in amounts(container, &format!("/resources/{of}")) {
                if of == "requests" && !name.contains('/') {
                    add(&mut all, name.clone(), amount);
                }
                add(&mut all, format!("{of}.{name}"), amount);
            }
        }
    }
    if plural == "persistentvolumeclaims" {
        let asked = amounts(object, "/spec/resources/requests");
        asked
            .into_iter()
            .for_each(|(name, amount)| add(&mut all, format!("requests.{name}"), amount));
    }
    all
}

fn containers(pod: &Value) -> impl Iterator<Item = (&'static str, &Value)> {
    let all = pod.pointer("/spec/containers").and_then(Value::as_array).into_iter().flatten();
    all.flat_map(|one| [("requests", one), ("limits", one)])
}

/// What a quota is about that each container of a pod has to say, and one does not.
fn unsaid(resource: &Resource, pod: &Value, hard: &Amounts) -> Option<String> {
    if &*resource.plural != "pods" || !resource.group.is_empty() {
        return None;
    }
    hard.keys().find_map(|named| {
        let (of, name) = named.split_once('.').unwrap_or(("requests", named));
        let asks = ["requests", "limits"].contains(&of) && ["cpu", "memory"].contains(&name);
        let silent = containers(pod).find(|(which, container)| {
            let said = container.pointer(&format!("/resources/{of}")).and_then(|all| all.get(name));
            *which == of && said.is_none()
        });
        let (_, container) = silent.filter(|_| asks)?;
        let who = container.get("name").and_then(Value::as_str).unwrap_or_default();
        Some(format!("{named} for: {who}"))
    })
}
