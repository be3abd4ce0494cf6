//! An open disk or file: where it has data, reading it, writing it.

use std::os::fd::{AsFd, OwnedFd};
use std::path::{Path, PathBuf};
use std::thread;
use std::time::{Duration, Instant};

use rustix::fs::{self as sys, CWD, FallocateFlags, FileType, Mode, OFlags, SeekFrom};
use rustix::io::{Errno, pread, pwrite};

use super::buffer::{ALIGNMENT, Buffer};
use super::error::TransferError;

/// What is read and written at once.
pub(super) const BUFFER: usize = 1 << 20;
/// Zeros are told from data in blocks of this size.
const GRAIN: usize = 64 << 10;

/// How long a device may be another's before it is told to be. A program that another thread starts has what we had open until it runs, and
/// who only looks at a device may hold it for a moment.
const BUSY: Duration = Duration::from_secs(1);
/// Between two attempts.
const PAUSE: Duration = Duration::from_millis(10);

/// What a range holds.
#[derive(Debug, Clone, Copy)]
pub(super) enum Found<'a> {
    /// So many zero bytes.
    Zeros(u64),
    /// These bytes.
    Data(&'a [u8]),
}

/// A disk or file that is open.
#[derive(Debug)]
pub(super) struct Data {
    fd: OwnedFd,
    path: PathBuf,
    /// Its size.
    pub(super) bytes: u64,
    is_file: bool,
    /// Whether the page cache is passed by.
    direct: bool,
    zeroing: &'static [FallocateFlags],
}

/// How ranges are zeroed without writing: first so that they take up no room. Of a block device both leave what reads as zeros
/// (`fallocate(2)`, and `blkdev_fallocate` in the kernel, which never returns a discarded range with other content).
const ZEROING: &[FallocateFlags] = &[
    FallocateFlags::PUNCH_HOLE.union(FallocateFlags::KEEP_SIZE),
    FallocateFlags::ZERO_RANGE.union(FallocateFlags::KEEP_SIZE),
];

impl Data {
    /// Opens a block device or file by its path. A device that is to be written to must not be another's: a file system's, a volume group's.
    pub(super) fn open(path: &Path, writing: bool) -> Result<Self, TransferError> {
        let flags = match writing {
            true => OFlags::RDWR | OFlags::EXCL,
            false => OFlags::RDONLY,
        };
        // A pipe would be waited for, for ever.
        let flags = flags | OFlags::CLOEXEC | OFlags::NONBLOCK;
        let open = || sys::openat(CWD, path, flags, Mode::empty());
        let begun = Instant::now();
        let mut opened = open();
        while matches!(opened, Err(Errno::BUSY)) && begun.elapsed() < BUSY {
            thread::sleep(PAUSE);
            opened = open();
        }
        let fd = opened.map_err(|error| match error {
            Errno::BUSY => TransferError::Busy {
                path: path.to_owned(),
            },
            error => TransferError::Open {
                path: path.to_owned(),
                source: error.into(),
            },
        })?;
        Self::new(fd, path)
    }

    /// What is open already; `path` is for messages.
    pub(super) fn new(fd: OwnedFd, path: &Path) -> Result<Self, TransferError> {
        let io = |errno: Errno| TransferError::Open {
            path: path.to_owned(),
            source: errno.into(),
        };
        let stat = sys::fstat(&fd).map_err(io)?;
        let is_file = match FileType::from_raw_mode(stat.st_mode) {
            FileType::RegularFile => true,
            FileType::BlockDevice => false,
            _ => {
                return Err(TransferError::NotADisk {
                    path: path.to_owned(),
                });
            }
        };
        let bytes = sys::seek(&fd, SeekFrom::End(0)).map_err(io)?;
        let mut data = Self {
            fd,
            path: path.to_owned(),
            bytes,
            is_file,
            direct: false,
            zeroing: ZEROING,
        };
        data.set_direct(true);
        Ok(data)
    }

    /// Fails unless all of the range is within.
    pub(super) fn check(&self, offset: u64, length: u64) -> Result<(), TransferError> {
        match offset.checked_add(length) {
            Some(end) if end <= self.bytes => Ok(()),
            _ => Err(TransferError::Outside {
                offset,
                length,
                bytes: self.bytes,
            }),
        }
    }

    /// Passes the page cache by, or no longer does. Where that is not possible it is used.
    fn set_direct(&mut self, direct: bool) {
        let Ok(mut flags) = sys::fcntl_getfl(&self.fd) else {
            return;
        };
        flags.set(OFlags::DIRECT, direct);
        if sys::fcntl_setfl(&self.fd, flags).is_ok() {
            self.direct = direct;
        }
    }

    /// Tells what is in a range, from its beginning to its end. Holes of files are not read.
    pub(super) fn scan(
        &mut self,
        offset: u64,
        length: u64,
        mut each: impl FnMut(u64, Found<'_>) -> Result<(), TransferError>,
    ) -> Result<(), TransferError> {
        self.check(offset, length)?;
        let end = offset + length;
        let mut buffer = Buffer::new(BUFFER);
        let mut at = offset;
        while at < end {
            let (data, hole) = self.extent(at, end);
            if data > at {
                each(at, Found::Zeros(data - at))?;
            }
            at = data;
            while at < hole {
                let wanted = usize::try_from(hole - at).map_or(BUFFER, |left| left.min(BUFFER));
                self.read_at(at, &mut buffer, wanted)?;
                for (start, length, is_zero) in runs(&buffer[..wanted]) {
                    let from = at + start as u64;
                    match is_zero {
                        true => each(from, Found::Zeros(length as u64))?,
                        false => each(from, Found::Data(&buffer[start..start + length]))?,
                    }
                }
                at += wanted as u64;
            }
        }
        Ok(())
    }

    /// Where the first data at or after `at` begins, and where it ends: holes are before and behind it.
    fn extent(&self, at: u64, end: u64) -> (u64, u64) {
        if !self.is_file {
            return (at, end);
        }
        let data = match sys::seek(&self.fd, SeekFrom::Data(at)) {
            Ok(data) => data.clamp(at, end),
            // Nothing but a hole follows.
            Err(Errno::NXIO) => return (end, end),
            // A file system that does not tell.
            Err(_) => return (at, end),
        };
        let hole = sys::seek(&self.fd, SeekFrom::Hole(data)).unwrap_or(end);
        (data, hole.clamp(data, end))
    }

    /// Reads `wanted` bytes into the beginning of `buffer`.
    fn read_at(&mut self, offset: u64, buffer: &mut Buffer, wanted: usize) -> Result<(), TransferError> {
        self.stay_aligned(offset);
        let mut done = 0;
        while done < wanted {
            // Beyond the end nothing is read, whatever is asked for.
            let length = match self.direct {
                true => wanted.next_multiple_of(ALIGNMENT).min(buffer.len()),
                false => wanted,
            };
            let at = offset + done as u64;
            match pread(&self.fd, &mut buffer[done..length], at) {
                Ok(0) => return Err(self.io("read", at, Errno::IO)),
                Ok(read) => done += read,
                Err(Errno::INTR) => {}
                Err(Errno::INVAL) if self.direct => self.set_direct(false),
                Err(error) => return Err(self.io("read", at, error)),
            }
            if done % ALIGNMENT != 0 && done < wanted {
                self.set_direct(false);
            }
        }
        Ok(())
    }

    /// Writes bytes.
    pub(super) fn write_at(&mut self, offset: u64, bytes: &[u8]) -> Result<(), TransferError> {
        self.check(offset, bytes.len() as u64)?;
        self.stay_aligned(offset);
        self.stay_aligned(bytes.len() as u64);
        if self.direct && bytes.as_ptr().align_offset(ALIGNMENT) != 0 {
            let mut buffer = Buffer::new(bytes.len().min(BUFFER));
            let mut at = offset;
            for part in bytes.chunks(BUFFER) {
                buffer[..part.len()].copy_from_slice(part);
                self.write_as_is(at, &buffer[..part.len()])?;
                at += part.len() as u64;
            }
            return Ok(());
        }
        self.write_as_is(offset, bytes)
    }

    fn write_as_is(&mut self, offset: u64, bytes: &[u8]) -> Result<(), TransferError> {
        let mut done = 0;
        while done < bytes.len() {
            let at = offset + done as u64;
            match pwrite(&self.fd, &bytes[done..], at) {
                Ok(0) => return Err(self.io("write", at, Errno::IO)),
                Ok(written) => done += written,
                Err(Errno::INTR) => {}
                Err(Errno::INVAL) if self.direct => self.set_direct(false),
                Err(error) => return Err(self.io("write", at, error)),
            }
            if done % ALIGNMENT != 0 {
                self.set_direct(false);
            }
        }
        Ok(())
    }

    /// Makes a range read as zeros, without writing them where that is possible.
    pub(super) fn zero(&mut self, offset: u64, length: u64) -> Result<(), TransferError> {
        self.check(offset, length)?;
        if length == 0 {
            return Ok(());
        }
        while let Some((how, others)) = self.zeroing.split_first() {
            match sys::fallocate(&self.fd, *how, offset, length) {
                Ok(()) => return Ok(()),
                Err(Errno::INTR) => {}
                Err(Errno::NOSPC | Errno::DQUOT) => return Err(self.io("zero", offset, Errno::NOSPC)),
                // It cannot, or not this range.
                Err(_) => self.zeroing = others,
            }
        }
        self.write_zeros(offset, length)
    }

    /// Writes zeros over a range, whatever was there.
    pub(super) fn write_zeros(&mut self, offset: u64, length: u64) -> Result<(), TransferError> {
        self.check(offset, length)?;
        let zeros = Buffer::new(BUFFER);
        let (mut at, end) = (offset, offset + length);
        while at < end {
            let part = usize::try_from(end - at).map_or(BUFFER, |left| left.min(BUFFER));
            self.write_at(at, &zeros[..part])?;
            at += part as u64;
        }
        Ok(())
    }

    /// Returns when what was written would survive a power cut.
    pub(super) fn flush(&self) -> Result<(), TransferError> {
        sys::fdatasync(self.fd.as_fd()).map_err(|error| self.io("flush", 0, error))
    }

    /// Without the page cache only whole blocks are read and written.
    fn stay_aligned(&mut self, number: u64) {
        if self.direct && !number.is_multiple_of(ALIGNMENT as u64) {
            self.set_direct(false);
        }
    }

    fn io(&self, doing: &'static str, offset: u64, errno: Errno) -> TransferError {
        TransferError::Io {
            doing,
            path: self.path.clone(),
            offset,
            source: errno.into(),
        }
    }
}

/// The runs of zero and of other blocks in `bytes`: where each begins, its length, and whether it is zero.
fn runs(bytes: &[u8]) -> Vec<(usize, usize, bool)> {
    let mut runs: Vec<(usize, usize, bool)> = Vec::new();
    for (number, block) in bytes.chunks(GRAIN).enumerate() {
        let zero = is_zero(block);
        match runs.last_mut() {
            Some((_, length, same)) if *same == zero => *length += block.len(),
            _ => runs.push((number * GRAIN, block.len(), zero)),
        }
    }
    runs
}

/// Every byte is as its neighbour, and the first is zero.
fn is_zero(block: &[u8]) -> bool {
    match block {
        [] => true,
        [first, rest @ ..] => *first == 0 && block[..rest.len()] == *rest,
    }
}
