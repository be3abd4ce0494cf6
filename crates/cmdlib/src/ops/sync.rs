//! Waiting until mirrors are complete.

use gnt_bdev::SyncStatus;
use gnt_config::Disk;

use crate::error::{Error, Result};
use crate::node::Node;
use crate::ops::Subject;
use crate::saga::Nodes;

/// How often in a row a mirror may be seen incomplete with nothing being synchronised: that may be about to begin (`WaitForSync`).
const PATIENCE: u32 = 10;

/// A disk, and how well it is mirrored.
#[derive(Debug, Clone)]
pub struct Mirror {
    /// The disk.
    pub disk: Disk,
    /// As its node sees it.
    pub sync: SyncStatus,
}

/// Waits until the instance's disks are synchronised, or nothing synchronises them (`WaitForSync`). Returns those that are degraded then.
/// `between` gets the others' progress between one look and the next, and decides how long that is.
pub async fn wait_for_sync<N: Nodes>(
    nodes: &N,
    subject: &Subject,
    mut between: impl AsyncFnMut(&[Mirror]) -> Result<()>,
) -> Result<Vec<Mirror>> {
    // Nothing is about to begin with a node that is not asked.
    let all_there = subject.places_within_reach(nodes)?.len() == subject.places()?.len();
    let most = if all_there { PATIENCE } else { 1 };
    let mut patience = most;
    loop {
        let mut mirrors = look(nodes, subject).await?;
        let at_work = mirrors.iter().any(|mirror| mirror.sync.sync_percent.is_some());
        let degraded = mirrors.iter().any(|mirror| mirror.sync.is_degraded);
        patience = match at_work {
            true => most,
            false => patience - 1,
        };
        if !at_work && (!degraded || patience == 0) {
            mirrors.retain(|mirror| mirror.sync.is_degraded);
            return Ok(mirrors);
        }
        between(&mirrors).await?;
    }
}

/// The instance's disks on the node where it runs, or, if that cannot be asked, on another that can.
async fn look<N: Nodes>(nodes: &N, subject: &Subject) -> Result<Vec<Mirror>> {
    let Some(places) = subject.places_within_reach(nodes)?.pop() else {
        return Ok(Vec::new());
    };
    let found = nodes.node(&places.node)?.find_all(&places.targets()).await?;
    let mut mirrors = Vec::new();
    for (disk, found) in places.disks.iter().zip(found) {
        let status = found?.ok_or_else(|| Error::Gone {
            disk: disk.to_string(),
            instance: places.instance.clone(),
        })?;
        mirrors.push(Mirror {
            disk: disk.clone(),
            sync: status.sync,
        });
    }
    Ok(mirrors)
}

#[cfg(test)]
mod tests {
    use std::path::Path;

    use gnt_bdev::LocalDiskStatus;
    use gnt_config::{DiskTemplate, FileDriver};
    use gnt_store::Store;
    use serde_json::json;

    use super::*;
    use crate::ops::add::{AddRequest, add};
    use crate::saga::Engine;
    use crate::sim::SimCluster;
    use crate::tests::now;

    /// What each look finds of the one disk.
    fn waited(looks: &[SyncStatus]) -> (usize, Vec<Mirror>) {
        let store = Store::in_memory().unwrap();
        crate::init::init(&store, Path::new("/state"), "cluster", "node1").unwrap();
        let cluster = SimCluster::new(&store.nodes().unwrap());
        let engine = Engine {
            store: &store,
            nodes: &cluster,
            dry_run: false,
            observer: &|_| {},
        };
        let request = AddRequest {
            instance: "web".to_owned(),
            template: DiskTemplate::Ext,
            disks: vec![json!({"size": 64}).as_object().unwrap().clone()],
            primary: None,
            secondary: None,
            file_driver: FileDriver::Loop,
            file_storage_dir: None,
        };
        now(add(&engine, &request)).unwrap();
        let subject = Subject::load(&store, "web").unwrap();
        let mut seen = 0;
        cluster.with_world(|world| world.sync = looks[0]);
        let left = now(wait_for_sync(&cluster, &subject, async |mirrors| {
            assert_eq!(mirrors[0].sync, looks[seen.min(looks.len() - 1)]);
            seen += 1;
            cluster.with_world(|world| world.sync = looks[seen.min(looks.len() - 1)]);
            Ok(())
        }));
        (seen, left.unwrap())
    }

    fn syncing(percent: f64) -> SyncStatus {
        SyncStatus {
            sync_percent: Some(percent),
            estimated_time: Some(7),
            is_degraded: true,
            ldisk_status: LocalDiskStatus::Sync,
        }
    }

    const STALLED: SyncStatus = SyncStatus {
        is_degraded: true,
        ..SyncStatus::OKAY
    };

    #[test]
    fn what_is_complete_is_not_waited_for() {
        let (looks, left) = waited(&[SyncStatus::OKAY]);
        assert_eq!((looks, left.len()), (0, 0));
    }

    #[test]
    fn a_synchronisation_is_waited_for_to_its_end() {
        let (looks, left) = waited(&[
            syncing(0.5),
            syncing(99.0),
            STALLED,
            syncing(99.5),
            SyncStatus::OKAY,
        ]);
        assert_eq!((looks, left.len()), (4, 0));
    }

    #[test]
    fn what_nothing_synchronises_is_given_up() {
        let (looks, left) = waited(&[syncing(10.0), STALLED]);
        assert_eq!((looks, left.len()), (10, 1));
        assert_eq!(left[0].sync, STALLED);
    }
}
