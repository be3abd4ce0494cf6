//! The steps of one operation, forward and backward.

use gnt_bdev::SyncProgress;
use gnt_store::{Outcome, StepRecord, StepState, Store};
use serde_json::Value;

use crate::error::{Error, Result, chain};
use crate::node::NodeError;
use crate::saga::act::{Trace, act, look};
use crate::saga::held::Held;
use crate::saga::transfer::{Course, transfer};
use crate::saga::{AssembledDisk, Event, Nodes, Report};
use crate::step::{Step, Undo};

/// An operation with its steps.
pub(super) struct Run<'a, 'b, N: Nodes> {
    pub(super) held: &'a Held<'a, 'b, N>,
    pub(super) steps: &'a [Step],
}

/// How far undoing came.
#[derive(Default)]
pub(super) struct End<'a> {
    /// This step, and all before it, stays done.
    pub(super) stays: Option<&'a Step>,
    /// What the step that had begun may have left.
    pub(super) left: Option<String>,
}

/// What became of one step.
enum Undone {
    /// Nothing is left of it.
    Entirely(Option<Box<Step>>),
    /// Something may be left, which this tells.
    Partly(String),
    /// It stays done.
    Not,
}

impl<'a, N: Nodes> Run<'a, '_, N> {
    fn store(&self) -> &'a Store {
        self.held.engine.store
    }

    fn tell(&self, event: Event<'_>) {
        (self.held.engine.observer)(event);
    }

    /// Does the steps from `from` on.
    pub(super) async fn forward(&self, from: usize) -> Result<Report> {
        self.forward_resumed(from, 0, false).await
    }

    /// Does the steps from `from` on, of which another process may have begun the first, and come as far as `progress`.
    pub(super) async fn finish(&self, from: usize, progress: Option<&Value>) -> Result<Report> {
        if let Some(step) = self.steps.get(from)
            && !step.is_repeatable()
            && let Undo::Step(undo) = step.undo()
        {
            // It may not have been begun, and there be nothing to undo; if it cannot be done again, that tells.
            let _ = self.act_undo(&undo).await;
        }
        let mut next = self.steps[from..].iter().skip_while(|step| puts_into_use(step));
        if next.next().is_some_and(|step| step.transfer().is_some())
            && let Err(error) = self.assemble_again(from).await
        {
            return Err(self.unwind(from, error, false).await);
        }
        let begun = progress.and_then(Value::as_u64).unwrap_or_default();
        self.forward_resumed(from, begun, true).await
    }

    /// What was put into use for a transfer may no longer be: the node may have been started anew since.
    async fn assemble_again(&self, from: usize) -> Result<()> {
        let before = self.steps[..from].iter().rev();
        // Several transfers may use the same; what comes before others is theirs.
        let is_begun = self.steps[from].transfer().is_some();
        let before = before.skip_while(|step| is_begun && step.transfer().is_some());
        let uses = before.take_while(|step| puts_into_use(step));
        for step in uses.collect::<Vec<_>>().into_iter().rev() {
            self.ask(step, &|_| {}).await?;
        }
        Ok(())
    }

    async fn ask(&self, step: &Step, syncing: &dyn Fn(SyncProgress)) -> Result<Vec<AssembledDisk>> {
        self.settled(step, act(&self.held.nodes, step, syncing).await)
            .await
    }

    /// What a node that did not answer may be at work with is ended, so that it does nothing behind the back of what is asked of it next.
    /// Whether it can be told so, that tells.
    async fn settled<T>(&self, step: &Step, asked: Result<T>) -> Result<T> {
        if asked.as_ref().is_err_and(Error::is_unanswered) {
            let nodes: Vec<_> = step.nodes().into_iter().map(str::to_owned).collect();
            let _ = self.held.nodes.end_orphans(&self.held.id, &nodes).await;
        }
        asked
    }

    /// Does a step, of which so many bytes are done if it is a transfer.
    async fn act(&self, index: usize, begun: u64) -> Result<Vec<AssembledDisk>> {
        let step = &self.steps[index];
        let Some(total) = step.transfer().map(|transfer| transfer.bytes) else {
            let syncing = |progress| self.tell(Event::Syncing(step, progress));
            return self.ask(step, &syncing).await;
        };
        let mut course = Course::new(begun, |done| {
            self.store().step_progress(&self.held.id, index, &done.into())?;
            self.tell(Event::Progress { step, done, total });
            Ok(())
        });
        let transferred = transfer(&self.held.nodes, step, &mut course).await;
        self.settled(step, transferred).await?;
        self.ask(step, &|_| {}).await
    }

    async fn forward_resumed(&self, from: usize, begun: u64, resumed: bool) -> Result<Report> {
        let mut report = Report {
            operation: Some(self.held.id.clone()),
            ..Report::default()
        };
        let mut done = begun;
        for (index, step) in self.steps.iter().enumerate().skip(from) {
            self.tell(Event::Starting(step));
            match self.act(index, std::mem::take(&mut done)).await {
                Ok(assembled) => report.note(assembled),
                Err(error) if step.is_optional() => report.warnings.push(step.do_without(&error)),
                Err(error) => {
                    // What another process may have begun to make is ours.
                    let others = error.is_already_exists() && !(resumed && index == from);
                    return Err(self.unwind(index, error, others).await);
                }
            }
            self.tell(Event::Acted(step));
            if let Err(error) = self.store().step_done(&self.held.id, index, step.changes()) {
                return Err(self.unwind(index, error.into(), false).await);
            }
            self.tell(Event::Recorded(step));
        }
        Ok(report)
    }

    /// Undoes what was begun when step `failed` failed with `cause`; the result is what the user is told. What is there because
    /// `others` made it is not ours to undo.
    async fn unwind(&self, failed: usize, cause: Error, others: bool) -> Error {
        self.tell(Event::Failed(&self.steps[failed], &cause));
        let operation = self.held.id.clone();
        let ended = self.try_unwind(failed, &cause, others).await;
        let source = Box::new(cause);
        match ended {
            Ok(End { stays: Some(_), .. }) => Error::Partial { operation, source },
            Ok(End { left: None, .. }) => Error::Undone { operation, source },
            Ok(End {
                left: Some(leftover), ..
            }) => Error::Leftover {
                operation,
                leftover,
                source,
            },
            Err(error) => Error::UndoFailed {
                operation,
                cause: chain(&source),
                source: Box::new(error),
            },
        }
    }

    async fn try_unwind(&self, failed: usize, cause: &Error, others: bool) -> Result<End<'a>> {
        self.store().start_undo(&self.held.id, &chain(cause))?;
        if others {
            self.store().step_undone(&self.held.id, failed, &[])?;
        }
        self.backward().await
    }

    /// Undoes the operation, which is being [unwound](gnt_store::State::Undoing), in reverse and down to the last step that cannot
    /// be undone.
    pub(super) async fn backward(&self) -> Result<End<'a>> {
        let (store, id) = (self.store(), &self.held.id);
        let record = store.operation(id)?;
        let unwound = |step: &StepRecord| matches!(step.state, StepState::Undone | StepState::Left);
        // The step behind those done may have been begun, unless that is known already.
        let begun = (!record.steps.iter().any(unwound)).then(|| record.next_step());
        let mut end = End::default();
        for (index, step) in self.steps.iter().enumerate().rev() {
            let undone = match record.steps[index].state {
                StepState::Undone => continue,
                StepState::Pending if begun != Some(index) => continue,
                StepState::Done => self.undo_done(step).await,
                StepState::Pending => self.undo_begun(index, step).await,
                StepState::Left => match step.undo() {
                    // What came before may be undone already, and cannot stay.
                    Undo::Never => Ok(Undone::Partly(match look(&self.held.nodes, step).await {
                        Trace::Part(what) => what,
                        _ => format!("\"{step}\" cannot be undone"),
                    })),
                    _ => self.undo_begun(index, step).await,
                },
            };
            match undone {
                Ok(Undone::Entirely(undo)) => {
                    let changes = undo.as_deref().map(Step::changes).unwrap_or_default();
                    store.step_undone(id, index, changes)?;
                    if let Some(undo) = undo {
                        self.tell(Event::Recorded(&undo));
                    }
                }
                Ok(Undone::Partly(what)) => {
                    let what = end
                        .left
                        .take()
                        .into_iter()
                        .chain([what])
                        .collect::<Vec<_>>()
                        .join("; ");
                    store.step_left(id, index, &what)?;
                    end.left = Some(what);
                }
                Ok(Undone::Not) => {
                    let left = end.left.iter().map(|left| format!("; {left}"));
                    let message = stays(step) + &left.collect::<String>();
                    store.finish(id, &Outcome::Failed(message))?;
                    end.stays = Some(step);
                    return Ok(end);
                }
                Err(error) => {
                    store.fail(id, &chain(&error))?;
                    return Err(error);
                }
            }
        }
        store.finish(id, &Outcome::Undone)?;
        Ok(end)
    }

    async fn undo_done(&self, step: &Step) -> Result<Undone> {
        match step.undo() {
            Undo::Never => Ok(Undone::Not),
            Undo::Nothing => Ok(Undone::Entirely(None)),
            Undo::Step(undo) => match self.act_undo(&undo).await {
                Ok(()) => Ok(Undone::Entirely(Some(undo))),
                Err(error) => left_out(&undo, &error).map(Undone::Partly).ok_or(error),
            },
        }
    }

    /// Undoes a step that was begun and may have done all, a part or nothing. That its undo fails proves nothing: a provider may
    /// well refuse to remove a volume that it did not create.
    async fn undo_begun(&self, index: usize, step: &Step) -> Result<Undone> {
        let undo = match step.undo() {
            Undo::Nothing => return Ok(Undone::Entirely(None)),
            Undo::Never => None,
            // Its changes are made in the transaction that records it as done.
            Undo::Step(_) if matches!(step, Step::Configure { .. }) => return Ok(Undone::Entirely(None)),
            Undo::Step(undo) => Some(undo),
        };
        let failed = match &undo {
            None => None,
            Some(undo) => match self.act_undo(undo).await {
                Ok(()) => return Ok(Undone::Entirely(Some(undo.clone()))),
                Err(error) => match left_out(undo, &error) {
                    Some(what) => return Ok(Undone::Partly(what)),
                    None => Some((undo, error)),
                },
            },
        };
        match (look(&self.held.nodes, step).await, failed) {
            (Trace::Nothing, _) => Ok(Undone::Entirely(None)),
            (Trace::Unknown, Some((_, error))) if self.is_contested(index) || step.displaces() => Err(error),
            (Trace::Unknown, Some((undo, error))) => Ok(Undone::Partly(format!(
                "\"{undo}\" failed, and something may be left: {}",
                chain(&error)
            ))),
            (Trace::All | Trace::Part(_), Some((_, error))) => Err(error),
            (Trace::Part(what), None) => Ok(Undone::Partly(what)),
            (Trace::Unknown, None) => Ok(Undone::Not),
            (Trace::All, None) => {
                self.store()
                    .finish_partly(&self.held.id, index, step.changes(), &stays(step))?;
                Ok(Undone::Not)
            }
        }
    }

    /// Whether the step gives disks to a node that another node gets back when the operation is undone: both must not have them.
    fn is_contested(&self, index: usize) -> bool {
        let step = &self.steps[index];
        let is_given_back = |earlier: &Step| match earlier.undo() {
            Undo::Step(undo) => undo.gives_disks() && undo.nodes() != step.nodes(),
            _ => false,
        };
        step.gives_disks() && self.steps[..index].iter().any(is_given_back)
    }

    async fn act_undo(&self, undo: &Step) -> Result<()> {
        self.tell(Event::Undoing(undo));
        if let Err(error) = self.ask(undo, &|_| {}).await {
            return Err(self.unless_offline(undo, error)?);
        }
        self.tell(Event::Acted(undo));
        Ok(())
    }

    /// Why a step failed: a node that does not answer may have been set offline since this process read of it.
    fn unless_offline(&self, step: &Step, error: Error) -> Result<Error> {
        let Error::Node(NodeError::Unreachable { node, .. } | NodeError::Unanswered { node, .. }) = &error
        else {
            return Ok(error);
        };
        for uuid in step.nodes() {
            if let Some(name) = self.held.set_offline(uuid)?
                && name == *node
            {
                return Ok(Error::NodeOffline { node: name });
            }
        }
        Ok(error)
    }
}

fn puts_into_use(step: &Step) -> bool {
    matches!(step, Step::AssembleDisks { .. } | Step::AwaitPeers { .. })
}

/// What is told if undoing goes on although this failed: it was an attempt, or nobody can ask the node.
fn left_out(undo: &Step, error: &Error) -> Option<String> {
    match error {
        _ if undo.is_attempt() => Some(undo.do_without(error)),
        // A disk must not be elsewhere than the configuration says, not even on a node that nobody asks.
        Error::NodeOffline { .. } if !undo.displaces() => Some(format!("\"{undo}\" was left out: {error}")),
        _ => None,
    }
}

/// What is told of an operation that ended there.
pub(super) fn stays(step: &Step) -> String {
    format!("\"{step}\" and what came before stays done")
}
