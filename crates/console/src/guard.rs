//! What holds for every answer of the console: which names it is reached by, and what browsers may do
//! with its pages.

use axum::extract::{Request, State};
use axum::middleware::Next;
use axum::response::Response;
use http::{HeaderMap, HeaderName, HeaderValue, StatusCode, header};

use crate::{Console, refuse};

/// Everything that pages need comes from here, and no text becomes code or markup.
const POLICY: &str = "default-src 'none'; script-src 'self'; style-src 'self'; connect-src 'self'; \
    img-src 'self' data:; frame-ancestors 'none'; base-uri 'none'; form-action 'self'; \
    require-trusted-types-for 'script'; trusted-types 'none'";

const HEADERS: [(HeaderName, &str); 6] = [
    (header::CONTENT_SECURITY_POLICY, POLICY),
    (header::X_CONTENT_TYPE_OPTIONS, "nosniff"),
    (header::X_FRAME_OPTIONS, "DENY"),
    (header::REFERRER_POLICY, "same-origin"),
    (HeaderName::from_static("cross-origin-opener-policy"), "same-origin"),
    (HeaderName::from_static("cross-origin-resource-policy"), "same-origin"),
];

/// Refuses requests by names that are not ours, and sets the headers.
pub(crate) async fn guard(
    State(console): State<Console>,
    request: Request,
    next: Next,
) -> Response {
    let mut response = if is_own_host(request.headers(), &console.inner.config.hosts) {
        next.run(request).await
    } else {
        let message = "the console is not known by this name: use the address it listens on, or \
            localhost, or have it know the name";
        refuse(StatusCode::MISDIRECTED_REQUEST, message)
    };
    for (name, value) in HEADERS {
        response.headers_mut().insert(name, HeaderValue::from_static(value));
    }
    response
}

/// Whether a request was sent to a name that can only be ours. A web site that has its own name lead to
/// this address sends that name.
pub(crate) fn is_own_host(headers: &HeaderMap, more: &[String]) -> bool {
    let Some(host) = headers.get(header::HOST) else {
        // HTTP/2 has it elsewhere, and browsers do not speak that without encryption.
        return true;
    };
    let Ok(host) = host.to_str() else { return false };
    let name = without_port(host).trim_end_matches('.').to_ascii_lowercase();
    let is_address = name.parse::<std::net::IpAddr>().is_ok();
    let in_cluster = name.ends_with(".svc") || name.ends_with(".svc.cluster.local");
    // Nobody can register a name without a dot.
    let is_local = !name.contains('.') || name.ends_with(".localhost");
    !name.is_empty()
        && (is_address
            || is_local
            || in_cluster
            || more.iter().any(|own| own.eq_ignore_ascii_case(&name)))
}

/// Whether no page of another site sent this. Browsers say so themselves, but only over connections that
/// they trust; over others the origin tells.
pub(crate) fn is_same_origin(headers: &HeaderMap) -> bool {
    let text = |name: &str| headers.get(name).map(|value| value.to_str().unwrap_or_default());
    if let Some(site) = text("sec-fetch-site") {
        return matches!(site, "same-origin" | "none");
    }
    text("origin").is_none_or(|origin| {
        let named = origin.split_once("://").map(|(_, host)| host);
        named.is_some() && named == text("host")
    })
}

/// The port in a Host header.
pub(crate) fn port(headers: &HeaderMap) -> Option<u16> {
    let host = headers.get(header::HOST)?.to_str().ok()?;
    host[without_port(host).len()..].trim_start_matches([']', ':']).parse().ok()
}

/// `[::1]:80` is `::1`, `a:80` is `a`.
fn without_port(host: &str) -> &str {
    if let Some(address) = host.strip_prefix('[') {
        return address.split(']').next().unwrap_or_default();
    }
    host.split(':').next().unwrap_or_default()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn with(pairs: &[(&'static str, &str)]) -> HeaderMap {
        let pairs = pairs.iter();
        pairs.map(|(name, value)| (HeaderName::from_static(name), value.parse().unwrap())).collect()
    }

    #[test]
    fn names_that_can_only_be_ours_are_known() {
        let check = |host: &str, expect: bool| {
            let more = ["pilotage.example.com".to_owned()];
            assert_eq!(is_own_host(&with(&[("host", host)]), &more), expect, "{host}");
        };
        check("127.0.0.1:8081", true);
        check("[::1]:8081", true);
        check("10.1.2.3", true);
        check("localhost:1", true);
        check("LocalHost", true);
        check("pilotage", true);
        check("pilotage.team.svc:8081", true);
        check("pilotage.team.svc.cluster.local.", true);
        check("Pilotage.Example.com", true);
        check("evil.example", false);
        check("127.0.0.1.evil.example:8081", false);
        check("localhost.evil.example", false);
        check("svc.evil.example", false);
        check("", false);
        check(":80", false);
        assert!(!is_own_host(
            &HeaderMap::from_iter([(header::HOST, HeaderValue::from_bytes(b"\xff").unwrap())]),
            &[]
        ));
    }

    #[test]
    fn pages_of_other_sites_are_told() {
        let check = |pairs: &[(&'static str, &str)], expect: bool| {
            assert_eq!(is_same_origin(&with(pairs)), expect, "{pairs:?}");
        };
        check(&[], true);
        check(&[("sec-fetch-site", "same-origin")], true);
        check(&[("sec-fetch-site", "cross-site")], false);
        check(&[("sec-fetch-site", "same-site")], false);
        check(&[("origin", "http://a:1"), ("host", "a:1")], true);
        check(&[("origin", "http://a:2"), ("host", "a:1")], false);
        check(&[("origin", "null"), ("host", "a:1")], false);
        check(&[("origin", "http://a:1")], false);
    }

    #[test]
    fn a_port_is_found() {
        let check =
            |host: &str, expect| assert_eq!(port(&with(&[("host", host)])), expect, "{host}");
        check("a:80", Some(80));
        check("[::1]:80", None);
        check("a", None);
        check("a:x", None);
    }
}
