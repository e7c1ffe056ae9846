//! Function calls: the grammar that forces one, and finding them in what the model says.
//!
//! Three ways of writing a call are understood: JSON between `<tool_call>` and `</tool_call>`
//! (Hermes, Qwen), JSON after `[TOOL_CALLS]` (Mistral), and an answer that is nothing but the JSON
//! of a call (Llama).

mod forced;

use pilotage_wire::openai::chat::{ChatRequest, Tool, ToolChoice, ToolMode};
use pilotage_wire::openai::error::ApiError;
use pilotage_wire::openai::params::wrong;
use serde_json::{Value, json};

pub use forced::Forced;

/// Most functions in a request.
pub const TOOLS_MAX: usize = 128;

/// What the model may do about functions.
#[derive(Clone, Debug, PartialEq)]
pub enum Calling {
    /// There are none, or it must not call them.
    Never,
    /// It may, these.
    May(Callable),
    /// It must: the answer is one call, by this JSON schema.
    Must(Value),
}

/// The functions that a model may call.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct Callable {
    /// Their names.
    pub names: Vec<String>,
    /// Whether one answer may hold several calls.
    pub parallel: bool,
}

/// A call as the model wrote it.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct Call {
    /// The function.
    pub name: String,
    /// Its arguments as JSON text.
    pub arguments: String,
}

/// Reads what a request says about functions.
///
/// # Errors
/// Status 400: a choice without functions, of an unknown one, or too many.
pub fn calling(request: &ChatRequest) -> Result<Calling, ApiError> {
    let tools = request.tools.as_deref().unwrap_or_default();
    if tools.len() > TOOLS_MAX {
        return wrong("tools", &format!("may hold at most {TOOLS_MAX} functions"));
    }
    if let Some(at) =
        tools.iter().position(|tool| tool.r#type != "function" || tool.function.name.is_empty())
    {
        return wrong(&format!("tools[{at}]"), "must be of type `function` and have a name");
    }
    match &request.tool_choice {
        Some(ToolChoice::Mode(ToolMode::None)) => Ok(Calling::Never),
        None | Some(ToolChoice::Mode(ToolMode::Auto)) if tools.is_empty() => Ok(Calling::Never),
        None | Some(ToolChoice::Mode(ToolMode::Auto)) => Ok(Calling::May(Callable {
            names: tools.iter().map(|tool| tool.function.name.clone()).collect(),
            parallel: request.parallel_tool_calls.unwrap_or(true),
        })),
        Some(_) if tools.is_empty() => {
            wrong("tool_choice", "asks for a function, and `tools` names none")
        }
        Some(ToolChoice::Mode(ToolMode::Required)) => Ok(Calling::Must(schema(tools))),
        Some(ToolChoice::Named { function, .. }) => {
            let named = tools.iter().filter(|tool| tool.function.name == function.name);
            let named: Vec<Tool> = named.cloned().collect();
            if named.is_empty() {
                return wrong(
                    "tool_choice",
                    &format!("names the function `{}`, which is not in `tools`", function.name),
                );
            }
            Ok(Calling::Must(schema(&named)))
        }
    }
}

/// The JSON schema of a call of one of these.
fn schema(tools: &[Tool]) -> Value {
    let one = |tool: &Tool, at: &str| {
        let anything = || json!({"type": "object"});
        let mut arguments = tool.function.parameters.clone().unwrap_or_else(anything);
        rebase(&mut arguments, &format!("{at}/properties/arguments"));
        json!({
            "type": "object",
            "properties": {"name": {"const": tool.function.name}, "arguments": arguments},
            "required": ["name", "arguments"],
            "additionalProperties": false,
        })
    };
    match tools {
        [tool] => one(tool, "#"),
        tools => {
            let all =
                tools.iter().enumerate().map(|(at, tool)| one(tool, &format!("#/anyOf/{at}")));
            json!({"anyOf": all.collect::<Vec<_>>()})
        }
    }
}

/// Makes references to a schema's root lead to where that root is now.
fn rebase(schema: &mut Value, root: &str) {
    match schema {
        Value::Array(items) => items.iter_mut().for_each(|item| rebase(item, root)),
        Value::Object(fields) => {
            for (name, field) in fields {
                match field {
                    Value::String(target) if name == "$ref" && target.starts_with('#') => {
                        target.replace_range(..1, root);
                    }
                    other => rebase(other, root),
                }
            }
        }
        _ => {}
    }
}

/// Texts that begin calls; from one of them on, an answer is not for the user to read.
pub const MARKERS: [&str; 2] = ["<tool_call>", "[TOOL_CALLS]"];

/// The calls in what the model said, and the text before them. No calls when what looked like one
/// is none: then everything is text. An answer without a marker must name a known function, since
/// other JSON has names too.
pub fn find(said: &str, callable: &Callable) -> (String, Vec<Call>) {
    let marked = MARKERS.iter().filter_map(|marker| Some((said.find(marker)?, *marker))).min();
    let (before, mut calls) = match marked {
        Some((at, "<tool_call>")) => (&said[..at], tagged(&said[at..])),
        Some((at, marker)) => (&said[..at], listed(&said[at + marker.len()..])),
        None => {
            let known =
                |calls: &Vec<Call>| calls.iter().all(|call| callable.names.contains(&call.name));
            ("", Some(listed(said)).filter(known).unwrap_or_default())
        }
    };
    if !callable.parallel {
        calls.truncate(1);
    }
    if calls.is_empty() { (said.to_owned(), calls) } else { (before.trim_end().to_owned(), calls) }
}

fn tagged(said: &str) -> Vec<Call> {
    let bodies = said
        .split("<tool_call>")
        .skip(1)
        .map(|body| body.split("</tool_call>").next().unwrap_or(body));
    bodies.filter_map(|body| serde_json::from_str(body.trim()).ok()).filter_map(call).collect()
}

/// One call or a list of calls, and nothing else.
fn listed(said: &str) -> Vec<Call> {
    match serde_json::from_str(said.trim()) {
        Ok(Value::Array(calls)) => {
            calls.into_iter().map(call).collect::<Option<_>>().unwrap_or_default()
        }
        Ok(one) => call(one).into_iter().collect(),
        Err(_) => Vec::new(),
    }
}

fn call(mut value: Value) -> Option<Call> {
    let name = value.get("name")?.as_str()?.to_owned();
    let key = if value.get("arguments").is_some() { "arguments" } else { "parameters" };
    let arguments = match value.get_mut(key)?.take() {
        Value::String(text) => text,
        object @ Value::Object(_) => object.to_string(),
        _ => return None,
    };
    Some(Call { name, arguments })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::backend::llama::grammar_from_schema;

    fn known(parallel: bool) -> Callable {
        Callable { names: vec!["f".to_owned(), "g".to_owned()], parallel }
    }

    #[test]
    fn one_call_at_a_time_when_asked() {
        let two = "[{\"name\":\"f\",\"arguments\":{}},{\"name\":\"g\",\"arguments\":{}}]";
        let names = |parallel| {
            let (_, calls) = find(two, &known(parallel));
            calls.into_iter().map(|call| call.name).collect::<Vec<_>>()
        };
        assert_eq!(names(true), ["f", "g"]);
        assert_eq!(names(false), ["f"]);
    }

    #[test]
    fn references_inside_parameters_still_lead_somewhere() {
        let parameters = json!({
            "type": "object",
            "properties": {"city": {"$ref": "#/$defs/City"}},
            "required": ["city"],
            "$defs": {"City": {"enum": ["Paris", "Rome"]}},
        });
        let tool = |name: &str| json!({"type": "function", "function": {"name": name, "parameters": parameters}});
        for tools in [json!([tool("f")]), json!([tool("f"), tool("g")])] {
            let tools: Vec<Tool> = serde_json::from_value(tools).unwrap();
            let gbnf = grammar_from_schema(&schema(&tools).to_string()).unwrap();
            assert!(gbnf.contains("Rome"), "{gbnf}");
        }
    }

    #[test]
    fn calls_are_found_as_models_write_them() {
        let check = |said: &str, before: &str, expect: &[(&str, &str)]| {
            let (text, calls) = find(said, &known(true));
            let calls: Vec<_> =
                calls.iter().map(|call| (call.name.as_str(), call.arguments.as_str())).collect();
            assert_eq!((text.as_str(), calls.as_slice()), (before, expect), "{said}");
        };
        check(
            "<tool_call>\n{\"name\": \"f\", \"arguments\": {\"a\": 1}}\n</tool_call>",
            "",
            &[("f", r#"{"a":1}"#)],
        );
        check(
            "Let me see. <tool_call>{\"name\":\"f\",\"arguments\":{}}</tool_call><tool_call>{\"name\":\"g\",\"arguments\":{}}",
            "Let me see.",
            &[("f", "{}"), ("g", "{}")],
        );
        check("[TOOL_CALLS][{\"name\":\"f\",\"arguments\":{}}]", "", &[("f", "{}")]);
        check("{\"name\":\"f\",\"parameters\":{\"x\":\"y\"}}", "", &[("f", r#"{"x":"y"}"#)]);
        check("{\"name\":\"f\",\"arguments\":\"{}\"}", "", &[("f", "{}")]);
        check("{\"name\":\"Ada\"}", "{\"name\":\"Ada\"}", &[]);
        let other = "{\"name\":\"Ada\",\"parameters\":{}}";
        check(other, other, &[]);
        check("<tool_call>{\"name\":\"Ada\",\"arguments\":{}}</tool_call>", "", &[("Ada", "{}")]);
        check("<tool_call>nonsense</tool_call>", "<tool_call>nonsense</tool_call>", &[]);
        check("plain", "plain", &[]);
    }

    #[test]
    fn choices_are_checked_against_the_functions() {
        let check = |tools: Value, choice: Value| {
            calling(
                &serde_json::from_value(
                    json!({"model": "m", "messages": [], "tools": tools, "tool_choice": choice}),
                )
                .unwrap(),
            )
        };
        let tools = json!([{"type": "function", "function": {"name": "f"}}, {"type": "function", "function": {"name": "g"}}]);
        assert_eq!(check(Value::Null, Value::Null).unwrap(), Calling::Never);
        assert_eq!(check(tools.clone(), json!("none")).unwrap(), Calling::Never);
        assert_eq!(check(tools.clone(), Value::Null).unwrap(), Calling::May(known(true)));
        let Calling::Must(any) = check(tools.clone(), json!("required")).unwrap() else {
            panic!("not forced")
        };
        assert_eq!(any["anyOf"].as_array().unwrap().len(), 2);
        let named = json!({"type": "function", "function": {"name": "g"}});
        let Calling::Must(one) = check(tools.clone(), named).unwrap() else { panic!("not forced") };
        assert_eq!(one["properties"]["name"]["const"], "g");
        assert!(check(Value::Null, json!("required")).is_err());
        assert!(check(tools, json!({"type": "function", "function": {"name": "h"}})).is_err());
        assert!(check(json!([{"type": "code", "function": {"name": "f"}}]), Value::Null).is_err());
    }
}
