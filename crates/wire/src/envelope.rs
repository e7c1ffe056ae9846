//! Names of the headers that carry a request's envelope from the gateway to an engine. A client
//! that sends them is not believed, except for the band, which its tenant's highest band clamps.

/// Whose request it is.
pub const TENANT: &str = "x-pilotage-tenant";

/// How urgent it is.
pub const BAND: &str = "x-pilotage-band";

/// Milliseconds that the caller still waits.
pub const DEADLINE_MS: &str = "x-pilotage-deadline-ms";

/// The request's id, in and out.
pub const REQUEST_ID: &str = "x-request-id";

/// Asked for by a client: why the request went where it went.
pub const WHY: &str = "x-pilotage-why";

/// Most characters of a request id that a client chooses.
pub const REQUEST_ID_MAX: usize = 128;

/// Whether a client's request id is taken over: short, visible ASCII.
pub fn is_request_id(id: &str) -> bool {
    !id.is_empty() && id.len() <= REQUEST_ID_MAX && id.bytes().all(|byte| byte.is_ascii_graphic())
}
