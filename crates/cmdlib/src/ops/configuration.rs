//! Changes that concern the configuration alone: they are made one after the other, each in one commit.

use gnt_store::{Change, Outcome, Owner, Store, StoreError};

use crate::error::Result;

/// The lock that each of them has for itself.
const LOCK: &str = "cluster";

/// Makes the changes that `plan` gives while no other process makes such changes, and returns what it gives besides; with `dry_run` nothing is
/// stored. The journal calls it `kind`, done to `subject`.
pub(super) fn alone<T>(
    store: &Store,
    kind: &str,
    subject: &str,
    dry_run: bool,
    plan: impl FnOnce() -> Result<(T, Vec<Change>)>,
) -> Result<T> {
    if dry_run {
        return plan().map(|(result, _)| result);
    }
    let operation = begin(store, kind, subject)?;
    let made = plan().and_then(|(result, changes)| {
        store.commit(&changes)?;
        Ok(result)
    });
    match &made {
        // An operation without steps is done.
        Ok(_) => store.plan(&operation, &[], &[])?,
        Err(_) => store.withdraw(&operation)?,
    }
    made
}

fn begin(store: &Store, kind: &str, subject: &str) -> Result<String> {
    loop {
        match store.begin(kind, subject, &[LOCK.to_owned()], &Owner::current()) {
            Err(StoreError::Interrupted { operation, .. }) => {
                let dead = store.adopt(&operation.operation, &Owner::current())?;
                store.finish(&dead.id, &Outcome::Undone)?;
            }
            begun => return Ok(begun?),
        }
    }
}

#[cfg(test)]
mod tests {
    use std::path::Path;

    use super::*;
    use crate::init::init;

    #[test]
    fn a_lock_that_a_dead_process_left_is_taken_over() {
        let store = Store::in_memory().unwrap();
        init(&store, Path::new("/state"), "c", "node1").unwrap();
        let dead = Owner {
            start_time: 0,
            ..Owner::current()
        };
        store
            .begin("cluster-modify", "", &[LOCK.to_owned()], &dead)
            .unwrap();
        let mut settings = store.settings().unwrap();
        settings.es_timeout = 5;
        alone(&store, "cluster-modify", "", false, || {
            Ok(((), vec![Change::Settings(settings)]))
        })
        .unwrap();
        assert_eq!(store.settings().unwrap().es_timeout, 5);
        assert!(
            store
                .operations(gnt_store::Filter::Unfinished)
                .unwrap()
                .is_empty()
        );
    }
}
