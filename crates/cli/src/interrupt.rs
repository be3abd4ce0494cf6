//! Signals that ask a command to stop.

use tokio::signal::unix::{SignalKind, signal};

use crate::failure::Failure;

/// Waits until the user or the system asks the process to stop, and tells by which signal.
pub(crate) async fn requested() -> Result<&'static str, Failure> {
    let listen = |kind| signal(kind).map_err(Failure::Runtime);
    let mut interrupt = listen(SignalKind::interrupt())?;
    let mut terminate = listen(SignalKind::terminate())?;
    let mut hangup = listen(SignalKind::hangup())?;
    Ok(tokio::select! {
        _ = interrupt.recv() => "SIGINT",
        _ = terminate.recv() => "SIGTERM",
        _ = hangup.recv() => "SIGHUP",
    })
}
