//! The provider that we ship, `providers/ext`, through its whole life on a real loop device.

mod common;

use std::fs::{self, File};
use std::os::unix::fs::FileExt as _;
use std::time::Duration;

use common::World;
use gnt_extstorage::{Performed, Volume};

#[test]
fn a_whole_life() {
    let world = World::with("providers").unwrap();
    let storage = world.storage(Duration::from_secs(60)).with_operation("17");
    let volume = world.volume("ext", "u.ext.disk0");
    storage.verify("ext", &world.params).unwrap();
    assert_eq!(storage.info(&volume).unwrap(), Some(None));
    assert_eq!(storage.list("ext", &world.params).unwrap(), Some(vec![]));

    storage.create(&volume).unwrap();
    let info = storage.info(&volume).unwrap().unwrap().unwrap();
    assert_eq!((info.size_mib, info.device), (Some(64), None));
    assert_eq!((info.instance.as_deref(), info.index), (Some("web1"), Some(0)));

    let device = storage.attach(&volume).unwrap().device.unwrap();
    assert_eq!(device.size, 64 << 20);
    assert_eq!(
        storage.info(&volume).unwrap().unwrap().unwrap().device,
        Some(device.path.clone())
    );
    assert_eq!(storage.open(&volume, true).unwrap(), Performed::Done);
    let disk = File::options().read(true).write(true).open(&device.path).unwrap();
    disk.write_all_at(b"marker", 4096).unwrap();
    disk.sync_all().unwrap();
    drop(disk);

    storage.setinfo(&volume, "originstname+web1", None).unwrap();
    let grown = storage.grow(&volume, 96).unwrap().device.unwrap();
    assert_eq!(
        (grown.path.as_path(), grown.size),
        (device.path.as_path(), 96 << 20)
    );
    let volume = Volume {
        size_mib: 96,
        ..volume
    };
    storage.grow(&volume, 96).unwrap();
    storage.snapshot(&volume, "u.ext.disk0.snap", 96).unwrap();
    assert_eq!(storage.close(&volume).unwrap(), Performed::Done);
    storage.detach(&volume, None).unwrap();
    storage.detach(&volume, Some(&device.path)).unwrap();
    storage.remove(&volume).unwrap();
    assert_eq!(storage.info(&volume).unwrap(), Some(None));

    let snapshot = world.volume("ext", "u.ext.disk0.snap");
    let listed = storage.list("ext", &world.params).unwrap().unwrap();
    assert_eq!(
        listed.iter().map(|info| info.name.as_str()).collect::<Vec<_>>(),
        ["u.ext.disk0.snap"]
    );
    let copy = storage.attach(&snapshot).unwrap().device.unwrap();
    let mut read = [0; 6];
    File::open(&copy.path)
        .unwrap()
        .read_exact_at(&mut read, 4096)
        .unwrap();
    assert_eq!(&read, b"marker");
    storage.detach(&snapshot, Some(&copy.path)).unwrap();
    storage.remove(&snapshot).unwrap();
    assert_eq!(fs::read_dir(world.volumes()).unwrap().count(), 0);
}
