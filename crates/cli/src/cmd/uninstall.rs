//! `pilotage uninstall`: gateway and operator out of a cluster.

use std::io::IsTerminal as _;

use anyhow::bail;
use pilotage_operator::install::{Installer, Inventory};
use pilotage_operator::kubernetes;

use super::install::told;
use crate::args::Uninstall;
use crate::exit::Wrong;
use crate::output;

/// Shows what goes, asks, and removes it.
pub(crate) async fn run(args: Uninstall) -> anyhow::Result<()> {
    remove(&args).await.map_err(told)
}

async fn remove(args: &Uninstall) -> anyhow::Result<()> {
    let installer = Installer::new(kubernetes::connect().await?, Box::new(output::note));
    let found = installer.inventory(&args.namespace).await?;
    if found.is_empty() && !(args.crds && found.definitions() > 0) {
        output::note(&format!("nothing of Pilotage is in the namespace {}", args.namespace));
        return Ok(());
    }
    show(args, &found);
    if !args.yes && !is_wanted()? {
        bail!("nothing was removed");
    }
    let count = installer.remove(&found, args.crds).await?;
    output::line(&format!("{count} objects deleted"));
    Ok(())
}

fn show(args: &Uninstall, found: &Inventory) {
    output::note("this goes:");
    for object in found.objects() {
        output::note(&format!("  {object}"));
    }
    let resources = found.resources.iter().map(|(kind, count)| format!("{count} of kind {kind}"));
    let resources = resources.collect::<Vec<_>>().join(", ");
    match (args.crds, resources.is_empty()) {
        (true, true) => output::note(&format!("  {} resource definitions", found.definitions())),
        (true, false) => output::note(&format!(
            "  {} resource definitions, with {resources} in the whole cluster, and all that was made of them",
            found.definitions()
        )),
        (false, true) => {}
        (false, false) => output::note(&format!(
            "this stays: {resources}, and what runs for them, which nobody serves or looks after then"
        )),
    }
    if found.budgets() > 0 {
        output::note(&format!(
            "this goes, too: the budgets of {} Models, since nobody moves copies before their nodes are drained then; a \
             drain ends them, and installing again makes the budgets anew",
            found.budgets()
        ));
    }
    if let Some(why) = &found.stays {
        output::note(&format!("the namespace {} stays: {why}", args.namespace));
    }
}

/// Whether whoever sits there says yes.
fn is_wanted() -> anyhow::Result<bool> {
    if !std::io::stdin().is_terminal() {
        bail!(Wrong::new("nobody can be asked whether this is wanted").hint("say so with --yes"));
    }
    output::ask("remove it? [y/N] ");
    let mut answer = String::new();
    std::io::stdin().read_line(&mut answer)?;
    Ok(matches!(answer.trim(), "y" | "Y" | "yes"))
}
