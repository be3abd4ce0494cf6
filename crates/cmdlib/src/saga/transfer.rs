//! The steps that take long because they move a disk's data: copying, wiping, writing an image.
//!
//! They go on piece by piece. After each piece, which is then on the disk, the journal is told how far it is, so that whoever goes on
//! after a crash begins there; a piece that is written twice does no harm.

use std::time::Duration;

use gnt_bdev::transfer::{Content, Piece};
use tokio::time::Instant;

use crate::error::{Error, Result};
use crate::node::Node;
use crate::saga::Nodes;
use crate::step::{Pace, Place, Step, Transfer};

/// A piece that a node does by itself.
const ON_NODE: u64 = 32 << 20;
/// A piece that goes through this process.
const THROUGH_US: u64 = 4 << 20;
/// What differs is found in blocks of this size: the smallest that a snapshot of LVM keeps.
const BLOCK: usize = 4096;

/// How far a transfer has come, and who is told.
pub(super) struct Course<F> {
    done: u64,
    tell: F,
}

impl<F: FnMut(u64) -> Result<()>> Course<F> {
    /// So many bytes are done already.
    pub(super) fn new(done: u64, tell: F) -> Self {
        Self { done, tell }
    }

    /// Does what is left, in pieces: `piece` gets where each begins and how long it is, and returns how much of it was written.
    async fn run(
        &mut self,
        transfer: &Transfer,
        most: u64,
        piece: impl AsyncFn(u64, u64) -> Result<u64>,
    ) -> Result<()> {
        let limit = transfer.pace.limit.map(|limit| limit.bytes().max(1));
        // What is allowed in a second is not spent in one moment.
        let most = limit.map_or(most, |limit| most.min(limit));
        while self.done < transfer.bytes {
            let began = limit.map(|_| Instant::now());
            let length = most.min(transfer.bytes - self.done);
            let written = piece(self.done, length).await?;
            self.done += length;
            (self.tell)(self.done)?;
            if let (Some(limit), Some(began)) = (limit, began) {
                tokio::time::sleep_until(began + Duration::from_secs_f64(written as f64 / limit as f64))
                    .await;
            }
        }
        Ok(())
    }
}

/// Does the step, from where its course is.
pub(super) async fn transfer<N: Nodes>(
    nodes: &N,
    step: &Step,
    course: &mut Course<impl FnMut(u64) -> Result<()>>,
) -> Result<()> {
    match step {
        Step::CopyDisk { from, to, transfer } if !transfer.fresh => {
            let update = async |offset, length| {
                let written = update(nodes, from, to, offset, length).await?;
                verify(nodes, transfer.pace, from, to, offset, length).await?;
                Ok(written)
            };
            course.run(transfer, THROUGH_US, update).await
        }
        Step::CopyDisk { from, to, transfer } => {
            let copy = async |offset, length| {
                let written = copy(nodes, from, to, offset, length).await?;
                verify(nodes, transfer.pace, from, to, offset, length).await?;
                Ok(written)
            };
            let most = if from.node == to.node { ON_NODE } else { THROUGH_US };
            course.run(transfer, most, copy).await
        }
        Step::WipeDisk { at, transfer } => {
            let wipe = async |offset, length| {
                let node = at.on(nodes)?;
                node.wipe(&at.disk, &at.instance, offset, length).await?;
                Ok(length)
            };
            course.run(transfer, ON_NODE, wipe).await
        }
        Step::ImageDisk { at, image, transfer } => {
            let write = async |offset, length| {
                let source = nodes.node(&image.node)?;
                let pieces = source.read_image(&image.path, offset, length).await?;
                let node = at.on(nodes)?;
                node.write(&at.disk, &at.instance, &pieces).await?;
                if transfer.pace.verify {
                    let read = node.read(&at.disk, &at.instance, offset, length).await?;
                    if flat(&read) != flat(&pieces) {
                        return Err(differs(at, &image.path, offset));
                    }
                }
                Ok(weight(&pieces))
            };
            course.run(transfer, THROUGH_US, write).await
        }
        _ => Ok(()),
    }
}

/// Copies a piece. Zeros that the source has go nowhere.
async fn copy<N: Nodes>(nodes: &N, from: &Place, to: &Place, offset: u64, length: u64) -> Result<u64> {
    if from.node == to.node {
        let node = from.on(nodes)?;
        node.copy(&from.target(), &to.target(), offset, length).await?;
        return Ok(length);
    }
    let pieces = read(nodes, from, offset, length).await?;
    to.on(nodes)?.write(&to.disk, &to.instance, &pieces).await?;
    Ok(weight(&pieces))
}

/// Writes only what differs. What a snapshot shows is kept elsewhere as soon as its origin changes, for as much as there is room: to write
/// to the origin what it has already would fill that room.
async fn update<N: Nodes>(nodes: &N, from: &Place, to: &Place, offset: u64, length: u64) -> Result<u64> {
    let wanted = flat(&read(nodes, from, offset, length).await?);
    let present = flat(&read(nodes, to, offset, length).await?);
    let mut changed: Vec<Piece> = Vec::new();
    for (number, (wanted, present)) in wanted.chunks(BLOCK).zip(present.chunks(BLOCK)).enumerate() {
        if wanted == present {
            continue;
        }
        let at = offset + (number * BLOCK) as u64;
        match changed.last_mut() {
            Some(last) if last.offset + last.length() == at => {
                if let Content::Data(bytes) = &mut last.content {
                    bytes.extend_from_slice(wanted);
                }
            }
            _ => changed.push(Piece {
                offset: at,
                content: Content::Data(wanted.to_vec()),
            }),
        }
    }
    if !changed.is_empty() {
        to.on(nodes)?.write(&to.disk, &to.instance, &changed).await?;
    }
    Ok(weight(&changed))
}

async fn read<N: Nodes>(nodes: &N, at: &Place, offset: u64, length: u64) -> Result<Vec<Piece>> {
    Ok(at.on(nodes)?.read(&at.disk, &at.instance, offset, length).await?)
}

/// Fails unless a piece is the same on both sides, if that is to be seen to.
async fn verify<N: Nodes>(
    nodes: &N,
    pace: Pace,
    from: &Place,
    to: &Place,
    offset: u64,
    length: u64,
) -> Result<()> {
    if !pace.verify {
        return Ok(());
    }
    let sum = async |at: &Place| -> Result<[u8; 32]> {
        Ok(at
            .on(nodes)?
            .checksum(&at.disk, &at.instance, offset, length)
            .await?)
    };
    match sum(from).await? == sum(to).await? {
        true => Ok(()),
        false => Err(differs(to, &from.disk.to_string(), offset)),
    }
}

fn differs(at: &Place, original: &str, offset: u64) -> Error {
    Error::Differs {
        disk: at.to_string(),
        original: original.to_owned(),
        offset,
    }
}

/// How much of it is data.
fn weight(pieces: &[Piece]) -> u64 {
    let data = |piece: &Piece| match &piece.content {
        Content::Zeros(_) => 0,
        Content::Data(data) => data.len() as u64,
    };
    pieces.iter().map(data).sum()
}

/// The bytes of pieces without gaps.
fn flat(pieces: &[Piece]) -> Vec<u8> {
    let mut bytes = Vec::new();
    for piece in pieces {
        match &piece.content {
            Content::Zeros(length) => {
                bytes.resize(bytes.len() + usize::try_from(*length).unwrap_or_default(), 0)
            }
            Content::Data(data) => bytes.extend_from_slice(data),
        }
    }
    bytes
}
