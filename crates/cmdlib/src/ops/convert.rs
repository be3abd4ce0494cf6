//! Converting an instance's disks to another template.

use std::collections::BTreeSet;

use gnt_bdev::Operation;
use gnt_config::device::DEFAULT_PROVIDER;
use gnt_config::template::{
    HAVE_ACCESS, HAVE_PROVIDER, LVM, NEEDS_SECONDARY, NOT_CONVERTIBLE_FROM, NOT_CONVERTIBLE_TO,
};
use gnt_config::{Disk, DiskTemplate, FileDriver, Instance, LogicalId, Mebibytes, Object};
use gnt_store::{Change, Store};
use serde_json::json;

use crate::error::{Error, Result};
use crate::ids::Ids;
use crate::kind::Kind;
use crate::node::Node;
use crate::ops::activate::{Secondary, assemble, release};
use crate::ops::layout::Layout;
use crate::ops::remove::{removal, storage_dirs};
use crate::ops::sizes::sizes;
use crate::ops::{Subject, drained, find_node, ids, info_text, name_of};
use crate::saga::{Engine, Nodes, Report};
use crate::step::{Label, Pace, Place, Step, Transfer};

/// What an instance's disks are to become.
#[derive(Debug, Clone)]
pub struct ConvertRequest {
    /// How they are to be stored.
    pub template: DiskTemplate,
    /// Name or UUID of the node that the instance is on from then on; it stays where it is if there is none.
    pub primary: Option<String>,
    /// Name or UUID of the secondary node, in templates that have one.
    pub secondary: Option<String>,
    /// What is wished of all of them, as `--disk` gives it: `vg`, `metavg`, `provider` with its parameters, `access`.
    pub params: Object,
    /// What is wished of single ones besides, with their indexes, names or UUIDs.
    pub disks: Vec<(String, Object)>,
    /// How files are presented to the hypervisor.
    pub file_driver: FileDriver,
    /// A directory below the cluster's file storage directory in which the instance's is made.
    pub file_storage_dir: Option<String>,
    /// How data is copied.
    pub pace: Pace,
}

/// Converts the disks of an instance that does not use them (`gnt-instance modify -t`): new ones are made, the data is copied, the
/// configuration is switched, and only then the old ones are removed. Between the templates that are logical volumes nothing is copied, if
/// the instance stays on its node: the volume with the data gets, or loses, what mirrors it.
pub async fn convert<N: Nodes>(
    engine: &Engine<'_, N>,
    instance: &str,
    request: &ConvertRequest,
) -> Result<Report> {
    let instance = &name_of(engine.store, instance)?;
    engine
        .run(Kind::Convert, &[instance], async |begun| {
            let store = engine.store;
            let old = Subject::load(store, instance)?;
            let from = check(&old, request)?;
            old.ensure_in_reach(begun.nodes, &old.disks)?;
            let secondary = request.secondary.as_deref().map(|node| find_node(store, node));
            let secondary = secondary.transpose()?;
            let node = old.reach(begun.nodes, &old.node.uuid)?;
            let sizes = sizes(&old, node).await?;
            let primary = request.primary.as_deref().map(|node| find_node(store, node));
            let primary = primary.transpose()?.filter(|node| node.uuid != old.node.uuid);
            let mut new = match &primary {
                Some(node) => moved(store, &old, node)?,
                None => old.with_disks(Vec::new()),
            };
            let home = primary.as_ref().unwrap_or(&old.node);
            new.learn_addresses(store, [home.uuid.as_str()])?;
            new.reach(begun.nodes, &home.uuid)?;
            if let Some(secondary) = secondary
                .as_ref()
                .filter(|_| NEEDS_SECONDARY.contains(request.template))
            {
                if secondary.drained {
                    return Err(drained(secondary));
                }
                new.learn_addresses(store, [secondary.uuid.as_str()])?;
                new.reach(begun.nodes, &secondary.uuid)?;
            }
            let mut ids = ids(store, begun.id);
            let is_lvm = LVM.contains(from) && LVM.contains(request.template);
            let without_copying = is_lvm && primary.is_none();
            if without_copying && NEEDS_SECONDARY.contains(from) {
                return unmirrored(&old, &mut ids);
            }
            let layout = Layout {
                store,
                subject: &new,
                template: request.template,
                secondary: secondary.as_ref().map(|node| node.uuid.as_str()),
                others: &[],
                has_data: without_copying,
                file_driver: request.file_driver,
                file_storage_dir: request.file_storage_dir.as_deref(),
            };
            let wishes = wishes(&old, request, &sizes)?;
            let disks = layout.disks(&wishes, begun.nodes, &mut ids).await?;
            new.disks = disks.into_iter().map(|new| new.disk).collect();
            new.instance.disks = new.disks.iter().map(|disk| disk.uuid.clone()).collect();
            match without_copying {
                true => mirrored(&old, &new),
                false => {
                    for disk in &old.disks {
                        let at = old.place(disk)?;
                        node.check(&at.disk, &at.instance, Operation::Remove).await?;
                    }
                    copied(&old, &new, &sizes, request.pace)
                }
            }
        })
        .await
}

/// The template until now, if it can be converted to the other.
fn check(subject: &Subject, request: &ConvertRequest) -> Result<DiskTemplate> {
    let (name, to) = (&subject.instance.name, request.template);
    let unfit = |what, hint| Err(Error::Unfit { what, hint });
    subject.ensure_inactive()?;
    let Some(from) = subject.template() else {
        return unfit(
            format!("the disks of {name} are of several templates"),
            "detach those that are not to be converted",
        );
    };
    if NOT_CONVERTIBLE_FROM.contains(from) {
        return unfit(
            format!("{name} has no disks that could be converted"),
            "add disks with 'gnt-disk modify INSTANCE --disk add:dev_type=…,size=…'",
        );
    }
    if NOT_CONVERTIBLE_TO.contains(to) {
        return unfit(
            format!("no disks can be converted to {to}"),
            "choose another template with -t",
        );
    }
    if from == to && !HAVE_PROVIDER.contains(to) {
        return unfit(
            format!("the disks of {name} are {to} disks already"),
            "choose another template with -t",
        );
    }
    Ok(from)
}

/// The instance on another node, without its disks.
fn moved(store: &Store, old: &Subject, target: &gnt_config::Node) -> Result<Subject> {
    if target.drained {
        return Err(drained(target));
    }
    let instance = Instance {
        primary_node: Some(target.uuid.clone()),
        ..old.instance.clone()
    };
    Subject::new(store, instance, Vec::new())
}

/// The wishes for the new disks (`ComputeDisksInfo`): as the old ones, and at least as large.
fn wishes(old: &Subject, request: &ConvertRequest, sizes: &[u64]) -> Result<Vec<Object>> {
    let mut wishes = Vec::new();
    for (disk, bytes) in old.disks.iter().zip(sizes) {
        let real = Mebibytes(bytes.div_ceil(Mebibytes(1).bytes()));
        let mut wish = Object::new();
        wish.insert("size".to_owned(), real.max(disk.size).0.into());
        wish.insert("mode".to_owned(), json!(disk.mode.unwrap_or_default()));
        if let Some(name) = &disk.name {
            wish.insert("name".to_owned(), name.clone().into());
        }
        if let (true, LogicalId::Lv { vg, .. }) =
            (LVM.contains(request.template), &disk.data_device().logical_id)
        {
            wish.insert("vg".to_owned(), vg.clone().into());
        }
        if let (true, Some(access)) = (HAVE_ACCESS.contains(request.template), disk.params.get("access")) {
            wish.insert("access".to_owned(), access.clone());
        }
        wish.extend(request.params.clone());
        wishes.push(wish);
    }
    for (disk, wish) in &request.disks {
        wishes[old.index_of(disk)?].extend(wish.clone());
    }
    for (disk, wish) in old.disks.iter().zip(&wishes) {
        check_provider(disk, request.template, wish)?;
    }
    Ok(wishes)
}

/// To another volume of the same provider nothing is converted.
fn check_provider(disk: &Disk, template: DiskTemplate, wish: &Object) -> Result<()> {
    let provider = |params: &Object| {
        let provider = params.get("provider").and_then(|provider| provider.as_str());
        provider.unwrap_or(DEFAULT_PROVIDER).to_owned()
    };
    let (before, then) = (provider(&disk.params), provider(wish));
    match disk.dev_type.template() == template && before == then {
        true => Err(Error::Unfit {
            what: format!("{disk} is a volume of the provider {then} already"),
            hint: "name another provider with --ext-params provider=NAME",
        }),
        false => Ok(()),
    }
}

/// New disks are made and the data is copied.
pub(crate) fn copied(old: &Subject, new: &Subject, sizes: &[u64], pace: Pace) -> Result<Vec<Step>> {
    let mut steps = Vec::new();
    for path in storage_dirs(&new.disks) {
        let node = new.node.uuid.clone();
        steps.push(Step::CreateStorageDir { node, path });
    }
    let info = info_text(&new.instance.name);
    for disk in &new.disks {
        for at in new.halves(disk)? {
            let info = info.clone();
            steps.push(Step::CreateDisk { at, info });
        }
    }
    let (from, to) = (old.unplaced(), new.unplaced());
    let uses = [from.places()?, to.places()?];
    for uses in &uses {
        steps.extend(assemble(uses.clone(), true, Secondary::Required));
    }
    for ((source, target), bytes) in from.disks.iter().zip(&to.disks).zip(sizes) {
        steps.push(Step::CopyDisk {
            from: from.place(source)?,
            to: to.place(target)?,
            transfer: Transfer {
                bytes: *bytes,
                fresh: true,
                uses: Vec::new(),
                pace,
            },
        });
    }
    steps.extend(release(uses.concat()));
    steps.push(for_good(switch(old, new, from.disks.clone())));
    for disk in &from.disks {
        steps.extend(removal(
            from.halves(disk)?,
            Vec::new(),
            vec![Change::RemoveDisk(disk.uuid.clone())],
        ));
    }
    for path in storage_dirs(&from.disks) {
        let node = old.node.uuid.clone();
        steps.push(Step::RemoveStorageDir { node, path });
    }
    Ok(steps)
}

/// Each logical volume gets a metadata volume beside it, and both get their like on the secondary node (`_ConvertPlainToDrbd`). It is opened
/// once, so that both nodes know which of them has the data.
fn mirrored(old: &Subject, new: &Subject) -> Result<Vec<Step>> {
    let mut steps = Vec::new();
    let info = info_text(&new.instance.name);
    let primary = new.node.uuid.as_str();
    for (before, disk) in old.disks.iter().zip(&new.disks) {
        let [data, meta] = disk.children.as_slice() else {
            continue;
        };
        for at in new.halves(disk)?.into_iter().filter(|at| at.node != primary) {
            let info = info.clone();
            steps.push(Step::CreateDisk { at, info });
        }
        let (volume, info) = (old.place(before)?, info.clone());
        let (named, whole) = (new.place(data)?, new.place(disk)?);
        steps.push(Step::CreateDisk {
            at: new.place(meta)?,
            info: info.clone(),
        });
        steps.push(Step::RenameDisk {
            at: volume.clone(),
            to: data.logical_id.to_json(),
        });
        let label = Label {
            at: named.clone(),
            info: info.clone(),
        };
        let mut known = volume;
        known.disk.logical_id = data.logical_id.clone();
        let before = Some(Box::new(Label {
            at: known,
            info: info.clone(),
        }));
        steps.push(Step::SetInfo { label, before });
        steps.push(Step::AssembleDisks {
            at: named.alone(),
            fresh: true,
        });
        steps.push(Step::MirrorDisk { at: whole, info });
    }
    let uses = new.unplaced().places()?;
    steps.extend(assemble(uses.clone(), true, Secondary::Required));
    steps.extend(release(uses));
    steps.push(switch(old, new, Vec::new()));
    Ok(steps)
}

/// Each mirror gives way to the volume with its data on the primary node (`_ConvertDrbdToPlain`). What else it was made of is removed: until
/// then these are detached disks.
fn unmirrored(old: &Subject, ids: &mut impl Ids) -> Result<Vec<Step>> {
    let mut new = old.with_disks(Vec::new());
    let primary = old.node.uuid.as_str();
    let mut left = Vec::new();
    for disk in &old.disks {
        let [data, meta] = disk.children.as_slice() else {
            continue;
        };
        new.disks.push(Disk {
            size: disk.size,
            mode: disk.mode,
            name: disk.name.clone(),
            iv_name: disk.iv_name.clone(),
            nodes: vec![primary.to_owned()],
            ..data.clone()
        });
        for Place { node, .. } in old.halves(disk)? {
            let volumes = [data, meta].into_iter().skip(usize::from(node == primary));
            left.extend(volumes.map(|volume| Disk {
                uuid: ids.unique_id(),
                nodes: vec![node.clone()],
                mode: Some(disk.mode.unwrap_or_default()),
                ..volume.clone()
            }));
        }
    }
    new.instance.disks = new.disks.iter().map(|disk| disk.uuid.clone()).collect();

    let uses = old.unplaced().places()?;
    let mut steps = assemble(uses.clone(), true, Secondary::Required);
    steps.extend(
        uses.last()
            .cloned()
            .map(|at| Step::CheckData { at, mirrored: false }),
    );
    steps.extend(release(uses));
    let info = info_text(&new.instance.name);
    let label = |disk| -> Result<Label> {
        let (at, info) = (new.place(disk)?, info.clone());
        Ok(Label { at, info })
    };
    for (before, disk) in old.disks.iter().zip(&new.disks) {
        steps.push(Step::SetInfo {
            label: label(disk)?,
            before: Some(Box::new(label(before)?)),
        });
    }
    steps.push(for_good(switch(old, &new, left.clone())));
    for volume in &left {
        steps.extend(removal(
            old.homes(volume)?,
            Vec::new(),
            vec![Change::RemoveDisk(volume.uuid.clone())],
        ));
    }
    Ok(steps)
}

/// The same change of the configuration when nobody goes back behind it: what comes next removes data.
fn for_good(switch: Step) -> Step {
    Step::Commit {
        apply: switch.changes().to_vec(),
    }
}

/// The configuration names the new disks, and `left` as disks that nobody uses. Any other of the old ones is forgotten.
fn switch(old: &Subject, new: &Subject, left: Vec<Disk>) -> Step {
    let uuid = |disk: &Disk| disk.uuid.clone();
    let before: BTreeSet<_> = old.disks.iter().map(uuid).collect();
    let then: BTreeSet<_> = new.disks.iter().chain(&left).map(uuid).collect();
    let forget = |uuid: &String| Change::RemoveDisk(uuid.clone());
    let disks = |disks: &[Disk]| -> Vec<Change> { disks.iter().cloned().map(Change::Disk).collect() };
    let instance = |subject: &Subject| Change::Instance(subject.instance.clone());
    let apply = before.difference(&then).map(forget);
    let revert = then.difference(&before).map(forget);
    Step::Configure {
        apply: apply
            .chain(disks(&new.disks))
            .chain(disks(&left))
            .chain([instance(new)])
            .collect(),
        revert: revert.chain(disks(&old.disks)).chain([instance(old)]).collect(),
    }
}
