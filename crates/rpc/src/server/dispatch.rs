//! What each procedure does.

use std::collections::BTreeMap;

use gnt_bdev::tree::{self, Activation};
use gnt_bdev::{Change, Error, ErrorKind, Host, Target, Told, UnitField, storage, transfer};
use gnt_cmdlib::LocalNode;
use gnt_cmdlib::node::{Node, NodeError, NodeResult};
use gnt_config::{Disk, LogicalId, Mebibytes, template};
use gnt_extstorage::diagnose;

use crate::wire::{Call, Dialect, DiskOf, LogicalVolume, MAX_DATA, Provider, Reply};

/// What Ganeti appends to a volume's name for its snapshot.
const SNAPSHOT: &str = ".snap";

/// Does what `call` asks for. Those that concern the server itself are not for here.
pub(super) async fn dispatch(node: &LocalNode, call: Call, dialect: Dialect) -> NodeResult<Reply> {
    Ok(match call {
        Call::BdevSizes { paths } => Reply::Sizes(match dialect {
            Dialect::Ours => sizes(node, paths).await?,
            Dialect::Ganeti => known_sizes(node, paths).await,
        }),
        Call::LvList { groups } => logical_volumes(node, groups).await?,
        Call::VgList => Reply::Sizes(node.call(gnt_bdev::volume_groups).await?),
        Call::NodeVolumes => Reply::NodeVolumes(node.call(gnt_bdev::listed_volumes).await?),
        Call::StorageList {
            storage,
            name,
            fields,
        } => {
            let measured = fields.contains(&UnitField::Used);
            let list = move |host: &Host| {
                storage::storage_units(
                    host,
                    storage.kind,
                    &storage.directories,
                    name.as_deref(),
                    measured,
                )
            };
            Reply::Units(node.call(list).await?, fields)
        }
        Call::StorageModify {
            allocatable: None, ..
        } => Reply::Nothing,
        Call::StorageModify {
            name,
            allocatable: Some(allocatable),
            ..
        } => {
            let set = move |host: &Host| storage::set_allocatable(host, &name, allocatable);
            Reply::Change(node.call(set).await?)
        }
        Call::StorageExecute { name, .. } => Reply::Change(
            node.call(move |host| storage::remove_missing(host, &name))
                .await?,
        ),
        Call::ExtstorageDiagnose => providers(node).await?,
        Call::DrbdHelper => Reply::Text(node.drbd_helper().await?),
        Call::FileStorageDirCreate { path } => Reply::Change(node.create_storage_dir(&path).await?),
        Call::FileStorageDirRemove { path } => Reply::Change(node.remove_storage_dir(&path).await?),
        Call::FileStorageDirRename { from, to } => Reply::Change(node.rename_storage_dir(&from, &to).await?),
        Call::BlockdevCreate {
            disk,
            on_primary,
            info,
            ..
        } => {
            let change = node.create(&disk.disk, &disk.instance, &info).await?;
            if dialect == Dialect::Ganeti {
                use_new(node, &disk.disk, on_primary).await?;
            }
            Reply::Created(change, disk.disk.logical_id)
        }
        Call::BlockdevAssemble {
            mut disk,
            role,
            index,
            ..
        } => {
            if dialect == Dialect::Ganeti {
                disk.disk.iv_name = Some(format!("disk/{index}"));
            }
            Reply::Assembled(node.assemble(&disk.disk, &disk.instance, role).await?)
        }
        Call::BlockdevOpen { disks, exclusive } => done(node.open(&targets(&disks), exclusive).await?),
        Call::BlockdevClose { disks } => done(node.close(&targets(&disks)).await?),
        Call::BlockdevShutdown { disk } => Reply::Change(node.shutdown(&disk.disk, &disk.instance).await?),
        Call::BlockdevRemove { disk } => Reply::Change(node.remove(&disk.disk, &disk.instance).await?),
        Call::BlockdevRename { disks } => Reply::Change(rename_all(node, disks).await?),
        Call::BlockdevSetinfo { disk, info } => done(node.set_info(&disk.disk, &disk.instance, &info).await?),
        Call::BlockdevGrow {
            disk,
            amount,
            dry_run,
            layer,
            ..
        } => {
            let to = Mebibytes(disk.disk.size.0.saturating_add_signed(amount));
            let grown = node.grow(&disk.disk, &disk.instance, to, layer, dry_run);
            Reply::Change(grown.await?)
        }
        Call::BlockdevWipe { disk, offset, length } => {
            done(node.wipe(&disk.disk, &disk.instance, offset, length).await?)
        }
        Call::BlockdevConvert { from, to } => {
            let convert = move |host: &Host| transfer::convert(host, &from.target(), &to.target());
            done(node.call(convert).await?)
        }
        Call::BlockdevImage { disk, image, size } => {
            let write =
                move |host: &Host| transfer::write_image(host, image.as_ref(), &disk.target(), size.bytes());
            done(node.call(write).await?)
        }
        Call::BlockdevSnapshot { disk, name, size } => snapshot(node, &disk, name, size).await?,
        Call::BlockdevFind { disk } => Reply::Found(node.find(&disk.disk, &disk.instance).await?),
        Call::BlockdevGetdimensions { disks } => {
            let of = move |host: &gnt_bdev::Host| {
                let size = |disk: &DiskOf| Some((tree::actual_size(host, &disk.target()).ok()?, None));
                Ok(disks.iter().map(size).collect())
            };
            Reply::Dimensions(node.call(of).await?)
        }
        Call::BlockdevGetmirrorstatus { disks } => {
            let mut all = Vec::new();
            for (disk, status) in disks.iter().zip(mirrors(node, disks.clone()).await?) {
                // Ganeti's master takes one that does not run for missing.
                let is_there =
                    |status: &gnt_bdev::Status| dialect == Dialect::Ours || status.device.path.is_some();
                let status = status?.filter(is_there);
                all.push(status.ok_or_else(|| missing(&disk.disk))?);
            }
            Reply::Mirrors(all)
        }
        Call::BlockdevGetmirrorstatusMulti { disks } => {
            let all = mirrors(node, disks).await?.into_iter();
            Reply::FoundAll(all.map(|one| one.map_err(|error| Told::from(&error))).collect())
        }
        Call::BlockdevAddchildren { disk, .. } => {
            Reply::Change(node.add_children(&disk.disk, &disk.instance).await?)
        }
        Call::BlockdevRemovechildren { disk, .. } => {
            Reply::Change(node.remove_children(&disk.disk, &disk.instance).await?)
        }
        Call::BlockdevPauseResumeSync { disks, pause } => {
            let mut all = Vec::new();
            for disk in &disks {
                let paused = node.pause_resume_sync(&[disk.target()], pause).await;
                all.push(paused.map_err(|error| told(&error)));
            }
            Reply::Done(all)
        }
        Call::DrbdAttachNet { disks, multimaster } => {
            Reply::Change(node.attach_net(&targets(&disks), multimaster).await?)
        }
        Call::DrbdDisconnectNet { disks } => Reply::Change(node.disconnect_net(&targets(&disks)).await?),
        Call::DrbdWaitSync { disks } => Reply::Progress(node.wait_sync(&targets(&disks)).await?),
        Call::DrbdNeedsActivation { disks } => Reply::Uuids(node.needs_activation(&targets(&disks)).await?),
        Call::GntCheck { disk, operation } => done(node.check(&disk.disk, &disk.instance, operation).await?),
        Call::GntAssembleAll { disks, role } => {
            let all = node.assemble_all(&targets(&disks), role).await?.into_iter();
            Reply::AssembledAll(all.map(|one| one.map_err(|error| told(&error))).collect())
        }
        Call::GntFindAll { disks } => {
            let all = node.find_all(&targets(&disks)).await?.into_iter();
            Reply::FoundAll(all.map(|one| one.map_err(|error| told(&error))).collect())
        }
        Call::GntTakeOver { disks, from } => done(node.take_over(&targets(&disks), &from).await?),
        Call::GntRead { disk, offset, length } => {
            let length = length.min(MAX_DATA as u64);
            Reply::Pieces(node.read(&disk.disk, &disk.instance, offset, length).await?)
        }
        Call::GntImageSize { path } => Reply::Bytes(node.image_size(&path).await?),
        Call::GntReadImage { path, offset, length } => {
            let length = length.min(MAX_DATA as u64);
            Reply::Pieces(node.read_image(&path, offset, length).await?)
        }
        Call::GntWrite { disk, pieces } => done(node.write(&disk.disk, &disk.instance, &pieces).await?),
        Call::GntCopy {
            from,
            to,
            offset,
            length,
        } => done(node.copy(&from.target(), &to.target(), offset, length).await?),
        Call::GntChecksum { disk, offset, length } => {
            Reply::Checksum(node.checksum(&disk.disk, &disk.instance, offset, length).await?)
        }
        Call::GntVolumes { device, params } => Reply::Volumes(node.volumes(device, &params).await?),
        Call::GntSpace { device, params } => Reply::Space(node.space(device, &params).await?),
        Call::GntAttached { device, params } => Reply::Ids(device, node.attached(device, &params).await?),
        Call::GntDrbdMinors => Reply::Minors(node.drbd_minors().await?),
        Call::GntLinks => Reply::Links(node.links().await?),
        Call::GntMoveLink { instance, from, to } => Reply::Change(node.move_link(&instance, from, to).await?),
        Call::GntRemoveLink { instance, index } => Reply::Change(node.remove_link(&instance, index).await?),
        Call::Version | Call::GntEndOperation { .. } | Call::GntConfigure { .. } => Reply::Nothing,
    })
}

/// What is told of an error.
pub(super) fn told(error: &NodeError) -> Told {
    match error {
        NodeError::Storage(error) => error.into(),
        other => Told::new(other, other.kind(), other.hint()),
    }
}

fn done((): ()) -> Reply {
    Reply::Nothing
}

fn targets(disks: &[DiskOf]) -> Vec<Target<'_>> {
    disks.iter().map(DiskOf::target).collect()
}

async fn sizes(node: &LocalNode, paths: Vec<String>) -> NodeResult<BTreeMap<String, Mebibytes>> {
    let mut sizes = BTreeMap::new();
    for path in paths {
        let size = node.device_size(&path).await?;
        sizes.insert(path, size);
    }
    Ok(sizes)
}

/// What is no block device is left out.
async fn known_sizes(node: &LocalNode, paths: Vec<String>) -> BTreeMap<String, Mebibytes> {
    let mut sizes = BTreeMap::new();
    for path in paths {
        if let Ok(size) = node.device_size(&path).await {
            sizes.insert(path, size);
        }
    }
    sizes
}

async fn logical_volumes(node: &LocalNode, groups: Vec<String>) -> NodeResult<Reply> {
    let all = node.call(gnt_bdev::listed_volumes).await?.into_iter();
    let wanted = all.filter(|volume| groups.is_empty() || groups.contains(&volume.vg));
    let row = |volume: gnt_bdev::ListedVolume| LogicalVolume {
        name: format!("{}/{}", volume.vg, volume.lv),
        bytes: volume.bytes,
        active: volume.active,
        open: volume.open,
    };
    Ok(Reply::LogicalVolumes(wanted.map(row).collect()))
}

async fn providers(node: &LocalNode) -> NodeResult<Reply> {
    let rows = |host: &gnt_bdev::Host| {
        let all = diagnose(host.ext.search_path()).into_iter();
        let row = |found: gnt_extstorage::Diagnosis| Provider {
            usable: found.is_usable(),
            diagnose: found
                .problems
                .iter()
                .map(ToString::to_string)
                .collect::<Vec<_>>()
                .join("; "),
            name: found.name,
            path: found.dir.display().to_string(),
            parameters: found
                .parameters
                .into_iter()
                .map(|one| (one.name, one.description))
                .collect(),
        };
        Ok(all.map(row).collect())
    };
    Ok(Reply::Providers(node.call(rows).await?))
}

/// Ganeti expects a new disk to be in use: on its primary node, and where it is mirrored. It makes the primary half first, and waits for the
/// synchronisation before it assembles anything, so that half is declared good here, while nothing was ever written to it.
async fn use_new(node: &LocalNode, disk: &Disk, on_primary: bool) -> NodeResult<()> {
    let on_secondary = template::ON_SECONDARY.contains(disk.dev_type.template());
    if on_primary || on_secondary {
        let disk = disk.clone();
        let activation = Activation {
            primary: on_primary,
            new: true,
            ..Activation::secondary()
        };
        // Nothing links to it yet: no instance is told.
        node.call(move |host| tree::assemble(host, &Target::new(&disk, ""), activation))
            .await?;
    }
    Ok(())
}

/// All are tried, whatever fails.
async fn rename_all(node: &LocalNode, disks: Vec<(DiskOf, LogicalId)>) -> NodeResult<Change> {
    let rename = move |host: &gnt_bdev::Host| {
        let mut change = Change::AlreadyThere;
        let mut errors = Vec::new();
        for (disk, to) in &disks {
            match tree::rename(host, &disk.target(), to) {
                Ok(one) => change = change.or(one),
                Err(error) => errors.push(error),
            }
        }
        Error::all(errors).map(|()| change)
    };
    node.call(rename).await
}

async fn snapshot(
    node: &LocalNode,
    disk: &DiskOf,
    name: Option<String>,
    size: Option<Mebibytes>,
) -> NodeResult<Reply> {
    let copied = disk.disk.data_device();
    let name = name.unwrap_or_else(|| format!("{}{SNAPSHOT}", copied.logical_id.volume()));
    let size = size.unwrap_or(disk.disk.size);
    let id = node.snapshot(&disk.disk, &disk.instance, &name, size).await?;
    let device = if id.fits(disk.disk.dev_type) {
        disk.disk.dev_type
    } else {
        copied.dev_type
    };
    Ok(Reply::Snapshot(device, id))
}

async fn mirrors(
    node: &LocalNode,
    disks: Vec<DiskOf>,
) -> NodeResult<Vec<Result<Option<gnt_bdev::Status>, Error>>> {
    node.call(move |host| Ok(tree::mirror_status_all(host, &targets(&disks))))
        .await
}

fn missing(disk: &Disk) -> NodeError {
    let message = format!("{disk} is not there");
    NodeError::Storage(Error::Told(Told {
        message,
        kind: ErrorKind::NotFound,
        hint: None,
        snapshots: None,
        cause: None,
    }))
}
