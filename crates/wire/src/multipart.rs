//! Forms with files (`multipart/form-data`, RFC 7578), read just far enough to know which model they
//! ask for. Nothing is copied: the form travels on as it came, or with another name for the model.

use std::ops::Range;

use memchr::memmem;

use crate::openai::error::ApiError;
use crate::peek::Field;

/// Most fields of a form.
pub const FIELDS_MAX: usize = 64;

/// Most bytes of a field's own head.
pub const FIELD_HEAD_BYTES_MAX: usize = 4 << 10;

/// Most characters of a boundary, by RFC 2046.
const BOUNDARY_MAX: usize = 70;

/// A form's fields of interest.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct Form {
    /// The model's name and where it lies.
    pub model: Field<String>,
    /// Bytes of fields that are no files: prompts, options.
    pub text_bytes: usize,
    /// Files.
    pub files: u32,
}

/// Whether a media type is that of a form with files.
pub fn is_form(content_type: &str) -> bool {
    let kind = content_type.split(';').next().unwrap_or_default().trim();
    kind.eq_ignore_ascii_case("multipart/form-data")
}

/// Reads a form.
///
/// # Errors
/// Status 400: no boundary, not a form by it, too many fields, `model` missing or given twice.
pub fn peek(content_type: &str, body: &[u8]) -> Result<Form, ApiError> {
    let boundary = boundary(content_type)
        .ok_or_else(|| wrong("`content-type` names no boundary between the fields"))?;
    let mut cutter = Cutter { body, delimiter: format!("\r\n--{boundary}"), at: 0 };
    cutter.begin()?;
    let (mut model, mut text_bytes, mut files) = (None, 0, 0);
    for _ in 0..=FIELDS_MAX {
        let Some(field) = cutter.next()? else {
            let model = model.ok_or_else(|| {
                wrong("`model` is missing; name the model to use").with_param("model")
            })?;
            return Ok(Form { model, text_bytes, files });
        };
        if field.is_file {
            files += 1;
            continue;
        }
        text_bytes += field.span.len();
        if field.name == "model" {
            if model.is_some() {
                return Err(wrong("`model` is given twice").with_param("model"));
            }
            let value = std::str::from_utf8(&body[field.span.clone()])
                .map_err(|_| wrong("`model` must be a text").with_param("model"))?;
            model = Some(Field { value: value.to_owned(), span: field.span });
        }
    }
    Err(wrong("the form has too many fields"))
}

struct Part {
    name: String,
    is_file: bool,
    /// Where its content lies.
    span: Range<usize>,
}

struct Cutter<'a> {
    body: &'a [u8],
    delimiter: String,
    at: usize,
}

impl Cutter<'_> {
    /// Goes to the first delimiter, at the begin of the body. Text before it, which the standard lets
    /// be there, is what no client sends and readers disagree on.
    fn begin(&mut self) -> Result<(), ApiError> {
        let first = &self.delimiter.as_bytes()[2..];
        if !self.body.starts_with(first) {
            return Err(wrong(
                "the body does not begin with the boundary that `content-type` names",
            ));
        }
        self.at = first.len();
        Ok(())
    }

    fn next(&mut self) -> Result<Option<Part>, ApiError> {
        let rest = self.body.get(self.at..).unwrap_or_default();
        if rest.starts_with(b"--") {
            return Ok(None);
        }
        if !rest.starts_with(b"\r\n") {
            return Err(broken());
        }
        let head = rest.get(2..).unwrap_or_default();
        let within = &head[..head.len().min(FIELD_HEAD_BYTES_MAX)];
        let end = memmem::find(within, b"\r\n\r\n").ok_or_else(broken)?;
        let (name, is_file) = disposition(&head[..end]).ok_or_else(broken)?;
        let begin = self.at + 2 + end + 4;
        let length = memmem::find(&self.body[begin..], self.delimiter.as_bytes());
        let content = begin..begin + length.ok_or_else(broken)?;
        self.at = content.end + self.delimiter.len();
        Ok(Some(Part { name, is_file, span: content }))
    }
}

/// A field's name, and whether it is a file, from its head.
fn disposition(head: &[u8]) -> Option<(String, bool)> {
    let head = std::str::from_utf8(head).ok()?;
    let mut found = None;
    for line in head.split("\r\n") {
        let (name, value) = line.split_once(':')?;
        if !name.eq_ignore_ascii_case("content-disposition") {
            continue;
        }
        if found.is_some() {
            return None;
        }
        let rest = value.trim().strip_prefix("form-data")?;
        found = Some((
            parameter(rest, "name")?,
            parameter(rest, "filename").is_some() || parameter(rest, "filename*").is_some(),
        ));
    }
    found
}

fn boundary(content_type: &str) -> Option<String> {
    let (_, rest) = content_type.split_once(';')?;
    let boundary = parameter(&format!(";{rest}"), "boundary")?;
    let fits = !boundary.is_empty() && boundary.len() <= BOUNDARY_MAX;
    (fits && boundary.bytes().all(|byte| byte.is_ascii_graphic() || byte == b' '))
        .then_some(boundary)
}

/// The value of a parameter in `; a=b; c="d"`.
fn parameter(mut rest: &str, wanted: &str) -> Option<String> {
    loop {
        rest = rest.trim_start().strip_prefix(';')?.trim_start();
        let (name, value) = rest.split_once('=')?;
        let (value, after) = match value.strip_prefix('"') {
            Some(quoted) => unquote(quoted)?,
            None => {
                let end = value.find(';').unwrap_or(value.len());
                (value[..end].trim_end().to_owned(), &value[end..])
            }
        };
        if name.trim().eq_ignore_ascii_case(wanted) {
            return Some(value);
        }
        rest = after;
    }
}

/// A quoted text without its quotes, and what comes after it.
fn unquote(quoted: &str) -> Option<(String, &str)> {
    let mut value = String::new();
    let mut chars = quoted.char_indices();
    while let Some((at, one)) = chars.next() {
        match one {
            '"' => return Some((value, &quoted[at + 1..])),
            '\\' => value.push(chars.next()?.1),
            one => value.push(one),
        }
    }
    None
}

fn wrong(message: &str) -> ApiError {
    ApiError::invalid_request(message)
}

fn broken() -> ApiError {
    wrong("the body is not valid `multipart/form-data`")
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    const KIND: &str = "multipart/form-data; boundary=xYz";

    fn form(fields: &[(&str, &str)]) -> String {
        let mut body = String::new();
        for (head, content) in fields {
            body +=
                &format!("--xYz\r\nContent-Disposition: form-data; {head}\r\n\r\n{content}\r\n");
        }
        body + "--xYz--\r\n"
    }

    #[test]
    fn the_model_is_found_between_files() {
        let body = form(&[
            ("name=\"file\"; filename=\"a;b.wav\"\r\nContent-Type: audio/wav", "\r\n--xY\0\r\n"),
            ("name=\"prompt\"", "héllo"),
            ("name=\"model\"", "whisper"),
        ]);
        let found = peek(KIND, body.as_bytes()).unwrap();
        assert_eq!(found.model.value, "whisper");
        assert_eq!(&body[found.model.span.clone()], "whisper");
        assert_eq!((found.files, found.text_bytes), (1, "héllowhisper".len()));
        let quoted = "Multipart/Form-Data; charset=utf-8; boundary=\"xYz\"";
        assert!(is_form(quoted));
        assert_eq!(peek(quoted, body.as_bytes()).unwrap(), found);
    }

    #[test]
    fn what_is_no_form_is_refused() {
        let check = |kind: &str, body: &str, part: &str| {
            let error = peek(kind, body.as_bytes()).unwrap_err();
            assert!(error.status == 400 && error.message.contains(part), "{body:?}: {error}");
        };
        check("multipart/form-data", "", "boundary");
        check("multipart/form-data; boundary=", "", "boundary");
        check(KIND, "", "begin with");
        check(KIND, "--xYz", "not valid");
        check(KIND, "--xYz--\r\n", "missing");
        check(KIND, &form(&[("name=\"a\"", "b")]), "missing");
        check(KIND, &form(&[("name=\"model\"", "a"), ("name=\"model\"", "b")]), "twice");
        check(KIND, &form(&[("name=\"model", "a")]), "not valid");
        check(
            KIND,
            &form(&[("name=a\r\nContent-Disposition: form-data; name=model", "a")]),
            "not valid",
        );
        check(KIND, &form(&[("name=\"a\"", "b"); 65]), "too many");
        check(KIND, "--xYz\r\nContent-Disposition: form-data; name=model\r\n\r\nm", "not valid");
        let long = format!("name=\"{}\"", "a".repeat(FIELD_HEAD_BYTES_MAX));
        check(KIND, &form(&[(&long, "b")]), "not valid");
        assert!(!is_form("application/json"));
    }

    proptest! {
        #[test]
        fn no_bytes_panic(body in prop::collection::vec(any::<u8>(), 0..80), kind in ".{0,20}") {
            let _ = peek(&format!("multipart/form-data; boundary={kind}"), &body);
            let mut begun = b"--xYz\r\n".to_vec();
            begun.extend(body);
            let _ = peek(KIND, &begun);
        }
    }
}
