//! The pods of InferencePools: watched by each pool's own selector, for as long as the pool is served.

use std::collections::BTreeMap;
use std::sync::Arc;

use kube::Client;
use parking_lot::Mutex;
use pilotage_shell::clock::Clock;
use pilotage_shell::tasks;
use tokio::sync::watch;
use tokio::task::JoinHandle;

use crate::follow::Followed;
use crate::{Known, objects};

/// A watch of a pool's pods. Dropped, it ends.
struct Follower(JoinHandle<Option<()>>);

impl Drop for Follower {
    fn drop(&mut self) {
        self.0.abort();
    }
}

/// Watches the pods of the pools that are known, for ever.
pub(crate) async fn follow(
    client: Client,
    known: Arc<Mutex<Known>>,
    mut changed: watch::Receiver<u64>,
    (tell, clock): (Arc<watch::Sender<u64>>, Clock),
) {
    let mut open: BTreeMap<u64, Follower> = BTreeMap::new();
    loop {
        let wanted = known.lock().watched_pools();
        open.retain(|number, _| wanted.iter().any(|(_, _, watch)| watch == number));
        for (place, selector, number) in wanted {
            let (known, tell) = (Arc::clone(&known), Arc::clone(&tell));
            open.entry(number).or_insert_with(|| {
                let pods = objects(&client, Some(&place.0), ("", "v1", "Pod"));
                let pods = Followed::all("Pod", pods).labelled(&selector).optional();
                let follow = pods.follow(clock, move |news| {
                    let now_nanos = clock.now_nanos();
                    if known.lock().take_pool_pods((&place, number), news, now_nanos) {
                        tell.send_modify(|count| *count += 1);
                    }
                });
                Follower(tasks::spawn("watch of pods", follow))
            });
        }
        if changed.changed().await.is_err() {
            return;
        }
    }
}
