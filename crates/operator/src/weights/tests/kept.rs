//! What is kept, what makes room, and who prevents that.

use super::site::{Site, file};
use super::*;
use crate::weights::{cache, usage};

const BODY: [u8; 1000] = [7; 1000];

/// A store with so many weights of 1000 bytes, used one after another.
async fn filled(folder: &Path, limit: Option<u64>, count: u8) -> (Store, Site, Vec<Digest>) {
    let site = Site::new(|asked| {
        let mut body = BODY.to_vec();
        body[0] = asked.path.as_bytes()[1];
        file(asked, &body, "v1")
    })
    .await;
    let store = with(folder, "", Limits { cache_bytes_max: limit, ..Limits::default() });
    let mut digests = Vec::new();
    for number in 0..count {
        let source = format!("{}/{}", site.url, char::from(b'a' + number));
        store.ensure(&spec(&source, None), &Notes::default()).await.unwrap();
        let digest = store.list().iter().find(|entry| entry.source == source).unwrap().digest;
        usage::touch(&store.folder, &digest, 1000 + u64::from(number)).unwrap();
        digests.push(digest);
    }
    (store, site, digests)
}

fn there(store: &Store, digests: &[Digest]) -> String {
    let listed = store.list();
    let is = |digest: &&Digest| listed.iter().any(|entry| entry.digest == **digest);
    digests.iter().map(|digest| if is(&digest) { 'x' } else { '-' }).collect()
}

#[tokio::test(start_paused = true)]
async fn what_was_used_longest_ago_makes_room() {
    let folder = tempfile::tempdir().unwrap();
    let (store, site, digests) = filled(folder.path(), Some(3500), 3).await;
    usage::touch(&store.folder, &digests[0], 5000).unwrap();
    let notes = Notes::default();
    store.ensure(&spec(&format!("{}/z", site.url), None), &notes).await.unwrap();
    assert_eq!(there(&store, &digests), "x-x");
    assert!(notes.0.lock().iter().any(|note| note.starts_with("removed http://")));
    assert!(store.usage(&digests[0]).unwrap().used_unix_ms == Some(5000));
}

#[tokio::test(start_paused = true)]
async fn what_is_needed_stays() {
    let folder = tempfile::tempdir().unwrap();
    let (store, site, digests) = filled(folder.path(), Some(3500), 3).await;
    assert!(store.pin(&digests[0], true).unwrap());
    let second = spec(&format!("{}/b", site.url), None);
    let held = store.hold(&second, "pilotage up", &Notes::default()).await.unwrap();
    usage::touch(&store.folder, &digests[1], 1).unwrap();
    let users = store.usage(&digests[1]).unwrap().users;
    assert_eq!(users, [format!("pilotage up (process {})", std::process::id())]);
    store.ensure(&spec(&format!("{}/z", site.url), None), &Notes::default()).await.unwrap();
    assert_eq!(there(&store, &digests), "xx-");
    // Nor does anybody remove it by hand.
    let said = store.remove(&digests[0]).unwrap_err().to_string();
    assert!(said.contains("pinned"), "{said}");
    let said = store.remove(&digests[1]).unwrap_err().to_string();
    assert!(said.contains("in use by pilotage up"), "{said}");
    let pruned = store.prune(0, false).unwrap();
    assert_eq!((pruned.removed.len(), pruned.left_bytes), (1, 2000));
    drop(held);
    assert!(store.pin(&digests[0], false).unwrap());
    assert_eq!(store.prune(0, false).unwrap().left_bytes, 0);
    assert!(!store.pin(&digests[0], true).unwrap(), "it is not there");
}

#[tokio::test(start_paused = true)]
async fn a_user_that_died_needs_nothing() {
    let folder = tempfile::tempdir().unwrap();
    let (store, _, digests) = filled(folder.path(), None, 1).await;
    let lease = usage::lease(&store.folder, &digests[0], "pilotage up").unwrap();
    assert_eq!(store.usage(&digests[0]).unwrap().users.len(), 1);
    drop(lease);
    // What a process leaves that is killed: the file without its lock.
    let users = store.folder.join("usage").join(digests[0].hex()).join("users");
    std::fs::write(users.join("1-0"), "pilotage up (process 1)").unwrap();
    assert_eq!(store.usage(&digests[0]).unwrap().users, Vec::<String>::new());
    assert!(!users.join("1-0").exists());
}

#[tokio::test(start_paused = true)]
async fn what_cannot_fit_is_not_fetched() {
    let folder = tempfile::tempdir().unwrap();
    let (store, site, digests) = filled(folder.path(), Some(1500), 1).await;
    store.pin(&digests[0], true).unwrap();
    let wanted = spec(&format!("{}/z", site.url), None);
    let said = store.ensure(&wanted, &Notes::default()).await.unwrap_err().to_string();
    assert!(said.contains("1000 are pinned, in use") && said.contains("1500"), "{said}");
    let tiny = with(folder.path(), "", Limits { cache_bytes_max: Some(10), ..Limits::default() });
    let said = tiny.ensure(&wanted, &Notes::default()).await.unwrap_err().to_string();
    assert!(said.contains("at most 10 are allowed"), "{said}");
    assert_eq!(there(&store, &digests), "x", "nothing was removed for nothing");
}

#[tokio::test(start_paused = true)]
async fn pruning_can_be_tried_and_spares_downloads_under_way() {
    let folder = tempfile::tempdir().unwrap();
    let (store, _, digests) = filled(folder.path(), None, 3).await;
    let tried = store.prune(1500, true).unwrap();
    assert_eq!(there(&store, &digests), "xxx");
    let removed: Vec<_> = tried.removed.iter().map(|one| one.digest).collect();
    assert_eq!(removed, [Some(digests[0]), Some(digests[1])]);
    let partial = store.folder.join("partial");
    assert_eq!(std::fs::read_dir(&partial).unwrap().count(), 0, "nothing is left of downloads");
    let notes = Notes::default();
    let under_way = cache::Partial::lock(&store.folder, "one", &notes).await.unwrap();
    std::fs::write(under_way.file(), [1; 9000]).unwrap();
    let stopped = cache::Partial::lock(&store.folder, "other", &notes).await.unwrap();
    std::fs::write(stopped.file(), [1; 9000]).unwrap();
    drop(stopped);
    store.prune(0, false).unwrap();
    assert_eq!(there(&store, &digests), "---");
    assert!(under_way.file().exists());
    assert_eq!(std::fs::read_dir(&partial).unwrap().count(), 1);
}
