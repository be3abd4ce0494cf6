//! The procedures with their arguments.

use std::time::Duration;

use gnt_bdev::transfer::Piece;
use gnt_bdev::{Layer, Operation, Target, UnitField, UnitType};
use gnt_cmdlib::node::Role;
use gnt_config::template::StorageType;
use gnt_config::{Disk, LogicalDevice, LogicalId, Mebibytes, Object, Settings};
use serde_json::{Value, json};
use strum::{Display, EnumDiscriminants, EnumIter, EnumString, IntoStaticStr, VariantNames as _};

use super::Dialect;
use super::arguments::{Arguments, BadCall, More};
use super::pieces;

/// `constants.SO_FIX_CONSISTENCY`.
const FIX_CONSISTENCY: &str = "fix-consistency";
/// `constants.SF_ALLOCATABLE`.
const ALLOCATABLE: &str = "allocatable";

/// A disk as a call carries it.
#[derive(Debug, Clone)]
pub struct DiskOf {
    /// The disk, with its parameters filled in.
    pub disk: Disk,
    /// The instance; empty where the caller does not tell.
    pub instance: String,
}

impl DiskOf {
    /// What a target tells.
    pub fn new(disk: &Disk, instance: &str) -> Self {
        Self {
            disk: disk.clone(),
            instance: instance.to_owned(),
        }
    }

    /// The disk to work on.
    pub fn target(&self) -> Target<'_> {
        Target::new(&self.disk, &self.instance)
    }
}

/// All storage of one type, as a call carries it.
#[derive(Debug, Clone)]
pub struct StorageOf {
    /// The type.
    pub kind: UnitType,
    /// Where it is, if its units are directories.
    pub directories: Vec<String>,
}

/// One call.
#[derive(Debug, Clone, EnumDiscriminants)]
#[strum_discriminants(name(Procedure))]
#[strum_discriminants(derive(Hash, Display, EnumString, IntoStaticStr, EnumIter))]
#[strum_discriminants(strum(serialize_all = "snake_case"))]
#[strum_discriminants(doc = "What a node can be asked over the network.")]
pub enum Call {
    /// The version of the protocol, and for ours who the node is.
    Version,
    /// Sizes of block devices.
    BdevSizes {
        /// Their paths.
        paths: Vec<String>,
    },
    /// Logical volumes.
    LvList {
        /// Names of volume groups; all if there are none.
        groups: Vec<String>,
    },
    /// Volume groups.
    VgList,
    /// Logical volumes, with what they are on.
    NodeVolumes,
    /// Units of storage.
    StorageList {
        /// The storage.
        storage: StorageOf,
        /// Name of one unit; all if there is none.
        name: Option<String>,
        /// What to tell of each, in this order.
        fields: Vec<UnitField>,
    },
    /// Changes a unit of storage.
    StorageModify {
        /// The storage.
        storage: StorageOf,
        /// Name of the unit.
        name: String,
        /// Whether new disks may be put on it, if that is to change. Physical volumes only have this.
        allocatable: Option<bool>,
    },
    /// Makes a volume group consistent; nothing else can be executed.
    StorageExecute {
        /// The storage.
        storage: StorageOf,
        /// Name of the unit.
        name: String,
    },
    /// External Storage providers.
    ExtstorageDiagnose,
    /// What the kernel calls for events of drbd.
    DrbdHelper,
    /// Makes a directory for files.
    FileStorageDirCreate {
        /// Its path.
        path: String,
    },
    /// Removes a directory for files.
    FileStorageDirRemove {
        /// Its path.
        path: String,
    },
    /// Renames a directory for files.
    FileStorageDirRename {
        /// Its path.
        from: String,
        /// The path that it gets.
        to: String,
    },
    /// Makes a disk.
    BlockdevCreate {
        /// The disk.
        disk: DiskOf,
        /// Whether the instance runs on this node.
        on_primary: bool,
        /// Metadata to keep with it.
        info: String,
        /// Whether volumes have disks for themselves. Nodes of ours know.
        exclusive_storage: bool,
    },
    /// Assembles a disk.
    BlockdevAssemble {
        /// The disk.
        disk: DiskOf,
        /// The instance as Ganeti describes it.
        owner: Object,
        /// What the node is to the instance.
        role: Role,
        /// Its place among the instance's disks.
        index: u32,
    },
    /// Opens disks.
    BlockdevOpen {
        /// The disks.
        disks: Vec<DiskOf>,
        /// Whether this node alone will write.
        exclusive: bool,
    },
    /// Closes disks.
    BlockdevClose {
        /// The disks.
        disks: Vec<DiskOf>,
    },
    /// Shuts a disk down.
    BlockdevShutdown {
        /// The disk.
        disk: DiskOf,
    },
    /// Removes a disk.
    BlockdevRemove {
        /// The disk.
        disk: DiskOf,
    },
    /// Renames disks.
    BlockdevRename {
        /// Each with the id that it gets.
        disks: Vec<(DiskOf, LogicalId)>,
    },
    /// Keeps metadata with a disk.
    BlockdevSetinfo {
        /// The disk.
        disk: DiskOf,
        /// The metadata.
        info: String,
    },
    /// Enlarges a disk.
    BlockdevGrow {
        /// The disk, with its size until now.
        disk: DiskOf,
        /// By how many mebibytes; a request to shrink is for the node to refuse.
        amount: i64,
        /// Whether only to check that it could be done.
        dry_run: bool,
        /// Which part.
        layer: Layer,
        /// Whether volumes have disks for themselves. Nodes of ours know.
        exclusive_storage: bool,
    },
    /// Zeroes part of a disk.
    BlockdevWipe {
        /// The disk.
        disk: DiskOf,
        /// Where to begin, in bytes.
        offset: u64,
        /// How many bytes.
        length: u64,
    },
    /// Copies a disk to another.
    BlockdevConvert {
        /// The disk to read.
        from: DiskOf,
        /// The disk to write.
        to: Box<DiskOf>,
    },
    /// Writes an image to a disk.
    BlockdevImage {
        /// The disk.
        disk: DiskOf,
        /// Absolute path of the image.
        image: String,
        /// The greatest size that it may have.
        size: Mebibytes,
    },
    /// Copies a disk as it is.
    BlockdevSnapshot {
        /// The disk.
        disk: DiskOf,
        /// Name of the copy.
        name: Option<String>,
        /// Its size.
        size: Option<Mebibytes>,
    },
    /// Looks for a disk.
    BlockdevFind {
        /// The disk.
        disk: DiskOf,
    },
    /// Real sizes of disks.
    BlockdevGetdimensions {
        /// The disks.
        disks: Vec<DiskOf>,
    },
    /// How disks are mirrored, where all must be there.
    BlockdevGetmirrorstatus {
        /// The disks.
        disks: Vec<DiskOf>,
    },
    /// How disks are mirrored.
    BlockdevGetmirrorstatusMulti {
        /// The disks.
        disks: Vec<DiskOf>,
    },
    /// Gives a drbd disk the volumes below it.
    BlockdevAddchildren {
        /// The disk, with these volumes below.
        disk: DiskOf,
        /// The disk as it was sent.
        sent: Box<Disk>,
    },
    /// Takes the volumes below a drbd disk from it.
    BlockdevRemovechildren {
        /// The disk, with these volumes below.
        disk: DiskOf,
        /// The disk as it was sent.
        sent: Box<Disk>,
    },
    /// Stops or resumes the synchronisation of disks.
    BlockdevPauseResumeSync {
        /// The disks.
        disks: Vec<DiskOf>,
        /// Whether to stop it.
        pause: bool,
    },
    /// Connects drbd disks.
    DrbdAttachNet {
        /// The disks.
        disks: Vec<DiskOf>,
        /// Whether both nodes may write.
        multimaster: bool,
    },
    /// Disconnects drbd disks.
    DrbdDisconnectNet {
        /// The disks.
        disks: Vec<DiskOf>,
    },
    /// How far the synchronisation of drbd disks is.
    DrbdWaitSync {
        /// The disks.
        disks: Vec<DiskOf>,
    },
    /// Which drbd disks are to be activated again.
    DrbdNeedsActivation {
        /// The disks.
        disks: Vec<DiskOf>,
    },
    /// Whether an operation can be done to a disk.
    GntCheck {
        /// The disk.
        disk: DiskOf,
        /// The operation.
        operation: Operation,
    },
    /// Assembles disks.
    GntAssembleAll {
        /// The disks.
        disks: Vec<DiskOf>,
        /// What the node is to their instances.
        role: Role,
    },
    /// Looks for disks.
    GntFindAll {
        /// The disks.
        disks: Vec<DiskOf>,
    },
    /// Opens disks that a dead node had open.
    GntTakeOver {
        /// The disks.
        disks: Vec<DiskOf>,
        /// Name of that node.
        from: String,
    },
    /// Reads part of a disk.
    GntRead {
        /// The disk.
        disk: DiskOf,
        /// Where to begin, in bytes.
        offset: u64,
        /// How many bytes.
        length: u64,
    },
    /// Writes parts of a disk.
    GntWrite {
        /// The disk.
        disk: DiskOf,
        /// What to write; the bytes follow the arguments.
        pieces: Vec<Piece>,
    },
    /// The size of an image.
    GntImageSize {
        /// Its path.
        path: String,
    },
    /// Reads part of an image.
    GntReadImage {
        /// Its path.
        path: String,
        /// Where to begin, in bytes.
        offset: u64,
        /// How many bytes.
        length: u64,
    },
    /// Copies part of a disk to another.
    GntCopy {
        /// The disk to read.
        from: DiskOf,
        /// The disk to write.
        to: Box<DiskOf>,
        /// Where to begin, in bytes.
        offset: u64,
        /// How many bytes.
        length: u64,
    },
    /// SHA-256 of part of a disk.
    GntChecksum {
        /// The disk.
        disk: DiskOf,
        /// Where to begin, in bytes.
        offset: u64,
        /// How many bytes.
        length: u64,
    },
    /// Volumes that are there.
    GntVolumes {
        /// Their type.
        device: LogicalDevice,
        /// Parameters that tell where to look.
        params: Object,
    },
    /// Room for volumes.
    GntSpace {
        /// Their type.
        device: LogicalDevice,
        /// Parameters that tell where to look.
        params: Object,
    },
    /// Volumes that are attached.
    GntAttached {
        /// Their type.
        device: LogicalDevice,
        /// Parameters that tell where to look.
        params: Object,
    },
    /// Minors that are set up.
    GntDrbdMinors,
    /// Links to active disks.
    GntLinks,
    /// Renames a link.
    GntMoveLink {
        /// The instance.
        instance: String,
        /// Index of the disk.
        from: u32,
        /// The index that it gets.
        to: u32,
    },
    /// Removes a link.
    GntRemoveLink {
        /// The instance.
        instance: String,
        /// Index of the disk.
        index: u32,
    },
    /// Ends what an operation left running.
    GntEndOperation {
        /// Its id.
        operation: String,
    },
    /// Tells the node what it works by.
    GntConfigure {
        /// Name of the node.
        name: String,
        /// The address that it listens on when it is started again.
        address: String,
        /// Where things are.
        settings: Box<Settings>,
        /// Whether volumes have disks for themselves.
        exclusive_storage: bool,
    },
}

impl Call {
    /// Its procedure.
    pub fn procedure(&self) -> Procedure {
        self.into()
    }

    /// Reads the arguments of a call; `data` is what comes after them.
    pub fn decode(
        procedure: Procedure,
        arguments: Vec<Value>,
        dialect: Dialect,
        data: &[u8],
    ) -> Result<Self, BadCall> {
        let mut args = Arguments::new(procedure.name(), arguments, dialect)?;
        let call = Self::read(procedure, &mut args, data)?;
        args.finish()?;
        match call {
            Self::GntWrite { .. } => Ok(call),
            _ if data.is_empty() => Ok(call),
            _ => Err(pieces::BadPieces {
                told: 0,
                came: data.len() as u64,
            }
            .into()),
        }
    }

    fn read(procedure: Procedure, args: &mut Arguments, data: &[u8]) -> Result<Self, BadCall> {
        Ok(match procedure {
            Procedure::Version => Self::Version,
            Procedure::BdevSizes => Self::BdevSizes {
                paths: args.take("devices")?,
            },
            Procedure::LvList => Self::LvList {
                groups: args.take("vg_name")?,
            },
            Procedure::VgList => Self::VgList,
            Procedure::NodeVolumes => Self::NodeVolumes,
            Procedure::StorageList => Self::StorageList {
                storage: storage(args)?,
                name: args.take("name")?,
                fields: fields(args)?,
            },
            Procedure::StorageModify => {
                let storage = storage(args)?;
                let name = args.take("name")?;
                Self::StorageModify {
                    allocatable: allocatable(args, storage.kind)?,
                    storage,
                    name,
                }
            }
            Procedure::StorageExecute => {
                let storage = storage(args)?;
                let name = args.take("name")?;
                consistency(args, storage.kind)?;
                Self::StorageExecute { storage, name }
            }
            Procedure::ExtstorageDiagnose => Self::ExtstorageDiagnose,
            Procedure::DrbdHelper => Self::DrbdHelper,
            Procedure::FileStorageDirCreate => Self::FileStorageDirCreate {
                path: args.take("file_storage_dir")?,
            },
            Procedure::FileStorageDirRemove => Self::FileStorageDirRemove {
                path: args.take("file_storage_dir")?,
            },
            Procedure::FileStorageDirRename => Self::FileStorageDirRename {
                from: args.take("old_file_storage_dir")?,
                to: args.take("new_file_storage_dir")?,
            },
            Procedure::BlockdevCreate => {
                let disk = disk(args, "bdev")?;
                let _size: Value = args.value("size")?;
                let instance = args.take("owner")?;
                Self::BlockdevCreate {
                    disk: DiskOf { disk, instance },
                    on_primary: args.take("on_primary")?,
                    info: args.take("info")?,
                    exclusive_storage: args.take("exclusive_storage")?,
                }
            }
            Procedure::BlockdevAssemble => {
                let disk = disk(args, "disk")?;
                let owner: Object = args.take("instance")?;
                let instance = owner
                    .get("name")
                    .and_then(Value::as_str)
                    .unwrap_or_default()
                    .to_owned();
                let on_primary: bool = args.take("on_primary")?;
                let index = args.take("idx")?;
                let role = if on_primary {
                    Role::Primary
                } else {
                    Role::Secondary
                };
                let role = args.more().role.unwrap_or(role);
                Self::BlockdevAssemble {
                    disk: DiskOf { disk, instance },
                    owner,
                    role,
                    index,
                }
            }
            Procedure::BlockdevOpen => Self::BlockdevOpen {
                disks: disks_of_one(args)?,
                exclusive: args.take("exclusive")?,
            },
            Procedure::BlockdevClose => Self::BlockdevClose {
                disks: disks_of_one(args)?,
            },
            Procedure::BlockdevShutdown => Self::BlockdevShutdown {
                disk: disk_of(args, "disk")?,
            },
            Procedure::BlockdevRemove => Self::BlockdevRemove {
                disk: disk_of(args, "bdev")?,
            },
            Procedure::BlockdevRename => Self::BlockdevRename {
                disks: renames(args)?,
            },
            Procedure::BlockdevSetinfo => Self::BlockdevSetinfo {
                disk: disk_of(args, "disk")?,
                info: args.take("info")?,
            },
            Procedure::BlockdevGrow => Self::BlockdevGrow {
                disk: disk_of(args, "cf_bdev")?,
                amount: args.take("amount")?,
                dry_run: args.take("dryrun")?,
                layer: match args.take("backingstore")? {
                    true => Layer::BackingStore,
                    false => Layer::Logical,
                },
                exclusive_storage: args.take("es_flag")?,
            },
            Procedure::BlockdevWipe => {
                let disk = disk_of(args, "bdev")?;
                let (offset, length) = (args.take("offset")?, args.take("size")?);
                let bytes = |name, mebibytes: u64| {
                    mebibytes
                        .checked_mul(1 << 20)
                        .ok_or_else(|| args.wrong(name, None))
                };
                let (offset, length) = match args.more().bytes {
                    Some(exactly) => exactly,
                    None => (bytes("offset", offset)?, bytes("size", length)?),
                };
                Self::BlockdevWipe { disk, offset, length }
            }
            Procedure::BlockdevConvert => Self::BlockdevConvert {
                from: disk_of(args, "bdev_src")?,
                to: Box::new(disk_of(args, "bdev_dest")?),
            },
            Procedure::BlockdevImage => Self::BlockdevImage {
                disk: disk_of(args, "bdev")?,
                image: local_path(args, "image")?,
                size: args.take("size")?,
            },
            Procedure::BlockdevSnapshot => Self::BlockdevSnapshot {
                disk: disk_of(args, "cf_bdev")?,
                name: args.take("snap_name")?,
                size: args.take("snap_size")?,
            },
            Procedure::BlockdevFind => Self::BlockdevFind {
                disk: disk_of(args, "disk")?,
            },
            Procedure::BlockdevGetdimensions => Self::BlockdevGetdimensions {
                disks: disks_of(args)?,
            },
            Procedure::BlockdevGetmirrorstatus => Self::BlockdevGetmirrorstatus {
                disks: disks_of(args)?,
            },
            Procedure::BlockdevGetmirrorstatusMulti => Self::BlockdevGetmirrorstatusMulti {
                disks: disks_of(args)?,
            },
            Procedure::BlockdevAddchildren => {
                let (disk, sent) = with_children(args)?;
                Self::BlockdevAddchildren { disk, sent }
            }
            Procedure::BlockdevRemovechildren => {
                let (disk, sent) = with_children(args)?;
                Self::BlockdevRemovechildren { disk, sent }
            }
            Procedure::BlockdevPauseResumeSync => Self::BlockdevPauseResumeSync {
                disks: disks_of(args)?,
                pause: args.take("pause")?,
            },
            Procedure::DrbdAttachNet => Self::DrbdAttachNet {
                disks: disks_of(args)?,
                multimaster: args.take("multimaster")?,
            },
            Procedure::DrbdDisconnectNet => Self::DrbdDisconnectNet {
                disks: disks_of(args)?,
            },
            Procedure::DrbdWaitSync => Self::DrbdWaitSync {
                disks: disks_of(args)?,
            },
            Procedure::DrbdNeedsActivation => Self::DrbdNeedsActivation {
                disks: disks_of(args)?,
            },
            Procedure::GntCheck => Self::GntCheck {
                disk: disk_of(args, "disk")?,
                operation: args.take("operation")?,
            },
            Procedure::GntAssembleAll => Self::GntAssembleAll {
                disks: disks_of(args)?,
                role: args.take("role")?,
            },
            Procedure::GntFindAll => Self::GntFindAll {
                disks: disks_of(args)?,
            },
            Procedure::GntTakeOver => Self::GntTakeOver {
                disks: disks_of(args)?,
                from: args.take("from")?,
            },
            Procedure::GntRead => Self::GntRead {
                disk: disk_of(args, "disk")?,
                offset: args.take("offset")?,
                length: args.take("length")?,
            },
            Procedure::GntWrite => Self::GntWrite {
                disk: disk_of(args, "disk")?,
                pieces: pieces::join(&args.take::<Vec<_>>("extents")?, data)?,
            },
            Procedure::GntImageSize => Self::GntImageSize {
                path: args.take("path")?,
            },
            Procedure::GntReadImage => Self::GntReadImage {
                path: args.take("path")?,
                offset: args.take("offset")?,
                length: args.take("length")?,
            },
            Procedure::GntCopy => Self::GntCopy {
                from: disk_of(args, "from")?,
                to: Box::new(disk_of(args, "to")?),
                offset: args.take("offset")?,
                length: args.take("length")?,
            },
            Procedure::GntChecksum => Self::GntChecksum {
                disk: disk_of(args, "disk")?,
                offset: args.take("offset")?,
                length: args.take("length")?,
            },
            Procedure::GntVolumes => Self::GntVolumes {
                device: args.take("device")?,
                params: args.take("params")?,
            },
            Procedure::GntSpace => Self::GntSpace {
                device: args.take("device")?,
                params: args.take("params")?,
            },
            Procedure::GntAttached => Self::GntAttached {
                device: args.take("device")?,
                params: args.take("params")?,
            },
            Procedure::GntDrbdMinors => Self::GntDrbdMinors,
            Procedure::GntLinks => Self::GntLinks,
            Procedure::GntMoveLink => Self::GntMoveLink {
                instance: args.take("instance")?,
                from: args.take("from")?,
                to: args.take("to")?,
            },
            Procedure::GntRemoveLink => Self::GntRemoveLink {
                instance: args.take("instance")?,
                index: args.take("index")?,
            },
            Procedure::GntEndOperation => Self::GntEndOperation {
                operation: args.take("operation")?,
            },
            Procedure::GntConfigure => Self::GntConfigure {
                name: args.take("name")?,
                address: args.take("address")?,
                settings: args.take("settings")?,
                exclusive_storage: args.take("exclusive_storage")?,
            },
        })
    }

    /// The arguments as they are sent.
    pub fn encode(&self, dialect: Dialect) -> Vec<Value> {
        let mut arguments = self.arguments();
        if dialect == Dialect::Ours {
            arguments.push(json!(self.more()));
        }
        arguments
    }

    /// The bytes that are sent after the arguments.
    pub fn data(&self) -> Vec<u8> {
        match self {
            Self::GntWrite { pieces, .. } => pieces::split(pieces).1,
            _ => Vec::new(),
        }
    }

    fn arguments(&self) -> Vec<Value> {
        match self {
            Self::Version
            | Self::VgList
            | Self::NodeVolumes
            | Self::ExtstorageDiagnose
            | Self::DrbdHelper
            | Self::GntDrbdMinors
            | Self::GntLinks => Vec::new(),
            Self::BdevSizes { paths } => vec![json!(paths)],
            Self::LvList { groups } => vec![json!(groups)],
            Self::StorageList {
                storage,
                name,
                fields,
            } => {
                let fields = fields.iter().map(ToString::to_string);
                storage.with([json!(name), fields.collect()])
            }
            Self::StorageModify {
                storage,
                name,
                allocatable,
            } => {
                let changes = allocatable.map(|flag| (ALLOCATABLE.to_owned(), json!(flag)));
                storage.with([json!(name), Value::Object(changes.into_iter().collect())])
            }
            Self::StorageExecute { storage, name } => storage.with([json!(name), json!(FIX_CONSISTENCY)]),
            Self::FileStorageDirCreate { path }
            | Self::FileStorageDirRemove { path }
            | Self::GntImageSize { path } => vec![json!(path)],
            Self::GntReadImage { path, offset, length } => vec![json!(path), json!(offset), json!(length)],
            Self::FileStorageDirRename { from, to } => vec![json!(from), json!(to)],
            Self::BlockdevCreate {
                disk,
                on_primary,
                info,
                exclusive_storage,
            } => vec![
                json!(disk.disk),
                json!(disk.disk.size),
                json!(disk.instance),
                json!(on_primary),
                json!(info),
                json!(exclusive_storage),
            ],
            Self::BlockdevAssemble {
                disk,
                owner,
                role,
                index,
            } => {
                vec![
                    json!(disk.disk),
                    json!(owner),
                    json!(*role != Role::Secondary),
                    json!(index),
                ]
            }
            Self::BlockdevOpen { disks, exclusive } => {
                vec![json!(instance_of(disks)), json!(all(disks)), json!(exclusive)]
            }
            Self::BlockdevClose { disks } => vec![json!(instance_of(disks)), json!(all(disks))],
            Self::BlockdevShutdown { disk } | Self::BlockdevRemove { disk } | Self::BlockdevFind { disk } => {
                vec![json!(disk.disk)]
            }
            Self::BlockdevRename { disks } => {
                let pair = |(disk, to): &(DiskOf, LogicalId)| json!([disk.disk, to.to_json()]);
                vec![disks.iter().map(pair).collect()]
            }
            Self::BlockdevSetinfo { disk, info } => vec![json!(disk.disk), json!(info)],
            Self::BlockdevGrow {
                disk,
                amount,
                dry_run,
                layer,
                exclusive_storage,
            } => vec![
                json!(disk.disk),
                json!(amount),
                json!(dry_run),
                json!(*layer == Layer::BackingStore),
                json!(exclusive_storage),
            ],
            Self::BlockdevWipe { disk, offset, length } => {
                vec![json!(disk.disk), json!(offset >> 20), json!(length >> 20)]
            }
            Self::BlockdevConvert { from, to } => vec![json!(from.disk), json!(to.disk)],
            Self::BlockdevImage { disk, image, size } => vec![json!(disk.disk), json!(image), json!(size)],
            Self::BlockdevSnapshot { disk, name, size } => vec![json!(disk.disk), json!(name), json!(size)],
            Self::BlockdevGetdimensions { disks }
            | Self::BlockdevGetmirrorstatus { disks }
            | Self::BlockdevGetmirrorstatusMulti { disks }
            | Self::DrbdDisconnectNet { disks }
            | Self::DrbdWaitSync { disks }
            | Self::DrbdNeedsActivation { disks }
            | Self::GntFindAll { disks } => vec![json!(all(disks))],
            Self::BlockdevAddchildren { disk, sent } | Self::BlockdevRemovechildren { disk, sent } => {
                vec![json!(sent), json!(disk.disk.children)]
            }
            Self::BlockdevPauseResumeSync { disks, pause } => vec![json!(all(disks)), json!(pause)],
            Self::DrbdAttachNet { disks, multimaster } => vec![json!(all(disks)), json!(multimaster)],
            Self::GntTakeOver { disks, from } => vec![json!(all(disks)), json!(from)],
            Self::GntCheck { disk, operation } => vec![json!(disk.disk), json!(operation)],
            Self::GntAssembleAll { disks, role } => vec![json!(all(disks)), json!(role)],
            Self::GntRead { disk, offset, length } | Self::GntChecksum { disk, offset, length } => {
                vec![json!(disk.disk), json!(offset), json!(length)]
            }
            Self::GntWrite { disk, pieces } => vec![json!(disk.disk), json!(pieces::split(pieces).0)],
            Self::GntCopy {
                from,
                to,
                offset,
                length,
            } => {
                vec![json!(from.disk), json!(to.disk), json!(offset), json!(length)]
            }
            Self::GntVolumes { device, params }
            | Self::GntSpace { device, params }
            | Self::GntAttached { device, params } => {
                vec![json!(device), json!(params)]
            }
            Self::GntMoveLink { instance, from, to } => vec![json!(instance), json!(from), json!(to)],
            Self::GntRemoveLink { instance, index } => vec![json!(instance), json!(index)],
            Self::GntEndOperation { operation } => vec![json!(operation)],
            Self::GntConfigure {
                name,
                address,
                settings,
                exclusive_storage,
            } => {
                vec![
                    json!(name),
                    json!(address),
                    json!(settings),
                    json!(exclusive_storage),
                ]
            }
        }
    }

    fn more(&self) -> More {
        let role = match self {
            Self::BlockdevAssemble { role, .. } => Some(*role),
            _ => None,
        };
        let bytes = match self {
            Self::BlockdevWipe { offset, length, .. } => Some((*offset, *length)),
            _ => None,
        };
        let instances = self.disks().into_iter().map(|disk| disk.instance.clone());
        More {
            instances: instances.collect(),
            role,
            bytes,
        }
    }

    /// How long a caller waits for the answer, where each script of a provider may run for `script`.
    pub fn patience(&self, script: Duration) -> Duration {
        let volumes = match self {
            Self::GntVolumes { device, .. } | Self::GntAttached { device, .. } => {
                usize::from(*device == LogicalDevice::Ext)
            }
            _ => {
                let disks = self.disks().into_iter().flat_map(|disk| disk.disk.walk());
                disks.filter(|disk| disk.dev_type == LogicalDevice::Ext).count()
            }
        };
        let procedure = self.procedure();
        let volumes = u32::try_from(volumes).unwrap_or(u32::MAX);
        let scripts = script.saturating_mul(procedure.scripts().saturating_mul(volumes));
        procedure.timeout().saturating_add(scripts)
    }

    /// The disks that it is about.
    pub fn disks(&self) -> Vec<&DiskOf> {
        match self {
            Self::BlockdevCreate { disk, .. }
            | Self::BlockdevAssemble { disk, .. }
            | Self::BlockdevShutdown { disk }
            | Self::BlockdevRemove { disk }
            | Self::BlockdevSetinfo { disk, .. }
            | Self::BlockdevGrow { disk, .. }
            | Self::BlockdevWipe { disk, .. }
            | Self::BlockdevImage { disk, .. }
            | Self::BlockdevSnapshot { disk, .. }
            | Self::BlockdevFind { disk }
            | Self::BlockdevAddchildren { disk, .. }
            | Self::BlockdevRemovechildren { disk, .. }
            | Self::GntCheck { disk, .. }
            | Self::GntRead { disk, .. }
            | Self::GntWrite { disk, .. }
            | Self::GntChecksum { disk, .. } => vec![disk],
            Self::BlockdevOpen { disks, .. }
            | Self::BlockdevClose { disks }
            | Self::BlockdevGetdimensions { disks }
            | Self::BlockdevGetmirrorstatus { disks }
            | Self::BlockdevGetmirrorstatusMulti { disks }
            | Self::BlockdevPauseResumeSync { disks, .. }
            | Self::DrbdAttachNet { disks, .. }
            | Self::DrbdDisconnectNet { disks }
            | Self::DrbdWaitSync { disks }
            | Self::DrbdNeedsActivation { disks }
            | Self::GntAssembleAll { disks, .. }
            | Self::GntTakeOver { disks, .. }
            | Self::GntFindAll { disks } => disks.iter().collect(),
            Self::BlockdevRename { disks } => disks.iter().map(|(disk, _)| disk).collect(),
            Self::BlockdevConvert { from, to } | Self::GntCopy { from, to, .. } => vec![from, to],
            Self::Version
            | Self::BdevSizes { .. }
            | Self::LvList { .. }
            | Self::VgList
            | Self::NodeVolumes
            | Self::StorageList { .. }
            | Self::StorageModify { .. }
            | Self::StorageExecute { .. }
            | Self::ExtstorageDiagnose
            | Self::DrbdHelper
            | Self::FileStorageDirCreate { .. }
            | Self::FileStorageDirRemove { .. }
            | Self::FileStorageDirRename { .. }
            | Self::GntImageSize { .. }
            | Self::GntReadImage { .. }
            | Self::GntVolumes { .. }
            | Self::GntSpace { .. }
            | Self::GntAttached { .. }
            | Self::GntDrbdMinors
            | Self::GntLinks
            | Self::GntMoveLink { .. }
            | Self::GntRemoveLink { .. }
            | Self::GntEndOperation { .. }
            | Self::GntConfigure { .. } => Vec::new(),
        }
    }
}

impl StorageOf {
    /// The arguments of a call: what the storage is, and `rest`.
    fn with(&self, rest: [Value; 2]) -> Vec<Value> {
        let more = match self.kind.is_files() {
            true => json!([self.directories]),
            false => json!([]),
        };
        let mut arguments = vec![json!(self.kind.to_string()), more];
        arguments.extend(rest);
        arguments
    }
}

fn storage(args: &mut Arguments) -> Result<StorageOf, BadCall> {
    let name: String = args.take("su_name")?;
    let kind: UnitType = name.parse().map_err(|_| {
        let problem = match name.parse::<StorageType>() {
            Ok(known) => format!("{known} storage has no units here"),
            Err(_) => format!("it is none of {}", UnitType::VARIANTS.join(", ")),
        };
        args.wrong("su_name", Some(problem))
    })?;
    let more: Vec<Value> = args.take("su_args")?;
    let directories = match (kind.is_files(), <[Value; 1]>::try_from(more)) {
        (true, Ok([directories])) => serde_json::from_value(directories).ok(),
        (false, Err(more)) if more.is_empty() => Some(Vec::new()),
        _ => None,
    };
    let directories = directories.ok_or_else(|| {
        let wanted = match kind.is_files() {
            true => "one list of directories",
            false => "nothing",
        };
        args.wrong("su_args", Some(format!("{kind} storage takes {wanted}")))
    })?;
    Ok(StorageOf { kind, directories })
}

fn fields(args: &mut Arguments) -> Result<Vec<UnitField>, BadCall> {
    const NAME: &str = "fields";
    let names: Vec<String> = args.take(NAME)?;
    let field = |(number, name): (usize, &String)| {
        name.parse().map_err(|_| {
            let known = UnitField::VARIANTS.join(", ");
            args.wrong(NAME, Some(format!("number {} is none of {known}", number + 1)))
        })
    };
    names.iter().enumerate().map(field).collect()
}

fn allocatable(args: &mut Arguments, kind: UnitType) -> Result<Option<bool>, BadCall> {
    const NAME: &str = "changes";
    let mut changes: Object = args.take(NAME)?;
    let allocatable = match (kind, changes.remove(ALLOCATABLE)) {
        (_, None) => None,
        (UnitType::LvmPv, Some(Value::Bool(flag))) => Some(flag),
        (UnitType::LvmPv, Some(_)) => {
            return Err(args.wrong(NAME, Some(format!("{ALLOCATABLE} is no truth value"))));
        }
        (_, Some(_)) => return Err(args.wrong(NAME, Some(format!("nothing of {kind} storage can change")))),
    };
    match changes.is_empty() {
        true => Ok(allocatable),
        false => Err(args.wrong(
            NAME,
            Some(format!("only {ALLOCATABLE} of lvm-pv storage can change")),
        )),
    }
}

fn consistency(args: &mut Arguments, kind: UnitType) -> Result<(), BadCall> {
    let operation: String = args.take("op")?;
    match (kind, operation.as_str()) {
        (UnitType::LvmVg, FIX_CONSISTENCY) => Ok(()),
        _ => Err(args.wrong(
            "op",
            Some(format!("there is only {FIX_CONSISTENCY} of lvm-vg storage")),
        )),
    }
}

/// A path on this node. Ganeti's nodes get an image from elsewhere if they are told a URL.
fn local_path(args: &mut Arguments, name: &'static str) -> Result<String, BadCall> {
    let path: String = args.take(name)?;
    match path.starts_with('/') {
        true => Ok(path),
        false => Err(args.wrong(
            name,
            Some("it is no absolute path of a file of this node, and nothing is downloaded".to_owned()),
        )),
    }
}

fn all(disks: &[DiskOf]) -> Vec<&Disk> {
    disks.iter().map(|disk| &disk.disk).collect()
}

/// Ganeti's calls of this kind are about the disks of one instance.
fn instance_of(disks: &[DiskOf]) -> &str {
    disks.first().map_or("", |disk| &disk.instance)
}

fn read_disk(args: &Arguments, name: &'static str, value: Value) -> Result<Disk, BadCall> {
    let Value::Object(object) = value else {
        return Err(args.wrong(name, Some("it is no object".to_owned())));
    };
    Disk::from_object(object).map_err(|error| args.wrong(name, Some(error.to_string())))
}

fn disk(args: &mut Arguments, name: &'static str) -> Result<Disk, BadCall> {
    let value = args.value(name)?;
    read_disk(args, name, value)
}

fn disk_of(args: &mut Arguments, name: &'static str) -> Result<DiskOf, BadCall> {
    let disk = disk(args, name)?;
    let instance = args.instance();
    Ok(DiskOf { disk, instance })
}

fn disks(args: &mut Arguments, name: &'static str) -> Result<Vec<Disk>, BadCall> {
    let values: Vec<Value> = args.take(name)?;
    values
        .into_iter()
        .map(|value| read_disk(args, name, value))
        .collect()
}

fn disks_of(args: &mut Arguments) -> Result<Vec<DiskOf>, BadCall> {
    let disks = disks(args, "disks")?.into_iter();
    Ok(disks
        .map(|disk| DiskOf {
            disk,
            instance: args.instance(),
        })
        .collect())
}

fn disks_of_one(args: &mut Arguments) -> Result<Vec<DiskOf>, BadCall> {
    let instance: String = args.take("instance_name")?;
    let own = |told: String| if told.is_empty() { instance.clone() } else { told };
    let disks = disks(args, "disks")?.into_iter();
    Ok(disks
        .map(|disk| DiskOf {
            disk,
            instance: own(args.instance()),
        })
        .collect())
}

fn with_children(args: &mut Arguments) -> Result<(DiskOf, Box<Disk>), BadCall> {
    let mut disk = disk_of(args, "bdev")?;
    let sent = Box::new(disk.disk.clone());
    disk.disk.children = disks(args, "ndevs")?;
    Ok((disk, sent))
}

fn renames(args: &mut Arguments) -> Result<Vec<(DiskOf, LogicalId)>, BadCall> {
    const NAME: &str = "devlist";
    let pairs: Vec<(Value, Value)> = args.take(NAME)?;
    let rename = |(disk, to)| {
        let disk = read_disk(args, NAME, disk)?;
        let to = LogicalId::from_json(disk.dev_type, &to);
        let to = to.map_err(|error| args.wrong(NAME, Some(error.to_string())))?;
        let instance = args.instance();
        Ok((DiskOf { disk, instance }, to))
    };
    pairs.into_iter().map(rename).collect()
}
