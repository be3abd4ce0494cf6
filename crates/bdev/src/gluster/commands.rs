//! Mounting and unmounting (mount.glusterfs(8), umount(8)).

use std::path::Path;
use std::time::Duration;

use gnt_config::params::GlusterParams;
use gnt_process::{Command, CommandFailed};

use crate::error::ErrorKind;

/// A server that does not answer at all is given up by TCP after two minutes.
const TIMEOUT: Duration = Duration::from_secs(180);

/// Mounts a volume. What goes wrong is in the log only. That is the same whether a disk will be used or only looked at; the latter is undone
/// at once, so that a dry run may do it.
pub(super) fn mount(params: &GlusterParams, mount_point: &Path, log: &Path) -> Command {
    Command::query("mount.glusterfs")
        .arg(format!("{}:/{}", params.host, params.volume))
        .arg(mount_point)
        .arg("-o")
        .arg(format!("server-port={},log-file={}", params.port, log.display()))
        .timeout(TIMEOUT)
}

pub(super) fn unmount(mount_point: &Path) -> Command {
    Command::query("umount").arg(mount_point).timeout(TIMEOUT)
}

/// For a mount that never worked.
pub(super) fn abandon(mount_point: &Path) -> Command {
    Command::query("umount")
        .arg("--lazy")
        .arg(mount_point)
        .timeout(TIMEOUT)
}

/// What a failure of either means.
pub(super) fn classify(failed: &CommandFailed) -> ErrorKind {
    match failed.stderr.text().contains("busy") {
        true => ErrorKind::Busy,
        false => ErrorKind::Other,
    }
}

/// What a hypervisor with a Gluster client of its own is given: `gluster://HOST:PORT/VOLUME/PATH`.
pub(super) fn uri(params: &GlusterParams, path: &str) -> String {
    let host = params.host.as_str();
    let (open, close) = match host.contains(':') && !host.starts_with('[') {
        true => ("[", "]"),
        false => ("", ""),
    };
    format!(
        "gluster://{open}{host}{close}:{}/{}/{}",
        params.port,
        params.volume,
        path.trim_start_matches('/')
    )
}
