//! Servers as they answer, recorded or as they are documented, and what is made of that.

use super::*;

#[test]
fn the_name_to_ask_by_is_found() {
    let check = |models: &str, info: &str, expect: Option<&str>| {
        let one = |path: &str, body: &str| {
            let status = if body.is_empty() { 404 } else { 200 };
            let (path, body) = (path.to_owned(), body.as_bytes().to_vec());
            Heard { path, status, body, ..Heard::default() }
        };
        let heard = [one("/v1/models", models), one("/info", info)];
        assert_eq!(name(&heard, "wanted").as_deref(), expect, "{models} {info}");
    };
    const TGI: &str = r#"{"model_id":"wanted","max_concurrent_requests":128,"version":"3.3.7"}"#;
    check(r#"{"data":[{"id":"wanted"}]}"#, "", None);
    check(r#"{"data":[{"id":"other"},{"id":"wanted"}]}"#, "", None);
    check(r#"{"data":[{"id":"/models/mistral"}]}"#, "", Some("/models/mistral"));
    check(r#"{"data":[{"id":"a"},{"id":"b"}]}"#, "", None);
    check(r#"{"data":[{"id":"a","parent":null},{"id":"l","parent":"a"}]}"#, "", Some("a"));
    check(r#"{"data":[]}"#, "", None);
    check(r#"{"data":[{"id":"wanted"}]}"#, TGI, Some("tgi"));
    check("", TGI, Some("tgi"));
    check("", "", None);
    check("<html>", "{}", None);
}

fn heard(path: &str, status: u16, body: &str) -> Heard {
    let kind = if body.starts_with(['{', '[']) { "application/json" } else { "text/plain" };
    Heard {
        path: path.to_owned(),
        status,
        kind: kind.to_owned(),
        server: "uvicorn".to_owned(),
        body: body.as_bytes().to_vec(),
    }
}

/// A server that has these paths and says of others that they are not there.
fn asked(has: &[(&str, u16, &str)], missing: &str) -> Vec<Heard> {
    let answer = |path: String| {
        let found = has.iter().find(|(known, ..)| *known == path);
        found.map_or_else(
            || heard(&path, 404, missing),
            |(_, status, body)| heard(&path, *status, body),
        )
    };
    paths(Some("smollm2")).into_iter().map(answer).collect()
}

const FASTAPI: &str = r#"{"detail":"Not Found"}"#;

fn vllm() -> Vec<Heard> {
    let has = [
        ("/v1/models", 200, include_str!("../../../tests/runtimes/vllm-0.32.0-models.json")),
        ("/version", 200, include_str!("../../../tests/runtimes/vllm-0.32.0-version.json")),
        ("/metrics", 200, include_str!("../../../tests/runtimes/vllm-0.32.0-metrics.txt")),
        ("/health", 200, ""),
    ];
    asked(&has, FASTAPI)
}

fn llamacpp() -> Vec<Heard> {
    let has = [
        ("/v1/models", 200, include_str!("../../../tests/runtimes/llamacpp-models.json")),
        ("/props", 200, include_str!("../../../tests/runtimes/llamacpp-props.json")),
        ("/metrics", 200, include_str!("../../../tests/runtimes/llamacpp-metrics.txt")),
        ("/health", 200, r#"{"status":"ok"}"#),
    ];
    asked(&has, include_str!("../../../tests/runtimes/llamacpp-not-there.json"))
}

#[test]
fn vllm_is_recognized_with_its_version_model_and_context() {
    let found = judge(&vllm(), Some("smollm2"));
    assert_eq!(found.dialect, Dialect::Vllm);
    assert_eq!(found.version.as_ref().map(Version::as_str), Some("0.32.0"));
    assert_eq!(found.models, [Served { id: "smollm2".to_owned(), context: Some(2048) }]);
    assert_eq!(found.context, Some(2048));
    assert!(found.evidence.iter().any(|why| why.contains("`vllm:`")), "{:?}", found.evidence);
    assert_eq!(
        found.capabilities.iter().find(|(one, _)| *one == Capability::Priority).unwrap().1,
        Answer::Yes
    );
    assert_eq!(found.warnings, Vec::<String>::new());
}

#[test]
fn llamacpp_is_recognized_and_says_itself_what_its_model_can() {
    let found = judge(&llamacpp(), Some("other"));
    assert_eq!((found.dialect, found.version), (Dialect::LlamaCpp, None));
    assert_eq!(found.context, Some(2048));
    let can = |capability: Capability| {
        found.capabilities.iter().find(|(one, _)| *one == capability).unwrap().1
    };
    assert_eq!((can(Capability::Vision), can(Capability::Tools)), (Answer::No, Answer::No));
    let told = found.warnings.join("; ");
    assert!(told.contains("it serves no `other`, but: smollm2"), "{told}");
    let mut loading = llamacpp();
    let says =
        r#"{"error": {"code": 503, "message": "Loading model", "type": "unavailable_error"}}"#;
    for one in
        loading.iter_mut().filter(|one| matches!(&*one.path, "/health" | "/v1/models" | "/props"))
    {
        *one = heard(&one.path.clone(), 503, says);
    }
    let found = judge(&loading, None);
    assert_eq!(found.dialect, Dialect::LlamaCpp);
    assert!(
        found.warnings.iter().any(|one| one.contains("loading its model")),
        "{:?}",
        found.warnings
    );
    let mut build = llamacpp();
    for one in build.iter_mut().filter(|one| one.path == "/props") {
        one.body =
            String::from_utf8_lossy(&one.body).replace("b0-unknown", "b8681-Debian").into_bytes();
    }
    assert_eq!(judge(&build, None).version.unwrap().as_str(), "b8681-Debian");
}

#[test]
fn others_are_recognized_as_they_are_documented() {
    let check = |has: &[(&str, u16, &str)], expect: (Dialect, Option<&str>, Option<u64>)| {
        let found = judge(&asked(has, FASTAPI), Some("smollm2"));
        let version = found.version.as_ref().map(Version::as_str);
        assert_eq!((found.dialect, version, found.context), expect, "{:?}", found.evidence);
    };
    let list = |owner: &str, more: &str| {
        format!(
            r#"{{"object":"list","data":[{{"id":"smollm2","object":"model","owned_by":"{owner}"{more}}}]}}"#
        )
    };
    check(
        &[
            ("/v1/models", 200, &list("sglang", r#","max_model_len":4096"#)),
            (
                "/get_server_info",
                200,
                r#"{"model_path":"x","version":"0.5.12","internal_states":[]}"#,
            ),
        ],
        (Dialect::Sglang, Some("0.5.12"), Some(4096)),
    );
    check(
        &[(
            "/info",
            200,
            r#"{"model_id":"bigscience/blomm-560m","max_concurrent_requests":128,"max_total_tokens":2048,"version":"3.3.7","router":"text-generation-router"}"#,
        )],
        (Dialect::Tgi, Some("3.3.7"), Some(2048)),
    );
    check(
        &[
            ("/v1/models", 200, &list("tensorrt_llm", "")),
            ("/version", 200, r#"{"version":"1.3.0rc20"}"#),
            ("/metrics", 200, "[]"),
        ],
        (Dialect::Trtllm, Some("1.3.0rc20"), None),
    );
    check(
        &[
            ("/api/version", 200, r#"{"version":"0.5.1"}"#),
            ("/api/ps", 200, r#"{"models":[]}"#),
            ("/v1/models", 200, &list("library", "")),
        ],
        (Dialect::Ollama, Some("0.5.1"), None),
    );
    check(
        &[
            (
                "/v2",
                200,
                r#"{"name":"triton","version":"2.71.0","extensions":["classification","model_repository"]}"#,
            ),
            ("/v2/health/ready", 200, ""),
        ],
        (Dialect::Triton, Some("2.71.0"), None),
    );
    check(&[("/mii/smollm2", 405, ""), ("/healthz", 200, "ok")], (Dialect::DeepSpeed, None, None));
    check(
        &[
            ("/v1/models", 200, &list("pilotage", r#","max_model_len":2048"#)),
            ("/version", 200, r#"{"version":"0.1.0"}"#),
            ("/metrics", 200, "vllm:num_requests_running 0\npilotage_engine_steps_total 1\n"),
        ],
        (Dialect::Pilotage, Some("0.1.0"), Some(2048)),
    );
}

#[test]
fn a_name_proves_nothing() {
    let list = r#"{"object":"list","data":[{"id":"vllm","object":"model","owned_by":"openai"}]}"#;
    let page = "proxy_requests_total{path=\"vllm:x\"} 1\n# vllm:num_requests_running\n";
    let found =
        judge(&asked(&[("/v1/models", 200, list), ("/metrics", 200, page)], FASTAPI), Some("vllm"));
    assert_eq!((found.dialect, found.version), (Dialect::OpenAi, None));
    assert!(
        found.warnings[0].contains("none of the servers that are known"),
        "{:?}",
        found.warnings
    );
    let found = judge(&asked(&[], "<html>It works!</html>"), None);
    assert_eq!(found.dialect, Dialect::Auto);
    assert!(found.warnings[0].contains("not even a list of models"), "{:?}", found.warnings);
    let found = judge(&asked(&[("/v1/models", 401, r#"{"error":"Unauthorized"}"#)], FASTAPI), None);
    assert!(
        found.is_refused && found.warnings[0].contains("refused the key"),
        "{:?}",
        found.warnings
    );
    assert_eq!(judge(&[], None).dialect, Dialect::Auto);
}

#[test]
fn two_that_are_as_likely_are_told() {
    let page = "vllm:num_requests_running 1\nsglang:num_running_reqs 1\n";
    let found = judge(&asked(&[("/metrics", 200, page)], FASTAPI), None);
    assert!(
        found.warnings.iter().any(|one| one.contains("as much speaks for")),
        "{:?}",
        found.warnings
    );
}

#[test]
fn hostile_answers_do_no_harm() {
    for body in
        ["", "{", "[]", "null", "{\"data\":[]}", "{\"data\":{}}", "\u{0}\u{1}", "{\"version\":7}"]
    {
        let has: Vec<(&str, u16, &str)> = ASKED.iter().map(|path| (*path, 200, body)).collect();
        let found = judge(&asked(&has, FASTAPI), Some("x/../\"y"));
        assert!(found.models.is_empty(), "{body}");
    }
    let many = format!("{{\"data\":[{}{{\"id\":\"z\"}}]}}", "{\"id\":\"a\"},".repeat(5000));
    assert_eq!(judge(&[heard("/v1/models", 200, &many)], None).models.len(), MODELS_MAX);
    assert!(paths(Some("a/b c")).contains(&"/v2/models/a%2Fb%20c/ready".to_owned()));
}
