//! Writing an image to a disk.

use crate::error::{Error, Result};
use crate::kind::Kind;
use crate::node::Node;
use crate::ops::{Subject, find_node, name_of};
use crate::saga::{Engine, Nodes, Report};
use crate::step::{Image, Pace, Step, Transfer};

/// An image, and the disk that gets it.
#[derive(Debug, Clone)]
pub struct ImageRequest {
    /// Index, name or UUID of the disk.
    pub disk: String,
    /// Absolute path of a file or block device, whose bytes are taken as they are.
    pub path: String,
    /// Name or UUID of the node that has it; by default the master.
    pub node: Option<String>,
    /// How it is written.
    pub pace: Pace,
}

/// Writes an image to the beginning of a disk of an instance that does not use it (`ImageDisks`). What is behind it on the disk stays.
pub async fn image<N: Nodes>(
    engine: &Engine<'_, N>,
    instance: &str,
    request: &ImageRequest,
) -> Result<Report> {
    let instance = &name_of(engine.store, instance)?;
    engine
        .run(Kind::Image, &[instance], async |begun| {
            let store = engine.store;
            let subject = Subject::load(store, instance)?;
            subject.ensure_inactive()?;
            let subject = subject.alone(subject.index_of(&request.disk)?);
            subject.ensure_in_reach(begun.nodes, &subject.disks)?;
            let node = match &request.node {
                Some(node) => find_node(store, node)?,
                None => find_node(store, &store.cluster()?.master_node)?,
            };
            let bytes = begun.nodes.node(&node.uuid)?.image_size(&request.path).await?;
            let mut steps = Vec::new();
            for disk in &subject.disks {
                if bytes > disk.size.bytes() {
                    return Err(Error::TooSmall {
                        disk: disk.to_string(),
                        instance: instance.clone(),
                        has: disk.size,
                        what: request.path.clone(),
                        needs: bytes,
                    });
                }
                let transfer = Transfer {
                    bytes,
                    fresh: false,
                    uses: subject.places()?,
                    pace: request.pace,
                };
                steps.extend(transfer.assembled());
                steps.push(Step::ImageDisk {
                    at: subject.place(disk)?,
                    image: Image {
                        node: node.uuid.clone(),
                        path: request.path.clone(),
                    },
                    transfer,
                });
            }
            Ok(steps)
        })
        .await
}
