//! What the gateway needs to know of a request's body, without building a tree of it.
//!
//! One pass over the bytes checks that they are JSON and remembers where the few fields of interest
//! lie; everything else is skipped. The body travels on as it came, or with a field or two
//! replaced by [`splice`]. What a field means to the engine is the engine's to check: here only
//! those fields are held to their type on which the gateway itself acts. What a body needs of an
//! engine besides text, such as eyes and ears, is counted by [`crate::media`].

use std::borrow::Cow;
use std::ops::Range;

use memchr::memchr2;
use serde::{Deserialize, Deserializer};
use serde_json::value::RawValue;
use serde_json::{Map, Value};

use crate::media::Media;
use crate::multipart::Form;
use crate::openai::error::ApiError;

/// A body's fields of interest.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct Peek {
    /// The model's name and where its JSON string lies in the body.
    pub model: Field<String>,
    /// Whether the answer is a stream.
    pub stream: bool,
    /// Where `stream_options` lies, and whether it asks for usage.
    pub stream_options: Option<Field<bool>>,
    /// The most tokens to generate; `max_completion_tokens` wins over `max_tokens`. None when not
    /// given, or when it is no such number, which the engine will say.
    pub tokens_max: Option<u32>,
    /// Answers asked for to each prompt, `best_of` or `n`; one when neither is given, or no such
    /// number.
    pub n: u32,
    /// Prompts that are in the body: a list of texts or of lists of ids holds several.
    pub prompts: u32,
    /// Bytes of the prompt, messages, input, or query and documents; images, audio and video that
    /// are written in them do not count.
    pub input_bytes: usize,
    /// Where the messages, the prompt or the input lie.
    pub input: Option<Range<usize>>,
    /// Where the functions lie that the model may call, if there are any.
    pub tools: Option<Range<usize>>,
    /// Whom the request names as its user; none where that is no text.
    pub user: Option<String>,
    /// What it holds besides text.
    pub media: Media,
    /// What the answer must look like.
    pub format: Format,
    /// Where the first field would go: just after the opening brace. Nowhere in a form.
    pub object_start: Option<usize>,
}

/// What an answer must look like, as far as an engine needs to be able to.
#[derive(Clone, Copy, Debug, Default, Eq, PartialEq)]
pub enum Format {
    /// Anything.
    #[default]
    Text,
    /// A JSON object.
    JsonObject,
    /// JSON of a schema.
    JsonSchema,
}

/// A value and where its JSON lies in the body.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct Field<T> {
    /// The value.
    pub value: T,
    /// Its bytes in the body.
    pub span: Range<usize>,
}

/// A replacement for [`splice`]: the bytes `span` of the body become `with`.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct Edit {
    /// What goes; empty to insert.
    pub span: Range<usize>,
    /// What comes.
    pub with: Vec<u8>,
}

/// How deep lists and objects may lie in each other: as deep as `serde_json` reads, whose own limit of 128
/// refuses the last level. An engine is never asked to read deeper than that.
pub const NESTING_MAX: usize = 127;

/// Reads a body.
///
/// # Errors
/// Status 400 in OpenAI's shape: not UTF-8, nested deeper than [`NESTING_MAX`], not JSON (with line and column), not an object, a
/// field of interest twice, no `model`, or a field of interest of another type.
pub fn peek(body: &[u8]) -> Result<Peek, ApiError> {
    let text = std::str::from_utf8(body).map_err(|error| {
        let at = error.valid_up_to();
        ApiError::invalid_request(format!("the body is not valid UTF-8 at byte {at}"))
    })?;
    let Some(object_start) = object_start(body) else {
        return Err(ApiError::invalid_request(
            "the body must be a JSON object, such as {\"model\": …}",
        ));
    };
    if is_deep(body) {
        let message = format!("the body is nested deeper than {NESTING_MAX} levels; flatten it");
        return Err(ApiError::invalid_request(message).with_code("nested_too_deeply"));
    }
    let fields: Fields<'_> = serde_json::from_str(text).map_err(|error| not_json(&error))?;
    let Some(model) = fields.model else {
        return Err(ApiError::invalid_request("`model` is missing; name the model to use")
            .with_param("model"));
    };
    let given = |raw: &&RawValue| raw.get() != "null";
    let tokens_max =
        fields.max_completion_tokens.filter(given).or(fields.max_tokens).and_then(read);
    let n: u32 = fields.n.and_then(read).unwrap_or(1);
    let best_of: u32 = fields.best_of.and_then(read).unwrap_or(1);
    let media = media(&fields);
    let (input_bytes, documents) = input(&fields);
    let read_first = [fields.messages, fields.prompt, fields.input].into_iter().flatten().next();
    let tools = fields.tools.filter(|raw| !matches!(raw.get(), "null" | "[]"));
    Ok(Peek {
        model: field(text, model, typed(model, "model", "a string")?),
        stream: fields
            .stream
            .map_or(Ok(None), |raw| typed(raw, "stream", "true or false"))?
            .unwrap_or(false),
        stream_options: stream_options(text, fields.stream_options)?,
        tokens_max,
        n: n.max(best_of),
        prompts: fields.prompt.map_or(documents, prompts),
        input_bytes: input_bytes.saturating_sub(media.data_bytes),
        input: read_first.map(|raw| span_of(text, raw)),
        tools: tools.map(|raw| span_of(text, raw)),
        user: fields.user.and_then(read),
        media,
        format: fields.response_format.map(format).unwrap_or_default(),
        object_start: Some(object_start),
    })
}

/// What is known of a form, as if it were a body.
impl From<Form> for Peek {
    fn from(form: Form) -> Self {
        Self {
            model: form.model,
            stream: false,
            stream_options: None,
            tokens_max: None,
            n: 1,
            prompts: 1,
            input_bytes: form.text_bytes,
            input: None,
            tools: None,
            user: None,
            media: Media::default(),
            format: Format::Text,
            object_start: None,
        }
    }
}

/// The body with some bytes replaced. Edits do not overlap; their order does not matter.
pub fn splice(body: &[u8], mut edits: Vec<Edit>) -> Vec<u8> {
    edits.sort_by_key(|edit| edit.span.start);
    let added: usize = edits.iter().map(|edit| edit.with.len()).sum();
    let mut out = Vec::with_capacity(body.len() + added);
    let mut at = 0;
    for edit in &edits {
        debug_assert!(at <= edit.span.start, "W-2: overlapping edits");
        out.extend_from_slice(&body[at..edit.span.start]);
        out.extend_from_slice(&edit.with);
        at = edit.span.end;
    }
    out.extend_from_slice(&body[at..]);
    out
}

impl Peek {
    /// Whether the body is a form with files.
    pub const fn is_form(&self) -> bool {
        self.object_start.is_none()
    }

    /// The edit that gives the body another model name.
    pub fn rename_model(&self, name: &str) -> Edit {
        let quoted = || serde_json::to_vec(name).unwrap_or_default();
        let with = if self.is_form() { name.as_bytes().to_vec() } else { quoted() };
        Edit { span: self.model.span.clone(), with }
    }

    /// The edit that makes an engine return the ids of prompt and answer, for a body that does not
    /// ask for them.
    pub fn ask_for_token_ids(&self) -> Edit {
        let with = br#""return_token_ids":true,"#.to_vec();
        let at = self.object_start.unwrap_or(0);
        Edit { span: at..at, with }
    }

    /// The edit that makes a stream report its usage; none when it already does. `body` is the one
    /// that was peeked at: its other stream options stay.
    pub fn ask_for_usage(&self, body: &[u8]) -> Option<Edit> {
        match &self.stream_options {
            Some(Field { value: true, .. }) => None,
            Some(Field { span, .. }) => {
                let options =
                    serde_json::from_slice::<Option<Map<String, Value>>>(&body[span.clone()]);
                let mut options = options.ok().flatten().unwrap_or_default();
                options.insert("include_usage".to_owned(), true.into());
                let with = serde_json::to_vec(&options).unwrap_or_default();
                Some(Edit { span: span.clone(), with })
            }
            None => self.object_start.map(|at| Edit {
                span: at..at,
                with: br#""stream_options":{"include_usage":true},"#.to_vec(),
            }),
        }
    }
}

#[derive(Deserialize)]
struct Fields<'a> {
    #[serde(borrow, default, deserialize_with = "present")]
    model: Option<&'a RawValue>,
    #[serde(borrow, default, deserialize_with = "present")]
    stream: Option<&'a RawValue>,
    #[serde(borrow, default, deserialize_with = "present")]
    stream_options: Option<&'a RawValue>,
    #[serde(borrow, default, deserialize_with = "present")]
    max_tokens: Option<&'a RawValue>,
    #[serde(borrow, default, deserialize_with = "present")]
    max_completion_tokens: Option<&'a RawValue>,
    #[serde(borrow, default, deserialize_with = "present")]
    n: Option<&'a RawValue>,
    #[serde(borrow, default, deserialize_with = "present")]
    best_of: Option<&'a RawValue>,
    #[serde(borrow, default, deserialize_with = "present")]
    messages: Option<&'a RawValue>,
    #[serde(borrow, default, deserialize_with = "present")]
    prompt: Option<&'a RawValue>,
    #[serde(borrow, default, deserialize_with = "present")]
    input: Option<&'a RawValue>,
    #[serde(borrow, default, deserialize_with = "present")]
    tools: Option<&'a RawValue>,
    #[serde(borrow, default, deserialize_with = "present")]
    user: Option<&'a RawValue>,
    #[serde(borrow, default, deserialize_with = "present")]
    query: Option<&'a RawValue>,
    #[serde(borrow, default, deserialize_with = "present")]
    documents: Option<&'a RawValue>,
    #[serde(borrow, default, deserialize_with = "present")]
    response_format: Option<&'a RawValue>,
}

/// A field that is there, even as null, whose place in the body counts.
fn present<'de, D: Deserializer<'de>>(from: D) -> Result<Option<&'de RawValue>, D::Error> {
    <&RawValue>::deserialize(from).map(Some)
}

/// Bytes of what an engine reads, and how many times it reads: a query, once with each document.
fn input(fields: &Fields<'_>) -> (usize, u32) {
    let bytes = |raw: Option<&RawValue>| raw.map_or(0, |raw| raw.get().len());
    let all = bytes(fields.messages) + bytes(fields.prompt) + bytes(fields.input);
    let Some(documents) = fields.documents else { return (all, 1) };
    let list = serde_json::from_str::<Vec<&RawValue>>(documents.get()).unwrap_or_default();
    let count = list.len().max(1);
    let reads = count.saturating_mul(bytes(fields.query)).saturating_add(bytes(Some(documents)));
    (all.saturating_add(reads), u32::try_from(count).unwrap_or(u32::MAX))
}

fn media(fields: &Fields<'_>) -> Media {
    let mut media = Media::default();
    if let Some(messages) = fields.messages {
        media.add_messages(messages.get());
    }
    for parts in [fields.input, fields.query, fields.documents].into_iter().flatten() {
        media.add_parts(parts.get());
    }
    media
}

fn format(raw: &RawValue) -> Format {
    #[derive(Deserialize)]
    struct Typed<'a> {
        #[serde(borrow, default)]
        r#type: Cow<'a, str>,
    }
    let typed = serde_json::from_str::<Typed<'_>>(raw.get());
    match typed.as_ref().map(|typed| typed.r#type.as_ref()) {
        Ok("json_object") => Format::JsonObject,
        Ok("json_schema") => Format::JsonSchema,
        _ => Format::Text,
    }
}

/// How many prompts a `prompt` holds.
fn prompts(raw: &RawValue) -> u32 {
    let list = serde_json::from_str::<Vec<&RawValue>>(raw.get()).unwrap_or_default();
    let several = list
        .first()
        .is_some_and(|first| !first.get().starts_with(|c: char| c == '-' || c.is_ascii_digit()));
    if several { u32::try_from(list.len()).unwrap_or(u32::MAX) } else { 1 }
}

/// Whether lists and objects lie in each other too deep. Texts are leapt over; of what is no JSON, either
/// answer will do.
fn is_deep(body: &[u8]) -> bool {
    let mut depth = 0_usize;
    let mut at = 0;
    while let Some(byte) = body.get(at) {
        at += 1;
        match byte {
            b'"' => at = text_end(body, at),
            b'[' | b'{' => {
                depth += 1;
                if depth > NESTING_MAX {
                    return true;
                }
            }
            b']' | b'}' => depth = depth.saturating_sub(1),
            _ => {}
        }
    }
    false
}

/// Where the text ends that begins here.
fn text_end(body: &[u8], mut at: usize) -> usize {
    while let Some(found) = body.get(at..).and_then(|rest| memchr2(b'"', b'\\', rest)) {
        at += found;
        if body[at] == b'"' {
            return at + 1;
        }
        at += 2;
    }
    body.len()
}

fn object_start(body: &[u8]) -> Option<usize> {
    let at = body.iter().position(|byte| !matches!(byte, b' ' | b'\t' | b'\r' | b'\n'))?;
    (body[at] == b'{').then_some(at + 1)
}

fn not_json(error: &serde_json::Error) -> ApiError {
    // The library's text names the position, and never quotes the body: it may hold a prompt.
    ApiError::invalid_request(format!("the body is not valid JSON: {error}"))
}

fn field<T>(text: &str, raw: &RawValue, value: T) -> Field<T> {
    Field { value, span: span_of(text, raw) }
}

/// Where a value lies in the body.
fn span_of(text: &str, raw: &RawValue) -> Range<usize> {
    let start = raw.get().as_ptr().addr() - text.as_ptr().addr();
    start..start + raw.get().len()
}

/// A field that the engine will check: nothing when it has another type.
fn read<T: for<'a> Deserialize<'a>>(raw: &RawValue) -> Option<T> {
    serde_json::from_str(raw.get()).ok()
}

fn typed<T: for<'a> Deserialize<'a>>(
    raw: &RawValue,
    name: &str,
    what: &str,
) -> Result<T, ApiError> {
    serde_json::from_str(raw.get()).map_err(|_| {
        ApiError::invalid_request(format!("`{name}` must be {what}")).with_param(name.to_owned())
    })
}

fn stream_options(text: &str, raw: Option<&RawValue>) -> Result<Option<Field<bool>>, ApiError> {
    #[derive(Deserialize)]
    struct Options<'a> {
        #[serde(borrow, default)]
        include_usage: Option<Cow<'a, RawValue>>,
    }
    let Some(raw) = raw.filter(|raw| raw.get() != "null") else {
        // A null has a place in the body all the same: adding the field again would double it.
        return Ok(raw.map(|raw| field(text, raw, false)));
    };
    let wrong = |param: &str, what: &str| {
        Err(ApiError::invalid_request(format!("`{param}` must be {what}"))
            .with_param(param.to_owned()))
    };
    let Ok(options) = serde_json::from_str::<Options<'_>>(raw.get()) else {
        return wrong("stream_options", "an object");
    };
    let asked = match options.include_usage.as_deref().map(RawValue::get) {
        Some("true") => true,
        None | Some("false" | "null") => false,
        Some(_) => return wrong("stream_options.include_usage", "true or false"),
    };
    Ok(Some(field(text, raw, asked)))
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;
    use serde_json::{Value, json};

    use super::*;

    fn peeked(body: &str) -> Peek {
        peek(body.as_bytes()).unwrap()
    }

    #[test]
    fn finds_fields_and_where_they_lie() {
        let body = r#" {"messages":[{"role":"user","content":"{\"model\":1}"}],"mod\u0065l":"a\"b","stream":true,"max_tokens":5,"max_completion_tokens":7,"n":2}"#;
        let peek = peeked(body);
        assert_eq!(peek.model.value, "a\"b");
        assert_eq!(&body[peek.model.span.clone()], r#""a\"b""#);
        assert!(peek.stream);
        assert_eq!((peek.tokens_max, peek.n), (Some(7), 2));
        assert_eq!(&body[..peek.object_start.unwrap()], " {");
        assert_eq!(peek.input_bytes, r#"[{"role":"user","content":"{\"model\":1}"}]"#.len());
    }

    #[test]
    fn what_is_not_given_has_defaults() {
        let peek = peeked(r#"{"model":"m","stream":null,"max_tokens":"many","n":-1}"#);
        assert_eq!((peek.stream, peek.tokens_max, peek.n), (false, None, 1));
        assert_eq!(peek.stream_options, None);
    }

    #[test]
    fn answers_are_counted_for_each_prompt() {
        let check = |more: &str, expect: (u32, u32, Option<u32>)| {
            let peek = peeked(&format!(r#"{{"model":"m"{more}}}"#));
            assert_eq!((peek.prompts, peek.n, peek.tokens_max), expect, "{more}");
        };
        check("", (1, 1, None));
        check(r#","prompt":"a""#, (1, 1, None));
        check(r#","prompt":["a","b","c"],"n":2"#, (3, 2, None));
        check(r#","prompt":[1,2,3],"n":2,"best_of":5"#, (1, 5, None));
        check(r#","prompt":[[1,2],[3]]"#, (2, 1, None));
        check(r#","prompt":[]"#, (1, 1, None));
        check(r#","max_completion_tokens":null,"max_tokens":8"#, (1, 1, Some(8)));
    }

    #[test]
    fn what_a_body_needs_is_told() {
        let check = |more: &str, expect: (bool, Format, u32)| {
            let peek = peeked(&format!(r#"{{"model":"m"{more}}}"#));
            assert_eq!((peek.tools.is_some(), peek.format, peek.media.parts()), expect, "{more}");
        };
        check("", (false, Format::Text, 0));
        check(r#","tools":[],"response_format":null"#, (false, Format::Text, 0));
        check(
            r#","tools":[{}],"response_format":{"type":"json_object"}"#,
            (true, Format::JsonObject, 0),
        );
        check(
            r#","response_format":{"json_schema":{},"type":"json_schema"}"#,
            (false, Format::JsonSchema, 0),
        );
        check(r#","messages":[{"content":[{"image_url":"data:x"}]}]"#, (false, Format::Text, 1));
    }

    #[test]
    fn a_query_is_read_with_each_document_and_images_are_no_text() {
        let peek = peeked(r#"{"model":"m","query":"12","documents":["a","b","c"]}"#);
        assert_eq!((peek.input_bytes, peek.prompts), (4 * 3 + 13, 3));
        let image = format!(r#"[{{"content":[{{"image_url":"data:{}"}}]}}]"#, "x".repeat(1000));
        let peek = peeked(&format!(r#"{{"model":"m","messages":{image}}}"#));
        assert_eq!(peek.input_bytes, image.len() - 1005);
    }

    #[test]
    fn wrong_bodies_say_what_is_wrong() {
        let check = |body: &[u8], param: Option<&str>, part: &str| {
            let error = peek(body).unwrap_err();
            assert_eq!((error.status, error.param.as_deref()), (400, param), "{error}");
            assert!(error.message.contains(part), "{error}");
        };
        check(b"", None, "JSON object");
        check(b"[]", None, "JSON object");
        check(b"{", None, "line 1 column 1");
        check(br#"{"model":"m",}"#, None, "trailing comma");
        check(br#"{"model":"m"} x"#, None, "trailing characters");
        check(br#"{"model":"m","model":"n"}"#, None, "duplicate field");
        check(b"{\"model\":\"\xff\"}", None, "byte 10");
        check(b"{}", Some("model"), "missing");
        check(br#"{"model":5}"#, Some("model"), "a string");
        check(br#"{"model":null}"#, Some("model"), "a string");
        check(br#"{"model":"m","stream":"yes"}"#, Some("stream"), "true or false");
        check(br#"{"model":"m","stream_options":5}"#, Some("stream_options"), "object");
        check(
            br#"{"model":"m","stream_options":{"include_usage":1}}"#,
            Some("stream_options.include_usage"),
            "true",
        );
        check(format!("{{\"a\":{}", "[".repeat(100_000)).as_bytes(), None, "deeper than 127");
    }

    #[test]
    fn bodies_are_as_deep_as_can_be_read() {
        let check = |depth: usize, open: &str, close: &str| {
            let (open, close) = (open.repeat(depth - 1), close.repeat(depth - 1));
            let body = format!(r#"{{"model":"m","a\\":"\"[[","b":{open}1{close}}}"#);
            let read = serde_json::from_str::<Value>(&body).is_ok();
            assert_eq!(
                (read, peek(body.as_bytes()).is_ok()),
                (depth <= NESTING_MAX, read),
                "{depth}"
            );
        };
        for depth in [1, 2, NESTING_MAX - 1, NESTING_MAX, NESTING_MAX + 1, 100_000] {
            check(depth, "[", "]");
            check(depth, r#"{"a":"#, "}");
        }
        // Side by side is not within each other, and brackets in texts are none.
        let wide = format!(
            r#"{{"model":"m","a":[{}[]],"b":"{}"}}"#,
            "[{}],".repeat(1000),
            "[".repeat(1000)
        );
        assert!(peek(wide.as_bytes()).is_ok());
    }

    #[test]
    fn edits_change_only_their_fields() {
        let check = |body: &str, expect: &str| {
            let peek = peeked(body);
            let edits = std::iter::once(peek.rename_model("n"))
                .chain(peek.ask_for_usage(body.as_bytes()))
                .collect();
            assert_eq!(String::from_utf8(splice(body.as_bytes(), edits)).unwrap(), expect);
        };
        check(r#"{"model":"m"}"#, r#"{"stream_options":{"include_usage":true},"model":"n"}"#);
        check(
            r#"{"stream_options":{"include_usage":false},"model":"m"}"#,
            r#"{"stream_options":{"include_usage":true},"model":"n"}"#,
        );
        check(
            r#"{"model":"m","stream_options":null}"#,
            r#"{"model":"n","stream_options":{"include_usage":true}}"#,
        );
        check(
            r#"{"model":"m","stream_options":{"include_usage":true}}"#,
            r#"{"model":"n","stream_options":{"include_usage":true}}"#,
        );
        check(
            r#"{"model":"m","stream_options":{"continuous_usage_stats":true,"include_usage":false}}"#,
            r#"{"model":"n","stream_options":{"continuous_usage_stats":true,"include_usage":true}}"#,
        );
    }

    fn any_json() -> impl Strategy<Value = Value> {
        let leaf = prop_oneof![
            Just(Value::Null),
            any::<bool>().prop_map(Value::from),
            any::<i64>().prop_map(Value::from),
            ".{0,8}".prop_map(Value::from),
        ];
        leaf.prop_recursive(3, 24, 4, |inner| {
            prop_oneof![
                prop::collection::vec(inner.clone(), 0..4).prop_map(Value::from),
                prop::collection::btree_map(".{0,6}", inner, 0..4).prop_map(|map| json!(map)),
            ]
        })
    }

    proptest! {
        #[test]
        fn a_spliced_body_differs_in_its_fields_only(
            mut value in prop::collection::btree_map("[a-z]{1,6}", any_json(), 0..5),
            model in ".{0,12}",
            renamed in ".{0,12}",
            pretty: bool,
        ) {
            value.insert("model".to_owned(), model.into());
            for key in ["stream", "stream_options", "messages", "prompt", "input", "n", "tools", "user"] {
                value.remove(key);
            }
            let mut value = json!(value);
            let body = if pretty { serde_json::to_vec_pretty(&value) } else { serde_json::to_vec(&value) }.unwrap();
            let peek = peek(&body).unwrap();
            let edits = vec![peek.rename_model(&renamed), peek.ask_for_usage(&body).unwrap()];
            let spliced: Value = serde_json::from_slice(&splice(&body, edits)).unwrap();
            value["model"] = renamed.into();
            value["stream_options"] = json!({"include_usage": true});
            prop_assert_eq!(spliced, value);
        }

        #[test]
        fn accepts_only_what_is_json(bytes in prop::collection::vec(any::<u8>(), 0..60), cut in 0usize..40) {
            let valid = br#"{"model":"m","messages":[1,2.5e3,"\u00e9"],"n":3}"#;
            let mut body = valid.to_vec();
            for (at, byte) in bytes.iter().enumerate().take(3) {
                let length = body.len();
                body[(at * 17 + cut) % length] = *byte;
            }
            if peek(&body).is_ok() {
                prop_assert!(serde_json::from_slice::<Value>(&body).is_ok());
            }
            let _ = peek(&bytes);
        }
    }
}
