//! Large files in parts: at once, after crashes, from servers that change and from servers that lie.

use super::site::{Asked, Site, answer, chunked, file};
use super::*;

const PART: u64 = 10_000;

/// A store that fetches parts of 10 000 bytes, four at once.
fn store(folder: &Path) -> Store {
    with(folder, "", Limits { part_bytes: PART, parts_at_once: 4, ..Limits::default() })
}

async fn fetch(folder: &Path, site: &Site, expect: &[u8]) -> Result<Vec<u8>, String> {
    let pinned = spec(&format!("{}/w.gguf", site.url), Some(digest(expect)));
    let path = store(folder).ensure(&pinned, &Notes::default()).await;
    path.map(|path| std::fs::read(path).unwrap()).map_err(|error| error.to_string())
}

/// The parts that were asked for, by where they begin.
fn begins(site: &Site) -> Vec<usize> {
    let mut begins: Vec<usize> =
        site.seen.lock().iter().map(|asked| asked.range().map_or(0, |(from, _)| from)).collect();
    begins.sort_unstable();
    begins
}

#[tokio::test(start_paused = true)]
async fn parts_come_at_once_and_each_once() {
    let site = Site::meeting(4, |asked| file(asked, &content(), "v1")).await;
    let folder = tempfile::tempdir().unwrap();
    assert_eq!(fetch(folder.path(), &site, &content()).await.unwrap(), content());
    assert_eq!(begins(&site), (0..20).map(|part| part * 10_000).collect::<Vec<_>>());
    let ranged = site.seen.lock().iter().filter(|asked| asked.range().is_some()).count();
    assert_eq!(ranged, 19, "the first answer is the first part");
}

#[tokio::test(start_paused = true)]
async fn a_host_has_no_more_connections_than_allowed() {
    let check = |connections_per_host: usize, stalls: bool| async move {
        // The first three parts are answered together: with fewer connections they wait in vain.
        let site = Site::meeting(3, |asked| file(asked, &content(), "v1")).await;
        let folder = tempfile::tempdir().unwrap();
        let limits = Limits {
            part_bytes: PART,
            parts_at_once: 8,
            connections_per_host,
            ..Limits::default()
        };
        let pinned = spec(&format!("{}/w", site.url), Some(digest(&content())));
        let notes = Notes::default();
        with(folder.path(), "", limits).ensure(&pinned, &notes).await.unwrap();
        let stalled = notes.0.lock().iter().any(|note| note.contains("no answer came"));
        assert_eq!(stalled, stalls, "{connections_per_host}");
    };
    check(2, true).await;
    check(3, false).await;
}

#[tokio::test(start_paused = true)]
async fn what_came_before_a_failure_is_not_fetched_again() {
    let folder = tempfile::tempdir().unwrap();
    let broken = |asked: &Asked| match asked.range() {
        Some((from, _)) if from >= 150_000 => answer("403 Forbidden", b""),
        _ => file(asked, &content(), "v1"),
    };
    let first = Site::new(broken).await;
    let url = format!("{}/w", first.url);
    let spec = spec(&url, Some(digest(&content())));
    let said = store(folder.path()).ensure(&spec, &Notes::default()).await.unwrap_err().to_string();
    assert!(said.contains("403"), "{said}");
    let record = std::fs::read_dir(folder.path().join("weights/partial")).unwrap().next().unwrap();
    let record = record.unwrap().path().join("record.json");
    let text = std::fs::read_to_string(&record).unwrap();
    let done: u64 = serde_json::from_str::<serde_json::Value>(&text).unwrap()["done"]
        .as_array()
        .unwrap()
        .iter()
        .map(|done| done.as_u64().unwrap())
        .sum();
    assert!(done >= 100_000, "{text}");
    let before = first.seen.lock().len();
    let said = store(folder.path()).ensure(&spec, &Notes::default()).await.unwrap_err().to_string();
    assert!(said.contains("403"), "{said}");
    let again = first.seen.lock()[before..].to_vec();
    assert!(again.iter().all(|asked| asked.range().unwrap().0 >= 100_000), "{again:?}");
}

#[tokio::test(start_paused = true)]
async fn another_version_begins_anew() {
    let new: Vec<u8> = content().into_iter().rev().collect();
    let other = new.clone();
    let site = Site::new(move |asked| match asked.number {
        0..5 => file(asked, &content(), "v1"),
        _ => file(asked, &other, "v2"),
    })
    .await;
    let folder = tempfile::tempdir().unwrap();
    assert_eq!(fetch(folder.path(), &site, &new).await.unwrap(), new);
    // Never the same twice.
    let site = Site::new(|asked| file(asked, &content(), &asked.number.to_string())).await;
    let said = fetch(folder.path(), &site, &content()).await.unwrap_err();
    assert!(said.contains("another version each time"), "{said}");
    // Another size under the same name.
    let site = Site::new(|asked| match asked.range() {
        Some(_) => file(asked, &[0; 199_000], "v1"),
        None => file(asked, &content(), "v1"),
    })
    .await;
    let said = fetch(folder.path(), &site, &content()).await.unwrap_err();
    assert!(said.contains("another version each time"), "{said}");
}

#[tokio::test(start_paused = true)]
async fn servers_that_lie_about_parts_are_refused() {
    let check = |lie: fn(&Asked) -> Vec<u8>, part: &'static str| async move {
        let site = Site::new(move |asked| match asked.range() {
            Some(_) => lie(asked),
            None => file(asked, &content(), "v1"),
        })
        .await;
        let folder = tempfile::tempdir().unwrap();
        let said = fetch(folder.path(), &site, &content()).await.unwrap_err();
        assert!(said.contains(part), "{said}");
        assert_eq!(store(folder.path()).list(), []);
    };
    check(
        |_| answer("206 Partial Content\r\netag: \"v1\"\r\ncontent-range: bytes 1-2/200000", b"x"),
        "another range",
    )
    .await;
    check(|_| answer("206 Partial Content\r\netag: \"v1\"", b"x"), "another range").await;
    check(
        |asked| {
            let from = asked.range().unwrap().0;
            let head = format!(
                "206 Partial Content\r\netag: \"v1\"\r\ncontent-range: bytes {from}-199999/200000"
            );
            chunked(&head, &vec![7; 60_000])
        },
        "more than it announced",
    )
    .await;
    // Parts of something else arrive whole, and are found out in the end.
    check(|asked| file(asked, &[9; 200_000], "v1"), "not what was pinned").await;
}

#[tokio::test(start_paused = true)]
async fn a_record_that_lies_costs_a_download() {
    let folder = tempfile::tempdir().unwrap();
    let site = Site::new(|asked| match asked.range() {
        Some((from, _)) if from >= 150_000 => answer("404 Not Found", b""),
        _ => file(asked, &content(), "v1"),
    })
    .await;
    fetch(folder.path(), &site, &content()).await.unwrap_err();
    let partial = std::fs::read_dir(folder.path().join("weights/partial")).unwrap().next().unwrap();
    let record = partial.unwrap().path().join("record.json");
    for text in ["", "{}", r#"{"tag":"\"v1\"","total":200000,"part_bytes":10000,"done":[10000]}"#] {
        std::fs::write(&record, text).unwrap();
        let before = site.seen.lock().len();
        fetch(folder.path(), &site, &content()).await.unwrap_err();
        assert!(site.seen.lock()[before].range().is_none(), "{text}: it did not begin anew");
    }
}

#[tokio::test(start_paused = true)]
async fn servers_are_left_alone_for_as_long_as_they_ask() {
    let clock = Clock::start();
    let site = Site::new(|asked| match asked.number {
        0 => answer("429 Too Many Requests\r\nretry-after: 77", b""),
        1 => answer("503 Service Unavailable\r\nretry-after: 33", b""),
        _ => file(asked, &content(), "v1"),
    })
    .await;
    let folder = tempfile::tempdir().unwrap();
    fetch(folder.path(), &site, &content()).await.unwrap();
    let waited = clock.now_nanos() / 1_000_000_000;
    assert!((110..130).contains(&waited), "{waited} s");
    let site = Site::new(|_| answer("429 Too Many Requests\r\nretry-after: 86400", b"")).await;
    let said = fetch(folder.path(), &site, b"x").await.unwrap_err();
    assert!(said.contains("86400 s"), "{said}");
    assert_eq!(site.seen.lock().len(), 1);
}

#[tokio::test(start_paused = true)]
async fn an_empty_file_is_a_file() {
    let site = Site::new(|asked| file(asked, b"", "v1")).await;
    let folder = tempfile::tempdir().unwrap();
    assert_eq!(fetch(folder.path(), &site, b"").await.unwrap(), b"");
}

#[tokio::test(start_paused = true)]
async fn what_never_ends_is_too_large() {
    let site = Site::new(|_| {
        let head = "HTTP/1.1 200 OK\r\ncontent-length: 9223372036854775807\r\n\r\n";
        [head.as_bytes(), &[0; 10_000]].concat()
    })
    .await;
    let folder = tempfile::tempdir().unwrap();
    let said = fetch(folder.path(), &site, b"x").await.unwrap_err();
    assert!(said.contains("larger than"), "{said}");
    let site = Site::new(|_| {
        let head = "HTTP/1.1 200 OK\r\ncontent-length: 4398046511104\r\n\r\n";
        head.as_bytes().to_vec()
    })
    .await;
    let said = fetch(folder.path(), &site, b"x").await.unwrap_err();
    assert!(said.contains("do not fit on the disk"), "{said}");
}
