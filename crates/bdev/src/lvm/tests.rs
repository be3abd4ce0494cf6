//! The driver over what LVM really said (`fixtures/lvm`).

use std::fs;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use gnt_config::{Disk, LogicalDevice, LogicalId, Mebibytes, Object, Settings};
use gnt_process::{Command, Output, RunError, Runner, Scripted, Status};
use serde_json::json;

use super::error::classify;
use super::report::{self, Health, LogicalVolume, PhysicalVolume};
use crate::storage::{self, StorageUnit, UnitType};
use crate::tree::{self, Activation, Layer};
use crate::{Change, Error, ErrorKind, Host, LocalDiskStatus, Target, Told};

const INSTANCE: &str = "web.example.org";
const UUID: &str = "5ab57b6b-d5dc-470f-8685-c9417d8cf30b";
const MIB: u64 = 1 << 20;

fn fixture(name: &str) -> String {
    let path = Path::new(env!("CARGO_MANIFEST_DIR"))
        .join("../../fixtures/lvm")
        .join(name);
    fs::read_to_string(&path).unwrap_or_else(|error| panic!("{}: {error}", path.display()))
}

fn volumes(name: &str) -> Vec<LogicalVolume> {
    report::logical_volumes(&fixture(name)).unwrap()
}

fn pvs(name: &str) -> Vec<PhysicalVolume> {
    report::physical_volumes(&fixture(name)).unwrap()
}

fn called<'a>(volumes: &'a [LogicalVolume], name: &str) -> &'a LogicalVolume {
    volumes.iter().find(|volume| volume.lv == name).unwrap()
}

#[test]
fn reports_of_volumes_are_read() {
    let all = volumes("lvs.json");
    assert_eq!(all.len(), 9);
    let disk = called(&all, &format!("{UUID}.disk0"));
    assert_eq!(
        (disk.vg.as_str(), disk.bytes, disk.extent),
        ("xenvg", 64 * MIB, 4 * MIB)
    );
    assert_eq!((disk.numbers, disk.origin.as_deref()), (Some((254, 1)), None));
    assert_eq!(disk.tags.len(), 7);
    assert!(disk.state.active && !disk.state.open && !disk.state.mirrored);

    let striped = called(&all, "striped");
    assert_eq!(
        (striped.stripes, &striped.pvs[..]),
        (2, &["/dev/ubda".to_owned(), "/dev/ubdb".to_owned()][..])
    );
    let two_parts = called(&all, "two-parts");
    assert_eq!(
        (two_parts.stripes, two_parts.bytes, two_parts.pvs.len()),
        (2, 160 * MIB, 4)
    );
    let off = called(&all, "off");
    assert_eq!((off.state.active, off.numbers), (false, None));
    let root = called(&all, "root");
    assert_eq!(
        (root.vg.as_str(), root.state.open, root.extent),
        ("slowvg", true, 32 * MIB)
    );

    let copy = called(&all, "copy");
    assert_eq!(
        (copy.bytes, copy.origin.as_deref()),
        (64 * MIB, Some(disk.lv.as_str()))
    );
    let overflown = called(&all, "overflown");
    assert_eq!(
        (overflown.state.health, overflown.state.active),
        (Health::Lost, true)
    );
    assert!(
        all.iter()
            .filter(|volume| volume.state.health != Health::Whole)
            .eq([overflown])
    );
    assert_eq!(volumes("lvs-nothing.json"), []);
}

#[test]
fn a_lost_disk_is_seen() {
    let all = volumes("lvs-lost-pv.json");
    assert_eq!(called(&all, "off").state.health, Health::Partial);
    assert_eq!(called(&all, "striped").state.health, Health::Partial);
    assert_eq!(called(&all, "two-parts").state.health, Health::Partial);
    assert_eq!(called(&all, "root").state.health, Health::Whole);
    let lost: Vec<_> = pvs("pvs-lost-pv.json")
        .into_iter()
        .filter(|pv| pv.name == "[unknown]")
        .collect();
    let [lost] = &lost[..] else { panic!("{lost:?}") };
    assert_eq!((lost.vg.as_str(), lost.allocatable), ("xenvg", false));
}

#[test]
fn attributes_mean_what_the_manual_says() {
    for (attributes, active, open, health) in [
        ("-wi-a-----", true, false, Health::Whole),
        ("-wi-ao----", true, true, Health::Whole),
        ("-wi-s-----", false, false, Health::Whole),
        ("vwi-a-----", true, false, Health::Lost),
        ("swi-S-s---", false, false, Health::Lost),
        ("-wi-----p-", false, false, Health::Partial),
        ("rwi-a-r-p-", true, false, Health::Partial),
        ("rwi-a-r-r-", true, false, Health::Partial),
        ("rwi-a-r---", true, false, Health::Whole),
        ("-wi-XX--X-", false, false, Health::Unknown),
        ("", false, false, Health::Whole),
    ] {
        let state = report::State::of(attributes);
        assert_eq!(
            (state.active, state.open, state.health),
            (active, open, health),
            "{attributes}"
        );
        assert_eq!(state.mirrored, attributes.starts_with('r'));
        assert_eq!(state.snapshot, attributes.starts_with('s'));
    }
}

#[test]
fn the_same_disk_seen_twice_changes_nothing() {
    assert_eq!(
        called(&volumes("lvs-duplicate-pv.json"), "striped").state.health,
        Health::Whole
    );
}

#[test]
fn reports_of_physical_volumes_are_read() {
    let all = pvs("pvs.json");
    let summary: Vec<_> = all
        .iter()
        .map(|pv| (pv.name.as_str(), pv.vg.as_str(), pv.free / MIB, pv.allocatable))
        .collect();
    assert_eq!(
        summary,
        [
            ("/dev/ubda", "xenvg", 856, true),
            ("/dev/ubdb", "xenvg", 732, true),
            ("/dev/ubdc", "xenvg", 1020, false),
            ("/dev/ubdd", "slowvg", 864, true),
        ]
    );
    assert_eq!((all[0].bytes, all[3].extent), (1020 * MIB, 32 * MIB));
    assert_eq!(pvs("pvs-nothing.json"), []);
    let damaged = fixture("pvs.json").replace("\"vg_name\":\"slowvg\"", "\"vg_name\":\"[unknown]\"");
    assert_eq!(report::physical_volumes(&damaged).unwrap().len(), 3);
}

#[test]
fn what_lvm_says_when_it_fails_is_understood() {
    use ErrorKind::{AlreadyExists, Busy, NoSpace, NotFound, Other};
    let cases = [
        ("exported-group", Other),
        ("full", NoSpace),
        ("full-disk", NoSpace),
        ("full-extend", NoSpace),
        ("full-extend-test", NoSpace),
        ("held-deactivate", Busy),
        ("held-remove", Busy),
        ("lost-pv-activate", Other),
        ("lost-pv-create", Other),
        ("mounted-deactivate", Busy),
        ("mounted-remove", Busy),
        ("name-taken", AlreadyExists),
        ("name-taken-rename", AlreadyExists),
        ("no-group", NotFound),
        ("no-group-of-volume", NotFound),
        ("no-volume", NotFound),
        ("no-volume-to-activate", NotFound),
        ("no-volume-to-rename", NotFound),
        ("open-deactivate", Busy),
        ("open-remove", Busy),
        ("origin-extend", Other),
        ("reserved-name", Other),
        ("snapshot-open", Busy),
        ("too-many-stripes", NoSpace),
        ("two-groups", Other),
        ("unevenly-full", NoSpace),
    ];
    for (name, kind) in cases {
        let command = Command::change("lvcreate");
        let output = failure(name);
        assert_eq!(classify(&output.check(&command).unwrap_err()), kind, "{name}");
    }
    let directory = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../fixtures/lvm/errors");
    assert_eq!(fs::read_dir(directory).unwrap().count(), cases.len());
}

/// A recorded failure.
fn failure(name: &str) -> Output {
    let recorded = fixture(&format!("errors/{name}"));
    let (_, said) = recorded.split_once('\n').unwrap();
    Output::new(Status::Exited(5)).with_stderr(said)
}

/// A node on which programs answer as scripted.
fn node(runner: Arc<dyn Runner>) -> Host {
    let state = PathBuf::from("/nonexistent/gnt-disk");
    Host::new("node1", &Settings::under(&state), &state, runner)
}

fn script() -> Scripted {
    Scripted::new()
        .allow("lvs ...", fixture("lvs.json"))
        .allow("pvs ...", fixture("pvs.json"))
}

/// What was changed.
fn changes(runner: &Scripted) -> Vec<String> {
    let is_change = |line: &String| !line.starts_with("lvs ") && !line.starts_with("pvs ");
    runner.lines().into_iter().filter(is_change).collect()
}

fn id(vg: &str, lv: &str) -> LogicalId {
    LogicalId::Lv {
        vg: vg.to_owned(),
        lv: lv.to_owned(),
    }
}

fn disk(vg: &str, lv: &str, size: u64) -> Disk {
    Disk {
        uuid: "0a1b".to_owned(),
        iv_name: Some("disk/0".to_owned()),
        name: Some("my disk".to_owned()),
        ..Disk::new(LogicalDevice::Plain, id(vg, lv), Mebibytes(size))
    }
}

fn disk0() -> Disk {
    disk("xenvg", &format!("{UUID}.disk0"), 64)
}

fn told(error: &Error) -> String {
    let hint = error.hint().map(|hint| format!("; {hint}")).unwrap_or_default();
    format!("{}{hint}", crate::tests::told(error))
}

fn on<T>(runner: Scripted, work: impl FnOnce(&Host) -> T) -> (T, Vec<String>) {
    let runner = Arc::new(runner);
    let host = node(Arc::clone(&runner) as Arc<dyn Runner>);
    let result = work(&host);
    (result, changes(&runner))
}

fn target(disk: &Disk) -> Target<'_> {
    Target::new(disk, INSTANCE)
}

#[test]
fn a_volume_is_made_with_its_tags_over_fewer_stripes_if_the_room_is_uneven() {
    let mut disk = disk("xenvg", "new.disk0", 1500);
    disk.params = json!({"stripes": 3}).as_object().unwrap().clone();
    let tags = "--addtag gnt-disk:instance=web.example.org --addtag gnt-disk:index=0 --addtag gnt-disk:uuid=0a1b \
                --addtag 'gnt-disk:name=my#20disk'";
    let line = |stripes, size| {
        format!(
            "lvcreate --yes --wipesignatures y --zero y --name new.disk0 --size {size}m --stripes {stripes} {tags} xenvg \
             /dev/ubda /dev/ubdb"
        )
    };
    let runner = script()
        .expect("lvcreate ...", failure("unevenly-full"))
        .expect("lvcreate ...", "");
    let (made, changes) = on(runner, |host| {
        crate::driver(LogicalDevice::Plain)
            .unwrap()
            .create(host, &target(&disk))
            .unwrap()
    });
    assert_eq!(made, Change::Made);
    assert_eq!(changes, [line(2, 1504), line(1, 1500)]);
}

#[test]
fn what_keeps_a_volume_from_being_made_is_told() {
    let create = |disk: &Disk, runner: Scripted| {
        let (result, changes) = on(runner, |host| tree::create(host, &target(disk), "info"));
        let error = result.unwrap_err();
        (told(&error), error.kind(), changes.len())
    };
    let prefix = |disk: &Disk| format!("cannot create {disk} on node node1: ");
    let taken = |volume: &str, what: &str| {
        format!(
            "there is a logical volume {volume} already, of 64M and {what}; `lvs -o+lv_tags {volume}` shows what it is, \
             `lvremove {volume}` removes it if nobody needs it"
        )
    };
    for (disk, words, kind) in [
        (
            disk("xenvg", "new", 1600),
            "the volume group xenvg has 1588M free, and 1600M are needed; `pvs -S vg_name=xenvg` shows where there is room; \
             `vgextend xenvg DEVICE` adds a disk"
                .to_owned(),
            ErrorKind::NoSpace,
        ),
        (
            disk("novg", "new", 64),
            "there is no volume group novg, only slowvg, xenvg; name one of the node's volume groups with vg=; `vgcreate` makes \
             one"
            .to_owned(),
            ErrorKind::NotFound,
        ),
        (
            disk("xenvg", "off", 64),
            taken("xenvg/off", "not of a disk"),
            ErrorKind::AlreadyExists,
        ),
        (
            Disk {
                uuid: "another".to_owned(),
                ..disk0()
            },
            taken(&format!("xenvg/{UUID}.disk0"), "of web.example.org"),
            ErrorKind::AlreadyExists,
        ),
        (
            disk("xenvg", "x_mlog", 64),
            "\"x_mlog\" is not a valid logical volume name: expected at most 127 letters, digits, '+', '_', '.' and '-', not \
             starting with '-', not '.' or '..', and nothing that LVM reserves (snapshot…, pvmove…, …_mlog…, …_rimage… and \
             the like)"
                .to_owned(),
            ErrorKind::Other,
        ),
    ] {
        assert_eq!(create(&disk, script()), (prefix(&disk) + &words, kind, 0));
    }
    let larger = Disk {
        size: Mebibytes(65),
        ..disk0()
    };
    assert_eq!(create(&larger, script()).1, ErrorKind::AlreadyExists);
    let stripes = Disk {
        params: json!({"stripes": "2"}).as_object().unwrap().clone(),
        ..disk("xenvg", "new", 64)
    };
    assert!(create(&stripes, script()).0.ends_with(
        "parameter \"stripes\" of disk template plain must be a whole number, 1 or more, not \"2\""
    ));

    let new = disk("xenvg", "new", 64);
    let lost = Scripted::new()
        .allow("lvs ...", fixture("lvs-nothing.json"))
        .allow("pvs ...", fixture("pvs.json"))
        .allow("lvcreate ...", failure("lost-pv-create"));
    let (text, kind, tried) = create(&new, lost);
    assert!(
        text.contains("Cannot change VG xenvg while PVs are missing."),
        "{text}"
    );
    assert!(text.ends_with("`vgreduce --removemissing` gives it up"), "{text}");
    assert_eq!((kind, tried), (ErrorKind::Other, 1));
}

#[test]
fn the_same_volume_is_not_made_again_and_tags_of_others_stay() {
    let disk = disk0();
    let (again, none) = on(script(), |host| {
        tree::create(host, &target(&disk), "originstname+web.example.org").unwrap()
    });
    assert_eq!((again, &none[..]), (Change::AlreadyThere, &[][..]));
    let (_, changes) = on(script().allow("lvchange ...", ""), |host| {
        tree::set_info(host, &target(&disk), "originstname+mail").unwrap()
    });
    assert_eq!(
        changes,
        [format!(
            "lvchange --yes --deltag gnt-disk:info=originstname+web.example.org --deltag originstname+web.example.org --addtag \
             originstname+mail --addtag gnt-disk:info=originstname+mail xenvg/{UUID}.disk0"
        )]
    );
}

#[test]
fn finding_activates_nothing() {
    let found = |disk: &Disk| on(script(), |host| tree::find(host, &target(disk)).unwrap());
    let (active, changes) = found(&disk0());
    let device = active.unwrap().device;
    assert_eq!(
        device.path,
        Some(PathBuf::from(format!("/dev/xenvg/{UUID}.disk0")))
    );
    assert_eq!(
        (device.major, device.minor, device.bytes),
        (Some(254), Some(1), Some(64 * MIB))
    );
    assert_eq!(changes, [""; 0]);
    let (inactive, _) = found(&disk("xenvg", "off", 64));
    let device = inactive.unwrap().device;
    assert_eq!(
        (device.path, device.major, device.bytes),
        (None, None, Some(64 * MIB))
    );
    assert_eq!(found(&disk("xenvg", "nothing", 64)).0, None);
    let overflown = found(&disk("xenvg", "overflown", 64)).0.unwrap();
    assert!(overflown.sync.is_degraded);
    assert_eq!(overflown.sync.ldisk_status, LocalDiskStatus::Faulty);
}

#[test]
fn a_lost_disk_makes_its_volumes_degraded() {
    let lost = || Scripted::new().allow("lvs ...", fixture("lvs-lost-pv.json"));
    let (status, _) = on(lost(), |host| {
        tree::find(host, &target(&disk("xenvg", "striped", 128))).unwrap()
    });
    let sync = status.unwrap().sync;
    assert_eq!(
        (sync.is_degraded, sync.ldisk_status),
        (true, LocalDiskStatus::Faulty)
    );
    let runner = lost().allow("lvchange ...", failure("lost-pv-activate"));
    let (result, _) = on(runner, |host| {
        tree::assemble(
            host,
            &target(&disk("xenvg", "off", 64)),
            Activation::primary("kvm"),
        )
    });
    let error = result.unwrap_err();
    assert!(
        told(&error).contains("Refusing activation of partial LV xenvg/off"),
        "{}",
        told(&error)
    );
    assert!(
        error
            .hint()
            .unwrap()
            .starts_with("a disk of the volume group is lost")
    );
}

#[test]
fn names_that_two_groups_have_are_not_guessed_at() {
    let runner = Scripted::new().allow("lvs ...", fixture("lvs-two-groups.json"));
    let (result, _) = on(runner, |host| {
        tree::find(host, &target(&disk("xenvg", "off", 64)))
    });
    let text = told(&result.unwrap_err());
    assert!(
        text.contains("several volume groups are called xenvg: "),
        "{text}"
    );
}

#[test]
fn a_volume_grows_with_its_stripes_or_with_fewer() {
    let volume = disk("xenvg", "two-parts", 160);
    let grow = |runner: Scripted, to, dry_run| {
        on(runner, |host| {
            tree::grow(
                host,
                &target(&volume),
                Mebibytes(to),
                dry_run,
                Layer::BackingStore,
            )
        })
    };
    let line = |how: &str, size, stripes| {
        format!("lvextend {how} --alloc normal --size {size}m --stripes {stripes} xenvg/two-parts")
    };
    let runner = script()
        .expect("lvextend ...", failure("unevenly-full"))
        .expect("lvextend ...", "");
    let (result, changes) = grow(runner, 163, false);
    assert_eq!(result.unwrap(), Change::Made);
    assert_eq!(changes, [line("--yes", 168, 2), line("--yes", 164, 1)]);
    let (result, changes) = grow(script().expect("lvextend ...", ""), 168, true);
    assert_eq!(result.unwrap(), Change::Made);
    assert_eq!(changes, [line("--test", 168, 2)]);
    assert_eq!(grow(script(), 160, false).0.unwrap(), Change::AlreadyThere);
    let (result, changes) = grow(script(), 160 + 1592, true);
    let error = result.unwrap_err();
    assert_eq!((error.kind(), changes.len()), (ErrorKind::NoSpace, 0));
    assert!(
        told(&error).contains("the volume group xenvg has 1588M free, and 1592M are needed"),
        "{}",
        told(&error)
    );
}

#[test]
fn a_snapshot_does_not_grow() {
    let copy = disk("xenvg", "copy", 64);
    let grow = |to| {
        on(script(), |host| {
            tree::grow(host, &target(&copy), Mebibytes(to), true, Layer::BackingStore)
        })
        .0
    };
    assert_eq!(grow(64).unwrap(), Change::AlreadyThere);
    let text = told(&grow(65).unwrap_err());
    assert!(
        text.contains(&format!(
            "xenvg/copy is a snapshot of {UUID}.disk0, and has its size"
        )),
        "{text}"
    );
}

#[test]
fn a_volume_with_snapshots_stays() {
    let (result, changes) = on(script(), |host| tree::remove(host, &target(&disk0())));
    let error = result.unwrap_err();
    assert!(
        told(&error).contains("has snapshots, which would go with it: copy, overflown"),
        "{}",
        told(&error)
    );
    assert_eq!((error.kind(), changes.len()), (ErrorKind::Busy, 0));
    // Whoever hears of it from another node is told which.
    let wire = serde_json::to_string(&Told::from(&error)).unwrap();
    let heard = Error::from(serde_json::from_str::<Told>(&wire).unwrap());
    assert_eq!(heard.snapshots(), error.snapshots());
    assert_eq!(heard.snapshots().unwrap(), ["copy", "overflown"]);
    let (removed, changes) = on(script().allow("lvremove ...", ""), |host| {
        tree::remove(host, &target(&disk("xenvg", "copy", 64))).unwrap()
    });
    assert_eq!(
        (removed, &changes[..]),
        (Change::Made, &["lvremove --yes xenvg/copy".to_owned()][..])
    );
    // Somebody else was faster.
    let (removed, _) = on(script().allow("lvremove ...", failure("no-volume")), |host| {
        tree::remove(host, &target(&disk("xenvg", "copy", 64))).unwrap()
    });
    assert_eq!(removed, Change::AlreadyThere);
}

#[test]
fn a_volume_is_renamed_in_its_group() {
    let rename = |from: &str, to: LogicalId, runner: Scripted| {
        on(runner, |host| {
            tree::rename(host, &target(&disk("xenvg", from, 64)), &to)
        })
    };
    let (result, changes) = rename("off", id("xenvg", "new"), script().allow("lvrename ...", ""));
    assert_eq!(
        (result.unwrap(), &changes[..]),
        (Change::Made, &["lvrename --yes xenvg off new".to_owned()][..])
    );
    let (result, _) = rename("gone", id("xenvg", "off"), script());
    assert_eq!(result.unwrap(), Change::AlreadyThere);
    for (from, to, kind, words) in [
        (
            "off",
            id("xenvg", "striped"),
            ErrorKind::AlreadyExists,
            "there is a logical volume xenvg/striped already",
        ),
        (
            "off",
            id("slowvg", "off"),
            ErrorKind::Other,
            "cannot be renamed from the volume group xenvg into slowvg",
        ),
        (
            "gone",
            id("xenvg", "away"),
            ErrorKind::NotFound,
            "there is no logical volume xenvg/gone",
        ),
        (
            "off",
            id("xenvg", "pvmove0"),
            ErrorKind::Other,
            "is not a valid logical volume name",
        ),
    ] {
        let error = rename(from, to, script()).0.unwrap_err();
        assert_eq!(error.kind(), kind);
        assert!(told(&error).contains(words), "{}", told(&error));
    }
}

#[test]
fn volumes_are_those_that_are_disks() {
    let (found, _) = on(script(), |host| {
        tree::volumes(host, LogicalDevice::Plain, &Object::new()).unwrap()
    });
    let [data, disk] = &found[..] else {
        panic!("{found:?}")
    };
    assert_eq!(data.logical_id.to_string(), format!("slowvg/{UUID}.disk1_data"));
    assert_eq!(
        (data.owner.instance.as_deref(), data.owner.index),
        (Some(INSTANCE), Some(1))
    );
    assert_eq!(disk.logical_id.to_string(), format!("xenvg/{UUID}.disk0"));
    assert_eq!(disk.bytes, Some(64 * MIB));
    assert_eq!(
        (disk.owner.uuid.as_deref(), disk.owner.index),
        (Some("0a1b"), Some(0))
    );
    assert_eq!(disk.owner.name.as_deref(), Some("my disk"));
}

#[test]
fn output_that_is_no_report_is_one_clear_error() {
    let noise = Scripted::new().allow(
        "lvs ...",
        "  /dev/sdb: read failed after 0 of 4096\n  {\"report\": [",
    );
    let (result, _) = on(noise, |host| tree::find(host, &target(&disk0())));
    let text = told(&result.unwrap_err());
    assert!(
        text.contains("cannot make sense of what `lvs --reportformat json"),
        "{text}"
    );
    assert!(
        text.contains("printed: expected value at line 1 column 3\n  "),
        "{text}"
    );
    assert!(text.contains("/dev/sdb: read failed after 0 of 4096"), "{text}");
    let number = fixture("lvs.json").replace("\"lv_size\":\"67108864\"", "\"lv_size\":\"64.00m\"");
    let (result, _) = on(Scripted::new().allow("lvs ...", number), |host| {
        tree::find(host, &target(&disk0()))
    });
    let text = told(&result.unwrap_err());
    assert!(text.contains("\"64.00m\" is no number: invalid digit"), "{text}");
}

/// A report of volumes that are not active.
fn inactive(names: impl IntoIterator<Item = impl AsRef<str>>) -> String {
    let recorded = fixture("lvs.json");
    let row = recorded
        .lines()
        .find(|line| line.contains("\"lv_name\":\"off\""))
        .unwrap();
    let row = |name: &str| {
        row.trim_end_matches(',')
            .replace("\"off\"", &format!("\"{name}\""))
    };
    let rows: Vec<_> = names.into_iter().map(|name| row(name.as_ref())).collect();
    format!("{{\"report\": [{{\"lv\": [{}]}}]}}", rows.join(","))
}

/// Disks that are there and not active, and the report of them.
fn many(count: usize) -> (Vec<Disk>, String) {
    let names: Vec<_> = (0..count).map(|index| format!("d{index}")).collect();
    let disks = names.iter().map(|name| disk("xenvg", name, 64)).collect();
    (disks, inactive(&names))
}

#[test]
fn many_disks_cost_as_many_commands_as_one() {
    let (disks, lvs) = many(50);
    let targets: Vec<_> = disks.iter().map(target).collect();
    let runner = Arc::new(
        Scripted::new()
            .allow("lvs ...", lvs)
            .allow("lvchange ...", failure("lost-pv-activate")),
    );
    let host = node(Arc::clone(&runner) as Arc<dyn Runner>);
    assert!(
        tree::find_all(&host, &targets)
            .iter()
            .all(|found| found.as_ref().unwrap().is_some())
    );
    assert_eq!(runner.lines().len(), 1);
    assert!(tree::mirror_status_all(&host, &targets).iter().all(Result::is_ok));
    assert_eq!(runner.lines().len(), 2);
    tree::assemble_all(&host, &targets, Activation::primary("kvm"));
    let activated = &runner.lines()[3];
    assert!(
        activated.starts_with("lvchange --yes --activate y xenvg/d0 xenvg/d1 "),
        "{activated}"
    );
}

#[test]
fn what_is_below_other_devices_is_activated_with_the_rest() {
    let drbd = |name: &str| Disk {
        children: ["data", "meta"]
            .map(|part| disk("xenvg", &format!("{name}_{part}"), 64))
            .to_vec(),
        ..Disk::new(LogicalDevice::Drbd, id("xenvg", name), Mebibytes(64))
    };
    let lvs = inactive(["a_data", "a_meta", "b_data", "b_meta"]);
    let runner = Arc::new(
        Scripted::new()
            .allow("lvs ...", lvs)
            .allow(
                "lvchange --yes --activate y xenvg/a_data xenvg/a_meta xenvg/b_data xenvg/b_meta",
                "",
            )
            .allow("lvchange ...", failure("no-volume")),
    );
    let host = node(Arc::clone(&runner) as Arc<dyn Runner>);
    let disks = [drbd("a"), drbd("b")];
    tree::assemble_all(&host, &disks.each_ref().map(target), Activation::secondary());
    assert_eq!(changes(&runner)[0].split(' ').count(), 8, "{:?}", runner.lines());
}

#[test]
fn a_tool_that_hangs_hangs_once() {
    let (disks, _) = many(3);
    let targets: Vec<_> = disks.iter().map(target).collect();
    let hangs = |_: &Command| {
        Err(RunError::TimedOut {
            command: "lvs".to_owned(),
            after: std::time::Duration::from_secs(120),
            stdout: Box::default(),
            stderr: Box::default(),
            stuck: None,
        })
    };
    let runner = Arc::new(Scripted::new().allow_with("lvs ...", hangs));
    let host = node(Arc::clone(&runner) as Arc<dyn Runner>);
    for found in tree::find_all(&host, &targets) {
        let text = told(&found.unwrap_err());
        assert!(
            text.ends_with("`lvs` did not end within 120s and was killed"),
            "{text}"
        );
    }
    assert_eq!(runner.lines().len(), 1);
}

#[test]
fn a_node_without_lvm_has_no_volumes_and_says_what_is_lacking() {
    let missing = || {
        Scripted::new().allow_with("lvs ...", |_| {
            Err(RunError::NotFound {
                program: "lvs".into(),
                package: Some("lvm2"),
            })
        })
    };
    let (found, _) = on(missing(), |host| {
        tree::volumes(host, LogicalDevice::Plain, &Object::new()).unwrap()
    });
    assert_eq!(found, []);
    let (result, _) = on(missing(), |host| tree::find(host, &target(&disk0())));
    assert!(told(&result.unwrap_err()).ends_with("the program lvs was not found; install the package lvm2"));
}

#[test]
fn the_room_in_each_group_is_told() {
    let told = |pvs: &str| {
        let runner = Scripted::new().allow("pvs ...", fixture(pvs));
        let (space, _) = on(runner, |host| {
            tree::space(host, LogicalDevice::Plain, &Object::new()).unwrap()
        });
        let rows = space.into_iter();
        rows.map(|space| (space.name, space.free.0, space.total.0))
            .collect::<Vec<_>>()
    };
    let slow = ("slowvg".to_owned(), 864, 992);
    // Nothing goes to a disk that is not allocatable, nor to one that is lost.
    assert_eq!(told("pvs.json"), [slow.clone(), ("xenvg".to_owned(), 1588, 3060)]);
    assert_eq!(told("pvs-lost-pv.json"), [slow, ("xenvg".to_owned(), 856, 3060)]);
    assert_eq!(told("pvs-nothing.json"), []);
}

#[test]
fn with_exclusive_storage_spindles_are_needed() {
    let mut volume = disk("slowvg", "new", 64);
    let create = |disk: &Disk| {
        let (result, _) = on(script(), |host| {
            let mut host = host.clone();
            host.exclusive_storage = true;
            tree::create(&host, &target(disk), "info")
        });
        told(&result.unwrap_err())
    };
    assert!(create(&volume).ends_with("and it has none; give the disk spindles=N"));
    volume.spindles = Some(1);
    assert!(
        create(&volume).contains("the volume group slowvg has 0 empty physical volumes, and 1 are needed")
    );
}

#[test]
fn physical_volumes_and_groups_are_units_of_storage() {
    let units = |kind, pvs: &str, name: Option<&str>| {
        let runner = Scripted::new().allow("pvs ...", fixture(pvs));
        let (units, _) = on(runner, |host| storage::storage_units(host, kind, &[], name, true));
        let row = |unit: StorageUnit| {
            let used = unit.used.unwrap();
            (unit.name, unit.size.0, used.0, unit.free.0, unit.allocatable)
        };
        units
            .map(|units| units.into_iter().map(row).collect::<Vec<_>>())
            .map_err(|error| told(&error))
    };
    let row = |name: &str, size, used, free, allocatable| (name.to_owned(), size, used, free, allocatable);
    assert_eq!(
        units(UnitType::LvmPv, "pvs.json", None).unwrap(),
        [
            row("/dev/ubda", 1020, 164, 856, true),
            row("/dev/ubdb", 1020, 288, 732, true),
            row("/dev/ubdc", 1020, 0, 1020, false),
            row("/dev/ubdd", 992, 128, 864, true),
            row("/dev/ubde", 1024, 0, 1024, false),
        ]
    );
    let [slow, xen] = [
        row("slowvg", 992, 128, 864, true),
        row("xenvg", 3060, 452, 2608, true),
    ];
    assert_eq!(
        units(UnitType::LvmVg, "pvs.json", None).unwrap(),
        [slow, xen.clone()]
    );
    assert_eq!(units(UnitType::LvmVg, "pvs.json", Some("xenvg")).unwrap(), [xen]);
    let one = units(UnitType::LvmPv, "pvs-lost-pv.json", Some("[unknown]"));
    assert_eq!(one.unwrap(), [row("[unknown]", 1020, 288, 732, false)]);
    assert_eq!(
        units(UnitType::LvmVg, "pvs.json", Some("novg")).unwrap_err(),
        "cannot list the lvm-vg storage on node node1: there is no volume group novg, only slowvg, xenvg; name one of the \
         node's volume groups with vg=; `vgcreate` makes one"
    );
    assert_eq!(
        units(UnitType::LvmPv, "pvs-nothing.json", Some("/dev/x")).unwrap_err(),
        "cannot list the lvm-pv storage on node node1: there is no physical volume /dev/x, nor any other; `pvs` shows what \
         there is"
    );
    let missing = Scripted::new().allow_with("pvs ...", |_| {
        Err(RunError::NotFound {
            program: "pvs".into(),
            package: Some("lvm2"),
        })
    });
    let (units, _) = on(missing, |host| {
        [UnitType::LvmPv, UnitType::LvmVg]
            .map(|kind| storage::storage_units(host, kind, &[], None, true).unwrap())
    });
    assert_eq!(units, [[], []]);
}

#[test]
fn a_physical_volume_takes_new_volumes_or_no_longer() {
    let set = |pv: &str, allocatable| {
        let runner = Scripted::new()
            .allow("pvs ...", fixture("pvs.json"))
            .allow("pvchange ...", "");
        let (set, changes) = on(runner, |host| storage::set_allocatable(host, pv, allocatable));
        (set.map_err(|error| told(&error)), changes)
    };
    let line = |line: &str| vec![line.to_owned()];
    assert_eq!(
        set("/dev/ubda", false),
        (Ok(Change::Made), line("pvchange --yes --allocatable n /dev/ubda"))
    );
    assert_eq!(
        set("/dev/ubdc", true),
        (Ok(Change::Made), line("pvchange --yes --allocatable y /dev/ubdc"))
    );
    assert_eq!(set("/dev/ubda", true), (Ok(Change::AlreadyThere), vec![]));
    assert_eq!(set("/dev/ubdc", false), (Ok(Change::AlreadyThere), vec![]));
    let (refused, changes) = set("--config=x", true);
    assert_eq!(
        refused.unwrap_err(),
        "cannot let the physical volume --config=x take new volumes on node node1: there is no physical volume --config=x, \
         only /dev/ubda, /dev/ubdb, /dev/ubdc, /dev/ubdd, /dev/ubde; `pvs` shows what there is"
    );
    assert_eq!(changes, Vec::<String>::new());
}

#[test]
fn what_a_group_has_lost_is_given_up_once() {
    let nothing_to_do = |vg: &str, report: &str| {
        let runner = Scripted::new().allow("pvs ...", fixture(report));
        on(runner, |host| storage::remove_missing(host, vg)).0
    };
    assert_eq!(nothing_to_do("xenvg", "pvs.json").unwrap(), Change::AlreadyThere);
    assert_eq!(
        nothing_to_do("slowvg", "pvs-lost-pv.json").unwrap(),
        Change::AlreadyThere
    );
    let missing = told(&nothing_to_do("--all", "pvs-lost-pv.json").unwrap_err());
    assert!(
        missing.contains("there is no volume group --all, only slowvg, xenvg"),
        "{missing}"
    );

    let fix = |after: &str| {
        let runner = Scripted::new()
            .expect("pvs ...", fixture("pvs-lost-pv.json"))
            .expect("vgreduce ...", "")
            .expect("pvs ...", fixture(after));
        let (fixed, changes) = on(runner, |host| storage::remove_missing(host, "xenvg"));
        assert_eq!(changes, ["vgreduce --yes --removemissing --force xenvg"]);
        fixed.map_err(|error| told(&error))
    };
    assert_eq!(fix("pvs.json"), Ok(Change::Made));
    assert_eq!(
        fix("pvs-lost-pv.json").unwrap_err(),
        "cannot make the volume group xenvg consistent on node node1: the volume group xenvg still lacks 1 of its physical volumes; \
         `pvs -S vg_name=xenvg` shows which"
    );
}

#[test]
fn listed_volumes_tell_what_each_piece_is_on() {
    let runner = Scripted::new().allow("lvs ...", fixture("lvs.json"));
    let (listed, _) = on(runner, |host| crate::listed_volumes(host).unwrap());
    let two_parts = listed.iter().find(|volume| volume.lv == "two-parts").unwrap();
    assert_eq!(
        two_parts.pvs,
        ["/dev/ubdb", "/dev/ubdb", "/dev/ubda", "/dev/ubdb"]
    );
}
