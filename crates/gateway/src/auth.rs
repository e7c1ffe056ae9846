//! Who asks: a key, to a tenant. Only the hashes of keys are kept.

use http::{HeaderMap, header};
use pilotage_core::{Band, TenantId};
use pilotage_shell::secret::KeyHash;
use pilotage_wire::envelope;
use pilotage_wire::openai::error::ApiError;

use crate::config::TenantConfig;

/// The tenants and their keys.
#[derive(Debug)]
pub(crate) struct Tenants {
    tenants: Vec<TenantConfig>,
    open: bool,
}

/// Who asked.
#[derive(Clone, Debug, Eq, PartialEq)]
pub(crate) struct Caller {
    pub(crate) id: TenantId,
    pub(crate) name: String,
    pub(crate) band: Band,
}

impl Tenants {
    pub(crate) const fn new(tenants: Vec<TenantConfig>, open: bool) -> Self {
        Self { tenants, open }
    }

    /// Finds the tenant of a request's key, and the band it may have: the one it asks for, but none
    /// more urgent than its tenant's highest.
    ///
    /// # Errors
    /// Status 401: no key, or one that nobody has. Which of the two is said, the key is not.
    pub(crate) fn find(&self, headers: &HeaderMap) -> Result<Caller, ApiError> {
        let found = match sent_key(headers) {
            Some(key) => self.owner(&KeyHash::of(key)).or_else(|| self.open.then_some(0)),
            None if self.open => Some(0),
            None => {
                let message = "no API key was sent; send one as `Authorization: Bearer KEY`";
                return Err(ApiError::unauthenticated(message));
            }
        };
        let Some((at, tenant)) = found.and_then(|at| Some((at, self.tenants.get(at)?))) else {
            let message =
                "this API key is not known; check it, or ask whoever runs this gateway for one";
            return Err(ApiError::unauthenticated(message));
        };
        let asked = headers.get(envelope::BAND).and_then(|band| Band::parse(band.to_str().ok()?));
        Ok(Caller {
            id: TenantId(u32::try_from(at).unwrap_or(u32::MAX)),
            name: tenant.name.clone(),
            band: asked.unwrap_or_default().max(tenant.highest_band),
        })
    }

    /// Looks at every key, whether or not one matched before: the time taken tells nothing.
    fn owner(&self, sent: &KeyHash) -> Option<usize> {
        let mut owner = None;
        for (at, tenant) in self.tenants.iter().enumerate() {
            for key in &tenant.keys {
                if key.matches(sent) {
                    owner = Some(at);
                }
            }
        }
        owner
    }
}

/// The key in `Authorization: Bearer` or `x-api-key`.
pub(crate) fn sent_key(headers: &HeaderMap) -> Option<&str> {
    let bearer = headers.get(header::AUTHORIZATION).and_then(|value| value.to_str().ok());
    let bearer = bearer.and_then(|value| {
        let (scheme, key) = value.split_once(' ')?;
        scheme.eq_ignore_ascii_case("bearer").then(|| key.trim())
    });
    let other = || headers.get("x-api-key").and_then(|value| value.to_str().ok());
    bearer.or_else(other).filter(|key| !key.is_empty())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn tenants(open: bool) -> Tenants {
        let tenant = |name: &str, highest_band, keys: &[&str]| TenantConfig {
            name: name.to_owned(),
            highest_band,
            keys: keys.iter().map(|key| KeyHash::of(key)).collect(),
        };
        let list =
            vec![tenant("one", Band::Realtime, &["a", "b"]), tenant("two", Band::Bulk, &["c"])];
        Tenants::new(list, open)
    }

    fn find(open: bool, headers: &[(&'static str, &str)]) -> Result<(String, Band), u16> {
        let mut map = HeaderMap::new();
        for (name, value) in headers {
            map.insert(*name, value.parse().unwrap());
        }
        tenants(open)
            .find(&map)
            .map(|caller| (caller.name, caller.band))
            .map_err(|error| error.status)
    }

    #[test]
    fn keys_lead_to_tenants_and_bands_are_clamped() {
        let check = |headers: &[(&'static str, &str)], name: &str, band: Band| {
            assert_eq!(find(false, headers), Ok((name.to_owned(), band)));
        };
        check(&[("authorization", "Bearer a")], "one", Band::Standard);
        check(&[("authorization", "bearer  b")], "one", Band::Standard);
        check(&[("x-api-key", "c")], "two", Band::Bulk);
        check(&[("x-api-key", "c"), ("x-pilotage-band", "realtime")], "two", Band::Bulk);
        check(&[("x-api-key", "a"), ("x-pilotage-band", "realtime")], "one", Band::Realtime);
        check(&[("x-api-key", "a"), ("x-pilotage-band", "batch")], "one", Band::Batch);
        check(&[("x-api-key", "a"), ("x-pilotage-band", "nonsense")], "one", Band::Standard);
    }

    #[test]
    fn without_a_known_key_nobody_gets_in_unless_it_is_open() {
        for headers in [
            &[][..],
            &[("authorization", "Bearer x")],
            &[("authorization", "Bearer ")],
            &[("authorization", "Basic a")],
        ] {
            assert_eq!(find(false, headers), Err(401));
            assert_eq!(find(true, headers), Ok(("one".to_owned(), Band::Standard)));
        }
    }
}
