//! The node that operations happen on.

use std::fmt;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use gnt_config::Settings;
use gnt_extstorage::{ExtStorage, SearchPath};
use gnt_process::{Command, DryRun, Output, RunError, Runner};

use crate::file_storage::FileStorage;
use crate::links::DeviceLinks;
use crate::lvm;

/// What drivers find on their node.
#[derive(Clone)]
pub struct Host {
    /// The node's name, for messages.
    pub name: String,
    /// What runs programs.
    pub runner: Arc<dyn Runner>,
    /// The volumes of External Storage providers.
    pub ext: ExtStorage,
    /// Where file-based disks may be.
    pub file_storage: FileStorage,
    /// The links to the devices of active disks.
    pub links: DeviceLinks,
    /// Whether volumes have disks for themselves (node parameter `exclusive_storage`).
    pub exclusive_storage: bool,
    /// What LVM told, while a batch lasts.
    pub(crate) lvm: Option<Arc<lvm::Cache>>,
    pub(crate) changes: Changes,
    /// The directory in which Gluster volumes are mounted.
    pub(crate) gluster_mounts: PathBuf,
}

impl Host {
    /// The node called `name`, with what `settings` say. Directories below `state` are ours to make.
    pub fn new(name: &str, settings: &Settings, state: &Path, runner: Arc<dyn Runner>) -> Self {
        Self::with(name, settings, state, runner, Changes::Made)
    }

    /// The same node when nothing may change (`--dry-run`): `dry_run` gets what would be done, whether a program would do it or not.
    pub fn dry_run(name: &str, settings: &Settings, state: &Path, dry_run: Arc<DryRun>) -> Self {
        let changes = Changes::Noted(Arc::clone(&dry_run));
        Self::with(name, settings, state, dry_run, changes)
    }

    fn with(
        name: &str,
        settings: &Settings,
        state: &Path,
        runner: Arc<dyn Runner>,
        changes: Changes,
    ) -> Self {
        let search_path = SearchPath::new(&settings.es_search_path);
        let ext = ExtStorage::new(Arc::clone(&runner), search_path, &settings.es_log_dir, state)
            .with_timeout(Duration::from_secs(settings.es_timeout))
            .with_dry_run(matches!(changes, Changes::Noted(_)));
        Self {
            name: name.to_owned(),
            runner,
            ext,
            file_storage: FileStorage::new(&settings.file_storage_paths, Some(state), changes.clone()),
            links: DeviceLinks::new(&settings.disk_links_dir, changes.clone()),
            exclusive_storage: false,
            lvm: None,
            changes,
            gluster_mounts: (settings.gluster_mount_dir.clone()).unwrap_or_else(|| state.join("gluster")),
        }
    }

    /// The same node, for one operation: every program is marked as started by it.
    #[must_use]
    pub fn for_operation(&self, id: &str) -> Self {
        Self {
            runner: Arc::new(Tagged {
                runner: Arc::clone(&self.runner),
                operation: id.to_owned(),
            }),
            ext: self.ext.with_operation(id),
            ..self.clone()
        }
    }

    /// The same node for work on several disks at once: what a tool told of all is not asked again for each, until something of ours
    /// changes it. For as long as one piece of work lasts, not longer.
    #[must_use]
    pub fn batch(&self) -> Self {
        Self {
            lvm: self.lvm.clone().or_else(|| Some(Arc::default())),
            ..self.clone()
        }
    }

    /// Whether changes are only noted.
    pub fn is_dry_run(&self) -> bool {
        matches!(self.changes, Changes::Noted(_))
    }
}

impl fmt::Debug for Host {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Host")
            .field("name", &self.name)
            .finish_non_exhaustive()
    }
}

/// What happens to changes that no program makes.
#[derive(Debug, Clone, Default)]
pub enum Changes {
    /// They are made.
    #[default]
    Made,
    /// They are written down (`--dry-run`).
    Noted(Arc<DryRun>),
}

impl Changes {
    /// Writes a change down if that is all that is wanted; then it must not be made.
    pub(crate) fn only_noted(&self, change: impl FnOnce() -> String) -> bool {
        match self {
            Self::Made => false,
            Self::Noted(dry_run) => {
                dry_run.record(change());
                true
            }
        }
    }
}

struct Tagged {
    runner: Arc<dyn Runner>,
    operation: String,
}

impl Runner for Tagged {
    fn run(&self, command: &Command) -> Result<Output, RunError> {
        self.runner.run(&command.clone().tag(&self.operation))
    }
}
