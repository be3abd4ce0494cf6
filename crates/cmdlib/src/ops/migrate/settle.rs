//! Ending a migration: the instance's disks are usable on the node where it runs, and only there. One plan does it from whatever
//! state its phases, or crashes in them, left.

use gnt_bdev::SyncStatus;
use gnt_config::template::SHUT_DOWN_AFTER_MIGRATION;
use gnt_config::{Disk, Instance, Migration, Node};
use gnt_store::{Change, Filter};

use crate::error::{Error, Result};
use crate::kind::Kind;
use crate::node::{Node as _, Role};
use crate::ops::migrate::half_way;
use crate::ops::route::{Mirror, Route};
use crate::ops::{Subject, find_node, name_of};
use crate::saga::{Engine, LOOK_EVERY, Nodes, Report};
use crate::step::{Places, Step};

/// After how many looks a peer that has no power is known to be gone: DRBD asks after 10 s of silence, and waits 6 s for the answer
/// (`ping-int` and `timeout` in `man drbd.conf`).
const CONNECTION_LOST: u32 = 30;

/// Where a migration ends.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Ending {
    /// On the node that the instance was to come to.
    Finish,
    /// On the node that it came from.
    Abort,
    /// On the node with this name or UUID.
    Cleanup(String),
}

/// Ends a migration whose instance now runs on the target, and nowhere else: that is its primary node from then on. An instance that is
/// not being migrated is left alone, and the report has no operation: this may be done again.
///
/// # Errors
/// [`Error::HalfMigrated`] if a node could not do its part: then this can be repeated, or [`cleanup`] be called.
pub async fn finish<N: Nodes>(engine: &Engine<'_, N>, instance: &str) -> Result<Report> {
    settle(engine, instance, Ending::Finish, None, None).await
}

/// Ends a migration whose instance still runs on the source, and nowhere else. As [`finish`] otherwise.
///
/// # Errors
/// As [`finish`].
pub async fn abort<N: Nodes>(engine: &Engine<'_, N>, instance: &str) -> Result<Report> {
    settle(engine, instance, Ending::Abort, None, None).await
}

/// Ends a migration that something interrupted, in whatever phase: `runs_on` is the one of its two nodes on which the instance runs now,
/// or is to run if it runs nowhere. If the other one is marked offline, it is not asked.
///
/// # Errors
/// As [`finish`]; [`Error::NotMigrating`] if the instance is not being migrated, and is on another node.
pub async fn cleanup<N: Nodes>(engine: &Engine<'_, N>, instance: &str, runs_on: &str) -> Result<Report> {
    settle(engine, instance, Ending::Cleanup(runs_on.to_owned()), None, None).await
}

impl Ending {
    fn kind(&self) -> Kind {
        match self {
            Self::Finish => Kind::MigrateFinish,
            Self::Abort => Kind::MigrateAbort,
            Self::Cleanup(_) => Kind::MigrateCleanup,
        }
    }
}

/// Ends a migration: `ours`, or whichever there is. One that is only rehearsed has left no mark. `cause` is why it could not be done otherwise.
pub(super) async fn settle<N: Nodes>(
    engine: &Engine<'_, N>,
    instance: &str,
    ending: Ending,
    ours: Option<&Migration>,
    cause: Option<String>,
) -> Result<Report> {
    let instance = &name_of(engine.store, instance)?;
    if let Ending::Cleanup(_) = ending {
        give_up_phases(engine, instance).await?;
    }
    let mut warnings = Vec::new();
    let result = engine
        .run(ending.kind(), &[instance], async |begun| {
            let subject = Subject::load(engine.store, instance)?;
            let migration = match (&subject.instance.migration, ours) {
                (_, Some(ours)) if engine.dry_run => ours,
                (Some(migration), None) => migration,
                (Some(migration), Some(ours)) if migration == ours => migration,
                (_, Some(ours)) => return Err(ended_meanwhile(engine, &subject, &ending, ours, &cause)?),
                (None, None) => return nothing_to_end(engine, &subject, &ending),
            };
            let route = Route::begun(engine.store, &subject, migration)?;
            let winner = match &ending {
                Ending::Finish => route.target.clone(),
                Ending::Abort => route.source.clone(),
                Ending::Cleanup(node) => find_node(engine.store, node)?,
            };
            check_winner(&winner, &route, instance)?;
            begun.nodes.node(&winner.uuid)?;
            let loser = route.other(&winner.uuid);
            match loser.offline {
                true => {
                    if route.mirror == Mirror::Internal {
                        ensure_alone(begun.nodes, &subject, &winner, loser).await?;
                    }
                    warnings.extend(without(&subject, loser));
                }
                false => begun.nodes.node(&loser.uuid).map(drop)?,
            }
            steps(&subject, route.mirror, &winner, loser, migration)
        })
        .await;
    let mut report = half_way(engine.store, instance, cause.clone(), result)?;
    report.warnings.splice(0..0, warnings);
    Ok(report)
}

/// What is said of an instance that is not being migrated: only who names a node can be wrong.
fn nothing_to_end<N: Nodes>(engine: &Engine<'_, N>, subject: &Subject, ending: &Ending) -> Result<Vec<Step>> {
    match ending {
        Ending::Cleanup(node) if find_node(engine.store, node)?.uuid != subject.node.uuid => {
            Err(Error::NotMigrating {
                instance: subject.instance.name.clone(),
                node: subject.node.name.clone(),
            })
        }
        _ => Ok(Vec::new()),
    }
}

/// What is said when our migration is not there any more.
fn ended_meanwhile<N: Nodes>(
    engine: &Engine<'_, N>,
    subject: &Subject,
    ending: &Ending,
    ours: &Migration,
    cause: &Option<String>,
) -> Result<Error> {
    let runs_on = match ending {
        Ending::Abort => &ours.source,
        _ => &ours.target,
    };
    Ok(Error::EndedMeanwhile {
        instance: subject.instance.name.clone(),
        disks_on: subject.node.name.clone(),
        runs_on: find_node(engine.store, runs_on)?.name,
        cause: cause.clone(),
    })
}

/// An earlier phase that nobody runs any more is not gone on with: what this one does comes from any state, and needs no node that is dead.
async fn give_up_phases<N: Nodes>(engine: &Engine<'_, N>, instance: &str) -> Result<()> {
    let found = engine.store.instance(instance)?;
    if engine.dry_run || found.is_none_or(|instance| instance.migration.is_none()) {
        return Ok(());
    }
    let phases = Kind::MIGRATION.map(Kind::as_str);
    for record in engine.store.operations(Filter::Unfinished)? {
        if record.interrupted && record.instance == instance && phases.contains(&record.kind.as_str()) {
            engine.give_up(&record).await?;
        }
    }
    Ok(())
}

fn check_winner(winner: &Node, route: &Route, instance: &str) -> Result<()> {
    let (what, hint) = if ![&route.source.uuid, &route.target.uuid].contains(&&winner.uuid) {
        (
            format!(
                "instance {instance} is being migrated from node {} to node {}, and has nothing on node {}",
                route.source.name, route.target.name, winner.name
            ),
            "name one of the two",
        )
    } else if winner.offline {
        (
            format!("node {} is marked offline: nothing can run there", winner.name),
            "if it is back, mark it with 'gnt-disk node modify NODE --offline no'; if not, the instance is to run on the other node",
        )
    } else {
        return Ok(());
    };
    Err(Error::Unfit { what, hint })
}

/// A node that mirrors are connected to is not off, whatever it is marked as, and both may write. It takes a moment until they notice that
/// it is.
async fn ensure_alone<N: Nodes>(nodes: &N, subject: &Subject, winner: &Node, loser: &Node) -> Result<()> {
    let at = subject.places_on(&winner.uuid, Role::Secondary)?;
    let mut patience = CONNECTION_LOST;
    while let Some(disk) = connected(nodes, &at).await? {
        patience -= 1;
        if patience == 0 {
            return Err(Error::NotOff {
                node: loser.name.clone(),
                disk: disk.to_string(),
                instance: subject.instance.name.clone(),
                from: winner.name.clone(),
            });
        }
        tokio::time::sleep(LOOK_EVERY).await;
    }
    Ok(())
}

/// The first of the mirrors that has its peer.
async fn connected<'a, N: Nodes>(nodes: &N, at: &'a Places) -> Result<Option<&'a Disk>> {
    let is_connected = |sync: SyncStatus| !sync.is_degraded || sync.sync_percent.is_some();
    let found = nodes.node(&at.node)?.find_all(&at.targets()).await?;
    for (disk, found) in at.disks.iter().zip(found) {
        if found?.is_some_and(|status| is_connected(status.sync)) {
            return Ok(Some(disk));
        }
    }
    Ok(None)
}

/// What is told of a node that is not asked.
fn without(subject: &Subject, loser: &Node) -> Option<String> {
    (!subject.disks.is_empty()).then(|| {
        format!(
            "node {0} is marked offline, and was not asked to give up the disks of {1}: make sure that it is off; when it is back, \
             'gnt-disk verify' tells what is left there, and of disks mirrored by drbd 'gnt-disk activate {1}' makes the other half again",
            loser.name, subject.instance.name
        )
    })
}

fn steps(
    subject: &Subject,
    mirror: Mirror,
    winner: &Node,
    loser: &Node,
    migration: &Migration,
) -> Result<Vec<Step>> {
    let there = Instance {
        primary_node: Some(winner.uuid.clone()),
        disks_active: true,
        migration: Some(migration.clone()),
        ..subject.instance.clone()
    };
    let mut steps = vec![Step::Commit {
        apply: vec![Change::Instance(there.clone())],
    }];
    if !subject.disks.is_empty() {
        let on = |node: &Node, role| subject.places_on(&node.uuid, role);
        let (to, from) = (on(winner, Role::Primary)?, on(loser, Role::Secondary)?);
        steps.extend(match (mirror, loser.offline) {
            (Mirror::Internal, false) => reconnect(to, on(winner, Role::Secondary)?, from),
            (Mirror::Internal, true) => stand_alone(to, on(winner, Role::Secondary)?),
            (Mirror::External, false) => take_away(to, from),
            (Mirror::External, true) => take_over(to, loser),
        });
    }
    let marked = vec![Change::Instance(there.clone())];
    steps.push(Step::Configure {
        apply: vec![Change::Instance(Instance {
            migration: None,
            ..there
        })],
        revert: marked,
    });
    steps.extend(subject.relabel_on(winner)?);
    Ok(steps)
}

/// Either node may have been up all the time, with both primary, or have lost its power since: first both are made to have something to
/// connect, and only then is the winner opened, as one that is primary cannot take from the other what it may lack.
fn reconnect(to: Places, to_as_half: Places, from: Places) -> Vec<Step> {
    let both = vec![to_as_half.clone(), from.clone()];
    vec![
        kept(to_as_half),
        kept(from.clone()),
        Step::CloseDisks {
            at: from,
            was_open: false,
        },
        Step::AttachNet {
            at: both,
            multimaster: false,
        },
        kept(to),
    ]
}

/// What was connected for two primaries would send the other node away when it is back.
fn stand_alone(to: Places, to_as_half: Places) -> Vec<Step> {
    vec![
        kept(to_as_half.clone()),
        Step::DisconnectNet { at: vec![to_as_half] },
        kept(to),
    ]
}

fn take_away(to: Places, from: Places) -> Vec<Step> {
    let mut held = from.clone();
    held.disks
        .retain(|disk| SHUT_DOWN_AFTER_MIGRATION.contains(disk.dev_type.template()));
    let mut steps = vec![Step::CloseDisks {
        at: from,
        was_open: false,
    }];
    if !held.disks.is_empty() {
        steps.push(Step::ShutdownDisks {
            at: held,
            was_active: false,
        });
    }
    steps.push(kept(to));
    steps
}

fn take_over(to: Places, from: &Node) -> Vec<Step> {
    vec![
        Step::TakeOver {
            at: to.clone(),
            from: from.name.clone(),
            fresh: false,
        },
        kept(to),
    ]
}

/// Nothing takes out of use again what the instance may be using.
fn kept(at: Places) -> Step {
    Step::AssembleDisks { at, fresh: false }
}
