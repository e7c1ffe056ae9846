//! A gateway that is told to stop goes on until balancers know.

use std::io::{Read as _, Write as _};
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::time::Duration;

use pilotage_shell::clock::Clock;

use crate::stage::{Stage, Working, until};

/// An address that nobody listens at.
fn free() -> SocketAddr {
    TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap()
}

/// The status of an answer; none where nobody answers.
fn ask(at: SocketAddr, path: &str) -> Option<u16> {
    let mut stream = TcpStream::connect(at).ok()?;
    stream.set_read_timeout(Some(Duration::from_secs(10))).ok()?;
    let request = format!("GET {path} HTTP/1.1\r\nhost: g\r\nconnection: close\r\n\r\n");
    stream.write_all(request.as_bytes()).ok()?;
    let mut text = String::new();
    stream.read_to_string(&mut text).ok()?;
    text.split_whitespace().nth(1)?.parse().ok()
}

/// A gateway that serves, and where clients and operators ask it.
async fn serving(stage: &Stage, leave_after: &str) -> (Working, SocketAddr, SocketAddr) {
    let (clients, admin) = (free(), free());
    let data = stage.path("data");
    let gateway = stage.start(
        "gateway",
        &[
            "gateway",
            "--listen",
            &clients.to_string(),
            "--admin-listen",
            &admin.to_string(),
            "--data-dir",
            data.to_str().unwrap(),
            "--drain-timeout",
            "5",
            "--leave-after",
            leave_after,
        ],
    );
    until("gateway that is ready", || ask(admin, "/health/ready") == Some(200)).await;
    (gateway, clients, admin)
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn it_serves_on_until_it_leaves() {
    let stage = Stage::new().await;
    let (mut gateway, clients, admin) = serving(&stage, "3").await;
    let clock = Clock::start();
    let told = clock.now_nanos();
    gateway.stop();
    until("word that it leaves", || gateway.said().contains("leaving in 3 s")).await;
    // It takes requests as before: this one lacks a key.
    assert_eq!(ask(clients, "/v1/models"), Some(401), "{}", gateway.said());
    assert_eq!(ask(admin, "/health/ready"), Some(200));
    until("end", || gateway.ended().is_some()).await;
    assert!(clock.now_nanos() - told >= 3_000_000_000);
    assert_eq!(gateway.ended(), Some(0), "{}", gateway.said());
    assert_eq!(ask(clients, "/v1/models"), None);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn who_says_it_twice_does_not_wait() {
    let stage = Stage::new().await;
    let (mut gateway, ..) = serving(&stage, "3600").await;
    gateway.stop();
    until("word that it leaves", || gateway.said().contains("leaving in 3600 s")).await;
    gateway.stop();
    until("end", || gateway.ended().is_some()).await;
    assert_eq!(gateway.ended(), Some(0), "{}", gateway.said());
}
