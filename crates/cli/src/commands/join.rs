//! `node join`: makes this machine a node of a cluster that is managed elsewhere.

use std::fs;
use std::io::{self, Read as _};
use std::path::{Path, PathBuf};

use gnt_rpc::keys::Bundle;
use serde_json::json;

use crate::args::Global;
use crate::context::{self, Context};
use crate::failure::Failure;
use crate::output::Answer;

const HELP: &str = "\
The bundle is what 'gnt-disk node add' wrote on the manager. It holds the node's key: bring it over a way that nobody \
else can read, and remove it afterwards. A node that joins again gets new keys and settings.

Examples:
  gnt-disk node join node2.json
  ssh manager gnt-disk node add node2 192.0.2.11 --bundle - | gnt-disk node join -
  gnt-disk serve";

/// Most that is read of a bundle.
const MAX_BUNDLE: u64 = 1 << 20;

/// Make this machine a node of a cluster
#[derive(Debug, clap::Args)]
#[command(after_long_help = HELP)]
pub(crate) struct Args {
    /// The node's bundle; - reads it from standard input
    #[arg(value_name = "BUNDLE")]
    bundle: PathBuf,
}

pub(crate) fn run(global: &Global, args: &Args) -> Result<Answer, Failure> {
    let state = context::state_directory(global)?;
    if Context::has_cluster(&state)? {
        return Err(Failure::Initialised { state });
    }
    let what = match args.bundle == Path::new("-") {
        true => "standard input".to_owned(),
        false => args.bundle.display().to_string(),
    };
    let json = read(&args.bundle).map_err(|source| Failure::file("read", &what, source))?;
    let bundle = Bundle::from_json(&json, &what)?;
    let config = &bundle.config;
    if global.dry_run {
        let change = format!(
            "# make {} node {} of cluster {}",
            state.display(),
            config.name,
            config.cluster_name
        );
        return Ok(Answer::dry_run(&[change]));
    }
    bundle.install(&state)?;
    Ok(Answer::new(
        json!({"node": config.name, "uuid": config.uuid, "cluster": config.cluster_name}),
        format!(
            "this machine is node {} of cluster {}",
            config.name, config.cluster_name
        ),
    ))
}

fn read(path: &Path) -> io::Result<Vec<u8>> {
    let mut json = Vec::new();
    if path == Path::new("-") {
        io::stdin().lock().take(MAX_BUNDLE).read_to_end(&mut json)?;
    } else {
        fs::File::open(path)?.take(MAX_BUNDLE).read_to_end(&mut json)?;
    }
    Ok(json)
}
