//! `POST /v1/embeddings`.

use serde::{Deserialize, Serialize};

use super::completion::Prompt;
use super::usage::Usage;

/// A request.
#[derive(Clone, Debug, Deserialize, PartialEq)]
pub struct EmbeddingRequest {
    /// The model's name.
    pub model: String,
    /// What to embed.
    pub input: Prompt,
    /// How vectors are written.
    #[serde(default)]
    pub encoding_format: Option<Encoding>,
    /// Not supported, unless it is the model's own.
    #[serde(default)]
    pub dimensions: Option<u32>,
}

/// How vectors are written.
#[derive(Clone, Copy, Debug, Default, Deserialize, Eq, PartialEq)]
#[serde(rename_all = "lowercase")]
pub enum Encoding {
    /// A list of numbers.
    #[default]
    Float,
    /// Little-endian 32-bit floats in base64.
    Base64,
}

/// An answer.
#[derive(Clone, Debug, Serialize)]
pub struct EmbeddingResponse {
    /// `list`.
    pub object: &'static str,
    /// One for each input.
    pub data: Vec<Embedding>,
    /// The model's name.
    pub model: String,
    /// Token counts.
    pub usage: Usage,
}

/// One vector.
#[derive(Clone, Debug, Serialize)]
pub struct Embedding {
    /// `embedding`.
    pub object: &'static str,
    /// Which input.
    pub index: u32,
    /// The vector.
    pub embedding: Vector,
}

/// A vector as written.
#[derive(Clone, Debug, Serialize)]
#[serde(untagged)]
pub enum Vector {
    /// Numbers.
    Float(Vec<f32>),
    /// Base64.
    Base64(String),
}

impl Vector {
    /// Writes a vector.
    pub fn encode(vector: Vec<f32>, encoding: Encoding) -> Self {
        match encoding {
            Encoding::Float => Self::Float(vector),
            Encoding::Base64 => {
                let bytes: Vec<u8> = vector.iter().flat_map(|x| x.to_le_bytes()).collect();
                Self::Base64(base64(&bytes))
            }
        }
    }
}

/// Base64 with the standard alphabet and padding (RFC 4648, section 4).
fn base64(bytes: &[u8]) -> String {
    const ALPHABET: &[u8; 64] = b"ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/";
    let mut text = String::with_capacity(bytes.len().div_ceil(3) * 4);
    for group in bytes.chunks(3) {
        let byte = |at: usize| u32::from(group.get(at).copied().unwrap_or(0));
        let bits = byte(0) << 16 | byte(1) << 8 | byte(2);
        for digit in 0..4 {
            if digit <= group.len() {
                let sextet = (bits >> (18 - 6 * digit)) & 63;
                text.push(char::from(ALPHABET[sextet as usize]));
            } else {
                text.push('=');
            }
        }
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn base64_as_in_rfc_4648() {
        let check = |text: &str, expect: &str| assert_eq!(base64(text.as_bytes()), expect);
        check("", "");
        check("f", "Zg==");
        check("fo", "Zm8=");
        check("foo", "Zm9v");
        check("foobar", "Zm9vYmFy");
    }
}
