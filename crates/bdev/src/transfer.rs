//! A disk's bytes: what is read from one assembled disk on this node, and written to another here or elsewhere.
//!
//! The page cache is passed by where the device allows it, so that copying a large disk takes nothing away from the instances that
//! run here. What is zero is neither sent nor written: holes of files are not read, blocks of zeros are found, and the other side makes them
//! holes again where it can. Memory is bounded, whatever the disk's size.

mod buffer;
mod data;
mod error;
#[cfg(test)]
mod tests;

use std::path::Path;

use gnt_config::template;
use sha2::{Digest, Sha256};

pub use self::error::{Doing, TransferError};

use self::data::{BUFFER, Data, Found};
use crate::dev_map::driver;
use crate::driver::Target;
use crate::error::Error;
use crate::host::Host;
use crate::tree::{self, Activation, with_children};

/// Most bytes that [`read`] returns at once.
pub const MAX_READ: u64 = 64 << 20;

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

/// What is in `length` bytes, at most [`MAX_READ`], of an assembled disk from `offset` on: pieces without gaps, in order.
pub fn read(host: &Host, target: &Target<'_>, offset: u64, length: u64) -> Result<Vec<Piece>, Error> {
    on_data(host, target, Doing::Read, |data| pieces(data, offset, length))
}

/// What is in `length` bytes of a block device or file that is no disk; as [`read`].
pub fn read_image(host: &Host, path: &Path, offset: u64, length: u64) -> Result<Vec<Piece>, Error> {
    on_image(host, path, |data| {
        pieces(data, offset, length).map_err(|error| image_failed(host, path, error))
    })
}

/// The size in bytes of a block device or file that is no disk.
pub fn image_size(host: &Host, path: &Path) -> Result<u64, Error> {
    on_image(host, path, |data| Ok(data.bytes))
}

/// Writes pieces to an assembled disk. They are on the disk when this returns.
pub fn write(host: &Host, target: &Target<'_>, pieces: &[Piece]) -> Result<(), Error> {
    let bytes: u64 = pieces.iter().map(Piece::length).sum();
    if host
        .changes
        .only_noted(|| format!("write {bytes} bytes to {}", target.disk))
    {
        return Ok(());
    }
    on_data(host, target, Doing::Write, |data| {
        for piece in pieces {
            data.check(piece.offset, piece.length())?;
        }
        for piece in pieces {
            match &piece.content {
                Content::Zeros(length) => data.zero(piece.offset, *length)?,
                Content::Data(bytes) => data.write_at(piece.offset, bytes)?,
            }
        }
        data.flush()
    })
}

/// Copies a range from one assembled disk to the same place in another. It is on the disk when this returns.
pub fn copy(host: &Host, from: &Target<'_>, to: &Target<'_>, offset: u64, length: u64) -> Result<(), Error> {
    let what = || {
        format!(
            "copy {length} bytes at {offset} from {} to {}",
            from.disk, to.disk
        )
    };
    if host.changes.only_noted(what) {
        return Ok(());
    }
    let mut source = open(host, from, Doing::Read)?;
    let mut written = open(host, to, Doing::Write)?;
    pour(&mut source, &mut written, offset, length).map_err(|(doing, error)| match doing {
        Doing::Read => from.transfer_failed(doing, host, error),
        _ => to.transfer_failed(doing, host, error),
    })
}

/// Copies all of a disk to another, where neither has to be in use (`BlockdevConvert`): Ganeti's nodes leave volumes active when they shut
/// disks down, so its master takes both for usable. What is not is put into use, without a link, and taken out of it afterwards. A mirror
/// is not, as that would need its other half.
pub fn convert(host: &Host, from: &Target<'_>, to: &Target<'_>) -> Result<(), Error> {
    let mut put_into_use = Vec::new();
    let copied = [from, to]
        .into_iter()
        .try_for_each(|target| {
            let in_use = tree::find(host, target)?.is_some_and(|status| status.device.path.is_some());
            if !in_use && !template::INT_MIRROR.contains(target.disk.dev_type.template()) {
                let unlinked = Target::new(target.disk, "");
                put_into_use.push(unlinked);
                tree::assemble(host, &unlinked, Activation::primary(""))?;
            }
            Ok(())
        })
        .and_then(|()| copy(host, from, to, 0, from.disk.size.bytes()));
    let released = put_into_use
        .iter()
        .rev()
        .map(|target| tree::shutdown(host, target).map(drop));
    let failed = std::iter::once(copied).chain(released).filter_map(Result::err);
    Error::all(failed.collect())
}

/// Writes a block device or file that is no disk, and has at most `most` bytes, to the beginning of an assembled disk that has as many
/// (`BlockdevImage`). What is behind it stays. It is on the disk when this returns.
pub fn write_image(host: &Host, path: &Path, to: &Target<'_>, most: u64) -> Result<(), Error> {
    if host
        .changes
        .only_noted(|| format!("write the image {} to {}", path.display(), to.disk))
    {
        return Ok(());
    }
    let refused = |error| to.transfer_failed(Doing::Write, host, error);
    on_image(host, path, |image| {
        let mut written = open(host, to, Doing::Write)?;
        written.check(0, most).map_err(refused)?;
        if image.bytes > most {
            return Err(refused(TransferError::LargeImage {
                path: path.to_owned(),
                bytes: image.bytes,
                most,
            }));
        }
        let bytes = image.bytes;
        pour(image, &mut written, 0, bytes).map_err(|(doing, error)| match doing {
            Doing::Read => image_failed(host, path, error),
            _ => refused(error),
        })
    })
}

/// Copies a range to the same place. Which side failed is told with the error.
fn pour(
    source: &mut Data,
    written: &mut Data,
    offset: u64,
    length: u64,
) -> Result<(), (Doing, TransferError)> {
    let of_written = |error| (Doing::Write, error);
    written.check(offset, length).map_err(of_written)?;
    let mut failed = Doing::Read;
    let copied = source.scan(offset, length, |at, found| {
        let result = match found {
            Found::Zeros(length) => written.zero(at, length),
            Found::Data(bytes) => written.write_at(at, bytes),
        };
        result.inspect_err(|_| failed = Doing::Write)
    });
    copied.map_err(|error| (failed, error))?;
    written.flush().map_err(of_written)
}

/// Writes zeros over a range of an assembled disk (`BlockdevWipe`): what was there is overwritten, not only given back, and a file has
/// room for what will be written. It is on the disk when this returns.
pub fn wipe(host: &Host, target: &Target<'_>, offset: u64, length: u64) -> Result<(), Error> {
    let what = || format!("write zeros over {length} bytes at {offset} of {}", target.disk);
    if host.changes.only_noted(what) {
        return Ok(());
    }
    on_data(host, target, Doing::Wipe, |data| {
        data.write_zeros(offset, length)?;
        data.flush()
    })
}

/// SHA-256 of a range of an assembled disk.
pub fn checksum(host: &Host, target: &Target<'_>, offset: u64, length: u64) -> Result<[u8; 32], Error> {
    on_data(host, target, Doing::Read, |data| {
        let zeros = vec![0; BUFFER];
        let mut sum = Sha256::new();
        data.scan(offset, length, |_, found| {
            match found {
                Found::Data(bytes) => sum.update(bytes),
                Found::Zeros(mut length) => {
                    while length > 0 {
                        let part = usize::try_from(length).map_or(BUFFER, |left| left.min(BUFFER));
                        sum.update(&zeros[..part]);
                        length -= part as u64;
                    }
                }
            }
            Ok(())
        })?;
        Ok(sum.finalize().into())
    })
}

fn pieces(data: &mut Data, offset: u64, length: u64) -> Result<Vec<Piece>, TransferError> {
    if length > MAX_READ {
        return Err(TransferError::TooLong {
            length,
            most: MAX_READ,
        });
    }
    let mut pieces: Vec<Piece> = Vec::new();
    data.scan(offset, length, |offset, found| {
        match (pieces.last_mut().map(|last| &mut last.content), found) {
            (Some(Content::Zeros(before)), Found::Zeros(length)) => *before += length,
            (Some(Content::Data(before)), Found::Data(bytes)) => before.extend_from_slice(bytes),
            (_, found) => pieces.push(Piece {
                offset,
                content: match found {
                    Found::Zeros(length) => Content::Zeros(length),
                    Found::Data(bytes) => Content::Data(bytes.to_vec()),
                },
            }),
        }
        Ok(())
    })?;
    Ok(pieces)
}

fn on_data<T>(
    host: &Host,
    target: &Target<'_>,
    doing: Doing,
    work: impl FnOnce(&mut Data) -> Result<T, TransferError>,
) -> Result<T, Error> {
    let mut data = open(host, target, doing)?;
    work(&mut data).map_err(|error| target.transfer_failed(doing, host, error))
}

fn on_image<T>(
    host: &Host,
    path: &Path,
    work: impl FnOnce(&mut Data) -> Result<T, Error>,
) -> Result<T, Error> {
    let mut image = Data::open(path, false).map_err(|error| image_failed(host, path, error))?;
    work(&mut image)
}

fn image_failed(host: &Host, path: &Path, cause: TransferError) -> Error {
    Error::Image {
        path: path.to_owned(),
        node: host.name.clone(),
        cause: Box::new(cause),
    }
}

/// Opens an assembled disk: its file, within the directories where files may be, or its device.
fn open(host: &Host, target: &Target<'_>, doing: Doing) -> Result<Data, Error> {
    let writing = doing != Doing::Read;
    let failed = |error| target.transfer_failed(doing, host, error);
    with_children(host, target, |target| {
        let driver = driver(target.disk.dev_type)?;
        let device = driver
            .find(host, target)?
            .ok_or(TransferError::NotAssembled)
            .map_err(failed)?;
        let Some(path) = device.path else {
            return Err(failed(match device.uris.into_iter().next() {
                Some(uri) => TransferError::OnlyUri { uri: uri.uri },
                None => TransferError::NotAssembled,
            }));
        };
        let opened = match driver.open_file(host, target, writing)? {
            Some(file) => Data::new(file, &path),
            None => Data::open(&path, writing),
        };
        opened.map_err(failed)
    })
}

impl Target<'_> {
    fn transfer_failed(&self, doing: Doing, host: &Host, cause: TransferError) -> Error {
        Error::Transfer {
            doing,
            disk: self.disk.to_string(),
            node: host.name.clone(),
            cause: Box::new(cause),
        }
    }
}
