//! One committed change while 100, 10,000 and 100,000 disks are stored, as a multiple of what it cannot do without: writing as
//! much to a file and waiting until it is on the disk.

use std::error::Error;
use std::fs::File;
use std::io::{Seek, SeekFrom, Write};
use std::path::Path;

use criterion::BenchmarkId;
use gnt_benches::{Comparison, quick};
use gnt_config::{Disk, LogicalDevice, LogicalId, Mebibytes};
use gnt_store::{Change, Store};

const STORED: [usize; 3] = [100, 10_000, 100_000];
const ROUNDS: usize = 200;
/// Disks stored at once while the store is filled.
const BATCH: usize = 10_000;
/// What SQLite appends to its log for the smallest change: a page of 4096 bytes and its header.
const PAGE: usize = 4096 + 24;

fn main() -> Result<(), Box<dyn Error>> {
    let mut criterion = quick();
    let mut group = criterion.benchmark_group("store_commit");
    let mut ratios = Vec::new();
    for stored in STORED {
        let state = tempfile::tempdir()?;
        let store = filled(state.path(), stored)?;
        let mut size = 1024;
        let mut commit = || {
            size += 1;
            store.commit(&[Change::Disk(Disk {
                size: Mebibytes(size),
                ..disk(0)
            })])
        };
        commit()?;
        group.bench_function(BenchmarkId::from_parameter(stored), |bencher| {
            bencher.iter(&mut commit)
        });
        let mut file = File::create(state.path().join("bare"))?;
        ratios.push((stored, Comparison::of(ROUNDS, commit, || append(&mut file))));
    }
    group.finish();
    for (stored, cost) in ratios {
        report(stored, cost);
    }
    Ok(())
}

#[expect(clippy::print_stdout, reason = "a benchmark's result")]
fn report(stored: usize, cost: Comparison) {
    println!("{stored:>6} disks stored: one change {cost} of one write and fsync");
}

fn append(file: &mut File) -> std::io::Result<()> {
    file.write_all(&[0; PAGE])?;
    file.sync_data()?;
    if file.stream_position()? > 1 << 22 {
        file.seek(SeekFrom::Start(0))?;
    }
    Ok(())
}

fn filled(state: &Path, disks: usize) -> Result<Store, Box<dyn Error>> {
    let store = Store::open(state)?;
    let all: Vec<Change> = (0..disks).map(|number| Change::Disk(disk(number))).collect();
    for batch in all.chunks(BATCH) {
        store.commit(batch)?;
    }
    Ok(store)
}

fn disk(number: usize) -> Disk {
    let volume = format!("{number:08x}-0000-4000-8000-000000000000.ext.disk0");
    let id = LogicalId::Ext {
        provider: "ext".to_owned(),
        volume,
    };
    Disk {
        uuid: format!("{number:08x}-1111-4000-8000-000000000000"),
        ..Disk::new(LogicalDevice::Ext, id, Mebibytes(1024))
    }
}
