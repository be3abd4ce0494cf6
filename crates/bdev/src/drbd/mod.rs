//! The drbd driver: a volume on each of two nodes, kept alike over the network (DRBD 8.4).
//!
//! What the kernel has under the disk's minor is this disk if it is built of the same volumes, or, without volumes, has the same connection.
//! Nothing here touches a minor that is anything else.

mod commands;
mod device;
mod error;
mod minors;
mod parse;
#[cfg(test)]
mod tests;

use enumset::enum_set;
use gnt_config::{LogicalDevice, Mebibytes, Object};

use crate::dev_map::driver;
use crate::driver::{
    BlockDevice, Capabilities, Change, Driver, LocalDiskStatus, Operation, Space, SyncStatus, Target, refuse,
};
use crate::error::{Cause, Error};
use crate::host::Host;
use device::Device;
pub use error::DrbdError;
pub use minors::{DrbdMinor, minors};
use parse::{ConnectionState, DiskState, Status};
pub use parse::{ParseError, Verdict, Version};

/// Ganeti's `DRBD8Dev`.
#[derive(Debug)]
pub(crate) struct DrbdDriver;

const CAPABILITIES: Capabilities = enum_set!(
    Operation::Create
        | Operation::Find
        | Operation::Assemble
        | Operation::Open
        | Operation::Close
        | Operation::Shutdown
        | Operation::Grow
        | Operation::Remove
        | Operation::AddChildren
        | Operation::RemoveChildren
        | Operation::PauseSync
        | Operation::DisconnectNet
        | Operation::AttachNet
        | Operation::ActualSize
        | Operation::Space
);

/// What the kernel calls for drbd's events.
///
/// # Errors
/// When the kernel has no drbd.
pub fn usermode_helper(host: &Host) -> Result<String, DrbdError> {
    device::usermode_helper(host)
}

/// The kernel calls `wanted` for drbd's events (`drbd_usermode_helper` of the cluster).
///
/// # Errors
/// When it calls something else, or has no drbd.
pub fn check_usermode_helper(host: &Host, wanted: &str) -> Result<(), DrbdError> {
    let found = usermode_helper(host)?;
    match found == wanted {
        true => Ok(()),
        false => Err(DrbdError::Helper {
            found,
            wanted: wanted.to_owned(),
        }),
    }
}

/// The minors that are configured on this node, whoever has them (`GetUsedDevs`).
///
/// # Errors
/// When the kernel does not have the drbd that we know.
pub fn used_minors(host: &Host) -> Result<Vec<u32>, DrbdError> {
    let minors = device::proc(host)?.minors.into_iter();
    Ok(minors
        .filter_map(|(minor, status)| status.map(|_| minor))
        .collect())
}

impl Driver for DrbdDriver {
    fn device(&self) -> LogicalDevice {
        LogicalDevice::Drbd
    }

    fn capabilities(&self) -> Capabilities {
        CAPABILITIES
    }

    /// A new disk needs a kernel that has drbd 8.4, and a minor that is free.
    fn check(&self, host: &Host, target: &Target<'_>, operation: Operation) -> Result<(), Error> {
        if !CAPABILITIES.contains(operation) {
            return refuse(self.device(), operation);
        }
        doing(operation, host, target, |device| {
            if operation == Operation::Create {
                device.running()?;
            }
            Ok(())
        })
    }

    /// Makes its metadata. What is on its volumes is not touched, and what the two nodes have becomes the same only when it is first opened.
    fn create(&self, host: &Host, target: &Target<'_>) -> Result<Change, Error> {
        doing(Operation::Create, host, target, |device| device.create())
    }

    /// One that does not run has no path.
    fn find(&self, host: &Host, target: &Target<'_>) -> Result<Option<BlockDevice>, Error> {
        doing(Operation::Find, host, target, |device| {
            let is_there = target.children.iter().any(Option::is_some);
            match device.running_if_ours()? {
                Some(_) => Ok(Some(device.device()?)),
                None => Ok(is_there.then(BlockDevice::default)),
            }
        })
    }

    /// Without data on this node, that of the other can be reached. The peer need not be there.
    fn assemble(&self, host: &Host, target: &Target<'_>) -> Result<BlockDevice, Error> {
        doing(Operation::Assemble, host, target, |device| Ok(device.assemble()?))
    }

    /// Makes it primary. Whether the other node may be too is said when they are connected: [`Driver::attach_net`]. To be so together with
    /// the other, both must be connected and have the same data.
    fn open(&self, host: &Host, target: &Target<'_>, exclusive: bool) -> Result<(), Error> {
        doing(
            Operation::Open,
            host,
            target,
            |device| Ok(device.open(exclusive)?),
        )
    }

    fn open_new(&self, host: &Host, target: &Target<'_>) -> Result<(), Error> {
        doing(Operation::Open, host, target, |device| Ok(device.open_new()?))
    }

    fn close(&self, host: &Host, target: &Target<'_>) -> Result<(), Error> {
        doing(Operation::Close, host, target, |device| Ok(device.close()?))
    }

    fn shutdown(&self, host: &Host, target: &Target<'_>) -> Result<Change, Error> {
        doing(Operation::Shutdown, host, target, |device| Ok(device.shutdown()?))
    }

    /// The volumes below must have grown on both nodes before.
    fn grow(&self, host: &Host, target: &Target<'_>, to: Mebibytes, dry_run: bool) -> Result<Change, Error> {
        doing(Operation::Grow, host, target, |device| {
            target.check_growth(to)?;
            Ok(device.grow(to, dry_run)?)
        })
    }

    /// There is nothing of it but its volumes, which are removed after it.
    fn remove(&self, host: &Host, target: &Target<'_>) -> Result<Change, Error> {
        doing(Operation::Remove, host, target, |device| Ok(device.shutdown()?))
    }

    fn add_children(&self, host: &Host, target: &Target<'_>) -> Result<Change, Error> {
        doing(Operation::AddChildren, host, target, |device| {
            device.add_children()
        })
    }

    fn remove_children(&self, host: &Host, target: &Target<'_>) -> Result<Change, Error> {
        doing(Operation::RemoveChildren, host, target, |device| {
            Ok(device.remove_children()?)
        })
    }

    fn pause_sync(&self, host: &Host, target: &Target<'_>) -> Result<(), Error> {
        doing(Operation::PauseSync, host, target, |device| {
            Ok(device.pause_sync(true)?)
        })
    }

    fn resume_sync(&self, host: &Host, target: &Target<'_>) -> Result<(), Error> {
        doing(Operation::PauseSync, host, target, |device| {
            Ok(device.pause_sync(false)?)
        })
    }

    fn disconnect_net(&self, host: &Host, target: &Target<'_>) -> Result<Change, Error> {
        doing(Operation::DisconnectNet, host, target, |device| {
            Ok(device.disconnect_net()?)
        })
    }

    fn attach_net(&self, host: &Host, target: &Target<'_>, multimaster: bool) -> Result<Change, Error> {
        doing(Operation::AttachNet, host, target, |device| {
            Ok(device.attach_net(multimaster)?)
        })
    }

    fn wait_sync(&self, host: &Host, target: &Target<'_>) -> Result<SyncStatus, Error> {
        doing(Operation::AttachNet, host, target, |device| {
            let status = device.wait_sync()?;
            Ok(sync_status(&status, device.bytes()?))
        })
    }

    fn sync_status(&self, host: &Host, target: &Target<'_>) -> Result<SyncStatus, Error> {
        doing(Operation::Find, host, target, |device| {
            Ok(match device.running_if_ours()? {
                Some(running) => sync_status(&running.status, device.bytes()?),
                None => SyncStatus {
                    is_degraded: true,
                    ldisk_status: LocalDiskStatus::Unknown,
                    ..SyncStatus::OKAY
                },
            })
        })
    }

    fn actual_size(&self, host: &Host, target: &Target<'_>) -> Result<u64, Error> {
        doing(Operation::ActualSize, host, target, |device| {
            device.active()?;
            Ok(device.bytes()?)
        })
    }

    /// That for the volumes below it.
    fn space(&self, host: &Host, params: &Object) -> Result<Vec<Space>, Error> {
        driver(LogicalDevice::Plain)?.space(host, params)
    }
}

fn doing<'a, T>(
    operation: Operation,
    host: &'a Host,
    target: &Target<'a>,
    work: impl FnOnce(&Device<'a>) -> Result<T, Cause>,
) -> Result<T, Error> {
    target.doing(operation, host, || work(&Device::of(host, target)?))
}

/// What a status of drbd means (`GetSyncStatus`): one that is left alone is faulty, whatever it has.
fn sync_status(status: &Status, bytes: u64) -> SyncStatus {
    let is_uptodate = status.disk == DiskState::UpToDate;
    let is_in_resync = status.connection.is_in_resync();
    // It may be about to get data, and not know yet that it lacks it.
    let is_good = is_uptodate && !status.connection.is_comparing();
    let ldisk_status =
        if status.disk == DiskState::Diskless || status.connection == ConnectionState::StandAlone {
            LocalDiskStatus::Faulty
        } else if is_good {
            LocalDiskStatus::Okay
        } else if is_in_resync {
            LocalDiskStatus::Sync
        } else {
            LocalDiskStatus::Unknown
        };
    SyncStatus {
        sync_percent: is_in_resync.then(|| status.synced.unwrap_or_else(|| in_sync(status, bytes))),
        estimated_time: status.finish.filter(|_| is_in_resync),
        is_degraded: !status.connection.is_connected() || !is_uptodate,
        ldisk_status,
    }
}

/// How much of the device is in sync, where the kernel does not tell: it does so only while something moves.
fn in_sync(status: &Status, bytes: u64) -> f64 {
    let bytes_per_percent = bytes as f64 / 100.0;
    let out_of_sync = (status.out_of_sync * 1024) as f64 / bytes_per_percent;
    match out_of_sync.is_finite() {
        true => (100.0 - out_of_sync).max(0.0),
        false => 0.0,
    }
}
