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

/// The Debian package that has `program`, a name or a path; `None` if we do not know.
pub fn package(program: impl AsRef<OsStr>) -> Option<&'static str> {
    let name = Path::new(program.as_ref()).file_name()?.to_str()?;
    let has = |programs: &str| programs.split_ascii_whitespace().any(|program| program == name);
    PACKAGES
        .iter()
        .find(|(_, programs)| has(programs))
        .map(|&(package, _)| package)
}
