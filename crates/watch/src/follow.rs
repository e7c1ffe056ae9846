//! One kind, as it is and as it changes: listed, watched from there on, listed again where the API server
//! does not remember how far that was.
//!
//! Contract: it goes on for ever. Nothing is taken back while the API server is away. Who asks in vain waits
//! longer each time, not all at the same moment, and as long as the API server says. What is neither answered
//! nor ended is given up: of a connection whose other end is gone nothing else tells.

use std::fmt;
use std::future::Future;
use std::time::Duration;

use futures_util::{StreamExt as _, pin_mut};
use kube::api::{Api, DynamicObject, ListParams, WatchEvent, WatchParams};
use pilotage_shell::clock::Clock;
use pilotage_shell::id::random_u64;
use serde_json::Value;
use tokio::time::timeout;

/// Objects that are asked for at once.
const PAGE: u32 = 500;

/// Seconds that a watch lasts; then it goes on where it was.
const WATCH_SECONDS: u32 = 280;

/// How long an answer may take to begin, or a page of a list to come.
const ANSWER_TIMEOUT: Duration = Duration::from_secs(30);

/// How long a watch may be silent: longer than it lasts.
const SILENCE_MAX: Duration = Duration::from_secs(WATCH_SECONDS as u64 + 20);

/// A watch that is over sooner and brought nothing has failed.
const WATCH_MIN_NANOS: u64 = 1_000_000_000;

/// The first pause after a failure, which doubles with each further one.
const PAUSE_MIN: Duration = Duration::from_millis(500);

/// The longest pause.
const PAUSE_MAX: Duration = Duration::from_secs(30);

/// A watch that lasted as long, though it brought nothing, did not fail for being forgotten.
const WATCH_FIRM_NANOS: u64 = 30_000_000_000;

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
    Failed(Failure, String),
}

/// Why something did not go well.
#[derive(Debug)]
enum Failure {
    Kube(kube::Error),
    /// Nothing came for so long.
    Silent(Duration),
    /// A watch was over as soon as it had begun.
    Brief,
}

/// What went wrong in a row. Each has pauses of its own, since what is known after an outage is as old as that was, and
/// only a list makes it new.
#[derive(Default)]
struct Tries {
    /// Calls that failed since one did well.
    failures: u32,
    /// Versions that were forgotten, since a watch brought anything.
    forgotten: u32,
}

impl Tries {
    /// The pause after another failure.
    fn failed(&mut self, error: &Failure) -> Duration {
        self.failures = self.failures.saturating_add(1);
        pause(self.failures, error)
    }

    /// The pause after another version was forgotten.
    fn forgot(&mut self) -> Duration {
        self.forgotten = self.forgotten.saturating_add(1);
        doubled(self.forgotten)
    }
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
        let mut tries = Tries::default();
        loop {
            let mut version = match self.list().await {
                Ok((all, version)) => {
                    tries.failures = 0;
                    tell(News::All(all));
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
                    sleep(clock, tries.failed(&error)).await;
                    continue;
                }
            };
            loop {
                match self.watch(clock, version, &mut tries, &mut tell).await {
                    End::Over(at) => version = at,
                    End::Forgotten => {
                        sleep(clock, tries.forgot()).await;
                        break;
                    }
                    End::Failed(error, at) => {
                        version = at;
                        tell(News::Lost(words(&error)));
                        sleep(clock, tries.failed(&error)).await;
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
    fn is_absent(&self, error: &Failure) -> bool {
        error.is(404) || (self.is_optional && error.is(403))
    }

    async fn list(&self) -> Result<(Vec<(Place, Value)>, String), Failure> {
        let mut params = ListParams {
            label_selector: self.labels.clone(),
            field_selector: self.fields.clone(),
            limit: Some(PAGE),
            ..ListParams::default()
        };
        let mut all = Vec::new();
        loop {
            let page = within(ANSWER_TIMEOUT, self.api.list(&params)).await?;
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
        clock: Clock,
        mut version: String,
        tries: &mut Tries,
        tell: &mut (impl FnMut(News) + Send),
    ) -> End {
        let params = WatchParams {
            label_selector: self.labels.clone(),
            field_selector: self.fields.clone(),
            timeout: Some(WATCH_SECONDS),
            bookmarks: true,
            send_initial_events: false,
        };
        let begun = clock.now_nanos();
        let events = match within(ANSWER_TIMEOUT, self.api.watch(&params, &version)).await {
            Ok(events) => events,
            Err(error) if error.is(410) => return End::Forgotten,
            Err(error) => return End::Failed(error, version),
        };
        tell(News::Heard);
        pin_mut!(events);
        let mut is_brief = true;
        loop {
            let event = match timeout(SILENCE_MAX, events.next()).await {
                Ok(Some(event)) => event,
                Ok(None) => break,
                Err(_) => return End::Failed(Failure::Silent(SILENCE_MAX), version),
            };
            let event = match event {
                Ok(WatchEvent::Error(status)) if status.code == 410 => return End::Forgotten,
                Ok(WatchEvent::Error(status)) => {
                    return End::Failed(Failure::Kube(kube::Error::Api(status)), version);
                }
                Err(error) => return End::Failed(Failure::Kube(error), version),
                Ok(event) => event,
            };
            (*tries, is_brief) = (Tries::default(), false);
            match event {
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
        let lasted_nanos = clock.now_nanos().saturating_sub(begun);
        if is_brief && lasted_nanos < WATCH_MIN_NANOS {
            return End::Failed(Failure::Brief, version);
        }
        tries.failures = 0;
        if lasted_nanos >= WATCH_FIRM_NANOS {
            tries.forgotten = 0;
        }
        End::Over(version)
    }
}

/// What comes of a call within that time.
async fn within<T>(
    most: Duration,
    call: impl Future<Output = Result<T, kube::Error>>,
) -> Result<T, Failure> {
    match timeout(most, call).await {
        Ok(done) => done.map_err(Failure::Kube),
        Err(_) => Err(Failure::Silent(most)),
    }
}

impl Failure {
    fn is(&self, code: u16) -> bool {
        matches!(self, Self::Kube(kube::Error::Api(status)) if status.code == code)
    }
}

impl fmt::Display for Failure {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Kube(kube::Error::Api(status)) => {
                write!(f, "{} ({})", status.message, status.code)
            }
            Self::Kube(other) => other.fmt(f),
            Self::Silent(most) => {
                write!(f, "the API server said nothing for {} s; it is asked anew", most.as_secs())
            }
            Self::Brief => f.write_str("a watch was over as soon as it had begun"),
        }
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

fn words(error: &Failure) -> String {
    error.to_string().chars().take(ERROR_CHARS_MAX).collect()
}

/// How long to wait after so many failures in a row, or as long as the API server says.
fn pause(failures: u32, error: &Failure) -> Duration {
    let said = match error {
        Failure::Kube(kube::Error::Api(status)) => {
            status.details.as_ref().map_or(0, |details| details.retry_after_seconds)
        }
        _ => 0,
    };
    doubled(failures).max(Duration::from_secs(said.into()).min(PAUSE_MAX * 10))
}

/// The pause after so many failures in a row.
fn doubled(failures: u32) -> Duration {
    let doubled = PAUSE_MIN.saturating_mul(1 << failures.saturating_sub(1).min(10));
    spread(doubled.min(PAUSE_MAX))
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
mod tests;
