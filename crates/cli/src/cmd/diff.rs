//! `pilotage diff`: what applying manifests would change in a cluster.

use pilotage_operator::install::{InstallError, Installer, Told};
use pilotage_operator::kubernetes::{self, Change, Deed, OperatorError, Preview, Settings};
use pilotage_plan::manifest;
use pilotage_plan::render::kubernetes::unified::{Hunk, Line};
use pilotage_plan::render::kubernetes::{Cluster, Mesh, Platform};
use pilotage_shell::clock::Clock;
use pilotage_shell::metrics::Metrics;
use serde_json::{Value, json};

use super::up;
use crate::args::{Diff, DiffForm};
use crate::exit::{Ended, Wrong};
use crate::output;

/// Compares, and shows what differs.
pub(crate) async fn run(args: Diff) -> anyhow::Result<()> {
    let (lines, form) = (args.lines, args.output);
    ended(preview(&args).await, |preview| {
        for note in &preview.notes {
            output::note(&format!("note: {note}"));
        }
        show(&preview.changes, lines, form)
    })
}

/// Ends as those do that compare: 1 is for what differs, so that what fails has another number.
pub(super) fn ended<T>(
    compared: anyhow::Result<T>,
    show: impl Fn(&T) -> anyhow::Result<()>,
) -> anyhow::Result<()> {
    let shown = compared.map_err(super::install::told).and_then(|compared| show(&compared));
    let Err(error) = shown else { return Ok(()) };
    if error.is::<Wrong>() || error.is::<Differs>() {
        return Err(match error.downcast::<Differs>() {
            Ok(Differs(code)) => Ended(code).into(),
            Err(error) => error,
        });
    }
    if !error.is::<Ended>() {
        output::failure(&format!("{error:#}"));
    }
    Err(Ended(2).into())
}

/// Something differs, or would be refused, which was shown.
#[derive(Debug)]
struct Differs(u8);

impl std::fmt::Display for Differs {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("something differs")
    }
}

impl std::error::Error for Differs {}

async fn preview(args: &Diff) -> anyhow::Result<Preview> {
    let files = up::texts(&args.files)?;
    let named = files.iter().map(|(name, text)| (name.as_str(), text.as_str()));
    let wrong = |errors: Vec<_>| Wrong::new(manifest::join(&errors));
    pilotage_plan::parse_all(named).map_err(wrong)?;
    let client = kubernetes::connect().await?;
    let own = client.default_namespace().to_owned();
    let namespace = args.namespace.clone().unwrap_or(own);
    let mut resources = Vec::new();
    for (name, text) in &files {
        resources.extend(manifest::documents(name, text).map_err(wrong)?);
    }
    for resource in &mut resources {
        let there = &mut resource["metadata"]["namespace"];
        if there.is_null() {
            *there = namespace.as_str().into();
        }
    }
    let installer = Installer::new(client.clone(), Box::new(|_| {}));
    let told = match installer.operator(&args.system_namespace).await {
        Err(InstallError::Forbidden(_)) => None,
        told => Some(told?.unwrap_or_default()),
    };
    let unseen = told.is_none().then(|| unseen(&args.system_namespace));
    let Told { cluster, namespace } = told.unwrap_or_default();
    let cluster = overlaid(args, cluster);
    let settings = Settings { cluster, namespace, name: "diff".to_owned() };
    let clock = Clock::start();
    let operator = kubernetes::Operator::new(client, settings, clock.unix_ms(), &Metrics::new());
    let mut preview = operator.preview(&resources).await.map_err(why)?;
    preview.notes.splice(0..0, unseen);
    Ok(preview)
}

/// That nobody knows what the operator was told.
fn unseen(namespace: &str) -> String {
    format!(
        "you may not look at the operator in the namespace {namespace}: what it makes is shown for a cluster of no \
         platform and with this release's image; say whose it is with --overlay"
    )
}

/// Why it cannot be said.
fn why(error: OperatorError) -> anyhow::Error {
    match &error {
        OperatorError::Server(failure) if failure.code == 403 => {
            let wrong = Wrong::new(format!("the API server refuses: {}", failure.message));
            wrong.hint(RIGHTS).into()
        }
        _ => anyhow::Error::new(error).context("what would change cannot be said"),
    }
}

/// What is needed to look.
const RIGHTS: &str = "ask for the role `view` in the namespace of these manifests: it has Models, Routes, Tenants and \
                      Fleets, and what is made of them";

/// What the operator renders for.
fn overlaid(args: &Diff, mut cluster: Cluster) -> Cluster {
    cluster.system.clone_from(&args.system_namespace);
    if !args.overlays.is_empty() {
        let platform = args.overlays.iter().filter_map(|name| Platform::parse(name)).next_back();
        cluster.platform = platform.unwrap_or_default();
        cluster.mesh = args.overlays.iter().filter_map(|name| Mesh::parse(name)).next_back();
    }
    cluster
}

/// Shows what differs; an error where anything does.
pub(super) fn show(changes: &[Change], lines_max: usize, form: DiffForm) -> anyhow::Result<()> {
    match form {
        DiffForm::Json => output::json(&changes.iter().map(entry).collect::<Vec<_>>())?,
        DiffForm::Text => changes.iter().for_each(|change| print(change, lines_max)),
    }
    let count = |deed: Deed| changes.iter().filter(|change| change.deed() == deed).count();
    let refused = changes.iter().filter(|change| change.refusal.is_some()).count();
    let [made, changed, deleted] = [Deed::Make, Deed::Change, Deed::Delete].map(count);
    let kept = count(Deed::Keep);
    output::note(&format!(
        "{made} would be made, {changed} changed, {deleted} deleted; {kept} stay as they are"
    ));
    if refused > 0 {
        output::failure(&format!("{refused} would be refused"));
        return Err(Differs(2).into());
    }
    if made + changed + deleted > 0 { Err(Differs(1).into()) } else { Ok(()) }
}

/// A change for machines.
fn entry(change: &Change) -> Value {
    let [api_version, kind, namespace, name] = change.of();
    let lines = |hunk: &Hunk| {
        let lines = hunk.lines.iter().map(ToString::to_string);
        std::iter::once(hunk.head()).chain(lines).collect::<Vec<_>>()
    };
    json!({
        "deed": change.deed().name(),
        "apiVersion": api_version,
        "kind": kind,
        "namespace": namespace,
        "name": name,
        "exact": change.is_exact,
        "refusal": change.refusal,
        "diff": change.hunks().iter().flat_map(lines).collect::<Vec<_>>().join("\n"),
    })
}

/// A change for people.
fn print(change: &Change, lines_max: usize) {
    let deed = change.deed();
    if deed == Deed::Keep && change.refusal.is_none() {
        return;
    }
    let [api_version, kind, namespace, name] = change.of();
    let place = if namespace.is_empty() { String::new() } else { format!("{namespace}/") };
    let about = match change.is_exact {
        true => "",
        false => {
            "  (as it is rendered: its namespace or kind is not there yet, it would be refused, or you may not try it)"
        }
    };
    let head = format!("{} {kind} {place}{name} ({api_version}){about}", deed.name());
    let mut lines = vec![(head, "1")];
    if let Some(why) = &change.refusal {
        lines.push((format!("! would be refused: {why}"), "1;31"));
    }
    for hunk in change.hunks() {
        lines.push((hunk.head(), "36"));
        lines.extend(hunk.lines.iter().map(|line| (line.to_string(), colour(line))));
    }
    let most = if lines_max == 0 { usize::MAX } else { lines_max };
    let left = lines.len().saturating_sub(most);
    if left > 0 {
        lines.truncate(most);
        lines.push((format!("… {left} lines more; --lines 0 shows all"), "2"));
    }
    output::coloured(lines.iter().map(|(text, code)| (text.as_str(), *code)));
}

const fn colour(line: &Line) -> &'static str {
    match line {
        Line::Same(_) => "",
        Line::Gone(_) => "31",
        Line::Come(_) => "32",
    }
}
