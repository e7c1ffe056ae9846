//! Images, audio, video and files in a body: how many there are, how large, and which addresses they
//! name. Found without building a tree, and without an allocation where there are none.
//!
//! Engines differ in how a part may be written (`type` and its member, the member alone, a plain
//! address in place of an object), so every member of a part counts that could name an address. A
//! member that is unknown is taken for an address: who checks addresses refuses what is none.

use std::fmt;

use memchr::{memchr, memchr_iter, memmem};
use serde::de::{DeserializeSeed, Deserializer, IgnoredAny, MapAccess, SeqAccess, Visitor};

/// Tokens of an image: one of 1024×1024 pixels at OpenAI's high detail, four tiles of 170 and 85
/// more. Open models take 256 to about 1300 for it.
pub const IMAGE_TOKENS: u32 = 4 * 170 + 85;

/// Tokens of a second of audio: Qwen2-Audio makes one of each 40 ms.
pub const AUDIO_TOKENS_PER_SECOND: u32 = 25;

/// Bytes of a second of audio, taken for MP3 at 128 kbit/s; only an engine decodes it.
pub const AUDIO_BYTES_PER_SECOND: usize = 16_000;

/// Seconds of audio behind an address, whose size nobody here knows.
pub const AUDIO_SECONDS_UNKNOWN: u32 = 30;

/// Frames that are looked at of a video, as in vLLM's loader.
pub const VIDEO_FRAMES: u32 = 32;

/// Tokens of a video's frame: 448×448 pixels in patches of 28×28, as Qwen2-VL cuts them.
pub const VIDEO_FRAME_TOKENS: u32 = 256;

/// What a body holds besides text.
#[derive(Clone, Debug, Default, Eq, PartialEq)]
pub struct Media {
    /// Images.
    pub images: u32,
    /// Pieces of audio.
    pub audios: u32,
    /// Videos.
    pub videos: u32,
    /// Files, and what names an address and is none of the others.
    pub files: u32,
    /// Bytes of images, audio and video that are in the body itself, as they are written there.
    pub data_bytes: usize,
    /// Those of the largest, files included.
    pub largest_bytes: usize,
    /// Those of audio.
    pub audio_bytes: usize,
    /// Addresses that an engine would fetch from, as they are written.
    pub urls: Vec<String>,
}

/// What a part is.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
enum Kind {
    Image,
    Audio,
    Video,
    File,
}

impl Media {
    /// Parts of all kinds.
    pub const fn parts(&self) -> u32 {
        self.images
            .saturating_add(self.audios)
            .saturating_add(self.videos)
            .saturating_add(self.files)
    }

    /// Tokens that an engine makes of images, audio and video, by estimate. Files count as text.
    pub fn tokens(&self) -> u32 {
        let seconds = u32::try_from(self.audio_bytes / AUDIO_BYTES_PER_SECOND).unwrap_or(u32::MAX);
        let unknown = if self.audio_bytes == 0 { self.audios } else { 0 };
        let seconds = seconds.saturating_add(unknown.saturating_mul(AUDIO_SECONDS_UNKNOWN));
        let images = self.images.saturating_mul(IMAGE_TOKENS);
        let videos = self.videos.saturating_mul(VIDEO_FRAMES * VIDEO_FRAME_TOKENS);
        images
            .saturating_add(videos)
            .saturating_add(seconds.saturating_mul(AUDIO_TOKENS_PER_SECOND))
    }

    /// Counts the parts of a conversation's messages, JSON that is known to be valid.
    pub fn add_messages(&mut self, json: &str) {
        self.add(json, Place::Messages);
    }

    /// Counts the parts of an input, a query or documents.
    pub fn add_parts(&mut self, json: &str) {
        self.add(json, Place::Parts);
    }

    /// Counts what the members of a whole body name, for an endpoint whose bodies have no contents:
    /// audio and images. Only members count whose name speaks of what they hold.
    pub fn add_members(&mut self, json: &str) {
        self.add(json, Place::Members);
    }

    fn add(&mut self, json: &str, place: Place) {
        // Elsewhere than in a conversation a part may lie in the list itself.
        let nested = place != Place::Messages || is_nested(json.as_bytes());
        if !nested || !names_media(json) {
            return;
        }
        let mut from = serde_json::Deserializer::from_str(json);
        // What is too deep to be read here is too deep for the body to have been read.
        let _ = Walk { media: self, place }.deserialize(&mut from);
    }

    fn count(&mut self, kind: Kind, bytes: usize) {
        let counter = match kind {
            Kind::Image => &mut self.images,
            Kind::Audio => &mut self.audios,
            Kind::Video => &mut self.videos,
            Kind::File => &mut self.files,
        };
        *counter = counter.saturating_add(1);
        self.largest_bytes = self.largest_bytes.max(bytes);
        if kind != Kind::File {
            self.data_bytes += bytes;
        }
        if kind == Kind::Audio {
            self.audio_bytes += bytes;
        }
    }
}

/// Whether messages can be anything but a list of flat objects: a part is an object in one of them, or
/// in a list in one. Most conversations are all text, and have no brackets but the first.
fn is_nested(json: &[u8]) -> bool {
    let flat = json.first() == Some(&b'[') && memchr(b'[', &json[1..]).is_none();
    let is_value = |at: usize| json[..at].trim_ascii_end().last() == Some(&b':');
    !flat || memchr_iter(b'{', json).any(is_value)
}

/// Whether a part can be in there: all their members have one of these in their names, and a name
/// can only be hidden behind `\u`.
fn names_media(json: &str) -> bool {
    const NEEDLES: [&str; 6] = ["image", "audio", "video", "file", "url", "\\u"];
    NEEDLES.iter().any(|needle| memmem::find(json.as_bytes(), needle.as_bytes()).is_some())
}

/// Where in a body a value is.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
enum Place {
    /// A list of messages.
    Messages,
    /// One of them.
    Message,
    /// A content: a text, a part, or a list of parts.
    Parts,
    /// A body without any.
    Members,
}

/// What a part's members say together.
#[derive(Debug, Default)]
struct Found {
    kind: Option<Kind>,
    bytes: usize,
    urls: Vec<String>,
}

struct Walk<'a> {
    media: &'a mut Media,
    place: Place,
}

impl<'de> DeserializeSeed<'de> for Walk<'_> {
    type Value = ();

    fn deserialize<D: Deserializer<'de>>(self, from: D) -> Result<(), D::Error> {
        from.deserialize_any(self)
    }
}

/// Values that say nothing.
macro_rules! passes_over {
    ($out:ty: $($name:ident($kind:ty)),*) => {
        $(fn $name<E>(self, _: $kind) -> Result<$out, E> { Ok(<$out>::default()) })*

        fn visit_unit<E>(self) -> Result<$out, E> {
            Ok(<$out>::default())
        }

        fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
            f.write_str("any JSON")
        }
    };
}

impl<'de> Visitor<'de> for Walk<'_> {
    type Value = ();

    passes_over!((): visit_bool(bool), visit_i64(i64), visit_u64(u64), visit_f64(f64), visit_str(&str));

    fn visit_seq<A: SeqAccess<'de>>(self, mut list: A) -> Result<(), A::Error> {
        let place = if self.place == Place::Messages { Place::Message } else { self.place };
        while list.next_element_seed(Walk { media: self.media, place })?.is_some() {}
        Ok(())
    }

    fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<(), A::Error> {
        let mut found = Found::default();
        while let Some(name) = map.next_key_seed(NameSeed)? {
            match name {
                Name::Content => {
                    map.next_value_seed(Walk { media: self.media, place: Place::Parts })?;
                }
                _ if self.place == Place::Message => drop(map.next_value::<IgnoredAny>()?),
                Name::Quiet | Name::Data(None) | Name::Other(None)
                    if name == Name::Quiet || self.place == Place::Members =>
                {
                    map.next_value::<IgnoredAny>()?;
                }
                Name::Type => {
                    let kind = map.next_value_seed(TypeSeed)?;
                    found.kind = kind.or(found.kind);
                }
                name => map.next_value_seed(Member { found: &mut found, name })?,
            }
        }
        // A part of no kind is text, whatever else it says.
        if let Some(kind) = found.kind {
            self.media.count(kind, found.bytes);
            self.media.urls.append(&mut found.urls);
        }
        Ok(())
    }
}

/// What a member's name says.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
enum Name {
    /// More parts.
    Content,
    /// Text, or words about a part.
    Quiet,
    /// What the part is.
    Type,
    /// What is encoded in the body.
    Data(Option<Kind>),
    /// Everything else.
    Other(Option<Kind>),
}

struct NameSeed;

impl<'de> DeserializeSeed<'de> for NameSeed {
    type Value = Name;

    fn deserialize<D: Deserializer<'de>>(self, from: D) -> Result<Name, D::Error> {
        from.deserialize_str(self)
    }
}

impl Visitor<'_> for NameSeed {
    type Value = Name;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("a name")
    }

    fn visit_str<E>(self, name: &str) -> Result<Name, E> {
        Ok(match name {
            "content" => Name::Content,
            "type" => Name::Type,
            "text" | "detail" | "format" | "filename" | "file_id" | "id" | "uuid"
            | "media_type" | "mime_type" | "cache_control" | "thinking" | "refusal" => Name::Quiet,
            "data" | "file_data" | "image_embeds" | "audio_embeds" | "prompt_embeds" => {
                Name::Data(kind_of(name))
            }
            _ => Name::Other(kind_of(name)),
        })
    }
}

/// The kind that a name speaks of.
fn kind_of(name: &str) -> Option<Kind> {
    let kinds = [
        ("image", Kind::Image),
        ("audio", Kind::Audio),
        ("video", Kind::Video),
        ("file", Kind::File),
        ("url", Kind::File),
    ];
    kinds.into_iter().find(|(part, _)| name.contains(part)).map(|(_, kind)| kind)
}

struct TypeSeed;

impl<'de> DeserializeSeed<'de> for TypeSeed {
    type Value = Option<Kind>;

    fn deserialize<D: Deserializer<'de>>(self, from: D) -> Result<Self::Value, D::Error> {
        from.deserialize_any(self)
    }
}

impl<'de> Visitor<'de> for TypeSeed {
    type Value = Option<Kind>;

    passes_over!(Option<Kind>: visit_bool(bool), visit_i64(i64), visit_u64(u64), visit_f64(f64));

    fn visit_str<E>(self, name: &str) -> Result<Option<Kind>, E> {
        Ok(kind_of(name))
    }

    fn visit_seq<A: SeqAccess<'de>>(self, mut list: A) -> Result<Option<Kind>, A::Error> {
        while list.next_element::<IgnoredAny>()?.is_some() {}
        Ok(None)
    }

    fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<Option<Kind>, A::Error> {
        while map.next_entry::<IgnoredAny, IgnoredAny>()?.is_some() {}
        Ok(None)
    }
}

/// A member of a part, with all that is in it.
struct Member<'a> {
    found: &'a mut Found,
    name: Name,
}

impl<'de> DeserializeSeed<'de> for Member<'_> {
    type Value = ();

    fn deserialize<D: Deserializer<'de>>(self, from: D) -> Result<(), D::Error> {
        if let Name::Data(kind) | Name::Other(kind) = self.name {
            self.found.kind = self.found.kind.or(kind);
        }
        from.deserialize_any(self)
    }
}

impl<'de> Visitor<'de> for Member<'_> {
    type Value = ();

    passes_over!((): visit_bool(bool), visit_i64(i64), visit_u64(u64), visit_f64(f64));

    fn visit_str<E>(self, value: &str) -> Result<(), E> {
        // Only in this spelling all readers of URLs agree that nothing is fetched.
        if matches!(self.name, Name::Data(_)) || value.starts_with("data:") {
            self.found.bytes += value.len();
        } else {
            self.found.urls.push(value.to_owned());
        }
        Ok(())
    }

    fn visit_seq<A: SeqAccess<'de>>(self, mut list: A) -> Result<(), A::Error> {
        let Self { found, name } = self;
        while list.next_element_seed(Member { found, name })?.is_some() {}
        Ok(())
    }

    fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<(), A::Error> {
        let found = self.found;
        while let Some(name) = map.next_key_seed(NameSeed)? {
            if matches!(name, Name::Quiet | Name::Type) {
                map.next_value::<IgnoredAny>()?;
            } else {
                map.next_value_seed(Member { found, name })?;
            }
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn messages(content: &str) -> Media {
        let mut media = Media::default();
        media.add_messages(&format!(r#"[{{"role":"user","content":{content}}}]"#));
        media
    }

    #[test]
    fn parts_outside_of_conversations_may_be_flat() {
        let check = |json: &str, urls: &[&str]| {
            let mut media = Media::default();
            media.add_parts(json);
            assert_eq!(media.urls, urls, "{json}");
        };
        check(r#"[{"image":"http://169.254.169.254/x"}]"#, &["http://169.254.169.254/x"]);
        check(r#"[{"image_url":"http://10.0.0.1/"}]"#, &["http://10.0.0.1/"]);
        check(r#"["image", "url"]"#, &[]);
        check(r#""an image""#, &[]);
    }

    #[test]
    fn parts_are_counted_however_they_are_written() {
        let check = |content: &str, counts: [u32; 4], urls: &[&str]| {
            let found = messages(content);
            let have = [found.images, found.audios, found.videos, found.files];
            assert_eq!(have, counts, "{content}");
            assert_eq!(found.urls, urls, "{content}");
        };
        check(r#""an image_url in text""#, [0; 4], &[]);
        check(r#"[{"type":"text","text":"file://x"}]"#, [0; 4], &[]);
        let url = r#"{"type":"image_url","image_url":{"url":"http://a/b","detail":"low"}}"#;
        check(&format!("[{url},{url}]"), [2, 0, 0, 0], &["http://a/b", "http://a/b"]);
        check(r#"[{"image_url":"http://a/b"}]"#, [1, 0, 0, 0], &["http://a/b"]);
        check(r#"[{"im\u0061ge_url":"http://a/b"}]"#, [1, 0, 0, 0], &["http://a/b"]);
        check(r#"{"type":"image","image":"/etc/passwd"}"#, [1, 0, 0, 0], &["/etc/passwd"]);
        check(r#"[{"image_url":{"url":"data:x"},"type":"text"}]"#, [1, 0, 0, 0], &[]);
        check(r#"[{"image_url":{"url":"data:x","url":"http://b"}}]"#, [1, 0, 0, 0], &["http://b"]);
        check(r#"[{"image_url":{"url":"DATA:x"}}]"#, [1, 0, 0, 0], &["DATA:x"]);
        check(
            r#"[{"type":"input_audio","input_audio":{"data":"AAAA","format":"wav"}}]"#,
            [0, 1, 0, 0],
            &[],
        );
        check(
            r#"[{"type":"video_url","video_url":{"url":"http://v"}}]"#,
            [0, 0, 1, 0],
            &["http://v"],
        );
        check(
            r#"[{"type":"file","file":{"file_data":"data:p","filename":"a.pdf"}}]"#,
            [0, 0, 0, 1],
            &[],
        );
        check(r#"[{"type":"document","source":{"url":"http://d"}}]"#, [0, 0, 0, 1], &["http://d"]);
        check(r#"[{"type":"text","text":"a","cache_control":{"type":"image"}}]"#, [0; 4], &[]);
        check(r#"[{"type":"image_url","image_url":null}]"#, [1, 0, 0, 0], &[]);
        check(
            r#"[[{"type":"image_url","image_url":{"url":["http://l"]}}]]"#,
            [1, 0, 0, 0],
            &["http://l"],
        );
        check("5", [0; 4], &[]);
    }

    #[test]
    fn only_contents_of_messages_hold_parts() {
        let mut media = Media::default();
        media.add_messages(
            r#"[{"role":"assistant","content":"","tool_calls":[{"function":{"name":"f","image_url":"http://x"}}]}]"#,
        );
        assert_eq!(media, Media::default());
        media
            .add_parts(r#"["an image",{"image":"http://x"},{"content":[{"image_url":"data:y"}]}]"#);
        assert_eq!((media.images, media.urls.len()), (2, 1));
    }

    #[test]
    fn bodies_without_contents_are_looked_at_by_their_names() {
        let check = |json: &str, parts: u32, url: Option<&str>| {
            let mut media = Media::default();
            media.add_members(json);
            let found = media.urls.first().map(String::as_str);
            assert_eq!((media.parts(), found), (parts, url), "{json}");
        };
        check(r#"{"model":"m","input":"an image at http://x","response_format":"url"}"#, 0, None);
        check(r#"{"model":"m","ref_audio":"http://x","voice":"v"}"#, 1, Some("http://x"));
        check(r#"{"images":[{"image_url":"http://x"}],"prompt":"p"}"#, 1, Some("http://x"));
        check(r#"{"image":"data:x"}"#, 1, None);
    }

    #[test]
    fn sizes_and_tokens_add_up() {
        let media = messages(
            r#"[{"image_url":{"url":"data:1234"}},{"input_audio":{"data":"123"}},{"file":{"file_data":"12345678901"}}]"#,
        );
        assert_eq!((media.data_bytes, media.audio_bytes, media.largest_bytes), (12, 3, 11));
        assert_eq!(media.parts(), 3);
        let audio = |audio_bytes| Media { audios: 1, audio_bytes, ..Media::default() }.tokens();
        assert_eq!((audio(0), audio(160_000)), (750, 250));
        assert_eq!(Media { images: 2, ..Media::default() }.tokens(), 1530);
        assert_eq!(Media { videos: 1, ..Media::default() }.tokens(), 8192);
        assert_eq!(Media::default().tokens(), 0);
    }
}
