//! What is on a volume.

use std::collections::BTreeMap;
use std::hash::{DefaultHasher, Hash, Hasher};

use gnt_bdev::transfer::{Content, Piece};

/// The bytes of a volume that are not zero, in pieces by their offsets: a sparse file.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Bytes(BTreeMap<u64, Vec<u8>>);

impl Bytes {
    /// A volume that begins with this number, which is how tests tell volumes apart.
    pub fn marked(mark: u64) -> Self {
        let mut bytes = Self::default();
        bytes.write(0, &mark.to_le_bytes());
        bytes
    }

    /// The number that the volume begins with.
    pub fn mark(&self) -> u64 {
        self.number(0)
    }

    /// The number at an offset.
    pub fn number(&self, offset: u64) -> u64 {
        let mut number = [0; 8];
        for (at, data) in self.range(offset, 8) {
            let at = (at - offset) as usize;
            number[at..at + data.len()].copy_from_slice(data);
        }
        u64::from_le_bytes(number)
    }

    /// Writes bytes at an offset.
    pub fn write(&mut self, offset: u64, data: &[u8]) {
        self.clear(offset, data.len() as u64);
        if data.iter().any(|byte| *byte != 0) {
            self.0.insert(offset, data.to_vec());
        }
    }

    /// Zeros from `offset` on.
    pub fn clear(&mut self, offset: u64, length: u64) {
        let end = offset.saturating_add(length);
        let before = self.0.range(..offset).next_back();
        let touched: Vec<u64> = before
            .into_iter()
            .chain(self.0.range(offset..end))
            .map(|(at, _)| *at)
            .collect();
        for at in touched {
            let Some(data) = self.0.remove(&at) else { continue };
            let behind = at + data.len() as u64;
            if at < offset {
                let kept = (offset - at).min(data.len() as u64) as usize;
                self.0.insert(at, data[..kept].to_vec());
            }
            if behind > end {
                self.0.insert(end, data[(end - at) as usize..].to_vec());
            }
        }
    }

    /// What is written in a range, clipped to it.
    fn range(&self, offset: u64, length: u64) -> impl Iterator<Item = (u64, &[u8])> {
        let end = offset.saturating_add(length);
        let before = self.0.range(..offset).next_back();
        before
            .into_iter()
            .chain(self.0.range(offset..end))
            .filter_map(move |(at, data)| {
                let from = offset.saturating_sub(*at).min(data.len() as u64);
                let to = (end - at).min(data.len() as u64);
                (from < to).then(|| (at + from, &data[from as usize..to as usize]))
            })
    }

    /// A range as [`crate::Node::read`] tells it.
    pub fn read(&self, offset: u64, length: u64) -> Vec<Piece> {
        let mut pieces = Vec::new();
        let mut next = offset;
        let zeros = |from: u64, to: u64| {
            (from < to).then(|| Piece {
                offset: from,
                content: Content::Zeros(to - from),
            })
        };
        for (at, data) in self.range(offset, length) {
            pieces.extend(zeros(next, at));
            next = at + data.len() as u64;
            pieces.push(Piece {
                offset: at,
                content: Content::Data(data.to_vec()),
            });
        }
        pieces.extend(zeros(next, offset.saturating_add(length)));
        pieces
    }

    /// Writes a piece where it belongs.
    pub fn put(&mut self, piece: &Piece) {
        match &piece.content {
            Content::Zeros(length) => self.clear(piece.offset, *length),
            Content::Data(data) => self.write(piece.offset, data),
        }
    }

    /// Equal for ranges with the same bytes, and for others not; not SHA-256, which the callers do not notice.
    pub fn checksum(&self, offset: u64, length: u64) -> [u8; 32] {
        let mut sum = [0; 32];
        for (salt, part) in (0u8..).zip(sum.chunks_mut(8)) {
            let mut hasher = DefaultHasher::new();
            (salt, length).hash(&mut hasher);
            for (at, data) in self.range(offset, length) {
                for (at, byte) in (at - offset..).zip(data).filter(|(_, byte)| **byte != 0) {
                    (at, byte).hash(&mut hasher);
                }
            }
            part.copy_from_slice(&hasher.finish().to_le_bytes());
        }
        sum
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    proptest! {
        #[test]
        fn is_as_a_flat_array_would_be(writes in prop::collection::vec((0u64..64, 0usize..16, 0u8..3), 0..20), from in 0u64..64, length in 0u64..32) {
            let (mut bytes, mut flat) = (Bytes::default(), vec![0u8; 128]);
            for (offset, length, value) in writes {
                let data = vec![value; length];
                bytes.write(offset, &data);
                flat[offset as usize..offset as usize + length].copy_from_slice(&data);
            }
            let mut read = Vec::new();
            for piece in bytes.read(from, length) {
                prop_assert_eq!(piece.offset, from + read.len() as u64);
                match piece.content {
                    Content::Zeros(length) => read.extend(vec![0; length as usize]),
                    Content::Data(data) => read.extend(data),
                }
            }
            prop_assert_eq!(&read, &flat[from as usize..(from + length) as usize]);
            let mut other = Bytes::default();
            for (offset, byte) in (0..).zip(&flat) {
                other.write(offset, &[*byte]);
            }
            prop_assert_eq!(bytes.checksum(from, length), other.checksum(from, length));
        }
    }
}
