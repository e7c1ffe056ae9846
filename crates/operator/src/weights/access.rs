//! How the places that weights come from are reached: clients, tokens, and what is done at once.

use std::collections::HashMap;
use std::sync::Arc;

use http::Uri;
use parking_lot::Mutex;
use pilotage_shell::client::Client;
use pilotage_shell::clock::Clock;
use pilotage_shell::secret::Secret;
use tokio::sync::{OwnedSemaphorePermit, Semaphore};

use super::oci::Registries;

/// Hosts that are remembered though nobody speaks with them.
const HOSTS_KEPT: usize = 64;

/// How to reach the places that weights come from.
#[derive(Clone, Debug)]
pub struct Access {
    /// For downloads.
    pub client: Client,
    /// For when weights were used last.
    pub clock: Clock,
    /// The Python whose pip is used.
    pub python: String,
    /// Where Hugging Face is, without a slash at the end.
    pub hf_endpoint: String,
    /// The token for it.
    pub hf_token: Option<Secret>,
    /// Who this is at container registries.
    pub registries: Registries,
    /// What is done at once, and how much is kept.
    pub limits: Limits,
}

/// What is done at once, and how much is kept.
#[derive(Clone, Copy, Debug)]
pub struct Limits {
    /// Files of a folder that are fetched at once.
    pub files_at_once: usize,
    /// Parts of a file that are fetched at once.
    pub parts_at_once: usize,
    /// Bytes of a part. Files up to twice as large are fetched in one stream.
    pub part_bytes: u64,
    /// Connections to one host.
    pub connections_per_host: usize,
    /// Bytes of the cache; without it as many as the disk holds.
    pub cache_bytes_max: Option<u64>,
}

impl Default for Limits {
    fn default() -> Self {
        Self {
            files_at_once: 4,
            parts_at_once: 8,
            part_bytes: 64 << 20,
            connections_per_host: 16,
            cache_bytes_max: None,
        }
    }
}

/// Counts the connections to each host.
#[derive(Clone, Debug, Default)]
pub(super) struct Hosts(Arc<Mutex<HashMap<String, Arc<Semaphore>>>>);

impl Hosts {
    /// Waits until one more connection to that host is allowed.
    pub(super) async fn enter(&self, uri: &Uri, at_once: usize) -> Option<OwnedSemaphorePermit> {
        let host = uri.authority().map_or("", http::uri::Authority::as_str).to_ascii_lowercase();
        let places = {
            let mut hosts = self.0.lock();
            if hosts.len() >= HOSTS_KEPT {
                hosts.retain(|_, places| Arc::strong_count(places) > 1);
            }
            let places = hosts.entry(host).or_insert_with(|| Arc::new(Semaphore::new(at_once)));
            Arc::clone(places)
        };
        places.acquire_owned().await.ok()
    }
}
