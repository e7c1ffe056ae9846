//! Everything that goes wrong on either side of a gateway, and what its other side sees of it:
//! scripted engines that fail by the catalogue behind it, clients that break HTTP before it.

#![expect(clippy::unwrap_used, reason = "tests and their scaffolding")]

mod abuse;
mod answer;
mod catalogue;
mod cuts;
mod encrypted;
mod floods;
mod frames;
mod hung;
mod kills;
mod multiplexed;
mod partition;
mod rig;
mod rolling;
mod smuggling;
mod tls;
mod unread;
