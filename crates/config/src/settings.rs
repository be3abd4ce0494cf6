//! Settings of this program that Ganeti compiles in as constants (`pathutils.py`) and that `config.data` does not carry.

use std::path::{Path, PathBuf};

use serde::{Deserialize, Serialize};

/// Where External Storage providers are searched for, in this order.
pub const ES_SEARCH_PATH: [&str; 3] = [
    "/usr/share/ganeti/extstorage",
    "/srv/ganeti/extstorage",
    "/usr/local/share/gnt-disk/providers",
];

/// What a node needs to know to work with disks.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Settings {
    /// Directories in which External Storage providers are searched for; the first that has one wins.
    pub es_search_path: Vec<PathBuf>,
    /// Directories below which file-based disks may be (`file-storage-paths`).
    pub file_storage_paths: Vec<PathBuf>,
    /// Directory of the links `INSTANCE:INDEX` to the devices of active disks (`DISK_LINKS_DIR`).
    pub disk_links_dir: PathBuf,
    /// Directory of the providers' logs (`LOG_ES_DIR`).
    pub es_log_dir: PathBuf,
    /// Directory in which Gluster volumes are mounted while their disks are in use; `gluster` in the state directory if not set
    /// (`gluster_storage_dir` in Ganeti).
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub gluster_mount_dir: Option<PathBuf>,
    /// Longest run of one External Storage script, in seconds.
    pub es_timeout: u64,
}

impl Settings {
    /// The settings of a new cluster: everything that it writes lies under `state`, so that two clusters on one machine never meet.
    pub fn under(state: &Path) -> Self {
        Self {
            es_search_path: ES_SEARCH_PATH
                .iter()
                .map(PathBuf::from)
                .chain([state.join("providers")])
                .collect(),
            file_storage_paths: vec![state.join("file-storage"), state.join("shared-file-storage")],
            disk_links_dir: state.join("instance-disks"),
            es_log_dir: state.join("log/extstorage"),
            gluster_mount_dir: None,
            es_timeout: 900,
        }
    }
}
