//! Whole repositories from a scripted hub.

use std::collections::BTreeMap;

use ring::digest::SHA1_FOR_LEGACY_USE_ONLY;
use serde_json::json;

use super::site::{Asked, Site, answer, chunked, file};
use super::*;

const COMMIT: &str = "0123456789abcdef0123456789abcdef01234567";

/// A repository as the hub has it.
#[derive(Clone, Default)]
struct Hub {
    files: BTreeMap<String, Vec<u8>>,
    /// What it serves instead of what it lists.
    served: BTreeMap<String, Vec<u8>>,
}

impl Hub {
    fn new(files: &[(&str, &[u8])]) -> Self {
        let files = files.iter().map(|(path, body)| ((*path).to_owned(), body.to_vec())).collect();
        Self { files, served: BTreeMap::new() }
    }

    fn model() -> Self {
        Self::new(&[
            ("README.md", b"about"),
            ("config.json", b"{}"),
            ("model-00001-of-00002.safetensors", &content()),
            ("model-00002-of-00002.safetensors", b"the rest"),
            ("pytorch_model.bin", b"evil"),
            ("1_Pooling/config.json", b"{\"a\": 1}"),
        ])
    }

    fn listed(&self) -> String {
        let sibling = |(path, body): (&String, &Vec<u8>)| {
            let blob = [format!("blob {}\0", body.len()).as_bytes(), body].concat();
            let blob = ring::digest::digest(&SHA1_FOR_LEGACY_USE_ONLY, &blob);
            let blob: String = blob.as_ref().iter().map(|byte| format!("{byte:02x}")).collect();
            let mut one = json!({ "rfilename": path, "size": body.len(), "blobId": blob });
            if path.ends_with(".safetensors") || path.ends_with(".bin") {
                let sha256 = digest(body).hex();
                one["blobId"] = "1".repeat(40).into();
                one["lfs"] = json!({ "sha256": sha256, "size": body.len(), "pointerSize": 134 });
            }
            one
        };
        let siblings: Vec<_> = self.files.iter().map(sibling).collect();
        json!({ "id": "o/r", "sha": COMMIT, "gated": false, "siblings": siblings }).to_string()
    }

    fn answer(&self, asked: &Asked) -> Vec<u8> {
        if asked.path.starts_with("/api/models/") {
            return answer("200 OK", self.listed().as_bytes());
        }
        let path = asked.path.strip_prefix(&format!("/o/r/resolve/{COMMIT}/"));
        let body = path.and_then(|path| self.served.get(path).or_else(|| self.files.get(path)));
        match body {
            Some(body) => file(asked, body, "v1"),
            None => answer("404 Not Found\r\nx-error-code: EntryNotFound", b""),
        }
    }

    async fn site(self) -> Site {
        Site::new(move |asked| self.answer(asked)).await
    }
}

async fn ensure(folder: &Path, site: &Site, source: &str) -> Result<PathBuf, String> {
    let store = with(folder, &site.url, Limits { part_bytes: 10_000, ..Limits::default() });
    store.ensure(&spec(source, None), &Notes::default()).await.map_err(|error| error.to_string())
}

#[tokio::test(start_paused = true)]
async fn a_repository_becomes_a_folder() {
    let site = Hub::model().site().await;
    let folder = tempfile::tempdir().unwrap();
    let path = ensure(folder.path(), &site, "hf:o/r").await.unwrap();
    let check = |name: &str, body: &[u8]| assert_eq!(std::fs::read(path.join(name)).unwrap(), body);
    check("config.json", b"{}");
    check("1_Pooling/config.json", b"{\"a\": 1}");
    check("model-00001-of-00002.safetensors", &content());
    check("model-00002-of-00002.safetensors", b"the rest");
    assert!(path.ends_with("r") && !path.join("pytorch_model.bin").exists());
    assert!(!path.join("README.md").exists());
    let asked = site.seen.lock().len();
    assert_eq!(site.paths()[0], "/api/models/o/r/revision/main?blobs=true");
    assert!(site.seen.lock()[0].head.contains("bearer hf-secret"));
    // It is known by its list, is found again, and is one commit.
    let store = with(folder.path(), &site.url, Limits::default());
    let entry = store.list().remove(0);
    let lines: String = [
        "1_Pooling/config.json",
        "config.json",
        "model-00001-of-00002.safetensors",
        "model-00002-of-00002.safetensors",
    ]
    .iter()
    .map(|name| format!("{}  {name}\n", digest(&std::fs::read(path.join(name)).unwrap()).hex()))
    .collect();
    assert_eq!(entry.digest, digest(lines.as_bytes()));
    assert_eq!(entry.revision.as_deref(), Some(COMMIT));
    assert_eq!(entry.size_bytes, 200_000 + 8 + 2 + 8);
    let pinned = spec("hf:o/r", Some(entry.digest));
    assert_eq!(store.ensure(&pinned, &Notes::default()).await.unwrap(), path);
    assert_eq!(store.identity(&spec("hf:o/r", None), &path), entry.digest.to_string());
    assert_eq!(site.seen.lock().len(), asked, "asked again though it was there");
    // One file that changed makes the folder another one.
    std::fs::write(path.join("config.json"), "{\"evil\": 1}").unwrap();
    assert_eq!(ensure(folder.path(), &site, "hf:o/r").await.unwrap(), path);
    check("config.json", b"{}");
    // The same folder by another name is there already.
    let other = ensure(folder.path(), &site, "hf:o/r@refs%2Fpr%2F1").await.unwrap();
    assert_eq!(other, path);
    assert!(site.paths().contains(&"/api/models/o/r/revision/refs%2Fpr%2F1?blobs=true".to_owned()));
    assert_eq!(store.list().len(), 1);
}

#[tokio::test(start_paused = true)]
async fn what_is_not_as_listed_is_not_kept() {
    let check = |path: &'static str, body: &'static [u8], part: &'static str| async move {
        let mut hub = Hub::model();
        hub.served.insert(path.to_owned(), body.to_vec());
        let site = hub.site().await;
        let folder = tempfile::tempdir().unwrap();
        let said = ensure(folder.path(), &site, "hf:o/r").await.unwrap_err();
        assert!(said.contains(part), "{said}");
        assert_eq!(with(folder.path(), "", Limits::default()).list(), []);
    };
    check(
        "model-00002-of-00002.safetensors",
        b"the evil",
        "model-00002-of-00002.safetensors of hf:o/r arrived damaged",
    )
    .await;
    check("config.json", b"[]", "expected the git blob").await;
    check("config.json", b"{\"much\": \"longer\"}", "it has 18 bytes instead of 2").await;
    // Endless, as nobody tells its length.
    let hub = Hub::model();
    let site = Site::new(move |asked| {
        if asked.path.ends_with("/config.json") {
            return chunked("200 OK", &[b' '; 100_000]);
        }
        hub.answer(asked)
    })
    .await;
    let folder = tempfile::tempdir().unwrap();
    let said = ensure(folder.path(), &site, "hf:o/r").await.unwrap_err();
    assert!(said.contains("more than it announced"), "{said}");
}

#[tokio::test(start_paused = true)]
async fn names_that_lead_out_are_refused() {
    for path in ["../../../evil.json", "/tmp/evil.json", "a/../../evil.json", "a\\evil.json"] {
        let mut hub = Hub::model();
        hub.files.insert(path.to_owned(), b"{}".to_vec());
        let site = hub.site().await;
        let folder = tempfile::tempdir().unwrap();
        let said = ensure(folder.path(), &site, "hf:o/r").await.unwrap_err();
        assert!(said.contains("the path"), "{said}");
        assert_eq!(site.seen.lock().len(), 1, "nothing is fetched");
    }
}

#[tokio::test(start_paused = true)]
async fn repositories_that_cannot_be_had_say_what_to_do() {
    let check = |head: &'static str, part: &'static str| async move {
        let site = Site::new(move |_| answer(head, b"{}")).await;
        let folder = tempfile::tempdir().unwrap();
        let said = ensure(folder.path(), &site, "hf:o/r").await.unwrap_err();
        assert!(said.contains(part) && said.starts_with("hf:o/r: "), "{said}");
        assert_eq!(site.seen.lock().len(), 1);
    };
    check("403 Forbidden\r\nx-error-code: GatedRepo\r\nx-error-message: ask", "accept its terms")
        .await;
    check("401 Unauthorized\r\nx-error-code: RepoNotFound", "no such repository, or it is private")
        .await;
    check("404 Not Found\r\nx-error-code: RevisionNotFound", "no such branch").await;
    check("401 Unauthorized", "HF_TOKEN").await;
    check("404 Not Found", "404").await;
    let pickles = Hub::new(&[("config.json", b"{}"), ("pytorch_model.bin", b"x")]).site().await;
    let folder = tempfile::tempdir().unwrap();
    let said = ensure(folder.path(), &pickles, "hf:o/r").await.unwrap_err();
    assert!(said.contains("run code"), "{said}");
}

#[tokio::test(start_paused = true)]
async fn a_repository_without_all_its_shards_is_refused() {
    let check = |index: &'static str, part: &'static str| async move {
        let mut hub = Hub::model();
        hub.files.insert("model.safetensors.index.json".to_owned(), index.as_bytes().to_vec());
        let site = hub.site().await;
        let folder = tempfile::tempdir().unwrap();
        let said = ensure(folder.path(), &site, "hf:o/r").await.err().unwrap_or_default();
        assert!(said.contains(part) && said.is_empty() == part.is_empty(), "{said}");
    };
    let one = r#"{"weight_map": {"a": "model-00001-of-00002.safetensors"}}"#;
    check(one, "").await;
    check(r#"{"weight_map": {"a": "model-00003-of-00003.safetensors"}}"#, "00003-of-00003").await;
    check(r#"{"weight_map": []}"#, "makes no sense").await;
}

#[tokio::test(start_paused = true)]
async fn a_folder_goes_on_where_it_stopped_even_at_another_commit() {
    let hub = Hub::model();
    let mut broken = hub.clone();
    broken.served.insert("model-00002-of-00002.safetensors".to_owned(), b"too long".repeat(9));
    let broken = Arc::new(Mutex::new(broken));
    let serving = Arc::clone(&broken);
    let site = Site::new(move |asked| serving.lock().answer(asked)).await;
    let folder = tempfile::tempdir().unwrap();
    let limits = Limits { part_bytes: 10_000, files_at_once: 1, ..Limits::default() };
    let store = with(folder.path(), &site.url, limits);
    store.ensure(&spec("hf:o/r", None), &Notes::default()).await.unwrap_err();
    let before = site.seen.lock().len();
    // Meanwhile the description changed, to one of the same size, and another one went.
    let mut hub = hub;
    hub.files.remove("1_Pooling/config.json");
    hub.files.insert("config.json".to_owned(), b"[]".to_vec());
    *broken.lock() = hub;
    let path = store.ensure(&spec("hf:o/r", None), &Notes::default()).await.unwrap();
    assert_eq!(std::fs::read(path.join("config.json")).unwrap(), b"[]");
    assert_eq!(std::fs::read(path.join("model-00001-of-00002.safetensors")).unwrap(), content());
    assert!(!path.join("1_Pooling/config.json").exists());
    let again = site.paths()[before..].to_vec();
    assert!(!again.iter().any(|path| path.contains("model-00001")), "{again:?}");
}

#[tokio::test]
async fn a_folder_of_the_users_own_is_used_where_it_is() {
    let folder = tempfile::tempdir().unwrap();
    let own = folder.path().join("qwen");
    std::fs::create_dir_all(&own).unwrap();
    std::fs::write(own.join("config.json"), "{}").unwrap();
    let store = with(folder.path(), "", Limits::default());
    let source = format!("file:{}", own.display());
    assert_eq!(store.ensure(&spec(&source, None), &Notes::default()).await.unwrap(), own);
    let right = digest(format!("{}  config.json\n", digest(b"{}").hex()).as_bytes());
    let pinned = store.ensure(&spec(&source, Some(right)), &Notes::default()).await;
    assert_eq!(pinned.unwrap(), own);
    let wrong = store.ensure(&spec(&source, Some(digest(b"x"))), &Notes::default()).await;
    assert!(matches!(wrong, Err(WeightsError::Digest { actual, .. }) if actual == right));
}
