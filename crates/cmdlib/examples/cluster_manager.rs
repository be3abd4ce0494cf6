//! A cluster manager that keeps its own configuration: it lays out an instance's disks, makes them on a node, puts them into
//! use, grows and removes them. As root: `cargo run -p gnt-cmdlib --example cluster_manager`.
#![expect(clippy::print_stdout, reason = "an example shows what it does")]

use std::convert::Infallible;
use std::path::Path;
use std::sync::Arc;

use gnt_bdev::{Host, Layer};
use gnt_cmdlib::compute::check_requests;
use gnt_cmdlib::generate::{GenerateRequest, generate_disk_template};
use gnt_cmdlib::ids::{DrbdNumbers, RandomIds};
use gnt_cmdlib::node::{NodeError, Role};
use gnt_cmdlib::{LocalNode, Node};
use gnt_config::params::DiskParams;
use gnt_config::{Disk, DiskTemplate, Mebibytes, Settings};
use gnt_process::System;

type Failure = Box<dyn std::error::Error>;
const INSTANCE: &str = "web1";

/// The manager's own store is a list of disks.
async fn live(node: &LocalNode, disks: &mut [Disk], params: &DiskParams) -> Result<(), Failure> {
    for disk in disks {
        let ready = params.annotate(disk)?;
        node.create(&ready, INSTANCE, "made by the example").await?;
        let assembled = node.assemble(&ready, INSTANCE, Role::Primary).await?;
        println!("{ready}: {}", assembled.link.ok_or("no link")?.display());
        let to = disk.size + Mebibytes(32);
        node.grow(&ready, INSTANCE, to, Layer::BackingStore, false)
            .await?;
        disk.record_grow(Mebibytes(32))?;
        let status = node.find(&ready, INSTANCE).await?.ok_or("no device")?;
        println!("{ready}: {:?} bytes, configured {to}", status.device.bytes);
    }
    Ok(())
}

/// Its own idea of an error: the node's, with what the user can do.
fn told(error: NodeError) -> String {
    format!("{error}; {}", error.hint().unwrap_or_default())
}

async fn clean_up(node: &LocalNode, disks: &[Disk], params: &DiskParams) -> Result<(), Failure> {
    for disk in disks {
        let ready = params.annotate(disk)?;
        node.shutdown(&ready, INSTANCE).await.map_err(told)?;
        node.remove(&ready, INSTANCE).await.map_err(told)?;
    }
    Ok(())
}

async fn run(state: &Path) -> Result<(), Failure> {
    let mut settings = Settings::under(state);
    settings.es_search_path = vec![Path::new(env!("CARGO_MANIFEST_DIR")).join("../../providers")];
    let node = LocalNode::new(Host::new("node1", &settings, state, Arc::new(System)));
    let params = DiskParams::default();

    let wishes: Vec<_> = serde_json::from_str(r#"[{"size": "64M"}, {"size": "32M", "name": "logs"}]"#)?;
    let specs = check_requests(0, &wishes, DiskTemplate::Ext, None)?;
    let request = GenerateRequest::new(DiskTemplate::Ext, "web1-uuid", "node1-uuid", &specs);
    // Only drbd disks need numbers.
    let no_drbd = |_: &str, _: [&str; 2]| Ok::<DrbdNumbers, Infallible>(DrbdNumbers::default());
    let mut disks = generate_disk_template(&request, &mut RandomIds::new(no_drbd))?;

    let lived = live(&node, &mut disks, &params).await;
    lived.and(clean_up(&node, &disks, &params).await)
}

fn main() -> Result<(), Failure> {
    let state = tempfile::tempdir()?;
    let runtime = tokio::runtime::Builder::new_current_thread().build()?;
    runtime.block_on(run(state.path()))
}
