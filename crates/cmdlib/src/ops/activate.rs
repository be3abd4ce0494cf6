//! Putting an instance's disks into use and taking them out of it.

use crate::error::Result;
use crate::kind::Kind;
use crate::ops::{Subject, name_of};
use crate::saga::{Engine, Nodes, Report};
use crate::step::Step;

/// Assembles every disk of the instance and links to its device (`gnt-instance activate-disks`). Disks that are in use
/// already stay so; if one cannot be put into use, those that were not are taken out again.
pub async fn activate<N: Nodes>(engine: &Engine<'_, N>, instance: &str) -> Result<Report> {
    let instance = &name_of(engine.store, instance)?;
    engine
        .run(Kind::Activate, &[instance], async |_| {
            let subject = Subject::load(engine.store, instance)?;
            let fresh = !subject.instance.disks_active;
            let mut steps = Vec::new();
            for disk in &subject.disks {
                steps.push(Step::AssembleDisk {
                    at: subject.place(disk)?,
                    fresh,
                });
            }
            if fresh {
                steps.push(subject.record_active(true));
            }
            Ok(steps)
        })
        .await
}

/// Shuts every disk of the instance down and removes the links (`gnt-instance deactivate-disks`).
pub async fn deactivate<N: Nodes>(engine: &Engine<'_, N>, instance: &str) -> Result<Report> {
    let instance = &name_of(engine.store, instance)?;
    engine
        .run(Kind::Deactivate, &[instance], async |_| {
            let subject = Subject::load(engine.store, instance)?;
            let was_active = subject.instance.disks_active;
            let mut steps = Vec::new();
            for disk in &subject.disks {
                steps.push(Step::ShutdownDisk {
                    at: subject.place(disk)?,
                    was_active,
                });
            }
            if was_active {
                steps.push(subject.record_active(false));
            }
            Ok(steps)
        })
        .await
}
