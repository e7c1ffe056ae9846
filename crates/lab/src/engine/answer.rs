//! An answer of a request's own: its tokens as they come, in pieces, each passed through the fault
//! that strikes the request.

use std::time::Duration;

use bytes::Bytes;
use tokio::sync::mpsc;

use super::Shared;
use super::ask::Ask;
use super::fault::Strike;
use super::live::Said;
use super::model::{Job, SequenceId, Told};
use super::piece::{Part, Piece};
use super::render::{self, Render, Usage};
use super::request::{Request, Target};
use super::text::{TOKEN_BYTES, Voice};
use super::wire::{Flow, Gone, Wire};

/// Why an answer goes no further.
enum End {
    /// The client is gone.
    Gone,
    /// The engine has it so.
    Engine(Flow),
}

impl From<Gone> for End {
    fn from(_: Gone) -> Self {
        Self::Gone
    }
}

/// Answers a request for work.
pub(super) async fn answer(
    engine: &Shared,
    wire: &mut Wire,
    request: &Request,
    strike: Option<Strike>,
) -> Result<Flow, Gone> {
    let mut way = Way { wire, strike };
    let ended = match Ask::read(request.target, &request.body) {
        Ok(ask) => one(engine, &mut way, request, &ask).await,
        Err(error) => {
            let message = format!("the body is not valid JSON: {error}");
            way.whole(400, render::error(400, "BadRequestError", &message)).await
        }
    };
    match ended {
        Ok(()) => Ok(Flow::On),
        Err(End::Engine(flow)) => Ok(flow),
        Err(End::Gone) => Err(Gone),
    }
}

/// Tells something else than work: health or metrics.
pub(super) async fn tell(
    wire: &mut Wire,
    (head, body): (Bytes, Bytes),
    strike: Option<Strike>,
) -> Result<Flow, Gone> {
    let mut way = Way { wire, strike };
    let ended = async {
        way.play(Part::Begin, Bytes::new()).await?;
        way.play(Part::WholeHead, head).await?;
        way.play(Part::Body, body).await
    };
    match ended.await {
        Ok(()) => Ok(Flow::On),
        Err(End::Engine(flow)) => Ok(flow),
        Err(End::Gone) => Err(Gone),
    }
}

async fn one(engine: &Shared, way: &mut Way<'_>, request: &Request, ask: &Ask) -> Result<(), End> {
    way.play(Part::Begin, Bytes::new()).await?;
    let Some(mut source) = Source::start(engine, request.target, ask) else {
        let message = "This model's maximum context length is shorter than the prompt.";
        return way.whole(400, render::error(400, "BadRequestError", message)).await;
    };
    let number = engine.next_answer();
    let chat = request.target == Target::Chat;
    let model = if ask.model.is_empty() { &engine.config.model } else { &ask.model };
    let text = Text {
        render: Render {
            chat,
            id: format!("{}-{number:016x}", if chat { "chatcmpl" } else { "cmpl" }),
            created: engine.created,
            model: serde_json::Value::from(model.as_str()).to_string(),
        },
        voice: Voice::of(&ask.prompt),
        ask,
    };
    match request.target {
        Target::Chat | Target::Completions if request.stream => {
            stream(way, &text, &mut source).await
        }
        Target::Chat | Target::Completions => whole(way, &text, &mut source).await,
        target => {
            while source.next(way.wire).await?.is_some() {}
            let id = format!("scripted-{number:016x}");
            let body = match target {
                Target::Rerank => render::rerank(ask, &id),
                _ => render::embeddings(ask, &id, engine.created),
            };
            way.whole(200, body).await
        }
    }
}

/// What an answer says and how.
struct Text<'a> {
    render: Render,
    voice: Voice,
    ask: &'a Ask,
}

impl Text<'_> {
    fn usage(&self, source: &Source) -> Usage {
        Usage { prompt: self.ask.prompt.len(), cached: source.cached, output: source.said }
    }

    const fn reason(&self) -> &'static str {
        if self.ask.output_max.is_some() { "length" } else { "stop" }
    }
}

async fn stream(way: &mut Way<'_>, text: &Text<'_>, source: &mut Source) -> Result<(), End> {
    let render = &text.render;
    let mut positions = vec![text.ask.prompt.len(); text.ask.choices as usize];
    way.play(Part::StreamHead, render::stream_head()).await?;
    let mut told = 0;
    while let Some(said) = source.next(way.wire).await? {
        if told == 0 && render.chat {
            for choice in 0..text.ask.choices {
                way.play(Part::Role, render.role(choice)).await?;
            }
        }
        let Some(position) = positions.get_mut(said.choice as usize) else { continue };
        let id = text.ask.token_ids.then(|| text.voice.token(*position));
        let event = render.token(said.choice, &text.voice.text(*position), id);
        *position += 1;
        way.play(Part::Token(told), event).await?;
        told += 1;
        if said.told.last {
            way.play(Part::Finish, render.finish(said.choice, text.reason())).await?;
        }
    }
    if text.ask.usage {
        way.play(Part::Usage, render.usage(text.usage(source))).await?;
    }
    way.play(Part::Done, Bytes::from_static(render::DONE)).await?;
    way.play(Part::End, Bytes::new()).await
}

async fn whole(way: &mut Way<'_>, text: &Text<'_>, source: &mut Source) -> Result<(), End> {
    let prompt = text.ask.prompt.len();
    let mut texts = vec![String::new(); text.ask.choices as usize];
    while let Some(said) = source.next(way.wire).await? {
        if let Some(so_far) = texts.get_mut(said.choice as usize) {
            let position = prompt + so_far.len() / TOKEN_BYTES;
            so_far.push_str(&text.voice.text(position));
        }
    }
    way.whole(200, text.render.whole(&texts, text.reason(), text.usage(source))).await
}

/// A connection with the fault that strikes its request.
struct Way<'a> {
    wire: &'a mut Wire,
    strike: Option<Strike>,
}

impl Way<'_> {
    async fn play(&mut self, part: Part, bytes: Bytes) -> Result<(), End> {
        let piece = Piece::new(part, bytes);
        let acts = match &mut self.strike {
            Some(strike) => strike.acts(&piece),
            None => piece.acts(),
        };
        for act in acts {
            match self.wire.act(act).await? {
                Flow::On => {}
                flow => return Err(End::Engine(flow)),
            }
        }
        Ok(())
    }

    async fn whole(&mut self, status: u16, body: Bytes) -> Result<(), End> {
        self.play(Part::WholeHead, render::json_head(status, body.len())).await?;
        self.play(Part::Body, body).await
    }
}

/// Where tokens come from.
struct Source {
    from: Tokens,
    /// Tokens so far, of all choices.
    said: usize,
    /// Prompt tokens that were in the cache.
    cached: usize,
}

enum Tokens {
    /// The clock alone.
    Pace { first: Duration, gap: Duration, choices: u32, left: u64 },
    /// A model.
    Live(mpsc::UnboundedReceiver<Said>),
}

impl Source {
    fn start(engine: &Shared, target: Target, ask: &Ask) -> Option<Self> {
        let generates = matches!(target, Target::Chat | Target::Completions);
        let shape = engine.config.answer;
        let output = if generates { ask.output_max.unwrap_or(shape.chunks).max(1) } else { 1 };
        let from = match &engine.live {
            None => Tokens::Pace {
                first: shape.first_gap,
                gap: shape.chunk_gap,
                choices: ask.choices,
                left: u64::from(output) * u64::from(ask.choices),
            },
            Some(live) => {
                let adapter =
                    engine.config.adapters.iter().find(|name| **name == ask.model).cloned();
                let job = Job {
                    id: SequenceId(0),
                    prompt: ask.prompt.clone(),
                    output: output as usize,
                    cut: ask.output_max.is_some(),
                    adapter,
                };
                Tokens::Live(live.submit(vec![job; ask.choices as usize])?)
            }
        };
        Some(Self { from, said: 0, cached: 0 })
    }

    async fn next(&mut self, wire: &mut Wire) -> Result<Option<Said>, Gone> {
        let said = match &mut self.from {
            Tokens::Live(said) => wire.wait(said.recv()).await?,
            Tokens::Pace { left: 0, .. } => None,
            Tokens::Pace { first, gap, choices, left } => {
                let index = self.said as u64;
                let choice = (index % u64::from(*choices)) as u32;
                let pause = if index == 0 { *first } else { *gap };
                if choice == 0 && !pause.is_zero() {
                    wire.pause(pause).await?;
                }
                *left -= 1;
                let last = *left < u64::from(*choices);
                Some(Said {
                    choice,
                    told: Told { sequence: SequenceId(0), token: 0, last, cached: 0 },
                })
            }
        };
        if let Some(said) = &said {
            self.said += 1;
            self.cached = said.told.cached;
        }
        Ok(said)
    }
}
