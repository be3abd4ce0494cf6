#!/bin/sh
# Tests providers/ext against real loop devices, under each shell that is here, and the odd providers in
# fixtures/providers, all at the same time. Needs root. Prints every check that fails, and last "N passed, N failed".
set -u
export LC_ALL=C
here=$(cd "${0%/*}" && pwd)
ext=$here/ext
fixtures=$here/../fixtures/providers
work=$(mktemp -d /tmp/ext-test.XXXXXX)
passed=0 failed=0
nl='
'

clean_up() {
    umount "$work"/*/mnt 2>/dev/null
    losetup --noheadings --raw --output NAME,BACK-FILE | while read -r device file; do
        case $file in "$work"/*) losetup --detach "$device" ;; esac
    done
    rm -rf "$work"
}
trap clean_up EXIT
parts=
trap 'kill $parts 2>/dev/null; wait; exit 130' INT TERM HUP

# --- how to run and how to check ---------------------------------------------------------------------

# run ACTION [VARIABLE=VALUE]...: one action under $shell, in the environment that the contract promises.
run() {
    action=$1
    shift
    # shellcheck disable=SC2086  # "busybox sh" is two words, and none means the script's own #! line
    (cd "$provider" && exec env -i PATH="$PATH" LC_ALL=C HOME=/ EXTP_DIR="$vols" VOL_NAME="$name" VOL_UUID=uuid-1 \
        "$@" $shell "$provider/$action" </dev/null >"$work/out" 2>"$work/err")
}

# check WHAT COMMAND...: the command must succeed.
check() {
    what=$1
    shift
    if "$@"; then
        passed=$((passed + 1))
    else
        failed=$((failed + 1))
        printf 'FAILED %s: %s\n' "${shell:-${provider##*/}}" "$what"
        sed 's/^/    /' "$work/out" "$work/err"
    fi
}

# Succeeds without a word.
quietly() {
    run "$@" && [ ! -s "$work/out" ] && [ ! -s "$work/err" ]
}

# refuses WORDS ACTION...: fails with 1 and one line on stderr that has the words and, if there's one, the volume.
refuses() {
    words=$1
    shift
    run "$@"
    [ $? -eq 1 ] && [ ! -s "$work/out" ] && [ "$(wc -l <"$work/err")" -eq 1 ] || return 1
    case $(cat "$work/err") in *"$words"*) ;; *) return 1 ;; esac
    [ "$1" = verify ] || case $(cat "$work/err") in *"$name"*) ;; *) return 1 ;; esac
}

# prints LINE ACTION...
prints() {
    line=$1
    shift
    run "$@" && [ "$(sed 's/"created":"[^"]*Z"/CREATED/' "$work/out")" = "$line" ]
}

attach() {
    run attach "$@" && device=$(cat "$work/out") && [ -b "$device" ]
}

size_is() {
    [ "$(blockdev --getsize64 "$device")" -eq $(($1 * 1048576)) ]
}

# has_devices COUNT FILE
has_devices() {
    losetup --list --associated "$2" >"$work/out" 2>"$work/err"
    [ "$(sed 1d "$work/out" | wc -l)" -eq "$1" ]
}

no_devices() {
    ! losetup --noheadings --output BACK-FILE | grep -q "$work"
}

nothing_in() {
    ls -A "$1" >"$work/out"
    [ ! -s "$work/out" ]
}

not() {
    ! "$@"
}

# --- providers/ext -----------------------------------------------------------------------------------

life() {
    check 'verify: a directory that can be made' quietly verify
    check 'verify makes nothing' [ ! -e "$vols" ]
    check 'list without a directory' prints '' list
    check 'info of nothing' prints '' info
    check 'attach of nothing' refuses 'no such volume' attach
    check 'detach of nothing' quietly detach
    check 'remove of nothing' quietly remove
    check 'grow of nothing' refuses 'no such volume' grow VOL_NEW_SIZE=8
    check 'setinfo of nothing' refuses 'no such volume' setinfo VOL_METADATA=x
    check 'open of nothing' refuses 'no such volume' open
    check 'close of nothing' quietly close
    check 'snapshot of nothing' refuses 'no such volume' snapshot VOL_SNAPSHOT_NAME=s

    check 'create' quietly create VOL_SIZE=16 VOL_INSTANCE=web VOL_INDEX=0
    check 'create again' quietly create VOL_SIZE=16
    check 'create with another size' refuses 'already exists' create VOL_SIZE=17
    check 'create with another uuid' refuses 'already exists' create VOL_SIZE=16 VOL_UUID=uuid-2
    check 'create without a uuid' refuses 'already exists' create VOL_SIZE=16 VOL_UUID=
    check 'the data is sparse' [ "$(stat --format=%b "$vols/$name/data")" -eq 0 ]
    check 'nobody else may read it' [ "$(stat --format=%a "$vols" "$vols/$name/data" | tr '\n' ' ')" = '700 600 ' ]

    check 'attach' attach
    first=$device
    check 'the size of the device' size_is 16
    check 'attach again' attach
    check 'gives the same device' [ "$device" = "$first" ]
    members="\"name\":\"$name\",\"size\":16,\"uuid\":\"uuid-1\",\"instance\":\"web\",\"index\":0,\"cname\":null"
    members="$members,\"metadata\":null,\"kept\":null,CREATED,\"snapshot_of\":null"
    check 'list knows the device' prints "{$members,\"device\":\"$device\"}" list
    check 'info knows the device' prints "{$members,\"device\":\"$device\"}" info

    echo marker | dd of="$device" bs=1M seek=3 conv=notrunc status=none
    check 'snapshot' quietly snapshot VOL_SNAPSHOT_NAME=copy VOL_SNAPSHOT_SIZE=16
    check 'snapshot of that name again' refuses 'already exists' snapshot VOL_SNAPSHOT_NAME=copy
    check 'snapshot to itself' refuses 'already exists' snapshot VOL_SNAPSHOT_NAME="$name"
    check 'snapshot with a bad name' refuses "can't be" snapshot VOL_SNAPSHOT_NAME=../copy

    check 'grow' quietly grow VOL_SIZE=16 VOL_NEW_SIZE=32
    check 'the device sees it' size_is 32
    check 'grow to what it is' quietly grow VOL_SIZE=16 VOL_NEW_SIZE=32
    check 'shrink' refuses "can't shrink" grow VOL_SIZE=32 VOL_NEW_SIZE=16
    truncate --size=40M "$vols/$name/data"
    check 'grow after a grow that was killed half way' quietly grow VOL_SIZE=32 VOL_NEW_SIZE=40
    check 'tells the device' size_is 40

    check 'detach' quietly detach
    check 'the device is gone' has_devices 0 "$vols/$name/data"
    check 'detach again' quietly detach
    check 'grow while detached' quietly grow VOL_SIZE=40 VOL_NEW_SIZE=48
    check 'attach after detach' attach
    check 'has the new size' size_is 48

    check 'remove while attached' quietly remove
    check 'the device is gone too' has_devices 0 "$vols/copy/data"
    check 'remove again' quietly remove
    check 'attach after remove' refuses 'no such volume' attach

    keep=$name name=copy
    check 'the snapshot is a volume' attach
    check 'of the old size' size_is 16
    check 'with the old content' [ "$(dd if="$device" bs=1M skip=3 count=1 status=none | head -n 1)" = marker ]
    members='"name":"copy","size":16,"uuid":null,"instance":"web","index":null,"cname":null,"metadata":null,"kept":null'
    check 'and says whose it is' prints "{$members,CREATED,\"snapshot_of\":\"$keep\",\"device\":\"$device\"}" list
    check 'remove the snapshot' quietly remove
    name=$keep
    check 'nothing is left' nothing_in "$vols"
    check 'no device is left' no_devices
}

bad_input() {
    for bad in '' . .. .hidden a/b /etc "a${nl}b"; do
        check "the name '$bad'" [ "$(run create VOL_NAME="$bad" VOL_SIZE=1; echo $?)" -eq 1 ]
    done
    for bad in '' 0 -1 08 1.5 1G x 99999999999999999; do
        check "the size '$bad'" refuses 'must be a whole number' create VOL_SIZE="$bad"
    done
    check 'a size the file system cannot have' refuses 'truncate: ' create VOL_SIZE=999999999
    check 'a relative directory' refuses 'absolute path' verify EXTP_DIR=vols
    check 'a file for a directory' refuses "can't be a directory" verify EXTP_DIR="$ext/attach/x"
    case $shell in # busybox thinks that root can write anywhere
        *busybox*) ;;
        *) check 'a directory that cannot be written' refuses "can't write" verify EXTP_DIR=/proc/1/vols ;;
    esac
    check 'a node without losetup' refuses 'no losetup' verify PATH=/nowhere EXTP_DIR=/
    check 'the default directory' quietly verify EXTP_DIR=
    name=state.ext.disk0
    check 'which is in the state' quietly create VOL_SIZE=1 EXTP_DIR= GNT_DISK_STATE="$work/state"
    check 'below ext-volumes' [ -f "$work/state/ext-volumes/$name/data" ]
    name=$usual
    check 'nothing is left' nothing_in "$vols"
    mkdir "$vols/lost+found"
    name=lost+found
    check 'a directory that is no volume is not listed' prints '' list
    check 'nor removed' quietly remove
    check 'so it is there' rmdir "$vols/lost+found"
    name=$usual
}

text() {
    long=$(printf '%0200d' 7) # longer than the 63 characters of a file's name that the kernel keeps for a loop device
    for name in ' a  name ' "it's" 'back\slash' '-d' '%s$x*?"' "${long}A" "${long}B"; do
        check "create '$name'" quietly create VOL_SIZE=1
        check "attach '$name'" attach
    done
    check 'each has its own device' [ "$(losetup --noheadings --output BACK-FILE | grep -c "$work")" -eq 7 ]
    run list
    check 'list them all' [ "$(wc -l <"$work/out")" -eq 7 ]
    check 'as they are called' grep -q '^{"name":" a  name ","size":1,' "$work/out"
    check 'and escaped' grep -qF '{"name":"%s$x*?\u0022",' "$work/out"
    for name in ' a  name ' "it's" 'back\slash' '-d' '%s$x*?"' "${long}A" "${long}B"; do
        check "remove '$name'" quietly remove
    done

    name=$usual
    check 'create with odd text' quietly create VOL_SIZE=1 VOL_CNAME="tab	\"q\" \\n:" VOL_INSTANCE="line${nl}break" VOL_INDEX=3
    members='"instance":"line\u000abreak","index":3,"cname":"tab\u0009\u0022q\u0022 \u005cn:"'
    check 'is JSON' prints "{\"name\":\"$name\",\"size\":1,\"uuid\":\"uuid-1\",$members,\"metadata\":null,\"kept\":null,CREATED,\"snapshot_of\":null}" info
    check 'setinfo' quietly setinfo VOL_METADATA=originstname+web VOL_INSTANCE=web2 VOL_KEEP='{"uuid":"u"}'
    members='"instance":"web2","index":3,"cname":"tab\u0009\u0022q\u0022 \u005cn:","metadata":"originstname+web","kept":"{\u0022uuid\u0022:\u0022u\u0022}"'
    check 'changes what it was told' prints "{\"name\":\"$name\",\"size\":1,\"uuid\":\"uuid-1\",$members,CREATED,\"snapshot_of\":null}" info
    rm "$vols/$name/meta"
    check 'without its meta, a volume is still listed' prints "{\"name\":\"$name\",\"size\":1}" list
    check 'and can be given a new one' quietly setinfo VOL_METADATA=m
    check 'and removed' quietly remove
    check 'nothing is left' nothing_in "$vols"
}

# Has a process keep $device open for $1 seconds.
use() {
    # shellcheck disable=SC2217  # it doesn't read it, and that is enough
    sleep "$1" <"$device" &
    user=$!
    # shellcheck disable=SC3013
    until [ "/proc/$user/fd/0" -ef "$device" ]; do :; done
    until [ "$(cat "/proc/$user/comm")" = sleep ]; do :; done
}

# Runs detach; when that calls TOOL, COMMAND has the device go away and another file gets it. True if that file keeps it.
left_alone() { # TOOL COMMAND...
    tool=$1
    shift
    truncate --size=1M "$work/other"
    mkdir "$work/meddler"
    cat >"$work/meddler/$tool" <<END
#!/bin/sh
PATH='$PATH'
if mkdir '$work/meddled'; then
    $*
    until losetup $device '$work/other'; do sleep 0.01; done
fi 2>/dev/null
exec $tool "\$@"
END
    chmod +x "$work/meddler/$tool"
    run detach PATH="$work/meddler:$PATH"
    losetup --noheadings --output NAME,AUTOCLEAR --associated "$work/other" >"$work/out" 2>"$work/err"
    losetup --detach "$device"
    rm -r "$work/meddler" "$work/meddled"
    # shellcheck disable=SC2046  # two words
    set -- $(cat "$work/out")
    [ "$*" = "$device 0" ]
}

in_use() {
    quietly create VOL_SIZE=16
    attach
    use 300
    check 'detach while a process has it open' refuses "process $user (sleep)" detach
    check 'remove likewise' refuses "process $user (sleep)" remove
    check 'neither changed anything' [ "$(cat "/sys/block/${device#/dev/}/loop/autoclear")" -eq 0 ]
    kill $user
    wait $user 2>/dev/null
    use 0.5
    check 'short use is waited for' quietly detach
    wait

    attach
    mkfs.ext4 -q "$device"
    mkdir -p "$work/mnt"
    mount "$device" "$work/mnt"
    check 'detach while mounted' refuses "$work/mnt" detach
    echo marker >"$work/mnt/marker"
    check 'snapshot while mounted' quietly snapshot VOL_SNAPSHOT_NAME=copy
    umount "$work/mnt"
    check 'detach when no longer' quietly detach
    attach VOL_NAME=copy
    mount -o ro,noload "$device" "$work/mnt"
    check 'the snapshot has what was written' [ "$(cat "$work/mnt/marker")" = marker ]
    umount "$work/mnt"
    check 'remove the snapshot' quietly remove VOL_NAME=copy

    attach
    use 300
    losetup --detach "$device" # by somebody who didn't ask
    check 'a device that is leaving is not given out' refuses 'being detached' attach
    kill $user
    wait $user 2>/dev/null
    check 'but a new one, once it has left' attach

    use 300
    losetup --detach "$device"
    check 'a device that became another while we waited' left_alone sleep kill $user
    wait $user 2>/dev/null
    attach
    check 'a device that became another while we looked' left_alone ls losetup --detach "$device"

    attach
    losetup --find "$vols/$name/data"
    check 'detach takes away all devices of the volume' quietly detach
    check 'the one made by hand too' has_devices 0 "$vols/$name/data"
    check 'remove' quietly remove
}

# An action on another node, as far as the provider can tell: another host name.
elsewhere() {
    action=$1 exclusive=$2
    shift 2
    unshare --uts sh -c 'echo elsewhere >/proc/sys/kernel/hostname && exec "$@"' sh \
        env EXTP_DIR="$vols" VOL_NAME="$name" VOL_OPEN_EXCLUSIVE="$exclusive" "$@" "$ext/$action" >"$work/out" 2>"$work/err"
}

nodes() {
    quietly create VOL_SIZE=1
    check 'open' quietly open VOL_OPEN_EXCLUSIVE=True
    check 'open again' quietly open VOL_OPEN_EXCLUSIVE=True
    check 'open elsewhere, exclusively' not elsewhere open True
    check 'says what to do' grep -qF "remove $vols/$name/open.$(uname -n)" "$work/err"
    check 'open elsewhere, shared' not elsewhere open False
    check 'migration: open shared here' quietly open VOL_OPEN_EXCLUSIVE=False
    check 'migration: open shared there' elsewhere open False
    check 'not exclusively meanwhile' refuses 'open on elsewhere' open
    check 'nor removed' refuses 'open on elsewhere' remove
    check 'migration: close here' quietly close
    check 'close again' quietly close
    check 'migration: open there alone' elsewhere open True
    check 'not even shared here' refuses 'open on elsewhere' open VOL_OPEN_EXCLUSIVE=False
    check 'detach there closes' elsewhere detach True
    check 'open here again' quietly open
    check 'a node that died: another one is not it' not elsewhere open True VOL_OPEN_DEAD_NODE=other
    check 'a node that died: nor one whose name is longer' not elsewhere open True "VOL_OPEN_DEAD_NODE=$(uname -n)x"
    check 'a node that died is taken over from' elsewhere open True "VOL_OPEN_DEAD_NODE=$(uname -n).example.com"
    check 'twice' elsewhere open True "VOL_OPEN_DEAD_NODE=$(uname -n)"
    check 'it does not have it any more' refuses 'open on elsewhere' open
    check 'no node is dead to itself' elsewhere open True VOL_OPEN_DEAD_NODE=elsewhere
    check 'its record is there' [ -e "$vols/$name/open.elsewhere" ]
    check 'close there' elsewhere close True
    check 'open here after all' quietly open
    check 'neither True nor False' refuses 'must be True or False' open VOL_OPEN_EXCLUSIVE=yes
    check 'remove' quietly remove
    check 'nothing is left' nothing_in "$vols"
}

# many COUNT ACTION...: at once. Leaves what they printed in $work/many, and one line per success in $work/good.
many() {
    count=$1
    shift
    : >"$work/many"
    : >"$work/good"
    jobs=
    while [ "$count" -gt 0 ]; do
        # shellcheck disable=SC2086
        (env EXTP_DIR="$vols" VOL_NAME="$name" NUMBER="$count" "$@" >>"$work/many" 2>>"$work/err" && echo yes >>"$work/good") &
        jobs="$jobs $!"
        count=$((count - 1))
    done
    # shellcheck disable=SC2086
    wait $jobs
    good=$(wc -l <"$work/good")
}

at_once() {
    for round in 1 2; do
        # shellcheck disable=SC2086
        many 10 VOL_UUID=uuid-1 VOL_SIZE=1 $shell "$ext/create"
        check "10 creates of one volume, round $round" [ "$good" -eq 10 ]
        # shellcheck disable=SC2086
        many 20 $shell "$ext/attach"
        check "20 attaches succeed, round $round" [ "$good" -eq 20 ]
        check 'and print one device' [ "$(sort -u "$work/many" | wc -l)" -eq 1 ]
        check 'the only one' has_devices 1 "$vols/$name/data"
        # shellcheck disable=SC2086
        many 10 $shell "$ext/detach"
        check "10 detaches, round $round" [ "$good" -eq 10 ]
        # shellcheck disable=SC2086
        many 5 $shell "$ext/remove"
        check "5 removes, round $round" [ "$good" -eq 5 ]
        check 'nothing is left' nothing_in "$vols"
        many 10 VOL_SIZE=1 sh -c "VOL_UUID=uuid-\$NUMBER exec ${shell:-sh} '$ext/create'"
        check "10 creates of different volumes of one name: one wins, round $round" [ "$good" -eq 1 ]
        quietly remove
    done
}

# Stands in for each tool that an action calls: kills the whole process group, as a caller does that has lost
# patience, before call number $KILL_BEFORE, or after call number $KILL_AFTER.
make_tripwires() {
    mkdir "$work/bin"
    cat >"$work/bin/tripwire" <<'END'
#!/bin/sh
read -r calls <"$CALLS"
calls=$((calls + 1))
echo $calls >"$CALLS"
[ $calls -ne "$KILL_BEFORE" ] || kill -s KILL 0
PATH=$REAL_PATH
"${0##*/}" "$@"
status=$?
[ $calls -ne "$KILL_AFTER" ] || kill -s KILL 0
exit $status
END
    chmod +x "$work/bin/tripwire"
    for tool in blockdev cp date flock ls losetup lsblk mkdir mv rm sleep stat sync truncate; do
        ln -s tripwire "$work/bin/$tool"
    done
}

# Runs a command in a process group of its own, and returns when it and all its children are gone: the lock ends
# with the last of them. False if it was killed.
group() {
    # shellcheck disable=SC2086
    { env -i PATH="$PATH" EXTP_DIR="$vols" VOL_NAME="$name" VOL_UUID=uuid-1 VOL_INSTANCE=web VOL_INDEX=0 VOL_SIZE=4 \
        VOL_NEW_SIZE=5 VOL_METADATA=m flock "$work/alive" setsid --wait "$@" >"$work/out" 2>"$work/err" & } 2>/dev/null
    wait $! 2>/dev/null
    status=$?
    flock "$work/alive" true
    [ "$status" -lt 128 ]
}

# killed_everywhere AFTERWARDS ACTION [VARIABLE=VALUE]...: kills the action before and after each tool it calls. Each
# time, AFTERWARDS checks what is left and restores the state before.
killed_everywhere() {
    afterwards=$1
    victim=$2
    shift 2
    for side in BEFORE AFTER; do
        moment=0 survived=no
        while [ $survived = no ]; do
            moment=$((moment + 1))
            echo 0 >"$work/calls"
            # shellcheck disable=SC2086
            if group env "$@" KILL_BEFORE=0 KILL_AFTER=0 "KILL_$side=$moment" CALLS="$work/calls" REAL_PATH="$PATH" \
                PATH="$work/bin:$PATH" $shell "$ext/$victim"
            then
                survived=yes
            fi
            moment_name="$victim killed $side call $moment"
            $afterwards
        done
        check "$victim calls tools" [ "$moment" -gt 1 ]
        check "$victim survives in the end" [ ! -s "$work/err" ]
    done
}

# A reader sees the old meta or the new, never half of one.
readers() {
    quietly create VOL_SIZE=4 VOL_INSTANCE=web
    # shellcheck disable=SC2086
    while EXTP_DIR=$vols VOL_NAME=$name VOL_METADATA=m $shell "$ext/setinfo"; do :; done 2>/dev/null &
    writer=$!
    round=0
    while [ "$round" -lt 100 ]; do
        round=$((round + 1))
        check 'info while setinfo writes' whole
    done
    kill $writer
    wait $writer 2>/dev/null
    check 'remove' quietly remove
    check 'nothing is left' nothing_in "$vols"
}

# Is $name either not there at all, or complete?
whole_or_absent() {
    run info || return 1
    [ ! -s "$work/out" ] || grep -Eq '^\{.*"size":[45],.*"instance":"web",.*"created":"2.*\}$' "$work/out"
}

whole() {
    whole_or_absent && [ -s "$work/out" ]
}

after_create() {
    check "$moment_name" whole_or_absent
    check "create after $moment_name" quietly create VOL_SIZE=4 VOL_INSTANCE=web
    check "which is whole" whole
    check "remove after $moment_name" quietly remove
    check "nothing is left after $moment_name" nothing_in "$vols"
}

after_aborted_create() {
    check "remove right after $moment_name" quietly remove
    check "nothing is left after $moment_name" nothing_in "$vols"
}

after_snapshot() {
    name=copy
    check "$moment_name" whole_or_absent
    [ ! -e "$vols/copy" ] || check 'a visible one is whole' cmp -s "$vols/$usual/data" "$vols/copy/data"
    check "remove after $moment_name" quietly remove
    name=$usual
    check "only the volume is left after $moment_name" [ "$(ls -A "$vols")" = "$name" ]
}

after_change() {
    check "$moment_name" whole
    check "attach after $moment_name" attach
    check "one device after $moment_name" has_devices 1 "$vols/$name/data"
    check "detach after $moment_name" quietly detach
    [ "$victim" != detach ] || attach
}

after_grow() {
    check "$moment_name" whole
    check "grow after $moment_name" quietly grow VOL_NEW_SIZE=5
    check 'the device sees it' size_is 5
    truncate --size=4M "$vols/$name/data"
    losetup --set-capacity "$device"
}

after_remove() {
    check "$moment_name" whole_or_absent
    check "remove after $moment_name" quietly remove
    check "nothing is left after $moment_name" nothing_in "$vols"
    check "no device after $moment_name" no_devices
    quietly create VOL_SIZE=4 VOL_INSTANCE=web
    attach
}

crashes() {
    killed_everywhere after_create create
    killed_everywhere after_aborted_create create
    quietly create VOL_SIZE=4 VOL_INSTANCE=web
    head -c 4M /dev/urandom >"$vols/$name/data"
    killed_everywhere after_snapshot snapshot VOL_SNAPSHOT_NAME=copy
    killed_everywhere after_change attach
    killed_everywhere after_change setinfo
    killed_everywhere after_change open
    attach
    killed_everywhere after_change detach
    killed_everywhere after_grow grow
    killed_everywhere after_remove remove
    quietly remove

    mkdir "$vols/.new-$name"
    echo old >"$vols/.new-$name/data"
    check 'create where a snapshot was killed' quietly create VOL_SIZE=1
    check 'the volume is empty' cmp -s -n 1048576 /dev/zero "$vols/$name/data"
    quietly remove

    for moment in 1 2 3 4 5 6 7 8 9 10 12 14 16 18 20 25 30 35 40 50; do # milliseconds: also within a tool
        # shellcheck disable=SC2086
        group timeout --signal=KILL "$(printf 0.%03d "$moment")" $shell "$ext/create"
        moment_name="create killed after $moment ms"
        after_create
    done
}

# A copy of what is being written would be of no moment at all.
fuzzy_snapshot() {
    quietly create VOL_SIZE=256
    head -c 256M /dev/zero >"$vols/$name/data"
    if cp --reflink=always "$vols/$name/data" "$vols/reflink" 2>/dev/null; then
        rm "$vols/reflink"
    else
        rm -f "$vols/reflink"
        attach
        while dd if=/dev/urandom of="$device" bs=4k count=1 conv=notrunc oflag=direct status=none; do sleep 0.01; done &
        writer=$!
        check 'snapshot while it is written to' refuses 'was written to' snapshot VOL_SNAPSHOT_NAME=copy
        kill $writer
        wait $writer 2>/dev/null
        check 'snapshot when it no longer is' quietly snapshot VOL_SNAPSHOT_NAME=copy
        quietly remove VOL_NAME=copy
    fi
    check 'remove' quietly remove
    check 'nothing is left' nothing_in "$vols"
}

# --- fixtures/providers ------------------------------------------------------------------------------

# Each has the files it should have, is in the README, and but for its oddity lives a whole life.
odd_provider() {
    odd=$1
    check 'is in the README' grep -q "^| \`$odd\`" "$fixtures/README.md"
    for file in create attach detach remove grow setinfo verify parameters.list; do
        case $odd/$file in
            not-executable/attach) check 'attach is not executable' [ ! -x "$provider/$file" ] ;;
            no-parameters-list/parameters.list) check 'there is no list' [ ! -e "$provider/$file" ] ;;
            *.list) check "$file" [ -s "$provider/$file" ] ;;
            *) check "$file" [ -x "$provider/$file" ] ;;
        esac
    done
    case $odd in not-executable) return ;; esac

    export EXTP_SLEEP=0
    case $odd in
        create-fails-after-making) check 'create fails' not run create VOL_SIZE=8 ;;
        *) check 'create' run create VOL_SIZE=8 ;;
    esac
    img=$vols/$name.img
    case $odd in
        lies) check 'nothing is made' [ ! -e "$img" ] ;;
        small-volume) check 'half is made' [ "$(stat --format=%s "$img")" -eq 4194304 ] ;;
        *) check 'the volume is made' [ "$(stat --format=%s "$img")" -eq 8388608 ] ;;
    esac
    case $odd in
        hangs | hangs-in-child | floods) return ;; # in their own checks
        exits-3) run attach; check 'exits with 3' [ $? -eq 3 ] ;;
        killed) (run attach) 2>/dev/null; check 'is killed' [ $? -eq 137 ] ;;
        binary-output) check 'fails' not run attach ;;
        lies | prints-nothing) check 'prints nothing' quietly attach ;;
        errors-on-stdout) check 'says so' grep -q '^ERROR' "$(run attach; echo "$work/out")" ;;
        path-no-device) check 'prints a file' prints "$img" attach ;;
        path-missing) check 'prints what is not there' prints "/dev/does-not-exist/$name" attach ;;
        uris-without-path) check 'prints a URI' prints "${nl}kvm:file:$img" attach ;;
        uris-with-path) run attach; check 'a path and URIs' [ -b "$(head -n 1 "$work/out")" ] ;;
        chatter-before-path) run attach; check 'the path comes last' [ -b "$(tail -n 1 "$work/out")" ] ;;
        *) check 'attach' attach ;;
    esac
    case $odd in
        lies | grow-noop) ;;
        *)
            check 'grow' quietly grow VOL_NEW_SIZE=16
            check 'has grown' [ "$(stat --format=%s "$img")" -eq 16777216 ]
            ;;
    esac
    run detach
    case $odd in
        detach-noop) check 'the device stays' has_devices 1 "$img" ;;
        lies) ;;
        *) check 'detached' has_devices 0 "$img" ;;
    esac
    check 'remove' quietly remove
    check 'nothing is left' nothing_in "$vols"
}

slow_ones() {
    provider=$fixtures/floods
    run create VOL_SIZE=1
    check 'prints 1 GiB' [ "$(EXTP_DIR=$vols VOL_NAME=$name "$provider/attach" | wc -c)" -eq 1073741824 ]
    run remove
    provider=$fixtures/hangs
    run create VOL_SIZE=1
    check 'hangs' [ "$(EXTP_DIR=$vols VOL_NAME=$name timeout 0.5 "$provider/attach"; echo $?)" = 124 ]
    run remove
    provider=$fixtures/hangs-in-child
    run create VOL_SIZE=1
    EXTP_DIR=$vols VOL_NAME=$name setsid sh -c 'echo $$ >"$1" && exec "$2/attach"' sh "$work/group" "$provider" >"$work/out"
    check 'ends with a device' [ -b "$(cat "$work/out")" ]
    check 'leaves a child' kill -s KILL -- "-$(cat "$work/group")"
    run remove
    check 'no device is left' no_devices
}

# --- all of it ---------------------------------------------------------------------------------------

usual=8d3c9a54-1b5b-4c55-9ff6-15c1d4d4a6f1.ext.disk0
name=$usual

# part NAME COMMAND...: in the background and in a directory of its own, where "result" is how many checks passed and failed.
part() {
    part=$1
    shift
    mkdir "$work/$part"
    (
        work=$work/$part
        started=$(date +%s)
        "$@"
        echo "$part: $passed passed, $failed failed, took $(($(date +%s) - started)) s"
        echo "$passed $failed" >"$work/result"
    ) &
    parts="$parts $!"
}

# ext SHELL...: the provider that we ship, under this shell.
ext_under() {
    shell=$(command -v "$1")${2:+ $2}
    provider=$ext
    vols="$work/volumes of $1"
    make_tripwires
    life
    bad_input
    text
    in_use
    nodes
    at_once
    readers
    crashes
    fuzzy_snapshot
    check 'no device is left' no_devices
}

odd_ones() {
    shell=
    vols="$work/volumes"
    mkdir "$vols"
    for provider in "$fixtures"/*/; do
        provider=${provider%/}
        odd_provider "${provider##*/}"
        rm -f "$vols"/*
    done
    slow_ones
}

for shell in dash 'busybox sh' 'bash --posix'; do
    if command -v "${shell%% *}" >/dev/null; then
        # shellcheck disable=SC2086  # two words
        part "ext-${shell%% *}" ext_under $shell
    else
        echo "ext-$shell: left out, as there is no such shell here"
    fi
done
part odd-providers odd_ones
wait
for result in "$work"/*/; do
    if read -r good bad <"$result/result"; then
        passed=$((passed + good)) failed=$((failed + bad))
    else
        failed=$((failed + 1))
    fi
done

echo "$passed passed, $failed failed"
[ "$failed" -eq 0 ]
