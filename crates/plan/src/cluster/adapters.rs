//! What is told of a Model's adapters: whether all copies have all of them, and if not, which are missing and why.

use serde_json::Value;

use super::conditions::Said;
use super::world::{Ref, World};
use crate::WeightsSource;
use crate::adapters::{AdapterTold, State, Told};
use crate::api::{Kind, Model};

/// The condition.
const KIND: &str = "AdaptersLoaded";

/// The reason where something went wrong with one.
pub(super) const FAILED: &str = "AdapterFailed";

/// Most adapters that a message names.
const NAMED_MAX: usize = 5;

impl World {
    /// What copies of a Model say of their adapters, nothing where one does not answer; whether that is news.
    pub fn heard_adapters(
        &mut self,
        namespace: &str,
        name: &str,
        heard: Vec<Option<Told>>,
    ) -> bool {
        let place = (namespace.to_owned(), name.to_owned());
        if self.adapters.get(&place) == Some(&heard) {
            return false;
        }
        self.adapters.insert(place.clone(), heard);
        self.look_at(Ref { kind: Kind::Model, namespace: place.0, name: place.1 });
        true
    }
}

/// What is told of a Model, after what its copies said; what is told `there` already, where they said nothing yet.
pub(super) fn said(model: &Model, heard: Option<&[Option<Told>]>, there: &Value) -> Option<Said> {
    if model.spec.adapter_sources.is_empty() {
        return None;
    }
    let Some(heard) = heard else { return before(there) };
    let copies = heard.len();
    if copies == 0 {
        return Some(Said::new(KIND, true, "AtRest", "no copy runs".to_owned()));
    }
    let mut missing = Vec::new();
    let mut has_failed = false;
    for (name, source) in &model.spec.adapter_sources {
        let of = |told: &'_ Told| told.adapters.iter().find(|one| one.name == *name).cloned();
        let all: Vec<AdapterTold> = heard.iter().flatten().filter_map(of).collect();
        let have = all.iter().filter(|one| has(one, source)).count();
        if have == copies {
            continue;
        }
        let trouble = all.iter().find_map(|one| one.trouble.as_deref());
        has_failed |= trouble.is_some();
        let why = trouble.map_or_else(String::new, |trouble| format!(": {trouble}"));
        missing.push(format!("`{name}` is on {have} of {copies} copies{why}"));
    }
    let silent = heard.iter().filter(|told| told.is_none()).count();
    let wrong_list = heard.iter().flatten().find_map(|told| told.list.clone());
    has_failed |= wrong_list.is_some();
    if missing.is_empty() {
        let message = format!("{copies} of {copies} copies have all adapters");
        return Some(Said::new(KIND, true, "Loaded", message));
    }
    let left = missing.len().saturating_sub(NAMED_MAX);
    missing.truncate(NAMED_MAX);
    missing.extend((left > 0).then(|| format!("and {left} more")));
    missing.extend(
        (silent > 0).then(|| format!("{silent} of {copies} copies do not say what they have")),
    );
    missing.extend(wrong_list);
    let reason = if has_failed { FAILED } else { "Loading" };
    Some(Said::new(KIND, false, reason, missing.join("; ")))
}

/// Whether a copy has what the Model says now, and not what it said before.
fn has(told: &AdapterTold, source: &WeightsSource) -> bool {
    // A path inside of a claim is told as it is in the pod.
    let is_same = told.source.as_ref() == Some(source) || source.is_local();
    told.state == State::Loaded && is_same
}

fn before(there: &Value) -> Option<Said> {
    let all = there["conditions"].as_array().into_iter().flatten();
    let mut all = all.filter(|one| one["type"] == KIND);
    let one = all.next()?;
    let text = |field: &str| one[field].as_str().unwrap_or_default().to_owned();
    Some(Said::new(KIND, one["status"] == "True", &text("reason"), text("message")))
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;
    use crate::{Resource, parse_all};

    fn model(sources: &str) -> Model {
        let text = format!(
            "apiVersion: pilotage.dev/v1alpha1\nkind: Model\nmetadata: {{name: m}}\nspec: {{source: 'hf:o/m', runtime: vllm, adapterSources: {{{sources}}}}}\n"
        );
        match parse_all([("m.yaml", text.as_str())]).unwrap().remove(0) {
            Resource::Model(model) => model,
            other => panic!("{other:?}"),
        }
    }

    fn told(adapters: &[(&str, &str, State, Option<&str>)]) -> Option<Told> {
        let one =
            |(name, source, state, trouble): &(&str, &str, State, Option<&str>)| AdapterTold {
                name: (*name).to_owned(),
                source: Some(source.parse().unwrap()),
                state: *state,
                trouble: trouble.map(str::to_owned),
            };
        Some(Told { ready: true, adapters: adapters.iter().map(one).collect(), ..Told::default() })
    }

    #[test]
    fn copies_are_told_together() {
        let check = |sources: &str, heard: &[Option<Told>], expect: (bool, &str, &str)| {
            let said = said(&model(sources), Some(heard), &Value::Null).unwrap();
            assert_eq!((said.is_true, said.reason.as_str(), said.message.as_str()), expect);
        };
        let sql = "sql: 'hf:o/sql'";
        let loaded = || told(&[("sql", "hf:o/sql", State::Loaded, None)]);
        check(sql, &[loaded(), loaded()], (true, "Loaded", "2 of 2 copies have all adapters"));
        check(sql, &[], (true, "AtRest", "no copy runs"));
        let fetching = told(&[("sql", "hf:o/sql", State::Fetching, None)]);
        check(sql, &[loaded(), fetching], (false, "Loading", "`sql` is on 1 of 2 copies"));
        let failed = told(&[("sql", "hf:o/sql", State::Waiting, Some("too large"))]);
        check(sql, &[failed, loaded()], (false, FAILED, "`sql` is on 1 of 2 copies: too large"));
        let silent = "`sql` is on 1 of 2 copies; 1 of 2 copies do not say what they have";
        check(sql, &[loaded(), None], (false, "Loading", silent));
        // What is loaded is of another source under the same name: the list is not there yet.
        check("sql: 'hf:o/sql2'", &[loaded()], (false, "Loading", "`sql` is on 0 of 1 copies"));
    }

    #[test]
    fn what_was_told_stays_until_copies_speak() {
        let with = model("sql: 'hf:o/sql'");
        assert_eq!(said(&with, None, &Value::Null), None);
        let there = json!({ "conditions": [
            { "type": KIND, "status": "True", "reason": "Loaded", "message": "2 of 2" },
        ] });
        let again = said(&with, None, &there).unwrap();
        assert_eq!((again.is_true, again.reason.as_str()), (true, "Loaded"));
    }
}
