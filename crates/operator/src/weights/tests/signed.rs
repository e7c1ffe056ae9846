//! Weights that must be signed.

use super::site::{Site, answer};
use super::*;

const KEY: &str = include_str!("signed/key.pub");
const HELLO: &[u8] = include_bytes!("signed/hello.sha512.sig");
const SUMS: &[u8] = include_bytes!("signed/SHA256SUMS");
const SUMS_SIGNATURE: &[u8] = include_bytes!("signed/SHA256SUMS.sig");

fn signed(source: &str, key: &str) -> WeightsSpec {
    WeightsSpec { signed_by: Some(key.parse().unwrap()), ..spec(source, None) }
}

#[tokio::test(start_paused = true)]
async fn a_file_comes_with_its_signature_or_not_at_all() {
    let site = Site::new(|asked| match asked.path.as_str() {
        "/good" | "/unsigned" | "/plain" => answer("200 OK", b"hello\n"),
        "/evil" => answer("200 OK", b"hallo\n"),
        "/good.sig" | "/evil.sig" => answer("200 OK", HELLO),
        "/plain.sig" => answer("200 OK", b"hello\n"),
        _ => answer("404 Not Found", b""),
    })
    .await;
    let folder = tempfile::tempdir().unwrap();
    let store = with(folder.path(), "", Limits::default());
    let at = |name: &str| format!("{}/{name}", site.url);
    for (name, part) in
        [("evil", "not of this content"), ("unsigned", "404"), ("plain", "not one of")]
    {
        let error = store.ensure(&signed(&at(name), KEY), &Notes::default()).await.unwrap_err();
        assert!(matches!(error, WeightsError::Signature { .. }), "{error}");
        assert!(error.to_string().contains(part), "{error}");
        assert_eq!(store.list(), []);
    }
    let stranger = pilotage_plan::Signer::from_bytes([1; 32]).to_string();
    let error = store.ensure(&signed(&at("good"), &stranger), &Notes::default()).await.unwrap_err();
    assert!(error.to_string().contains("another key"), "{error}");
    store.ensure(&signed(&at("good"), KEY), &Notes::default()).await.unwrap();
    let asked = site.seen.lock().len();
    store.ensure(&signed(&at("good"), KEY), &Notes::default()).await.unwrap();
    assert_eq!(site.seen.lock().len(), asked, "it is known to be signed");
    // What was fetched without is not taken for signed.
    store.ensure(&spec(&at("unsigned"), None), &Notes::default()).await.unwrap();
    store.remove(&digest(b"hello\n")).unwrap();
    store.ensure(&spec(&at("unsigned"), None), &Notes::default()).await.unwrap();
    store.ensure(&signed(&at("unsigned"), KEY), &Notes::default()).await.unwrap_err();
}

#[tokio::test]
async fn a_folder_has_a_signed_list() {
    let folder = tempfile::tempdir().unwrap();
    let own = folder.path().join("model");
    std::fs::create_dir_all(&own).unwrap();
    let write = |name: &str, body: &[u8]| std::fs::write(own.join(name), body).unwrap();
    write("config.json", b"{}");
    write("model.safetensors", b"weights");
    let store = with(folder.path(), "", Limits::default());
    let spec = signed(&format!("file:{}", own.display()), KEY);
    let check = async |part: &str| {
        let said = store.ensure(&spec, &Notes::default()).await;
        let said = said.err().map(|error| error.to_string()).unwrap_or_default();
        assert!(said.contains(part) && said.is_empty() == part.is_empty(), "{said}");
    };
    check("SHA256SUMS").await;
    write("SHA256SUMS", SUMS);
    check("SHA256SUMS.sig").await;
    write("SHA256SUMS.sig", SUMS_SIGNATURE);
    check("").await;
    write("config.json", b"[]");
    check("config.json is not what").await;
    write("config.json", b"{}");
    write("more.json", b"{}");
    check("more.json is not in").await;
    std::fs::remove_file(own.join("more.json")).unwrap();
    write("SHA256SUMS", &SUMS.to_ascii_uppercase());
    check("not of this content").await;
}
