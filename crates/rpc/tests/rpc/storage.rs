//! What Ganeti's master asks of a node's storage, and what it has copied there.

use std::fs;
use std::os::unix::fs::MetadataExt as _;
use std::path::{Path, PathBuf};

use gnt_bdev::ListedVolume;
use gnt_config::{Disk, LogicalDevice, Mebibytes};
use gnt_rpc::wire::{Reply, ganeti_payload};
use serde_json::{Value, json};

use crate::world::{INSTANCE, World};

const MIB: usize = 1 << 20;

async fn call(world: &World, procedure: &str, arguments: Value) -> Value {
    world.ganeti(procedure, arguments.to_string().as_bytes()).await
}

/// Calls what must succeed.
async fn payload(world: &World, procedure: &str, arguments: Value) -> Value {
    let answer = call(world, procedure, arguments).await;
    assert_eq!(answer[0], json!(true), "{procedure}: {answer}");
    answer[1].clone()
}

/// Calls what must be refused, and returns the message.
async fn refusal(world: &World, procedure: &str, arguments: Value) -> String {
    let answer = call(world, procedure, arguments).await;
    assert_eq!(answer[0], json!(false), "{procedure}: {answer}");
    answer[1].as_str().unwrap().to_owned()
}

/// A new disk as Ganeti's master leaves it: in use.
async fn made(world: &World, device: LogicalDevice, index: u32, size: u64) -> Disk {
    let disk = world.disk(device, index, Mebibytes(size));
    if device != LogicalDevice::Ext {
        let directory = Path::new(&*disk.logical_id.volume()).parent().unwrap().to_owned();
        payload(world, "file_storage_dir_create", json!([directory])).await;
    }
    payload(
        world,
        "blockdev_create",
        json!([disk, size, INSTANCE, true, "", false]),
    )
    .await;
    disk
}

/// Where the bytes of a disk in use are; none if it is not in use.
async fn path(world: &World, disk: &Disk) -> Option<PathBuf> {
    let found = payload(world, "blockdev_find", json!([disk])).await;
    found["dev_path"].as_str().map(PathBuf::from)
}

/// The bytes of a disk in use.
async fn bytes(world: &World, disk: &Disk) -> Vec<u8> {
    fs::read(path(world, disk).await.unwrap()).unwrap()
}

/// So many bytes, none of them zero.
fn noise(length: usize) -> Vec<u8> {
    (0..length).map(|at| (at % 251 + 1) as u8).collect()
}

#[tokio::test]
async fn directories_are_units_of_file_storage() {
    let world = World::new().await;
    let base = world.state().join("file-storage");
    let below = base.join(INSTANCE);
    let disk = made(&world, LogicalDevice::File, 0, 8).await;
    let all = json!([
        "file",
        [[base]],
        null,
        ["name", "size", "used", "free", "allocatable"]
    ]);
    let rows = payload(&world, "storage_list", all).await;
    let [row] = &rows.as_array().unwrap()[..] else {
        panic!("{rows}")
    };
    assert_eq!(
        [&row[0], &row[2], &row[4]],
        [&json!(base), &json!(8), &json!(true)]
    );
    let [size, free] = [1, 3].map(|at| row[at].as_u64().unwrap());
    assert!(0 < free && free <= size, "{row}");
    // In the order of the fields, of one unit, and of several.
    let one = json!(["file", [[base]], below, ["used", "name", "used"]]);
    assert_eq!(payload(&world, "storage_list", one).await, json!([[8, below, 8]]));
    let both = json!(["sharedfile", [[below, base]], null, ["name"]]);
    assert_eq!(
        payload(&world, "storage_list", both).await,
        json!([[below], [base]])
    );
    payload(&world, "blockdev_remove", json!([disk])).await;
    let empty = json!(["file", [[base]], null, ["used"]]);
    assert_eq!(payload(&world, "storage_list", empty).await, json!([[0]]));

    let outside = json!(["file", [["/etc"]], null, ["name", "used"]]);
    let message = refusal(&world, "storage_list", outside).await;
    assert!(
        message
            .starts_with("cannot list the file storage on node node2: /etc is not allowed for file storage"),
        "{message}"
    );
    let missing = json!(["file", [[base]], base.join("none"), ["free"]]);
    let message = refusal(&world, "storage_list", missing).await;
    assert!(message.ends_with("none is not there"), "{message}");
}

#[tokio::test]
async fn an_image_is_written_to_the_beginning_of_a_disk() {
    let world = World::new().await;
    let disks = [
        made(&world, LogicalDevice::File, 0, 4).await,
        made(&world, LogicalDevice::Ext, 1, 4).await,
    ];
    let image = world.dir.path().join("image");
    // Data, a hole, and an end that is no whole block.
    let mut wanted = noise(MIB);
    wanted.resize(2 * MIB, 0);
    wanted.extend(noise(MIB / 2 + 5));
    fs::write(&image, &wanted).unwrap();
    for disk in &disks {
        let before = vec![0xff; 4 * MIB];
        fs::write(path(&world, disk).await.unwrap(), &before).unwrap();
        // As often as it is asked.
        for _ in 0..2 {
            payload(&world, "blockdev_image", json!([disk, image, 4])).await;
            let written = bytes(&world, disk).await;
            assert!(written[..wanted.len()] == wanted, "{disk}");
            assert!(written[wanted.len()..] == before[wanted.len()..], "{disk}");
        }
        let message = refusal(&world, "blockdev_image", json!([disk, image, 2])).await;
        assert!(
            message.ends_with(&format!(
                "{} has {} bytes, and may have {}",
                image.display(),
                wanted.len(),
                2 * MIB
            )),
            "{message}"
        );
        let message = refusal(&world, "blockdev_image", json!([disk, image, 5])).await;
        assert!(
            message.ends_with("5242880 bytes at 0 are not all within its 4194304 bytes"),
            "{message}"
        );
        let message = refusal(&world, "blockdev_image", json!([disk, "/nonexistent", 4])).await;
        assert!(
            message.starts_with("cannot read the image /nonexistent on node node2"),
            "{message}"
        );
        assert!(bytes(&world, disk).await[..wanted.len()] == wanted);
    }
    for disk in &disks {
        payload(&world, "blockdev_shutdown", json!([disk])).await;
        payload(&world, "blockdev_remove", json!([disk])).await;
        let message = refusal(&world, "blockdev_image", json!([disk, image, 4])).await;
        assert!(message.contains(&format!("cannot write {disk}")), "{message}");
    }
}

#[tokio::test]
async fn a_disk_is_converted_by_copying_it_to_another() {
    let world = World::new().await;
    let file = made(&world, LogicalDevice::File, 0, 8).await;
    let ext = made(&world, LogicalDevice::Ext, 1, 8).await;
    let shared = made(&world, LogicalDevice::SharedFile, 2, 8).await;
    let mut wanted = noise(MIB);
    wanted.resize(7 * MIB, 0);
    wanted.extend(noise(MIB));
    fs::write(path(&world, &file).await.unwrap(), &wanted).unwrap();
    fs::write(path(&world, &ext).await.unwrap(), vec![0xff; 8 * MIB]).unwrap();

    // A target in use stays so.
    payload(&world, "blockdev_convert", json!([file, ext])).await;
    assert!(bytes(&world, &ext).await == wanted);
    // The instance does not run: its disk was shut down, and is so afterwards.
    payload(&world, "blockdev_shutdown", json!([ext])).await;
    assert_eq!(path(&world, &ext).await, None);
    for _ in 0..2 {
        payload(&world, "blockdev_convert", json!([ext, shared])).await;
        assert_eq!(path(&world, &ext).await, None);
        assert!(bytes(&world, &shared).await == wanted);
    }
    let taken = fs::metadata(path(&world, &shared).await.unwrap())
        .unwrap()
        .blocks()
        * 512;
    assert!(taken < 3 * MIB as u64, "{taken}");

    // Also where it fails.
    let small = made(&world, LogicalDevice::File, 3, 4).await;
    let message = refusal(&world, "blockdev_convert", json!([ext, small])).await;
    assert!(
        message.starts_with(&format!("cannot write {small} on node node2: 8388608 bytes at 0")),
        "{message}"
    );
    assert_eq!(path(&world, &ext).await, None);
    let missing = world.disk(LogicalDevice::Ext, 4, Mebibytes(8));
    let message = refusal(&world, "blockdev_convert", json!([missing, shared])).await;
    assert!(message.contains(&missing.to_string()), "{message}");
    assert!(bytes(&world, &shared).await == wanted);
    for disk in [file, ext, shared, small] {
        payload(&world, "blockdev_remove", json!([disk])).await;
    }
}

#[tokio::test]
async fn what_is_wrong_with_a_call_about_storage_is_told() {
    let world = World::new().await;
    let disk = world.disk(LogicalDevice::File, 0, Mebibytes(8));
    for (procedure, arguments, message) in [
        (
            "storage_list",
            json!([]),
            "storage_list got 0 arguments, and needs su_name",
        ),
        (
            "storage_list",
            json!(["lvm-vg", [], null]),
            "storage_list got 3 arguments, and needs fields",
        ),
        (
            "node_volumes",
            json!([1]),
            "node_volumes got 1 arguments, and takes 0",
        ),
        (
            "storage_list",
            json!(["rados", [], null, []]),
            "argument su_name of storage_list is wrong: rados storage has no units here",
        ),
        (
            "storage_modify",
            json!(["x", [], "x", {}]),
            "argument su_name of storage_modify is wrong: it is none of file, sharedfile, lvm-pv, lvm-vg",
        ),
        (
            "storage_list",
            json!([["lvm-vg"], [], null, []]),
            "argument su_name of storage_list is wrong",
        ),
        (
            "storage_list",
            json!(["lvm-vg", ["xenvg", false], null, []]),
            "argument su_args of storage_list is wrong: lvm-vg storage takes nothing",
        ),
        (
            "storage_list",
            json!(["file", [], null, []]),
            "argument su_args of storage_list is wrong: file storage takes one list of directories",
        ),
        (
            "storage_list",
            json!(["file", [[1]], null, []]),
            "argument su_args of storage_list is wrong: file storage takes one list of directories",
        ),
        (
            "storage_list",
            json!(["file", [[]], 1, []]),
            "argument name of storage_list is wrong",
        ),
        (
            "storage_list",
            json!(["file", [[]], null, ["name", "node"]]),
            "argument fields of storage_list is wrong: number 2 is none of name, size, used, free, allocatable",
        ),
        (
            "storage_list",
            json!(["file", [[]], null, "name"]),
            "argument fields of storage_list is wrong",
        ),
        (
            "storage_modify",
            json!(["lvm-pv", [], null, {}]),
            "argument name of storage_modify is wrong",
        ),
        (
            "storage_modify",
            json!(["lvm-pv", [], "x", {"allocatable": 1}]),
            "argument changes of storage_modify is wrong: allocatable is no truth value",
        ),
        (
            "storage_modify",
            json!(["lvm-pv", [], "x", {"allocatable": true, "size": 1}]),
            "argument changes of storage_modify is wrong: only allocatable of lvm-pv storage can change",
        ),
        (
            "storage_modify",
            json!(["lvm-vg", [], "x", {"allocatable": true}]),
            "argument changes of storage_modify is wrong: nothing of lvm-vg storage can change",
        ),
        (
            "storage_modify",
            json!(["lvm-pv", [], "x", []]),
            "argument changes of storage_modify is wrong",
        ),
        (
            "storage_execute",
            json!(["lvm-vg", [], "x", "destroy"]),
            "argument op of storage_execute is wrong: there is only fix-consistency of lvm-vg storage",
        ),
        (
            "storage_execute",
            json!(["file", [[]], "x", "fix-consistency"]),
            "argument op of storage_execute is wrong: there is only fix-consistency of lvm-vg storage",
        ),
        (
            "blockdev_convert",
            json!([disk]),
            "blockdev_convert got 1 arguments, and needs bdev_dest",
        ),
        (
            "blockdev_convert",
            json!([disk, 1]),
            "argument bdev_dest of blockdev_convert is wrong: it is no object",
        ),
        (
            "blockdev_image",
            json!([disk, "/x", -1]),
            "argument size of blockdev_image is wrong",
        ),
        (
            "blockdev_image",
            json!([disk, "http://x/y", 1]),
            "argument image of blockdev_image is wrong: it is no absolute path of a file of this node, and nothing is downloaded",
        ),
    ] {
        assert_eq!(refusal(&world, procedure, arguments).await, message);
    }
    // No change is no error.
    for kind in ["lvm-pv", "lvm-vg"] {
        let nothing = json!([kind, [], "x", {}]);
        assert_eq!(payload(&world, "storage_modify", nothing).await, Value::Null);
    }
}

#[test]
fn a_volume_has_a_row_for_each_piece() {
    let volume = |lv: &str, pvs: &[&str]| ListedVolume {
        vg: "xenvg".to_owned(),
        lv: lv.to_owned(),
        bytes: 65 << 19,
        active: true,
        open: false,
        pvs: pvs.iter().map(|pv| (*pv).to_owned()).collect(),
    };
    let row = |name, dev| json!({"name": name, "size": "32.50", "dev": dev, "vg": "xenvg"});
    assert_eq!(
        ganeti_payload(&Reply::NodeVolumes(vec![
            volume("a", &["/dev/sda", "/dev/sdb"]),
            volume("b", &[]),
        ])),
        json!([row("a", "/dev/sda"), row("a", "/dev/sdb"), row("b", "")])
    );
}
