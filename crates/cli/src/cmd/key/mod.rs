//! `pilotage key`: API keys, made and shown once, and kept by manifests as hashes.

mod list;
mod rewrite;
mod rotate;
mod typed;
mod when;

use std::fs;
use std::path::Path;

use pilotage_plan::api::Tenant;
use pilotage_plan::{Resource, manifest};
use pilotage_shell::clock::Clock;
use pilotage_shell::date;
use pilotage_shell::secret::{KeyHash, Secret, hex};
use serde::Serialize;

use crate::args::{Key, KeyCommand, KeyNew};
use crate::exit::Wrong;
use crate::output::{self, Format};

/// Longest name of a key, as manifests take it.
const NAME_CHARS_MAX: usize = 63;

/// Runs the subcommand.
pub(crate) fn run(args: Key) -> anyhow::Result<()> {
    let now_s = Clock::start().unix_ms() / 1000;
    match args.command {
        KeyCommand::New(args) => new(now_s, args),
        KeyCommand::Hash(args) => typed::hash(args.output),
        KeyCommand::Rotate(args) => rotate::run(now_s, &args),
        KeyCommand::List(args) => list::run(now_s, &args),
    }
}

/// A key that was made, for machines.
#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
struct Made<'a> {
    key: &'a str,
    name: &'a str,
    sha256: String,
    #[serde(skip_serializing_if = "Option::is_none")]
    expires: Option<&'a str>,
    #[serde(skip_serializing_if = "Option::is_none")]
    tenant: Option<&'a str>,
    /// What belongs into the manifest.
    manifest: &'a str,
}

fn new(now_s: u64, args: KeyNew) -> anyhow::Result<()> {
    let date = day(now_s);
    let name = name(args.name.unwrap_or_else(|| format!("key-{date}")))?;
    let expires = args.expires.map(|text| when::moment(now_s, &text)).transpose()?;
    let tenant = args.tenant.as_deref().map(tenant_name).transpose()?;
    let key = Secret::generate()?;
    let entry = entry(&name, &key.hash(), expires.as_deref());
    let manifest = match tenant {
        None => indented(&entry, 4),
        Some(tenant) => format!(
            "apiVersion: {}\nkind: Tenant\nmetadata:\n  name: {}\nspec:\n  keys:\n{}",
            pilotage_plan::api::API_VERSION,
            quoted(tenant),
            indented(&entry, 4)
        ),
    };
    match args.output {
        Format::Json => output::json(&Made {
            key: key.expose(),
            name: &name,
            sha256: hex(key.hash().bytes()),
            expires: expires.as_deref(),
            tenant,
            manifest: &manifest,
        })?,
        Format::Table => {
            output::line(key.expose());
            output::note(manifest.trim_end());
        }
    }
    Ok(())
}

/// The entry of a key under `keys:`, without indentation.
fn entry(name: &str, hash: &KeyHash, expires: Option<&str>) -> String {
    let mut text = format!("- name: {}\n  sha256: {}\n", quoted(name), quoted(&hex(hash.bytes())));
    if let Some(at) = expires {
        text.push_str(&format!("  expires: {}\n", quoted(at)));
    }
    text
}

fn indented(text: &str, by: usize) -> String {
    text.lines().map(|line| format!("{:by$}{line}\n", "")).collect()
}

/// A YAML text, in quotes: without them, names like `no` or `1e5` would be something else.
fn quoted(text: &str) -> String {
    serde_json::Value::from(text).to_string()
}

/// `20270131`
fn day(now_s: u64) -> String {
    date::utc(now_s).chars().take(10).filter(char::is_ascii_digit).collect()
}

fn name(name: String) -> anyhow::Result<String> {
    let chars = name.chars().count();
    if name.chars().any(char::is_control) || !(1..=NAME_CHARS_MAX).contains(&chars) {
        let message = format!("a key's name has 1 to {NAME_CHARS_MAX} characters on one line");
        return Err(Wrong::new(message).hint("say what the key is for: --name ci").into());
    }
    Ok(name)
}

fn tenant_name(name: &str) -> anyhow::Result<&str> {
    let parsed = name.parse::<pilotage_plan::api::ResourceName>();
    parsed.map_err(|error| Wrong::new(format!("--tenant: {error}")))?;
    Ok(name)
}

/// The text of a manifest.
fn read(path: &Path) -> anyhow::Result<String> {
    fs::read_to_string(path).map_err(|error| {
        Wrong::new(format!("cannot read {}: {error}", path.display()))
            .hint("name a manifest file with -f")
            .into()
    })
}

/// The tenants of one manifest. Other resources may be in other files, so that references are not
/// followed.
fn tenants(file: &Path, text: &str) -> anyhow::Result<Vec<Tenant>> {
    let resources = pilotage_plan::parse(&file.display().to_string(), text)
        .map_err(|errors| Wrong::new(manifest::join(&errors)))?;
    let tenants = resources.into_iter().filter_map(|resource| match resource {
        Resource::Tenant(tenant) => Some(tenant),
        Resource::Model(_) | Resource::Route(_) | Resource::Fleet(_) => None,
    });
    Ok(tenants.collect())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_entry_reads_back_whatever_its_name() {
        for name in ["ci", "no", "1e5", "a: b # c", "\"q\" \\ 'r'", "- x", "ä\u{2028}"] {
            let entry = entry(name, &KeyHash::of("k"), Some("2027-01-31T12:00:00Z"));
            let text = format!(
                "apiVersion: pilotage.dev/v1alpha1\nkind: Tenant\nmetadata: {{name: t}}\nspec:\n  keys:\n{}",
                indented(&entry, 4)
            );
            let tenants = tenants(Path::new("t.yaml"), &text).unwrap();
            let key = &tenants[0].spec.keys[0];
            assert_eq!(key.name, name);
            assert_eq!(key.sha256.0.bytes(), KeyHash::of("k").bytes());
            assert_eq!(key.expires.as_ref().unwrap().to_string(), "2027-01-31T12:00:00Z");
        }
    }

    #[test]
    fn names_are_what_manifests_take() {
        assert!(name("x".repeat(63)).is_ok());
        for bad in ["", "a\nb", &"x".repeat(64)] {
            assert!(name(bad.to_owned()).is_err(), "{bad:?}");
        }
        assert_eq!(day(1_795_231_523), "20261121");
    }
}
