//! Giving an instance that does not run, or whose node is dead, another node.

#[cfg(test)]
mod tests;

use gnt_bdev::LocalDiskStatus;
use gnt_config::{Instance, Node};
use gnt_store::Change;

use crate::error::{Error, Result};
use crate::kind::Kind;
use crate::node::{Node as _, Role};
use crate::ops::activate::{Secondary, assemble, release};
use crate::ops::route::{Mirror, Route};
use crate::ops::{Subject, name_of};
use crate::saga::{Engine, Nodes, Report};
use crate::step::{Places, Step};

/// A wish for another node.
#[derive(Debug, Clone, Default)]
pub struct FailoverRequest {
    /// Name or UUID of the instance.
    pub instance: String,
    /// Name or UUID of its node to be. One whose disks are mirrored by drbd can only go to its secondary node, and needs none.
    pub target: Option<String>,
    /// Do it also if the data there may be out of date.
    pub ignore_consistency: bool,
}

/// Makes another node the instance's primary one (`gnt-instance failover`): its disks are taken out of use on the node that it has, and, if
/// they were in use, put into use on the other. The instance itself must not run any more.
///
/// A node that is marked offline is not asked, and the report says what that means. One that only does not answer is not given up:
/// it may still write.
pub async fn failover<N: Nodes>(engine: &Engine<'_, N>, request: &FailoverRequest) -> Result<Report> {
    let instance = &name_of(engine.store, &request.instance)?;
    let mut warnings = Vec::new();
    let report = engine
        .run(Kind::Failover, &[instance], async |begun| {
            let subject = Subject::load(engine.store, instance)?;
            let target = request.target.as_deref();
            let route = Route::plan(engine.store, &subject, target, "failed over")?;
            begun.nodes.node(&route.target.uuid)?;
            if !route.source.offline {
                ensure_answers(begun.nodes, &subject).await?;
            }
            if subject.instance.disks_active
                && let Some(outdated) = outdated(begun.nodes, &subject, &route).await?
            {
                match request.ignore_consistency {
                    true => warnings.push(crate::error::chain(&outdated)),
                    false => return Err(outdated),
                }
            }
            if route.source.offline && !subject.disks.is_empty() {
                warnings.push(consequences(&subject, &route));
            }
            steps(&subject, &route, request.ignore_consistency)
        })
        .await?;
    Ok(Report {
        warnings: warnings.into_iter().chain(report.warnings).collect(),
        ..report
    })
}

async fn ensure_answers<N: Nodes>(nodes: &N, subject: &Subject) -> Result<()> {
    let Node { uuid, name, .. } = &subject.node;
    let asked = async { Ok(nodes.node(uuid)?.links().await.map(drop)?) };
    asked.await.map_err(|source: Error| Error::Silent {
        node: name.clone(),
        instance: subject.instance.name.clone(),
        source: Box::new(source),
    })
}

/// The first disk, if there is one, whose data on the target may not be the last (`CheckDiskConsistency`). Without the other half every disk
/// is degraded, so of a node that is offline only what the target knows of its own data counts.
async fn outdated<N: Nodes>(nodes: &N, subject: &Subject, route: &Route) -> Result<Option<Error>> {
    let at = subject.places_on(&route.target.uuid, Role::Secondary)?;
    let found = nodes.node(&route.target.uuid)?.find_all(&at.targets()).await?;
    for (disk, found) in at.disks.iter().zip(found) {
        let (disk, instance, node) = (
            disk.to_string(),
            subject.instance.name.clone(),
            route.target.name.clone(),
        );
        let Some(status) = found? else {
            return Err(Error::NotThere { disk, instance, node });
        };
        let sync = status.sync;
        let is_good = match route.source.offline {
            true => sync.ldisk_status == LocalDiskStatus::Okay,
            false => !sync.is_degraded && sync.ldisk_status == LocalDiskStatus::Okay,
        };
        if route.mirror == Mirror::Internal && !is_good {
            let state = match status.device.path {
                Some(_) => sync.to_string(),
                None => "it is not active there".to_owned(),
            };
            return Ok(Some(Error::Outdated {
                disk,
                instance,
                node,
                state,
            }));
        }
    }
    Ok(None)
}

/// What is told of a node that is not asked.
fn consequences(subject: &Subject, route: &Route) -> String {
    let (node, instance) = (&route.source.name, &subject.instance.name);
    let kept = match route.mirror {
        Mirror::Internal => format!(
            "what it wrote and could not send is lost, and when it is back 'gnt-disk activate {instance}' makes its half again"
        ),
        Mirror::External => {
            "if it comes back without having been off, it may still have them mapped: 'gnt-disk verify' tells"
                .to_owned()
        }
    };
    format!(
        "node {node} is marked offline, and was not asked to give up the disks of {instance}: if it still runs, two nodes write \
         to them; {kept}"
    )
}

fn steps(subject: &Subject, route: &Route, ignore_consistency: bool) -> Result<Vec<Step>> {
    let active = subject.instance.disks_active;
    let on = |node: &Node, role| subject.places_on(&node.uuid, role);
    let (source, target) = (
        on(&route.source, Role::Primary)?,
        on(&route.target, Role::Primary)?,
    );
    let mut steps = Vec::new();
    if !subject.disks.is_empty() {
        match (route.mirror, route.source.offline) {
            (_, true) => {}
            // Only what both have is as good on the one as on the other.
            (Mirror::Internal, false) if !active && !ignore_consistency => {
                steps.extend(compare(subject)?);
            }
            // Its half stays where it is, and becomes the secondary one.
            (Mirror::Internal, false) => steps.push(Step::CloseDisks {
                at: source,
                was_open: active,
            }),
            (Mirror::External, false) => steps.push(Step::ShutdownDisks {
                at: source,
                was_active: active,
            }),
        }
        if active {
            steps.extend(match route.mirror {
                Mirror::Internal => {
                    let half = on(&route.target, Role::Secondary)?;
                    // It may have been good when this was planned, and not be now.
                    let check = Step::CheckData {
                        at: half.clone(),
                        mirrored: !route.source.offline,
                    };
                    let steps = [
                        // Nothing to do unless it lost its power.
                        Some(Step::AssembleDisks {
                            at: half,
                            fresh: false,
                        }),
                        Some(check).filter(|_| !ignore_consistency),
                        Some(Step::OpenDisks {
                            at: target.clone(),
                            exclusive: true,
                            fresh: true,
                        }),
                        // Tells where they are.
                        Some(Step::AssembleDisks {
                            at: target,
                            fresh: false,
                        }),
                    ];
                    steps.into_iter().flatten().collect()
                }
                Mirror::External if route.source.offline => vec![
                    Step::TakeOver {
                        at: target.clone(),
                        from: route.source.name.clone(),
                        fresh: true,
                    },
                    Step::AssembleDisks {
                        at: target,
                        fresh: true,
                    },
                ],
                Mirror::External => vec![Step::AssembleDisks {
                    at: target,
                    fresh: true,
                }],
            });
        }
    }
    let moved = Instance {
        primary_node: Some(route.target.uuid.clone()),
        ..subject.instance.clone()
    };
    steps.push(Step::Configure {
        apply: vec![Change::Instance(moved)],
        revert: vec![Change::Instance(subject.instance.clone())],
    });
    steps.extend(subject.relabel_on(&route.target)?);
    Ok(steps)
}

/// Puts disks that are not in use into it until their halves are alike. One that never was is what the source has.
fn compare(subject: &Subject) -> Result<Vec<Step>> {
    let uses = subject.unplaced().places()?;
    let halves = uses.iter().cloned().map(|at| Places {
        role: Role::Secondary,
        ..at
    });
    let wait = Step::AwaitSync { at: halves.collect() };
    let mut steps = assemble(uses.clone(), true, Secondary::Required);
    steps.push(wait);
    steps.extend(release(uses));
    Ok(steps)
}
