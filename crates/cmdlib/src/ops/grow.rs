//! Enlarging a disk.

use gnt_bdev::Layer;
use gnt_config::Mebibytes;
use gnt_config::template::GROWABLE;
use gnt_store::Change;

use crate::error::{Error, Result};
use crate::kind::Kind;
use crate::node::Node;
use crate::ops::activate::{Secondary, assemble, shut_down};
use crate::ops::{Subject, name_of};
use crate::saga::{Engine, Nodes, Report};
use crate::step::{Place, Step};

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
/// for that time. `wait_for_sync` waits until what was added is synchronised before it is taken out of use again.
pub async fn grow<N: Nodes>(
    engine: &Engine<'_, N>,
    instance: &str,
    disk: &str,
    growth: Growth,
    wait_for_sync: bool,
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
            let idle = !subject.instance.disks_active;
            let plan = Growing {
                halves: subject.halves(disk)?,
                to: grown.size,
                idle,
            };
            plan.check(begun.nodes).await?;
            let mut steps = plan.steps(record);
            if idle && !disk.children.is_empty() {
                let places = subject.places_of([disk])?;
                let logical = steps.pop();
                steps.extend(assemble(places.clone(), true, Secondary::Required));
                steps.extend(logical);
                if wait_for_sync {
                    let at = subject.places_of([&grown])?;
                    let otherwise = format!("{grown} is synchronised when it is activated");
                    steps.push(Step::AwaitSync { at }.or_warn(otherwise));
                }
                steps.extend(shut_down(places, true));
            }
            steps.extend(relabel);
            Ok(steps)
        })
        .await
}

/// What grows, in this order: the volumes with the data on all nodes, then on the primary node what is built on them.
struct Growing {
    /// The disk on each node, the primary one last.
    halves: Vec<Place>,
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
        let grow = |at: &Place, layer, idle| Step::GrowDisk {
            at: at.clone(),
            to: self.to,
            layer,
            idle,
            record: Vec::new(),
        };
        let built = self.built_on_volumes();
        // A volume below something else needs nothing done to it before or after.
        let idle = self.idle && built.is_none();
        let mut steps: Vec<_> = self
            .halves
            .iter()
            .map(|at| grow(at, Layer::BackingStore, idle))
            .collect();
        steps.extend(built.map(|at| grow(at, Layer::Logical, false)));
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
