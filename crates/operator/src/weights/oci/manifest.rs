//! What an artifact is made of: the layers of its manifest, and which files each of them holds.
//!
//! | Made by | A layer is | Named by |
//! |---|---|---|
//! | ModelPack (`vnd.cncf.model.*`), modctl | a file (`.raw`) or a tar | `org.cncf.model.filepath` |
//! | KitOps (`vnd.kitops.modelkit.*`) | a tar | its members |
//! | Docker (`vnd.docker.ai.*`) | a file, or a tar of descriptions | `org.cncf.model.filepath` |
//! | Ollama (`vnd.ollama.image.*`) | a GGUF file | nothing |
//! | ORAS | a file, or a tar where `io.deis.oras.content.unpack` says so | `org.opencontainers.image.title` |
//!
//! Media types and annotations are those of model-spec docs/spec.md and docs/annotations.md, kitops
//! pkg/lib/constants and Docker's model-runner pkg/distribution/types.

use std::collections::BTreeMap;

use pilotage_plan::Digest;
use serde::Deserialize;

use crate::weights::listing;
use crate::weights::transfer::FILE_BYTES_MAX;

/// Media types of manifests that are understood.
pub(super) const ACCEPT: &str = "application/vnd.oci.image.manifest.v1+json, \
    application/vnd.docker.distribution.manifest.v2+json, application/vnd.oci.image.index.v1+json";

/// Most bytes of a manifest, as the distribution specification suggests.
pub(super) const MANIFEST_BYTES_MAX: usize = 4 << 20;

/// Most layers.
const LAYERS_MAX: usize = 4096;

const FILE_PATH: &str = "org.cncf.model.filepath";
const TITLE: &str = "org.opencontainers.image.title";
const UNPACK: &str = "io.deis.oras.content.unpack";

/// Parts of media types whose layers no runtime needs.
const LEFT_OUT: [&str; 10] = [
    ".model.doc.",
    ".model.dataset.",
    ".model.code.",
    ".modelkit.docs.",
    ".modelkit.dataset.",
    ".modelkit.code.",
    ".modelkit.prompt.",
    "license",
    ".ollama.image.params",
    ".ollama.image.template",
];

/// Layers of images in general, which ORAS gives to plain files, too.
const GENERAL: [&str; 4] = [
    "application/vnd.oci.image.layer.v1.tar",
    "application/vnd.oci.image.layer.v1.tar+gzip",
    "application/vnd.docker.image.rootfs.diff.tar",
    "application/vnd.docker.image.rootfs.diff.tar.gzip",
];

/// Types without a name of their own, and the name they get.
const NAMED: [(&str, &str); 4] = [
    ("application/vnd.docker.ai.gguf", "model.gguf"),
    ("application/vnd.docker.ai.mmproj", "mmproj.gguf"),
    ("application/vnd.docker.ai.chat.template", "chat_template.jinja"),
    ("application/vnd.ollama.image.model", "model.gguf"),
];

/// A manifest.
#[derive(Debug)]
pub(super) enum Manifest {
    /// What the artifact is made of.
    Layers(Vec<Layer>),
    /// It is another one.
    See(Digest),
}

/// One layer that is needed.
#[derive(Clone, Debug, Eq, PartialEq)]
pub(in crate::weights) struct Layer {
    pub digest: Digest,
    pub size_bytes: u64,
    pub holds: Holds,
}

/// What is in a layer.
#[derive(Clone, Debug, Eq, PartialEq)]
pub(in crate::weights) enum Holds {
    /// One file, at this path.
    File(String),
    /// Files.
    Tar {
        /// Whether it is compressed.
        gzip: bool,
    },
}

#[derive(Deserialize)]
struct Written {
    #[serde(default)]
    layers: Vec<Descriptor>,
    #[serde(default)]
    manifests: Vec<Descriptor>,
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct Descriptor {
    #[serde(default)]
    media_type: String,
    digest: String,
    size: u64,
    #[serde(default)]
    annotations: Option<BTreeMap<String, String>>,
}

/// Reads a manifest. Nothing of it is believed that could do harm.
pub(super) fn read(body: &[u8]) -> Result<Manifest, String> {
    let written: Written = serde_json::from_slice(body)
        .map_err(|error| format!("the artifact's manifest makes no sense ({error})"))?;
    match written.manifests.as_slice() {
        [] => {}
        [only] => return Ok(Manifest::See(digest(only)?)),
        _ => return Err("the tag names several artifacts; name one by its digest".to_owned()),
    }
    if written.layers.len() > LAYERS_MAX {
        return Err(format!("the artifact has more than {LAYERS_MAX} layers"));
    }
    let mut layers = Vec::new();
    for descriptor in &written.layers {
        layers.extend(layer(descriptor)?);
    }
    if layers.is_empty() {
        return Err("the artifact holds no model".to_owned());
    }
    Ok(Manifest::Layers(layers))
}

fn layer(descriptor: &Descriptor) -> Result<Option<Layer>, String> {
    let digest = digest(descriptor)?;
    if descriptor.size > FILE_BYTES_MAX {
        return Err(format!("a layer would be larger than {FILE_BYTES_MAX} bytes"));
    }
    let holds = holds(descriptor)?;
    if let Some(Holds::File(path)) = &holds
        && let Some(reason) = listing::refuse_path(path)
    {
        return Err(format!("the path {path:?} of a layer {reason}"));
    }
    Ok(holds.map(|holds| Layer { digest, size_bytes: descriptor.size, holds }))
}

fn holds(descriptor: &Descriptor) -> Result<Option<Holds>, String> {
    let kind = descriptor.media_type.as_str();
    let noted = |key| descriptor.annotations.as_ref().and_then(|notes| notes.get(key));
    if LEFT_OUT.iter().any(|part| kind.contains(part)) {
        return Ok(None);
    }
    let name = noted(FILE_PATH).or_else(|| noted(TITLE)).cloned();
    let unpack = noted(UNPACK).is_some_and(|unpack| unpack == "true");
    let plain = GENERAL.contains(&kind) && noted(TITLE).is_some() && !unpack;
    let is_tar = kind.ends_with(".tar")
        || kind.contains(".tar+")
        || kind.contains(".tar.")
        || kind.ends_with("+tar");
    if is_tar && !plain {
        if kind.ends_with("zstd") {
            return Err("a layer is packed with zstd; pack it with gzip, or not at all".to_owned());
        }
        return Ok(Some(Holds::Tar { gzip: kind.ends_with("gzip") }));
    }
    let given = || {
        NAMED.iter().find(|(named, _)| kind.starts_with(named)).map(|(_, name)| (*name).to_owned())
    };
    let name = name.or_else(given);
    let name = name.ok_or_else(|| format!("a layer of type {kind:?} says not which file it is"))?;
    Ok(Some(Holds::File(name.strip_prefix("./").unwrap_or(&name).to_owned())))
}

fn digest(descriptor: &Descriptor) -> Result<Digest, String> {
    descriptor.digest.parse().map_err(|error| format!("a layer's digest: {error}"))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn one(kind: &str, notes: &[(&str, &str)]) -> Result<Option<Holds>, String> {
        let annotations =
            notes.iter().map(|(key, value)| ((*key).to_owned(), (*value).to_owned())).collect();
        holds(&Descriptor {
            media_type: kind.to_owned(),
            digest: String::new(),
            size: 1,
            annotations: Some(annotations),
        })
    }

    #[test]
    fn layers_of_all_makers_are_understood() {
        let file = |name: &str| Ok(Some(Holds::File(name.to_owned())));
        let tar = |gzip| Ok(Some(Holds::Tar { gzip }));
        let check = |kind: &str, notes: &[(&str, &str)], expect: Result<Option<Holds>, String>| {
            assert_eq!(one(kind, notes), expect, "{kind}");
        };
        let path = [(FILE_PATH, "a/model.safetensors")];
        let title = [(TITLE, "model.gguf")];
        check("application/vnd.cncf.model.weight.v1.raw", &path, file("a/model.safetensors"));
        check("application/vnd.cncf.model.weight.v1.tar", &path, tar(false));
        check("application/vnd.cncf.model.weight.config.v1.tar+gzip", &path, tar(true));
        check("application/vnd.cncf.model.doc.v1.raw", &path, Ok(None));
        check("application/vnd.kitops.modelkit.model.v1.tar+gzip", &[], tar(true));
        check("application/vnd.kitops.modelkit.modelpart.v1.tar", &[], tar(false));
        check("application/vnd.kitops.modelkit.model.v1+tar", &[], tar(false));
        check("application/vnd.kitops.modelkit.dataset.v1.tar+gzip", &[], Ok(None));
        check("application/vnd.docker.ai.gguf.v3", &[], file("model.gguf"));
        check("application/vnd.docker.ai.gguf.v3", &[(FILE_PATH, "q.gguf")], file("q.gguf"));
        check("application/vnd.docker.ai.vllm.config.tar", &[], tar(false));
        check("application/vnd.docker.ai.license", &[], Ok(None));
        check("application/vnd.ollama.image.model", &[], file("model.gguf"));
        check("application/vnd.ollama.image.template", &[], Ok(None));
        check("application/vnd.oci.image.layer.v1.tar", &title, file("model.gguf"));
        check("application/vnd.oci.image.layer.v1.tar+gzip", &[], tar(true));
        check(
            "application/vnd.oci.image.layer.v1.tar+gzip",
            &[(TITLE, "d"), (UNPACK, "true")],
            tar(true),
        );
        check("application/vnd.docker.image.rootfs.diff.tar.gzip", &[], tar(true));
        check("application/octet-stream", &title, file("model.gguf"));
        assert!(one("application/octet-stream", &[]).unwrap_err().contains("which file"));
        assert!(
            one("application/vnd.cncf.model.weight.v1.tar+zstd", &path)
                .unwrap_err()
                .contains("zstd")
        );
    }

    #[test]
    fn manifests_are_not_believed() {
        let digest = format!("sha256:{}", "ab".repeat(32));
        let layer = format!(
            r#"{{"mediaType": "x", "digest": "{digest}", "size": 1, "annotations": {{"{TITLE}": "a"}}}}"#
        );
        let check = |body: String, part: &str| {
            let said = read(body.as_bytes()).unwrap_err();
            assert!(said.contains(part), "{said}");
        };
        let layers = |layers: &str| format!(r#"{{"layers": [{layers}]}}"#);
        assert!(
            matches!(read(layers(&layer).as_bytes()), Ok(Manifest::Layers(one)) if one.len() == 1)
        );
        let index = format!(r#"{{"manifests": [{layer}]}}"#);
        assert!(matches!(read(index.as_bytes()), Ok(Manifest::See(_))));
        check(format!(r#"{{"manifests": [{layer}, {layer}]}}"#), "several artifacts");
        check("[".to_owned(), "makes no sense");
        check(layers(""), "no model");
        check(layers(&layer.replace(": 1", ": 9223372036854775807")), "larger");
        check(layers(&layer.replace(r#""a""#, r#""../a""#)), "leads out");
        check(layers(&layer.replace("sha256", "sha512")), "sha256");
        check(layers(&vec![layer; LAYERS_MAX + 1].join(",")), "more than");
    }
}
