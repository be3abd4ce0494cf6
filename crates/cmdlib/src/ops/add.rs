//! Making an instance's disks.

use gnt_config::template::NEEDS_SECONDARY;
use gnt_config::{DiskTemplate, FileDriver, Instance, Object, names};
use gnt_store::Change;

use crate::error::{Error, Result};
use crate::kind::Kind;
use crate::ops::layout::Layout;
use crate::ops::remove::storage_dirs;
use crate::ops::{Subject, drained, find_node, ids};
use crate::saga::{Engine, Nodes, Report};
use crate::step::Step;

/// A wish for an instance's disks.
#[derive(Debug, Clone)]
pub struct AddRequest {
    /// Name of the instance.
    pub instance: String,
    /// How its disks are stored.
    pub template: DiskTemplate,
    /// The disks, as `--disk` gives them: `size`, `mode`, `name`, `vg`, `provider`, … (`constants.IDISK_PARAMS`).
    pub disks: Vec<Object>,
    /// Name or UUID of the primary node; by default the master.
    pub primary: Option<String>,
    /// Name or UUID of the secondary node.
    pub secondary: Option<String>,
    /// How files are presented to the hypervisor.
    pub file_driver: FileDriver,
    /// A directory below the cluster's file storage directory in which the instance's is made.
    pub file_storage_dir: Option<String>,
}

/// Makes the disks, on the secondary node too where they are mirrored, and records the instance (`gnt-instance add`). Its disks are not in use
/// afterwards; mirrored ones are synchronised when they are activated for the first time.
pub async fn add<N: Nodes>(engine: &Engine<'_, N>, request: &AddRequest) -> Result<Report> {
    let name = &request.instance;
    names::instance(name)?;
    engine
        .run(Kind::Add, &[name], async |begun| {
            let store = engine.store;
            if store.instance(name)?.is_some() {
                return Err(Error::InstanceExists {
                    instance: name.clone(),
                });
            }
            let mut ids = ids(store, begun.id);
            let primary = match &request.primary {
                Some(node) => find_node(store, node)?,
                None => find_node(store, &store.cluster()?.master_node)?,
            };
            let secondary = request
                .secondary
                .as_deref()
                .map(|node| find_node(store, node))
                .transpose()?;
            let instance = new_instance(name, &primary.uuid)?;
            let mut subject = Subject::new(store, instance, Vec::new())?;
            let nodes = [Some(&primary), secondary.as_ref()].into_iter().flatten();
            if let Some(node) = nodes.clone().find(|node| node.drained) {
                return Err(drained(node));
            }
            subject.learn_addresses(store, nodes.map(|node| node.uuid.as_str()))?;
            if let Some(secondary) = secondary
                .as_ref()
                .filter(|_| NEEDS_SECONDARY.contains(request.template))
            {
                subject.reach(begun.nodes, &secondary.uuid)?;
            }
            let layout = Layout {
                store,
                subject: &subject,
                template: request.template,
                secondary: secondary.as_ref().map(|node| node.uuid.as_str()),
                others: &[],
                has_data: false,
                file_driver: request.file_driver,
                file_storage_dir: request.file_storage_dir.as_deref(),
            };
            let new = layout.disks(&request.disks, begun.nodes, &mut ids).await?;
            let disks: Vec<_> = new.iter().map(|new| new.disk.clone()).collect();
            subject.instance.disks = disks.iter().map(|disk| disk.uuid.clone()).collect();

            let mut steps = Vec::new();
            for path in storage_dirs(&disks) {
                steps.push(Step::CreateStorageDir {
                    node: primary.uuid.clone(),
                    path,
                });
            }
            for new in &new {
                steps.extend(new.steps(&subject)?);
            }
            steps.push(Step::Configure {
                revert: disks
                    .iter()
                    .map(|disk| Change::RemoveDisk(disk.uuid.clone()))
                    .chain([Change::RemoveInstance(subject.instance.uuid.clone())])
                    .collect(),
                apply: disks
                    .into_iter()
                    .map(Change::Disk)
                    .chain([Change::Instance(subject.instance.clone())])
                    .collect(),
            });
            Ok(steps)
        })
        .await
}

/// An instance with what Ganeti wants every instance to have.
pub(crate) fn new_instance(name: &str, primary_node: &str) -> Result<Instance> {
    let object = serde_json::json!({
        "uuid": uuid::Uuid::new_v4().to_string(), "name": name, "primary_node": primary_node,
        "os": "", "hypervisor": "fake", "hvparams": {}, "beparams": {}, "osparams": {}, "osparams_private": {},
        "admin_state": "down", "admin_state_source": "admin", "nics": [], "disks": [], "disks_active": false, "tags": [],
    });
    serde_json::from_value(object).map_err(|source| Error::Unwritable { step: "add", source })
}
