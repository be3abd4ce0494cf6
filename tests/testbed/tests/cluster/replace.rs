//! Mirrors that get another half on a third node, and what happens to it meanwhile.

use std::thread;

use gnt_testbed::{Error, Net};

use crate::drbd::{halves_are_alike, is_only_on};
use crate::harness::{Cluster, Done, Node, until};

#[test]
#[ignore = "takes minutes: make test-cluster"]
fn a_third_node_gets_the_mirror() -> Done {
    let cluster = Cluster::start("cluster-replace", 3, "drbd", |plan| plan)?;
    let [n1, n2, n3] = [1, 2, 3].map(|number| cluster.node(number));
    cluster.disk("add web -t drbd -n n2:n1 --disk 0:size=96M")?;
    cluster.disk("activate web")?;
    cluster.synced("web")?;
    n2.fill("web", 0, 96)?;
    // So slow that something can happen meanwhile.
    cluster.disk("cluster modify -D drbd:resync-rate=8192")?;
    let web = cluster.machine("web", &[n2])?;
    web.start(n2)?;

    let to_n3 = "replace-disks web -n n3";
    // The new half is cut off while it gets the data, then it loses its power, then the manager is killed.
    let ended = replace_until(&cluster, || cluster.cut(n3, Net::Secondary))?;
    eprintln!("the network is cut: {ended}");
    web.machine.goes_on(20)?;
    cluster.heal(n3, Net::Secondary)?;
    mend(&cluster, "resume")?;
    back_on(&cluster, n1)?;

    let ended = replace_until(&cluster, || n3.power_cut())?;
    eprintln!("the power is cut: {ended}");
    web.machine.goes_on(20)?;
    n3.boot()?;
    mend(&cluster, "resume")?;
    back_on(&cluster, n1)?;

    for how in ["abort", "resume"] {
        n1.ok(&format!(
            "gnt-disk {to_n3} >/dev/null 2>&1 & process=$!
             until gnt-disk --json operation list | grep -q await-sync; do kill -0 $process || exit 1; done
             kill -9 $process; wait $process 2>/dev/null; true"
        ))?;
        mend(&cluster, how)?;
        web.machine.goes_on(20)?;
    }
    is_mirrored_on(&cluster, n3)?;
    assert_eq!(n1.ok("lvs --noheadings")?, "");

    web.stop(n2)?;
    is_only_on(&cluster, "web", n2)?;
    web.is_whole_on(n2)?;
    halves_are_alike(&cluster, "web", [n2, n3])?;
    cluster.disk("deactivate web")?;
    cluster.disk("remove web")?;
    cluster.is_as_configured()?;
    cluster.is_clean()
}

/// Gives n3 the mirror, and does something while it gets the data. Tells how that ended.
fn replace_until(cluster: &Cluster, meanwhile: impl Fn() -> Done) -> Result<String, Error> {
    let n3 = cluster.node(3);
    thread::scope(|scope| {
        let running = scope.spawn(|| cluster.manager().run("replace-disks web -n n3"));
        until("n3 gets the data", || {
            Ok(n3.ok("cat /proc/drbd")?.contains("cs:SyncTarget"))
        })?;
        meanwhile()?;
        Ok(running.join().unwrap()?.to_string())
    })
}

/// What an administrator does when all is connected again.
fn mend(cluster: &Cluster, how: &str) -> Done {
    let listed = cluster.json("operation list")?;
    eprintln!("{how}: {listed}");
    if listed.as_array().is_some_and(|operations| !operations.is_empty()) {
        cluster.ends_well(&format!("operation {how} --all"))?;
    }
    cluster.ends_well("activate web")?;
    cluster.synced("web")?;
    cluster.is_as_configured()
}

/// Gives a node the mirror if it has it no more.
fn back_on(cluster: &Cluster, node: Node<'_>) -> Done {
    let listed = cluster.json("list web")?;
    if listed[0]["snodes"][0] != node.name() {
        cluster.disk(&format!("replace-disks web -n {}", node.name()))?;
    }
    is_mirrored_on(cluster, node)?;
    cluster.is_as_configured()
}

fn is_mirrored_on(cluster: &Cluster, node: Node<'_>) -> Done {
    let listed = cluster.json("list web")?;
    assert_eq!(listed[0]["snodes"][0], node.name(), "{listed}");
    until("both halves are in sync", || {
        Ok(node.ok("cat /proc/drbd")?.contains("ds:UpToDate/UpToDate"))
    })
}
