//! Which Debian package has a program.

use std::ffi::OsStr;
use std::path::Path;

const PACKAGES: &[(&str, &str)] = &[
    ("bash", "bash"),
    ("ceph-common", "ceph rados rbd"),
    (
        "coreutils",
        "basename cat chmod cp dd df dirname env ln ls mkdir mktemp mv rm sha256sum stat sync touch truncate",
    ),
    ("dash", "sh"),
    ("dmsetup", "dmsetup"),
    ("drbd-utils", "drbdadm drbdmeta drbdsetup"),
    (
        "e2fsprogs",
        "debugfs dumpe2fs e2fsck fsck.ext4 mke2fs mkfs.ext4 resize2fs tune2fs",
    ),
    ("glusterfs-client", "glusterfs mount.glusterfs"),
    ("glusterfs-server", "gluster glusterd"),
    ("kmod", "depmod insmod lsmod modinfo modprobe rmmod"),
    ("kpartx", "kpartx"),
    (
        "lvm2",
        "lvchange lvconvert lvcreate lvdisplay lvextend lvm lvmconfig lvreduce lvremove lvrename lvresize lvs lvscan pvchange \
         pvcreate pvdisplay pvmove pvremove pvresize pvs pvscan vgchange vgcreate vgdisplay vgextend vgreduce vgremove \
         vgrename vgs vgscan",
    ),
    ("mount", "losetup mount swapoff swapon umount"),
    ("multipath-tools", "multipath multipathd"),
    ("nbd-client", "nbd-client"),
    ("nfs-common", "mount.nfs mount.nfs4"),
    ("open-iscsi", "iscsiadm iscsid"),
    ("openssh-client", "scp ssh"),
    ("perl-base", "perl"),
    ("psmisc", "fuser"),
    ("python3", "python3"),
    ("qemu-utils", "qemu-img qemu-io qemu-nbd"),
    ("rbd-nbd", "rbd-nbd"),
    ("socat", "socat"),
    ("targetcli-fb", "targetcli"),
    ("tgt", "tgtadm tgtd"),
    ("udev", "udevadm"),
    (
        "util-linux",
        "blkdiscard blkid blkzone blockdev fallocate findmnt flock fsfreeze fstrim lsblk mkswap mountpoint nsenter partx \
         setsid wipefs",
    ),
    ("xfsprogs", "mkfs.xfs xfs_growfs xfs_repair"),
    ("zfsutils-linux", "zfs zpool"),
];

/// The Debian package that has `program`, a name or a path in a directory of packages; `None` if we do not
/// know.
pub fn package(program: impl AsRef<OsStr>) -> Option<&'static str> {
    let path = Path::new(program.as_ref());
    let (directory, name) = (path.parent()?.to_str()?, path.file_name()?.to_str()?);
    if !["", "/usr/sbin", "/usr/bin", "/sbin", "/bin"].contains(&directory) {
        return None;
    }
    let has = |programs: &str| programs.split_ascii_whitespace().any(|program| program == name);
    PACKAGES
        .iter()
        .find(|(_, programs)| has(programs))
        .map(|&(package, _)| package)
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::collections::BTreeSet;

    #[test]
    fn names_and_paths_of_known_tools_have_a_package() {
        assert_eq!(package("lvs"), Some("lvm2"));
        assert_eq!(package("/sbin/blkid"), Some("util-linux"));
        assert_eq!(package("drbdmeta"), Some("drbd-utils"));
        assert_eq!(package("rbd"), Some("ceph-common"));
        assert_eq!(package("mount.glusterfs"), Some("glusterfs-client"));
        assert_eq!(package("qemu-img"), Some("qemu-utils"));
        assert_eq!(package("lvs lvm"), None);
        assert_eq!(package("unheard-of"), None);
        assert_eq!(package("/usr/local/bin/lvs"), None);
        assert_eq!(package("./lvs"), None);
        assert_eq!(package(""), None);
        assert_eq!(package("/"), None);
    }

    #[test]
    fn no_program_is_in_two_packages() {
        let mut seen = BTreeSet::new();
        for program in PACKAGES
            .iter()
            .flat_map(|(_, programs)| programs.split_ascii_whitespace())
        {
            assert!(seen.insert(program), "{program}");
        }
    }
}
