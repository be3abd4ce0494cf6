//! Renaming an instance.

use std::path::Path;

use gnt_config::{Disk, Instance, LogicalId};
use gnt_store::Change;

use crate::error::{Error, Result};
use crate::kind::Kind;
use crate::ops::remove::storage_dirs;
use crate::ops::{Subject, info_text, name_of};
use crate::saga::{Engine, Nodes, Report};
use crate::step::{Label, Place, Step};

/// Renames an instance whose disks are not in use (`gnt-instance rename`). Directories that carry its name follow, and every volume
/// is told whose it is now.
pub async fn rename<N: Nodes>(engine: &Engine<'_, N>, instance: &str, to: &str) -> Result<Report> {
    let instance = &name_of(engine.store, instance)?;
    engine
        .run(Kind::Rename, &[instance, to], async |_| {
            gnt_config::names::instance(to)?;
            let subject = Subject::load(engine.store, instance)?;
            subject.ensure_inactive()?;
            if engine.store.instance(to)?.is_some() {
                return Err(Error::InstanceExists {
                    instance: to.to_owned(),
                });
            }
            let from = subject.instance.name.clone();
            let mut steps = Vec::new();
            for dir in storage_dirs(&subject.disks) {
                if let Some(renamed) = renamed_dir(&dir, &from, to) {
                    let node = subject.node.uuid.clone();
                    steps.push(Step::RenameStorageDir {
                        node,
                        from: dir,
                        to: renamed,
                    });
                }
            }
            let renamed: Vec<Disk> = subject
                .disks
                .iter()
                .map(|disk| renamed_disk(disk, &from, to))
                .collect();
            for disk in &renamed {
                let label = |instance: &str| -> Result<Label> {
                    let at = Place {
                        instance: instance.to_owned(),
                        ..subject.place(disk)?
                    };
                    let info = info_text(instance);
                    Ok(Label { at, info })
                };
                steps.push(Step::SetInfo {
                    label: label(to)?,
                    before: Some(Box::new(label(&from)?)),
                });
            }
            let changes = |instance: Instance, disks: &[Disk]| {
                disks
                    .iter()
                    .cloned()
                    .map(Change::Disk)
                    .chain([Change::Instance(instance)])
                    .collect()
            };
            let after = Instance {
                name: to.to_owned(),
                ..subject.instance.clone()
            };
            steps.push(Step::Configure {
                apply: changes(after, &renamed),
                revert: changes(subject.instance.clone(), &subject.disks),
            });
            Ok(steps)
        })
        .await
}

/// Where the directory goes, if its last part is the instance's name.
fn renamed_dir(dir: &str, from: &str, to: &str) -> Option<String> {
    let path = Path::new(dir);
    (path.file_name()?.to_str()? == from).then(|| path.with_file_name(to).to_str().map(str::to_owned))?
}

fn renamed_disk(disk: &Disk, from: &str, to: &str) -> Disk {
    let mut renamed = disk.clone();
    if let LogicalId::File { path, .. } = &mut renamed.logical_id
        && let Some((dir, file)) = path.rsplit_once('/')
        && let Some(dir) = renamed_dir(dir, from, to)
    {
        *path = format!("{dir}/{file}");
    }
    renamed
}
