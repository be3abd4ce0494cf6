//! One drbd device on this node: what its configuration wants, what the kernel has, and how to get from one to the other.

use std::net::{IpAddr, SocketAddr};
use std::path::{Path, PathBuf};
use std::thread;
use std::time::{Duration, Instant};

use gnt_config::params::{DrbdDeviceParams, Parameters as _, Protocol};
use gnt_config::{LogicalDevice, LogicalId, Mebibytes, Secret};
use gnt_process::{Command, Output};

use super::commands::{self, Address, Connection};
use super::error::{self, DrbdError};
use super::parse::{self, ConnectionState, DiskState, Role, Setup, SetupDisk, SetupNet, Status, Verdict};
use crate::device;
use crate::driver::{BlockDevice, Change, Target};
use crate::error::{Cause, ErrorKind};
use crate::host::Host;
use crate::tool;

/// The major number of drbd devices.
const MAJOR: u32 = 147;

/// What a metadata volume may have (`_CheckMetaSize`): the size that it is asked for, and what stripes and extents may make of that.
const META_SIZE: [Mebibytes; 2] = [Mebibytes(128), Mebibytes(1024)];

/// How long something that the kernel does by itself may take.
const SETTLE: Patience = Patience::new(Duration::from_millis(100), Duration::from_secs(5));
/// How long news from the peer may take.
const HEAR: Patience = Patience::new(Duration::from_millis(100), Duration::from_secs(1));
/// How long a peer that is there may take to be found.
const MEET: Patience = Patience::new(Duration::from_millis(100), Duration::from_secs(15));
/// How long two nodes may take that look for each other: they try every 10 seconds (`connect-int`).
const FIND: Patience = Patience::new(Duration::from_millis(100), Duration::from_secs(30));
/// How long two nodes may take to part (`_NET_RECONFIG_TIMEOUT`).
const PART: Patience = Patience::new(Duration::from_millis(100), Duration::from_secs(60));
/// How long two nodes that are told to connect, one after the other, may take (`DrbdAttachNet`).
const CONNECT: Patience = Patience::new(Duration::from_millis(100), Duration::from_secs(120));

/// A device as its configuration wants it.
pub(super) struct Device<'a> {
    host: &'a Host,
    minor: u32,
    peer_minor: u32,
    size: Mebibytes,
    net: Option<Net>,
    secret: &'a Secret,
    params: DrbdDeviceParams,
    /// What it should keep its data on; none if it should have none.
    wanted: Option<Volumes>,
    /// The same, if both are there.
    volumes: Option<Volumes>,
}

#[derive(Clone)]
struct Volumes {
    data: Volume,
    meta: Volume,
}

#[derive(Clone)]
struct Volume {
    path: PathBuf,
    bytes: Option<u64>,
}

/// The two ends of its connection.
#[derive(Clone, Copy)]
struct Net {
    local: SocketAddr,
    remote: SocketAddr,
}

/// What the kernel has under a minor.
enum Found {
    /// Nothing, or a minor that nothing was done with yet.
    Free,
    /// A device.
    Running(Running),
}

/// A device that runs.
pub(super) struct Running {
    pub(super) status: Status,
    setup: Setup,
}

/// What is missing on a device that runs, or that does not run yet, to be as it should.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct Plan {
    attach: bool,
    /// From a peer that is not ours.
    disconnect: bool,
    connect: bool,
}

impl<'a> Device<'a> {
    pub(super) fn of(host: &'a Host, target: &Target<'a>) -> Result<Self, Cause> {
        let disk = target.disk;
        let LogicalId::Drbd8 { port, secret, .. } = &disk.logical_id else {
            return Err(Cause::WrongId {
                device: LogicalDevice::Drbd,
                id: disk.logical_id.clone(),
            });
        };
        let dynamic = disk.dynamic_params.as_ref().ok_or(DrbdError::NotOnNode)?;
        let net = port.map(|port| Net::new(&dynamic.local_ip, &dynamic.remote_ip, port));
        let wanted = Volumes::wanted(target);
        let there = Volumes::there(target);
        Ok(Self {
            host,
            minor: dynamic.local_minor,
            peer_minor: dynamic.remote_minor,
            size: disk.size,
            net: net.transpose()?,
            secret,
            params: DrbdDeviceParams::from_object(&disk.params).map_err(DrbdError::from)?,
            // In a dry run they were not made.
            volumes: there.or_else(|| wanted.clone().filter(|_| host.is_dry_run())),
            wanted,
        })
    }

    /// What runs, if it is this device; none if the minor is free.
    pub(super) fn running(&self) -> Result<Option<Running>, DrbdError> {
        match self.look()? {
            Found::Free => Ok(None),
            Found::Running(running) if self.plan(&running.setup).is_some() => Ok(Some(running)),
            Found::Running(running) => Err(self.taken(&running.setup)),
        }
    }

    /// What runs, which must be this device.
    pub(super) fn active(&self) -> Result<Running, DrbdError> {
        self.running()?.ok_or(DrbdError::NotActive { minor: self.minor })
    }

    /// As [`running`](Self::running); a minor that is somebody else's is not this device either.
    pub(super) fn running_if_ours(&self) -> Result<Option<Running>, DrbdError> {
        match self.running() {
            Err(DrbdError::MinorTaken { .. }) => Ok(None),
            other => other,
        }
    }

    fn look(&self) -> Result<Found, DrbdError> {
        match status(self.host, self.minor)? {
            None => Ok(Found::Free),
            Some(status) => Ok(match self.setup()? {
                None => Found::Free,
                Some(setup) => Found::Running(Running { status, setup }),
            }),
        }
    }

    /// How the minor is set up; none if there is none.
    fn setup(&self) -> Result<Option<Setup>, DrbdError> {
        setup(self.host, self.minor)
    }

    /// What a device that is set up like this lacks to be this one (`_SlowAssemble`); none if it is another, which is not touched. A device
    /// is this one by its volumes, or, if it has none, by its connection. One without either is one that an assembly left half-way.
    fn plan(&self, setup: &Setup) -> Option<Plan> {
        if setup.resource != commands::resource(self.minor) {
            return None;
        }
        let is_connected = match (self.net, &setup.net) {
            (Some(wanted), Some(net)) => wanted.is(net),
            _ => false,
        };
        match (&setup.disk, &setup.net) {
            (Some(disk), _) if !self.wanted.as_ref().is_some_and(|wanted| wanted.are(disk)) => None,
            (None, Some(_)) if !is_connected => None,
            (disk, net) => Some(Plan {
                attach: disk.is_none() && self.volumes.is_some(),
                disconnect: net.is_some() && !is_connected,
                connect: self.net.is_some() && !is_connected,
            }),
        }
    }

    fn taken(&self, setup: &Setup) -> DrbdError {
        let mut parts = vec![format!("the resource {}", setup.resource)];
        match &setup.disk {
            Some(SetupDisk { data, meta }) => parts.push(format!("on {data} and {meta}")),
            None => parts.push("without data here".to_owned()),
        }
        if let Some(SetupNet { local, remote, .. }) = &setup.net {
            parts.push(format!("connecting {local} and {remote}"));
        }
        DrbdError::MinorTaken {
            minor: self.minor,
            resource: setup.resource.clone(),
            what: parts.join(", "),
        }
    }

    /// Makes metadata, once: what is valid stays. Valid metadata that tells of data which was written would be wrong about a new disk.
    pub(super) fn create(&self) -> Result<Change, Cause> {
        if let Some(running) = self.running()?
            && running.setup.disk.is_some()
        {
            return Ok(Change::AlreadyThere);
        }
        let volumes = self.usable_volumes()?;
        match self.generations(&volumes.meta.path)? {
            Some(Generations::JustCreated) => Ok(Change::AlreadyThere),
            Some(Generations::Used) => Err(DrbdError::MetaUsed {
                meta: volumes.meta.path.clone(),
            }
            .into()),
            None => {
                self.create_metadata(&volumes.meta.path)?;
                Ok(Change::Made)
            }
        }
    }

    /// The volumes, which must be there, large enough and nobody else's: `drbdmeta` would write over the metadata of another device.
    fn usable_volumes(&self) -> Result<&Volumes, Cause> {
        let volumes = self.volumes.as_ref().ok_or(DrbdError::NoVolumes)?;
        let [least, most] = META_SIZE;
        let Volume { path, bytes } = &volumes.meta;
        if let Some(bytes) = *bytes
            && !(least.bytes()..=most.bytes()).contains(&bytes)
        {
            return Err(DrbdError::MetaSize {
                path: path.clone(),
                bytes,
                least,
                most,
            }
            .into());
        }
        let Volume { path, bytes } = &volumes.data;
        if let Some(bytes) = *bytes
            && bytes < self.size.bytes()
        {
            return Err(Cause::TooSmall {
                path: path.clone(),
                bytes,
                size: self.size,
            });
        }
        for volume in [&volumes.data, &volumes.meta] {
            device::ensure_free(&volume.path).map_err(DrbdError::from)?;
        }
        Ok(volumes)
    }

    fn create_metadata(&self, meta: &Path) -> Result<(), DrbdError> {
        self.run(&commands::wipe(meta))?;
        self.run(&commands::create_metadata(self.minor, meta))?;
        Ok(())
    }

    /// What a metadata volume says; none if it has no metadata.
    fn generations(&self, meta: &Path) -> Result<Option<Generations>, DrbdError> {
        let command = commands::stored_generations(self.minor, meta);
        let output = match self.run(&command) {
            Ok(output) => output,
            // Without metadata it says nothing.
            Err(DrbdError::Tool(tool::ToolError::Failed { failed, .. }))
                if failed.status == gnt_process::Status::Exited(1) && failed.stderr.is_blank() =>
            {
                return Ok(None);
            }
            // In a dry run the volume was not made.
            Err(error) if self.host.is_dry_run() && error.kind() == ErrorKind::NotFound => return Ok(None),
            Err(error) => return Err(error),
        };
        just_created(&output).map(|just_created| {
            Some(match just_created {
                true => Generations::JustCreated,
                false => Generations::Used,
            })
        })
    }

    /// Brings up what is missing: the disk, then the connection (`_FastAssemble`, `_SlowAssemble`). What runs under the minor and is another
    /// device is left alone.
    pub(super) fn assemble(&self) -> Result<BlockDevice, DrbdError> {
        let running = self.running()?;
        let plan = match &running {
            Some(running) => self.plan(&running.setup),
            None => None,
        };
        let plan = plan.unwrap_or(Plan {
            attach: self.volumes.is_some(),
            disconnect: false,
            connect: self.net.is_some(),
        });
        if running.is_none() && !plan.attach && !plan.connect {
            return Err(DrbdError::NoVolumes);
        }
        let done = self.carry_out(plan, running.as_ref());
        if done.is_err() && running.is_none() {
            // Half a device would be in the way of whatever gets this minor next.
            let _ = self.run(&commands::down(&commands::resource(self.minor)));
        }
        done?;
        self.device()
    }

    fn carry_out(&self, plan: Plan, running: Option<&Running>) -> Result<(), DrbdError> {
        if plan.attach {
            self.attach()?;
        }
        if plan.disconnect
            && let Some(net) = running.and_then(|running| running.setup.net.as_ref())
        {
            self.disconnect(net)?;
        }
        if plan.connect {
            self.connect(false)?;
        }
        if self.host.is_dry_run() {
            return Ok(());
        }
        let Running { status, setup } = self.active()?;
        if plan.connect && status.connection == ConnectionState::StandAlone {
            return match self.verdict_since_connect() {
                Some(verdict @ Verdict::NoAddress) => Err(self.apart(verdict)),
                // It met its peer, and was sent away: what it has can be used nevertheless.
                Some(_) => Ok(()),
                None => Err(self.not_connected(&status)),
            };
        }
        match self.plan(&setup) {
            Some(Plan { attach: false, .. }) => Ok(()),
            _ => Err(self.taken(&setup)),
        }
    }

    fn attach(&self) -> Result<(), DrbdError> {
        let volumes = self.volumes.as_ref().ok_or(DrbdError::NoVolumes)?;
        let Volumes { data, meta } = volumes;
        for command in commands::attach(self.minor, &data.path, &meta.path, self.size, &self.params)? {
            self.run(&command)?;
        }
        self.run(&commands::sync_params(self.minor, &self.params)?)?;
        Ok(())
    }

    fn connect(&self, two_primaries: bool) -> Result<(), DrbdError> {
        let Some(net) = self.net else {
            return Ok(());
        };
        let address = |end: SocketAddr| Address::new(end.ip(), end.port());
        let connection = Connection {
            local: address(net.local),
            remote: address(net.remote),
            secret: self.secret,
            protocol: self.protocol(two_primaries),
            two_primaries,
        };
        for command in commands::connect(self.minor, &connection, &self.params)? {
            self.run(&command)?;
        }
        Ok(())
    }

    /// With two primaries a write must be on both nodes before either goes on (`DRBD_MIGRATION_NET_PROTOCOL`).
    fn protocol(&self, two_primaries: bool) -> Protocol {
        match two_primaries {
            true => Protocol::C,
            false => self.params.protocol,
        }
    }

    /// The peer may be gone from it already.
    fn disconnect(&self, net: &SetupNet) -> Result<(), DrbdError> {
        let [local, remote] = net.ends();
        match self.run(&commands::disconnect(&local, &remote)) {
            Err(error) if error.kind() == ErrorKind::NotFound => Ok(()),
            other => other.map(drop),
        }
    }

    /// The device node and its size; none of it in a dry run in which it was not assembled.
    pub(super) fn device(&self) -> Result<BlockDevice, DrbdError> {
        let bytes = match self.bytes() {
            Err(_) if self.host.is_dry_run() => return Ok(BlockDevice::default()),
            bytes => bytes?,
        };
        Ok(BlockDevice {
            path: Some(commands::device_path(self.minor).into()),
            major: Some(MAJOR),
            minor: Some(self.minor),
            bytes: Some(bytes),
            uris: Vec::new(),
        })
    }

    /// Its size in bytes.
    pub(super) fn bytes(&self) -> Result<u64, DrbdError> {
        const SECTOR: u64 = 512;
        let output = self.run(&commands::sectors(self.minor))?;
        let sectors = parse::sectors(&output.stdout.text()).map_err(|source| DrbdError::Form {
            what: "the size of the device",
            source,
        })?;
        Ok(sectors.saturating_mul(SECTOR))
    }

    /// Makes it primary. A new disk, which has no good data on either node yet, is told that what this node has is good (`Open(force)`): that is
    /// so only where the two nodes are connected and both say that nothing was ever written.
    ///
    /// Unless it is `exclusive`, the other node may be primary as well, and this one must have all that it writes.
    pub(super) fn open(&self, exclusive: bool) -> Result<(), DrbdError> {
        let Some(mut running) = self.running()? else {
            return match self.host.is_dry_run() {
                true => self.run(&commands::primary(self.minor, false)).map(drop),
                false => Err(DrbdError::NotActive { minor: self.minor }),
            };
        };
        if !exclusive && !is_usable(&running.status, true) && !self.host.is_dry_run() {
            return Err(match running.status.connection.is_connected() {
                true => DrbdError::NotAlike {
                    status: running.status.to_string(),
                },
                false => self.why_not_connected(&running.status),
            });
        }
        if running.status.role == Role::Primary {
            return Ok(());
        }
        // The good data may be on a peer that is about to be found.
        MEET.until(|| {
            if needs_peer(&running.status) {
                running = self.active()?;
            }
            Ok(!needs_peer(&running.status))
        })?;
        let force = self.is_new(&running.status)?;
        match self.run(&commands::primary(self.minor, force)) {
            Ok(_) => Ok(()),
            Err(DrbdError::Tool(source)) => Err(match error::code(&source) {
                Some(-1) => DrbdError::PeerIsPrimary { source },
                Some(-2) => match self.verdict() {
                    Some(verdict) => self.apart(verdict),
                    None => DrbdError::NoGoodData {
                        status: running.status.to_string(),
                        source,
                    },
                },
                _ => DrbdError::Tool(source),
            }),
            Err(error) => Err(error),
        }
    }

    /// Makes a new disk primary although no peer is there: what this node has is declared good if nothing was ever written to it. A peer that
    /// turns out to have other data does not connect, so none is lost.
    pub(super) fn open_new(&self) -> Result<(), DrbdError> {
        match self.running()? {
            Some(running) if is_without_peer(&running.status) => {
                match just_created(&self.run(&commands::generations(self.minor))?)? {
                    true => self.run(&commands::primary(self.minor, true)).map(drop),
                    false => self.open(true),
                }
            }
            _ => self.open(true),
        }
    }

    fn is_new(&self, status: &Status) -> Result<bool, DrbdError> {
        let nobody_has_data = status.connection == ConnectionState::Connected
            && [status.disk, status.peer_disk] == [DiskState::Inconsistent; 2];
        if !nobody_has_data {
            return Ok(false);
        }
        just_created(&self.run(&commands::generations(self.minor))?)
    }

    /// Makes it secondary.
    pub(super) fn close(&self) -> Result<(), DrbdError> {
        match self.running_if_ours()? {
            Some(running) if running.status.role == Role::Primary => {
                self.run(&commands::secondary(self.minor)).map(drop)
            }
            _ => Ok(()),
        }
    }

    /// Takes it down. Also one that an assembly left half-way.
    pub(super) fn shutdown(&self) -> Result<Change, DrbdError> {
        let is_ours = match self.look()? {
            Found::Running(running) => self.plan(&running.setup).is_some(),
            Found::Free => {
                let setup = self.setup()?;
                setup.is_some_and(|setup| self.plan(&setup).is_some())
            }
        };
        if !is_ours {
            return Ok(Change::AlreadyThere);
        }
        self.run(&commands::down(&commands::resource(self.minor)))?;
        Ok(Change::Made)
    }

    /// The kernel takes a size that the volumes below have no room for without a word, and keeps the old one.
    pub(super) fn grow(&self, to: Mebibytes, dry_run: bool) -> Result<Change, DrbdError> {
        let running = self.active()?;
        if running.setup.disk.is_none() {
            return Err(DrbdError::Diskless);
        }
        let mut bytes = self.bytes()?;
        if bytes >= to.bytes() {
            return Ok(Change::AlreadyThere);
        }
        if dry_run {
            return Ok(Change::Made);
        }
        self.run(&commands::resize(self.minor, to))?;
        if self.host.is_dry_run() {
            return Ok(Change::Made);
        }
        let grown = SETTLE.until(|| {
            bytes = self.bytes()?;
            Ok(bytes >= to.bytes())
        })?;
        match grown {
            true => Ok(Change::Made),
            false => Err(DrbdError::NotGrown { bytes, to }),
        }
    }

    /// Attaches volumes to a device that has none. Metadata that they have already stays: it tells what does not need to be copied again. If the
    /// device does not run, they are attached when it is assembled.
    pub(super) fn add_children(&self) -> Result<Change, Cause> {
        let running = self.running()?;
        if running
            .as_ref()
            .is_some_and(|running| running.setup.disk.is_some())
        {
            return Ok(Change::AlreadyThere);
        }
        let volumes = self.usable_volumes()?;
        if self.generations(&volumes.meta.path)?.is_none() {
            self.create_metadata(&volumes.meta.path)?;
        }
        if running.is_some() || self.host.is_dry_run() {
            self.attach()?;
        }
        Ok(Change::Made)
    }

    /// A device that does not run has none.
    pub(super) fn remove_children(&self) -> Result<Change, DrbdError> {
        match self.running()? {
            Some(running) if running.setup.disk.is_some() => {}
            None if self.host.is_dry_run() => {}
            _ => return Ok(Change::AlreadyThere),
        }
        self.run(&commands::detach(self.minor))?;
        if self.host.is_dry_run() {
            return Ok(Change::Made);
        }
        let detached = SETTLE.until(|| Ok(self.active()?.setup.disk.is_none()))?;
        match detached {
            true => Ok(Change::Made),
            false => Err(DrbdError::StillAttached { after: SETTLE.most }),
        }
    }

    pub(super) fn pause_sync(&self, pause: bool) -> Result<(), DrbdError> {
        self.active()?;
        let command = match pause {
            true => commands::pause_sync(self.minor),
            false => commands::resume_sync(self.minor),
        };
        match self.run(&command) {
            // It is so already.
            Err(error) if error.kind() == ErrorKind::AlreadyExists => Ok(()),
            other => other.map(drop),
        }
    }

    /// A command that comes while the peer disconnects is forgotten, so it is repeated.
    pub(super) fn disconnect_net(&self) -> Result<Change, DrbdError> {
        let mut running = self.active()?;
        if running.status.connection == ConnectionState::StandAlone {
            return Ok(Change::AlreadyThere);
        }
        let mut refused = None;
        let disconnected = PART.until(|| {
            if let Some(net) = &running.setup.net {
                refused = self.disconnect(net).err();
            }
            if self.host.is_dry_run() {
                return Ok(true);
            }
            running = self.active()?;
            Ok(running.status.connection == ConnectionState::StandAlone)
        })?;
        match (disconnected, refused) {
            (true, _) => Ok(Change::Made),
            (false, Some(error)) => Err(error),
            (false, None) => Err(DrbdError::StillConnected {
                peer: self.peer(),
                after: PART.most,
                status: running.status.to_string(),
            }),
        }
    }

    /// A connection that is there stays: it is told how many may be primary, so that nothing is written that only one node gets.
    ///
    /// While the other node is not set up alike, which is so while they are told one after the other, they part again. So that is repeated,
    /// unless the kernel says that it makes no sense.
    pub(super) fn attach_net(&self, two_primaries: bool) -> Result<Change, DrbdError> {
        let mut running = self.active()?;
        let mut change = Change::AlreadyThere;
        let patience = match running.status.connection {
            ConnectionState::StandAlone => CONNECT,
            _ => FIND,
        };
        let connected = patience.until(|| {
            let other_mode = |running: &Running| {
                let net = running.setup.net.clone();
                net.filter(|net| net.two_primaries != two_primaries)
            };
            if running.status.connection == ConnectionState::StandAlone {
                self.connect(two_primaries)?;
                change = Change::Made;
            } else if let Some(net) = other_mode(&running) {
                let told = self.tell_primaries(&net, two_primaries);
                running = self.active()?;
                let Status { connection, .. } = running.status;
                let can_be_told = connection.is_connected() || connection == ConnectionState::WFConnection;
                // One that is just parting cannot, and is connected anew.
                if other_mode(&running).is_some() && can_be_told {
                    told?;
                }
                change = Change::Made;
            }
            if self.host.is_dry_run() && change == Change::Made {
                return Ok(true);
            }
            running = self.active()?;
            if other_mode(&running).is_some() {
                return Ok(false);
            }
            if is_usable(&running.status, two_primaries) {
                return Ok(true);
            }
            match self.verdict_since_connect() {
                Some(verdict) if !matches!(verdict, Verdict::Incompatible(_)) => Err(self.apart(verdict)),
                _ => Ok(false),
            }
        })?;
        match connected {
            true => Ok(change),
            false => Err(self.why_not_connected(&running.status)),
        }
    }

    /// That the peer is secondary now may not be known here yet.
    fn tell_primaries(&self, net: &SetupNet, two: bool) -> Result<(), DrbdError> {
        let [local, remote] = net.ends();
        let command = commands::primaries(&local, &remote, self.protocol(two), two);
        let mut refused = None;
        let told = HEAR.until(|| match self.run(&command) {
            Err(DrbdError::Tool(source)) if error::code(&source) == Some(error::NEED_TWO_PRIMARIES) => {
                refused = Some(DrbdError::BothPrimary { source });
                Ok(false)
            }
            other => other.map(|_| true),
        })?;
        match refused.filter(|_| !told) {
            Some(error) => Err(error),
            None => Ok(()),
        }
    }

    /// Waits until it is connected or synchronises, for a peer that is there. One that is left alone stays so.
    pub(super) fn wait_sync(&self) -> Result<Status, DrbdError> {
        let mut status = self.active()?.status;
        MEET.until(|| {
            if !is_usable(&status, false) {
                status = self.active()?.status;
            }
            Ok(is_usable(&status, false) || status.connection == ConnectionState::StandAlone)
        })?;
        match is_usable(&status, false) {
            true => Ok(status),
            false => Err(self.why_not_connected(&status)),
        }
    }

    fn why_not_connected(&self, status: &Status) -> DrbdError {
        match self.verdict() {
            Some(verdict) => self.apart(verdict),
            None => self.not_connected(status),
        }
    }

    fn not_connected(&self, status: &Status) -> DrbdError {
        DrbdError::NotConnected {
            peer: self.peer(),
            status: status.to_string(),
        }
    }

    /// What came of the last time that the nodes met, as far as the kernel's log tells.
    fn verdict(&self) -> Option<Verdict> {
        parse::verdict(self.minor, &self.kernel_log()?)
    }

    fn verdict_since_connect(&self) -> Option<Verdict> {
        parse::verdict_since_connect(self.minor, &self.kernel_log()?)
    }

    /// It only explains, so a node that does not show it is no error.
    fn kernel_log(&self) -> Option<String> {
        let log = self.run(&commands::kernel_log()).ok()?;
        Some(log.stdout.text().into_owned())
    }

    fn apart(&self, verdict: Verdict) -> DrbdError {
        let discard = |minor: u32, from: Option<SocketAddr>, to: Option<SocketAddr>| {
            let address = |end: SocketAddr| Address::new(end.ip(), end.port());
            let ends = from.map(address).zip(to.map(address));
            let disconnect = ends.map_or_else(String::new, |(from, to)| {
                format!("{}; ", commands::disconnect(&from.to_string(), &to.to_string()))
            });
            let secondary = commands::secondary(minor);
            format!("{disconnect}{secondary} && {}", commands::invalidate(minor))
        };
        let (local, remote) = (self.net.map(|net| net.local), self.net.map(|net| net.remote));
        DrbdError::Apart {
            peer: self.peer(),
            verdict,
            discard_here: discard(self.minor, local, remote),
            discard_there: discard(self.peer_minor, remote, local),
        }
    }

    fn peer(&self) -> String {
        self.net
            .map_or_else(|| "its peer".to_owned(), |net| net.remote.ip().to_string())
    }

    fn run(&self, command: &Command) -> Result<Output, DrbdError> {
        run(self.host, command)
    }
}

/// Whether metadata tells of any data.
enum Generations {
    JustCreated,
    Used,
}

fn just_created(output: &Output) -> Result<bool, DrbdError> {
    parse::is_just_created(&output.stdout.text()).map_err(|source| DrbdError::Form {
        what: "the generations of its data",
        source,
    })
}

/// What a minor does; none if it is not configured. The kernel's drbd must be one that we know.
fn status(host: &Host, minor: u32) -> Result<Option<Status>, DrbdError> {
    let mut proc = proc(host)?;
    Ok(proc.minors.remove(&minor).flatten())
}

/// How a minor is set up; none if there is none.
pub(super) fn setup(host: &Host, minor: u32) -> Result<Option<Setup>, DrbdError> {
    match run(host, &commands::show(minor)) {
        Ok(output) => match parse::setup(minor, &output.stdout.text()) {
            Ok(setup) => Ok(Some(setup)),
            Err(why) => Err(DrbdError::Setup { minor, why }),
        },
        Err(error) if error.kind() == ErrorKind::NotFound => Ok(None),
        Err(error) => Err(error),
    }
}

/// What `/proc/drbd` says, if the kernel has the drbd that we know.
pub(super) fn proc(host: &Host) -> Result<parse::Proc, DrbdError> {
    let output = match run(host, &commands::status()) {
        Err(error) if error.kind() == ErrorKind::NotFound => {
            return Err(DrbdError::NotLoaded);
        }
        output => output?,
    };
    let text = output.stdout.text();
    let form = |source| DrbdError::Form {
        what: "/proc/drbd",
        source,
    };
    let version = parse::version(&text).map_err(form)?;
    if (version.major, version.minor) != (8, 4) {
        return Err(DrbdError::Version { version });
    }
    parse::proc(&text).map_err(form)
}

/// The program that the kernel calls for drbd's events (`GetUsermodeHelper`).
pub(super) fn usermode_helper(host: &Host) -> Result<String, DrbdError> {
    match run(host, &commands::usermode_helper()) {
        Err(error) if error.kind() == ErrorKind::NotFound => Err(DrbdError::NotLoaded),
        output => Ok(output?.stdout.text().trim().to_owned()),
    }
}

fn run(host: &Host, command: &Command) -> Result<Output, DrbdError> {
    Ok(tool::run(host, command, error::classify)?)
}

/// Good data, if there is any, is on a peer that is not there yet.
fn needs_peer(status: &Status) -> bool {
    use ConnectionState::{Unconnected, WFConnection, WFReportParams};
    let is_looking = matches!(status.connection, Unconnected | WFConnection | WFReportParams);
    is_looking && !matches!(status.disk, DiskState::UpToDate | DiskState::Consistent)
}

/// It has no good data, and has not met its peer.
fn is_without_peer(status: &Status) -> bool {
    use ConnectionState::{Unconnected, WFConnection};
    matches!(status.connection, Unconnected | WFConnection) && status.disk == DiskState::Inconsistent
}

/// Two primaries need all data on both sides at once: one that is promoted while it is out of date would part the nodes.
fn is_usable(status: &Status, two_primaries: bool) -> bool {
    match two_primaries {
        true => {
            status.connection == ConnectionState::Connected
                && [status.disk, status.peer_disk] == [DiskState::UpToDate; 2]
        }
        false => status.connection.is_connected() || status.connection.is_in_resync(),
    }
}

impl Net {
    fn new(local: &str, remote: &str, port: u16) -> Result<Self, DrbdError> {
        let ip = |text: &str| -> Result<IpAddr, DrbdError> {
            text.parse()
                .map_err(|_| DrbdError::NotAnAddress { ip: text.to_owned() })
        };
        let (local, remote) = (ip(local)?, ip(remote)?);
        if local.is_ipv4() != remote.is_ipv4() || local == remote {
            return Err(DrbdError::Ends {
                local: local.to_string(),
                remote: remote.to_string(),
            });
        }
        Ok(Self {
            local: SocketAddr::new(local, port),
            remote: SocketAddr::new(remote, port),
        })
    }

    fn is(self, net: &SetupNet) -> bool {
        let address = |end: &str| {
            end.split(' ')
                .next_back()
                .and_then(|address| address.parse().ok())
        };
        [address(&net.local), address(&net.remote)] == [Some(self.local), Some(self.remote)]
    }
}

impl Volumes {
    /// What the configuration names.
    fn wanted(target: &Target<'_>) -> Option<Self> {
        let path = |index: usize| {
            let found = target
                .children
                .get(index)
                .and_then(|child| child.as_ref()?.path.clone());
            let child = target.disk.children.get(index)?;
            let path = found.or_else(|| child.static_dev_path().map(PathBuf::from))?;
            Some(Volume { path, bytes: None })
        };
        Some(Self {
            data: path(0)?,
            meta: path(1)?,
        })
    }

    /// What is there; of two volumes with one missing the other is of no use.
    fn there(target: &Target<'_>) -> Option<Self> {
        let [Some(data), Some(meta)] = target.children else {
            return None;
        };
        let volume = |device: &BlockDevice| {
            let path = device.path.clone()?;
            let bytes = device.bytes;
            Some(Volume { path, bytes })
        };
        Some(Self {
            data: volume(data)?,
            meta: volume(meta)?,
        })
    }

    fn are(&self, disk: &SetupDisk) -> bool {
        self.data.is(&disk.data) && self.meta.is(&disk.meta)
    }
}

impl Volume {
    /// A device can have several names.
    fn is(&self, path: &str) -> bool {
        let path = Path::new(path);
        self.path == path
            || device::numbers(path).is_some_and(|numbers| device::numbers(&self.path) == Some(numbers))
    }
}

/// How long, and how often, something is waited for.
struct Patience {
    first: Duration,
    most: Duration,
}

impl Patience {
    const LONGEST_PAUSE: Duration = Duration::from_secs(2);

    const fn new(first: Duration, most: Duration) -> Self {
        Self { first, most }
    }

    /// Whether `is_done` came true in time.
    fn until(&self, mut is_done: impl FnMut() -> Result<bool, DrbdError>) -> Result<bool, DrbdError> {
        let end = Instant::now() + self.most;
        let mut pause = self.first;
        loop {
            if is_done()? {
                return Ok(true);
            }
            if Instant::now() >= end {
                return Ok(false);
            }
            thread::sleep(pause);
            pause = (pause * 3 / 2).min(Self::LONGEST_PAUSE);
        }
    }
}
