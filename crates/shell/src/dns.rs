//! Addresses of hosts, remembered: a name server that fails or is slow must never stop traffic to
//! addresses that are known.
//!
//! What was found is used as it is for [`FRESH`]. After that the name is looked up again, and when that fails, or
//! takes longer than [`STALE_WAIT`], what was found before is used for up to [`STALE_MAX`], with the next try
//! after [`RETRY`]. All addresses of a name are handed on: who connects tries one after another. What
//! is written as an address is never looked up.

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
use tower::Service;

use crate::clock::Clock;

/// How long what was found is used without asking again: about the time to live of names in
/// clusters.
pub const FRESH: Duration = Duration::from_secs(30);

/// How long what was found before is used while names cannot be looked up.
pub const STALE_MAX: Duration = Duration::from_secs(24 * 3600);

/// How long a look-up is waited for where something was found before,
pub const STALE_WAIT: Duration = Duration::from_millis(500);

/// and where nothing was.
pub const LOOK_UP_WAIT: Duration = Duration::from_secs(5);

/// Between two tries to look up a name that cannot be.
pub const RETRY: Duration = Duration::from_secs(5);

/// Names that are remembered; the one that was found first goes.
pub const NAMES_MAX: usize = 1024;

/// Addresses of one name that are used.
pub const ADDRESSES_MAX: usize = 32;

type Looking = Pin<Box<dyn Future<Output = io::Result<Vec<SocketAddr>>> + Send>>;
type LookUp = dyn Fn(Name) -> Looking + Send + Sync;

/// Finds addresses, and remembers them. Clones share what they know.
#[derive(Clone)]
pub struct Resolver {
    look_up: Arc<LookUp>,
    known: Arc<Mutex<HashMap<String, Known>>>,
    clock: Clock,
}

/// What was found.
#[derive(Clone, Debug)]
struct Known {
    addresses: Vec<SocketAddr>,
    found_nanos: u64,
    /// When it is looked up again.
    again_nanos: u64,
}

impl fmt::Debug for Resolver {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Resolver").field("known", &self.known.lock().len()).finish_non_exhaustive()
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
        Self::new(Arc::new(|name| {
            let mut system = GaiResolver::new();
            Box::pin(async move { Ok(system.call(name).await?.collect()) })
        }))
    }

    fn new(look_up: Arc<LookUp>) -> Self {
        Self { look_up, known: Arc::default(), clock: Clock::start() }
    }

    /// The addresses of a host.
    ///
    /// # Errors
    /// It cannot be looked up, and was never or too long ago.
    async fn find(self, name: Name) -> io::Result<std::vec::IntoIter<SocketAddr>> {
        let host = name.as_str().to_owned();
        let before = match self.remembered(&host) {
            Some((addresses, true)) => return Ok(addresses.into_iter()),
            Some((addresses, false)) => Some(addresses),
            None => None,
        };
        let wait = if before.is_some() { STALE_WAIT } else { LOOK_UP_WAIT };
        let found = match tokio::time::timeout(wait, (self.look_up)(name)).await {
            Ok(Ok(found)) if found.is_empty() => Err(io::Error::other("the name has no address")),
            Ok(found) => found,
            Err(_) => Err(io::Error::new(io::ErrorKind::TimedOut, "the name server is silent")),
        };
        match (found, before) {
            (Ok(mut found), _) => {
                found.truncate(ADDRESSES_MAX);
                self.remember(host, found.clone());
                Ok(found.into_iter())
            }
            (Err(error), Some(before)) => {
                tracing::warn!(host, %error, "cannot look a name up: what was known of it is used");
                Ok(before.into_iter())
            }
            (Err(error), None) => Err(error),
        }
    }

    /// What is known of a host, and whether that need not be looked up. Whoever has to is one at a time:
    /// the others go on with what is known.
    fn remembered(&self, host: &str) -> Option<(Vec<SocketAddr>, bool)> {
        let now = self.clock.now_nanos();
        let mut all = self.known.lock();
        let known = all.get_mut(host)?;
        if now.saturating_sub(known.found_nanos) > nanos(STALE_MAX) {
            all.remove(host);
            return None;
        }
        let fresh = now < known.again_nanos;
        if !fresh {
            known.again_nanos = now + nanos(RETRY);
        }
        Some((known.addresses.clone(), fresh))
    }

    fn remember(&self, host: String, addresses: Vec<SocketAddr>) {
        let now = self.clock.now_nanos();
        let mut all = self.known.lock();
        if all.len() >= NAMES_MAX && !all.contains_key(&host) {
            let oldest = all.iter().min_by_key(|(_, known)| known.found_nanos);
            if let Some(oldest) = oldest.map(|(host, _)| host.clone()) {
                all.remove(&oldest);
            }
        }
        let again_nanos = now + nanos(FRESH);
        all.insert(host, Known { addresses, found_nanos: now, again_nanos });
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
            let resolver = Resolver::new(Arc::new(move |_| {
                let mut script = script.lock();
                script.1 += 1;
                let says = script.0;
                Box::pin(async move {
                    match says {
                        Says::These(hosts) => Ok(hosts.iter().map(|host| address(*host)).collect()),
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
        pass(RETRY).await;
        names.check(Says::These(&[]), Some(&[1, 2]), 6).await;
        pass(RETRY).await;
        names.check(Says::These(&[3]), Some(&[3]), 7).await;
        pass(STALE_MAX + RETRY).await;
        names.check(Says::Error, None, 8).await;
        names.check(Says::Nothing, None, 9).await;
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
        assert_eq!(names.resolver.known.lock().len(), NAMES_MAX);
        assert!(!names.resolver.known.lock().contains_key("engine-0.example"));
    }

    #[tokio::test]
    async fn every_address_of_a_name_is_tried() {
        use hyper_util::client::legacy::connect::HttpConnector;
        let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
        let port = listener.local_addr().unwrap().port();
        // Nobody listens on that port of the other address.
        let resolver = Resolver::new(Arc::new(|_| {
            Box::pin(async { Ok(vec![([127, 0, 0, 2], 0).into(), ([127, 0, 0, 1], 0).into()]) })
        }));
        let mut connector = HttpConnector::new_with_resolver(resolver);
        let uri = format!("http://engine.example:{port}/").parse().unwrap();
        assert!(connector.call(uri).await.is_ok());
    }
}
