//! What a cluster manager does that keeps its own configuration: it lays out an instance's disks, makes them on a node,
//! puts them into use, grows one and removes them. `cargo run -p gnt-cmdlib --example cluster_manager`, as root.

use std::collections::HashMap;
use std::convert::Infallible;
use std::path::Path;
use std::sync::Arc;

use gnt_bdev::{Host, Layer};
use gnt_cmdlib::compute::check_requests;
use gnt_cmdlib::generate::{GenerateRequest, generate_disk_template};
use gnt_cmdlib::ids::{DrbdNumbers, RandomIds};
use gnt_cmdlib::{LocalNode, Node};
use gnt_config::params::DiskParams;
use gnt_config::{Disk, DiskTemplate, FileDriver, Mebibytes, Settings};
use gnt_process::System;

/// The manager's own configuration: instances and their disks.
type Configuration = HashMap<String, Vec<Disk>>;

/// The manager's own errors: any of the libraries' is one.
type Failure = Box<dyn std::error::Error>;

/// The manager's own way to hand out DRBD ports and minors.
fn drbd_numbers(_disk: &str, _nodes: [&str; 2]) -> Result<DrbdNumbers, Infallible> {
    Ok(DrbdNumbers {
        port: 11000,
        minors: [0, 0],
    })
}

async fn run(state: &Path) -> Result<(), Failure> {
    let providers = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../providers");
    let settings = Settings {
        es_search_path: vec![providers],
        ..Settings::under(state)
    };
    let node = LocalNode::new(Host::new("node1", &settings, state, Arc::new(System)));
    let mut configuration = Configuration::new();

    let wish = serde_json::from_str(r#"[{"size": "64M"}, {"size": "32M", "name": "logs"}]"#)?;
    let wish: Vec<_> = wish;
    let request = GenerateRequest {
        template: DiskTemplate::Ext,
        instance_uuid: "7f5c1a9e-8f1f-4f0e-9d8f-3b1f3c1d2a77",
        primary_node: "node1-uuid",
        secondary_nodes: &[],
        disks: &check_requests(0, &wish, DiskTemplate::Ext, None)?,
        file_storage_dir: None,
        file_driver: FileDriver::Loop,
        base_index: 0,
        default_vg: None,
        default_metavg: None,
    };
    let disks = generate_disk_template(&request, &mut RandomIds::new(drbd_numbers))?;
    configuration.insert("web1".to_owned(), disks);

    let params = DiskParams::default();
    for (instance, disks) in &mut configuration {
        for disk in disks {
            let mut ready = params.annotate(disk)?;
            node.create(&ready, instance, "made by the example").await?;
            let assembled = node.assemble(&ready, instance).await?;
            println!("{ready} is {:?}", assembled.device.and_then(|device| device.path));

            node.grow(
                &ready,
                instance,
                disk.size + Mebibytes(32),
                Layer::BackingStore,
                false,
            )
            .await?;
            disk.record_grow(Mebibytes(32))?;
            ready = params.annotate(disk)?;
            println!(
                "{ready} has {:?} now",
                node.find(&ready, instance)
                    .await?
                    .and_then(|status| status.device.bytes)
            );

            node.shutdown(&ready, instance).await?;
            node.remove(&ready, instance).await?;
        }
    }
    Ok(())
}

fn main() -> Result<(), Failure> {
    let state = tempfile::tempdir()?;
    tokio::runtime::Builder::new_current_thread()
        .build()?
        .block_on(run(state.path()))
}
