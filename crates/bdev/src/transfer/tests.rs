use std::fs::{self, File};
use std::os::unix::fs::{FileExt, MetadataExt, OpenOptionsExt};
use std::path::PathBuf;

use gnt_config::{Disk, LogicalDevice, LogicalId, Mebibytes};
use proptest::prelude::*;
use sha2::{Digest, Sha256};

use super::*;
use crate::tests::{World, run, target, told};
use crate::tree::{self, Activation};

const SIZE: Mebibytes = Mebibytes(8);
const MIB: u64 = 1 << 20;

/// A disk that is made and assembled.
fn assembled(world: &World, device: LogicalDevice, index: u32) -> Disk {
    let disk = world.disk(device, index, SIZE);
    tree::create(&world.host, &target(&disk), "").unwrap();
    tree::assemble(&world.host, &target(&disk), Activation::primary("kvm")).unwrap();
    disk
}

fn path_of(world: &World, disk: &Disk) -> PathBuf {
    let found = tree::find(&world.host, &target(disk)).unwrap().unwrap();
    found.device.path.unwrap()
}

fn content(world: &World, disk: &Disk) -> Vec<u8> {
    fs::read(path_of(world, disk)).unwrap()
}

/// Bytes without a run of zeros.
fn noise(seed: u64, length: usize) -> Vec<u8> {
    let mut state = seed | 1;
    let next = |_| {
        state = state.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1);
        (state >> 56) as u8 | 1
    };
    (0..length).map(next).collect()
}

fn data(offset: u64, bytes: Vec<u8>) -> Piece {
    Piece {
        offset,
        content: Content::Data(bytes),
    }
}

fn zeros(offset: u64, length: u64) -> Piece {
    Piece {
        offset,
        content: Content::Zeros(length),
    }
}

/// What pieces say, which must have no gaps.
fn joined(offset: u64, pieces: &[Piece]) -> Vec<u8> {
    let mut bytes = Vec::new();
    for piece in pieces {
        assert_eq!(piece.offset, offset + bytes.len() as u64);
        match &piece.content {
            Content::Zeros(length) => bytes.resize(bytes.len() + *length as usize, 0),
            Content::Data(data) => bytes.extend(data),
        }
    }
    bytes
}

const DEVICES: [LogicalDevice; 4] = [
    LogicalDevice::File,
    LogicalDevice::SharedFile,
    LogicalDevice::Ext,
    LogicalDevice::Blockdev,
];

#[test]
fn what_is_written_is_read_and_zeros_are_told_from_data() {
    let world = World::new();
    for device in DEVICES {
        let disk = assembled(&world, device, 0);
        let at = target(&disk);
        let (first, second) = (noise(1, MIB as usize), noise(2, 3 * 65536));
        let pieces = [
            data(0, first.clone()),
            zeros(MIB, 2 * MIB),
            data(3 * MIB, second.clone()),
        ];
        write(&world.host, &at, &pieces).unwrap();
        assert_eq!(
            read(&world.host, &at, 0, SIZE.bytes()).unwrap(),
            [
                pieces[0].clone(),
                pieces[1].clone(),
                pieces[2].clone(),
                zeros(3 * MIB + 3 * 65536, 5 * MIB - 3 * 65536),
            ],
            "{device}"
        );
        // Zeros take away what was there.
        write(&world.host, &at, &[zeros(0, MIB)]).unwrap();
        assert_eq!(
            read(&world.host, &at, 0, MIB).unwrap(),
            [zeros(0, MIB)],
            "{device}"
        );
        let sum = checksum(&world.host, &at, 0, SIZE.bytes()).unwrap();
        let all = content(&world, &disk);
        assert_eq!(sum, <[u8; 32]>::from(Sha256::digest(&all)), "{device}");
        tree::remove(&world.host, &at).unwrap();
    }
}

#[test]
fn a_copy_is_the_same_whatever_both_disks_are() {
    let world = World::new();
    for from in DEVICES {
        for to in DEVICES {
            let (from, to) = (assembled(&world, from, 0), assembled(&world, to, 1));
            let written = [
                data(MIB, noise(3, MIB as usize)),
                data(7 * MIB + 512, noise(4, 512)),
            ];
            write(&world.host, &target(&from), &written).unwrap();
            // What is zero in the one must become zero in the other.
            write(
                &world.host,
                &target(&to),
                &[data(0, noise(5, SIZE.bytes() as usize))],
            )
            .unwrap();
            for chunk in 0..4 {
                copy(
                    &world.host,
                    &target(&from),
                    &target(&to),
                    chunk * 2 * MIB,
                    2 * MIB,
                )
                .unwrap();
            }
            assert!(
                content(&world, &from) == content(&world, &to),
                "{from} is not {to}"
            );
            for disk in [from, to] {
                tree::remove(&world.host, &target(&disk)).unwrap();
            }
        }
    }
}

#[test]
fn holes_stay_holes() {
    let world = World::new();
    let (from, to) = (
        assembled(&world, LogicalDevice::File, 0),
        assembled(&world, LogicalDevice::SharedFile, 1),
    );
    write(&world.host, &target(&from), &[data(MIB, noise(6, MIB as usize))]).unwrap();
    let room = |disk| fs::metadata(path_of(&world, disk)).unwrap().blocks() * 512;
    // Zeros that were written take up room, and none in the copy.
    wipe(&world.host, &target(&from), 4 * MIB, MIB).unwrap();
    assert!(room(&from) >= 2 * MIB, "{}", room(&from));
    copy(&world.host, &target(&from), &target(&to), 0, SIZE.bytes()).unwrap();
    assert!(content(&world, &from) == content(&world, &to));
    assert!((MIB..MIB + 65536).contains(&room(&to)), "{}", room(&to));
}

#[test]
fn a_wipe_leaves_zeros_and_nothing_else_changed() {
    let world = World::new();
    for device in DEVICES {
        let disk = assembled(&world, device, 0);
        let before = noise(7, SIZE.bytes() as usize);
        write(&world.host, &target(&disk), &[data(0, before.clone())]).unwrap();
        wipe(&world.host, &target(&disk), MIB, 3 * MIB).unwrap();
        let (mut expected, range) = (before, MIB as usize..4 * MIB as usize);
        expected[range].fill(0);
        assert!(content(&world, &disk) == expected, "{device}");
        tree::remove(&world.host, &target(&disk)).unwrap();
    }
}

#[test]
fn what_is_outside_of_a_disk_is_refused_before_anything_is_written() {
    let world = World::new();
    for device in DEVICES {
        let (disk, other) = (assembled(&world, device, 0), assembled(&world, device, 1));
        let (at, end) = (target(&disk), SIZE.bytes());
        let refused = [
            read(&world.host, &at, end - 1, 2).map(drop),
            read(&world.host, &at, u64::MAX, 2).map(drop),
            write(&world.host, &at, &[data(end - 1, vec![1, 1])]),
            write(&world.host, &at, &[zeros(end, 1)]),
            wipe(&world.host, &at, end - 1, 2),
            copy(&world.host, &at, &target(&other), end, 1),
            checksum(&world.host, &at, 0, end + 1).map(drop),
        ];
        for result in refused {
            let error = told(&result.unwrap_err());
            assert!(
                error.contains(&format!("are not all within its {end} bytes")),
                "{error}"
            );
        }
        assert!(content(&world, &disk).iter().all(|byte| *byte == 0), "{device}");
        // Nothing at the very end is fine.
        assert_eq!(read(&world.host, &at, end, 0).unwrap(), []);
        for disk in [disk, other] {
            tree::remove(&world.host, &target(&disk)).unwrap();
        }
    }
}

#[test]
fn what_would_fill_the_memory_is_refused() {
    let world = World::new();
    let disk = Disk {
        size: Mebibytes(65),
        ..world.disk(LogicalDevice::File, 0, Mebibytes(65))
    };
    tree::create(&world.host, &target(&disk), "").unwrap();
    let error = read(&world.host, &target(&disk), 0, MAX_READ + 1).unwrap_err();
    assert!(
        told(&error).contains("at most 67108864 are read"),
        "{}",
        told(&error)
    );
    assert_eq!(
        read(&world.host, &target(&disk), 0, MAX_READ).unwrap(),
        [zeros(0, MAX_READ)]
    );
}

#[test]
fn a_disk_that_is_not_assembled_cannot_be_read() {
    let world = World::new();
    let disk = world.disk(LogicalDevice::Ext, 0, SIZE);
    let missing = read(&world.host, &target(&disk), 0, 1).unwrap_err();
    tree::create(&world.host, &target(&disk), "").unwrap();
    let idle = read(&world.host, &target(&disk), 0, 1).unwrap_err();
    for error in [missing, idle] {
        assert_eq!(
            told(&error),
            format!("cannot read {disk} on node node1: it is not assembled there")
        );
    }
}

#[test]
fn a_disk_without_a_device_cannot_be_read() {
    let world = World::new();
    world.provider(
        "nodev",
        &[],
        "case $action in attach) echo; echo kvm:rbd:pool/image ;; esac",
    );
    let mut disk = world.disk(LogicalDevice::Ext, 0, SIZE);
    disk.logical_id = LogicalId::Ext {
        provider: "nodev".to_owned(),
        volume: "volume".to_owned(),
    };
    disk.params.insert("access".to_owned(), "userspace".into());
    let error = read(&world.host, &target(&disk), 0, 1).unwrap_err();
    assert_eq!(
        told(&error),
        format!(
            "cannot read {disk} on node node1: the node reaches it by rbd:pool/image only, which has no device"
        )
    );
    assert_eq!(
        error.hint().unwrap(),
        "set the disk's parameter access to kernelspace"
    );
}

#[test]
fn a_device_that_something_else_uses_is_not_written_to() {
    let world = World::new();
    let disk = assembled(&world, LogicalDevice::Blockdev, 0);
    let path = path_of(&world, &disk);
    let user = File::options()
        .read(true)
        .custom_flags(rustix::fs::OFlags::EXCL.bits() as i32)
        .open(&path)
        .unwrap();
    let refused = [
        write(&world.host, &target(&disk), &[zeros(0, 1)]),
        wipe(&world.host, &target(&disk), 0, 1),
        copy(&world.host, &target(&disk), &target(&disk), 0, 1),
    ];
    for result in refused {
        let error = result.unwrap_err();
        assert_eq!(error.kind(), crate::ErrorKind::Busy, "{}", told(&error));
    }
    // Looking is fine.
    read(&world.host, &target(&disk), 0, MIB).unwrap();
    // Who holds it for a moment is waited for.
    let passing = std::thread::spawn(move || {
        std::thread::sleep(std::time::Duration::from_millis(200));
        drop(user);
    });
    wipe(&world.host, &target(&disk), 0, 1).unwrap();
    passing.join().unwrap();
}

#[test]
fn a_file_outside_the_storage_directories_is_not_opened() {
    let world = World::new();
    let mut disk = world.disk(LogicalDevice::File, 0, SIZE);
    let elsewhere = world.path("elsewhere");
    fs::write(&elsewhere, vec![0; 4096]).unwrap();
    disk.logical_id = LogicalId::File {
        driver: gnt_config::FileDriver::Loop,
        path: elsewhere.to_str().unwrap().to_owned(),
    };
    for result in [
        read(&world.host, &target(&disk), 0, 1).map(drop),
        wipe(&world.host, &target(&disk), 0, 1),
    ] {
        let error = told(&result.unwrap_err());
        assert!(error.contains("is not allowed for file storage"), "{error}");
    }
}

#[test]
fn files_that_are_no_disks_are_read_too() {
    let world = World::new();
    let path = world.path("image");
    let file = File::create(&path).unwrap();
    let bytes = noise(8, 70_000);
    file.write_all_at(&bytes, MIB).unwrap();
    let size = MIB + 70_000;
    assert_eq!(image_size(&world.host, &path).unwrap(), size);
    assert_eq!(
        read_image(&world.host, &path, 0, size).unwrap(),
        [zeros(0, MIB), data(MIB, bytes)]
    );
    // Nobody writes to the pipe, and nobody waits for that.
    let pipe = world.path("pipe");
    assert!(
        std::process::Command::new("mkfifo")
            .arg(&pipe)
            .status()
            .unwrap()
            .success()
    );
    for other in [world.path(""), pipe] {
        let error = read_image(&world.host, &other, 0, 1).unwrap_err();
        assert!(
            told(&error).contains("is neither a block device nor a regular file"),
            "{}",
            told(&error)
        );
    }
    let error = read_image(&world.host, &world.path("missing"), 0, 1).unwrap_err();
    assert_eq!(error.kind(), crate::ErrorKind::NotFound);
}

#[test]
fn a_dry_run_only_says_what_it_would_write() {
    let world = World::new();
    let (from, to) = (
        assembled(&world, LogicalDevice::File, 0),
        assembled(&world, LogicalDevice::Blockdev, 1),
    );
    let (host, noted) = world.dry_run();
    write(&host, &target(&from), &[data(0, vec![1; 512])]).unwrap();
    copy(&host, &target(&from), &target(&to), 0, MIB).unwrap();
    wipe(&host, &target(&to), 0, MIB).unwrap();
    assert_eq!(
        noted.changes(),
        [
            format!("write 512 bytes to {from}"),
            format!("copy 1048576 bytes at 0 from {from} to {to}"),
            format!("write zeros over 1048576 bytes at 0 of {to}"),
        ]
    );
    assert!(content(&world, &from).iter().all(|byte| *byte == 0));
}

/// Devices whose blocks are larger than those that a caller may think of.
#[test]
fn large_sectors_are_no_obstacle() {
    let world = World::new();
    let mut disk = world.disk(LogicalDevice::Blockdev, 0, SIZE);
    let backing = world.path("large-sectors");
    File::create(&backing).unwrap().set_len(SIZE.bytes()).unwrap();
    let device = run(
        "losetup",
        &[
            "--find",
            "--show",
            "--sector-size",
            "4096",
            backing.to_str().unwrap(),
        ],
    );
    disk.logical_id = LogicalId::BlockDev {
        path: device.trim().to_owned(),
    };
    let at = target(&disk);
    write(&world.host, &at, &[data(512, noise(9, 1024)), zeros(1000, 100)]).unwrap();
    let mut expected = noise(9, 1024);
    expected[488..588].fill(0);
    assert_eq!(joined(512, &read(&world.host, &at, 512, 1024).unwrap()), expected);
}

#[derive(Debug, Clone)]
enum Deed {
    Write(u64, Vec<u8>),
    Zero(u64, u64),
    Wipe(u64, u64),
    Copy(u64, u64),
}

fn deed() -> impl Strategy<Value = Deed> {
    // Whole blocks take other ways than what is not one.
    let range =
        (0..2 * MIB, 0..300_000_u64, any::<bool>()).prop_map(|(offset, length, aligned)| match aligned {
            true => (offset & !4095, length & !4095),
            false => (offset, length),
        });
    (range, 0..4, any::<u64>()).prop_map(|((offset, length), kind, seed)| match kind {
        0 => Deed::Write(offset, noise(seed, length as usize)),
        1 => Deed::Zero(offset, length),
        2 => Deed::Wipe(offset, length),
        _ => Deed::Copy(offset, length),
    })
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 24, ..ProptestConfig::default() })]

    /// Two disks are as two arrays.
    #[test]
    fn disks_are_as_arrays(deeds in proptest::collection::vec(deed(), 1..12), device in 0..2_usize) {
        let world = World::new();
        let devices = [LogicalDevice::File, LogicalDevice::Blockdev];
        let (one, two) = (assembled(&world, devices[device], 0), assembled(&world, devices[1 - device], 1));
        let mut arrays = [vec![0; SIZE.bytes() as usize], vec![0; SIZE.bytes() as usize]];
        for deed in deeds {
            let range = |offset: u64, length: u64| offset as usize..(offset + length) as usize;
            match deed {
                Deed::Write(offset, bytes) => {
                    arrays[0][range(offset, bytes.len() as u64)].copy_from_slice(&bytes);
                    write(&world.host, &target(&one), &[data(offset, bytes)]).unwrap();
                }
                Deed::Zero(offset, length) => {
                    arrays[0][range(offset, length)].fill(0);
                    write(&world.host, &target(&one), &[zeros(offset, length)]).unwrap();
                }
                Deed::Wipe(offset, length) => {
                    arrays[1][range(offset, length)].fill(0);
                    wipe(&world.host, &target(&two), offset, length).unwrap();
                }
                Deed::Copy(offset, length) => {
                    let [from, to] = &mut arrays;
                    to[range(offset, length)].copy_from_slice(&from[range(offset, length)]);
                    copy(&world.host, &target(&one), &target(&two), offset, length).unwrap();
                }
            }
        }
        for (disk, array) in [&one, &two].into_iter().zip(&arrays) {
            prop_assert!(content(&world, disk) == *array);
            let read = read(&world.host, &target(disk), 1000, 5 * MIB).unwrap();
            prop_assert!(joined(1000, &read) == array[1000..1000 + 5 * MIB as usize]);
        }
    }
}
