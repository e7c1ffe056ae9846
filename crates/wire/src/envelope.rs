//! Names of the headers that carry a request's envelope from the gateway to an engine. A client
//! that sends them is not believed, except for the band, which its tenant's highest band clamps.

/// Whose request it is: to an engine a number, to a gateway of another region the tenant's name, which that
/// believes where the key belongs to a tenant that relays.
pub const TENANT: &str = "x-pilotage-tenant";

/// How urgent it is.
pub const BAND: &str = "x-pilotage-band";

/// The request as the gateway itself names it: a number that no client chooses.
pub const ORIGIN: &str = "x-pilotage-origin";

/// The request, by [`ORIGIN`], that stands aside for this one.
pub const DISPLACES: &str = "x-pilotage-displaces";

/// Milliseconds that the caller still waits. From a client: how long it waits for the whole answer.
pub const DEADLINE_MS: &str = "x-pilotage-deadline-ms";

/// How many gateways a request has come through. Whoever sends it, it only takes away: a request that came
/// through one goes to no further one, and with more than [`HOPS_MAX`] it is refused.
pub const HOPS: &str = "x-pilotage-hops";

/// Most gateways that a request comes through before it must be going round in a circle.
pub const HOPS_MAX: u32 = 3;

/// The request's id, in and out.
pub const REQUEST_ID: &str = "x-request-id";

/// Asked for by a client: why the request went where it went.
pub const WHY: &str = "x-pilotage-why";

/// From a client: the language of its prompt, for rules that choose a model by it.
pub const LANGUAGE: &str = "x-pilotage-language";

/// From a client: the tier of models that it asks for.
pub const TIER: &str = "x-pilotage-tier";

/// From a client: its conversation, whose requests are kept together where that is the policy.
pub const SESSION: &str = "x-pilotage-session";

/// In an answer: the limit that stopped the request, as `name; tenant=…; limit=…; used=…; asked=…`.
pub const LIMIT: &str = "x-pilotage-limit";

/// In an answer: the budget that is nearly spent, as `window; spent=…; hard=…`.
pub const BUDGET: &str = "x-pilotage-budget";

/// In an answer: whether its count of tokens is `exact`, or `estimated`.
pub const COUNT: &str = "x-pilotage-count";

/// In an answer of a Route that keeps answers: whether this one was kept, `hit` or `miss`.
pub const CACHE: &str = "x-pilotage-cache";

/// To an engine: the request is a copy whose answer nobody sees.
pub const MIRROR: &str = "x-pilotage-mirror";

/// Most characters of a request id that a client chooses.
pub const REQUEST_ID_MAX: usize = 128;

/// Whether a client's request id is taken over: short, visible ASCII.
pub fn is_request_id(id: &str) -> bool {
    !id.is_empty() && id.len() <= REQUEST_ID_MAX && id.bytes().all(|byte| byte.is_ascii_graphic())
}
