//! What is said on standard error while an operation runs.

use std::io::IsTerminal;
use std::sync::Arc;

use gnt_cmdlib::Event;
use gnt_cmdlib::step::Step;
use gnt_process::DryRun;
use gnt_store::{Change, OperationRecord};

use crate::output::say;

/// Listens to an operation.
pub(crate) struct Progress {
    /// Whether each step is told.
    steps: bool,
    /// Where changes of the configuration are noted instead of made.
    dry_run: Option<Arc<DryRun>>,
}

impl Progress {
    /// Tells steps if that is wanted, or somebody watches.
    pub(crate) fn new(verbose: bool, dry_run: Option<Arc<DryRun>>) -> Self {
        let watched = || std::io::stderr().is_terminal();
        Self {
            steps: verbose || (dry_run.is_none() && watched()),
            dry_run,
        }
    }

    /// One event.
    pub(crate) fn tell(&self, event: Event<'_>) {
        match event {
            Event::Starting(step) => {
                if let (Some(dry_run), changes @ [_, ..]) = (&self.dry_run, step.changes()) {
                    dry_run.record(format!("# configuration: {}", describe(changes)));
                }
                self.step("", step);
            }
            Event::Undoing(step) => self.step("undo: ", step),
            Event::Failed(step, _) if self.steps => say(format_args!("* failed: {step}")),
            Event::Healing(record) => say(format_args!("{} first", healing(record))),
            Event::Failed(..) | Event::Acted(_) | Event::Recorded(_) => {}
        }
    }

    fn step(&self, prefix: &str, step: &Step) {
        if self.steps {
            say(format_args!("* {prefix}{step}"));
        }
    }
}

fn healing(record: &OperationRecord) -> String {
    let OperationRecord {
        id, kind, instance, ..
    } = record;
    format!("operation {id} ({kind} {instance}) was interrupted: finishing or undoing it")
}

/// What changes of the configuration do.
pub(crate) fn describe(changes: &[Change]) -> String {
    let change = |change: &Change| match change {
        Change::Cluster(cluster) => format!("set cluster {}", cluster.cluster_name),
        Change::Settings(_) => "set settings".to_owned(),
        Change::Node(node) => format!("set node {}", node.name),
        Change::RemoveNode(uuid) => format!("forget node {uuid}"),
        Change::Group(group) => format!("set node group {}", group.name),
        Change::RemoveGroup(uuid) => format!("forget node group {uuid}"),
        Change::Instance(instance) => format!("set instance {}", instance.name),
        Change::RemoveInstance(uuid) => format!("forget instance {uuid}"),
        Change::Disk(disk) => format!("set {disk}"),
        Change::RemoveDisk(uuid) => format!("forget disk {uuid}"),
    };
    changes.iter().map(change).collect::<Vec<_>>().join(", ")
}
