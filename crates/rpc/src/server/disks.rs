//! One call at a time per disk, in the order in which they came.

use std::collections::{BTreeSet, HashMap};
use std::sync::{Arc, Mutex, PoisonError};

use gnt_config::LogicalId;
use tokio::sync::OwnedMutexGuard;

use crate::wire::Call;

type Queue = Arc<tokio::sync::Mutex<()>>;

/// The disks that calls are at work on, or wait for.
#[derive(Debug, Default)]
pub(super) struct Disks {
    queues: Mutex<HashMap<String, Queue>>,
}

/// Disks that one call has for itself.
#[derive(Debug)]
pub(super) struct Turn {
    disks: Arc<Disks>,
    keys: BTreeSet<String>,
    held: Vec<OwnedMutexGuard<()>>,
}

impl Disks {
    /// Waits until no other call works on any of the disks of `keys`. Each waits for its disks in the same order, so none waits for ever.
    pub(super) async fn turn(self: &Arc<Self>, keys: BTreeSet<String>) -> Turn {
        let mut turn = Turn {
            disks: Arc::clone(self),
            held: Vec::with_capacity(keys.len()),
            keys,
        };
        for key in &turn.keys {
            let queue = self.queue(key);
            turn.held.push(queue.lock_owned().await);
        }
        turn
    }

    fn queue(&self, key: &str) -> Queue {
        let mut queues = self.queues.lock().unwrap_or_else(PoisonError::into_inner);
        Arc::clone(queues.entry(key.to_owned()).or_default())
    }

    /// Forgets disks that nobody holds or waits for.
    fn forget<'a>(&self, keys: impl Iterator<Item = &'a String>) {
        let mut queues = self.queues.lock().unwrap_or_else(PoisonError::into_inner);
        for key in keys {
            if queues.get(key).is_some_and(|queue| Arc::strong_count(queue) == 1) {
                queues.remove(key);
            }
        }
    }
}

impl Drop for Turn {
    fn drop(&mut self) {
        self.held.clear();
        self.disks.forget(self.keys.iter());
    }
}

/// What the disks that a call has for itself are called on this node, however much a caller tells of them.
pub(super) fn keys(call: &Call) -> BTreeSet<String> {
    if !call.procedure().takes_turns() {
        return BTreeSet::new();
    }
    let disks = call.disks().into_iter().flat_map(|disk| disk.disk.walk());
    let key = |disk: &gnt_config::Disk| match (&disk.logical_id, &disk.dynamic_params) {
        (LogicalId::Drbd8 { .. }, Some(params)) => format!("drbd:{}", params.local_minor),
        (LogicalId::Drbd8 { .. }, None) => format!("drbd:{}", disk.uuid),
        (id, _) => format!("{}:{id}", disk.dev_type),
    };
    disks.map(key).collect()
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use tokio::time::timeout;

    use super::*;

    fn keys(names: &[&str]) -> BTreeSet<String> {
        names.iter().map(|name| (*name).to_owned()).collect()
    }

    #[tokio::test]
    async fn a_disk_has_one_call_at_a_time_and_is_forgotten_after_the_last() {
        let disks = Arc::new(Disks::default());
        let first = disks.turn(keys(&["a", "b"])).await;
        let other = timeout(Duration::from_secs(5), disks.turn(keys(&["c"])))
            .await
            .unwrap();
        let waiting = tokio::spawn({
            let disks = Arc::clone(&disks);
            async move { drop(disks.turn(keys(&["b", "c"])).await) }
        });
        // One whose caller is gone is in nobody's way.
        assert!(
            timeout(Duration::from_millis(20), disks.turn(keys(&["a", "d"])))
                .await
                .is_err()
        );
        drop(first);
        assert!(!waiting.is_finished());
        drop(other);
        timeout(Duration::from_secs(5), waiting).await.unwrap().unwrap();
        drop(disks.turn(keys(&["a", "b", "c", "d"])).await);
        assert!(disks.queues.lock().unwrap().is_empty());
    }
}
