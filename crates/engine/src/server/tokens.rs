//! Prompts as token ids, and `POST /tokenize` and `/detokenize`, as in vLLM.

use std::sync::Arc;

use axum::extract::{Request, State};
use axum::http::StatusCode;
use axum::response::Response;
use pilotage_wire::openai::completion::Prompt;
use pilotage_wire::openai::error::ApiError;
use pilotage_wire::openai::params::wrong;
use pilotage_wire::openai::read as parse;
use pilotage_wire::openai::tokenize::{
    DetokenizeRequest, DetokenizeResponse, TokenizeRequest, TokenizeResponse,
};

use super::Api;
use super::reply::{Refused, json, read};
use crate::job::Token;

/// Most prompts or inputs of one request.
const PROMPTS_MAX: usize = 256;

/// The token ids of every prompt.
///
/// # Errors
/// Status 400: none, too many, or ids outside the vocabulary.
pub(super) fn prompts(
    api: &Api,
    prompt: &Prompt,
    param: &str,
) -> Result<Vec<Arc<[Token]>>, ApiError> {
    let text = |text: &String| -> Result<Arc<[Token]>, ApiError> {
        Ok(api.inner.engine.vocabulary().tokenize(text, true, false).into())
    };
    let prompts: Vec<Arc<[Token]>> = match prompt {
        Prompt::Text(one) => vec![text(one)?],
        Prompt::Texts(texts) => texts.iter().map(text).collect::<Result<_, _>>()?,
        Prompt::Tokens(one) if !one.is_empty() => vec![ids(api, one, param)?],
        Prompt::Tokens(_) => Vec::new(),
        Prompt::TokenLists(lists) => {
            lists.iter().map(|list| ids(api, list, param)).collect::<Result<_, _>>()?
        }
    };
    if prompts.is_empty() || prompts.len() > PROMPTS_MAX {
        return wrong(
            param,
            &format!("holds {} entries; it must hold 1 to {PROMPTS_MAX}", prompts.len()),
        );
    }
    Ok(prompts)
}

fn ids(api: &Api, list: &[i64], param: &str) -> Result<Arc<[Token]>, ApiError> {
    let size = api.inner.engine.vocabulary().size();
    let known = |id: &i64| {
        let token = Token::try_from(*id).ok();
        token.filter(|token| usize::try_from(*token).is_ok_and(|token| token < size))
    };
    let tokens: Option<Vec<Token>> = list.iter().map(known).collect();
    match tokens {
        Some(tokens) => Ok(tokens.into()),
        None => wrong(
            param,
            &format!("holds a token id that is not in the vocabulary (0 to {})", size - 1),
        ),
    }
}

pub(super) async fn tokenize(
    State(api): State<Api>,
    request: Request,
) -> Result<Response, Refused> {
    let request: TokenizeRequest = parse(&read(request).await?)?;
    let begin = request.add_special_tokens.unwrap_or(true);
    let tokens = api.inner.engine.vocabulary().tokenize(&request.prompt, begin, true);
    let count = u32::try_from(tokens.len()).unwrap_or(u32::MAX);
    Ok(json(StatusCode::OK, &TokenizeResponse { count, max_model_len: api.inner.context, tokens }))
}

pub(super) async fn detokenize(
    State(api): State<Api>,
    request: Request,
) -> Result<Response, Refused> {
    let request: DetokenizeRequest = parse(&read(request).await?)?;
    let tokens = ids(&api, &request.tokens, "tokens")?;
    let vocabulary = api.inner.engine.vocabulary();
    let bytes: Vec<u8> = tokens.iter().flat_map(|token| vocabulary.piece(*token, true)).collect();
    let prompt = String::from_utf8_lossy(&bytes).into_owned();
    Ok(json(StatusCode::OK, &DetokenizeResponse { prompt }))
}
