//! Running an operation: its steps are journalled before they act, undone in reverse when one fails, and finished or undone
//! by the next process when this one dies.

mod act;
mod held;
mod recovery;
mod run;
mod transfer;

use std::collections::BTreeSet;

use gnt_bdev::{Assembled, SyncProgress};
use gnt_store::{OperationRecord, Owner, PlannedStep, Store, StoreError};

use crate::error::{Error, Result};
use crate::kind::Kind;
use crate::node::Node;
use crate::ops::find_node;
use crate::step::Step;
pub(crate) use act::LOOK_EVERY;
use held::Held;
pub use recovery::Healing;
use run::Run;

/// The nodes that an operation can ask, by UUID.
pub trait Nodes: Sync {
    /// The kind of node.
    type Node: Node;

    /// The node, or an error that says why it cannot be asked.
    fn node(&self, uuid: &str) -> Result<&Self::Node>;

    /// The same nodes with everything they do marked as part of `operation`, so that what an operation started can be
    /// told from the rest.
    fn for_operation(&self, operation: &str) -> Self;

    /// Ends what `operation` left running on this machine when the task that ran it was dropped. Other nodes notice themselves that nobody
    /// waits for their answer any more.
    fn end_orphans_here(&self, operation: &str) -> Result<()>;

    /// Ends what `operation` left running on `nodes` (UUIDs) when its process died, or when one of them did not answer. All are asked,
    /// whatever fails.
    fn end_orphans(&self, operation: &str, nodes: &[String]) -> impl Future<Output = Result<()>>;
}

/// What happens while an operation runs.
#[derive(Debug, Clone, Copy)]
pub enum Event<'a> {
    /// The step is about to act.
    Starting(&'a Step),
    /// It waits for a synchronisation, which is this far.
    Syncing(&'a Step, SyncProgress),
    /// It acted; the journal does not know yet.
    Acted(&'a Step),
    /// A step that takes long has come so far. The journal knows.
    Progress {
        /// The step.
        step: &'a Step,
        /// How many bytes are done.
        done: u64,
        /// Of how many.
        total: u64,
    },
    /// The journal knows.
    Recorded(&'a Step),
    /// A step failed; what was done is about to be undone.
    Failed(&'a Step, &'a Error),
    /// The step, which undoes another, is about to act.
    Undoing(&'a Step),
    /// An operation that an earlier process left behind is finished or undone first.
    Healing(&'a OperationRecord, Healing),
    /// What is to be known of such an operation. Told here only if the one that came for it fails; else its report has it.
    Healed(&'a str),
}

/// What an operation did.
#[derive(Debug, Default)]
pub struct Report {
    /// Id of the operation; none where nothing had to be done.
    pub operation: Option<String>,
    /// The disks put into use.
    pub assembled: Vec<AssembledDisk>,
    /// What needs attention although the operation is done.
    pub warnings: Vec<String>,
}

impl Report {
    /// Adds disks that were put into use, or replaces what was said of them before.
    fn note(&mut self, assembled: Vec<AssembledDisk>) {
        let same =
            |one: &AssembledDisk, other: &AssembledDisk| (&one.node, one.index) == (&other.node, other.index);
        self.assembled
            .retain(|before| !assembled.iter().any(|now| same(before, now)));
        self.assembled.extend(assembled);
    }
}

/// A disk that was put into use on a node.
#[derive(Debug)]
pub struct AssembledDisk {
    /// UUID of the node.
    pub node: String,
    /// Index of the disk.
    pub index: u32,
    /// Where it is there.
    pub assembled: Assembled,
}

/// What a plan is made with.
#[derive(Debug, Clone, Copy)]
pub struct Begun<'a, N> {
    /// Id of the operation.
    pub id: &'a str,
    /// The nodes, marked with it.
    pub nodes: &'a N,
}

/// Runs operations. When the future of one is dropped before it is over, the operation is interrupted as if the process had
/// died: dropping ends what it left running, and the next operation [heals](Self::heal) it.
pub struct Engine<'a, N> {
    /// Configuration and journal.
    pub store: &'a Store,
    /// Nodes.
    pub nodes: &'a N,
    /// Whether steps only say what they would do; nodes must be in the same mode.
    pub dry_run: bool,
    /// Told of every event.
    pub observer: &'a (dyn Fn(Event<'_>) + Sync),
}

impl<N: Nodes> Engine<'_, N> {
    /// Runs an operation of `kind` on the first of `instances`, all of which are locked. `plan` is called with the locks held and
    /// gives the steps.
    pub async fn run(
        &self,
        kind: Kind,
        instances: &[&str],
        plan: impl AsyncFnOnce(Begun<'_, N>) -> Result<Vec<Step>>,
    ) -> Result<Report> {
        let locks: Vec<_> = instances.iter().map(|name| format!("instance/{name}")).collect();
        let subject = instances.first().copied().unwrap_or_default();
        let plan = async |begun: Begun<'_, N>| {
            self.ensure_at_rest(kind, instances)?;
            plan(begun).await
        };
        self.run_locked(kind, subject, &locks, plan).await
    }

    /// Runs an operation of `kind` on `subject`, of whatever nature it is, that has `locks` for itself.
    pub(crate) async fn run_locked(
        &self,
        kind: Kind,
        subject: &str,
        locks: &[String],
        plan: impl AsyncFnOnce(Begun<'_, N>) -> Result<Vec<Step>>,
    ) -> Result<Report> {
        let mut healed = Vec::new();
        let result = async {
            let held = self.begin(kind, subject, locks, &mut healed).await?;
            held.during(self.run_held(&held, plan, &mut healed)).await
        };
        let result = result.await;
        match result {
            Ok(mut report) => {
                report.warnings.splice(0..0, healed);
                Ok(report)
            }
            Err(error) => {
                healed
                    .iter()
                    .for_each(|told| (self.observer)(Event::Healed(told)));
                Err(error)
            }
        }
    }

    /// An instance that is being migrated waits for the end of that.
    fn ensure_at_rest(&self, kind: Kind, instances: &[&str]) -> Result<()> {
        for name in instances.iter().filter(|_| !kind.ends_migration()) {
            if let Some(instance) = self.store.instance(name)?
                && let Some(migration) = &instance.migration
            {
                return Err(Error::Migrating {
                    instance: instance.name.clone(),
                    source_node: find_node(self.store, &migration.source)?.name,
                    target_node: find_node(self.store, &migration.target)?.name,
                });
            }
        }
        Ok(())
    }

    async fn run_held(
        &self,
        held: &Held<'_, '_, N>,
        plan: impl AsyncFnOnce(Begun<'_, N>) -> Result<Vec<Step>>,
        healed: &mut Vec<String>,
    ) -> Result<Report> {
        let begun = Begun {
            id: &held.id,
            nodes: &held.nodes,
        };
        let planned = match plan(begun).await {
            Ok(steps) if steps.is_empty() || self.dry_run => Err(self.rehearse(&held.nodes, &steps).await),
            Ok(steps) => self
                .journal(&held.id, &steps, healed)
                .await
                .map(|()| steps)
                .map_err(Err),
            Err(error) => Err(Err(error)),
        };
        match planned {
            Ok(steps) => Run { held, steps: &steps }.forward(0).await,
            Err(result) => {
                self.store.withdraw(&held.id)?;
                result
            }
        }
    }

    /// Journals the plan, and shares the nodes that it touches with other plans: none of them is removed meanwhile.
    async fn journal(&self, id: &str, steps: &[Step], healed: &mut Vec<String>) -> Result<()> {
        let nodes: BTreeSet<_> = steps.iter().flat_map(Step::nodes).collect();
        let locks: Vec<_> = nodes.into_iter().map(node_lock).collect();
        let steps: Vec<_> = steps.iter().map(journal_form).collect::<Result<_>>()?;
        loop {
            match self.store.plan(id, &steps, &locks) {
                Err(StoreError::Interrupted { operation, .. }) => {
                    healed.extend(self.heal_first(&operation.operation).await?);
                }
                planned => return Ok(planned?),
            }
        }
    }

    /// Takes the locks, after healing what dead processes left behind under them; `healed` gets what somebody should know of that.
    async fn begin(
        &self,
        kind: Kind,
        subject: &str,
        locks: &[String],
        healed: &mut Vec<String>,
    ) -> Result<Held<'_, '_, N>> {
        loop {
            match self.store.begin(kind.as_str(), subject, locks, &Owner::current()) {
                Err(StoreError::Interrupted { operation, .. }) if !self.dry_run => {
                    healed.extend(self.heal_first(&operation.operation).await?);
                }
                begun => return Ok(Held::new(self, begun?)),
            }
        }
    }

    async fn rehearse(&self, nodes: &N, steps: &[Step]) -> Result<Report> {
        let mut report = Report::default();
        for step in steps {
            (self.observer)(Event::Starting(step));
            if step.only_looks() || step.transfer().is_some() {
                continue;
            }
            match act::act(nodes, step, &|_| {}).await {
                Ok(assembled) => report.note(assembled),
                Err(error) if step.is_optional() => report.warnings.push(step.do_without(&error)),
                Err(error) => return Err(error),
            }
        }
        Ok(report)
    }
}

/// Name of the lock on the node with this UUID.
pub(crate) fn node_lock(uuid: &str) -> String {
    format!("node/{uuid}")
}

fn journal_form(step: &Step) -> Result<PlannedStep> {
    let data = serde_json::to_value(step).map_err(|source| Error::Unwritable {
        step: step.name(),
        source,
    })?;
    Ok(PlannedStep {
        name: step.name().to_owned(),
        data,
    })
}
