//! The nodes of a cluster as its manager sees them: this machine in process, all others across the network.

use std::collections::BTreeMap;
use std::sync::Arc;

use gnt_bdev::drbd::DrbdMinor;
use gnt_bdev::transfer::Piece;
use gnt_bdev::{
    Assembled, Change, FoundVolume, Host, Layer, Link, Operation, Space, Status, SyncProgress, Target,
};
use gnt_cmdlib::node::{Node, NodeError, NodeResult, Role};
use gnt_cmdlib::{Error, LocalNode, Nodes, Result};
use gnt_config::{Disk, LogicalDevice, LogicalId, Mebibytes, Object};
use gnt_process::DryRun;
use rustls::ClientConfig;
use tokio::task::JoinSet;

use crate::client::Client;
use crate::keys::NodeConfig;

/// A node, wherever it is.
#[derive(Debug, Clone)]
pub enum AnyNode {
    /// This machine.
    Here(LocalNode),
    /// Another one.
    There(Client),
}

/// All nodes of a cluster, by UUID.
#[derive(Debug, Clone)]
pub struct Cluster {
    here: LocalNode,
    /// Whether this machine is one of them.
    is_member: bool,
    nodes: Arc<BTreeMap<String, Member>>,
}

#[derive(Debug, Clone)]
enum Member {
    Node(AnyNode),
    /// It is not to be asked.
    Offline {
        name: String,
    },
    /// There are no keys to ask it with.
    Strange {
        name: String,
    },
}

impl Cluster {
    /// `host` is this machine, which is the node `uuid`, or none of the cluster's if that is empty; `nodes` are all of the cluster's. Others
    /// are asked with `keys`, if there are any. In a dry run they are asked only what they would do, which `noted` gets.
    pub fn new(
        uuid: &str,
        host: Host,
        nodes: &[gnt_config::Node],
        keys: Option<Arc<ClientConfig>>,
        noted: Option<&Arc<DryRun>>,
    ) -> Self {
        let script = host.ext.timeout();
        let here = LocalNode::new(host);
        let member = |node: &gnt_config::Node| {
            let name = node.name.clone();
            match &keys {
                _ if node.offline => Member::Offline { name },
                _ if node.uuid == uuid => Member::Node(AnyNode::Here(here.clone())),
                None => Member::Strange { name },
                Some(keys) => {
                    let client = Client::new(&name, &node.uuid, &node.primary_ip, Arc::clone(keys));
                    let client = client.with_script_timeout(script);
                    Member::Node(AnyNode::There(match noted {
                        Some(noted) => client.with_dry_run(Arc::clone(noted)),
                        None => client,
                    }))
                }
            }
        };
        let nodes = nodes.iter().map(|node| (node.uuid.clone(), member(node)));
        Self {
            nodes: Arc::new(nodes.collect()),
            is_member: !uuid.is_empty(),
            here,
        }
    }
}

/// Tells nodes what they work by from now on, several at once. Those that did not hear it are given back with why.
pub async fn configure(keys: &Arc<ClientConfig>, configs: Vec<NodeConfig>) -> Vec<(NodeConfig, NodeError)> {
    const AT_ONCE: usize = 32;
    let mut waiting = configs.into_iter();
    let mut asked = JoinSet::new();
    let mut deaf = Vec::new();
    loop {
        for config in waiting.by_ref().take(AT_ONCE - asked.len()) {
            let node = Client::new(&config.name, &config.uuid, &config.address, Arc::clone(keys));
            asked.spawn(async move {
                let told = node.configure(&config).await;
                told.err().map(|error| (config, error))
            });
        }
        match asked.join_next().await {
            None => return deaf,
            Some(told) => deaf.extend(told.ok().flatten()),
        }
    }
}

impl Nodes for Cluster {
    type Node = AnyNode;

    fn node(&self, uuid: &str) -> Result<&AnyNode> {
        match self.nodes.get(uuid) {
            Some(Member::Node(node)) => Ok(node),
            Some(Member::Offline { name }) => Err(Error::NodeOffline { node: name.clone() }),
            Some(Member::Strange { name }) => {
                let (node, here) = (name.clone(), self.here.name().to_owned());
                Err(match self.is_member {
                    true => Error::Unreachable { node, here },
                    false => Error::Stranger { node, here },
                })
            }
            None => Err(Error::NoNode {
                node: uuid.to_owned(),
            }),
        }
    }

    fn for_operation(&self, operation: &str) -> Self {
        let here = self.here.for_operation(operation);
        let part = |member: &Member| match member {
            Member::Node(AnyNode::Here(_)) => Member::Node(AnyNode::Here(here.clone())),
            Member::Node(AnyNode::There(node)) => Member::Node(AnyNode::There(node.for_operation(operation))),
            other => other.clone(),
        };
        let nodes = self.nodes.iter();
        let nodes = nodes.map(|(uuid, member)| (uuid.clone(), part(member)));
        Self {
            nodes: Arc::new(nodes.collect()),
            is_member: self.is_member,
            here,
        }
    }

    fn end_orphans_here(&self, operation: &str) -> Result<()> {
        self.here.end_orphans(operation)
    }

    async fn end_orphans(&self, operation: &str, nodes: &[String]) -> Result<()> {
        let mut ended = self.end_orphans_here(operation);
        for uuid in nodes {
            if let Ok(AnyNode::There(node)) = self.node(uuid) {
                let there = node.end_operation(operation).await;
                ended = ended.and(there.map_err(Error::from));
            }
        }
        ended
    }
}

/// Passes each call on to the node, wherever it is.
macro_rules! delegate {
    ($($call:ident($($argument:ident: $type:ty),*) -> $result:ty;)*) => {
        impl Node for AnyNode {
            fn name(&self) -> &str {
                match self {
                    Self::Here(node) => node.name(),
                    Self::There(node) => node.name(),
                }
            }

            $(async fn $call(&self, $($argument: $type),*) -> NodeResult<$result> {
                match self {
                    Self::Here(node) => node.$call($($argument),*).await,
                    Self::There(node) => node.$call($($argument),*).await,
                }
            })*
        }
    };
}

delegate! {
    check(disk: &Disk, instance: &str, operation: Operation) -> ();
    create(disk: &Disk, instance: &str, info: &str) -> Change;
    assemble(disk: &Disk, instance: &str, role: Role) -> Assembled;
    assemble_all(targets: &[Target<'_>], role: Role) -> Vec<NodeResult<Assembled>>;
    open(targets: &[Target<'_>], exclusive: bool) -> ();
    take_over(targets: &[Target<'_>], from: &str) -> ();
    close(targets: &[Target<'_>]) -> ();
    shutdown(disk: &Disk, instance: &str) -> Change;
    remove(disk: &Disk, instance: &str) -> Change;
    find(disk: &Disk, instance: &str) -> Option<Status>;
    find_all(targets: &[Target<'_>]) -> Vec<NodeResult<Option<Status>>>;
    disconnect_net(targets: &[Target<'_>]) -> Change;
    attach_net(targets: &[Target<'_>], multimaster: bool) -> Change;
    wait_sync(targets: &[Target<'_>]) -> SyncProgress;
    needs_activation(targets: &[Target<'_>]) -> Vec<String>;
    pause_resume_sync(targets: &[Target<'_>], pause: bool) -> ();
    add_children(disk: &Disk, instance: &str) -> Change;
    remove_children(disk: &Disk, instance: &str) -> Change;
    read(disk: &Disk, instance: &str, offset: u64, length: u64) -> Vec<Piece>;
    image_size(path: &str) -> u64;
    read_image(path: &str, offset: u64, length: u64) -> Vec<Piece>;
    write(disk: &Disk, instance: &str, pieces: &[Piece]) -> ();
    copy(from: &Target<'_>, to: &Target<'_>, offset: u64, length: u64) -> ();
    wipe(disk: &Disk, instance: &str, offset: u64, length: u64) -> ();
    checksum(disk: &Disk, instance: &str, offset: u64, length: u64) -> [u8; 32];
    grow(disk: &Disk, instance: &str, to: Mebibytes, layer: Layer, dry_run: bool) -> Change;
    rename(disk: &Disk, instance: &str, to: &LogicalId) -> Change;
    set_info(disk: &Disk, instance: &str, info: &str) -> ();
    snapshot(disk: &Disk, instance: &str, name: &str, size: Mebibytes) -> LogicalId;
    create_storage_dir(path: &str) -> Change;
    remove_storage_dir(path: &str) -> Change;
    rename_storage_dir(from: &str, to: &str) -> Change;
    device_size(path: &str) -> Mebibytes;
    volumes(device: LogicalDevice, params: &Object) -> Vec<FoundVolume>;
    space(device: LogicalDevice, params: &Object) -> Vec<Space>;
    attached(device: LogicalDevice, params: &Object) -> Vec<LogicalId>;
    providers() -> Vec<String>;
    drbd_minors() -> Vec<DrbdMinor>;
    drbd_helper() -> String;
    links() -> Vec<Link>;
    remove_link(instance: &str, index: u32) -> Change;
    move_link(instance: &str, from: u32, to: u32) -> Change;
}
