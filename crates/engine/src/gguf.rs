//! A look at a weights file before llama.cpp opens it: it aborts the process on some damaged
//! files, and a truncated download deserves a sentence.
//!
//! Format: <https://github.com/ggml-org/ggml/blob/master/docs/gguf.md>, versions 2 and 3.

use std::fs::File;
use std::io::{self, BufReader, Read, Seek as _, SeekFrom};
use std::path::Path;

/// Entries of metadata or tensors; real files have hundreds.
const ENTRIES_MAX: u64 = 1 << 20;

/// Bytes of a name or text in the header; chat templates are the largest, tens of kilobytes.
const TEXT_BYTES_MAX: u64 = 16 << 20;

/// Elements of an array in the header; vocabularies are the largest.
const ARRAY_MAX: u64 = 1 << 26;

/// Why a file cannot be used. Reads as the end of a sentence that begins with its path.
#[derive(Debug, thiserror::Error)]
pub enum GgufError {
    /// The system cannot open or read it.
    #[error("cannot be read: {0}")]
    Io(#[from] io::Error),
    /// There is nothing in it.
    #[error("is empty; fetch it again")]
    Empty,
    /// Another format.
    #[error("is not a GGUF file (it begins with {0:?}); give the path of a .gguf file")]
    NotGguf(String),
    /// A version that this build does not know.
    #[error("is GGUF version {0}; this build reads versions 2 and 3")]
    Version(u32),
    /// Shorter than its own header says.
    #[error("is truncated: it has {has} bytes and its header asks for {needs}; fetch it again")]
    Truncated {
        /// Bytes that are there.
        has: u64,
        /// Bytes that should be.
        needs: u64,
    },
    /// The header contradicts itself.
    #[error("has a damaged header ({0}); fetch it again")]
    Damaged(&'static str),
}

/// Checks that the header is whole and that the tensors it describes are in the file.
///
/// # Errors
/// [`GgufError`].
pub fn check(path: &Path) -> Result<(), GgufError> {
    let file = File::open(path)?;
    let has = file.metadata()?.len();
    if !file.metadata()?.is_file() {
        return Err(GgufError::Io(io::Error::other("it is not a file")));
    }
    if has == 0 {
        return Err(GgufError::Empty);
    }
    let mut header = Header { from: BufReader::new(file), has };
    let mut magic = [0; 4];
    let got = header.from.read(&mut magic)?;
    if &magic[..got] != b"GGUF" {
        return Err(GgufError::NotGguf(String::from_utf8_lossy(&magic[..got]).into_owned()));
    }
    let version = header.u32()?;
    if !(2..=3).contains(&version) {
        return Err(GgufError::Version(version));
    }
    header.check_tensors()
}

struct Header {
    from: BufReader<File>,
    has: u64,
}

impl Header {
    fn check_tensors(&mut self) -> Result<(), GgufError> {
        let tensors = self.count("tensors")?;
        let entries = self.count("metadata entries")?;
        let mut alignment = 32;
        for _ in 0..entries {
            let key = self.text()?;
            let kind = self.u32()?;
            if key == b"general.alignment" && kind == 4 {
                alignment = u64::from(self.u32()?).max(1);
            } else {
                self.skip_value(kind, 0)?;
            }
        }
        let mut end: u64 = 0;
        for _ in 0..tensors {
            end = end.max(self.tensor_end()?);
        }
        let data = self.from.stream_position()?.next_multiple_of(alignment);
        let needs = data.saturating_add(end);
        if needs > self.has {
            return Err(GgufError::Truncated { has: self.has, needs });
        }
        Ok(())
    }

    /// Where a tensor's data ends, relative to the data's begin.
    fn tensor_end(&mut self) -> Result<u64, GgufError> {
        self.text()?;
        let dimensions = self.u32()?;
        if dimensions > 8 {
            return Err(GgufError::Damaged("a tensor has more than 8 dimensions"));
        }
        let mut elements: u64 = 1;
        for _ in 0..dimensions {
            elements = elements.saturating_mul(self.u64()?);
        }
        let kind = self.u32()?;
        let offset = self.u64()?;
        Ok(offset.saturating_add(bytes_of(kind, elements)))
    }

    fn skip_value(&mut self, kind: u32, depth: u32) -> Result<(), GgufError> {
        match kind {
            0 | 1 | 7 => self.skip(1),
            2 | 3 => self.skip(2),
            4..=6 => self.skip(4),
            10..=12 => self.skip(8),
            8 => self.text().map(|_| ()),
            9 if depth < 4 => {
                let inner = self.u32()?;
                let count = self.u64()?;
                if count > ARRAY_MAX {
                    return Err(GgufError::Damaged("an array is impossibly long"));
                }
                for _ in 0..count {
                    self.skip_value(inner, depth + 1)?;
                }
                Ok(())
            }
            _ => Err(GgufError::Damaged("a metadata value of an unknown type")),
        }
    }

    fn count(&mut self, what: &'static str) -> Result<u64, GgufError> {
        let count = self.u64()?;
        if count > ENTRIES_MAX {
            return Err(GgufError::Damaged(what));
        }
        Ok(count)
    }

    fn text(&mut self) -> Result<Vec<u8>, GgufError> {
        let length = self.u64()?;
        if length > TEXT_BYTES_MAX {
            return Err(GgufError::Damaged("a text is impossibly long"));
        }
        let mut text = Vec::new();
        (&mut self.from).take(length).read_to_end(&mut text)?;
        if text.len() as u64 != length {
            return Err(self.cut_short());
        }
        Ok(text)
    }

    fn skip(&mut self, bytes: i64) -> Result<(), GgufError> {
        self.from.seek_relative(bytes)?;
        if self.from.stream_position()? > self.has {
            return Err(self.cut_short());
        }
        Ok(())
    }

    fn u32(&mut self) -> Result<u32, GgufError> {
        let mut bytes = [0; 4];
        self.exact(&mut bytes)?;
        Ok(u32::from_le_bytes(bytes))
    }

    fn u64(&mut self) -> Result<u64, GgufError> {
        let mut bytes = [0; 8];
        self.exact(&mut bytes)?;
        Ok(u64::from_le_bytes(bytes))
    }

    fn exact(&mut self, bytes: &mut [u8]) -> Result<(), GgufError> {
        match self.from.read_exact(bytes) {
            Err(error) if error.kind() == io::ErrorKind::UnexpectedEof => Err(self.cut_short()),
            other => Ok(other?),
        }
    }

    fn cut_short(&mut self) -> GgufError {
        let _ = self.from.seek(SeekFrom::End(0));
        GgufError::Truncated { has: self.has, needs: self.has + 1 }
    }
}

/// Bytes of that many elements of a ggml type; zero for types unknown here, whose tensors are then
/// only checked to begin inside the file. Block sizes from ggml's `type_traits`.
fn bytes_of(kind: u32, elements: u64) -> u64 {
    let (block, bytes) = match kind {
        0 | 26 => (1, 4),
        1 | 25 | 30 => (1, 2),
        24 => (1, 1),
        27 | 28 => (1, 8),
        2 => (32, 18),
        3 => (32, 20),
        6 => (32, 22),
        7 => (32, 24),
        8 => (32, 34),
        9 => (32, 36),
        10 => (256, 84),
        11 => (256, 110),
        12 => (256, 144),
        13 => (256, 176),
        14 => (256, 210),
        15 => (256, 292),
        _ => return 0,
    };
    (elements / block).saturating_mul(bytes)
}

#[cfg(test)]
mod tests {
    use super::*;

    /// One text, one array and one F32 tensor of four elements.
    fn small() -> Vec<u8> {
        let mut file = Vec::new();
        let text = |file: &mut Vec<u8>, text: &str| {
            file.extend((text.len() as u64).to_le_bytes());
            file.extend(text.as_bytes());
        };
        file.extend(b"GGUF");
        file.extend(3_u32.to_le_bytes());
        file.extend(1_u64.to_le_bytes());
        file.extend(2_u64.to_le_bytes());
        text(&mut file, "general.name");
        file.extend(8_u32.to_le_bytes());
        text(&mut file, "tiny");
        text(&mut file, "tokens");
        file.extend(9_u32.to_le_bytes());
        file.extend(8_u32.to_le_bytes());
        file.extend(2_u64.to_le_bytes());
        text(&mut file, "a");
        text(&mut file, "b");
        text(&mut file, "weight");
        file.extend(1_u32.to_le_bytes());
        file.extend(4_u64.to_le_bytes());
        file.extend(0_u32.to_le_bytes());
        file.extend(0_u64.to_le_bytes());
        file.resize(file.len().next_multiple_of(32) + 16, 0);
        file
    }

    fn checked(content: &[u8]) -> Result<(), GgufError> {
        let file = tempfile::NamedTempFile::new().unwrap();
        std::fs::write(file.path(), content).unwrap();
        check(file.path())
    }

    #[test]
    fn a_whole_file_passes_and_every_shorter_one_does_not() {
        let whole = small();
        checked(&whole).unwrap();
        for length in 0..whole.len() {
            let error = checked(&whole[..length]).unwrap_err();
            let expected = matches!(
                (length, &error),
                (0, GgufError::Empty)
                    | (1..4, GgufError::NotGguf(_))
                    | (4.., GgufError::Truncated { .. })
            );
            assert!(expected, "{length}: {error}");
        }
    }

    #[test]
    fn other_files_are_named_for_what_they_are() {
        let check = |content: &[u8], part: &str| {
            let error = checked(content).unwrap_err().to_string();
            assert!(error.contains(part), "{error}");
        };
        check(b"PK\x03\x04 and so on", "not a GGUF");
        check(b"GGUF\x09\0\0\0", "version 9");
        let mut huge = small();
        huge[8..16].copy_from_slice(&u64::MAX.to_le_bytes());
        check(&huge, "damaged");
        assert!(check_missing().contains("cannot be read"));
    }

    fn check_missing() -> String {
        check(Path::new("/nowhere/model.gguf")).unwrap_err().to_string()
    }
}
