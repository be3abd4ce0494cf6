//! Against what Ganeti answers, as it was recorded (`gnt_tests::oracle`).

use std::collections::{BTreeMap, BTreeSet};
use std::error::Error;

use gnt_config::device::DRBD_META_SIZE;
use gnt_config::params::{
    DiskParams, DrbdDeviceParams, ExtParams, GlusterParams, LvmParams, Parameters, RbdParams,
};
use gnt_config::template::{self, TemplateSet};
use gnt_config::{Disk, DiskTemplate, Mebibytes, Object};
use gnt_tests::oracle::{Case, cases, normalized};
use serde::Deserialize;
use serde_json::{Value, json};

type Outcome = Result<(), Box<dyn Error>>;

macro_rules! sets {
    ($($theirs:ident = $ours:ident,)*) => {
        [$((stringify!($theirs), stringify!($ours), template::$ours),)*]
    };
}

/// The named sets that Ganeti has too: its name, ours, what is in it.
const SETS: [(&str, &str, TemplateSet); 19] = sets! {
    DTS_BLOCK = BLOCK,
    DTS_COPYABLE = COPYABLE,
    DTS_DRBD = DRBD,
    DTS_EXCL_STORAGE = EXCLUSIVE_STORAGE,
    DTS_EXT_MIRROR = EXT_MIRROR,
    DTS_FILEBASED = FILEBASED,
    DTS_GROWABLE = GROWABLE,
    DTS_HAVE_ACCESS = HAVE_ACCESS,
    DTS_INSTANCE_DEPENDENT_PATH = INSTANCE_DEPENDENT_PATH,
    DTS_INT_MIRROR = INT_MIRROR,
    DTS_LVM = LVM,
    DTS_MAY_ADOPT = MAY_ADOPT,
    DTS_MIRRORED = MIRRORED,
    DTS_MUST_ADOPT = MUST_ADOPT,
    DTS_NOT_CONVERTIBLE_FROM = NOT_CONVERTIBLE_FROM,
    DTS_NOT_CONVERTIBLE_TO = NOT_CONVERTIBLE_TO,
    DTS_NOT_LVM = NOT_LVM,
    DTS_NO_FREE_SPACE_CHECK = NO_FREE_SPACE_CHECK,
    DTS_SNAPSHOT_CAPABLE = SNAPSHOT_CAPABLE,
};

/// The named sets that are in Ganeti's code, but not as constants; [`oracle_disk_tree`] holds those about secondary nodes
/// against it.
const SETS_OF_OURS: [&str; 10] = [
    "ALL",
    "HAVE_PROVIDER",
    "HAVE_SNAPSHOTS",
    "NEEDS_SECONDARY",
    "NODE_LOCAL",
    "ON_SECONDARY",
    "OPEN_ON_SECONDARY",
    "REACHED_BY_SOME",
    "SHUT_DOWN_AFTER_MIGRATION",
    "UNMAP_AFTER_MIGRATION",
];

#[test]
fn oracle_template_sets() -> Outcome {
    let mut theirs = BTreeMap::new();
    for case in cases("template_sets")? {
        theirs.insert(case.name.clone(), case.output_as::<BTreeSet<DiskTemplate>>()?);
    }
    let ours = SETS
        .iter()
        .map(|(theirs, _, set)| ((*theirs).to_owned(), set.iter().collect()));
    assert_eq!(ours.collect::<BTreeMap<_, BTreeSet<_>>>(), theirs);
    Ok(())
}

/// No set can be added without being compared, or listed as one that Ganeti has no constant for.
#[test]
fn every_template_set_is_compared_or_listed() {
    let declared: BTreeSet<&str> = include_str!("../src/template.rs")
        .lines()
        .filter_map(|line| line.strip_prefix("pub const ")?.split_once(": TemplateSet"))
        .map(|(name, _)| name)
        .collect();
    let known = SETS.iter().map(|(_, ours, _)| *ours).chain(SETS_OF_OURS);
    assert_eq!(declared, known.collect());
}

/// Parameters of ours that Ganeti 3.0 does not know: the Ceph user, which came with 3.2.
const PARAMETERS_OF_OURS: [(DiskTemplate, &str); 1] = [(DiskTemplate::Rbd, "user-id")];

#[test]
fn oracle_parameter_defaults() -> Outcome {
    for case in cases("parameter_defaults")? {
        match case.name.as_str() {
            "disk_dt_defaults" => {
                let ours = DiskParams::default();
                let ours: BTreeMap<_, _> = template::ALL.iter().map(|t| (t, ours.get(t))).collect();
                assert_eq!(ours, case.output_as()?);
            }
            "disk_ld_defaults" => assert_eq!(ld_defaults(), case.output_as()?),
            "disk_dt_types" => assert_eq!(dt_types()?, case.output_as()?),
            "storage_type_of_template" => {
                let ours: BTreeMap<_, _> = template::ALL
                    .iter()
                    .map(|t| (t, t.storage_type().to_string()))
                    .collect();
                assert_eq!(ours, case.output_as()?);
            }
            "drbd_meta_size_mib" => assert_eq!(DRBD_META_SIZE, case.output_as()?),
            // The scripts are actions of the crate extstorage, whose own test compares them.
            "es_scripts" => {}
            unknown => return Err(format!("{unknown} is not compared").into()),
        }
    }
    Ok(())
}

fn ld_defaults() -> BTreeMap<DiskTemplate, Object> {
    let of_template = |template| match template {
        DiskTemplate::Drbd => DrbdDeviceParams::default().to_object(),
        DiskTemplate::Plain => LvmParams::default().to_object(),
        DiskTemplate::Rbd => RbdParams::default().to_object(),
        DiskTemplate::Gluster => GlusterParams::default().to_object(),
        DiskTemplate::Ext => ExtParams::default().to_object(),
        _ => Object::new(),
    };
    let with_device = template::ALL
        .iter()
        .filter(|template| template.device().is_some());
    with_device
        .map(|template| (template, of_template(template)))
        .collect()
}

/// One type for each name of a parameter, whatever the template.
fn dt_types() -> Result<BTreeMap<String, String>, String> {
    let params = DiskParams::default();
    let mut types = BTreeMap::new();
    for template in template::ALL {
        for key in params.of_template(template).map_or(&[][..], Parameters::keys) {
            if PARAMETERS_OF_OURS.contains(&(template, key.name)) {
                continue;
            }
            let kind = key.kind.to_string();
            match types.insert(key.name.to_owned(), kind.clone()) {
                Some(other) if other != kind => return Err(format!("{} has two types", key.name)),
                _ => {}
            }
        }
    }
    Ok(types)
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct LdParamsInput {
    template: DiskTemplate,
    disk_params: BTreeMap<DiskTemplate, Object>,
}

#[test]
fn oracle_compute_ld_params() -> Outcome {
    for case in cases("compute_ld_params")? {
        let input: LdParamsInput = case.input()?;
        let filled =
            DiskParams::layered([&input.disk_params]).map_err(|error| format!("{}: {error}", case.name))?;
        assert_eq!(
            json!(filled.ld_params(input.template)),
            *case.output()?,
            "{}",
            case.name
        );
    }
    Ok(())
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct TreeInput {
    disk: Disk,
    amount: Mebibytes,
    parent_node: String,
}

#[test]
fn oracle_disk_tree() -> Outcome {
    for case in cases("disk_tree")? {
        assert_eq!(
            normalized(disk_tree(&case)?),
            normalized(case.output()?.clone()),
            "{}",
            case.name
        );
    }
    Ok(())
}

fn disk_tree(case: &Case) -> Result<Value, Box<dyn Error>> {
    let TreeInput {
        disk,
        amount,
        parent_node,
    } = case.input()?;
    let template = disk.dev_type.template();
    let sorted: BTreeSet<&str> = disk
        .all_nodes()
        .into_iter()
        .chain([parent_node.as_str()])
        .collect();
    let addresses: BTreeMap<String, String> = sorted
        .iter()
        .enumerate()
        .map(|(rank, node)| ((*node).to_owned(), format!("10.0.0.{rank}")))
        .collect();
    let mut sent = disk.clone();
    sent.set_dynamic_params(&parent_node, &addresses)?;
    let dynamic_params = sent.dynamic_params.map_or(Ok(json!({})), serde_json::to_value)?;

    let nodes: BTreeSet<&str> = disk.nodes_from(&parent_node)?.into_iter().collect();
    let node_tree: Vec<_> = disk
        .node_tree(&parent_node)?
        .into_iter()
        .map(|(node, disk)| (node, disk.uuid.as_str()))
        .collect();
    let mut answer = json!({
        "all_nodes": disk.all_nodes(),
        "nodes": nodes,
        "node_tree": node_tree,
        "growth": disk.growth(amount),
        "dynamic_params": dynamic_params,
        "children_needed": disk.children_needed().map_or(json!(-1), |count| json!(count)),
        "static_dev_path": disk.static_dev_path(),
        "assemble_on_secondary": template::ON_SECONDARY.contains(template),
        "create_on_secondary": template::ON_SECONDARY.contains(template),
        "open_on_secondary": template::OPEN_ON_SECONDARY.contains(template),
        "supports_snapshots": template::SNAPSHOT_CAPABLE.contains(template),
    });
    let mut grown = disk.clone();
    if grown.record_grow(amount).is_ok() {
        answer["grown"] = serde_json::to_value(&grown)?;
    }
    Ok(answer)
}
