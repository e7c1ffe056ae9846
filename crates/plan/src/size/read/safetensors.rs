//! safetensors: the index of a model in several files, and the headers that describe every tensor.
//!
//! A header is the file's first 8 bytes and as many again as those say, so a remote file is read by
//! asking for [`HEADER_BEGIN`] bytes and then for what [`header`] still needs. Format:
//! <https://github.com/huggingface/safetensors#format>.

use std::collections::{BTreeMap, BTreeSet};
use std::fmt;

use serde::Deserialize;
use serde::de::{DeserializeSeed, Error as _, IgnoredAny, MapAccess, Visitor};

use super::super::facts::Format;
use super::parameters::product;
use super::tensors::{TENSORS_MAX, Tensor, Tensors};
use super::{Partial, ReadError};

/// Bytes that a first request should ask for: the whole header of most files.
pub const HEADER_BEGIN: u64 = 1 << 20;

/// The limit that the format's own library has.
const HEADER_BYTES_MAX: u64 = 100_000_000;

/// Bytes of an index: a name and a file's name for each tensor.
const INDEX_BYTES_MAX: usize = 256 << 20;

/// Bytes in front of the header that say how long it is.
const LENGTH_BYTES: u64 = 8;

const INDEX: &str = "model.safetensors.index.json";
const HEADER: &str = "the safetensors header";

/// An index: which file each tensor is in.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct Index {
    files: BTreeSet<String>,
    tensors: u64,
    total_bytes: Option<u64>,
}

impl Index {
    /// Reads the index.
    ///
    /// # Errors
    /// What is wrong with it; also a file's name that leads out of the model's folder.
    pub fn parse(bytes: &[u8]) -> Result<Self, ReadError> {
        #[derive(Deserialize)]
        struct Raw {
            #[serde(default)]
            metadata: Option<BTreeMap<String, serde_json::Value>>,
            weight_map: Option<BTreeMap<String, String>>,
        }
        if bytes.len() > INDEX_BYTES_MAX {
            let (bytes, max) = (bytes.len() as u64, INDEX_BYTES_MAX as u64);
            return Err(ReadError::TooLarge { what: INDEX, bytes, max });
        }
        let raw: Raw = serde_json::from_slice(bytes)
            .map_err(|error| ReadError::NotJson { what: INDEX, reason: error.to_string() })?;
        let missing = || ReadError::Missing {
            what: INDEX,
            field: "weight_map".to_owned(),
            fix: "take the index that came with the weights",
        };
        let map = raw.weight_map.filter(|map| !map.is_empty()).ok_or_else(missing)?;
        let tensors = map.len() as u64;
        if tensors > TENSORS_MAX {
            return Err(ReadError::TooLarge { what: INDEX, bytes: tensors, max: TENSORS_MAX });
        }
        let files: BTreeSet<String> = map.into_values().collect();
        if let Some(bad) = files.iter().find(|name| !is_plain(name)) {
            let name: String = bad.chars().take(80).collect();
            let detail = format!("`{name}` is no name of a file beside it");
            return Err(ReadError::Damaged { what: INDEX, detail });
        }
        let total = raw.metadata.as_ref().and_then(|metadata| metadata.get("total_size"));
        // Some tools write the sum as a floating-point number.
        let total_bytes = total.and_then(|total| {
            total
                .as_u64()
                .or_else(|| total.as_f64().filter(|sum| *sum >= 0.0).map(|sum| sum as u64))
        });
        Ok(Self { files, tensors, total_bytes })
    }

    /// The names of the files, in order: their headers say the rest.
    pub fn files(&self) -> impl Iterator<Item = &str> {
        self.files.iter().map(String::as_str)
    }

    /// How many tensors there are.
    pub const fn tensors(&self) -> u64 {
        self.tensors
    }

    /// Bytes of all tensors, if the index says.
    pub const fn total_bytes(&self) -> Option<u64> {
        self.total_bytes
    }

    /// The total as tensors without parts, for a model of which no header was read.
    pub fn as_tensors(&self) -> Option<Tensors> {
        let total = self.total_bytes?;
        Some(Tensors::from_total(Format::Safetensors, self.tensors, total))
    }
}

/// A name without a path.
fn is_plain(name: &str) -> bool {
    !name.is_empty() && !name.contains(['/', '\\', '\0']) && name != ".." && name != "."
}

/// Reads the header at the begin of a file, of which `begin` are the first bytes.
///
/// # Errors
/// What is wrong with it.
pub fn header(begin: &[u8]) -> Result<Partial<Tensors>, ReadError> {
    let Some(length) = begin.first_chunk::<8>() else {
        return Ok(Partial::Needs { end: LENGTH_BYTES });
    };
    let length = u64::from_le_bytes(*length);
    if length > HEADER_BYTES_MAX {
        let what = HEADER;
        return Err(ReadError::TooLarge { what, bytes: length, max: HEADER_BYTES_MAX });
    }
    let end = LENGTH_BYTES + length;
    let Some(text) = begin.get(LENGTH_BYTES as usize..end as usize) else {
        return Ok(Partial::Needs { end });
    };
    let mut found =
        Found { tensors: Tensors::new(Format::Safetensors), end: 0, sum: 0, error: None };
    let mut parser = serde_json::Deserializer::from_slice(text);
    let read = Entries(&mut found).deserialize(&mut parser).and_then(|()| parser.end());
    if let Some(error) = found.error {
        return Err(error);
    }
    read.map_err(|error| ReadError::NotJson { what: HEADER, reason: error.to_string() })?;
    if found.sum != found.end {
        let detail = format!("tensors have {} bytes and end at {}", found.sum, found.end);
        return Err(ReadError::Damaged { what: HEADER, detail });
    }
    Ok(Partial::Done(found.tensors))
}

/// What was read so far.
struct Found {
    tensors: Tensors,
    /// Where the last tensor ends.
    end: u64,
    /// Bytes of all: the format has no holes and no overlaps.
    sum: u64,
    error: Option<ReadError>,
}

#[derive(Deserialize)]
struct Entry {
    dtype: String,
    shape: Vec<u64>,
    data_offsets: [u64; 2],
}

impl Found {
    fn take(&mut self, name: &str, entry: &Entry) -> Result<(), ReadError> {
        let damaged = |detail: String| ReadError::Damaged { what: HEADER, detail };
        let shown: String = name.chars().take(80).collect();
        let bits = bits_of(&entry.dtype).ok_or_else(|| {
            let dtype: String = entry.dtype.chars().take(20).collect();
            damaged(format!("`{shown}` is of type `{dtype}`, which is not known"))
        })?;
        let [begin, end] = entry.data_offsets;
        let elements = product(&entry.shape);
        let bytes = end
            .checked_sub(begin)
            .filter(|bytes| u128::from(elements) * u128::from(bits) == u128::from(*bytes) * 8);
        let Some(bytes) = bytes else {
            return Err(damaged(format!(
                "`{shown}` is at {begin} to {end}, which is not its size"
            )));
        };
        self.end = self.end.max(end);
        self.sum = self.sum.saturating_add(bytes);
        self.tensors.add(&Tensor { name, elements, bytes })
    }
}

/// Reads the entries one by one, so that memory does not grow with their number.
struct Entries<'a>(&'a mut Found);

impl<'de> DeserializeSeed<'de> for Entries<'_> {
    type Value = ();

    fn deserialize<D: serde::Deserializer<'de>>(self, from: D) -> Result<(), D::Error> {
        from.deserialize_map(self)
    }
}

impl<'de> Visitor<'de> for Entries<'_> {
    type Value = ();

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("an object with an entry for each tensor")
    }

    fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<(), A::Error> {
        while let Some(name) = map.next_key::<String>()? {
            if name == "__metadata__" {
                map.next_value::<IgnoredAny>()?;
                continue;
            }
            let entry = map.next_value::<Entry>()?;
            if let Err(error) = self.0.take(&name, &entry) {
                let stop = A::Error::custom(&error);
                self.0.error = Some(error);
                return Err(stop);
            }
        }
        Ok(())
    }
}

/// Bits of an element.
fn bits_of(dtype: &str) -> Option<u64> {
    Some(match dtype {
        "F4" => 4,
        "F6_E2M3" | "F6_E3M2" => 6,
        "BOOL" | "U8" | "I8" | "F8_E4M3" | "F8_E5M2" | "F8_E8M0" | "F8_E4M3FNUZ"
        | "F8_E5M2FNUZ" => 8,
        "U16" | "I16" | "F16" | "BF16" => 16,
        "U32" | "I32" | "F32" => 32,
        "U64" | "I64" | "F64" | "C64" => 64,
        _ => return None,
    })
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn file(text: &str) -> Vec<u8> {
        let mut file = (text.len() as u64).to_le_bytes().to_vec();
        file.extend(text.as_bytes());
        file
    }

    #[test]
    fn a_header_adds_up() {
        let text = r#"{"__metadata__":{"format":"pt"},
            "model.embed_tokens.weight":{"dtype":"BF16","shape":[10,4],"data_offsets":[0,80]},
            "model.layers.0.mlp.up_proj.weight":{"dtype":"F8_E4M3","shape":[8,4],"data_offsets":[80,112]}}"#;
        let whole = file(text);
        let Partial::Done(tensors) = header(&whole).unwrap() else { panic!("it is whole") };
        assert_eq!((tensors.count(), tensors.bytes(), tensors.parameters()), (2, 112, 72));
        for length in 0..whole.len() {
            let expect = if length < 8 { 8 } else { whole.len() as u64 };
            assert_eq!(header(&whole[..length]), Ok(Partial::Needs { end: expect }), "{length}");
        }
    }

    #[test]
    fn what_is_wrong_is_named() {
        let check = |text: &str, expect: &str| {
            let error = header(&file(text)).unwrap_err().to_string();
            assert!(error.contains(expect), "{text}: {error}");
        };
        check("{", "not a JSON object");
        check("[]", "not a JSON object");
        check(r#"{"a":{"dtype":"F7","shape":[1],"data_offsets":[0,1]}}"#, "type `F7`");
        check(r#"{"a":{"dtype":"F32","shape":[2],"data_offsets":[0,4]}}"#, "not its size");
        check(r#"{"a":{"dtype":"F32","shape":[1],"data_offsets":[8,4]}}"#, "not its size");
        check(r#"{"a":{"dtype":"F32","shape":[1],"data_offsets":[4,8]}}"#, "end at 8");
        check(r#"{"a":{"dtype":"F32","shape":[-1],"data_offsets":[0,4]}}"#, "not a JSON object");
        let huge = r#"{"a":{"dtype":"U8","shape":[9223372036854775807,9],"data_offsets":[0,9223372036854775807]}}"#;
        check(huge, "not its size");
        let error = header(&u64::MAX.to_le_bytes()).unwrap_err().to_string();
        assert!(error.contains("at most 100000000"), "{error}");
    }

    #[test]
    fn indexes_name_files_beside_them() {
        let check = |text: &str, expect: Result<u64, &str>| {
            let found = Index::parse(text.as_bytes());
            match expect {
                Ok(total) => assert_eq!(found.unwrap().total_bytes(), Some(total), "{text}"),
                Err(part) => {
                    let error = found.unwrap_err().to_string();
                    assert!(error.contains(part), "{text}: {error}");
                }
            }
        };
        check(r#"{"metadata":{"total_size":7},"weight_map":{"a":"x.safetensors"}}"#, Ok(7));
        check(r#"{"metadata":{"total_size":7.0},"weight_map":{"a":"x.safetensors"}}"#, Ok(7));
        check(r#"{"metadata":{}}"#, Err("`weight_map` is missing"));
        check(r#"{"weight_map":{"a":"../../etc/passwd"}}"#, Err("no name of a file beside it"));
        check(r#"{"weight_map":{"a":3}}"#, Err("not a JSON object"));
    }

    #[test]
    fn a_million_tensors_are_too_many() {
        let entry = r#""a":{"dtype":"U8","shape":[0],"data_offsets":[0,0]},"#;
        let mut text = format!("{{{}", entry.repeat(TENSORS_MAX as usize + 1));
        text.pop();
        text.push('}');
        let error = header(&file(&text)).unwrap_err().to_string();
        assert!(error.contains("at most 1048576"), "{error}");
    }

    proptest! {
        #[test]
        fn nothing_panics(bytes: Vec<u8>) {
            let _ = header(&bytes);
            let _ = Index::parse(&bytes);
        }
    }
}
