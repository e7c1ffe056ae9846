//! Applies what is wished for, in order.

use std::time::Duration;

use pilotage_plan::cluster::Failure;
use pilotage_plan::render::kubernetes::install;
use pilotage_shell::secret::Secret;
use serde_json::Value;

use super::own::There;
use super::place::Place;
use super::{Done, InstallError, Installer, TRIES_MAX, Wish, asked, words};
use crate::kubernetes::change::{Change, tried};

/// How long the API server may take to serve new definitions.
const SERVED_WITHIN: Duration = Duration::from_secs(60);

impl Installer {
    /// Installs, and waits as long as is wished for the parts to be available.
    ///
    /// # Errors
    /// What hinders. What was applied until then stays, and doing it again goes on from there.
    pub async fn install(&self, wish: &Wish) -> Result<Done, InstallError> {
        let ready = self.preflight(wish).await?;
        self.conflicts(wish, &ready).await?;
        let mut done = Done::default();
        // Whom the API server asks goes while it still answers.
        let (first, rest): (Vec<&There>, Vec<&There>) =
            ready.leftovers.iter().partition(|there| there.place.plural == "apiservices");
        done.gone += self.delete(first.into_iter()).await?;
        if !ready.objects.iter().any(|(object, _)| object["kind"] == "Namespace") {
            done.key_made = self.admin_key(wish).await?;
        }
        let mut all = ready.objects.iter().peekable();
        while let Some((object, is)) = all.next() {
            self.apply(wish, object, is.as_ref(), &mut done).await?;
            let is_definition = |object: &Value| object["kind"] == "CustomResourceDefinition";
            let is_last = !all.peek().is_some_and(|(next, _)| is_definition(next));
            if is_definition(object) && is_last {
                self.served(wish).await?;
            }
            if object["kind"] == "Namespace" {
                done.key_made = self.admin_key(wish).await?;
            }
        }
        done.gone += self.delete(rest.into_iter()).await?;
        if !wish.wait.is_zero() {
            self.available(wish).await?;
        }
        Ok(done)
    }

    /// What installing would change; nothing is written.
    ///
    /// # Errors
    /// What hinders.
    pub async fn preview(&self, wish: &Wish) -> Result<Vec<Change>, InstallError> {
        let ready = self.preflight(wish).await?;
        let mut all = Vec::new();
        for (object, _) in &ready.objects {
            let place = Place::of(object);
            let change = tried(&self.calls, place.path(), object, wish.manner()).await;
            all.push(change.map_err(asked)?);
        }
        let secret = self.admin_secret(wish);
        if self.calls.get(secret.path()).await.map_err(asked)?.is_none() {
            let after = install::admin_secret(&secret.namespace, "");
            all.push(Change { before: None, after: Some(after), is_exact: false, refusal: None });
        }
        all.extend(ready.leftovers.into_iter().map(|there| Change::end(there.is)));
        Ok(all)
    }

    async fn apply(
        &self,
        wish: &Wish,
        object: &Value,
        is: Option<&Value>,
        done: &mut Done,
    ) -> Result<(), InstallError> {
        let place = Place::of(object);
        let what = words(object);
        let mut tries = 0;
        let after = loop {
            tries += 1;
            match self.calls.apply_as(place.path(), object, wish.manner()).await {
                Ok(after) => break after,
                Err(failure) if tries < TRIES_MAX && passes(&failure) => {
                    self.pause(Duration::from_secs(1)).await;
                }
                Err(failure) => return Err(refused(what, failure)),
            }
        };
        let word = match is {
            None => "made",
            Some(is) if essence(is) != essence(&after) => "changed",
            Some(_) => "as it was",
        };
        match word {
            "made" => done.made += 1,
            "changed" => done.changed += 1,
            _ => done.kept += 1,
        }
        (self.tell)(&format!("{what}: {word}"));
        Ok(())
    }

    fn admin_secret(&self, wish: &Wish) -> Place {
        let namespace = &wish.installation.cluster.namespace;
        Place::named(("v1", "secrets"), namespace, install::ADMIN_SECRET)
    }

    /// Makes the key of operators' listeners, unless there is one; whether it did.
    async fn admin_key(&self, wish: &Wish) -> Result<bool, InstallError> {
        let place = self.admin_secret(wish);
        if let Some(is) = self.calls.get(place.path()).await.map_err(asked)? {
            return match is["data"]["key"].as_str().filter(|key| !key.is_empty()) {
                Some(_) => Ok(false),
                None => Err(InstallError::NoKey),
            };
        }
        let key = Secret::generate().map_err(InstallError::Chance)?;
        let secret = install::admin_secret(&place.namespace, key.expose());
        match self.calls.create(place.path(), &secret).await {
            Ok(_) => {
                (self.tell)(&format!("Secret {}: made, with a key by chance", place.name));
                Ok(true)
            }
            // Somebody was faster.
            Err(failure) if failure.code == 409 => Ok(false),
            Err(failure) => Err(refused(format!("Secret {}", place.name), failure)),
        }
    }

    /// Waits until the API server serves the definitions.
    async fn served(&self, wish: &Wish) -> Result<(), InstallError> {
        let limit = self.clock.now_nanos() + nanos(SERVED_WITHIN);
        for definition in &wish.definitions {
            let place = Place::of(definition);
            loop {
                let is = self.calls.get(place.path()).await.map_err(asked)?;
                if is.is_some_and(|is| holds(&is, "Established")) {
                    break;
                }
                if self.clock.now_nanos() >= limit {
                    return Err(InstallError::NotServed(place.name));
                }
                self.pause(Duration::from_millis(500)).await;
            }
        }
        Ok(())
    }
}

/// Whether a condition of an object holds.
pub(super) fn holds(object: &Value, condition: &str) -> bool {
    let mut all = object["status"]["conditions"].as_array().into_iter().flatten();
    all.any(|one| one["type"] == condition && one["status"] == "True")
}

pub(super) fn nanos(time: Duration) -> u64 {
    u64::try_from(time.as_nanos()).unwrap_or(u64::MAX)
}

/// Whether it may go well in a moment: the API server has too much to do, or has not heard of the namespace.
fn passes(failure: &Failure) -> bool {
    matches!(failure.code, 0 | 429 | 500..=504)
}

pub(super) fn refused(what: String, failure: Failure) -> InstallError {
    match failure.code {
        0 | 429 | 500.. => InstallError::Server(failure),
        409 => InstallError::Conflict { what, message: failure.message },
        _ => InstallError::Refused { what, message: failure.message },
    }
}

/// An object without what controllers say in it all the time, and what the API server counts.
fn essence(object: &Value) -> Value {
    let mut object = object.clone();
    if let Some(fields) = object.as_object_mut() {
        fields.remove("status");
    }
    if let Some(metadata) = object["metadata"].as_object_mut() {
        metadata.remove("resourceVersion");
        metadata.remove("managedFields");
    }
    object
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn what_controllers_say_is_no_change() {
        let object = |version: &str, ready: u32, replicas: u32| {
            json!({
                "metadata": { "name": "a", "resourceVersion": version, "managedFields": [version] },
                "spec": { "replicas": replicas },
                "status": { "readyReplicas": ready },
            })
        };
        assert_eq!(essence(&object("1", 0, 2)), essence(&object("2", 2, 2)));
        assert_ne!(essence(&object("1", 0, 2)), essence(&object("2", 0, 3)));
    }
}
