//! Who this is at container registries: names and passwords by host, and the tokens that registries want
//! instead (the token authentication of the distribution specification).

use std::collections::BTreeMap;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use pilotage_shell::secret::Secret;
use serde::Deserialize;

use crate::weights::hub::encode;

/// Names and passwords by registry.
#[derive(Clone, Debug, Default)]
pub struct Registries(BTreeMap<String, Secret>);

/// What Docker keeps in `config.json`.
#[derive(Deserialize)]
struct DockerConfig {
    #[serde(default)]
    auths: BTreeMap<String, DockerAuth>,
}

#[derive(Deserialize)]
struct DockerAuth {
    auth: Option<String>,
}

impl Registries {
    /// Those in Docker's `config.json`. Passwords that it keeps in other programs are not there.
    ///
    /// # Errors
    /// It is no such file.
    pub fn from_docker(config: &[u8]) -> Result<Self, serde_json::Error> {
        let config: DockerConfig = serde_json::from_slice(config)?;
        let known = config.auths.into_iter().filter_map(|(host, known)| {
            let auth = known
                .auth
                .filter(|auth| STANDARD.decode(auth).is_ok_and(|auth| !auth.is_empty()))?;
            Some((self::host(&host), Secret::new(format!("Basic {auth}"))))
        });
        Ok(Self(known.collect()))
    }

    /// Adds a name and password, as `NAME:PASSWORD`.
    pub fn add(&mut self, host: &str, name_and_password: &Secret) {
        let auth = STANDARD.encode(name_and_password.expose());
        self.0.insert(self::host(host), Secret::new(format!("Basic {auth}")));
    }

    pub(super) fn of(&self, host: &str) -> Option<&Secret> {
        self.0.get(&self::host(host))
    }
}

/// The name that a registry is kept under: Docker's own has several.
fn host(written: &str) -> String {
    let rest = written.split_once("://").map_or(written, |(_, rest)| rest);
    let host = rest.split('/').next().unwrap_or(rest).to_ascii_lowercase();
    match host.as_str() {
        "index.docker.io" | "registry-1.docker.io" => "docker.io".to_owned(),
        _ => host,
    }
}

/// What a registry wants to know, from `WWW-Authenticate`.
#[derive(Debug, Eq, PartialEq)]
pub(super) enum Challenge {
    /// Name and password themselves.
    Basic,
    /// A token, to be had there.
    Bearer { realm: String, service: Option<String> },
}

impl Challenge {
    pub(super) fn read(header: &str) -> Option<Self> {
        let (scheme, rest) = header.trim().split_once(' ').unwrap_or_else(|| (header.trim(), ""));
        if scheme.eq_ignore_ascii_case("basic") {
            return Some(Self::Basic);
        }
        if !scheme.eq_ignore_ascii_case("bearer") {
            return None;
        }
        let mut fields = fields(rest);
        Some(Self::Bearer { realm: fields.remove("realm")?, service: fields.remove("service") })
    }
}

/// `key="value"`, separated by commas.
fn fields(mut rest: &str) -> BTreeMap<String, String> {
    let mut fields = BTreeMap::new();
    while let Some((key, after)) = rest.split_once("=\"") {
        let Some((value, after)) = after.split_once('"') else { break };
        let key = key.trim_matches([' ', ',']).to_ascii_lowercase();
        fields.insert(key, value.to_owned());
        rest = after;
    }
    fields
}

/// The address of a token that allows to read a repository, and nothing else whatever the registry says.
pub(super) fn token_url(
    realm: &str,
    service: Option<&str>,
    repo: &str,
    plain: bool,
) -> Result<String, String> {
    if !(realm.starts_with("https://") || plain && realm.starts_with("http://")) {
        return Err("the registry wants passwords sent without encryption".to_owned());
    }
    let mark = if realm.contains('?') { '&' } else { '?' };
    let scope = encode(&format!("repository:{repo}:pull"), false);
    let service = service.map(|service| format!("service={}&", encode(service, false)));
    Ok(format!("{realm}{mark}{}scope={scope}", service.unwrap_or_default()))
}

/// The token in the answer.
pub(super) fn token(body: &[u8]) -> Option<Secret> {
    #[derive(Deserialize)]
    struct Answer {
        token: Option<String>,
        access_token: Option<String>,
    }
    let answer: Answer = serde_json::from_slice(body).ok()?;
    let token = answer.token.or(answer.access_token)?;
    let sound = !token.is_empty() && token.bytes().all(|byte| byte.is_ascii_graphic());
    sound.then(|| Secret::new(format!("Bearer {token}")))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn challenges_are_read() {
        let bearer = |realm: &str, service: Option<&str>| {
            let (realm, service) = (realm.to_owned(), service.map(str::to_owned));
            Some(Challenge::Bearer { realm, service })
        };
        let check = |header: &str, expect: Option<Challenge>| {
            assert_eq!(Challenge::read(header), expect, "{header}");
        };
        check(
            r#"Bearer realm="https://auth.docker.io/token",service="registry.docker.io",scope="repository:a,b:pull""#,
            bearer("https://auth.docker.io/token", Some("registry.docker.io")),
        );
        check(r#"bearer service="a", realm="b""#, bearer("b", Some("a")));
        check(r#"Basic realm="x""#, Some(Challenge::Basic));
        check("Basic", Some(Challenge::Basic));
        check("Bearer", None);
        check(r#"Bearer realm="x"#, None);
        check("Negotiate", None);
    }

    #[test]
    fn tokens_are_asked_for_over_encryption_only() {
        let url = token_url("https://a/t", Some("r g"), "o/m", false).unwrap();
        assert_eq!(url, "https://a/t?service=r%20g&scope=repository%3Ao%2Fm%3Apull");
        assert!(token_url("http://a/t", None, "o/m", false).is_err());
        assert!(token_url("ftp://a/t", None, "o/m", true).is_err());
        assert!(
            token_url("http://127.0.0.1/t?x=1", None, "m", true).unwrap().contains("x=1&scope=")
        );
    }

    #[test]
    fn what_docker_keeps_is_used() {
        let config = br#"{"auths": {"https://index.docker.io/v1/": {"auth": "YTpi"}, "ghcr.io": {"auth": "?"},
            "quay.io": {}}, "credsStore": "desktop"}"#;
        let mut registries = Registries::from_docker(config).unwrap();
        assert_eq!(registries.of("docker.io").unwrap().expose(), "Basic YTpi");
        assert!(registries.of("ghcr.io").is_none() && registries.of("quay.io").is_none());
        registries.add("GHCR.io", &Secret::new("a:b".to_owned()));
        assert_eq!(registries.of("ghcr.io").unwrap().expose(), "Basic YTpi");
        assert!(Registries::from_docker(b"x").is_err());
    }

    #[test]
    fn tokens_fit_a_header() {
        let check = |body: &str, expect: Option<&str>| {
            assert_eq!(token(body.as_bytes()).as_ref().map(Secret::expose), expect, "{body}");
        };
        check(r#"{"token": "a"}"#, Some("Bearer a"));
        check(r#"{"access_token": "b", "expires_in": 60}"#, Some("Bearer b"));
        check(r#"{"token": "a\nb"}"#, None);
        check("{}", None);
    }
}
