//! Takes Pilotage out of a cluster: what it was made of, and what it made for itself. Models stay, unless their
//! definitions go; what keeps their nodes from being drained does not, since nobody is left to move copies.

use std::collections::BTreeMap;
use std::time::Duration;

use pilotage_plan::api::{API_VERSION, Kind};
use pilotage_plan::cluster::Failure;
use pilotage_plan::crd::Names;
use pilotage_plan::render::kubernetes::install;
use serde_json::{Value, json};

use super::apply::nanos;
use super::own::{There, is_made_here};
use super::place::Place;
use super::preflight::free;
use super::{InstallError, Installer, MANAGER, asked};
use crate::kubernetes::call::Manner;

/// Resources that are counted one by one.
const COUNTED_MAX: usize = 500;

/// Budgets that are looked at.
const BUDGETS_MAX: usize = 10_000;

/// How long is waited for operators to end, which would make budgets anew.
const ENDED_WITHIN: Duration = Duration::from_secs(60);

/// What there is to be removed.
#[derive(Clone, Debug, Default)]
pub struct Inventory {
    namespace: String,
    /// Objects in the order in which they go.
    objects: Vec<There>,
    /// Resources of the whole cluster, which go with their definitions, by kind.
    pub resources: BTreeMap<&'static str, usize>,
    /// Definitions that are there.
    definitions: Vec<There>,
    /// Budgets of Models, which refuse evictions until an operator has moved copies.
    budgets: Vec<There>,
    /// Why the namespace stays, if it does.
    pub stays: Option<String>,
    /// Whether what `install` wrote into a namespace that stays is taken back.
    lets_go: bool,
}

impl Inventory {
    /// What goes, in words.
    pub fn objects(&self) -> impl Iterator<Item = String> {
        self.objects.iter().map(There::words)
    }

    /// Whether nothing of it is there, definitions aside.
    pub const fn is_empty(&self) -> bool {
        self.objects.is_empty()
    }

    /// How many definitions are there.
    pub const fn definitions(&self) -> usize {
        self.definitions.len()
    }

    /// How many Models have a budget that refuses evictions.
    pub const fn budgets(&self) -> usize {
        self.budgets.len()
    }
}

impl Installer {
    /// What is there of an installation in that namespace.
    ///
    /// # Errors
    /// The API server does not say, or Helm has it.
    pub async fn inventory(&self, namespace: &str) -> Result<Inventory, InstallError> {
        let mut inventory = Inventory { namespace: namespace.to_owned(), ..Inventory::default() };
        let own = self.own(namespace).await?;
        let home = self.namespace(namespace).await?;
        for there in own.all {
            match there.place.plural.as_str() {
                "namespaces" => {}
                "customresourcedefinitions" => {
                    free(&there.is)?;
                    inventory.definitions.push(there);
                }
                _ => {
                    free(&there.is)?;
                    inventory.objects.push(there);
                }
            }
        }
        self.made(&mut inventory).await?;
        // Who makes things goes before what it made.
        inventory.objects.sort_by_key(|there| there.place.plural != "deployments");
        self.count(&mut inventory).await?;
        if !inventory.is_empty() {
            inventory.budgets = self.model_budgets(namespace, own.is_whole).await?;
        }
        let Some(home) = home else { return Ok(inventory) };
        if !is_made_here(&home.is) {
            let why = "it was there before, or somebody else made it";
            inventory.stays = Some(why.to_owned());
            return Ok(inventory);
        }
        let ours: Vec<Place> = inventory.objects.iter().map(|there| there.place.clone()).collect();
        inventory.stays = self.strangers(namespace, &ours).await?;
        match inventory.stays {
            Some(_) => inventory.lets_go = true,
            None => inventory.objects.push(home),
        }
        Ok(inventory)
    }

    /// What the parts made for themselves.
    async fn made(&self, inventory: &mut Inventory) -> Result<(), InstallError> {
        let admin = ("v1", "secrets", install::ADMIN_SECRET);
        for (version, plural, name) in install::MADE.into_iter().chain([admin]) {
            let place = Place::named((version, plural), &inventory.namespace, name);
            let is = self.calls.get(place.path()).await.map_err(asked)?;
            inventory.objects.extend(is.map(|is| There { place, is }));
        }
        Ok(())
    }

    /// Counts resources: of the whole cluster, or of the namespace where no more may be seen.
    async fn count(&self, inventory: &mut Inventory) -> Result<(), InstallError> {
        for kind in Kind::ALL {
            let plural = Names::of(kind).plural;
            let namespace = &inventory.namespace;
            let whole = format!("/apis/{API_VERSION}/{plural}?limit={COUNTED_MAX}");
            let here =
                format!("/apis/{API_VERSION}/namespaces/{namespace}/{plural}?limit={COUNTED_MAX}");
            let count = self.seen(&whole, &here).await?.len();
            if count > 0 {
                inventory.resources.insert(kind.name(), count);
            }
        }
        Ok(())
    }

    /// The budgets of Models that the operator of this installation looked after.
    async fn model_budgets(
        &self,
        namespace: &str,
        whole: bool,
    ) -> Result<Vec<There>, InstallError> {
        let labels =
            "app.kubernetes.io%2Fpart-of%3Dpilotage%2Capp.kubernetes.io%2Fcomponent%3Dengine";
        let rest = format!("poddisruptionbudgets?limit={BUDGETS_MAX}&labelSelector={labels}");
        let here = format!("/apis/policy/v1/namespaces/{namespace}/{rest}");
        let all = match whole {
            true => self.seen(&format!("/apis/policy/v1/{rest}"), &here).await?,
            false => self.seen(&here, &here).await?,
        };
        let text = |one: &Value, field: &str| {
            one["metadata"][field].as_str().unwrap_or_default().to_owned()
        };
        let each = all.into_iter().map(|mut is| {
            // Items of lists leave out what they are.
            is["kind"] = "PodDisruptionBudget".into();
            let sort = ("policy/v1", "poddisruptionbudgets");
            let place = Place::named(sort, &text(&is, "namespace"), &text(&is, "name"));
            There { place, is }
        });
        Ok(each.collect())
    }

    /// What is listed of the whole cluster; where that may not be seen, of the namespace; else nothing.
    async fn seen(&self, whole: &str, here: &str) -> Result<Vec<Value>, InstallError> {
        for target in [whole, here] {
            match self.items(target).await {
                Err(InstallError::Forbidden(_)) => {}
                other => return other,
            }
        }
        Ok(Vec::new())
    }

    /// Removes what was found, and with `definitions` all resources of the cluster. What is gone already is well.
    ///
    /// # Errors
    /// The API server refuses.
    pub async fn remove(
        &self,
        found: &Inventory,
        definitions: bool,
    ) -> Result<usize, InstallError> {
        let more = found.definitions.iter().filter(|_| definitions);
        let mut count = self.delete(more.chain(&found.objects)).await?;
        if !found.budgets.is_empty() {
            self.ended(&found.namespace).await?;
            count += self.delete(found.budgets.iter()).await?;
        }
        if found.lets_go {
            self.let_go(&found.namespace).await?;
        }
        Ok(count)
    }

    /// Deletes these, and tells so; how many there were.
    pub(super) async fn delete(
        &self,
        all: impl Iterator<Item = &There>,
    ) -> Result<usize, InstallError> {
        let mut count = 0;
        for there in all {
            let words = there.words();
            let done = self.calls.delete(there.place.path(), there.uid()).await;
            let gone = done.map_err(|failure| refused(&words, failure))?;
            if gone.is_some() {
                count += 1;
                (self.tell)(&format!("{words}: deleted"));
            }
        }
        Ok(count)
    }

    /// Waits until no operator runs there, though not for ever.
    async fn ended(&self, namespace: &str) -> Result<(), InstallError> {
        let limit = self.clock.now_nanos().saturating_add(nanos(ENDED_WITHIN));
        let labels =
            "app.kubernetes.io%2Fname%3Dpilotage%2Capp.kubernetes.io%2Fcomponent%3Doperator";
        let target = format!("/api/v1/namespaces/{namespace}/pods?limit=1&labelSelector={labels}");
        while !self.items(&target).await?.is_empty() && self.clock.now_nanos() < limit {
            self.pause(Duration::from_secs(1)).await;
        }
        Ok(())
    }

    /// Takes back what `install` wrote into a namespace that stays.
    async fn let_go(&self, namespace: &str) -> Result<(), InstallError> {
        let place = Place::named(("v1", "namespaces"), "", namespace);
        let bare =
            json!({ "apiVersion": "v1", "kind": "Namespace", "metadata": { "name": namespace } });
        let manner = Manner { manager: MANAGER, force: false, dry_run: false };
        let words = format!("Namespace {namespace}");
        let done = self.calls.apply_as(place.path(), &bare, manner).await;
        done.map_err(|failure| refused(&words, failure))?;
        (self.tell)(&format!("{words}: our labels are taken away"));
        Ok(())
    }
}

fn refused(words: &str, failure: Failure) -> InstallError {
    match failure.code {
        0 | 429 | 500.. => InstallError::Server(failure),
        _ => InstallError::Refused { what: words.to_owned(), message: failure.message },
    }
}
