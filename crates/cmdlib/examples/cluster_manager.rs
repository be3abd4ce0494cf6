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
use gnt_cmdlib::node::NodeError;
use gnt_cmdlib::{LocalNode, Node};
use gnt_config::params::DiskParams;
use gnt_config::{Disk, DiskTemplate, Mebibytes, Settings};
use gnt_process::System;

type Failure = Box<dyn std::error::Error>;

/// The manager's own store.
struct Manager {
    node: LocalNode,
    params: DiskParams,
    disks: Vec<Disk>,
}

impl Manager {
    /// One disk's life, as far as its node is asked. The manager's configuration follows the node.
    async fn live(&mut self, index: usize, instance: &str) -> Result<(), Failure> {
        let disk = &mut self.disks[index];
        let ready = self.params.annotate(disk)?;
        self.node.create(&ready, instance, "made by the example").await?;
        let assembled = self.node.assemble(&ready, instance).await?;
        println!("{ready}: {}", assembled.link.ok_or("no link")?.display());
        let by = Mebibytes(32);
        self.node
            .grow(&ready, instance, disk.size + by, Layer::BackingStore, false)
            .await?;
        disk.record_grow(by)?;
        let status = self.node.find(&ready, instance).await?.ok_or("no device")?;
        println!(
            "{ready}: {:?} bytes, configured {}",
            status.device.bytes, disk.size
        );
        Ok(())
    }

    /// Its own idea of an error: the node's, told with what the user can do.
    async fn clean_up(&self, instance: &str) -> Result<(), String> {
        let told = |error: NodeError| format!("{error}; {}", error.hint().unwrap_or_default());
        for disk in &self.disks {
            let ready = self.params.annotate(disk).map_err(|error| error.to_string())?;
            self.node.shutdown(&ready, instance).await.map_err(told)?;
            self.node.remove(&ready, instance).await.map_err(told)?;
        }
        Ok(())
    }
}

async fn run(state: &Path) -> Result<(), Failure> {
    let providers = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../providers");
    let settings = Settings {
        es_search_path: vec![providers],
        ..Settings::under(state)
    };
    let wishes: Vec<_> = serde_json::from_str(r#"[{"size": "64M"}, {"size": "32M", "name": "logs"}]"#)?;
    let specs = check_requests(0, &wishes, DiskTemplate::Ext, None)?;
    let request = GenerateRequest::new(DiskTemplate::Ext, "web1-uuid", "node1-uuid", &specs);
    let mut ids = RandomIds::new(|_, _| {
        Ok::<_, Infallible>(DrbdNumbers {
            port: 11000,
            minors: [0, 0],
        })
    });
    let node = LocalNode::new(Host::new("node1", &settings, state, Arc::new(System)));
    let disks = generate_disk_template(&request, &mut ids)?;
    let mut manager = Manager {
        node,
        params: DiskParams::default(),
        disks,
    };
    let mut lived = Ok(());
    for index in 0..manager.disks.len() {
        lived = lived.and(manager.live(index, "web1").await);
    }
    lived.and(manager.clean_up("web1").await.map_err(Failure::from))
}

fn main() -> Result<(), Failure> {
    let state = tempfile::tempdir()?;
    tokio::runtime::Builder::new_current_thread()
        .build()?
        .block_on(run(state.path()))
}
