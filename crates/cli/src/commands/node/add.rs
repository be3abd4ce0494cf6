//! `node add`: a new node, or new keys for one that is there.

use std::ffi::OsString;
use std::fs::OpenOptions;
use std::io::Write as _;
use std::net::{IpAddr, ToSocketAddrs as _};
use std::os::unix::fs::OpenOptionsExt as _;
use std::path::{Path, PathBuf};
use std::time::Duration;

use gnt_bdev::{ErrorKind, ToolError};
use gnt_cmdlib::ops::node::{NodeInfo, NodeRequest, add, take_back};
use gnt_config::params::node::SSH_PORT;
use gnt_config::{Node, Object, names};
use gnt_process::{Command, Runner as _, System};
use gnt_rpc::Client;
use gnt_rpc::keys::{Bundle, Manager, NodeConfig};
use serde_json::Value;

use crate::args::parameters;
use crate::commands::node::row;
use crate::context::{Context, warn};
use crate::failure::Failure;
use crate::output::Answer;

const HELP: &str = "\
A node answers calls of this cluster only, with keys that it gets here: over ssh, or in a file that you take there and give to \
'gnt-disk node join'. That file has the node's private key. gnt-disk must be installed on the node, and 'gnt-disk serve' run.

Examples:
  gnt-disk node add node2 --ssh root@node2
  gnt-disk node add node2 --primary-ip 192.0.2.2 --secondary-ip 198.51.100.2 --bundle node2.bundle
  gnt-disk node add node2 --readd --ssh root@node2";

/// Add a node to the cluster
#[derive(Debug, clap::Args)]
#[command(after_long_help = HELP)]
pub(crate) struct Args {
    /// Name of the node
    node: String,
    /// Address on which it is asked; by default what its name resolves to
    #[arg(long, value_name = "ADDRESS")]
    primary_ip: Option<IpAddr>,
    /// Address over which disks are replicated; by default the same
    #[arg(short, long, value_name = "ADDRESS")]
    secondary_ip: Option<IpAddr>,
    /// Name or UUID of its node group; may be left out where there is only one
    #[arg(short, long)]
    group: Option<String>,
    /// Node parameters
    #[arg(long = "node-parameters", value_name = "KEY=VALUE,…", value_parser = parameters)]
    ndparams: Option<Object>,
    /// Bring its keys to the node over ssh
    #[arg(long, value_name = "[USER@]HOST", conflicts_with = "bundle", value_parser = destination)]
    ssh: Option<String>,
    /// Write its keys to this file
    #[arg(long, value_name = "FILE")]
    bundle: Option<PathBuf>,
    /// The node is there already: only give it new keys and settings
    #[arg(long, conflicts_with_all = ["primary_ip", "secondary_ip", "group", "ndparams"])]
    readd: bool,
}

/// How long a node may take to say which version it has.
const ANSWER_TIMEOUT: Duration = Duration::from_secs(5);
/// How long ssh may take: it has to connect, and gnt-disk to write a file.
const SSH_TIMEOUT: Duration = Duration::from_secs(120);

pub(super) async fn run(context: &Context, args: &Args) -> Result<Answer, Failure> {
    let (store, dry_run) = (&context.store, context.is_dry_run());
    let node = match args.readd {
        true => NodeInfo::load(store, &args.node)?.node,
        false => {
            if store.node(&args.node)?.is_some() {
                let node = args.node.clone();
                return Err(gnt_cmdlib::Error::NodeExists { node }.into());
            }
            let request = request(args)?;
            // Refused before anything is made.
            let node = add(store, &request, true)?;
            match dry_run {
                true => node,
                false => add(store, &request, false)?,
            }
        }
    };
    if dry_run {
        return Ok(rehearse(context, args, &node));
    }
    if let Err(failure) = bring_keys(context, args, &node) {
        // It is not a node as long as nobody can ask it.
        if !args.readd
            && let Err(error) = take_back(store, &node)
        {
            warn(format_args!(
                "node {0} is still in the configuration: {1}; 'gnt-disk node remove {0}' removes it",
                node.name,
                gnt_cmdlib::error::chain(&error)
            ));
        }
        return Err(failure);
    }
    let mut attention = !args.readd && warn_of_loopback(context)?;
    if args.ssh.is_some() {
        attention |= warn_of_version(context, &node).await?;
    }
    let shown = row(&NodeInfo::load(store, &node.uuid)?);
    Ok(Answer::new(Value::Object(shown), told(args, &node)).with_attention(attention))
}

fn request(args: &Args) -> Result<NodeRequest, Failure> {
    names::host(&args.node).map_err(gnt_cmdlib::Error::from)?;
    let primary_ip = match args.primary_ip {
        Some(address) => address,
        None => resolve(&args.node)?,
    };
    Ok(NodeRequest {
        name: args.node.clone(),
        primary_ip,
        secondary_ip: args.secondary_ip,
        group: args.group.clone(),
        ndparams: args.ndparams.clone().unwrap_or_default(),
    })
}

fn resolve(name: &str) -> Result<IpAddr, Failure> {
    let mut found = (name, 0).to_socket_addrs().into_iter().flatten();
    let first = found.next().map(|address| address.ip());
    first.ok_or_else(|| {
        Failure::usage(format!("the name {name} has no address")).with_hint("give one with --primary-ip")
    })
}

fn rehearse(context: &Context, args: &Args, node: &Node) -> Answer {
    let what = if args.readd { "give new keys to" } else { "add" };
    context.note(format!("# {what} node {} ({})", node.name, node.primary_ip));
    if let Some(destination) = &args.ssh {
        context.note(ssh(context, node, destination, Vec::new()).to_string());
    }
    if let Some(file) = &args.bundle {
        context.note(format!("# write its keys to {}", file.display()));
    }
    context.noted().unwrap_or_else(|| Answer::raw(""))
}

/// Makes the node's keys and takes them where they are wanted.
fn bring_keys(context: &Context, args: &Args, node: &Node) -> Result<(), Failure> {
    if args.ssh.is_none() && args.bundle.is_none() {
        return Ok(());
    }
    let bundle = bundle(context, node)?;
    if let Some(file) = &args.bundle {
        write(file, &bundle.to_json()?)?;
    }
    if let Some(destination) = &args.ssh {
        let command = ssh(context, node, destination, bundle.to_json()?.into_bytes());
        run_there(&command).map_err(|source| Failure::Join {
            node: node.name.clone(),
            source,
        })?;
    }
    Ok(())
}

fn bundle(context: &Context, node: &Node) -> Result<Bundle, Failure> {
    let cluster = context.store.cluster()?;
    let group = NodeInfo::of(&context.store, node.clone())?.group;
    let manager = Manager::ensure(&context.state, &cluster.cluster_name)?;
    Ok(manager.bundle(NodeConfig {
        exclusive_storage: node.has_exclusive_storage(&group, &cluster),
        cluster: cluster.uuid,
        cluster_name: cluster.cluster_name,
        uuid: node.uuid.clone(),
        name: node.name.clone(),
        address: node.primary_ip.clone(),
        settings: context.settings.clone(),
    })?)
}

/// The command that makes the machine at `destination` the node, with the bundle on its standard input.
fn ssh(context: &Context, node: &Node, destination: &str, bundle: Vec<u8>) -> Command {
    let port = node.ndparams.get(SSH_PORT).and_then(Value::as_u64);
    let port = port.map(|port| ["-p".to_owned(), port.to_string()]);
    // The shell there takes it apart.
    let state = shell_words::quote(&context.state.to_string_lossy()).into_owned();
    let agent = std::env::var_os("SSH_AUTH_SOCK");
    let command = Command::change("ssh")
        .args(["-o", "BatchMode=yes", "-o", "ConnectTimeout=20"])
        .args(port.into_iter().flatten())
        .args([
            "--",
            destination,
            "gnt-disk",
            "--state",
            &state,
            "node",
            "join",
            "-",
        ])
        .stdin(bundle)
        .timeout(SSH_TIMEOUT);
    let set = |command: Command, agent: OsString| command.env("SSH_AUTH_SOCK", agent);
    agent.into_iter().fold(command, set)
}

fn run_there(command: &Command) -> Result<(), ToolError> {
    let output = System.run(command).map_err(|source| ToolError::Run {
        source: Box::new(source),
    })?;
    let checked = output.check(command).map_err(|failed| ToolError::Failed {
        kind: ErrorKind::Other,
        failed: Box::new(failed),
    });
    checked.map(drop)
}

/// `[USER@]HOST`, that is no option.
fn destination(text: &str) -> Result<String, String> {
    let (user, host) = text.rsplit_once('@').unwrap_or(("root", text));
    for part in [user, host] {
        names::host(part).or_else(|error| match names::group(part) {
            Ok(()) => Ok(()),
            Err(_) => Err(error.to_string()),
        })?;
    }
    Ok(text.to_owned())
}

/// Writes a secret to a file that is not there yet.
fn write(file: &Path, secret: &str) -> Result<(), Failure> {
    let open = OpenOptions::new()
        .write(true)
        .create_new(true)
        .mode(0o600)
        .open(file);
    open.and_then(|mut file| {
        file.write_all(secret.as_bytes())?;
        file.sync_all()
    })
    .map_err(|source| Failure::file("write", file, source))
}

fn told(args: &Args, node: &Node) -> String {
    let name = &node.name;
    match (&args.bundle, &args.ssh) {
        (Some(file), _) => format!(
            "take {} to {name}, run there 'gnt-disk node join FILE' and start 'gnt-disk serve'; it is secret: remove it afterwards\n",
            file.display()
        ),
        (None, Some(_)) => format!(
            "{name} has its keys: it answers when 'gnt-disk serve' is started there, again if it runs already\n"
        ),
        (None, None) => format!(
            "{name} has no keys yet: 'gnt-disk node add {name} --readd --ssh root@{name}' brings them, or --bundle FILE\n"
        ),
    }
}

/// A node that answers already tells which version it has.
async fn warn_of_version(context: &Context, node: &Node) -> Result<bool, Failure> {
    let manager = Manager::ensure(&context.state, &context.store.cluster()?.cluster_name)?;
    let client = Client::new(&node.name, &node.uuid, &node.primary_ip, manager.client()?);
    let (here, there) = match tokio::time::timeout(ANSWER_TIMEOUT, client.version()).await {
        Ok(Ok(answer)) => (env!("CARGO_PKG_VERSION"), answer.version),
        // It may yet have to be started.
        Ok(Err(_)) | Err(_) => return Ok(false),
    };
    let differs = here != there;
    if differs {
        warn(format_args!(
            "node {} has version {there} of gnt-disk, and this is {here}: install the same on all nodes",
            node.name
        ));
    }
    Ok(differs)
}

/// A master node that was made for itself alone has the address of the loopback interface, on which no other node reaches it.
fn warn_of_loopback(context: &Context) -> Result<bool, Failure> {
    let master = NodeInfo::load(&context.store, &context.store.cluster()?.master_node)?.node;
    let is_loopback = |address: &str| address.parse().is_ok_and(|address: IpAddr| address.is_loopback());
    let found = is_loopback(&master.secondary_ip);
    if found {
        warn(format_args!(
            "no other node reaches the master node at {}: give it its addresses with gnt-disk node modify {} --primary-ip … --secondary-ip …",
            master.secondary_ip, master.name
        ));
    }
    Ok(found)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_destination_is_no_option() {
        for good in ["node2", "root@node2", "admin_1@2001:db8::1", "node2.example.com"] {
            assert_eq!(destination(good).as_deref(), Ok(good));
        }
        for bad in [
            "",
            "-oProxyCommand=x",
            "root@-x",
            "-l@node2",
            "a b",
            "@node2",
            "root@",
            "$(x)@n",
        ] {
            assert!(destination(bad).is_err(), "{bad}");
        }
    }
}
