//! `pilotage key`: its flags.

use std::path::PathBuf;

use clap::Subcommand;

use crate::output::Format;

/// Make, hash, rotate and list API keys.
///
/// Manifests hold the hashes of keys, never keys: a key is shown once, to whoever makes it.
#[derive(Debug, clap::Args)]
#[command(after_help = KEY_EXAMPLES)]
pub(crate) struct Key {
    #[command(subcommand)]
    pub(crate) command: KeyCommand,
}

const KEY_EXAMPLES: &str = "\
Examples:
  pilotage key new --name ci --tenant search --expires 90d
  pilotage key list -f tenants.yaml
  pilotage key rotate -f tenants.yaml --tenant search --name ci --write";

#[derive(Debug, Subcommand)]
pub(crate) enum KeyCommand {
    New(KeyNew),
    Hash(KeyHash),
    Rotate(KeyRotate),
    List(KeyList),
}

/// Make a new key.
///
/// The key goes to stdout, once; what belongs into the manifest goes to stderr. With -o json both
/// are in one object on stdout.
#[derive(Debug, clap::Args)]
#[command(after_help = NEW_EXAMPLES)]
pub(crate) struct KeyNew {
    /// What the key is for; `key-` and the date when not given
    #[arg(long, value_name = "NAME")]
    pub(crate) name: Option<String>,
    /// When it ends: a time from now (30m, 12h, 90d, 4w) or a moment (2027-01-31T12:00:00Z)
    #[arg(long, value_name = "TIME")]
    pub(crate) expires: Option<String>,
    /// Print a whole Tenant of that name instead of an entry of `keys`
    #[arg(long, value_name = "NAME")]
    pub(crate) tenant: Option<String>,
    /// The key for people and pipes, or JSON for machines
    #[arg(short, long, value_enum, default_value_t)]
    pub(crate) output: Format,
}

const NEW_EXAMPLES: &str = "\
Examples:
  pilotage key new
  KEY=$(pilotage key new --name ci --expires 90d)
  pilotage key new --tenant search 2> tenant.yaml > search.key
  pilotage key new -o json | jq -r .sha256";

/// Print the SHA-256 of a key, as a manifest holds it.
///
/// Reads the key from stdin, or asks for it on a terminal without showing it. One line break at its
/// end is not part of it.
#[derive(Debug, clap::Args)]
#[command(after_help = HASH_EXAMPLES)]
pub(crate) struct KeyHash {
    /// The hash for people and pipes, or JSON for machines
    #[arg(short, long, value_enum, default_value_t)]
    pub(crate) output: Format,
}

const HASH_EXAMPLES: &str = "\
Examples:
  pilotage key hash
  pilotage key hash < search.key";

/// Make a key that replaces another, which goes on to count for a while.
///
/// The new key goes to stdout, once. What changes in the manifest goes to stderr: the new entry, and
/// the old one with the end of the overlap as its end (an earlier one stays). With --write it is
/// changed in the file, and the rest of its text stays as it is.
#[derive(Debug, clap::Args)]
#[command(after_help = ROTATE_EXAMPLES)]
pub(crate) struct KeyRotate {
    /// The manifest with the tenant
    #[arg(short = 'f', long = "file", value_name = "FILE")]
    pub(crate) file: PathBuf,
    /// Whose key
    #[arg(long, value_name = "NAME")]
    pub(crate) tenant: String,
    /// Which of its keys
    #[arg(long, value_name = "NAME")]
    pub(crate) name: String,
    /// What the new key is called; the old name with the date when not given
    #[arg(long, value_name = "NAME")]
    pub(crate) new_name: Option<String>,
    /// For how long both keys count
    #[arg(long, value_name = "TIME", default_value = "7d")]
    pub(crate) overlap: String,
    /// When the new key ends: a time from now, or a moment
    #[arg(long, value_name = "TIME")]
    pub(crate) expires: Option<String>,
    /// Change the file
    #[arg(long)]
    pub(crate) write: bool,
    /// The key for people and pipes, or JSON for machines
    #[arg(short, long, value_enum, default_value_t)]
    pub(crate) output: Format,
}

const ROTATE_EXAMPLES: &str = "\
Examples:
  pilotage key rotate -f tenants.yaml --tenant search --name ci
  pilotage key rotate -f tenants.yaml --tenant search --name ci --overlap 24h --write > ci.key";

/// List the keys of tenants, and when each counts.
#[derive(Debug, clap::Args)]
#[command(after_help = LIST_EXAMPLES)]
pub(crate) struct KeyList {
    /// A manifest. May be given several times
    #[arg(short = 'f', long = "file", value_name = "FILE", required = true)]
    pub(crate) files: Vec<PathBuf>,
    /// A table for people or JSON for machines
    #[arg(short, long, value_enum, default_value_t)]
    pub(crate) output: Format,
}

const LIST_EXAMPLES: &str = "\
Examples:
  pilotage key list -f tenants.yaml
  pilotage key list -f tenants.yaml -o json | jq '.[] | select(.state == \"expired\")'";
