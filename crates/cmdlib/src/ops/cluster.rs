//! Changing what holds for the whole cluster (`gnt-cluster modify`).

use std::fmt;
use std::path::{Component, Path, PathBuf};

use gnt_config::objects::EXCLUSIVE_STORAGE;
use gnt_config::params;
use gnt_config::template::INSTANCE_DEPENDENT_PATH;
use gnt_config::{Cluster, Disk, DiskTemplate, LogicalId, Object, Settings, TemplateSet, names};
use gnt_store::{Change, Store};

use crate::error::Result;
use crate::node::NodeError;
use crate::ops::configuration::alone;
use crate::ops::unfit;

/// What changing the cluster is called in the journal.
const KIND: &str = "cluster-modify";

/// One change of the cluster's settings.
#[derive(Debug, Clone, PartialEq)]
pub enum ClusterChange {
    /// The directories in which External Storage providers are searched for, in this order.
    SearchPath(Vec<PathBuf>),
    /// The templates that new disks may have, the first being the default.
    EnabledTemplates(Vec<DiskTemplate>),
    /// One more of them, the last.
    EnableTemplate(DiskTemplate),
    /// One less.
    DisableTemplate(DiskTemplate),
    /// The default volume group.
    VolumeGroup(String),
    /// Disk parameters of a template that get new values.
    DiskParams(DiskTemplate, Object),
    /// Longest run of an External Storage script, in seconds.
    EsTimeout(u64),
    /// A directory below which file-based disks may be.
    AddFileStoragePath(PathBuf),
    /// One that is so no longer. Disks that are below it can no longer be used.
    RemoveFileStoragePath(PathBuf),
    /// The directory of a template's files.
    StorageDir(DiskTemplate, PathBuf),
    /// Whether volumes have physical disks for themselves, on nodes for which nothing else is said.
    ExclusiveStorage(bool),
}

impl fmt::Display for ClusterChange {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::SearchPath(dirs) => {
                let dirs: Vec<_> = dirs.iter().map(|dir| dir.to_string_lossy()).collect();
                write!(f, "search External Storage providers in {}", dirs.join(":"))
            }
            Self::EnabledTemplates(templates) => {
                let names: Vec<_> = templates.iter().map(|template| template.as_str()).collect();
                write!(f, "enable the disk templates {} only", names.join(","))
            }
            Self::EnableTemplate(template) => write!(f, "enable disk template {template}"),
            Self::DisableTemplate(template) => write!(f, "disable disk template {template}"),
            Self::VolumeGroup(name) => write!(f, "make {name} the default volume group"),
            Self::DiskParams(template, values) => {
                let values: Vec<_> = values
                    .iter()
                    .map(|(key, value)| format!("{key}={value}"))
                    .collect();
                write!(f, "set disk parameters of {template}: {}", values.join(","))
            }
            Self::EsTimeout(seconds) => write!(f, "give External Storage scripts {seconds} s"),
            Self::AddFileStoragePath(path) => write!(f, "allow file-based disks below {}", path.display()),
            Self::RemoveFileStoragePath(path) => {
                write!(f, "allow no file-based disks below {}", path.display())
            }
            Self::StorageDir(template, dir) => write!(f, "keep {template} disks in {}", dir.display()),
            Self::ExclusiveStorage(true) => write!(f, "give logical volumes physical disks for themselves"),
            Self::ExclusiveStorage(false) => write!(f, "let logical volumes share physical disks"),
        }
    }
}

/// The settings, and what else decides which of them are possible.
#[derive(Debug, Clone)]
pub struct ClusterSettings {
    /// Those that Ganeti has too.
    pub cluster: Cluster,
    /// Those of this program.
    pub settings: Settings,
    /// The templates that disks have, attached or not.
    pub in_use: TemplateSet,
    /// The files that disks are.
    pub files: Vec<PathBuf>,
}

impl ClusterSettings {
    /// As they are.
    pub fn load(store: &Store) -> Result<Self> {
        let disks = store.disks()?;
        let file = |disk: &Disk| match &disk.logical_id {
            LogicalId::File { path, .. } if INSTANCE_DEPENDENT_PATH.contains(disk.dev_type.template()) => {
                Some(path.into())
            }
            _ => None,
        };
        Ok(Self {
            cluster: store.cluster()?,
            settings: store.settings()?,
            in_use: disks.iter().map(|disk| disk.dev_type.template()).collect(),
            files: disks.iter().filter_map(file).collect(),
        })
    }

    /// Makes one change, or says why it cannot be.
    pub fn apply(&mut self, change: &ClusterChange) -> Result<()> {
        let enabled = &mut self.cluster.enabled_disk_templates;
        match change {
            ClusterChange::SearchPath(directories) => {
                directories
                    .iter()
                    .try_for_each(|directory| plain_absolute(directory))?;
                self.settings.es_search_path.clone_from(directories);
            }
            ClusterChange::EnabledTemplates(templates) => {
                let mut unique = Vec::new();
                for template in templates {
                    has_driver(*template)?;
                    if !unique.contains(template) {
                        unique.push(*template);
                    }
                }
                *enabled = unique;
                self.check_enabled()?;
            }
            ClusterChange::EnableTemplate(template) => {
                has_driver(*template)?;
                if !enabled.contains(template) {
                    enabled.push(*template);
                }
            }
            ClusterChange::DisableTemplate(template) => {
                enabled.retain(|enabled| enabled != template);
                self.check_enabled()?;
            }
            ClusterChange::VolumeGroup(name) => {
                names::volume_group(name)?;
                self.cluster.volume_group_name = Some(name.clone());
            }
            ClusterChange::DiskParams(template, values) => {
                let current = self.cluster.diskparams.get(template).cloned().unwrap_or_default();
                let updated = params::update(*template, &current, values)?;
                self.cluster.diskparams.insert(*template, updated);
            }
            ClusterChange::EsTimeout(0) => {
                return unfit(
                    "a script cannot end within 0 seconds",
                    "give the time in seconds, such as 900",
                );
            }
            ClusterChange::EsTimeout(seconds) => self.settings.es_timeout = *seconds,
            ClusterChange::AddFileStoragePath(path) => {
                plain_absolute(path)?;
                if !self.settings.file_storage_paths.contains(path) {
                    self.settings.file_storage_paths.push(path.clone());
                }
            }
            ClusterChange::RemoveFileStoragePath(path) => self.remove_path(path)?,
            ClusterChange::StorageDir(template, dir) => self.set_storage_dir(*template, dir)?,
            ClusterChange::ExclusiveStorage(exclusive) => {
                let params = &mut self.cluster.ndparams;
                params.insert(EXCLUSIVE_STORAGE.to_owned(), (*exclusive).into());
            }
        }
        Ok(())
    }

    fn check_enabled(&self) -> Result<()> {
        let enabled = &self.cluster.enabled_disk_templates;
        if enabled.is_empty() {
            return unfit(
                "at least one disk template must be enabled",
                "name one, such as ext",
            );
        }
        let enabled: TemplateSet = enabled.iter().copied().collect();
        match self.in_use.difference(enabled).iter().next() {
            Some(template) => unfit(
                format!("disk template {template} cannot be disabled: there are disks that have it"),
                "'gnt-disk list' and 'gnt-disk list --detached' show them",
            ),
            None => Ok(()),
        }
    }

    fn remove_path(&mut self, path: &Path) -> Result<()> {
        let paths = &mut self.settings.file_storage_paths;
        let Some(position) = paths.iter().position(|known| known == path) else {
            return unfit(
                format!("{} is not a file storage path", path.display()),
                "'gnt-disk cluster info' shows those that there are",
            );
        };
        paths.remove(position);
        let is_allowed = |below: &Path| paths.iter().any(|path| below.starts_with(path));
        let is_lost = |below: &Path| below.starts_with(path) && !is_allowed(below);
        let why = if self.files.iter().any(|file| is_lost(file)) {
            "there are disks below it"
        } else if is_lost(Path::new(&self.cluster.file_storage_dir)) {
            "the directory of file disks is below it"
        } else if is_lost(Path::new(&self.cluster.shared_file_storage_dir)) {
            "the directory of sharedfile disks is below it"
        } else {
            return Ok(());
        };
        unfit(
            format!("file storage path {} cannot be removed: {why}", path.display()),
            "'gnt-disk list' shows the disks, 'gnt-disk cluster info' the directories, which --file-storage-dir and \
             --shared-file-storage-dir set",
        )
    }

    fn set_storage_dir(&mut self, template: DiskTemplate, dir: &Path) -> Result<()> {
        plain_absolute(dir)?;
        let text = dir.to_string_lossy().into_owned();
        let Cluster {
            file_storage_dir,
            shared_file_storage_dir,
            gluster_storage_dir,
            ..
        } = &mut self.cluster;
        let known = match template {
            DiskTemplate::File => file_storage_dir,
            DiskTemplate::SharedFile => shared_file_storage_dir,
            // Gluster volumes are mounted there; their files are not below the allowed paths.
            DiskTemplate::Gluster => {
                *gluster_storage_dir = text;
                return Ok(());
            }
            other => {
                return unfit(
                    format!("{other} disks are not in a directory"),
                    "only file-based disks are",
                );
            }
        };
        if !self
            .settings
            .file_storage_paths
            .iter()
            .any(|path| dir.starts_with(path))
        {
            return unfit(
                format!("{} is not below a file storage path", dir.display()),
                "allow it with 'gnt-disk cluster modify --add-file-storage-path DIR', before or at once",
            );
        }
        *known = text;
        Ok(())
    }
}

/// Makes the changes in their order, all or none, and returns the settings as they then are; with `dry_run` nothing is stored.
/// Two processes that do this at once do it one after the other.
pub fn modify(store: &Store, changes: &[ClusterChange], dry_run: bool) -> Result<ClusterSettings> {
    alone(store, KIND, "", dry_run, || {
        let after = changed(store, changes)?;
        let changes = [
            Change::Cluster(after.cluster.clone()),
            Change::Settings(after.settings.clone()),
        ];
        Ok((after, changes.to_vec()))
    })
}

fn changed(store: &Store, changes: &[ClusterChange]) -> Result<ClusterSettings> {
    let mut settings = ClusterSettings::load(store)?;
    changes.iter().try_for_each(|change| settings.apply(change))?;
    Ok(settings)
}

fn has_driver(template: DiskTemplate) -> Result<()> {
    match template.device() {
        Some(device) => Ok(gnt_bdev::driver(device).map(drop).map_err(NodeError::from)?),
        None => Ok(()),
    }
}

/// A directory that others are told of, so it means the same wherever they are.
fn plain_absolute(path: &Path) -> Result<()> {
    let plain = |part| matches!(part, Component::RootDir | Component::Normal(_));
    let absolute = path.is_absolute() && path.components().all(plain);
    match absolute && path.to_str().is_some_and(|text| !text.contains(['\0', '\n'])) {
        true => Ok(()),
        false => unfit(
            format!("'{}' is not a plain absolute path", path.display()),
            "begin with / and leave out ..",
        ),
    }
}

#[cfg(test)]
mod tests {
    use gnt_config::template;
    use serde_json::json;

    use super::*;
    use crate::init::init;

    fn store() -> Store {
        let store = Store::in_memory().unwrap();
        init(&store, Path::new("/state"), "c", "node1").unwrap();
        store
    }

    fn apply(change: ClusterChange) -> Result<ClusterSettings> {
        let mut settings = ClusterSettings::load(&store()).unwrap();
        settings.apply(&change).map(|()| settings)
    }

    fn refused(change: ClusterChange) -> String {
        let error = apply(change).unwrap_err();
        format!("{error} ({})", error.hint().unwrap_or_default())
    }

    #[test]
    fn the_search_path_is_absolute() {
        let settings = apply(ClusterChange::SearchPath(vec!["/a/b".into(), "/c".into()])).unwrap();
        assert_eq!(
            settings.settings.es_search_path,
            [PathBuf::from("/a/b"), PathBuf::from("/c")]
        );
        for bad in ["a", "", "/a/../b", "/a\nb"] {
            assert!(
                refused(ClusterChange::SearchPath(vec![bad.into()])).contains("not a plain absolute path"),
                "{bad}"
            );
        }
    }

    #[test]
    fn templates_are_enabled_in_order_and_once() {
        use DiskTemplate::{Diskless, Ext, File};
        let wanted = vec![File, Ext, File, Diskless];
        let settings = apply(ClusterChange::EnabledTemplates(wanted)).unwrap();
        assert_eq!(settings.cluster.enabled_disk_templates, [File, Ext, Diskless]);
        let mut settings = settings;
        settings.apply(&ClusterChange::DisableTemplate(File)).unwrap();
        settings.apply(&ClusterChange::EnableTemplate(File)).unwrap();
        settings.apply(&ClusterChange::EnableTemplate(File)).unwrap();
        assert_eq!(settings.cluster.enabled_disk_templates, [Ext, Diskless, File]);
        assert!(refused(ClusterChange::EnabledTemplates(Vec::new())).contains("at least one"));
    }

    #[test]
    fn a_template_that_disks_have_stays_enabled() {
        let mut settings = ClusterSettings::load(&store()).unwrap();
        settings.in_use = DiskTemplate::Ext.into();
        let error = settings
            .apply(&ClusterChange::DisableTemplate(DiskTemplate::Ext))
            .unwrap_err();
        assert!(
            error.to_string().contains("there are disks that have it"),
            "{error}"
        );
    }

    #[test]
    fn what_has_no_driver_is_not_enabled() {
        for template in template::ALL {
            let driven = template
                .device()
                .is_none_or(|device| gnt_bdev::driver(device).is_ok());
            assert_eq!(
                apply(ClusterChange::EnableTemplate(template)).is_ok(),
                driven,
                "{template}"
            );
        }
    }

    #[test]
    fn disk_parameters_are_checked() {
        let object = |value: serde_json::Value| value.as_object().unwrap().clone();
        let stripes =
            |value| ClusterChange::DiskParams(DiskTemplate::Plain, object(json!({"stripes": value})));
        let settings = apply(stripes(json!("2"))).unwrap();
        assert_eq!(settings.cluster.diskparams[&DiskTemplate::Plain]["stripes"], 2);
        assert!(apply(stripes(json!("many"))).is_err());
        let unknown = ClusterChange::DiskParams(DiskTemplate::Plain, object(json!({"nonsense": "1"})));
        assert!(refused(unknown).contains("nonsense"));
    }

    #[test]
    fn file_storage_directories_are_below_allowed_paths() {
        let dir = |dir: &str| ClusterChange::StorageDir(DiskTemplate::File, dir.into());
        assert!(refused(dir("/srv/files")).contains("--add-file-storage-path"));
        assert!(refused(dir("/state/file-storage-not")).contains("not below"));
        let mut settings = apply(ClusterChange::AddFileStoragePath("/srv".into())).unwrap();
        settings.apply(&dir("/srv/files")).unwrap();
        assert_eq!(settings.cluster.file_storage_dir, "/srv/files");
        let remove = ClusterChange::RemoveFileStoragePath("/srv".into());
        let error = settings.clone().apply(&remove).unwrap_err();
        assert!(
            error
                .to_string()
                .contains("the directory of file disks is below it")
        );
        settings.apply(&dir("/state/file-storage/new")).unwrap();
        settings.files = vec!["/srv/old/disk".into()];
        let error = settings.clone().apply(&remove).unwrap_err();
        assert!(error.to_string().contains("there are disks below it"));
        // It stays below another path.
        let mut doubly = settings.clone();
        doubly
            .apply(&ClusterChange::AddFileStoragePath("/srv/old".into()))
            .unwrap();
        doubly.apply(&remove).unwrap();
        settings.files = Vec::new();
        settings.apply(&remove).unwrap();
        assert!(
            settings
                .apply(&ClusterChange::RemoveFileStoragePath("/srv".into()))
                .is_err()
        );
        let lvm = ClusterChange::StorageDir(DiskTemplate::Plain, "/srv".into());
        assert!(refused(lvm).contains("not in a directory"));
    }

    #[test]
    fn all_changes_are_made_or_none_and_none_in_a_dry_run() {
        let store = store();
        let before = ClusterSettings::load(&store).unwrap().settings;
        let changes = [
            ClusterChange::EsTimeout(5),
            ClusterChange::SearchPath(vec!["relative".into()]),
        ];
        assert!(modify(&store, &changes, false).is_err());
        assert_eq!(store.settings().unwrap(), before);
        modify(&store, &changes[..1], true).unwrap();
        assert_eq!(store.settings().unwrap(), before);
        assert_eq!(
            modify(&store, &changes[..1], false).unwrap().settings.es_timeout,
            5
        );
        assert_eq!(store.settings().unwrap().es_timeout, 5);
        assert!(modify(&store, &[ClusterChange::EsTimeout(0)], false).is_err());
    }
}
