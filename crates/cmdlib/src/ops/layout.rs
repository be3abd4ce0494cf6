//! From wishes to disks: what `add` and `modify` share.

use std::collections::{BTreeMap, BTreeSet};
use std::path::Path;

use gnt_bdev::{Operation, Owner, Target};
use gnt_config::template::{FILEBASED, MUST_ADOPT, NEEDS_SECONDARY};
use gnt_config::{Disk, DiskTemplate, FileDriver, LogicalDevice, LogicalId, Mebibytes, Object};
use gnt_store::{Store, StoreError};

use crate::compute::{ComputeError, calculate_file_storage_dir, check_requests};
use crate::error::{Error, Result};
use crate::generate::{GenerateRequest, generate_disk_template};
use crate::ids::Ids;
use crate::node::Node;
use crate::ops::room::check_room;
use crate::ops::{MAX_DISKS, Subject, info_text};
use crate::saga::Nodes;
use crate::step::{Label, Place, Step};

/// Lays out new disks for the subject's instance.
pub(crate) struct Layout<'a> {
    pub(crate) store: &'a Store,
    pub(crate) subject: &'a Subject,
    pub(crate) template: DiskTemplate,
    /// UUID of the secondary node.
    pub(crate) secondary: Option<&'a str>,
    pub(crate) file_driver: FileDriver,
    /// Disks that are not the instance's any more, and still there.
    pub(crate) others: &'a [Disk],
    /// Whether the data is on the primary node already, in logical volumes: only what mirrors them is made.
    pub(crate) has_data: bool,
    /// A directory between the cluster's and the instance's.
    pub(crate) file_storage_dir: Option<&'a str>,
}

/// A disk that is to be.
pub(crate) struct NewDisk {
    pub(crate) disk: Disk,
    adopted: Option<Adopted>,
}

/// A volume that becomes a disk.
struct Adopted {
    volume: LogicalId,
    size: Mebibytes,
    /// Whose it says it is.
    owner: Owner,
}

impl NewDisk {
    /// The steps that make it on each of its nodes, or make it of the volume that is adopted: that gets the disk's name and is told whose it
    /// is.
    pub(crate) fn steps(&self, subject: &Subject) -> Result<Vec<Step>> {
        let (at, info) = (subject.place(&self.disk)?, info_text(&subject.instance.name));
        let Some(Adopted { volume, owner, .. }) = &self.adopted else {
            let halves = subject.halves(&self.disk)?.into_iter();
            let create = |at| Step::CreateDisk {
                at,
                info: info.clone(),
            };
            return Ok(halves.map(create).collect());
        };
        let mut before = at.clone();
        before.disk.logical_id = volume.clone();
        let to = at.disk.logical_id.to_json();
        let label = Label { at, info };
        Ok(vec![
            Step::RenameDisk { at: before, to },
            Step::SetInfo {
                before: Some(Box::new(label.owned_by(owner))),
                label,
            },
        ])
    }
}

impl Layout<'_> {
    /// The disks wished for, numbered from where the instance's disks end. Their nodes are asked whether they can make them, the primary one
    /// also for what is adopted.
    pub(crate) async fn disks<N: Nodes>(
        &self,
        wishes: &[Object],
        nodes: &N,
        ids: &mut impl Ids<Error = StoreError>,
    ) -> Result<Vec<NewDisk>> {
        let node = self.subject.reach(nodes, &self.subject.node.uuid)?;
        let Subject {
            instance,
            disks,
            cluster,
            ..
        } = self.subject;
        self.check(wishes)?;
        let default_vg = cluster.volume_group_name.as_deref();
        // At most MAX_DISKS.
        let base_index = disks.len() as u32;
        let mut specs = check_requests(base_index, wishes, self.template, default_vg)?;
        if !self.subject.exclusive_storage && specs.iter().any(|spec| spec.spindles.is_some()) {
            return Err(Error::Unfit {
                what: format!(
                    "node {} has no exclusive storage, in which spindles count",
                    self.subject.node.name
                ),
                hint: "leave spindles out",
            });
        }
        let mut volumes = Vec::new();
        for spec in &mut specs {
            match &spec.adopt {
                Some(device) if MUST_ADOPT.contains(self.template) => {
                    spec.size = node.device_size(device).await?;
                }
                Some(volume) => {
                    let vg = spec.vg.clone().unwrap_or_default();
                    let lv = volume.clone();
                    volumes.push(LogicalId::Lv { vg, lv });
                }
                None => {}
            }
        }
        // All disks are adopted or none.
        let adopted = self.adoptable(volumes, node).await?;
        for (spec, volume) in specs.iter_mut().zip(&adopted) {
            spec.size = volume.size;
        }
        let secondary: Vec<String> = self.secondary.into_iter().map(str::to_owned).collect();
        let directory = self.directory()?;
        let request = GenerateRequest {
            template: self.template,
            instance_uuid: &instance.uuid,
            primary_node: &self.subject.node.uuid,
            secondary_nodes: &secondary,
            disks: &specs,
            file_storage_dir: directory.as_deref(),
            file_driver: self.file_driver,
            base_index,
            default_vg,
            default_metavg: Some(self.subject.params.drbd.metavg.as_str()),
        };
        let mut generated = generate_disk_template(&request, ids)?;
        self.number_apart(&mut generated)?;
        if adopted.is_empty() {
            let mut halves = Vec::new();
            for disk in &generated {
                halves.extend(self.to_make(disk)?);
            }
            check_room(nodes, &halves).await?;
            for half in &halves {
                half.on(nodes)?
                    .check(&half.disk, &half.instance, Operation::Create)
                    .await?;
            }
            self.check_adopted(&generated, node).await?;
        }
        let mut adopted = adopted.into_iter();
        Ok(generated
            .into_iter()
            .map(|disk| NewDisk {
                disk,
                adopted: adopted.next(),
            })
            .collect())
    }

    /// What is made of a disk, on each of its nodes.
    fn to_make(&self, disk: &Disk) -> Result<Vec<Place>> {
        let mut halves = self.subject.halves(disk)?;
        let primary = halves.iter_mut().find(|half| half.node == self.subject.node.uuid);
        if let (true, Some(half), Some(metadata)) = (self.has_data, primary, disk.children.last()) {
            *half.disk = metadata.clone();
        }
        Ok(halves)
    }

    /// A volume whose name has the disk's index in it may be there already: it belongs to a disk that had the index before. The new one
    /// gets the next number that is free.
    fn number_apart(&self, generated: &mut [Disk]) -> Result<()> {
        let others = self.subject.disks.iter().chain(self.others);
        let mut taken: BTreeSet<_> = others.flat_map(Disk::volume_keys).collect();
        for disk in generated {
            while let LogicalId::Gluster { path, .. } = &disk.logical_id {
                let key = disk.volume_keys().concat();
                if !taken.contains(&key) && self.store.owner_of_volume(&key)?.is_none() {
                    taken.insert(key);
                    break;
                }
                let numbered = path.rsplit_once('.');
                let next = numbered.and_then(|(name, number)| {
                    let number: u32 = number.parse().ok()?;
                    Some(format!("{name}.{}", number.checked_add(1)?))
                });
                let Some(next) = next else { break };
                disk.logical_id = disk.logical_id.with_volume(next);
            }
        }
        Ok(())
    }

    /// The volumes that are to be adopted: those that are there, that nothing uses, and that no disk is.
    async fn adoptable(&self, ids: Vec<LogicalId>, node: &impl Node) -> Result<Vec<Adopted>> {
        let Some(device) = self.template.device().filter(|_| !ids.is_empty()) else {
            return Ok(Vec::new());
        };
        let mut places = Vec::new();
        for id in ids {
            let mut disk = Disk::new(device, id, Mebibytes(0));
            disk.nodes = vec![self.subject.node.uuid.clone()];
            for key in disk.volume_keys() {
                if let Some(taken) = self.store.owner_of_volume(&key)? {
                    return Err(self.taken(&disk, &disk, &taken)?);
                }
            }
            places.push(self.subject.place(&disk)?);
        }
        let targets: Vec<_> = places
            .iter()
            .map(|at| Target::new(&at.disk, &at.instance))
            .collect();
        let found = node.find_all(&targets).await?;
        let known = node.volumes(device, &places[0].disk.params).await?;
        let mut adopted = Vec::new();
        for (at, found) in places.iter().zip(found) {
            let volume = at.disk.logical_id.clone();
            let bytes = found?.and_then(|status| status.device.bytes);
            let size = Mebibytes::from_bytes(bytes.unwrap_or_default());
            if size == Mebibytes(0) {
                return Err(Error::NothingToAdopt {
                    volume: volume.to_string(),
                    node: self.subject.node.name.clone(),
                });
            }
            node.check(&at.disk, &at.instance, Operation::Rename).await?;
            let known = known.iter().find(|known| known.logical_id == volume);
            let owner = known.map(|known| known.owner.clone()).unwrap_or_default();
            adopted.push(Adopted { volume, size, owner });
        }
        Ok(adopted)
    }

    /// No two disks may be one device, whatever paths lead to it.
    async fn check_adopted(&self, adopted: &[Disk], node: &impl Node) -> Result<()> {
        if !MUST_ADOPT.contains(self.template) {
            return Ok(());
        }
        let mut known = BTreeMap::new();
        // Their paths are absolute.
        let root = format!("{}:", LogicalDevice::Blockdev);
        for uuid in self.store.owners_of_volumes_in(&root)? {
            if let Some(disk) = self.store.disk(&uuid)?
                && let Some(numbers) = self.numbers(&disk, node).await
            {
                known.insert(numbers, disk);
            }
        }
        for disk in adopted {
            let Some(numbers) = self.numbers(disk, node).await else {
                continue;
            };
            let Some(taken) = known.insert(numbers, disk.clone()) else {
                continue;
            };
            let (device, other) = (disk.logical_id.volume(), taken.logical_id.volume());
            if let (Some(first), Some(second), true) = (taken.index(), disk.index(), adopted.contains(&taken))
            {
                return Err(Error::Compute(ComputeError::Duplicate {
                    first,
                    second,
                    key: "adopt",
                    value: format!("{other}: {device} is the same device"),
                }));
            }
            return Err(self.taken(disk, &taken, &taken.uuid)?);
        }
        Ok(())
    }

    /// The error for a device that is, as `other`, the disk with this UUID already.
    fn taken(&self, disk: &Disk, other: &Disk, uuid: &str) -> Result<Error> {
        let owner = match self.store.owner_of_disk(uuid)? {
            Some(owner) => self.store.instance(&owner)?,
            None => None,
        };
        Ok(Error::DeviceTaken {
            device: disk.logical_id.volume().into_owned(),
            disk: other.logical_id.volume().into_owned(),
            owner: owner.map(|instance| instance.name),
        })
    }

    /// What tells the device of a disk from all others on its node; none if it is not there.
    async fn numbers(&self, disk: &Disk, node: &impl Node) -> Option<(u32, u32)> {
        let place = self.subject.place(disk).ok()?;
        let device = node.find(&place.disk, &place.instance).await.ok()??.device;
        device.major.zip(device.minor)
    }

    fn check(&self, wishes: &[Object]) -> Result<()> {
        let (template, unfit) = (self.template, |what, hint| Err(Error::Unfit { what, hint }));
        // One that has no driver cannot be enabled either.
        if let Some(device) = template.device() {
            gnt_bdev::driver(device).map_err(crate::node::NodeError::from)?;
        }
        if !self.subject.cluster.enabled_disk_templates.contains(&template) {
            return Err(Error::TemplateDisabled { template });
        }
        if template.device().is_none() && !wishes.is_empty() {
            return unfit(
                "a diskless instance has no disks".to_owned(),
                "choose another template with -t",
            );
        }
        if template.device().is_some() && wishes.is_empty() {
            return unfit(
                format!("template {template} needs at least one disk"),
                "say which with --disk 0:size=…",
            );
        }
        if self.file_storage_dir.is_some() && !FILEBASED.contains(template) {
            return unfit(
                format!("{template} disks are not in a file storage directory"),
                "leave out --file-storage-dir, or choose -t file",
            );
        }
        if self.subject.disks.len() + wishes.len() > MAX_DISKS {
            return unfit(
                format!("an instance has at most {MAX_DISKS} disks"),
                "use fewer, larger disks",
            );
        }
        match (NEEDS_SECONDARY.contains(template), self.secondary) {
            (true, None) => unfit(
                format!("template {template} needs a secondary node"),
                "use -n PRIMARY:SECONDARY",
            ),
            (false, Some(_)) => unfit(
                format!("template {template} has no secondary node"),
                "leave :SECONDARY out of -n",
            ),
            _ => Ok(()),
        }
    }

    /// Where the instance's files are, or are to be.
    fn directory(&self) -> Result<Option<String>> {
        if !FILEBASED.contains(self.template) {
            return Ok(None);
        }
        // Disks added later go to the others.
        if let Some(LogicalId::File { path, .. }) = self.subject.disks.first().map(|disk| &disk.logical_id) {
            return Ok(Path::new(path).parent().and_then(Path::to_str).map(str::to_owned));
        }
        let Subject {
            instance, cluster, ..
        } = self.subject;
        Ok(calculate_file_storage_dir(
            self.template,
            cluster,
            &instance.name,
            self.file_storage_dir,
        )?)
    }
}
