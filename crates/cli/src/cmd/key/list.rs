//! `pilotage key list`: whose keys there are, and which of them count now.

use pilotage_plan::Timestamp;
use pilotage_plan::api::{Tenant, TenantKey};
use serde::Serialize;

use super::{read, tenants, when};
use crate::args::KeyList;
use crate::output::{self, Format};

/// Digits of a hash that tell keys apart in a table.
const HASH_DIGITS: usize = 12;

/// One key of a tenant.
#[derive(Debug, Serialize)]
#[serde(rename_all = "camelCase")]
struct Row {
    tenant: String,
    name: String,
    state: State,
    not_before: Option<String>,
    expires: Option<String>,
    /// Seconds until the key ends, or, once it has, none.
    expires_in_seconds: Option<u64>,
    sha256: String,
}

/// Whether a key counts.
#[derive(Clone, Copy, Debug, Eq, PartialEq, Serialize)]
#[serde(rename_all = "kebab-case")]
enum State {
    Active,
    NotYet,
    Expired,
}

/// Prints the keys of the files.
pub(super) fn run(now_s: u64, args: &KeyList) -> anyhow::Result<()> {
    let mut found = Vec::new();
    for file in &args.files {
        found.extend(rows(now_s, &tenants(file, &read(file)?)?));
    }
    match args.output {
        Format::Json => output::json(&found)?,
        Format::Table => {
            let cells: Vec<Vec<String>> = found.iter().map(|row| row.cells(now_s)).collect();
            output::table(&["TENANT", "KEY", "STATE", "NOT BEFORE", "EXPIRES", "SHA256"], &cells);
        }
    }
    Ok(())
}

fn rows(now_s: u64, tenants: &[Tenant]) -> Vec<Row> {
    let keys =
        tenants.iter().flat_map(|tenant| tenant.spec.keys.iter().map(move |key| (tenant, key)));
    keys.map(|(tenant, key)| Row::new(now_s, tenant.name(), key)).collect()
}

impl Row {
    fn new(now_s: u64, tenant: &str, key: &TenantKey) -> Self {
        let at = |moment: &Option<Timestamp>| moment.as_ref().map(Timestamp::unix_seconds);
        let (begins, ends) = (at(&key.not_before), at(&key.expires));
        let state = match (begins, ends) {
            (_, Some(end)) if end <= now_s => State::Expired,
            (Some(begin), _) if begin > now_s => State::NotYet,
            _ => State::Active,
        };
        Self {
            tenant: tenant.to_owned(),
            name: key.name.clone(),
            state,
            not_before: key.not_before.as_ref().map(ToString::to_string),
            expires: key.expires.as_ref().map(ToString::to_string),
            expires_in_seconds: ends
                .and_then(|end| end.checked_sub(now_s))
                .filter(|left| *left > 0),
            sha256: key.sha256.0.hex(),
        }
    }

    fn cells(&self, now_s: u64) -> Vec<String> {
        let dash = |text: &Option<String>| text.clone().unwrap_or_else(|| "–".to_owned());
        vec![
            self.tenant.clone(),
            self.name.chars().map(|c| if c.is_control() { ' ' } else { c }).collect(),
            self.state_for_people(now_s),
            dash(&self.not_before),
            dash(&self.expires),
            self.sha256.chars().take(HASH_DIGITS).collect(),
        ]
    }

    fn state_for_people(&self, now_s: u64) -> String {
        match (self.state, self.expires_in_seconds) {
            (State::Active, None) => "active".to_owned(),
            (State::Active, Some(left)) => format!("expires in {}", when::shown(left)),
            (State::Expired, _) => "expired".to_owned(),
            (State::NotYet, _) => {
                let begins = self.not_before.as_ref().and_then(|at| at.parse::<Timestamp>().ok());
                let left = begins.map_or(0, |at| at.unix_seconds().saturating_sub(now_s));
                format!("not yet, in {}", when::shown(left))
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use std::path::Path;

    use super::*;

    const MANIFEST: &str = r#"
apiVersion: pilotage.dev/v1alpha1
kind: Tenant
metadata: {name: search}
spec:
  keys:
    - {name: always, sha256: "0a0a0a0a0a0a0a0a0a0a0a0a0a0a0a0a0a0a0a0a0a0a0a0a0a0a0a0a0a0a0a0a"}
    - {name: ends, sha256: "0b0b0b0b0b0b0b0b0b0b0b0b0b0b0b0b0b0b0b0b0b0b0b0b0b0b0b0b0b0b0b0b", expires: "1970-01-03T00:00:00Z"}
    - {name: begins, sha256: "0c0c0c0c0c0c0c0c0c0c0c0c0c0c0c0c0c0c0c0c0c0c0c0c0c0c0c0c0c0c0c0c", notBefore: "1970-01-02T01:00:00+01:00"}
"#;

    #[test]
    fn keys_have_a_state_at_each_moment() {
        let check = |now_s: u64, expect: [&str; 3]| {
            let rows = rows(now_s, &tenants(Path::new("t.yaml"), MANIFEST).unwrap());
            let states: Vec<String> = rows.iter().map(|row| row.state_for_people(now_s)).collect();
            assert_eq!(states, expect, "at {now_s}");
        };
        check(0, ["active", "expires in 2d", "not yet, in 24h"]);
        check(86_399, ["active", "expires in 24h", "not yet, in 1s"]);
        check(86_400, ["active", "expires in 24h", "active"]);
        check(172_799, ["active", "expires in 1s", "active"]);
        check(172_800, ["active", "expired", "active"]);
        check(u64::MAX, ["active", "expired", "active"]);
    }

    #[test]
    fn machines_get_every_field() {
        let rows = rows(172_800, &tenants(Path::new("t.yaml"), MANIFEST).unwrap());
        let json = serde_json::to_value(&rows).unwrap();
        assert_eq!(json[1]["state"], "expired");
        assert_eq!(json[1]["expiresInSeconds"], serde_json::Value::Null);
        assert_eq!(json[2]["notBefore"], "1970-01-02T01:00:00+01:00");
        assert_eq!(json[0]["sha256"], "0a".repeat(32));
    }
}
