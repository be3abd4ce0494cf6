//! Putting an instance's disks into use and taking them out of it.

use crate::error::Result;
use crate::kind::Kind;
use crate::ops::{Subject, name_of};
use crate::saga::{Engine, Nodes, Report};
use crate::step::Step;

/// Assembles every disk of the instance and links to its device (`gnt-instance activate-disks`), on every node that can be asked: of a
/// mirrored disk each node has its half, and only the primary node opens it. Disks that are in use already stay so; if one cannot be
/// put into use, those that were not are taken out again.
pub async fn activate<N: Nodes>(engine: &Engine<'_, N>, instance: &str) -> Result<Report> {
    let instance = &name_of(engine.store, instance)?;
    engine
        .run(Kind::Activate, &[instance], async |begun| {
            let subject = Subject::load(engine.store, instance)?;
            let fresh = !subject.instance.disks_active;
            let places = subject.places_within_reach(begun.nodes)?.into_iter();
            let mut steps: Vec<_> = places.map(|at| Step::AssembleDisks { at, fresh }).collect();
            if fresh {
                steps.push(subject.record_active(true));
            }
            Ok(steps)
        })
        .await
}

/// Shuts every disk of the instance down and removes the links (`gnt-instance deactivate-disks`), on every node that can be asked.
pub async fn deactivate<N: Nodes>(engine: &Engine<'_, N>, instance: &str) -> Result<Report> {
    let instance = &name_of(engine.store, instance)?;
    engine
        .run(Kind::Deactivate, &[instance], async |begun| {
            let subject = Subject::load(engine.store, instance)?;
            let was_active = subject.instance.disks_active;
            let places = subject.places_within_reach(begun.nodes)?.into_iter().rev();
            let mut steps: Vec<_> = places.map(|at| Step::ShutdownDisks { at, was_active }).collect();
            if was_active {
                steps.push(subject.record_active(false));
            }
            Ok(steps)
        })
        .await
}
