//! Instances mirrored by drbd, with writes going on.

use crate::harness::{Cluster, Done, Node};

/// Size of the disk in mebibytes.
const SIZE: u64 = 64;

/// Checksum of what a node has of the only disk of an instance, below drbd.
pub(crate) fn below(cluster: &Cluster, node: Node<'_>, instance: &str) -> Result<String, gnt_testbed::Error> {
    let info = cluster.json_any(&format!("info --static {instance}"))?;
    let disk = &info["disks"][0];
    let volume = &disk["children"][0]["logical_id"];
    let (vg, lv) = (volume[0].as_str().unwrap(), volume[1].as_str().unwrap());
    let size = disk["size"].as_u64().unwrap();
    node.ok(&format!(
        "dd if=/dev/{vg}/{lv} bs=1M count={size} iflag=direct 2>/dev/null | sha256sum"
    ))
}

pub(crate) fn halves_are_alike(cluster: &Cluster, instance: &str, nodes: [Node<'_>; 2]) -> Done {
    let [one, other] = nodes.map(|node| below(cluster, node, instance));
    assert_eq!(one?, other?);
    Ok(())
}

/// The instance is on this node, and its disks are in use there and only there.
pub(crate) fn is_only_on(cluster: &Cluster, instance: &str, node: Node<'_>) -> Done {
    let listed = cluster.json(&format!("list {instance}"))?;
    assert_eq!(listed[0]["pnode"], node.name(), "{listed}");
    for other in cluster.nodes() {
        let here = other.name() == node.name();
        assert_eq!(other.has_link(instance)?, here, "{}", other.name());
        let roles = other.ok("cat /proc/drbd")?;
        assert!(!roles.contains("ro:Primary/Primary"), "{roles}");
        assert!(
            here || !roles.contains("ro:Primary/"),
            "{}: {roles}",
            other.name()
        );
    }
    Ok(())
}

#[test]
fn an_instance_is_migrated_while_it_writes() -> Done {
    let cluster = Cluster::start("cluster-drbd", 3, "drbd", |plan| plan)?;
    let [n2, n3] = [cluster.node(2), cluster.node(3)];
    // What was there before is seen on one of them only.
    n3.ok("head -c 256M /dev/urandom >/dev/ubda; vgcreate -q xenvg /dev/ubda")?;
    let add = format!("add web -t drbd -n n2:n3 --disk 0:size={SIZE}M --wait-for-sync");
    cluster.ends_well(&add)?;
    assert_eq!(cluster.json("list web")?[0]["disks_active"], false);
    halves_are_alike(&cluster, "web", [n2, n3])?;
    cluster.disk("activate web")?;
    cluster.synced("web")?;
    is_only_on(&cluster, "web", n2)?;

    let web = cluster.machine("web", &[n2, n3])?;
    web.start(n2)?;
    web.machine.goes_on(50)?;
    for (from, to) in [(n2, n3), (n3, n2)] {
        let before = web.machine.acknowledged().unwrap();
        cluster.disk(&format!("migrate web --transfer '{}'", web.transfer()))?;
        assert!(web.machine.runs_on(to.name()) && !web.machine.runs_on(from.name()));
        assert!(web.machine.acknowledged().unwrap() > before);
        web.machine.goes_on(50)?;
        is_only_on(&cluster, "web", to)?;
        cluster.is_as_configured()?;
    }

    // One that cannot be moved stays, and nothing is known of it on the other node.
    let error = cluster.ends(1, "migrate web --transfer 'echo no memory >&2; exit 1'")?;
    assert!(error.contains("no memory"), "{error}");
    web.machine.goes_on(50)?;
    is_only_on(&cluster, "web", n2)?;
    cluster.is_as_configured()?;

    // While it runs there is more room.
    cluster.disk("grow web 0 32M")?;
    cluster.synced("web")?;
    web.machine.goes_on(50)?;
    web.stop(n2)?;
    web.is_whole_on(n2)?;
    halves_are_alike(&cluster, "web", [n2, n3])?;

    cluster.disk("failover web")?;
    is_only_on(&cluster, "web", n3)?;
    web.is_whole_on(n3)?;
    assert_eq!(
        n3.ok(&format!(
            "blockdev --getsize64 {}",
            crate::harness::link("web", 0)
        ))?
        .trim(),
        (96u64 << 20).to_string()
    );
    web.start(n3)?;
    web.machine.goes_on(20)?;
    web.stop(n3)?;
    cluster.disk("deactivate web")?;
    cluster.disk("activate web")?;
    web.is_whole_on(n3)?;
    cluster.disk("deactivate web")?;
    cluster.is_as_configured()?;
    cluster.disk("remove web")?;
    cluster.is_as_configured()?;
    cluster.is_clean()
}
