# Prepares a Ceph cluster of one monitor and one object store in memory. DIR and IP are set. The map of the only store is made
# beforehand, so that nothing has to be registered.
set -e
mkdir -p "$DIR/mon" "$DIR/osd"
cd "$DIR"
fsid=6b9a2a6a-0000-4000-8000-000000000001
monitor="[v2:$IP:3300,v1:$IP:6789]"
cat >ceph.conf <<END
[global]
fsid = $fsid
mon host = $monitor
public addr = $IP
keyring = $DIR/keyring
osd pool default size = 1
osd pool default min size = 1
osd pool default pg num = 8
osd crush chooseleaf type = 0
osd objectstore = memstore
memstore device bytes = 4294967296
# A client that lost its power keeps others from a volume as long as this.
osd client watch timeout = 15
# What would take seconds until the first answer.
paxos propose interval = 0.1
mon allow pool size one = true
mon allow pool delete = true
mon warn on pool no redundancy = false
run dir = $DIR
admin socket = $DIR/\$name.sock
pid file = $DIR/\$name.pid
log file = $DIR/\$name.log
log to stderr = false
[mon]
mon data = $DIR/mon
mon initial members = a
[osd]
osd data = $DIR/osd
END
cat >keyring <<END
[mon.]
	key = $(ceph-authtool --gen-print-key)
	caps mon = "allow *"
[client.admin]
	key = $(ceph-authtool --gen-print-key)
	caps mon = "allow *"
	caps osd = "allow *"
	caps mgr = "allow *"
[osd.0]
	key = $(ceph-authtool --gen-print-key)
	caps mon = "allow profile osd"
	caps osd = "allow *"
	caps mgr = "allow profile osd"
END
monmaptool --create --fsid $fsid --addv a "$monitor" monmap
osdmaptool --createsimple 1 osdmap
export CEPH_CONF=$DIR/ceph.conf
ceph-mon -i a --mkfs --monmap monmap --keyring keyring --osdmap osdmap
ceph-osd -i 0 --mkfs --no-mon-config

# What clients need.
mkdir -p "$ETC/ceph"
printf '[global]\nmon host = %s\n' "$monitor" >"$ETC/ceph/ceph.conf"
install -m 600 keyring "$ETC/ceph/ceph.client.admin.keyring"
