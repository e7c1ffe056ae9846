//! Who asks: an API key or a token of an identity provider, to a tenant. Only what was proved
//! counts: no header, name or address makes anybody a tenant. Only the hashes of keys are kept.

mod identity;
mod issuer;
mod keys;

use std::time::Duration;

use http::{HeaderMap, header};
use pilotage_core::traffic::Name;
use pilotage_core::{Band, TenantId};
use pilotage_shell::client::Client;
use pilotage_shell::clock::Clock;
use pilotage_shell::jwt;
use pilotage_shell::secret::KeyHash;
use pilotage_shell::wall::{Moment, WallClock};
use pilotage_wire::envelope;
use pilotage_wire::openai::error::ApiError;

use crate::config::{Oidc, TenantConfig};
use crate::names;
use identity::Identities;
use keys::Keys;

/// The tenants, and how each is recognised.
#[derive(Debug)]
pub(crate) struct Tenants {
    tenants: Vec<Tenant>,
    keys: Keys,
    identities: Identities,
    open: bool,
    wall: WallClock,
}

#[derive(Debug)]
struct Tenant {
    id: TenantId,
    name: Name,
    /// Its name below those of the tenants that it belongs to.
    path: Name,
    highest_band: Band,
    deadline: Option<Duration>,
    /// Whether it is a gateway of another region, which says whose its requests are.
    relays: bool,
}

/// Who asked.
#[derive(Clone, Debug, Eq, PartialEq)]
pub(crate) struct Caller {
    pub(crate) id: TenantId,
    pub(crate) name: Name,
    /// Its name below those of the tenants that it belongs to, divided by `/`.
    pub(crate) path: Name,
    pub(crate) band: Band,
    /// How long its requests wait when they do not say.
    pub(crate) deadline: Option<Duration>,
}

impl Tenant {
    /// It as the caller of a request with these headers.
    fn caller(&self, headers: &HeaderMap) -> Result<Caller, ApiError> {
        let asked = asked_band(headers)?;
        Ok(Caller {
            id: self.id,
            name: self.name.clone(),
            path: self.path.clone(),
            band: asked.unwrap_or_default().max(self.highest_band),
            deadline: self.deadline,
        })
    }
}

/// A tenant's name below those of the tenants that it belongs to.
fn path(tenant: &TenantConfig, all: &[TenantConfig]) -> String {
    let mut names = vec![tenant.name.as_str()];
    let mut parent = tenant.parent.as_deref();
    // What belongs to itself in the end is refused elsewhere; here it only must not go on for ever.
    while let Some(above) = parent.filter(|_| names.len() <= all.len()) {
        names.push(above);
        parent = all.iter().find(|one| one.name == above).and_then(|one| one.parent.as_deref());
    }
    names.reverse();
    names.join("/")
}

impl Tenants {
    /// `client` fetches the keys of identity providers, when the first token of each comes. `ids`
    /// are the tenants', in their order.
    pub(crate) fn new(
        tenants: &[TenantConfig],
        ids: &[TenantId],
        open: bool,
        oidc: Oidc,
        client: Client,
        clock: Clock,
    ) -> Self {
        let tenant = |(tenant, id): (&TenantConfig, &TenantId)| Tenant {
            id: *id,
            name: tenant.name.as_str().into(),
            path: path(tenant, tenants).into(),
            highest_band: tenant.highest_band,
            deadline: tenant.deadline,
            relays: tenant.relays,
        };
        Self {
            tenants: tenants.iter().zip(ids).map(tenant).collect(),
            keys: Keys::new(tenants),
            identities: Identities::new(tenants, oidc, client, clock),
            open,
            wall: WallClock::new(clock),
        }
    }

    /// Finds the tenant of a request's key or token, and the band it may have: the one it asks for,
    /// but none more urgent than its tenant's highest.
    ///
    /// # Errors
    /// Status 401: nothing proves a tenant. The message says why; neither key nor token is in it.
    /// Status 503: a token's issuer cannot be reached, so that nobody knows.
    pub(crate) async fn find(&self, headers: &HeaderMap) -> Result<Caller, ApiError> {
        self.find_at(self.wall.now(), headers).await
    }

    async fn find_at(&self, now: Moment, headers: &HeaderMap) -> Result<Caller, ApiError> {
        let sent = sent_key(headers);
        let found = match sent {
            Some(sent) => self.owner(now, sent).await?,
            None => None,
        };
        let found = found.or_else(|| self.open.then_some(0));
        let Some(tenant) = found.and_then(|at| self.tenants.get(at)) else {
            let message = match sent {
                Some(_) => {
                    "this API key is not known; check it, or ask whoever runs this gateway for one"
                }
                None => "no API key was sent; send one as `Authorization: Bearer KEY`",
            };
            return Err(ApiError::unauthenticated(message));
        };
        self.relayed(tenant, headers).unwrap_or(tenant).caller(headers)
    }

    /// The tenant whose request a gateway of another region brings. One that is not known here is that
    /// gateway's own, and so is everything that others say.
    fn relayed(&self, by: &Tenant, headers: &HeaderMap) -> Option<&Tenant> {
        let name = headers.get(&names::TENANT).filter(|_| by.relays)?.to_str().ok()?;
        self.tenants.iter().find(|tenant| tenant.name.as_str() == name && !tenant.relays)
    }

    /// The tenant of that name, for who needs to prove nothing; the only one where none is named.
    ///
    /// # Errors
    /// Status 400: there is none of that name, or there are several to choose from.
    pub(crate) fn named(
        &self,
        name: Option<&str>,
        headers: &HeaderMap,
    ) -> Result<Caller, ApiError> {
        /// Most names that the error lists.
        const NAMES_MAX: usize = 20;
        let found = match name {
            Some(name) => self.tenants.iter().find(|tenant| tenant.name.as_str() == name),
            None if self.open || self.tenants.len() == 1 => self.tenants.first(),
            None => None,
        };
        found.map(|tenant| tenant.caller(headers)).unwrap_or_else(|| {
            let names = self.tenants.iter().map(|tenant| tenant.name.as_str()).take(NAMES_MAX);
            let list = names.collect::<Vec<_>>().join("`, `");
            let message = format!("`tenant` must say whose request it is: one of `{list}`");
            Err(ApiError::invalid_request(message).with_param("tenant"))
        })
    }

    /// The tenant that somebody names who is trusted to have found out.
    ///
    /// # Errors
    /// Status 403: there is none of that name.
    pub(crate) fn trusted(&self, name: &str, headers: &HeaderMap) -> Result<Caller, ApiError> {
        let found = self.tenants.iter().find(|tenant| tenant.name.as_str() == name);
        found.map(|tenant| tenant.caller(headers)).unwrap_or_else(|| {
            Err(ApiError::forbidden("the proxy names a tenant that is not known here"))
        })
    }

    /// Whose key or token it is; nobody's when it is a key that is not known. A key is looked for
    /// first: what a manifest lists is a key, whatever it looks like.
    async fn owner(&self, now: Moment, sent: &str) -> Result<Option<usize>, ApiError> {
        if let Some(owner) = self.keys.owner(now, &KeyHash::of(sent)) {
            return owner.map(Some);
        }
        if self.identities.is_empty() || !jwt::looks_like(sent) {
            return Ok(None);
        }
        Ok(Some(self.identities.owner(now, sent).await?))
    }
}

/// The band that a request asks for.
fn asked_band(headers: &HeaderMap) -> Result<Option<Band>, ApiError> {
    let Some(asked) = headers.get(&names::BAND) else { return Ok(None) };
    let band = asked.to_str().ok().and_then(Band::parse);
    band.map(Some).ok_or_else(|| {
        let names = Band::ALL.map(Band::name).join("`, `");
        let message = format!("there is no such band; `{}` takes `{names}`", envelope::BAND);
        ApiError::invalid_request(message).with_param(envelope::BAND)
    })
}

/// The key or token in `Authorization: Bearer` or `x-api-key`.
pub(crate) fn sent_key(headers: &HeaderMap) -> Option<&str> {
    let bearer = headers.get(header::AUTHORIZATION).and_then(|value| value.to_str().ok());
    let bearer = bearer.and_then(|value| {
        let (scheme, key) = value.split_once(' ')?;
        scheme.eq_ignore_ascii_case("bearer").then(|| key.trim())
    });
    let other = || headers.get(&names::API_KEY).and_then(|value| value.to_str().ok());
    bearer.or_else(other).filter(|key| !key.is_empty())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config::KeyConfig;

    fn tenants(open: bool) -> Tenants {
        let tenant = |name: &str, highest_band, keys: &[&str]| TenantConfig {
            highest_band,
            keys: keys.iter().map(|key| KeyHash::of(key).into()).collect(),
            ..TenantConfig::named(name)
        };
        let mut list =
            vec![tenant("one", Band::Realtime, &["a", "b"]), tenant("two", Band::Bulk, &["c"])];
        list[1].keys.push(KeyConfig {
            hash: KeyHash::of("window"),
            not_before_ms: Some(1_000_000),
            expires_ms: Some(2_000_000),
        });
        let client = Client::new().unwrap();
        let west = tenant("west", Band::Realtime, &["relay"]);
        list.push(TenantConfig { relays: true, ..west });
        let ids = [TenantId(0), TenantId(1), TenantId(2)];
        Tenants::new(&list, &ids, open, Oidc::default(), client, Clock::start())
    }

    async fn find_at(
        open: bool,
        now_ms: u64,
        headers: &[(&'static str, &str)],
    ) -> Result<Caller, ApiError> {
        let mut map = HeaderMap::new();
        for (name, value) in headers {
            map.insert(*name, value.parse().unwrap());
        }
        tenants(open).find_at(Moment::at_ms(now_ms), &map).await
    }

    async fn find(open: bool, headers: &[(&'static str, &str)]) -> Result<(String, Band), u16> {
        let found = find_at(open, 0, headers).await;
        found.map(|caller| (caller.name.to_string(), caller.band)).map_err(|error| error.status)
    }

    #[tokio::test]
    async fn keys_lead_to_tenants_and_bands_are_clamped() {
        let check = async |headers: &[(&'static str, &str)], name: &str, band: Band| {
            assert_eq!(find(false, headers).await, Ok((name.to_owned(), band)));
        };
        check(&[("authorization", "Bearer a")], "one", Band::Standard).await;
        check(&[("authorization", "bearer  b")], "one", Band::Standard).await;
        check(&[("x-api-key", "c")], "two", Band::Bulk).await;
        check(&[("x-api-key", "c"), ("x-pilotage-band", "realtime")], "two", Band::Bulk).await;
        check(&[("x-api-key", "a"), ("x-pilotage-band", "realtime")], "one", Band::Realtime).await;
        check(&[("x-api-key", "a"), ("x-pilotage-band", "batch")], "one", Band::Batch).await;
        let nonsense = [("x-api-key", "a"), ("x-pilotage-band", "nonsense")];
        assert_eq!(find(false, &nonsense).await, Err(400));
    }

    #[tokio::test]
    async fn who_relays_says_whose_requests_they_are_and_nobody_else_does() {
        let check = async |key: &str, said: &str, name: &str, band: Band| {
            let sent =
                [("x-api-key", key), ("x-pilotage-tenant", said), ("x-pilotage-band", "realtime")];
            assert_eq!(find(false, &sent).await, Ok((name.to_owned(), band)), "{key} {said}");
        };
        check("relay", "one", "one", Band::Realtime).await;
        check("relay", "two", "two", Band::Bulk).await;
        // Nobody of that name is known here, and no gateway speaks for another.
        check("relay", "nobody", "west", Band::Realtime).await;
        check("relay", "west", "west", Band::Realtime).await;
        check("a", "two", "one", Band::Realtime).await;
        check("c", "one", "two", Band::Bulk).await;
        assert_eq!(
            find(false, &[("x-api-key", "relay")]).await,
            Ok(("west".to_owned(), Band::Standard))
        );
    }

    #[tokio::test]
    async fn without_a_known_key_nobody_gets_in_unless_it_is_open() {
        for headers in [
            &[][..],
            &[("authorization", "Bearer x")],
            &[("authorization", "Bearer x.y.z")],
            &[("authorization", "Bearer ")],
            &[("authorization", "Basic a")],
            &[("x-pilotage-tenant", "0")],
        ] {
            assert_eq!(find(false, headers).await, Err(401));
            assert_eq!(find(true, headers).await, Ok(("one".to_owned(), Band::Standard)));
        }
    }

    #[tokio::test]
    async fn keys_count_within_their_window_and_say_when_it_was() {
        let check = async |open: bool, now_ms: u64, expect: Result<&str, (&str, &str)>| {
            let found = find_at(open, now_ms, &[("authorization", "Bearer window")]).await;
            let found = found.map(|caller| caller.name.to_string());
            let found = found.map_err(|error| {
                assert_eq!(error.status, 401);
                (error.code.unwrap().into_owned(), error.message)
            });
            let expect = expect.map(str::to_owned);
            let expect = expect.map_err(|(code, text)| (code.to_owned(), text.to_owned()));
            assert_eq!(found, expect, "at {now_ms}");
        };
        let early = "this API key is not valid before 1970-01-01T00:16:40Z; use the one it replaces until then";
        let late = "this API key expired at 1970-01-01T00:33:20Z; ask whoever runs this gateway for a new one";
        for open in [false, true] {
            check(open, 0, Err(("invalid_api_key", early))).await;
            check(open, 999_999, Err(("invalid_api_key", early))).await;
            check(open, 1_000_000, Ok("two")).await;
            check(open, 1_999_999, Ok("two")).await;
            check(open, 2_000_000, Err(("expired_api_key", late))).await;
            check(open, u64::MAX, Err(("expired_api_key", late))).await;
        }
    }
}
