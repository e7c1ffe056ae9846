//! One client's connection: request after request, each answered as the engine's kind and its faults
//! have it.

use std::sync::Arc;
use std::sync::atomic::Ordering::Relaxed;

use bytes::Bytes;
use tokio::net::TcpStream;

use super::Shared;
use super::answer::{answer, tell};
use super::fault::{Surface, order};
use super::prepared::PreparedStream;
use super::render;
use super::request::{Request, Target};
use super::stats::{Held, Seen};
use super::wire::{Flow, Gone, Next, Wire};

/// Serves until either side has enough.
pub(super) async fn serve(socket: TcpStream, engine: Arc<Shared>) {
    let _open = Held::new(&engine.counts.open);
    let mut connection =
        Connection { wire: Wire::new(socket, engine.keeps_bodies()), engine: &engine };
    // Whoever is gone has nobody to be told.
    let _ = connection.run().await;
}

struct Connection<'a> {
    wire: Wire,
    engine: &'a Shared,
}

/// A request being answered: aborted, where it is dropped before its end.
struct Working<'a> {
    engine: &'a Shared,
    over: bool,
    _active: Held<'a>,
}

impl<'a> Working<'a> {
    fn new(engine: &'a Shared) -> Self {
        engine.counts.requests.fetch_add(1, Relaxed);
        Self { engine, over: false, _active: Held::new(&engine.counts.active) }
    }

    fn finished(mut self) {
        self.over = true;
        self.engine.counts.finished.fetch_add(1, Relaxed);
    }
}

impl Drop for Working<'_> {
    fn drop(&mut self) {
        if !self.over {
            self.engine.counts.aborted.fetch_add(1, Relaxed);
        }
    }
}

impl Connection<'_> {
    async fn run(&mut self) -> Result<(), Gone> {
        let mut answered = 0_u64;
        loop {
            self.wire.keep_bodies(self.engine.keeps_bodies());
            let request = match self.wire.next().await? {
                Next::Request(request) => request,
                Next::NotHttp => {
                    self.engine.counts.not_http.fetch_add(1, Relaxed);
                    self.json(400, &render::error(400, "BadRequestError", "not a request"));
                    return self.wire.flush().await;
                }
            };
            let keep_alive = request.keep_alive;
            let flow = if request.target.is_work() {
                self.work(request, answered > 0).await?
            } else {
                self.tell(&request).await?
            };
            answered += 1;
            if flow == Flow::Over || !keep_alive {
                return self.wire.flush().await;
            }
        }
    }

    async fn work(&mut self, request: Request, reused: bool) -> Result<Flow, Gone> {
        let engine = self.engine;
        let working = Working::new(engine);
        let flow = if engine.is_plain() {
            self.prepared(&request).await?;
            Flow::On
        } else {
            let mut strike = engine.faults.strike(Surface::Work);
            if let Some(strike) = &mut strike {
                engine.counts.struck.fetch_add(1, Relaxed);
                strike.memory.reused = reused;
            }
            if engine.config.record {
                engine.counts.saw(Seen {
                    id: request.id.clone(),
                    fingerprint: request.fingerprint,
                    stream: request.stream,
                    fault: strike.as_ref().map(|strike| strike.fault.name),
                });
            }
            answer(engine, &mut self.wire, &request, strike).await?
        };
        working.finished();
        Ok(flow)
    }

    async fn prepared(&mut self, request: &Request) -> Result<(), Gone> {
        let prepared = &self.engine.prepared;
        match request.target {
            Target::Chat if request.stream => self.stream(&prepared.chat_stream).await,
            Target::Completions if request.stream => {
                self.stream(&prepared.completions_stream).await
            }
            target => {
                let shape = self.engine.config.answer;
                let time = shape.first_gap + shape.chunk_gap * shape.chunks.saturating_sub(1);
                if !time.is_zero() {
                    self.wire.pause(time).await?;
                }
                self.wire.out.extend_from_slice(prepared.whole(target));
                Ok(())
            }
        }
    }

    /// Writes a prepared stream, as fast as it goes or event by event.
    async fn stream(&mut self, stream: &PreparedStream) -> Result<(), Gone> {
        let shape = self.engine.config.answer;
        self.wire.out.extend_from_slice(&stream.opening);
        if !shape.first_gap.is_zero() {
            self.wire.pause(shape.first_gap).await?;
        }
        let mut left = shape.chunks as usize;
        while left > 0 {
            let count = if shape.chunk_gap.is_zero() { left } else { 1 };
            let bytes = (count * stream.chunk_bytes).min(stream.block.len());
            self.wire.write(stream.block.get(..bytes).unwrap_or_default()).await?;
            left -= bytes / stream.chunk_bytes;
            if left > 0 && !shape.chunk_gap.is_zero() {
                self.wire.pause(shape.chunk_gap).await?;
            }
        }
        self.wire.out.extend_from_slice(&stream.closing);
        Ok(())
    }

    /// Answers what is no work.
    async fn tell(&mut self, request: &Request) -> Result<Flow, Gone> {
        let engine = self.engine;
        match request.target {
            Target::Health => {
                engine.counts.probes.fetch_add(1, Relaxed);
                let told = (render::json_head(200, 0), Bytes::new());
                return tell(&mut self.wire, told, engine.faults.strike(Surface::Health)).await;
            }
            Target::Metrics => {
                engine.counts.probes.fetch_add(1, Relaxed);
                let page = Bytes::from(engine.metrics());
                let kind = "text/plain; version=1.0.0; charset=utf-8";
                let told = (render::head(200, kind, page.len(), ""), page);
                return tell(&mut self.wire, told, engine.faults.strike(Surface::Metrics)).await;
            }
            Target::Stats => {
                let body = serde_json::to_vec(&engine.counts.stats()).unwrap_or_default();
                self.json(200, &body.into());
            }
            Target::Models => {
                let body =
                    render::models(&engine.config.model, &engine.config.adapters, engine.created);
                self.json(200, &body);
            }
            Target::Fault => match order::read(&request.body) {
                Ok(rules) => {
                    engine.set_faults(&rules);
                    self.json(200, &Bytes::from_static(b"{}"));
                }
                Err(error) => {
                    self.json(400, &render::error(400, "BadRequestError", &error.to_string()));
                }
            },
            _ => self.json(404, &Bytes::from_static(b"{\"detail\":\"Not Found\"}")),
        }
        Ok(Flow::On)
    }

    fn json(&mut self, status: u16, body: &Bytes) {
        self.wire.out.extend_from_slice(&render::json_head(status, body.len()));
        self.wire.out.extend_from_slice(body);
    }
}
