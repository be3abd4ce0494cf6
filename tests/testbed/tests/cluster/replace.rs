//! Mirrors that get another half, and what happens to them meanwhile.

use std::thread;
use std::time::Duration;

use gnt_testbed::Net;

use crate::drbd::{halves_are_alike, is_only_on};
use crate::harness::{Cluster, Done, Node, until};

#[test]
fn a_third_node_gets_the_mirror() -> Done {
    let cluster = Cluster::start("cluster-replace", 3, "drbd", |plan| plan)?;
    let [n1, n2, n3] = [1, 2, 3].map(|number| cluster.node(number));
    cluster.disk("add web -t drbd -n n2:n3 --disk 0:size=96M")?;
    cluster.disk("activate web")?;
    cluster.synced("web")?;
    n2.fill("web", 0, 96)?;
    // So slow that something can happen meanwhile.
    cluster.disk("cluster modify -D drbd:resync-rate=8192")?;
    let web = cluster.machine("web", &[n2, n3])?;
    web.start(n2)?;

    cluster.disk("replace-disks web -n n1")?;
    web.machine.goes_on(20)?;
    is_mirrored_on(&cluster, n1)?;
    assert_eq!(n3.ok("lvs --noheadings")?, "");
    cluster.is_as_configured()?;

    // The new half is cut off while it gets the data.
    let end = replace_until(&cluster, "web -n n3", || cluster.cut(n3, Net::Secondary))?;
    eprintln!("cut off: {end}");
    web.machine.goes_on(20)?;
    cluster.heal(n3, Net::Secondary)?;
    mend(&cluster, "resume")?;
    web.machine.goes_on(20)?;
    is_mirrored_on(&cluster, n3)?;
    assert_eq!(n1.ok("lvs --noheadings")?, "");

    // The new half loses its power, and the old one is kept or comes back.
    let end = replace_until(&cluster, "web -n n1", || {
        n2.ok("true")?;
        n3.power_cut()
    })?;
    eprintln!("the old half is dead: {end}");
    web.machine.goes_on(20)?;
    n3.boot()?;
    mend(&cluster, "resume")?;
    is_mirrored_on(&cluster, n1)?;
    assert_eq!(n3.ok("lvs --noheadings")?, "");

    // The manager is killed, and the replacement given up.
    n1.ok("gnt-disk replace-disks web -n n3 >/dev/null 2>&1 & process=$!
         sleep 2; kill -9 $process; wait $process 2>/dev/null; true")?;
    mend(&cluster, "abort")?;
    web.machine.goes_on(20)?;
    web.stop(n2)?;
    is_only_on(&cluster, "web", n2)?;
    web.is_whole_on(n2)?;
    cluster.disk("deactivate web")?;
    cluster.disk("remove web")?;
    cluster.is_as_configured()?;
    cluster.is_clean()
}

/// Replaces, and does something meanwhile. Tells how that ended.
fn replace_until(
    cluster: &Cluster,
    arguments: &str,
    meanwhile: impl Fn() -> Done,
) -> Result<String, gnt_testbed::Error> {
    thread::scope(|scope| {
        let running = scope.spawn(|| cluster.manager().run(&format!("replace-disks {arguments}")));
        thread::sleep(Duration::from_millis(2500));
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

fn is_mirrored_on(cluster: &Cluster, node: Node<'_>) -> Done {
    let listed = cluster.json("list web")?;
    assert_eq!(listed[0]["snodes"][0], node.name(), "{listed}");
    until("both halves are in sync", || {
        Ok(node.ok("cat /proc/drbd")?.contains("ds:UpToDate/UpToDate"))
    })?;
    let _ = halves_are_alike;
    Ok(())
}
