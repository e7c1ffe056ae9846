//! The files of the console, which are part of the program: found by name, served compressed, and kept
//! by browsers until the program is another.

use std::collections::BTreeMap;
use std::io::Write as _;

use axum::response::{IntoResponse as _, Response};
use flate2::Compression;
use flate2::write::GzEncoder;
use http::{HeaderMap, HeaderValue, StatusCode, header};
use pilotage_shell::secret::{KeyHash, hex};

use crate::refuse;

macro_rules! files {
    ($($name:literal),* $(,)?) => {
        &[$(($name, include_str!(concat!("../assets/", $name)))),*]
    };
}

/// Each file's name and text. A test holds the list to the folder.
pub(crate) const FILES: &[(&str, &str)] = files![
    "api.js",
    "app.js",
    "bars.js",
    "chart.css",
    "chart.js",
    "dom.js",
    "format.js",
    "icon.svg",
    "icons.js",
    "index.html",
    "keys.js",
    "layout.css",
    "live.js",
    "login.css",
    "login.html",
    "login.js",
    "pages/live.js",
    "pages/model.js",
    "pages/models.js",
    "pages/overview.js",
    "pages/playground.js",
    "pages/request.js",
    "pages/requests.js",
    "pages/routes.js",
    "pages/rows.js",
    "pages/tenant.js",
    "pages/tenants.js",
    "pages/triage.js",
    "pages/usage.js",
    "parts.css",
    "parts.js",
    "route.js",
    "search.js",
    "shares.js",
    "table.js",
    "theme.css",
    "theme.js",
    "waterfall.js",
];

/// What stands in pages for the version of all files, which is a folder in their addresses.
const VERSION_MARK: &str = "{version}";

/// All files, ready to be sent.
#[derive(Debug)]
pub(crate) struct Assets {
    /// A digest of all of them.
    version: String,
    files: BTreeMap<&'static str, File>,
}

#[derive(Debug)]
struct File {
    kind: &'static str,
    plain: Vec<u8>,
    compressed: Vec<u8>,
    etag: String,
}

impl Assets {
    /// Compresses each file once.
    pub(crate) fn load() -> Self {
        let all: String = FILES.iter().flat_map(|(name, text)| [*name, *text]).collect();
        let version = digest(&all);
        let files = FILES.iter().map(|(name, text)| (*name, File::of(name, text, &version)));
        Self { files: files.collect(), version }
    }

    /// A page: asked for anew each time, so that it names the files of this program.
    pub(crate) fn page(&self, name: &str, headers: &HeaderMap) -> Response {
        self.answer(name, "no-cache", headers)
    }

    /// A file that pages name. One of another version is of another program, and not to be kept.
    pub(crate) fn file(&self, version: &str, name: &str, headers: &HeaderMap) -> Response {
        let keep = "public, max-age=31536000, immutable";
        self.answer(name, if version == self.version { keep } else { "no-store" }, headers)
    }

    fn answer(&self, name: &str, keep: &'static str, headers: &HeaderMap) -> Response {
        let Some(file) = self.files.get(name) else {
            return refuse(
                StatusCode::NOT_FOUND,
                "the console has no such file; begin at /console/",
            );
        };
        let is_same = headers
            .get(header::IF_NONE_MATCH)
            .is_some_and(|known| known.as_bytes() == file.etag.as_bytes());
        let zipped = headers
            .get(header::ACCEPT_ENCODING)
            .and_then(|value| value.to_str().ok())
            .is_some_and(|value| value.split(',').any(|one| one.trim() == "gzip"));
        let mut response = if is_same {
            StatusCode::NOT_MODIFIED.into_response()
        } else if zipped {
            let encoding = [(header::CONTENT_ENCODING, "gzip")];
            (encoding, file.compressed.clone()).into_response()
        } else {
            file.plain.clone().into_response()
        };
        let set = response.headers_mut();
        set.insert(header::CONTENT_TYPE, HeaderValue::from_static(file.kind));
        set.insert(header::CACHE_CONTROL, HeaderValue::from_static(keep));
        set.insert(header::VARY, HeaderValue::from_static("accept-encoding"));
        if let Ok(etag) = HeaderValue::from_str(&file.etag) {
            set.insert(header::ETAG, etag);
        }
        response
    }
}

impl File {
    fn of(name: &str, text: &str, version: &str) -> Self {
        let kind = kind_of(name);
        let is_page = kind.starts_with("text/html");
        let text = if is_page { text.replace(VERSION_MARK, version) } else { text.to_owned() };
        // Weak, because it is the same for both encodings.
        let etag = format!("W/\"{}\"", digest(&text));
        Self { kind, compressed: compress(text.as_bytes()), plain: text.into_bytes(), etag }
    }
}

fn kind_of(name: &str) -> &'static str {
    match name.rsplit_once('.').map(|(_, ending)| ending) {
        Some("html") => "text/html; charset=utf-8",
        Some("css") => "text/css; charset=utf-8",
        Some("js") => "text/javascript; charset=utf-8",
        Some("svg") => "image/svg+xml",
        _ => "text/plain; charset=utf-8",
    }
}

/// The first 64 bits of a text's SHA-256.
fn digest(text: &str) -> String {
    hex(&KeyHash::of(text).bytes()[..8])
}

fn compress(plain: &[u8]) -> Vec<u8> {
    let mut encoder = GzEncoder::new(Vec::new(), Compression::best());
    // Writing to memory does not fail; if it did, an empty answer would show it at once.
    let _ = encoder.write_all(plain);
    encoder.finish().unwrap_or_default()
}

#[cfg(test)]
mod tests {
    use std::fs;
    use std::path::Path;

    use super::*;

    fn below(folder: &Path, before: &str, found: &mut Vec<String>) {
        for entry in fs::read_dir(folder).unwrap() {
            let entry = entry.unwrap();
            let name = format!("{before}{}", entry.file_name().to_str().unwrap());
            if entry.path().is_dir() {
                below(&entry.path(), &format!("{name}/"), found);
            } else {
                found.push(name);
            }
        }
    }

    #[test]
    fn the_list_is_the_folder() {
        let mut found = Vec::new();
        below(&Path::new(env!("CARGO_MANIFEST_DIR")).join("assets"), "", &mut found);
        found.sort();
        let listed: Vec<&str> = FILES.iter().map(|(name, _)| *name).collect();
        assert_eq!(listed, found);
    }

    #[test]
    fn the_page_names_every_script_and_style_so_that_none_waits_for_another() {
        let text = |name: &str| FILES.iter().find(|(known, _)| *known == name).unwrap().1;
        let (index, login) = (text("index.html"), text("login.html"));
        for (name, _) in FILES.iter().filter(|(name, _)| !name.ends_with(".html")) {
            let named = format!("/console/{VERSION_MARK}/{name}\"");
            assert!(index.contains(&named) || login.contains(&named), "{name} is in no page");
        }
    }

    #[test]
    fn nothing_is_fetched_from_elsewhere_or_made_of_text() {
        for (name, text) in FILES {
            for bad in ["innerHTML", "outerHTML", "insertAdjacentHTML", "document.write", "eval("] {
                assert!(!text.contains(bad), "{name} has {bad}");
            }
            let addresses = text.match_indices("://").map(|(at, _)| &text[at.saturating_sub(5)..]);
            for address in addresses {
                // The name of SVG's elements is an address that nobody asks for.
                assert!(address.contains("://www.w3.org/2000/svg"), "{name}: {}", &address[..40]);
            }
        }
    }

    #[test]
    fn files_stay_small() {
        for (name, text) in FILES {
            assert!(text.lines().count() <= 300, "{name}: one page or one part a file");
        }
    }
}
