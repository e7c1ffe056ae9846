//! Opens connections to hosts, and doubts what is known of a name when nobody is reached at its addresses:
//! an engine that is given by name may be back at others, and must not be missed for as long as a
//! look-up is remembered.

use std::fmt;
use std::pin::Pin;
use std::task::{Context, Poll};
use std::time::Duration;

use http::Uri;
use hyper_util::client::legacy::connect::HttpConnector;
use hyper_util::rt::TokioIo;
use tokio::net::TcpStream;
use tower::Service;

use crate::dns::Resolver;

type Http = HttpConnector<Resolver>;
type Opening =
    dyn Future<Output = Result<TokioIo<TcpStream>, <Http as Service<Uri>>::Error>> + Send;

/// Opens connections. All addresses of a name are tried, one after another, those of the other version of
/// the protocol beside the first ones when these take long.
#[derive(Clone)]
pub(crate) struct Dialer {
    http: Http,
    resolver: Resolver,
}

impl fmt::Debug for Dialer {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Dialer").field("resolver", &self.resolver).finish_non_exhaustive()
    }
}

impl Dialer {
    /// One that gives up after so long.
    pub(crate) fn new(resolver: Resolver, patience: Duration) -> Self {
        let mut http = HttpConnector::new_with_resolver(resolver.clone());
        http.enforce_http(false);
        http.set_nodelay(true);
        http.set_connect_timeout(Some(patience));
        Self { http, resolver }
    }
}

impl Service<Uri> for Dialer {
    type Response = TokioIo<TcpStream>;
    type Error = <Http as Service<Uri>>::Error;
    type Future = Pin<Box<Opening>>;

    fn poll_ready(&mut self, context: &mut Context<'_>) -> Poll<Result<(), Self::Error>> {
        self.http.poll_ready(context)
    }

    fn call(&mut self, uri: Uri) -> Self::Future {
        let opening = self.http.call(uri.clone());
        let resolver = self.resolver.clone();
        Box::pin(async move {
            let opened = opening.await;
            if opened.is_err()
                && let Some(host) = uri.host()
            {
                resolver.doubt(host);
            }
            opened
        })
    }
}

#[cfg(test)]
mod tests {
    use std::net::SocketAddr;
    use std::sync::Arc;

    use parking_lot::Mutex;

    use super::*;
    use crate::dns::DOUBT_AFTER;

    /// What a name server says, and how often it was asked.
    type Script = Arc<Mutex<(Vec<SocketAddr>, usize)>>;

    /// A dialer whose name server says what is set, and how often it was asked.
    fn dialer() -> (Dialer, Script) {
        let says: Script = Arc::new(Mutex::new((Vec::new(), 0)));
        let script = Arc::clone(&says);
        let resolver = Resolver::asking(Arc::new(move |_| {
            let mut script = script.lock();
            script.1 += 1;
            let found = script.0.clone();
            Box::pin(async move { Ok(found) })
        }));
        (Dialer::new(resolver, Duration::from_secs(5)), says)
    }

    fn host(last: u8) -> SocketAddr {
        ([127, 0, 0, last], 0).into()
    }

    #[tokio::test]
    async fn every_address_of_a_name_is_tried() {
        let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
        let port = listener.local_addr().unwrap().port();
        let (mut dialer, says) = dialer();
        // Nobody listens on that port of the other addresses.
        says.lock().0 = vec![host(2), host(3), host(1)];
        let uri = format!("http://engine.example:{port}/").parse().unwrap();
        assert!(dialer.call(uri).await.is_ok());
    }

    #[tokio::test(start_paused = true)]
    async fn a_name_at_whose_address_nobody_is_reached_is_looked_up_at_once() {
        let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
        let port = listener.local_addr().unwrap().port();
        let (mut dialer, says) = dialer();
        let uri: Uri = format!("http://engine.example:{port}/").parse().unwrap();
        let mut check = async |at: u8, opens: bool, asked: usize| {
            says.lock().0 = vec![host(at)];
            assert_eq!(dialer.call(uri.clone()).await.is_ok(), opens, "{at}");
            assert_eq!(says.lock().1, asked, "{at}");
        };
        check(1, true, 1).await;
        // It moves to where nobody listens, which is not known yet.
        check(2, true, 1).await;
        tokio::time::sleep(crate::dns::FRESH).await;
        check(2, false, 2).await;
        // It was looked up a moment ago.
        check(1, false, 2).await;
        tokio::time::sleep(DOUBT_AFTER).await;
        check(1, false, 2).await;
        check(1, true, 3).await;
    }
}
