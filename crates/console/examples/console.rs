//! Serves the console alone, for who works on its pages: `console PORT KEY`. The JSON that pages read
//! comes from whatever stands in front; `tests/e2e/console` has something that plays it.

use std::convert::Infallible;
use std::sync::Arc;

use axum::body::Body;
use axum::extract::Request;
use axum::response::IntoResponse as _;
use pilotage_console::{Console, ConsoleConfig, Forward, Playground};
use pilotage_shell::clock::Clock;
use pilotage_shell::secret::KeyHash;
use pilotage_shell::serve::{ServeLimits, serve};
use tokio::net::TcpListener;
use tokio_util::sync::CancellationToken;
use tower::ServiceExt as _;

type Failed = Box<dyn std::error::Error>;

#[tokio::main(flavor = "current_thread")]
async fn main() -> Result<(), Failed> {
    let mut args = std::env::args().skip(1);
    let (Some(port), Some(key)) = (args.next(), args.next()) else {
        return Err("usage: console PORT KEY".into());
    };
    let forward: Forward = Arc::new(|_: Request| {
        Box::pin(async { (http::StatusCode::BAD_GATEWAY, "nobody answers here").into_response() })
    });
    let config = ConsoleConfig {
        admin_key: KeyHash::of(&key),
        viewer_key: Some(KeyHash::of(&format!("{key}-viewer"))),
        hosts: Vec::new(),
        https: false,
        playground: Some(Playground { forward, key: None }),
    };
    let router = Console::new(config, Clock::start()).router();
    let listener = TcpListener::bind(("127.0.0.1", port.parse::<u16>()?)).await?;
    let service = move |request: http::Request<hyper::body::Incoming>| {
        let answer = router.clone().oneshot(request.map(Body::new));
        async move { Ok::<_, Infallible>(answer.await.into_response()) }
    };
    serve(listener, service, ServeLimits::default(), CancellationToken::new()).await;
    Ok(())
}
