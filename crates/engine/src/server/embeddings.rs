//! `POST /v1/embeddings`: one vector for each input, of length one.

use axum::extract::{Request, State};
use axum::http::StatusCode;
use axum::response::Response;
use pilotage_wire::openai::embedding::{Embedding, EmbeddingRequest, EmbeddingResponse, Vector};
use pilotage_wire::openai::error::ApiError;
use pilotage_wire::openai::params::wrong;
use pilotage_wire::openai::read as parse;
use pilotage_wire::openai::usage::Usage;

use super::Api;
use super::reply::{Refused, json, read};
use super::tokens::prompts;
use crate::job::Token;

pub(super) async fn embeddings(
    State(api): State<Api>,
    request: Request,
) -> Result<Response, Refused> {
    let body = read(request).await?;
    let request: EmbeddingRequest = parse(&body)?;
    api.check_model(&request.model)?;
    let size = api.inner.engine.vocabulary().model().embedding_size;
    if request.dimensions.is_some_and(|dimensions| dimensions != size) {
        return Err(Refused(
            wrong::<()>("dimensions", &format!("must be {size}, the model's own"))
                .err()
                .unwrap_or_else(|| ApiError::internal("")),
        ));
    }
    let inputs = prompts(&api, &request.input, "input", true)?;
    let context = api.inner.context as usize;
    for (at, input) in inputs.iter().enumerate() {
        if input.is_empty() || input.len() > context {
            let message = format!(
                "input {at} has {} tokens; it must have 1 to {context}, the model's context",
                input.len(),
            );
            return Err(Refused(ApiError::context_length_exceeded(message).with_param("input")));
        }
    }
    let tokens: usize = inputs.iter().map(|input| input.len()).sum();
    let inputs: Vec<Vec<Token>> = inputs.iter().map(|input| input.to_vec()).collect();
    let vectors = api.inner.engine.embed(inputs).await?;
    let encoding = request.encoding_format.unwrap_or_default();
    let data = (0..).zip(vectors).map(|(index, vector)| Embedding {
        object: "embedding",
        index,
        embedding: Vector::encode(vector, encoding),
    });
    let response = EmbeddingResponse {
        object: "list",
        data: data.collect(),
        model: api.inner.model.clone(),
        usage: Usage {
            prompt_tokens: u32::try_from(tokens).unwrap_or(u32::MAX),
            total_tokens: u32::try_from(tokens).unwrap_or(u32::MAX),
            ..Usage::default()
        },
    };
    Ok(json(StatusCode::OK, &response))
}
