//! Writing zeros over disks.

use std::collections::BTreeSet;

use crate::error::Result;
use crate::kind::Kind;
use crate::ops::activate::{Secondary, assemble};
use crate::ops::sizes::sizes;
use crate::ops::{Subject, name_of};
use crate::saga::{Engine, Nodes, Report};
use crate::step::{Pace, Step, Transfer};

/// Overwrites disks, named by index, name or UUID, of an instance that does not use them; all if none is named (`WipeDisks`).
pub async fn wipe<N: Nodes>(
    engine: &Engine<'_, N>,
    instance: &str,
    disks: &[String],
    pace: Pace,
) -> Result<Report> {
    let instance = &name_of(engine.store, instance)?;
    engine
        .run(Kind::Wipe, &[instance], async |begun| {
            let subject = Subject::load(engine.store, instance)?;
            subject.ensure_inactive()?;
            let chosen: BTreeSet<usize> = match disks.is_empty() {
                true => (0..subject.disks.len()).collect(),
                false => disks
                    .iter()
                    .map(|disk| subject.index_of(disk))
                    .collect::<Result<_>>()?,
            };
            let mut steps = Vec::new();
            for index in chosen {
                let subject = subject.alone(index);
                subject.ensure_in_reach(begun.nodes, &subject.disks)?;
                let node = subject.reach(begun.nodes, &subject.node.uuid)?;
                let sizes = sizes(&subject, node).await?;
                for (disk, bytes) in subject.disks.iter().zip(sizes) {
                    let transfer = Transfer {
                        bytes,
                        fresh: false,
                        uses: subject.places()?,
                        pace,
                    };
                    steps.extend(transfer.assembled());
                    let at = subject.place(disk)?;
                    steps.push(Step::WipeDisk { at, transfer });
                }
            }
            Ok(steps)
        })
        .await
}

impl Transfer {
    /// The steps that put into use what the transfer takes out of it.
    pub(crate) fn assembled(&self) -> Vec<Step> {
        assemble(self.uses.clone(), true, Secondary::Required)
    }
}
