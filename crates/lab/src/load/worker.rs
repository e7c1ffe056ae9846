//! A task with one connection: sends a request, follows the answer token by token, writes down when
//! what came, and takes the next.

use std::sync::Arc;
use std::sync::atomic::Ordering;

use http::{HeaderMap, StatusCode, header};
use hyper::body::Incoming;

use crate::record::{Outcome, Sample};

use super::job::Job;
use super::link::Link;
use super::scan::{Dialect, Scan};
use super::shared::{Next, Shared};

/// Bytes of an answer that is no stream, at most.
const ANSWER_BYTES_MAX: usize = 64 << 20;

/// Works until there is nothing more to do.
pub(super) async fn work(shared: Arc<Shared>, first: Job) {
    let mut link = None;
    let mut gaps = Vec::new();
    let mut job = Box::new(first);
    loop {
        let follows = serve(&shared, &mut link, &mut gaps, *job).await;
        job = match shared.next(follows) {
            Next::Job(job) => job,
            Next::Wait(waiting) => match waiting.await {
                Ok(job) => Box::new(job),
                Err(_closed) => return,
            },
        };
    }
}

/// Sends one request and writes down how it went; gives what follows at once.
async fn serve(
    shared: &Shared,
    link: &mut Option<Link>,
    gaps: &mut Vec<f32>,
    job: Job,
) -> Option<Job> {
    gaps.clear();
    let mut stopping = shared.stopping();
    let capture = job.turn + 1 < shared.spec.workload.turns;
    let scan = Scan::new(shared.target.dialect(), capture);
    let mut exchange =
        Exchange { shared, link, gaps, seen: Seen { scan: Some(scan), ..Seen::default() } };
    let answered = tokio::time::timeout(shared.limits.timeout, exchange.run(&job));
    let outcome = tokio::select! {
        biased;
        answered = answered => answered.unwrap_or(Outcome::Timeout),
        _ = stopping.wait_for(|stop| *stop) => Outcome::Unfinished,
    };
    let mut seen = std::mem::take(&mut exchange.seen);
    if !matches!(outcome, Outcome::Ok | Outcome::Rejected | Outcome::Status) {
        // Half an answer may be on it: dropping it tells the server to stop.
        *link = None;
    }
    let sample = seen.sample(&job, outcome, shared.now());
    let answer = seen.scan.as_mut().and_then(|scan| scan.text.take());
    shared.finish(sample, gaps, (job, answer))
}

/// What has come of an answer.
#[derive(Debug, Default)]
pub(super) struct Seen {
    sent: Option<u64>,
    first: Option<u64>,
    last: Option<u64>,
    end: Option<u64>,
    status: u16,
    events: u32,
    scan: Option<Scan>,
}

struct Exchange<'a> {
    shared: &'a Shared,
    link: &'a mut Option<Link>,
    gaps: &'a mut Vec<f32>,
    seen: Seen,
}

impl Exchange<'_> {
    async fn run(&mut self, job: &Job) -> Outcome {
        let (status, headers, mut body) = match self.ask(job).await {
            Ok(head) => head,
            Err(outcome) => return outcome,
        };
        self.seen.status = status.as_u16();
        if !status.is_success() {
            let whole = self.collect(&mut body).await.is_some();
            self.seen.end = Some(self.shared.now());
            let busy = status == StatusCode::TOO_MANY_REQUESTS
                || status == StatusCode::SERVICE_UNAVAILABLE;
            if !whole {
                *self.link = None;
            }
            return if busy { Outcome::Rejected } else { Outcome::Status };
        }
        let outcome = if is_stream(&headers) {
            self.stream(&mut body).await
        } else {
            self.whole(&mut body).await
        };
        self.seen.end = Some(self.shared.now());
        outcome
    }

    /// Sends, on a connection that was open or a new one. A server may close an idle connection at any time,
    /// even while a request is on its way there: that says nothing about the request, which is sent again
    /// on a new one. What fails on a new one, or after an answer has begun, has failed.
    async fn ask(&mut self, job: &Job) -> Result<(StatusCode, HeaderMap, Incoming), Outcome> {
        loop {
            let mut reused = false;
            if let Some(open) = self.link {
                reused = open.is_usable().await;
            }
            if !reused {
                *self.link = None;
                let opened = Link::open(&self.shared.connector, &self.shared.target).await;
                *self.link = Some(opened.map_err(|_| Outcome::Connect)?);
            }
            let Some(link) = self.link else { return Err(Outcome::Connect) };
            let request = self.shared.target.request(job.item.tenant, job.body.clone());
            if self.seen.sent.replace(self.shared.now()).is_none() {
                self.shared.sent.fetch_add(1, Ordering::Relaxed);
            }
            match link.send(request).await {
                Ok(response) => {
                    let (head, body) = response.into_parts();
                    return Ok((head.status, head.headers, body));
                }
                Err(_) if reused && link.is_unanswered() => {
                    self.shared.reconnects.fetch_add(1, Ordering::Relaxed);
                    *self.link = None;
                }
                Err(_) => return Err(Outcome::Broken),
            }
        }
    }

    /// Follows a stream to its end.
    async fn stream(&mut self, body: &mut Incoming) -> Outcome {
        let (Some(link), Some(scan)) = (self.link.as_mut(), self.seen.scan.as_mut()) else {
            return Outcome::Broken;
        };
        loop {
            let bytes = match link.next(body).await {
                Ok(Some(bytes)) => bytes,
                Ok(None) => break,
                Err(_) => return Outcome::Broken,
            };
            let events = scan.push(&bytes);
            if scan.failed {
                return Outcome::StreamError;
            }
            if events == 0 {
                continue;
            }
            let now = self.shared.now();
            let gap = self.seen.last.map(|last| now.saturating_sub(last) as f32 / 1e9);
            self.gaps.extend(gap);
            // What came with it in one piece came at the same time.
            self.gaps.extend(std::iter::repeat_n(0.0, events as usize - 1));
            self.seen.first = self.seen.first.or(Some(now));
            self.seen.last = Some(now);
            self.seen.events += events;
            self.shared.tokens.fetch_add(u64::from(events), Ordering::Relaxed);
        }
        scan.end();
        if scan.finished { Outcome::Ok } else { Outcome::Truncated }
    }

    /// Reads an answer that comes whole: its first token is not seen.
    async fn whole(&mut self, body: &mut Incoming) -> Outcome {
        let head = self.shared.now();
        let Some(bytes) = self.collect(body).await else { return Outcome::Broken };
        let Some(scan) = self.seen.scan.as_mut() else { return Outcome::Broken };
        if scan.dialect() == Dialect::Any {
            self.seen.first = Some(head);
            return Outcome::Ok;
        }
        scan.read(&bytes);
        if scan.failed { Outcome::StreamError } else { Outcome::Ok }
    }

    /// All bytes; none where they do not end well or are too many.
    async fn collect(&mut self, body: &mut Incoming) -> Option<Vec<u8>> {
        let link = self.link.as_mut()?;
        let mut bytes = Vec::new();
        while let Some(piece) = link.next(body).await.ok()? {
            if bytes.len() + piece.len() > ANSWER_BYTES_MAX {
                return None;
            }
            bytes.extend_from_slice(&piece);
        }
        Some(bytes)
    }
}

impl Seen {
    /// The record of it.
    pub(super) fn sample(&self, job: &Job, outcome: Outcome, now: u64) -> Sample {
        let usage = self.scan.as_ref().and_then(|scan| scan.usage);
        let narrow = |number: usize| u16::try_from(number).unwrap_or(u16::MAX);
        Sample {
            intended: job.intended,
            paced: if job.paced == 0 { now } else { job.paced },
            sent: self.sent.unwrap_or(now),
            first: self.first,
            last: self.last,
            end: self.end.unwrap_or(now),
            tenant: narrow(job.item.tenant),
            turn: narrow(job.turn as usize),
            warm: job.warm,
            outcome,
            status: self.status,
            input_tokens: usage.map_or(job.input, |usage| usage.prompt_tokens),
            output_tokens: usage.map_or(self.events, |usage| usage.completion_tokens),
            cached_tokens: usage.map_or(0, |usage| usage.cached_tokens()),
            counted: usage.is_some(),
            output_asked: job.output,
            events: self.events,
            gaps: Box::default(),
        }
    }
}

fn is_stream(headers: &HeaderMap) -> bool {
    let kind = headers.get(header::CONTENT_TYPE).map(http::HeaderValue::as_bytes);
    kind.is_some_and(|kind| kind.starts_with(b"text/event-stream"))
}
