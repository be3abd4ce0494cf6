//! Going on with operations that nobody runs any more.

use std::collections::BTreeSet;

use gnt_store::{Filter, OperationRecord, Outcome, Owner, State, StoreError};

use crate::error::{Error, Result, chain};
use crate::saga::held::Held;
use crate::saga::run::{End, Run, stays};
use crate::saga::{Engine, Event, Nodes, Report};
use crate::step::Step;

/// Why an operation is undone that did not fail.
const INTERRUPTED: &str = "interrupted";

/// What is right for an operation whose process died.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Healing {
    /// Everything that was begun can be undone.
    Undo,
    /// Something that cannot be undone may have begun.
    Finish,
    /// The same, and it overwrites data that is there: nobody but a human knows whether that is wanted still.
    Ask,
}

impl Healing {
    /// What is right for this one.
    ///
    /// # Errors
    /// [`Error::UnknownStep`] if another version began it.
    pub fn of(record: &OperationRecord) -> Result<Self> {
        Ok(Self::of_steps(record, &read_steps(record)?))
    }

    fn of_steps(record: &OperationRecord, steps: &[Step]) -> Self {
        let next = record.next_step();
        match record.state {
            State::Running if steps.iter().take(next + 1).any(Step::is_final) => {
                match steps.iter().skip(next).any(Step::overwrites) {
                    true => Self::Ask,
                    false => Self::Finish,
                }
            }
            _ => Self::Undo,
        }
    }
}

impl<N: Nodes> Engine<'_, N> {
    /// Deals with an operation whose process died: it is undone, or, when something that cannot be undone may have begun, finished.
    /// An error means that it is not over. How it ended, if not as one would wish, the report's warnings tell.
    ///
    /// # Errors
    /// [`Error::Overwriting`] if it was overwriting data: only [`resume`](Self::resume) goes on with that.
    pub async fn heal(&self, record: &OperationRecord) -> Result<Report> {
        ensure_harmless(record)?;
        let (held, record) = self.adopt(record).await?;
        held.during(self.heal_held(&held, &record)).await
    }

    async fn heal_held(&self, held: &Held<'_, '_, N>, record: &OperationRecord) -> Result<Report> {
        let steps = read_steps(record)?;
        let healing = Healing::of_steps(record, &steps);
        (self.observer)(Event::Healing(record, healing));
        let what = format!("operation {} ({} {})", record.id, record.kind, record.instance);
        let warnings = match healing {
            Healing::Ask => return Err(overwriting(record)),
            Healing::Finish => match finish(held, &steps, record).await {
                Ok(report) => return Ok(report),
                Err(error @ (Error::Undone { .. } | Error::Leftover { .. } | Error::Partial { .. })) => {
                    vec![format!(
                        "{what} was interrupted, and could not be finished: {}",
                        chain(&error)
                    )]
                }
                Err(error) => return Err(error),
            },
            Healing::Undo => {
                let End { stays: stayed, left } = undo(held, &steps, record).await?;
                let stayed = stayed.map(|step| {
                    let reason = record.reason.as_deref().unwrap_or(INTERRUPTED);
                    format!("{what} failed ({reason}); {}", stays(step))
                });
                stayed
                    .into_iter()
                    .chain(left.map(|left| format!("{what}: {left}")))
                    .collect()
            }
        };
        Ok(Report {
            warnings,
            ..Report::default()
        })
    }

    /// Heals the operation that is in the way of another, unless somebody else was faster.
    pub(super) async fn heal_first(&self, operation: &str) -> Result<Vec<String>> {
        let record = self.store.operation(operation)?;
        if record.interrupted {
            ensure_harmless(&record)?;
        }
        let (held, record) = match self.adopt(&record).await {
            Err(Error::Store(StoreError::StillRunning { .. } | StoreError::WrongState { .. })) => {
                return Ok(Vec::new());
            }
            adopted => adopted?,
        };
        match held.during(self.heal_held(&held, &record)).await {
            Ok(report) => Ok(report.warnings),
            Err(source) => Err(Error::NotHealed {
                operation: record.id,
                kind: record.kind,
                source: Box::new(source),
            }),
        }
    }

    /// Heals every operation whose process died; those that cannot be [healed](Self::heal) are named in the report's warnings, with how
    /// the others ended where that is not as one would wish.
    pub async fn heal_all(&self) -> Result<Report> {
        let mut report = Report::default();
        for record in self.store.operations(Filter::Unfinished)? {
            if !record.interrupted || record.state == State::Stuck {
                continue;
            }
            match self.heal(&record).await {
                Ok(healed) => report.warnings.extend(healed.warnings),
                Err(error) => {
                    let (id, kind, error) = (&record.id, &record.kind, chain(&error));
                    report
                        .warnings
                        .push(format!("operation {id} ({kind}) is not healed: {error}"));
                }
            }
        }
        Ok(report)
    }

    /// Finishes an interrupted operation; one that was being undone, or whose undo failed, is undone.
    pub async fn resume(&self, record: &OperationRecord) -> Result<Report> {
        let (held, record) = self.adopt(record).await?;
        held.during(async {
            let steps = read_steps(&record)?;
            match record.state {
                State::Running => finish(&held, &steps, &record).await,
                _ => abort(&held, &steps, &record).await,
            }
        })
        .await
    }

    /// Undoes an interrupted operation as far as it can be undone.
    pub async fn abort(&self, record: &OperationRecord) -> Result<Report> {
        let (held, record) = self.adopt(record).await?;
        held.during(async { abort(&held, &read_steps(&record)?, &record).await })
            .await
    }

    /// Gives an interrupted operation up: nothing more is done or undone.
    pub async fn give_up(&self, record: &OperationRecord) -> Result<()> {
        let (held, _) = self.adopt(record).await?;
        Ok(self
            .store
            .finish(&held.id, &Outcome::Failed("given up".to_owned()))?)
    }

    /// Takes the operation over. What its process left running is over when this returns.
    async fn adopt(&self, record: &OperationRecord) -> Result<(Held<'_, '_, N>, OperationRecord)> {
        let record = self.store.adopt(&record.id, &Owner::current())?;
        let held = Held::new(self, record.id.clone());
        // Steps of another version tell nothing of their nodes.
        let steps = read_steps(&record).unwrap_or_default();
        let nodes: BTreeSet<_> = steps.iter().flat_map(Step::nodes).map(str::to_owned).collect();
        // What runs on a node that is offline nobody can end, nor does anybody wait for it.
        let mut asked = Vec::new();
        for node in nodes {
            if held.set_offline(&node)?.is_none() {
                asked.push(node);
            }
        }
        held.nodes.end_orphans(&record.id, &asked).await?;
        Ok((held, record))
    }
}

/// Fails if to go on with the operation destroys data. Nothing of it is touched then.
fn ensure_harmless(record: &OperationRecord) -> Result<()> {
    match Healing::of(record) {
        Ok(Healing::Ask) => Err(overwriting(record)),
        // One that cannot be read is told when it is taken over.
        _ => Ok(()),
    }
}

fn overwriting(record: &OperationRecord) -> Error {
    Error::Overwriting {
        operation: record.id.clone(),
        kind: record.kind.clone(),
        instance: record.instance.clone(),
    }
}

async fn finish<N: Nodes>(
    held: &Held<'_, '_, N>,
    steps: &[Step],
    record: &OperationRecord,
) -> Result<Report> {
    let next = record.next_step();
    let progress = record.steps.get(next).and_then(|step| step.progress.as_ref());
    Run { held, steps }.finish(next, progress).await
}

async fn abort<N: Nodes>(held: &Held<'_, '_, N>, steps: &[Step], record: &OperationRecord) -> Result<Report> {
    let End { stays, left } = undo(held, steps, record).await?;
    if let Some(step) = stays {
        return Err(Error::AbortedLate {
            operation: record.id.clone(),
            step: step.to_string(),
            left,
        });
    }
    Ok(Report {
        operation: Some(record.id.clone()),
        warnings: left.into_iter().collect(),
        ..Report::default()
    })
}

async fn undo<'a, N: Nodes>(
    held: &'a Held<'a, '_, N>,
    steps: &'a [Step],
    record: &OperationRecord,
) -> Result<End<'a>> {
    let reason = record.reason.as_deref().unwrap_or(INTERRUPTED);
    held.engine.store.start_undo(&record.id, reason)?;
    let undone = Run { held, steps }.backward().await;
    undone.map_err(|error| Error::UndoFailed {
        operation: record.id.clone(),
        cause: reason.to_owned(),
        source: Box::new(error),
    })
}

fn read_steps(record: &OperationRecord) -> Result<Vec<Step>> {
    let steps = record.steps.iter().map(|step| {
        serde_json::from_value(step.data.clone()).map_err(|source| Error::UnknownStep {
            operation: record.id.clone(),
            step: step.name.clone(),
            source,
        })
    });
    steps.collect()
}
