//! Simulated drbd: what a minor is built of, whom it is connected to, and who of two has the newer data. As the driver has it configured,
//! without fencing.

use std::collections::{BTreeMap, BTreeSet};
use std::net::SocketAddr;
use std::time::Duration;

use gnt_bdev::drbd::Verdict;
use gnt_bdev::{DrbdError, DrbdMinor, LocalDiskStatus, SyncStatus, ToolError};
use gnt_config::{Disk, LogicalId, Mebibytes, Secret};
use tokio::time::Instant;

use crate::sim::World;
use crate::sim::content::Bytes;
use crate::sim::world::{device_path, key};

/// What all of it has in common.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct Drbd {
    /// Mebibytes a second with which mirrors are synchronised; none if that takes no time.
    pub rate: Option<u64>,
    /// Synchronisations under way, by node and minor of the one that gets data.
    resyncs: BTreeMap<(String, u32), Resync>,
    /// The last generation of data that began.
    generation: Generation,
    clock: Clock,
}

/// What names a generation of data. How many there were is nobody's concern.
#[derive(Debug, Clone, Copy, Default)]
struct Generation(u64);

impl PartialEq for Generation {
    fn eq(&self, _: &Self) -> bool {
        true
    }
}

/// The time, since the first call to a node, when a node was last called. What it is is nobody's concern.
#[derive(Debug, Clone, Copy, Default)]
struct Clock {
    first: Option<Instant>,
    now: Duration,
}

impl PartialEq for Clock {
    fn eq(&self, _: &Self) -> bool {
        true
    }
}

/// A synchronisation.
#[derive(Debug, Clone, PartialEq)]
struct Resync {
    total: Duration,
    left: Duration,
    /// Since when; none while it is paused.
    since: Option<Duration>,
}

/// A minor as the kernel of a node has it.
#[derive(Debug, Clone, PartialEq)]
pub struct Minor {
    /// None while it is diskless.
    pub backing: Option<Backing>,
    /// None while it stands alone.
    pub net: Option<Net>,
    /// Whether this node may write.
    pub is_primary: bool,
    /// Otherwise it waits for its peer, if it is on the network.
    pub is_connected: bool,
    /// Of the device.
    pub size: Mebibytes,
    /// Why it and its peer parted when they met.
    pub verdict: Option<Verdict>,
}

/// Keys of the volumes that it keeps its data on.
#[derive(Debug, Clone, PartialEq)]
pub struct Backing {
    /// Of the data.
    pub data: String,
    /// Of the metadata.
    pub meta: String,
}

/// Its connection.
#[derive(Debug, Clone, PartialEq)]
pub struct Net {
    /// UUID of the node and minor there.
    pub peer: (String, u32),
    /// Addresses of this end and the other.
    ends: [Option<SocketAddr>; 2],
    port: u16,
    secret: Secret,
    /// Whether both ends may be primary.
    pub multimaster: bool,
}

/// What is kept on the metadata volume.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Metadata {
    /// The generation of the data here; 0 if nothing was ever written.
    current: u64,
    /// The generation that the peer had when it was last seen, if there were others since.
    parted: Option<u64>,
    /// Those before.
    history: BTreeSet<u64>,
    /// Whether the data here is not all of one time.
    is_inconsistent: bool,
}

impl Metadata {
    /// Of a device that was never in use.
    fn just_created() -> Self {
        Self {
            current: 0,
            parted: None,
            history: BTreeSet::new(),
            is_inconsistent: true,
        }
    }

    /// What is left of it if it is of no interest how often the disk was opened and connected.
    pub fn without_generations(self) -> Self {
        Self {
            current: self.current.min(1),
            parted: None,
            history: BTreeSet::new(),
            ..self
        }
    }

    fn knows(&self, generation: u64) -> bool {
        self.parted == Some(generation) || self.history.contains(&generation)
    }
}

/// The data on one node.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum DiskState {
    /// There is none.
    Diskless,
    /// It is not all of one time.
    Inconsistent,
    /// It is good, as far as this node knows.
    UpToDate,
}

/// What two nodes find when they meet (`drbd_uuid_compare` in the kernel).
enum Relation {
    Same,
    FirstIsNewer,
    SecondIsNewer,
    SplitBrain,
    Unrelated,
}

fn relation(first: &Metadata, second: &Metadata) -> Relation {
    match (first.current, second.current) {
        (0, 0) => Relation::Same,
        (0, _) => Relation::SecondIsNewer,
        (_, 0) => Relation::FirstIsNewer,
        (one, other) if one == other => match (first.is_inconsistent, second.is_inconsistent) {
            (true, false) => Relation::SecondIsNewer,
            (false, true) => Relation::FirstIsNewer,
            _ => Relation::Same,
        },
        (one, _) if second.knows(one) => Relation::SecondIsNewer,
        (_, other) if first.knows(other) => Relation::FirstIsNewer,
        _ if first.parted.is_some() && first.parted == second.parted => Relation::SplitBrain,
        _ if first.history.intersection(&second.history).next().is_some() => Relation::SplitBrain,
        _ => Relation::Unrelated,
    }
}

type Result<T> = std::result::Result<T, DrbdError>;

/// What the disk is on a node.
struct Wanted {
    minor: u32,
    backing: Option<Backing>,
    net: Option<Net>,
}

impl Wanted {
    fn of(node: &str, disk: &Disk) -> Result<Self> {
        let dynamic = disk.dynamic_params.as_ref().ok_or(DrbdError::NotOnNode)?;
        let LogicalId::Drbd8 {
            nodes, port, secret, ..
        } = &disk.logical_id
        else {
            return Err(DrbdError::NotOnNode);
        };
        let local = nodes
            .iter()
            .position(|uuid| uuid == node)
            .ok_or(DrbdError::NotOnNode)?;
        let child = |index: usize| {
            let child = disk.children.get(index)?;
            Some(key(node, child.dev_type, &child.logical_id))
        };
        let backing = child(0).zip(child(1)).map(|(data, meta)| Backing { data, meta });
        Ok(Self {
            minor: dynamic.local_minor,
            backing,
            net: port.map(|port| Net {
                ends: [&dynamic.local_ip, &dynamic.remote_ip]
                    .map(|ip| ip.parse().ok().map(|ip| SocketAddr::new(ip, port))),
                peer: (nodes[1 - local].clone(), dynamic.remote_minor),
                port,
                secret: secret.clone(),
                multimaster: false,
            }),
        })
    }

    /// Whether a minor is the disk, or what an assembly of it left half-way.
    fn is(&self, minor: &Minor) -> bool {
        match (&minor.backing, &minor.net) {
            (Some(backing), _) => self.backing.as_ref() == Some(backing),
            (None, Some(net)) => self.connects(net),
            (None, None) => true,
        }
    }

    fn connects(&self, net: &Net) -> bool {
        let is_it =
            |wanted: &Net| (&wanted.peer, wanted.port, &wanted.secret) == (&net.peer, net.port, &net.secret);
        self.net.as_ref().is_some_and(is_it)
    }
}

/// How things are asked for that one node's disk is concerned with.
impl World {
    fn minor(&self, node: &str, minor: u32) -> Option<&Minor> {
        self.machines.get(node)?.minors.get(&minor)
    }

    fn minor_mut(&mut self, node: &str, minor: u32) -> Option<&mut Minor> {
        self.machines.get_mut(node)?.minors.get_mut(&minor)
    }

    fn metadata(&self, node: &str, minor: u32) -> Option<&Metadata> {
        let backing = self.minor(node, minor)?.backing.as_ref()?;
        self.volumes.get(&backing.meta)?.meta.as_ref()
    }

    fn metadata_mut(&mut self, node: &str, minor: u32) -> Option<&mut Metadata> {
        let meta = self.minor(node, minor)?.backing.as_ref()?.meta.clone();
        self.volumes.get_mut(&meta)?.meta.as_mut()
    }

    /// The state of the data that a minor has.
    pub fn disk_state(&self, node: &str, minor: u32) -> DiskState {
        match self.metadata(node, minor) {
            None => DiskState::Diskless,
            Some(Metadata {
                is_inconsistent: true,
                ..
            }) => DiskState::Inconsistent,
            Some(_) => DiskState::UpToDate,
        }
    }

    /// Where the peer is that a minor is connected to.
    pub(super) fn drbd_peer(&self, node: &str, minor: u32) -> Option<(String, u32)> {
        let minor = self.minor(node, minor)?;
        minor
            .net
            .as_ref()
            .filter(|_| minor.is_connected)
            .map(|net| net.peer.clone())
    }

    fn peer_state(&self, node: &str, minor: u32) -> Option<DiskState> {
        let (peer, minor) = self.drbd_peer(node, minor)?;
        Some(self.disk_state(&peer, minor))
    }

    /// The minor that runs, if it is the disk's; none if the disk's minor is free.
    fn running(&self, node: &str, disk: &Disk) -> Result<(Wanted, Option<&Minor>)> {
        let wanted = Wanted::of(node, disk)?;
        match self.minor(node, wanted.minor) {
            Some(minor) if !wanted.is(minor) => Err(DrbdError::MinorTaken {
                minor: wanted.minor,
                resource: format!("resource{}", wanted.minor),
                what: "another disk".to_owned(),
            }),
            minor => Ok((wanted, minor)),
        }
    }

    fn active(&self, node: &str, disk: &Disk) -> Result<(Wanted, &Minor)> {
        let (wanted, minor) = self.running(node, disk)?;
        let free = DrbdError::NotActive { minor: wanted.minor };
        Ok((wanted, minor.ok_or(free)?))
    }

    /// The disk's minor, if it runs.
    pub(super) fn running_minor(&self, node: &str, disk: &Disk) -> Option<(u32, &Minor)> {
        let (wanted, minor) = self.running(node, disk).ok()?;
        Some((wanted.minor, minor?))
    }

    pub(super) fn drbd_create(&mut self, node: &str, disk: &Disk) -> Result<bool> {
        let (wanted, minor) = self.running(node, disk)?;
        if minor.is_some_and(|minor| minor.backing.is_some()) {
            return Ok(false);
        }
        let meta = self.usable_metadata_volume(&wanted)?;
        match meta {
            Some(metadata) if *metadata != Metadata::just_created() => {
                let meta = wanted.backing.map(|backing| backing.meta).unwrap_or_default();
                Err(DrbdError::MetaUsed { meta: meta.into() })
            }
            Some(_) => Ok(false),
            none => {
                *none = Some(Metadata::just_created());
                Ok(true)
            }
        }
    }

    /// What is on the metadata volume, if both volumes are there.
    fn usable_metadata_volume(&mut self, wanted: &Wanted) -> Result<&mut Option<Metadata>> {
        let Backing { data, meta } = wanted.backing.as_ref().ok_or(DrbdError::NoVolumes)?;
        if !self.volumes.contains_key(data) {
            return Err(DrbdError::NoVolumes);
        }
        let meta = self.volumes.get_mut(meta).ok_or(DrbdError::NoVolumes)?;
        Ok(&mut meta.meta)
    }

    pub(super) fn drbd_assemble(&mut self, node: &str, disk: &Disk) -> Result<()> {
        let (wanted, running) = self.running(node, disk)?;
        let mut minor = running.cloned().unwrap_or(Minor {
            backing: None,
            net: None,
            is_primary: false,
            is_connected: false,
            size: disk.size,
            verdict: None,
        });
        let is_attached = |key: &String| self.machines[node].attached.contains(key);
        let usable = wanted.backing.clone().filter(|backing| {
            let has_metadata = self
                .volumes
                .get(&backing.meta)
                .is_some_and(|meta| meta.meta.is_some());
            is_attached(&backing.data) && is_attached(&backing.meta) && has_metadata
        });
        let fresh = running.is_none();
        if fresh && usable.is_none() && wanted.net.is_none() {
            return Err(DrbdError::NoVolumes);
        }
        minor.backing = minor.backing.or(usable);
        let number = wanted.minor;
        let stale = minor.net.as_ref().is_some_and(|net| !wanted.connects(net));
        self.machine(node).minors.insert(number, minor);
        if stale {
            self.part(node, number);
        }
        if let Some(minor) = self.minor_mut(node, number)
            && (stale || minor.net.is_none())
        {
            (minor.net, minor.verdict) = (wanted.net, None);
        }
        self.meet(node, number);
        Ok(())
    }

    /// Whether there was one.
    pub(super) fn drbd_shutdown(&mut self, node: &str, disk: &Disk) -> Result<bool> {
        let wanted = Wanted::of(node, disk)?;
        let is_it = self
            .minor(node, wanted.minor)
            .is_some_and(|minor| wanted.is(minor));
        if is_it {
            self.drop_minor(node, wanted.minor);
        }
        Ok(is_it)
    }

    pub(super) fn drop_minor(&mut self, node: &str, minor: u32) {
        self.part(node, minor);
        self.machine(node).minors.remove(&minor);
    }

    pub(super) fn drbd_open(&mut self, node: &str, disk: &Disk, exclusive: bool) -> Result<()> {
        if !exclusive && !self.drbd_is_connected(node, disk, true)? {
            return Err(self.drbd_not_connected(node, disk));
        }
        let (Wanted { minor: number, .. }, minor) = self.active(node, disk)?;
        if minor.is_primary {
            return Ok(());
        }
        let multimaster = minor.net.as_ref().is_some_and(|net| net.multimaster);
        let peer = self.drbd_peer(node, number);
        let peer_is_primary = peer
            .as_ref()
            .and_then(|(peer, minor)| self.minor(peer, *minor))
            .is_some_and(|peer| peer.is_primary);
        if peer_is_primary && !multimaster {
            return Err(DrbdError::PeerIsPrimary {
                source: refused("multiple primaries not allowed by config"),
            });
        }
        let peer_state = self.peer_state(node, number);
        match (self.disk_state(node, number), peer_state) {
            (DiskState::UpToDate, _) | (_, Some(DiskState::UpToDate)) => {}
            (DiskState::Inconsistent, Some(DiskState::Inconsistent))
                if self.was_never_written(node, number) =>
            {
                let generation = self.next_generation();
                if let Some(metadata) = self.metadata_mut(node, number) {
                    (metadata.current, metadata.is_inconsistent) = (generation, false);
                }
                if let Some((peer, minor)) = peer {
                    self.start_resync(&peer, minor);
                }
            }
            (state, _) => {
                if let Some(verdict) = &minor.verdict {
                    return Err(self.apart(node, number, verdict.clone()));
                }
                return Err(DrbdError::NoGoodData {
                    status: format!("{state:?}"),
                    source: refused("need access to data that is up to date"),
                });
            }
        }
        if let Some(minor) = self.minor_mut(node, number) {
            minor.is_primary = true;
        }
        Ok(())
    }

    fn was_never_written(&self, node: &str, minor: u32) -> bool {
        self.metadata(node, minor) == Some(&Metadata::just_created())
    }

    pub(super) fn drbd_close(&mut self, node: &str, disk: &Disk) {
        let Some((number, _)) = self.running_minor(node, disk) else {
            return;
        };
        if let Some(minor) = self.minor_mut(node, number) {
            minor.is_primary = false;
        }
    }

    pub(super) fn drbd_disconnect(&mut self, node: &str, disk: &Disk) -> Result<bool> {
        let (Wanted { minor: number, .. }, minor) = self.active(node, disk)?;
        if minor.net.is_none() {
            return Ok(false);
        }
        if minor.is_primary && self.disk_state(node, number) != DiskState::UpToDate {
            return Err(DrbdError::NoGoodData {
                status: format!("{:?}", self.disk_state(node, number)),
                source: refused("need access to data that is up to date"),
            });
        }
        self.part(node, number);
        if let Some(minor) = self.minor_mut(node, number) {
            minor.net = None;
        }
        Ok(true)
    }

    /// Puts a disk on the network; whether it and its peer have met is seen later. Those that have met are both told how many may be primary.
    pub(super) fn drbd_attach_net(&mut self, node: &str, disk: &Disk, multimaster: bool) -> Result<bool> {
        let (wanted, minor) = self.active(node, disk)?;
        let number = wanted.minor;
        match &minor.net {
            Some(net) if net.multimaster == multimaster => return Ok(false),
            Some(_) => {
                let ends = [Some((node.to_owned(), number)), self.drbd_peer(node, number)];
                let ends = || ends.iter().flatten();
                let are_primary = ends().filter_map(|(node, minor)| self.minor(node, *minor));
                if !multimaster && are_primary.filter(|minor| minor.is_primary).count() == 2 {
                    return Err(DrbdError::BothPrimary {
                        source: refused("can not clear allow-two-primaries"),
                    });
                }
                for (node, minor) in ends() {
                    let minor = self.minor_mut(node, *minor);
                    if let Some(net) = minor.and_then(|minor| minor.net.as_mut()) {
                        net.multimaster = multimaster;
                    }
                }
            }
            None => {
                let net = wanted.net.map(|net| Net { multimaster, ..net });
                if let Some(minor) = self.minor_mut(node, number) {
                    (minor.net, minor.verdict) = (net, None);
                }
            }
        }
        self.meet(node, number);
        Ok(true)
    }

    /// Whether a disk is connected as it should be; an error if it will not be.
    pub(super) fn drbd_is_connected(&self, node: &str, disk: &Disk, two_primaries: bool) -> Result<bool> {
        let (Wanted { minor: number, .. }, minor) = self.active(node, disk)?;
        if let Some(verdict) = &minor.verdict {
            return Err(self.apart(node, number, verdict.clone()));
        }
        let states = [Some(self.disk_state(node, number)), self.peer_state(node, number)];
        let is_usable = !two_primaries || states == [Some(DiskState::UpToDate); 2];
        Ok(minor.is_connected && is_usable)
    }

    /// What is told of a disk that did not meet its peer.
    pub(super) fn drbd_not_connected(&self, node: &str, disk: &Disk) -> DrbdError {
        match self.active(node, disk) {
            Err(error) => error,
            Ok((
                Wanted {
                    minor: number, net, ..
                },
                minor,
            )) => match &minor.verdict {
                Some(verdict) => self.apart(node, number, verdict.clone()),
                None => DrbdError::NotConnected {
                    peer: net.map(|net| net.peer.0).unwrap_or_default(),
                    status: format!(
                        "cs:{}",
                        if minor.net.is_some() {
                            "WFConnection"
                        } else {
                            "StandAlone"
                        }
                    ),
                },
            },
        }
    }

    fn apart(&self, node: &str, minor: u32, verdict: Verdict) -> DrbdError {
        DrbdError::Apart {
            peer: self
                .minor(node, minor)
                .and_then(|minor| Some(minor.net.as_ref()?.peer.0.clone()))
                .unwrap_or_default(),
            verdict,
            discard_here: format!("drbdsetup invalidate {minor}"),
            discard_there: "drbdsetup invalidate".to_owned(),
        }
    }

    pub(super) fn drbd_add_children(&mut self, node: &str, disk: &Disk) -> Result<bool> {
        let (wanted, minor) = self.running(node, disk)?;
        if minor.is_some_and(|minor| minor.backing.is_some()) {
            return Ok(false);
        }
        let number = wanted.minor;
        self.usable_metadata_volume(&wanted)?
            .get_or_insert_with(Metadata::just_created);
        if let Some(minor) = self.minor_mut(node, number) {
            minor.backing = wanted.backing;
        }
        if let Some((peer, peer_minor)) = self.drbd_peer(node, number) {
            let relation = self.relation(node, number, &peer, peer_minor);
            self.synchronise(&relation, (node, number), (&peer, peer_minor));
        }
        Ok(true)
    }

    pub(super) fn drbd_remove_children(&mut self, node: &str, disk: &Disk) -> Result<bool> {
        let (Wanted { minor: number, .. }, minor) = self.running(node, disk)?;
        let Some(minor) = minor.filter(|minor| minor.backing.is_some()) else {
            return Ok(false);
        };
        if minor.is_primary && self.peer_state(node, number) != Some(DiskState::UpToDate) {
            return Err(DrbdError::NoGoodData {
                status: "UpToDate".to_owned(),
                source: refused("need access to data that is up to date"),
            });
        }
        self.drbd.resyncs.remove(&(node.to_owned(), number));
        if let Some(peer) = self.drbd_peer(node, number) {
            self.drbd.resyncs.remove(&peer);
        }
        if let Some(minor) = self.minor_mut(node, number) {
            minor.backing = None;
        }
        Ok(true)
    }

    /// The volumes below must have grown on both nodes.
    pub(super) fn drbd_grow(
        &mut self,
        node: &str,
        disk: &Disk,
        to: Mebibytes,
        dry_run: bool,
    ) -> Result<bool> {
        let (Wanted { minor: number, .. }, minor) = self.active(node, disk)?;
        if minor.backing.is_none() {
            return Err(DrbdError::Diskless);
        }
        if minor.size >= to {
            return Ok(false);
        }
        if dry_run {
            return Ok(true);
        }
        let (was, ends) = (
            minor.size,
            [Some((node.to_owned(), number)), self.drbd_peer(node, number)],
        );
        let has_room = |(node, minor): &(String, u32)| {
            let backing = self.minor(node, *minor).and_then(|minor| minor.backing.as_ref());
            backing.is_none_or(|backing| {
                self.volumes
                    .get(&backing.data)
                    .is_some_and(|data| data.size >= to)
            })
        };
        if !ends.iter().flatten().all(has_room) {
            return Err(DrbdError::NotGrown {
                bytes: was.bytes(),
                to,
            });
        }
        for (node, minor) in ends.into_iter().flatten() {
            if let Some(minor) = self.minor_mut(&node, minor) {
                minor.size = to;
            }
        }
        Ok(true)
    }

    pub(super) fn drbd_pause(&mut self, node: &str, disk: &Disk, pause: bool) -> Result<()> {
        let (Wanted { minor: number, .. }, _) = self.active(node, disk)?;
        let ends = [Some((node.to_owned(), number)), self.drbd_peer(node, number)];
        let now = self.drbd.clock.now;
        for end in ends.into_iter().flatten() {
            if let Some(resync) = self.drbd.resyncs.get_mut(&end) {
                match (pause, resync.since) {
                    (true, Some(since)) => {
                        (resync.left, resync.since) = (resync.left.saturating_sub(now - since), None);
                    }
                    (false, None) => resync.since = Some(now),
                    _ => {}
                }
            }
        }
        Ok(())
    }

    /// The minors of a node as [`gnt_bdev::drbd::minors`] tells them.
    pub(super) fn drbd_minors(&self, node: &str) -> Vec<DrbdMinor> {
        let path = |key: &String| {
            let volume = self.volumes.get(key)?;
            Some(device_path(node, volume.device, &volume.logical_id))
        };
        let tell = |(number, minor): (&u32, &Minor)| DrbdMinor {
            minor: *number,
            ours: true,
            data: minor.backing.as_ref().and_then(|backing| path(&backing.data)),
            meta: minor.backing.as_ref().and_then(|backing| path(&backing.meta)),
            local: minor.net.as_ref().and_then(|net| net.ends[0]),
            remote: minor.net.as_ref().and_then(|net| net.ends[1]),
            primary: minor.is_primary,
            secret: minor.net.as_ref().map(|net| net.secret.clone()),
        };
        let minors = self
            .machines
            .get(node)
            .into_iter()
            .flat_map(|machine| &machine.minors);
        minors.map(tell).collect()
    }

    /// As the driver tells it.
    pub(super) fn drbd_sync_status(&self, node: &str, disk: &Disk) -> SyncStatus {
        let Some((number, minor)) = self.running_minor(node, disk) else {
            return SyncStatus {
                is_degraded: true,
                ldisk_status: LocalDiskStatus::Unknown,
                ..SyncStatus::OKAY
            };
        };
        let state = self.disk_state(node, number);
        let own = self.drbd.resyncs.get(&(node.to_owned(), number));
        let resync = own.or_else(|| self.drbd.resyncs.get(&self.drbd_peer(node, number)?));
        let now = self.drbd.clock.now;
        let ldisk_status = match (state, resync) {
            (DiskState::Diskless, _) => LocalDiskStatus::Faulty,
            _ if minor.net.is_none() => LocalDiskStatus::Faulty,
            (DiskState::UpToDate, _) => LocalDiskStatus::Okay,
            (_, Some(_)) => LocalDiskStatus::Sync,
            _ => LocalDiskStatus::Unknown,
        };
        let left = resync.map(|resync| resync.left(now));
        SyncStatus {
            sync_percent: resync
                .map(|resync| 100.0 - 100.0 * resync.left(now).div_duration_f64(resync.total)),
            estimated_time: left.map(|left| left.as_secs()),
            is_degraded: !minor.is_connected || state != DiskState::UpToDate,
            ldisk_status,
        }
    }
}

impl Resync {
    /// What is left of it at a time.
    fn left(&self, now: Duration) -> Duration {
        let gone = self.since.map(|since| now.saturating_sub(since));
        self.left.saturating_sub(gone.unwrap_or_default())
    }
}

/// What the kernels do by themselves.
impl World {
    fn next_generation(&mut self) -> u64 {
        self.drbd.generation.0 += 1;
        self.drbd.generation.0
    }

    /// Ends the synchronisations that are over by now.
    pub(super) fn settle(&mut self, now: Instant) {
        let clock = &mut self.drbd.clock;
        clock.now = now.saturating_duration_since(*clock.first.get_or_insert(now));
        let now = clock.now;
        let is_over = |resync: &Resync| resync.since.is_some() && resync.left(now).is_zero();
        let resyncs = self.drbd.resyncs.iter();
        let over: Vec<_> = resyncs
            .filter(|(_, resync)| is_over(resync))
            .map(|(end, _)| end.clone())
            .collect();
        for (node, minor) in over {
            self.drbd.resyncs.remove(&(node.clone(), minor));
            self.finish_resync(&node, minor);
        }
    }

    fn start_resync(&mut self, node: &str, minor: u32) {
        if let Some(metadata) = self.metadata_mut(node, minor) {
            metadata.is_inconsistent = true;
        }
        let size = self
            .minor(node, minor)
            .map(|minor| minor.size.0)
            .unwrap_or_default();
        match self.drbd.rate {
            None => self.finish_resync(node, minor),
            Some(rate) => {
                let total = Duration::from_secs_f64(size as f64 / rate as f64);
                let since = Some(self.drbd.clock.now);
                let resync = Resync {
                    total,
                    left: total,
                    since,
                };
                self.drbd.resyncs.insert((node.to_owned(), minor), resync);
            }
        }
    }

    /// The data of the peer is here, too.
    fn finish_resync(&mut self, node: &str, minor: u32) {
        let Some((peer, peer_minor)) = self.drbd_peer(node, minor) else {
            return;
        };
        let Some(data) = self.local_data(&peer, peer_minor).cloned() else {
            return;
        };
        if let Some(here) = self.local_data_mut(node, minor) {
            *here = data;
        }
        let Some(source) = self.metadata_mut(&peer, peer_minor) else {
            return;
        };
        source.history.extend(source.parted.take());
        let metadata = source.clone();
        if let Some(here) = self.metadata_mut(node, minor) {
            *here = metadata;
        }
    }

    /// What an administrator does on the node whose data is to be lost: it is as if nothing had ever been written there.
    pub fn invalidate(&mut self, node: &str, minor: u32) {
        if let Some(metadata) = self.metadata_mut(node, minor) {
            *metadata = Metadata::just_created();
        }
    }

    /// Both ends lose the connection, and wait for each other.
    pub(super) fn part(&mut self, node: &str, minor: u32) {
        let ends = [Some((node.to_owned(), minor)), self.drbd_peer(node, minor)];
        for (node, number) in ends.into_iter().flatten() {
            if let Some(minor) = self.minor_mut(&node, number) {
                minor.is_connected = false;
            }
            self.drbd.resyncs.remove(&(node, number));
        }
    }

    /// Everything between two nodes parts.
    pub(super) fn part_all(&mut self, one: &str, other: &str) {
        let minors: Vec<u32> = self.machine(one).minors.keys().copied().collect();
        for minor in minors {
            if self.drbd_peer(one, minor).is_some_and(|(peer, _)| peer == other) {
                self.part(one, minor);
            }
        }
    }

    /// Everything on a node that waits for its peer looks for it.
    pub(super) fn meet_all(&mut self, node: &str) {
        let minors: Vec<u32> = self.machine(node).minors.keys().copied().collect();
        for minor in minors {
            self.meet(node, minor);
        }
    }

    /// Connects a minor to its peer, if that is there and looks for it.
    fn meet(&mut self, node: &str, minor: u32) {
        let Some(here) = self.minor(node, minor).filter(|here| !here.is_connected) else {
            return;
        };
        let Some(net) = &here.net else { return };
        let (peer, peer_minor) = net.peer.clone();
        let Some(there) = self.minor(&peer, peer_minor) else {
            return;
        };
        let expected = Net {
            peer: (node.to_owned(), minor),
            ends: [net.ends[1], net.ends[0]],
            ..net.clone()
        };
        if !self.are_connected(node, &peer) || there.net.as_ref() != Some(&expected) {
            return;
        }
        let two_primaries = here.is_primary && there.is_primary;
        let relation = self.relation(node, minor, &peer, peer_minor);
        let (here_primary, there_primary) = (here.is_primary, there.is_primary);
        let verdict = match relation {
            Relation::SplitBrain => Some(Verdict::SplitBrain {
                here: None,
                there: None,
            }),
            Relation::Unrelated => Some(Verdict::Unrelated),
            // A primary does not give up its data.
            Relation::FirstIsNewer if there_primary => Some(Verdict::SplitBrain {
                here: None,
                there: None,
            }),
            Relation::SecondIsNewer if here_primary => Some(Verdict::SplitBrain {
                here: None,
                there: None,
            }),
            _ if two_primaries && !net.multimaster => {
                Some(Verdict::Incompatible("allow-two-primaries".to_owned()))
            }
            _ => None,
        };
        let size = here.size.min(there.size);
        for (node, minor) in [(node, minor), (&peer, peer_minor)] {
            if let Some(end) = self.minor_mut(node, minor) {
                match &verdict {
                    Some(verdict) => (end.net, end.verdict) = (None, Some(verdict.clone())),
                    None => (end.is_connected, end.size) = (true, size),
                }
            }
        }
        if verdict.is_none() {
            self.synchronise(&relation, (node, minor), (&peer, peer_minor));
        }
    }

    /// What two ends of a connection have of each other's data.
    fn relation(&self, node: &str, minor: u32, peer: &str, peer_minor: u32) -> Relation {
        match (self.metadata(node, minor), self.metadata(peer, peer_minor)) {
            (Some(here), Some(there)) => relation(here, there),
            _ => Relation::Same,
        }
    }

    /// The end with the older data gets the newer, if that is good.
    fn synchronise(&mut self, relation: &Relation, first: (&str, u32), second: (&str, u32)) {
        let (source, target) = match relation {
            Relation::FirstIsNewer => (first, second),
            Relation::SecondIsNewer => (second, first),
            Relation::Same | Relation::SplitBrain | Relation::Unrelated => return,
        };
        if self.disk_state(source.0, source.1) == DiskState::UpToDate {
            self.start_resync(target.0, target.1);
        }
    }

    /// What is written from now on the peer does not get.
    fn begin_generation(&mut self, node: &str, minor: u32) {
        let generation = self.next_generation();
        if let Some(metadata) = self.metadata_mut(node, minor)
            && metadata.parted.is_none()
        {
            metadata.parted = Some(metadata.current);
            metadata.current = generation;
        }
    }

    fn local_data(&self, node: &str, minor: u32) -> Option<&Bytes> {
        let backing = self.minor(node, minor)?.backing.as_ref()?;
        Some(&self.volumes.get(&backing.data)?.data)
    }

    fn local_data_mut(&mut self, node: &str, minor: u32) -> Option<&mut Bytes> {
        let data = self.minor(node, minor)?.backing.as_ref()?.data.clone();
        Some(&mut self.volumes.get_mut(&data)?.data)
    }

    /// The data that a minor shows: its own, or that of its peer; none if there is none to be had.
    pub(super) fn drbd_data(&self, node: &str, minor: u32) -> Option<&Bytes> {
        if self.disk_state(node, minor) == DiskState::UpToDate {
            return self.local_data(node, minor);
        }
        let (peer, minor) = self.drbd_peer(node, minor)?;
        (self.disk_state(&peer, minor) == DiskState::UpToDate).then(|| self.local_data(&peer, minor))?
    }

    /// Writes to a primary: on both nodes, if they are connected. False if no good data can be reached.
    pub(super) fn drbd_write(&mut self, node: &str, minor: u32, write: impl Fn(&mut Bytes)) -> bool {
        if self.drbd_data(node, minor).is_none() {
            return false;
        }
        let peer = self.drbd_peer(node, minor);
        let end = Some((node.to_owned(), minor));
        for (here, there) in [(&end, &peer), (&peer, &end)] {
            let has_disk = |end: &Option<(String, u32)>| {
                end.as_ref()
                    .is_some_and(|(node, minor)| self.disk_state(node, *minor) != DiskState::Diskless)
            };
            if let Some((node, minor)) = here.as_ref().filter(|_| has_disk(here) && !has_disk(there)) {
                self.begin_generation(node, *minor);
            }
        }
        for (node, minor) in [end, peer].into_iter().flatten() {
            if let Some(data) = self.local_data_mut(&node, minor) {
                write(data);
            }
        }
        true
    }
}

fn refused(what: &str) -> ToolError {
    ToolError::Output {
        command: "drbdsetup".to_owned(),
        what: what.to_owned(),
        lines: Vec::new(),
    }
}
