//! One connection, driven by the task that uses it, so that no other task is woken for a token.

use std::future::{Future, poll_fn};
use std::pin::{Pin, pin};

use bytes::Bytes;
use http::{Request, Response};
use http_body_util::{BodyExt as _, Full};
use hyper::body::Incoming;
use hyper::client::conn::http1::{self, Connection, SendRequest};
use pilotage_shell::client::{ClientError, Connector, Stream};

use super::target::Target;

/// What reads and writes a connection when it is polled.
type Open = Pin<Box<Connection<Stream, Full<Bytes>>>>;

/// An open connection.
pub(super) struct Link {
    sender: SendRequest<Full<Bytes>>,
    /// Nothing once it has ended: it must not be polled then.
    connection: Option<Open>,
}

impl Link {
    /// Opens one.
    pub(super) async fn open(connector: &Connector, target: &Target) -> Result<Self, ClientError> {
        let stream = connector.connect(target.url()).await?;
        let (sender, connection) = http1::handshake(stream)
            .await
            .map_err(|error| ClientError::Connect(error.to_string()))?;
        Ok(Self { sender, connection: Some(Box::pin(connection)) })
    }

    /// Whether another request can be sent on it; reads what came meanwhile, which may be its end.
    pub(super) async fn is_usable(&mut self) -> bool {
        let Self { sender, connection } = self;
        drive(connection, sender.ready()).await.is_ok() && self.connection.is_some()
    }

    /// Sends a request and waits for the head of its answer.
    pub(super) async fn send(
        &mut self,
        request: Request<Full<Bytes>>,
    ) -> hyper::Result<Response<Incoming>> {
        let Self { sender, connection } = self;
        drive(connection, sender.send_request(request)).await
    }

    /// The next bytes of an answer; none at its end.
    pub(super) async fn next(&mut self, body: &mut Incoming) -> hyper::Result<Option<Bytes>> {
        loop {
            match drive(&mut self.connection, body.frame()).await {
                None => return Ok(None),
                Some(Err(error)) => return Err(error),
                Some(Ok(frame)) => {
                    if let Ok(bytes) = frame.into_data() {
                        return Ok(Some(bytes));
                    }
                }
            }
        }
    }
}

/// Polls the connection before the future that waits for it.
async fn drive<F: Future>(connection: &mut Option<Open>, future: F) -> F::Output {
    let mut future = pin!(future);
    poll_fn(|context| {
        if let Some(open) = connection
            && open.as_mut().poll(context).is_ready()
        {
            *connection = None;
        }
        future.as_mut().poll(context)
    })
    .await
}
