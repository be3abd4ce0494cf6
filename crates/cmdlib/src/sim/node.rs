//! A simulated node. What a call does is what [`gnt_bdev::tree`] would do, in the same order.

use std::io;
use std::path::{Path, PathBuf};

use gnt_bdev::transfer::{Piece, TransferError};
use gnt_bdev::{
    Assembled, BlockDevice, Change, FileStorageError, FoundVolume, Layer, Link, Owner, Status, Target,
};
use gnt_config::template::{BLOCK, HAVE_SNAPSHOTS, MUST_ADOPT};
use gnt_config::{Disk, LogicalDevice, LogicalId, Mebibytes, Object};

use crate::node::{Node, NodeError, NodeResult, Role};
use crate::sim::content::Bytes;
use crate::sim::fault::{Extent, Then, crash};
use crate::sim::world::{Machine, Volume, World, device_path, home, key};
use crate::sim::{Shared, State};

/// One node of a simulated cluster.
#[derive(Debug, Clone)]
pub(crate) struct SimNode {
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
    fn call<T>(
        &self,
        what: String,
        act: impl FnOnce(&mut View<'_>, Extent) -> NodeResult<T>,
    ) -> NodeResult<T> {
        let mut state = self.shared.lock();
        let State { world, fault, calls } = &mut *state;
        let number = calls.len();
        calls.push(what);
        let mut view = View {
            node: &self.uuid,
            world,
        };
        match *fault {
            Some(fault) if fault.call == number => {
                if fault.extent != Extent::None {
                    act(&mut view, fault.extent)?;
                }
                if fault.then == Then::Crash {
                    drop(state);
                    crash();
                }
                Err(injected())
            }
            Some(fault) if fault.then == Then::FailOn && fault.call < number => Err(injected()),
            _ => act(&mut view, Extent::Whole),
        }
    }

    fn on_disk<T>(
        &self,
        what: &str,
        disk: &Disk,
        act: impl FnOnce(&mut View<'_>, Extent) -> NodeResult<T>,
    ) -> NodeResult<T> {
        self.call(format!("{what} {disk}"), act)
    }
}

/// The world as one node sees it.
struct View<'a> {
    node: &'a str,
    world: &'a mut World,
}

impl View<'_> {
    fn key(&self, disk: &Disk) -> String {
        key(self.node, disk.dev_type, &disk.logical_id)
    }

    fn machine(&mut self) -> &mut Machine {
        self.world.machines.entry(self.node.to_owned()).or_default()
    }

    fn volume(&mut self, disk: &Disk) -> NodeResult<&mut Volume> {
        let key = self.key(disk);
        let missing = not_found(&disk.logical_id);
        self.world.volumes.get_mut(&key).ok_or(missing)
    }

    fn size(&mut self, disk: &Disk) -> Option<Mebibytes> {
        match &disk.logical_id {
            LogicalId::BlockDev { path } => self.machine().devices.get(path).copied(),
            _ => Some(self.volume(disk).ok()?.size),
        }
    }

    /// What is at its device, which must be there and be as large.
    fn assembled(&mut self, disk: &Disk, offset: u64, length: u64) -> NodeResult<&mut Volume> {
        if self.path(disk).is_none() {
            return Err(not_found(&disk.logical_id));
        }
        let node = self.node.to_owned();
        let volume = self.volume(disk)?;
        let bytes = volume.size.bytes();
        match offset + length > bytes {
            true => Err(gnt_bdev::Error::Transfer {
                doing: gnt_bdev::transfer::Doing::Read,
                disk: disk.to_string(),
                node,
                cause: Box::new(TransferError::Outside {
                    offset,
                    length,
                    bytes,
                }),
            }
            .into()),
            false => Ok(volume),
        }
    }

    fn image(&mut self, path: &str) -> NodeResult<&(Bytes, u64)> {
        let missing = FileStorageError::NotFound { path: path.into() };
        self.machine().images.get(path).ok_or_else(|| storage(missing))
    }

    /// Where its device is, if it has one now.
    fn path(&mut self, disk: &Disk) -> Option<PathBuf> {
        let key = self.key(disk);
        let is_there = !attachable(disk.dev_type) || self.machine().attached.contains(&key);
        is_there.then(|| device_path(disk.dev_type, &disk.logical_id))
    }

    fn unlink(&mut self, disk: &Disk, instance: &str, path: Option<&Path>) {
        let links = &mut self.machine().links;
        match (disk.index(), path) {
            (Some(index), _) => drop(links.remove(&(instance.to_owned(), index))),
            (None, Some(path)) => links.retain(|_, target| target != path),
            (None, None) => {}
        }
    }
}

impl Node for SimNode {
    fn name(&self) -> &str {
        &self.name
    }

    async fn create(&self, disk: &Disk, instance: &str, info: &str) -> NodeResult<Change> {
        self.on_disk("create", disk, |view, extent| {
            if MUST_ADOPT.contains(disk.dev_type.template()) {
                return match view.size(disk) {
                    Some(size) if size >= disk.size => Ok(Change::AlreadyThere),
                    _ => Err(not_found(&disk.logical_id)),
                };
            }
            check_directory(view, &disk.logical_id)?;
            let (key, node) = (view.key(disk), home(view.node, disk.dev_type));
            let change = match view.world.volumes.get(&key) {
                Some(there) if there.size == disk.size => Change::AlreadyThere,
                Some(there) if there.size != Mebibytes(0) => return Err(exists(&disk.logical_id)),
                _ => Change::Made,
            };
            let volume = view.world.volumes.entry(key).or_insert_with(|| Volume {
                device: disk.dev_type,
                logical_id: disk.logical_id.clone(),
                node,
                size: Mebibytes(0),
                owner: Owner::default(),
                data: Bytes::default(),
            });
            if extent == Extent::Whole {
                volume.size = disk.size;
                volume.owner = Owner::of(&Target::new(disk, instance), Some(info));
            }
            Ok(change)
        })
    }

    async fn assemble(&self, disk: &Disk, instance: &str, role: Role) -> NodeResult<Assembled> {
        self.on_disk("assemble", disk, |view, extent| {
            let size = view.size(disk).ok_or_else(|| not_found(&disk.logical_id))?;
            if attachable(disk.dev_type) {
                let key = view.key(disk);
                view.machine().attached.insert(key);
            }
            let path = device_path(disk.dev_type, &disk.logical_id);
            let linked = extent == Extent::Whole && role == Role::Primary;
            if let Some(index) = disk.index().filter(|_| linked) {
                let link = (instance.to_owned(), index);
                view.machine().links.insert(link, path.clone());
            }
            Ok(Assembled {
                device: Some(BlockDevice {
                    path: Some(path),
                    bytes: Some(size.bytes()),
                    ..BlockDevice::default()
                }),
                ..Assembled::default()
            })
        })
    }

    async fn shutdown(&self, disk: &Disk, instance: &str) -> NodeResult<Change> {
        self.on_disk("shutdown", disk, |view, extent| {
            let (key, path) = (view.key(disk), view.path(disk));
            view.machine().attached.remove(&key);
            if extent == Extent::Whole {
                view.unlink(disk, instance, path.as_deref());
            }
            Ok(Change::Made)
        })
    }

    /// Half of it takes the data and leaves the volume.
    async fn remove(&self, disk: &Disk, instance: &str) -> NodeResult<Change> {
        self.on_disk("remove", disk, |view, extent| {
            let (key, path) = (view.key(disk), view.path(disk));
            view.machine().attached.remove(&key);
            if extent == Extent::Half {
                if let Ok(volume) = view.volume(disk) {
                    volume.data = Bytes::default();
                }
                return Ok(Change::Made);
            }
            view.world.volumes.remove(&key);
            view.unlink(disk, instance, path.as_deref());
            Ok(Change::Made)
        })
    }

    async fn find(&self, disk: &Disk, _instance: &str) -> NodeResult<Option<Status>> {
        self.on_disk("find", disk, |view, _| {
            let path = view.path(disk);
            let sync = view.world.sync;
            Ok(view.size(disk).map(|size| Status {
                device: BlockDevice {
                    path,
                    bytes: Some(size.bytes()),
                    ..BlockDevice::default()
                },
                sync,
            }))
        })
    }

    async fn read(&self, disk: &Disk, _instance: &str, offset: u64, length: u64) -> NodeResult<Vec<Piece>> {
        self.on_disk("read", disk, |view, _| {
            Ok(view.assembled(disk, offset, length)?.data.read(offset, length))
        })
    }

    /// Half of it leaves out what is behind the middle.
    async fn write(&self, disk: &Disk, _instance: &str, pieces: &[Piece]) -> NodeResult<()> {
        self.on_disk("write", disk, |view, extent| {
            for piece in part(extent, pieces) {
                let volume = view.assembled(disk, piece.offset, piece.length())?;
                volume.data.put(piece);
            }
            Ok(())
        })
    }

    async fn copy(&self, from: &Target<'_>, to: &Target<'_>, offset: u64, length: u64) -> NodeResult<()> {
        self.on_disk("copy to", to.disk, |view, extent| {
            let pieces = view
                .assembled(from.disk, offset, length)?
                .data
                .read(offset, length);
            let volume = view.assembled(to.disk, offset, length)?;
            part(extent, &pieces)
                .iter()
                .for_each(|piece| volume.data.put(piece));
            Ok(())
        })
    }

    async fn wipe(&self, disk: &Disk, _instance: &str, offset: u64, length: u64) -> NodeResult<()> {
        self.on_disk("wipe", disk, |view, extent| {
            let volume = view.assembled(disk, offset, length)?;
            if extent == Extent::Whole {
                volume.data.clear(offset, length);
            }
            Ok(())
        })
    }

    async fn checksum(&self, disk: &Disk, _instance: &str, offset: u64, length: u64) -> NodeResult<[u8; 32]> {
        self.on_disk("checksum of", disk, |view, _| {
            Ok(view
                .assembled(disk, offset, length)?
                .data
                .checksum(offset, length))
        })
    }

    async fn image_size(&self, path: &str) -> NodeResult<u64> {
        self.call(format!("size of image {path}"), |view, _| Ok(view.image(path)?.1))
    }

    async fn read_image(&self, path: &str, offset: u64, length: u64) -> NodeResult<Vec<Piece>> {
        self.call(format!("read image {path}"), |view, _| {
            Ok(view.image(path)?.0.read(offset, length))
        })
    }

    async fn grow(
        &self,
        disk: &Disk,
        _instance: &str,
        to: Mebibytes,
        _layer: Layer,
        dry_run: bool,
    ) -> NodeResult<Change> {
        let what = if dry_run { "check growth of" } else { "grow" };
        self.on_disk(what, disk, |view, extent| {
            let volume = view.volume(disk)?;
            if volume.size >= to {
                return Ok(Change::AlreadyThere);
            }
            if !dry_run {
                volume.size = match extent {
                    Extent::Whole => to,
                    _ => Mebibytes(volume.size.0.midpoint(to.0)),
                };
            }
            Ok(Change::Made)
        })
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
                view.world.volumes.insert(new, volume);
            }
            Ok(Change::Made)
        })
    }

    async fn set_info(&self, disk: &Disk, instance: &str, info: &str) -> NodeResult<()> {
        self.on_disk("set info of", disk, |view, _| {
            if !MUST_ADOPT.contains(disk.dev_type.template()) {
                view.volume(disk)?.owner = Owner::of(&Target::new(disk, instance), Some(info));
            }
            Ok(())
        })
    }

    async fn snapshot(
        &self,
        disk: &Disk,
        _instance: &str,
        name: &str,
        size: Mebibytes,
    ) -> NodeResult<LogicalId> {
        self.on_disk("snapshot", disk, |view, extent| {
            if !HAVE_SNAPSHOTS.contains(disk.dev_type.template()) {
                return Err(gnt_bdev::Error::Unsupported {
                    device: disk.dev_type,
                    operation: gnt_bdev::Operation::Snapshot,
                }
                .into());
            }
            let id = disk.logical_id.with_volume(name.to_owned());
            let key = key(view.node, disk.dev_type, &id);
            if view.world.volumes.contains_key(&key) {
                return Err(exists(&id));
            }
            let copy = Volume {
                logical_id: id.clone(),
                owner: Owner::default(),
                size: if extent == Extent::Whole {
                    size
                } else {
                    Mebibytes(0)
                },
                ..view.volume(disk)?.clone()
            };
            view.world.volumes.insert(key, copy);
            Ok(id)
        })
    }

    async fn create_storage_dir(&self, path: &str) -> NodeResult<Change> {
        self.call(format!("create directory {path}"), |view, _| {
            Ok(changed(view.machine().directories.insert(path.to_owned())))
        })
    }

    async fn remove_storage_dir(&self, path: &str) -> NodeResult<Change> {
        self.call(format!("remove directory {path}"), |view, _| {
            let in_it = |volume: &&Volume| matches!(&volume.logical_id, LogicalId::File { path: file, .. } if is_in(file, path));
            let left = view.world.volumes.values().filter(in_it).count();
            Ok(changed(left == 0 && view.machine().directories.remove(path)))
        })
    }

    async fn rename_storage_dir(&self, from: &str, to: &str) -> NodeResult<Change> {
        self.call(format!("rename directory {from} to {to}"), |view, _| {
            let directories = &mut view.machine().directories;
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
                if let LogicalId::File { path, .. } = &mut volume.logical_id
                    && is_in(path, from)
                {
                    *path = path.replacen(from, to, 1);
                    new = key(view.node, volume.device, &volume.logical_id);
                }
                view.world.volumes.insert(new, volume);
            }
            Ok(Change::Made)
        })
    }

    async fn device_size(&self, path: &str) -> NodeResult<Mebibytes> {
        self.call(format!("size of {path}"), |view, _| {
            let size = view.machine().devices.get(path).copied();
            size.ok_or_else(|| {
                not_found(&LogicalId::BlockDev {
                    path: path.to_owned(),
                })
            })
        })
    }

    async fn volumes(&self, device: LogicalDevice, _params: &Object) -> NodeResult<Vec<FoundVolume>> {
        self.call(format!("{device} volumes"), |view, _| {
            let node = Some(view.node.to_owned());
            let visible =
                |volume: &&Volume| volume.device == device && (volume.node.is_none() || volume.node == node);
            let found = view.world.volumes.values().filter(visible);
            let found = found.cloned().map(|volume| FoundVolume {
                device,
                logical_id: volume.logical_id,
                bytes: Some(volume.size.bytes()),
                owner: volume.owner,
            });
            Ok(found.collect())
        })
    }

    async fn links(&self) -> NodeResult<Vec<Link>> {
        self.call("links".to_owned(), |view, _| {
            let links = view.machine().links.iter();
            let links = links.map(|((instance, index), device)| Link {
                instance: instance.clone(),
                index: *index,
                device: device.clone(),
                numbers: None,
            });
            Ok(links.collect())
        })
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
    }
}

/// As many pieces as are written.
fn part(extent: Extent, pieces: &[Piece]) -> &[Piece] {
    match extent {
        Extent::Whole => pieces,
        _ => &pieces[..pieces.len() / 2],
    }
}

/// Whether there is a device only between assemble and shutdown.
fn attachable(device: LogicalDevice) -> bool {
    BLOCK.difference(MUST_ADOPT).contains(device.template())
}

fn check_directory(view: &mut View<'_>, id: &LogicalId) -> NodeResult<()> {
    let LogicalId::File { path, .. } = id else {
        return Ok(());
    };
    let directory = Path::new(path)
        .parent()
        .and_then(Path::to_str)
        .unwrap_or_default();
    if view.machine().directories.contains(directory) {
        return Ok(());
    }
    Err(storage(FileStorageError::NoDirectory { path: path.into() }))
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

fn injected() -> NodeError {
    storage(FileStorageError::Io {
        doing: "please",
        path: PathBuf::from("the test"),
        source: io::Error::other("injected"),
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
