//! Running an operation: its steps are journalled before they act, undone in reverse when one fails, and finished or undone
//! by the next process when this one dies.

use gnt_bdev::Assembled;
use gnt_config::LogicalId;
use gnt_store::{OperationRecord, Outcome, Owner, PlannedStep, State, StepState, Store, StoreError};

use crate::error::{Error, Result, chain};
use crate::kind::Kind;
use crate::node::Node;
use crate::step::{Step, Undo};

/// The nodes that an operation can ask, by UUID.
pub trait Nodes: Sync {
    /// The kind of node.
    type Node: Node;

    /// The node, or an error that says why it cannot be asked.
    fn node(&self, uuid: &str) -> Result<&Self::Node>;

    /// The same nodes with everything they do marked as part of `operation`, so that what an operation started can be
    /// told from the rest.
    fn for_operation(&self, operation: &str) -> Self;

    /// Ends what `operation` left running when its process died.
    fn end_orphans(&self, operation: &str) -> Result<()>;
}

/// What happens while an operation runs.
#[derive(Debug, Clone, Copy)]
pub enum Event<'a> {
    /// The step is about to act.
    Starting(&'a Step),
    /// It acted; the journal does not know yet.
    Acted(&'a Step),
    /// The journal knows.
    Recorded(&'a Step),
    /// A step failed; what was done is about to be undone.
    Failed(&'a Step, &'a Error),
    /// The step, which undoes another, is about to act.
    Undoing(&'a Step),
    /// An operation that an earlier process left behind is finished or undone first.
    Healing(&'a OperationRecord),
}

/// What an operation did.
#[derive(Debug, Default)]
pub struct Report {
    /// Id of the operation; none where nothing had to be done.
    pub operation: Option<String>,
    /// The disks put into use, by index.
    pub assembled: Vec<(u32, Assembled)>,
    /// What needs attention although the operation is done.
    pub warnings: Vec<String>,
}

/// What a plan is made with.
#[derive(Debug, Clone, Copy)]
pub struct Begun<'a, N> {
    /// Id of the operation.
    pub id: &'a str,
    /// The nodes, marked with it.
    pub nodes: &'a N,
}

/// Runs operations.
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
        let id = self.begin(kind, instances).await?;
        let nodes = self.nodes.for_operation(&id);
        let planned = plan(Begun {
            id: &id,
            nodes: &nodes,
        })
        .await;
        match planned {
            Ok(steps) if !steps.is_empty() && !self.dry_run => {
                self.store
                    .plan(&id, &steps.iter().map(journal_form).collect::<Result<Vec<_>>>()?)?;
                Run {
                    engine: self,
                    nodes,
                    id: &id,
                    steps: &steps,
                }
                .forward(0)
                .await
            }
            planned => {
                let rehearsed = match planned {
                    Ok(steps) => self.rehearse(&nodes, &steps).await,
                    Err(error) => Err(error),
                };
                self.store.finish(&id, &Outcome::Undone)?;
                rehearsed
            }
        }
    }

    /// Takes the locks, after healing what dead processes left behind under them.
    async fn begin(&self, kind: Kind, instances: &[&str]) -> Result<String> {
        let locks: Vec<String> = instances.iter().map(|name| format!("instance/{name}")).collect();
        let instance = instances.first().copied().unwrap_or_default();
        loop {
            match self
                .store
                .begin(kind.as_str(), instance, &locks, &Owner::current())
            {
                Err(StoreError::Interrupted { operation, .. }) if !self.dry_run => {
                    self.heal(&self.store.operation(&operation.operation)?).await?;
                }
                begun => return Ok(begun?),
            }
        }
    }

    async fn rehearse(&self, nodes: &N, steps: &[Step]) -> Result<Report> {
        let mut report = Report::default();
        for step in steps {
            (self.observer)(Event::Starting(step));
            report.assembled.extend(act(nodes, step).await?);
        }
        Ok(report)
    }

    /// Deals with an operation whose process died: it is undone, or, when something that cannot be undone may have begun, finished.
    pub async fn heal(&self, record: &OperationRecord) -> Result<Report> {
        (self.observer)(Event::Healing(record));
        let (steps, record) = self.adopt(record)?;
        let begun = steps.iter().take(record.next_step() + 1);
        match record.state {
            State::Running if begun.into_iter().any(Step::is_final) => self.finish(&steps, &record).await,
            _ => self.undo(&steps, &record).await,
        }
    }

    /// Heals every operation whose process died; those that cannot be healed are named in the report's warnings.
    pub async fn heal_all(&self) -> Result<Report> {
        let mut report = Report::default();
        for record in self.store.operations(gnt_store::Filter::Unfinished)? {
            if !record.interrupted || record.state == State::Stuck {
                continue;
            }
            if let Err(error) = self.heal(&record).await
                && !matches!(error, Error::Undone { .. })
            {
                report
                    .warnings
                    .push(format!("operation {} ({}): {error}", record.id, record.kind));
            }
        }
        Ok(report)
    }

    /// Finishes an interrupted operation; one that was being undone, or whose undo failed, is undone.
    pub async fn resume(&self, record: &OperationRecord) -> Result<Report> {
        let (steps, record) = self.adopt(record)?;
        match record.state {
            State::Running => self.finish(&steps, &record).await,
            _ => self.undo(&steps, &record).await,
        }
    }

    async fn finish(&self, steps: &[Step], record: &OperationRecord) -> Result<Report> {
        let nodes = self.nodes.for_operation(&record.id);
        Run {
            engine: self,
            nodes,
            id: &record.id,
            steps,
        }
        .forward(record.next_step())
        .await
    }

    /// Undoes an interrupted operation as far as it can be undone.
    pub async fn abort(&self, record: &OperationRecord) -> Result<Report> {
        let (steps, record) = self.adopt(record)?;
        self.undo(&steps, &record).await
    }

    async fn undo(&self, steps: &[Step], record: &OperationRecord) -> Result<Report> {
        let id = &record.id;
        let Some(last) = steps.len().checked_sub(1) else {
            self.store.finish(id, &Outcome::Undone)?;
            return Ok(Report::default());
        };
        let undone = record
            .steps
            .iter()
            .position(|step| step.state == StepState::Undone);
        // The next step may have begun when the process died.
        let uncertain = record.next_step();
        let begun = undone.unwrap_or(uncertain.min(last) + 1);
        self.store.start_undo(id, "interrupted")?;
        let run = Run {
            engine: self,
            nodes: self.nodes.for_operation(id),
            id,
            steps,
        };
        match run.backward(begun, uncertain).await? {
            End::Undone => Ok(Report::default()),
            End::Leftover(error) => Ok(Report {
                warnings: vec![leftover(&error)],
                ..Report::default()
            }),
            End::Stays(step) => {
                let error = Error::AbortedLate {
                    operation: id.clone(),
                    step: step.to_string(),
                };
                self.store.finish(id, &Outcome::Failed(error.to_string()))?;
                Err(error)
            }
        }
    }

    /// Gives an interrupted operation up: nothing more is done or undone.
    pub fn give_up(&self, record: &OperationRecord) -> Result<()> {
        let (_, record) = self.adopt(record)?;
        Ok(self
            .store
            .finish(&record.id, &Outcome::Failed("given up".to_owned()))?)
    }

    fn adopt(&self, record: &OperationRecord) -> Result<(Vec<Step>, OperationRecord)> {
        let record = self.store.adopt(&record.id, &Owner::current())?;
        self.nodes.end_orphans(&record.id)?;
        let steps = record.steps.iter().map(|step| {
            serde_json::from_value(step.data.clone()).map_err(|source| Error::UnknownStep {
                operation: record.id.clone(),
                step: step.name.clone(),
                source,
            })
        });
        Ok((steps.collect::<Result<_>>()?, record))
    }
}

/// One operation while it runs.
struct Run<'a, 'b, N> {
    engine: &'a Engine<'b, N>,
    nodes: N,
    id: &'a str,
    steps: &'a [Step],
}

impl<N: Nodes> Run<'_, '_, N> {
    async fn forward(&self, from: usize) -> Result<Report> {
        let mut report = Report {
            operation: Some(self.id.to_owned()),
            ..Report::default()
        };
        let tell = self.engine.observer;
        for (index, step) in self.steps.iter().enumerate().skip(from) {
            tell(Event::Starting(step));
            match act(&self.nodes, step).await {
                Ok(assembled) => report.assembled.extend(assembled),
                Err(error) => return Err(self.unwind(index, error).await),
            }
            tell(Event::Acted(step));
            if let Err(error) = self.engine.store.step_done(self.id, index, step.changes()) {
                return Err(self.unwind(index, error.into()).await);
            }
            tell(Event::Recorded(step));
        }
        Ok(report)
    }

    /// Undoes what was begun when step `failed` failed with `cause`; the result is what the user is told.
    async fn unwind(&self, failed: usize, cause: Error) -> Error {
        (self.engine.observer)(Event::Failed(&self.steps[failed], &cause));
        let operation = self.id.to_owned();
        match self.try_unwind(failed, &cause).await {
            Ok(End::Undone) => Error::Undone {
                operation,
                source: Box::new(cause),
            },
            Ok(End::Leftover(error)) => Error::Leftover {
                operation,
                leftover: chain(&error),
                source: Box::new(cause),
            },
            Ok(End::Stays(_)) => Error::Partial {
                operation,
                source: Box::new(cause),
            },
            Err(error) => Error::UndoFailed {
                operation,
                cause: chain(&cause),
                source: Box::new(error),
            },
        }
    }

    async fn try_unwind(&self, failed: usize, cause: &Error) -> Result<End<'_>> {
        let store = self.engine.store;
        let message = chain(cause);
        store.start_undo(self.id, &message)?;
        let mut begun = failed + 1;
        if cause.is_already_exists() {
            // What someone else made is not ours to undo.
            store.step_undone(self.id, failed, &[])?;
            begun = failed;
        }
        let end = self.backward(begun, failed).await?;
        if let End::Stays(_) = end {
            store.finish(self.id, &Outcome::Failed(message))?;
        }
        Ok(end)
    }

    /// Undoes the first `begun` steps in reverse, down to the last that cannot be undone. Step `uncertain` may have done nothing, so
    /// that undoing it fails does not stop the rest: a provider may well refuse to remove a volume that it did not create.
    async fn backward(&self, begun: usize, uncertain: usize) -> Result<End<'_>> {
        let tell = self.engine.observer;
        let mut leftover = None;
        for (index, step) in self.steps.iter().enumerate().take(begun).rev() {
            let undo = match step.undo() {
                Undo::Never => return Ok(End::Stays(step)),
                Undo::Nothing => {
                    self.engine.store.step_undone(self.id, index, &[])?;
                    continue;
                }
                Undo::Step(undo) => undo,
            };
            tell(Event::Undoing(&undo));
            match act(&self.nodes, &undo).await {
                Ok(_) => {}
                Err(error) if index == uncertain => {
                    self.engine.store.note(self.id, &self::leftover(&error))?;
                    leftover = Some(error);
                }
                Err(error) => {
                    self.engine.store.fail(self.id, &chain(&error))?;
                    // Whoever mended the cause may go on with it.
                    self.engine.store.abandon(self.id)?;
                    return Err(error);
                }
            }
            tell(Event::Acted(&undo));
            self.engine.store.step_undone(self.id, index, undo.changes())?;
            tell(Event::Recorded(&undo));
        }
        Ok(leftover.map_or(End::Undone, End::Leftover))
    }
}

fn leftover(error: &Error) -> String {
    format!("something may be left: {}", chain(error))
}

/// How far undoing came.
enum End<'a> {
    /// Everything is as before.
    Undone,
    /// Everything is as before, but for what the step that failed may have left: undoing it failed too.
    Leftover(Error),
    /// This step, and all before it, stays done.
    Stays(&'a Step),
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

/// Does what the step says. A change of the configuration is made when the step is recorded.
async fn act<N: Nodes>(nodes: &N, step: &Step) -> Result<Option<(u32, Assembled)>> {
    match step {
        Step::CreateStorageDir { node, path } => {
            nodes.node(node)?.create_storage_dir(path).await.map(drop)?
        }
        Step::RemoveStorageDir { node, path } => {
            nodes.node(node)?.remove_storage_dir(path).await.map(drop)?
        }
        Step::RenameStorageDir { node, from, to } => {
            nodes.node(node)?.rename_storage_dir(from, to).await.map(drop)?;
        }
        Step::CreateDisk { at, info } => at
            .on(nodes)?
            .create(&at.disk, &at.instance, info)
            .await
            .map(drop)?,
        Step::RemoveDisk { at } => at.on(nodes)?.remove(&at.disk, &at.instance).await.map(drop)?,
        Step::AssembleDisk { at, .. } => {
            let assembled = at.on(nodes)?.assemble(&at.disk, &at.instance).await?;
            return Ok(Some((at.disk.index().unwrap_or_default(), assembled)));
        }
        Step::ShutdownDisk { at, .. } => at.on(nodes)?.shutdown(&at.disk, &at.instance).await.map(drop)?,
        Step::GrowDisk { at, to, layer } => {
            at.on(nodes)?
                .grow(&at.disk, &at.instance, *to, *layer, false)
                .await
                .map(drop)?;
        }
        Step::RenameDisk { at, to } => {
            let to = LogicalId::from_json(at.disk.dev_type, to)?;
            at.on(nodes)?
                .rename(&at.disk, &at.instance, &to)
                .await
                .map(drop)?;
        }
        Step::SetInfo { at, info, .. } => at.on(nodes)?.set_info(&at.disk, &at.instance, info).await?,
        Step::SnapshotDisk { at, snapshot } => {
            let name = &snapshot.logical_id.volume();
            at.on(nodes)?
                .snapshot(&at.disk, &at.instance, name, snapshot.size)
                .await
                .map(drop)?;
        }
        Step::MoveLink {
            node,
            instance,
            from,
            to,
        } => {
            nodes
                .node(node)?
                .move_link(instance, *from, *to)
                .await
                .map(drop)?;
        }
        Step::Configure { .. } => {}
    }
    Ok(None)
}
