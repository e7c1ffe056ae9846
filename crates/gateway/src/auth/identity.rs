//! Tokens of identity providers: from a token to the tenant whose rule it fits best.
//!
//! A rule names an issuer, an audience and claims. Of the rules that a token fits, the one with
//! the most claims decides; where two tenants have equally many, the token is refused rather than
//! given to one of them by chance.

use std::collections::{HashMap, HashSet};
use std::time::Duration;

use pilotage_shell::client::Client;
use pilotage_shell::clock::Clock;
use pilotage_shell::jwt::{Claims, JwtError, Token};
use pilotage_shell::wall::Moment;
use pilotage_wire::openai::error::ApiError;
use thiserror::Error;

use super::issuer::{Issuer, IssuerAway};
use crate::config::{IdentityConfig, Oidc, TenantConfig};

/// Every rule, by issuer.
#[derive(Debug)]
pub(super) struct Identities {
    issuers: HashMap<String, (Issuer, Rules)>,
    token_bytes_max: usize,
    leeway: Duration,
}

/// Why a token proves no tenant.
#[derive(Debug, Error)]
pub(super) enum IdentityError {
    #[error(transparent)]
    Token(#[from] JwtError),
    #[error("the token's issuer (`iss`) is not one that this gateway trusts")]
    UnknownIssuer,
    #[error(transparent)]
    Away(#[from] IssuerAway),
    #[error("the token is for another audience (`aud`); ask its issuer for one for this gateway")]
    Audience,
    #[error("the token is right, but no tenant takes its claims; ask whoever runs this gateway")]
    Nobody,
    #[error(
        "the token fits several tenants equally well; whoever runs this gateway must tell them \
         apart by more claims"
    )]
    Ambiguous,
}

/// The rules of one issuer's tokens.
#[derive(Debug, Default)]
struct Rules {
    audiences: HashSet<String>,
    rules: Vec<Rule>,
    /// Places of rules, by one claim and its value, so that of thousands of tenants only those are
    /// looked at that a token can be for.
    by_claim: HashMap<String, HashMap<String, Vec<usize>>>,
    /// Places of the rules without claims.
    without_claims: Vec<usize>,
}

#[derive(Debug)]
struct Rule {
    audience: String,
    claims: Vec<(String, String)>,
    tenant: usize,
}

impl Identities {
    pub(super) fn new(tenants: &[TenantConfig], oidc: Oidc, client: Client, clock: Clock) -> Self {
        let mut rules: HashMap<String, Vec<Rule>> = HashMap::new();
        for (at, tenant) in tenants.iter().enumerate() {
            for identity in &tenant.identities {
                rules.entry(identity.issuer.clone()).or_default().push(Rule::of(at, identity));
            }
        }
        let issuer = |(name, rules): (String, Vec<Rule>)| {
            let issuer = Issuer::new(name.clone(), oidc, client.clone(), clock);
            (name, (issuer, Rules::new(rules)))
        };
        Self {
            issuers: rules.into_iter().map(issuer).collect(),
            token_bytes_max: oidc.token_bytes_max,
            leeway: oidc.leeway,
        }
    }

    pub(super) fn is_empty(&self) -> bool {
        self.issuers.is_empty()
    }

    /// The place of the tenant whose token it is.
    pub(super) async fn owner(&self, now: Moment, sent: &str) -> Result<usize, IdentityError> {
        let token = Token::read(sent, self.token_bytes_max)?;
        let (issuer, rules) =
            self.issuers.get(token.issuer()).ok_or(IdentityError::UnknownIssuer)?;
        let keys = issuer.keys(token.key_id()).await?;
        let claims = token.verify(&keys)?;
        claims.check_times(now, self.leeway)?;
        rules.owner(&claims)
    }
}

impl Rule {
    fn of(tenant: usize, identity: &IdentityConfig) -> Self {
        Self { audience: identity.audience.clone(), claims: identity.claims.clone(), tenant }
    }

    fn fits(&self, audiences: &[String], claims: &Claims) -> bool {
        audiences.contains(&self.audience)
            && self.claims.iter().all(|(name, value)| claims.values(name).contains(value))
    }
}

impl Rules {
    fn new(rules: Vec<Rule>) -> Self {
        let mut rarity: HashMap<&(String, String), usize> = HashMap::new();
        for claim in rules.iter().flat_map(|rule| &rule.claims) {
            *rarity.entry(claim).or_default() += 1;
        }
        let mut found = Self::default();
        for (at, rule) in rules.iter().enumerate() {
            found.audiences.insert(rule.audience.clone());
            match rule.claims.iter().min_by_key(|claim| rarity.get(claim)) {
                Some((name, value)) => {
                    let values = found.by_claim.entry(name.clone()).or_default();
                    values.entry(value.clone()).or_default().push(at);
                }
                None => found.without_claims.push(at),
            }
        }
        Self { rules, ..found }
    }

    fn owner(&self, claims: &Claims) -> Result<usize, IdentityError> {
        let audiences = claims.audiences();
        if !audiences.iter().any(|audience| self.audiences.contains(audience)) {
            return Err(IdentityError::Audience);
        }
        let mut best: Option<(usize, &Rule)> = None;
        let mut tied = false;
        for rule in self.candidates(claims).filter(|rule| rule.fits(&audiences, claims)) {
            let claims = rule.claims.len();
            match best {
                Some((most, _)) if claims < most => {}
                Some((most, first)) if claims == most => tied |= first.tenant != rule.tenant,
                _ => (best, tied) = (Some((claims, rule)), false),
            }
        }
        match best {
            None => Err(IdentityError::Nobody),
            Some(_) if tied => Err(IdentityError::Ambiguous),
            Some((_, rule)) => Ok(rule.tenant),
        }
    }

    /// Every rule that the claims can fit; one of them twice where a list says a value twice.
    fn candidates(&self, claims: &Claims) -> impl Iterator<Item = &Rule> {
        let by_claim = self.by_claim.iter().flat_map(|(name, by_value)| {
            let values = claims.values(name);
            values.into_iter().filter_map(|value| by_value.get(&value)).flatten()
        });
        by_claim.chain(&self.without_claims).filter_map(|at| self.rules.get(*at))
    }
}

impl From<IdentityError> for ApiError {
    fn from(error: IdentityError) -> Self {
        let code = match &error {
            IdentityError::Away(_) => {
                return Self::unavailable(error.to_string()).with_code("issuer_unavailable");
            }
            IdentityError::Token(JwtError::Expired { .. }) => "expired_token",
            _ => "invalid_token",
        };
        Self::unauthenticated(error.to_string()).with_code(code)
    }
}
