//! A port for a child process that cannot report the one it chose.

use std::io;
use std::net::{Ipv4Addr, TcpListener};

/// A loopback port that was free a moment ago. Somebody else may take it before the child does:
/// the child then fails to bind, and its supervisor comes here again.
///
/// # Errors
/// No port is free.
pub fn free() -> io::Result<u16> {
    Ok(TcpListener::bind((Ipv4Addr::LOCALHOST, 0))?.local_addr()?.port())
}
