//! The pure half of cmdlib, held against what Ganeti answers.

use std::collections::BTreeMap;

use gnt_cmdlib::compute::{DiskSpec, compute_disk_size_per_vg, compute_disks};
use gnt_cmdlib::generate::{GenerateError, GenerateRequest, generate_disk_template};
use gnt_cmdlib::ids::SequentialIds;
use gnt_config::params::DiskParams;
use gnt_config::template::{self, DiskTemplate};
use gnt_config::{AccessMode, FileDriver, Mebibytes, Object};
use gnt_tests::oracle::{Answer, Mistake, cases, normalized};
use serde::Deserialize;
use serde_json::Value;

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct ComputeDisks {
    disks: Vec<Object>,
    template: DiskTemplate,
    default_vg: Option<String>,
}

#[test]
fn oracle_compute_disks() {
    for case in cases("compute_disks").unwrap() {
        let input: ComputeDisks = case.input().unwrap();
        let computed = compute_disks(&input.disks, input.template, input.default_vg.as_deref());
        match (&case.answer, computed) {
            (Answer::Output(expected), Ok(specs)) => {
                let specs = serde_json::to_value(specs).unwrap();
                assert_eq!(normalized(specs), normalized(expected.clone()), "{}", case.name);
            }
            (Answer::Error(refusal), Err(_)) => assert_eq!(refusal.kind, Mistake::Prereq, "{}", case.name),
            (expected, found) => panic!("{}: expected {expected:?}, found {found:?}", case.name),
        }
    }
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct ComputeDiskSizePerVg {
    disks: Vec<SizeInVg>,
    template: DiskTemplate,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct SizeInVg {
    size: Mebibytes,
    vg: Option<String>,
}

#[test]
fn oracle_compute_disk_size_per_vg() {
    for case in cases("compute_disk_size_per_vg").unwrap() {
        let ComputeDiskSizePerVg { disks, template } = case.input().unwrap();
        let specs: Vec<DiskSpec> = disks.into_iter().map(|disk| spec(template, disk)).collect();
        let computed = compute_disk_size_per_vg(template, &specs).unwrap();
        match &case.answer {
            Answer::Output(expected) => {
                let expected = BTreeMap::<&str, Mebibytes>::deserialize(expected).unwrap();
                assert_eq!(computed, expected, "{}", case.name);
            }
            // Better on purpose: templates for which Ganeti has no answer take nothing from volume groups.
            Answer::Error(refusal) => {
                assert_eq!(refusal.kind, Mistake::Programmer, "{}", case.name);
                assert!(
                    template::NOT_LVM.contains(template) && computed.is_empty(),
                    "{}",
                    case.name
                );
            }
        }
    }
}

fn spec(dev_type: DiskTemplate, SizeInVg { size, vg }: SizeInVg) -> DiskSpec {
    DiskSpec {
        dev_type,
        size,
        mode: AccessMode::default(),
        name: None,
        vg,
        metavg: None,
        adopt: None,
        spindles: None,
        access: None,
        provider: None,
        ext_params: Object::new(),
    }
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct GenerateDiskTemplate {
    template: DiskTemplate,
    instance_uuid: String,
    primary_node: String,
    secondary_nodes: Vec<String>,
    disks: Vec<DiskSpec>,
    file_storage_dir: Option<String>,
    file_driver: Option<FileDriver>,
    base_index: u32,
    disk_params: BTreeMap<DiskTemplate, Object>,
}

#[test]
fn oracle_generate_disk_template() {
    for case in cases("generate_disk_template").unwrap() {
        let input: GenerateDiskTemplate = case.input().unwrap();
        for spec in &input.disks {
            let takes_any = template::HAVE_PROVIDER.contains(spec.dev_type);
            assert!(
                takes_any || spec.ext_params.is_empty(),
                "{}: unknown keys {:?}",
                case.name,
                spec.ext_params
            );
        }
        let params = DiskParams::layered([&input.disk_params]).unwrap();
        let request = GenerateRequest {
            template: input.template,
            instance_uuid: &input.instance_uuid,
            primary_node: &input.primary_node,
            secondary_nodes: &input.secondary_nodes,
            disks: &input.disks,
            file_storage_dir: input.file_storage_dir.as_deref(),
            file_driver: input.file_driver.unwrap_or(FileDriver::Loop),
            base_index: input.base_index,
            // The recording cluster's, as its README says.
            default_vg: Some("xenvg"),
            default_metavg: Some(params.drbd.metavg.as_str()),
        };
        match (
            &case.answer,
            generate_disk_template(&request, &mut SequentialIds::default()),
        ) {
            (Answer::Output(expected), Ok(disks)) => {
                let disks = serde_json::to_value(disks).unwrap();
                assert_eq!(disk_form(disks), disk_form(expected.clone()), "{}", case.name);
            }
            // Better on purpose: disks wished for a diskless instance are refused, not forgotten.
            (Answer::Output(_), Err(GenerateError::Diskless { .. })) => {}
            (Answer::Error(refusal), Err(_)) => {
                assert_eq!(refusal.kind, Mistake::Programmer, "{}", case.name)
            }
            (expected, found) => panic!("{}: expected {expected:?}, found {found:?}", case.name),
        }
    }
}

/// Disks without what a recording leaves out: Ganeti writes no list of children where there are none.
fn disk_form(disks: Value) -> Value {
    fn strip(value: &mut Value) {
        match value {
            Value::Object(disk) => {
                disk.retain(|key, value| key != "children" || value != &Value::Array(Vec::new()));
                disk.get_mut("children").into_iter().for_each(strip);
            }
            Value::Array(disks) => disks.iter_mut().for_each(strip),
            _ => {}
        }
    }
    let mut disks = normalized(disks);
    strip(&mut disks);
    disks
}
