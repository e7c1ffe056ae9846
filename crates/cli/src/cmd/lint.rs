//! `pilotage lint`: what is likely to go wrong on a cluster.

use anyhow::bail;
use pilotage_plan::lint::{Finding, Severity, lint};
use pilotage_plan::manifest;

use super::render::{facts, resources};
use crate::args::Lint;
use crate::exit::Wrong;
use crate::output::{self, Format};

/// Prints the findings.
pub(crate) async fn run(args: Lint) -> anyhow::Result<()> {
    let resources = resources(&args.manifests)?;
    let mut cluster = args.cluster.cluster("default", "pilotage");
    cluster.facts = facts(&args.manifests, &resources).await?;
    let findings =
        lint(&resources, &cluster).map_err(|errors| Wrong::new(manifest::join(&errors)))?;
    match args.output {
        Format::Json => output::json(&findings)?,
        Format::Table => {
            let texts: Vec<String> = findings.iter().map(ToString::to_string).collect();
            if !texts.is_empty() {
                output::line(&texts.join("\n\n"));
            }
        }
    }
    let worst = if args.strict { Severity::Warning } else { Severity::Error };
    let bad = findings.iter().filter(|finding: &&Finding| finding.severity <= worst).count();
    match bad {
        0 => Ok(()),
        1 => bail!("one finding has to be dealt with"),
        _ => bail!("{bad} findings have to be dealt with"),
    }
}
