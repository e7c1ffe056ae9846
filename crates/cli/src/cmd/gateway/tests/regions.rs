//! Gateways of other regions: whose key goes where.

use super::*;

fn gateway_at(url: &str) -> Value {
    json!({"endpoints": [{"url": url, "region": "oslo", "gateway": true}]})
}

fn secret(entry: &str) -> Value {
    json!({"apiVersion": "v1", "kind": "Secret", "type": "Opaque",
        "metadata": {"name": "pilotage-engine-keys", "namespace": "pilotage"},
        "stringData": {"region_oslo": entry}})
}

fn left_out(status: &Value) -> Vec<&str> {
    let all = status["cluster"]["leftOut"].as_array().unwrap();
    all.iter().map(|one| one.as_str().unwrap()).collect()
}

#[tokio::test(start_paused = true)]
async fn the_key_of_a_region_goes_to_its_own_origin_alone() {
    let (oslo, thief) = (Engine::start().await, Engine::start().await);
    let mut rig = Rig::start().await;
    rig.put(secret(&format!("http://127.0.0.1:{} of-oslo\n", oslo.at.port()))).await;
    rig.put(resource("Model", "n", "m", &gateway_at(&format!("http://{}", oslo.at)))).await;
    rig.replicas(1, 1).await;
    assert_eq!(rig.answered("m").await, Ok(oslo.at.port()));
    assert_eq!(oslo.last_key(), "Bearer of-oslo");
    // Whoever may write a Model in any namespace names the region as well.
    let mine = gateway_at(&format!("http://{}", thief.at));
    rig.put(resource("Model", "other", "mine", &mine)).await;
    let status = rig.until(|status| !left_out(status).is_empty()).await;
    let told = left_out(&status);
    assert!(told.len() == 1 && told[0].starts_with("mine@"), "{told:?}");
    assert!(told[0].contains("`region_oslo`") && !told[0].contains("of-oslo"), "{told:?}");
    assert!(rig.answered("mine").await.is_err());
    assert_eq!(thief.asked(), 0);
    // A key of which nobody says whose it is is nobody's.
    rig.put(secret("of-oslo")).await;
    let status = rig.until(|status| left_out(status).len() == 2).await;
    let told = left_out(&status);
    assert!(told.iter().all(|one| one.contains("`https://HOST[:PORT] KEY`")), "{told:?}");
    assert_eq!((oslo.asked(), thief.asked()), (1, 0));
}
