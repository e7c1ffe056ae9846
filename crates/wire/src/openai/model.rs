//! `GET /v1/models` and `GET /v1/models/{id}`.

use serde::{Deserialize, Serialize};

/// The list of models.
#[derive(Clone, Debug, Deserialize, Serialize)]
pub struct ModelList {
    /// `list`.
    pub object: String,
    /// The models.
    pub data: Vec<Model>,
}

/// One model.
#[derive(Clone, Debug, Deserialize, Serialize)]
pub struct Model {
    /// The name to use in requests.
    pub id: String,
    /// `model`.
    pub object: String,
    /// When it was made available, in seconds since 1970.
    pub created: u64,
    /// Who serves it.
    pub owned_by: String,
    /// Tokens of prompt and answer together, as in vLLM.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub max_model_len: Option<u32>,
}

impl Model {
    /// A model served here.
    pub fn new(id: impl Into<String>, created: u64, max_model_len: Option<u32>) -> Self {
        let owned_by = "pilotage".to_owned();
        Self { id: id.into(), object: "model".to_owned(), created, owned_by, max_model_len }
    }
}

impl ModelList {
    /// A list of these.
    pub fn new(data: Vec<Model>) -> Self {
        Self { object: "list".to_owned(), data }
    }
}
