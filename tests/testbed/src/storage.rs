//! Storage calls on a guest, typed: what `gnt_bdev` does in the guest, by the binary built from this crate.

use std::path::Path;
use std::sync::Mutex;
use std::time::Duration;

use gnt_bdev::{
    Activation, Change, FoundVolume, Layer, Operation, Status, StorageUnit, SyncProgress, UnitType,
};
use gnt_config::{Disk, LogicalDevice, LogicalId, Mebibytes, Object, Settings};
use serde::de::DeserializeOwned;

use crate::error::{Error, Refused};
use crate::guest::{Guest, lock};
use crate::wire::{Action, ActionOnAll, Assembled, Call, NodeForm, Program, Request, VolumeForm};

/// Longer than any one call waits for a device or a tool.
const TIMEOUT: Duration = Duration::from_secs(900);

/// A guest as a node with disks of one instance. Its methods are those of [`gnt_bdev::tree`], and those of [`gnt_bdev::Driver`]
/// that a whole tree does not have.
pub struct Storage<'a> {
    guest: &'a Guest,
    node: NodeForm,
    instance: String,
    programs: Mutex<Vec<Program>>,
    noted: Mutex<Vec<String>>,
}

impl<'a> Storage<'a> {
    pub(crate) fn new(guest: &'a Guest) -> Self {
        let state = Path::new("/var/lib/gnt-disk");
        Self {
            guest,
            node: NodeForm {
                name: guest.name().to_owned(),
                state: state.to_owned(),
                settings: Settings::under(state),
                dry_run: false,
                exclusive_storage: false,
                program_timeout: None,
            },
            instance: "web.example.org".to_owned(),
            programs: Mutex::default(),
            noted: Mutex::default(),
        }
    }

    /// The same for disks of another instance; `web.example.org` if not set.
    #[must_use]
    pub fn instance(mut self, name: &str) -> Self {
        name.clone_into(&mut self.instance);
        self
    }

    /// The same node with its files in `state`, a directory in the guest.
    #[must_use]
    pub fn state(mut self, state: &Path) -> Self {
        state.clone_into(&mut self.node.state);
        self.node.settings = Settings::under(state);
        self
    }

    /// The same node with other settings.
    #[must_use]
    pub fn settings(mut self, change: impl FnOnce(&mut Settings)) -> Self {
        change(&mut self.node.settings);
        self
    }

    /// The same node where nothing may change: see [`noted`](Self::noted).
    #[must_use]
    pub fn dry_run(mut self) -> Self {
        self.node.dry_run = true;
        self
    }

    /// The same node with exclusive storage: volumes have disks for themselves.
    #[must_use]
    pub fn exclusive_storage(mut self) -> Self {
        self.node.exclusive_storage = true;
        self
    }

    /// The same node where no program may run longer than this.
    #[must_use]
    pub fn program_timeout(mut self, after: Duration) -> Self {
        self.node.program_timeout = Some(after.as_secs_f64());
        self
    }

    /// The guest.
    pub fn guest(&self) -> &'a Guest {
        self.guest
    }

    /// The programs that calls ran since this was asked last, in order. A dry run tells none.
    pub fn programs(&self) -> Vec<Program> {
        std::mem::take(&mut lock(&self.programs))
    }

    /// What calls of a dry run would have changed since this was asked last.
    pub fn noted(&self) -> Vec<String> {
        std::mem::take(&mut lock(&self.noted))
    }

    /// [`gnt_bdev::tree::check`].
    ///
    /// # Errors
    /// See [`Error::refused`].
    pub fn check(&self, disk: &Disk, operation: Operation) -> Result<(), Error> {
        self.on_disk(disk, Action::Check { operation })
    }

    /// [`gnt_bdev::tree::create`] with the text that Ganeti keeps with new volumes (`_GetInstanceInfoText`).
    ///
    /// # Errors
    /// See [`Error::refused`].
    pub fn create(&self, disk: &Disk) -> Result<Change, Error> {
        self.create_with(disk, &format!("originstname+{}", self.instance))
    }

    /// [`gnt_bdev::tree::create`].
    ///
    /// # Errors
    /// See [`Error::refused`].
    pub fn create_with(&self, disk: &Disk, info: &str) -> Result<Change, Error> {
        let info = info.to_owned();
        self.on_disk(disk, Action::Create { info })
    }

    /// [`gnt_bdev::tree::find`].
    ///
    /// # Errors
    /// See [`Error::refused`].
    pub fn find(&self, disk: &Disk) -> Result<Option<Status>, Error> {
        self.on_disk(disk, Action::Find)
    }

    /// [`gnt_bdev::tree::mirror_status`].
    ///
    /// # Errors
    /// See [`Error::refused`].
    pub fn mirror_status(&self, disk: &Disk) -> Result<Option<Status>, Error> {
        self.on_disk(disk, Action::MirrorStatus)
    }

    /// [`gnt_bdev::tree::assemble`].
    ///
    /// # Errors
    /// See [`Error::refused`].
    pub fn assemble(&self, disk: &Disk, activation: Activation<'_>) -> Result<Assembled, Error> {
        let activation = activation.into();
        self.on_disk(disk, Action::Assemble { activation })
    }

    /// [`gnt_bdev::tree::find_all`]; what each disk is refused does not concern the others.
    ///
    /// # Errors
    /// Of the testbed only.
    pub fn find_all(&self, disks: &[Disk]) -> Result<Vec<Result<Option<Status>, Refused>>, Error> {
        self.on_disks(disks, ActionOnAll::Find)
    }

    /// [`gnt_bdev::tree::assemble_all`]; what each disk is refused does not concern the others.
    ///
    /// # Errors
    /// Of the testbed only.
    pub fn assemble_all(
        &self,
        disks: &[Disk],
        activation: Activation<'_>,
    ) -> Result<Vec<Result<Assembled, Refused>>, Error> {
        let activation = activation.into();
        self.on_disks(disks, ActionOnAll::Assemble { activation })
    }

    /// [`gnt_bdev::tree::open`].
    ///
    /// # Errors
    /// See [`Error::refused`].
    pub fn open(&self, disk: &Disk, exclusive: bool) -> Result<(), Error> {
        self.on_disk(disk, Action::Open { exclusive })
    }

    /// [`gnt_bdev::tree::close`].
    ///
    /// # Errors
    /// See [`Error::refused`].
    pub fn close(&self, disk: &Disk) -> Result<(), Error> {
        self.on_disk(disk, Action::Close)
    }

    /// [`gnt_bdev::tree::shutdown`].
    ///
    /// # Errors
    /// See [`Error::refused`].
    pub fn shutdown(&self, disk: &Disk) -> Result<Change, Error> {
        self.on_disk(disk, Action::Shutdown)
    }

    /// [`gnt_bdev::tree::grow`].
    ///
    /// # Errors
    /// See [`Error::refused`].
    pub fn grow(&self, disk: &Disk, to: Mebibytes, dry_run: bool, layer: Layer) -> Result<Change, Error> {
        self.on_disk(disk, Action::Grow { to, dry_run, layer })
    }

    /// [`gnt_bdev::tree::remove`].
    ///
    /// # Errors
    /// See [`Error::refused`].
    pub fn remove(&self, disk: &Disk) -> Result<Change, Error> {
        self.on_disk(disk, Action::Remove)
    }

    /// [`gnt_bdev::tree::rename`].
    ///
    /// # Errors
    /// See [`Error::refused`].
    pub fn rename(&self, disk: &Disk, to: &LogicalId) -> Result<Change, Error> {
        let to = Box::new(Disk::new(disk.dev_type, to.clone(), disk.size));
        self.on_disk(disk, Action::Rename { to })
    }

    /// [`gnt_bdev::tree::set_info`].
    ///
    /// # Errors
    /// See [`Error::refused`].
    pub fn set_info(&self, disk: &Disk, text: &str) -> Result<(), Error> {
        let text = text.to_owned();
        self.on_disk(disk, Action::SetInfo { text })
    }

    /// [`gnt_bdev::tree::snapshot`].
    ///
    /// # Errors
    /// See [`Error::refused`].
    pub fn snapshot(&self, disk: &Disk, name: &str, size: Mebibytes) -> Result<LogicalId, Error> {
        let name = name.to_owned();
        let made: Disk = self.on_disk(disk, Action::Snapshot { name, size })?;
        Ok(made.logical_id)
    }

    /// [`gnt_bdev::tree::actual_size`], in bytes.
    ///
    /// # Errors
    /// See [`Error::refused`].
    pub fn actual_size(&self, disk: &Disk) -> Result<u64, Error> {
        self.on_disk(disk, Action::ActualSize)
    }

    /// [`gnt_bdev::tree::volumes`].
    ///
    /// # Errors
    /// See [`Error::refused`].
    pub fn volumes(&self, device: LogicalDevice, params: &Object) -> Result<Vec<FoundVolume>, Error> {
        let params = params.clone();
        let found: Vec<VolumeForm> = self.call(Call::Volumes { device, params })?;
        let volumes = found.into_iter().map(|volume| FoundVolume {
            device,
            logical_id: volume.disk.logical_id,
            bytes: volume.bytes,
            owner: volume.owner,
        });
        Ok(volumes.collect())
    }

    /// [`gnt_bdev::Driver::add_children`], the children of `disk` being those to add.
    ///
    /// # Errors
    /// See [`Error::refused`].
    pub fn add_children(&self, disk: &Disk) -> Result<Change, Error> {
        self.on_disk(disk, Action::AddChildren)
    }

    /// [`gnt_bdev::Driver::remove_children`].
    ///
    /// # Errors
    /// See [`Error::refused`].
    pub fn remove_children(&self, disk: &Disk) -> Result<Change, Error> {
        self.on_disk(disk, Action::RemoveChildren)
    }

    /// [`gnt_bdev::Driver::pause_sync`].
    ///
    /// # Errors
    /// See [`Error::refused`].
    pub fn pause_sync(&self, disk: &Disk) -> Result<(), Error> {
        self.on_disk(disk, Action::PauseSync)
    }

    /// [`gnt_bdev::Driver::resume_sync`].
    ///
    /// # Errors
    /// See [`Error::refused`].
    pub fn resume_sync(&self, disk: &Disk) -> Result<(), Error> {
        self.on_disk(disk, Action::ResumeSync)
    }

    /// [`gnt_bdev::Driver::disconnect_net`].
    ///
    /// # Errors
    /// See [`Error::refused`].
    pub fn disconnect_net(&self, disk: &Disk) -> Result<Change, Error> {
        self.on_disk(disk, Action::DisconnectNet)
    }

    /// [`gnt_bdev::Driver::attach_net`].
    ///
    /// # Errors
    /// See [`Error::refused`].
    pub fn attach_net(&self, disk: &Disk, multimaster: bool) -> Result<Change, Error> {
        self.on_disk(disk, Action::AttachNet { multimaster })
    }

    /// [`gnt_bdev::tree::wait_sync`] for one disk.
    ///
    /// # Errors
    /// See [`Error::refused`].
    pub fn wait_sync(&self, disk: &Disk) -> Result<SyncProgress, Error> {
        self.on_disk(disk, Action::WaitSync)
    }

    /// Whether [`gnt_bdev::tree::needs_activation`] names this disk.
    ///
    /// # Errors
    /// See [`Error::refused`].
    pub fn needs_activation(&self, disk: &Disk) -> Result<bool, Error> {
        let named: Vec<String> = self.on_disk(disk, Action::NeedsActivation)?;
        Ok(!named.is_empty())
    }

    /// [`gnt_bdev::transfer::convert`].
    ///
    /// # Errors
    /// See [`Error::refused`].
    pub fn convert(&self, from: &Disk, to: &Disk) -> Result<(), Error> {
        let disk = Box::new(to.clone());
        self.on_disk(from, Action::ConvertTo { disk })
    }

    /// [`gnt_bdev::storage::storage_units`] of LVM.
    ///
    /// # Errors
    /// See [`Error::refused`].
    pub fn units(&self, kind: UnitType) -> Result<Vec<StorageUnit>, Error> {
        self.call(Call::Units { kind })
    }

    /// [`gnt_bdev::storage::set_allocatable`].
    ///
    /// # Errors
    /// See [`Error::refused`].
    pub fn set_allocatable(&self, pv: &str, allocatable: bool) -> Result<Change, Error> {
        let pv = pv.to_owned();
        self.call(Call::SetAllocatable { pv, allocatable })
    }

    /// [`gnt_bdev::storage::remove_missing`].
    ///
    /// # Errors
    /// See [`Error::refused`].
    pub fn remove_missing(&self, vg: &str) -> Result<Change, Error> {
        self.call(Call::RemoveMissing { vg: vg.to_owned() })
    }

    fn on_disk<T: DeserializeOwned>(&self, disk: &Disk, action: Action) -> Result<T, Error> {
        self.call(Call::Disk {
            disk: Box::new(disk.clone()),
            instance: self.instance.clone(),
            action,
        })
    }

    fn on_disks<T: DeserializeOwned>(&self, disks: &[Disk], action: ActionOnAll) -> Result<T, Error> {
        self.call(Call::Disks {
            disks: disks.to_vec(),
            instance: self.instance.clone(),
            action,
        })
    }

    fn call<T: DeserializeOwned>(&self, call: Call) -> Result<T, Error> {
        let request = Request::Storage {
            node: self.node.clone(),
            call: Box::new(call),
        };
        let mut answer = self.guest.ask(&request, TIMEOUT)?;
        lock(&self.programs).append(&mut answer.programs);
        lock(&self.noted).append(&mut answer.noted);
        answer.read().map_err(|error| self.guest.told(error))
    }
}
