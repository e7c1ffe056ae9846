//! API keys: from the hash of what was sent to the tenant that has it, in a time that depends
//! neither on how many keys there are nor on how near a guess is.

use std::collections::HashMap;

use pilotage_shell::date;
use pilotage_shell::secret::KeyHash;
use pilotage_shell::wall::Moment;
use pilotage_wire::openai::error::ApiError;

use crate::config::{KeyConfig, TenantConfig};

/// All keys, by their hashes.
///
/// Looking a hash up takes a time that may tell where a bucket is empty, and so something about
/// the hashes that are stored. That helps nobody: the hash of a random key of 256 bits says nothing
/// about the key, and who would steer hashes into buckets by choosing keys cannot find one for the
/// hash that is missing. What must take the same time wherever two values differ is the last
/// comparison, and that does.
#[derive(Debug)]
pub(super) struct Keys {
    by_hash: HashMap<[u8; 32], (usize, KeyConfig)>,
}

impl Keys {
    pub(super) fn new(tenants: &[TenantConfig]) -> Self {
        let all = tenants.iter().enumerate();
        let all = all.flat_map(|(at, tenant)| tenant.keys.iter().map(move |key| (at, *key)));
        Self { by_hash: all.map(|(at, key)| (*key.hash.bytes(), (at, key))).collect() }
    }

    /// The place of the tenant that has the key, if any has.
    ///
    /// # Errors
    /// Status 401: the key is right, but not now.
    pub(super) fn owner(&self, now: Moment, sent: &KeyHash) -> Option<Result<usize, ApiError>> {
        let (at, key) = self.by_hash.get(sent.bytes())?;
        key.hash.matches(sent).then(|| within_window(now, key).map(|()| *at))
    }
}

/// Only who has sent the right key comes this far, and may know when it counts.
fn within_window(now: Moment, key: &KeyConfig) -> Result<(), ApiError> {
    if let Some(at) = key.expires_ms.filter(|at| now.is_over(*at)) {
        let at = date::utc(at / 1000);
        let message =
            format!("this API key expired at {at}; ask whoever runs this gateway for a new one");
        return Err(ApiError::unauthenticated(message).with_code("expired_api_key"));
    }
    if let Some(at) = key.not_before_ms.filter(|at| !now.has_begun(*at)) {
        let at = date::utc(at / 1000);
        let message =
            format!("this API key is not valid before {at}; use the one it replaces until then");
        return Err(ApiError::unauthenticated(message));
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_of_many_keys_leads_to_its_tenant() {
        let tenant = |at: usize| TenantConfig {
            keys: (0..3).map(|key| KeyHash::of(&format!("{at}-{key}")).into()).collect(),
            ..TenantConfig::named(at.to_string())
        };
        let tenants: Vec<TenantConfig> = (0..10_000).map(tenant).collect();
        let keys = Keys::new(&tenants);
        let owner = |key: &str| keys.owner(Moment::at_ms(0), &KeyHash::of(key));
        for at in [0, 1, 5000, 9999] {
            assert_eq!(owner(&format!("{at}-2")), Some(Ok(at)));
            assert_eq!(owner(&format!("{at}-3")), None);
        }
    }
}
