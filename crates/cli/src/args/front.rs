//! The flags of everything with a gateway in it: `up`, `epp` and `gateway`. Where clients connect each says
//! itself, as they are different clients.

use std::net::SocketAddr;
use std::path::PathBuf;

use pilotage_core::traffic::Zone;

/// What a gateway listens with, and where it is.
#[derive(Debug, clap::Args)]
pub(crate) struct FrontArgs {
    /// Encrypt connections with this certificate (PEM, those that lead to its authority after it), read
    /// again when it changes
    #[arg(long, value_name = "FILE", requires = "tls_key")]
    pub(crate) tls_cert: Option<PathBuf>,
    /// The certificate's key (PEM, without a password)
    #[arg(long, value_name = "FILE", requires = "tls_cert")]
    pub(crate) tls_key: Option<PathBuf>,
    /// Where metrics and status are served, with the admin key
    #[arg(long, value_name = "ADDR", default_value = "127.0.0.1:8081")]
    pub(crate) admin_listen: SocketAddr,
    /// Where keys, logs and the state of this installation live
    #[arg(long, value_name = "DIR")]
    pub(crate) data_dir: Option<PathBuf>,
    /// The zone that this runs in, as `endpoints[].zone` names it, or `REGION/ZONE`: among equals
    /// replicas of the same zone come first
    #[arg(long, value_name = "ZONE")]
    pub(crate) zone: Option<Zone>,
    /// A public host that engines may fetch images, audio, video and files from when a request names
    /// them by address; without one only `data:` URLs are taken. May be given several times
    #[arg(long = "media-host", value_name = "HOST[:PORT]")]
    pub(crate) media_hosts: Vec<String>,
    /// Show measures under the names of others, too, for boards and autoscalers that were made for these
    #[arg(long, value_enum, value_name = "NAMES")]
    pub(crate) metrics_compat: Option<MetricsCompat>,
    /// Seconds to wait for running requests when stopping
    #[arg(long, value_name = "SECONDS", default_value_t = 60)]
    pub(crate) drain_timeout: u64,
}

/// Whose names of metrics there are besides our own.
#[derive(Clone, Copy, Debug, clap::ValueEnum)]
pub(crate) enum MetricsCompat {
    /// Those of llm-d's endpoint picker, `llm_d_epp_*`
    LlmDEpp,
}
