//! A simulated node. What a call does is what [`gnt_bdev::tree`] would do, in the same order.

use std::collections::BTreeSet;
use std::io;
use std::path::{Path, PathBuf};
use std::time::Duration;

use gnt_bdev::transfer::Piece;
use gnt_bdev::{
    Assembled, BlockDevice, Cause, Change, DrbdError, DrbdMinor, FileStorageError, FoundVolume, Layer, Link,
    LocalDiskStatus, Operation, Owner, Space, Status, SyncProgress, Target,
};
use gnt_config::template::{
    BLOCK, HAVE_PROVIDER, HAVE_SNAPSHOTS, LVM, MUST_ADOPT, ON_SECONDARY, OPEN_ON_SECONDARY,
};
use gnt_config::{Disk, LogicalDevice, LogicalId, Mebibytes, Object};
use tokio::time::Instant;

use crate::node::{Node, NodeError, NodeResult, Role};
use crate::sim::content::Bytes;
use crate::sim::fault::{Extent, Storm, Then, crash};
use crate::sim::guest::Device;
use crate::sim::world::{Machine, Volume, World, device_path, home, key};
use crate::sim::{Shared, State};

/// How long two nodes that are told to connect may take.
const CONNECT: Duration = Duration::from_secs(120);
/// Between two looks whether they have.
const PAUSE: Duration = Duration::from_millis(500);

/// One node of a simulated cluster.
#[derive(Debug, Clone)]
pub struct SimNode {
    uuid: String,
    name: String,
    shared: Shared,
}

impl SimNode {
    pub(super) fn new(uuid: &str, name: &str, shared: Shared) -> Self {
        Self {
            uuid: uuid.to_owned(),
            name: name.to_owned(),
            shared,
        }
    }

    /// One call, with the fault that is to strike it. `act` does as much as it is told.
    async fn call<T>(
        &self,
        what: String,
        act: impl FnOnce(&mut View<'_>, Extent) -> NodeResult<T>,
    ) -> NodeResult<T> {
        let delay = self.shared.delay();
        if !delay.is_zero() {
            tokio::time::sleep(delay).await;
        }
        self.act(what, act)
    }

    fn act<T>(
        &self,
        what: String,
        act: impl FnOnce(&mut View<'_>, Extent) -> NodeResult<T>,
    ) -> NodeResult<T> {
        let mut state = self.shared.lock();
        let State {
            world,
            fault,
            storm,
            calls,
            ..
        } = &mut *state;
        let number = calls.len();
        calls.push((self.name.clone(), what));
        world.settle(Instant::now());
        if !world.is_reachable(&self.uuid) {
            return Err(unreachable(&self.name));
        }
        let mut view = View {
            node: &self.uuid,
            name: &self.name,
            world,
        };
        let strike = match *fault {
            Some(fault) if fault.call == number => Some((fault.extent, fault.then)),
            Some(fault) if fault.then == Then::FailOn && fault.call < number => {
                Some((Extent::None, Then::Fail))
            }
            _ => storm.as_mut().and_then(Storm::strike),
        };
        let Some((extent, then)) = strike else {
            return act(&mut view, Extent::Whole);
        };
        let acted = match extent {
            Extent::None => Ok(()),
            extent => act(&mut view, extent).map(drop),
        };
        match then {
            Then::Crash => {
                drop(state);
                crash();
            }
            Then::PowerCut => {
                world.kill(&self.uuid);
                Err(unreachable(&self.name))
            }
            Then::Fail | Then::FailOn => acted.and(Err(injected())),
        }
    }

    /// Looks at something while a call waits for it.
    fn look<T>(&self, look: impl FnOnce(&View<'_>) -> NodeResult<T>) -> NodeResult<T> {
        let mut state = self.shared.lock();
        let world = &mut state.world;
        world.settle(Instant::now());
        if !world.is_reachable(&self.uuid) {
            return Err(unreachable(&self.name));
        }
        look(&View {
            node: &self.uuid,
            name: &self.name,
            world,
        })
    }

    async fn on_disk<T>(
        &self,
        what: &str,
        disk: &Disk,
        act: impl FnOnce(&mut View<'_>, Extent) -> NodeResult<T>,
    ) -> NodeResult<T> {
        self.call(format!("{what} {disk}"), act).await
    }

    /// One call for several disks; half of it is for half of them.
    async fn on_disks(
        &self,
        what: &str,
        targets: &[Target<'_>],
        mut act: impl FnMut(&mut View<'_>, &Target<'_>) -> NodeResult<Change>,
    ) -> NodeResult<Change> {
        let names: Vec<_> = targets.iter().map(|target| target.disk.to_string()).collect();
        self.call(format!("{what} {}", names.join(", ")), |view, extent| {
            let count = match extent {
                Extent::Whole => targets.len(),
                _ => targets.len() / 2,
            };
            let mut change = Change::AlreadyThere;
            for target in &targets[..count] {
                change = change.or(act(view, target)?);
            }
            Ok(change)
        })
        .await
    }
}

/// The world as one node sees it.
struct View<'a> {
    node: &'a str,
    name: &'a str,
    world: &'a mut World,
}

impl View<'_> {
    fn key(&self, disk: &Disk) -> String {
        key(self.node, disk.dev_type, &disk.logical_id)
    }

    fn machine(&mut self) -> &mut Machine {
        self.world.machine(self.node)
    }

    fn volume(&mut self, disk: &Disk) -> NodeResult<&mut Volume> {
        let missing = || not_found(&disk.logical_id);
        let key = self.key_of_volume(disk).ok_or_else(missing)?;
        self.world.volumes.get_mut(&key).ok_or_else(missing)
    }

    fn drbd<T>(
        &self,
        operation: Operation,
        disk: &Disk,
        result: std::result::Result<T, DrbdError>,
    ) -> NodeResult<T> {
        result.map_err(|error| {
            NodeError::Storage(gnt_bdev::Error::Failed {
                operation,
                disk: disk.to_string(),
                node: self.name.to_owned(),
                cause: Box::new(Cause::from(error)),
            })
        })
    }

    /// The device as it is, if there is one. One that does not run has no path.
    fn find(&mut self, disk: &Disk) -> Option<BlockDevice> {
        if is_mirror(disk) {
            if let Some((number, minor)) = self.world.running_minor(self.node, disk) {
                return Some(BlockDevice {
                    path: Some(device_path(self.node, disk.dev_type, &disk.logical_id)),
                    major: Some(147),
                    minor: Some(number),
                    bytes: Some(minor.size.bytes()),
                    ..BlockDevice::default()
                });
            }
            let is_there = disk.children.iter().any(|child| self.find(child).is_some());
            return is_there.then(BlockDevice::default);
        }
        let size = self.volume(disk).ok()?.size;
        let key = self.key(disk);
        let has_path = !attachable(disk.dev_type) || self.machine().attached.contains(&key);
        Some(BlockDevice {
            path: has_path.then(|| device_path(self.node, disk.dev_type, &disk.logical_id)),
            bytes: Some(size.bytes()),
            ..BlockDevice::default()
        })
    }

    fn path(&mut self, disk: &Disk) -> Option<PathBuf> {
        self.find(disk)?.path
    }

    /// Makes devices, those below first; `made` gets those that were not there. Half of it is the first.
    fn create<'d>(
        &mut self,
        disk: &'d Disk,
        instance: &str,
        info: &str,
        extent: Extent,
        made: &mut Vec<&'d Disk>,
    ) -> NodeResult<()> {
        for child in &disk.children {
            self.create(child, instance, info, extent, made)?;
            if extent != Extent::Whole {
                return Ok(());
            }
            self.attach(child)?;
        }
        if is_mirror(disk) {
            let created = self.world.drbd_create(self.node, disk);
            if self.drbd(Operation::Create, disk, created)? {
                made.push(disk);
            }
            return Ok(());
        }
        if MUST_ADOPT.contains(disk.dev_type.template()) {
            return match self.volume(disk) {
                Ok(volume) if volume.size >= disk.size => Ok(()),
                _ => Err(not_found(&disk.logical_id)),
            };
        }
        self.check_directory(&disk.logical_id)?;
        let key = self.key(disk);
        let size = whole_extents(disk.dev_type, disk.size);
        match self.world.volumes.get(&key) {
            Some(there) if there.size == size => {}
            Some(there) if there.size != Mebibytes(0) => return Err(exists(&disk.logical_id)),
            _ => {
                self.check_room(disk)?;
                made.push(disk);
            }
        }
        let empty = || Volume::new(self.node, disk.dev_type, &disk.logical_id, Mebibytes(0));
        let volume = self.world.volumes.entry(key).or_insert_with(empty);
        if extent == Extent::Whole {
            volume.size = size;
            volume.owner = Owner::of(&Target::new(disk, instance), Some(info));
        }
        Ok(())
    }

    fn check_room(&mut self, disk: &Disk) -> NodeResult<()> {
        let Some(room) = self
            .machine()
            .room
            .filter(|_| LVM.contains(disk.dev_type.template()))
        else {
            return Ok(());
        };
        match self.world.used(self.node) + whole_extents(disk.dev_type, disk.size) <= room {
            true => Ok(()),
            false => Err(io_error(
                &disk.logical_id.volume(),
                io::ErrorKind::StorageFull.into(),
            )),
        }
    }

    fn check_directory(&mut self, id: &LogicalId) -> NodeResult<()> {
        let LogicalId::File { path, .. } = id else {
            return Ok(());
        };
        let directory = Path::new(path)
            .parent()
            .and_then(Path::to_str)
            .unwrap_or_default();
        match self.world.directories(self.node, directory).contains(directory) {
            true => Ok(()),
            false => Err(storage(FileStorageError::NoDirectory { path: path.into() })),
        }
    }

    /// Attaches one volume.
    fn attach(&mut self, disk: &Disk) -> NodeResult<()> {
        self.volume(disk)?;
        if attachable(disk.dev_type) {
            let key = self.key(disk);
            self.machine().attached.insert(key);
        }
        Ok(())
    }

    /// Makes devices ready for use, those below first; one that is missing below a mirror is told in `warnings`. Half of it is what is below.
    fn assemble(
        &mut self,
        disk: &Disk,
        role: Role,
        extent: Extent,
        warnings: &mut Vec<gnt_bdev::Error>,
    ) -> NodeResult<()> {
        for child in &disk.children {
            match self.assemble(child, role, Extent::Whole, warnings) {
                Err(NodeError::Storage(error)) => warnings.push(error),
                result => result?,
            }
        }
        let template = disk.dev_type.template();
        if role == Role::Secondary && !ON_SECONDARY.contains(template) {
            return Ok(());
        }
        if is_mirror(disk) {
            if extent != Extent::Whole {
                return Ok(());
            }
            let assembled = self.world.drbd_assemble(self.node, disk);
            self.drbd(Operation::Assemble, disk, assembled)?;
        } else {
            self.attach(disk)?;
        }
        if role != Role::Secondary || OPEN_ON_SECONDARY.contains(template) {
            self.open(disk, role != Role::Shared)?;
        }
        Ok(())
    }

    fn open(&mut self, disk: &Disk, exclusive: bool) -> NodeResult<()> {
        if is_mirror(disk) {
            let opened = self.world.drbd_open(self.node, disk, exclusive);
            return self.drbd(Operation::Open, disk, opened);
        }
        let key = self.key(disk);
        if self.find(disk).is_none_or(|device| device.path.is_none()) {
            return Err(not_found(&disk.logical_id));
        }
        if let Some(other) = self.open_elsewhere(disk, exclusive) {
            return Err(is_open_on(disk, &other));
        }
        if HAVE_PROVIDER.contains(disk.dev_type.template()) {
            let name = self.name.to_owned();
            self.volume(disk)?.open.insert(name, exclusive);
        }
        self.machine().open.insert(key, exclusive);
        Ok(())
    }

    /// A node that keeps this one from using the disk, alone or together with others, as our provider records it.
    fn open_elsewhere(&mut self, disk: &Disk, exclusive: bool) -> Option<String> {
        let volume = self.world.volumes.get(&self.key_of_volume(disk)?)?;
        let mut others = volume.open.iter().filter(|(other, _)| *other != self.name);
        let (other, _) = others.find(|(_, alone)| exclusive || **alone)?;
        Some(other.clone())
    }

    /// None for what has no volume of its own.
    fn key_of_volume(&self, disk: &Disk) -> Option<String> {
        (!is_mirror(disk)).then(|| self.key(disk))
    }

    fn close(&mut self, disk: &Disk) {
        if is_mirror(disk) {
            return self.world.drbd_close(self.node, disk);
        }
        let key = self.key(disk);
        self.machine().open.remove(&key);
        let name = self.name;
        if let Ok(volume) = self.volume(disk) {
            volume.open.remove(name);
        }
    }

    /// What an instance uses cannot be taken from it.
    fn check_idle(&mut self, disk: &Disk) -> NodeResult<()> {
        let device = match self.world.running_minor(self.node, disk) {
            Some((minor, _)) => Device::Minor(minor),
            None if is_mirror(disk) => return Ok(()),
            None => Device::Volume(self.key(disk)),
        };
        match self.world.is_used(self.node, &device) {
            true => Err(io_error(
                &disk.logical_id.volume(),
                io::ErrorKind::ResourceBusy.into(),
            )),
            false => Ok(()),
        }
    }

    fn shut_down(&mut self, disk: &Disk) -> NodeResult<()> {
        self.close(disk);
        if is_mirror(disk) {
            let gone = self.world.drbd_shutdown(self.node, disk);
            return self.drbd(Operation::Shutdown, disk, gone).map(drop);
        }
        let key = self.key(disk);
        self.machine().attached.remove(&key);
        Ok(())
    }

    fn link(&mut self, disk: &Disk, instance: &str) {
        if let (Some(index), Some(path)) = (disk.index(), self.path(disk)) {
            self.machine().links.insert((instance.to_owned(), index), path);
        }
    }

    fn unlink(&mut self, disk: &Disk, instance: &str, path: Option<&Path>) {
        let links = &mut self.machine().links;
        match (disk.index(), path) {
            (Some(index), _) => drop(links.remove(&(instance.to_owned(), index))),
            (None, Some(path)) => links.retain(|_, target| target != path),
            (None, None) => {}
        }
    }

    fn grow(
        &mut self,
        disk: &Disk,
        to: Mebibytes,
        layer: Layer,
        dry_run: bool,
        extent: Extent,
    ) -> NodeResult<Change> {
        match (disk.children.first(), layer) {
            (None, Layer::Logical) => Ok(Change::AlreadyThere),
            (Some(data), Layer::BackingStore) => {
                let amount = Mebibytes(to.0.saturating_sub(disk.size.0));
                self.grow(data, data.size + amount, layer, dry_run, extent)
            }
            (Some(_), Layer::Logical) => {
                if extent != Extent::Whole {
                    return Ok(Change::AlreadyThere);
                }
                let grown = self.world.drbd_grow(self.node, disk, to, dry_run);
                Ok(changed(self.drbd(Operation::Grow, disk, grown)?))
            }
            (None, Layer::BackingStore) => {
                let size = self.volume(disk)?.size;
                if size >= to {
                    return Ok(Change::AlreadyThere);
                }
                let mut more = disk.clone();
                more.size = Mebibytes(to.0 - size.0);
                self.check_room(&more)?;
                if !dry_run {
                    self.volume(disk)?.size = match extent {
                        Extent::Whole => whole_extents(disk.dev_type, to),
                        _ => Mebibytes(size.0.midpoint(to.0)),
                    };
                }
                Ok(Change::Made)
            }
        }
    }

    fn set_info(&mut self, disk: &Disk, instance: &str, info: &str) -> NodeResult<()> {
        if !is_mirror(disk) && !MUST_ADOPT.contains(disk.dev_type.template()) {
            self.volume(disk)?.owner = Owner::of(&Target::new(disk, instance), Some(info));
        }
        for child in &disk.children {
            self.set_info(child, instance, info)?;
        }
        Ok(())
    }

    fn snapshot(&mut self, disk: &Disk, name: &str, extent: Extent) -> NodeResult<LogicalId> {
        if let Some(data) = disk.children.first() {
            return self.snapshot(data, name, extent);
        }
        if !HAVE_SNAPSHOTS.contains(disk.dev_type.template()) {
            return Err(unsupported(disk, Operation::Snapshot));
        }
        let id = disk.logical_id.with_volume(name.to_owned());
        let key = key(self.node, disk.dev_type, &id);
        if self.world.volumes.contains_key(&key) {
            return Err(exists(&id));
        }
        let source = self.volume(disk)?;
        let data = source.data.clone();
        let size = match extent {
            Extent::Whole => source.size,
            _ => Mebibytes(0),
        };
        let copy = Volume {
            data,
            ..Volume::new(self.node, disk.dev_type, &id, size)
        };
        self.world.volumes.insert(key, copy);
        Ok(id)
    }

    /// What an assembled disk shows.
    fn data(&mut self, disk: &Disk) -> NodeResult<&Bytes> {
        if is_mirror(disk) {
            let minor = self
                .world
                .running_minor(self.node, disk)
                .map(|(number, _)| number);
            let data = minor.and_then(|minor| self.world.drbd_data(self.node, minor));
            return data.ok_or_else(|| not_found(&disk.logical_id));
        }
        if self.path(disk).is_none() {
            return Err(not_found(&disk.logical_id));
        }
        Ok(&self.volume(disk)?.data)
    }

    /// Nothing is behind the end of a disk.
    fn check_range(&mut self, disk: &Disk, offset: u64, length: u64) -> NodeResult<()> {
        let Some(bytes) = self.find(disk).and_then(|device| device.bytes) else {
            return Ok(());
        };
        match offset + length <= bytes {
            true => Ok(()),
            false => Err(io_error(
                &disk.logical_id.volume(),
                io::ErrorKind::UnexpectedEof.into(),
            )),
        }
    }

    fn image(&mut self, path: &str) -> NodeResult<&(Bytes, u64)> {
        let missing = FileStorageError::NotFound { path: path.into() };
        let machine = self.machine();
        machine.images.get(path).ok_or_else(|| storage(missing))
    }

    /// Writes to an assembled disk, or to the devices of a mirror that is primary.
    fn write(&mut self, disk: &Disk, write: impl Fn(&mut Bytes)) -> NodeResult<()> {
        self.note_user(disk);
        if is_mirror(disk) {
            let minor = self.world.running_minor(self.node, disk);
            let minor = minor
                .filter(|(_, minor)| minor.is_primary)
                .map(|(number, _)| number);
            let written = minor.is_some_and(|minor| self.world.drbd_write(self.node, minor, write));
            return match written {
                true => Ok(()),
                false => Err(io_error(
                    &disk.logical_id.volume(),
                    io::ErrorKind::ReadOnlyFilesystem.into(),
                )),
            };
        }
        self.data(disk)?;
        write(&mut self.volume(disk)?.data);
        Ok(())
    }

    /// Nobody may write to a disk that an instance uses, wherever that runs.
    fn note_user(&mut self, disk: &Disk) {
        let devices: Vec<(String, Device)> = match &disk.logical_id {
            LogicalId::Drbd8 { nodes, minors, .. } => {
                let minors = minors.iter().map(|minor| Device::Minor(*minor));
                nodes.iter().cloned().zip(minors).collect()
            }
            _ => {
                let device = Device::Volume(self.key(disk));
                let nodes = self.world.machines.keys();
                nodes.map(|node| (node.clone(), device.clone())).collect()
            }
        };
        let user = devices
            .iter()
            .find(|(node, device)| self.world.is_used(node, device));
        if let Some((node, _)) = user {
            let violation = format!("{} wrote to {disk}, which an instance uses on {node}", self.name);
            self.world.violations.push(violation);
        }
    }
}

impl Node for SimNode {
    fn name(&self) -> &str {
        &self.name
    }

    async fn create(&self, disk: &Disk, instance: &str, info: &str) -> NodeResult<Change> {
        self.on_disk("create", disk, |view, extent| {
            let mut made = Vec::new();
            if let Err(error) = view.create(disk, instance, info, extent, &mut made) {
                for disk in made {
                    let key = view.key(disk);
                    view.machine().attached.remove(&key);
                    view.world.volumes.remove(&key);
                }
                return Err(error);
            }
            Ok(changed(!made.is_empty()))
        })
        .await
    }

    async fn assemble(&self, disk: &Disk, instance: &str, role: Role) -> NodeResult<Assembled> {
        let what = match role {
            Role::Primary => "assemble",
            Role::Secondary => "assemble as secondary",
            Role::Shared => "assemble shared",
        };
        self.on_disk(what, disk, |view, extent| {
            let mut warnings = Vec::new();
            view.assemble(disk, role, extent, &mut warnings)?;
            if extent == Extent::Whole && role != Role::Secondary {
                view.link(disk, instance);
            }
            Ok(Assembled {
                device: view.find(disk),
                warnings,
                ..Assembled::default()
            })
        })
        .await
    }

    async fn open(&self, targets: &[Target<'_>], exclusive: bool) -> NodeResult<()> {
        let what = if exclusive { "open" } else { "share" };
        self.on_disks(what, targets, |view, target| {
            view.open(target.disk, exclusive)?;
            view.link(target.disk, target.instance);
            Ok(Change::Made)
        })
        .await
        .map(drop)
    }

    async fn take_over(&self, targets: &[Target<'_>], from: &str) -> NodeResult<()> {
        self.on_disks("take over", targets, |view, target| {
            if let Ok(volume) = view.volume(target.disk) {
                volume.open.remove(from);
            }
            view.assemble(target.disk, Role::Primary, Extent::Whole, &mut Vec::new())?;
            Ok(Change::Made)
        })
        .await
        .map(drop)
    }

    async fn close(&self, targets: &[Target<'_>]) -> NodeResult<()> {
        self.on_disks("close", targets, |view, target| {
            view.check_idle(target.disk)?;
            view.close(target.disk);
            view.unlink(target.disk, target.instance, None);
            Ok(Change::Made)
        })
        .await
        .map(drop)
    }

    /// Half of it leaves what is below, or the link.
    async fn shutdown(&self, disk: &Disk, instance: &str) -> NodeResult<Change> {
        self.on_disk("shutdown", disk, |view, extent| {
            view.check_idle(disk)?;
            let path = view.path(disk);
            view.shut_down(disk)?;
            if extent == Extent::Whole {
                for child in &disk.children {
                    view.shut_down(child)?;
                }
                view.unlink(disk, instance, path.as_deref());
            }
            Ok(Change::Made)
        })
        .await
    }

    /// Half of it takes the data and leaves the volumes.
    async fn remove(&self, disk: &Disk, instance: &str) -> NodeResult<Change> {
        self.on_disk("remove", disk, |view, extent| {
            view.check_idle(disk)?;
            let path = view.path(disk);
            if let Some(other) = view.open_elsewhere(disk, true) {
                return Err(is_open_on(disk, &other));
            }
            for device in disk.walk() {
                view.shut_down(device)?;
                if is_mirror(device) {
                    continue;
                }
                let key = view.key(device);
                match extent {
                    Extent::Whole if MUST_ADOPT.contains(device.dev_type.template()) => {}
                    Extent::Whole => drop(view.world.volumes.remove(&key)),
                    _ => {
                        if let Ok(volume) = view.volume(device) {
                            volume.data = Bytes::default();
                        }
                    }
                }
            }
            if extent == Extent::Whole {
                view.unlink(disk, instance, path.as_deref());
            }
            Ok(Change::Made)
        })
        .await
    }

    async fn find(&self, disk: &Disk, _instance: &str) -> NodeResult<Option<Status>> {
        self.on_disk("find", disk, |view, _| {
            let sync = match is_mirror(disk) {
                true => view.world.drbd_sync_status(view.node, disk),
                false => view.world.sync,
            };
            Ok(view.find(disk).map(|device| Status { device, sync }))
        })
        .await
    }

    async fn disconnect_net(&self, targets: &[Target<'_>]) -> NodeResult<Change> {
        self.on_disks("disconnect", targets, |view, target| {
            let disconnected = view.world.drbd_disconnect(view.node, target.disk);
            Ok(changed(view.drbd(
                Operation::DisconnectNet,
                target.disk,
                disconnected,
            )?))
        })
        .await
    }

    async fn attach_net(&self, targets: &[Target<'_>], multimaster: bool) -> NodeResult<Change> {
        let what = match multimaster {
            true => "connect as two primaries",
            false => "connect",
        };
        let change = self
            .on_disks(what, targets, |view, target| {
                let attached = view.world.drbd_attach_net(view.node, target.disk, multimaster);
                Ok(changed(view.drbd(Operation::AttachNet, target.disk, attached)?))
            })
            .await?;
        let mut waited = Duration::ZERO;
        for target in targets {
            loop {
                let is_connected = self.look(|view| {
                    let connected = view.world.drbd_is_connected(view.node, target.disk, multimaster);
                    view.drbd(Operation::AttachNet, target.disk, connected)
                })?;
                if is_connected {
                    break;
                }
                if waited >= CONNECT {
                    return self.look(|view| {
                        let error = view.world.drbd_not_connected(view.node, target.disk);
                        view.drbd(Operation::AttachNet, target.disk, Err(error))
                    });
                }
                tokio::time::sleep(PAUSE).await;
                waited += PAUSE;
            }
        }
        Ok(change)
    }

    async fn wait_sync(&self, targets: &[Target<'_>]) -> NodeResult<SyncProgress> {
        let mut progress = SyncProgress {
            done: true,
            percent: 100.0,
        };
        self.on_disks("wait for", targets, |view, target| {
            let disk = target.disk;
            let connected = view.world.drbd_is_connected(view.node, disk, false);
            if !view.drbd(Operation::AttachNet, disk, connected)? {
                let error = view.world.drbd_not_connected(view.node, disk);
                return view.drbd(Operation::AttachNet, disk, Err(error));
            }
            if let Some(percent) = view.world.drbd_sync_status(view.node, disk).sync_percent {
                progress.done = false;
                progress.percent = progress.percent.min(percent);
            }
            Ok(Change::AlreadyThere)
        })
        .await?;
        Ok(progress)
    }

    async fn needs_activation(&self, targets: &[Target<'_>]) -> NodeResult<Vec<String>> {
        let mut uuids = Vec::new();
        self.on_disks("needs activation", targets, |view, target| {
            let disk = target.disk;
            let is_fine = match is_mirror(disk) {
                true => {
                    let sync = view.world.drbd_sync_status(view.node, disk);
                    view.path(disk).is_some() && sync.ldisk_status != LocalDiskStatus::Faulty
                }
                false => view.path(disk).is_some(),
            };
            if !is_fine {
                uuids.push(disk.uuid.clone());
            }
            Ok(Change::AlreadyThere)
        })
        .await?;
        Ok(uuids)
    }

    async fn pause_resume_sync(&self, targets: &[Target<'_>], pause: bool) -> NodeResult<()> {
        self.on_disks("pause or resume", targets, |view, target| {
            let paused = view.world.drbd_pause(view.node, target.disk, pause);
            view.drbd(Operation::PauseSync, target.disk, paused)?;
            Ok(Change::Made)
        })
        .await
        .map(drop)
    }

    async fn add_children(&self, disk: &Disk, _instance: &str) -> NodeResult<Change> {
        self.on_disk("add children to", disk, |view, extent| {
            if extent != Extent::Whole {
                return Ok(Change::AlreadyThere);
            }
            let added = view.world.drbd_add_children(view.node, disk);
            Ok(changed(view.drbd(Operation::AddChildren, disk, added)?))
        })
        .await
    }

    async fn remove_children(&self, disk: &Disk, _instance: &str) -> NodeResult<Change> {
        self.on_disk("remove children of", disk, |view, extent| {
            if extent != Extent::Whole {
                return Ok(Change::AlreadyThere);
            }
            let removed = view.world.drbd_remove_children(view.node, disk);
            Ok(changed(view.drbd(Operation::RemoveChildren, disk, removed)?))
        })
        .await
    }

    async fn providers(&self) -> NodeResult<Vec<String>> {
        self.call("providers".to_owned(), |view, _| {
            let names = view
                .world
                .volumes
                .values()
                .filter_map(|volume| provider_of(&volume.logical_id));
            let names: BTreeSet<String> = names.map(str::to_owned).collect();
            Ok(names.into_iter().collect())
        })
        .await
    }

    async fn drbd_minors(&self) -> NodeResult<Vec<DrbdMinor>> {
        self.call("minors".to_owned(), |view, _| {
            Ok(view.world.drbd_minors(view.node))
        })
        .await
    }

    async fn drbd_helper(&self) -> NodeResult<String> {
        self.call("helper".to_owned(), |_, _| Ok("/bin/true".to_owned()))
            .await
    }

    async fn read(&self, disk: &Disk, _instance: &str, offset: u64, length: u64) -> NodeResult<Vec<Piece>> {
        self.on_disk("read", disk, |view, _| {
            view.check_range(disk, offset, length)?;
            Ok(view.data(disk)?.read(offset, length))
        })
        .await
    }

    /// Half of it is the first half of the pieces.
    async fn write(&self, disk: &Disk, _instance: &str, pieces: &[Piece]) -> NodeResult<()> {
        self.on_disk("write", disk, |view, extent| {
            for piece in pieces {
                view.check_range(disk, piece.offset, piece.length())?;
            }
            let pieces = &pieces[..half(pieces.len(), extent)];
            view.write(disk, |data| pieces.iter().for_each(|piece| data.put(piece)))
        })
        .await
    }

    async fn copy(&self, from: &Target<'_>, to: &Target<'_>, offset: u64, length: u64) -> NodeResult<()> {
        self.call(format!("copy {} to {}", from.disk, to.disk), |view, extent| {
            view.check_range(from.disk, offset, length)?;
            view.check_range(to.disk, offset, length)?;
            let pieces = view.data(from.disk)?.read(offset, length);
            let pieces = &pieces[..half(pieces.len(), extent)];
            view.write(to.disk, |data| pieces.iter().for_each(|piece| data.put(piece)))
        })
        .await
    }

    async fn wipe(&self, disk: &Disk, _instance: &str, offset: u64, length: u64) -> NodeResult<()> {
        self.on_disk("wipe", disk, |view, extent| {
            view.check_range(disk, offset, length)?;
            let length = match extent {
                Extent::Whole => length,
                _ => length / 2,
            };
            view.write(disk, |data| data.clear(offset, length))
        })
        .await
    }

    async fn checksum(&self, disk: &Disk, _instance: &str, offset: u64, length: u64) -> NodeResult<[u8; 32]> {
        self.on_disk("checksum", disk, |view, _| {
            view.check_range(disk, offset, length)?;
            Ok(view.data(disk)?.checksum(offset, length))
        })
        .await
    }

    async fn image_size(&self, path: &str) -> NodeResult<u64> {
        self.call(format!("size of image {path}"), |view, _| Ok(view.image(path)?.1))
            .await
    }

    async fn read_image(&self, path: &str, offset: u64, length: u64) -> NodeResult<Vec<Piece>> {
        self.call(format!("read image {path}"), |view, _| {
            Ok(view.image(path)?.0.read(offset, length))
        })
        .await
    }

    async fn grow(
        &self,
        disk: &Disk,
        _instance: &str,
        to: Mebibytes,
        layer: Layer,
        dry_run: bool,
    ) -> NodeResult<Change> {
        let what = if dry_run { "check growth of" } else { "grow" };
        self.on_disk(what, disk, |view, extent| {
            view.grow(disk, to, layer, dry_run, extent)
        })
        .await
    }

    async fn rename(&self, disk: &Disk, _instance: &str, to: &LogicalId) -> NodeResult<Change> {
        self.on_disk("rename", disk, |view, _| {
            let (old, new) = (view.key(disk), key(view.node, disk.dev_type, to));
            match (
                view.world.volumes.contains_key(&old),
                view.world.volumes.contains_key(&new),
            ) {
                (false, true) => return Ok(Change::AlreadyThere),
                (false, false) => return Err(not_found(&disk.logical_id)),
                (true, true) => return Err(exists(to)),
                (true, false) => {}
            }
            if let Some(mut volume) = view.world.volumes.remove(&old) {
                volume.logical_id = to.clone();
                view.world.volumes.insert(new.clone(), volume);
            }
            let machine = view.machine();
            if machine.attached.remove(&old) {
                machine.attached.insert(new.clone());
            }
            if let Some(exclusive) = machine.open.remove(&old) {
                machine.open.insert(new, exclusive);
            }
            Ok(Change::Made)
        })
        .await
    }

    async fn set_info(&self, disk: &Disk, instance: &str, info: &str) -> NodeResult<()> {
        self.on_disk("set info of", disk, |view, _| view.set_info(disk, instance, info))
            .await
    }

    async fn snapshot(
        &self,
        disk: &Disk,
        _instance: &str,
        name: &str,
        _size: Mebibytes,
    ) -> NodeResult<LogicalId> {
        self.on_disk("snapshot", disk, |view, extent| view.snapshot(disk, name, extent))
            .await
    }

    async fn create_storage_dir(&self, path: &str) -> NodeResult<Change> {
        self.call(format!("create directory {path}"), |view, _| {
            let directories = view.world.directories(view.node, path);
            Ok(changed(directories.insert(path.to_owned())))
        })
        .await
    }

    async fn remove_storage_dir(&self, path: &str) -> NodeResult<Change> {
        self.call(format!("remove directory {path}"), |view, _| {
            let visible = |volume: &&Volume| volume.node.as_deref().is_none_or(|node| node == view.node);
            let in_it = |volume: &&Volume| matches!(&volume.logical_id, LogicalId::File { path: file, .. } if is_in(file, path));
            let left = view.world.volumes.values().filter(visible).filter(in_it).count();
            Ok(changed(left == 0 && view.world.directories(view.node, path).remove(path)))
        }).await
    }

    async fn rename_storage_dir(&self, from: &str, to: &str) -> NodeResult<Change> {
        self.call(format!("rename directory {from} to {to}"), |view, _| {
            let directories = view.world.directories(view.node, from);
            match (directories.contains(from), directories.contains(to)) {
                (false, true) => return Ok(Change::AlreadyThere),
                (false, false) => return Err(storage(FileStorageError::NotFound { path: from.into() })),
                (true, true) => {
                    let path = to.into();
                    return Err(storage(FileStorageError::Exists { path, bytes: None }));
                }
                (true, false) => {}
            }
            directories.remove(from);
            directories.insert(to.to_owned());
            for (old, mut volume) in std::mem::take(&mut view.world.volumes) {
                let mut new = old;
                let is_here = volume.node.as_deref().is_none_or(|node| node == view.node);
                if let LogicalId::File { path, .. } = &mut volume.logical_id
                    && is_here
                    && is_in(path, from)
                {
                    *path = path.replacen(from, to, 1);
                    new = key(view.node, volume.device, &volume.logical_id);
                }
                view.world.volumes.insert(new, volume);
            }
            Ok(Change::Made)
        })
        .await
    }

    async fn device_size(&self, path: &str) -> NodeResult<Mebibytes> {
        self.call(format!("size of {path}"), |view, _| {
            let id = LogicalId::BlockDev {
                path: path.to_owned(),
            };
            let disk = Disk::new(LogicalDevice::Blockdev, id, Mebibytes(0));
            Ok(view.volume(&disk)?.size)
        })
        .await
    }

    async fn volumes(&self, device: LogicalDevice, params: &Object) -> NodeResult<Vec<FoundVolume>> {
        let provider = params.get("provider").and_then(|provider| provider.as_str());
        let call = match provider {
            Some(provider) => format!("{device} {provider} volumes"),
            None => format!("{device} volumes"),
        };
        self.call(call, |view, _| {
            if MUST_ADOPT.contains(device.template()) {
                return Ok(Vec::new());
            }
            let node = home(view.node, device);
            let found = view.world.volumes.values();
            let found = found.filter(|volume| {
                let of_it = provider.is_none() || provider_of(&volume.logical_id) == provider;
                volume.device == device && volume.node == node && of_it
            });
            let found = found.cloned().map(|volume| FoundVolume {
                device,
                logical_id: volume.logical_id,
                bytes: Some(volume.size.bytes()),
                owner: volume.owner,
            });
            Ok(found.collect())
        })
        .await
    }

    async fn space(&self, device: LogicalDevice, params: &Object) -> NodeResult<Vec<Space>> {
        self.call(format!("space for {device}"), |view, _| {
            let Some(total) = view.machine().room.filter(|_| LVM.contains(device.template())) else {
                return Ok(Vec::new());
            };
            let free = Mebibytes(total.0.saturating_sub(view.world.used(view.node).0));
            let name = params.get("vg").and_then(|vg| vg.as_str()).unwrap_or("xenvg");
            Ok(vec![Space {
                name: name.to_owned(),
                free,
                total,
            }])
        })
        .await
    }

    async fn attached(&self, device: LogicalDevice, _params: &Object) -> NodeResult<Vec<LogicalId>> {
        self.call(format!("attached {device} volumes"), |view, _| {
            let attached = view.machine().attached.clone();
            let volumes = view.world.volumes.iter();
            let is_here = |(key, volume): &(&String, &Volume)| {
                volume.device == device && volume.node.is_none() && attached.contains(*key)
            };
            let found = volumes
                .filter(is_here)
                .map(|(_, volume)| volume.logical_id.clone());
            Ok(found.collect())
        })
        .await
    }

    async fn links(&self) -> NodeResult<Vec<Link>> {
        self.call("links".to_owned(), |view, _| {
            let node = view.node;
            let machine = view.machine().clone();
            let attached = machine
                .attached
                .iter()
                .filter_map(|key| view.world.volumes.get(key));
            let attached = attached.map(|volume| device_path(node, volume.device, &volume.logical_id));
            let minors = machine
                .minors
                .keys()
                .map(|minor| PathBuf::from(format!("/dev/drbd{minor}")));
            let devices: BTreeSet<PathBuf> = attached.chain(minors).collect();
            let links = machine.links.into_iter();
            let links = links.map(|((instance, index), device)| Link {
                instance,
                index,
                numbers: devices.contains(&device).then_some((0, 0)),
                device,
            });
            Ok(links.collect())
        })
        .await
    }

    async fn remove_link(&self, instance: &str, index: u32) -> NodeResult<Change> {
        self.call(format!("remove link {instance}:{index}"), |view, _| {
            let removed = view.machine().links.remove(&(instance.to_owned(), index));
            Ok(changed(removed.is_some()))
        })
        .await
    }

    async fn move_link(&self, instance: &str, from: u32, to: u32) -> NodeResult<Change> {
        self.call(format!("move link {instance}:{from} to {to}"), |view, _| {
            let links = &mut view.machine().links;
            let Some(target) = links.remove(&(instance.to_owned(), from)) else {
                return Ok(Change::AlreadyThere);
            };
            links.insert((instance.to_owned(), to), target);
            Ok(Change::Made)
        })
        .await
    }
}

/// Whether it has no volume of its own but those below it.
fn is_mirror(disk: &Disk) -> bool {
    disk.dev_type == LogicalDevice::Drbd
}

/// Whether there is a device only between assemble and shutdown.
fn attachable(device: LogicalDevice) -> bool {
    BLOCK.difference(MUST_ADOPT).contains(device.template())
}

/// As large as LVM makes it.
fn whole_extents(device: LogicalDevice, size: Mebibytes) -> Mebibytes {
    const EXTENT: u64 = 4;
    match device {
        LogicalDevice::Plain => Mebibytes(size.0.next_multiple_of(EXTENT)),
        _ => size,
    }
}

fn half(count: usize, extent: Extent) -> usize {
    match extent {
        Extent::Whole => count,
        _ => count / 2,
    }
}

fn is_in(file: &str, directory: &str) -> bool {
    Path::new(file).starts_with(directory)
}

fn changed(changed: bool) -> Change {
    if changed {
        Change::Made
    } else {
        Change::AlreadyThere
    }
}

fn is_open_on(disk: &Disk, node: &str) -> NodeError {
    let what = format!("{}, which node {node} has open", disk.logical_id);
    io_error(&what, io::ErrorKind::ResourceBusy.into())
}

fn unsupported(disk: &Disk, operation: Operation) -> NodeError {
    NodeError::Storage(gnt_bdev::Error::Unsupported {
        device: disk.dev_type,
        operation,
    })
}

fn injected() -> NodeError {
    io_error("the test", io::Error::other("injected"))
}

/// A node that does not answer.
fn unreachable(node: &str) -> NodeError {
    NodeError::Unreachable {
        node: node.to_owned(),
        source: Box::new(io::Error::from(io::ErrorKind::HostUnreachable)),
    }
}

fn io_error(what: &str, source: io::Error) -> NodeError {
    storage(FileStorageError::Io {
        doing: "please",
        path: PathBuf::from(what),
        source,
    })
}

fn not_found(id: &LogicalId) -> NodeError {
    let path = id.volume().into_owned().into();
    storage(FileStorageError::NotFound { path })
}

fn exists(id: &LogicalId) -> NodeError {
    let path = id.volume().into_owned().into();
    storage(FileStorageError::Exists { path, bytes: None })
}

fn storage(error: FileStorageError) -> NodeError {
    NodeError::Storage(error.into())
}

fn provider_of(id: &LogicalId) -> Option<&str> {
    match id {
        LogicalId::Ext { provider, .. } => Some(provider),
        _ => None,
    }
}
