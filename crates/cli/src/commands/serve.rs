//! `serve`: the daemon that answers the manager's calls.

use std::io;
use std::net::{IpAddr, SocketAddr};
use std::path::Path;

use gnt_rpc::keys::{Bundle, Manager, NodeConfig};
use gnt_rpc::server::{Limits, Server};
use gnt_rpc::wire::PORT;
use gnt_store::Store;
use sd_notify::NotifyState;
use tracing::info;

use crate::args::Global;
use crate::context::{self, Context, PROVIDERS};
use crate::embedded;
use crate::failure::Failure;
use crate::interrupt;
use crate::output::Answer;

const HELP: &str = "\
The machine must be a node of a cluster: 'gnt-disk node join' makes it one. Only the cluster's manager is answered.

On standard error there is one line for each call. SIGTERM ends the daemon when the calls that run then are over, \
after a minute at the latest.

Examples:
  gnt-disk serve
  gnt-disk serve --listen 192.0.2.11:1811
  systemctl enable --now gnt-disk";

/// Answer the calls of the cluster's manager, until told to stop
#[derive(Debug, clap::Args)]
#[command(after_long_help = HELP)]
pub(crate) struct Args {
    /// Address and port to listen on; the node's own address unless given
    #[arg(long, value_name = "ADDR:PORT")]
    listen: Option<SocketAddr>,
}

pub(crate) async fn run(global: &Global, args: Args) -> Result<Answer, Failure> {
    if global.dry_run {
        return Err(Failure::usage("serve has no dry run"));
    }
    let state = context::state_directory(global)?;
    let bundle = identity(&state)?;
    let address = match args.listen {
        Some(address) => address,
        None => own_address(&bundle.config)?,
    };
    embedded::install(&state.join(PROVIDERS))?;
    log();
    let server = Server::bind(address, bundle.clone(), &state, Limits::default()).await?;
    let address = server.address().unwrap_or(address);
    info!(node = bundle.config.name, cluster = bundle.config.cluster_name, %address, "listening");
    tell(&[NotifyState::Ready]);
    let stop = async {
        let signal = interrupt::requested()
            .await
            .unwrap_or("a failure to listen for signals");
        info!(signal, "asked to stop");
        tell(&[NotifyState::Stopping]);
    };
    server.serve(stop).await;
    Ok(Answer::raw(""))
}

/// What this machine is: what it joined as, or, where the cluster's store is, its node.
fn identity(state: &Path) -> Result<Bundle, Failure> {
    if let Some(bundle) = Bundle::load(state)? {
        return Ok(bundle);
    }
    let nowhere = || Failure::NoNode {
        state: state.to_owned(),
    };
    if !Context::has_cluster(state)? {
        return Err(nowhere());
    }
    let store = Store::open(state)?;
    let (cluster, nodes) = (store.cluster()?, store.nodes()?);
    let node = context::this_node(&store, &nodes)?.ok_or_else(nowhere)?;
    let group = store.group(&node.group)?.ok_or_else(nowhere)?;
    let config = NodeConfig::new(node, &group, &cluster, &store.settings()?);
    Ok(Manager::ensure(state, &cluster.cluster_name)?.bundle(config)?)
}

fn own_address(config: &NodeConfig) -> Result<SocketAddr, Failure> {
    let ip: Result<IpAddr, _> = config.address.parse();
    let ip = ip.map_err(|_| {
        let what = format!(
            "the address of node {} is '{}', which is no IP address",
            config.name, config.address
        );
        Failure::usage(what).with_hint("give one with --listen ADDR:PORT")
    })?;
    Ok(SocketAddr::new(ip, PORT))
}

/// One line for each event on standard error. The journal has its own clock.
fn log() {
    let lines = tracing_subscriber::fmt()
        .with_writer(io::stderr)
        .with_ansi(false)
        .with_target(false);
    // Fails only if there is one already.
    let _ = match std::env::var_os("JOURNAL_STREAM") {
        Some(_) => lines.without_time().try_init(),
        None => lines.try_init(),
    };
}

/// Tells systemd, where it waits for it.
fn tell(state: &[NotifyState<'_>]) {
    if let Err(error) = sd_notify::notify(state) {
        tracing::warn!(%error, "cannot notify systemd");
    }
}
