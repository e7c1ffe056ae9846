//! What is in a Hugging Face repository: the commit that a revision is, and its files with their sizes
//! and digests, as the hub's API tells them.
//!
//! `GET /api/models/OWNER/REPO/revision/REVISION?blobs=true` answers `sha`, the commit, and `siblings`, each
//! with `rfilename`, `size`, `blobId` (git's name of the content) and, where the content is not in git
//! itself, `lfs` with `sha256` and `size` (huggingface_hub, src/huggingface_hub/hf_api.py, `ModelInfo`).

use std::collections::BTreeSet;

use pilotage_plan::Digest;
use pilotage_shell::secret::Secret;
use serde::Deserialize;

use super::transfer::{Asker, Cut, FILE_BYTES_MAX, Question};
use super::{Progress, WeightsError, choice, listing};

/// Most bytes of the API's answer.
const ANSWER_BYTES_MAX: usize = 16 << 20;

/// A repository at one commit.
#[derive(Debug)]
pub(super) struct Snapshot {
    pub commit: String,
    pub files: Vec<HubFile>,
}

/// One file of it.
#[derive(Clone, Debug, Eq, PartialEq)]
pub(super) struct HubFile {
    pub path: String,
    pub size_bytes: u64,
    pub check: Check,
}

/// What tells that a file arrived as it is in the repository.
#[derive(Clone, Debug, Eq, PartialEq)]
pub(super) enum Check {
    Sha256(Digest),
    /// Git's name of the content.
    GitBlob(String),
    /// The size, where a mirror tells nothing else.
    Size,
}

/// A repository, and where it is.
pub(super) struct Repository<'a> {
    pub endpoint: &'a str,
    pub owner: &'a str,
    pub repo: &'a str,
    pub revision: Option<&'a str>,
    pub authorization: Option<&'a Secret>,
}

#[derive(Deserialize)]
struct Answer {
    sha: Option<String>,
    #[serde(default)]
    siblings: Vec<Sibling>,
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct Sibling {
    rfilename: String,
    size: Option<u64>,
    blob_id: Option<String>,
    lfs: Option<Lfs>,
}

#[derive(Deserialize)]
struct Lfs {
    sha256: String,
    size: u64,
}

impl Repository<'_> {
    /// The address of a file.
    pub(super) fn file(&self, revision: &str, path: &str) -> String {
        let Self { endpoint, owner, repo, .. } = self;
        format!(
            "{endpoint}/{owner}/{repo}/resolve/{}/{}",
            encode(revision, false),
            encode(path, true)
        )
    }

    /// The revision that was asked for.
    pub(super) fn revision(&self) -> &str {
        self.revision.unwrap_or("main")
    }

    /// What is there now, reduced to what runtimes need.
    pub(super) async fn snapshot(
        &self,
        asker: &Asker,
        source: &str,
        progress: &dyn Progress,
    ) -> Result<Snapshot, WeightsError> {
        let Self { endpoint, owner, repo, .. } = self;
        let revision = encode(self.revision(), false);
        let url = format!("{endpoint}/api/models/{owner}/{repo}/revision/{revision}?blobs=true");
        let question = Question {
            url: &url,
            authorization: self.authorization,
            accept: Some("application/json"),
            ..Question::default()
        };
        let (_, body) =
            asker.read(&question, ANSWER_BYTES_MAX, progress).await.map_err(|cut| match cut {
                Cut::Final(reason) | Cut::Denied(reason, _) => WeightsError::unfit(&source, reason),
                cut => cut.of(&url),
            })?;
        read(&body).map_err(|reason| WeightsError::unfit(&source, reason))
    }
}

/// What the API said, checked: nothing of it is believed that could do harm.
fn read(body: &[u8]) -> Result<Snapshot, String> {
    let answer: Answer = serde_json::from_slice(body).map_err(|error| {
        format!("the hub's answer about the repository makes no sense ({error})")
    })?;
    let is_commit = |sha: &String| sha.len() == 40 && sha.bytes().all(|b| b.is_ascii_hexdigit());
    let commit = answer.sha.filter(is_commit);
    let commit = commit.ok_or("the hub tells no commit; name one after the @")?;
    let paths: Vec<&str> = answer.siblings.iter().map(|file| file.rfilename.as_str()).collect();
    let chosen: BTreeSet<&str> = choice::choose(&paths)?.into_iter().collect();
    if chosen.len() > listing::FILES_MAX {
        return Err(format!("it has more than {} files", listing::FILES_MAX));
    }
    let mut files = Vec::new();
    for sibling in answer.siblings.iter().filter(|file| chosen.contains(file.rfilename.as_str())) {
        files.push(file(sibling)?);
    }
    if files.len() != chosen.len() {
        return Err("the hub lists a file twice".to_owned());
    }
    Ok(Snapshot { commit, files })
}

fn file(sibling: &Sibling) -> Result<HubFile, String> {
    let path = &sibling.rfilename;
    if let Some(reason) = listing::refuse_path(path) {
        return Err(format!("the path {path:?} of a file {reason}"));
    }
    let (size, check) = match (&sibling.lfs, &sibling.blob_id) {
        (Some(lfs), _) => {
            let digest = Digest::from_hex(&lfs.sha256);
            let digest = digest.map_err(|error| format!("the hub's digest of {path}: {error}"))?;
            (Some(lfs.size), Check::Sha256(digest))
        }
        (None, Some(blob)) => (sibling.size, Check::GitBlob(blob.to_ascii_lowercase())),
        (None, None) => (sibling.size, Check::Size),
    };
    let size = size.ok_or_else(|| format!("the hub does not tell the size of {path}"))?;
    if size > FILE_BYTES_MAX {
        return Err(format!("{path} would be larger than {FILE_BYTES_MAX} bytes"));
    }
    Ok(HubFile { path: path.clone(), size_bytes: size, check })
}

/// A part of an address, or several with slashes between them.
pub(super) fn encode(text: &str, slashes: bool) -> String {
    let mut encoded = String::with_capacity(text.len());
    for byte in text.bytes() {
        let plain = byte.is_ascii_alphanumeric() || b"-_.~".contains(&byte);
        if plain || (slashes && byte == b'/') {
            encoded.push(char::from(byte));
        } else {
            encoded.push_str(&format!("%{byte:02X}"));
        }
    }
    encoded
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn answers_are_read_and_not_believed() {
        let commit = "0123456789abcdef0123456789abcdef01234567";
        let sha256 = "ab".repeat(32);
        let weights = format!(
            r#"{{"rfilename": "model.safetensors", "size": 9, "blobId": "x", "lfs": {{"sha256": "{sha256}", "size": 9, "pointerSize": 134}}}}"#
        );
        let answer = |files: &str| format!(r#"{{"sha": "{commit}", "siblings": [{files}]}}"#);
        let config = r#"{"rfilename": "config.json", "size": 2, "blobId": "00Ff"}"#;
        let snapshot = read(answer(&format!("{weights}, {config}")).as_bytes()).unwrap();
        assert_eq!(snapshot.commit, commit);
        let check = Check::Sha256(Digest::from_hex(&sha256).unwrap());
        let path = "model.safetensors".to_owned();
        assert_eq!(snapshot.files[0], HubFile { path, size_bytes: 9, check });
        assert_eq!(snapshot.files[1].check, Check::GitBlob("00ff".to_owned()));

        let check = |body: &str, part: &str| {
            let said = read(body.as_bytes()).unwrap_err();
            assert!(said.contains(part), "{said}");
        };
        check("<html>", "makes no sense");
        check(&answer(&weights).replace(commit, "main"), "tells no commit");
        check(&answer(&format!("{weights}, {weights}")), "twice");
        check(
            &answer(&format!("{weights}, {}", config.replace("2,", "18446744073709551615,"))),
            "larger",
        );
        check(&answer(&format!("{weights}, {}", config.replace("2,", "-1,"))), "makes no sense");
        check(
            &answer(&format!("{weights}, {}", config.replace(r#""size": 2, "#, ""))),
            "the size of",
        );
        check(&answer(&weights.replace("model.s", "../model.s")), "leads out");
        check(&answer(&weights.replace("model.s", "/model.s")), "leads out");
        check(&answer(&weights.replace(&sha256, "ab")), "64 hexadecimal digits");
        check(&answer(""), "no safetensors");
    }

    #[test]
    fn addresses_hold_any_name() {
        assert_eq!(encode("refs/pr/1", false), "refs%2Fpr%2F1");
        assert_eq!(encode("a b/c#?é%.json", true), "a%20b/c%23%3F%C3%A9%25.json");
    }
}
