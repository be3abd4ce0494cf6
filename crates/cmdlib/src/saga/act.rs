//! What a step does, and what can be seen of it.

use std::time::Duration;

use futures_util::future::join_all;
use gnt_bdev::{Layer, Link, LocalDiskStatus, Status, SyncProgress, Target};
use gnt_config::{LogicalId, Mebibytes};

use crate::error::{Error, Result};
use crate::node::{Node, Role};
use crate::saga::{AssembledDisk, Nodes};
use crate::step::{Place, Places, Step, Transfer};

/// Between two looks at a synchronisation.
pub(crate) const LOOK_EVERY: Duration = Duration::from_secs(1);
/// How often in a row mirrors may be seen incomplete with nothing being synchronised: that may be about to begin (`WaitForSync`).
const PATIENCE: u32 = 10;

/// Does what the step says. A change of the configuration is made when the step is recorded. `syncing` is told how far a synchronisation is
/// that is waited for.
pub(super) async fn act<N: Nodes>(
    nodes: &N,
    step: &Step,
    syncing: &dyn Fn(SyncProgress),
) -> Result<Vec<AssembledDisk>> {
    let mut step = step;
    while let Step::Try { attempt, .. } = step {
        step = attempt;
    }
    match step {
        Step::CreateStorageDir { node, path } => {
            nodes.node(node)?.create_storage_dir(path).await.map(drop)?
        }
        Step::RemoveStorageDir { node, path } => {
            nodes.node(node)?.remove_storage_dir(path).await.map(drop)?
        }
        Step::RenameStorageDir { node, from, to } => {
            nodes.node(node)?.rename_storage_dir(from, to).await.map(drop)?;
        }
        Step::CreateDisk { at, info } => at
            .on(nodes)?
            .create(&at.disk, &at.instance, info)
            .await
            .map(drop)?,
        Step::RemoveDisk { at, .. } => at.on(nodes)?.remove(&at.disk, &at.instance).await.map(drop)?,
        Step::AssembleDisks { at, .. } => return assemble(nodes, at).await,
        Step::ShutdownDisks { at, .. } => shutdown_all(nodes, std::slice::from_ref(at)).await?,
        Step::OpenDisks { at, exclusive, .. } => {
            nodes.node(&at.node)?.open(&at.targets(), *exclusive).await?;
        }
        Step::CloseDisks { at, .. } => nodes.node(&at.node)?.close(&at.targets()).await?,
        Step::TakeOver { at, from, .. } => nodes.node(&at.node)?.take_over(&at.targets(), from).await?,
        Step::DisconnectNet { at } => {
            on_all(at, async |at| {
                let node = nodes.node(&at.node)?;
                Ok(node.disconnect_net(&at.targets()).await.map(drop)?)
            })
            .await?;
        }
        Step::AttachNet { at, multimaster } => {
            on_all(at, async |at| {
                let node = nodes.node(&at.node)?;
                Ok(node.attach_net(&at.targets(), *multimaster).await.map(drop)?)
            })
            .await?;
        }
        Step::AddChildren { at } => add_children(nodes, at).await?,
        Step::RemoveChildren { at, .. } => at
            .on(nodes)?
            .remove_children(&at.disk, &at.instance)
            .await
            .map(drop)?,
        Step::GrowDisk {
            at,
            to,
            layer,
            idle,
            halves,
            ..
        } => {
            assemble_mirrored(nodes, halves).await?;
            at.on(nodes)?
                .grow(&at.disk, &at.instance, *to, *layer, false)
                .await?;
            if *idle {
                shutdown(nodes, at).await?;
            }
            shutdown_all(nodes, halves).await?;
        }
        Step::RenameDisk { at, to } => {
            let to = LogicalId::from_json(at.disk.dev_type, to)?;
            at.on(nodes)?
                .rename(&at.disk, &at.instance, &to)
                .await
                .map(drop)?;
        }
        Step::SetInfo { label, .. } => {
            let at = &label.at;
            at.on(nodes)?
                .set_info(&at.disk, &at.instance, &label.info)
                .await?;
        }
        Step::SnapshotDisk { at, snapshot } => {
            let name = &snapshot.logical_id.volume();
            at.on(nodes)?
                .snapshot(&at.disk, &at.instance, name, snapshot.size)
                .await
                .map(drop)?;
        }
        Step::RemoveLink {
            node,
            instance,
            index,
        } => nodes.node(node)?.remove_link(instance, *index).await.map(drop)?,
        Step::MoveLink {
            node,
            instance,
            from,
            to,
        } => {
            nodes
                .node(node)?
                .move_link(instance, *from, *to)
                .await
                .map(drop)?;
        }
        Step::MirrorDisk { at, info } => at
            .on(nodes)?
            .create(&at.disk, &at.instance, info)
            .await
            .map(drop)?,
        // What comes before has a course of its own.
        Step::CopyDisk { transfer, .. }
        | Step::WipeDisk { transfer, .. }
        | Step::ImageDisk { transfer, .. } => release(nodes, transfer).await?,
        Step::ChangePeer { at, .. } => assemble_halves(nodes, at).await?,
        Step::CheckData { at, mirrored } => check_data(nodes, at, *mirrored).await?,
        Step::AwaitPeers { at } => nodes.node(&at.node)?.wait_sync(&at.targets()).await.map(drop)?,
        Step::AwaitSync { at } => await_sync(nodes, at, syncing).await?,
        Step::Configure { .. } | Step::Commit { .. } | Step::Try { .. } => {}
    }
    Ok(Vec::new())
}

/// The volumes may be inactive, where the node was started anew.
async fn add_children<N: Nodes>(nodes: &N, at: &Place) -> Result<()> {
    let node = at.on(nodes)?;
    let volumes = at.disk.children.iter();
    let volumes: Vec<_> = volumes.map(|volume| Target::new(volume, &at.instance)).collect();
    for assembled in node.assemble_all(&volumes, Role::Secondary).await? {
        assembled?;
    }
    node.add_children(&at.disk, &at.instance).await?;
    Ok(())
}

/// Assembles disks without opening them; those that are assembled get what they lack.
async fn assemble_halves<N: Nodes>(nodes: &N, at: &Places) -> Result<()> {
    let assembled = nodes
        .node(&at.node)?
        .assemble_all(&at.targets(), Role::Secondary)
        .await?;
    for disk in assembled {
        disk?;
    }
    Ok(())
}

/// Puts disks into use on all nodes that have a half, the primary one last and when it has found the others: its data may be the older.
async fn assemble_mirrored<N: Nodes>(nodes: &N, halves: &[Places]) -> Result<()> {
    for half in halves {
        assemble_halves(nodes, half).await?;
    }
    if let Some(primary) = halves.last() {
        nodes.node(&primary.node)?.wait_sync(&primary.targets()).await?;
        assemble(nodes, primary).await?;
    }
    Ok(())
}

/// The disks as they are on a node, each of which must be there.
async fn find_all<N: Nodes>(nodes: &N, at: &Places) -> Result<Vec<Status>> {
    let found = nodes.node(&at.node)?.find_all(&at.targets()).await?;
    let status = |(disk, found): (&gnt_config::Disk, crate::node::NodeResult<Option<Status>>)| {
        found?.ok_or_else(|| Error::Gone {
            disk: disk.to_string(),
            instance: at.instance.clone(),
        })
    };
    at.disks.iter().zip(found).map(status).collect()
}

async fn check_data<N: Nodes>(nodes: &N, at: &Places, mirrored: bool) -> Result<()> {
    let found = find_all(nodes, at).await?;
    for (disk, status) in at.disks.iter().zip(found) {
        let is_good = status.sync.ldisk_status == LocalDiskStatus::Okay;
        if !is_good || (mirrored && status.sync.is_degraded) {
            return Err(Error::NoGoodData {
                disk: disk.to_string(),
                node: nodes.node(&at.node)?.name().to_owned(),
                sync: status.sync,
            });
        }
    }
    Ok(())
}

async fn await_sync<N: Nodes>(nodes: &N, all: &[Places], syncing: &dyn Fn(SyncProgress)) -> Result<()> {
    for at in all {
        assemble_halves(nodes, at).await?;
    }
    let Some(good) = all.last() else {
        return Ok(());
    };
    let mut patience = PATIENCE;
    loop {
        let progress = nodes.node(&good.node)?.wait_sync(&good.targets()).await?;
        syncing(progress);
        let degraded = match progress.done {
            true => degraded(nodes, all).await?,
            false => None,
        };
        match (progress.done, degraded) {
            (true, None) => return Ok(()),
            (true, Some(error)) if patience == 1 => return Err(error),
            (true, Some(_)) => patience -= 1,
            (false, _) => patience = PATIENCE,
        }
        tokio::time::sleep(LOOK_EVERY).await;
    }
}

/// The error for the first disk that is not mirrored as it should be.
async fn degraded<N: Nodes>(nodes: &N, all: &[Places]) -> Result<Option<Error>> {
    for at in all {
        for (disk, status) in at.disks.iter().zip(find_all(nodes, at).await?) {
            if status.sync.is_degraded {
                return Ok(Some(Error::NoGoodData {
                    disk: disk.to_string(),
                    node: nodes.node(&at.node)?.name().to_owned(),
                    sync: status.sync,
                }));
            }
        }
    }
    Ok(None)
}

/// Asks several nodes at the same time; the first error is told when all have answered.
async fn on_all(at: &[Places], ask: impl AsyncFn(&Places) -> Result<()>) -> Result<()> {
    let answers = join_all(at.iter().map(|at| ask(at))).await;
    answers.into_iter().collect()
}

async fn assemble<N: Nodes>(nodes: &N, at: &Places) -> Result<Vec<AssembledDisk>> {
    let results = nodes.node(&at.node)?.assemble_all(&at.targets(), at.role).await?;
    let mut all = Vec::new();
    for (disk, assembled) in at.disks.iter().zip(results) {
        all.push(AssembledDisk {
            node: at.node.clone(),
            index: disk.index().unwrap_or_default(),
            assembled: assembled?,
        });
    }
    Ok(all)
}

/// Takes out of use what was put into use for a transfer.
async fn release<N: Nodes>(nodes: &N, transfer: &Transfer) -> Result<()> {
    for at in transfer.uses.iter().rev() {
        for disk in &at.disks {
            nodes.node(&at.node)?.shutdown(disk, &at.instance).await?;
        }
    }
    Ok(())
}

async fn shutdown<N: Nodes>(nodes: &N, at: &Place) -> Result<()> {
    at.on(nodes)?.shutdown(&at.disk, &at.instance).await?;
    Ok(())
}

/// The primary node is the last, and the first to be asked.
async fn shutdown_all<N: Nodes>(nodes: &N, halves: &[Places]) -> Result<()> {
    for half in halves.iter().rev() {
        for disk in &half.disks {
            nodes.node(&half.node)?.shutdown(disk, &half.instance).await?;
        }
    }
    Ok(())
}

/// What there is of a step that was begun.
pub(super) enum Trace {
    Nothing,
    All,
    /// Neither; what there is instead.
    Part(String),
    Unknown,
}

/// Looks at what the step would have changed.
pub(super) async fn look<N: Nodes>(nodes: &N, step: &Step) -> Trace {
    let mut step = step;
    while let Step::Try { attempt, .. } = step {
        step = attempt;
    }
    match step {
        Step::CreateDisk { at, .. } => match size_of(nodes, at).await {
            Ok(None) => Trace::Nothing,
            Ok(Some(_)) => Trace::All,
            Err(_) => Trace::Unknown,
        },
        Step::SnapshotDisk { at, snapshot } => {
            let taken = Place {
                disk: snapshot.clone(),
                ..at.clone()
            };
            match size_of(nodes, &taken).await {
                Ok(None) => Trace::Nothing,
                Ok(Some(_)) => Trace::All,
                Err(_) => Trace::Unknown,
            }
        }
        Step::RemoveDisk { at, .. } => match size_of(nodes, at).await {
            Ok(None) => Trace::All,
            Ok(Some(_)) => Trace::Part(format!("{at} is still there, but its data may be damaged")),
            Err(_) => Trace::Unknown,
        },
        Step::GrowDisk {
            at,
            to,
            layer,
            idle,
            halves,
            ..
        } => {
            let (grown, to) = grown_device(at, *to, *layer);
            let size_in_use = size_of(nodes, &grown).await;
            let left =
                (*idle && shutdown(nodes, at).await.is_err()) || shutdown_all(nodes, halves).await.is_err();
            let size = match halves.is_empty() {
                true => size_of(nodes, &grown).await,
                false => size_in_use,
            };
            match size {
                _ if left => Trace::Part(format!("{at} may be attached")),
                Ok(Some(Some(size))) if size >= to => Trace::All,
                Ok(Some(Some(size))) if size <= grown.disk.size => Trace::Nothing,
                Ok(Some(Some(size))) => Trace::Part(format!("{grown} has {size}")),
                _ => Trace::Unknown,
            }
        }
        // Its changes are made in the transaction that records it as done.
        Step::Commit { .. } => Trace::Nothing,
        Step::RemoveLink {
            node,
            instance,
            index,
        } => {
            let Ok(node) = nodes.node(node) else {
                return Trace::Unknown;
            };
            let is_it = |link: &Link| link.instance == *instance && link.index == *index;
            match node.links().await {
                Err(_) => Trace::Unknown,
                Ok(links) if links.iter().any(is_it) => Trace::Nothing,
                Ok(_) => Trace::All,
            }
        }
        Step::CopyDisk { to: at, transfer, .. }
        | Step::WipeDisk { at, transfer }
        | Step::ImageDisk { at, transfer, .. } => {
            let left = release(nodes, transfer).await.is_err();
            let left = if left { ", and it may be attached" } else { "" };
            Trace::Part(format!("a part of what was on {at} may be overwritten{left}"))
        }
        _ => Trace::Unknown,
    }
}

/// What really grows when a layer of a disk does, and the size that it gets.
fn grown_device(at: &Place, to: Mebibytes, layer: Layer) -> (Place, Mebibytes) {
    match (at.disk.children.first(), layer) {
        (Some(data), Layer::BackingStore) => {
            let to = Mebibytes(data.size.0 + to.0.saturating_sub(at.disk.size.0));
            let disk = Box::new(data.clone());
            (Place { disk, ..at.clone() }, to)
        }
        _ => (at.clone(), to),
    }
}

/// Size of a disk, where that can be told; none if there is no such disk.
async fn size_of<N: Nodes>(nodes: &N, at: &Place) -> Result<Option<Option<Mebibytes>>> {
    let found = at.on(nodes)?.find(&at.disk, &at.instance).await?;
    Ok(found.map(|status| status.device.bytes.map(Mebibytes::from_bytes)))
}
