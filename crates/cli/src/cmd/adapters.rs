//! `pilotage adapters`: keeps the adapters of the engine beside it as a list says, until it is told to stop.

use anyhow::Context as _;
use axum::extract::State;
use axum::response::{IntoResponse as _, Response};
use axum::routing::get;
use axum::{Json, Router};
use http::StatusCode;
use pilotage_operator::adapters::{self, Line, Settings};
use pilotage_plan::adapters::Told;
use pilotage_shell::client::Client;
use pilotage_shell::clock::Clock;
use pilotage_shell::env::{self, Var};
use pilotage_shell::secret::Secret;
use pilotage_shell::serve::{ServeLimits, serve};
use pilotage_shell::signals::Shutdown;
use pilotage_shell::telemetry;
use tokio::net::TcpListener;
use tokio::sync::watch;
use tokio_util::sync::CancellationToken;
use tower::ServiceExt as _;

use crate::args::Adapters;
use crate::store;

/// Runs until a signal.
pub(crate) async fn run(args: Adapters) -> anyhow::Result<()> {
    telemetry::init();
    let mut signals = Shutdown::listen()?;
    let key = env::get(Var::EngineKey).filter(|key| !key.is_empty()).map(Secret::new);
    let engine = Line::new(Client::new()?, &args.engine, key, args.dialect);
    let engine = engine.context("such an engine loads no adapters while it runs")?;
    let address = args.listen;
    let socket = TcpListener::bind(address).await;
    let socket = socket.with_context(|| format!("cannot listen on {address}"))?;
    let (sender, told) = watch::channel(Told::default());
    let stop = CancellationToken::new();
    let settings = Settings { list: args.list, clock: Clock::start() };
    tracing::info!(engine = args.engine, listen = %address, "keeping adapters");
    tokio::select! {
        signal = signals.next() => tell_stop(signal),
        () = adapters::keep(settings, engine, store::open()?, sender) => {}
        _ = listen(socket, told, stop) => anyhow::bail!("the listener ended by itself; its log says why"),
    }
    Ok(())
}

fn tell_stop(signal: &str) {
    tracing::info!(signal, "stopping");
}

async fn listen(
    socket: TcpListener,
    told: watch::Receiver<Told>,
    stop: CancellationToken,
) -> usize {
    let router =
        Router::new()
            .route("/ready", get(ready))
            .route(
                "/adapters",
                get(|State(told): State<watch::Receiver<Told>>| async move {
                    Json(told.borrow().clone())
                }),
            )
            .with_state(told);
    let service = move |request: http::Request<hyper::body::Incoming>| {
        let router = router.clone();
        async move { router.oneshot(request.map(axum::body::Body::new)).await }
    };
    serve(socket, service, ServeLimits::default(), stop).await
}

async fn ready(State(told): State<watch::Receiver<Told>>) -> Response {
    if told.borrow().ready {
        return "ready\n".into_response();
    }
    (StatusCode::SERVICE_UNAVAILABLE, "the first adapters are not there yet\n").into_response()
}
