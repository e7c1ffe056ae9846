//! `pilotage epp`: its flags.

use std::net::SocketAddr;
use std::path::PathBuf;

use http::HeaderName;
use pilotage_plan::render::kubernetes::install;

use super::FrontArgs;

/// Choose replicas for a gateway of others: an endpoint picker over Envoy's external processing.
///
/// A gateway that carries requests itself (Envoy, Istio, any of the Gateway API Inference Extension) asks
/// here where each one goes. Keys, quotas, queues and the choice of a replica are those of `pilotage up`:
/// a request is held until its turn comes, goes to the replica that is told in
/// x-gateway-destination-endpoint, and is counted by what comes back.
///
/// With -f it reads the same resources as `pilotage up`. Replicas are told by IP address and port: Models
/// with endpoints are what it is for. SIGHUP reads the manifests again. On Kubernetes --pool serves the pods
/// of an InferencePool, whichever model a request names, and --kubernetes all that `pilotage gateway` does;
/// what changes in the cluster holds at once.
#[derive(Debug, clap::Args)]
#[command(after_help = EPP_EXAMPLES)]
pub(crate) struct Epp {
    /// A manifest, or a folder of manifests (*.yaml, *.yml). May be given several times
    #[arg(short = 'f', long = "file", value_name = "FILE|DIR")]
    #[arg(required_unless_present_any = ["pool", "kubernetes"])]
    #[arg(conflicts_with_all = ["pool", "kubernetes"])]
    pub(crate) files: Vec<PathBuf>,
    /// The InferencePool of a Kubernetes cluster whose pods get requests
    #[arg(long, value_name = "NAME", conflicts_with = "kubernetes")]
    pub(crate) pool: Option<String>,
    /// Serve the Models of a Kubernetes cluster
    #[arg(long)]
    pub(crate) kubernetes: bool,
    /// The namespace of the pool and of Tenants, or that whose resources count. Without it that of the pod or
    /// of the kubeconfig for a pool, and otherwise `all`
    #[arg(short, long, value_name = "NAME", conflicts_with = "files")]
    pub(crate) namespace: Option<String>,
    /// The namespace that Pilotage itself is in
    #[arg(long, value_name = "NAME", default_value = install::NAMESPACE)]
    pub(crate) system_namespace: String,
    /// The Service whose pods are the pickers, which share the quotas of tenants among them
    #[arg(long, value_name = "NAME", default_value = "pilotage-epp")]
    pub(crate) service: String,
    /// Where the gateway connects (gRPC)
    #[arg(long, value_name = "ADDR", default_value = "127.0.0.1:9002")]
    pub(crate) listen: SocketAddr,
    #[command(flatten)]
    pub(crate) front: FrontArgs,
    /// Serve without API keys, all requests as the first Tenant's: whoever may use the models is for the
    /// gateway to find out
    #[arg(long, conflicts_with = "tenant_header")]
    pub(crate) no_keys: bool,
    /// The header in which the gateway names the Tenant, which it has found out itself, instead of API
    /// keys. What clients send under that name must not come through
    #[arg(long, value_name = "NAME")]
    pub(crate) tenant_header: Option<HeaderName>,
    /// Read manifests, and key files that they name, again when they change; else on SIGHUP only
    #[arg(long, requires = "files")]
    pub(crate) watch: bool,
}

const EPP_EXAMPLES: &str = "\
Examples:
  pilotage epp -f models.yaml                               for an Envoy on this machine
  pilotage epp -f models.yaml --listen 0.0.0.0:9002 \\
    --tls-cert tls.crt --tls-key tls.key                    for one that connects by TLS
  pilotage epp -f models.yaml --tenant-header \\
    x-gateway-inference-fairness-id                         tenants as the gateway names them
  pilotage epp --pool llama-70b --namespace models \\
    --no-keys                                               for an InferencePool of a cluster";
