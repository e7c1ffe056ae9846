//! DCGM's exporters: one a node, behind a name that has all of their addresses, each of which is asked. One that does
//! not answer keeps what it said for a minute.

use std::collections::BTreeMap;
use std::net::{IpAddr, SocketAddr};
use std::time::Duration;

use bytes::Bytes;
use futures_util::{StreamExt as _, stream};
use http::{Request, Uri};
use http_body_util::{BodyExt as _, Limited};
use pilotage_lens::gpu::{GPUS_MAX, Reading, readings};
use pilotage_shell::client::Client;
use pilotage_shell::clock::Clock;

use crate::exit::Wrong;

/// Most bytes of a page: a node with 16 accelerators and every field that there is has a tenth of it.
const PAGE_BYTES_MAX: usize = 4 << 20;

/// How long an exporter may take.
const PATIENCE: Duration = Duration::from_secs(5);

/// How long what an exporter said counts that does not answer by now.
const KEPT_NANOS: u64 = 60_000_000_000;

/// Most exporters, and those that are asked at once.
const EXPORTERS_MAX: usize = 512;
const AT_ONCE: usize = 16;

/// Exporters behind one name.
pub(super) struct Exporter {
    url: Uri,
    client: Client,
    clock: Clock,
    /// What each said last, and when.
    said: BTreeMap<String, (u64, Vec<Reading>)>,
    /// Whether some of them did not answer at the last look.
    silent: bool,
}

impl Exporter {
    pub(super) fn new(url: &str, clock: Clock) -> anyhow::Result<Self> {
        let parsed: Option<Uri> = url.parse().ok();
        let web = |uri: &Uri| matches!(uri.scheme_str(), Some("http" | "https"));
        let uri = parsed.filter(|uri| web(uri) && uri.host().is_some()).ok_or_else(|| {
            Wrong::new(format!("PILOTAGE_DCGM_URL is no address: {url}"))
                .hint("write http://HOST:9400/metrics")
        })?;
        let client = Client::new()?;
        Ok(Self { url: uri, client, clock, said: BTreeMap::new(), silent: false })
    }

    /// What all of them say.
    pub(super) async fn readings(&mut self) -> Vec<Reading> {
        let addresses = self.addresses().await;
        let asked = addresses.iter().take(EXPORTERS_MAX).cloned().map(|url| {
            let client = self.client.clone();
            async move {
                let page =
                    tokio::time::timeout(PATIENCE, fetch(&client, &url)).await.ok().flatten();
                (url, page)
            }
        });
        let pages: Vec<(String, Option<Bytes>)> =
            stream::iter(asked).buffer_unordered(AT_ONCE).collect().await;
        let now = self.clock.now_nanos();
        let silent = addresses.is_empty() || pages.iter().any(|(_, page)| page.is_none());
        if silent && !self.silent {
            tracing::warn!(url = %self.url, "some exporters of accelerators do not answer");
        }
        self.silent = silent;
        for (url, page) in pages {
            if let Some(page) = page {
                self.said.insert(url, (now, readings(&String::from_utf8_lossy(&page))));
            }
        }
        // Whose address is gone is gone; who is silent may be back in a moment. A name that cannot be looked up says nothing.
        self.said.retain(|url, (at, _)| {
            let named = addresses.is_empty() || addresses.contains(url);
            named && now.saturating_sub(*at) < KEPT_NANOS
        });
        let all = self.said.values().flat_map(|(_, readings)| readings);
        all.take(GPUS_MAX).cloned().collect()
    }

    /// Where to ask: each address of the name, or the name itself where its certificate is to be proved.
    async fn addresses(&self) -> Vec<String> {
        let host = self.url.host().unwrap_or_default();
        let bare = host.trim_start_matches('[').trim_end_matches(']');
        if self.url.scheme_str() == Some("https") || bare.parse::<IpAddr>().is_ok() {
            return vec![self.url.to_string()];
        }
        let port = self.url.port_u16().unwrap_or(80);
        let found = tokio::time::timeout(PATIENCE, tokio::net::lookup_host((host, port))).await;
        let path = self.url.path_and_query().map_or("/", |path| path.as_str());
        let mut urls: Vec<String> = found
            .ok()
            .and_then(Result::ok)
            .into_iter()
            .flatten()
            .map(|address: SocketAddr| format!("http://{address}{path}"))
            .collect();
        urls.sort_unstable();
        urls.dedup();
        urls
    }
}

async fn fetch(client: &Client, url: &str) -> Option<Bytes> {
    let request = Request::get(url).body(Bytes::new()).ok()?;
    let response = client.request(request).await.ok()?;
    if !response.status().is_success() {
        return None;
    }
    let body = Limited::new(response.into_body(), PAGE_BYTES_MAX).collect().await.ok()?;
    Some(body.to_bytes())
}

#[cfg(test)]
mod tests {
    use std::io::{Read as _, Write as _};
    use std::net::TcpListener;

    use super::*;

    /// Answers one request with this page, and is gone.
    fn once(page: &'static str) -> SocketAddr {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let at = listener.local_addr().unwrap();
        std::thread::spawn(move || {
            let (mut socket, _) = listener.accept().unwrap();
            let read = socket.read(&mut [0; 4096]).unwrap();
            let length = page.len();
            let head =
                format!("HTTP/1.1 200 OK\r\ncontent-length: {length}\r\nconnection: close\r\n\r\n");
            assert!(read > 0);
            socket.write_all(head.as_bytes()).unwrap();
            socket.write_all(page.as_bytes()).unwrap();
        });
        at
    }

    #[tokio::test]
    async fn what_an_exporter_says_is_read_and_kept_for_a_while() {
        let at =
            once("DCGM_FI_DEV_GPU_TEMP{gpu=\"0\",UUID=\"GPU-a\",Hostname=\"n\",pod=\"m-0\"} 61\n");
        let mut exporter = Exporter::new(&format!("http://{at}/metrics"), Clock::start()).unwrap();
        let first = exporter.readings().await;
        assert_eq!((first.len(), first[0].pod.as_str()), (1, "m-0"));
        assert!(!exporter.silent);
        assert_eq!(exporter.readings().await.len(), 1, "it may be back in a moment");
        assert!(exporter.silent);
        exporter.said.clear();
        assert!(exporter.readings().await.is_empty());
    }

    #[test]
    fn addresses_that_are_none_are_refused() {
        for url in ["gpu:9400", "ftp://h/m", "/metrics", "http://"] {
            assert!(Exporter::new(url, Clock::start()).is_err(), "{url}");
        }
    }
}
