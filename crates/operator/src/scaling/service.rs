//! All of scaling in one operator's pod: the loop, and the listeners of those who count copies themselves.

use std::sync::Arc;
use std::time::Duration;

use pilotage_shell::client::Client;
use pilotage_shell::clock::Clock;
use pilotage_shell::grpc::Grpc;
use pilotage_shell::secret::Secret;
use pilotage_shell::serve::{Entrance, serve};
use tokio::net::TcpListener;
use tokio_util::sync::CancellationToken;

use super::board::Board;
use super::cluster::FromWatches;
use super::conduct::Conduct;
use super::keda::keda;
use super::metrics_api::MetricsApi;
use super::reach::Reach;
use super::registration::Registration;
use crate::kubernetes::Known;

/// Until a certificate is tried for again.
const AGAIN: Duration = Duration::from_secs(10);

/// How scaling works.
#[derive(Debug)]
pub struct Settings {
    /// The operator's own namespace, where the gateways are.
    pub namespace: String,
    /// The name of this pod.
    pub instance: Option<String>,
    /// The key of gateways' listeners for operators.
    pub admin_key: Option<Secret>,
    /// Where KEDA asks.
    pub scaler: Option<TcpListener>,
    /// Where the API server asks for external metrics.
    pub metrics: Option<TcpListener>,
}

/// Scales until `stop`.
///
/// # Errors
/// There is no client for gateways: see [`Client::new`].
pub async fn run(known: Known, settings: Settings, stop: CancellationToken) -> std::io::Result<()> {
    let Settings { namespace, instance, admin_key, scaler, metrics } = settings;
    let client = known.client();
    let board = Board::default();
    let reach = Arc::new(Reach::new(Client::new()?, admin_key));
    let view = Arc::new(FromWatches::new(known, namespace.clone()));
    let conduct = Conduct::new(client.clone(), instance, view, reach, board.clone());
    let asked = async {
        if let Some(socket) = scaler {
            let service = keda(&board).service();
            serve(socket, service, Grpc::serve_limits(), stop.clone()).await;
        }
    };
    let measured = async {
        if let Some(socket) = metrics {
            let registration = Registration::new(client, namespace, Clock::start());
            external(socket, registration, board.clone(), stop.clone()).await;
        }
    };
    tokio::join!(conduct.run(stop.clone()), asked, measured);
    Ok(())
}

/// Serves external metrics once there is a certificate: before that nobody could be told from others.
async fn external(
    socket: TcpListener,
    registration: Registration,
    board: Board,
    stop: CancellationToken,
) {
    let certificates = loop {
        match registration.certificates().await {
            Ok(certificates) => break certificates,
            Err(error) => tracing::warn!(%error, "external metrics cannot be served yet"),
        }
        tokio::select! {
            () = stop.cancelled() => return,
            () = tokio::time::sleep(AGAIN) => {}
        }
    };
    let entrance = Entrance::encrypted(socket, certificates.clone());
    let api = MetricsApi { board, clock: Clock::start() };
    tokio::join!(registration.keep(certificates, stop.clone()), api.run(entrance, stop));
}
