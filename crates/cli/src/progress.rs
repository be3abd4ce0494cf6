//! What is said on standard error while an operation runs.

use std::collections::BTreeMap;
use std::convert::Infallible;
use std::io::IsTerminal;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use gnt_bdev::SyncStatus;
use gnt_cmdlib::ops::sync::Mirror;
use gnt_cmdlib::step::Step;
use gnt_cmdlib::{Event, Healing};
use gnt_config::Disk;
use gnt_process::DryRun;
use gnt_store::{Change, OperationRecord};
use indicatif::{MultiProgress, ProgressBar, ProgressStyle};

use crate::context::warn;
use crate::output::say;
use crate::view::{NodeNames, action};

/// A step that takes longer is shown to be at work, and for how long, this often.
const TICK: Duration = Duration::from_secs(1);
/// Between two lines about a synchronisation where there is no terminal.
const TELL_EVERY: Duration = Duration::from_secs(60);
/// What a whole bar is made of.
const PARTS: u64 = 1000;

/// Listens to an operation.
pub(crate) struct Progress {
    /// Whether each step is told.
    steps: bool,
    /// What nodes are called.
    names: NodeNames,
    /// Where changes of the configuration are noted instead of made.
    dry_run: Option<Arc<DryRun>>,
    /// The step that is at work.
    running: Mutex<Option<Running>>,
    /// The data that is on its way.
    transfer: Mutex<Option<Shown>>,
}

/// How far a transfer is, as far as it was shown.
struct Shown {
    bar: ProgressBar,
    told: Instant,
}

impl Shown {
    /// One that may have begun in another process.
    fn new(done: u64, total: u64) -> Self {
        let bar = ProgressBar::new(total);
        bar.set_style(style("  [{bar:30}] {binary_bytes} of {binary_total_bytes}"));
        // What was done before it was watched says nothing about how fast it goes.
        bar.set_position(done);
        bar.tick();
        bar.reset_eta();
        Self {
            bar,
            told: Instant::now(),
        }
    }

    fn come_to(&self, done: u64) {
        self.bar.set_style(style(
            "  [{bar:30}] {binary_bytes} of {binary_total_bytes}, {binary_bytes_per_sec}, {eta} to go",
        ));
        self.bar.set_position(done);
    }
}

impl Drop for Shown {
    fn drop(&mut self) {
        self.bar.finish_and_clear();
    }
}

/// A step that takes long is seen to be at work.
struct Running {
    since: Instant,
    bar: Option<ProgressBar>,
    /// When a line was last printed about how far it is.
    told: Option<Instant>,
}

impl Running {
    fn synchronised(&mut self, percent: f64) {
        let since = self.since;
        let new = || ProgressBar::new(PARTS).with_elapsed(since.elapsed());
        let bar = self.bar.get_or_insert_with(new);
        if bar.is_hidden() {
            if self.told.is_none_or(|told| told.elapsed() >= TELL_EVERY) {
                say(format_args!("  {percent:.1}% in sync"));
                self.told = Some(Instant::now());
            }
            return;
        }
        bar.set_style(style("  [{bar:30}] {msg} {elapsed}"));
        bar.set_length(PARTS);
        bar.set_message(format!("{percent:.1}% in sync"));
        bar.set_position((percent / 100.0 * PARTS as f64) as u64);
    }
}

impl Drop for Running {
    fn drop(&mut self) {
        if let Some(bar) = &self.bar {
            bar.finish_and_clear();
        }
    }
}

impl Progress {
    /// Tells steps if that is wanted, or somebody watches.
    pub(crate) fn new(verbose: bool, names: NodeNames, dry_run: Option<Arc<DryRun>>) -> Self {
        let watched = || std::io::stderr().is_terminal();
        Self {
            steps: verbose || (dry_run.is_none() && watched()),
            names,
            dry_run,
            running: Mutex::new(None),
            transfer: Mutex::new(None),
        }
    }

    /// One event.
    pub(crate) fn tell(&self, event: Event<'_>) {
        if let Event::Progress { step, done, total } = event {
            return self.come_so_far(step, done, total);
        }
        if let Event::Syncing(_, progress) = event {
            return self.synchronised(progress.percent);
        }
        drop(self.running().take());
        drop(self.transfer().take());
        match event {
            Event::Starting(step) => {
                if let (Some(dry_run), changes @ [_, ..]) = (&self.dry_run, step.changes()) {
                    dry_run.record(format!("# configuration: {}", describe(changes)));
                }
                if let (Some(dry_run), true) = (&self.dry_run, step.transfer().is_some()) {
                    dry_run.record(format!("# {}", action(step, &self.names)));
                }
                self.step("", step);
            }
            Event::Undoing(step) => self.step("undo: ", step),
            Event::Failed(step, _) if self.steps => {
                say(format_args!("* failed: {}", action(step, &self.names)));
            }
            Event::Healing(record, way) => say(healing(record, way)),
            Event::Healed(told) => warn(told),
            Event::Failed(..)
            | Event::Acted(_)
            | Event::Recorded(_)
            | Event::Syncing(..)
            | Event::Progress { .. } => {}
        }
    }

    /// How far the synchronisation is that a step waits for: a bar on a terminal, otherwise a line now and then.
    fn synchronised(&self, percent: f64) {
        if let Some(running) = &mut *self.running() {
            running.synchronised(percent);
        }
    }

    fn step(&self, prefix: &str, step: &Step) {
        if self.steps {
            say(format_args!("* {prefix}{}", action(step, &self.names)));
            *self.running() = Some(Running {
                since: Instant::now(),
                bar: None,
                told: None,
            });
        }
    }

    /// On a terminal a bar, otherwise a line now and then.
    fn come_so_far(&self, step: &Step, done: u64, total: u64) {
        drop(self.running().take());
        let mut transfer = self.transfer();
        let Some(shown) = &mut *transfer else {
            *transfer = Some(Shown::new(done, total));
            return;
        };
        shown.come_to(done);
        if shown.bar.is_hidden() && shown.told.elapsed() >= TELL_EVERY {
            let percent = done as f64 / total as f64 * 100.0;
            let left = Duration::from_secs(shown.bar.eta().as_secs());
            let action = action(step, &self.names);
            say(format_args!("{action}: {percent:.1}% done, {left:?} to go"));
            shown.told = Instant::now();
        }
    }

    fn transfer(&self) -> MutexGuard<'_, Option<Shown>> {
        self.transfer.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn running(&self) -> MutexGuard<'_, Option<Running>> {
        self.running.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Shows on a terminal for how long a step has been at work. Never ends.
    pub(crate) async fn watch(&self) -> Infallible {
        loop {
            tokio::time::sleep(TICK).await;
            if let Some(Running { since, bar, .. }) = &mut *self.running()
                && since.elapsed() >= TICK
            {
                let new = || {
                    let bar = ProgressBar::new_spinner().with_elapsed(since.elapsed());
                    bar.with_style(style("  {spinner} {elapsed}"))
                };
                bar.get_or_insert_with(new).tick();
            }
        }
    }
}

/// Shows how far mirrors are: on a terminal a bar for each, otherwise a line now and then.
pub(crate) struct SyncProgress {
    bars: MultiProgress,
    by_disk: BTreeMap<String, ProgressBar>,
    told: Option<Instant>,
}

impl SyncProgress {
    pub(crate) fn new() -> Self {
        Self {
            bars: MultiProgress::new(),
            by_disk: BTreeMap::new(),
            told: None,
        }
    }

    /// The mirrors as they are now.
    pub(crate) fn show(&mut self, mirrors: &[Mirror]) {
        let unfinished = mirrors.iter().filter(|mirror| mirror.sync != SyncStatus::OKAY);
        if self.bars.is_hidden() {
            if self.told.is_none_or(|told| told.elapsed() >= TELL_EVERY) {
                unfinished.for_each(|Mirror { disk, sync }| say(format_args!("{disk}: {sync}")));
                self.told = Some(Instant::now());
            }
            return;
        }
        for Mirror { disk, sync } in mirrors {
            let new = || {
                let bar = ProgressBar::new(PARTS).with_style(style("{prefix} [{bar:30}] {msg}"));
                self.bars.add(bar.with_prefix(name(disk)))
            };
            let bar = self.by_disk.entry(disk.uuid.clone()).or_insert_with(new);
            match sync.sync_percent {
                Some(percent) => bar.set_position((percent / 100.0 * PARTS as f64) as u64),
                None if !sync.is_degraded => bar.set_position(PARTS),
                None => {}
            }
            bar.set_message(sync.to_string());
        }
    }
}

impl Drop for SyncProgress {
    fn drop(&mut self) {
        self.by_disk.values().for_each(ProgressBar::finish_and_clear);
    }
}

fn name(disk: &Disk) -> String {
    disk.iv_name.clone().unwrap_or_else(|| disk.uuid.clone())
}

/// The templates are ours, and tested.
fn style(template: &str) -> ProgressStyle {
    ProgressStyle::with_template(template).unwrap_or_else(|_| ProgressStyle::default_bar())
}

fn healing(record: &OperationRecord, way: Healing) -> String {
    let OperationRecord {
        id, kind, instance, ..
    } = record;
    let comes = match way {
        Healing::Undo => "undoing it first",
        Healing::Finish => "finishing it first",
        Healing::Ask => "it does not go on by itself",
    };
    format!("operation {id} ({kind} {instance}) was interrupted: {comes}")
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

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_was_done_before_says_nothing_about_the_speed() {
        const MIB: u64 = 1 << 20;
        let shown = Shown::new(500 * MIB, 1000 * MIB);
        std::thread::sleep(Duration::from_millis(50));
        shown.come_to(501 * MIB);
        let speed = shown.bar.per_sec();
        assert!(speed < 25.0 * MIB as f64, "{speed}");
    }
}
