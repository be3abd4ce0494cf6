//! A virtual machine as far as its disk can tell: it writes numbered blocks, one after the other, and tells of each that the disk has
//! acknowledged. Its memory, which a migration moves, is the number of the last one.
//!
//! Each node has a process for it, which waits until the machine is to run there. They meet in a directory outside the guests, in which
//! `ready.NODE` says that there is one, `to-run.NODE` where it is to run, `running.NODE` where it does, and `acked.NODE` what the disk acknowledged there last.

use std::fs::{self, File};
use std::io::{self, ErrorKind};
use std::os::unix::fs::FileExt as _;
use std::path::{Path, PathBuf};
use std::thread;
use std::time::{Duration, Instant};

use crate::error::Error;

/// Size of a block in bytes.
const BLOCK: usize = 4096;

/// How far blocks are apart on the disk, in bytes.
const STRIDE: u64 = 32 << 10;

/// How many places for blocks a disk has. The next block then replaces the first.
const PLACES: u64 = 1000;

/// What it does besides writing takes this long.
const PAUSE: Duration = Duration::from_millis(5);

/// How long a machine may take to stop, or to start.
const PATIENCE: Duration = Duration::from_secs(60);

/// The directory in which the processes of a machine meet.
#[derive(Debug, Clone)]
pub struct Machine(PathBuf);

impl Machine {
    /// The machine that has this directory.
    pub fn new(dir: &Path) -> Self {
        Self(dir.to_owned())
    }

    /// Is the machine on a node, whose disk is `device` there, as often as it is to run there. Ends when it is [given up](Self::give_up), or
    /// its disk fails.
    ///
    /// # Errors
    /// When its disk fails, or its directory.
    pub fn run(&self, node: &str, device: &Path) -> Result<(), Error> {
        let ready = self.file("ready", node);
        fs::write(&ready, "").map_err(Error::file(&ready))?;
        while ready.exists() {
            if self.file("to-run", node).exists() {
                self.run_here(node, device)?;
            }
            thread::sleep(PAUSE);
        }
        Ok(())
    }

    /// Ends its process on a node.
    ///
    /// # Errors
    /// Of its directory.
    pub fn give_up(&self, node: &str) -> Result<(), Error> {
        remove(&self.file("ready", node))
    }

    fn run_here(&self, node: &str, device: &Path) -> Result<(), Error> {
        let running = self.file("running", node);
        let disk = File::options().read(true).write(true).open(device);
        let disk = disk.map_err(Error::file(device))?;
        let mut number = self.acknowledged()?;
        let acked = self.file("acked", node);
        let log = File::options()
            .create(true)
            .truncate(false)
            .write(true)
            .open(&acked)
            .map_err(Error::file(&acked))?;
        fs::write(&running, "").map_err(Error::file(&running))?;
        while self.file("to-run", node).exists() {
            number += 1;
            disk.write_all_at(&block(number), place(number))
                .and_then(|()| disk.sync_data())
                .map_err(Error::file(device))?;
            log.write_all_at(format!("{number:020}").as_bytes(), 0)
                .map_err(Error::file(&acked))?;
            thread::sleep(PAUSE);
        }
        drop(disk);
        fs::remove_file(&running).map_err(Error::file(&running))
    }

    /// Lets it run on a node, and waits until it does.
    ///
    /// # Errors
    /// When it does not.
    pub fn start(&self, node: &str) -> Result<(), Error> {
        let file = self.file("to-run", node);
        fs::write(&file, "").map_err(Error::file(&file))?;
        let running = self.file("running", node);
        until(&running, || Ok(running.exists()))
    }

    /// Stops it on a node, and waits until it has; if the process there is dead, it has.
    ///
    /// # Errors
    /// When it does not.
    pub fn stop(&self, node: &str) -> Result<(), Error> {
        let file = self.file("to-run", node);
        remove(&file)?;
        let running = self.file("running", node);
        until(&running, || Ok(!running.exists()))
    }

    /// The power of its node was cut, or its process killed.
    ///
    /// # Errors
    /// Of its directory.
    pub fn died(&self, node: &str) -> Result<(), Error> {
        remove(&self.file("to-run", node))?;
        remove(&self.file("running", node))
    }

    /// Moves it: what a live migration does with the memory of a virtual machine.
    ///
    /// # Errors
    /// When it does not stop on the one node, or does not start on the other.
    pub fn hand_over(&self, from: &str, to: &str) -> Result<(), Error> {
        self.stop(from)?;
        self.start(to)
    }

    /// Whether it runs on a node.
    pub fn runs_on(&self, node: &str) -> bool {
        self.file("running", node).exists()
    }

    /// The last block that a disk acknowledged, or 0.
    ///
    /// # Errors
    /// Of its directory.
    pub fn acknowledged(&self) -> Result<u64, Error> {
        let mut last = 0;
        for entry in fs::read_dir(&self.0).map_err(Error::file(&self.0))? {
            let path = entry.map_err(Error::file(&self.0))?.path();
            if path.file_stem().is_some_and(|stem| stem == "acked") {
                let text = fs::read_to_string(&path).map_err(Error::file(&path))?;
                last = last.max(text.trim().parse().unwrap_or(0));
            }
        }
        Ok(last)
    }

    /// Waits until the disk has acknowledged so many blocks more.
    ///
    /// # Errors
    /// When it does not.
    pub fn goes_on(&self, blocks: u64) -> Result<(), Error> {
        let goal = self.acknowledged()? + blocks;
        until(&self.0, || Ok(self.acknowledged()? >= goal))
    }

    /// Fails unless all that was acknowledged is on a disk. Returns how many blocks that are.
    ///
    /// # Errors
    /// When a block is not there.
    pub fn check(&self, device: &Path) -> Result<u64, Error> {
        let disk = File::open(device).map_err(Error::file(device))?;
        let read = |number| -> Result<Vec<u8>, Error> {
            let mut read = vec![0; BLOCK];
            let from = disk.read_exact_at(&mut read, place(number));
            from.map_err(Error::file(device)).map(|()| read)
        };
        let mut last = self.acknowledged()?;
        // A node that lost its power may not have told of the last ones.
        while read(last + 1)? == block(last + 1) {
            last += 1;
        }
        for expected in last.saturating_sub(PLACES - 1).max(1)..=last {
            let read = read(expected)?;
            if read != block(expected) {
                let found = read.first_chunk().copied().map(u64::from_le_bytes);
                let found = found.unwrap_or_default();
                let text = format!("block {expected} of {last} is not there, but {found}");
                return Err(Error::file(device)(io::Error::other(text)));
            }
        }
        Ok(last)
    }

    fn file(&self, what: &str, node: &str) -> PathBuf {
        self.0.join(format!("{what}.{node}"))
    }
}

fn place(number: u64) -> u64 {
    number % PLACES * STRIDE
}

/// A block in which no part is that of another one.
fn block(number: u64) -> Vec<u8> {
    let words =
        (0..BLOCK as u64 / 8).map(|word| number.wrapping_add(word.wrapping_mul(0x9e37_79b9_7f4a_7c15)));
    words.flat_map(u64::to_le_bytes).collect()
}

fn remove(file: &Path) -> Result<(), Error> {
    match fs::remove_file(file) {
        Err(error) if error.kind() != ErrorKind::NotFound => Err(Error::file(file)(error)),
        _ => Ok(()),
    }
}

fn until(file: &Path, done: impl Fn() -> Result<bool, Error>) -> Result<(), Error> {
    let end = Instant::now() + PATIENCE;
    while !done()? {
        if Instant::now() > end {
            return Err(Error::file(file)(ErrorKind::TimedOut.into()));
        }
        thread::sleep(PAUSE);
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_machine_is_moved_and_what_it_wrote_is_looked_for() {
        let dir = tempfile::tempdir().unwrap();
        let disk = dir.path().join("disk");
        fs::write(&disk, "").unwrap();
        let size = PLACES * STRIDE;
        File::options()
            .write(true)
            .open(&disk)
            .unwrap()
            .set_len(size)
            .unwrap();
        let meeting = dir.path().join("machine");
        fs::create_dir(&meeting).unwrap();
        let machine = Machine::new(&meeting);
        let run = |node: &'static str| {
            let (machine, disk) = (machine.clone(), disk.clone());
            thread::spawn(move || machine.run(node, &disk))
        };
        let processes = ["n1", "n2"].map(run);

        machine.start("n1").unwrap();
        machine.goes_on(5).unwrap();
        machine.hand_over("n1", "n2").unwrap();
        assert!(machine.runs_on("n2") && !machine.runs_on("n1"));
        machine.goes_on(5).unwrap();
        machine.stop("n2").unwrap();
        let last = machine.acknowledged().unwrap();
        assert!(last >= 10);
        assert_eq!(machine.check(&disk).unwrap(), last);

        let damaged = File::options().write(true).open(&disk).unwrap();
        damaged.write_all_at(&block(3), place(7)).unwrap();
        let error = machine.check(&disk).unwrap_err();
        assert!(format!("{error:?}").contains(&format!("block 7 of {last} is not there, but 3")));
        damaged.write_all_at(&block(7), place(7)).unwrap();
        damaged.write_all_at(&[1], place(last) + 4000).unwrap();
        machine.check(&disk).unwrap_err();

        for (process, node) in processes.into_iter().zip(["n1", "n2"]) {
            machine.give_up(node).unwrap();
            process.join().unwrap().unwrap();
        }
    }
}
