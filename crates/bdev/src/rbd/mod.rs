//! The rbd driver: an image in a Ceph pool, mapped by the kernel.
//!
//! Finding an image maps nothing. An image is mapped for hypervisors that reach it by themselves too, as whoever installs or copies
//! an instance works on a device.

mod commands;
mod error;
mod parse;
#[cfg(test)]
mod tests;

use std::path::{Path, PathBuf};
use std::thread;
use std::time::{Duration, Instant};

use enumset::enum_set;
use gnt_config::params::{Parameters, RbdParams};
use gnt_config::{LogicalDevice, LogicalId, Mebibytes, Object};
use gnt_process::{Command, Output};

use self::commands::{Image, Pool};
pub use self::error::RbdError;
use self::parse::{Mapping, ParseError};
use crate::device;
use crate::driver::{
    BlockDevice, Capabilities, Change, Driver, FoundVolume, Operation, Owner, Space, Target,
};
use crate::error::{Cause, Error, ErrorKind};
use crate::host::Host;
use crate::tool::{self, ToolError};

/// Ganeti's `RADOSBlockDevice`.
#[derive(Debug)]
pub(crate) struct RbdDriver;

const CAPABILITIES: Capabilities = enum_set!(
    Operation::Create
        | Operation::Find
        | Operation::Assemble
        | Operation::Open
        | Operation::Close
        | Operation::Shutdown
        | Operation::Grow
        | Operation::Remove
        | Operation::SetInfo
        | Operation::Snapshot
        | Operation::ActualSize
        | Operation::UserspaceUri
        | Operation::Volumes
        | Operation::Space
);

/// The hypervisor that has a Ceph client of its own.
const KVM: &str = "kvm";
/// What the names of snapshots begin with that exist only while they are copied.
const COPYING: &str = "gnt-disk.";
/// How long a client that died keeps its images open is 30 seconds in Ceph (`osd_client_watch_timeout`).
const WATCHERS_PATIENCE: Duration = Duration::from_secs(40);
/// udev looks at a device that was written to, and has it open meanwhile.
const UNMAP_PATIENCE: Duration = Duration::from_secs(3);
/// How many images are asked at once whose they are.
const ASKED_AT_ONCE: usize = 4;

impl Driver for RbdDriver {
    fn device(&self) -> LogicalDevice {
        LogicalDevice::Rbd
    }

    fn capabilities(&self) -> Capabilities {
        CAPABILITIES
    }

    /// A new image needs a cluster that answers, and its pool.
    fn check_create(&self, host: &Host, target: &Target<'_>) -> Result<(), Error> {
        target.doing(Operation::Create, host, || {
            with_image(target, |image| image.size(host).map(drop))
        })
    }

    fn create(&self, host: &Host, target: &Target<'_>) -> Result<Change, Error> {
        target.doing(Operation::Create, host, || {
            let size = target.disk.size;
            with_image(target, |image| match image.size(host)? {
                Some(bytes) if bytes == size.bytes() => Ok(Change::AlreadyThere),
                Some(bytes) => Err(RbdError::OtherImage {
                    image: image.spec(),
                    bytes,
                }),
                None => image.run(host, image.create(size)).map(|_| Change::Made),
            })
        })
    }

    fn find(&self, host: &Host, target: &Target<'_>) -> Result<Option<BlockDevice>, Error> {
        target.doing(Operation::Find, host, || {
            let found = with_image(target, |image| match image.size(host)? {
                None => Ok(None),
                Some(bytes) => Ok(Some((bytes, image.devices(host)?.into_iter().next()))),
            })?;
            match found {
                None => Ok(None),
                Some((_, Some(path))) => Ok(Some(device::at(&path)?)),
                Some((bytes, None)) => Ok(Some(unmapped(bytes))),
            }
        })
    }

    fn assemble(&self, host: &Host, target: &Target<'_>) -> Result<BlockDevice, Error> {
        target.doing(Operation::Assemble, host, || {
            let path = with_image(target, |image| match image.devices(host)?.into_iter().next() {
                Some(path) => Ok(Some(path)),
                None => image.map_new(host),
            })?;
            match path {
                Some(path) => Ok(device::at(&path)?),
                None => Ok(unmapped(target.disk.size.bytes())),
            }
        })
    }

    /// An image changes hands by itself: its exclusive lock goes to whoever writes.
    fn open(&self, _host: &Host, _target: &Target<'_>, _exclusive: bool) -> Result<(), Error> {
        Ok(())
    }

    fn close(&self, _host: &Host, _target: &Target<'_>) -> Result<(), Error> {
        Ok(())
    }

    /// Every mapping of the image goes, if there are several. Those of its snapshots are somebody else's.
    fn shutdown(&self, host: &Host, target: &Target<'_>) -> Result<Change, Error> {
        target.doing(Operation::Shutdown, host, || unmap_all(host, target))
    }

    fn grow(&self, host: &Host, target: &Target<'_>, to: Mebibytes, dry_run: bool) -> Result<Change, Error> {
        target.doing(Operation::Grow, host, || {
            target.check_growth(to)?;
            with_image(target, |image| {
                if image.existing_size(host)? >= to.bytes() {
                    return Ok(Change::AlreadyThere);
                }
                // Images take up room as they are written, so that there is nothing else to check.
                if !dry_run {
                    image.run(host, image.resize(to))?;
                }
                Ok(Change::Made)
            })
        })
    }

    /// Also an image that a client has open which died, once the cluster has noticed that it did.
    fn remove(&self, host: &Host, target: &Target<'_>) -> Result<Change, Error> {
        target.doing(Operation::Remove, host, || {
            let unmapped = unmap_all(host, target)?;
            let removed = with_image(target, |image| match image.size(host)? {
                None => Ok(Change::AlreadyThere),
                Some(_) => image.remove_in_time(host, WATCHERS_PATIENCE),
            })?;
            Ok(unmapped.or(removed))
        })
    }

    fn set_info(&self, host: &Host, target: &Target<'_>, text: &str) -> Result<(), Error> {
        target.doing(Operation::SetInfo, host, || {
            let owner = serde_json::json!(Owner::of(target, Some(text)));
            with_image(target, |image| {
                image.run(host, image.set_owner(&owner.to_string())).map(drop)
            })
        })
    }

    /// A snapshot of Ceph's cannot outlive its image, and would keep it from being removed; so what is made is a copy of one. The moment is
    /// that of the snapshot, however long the copy takes.
    fn snapshot(
        &self,
        host: &Host,
        target: &Target<'_>,
        name: &str,
        _size: Mebibytes,
    ) -> Result<LogicalId, Error> {
        target.doing(Operation::Snapshot, host, || {
            let params = params_of(&target.disk.params)?;
            let image = image(&params, target)?;
            let copy = Image { name, ..image };
            check_name(name)?;
            if let Some(bytes) = copy.size(host)? {
                return Err(RbdError::OtherImage {
                    image: copy.spec(),
                    bytes,
                }
                .into());
            }
            let snapshot = format!("{COPYING}{name}");
            image.take_snapshot(host, &snapshot)?;
            let copied = copy_snapshot(host, image, &snapshot, copy);
            let forgotten = image.run(host, image.remove_snapshot(&snapshot));
            copied?;
            forgotten?;
            Ok(LogicalId::Rbd {
                volume: name.to_owned(),
            })
        })
    }

    fn actual_size(&self, host: &Host, target: &Target<'_>) -> Result<u64, Error> {
        target.doing(Operation::ActualSize, host, || {
            with_image(target, |image| image.existing_size(host))
        })
    }

    fn userspace_uri(&self, host: &Host, target: &Target<'_>, hypervisor: &str) -> Result<String, Error> {
        target.doing(Operation::UserspaceUri, host, || {
            if hypervisor != KVM {
                return Err(Cause::NoUserspaceAccess {
                    device: self.device(),
                    hypervisor: hypervisor.to_owned(),
                });
            }
            with_image(target, |image| Ok(uri(image)))
        })
    }

    /// Of the pool that `params` name. Asks the kernel only. A node without Ceph's tools has none.
    fn attached(&self, host: &Host, params: &Object) -> Result<Vec<LogicalId>, Error> {
        let list = || {
            let params = RbdParams::from_object(params).map_err(RbdError::from)?;
            let pool = Pool::of(&params).name;
            let of_pool = |mapping: &Mapping| {
                mapping.pool == pool && mapping.namespace.is_empty() && mapping.snapshot.is_none()
            };
            let mapped = mappings(host)?.into_iter().filter(of_pool);
            let images = mapped.map(|mapping| LogicalId::Rbd {
                volume: mapping.image,
            });
            Ok(images.collect())
        };
        match list() {
            Err(RbdError::Tool(error)) if error.is_missing() => Ok(Vec::new()),
            listed => listed.map_err(|error| Error::Volumes {
                device: self.device(),
                node: host.name.clone(),
                cause: Box::new(error.into()),
            }),
        }
    }

    /// Of the pool that `params` name. One command lists them all with their sizes, but none tells of more than one image whose it is: those
    /// commands run several at once.
    fn volumes(&self, host: &Host, params: &Object) -> Result<Vec<FoundVolume>, Error> {
        let list = || {
            let params = RbdParams::from_object(params).map_err(RbdError::from)?;
            list(host, Pool::of(&params))
        };
        list().map_err(|error: RbdError| Error::Volumes {
            device: self.device(),
            node: host.name.clone(),
            cause: Box::new(error.into()),
        })
    }

    /// In the pool that `params` name: what can be written to it, the copies that Ceph makes not counted. A cluster whose manager does not run
    /// cannot tell.
    fn space(&self, host: &Host, params: &Object) -> Result<Vec<Space>, Error> {
        let ask = || {
            let params = RbdParams::from_object(params).map_err(RbdError::from)?;
            let pool = Pool::of(&params);
            let command = pool.space();
            let output = run(host, pool, &command)?;
            let found = parsed(&command, &output, |text| parse::space(text, pool.name))?;
            Ok(found.into_iter().collect())
        };
        ask().map_err(|error: RbdError| Error::Space {
            device: self.device(),
            node: host.name.clone(),
            cause: Box::new(error.into()),
        })
    }
}

/// Works on the image that is a target's.
fn with_image<T>(
    target: &Target<'_>,
    work: impl FnOnce(Image<'_>) -> Result<T, RbdError>,
) -> Result<T, Cause> {
    let params = params_of(&target.disk.params)?;
    Ok(work(image(&params, target)?)?)
}

fn params_of(params: &Object) -> Result<RbdParams, RbdError> {
    Ok(RbdParams::from_object(params)?)
}

fn image<'a>(params: &'a RbdParams, target: &Target<'a>) -> Result<Image<'a>, Cause> {
    match &target.disk.logical_id {
        LogicalId::Rbd { volume } => {
            check_name(volume)?;
            Ok(Image {
                pool: Pool::of(params),
                name: volume,
            })
        }
        id => Err(Cause::WrongId {
            device: LogicalDevice::Rbd,
            id: id.clone(),
        }),
    }
}

/// The tools take `POOL/NAMESPACE/IMAGE@SNAPSHOT` apart at these.
fn check_name(name: &str) -> Result<(), RbdError> {
    if name.is_empty() || name.contains(['/', '@']) {
        let name = name.to_owned();
        return Err(RbdError::Name { name });
    }
    Ok(())
}

fn unmapped(bytes: u64) -> BlockDevice {
    BlockDevice {
        bytes: Some(bytes),
        ..BlockDevice::default()
    }
}

/// What qemu is given. It takes it apart at the colons, and at those of the options' values.
fn uri(image: Image<'_>) -> String {
    let quoted = |text: &str| {
        let special = |c| matches!(c, ':' | '\\' | '=');
        text.chars()
            .flat_map(|c| special(c).then_some('\\').into_iter().chain([c]))
            .collect::<String>()
    };
    let user = image.pool.user.map(|user| format!(":id={}", quoted(user)));
    format!(
        "rbd:{}/{}{}",
        quoted(image.pool.name),
        quoted(image.name),
        user.unwrap_or_default()
    )
}

impl Image<'_> {
    /// Its size in bytes; none if there is no such image.
    fn size(self, host: &Host) -> Result<Option<u64>, RbdError> {
        let command = self.info();
        match self.run(host, command.clone()) {
            Ok(output) => parsed(&command, &output, parse::size).map(Some),
            Err(error) if no_such_image(&error) => Ok(None),
            Err(error) => Err(error),
        }
    }

    fn existing_size(self, host: &Host) -> Result<u64, RbdError> {
        self.size(host)?.ok_or_else(|| RbdError::no_image(self))
    }

    /// The devices that it is mapped to on this node.
    fn devices(self, host: &Host) -> Result<Vec<PathBuf>, RbdError> {
        let ours = |mapping: &Mapping| {
            mapping.pool == self.pool.name
                && mapping.namespace.is_empty()
                && mapping.image == self.name
                && mapping.snapshot.is_none()
        };
        let mapped = mappings(host)?.into_iter().filter(ours);
        Ok(mapped.map(|mapping| mapping.device).collect())
    }

    /// Maps it; none in a dry run. What the tool prints is the device.
    fn map_new(self, host: &Host) -> Result<Option<PathBuf>, RbdError> {
        let output = match self.run(host, self.map(udev_runs())) {
            Err(error) if no_such_image(&error) => return Err(RbdError::no_image(self)),
            output => output?,
        };
        if host.is_dry_run() {
            return Ok(None);
        }
        let printed = PathBuf::from(output.stdout.text().trim());
        if printed.is_absolute() {
            return Ok(Some(printed));
        }
        let found = self.devices(host)?.into_iter().next();
        found
            .ok_or_else(|| RbdError::NoDevice { image: self.spec() })
            .map(Some)
    }

    /// Removes it, and waits `patience` for those that have it open.
    fn remove_in_time(self, host: &Host, patience: Duration) -> Result<Change, RbdError> {
        let deadline = Instant::now() + patience;
        let mut in_vain = false;
        loop {
            match self.run(host, self.remove()) {
                Ok(_) => return Ok(Change::Made),
                Err(error) if no_such_image(&error) => return Ok(Change::AlreadyThere),
                Err(error) if error.kind() == ErrorKind::Busy && !in_vain => {}
                Err(error) => return Err(error),
            }
            in_vain = !self.forget_snapshots(host)? && !self.closed_by(host, deadline)?;
        }
    }

    /// Makes a snapshot of this moment. One that is there already is what a killed process left.
    fn take_snapshot(self, host: &Host, snapshot: &str) -> Result<(), RbdError> {
        let take = || self.run(host, self.create_snapshot(snapshot)).map(drop);
        match take() {
            Err(error) if error.kind() == ErrorKind::AlreadyExists => {
                self.run(host, self.remove_snapshot(snapshot))?;
                take()
            }
            taken => taken,
        }
    }

    /// Removes the snapshots that a killed process was copying; whether there were any.
    fn forget_snapshots(self, host: &Host) -> Result<bool, RbdError> {
        let command = self.snapshots();
        let snapshots = parsed(&command, &self.run(host, command.clone())?, parse::snapshots)?;
        let (ours, others): (Vec<_>, Vec<_>) = snapshots
            .into_iter()
            .partition(|snapshot| snapshot.starts_with(COPYING));
        if !others.is_empty() {
            return Err(RbdError::HasSnapshots {
                image: self.spec(),
                snapshots: others,
            });
        }
        for snapshot in &ours {
            self.run(host, self.remove_snapshot(snapshot))?;
        }
        Ok(!ours.is_empty())
    }

    /// Waits until nobody has the image open; whether anybody had.
    fn closed_by(self, host: &Host, deadline: Instant) -> Result<bool, RbdError> {
        const INTERVAL: Duration = Duration::from_secs(1);
        let mut was_open = false;
        loop {
            let command = self.status();
            let watchers = parsed(&command, &self.run(host, command.clone())?, parse::watchers)?;
            if watchers.is_empty() {
                return Ok(was_open);
            }
            if Instant::now() >= deadline {
                return Err(RbdError::InUse {
                    image: self.spec(),
                    watchers,
                });
            }
            was_open = true;
            thread::sleep(INTERVAL);
        }
    }

    fn run(self, host: &Host, command: Command) -> Result<Output, RbdError> {
        run(host, self.pool, &command)
    }
}

fn run(host: &Host, pool: Pool<'_>, command: &Command) -> Result<Output, RbdError> {
    tool::run(host, command, error::classify).map_err(|error| RbdError::of(pool, error))
}

/// Of a pool that is missing, the tools say the same in other words: [`RbdError::NoPool`].
fn no_such_image(error: &RbdError) -> bool {
    matches!(error, RbdError::Tool(error) if error.kind() == ErrorKind::NotFound)
}

fn parsed<T>(
    command: &Command,
    output: &Output,
    parse: impl FnOnce(&str) -> Result<T, ParseError>,
) -> Result<T, RbdError> {
    parse(&output.stdout.text()).map_err(|what| ToolError::output(command, output, what).into())
}

/// What is mapped on this node.
fn mappings(host: &Host) -> Result<Vec<Mapping>, RbdError> {
    let json = commands::mapped();
    let (command, output) = match tool::run(host, &json, error::classify) {
        Ok(output) => (json, output),
        Err(error @ ToolError::Failed { .. }) => {
            let plain = commands::mapped_plain();
            let output = tool::run(host, &plain, error::classify).map_err(|_| error)?;
            (plain, output)
        }
        Err(error) => return Err(error.into()),
    };
    parsed(&command, &output, |text| {
        if text.trim_start().starts_with(['[', '{']) {
            parse::mappings(text)
        } else {
            parse::mappings_plain(text)
        }
    })
}

/// Whether anybody would tell `rbd` that udev is done with a device; libudev looks at the same place.
fn udev_runs() -> bool {
    Path::new("/run/udev/control").exists()
}

fn unmap_all(host: &Host, target: &Target<'_>) -> Result<Change, Cause> {
    let devices = with_image(target, |image| image.devices(host))?;
    for device in &devices {
        unmap(host, device)?;
    }
    Ok(if devices.is_empty() {
        Change::AlreadyThere
    } else {
        Change::Made
    })
}

fn unmap(host: &Host, device: &Path) -> Result<(), Cause> {
    const INTERVAL: Duration = Duration::from_millis(200);
    let deadline = Instant::now() + UNMAP_PATIENCE;
    loop {
        let command = commands::unmap(device, udev_runs());
        match tool::run(host, &command, error::classify) {
            Ok(_) => return Ok(()),
            Err(error) if error.kind() != ErrorKind::Busy => return Err(RbdError::Tool(error).into()),
            Err(_) if Instant::now() >= deadline => {
                return Err(device::DeviceError::Busy {
                    path: device.to_owned(),
                }
                .into());
            }
            Err(_) => thread::sleep(INTERVAL),
        }
    }
}

/// Makes a copy that has no owner yet. One that fails leaves nothing.
fn copy_snapshot(host: &Host, image: Image<'_>, snapshot: &str, copy: Image<'_>) -> Result<(), Cause> {
    let copied = image
        .run(host, image.copy_snapshot(snapshot, copy))
        .and_then(|_| copy.disown(host));
    let Err(error) = copied else { return Ok(()) };
    match copy.run(host, copy.remove()) {
        Err(undo) if !no_such_image(&undo) => Err(Cause::LeftBehind {
            error: Box::new(error.into()),
            undo: Box::new(undo.into()),
        }),
        _ => Err(error.into()),
    }
}

impl Image<'_> {
    /// Takes the owner's name from a copy, which is not his disk.
    fn disown(self, host: &Host) -> Result<(), RbdError> {
        if host.is_dry_run() || self.owner(host)?.is_none() {
            return Ok(());
        }
        self.run(host, self.forget_owner()).map(drop)
    }

    fn owner(self, host: &Host) -> Result<Option<String>, RbdError> {
        let command = self.metadata();
        let output = self.run(host, command.clone())?;
        parsed(&command, &output, |text| {
            parse::metadata(text, commands::OWNER_KEY)
        })
    }
}

fn list(host: &Host, pool: Pool<'_>) -> Result<Vec<FoundVolume>, RbdError> {
    let command = pool.list();
    let images = parsed(&command, &run(host, pool, &command)?, parse::images)?;
    let share = images.len().div_ceil(ASKED_AT_ONCE).max(1);
    thread::scope(|scope| {
        let shares: Vec<_> = images
            .chunks(share)
            .map(|images| scope.spawn(move || found_volumes(host, pool, images)))
            .collect();
        let mut found = Vec::new();
        for share in shares {
            match share.join() {
                Ok(volumes) => found.extend(volumes?),
                Err(panic) => std::panic::resume_unwind(panic),
            }
        }
        Ok(found)
    })
}

fn found_volumes(
    host: &Host,
    pool: Pool<'_>,
    images: &[parse::Listed],
) -> Result<Vec<FoundVolume>, RbdError> {
    let mut found = Vec::new();
    for listed in images {
        let image = Image {
            pool,
            name: &listed.name,
        };
        let owner = match image.owner(host) {
            Ok(owner) => owner.and_then(|json| serde_json::from_str(&json).ok()),
            Err(error) if no_such_image(&error) => continue,
            Err(error) => return Err(error),
        };
        found.push(FoundVolume {
            device: LogicalDevice::Rbd,
            logical_id: LogicalId::Rbd {
                volume: listed.name.clone(),
            },
            bytes: Some(listed.bytes),
            owner: owner.unwrap_or_default(),
        });
    }
    Ok(found)
}
