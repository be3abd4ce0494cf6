//! Enlarging a disk.

use gnt_bdev::Layer;
use gnt_config::Mebibytes;
use gnt_config::template::GROWABLE;
use gnt_store::Change;

use crate::error::{Error, Result};
use crate::kind::Kind;
use crate::node::Node;
use crate::ops::{Subject, name_of};
use crate::saga::{Engine, Nodes, Report};
use crate::step::{Place, Places, Step};

/// How much larger a disk is to be.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Growth {
    /// By this much.
    By(Mebibytes),
    /// To this size.
    To(Mebibytes),
}

/// Enlarges the disk that `disk` names: index, name or UUID (`gnt-instance grow-disk`). Growing to the size that it has is done
/// already; a smaller size is refused.
///
/// Of a mirrored disk the volumes on both nodes grow first, and then what is built on them, for which a disk that is not in use is put into use
/// for that time. What was added is synchronised while the disk is in use: [`sync`](crate::ops::sync).
pub async fn grow<N: Nodes>(
    engine: &Engine<'_, N>,
    instance: &str,
    disk: &str,
    growth: Growth,
) -> Result<Report> {
    let instance = &name_of(engine.store, instance)?;
    engine
        .run(Kind::Grow, &[instance], async |begun| {
            let subject = Subject::load(engine.store, instance)?;
            let disk = &subject.disks[subject.index_of(disk)?];
            if !GROWABLE.contains(disk.dev_type.template()) {
                let (disk, device) = (disk.to_string(), disk.dev_type);
                return Err(gnt_config::disk::DiskError::NotGrowable { disk, device }.into());
            }
            subject.ensure_in_reach(begun.nodes, [disk])?;
            let amount = amount(&subject, disk, growth)?;
            let mut grown = disk.clone();
            grown.record_grow(amount)?;
            let record = match amount {
                Mebibytes(0) => Vec::new(),
                _ => vec![Change::Disk(grown.clone())],
            };
            let relabel = match amount {
                Mebibytes(0) => Vec::new(),
                _ => subject.relabel(&grown, None)?,
            };
            let plan = Growing {
                halves: subject.halves(disk)?,
                places: subject.places_of([disk])?,
                to: grown.size,
                idle: !subject.instance.disks_active,
            };
            plan.check(begun.nodes).await?;
            let mut steps = plan.steps(record);
            steps.extend(relabel);
            Ok(steps)
        })
        .await
}

/// What grows, in this order: the volumes with the data on all nodes, then on the primary node what is built on them.
struct Growing {
    /// The disk on each node, the primary one last.
    halves: Vec<Place>,
    /// The same.
    places: Vec<Places>,
    to: Mebibytes,
    /// Whether the disk is not in use.
    idle: bool,
}

impl Growing {
    /// Whether all that grows can. What is built on volumes can be asked only while it is in use.
    async fn check<N: Nodes>(&self, nodes: &N) -> Result<()> {
        for at in &self.halves {
            at.on(nodes)?
                .grow(&at.disk, &at.instance, self.to, Layer::BackingStore, true)
                .await?;
        }
        if let Some(at) = self.built_on_volumes().filter(|_| !self.idle) {
            at.on(nodes)?
                .grow(&at.disk, &at.instance, self.to, Layer::Logical, true)
                .await?;
        }
        Ok(())
    }

    /// The steps; with the last, the configuration says that it is done.
    fn steps(&self, record: Vec<Change>) -> Vec<Step> {
        let grow = |at: &Place, layer, idle, halves| Step::GrowDisk {
            at: at.clone(),
            to: self.to,
            layer,
            idle,
            halves,
            record: Vec::new(),
        };
        let built = self.built_on_volumes();
        // A volume below something else needs nothing done to it before or after.
        let idle = self.idle && built.is_none();
        let volumes = self.halves.iter();
        let mut steps: Vec<_> = volumes
            .map(|at| grow(at, Layer::BackingStore, idle, Vec::new()))
            .collect();
        let unused = match self.idle {
            true => self.places.clone(),
            false => Vec::new(),
        };
        steps.extend(built.map(|at| grow(at, Layer::Logical, false, unused)));
        if let Some(Step::GrowDisk { record: last, .. }) = steps.last_mut() {
            *last = record;
        }
        steps
    }

    fn built_on_volumes(&self) -> Option<&Place> {
        self.halves.last().filter(|at| !at.disk.children.is_empty())
    }
}

fn amount(subject: &Subject, disk: &gnt_config::Disk, growth: Growth) -> Result<Mebibytes> {
    match growth {
        Growth::By(amount) => Ok(amount),
        Growth::To(to) => to.checked_sub(disk.size).ok_or_else(|| Error::Shrink {
            instance: subject.instance.name.clone(),
            disk: disk.to_string(),
            from: disk.size,
            to,
        }),
    }
}
