//! What is asked of a guest and what it answers. Each request is a file `N.request` of JSON in the guest's spool directory, which
//! the guest sees through hostfs; the answer is `N.answer`. So no network is needed.

use std::fmt;
use std::path::PathBuf;

use gnt_bdev::{Activation, Operation, UnitType};
use gnt_config::{Disk, LogicalDevice, Mebibytes, Object, Settings};
use serde::de::DeserializeOwned;
use serde::{Deserialize, Serialize};
use serde_json::Value;

use crate::error::{Error, Refused};

/// Something to do in a guest.
#[derive(Debug, Serialize, Deserialize)]
pub(crate) enum Request {
    /// A script for bash.
    Script {
        script: String,
        /// Seconds.
        timeout: f64,
    },
    /// What there is besides what was there when the guest came up.
    Inventory,
    /// A call on [`gnt_bdev::tree`].
    Storage { node: NodeForm, call: Box<Call> },
}

/// For people, on one line.
impl fmt::Display for Request {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Script { script, .. } => f.write_str(script),
            Self::Inventory => f.write_str("sweep"),
            Self::Storage { call, .. } => call.fmt(f),
        }
    }
}

/// What the `Host` of a storage call is made from.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub(crate) struct NodeForm {
    pub(crate) name: String,
    pub(crate) state: PathBuf,
    pub(crate) settings: Settings,
    pub(crate) dry_run: bool,
    pub(crate) exclusive_storage: bool,
    /// The longest that any program may run, in seconds.
    pub(crate) program_timeout: Option<f64>,
}

#[derive(Debug, Serialize, Deserialize)]
pub(crate) enum Call {
    /// On one disk.
    Disk {
        disk: Box<Disk>,
        instance: String,
        action: Action,
    },
    /// On several disks at once; the answer has a result for each.
    Disks {
        disks: Vec<Disk>,
        instance: String,
        action: ActionOnAll,
    },
    /// What volumes there are.
    Volumes { device: LogicalDevice, params: Object },
    /// What units of storage there are.
    Units { kind: UnitType },
    /// Whether new volumes may be put on a physical volume.
    SetAllocatable { pv: String, allocatable: bool },
    /// Gives up what a volume group has lost.
    RemoveMissing { vg: String },
}

impl fmt::Display for Call {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Disk { disk, action, .. } => write!(f, "{action:?} {disk}"),
            Self::Disks { disks, action, .. } => write!(f, "{action:?} {} disks", disks.len()),
            Self::Volumes { device, .. } => write!(f, "volumes of {device} disks"),
            Self::Units { kind } => write!(f, "units of {kind} storage"),
            Self::SetAllocatable { pv, allocatable } => write!(f, "make {pv} allocatable: {allocatable}"),
            Self::RemoveMissing { vg } => write!(f, "give up what {vg} has lost"),
        }
    }
}

/// Of [`gnt_bdev::tree`], or what it lacks of [`gnt_bdev::Driver`].
#[derive(Debug, Serialize, Deserialize)]
pub(crate) enum Action {
    Check {
        operation: Operation,
    },
    Create {
        info: String,
    },
    Find,
    MirrorStatus,
    Assemble {
        activation: ActivationForm,
    },
    Open {
        exclusive: bool,
    },
    Close,
    Shutdown,
    Grow {
        to: Mebibytes,
        dry_run: bool,
        layer: gnt_bdev::Layer,
    },
    Remove,
    Rename {
        to: Box<Disk>,
    },
    SetInfo {
        text: String,
    },
    Snapshot {
        name: String,
        size: Mebibytes,
    },
    ConvertTo {
        disk: Box<Disk>,
    },
    ActualSize,
    AddChildren,
    RemoveChildren,
    PauseSync,
    ResumeSync,
    DisconnectNet,
    AttachNet {
        multimaster: bool,
    },
    WaitSync,
    NeedsActivation,
}

/// What [`gnt_bdev::tree`] does with several disks at once.
#[derive(Debug, Serialize, Deserialize)]
pub(crate) enum ActionOnAll {
    Find,
    Assemble { activation: ActivationForm },
}

#[derive(Debug, Serialize, Deserialize)]
pub(crate) struct ActivationForm {
    primary: bool,
    exclusive: bool,
    hypervisor: String,
}

impl From<Activation<'_>> for ActivationForm {
    fn from(activation: Activation<'_>) -> Self {
        Self {
            primary: activation.primary,
            exclusive: activation.exclusive,
            hypervisor: activation.hypervisor.to_owned(),
        }
    }
}

impl ActivationForm {
    pub(crate) fn activation(&self) -> Activation<'_> {
        Activation {
            primary: self.primary,
            exclusive: self.exclusive,
            new: false,
            hypervisor: &self.hypervisor,
        }
    }
}

/// What came of it.
#[derive(Debug, Serialize, Deserialize)]
pub(crate) struct Answer {
    /// Its form depends on what was asked.
    pub(crate) result: Result<Value, Refused>,
    /// What a storage call ran.
    pub(crate) programs: Vec<Program>,
    /// What a dry run would have done.
    pub(crate) noted: Vec<String>,
}

impl Answer {
    pub(crate) fn of(value: impl Serialize) -> Self {
        Self {
            result: Ok(json(value)),
            programs: Vec::new(),
            noted: Vec::new(),
        }
    }

    pub(crate) fn read<T: DeserializeOwned>(self) -> Result<T, Error> {
        let value = self.result.map_err(|refused| Error::Refused(Box::new(refused)))?;
        serde_json::from_value(value).map_err(|source| Error::Form {
            what: "an answer",
            source,
        })
    }
}

/// What answers are made of always has a form in JSON.
pub(crate) fn json(value: impl Serialize) -> Value {
    serde_json::to_value(value).unwrap_or_else(|error| Value::String(error.to_string()))
}

/// A program that a storage call ran.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Program {
    /// Its name as called, as `lvs`.
    pub name: String,
    /// The whole command line, without secrets.
    pub line: String,
    /// Whether it was to change something.
    pub changes: bool,
    /// How long it took.
    pub seconds: f64,
}

/// An assembled disk (`gnt_bdev::Assembled`).
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Assembled {
    /// The device; none if there was nothing to assemble.
    pub device: Option<gnt_bdev::BlockDevice>,
    /// The link to it.
    pub link: Option<PathBuf>,
    /// What the hypervisor reaches it with.
    pub uri: Option<String>,
    /// Devices below that could not be assembled.
    pub warnings: Vec<Refused>,
}

/// [`gnt_bdev::FoundVolume`], its type and id as those of a disk.
#[derive(Debug, Serialize, Deserialize)]
pub(crate) struct VolumeForm {
    pub(crate) disk: Disk,
    pub(crate) bytes: Option<u64>,
    pub(crate) owner: gnt_bdev::Owner,
}

/// How a script ended.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Output {
    /// What it printed.
    pub stdout: String,
    /// What it complained of.
    pub stderr: String,
    /// Its exit status, 128 and the signal if one killed it; none if it did not end in time.
    pub code: Option<i32>,
}

impl Output {
    /// Whether it ended with 0.
    pub fn success(&self) -> bool {
        self.code == Some(0)
    }

    pub(crate) fn end(&self) -> String {
        match self.code {
            Some(code) => format!("code {code}"),
            None => "nothing, it did not end in time".to_owned(),
        }
    }
}

/// Both streams.
impl fmt::Display for Output {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "--- stdout\n{}--- stderr\n{}---", self.stdout, self.stderr)
    }
}
