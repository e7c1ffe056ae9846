//! Every algorithm signs and verifies, and whatever is forged, confused, out of time or garbage is
//! refused for the reason that it has.

use base64::engine::general_purpose::STANDARD;
use proptest::prelude::*;
use ring::rand::SystemRandom;
use ring::signature::{
    self, ECDSA_P256_SHA256_FIXED_SIGNING, ECDSA_P384_SHA384_FIXED_SIGNING, EcdsaKeyPair,
    EcdsaSigningAlgorithm, Ed25519KeyPair, KeyPair as _, RsaEncoding, RsaKeyPair,
    RsaPublicKeyComponents,
};
use serde_json::json;

use super::*;

const TOKEN_MAX: usize = 4096;

/// An RSA key of 2048 bits (`openssl genpkey`, PKCS #8 in base64) that is used nowhere else:
/// the cryptography here makes none.
const RSA: &str = include_str!("fixtures/rsa-2048.pkcs8.b64");

fn encode(bytes: impl AsRef<[u8]>) -> String {
    URL_SAFE_NO_PAD.encode(bytes)
}

fn token(header: &Value, claims: &Value, sign: impl Fn(&[u8]) -> Vec<u8>) -> String {
    let signed = format!("{}.{}", encode(header.to_string()), encode(claims.to_string()));
    let signature = encode(sign(signed.as_bytes()));
    format!("{signed}.{signature}")
}

fn claims() -> Value {
    json!({"iss": "https://id.example.com", "aud": "pilotage", "exp": 2000, "sub": "u"})
}

fn set(keys: &[Value]) -> KeySet {
    KeySet::parse(json!({ "keys": keys }).to_string().as_bytes()).unwrap()
}

fn verify(token: &str, keys: &KeySet) -> Result<Claims, JwtError> {
    Token::read(token, TOKEN_MAX)?.verify(keys)
}

struct Ed(Ed25519KeyPair);

impl Ed {
    fn new() -> Self {
        let made = Ed25519KeyPair::generate_pkcs8(&SystemRandom::new()).unwrap();
        Self(Ed25519KeyPair::from_pkcs8(made.as_ref()).unwrap())
    }

    fn jwk(&self, kid: &str) -> Value {
        let x = encode(self.0.public_key());
        json!({"kty": "OKP", "crv": "Ed25519", "kid": kid, "x": x})
    }

    fn token(&self, header: &Value, claims: &Value) -> String {
        token(header, claims, |message| self.0.sign(message).as_ref().to_vec())
    }
}

fn ecdsa(algorithm: &'static EcdsaSigningAlgorithm) -> EcdsaKeyPair {
    let random = SystemRandom::new();
    let made = EcdsaKeyPair::generate_pkcs8(algorithm, &random).unwrap();
    EcdsaKeyPair::from_pkcs8(algorithm, made.as_ref(), &random).unwrap()
}

fn ecdsa_jwk(pair: &EcdsaKeyPair, curve: &str) -> Value {
    let (x, y) =
        pair.public_key().as_ref()[1..].split_at((pair.public_key().as_ref().len() - 1) / 2);
    json!({"kty": "EC", "crv": curve, "kid": "k", "use": "sig", "x": encode(x), "y": encode(y)})
}

fn rsa() -> RsaKeyPair {
    RsaKeyPair::from_pkcs8(&STANDARD.decode(RSA.replace('\n', "")).unwrap()).unwrap()
}

fn rsa_jwk() -> Value {
    let public = RsaPublicKeyComponents::<Vec<u8>>::from(rsa().public());
    // With a zero byte in front, as some issuers write it.
    let n = encode([&[0], public.n.as_slice()].concat());
    json!({"kty": "RSA", "kid": "k", "key_ops": ["verify"], "n": n, "e": encode(public.e)})
}

fn rsa_token(algorithm: &str, padding: &'static dyn RsaEncoding) -> String {
    let pair = rsa();
    token(&json!({"alg": algorithm, "kid": "k", "typ": "JWT"}), &claims(), |message| {
        let mut out = vec![0; pair.public().modulus_len()];
        pair.sign(padding, &SystemRandom::new(), message, &mut out).unwrap();
        out
    })
}

#[test]
fn every_algorithm_holds_with_its_own_key_and_no_other() {
    let (p256, p384) =
        (ecdsa(&ECDSA_P256_SHA256_FIXED_SIGNING), ecdsa(&ECDSA_P384_SHA384_FIXED_SIGNING));
    let ed = Ed::new();
    let sign = |pair: &EcdsaKeyPair, algorithm: &str| {
        token(&json!({"alg": algorithm, "kid": "k"}), &claims(), |message| {
            pair.sign(&SystemRandom::new(), message).unwrap().as_ref().to_vec()
        })
    };
    let keys = [rsa_jwk(), ecdsa_jwk(&p256, "P-256"), ecdsa_jwk(&p384, "P-384"), ed.jwk("k")];
    let tokens = [
        (0, rsa_token("RS256", &signature::RSA_PKCS1_SHA256)),
        (0, rsa_token("RS384", &signature::RSA_PKCS1_SHA384)),
        (0, rsa_token("RS512", &signature::RSA_PKCS1_SHA512)),
        (0, rsa_token("PS256", &signature::RSA_PSS_SHA256)),
        (0, rsa_token("PS384", &signature::RSA_PSS_SHA384)),
        (0, rsa_token("PS512", &signature::RSA_PSS_SHA512)),
        (1, sign(&p256, "ES256")),
        (2, sign(&p384, "ES384")),
        (3, ed.token(&json!({"alg": "EdDSA", "kid": "k"}), &claims())),
    ];
    for (own, token) in tokens {
        for (at, key) in keys.iter().enumerate() {
            let expect = if at == own { Ok(Claims(claims())) } else { Err(JwtError::KeyMismatch) };
            assert_eq!(verify(&token, &set(std::slice::from_ref(key))), expect, "{at} {token}");
        }
        assert_eq!(verify(&token, &set(&keys)), Ok(Claims(claims())), "the one that fits is found");
    }
}

#[test]
fn a_key_is_only_taken_for_the_algorithm_its_issuer_names() {
    let mut jwk = rsa_jwk();
    jwk["alg"] = "PS256".into();
    let keys = set(&[jwk]);
    let check = |algorithm, padding, expect: Result<(), JwtError>| {
        assert_eq!(verify(&rsa_token(algorithm, padding), &keys).map(|_| ()), expect);
    };
    check("PS256", &signature::RSA_PSS_SHA256, Ok(()));
    check("RS256", &signature::RSA_PKCS1_SHA256, Err(JwtError::KeyMismatch));
    // The padding of one algorithm under the name of another.
    check("PS256", &signature::RSA_PKCS1_SHA256, Err(JwtError::Signature));
}

#[test]
fn unsigned_tokens_and_shared_secrets_are_refused() {
    let keys = set(&[rsa_jwk()]);
    let public = RsaPublicKeyComponents::<Vec<u8>>::from(rsa().public());
    for (algorithm, expect) in [
        ("none", JwtError::Unsigned),
        ("None", JwtError::Unsigned),
        ("nOnE", JwtError::Unsigned),
        ("HS256", JwtError::Algorithm),
        ("hs256", JwtError::Algorithm),
        ("ES256K", JwtError::Algorithm),
        ("rs256", JwtError::Algorithm),
        ("", JwtError::Algorithm),
    ] {
        let header = json!({"alg": algorithm, "kid": "k"});
        // The public key, which everybody has, as the shared secret.
        let hmac = |message: &[u8]| {
            let key = ring::hmac::Key::new(ring::hmac::HMAC_SHA256, &public.n);
            ring::hmac::sign(&key, message).as_ref().to_vec()
        };
        assert_eq!(verify(&token(&header, &claims(), hmac), &keys), Err(expect.clone()));
        assert_eq!(verify(&token(&header, &claims(), |_| Vec::new()), &keys), Err(expect));
    }
}

#[test]
fn forged_tokens_are_refused() {
    let (own, other) = (Ed::new(), Ed::new());
    let keys = set(&[own.jwk("k")]);
    let header = json!({"alg": "EdDSA", "kid": "k"});
    let good = own.token(&header, &claims());
    assert!(verify(&good, &keys).is_ok());
    assert_eq!(verify(&other.token(&header, &claims()), &keys), Err(JwtError::Signature));
    let (signed, signature) = good.rsplit_once('.').unwrap();
    let (head, _) = signed.split_once('.').unwrap();
    let mut more = claims();
    more["groups"] = json!(["admins"]);
    let changed = format!("{head}.{}.{signature}", encode(more.to_string()));
    assert_eq!(verify(&changed, &keys), Err(JwtError::Signature));
    assert_eq!(verify(&format!("{signed}."), &keys), Err(JwtError::Signature));
    let key_in_header =
        json!({"alg": "EdDSA", "kid": "k", "jwk": other.jwk("k"), "jku": "https://evil.example"});
    assert_eq!(verify(&other.token(&key_in_header, &claims()), &keys), Err(JwtError::Signature));
    let elsewhere = own.token(&json!({"alg": "EdDSA", "kid": "z"}), &claims());
    assert_eq!(verify(&elsewhere, &keys), Err(JwtError::UnknownKey));
}

#[test]
fn a_token_without_a_key_id_needs_an_issuer_with_one_key_for_it() {
    let (one, two) = (Ed::new(), Ed::new());
    let token = one.token(&json!({"alg": "EdDSA"}), &claims());
    assert!(verify(&token, &set(&[one.jwk("a"), rsa_jwk()])).is_ok());
    assert_eq!(verify(&token, &set(&[one.jwk("a"), two.jwk("b")])), Err(JwtError::NoKeyId));
    assert_eq!(verify(&token, &set(&[rsa_jwk()])), Err(JwtError::KeyMismatch));
}

#[test]
fn headers_that_ask_for_more_are_refused() {
    let ed = Ed::new();
    let check = |more: (&str, Value), expect: Result<(), JwtError>| {
        let mut header = json!({"alg": "EdDSA", "kid": "k"});
        header[more.0] = more.1;
        let outcome = verify(&ed.token(&header, &claims()), &set(&[ed.jwk("k")]));
        assert_eq!(outcome.map(|_| ()), expect, "{header}");
    };
    check(("crit", json!(["b64"])), Err(JwtError::Critical));
    check(("crit", json!([])), Err(JwtError::Critical));
    check(("crit", Value::Null), Err(JwtError::Critical));
    check(("typ", json!("at+jwt")), Ok(()));
    check(("typ", json!("application/AT+JWT")), Ok(()));
    check(("typ", json!("logout+jwt")), Err(JwtError::Type));
    check(("typ", json!(1)), Err(JwtError::Malformed("its type (`typ`) is no text")));
    check(("alg", json!(["EdDSA"])), Err(JwtError::Malformed("its algorithm (`alg`) is no text")));
    check(("kid", json!({})), Err(JwtError::Malformed("its key's name (`kid`) is no text")));
}

#[test]
fn garbage_is_named() {
    let read = |text: &str| Token::read(text, TOKEN_MAX).map(|_| ()).unwrap_err();
    let good = encode(json!({"alg": "EdDSA"}).to_string());
    let body = encode(claims().to_string());
    let head = JwtError::Malformed("its header is no JSON object");
    assert_eq!(read(""), JwtError::Malformed("it has not three parts"));
    assert_eq!(read("a.b"), JwtError::Malformed("it has not three parts"));
    assert_eq!(read("a.b.c"), head);
    assert_eq!(read(&format!("{}.{body}.", encode("[]"))), head);
    assert_eq!(read(&format!("{}.{body}.", encode(b"{\"alg\": \"\xff\"}"))), head);
    assert_eq!(read(&format!("{good}=.{body}.")), head);
    let claims = JwtError::Malformed("its claims are no JSON object");
    assert_eq!(read(&format!("{good}.{}.", encode("1"))), claims);
    assert_eq!(read(&format!("{good}.{body}.x.y")), claims);
    assert_eq!(read(&format!("{good}.{}.", encode("[".repeat(2000)))), claims);
    let signature = JwtError::Malformed("its signature is no base64url");
    assert_eq!(read(&format!("{good}.{body}.*")), signature);
    let issuer = JwtError::Malformed("it names no issuer (`iss`)");
    assert_eq!(read(&format!("{good}.{}.", encode("{}"))), issuer);
    let long = "a".repeat(TOKEN_MAX + 1);
    assert_eq!(read(&long), JwtError::TooLarge { bytes: TOKEN_MAX + 1, max: TOKEN_MAX });
}

#[test]
fn tokens_and_keys_are_told_apart() {
    for text in ["a.b.c", "eyJ-_0.x.", "a.b."] {
        assert!(looks_like(text), "{text}");
    }
    for text in ["", "pk-00", "a.b", ".b.c", "a..c", "a.b.c.d", "a.b.c=", "a b.c.d", "ä.b.c"] {
        assert!(!looks_like(text), "{text}");
    }
}

#[test]
fn tokens_count_from_their_beginning_to_their_end() {
    let check = |claims: Value, now_s: u64, expect: Result<(), &str>| {
        let outcome = Claims(claims.clone())
            .check_times(Moment::at_ms(now_s * 1000), Duration::from_secs(60));
        let expect = expect.map_err(str::to_owned);
        assert_eq!(outcome.map_err(|error| error.to_string()), expect, "{claims} at {now_s}");
    };
    let expired = Err("the token expired at 1970-01-01T00:16:40Z; get a new one");
    check(json!({"exp": 1000}), 1059, Ok(()));
    check(json!({"exp": 1000}), 1060, expired);
    check(json!({"exp": 1000.9}), 1060, Ok(()));
    check(json!({"exp": 1000}), u64::MAX / 1000, expired);
    check(json!({"exp": -5}), 60, Err("the token expired at 1970-01-01T00:00:00Z; get a new one"));
    check(json!({"exp": 1e300}), 1000, Ok(()));
    let early =
        "the token is not valid before 1970-01-01T00:16:40Z; if it is new, the clocks differ";
    check(json!({"exp": 9000, "nbf": 1000}), 940, Ok(()));
    check(json!({"exp": 9000, "nbf": 1000}), 939, Err(early));
    check(json!({"exp": 9000, "iat": 1000}), 940, Ok(()));
    check(json!({"exp": 9000, "iat": 1000}), 0, Err(early));
    let endless =
        "the token does not say when it expires (`exp`); tokens without an end are refused";
    check(json!({}), 1000, Err(endless));
    let no_number =
        "the token is malformed: `exp`, `nbf` or `iat` is no number; send it as its issuer made it";
    check(json!({"exp": "1000"}), 0, Err(no_number));
    check(json!({"exp": null}), 0, Err(no_number));
    check(json!({"exp": 1000, "nbf": []}), 0, Err(no_number));
}

#[test]
fn claims_have_texts_as_values() {
    let claims = Claims(json!({
        "one": "a", "many": ["a", "b", 1, {"c": 2}], "yes": true, "count": 3, "part": 1.5,
        "realm": {"roles": ["user"]}, "none": null,
    }));
    let check = |name: &str, expect: &[&str]| assert_eq!(claims.values(name), expect, "{name}");
    check("one", &["a"]);
    check("many", &["a", "b", "1"]);
    check("yes", &["true"]);
    check("count", &["3"]);
    check("/realm/roles", &["user"]);
    for none in ["part", "none", "realm", "missing", "/", "/realm/x", "/one/2"] {
        check(none, &[]);
    }
    let audiences = |aud: Value| Claims(json!({ "aud": aud })).audiences();
    assert_eq!(audiences(json!("a")), ["a"]);
    assert_eq!(audiences(json!(["a", 1, "b"])), ["a", "b"]);
    assert!(audiences(json!({"a": 1})).is_empty());
}

#[test]
fn key_sets_are_bounded_and_hold_what_verifies() {
    let parse = |text: &str| KeySet::parse(text.as_bytes()).map(|set| set.keys.len());
    for text in ["", "[]", "{}", "{\"keys\": {}}", "<html>", "\u{0}"] {
        assert_eq!(parse(text), Err(KeySetError::Malformed), "{text}");
    }
    assert_eq!(parse("{\"keys\": []}"), Err(KeySetError::Useless(0)));
    let ed = Ed::new().jwk("k");
    let with = |name: &str, value: Value| {
        let mut key = ed.clone();
        key[name] = value;
        key
    };
    for useless in [
        json!(1),
        json!({"kty": "oct", "k": "c2VjcmV0"}),
        with("use", json!("enc")),
        with("key_ops", json!(["sign"])),
        with("alg", json!("RSA-OAEP")),
        with("alg", json!("HS256")),
        with("crv", json!("Ed448")),
        with("x", json!("AAAA")),
        with("x", json!("not base64")),
        with("kty", json!("EC")),
        json!({"kty": "RSA", "n": encode([255; 128]), "e": "AQAB"}),
        json!({"kty": "RSA", "n": encode([255; 2000]), "e": "AQAB"}),
        json!({"kty": "RSA"}),
        json!({"kty": "EC", "crv": "P-256", "x": encode([1; 32]), "y": encode([1; 33])}),
    ] {
        let error = parse(&json!({ "keys": [useless] }).to_string());
        assert_eq!(error, Err(KeySetError::Useless(1)), "{useless}");
        assert_eq!(parse(&json!({ "keys": [useless, ed] }).to_string()), Ok(1));
    }
    let many = vec![ed; JWKS_KEYS_MAX + 1];
    assert_eq!(parse(&json!({ "keys": many }).to_string()), Err(KeySetError::TooMany(65)));
}

proptest! {
    #[test]
    fn no_text_panics(text: String, header: String, claims: String) {
        let _ = looks_like(&text);
        let _ = Token::read(&text, TOKEN_MAX);
        let _ = Token::read(&format!("{}.{}.{text}", encode(header), encode(&claims)), TOKEN_MAX);
        let _ = KeySet::parse(claims.as_bytes());
    }

    #[test]
    fn no_changed_byte_goes_unseen(at in 0usize..1000, to in prop::char::range('0', 'z')) {
        let ed = Ed::new();
        let good = ed.token(&json!({"alg": "EdDSA", "kid": "k"}), &claims());
        let mut changed = good.clone().into_bytes();
        let at = at % changed.len();
        changed[at] = to as u8;
        let changed = String::from_utf8(changed).unwrap();
        prop_assume!(changed != good);
        prop_assert!(verify(&changed, &set(&[ed.jwk("k")])).is_err());
    }
}
