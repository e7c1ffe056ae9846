//! Changing one key in the text of a manifest, and nothing else in it: comments, order and
//! indentation are their owner's.
//!
//! The text is changed by lines and then read again: unless it says exactly what was wanted, it is
//! not used. So a layout that cannot be changed by lines (flow style, aliases) is refused, never
//! damaged.

use std::path::Path;

use pilotage_plan::api::{KeyHash as WrittenHash, Origin, Tenant, TenantKey};
use pilotage_plan::{Digest, Resource};
use pilotage_shell::secret::KeyHash;

use super::{entry, quoted};
use crate::exit::Wrong;

/// What changes.
pub(super) struct Rotation<'a> {
    pub(super) tenant: &'a str,
    /// The place of the old key.
    pub(super) at: usize,
    pub(super) old_expires: &'a str,
    pub(super) new_name: &'a str,
    pub(super) new_hash: KeyHash,
    pub(super) new_expires: Option<&'a str>,
}

/// The text with the old key's end and the new key after it.
pub(super) fn rewrite(file: &Path, text: &str, rotation: &Rotation<'_>) -> anyhow::Result<String> {
    let name = file.display().to_string();
    let refused = || {
        Wrong::new(format!("the layout of {name} cannot be changed by this command"))
            .hint("leave --write out, and paste what it prints")
            .hint("it changes keys that are written with one field on each line")
    };
    let before = pilotage_plan::parse(&name, text).map_err(|_| refused())?;
    let tenant = find(&before, rotation.tenant).ok_or_else(refused)?;
    let changed = edit(text, &tenant.origin, rotation).ok_or_else(refused)?;
    let after = pilotage_plan::parse(&name, &changed).map_err(|_| refused())?;
    if same(after, before, rotation) == Some(true) { Ok(changed) } else { Err(refused().into()) }
}

fn find<'a>(resources: &'a [Resource], name: &str) -> Option<&'a Tenant> {
    resources.iter().find_map(|resource| match resource {
        Resource::Tenant(tenant) if tenant.name() == name => Some(tenant),
        _ => None,
    })
}

/// Changes the lines of the key, if each of its fields has a line of its own.
fn edit(text: &str, origin: &Origin, rotation: &Rotation<'_>) -> Option<String> {
    let mut lines: Vec<String> = text.split_inclusive('\n').map(str::to_owned).collect();
    let item = format!("spec.keys[{}]", rotation.at);
    let line_of = |field: &str| {
        let line = *origin.fields.get(&format!("{item}.{field}"))?;
        usize::try_from(line).ok()?.checked_sub(1)
    };
    let fields = ["name", "sha256", "notBefore", "expires"].into_iter().filter_map(line_of);
    let (first, mut last) = (fields.clone().min()?, fields.max()?);
    let hash_line = lines.get(line_of("sha256")?)?;
    let end = if hash_line.ends_with("\r\n") { "\r\n" } else { "\n" };
    let column = column_of(hash_line, "sha256")?;
    let dash = column_of_dash(lines.get(first)?)?;
    match line_of("expires") {
        Some(at) => {
            let line = lines.get(at)?;
            let (start, _) = line.split_at_checked(column_of(line, "expires")?)?;
            lines[at] =
                format!("{start}expires: {}{}{end}", quoted(rotation.old_expires), comment(line));
        }
        None => {
            closed(&mut lines, last, end);
            let expires = format!("{:column$}expires: {}{end}", "", quoted(rotation.old_expires));
            last += 1;
            lines.insert(last, expires);
        }
    }
    closed(&mut lines, last, end);
    let new = entry(rotation.new_name, &rotation.new_hash, rotation.new_expires);
    let new = new.lines().map(|line| format!("{:dash$}{line}{end}", ""));
    lines.splice(last + 1..last + 1, new);
    Some(lines.concat())
}

/// Where a key of a mapping starts, if its line has nothing before it but blanks and a dash.
fn column_of(line: &str, field: &str) -> Option<usize> {
    let start = line.find(|c: char| !matches!(c, ' ' | '-'))?;
    let rest = line.get(start..)?.strip_prefix(field)?;
    rest.trim_start().starts_with(':').then_some(start)
}

/// Where the dash of the entry is: on the line of its first field.
fn column_of_dash(first: &str) -> Option<usize> {
    let dash = first.find('-')?;
    first.get(..dash)?.trim().is_empty().then_some(dash)
}

/// The comment at the end of a line with a moment in it, with the blanks before it.
fn comment(line: &str) -> &str {
    let line = line.trim_end();
    let Some(at) = line.find(" #") else { return "" };
    let blanks = line.get(..at).map_or(at, |before| before.trim_end().len());
    line.get(blanks..).unwrap_or_default()
}

/// The last line of a file may lack its end.
fn closed(lines: &mut [String], at: usize, end: &str) {
    if let Some(line) = lines.get_mut(at).filter(|line| !line.ends_with('\n')) {
        line.push_str(end);
    }
}

/// Whether what is there now is what was there, with the rotation.
fn same(after: Vec<Resource>, before: Vec<Resource>, rotation: &Rotation<'_>) -> Option<bool> {
    let mut wanted = before;
    for resource in &mut wanted {
        if let Resource::Tenant(tenant) = resource
            && tenant.name() == rotation.tenant
        {
            let old = tenant.spec.keys.get_mut(rotation.at)?;
            old.expires = Some(rotation.old_expires.parse().ok()?);
            let new = TenantKey {
                name: rotation.new_name.to_owned(),
                sha256: WrittenHash(Digest::from_bytes(*rotation.new_hash.bytes())),
                not_before: None,
                expires: rotation.new_expires.map(str::parse).transpose().ok()?,
            };
            tenant.spec.keys.insert(rotation.at + 1, new);
        }
    }
    let plain = |resources: Vec<Resource>| serde_json::to_value(resources).ok();
    Some(plain(after)? == plain(wanted)?)
}

#[cfg(test)]
mod tests {
    use super::*;

    const OLD: &str = "0a0a0a0a0a0a0a0a0a0a0a0a0a0a0a0a0a0a0a0a0a0a0a0a0a0a0a0a0a0a0a0a";
    const HEAD: &str = "# Who may ask.\napiVersion: pilotage.dev/v1alpha1\nkind: Tenant\nmetadata: {name: t}   # us\nspec:\n  keys:\n";
    const END: &str = "2027-01-31T12:00:00Z";

    /// The lines of the result that are not in the text, with their numbers; nothing when refused.
    fn changes(text: &str, at: usize) -> Option<Vec<String>> {
        let rotation = Rotation {
            tenant: "t",
            at,
            old_expires: END,
            new_name: "new",
            new_hash: KeyHash::of("k"),
            new_expires: None,
        };
        let changed = rewrite(Path::new("t.yaml"), text, &rotation).ok()?;
        let mut rest: Vec<&str> = text.lines().collect();
        let mut found = Vec::new();
        for (number, line) in (1..).zip(changed.lines()) {
            match rest.iter().position(|old| *old == line) {
                Some(place) => drop(rest.remove(place)),
                None => found.push(format!("{number}: {line}")),
            }
        }
        found.extend(rest.iter().map(|line| format!("gone: {line}")));
        Some(found)
    }

    fn hash() -> String {
        pilotage_shell::secret::hex(KeyHash::of("k").bytes())
    }

    #[test]
    fn only_the_lines_of_the_key_change() {
        let text = format!(
            "{HEAD}    # first\n    - name: one  # the one\n      sha256: {OLD}\n\n    # second\n    - sha256: \"{}\"\n      name: two\n# end\n",
            "0b".repeat(32)
        );
        let expect = |lines: [(u32, String); 3]| {
            Some(lines.iter().map(|(at, line)| format!("{at}: {line}")).collect::<Vec<_>>())
        };
        assert_eq!(
            changes(&text, 0),
            expect([
                (10, format!("      expires: \"{END}\"")),
                (11, "    - name: \"new\"".to_owned()),
                (12, format!("      sha256: \"{}\"", hash())),
            ])
        );
        assert_eq!(
            changes(&text, 1),
            expect([
                (14, format!("      expires: \"{END}\"")),
                (15, "    - name: \"new\"".to_owned()),
                (16, format!("      sha256: \"{}\"", hash())),
            ])
        );
    }

    #[test]
    fn an_end_that_is_there_is_replaced_and_its_comment_stays() {
        let text = format!(
            "{HEAD}  - expires: 2028-01-01T00:00:00Z   # yearly\n    name: one\n    sha256: {OLD}\n"
        );
        assert_eq!(
            changes(&text, 0).unwrap(),
            [
                format!("7:   - expires: \"{END}\"   # yearly"),
                "10:   - name: \"new\"".to_owned(),
                format!("11:     sha256: \"{}\"", hash()),
                "gone:   - expires: 2028-01-01T00:00:00Z   # yearly".to_owned(),
            ]
        );
    }

    #[test]
    fn line_ends_stay_and_a_missing_one_is_no_harm() {
        let text = format!("{HEAD}    - name: one\n      sha256: {OLD}");
        assert_eq!(changes(&text, 0).unwrap().len(), 3);
        let windows = format!("{HEAD}    - name: one\n      sha256: {OLD}\n").replace('\n', "\r\n");
        let rotation = Rotation {
            tenant: "t",
            at: 0,
            old_expires: END,
            new_name: "new",
            new_hash: KeyHash::of("k"),
            new_expires: Some("2028-01-01T00:00:00Z"),
        };
        let changed = rewrite(Path::new("t.yaml"), &windows, &rotation).unwrap();
        assert_eq!(changed.matches('\n').count(), changed.matches("\r\n").count());
        assert!(changed.ends_with("      expires: \"2028-01-01T00:00:00Z\"\r\n"), "{changed}");
    }

    #[test]
    fn layouts_that_have_no_line_for_each_field_are_refused() {
        for keys in [
            format!("    - {{name: one, sha256: {OLD}}}\n"),
            format!("    [{{name: one, sha256: {OLD}}}]\n"),
            format!("    - {{name: one,\n       sha256: {OLD}}}\n"),
            format!("    - \"name\": one\n      \"sha256\": {OLD}\n"),
            format!("    -\n      name: one\n      sha256: {OLD}\n"),
            format!("    - name: one\n      sha256: >-\n        {OLD}\n"),
        ] {
            assert_eq!(changes(&format!("{HEAD}{keys}"), 0), None, "{keys}");
        }
        let alias = format!(
            "{HEAD}    - &k\n      name: one\n      sha256: {OLD}\n---\napiVersion: pilotage.dev/v1alpha1\nkind: Tenant\nmetadata: {{name: u}}\n"
        );
        assert_eq!(changes(&alias, 0), None);
    }
}
