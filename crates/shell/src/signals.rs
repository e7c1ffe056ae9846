//! Signals that end the process (the first asks for a drain, the second for an end at once), and the
//! one that asks to read its configuration again.

use std::io;

use tokio::signal::unix::{Signal, SignalKind, signal};

/// A listener for SIGINT and SIGTERM.
#[derive(Debug)]
pub struct Shutdown {
    interrupt: Signal,
    terminate: Signal,
}

impl Shutdown {
    /// Takes the two signals over from the system's default, which would end the process.
    ///
    /// # Errors
    /// The system refuses.
    pub fn listen() -> io::Result<Self> {
        let interrupt = signal(SignalKind::interrupt())?;
        Ok(Self { interrupt, terminate: signal(SignalKind::terminate())? })
    }

    /// Waits for the next of them and names it. Call it again to wait for the second.
    pub async fn next(&mut self) -> &'static str {
        tokio::select! {
            _ = self.interrupt.recv() => "SIGINT",
            _ = self.terminate.recv() => "SIGTERM",
        }
    }
}

/// A listener for SIGHUP, the wish to read configuration again.
#[derive(Debug)]
pub struct Reload {
    hangup: Signal,
}

impl Reload {
    /// Takes the signal over from the system's default, which would end the process.
    ///
    /// # Errors
    /// The system refuses.
    pub fn listen() -> io::Result<Self> {
        Ok(Self { hangup: signal(SignalKind::hangup())? })
    }

    /// Waits for the next one.
    pub async fn next(&mut self) {
        let _ = self.hangup.recv().await;
    }
}
