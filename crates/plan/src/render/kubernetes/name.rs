//! Names of objects: short enough for labels, the same for the same Model always, and never those of
//! another one.

/// Longest name: that of a label's value, and of a Service.
pub const NAME_LEN_MAX: usize = 63;

/// Longest name of a workload of several nodes, with its suffix: it becomes a StatefulSet, whose pods bear its name
/// with the number of their group and ten characters of a hash as one label.
pub const SET_LEN_MAX: usize = 47;

/// Characters of a hash at the end of a name, with the dash before it.
const HASH_LEN: usize = 9;

/// A Model's name with a suffix, as a DNS label: where dots, digits at the beginning or the length
/// have to go, a hash of the whole keeps it apart from others.
pub fn label(model: &str, suffix: &str) -> String {
    label_within(NAME_LEN_MAX, model, suffix)
}

/// The same in `most` characters, which are 32 at least and [`NAME_LEN_MAX`] at most.
pub fn label_within(most: usize, model: &str, suffix: &str) -> String {
    let tail = if suffix.is_empty() { String::new() } else { format!("-{suffix}") };
    let whole = format!("{model}{tail}");
    let is_label = !model.contains('.') && model.starts_with(|c: char| c.is_ascii_lowercase());
    if is_label && whole.len() <= most {
        return whole;
    }
    let room = most - HASH_LEN - tail.len().min(most - HASH_LEN - 2) - 1;
    let plain: String = model.replace('.', "-").chars().take(room).collect();
    let head = if plain.starts_with(|c: char| c.is_ascii_lowercase()) { "" } else { "m" };
    let plain = plain.trim_end_matches('-');
    format!("{head}{plain}-{:08x}{tail}", hash(model))
}

/// FNV-1a, 32 bits: names are no secrets, and what it tells apart are a few Models.
fn hash(text: &str) -> u32 {
    text.bytes().fold(0x811c_9dc5, |hash, byte| (hash ^ u32::from(byte)).wrapping_mul(0x0100_0193))
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn names_stay_as_they_are_where_they_can() {
        assert_eq!(label("llama", ""), "llama");
        assert_eq!(label("llama", "peers"), "llama-peers");
        assert_eq!(
            label("llama-3.1", "key"),
            "llama-3-1-9d7a2f7d-key".replace("9d7a2f7d", &format!("{:08x}", hash("llama-3.1")))
        );
        assert_ne!(label("a.b", ""), label("a-b", ""));
    }

    proptest! {
        #[test]
        fn every_name_is_a_label(model in "[a-z0-9]([-a-z0-9.]{0,61}[a-z0-9])?", suffix in "|peers|key|weights|0-workers") {
            let name = label(&model, &suffix);
            prop_assert!(name.len() <= NAME_LEN_MAX, "{name}");
            prop_assert!(label_within(SET_LEN_MAX, &model, &suffix).len() <= SET_LEN_MAX);
            prop_assert!(name.starts_with(|c: char| c.is_ascii_lowercase()), "{name}");
            prop_assert!(name.ends_with(|c: char| c.is_ascii_alphanumeric()), "{name}");
            prop_assert!(name.bytes().all(|b| b.is_ascii_lowercase() || b.is_ascii_digit() || b == b'-'), "{name}");
        }
    }
}
