//! What DRBD 8.4 tells: `/proc/drbd`, `drbdsetup show`, `drbdsetup get-gi`, the kernel log. Pure functions.

use std::collections::BTreeMap;
use std::fmt;
use std::str::FromStr;

use gnt_config::Secret;
use strum::{Display, EnumString};

/// A version of the kernel's drbd.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Version {
    /// 8 in `8.4.11`.
    pub major: u32,
    /// 4 in `8.4.11`.
    pub minor: u32,
    /// 11 in `8.4.11`.
    pub patch: u32,
}

impl fmt::Display for Version {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}.{}.{}", self.major, self.minor, self.patch)
    }
}

/// State of the connection to the peer (`cs:`).
#[derive(Debug, Clone, Copy, PartialEq, Eq, Display, EnumString)]
pub(super) enum ConnectionState {
    StandAlone,
    Disconnecting,
    Unconnected,
    Timeout,
    BrokenPipe,
    NetworkFailure,
    ProtocolError,
    TearDown,
    WFConnection,
    WFReportParams,
    Connected,
    StartingSyncS,
    StartingSyncT,
    WFBitMapS,
    WFBitMapT,
    WFSyncUUID,
    SyncSource,
    SyncTarget,
    PausedSyncS,
    PausedSyncT,
    VerifyS,
    VerifyT,
    Ahead,
    Behind,
}

impl ConnectionState {
    /// The nodes talk, and have nothing to synchronise. Comparing the disks does not change that.
    pub(super) fn is_connected(self) -> bool {
        matches!(self, Self::Connected | Self::VerifyS | Self::VerifyT)
    }

    /// The nodes find out which of them has the newer data, or this one has found that it is the other.
    pub(super) fn is_comparing(self) -> bool {
        use ConnectionState::{StartingSyncT, WFBitMapT, WFReportParams, WFSyncUUID};
        matches!(self, WFReportParams | WFBitMapT | StartingSyncT | WFSyncUUID)
    }

    /// One node brings the other up to date, or is about to.
    pub(super) fn is_in_resync(self) -> bool {
        use ConnectionState::*;
        matches!(
            self,
            WFReportParams
                | StartingSyncS
                | StartingSyncT
                | WFBitMapS
                | WFBitMapT
                | WFSyncUUID
                | SyncSource
                | SyncTarget
                | PausedSyncS
                | PausedSyncT
        )
    }
}

/// State of one node's data (`ds:`).
#[derive(Debug, Clone, Copy, PartialEq, Eq, Display, EnumString)]
pub(super) enum DiskState {
    Diskless,
    Attaching,
    Failed,
    Negotiating,
    Inconsistent,
    Outdated,
    DUnknown,
    Consistent,
    UpToDate,
}

/// Whether a node may write (`ro:`).
#[derive(Debug, Clone, Copy, PartialEq, Eq, Display, EnumString)]
pub(super) enum Role {
    Primary,
    Secondary,
    Unknown,
}

/// A configured minor.
#[derive(Debug, Clone, Copy, PartialEq)]
pub(super) struct Status {
    pub(super) connection: ConnectionState,
    pub(super) role: Role,
    pub(super) peer_role: Role,
    pub(super) disk: DiskState,
    pub(super) peer_disk: DiskState,
    /// What differs between the nodes, in KiB.
    pub(super) out_of_sync: u64,
    /// How much of what differed is in sync, in per cent, where the kernel tells.
    pub(super) synced: Option<f64>,
    /// Seconds until everything is, where the kernel tells.
    pub(super) finish: Option<u64>,
}

impl fmt::Display for Status {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self {
            connection,
            role,
            peer_role,
            disk,
            peer_disk,
            ..
        } = self;
        write!(f, "{connection}, {role}/{peer_role}, {disk}/{peer_disk}")
    }
}

/// What `/proc/drbd` says.
#[derive(Debug, PartialEq)]
pub(super) struct Proc {
    pub(super) version: Version,
    /// By minor; none for one that exists and is not configured.
    pub(super) minors: BTreeMap<u32, Option<Status>>,
}

/// What does not have the form that it should.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{expected} is expected, not '{found}'")]
pub struct ParseError {
    expected: &'static str,
    found: String,
}

fn unexpected(expected: &'static str, found: &str) -> ParseError {
    ParseError {
        expected,
        found: found.to_owned(),
    }
}

/// Reads the first line of `/proc/drbd`: `version: 8.4.11 (api:1/proto:86-101)`.
pub(super) fn version(text: &str) -> Result<Version, ParseError> {
    let line = text.lines().next().unwrap_or_default();
    let numbers = || {
        let numbers = line.strip_prefix("version: ")?.split([' ', '-']).next()?;
        let mut numbers = numbers.split('.').map(|number| number.parse().ok());
        Some(Version {
            major: numbers.next()??,
            minor: numbers.next()??,
            patch: numbers.next()??,
        })
    };
    numbers().ok_or_else(|| unexpected("a version of drbd", line))
}

/// Reads `/proc/drbd`. A minor's line begins with its number, those after it belong to it.
pub(super) fn proc(text: &str) -> Result<Proc, ParseError> {
    let mut minors: BTreeMap<u32, Option<Status>> = BTreeMap::new();
    for line in text.lines().skip(1) {
        if let Some((minor, rest)) = minor_line(line) {
            minors.insert(minor, status(rest)?);
        } else if let Some((_, Some(status))) = minors.iter_mut().next_back() {
            // Minors come in order, so the last one is the one that the line belongs to.
            details(line, status)?;
        }
    }
    Ok(Proc {
        version: version(text)?,
        minors,
    })
}

fn minor_line(line: &str) -> Option<(u32, &str)> {
    let (minor, rest) = line.trim_start().split_once(": ")?;
    let rest = rest.trim_start();
    rest.starts_with("cs:").then_some((minor.parse().ok()?, rest))
}

fn status(line: &str) -> Result<Option<Status>, ParseError> {
    if field(line, "cs:") == Some("Unconfigured") {
        return Ok(None);
    }
    let pair = |key| field(line, key).and_then(|pair| pair.split_once('/'));
    let of = || {
        let (role, peer_role) = pair("ro:")?;
        let (disk, peer_disk) = pair("ds:")?;
        Some(Status {
            connection: field(line, "cs:")?.parse().ok()?,
            role: role.parse().ok()?,
            peer_role: peer_role.parse().ok()?,
            disk: disk.parse().ok()?,
            peer_disk: peer_disk.parse().ok()?,
            out_of_sync: 0,
            synced: None,
            finish: None,
        })
    };
    of().map(Some)
        .ok_or_else(|| unexpected("the state of a drbd device", line))
}

fn field<'a>(line: &'a str, key: &str) -> Option<&'a str> {
    line.split_whitespace().find_map(|word| word.strip_prefix(key))
}

/// Kernels differ in how they separate `sync'ed:` from its number, and may lack the number after `finish:`.
fn details(line: &str, status: &mut Status) -> Result<(), ParseError> {
    if let Some(kib) = field(line, "oos:") {
        status.out_of_sync = number(kib, line)?;
    }
    if let Some((_, rest)) = line.split_once("sync'ed:") {
        let (percent, _) = rest.split_once('%').unwrap_or((rest, ""));
        status.synced = Some(number(percent, line)?);
    }
    if let Some((_, rest)) = line.split_once("finish: ") {
        status.finish = seconds(rest.split_whitespace().next().unwrap_or_default());
    }
    Ok(())
}

fn number<T: FromStr>(text: &str, line: &str) -> Result<T, ParseError> {
    text.trim().parse().map_err(|_| unexpected("a number", line))
}

/// `H:MM:SS`.
fn seconds(text: &str) -> Option<u64> {
    let parts: Vec<u64> = text
        .split(':')
        .map(|part| part.parse().ok())
        .collect::<Option<_>>()?;
    match parts[..] {
        [hours, minutes, seconds] => Some((hours * 60 + minutes) * 60 + seconds),
        _ => None,
    }
}

/// Reads a number of sectors, as sysfs gives the size of a device.
pub(super) fn sectors(text: &str) -> Result<u64, ParseError> {
    number(text, text.trim())
}

/// How a minor is set up (`drbdsetup show MINOR`).
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub(super) struct Setup {
    pub(super) resource: String,
    pub(super) disk: Option<SetupDisk>,
    pub(super) net: Option<SetupNet>,
}

#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct SetupDisk {
    pub(super) data: String,
    pub(super) meta: String,
}

/// The ends as `show` prints them: `ipv4 192.0.2.1:11000`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct SetupNet {
    pub(super) local: String,
    pub(super) remote: String,
    pub(super) two_primaries: bool,
    pub(super) secret: Option<Secret>,
}

impl SetupNet {
    /// The ends as commands take them: `ipv4:192.0.2.1:11000`.
    pub(super) fn ends(&self) -> [String; 2] {
        [&self.local, &self.remote].map(|end| end.replacen(' ', ":", 1))
    }
}

/// Reads what `drbdsetup show MINOR` prints: sections with braces, and statements that end with a semicolon and perhaps a comment.
/// An error quotes nothing, as the shared secret is in there.
pub(super) fn setup(minor: u32, text: &str) -> Result<Setup, &'static str> {
    let mut setup = Setup::default();
    let mut sections: Vec<&str> = Vec::new();
    let (mut local, mut remote, mut two_primaries, mut secret) = (None, None, false, None);
    // What the volume says that is being read, and whether it is that of the minor.
    let (mut data, mut meta, mut is_ours) = (None, None, false);
    for line in text.lines().map(str::trim).filter(|line| !line.is_empty()) {
        if let Some(section) = line.strip_suffix('{') {
            let section = section.trim_end();
            if let Some(name) = section.strip_prefix("resource ") {
                setup.resource = name.to_owned();
            }
            sections.push(section);
            continue;
        }
        if line == "}" {
            let section = sections.pop().ok_or("a brace too many")?;
            if section.starts_with("volume ") {
                let disk = data.take().zip(meta.take());
                if is_ours {
                    setup.disk = disk.map(|(data, meta)| SetupDisk { data, meta });
                }
                is_ours = false;
            }
            continue;
        }
        let (statement, _comment) = line.split_once(';').ok_or("a line without an end")?;
        let (key, value) = statement
            .split_once(char::is_whitespace)
            .unwrap_or((statement, ""));
        let value = value.trim();
        match (&sections[..], key) {
            ([_, "net"], "allow-two-primaries") => two_primaries = value == "yes",
            ([_, "net"], "shared-secret") => secret = Some(Secret::new(unquoted(value))),
            ([_, "_this_host"], "address") => local = Some(value.to_owned()),
            ([_, "_remote_host"], "address") => remote = Some(value.to_owned()),
            ([_, "_this_host", _], "device") => is_ours = value == format!("minor {minor}"),
            ([_, "_this_host", _], "disk") => data = Some(unquoted(value)),
            ([_, "_this_host", _], "meta-disk") => meta = Some(unquoted(value)),
            _ => {}
        }
    }
    if !sections.is_empty() || setup.resource.is_empty() {
        return Err("a section without an end, or no resource");
    }
    setup.net = local.zip(remote).map(|(local, remote)| SetupNet {
        local,
        remote,
        two_primaries,
        secret,
    });
    Ok(setup)
}

/// The path of `"/dev/x"`, or of `"/dev/x" [0]`.
fn unquoted(value: &str) -> String {
    let path = value.strip_prefix('"').and_then(|rest| rest.split_once('"'));
    path.map_or(value, |(path, _)| path).to_owned()
}

/// Whether metadata has the generation of data that nobody has written yet (`UUID_JUST_CREATED`): read from what `get-gi` prints,
/// `CURRENT:BITMAP:HISTORY:HISTORY:FLAG:…`.
pub(super) fn is_just_created(text: &str) -> Result<bool, ParseError> {
    // After it stands what else the metadata needs, before it nothing.
    let is_line = |line: &&str| line.split(':').count() > 4;
    let line = text.lines().find(is_line).unwrap_or_default();
    let current = line
        .split(':')
        .next()
        .and_then(|uuid| u64::from_str_radix(uuid, 16).ok());
    let current = current.ok_or_else(|| unexpected("data generations", text.trim()))?;
    Ok(current == JUST_CREATED)
}

const JUST_CREATED: u64 = 4;

/// Why two nodes that met did not connect, as the kernel logged it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Verdict {
    /// Both were written to since they were last connected.
    SplitBrain {
        /// How much was written here, in KiB, where the log tells.
        here: Option<u64>,
        /// How much on the peer.
        there: Option<u64>,
    },
    /// Their data never had anything to do with each other.
    Unrelated,
    /// One does not have the other's secret.
    Authentication,
    /// They are set up differently.
    Incompatible(String),
    /// This node cannot use the address and port that it should.
    NoAddress,
}

/// What came of the last time that `minor` met its peer; none if they connected, or did not meet.
pub(super) fn verdict(minor: u32, log: &str) -> Option<Verdict> {
    let resource = format!("drbd {}: ", super::commands::resource(minor));
    let device = format!("block drbd{minor}: ");
    let message = |line: &'_ str| {
        let after = |mark: &str| line.find(mark).map(|at| at + mark.len());
        after(&resource).or_else(|| after(&device))
    };
    let (mut verdict, mut here, mut there) = (None, None, None);
    for line in log.lines() {
        let Some(at) = message(line) else { continue };
        let message = &line[at..];
        if message.starts_with("Handshake successful") {
            (verdict, here, there) = (None, None, None);
        } else if message.starts_with("self ") {
            here = changed(message);
        } else if message.starts_with("peer ") {
            there = changed(message);
        } else if message.starts_with("Split-Brain detected but unresolved") {
            verdict = Some(Verdict::SplitBrain { here, there });
        } else if message.starts_with("Unrelated data, aborting") {
            verdict = Some(Verdict::Unrelated);
        } else if message.starts_with("Authentication of peer failed") {
            verdict = Some(Verdict::Authentication);
        } else if let Some(what) = message.strip_prefix("incompatible ") {
            verdict = Some(Verdict::Incompatible(
                what.trim_end_matches(" settings").to_owned(),
            ));
        }
    }
    verdict
}

/// The same, since the node was last told to connect.
pub(super) fn verdict_since_connect(minor: u32, log: &str) -> Option<Verdict> {
    let told = format!(
        "drbd {}: conn( StandAlone -> Unconnected )",
        super::commands::resource(minor)
    );
    let at = log.rfind(&told).unwrap_or_default();
    verdict(minor, &log[at..])
}

/// What the bitmap of `self UUID:… bits:1024 flags:0` stands for, in KiB: a bit is 4 KiB.
fn changed(message: &str) -> Option<u64> {
    let bits: u64 = field(message, "bits:")?.parse().ok()?;
    Some(bits * 4)
}

/// The number in a message of `drbdsetup`: `0: Failure: (127) Device minor not allocated`, `0: State change failed: (-12) …`.
pub(super) fn failure_code(message: &str) -> Option<i32> {
    message.lines().find_map(|line| {
        let (_, rest) = line.split_once("ail")?;
        let (_, rest) = rest.split_once(": (")?;
        rest.split_once(')')?.0.parse().ok()
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::drbd::tests::recorded;

    fn one(name: &str) -> Status {
        let proc = proc(&recorded(&format!("proc/{name}"))).unwrap();
        assert_eq!(proc.version.to_string(), "8.4.11");
        proc.minors[&0].unwrap()
    }

    #[test]
    fn every_recorded_state_is_read() {
        for (name, states) in [
            (
                "standalone",
                "StandAlone, Secondary/Unknown, Inconsistent/DUnknown",
            ),
            (
                "wfconnection",
                "WFConnection, Secondary/Unknown, Inconsistent/DUnknown",
            ),
            (
                "inconsistent",
                "Connected, Secondary/Secondary, Inconsistent/Inconsistent",
            ),
            (
                "syncsource",
                "SyncSource, Primary/Secondary, UpToDate/Inconsistent",
            ),
            (
                "synctarget",
                "SyncTarget, Secondary/Primary, Inconsistent/UpToDate",
            ),
            (
                "paused_source",
                "PausedSyncS, Primary/Secondary, UpToDate/Inconsistent",
            ),
            (
                "paused_target",
                "PausedSyncT, Secondary/Primary, Inconsistent/UpToDate",
            ),
            ("connected", "Connected, Primary/Secondary, UpToDate/UpToDate"),
            ("dual_primary", "Connected, Primary/Primary, UpToDate/UpToDate"),
            ("diskless", "Connected, Primary/Secondary, Diskless/UpToDate"),
            (
                "peer_of_diskless",
                "SyncSource, Secondary/Primary, UpToDate/Inconsistent",
            ),
            ("split_brain", "StandAlone, Primary/Unknown, UpToDate/DUnknown"),
            ("cut_primary", "WFConnection, Primary/Unknown, UpToDate/DUnknown"),
            (
                "cut_secondary",
                "WFConnection, Secondary/Unknown, UpToDate/DUnknown",
            ),
            ("consistent", "StandAlone, Secondary/Unknown, UpToDate/DUnknown"),
        ] {
            assert_eq!(one(name).to_string(), states, "{name}");
        }
        let two = proc(&recorded("proc/two_minors")).unwrap();
        assert_eq!(two.minors.keys().collect::<Vec<_>>(), [&0, &5]);
        assert_eq!(two.minors[&0].unwrap().out_of_sync, 0);
        assert_eq!(two.minors[&5].unwrap().out_of_sync, 65280);
        let unconfigured = proc(&recorded("proc/unconfigured")).unwrap();
        assert_eq!(unconfigured.minors, BTreeMap::from([(0, None)]));
    }

    #[test]
    fn progress_is_told_in_percent_and_seconds() {
        let status = one("synctarget");
        assert_eq!(
            (status.synced, status.finish, status.out_of_sync),
            (Some(11.8), Some(15), 61828)
        );
        // Nothing is told of one that is paused but what is left.
        let status = one("paused_target");
        assert_eq!(
            (status.synced, status.finish, status.out_of_sync),
            (None, None, 56472)
        );
        // The form of older and of rebuilt kernels.
        let line =
            "\t[>....................] sync'ed:  3.5% (202376/209640)Mfinish: 1:02:03 speed: 1 (1) K/sec";
        let mut status = one("connected");
        details(line, &mut status).unwrap();
        assert_eq!((status.synced, status.finish), (Some(3.5), Some(3723)));
    }

    #[test]
    fn versions_of_other_kernels_are_read_too() {
        for (line, version_) in [
            ("version: 8.4.11 (api:1/proto:86-101)", "8.4.11"),
            ("version: 8.3.11 (api:88/proto:86-96)", "8.3.11"),
            ("version: 8.4.7-1 (api:1/proto:86-101)", "8.4.7"),
            (
                "version: 9.1.7 (api:2/proto:110-121)\nGIT-hash: bfd2450\nTransports (api:18): tcp (9.1.7)",
                "9.1.7",
            ),
        ] {
            assert_eq!(version(line).unwrap().to_string(), version_);
        }
        for line in ["", "version: unknown", "version: 8.4"] {
            assert!(version(line).is_err(), "{line}");
        }
        assert!(
            proc(
                "version: 8.4.11 (api:1/proto:86-101)\n 0: cs:Odd ro:Primary/Unknown ds:UpToDate/DUnknown\n"
            )
            .is_err()
        );
    }

    #[test]
    fn setups_are_read() {
        let read = |name: &str, minor| setup(minor, &recorded(&format!("show/{name}"))).unwrap();
        let disk = SetupDisk {
            data: "/dev/xenvg/d0".to_owned(),
            meta: "/dev/xenvg/m0".to_owned(),
        };
        let net = SetupNet {
            local: "ipv4 192.168.78.1:11000".to_owned(),
            remote: "ipv4 192.168.78.2:11000".to_owned(),
            two_primaries: false,
            secret: Some(Secret::new("sekrit")),
        };
        let full = read("full", 0);
        assert_eq!(full.resource, "resource0");
        assert_eq!((full.disk, full.net), (Some(disk.clone()), Some(net.clone())));
        let no_net = read("no_net", 0);
        assert_eq!((no_net.disk, no_net.net), (Some(disk), None));
        let no_disk = read("no_disk", 0);
        assert_eq!((no_disk.disk, no_disk.net), (None, Some(net)));
        assert!(read("dual", 0).net.unwrap().two_primaries);
        let unconfigured = read("unconfigured", 0);
        assert_eq!((unconfigured.disk, unconfigured.net), (None, None));
        let ipv6 = read("ipv6_no_disk", 5).net.unwrap();
        assert_eq!(
            [ipv6.local, ipv6.remote],
            ["ipv6 [fd00::1]:11005", "ipv6 [fd00::2]:11005"]
        );
        // The volume of another minor of the same resource is not this one's.
        assert_eq!(read("full", 3).disk, None);
        for odd in ["", "resource r {", "}", "resource r {\n x\n}"] {
            assert!(setup(0, odd).is_err(), "{odd}");
        }
    }

    #[test]
    fn a_metadata_index_is_not_part_of_the_path() {
        assert_eq!(unquoted("\"/dev/xenvg/m0\" [ 0 ]"), "/dev/xenvg/m0");
    }

    #[test]
    fn generations_tell_whether_anything_was_written() {
        let fresh = "0000000000000004:0000000000000000:0000000000000000:0000000000000000:0:0:0:0:0:0:0\n";
        assert_eq!(is_just_created(fresh), Ok(true));
        assert_eq!(is_just_created(&recorded("failures/get_gi_used")), Ok(false));
        assert!(is_just_created("No valid meta data found\n").is_err());
    }

    #[test]
    fn the_kernel_log_tells_why_nodes_are_apart() {
        let split = Some(Verdict::SplitBrain {
            here: Some(4096),
            there: Some(4096),
        });
        for name in ["split_brain", "split_brain_peer"] {
            let log = recorded(&format!("log/{name}"));
            assert_eq!(verdict(0, &log), split, "{name}");
            assert_eq!(verdict(1, &log), None, "{name}");
            let healed =
                "[ 260.0] drbd resource0: Handshake successful: Agreed network protocol version 101\n";
            assert_eq!(verdict(0, &(log + healed)), None, "{name}");
        }
        assert_eq!(
            verdict(0, &recorded("log/authentication")),
            Some(Verdict::Authentication)
        );
        assert_eq!(verdict(0, &recorded("log/unrelated")), Some(Verdict::Unrelated));
    }

    #[test]
    fn failures_have_a_number() {
        for (name, code) in [
            ("secondary_busy", Some(-12)),
            ("down_busy", Some(-12)),
            ("primary_no_access", Some(-2)),
            ("no_minor", Some(127)),
            ("attach_unclean", Some(165)),
            ("attach_too_small", Some(111)),
            ("attach_in_use", Some(104)),
            ("connect_address_in_use", Some(102)),
            ("resume_not_paused", Some(157)),
            ("attach_missing", None),
        ] {
            assert_eq!(
                failure_code(&recorded(&format!("failures/{name}"))),
                code,
                "{name}"
            );
        }
    }
}
