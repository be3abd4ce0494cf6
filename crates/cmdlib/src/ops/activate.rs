//! Putting an instance's disks into use and taking them out of it.

use gnt_config::template::INT_MIRROR;

use crate::error::{Error, Result};
use crate::kind::Kind;
use crate::node::Role;
use crate::ops::{Subject, name_of};
use crate::saga::{Engine, Nodes, Report};
use crate::step::{Places, Step};

/// Assembles every disk of the instance and links to its device (`gnt-instance activate-disks`), on every node that can be asked. Disks
/// that are in use already stay so; if one cannot be put into use, those that were not are taken out again.
///
/// A mirrored disk is first assembled on both its nodes, and opened on the primary node when the two have found each other. What goes wrong on
/// the secondary node is told, and the disk used without it.
pub async fn activate<N: Nodes>(engine: &Engine<'_, N>, instance: &str) -> Result<Report> {
    let instance = &name_of(engine.store, instance)?;
    let mut warnings = Vec::new();
    let mut report = engine
        .run(Kind::Activate, &[instance], async |begun| {
            let subject = Subject::load(engine.store, instance)?;
            let fresh = !subject.instance.disks_active;
            if let Err(error @ Error::NodeOffline { .. }) = subject.reach(begun.nodes, &subject.node.uuid) {
                return Err(error);
            }
            let mut steps = assemble(
                subject.places_within_reach(begun.nodes)?,
                fresh,
                Secondary::MayFail,
            );
            warnings = subject.offline_halves("is not activated");
            if fresh {
                steps.push(subject.record_active(true));
            }
            Ok(steps)
        })
        .await?;
    report.warnings.append(&mut warnings);
    Ok(report)
}

/// Shuts every disk of the instance down and removes the links (`gnt-instance deactivate-disks`), on every node that can be asked. What
/// stays in use on the secondary node is told.
pub async fn deactivate<N: Nodes>(engine: &Engine<'_, N>, instance: &str) -> Result<Report> {
    let instance = &name_of(engine.store, instance)?;
    let mut warnings = Vec::new();
    let mut report = engine
        .run(Kind::Deactivate, &[instance], async |begun| {
            let subject = Subject::load(engine.store, instance)?;
            let was_active = subject.instance.disks_active;
            let mut steps = shut_down(subject.places_within_reach(begun.nodes)?, was_active);
            warnings = subject.offline_halves("may still be in use");
            if was_active {
                steps.push(subject.record_active(false));
            }
            Ok(steps)
        })
        .await?;
    report.warnings.append(&mut warnings);
    Ok(report)
}

/// What it means if a disk's half on the secondary node cannot be put into use.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Secondary {
    /// The disk is used without it.
    MayFail,
    /// The disk has never been used, or is not to be without it.
    Required,
}

/// The steps that put disks into use on all of `places`, secondary nodes first. They are not in use yet if they are `fresh`.
pub(crate) fn assemble(mut places: Vec<Places>, fresh: bool, secondary: Secondary) -> Vec<Step> {
    let Some(primary) = places.pop_if(|places| places.role == Role::Primary) else {
        return places
            .into_iter()
            .map(|at| Step::AssembleDisks { at, fresh })
            .collect();
    };
    let may_fail = |step: Step, otherwise: String| match secondary {
        Secondary::MayFail => step.or_warn(otherwise),
        Secondary::Required => step,
    };
    let mut steps = Vec::new();
    let is_mirrored = !places.is_empty();
    for at in places {
        let otherwise = format!("the disks of {} are used without that half", at.instance);
        steps.push(may_fail(Step::AssembleDisks { at, fresh }, otherwise));
    }
    if is_mirrored {
        let mut at = Places {
            role: Role::Secondary,
            ..primary.clone()
        };
        at.disks
            .retain(|disk| INT_MIRROR.contains(disk.dev_type.template()));
        steps.push(Step::AssembleDisks {
            at: at.clone(),
            fresh,
        });
        let otherwise = format!("the disks of {} are not mirrored", at.instance);
        steps.push(may_fail(Step::AwaitPeers { at }, otherwise));
    }
    steps.push(Step::AssembleDisks { at: primary, fresh });
    steps
}

/// The steps that take disks out of use on all of `places`, of which the primary node is the last and the first to be asked.
pub(crate) fn shut_down(places: Vec<Places>, was_active: bool) -> Vec<Step> {
    let may_fail = places.len() > 1;
    let steps = places.into_iter().rev().map(|at| {
        let is_primary = at.role == Role::Primary;
        let otherwise = format!("that half of the disks of {} may still be in use", at.instance);
        let step = Step::ShutdownDisks { at, was_active };
        match is_primary || !may_fail {
            true => step,
            false => step.or_warn(otherwise),
        }
    });
    steps.collect()
}

/// The steps that take disks out of use which were put into it for the operation alone, on all of `places`, the primary node first.
pub(crate) fn release(places: Vec<Places>) -> impl Iterator<Item = Step> {
    places.into_iter().rev().map(|at| Step::ShutdownDisks {
        at,
        was_active: false,
    })
}

impl Subject {
    /// What is to be told of the nodes that are set offline: their half of the disks `is_what`.
    pub(crate) fn offline_halves(&self, is_what: &str) -> Vec<String> {
        let name = &self.instance.name;
        let told =
            |node: &String| format!("node {node} is set offline: its half of the disks of {name} {is_what}");
        self.offline.values().map(told).collect()
    }
}
