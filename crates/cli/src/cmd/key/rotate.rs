//! `pilotage key rotate`: a new key beside an old one, which ends after both have counted a while.

use std::fs;
use std::path::Path;

use anyhow::Context as _;
use pilotage_plan::api::{Tenant, TenantKey};
use pilotage_shell::secret::{KeyHash, Secret, hex};
use pilotage_shell::{date, files};
use serde::Serialize;

use super::rewrite::{Rotation, rewrite};
use super::{NAME_CHARS_MAX, day, entry, indented, name, read, tenants, when};
use crate::args::KeyRotate;
use crate::exit::Wrong;
use crate::output::{self, Format};

/// What a rotation did, for machines.
#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
struct Rotated<'a> {
    key: &'a str,
    tenant: &'a str,
    name: &'a str,
    sha256: String,
    #[serde(skip_serializing_if = "Option::is_none")]
    expires: Option<&'a str>,
    /// The old key, and its end.
    old_name: &'a str,
    old_expires: &'a str,
    /// What belongs into the manifest, old entry and new.
    manifest: &'a str,
    /// Whether it is in the file already.
    written: bool,
}

pub(super) fn run(now_s: u64, args: &KeyRotate) -> anyhow::Result<()> {
    let text = read(&args.file)?;
    let tenants = tenants(&args.file, &text)?;
    let (tenant, at) = find(&tenants, args)?;
    let old = &tenant.spec.keys[at];
    let old_expires = end_of_old(now_s, old, &args.overlap)?;
    let new_name = match &args.new_name {
        Some(given) => name(given.clone())?,
        None => successor(&old.name, &day(now_s), tenant),
    };
    let expires = args.expires.as_deref().map(|text| when::moment(now_s, text)).transpose()?;
    let key = Secret::generate()?;
    let rotation = Rotation {
        tenant: tenant.name(),
        at,
        old_expires: &old_expires,
        new_name: &new_name,
        new_hash: key.hash(),
        new_expires: expires.as_deref(),
    };
    if args.write {
        let rewritten = rewrite(&args.file, &text, &rotation)?;
        replace(&args.file, &rewritten)
            .with_context(|| format!("cannot write {}; it is as it was", args.file.display()))?;
    }
    let old_hash = KeyHash::from_bytes(*old.sha256.0.bytes());
    let entries = [
        entry(&old.name, &old_hash, Some(&old_expires)),
        entry(&new_name, &key.hash(), expires.as_deref()),
    ];
    let manifest = indented(&entries.concat(), 4);
    match args.output {
        Format::Json => output::json(&Rotated {
            key: key.expose(),
            tenant: tenant.name(),
            name: &new_name,
            sha256: hex(key.hash().bytes()),
            expires: expires.as_deref(),
            old_name: &old.name,
            old_expires: &old_expires,
            manifest: &manifest,
            written: args.write,
        })?,
        Format::Table => {
            output::line(key.expose());
            output::note(manifest.trim_end());
            output::note(&told(args, &old.name, &old_expires));
        }
    }
    Ok(())
}

/// The file behind a link is written, and its permissions stay.
fn replace(file: &Path, text: &str) -> std::io::Result<()> {
    let file = fs::canonicalize(file)?;
    let permissions = fs::metadata(&file)?.permissions();
    files::write(&file, text.as_bytes())?;
    fs::set_permissions(&file, permissions)
}

fn told(args: &KeyRotate, old: &str, until: &str) -> String {
    let what = if args.write {
        format!("{} is changed", args.file.display())
    } else {
        format!("put this into {} (--write does it)", args.file.display())
    };
    format!("{what}; `{old}` counts until {until}")
}

/// The key that was meant, and only one.
fn find<'a>(tenants: &'a [Tenant], args: &KeyRotate) -> anyhow::Result<(&'a Tenant, usize)> {
    let file = args.file.display();
    let Some(tenant) = tenants.iter().find(|tenant| tenant.name() == args.tenant) else {
        let names: Vec<&str> = tenants.iter().map(|tenant| tenant.name()).collect();
        return Err(Wrong::new(format!("{file} has no Tenant `{}`", args.tenant))
            .hint(format!("it has: {}", listed(&names)))
            .into());
    };
    let keys = &tenant.spec.keys;
    let mut places = (0..keys.len()).filter(|at| keys[*at].name == args.name);
    match (places.next(), places.next()) {
        (Some(at), None) => Ok((tenant, at)),
        (Some(_), Some(_)) => {
            let message = format!("`{}` has several keys of the name `{}`", args.tenant, args.name);
            Err(Wrong::new(message).hint("give each a name of its own first").into())
        }
        (None, _) => {
            let names: Vec<&str> = keys.iter().map(|key| key.name.as_str()).collect();
            let message = format!("`{}` has no key of the name `{}`", args.tenant, args.name);
            Err(Wrong::new(message).hint(format!("it has: {}", listed(&names))).into())
        }
    }
}

fn listed(names: &[&str]) -> String {
    if names.is_empty() { "none".to_owned() } else { names.join(", ") }
}

/// The end of the overlap, unless the key ends before it anyway: a rotation makes nothing last
/// longer.
fn end_of_old(now_s: u64, old: &TenantKey, overlap: &str) -> anyhow::Result<String> {
    let until = when::after(now_s, overlap)?;
    if let Some(ends) = &old.expires {
        if ends.unix_seconds() <= now_s {
            let message = format!("the key `{}` expired at {ends} already", old.name);
            let hint = "`pilotage key new` makes one that replaces it; nothing is left to overlap";
            return Err(Wrong::new(message).hint(hint).into());
        }
        if ends.unix_seconds() <= until {
            return Ok(ends.to_string());
        }
    }
    if old.not_before.as_ref().is_some_and(|begins| begins.unix_seconds() >= until) {
        let message = format!("the key `{}` does not count before the overlap ends", old.name);
        return Err(Wrong::new(message).hint("remove it, or give a longer --overlap").into());
    }
    Ok(date::utc(until))
}

/// The old name with the date, and a number where that is taken.
fn successor(old: &str, day: &str, tenant: &Tenant) -> String {
    let is_day = |end: &str| end.len() == 8 && end.bytes().all(|byte| byte.is_ascii_digit());
    let stem = match old.rsplit_once('-') {
        Some((stem, end)) if is_day(end) && !stem.is_empty() => stem,
        _ => old,
    };
    let named = |ending: String| {
        let room = NAME_CHARS_MAX - ending.len();
        stem.chars().take(room).collect::<String>() + &ending
    };
    let taken = |name: &String| tenant.spec.keys.iter().any(|key| key.name == *name);
    let first = named(format!("-{day}"));
    if !taken(&first) {
        return first;
    }
    let numbered = (2..).map(|number: u32| named(format!("-{day}-{number}")));
    numbered.into_iter().find(|name| !taken(name)).unwrap_or(first)
}

#[cfg(test)]
mod tests {
    use super::*;

    const NOW: u64 = 1_795_231_523;

    fn tenant(keys: &str) -> Tenant {
        let text = format!(
            "apiVersion: pilotage.dev/v1alpha1\nkind: Tenant\nmetadata: {{name: t}}\nspec:\n  keys: [{keys}]\n"
        );
        tenants(Path::new("t.yaml"), &text).unwrap().remove(0)
    }

    fn key(name: &str, digit: char, more: &str) -> String {
        let hash = digit.to_string().repeat(64);
        format!("{{name: \"{name}\", sha256: \"{hash}\"{more}}}")
    }

    #[test]
    fn the_old_key_ends_with_the_overlap_and_never_later_than_it_would() {
        let check = |more: &str, overlap: &str, expect: Option<&str>| {
            let tenant = tenant(&key("k", 'a', more));
            let end = end_of_old(NOW, &tenant.spec.keys[0], overlap);
            assert_eq!(end.ok().as_deref(), expect, "{more}");
        };
        check("", "7d", Some("2026-11-28T03:25:23Z"));
        check(", expires: \"2026-11-22T00:00:00Z\"", "7d", Some("2026-11-22T00:00:00Z"));
        check(", expires: \"2027-11-22T00:00:00Z\"", "7d", Some("2026-11-28T03:25:23Z"));
        check(", expires: \"2026-11-21T03:25:23Z\"", "7d", None);
        check(", notBefore: \"2027-01-01T00:00:00Z\"", "7d", None);
        check("", "soon", None);
    }

    #[test]
    fn a_new_key_has_the_old_name_with_the_date() {
        let check = |keys: &[&str], expect: &str| {
            let digits = ['a', 'b', 'c'];
            let all: Vec<String> =
                keys.iter().zip(digits).map(|(name, digit)| key(name, digit, "")).collect();
            let name = successor(keys[0], "20261121", &tenant(&all.join(", ")));
            assert_eq!(name, expect);
        };
        check(&["ci"], "ci-20261121");
        check(&["ci-20260101"], "ci-20261121");
        check(&["ci-2026"], "ci-2026-20261121");
        check(&["ci-20261121"], "ci-20261121-2");
        check(&["ci", "ci-20261121", "ci-20261121-2"], "ci-20261121-3");
        check(&["-20260101"], "-20260101-20261121");
        check(&["x".repeat(63).as_str()], &format!("{}-20261121", "x".repeat(54)));
    }
}
