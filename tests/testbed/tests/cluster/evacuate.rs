//! A node that is emptied.

use crate::harness::{Cluster, Done};

#[test]
#[ignore = "takes minutes: make test-cluster"]
fn a_node_is_emptied() -> Done {
    let cluster = Cluster::start("cluster-evacuate", 3, "drbd", |plan| plan)?;
    let n3 = cluster.node(3);
    let names: Vec<_> = (1..=3).map(|number| format!("web{number}")).collect();
    for name in &names {
        cluster.disk(&format!("add {name} -t drbd -n n2:n3 --disk 0:size=16M"))?;
        cluster.disk(&format!("activate {name}"))?;
        cluster.synced(name)?;
    }
    cluster.disk("node modify n3 --drained yes")?;
    cluster.ends_well("node evacuate n3 -s")?;
    for name in &names {
        let listed = cluster.json(&format!("list {name}"))?;
        assert_eq!(
            (&listed[0]["pnode"], &listed[0]["snodes"][0]),
            (&"n2".into(), &"n1".into())
        );
        cluster.synced(name)?;
    }
    n3.guest.assert_clean()?;
    cluster.is_as_configured()?;
    for name in &names {
        cluster.disk(&format!("deactivate {name}"))?;
        cluster.disk(&format!("remove {name}"))?;
    }
    cluster.is_clean()
}
