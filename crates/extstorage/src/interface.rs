//! Running the actions, and making sure of what they did.

use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use gnt_process::{Captured, Output, Runner};
use serde_json::{Map, Value};

use crate::action::Action;
use crate::attach::parse_attach_output;
use crate::checked::{CheckedProvider, Providers};
use crate::device::Device;
use crate::environment::{Arguments, sanitize_metadata};
use crate::error::{Reason, Result};
use crate::log::{Log, LogError};
use crate::provider::SearchPath;
use crate::run::{Call, Engine};
use crate::volume::Volume;
use crate::volume_info::{VolumeInfo, parse_info, parse_list};

/// How long a script may run unless [`ExtStorage::with_timeout`] says otherwise.
pub const DEFAULT_TIMEOUT: Duration = Duration::from_secs(900);

/// The volumes of all providers, as one node reaches them.
///
/// Every action finds and checks the provider, runs its script, logs that, and then looks at what was done,
/// because many a script exits with 0 whatever happens: see the single actions. Cheap to clone.
#[derive(Clone)]
pub struct ExtStorage {
    providers: Arc<Providers>,
    engine: Engine,
}

/// How a volume is reached on this node. Nothing at all in a dry run.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Attachment {
    /// Its device, if it has one here.
    pub device: Option<Device>,
    /// Hypervisors (in lower case) and the URI by which each reaches the volume without a device.
    pub uris: Vec<(String, String)>,
}

impl Attachment {
    /// The URI for a hypervisor (`GetUserspaceAccessUri`).
    pub fn uri(&self, hypervisor: &str) -> Option<&str> {
        let mut uris = self.uris.iter();
        uris.find(|(name, _)| name.eq_ignore_ascii_case(hypervisor))
            .map(|(_, uri)| uri.as_str())
    }

    fn from_output(output: &Output) -> Result<Attachment, Reason> {
        let answer = parse_attach_output(whole(&output.stdout)?).map_err(Reason::AttachOutput)?;
        let device = answer.device.as_deref().map(Device::at).transpose();
        Ok(Attachment {
            device: device.map_err(Reason::Device)?,
            uris: answer.uris,
        })
    }

    /// A volume without a device cannot be measured.
    fn check_size(&self, asked_mib: u64) -> Result<(), Reason> {
        match &self.device {
            Some(device) if device.size >> 20 < asked_mib => Err(Reason::TooSmall {
                device: device.path.clone(),
                size: device.size,
                asked_mib,
            }),
            _ => Ok(()),
        }
    }
}

/// Whether an optional action was done.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Performed {
    /// The script was run, with success.
    Done,
    /// The provider has no script for it, so there is nothing to do.
    NotSupported,
}

impl ExtStorage {
    /// Finds providers in `search_path`, logs to `PROVIDER.log` in `log_dir`, which is made when it is
    /// needed, and tells scripts `state_dir` as `GNT_DISK_STATE`.
    pub fn new(
        runner: Arc<dyn Runner>,
        search_path: SearchPath,
        log_dir: impl Into<PathBuf>,
        state_dir: impl Into<PathBuf>,
    ) -> ExtStorage {
        ExtStorage {
            providers: Arc::new(Providers::new(search_path)),
            engine: Engine {
                runner,
                log: Log::new(log_dir.into()),
                state_dir: state_dir.into(),
                timeout: DEFAULT_TIMEOUT,
                dry_run: false,
                operation: None,
                on_log_error: Arc::new(|_| ()),
            },
        }
    }

    /// How long each script may run.
    #[must_use]
    pub fn with_timeout(mut self, timeout: Duration) -> ExtStorage {
        self.engine.timeout = timeout;
        self
    }

    /// Whether the runner does not really make changes: then there is nothing to log or to verify.
    #[must_use]
    pub fn with_dry_run(mut self, dry_run: bool) -> ExtStorage {
        self.engine.dry_run = dry_run;
        self
    }

    /// What to do when an action cannot be logged, which does not keep it from being done; nothing by
    /// default.
    #[must_use]
    pub fn on_log_error(mut self, report: impl Fn(&LogError) + Send + Sync + 'static) -> ExtStorage {
        self.engine.on_log_error = Arc::new(report);
        self
    }

    /// The same as part of an operation: its id stands in the log, and marks the scripts' processes.
    #[must_use]
    pub fn with_operation(&self, id: &str) -> ExtStorage {
        let mut tagged = self.clone();
        tagged.engine.operation = Some(id.to_owned());
        tagged
    }

    /// Where providers are searched for.
    pub fn search_path(&self) -> &SearchPath {
        self.providers.search_path()
    }

    /// How long a script may run.
    pub fn timeout(&self) -> Duration {
        self.engine.timeout
    }

    /// The log of a provider.
    pub fn log_path(&self, provider: &str) -> PathBuf {
        self.engine.log.path(provider)
    }

    /// Makes a volume, detached, of at least `size_mib`.
    ///
    /// The volume is then attached, measured and detached again. A provider's own word (`info`) would be
    /// cheaper, but it is the word of the same author whose exit status is in doubt: only the device shows
    /// that the volume is there, that this node reaches it, and how large it really is.
    ///
    /// # Errors
    /// Also when the volume cannot be attached or is too small. It may exist nevertheless: whoever gives up
    /// removes it.
    pub fn create(&self, volume: &Volume<'_>) -> Result<()> {
        let provider = self.find(volume.provider)?;
        let call = Call::on(&provider, Action::Create, volume).with(Arguments {
            size_mib: Some(volume.size_mib),
            ..Arguments::default()
        });
        let created = self.engine.act(&call, |_| Ok(()))?;
        if self.engine.dry_run {
            return Ok(());
        }
        let attachment = match self.run_attach(&provider, volume) {
            Ok(attachment) => attachment,
            Err(error) => {
                if error.reason().is_some_and(Reason::script_succeeded) {
                    // It may have attached something nevertheless. What matters is the first error; this is
                    // in the log.
                    let _ = self.run_detach(&provider, volume, None);
                }
                let reason = Reason::NotAttachable(Box::new(error));
                return Err(self.engine.refute(&call, reason, &created.printed));
            }
        };
        let size = attachment.check_size(volume.size_mib);
        let detached = self.run_detach(&provider, volume, attachment.device.as_ref());
        match size {
            Ok(()) => detached,
            Err(reason) => Err(self.engine.refute(&call, reason, &created.printed)),
        }
    }

    /// Makes a volume accessible on this node, or says how it already is.
    ///
    /// # Errors
    /// Also when the script prints anything but a block device that is there, with something in it, and URIs.
    pub fn attach(&self, volume: &Volume<'_>) -> Result<Attachment> {
        self.run_attach(&self.find(volume.provider)?, volume)
    }

    /// Undoes attach; fine if the volume is not attached. `known` is the device as far as the caller knows
    /// it, so that it can be seen to go; if not known, the provider's `info` is asked, if it has that.
    ///
    /// # Errors
    /// Also when the device is still there five seconds later.
    pub fn detach(&self, volume: &Volume<'_>, known: Option<&Path>) -> Result<()> {
        let provider = self.find(volume.provider)?;
        let device = match known {
            _ if self.engine.dry_run => None,
            Some(path) => Device::at(path).ok(),
            None => self.device_by_info(&provider, volume),
        };
        self.run_detach(&provider, volume, device.as_ref())
    }

    /// Deletes a volume and its data. Ganeti's callers detach it first, and providers may rely on that.
    ///
    /// # Errors
    /// Also when the provider's `info` or `list` still shows the volume. That one of them fails now proves
    /// nothing.
    pub fn remove(&self, volume: &Volume<'_>) -> Result<()> {
        let provider = self.find(volume.provider)?;
        let call = Call::on(&provider, Action::Remove, volume);
        let removed = self.engine.act(&call, |_| Ok(()))?;
        if !self.engine.dry_run && self.still_has(&provider, volume) {
            return Err(self.engine.refute(&call, Reason::StillThere, &removed.printed));
        }
        Ok(())
    }

    /// Grows a volume to `new_mib`, and leaves it attached. A volume that has this size, and is known to, is
    /// fine; its provider is not asked, because Ganeti promises providers a larger size.
    ///
    /// # Errors
    /// Also when the device is smaller than `new_mib` afterwards.
    pub fn grow(&self, volume: &Volume<'_>, new_mib: u64) -> Result<Attachment> {
        let provider = self.find(volume.provider)?;
        if new_mib <= volume.size_mib {
            let attachment = self.run_attach(&provider, volume)?;
            if attachment.check_size(new_mib).is_ok() {
                return Ok(attachment);
            }
        }
        let call = Call::on(&provider, Action::Grow, volume).with(Arguments {
            size_mib: Some(volume.size_mib),
            new_size_mib: Some(new_mib),
            ..Arguments::default()
        });
        let grown = self.engine.act(&call, |_| Ok(()))?;
        let attachment = self.run_attach(&provider, volume)?;
        match attachment.check_size(new_mib) {
            Ok(()) => Ok(attachment),
            Err(reason) => Err(self.engine.refute(&call, reason, &grown.printed)),
        }
    }

    /// Has the provider keep a text with a volume: [`sanitize_metadata`] of it. A provider that knows how keeps also what is to be in
    /// `keep`, as it is.
    ///
    /// # Errors
    /// When the script fails.
    pub fn setinfo(&self, volume: &Volume<'_>, metadata: &str, keep: Option<&str>) -> Result<()> {
        let metadata = sanitize_metadata(metadata);
        let arguments = Arguments {
            metadata: Some(&metadata),
            keep,
            ..Arguments::default()
        };
        let provider = self.find(volume.provider)?;
        let call = Call::on(&provider, Action::Setinfo, volume).with(arguments);
        self.engine.act(&call, |_| Ok(())).map(drop)
    }

    /// Has the provider check parameters.
    ///
    /// # Errors
    /// When the provider finds fault with them.
    pub fn verify(&self, provider: &str, params: &Map<String, Value>) -> Result<()> {
        let provider = self.find(provider)?;
        let call = Call::of(&provider, Action::Verify, params);
        self.engine.act(&call, |_| Ok(())).map(drop)
    }

    /// Copies a volume as it is now. Ganeti's name for the copy is that of the volume and `.snap`, its size
    /// the volume's.
    ///
    /// # Errors
    /// [`Error::Unsupported`](crate::Error::Unsupported) when the provider has no script for it.
    pub fn snapshot(&self, volume: &Volume<'_>, snapshot_name: &str, snapshot_mib: u64) -> Result<()> {
        let arguments = Arguments {
            snapshot_name: Some(snapshot_name),
            snapshot_mib: Some(snapshot_mib),
            ..Arguments::default()
        };
        let provider = self.find(volume.provider)?;
        let call = Call::on(&provider, Action::Snapshot, volume).with(arguments);
        self.engine.act(&call, |_| Ok(())).map(drop)
    }

    /// Makes a volume ready for I/O from this node, `exclusive`ly or, during a migration, from another one
    /// too.
    ///
    /// # Errors
    /// When the script fails.
    pub fn open(&self, volume: &Volume<'_>, exclusive: bool) -> Result<Performed> {
        let arguments = Arguments {
            exclusive: Some(exclusive),
            ..Arguments::default()
        };
        self.act_if_supported(volume, Action::Open, arguments)
    }

    /// Makes a volume ready for I/O from this node alone, although the node called `from` has it open: that one is dead for certain, and
    /// could not close it. A provider that does not know of this opens it as ever.
    ///
    /// # Errors
    /// When the script fails.
    pub fn take_over(&self, volume: &Volume<'_>, from: &str) -> Result<Performed> {
        let arguments = Arguments {
            exclusive: Some(true),
            dead_node: Some(from),
            ..Arguments::default()
        };
        self.act_if_supported(volume, Action::Open, arguments)
    }

    /// Ends I/O from this node.
    ///
    /// # Errors
    /// When the script fails.
    pub fn close(&self, volume: &Volume<'_>) -> Result<Performed> {
        self.act_if_supported(volume, Action::Close, Arguments::default())
    }

    /// All volumes that a provider has, as far as these parameters lead; `None` when it has no script for
    /// that.
    ///
    /// # Errors
    /// When the script fails or prints anything else.
    pub fn list(&self, provider: &str, params: &Map<String, Value>) -> Result<Option<Vec<VolumeInfo>>> {
        let provider = self.find(provider)?;
        if !provider.supports(Action::List) {
            return Ok(None);
        }
        self.run_list(&provider, params).map(Some)
    }

    /// What a provider knows of a volume: `Some(None)` when there is no such volume, `None` when it has no
    /// script for that.
    ///
    /// # Errors
    /// When the script fails or prints anything else.
    pub fn info(&self, volume: &Volume<'_>) -> Result<Option<Option<VolumeInfo>>> {
        let provider = self.find(volume.provider)?;
        if !provider.supports(Action::Info) {
            return Ok(None);
        }
        self.run_info(&provider, volume).map(Some)
    }

    fn find(&self, provider: &str) -> Result<CheckedProvider> {
        Ok(self.providers.find(provider)?)
    }

    fn act_if_supported(
        &self,
        volume: &Volume<'_>,
        action: Action,
        arguments: Arguments<'_>,
    ) -> Result<Performed> {
        let provider = self.find(volume.provider)?;
        if !provider.supports(action) {
            return Ok(Performed::NotSupported);
        }
        self.engine
            .act(&Call::on(&provider, action, volume).with(arguments), |_| Ok(()))?;
        Ok(Performed::Done)
    }

    fn run_attach(&self, provider: &CheckedProvider, volume: &Volume<'_>) -> Result<Attachment> {
        let call = Call::on(provider, Action::Attach, volume);
        Ok(self.engine.act(&call, Attachment::from_output)?.value)
    }

    fn run_detach(
        &self,
        provider: &CheckedProvider,
        volume: &Volume<'_>,
        device: Option<&Device>,
    ) -> Result<()> {
        let call = Call::on(provider, Action::Detach, volume);
        let content = device.map(Device::content);
        let detached = self.engine.act(&call, |_| Ok(()))?;
        match (device, content) {
            (Some(device), Some(content))
                if !content.wait_until_gone() && self.is_still_attached(provider, volume, device) =>
            {
                let reason = Reason::StillAttached {
                    device: device.path.clone(),
                };
                Err(self.engine.refute(&call, reason, &detached.printed))
            }
            _ => Ok(()),
        }
    }

    /// Whether a device that stays is the volume's. What the caller knew may be out of date, and the device
    /// somebody else's by now; attach tells which one the volume has.
    fn is_still_attached(&self, provider: &CheckedProvider, volume: &Volume<'_>, device: &Device) -> bool {
        let Ok(Attachment { device: now, .. }) = self.run_attach(provider, volume) else {
            return true;
        };
        if now.as_ref().is_some_and(|now| now.is_same(device)) {
            return true;
        }
        let call = Call::on(provider, Action::Detach, volume);
        let content = now.as_ref().map(Device::content);
        let detached = self.engine.act(&call, |_| Ok(())).is_ok();
        !detached || content.is_some_and(|content| !content.wait_until_gone())
    }

    fn device_by_info(&self, provider: &CheckedProvider, volume: &Volume<'_>) -> Option<Device> {
        if !provider.supports(Action::Info) {
            return None;
        }
        let path = self.run_info(provider, volume).ok()??.device?;
        Device::at(&path).ok()
    }

    fn still_has(&self, provider: &CheckedProvider, volume: &Volume<'_>) -> bool {
        if provider.supports(Action::Info) {
            matches!(self.run_info(provider, volume), Ok(Some(_)))
        } else if provider.supports(Action::List) {
            self.run_list(provider, volume.params)
                .is_ok_and(|volumes| volumes.iter().any(|info| info.name == volume.name))
        } else {
            false
        }
    }

    fn run_list(&self, provider: &CheckedProvider, params: &Map<String, Value>) -> Result<Vec<VolumeInfo>> {
        let call = Call::of(provider, Action::List, params);
        let listed = self.engine.act(&call, |output| {
            parse_list(whole(&output.stdout)?).map_err(Reason::Listing)
        })?;
        Ok(listed.value)
    }

    fn run_info(&self, provider: &CheckedProvider, volume: &Volume<'_>) -> Result<Option<VolumeInfo>> {
        let call = Call::on(provider, Action::Info, volume);
        let described = self.engine.act(&call, |output| {
            match parse_info(whole(&output.stdout)?).map_err(Reason::Listing)? {
                Some(info) if info.name != volume.name => Err(Reason::OtherVolume(info.name)),
                info => Ok(info),
            }
        })?;
        Ok(described.value)
    }
}

fn whole(output: &Captured) -> Result<&[u8], Reason> {
    output.bytes().ok_or(Reason::TooMuchOutput(output.total()))
}
