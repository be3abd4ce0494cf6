//! Operations on a disk with all the devices that it is built of: what a node does for one call (`backend.Blockdev*`).
//!
//! Devices below come first where something is made or assembled, and last where something is taken away.

use std::path::PathBuf;

use gnt_config::{Disk, LogicalDevice, LogicalId, Mebibytes, Object, template};
use serde::{Deserialize, Serialize};

use crate::dev_map::{DEV_MAP, driver};
use crate::driver::{
    BlockDevice, Change, FoundVolume, LocalDiskStatus, Operation, Space, SyncStatus, Target,
};
use crate::error::{Cause, Error};
use crate::ext;
use crate::host::Host;

/// How a disk is to be assembled.
#[derive(Debug, Clone, Copy)]
pub struct Activation<'a> {
    /// Whether the instance runs on this node. On its secondary only what mirrors the data, or is mirrored, is assembled.
    pub primary: bool,
    /// Whether this node alone will write.
    pub exclusive: bool,
    /// Whether the disk was just made, so that its other half may not be there yet ([`Driver::open_new`](crate::Driver::open_new)).
    pub new: bool,
    /// The hypervisor that will use the disk, for disks whose parameter `access` is `userspace`.
    pub hypervisor: &'a str,
}

impl<'a> Activation<'a> {
    /// On the instance's primary node, for it alone.
    pub fn primary(hypervisor: &'a str) -> Self {
        Self {
            primary: true,
            exclusive: true,
            new: false,
            hypervisor,
        }
    }

    /// On its secondary node.
    pub fn secondary() -> Self {
        Self {
            primary: false,
            exclusive: true,
            new: false,
            hypervisor: "",
        }
    }
}

/// An assembled disk (`BlockdevAssemble`).
#[derive(Debug, Default)]
pub struct Assembled {
    /// The device; none if there was nothing to assemble on this node.
    pub device: Option<BlockDevice>,
    /// The link to it, on the primary node and if it has a path.
    pub link: Option<PathBuf>,
    /// What the hypervisor reaches it with, if the disk's parameter `access` is `userspace`.
    pub uri: Option<String>,
    /// Devices below that could not be assembled, where the disk can do without.
    pub warnings: Vec<Error>,
}

/// A disk as it is (`objects.BlockDevStatus`).
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Status {
    /// The device.
    pub device: BlockDevice,
    /// Its mirror.
    pub sync: SyncStatus,
}

/// Which part of a disk grows. What mirrors must first grow on all nodes below and then once above.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Layer {
    /// The volumes that hold the data (`backingstore`).
    BackingStore,
    /// What is built on them; nothing for disks that are one volume.
    Logical,
}

/// Whether `operation` can be done to disks like this one on this node, as far as that can be told without doing it. Devices below
/// are not looked at.
pub fn check(host: &Host, target: &Target<'_>, operation: Operation) -> Result<(), Error> {
    driver(target.disk.dev_type)?.check(host, target, operation)
}

/// Makes a disk's volumes, devices below first, and keeps `info` with each. The disk is not assembled, but those below are. If
/// something fails, what was made by this call is removed again.
pub fn create(host: &Host, target: &Target<'_>, info: &str) -> Result<Change, Error> {
    let mut made = Vec::new();
    match create_devices(host, target, info, &mut made) {
        Ok(_) if made.is_empty() => Ok(Change::AlreadyThere),
        Ok(_) => Ok(Change::Made),
        Err(error) => Err(undo_create(host, target, &made, error)),
    }
}

fn create_devices<'a>(
    host: &Host,
    target: &Target<'a>,
    info: &str,
    made: &mut Vec<&'a Disk>,
) -> Result<(), Error> {
    let driver = driver(target.disk.dev_type)?;
    let mut children = Vec::new();
    for child in &target.disk.children {
        let child = Target::new(child, target.instance);
        create_devices(host, &child, info, made)?;
        let assembled = assemble_devices(host, &child, Activation::primary(""), &mut Vec::new())?;
        children.push(assembled);
    }
    let disk = target.disk;
    let target = target.with_children(&children);
    if driver.create(host, &target)? == Change::Made {
        made.push(disk);
    }
    if driver.capabilities().contains(Operation::SetInfo) {
        driver.set_info(host, &target, info)?;
    }
    Ok(())
}

fn undo_create(host: &Host, target: &Target<'_>, made: &[&Disk], error: Error) -> Error {
    let remove = |disk: &&Disk| driver(disk.dev_type)?.remove(host, &Target::new(disk, target.instance));
    let failed = made.iter().rev().filter_map(|disk| remove(disk).err());
    match Error::all(failed.collect()) {
        Ok(()) => error,
        Err(undo) => Error::Leftover {
            error: Box::new(error),
            undo: Box::new(undo),
        },
    }
}

/// Makes a disk ready for use, devices below first, and on the primary node links to it. What was assembled before a failure stays so:
/// [`shutdown`] undoes it.
pub fn assemble(host: &Host, target: &Target<'_>, activation: Activation<'_>) -> Result<Assembled, Error> {
    let mut warnings = Vec::new();
    let device = assemble_devices(host, target, activation, &mut warnings)?;
    let (link, uri) = match &device {
        Some(device) if activation.primary => (
            link(host, target, device)?,
            userspace_uri(host, target, device, activation.hypervisor)?,
        ),
        _ => (None, None),
    };
    Ok(Assembled {
        device,
        link,
        uri,
        warnings,
    })
}

/// [`assemble`] for many disks. What storage systems can do for all at once they do once; one disk that fails does not concern the others.
pub fn assemble_all(
    host: &Host,
    targets: &[Target<'_>],
    activation: Activation<'_>,
) -> Vec<Result<Assembled, Error>> {
    let is_assembled = |target: &&Target<'_>| {
        activation.primary || template::ON_SECONDARY.contains(target.disk.dev_type.template())
    };
    let wanted: Vec<_> = targets.iter().filter(is_assembled).copied().collect();
    let host = prepared(host, &wanted, Operation::Assemble);
    let assembled = targets.iter().map(|target| assemble(&host, target, activation));
    assembled.collect()
}

/// The node, where all that can be done at once for the devices of `targets`, those below included, is done.
fn prepared(host: &Host, targets: &[Target<'_>], operation: Operation) -> Host {
    let host = host.batch();
    let devices = targets.iter().flat_map(|target| {
        let disks = target.disk.walk();
        disks.map(|disk| Target::new(disk, target.instance))
    });
    let devices: Vec<_> = devices.collect();
    for driver in DEV_MAP {
        let of_its_type = devices
            .iter()
            .filter(|target| target.disk.dev_type == driver.device());
        let of_its_type: Vec<_> = of_its_type.copied().collect();
        if !of_its_type.is_empty() {
            driver.prepare(&host, &of_its_type, operation);
        }
    }
    host
}

fn assemble_devices(
    host: &Host,
    target: &Target<'_>,
    activation: Activation<'_>,
    warnings: &mut Vec<Error>,
) -> Result<Option<BlockDevice>, Error> {
    let driver = driver(target.disk.dev_type)?;
    let below = &target.disk.children;
    let spare = target
        .disk
        .children_needed()
        .map_or(0, |needed| below.len() - needed.min(below.len()));
    let mut children = Vec::new();
    let mut failed = 0;
    for child in below {
        match assemble_devices(host, &Target::new(child, target.instance), activation, warnings) {
            Ok(device) => children.push(device),
            Err(error) if failed < spare => {
                failed += 1;
                warnings.push(error);
                children.push(None);
            }
            Err(error) => return Err(error),
        }
    }
    let template = target.disk.dev_type.template();
    if !activation.primary && !template::ON_SECONDARY.contains(template) {
        return Ok(None);
    }
    let target = target.with_children(&children);
    let device = driver.assemble(host, &target)?;
    if activation.primary || template::OPEN_ON_SECONDARY.contains(template) {
        match activation.new {
            true => driver.open_new(host, &target)?,
            false => driver.open(host, &target, activation.exclusive)?,
        }
    }
    Ok(Some(device))
}

/// Links to the device of a disk that has an index. A disk that is reached by URIs only has no link.
fn link(host: &Host, target: &Target<'_>, device: &BlockDevice) -> Result<Option<PathBuf>, Error> {
    let Some((instance, index)) = place(target) else {
        return Ok(None);
    };
    let linked = match &device.path {
        Some(path) => host.links.set(instance, index, path).map(Some),
        // In a dry run nothing was attached, so there is no path yet.
        None if host.is_dry_run() => Ok(None),
        None => host.links.remove(instance, index).map(|_| None),
    };
    linked.map_err(|error| target.failed(Operation::Assemble, host, Cause::Link(error)))
}

fn place<'a>(target: &Target<'a>) -> Option<(&'a str, u32)> {
    let index = target.disk.index()?;
    (!target.instance.is_empty()).then_some((target.instance, index))
}

fn userspace_uri(
    host: &Host,
    target: &Target<'_>,
    device: &BlockDevice,
    hypervisor: &str,
) -> Result<Option<String>, Error> {
    if !target.has_userspace_access() {
        return Ok(None);
    }
    match device.uri_for(hypervisor) {
        Some(uri) => Ok(Some(uri.to_owned())),
        None => driver(target.disk.dev_type)?
            .userspace_uri(host, target, hypervisor)
            .map(Some),
    }
}

/// Opens an assembled disk, and links to it (`BlockdevOpen`): during a migration it is open on two nodes, not `exclusive`ly.
pub fn open(host: &Host, target: &Target<'_>, exclusive: bool) -> Result<(), Error> {
    with_children(host, target, |target| {
        let driver = driver(target.disk.dev_type)?;
        driver.open(host, target, exclusive)?;
        if let Some(device) = driver.find(host, target)?.filter(|device| device.path.is_some()) {
            link(host, target, &device)?;
        }
        Ok(())
    })
}

/// Assembles and opens a disk for this node alone, although the node called `from` has it open: that one is dead for certain, and could not
/// close it. There is no link to it afterwards, unless there was one.
pub fn take_over(host: &Host, target: &Target<'_>, from: &str) -> Result<(), Error> {
    with_children(host, target, |target| {
        let driver = driver(target.disk.dev_type)?;
        driver.assemble(host, target)?;
        driver.take_over(host, target, from)
    })
}

/// Closes a disk, and removes the link to it (`BlockdevClose`).
pub fn close(host: &Host, target: &Target<'_>) -> Result<(), Error> {
    with_children(host, target, |target| {
        driver(target.disk.dev_type)?.close(host, target)
    })?;
    unlink(host, target, None, Operation::Close)?;
    Ok(())
}

/// Shuts a disk down, and then the devices below it. All is tried, whatever fails.
pub fn shutdown(host: &Host, target: &Target<'_>) -> Result<Change, Error> {
    take_down(host, target, Operation::Shutdown)
}

/// Removes a disk's volumes with their data, those below last. All is tried, whatever fails.
pub fn remove(host: &Host, target: &Target<'_>) -> Result<Change, Error> {
    take_down(host, target, Operation::Remove)
}

fn take_down(host: &Host, target: &Target<'_>, operation: Operation) -> Result<Change, Error> {
    let linked = linked_device(host, target);
    let mut errors = Vec::new();
    let mut change = Change::AlreadyThere;
    let mut devices = target.disk.walk().map(|disk| Target::new(disk, target.instance));
    let mut note = |result: Result<Change, Error>| match result {
        Ok(one) => change = change.or(one),
        Err(error) => errors.push(error),
    };
    if let Some(top) = devices.next() {
        let gone = take_down_device(host, &top, operation);
        note(gone.and_then(|change| Ok(change.or(unlink(host, target, linked, operation)?))));
    }
    devices.for_each(|below| note(take_down_device(host, &below, operation)));
    Error::all(errors).map(|()| change)
}

fn take_down_device(host: &Host, target: &Target<'_>, operation: Operation) -> Result<Change, Error> {
    let driver = driver(target.disk.dev_type)?;
    match operation {
        Operation::Remove => driver.remove(host, target),
        _ => driver.shutdown(host, target),
    }
}

/// The device of a disk whose link only the device tells, because the caller does not know the instance.
fn linked_device(host: &Host, target: &Target<'_>) -> Option<PathBuf> {
    if place(target).is_some() || host.links.list().ok()?.is_empty() {
        return None;
    }
    let driver = driver(target.disk.dev_type).ok()?;
    driver.find(host, target).ok()??.path
}

fn unlink(
    host: &Host,
    target: &Target<'_>,
    path: Option<PathBuf>,
    operation: Operation,
) -> Result<Change, Error> {
    let removed = match (place(target), path) {
        (Some((instance, index)), _) => host.links.remove(instance, index),
        (None, Some(path)) => host.links.remove_to(&path),
        (None, None) => Ok(Change::AlreadyThere),
    };
    removed.map_err(|error| target.failed(operation, host, Cause::Link(error)))
}

/// Enlarges one layer of a disk so that the disk has the size `to`. Those below that hold data grow by as much as the disk does.
pub fn grow(
    host: &Host,
    target: &Target<'_>,
    to: Mebibytes,
    dry_run: bool,
    layer: Layer,
) -> Result<Change, Error> {
    target
        .check_growth(to)
        .map_err(|cause| target.failed(Operation::Grow, host, cause))?;
    let driver = driver(target.disk.dev_type)?;
    match (target.disk.children.first(), layer) {
        (None, Layer::BackingStore) => driver.grow(host, target, to, dry_run),
        (None, Layer::Logical) => Ok(Change::AlreadyThere),
        (Some(_), Layer::Logical) => {
            with_children(host, target, |target| driver.grow(host, target, to, dry_run))
        }
        (Some(data), Layer::BackingStore) => {
            let amount = Mebibytes(to.0 - target.disk.size.0);
            let data_target = Target::new(data, target.instance);
            grow(host, &data_target, data.size + amount, dry_run, layer)
        }
    }
}

/// A disk as it is now; none if it is not there. Attaches nothing.
pub fn find(host: &Host, target: &Target<'_>) -> Result<Option<Status>, Error> {
    let host = &host.batch();
    with_children(host, target, |target| {
        let driver = driver(target.disk.dev_type)?;
        let Some(device) = driver.find(host, target)? else {
            return Ok(None);
        };
        let sync = driver.sync_status(host, target)?;
        Ok(Some(Status { device, sync }))
    })
}

/// [`find`] for many disks, at the cost of one where their storage can be asked for all at once. One that fails does not concern the others.
pub fn find_all(host: &Host, targets: &[Target<'_>]) -> Vec<Result<Option<Status>, Error>> {
    let host = prepared(host, targets, Operation::Find);
    targets.iter().map(|target| find(&host, target)).collect()
}

/// A disk as it is now, with the worst that can be said of its mirror and of those directly below (`CombinedSyncStatus`).
pub fn mirror_status(host: &Host, target: &Target<'_>) -> Result<Option<Status>, Error> {
    let host = &host.batch();
    let Some(mut status) = find(host, target)? else {
        return Ok(None);
    };
    for child in &target.disk.children {
        if let Some(below) = find(host, &Target::new(child, target.instance))? {
            status.sync = status.sync.worst(below.sync);
        }
    }
    Ok(Some(status))
}

/// [`mirror_status`] for many disks, as [`find_all`].
pub fn mirror_status_all(host: &Host, targets: &[Target<'_>]) -> Vec<Result<Option<Status>, Error>> {
    let host = prepared(host, targets, Operation::Find);
    targets
        .iter()
        .map(|target| mirror_status(&host, target))
        .collect()
}

/// How far the synchronisation of several disks is.
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize)]
pub struct SyncProgress {
    /// Nothing is being synchronised any more.
    pub done: bool,
    /// Of the disk that is least in sync, 0 to 100.
    pub percent: f64,
}

/// How far the synchronisation of disks is. One that is neither in sync nor being synchronised is an error, after a short time in which it may
/// find its peer (`DrbdWaitSync`).
pub fn wait_sync(host: &Host, targets: &[Target<'_>]) -> Result<SyncProgress, Error> {
    let mut progress = SyncProgress {
        done: true,
        percent: 100.0,
    };
    for target in targets {
        let sync = driver(target.disk.dev_type)?.wait_sync(host, target)?;
        if let Some(percent) = sync.sync_percent {
            progress.done = false;
            progress.percent = progress.percent.min(percent);
        }
    }
    Ok(progress)
}

/// UUIDs of the disks that are to be activated again: not active, without data on this node, or left alone by their peer
/// (`DrbdNeedsActivation`).
pub fn needs_activation(host: &Host, targets: &[Target<'_>]) -> Result<Vec<String>, Error> {
    let mut uuids = Vec::new();
    for (target, found) in targets.iter().zip(find_all(host, targets)) {
        let is_fine = found?.is_some_and(|status| {
            status.device.path.is_some() && status.sync.ldisk_status != LocalDiskStatus::Faulty
        });
        if !is_fine {
            uuids.push(target.disk.uuid.clone());
        }
    }
    Ok(uuids)
}

/// Gives a drbd disk the volumes below it again: it was diskless (`BlockdevAddchildren`).
pub fn add_children(host: &Host, target: &Target<'_>) -> Result<Change, Error> {
    with_children(host, target, |target| {
        driver(target.disk.dev_type)?.add_children(host, target)
    })
}

/// Takes the volumes below a drbd disk from it: it is diskless then (`BlockdevRemovechildren`).
pub fn remove_children(host: &Host, target: &Target<'_>) -> Result<Change, Error> {
    with_children(host, target, |target| {
        driver(target.disk.dev_type)?.remove_children(host, target)
    })
}

/// Stops a disk's synchronisation, or goes on with it (`BlockdevPauseResumeSync`).
pub fn pause_resume_sync(host: &Host, target: &Target<'_>, pause: bool) -> Result<(), Error> {
    with_children(host, target, |target| {
        let driver = driver(target.disk.dev_type)?;
        match pause {
            true => driver.pause_sync(host, target),
            false => driver.resume_sync(host, target),
        }
    })
}

/// Takes a disk off the network (`DrbdDisconnectNet`).
pub fn disconnect_net(host: &Host, target: &Target<'_>) -> Result<Change, Error> {
    with_children(host, target, |target| {
        driver(target.disk.dev_type)?.disconnect_net(host, target)
    })
}

/// Connects a disk to its peer, and returns when they are connected (`DrbdAttachNet`).
pub fn attach_net(host: &Host, target: &Target<'_>, multimaster: bool) -> Result<Change, Error> {
    with_children(host, target, |target| {
        driver(target.disk.dev_type)?.attach_net(host, target, multimaster)
    })
}

/// Keeps `text` with each of a disk's volumes that can keep something.
pub fn set_info(host: &Host, target: &Target<'_>, text: &str) -> Result<(), Error> {
    let driver = driver(target.disk.dev_type)?;
    if driver.capabilities().contains(Operation::SetInfo) {
        driver.set_info(host, target, text)?;
    }
    for child in &target.disk.children {
        set_info(host, &Target::new(child, target.instance), text)?;
    }
    Ok(())
}

/// Gives a disk's volume another name.
pub fn rename(host: &Host, target: &Target<'_>, to: &LogicalId) -> Result<Change, Error> {
    driver(target.disk.dev_type)?.rename(host, target, to)
}

/// Copies a disk as it is now to a volume called `name`. Of a disk with devices below, the first of them is copied: the one with the data.
pub fn snapshot(host: &Host, target: &Target<'_>, name: &str, size: Mebibytes) -> Result<LogicalId, Error> {
    let driver = driver(target.disk.dev_type)?;
    match target.disk.children.first() {
        Some(data) if !driver.capabilities().contains(Operation::Snapshot) => {
            snapshot(host, &Target::new(data, target.instance), name, size)
        }
        _ => driver.snapshot(host, target, name, size),
    }
}

/// The real size of a disk, in bytes (`BlockdevGetdimensions`).
pub fn actual_size(host: &Host, target: &Target<'_>) -> Result<u64, Error> {
    with_children(host, target, |target| {
        driver(target.disk.dev_type)?.actual_size(host, target)
    })
}

/// The volumes of one type that are really there.
pub fn volumes(host: &Host, device: LogicalDevice, params: &Object) -> Result<Vec<FoundVolume>, Error> {
    driver(device)?.volumes(host, params)
}

/// Names of the External Storage providers that can be used.
pub fn providers(host: &Host) -> Vec<String> {
    ext::providers(host)
}

/// What room there is for volumes of one type.
pub fn space(host: &Host, device: LogicalDevice, params: &Object) -> Result<Vec<Space>, Error> {
    driver(device)?.space(host, params)
}

/// The volumes of one type that have a device on this node, of those that more nodes than one can have.
pub fn attached(host: &Host, device: LogicalDevice, params: &Object) -> Result<Vec<LogicalId>, Error> {
    driver(device)?.attached(host, params)
}

/// Works on a device with those below it as they are.
pub(crate) fn with_children<T>(
    host: &Host,
    target: &Target<'_>,
    work: impl FnOnce(&Target<'_>) -> Result<T, Error>,
) -> Result<T, Error> {
    let children = target.disk.children.iter();
    let children = children.map(|child| find_device(host, &Target::new(child, target.instance)));
    let children: Vec<_> = children.collect::<Result<_, _>>()?;
    work(&target.with_children(&children))
}

fn find_device(host: &Host, target: &Target<'_>) -> Result<Option<BlockDevice>, Error> {
    with_children(host, target, |target| {
        driver(target.disk.dev_type)?.find(host, target)
    })
}
