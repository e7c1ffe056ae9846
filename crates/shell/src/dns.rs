//! Addresses of hosts, remembered: a name server that fails or is slow must never stop traffic to
//! addresses that are known.
//!
//! What was found is used as it is for [`FRESH`]. After that the name is looked up again, and when that fails, or
//! takes longer than [`STALE_WAIT`], what was found before is used for up to [`STALE_MAX`], with the next try
//! after [`RETRY`]. A look-up goes on when nobody waits for it any more, for up to [`LOOK_UP_MAX`]: what comes late
//! is right too. A name at whose addresses nobody is reached is looked up before it is used again, once for
//! all who want it, and no more often than every [`DOUBT_AFTER`]. All addresses of a name are handed on: who
//! connects tries one after another. What is written as an address is never looked up.

use std::collections::HashMap;
use std::fmt;
use std::io;
use std::net::SocketAddr;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll};
use std::time::Duration;

use hyper_util::client::legacy::connect::dns::{GaiResolver, Name};
use parking_lot::Mutex;
use tokio::sync::watch;
use tower::Service;

use crate::clock::Clock;
use crate::tasks;

/// How long what was found is used without asking again: about the time to live of names in
/// clusters.
pub const FRESH: Duration = Duration::from_secs(30);

/// How long what was found before is used while names cannot be looked up.
pub const STALE_MAX: Duration = Duration::from_secs(24 * 3600);

/// How long a look-up is waited for where something was found before,
pub const STALE_WAIT: Duration = Duration::from_millis(500);

/// and where nothing was.
pub const LOOK_UP_WAIT: Duration = Duration::from_secs(5);

/// How long a look-up may take: resolvers give up on each of their servers after some seconds.
pub const LOOK_UP_MAX: Duration = Duration::from_secs(20);

/// Between two tries to look up a name that cannot be.
pub const RETRY: Duration = Duration::from_secs(5);

/// How long after a look-up its addresses are not doubted, whoever is not reached there.
pub const DOUBT_AFTER: Duration = Duration::from_secs(1);

/// Names that are remembered; the one that was found first goes.
pub const NAMES_MAX: usize = 1024;

/// Addresses of one name that are used.
pub const ADDRESSES_MAX: usize = 32;

pub(crate) type Looking = Pin<Box<dyn Future<Output = io::Result<Vec<SocketAddr>>> + Send>>;
pub(crate) type LookUp = dyn Fn(Name) -> Looking + Send + Sync;

/// Finds addresses, and remembers them. Clones share what they know.
#[derive(Clone)]
pub struct Resolver {
    look_up: Arc<LookUp>,
    names: Arc<Mutex<Names>>,
    clock: Clock,
}

#[derive(Default)]
struct Names {
    known: HashMap<String, Known>,
    /// Those that are being looked up: what went wrong, once that is over.
    asked: HashMap<String, Asked>,
}

/// What was found.
#[derive(Clone, Debug)]
struct Known {
    addresses: Vec<SocketAddr>,
    found_nanos: u64,
    /// When it was last looked up, in vain or not.
    asked_nanos: u64,
    /// When it is looked up again.
    again_nanos: u64,
    /// Nobody was reached there.
    doubted: bool,
}

/// Hears how a look-up ended: it tells what went wrong, or nothing.
type Asked = watch::Receiver<Option<String>>;

/// What to do for who wants the addresses of a name.
enum Step {
    /// These are used.
    Use(Vec<SocketAddr>),
    /// The name server is asked: what comes of that is waited for.
    Wait(Option<Vec<SocketAddr>>, Asked),
    /// The same, and this one asks it.
    Ask(Option<Vec<SocketAddr>>, Asked, Asking),
}

/// The one that asks the name server for a name, until it is dropped.
struct Asking {
    host: String,
    names: Arc<Mutex<Names>>,
    over: watch::Sender<Option<String>>,
}

impl Drop for Asking {
    fn drop(&mut self) {
        let mut names = self.names.lock();
        names.asked.remove(&self.host);
        // Where nothing new was found, what is known is all there is.
        if let Some(known) = names.known.get_mut(&self.host) {
            known.doubted = false;
        }
    }
}

impl fmt::Debug for Resolver {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Resolver")
            .field("known", &self.names.lock().known.len())
            .finish_non_exhaustive()
    }
}

impl Default for Resolver {
    fn default() -> Self {
        Self::system()
    }
}

impl Resolver {
    /// One that asks the operating system.
    pub fn system() -> Self {
        Self::asking(Arc::new(|name| {
            let mut system = GaiResolver::new();
            Box::pin(async move { Ok(system.call(name).await?.collect()) })
        }))
    }

    pub(crate) fn asking(look_up: Arc<LookUp>) -> Self {
        Self { look_up, names: Arc::default(), clock: Clock::start() }
    }

    /// Nobody was reached at a host's addresses.
    pub(crate) fn doubt(&self, host: &str) {
        let now = self.clock.now_nanos();
        if let Some(known) = self.names.lock().known.get_mut(host) {
            known.doubted |= now.saturating_sub(known.asked_nanos) >= nanos(DOUBT_AFTER);
        }
    }

    /// The addresses of a host.
    ///
    /// # Errors
    /// It cannot be looked up, and was never or too long ago.
    async fn find(self, name: Name) -> io::Result<std::vec::IntoIter<SocketAddr>> {
        let host = name.as_str().to_owned();
        let (before, mut asked) = match self.step(&host) {
            Step::Use(addresses) => return Ok(addresses.into_iter()),
            Step::Wait(before, asked) => (before, asked),
            Step::Ask(before, asked, asking) => {
                tasks::spawn("look a name up", self.clone().ask(name, asking));
                (before, asked)
            }
        };
        let wait = if before.is_some() { STALE_WAIT } else { LOOK_UP_WAIT };
        let over = tokio::time::timeout(wait, asked.changed()).await;
        if let Some(addresses) = self.known(&host).or(before) {
            return Ok(addresses.into_iter());
        }
        let wrong = asked.borrow().clone();
        Err(match (over, wrong) {
            (Ok(_), Some(wrong)) => io::Error::other(wrong),
            (Ok(_), None) => io::Error::other("the name cannot be looked up"),
            (Err(_), _) => io::Error::new(io::ErrorKind::TimedOut, "the name server is silent"),
        })
    }

    async fn ask(self, name: Name, asking: Asking) {
        let host = &asking.host;
        let found = match tokio::time::timeout(LOOK_UP_MAX, (self.look_up)(name)).await {
            Ok(Ok(found)) if found.is_empty() => Err("the name has no address".to_owned()),
            Ok(found) => found.map_err(|error| error.to_string()),
            Err(_) => Err("the name server is silent".to_owned()),
        };
        match found {
            Ok(mut found) => {
                found.truncate(ADDRESSES_MAX);
                self.remember(host.clone(), found);
            }
            Err(error) => {
                if self.known(host).is_some() {
                    tracing::warn!(
                        host,
                        error,
                        "cannot look a name up: what was known of it is used"
                    );
                }
                asking.over.send_replace(Some(error));
            }
        }
    }

    /// What to do for a host. Whoever has to ask is one at a time: meanwhile the others go on with what
    /// is known, unless nobody was reached there.
    fn step(&self, host: &str) -> Step {
        let now = self.clock.now_nanos();
        let mut names = self.names.lock();
        let Names { known, asked } = &mut *names;
        let is_old = |known: &Known| now.saturating_sub(known.found_nanos) > nanos(STALE_MAX);
        if known.get(host).is_some_and(is_old) {
            known.remove(host);
        }
        let mut entry = known.get_mut(host);
        let before = entry.as_ref().map(|known| known.addresses.clone());
        let asked_by = asked.get(host).cloned();
        match (&entry, before.clone(), asked_by) {
            (Some(known), Some(addresses), asked)
                if !known.doubted && (now < known.again_nanos || asked.is_some()) =>
            {
                return Step::Use(addresses);
            }
            (_, before, Some(asked)) => return Step::Wait(before, asked),
            _ => {}
        }
        if let Some(known) = &mut entry {
            (known.asked_nanos, known.again_nanos) = (now, now + nanos(RETRY));
        }
        let (over, receiver) = watch::channel(None);
        asked.insert(host.to_owned(), receiver.clone());
        let names = Arc::clone(&self.names);
        Step::Ask(before, receiver, Asking { host: host.to_owned(), names, over })
    }

    fn known(&self, host: &str) -> Option<Vec<SocketAddr>> {
        self.names.lock().known.get(host).map(|known| known.addresses.clone())
    }

    fn remember(&self, host: String, addresses: Vec<SocketAddr>) {
        let now = self.clock.now_nanos();
        let all = &mut self.names.lock().known;
        if all.len() >= NAMES_MAX && !all.contains_key(&host) {
            let oldest = all.iter().min_by_key(|(_, known)| known.found_nanos);
            if let Some(oldest) = oldest.map(|(host, _)| host.clone()) {
                all.remove(&oldest);
            }
        }
        let again_nanos = now + nanos(FRESH);
        let (found_nanos, asked_nanos) = (now, now);
        let known = Known { addresses, found_nanos, asked_nanos, again_nanos, doubted: false };
        all.insert(host, known);
    }
}

impl Service<Name> for Resolver {
    type Response = std::vec::IntoIter<SocketAddr>;
    type Error = io::Error;
    type Future = Pin<Box<dyn Future<Output = io::Result<Self::Response>> + Send>>;

    fn poll_ready(&mut self, _: &mut Context<'_>) -> Poll<io::Result<()>> {
        Poll::Ready(Ok(()))
    }

    fn call(&mut self, name: Name) -> Self::Future {
        Box::pin(self.clone().find(name))
    }
}

fn nanos(span: Duration) -> u64 {
    u64::try_from(span.as_nanos()).unwrap_or(u64::MAX)
}

#[cfg(test)]
mod tests {
    use std::str::FromStr as _;

    use super::*;

    /// What the name server says next.
    #[derive(Clone, Copy, Debug)]
    enum Says {
        These(&'static [u8]),
        /// These, after so many seconds.
        Late(u64, &'static [u8]),
        Error,
        Nothing,
    }

    /// A resolver whose name server is scripted, and how often that was asked.
    struct Scripted {
        resolver: Resolver,
        says: Arc<Mutex<(Says, usize)>>,
    }

    impl Scripted {
        fn new() -> Self {
            let says = Arc::new(Mutex::new((Says::Error, 0)));
            let script = Arc::clone(&says);
            let resolver = Resolver::asking(Arc::new(move |_| {
                let mut script = script.lock();
                script.1 += 1;
                let says = script.0;
                Box::pin(async move {
                    if let Says::Late(seconds, _) = says {
                        pass(Duration::from_secs(seconds)).await;
                    }
                    match says {
                        Says::These(hosts) | Says::Late(_, hosts) => {
                            Ok(hosts.iter().map(|host| address(*host)).collect())
                        }
                        Says::Error => Err(io::Error::other("no such name")),
                        Says::Nothing => std::future::pending().await,
                    }
                })
            }));
            Self { resolver, says }
        }

        /// What is found when the server says this, and how often it was asked so far.
        async fn check(&self, says: Says, expect: Option<&[u8]>, asked: usize) {
            self.says.lock().0 = says;
            let found = self.find("engine.example").await.map(Iterator::collect::<Vec<_>>);
            let expect = expect.map(|hosts| hosts.iter().map(|host| address(*host)).collect());
            assert_eq!((found.ok(), self.says.lock().1), (expect, asked), "{says:?}");
        }

        async fn find(&self, name: &str) -> io::Result<std::vec::IntoIter<SocketAddr>> {
            self.resolver.clone().call(Name::from_str(name).unwrap()).await
        }
    }

    fn address(host: u8) -> SocketAddr {
        ([10, 0, 0, host], 0).into()
    }

    async fn pass(span: Duration) {
        tokio::time::sleep(span).await;
    }

    #[tokio::test(start_paused = true)]
    async fn what_is_known_outlives_its_name_server() {
        let names = Scripted::new();
        names.check(Says::Error, None, 1).await;
        names.check(Says::These(&[]), None, 2).await;
        names.check(Says::These(&[1, 2]), Some(&[1, 2]), 3).await;
        names.check(Says::Error, Some(&[1, 2]), 3).await;
        pass(FRESH).await;
        names.check(Says::Error, Some(&[1, 2]), 4).await;
        // Not at every connection.
        names.check(Says::Error, Some(&[1, 2]), 4).await;
        pass(RETRY).await;
        let begun = Clock::start();
        names.check(Says::Nothing, Some(&[1, 2]), 5).await;
        assert!(Duration::from_nanos(begun.now_nanos()) <= STALE_WAIT * 2);
        // Until nobody believes in that look-up any more, there is no other.
        pass(RETRY).await;
        names.check(Says::These(&[]), Some(&[1, 2]), 5).await;
        pass(LOOK_UP_MAX).await;
        names.check(Says::These(&[]), Some(&[1, 2]), 6).await;
        pass(RETRY).await;
        names.check(Says::These(&[3]), Some(&[3]), 7).await;
        pass(FRESH).await;
        // What comes late is right too.
        names.check(Says::Late(6, &[4]), Some(&[3]), 8).await;
        pass(Duration::from_secs(6)).await;
        names.check(Says::Error, Some(&[4]), 8).await;
        pass(STALE_MAX + RETRY).await;
        names.check(Says::Error, None, 9).await;
        names.check(Says::Nothing, None, 10).await;
    }

    #[tokio::test(start_paused = true)]
    async fn names_and_addresses_are_bounded() {
        static MANY: [u8; 100] = [7; 100];
        let names = Scripted::new();
        names.says.lock().0 = Says::These(&MANY);
        for number in 0..NAMES_MAX + 10 {
            pass(Duration::from_millis(1)).await;
            let found = names.find(&format!("engine-{number}.example")).await.unwrap();
            assert_eq!(found.len(), ADDRESSES_MAX);
        }
        assert_eq!(names.resolver.names.lock().known.len(), NAMES_MAX);
        assert!(!names.resolver.names.lock().known.contains_key("engine-0.example"));
    }

    #[tokio::test(start_paused = true)]
    async fn what_is_doubted_is_looked_up_once_for_all_who_want_it() {
        let names = Scripted::new();
        names.check(Says::These(&[1]), Some(&[1]), 1).await;
        // Not right after a look-up.
        names.resolver.doubt("engine.example");
        names.check(Says::These(&[2]), Some(&[1]), 1).await;
        pass(DOUBT_AFTER).await;
        names.resolver.doubt("engine.example");
        names.resolver.doubt("other.example");
        let found = futures_util::future::join_all((0..9).map(|_| names.find("engine.example")));
        for found in found.await {
            assert_eq!(found.unwrap().collect::<Vec<_>>(), [address(2)]);
        }
        assert_eq!(names.says.lock().1, 2);
        // Where the name server says nothing new, what is known goes on.
        pass(DOUBT_AFTER).await;
        names.resolver.doubt("engine.example");
        names.check(Says::Error, Some(&[2]), 3).await;
        names.check(Says::These(&[3]), Some(&[2]), 3).await;
        pass(RETRY).await;
        names.check(Says::These(&[3]), Some(&[3]), 4).await;
    }

    #[tokio::test(start_paused = true)]
    async fn a_name_that_is_not_known_is_looked_up_once_for_all_who_want_it() {
        let names = Scripted::new();
        names.says.lock().0 = Says::These(&[1]);
        let found = futures_util::future::join_all((0..9).map(|_| names.find("engine.example")));
        assert!(found.await.iter().all(Result::is_ok));
        assert_eq!(names.says.lock().1, 1);
        // Who stops waiting does not end what others wait for.
        names.says.lock().0 = Says::Late(1, &[4]);
        let given_up = tokio::time::timeout(Duration::from_millis(10), names.find("b.example"));
        let waits = names.find("b.example");
        let (given_up, waits) = tokio::join!(given_up, async {
            pass(Duration::from_millis(1)).await;
            waits.await
        });
        assert!(given_up.is_err());
        assert_eq!(waits.unwrap().collect::<Vec<_>>(), [address(4)]);
        assert_eq!(names.says.lock().1, 2);
        assert!(names.resolver.names.lock().asked.is_empty());
    }
}
