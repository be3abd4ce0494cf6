//! Files whose objects do not have the right form.

use gnt_config::ganeti::ConfigError;
use serde_json::json;

use crate::{DRBD, GROUP, NODE, PLAIN, REAL, WITH_EXT, chain, read, shows_no_secret};

#[test]
fn damage_is_named_with_its_place() {
    for (pointer, value, message) in [
        ("", json!([]), "expected an object"),
        ("", json!({"version": 3_000_000}), "there is no \"cluster\""),
        ("/version", json!("3000000"), "version: expected a whole number"),
        ("/version", json!(3000000.0), "version: expected a whole number"),
        ("/nodes", json!([]), "nodes: expected an object"),
        ("/disks", json!(null), "disks: expected an object"),
        (
            "/cluster/highest_used_port",
            json!(70000),
            "cluster/highest_used_port: invalid value",
        ),
        (
            "/cluster/enabled_disk_templates/2",
            json!("floppy"),
            "cluster/enabled_disk_templates/2: unknown variant",
        ),
        (
            "/cluster/diskparams",
            json!({"floppy": {}}),
            "cluster/diskparams: unknown variant `floppy`",
        ),
        (
            &format!("/nodes/{NODE}"),
            json!(3),
            &format!("nodes/{NODE}: expected an object"),
        ),
        (
            &format!("/nodes/{NODE}/group"),
            json!(null),
            &format!("nodes/{NODE}/group: invalid type: null"),
        ),
        (
            &format!("/nodegroups/{GROUP}/diskparams/file"),
            json!(1),
            "nodegroups",
        ),
        (
            &format!("/instances/{WITH_EXT}/disks/1"),
            json!(7),
            &format!("instances/{WITH_EXT}/disks/1: invalid type"),
        ),
        (
            &format!("/instances/{WITH_EXT}/disks_active"),
            json!("yes"),
            "disks_active: invalid type: string \"yes\"",
        ),
        (
            &format!("/disks/{PLAIN}/size"),
            json!(-1),
            &format!("disks/{PLAIN}/size: invalid value: integer `-1`"),
        ),
        (
            &format!("/disks/{PLAIN}/size"),
            json!(64.5),
            &format!("disks/{PLAIN}/size: invalid type: floating point"),
        ),
        (
            &format!("/disks/{PLAIN}/mode"),
            json!("w"),
            &format!("disks/{PLAIN}/mode: unknown variant `w`"),
        ),
        (
            &format!("/disks/{PLAIN}/dev_type"),
            json!("lvm"),
            &format!("disks/{PLAIN}/dev_type: unknown variant `lvm`"),
        ),
        (
            &format!("/disks/{PLAIN}/logical_id"),
            json!(["xenvg"]),
            &format!(
                "disks/{PLAIN}/logical_id: logical_id of a plain device must be [volume group, logical volume]"
            ),
        ),
        (
            &format!("/disks/{DRBD}/logical_id/4"),
            json!("0"),
            &format!("disks/{DRBD}/logical_id: "),
        ),
        (
            &format!("/disks/{DRBD}/dev_type"),
            json!("plain"),
            &format!("disks/{DRBD}/logical_id: "),
        ),
        (
            &format!("/disks/{DRBD}/children/1/size"),
            json!("128"),
            &format!("disks/{DRBD}/children/1/size: invalid type: string \"128\""),
        ),
        (
            &format!("/disks/{DRBD}/children/0"),
            json!(null),
            &format!("disks/{DRBD}/children/0: "),
        ),
    ] {
        let mut config = REAL.clone();
        match config.pointer_mut(pointer) {
            Some(place) => *place = value,
            None => {
                let (object, key) = pointer.rsplit_once('/').unwrap();
                config.pointer_mut(object).unwrap()[key] = value;
            }
        }
        let error = read(&config).unwrap_err();
        assert!(matches!(error, ConfigError::Form(_)), "{pointer}");
        let shown = chain(&error);
        assert!(shown.contains(message), "{pointer}: {shown}");
        assert!(shows_no_secret(&shown), "{shown}");
    }
}
