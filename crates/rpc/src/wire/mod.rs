//! What goes over the wire: `POST /PROCEDURE` with a JSON array of positional arguments, answered with `[true, payload]` or
//! `[false, message]`, as Ganeti's nodes have it (`rpc_defs.py`, `server/noded.py`).
//!
//! A client of ours says so with a header. Its calls end with one argument more, with what Ganeti's have no room for; what it is
//! answered are our own types, and errors with their kind and hint. Ganeti's procedures have its names, ours begin with `gnt_`. After
//! the JSON and a newline a body may go on with the bytes of a disk.

mod arguments;
mod call;
mod ganeti;
mod pieces;
mod reply;

pub use arguments::BadCall;
pub use call::{Call, DiskOf, Procedure, StorageOf};
pub use ganeti::{message as ganeti_message, payload as ganeti_payload};
pub use pieces::{BadPieces, join, split};
pub use reply::{AssembledForm, IdForm, LogicalVolume, Provider, Reply, Version, VolumeForm};

use std::time::Duration;

use serde_json::Value;

/// Set by a client of ours, to the version of the protocol.
pub const HEADER: &str = "gnt-disk";
/// The operation that the call is part of.
pub const OPERATION_HEADER: &str = "gnt-disk-operation";
/// Set if nothing may be changed.
pub const DRY_RUN_HEADER: &str = "gnt-disk-dry-run";
/// What [`HEADER`] is set to.
pub const PROTOCOL: u32 = 1;
/// The port of Ganeti's node daemon, and ours.
pub const PORT: u16 = 1811;

/// Largest JSON part of a body.
pub const MAX_JSON: usize = 8 << 20;
/// Most bytes of a disk that go with one call.
pub const MAX_DATA: usize = 16 << 20;
/// Most disks that a client of ours puts in one call.
pub const MAX_DISKS: usize = 256;

/// Who asks.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Dialect {
    /// Ganeti's master.
    Ganeti,
    /// Our own.
    Ours,
}

impl Procedure {
    /// How long a caller waits for the answer (`RPC_TMO_*` in `rpc_defs.py`), if no script of a provider runs meanwhile.
    pub fn timeout(self) -> Duration {
        const URGENT: u64 = 60;
        const FAST: u64 = 300;
        const NORMAL: u64 = 900;
        const SLOW: u64 = 3600;
        Duration::from_secs(match self {
            Self::BdevSizes | Self::DrbdHelper | Self::Version => URGENT,
            Self::FileStorageDirCreate
            | Self::FileStorageDirRemove
            | Self::FileStorageDirRename
            | Self::ExtstorageDiagnose
            | Self::NodeVolumes
            | Self::GntLinks
            | Self::GntMoveLink
            | Self::GntRemoveLink
            | Self::GntConfigure
            | Self::GntEndOperation => FAST,
            Self::BlockdevWipe
            | Self::BlockdevConvert
            | Self::BlockdevImage
            | Self::DrbdWaitSync
            | Self::GntCopy
            | Self::GntChecksum => SLOW,
            _ => NORMAL,
        })
    }

    /// How many scripts of providers it may run, one after the other, for each volume of theirs that it is about.
    pub(crate) fn scripts(self) -> u32 {
        match self {
            // What was made is attached, detached, told its owner, and removed again if that fails.
            Self::BlockdevCreate => 13,
            // It is looked for twice, put into use between, and taken out of it.
            Self::BlockdevConvert => 11,
            Self::BlockdevRemove | Self::BlockdevGrow => 8,
            // As many providers may be asked.
            Self::GntVolumes | Self::GntAttached => 8,
            Self::BlockdevShutdown => 6,
            Self::BlockdevAssemble | Self::GntAssembleAll => 3,
            Self::BlockdevOpen | Self::GntTakeOver | Self::BlockdevSnapshot => 2,
            _ => 1,
        }
    }

    /// Whether it has its disks for itself. Calls that only look do not wait for others, nor others for them.
    pub fn takes_turns(self) -> bool {
        !matches!(
            self,
            Self::BlockdevFind
                | Self::BlockdevGetdimensions
                | Self::BlockdevGetmirrorstatus
                | Self::BlockdevGetmirrorstatusMulti
                | Self::DrbdWaitSync
                | Self::DrbdNeedsActivation
                | Self::GntCheck
                | Self::GntFindAll
        )
    }

    /// Whether Ganeti has no such procedure.
    pub fn is_ours(self) -> bool {
        self.name().starts_with("gnt_")
    }

    /// Its name in a request.
    pub fn name(self) -> &'static str {
        self.into()
    }
}

/// The arguments in a body, and the bytes after them.
pub fn read_body(body: &[u8]) -> Result<(Vec<Value>, &[u8]), BadCall> {
    let (json, data) = split_body::<Vec<Value>>(body, MAX_JSON).map_err(|error| BadCall::Json {
        problem: match error.classify() {
            serde_json::error::Category::Data => "it is something else",
            serde_json::error::Category::Eof => "it breaks off",
            _ => "it is malformed",
        },
        line: error.line(),
        column: error.column(),
    })?;
    Ok((json, data))
}

/// The JSON at the beginning of a body, in its first `limit` bytes, and the bytes after it and a newline.
pub fn split_body<T: serde::de::DeserializeOwned>(
    body: &[u8],
    limit: usize,
) -> serde_json::Result<(T, &[u8])> {
    let mut values = serde_json::Deserializer::from_slice(&body[..body.len().min(limit)]).into_iter();
    let json = match values.next() {
        Some(json) => json?,
        None => T::deserialize(Value::Null)?,
    };
    let rest = &body[values.byte_offset()..];
    Ok((json, rest.strip_prefix(b"\n").unwrap_or(rest)))
}

#[cfg(test)]
mod tests {
    use gnt_config::{Disk, LogicalDevice, LogicalId, Mebibytes};
    use strum::IntoEnumIterator as _;

    use super::*;

    const SCRIPT: Duration = Duration::from_secs(900);

    fn ext(volume: &str) -> DiskOf {
        let id = LogicalId::Ext {
            provider: "ext".to_owned(),
            volume: volume.to_owned(),
        };
        DiskOf::new(&Disk::new(LogicalDevice::Ext, id, Mebibytes(8)), "web")
    }

    fn plain() -> DiskOf {
        let id = LogicalId::Lv {
            vg: "xenvg".to_owned(),
            lv: "disk0".to_owned(),
        };
        DiskOf::new(&Disk::new(LogicalDevice::Plain, id, Mebibytes(8)), "web")
    }

    #[test]
    fn a_caller_is_more_patient_than_the_scripts_that_a_call_may_run() {
        let shutdown = |disk| Call::BlockdevShutdown { disk };
        let class = Procedure::BlockdevShutdown.timeout();
        assert_eq!(shutdown(plain()).patience(SCRIPT), class);
        assert_eq!(shutdown(ext("a")).patience(SCRIPT), class + 6 * SCRIPT);
        assert_eq!(shutdown(ext("a")).patience(2 * SCRIPT), class + 12 * SCRIPT);
        let find = Call::GntFindAll {
            disks: vec![ext("a"), plain(), ext("b")],
        };
        assert_eq!(
            find.patience(SCRIPT),
            Procedure::GntFindAll.timeout() + 2 * SCRIPT
        );
        let volumes = |device| Call::GntVolumes {
            device,
            params: gnt_config::Object::new(),
        };
        assert_eq!(
            volumes(LogicalDevice::Plain).patience(SCRIPT),
            Procedure::GntVolumes.timeout()
        );
        assert!(volumes(LogicalDevice::Ext).patience(SCRIPT) > Procedure::GntVolumes.timeout() + SCRIPT);
        assert_eq!(shutdown(ext("a")).patience(Duration::MAX), Duration::MAX);
    }

    #[test]
    fn what_changes_disks_has_them_for_itself() {
        let only_look = Procedure::iter().filter(|procedure| !procedure.takes_turns());
        let names: Vec<_> = only_look.map(Procedure::name).collect();
        assert_eq!(
            names,
            [
                "blockdev_find",
                "blockdev_getdimensions",
                "blockdev_getmirrorstatus",
                "blockdev_getmirrorstatus_multi",
                "drbd_wait_sync",
                "drbd_needs_activation",
                "gnt_check",
                "gnt_find_all",
            ]
        );
    }
}
