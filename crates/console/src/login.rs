//! Logging in with a key, and out again. A key is compared in constant time, few wrong ones are looked
//! at, and the browser gets a random id that no script sees.

use axum::body::Body;
use axum::extract::{Request, State};
use axum::response::{IntoResponse as _, Response};
use http::{HeaderMap, HeaderValue, StatusCode, header};
use pilotage_shell::secret::{KeyHash, Secret};

use crate::session::LIFE_S;
use crate::{Console, Role, guard, read, refuse};

/// Wrong keys in [`WINDOW_S`]; further ones are not looked at, and neither are right ones.
const TRIES_MAX: u32 = 10;

/// How long a wrong key counts.
const WINDOW_S: u64 = 60;

/// Bytes of a form: a key has 67.
const FORM_BYTES_MAX: usize = 4096;

/// Wrong keys of late. Of all clients together: behind proxies, addresses tell nothing.
#[derive(Debug, Default)]
pub(crate) struct Tries {
    since_ns: u64,
    wrong: u32,
}

impl Tries {
    fn is_open(&mut self, now_ns: u64) -> bool {
        if now_ns.saturating_sub(self.since_ns) >= WINDOW_S * 1_000_000_000 {
            *self = Self { since_ns: now_ns, wrong: 0 };
        }
        self.wrong < TRIES_MAX
    }
}

/// The form.
pub(crate) async fn page(State(console): State<Console>, headers: HeaderMap) -> Response {
    console.inner.assets.page("login.html", &headers)
}

/// Takes a key, and leads to the pages or back to the form, which says what was wrong.
pub(crate) async fn enter(State(console): State<Console>, request: Request) -> Response {
    let (parts, body) = request.into_parts();
    if !guard::is_same_origin(&parts.headers) {
        return refuse(StatusCode::FORBIDDEN, "log in from the console's own page");
    }
    let Some(key) = key_of(body).await else { return lead("/console/login?wrong=empty") };
    let now = console.inner.clock.now_nanos();
    let Some(role) = console.check(now, &key) else { return lead("/console/login?wrong=key") };
    let (Ok(role), Ok(id)) = (role, Secret::generate()) else {
        return lead("/console/login?wrong=often");
    };
    console.inner.sessions.lock().begin(now, id.hash(), role);
    let mut response = lead("/console/");
    console.give(&mut response, &parts.headers, id.expose(), LIFE_S);
    response
}

/// Ends the session.
pub(crate) async fn leave(State(console): State<Console>, headers: HeaderMap) -> Response {
    if !guard::is_same_origin(&headers) {
        return refuse(StatusCode::FORBIDDEN, "log out from the console's own page");
    }
    if let Some(id) = cookie(&headers) {
        console.inner.sessions.lock().end(&KeyHash::of(id));
    }
    let mut response = lead("/console/login");
    console.give(&mut response, &headers, "", 0);
    response
}

/// The session's id, as a browser sends it.
pub(crate) fn cookie(headers: &HeaderMap) -> Option<&str> {
    let name = cookie_name(headers);
    let pairs = headers.get_all(header::COOKIE).iter().filter_map(|value| value.to_str().ok());
    let mut pairs = pairs.flat_map(|value| value.split(';')).map(str::trim);
    pairs.find_map(|pair| pair.strip_prefix(name.as_str())?.strip_prefix('='))
}

/// Browsers send a cookie to all ports of a host: two gateways on one machine would take each other's.
fn cookie_name(headers: &HeaderMap) -> String {
    format!("pilotage-{}", guard::port(headers).unwrap_or(0))
}

impl Console {
    /// Whose key it is: none where it is nobody's, an error where too many were wrong.
    fn check(&self, now_ns: u64, key: &str) -> Option<Result<Role, ()>> {
        let mut tries = self.inner.tries.lock();
        if !tries.is_open(now_ns) {
            return Some(Err(()));
        }
        let (sent, config) = (KeyHash::of(key), &self.inner.config);
        let is_viewer = config.viewer_key.is_some_and(|viewer| viewer.matches(&sent));
        if config.admin_key.matches(&sent) {
            return Some(Ok(Role::Admin));
        }
        if is_viewer {
            return Some(Ok(Role::Viewer));
        }
        tries.wrong += 1;
        None
    }

    fn give(&self, response: &mut Response, headers: &HeaderMap, id: &str, life_s: u64) {
        let forwarded = headers.get("x-forwarded-proto").is_some_and(|proto| proto == "https");
        let secure = if self.inner.config.https || forwarded { "; Secure" } else { "" };
        let name = cookie_name(headers);
        let text =
            format!("{name}={id}; Path=/; HttpOnly; SameSite=Strict; Max-Age={life_s}{secure}");
        if let Ok(value) = HeaderValue::from_str(&text) {
            response.headers_mut().insert(header::SET_COOKIE, value);
        }
    }
}

/// The key in a form, `key=…`.
async fn key_of(body: Body) -> Option<String> {
    let form = read(body, FORM_BYTES_MAX).await?;
    let form = String::from_utf8(form).ok()?;
    let value = form.split('&').find_map(|pair| pair.strip_prefix("key="))?;
    let key = decoded(value)?.trim().to_owned();
    (!key.is_empty()).then_some(key)
}

/// A form's value, out of its escapes.
fn decoded(value: &str) -> Option<String> {
    let mut bytes = Vec::with_capacity(value.len());
    let mut rest = value.bytes();
    while let Some(byte) = rest.next() {
        bytes.push(match byte {
            b'+' => b' ',
            b'%' => {
                let digit = |byte: Option<u8>| char::from(byte?).to_digit(16);
                let (high, low) = (digit(rest.next())?, digit(rest.next())?);
                u8::try_from(high * 16 + low).ok()?
            }
            other => other,
        });
    }
    String::from_utf8(bytes).ok()
}

fn lead(to: &'static str) -> Response {
    let headers = [(header::LOCATION, to), (header::CACHE_CONTROL, "no-store")];
    (StatusCode::SEE_OTHER, headers).into_response()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn forms_are_read() {
        let check = |text: &str, expect: Option<&str>| assert_eq!(decoded(text).as_deref(), expect);
        check("pk-1", Some("pk-1"));
        check("a+b%20c%3D", Some("a b c="));
        check("%e2%82%ac", Some("€"));
        check("%", None);
        check("%4", None);
        check("%zz", None);
        check("%ff", None);
    }

    #[test]
    fn a_cookie_is_the_ports_own() {
        let check = |host: &str, cookies: &[&str], expect: Option<&str>| {
            let mut headers = HeaderMap::new();
            headers.insert(header::HOST, host.parse().unwrap());
            cookies.iter().for_each(|one| {
                headers.append(header::COOKIE, one.parse().unwrap());
            });
            assert_eq!(cookie(&headers), expect);
        };
        check("a:1", &["pilotage-1=x"], Some("x"));
        check("a:1", &["b=c; pilotage-1=x", "d=e"], Some("x"));
        check("a:1", &["pilotage-11=x"], None);
        check("a:2", &["pilotage-1=x; pilotage-2=y"], Some("y"));
        check("a", &["pilotage-0=x"], Some("x"));
        check("a", &[], None);
    }

    #[test]
    fn tries_are_few_and_come_back() {
        let mut tries = Tries::default();
        assert!(tries.is_open(0));
        tries.wrong = TRIES_MAX;
        assert!(!tries.is_open(59_999_999_999));
        assert!(tries.is_open(60_000_000_000));
    }
}
