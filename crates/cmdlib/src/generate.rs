//! Disks made from wishes: every template's tree of devices, with its names, nodes and parameters (`GenerateDiskTemplate`).

use std::ops::Range;

use gnt_config::device::{DRBD_META_SIZE, FileDriver, LogicalDevice, LogicalId};
use gnt_config::template::{self, DiskTemplate};
use gnt_config::{Disk, Mebibytes};

#[cfg(test)]
mod tests;

use crate::compute::DiskSpec;
use crate::ids::{DrbdNumbers, Ids};

/// Directory of the disks inside a Gluster volume.
const GLUSTER_DIR: &str = "ganeti";

/// What disks are generated from.
#[derive(Debug, Clone)]
pub struct GenerateRequest<'a> {
    /// Template of all the disks.
    pub template: DiskTemplate,
    /// UUID of the instance.
    pub instance_uuid: &'a str,
    /// UUID of its primary node.
    pub primary_node: &'a str,
    /// UUIDs of its secondary nodes: one in [`template::NEEDS_SECONDARY`], otherwise none.
    pub secondary_nodes: &'a [String],
    /// The wishes.
    pub disks: &'a [DiskSpec],
    /// Where the files of disks go, see [`calculate_file_storage_dir`](crate::compute::calculate_file_storage_dir).
    pub file_storage_dir: Option<&'a str>,
    /// How files are presented to the hypervisor.
    pub file_driver: FileDriver,
    /// Index of the first disk: how many the instance has already.
    pub base_index: u32,
    /// Volume group of disks that name none.
    pub default_vg: Option<&'a str>,
    /// Volume group of DRBD's metadata for disks that name none: `metavg` of
    /// [`DrbdParams`](gnt_config::params::DrbdParams).
    pub default_metavg: Option<&'a str>,
}

impl<'a> GenerateRequest<'a> {
    /// The first disks of an instance that need nothing but a primary node: ext, rbd, blockdev.
    pub fn new(
        template: DiskTemplate,
        instance_uuid: &'a str,
        primary_node: &'a str,
        disks: &'a [DiskSpec],
    ) -> Self {
        Self {
            template,
            instance_uuid,
            primary_node,
            secondary_nodes: &[],
            disks,
            file_storage_dir: None,
            file_driver: FileDriver::Loop,
            base_index: 0,
            default_vg: None,
            default_metavg: None,
        }
    }
}

/// Why disks cannot be generated: the operation did not check what it asks for (`errors.ProgrammerError`), or, with
/// `Reserve`, the cluster has no DRBD numbers left. `E` is [`Ids::Error`].
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum GenerateError<E: std::error::Error + 'static> {
    /// Templates in [`template::NEEDS_SECONDARY`] have one secondary node, all others none.
    #[error("{template} disks cannot have {found} secondary nodes")]
    SecondaryNodes {
        /// The template.
        template: DiskTemplate,
        /// How many secondary nodes there are.
        found: usize,
    },
    /// The secondary node is the primary one.
    #[error("node {node} cannot be both primary and secondary node")]
    SecondaryIsPrimary {
        /// UUID of the node.
        node: String,
    },
    /// A wish is for a disk of another template.
    #[error("disk {disk}: the wish is for a disk of type {found}, expected {template}")]
    WrongTemplate {
        /// Index of the disk.
        disk: u32,
        /// The template asked for.
        template: DiskTemplate,
        /// The template of the wish.
        found: DiskTemplate,
    },
    /// A diskless instance was to get disks.
    #[error("a diskless instance cannot have {disks} disks")]
    Diskless {
        /// How many.
        disks: usize,
    },
    /// The disks' indexes do not fit.
    #[error("{disks} disks from index {base_index} are too many")]
    TooMany {
        /// Index of the first.
        base_index: u32,
        /// How many.
        disks: usize,
    },
    /// The logical id of a disk needs something that nobody gave.
    #[error("disk {disk}: {template} disks need {what}")]
    Missing {
        /// Index of the disk.
        disk: u32,
        /// The template.
        template: DiskTemplate,
        /// What is missing.
        what: &'static str,
    },
    /// No port or minors could be had.
    #[error("disk {disk}: no DRBD port and minors could be reserved on nodes {nodes:?}")]
    Reserve {
        /// Index of the disk.
        disk: u32,
        /// UUIDs of its nodes.
        nodes: [String; 2],
        /// Why.
        #[source]
        source: E,
    },
}

/// Generates the disks that `request` wishes for, in its order. Nothing is reserved unless every name could be made;
/// what is reserved when a later disk fails belongs to the operation on whose behalf `ids` hands out.
///
/// The disks are as Ganeti generates them: `params` has only what was wished, not what the template's parameters say, and
/// children have neither mode nor name. An ext disk for which no provider was named gets
/// [`DEFAULT_PROVIDER`](gnt_config::device::DEFAULT_PROVIDER).
pub fn generate_disk_template<I: Ids>(
    request: &GenerateRequest<'_>,
    ids: &mut I,
) -> Result<Vec<Disk>, GenerateError<I::Error>> {
    let Some(device) = request.template.device() else {
        return match request.disks.len() {
            0 => Ok(Vec::new()),
            disks => Err(GenerateError::Diskless { disks }),
        };
    };
    let indexes = request.check()?;
    let wishes = || indexes.clone().zip(request.disks);
    let names: Vec<Name> = wishes()
        .map(|(index, spec)| request.name(device, index, spec, ids))
        .collect::<Result<_, _>>()?;
    wishes()
        .zip(names)
        .map(|((index, spec), name)| request.disk(index, spec, name, ids))
        .collect()
}

/// What a disk is called, before it has what must be reserved.
enum Name<'a> {
    /// One device.
    Single(LogicalDevice, LogicalId),
    /// A device mirrored between two nodes, on two volumes of each.
    Mirror {
        nodes: [&'a str; 2],
        data: LogicalId,
        meta: LogicalId,
    },
}

impl<'a> GenerateRequest<'a> {
    /// The indexes of the disks, if the request makes sense as a whole.
    fn check<E: std::error::Error>(&self) -> Result<Range<u32>, GenerateError<E>> {
        let template = self.template;
        if template::NEEDS_SECONDARY.contains(template) {
            self.secondary_node()?;
        } else if !self.secondary_nodes.is_empty() {
            return Err(self.wrong_secondary_nodes());
        }
        let disks = self.disks.len();
        let base_index = self.base_index;
        let end = u32::try_from(disks)
            .ok()
            .and_then(|disks| base_index.checked_add(disks));
        let indexes = base_index..end.ok_or(GenerateError::TooMany { base_index, disks })?;
        for (disk, spec) in indexes.clone().zip(self.disks) {
            let found = spec.dev_type;
            if found != template {
                return Err(GenerateError::WrongTemplate {
                    disk,
                    template,
                    found,
                });
            }
        }
        Ok(indexes)
    }

    /// The one secondary node of a template that has one.
    fn secondary_node<E: std::error::Error>(&self) -> Result<&'a str, GenerateError<E>> {
        match self.secondary_nodes {
            [node] if node == self.primary_node => {
                Err(GenerateError::SecondaryIsPrimary { node: node.clone() })
            }
            [node] => Ok(node),
            _ => Err(self.wrong_secondary_nodes()),
        }
    }

    fn wrong_secondary_nodes<E: std::error::Error>(&self) -> GenerateError<E> {
        GenerateError::SecondaryNodes {
            template: self.template,
            found: self.secondary_nodes.len(),
        }
    }

    /// Names the disk with index `disk`. Ids are drawn only for names that have one in them.
    fn name<I: Ids>(
        &self,
        device: LogicalDevice,
        disk: u32,
        spec: &DiskSpec,
        ids: &mut I,
    ) -> Result<Name<'a>, GenerateError<I::Error>> {
        let template = self.template;
        let missing = |what| GenerateError::Missing { disk, template, what };
        let volume_group = |wish: &Option<String>, default: Option<&str>, what| {
            let vg = wish.as_deref().or(default).filter(|vg| !vg.is_empty());
            vg.map(str::to_owned).ok_or_else(|| missing(what))
        };
        let mut volume = || match template::LVM.contains(template) {
            true => format!("{}.disk{disk}", ids.unique_id()),
            false => format!("{}.{template}.disk{disk}", ids.unique_id()),
        };
        let driver = self.file_driver;
        let logical_id = match device {
            LogicalDevice::Plain => LogicalId::Lv {
                vg: volume_group(&spec.vg, self.default_vg, "a volume group")?,
                lv: volume(),
            },
            LogicalDevice::Drbd => {
                let data_vg = volume_group(&spec.vg, self.default_vg, "a volume group")?;
                let meta_vg = volume_group(&spec.metavg, self.default_metavg, "a volume group for metadata")?;
                let prefix = volume();
                return Ok(Name::Mirror {
                    nodes: [self.primary_node, self.secondary_node()?],
                    data: LogicalId::Lv {
                        vg: data_vg,
                        lv: format!("{prefix}_data"),
                    },
                    meta: LogicalId::Lv {
                        vg: meta_vg,
                        lv: format!("{prefix}_meta"),
                    },
                });
            }
            LogicalDevice::File | LogicalDevice::SharedFile => {
                let dir = self
                    .file_storage_dir
                    .ok_or_else(|| missing("a file storage directory"))?;
                LogicalId::File {
                    driver,
                    path: format!("{dir}/{}", volume()),
                }
            }
            LogicalDevice::Gluster => LogicalId::Gluster {
                driver,
                path: format!("{GLUSTER_DIR}/{}.{disk}", self.instance_uuid),
            },
            LogicalDevice::Blockdev => LogicalId::BlockDev {
                path: spec.adopt.clone().ok_or_else(|| missing("a device to adopt"))?,
            },
            LogicalDevice::Rbd => LogicalId::Rbd { volume: volume() },
            LogicalDevice::Ext => LogicalId::Ext {
                provider: spec.provider_name().to_owned(),
                volume: volume(),
            },
        };
        Ok(Name::Single(device, logical_id))
    }

    fn disk<I: Ids>(
        &self,
        index: u32,
        spec: &DiskSpec,
        name: Name<'_>,
        ids: &mut I,
    ) -> Result<Disk, GenerateError<I::Error>> {
        let mut disk = match name {
            Name::Single(device, logical_id) => self.single(device, spec, logical_id, ids),
            Name::Mirror { nodes, data, meta } => mirror(index, spec.size, nodes, [data, meta], ids)?,
        };
        disk.iv_name = Some(format!("disk/{index}"));
        disk.mode = Some(spec.mode);
        disk.name.clone_from(&spec.name);
        Ok(disk)
    }

    fn single(
        &self,
        device: LogicalDevice,
        spec: &DiskSpec,
        logical_id: LogicalId,
        ids: &mut impl Ids,
    ) -> Disk {
        let local = template::NODE_LOCAL.contains(self.template);
        let nodes = local.then(|| self.primary_node.to_owned());
        Disk {
            uuid: ids.unique_id(),
            nodes: nodes.into_iter().collect(),
            params: spec.params(),
            spindles: spec.spindles,
            ..Disk::new(device, logical_id, spec.size)
        }
    }
}

/// A drbd device on a data and a metadata volume (`_GenerateDRBD8Branch`).
fn mirror<I: Ids>(
    index: u32,
    size: Mebibytes,
    nodes: [&str; 2],
    [data, meta]: [LogicalId; 2],
    ids: &mut I,
) -> Result<Disk, GenerateError<I::Error>> {
    let owned = || nodes.map(str::to_owned);
    let mut volume = |logical_id, size| Disk {
        uuid: ids.unique_id(),
        nodes: owned().to_vec(),
        ..Disk::new(LogicalDevice::Plain, logical_id, size)
    };
    let children = vec![volume(data, size), volume(meta, DRBD_META_SIZE)];
    let uuid = ids.unique_id();
    let reserve = |source| GenerateError::Reserve {
        disk: index,
        nodes: owned(),
        source,
    };
    let DrbdNumbers { port, minors } = ids.drbd(&uuid, nodes).map_err(reserve)?;
    let logical_id = LogicalId::Drbd8 {
        nodes: owned(),
        port: Some(port),
        minors,
        secret: ids.secret(),
    };
    Ok(Disk {
        uuid,
        children,
        nodes: owned().to_vec(),
        ..Disk::new(LogicalDevice::Drbd, logical_id, size)
    })
}
