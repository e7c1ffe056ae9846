//! `pilotage crd`: the resource definitions.

use serde_json::Value;

use crate::args::{Crd, Form};
use crate::output;

/// Prints them.
pub(crate) fn run(args: &Crd) -> anyhow::Result<()> {
    show(&pilotage_plan::crd::all(), args.output)
}

/// Objects, as documents or as a list.
pub(crate) fn show(objects: &[Value], form: Form) -> anyhow::Result<()> {
    match form {
        Form::Yaml => output::piece(&pilotage_plan::render::kubernetes::yaml::documents(objects)),
        Form::Json => output::json(&serde_json::json!({
            "apiVersion": "v1",
            "kind": "List",
            "items": objects,
        }))?,
    }
    Ok(())
}
