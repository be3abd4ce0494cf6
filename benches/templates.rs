//! Disks generated per second, for each template: four for each of a thousand instances. The bare cost is that of the
//! random UUIDs drawn for their names, their own ids and their secrets.

use std::convert::Infallible;
use std::error::Error;

use criterion::{BenchmarkId, Throughput};
use gnt_benches::{Comparison, quick};
use gnt_cmdlib::compute::{DiskSpec, check_requests};
use gnt_cmdlib::generate::{GenerateError, GenerateRequest, generate_disk_template};
use gnt_cmdlib::ids::{DrbdNumbers, Ids, RandomIds};
use gnt_config::template::{MUST_ADOPT, NEEDS_SECONDARY};
use gnt_config::{Disk, DiskTemplate, FileDriver, Object, Secret};
use serde_json::{Value, json};
use strum::IntoEnumIterator;
use uuid::Uuid;

const INSTANCES: usize = 1000;
const DISKS: usize = 4;

fn main() -> Result<(), Box<dyn Error>> {
    let mut criterion = quick();
    let mut ratios = Vec::new();
    let mut group = criterion.benchmark_group("templates");
    group.throughput(Throughput::Elements((INSTANCES * DISKS) as u64));
    for template in DiskTemplate::iter().filter(|template| template.device().is_some()) {
        let wishes = wishes(template)?;
        let mut ids = Counted {
            ids: random_ids(),
            uuids: 0,
        };
        generate_all(template, &wishes, &mut ids)?;
        let uuids = ids.uuids;

        group.bench_function(BenchmarkId::from_parameter(template), |bencher| {
            bencher.iter(|| generate_all(template, &wishes, &mut random_ids()));
        });
        let generate = || generate_all(template, &wishes, &mut random_ids());
        let draw = || (0..uuids).map(|_| Uuid::new_v4().to_string()).collect::<Vec<_>>();
        ratios.push((template, uuids, Comparison::of(21, generate, draw)));
    }
    group.finish();
    report(&ratios);
    Ok(())
}

#[expect(clippy::print_stdout, reason = "a benchmark's result")]
fn report(ratios: &[(DiskTemplate, usize, Comparison)]) {
    for (template, uuids, cost) in ratios {
        println!(
            "{template:<10} {} disks: {cost} of drawing {uuids} UUIDs",
            INSTANCES * DISKS
        );
    }
}

fn wishes(template: DiskTemplate) -> Result<Vec<DiskSpec>, Box<dyn Error>> {
    let wish = |at| match MUST_ADOPT.contains(template) {
        true => Object::from_iter([("adopt".to_owned(), json!(format!("/dev/disk/by-id/{at}")))]),
        false => Object::from_iter([("size".to_owned(), Value::from(10_240))]),
    };
    let requests: Vec<Object> = (0..DISKS).map(wish).collect();
    Ok(check_requests(0, &requests, template, Some("xenvg"))?)
}

/// Disks for all the instances, one call for each.
fn generate_all<I: Ids>(
    template: DiskTemplate,
    disks: &[DiskSpec],
    ids: &mut I,
) -> Result<Vec<Vec<Disk>>, GenerateError<I::Error>> {
    let secondary = ["98a24bd2-28d1-4d0c-a8e5-1b5a1e0bf5d1".to_owned()];
    let request = GenerateRequest {
        template,
        instance_uuid: "1e5e2f1c-9b9f-4d9a-8f25-6c6f2e3ad8a3",
        primary_node: "0c2ad3b3-5f0e-4f6b-9d3c-2d6f4b8f7a11",
        secondary_nodes: &secondary[..usize::from(NEEDS_SECONDARY.contains(template))],
        disks,
        file_storage_dir: Some("/srv/ganeti/file-storage/instance.example.com"),
        file_driver: FileDriver::Loop,
        base_index: 0,
        default_vg: Some("xenvg"),
        default_metavg: Some("xenvg"),
    };
    (0..INSTANCES)
        .map(|_| generate_disk_template(&request, ids))
        .collect()
}

/// Real ids; DRBD numbers from a counter, as in the measurement of Ganeti that we compare with.
fn random_ids() -> impl Ids<Error = Infallible> {
    let mut next = 0;
    RandomIds::new(move |_: &str, _: [&str; 2]| {
        next += 1;
        Ok(DrbdNumbers {
            port: 11_000 + next,
            minors: [next.into(); 2],
        })
    })
}

/// Counts the UUIDs drawn; a secret takes two.
struct Counted<I> {
    ids: I,
    uuids: usize,
}

impl<I: Ids> Ids for Counted<I> {
    type Error = I::Error;

    fn unique_id(&mut self) -> String {
        self.uuids += 1;
        self.ids.unique_id()
    }

    fn drbd(&mut self, disk: &str, nodes: [&str; 2]) -> Result<DrbdNumbers, I::Error> {
        self.ids.drbd(disk, nodes)
    }

    fn secret(&mut self) -> Secret {
        self.uuids += 2;
        self.ids.secret()
    }
}
