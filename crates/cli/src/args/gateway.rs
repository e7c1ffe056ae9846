//! The flags of `pilotage gateway`.

use std::net::SocketAddr;

use pilotage_plan::render::kubernetes::install;

use super::FrontArgs;

/// Serve clients for the Models of a Kubernetes cluster.
///
/// Watches Models, Routes, Tenants and Fleets, and the pods of Models by their EndpointSlices, with rights to
/// read and no others. What changes there holds at once, and no request is lost by it; a resource that
/// cannot be used leaves the others alone. While the API server is away, what was known last is served.
#[derive(Debug, clap::Args)]
#[command(after_help = EXAMPLES)]
pub(crate) struct Gateway {
    /// The namespace whose resources count, or `all`
    #[arg(short, long, value_name = "NAME", default_value = "all")]
    pub(crate) namespace: String,
    /// The namespace that Pilotage itself is in
    #[arg(long, value_name = "NAME", default_value = install::NAMESPACE)]
    pub(crate) system_namespace: String,
    /// The Service whose pods are the gateways, which share the quotas of tenants among them
    #[arg(long, value_name = "NAME", default_value = "pilotage-gateway")]
    pub(crate) service: String,
    /// The name of the pod that this runs in: its zone is this gateway's, where --zone says none
    #[arg(long, value_name = "NAME")]
    pub(crate) pod: Option<String>,
    /// Where clients connect
    #[arg(long, value_name = "ADDR", default_value = "127.0.0.1:8080")]
    pub(crate) listen: SocketAddr,
    /// Seconds to go on as before when told to stop, until balancers know that this one goes
    #[arg(long, value_name = "SECONDS", default_value_t = 0)]
    pub(crate) leave_after: u64,
    #[command(flatten)]
    pub(crate) front: FrontArgs,
}

const EXAMPLES: &str = "\
Examples:
  pilotage install | kubectl apply --server-side -f -    run gateways in the cluster
  pilotage gateway --namespace team-a                    try one on this machine, by ~/.kube/config
  curl -H \"Authorization: Bearer $KEY\" http://127.0.0.1:8081/status | jq .cluster";
