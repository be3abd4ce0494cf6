//! A real `config.data` (Ganeti 3.0.2: file, sharedfile, ext, plain and drbd disks), whole, damaged and contradictory.

mod damage;
mod properties;
mod validate;

use std::error::Error;
use std::sync::LazyLock;

use gnt_config::Config;
use gnt_config::ganeti::ConfigError;
use serde_json::{Value, json};

const TEXT: &str = include_str!("../../../../fixtures/config/config.data");
static REAL: LazyLock<Value> = LazyLock::new(|| serde_json::from_str(TEXT).unwrap_or_default());

const NODE: &str = "90de63cc-2b66-439d-bf49-4ecb1e9093e7";
const OTHER_NODE: &str = "e2ba7480-72a1-4026-a811-b5801dbd8e63";
const GROUP: &str = "6e965a7e-b1e5-435d-892e-79dee5c6cbba";
const DRBD: &str = "491b1f02-f156-4f9c-a7c1-cb7d6f89ddc8";
const OTHER_DRBD: &str = "a743a3e7-6fd6-4e2a-ba29-f507d533d019";
const PLAIN: &str = "50dee009-c98a-4832-8239-9cb40ddfdba4";
const EXT: &str = "135403b6-6188-4390-8283-9c119b788b5d";
const WITH_DRBD: &str = "c56d9162-820d-4eea-82f3-221a084d2dcf";
const WITH_EXT: &str = "ab8ec673-a2f6-4636-a191-7b633b08648a";
const NOWHERE: &str = "00000000-0000-4000-8000-000000000000";

fn read(value: &Value) -> Result<Config, ConfigError> {
    Config::from_slice(value.to_string().as_bytes())
}

/// The real configuration with the value at `pointer` set.
fn with(pointer: &str, value: Value) -> Value {
    let mut config = REAL.clone();
    let set = config.pointer_mut(pointer).map(|place| *place = value);
    assert!(set.is_some(), "{pointer}");
    config
}

/// The error and its causes, as a program shows them.
fn chain(error: &dyn Error) -> String {
    match error.source() {
        Some(cause) => format!("{error}: {}", chain(cause)),
        None => error.to_string(),
    }
}

/// The secrets of the two drbd disks.
const SECRETS: [&str; 2] = [
    "7e8f54ba7ac9e91eb11e206f0868ef4f1f166459",
    "0db224efb52563b65013b7723aea9dbe3c549117",
];

fn shows_no_secret(text: &str) -> bool {
    !SECRETS.iter().any(|secret| text.contains(&secret[..8]))
}

#[test]
fn the_secrets_are_those_of_the_file() {
    assert_eq!(
        [DRBD, OTHER_DRBD].map(|disk| &REAL["disks"][disk]["logical_id"][5]),
        SECRETS
    );
}

#[test]
fn a_real_configuration_is_read_written_and_well() {
    let config = Config::from_slice(TEXT.as_bytes()).unwrap();
    assert_eq!(config.validate(), Ok(()));
    assert_eq!(serde_json::to_value(&config).unwrap(), *REAL);
    assert_eq!(
        [
            config.nodes.len(),
            config.nodegroups.len(),
            config.instances.len(),
            config.disks.len()
        ],
        ["nodes", "nodegroups", "instances", "disks"].map(|key| REAL[key].as_object().unwrap().len())
    );
    assert_eq!(config.cluster.cluster_name, "cluster.rn");
    let disk = &config.disks[DRBD];
    assert_eq!(
        (disk.index(), disk.to_string().as_str()),
        (Some(0), "disk/0 (drbd0/0 port 11000)")
    );
    let children = disk
        .children
        .iter()
        .map(|child| (child.iv_name.as_deref(), child.size.0));
    assert_eq!(children.collect::<Vec<_>>(), [(None, 64), (None, 128)]);
}

#[test]
fn debug_output_shows_no_secret() {
    assert!(shows_no_secret(&format!("{:?}", read(&REAL).unwrap().disks)));
}

#[test]
fn ganeti_3_1_is_read_too() {
    let config = with("/version", json!(3_010_000));
    assert_eq!(serde_json::to_value(read(&config).unwrap()).unwrap(), config);
}

#[test]
fn other_versions_are_refused_with_advice() {
    for (number, version, advice) in [
        (2_160_000, "2.16", "upgrade the"),
        (2_090_000, "2.9", "upgrade the"),
        (0, "0.0", "upgrade the"),
        (3_000_002, "3.0.2", "edited"),
        (3_010_001, "3.1.1", "edited"),
        (3_020_000, "3.2", "downgrade"),
        (4_000_000, "4.0", "downgrade"),
    ] {
        let error = read(&with("/version", json!(number))).unwrap_err();
        let ConfigError::Version(found) = &error else {
            panic!("{error}")
        };
        assert_eq!((found.to_string().as_str(), found.number()), (version, number));
        assert!(error.hint().unwrap().contains(advice), "{version}");
    }
}

#[test]
fn what_is_no_json_is_refused() {
    for text in [
        "{",
        "",
        "{\"version\": 30",
        &TEXT[..TEXT.len() - 1],
        &TEXT[..5000],
    ] {
        let error = Config::from_slice(text.as_bytes()).unwrap_err();
        assert!(matches!(error, ConfigError::Truncated { .. }), "{error}");
    }
    for text in [
        &b"version = 3"[..],
        b"{]",
        b"\xff\xfe{}",
        b"{\"a\": \"\xff\"}",
        b"{} {}",
    ] {
        let error = Config::from_slice(text).unwrap_err();
        assert!(matches!(error, ConfigError::Syntax(_)), "{error}");
    }
}
