//! A proposal, or why there is none, as tables and as JSON.

use pilotage_plan::hardware::catalogue;
use pilotage_plan::launch::{LISTEN, PORT, WEIGHTS};
use pilotage_plan::select::{NoProposal, Proposal, Question, Selection};
use pilotage_plan::size::{Band, Memory, ModelFacts, Quantization, Remedy, Shape, Speed, Task};
use serde_json::json;

use crate::output::{self, Format};

const GIB: f64 = 1_073_741_824.0;

/// The hardware classes.
pub(super) fn hardware(format: Format) -> anyhow::Result<()> {
    if format == Format::Json {
        return output::json(&catalogue().collect::<Vec<_>>());
    }
    let rows: Vec<Vec<String>> = catalogue()
        .map(|class| {
            let speed = |flops: Option<f64>| {
                flops.map_or_else(|| "-".to_owned(), |f| format!("{:.0}", f / 1e12))
            };
            vec![
                class.id.to_owned(),
                class.name.to_owned(),
                format!("{:.0}", gib(class.memory_bytes)),
                format!("{:.0}", class.bandwidth / 1e9),
                speed(Some(class.flops.half)),
                speed(class.flops.fp8),
                class.per_node.to_string(),
                class.link.name.to_owned(),
            ]
        })
        .collect();
    output::table(
        &["ID", "NAME", "GIB", "GB/S", "16-BIT TFLOPS", "FP8", "PER NODE", "LINK"],
        &rows,
    );
    Ok(())
}

/// What to do.
pub(super) fn proposal(
    question: &Question<'_>,
    found: &Proposal,
    place: &str,
    format: Format,
) -> anyhow::Result<()> {
    if format == Format::Json {
        return output::json(&json!({
            "model": question.served,
            "facts": question.facts,
            "hardware": question.accelerator,
            "goal": question.goal,
            "proposal": found,
        }));
    }
    for line in lines(question, found, place) {
        output::line(&line);
    }
    Ok(())
}

/// A command for this machine: what is known here stands where the placeholders are.
fn filled(command: &str, place: &str) -> String {
    command.replace(WEIGHTS, place).replace(LISTEN, "127.0.0.1").replace(PORT, "8000")
}

/// The same for people, line by line.
pub(super) fn lines(question: &Question<'_>, found: &Proposal, place: &str) -> Vec<String> {
    let mut lines = model_lines(question);
    let engine = found.selection.engine.map_or("-", |engine| engine.name());
    lines.push(format!("runtime   {engine}: {}", found.selection.reason));
    let candidate = &found.candidate;
    lines.push(format!("shape     {}", shape_line(&candidate.shape)));
    lines.push(format!("memory    {}", memory_line(&candidate.memory)));
    lines.push(format!("cache     {}", cache_line(&candidate.memory)));
    lines.push(format!("speed     {}", speed_line(question, found)));
    lines.extend(speed_lines(question.facts.task, &candidate.speed, candidate.shape.replicas));
    lines.push(String::new());
    lines.push("command".to_owned());
    lines.push(format!("  {}", filled(&found.launch.command_line(), place)));
    if let Some(worker) = &found.launch.worker {
        let line = filled(&worker.command_line(), place);
        lines.push(format!("  on each other node: {line}"));
    }
    lines.extend(found.launch.image.iter().map(|image| format!("  image {image}")));
    lines.extend(found.launch.notes.iter().map(|note| format!("  note: {note}")));
    lines.push(String::new());
    lines.extend(others(&found.selection));
    lines
}

fn model_lines(question: &Question<'_>) -> Vec<String> {
    let facts = question.facts;
    vec![
        format!("model     {}: {}", question.served, facts_line(facts)),
        format!(
            "hardware  {} × {} a node, {} node{}",
            question.accelerator.per_node,
            question.accelerator.name,
            question.nodes,
            if question.nodes == 1 { "" } else { "s" }
        ),
    ]
}

fn facts_line(facts: &ModelFacts) -> String {
    let billions = |count: u64| {
        let billions = count as f64 / 1e9;
        if billions < 1.0 {
            format!("{:.0}M", billions * 1000.0)
        } else {
            format!("{billions:.1}B")
        }
    };
    let mut line = format!("{}, {} parameters", facts.architecture, billions(facts.parameters));
    if facts.is_mixture() {
        line.push_str(&format!(" ({} active)", billions(facts.active_parameters)));
    }
    let weights = gib(facts.weights.total());
    let stored = match &facts.quantization {
        Quantization::None => facts.dtype.to_string(),
        other => other.to_string(),
    };
    line.push_str(&format!(", weights {weights:.1} GiB ({stored})"));
    if let Some(most) = facts.context_max {
        line.push_str(&format!(", context up to {most}"));
    }
    line
}

fn shape_line(shape: &Shape) -> String {
    let count = shape.accelerators();
    let noun = if count == 1 { "accelerator" } else { "accelerators" };
    format!(
        "{shape} on {count} {noun}, {} tokens of context, {} tokens a step",
        shape.context, shape.batch_tokens
    )
}

fn speed_line(question: &Question<'_>, found: &Proposal) -> String {
    let goal = &question.goal;
    let mut line = format!(
        "with {} requests at once of {} + {} tokens, predicted without measurements (±{:.0} %)",
        found.concurrency,
        goal.prompt,
        goal.answer,
        question.calibration.off * 100.0
    );
    if found.concurrency < goal.concurrency {
        let asked = goal.concurrency;
        line.push_str(&format!(
            "; {asked} at once were asked for, and this hardware is not enough"
        ));
    }
    line
}

/// Latencies are those of each request, rates those of all replicas.
fn speed_lines(task: Task, speed: &Speed, replicas: u32) -> Vec<String> {
    let band = |band: &Band, scale: f64, digits: usize| {
        let number = |value: f64| format!("{:.digits$}", value * scale);
        format!("{} ({} to {})", number(band.likely), number(band.low), number(band.high))
    };
    let all = f64::from(replicas);
    if task != Task::Generate {
        return vec![
            format!("  {} ms a request", band(&speed.ttft_seconds, 1e3, 0)),
            format!("  {} requests/s", band(&speed.requests_per_second, all, 2)),
        ];
    }
    vec![
        format!("  TTFT {} ms", band(&speed.ttft_seconds, 1e3, 0)),
        format!("  TPOT {} ms", band(&speed.tpot_seconds, 1e3, 1)),
        format!("  {} tokens/s", band(&speed.tokens_per_second, all, 0)),
        format!("  {} requests/s", band(&speed.requests_per_second, all, 2)),
    ]
}

fn memory_line(memory: &Memory) -> String {
    format!(
        "each has {:.1} GiB: weights {:.1}, step {:.1}, graphs {:.1}, runtime {:.1}, cache {:.1}",
        gib(memory.budget_bytes),
        gib(memory.weights_bytes),
        gib(memory.activation_bytes),
        gib(memory.graph_bytes),
        gib(memory.runtime_bytes),
        gib(memory.cache_bytes),
    )
}

fn cache_line(memory: &Memory) -> String {
    if !memory.sequences.likely.is_finite() {
        return "none: this model keeps nothing of the tokens before".to_owned();
    }
    let whole = |value: f64| format!("{value:.0}");
    let band = |band: &Band| {
        format!("{} ({} to {})", whole(band.likely), whole(band.low), whole(band.high))
    };
    format!(
        "a replica has {} tokens: {} sequences as long as the context",
        band(&memory.tokens),
        band(&memory.sequences)
    )
}

fn others(selection: &Selection) -> Vec<String> {
    let row = |other: &pilotage_plan::select::Other| {
        let mark = if other.can { "could " } else { "cannot" };
        format!("  {mark} {:<9} {}", other.engine.name(), other.reason)
    };
    let mut lines = vec!["others".to_owned()];
    lines.extend(selection.others.iter().map(row));
    lines
}

/// Why there is no proposal, with what would help.
pub(super) fn refusal(
    question: &Question<'_>,
    error: &NoProposal,
    format: Format,
) -> anyhow::Result<()> {
    if format == Format::Json {
        let mut value = json!({
            "model": question.served,
            "facts": question.facts,
            "error": headline(question, error),
        });
        match error {
            NoProposal::Engine(selection) => value["selection"] = json!(selection),
            NoProposal::Memory(short) => value["short"] = json!(short),
            NoProposal::Goal { selection, rejected } => {
                value["selection"] = json!(selection);
                value["rejected"] = json!(rejected);
            }
            NoProposal::Launch(_) | NoProposal::Shape(_) => {}
        }
        return output::json(&value);
    }
    for line in refusal_lines(question, error) {
        output::line(&line);
    }
    Ok(())
}

/// The same for people, line by line.
pub(super) fn refusal_lines(question: &Question<'_>, error: &NoProposal) -> Vec<String> {
    let mut lines = model_lines(question);
    lines.extend(because(question, error));
    lines
}

fn because(question: &Question<'_>, error: &NoProposal) -> Vec<String> {
    match error {
        NoProposal::Engine(selection) => others(selection),
        NoProposal::Memory(short) => {
            let mut lines = vec![
                format!("shape     {} is the one that lacks least", shape_line(&short.shape)),
                format!("memory    {}", memory_line(&short.memory)),
                "what would make it fit, each alone".to_owned(),
            ];
            let line = |remedy| format!("  {}", remedy_line(remedy, question, &short.shape));
            lines.extend(short.remedies.iter().map(line));
            if short.remedies.is_empty() {
                lines.push("  nothing that is known here".to_owned());
            }
            lines
        }
        NoProposal::Goal { rejected, .. } => {
            let line = |(shape, why): &(String, String)| format!("  {shape:<14} {why}");
            let head = "shapes that were tried".to_owned();
            std::iter::once(head).chain(rejected.iter().map(line)).collect()
        }
        NoProposal::Launch(_) | NoProposal::Shape(_) => Vec::new(),
    }
}

fn remedy_line(remedy: &Remedy, question: &Question<'_>, shape: &Shape) -> String {
    match remedy {
        Remedy::Context(tokens) => format!("a context of {tokens} tokens: --context {tokens}"),
        Remedy::Fp8Cache => "a cache of 8-bit numbers".to_owned(),
        Remedy::Weights { bits } => format!("weights quantised to {bits} bits"),
        Remedy::Tensor(ranks) => {
            format!("{ranks} accelerators by tensor parallelism: --tensor {ranks}")
        }
        Remedy::Pipeline(stages) => {
            let needed = shape.tensor.saturating_mul(*stages);
            match needed.div_ceil(question.accelerator.per_node.max(1)) {
                nodes if nodes > question.nodes => {
                    format!("{stages} stages by pipeline parallelism: --nodes {nodes}")
                }
                _ => format!("{stages} stages by pipeline parallelism: --pipeline {stages}"),
            }
        }
        Remedy::Hardware(id) => format!("other hardware: --hardware {id}"),
    }
}

/// One sentence for stderr.
pub(super) fn headline(question: &Question<'_>, error: &NoProposal) -> String {
    match error {
        NoProposal::Memory(short) => format!(
            "{} does not fit: each of {} × {} lacks {:.1} GiB",
            question.served,
            short.shape.accelerators(),
            question.accelerator.name,
            gib(short.short_bytes)
        ),
        NoProposal::Goal { rejected, .. } if rejected.len() == 1 => {
            let (shape, why) = &rejected[0];
            format!("{} does not do in the shape {shape}: {why}", question.served)
        }
        other => other.to_string(),
    }
}

fn gib(bytes: u64) -> f64 {
    bytes as f64 / GIB
}
