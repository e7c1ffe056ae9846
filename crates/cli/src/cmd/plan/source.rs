//! What `MODEL` means: a folder, a file, or where a model is on the network.

use std::path::PathBuf;

use pilotage_plan::WeightsSource;
use pilotage_plan::launch::WEIGHTS;

use crate::exit::Wrong;

/// Where a model is.
#[derive(Clone, Debug, Eq, PartialEq)]
pub(super) enum Source {
    /// A folder on this machine.
    Folder(PathBuf),
    /// A GGUF file on this machine.
    File(PathBuf),
    /// A folder on the network, to which names of files are appended.
    Remote {
        /// Its address, without a slash at the end.
        base: String,
        /// The repository on the hub, where it is one.
        repository: Option<String>,
        /// Its branch, tag or commit; the main branch without.
        revision: Option<String>,
    },
    /// A GGUF file on the network.
    RemoteFile {
        /// Its folder, without a slash at the end.
        base: String,
        /// Its name in it.
        name: String,
        /// The repository on the hub, where it is one.
        repository: Option<String>,
    },
}

impl Source {
    /// Reads what was typed. `endpoint` is the hub's address.
    pub(super) fn parse(text: &str, endpoint: &str) -> Result<Self, Wrong> {
        if ["hf:", "oci:", "pypi:"].iter().any(|scheme| text.starts_with(scheme)) {
            let source = text.parse::<WeightsSource>();
            return Self::of(&source.map_err(|error| Wrong::new(error.to_string()))?, endpoint);
        }
        if text.starts_with("https://") || text.starts_with("http://127.0.0.1:") {
            return Ok(address(text));
        }
        if text.starts_with("http://") {
            return Err(Wrong::new("models are read over https only").hint("write https://"));
        }
        local(text.strip_prefix("file:").unwrap_or(text))
    }

    /// Where the weights of a source are.
    pub(super) fn of(source: &WeightsSource, endpoint: &str) -> Result<Self, Wrong> {
        match source {
            WeightsSource::File { path } => local(path),
            WeightsSource::Url { url } => Ok(address(url)),
            WeightsSource::Hf { owner, repo, revision, path } => {
                hub((owner, repo), revision.as_deref(), path.as_deref(), endpoint).ok_or_else(
                    || {
                        Wrong::new(format!("{source} is no GGUF file"))
                            .hint("write hf:OWNER/REPO, or hf:OWNER/REPO/FILE.gguf")
                    },
                )
            }
            WeightsSource::Oci { .. } | WeightsSource::Pypi { .. } => {
                Err(Wrong::new(format!("what {source} is can be read only where it is"))
                    .hint("fetch it with `pilotage model pull`, and name the path it is at"))
            }
        }
    }

    /// The model's name where nobody gives it one: the last part of where it is, in lower case.
    pub(super) fn name(&self) -> String {
        let last = match self {
            Self::Folder(path) | Self::File(path) => {
                let path = path.canonicalize().unwrap_or_else(|_| path.clone());
                path.file_name().map(|name| name.to_string_lossy().into_owned()).unwrap_or_default()
            }
            Self::Remote { repository: Some(id), .. } => id.clone(),
            Self::Remote { base, .. } => base.clone(),
            Self::RemoteFile { name, .. } => name.clone(),
        };
        let last = last.rsplit('/').next().unwrap_or_default();
        let plain = last.strip_suffix(".gguf").unwrap_or(last).to_lowercase();
        if plain.is_empty() { "model".to_owned() } else { plain }
    }

    /// What stands for the weights in a command: their path where they are here.
    pub(super) fn place(&self) -> String {
        match self {
            Self::Folder(path) | Self::File(path) => path.display().to_string(),
            Self::RemoteFile { name, .. } => name.clone(),
            Self::Remote { .. } => WEIGHTS.to_owned(),
        }
    }

    /// The repository on the hub.
    pub(super) fn repository(&self) -> Option<&str> {
        match self {
            Self::Remote { repository, .. } | Self::RemoteFile { repository, .. } => {
                repository.as_deref()
            }
            _ => None,
        }
    }

    /// The branch, tag or commit of the repository.
    pub(super) fn revision(&self) -> Option<&str> {
        match self {
            Self::Remote { revision, .. } => revision.as_deref(),
            _ => None,
        }
    }
}

fn hub(
    (owner, repo): (&str, &str),
    revision: Option<&str>,
    path: Option<&str>,
    endpoint: &str,
) -> Option<Source> {
    let id = format!("{owner}/{repo}");
    let at = revision.unwrap_or("main").replace('/', "%2F");
    let base = format!("{endpoint}/{id}/resolve/{at}");
    let Some(path) = path else {
        let revision = revision.map(str::to_owned);
        return Some(Source::Remote { base, repository: Some(id), revision });
    };
    let (folder, name) = path.rsplit_once('/').map_or((None, path), |(at, name)| (Some(at), name));
    // What stands in a path of the hub as it is.
    let is_plain = |c: char| c.is_ascii_alphanumeric() || "-_./".contains(c);
    let base = folder.map_or_else(|| base.clone(), |folder| format!("{base}/{folder}"));
    let fits = name.ends_with(".gguf") && path.chars().all(is_plain);
    fits.then(|| Source::RemoteFile { base, name: name.to_owned(), repository: Some(id) })
}

fn address(text: &str) -> Source {
    let text = text.split(['?', '#']).next().unwrap_or(text).trim_end_matches('/');
    let (folder, name) = text.rsplit_once('/').unwrap_or((text, ""));
    if name.ends_with(".gguf") {
        return Source::RemoteFile {
            base: folder.to_owned(),
            name: name.to_owned(),
            repository: None,
        };
    }
    let base = if name == "config.json" { folder } else { text };
    Source::Remote { base: base.to_owned(), repository: None, revision: None }
}

fn local(text: &str) -> Result<Source, Wrong> {
    let path = PathBuf::from(text);
    if path.is_dir() {
        return Ok(Source::Folder(path));
    }
    if path.is_file() {
        let is_config = path.file_name().is_some_and(|name| name == "config.json");
        let folder = path.parent().filter(|_| is_config);
        return Ok(match folder {
            Some(folder) if folder.as_os_str().is_empty() => Source::Folder(PathBuf::from(".")),
            Some(folder) => Source::Folder(folder.to_owned()),
            None => Source::File(path),
        });
    }
    let wrong = Wrong::new(format!("there is no file and no folder `{text}`"));
    let looks_remote = text.split('/').count() == 2 && !text.starts_with(['.', '/', '~']);
    Err(if looks_remote {
        wrong.hint(format!("a repository on the hub is written hf:{text}"))
    } else {
        wrong
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_was_typed_is_understood() {
        let check = |text: &str, expect: Source| {
            assert_eq!(Source::parse(text, "https://hub").unwrap(), expect, "{text}");
        };
        let base = "https://hub/Qwen/Qwen3-8B/resolve/main".to_owned();
        let repository = Some("Qwen/Qwen3-8B".to_owned());
        check("hf:Qwen/Qwen3-8B", Source::Remote { base, repository, revision: None });
        check(
            "hf:a/b@refs%2Fpr%2F1",
            Source::Remote {
                base: "https://hub/a/b/resolve/refs%2Fpr%2F1".to_owned(),
                repository: Some("a/b".to_owned()),
                revision: Some("refs/pr/1".to_owned()),
            },
        );
        check(
            "hf:a/b@v1/m.gguf",
            Source::RemoteFile {
                base: "https://hub/a/b/resolve/v1".to_owned(),
                name: "m.gguf".to_owned(),
                repository: Some("a/b".to_owned()),
            },
        );
        check(
            "hf:a/b/q4/m-00001-of-00002.gguf",
            Source::RemoteFile {
                base: "https://hub/a/b/resolve/main/q4".to_owned(),
                name: "m-00001-of-00002.gguf".to_owned(),
                repository: Some("a/b".to_owned()),
            },
        );
        let base = "https://x.example/m".to_owned();
        check(
            "https://x.example/m/config.json",
            Source::Remote { base: base.clone(), repository: None, revision: None },
        );
        check(
            "https://x.example/m/",
            Source::Remote { base: base.clone(), repository: None, revision: None },
        );
        check(
            "https://x.example/m/a.gguf?download=true",
            Source::RemoteFile { base, name: "a.gguf".to_owned(), repository: None },
        );
    }

    #[test]
    fn what_means_nothing_is_refused() {
        let check = |text: &str, expect: &str| {
            let error = Source::parse(text, "https://hub").unwrap_err().to_string();
            assert!(error.contains(expect), "{text}: {error}");
        };
        check("hf:Qwen", "names no repository");
        check("hf:../secrets", "names no repository");
        check("hf:a/b/c.bin", "is no GGUF file");
        check("oci://h.example/a:v1", "can be read only where it is");
        check("hf:a/b/../../x.gguf", "must not be absolute");
        check("hf:a/b/x?y.gguf", "is no GGUF file");
        check("http://x.example/m", "https only");
        check("Qwen/Qwen3-8B", "there is no file and no folder");
    }

    #[test]
    fn models_have_names() {
        let check = |text: &str, expect: &str| {
            assert_eq!(Source::parse(text, "https://hub").unwrap().name(), expect);
        };
        check("hf:Qwen/Qwen3-8B", "qwen3-8b");
        check("https://x.example/m/A-Q4_K_M.gguf", "a-q4_k_m");
    }
}
