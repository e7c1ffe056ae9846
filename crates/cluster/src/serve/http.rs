//! The cluster on a loopback port, over plain HTTP.

use std::convert::Infallible;
use std::io;
use std::net::SocketAddr;

use bytes::Bytes;
use futures_util::stream;
use http::Response;
use http_body::Frame;
use http_body_util::{BodyExt, StreamBody};
use pilotage_shell::serve::{ServeLimits, serve};
use pilotage_shell::tasks;
use tokio::net::TcpListener;
use tokio_util::sync::CancellationToken;
use tower::Service;

use super::{Frames, Lost, Server};

/// A port on which a cluster listens; nobody does when it is dropped.
#[derive(Debug)]
pub struct Listener {
    address: SocketAddr,
    stop: CancellationToken,
}

impl Listener {
    /// What clients connect to: `http://127.0.0.1:PORT`.
    pub fn url(&self) -> String {
        format!("http://{}", self.address)
    }
}

impl Drop for Listener {
    fn drop(&mut self) {
        self.stop.cancel();
    }
}

impl Server {
    /// Listens on a free loopback port.
    pub async fn listen(&self) -> io::Result<Listener> {
        let socket = TcpListener::bind(("127.0.0.1", 0)).await?;
        let address = socket.local_addr()?;
        let stop = CancellationToken::new();
        let connection = self.connect("");
        let service = move |request| {
            let mut connection = connection.clone();
            async move {
                let answered = connection.call(request).await;
                Ok::<_, Infallible>(answered.unwrap_or_else(broken))
            }
        };
        tasks::spawn("cluster", serve(socket, service, ServeLimits::default(), stop.clone()));
        Ok(Listener { address, stop })
    }
}

/// A response that never ends as it should: the nearest that HTTP has to a connection that breaks.
fn broken(lost: Lost) -> Response<Frames> {
    let none = stream::iter([Err::<Frame<Bytes>, Lost>(lost)]);
    let mut response = Response::new(StreamBody::new(none).boxed_unsync());
    *response.status_mut() = http::StatusCode::BAD_GATEWAY;
    response
}
