//! The pods of InferencePools: watched by each pool's own selector, for as long as the pool is served.

use std::collections::BTreeMap;
use std::sync::Arc;

use kube::Client;
use parking_lot::Mutex;
use pilotage_plan::gateway_api::Pool;
use pilotage_shell::clock::Clock;
use pilotage_shell::tasks;
use tokio::sync::watch;
use tokio::task::JoinHandle;

use crate::follow::{Followed, Place};
use crate::{Known, objects};

/// A watch of a pool's pods, by that selector. Dropped, it ends.
struct Followers {
    selector: String,
    task: JoinHandle<Option<()>>,
}

impl Drop for Followers {
    fn drop(&mut self) {
        self.task.abort();
    }
}

/// Watches the pods of the pools that are known, for ever.
pub(crate) async fn follow(
    client: Client,
    known: Arc<Mutex<Known>>,
    mut changed: watch::Receiver<u64>,
    (tell, clock): (Arc<watch::Sender<u64>>, Clock),
) {
    let mut open: BTreeMap<Place, Followers> = BTreeMap::new();
    loop {
        let wanted: Vec<Pool> = known.lock().pools().to_vec();
        let is_wanted = |place: &Place, followers: &Followers| {
            let same = |pool: &Pool| pool.place == *place && pool.selector == followers.selector;
            wanted.iter().any(same)
        };
        open.retain(|place, followers| is_wanted(place, followers));
        for pool in wanted {
            let (known, tell) = (Arc::clone(&known), Arc::clone(&tell));
            open.entry(pool.place.clone()).or_insert_with(|| {
                let pods = objects(&client, Some(&pool.place.0), ("", "v1", "Pod"));
                let pods = Followed::all("Pod", pods).labelled(&pool.selector).optional();
                let place = pool.place;
                let follow = pods.follow(clock, move |news| {
                    if known.lock().take_pool_pods(&place, news, clock.now_nanos()) {
                        tell.send_modify(|count| *count += 1);
                    }
                });
                Followers { selector: pool.selector, task: tasks::spawn("watch of pods", follow) }
            });
        }
        if changed.changed().await.is_err() {
            return;
        }
    }
}
