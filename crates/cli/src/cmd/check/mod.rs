//! `pilotage check`: is everything well, and what to do where it is not?

mod answers;
mod looks;

use serde::Serialize;
use serde_json::Value;

use crate::admin::Admin;
use crate::args::Check;
use crate::exit::{self, Ended};
use crate::output::{self, Format};
use looks::Look;
use pilotage_shell::clock::Clock;

/// The last requests.
const RECORDS: &str = "/records?limit=500";

/// How one look came out.
#[derive(Clone, Copy, Debug, Eq, PartialEq, Serialize)]
#[serde(rename_all = "lowercase")]
enum Grade {
    Well,
    Warning,
    Wrong,
}

/// One question, and its answer.
#[derive(Clone, Debug, Serialize)]
struct Finding {
    question: String,
    grade: Grade,
    answer: String,
    #[serde(skip_serializing_if = "Option::is_none")]
    hint: Option<String>,
}

/// Asks everything, and ends with 1 where anything is wrong.
pub(crate) async fn run(args: Check) -> anyhow::Result<()> {
    let findings = findings(&args).await;
    let fails = |finding: &&Finding| {
        finding.grade == Grade::Wrong || (args.strict && finding.grade == Grade::Warning)
    };
    let wrong = findings.iter().filter(fails).count();
    match args.output {
        Format::Json => {
            output::json(&serde_json::json!({"well": wrong == 0, "findings": findings}))?;
        }
        Format::Table => print(&findings, wrong),
    }
    if wrong > 0 { Err(Ended(1).into()) } else { Ok(()) }
}

async fn findings(args: &Check) -> Vec<Finding> {
    let question = "the gateway answers";
    let admin = match Admin::new(&args.reach) {
        Ok(admin) => admin,
        Err(error) => {
            let hint = "start it with `pilotage up`, or give --url and --key-file";
            return vec![refused(question, &error, hint)];
        }
    };
    let status = match admin.get("/status").await {
        Ok(status) => status,
        Err(error) => {
            let hint = "see whether its process runs, and what its log says last";
            return vec![refused(question, &error, hint)];
        }
    };
    let mut findings = vec![Finding::well(question, format!("at {}", admin.url()))];
    let mut more = Value::Object(serde_json::Map::new());
    for (name, path) in [
        ("ledger", "/ledger"),
        ("budgets", "/usage/budgets"),
        ("triage", "/triage"),
        ("records", RECORDS),
    ] {
        // A gateway that has none of it says so with 404.
        match admin.find(path).await {
            Ok(found) => more[name] = found.unwrap_or_default(),
            Err(error) => findings.push(Finding::warning(
                &format!("it tells about its {name}"),
                format!("{error:#}"),
                "see the gateway's log",
            )),
        }
    }
    let look = Look { status: &status, more: &more, now_ms: Clock::start().unix_ms() };
    findings.extend(look.all());
    findings
}

/// Why it could not be asked, with what the error knows to do about it.
fn refused(question: &str, error: &anyhow::Error, hint: &str) -> Finding {
    let known = exit::hints(error).first().map_or(hint, String::as_str);
    Finding::wrong(question, format!("{error:#}"), known)
}

fn print(findings: &[Finding], wrong: usize) {
    for finding in findings {
        let (mark, code) = match finding.grade {
            Grade::Well => ("ok  ", "32"),
            Grade::Warning => ("warn", "33"),
            Grade::Wrong => ("FAIL", "1;31"),
        };
        let line = format!("{mark}  {}: {}", finding.question, finding.answer);
        output::coloured([(line.as_str(), code)]);
        if let Some(hint) = finding.hint.as_deref().filter(|_| finding.grade != Grade::Well) {
            output::line(&format!("      {hint}"));
        }
    }
    output::line("");
    let warnings = findings.iter().filter(|finding| finding.grade == Grade::Warning).count();
    output::line(&match (wrong, warnings) {
        (0, 0) => "everything is well".to_owned(),
        (0, warnings) => format!("well, with {warnings} warnings"),
        (wrong, warnings) => format!("{wrong} wrong, {warnings} warnings"),
    });
}

impl Finding {
    fn well(question: &str, answer: impl Into<String>) -> Self {
        Self {
            question: question.to_owned(),
            grade: Grade::Well,
            answer: answer.into(),
            hint: None,
        }
    }

    fn warning(question: &str, answer: impl Into<String>, hint: &str) -> Self {
        Self { grade: Grade::Warning, hint: Some(hint.to_owned()), ..Self::well(question, answer) }
    }

    fn wrong(question: &str, answer: impl Into<String>, hint: &str) -> Self {
        Self { grade: Grade::Wrong, ..Self::warning(question, answer, hint) }
    }
}
