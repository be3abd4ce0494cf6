#!/bin/bash
# The first process of a guest. The kernel's command line gives it: NODE, SPOOL, AGENT, ETC (paths outside), MODULES (comma list), and
# PRIMARY and SECONDARY, its addresses.
export PATH=/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin HOME=/root LC_ALL=C
mount -n -t proc proc /proc
off() { echo o >/proc/sysrq-trigger; sleep 60; }
trap 'echo "line $LINENO of init failed: $BASH_COMMAND"; off' ERR
release=$(</proc/sys/kernel/osrelease)
modules=/usr/lib/uml/modules/$release

# The root outside, written to in memory only. What changes outside meanwhile is seen below /host, not here.
insmod "$modules/kernel/fs/overlayfs/overlay.ko"
mount -n -t tmpfs -o size=75% tmpfs /mnt
mkdir /mnt/upper /mnt/work /mnt/root
mount -n -t overlay -o lowerdir=/,upperdir=/mnt/upper,workdir=/mnt/work overlay /mnt/root
cd /mnt/root
mkdir -p proc sys dev run tmp host old lib/modules etc/udev/rules.d
mount -n --move /dev dev
mount -n -t proc proc proc
mount -n -t sysfs sys sys
mount -n -t tmpfs tmpfs run
mount -n -t tmpfs -o mode=1777 tmpfs tmp
mkdir -p run/lock run/udev dev/shm dev/pts
mount -n -t tmpfs tmpfs dev/shm
mount -n -t devpts -o ptmxmode=666 devpts dev/pts
mount -n -t hostfs none host
pivot_root . old
cd /
umount -l /old

[ -e "/lib/modules/$release" ] || ln -s "$modules" "/lib/modules/$release"
[ -e /etc/mtab ] || ln -s /proc/self/mounts /etc/mtab
echo "$NODE" >/etc/hostname
echo "$NODE" >/proc/sys/kernel/hostname
printf '%s\n' '127.0.0.1 localhost' '192.168.77.1 n1' '192.168.77.2 n2' '192.168.77.3 n3' >/etc/hosts
# Without a name server no look-up waits for one.
: >/etc/resolv.conf
[ ! -d "/host$ETC" ] || cp -rp "/host$ETC/." /etc/
# Those of the machine outside are not meant for a guest: slow, or refused.
rm -f /root/.bashrc
ip -batch - <<END
link set lo up
addr add $PRIMARY/24 dev vec0
link set vec0 up
addr add $SECONDARY/24 dev vec1
link set vec1 up
END
# shellcheck disable=SC2086
[ -z "$MODULES" ] || modprobe -a ${MODULES//,/ }

# udev has no rule that names ubd disks by their serial number.
echo 'KERNEL=="ubd*", ENV{DEVTYPE}=="disk", ATTR{serial}=="?*", SYMLINK+="disk/by-id/ubd-$attr{serial}"' >/etc/udev/rules.d/61-ubd.rules
/lib/systemd/systemd-udevd --daemon
udevadm trigger --action=add --subsystem-match=block
udevadm settle

# This shell stays process 1, which takes care of orphans.
"/host$AGENT" agent "/host$SPOOL"
off
