//! Tokens of a scripted identity provider: whose they are, why they are refused, and how often and
//! for how long the provider is asked for its keys.

use std::sync::Arc;
use std::time::Duration;

use axum::Router;
use axum::body::Body;
use axum::extract::State;
use axum::http::{Request, Response, Uri};
use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use parking_lot::Mutex;
use pilotage_core::Band;
use pilotage_gateway::{Gateway, GatewayConfig, IdentityConfig, Oidc, TenantConfig};
use pilotage_shell::clock::Clock;
use ring::rand::SystemRandom;
use ring::signature::{Ed25519KeyPair, KeyPair as _};
use serde_json::{Value, json};
use tokio::sync::Semaphore;

use crate::support;

const AUDIENCE: &str = "gateway";
const CONFIGURATION: &str = "/.well-known/openid-configuration";
const HOUR: Duration = Duration::from_secs(3600);

/// A provider whose two documents the test writes.
struct Provider {
    url: String,
    script: Arc<Script>,
}

struct Script {
    /// Status and body of the two documents.
    configuration: Mutex<(u16, Vec<u8>)>,
    keys: Mutex<(u16, Vec<u8>)>,
    /// How often the keys were asked for.
    asked: Mutex<u32>,
    /// Each answer takes one of these.
    permits: Semaphore,
}

/// A key of a provider.
struct Signer {
    kid: String,
    pair: Ed25519KeyPair,
}

impl Signer {
    fn new(kid: &str) -> Self {
        let made = Ed25519KeyPair::generate_pkcs8(&SystemRandom::new()).unwrap();
        let pair = Ed25519KeyPair::from_pkcs8(made.as_ref()).unwrap();
        Self { kid: kid.to_owned(), pair }
    }

    fn jwk(&self) -> Value {
        let x = URL_SAFE_NO_PAD.encode(self.pair.public_key());
        json!({"kty": "OKP", "crv": "Ed25519", "alg": "EdDSA", "use": "sig", "kid": self.kid, "x": x})
    }

    fn sign(&self, claims: &Value) -> String {
        self.sign_with(&json!({"alg": "EdDSA", "typ": "JWT", "kid": self.kid}), claims)
    }

    fn sign_with(&self, header: &Value, claims: &Value) -> String {
        let part = |value: &Value| URL_SAFE_NO_PAD.encode(value.to_string());
        let signed = format!("{}.{}", part(header), part(claims));
        let signature = URL_SAFE_NO_PAD.encode(self.pair.sign(signed.as_bytes()));
        format!("{signed}.{signature}")
    }
}

impl Provider {
    async fn start(signers: &[&Signer]) -> Self {
        let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
        let url = format!("http://{}", listener.local_addr().unwrap());
        let script = Arc::new(Script {
            configuration: Mutex::default(),
            keys: Mutex::default(),
            asked: Mutex::default(),
            permits: Semaphore::new(1_000_000),
        });
        let router = Router::new().fallback(document).with_state(Arc::clone(&script));
        let serving = async move { axum::serve(listener, router).await };
        drop(pilotage_shell::tasks::spawn("provider", serving));
        let provider = Self { url, script };
        provider.configuration(&provider.url, &format!("{}/jwks", provider.url));
        provider.keys(signers);
        provider
    }

    fn configuration(&self, issuer: &str, jwks_uri: &str) {
        let text = json!({"issuer": issuer, "jwks_uri": jwks_uri}).to_string();
        *self.script.configuration.lock() = (200, text.into_bytes());
    }

    fn keys(&self, signers: &[&Signer]) {
        let keys: Vec<Value> = signers.iter().map(|signer| signer.jwk()).collect();
        self.answer(200, json!({ "keys": keys }).to_string());
    }

    fn answer(&self, status: u16, keys: impl Into<Vec<u8>>) {
        *self.script.keys.lock() = (status, keys.into());
    }

    fn asked(&self) -> u32 {
        *self.script.asked.lock()
    }

    /// Claims that count for an hour, with more.
    fn claims(&self, more: Value) -> Value {
        let mut claims =
            json!({"iss": self.url, "aud": AUDIENCE, "sub": "u", "exp": now_s() + 3600});
        for (name, value) in more.as_object().unwrap() {
            claims[name] = value.clone();
        }
        claims
    }

    /// A tenant for everybody, one for a team, and one for the admins of that team.
    fn config(&self, oidc: Oidc) -> GatewayConfig {
        let mut config = support::config();
        config.tenants.extend([
            self.tenant("all", &[]),
            self.tenant("search", &[("team", "search")]),
            self.tenant("admins", &[("team", "search"), ("/realm/roles", "admin")]),
            self.tenant("french", &[("team", "search"), ("lang", "fr")]),
        ]);
        config.limits.oidc = oidc;
        config
    }

    fn tenant(&self, name: &str, claims: &[(&str, &str)]) -> TenantConfig {
        let claims = claims.iter().map(|(name, value)| ((*name).to_owned(), (*value).to_owned()));
        let identity = IdentityConfig {
            issuer: self.url.clone(),
            audience: AUDIENCE.to_owned(),
            claims: claims.collect(),
        };
        TenantConfig {
            highest_band: Band::Standard,
            identities: vec![identity],
            ..TenantConfig::named(name)
        }
    }
}

async fn document(State(script): State<Arc<Script>>, uri: Uri) -> Response<Body> {
    script.permits.acquire().await.unwrap().forget();
    let (status, body) = if uri.path() == CONFIGURATION {
        script.configuration.lock().clone()
    } else {
        *script.asked.lock() += 1;
        script.keys.lock().clone()
    };
    let response = Response::builder().status(status).header("location", "/elsewhere");
    response.body(Body::from(body)).unwrap()
}

fn now_s() -> u64 {
    Clock::start().unix_ms() / 1000
}

/// Asks again at once, unlike in production.
fn eager() -> Oidc {
    Oidc { fetch_interval_min: Duration::ZERO, ..Oidc::default() }
}

/// Asks once.
fn patient() -> Oidc {
    Oidc { fetch_interval_min: HOUR, ..Oidc::default() }
}

fn gateway(config: GatewayConfig) -> Gateway {
    support::gateway(config, &[])
}

fn with_token(token: &str) -> Request<Body> {
    Request::get("/v1/models")
        .header("authorization", format!("Bearer {token}"))
        .body(Body::empty())
        .unwrap()
}

/// Status, code and message.
async fn ask(gateway: &Gateway, token: &str) -> (u16, String, String) {
    let (status, text) = support::answer(gateway, with_token(token)).await;
    let body: Value = serde_json::from_str(&text).unwrap();
    assert!(token.len() < 8 || !text.contains(token), "an answer quotes the token");
    let field = |name: &str| body["error"][name].as_str().unwrap_or_default().to_owned();
    (status, field("code"), field("message"))
}

async fn is_in(gateway: &Gateway, token: &str) {
    assert_eq!(ask(gateway, token).await, (200, String::new(), String::new()));
}

async fn is_refused(gateway: &Gateway, token: &str, code: &str, part: &str) {
    let status = if code == "issuer_unavailable" { 503 } else { 401 };
    let (found, found_code, message) = ask(gateway, token).await;
    assert_eq!((found, found_code.as_str()), (status, code), "{message}");
    assert!(message.contains(part), "{message}");
}

/// The tenant in the header that a replica gets.
async fn tenant_of(config: GatewayConfig, token: &str) -> Option<String> {
    let names: Vec<String> = config.tenants.iter().map(|tenant| tenant.name.clone()).collect();
    let mut engine = support::engine().await;
    let gateway = support::gateway(config, &[&engine]);
    engine.json(200, "{}");
    let mut request = support::chat(r#"{"model": "public", "messages": []}"#);
    request.headers_mut().insert("authorization", format!("Bearer {token}").parse().unwrap());
    let (status, _) = support::answer(&gateway, request).await;
    if status != 200 {
        return None;
    }
    let seen = engine.seen.recv().await.unwrap();
    assert!(seen.headers.values().all(|value| !value.to_str().unwrap().contains(token)));
    let at: usize = seen.headers["x-pilotage-tenant"].to_str().unwrap().parse().unwrap();
    Some(names[at].clone())
}

#[tokio::test]
async fn a_token_belongs_to_the_tenant_whose_rule_says_most() {
    let signer = Signer::new("one");
    let provider = Provider::start(&[&signer]).await;
    let check = async |more: Value, expect: Option<&str>| {
        let token = signer.sign(&provider.claims(more.clone()));
        let found = tenant_of(provider.config(eager()), &token).await;
        assert_eq!(found.as_deref(), expect, "{more}");
    };
    check(json!({}), Some("all")).await;
    check(json!({"team": "other"}), Some("all")).await;
    check(json!({"team": "search"}), Some("search")).await;
    check(json!({"team": ["other", "search", "search"]}), Some("search")).await;
    check(json!({"team": {"search": true}}), Some("all")).await;
    check(json!({"team": "search", "realm": {"roles": ["admin"]}}), Some("admins")).await;
    check(json!({"team": "other", "realm": {"roles": ["admin"]}}), Some("all")).await;
    check(json!({"aud": ["x", AUDIENCE], "team": "search"}), Some("search")).await;
    let both = json!({"team": "search", "lang": "fr", "realm": {"roles": ["admin"]}});
    check(both, None).await;
}

#[tokio::test]
async fn each_rule_has_its_own_audience() {
    let signer = Signer::new("one");
    let provider = Provider::start(&[&signer]).await;
    let mut config = provider.config(eager());
    let mut batch = provider.tenant("batch", &[("team", "search"), ("lang", "fr"), ("x", "y")]);
    batch.identities[0].audience = "batch".to_owned();
    config.tenants.push(batch);
    let claims = |aud: Value| {
        signer.sign(&provider.claims(json!({"aud": aud, "team": "search", "x": "y", "lang": "fr"})))
    };
    let check = async |aud: Value, expect: &str| {
        assert_eq!(tenant_of(config.clone(), &claims(aud)).await.as_deref(), Some(expect));
    };
    check(json!("batch"), "batch").await;
    check(json!(AUDIENCE), "french").await;
    check(json!(["batch", AUDIENCE]), "batch").await;
}

#[tokio::test]
async fn a_token_that_fits_several_tenants_or_none_is_refused() {
    let signer = Signer::new("one");
    let provider = Provider::start(&[&signer]).await;
    let mut config = provider.config(eager());
    config.tenants.retain(|tenant| tenant.name != "all");
    let gateway = gateway(config);
    let token = |more: Value| signer.sign(&provider.claims(more));
    is_refused(&gateway, &token(json!({})), "invalid_token", "no tenant takes its claims").await;
    let both = token(json!({"team": "search", "lang": "fr", "realm": {"roles": "admin"}}));
    is_refused(&gateway, &both, "invalid_token", "several tenants equally well").await;
    is_in(&gateway, &token(json!({"team": "search", "lang": "fr"}))).await;
    is_in(&gateway, support::KEY).await;
}

#[tokio::test]
async fn each_refusal_says_which_check_failed() {
    let (signer, forger) = (Signer::new("one"), Signer::new("one"));
    let provider = Provider::start(&[&signer]).await;
    let gateway = gateway(provider.config(eager()));
    let check = async |token: String, code: &str, part: &str| {
        is_refused(&gateway, &token, code, part).await;
    };
    let good = provider.claims(json!({}));
    is_in(&gateway, &signer.sign(&good)).await;
    let with = |more: Value| signer.sign(&provider.claims(more));
    check(with(json!({"exp": 1000})), "expired_token", "expired at 1970-01-01T00:16:40Z").await;
    check(with(json!({"exp": now_s() - 120})), "expired_token", "expired at").await;
    check(with(json!({"nbf": now_s() + 600})), "invalid_token", "is not valid before").await;
    check(with(json!({"iat": now_s() + 600})), "invalid_token", "is not valid before").await;
    check(with(json!({"exp": null})), "invalid_token", "is no number").await;
    check(with(json!({"aud": "another"})), "invalid_token", "for another audience").await;
    check(with(json!({"aud": ["another"]})), "invalid_token", "for another audience").await;
    check(with(json!({"aud": 5})), "invalid_token", "for another audience").await;
    let other = "is not one that this gateway trusts";
    check(with(json!({"iss": "https://evil.example"})), "invalid_token", other).await;
    check(with(json!({"iss": format!("{}/", provider.url)})), "invalid_token", other).await;
    check(forger.sign(&good), "invalid_token", "signature is wrong").await;
    let header = |alg: &str, kid: &str| json!({"alg": alg, "kid": kid});
    let signed = |alg: &str, kid: &str| signer.sign_with(&header(alg, kid), &good);
    check(signed("none", "one"), "invalid_token", "is not signed").await;
    check(signed("HS256", "one"), "invalid_token", "algorithm is not accepted").await;
    check(signed("RS256", "one"), "invalid_token", "not that of its key").await;
    check(signed("EdDSA", "two"), "invalid_token", "none of its issuer's").await;
    let critical = json!({"alg": "EdDSA", "kid": "one", "crit": ["exp"]});
    check(signer.sign_with(&critical, &good), "invalid_token", "extensions").await;
    check("a.b.c".to_owned(), "invalid_token", "malformed").await;
    check(with(json!({"pad": "x".repeat(20_000)})), "invalid_token", "at most 16384 are read")
        .await;
    check("a.b.c.d".to_owned(), "invalid_api_key", "API key is not known").await;
}

#[tokio::test]
async fn a_shared_secret_is_no_signature_even_if_it_is_the_public_key() {
    let signer = Signer::new("one");
    let provider = Provider::start(&[&signer]).await;
    let gateway = gateway(provider.config(eager()));
    let part = |value: &Value| URL_SAFE_NO_PAD.encode(value.to_string());
    let header = part(&json!({"alg": "HS256", "kid": "one"}));
    let signed = format!("{header}.{}", part(&provider.claims(json!({}))));
    let secret = ring::hmac::Key::new(ring::hmac::HMAC_SHA256, signer.pair.public_key().as_ref());
    let token = format!(
        "{signed}.{}",
        URL_SAFE_NO_PAD.encode(ring::hmac::sign(&secret, signed.as_bytes()))
    );
    is_refused(&gateway, &token, "invalid_token", "algorithm is not accepted").await;
}

#[tokio::test]
async fn a_new_key_of_the_provider_is_found_and_an_old_one_forgotten() {
    let (old, new) = (Signer::new("old"), Signer::new("new"));
    let provider = Provider::start(&[&old]).await;
    let gateway = gateway(provider.config(eager()));
    let token = |signer: &Signer| signer.sign(&provider.claims(json!({})));
    is_in(&gateway, &token(&old)).await;
    is_in(&gateway, &token(&old)).await;
    assert_eq!(provider.asked(), 1, "known keys are kept");
    provider.keys(&[&old, &new]);
    is_in(&gateway, &token(&new)).await;
    is_in(&gateway, &token(&old)).await;
    assert_eq!(provider.asked(), 2);
    provider.keys(&[&new]);
    is_refused(&gateway, &token(&Signer::new("third")), "invalid_token", "none of its").await;
    is_refused(&gateway, &token(&old), "invalid_token", "none of its issuer's").await;
    is_in(&gateway, &token(&new)).await;
}

#[tokio::test]
async fn forged_key_names_do_not_make_the_gateway_ask_again_and_again() {
    let (signer, new) = (Signer::new("one"), Signer::new("new"));
    let provider = Provider::start(&[&signer]).await;
    let gateway = gateway(provider.config(patient()));
    let claims = provider.claims(json!({}));
    is_in(&gateway, &signer.sign(&claims)).await;
    for forged in 0..50 {
        let token = Signer::new(&forged.to_string()).sign(&claims);
        is_refused(&gateway, &token, "invalid_token", "none of its issuer's").await;
    }
    assert_eq!(provider.asked(), 1);
    is_in(&gateway, &signer.sign(&claims)).await;
    provider.keys(&[&new]);
    is_refused(&gateway, &new.sign(&claims), "invalid_token", "retry in a minute").await;
    advance(HOUR).await;
    is_in(&gateway, &new.sign(&claims)).await;
    assert_eq!(provider.asked(), 2);
}

/// Moves the gateway's clock without waiting.
async fn advance(by: Duration) {
    tokio::time::pause();
    tokio::time::advance(by).await;
    tokio::time::resume();
}

#[tokio::test]
async fn many_first_tokens_make_one_fetch_that_outlives_who_began_it() {
    let signer = Signer::new("one");
    let provider = Provider::start(&[&signer]).await;
    let gateway = gateway(provider.config(patient()));
    let token = signer.sign(&provider.claims(json!({})));
    provider.script.permits.forget_permits(1_000_000);
    let mut first = Box::pin(ask(&gateway, &token));
    assert!(futures_util::poll!(&mut first).is_pending());
    drop(first);
    let mut all = futures_util::stream::FuturesUnordered::new();
    for _ in 0..20 {
        all.push(ask(&gateway, &token));
    }
    assert!(futures_util::poll!(futures_util::StreamExt::next(&mut all)).is_pending());
    provider.script.permits.add_permits(2);
    while let Some((status, _, message)) = futures_util::StreamExt::next(&mut all).await {
        assert_eq!(status, 200, "{message}");
    }
    assert_eq!(provider.asked(), 1);
}

#[tokio::test]
async fn keys_outlive_a_provider_that_is_away_but_not_forever() {
    let signer = Signer::new("one");
    let provider = Provider::start(&[&signer]).await;
    let limits = Oidc { keys_age_max: HOUR, keys_stale_max: 5 * HOUR, ..eager() };
    let gateway = gateway(provider.config(limits));
    let token = signer.sign(&provider.claims(json!({"exp": now_s() + 1_000_000})));
    is_in(&gateway, &token).await;
    provider.answer(500, "");
    advance(2 * HOUR).await;
    is_in(&gateway, &token).await;
    advance(2 * HOUR).await;
    is_in(&gateway, &token).await;
    advance(HOUR).await;
    is_refused(&gateway, &token, "issuer_unavailable", "retry later").await;
    provider.keys(&[&signer]);
    is_in(&gateway, &token).await;
}

#[tokio::test]
async fn nobody_waits_for_new_keys_while_old_ones_do() {
    let signer = Signer::new("one");
    let provider = Provider::start(&[&signer]).await;
    let limits = Oidc { keys_age_max: HOUR, fetch_timeout: 100 * HOUR, ..eager() };
    let gateway = gateway(provider.config(limits));
    let token = signer.sign(&provider.claims(json!({"exp": now_s() + 1_000_000})));
    is_in(&gateway, &token).await;
    provider.script.permits.forget_permits(1_000_000);
    advance(2 * HOUR).await;
    tokio::time::timeout(Duration::from_secs(60), is_in(&gateway, &token)).await.unwrap();
}

#[tokio::test]
async fn a_provider_that_answers_wrong_is_as_good_as_away() {
    let signer = Signer::new("one");
    let provider = Provider::start(&[&signer]).await;
    let limits = Oidc { document_bytes_max: 2000, ..eager() };
    let gateway = gateway(provider.config(limits));
    let token = signer.sign(&provider.claims(json!({})));
    let good = json!({"keys": [signer.jwk()]}).to_string();
    let check = async |status: u16, keys: String| {
        provider.answer(status, keys);
        is_refused(&gateway, &token, "issuer_unavailable", "retry later").await;
    };
    check(404, good.clone()).await;
    check(302, good.clone()).await;
    check(200, String::new()).await;
    check(200, "<html>".to_owned()).await;
    check(200, "{\"keys\": []}".to_owned()).await;
    check(200, format!("{good}{}", " ".repeat(2000))).await;
    provider.keys(&[&signer]);
    for (issuer, keys) in [
        ("https://another.example", format!("{}/jwks", provider.url)),
        (provider.url.as_str(), "http://keys.example.com/jwks".to_owned()),
        (provider.url.as_str(), "file:///etc/passwd".to_owned()),
        (provider.url.as_str(), "\u{0}".to_owned()),
    ] {
        provider.configuration(issuer, &keys);
        is_refused(&gateway, &token, "issuer_unavailable", "retry later").await;
    }
    provider.configuration(&provider.url, &format!("{}/jwks", provider.url));
    is_in(&gateway, &token).await;
}

#[tokio::test]
async fn a_provider_that_is_not_there_or_says_nothing_makes_nobody_wait_long() {
    let signer = Signer::new("one");
    let mut gone = Provider::start(&[&signer]).await;
    gone.url = format!("http://127.0.0.1:{}", pilotage_shell::port::free().unwrap());
    let token = signer.sign(&gone.claims(json!({})));
    let gateway_of_gone = gateway(gone.config(patient()));
    is_refused(&gateway_of_gone, &token, "issuer_unavailable", "retry later").await;
    is_refused(&gateway_of_gone, &token, "issuer_unavailable", "retry later").await;
    is_in(&gateway_of_gone, support::KEY).await;

    let silent = Provider::start(&[&signer]).await;
    silent.script.permits.forget_permits(1_000_000);
    let limits = Oidc { fetch_timeout: Duration::from_millis(50), ..eager() };
    let gateway_of_silent = gateway(silent.config(limits));
    let token = signer.sign(&silent.claims(json!({})));
    is_refused(&gateway_of_silent, &token, "issuer_unavailable", "retry later").await;
    silent.script.permits.add_permits(1000);
    while ask(&gateway_of_silent, &token).await.0 != 200 {
        tokio::task::yield_now().await;
    }
}

#[tokio::test]
async fn an_open_gateway_forgives_missing_proof_but_no_wrong_one() {
    let signer = Signer::new("one");
    let provider = Provider::start(&[&signer]).await;
    let mut config = provider.config(eager());
    config.open = true;
    let gateway = gateway(config);
    is_in(&gateway, "anything").await;
    is_in(&gateway, &signer.sign(&provider.claims(json!({})))).await;
    let expired = signer.sign(&provider.claims(json!({"exp": 1000})));
    is_refused(&gateway, &expired, "expired_token", "expired at").await;
}
