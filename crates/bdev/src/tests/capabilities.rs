//! What drivers say that they can, against the template sets and against what they do.

use enumset::EnumSet;
use gnt_config::{LogicalDevice, LogicalId, Mebibytes, Object, TemplateSet, template};
use strum::IntoEnumIterator;

use super::{World, target};
use crate::{Capabilities, DEV_MAP, Driver, Error, Host, Operation, Target, driver};

fn capable_of(operation: Operation) -> TemplateSet {
    let capable = DEV_MAP
        .iter()
        .filter(|driver| driver.capabilities().contains(operation));
    capable.map(|driver| driver.device().template()).collect()
}

fn driven() -> TemplateSet {
    DEV_MAP.iter().map(|driver| driver.device().template()).collect()
}

#[test]
fn template_sets_say_what_drivers_can() {
    let driven = driven();
    assert_eq!(capable_of(Operation::Grow), template::GROWABLE & driven);
    // A drbd disk is copied by copying the volume with its data.
    let copied_below = template::DRBD;
    assert_eq!(
        capable_of(Operation::Snapshot),
        (template::HAVE_SNAPSHOTS & driven) - copied_below
    );
    assert!(template::HAVE_SNAPSHOTS.is_superset(template::SNAPSHOT_CAPABLE));
    assert_eq!(
        capable_of(Operation::UserspaceUri),
        template::HAVE_ACCESS & driven
    );
    assert!(capable_of(Operation::Rename).is_superset(template::INSTANCE_DEPENDENT_PATH & driven));
    // Whoever makes volumes by himself knows how many fit; providers have no action that tells.
    let others = template::MUST_ADOPT | template::HAVE_PROVIDER;
    assert_eq!(capable_of(Operation::Space), driven - others);
    // All have what every disk goes through.
    use Operation::{ActualSize, Assemble, Close, Create, Find, Open, Remove, Shutdown};
    for operation in [Create, Find, Assemble, Open, Close, Shutdown, Remove, ActualSize] {
        assert_eq!(capable_of(operation), driven, "{operation}");
    }
}

#[test]
fn a_device_without_driver_is_an_error_that_names_it() {
    for device in LogicalDevice::iter() {
        match driver(device) {
            Ok(driver) => assert_eq!(driver.device(), device),
            Err(error) => {
                assert!(!driven().contains(device.template()));
                assert_eq!(
                    error.to_string(),
                    format!("there is no driver for {device} disks")
                );
            }
        }
    }
}

/// Whether a driver refuses an operation as one that it does not have.
fn refuses(driver: &dyn Driver, operation: Operation, host: &Host, target: &Target<'_>) -> bool {
    let id = LogicalId::Rbd {
        volume: "renamed".to_owned(),
    };
    let result = match operation {
        Operation::Create => driver.create(host, target).map(drop),
        Operation::Find => driver.find(host, target).map(drop),
        Operation::Assemble => driver.assemble(host, target).map(drop),
        Operation::Open => driver.open(host, target, true),
        Operation::Close => driver.close(host, target),
        Operation::Shutdown => driver.shutdown(host, target).map(drop),
        Operation::Grow => driver.grow(host, target, Mebibytes(9), false).map(drop),
        Operation::Remove => driver.remove(host, target).map(drop),
        Operation::Rename => driver.rename(host, target, &id).map(drop),
        Operation::SetInfo => driver.set_info(host, target, "text"),
        Operation::Snapshot => driver.snapshot(host, target, "copy", Mebibytes(8)).map(drop),
        Operation::AddChildren => driver.add_children(host, target).map(drop),
        Operation::RemoveChildren => driver.remove_children(host, target).map(drop),
        Operation::PauseSync => driver
            .pause_sync(host, target)
            .and_then(|()| driver.resume_sync(host, target)),
        Operation::DisconnectNet => driver.disconnect_net(host, target).map(drop),
        Operation::AttachNet => driver.attach_net(host, target, false).map(drop),
        Operation::ActualSize => driver.actual_size(host, target).map(drop),
        Operation::UserspaceUri => driver.userspace_uri(host, target, "kvm").map(drop),
        Operation::Volumes => driver.volumes(host, &Object::new()).map(drop),
        Operation::Space => driver.space(host, &Object::new()).map(drop),
    };
    match result {
        Err(Error::Unsupported {
            device,
            operation: said,
        }) => {
            assert_eq!((device, said), (driver.device(), operation));
            let error = Error::Unsupported { device, operation };
            assert!(
                error
                    .to_string()
                    .starts_with(&format!("cannot {operation} {device} disks"))
            );
            true
        }
        _ => false,
    }
}

#[test]
fn a_driver_refuses_exactly_what_it_says_it_cannot() {
    for driver in DEV_MAP {
        let world = World::new();
        let disk = world.disk(driver.device(), 0, Mebibytes(8));
        let target = target(&disk);
        let refused: Capabilities = EnumSet::all()
            .iter()
            .filter(|operation| refuses(*driver, *operation, &world.host, &target))
            .collect();
        assert_eq!(refused, !driver.capabilities(), "{}", driver.device());
    }
}

#[test]
fn a_refusal_tells_which_types_can() {
    let world = World::new();
    let disk = world.disk(LogicalDevice::Ext, 0, Mebibytes(8));
    let error = crate::tree::rename(&world.host, &target(&disk), &disk.logical_id).unwrap_err();
    assert_eq!(
        error.to_string(),
        "cannot rename ext disks: this type does not have that operation"
    );
    let able: Vec<_> = DEV_MAP
        .iter()
        .filter(|driver| driver.capabilities().contains(Operation::Rename))
        .collect();
    let names: Vec<_> = able.iter().map(|driver| driver.device().to_string()).collect();
    assert_eq!(
        error.hint().unwrap(),
        format!("types of disks that can: {}", names.join(", "))
    );
}

#[test]
fn every_driver_refuses_the_id_of_another_device() {
    let world = World::new();
    for driver in DEV_MAP {
        let mut disk = world.disk(driver.device(), 0, Mebibytes(8));
        let other = match driver.device() {
            LogicalDevice::Rbd => LogicalDevice::Ext,
            _ => LogicalDevice::Rbd,
        };
        disk.logical_id = world.disk(other, 1, Mebibytes(8)).logical_id;
        let error = driver.create(&world.host, &target(&disk)).unwrap_err();
        let (device, id) = (driver.device(), &disk.logical_id);
        assert_eq!(
            super::told(&error),
            format!("cannot create disk/0 ({id}) on node node1: {id} does not name a {device} device")
        );
    }
}
