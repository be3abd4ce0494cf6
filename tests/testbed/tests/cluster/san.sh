#!/bin/bash
# An ExtStorage provider for a disk that all nodes see: a volume is a part of it, which device mapper makes a device of. All actions are
# this script under their names. The file `dir` tells the directory, seen by all nodes, that says which part; what a volume was before
# it was made is still on it, as no interface promises zeros.
set -e
action=${0##*/} disk=/dev/disk/by-id/ubd-SAN part=128 dir=$(<dir)
volume=$dir/${VOL_NAME-} device=/dev/mapper/san-${VOL_NAME-} node=$(</proc/sys/kernel/hostname)

fail() { echo "$action ${VOL_NAME-}: $*" >&2; exit 1; }
put() { [ -z "$2" ] || printf '%s' "$2" >"$volume/$1"; }
table() { echo "0 $((size * 2048)) linear $disk $((slot * part * 2048))"; }
load() { [ -e "$volume/size" ] || fail 'there is no such volume'; size=$(<"$volume/size") slot=$(<"$volume/slot"); }
describe() {
    local name=${1##*/} key value
    printf '{"name":"%s","size":%s' "$name" "$(<"$1/size")"
    [ ! -s "$1/index" ] || printf ',"index":%s' "$(<"$1/index")"
    for key in uuid instance cname metadata kept; do
        value=$(cat "$1/$key" 2>/dev/null || :)
        value=${value//\\/\\\\}
        [ -z "$value" ] || printf ',"%s":"%s"' "$key" "${value//\"/\\\"}"
    done
    [ ! -e "/dev/mapper/san-$name" ] || printf ',"device":"/dev/mapper/san-%s"' "$name"
    printf '}\n'
}
keep() {
    put uuid "${VOL_UUID-}"; put cname "${VOL_CNAME-}"; put instance "${VOL_INSTANCE-}"; put index "${VOL_INDEX-}"
    put metadata "${VOL_METADATA-}"; put kept "${VOL_KEEP-}"
}

case $action in
create)
    [ "$VOL_SIZE" -le $part ] || fail "more than $part MiB"
    if [ -e "$volume/size" ]; then
        [ "$(<"$volume/uuid")" = "$VOL_UUID" ] || fail 'there is one'
        exit
    fi
    mkdir -p "$volume" "$dir/.parts"
    for slot in 0 1 2 3 4 5 6 7; do
        if mkdir "$dir/.parts/$slot" 2>/dev/null; then
            keep; put slot $slot; put size "$VOL_SIZE"
            exit
        fi
    done
    fail 'the disk is full' ;;
attach)
    load
    [ -e "$device" ] || dmsetup create "san-$VOL_NAME" --table "$(table)"
    echo "$device" ;;
detach)
    rm -f "$volume/open.$node"
    [ ! -e "$device" ] || dmsetup remove --retry "san-$VOL_NAME" ;;
remove)
    [ -e "$volume" ] || exit 0
    [ ! -e "$device" ] || fail 'it is attached'
    slot=$(<"$volume/slot")
    rm -r "$volume"
    rmdir "$dir/.parts/$slot" ;;
grow)
    load
    [ "$VOL_NEW_SIZE" -le $part ] || fail "more than $part MiB"
    put size "$VOL_NEW_SIZE"
    if [ -e "$device" ]; then
        size=$VOL_NEW_SIZE
        dmsetup reload "san-$VOL_NAME" --table "$(table)"
        dmsetup resume "san-$VOL_NAME"
    fi ;;
setinfo) load; keep ;;
open)
    load
    for other in "$volume"/open.*; do
        case $other in
        *.\* | *."$node" | *."${VOL_OPEN_DEAD_NODE-}") ;;
        *) [ "$(<"$other") $VOL_OPEN_EXCLUSIVE" = 'False False' ] || fail "${other##*.} has it open" ;;
        esac
    done
    [ -z "${VOL_OPEN_DEAD_NODE-}" ] || rm -f "$volume/open.$VOL_OPEN_DEAD_NODE"
    put "open.$node" "$VOL_OPEN_EXCLUSIVE" ;;
close) rm -f "$volume/open.$node" ;;
info) [ ! -e "$volume/size" ] || describe "$volume" ;;
list)
    for volume in "$dir"/*/; do
        [ ! -e "$volume/size" ] || describe "${volume%/}"
    done ;;
verify) ;;
*) fail 'there is no such action' ;;
esac
