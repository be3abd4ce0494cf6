//! A disk's bytes.

/// A range of a disk, and what is in it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Piece {
    /// Where it begins, in bytes from the beginning of the disk.
    pub offset: u64,
    /// What is in it.
    pub content: Content,
}

/// What a range of a disk holds.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Content {
    /// So many zero bytes: a hole, or written ones.
    Zeros(u64),
    /// These bytes.
    Data(Vec<u8>),
}

impl Piece {
    /// How many bytes it covers.
    pub fn length(&self) -> u64 {
        match &self.content {
            Content::Zeros(length) => *length,
            Content::Data(data) => data.len() as u64,
        }
    }
}
