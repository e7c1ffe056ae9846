//! `pilotage explain`: why a running gateway decides as it does. The gateway explains; this asks it, and
//! lays out what it says.

mod told;

use std::io::Read as _;
use std::path::Path;

use anyhow::Context as _;
use pilotage_wire::peek::{peek, splice};
use serde_json::value::RawValue;
use serde_json::{Map, Value, json};

use crate::admin::Admin;
use crate::args::{Explain, ExplainCommand, ExplainRoute};
use crate::exit::Wrong;
use crate::output::{self, Format};

/// Asks, and prints what is told.
pub(crate) async fn run(args: Explain) -> anyhow::Result<()> {
    let ExplainCommand::Route(args) = args.command;
    let told = ask(&args).await?;
    match args.output {
        Format::Json => output::json(&told)?,
        Format::Table => told::print(&told),
    }
    Ok(())
}

async fn ask(args: &ExplainRoute) -> anyhow::Result<Value> {
    let question = question(args)?;
    Admin::new(&args.reach)?.post("/explain/route", serde_json::to_vec(&question)?).await
}

/// What the gateway is asked.
fn question(args: &ExplainRoute) -> anyhow::Result<impl serde::Serialize> {
    let body = match (&args.file, &args.model) {
        (Some(file), model) => body(file, model.as_deref())?,
        (None, model) => RawValue::from_string(
            json!({"model": model, "messages": [{"role": "user", "content": "Hello"}]}).to_string(),
        )?,
    };
    let mut headers = Map::new();
    for header in &args.headers {
        let (name, value) = header.split_once('=').ok_or_else(|| {
            Wrong::new(format!("`{header}` is no header"))
                .hint("write it as NAME=VALUE, such as --header x-pilotage-band=bulk")
        })?;
        headers.insert(name.trim().to_owned(), value.into());
    }
    let tenant = args.tenant.clone();
    Ok(Question { request: body, path: args.path.clone(), tenant, headers })
}

#[derive(Debug, serde::Serialize)]
struct Question {
    /// Byte for byte as it was read: caches know prompts by their bytes.
    request: Box<RawValue>,
    path: String,
    #[serde(skip_serializing_if = "Option::is_none")]
    tenant: Option<String>,
    headers: Map<String, Value>,
}

fn body(file: &Path, model: Option<&str>) -> anyhow::Result<Box<RawValue>> {
    let text = if file.as_os_str() == "-" {
        let mut text = String::new();
        std::io::stdin().read_to_string(&mut text).context("cannot read stdin")?;
        text
    } else {
        std::fs::read_to_string(file).map_err(|error| {
            Wrong::new(format!("cannot read {}: {error}", file.display()))
                .hint("name the file with the request's body, or - for stdin")
        })?
    };
    let text = match model {
        Some(model) => with_model(text, model)?,
        None => text,
    };
    let wrong = |error: serde_json::Error| {
        Wrong::new(format!("the request's body is no JSON: {error}"))
            .hint("give the body as the client sends it, such as {\"model\": \"chat\", \"messages\": […]}")
    };
    Ok(RawValue::from_string(text).map_err(wrong)?)
}

/// The body with another model, and every other byte as it was.
fn with_model(text: String, model: &str) -> anyhow::Result<String> {
    let edit = match peek(text.as_bytes()) {
        Ok(peek) => peek.rename_model(model),
        Err(error) if error.param.as_deref() == Some("model") => return added(&text, model),
        Err(error) => return Err(Wrong::new(error.message).into()),
    };
    Ok(String::from_utf8(splice(text.as_bytes(), vec![edit]))?)
}

/// The body, which names no model, with one.
fn added(text: &str, model: &str) -> anyhow::Result<String> {
    let (before, after) =
        text.split_once('{').ok_or_else(|| Wrong::new("the request's body is no JSON object"))?;
    let comma = if after.trim_start().starts_with('}') { "" } else { "," };
    Ok(format!("{before}{{\"model\":{}{comma}{after}", serde_json::to_string(model)?))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn another_model_changes_no_other_byte() {
        let check = |body: &str, expect: &str| {
            assert_eq!(with_model(body.to_owned(), "new").unwrap(), expect);
        };
        check(r#"{ "model": "old","messages":[ ] }"#, r#"{ "model": "new","messages":[ ] }"#);
        check(r#"{ "messages": []}"#, r#"{"model":"new", "messages": []}"#);
        check("{}", r#"{"model":"new"}"#);
        assert!(with_model("[]".to_owned(), "new").is_err());
    }
}
