//! How a running gateway is reached: by the installation of this machine, or by address and key.

use std::path::PathBuf;

/// Which gateway.
#[derive(Clone, Debug, clap::Args)]
pub(crate) struct Reach {
    /// The address of the gateway's admin listener
    #[arg(long, value_name = "URL", requires = "key_file")]
    pub(crate) url: Option<String>,
    /// A file with the admin key
    #[arg(long, value_name = "FILE")]
    pub(crate) key_file: Option<PathBuf>,
    /// Where `pilotage up` keeps its data
    #[arg(long, value_name = "DIR")]
    pub(crate) data_dir: Option<PathBuf>,
}
