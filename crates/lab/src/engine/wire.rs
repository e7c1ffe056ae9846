//! One connection's socket: reads and writes that end when the client goes away.

use std::io;
use std::time::Duration;

use bytes::BytesMut;
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::TcpStream;

use super::piece::{Act, put_chunk};
use super::request::{NotHttp, Reader, Request};

/// Bytes that a client may send ahead while its answer goes out.
const AHEAD_BYTES_MAX: usize = 1 << 20;

/// How an answer's next act left the connection.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Flow {
    /// Open.
    On,
    /// Open, and the answer is over before its end.
    Complete,
    /// The engine ended it.
    Over,
}

/// The client went away, or its connection broke.
#[derive(Debug)]
pub(super) struct Gone;

impl From<io::Error> for Gone {
    fn from(_: io::Error) -> Self {
        Self
    }
}

pub(super) struct Wire {
    socket: TcpStream,
    reader: Reader,
    /// What waits to be written.
    pub(super) out: BytesMut,
}

/// What the client sends next.
pub(super) enum Next {
    Request(Request),
    NotHttp,
}

impl Wire {
    pub(super) fn new(socket: TcpStream, keep: bool) -> Self {
        // Events are small and each is to be there at once.
        let _ = socket.set_nodelay(true);
        Self { socket, reader: Reader::new(keep), out: BytesMut::new() }
    }

    /// The next request. Writes what is waiting before it waits itself.
    pub(super) async fn next(&mut self) -> Result<Next, Gone> {
        loop {
            match self.reader.next() {
                Ok(Some(request)) => return Ok(Next::Request(request)),
                Ok(None) => {}
                Err(NotHttp) => return Ok(Next::NotHttp),
            }
            if self.reader.takes_continue() {
                self.out.extend_from_slice(b"HTTP/1.1 100 Continue\r\n\r\n");
            }
            self.flush().await?;
            if self.socket.read_buf(&mut self.reader.buffer).await? == 0 {
                return Err(Gone);
            }
        }
    }

    /// Whether bodies of the requests to come are kept.
    pub(super) const fn keep_bodies(&mut self, keep: bool) {
        self.reader.keep = keep;
    }

    pub(super) async fn flush(&mut self) -> Result<(), Gone> {
        if !self.out.is_empty() {
            self.socket.write_all(&self.out).await?;
            self.out.clear();
        }
        Ok(())
    }

    /// Writes without a copy, after what is waiting.
    pub(super) async fn write(&mut self, bytes: &[u8]) -> Result<(), Gone> {
        self.flush().await?;
        self.socket.write_all(bytes).await?;
        Ok(())
    }

    /// Waits for `work`, or for the client to go away.
    pub(super) async fn wait<T>(&mut self, work: impl Future<Output = T>) -> Result<T, Gone> {
        self.flush().await?;
        let Self { socket, reader, .. } = self;
        tokio::select! {
            biased;
            done = work => Ok(done),
            () = gone(socket, &mut reader.buffer) => Err(Gone),
        }
    }

    /// Does one thing of an answer.
    pub(super) async fn act(&mut self, act: Act) -> Result<Flow, Gone> {
        match act {
            Act::Raw(bytes) => self.write(&bytes).await?,
            Act::Chunk(bytes) => {
                put_chunk(&mut self.out, &bytes);
                self.flush().await?;
            }
            Act::Pause(time) => self.pause(time).await?,
            Act::Hang => self.wait(std::future::pending::<()>()).await?,
            Act::Reset => {
                self.flush().await?;
                self.socket.set_zero_linger()?;
                return Ok(Flow::Over);
            }
            Act::Close => {
                self.flush().await?;
                return Ok(Flow::Over);
            }
            Act::Complete => return Ok(Flow::Complete),
            Act::HalfClose => {
                self.flush().await?;
                self.socket.shutdown().await?;
                let _ = self.wait(std::future::pending::<()>()).await;
                return Ok(Flow::Over);
            }
        }
        Ok(Flow::On)
    }

    pub(super) async fn pause(&mut self, time: Duration) -> Result<(), Gone> {
        self.wait(tokio::time::sleep(time)).await
    }
}

/// Ends when the client closes; what it sends meanwhile is kept.
async fn gone(socket: &TcpStream, ahead: &mut BytesMut) {
    while ahead.len() < AHEAD_BYTES_MAX {
        if socket.readable().await.is_err() {
            return;
        }
        match socket.try_read_buf(ahead) {
            Ok(0) => return,
            Ok(_) => {}
            Err(error) if error.kind() == io::ErrorKind::WouldBlock => {}
            Err(_) => return,
        }
    }
    std::future::pending::<()>().await;
}
