# shellcheck shell=sh disable=SC2034
# What the actions of this provider share. Sourced by each of them, never run.
#
# A volume is one directory, so that a single rename makes it appear or disappear as a whole:
#
#   DIR/NAME/data         the content: a sparse file, which attach puts behind a loop device
#   DIR/NAME/meta         whose it is: one JSON member a line, so that list need not decode it
#   DIR/NAME/open.NODE    NODE has it open: "exclusive" or "shared"
#   DIR/.new-NAME/        being made; whoever makes or removes NAME next clears it away
#   DIR/.old-NAME/        being removed; likewise
#
# The lock of a volume is flock(2) on its data: it ends with its holder, so it can't be left behind.

set -eu
umask 077           # disks of other people's machines
export LC_ALL=C     # messages and character classes that don't depend on who runs us

nl='
'
dir=${EXTP_DIR:-${GNT_DISK_STATE:-/var/lib/gnt-disk}/ext-volumes}
volume=

# One line that says which action on which volume, and where that volume lives.
die() {
    printf '%s: %s\n' "${0##*/}${volume:+ ${volume##*/} ($volume)}" "$*" >&2
    exit 1
}

# Runs a tool; what it says matters only if it fails, and then it belongs into our one line.
try() {
    said=$("$@" 2>&1) || die "$said"
}

[ $# -eq 0 ] || die "takes no arguments: all it needs is in the environment (see README.md)"

# --- names, sizes, places ----------------------------------------------------------------------------

case $dir in
    /*) ;;
    *) die "the parameter dir must be an absolute path, not '$dir'" ;;
esac

# A name becomes a file name. A leading dot would hide the volume or climb out of the directory.
check_name() {
    case $2 in
        '' | .* | */* | *[[:cntrl:]]*) die "$1 can't be a volume's name: '$2'" ;;
    esac
}

check_size() {
    case $2 in
        '' | 0* | *[!0-9]* | ????????????????*) die "$1 must be a whole number of MiB, not '$2'" ;;
    esac
}

use_volume() {
    check_name VOL_NAME "${VOL_NAME-}"
    volume=$dir/$VOL_NAME
}

exists() {
    [ -f "$volume/data" ]
}

must_exist() {
    exists || die "no such volume"
}

# Sets $size, in MiB.
get_size() {
    bytes=$(stat --format=%s "$volume/data") || die "can't tell its size"
    size=$((bytes / 1048576))
}

# Sets $node; among the nodes that share the directory each needs a name of its own.
get_node() {
    read -r node </proc/sys/kernel/hostname
}

# --- locks and births --------------------------------------------------------------------------------

# Locks the data file $1 until we exit. False if it is no longer the file of that name: while we waited, a
# rename took it away.
lock_file() {
    if ! { command exec 9<>"$1"; } 2>/dev/null; then # `command`, as a failing exec would end the shell
        [ ! -e "$1" ] || die "can't open $1 for writing"
        return 1
    fi
    flock --timeout 60 9 || die "another action has had it locked for a minute"
    # shellcheck disable=SC3013  # POSIX has -ef since 2024; every sh had it before
    [ "$1" -ef /proc/self/fd/9 ]
}

# False if there's no such volume, or no longer once it is our turn.
lock() {
    exists && lock_file "$volume/data"
}

must_lock() {
    lock || die "no such volume"
}

# Starts the volume $1 out of sight: $new/data is empty and locked. False if somebody else just finished one.
begin_volume() {
    new=$dir/.new-$1
    try mkdir -p "$new"
    lock_file "$new/data" || return 1
    trap 'rm -rf "$new"' EXIT
    : >"$new/data" # a killed predecessor may have left something
}

# Shows it, once all of it is on disk. A rename never replaces a directory that has something in it, so of two
# who make the same volume only one succeeds: the other gets false.
finish_volume() {
    write_meta "$new"
    try sync "$new/data" "$new"
    if ! said=$(mv -T "$new" "$dir/$1" 2>&1); then
        [ -e "$dir/$1" ] || die "$said"
        return 1
    fi
    trap - EXIT
    try sync "$dir"
}

# --- whose volume it is ------------------------------------------------------------------------------

# Sets $quoted to $1 as a JSON string.
quote() {
    quoted=
    rest=$1
    while :; do
        plain=${rest%%[\\\"[:cntrl:]]*}
        quoted=$quoted$plain
        rest=${rest#"$plain"}
        [ -n "$rest" ] || break
        quoted=$quoted$(printf '\\u%04x' "'$rest") # the code of its first character
        rest=${rest#?}
    done
    quoted=\"$quoted\"
}

# Sets one variable per member, each a JSON value. There may be no file if somebody put the data there by hand.
read_meta() {
    uuid=null instance=null index=null cname=null metadata=null kept=null created=null snapshot_of=null
    [ -r "$volume/meta" ] || return 0
    while IFS=: read -r key value; do
        case $key in
            '"uuid"') uuid=$value ;;
            '"instance"') instance=$value ;;
            '"index"') index=$value ;;
            '"cname"') cname=$value ;;
            '"metadata"') metadata=$value ;;
            '"kept"') kept=$value ;;
            '"created"') created=$value ;;
            '"snapshot_of"') snapshot_of=$value ;;
        esac
    done <"$volume/meta"
}

# What the caller says replaces what we know; what it doesn't mention stays.
update_meta() {
    if [ -n "${VOL_UUID-}" ]; then quote "$VOL_UUID" && uuid=$quoted; fi
    if [ -n "${VOL_INSTANCE-}" ]; then quote "$VOL_INSTANCE" && instance=$quoted; fi
    if [ -n "${VOL_CNAME-}" ]; then quote "$VOL_CNAME" && cname=$quoted; fi
    if [ -n "${VOL_METADATA-}" ]; then quote "$VOL_METADATA" && metadata=$quoted; fi
    if [ -n "${VOL_KEEP-}" ]; then quote "$VOL_KEEP" && kept=$quoted; fi
    case ${VOL_INDEX-} in
        '' | 0?* | *[!0-9]*) ;;
        *) index=$VOL_INDEX ;;
    esac
}

# By rename, so that a crash leaves the old or the new one.
write_meta() {
    printf '"%s":%s\n' uuid "$uuid" instance "$instance" index "$index" cname "$cname" \
        metadata "$metadata" kept "$kept" created "$created" snapshot_of "$snapshot_of" >"$1/meta.new" || die "can't write $1/meta.new"
    try sync "$1/meta.new"
    try mv "$1/meta.new" "$1/meta"
}

# One line of JSON: name $1, size $2 in bytes, what meta says, and more members in $3.
describe() {
    quote "$1"
    line="{\"name\":$quoted,\"size\":$(($2 / 1048576))"
    if [ -r "$dir/$1/meta" ]; then
        while IFS= read -r member; do
            line=$line,$member
        done <"$dir/$1/meta"
    fi
    printf '%s\n' "$line${3-}}"
}

# --- loop devices ------------------------------------------------------------------------------------

# Sets $device to the volume's loop device on this node, or to nothing. --associated compares device and inode
# number: spaces in the name, or the 63 characters that the kernel keeps of it, don't matter.
find_device() {
    found=$(losetup --noheadings --output NAME,AUTOCLEAR --associated "$volume/data") || die "losetup failed"
    # shellcheck disable=SC2086  # two words
    set -- $found
    device=${1-} leaving=${2-}
}

# Is $device in use? Sets $above to what is mounted from it or built on it; that, or a process that has it open.
# (A file system mounted in another mount namespace stays unseen; detach_devices notices in the end.)
in_use() {
    # shellcheck disable=SC2046  # words: the device itself, then all that is on it
    set -- $(lsblk --noheadings --list --output NAME,MOUNTPOINT "$device")
    [ $# -eq 0 ] || shift
    above=$*
    [ -z "$above" ] || return 0
    case $(ls -l /proc/[0-9]*/fd 2>/dev/null)$nl in
        *" -> $device$nl"*) ;;
        *) return 1 ;;
    esac
}

# Sets $users to all of them, by name. Too slow to do it before it matters.
name_users() {
    users=$above
    for process in /proc/[0-9]*; do
        case $(ls -l "$process/fd" 2>/dev/null)$nl in
            *" -> $device$nl"*)
                comm='?'
                { read -r comm <"$process/comm"; } 2>/dev/null || : # it may have ended
                users="${users:+$users, }process ${process#/proc/} ($comm)"
                ;;
        esac
    done
}

# Detaches $device, unless it is another file's by now: one that goes away is given to whoever attaches next. While
# we have it open, it stays what it is.
detach_device() {
    held=$device
    { command exec 8<"$held"; } 2>/dev/null || return 0 # it has gone
    find_device
    [ "$device" != "$held" ] || said=$(losetup --detach "$held" 2>&1) || :
    exec 8<&-
}

# Detaches the volume from this node and makes sure of it. `losetup --detach` is no test: given a device in use
# it succeeds, and the device goes away when its last user does. So we look for users first, and failing leaves
# everything as it was. Short use, such as udev's look at a new device, is waited for.
detach_devices() {
    tries=0 above='' said=''
    while find_device && [ -n "$device" ]; do
        if [ "$tries" -eq 10 ]; then
            name_users
            die "$device is in use by ${users:-somebody unknown${said:+ ($said)}}"
        fi
        [ "$tries" -eq 0 ] || sleep 0.1
        tries=$((tries + 1))
        in_use || detach_device
    done
}

# --- which nodes have it open ------------------------------------------------------------------------

# Sets $others to the nodes other than this one that have the volume open, and $exclusive to one that wants it
# for itself.
find_others() {
    others='' exclusive=''
    for record in "$volume"/open.*; do
        other=${record##*/open.}
        if [ -e "$record" ] && [ "$other" != "$node" ] && ! is_dead "$other"; then
            others="$others $other"
            read -r mode <"$record" && [ "$mode" = shared ] || exclusive=$other
        fi
    done
    others=${others# }
}

# Is $1 the node that the caller says is dead? Its host name may be qualified in one place and not in the other.
is_dead() {
    case ${VOL_OPEN_DEAD_NODE-} in
        '') return 1 ;;
        "$1" | "$1".*) return 0 ;;
    esac
    case $1 in
        "$VOL_OPEN_DEAD_NODE".*) return 0 ;;
    esac
    return 1
}

forget_dead() {
    for record in "$volume"/open.*; do
        other=${record##*/open.}
        [ "$other" = "$node" ] || ! is_dead "$other" || try rm -f "$record"
    done
}

# A node that died can't close. Only a human knows that it is dead, and that its last write has arrived.
open_elsewhere() {
    die "is open on $1; if that node is down for certain, remove $volume/open.$1"
}
