//! `grpc.health.v1`: whether a service can be asked.

use super::{Code, Status};

/// The method that probes call.
pub(super) const CHECK: &str = "/grpc.health.v1.Health/Check";

/// Whether a service can be asked.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum Health {
    /// It can.
    Serving,
    /// Not at the moment.
    NotServing,
    /// There is no such service.
    Unknown,
}

/// Which service is asked about; an empty name means the whole server.
#[derive(Clone, PartialEq, prost::Message)]
pub(super) struct Asked {
    #[prost(string, tag = "1")]
    pub(super) service: String,
}

#[derive(Clone, PartialEq, prost::Message)]
pub(super) struct Told {
    #[prost(int32, tag = "1")]
    status: i32,
}

const SERVING: i32 = 1;
const NOT_SERVING: i32 = 2;

pub(super) fn answer(health: Health) -> Result<Told, Status> {
    match health {
        Health::Serving => Ok(Told { status: SERVING }),
        Health::NotServing => Ok(Told { status: NOT_SERVING }),
        Health::Unknown => Err(Status::new(Code::NotFound, "there is no such service here")),
    }
}
