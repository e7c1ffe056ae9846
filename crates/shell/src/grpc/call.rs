//! The two ends of a call that its method holds: what the client sends, and what it is sent.

use std::fmt;
use std::marker::PhantomData;
use std::time::Duration;

use bytes::Bytes;
use http_body_util::BodyExt as _;
use prost::Message;
use tokio::sync::mpsc;
use tokio::time::timeout;

use super::frame::{self, Frames};
use super::{Code, GrpcLimits, Source, Status};

/// What the client sends, message by message.
pub struct Requests<T> {
    source: Source,
    frames: Frames,
    quiet_max: Duration,
    message: PhantomData<fn() -> T>,
}

impl<T> fmt::Debug for Requests<T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Requests").finish_non_exhaustive()
    }
}

impl<T: Message + Default> Requests<T> {
    pub(super) fn new(source: Source, limits: &GrpcLimits) -> Self {
        let frames = Frames::new(limits.message_bytes_max);
        Self { source, frames, quiet_max: limits.quiet_max, message: PhantomData }
    }

    /// The next message; none when the client has sent all. Nothing is lost when waiting is given up.
    ///
    /// # Errors
    /// The client broke off, sent nothing for too long, or what cannot be read.
    pub async fn next(&mut self) -> Result<Option<T>, Status> {
        loop {
            if let Some(message) = self.frames.take()? {
                return T::decode(message).map(Some).map_err(|_| unreadable());
            }
            let Ok(frame) = timeout(self.quiet_max, self.source.frame()).await else {
                return Err(Status::new(Code::DeadlineExceeded, "nothing came for too long"));
            };
            match frame {
                Some(Ok(frame)) => {
                    if let Ok(data) = frame.into_data() {
                        self.frames.push(&data);
                    }
                }
                Some(Err(_)) => return Err(broke_off()),
                None if self.frames.is_empty() => return Ok(None),
                None => return Err(broke_off()),
            }
        }
    }

    /// The only message of a client that sends one.
    ///
    /// # Errors
    /// As of [`Self::next`], or there is none, or another one.
    pub async fn only(mut self) -> Result<T, Status> {
        let message = self.next().await?;
        let message =
            message.ok_or_else(|| wrong_count("this method takes a message, and none came"))?;
        match self.next().await? {
            None => Ok(message),
            Some(_) => Err(wrong_count("this method takes one message, and another came")),
        }
    }
}

fn unreadable() -> Status {
    Status::new(Code::InvalidArgument, "a message cannot be read as what this method takes")
}

fn broke_off() -> Status {
    Status::new(Code::Cancelled, "the client broke off")
}

fn wrong_count(message: &'static str) -> Status {
    Status::new(Code::InvalidArgument, message)
}

/// What the client is sent. Clones are the same one.
pub struct Replies<T> {
    sender: mpsc::Sender<Bytes>,
    message: PhantomData<fn(T)>,
}

impl<T> Clone for Replies<T> {
    fn clone(&self) -> Self {
        Self { sender: self.sender.clone(), message: PhantomData }
    }
}

impl<T> fmt::Debug for Replies<T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Replies").finish_non_exhaustive()
    }
}

impl<T: Message> Replies<T> {
    pub(super) const fn new(sender: mpsc::Sender<Bytes>) -> Self {
        Self { sender, message: PhantomData }
    }

    /// Sends a message, when there is room for it. After the end of the call it goes nowhere; the
    /// method itself has been dropped by then.
    pub async fn send(&self, message: &T) {
        let _ = self.sender.send(frame::write(message)).await;
    }
}
