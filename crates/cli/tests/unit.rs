//! The unit of the daemon: what it must not say, because the daemon or what it runs could not work.

#![cfg(test)]

const UNIT: &str = include_str!("../../../dist/gnt-disk.service");

const NAMESPACE: &str = "makes a mount namespace: what is mounted in it no hypervisor sees";
const OPENAT2: &str = "takes openat2 away, without which no file-based disk is opened";
const FILTER: &str =
    "filters system calls, which the tools of LVM, drbd, Ceph and of providers make as they like";
const DEVICES: &str = "keeps devices away";
const MODULES: &str =
    "keeps modules of the kernel away: drbd, rbd, loop, dm and fuse are loaded when they are needed";
const NETWORK: &str = "keeps networks away: providers, Ceph, Gluster, drbd (netlink) and udev need theirs";
const ROOT: &str = "takes rights of root away, which all storage needs";
const NAME: &str = "hides the name of the node when it changes: drbd goes by it";

/// What breaks, and why. Of names that end with a `*` all that begin so.
const BREAKS: &[(&str, &str)] = &[
    ("BindPaths", NAMESPACE),
    ("BindReadOnlyPaths", NAMESPACE),
    ("DynamicUser", NAMESPACE),
    ("ExecPaths", NAMESPACE),
    ("InaccessiblePaths", NAMESPACE),
    ("MountAPIVFS", NAMESPACE),
    ("MountFlags", NAMESPACE),
    ("NoExecPaths", NAMESPACE),
    ("PrivateDevices", NAMESPACE),
    ("PrivateMounts", NAMESPACE),
    ("PrivateTmp", NAMESPACE),
    ("ProcSubset", NAMESPACE),
    ("ProtectControlGroups", NAMESPACE),
    ("ProtectHome", NAMESPACE),
    ("ProtectKernelLogs", NAMESPACE),
    ("ProtectKernelTunables", NAMESPACE),
    ("ProtectProc", NAMESPACE),
    ("ProtectSystem", NAMESPACE),
    ("ReadOnlyPaths", NAMESPACE),
    ("ReadWritePaths", NAMESPACE),
    ("Root*", NAMESPACE),
    ("TemporaryFileSystem", NAMESPACE),
    ("RestrictSUIDSGID", OPENAT2),
    ("LockPersonality", FILTER),
    ("MemoryDenyWriteExecute", FILTER),
    ("RestrictFileSystems", FILTER),
    ("RestrictNamespaces", FILTER),
    ("RestrictRealtime", FILTER),
    ("SystemCall*", FILTER),
    ("DeviceAllow", DEVICES),
    ("DevicePolicy", DEVICES),
    ("ProtectClock", DEVICES),
    ("ProtectKernelModules", MODULES),
    ("IPAddress*", NETWORK),
    ("NetworkNamespacePath", NETWORK),
    ("PrivateIPC", NETWORK),
    ("PrivateNetwork", NETWORK),
    ("RestrictAddressFamilies", NETWORK),
    ("RestrictNetworkInterfaces", NETWORK),
    ("SocketBind*", NETWORK),
    ("AmbientCapabilities", ROOT),
    ("CapabilityBoundingSet", ROOT),
    ("Group", ROOT),
    ("PrivateUsers", ROOT),
    ("SecureBits", ROOT),
    ("User", ROOT),
    ("ProtectHostname", NAME),
];

/// Name and value of each option.
fn options() -> impl Iterator<Item = (&'static str, &'static str)> {
    let lines = UNIT.lines().filter(|line| !line.starts_with(['#', ';', '[']));
    lines.filter_map(|line| line.split_once('='))
}

fn is_called(option: &str, name: &str) -> bool {
    match name.strip_suffix('*') {
        Some(begin) => option.starts_with(begin),
        None => option == name,
    }
}

#[test]
fn nothing_in_the_unit_breaks_what_the_daemon_does() {
    let breaks = options().filter_map(|(option, _)| {
        let (_, why) = BREAKS.iter().find(|(name, _)| is_called(option, name))?;
        Some(format!("{option} {why}"))
    });
    assert_eq!(breaks.collect::<Vec<_>>(), Vec::<String>::new());
}

#[test]
fn what_the_daemon_started_stays_when_it_is_stopped() {
    assert!(options().any(|option| option == ("KillMode", "process")));
}
