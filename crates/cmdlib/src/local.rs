//! The node that this process runs on: no network, no daemon.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use gnt_bdev::drbd::{self, DrbdError, DrbdMinor};
use gnt_bdev::transfer::{self, Piece};
use gnt_bdev::tree::{self, Activation, Assembled, Layer, Status};
use gnt_bdev::{Change, FileStorageError, FoundVolume, Host, Link, Operation, Space, SyncProgress, Target};
use gnt_config::{Disk, LogicalDevice, LogicalId, Mebibytes, Object};

use crate::error::{Error, Result};
use crate::node::{Node, NodeError, NodeResult, Role};
use crate::saga::Nodes;

/// The hypervisor that disks with `access` set to `userspace` are for; Ganeti has no other that can.
const USERSPACE_HYPERVISOR: &str = "kvm";

/// Between two looks at what is still at work.
const PAUSE: Duration = Duration::from_millis(10);

/// This machine.
#[derive(Debug, Clone)]
pub struct LocalNode {
    host: Arc<Host>,
    calls: Arc<AtomicUsize>,
    /// The operation that all calls are part of.
    operation: Option<Arc<str>>,
}

/// A call that has begun and not ended; whoever asked may be gone.
struct Call(Arc<AtomicUsize>);

impl Call {
    fn begin(calls: &Arc<AtomicUsize>) -> Self {
        calls.fetch_add(1, Ordering::SeqCst);
        Self(Arc::clone(calls))
    }
}

impl Drop for Call {
    fn drop(&mut self) {
        self.0.fetch_sub(1, Ordering::SeqCst);
    }
}

impl LocalNode {
    /// The node that `host` describes.
    pub fn new(host: Host) -> Self {
        Self {
            host: Arc::new(host),
            calls: Arc::default(),
            operation: None,
        }
    }

    /// What it works on.
    pub fn host(&self) -> &Host {
        &self.host
    }

    /// The same node with everything it does marked as part of `operation`.
    #[must_use]
    pub fn for_operation(&self, operation: &str) -> Self {
        Self {
            operation: Some(operation.into()),
            ..Self::new(self.host.for_operation(operation))
        }
    }

    /// Ends what `operation` left running on this machine. A call whose caller was dropped goes on in its thread, and may start the next
    /// program: this returns when none does.
    pub fn end_orphans(&self, operation: &str) -> Result<()> {
        loop {
            gnt_process::orphan::kill_orphans(operation).map_err(|source| Error::Orphans {
                operation: operation.to_owned(),
                source,
            })?;
            let is_ours = self.operation.as_deref() == Some(operation);
            if !is_ours || self.calls.load(Ordering::SeqCst) == 0 {
                return Ok(());
            }
            std::thread::sleep(PAUSE);
        }
    }

    /// Works on the host, where waiting is no harm to others.
    pub async fn call<T: Send + 'static>(
        &self,
        work: impl FnOnce(&Host) -> std::result::Result<T, gnt_bdev::Error> + Send + 'static,
    ) -> NodeResult<T> {
        let (host, call) = (Arc::clone(&self.host), Call::begin(&self.calls));
        let work = move || {
            let _call = call;
            work(&host)
        };
        match tokio::task::spawn_blocking(work).await {
            Ok(result) => Ok(result?),
            Err(source) => Err(NodeError::Broken {
                node: self.host.name.clone(),
                source,
            }),
        }
    }

    async fn on_disk<T: Send + 'static>(
        &self,
        disk: &Disk,
        instance: &str,
        work: impl FnOnce(&Host, &Target<'_>) -> std::result::Result<T, gnt_bdev::Error> + Send + 'static,
    ) -> NodeResult<T> {
        let (disk, instance) = (disk.clone(), instance.to_owned());
        self.call(move |host| work(host, &Target::new(&disk, &instance)))
            .await
    }

    /// Works on many disks, of which all are tried.
    async fn on_disks<T: Send + 'static>(
        &self,
        targets: &[Target<'_>],
        work: impl FnOnce(&Host, &[Target<'_>]) -> Vec<std::result::Result<T, gnt_bdev::Error>> + Send + 'static,
    ) -> NodeResult<Vec<NodeResult<T>>> {
        let results = self.with_targets(targets, |host, targets| Ok(work(host, targets)));
        let results = results.await?.into_iter();
        Ok(results.map(|result| result.map_err(NodeError::from)).collect())
    }

    /// Works on one disk after the other, up to the first that fails.
    async fn on_all<T: Send + 'static>(
        &self,
        targets: &[Target<'_>],
        work: impl Fn(&Host, &Target<'_>) -> std::result::Result<T, gnt_bdev::Error> + Send + 'static,
    ) -> NodeResult<Vec<T>> {
        self.with_targets(targets, move |host, targets| {
            targets.iter().map(|target| work(host, target)).collect()
        })
        .await
    }

    async fn with_targets<T: Send + 'static>(
        &self,
        targets: &[Target<'_>],
        work: impl FnOnce(&Host, &[Target<'_>]) -> std::result::Result<T, gnt_bdev::Error> + Send + 'static,
    ) -> NodeResult<T> {
        let owned = targets
            .iter()
            .map(|target| (target.disk.clone(), target.instance.to_owned()));
        let owned: Vec<_> = owned.collect();
        self.call(move |host| {
            let targets = owned.iter().map(|(disk, instance)| Target::new(disk, instance));
            work(host, &targets.collect::<Vec<_>>())
        })
        .await
    }
}

impl Node for LocalNode {
    fn name(&self) -> &str {
        &self.host.name
    }

    async fn check(&self, disk: &Disk, instance: &str, operation: Operation) -> NodeResult<()> {
        self.on_disk(disk, instance, move |host, target| {
            tree::check(host, target, operation)
        })
        .await
    }

    async fn create(&self, disk: &Disk, instance: &str, info: &str) -> NodeResult<Change> {
        let info = info.to_owned();
        self.on_disk(disk, instance, move |host, target| {
            tree::create(host, target, &info)
        })
        .await
    }

    async fn assemble(&self, disk: &Disk, instance: &str, role: Role) -> NodeResult<Assembled> {
        self.on_disk(disk, instance, move |host, target| {
            tree::assemble(host, target, activation(role))
        })
        .await
    }

    async fn assemble_all(
        &self,
        targets: &[Target<'_>],
        role: Role,
    ) -> NodeResult<Vec<NodeResult<Assembled>>> {
        self.on_disks(targets, move |host, targets| {
            tree::assemble_all(host, targets, activation(role))
        })
        .await
    }

    async fn open(&self, targets: &[Target<'_>], exclusive: bool) -> NodeResult<()> {
        self.on_all(targets, move |host, target| tree::open(host, target, exclusive))
            .await
            .map(drop)
    }

    async fn take_over(&self, targets: &[Target<'_>], from: &str) -> NodeResult<()> {
        let from = from.to_owned();
        self.on_all(targets, move |host, target| tree::take_over(host, target, &from))
            .await
            .map(drop)
    }

    async fn close(&self, targets: &[Target<'_>]) -> NodeResult<()> {
        self.with_targets(targets, |host, targets| {
            // One that stays open must not keep the others so.
            let failed = targets
                .iter()
                .filter_map(|target| tree::close(host, target).err());
            gnt_bdev::Error::all(failed.collect())
        })
        .await
    }

    async fn shutdown(&self, disk: &Disk, instance: &str) -> NodeResult<Change> {
        self.on_disk(disk, instance, tree::shutdown).await
    }

    async fn remove(&self, disk: &Disk, instance: &str) -> NodeResult<Change> {
        self.on_disk(disk, instance, tree::remove).await
    }

    async fn find(&self, disk: &Disk, instance: &str) -> NodeResult<Option<Status>> {
        self.on_disk(disk, instance, tree::find).await
    }

    async fn find_all(&self, targets: &[Target<'_>]) -> NodeResult<Vec<NodeResult<Option<Status>>>> {
        self.on_disks(targets, tree::find_all).await
    }

    async fn disconnect_net(&self, targets: &[Target<'_>]) -> NodeResult<Change> {
        let changes = self.on_all(targets, tree::disconnect_net).await?;
        Ok(changes.into_iter().fold(Change::AlreadyThere, Change::or))
    }

    async fn attach_net(&self, targets: &[Target<'_>], multimaster: bool) -> NodeResult<Change> {
        let attach = move |host: &Host, target: &Target<'_>| tree::attach_net(host, target, multimaster);
        let changes = self.on_all(targets, attach).await?;
        Ok(changes.into_iter().fold(Change::AlreadyThere, Change::or))
    }

    async fn wait_sync(&self, targets: &[Target<'_>]) -> NodeResult<SyncProgress> {
        self.with_targets(targets, tree::wait_sync).await
    }

    async fn needs_activation(&self, targets: &[Target<'_>]) -> NodeResult<Vec<String>> {
        self.with_targets(targets, tree::needs_activation).await
    }

    async fn pause_resume_sync(&self, targets: &[Target<'_>], pause: bool) -> NodeResult<()> {
        self.on_all(targets, move |host, target| {
            tree::pause_resume_sync(host, target, pause)
        })
        .await
        .map(drop)
    }

    async fn add_children(&self, disk: &Disk, instance: &str) -> NodeResult<Change> {
        self.on_disk(disk, instance, tree::add_children).await
    }

    async fn remove_children(&self, disk: &Disk, instance: &str) -> NodeResult<Change> {
        self.on_disk(disk, instance, tree::remove_children).await
    }

    async fn read(&self, disk: &Disk, instance: &str, offset: u64, length: u64) -> NodeResult<Vec<Piece>> {
        self.on_disk(disk, instance, move |host, target| {
            transfer::read(host, target, offset, length)
        })
        .await
    }

    async fn write(&self, disk: &Disk, instance: &str, pieces: &[Piece]) -> NodeResult<()> {
        let pieces = pieces.to_vec();
        self.on_disk(disk, instance, move |host, target| {
            transfer::write(host, target, &pieces)
        })
        .await
    }

    async fn copy(&self, from: &Target<'_>, to: &Target<'_>, offset: u64, length: u64) -> NodeResult<()> {
        self.with_targets(&[*from, *to], move |host, targets| match targets {
            [from, to] => transfer::copy(host, from, to, offset, length),
            _ => Ok(()),
        })
        .await
    }

    async fn wipe(&self, disk: &Disk, instance: &str, offset: u64, length: u64) -> NodeResult<()> {
        self.on_disk(disk, instance, move |host, target| {
            transfer::wipe(host, target, offset, length)
        })
        .await
    }

    async fn checksum(&self, disk: &Disk, instance: &str, offset: u64, length: u64) -> NodeResult<[u8; 32]> {
        self.on_disk(disk, instance, move |host, target| {
            transfer::checksum(host, target, offset, length)
        })
        .await
    }

    async fn image_size(&self, path: &str) -> NodeResult<u64> {
        let path = path.to_owned();
        self.call(move |host| transfer::image_size(host, path.as_ref()))
            .await
    }

    async fn read_image(&self, path: &str, offset: u64, length: u64) -> NodeResult<Vec<Piece>> {
        let path = path.to_owned();
        self.call(move |host| transfer::read_image(host, path.as_ref(), offset, length))
            .await
    }

    async fn grow(
        &self,
        disk: &Disk,
        instance: &str,
        to: Mebibytes,
        layer: Layer,
        dry_run: bool,
    ) -> NodeResult<Change> {
        self.on_disk(disk, instance, move |host, target| {
            tree::grow(host, target, to, dry_run, layer)
        })
        .await
    }

    async fn rename(&self, disk: &Disk, instance: &str, to: &LogicalId) -> NodeResult<Change> {
        let to = to.clone();
        self.on_disk(disk, instance, move |host, target| {
            tree::rename(host, target, &to)
        })
        .await
    }

    async fn set_info(&self, disk: &Disk, instance: &str, info: &str) -> NodeResult<()> {
        let info = info.to_owned();
        self.on_disk(disk, instance, move |host, target| {
            tree::set_info(host, target, &info)
        })
        .await
    }

    async fn snapshot(
        &self,
        disk: &Disk,
        instance: &str,
        name: &str,
        size: Mebibytes,
    ) -> NodeResult<LogicalId> {
        let name = name.to_owned();
        self.on_disk(disk, instance, move |host, target| {
            tree::snapshot(host, target, &name, size)
        })
        .await
    }

    async fn create_storage_dir(&self, path: &str) -> NodeResult<Change> {
        let path = path.to_owned();
        self.call(move |host| Ok(host.file_storage.create_directory(path.as_ref())?))
            .await
    }

    async fn remove_storage_dir(&self, path: &str) -> NodeResult<Change> {
        let path = path.to_owned();
        self.call(
            move |host| match host.file_storage.remove_directory(path.as_ref()) {
                // Whatever else is in it stays, and so does the directory.
                Err(FileStorageError::NotEmpty { .. }) => Ok(Change::AlreadyThere),
                removed => Ok(removed?),
            },
        )
        .await
    }

    async fn rename_storage_dir(&self, from: &str, to: &str) -> NodeResult<Change> {
        let (from, to) = (from.to_owned(), to.to_owned());
        self.call(move |host| Ok(host.file_storage.rename_directory(from.as_ref(), to.as_ref())?))
            .await
    }

    async fn device_size(&self, path: &str) -> NodeResult<Mebibytes> {
        let path = path.to_owned();
        self.call(move |_| {
            let device = gnt_bdev::device::under_dev(path.as_ref())?;
            Ok(Mebibytes::from_bytes(device.bytes.unwrap_or_default()))
        })
        .await
    }

    async fn volumes(&self, device: LogicalDevice, params: &Object) -> NodeResult<Vec<FoundVolume>> {
        let params = params.clone();
        self.call(move |host| tree::volumes(host, device, &params)).await
    }

    async fn space(&self, device: LogicalDevice, params: &Object) -> NodeResult<Vec<Space>> {
        let params = params.clone();
        self.call(move |host| tree::space(host, device, &params)).await
    }

    async fn attached(&self, device: LogicalDevice, params: &Object) -> NodeResult<Vec<LogicalId>> {
        let params = params.clone();
        self.call(move |host| tree::attached(host, device, &params)).await
    }

    async fn providers(&self) -> NodeResult<Vec<String>> {
        self.call(|host| Ok(tree::providers(host))).await
    }

    async fn drbd_minors(&self) -> NodeResult<Vec<DrbdMinor>> {
        self.call(|host| drbd::minors(host).map_err(|error| drbd_failed(host, error)))
            .await
    }

    async fn drbd_helper(&self) -> NodeResult<String> {
        self.call(|host| drbd::usermode_helper(host).map_err(|error| drbd_failed(host, error)))
            .await
    }

    async fn links(&self) -> NodeResult<Vec<Link>> {
        self.call(|host| Ok(host.links.list()?)).await
    }

    async fn remove_link(&self, instance: &str, index: u32) -> NodeResult<Change> {
        let instance = instance.to_owned();
        self.call(move |host| Ok(host.links.remove(&instance, index)?))
            .await
    }

    async fn move_link(&self, instance: &str, from: u32, to: u32) -> NodeResult<Change> {
        let instance = instance.to_owned();
        self.call(move |host| Ok(host.links.rename(&instance, from, to)?))
            .await
    }
}

fn drbd_failed(host: &Host, error: DrbdError) -> gnt_bdev::Error {
    gnt_bdev::Error::Volumes {
        device: LogicalDevice::Drbd,
        node: host.name.clone(),
        cause: Box::new(error.into()),
    }
}

fn activation(role: Role) -> Activation<'static> {
    match role {
        Role::Primary => Activation::primary(USERSPACE_HYPERVISOR),
        Role::Secondary => Activation::secondary(),
        Role::Shared => Activation {
            exclusive: false,
            ..Activation::primary(USERSPACE_HYPERVISOR)
        },
    }
}

/// A cluster of which only this machine can be asked.
#[derive(Debug, Clone)]
pub struct OneNode {
    uuid: String,
    node: LocalNode,
    nodes: Arc<BTreeMap<String, gnt_config::Node>>,
}

impl OneNode {
    /// `host` is the node with this `uuid`; `nodes` are all of the cluster's.
    pub fn new(uuid: &str, host: Host, nodes: &[gnt_config::Node]) -> Self {
        let nodes = nodes
            .iter()
            .map(|node| (node.uuid.clone(), node.clone()))
            .collect();
        Self {
            uuid: uuid.to_owned(),
            node: LocalNode::new(host),
            nodes: Arc::new(nodes),
        }
    }
}

impl Nodes for OneNode {
    type Node = LocalNode;

    fn node(&self, uuid: &str) -> Result<&LocalNode> {
        match self.nodes.get(uuid) {
            Some(node) if node.offline => Err(Error::NodeOffline {
                node: node.name.clone(),
            }),
            _ if uuid == self.uuid => Ok(&self.node),
            Some(node) => Err(Error::Unreachable {
                node: node.name.clone(),
                here: self.node.name().to_owned(),
            }),
            None => Err(Error::NoNode {
                node: uuid.to_owned(),
            }),
        }
    }

    fn for_operation(&self, operation: &str) -> Self {
        Self {
            node: self.node.for_operation(operation),
            ..self.clone()
        }
    }

    async fn end_orphans(&self, operation: &str, _nodes: &[String]) -> Result<()> {
        self.end_orphans_here(operation)
    }

    fn end_orphans_here(&self, operation: &str) -> Result<()> {
        self.node.end_orphans(operation)
    }
}

#[cfg(test)]
mod tests {
    use std::path::Path;
    use std::sync::atomic::AtomicBool;

    use gnt_config::Settings;
    use gnt_process::System;

    use super::*;

    #[test]
    fn a_call_whose_caller_is_gone_is_over_when_its_operation_is_ended() {
        let state = Path::new("/nonexistent");
        let host = Host::new("node1", &Settings::under(state), state, Arc::new(System));
        let nodes = OneNode::new("uuid", host, &[]).for_operation("dropped-call");
        let done = Arc::new(AtomicBool::new(false));
        let runtime = tokio::runtime::Builder::new_current_thread()
            .enable_all()
            .build()
            .unwrap();
        let noted = Arc::clone(&done);
        let call = nodes.node.call(move |_| {
            std::thread::sleep(Duration::from_millis(300));
            noted.store(true, Ordering::SeqCst);
            Ok(())
        });
        runtime.block_on(async {
            tokio::time::timeout(Duration::from_millis(1), call)
                .await
                .unwrap_err()
        });
        assert!(!done.load(Ordering::SeqCst));
        nodes.end_orphans_here("dropped-call").unwrap();
        assert!(done.load(Ordering::SeqCst));
    }
}
