//! `node join`: what a machine does to become a node.

use std::fs::File;
use std::io::{self, Read as _};
use std::path::Path;

use gnt_rpc::keys::Bundle;
use serde_json::json;

use crate::args::Global;
use crate::context::{PROVIDERS, state_directory};
use crate::embedded;
use crate::failure::Failure;
use crate::output::Answer;

/// More than any bundle has.
const LIMIT: u64 = 1 << 20;

const HELP: &str = "\
The master node makes the bundle with 'gnt-disk node add NAME --bundle FILE'; with --ssh it does this too. The bundle has the node's \
private key: whoever has it can be taken for the node. The same machine can join again, with new keys.

Examples:
  gnt-disk node join /root/node2.bundle
  ssh node1 cat node2.bundle | gnt-disk node join -";

/// Make this machine a node of a cluster
#[derive(Debug, clap::Args)]
#[command(after_long_help = HELP)]
pub(crate) struct Args {
    /// The bundle that the master node made for this node; - for standard input
    bundle: String,
}

pub(super) fn run(global: &Global, args: &Args) -> Result<Answer, Failure> {
    let state = state_directory(global)?;
    let (json, what) = match args.bundle.as_str() {
        "-" => (read(io::stdin().lock()), "standard input"),
        file => (File::open(file).and_then(read), file),
    };
    let json = json.map_err(|source| Failure::file("read", Path::new(what), source))?;
    let bundle = Bundle::from_json(&json, what)?;
    let (node, cluster) = (&bundle.config.name, &bundle.config.cluster_name);
    if global.dry_run {
        let line = format!(
            "# make this machine node {node} of cluster {cluster} in {}",
            state.display()
        );
        return Ok(Answer::dry_run(&[line]));
    }
    bundle.install(&state)?;
    embedded::install(&state.join(PROVIDERS))?;
    Ok(Answer::new(json!({"node": node, "cluster": cluster}), ""))
}

fn read(from: impl io::Read) -> io::Result<Vec<u8>> {
    let mut bytes = Vec::new();
    from.take(LIMIT).read_to_end(&mut bytes)?;
    Ok(bytes)
}
