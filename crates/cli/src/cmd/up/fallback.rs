//! What `pilotage up` begins with where the versions that were kept cannot be had: their weights are gone and
//! the hub is away, or the machine has less than it had.
//!
//! Contract: only the Model that is in the way begins with what manifests say, all others go on with what they
//! had. A version that was taken back never serves because the other one cannot be had: then nothing begins.

use anyhow::Context as _;
use pilotage_plan::Resource;
use pilotage_plan::api::status::{NextStatus, UpdatePhase};
use pilotage_plan::update::{AllKept, Kept, as_they_serve, revision};

use crate::exit::Wrong;

/// A Model that serves another version than manifests say.
#[derive(Clone, Debug, Eq, PartialEq)]
pub(super) struct Changed {
    name: String,
    /// What was taken back, and why, where manifests say that.
    taken_back: Option<NextStatus>,
}

/// The Models that serve other versions than these; those whose version was taken back last.
pub(super) fn changed(resources: &[Resource], kept: &AllKept) -> Vec<Changed> {
    let serving = as_they_serve(resources, kept);
    let differ = resources.iter().zip(&serving).filter(|(said, serves)| said != serves);
    let mut all: Vec<Changed> = differ
        .filter_map(|(said, _)| match said {
            Resource::Model(model) => {
                let next = kept.get(model.name()).and_then(|kept| kept.update.next.clone());
                let taken_back = next.filter(|next| {
                    next.phase == UpdatePhase::RolledBack && next.revision == revision(&model.spec)
                });
                Some(Changed { name: model.name().to_owned(), taken_back })
            }
            _ => None,
        })
        .collect();
    all.sort_by_key(|one| one.taken_back.is_some());
    all
}

/// Begins with what was kept, or with as much of it as can be had; whether that is less.
///
/// # Errors
/// Nothing can begin without a version that was taken back, or at all.
pub(super) async fn begin<T>(
    kept: &AllKept,
    changed: &[Changed],
    attempt: impl AsyncFn(AllKept) -> anyhow::Result<T>,
) -> anyhow::Result<(T, bool)> {
    let error = match attempt(kept.clone()).await {
        Ok(begun) => return Ok((begun, false)),
        Err(error) if changed.is_empty() => return Err(error),
        Err(error) => error,
    };
    let culprits = culprits(kept, changed, &attempt).await;
    if let Some(taken_back) = culprits.iter().find_map(|one| Some((*one, one.taken_back.as_ref()?)))
    {
        return Err(refused(taken_back, &error));
    }
    let names: Vec<&str> = culprits.iter().map(|one| one.name.as_str()).collect();
    if names.is_empty() {
        return Err(error).context("what served cannot be had, and no one Model is the cause");
    }
    // What serves may be had where a trial beside it cannot.
    let calm = without_trials(kept, &names);
    if calm != *kept
        && let Ok(begun) = attempt(calm).await
    {
        tell(&names, &error, "its trial cannot go on, and begins anew");
        return Ok((begun, true));
    }
    tell(&names, &error, "what served cannot be had: what manifests say serves without a trial");
    Ok((attempt(without(kept, &names)).await?, true))
}

/// The Models without whose versions all others can go on: one of them, or else all that cannot even where
/// nobody else does.
async fn culprits<'a, T>(
    kept: &AllKept,
    changed: &'a [Changed],
    attempt: &impl AsyncFn(AllKept) -> anyhow::Result<T>,
) -> Vec<&'a Changed> {
    for one in changed {
        if attempt(without(kept, &[&one.name])).await.is_ok() {
            return vec![one];
        }
    }
    let mut culprits = Vec::new();
    for one in changed {
        let others = changed.iter().map(|other| other.name.as_str());
        let others: Vec<&str> = others.filter(|name| *name != one.name).collect();
        if attempt(without(kept, &others)).await.is_err() {
            culprits.push(one);
        }
    }
    culprits
}

fn without(kept: &AllKept, names: &[&str]) -> AllKept {
    let stays = |(name, _): &(&String, &Kept)| !names.contains(&name.as_str());
    kept.iter().filter(stays).map(|(name, kept)| (name.clone(), kept.clone())).collect()
}

fn without_trials(kept: &AllKept, names: &[&str]) -> AllKept {
    let one = |(name, kept): (&String, &Kept)| {
        let mut kept = kept.clone();
        if names.contains(&name.as_str()) {
            kept.update.next = None;
            kept = Kept { copies: None, replicas: None, crowded: None, ..kept };
        }
        (name.clone(), kept)
    };
    kept.iter().map(one).collect()
}

fn refused((one, taken_back): (&Changed, &NextStatus), error: &anyhow::Error) -> anyhow::Error {
    let (name, why) = (&one.name, &taken_back.message);
    Wrong::new(format!(
        "Model `{name}`: the version that served cannot be had ({error:#}), and the one that manifests say was \
         taken back: {why}"
    ))
    .hint("bring back what the one that served needs, or change the Model")
    .into()
}

fn tell(models: &[&str], error: &anyhow::Error, what: &str) {
    tracing::warn!(models = models.join(", "), error = format!("{error:#}"), "{what}");
}

#[cfg(test)]
mod tests {
    use parking_lot::Mutex;
    use pilotage_plan::parse_all;
    use pilotage_plan::update::{Copies, what_runs};

    use super::*;

    fn resources(file: &str) -> Vec<Resource> {
        let model = |name: &str| {
            format!(
                "apiVersion: pilotage.dev/v1alpha1\nkind: Model\nmetadata: {{name: {name}}}\nspec: \
                 {{source: 'file:{name}-{file}', updates: {{canary: {{}}}}}}\n"
            )
        };
        let text = ["a", "b", "c"].map(model).join("---\n");
        parse_all([("m.yaml", text.as_str())]).unwrap()
    }

    /// Old versions of all serve; the new one of `a` is on trial, that of `c` was taken back.
    fn kept() -> AllKept {
        let news = resources("new");
        let of = |(old, new): (&Resource, &Resource)| {
            let (Resource::Model(old), Resource::Model(new)) = (old, new) else { panic!() };
            let phase = match old.name() {
                "a" => Some(UpdatePhase::Trying),
                "c" => Some(UpdatePhase::RolledBack),
                _ => None,
            };
            let mut kept = Kept::default();
            kept.update.serving = Some(revision(&old.spec));
            kept.update.serving_spec = Some(what_runs(&old.spec));
            kept.update.next = phase.map(|phase| NextStatus {
                revision: revision(&new.spec),
                phase,
                percent_max: 0,
                percent: 0,
                since: "2027-01-01T00:00:00Z".to_owned(),
                unready_since: None,
                message: "it did worse".to_owned(),
            });
            kept.copies =
                (phase == Some(UpdatePhase::Trying)).then_some(Copies { serving: 1, next: 1 });
            (old.name().to_owned(), kept)
        };
        resources("old").iter().zip(&news).map(of).collect()
    }

    fn serving(kept: &AllKept) -> Vec<&str> {
        kept.keys().map(String::as_str).collect()
    }

    /// What is begun with where only that can be had: how much of each Model is kept, and whether it is less.
    async fn tried(can: impl Fn(&AllKept) -> bool) -> (Result<(String, bool), String>, usize) {
        let kept = kept();
        let changed = changed(&resources("new"), &kept);
        let names: Vec<&str> = changed.iter().map(|one| one.name.as_str()).collect();
        assert_eq!(names, ["a", "b", "c"]);
        let attempts = Mutex::new(0);
        let attempt = async |kept: AllKept| {
            *attempts.lock() += 1;
            anyhow::ensure!(can(&kept), "no room");
            let one = |(name, kept): (&String, &Kept)| match &kept.update.next {
                Some(next) => format!("{name} {:?}", next.phase),
                None => name.clone(),
            };
            Ok(kept.iter().map(one).collect::<Vec<_>>().join(", "))
        };
        let begun = begin(&kept, &changed, attempt).await.map_err(|error| format!("{error:#}"));
        (begun, attempts.into_inner())
    }

    #[tokio::test]
    async fn only_the_model_that_is_in_the_way_begins_anew() {
        let check = async |can: &dyn Fn(&AllKept) -> bool, expect: &str, less: bool| {
            let (begun, attempts) = tried(can).await;
            assert_eq!(begun, Ok((expect.to_owned(), less)), "{attempts} attempts");
        };
        let all = "a Trying, b, c RolledBack";
        check(&|_| true, all, false).await;
        check(&|kept| !serving(kept).contains(&"b"), "a Trying, c RolledBack", true).await;
        // The weights of the old version are gone, or there is no room for a second one.
        check(&|kept| !serving(kept).contains(&"a"), "b, c RolledBack", true).await;
        let calm = |kept: &AllKept| kept.get("a").is_none_or(|a| a.update.next.is_none());
        check(&calm, "a, b, c RolledBack", true).await;
        let neither = |kept: &AllKept| !kept.contains_key("a") && !kept.contains_key("b");
        check(&neither, "c RolledBack", true).await;
    }

    #[tokio::test]
    async fn what_was_taken_back_never_serves() {
        let (begun, _) = tried(|kept| !kept.contains_key("c")).await;
        let error = begun.unwrap_err();
        assert!(error.contains("`c`") && error.contains("no room"), "{error}");
        assert!(error.contains("was taken back: it did worse"), "{error}");
        let (begun, _) = tried(|_| false).await;
        assert!(begun.is_err());
        // Another version than the one that was taken back may.
        let changed = changed(&resources("newer"), &kept());
        assert!(changed.iter().all(|one| one.taken_back.is_none()), "{changed:?}");
    }

    #[tokio::test]
    async fn without_another_version_there_is_nothing_to_fall_back_to() {
        let attempts = Mutex::new(0);
        let attempt = async |_: AllKept| -> anyhow::Result<()> {
            *attempts.lock() += 1;
            anyhow::bail!("no weights")
        };
        let begun = begin(&kept(), &changed(&resources("old"), &kept()), attempt).await;
        assert_eq!(
            (begun.unwrap_err().to_string().as_str(), attempts.into_inner()),
            ("no weights", 1)
        );
    }
}
