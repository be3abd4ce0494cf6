//! Which driver drives which type of device.

use gnt_config::LogicalDevice;

use crate::blockdev::BlockdevDriver;
use crate::drbd::DrbdDriver;
use crate::driver::Driver;
use crate::error::Error;
use crate::ext::ExtDriver;
use crate::file::FileDriver;
use crate::gluster::GlusterDriver;
use crate::lvm::LvmDriver;
use crate::rbd::RbdDriver;

/// Every driver that there is.
pub static DEV_MAP: &[&dyn Driver] = &[
    &FileDriver::FILE,
    &FileDriver::SHARED_FILE,
    &LvmDriver,
    &DrbdDriver,
    &BlockdevDriver,
    &RbdDriver,
    &GlusterDriver,
    &ExtDriver,
];

/// The driver of a device type.
pub fn driver(device: LogicalDevice) -> Result<&'static dyn Driver, Error> {
    let found = DEV_MAP.iter().find(|driver| driver.device() == device);
    found.copied().ok_or(Error::NoDriver { device })
}
