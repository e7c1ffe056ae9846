//! The console as browsers meet it.

use axum::body::Body;
use http::HeaderValue;
use tower::ServiceExt as _;

use super::*;

const ADMIN: &str = "pk-admin";
const VIEWER: &str = "pk-viewer";

fn console() -> Console {
    let forward: Forward = Arc::new(|request: Request| {
        Box::pin(async move {
            let headers = request.headers();
            let key = headers.get(header::AUTHORIZATION).map_or("", |key| key.to_str().unwrap());
            let cookie = headers.contains_key(header::COOKIE);
            format!("{} {} {key} {cookie}", request.method(), request.uri()).into_response()
        })
    });
    let config = ConsoleConfig {
        admin_key: KeyHash::of(ADMIN),
        viewer_key: Some(KeyHash::of(VIEWER)),
        hosts: Vec::new(),
        https: false,
        playground: Some(Playground { forward, key: Some(Secret::new("pk-own".to_owned())) }),
    };
    Console::new(config, Clock::start())
}

async fn ask(
    console: &Console,
    method: Method,
    path: &str,
    headers: &[(&'static str, &str)],
    body: &str,
) -> (StatusCode, HeaderMap, String) {
    let mut request = http::Request::builder().method(method).uri(path);
    if !headers.iter().any(|(name, _)| *name == "host") {
        request = request.header("host", "127.0.0.1:8081");
    }
    for (name, value) in headers {
        request = request.header(*name, *value);
    }
    let request = request.body(Body::from(body.to_owned())).unwrap();
    let (parts, body) = console.router().oneshot(request).await.unwrap().into_parts();
    let body = String::from_utf8_lossy(&read(body, 1 << 20).await.unwrap()).into_owned();
    (parts.status, parts.headers, body)
}

async fn get(
    console: &Console,
    path: &str,
    headers: &[(&'static str, &str)],
) -> (StatusCode, HeaderMap, String) {
    ask(console, Method::GET, path, headers, "").await
}

/// Where a login leads, and the cookie it gives.
async fn log_in(console: &Console, key: &str) -> (String, Option<String>) {
    let form = format!("key={key}");
    let (status, headers, _) = ask(console, Method::POST, "/console/login", &[], &form).await;
    assert_eq!(status, StatusCode::SEE_OTHER);
    let text =
        |name| headers.get(name).map(|value: &HeaderValue| value.to_str().unwrap().to_owned());
    (text(header::LOCATION).unwrap(), text(header::SET_COOKIE))
}

/// What a browser sends back.
fn sent(cookie: &str) -> &str {
    cookie.split(';').next().unwrap()
}

#[tokio::test(start_paused = true)]
async fn a_key_is_a_session_until_it_ends() {
    let console = console();
    let (to, cookie) = log_in(&console, ADMIN).await;
    let cookie = cookie.unwrap();
    assert_eq!(to, "/console/");
    for part in ["pilotage-8081=pk-", "HttpOnly", "SameSite=Strict", "Path=/", "Max-Age=43200"] {
        assert!(cookie.contains(part), "{cookie}");
    }
    assert!(!cookie.contains("Secure"));
    let with = [("cookie", sent(&cookie))];
    let (status, _, body) = get(&console, "/console/session", &with).await;
    assert_eq!(status, StatusCode::OK);
    assert!(body.contains(r#""role":"admin""#), "{body}");
    let (status, headers, _) = ask(&console, Method::POST, "/console/logout", &with, "").await;
    assert_eq!(status, StatusCode::SEE_OTHER);
    assert!(headers[header::SET_COOKIE].to_str().unwrap().contains("Max-Age=0"));
    assert_eq!(get(&console, "/console/session", &with).await.0, StatusCode::UNAUTHORIZED);
    let (_, cookie) = log_in(&console, ADMIN).await;
    let cookie = cookie.unwrap();
    tokio::time::advance(std::time::Duration::from_secs(session::IDLE_S)).await;
    let with = [("cookie", sent(&cookie))];
    assert_eq!(get(&console, "/console/session", &with).await.0, StatusCode::UNAUTHORIZED);
}

#[tokio::test(start_paused = true)]
async fn wrong_keys_are_few() {
    let console = console();
    assert_eq!(log_in(&console, "").await.0, "/console/login?wrong=empty");
    for _ in 0..10 {
        assert_eq!(log_in(&console, "guess").await, ("/console/login?wrong=key".to_owned(), None));
    }
    assert_eq!(log_in(&console, ADMIN).await, ("/console/login?wrong=often".to_owned(), None));
    tokio::time::advance(std::time::Duration::from_secs(60)).await;
    assert_eq!(log_in(&console, ADMIN).await.0, "/console/");
}

#[tokio::test]
async fn viewers_look_and_admins_do_more() {
    let console = console();
    let check = |key: &'static str, method: Method, expect: bool| {
        let console = console.clone();
        async move {
            let cookie = log_in(&console, key).await.1.unwrap();
            let pair = |name, value: &str| (name, HeaderValue::from_str(value).unwrap());
            let host = pair(header::HOST, "127.0.0.1:8081");
            let headers = HeaderMap::from_iter([host, pair(header::COOKIE, sent(&cookie))]);
            assert_eq!(console.lets(&method, &headers), expect, "{key} {method}");
            let mut elsewhere = headers;
            elsewhere.insert("sec-fetch-site", HeaderValue::from_static("cross-site"));
            assert!(!console.lets(&method, &elsewhere));
            elsewhere.insert(header::HOST, HeaderValue::from_static("evil.example:8081"));
            assert_eq!(console.allows(&elsewhere), None);
        }
    };
    check(VIEWER, Method::GET, true).await;
    check(VIEWER, Method::POST, false).await;
    check(ADMIN, Method::GET, true).await;
    check(ADMIN, Method::POST, true).await;
    assert!(!console.lets(&Method::GET, &HeaderMap::new()));
}

#[tokio::test]
async fn pages_are_closed_to_other_names_and_to_all_that_is_not_ours() {
    let console = console();
    for path in ["/", "/console/", "/console/login", "/console/session", "/console/x/app.js"] {
        let (status, headers, _) = get(&console, path, &[("host", "evil.example")]).await;
        assert_eq!(status, StatusCode::MISDIRECTED_REQUEST, "{path}");
        assert!(headers.contains_key(header::CONTENT_SECURITY_POLICY));
        let (status, headers, _) = get(&console, path, &[]).await;
        assert_ne!(status, StatusCode::MISDIRECTED_REQUEST, "{path}");
        let policy = headers[header::CONTENT_SECURITY_POLICY].to_str().unwrap();
        assert!(policy.starts_with("default-src 'none'; script-src 'self';"), "{policy}");
        assert!(!policy.contains("unsafe"), "{policy}");
        assert_eq!(headers[header::X_CONTENT_TYPE_OPTIONS], "nosniff");
    }
    assert_eq!(get(&console, "/", &[]).await.1[header::LOCATION], "/console/");
}

#[tokio::test]
async fn files_are_kept_by_browsers_as_long_as_they_are_the_same() {
    let console = console();
    let (status, headers, page) = get(&console, "/console/", &[]).await;
    assert_eq!(
        (status, &headers[header::CACHE_CONTROL]),
        (StatusCode::OK, &HeaderValue::from_static("no-cache"))
    );
    let path = page.split('"').find(|part| part.ends_with("/app.js")).unwrap().to_owned();
    let (status, headers, script) = get(&console, &path, &[]).await;
    assert_eq!(status, StatusCode::OK);
    assert!(headers[header::CONTENT_TYPE].to_str().unwrap().starts_with("text/javascript"));
    assert!(headers[header::CACHE_CONTROL].to_str().unwrap().contains("immutable"));
    let etag = headers[header::ETAG].to_str().unwrap().to_owned();
    let (status, headers, body) = get(&console, &path, &[("if-none-match", &etag)]).await;
    assert_eq!((status, body.as_str()), (StatusCode::NOT_MODIFIED, ""));
    assert_eq!(headers[header::ETAG], etag.as_str());
    let (_, headers, body) = get(&console, &path, &[("accept-encoding", "br, gzip")]).await;
    assert_eq!(headers[header::CONTENT_ENCODING], "gzip");
    assert!(body.len() < script.len());
    let (_, headers, _) = get(&console, "/console/0/app.js", &[]).await;
    assert_eq!(headers[header::CACHE_CONTROL], "no-store", "of another version");
    for path in ["/console/0/none.js", "/console/0/../../Cargo.toml", "/console/0/%2e%2e/lib.rs"] {
        assert_eq!(get(&console, path, &[]).await.0, StatusCode::NOT_FOUND, "{path}");
    }
}

#[tokio::test]
async fn the_playground_is_the_admins() {
    let console = console();
    let cookie = |key| {
        let console = console.clone();
        async move { log_in(&console, key).await.1.unwrap() }
    };
    let (admin, viewer) = (cookie(ADMIN).await, cookie(VIEWER).await);
    let check =
        |headers: Vec<(&'static str, String)>, path: &'static str, expect: (u16, &'static str)| {
            let console = console.clone();
            async move {
                let headers: Vec<(&str, &str)> =
                    headers.iter().map(|(name, value)| (*name, value.as_str())).collect();
                let (status, _, body) = ask(&console, Method::POST, path, &headers, "{}").await;
                assert_eq!(status.as_u16(), expect.0, "{body}");
                assert!(body.contains(expect.1), "{body}");
            }
        };
    let chat = "/console/try/v1/chat/completions";
    let by = |cookie: &str| ("cookie", sent(cookie).to_owned());
    let own = (200, "POST /v1/chat/completions Bearer pk-own false");
    check(vec![by(&admin)], chat, own).await;
    let brought = (200, "POST /v1/chat/completions Bearer pk-x false");
    check(vec![by(&admin), ("authorization", "Bearer pk-x".to_owned())], chat, brought).await;
    check(vec![by(&viewer)], chat, (403, "admin key")).await;
    check(vec![], chat, (401, "log in")).await;
    check(vec![by(&admin)], "/console/try/v1/embeddings", (404, "chat completions")).await;
    let elsewhere = ("sec-fetch-site", "cross-site".to_owned());
    check(vec![by(&admin), elsewhere], chat, (403, "own page")).await;
}
