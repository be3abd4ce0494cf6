//! Where the files of an instance's disks go.

use gnt_config::Cluster;
use gnt_config::names::{self, NameError};
use gnt_config::template::{self, DiskTemplate};

/// No directory for an instance's files can be given.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum FileStorageError {
    /// The cluster has no directory for the template.
    #[error("the cluster has no file storage directory for {template} disks")]
    NotDefined {
        /// The template.
        template: DiskTemplate,
    },
    /// The cluster's directory is not absolute, or has `.` or `..` in it.
    #[error(
        "the cluster's file storage directory for {template} disks, '{dir}', is not a plain absolute path"
    )]
    BadClusterDir {
        /// The template.
        template: DiskTemplate,
        /// The directory.
        dir: String,
    },
    /// The directory asked for is not below the cluster's.
    #[error("file storage directory '{dir}' is not a plain path relative to the cluster's")]
    BadExtraDir {
        /// The directory.
        dir: String,
    },
    /// The instance's name cannot be that of a directory.
    #[error(transparent)]
    InstanceName(#[from] NameError),
}

impl FileStorageError {
    /// What the user can do.
    pub fn hint(&self) -> Option<&'static str> {
        match self {
            Self::NotDefined { .. } | Self::BadClusterDir { .. } => {
                Some("set the directory with gnt-disk cluster modify")
            }
            Self::BadExtraDir { .. } => {
                Some("name a directory below the cluster's, such as 'fast' or 'web/fast'")
            }
            Self::InstanceName(_) => None,
        }
    }
}

/// The directory of an instance's files (`CalculateFileStorageDir`): the cluster's directory for `template`, `extra_dir` below
/// it, and below that one named after the instance where its disks' paths depend on it. None for templates that are not
/// file-based.
pub fn calculate_file_storage_dir(
    template: DiskTemplate,
    cluster: &Cluster,
    instance_name: &str,
    extra_dir: Option<&str>,
) -> Result<Option<String>, FileStorageError> {
    let Some(base) = cluster_dir(template, cluster) else {
        return Ok(None);
    };
    if base.is_empty() {
        return Err(FileStorageError::NotDefined { template });
    }
    let mut parts =
        base.strip_prefix('/')
            .and_then(plain_parts)
            .ok_or_else(|| FileStorageError::BadClusterDir {
                template,
                dir: base.to_owned(),
            })?;
    if let Some(dir) = extra_dir {
        let bad = || FileStorageError::BadExtraDir { dir: dir.to_owned() };
        let relative = !dir.is_empty() && !dir.starts_with('/');
        parts.extend(plain_parts(dir).filter(|_| relative).ok_or_else(bad)?);
    }
    if template::INSTANCE_DEPENDENT_PATH.contains(template) {
        names::instance(instance_name)?;
        parts.push(instance_name);
    }
    Ok(Some(format!("/{}", parts.join("/"))))
}

/// The cluster's directory for files of `template`, empty when it is not set; none for templates that are not in
/// [`template::FILEBASED`].
fn cluster_dir(template: DiskTemplate, cluster: &Cluster) -> Option<&str> {
    match template {
        DiskTemplate::File => Some(&cluster.file_storage_dir),
        DiskTemplate::SharedFile => Some(&cluster.shared_file_storage_dir),
        DiskTemplate::Gluster => Some(&cluster.gluster_storage_dir),
        DiskTemplate::Diskless
        | DiskTemplate::Plain
        | DiskTemplate::Blockdev
        | DiskTemplate::Drbd
        | DiskTemplate::Rbd
        | DiskTemplate::Ext => None,
    }
}

/// The names that a path consists of; none if it has one that leads elsewhere.
fn plain_parts(path: &str) -> Option<Vec<&str>> {
    let parts: Vec<&str> = path.split('/').filter(|part| !part.is_empty()).collect();
    let plain = |part: &&str| !matches!(*part, "." | "..") && !part.contains('\0');
    parts.iter().all(plain).then_some(parts)
}

#[cfg(test)]
mod tests {
    use serde_json::json;
    use strum::IntoEnumIterator;

    use super::*;

    fn cluster() -> Cluster {
        serde_json::from_value(json!({
            "uuid": "u", "cluster_name": "c", "master_node": "m",
            "file_storage_dir": "/srv/file/", "shared_file_storage_dir": "/srv/shared",
            "gluster_storage_dir": "/run/gluster",
        }))
        .unwrap()
    }

    fn dir(template: DiskTemplate, extra: Option<&str>) -> Option<String> {
        calculate_file_storage_dir(template, &cluster(), "inst.example.com", extra).unwrap()
    }

    #[test]
    fn files_go_below_the_cluster_directory_of_their_template() {
        assert_eq!(
            dir(DiskTemplate::File, None).as_deref(),
            Some("/srv/file/inst.example.com")
        );
        assert_eq!(
            dir(DiskTemplate::SharedFile, Some("a/b/")).as_deref(),
            Some("/srv/shared/a/b/inst.example.com")
        );
        assert_eq!(dir(DiskTemplate::Gluster, None).as_deref(), Some("/run/gluster"));
        assert_eq!(
            dir(DiskTemplate::Gluster, Some("x")).as_deref(),
            Some("/run/gluster/x")
        );
    }

    #[test]
    fn exactly_the_file_based_templates_have_a_directory() {
        for template in DiskTemplate::iter() {
            assert_eq!(
                dir(template, None).is_some(),
                template::FILEBASED.contains(template),
                "{template}"
            );
        }
    }

    #[test]
    fn nothing_leads_out_of_the_cluster_directory() {
        for extra in ["", "/", "/etc", "..", "a/../..", "./a", "a/.", "a\0b"] {
            assert_eq!(
                calculate_file_storage_dir(DiskTemplate::File, &cluster(), "i", Some(extra)),
                Err(FileStorageError::BadExtraDir {
                    dir: extra.to_owned()
                }),
                "{extra:?}"
            );
        }
        for name in ["", ".", "..", "a/b", "/a", "a/", "a\0"] {
            let refused = calculate_file_storage_dir(DiskTemplate::SharedFile, &cluster(), name, None);
            assert!(
                matches!(refused, Err(FileStorageError::InstanceName(_))),
                "{name:?}"
            );
        }
    }

    #[test]
    fn the_cluster_directory_must_be_set_and_absolute() {
        let template = DiskTemplate::File;
        let with = |dir: &str| {
            let mut cluster = cluster();
            cluster.file_storage_dir = dir.to_owned();
            calculate_file_storage_dir(template, &cluster, "i", None)
        };
        assert_eq!(with(""), Err(FileStorageError::NotDefined { template }));
        for dir in ["srv", "/srv/../etc", "/srv/."] {
            let dir = dir.to_owned();
            assert_eq!(with(&dir), Err(FileStorageError::BadClusterDir { template, dir }));
        }
    }
}
