//! Where clients send requests to: each endpoint with the path that replicas serve it at, what a
//! replica must be able to do for it, and whose protocol its clients speak.

use http::{HeaderMap, header};
use pilotage_core::Tokens;
use pilotage_core::traffic::{Feature, Features};
use pilotage_wire::multipart;
use pilotage_wire::openai::error::ApiError;
use pilotage_wire::peek::{self, Format, Peek};
use pilotage_wire::repeat;

use super::fit::Expected;
use super::protocol::Protocol;

/// The path of chat completions, in which other protocols are told.
pub(super) const CHAT: &str = "/v1/chat/completions";

/// Where clients send requests to.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Endpoint {
    /// Its path, which labels records as well.
    pub(crate) path: &'static str,
    /// Where replicas serve it.
    pub(super) upstream: &'static str,
    pub(super) protocol: Protocol,
    /// What a replica must be able to do.
    pub(super) feature: Feature,
    /// Whether its answers are generated token by token.
    pub(super) generates: bool,
    /// Whether its bodies may be forms with files.
    pub(super) forms: bool,
}

/// All of them.
pub(crate) static ENDPOINTS: [Endpoint; 12] = [
    Endpoint::chat(CHAT, Protocol::Own),
    Endpoint::chat("/v1/messages", Protocol::Messages),
    Endpoint::chat("/v1/responses", Protocol::Responses),
    Endpoint { generates: true, ..Endpoint::passed("/v1/completions", Feature::Text) },
    Endpoint {
        upstream: "/tokenize",
        protocol: Protocol::Count,
        ..Endpoint::passed("/v1/messages/count_tokens", Feature::Text)
    },
    Endpoint::passed("/v1/embeddings", Feature::Embeddings),
    Endpoint::passed("/v1/rerank", Feature::Rerank),
    Endpoint::passed("/v1/audio/speech", Feature::Speech),
    Endpoint {
        forms: true,
        ..Endpoint::passed("/v1/audio/transcriptions", Feature::Transcription)
    },
    Endpoint { forms: true, ..Endpoint::passed("/v1/audio/translations", Feature::Transcription) },
    Endpoint::passed("/v1/images/generations", Feature::Images),
    Endpoint { forms: true, ..Endpoint::passed("/v1/images/edits", Feature::Images) },
];

impl Endpoint {
    const fn chat(path: &'static str, protocol: Protocol) -> Self {
        let upstream = CHAT;
        Self { path, upstream, protocol, feature: Feature::Text, generates: true, forms: false }
    }

    const fn passed(path: &'static str, feature: Feature) -> Self {
        let protocol = Protocol::Own;
        Self { path, upstream: path, protocol, feature, generates: false, forms: false }
    }

    /// Whether equal requests have equal answers: what embeds or ranks has no chance in it, what
    /// generates says so.
    pub(super) fn is_deterministic(&self, body: &[u8]) -> bool {
        match self.feature {
            Feature::Embeddings | Feature::Rerank => true,
            _ => self.generates && repeat::is_deterministic(body),
        }
    }

    /// What its answers are.
    pub(super) const fn expects(&self) -> Expected {
        match self.feature {
            Feature::Speech | Feature::Transcription | Feature::Images => Expected::Media,
            _ if self.generates => Expected::Completion,
            _ => Expected::Json,
        }
    }

    /// Whether replicas get a chat.
    pub(super) fn is_chat(&self) -> bool {
        self.upstream == CHAT
    }

    /// Reads the few fields of a body that the gateway acts on, whichever form it has.
    pub(super) fn peek(&self, headers: &HeaderMap, body: &[u8]) -> Result<Peek, ApiError> {
        let kind = headers.get(header::CONTENT_TYPE).and_then(|kind| kind.to_str().ok());
        if let Some(kind) = kind.filter(|kind| self.forms && multipart::is_form(kind)) {
            return multipart::peek(kind, body).map(Peek::from);
        }
        let mut peek = peek::peek(body)?;
        if matches!(self.feature, Feature::Speech | Feature::Transcription | Feature::Images) {
            peek.media.add_members(std::str::from_utf8(body).unwrap_or_default());
        }
        Ok(peek)
    }

    /// What a model must be able to do for a request.
    pub(super) fn needs(&self, peek: &Peek) -> Features {
        let chat = [
            (Feature::Vision, peek.media.images > 0 || peek.media.videos > 0),
            (Feature::Audio, peek.media.audios > 0),
            (Feature::Tools, peek.tools.is_some()),
            (Feature::JsonSchema, peek.format == Format::JsonSchema),
        ];
        let needed = chat.into_iter().filter(|(_, needed)| *needed && self.is_chat());
        needed.fold(Features::of(&[self.feature]), |all, (feature, _)| all.with(feature))
    }

    /// Tokens before they are counted: four bytes make about one of English text (OpenAI's rule of
    /// thumb), and an answer without a limit is taken to be a quarter of the context.
    pub(super) fn estimate(&self, peek: &Peek, context: u32) -> Tokens {
        let text = u32::try_from(peek.input_bytes / BYTES_PER_TOKEN).unwrap_or(u32::MAX);
        let input = text.saturating_add(peek.media.tokens());
        // Several prompts are together longer than a context; one that is is refused by the engine.
        let input = input.min(context.saturating_mul(peek.prompts.max(1)));
        let each = peek.tokens_max.unwrap_or(context / 4).min(context);
        let answers = u64::from(peek.n.max(1)) * u64::from(peek.prompts.max(1));
        let output = u32::try_from(u64::from(each) * answers).unwrap_or(u32::MAX);
        Tokens { input, cached: 0, output: if self.generates { output } else { 0 } }
    }
}

/// Bytes of English text to a token.
pub(super) const BYTES_PER_TOKEN: usize = 4;

#[cfg(test)]
mod tests {
    use super::*;

    fn needs(path: &str, body: &str) -> Vec<&'static str> {
        let endpoint = ENDPOINTS.iter().find(|endpoint| endpoint.path == path).unwrap();
        let peek = endpoint.peek(&HeaderMap::new(), body.as_bytes()).unwrap();
        endpoint.needs(&peek).iter().map(Feature::name).collect()
    }

    #[test]
    fn a_body_tells_what_it_needs() {
        let check = |path: &str, more: &str, expect: &[&str]| {
            assert_eq!(needs(path, &format!(r#"{{"model":"m"{more}}}"#)), expect, "{path} {more}");
        };
        let parts = |parts: &str| format!(r#","messages":[{{"content":[{parts}]}}]"#);
        check(CHAT, "", &["text"]);
        check(CHAT, r#","tools":[],"response_format":{"type":"json_object"}"#, &["text"]);
        check(
            CHAT,
            r#","tools":[{}],"response_format":{"type":"json_schema"}"#,
            &["text", "tools", "jsonSchema"],
        );
        check(CHAT, &parts(r#"{"image_url":"data:x"}"#), &["text", "vision"]);
        check(CHAT, &parts(r#"{"type":"input_audio","input_audio":{}}"#), &["text", "audio"]);
        check("/v1/embeddings", "", &["embeddings"]);
        check("/v1/rerank", r#","documents":["a"]"#, &["rerank"]);
        check("/v1/audio/speech", r#","tools":[{}]"#, &["speech"]);
        check("/v1/images/edits", r#","image":"data:x""#, &["images"]);
    }

    #[test]
    fn images_and_audio_count_as_tokens_and_only_generations_as_output() {
        let tokens = |path: &str, body: &str| {
            let endpoint = ENDPOINTS.iter().find(|endpoint| endpoint.path == path).unwrap();
            let peek = endpoint.peek(&HeaderMap::new(), body.as_bytes()).unwrap();
            let tokens = endpoint.estimate(&peek, 1000);
            (tokens.input, tokens.output)
        };
        let image = format!(r#"[{{"content":[{{"image_url":"data:{}"}}]}}]"#, "x".repeat(9999));
        let body = format!(r#"{{"model":"m","max_tokens":7,"messages":{image}}}"#);
        assert_eq!(tokens(CHAT, &body), (765 + 8, 7));
        assert_eq!(
            tokens("/v1/rerank", r#"{"model":"m","query":"q","documents":["a","b"]}"#),
            (3, 0)
        );
    }
}
