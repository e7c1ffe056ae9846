//! `pilotage render`: what manifests become on Kubernetes.

use std::collections::{BTreeMap, BTreeSet};

use pilotage_plan::render::kubernetes::{Object, Wanted};
use pilotage_plan::size::ModelFacts;
use pilotage_plan::{Resource, manifest, render::kubernetes};

use super::{crd, plan, up};
use crate::args::{Manifests, Render};
use crate::exit::Wrong;
use crate::output;

/// Prints the objects.
pub(crate) async fn run(args: Render) -> anyhow::Result<()> {
    let resources = resources(&args.manifests)?;
    let mut cluster = args.cluster.cluster(&args.namespace, &args.system_namespace);
    cluster.facts = facts(&args.manifests, &resources).await?;
    let rendered = kubernetes::render(&resources, &cluster)
        .map_err(|errors| Wrong::new(manifest::join(&errors)))?;
    let objects: Vec<_> = rendered.objects.iter().map(Object::value).cloned().collect();
    crd::show(&objects, args.output)?;
    tell(&rendered.secrets);
    for note in &rendered.notes {
        output::note(&format!("note: {note}"));
    }
    Ok(())
}

/// Says which secrets have to be made.
pub(crate) fn tell(secrets: &[Wanted]) {
    for Wanted { name, entry, how } in secrets {
        output::note(&format!("secret `{name}` has to be there, with `{entry}`: {how}"));
    }
}

/// The resources of the manifests.
pub(crate) fn resources(manifests: &Manifests) -> anyhow::Result<Vec<Resource>> {
    let files = up::texts(&manifests.files)?;
    let named = files.iter().map(|(name, text)| (name.as_str(), text.as_str()));
    let resources = pilotage_plan::parse_all(named);
    Ok(resources.map_err(|errors| Wrong::new(manifest::join(&errors)))?)
}

/// What the heads of weights say, where that is wanted.
pub(crate) async fn facts(
    manifests: &Manifests,
    resources: &[Resource],
) -> anyhow::Result<BTreeMap<String, ModelFacts>> {
    let mut facts = BTreeMap::new();
    if !manifests.sizes {
        return Ok(facts);
    }
    let sources: BTreeSet<_> = resources
        .iter()
        .filter_map(|resource| match resource {
            Resource::Model(model) => model.spec.source.clone(),
            Resource::Tenant(_) | Resource::Route(_) | Resource::Fleet(_) => None,
        })
        .collect();
    for source in sources {
        match plan::facts(&source).await {
            Ok(read) => drop(facts.insert(source.to_string(), read)),
            Err(error) => output::note(&format!("note: nothing is known of {source}: {error:#}")),
        }
    }
    Ok(facts)
}
