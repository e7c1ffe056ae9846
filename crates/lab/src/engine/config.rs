//! What a scripted engine is told at its start.

use std::time::Duration;

use super::fault::Rule;
use super::model::ModelConfig;

/// All that a scripted engine is told.
#[derive(Clone, Debug)]
pub struct EngineConfig {
    /// The model's name, in answers and metrics. Requests for any model are answered.
    pub model: String,
    /// Names of LoRA adapters that it lists.
    pub adapters: Vec<String>,
    /// What answers look like, and how fast they come where there is no `pace`.
    pub answer: AnswerShape,
    /// The constants of the engine that is modelled; none for one that answers at once.
    pub pace: Option<ModelConfig>,
    /// What goes wrong from the start.
    pub faults: Vec<Rule>,
    /// Whether each request is written down, and answers are of its own text: for tests. Without,
    /// and without faults, an instant engine answers from prepared bytes.
    pub record: bool,
}

impl Default for EngineConfig {
    fn default() -> Self {
        Self {
            model: "scripted".to_owned(),
            adapters: Vec::new(),
            answer: AnswerShape::default(),
            pace: None,
            faults: Vec::new(),
            record: false,
        }
    }
}

/// What the answers of an instant engine look like.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct AnswerShape {
    /// Events with a token in a stream, and tokens of a whole answer.
    pub chunks: u32,
    /// Bytes of such an event; events are never shorter than their JSON.
    pub chunk_bytes: usize,
    /// Time from the request to the first token.
    pub first_gap: Duration,
    /// Time between two events.
    pub chunk_gap: Duration,
    /// Events in one write to the socket, where there is no time between them.
    pub chunks_per_write: u32,
}

impl Default for AnswerShape {
    fn default() -> Self {
        Self {
            chunks: 16,
            chunk_bytes: 0,
            first_gap: Duration::ZERO,
            chunk_gap: Duration::ZERO,
            chunks_per_write: 1,
        }
    }
}
