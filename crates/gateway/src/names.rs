//! Names of headers, made once: making one from its text takes longer than looking it up.

use http::HeaderName;
use pilotage_wire::{envelope, trace};

pub(crate) static TENANT: HeaderName = HeaderName::from_static(envelope::TENANT);
pub(crate) static BAND: HeaderName = HeaderName::from_static(envelope::BAND);
pub(crate) static ORIGIN: HeaderName = HeaderName::from_static(envelope::ORIGIN);
pub(crate) static DISPLACES: HeaderName = HeaderName::from_static(envelope::DISPLACES);
pub(crate) static DEADLINE_MS: HeaderName = HeaderName::from_static(envelope::DEADLINE_MS);
pub(crate) static HOPS: HeaderName = HeaderName::from_static(envelope::HOPS);
pub(crate) static REQUEST_ID: HeaderName = HeaderName::from_static(envelope::REQUEST_ID);
pub(crate) static WHY: HeaderName = HeaderName::from_static(envelope::WHY);
pub(crate) static LANGUAGE: HeaderName = HeaderName::from_static(envelope::LANGUAGE);
pub(crate) static TIER: HeaderName = HeaderName::from_static(envelope::TIER);
pub(crate) static SESSION: HeaderName = HeaderName::from_static(envelope::SESSION);
pub(crate) static MIRROR: HeaderName = HeaderName::from_static(envelope::MIRROR);
pub(crate) static TRACEPARENT: HeaderName = HeaderName::from_static(trace::TRACEPARENT);
pub(crate) static TRACESTATE: HeaderName = HeaderName::from_static(trace::TRACESTATE);
pub(crate) static API_KEY: HeaderName = HeaderName::from_static("x-api-key");
