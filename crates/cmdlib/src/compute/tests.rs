//! Wishes of every kind, good and bad.

use proptest::prelude::*;
use serde_json::json;
use strum::IntoEnumIterator;

use super::wish::KEYS;
use super::*;
use crate::error::chain;

fn object(value: Value) -> Object {
    match value {
        Value::Object(object) => object,
        other => panic!("{other} is no object"),
    }
}

fn check(template: DiskTemplate, requests: Value) -> Result<Vec<DiskSpec>, ComputeError> {
    let requests: Vec<Object> = serde_json::from_value(requests).unwrap();
    check_requests(0, &requests, template, Some("xenvg"))
}

/// The error and its causes.
fn refusal(template: DiskTemplate, request: &Value) -> String {
    let error = check(template, json!([request])).unwrap_err();
    chain(&error)
}

#[test]
fn a_wish_gets_what_it_leaves_out() {
    let specs = check(DiskTemplate::Ext, json!([{"size": "1.5g"}])).unwrap();
    let expected = json!({"dev_type": "ext", "size": 1536, "mode": "rw", "name": null, "vg": "xenvg", "provider": "ext"});
    assert_eq!(serde_json::to_value(&specs[0]).unwrap(), expected);
}

#[test]
fn values_may_be_text_or_null() {
    let wish = json!([{"size": " 64 ", "spindles": "3", "mode": null, "name": "NONE", "vg": null}]);
    let specs = compute_disks(&[object(wish[0].clone())], DiskTemplate::Plain, None).unwrap();
    assert_eq!((specs[0].size, specs[0].spindles), (Mebibytes(64), Some(3)));
    assert_eq!(
        (specs[0].mode, &specs[0].name, &specs[0].vg),
        (AccessMode::Rw, &None, &None)
    );
}

#[test]
fn an_adopted_volume_has_its_own_size() {
    let specs = check(
        DiskTemplate::Blockdev,
        json!([{"adopt": "/dev/disk/by-id/a"}, {"adopt": "/dev/loop7", "size": 0}]),
    );
    let specs = specs.unwrap();
    assert_eq!(specs[0].adopt.as_deref(), Some("/dev/disk/by-id/a"));
    assert!(specs.iter().all(|spec| spec.size == Mebibytes(0)));
    let specs = check(
        DiskTemplate::Plain,
        json!([{"adopt": "lv", "vg": "a"}, {"adopt": "lv", "vg": "b"}]),
    );
    assert_eq!(specs.unwrap().len(), 2);
}

#[test]
fn refusals_name_disk_key_and_what_was_expected() {
    use DiskTemplate::{Blockdev, Diskless, Drbd, Ext, File, Plain, Rbd};
    let cases = [
        (
            Plain,
            json!({}),
            "size is missing, expected a whole number of mebibytes",
        ),
        (
            Plain,
            json!({"size": 0}),
            "size cannot be 0, expected a size above 0",
        ),
        (
            Plain,
            json!({"size": -1}),
            "size cannot be -1, expected a whole number of mebibytes",
        ),
        (
            Plain,
            json!({"size": 1.5}),
            "size cannot be 1.5, expected a whole number of mebibytes",
        ),
        (
            Plain,
            json!({"size": "2P"}),
            "size cannot be \"2P\", expected a size above 0 and below 8 EiB, in mebibytes or with a unit as in 2G",
        ),
        (
            Plain,
            json!({"size": 1, "mode": "w"}),
            "mode cannot be \"w\", expected rw or ro",
        ),
        (
            Plain,
            json!({"size": 1, "vg": "../x"}),
            "vg cannot be \"../x\", expected at most 127 letters",
        ),
        (
            Plain,
            json!({"size": 1, "metavg": "x"}),
            "metavg is only for drbd disks, not plain",
        ),
        (
            Plain,
            json!({"size": 1, "access": "userspace"}),
            "access is only for rbd and gluster and ext disks, not plain",
        ),
        (
            Plain,
            json!({"size": 1, "sise": 1}),
            "sise is not a parameter of plain disks",
        ),
        (
            Plain,
            json!({"size": 1, "adopt": "lv"}),
            "only one of adopt and size can be given",
        ),
        (
            Plain,
            json!({"spindles": 1, "adopt": "lv"}),
            "only one of adopt and spindles can be given",
        ),
        (
            Plain,
            json!({"adopt": "-lv"}),
            "adopt cannot be \"-lv\", expected at most 127 letters",
        ),
        (
            Plain,
            json!({"size": 1, "dev_type": "drbd"}),
            "dev_type cannot be \"drbd\", expected the template of the instance's disks",
        ),
        (
            Drbd,
            json!({"size": 1, "spindles": 1}),
            "spindles is only for plain disks, not drbd",
        ),
        (
            Drbd,
            json!({"size": 1, "metavg": "a b"}),
            "metavg cannot be \"a b\", expected at most 127 letters",
        ),
        (
            File,
            json!({"size": 1, "provider": "ext"}),
            "provider is only for ext disks, not file",
        ),
        (
            File,
            json!({"size": 1, "name": "7"}),
            "name cannot be \"7\", expected more than a number",
        ),
        (
            File,
            json!({"size": 1, "name": " "}),
            "name cannot be \" \", expected more than a number",
        ),
        (
            File,
            json!({"size": 1, "name": ""}),
            "name cannot be \"\", expected at most 255 bytes",
        ),
        (
            File,
            json!({"size": 1, "name": 7}),
            "name cannot be 7, expected a text that is not only a number",
        ),
        (
            Rbd,
            json!({"size": 1, "access": "user"}),
            "access cannot be \"user\", expected kernelspace or userspace",
        ),
        (
            Blockdev,
            json!({"size": 1}),
            "adopt is missing, expected a logical volume, or a path below /dev",
        ),
        (
            Blockdev,
            json!({"adopt": "/dev/../etc"}),
            "adopt cannot be \"/dev/../etc\", expected a path below /dev without",
        ),
        (
            Blockdev,
            json!({"adopt": "/etc/passwd"}),
            "adopt cannot be \"/etc/passwd\", expected a path below /dev without",
        ),
        (
            Ext,
            json!({"size": 1, "provider": ".."}),
            "provider cannot be \"..\", expected letters, digits",
        ),
        (
            Ext,
            json!({"size": 1, "a=b": "c"}),
            "bad parameters for its provider: parameter cannot be passed to a provider: \"a=b\" is not",
        ),
        (
            Ext,
            json!({"size": 1, "a": [1]}),
            "bad parameters for its provider: parameter \"a\" of disk template ext must be text",
        ),
        (
            Ext,
            json!({"size": 1, "Pool": 1, "pool": 2}),
            "bad parameters for its provider: parameters \"Pool\" and \"pool\" are the same",
        ),
        (Diskless, json!({"size": 1}), "a diskless instance has no disks"),
    ];
    for (template, request, message) in cases {
        let refusal = refusal(template, &request);
        assert!(
            refusal.starts_with(&format!("disk 0: {message}")),
            "{request}: {refusal}"
        );
    }
}

#[test]
fn disks_are_checked_together() {
    let error = |template, requests| check(template, requests).unwrap_err().to_string();
    assert_eq!(
        error(DiskTemplate::Plain, json!([{"size": 1}, {"adopt": "lv"}])),
        "disk 1 is adopted and disk 0 is not, expected all or none"
    );
    assert_eq!(
        error(
            DiskTemplate::Plain,
            json!([{"adopt": "lv"}, {"adopt": "lv", "vg": "xenvg"}])
        ),
        "disks 0 and 1 have the same adopt, xenvg/lv"
    );
    assert_eq!(
        error(
            DiskTemplate::Ext,
            json!([{"size": 1, "name": "a"}, {"size": 1}, {"size": 1, "name": "a"}])
        ),
        "disks 0 and 2 have the same name, a"
    );
    let later = check_requests(7, &[object(json!({"size": 1}))], DiskTemplate::Drbd, None);
    assert_eq!(later, Err(ComputeError::NoVolumeGroup { disk: 7 }));
}

#[test]
fn only_ext_parameters_are_kept_in_wishes_for_ext() {
    let wish = object(json!({"size": 1, "provider": "p", "fc": "7", "empty": null, "dev_type": "file"}));
    let specs = compute_disks(&[wish], DiskTemplate::Ext, None).unwrap();
    assert_eq!(specs[0].ext_params, object(json!({"fc": "7"})));
    let wish = object(json!({"size": 1, "provider": "", "fc": "7"}));
    let specs = compute_disks(&[wish], DiskTemplate::Rbd, None).unwrap();
    assert_eq!((&specs[0].provider, specs[0].ext_params.len()), (&None, 0));
}

fn spec(size: u64, vg: Option<&str>, metavg: Option<&str>) -> DiskSpec {
    let request = object(json!({"size": size, "vg": vg, "metavg": metavg}));
    compute_disks(&[request], DiskTemplate::Drbd, None)
        .unwrap()
        .remove(0)
}

#[test]
fn metadata_takes_space_where_it_lies() {
    let disks = [
        spec(1000, Some("slow"), Some("fast")),
        spec(500, Some("slow"), None),
    ];
    let needed = compute_disk_size_per_vg(DiskTemplate::Drbd, &disks).unwrap();
    assert_eq!(
        needed,
        BTreeMap::from([("fast", Mebibytes(128)), ("slow", Mebibytes(1628))])
    );
}

#[test]
fn sizes_that_do_not_fit_are_an_error() {
    let disks = [spec(u64::MAX - 127, Some("a"), None)];
    let too_large = |disk| ComputeError::TooLarge {
        disk,
        vg: "a".to_owned(),
    };
    assert_eq!(
        compute_disk_size_per_vg(DiskTemplate::Drbd, &disks),
        Err(too_large(0))
    );
    assert!(compute_disk_size_per_vg(DiskTemplate::Plain, &disks).is_ok());
    let disks = [disks[0].clone(), spec(128, Some("a"), None)];
    assert_eq!(
        compute_disk_size_per_vg(DiskTemplate::Plain, &disks),
        Err(too_large(1))
    );
    let disks = [spec(1, None, None)];
    let error = compute_disk_size_per_vg(DiskTemplate::Plain, &disks);
    assert_eq!(error, Err(ComputeError::NoVolumeGroup { disk: 0 }));
}

/// Any JSON value.
fn value() -> impl Strategy<Value = Value> {
    let leaf = prop_oneof![
        Just(Value::Null),
        any::<bool>().prop_map(Value::from),
        any::<i64>().prop_map(Value::from),
        any::<u64>().prop_map(Value::from),
        any::<f64>().prop_map(Value::from),
        any::<String>().prop_map(Value::from),
        prop::sample::select(vec![
            "rw",
            "ro",
            "None",
            "userspace",
            "2G",
            "64",
            "ext",
            "xenvg",
            "/dev/x"
        ])
        .prop_map(Value::from),
    ];
    leaf.prop_recursive(2, 8, 3, |inner| {
        prop_oneof![
            prop::collection::vec(inner.clone(), 0..3).prop_map(Value::from),
            prop::collection::btree_map(any::<String>(), inner, 0..3)
                .prop_map(|map| map.into_iter().collect()),
        ]
    })
}

/// Any object, most of its keys being ones that mean something.
fn request() -> impl Strategy<Value = Object> {
    let known = prop::sample::select(KEYS.map(|key| key.name.to_owned()).to_vec());
    let key = prop_oneof![4 => known, 1 => any::<String>()];
    prop::collection::btree_map(key, value(), 0..8).prop_map(|map| map.into_iter().collect())
}

/// What `ComputeDisks` takes for a disk of `template`, and anything that it leaves out.
fn good_wish(template: DiskTemplate) -> impl Strategy<Value = Object> {
    let text = || any::<Option<String>>().prop_map(Value::from);
    let texts = [NAME, VG, METAVG, ADOPT]
        .map(|key| (Just(key.name.to_owned()), text()))
        .to_vec();
    let has_provider = template::HAVE_PROVIDER.contains(template);
    let provider = any::<String>().prop_map(move |name| has_provider.then_some(name).into());
    let access = prop::sample::select(vec![Value::Null, "kernelspace".into(), "userspace".into()]);
    let others = prop::collection::btree_map(any::<String>(), value(), 0..3);
    (
        any::<u64>(),
        any::<Option<u64>>(),
        provider,
        access,
        texts,
        others,
    )
        .prop_map(|(size, spindles, provider, access, texts, others)| {
            let known = [
                (SIZE, size.into()),
                (SPINDLES, spindles.into()),
                (PROVIDER, provider),
                (ACCESS, access),
            ];
            let known = known.map(|(key, value)| (key.name.to_owned(), value));
            others.into_iter().chain(known).chain(texts).collect()
        })
}

fn template() -> impl Strategy<Value = DiskTemplate> {
    prop::sample::select(DiskTemplate::iter().collect::<Vec<_>>())
}

/// The disk that an error is about.
fn disk_of(error: &ComputeError) -> u32 {
    match *error {
        ComputeError::Missing { disk, .. }
        | ComputeError::Invalid { disk, .. }
        | ComputeError::WrongTemplate { disk, .. }
        | ComputeError::UnknownKey { disk, .. }
        | ComputeError::Conflict { disk, .. }
        | ComputeError::Param { disk, .. }
        | ComputeError::Diskless { disk }
        | ComputeError::NoVolumeGroup { disk }
        | ComputeError::TooLarge { disk, .. }
        | ComputeError::Duplicate { second: disk, .. } => disk,
        ComputeError::MixedAdoption { adopted, made } => adopted.max(made),
    }
}

proptest! {
    #[test]
    fn any_json_is_a_wish_or_a_refusal(
        requests in prop::collection::vec(request(), 0..4),
        template in template(),
        default_vg in any::<Option<String>>(),
        base_index in prop_oneof![0u32..20, Just(u32::MAX)],
    ) {
        let vg = default_vg.as_deref();
        let computed = compute_disks(&requests, template, vg);
        match &computed {
            Ok(specs) => prop_assert_eq!(specs.len(), requests.len()),
            Err(error) => prop_assert!((disk_of(error) as usize) < requests.len()),
        }
        match check_requests(base_index, &requests, template, vg) {
            Ok(specs) => prop_assert_eq!(specs.len(), requests.len()),
            Err(error) => {
                prop_assert!(!error.to_string().is_empty());
                prop_assert!(disk_of(&error) >= base_index);
            }
        }
        if let Ok(specs) = computed {
            // No panic, whatever the sizes.
            let _ = compute_disk_size_per_vg(template, &specs);
        }
    }

    #[test]
    fn a_spec_is_a_wish_for_itself((template, wish) in template().prop_flat_map(|t| (Just(t), good_wish(t)))) {
        let specs = compute_disks(&[wish], template, Some("xenvg")).unwrap();
        let json = serde_json::to_value(&specs).unwrap();
        prop_assert_eq!(&serde_json::from_value::<Vec<DiskSpec>>(json.clone()).unwrap(), &specs);
        prop_assert_eq!(compute_disks(&[object(json[0].clone())], template, None).unwrap(), specs);
    }
}
