//! Processes that sleep: their weights lie in the host's memory, and their accelerators are free. vLLM
//! can do that; it is asked by paths that it serves to developers alone.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use http::{Request, StatusCode, header};
use http_body_util::{BodyExt as _, Limited};
use pilotage_core::Time;
use pilotage_core::scale::Stage;
use pilotage_plan::ProcessSpec;
use pilotage_shell::client::Client;
use pilotage_shell::clock::Clock;
use pilotage_shell::secret::Secret;
use pilotage_shell::tasks;
use serde::Deserialize;
use tokio::sync::mpsc;

/// How long falling asleep or waking up may take: weights of hundreds of gibibytes are moved.
const PATIENCE: Duration = Duration::from_secs(120);

/// Between two questions whether it is awake by now.
const AGAIN: Duration = Duration::from_millis(100);

/// Most bytes of an answer.
const BYTES_MAX: usize = 64 << 10;

/// How a process is reached.
#[derive(Clone)]
pub(in super::super) struct Access {
    pub(in super::super) spec: Arc<ProcessSpec>,
    pub(in super::super) url: String,
    pub(in super::super) events_url: Option<String>,
    pub(in super::super) key: Option<Secret>,
}

/// What was asked of a process, and whether it did it.
#[derive(Debug)]
pub(in super::super) struct Done {
    pub(in super::super) name: String,
    pub(in super::super) woke: bool,
    pub(in super::super) result: Result<(), String>,
}

/// Who sleeps, falls asleep or wakes up.
pub(in super::super) struct Naps {
    client: Client,
    clock: Clock,
    known: BTreeMap<String, Access>,
    naps: BTreeMap<String, (Nap, Time)>,
    told: mpsc::UnboundedSender<Done>,
    done: mpsc::UnboundedReceiver<Done>,
}

/// What one does that does not serve.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
enum Nap {
    /// It ends what it has.
    Tired,
    /// It was told to sleep.
    Falling,
    Asleep,
    /// It was told to wake up.
    Waking,
}

#[derive(Deserialize)]
struct Sleeping {
    is_sleeping: bool,
}

impl Naps {
    pub(in super::super) fn new(client: Client, clock: Clock) -> Self {
        let (told, done) = mpsc::unbounded_channel();
        Self { client, clock, known: BTreeMap::new(), naps: BTreeMap::new(), told, done }
    }

    /// A process takes requests there.
    pub(in super::super) fn came(&mut self, name: &str, access: Access) {
        self.naps.remove(name);
        self.known.insert(name.to_owned(), access);
    }

    /// A process died, ended, or is about to.
    pub(in super::super) fn gone(&mut self, name: &str) {
        self.naps.remove(name);
        self.known.remove(name);
    }

    /// Those that serve, and how they are reached.
    pub(in super::super) fn serving(&self) -> Vec<(String, Access)> {
        let serving = self.known.iter().filter(|(name, _)| !self.naps.contains_key(*name));
        serving.map(|(name, access)| (name.clone(), access.clone())).collect()
    }

    /// Those that sleep or are to.
    pub(in super::super) fn resting(&self) -> Vec<String> {
        let rest = self.naps.iter().filter(|(_, (nap, _))| *nap != Nap::Waking);
        rest.map(|(name, _)| name.clone()).collect()
    }

    /// What one does that does not serve, and since when.
    pub(super) fn stage(&self, name: &str) -> Option<(Stage, Time)> {
        self.naps.get(name).map(|(nap, since)| {
            let stage = match nap {
                Nap::Tired | Nap::Falling => Stage::Draining,
                Nap::Asleep => Stage::Asleep,
                Nap::Waking => Stage::Waking,
            };
            (stage, *since)
        })
    }

    fn is(&self, name: &str, nap: Nap) -> bool {
        self.naps.get(name).is_some_and(|(is, _)| *is == nap)
    }

    /// It is to sleep once nothing is in flight there.
    pub(in super::super) fn tire(&mut self, name: &str) {
        self.turn(name, Nap::Tired);
    }

    /// It is not to sleep after all; whether it has not begun to.
    pub(in super::super) fn stays(&mut self, name: &str) -> bool {
        self.is(name, Nap::Tired) && self.naps.remove(name).is_some()
    }

    /// Nothing is in flight there: whether it falls asleep now instead of ending.
    pub(in super::super) fn fall_asleep(&mut self, name: &str) -> bool {
        let tires = self.is(name, Nap::Tired);
        let Some(access) = self.known.get(name).filter(|_| tires).cloned() else { return false };
        self.turn(name, Nap::Falling);
        let client = self.client.clone();
        self.ask(name, false, async move { access.ask(&client, "POST", "/sleep?level=1").await });
        true
    }

    /// It is to wake up; nothing where it is not asleep.
    pub(in super::super) fn wake(&mut self, name: &str) {
        let asleep = self.is(name, Nap::Asleep);
        let Some(access) = self.known.get(name).filter(|_| asleep).cloned() else { return };
        self.turn(name, Nap::Waking);
        let client = self.client.clone();
        self.ask(name, true, async move { access.wake(&client).await });
    }

    /// What was done last. For ever when nothing was asked.
    pub(in super::super) async fn done(&mut self) -> Done {
        match self.done.recv().await {
            Some(done) => done,
            None => std::future::pending().await,
        }
    }

    /// It sleeps.
    pub(in super::super) fn slept(&mut self, name: &str) {
        if self.is(name, Nap::Falling) {
            self.turn(name, Nap::Asleep);
        }
    }

    /// One woke up: how it is reached, and since when it was waking.
    pub(in super::super) fn woke(&mut self, name: &str) -> Option<(Access, Time)> {
        let (_, since) = self.naps.remove(name).filter(|(nap, _)| *nap == Nap::Waking)?;
        Some((self.known.get(name)?.clone(), since))
    }

    /// The Model of a process.
    pub(in super::super) fn lane(&self, name: &str) -> Option<String> {
        self.known.get(name).map(|access| access.spec.lane.clone())
    }

    fn turn(&mut self, name: &str, nap: Nap) {
        let now = Time::from_nanos(self.clock.now_nanos());
        self.naps.insert(name.to_owned(), (nap, now));
    }

    fn ask(
        &self,
        name: &str,
        woke: bool,
        asking: impl Future<Output = Result<(), String>> + Send + 'static,
    ) {
        let (told, name) = (self.told.clone(), name.to_owned());
        let asking = async move {
            let late = || Err(format!("it took more than {} s", PATIENCE.as_secs()));
            let result = tokio::time::timeout(PATIENCE, asking).await.unwrap_or_else(|_| late());
            // The receiver is gone only when everything is being stopped.
            let _ = told.send(Done { name, woke, result });
        };
        drop(tasks::spawn("nap", asking));
    }
}

impl Access {
    /// Wakes it up, and waits until it says that it is awake.
    async fn wake(&self, client: &Client) -> Result<(), String> {
        self.ask(client, "POST", "/wake_up").await?;
        loop {
            let answer = self.answer(client, "GET", "/is_sleeping").await?;
            let is_sleeping = serde_json::from_slice(&answer).map(|it: Sleeping| it.is_sleeping);
            match is_sleeping {
                Ok(false) => return Ok(()),
                Ok(true) => tokio::time::sleep(AGAIN).await,
                Err(_) => return Err("it does not say whether it sleeps".to_owned()),
            }
        }
    }

    async fn ask(&self, client: &Client, method: &str, path: &str) -> Result<(), String> {
        self.answer(client, method, path).await.map(drop)
    }

    async fn answer(&self, client: &Client, method: &str, path: &str) -> Result<Bytes, String> {
        let mut request = Request::builder().method(method).uri(format!("{}{path}", self.url));
        if let Some(key) = &self.key {
            request = request.header(header::AUTHORIZATION, format!("Bearer {}", key.expose()));
        }
        let request = request.body(Bytes::new()).map_err(|error| error.to_string())?;
        let response = client.request(request).await.map_err(|error| error.to_string())?;
        let status = response.status();
        if status != StatusCode::OK {
            return Err(format!("it answered {path} with {status}"));
        }
        let body = Limited::new(response.into_body(), BYTES_MAX).collect().await;
        body.map(|body| body.to_bytes()).map_err(|error| error.to_string())
    }
}

#[cfg(test)]
mod tests {
    use std::sync::atomic::{AtomicU32, Ordering};

    use axum::Router;
    use axum::body::Body;
    use axum::response::IntoResponse as _;
    use hyper::body::Incoming;
    use pilotage_plan::{World, parse_all, plan};
    use pilotage_shell::serve::{ServeLimits, serve};
    use tokio_util::sync::CancellationToken;
    use tower::ServiceExt as _;

    use super::*;

    /// An engine that can sleep, with what it was asked; it says twice that it is still asleep.
    async fn engine(sleeps: bool) -> (Access, mpsc::UnboundedReceiver<String>) {
        let (saw, seen) = mpsc::unbounded_channel();
        let left = Arc::new(AtomicU32::new(2));
        let answer = move |request: Request<Body>| {
            let path = request.uri().path_and_query().unwrap().to_string();
            let key = request.headers()["authorization"].to_str().unwrap().to_owned();
            saw.send(format!("{} {path} {key}", request.method())).unwrap();
            let again = || {
                left.fetch_update(Ordering::SeqCst, Ordering::SeqCst, |left| left.checked_sub(1))
            };
            let answer = match path.as_str() {
                "/is_sleeping" => {
                    format!("{{\"is_sleeping\": {}}}", again().is_ok()).into_response()
                }
                _ if sleeps => StatusCode::OK.into_response(),
                _ => StatusCode::NOT_FOUND.into_response(),
            };
            async move { answer }
        };
        let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
        let url = format!("http://{}", listener.local_addr().unwrap());
        let router = Router::new().fallback(answer);
        let service = move |request: Request<Incoming>| {
            let router = router.clone();
            async move { router.oneshot(request.map(Body::new)).await }
        };
        let serving = serve(listener, service, ServeLimits::default(), CancellationToken::new());
        drop(tasks::spawn("engine", serving));
        let text = "{apiVersion: pilotage.dev/v1alpha1, kind: Model, metadata: {name: m}, spec: \
                    {source: 'file:m.gguf'}}";
        let plan = plan(&parse_all([("f", text)]).unwrap(), &World::with_cores(1)).unwrap();
        let spec = Arc::new(plan.processes[0].clone());
        let key = Some(Secret::new("sk".to_owned()));
        (Access { spec, url, events_url: None, key }, seen)
    }

    #[tokio::test]
    async fn it_sleeps_and_wakes() {
        let (access, mut seen) = engine(true).await;
        let mut naps = Naps::new(Client::new().unwrap(), Clock::start());
        naps.came("m-0", access);
        assert!(!naps.fall_asleep("m-0"), "nobody wants it to");
        naps.tire("m-0");
        assert!(naps.stays("m-0") && !naps.stays("m-0"));
        naps.tire("m-0");
        assert!(naps.fall_asleep("m-0") && !naps.fall_asleep("m-0") && !naps.stays("m-0"));
        naps.wake("m-0");
        let done = naps.done().await;
        assert!((done.result.is_ok(), done.woke) == (true, false));
        assert_eq!(naps.stage("m-0").unwrap().0, Stage::Draining, "until that is known");
        naps.slept("m-0");
        assert_eq!(naps.stage("m-0").unwrap().0, Stage::Asleep);
        assert_eq!(naps.resting().len(), 1);
        naps.wake("m-0");
        assert_eq!(naps.stage("m-0").unwrap().0, Stage::Waking);
        assert!(naps.resting().is_empty(), "it is on its way");
        let done = naps.done().await;
        assert!(done.result.is_ok() && done.woke && naps.woke("m-0").is_some());
        let asked: Vec<String> = std::iter::from_fn(|| seen.try_recv().ok()).collect();
        let told = ["POST /sleep?level=1", "POST /wake_up", "GET /is_sleeping"];
        let told = told.map(|one| format!("{one} Bearer sk"));
        assert_eq!(asked, [&told[0], &told[1], &told[2], &told[2], &told[2]].map(Clone::clone));
    }

    #[tokio::test]
    async fn one_that_cannot_says_so() {
        let (access, _seen) = engine(false).await;
        let mut naps = Naps::new(Client::new().unwrap(), Clock::start());
        naps.came("m-0", access);
        naps.tire("m-0");
        assert!(naps.fall_asleep("m-0"));
        let error = naps.done().await.result.unwrap_err();
        assert_eq!(error, "it answered /sleep?level=1 with 404 Not Found");
        naps.gone("m-0");
        assert!(naps.stage("m-0").is_none() && naps.lane("m-0").is_none());
    }
}
