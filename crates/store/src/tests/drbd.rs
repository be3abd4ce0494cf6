//! Ports and minors of DRBD.

use serde_json::json;

use crate::tests::objects::{cluster, drbd, instance, store};
use crate::{Change, DrbdReservation, Outcome, Owner, PlannedStep, Store, StoreError};

const NODES: [&str; 2] = ["node-a", "node-b"];

fn begin(store: &Store) -> String {
    store.begin("add", "inst1", &[], &Owner::current()).unwrap()
}

fn reservation(port: u16, minors: [u32; 2]) -> DrbdReservation {
    DrbdReservation { port, minors }
}

#[test]
fn the_lowest_free_minors_and_the_next_port_are_reserved() {
    let store = store();
    let disks = [
        drbd("d0", 11000, [0, 5]),
        drbd("d1", 11001, [1, 0]),
        drbd("d3", 11002, [3, 1]),
    ];
    store.commit(&disks.map(Change::Disk)).unwrap();
    let (first, second) = (begin(&store), begin(&store));
    assert_eq!(
        store.reserve_drbd(&first, "x", NODES).unwrap(),
        reservation(11003, [2, 2])
    );
    assert_eq!(
        store.reserve_drbd(&second, "y", NODES).unwrap(),
        reservation(11004, [4, 3])
    );
    // Asking again gives the same, for the same disk.
    assert_eq!(
        store.reserve_drbd(&first, "x", NODES).unwrap(),
        reservation(11003, [2, 2])
    );
    assert_eq!(
        store.reserve_minors(&first, "z", &["node-b", "node-c"]).unwrap(),
        [4, 0]
    );
    assert_eq!(store.reserve_port(&first, "z").unwrap(), 11005);
    let error = store.reserve_drbd(&first, "w", ["node-a", "node-a"]).unwrap_err();
    assert!(matches!(error, StoreError::SameNode { .. }));
    // What is reserved is taken, but for the disk that it is reserved for.
    let error = store
        .commit(&[Change::Disk(drbd("y", 11009, [2, 9]))])
        .unwrap_err();
    let holder = format!("operation {first}, which has reserved it for disk x");
    assert_eq!(
        error.to_string(),
        format!("drbd minor 2 on node node-a is taken by {holder}")
    );
    let error = store
        .commit(&[Change::Disk(drbd("y", 11003, [9, 9]))])
        .unwrap_err();
    assert_eq!(error.to_string(), format!("TCP port 11003 is taken by {holder}"));
}

#[test]
fn a_reservation_becomes_the_disks_or_ends_with_the_operation() {
    let store = store();
    let operation = begin(&store);
    for (disk, expected) in [
        ("x", reservation(11000, [0, 0])),
        ("y", reservation(11001, [1, 1])),
    ] {
        assert_eq!(store.reserve_drbd(&operation, disk, NODES).unwrap(), expected);
    }
    let step = PlannedStep {
        name: "put".into(),
        data: json!(null),
    };
    store.plan(&operation, &[step], &[]).unwrap();
    store
        .step_done(&operation, 0, &[Change::Disk(drbd("x", 11000, [0, 0]))])
        .unwrap();
    let cluster = store.cluster().unwrap();
    assert_eq!(
        (cluster.highest_used_port, cluster.tcpudp_port_pool),
        (Some(11000), vec![])
    );
    let next = begin(&store);
    assert_eq!(
        store.reserve_drbd(&next, "z", NODES).unwrap(),
        reservation(11001, [1, 1])
    );
    store.finish(&next, &Outcome::Undone).unwrap();
    assert!(matches!(
        store.reserve_port(&next, "z"),
        Err(StoreError::WrongState { .. })
    ));
    assert!(matches!(
        store.reserve_port("nobody", "z"),
        Err(StoreError::UnknownOperation(_))
    ));
}

#[test]
fn ports_come_back_into_the_pool() {
    let store = store();
    let mut with_console = instance("inst1", &[]);
    with_console.origin.set("network_port", json!(11002));
    let disks = [drbd("d0", 11000, [0, 0]), drbd("d1", 11001, [1, 1])].map(Change::Disk);
    store
        .commit(&[disks.as_slice(), &[Change::Instance(with_console)]].concat())
        .unwrap();
    let pool = || {
        let cluster = store.cluster().unwrap();
        (cluster.highest_used_port, cluster.tcpudp_port_pool)
    };
    assert_eq!(pool(), (Some(11002), vec![]));
    // A stale copy of the cluster does not bring back what was.
    let stale = cluster();
    store.commit(&[Change::RemoveDisk("d0".into())]).unwrap();
    assert_eq!(pool(), (Some(11002), vec![11000]));
    store
        .commit(&[
            Change::RemoveInstance("instance-inst1".into()),
            Change::Cluster(stale),
        ])
        .unwrap();
    assert_eq!(pool(), (Some(11002), vec![11002, 11000]));
    let operation = begin(&store);
    assert_eq!(store.reserve_port(&operation, "x").unwrap(), 11002);
    assert_eq!(store.reserve_port(&operation, "y").unwrap(), 11000);
    assert_eq!(store.reserve_port(&operation, "z").unwrap(), 11003);
    assert_eq!(pool(), (Some(11002), vec![11002, 11000]));
    store.commit(&[Change::Disk(drbd("x", 11002, [0, 0]))]).unwrap();
    assert_eq!(pool(), (Some(11002), vec![11000]));
}

#[test]
fn when_all_ports_are_gone_that_is_said() {
    let store = store();
    let disks: Vec<_> = (11000..15000)
        .filter(|port| *port != 12345)
        .map(|port| drbd(&format!("d{port}"), port, [port.into(), port.into()]))
        .map(Change::Disk)
        .collect();
    store.commit(&disks).unwrap();
    let operation = begin(&store);
    // One that is in no pool although nobody has it.
    assert_eq!(store.reserve_port(&operation, "x").unwrap(), 12345);
    let error = store.reserve_drbd(&operation, "y", NODES).unwrap_err();
    assert!(matches!(error, StoreError::NoFreePort { .. }));
    assert_eq!(store.reserve_minors(&operation, "y", &["node-a"]).unwrap(), [0]);
}
