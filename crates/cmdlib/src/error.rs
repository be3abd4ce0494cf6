//! Why an operation was refused or failed.

use gnt_bdev::{ErrorKind, SyncStatus};
use gnt_config::{DiskTemplate, Mebibytes};
use gnt_store::StoreError;

use crate::compute::{ComputeError, FileStorageError};
use crate::generate::GenerateError;
use crate::node::NodeError;

/// What operations return.
pub type Result<T> = std::result::Result<T, Error>;

/// What the user can do where it is not known which node this machine is.
pub const STRANGER_HINT: &str = "if it is one of them, 'gnt-disk cluster modify --this-node NODE' says which ('gnt-disk node list' shows them)";

/// Why an operation was refused or failed.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// No such instance.
    #[error("there is no instance {instance}")]
    NoInstance {
        /// Name or UUID asked for.
        instance: String,
    },
    /// No volume says that it is of the instance.
    #[error("nothing was found of {instance}")]
    NothingFound {
        /// Name of the instance.
        instance: String,
    },
    /// An instance of that name is there already.
    #[error("there is an instance {instance} already")]
    InstanceExists {
        /// Its name.
        instance: String,
    },
    /// A name that cannot be.
    #[error(transparent)]
    Name(#[from] gnt_config::names::NameError),
    /// No such disk.
    #[error("instance {instance} has no disk {disk}; it has {count}")]
    NoDisk {
        /// The instance.
        instance: String,
        /// Index, name or UUID asked for.
        disk: String,
        /// How many disks it has.
        count: usize,
    },
    /// No detached disk of that name or UUID.
    #[error("there is no detached disk {disk}")]
    NoDetachedDisk {
        /// Name or UUID asked for.
        disk: String,
    },
    /// An operation that is not finished makes or removes the disk.
    #[error("{disk} is being worked on by operation {operation} ({kind} {instance})")]
    DiskInOperation {
        /// The disk.
        disk: String,
        /// The operation's id.
        operation: String,
        /// What it does.
        kind: String,
        /// To which instance.
        instance: String,
    },
    /// The instance's disks are in use.
    #[error("the disks of instance {instance} are active")]
    Active {
        /// The instance.
        instance: String,
    },
    /// The template is not among the cluster's `enabled_disk_templates`.
    #[error("disk template {template} is not enabled on this cluster")]
    TemplateDisabled {
        /// The template.
        template: DiskTemplate,
    },
    /// A wish that does not go with the template or the instance.
    #[error("{what}")]
    Unfit {
        /// The wish and why it cannot be.
        what: String,
        /// What to do instead.
        hint: &'static str,
    },
    /// A disk cannot be made smaller.
    #[error("{disk} of instance {instance} cannot shrink from {from} to {to}")]
    Shrink {
        /// The instance.
        instance: String,
        /// The disk.
        disk: String,
        /// Size now.
        from: Mebibytes,
        /// Size asked for.
        to: Mebibytes,
    },
    /// The template has disks of a fixed size.
    #[error(transparent)]
    Disk(#[from] gnt_config::disk::DiskError),
    /// A disk parameter is wrong.
    #[error(transparent)]
    Params(#[from] gnt_config::params::ParamError),
    /// The node's group is not known.
    #[error("there is no node group {group}")]
    NoGroup {
        /// Name or UUID.
        group: String,
    },
    /// A volume of that name is there already.
    #[error("there is a volume {volume} already")]
    VolumeExists {
        /// The volume.
        volume: String,
    },
    /// The node has a volume with the name of one that is to be made, or another disk has that name there.
    #[error("node {node} has a volume {volume} already")]
    NameTaken {
        /// The node.
        node: String,
        /// The volume.
        volume: String,
    },
    /// The device is a disk already, perhaps under another name.
    #[error(
        "device {device} is a disk {} already{}",
        .owner.as_ref().map_or("that is detached".to_owned(), |owner| format!("of instance {owner}")),
        if disk == device { String::new() } else { format!(", as {disk}") }
    )]
    DeviceTaken {
        /// The path that was to be adopted.
        device: String,
        /// The path that was adopted before.
        disk: String,
        /// The instance that has the disk, if one has.
        owner: Option<String>,
    },
    /// The configuration has the disk, its node does not.
    #[error("{disk} of instance {instance} is not there")]
    Gone {
        /// The disk.
        disk: String,
        /// The instance.
        instance: String,
    },
    /// The disk was to be made anew, and is not lost.
    #[error("{disk} of instance {instance} is still there on node {node}")]
    StillThere {
        /// The disk.
        disk: String,
        /// The instance.
        instance: String,
        /// Name of the node.
        node: String,
    },
    /// A disk is too small for what is to be written to it.
    #[error("{disk} of {instance} has {has}, less than the {needs} bytes of {what}")]
    TooSmall {
        /// The disk.
        disk: String,
        /// The instance.
        instance: String,
        /// Its size.
        has: Mebibytes,
        /// What is to be written.
        what: String,
        /// How many bytes that has.
        needs: u64,
    },
    /// What was copied is not what was read.
    #[error("{disk} has not what was written to it: it differs from {original} at or after byte {offset}")]
    Differs {
        /// The disk, and whose.
        disk: String,
        /// What was copied.
        original: String,
        /// Where the piece begins that is not the same.
        offset: u64,
    },
    /// The disk's data on a node is not what others could be made from, or rely on.
    #[error("{disk} on node {node} is degraded: {sync}")]
    NoGoodData {
        /// The disk.
        disk: String,
        /// Name of the node.
        node: String,
        /// As the node sees it.
        sync: SyncStatus,
    },
    /// There is no such volume.
    #[error("there is no volume {volume} on node {node} that could be adopted")]
    NothingToAdopt {
        /// The volume.
        volume: String,
        /// Name of the node.
        node: String,
    },
    /// The node is not known.
    #[error("there is no node {node}")]
    NoNode {
        /// Name or UUID.
        node: String,
    },
    /// The node cannot be asked from here.
    #[error("node {node} cannot be reached from this machine ({here})")]
    Unreachable {
        /// Name of the node.
        node: String,
        /// Name of this machine.
        here: String,
    },
    /// It is not known which node this machine is, and there are no keys to ask any of them with.
    #[error("no node of the cluster is called like this host ({here}), so node {node} cannot be asked")]
    Stranger {
        /// Name of the node.
        node: String,
        /// Name of this machine.
        here: String,
    },
    /// Its disks are usable on two nodes, and nothing else may be done to them.
    #[error("instance {instance} is being migrated from node {source_node} to node {target_node}")]
    Migrating {
        /// The instance.
        instance: String,
        /// Name of the node that it ran on.
        source_node: String,
        /// Name of the node that it is to run on.
        target_node: String,
    },
    /// The two halves of a disk are not alike.
    #[error("{disk} of instance {instance} is not in sync on node {node}: {state}")]
    NotInSync {
        /// The disk.
        disk: String,
        /// The instance.
        instance: String,
        /// Name of the node.
        node: String,
        /// How it is there.
        state: String,
    },
    /// What a node has of a disk may not be the last that was written to it.
    #[error("{disk} of instance {instance} may be out of date on node {node}: {state}")]
    Outdated {
        /// The disk.
        disk: String,
        /// The instance.
        instance: String,
        /// Name of the node.
        node: String,
        /// How it is there.
        state: String,
    },
    /// A node does not reach a disk that it should.
    #[error("node {node} does not reach {disk} of instance {instance}")]
    NotThere {
        /// The disk.
        disk: String,
        /// The instance.
        instance: String,
        /// Name of the node.
        node: String,
    },
    /// The node that an instance runs on says nothing, and may be at work nevertheless.
    #[error("node {node}, on which instance {instance} runs, does not answer")]
    Silent {
        /// Name of the node.
        node: String,
        /// The instance.
        instance: String,
        /// How it does not.
        #[source]
        source: Box<Error>,
    },
    /// The manager could not move the running instance. Its disks are as before.
    #[error("instance {instance} could not be moved, and stays on node {node}")]
    NotMoved {
        /// The instance.
        instance: String,
        /// Name of the node.
        node: String,
        /// What the manager says.
        #[source]
        source: crate::ops::migrate::TransferError,
    },
    /// The manager does not know where the instance runs: its disks stay usable on both nodes.
    #[error("it is not known on which node instance {instance} runs")]
    Whereabouts {
        /// The instance.
        instance: String,
        /// What the manager says.
        #[source]
        source: crate::ops::migrate::TransferError,
    },
    /// Somebody else ended the migration while the manager moved the running instance.
    #[error(
        "the migration of instance {instance} was ended by somebody else meanwhile: its disks are on node {disks_on}, and the instance \
         runs on node {runs_on}{}",
        .cause.as_ref().map(|cause| format!(" (it could not be moved: {cause})")).unwrap_or_default()
    )]
    EndedMeanwhile {
        /// The instance.
        instance: String,
        /// Name of its primary node.
        disks_on: String,
        /// Name of the node that it runs on, as the manager says.
        runs_on: String,
        /// Why it was not moved.
        cause: Option<String>,
    },
    /// The instance is on one node alone, and not on that which was named.
    #[error("instance {instance} is not being migrated; it is on node {node}")]
    NotMigrating {
        /// The instance.
        instance: String,
        /// Name of its primary node.
        node: String,
    },
    /// A migration could be neither finished nor undone.
    #[error("the migration of instance {instance} is half-way{}", .cause.as_ref().map(|cause| format!(" (it failed: {cause})")).unwrap_or_default())]
    HalfMigrated {
        /// The instance.
        instance: String,
        /// What the manager said of the instance itself.
        cause: Option<String>,
        /// Why its disks could not be dealt with.
        #[source]
        source: Box<Error>,
    },
    /// The node is set offline.
    #[error("node {node} is set offline")]
    NodeOffline {
        /// Name of the node.
        node: String,
    },
    /// A node that is marked offline still takes part.
    #[error(
        "node {node} is marked offline, but is not off: {disk} of instance {instance} is connected to it from node {from}"
    )]
    NotOff {
        /// Name of the node.
        node: String,
        /// The disk.
        disk: String,
        /// The instance.
        instance: String,
        /// Name of the node that was asked.
        from: String,
    },
    /// What is to be made does not fit.
    #[error("node {node} has {free} free in {group}, and {needed} are needed")]
    NoRoom {
        /// Name of the node.
        node: String,
        /// The volume group.
        group: String,
        /// How much all that is to be made there takes.
        needed: Mebibytes,
        /// How much is free.
        free: Mebibytes,
    },
    /// A node of that name is there already.
    #[error("there is a node {node} already")]
    NodeExists {
        /// Its name.
        node: String,
    },
    /// A node parameter is wrong.
    #[error(transparent)]
    NodeParams(#[from] gnt_config::params::node::NodeParamError),
    /// The wish for a disk is wrong.
    #[error(transparent)]
    Compute(#[from] ComputeError),
    /// Disks could not be laid out.
    #[error(transparent)]
    Generate(Box<GenerateError<StoreError>>),
    /// The cluster has no directory for files.
    #[error(transparent)]
    FileStorage(#[from] FileStorageError),
    /// A node said no.
    #[error(transparent)]
    Node(#[from] NodeError),
    /// The store said no.
    #[error(transparent)]
    Store(#[from] StoreError),
    /// A logical id in the journal has the wrong form.
    #[error(transparent)]
    LogicalId(#[from] gnt_config::device::LogicalIdError),
    /// A step of the journal cannot be read: it was written by another version.
    #[error("step {step} of operation {operation} is not known to this version")]
    UnknownStep {
        /// The operation's id.
        operation: String,
        /// The step's name.
        step: String,
        /// Why.
        #[source]
        source: serde_json::Error,
    },
    /// A step cannot be written to the journal.
    #[error("step {step} cannot be journalled")]
    Unwritable {
        /// The step's name.
        step: &'static str,
        /// Why.
        #[source]
        source: serde_json::Error,
    },
    /// What a dead process had left running could not be ended.
    #[error("processes left behind by operation {operation} could not be ended")]
    Orphans {
        /// The operation's id.
        operation: String,
        /// Why.
        #[source]
        source: std::io::Error,
    },
    /// The operation failed and everything is as before.
    #[error("operation {operation} failed; everything it did was undone")]
    Undone {
        /// The operation's id.
        operation: String,
        /// Why it failed.
        #[source]
        source: Box<Error>,
    },
    /// The operation failed and was undone, but what the failed step itself did could not be, if it did anything at all.
    #[error("operation {operation} failed and was undone, as far as can be told ({leftover})")]
    Leftover {
        /// The operation's id.
        operation: String,
        /// What may be left, and why.
        leftover: String,
        /// Why it failed.
        #[source]
        source: Box<Error>,
    },
    /// The operation failed after something that cannot be undone; what it did until then stays.
    #[error("operation {operation} failed; what it did before stays done")]
    Partial {
        /// The operation's id.
        operation: String,
        /// Why it failed.
        #[source]
        source: Box<Error>,
    },
    /// The operation failed, and so did undoing it: it stays in the journal and keeps its locks.
    #[error("operation {operation} failed ({cause}), and could not be undone")]
    UndoFailed {
        /// The operation's id.
        operation: String,
        /// Why it failed.
        cause: String,
        /// Why it could not be undone.
        #[source]
        source: Box<Error>,
    },
    /// An operation that was interrupted earlier is in the way, and could be neither finished nor undone.
    #[error(
        "the {kind} that was interrupted as operation {operation} must be healed first, and could not be"
    )]
    NotHealed {
        /// The operation's id.
        operation: String,
        /// What it does.
        kind: String,
        /// Why.
        #[source]
        source: Box<Error>,
    },
    /// An operation that was interrupted earlier is in the way, and overwrites what nobody can bring back.
    #[error(
        "the {kind} of instance {instance} was interrupted as operation {operation}, and would overwrite more of its data: it does \
         not go on by itself"
    )]
    Overwriting {
        /// The operation's id.
        operation: String,
        /// What it does.
        kind: String,
        /// The instance.
        instance: String,
    },
    /// An aborted operation had gone too far to be undone completely.
    #[error(
        "operation {operation} was aborted, but \"{step}\" and what came before cannot be undone{}",
        .left.as_ref().map(|left| format!("; {left}")).unwrap_or_default()
    )]
    AbortedLate {
        /// The operation's id.
        operation: String,
        /// The step that stays.
        step: String,
        /// What may be left of the step after it.
        left: Option<String>,
    },
}

impl From<GenerateError<StoreError>> for Error {
    fn from(error: GenerateError<StoreError>) -> Self {
        Self::Generate(Box::new(error))
    }
}

impl Error {
    /// Whether what was to be made is there already, made by someone else.
    pub fn is_already_exists(&self) -> bool {
        matches!(self, Self::Node(error) if error.kind() == ErrorKind::AlreadyExists)
    }

    /// Whether a node was asked and may still be at work.
    pub fn is_unanswered(&self) -> bool {
        matches!(self, Self::Node(NodeError::Unanswered { .. }))
    }

    /// What the user can do.
    pub fn hint(&self) -> Option<String> {
        Some(match self {
            Self::NoInstance { .. } => "'gnt-disk list' shows the instances".to_owned(),
            Self::NothingFound { .. } => "'gnt-disk recover' without a name shows what was found".to_owned(),
            Self::NoDetachedDisk { .. } => "'gnt-disk list --detached' shows the detached disks".to_owned(),
            Self::InstanceExists { instance } => {
                format!(
                    "choose another name; 'gnt-disk modify {instance} --disk add:size=…' adds disks to that one"
                )
            }
            Self::DiskInOperation { operation, .. } => format!(
                "wait until it is done; if it was interrupted, 'gnt-disk operation resume {operation}' finishes it and \
                 'gnt-disk operation abort {operation}' undoes it"
            ),
            Self::Active { instance } => format!("run 'gnt-disk deactivate {instance}' first"),
            Self::TemplateDisabled { template } => {
                format!("'gnt-disk cluster modify --enable-template {template}' enables it")
            }
            Self::Unfit { hint, .. } => (*hint).to_owned(),
            Self::Shrink { .. } => {
                "disks only grow; to get a smaller one, add a new disk and copy the data".to_owned()
            }
            Self::VolumeExists { .. } => "choose another name with snapshot_name=NAME".to_owned(),
            Self::NameTaken { node, .. } => format!(
                "'gnt-disk verify' and 'gnt-disk list --detached' tell whose it is: remove or rename it, or choose a node other than {node}"
            ),
            Self::NothingToAdopt { .. } => {
                "name the volume with adopt=LV, and its group with vg=VG: 'lvs' shows them".to_owned()
            }
            Self::DeviceTaken { .. } => "two instances would write over each other's data".to_owned(),
            Self::Unreachable { node, .. } => format!(
                "there are no keys to ask it with: 'gnt-disk node add {node} --readd --ssh root@{node}' makes them and brings \
                 it its own, and 'gnt-disk serve' answers there"
            ),
            Self::Stranger { .. } => STRANGER_HINT.to_owned(),
            Self::StillThere { .. } => {
                "what is left of it is removed, data included, with --force; of a mirrored disk \
                                        'gnt-disk replace-disks' makes the lost half from the other"
                    .to_owned()
            }
            Self::NoRoom { group, .. } => {
                format!("make the disks smaller, choose another node, or enlarge {group} with vgextend")
            }
            Self::NodeOffline { node } => {
                format!("it is not asked for anything until 'gnt-disk node modify {node} --offline no'")
            }
            Self::NotOff { node, .. } => format!(
                "switch it off and try again; if it works, 'gnt-disk node modify {node} --offline no' lets it take part"
            ),
            Self::NodeExists { .. } => "--readd gives it new keys".to_owned(),
            Self::NodeParams(error) => error.hint(),
            Self::NoNode { .. } => "'gnt-disk node list' shows the nodes".to_owned(),
            Self::NoGroup { .. } => "'gnt-disk group list' shows the groups".to_owned(),
            Self::Overwriting { operation, .. } => overwriting_hint(operation),
            Self::UndoFailed { operation, .. } => format!(
                "mend the cause, then run 'gnt-disk operation resume {operation}'; \
                 'gnt-disk operation abort --force {operation}' gives up and leaves things as they are"
            ),
            Self::UnknownStep { operation, .. } => {
                format!("run 'gnt-disk operation resume {operation}' with the version that began it")
            }
            Self::Migrating { instance, .. } => format!(
                "'gnt-disk migrate --finish {instance}' or '--abort' ends it; after a failure 'gnt-disk migrate --cleanup \
                 --runs-on NODE {instance}' does, NODE being where the instance runs now"
            ),
            Self::EndedMeanwhile {
                instance,
                disks_on,
                runs_on,
                ..
            } if disks_on != runs_on => format!(
                "stop the instance on node {runs_on}, where it must not write any more, and start it on node {disks_on}; \
                 'gnt-disk verify' tells what is left of its disks elsewhere, and 'gnt-disk info {instance}' how they are"
            ),
            Self::NotMigrating { instance, .. } => format!(
                "'gnt-disk failover {instance}' gives an instance that does not run another node, 'gnt-disk migrate {instance}' one that runs"
            ),
            Self::NotInSync { instance, .. } => format!(
                "'gnt-disk activate --wait-for-sync {instance}' connects the halves again and waits; one that is lost is made \
                 anew by 'gnt-disk replace-disks'"
            ),
            Self::Outdated { .. } => {
                "bring the other node back, which has the newer data; --ignore-consistency does without \
                                      it, and what was written there last is lost"
                    .to_owned()
            }
            Self::Silent { node, .. } => format!(
                "make sure that it is off, as two nodes that write to a disk destroy it; then 'gnt-disk node modify {node} \
                 --offline yes' marks it, and the failover can do without it"
            ),
            Self::NotThere { .. } => {
                "see that its storage is there: mounted, reachable, under the same name".to_owned()
            }
            Self::Whereabouts { instance, .. } => cleanup_hint(instance),
            Self::HalfMigrated { instance, source, .. } => {
                let first = source
                    .hint()
                    .map(|hint| format!("{hint}; then "))
                    .unwrap_or_default();
                format!("{first}{}", cleanup_hint(instance))
            }
            Self::Compute(error) => return error.hint(),
            Self::FileStorage(error) => return error.hint().map(str::to_owned),
            Self::Params(error) => return error.hint(),
            Self::Node(error) => return error.hint(),
            Self::Store(error) => return error.hint(),
            Self::Undone { source, .. }
            | Self::Leftover { source, .. }
            | Self::Partial { source, .. }
            | Self::NotHealed { source, .. } => {
                return source.hint();
            }
            _ => return None,
        })
    }
}

/// How one goes on with an operation that overwrites data, or ends it.
pub fn overwriting_hint(operation: &str) -> String {
    format!(
        "'gnt-disk operation resume {operation}' goes on with it; 'gnt-disk operation abort {operation}' ends it, and what was \
         overwritten until then stays so"
    )
}

fn cleanup_hint(instance: &str) -> String {
    format!(
        "see where the instance runs, and tell with 'gnt-disk migrate --cleanup --runs-on NODE {instance}'; a node that is dead is \
         marked before: 'gnt-disk node modify NODE --offline yes'"
    )
}

/// The error and all its causes in one line.
pub fn chain(error: &dyn std::error::Error) -> String {
    let causes = std::iter::successors(Some(error), |error| error.source());
    causes.map(ToString::to_string).collect::<Vec<_>>().join(": ")
}
