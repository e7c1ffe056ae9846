//! What a gateway keeps over a restart of its container.

use super::*;
use crate::cmd::front::SAVE_EVERY;

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
    assert_eq!(rig.answered("m").await, Ok(engine.at.port()));
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
