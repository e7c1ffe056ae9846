//! One kind, as it is and as it changes: listed, watched from there on, listed again where the API server
//! does not remember how far that was.
//!
//! Contract: it goes on for ever. Nothing is taken back while the API server is away. Who asks in vain waits
//! longer each time, not all at the same moment, and as long as the API server says.

use std::time::Duration;

use futures_util::{StreamExt as _, pin_mut};
use kube::api::{Api, DynamicObject, ListParams, WatchEvent, WatchParams};
use pilotage_shell::clock::Clock;
use pilotage_shell::id::random_u64;
use serde_json::Value;

/// Objects that are asked for at once.
const PAGE: u32 = 500;

/// Seconds that a watch lasts; then it goes on where it was.
const WATCH_SECONDS: u32 = 280;

/// The first pause after a failure, which doubles with each further one.
const PAUSE_MIN: Duration = Duration::from_millis(500);

/// The longest pause.
const PAUSE_MAX: Duration = Duration::from_secs(30);

/// The pause until it is looked again whether there is such a kind.
const ABSENT_PAUSE: Duration = Duration::from_secs(60);

/// Most characters of a failure that are kept.
const ERROR_CHARS_MAX: usize = 300;

/// Namespace and name.
pub(crate) type Place = (String, String);

/// What there is to tell of a kind.
#[derive(Debug)]
pub(crate) enum News {
    /// This is all there is.
    All(Vec<(Place, Value)>),
    /// There is this one, new or other than it was.
    Set(Place, Value),
    /// This one is gone.
    Gone(Place),
    /// The API server answers, and nothing changed.
    Heard,
    /// It does not answer, or not well.
    Lost(String),
    /// It has no such kind.
    Absent(String),
}

/// What is followed.
pub(crate) struct Followed {
    pub(crate) kind: &'static str,
    api: Api<DynamicObject>,
    labels: Option<String>,
    fields: Option<String>,
    /// Whether a cluster without it, or that does not show it, is complete.
    is_optional: bool,
}

/// Why there is nothing more of a watch.
enum End {
    /// It is over, and goes on from that version.
    Over(String),
    /// All has to be listed again.
    Forgotten,
    /// It failed.
    Failed(kube::Error, String),
}

impl Followed {
    pub(crate) const fn all(kind: &'static str, api: Api<DynamicObject>) -> Self {
        Self { kind, api, labels: None, fields: None, is_optional: false }
    }

    pub(crate) fn labelled(self, selector: &str) -> Self {
        Self { labels: Some(selector.to_owned()), ..self }
    }

    pub(crate) fn named(self, name: &str) -> Self {
        Self { fields: Some(format!("metadata.name={name}")), ..self }
    }

    pub(crate) fn optional(self) -> Self {
        Self { is_optional: true, ..self }
    }

    pub(crate) async fn follow(self, clock: Clock, mut tell: impl FnMut(News) + Send) {
        let mut failures = 0_u32;
        loop {
            let mut version = match self.list().await {
                Ok((all, version)) => {
                    tell(News::All(all));
                    failures = 0;
                    version
                }
                Err(error) if self.is_absent(&error) => {
                    let why = match self.is_optional {
                        true => words(&error),
                        false => {
                            format!("this cluster has no such kind; apply {}", self.definitions())
                        }
                    };
                    tell(if self.is_optional { News::Absent(why) } else { News::Lost(why) });
                    let pause = if self.is_optional { ABSENT_PAUSE } else { ABSENT_PAUSE / 12 };
                    sleep(clock, spread(pause)).await;
                    continue;
                }
                Err(error) => {
                    tell(News::Lost(words(&error)));
                    failures = failures.saturating_add(1);
                    sleep(clock, pause(failures, &error)).await;
                    continue;
                }
            };
            loop {
                match self.watch(version, &mut failures, &mut tell).await {
                    End::Over(at) => version = at,
                    End::Forgotten => break,
                    End::Failed(error, at) => {
                        version = at;
                        tell(News::Lost(words(&error)));
                        failures = failures.saturating_add(1);
                        sleep(clock, pause(failures, &error)).await;
                    }
                }
            }
        }
    }

    /// What brings its kind.
    fn definitions(&self) -> &'static str {
        match self.kind {
            "InferencePool" => "those of the Gateway API Inference Extension",
            _ => "`pilotage crd`",
        }
    }

    /// Whether it is of no use to ask again soon.
    fn is_absent(&self, error: &kube::Error) -> bool {
        is(error, 404) || (self.is_optional && is(error, 403))
    }

    async fn list(&self) -> Result<(Vec<(Place, Value)>, String), kube::Error> {
        let mut params = ListParams {
            label_selector: self.labels.clone(),
            field_selector: self.fields.clone(),
            limit: Some(PAGE),
            ..ListParams::default()
        };
        let mut all = Vec::new();
        loop {
            let page = self.api.list(&params).await?;
            all.extend(page.items.into_iter().filter_map(read));
            match page.metadata.continue_.filter(|token| !token.is_empty()) {
                Some(token) => params.continue_token = Some(token),
                None => {
                    return Ok((all, page.metadata.resource_version.unwrap_or_default()));
                }
            }
        }
    }

    async fn watch(
        &self,
        mut version: String,
        failures: &mut u32,
        tell: &mut (impl FnMut(News) + Send),
    ) -> End {
        let params = WatchParams {
            label_selector: self.labels.clone(),
            field_selector: self.fields.clone(),
            timeout: Some(WATCH_SECONDS),
            bookmarks: true,
            send_initial_events: false,
        };
        let events = match self.api.watch(&params, &version).await {
            Ok(events) => events,
            Err(error) if is(&error, 410) => return End::Forgotten,
            Err(error) => return End::Failed(error, version),
        };
        tell(News::Heard);
        pin_mut!(events);
        while let Some(event) = events.next().await {
            let object = match event {
                Ok(WatchEvent::Error(status)) if status.code == 410 => return End::Forgotten,
                Ok(WatchEvent::Error(status)) => {
                    return End::Failed(kube::Error::Api(status), version);
                }
                Err(error) => return End::Failed(error, version),
                Ok(event) => event,
            };
            *failures = 0;
            match object {
                WatchEvent::Added(object) | WatchEvent::Modified(object) => {
                    version = object.metadata.resource_version.clone().unwrap_or(version);
                    if let Some((place, object)) = read(object) {
                        tell(News::Set(place, object));
                    }
                }
                WatchEvent::Deleted(object) => {
                    version = object.metadata.resource_version.clone().unwrap_or(version);
                    tell(News::Gone(place(&object)));
                }
                WatchEvent::Bookmark(mark) => {
                    version = mark.metadata.resource_version;
                    tell(News::Heard);
                }
                WatchEvent::Error(_) => {}
            }
        }
        End::Over(version)
    }
}

fn place(object: &DynamicObject) -> Place {
    let of = &object.metadata;
    (of.namespace.clone().unwrap_or_default(), of.name.clone().unwrap_or_default())
}

/// An object without what writers keep books in.
fn read(mut object: DynamicObject) -> Option<(Place, Value)> {
    object.metadata.managed_fields = None;
    Some((place(&object), serde_json::to_value(&object).ok()?))
}

fn is(error: &kube::Error, code: u16) -> bool {
    matches!(error, kube::Error::Api(status) if status.code == code)
}

fn words(error: &kube::Error) -> String {
    let text = match error {
        kube::Error::Api(status) => format!("{} ({})", status.message, status.code),
        other => other.to_string(),
    };
    text.chars().take(ERROR_CHARS_MAX).collect()
}

/// How long to wait after so many failures in a row, or as long as the API server says.
fn pause(failures: u32, error: &kube::Error) -> Duration {
    let said = match error {
        kube::Error::Api(status) => {
            status.details.as_ref().map_or(0, |details| details.retry_after_seconds)
        }
        _ => 0,
    };
    let doubled = PAUSE_MIN.saturating_mul(1 << failures.saturating_sub(1).min(10));
    spread(doubled.min(PAUSE_MAX)).max(Duration::from_secs(said.into()).min(PAUSE_MAX * 10))
}

/// Half of it to one and a half.
fn spread(pause: Duration) -> Duration {
    let part = u32::try_from(random_u64() % 1000).unwrap_or_default();
    pause / 2 + pause * part / 1000
}

async fn sleep(clock: Clock, pause: Duration) {
    let nanos = u64::try_from(pause.as_nanos()).unwrap_or(u64::MAX);
    clock.sleep_until_nanos(clock.now_nanos().saturating_add(nanos)).await;
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn pauses_grow_to_a_limit() {
        let lost = kube::Error::LinesCodecMaxLineLengthExceeded;
        for (failures, about) in [(1, 500), (2, 1000), (5, 8000), (50, 30_000)] {
            let found = pause(failures, &lost).as_millis();
            assert!((about / 2..=about * 3 / 2).contains(&found), "{failures}: {found}");
        }
    }
}
