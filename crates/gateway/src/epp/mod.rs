//! An endpoint picker for proxies that carry requests themselves: over Envoy's external processing, as the
//! Gateway API Inference Extension asks for it. A request is held until its turn comes, and counted as
//! if this gateway had carried it; when its stream of messages ends early, its client has left.
//!
//! Contract: a stream of messages whose request was not directed never ends well. To proxies a good end says
//! that the request goes on as it is: unasked for its key, and to wherever its client wrote.

mod words;

use std::net::SocketAddr;
use std::time::Duration;

use http::HeaderName;
use pilotage_shell::grpc::{Code, Grpc, GrpcLimits, Health, Replies, Requests, Status};
use pilotage_wire::extproc::{
    Answered, Asked, Conversation, Direction, PROCESS, ProcessingRequest, ProcessingResponse,
    SERVICE, Step,
};
use tokio::time::timeout;

use crate::app::Gateway;
use crate::forward::{Pick, Picked, Trouble};

/// How a picker serves.
#[derive(Clone, Debug, Default, Eq, PartialEq)]
pub struct PickerConfig {
    /// The header in which the proxy names the tenant, which it has found out itself; none where requests
    /// prove it with keys. What clients send under that name has to be taken away by the proxy.
    pub tenant_header: Option<HeaderName>,
}

/// Bytes of a message besides the body in it.
const MESSAGE_HEAD_BYTES: usize = 256 << 10;

/// How long a proxy may take to show more of a request.
const READ_TIMEOUT: Duration = Duration::from_secs(60);

/// How long looking up a replica's name may take.
const LOOKUP_TIMEOUT: Duration = Duration::from_secs(5);

/// The picker as a server, with the health service that proxies probe.
pub fn service(gateway: &Gateway, config: PickerConfig) -> Grpc {
    let limits = GrpcLimits {
        message_bytes_max: gateway.body_bytes_max() + MESSAGE_HEAD_BYTES,
        ..GrpcLimits::default()
    };
    let (picking, probed) = (gateway.clone(), gateway.clone());
    Grpc::new(limits)
        .streaming(PROCESS, move |requests, replies| {
            let talk = Talk {
                gateway: picking.clone(),
                config: config.clone(),
                said: Conversation::new(picking.body_bytes_max()),
                picked: None,
                wants_why: false,
                replies,
            };
            talk.run(requests)
        })
        .health(move |service| match service {
            "liveness" => Health::Serving,
            "" | "readiness" | SERVICE if probed.is_open() => Health::Serving,
            "" | "readiness" | SERVICE => Health::NotServing,
            _ => Health::Unknown,
        })
}

/// One request of a proxy.
struct Talk {
    gateway: Gateway,
    config: PickerConfig,
    said: Conversation,
    picked: Option<Box<Picked>>,
    wants_why: bool,
    replies: Replies<ProcessingResponse>,
}

/// What ends a conversation before the proxy does: the answer that it gives instead.
type Instead = Box<ProcessingResponse>;

impl Talk {
    async fn run(mut self, mut requests: Requests<ProcessingRequest>) -> Result<(), Status> {
        loop {
            let Ok(next) = timeout(self.patience(), requests.next()).await else {
                return self.late().await;
            };
            let Some(request) = next? else { return self.closed() };
            let done = match self.take(request) {
                Ok(Step::Asked(asked)) => tokio::select! {
                    biased;
                    done = self.direct(asked) => done,
                    // Nothing more belongs to a request that is whole: its client has left, or the proxy
                    // answers by itself.
                    more = requests.next() => match more? {
                        None => return self.closed(),
                        Some(more) => match self.take(more) {
                            Ok(step) => self.shown(step).await,
                            Err(instead) => Err(instead),
                        },
                    },
                },
                Ok(step) => self.shown(step).await,
                Err(instead) => Err(instead),
            };
            if let Err(instead) = done {
                self.replies.send(&instead).await;
                return Ok(());
            }
        }
    }

    /// How long the proxy may take to show more.
    fn patience(&self) -> Duration {
        self.picked.as_ref().map_or(READ_TIMEOUT, |picked| picked.patience())
    }

    fn take(&mut self, request: ProcessingRequest) -> Result<Step, Instead> {
        self.said.take(request).map_err(|wrong| {
            tracing::warn!(%wrong, "a proxy cannot be served");
            Box::new(words::wrong(&wrong))
        })
    }

    /// Waits for the request's turn and says where it goes.
    async fn direct(&mut self, asked: Asked) -> Result<(), Instead> {
        let with = Pick {
            tenant: self.config.tenant_header.as_ref().map(|name| {
                let told = asked.header(name.as_str()).unwrap_or_default();
                String::from_utf8_lossy(told).into_owned()
            }),
            among: asked.subset.clone(),
            shows_answer: self.said.shows_response(),
        };
        self.wants_why = words::wants_why(&asked);
        let request = words::request(&asked)?;
        let picked = self.gateway.pick(request, with).await;
        let mut picked = picked.map_err(|response| words::instead(&response))?;
        let Some(endpoint) = resolve(picked.address()).await else {
            let response = picked.unanswered(Trouble::Unreachable).await;
            return Err(words::instead(&response));
        };
        let (set, remove) = words::changes(&asked, picked.request());
        let body = Some(picked.request().body().clone()).filter(|body| *body != asked.body);
        let to = Direction { endpoint: endpoint.to_string(), set, remove, body };
        self.picked = Some(picked);
        for reply in self.said.direct(to) {
            self.replies.send(&reply).await;
        }
        Ok(())
    }

    /// Takes in what is shown of the answer, and lets it pass.
    async fn shown(&mut self, step: Step) -> Result<(), Instead> {
        let Some(picked) = &mut self.picked else {
            let replies = match step {
                Step::Reply(reply) => reply.into_iter().collect(),
                Step::Passed(replies) => replies,
                Step::Asked(_) | Step::Answered(_) | Step::Body(..) | Step::End => Vec::new(),
            };
            for reply in replies {
                self.replies.send(&reply).await;
            }
            return Ok(());
        };
        match step {
            Step::Answered(answered) => return self.answered(&answered).await,
            Step::Body(data, is_end) => {
                let told = picked.data(data.clone());
                let rest = if is_end { picked.end(true) } else { bytes::Bytes::new() };
                let told = words::join(told, rest);
                picked.booked().await;
                for reply in self.said.pass_body(&data, told, is_end) {
                    self.replies.send(&reply).await;
                }
            }
            Step::End => {
                let rest = picked.end(true);
                picked.booked().await;
                for reply in self.said.pass_trailers(rest) {
                    self.replies.send(&reply).await;
                }
            }
            Step::Reply(_) | Step::Passed(_) | Step::Asked(_) => {}
        }
        Ok(())
    }

    async fn answered(&mut self, answered: &Answered) -> Result<(), Instead> {
        let Some(picked) = &mut self.picked else { return Ok(()) };
        if let Some(trouble) = words::trouble(answered) {
            let response = picked.unanswered(trouble).await;
            return Err(words::instead(&response));
        }
        let (status, headers) = words::head(answered);
        let begun = picked.answered(status, &headers).await;
        begun.map_err(|response| words::instead(&response))?;
        if answered.is_end {
            picked.end(true);
            picked.booked().await;
        } else if !answered.shows_body {
            picked.unseen();
        }
        let why = picked.why().filter(|_| self.wants_why);
        let limits = picked.take_limits();
        let set = words::told(picked.request_id(), limits, why);
        self.replies.send(&self.said.pass_head(set, Vec::new())).await;
        Ok(())
    }

    /// The proxy shows nothing more, in time.
    async fn late(&mut self) -> Result<(), Status> {
        match &mut self.picked {
            // It passes by, and ends when it ends.
            Some(picked) if picked.is_over() || picked.is_unseen() => Ok(()),
            Some(picked) => {
                let response = picked.unanswered(Trouble::Late).await;
                self.replies.send(&words::instead(&response)).await;
                Ok(())
            }
            None if self.said.is_local() => Ok(()),
            None => {
                self.replies.send(&words::slow(READ_TIMEOUT)).await;
                let message = "the request was not shown in time, and goes nowhere";
                Err(Status::new(Code::DeadlineExceeded, message))
            }
        }
    }

    /// The proxy has shown all that it shows.
    fn closed(&self) -> Result<(), Status> {
        if self.picked.is_some() || self.said.is_local() {
            return Ok(());
        }
        Err(Status::new(Code::Cancelled, "the request was not directed, and goes nowhere"))
    }
}

/// An address as proxies take it.
async fn resolve(address: &str) -> Option<SocketAddr> {
    if let Ok(address) = address.parse() {
        return Some(address);
    }
    let found = timeout(LOOKUP_TIMEOUT, tokio::net::lookup_host(address)).await.ok()?;
    found.ok()?.next()
}
