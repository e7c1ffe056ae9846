//! A proposal, or why there is none, as tables and as JSON.

use pilotage_plan::hardware::catalogue;
use pilotage_plan::launch::{EVENTS, LISTEN, METRICS, PORT, RENDEZVOUS, WEIGHTS, Weights};
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
pub(super) fn filled(command: &str, place: &str) -> String {
    let command = command.replace(WEIGHTS, place).replace(LISTEN, "127.0.0.1");
    // As they are where one is started alone.
    let ports = [(PORT, "8000"), (EVENTS, "5557"), (RENDEZVOUS, "29500"), (METRICS, "9000")];
    ports.iter().fold(command, |command, (word, port)| command.replace(word, port))
}

/// The same for people, line by line.
pub(super) fn lines(question: &Question<'_>, found: &Proposal, place: &str) -> Vec<String> {
    let mut lines = model_lines(question);
    lines.push(runtime_line(&found.selection));
    let candidate = &found.candidate;
    lines.push(format!("shape     {}", shape_line(question, &candidate.shape)));
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
    let warning = found.selection.warning.iter().cloned();
    let notes = found.launch.notes.iter().cloned().chain(notes(question, found, place));
    let notes = warning.chain(notes);
    lines.extend(notes.map(|note| format!("  note: {note}")));
    lines.push(String::new());
    lines.extend(others(&found.selection));
    lines
}

fn runtime_line(selection: &Selection) -> String {
    let engine = selection.engine.map_or("-", |engine| engine.name());
    format!("runtime   {engine}: {}", selection.reason)
}

/// What somebody has to know who types the command.
fn notes(question: &Question<'_>, found: &Proposal, place: &str) -> Vec<String> {
    let mut notes = Vec::new();
    if !std::path::Path::new(place).exists() && question.weights == Weights::Local {
        notes.push(format!("the weights are not here: fetch them to `{place}` first"));
    }
    if found.launch.nodes > 1 {
        let text = "words in braces are the same on all nodes but {rank}: the leader's address, a free port of it, and each node's number from 1";
        notes.push(text.to_owned());
    }
    if found.candidate.shape.replicas > 1 {
        let replicas = found.candidate.shape.replicas;
        notes.push(format!("this starts one of {replicas} replicas"));
    }
    notes
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
    let weights = size(facts.weights.total());
    let stored = match &facts.quantization {
        Quantization::None => facts.dtype.to_string(),
        other => other.to_string(),
    };
    line.push_str(&format!(", weights {weights} ({stored})"));
    // Nothing is stored in less than a bit.
    if facts.weights.total().saturating_mul(8) < facts.parameters {
        line.push_str(", too little for its parameters: files may be missing");
    }
    if facts.modalities.vision {
        line.push_str(", takes images");
    }
    if let Some(most) = facts.context_max {
        line.push_str(&format!(", context up to {most}"));
    }
    line
}

fn shape_line(question: &Question<'_>, shape: &Shape) -> String {
    let count = shape.accelerators();
    let noun = if question.accelerator.is_processor() { "processor" } else { "accelerator" };
    let plural = if count == 1 { "" } else { "s" };
    format!(
        "{shape} on {count} {noun}{plural}, {} tokens of context, {} tokens a step",
        shape.context, shape.batch_tokens
    )
}

fn speed_line(question: &Question<'_>, found: &Proposal) -> String {
    let goal = &question.goal;
    let mut line = format!(
        "with {} requests at once of {} + {} tokens, predicted {} measurements (±{:.0} %)",
        found.concurrency,
        goal.prompt,
        goal.answer,
        if question.calibration.measurements > 0 { "from" } else { "without" },
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
    let band = |band: &Band, scale: f64| {
        let number = |value: f64| rounded(value * scale, 2);
        format!("{} ({} to {})", number(band.likely), number(band.low), number(band.high))
    };
    let seconds = |of: &Band| {
        if of.likely < 1.0 { (band(of, 1e3), "ms") } else { (band(of, 1.0), "s") }
    };
    let (first, first_unit) = seconds(&speed.ttft_seconds);
    let (next, next_unit) = seconds(&speed.tpot_seconds);
    let all = f64::from(replicas);
    if task != Task::Generate {
        return vec![
            format!("  {first} {first_unit} a request"),
            format!("  {} requests/s", band(&speed.requests_per_second, all)),
        ];
    }
    vec![
        format!("  TTFT {first} {first_unit}"),
        format!("  TPOT {next} {next_unit}"),
        format!("  {} tokens/s", band(&speed.tokens_per_second, all)),
        format!("  {} requests/s", band(&speed.requests_per_second, all)),
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
    let band = |band: &Band| {
        format!("{} ({} to {})", count(band.likely), count(band.low), count(band.high))
    };
    let mut line = format!(
        "a replica has {} tokens: {} sequences as long as the context",
        band(&memory.tokens),
        band(&memory.sequences)
    );
    if memory.sequences.low < 1.0 {
        line.push_str("; it may not start, as at worst there is no room for one");
    }
    line
}

/// A count of three digits: 27.4k, 1.50M.
fn count(value: f64) -> String {
    match value {
        huge if huge >= 1e6 => format!("{}M", rounded(huge / 1e6, 3)),
        large if large >= 1e4 => format!("{}k", rounded(large / 1e3, 3)),
        small => format!("{:.0}", small.floor()),
    }
}

/// A number with as many digits as it deserves.
fn rounded(value: f64, digits: i32) -> String {
    if !value.is_finite() || value <= 0.0 {
        return "0".to_owned();
    }
    let above = value.log10().floor() as i32 + 1;
    let scale = 10_f64.powi(digits - above);
    let rounded = (value * scale).round() / scale;
    let decimals = usize::try_from(digits - above).unwrap_or(0);
    format!("{rounded:.decimals$}")
}

fn size(bytes: u64) -> String {
    match gib(bytes) {
        small if small < 1.0 => format!("{:.0} MiB", small * 1024.0),
        large => format!("{large:.1} GiB"),
    }
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
                runtime_line(&short.selection),
                format!("shape     {}, which lacks least", shape_line(question, &short.shape)),
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
        NoProposal::Goal { rejected, .. } if !rejected.is_empty() => {
            let (shape, why) = &rejected[rejected.len() - 1];
            format!("no shape meets the goal, not even {shape}: {why}")
        }
        other => other.to_string(),
    }
}

fn gib(bytes: u64) -> f64 {
    bytes as f64 / GIB
}
