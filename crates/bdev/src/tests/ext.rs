//! Providers as others write them. The one that we ship is in the life-cycle table.

use std::fs;
use std::path::{Path, PathBuf};

use gnt_config::{Disk, LogicalDevice, LogicalId, Mebibytes, Object};
use serde_json::json;

use super::{World, has_pattern, target, told, write_pattern};
use crate::tree::{self, Activation, Layer};
use crate::{Change, Error, ErrorKind, Operation};

const SIZE: Mebibytes = Mebibytes(4);

/// Has what Ganeti asks for and no more: nothing but attaching tells whether there is a volume.
const BARE: &str = r#"
    file=$PWD/$VOL_NAME
    device=$([ ! -e "$file" ] || losetup --noheadings --output NAME --associated "$file")
    case $action in
        create) truncate -s "${VOL_SIZE}M" "$file" ;;
        attach)
            [ -e "$file" ] || { echo "no such volume" >&2; exit 1; }
            echo "${device:-$(losetup --find --show "$file")}" ;;
        detach) [ -z "$device" ] || losetup --detach $device ;;
        grow)
            truncate -s "${VOL_NEW_SIZE}M" "$file"
            [ -z "$device" ] || losetup --set-capacity $device ;;
        remove) rm "$file" ;;
    esac"#;

fn disk(provider: &str, params: serde_json::Value) -> Disk {
    let id = LogicalId::Ext {
        provider: provider.to_owned(),
        volume: "volume".to_owned(),
    };
    Disk {
        uuid: "disk-uuid".to_owned(),
        iv_name: Some("disk/0".to_owned()),
        params: params.as_object().unwrap().clone(),
        ..Disk::new(LogicalDevice::Ext, id, SIZE)
    }
}

fn plain_disk(provider: &str) -> Disk {
    disk(provider, json!({"access": "kernelspace"}))
}

#[test]
fn what_a_provider_cannot_do_is_told_without_asking_it() {
    let world = World::new();
    world.provider("bare", &[], "exit 1");
    world.provider("full", &["snapshot"], "exit 1");
    let check = |provider: &str, operation| {
        let disk = plain_disk(provider);
        tree::check(&world.host, &target(&disk), operation).map_err(|error| told(&error))
    };
    assert_eq!(check("bare", Operation::Create), Ok(()));
    assert_eq!(check("full", Operation::Snapshot), Ok(()));
    let error = check("bare", Operation::Snapshot).unwrap_err();
    assert!(
        error.ends_with("the provider bare cannot snapshot: it has no script for that"),
        "{error}"
    );
    let error = check("lost", Operation::Create).unwrap_err();
    assert!(error.contains("cannot create disk/0 (lost/"), "{error}");
    assert!(error.contains("there is no provider lost"), "{error}");
}

#[test]
fn a_provider_of_ganetis_lives_its_whole_life() {
    let world = World::new();
    world.provider("bare", &[], BARE);
    let mut disk = plain_disk("bare");
    let host = &world.host;
    assert_eq!(tree::create(host, &target(&disk), "text").unwrap(), Change::Made);
    assert_eq!(world.calls("bare"), ["create", "attach", "detach", "setinfo"]);
    assert_eq!(world.loop_devices(), [""; 0]);

    let assembled = tree::assemble(host, &target(&disk), Activation::primary("kvm")).unwrap();
    assert_eq!(world.calls("bare"), ["attach"]);
    let link = assembled.link.unwrap();
    write_pattern(&link, SIZE);
    let found = tree::find(host, &target(&disk)).unwrap().unwrap();
    assert_eq!(Some(found.device), assembled.device);
    let _ = world.calls("bare");

    let grow = |disk: &Disk, to| tree::grow(host, &target(disk), to, false, Layer::BackingStore).unwrap();
    assert_eq!(grow(&disk, Mebibytes(6)), Change::Made);
    assert_eq!(world.calls("bare"), ["attach", "grow", "attach"]);
    // The provider must not be asked twice: it might grow by the difference.
    assert_eq!(grow(&disk, Mebibytes(6)), Change::AlreadyThere);
    assert_eq!(world.calls("bare"), ["attach"]);
    disk.size = Mebibytes(6);
    assert_eq!(tree::actual_size(host, &target(&disk)).unwrap(), 6 << 20);
    assert!(has_pattern(&link, SIZE));
    let _ = world.calls("bare");

    assert_eq!(tree::shutdown(host, &target(&disk)).unwrap(), Change::Made);
    assert_eq!(world.calls("bare"), ["attach", "detach"]);
    assert_eq!(world.loop_devices(), [""; 0]);
    assert_eq!(tree::remove(host, &target(&disk)).unwrap(), Change::Made);
    assert_eq!(world.calls("bare"), ["attach", "detach", "remove"]);
    assert_eq!(world.loop_devices(), [""; 0]);
    let error = tree::snapshot(host, &target(&disk), "copy", SIZE).unwrap_err();
    assert!(told(&error).ends_with("the provider bare cannot snapshot: it has no script for that"));
}

#[test]
fn growing_a_disk_that_is_not_in_use_leaves_no_device() {
    let world = World::new();
    let disk = world.disk(LogicalDevice::Ext, 0, SIZE);
    tree::create(&world.host, &target(&disk), "").unwrap();
    let grown = tree::grow(
        &world.host,
        &target(&disk),
        Mebibytes(6),
        false,
        Layer::BackingStore,
    );
    assert_eq!(grown.unwrap(), Change::Made);
    assert_eq!(world.loop_devices(), [""; 0]);
    assert_eq!(tree::actual_size(&world.host, &target(&disk)).unwrap(), 6 << 20);
}

#[test]
fn a_volume_that_cannot_be_attached_is_removed_nevertheless() {
    let world = World::new();
    let failing = r#"case $action in attach | detach) echo "no path to storage" >&2; exit 1 ;; esac"#;
    world.provider("lost", &[], failing);
    let disk = plain_disk("lost");
    world
        .host
        .links
        .set(super::INSTANCE, 0, Path::new("/dev/loop0"))
        .unwrap();
    assert_eq!(tree::remove(&world.host, &target(&disk)).unwrap(), Change::Made);
    assert_eq!(world.calls("lost"), ["attach", "detach", "remove"]);
    assert_eq!(world.host.links.list().unwrap(), []);

    world.provider("lost", &[], "echo $action says no >&2; exit 1");
    let error = tree::remove(&world.host, &target(&disk)).unwrap_err();
    let told = told(&error);
    assert!(matches!(error, Error::Several(_)), "{told}");
    for text in [
        "cannot find disk/0 (lost/volume) on node node1: attach",
        "attach says no",
        "cannot remove disk/0 (lost/volume) on node node1: remove",
        "remove says no",
    ] {
        assert!(told.contains(text), "{text} in {told}");
    }
}

#[test]
fn a_device_that_a_removed_volume_left_is_told_of() {
    let world = World::new();
    let device = world.loop_device("backing", SIZE);
    let script = format!(
        r#"case $action in
            info) [ -e gone ] || echo '{{"name": "volume", "size": 4, "device": "{}"}}' ;;
            detach) echo "cannot detach" >&2; exit 1 ;;
            remove) : >gone ;;
        esac"#,
        device.display()
    );
    world.provider("sticky", &["info"], &script);
    let disk = plain_disk("sticky");
    let error = tree::remove(&world.host, &target(&disk)).unwrap_err();
    assert!(told(&error).starts_with("cannot shut down disk/0 (sticky/volume) on node node1: detach"));
    // It is gone, so there is nothing more to do.
    assert_eq!(
        tree::remove(&world.host, &target(&disk)).unwrap(),
        Change::AlreadyThere
    );
}

#[test]
fn a_disk_can_be_reached_by_uris_only() {
    let world = World::new();
    let script = r#"case $action in attach) printf '\nkvm:cloud://pool/v\nxen-pvm:other\n' ;; esac"#;
    world.provider("cloud", &[], script);
    let userspace = disk("cloud", json!({"access": "userspace"}));
    let assembled = tree::assemble(&world.host, &target(&userspace), Activation::primary("kvm")).unwrap();
    assert_eq!(assembled.uri.as_deref(), Some("cloud://pool/v"));
    assert_eq!((assembled.link, assembled.device.unwrap().path), (None, None));
    assert_eq!(world.calls("cloud"), ["attach"]);

    let error = tree::assemble(&world.host, &target(&userspace), Activation::primary("lxc")).unwrap_err();
    assert!(told(&error).ends_with(
        "cannot give a hypervisor direct access to disk/0 (cloud/volume) on node node1: the provider cloud has no URI for the \
         hypervisor lxc, only for kvm, xen-pvm"
    ));
    let error = tree::assemble(
        &world.host,
        &target(&plain_disk("cloud")),
        Activation::primary("kvm"),
    );
    let error = error.unwrap_err();
    assert!(told(&error).ends_with("the provider cloud gives it no block device on this node"));
    assert!(error.hint().unwrap().contains("userspace"));
}

#[test]
fn a_device_with_minor_0_is_a_device() {
    // Any will do, as it is only looked at, but loop devices come and go.
    let devices = fs::read_dir("/sys/dev/block")
        .unwrap()
        .map(|entry| entry.unwrap().path());
    let uevents = devices
        .filter(|path| path.to_str().unwrap().ends_with(":0"))
        .map(|path| fs::read_to_string(path.join("uevent")).unwrap());
    let names = uevents.map(|text| {
        text.lines()
            .find_map(|line| line.strip_prefix("DEVNAME="))
            .unwrap()
            .to_owned()
    });
    let name = names.into_iter().find(|name| !name.starts_with("loop"));
    let device = PathBuf::from("/dev").join(name.expect("a block device with minor 0"));
    let world = World::new();
    let script = format!(
        r#"case $action in
            attach) [ -e detached ] && printf '\nkvm:gone\n' || echo {0} ;;
            info) [ ! -e detached ] || device=null; echo '{{"name": "volume", "device": '${{device-'"{0}"'}}'}}' ;;
            detach) : >detached ;;
        esac"#,
        device.display()
    );
    world.provider("first", &["info"], &script);
    let disk = plain_disk("first");
    let assembled = tree::assemble(&world.host, &target(&disk), Activation::primary("kvm")).unwrap();
    assert_eq!(assembled.device.unwrap().minor, Some(0));
    let found = tree::find(&world.host, &target(&disk)).unwrap().unwrap();
    assert_eq!((found.device.minor, found.device.path), (Some(0), Some(device)));
    assert_eq!(world.calls("first"), ["attach", "info"]);
    assert_eq!(tree::shutdown(&world.host, &target(&disk)).unwrap(), Change::Made);
    // In Ganeti it would have been attached first, as if it were not.
    assert!(
        world
            .calls("first")
            .starts_with(&["info".to_owned(), "detach".to_owned()])
    );
}

/// Has `info`, and makes volumes of half the size.
const HALF: &str = r#"
    case $action in
        info) [ ! -e "$VOL_NAME" ] || echo "{\"name\": \"$VOL_NAME\", \"size\": $(($(stat -c %s "$VOL_NAME") >> 20))}" ;;
        create) truncate -s "$((VOL_SIZE / 2))M" "$VOL_NAME" ;;
        attach) losetup --find --show "$PWD/$VOL_NAME" ;;
        detach) losetup --detach $(losetup --noheadings --output NAME --associated "$PWD/$VOL_NAME") ;;
        remove) [ ! -e stuck ] && rm "$VOL_NAME" ;;
    esac"#;

#[test]
fn a_new_volume_that_is_too_small_is_removed_again() {
    let world = World::new();
    world.provider("half", &["info"], HALF);
    let disk = plain_disk("half");
    let error = tree::create(&world.host, &target(&disk), "").unwrap_err();
    assert!(
        told(&error).contains("fewer than the 4 MiB asked for"),
        "{}",
        told(&error)
    );
    assert_eq!(tree::find(&world.host, &target(&disk)).unwrap(), None);
    assert_eq!(world.loop_devices(), [""; 0]);

    let stuck = world.path("state/providers/half/stuck");
    fs::write(&stuck, "").unwrap();
    let error = tree::create(&world.host, &target(&disk), "").unwrap_err();
    assert!(
        told(&error).contains("fewer than the 4 MiB asked for"),
        "{}",
        told(&error)
    );
    assert!(
        told(&error).contains("and what was made could not be removed: remove"),
        "{}",
        told(&error)
    );
}

#[test]
fn a_volume_that_is_not_there_is_removed_nevertheless() {
    let world = World::new();
    let script = "[ $action != remove ] || { rm half-made && exit $(cat status); }";
    for (provider, status) in [("right", "0"), ("strict", "1")] {
        world.provider(provider, &["info"], script);
        let place = world.path("state/providers").join(provider);
        fs::write(place.join("half-made"), "").unwrap();
        fs::write(place.join("status"), status).unwrap();
        let disk = plain_disk(provider);
        assert_eq!(
            tree::remove(&world.host, &target(&disk)).unwrap(),
            Change::AlreadyThere
        );
        assert!(!place.join("half-made").exists(), "{provider}");
    }
}

#[test]
fn a_volume_that_is_not_the_one_asked_for_is_left_alone() {
    let world = World::new();
    for (described, told_of) in [
        (r#""size": 3"#, "has a volume volume already, with 3M and no uuid"),
        (
            r#""size": 4, "uuid": "other""#,
            "already, with 4M and the uuid other",
        ),
    ] {
        let script = format!(r#"[ $action != info ] || echo '{{"name": "volume", {described}}}'"#);
        world.provider("taken", &["info"], &script);
        let disk = plain_disk("taken");
        let error = tree::create(&world.host, &target(&disk), "").unwrap_err();
        assert_eq!(error.kind(), ErrorKind::AlreadyExists);
        assert!(told(&error).ends_with(told_of), "{}", told(&error));
        assert_eq!(world.calls("taken"), ["info"]);
    }
    // Providers may round up.
    let script = r#"[ $action != info ] || echo '{"name": "volume", "size": 5, "uuid": "disk-uuid"}'"#;
    world.provider("taken", &["info"], script);
    let created = tree::create(&world.host, &target(&plain_disk("taken")), "");
    assert_eq!(created.unwrap(), Change::AlreadyThere);
}

#[test]
fn a_snapshot_that_is_not_there_was_not_made() {
    let world = World::new();
    let script = r#"[ $action$VOL_NAME != infovolume ] || echo '{"name": "volume", "size": 4}'"#;
    world.provider("liar", &["info", "snapshot"], script);
    let error = tree::snapshot(&world.host, &target(&plain_disk("liar")), "copy", SIZE).unwrap_err();
    assert_eq!(error.kind(), ErrorKind::NotFound);
    assert!(
        told(&error).ends_with("the provider liar has no volume copy"),
        "{}",
        told(&error)
    );
}

#[test]
fn volumes_of_all_providers_that_can_tell_are_listed_and_a_failure_of_one_asked_for_is_not_hidden() {
    let world = World::new();
    let list = r#"[ $action != list ] || printf '{"name": "a", "size": 1}\n{"name": "b"}\n'"#;
    world.provider("one", &["list"], list);
    world.provider("bare", &[], BARE);
    world.provider("unusable", &["list"], "exit 1");
    fs::remove_file(world.path("state/providers/unusable/verify")).unwrap();
    let names = |params: serde_json::Value| {
        let params: Object = params.as_object().unwrap().clone();
        let found = tree::volumes(&world.host, LogicalDevice::Ext, &params)?;
        Ok::<_, Error>(
            found
                .iter()
                .map(|volume| volume.logical_id.to_string())
                .collect::<Vec<_>>(),
        )
    };
    assert_eq!(names(json!({})).unwrap(), ["one/a", "one/b"]);
    assert_eq!(names(json!({"provider": "bare"})).unwrap(), [""; 0]);
    world.provider("two", &["list"], "exit 1");
    assert_eq!(names(json!({})).unwrap(), ["one/a", "one/b"]);
    let error = names(json!({"provider": "two"})).unwrap_err();
    assert!(told(&error).starts_with("cannot list the volumes of ext disks on node node1: list"));
    assert_eq!(names(json!({"provider": "one"})).unwrap(), ["one/a", "one/b"]);
}

#[test]
fn scripts_are_marked_with_the_operation() {
    let world = World::new();
    world.provider("marked", &[], r#"echo "${GNT_DISK_OPERATION-none}" >>calls"#);
    let disk = plain_disk("marked");
    tree::set_info(&world.host, &target(&disk), "text").unwrap();
    tree::set_info(&world.host.for_operation("op-7"), &target(&disk), "text").unwrap();
    assert_eq!(world.calls("marked"), ["setinfo", "none", "setinfo", "op-7"]);
}
