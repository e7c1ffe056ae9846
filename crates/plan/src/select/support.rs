//! Which models each program runs, from tables that were made of the programs' own sources.

use crate::launch::{Engine, Version};
use crate::size::{Format, ModelFacts, Task};

/// What a table says of a model.
#[derive(Clone, Debug, Eq, PartialEq)]
pub(super) enum Support {
    /// It is listed.
    Listed,
    /// It is listed for what is wanted, and also takes images or sound by that listing.
    Multimodal,
    /// It was, until that release.
    Until(Version),
    /// It is not listed for what is wanted, but for something else.
    Otherwise,
    /// It is not listed.
    Unlisted,
}

/// What a program's table says of a model and what it is for.
pub(super) fn support(engine: Engine, facts: &ModelFacts) -> Support {
    let rows = rows(engine, facts);
    let mut found = Support::Unlisted;
    for row in rows {
        let this = match (row.until, row.purpose, facts.task) {
            (Some(release), _, _) => Support::Until(release),
            (None, "multimodal", Task::Generate) => Support::Multimodal,
            (None, "generate", Task::Generate)
            | (None, "embed", Task::Embed)
            | (None, "score", Task::Rerank) => Support::Listed,
            // Whatever writes can be pooled.
            (None, "generate", Task::Embed | Task::Rerank) if pools(engine) => Support::Listed,
            _ => Support::Otherwise,
        };
        if rank(&this) > rank(&found) {
            found = this;
        }
    }
    found
}

/// Whether a program looks at a model's type alone, whatever class its files name.
pub(super) const fn goes_by_family(engine: Engine, format: Format) -> bool {
    match engine {
        Engine::Ollama => matches!(format, Format::Gguf),
        Engine::Tgi | Engine::DeepSpeed | Engine::LlamaCpp | Engine::Embedded => true,
        Engine::Vllm | Engine::Sglang | Engine::TensorRtLlm | Engine::Triton => false,
    }
}

/// Whether a program takes a model for one of its type while no table has the class that its files name.
pub(super) fn guesses(engine: Engine, facts: &ModelFacts) -> bool {
    goes_by_family(engine, facts.format) && !knows(facts)
}

/// Whether any table has a model's class, for whatever purpose. Files that name none, and GGUF, have a family
/// alone, which is then the name to go by.
pub(super) fn knows(facts: &ModelFacts) -> bool {
    let named = facts.format != Format::Gguf && facts.architecture != facts.family;
    let by_class = [Engine::Vllm, Engine::Sglang, Engine::TensorRtLlm, Engine::Ollama];
    !named || by_class.iter().any(|engine| !rows(*engine, facts).is_empty())
}

/// Whether a program makes vectors and scores of models that write.
const fn pools(engine: Engine) -> bool {
    matches!(engine, Engine::Vllm | Engine::Sglang | Engine::LlamaCpp | Engine::Embedded)
}

const fn rank(support: &Support) -> u8 {
    match support {
        Support::Unlisted => 0,
        Support::Otherwise => 1,
        Support::Until(_) => 2,
        Support::Listed => 3,
        Support::Multimodal => 4,
    }
}

/// One line of a table.
struct Row {
    purpose: &'static str,
    until: Option<Version>,
}

/// The lines about a model. GGUF files and some programs name a family, others a class of transformers.
fn rows(engine: Engine, facts: &ModelFacts) -> Vec<Row> {
    let Some(table) = table(engine, facts.format) else { return Vec::new() };
    let by_family = goes_by_family(engine, facts.format);
    let name = if by_family { &facts.family } else { &facts.architecture };
    let lines = table.lines().filter(|line| !line.starts_with('#'));
    let row = |line: &'static str| {
        let mut columns = line.split(' ');
        let is_it = columns.next()? == name;
        let purpose = columns.next()?;
        let until = columns.next().and_then(|column| column.strip_prefix("until="));
        is_it.then(|| Row { purpose, until: until.and_then(Version::parse) })
    };
    lines.filter_map(row).collect()
}

const fn table(engine: Engine, format: Format) -> Option<&'static str> {
    Some(match engine {
        Engine::Vllm | Engine::Triton => include_str!("support/vllm.txt"),
        Engine::Sglang => include_str!("support/sglang.txt"),
        Engine::Tgi => include_str!("support/tgi.txt"),
        Engine::TensorRtLlm => include_str!("support/trtllm.txt"),
        Engine::DeepSpeed => include_str!("support/deepspeed.txt"),
        // It makes GGUF of other files, by a list of its own.
        Engine::Ollama if !matches!(format, Format::Gguf) => include_str!("support/ollama.txt"),
        Engine::LlamaCpp | Engine::Embedded | Engine::Ollama => {
            include_str!("support/llama_cpp.txt")
        }
    })
}

/// Whether a program reads weights of that form, and how to say that it does not.
pub(super) const fn reads(engine: Engine, format: Format) -> bool {
    match format {
        Format::Gguf => {
            matches!(engine, Engine::LlamaCpp | Engine::Embedded | Engine::Ollama | Engine::Sglang)
        }
        Format::Safetensors | Format::Unknown => {
            !matches!(engine, Engine::LlamaCpp | Engine::Embedded)
        }
        Format::Pickle => matches!(engine, Engine::Vllm | Engine::Sglang | Engine::DeepSpeed),
    }
}
