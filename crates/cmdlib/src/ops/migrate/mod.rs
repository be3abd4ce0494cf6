//! Live migration: an instance goes to another node while it runs.
//!
//! A cluster manager moves the running instance itself, its memory and devices. Here is what has to be done to its disks around
//! that: [`prepare`] makes them usable on both nodes, [`finish`] and [`abort`] on one of them alone again. Between the two the
//! instance has a [mark](gnt_config::Migration) that makes every other operation refuse; whatever dies meanwhile, the mark stays, and
//! [`cleanup`] ends the migration on the node where the instance turns out to run. [`migrate`] does all this around a [`Transfer`].
//!
//! Phases can be repeated. Preparing is undone if it fails. The others are not, as the instance does not come back because a
//! node is dead: they go on where they can, and leave the mark if something is missing.

mod settle;
#[cfg(test)]
pub(in crate::ops) mod tests;
mod transfer;

pub use settle::{abort, cleanup, finish};
pub use transfer::{Handover, HandoverDisk, Transfer, TransferError, Transferred};

use gnt_config::{Instance, Migration};
use gnt_store::{Change, Store};

use crate::error::{Error, Result, chain};
use crate::kind::Kind;
use crate::node::{Node, Role};
use crate::ops::route::{Mirror, Route};
use crate::ops::{Subject, name_of};
use crate::saga::{Engine, Nodes, Report};
use crate::step::{Places, Step};
use settle::{Ending, settle};

/// A migration that can begin.
#[derive(Debug)]
pub struct Prepared {
    /// What was done.
    pub report: Report,
    /// What the manager needs to know.
    pub handover: Handover,
}

/// Makes the instance's disks usable on the node that `target` names too, besides the one it runs on. Mirrored by drbd, they can only go
/// to the secondary node, which needs not be named, and must be in sync.
///
/// # Errors
/// Everything is as before then, unless it is [`Error::HalfMigrated`].
pub async fn prepare<N: Nodes>(
    engine: &Engine<'_, N>,
    instance: &str,
    target: Option<&str>,
) -> Result<Prepared> {
    let instance = &name_of(engine.store, instance)?;
    let mut planned = None;
    let result = engine
        .run(Kind::MigratePrepare, &[instance], async |begun| {
            let subject = Subject::load(engine.store, instance)?;
            let route = Route::plan(engine.store, &subject, target, "migrated")?;
            if !subject.instance.disks_active {
                return Err(Error::Unfit {
                    what: format!("the disks of instance {instance} are not in use: it does not run"),
                    hint: "'gnt-disk failover' gives an instance that does not run another node",
                });
            }
            check(begun.nodes, &subject, &route).await?;
            let steps = opening(&subject, &route, begun.id)?;
            planned = Some(route);
            Ok(steps)
        })
        .await;
    let report = half_way(engine.store, instance, None, result)?;
    let Some(route) = planned else {
        return Err(Error::NoInstance {
            instance: instance.clone(),
        });
    };
    let handover = Handover::of(instance, route, &report);
    Ok(Prepared { report, handover })
}

/// Migrates the instance: its disks are [prepared](prepare), `transfer` moves it, and its disks are [finished](finish) or, if it stayed
/// where it was, [put back](abort).
///
/// # Errors
/// [`Error::NotMoved`] if it stayed; [`Error::Whereabouts`] if `transfer` does not know: the mark stays then;
/// [`Error::EndedMeanwhile`] if somebody else ended the migration.
pub async fn migrate<N: Nodes>(
    engine: &Engine<'_, N>,
    instance: &str,
    target: Option<&str>,
    transfer: &impl Transfer,
) -> Result<Report> {
    let Prepared { report, handover } = prepare(engine, instance, target).await?;
    let (instance, migration) = (&handover.instance, handover.migration(report.operation.clone()));
    let (ending, failed) = match transfer.transfer(&handover).await {
        Transferred::Moved => (Ending::Finish, None),
        Transferred::Stayed(error) => (Ending::Abort, Some(error)),
        Transferred::Unknown(error) => match transfer.locate(&handover).await {
            Some(node) if [&handover.target.name, &handover.target.uuid].contains(&&node) => {
                (Ending::Finish, None)
            }
            Some(node) if [&handover.source.name, &handover.source.uuid].contains(&&node) => {
                (Ending::Abort, Some(error))
            }
            _ => {
                let (instance, source) = (instance.clone(), error);
                return Err(Error::Whereabouts { instance, source });
            }
        },
    };
    let cause = failed.as_ref().map(|error| chain(&**error));
    let settled = settle(engine, instance, ending, Some(&migration), cause).await?;
    match failed {
        Some(source) => Err(Error::NotMoved {
            instance: instance.clone(),
            node: handover.source.name,
            source,
        }),
        None => Ok(Report {
            operation: settled.operation,
            assembled: settled.assembled,
            warnings: report.warnings.into_iter().chain(settled.warnings).collect(),
        }),
    }
}

/// [`cleanup`] on the node where `transfer` finds the instance.
///
/// # Errors
/// [`Error::Unfit`] if it does not find it.
pub async fn locate_and_cleanup<N: Nodes>(
    engine: &Engine<'_, N>,
    instance: &str,
    transfer: &impl Transfer,
) -> Result<Report> {
    let subject = Subject::load(engine.store, instance)?;
    let Some(migration) = &subject.instance.migration else {
        return Ok(Report::default());
    };
    let route = Route::begun(engine.store, &subject, migration)?;
    let handover = Handover::of(&subject.instance.name, route, &Report::default());
    match transfer.locate(&handover).await {
        Some(node) => cleanup(engine, &handover.instance, &node).await,
        None => Err(Error::Unfit {
            what: format!("instance {} does not seem to run anywhere", handover.instance),
            hint: "see where it runs, or where it is to run, and tell with --runs-on NODE",
        }),
    }
}

/// What must be so before anything is changed: halves are alike, volumes are reached.
async fn check<N: Nodes>(nodes: &N, subject: &Subject, route: &Route) -> Result<()> {
    let instance = &subject.instance.name;
    for node in [&route.source, &route.target] {
        let at = subject.places_on(&node.uuid, Role::Secondary)?;
        let found = nodes.node(&node.uuid)?.find_all(&at.targets()).await?;
        for (disk, found) in at.disks.iter().zip(found) {
            let (disk, node) = (disk.to_string(), node.name.clone());
            let Some(status) = found? else {
                return Err(Error::NotThere {
                    disk,
                    instance: instance.clone(),
                    node,
                });
            };
            if route.mirror == Mirror::Internal
                && (status.sync.is_degraded || status.sync.sync_percent.is_some())
            {
                return Err(Error::NotInSync {
                    disk,
                    instance: instance.clone(),
                    node,
                    state: status.sync.to_string(),
                });
            }
        }
    }
    Ok(())
}

/// Makes the disks usable on both nodes.
fn opening(subject: &Subject, route: &Route, operation: &str) -> Result<Vec<Step>> {
    let on = |node: &gnt_config::Node, role| subject.places_on(&node.uuid, role);
    let source = on(&route.source, Role::Primary)?;
    let target = on(&route.target, Role::Shared)?;
    let marked = marked(subject, Some(route.migration(operation)));
    let mut steps = vec![Step::Configure {
        apply: vec![Change::Instance(marked)],
        revert: vec![Change::Instance(subject.instance.clone())],
    }];
    if subject.disks.is_empty() {
        return Ok(steps);
    }
    match route.mirror {
        Mirror::Internal => {
            let both: Vec<Places> = vec![source, on(&route.target, Role::Secondary)?];
            steps.extend([
                Step::CloseDisks {
                    at: target.clone(),
                    was_open: false,
                },
                // The connection stays: what is written meanwhile is on both.
                Step::AttachNet {
                    at: both,
                    multimaster: true,
                },
                Step::OpenDisks {
                    at: target.clone(),
                    exclusive: false,
                    fresh: true,
                },
                // Tells where they are. That the other node has them open too was said when they were connected.
                Step::AssembleDisks {
                    at: on(&route.target, Role::Primary)?,
                    fresh: false,
                },
            ]);
        }
        Mirror::External => steps.extend([
            Step::OpenDisks {
                at: source,
                exclusive: false,
                fresh: false,
            },
            Step::AssembleDisks {
                at: target,
                fresh: true,
            },
        ]),
    }
    Ok(steps)
}

fn marked(subject: &Subject, migration: Option<Migration>) -> Instance {
    Instance {
        migration,
        ..subject.instance.clone()
    }
}

impl Route {
    fn migration(&self, operation: &str) -> Migration {
        Migration {
            source: self.source.uuid.clone(),
            target: self.target.uuid.clone(),
            operation: Some(operation.to_owned()),
        }
    }
}

/// Tells of a failure that left the instance marked.
fn half_way(store: &Store, instance: &str, cause: Option<String>, result: Result<Report>) -> Result<Report> {
    match result {
        Err(
            source @ (Error::Partial { .. }
            | Error::Leftover { .. }
            | Error::UndoFailed { .. }
            | Error::NotHealed { .. }),
        ) if store
            .instance(instance)?
            .is_some_and(|instance| instance.migration.is_some()) =>
        {
            Err(Error::HalfMigrated {
                instance: instance.to_owned(),
                cause,
                source: Box::new(source),
            })
        }
        result => result,
    }
}
