//! Objects as they are shown: in JSON with Ganeti's field names, nodes by name, secrets left out; and as text.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

use gnt_bdev::{Link, Status};
use gnt_cmdlib::ops::common_template;
use gnt_cmdlib::step::Step;
use gnt_config::secret::REDACTED;
use gnt_config::{Disk, Instance, Mebibytes, Migration, Node, Object, Settings};
use gnt_store::{OperationRecord, State, StepRecord, StepState};
use serde_json::{Value, json};

use crate::details::Details;
use crate::output::{columns, time};

/// The names of nodes, by UUID.
#[derive(Debug)]
pub(crate) struct NodeNames(BTreeMap<String, String>);

impl NodeNames {
    pub(crate) fn new(nodes: Vec<Node>) -> Self {
        Self(nodes.into_iter().map(|node| (node.uuid, node.name)).collect())
    }

    /// The name; of a node that is not known, its UUID.
    pub(crate) fn of<'a>(&'a self, uuid: &'a str) -> &'a str {
        self.0.get(uuid).map_or(uuid, String::as_str)
    }

    fn all<'a>(&'a self, uuids: impl IntoIterator<Item = &'a String>) -> Value {
        uuids.into_iter().map(|uuid| Value::from(self.of(uuid))).collect()
    }
}

/// Where disks in use are found.
#[derive(Debug, Default)]
pub(crate) struct Links {
    dir: PathBuf,
    /// The device, by instance and index.
    devices: BTreeMap<(String, u32), PathBuf>,
}

impl Links {
    pub(crate) fn new(settings: &Settings, links: Vec<Link>) -> Self {
        let device = |link: Link| ((link.instance, link.index), link.device);
        Self {
            dir: settings.disk_links_dir.clone(),
            devices: links.into_iter().map(device).collect(),
        }
    }

    /// The link of a disk and the device that it leads to.
    pub(crate) fn of(&self, instance: &str, disk: &Disk) -> Option<(PathBuf, &Path)> {
        let index = disk.index()?;
        let device = self.devices.get(&(instance.to_owned(), index))?;
        Some((self.dir.join(format!("{instance}:{index}")), device))
    }
}

/// A disk, its tree included.
pub(crate) fn disk(disk: &Disk, names: &NodeNames) -> Object {
    let children: Vec<Value> = disk
        .children
        .iter()
        .map(|child| self::disk(child, names).into())
        .collect();
    let fields = json!({
        "uuid": disk.uuid, "name": disk.name, "iv_name": disk.iv_name, "dev_type": disk.dev_type, "size": disk.size,
        "mode": disk.mode, "logical_id": disk.logical_id.to_display_json(), "params": params(&disk.params),
        "nodes": names.all(&disk.nodes), "spindles": disk.spindles, "children": children,
    });
    object(fields)
}

/// A disk of an instance: its link and device too, where it is in use.
pub(crate) fn attached_disk(instance: &str, disk: &Disk, names: &NodeNames, links: &Links) -> Object {
    let mut fields = self::disk(disk, names);
    if let Some((link, device)) = links.of(instance, disk) {
        fields.insert("dev_path".to_owned(), path(device));
        fields.insert("link".to_owned(), path(&link));
    }
    fields
}

/// An instance with `disks`, which are shown already. Only one that is being migrated has `migration`.
pub(crate) fn instance(instance: &Instance, own: &[Disk], names: &NodeNames, disks: Vec<Object>) -> Object {
    let primary = instance.primary_node.as_deref();
    let mut secondaries: Vec<&str> = own
        .iter()
        .flat_map(Disk::all_nodes)
        .filter(|node| Some(*node) != primary)
        .collect();
    secondaries.sort_unstable();
    secondaries.dedup();
    let mut shown = object(json!({
        "name": instance.name, "uuid": instance.uuid,
        // `constants.DT_MIXED`
        "disk_template": common_template(own).map_or("mixed", |template| template.as_str()),
        "pnode": primary.map(|node| names.of(node)),
        "snodes": secondaries.iter().map(|node| names.of(node)).collect::<Vec<_>>(),
        "disks_active": instance.disks_active, "disks": disks, "disk.count": own.len(),
        "disk.sizes": own.iter().map(|disk| disk.size).collect::<Vec<_>>(),
    }));
    if let Some(Migration { source, target, .. }) = &instance.migration {
        let migration = json!({"source": names.of(source), "target": names.of(target)});
        shown.insert("migration".to_owned(), migration);
    }
    shown
}

/// A disk as its node sees it (`objects.BlockDevStatus`).
pub(crate) fn status(status: &Status) -> Value {
    let Status { device, sync } = status;
    json!({
        "dev_path": device.path.as_deref().map(path), "major": device.major, "minor": device.minor,
        "bytes": device.bytes, "uris": device.uris.iter().map(|uri| uri.uri.clone()).collect::<Vec<_>>(),
        "sync_percent": sync.sync_percent, "estimated_time": sync.estimated_time,
        "is_degraded": sync.is_degraded, "ldisk_status": sync.ldisk_status as u8,
    })
}

/// Parameters, without the values of those that are secret.
pub(crate) fn params(params: &Object) -> Object {
    let value = |(key, value): (&String, &Value)| match gnt_extstorage::is_secret(key) {
        true => (key.clone(), REDACTED.into()),
        false => (key.clone(), value.clone()),
    };
    params.iter().map(value).collect()
}

/// What people are told of disks that were made or changed, a line each.
pub(crate) fn disk_lines(disks: &[Disk]) -> String {
    let line = |disk: &Disk| {
        let name = disk.iv_name.as_ref().unwrap_or(&disk.uuid).clone();
        let mode = disk.mode.map_or(String::new(), |mode| mode.to_string());
        let mut line = vec![name, disk.dev_type.to_string(), disk.size.to_string(), mode];
        line.push(disk.logical_id.to_string());
        line.push(disk.name.clone().unwrap_or_default());
        line
    };
    let lines: Vec<_> = disks.iter().map(line).collect();
    columns(&lines, |column| column == 2)
}

/// An operation of the journal.
pub(crate) fn operation(record: &OperationRecord) -> Object {
    let done = record
        .steps
        .iter()
        .filter(|step| step.state == StepState::Done)
        .count();
    let current = match record.state.is_finished() {
        true => None,
        false => record.steps.get(record.next_step()).map(|step| &step.name),
    };
    object(json!({
        "id": record.id, "kind": record.kind, "instance": record.instance, "state": record.state.to_string(),
        "step": current, "steps_done": done, "steps_total": record.steps.len(),
        "interrupted": record.interrupted, "started": record.started, "finished": record.finished,
        "pid": record.owner.pid, "host": record.owner.host, "command": record.owner.command,
        "reason": record.reason, "message": record.message,
    }))
}

/// What a step does, and where, if the cluster has more than one node.
pub(crate) fn action(step: &Step, names: &NodeNames) -> String {
    let mut nodes: Vec<&str> = step.nodes().into_iter().map(|node| names.of(node)).collect();
    if let Step::ImageDisk { .. } = step {
        // The image is read there.
        nodes.reverse();
    }
    nodes.dedup();
    match (step, nodes.as_slice()) {
        _ if names.0.len() < 2 => step.to_string(),
        (_, []) => step.to_string(),
        (Step::CopyDisk { .. } | Step::ImageDisk { .. }, [from, to]) => {
            format!("{step}, from {from} to {to}")
        }
        (_, nodes) => format!("{step} on {}", nodes.join(" and ")),
    }
}

/// How far each step of an operation is: the journal does not tell of one whether it has begun.
fn step_states(record: &OperationRecord) -> impl Iterator<Item = String> {
    let is_running = record.state == State::Running && !record.interrupted;
    let running = is_running.then(|| record.next_step());
    let state = move |(index, step): (usize, &StepRecord)| match running == Some(index) {
        true => "running".to_owned(),
        false => step.state.to_string(),
    };
    record.steps.iter().enumerate().map(state)
}

/// The steps of an operation; what they do is told without the secrets that they may have.
pub(crate) fn steps(record: &OperationRecord, names: &NodeNames) -> Value {
    let states = step_states(record);
    let shown = record.steps.iter().zip(states);
    shown
        .map(|(record, state)| Value::Object(step(record, &state, names)))
        .collect()
}

fn step(record: &StepRecord, state: &str, names: &NodeNames) -> Object {
    let action = serde_json::from_value::<Step>(record.data.clone()).map(|step| action(&step, names));
    let mut step = object(json!({"name": record.name, "state": state, "action": action.ok()}));
    step.extend(
        record
            .progress
            .clone()
            .map(|progress| ("progress".to_owned(), progress)),
    );
    step
}

/// An operation at length.
pub(crate) fn operation_details(record: &OperationRecord, names: &NodeNames) -> Details {
    let step = |(record, state): (&StepRecord, String)| {
        let step = serde_json::from_value::<Step>(record.data.clone()).ok();
        let total = step.as_ref().and_then(|step| Some(step.transfer()?.bytes));
        let action = step.map_or(record.name.clone(), |step| action(&step, names));
        match (record.progress.as_ref().and_then(Value::as_u64), total) {
            (Some(done), Some(total)) if record.state != StepState::Done => {
                format!("{state}: {action} ({done} of {total} bytes)")
            }
            _ => format!("{state}: {action}"),
        }
    };
    let state = match record.interrupted {
        true => format!("{}, interrupted", record.state),
        false => record.state.to_string(),
    };
    let owner = &record.owner;
    Details::map([
        ("Operation", Details::text(&record.id)),
        ("Kind", Details::text(&record.kind)),
        ("Instance", Details::text(&record.instance)),
        ("State", Details::text(state)),
        ("Started", Details::text(time(record.started))),
        ("Finished", Details::maybe(record.finished.map(time))),
        (
            "Process",
            Details::text(format!("{} on {}: {}", owner.pid, owner.host, owner.command)),
        ),
        ("Undone because", Details::maybe(record.reason.as_ref())),
        ("Message", Details::maybe(record.message.as_ref())),
        (
            "Steps",
            Details::list(record.steps.iter().zip(step_states(record)).map(step)),
        ),
    ])
}

/// A path, as JSON.
pub(crate) fn path(path: &Path) -> Value {
    path.to_string_lossy().into()
}

/// A size in bytes, exactly where it is a whole number of mebibytes.
pub(crate) fn bytes(bytes: u64) -> String {
    match bytes % (1 << 20) {
        0 => Mebibytes::from_bytes(bytes).to_string(),
        _ => format!("{bytes} bytes"),
    }
}

/// The fields of what `json!` made of `{…}`.
pub(crate) fn object(value: Value) -> Object {
    match value {
        Value::Object(object) => object,
        _ => Object::new(),
    }
}
