//! What can be wrong with a wish for a disk.

use gnt_config::params::ParamError;
use gnt_config::template::{DiskTemplate, TemplateSet};

/// A wish that cannot be granted: the user's mistake (`errors.OpPrereqError`).
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum ComputeError {
    /// A value is needed.
    #[error("disk {disk}: {key} is missing, expected {expected}")]
    Missing {
        /// Index of the disk.
        disk: u32,
        /// What has no value.
        key: &'static str,
        /// What is needed.
        expected: &'static str,
    },
    /// A value is not of the form needed.
    #[error("disk {disk}: {key} cannot be {found}, expected {expected}")]
    Invalid {
        /// Index of the disk.
        disk: u32,
        /// What has the value.
        key: &'static str,
        /// The value, as JSON.
        found: String,
        /// What is needed.
        expected: &'static str,
    },
    /// A key that only other templates' disks have.
    #[error("disk {disk}: {key} is only for {} disks, not {template}", names(*.only))]
    WrongTemplate {
        /// Index of the disk.
        disk: u32,
        /// The key.
        key: &'static str,
        /// The disk's template.
        template: DiskTemplate,
        /// The templates whose disks have it.
        only: TemplateSet,
    },
    /// A key that no disk has.
    #[error("disk {disk}: {key} is not a parameter of {template} disks")]
    UnknownKey {
        /// Index of the disk.
        disk: u32,
        /// The key.
        key: String,
        /// The disk's template.
        template: DiskTemplate,
        /// The keys that such a disk can have.
        known: Vec<&'static str>,
    },
    /// The provider cannot be told what was wished.
    #[error("disk {disk}: bad parameters for its provider")]
    Param {
        /// Index of the disk.
        disk: u32,
        /// Why.
        source: ParamError,
    },
    /// Two values that exclude each other.
    #[error("disk {disk}: only one of {first} and {second} can be given")]
    Conflict {
        /// Index of the disk.
        disk: u32,
        /// The one.
        first: &'static str,
        /// The other.
        second: &'static str,
    },
    /// Two disks would be the same one, or be called the same.
    #[error("disks {first} and {second} have the same {key}, {value}")]
    Duplicate {
        /// Index of the one.
        first: u32,
        /// Index of the other.
        second: u32,
        /// What they share.
        key: &'static str,
        /// Its value.
        value: String,
    },
    /// Some disks are adopted and some are not.
    #[error("disk {adopted} is adopted and disk {made} is not, expected all or none")]
    MixedAdoption {
        /// Index of one that is adopted.
        adopted: u32,
        /// Index of one that is not.
        made: u32,
    },
    /// A wish for a disk of an instance that has none.
    #[error("disk {disk}: a diskless instance has no disks")]
    Diskless {
        /// Index of the disk.
        disk: u32,
    },
    /// Nothing says in which volume group the disk is to be.
    #[error("disk {disk}: no volume group is given and the cluster has no default one")]
    NoVolumeGroup {
        /// Index of the disk.
        disk: u32,
    },
    /// The space needed in a volume group is too large for a number.
    #[error("disk {disk}: the disks in volume group {vg} are too large together")]
    TooLarge {
        /// Index of the disk with which it became so.
        disk: u32,
        /// The volume group.
        vg: String,
    },
}

fn names(templates: TemplateSet) -> String {
    let names: Vec<_> = templates.iter().map(DiskTemplate::as_str).collect();
    names.join(" and ")
}

impl ComputeError {
    /// What the user can do.
    pub fn hint(&self) -> Option<String> {
        Some(match self {
            Self::UnknownKey { template, known, .. } => {
                format!("parameters of {template} disks: {}", known.join(", "))
            }
            Self::WrongTemplate { key, .. } => format!("leave out {key}, or choose another template"),
            Self::Param { source, .. } => return source.hint(),
            Self::Diskless { .. } => "choose a disk template with -t".to_owned(),
            Self::NoVolumeGroup { .. } => "give the disk vg=NAME".to_owned(),
            Self::MixedAdoption { .. } => "make two instances, or add the other disks later".to_owned(),
            _ => return None,
        })
    }
}
