//! What the parser checks within one resource beyond its schema, in CEL, for API servers.
//!
//! Each rule stands for a check in `manifest/`; `tests/kubernetes/specs.yaml` holds both against the
//! same specs. Rules iterate over lists and maps with bounds only, so that their cost has one.

use std::borrow::Cow;

use serde_json::{Value, json};

use super::lists::at;
use crate::api::Kind;
use crate::manifest::clusters::{FOR_CPU, FOR_NODES};
use crate::manifest::models::{FOR_ENDPOINTS, FOR_OTHERS, FOR_SOURCE};

/// One rule.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct Rule {
    /// The node of `spec` that it is about, `[]` being the entries of a list; empty for `spec`.
    pub path: &'static str,
    /// What must be true, in CEL.
    pub rule: Cow<'static, str>,
    /// What is wrong where it is not, and what to do.
    pub message: Cow<'static, str>,
    /// The same in CEL, where it names what is wrong among several things.
    pub names: Option<String>,
}

/// Steps of a canary.
const GROWS: &str = "!has(self.steps) || (self.steps.map(step, step.weight).isSorted() && self.steps.all(step, self.steps.exists_one(other, other.weight == step.weight)))";
const GROWS_WHY: &str =
    "a canary grows from step to step; write larger weights one after the other";

/// The embedded engine runs the Model: by name, or since its weights are one file.
const EMBEDDED: &str = "has(self.source) && ((has(self.runtime) && self.runtime == 'embedded') || ((!has(self.runtime) || self.runtime == 'auto') && !self.source.matches('^(hf:[^/]+/[^/]+|file:.*/)$')))";

const MODEL: &[(&str, &str, &str)] = &[
    (
        "",
        "has(self.source) ? (!has(self.endpoints) || self.endpoints.all(one, has(one.gateway) && one.gateway)) : (has(self.endpoints) && size(self.endpoints) > 0)",
        "the model runs here, by its `source`, or elsewhere, by `endpoints`; write one of the two, or say `gateway: true` of gateways of other regions",
    ),
    (
        "",
        "!has(self.runtime) || self.runtime != 'ollama'",
        "Ollama serves models of its own library; run it yourself and list it under `endpoints`, or write `llama.cpp`",
    ),
    (
        "",
        "!has(self.runtimeArgs) || size(self.runtimeArgs) == 0 || (has(self.runtime) && self.runtime != 'auto')",
        "arguments are for one runtime, and here it is Pilotage that chooses; name the `runtime`",
    ),
    (
        "",
        "!has(self.runtimeEnv) || self.runtimeEnv.all(name, name.matches('^[A-Za-z_][A-Za-z0-9_]*$') && !name.startsWith('PILOTAGE_'))",
        "a variable's name has letters, digits and `_`, and begins with no digit and not with `PILOTAGE_`",
    ),
    (
        "",
        "!has(self.servedModel) || !self.servedModel.matches('[\\\\x00-\\\\x1f\\\\x7f]')",
        "a name has no control characters",
    ),
    (
        "health",
        "self.timeoutSeconds <= self.intervalSeconds",
        "a look would not end before the next one; write at most `intervalSeconds`",
    ),
    (
        "health",
        "!has(self.path) || self.path.matches('^/[!\"$-~]*$')",
        "a path begins with `/` and has no blanks and no `#`",
    ),
    (
        "breaker",
        "self.openSeconds <= self.openSecondsMax",
        "the first time is longer than the longest; write at most `openSecondsMax`",
    ),
    (
        "endpoints[]",
        "!(has(self.keyFile) && has(self.keyEnv))",
        "the key is in a file or in the environment; remove one of the two",
    ),
    (
        "endpoints[]",
        "!has(self.caFile) || self.url.startsWith('https://')",
        "only an https URL has certificates; remove this, or write `https://`",
    ),
    (
        "endpoints[]",
        "!has(self.zone) || has(self.region)",
        "a zone is inside of a region; add `region`",
    ),
    (
        "endpoints[].kvEvents",
        "has(self.port) != has(self.url)",
        "events come from a `port` of the same host or from a `url`; write one",
    ),
    (
        "scaling",
        "self.min <= self.max",
        "there would be fewer copies at most than at least; write at most `max`",
    ),
    (
        "scaling",
        "self.zero != 'cold' || self.min == 0",
        "copies that rest are none; write `min: 0`, or `zero: always`",
    ),
    (
        "",
        "!has(self.scaling) || self.scaling.zero != 'warm' || (has(self.runtime) && self.runtime == 'vllm')",
        "only vLLM sleeps and wakes; write `runtime: vllm`, or `zero: cold`",
    ),
    (
        "updates",
        "self.surge > 0 || self.unavailable > 0",
        "with neither more nor fewer copies none is ever replaced; raise one of the two",
    ),
    ("updates.canary", GROWS, GROWS_WHY),
    (
        "",
        "!has(self.storage) || self.storage.kind != 'image' || (has(self.source) && self.source.startsWith('oci://'))",
        "only an artifact is mounted as it is; write a `source` of `oci://`, or `claim`",
    ),
    (
        "storage",
        "self.kind == 'claim' || (!has(self.className) && !has(self.access))",
        "`className` and `access` have an effect only with `kind: claim`; remove them",
    ),
    (
        "storage",
        "self.kind != 'claim' || oldSelf.kind != 'claim' || (has(self.className) == has(oldSelf.className) && (!has(self.className) || self.className == oldSelf.className))",
        "the class of a claim stays what it is; make another Model, or go by way of another `kind`",
    ),
    (
        "storage",
        "self.kind != 'claim' || oldSelf.kind != 'claim' || (has(self.access) ? self.access : 'ReadWriteMany') == (has(oldSelf.access) ? oldSelf.access : 'ReadWriteMany')",
        "who may mount a claim stays what it is; make another Model, or go by way of another `kind`",
    ),
    (
        "storage",
        "self.kind != 'claim' || oldSelf.kind != 'claim' || !has(self.sizeBytes) || !has(oldSelf.sizeBytes) || self.sizeBytes >= oldSelf.sizeBytes",
        "a claim never shrinks; write at least what it has",
    ),
    (
        "podTemplate",
        "!has(self.labels) || self.labels.all(key, !key.startsWith('pilotage.dev/') && !key.startsWith('app.kubernetes.io/'))",
        "labels of `pilotage.dev/` and `app.kubernetes.io/` are Pilotage's own; choose others",
    ),
    ("podTemplate.tolerations[]", TOLERATION, TOLERATION_SAYS),
];

const TOLERATION: &str = "!has(self.value) || has(self.key)";
const TOLERATION_SAYS: &str = "a value belongs to a key; add `key`, or remove the value";

const ROUTE: &[(&str, &str, &str)] = &[
    (
        "",
        "self.targets.exists(target, target.weight > 0)",
        "with weights of 0 nothing goes anywhere; give one of the targets more",
    ),
    (
        "",
        "!has(self.fallbacks) || size(self.targets) != 1 || !self.fallbacks.exists(model, model == self.targets[0].model)",
        "a fallback is what requests come from; name another Model",
    ),
    (
        "",
        "!has(self.experiment) || self.targets.filter(target, target.weight > 0).size() >= 2",
        "an experiment compares targets; give at least two of them a weight",
    ),
    (
        "",
        "!has(self.experiment) || !has(self.canary)",
        "a canary changes the shares that an experiment compares; remove one of the two",
    ),
    (
        "",
        "!has(self.canary) || !self.targets.exists(target, target.model == self.canary.model)",
        "a canary takes from the targets, so it is none of them",
    ),
    (
        "",
        "!has(self.mirror) || !self.targets.exists(target, target.model == self.mirror.model)",
        "requests go to the mirror's Model anyway; name another one",
    ),
    (
        "",
        "!has(self.spillAfterSeconds) || (has(self.regions) && size(self.regions) >= 2)",
        "there is no other region to go to; list at least two `regions`",
    ),
    (
        "",
        "!has(self.regions) || size(self.regions) == 0 || !has(self.policy) || self.policy == 'cost'",
        "only the policy `cost` weighs distance; choose that, or leave out `regions`",
    ),
    ("canary", GROWS, GROWS_WHY),
    (
        "rules[]",
        "has(self.model) != (has(self.targets) && size(self.targets) > 0)",
        "a rule leads to `targets` or to one `model`; write one of the two",
    ),
    (
        "rules[]",
        "!has(self.targets) || size(self.targets) == 0 || self.targets.exists(target, target.weight > 0)",
        "with weights of 0 nothing goes anywhere; give one of the targets more",
    ),
    (
        "rules[].when",
        "has(self.vision) || has(self.audio) || has(self.tools) || has(self.jsonSchema) || has(self.embeddings) || has(self.promptTokensMin) || has(self.promptTokensMax) || has(self.contextTokensMin) || has(self.contextTokensMax) || has(self.header) || has(self.language) || has(self.tier) || has(self.tenant) || has(self.band)",
        "the rule fits every request; write what these are like, or remove it and change `targets`",
    ),
    (
        "rules[].when",
        "(!has(self.vision) || self.vision) && (!has(self.audio) || self.audio) && (!has(self.tools) || self.tools) && (!has(self.jsonSchema) || self.jsonSchema) && (!has(self.embeddings) || self.embeddings)",
        "a rule asks for what a request needs; leave `false` out, and put a rule with `true` before this one",
    ),
    (
        "rules[].when",
        "!has(self.promptTokensMin) || !has(self.promptTokensMax) || self.promptTokensMin <= self.promptTokensMax",
        "nothing is that long and that short; write at most `promptTokensMax`",
    ),
    (
        "rules[].when",
        "!has(self.contextTokensMin) || !has(self.contextTokensMax) || self.contextTokensMin <= self.contextTokensMax",
        "nothing is that long and that short; write at most `contextTokensMax`",
    ),
    (
        "rules[].when.header",
        "!(has(self.value) && has(self.prefix))",
        "the header's value is known whole or by its beginning; remove one of the two",
    ),
    (
        "scheduling",
        "!has(self.cost) || !self.kvTokenSeconds",
        "a request costs its tokens or the room it takes; remove `cost` or `kvTokenSeconds`",
    ),
    (
        "scheduling.cost",
        "self.input > 0 || self.output > 0",
        "where tokens cost nothing nobody is ahead; give `input` or `output` a price",
    ),
    (
        "scheduling",
        "!has(self.bands) || self.bands.map(band, band.floorPercent).sum() <= 100",
        "the floors add up to more than 100 percent; lower them",
    ),
    (
        "scheduling.bands[]",
        "self.floorPercent <= self.capPercent",
        "the floor is above the cap; lower it, or raise that",
    ),
    (
        "scheduling.bands[]",
        "!has(self.ageSeconds) || (self.ageing && self.band != 'realtime')",
        "the band gets no turns for its age; remove `ageSeconds`",
    ),
];

const TENANT: &[(&str, &str, &str)] = &[
    (
        "share",
        "self.guaranteedPercent > 0 || !has(self.borrowingLimitPercent) || self.borrowingLimitPercent > 0",
        "the tenant has no guarantee and may borrow nothing, so it would never be served; raise one of the two",
    ),
    (
        "quota.budgets[]",
        "double(self.hard) > 0.0",
        "a budget of nothing refuses everything that costs; write more than 0",
    ),
    (
        "quota.budgets[]",
        "!has(self.soft) || (double(self.soft) > 0.0 && double(self.soft) <= double(self.hard))",
        "the warning comes after nothing and before the end; write more than 0 and at most `hard`",
    ),
    (
        "keys[]",
        "!has(self.notBefore) || !has(self.expires) || timestamp(self.expires) > timestamp(self.notBefore)",
        "the key ends before it begins; write a moment after `notBefore`",
    ),
];

const FLEET: &[(&str, &str, &str)] = &[
    ("", "self.kind == oldSelf.kind", "what a Fleet is stays what it is; make another one"),
    (
        "",
        "!has(self.resourceName) || self.resourceName.matches('^[-A-Za-z0-9_]+[.][-A-Za-z0-9._]*/[-A-Za-z0-9._]+$')",
        "a resource is named `DOMAIN/NAME`, as in `nvidia.com/gpu`",
    ),
    ("tolerations[]", TOLERATION, TOLERATION_SAYS),
];

/// The rules of a kind.
pub fn rules(kind: Kind) -> Vec<Rule> {
    let (table, mut all) = match kind {
        Kind::Model => (MODEL, model()),
        Kind::Route => (ROUTE, Vec::new()),
        Kind::Tenant => (TENANT, Vec::new()),
        Kind::Fleet => (FLEET, fleet()),
    };
    all.extend(table.iter().map(|(path, rule, message)| Rule {
        path,
        rule: Cow::Borrowed(*rule),
        message: Cow::Borrowed(*message),
        names: None,
    }));
    all
}

/// Fields of a Model that need others beside them. `replicas` has a default that the API server
/// writes, so nobody can tell who did.
fn model() -> Vec<Rule> {
    let source: Vec<&str> = FOR_SOURCE.into_iter().filter(|name| *name != "replicas").collect();
    let tokens = Rule {
        path: "",
        rule: format!("!has(self.resume) || self.resume != 'tokens' || (has(self.tokenIds) && self.tokenIds) || ({EMBEDDED})").into(),
        message: "answers go on from tokens only where replicas tell their ids; add `tokenIds: true` if they do, or write `text`".into(),
        names: None,
    };
    vec![
        only(&source, "has(self.source)", "where there is `source`"),
        only(&FOR_ENDPOINTS, "!has(self.source)", "where there is `endpoints`"),
        only(
            &FOR_OTHERS,
            &format!("!({EMBEDDED})"),
            "on a `runtime` other than the embedded engine",
        ),
        tokens,
    ]
}

fn fleet() -> Vec<Rule> {
    vec![
        only(&FOR_CPU, "self.kind == 'cpu'", "with `kind: cpu`"),
        only(&FOR_NODES, "self.kind == 'nodes'", "with `kind: nodes`"),
    ]
}

/// One rule for all fields that go with a condition: each rule by itself is compiled several times whenever an API
/// server takes the definition.
fn only(names: &[&str], condition: &str, place: &str) -> Rule {
    let joined = |each: &dyn Fn(&str) -> String, between: &str| {
        names.iter().map(|name| each(name)).collect::<Vec<_>>().join(between)
    };
    let any = joined(&|name| format!("has(self.{name})"), " || ");
    // Added up and not joined: an API server knows how long texts get that are added.
    let which = joined(&|name| format!("(has(self.{name}) ? '`{name}` ' : '')"), " + ");
    let effect = format!("has an effect only {place}; remove it");
    Rule {
        path: "",
        rule: format!("({condition}) || !({any})").into(),
        message: format!("{} {effect}", joined(&|name| format!("`{name}`"), " or ")).into(),
        names: Some(format!("{which} + '{effect}'")),
    }
}

/// Writes the rules of a kind into its schema.
pub(super) fn add(kind: Kind, spec: &mut Value) {
    for Rule { path, rule, message, names } in rules(kind) {
        let Some(node) = at(spec, path) else { continue };
        let mut entry = json!({ "rule": rule, "message": message });
        if let Some(names) = names {
            entry["messageExpression"] = names.into();
        }
        match node["x-kubernetes-validations"].as_array_mut() {
            Some(list) => list.push(entry),
            None => node["x-kubernetes-validations"] = json!([entry]),
        }
    }
}
