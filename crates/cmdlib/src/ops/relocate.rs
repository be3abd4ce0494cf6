//! Moving an instance whose disks only one node has: the data is copied to another.

use gnt_bdev::Operation;
use gnt_config::template::COPYABLE;
use gnt_config::{Disk, Instance, Mebibytes, Node};

use crate::error::{Error, Result};
use crate::ids::Ids;
use crate::kind::Kind;
use crate::node::Node as _;
use crate::ops::convert::copied;
use crate::ops::room::{check_free, check_room};
use crate::ops::sizes::sizes;
use crate::ops::{Subject, find_node, ids, name_of};
use crate::saga::{Engine, Nodes, Report};
use crate::step::{Pace, Place};

/// Copies the disks of an instance that does not use them to the node that `target` names, which is its primary node from then on
/// (`gnt-instance move`). New disks are made there, with the names that the old ones have here; the data is copied, the configuration
/// is switched, and only then the old ones are removed.
pub async fn relocate<N: Nodes>(
    engine: &Engine<'_, N>,
    instance: &str,
    target: &str,
    pace: Pace,
) -> Result<Report> {
    let instance = &name_of(engine.store, instance)?;
    engine
        .run(Kind::Move, &[instance], async |begun| {
            let store = engine.store;
            let old = Subject::load(store, instance)?;
            let target = find_node(store, target)?;
            check(&old, &target)?;
            begun.nodes.node(&target.uuid)?;
            let sizes = sizes(&old, old.reach(begun.nodes, &old.node.uuid)?).await?;
            let mut ids = ids(store, begun.id);
            let disks = old.disks.iter().zip(&sizes);
            let disks = disks.map(|(disk, bytes)| on(&target, disk, *bytes, ids.unique_id()));
            let disks: Vec<Disk> = disks.collect();
            let moved = Instance {
                primary_node: Some(target.uuid.clone()),
                disks: disks.iter().map(|disk| disk.uuid.clone()).collect(),
                ..old.instance.clone()
            };
            let new = Subject::new(store, moved, disks)?;
            let places = new.disks.iter().map(|disk| new.place(disk));
            let places: Vec<Place> = places.collect::<Result<_>>()?;
            check_room(begun.nodes, &places).await?;
            check_free(store, begun.nodes, &places).await?;
            for at in &places {
                at.on(begun.nodes)?
                    .check(&at.disk, &at.instance, Operation::Create)
                    .await?;
            }
            copied(&old, &new, &sizes, pace)
        })
        .await
}

/// The disk as it is to be there, as large as it really is here: an instance may use all of it.
fn on(target: &Node, disk: &Disk, bytes: u64, uuid: String) -> Disk {
    let real = Mebibytes(bytes.div_ceil(Mebibytes(1).bytes()));
    Disk {
        uuid,
        size: real.max(disk.size),
        nodes: vec![target.uuid.clone()],
        ..disk.clone()
    }
}

fn check(subject: &Subject, target: &Node) -> Result<()> {
    let (name, node) = (&subject.instance.name, &target.name);
    let is_shared = |disk: &&Disk| !COPYABLE.contains(disk.dev_type.template());
    let (what, hint) = if let Some(disk) = subject.disks.iter().find(is_shared) {
        (
            format!("instance {name} cannot be moved: more than one node has {disk}, or reaches it"),
            "'gnt-disk failover' gives the instance another node, or 'gnt-disk migrate' while it runs",
        )
    } else if target.uuid == subject.node.uuid {
        (
            format!("instance {name} is on node {node} already"),
            "name another node with -n NODE",
        )
    } else if target.offline {
        (
            format!("node {node} is marked offline"),
            "name another node with -n NODE",
        )
    } else if target.drained {
        (
            format!("node {node} is drained: it gets no instances"),
            "name another node with -n NODE",
        )
    } else {
        return subject.ensure_inactive();
    };
    Err(Error::Unfit { what, hint })
}
