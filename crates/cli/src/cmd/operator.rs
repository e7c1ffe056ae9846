//! `pilotage operator`: keeps a cluster as its resources say, until it is told to stop.

use std::io::Write as _;
use std::net::SocketAddr;

use anyhow::Context as _;
use axum::Router;
use axum::extract::State;
use axum::response::{IntoResponse as _, Response};
use axum::routing::get;
use http::{StatusCode, header};
use pilotage_operator::kubernetes::{self, Settings};
use pilotage_operator::{adapters, scaling, verdicts};
use pilotage_shell::client::Client;
use pilotage_shell::clock::Clock;
use pilotage_shell::env::{self, Var};
use pilotage_shell::id::random_u64;
use pilotage_shell::metrics::Metrics;
use pilotage_shell::secret::Secret;
use pilotage_shell::serve::{ServeLimits, serve};
use pilotage_shell::signals::Shutdown;
use pilotage_shell::{tasks, telemetry};
use tokio::net::TcpListener;
use tokio_util::sync::CancellationToken;
use tower::ServiceExt as _;

use crate::args::Operator;

/// The Service of gateways.
const GATEWAYS: &str = "pilotage-gateway";

/// Runs the operator, or says what it would do.
pub(crate) async fn run(args: Operator) -> anyhow::Result<()> {
    telemetry::init();
    let client = kubernetes::connect().await?;
    let system = args.system_namespace.clone();
    let system = system.unwrap_or_else(|| client.default_namespace().to_owned());
    let settings = Settings {
        cluster: args.cluster(&system),
        namespace: args.namespace.clone(),
        name: identity(),
    };
    let metrics = Metrics::new();
    let operator = kubernetes::Operator::new(client, settings, Clock::start().unix_ms(), &metrics);
    if args.dry_run {
        let text = operator.dry_run().await?;
        let text = if text.is_empty() { "nothing is to be done\n" } else { &text };
        std::io::stdout().lock().write_all(text.as_bytes())?;
        return Ok(());
    }
    operate(&args, operator, metrics, system).await
}

/// Works until a signal, and until what was begun then is ended, or a second one.
async fn operate(
    args: &Operator,
    operator: kubernetes::Operator,
    metrics: Metrics,
    system: String,
) -> anyhow::Result<()> {
    let mut signals = Shutdown::listen()?;
    let stop = CancellationToken::new();
    let socket = bind(args.admin_listen).await?;
    let settings = scaling_of(args, system).await?;
    let admin = listen(socket, Admin { operator: operator.clone(), metrics }, &stop);
    tracing::info!(admin = %args.admin_listen, namespace = args.namespace, "operating");
    let judged = verdicts::Settings {
        namespace: args.namespace.clone(),
        system: settings.namespace.clone(),
        gateways: GATEWAYS.to_owned(),
    };
    let scaled = tasks::spawn("scaling", scaling::run(operator.known(), settings, stop.clone()));
    let judged = tasks::spawn("verdicts", verdicts::run(operator.known(), judged, stop.clone()));
    let asking = adapters::tell(operator.known(), Client::new()?, stop.clone());
    let asked = tasks::spawn("adapters", asking);
    let until = stop.clone();
    let mut work = tasks::spawn("operator", async move { operator.run(until).await });
    tokio::select! {
        signal = signals.next() => tell_stop(signal),
        _ = &mut work => anyhow::bail!("the operator ended by itself; its log says why"),
    }
    stop.cancel();
    tokio::select! {
        _ = signals.next() => {}
        _ = async { (work.await, scaled.await, judged.await, asked.await, admin.await) } => {}
    }
    Ok(())
}

fn tell_stop(signal: &str) {
    tracing::info!(signal, "stopping");
}

async fn scaling_of(args: &Operator, system: String) -> anyhow::Result<scaling::Settings> {
    Ok(scaling::Settings {
        namespace: system,
        instance: Some(host()),
        admin_key: env::get(Var::AdminKey).filter(|key| !key.is_empty()).map(Secret::new),
        scaler: bind_if(args.scaler_listen).await?,
        metrics: bind_if(args.metrics_api_listen).await?,
    })
}

/// The pod, or the machine, and what tells it from another one there.
fn identity() -> String {
    format!("{}_{:08x}", host(), random_u64() >> 32)
}

/// What a pod, or the machine, calls itself.
fn host() -> String {
    let host = std::fs::read_to_string("/proc/sys/kernel/hostname").unwrap_or_default();
    host.trim().to_owned()
}

async fn bind(address: SocketAddr) -> anyhow::Result<TcpListener> {
    TcpListener::bind(address).await.with_context(|| format!("cannot listen on {address}"))
}

async fn bind_if(address: Option<SocketAddr>) -> anyhow::Result<Option<TcpListener>> {
    match address {
        Some(address) => Ok(Some(bind(address).await?)),
        None => Ok(None),
    }
}

#[derive(Clone)]
struct Admin {
    operator: kubernetes::Operator,
    metrics: Metrics,
}

fn listen(
    socket: TcpListener,
    admin: Admin,
    stop: &CancellationToken,
) -> tokio::task::JoinHandle<Option<usize>> {
    let router = Router::new()
        .route("/health/live", get(|| async { "live\n" }))
        .route("/health/ready", get(ready))
        .route("/metrics", get(encode))
        .with_state(admin);
    let service = move |request: http::Request<hyper::body::Incoming>| {
        let router = router.clone();
        async move { router.oneshot(request.map(axum::body::Body::new)).await }
    };
    tasks::spawn("listener", serve(socket, service, ServeLimits::default(), stop.clone()))
}

/// One that looks on is as ready as the one that leads: it is to take over.
async fn ready(State(admin): State<Admin>) -> Response {
    match admin.operator.hindrance() {
        None => "ready\n".into_response(),
        Some(why) => (StatusCode::SERVICE_UNAVAILABLE, why + "\n").into_response(),
    }
}

async fn encode(State(admin): State<Admin>, headers: http::HeaderMap) -> Response {
    let accept = headers.get(header::ACCEPT).and_then(|value| value.to_str().ok());
    let exposition = admin.metrics.expose(accept);
    ([(header::CONTENT_TYPE, exposition.content_type)], exposition.body).into_response()
}
