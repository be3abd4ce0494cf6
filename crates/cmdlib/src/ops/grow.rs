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
use crate::step::Step;

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
            let (at, to) = (subject.place(disk)?, grown.size);
            let mut steps = Vec::new();
            for layer in layers(disk) {
                at.on(begun.nodes)?
                    .grow(&at.disk, &at.instance, to, *layer, true)
                    .await?;
                steps.push(Step::GrowDisk {
                    at: at.clone(),
                    to,
                    layer: *layer,
                    idle: !subject.instance.disks_active,
                    record: Vec::new(),
                });
            }
            if amount != Mebibytes(0)
                && let Some(Step::GrowDisk { record, .. }) = steps.last_mut()
            {
                record.push(Change::Disk(grown.clone()));
                steps.extend(subject.relabel(&grown, None)?);
            }
            Ok(steps)
        })
        .await
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

/// What grows, in this order: the volumes with the data, then what is built on them.
fn layers(disk: &gnt_config::Disk) -> &'static [Layer] {
    match disk.children.is_empty() {
        true => &[Layer::BackingStore],
        false => &[Layer::BackingStore, Layer::Logical],
    }
}
