use proptest::prelude::*;
use serde_json::{Value, json};

use super::*;

fn disks(arguments: &[&str]) -> Result<Value, String> {
    let arguments: Vec<String> = arguments.iter().map(|text| (*text).to_owned()).collect();
    let disks = new_disks(&arguments).map_err(|error| error.to_string())?;
    Ok(disks.into_iter().map(Value::Object).collect())
}

fn change(argument: &str) -> Result<DiskChange, String> {
    let mut changes = changes(&[argument.to_owned()]).map_err(|error| error.to_string())?;
    Ok(changes.remove(0))
}

fn snapshot(argument: &str) -> Result<(String, Option<String>, Option<Mebibytes>), String> {
    let mut snapshots = snapshots(&[argument.to_owned()]).map_err(|error| error.to_string())?;
    let SnapshotRequest { disk, name, size } = snapshots.remove(0);
    Ok((disk, name, size))
}

#[test]
fn new_disks_are_read_with_and_without_index() {
    assert_eq!(
        disks(&[
            "0:size=2G,mode=ro,name=root,spindles=2",
            "1:size=512,provider=nas,nas_ip=10.0.0.1:3260"
        ]),
        Ok(json!([
            {"size": 2048, "mode": "ro", "name": "root", "spindles": 2},
            {"size": 512, "provider": "nas", "nas_ip": "10.0.0.1:3260"},
        ]))
    );
    assert_eq!(
        disks(&["size=1G", "1:size=2G", "size=3T"]).unwrap()[2]["size"],
        3 << 20
    );
    assert_eq!(
        disks(&["1:size=2", "0:size=1"]),
        Ok(json!([{"size": 1}, {"size": 2}]))
    );
    assert_eq!(
        disks(&["0:adopt=/dev/disk/by-id/x"]),
        Ok(json!([{"adopt": "/dev/disk/by-id/x"}]))
    );
    assert_eq!(disks(&[]), Ok(json!([])));
}

#[test]
fn a_value_may_have_commas_colons_equal_signs_and_backslashes() {
    assert_eq!(
        disks(&[r"0:size=1,a=x\,y,b=k=v:w,c=\\,d=\\\,,e=\z\"]),
        Ok(json!([{"size": 1, "a": "x,y", "b": "k=v:w", "c": r"\", "d": r"\,", "e": r"z\"}]))
    );
    assert_eq!(disks(&["a=x:y"]), Ok(json!([{"a": "x:y"}])));
    assert_eq!(disks(&["0:a="]), Ok(json!([{"a": ""}])));
}

#[test]
fn errors_point_at_the_part() {
    let cases = [
        (
            "0:size=2X,mode=rw",
            "invalid size '2X': expected a number with an optional unit M, G or T, such as 512, 1.5G or 2T\n\
             \x20 --disk 0:size=2X,mode=rw\n\
             \x20               ^^",
        ),
        (
            "first:size=2",
            "'first' is not the index of a disk: expected 0 for the first disk, 1 for the second, …\n\
             \x20 --disk first:size=2\n\
             \x20        ^^^^^",
        ),
        (
            "0:größe,size=1",
            "'größe' has no value: expected größe=VALUE\n\
             \x20 --disk 0:größe,size=1\n\
             \x20          ^^^^^",
        ),
        (
            "0:size=1,,b=2",
            "a key is missing: expected KEY=VALUE\n\
             \x20 --disk 0:size=1,,b=2\n\
             \x20                 ^",
        ),
        (
            "0:size=1,mode=x",
            "'x' is not an access mode: expected rw or ro\n\
             \x20 --disk 0:size=1,mode=x\n\
             \x20                      ^",
        ),
        (
            "0:a\u{1b}=1,a\u{1b}=2",
            "'a\u{1b}' is given twice: expected each key once\n\
             \x20 --disk 0:a\\u{1b}=1,a\\u{1b}=2\n\
             \x20                    ^^^^^^^",
        ),
    ];
    for (argument, message) in cases {
        assert_eq!(disks(&[argument]), Err(message.to_owned()));
    }
}

#[test]
fn what_is_no_disk_is_refused() {
    for (arguments, problem) in [
        (
            &["0:size=1", "2:size=1"][..],
            "index 2 leaves a gap: expected each index from 0 to 1 once",
        ),
        (&["0:size=1", "0:size=1"], "disk 0 is given twice"),
        (&["1:size=1", "size=1"], "disk 1 is given twice"),
        (&[""], "nothing is said of it"),
        (&["0:"], "nothing is said of it"),
        (&["0:=x"], "a key is missing"),
        (&["0:size"], "'size' has no value: expected size=VALUE"),
        (&["0:size=1,size=2"], "'size' is given twice"),
        (&["-1:size=1"], "'-1' is not the index of a disk"),
        (&["+1:size=1"], "'+1' is not the index of a disk"),
        (&[":size=1"], "'' is not the index of a disk"),
        (&["99999999999999999999:size=1"], "is not the index of a disk"),
        (&["0:size=-1"], "invalid size '-1'"),
        (&["0:size="], "invalid size ''"),
        (&["0:spindles=two"], "'two' is not a number of spindles"),
    ] {
        let error = disks(arguments).unwrap_err();
        assert!(error.contains(problem), "{arguments:?}: {error}");
    }
}

#[test]
fn changes_are_read_as_gnt_instance_reads_them() {
    let matches = |argument: &str, expected: &str| {
        let found = change(argument).map(|change| format!("{change:?}"));
        assert_eq!(found, Ok(expected.to_owned()), "{argument}");
    };
    let add = |at: &str| format!("Add {{ at: {at}, wish: {{\"size\": Number(1024)}} }}");
    matches("add:size=1G", &add("None"));
    matches("-1:add,size=1G", &add("None"));
    matches("2:add,size=1G", &add("Some(2)"));
    for last in ["remove", "-1:remove"] {
        matches(last, r#"Remove { disk: "-1" }"#);
    }
    matches("1:remove", r#"Remove { disk: "1" }"#);
    matches("data:remove", r#"Remove { disk: "data" }"#);
    matches("detach", r#"Detach { disk: "-1" }"#);
    matches("0:detach", r#"Detach { disk: "0" }"#);
    for attach in [
        "attach:data",
        "attach:name=data",
        "attach:uuid=data",
        "attach,data",
        "-1:attach,name=data",
    ] {
        matches(attach, r#"Attach { at: None, disk: "data" }"#);
    }
    matches("1:attach,uuid=u-1", r#"Attach { at: Some(1), disk: "u-1" }"#);
    matches("attach:remove", r#"Attach { at: None, disk: "remove" }"#);
    let set = |name: &str, mode: &str| format!(r#"Set {{ disk: "0", name: {name}, mode: {mode} }}"#);
    matches("0:name=root", &set(r#"Some(Some("root"))"#, "None"));
    matches("0:name=None,mode=ro", &set("Some(None)", "Some(Ro)"));
    matches("0:modify,mode=rw", &set("None", "Some(Rw)"));
}

#[test]
fn changes_that_make_no_sense_are_refused() {
    for (argument, problem) in [
        ("", "nothing is said of it"),
        ("0:", "nothing is said of it"),
        ("0:modify", "nothing is said of it"),
        ("name=x", "no disk is named"),
        (
            "1:add,remove",
            "'add' and 'remove' cannot both be done to one disk",
        ),
        ("add:remove", "'add' and 'remove' cannot both be done to one disk"),
        (
            "0:remove,name=x",
            "'remove' takes nothing else: expected N:remove",
        ),
        ("0:detach,x", "'detach' takes nothing else"),
        ("attach", "which disk to attach is not said"),
        ("1:attach", "which disk to attach is not said"),
        (
            "1:attach,size=1",
            "'size' is not known here: expected name=NAME or uuid=UUID",
        ),
        ("attach:name=a,uuid=b", "is given twice"),
        ("x:add,size=1", "'x' is not the index of a disk"),
        (
            "0:size=2",
            "'size' is not known here: expected name=NAME, mode=rw|ro",
        ),
        ("0:destroy", "'destroy' is not known here"),
        ("0:mode=w", "'w' is not an access mode"),
        ("0:name", "'name' has no value"),
        ("add:size", "'size' has no value"),
    ] {
        let error = change(argument).unwrap_err();
        assert!(error.contains(problem), "{argument}: {error}");
    }
}

#[test]
fn snapshots_name_a_disk() {
    let name = || Some("before".to_owned());
    assert_eq!(
        snapshot("0:snapshot_name=before"),
        Ok(("0".to_owned(), name(), None))
    );
    assert_eq!(
        snapshot("root:snapshot_name=before,snapshot_size=1G"),
        Ok(("root".to_owned(), name(), Some(Mebibytes(1024))))
    );
    assert_eq!(snapshot("-1"), Ok(("-1".to_owned(), None, None)));
    for (argument, problem) in [
        ("snapshot_name=x", "no disk is named"),
        ("0,1", "no disk is named"),
        ("0:1", "'1' has no value"),
        (
            "0:name=x",
            "'name' is not known here: expected snapshot_name=NAME",
        ),
        ("0:snapshot_size=1X", "invalid size '1X'"),
        ("0:snapshot_name", "'snapshot_name' has no value"),
    ] {
        let error = snapshot(argument).unwrap_err();
        assert!(error.contains(problem), "{argument}: {error}");
    }
}

#[test]
fn disk_parameters_name_a_template() {
    let (template, values) = disk_params("drbd:resync-rate=1024,metavg=a\\,b").unwrap();
    assert_eq!(template, DiskTemplate::Drbd);
    assert_eq!(
        Value::Object(values),
        json!({"resync-rate": "1024", "metavg": "a,b"})
    );
    assert_eq!(
        disk_params("zfs:x=1").unwrap_err().to_string(),
        "'zfs' is not a disk template\n  -D zfs:x=1\n     ^^^"
    );
    assert!(
        disk_params("stripes=1")
            .unwrap_err()
            .to_string()
            .starts_with("no disk template is named")
    );
    assert!(
        disk_params("plain:stripes")
            .unwrap_err()
            .to_string()
            .starts_with("'stripes' has no value")
    );
}

fn escape(value: &str) -> String {
    value.replace('\\', r"\\").replace(',', r"\,")
}

proptest! {
    #[test]
    fn every_value_can_be_written(values in prop::collection::btree_map("k[a-z]{1,8}", "\\PC*", 1..5)) {
        let text: Vec<String> = values.iter().map(|(key, value)| format!("{key}={}", escape(value))).collect();
        let read = disks(&[&format!("0:{}", text.join(","))]);
        prop_assert_eq!(read, Ok(json!([values])));
    }

    #[test]
    fn any_argument_is_read_or_refused_with_a_mark(argument in "[-0-9a-z:,=\\\\ \u{e4}\n]*|(\\PC)*") {
        let arguments = [argument.clone()];
        for error in [new_disks(&arguments).err(), changes(&arguments).err(), snapshots(&arguments).err()] {
            let Some(error) = error else { continue };
            prop_assert!(argument.get(error.at.clone()).is_some(), "{:?}", error);
            prop_assert!(error.to_string().ends_with('^'));
        }
    }
}
