//! Instances that do not run and go to another node, and what is left over and mended.

use crate::harness::{Cluster, Done, link};

#[test]
fn disks_are_moved_and_what_is_left_over_is_mended() -> Done {
    let cluster = Cluster::start("cluster-move", 3, "plain,file", |plan| plan)?;
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

    // A link that leads nowhere.
    cluster.disk("add web -t plain -n n2 --disk 0:size=16M")?;
    n2.ok(&format!("ln -s /dev/null {}", link("old", 0)))?;
    let found = cluster.ends(3, "verify")?;
    assert_eq!(found.matches("mend:").count(), 1, "{found}");
    cluster.ends_well("verify --repair")?;
    n2.ok(&format!("! test -L {}", link("old", 0)))?;
    cluster.is_as_configured()?;
    cluster.disk("remove web")?;
    cluster.is_clean()
}
