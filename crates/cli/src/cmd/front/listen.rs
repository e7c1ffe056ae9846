//! The two listeners, of clients and of operators: where they listen, how they are encrypted, who answers.

use std::net::SocketAddr;
use std::path::Path;

use anyhow::Context as _;
use axum::Router;
use pilotage_gateway::Gateway;
use pilotage_gateway::epp::{self, PickerConfig};
use pilotage_shell::grpc::Grpc;
use pilotage_shell::serve::{Certificates, Entrance, ServeLimits, serve};
use pilotage_shell::tasks;
use tokio::net::TcpListener;
use tokio::task::JoinHandle;
use tokio_util::sync::CancellationToken;
use tower::ServiceExt as _;

use crate::exit::Wrong;

/// What clients' connections are encrypted with, if anything.
pub(in crate::cmd) fn certificates(
    certificate: Option<&Path>,
    key: Option<&Path>,
) -> anyhow::Result<Option<Certificates>> {
    let Some((certificate, key)) = certificate.zip(key) else {
        return Ok(None);
    };
    let certificates = Certificates::read(certificate, key).map_err(|error| {
        Wrong::new(error.to_string()).hint("--tls-cert and --tls-key are of one certificate")
    })?;
    Ok(Some(certificates))
}

/// The listener of clients, encrypted where there are certificates for it.
pub(in crate::cmd) fn entrance(
    listener: TcpListener,
    certificates: Option<Certificates>,
) -> Entrance {
    let Some(certificates) = certificates else { return listener.into() };
    drop(tasks::spawn("certificates", certificates.clone().follow()));
    Entrance::encrypted(listener, certificates)
}

/// Listens where a flag says.
pub(in crate::cmd) async fn bind(listen: SocketAddr, flag: &str) -> anyhow::Result<TcpListener> {
    TcpListener::bind(listen)
        .await
        .map_err(|error| {
            if error.kind() == std::io::ErrorKind::AddrInUse {
                return Wrong::new(format!("{listen} is in use by another process"))
                    .hint(format!("stop that one, or choose another address with {flag}"))
                    .into();
            }
            anyhow::Error::new(error)
        })
        .with_context(|| format!("cannot listen on {listen}"))
}

/// Serves clients until `stop`.
pub(super) fn clients(
    entrance: Entrance,
    gateway: &Gateway,
    limits: ServeLimits,
    stop: &CancellationToken,
) -> JoinHandle<Option<usize>> {
    let front = gateway.front();
    let service = move |request: http::Request<hyper::body::Incoming>| {
        // Large, and only there until the answer begins: a stream must not keep its memory.
        let answer = Box::pin(front.clone().answer(request.map(axum::body::Body::new)));
        async move { Ok(answer.await) }
    };
    tasks::spawn("listener", serve(entrance, service, limits, stop.clone()))
}

/// Picks replicas for proxies until `stop`.
pub(super) fn proxies(
    entrance: Entrance,
    (gateway, config): (&Gateway, PickerConfig),
    limits: ServeLimits,
    stop: &CancellationToken,
) -> JoinHandle<Option<usize>> {
    let service = epp::service(gateway, config).service();
    let limits = ServeLimits { drain_timeout: limits.drain_timeout, ..Grpc::serve_limits() };
    tasks::spawn("listener", serve(entrance, service, limits, stop.clone()))
}

/// Serves operators until `stop`.
pub(super) fn operators(
    listener: TcpListener,
    router: Router,
    limits: ServeLimits,
    stop: &CancellationToken,
) -> JoinHandle<Option<usize>> {
    let service = move |request: http::Request<hyper::body::Incoming>| {
        let router = router.clone();
        async move { router.oneshot(request.map(axum::body::Body::new)).await }
    };
    tasks::spawn("listener", serve(listener, service, limits, stop.clone()))
}
