//! What mends a finding that one command of ours alone does not: the storage's own commands, as an administrator types them.

use std::path::Path;

use gnt_bdev::{LocalDiskStatus, Owner, Status};
use gnt_config::params::{GlusterParams, Parameters as _, RbdParams};
use gnt_config::template::{GROWABLE, MUST_ADOPT};
use gnt_config::{Disk, LogicalId, Object};
use gnt_process::Command;

/// Where a Gluster volume is mounted by hand.
const BY_HAND: &str = "/mnt";

/// What removes a volume that no disk is, on a node (name) that sees it. `params` are those that it was found with.
pub(super) fn removal(id: &LogicalId, params: &Object, node: &str) -> String {
    let command = match id {
        LogicalId::Lv { vg, lv } => Command::change("lvremove").arg(format!("{vg}/{lv}")),
        LogicalId::File { path, .. } => Command::change("rm").arg(path),
        LogicalId::Rbd { volume } => {
            let RbdParams { pool, user_id, .. } = RbdParams::from_object(params).unwrap_or_default();
            let user = user_id.iter().flat_map(|user| ["--id", user.as_str()]);
            let rbd = Command::change("rbd").args(user);
            rbd.arg("rm").arg(format!("{pool}/{volume}"))
        }
        LogicalId::Gluster { path, .. } => return gluster_removal(path, params, node),
        LogicalId::Ext { provider, volume } => {
            return format!("let the storage behind provider {provider} remove its volume {volume}");
        }
        LogicalId::BlockDev { path } => return format!("take the device {path} from the nodes"),
        LogicalId::Drbd8 { minors, .. } => {
            let resource = format!("resource{}", minors[0]);
            Command::change("drbdsetup").arg("down").arg(resource)
        }
    };
    format!("{command} on {node}")
}

fn gluster_removal(path: &str, params: &Object, node: &str) -> String {
    let GlusterParams {
        host, port, volume, ..
    } = GlusterParams::from_object(params).unwrap_or_default();
    let mount = Command::change("mount.glusterfs")
        .arg(format!("{host}:/{volume}"))
        .arg(BY_HAND)
        .arg("-o")
        .arg(format!("server-port={port}"));
    let rm = Command::change("rm").arg(Path::new(BY_HAND).join(path));
    let umount = Command::change("umount").arg(BY_HAND);
    format!("{mount} && {rm} && {umount} on {node}")
}

/// What is to be done about a volume that no disk is, and that says that it was `owner`'s.
pub(super) fn unwanted(owner: &Owner, removal: &str) -> String {
    let recover = match (&owner.instance, &owner.uuid) {
        (Some(name), Some(_)) if !owner.kept.detached => format!("gnt-disk recover {name}"),
        _ => "gnt-disk recover".to_owned(),
    };
    format!("{recover}, if it is wanted; {removal}, if nobody wants it")
}

/// What is to be done about a volume that says that it is `disk`, which is on other nodes (names); on none of its own, if all see it.
pub(super) fn misplaced(disk: &Disk, homes: &[String], removal: &str) -> String {
    let right = &disk.data_device().logical_id;
    let at = match homes {
        [] => String::new(),
        homes => format!(" on {}", homes.join(" and ")),
    };
    format!("{removal}, if nobody wants it, after making sure that {right}{at} is the right one")
}

/// What is to be done about a disk whose data is nowhere.
pub(super) fn anew(instance: &str, disk: &Disk) -> String {
    format!("{}, if it cannot be brought back", replacing(instance, disk))
}

fn replacing(instance: &str, disk: &Disk) -> String {
    let index = disk.index().unwrap_or_default();
    match MUST_ADOPT.contains(disk.dev_type.template()) {
        true => format!("gnt-disk modify {instance} --disk {index}:remove"),
        false => format!("gnt-disk recreate {instance} --disk {index}"),
    }
}

/// What is to be done about a disk that is there and not whole. Logical volumes miss a physical one; mirrors are connected again; what is
/// being synchronised is waited for.
pub(super) fn not_whole(instance: &str, disk: &Disk, status: &Status, node: &str) -> String {
    let is_lost = status.sync.ldisk_status == LocalDiskStatus::Faulty;
    match (&disk.logical_id, is_lost) {
        (LogicalId::Lv { vg, .. }, true) => {
            let reduce = Command::change("vgreduce").args(["--removemissing", "--force", vg]);
            let anew = replacing(instance, disk);
            format!(
                "{reduce} on {node}, which removes every volume that lacks a part, and then {anew}, if the physical \
                 volume cannot be brought back"
            )
        }
        (LogicalId::Lv { vg, lv }, false) => {
            let repair = Command::change("lvconvert").args(["--repair", &format!("{vg}/{lv}")]);
            format!("{repair} on {node}, if the physical volume cannot be brought back")
        }
        (LogicalId::Drbd8 { .. }, _) if status.sync.sync_percent.is_none() => {
            format!("gnt-disk activate {instance}")
        }
        _ => format!("gnt-disk activate {instance} --wait-for-sync, which waits until it is in sync"),
    }
}

/// What is to be done about a disk that is smaller than the configuration says.
pub(super) fn too_small(instance: &str, disk: &Disk) -> String {
    let index = disk.index().unwrap_or_default();
    match &disk.logical_id {
        LogicalId::BlockDev { path } => {
            let adopt = format!("{index}:add,adopt={}", path.replace(',', r"\,"));
            let add = Command::change("gnt-disk").args(["modify", instance, "--disk", &adopt]);
            format!(
                "make {path} that large where it comes from; or take it as large as it is: {}, and then {add}",
                replacing(instance, disk)
            )
        }
        _ => {
            debug_assert!(GROWABLE.contains(disk.dev_type.template()));
            format!("gnt-disk grow {instance} {index} {} --absolute", disk.size.0)
        }
    }
}

#[cfg(test)]
mod tests {
    use gnt_bdev::{BlockDevice, SyncStatus};
    use gnt_config::{FileDriver, Kept, LogicalDevice, Mebibytes};
    use serde_json::json;

    use super::*;

    fn lv(vg: &str, lv: &str) -> LogicalId {
        let (vg, lv) = (vg.to_owned(), lv.to_owned());
        LogicalId::Lv { vg, lv }
    }

    fn disk(device: LogicalDevice, id: LogicalId) -> Disk {
        let mut disk = Disk::new(device, id, Mebibytes(64));
        disk.iv_name = Some("disk/1".to_owned());
        disk
    }

    #[test]
    fn each_kind_of_volume_is_removed_by_its_storage() {
        let driver = FileDriver::Loop;
        let path = "/srv/my disks/it's".to_owned();
        let cases = [
            (
                lv("xenvg", "a.disk0"),
                json!({}),
                "lvremove xenvg/a.disk0 on node1",
            ),
            (
                LogicalId::File { driver, path },
                json!({}),
                r"rm '/srv/my disks/it'\''s' on node1",
            ),
            (
                LogicalId::Rbd {
                    volume: "image".to_owned(),
                },
                json!({}),
                "rbd rm rbd/image on node1",
            ),
            (
                LogicalId::Rbd {
                    volume: "image".to_owned(),
                },
                json!({"pool": "vms", "user-id": "ganeti"}),
                "rbd --id ganeti rm vms/image on node1",
            ),
            (
                LogicalId::Gluster {
                    driver,
                    path: "ganeti/a.0".to_owned(),
                },
                json!({"host": "server", "volume": "gv1"}),
                "mount.glusterfs server:/gv1 /mnt -o server-port=24007 && rm /mnt/ganeti/a.0 && umount /mnt on node1",
            ),
            (
                LogicalId::Ext {
                    provider: "san".to_owned(),
                    volume: "a.ext.disk0".to_owned(),
                },
                json!({}),
                "let the storage behind provider san remove its volume a.ext.disk0",
            ),
        ];
        for (id, params, expected) in cases {
            let params = params.as_object().unwrap();
            assert_eq!(removal(&id, params, "node1"), expected);
        }
    }

    #[test]
    fn what_is_wanted_is_recovered_and_what_is_not_is_removed() {
        let named = |uuid: bool, detached| Owner {
            instance: Some("web".to_owned()),
            uuid: uuid.then(|| "uuid".to_owned()),
            kept: Kept {
                detached,
                ..Kept::default()
            },
            ..Owner::default()
        };
        for (owner, recover) in [
            (named(true, false), "gnt-disk recover web"),
            (named(false, false), "gnt-disk recover"),
            (named(true, true), "gnt-disk recover"),
            (Owner::default(), "gnt-disk recover"),
        ] {
            assert_eq!(
                unwanted(&owner, "REMOVE"),
                format!("{recover}, if it is wanted; REMOVE, if nobody wants it")
            );
        }
    }

    #[test]
    fn what_is_elsewhere_is_named_before_anything_is_removed() {
        let disk = disk(LogicalDevice::Plain, lv("xenvg", "a.disk1"));
        let homes = ["node1".to_owned(), "node2".to_owned()];
        for (homes, at) in [
            (&homes[..0], ""),
            (&homes[..1], " on node1"),
            (&homes[..], " on node1 and node2"),
        ] {
            assert_eq!(
                misplaced(&disk, homes, "REMOVE"),
                format!(
                    "REMOVE, if nobody wants it, after making sure that {}{at} is the right one",
                    disk.logical_id
                )
            );
        }
    }

    #[test]
    fn what_is_not_whole_is_mended_by_what_knows_its_parts() {
        let status = |ldisk_status, sync_percent| Status {
            device: BlockDevice::default(),
            sync: SyncStatus {
                is_degraded: true,
                ldisk_status,
                sync_percent,
                estimated_time: None,
            },
        };
        let lost = status(LocalDiskStatus::Faulty, None);
        let plain = disk(LogicalDevice::Plain, lv("xenvg", "a.disk1"));
        assert_eq!(
            not_whole("web", &plain, &lost, "node1"),
            "vgreduce --removemissing --force xenvg on node1, which removes every volume that lacks a part, and then \
             gnt-disk recreate web --disk 1, if the physical volume cannot be brought back"
        );
        let has_copy = status(LocalDiskStatus::Okay, None);
        assert_eq!(
            not_whole("web", &plain, &has_copy, "node1"),
            "lvconvert --repair xenvg/a.disk1 on node1, if the physical volume cannot be brought back"
        );
        let id = LogicalId::Drbd8 {
            nodes: ["a".to_owned(), "b".to_owned()],
            port: None,
            minors: [0, 0],
            secret: gnt_config::Secret::new("secret"),
        };
        let mirror = disk(LogicalDevice::Drbd, id);
        assert_eq!(
            not_whole("web", &mirror, &has_copy, "node1"),
            "gnt-disk activate web"
        );
        let syncs = status(LocalDiskStatus::Sync, Some(5.0));
        assert_eq!(
            not_whole("web", &mirror, &syncs, "node1"),
            "gnt-disk activate web --wait-for-sync, which waits until it is in sync"
        );
    }

    #[test]
    fn what_is_too_small_grows_or_is_taken_as_it_is() {
        let plain = disk(LogicalDevice::Plain, lv("xenvg", "a.disk1"));
        assert_eq!(too_small("web", &plain), "gnt-disk grow web 1 64 --absolute");
        let path = "/dev/disk/by-id/a,b".to_owned();
        let device = disk(LogicalDevice::Blockdev, LogicalId::BlockDev { path });
        assert_eq!(
            too_small("web", &device),
            r"make /dev/disk/by-id/a,b that large where it comes from; or take it as large as it is: gnt-disk modify web --disk 1:remove, and then gnt-disk modify web --disk '1:add,adopt=/dev/disk/by-id/a\,b'"
        );
        assert_eq!(
            anew("web", &device),
            "gnt-disk modify web --disk 1:remove, if it cannot be brought back"
        );
    }
}
