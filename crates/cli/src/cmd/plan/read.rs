//! From where a model is to what it is: configuration, index and headers, as little of them as answers.

use std::path::Path;

use anyhow::{Context as _, bail};
use pilotage_plan::size::read::safetensors::header;
use pilotage_plan::size::{Config, Gguf, Index, ModelFacts, Partial, Tensors};

use super::fetch::Place;
use crate::exit::Wrong;
use crate::output;

/// Most files of weights whose headers are read over the network unless all are asked for.
const HEADERS_MAX: usize = 8;

/// Bytes asked for first of a GGUF file: enough for small vocabularies.
const GGUF_BEGIN: u64 = 1 << 20;

/// Parts of a GGUF model: more than any is published in.
const PARTS_MAX: u64 = 512;

/// What a folder with `config.json` holds.
pub(super) async fn folder(place: &Place, exact: bool) -> anyhow::Result<ModelFacts> {
    let Some(bytes) = place.whole("config.json").await? else {
        return Err(no_config(place));
    };
    let config = Config::parse(&bytes)?;
    let facts = match tensors(place, exact).await? {
        Some(tensors) => {
            if let Some(percent) = config.excess(&tensors) {
                output::note(&format!(
                    "the files have {percent} % of the parameters that config.json describes; their bytes are planned for"
                ));
            }
            config.facts_with(&tensors)
        }
        None => config.facts(),
    };
    Ok(facts?)
}

/// The tensors of safetensors files, by their headers or by their index.
async fn tensors(place: &Place, exact: bool) -> anyhow::Result<Option<Tensors>> {
    if let Some(bytes) = place.whole("model.safetensors.index.json").await? {
        let index = Index::parse(&bytes)?;
        let files: Vec<&str> = index.files().collect();
        let is_near = matches!(place, Place::Folder(_));
        if let Place::Folder(folder) = place {
            all_or_none(folder, &files)?;
        }
        if exact || is_near || files.len() <= HEADERS_MAX || index.total_bytes().is_none() {
            return headers(place, &files).await.map(|found| found.or_else(|| index.as_tensors()));
        }
        return Ok(index.as_tensors());
    }
    headers(place, &["model.safetensors"]).await
}

/// Refuses a folder that a part of the shards is in: it was not fetched to the end. One without any is planned for
/// by its index.
fn all_or_none(folder: &Path, files: &[&str]) -> Result<(), Wrong> {
    let (there, absent): (Vec<&str>, Vec<&str>) =
        files.iter().partition(|file| folder.join(file).is_file());
    match absent.first() {
        Some(first) if !there.is_empty() => Err(Wrong::new(format!(
            "{} of {} shards are missing from {}, the first is {first}",
            absent.len(),
            files.len(),
            folder.display()
        ))
        .hint("fetch the weights again")),
        _ => Ok(()),
    }
}

/// All headers together; none where one of the files is missing.
async fn headers(place: &Place, files: &[&str]) -> anyhow::Result<Option<Tensors>> {
    let mut all: Option<Tensors> = None;
    for file in files {
        let Some(tensors) = one_header(place, file).await? else { return Ok(None) };
        match &mut all {
            Some(all) => all.merge(&tensors)?,
            None => all = Some(tensors),
        }
    }
    Ok(all)
}

async fn one_header(place: &Place, file: &str) -> anyhow::Result<Option<Tensors>> {
    let mut bytes = Vec::new();
    loop {
        let end = match header(&bytes).with_context(|| file.to_owned())? {
            Partial::Done(tensors) => return Ok(Some(tensors)),
            Partial::Needs { end } => end,
        };
        if more(place, file, &mut bytes, end).await?.is_none() {
            return Ok(None);
        }
    }
}

/// Reads a file on to `end`; gives the file's length where there is such a file.
async fn more(
    place: &Place,
    file: &str,
    bytes: &mut Vec<u8>,
    end: u64,
) -> anyhow::Result<Option<Option<u64>>> {
    let have = bytes.len() as u64;
    let Some(piece) = place.piece(file, have, end).await? else { return Ok(None) };
    if piece.bytes.is_empty() {
        bail!("{file} is cut off after {have} bytes; fetch it again");
    }
    bytes.extend_from_slice(&piece.bytes);
    Ok(Some(piece.total))
}

/// What a GGUF file is, with its other parts.
pub(super) async fn gguf(place: &Place, name: &str) -> anyhow::Result<ModelFacts> {
    let mut first = one_gguf(place, name).await?;
    let Some((_, count)) = first.parts() else { return Ok(first.facts()?) };
    if count > PARTS_MAX {
        bail!("{name} says that it has {count} parts, at most {PARTS_MAX} are read");
    }
    for part in 2..=count {
        let other = part_name(name, part, count).with_context(|| {
            format!("{name} is one of {count} parts, but its name does not say which; name the first: NAME-00001-of-{count:05}.gguf")
        })?;
        let other = one_gguf(place, &other).await?;
        first.merge(&other)?;
    }
    Ok(first.facts()?)
}

async fn one_gguf(place: &Place, name: &str) -> anyhow::Result<Gguf> {
    let mut bytes = Vec::new();
    let (mut end, mut total) = (GGUF_BEGIN, None);
    loop {
        match more(place, name, &mut bytes, end).await? {
            Some(length) => total = length.or(total),
            None => return Err(no_file(place, name)),
        }
        match Gguf::parse(&bytes, total).with_context(|| name.to_owned())? {
            Partial::Done(gguf) => return Ok(gguf),
            Partial::Needs { end: needed } => end = needed,
        }
    }
}

/// The name of another part: `m-00001-of-00004.gguf` gives `m-00003-of-00004.gguf`.
fn part_name(name: &str, part: u64, count: u64) -> Option<String> {
    let first = format!("-00001-of-{count:05}.gguf");
    let stem = name.strip_suffix(&first)?;
    Some(format!("{stem}-{part:05}-of-{count:05}.gguf"))
}

/// The GGUF file of a folder without a configuration, where there is exactly one model.
pub(crate) fn only_gguf(folder: &Path) -> anyhow::Result<Option<String>> {
    let names =
        std::fs::read_dir(folder).with_context(|| format!("cannot read {}", folder.display()))?;
    let names = names.filter_map(|entry| entry.ok()?.file_name().into_string().ok());
    let is_later_part = |name: &str| name.contains("-of-") && !name.contains("-00001-of-");
    // The part of a model that reads images is beside the model.
    let is_model = |name: &String| {
        name.ends_with(".gguf") && !is_later_part(name) && !name.starts_with("mmproj")
    };
    let mut models: Vec<String> = names.filter(is_model).collect();
    models.sort_unstable();
    match models.as_slice() {
        [] => Ok(None),
        [only] => Ok(Some(only.clone())),
        several => Err(Wrong::new(format!("{} has several GGUF files", folder.display()))
            .hint(format!("name one of {}", several.join(", ")))
            .into()),
    }
}

fn no_file(place: &Place, name: &str) -> anyhow::Error {
    let wrong = match place {
        Place::Folder(folder) => Wrong::new(format!("{} has no {name}", folder.display())),
        Place::Remote(remote) => {
            let what = remote.repository.as_deref().unwrap_or(&remote.base);
            Wrong::new(format!("{what} has no {name}, or is not there")).hint("check both names")
        }
    };
    wrong.into()
}

fn no_config(place: &Place) -> anyhow::Error {
    match place {
        Place::Folder(folder) => {
            Wrong::new(format!("{} has no config.json and no GGUF file", folder.display()))
                .hint("name the folder that the weights are in, or a GGUF file")
        }
        Place::Remote(remote) => {
            let what = remote.repository.as_deref().unwrap_or(&remote.base);
            Wrong::new(format!("{what} has no config.json, or is not there")).hint(
                "check its name; of a repository with GGUF files name one: hf:OWNER/REPO/FILE.gguf",
            )
        }
    }
    .into()
}

#[cfg(test)]
mod tests {
    use super::{all_or_none, part_name};

    #[test]
    fn shards_are_all_there_or_none() {
        let folder = tempfile::tempdir().unwrap();
        let check = |expect: Option<&str>| {
            let found = all_or_none(folder.path(), &["a.safetensors", "b.safetensors"]);
            match (found, expect) {
                (Ok(()), None) => {}
                (Err(wrong), Some(part)) => assert!(wrong.to_string().contains(part), "{wrong}"),
                (found, _) => panic!("{found:?}"),
            }
        };
        check(None);
        std::fs::write(folder.path().join("a.safetensors"), "").unwrap();
        check(Some("1 of 2 shards are missing"));
        check(Some("the first is b.safetensors"));
        std::fs::write(folder.path().join("b.safetensors"), "").unwrap();
        check(None);
    }

    #[test]
    fn parts_are_named_after_the_first() {
        let check = |name: &str, part, count, expect: Option<&str>| {
            assert_eq!(part_name(name, part, count).as_deref(), expect);
        };
        check("m-00001-of-00004.gguf", 3, 4, Some("m-00003-of-00004.gguf"));
        check("m-00001-of-00004.gguf", 3, 5, None);
        check("m.gguf", 2, 2, None);
    }
}
