//! Which replicas of a lane a request may go to: none of another region where it came from one, none that its
//! proxy cannot speak with, and none without its adapter.

use http::HeaderMap;
use pilotage_core::route::Bounds;
use pilotage_core::traffic::{Miss, key};
use pilotage_wire::envelope::HOPS_MAX;
use pilotage_wire::openai::error::ApiError;

use super::Missed;
use crate::driver::Lack;
use crate::names;
use crate::reply;
use crate::table::Lane;

/// What a request says of where it may go.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct Asks<'a> {
    /// How many gateways it came through.
    pub(super) hops: u32,
    /// Whether a proxy carries it,
    pub(super) by_proxy: bool,
    /// and the only addresses that it may carry it to, where it names any.
    pub(super) among: Option<&'a [String]>,
    /// The LoRA adapter that it is for.
    pub(super) adapter: Option<&'a str>,
}

/// How many gateways a request came through, as it says. What cannot be read came through one.
pub(super) fn hops(headers: &HeaderMap) -> u32 {
    let said = headers.get(&names::HOPS).map(|hops| hops.to_str().ok()?.parse().ok());
    said.map_or(0, |hops| hops.unwrap_or(1))
}

/// Where a request may go in a lane.
///
/// # Errors
/// It came through too many gateways, or no replica that takes work is left to it and none will be started
/// for it. Another lane may have one.
pub(super) fn bounds(lane: &Lane, asks: Asks<'_>) -> Result<Bounds, Missed> {
    let bounds = Bounds {
        among: asks.among.map(|addresses| lane.handle.at(addresses).into()),
        stays: stays(lane, asks.hops)?,
        by_proxy: asks.by_proxy,
        adapter: asks.adapter.map_or(0, adapter_key),
    };
    if bounds.is_free() {
        return Ok(bounds);
    }
    let refused = match (lane.handle.lack(&bounds), asks.adapter) {
        (Some(Lack::Adapter), Some(adapter)) => reply::not_loaded(adapter),
        // One will be started, and may be had.
        (Some(Lack::Reach), _) if asks.among.is_none() && lane.config.rest.is_some() => {
            return Ok(bounds);
        }
        (Some(Lack::Reach), _) => {
            let message = "none of the replicas that the proxy allows and can take requests to takes work; retry later";
            ApiError::unavailable(message).into()
        }
        (None | Some(Lack::Adapter), _) => return Ok(bounds),
    };
    Err(Missed { refused, miss: Some(Miss::NoReplica) })
}

/// The number that a lane knows an adapter by.
pub(crate) fn adapter_key(name: &str) -> u64 {
    key(name).max(1)
}

/// Whether a request came through a gateway already. Then it goes to none of another region from here, so that
/// regions which send to each other never send in circles.
///
/// # Errors
/// It has come through too many, or no replica is left to this gateway, and none will be started for it.
fn stays(lane: &Lane, hops: u32) -> Result<bool, Missed> {
    if hops == 0 {
        return Ok(false);
    }
    if hops > HOPS_MAX {
        let message = "the request came through too many gateways: say of their endpoints that they are such (`gateway: true`)";
        let error = ApiError { status: 508, ..ApiError::unavailable(message) };
        return Err(Missed { refused: error.into(), miss: None });
    }
    let is_open = lane.handle.is_open_near() || lane.config.rest.is_some();
    if !is_open && lane.handle.has_gateways() {
        let message = "no replica of this region takes work, and the request comes from another one; retry later";
        let refused = ApiError::unavailable(message).into();
        return Err(Missed { refused, miss: Some(Miss::NoReplica) });
    }
    Ok(true)
}
