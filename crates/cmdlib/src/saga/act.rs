//! What a step does, and what can be seen of it.

use futures_util::future::join_all;
use gnt_bdev::LocalDiskStatus;
use gnt_config::{LogicalId, Mebibytes};

use crate::error::{Error, Result};
use crate::node::Node;
use crate::saga::{AssembledDisk, Nodes};
use crate::step::{Place, Places, Step, Transfer};

/// Does what the step says. A change of the configuration is made when the step is recorded.
pub(super) async fn act<N: Nodes>(nodes: &N, step: &Step) -> Result<Vec<AssembledDisk>> {
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
        Step::ShutdownDisks { at, .. } => {
            for disk in &at.disks {
                nodes.node(&at.node)?.shutdown(disk, &at.instance).await?;
            }
        }
        Step::OpenDisks { at, exclusive, .. } => {
            nodes.node(&at.node)?.open(&at.targets(), *exclusive).await?;
        }
        Step::CloseDisks { at, .. } => nodes.node(&at.node)?.close(&at.targets()).await?,
        Step::DisconnectNet { at, .. } => {
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
        Step::AddChildren { at } => at
            .on(nodes)?
            .add_children(&at.disk, &at.instance)
            .await
            .map(drop)?,
        Step::RemoveChildren { at } => at
            .on(nodes)?
            .remove_children(&at.disk, &at.instance)
            .await
            .map(drop)?,
        Step::GrowDisk {
            at, to, layer, idle, ..
        } => {
            at.on(nodes)?
                .grow(&at.disk, &at.instance, *to, *layer, false)
                .await?;
            if *idle {
                shutdown(nodes, at).await?;
            }
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
        Step::CheckData { at } => check_data(nodes, at).await?,
        // What comes before has a course of its own.
        Step::CopyDisk { transfer, .. }
        | Step::WipeDisk { transfer, .. }
        | Step::ImageDisk { transfer, .. } => release(nodes, transfer).await?,
        Step::Configure { .. } => {}
    }
    Ok(Vec::new())
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

async fn check_data<N: Nodes>(nodes: &N, at: &Places) -> Result<()> {
    let node = nodes.node(&at.node)?;
    let found = node.find_all(&at.targets()).await?;
    for (disk, found) in at.disks.iter().zip(found) {
        let (disk, instance) = (disk.to_string(), at.instance.clone());
        match found? {
            None => return Err(Error::Gone { disk, instance }),
            Some(status) if status.sync.ldisk_status != LocalDiskStatus::Okay => {
                return Err(Error::OutOfDate {
                    disk,
                    instance,
                    node: node.name().to_owned(),
                    status: status.sync.ldisk_status,
                });
            }
            Some(_) => {}
        }
    }
    Ok(())
}

async fn shutdown<N: Nodes>(nodes: &N, at: &Place) -> Result<()> {
    at.on(nodes)?.shutdown(&at.disk, &at.instance).await?;
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
        Step::GrowDisk { at, to, idle, .. } => {
            let left = *idle && shutdown(nodes, at).await.is_err();
            match size_of(nodes, at).await {
                _ if left => Trace::Part(format!("{at} may be attached")),
                Ok(Some(Some(size))) if size >= *to => Trace::All,
                Ok(Some(Some(size))) if size <= at.disk.size => Trace::Nothing,
                Ok(Some(Some(size))) => Trace::Part(format!("{at} has {size}")),
                _ => Trace::Unknown,
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

/// Size of a disk, where that can be told; none if there is no such disk.
async fn size_of<N: Nodes>(nodes: &N, at: &Place) -> Result<Option<Option<Mebibytes>>> {
    let found = at.on(nodes)?.find(&at.disk, &at.instance).await?;
    Ok(found.map(|status| status.device.bytes.map(Mebibytes::from_bytes)))
}
