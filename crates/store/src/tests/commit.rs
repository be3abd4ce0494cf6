//! Commits and what they refuse.

use crate::Change;
use crate::tests::objects::{drbd, ext, instance, store};

#[test]
fn what_was_put_is_read_back_and_touched() {
    let store = store();
    assert!(store.is_initialised().unwrap());
    let changes = [
        Change::Disk(ext("d0", "v0")),
        Change::Disk(ext("d1", "v1")),
        Change::Instance(instance("inst1", &["d1", "d0"])),
    ];
    store.commit(&changes).unwrap();
    let found = store.instance("inst1").unwrap().unwrap();
    assert_eq!(found.uuid, "instance-inst1");
    assert_eq!(found.origin.get("serial_no").unwrap(), 1);
    let disks: Vec<_> = store
        .disks_of(&found)
        .unwrap()
        .into_iter()
        .map(|d| d.uuid)
        .collect();
    assert_eq!(disks, ["d1", "d0"]);
    assert_eq!(store.owner_of_disk("d0").unwrap().unwrap(), "instance-inst1");
    assert_eq!(store.owner_of_volume("ext:ext/v1").unwrap().unwrap(), "d1");
    store.commit(&[Change::Instance(found)]).unwrap();
    let found = store.instance("instance-inst1").unwrap().unwrap();
    assert_eq!(found.origin.get("serial_no").unwrap(), 2);
}

#[test]
fn a_minor_is_taken_once() {
    let store = store();
    store.commit(&[Change::Disk(drbd("d0", 11000, [0, 0]))]).unwrap();
    let error = store
        .commit(&[Change::Disk(drbd("d1", 11001, [1, 0]))])
        .unwrap_err();
    assert_eq!(
        error.to_string(),
        "drbd minor 0 on node node-b is taken by disk d0, which is attached to no instance"
    );
    assert!(store.disk("d1").unwrap().is_none());
}
