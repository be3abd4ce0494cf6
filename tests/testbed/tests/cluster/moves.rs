//! Instances that do not run and go to another node, a node that is emptied, and what is left over and mended.

use crate::harness::{Cluster, Done, link};

#[test]
fn disks_are_moved_and_a_node_is_emptied() -> Done {
    let cluster = Cluster::start("cluster-move", 3, "plain,file,drbd", |plan| plan)?;
    let [n2, n3] = [2, 3].map(|number| cluster.node(number));
    for template in ["plain", "file"] {
        cluster.disk(&format!("add web -t {template} -n n2 --disk 0:size=32M"))?;
        cluster.disk("activate web")?;
        n2.fill("web", 0, 20)?;
        let sum = n2.checksum("web", 0, 32)?;
        cluster.disk("deactivate web")?;
        cluster.disk("move web -n n3")?;
        cluster.disk("activate web")?;
        assert_eq!(n3.checksum("web", 0, 32)?, sum, "{template}");
        cluster.disk("deactivate web")?;
        n2.guest.assert_clean()?;
        cluster.disk("remove web")?;
        cluster.is_clean()?;
    }

    for number in 1..=3 {
        cluster.disk(&format!("add web{number} -t drbd -n n2:n3 --disk 0:size=16M"))?;
        cluster.disk(&format!("activate web{number}"))?;
        cluster.synced(&format!("web{number}"))?;
    }
    cluster.ends_well("node evacuate n3 --secondary-only")?;
    for number in 1..=3 {
        let listed = cluster.json(&format!("list web{number}"))?;
        assert_eq!(
            (&listed[0]["pnode"], &listed[0]["snodes"][0]),
            (&"n2".into(), &"n1".into())
        );
        cluster.synced(&format!("web{number}"))?;
    }
    n3.guest.assert_clean()?;
    cluster.is_as_configured()?;

    // A mapping and a link that nothing needs.
    n2.ok(&format!("ln -s /dev/null {}", link("old", 0)))?;
    let found = cluster.ends(3, "verify")?;
    assert!(found.contains("old"), "{found}");
    cluster.ends_well("verify --repair")?;
    n2.ok(&format!("! test -L {}", link("old", 0)))?;
    cluster.is_as_configured()?;
    for number in 1..=3 {
        cluster.disk(&format!("deactivate web{number}"))?;
        cluster.disk(&format!("remove web{number}"))?;
    }
    cluster.is_clean()
}
