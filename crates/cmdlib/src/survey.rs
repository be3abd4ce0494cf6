//! What the nodes of a cluster really have, asked of many at a time.

use futures_util::stream::{self, StreamExt as _};
use gnt_bdev::{DrbdMinor, FoundVolume, Link, Operation, Owner, driver};
use gnt_config::params::DiskParams;
use gnt_config::template::{DRBD, HAVE_PROVIDER, LVM, NODE_LOCAL, REACHED_BY_SOME};
use gnt_config::{self as config, Disk, GeneratedName, LogicalDevice, LogicalId, Object};
use gnt_store::Store;

use crate::error::{Error, Result};
use crate::node::{Node, NodeError, NodeResult};
use crate::saga::Nodes;

/// The parameter that names a provider.
const PROVIDER: &str = "provider";
/// How many nodes are asked at once.
const AT_ONCE: usize = 64;

/// Where volumes of one type can be: what [`Node::volumes`] is asked.
pub(crate) type Whereabouts = (LogicalDevice, Object);

/// Does the same with every node, several at a time; in the order of `items`.
pub(crate) async fn for_all<I, T, F>(items: impl IntoIterator<Item = I>, ask: impl Fn(I) -> F) -> Vec<T>
where
    F: Future<Output = T>,
{
    let numbered = items.into_iter().enumerate().map(|(number, item)| {
        let asked = ask(item);
        async move { (number, asked.await) }
    });
    let mut answers: Vec<_> = stream::iter(numbered).buffer_unordered(AT_ONCE).collect().await;
    answers.sort_by_key(|(number, _)| *number);
    answers.into_iter().map(|(_, answer)| answer).collect()
}

/// Where volumes can be on a node: where one made with the defaults would be, and where `disks` are, which have their parameters filled in.
pub(crate) fn whereabouts<'d>(
    store: &Store,
    node: &config::Node,
    disks: impl IntoIterator<Item = &'d Disk>,
) -> Result<Vec<Whereabouts>> {
    let (cluster, group) = (store.cluster()?, store.group(&node.group)?);
    let layers = [
        Some(&cluster.diskparams),
        group.as_ref().map(|group| &group.diskparams),
    ];
    let params = DiskParams::layered(layers.into_iter().flatten())?;
    let mut places = Vec::new();
    let mut add = |place| {
        if !places.contains(&place) {
            places.push(place);
        }
    };
    for template in &cluster.enabled_disk_templates {
        if let Some(device) = template.device() {
            add((device, params.get(*template)));
        }
    }
    for disk in disks {
        add((disk.dev_type, where_it_is(&disk.logical_id, disk.params.clone())));
    }
    for disk in store.detached_disks()? {
        let params = params.annotate(&disk)?.params;
        add((disk.dev_type, where_it_is(&disk.logical_id, params)));
    }
    // Volumes below drbd are plain ones, whether those are enabled or not.
    if places.iter().any(|(device, _)| DRBD.contains(device.template())) {
        let params = params.get(LogicalDevice::Plain.template());
        places.push((LogicalDevice::Plain, params));
    }
    let has_volumes =
        |device| driver(device).is_ok_and(|driver| driver.capabilities().contains(Operation::Volumes));
    places.retain(|(device, _)| has_volumes(*device));
    // All groups are told of at once, whatever the stripes are.
    let mut lvm = false;
    places.retain(|(device, _)| !LVM.contains(device.template()) || !std::mem::replace(&mut lvm, true));
    Ok(places)
}

/// The parameters of a disk, and its provider: that need not be among them, and the failure of one that is not named is not told.
fn where_it_is(id: &LogicalId, mut params: Object) -> Object {
    if let LogicalId::Ext { provider, .. } = id {
        params.insert(PROVIDER.to_owned(), provider.as_str().into());
    }
    params
}

/// What one node has.
#[derive(Debug)]
pub(crate) struct Seen {
    pub(crate) node: config::Node,
    /// The volumes that are its own, and of those that all nodes see the ones that were asked of it.
    pub(crate) volumes: Vec<(LogicalDevice, NodeResult<Vec<FoundVolume>>)>,
    pub(crate) links: NodeResult<Vec<Link>>,
    pub(crate) minors: NodeResult<Vec<DrbdMinor>>,
}

/// What all nodes have that can be asked; why the others cannot: they are offline, or the error.
#[derive(Debug, Default)]
pub(crate) struct Survey {
    pub(crate) seen: Vec<Seen>,
    pub(crate) silent: Vec<(config::Node, Option<Error>)>,
}

/// Looks at every node.
pub(crate) async fn survey<N: Nodes>(store: &Store, nodes: &N) -> Result<Survey> {
    let mut survey = Survey::default();
    let (mut asked, mut common) = (Vec::new(), Vec::new());
    for node in store.nodes()? {
        match nodes.node(&node.uuid) {
            _ if node.offline => survey.silent.push((node, None)),
            Err(error) => survey.silent.push((node, Some(error))),
            Ok(at) => {
                let places = whereabouts(store, &node, [])?;
                let (shared, own): (Vec<_>, Vec<_>) =
                    places.into_iter().partition(|(device, _)| is_shared(*device));
                asked.push((own, node, at));
                let new: Vec<_> = shared
                    .into_iter()
                    .filter(|place| !common.contains(place))
                    .collect();
                common.extend(new);
            }
        }
    }
    survey.seen = for_all(asked, |(places, node, at)| ask(places, node, at)).await;
    let at: Vec<_> = survey
        .seen
        .iter()
        .map(|seen| nodes.node(&seen.node.uuid))
        .collect::<Result<_>>()?;
    for (device, params) in common {
        let answers = match REACHED_BY_SOME.contains(device.template()) {
            true => {
                for_all(at.iter().copied().enumerate(), |(index, at)| {
                    let params = &params;
                    async move { (index, each_provider(at, device, params).await) }
                })
                .await
            }
            false => {
                let (index, volumes) = first_that_has(&at, device, &params).await;
                vec![(index, vec![volumes])]
            }
        };
        for (index, answers) in answers {
            if let Some(seen) = survey.seen.get_mut(index) {
                seen.volumes
                    .extend(answers.into_iter().map(|answer| (device, answer)));
            }
        }
    }
    Ok(survey)
}

async fn ask<N: Node>(places: Vec<Whereabouts>, node: config::Node, at: &N) -> Seen {
    let has_lvm = places.iter().any(|(device, _)| LVM.contains(device.template()));
    let minors = match has_lvm {
        true => at.drbd_minors().await,
        false => Ok(Vec::new()),
    };
    let mut volumes = Vec::new();
    for (device, params) in places {
        volumes.push((device, at.volumes(device, &params).await));
    }
    Seen {
        node,
        volumes,
        links: at.links().await,
        minors,
    }
}

/// The volumes that a node sees; of each provider by itself where none is named, so that one that fails hides neither itself nor others.
async fn each_provider<N: Node>(
    node: &N,
    device: LogicalDevice,
    params: &Object,
) -> Vec<NodeResult<Vec<FoundVolume>>> {
    let names = match HAVE_PROVIDER.contains(device.template()) && !params.contains_key(PROVIDER) {
        true => node.providers().await,
        false => return vec![node.volumes(device, params).await],
    };
    let names = match names {
        Ok(names) => names,
        Err(error) if is_absent(&error) => return vec![node.volumes(device, params).await],
        Err(error) => return vec![Err(error)],
    };
    let mut answers = Vec::new();
    for name in names {
        let mut params = params.clone();
        params.insert(PROVIDER.to_owned(), name.into());
        answers.push(node.volumes(device, &params).await);
    }
    answers
}

/// The volumes that all nodes see, from the first that shows some: a node need not reach them. If none does, what the first said.
pub(crate) async fn first_that_has<N: Node>(
    nodes: &[&N],
    device: LogicalDevice,
    params: &Object,
) -> (usize, NodeResult<Vec<FoundVolume>>) {
    let mut first = (0, Ok(Vec::new()));
    for (index, node) in nodes.iter().enumerate() {
        let answer = node.volumes(device, params).await;
        if answer.as_ref().is_ok_and(|volumes| !volumes.is_empty()) {
            return (index, answer);
        }
        // One that could look and found nothing tells more than one that could not.
        if index == 0 || (first.1.is_err() && answer.is_ok()) {
            first = (index, answer);
        }
    }
    first
}

/// Whether an answer only says that what was asked about is not used there.
pub(crate) fn is_absent(error: &NodeError) -> bool {
    matches!(error, NodeError::NoSuchCall { .. }) || error.is_not_found()
}

/// Whether a volume is, or was, a disk's: it says whose it is, or its name is one that we or Ganeti generate. Everything else is other
/// people's.
pub(crate) fn is_ours(volume: &FoundVolume) -> bool {
    let Owner {
        instance, uuid, kept, ..
    } = &volume.owner;
    let says_whose = instance.is_some() || uuid.is_some() || kept.mirror.is_some();
    says_whose || GeneratedName::of(volume.device, &volume.logical_id.volume()).is_some()
}

/// Whether volumes of this type are one and the same on all nodes.
pub(crate) fn is_shared(device: LogicalDevice) -> bool {
    !NODE_LOCAL.contains(device.template())
}
