//! What `--dry-run` tells, and that it changes nothing.

use std::fs;

use gnt_config::{LogicalDevice, Mebibytes};

use super::{INSTANCE, World, run, target};
use crate::tree::{self, Activation, Layer};

const SIZE: Mebibytes = Mebibytes(4);

#[test]
fn the_life_of_a_file_is_told() {
    let world = World::new();
    let disk = world.disk(LogicalDevice::File, 0, SIZE);
    let state = world.path("state");
    let before = run("find", &[state.to_str().unwrap()]);
    let (host, noted) = world.dry_run();
    assert!(host.is_dry_run());
    tree::create(&host, &target(&disk), "text").unwrap();
    tree::assemble(&host, &target(&disk), Activation::primary("kvm")).unwrap();
    assert_eq!(run("find", &[state.to_str().unwrap()]), before);
    let path = &disk.logical_id;
    let link = state.join("instance-disks").join(format!("{INSTANCE}:0"));
    assert_eq!(
        noted.changes(),
        [
            format!("make the file {path} of 4M"),
            format!("set the attribute user.gnt-disk of {path}"),
            format!("link {} to {path}", link.display()),
        ]
    );

    tree::create(&world.host, &target(&disk), "text").unwrap();
    tree::assemble(&world.host, &target(&disk), Activation::primary("kvm")).unwrap();
    let (host, noted) = world.dry_run();
    tree::remove(&host, &target(&disk)).unwrap();
    assert_eq!(
        noted.changes(),
        [
            format!("remove the file {path}"),
            format!("remove the link {}", link.display()),
        ]
    );
    assert!(fs::read_link(link).unwrap().exists());
}

#[test]
fn the_life_of_a_volume_is_told_as_the_scripts_that_would_run() {
    let world = World::new();
    let disk = world.disk(LogicalDevice::Ext, 0, SIZE);
    let scripts = |noted: &gnt_process::DryRun| {
        let name = |line: &String| line.rsplit('/').next().unwrap().to_owned();
        noted.changes().iter().map(name).collect::<Vec<_>>()
    };
    let (host, noted) = world.dry_run();
    tree::create(&host, &target(&disk), "text").unwrap();
    tree::assemble(&host, &target(&disk), Activation::primary("kvm")).unwrap();
    assert_eq!(scripts(&noted), ["create", "setinfo", "attach", "open"]);
    assert!(noted.changes()[0].contains("VOL_SIZE=4"), "{:?}", noted.changes());
    assert_eq!(world.loop_devices(), [""; 0]);

    tree::create(&world.host, &target(&disk), "text").unwrap();
    tree::assemble(&world.host, &target(&disk), Activation::primary("kvm")).unwrap();
    let (host, noted) = world.dry_run();
    tree::grow(&host, &target(&disk), Mebibytes(5), false, Layer::BackingStore).unwrap();
    tree::shutdown(&host, &target(&disk)).unwrap();
    tree::remove(&host, &target(&disk)).unwrap();
    let scripts = scripts(&noted);
    assert!(scripts.starts_with(&["grow".to_owned()]), "{scripts:?}");
    assert!(
        scripts.contains(&"detach".to_owned()) && scripts.contains(&"remove".to_owned()),
        "{scripts:?}"
    );
    assert_eq!(world.loop_devices().len(), 1);
    assert_eq!(
        tree::actual_size(&world.host, &target(&disk)).unwrap(),
        SIZE.bytes()
    );
}
