//! What a gateway keeps over a restart of its container, and what it does in time however much happens.

use super::*;
use crate::cmd::front::{LOOK, SAVE_EVERY};

#[tokio::test(start_paused = true)]
async fn budgets_and_canaries_survive_a_restart() {
    let engine = Engine::start().await;
    let mut rig = Rig::start().await;
    let budget = json!({"keys": [{"name": "k", "sha256": client_hash()}],
        "quota": {"budgets": [{"window": "month", "hard": "1"}]}});
    rig.put(resource("Tenant", "n", "team", &budget)).await;
    let mut priced = vllm();
    priced["price"] = json!({"input": "1", "output": "1"});
    rig.model(&priced).await;
    rig.put(resource("Model", "n", "next", &vllm())).await;
    let route = json!({"targets": [{"model": "m"}], "canary": {"model": "next"}});
    rig.put(resource("Route", "n", "chat", &route)).await;
    rig.put(slice(&[("p", "1", engine.at, true, false)])).await;
    rig.until(|status| status["routes"].as_array().is_some_and(|routes| !routes.is_empty())).await;
    rig.replicas(1, 1).await;
    assert_eq!(rig.answered("chat").await, Ok(engine.at.port()));
    rig.during(tokio::time::sleep(SAVE_EVERY * 2)).await;
    let gateway = rig.serving.front().gateway.clone();
    let (spent, seed) = (gateway.spent(), gateway.trials()["chat"]["seed"].clone());
    assert!(spent.len() == 1 && spent[0].3 == 2 && seed.is_u64(), "{spent:?} {seed}");
    let read = |folder: &std::path::Path| {
        ["spent.json", "trials.json"]
            .map(|name| std::fs::read_to_string(folder.join(name)).unwrap())
    };
    let before = read(rig.folder.path());

    let Rig { server, client, serving, folder } = rig;
    drop(serving);
    // The process that ended here goes on as another one's: its ledger is held until that ends.
    let ended = folder;
    let folder = tempfile::tempdir().unwrap();
    for name in ["spent.json", "trials.json"] {
        std::fs::copy(ended.path().join(name), folder.path().join(name)).unwrap();
    }
    server.with(|cluster, now_ms| cluster.faults().away_until_ms(now_ms + 60_000));
    let mut rig = Rig::within(server, client, Purpose::Serve, folder).await;
    rig.during(tokio::time::sleep(SAVE_EVERY * 10)).await;
    assert_eq!(read(rig.folder.path()), before, "nothing is known yet");
    rig.replicas(1, 1).await;
    let gateway = rig.serving.front().gateway.clone();
    assert_eq!((gateway.spent(), &gateway.trials()["chat"]["seed"]), (spent, &seed));
    rig.during(tokio::time::sleep(SAVE_EVERY * 2)).await;
    assert_eq!(read(rig.folder.path())[0], before[0]);
}

#[tokio::test(start_paused = true)]
async fn what_shall_go_goes_however_much_else_happens() {
    let (one, two) = (Engine::start().await, Engine::start().await);
    let mut rig = Rig::start().await;
    rig.model(&vllm()).await;
    rig.put(slice(&[("p", "1", one.at, true, false)])).await;
    rig.put(slice(&[("q", "2", two.at, true, false)])).await;
    rig.replicas(2, 2).await;
    let client = rig.client.clone();
    let news = async move {
        // Another key: the replicas that know the old one rest.
        let keys = json!({"apiVersion": "v1", "kind": "Secret", "type": "Opaque",
            "metadata": {"name": "pilotage-engine-keys", "namespace": "pilotage"},
            "stringData": {"n.m": "another"}});
        put(&client, keys).await;
        for round in 0..40 {
            let tenant = json!({"weight": round + 1});
            put(&client, resource("Tenant", "n", "other", &tenant)).await;
            tokio::time::sleep(LOOK / 3).await;
        }
    };
    rig.during(news).await;
    let status = rig.status().await;
    let replicas = status["lanes"][0]["replicas"].as_array().unwrap();
    let up = replicas.iter().filter(|one| one["up"] == true).count();
    assert_eq!(up, 2, "those that rest have gone: {replicas:?}");
}
