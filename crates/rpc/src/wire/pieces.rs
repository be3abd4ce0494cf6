//! The bytes of a disk beside the JSON that tells what they are.

use gnt_bdev::transfer::{Content, Piece};

/// Of a range: where it begins, how long it is, and whether its bytes follow or all are zero.
pub(super) type Extent = (u64, u64, bool);

/// The bytes are not those that the JSON tells of.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("{told} bytes of data were announced, and {came} came")]
pub struct BadPieces {
    /// How many should come.
    pub told: u64,
    /// How many came.
    pub came: u64,
}

/// What is told of the pieces in JSON, and their bytes.
pub fn split(pieces: &[Piece]) -> (Vec<(u64, u64, bool)>, Vec<u8>) {
    let mut bytes = Vec::new();
    let extent = |piece: &Piece| {
        let has_bytes = match &piece.content {
            Content::Zeros(_) => false,
            Content::Data(data) => {
                bytes.extend_from_slice(data);
                true
            }
        };
        (piece.offset, piece.length(), has_bytes)
    };
    (pieces.iter().map(extent).collect(), bytes)
}

/// The pieces that were [split]. Nothing is made that is larger than `bytes`, and all ends before the largest number.
pub fn join(extents: &[(u64, u64, bool)], bytes: &[u8]) -> Result<Vec<Piece>, BadPieces> {
    let total = extents
        .iter()
        .try_fold(0_u64, |sum, (_, length, _)| sum.checked_add(*length));
    let ends = extents
        .iter()
        .all(|(offset, length, _)| offset.checked_add(*length).is_some());
    let with_bytes = extents.iter().filter(|(_, _, has_bytes)| *has_bytes);
    let told = with_bytes.fold(0_u64, |sum, (_, length, _)| sum.saturating_add(*length));
    let came = bytes.len() as u64;
    if told != came || total.is_none() || !ends {
        return Err(BadPieces { told, came });
    }
    let mut rest = bytes;
    let piece = |(offset, length, has_bytes): &Extent| {
        let content = match has_bytes {
            false => Content::Zeros(*length),
            true => {
                let (data, after) = rest.split_at(usize::try_from(*length).unwrap_or(rest.len()));
                rest = after;
                Content::Data(data.to_vec())
            }
        };
        Piece {
            offset: *offset,
            content,
        }
    };
    Ok(extents.iter().map(piece).collect())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn pieces_are_split_and_joined() {
        let pieces = vec![
            Piece {
                offset: 0,
                content: Content::Data(vec![1, 2]),
            },
            Piece {
                offset: 2,
                content: Content::Zeros(1 << 40),
            },
            Piece {
                offset: (1 << 40) + 2,
                content: Content::Data(vec![3]),
            },
        ];
        let (extents, bytes) = split(&pieces);
        assert_eq!(bytes, [1, 2, 3]);
        assert_eq!(join(&extents, &bytes).unwrap(), pieces);
        assert_eq!(join(&extents, &bytes[1..]), Err(BadPieces { told: 3, came: 2 }));
        assert!(join(&[(1, u64::MAX, false)], &[]).is_err());
        let huge = [(0, u64::MAX, true), (0, u64::MAX, true)];
        assert!(join(&huge, &bytes).is_err());
    }
}
