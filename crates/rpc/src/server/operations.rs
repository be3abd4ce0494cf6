//! Which operations calls are at work for, so that what an operation left running can be ended.

use std::collections::HashMap;
use std::io;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use gnt_process::orphan::kill_orphans;

/// Between two looks at what is still at work.
const PAUSE: Duration = Duration::from_millis(10);

/// The calls that are there, by operation.
#[derive(Debug, Default)]
pub(super) struct Operations {
    calls: Mutex<HashMap<String, Calls>>,
}

#[derive(Debug, Default)]
struct Calls {
    /// Also those that wait for their disks.
    there: usize,
    at_work: usize,
    /// How often it was ended: a call that waited meanwhile must not begin.
    ended: u64,
}

/// A call of an operation, or of none.
#[derive(Debug)]
pub(super) struct OneCall {
    operations: Arc<Operations>,
    operation: Option<String>,
    ended: u64,
    at_work: bool,
}

impl Operations {
    /// Notes a call that came.
    pub(super) fn came(self: &Arc<Self>, operation: Option<&str>) -> OneCall {
        let mut ended = 0;
        if let Some(operation) = operation {
            let mut calls = self.calls();
            let calls = calls.entry(operation.to_owned()).or_default();
            calls.there += 1;
            ended = calls.ended;
        }
        OneCall {
            operations: Arc::clone(self),
            operation: operation.map(str::to_owned),
            ended,
            at_work: false,
        }
    }

    /// Ends every program of `operation`, and returns when none of its calls is at work any more. Those that wait for their disks will
    /// not begin. Blocks.
    pub(super) fn end(&self, operation: &str) -> io::Result<()> {
        if let Some(calls) = self.calls().get_mut(operation) {
            calls.ended += 1;
        }
        loop {
            kill_orphans(operation)?;
            if self.calls().get(operation).is_none_or(|calls| calls.at_work == 0) {
                return Ok(());
            }
            std::thread::sleep(PAUSE);
        }
    }

    /// Ends all. Blocks.
    pub(super) fn end_all(&self) {
        let all: Vec<String> = self.calls().keys().cloned().collect();
        for operation in all {
            let _ = self.end(&operation);
        }
    }

    /// How many calls of operations are there.
    pub(super) fn count(&self) -> usize {
        self.calls().values().map(|calls| calls.there).sum()
    }

    fn calls(&self) -> MutexGuard<'_, HashMap<String, Calls>> {
        self.calls.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl OneCall {
    /// The call has its disks and is about to act, unless its operation was ended meanwhile.
    pub(super) fn begin(&mut self) -> bool {
        if let Some(operation) = &self.operation
            && let Some(calls) = self.operations.calls().get_mut(operation)
        {
            if calls.ended != self.ended {
                return false;
            }
            calls.at_work += 1;
        }
        self.at_work = true;
        true
    }
}

impl Drop for OneCall {
    fn drop(&mut self) {
        let Some(operation) = &self.operation else {
            return;
        };
        let mut all = self.operations.calls();
        if let Some(calls) = all.get_mut(operation) {
            calls.there -= 1;
            calls.at_work -= usize::from(self.at_work);
            if calls.there == 0 {
                all.remove(operation);
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_call_whose_operation_was_ended_while_it_waited_does_not_begin() {
        let operations = Arc::new(Operations::default());
        let mut waiting = operations.came(Some("rpc-test-1"));
        let mut other = operations.came(Some("rpc-test-2"));
        operations.end("rpc-test-1").unwrap();
        assert!(!waiting.begin());
        assert!(other.begin());
        let mut later = operations.came(Some("rpc-test-1"));
        assert!(later.begin());
        assert!(operations.came(None).begin());
        drop((waiting, other, later));
        assert_eq!(operations.count(), 0);
        assert!(operations.calls().is_empty());
    }

    #[test]
    fn ending_waits_for_calls_at_work() {
        let operations = Arc::new(Operations::default());
        let mut call = operations.came(Some("rpc-test-3"));
        assert!(call.begin());
        let ends = std::thread::spawn({
            let operations = Arc::clone(&operations);
            move || operations.end("rpc-test-3")
        });
        std::thread::sleep(Duration::from_millis(100));
        assert!(!ends.is_finished());
        drop(call);
        ends.join().unwrap().unwrap();
    }
}
