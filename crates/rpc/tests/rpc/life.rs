//! Disks through their whole life, asked for across a real connection.

use std::path::Path;

use crate::world::{INSTANCE, World};
use gnt_bdev::transfer::{Content, Piece};
use gnt_bdev::{Change, ErrorKind, Layer, Target};
use gnt_cmdlib::Node as _;
use gnt_cmdlib::node::{NodeError, Role};
use gnt_config::{LogicalDevice, Mebibytes, Object};

const SIZE: Mebibytes = Mebibytes(8);

#[tokio::test]
async fn file_based_disks_live_and_die() {
    for device in [LogicalDevice::File, LogicalDevice::SharedFile] {
        life_of(device).await;
    }
}

#[tokio::test]
async fn a_disk_of_the_shipped_provider_lives_and_dies() {
    life_of(LogicalDevice::Ext).await;
}

async fn life_of(device: LogicalDevice) {
    let world = World::new().await;
    let node = world.client().for_operation(&format!("life-{device}"));
    let mut disk = world.disk(device, 0, SIZE);
    let directory = match &disk.logical_id {
        gnt_config::LogicalId::File { path, .. } => Path::new(path).parent().map(Path::to_owned),
        _ => None,
    };
    if let Some(directory) = directory.as_ref().and_then(|directory| directory.to_str()) {
        assert_eq!(node.create_storage_dir(directory).await.unwrap(), Change::Made);
        assert_eq!(
            node.create_storage_dir(directory).await.unwrap(),
            Change::AlreadyThere
        );
    }
    assert_eq!(node.find(&disk, INSTANCE).await.unwrap(), None);
    assert_eq!(
        node.create(&disk, INSTANCE, "originstname+web").await.unwrap(),
        Change::Made
    );
    assert_eq!(
        node.create(&disk, INSTANCE, "originstname+web").await.unwrap(),
        Change::AlreadyThere
    );
    let volumes = node.volumes(device, &Object::new()).await.unwrap();
    assert!(
        volumes.iter().any(|volume| volume.logical_id == disk.logical_id),
        "{volumes:?}"
    );

    let assembled = node.assemble(&disk, INSTANCE, Role::Primary).await.unwrap();
    let found = assembled.device.unwrap();
    assert_eq!(found.bytes, Some(SIZE.bytes()));
    let links = node.links().await.unwrap();
    assert!(links.len() == 1 && links[0].leads_to(&found), "{links:?}");
    assert!(assembled.link.unwrap().ends_with(format!("{INSTANCE}:0")));
    let target = Target::new(&disk, INSTANCE);
    let all = node.assemble_all(&[target], Role::Primary).await.unwrap();
    assert_eq!(
        all.into_iter().next().unwrap().unwrap().device.unwrap().path,
        found.path
    );

    let to = Mebibytes(12);
    node.grow(&disk, INSTANCE, to, Layer::BackingStore, true)
        .await
        .unwrap();
    assert_eq!(
        node.find(&disk, INSTANCE).await.unwrap().unwrap().device.bytes,
        Some(SIZE.bytes())
    );
    node.grow(&disk, INSTANCE, to, Layer::BackingStore, false)
        .await
        .unwrap();
    disk.size = to;
    let target = Target::new(&disk, INSTANCE);
    let all = node.find_all(&[target]).await.unwrap();
    let status = all.into_iter().next().unwrap().unwrap().unwrap();
    assert_eq!(status.device.bytes, Some(to.bytes()));
    let shrink = node
        .grow(&disk, INSTANCE, SIZE, Layer::BackingStore, false)
        .await
        .unwrap_err();
    assert!(
        gnt_cmdlib::error::chain(&shrink).contains("cannot shrink"),
        "{shrink:?}"
    );

    node.close(&[target]).await.unwrap();
    assert_eq!(node.links().await.unwrap(), []);
    node.open(&[target], true).await.unwrap();
    assert_eq!(node.links().await.unwrap().len(), 1);
    assert_eq!(node.move_link(INSTANCE, 0, 7).await.unwrap(), Change::Made);
    assert_eq!(node.move_link(INSTANCE, 7, 0).await.unwrap(), Change::Made);

    node.shutdown(&disk, INSTANCE).await.unwrap();
    assert_eq!(
        node.shutdown(&disk, INSTANCE).await.unwrap(),
        Change::AlreadyThere
    );
    assert_eq!(node.remove(&disk, INSTANCE).await.unwrap(), Change::Made);
    assert_eq!(node.remove(&disk, INSTANCE).await.unwrap(), Change::AlreadyThere);
    assert_eq!(node.find(&disk, INSTANCE).await.unwrap(), None);
    if let Some(directory) = directory.as_ref().and_then(|directory| directory.to_str()) {
        assert_eq!(node.remove_storage_dir(directory).await.unwrap(), Change::Made);
    }
}

#[tokio::test]
async fn errors_keep_their_kind_their_causes_and_their_hint() {
    let world = World::new().await;
    let node = world.client();
    let disk = world.disk(LogicalDevice::File, 0, SIZE);
    let missing = node.assemble(&disk, INSTANCE, Role::Primary).await.unwrap_err();
    assert!(missing.is_not_found(), "{missing:?}");
    assert_eq!(
        missing.to_string(),
        format!("cannot assemble {disk} on node node2")
    );
    assert!(std::error::Error::source(&missing).is_some());
    let unable = node.space(LogicalDevice::Ext, &Object::new()).await.unwrap_err();
    assert_eq!(unable.kind(), ErrorKind::Unsupported, "{unable:?}");
    let odd = world.odd_disk("exits-3", "on", "create");
    let failed = node.create(&odd, INSTANCE, "").await.unwrap_err();
    assert_eq!(failed.kind(), ErrorKind::Other);
    assert!(matches!(failed, NodeError::Storage(_)), "{failed:?}");
    assert!(
        gnt_cmdlib::error::chain(&failed).contains("LUN limit reached"),
        "{failed:?}"
    );
}

#[tokio::test]
async fn bytes_of_a_disk_come_and_go_as_they_are() {
    let world = World::new().await;
    let node = world.client();
    let (disk, other) = (
        world.disk(LogicalDevice::Ext, 0, SIZE),
        world.disk(LogicalDevice::Ext, 1, SIZE),
    );
    for disk in [&disk, &other] {
        node.create(disk, INSTANCE, "").await.unwrap();
        node.assemble(disk, INSTANCE, Role::Primary).await.unwrap();
    }
    let data: Vec<u8> = (0..1 << 20).map(|n: u32| (n * 7 % 251) as u8 + 1).collect();
    let pieces = [
        Piece {
            offset: 0,
            content: Content::Data(data.clone()),
        },
        Piece {
            offset: 1 << 20,
            content: Content::Zeros(1 << 20),
        },
        Piece {
            offset: 5 << 20,
            content: Content::Data(data.clone()),
        },
    ];
    node.write(&disk, INSTANCE, &pieces).await.unwrap();
    let read = node.read(&disk, INSTANCE, 0, SIZE.bytes()).await.unwrap();
    assert_eq!(bytes(&read), bytes_of(&pieces, SIZE.bytes()));
    let targets = (Target::new(&disk, INSTANCE), Target::new(&other, INSTANCE));
    node.copy(&targets.0, &targets.1, 0, SIZE.bytes()).await.unwrap();
    let sum = node.checksum(&disk, INSTANCE, 0, SIZE.bytes()).await.unwrap();
    assert_eq!(
        node.checksum(&other, INSTANCE, 0, SIZE.bytes()).await.unwrap(),
        sum
    );
    // No multiple of a mebibyte.
    node.wipe(&other, INSTANCE, 4096, 8192).await.unwrap();
    let wiped = node.read(&other, INSTANCE, 0, 16384).await.unwrap();
    let expected = [&data[..4096], &[0; 8192], &data[12288..16384]].concat();
    assert_eq!(bytes(&wiped), expected);
    let beyond = node.read(&disk, INSTANCE, SIZE.bytes(), 1).await;
    assert!(beyond.is_err(), "{beyond:?}");
    for disk in [&disk, &other] {
        node.remove(disk, INSTANCE).await.unwrap();
    }
}

fn bytes(pieces: &[Piece]) -> Vec<u8> {
    let end = pieces.last().map_or(0, |last| last.offset + last.length());
    bytes_of(pieces, end)
}

fn bytes_of(pieces: &[Piece], end: u64) -> Vec<u8> {
    let mut all = vec![0; usize::try_from(end).unwrap()];
    for piece in pieces {
        if let Content::Data(data) = &piece.content {
            let begin = usize::try_from(piece.offset).unwrap();
            all[begin..begin + data.len()].copy_from_slice(data);
        }
    }
    all
}
