//! What an engine publishes of its KV cache, followed as it comes: how much came and went corrects
//! what is believed of its prefix cache. Nothing waits for it; an engine that publishes nothing, or
//! of which messages are lost, is scheduled by what was sent there alone.

mod book;

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use pilotage_core::{ReplicaId, Span, Time};
use pilotage_shell::clock::Clock;
use pilotage_wire::kv_events::{self, FramesError, zmtp};
use thiserror::Error;
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::TcpStream;
use tokio::net::tcp::{OwnedReadHalf, OwnedWriteHalf};
use tokio::time::{MissedTickBehavior, interval, sleep, timeout};

use crate::driver::{LaneHandle, Replica};
use crate::metrics::{FeedState, KvCounts, ShownFeed};
use book::Book;

/// How long connecting, and then the handshake, may take.
const PATIENCE: Duration = Duration::from_secs(10);

/// Between two tries to connect: doubled each time in a row.
const PAUSE_MIN: Duration = Duration::from_millis(250);
const PAUSE_MAX: Duration = Duration::from_secs(10);

/// Between two times that the lane is told what came.
const TELL_EVERY: Duration = Duration::from_millis(100);

/// A feed is silent when nothing came for so long while so many requests were sent to its engine:
/// fewer may have found their prompts in its cache, or be shorter than a block.
const SILENT_AFTER: Span = Span::from_secs(30);
const SILENT_REQUESTS: u64 = 8;

/// How long a feed counts as stale after messages were lost.
const STALE_FOR: Span = Span::from_secs(60);

/// Bytes read at once.
const READ_BYTES: usize = 64 << 10;

/// Whose feed it is, and who wants to know.
pub(crate) struct Feed {
    pub(crate) id: ReplicaId,
    pub(crate) replica: Arc<Replica>,
    /// Requests sent to the replica so far.
    pub(crate) sent: Arc<AtomicU64>,
    pub(crate) lane: LaneHandle,
    pub(crate) clock: Clock,
    pub(crate) counts: KvCounts,
}

/// Why a connection ended.
#[derive(Debug, Error)]
enum FeedError {
    #[error("it cannot be reached ({0})")]
    Connect(std::io::Error),
    #[error("the connection broke ({0})")]
    Broken(std::io::Error),
    #[error("nobody answers there; is KV cache event publishing on, and the port right?")]
    NoAnswer,
    #[error("it closed the connection")]
    Closed,
    #[error("nothing came while requests ran there; is KV cache event publishing on?")]
    Silent,
    #[error(transparent)]
    Zmtp(#[from] zmtp::ZmtpError),
    #[error(transparent)]
    Frames(#[from] FramesError),
}

/// Follows an engine until the lane or the replica is gone; the caller ends it.
pub(crate) async fn follow(feed: Feed, address: String) {
    let shown = feed.counts.feed();
    let now = Time::from_nanos(feed.clock.now_nanos());
    let mut follower = Follower {
        feed,
        address,
        shown,
        book: Book::default(),
        ready: false,
        silent: false,
        stale_since: None,
        quiet_since: now,
        sent: 0,
    };
    let (mut pause, mut told) = (PAUSE_MIN, false);
    loop {
        follower.ready = false;
        let error = match follower.listen().await {
            Ok(()) => FeedError::Closed,
            Err(error) => error,
        };
        // What keeps failing is said once.
        let is_news = follower.ready || !told;
        told = true;
        follower.lost(&error, is_news);
        if follower.ready {
            pause = PAUSE_MIN;
        }
        sleep(pause).await;
        pause = (pause * 2).min(PAUSE_MAX);
    }
}

struct Follower {
    feed: Feed,
    address: String,
    shown: ShownFeed,
    book: Book,
    /// The handshake of this connection is over.
    ready: bool,
    /// Nothing comes though requests run.
    silent: bool,
    /// When messages were last lost.
    stale_since: Option<Time>,
    /// Since when nothing came though something might have.
    quiet_since: Time,
    /// Requests sent there when something last came.
    sent: u64,
}

impl Follower {
    /// One connection, to its end.
    async fn listen(&mut self) -> Result<(), FeedError> {
        self.show(FeedState::Connecting);
        let address = self.address.trim_start_matches("tcp://").to_owned();
        let connecting = timeout(PATIENCE, TcpStream::connect(address)).await;
        let socket = connecting.map_err(|_| FeedError::NoAnswer)?.map_err(FeedError::Connect)?;
        let (mut read, mut write) = socket.into_split();
        send(&mut write, &zmtp::greeting()).await?;
        let mut decoder = zmtp::Decoder::default();
        timeout(PATIENCE, self.shake_hands(&mut decoder, &mut read, &mut write))
            .await
            .map_err(|_| FeedError::NoAnswer)??;
        let mut buffer = vec![0; READ_BYTES];
        let mut tell = interval(TELL_EVERY);
        tell.set_missed_tick_behavior(MissedTickBehavior::Delay);
        loop {
            tokio::select! {
                count = read.read(&mut buffer) => {
                    let count = count.map_err(FeedError::Broken)?;
                    if count == 0 {
                        return Ok(());
                    }
                    decoder.push(buffer.get(..count).unwrap_or_default())?;
                    self.take(&mut decoder, &mut write).await?;
                }
                _ = tell.tick() => self.tell()?,
            }
        }
    }

    /// Up to the first moment at which messages may come.
    async fn shake_hands(
        &mut self,
        decoder: &mut zmtp::Decoder,
        read: &mut OwnedReadHalf,
        write: &mut OwnedWriteHalf,
    ) -> Result<(), FeedError> {
        let mut buffer = [0; 256];
        while !self.ready {
            let count = read.read(&mut buffer).await.map_err(FeedError::Broken)?;
            if count == 0 {
                return Err(FeedError::Closed);
            }
            decoder.push(buffer.get(..count).unwrap_or_default())?;
            self.take(decoder, write).await?;
        }
        Ok(())
    }

    async fn take(
        &mut self,
        decoder: &mut zmtp::Decoder,
        write: &mut OwnedWriteHalf,
    ) -> Result<(), FeedError> {
        while let Some(item) = decoder.next() {
            match item {
                zmtp::Item::Greeting => send(write, &zmtp::ready()).await?,
                zmtp::Item::Ready => {
                    send(write, &zmtp::subscribe(b"")).await?;
                    self.ready = true;
                    self.show_connected();
                    let (lane, replica) = (self.feed.lane.name(), self.feed.replica.name.as_str());
                    tracing::info!(lane, replica, "KV events are followed");
                }
                zmtp::Item::Ping(context) => send(write, &zmtp::pong(&context)).await?,
                zmtp::Item::Message(frames) => self.message(&frames)?,
            }
        }
        Ok(())
    }

    fn message(&mut self, frames: &[bytes::Bytes]) -> Result<(), FeedError> {
        let message = kv_events::numbered(frames)?;
        let lost = self.book.number(message.number);
        let counts = &self.feed.counts;
        match kv_events::batch(&message.payload) {
            Ok(batch) => self.book.take(&batch, counts),
            Err(_) => counts.unknown(),
        }
        let now = self.now();
        (self.quiet_since, self.sent) = (now, self.feed.sent.load(Ordering::Relaxed));
        let (lane, replica) = (self.feed.lane.name(), self.feed.replica.name.as_str());
        if lost > 0 {
            counts.lost(lost);
            if self.stale_since.is_none() {
                tracing::warn!(
                    lane,
                    replica,
                    lost,
                    "KV events were lost; the cache is guessed meanwhile"
                );
            }
            self.stale_since = Some(now);
        }
        if self.silent {
            self.silent = false;
            tracing::info!(lane, replica, "KV events come again");
        }
        self.show_connected();
        Ok(())
    }

    /// Tells the lane what came since the last time, and looks whether nothing did.
    fn tell(&mut self) -> Result<(), FeedError> {
        let Feed { id, lane, .. } = &self.feed;
        let news = self.book.news();
        if news.cleared {
            lane.replica_evicted(*id, u64::MAX);
        }
        if news.evicted > 0 {
            lane.replica_evicted(*id, news.evicted);
        }
        if news.device.is_some() || news.host.is_some() {
            lane.replica_cache(*id, news.device, news.host);
        }
        let now = self.now();
        if self.stale_since.is_some_and(|since| now.since(since) >= STALE_FOR) {
            self.stale_since = None;
            self.show_connected();
        }
        let missed = self.feed.sent.load(Ordering::Relaxed).saturating_sub(self.sent);
        if missed == 0 {
            self.quiet_since = now;
        }
        if missed < SILENT_REQUESTS || now.since(self.quiet_since) < SILENT_AFTER {
            return Ok(());
        }
        // Another connection may hear more than this one; and then it is looked again.
        self.quiet_since = now;
        let is_news = !self.silent;
        self.silent = true;
        self.show_connected();
        if is_news { Err(FeedError::Silent) } else { Ok(()) }
    }

    fn lost(&mut self, error: &FeedError, is_news: bool) {
        let (lane, replica) = (self.feed.lane.name(), self.feed.replica.name.as_str());
        let address = &self.address;
        if is_news {
            tracing::warn!(lane, replica, address, %error, "no KV events; the cache is guessed meanwhile");
        } else {
            tracing::debug!(lane, replica, address, %error, "no KV events still");
        }
        self.show(FeedState::Connecting);
    }

    fn show_connected(&mut self) {
        self.show(match (self.silent, self.stale_since) {
            (true, _) => FeedState::Silent,
            (false, Some(_)) => FeedState::Stale,
            (false, None) => FeedState::Live,
        });
    }

    fn show(&mut self, state: FeedState) {
        // One that was silent stays so until it is heard.
        let silent = self.silent && state == FeedState::Connecting;
        self.shown.show(if silent { FeedState::Silent } else { state });
    }

    fn now(&self) -> Time {
        Time::from_nanos(self.feed.clock.now_nanos())
    }
}

async fn send(write: &mut OwnedWriteHalf, bytes: &[u8]) -> Result<(), FeedError> {
    write.write_all(bytes).await.map_err(FeedError::Broken)
}
