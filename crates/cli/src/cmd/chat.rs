//! `pilotage chat`: a conversation in the terminal, streamed as it is generated.

use std::io::{BufRead as _, IsTerminal as _};

use anyhow::{Context as _, bail};
use bytes::Bytes;
use http::{Method, Request, header};
use http_body_util::BodyExt as _;
use pilotage_shell::client::{Client, Incoming};
use pilotage_shell::secret::Secret;
use pilotage_wire::sse::Decoder;
use serde_json::{Value, json};

use crate::args::Chat;
use crate::exit::Wrong;
use crate::installation::{Installation, key_from_env};
use crate::output;

/// Most turns kept: older ones are forgotten, so that a long talk does not overflow the context.
const TURNS_MAX: usize = 40;

/// Talks until stdin ends.
pub(crate) async fn run(args: Chat) -> anyhow::Result<()> {
    let mut talk = Talk::new(args).await?;
    let interactive = std::io::stdin().is_terminal();
    if interactive {
        output::note(&format!("Talking to {}. Ctrl-C stops an answer, Ctrl-D ends.", talk.model));
    }
    while let Some(question) = ask(interactive).await? {
        let question = question.trim();
        if question.is_empty() {
            continue;
        }
        if let Err(error) = talk.answer(question).await {
            if !interactive {
                return Err(error);
            }
            output::failure(&format!("{error:#}"));
        }
    }
    Ok(())
}

/// The next line of stdin, read on a thread of its own because it blocks.
async fn ask(interactive: bool) -> anyhow::Result<Option<String>> {
    if interactive {
        output::ask(&output::paint("\n> ", "1"));
    }
    let read = tokio::task::spawn_blocking(|| {
        let mut line = String::new();
        std::io::stdin().lock().read_line(&mut line).map(|count| (count > 0).then_some(line))
    });
    Ok(read.await??)
}

/// One conversation.
struct Talk {
    client: Client,
    url: String,
    key: Option<Secret>,
    model: String,
    options: Value,
    system: Option<Value>,
    turns: Vec<Value>,
}

impl Talk {
    async fn new(args: Chat) -> anyhow::Result<Self> {
        let installation = Installation::at(args.data_dir)?;
        let url = match args.url {
            Some(url) => url.trim_end_matches('/').trim_end_matches("/v1").to_owned(),
            None => installation.state()?.url,
        };
        let key = match args.key.map(Secret::new).or_else(key_from_env) {
            Some(key) => Some(key),
            None => installation.existing_key("local.key")?,
        };
        let mut options = json!({});
        if let Some(most) = args.max_tokens {
            options["max_tokens"] = most.into();
        }
        if let Some(temperature) = args.temperature {
            options["temperature"] = f64::from(temperature).into();
        }
        let system = args.system.map(|text| json!({"role": "system", "content": text}));
        let client = Client::new()?;
        let mut talk =
            Self { client, url, key, model: String::new(), options, system, turns: Vec::new() };
        talk.model = match args.model {
            Some(model) => model,
            None => talk.first_model().await?,
        };
        Ok(talk)
    }

    async fn first_model(&self) -> anyhow::Result<String> {
        let response = self.send(Method::GET, "/v1/models", Bytes::new()).await?;
        let list: Value = serde_json::from_slice(&response.collect().await?.to_bytes())?;
        let id = list["data"][0]["id"].as_str();
        id.map(str::to_owned).context("the gateway serves no model")
    }

    /// Asks, prints the answer as it comes, and remembers both.
    async fn answer(&mut self, question: &str) -> anyhow::Result<()> {
        self.turns.push(json!({"role": "user", "content": question}));
        let excess = self.turns.len().saturating_sub(TURNS_MAX);
        self.turns.drain(..excess);
        let mut body = self.options.clone();
        let turns = self.system.iter().chain(&self.turns).cloned().collect::<Vec<_>>();
        body["model"] = self.model.as_str().into();
        body["messages"] = turns.into();
        body["stream"] = true.into();
        let mut text = String::new();
        let outcome = tokio::select! {
            outcome = self.stream(body, &mut text) => outcome,
            _ = tokio::signal::ctrl_c() => Ok(()),
        };
        output::line("");
        if outcome.is_err() && text.is_empty() {
            self.turns.pop();
        } else {
            self.turns.push(json!({"role": "assistant", "content": text}));
        }
        outcome
    }

    async fn stream(&self, body: Value, text: &mut String) -> anyhow::Result<()> {
        let bytes = Bytes::from(serde_json::to_vec(&body)?);
        let mut body = self.send(Method::POST, "/v1/chat/completions", bytes).await?;
        let mut decoder = Decoder::default();
        while let Some(frame) = body.frame().await {
            let Ok(data) = frame.context("the connection broke")?.into_data() else { continue };
            decoder.push(&data)?;
            while let Some(event) = decoder.next() {
                if event.data == "[DONE]" {
                    return Ok(());
                }
                let chunk: Value = serde_json::from_str(&event.data)?;
                if let Some(message) = chunk["error"]["message"].as_str() {
                    bail!("{message}");
                }
                if let Some(piece) = chunk["choices"][0]["delta"]["content"].as_str() {
                    text.push_str(piece);
                    output::piece(piece);
                }
            }
        }
        bail!("the answer ended in the middle")
    }

    async fn send(&self, method: Method, path: &str, body: Bytes) -> anyhow::Result<Incoming> {
        let mut request = Request::builder().method(method).uri(format!("{}{path}", self.url));
        request = request.header(header::CONTENT_TYPE, "application/json");
        if let Some(key) = &self.key {
            request = request.header(header::AUTHORIZATION, format!("Bearer {}", key.expose()));
        }
        let response = self.client.request(request.body(body)?).await;
        let response = response.map_err(|error| {
            Wrong::new(format!("cannot reach {}: {error}", self.url))
                .hint("start it with `pilotage up`, or give --url")
        })?;
        if response.status().is_success() {
            return Ok(response.into_body());
        }
        let status = response.status();
        let answer = response.into_body().collect().await?.to_bytes();
        let message = serde_json::from_slice::<Value>(&answer).ok();
        let message = message.as_ref().and_then(|value| value["error"]["message"].as_str());
        bail!("{status}: {}", message.unwrap_or("no reason given"))
    }
}
