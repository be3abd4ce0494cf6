//! The blockdev driver: a block device that exists already, known by its path. What is on it is not ours.

use std::path::Path;

use enumset::enum_set;
use gnt_config::{LogicalDevice, LogicalId};

use crate::device::{self, DeviceError};
use crate::driver::{BlockDevice, Capabilities, Change, Driver, Operation, Target};
use crate::error::{Cause, Error};
use crate::host::Host;

/// Ganeti's `PersistentBlockDevice`.
#[derive(Debug)]
pub(crate) struct BlockdevDriver;

const CAPABILITIES: Capabilities = enum_set!(
    Operation::Create
        | Operation::Find
        | Operation::Assemble
        | Operation::Open
        | Operation::Close
        | Operation::Shutdown
        | Operation::Remove
        | Operation::ActualSize
);

impl Driver for BlockdevDriver {
    fn device(&self) -> LogicalDevice {
        LogicalDevice::Blockdev
    }

    fn capabilities(&self) -> Capabilities {
        CAPABILITIES
    }

    /// A device that something else on this node has for itself cannot become a disk.
    fn check_create(&self, host: &Host, target: &Target<'_>) -> Result<(), Error> {
        target.doing(Operation::Create, host, || {
            usable(target)?;
            Ok(device::ensure_free(path(target)?)?)
        })
    }

    fn create(&self, host: &Host, target: &Target<'_>) -> Result<Change, Error> {
        target.doing(Operation::Create, host, || {
            usable(target)?;
            Ok(Change::AlreadyThere)
        })
    }

    fn find(&self, host: &Host, target: &Target<'_>) -> Result<Option<BlockDevice>, Error> {
        target.doing(Operation::Find, host, || match device::under_dev(path(target)?) {
            Ok(device) => Ok(Some(device)),
            Err(DeviceError::NotFound { .. }) => Ok(None),
            Err(error) => Err(error.into()),
        })
    }

    fn assemble(&self, host: &Host, target: &Target<'_>) -> Result<BlockDevice, Error> {
        target.doing(Operation::Assemble, host, || usable(target))
    }

    fn open(&self, _host: &Host, _target: &Target<'_>, _exclusive: bool) -> Result<(), Error> {
        Ok(())
    }

    fn close(&self, _host: &Host, _target: &Target<'_>) -> Result<(), Error> {
        Ok(())
    }

    fn shutdown(&self, _host: &Host, _target: &Target<'_>) -> Result<Change, Error> {
        Ok(Change::AlreadyThere)
    }

    fn remove(&self, _host: &Host, _target: &Target<'_>) -> Result<Change, Error> {
        Ok(Change::AlreadyThere)
    }

    fn actual_size(&self, host: &Host, target: &Target<'_>) -> Result<u64, Error> {
        target.doing(Operation::ActualSize, host, || {
            Ok(device::under_dev(path(target)?)?.bytes.unwrap_or_default())
        })
    }
}

fn path<'a>(target: &Target<'a>) -> Result<&'a Path, Cause> {
    match &target.disk.logical_id {
        LogicalId::BlockDev { path } => Ok(Path::new(path)),
        id => Err(Cause::WrongId {
            device: LogicalDevice::Blockdev,
            id: id.clone(),
        }),
    }
}

/// The device, if it is as large as the disk.
fn usable(target: &Target<'_>) -> Result<BlockDevice, Cause> {
    let path = path(target)?;
    let device = device::under_dev(path)?;
    match device.bytes {
        Some(bytes) if bytes < target.disk.size.bytes() => Err(Cause::TooSmall {
            path: path.to_owned(),
            bytes,
            size: target.disk.size,
        }),
        _ => Ok(device),
    }
}
