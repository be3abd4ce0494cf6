//! An operation in the hands of one task.

use std::sync::atomic::{AtomicBool, Ordering};

use crate::error::Result;
use crate::saga::{Engine, Nodes};

/// An operation that this task runs, with its locks. Once it is dropped nobody runs it any more: if it is not over, it is
/// interrupted, and another task or process can take it over.
pub(super) struct Held<'a, 'b, N: Nodes> {
    pub(super) engine: &'a Engine<'b, N>,
    pub(super) id: String,
    /// The nodes, marked with it.
    pub(super) nodes: N,
    /// Whether a node may be at work for it.
    busy: AtomicBool,
}

impl<'a, 'b, N: Nodes> Held<'a, 'b, N> {
    pub(super) fn new(engine: &'a Engine<'b, N>, id: String) -> Self {
        let nodes = engine.nodes.for_operation(&id);
        let busy = AtomicBool::new(false);
        Self {
            engine,
            id,
            nodes,
            busy,
        }
    }

    /// Name of the node (UUID) if it is set offline by now, whatever was known when the process began.
    pub(super) fn set_offline(&self, node: &str) -> Result<Option<String>> {
        let node = self.engine.store.node(node)?;
        Ok(node.filter(|node| node.offline).map(|node| node.name))
    }

    /// Does some of the operation's work. A task that is dropped meanwhile may leave a node at work.
    pub(super) async fn during<T>(&self, work: impl Future<Output = T>) -> T {
        self.busy.store(true, Ordering::Relaxed);
        let result = work.await;
        self.busy.store(false, Ordering::Relaxed);
        result
    }
}

impl<N: Nodes> Drop for Held<'_, '_, N> {
    fn drop(&mut self) {
        // What cannot be ended would act behind the back of whoever took the operation over.
        if !self.busy.load(Ordering::Relaxed) || self.nodes.end_orphans_here(&self.id).is_ok() {
            // Refused if it is over.
            let _ = self.engine.store.abandon(&self.id);
        }
    }
}
