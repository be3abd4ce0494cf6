//! What Ganeti 3.0.2 answers, recorded: `$ORACLE_DIR`, else `fixtures/oracle`.

use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::path::PathBuf;

use gnt_extstorage::{Action, Arguments, Volume, environment};
use serde::Deserialize;
use serde_json::{Map, Value};

#[derive(Deserialize)]
struct Case<I, O> {
    case: String,
    input: I,
    output: O,
}

#[derive(Deserialize)]
struct Input {
    provider: String,
    volume: String,
    params: Map<String, Value>,
    name: Option<String>,
    uuid: Option<String>,
    size: Option<u64>,
    new_size: Option<u64>,
    metadata: Option<String>,
    snap_name: Option<String>,
    snap_size: Option<u64>,
    exclusive: Option<bool>,
}

fn recording(name: &str) -> std::io::Result<String> {
    let fixtures = || concat!(env!("CARGO_MANIFEST_DIR"), "/../../fixtures/oracle").into();
    let dir: PathBuf = std::env::var_os("ORACLE_DIR").map_or_else(fixtures, PathBuf::from);
    fs::read_to_string(dir.join(name))
}

/// Equal but for `EXTP_PROVIDER`, which Ganeti passes only as far as its callers put it among the parameters.
#[test]
fn oracle_ext_environment() {
    let cases: Vec<Case<Input, BTreeMap<String, String>>> =
        serde_json::from_str(&recording("ext_environment.json").unwrap()).unwrap();
    assert!(!cases.is_empty());
    for Case { case, input, output } in cases {
        let volume = Volume {
            provider: &input.provider,
            name: &input.volume,
            uuid: input.uuid.as_deref(),
            cname: input.name.as_deref(),
            instance: None,
            index: None,
            size_mib: 1,
            params: &input.params,
        };
        let arguments = Arguments {
            size_mib: input.size,
            new_size_mib: input.new_size,
            metadata: input.metadata.as_deref(),
            keep: None,
            snapshot_name: input.snap_name.as_deref(),
            snapshot_mib: input.snap_size,
            exclusive: input.exclusive,
            dead_node: None,
        };
        let mut expected = output;
        expected.insert("EXTP_PROVIDER".to_owned(), input.provider.clone());
        let made = environment(&input.provider, &input.params, Some(&volume), &arguments).unwrap();
        assert_eq!(made, expected, "{case}");
    }
}

#[test]
fn oracle_es_scripts() {
    let cases: Vec<Value> = serde_json::from_str(&recording("parameter_defaults.json").unwrap()).unwrap();
    let recorded = cases.iter().find(|case| case["case"] == "es_scripts").unwrap();
    let recorded: BTreeSet<&str> = recorded["output"]
        .as_array()
        .unwrap()
        .iter()
        .map(|script| script.as_str().unwrap())
        .collect();
    let ours = Action::REQUIRED | Action::OPTIONAL;
    assert_eq!(ours.iter().map(Action::script).collect::<BTreeSet<_>>(), recorded);
}
