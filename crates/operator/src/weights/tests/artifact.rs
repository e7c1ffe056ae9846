//! Artifacts from a scripted registry.

use std::collections::BTreeMap;

use serde_json::{Value, json};

use super::site::{Asked, Site, answer, file};
use super::*;

/// A registry of one repository, `org/model`.
#[derive(Default)]
struct Registry {
    manifests: BTreeMap<String, Vec<u8>>,
    blobs: BTreeMap<String, Vec<u8>>,
    /// The token that it wants.
    token: Option<&'static str>,
    /// Where blobs are.
    elsewhere: Option<String>,
}

impl Registry {
    fn layer(&mut self, kind: &str, path: Option<&str>, body: &[u8]) -> Value {
        let digest = digest(body).to_string();
        self.blobs.insert(digest.clone(), body.to_vec());
        let mut layer = json!({ "mediaType": kind, "digest": digest, "size": body.len() });
        if let Some(path) = path {
            layer["annotations"] = json!({ "org.cncf.model.filepath": path });
        }
        layer
    }

    fn tag(&mut self, tag: &str, layers: &[Value]) -> Digest {
        let manifest = json!({ "schemaVersion": 2, "layers": layers }).to_string().into_bytes();
        let digest = digest(&manifest);
        self.manifests.insert(tag.to_owned(), manifest.clone());
        self.manifests.insert(digest.to_string(), manifest);
        digest
    }

    fn answer(&self, asked: &Asked) -> Vec<u8> {
        if let Some(scope) = asked.path.strip_prefix("/token?") {
            assert_eq!(scope, "service=here&scope=repository%3Aorg%2Fmodel%3Apull");
            return match asked.header("authorization") {
                Some("basic ytpi") => answer("200 OK", br#"{"token": "let-me-in"}"#),
                _ => answer("401 Unauthorized", b""),
            };
        }
        let wanted = self.token.map(|token| format!("bearer {token}"));
        if wanted.is_some() && asked.header("authorization") != wanted.as_deref() {
            let host = asked.header("host").unwrap();
            let head = format!(
                "401 Unauthorized\r\nwww-authenticate: Bearer realm=\"http://{host}/token\",service=\"here\""
            );
            return answer(&head, b"");
        }
        let rest = asked.path.strip_prefix("/v2/org/model/").unwrap();
        let found = match rest.split_once('/').unwrap() {
            ("manifests", named) => self.manifests.get(named),
            (_, digest) => match &self.elsewhere {
                Some(url) => {
                    return answer(
                        &format!("307 Temporary Redirect\r\nlocation: {url}/{digest}"),
                        b"",
                    );
                }
                None => self.blobs.get(digest),
            },
        };
        found.map_or_else(|| answer("404 Not Found", b""), |body| file(asked, body, "v1"))
    }

    async fn site(self) -> Site {
        Site::new(move |asked| self.answer(asked)).await
    }
}

fn host(site: &Site) -> &str {
    site.url.strip_prefix("http://").unwrap()
}

fn registry_store(folder: &Path, site: &Site, login: Option<&str>) -> Store {
    let mut access = access("", "");
    if let Some(login) = login {
        access.registries.add(host(site), &Secret::new(login.to_owned()));
    }
    Store::new(folder, access)
}

async fn ensure(folder: &Path, site: &Site, reference: &str) -> Result<PathBuf, String> {
    let store = registry_store(folder, site, Some("a:b"));
    let wanted = spec(&format!("oci://{}/org/model{reference}", host(site)), None);
    store.ensure(&wanted, &Notes::default()).await.map_err(|error| error.to_string())
}

fn packed(files: &[(&str, &[u8])]) -> Vec<u8> {
    let mut tar = tar::Builder::new(Vec::new());
    for (path, body) in files {
        let mut header = tar::Header::new_gnu();
        header.set_size(body.len() as u64);
        header.set_mode(0o644);
        tar.append_data(&mut header, path, *body).unwrap();
    }
    tar.into_inner().unwrap()
}

#[tokio::test(start_paused = true)]
async fn one_gguf_is_a_file() {
    let mut registry = Registry { token: Some("let-me-in"), ..Registry::default() };
    let layers = [
        registry.layer("application/vnd.docker.ai.gguf.v3", None, &content()),
        registry.layer("application/vnd.docker.ai.license", None, b"terms"),
    ];
    let manifest = registry.tag("latest", &layers);
    let site = registry.site().await;
    let folder = tempfile::tempdir().unwrap();
    let path = ensure(folder.path(), &site, ":latest").await.unwrap();
    assert!(path.ends_with("model.gguf"));
    assert_eq!(std::fs::read(&path).unwrap(), content());
    let store = registry_store(folder.path(), &site, None);
    let entry = store.list().remove(0);
    assert_eq!((entry.digest, entry.revision), (digest(&content()), Some(manifest.to_string())));
    let license = digest(b"terms").to_string();
    assert!(!site.paths().iter().any(|path| path.ends_with(&license)));
    assert!(site.paths().iter().filter(|path| path.starts_with("/token")).count() == 1);
    // By digest the same, and a stranger gets nothing.
    assert_eq!(ensure(folder.path(), &site, &format!("@{manifest}")).await.unwrap(), path);
    let wanted = spec(&format!("oci://{}/org/model:other", host(&site)), None);
    let said = store.ensure(&wanted, &Notes::default()).await.unwrap_err().to_string();
    assert!(said.contains("docker login"), "{said}");
}

#[tokio::test(start_paused = true)]
async fn files_and_tars_make_a_folder() {
    let mut registry = Registry::default();
    let tar = packed(&[
        ("qwen/tokenizer.json", b"{}"),
        ("qwen/sub/x.txt", b"x"),
        ("qwen/evil.bin", b"x"),
    ]);
    let layers = [
        registry.layer(
            "application/vnd.cncf.model.weight.v1.raw",
            Some("qwen/model.safetensors"),
            &content(),
        ),
        registry.layer(
            "application/vnd.cncf.model.weight.config.v1.raw",
            Some("qwen/config.json"),
            b"{}",
        ),
        registry.layer("application/vnd.cncf.model.weight.config.v1.tar", None, &tar),
        registry.layer("application/vnd.cncf.model.doc.v1.raw", Some("qwen/README.md"), b"about"),
    ];
    registry.tag("v1", &layers);
    let site = registry.site().await;
    let folder = tempfile::tempdir().unwrap();
    let path = ensure(folder.path(), &site, ":v1").await.unwrap();
    let there = crate::weights::listing::paths(&path).unwrap();
    assert_eq!(there, ["config.json", "model.safetensors", "sub/x.txt", "tokenizer.json"]);
    assert_eq!(std::fs::read(path.join("model.safetensors")).unwrap(), content());
}

#[tokio::test(start_paused = true)]
async fn blobs_elsewhere_are_fetched_without_the_token() {
    let blobs = Site::new(|asked| file(asked, &content(), "v1")).await;
    let mut registry = Registry {
        token: Some("let-me-in"),
        elsewhere: Some(blobs.url.clone()),
        ..Registry::default()
    };
    let layer = registry.layer("application/vnd.ollama.image.model", None, &content());
    registry.tag("v1", &[layer]);
    let site = registry.site().await;
    let folder = tempfile::tempdir().unwrap();
    ensure(folder.path(), &site, ":v1").await.unwrap();
    assert!(!blobs.seen.lock().iter().any(|asked| asked.head.contains("authorization")));
}

#[tokio::test(start_paused = true)]
async fn registries_are_not_believed() {
    let raw = "application/vnd.cncf.model.weight.v1.raw";
    let tar = "application/vnd.cncf.model.weight.v1.tar";
    let check = |build: &dyn Fn(&mut Registry) -> Vec<Value>, part: &'static str| {
        let mut registry = Registry::default();
        let layers = build(&mut registry);
        registry.tag("v1", &layers);
        async move {
            let site = registry.site().await;
            let folder = tempfile::tempdir().unwrap();
            let said = ensure(folder.path(), &site, ":v1").await.unwrap_err();
            assert!(said.contains(part), "{part}: {said}");
            assert_eq!(registry_store(folder.path(), &site, None).list(), []);
        }
    };
    let gguf = Some("a.gguf");
    check(
        &|registry| {
            let layer = registry.layer(raw, gguf, b"good");
            registry.blobs.insert(digest(b"good").to_string(), b"evil".to_vec());
            vec![layer]
        },
        "arrived damaged",
    )
    .await;
    check(
        &|registry| {
            let layer = registry.layer(raw, gguf, b"good");
            registry.blobs.insert(digest(b"good").to_string(), b"good and more".to_vec());
            vec![layer]
        },
        "13 bytes instead of 4",
    )
    .await;
    check(&|registry| vec![registry.layer(raw, Some("../../evil.gguf"), b"x")], "leads out").await;
    check(&|registry| vec![registry.layer(raw, Some("w.bin"), b"x")], "run code").await;
    check(&|registry| vec![registry.layer(raw, Some("a.txt"), b"x")], "neither safetensors").await;
    check(&|registry| vec![registry.layer(tar, None, b"no tar")], "cannot be unpacked").await;
    check(
        &|registry| vec![registry.layer(raw, gguf, b"one"), registry.layer(raw, gguf, b"other")],
        "File exists",
    )
    .await;
    check(
        &|registry| {
            let layer = registry.layer(raw, gguf, b"one");
            vec![registry.layer(tar, None, &packed(&[("a.gguf", b"other")])), layer]
        },
        "File exists",
    )
    .await;
}

#[tokio::test(start_paused = true)]
async fn another_manifest_than_named_is_refused() {
    let mut registry = Registry::default();
    let layer = registry.layer("application/vnd.docker.ai.gguf.v3", None, b"x");
    registry.tag("v1", &[layer]);
    let named = digest(b"another");
    let body = registry.manifests["v1"].clone();
    registry.manifests.insert(named.to_string(), body);
    let site = registry.site().await;
    let folder = tempfile::tempdir().unwrap();
    let said = ensure(folder.path(), &site, &format!("@{named}")).await.unwrap_err();
    assert!(said.contains("not what was pinned"), "{said}");
}
