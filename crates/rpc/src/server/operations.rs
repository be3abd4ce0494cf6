//! Which operations calls are at work for, so that what an operation left running can be ended.

use std::collections::{BTreeSet, HashMap};
use std::io;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use gnt_process::orphan::kill_orphans;
use tokio::sync::Notify;

/// Between two looks at what is still at work.
const PAUSE: Duration = Duration::from_millis(10);

/// The calls that are there, by operation.
#[derive(Debug, Default)]
pub(super) struct Operations {
    calls: Mutex<HashMap<String, Calls>>,
    came: AtomicU64,
    /// Told when an operation is ended.
    over: Notify,
}

#[derive(Debug, Default)]
struct Calls {
    /// Also those that wait for their disks.
    there: usize,
    at_work: BTreeSet<u64>,
    /// How often it was ended: a call that waited meanwhile must not begin.
    ended: u64,
    /// How many end it now. All that it runs is ended, so no call begins.
    ending: usize,
}

/// A call of an operation, or of none.
#[derive(Debug)]
pub(super) struct OneCall {
    operations: Arc<Operations>,
    operation: Option<String>,
    number: u64,
    ended: u64,
}

/// An operation that is being ended: none of its calls begins until this is dropped.
#[derive(Debug)]
pub(super) struct Ending {
    operations: Arc<Operations>,
    operation: String,
    /// The call that is to be over; all of them if there is none.
    call: Option<u64>,
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
            number: self.came.fetch_add(1, Ordering::Relaxed),
            ended,
        }
    }

    /// Begins to end an operation. Calls of it that are there and wait will not begin.
    pub(super) fn end(self: &Arc<Self>, operation: &str) -> Ending {
        let mut calls = self.calls();
        let calls = calls.entry(operation.to_owned()).or_default();
        calls.ended += 1;
        calls.ending += 1;
        Ending {
            operations: Arc::clone(self),
            operation: operation.to_owned(),
            call: None,
        }
    }

    /// The same for one call of it, if that is at work. Those that wait begin afterwards: they may be there to undo it.
    pub(super) fn end_call(self: &Arc<Self>, operation: &str, number: u64) -> Option<Ending> {
        let mut calls = self.calls();
        let calls = calls.get_mut(operation)?;
        if !calls.at_work.contains(&number) {
            return None;
        }
        calls.ending += 1;
        Some(Ending {
            operations: Arc::clone(self),
            operation: operation.to_owned(),
            call: Some(number),
        })
    }

    /// Ends all. Blocks.
    pub(super) fn end_all(self: &Arc<Self>) {
        let all: Vec<String> = self.calls().keys().cloned().collect();
        for operation in all {
            let _ = self.end(&operation).finish();
        }
    }

    /// How many calls of operations are there.
    pub(super) fn count(&self) -> usize {
        self.calls().values().map(|calls| calls.there).sum()
    }

    fn calls(&self) -> MutexGuard<'_, HashMap<String, Calls>> {
        self.calls.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Changes what is known of an operation, and forgets it if nothing is left of it.
    fn change(&self, operation: &str, change: impl FnOnce(&mut Calls)) {
        let mut all = self.calls();
        if let Some(calls) = all.get_mut(operation) {
            change(calls);
            if calls.there == 0 && calls.ending == 0 {
                all.remove(operation);
            }
        }
    }
}

impl Ending {
    /// Ends every program of the operation, and returns when no call that is to be over is at work any more. Blocks.
    pub(super) fn finish(self) -> io::Result<()> {
        loop {
            kill_orphans(&self.operation)?;
            if self.is_over() {
                return Ok(());
            }
            std::thread::sleep(PAUSE);
        }
    }

    fn is_over(&self) -> bool {
        let calls = self.operations.calls();
        let Some(calls) = calls.get(&self.operation) else {
            return true;
        };
        match self.call {
            Some(number) => !calls.at_work.contains(&number),
            None => calls.at_work.is_empty(),
        }
    }
}

impl Drop for Ending {
    fn drop(&mut self) {
        self.operations.change(&self.operation, |calls| calls.ending -= 1);
        self.operations.over.notify_waiters();
    }
}

impl OneCall {
    /// Which one it is.
    pub(super) fn number(&self) -> u64 {
        self.number
    }

    /// The call has its disks and is about to act, unless its operation was ended meanwhile. While it is being ended the call waits: what it
    /// runs would be ended too.
    pub(super) async fn begin(&self) -> bool {
        loop {
            let over = self.operations.over.notified();
            match self.try_begin() {
                Some(begun) => return begun,
                None => over.await,
            }
        }
    }

    /// None while the operation is being ended.
    fn try_begin(&self) -> Option<bool> {
        let Some(operation) = &self.operation else {
            return Some(true);
        };
        let mut calls = self.operations.calls();
        let calls = calls.entry(operation.clone()).or_default();
        if calls.ended != self.ended {
            return Some(false);
        }
        (calls.ending == 0).then(|| calls.at_work.insert(self.number))
    }
}

impl Drop for OneCall {
    fn drop(&mut self) {
        if let Some(operation) = &self.operation {
            self.operations.change(operation, |calls| {
                calls.there -= 1;
                calls.at_work.remove(&self.number);
            });
        }
    }
}

#[cfg(test)]
mod tests {
    use std::future::Future;
    use std::pin::pin;
    use std::task::{Context, Poll, Waker};

    use super::*;

    fn poll<T>(future: impl Future<Output = T>) -> Poll<T> {
        pin!(future).poll(&mut Context::from_waker(Waker::noop()))
    }

    #[tokio::test]
    async fn a_call_whose_operation_was_ended_while_it_waited_does_not_begin() {
        let operations = Arc::new(Operations::default());
        let waiting = operations.came(Some("rpc-test-1"));
        let other = operations.came(Some("rpc-test-2"));
        operations.end("rpc-test-1").finish().unwrap();
        assert!(!waiting.begin().await);
        assert!(other.begin().await);
        let later = operations.came(Some("rpc-test-1"));
        assert!(later.begin().await);
        assert!(operations.came(None).begin().await);
        drop((waiting, other, later));
        assert_eq!(operations.count(), 0);
        assert!(operations.calls().is_empty());
    }

    #[tokio::test]
    async fn ending_waits_for_calls_at_work() {
        let operations = Arc::new(Operations::default());
        let call = operations.came(Some("rpc-test-3"));
        assert!(call.begin().await);
        let ending = operations.end("rpc-test-3");
        let ends = std::thread::spawn(move || ending.finish());
        std::thread::sleep(Duration::from_millis(100));
        assert!(!ends.is_finished());
        drop(call);
        ends.join().unwrap().unwrap();
    }

    #[tokio::test]
    async fn no_call_begins_while_its_operation_is_being_ended() {
        let operations = Arc::new(Operations::default());
        let gone = operations.came(Some("rpc-test-4"));
        assert!(gone.begin().await);
        let undo = operations.came(Some("rpc-test-4"));
        let ending = operations.end_call("rpc-test-4", gone.number()).unwrap();
        drop(gone);
        assert!(poll(undo.begin()).is_pending());
        let two = operations.end("rpc-test-4");
        let later = operations.came(Some("rpc-test-4"));
        drop(ending);
        assert!(poll(later.begin()).is_pending());
        // It was there when all of the operation was ended.
        assert_eq!(poll(undo.begin()), Poll::Ready(false));
        let begins = tokio::spawn(async move { later.begin().await });
        tokio::task::yield_now().await;
        two.finish().unwrap();
        assert!(begins.await.unwrap());
        drop(undo);
        assert!(operations.calls().is_empty());
    }

    #[tokio::test]
    async fn a_call_that_is_over_ends_nothing() {
        let operations = Arc::new(Operations::default());
        let over = operations.came(Some("rpc-test-5"));
        assert!(over.begin().await);
        let number = over.number();
        drop(over);
        assert!(operations.end_call("rpc-test-5", number).is_none());
        let undo = operations.came(Some("rpc-test-5"));
        assert!(undo.begin().await);
        assert!(operations.end_call("rpc-test-5", number).is_none());
    }
}
