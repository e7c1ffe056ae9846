//! Prompts as token ids, and `POST /tokenize` and `/detokenize`, as in vLLM.

use std::sync::Arc;

use axum::extract::{Request, State};
use axum::http::StatusCode;
use axum::response::Response;
use pilotage_wire::openai::chat::ChatRequest;
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

/// The token ids of every prompt; `begin` adds the begin-of-text token to texts where the model
/// wants one.
///
/// # Errors
/// Status 400: none, too many, or ids outside the vocabulary.
pub(super) fn prompts(
    api: &Api,
    prompt: &Prompt,
    param: &str,
    begin: bool,
) -> Result<Vec<Arc<[Token]>>, ApiError> {
    let text = |text: &String| -> Arc<[Token]> {
        api.inner.engine.vocabulary().tokenize(text, begin, false).into()
    };
    let prompts: Vec<Arc<[Token]>> = match prompt {
        Prompt::Text(one) => vec![text(one)],
        Prompt::Texts(texts) => texts.iter().map(text).collect(),
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
    request.model.as_deref().map_or(Ok(()), |model| api.check_model(model))?;
    let strings = request.return_token_strs.unwrap_or(false);
    let tokens = tokens_of(&api, request)?;
    let count = u32::try_from(tokens.len()).unwrap_or(u32::MAX);
    let token_strs = strings.then(|| tokens.iter().map(|token| token_text(&api, *token)).collect());
    let max_model_len = api.inner.context;
    Ok(json(StatusCode::OK, &TokenizeResponse { count, max_model_len, tokens, token_strs }))
}

/// Of a text, or of a conversation as the model would read it.
fn tokens_of(api: &Api, request: TokenizeRequest) -> Result<Vec<Token>, ApiError> {
    let vocabulary = api.inner.engine.vocabulary();
    match (request.prompt, request.messages) {
        (Some(prompt), None) => {
            let begin = request.add_special_tokens.unwrap_or(true);
            Ok(vocabulary.tokenize(&prompt, begin, true))
        }
        (None, Some(messages)) => {
            let chat = ChatRequest { messages, tools: request.tools, ..ChatRequest::default() };
            api.inner.template.tokens(&chat, api.inner.clock.unix_ms(), vocabulary)
        }
        (Some(_), Some(_)) => wrong("prompt", "cannot be combined with `messages`"),
        (None, None) => wrong("prompt", "is missing; send it or `messages`"),
    }
}

/// A token's own text, control tokens included; U+FFFD for bytes that are no character by
/// themselves.
pub(super) fn token_text(api: &Api, token: Token) -> String {
    String::from_utf8_lossy(&api.inner.engine.vocabulary().piece(token, true)).into_owned()
}

pub(super) async fn detokenize(
    State(api): State<Api>,
    request: Request,
) -> Result<Response, Refused> {
    let request: DetokenizeRequest = parse(&read(request).await?)?;
    request.model.as_deref().map_or(Ok(()), |model| api.check_model(model))?;
    let tokens = ids(&api, &request.tokens, "tokens")?;
    let vocabulary = api.inner.engine.vocabulary();
    let bytes: Vec<u8> = tokens.iter().flat_map(|token| vocabulary.piece(*token, true)).collect();
    let prompt = String::from_utf8_lossy(&bytes).into_owned();
    Ok(json(StatusCode::OK, &DetokenizeResponse { prompt }))
}
