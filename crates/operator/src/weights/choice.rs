//! Which files of a repository runtimes need: one set of weights in a form that only holds numbers, and
//! what describes model and tokenizer. Never what runs code when it is loaded.

use std::collections::BTreeSet;

/// Endings of pickles, which run code when they are loaded.
const PICKLES: [&str; 7] = [".bin", ".pt", ".pth", ".ckpt", ".pkl", ".pickle", ".joblib"];

/// Endings of what describes model and tokenizer.
const DESCRIPTIONS: [&str; 5] = [".json", ".jinja", ".model", ".txt", ".tiktoken"];

/// Folders that hold the same weights for other software, by the names that publishers use.
const OTHER_FORMS: [&str; 8] =
    ["original", "metal", "onnx", "openvino", "coreml", "flax", "tf", "gguf"];

/// What the signature of a folder is made over.
pub(super) const SUMS: &str = "SHA256SUMS";

/// The signature.
pub(super) const SUMS_SIGNATURE: &str = "SHA256SUMS.sig";

/// Names shown of what there is.
const SHOWN: usize = 5;

/// The files to fetch, of all there are.
///
/// # Errors
/// There are no weights that could be used; what to do instead.
pub(super) fn choose<'a>(paths: &[&'a str]) -> Result<Vec<&'a str>, String> {
    let all: BTreeSet<&str> = paths.iter().copied().filter(|path| !is_other_form(path)).collect();
    let weights: Vec<&str> = all.iter().copied().filter(|path| is_weights(path, &all)).collect();
    if weights.is_empty() {
        return Err(without_weights(paths));
    }
    let describes = |path: &&str| {
        let signature = [SUMS, SUMS_SIGNATURE].contains(path);
        signature || DESCRIPTIONS.iter().any(|kind| path.ends_with(kind))
    };
    let described = all.iter().copied().filter(describes);
    Ok(weights.iter().copied().chain(described).collect())
}

/// Whether loading a file runs code that is in it.
pub(super) fn is_pickle(path: &str) -> bool {
    let path = path.to_ascii_lowercase();
    PICKLES.iter().any(|kind| path.ends_with(kind))
}

fn is_other_form(path: &str) -> bool {
    path.split_once('/').is_some_and(|(folder, _)| OTHER_FORMS.contains(&folder))
}

/// Mistral's own form and half-precision variants often lie beside the same weights in the usual form.
fn is_weights(path: &str, all: &BTreeSet<&str>) -> bool {
    let Some(stem) = path.strip_suffix(".safetensors") else { return false };
    if let Some(plain) = stem.strip_suffix(".fp16") {
        return !all.contains(format!("{plain}.safetensors").as_str());
    }
    let usual = |path: &&str| {
        path.ends_with(".safetensors") && path.starts_with("model") && !path.contains('/')
    };
    !(stem.starts_with("consolidated") && all.iter().any(usual))
}

fn without_weights(paths: &[&str]) -> String {
    let mut ggufs = paths.iter().filter(|path| path.ends_with(".gguf"));
    let shown: Vec<&str> = ggufs.by_ref().copied().take(SHOWN).collect();
    if !shown.is_empty() {
        let more = if ggufs.next().is_some() { ", …" } else { "" };
        return format!(
            "it holds several forms of one model for llama.cpp; name the file, one of {}{more}",
            shown.join(", ")
        );
    }
    match paths.iter().find(|path| is_pickle(path)) {
        Some(pickle) => format!(
            "its weights are pickles ({pickle}), which run code when they are loaded; use a repository or revision with safetensors"
        ),
        None => "it holds no safetensors; name a file of it, or use another repository".to_owned(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn check(paths: &str, expect: &str) {
        let paths: Vec<&str> = paths.split(' ').collect();
        let mut chosen = choose(&paths).unwrap();
        chosen.sort_unstable();
        let mut expect: Vec<&str> = expect.split(' ').collect();
        expect.sort_unstable();
        assert_eq!(chosen, expect);
    }

    #[test]
    fn one_set_of_weights_and_what_describes_it_is_chosen() {
        check(
            ".gitattributes LICENSE README.md config.json generation_config.json merges.txt \
             model.safetensors tokenizer.json vocab.json pytorch_model.bin tf_model.h5",
            "config.json generation_config.json merges.txt model.safetensors tokenizer.json vocab.json",
        );
        check(
            "config.json consolidated.safetensors model-00001-of-00002.safetensors \
             model-00002-of-00002.safetensors model.safetensors.index.json tokenizer.model.v3 \
             tokenizer.model tekken.json chat_template.jinja modeling_x.py",
            "config.json model-00001-of-00002.safetensors model-00002-of-00002.safetensors \
             model.safetensors.index.json tokenizer.model tekken.json chat_template.jinja",
        );
        check(
            "params.json consolidated.safetensors tekken.json",
            "params.json consolidated.safetensors tekken.json",
        );
        check(
            "config.json model.safetensors metal/model.bin original/model.safetensors \
             original/config.json onnx/model.onnx 1_Pooling/config.json 2_Dense/model.safetensors",
            "config.json model.safetensors 1_Pooling/config.json 2_Dense/model.safetensors",
        );
        check(
            "unet/diffusion.safetensors unet/diffusion.fp16.safetensors vae/x.fp16.safetensors SHA256SUMS \
             SHA256SUMS.sig",
            "unet/diffusion.safetensors vae/x.fp16.safetensors SHA256SUMS SHA256SUMS.sig",
        );
        check(
            "adapter_config.json adapter_model.safetensors",
            "adapter_config.json adapter_model.safetensors",
        );
    }

    #[test]
    fn repositories_without_usable_weights_say_what_to_do() {
        let check = |paths: &str, part: &str| {
            let paths: Vec<&str> = paths.split(' ').collect();
            let said = choose(&paths).unwrap_err();
            assert!(said.contains(part), "{said}");
        };
        check("config.json pytorch_model.bin", "pickles (pytorch_model.bin)");
        check("config.json model.PTH", "pickles (model.PTH)");
        check("a-Q4_K_M.gguf a-Q8_0.gguf README.md", "one of a-Q4_K_M.gguf, a-Q8_0.gguf");
        check("a.gguf b.gguf c.gguf d.gguf e.gguf f.gguf", "e.gguf, …");
        check("README.md", "no safetensors");
    }
}
