//! Instances whose disks are stored in another way, by processes that are killed half-way.

use gnt_config::Mebibytes;

use crate::harness::{Cluster, Done, Node, link};

/// Each template that the instance goes through, how it is asked for, and the number of the node that the instance is on then.
const WAY: [(&str, &str, usize); 8] = [
    ("drbd", "-n n3", 2),
    ("rbd", "", 2),
    ("ext", "-e provider=san", 2),
    ("file", "-n n3", 3),
    ("ext", "-e provider=san", 3),
    ("rbd", "-n n2", 2),
    ("drbd", "-n n3", 2),
    ("plain", "", 2),
];

/// What is being done when data is copied.
const COPIES: &str = "copy-disk";
/// And when a volume gets a mirror, or loses it.
const MIRRORS: &str = "create-disk|rename-disk|set-info|assemble-disks|mirror-disk|await-peers";

#[test]
#[ignore = "takes minutes: make test-cluster"]
fn a_conversion_that_is_killed_is_gone_on_with() -> Done {
    let cluster = Cluster::start("cluster-convert", 3, "plain,drbd,rbd,ext,file", |plan| {
        plan.modules(["rbd"]).shared_disk("SAN", Mebibytes(1024))
    })?;
    let _ceph = cluster.testbed.ceph()?;
    let [n1, n2] = [1, 2].map(|number| cluster.node(number));
    // What was on it before is seen where nothing is written.
    n1.ok("head -c 256M /dev/urandom >/dev/disk/by-id/ubd-SAN; sync")?;
    cluster.disk("add web -t plain -n n2 --disk 0:size=48M")?;
    cluster.disk("activate web")?;
    let device = link("web", 0);
    n2.ok(&format!(
        "dd if=/dev/urandom of={device} bs=1M count=12 oflag=direct
         dd if=/dev/urandom of={device} bs=1M count=3 seek=45 oflag=direct"
    ))?;
    let sum = n2.checksum("web", 0, 48)?;
    cluster.disk("deactivate web")?;
    let mut from = "plain";
    for (template, options, number) in WAY {
        let command = format!("convert web -t {template} {options} --bwlimit 4M");
        // Volumes get and lose their mirror without a copy.
        let copies = [from, template] != ["plain", "drbd"] && [from, template] != ["drbd", "plain"];
        killed(n1, &command, if copies { COPIES } else { MIRRORS })?;
        let listed = cluster.json("operation list")?;
        assert_eq!(listed[0]["interrupted"], true, "{from} to {template}: {listed}");
        cluster.disk("operation resume --all")?;
        let listed = cluster.json("list web")?;
        assert_eq!(listed[0]["disk_template"], template, "from {from}");
        cluster.ends_well("activate web")?;
        assert_eq!(
            cluster.node(number).checksum("web", 0, 48)?,
            sum,
            "{from} to {template}"
        );
        cluster.disk("deactivate web")?;
        cluster.is_as_configured()?;
        from = template;
    }

    // Given up, nothing of it stays.
    for (command, until) in [
        (
            "convert web -t ext -e provider=san -n n3 --bwlimit 4M",
            "copy-disk",
        ),
        ("convert web -t drbd -n n3", "convert"),
    ] {
        killed(n1, command, until)?;
        cluster.disk("operation abort --all")?;
        let listed = cluster.json("list web")?;
        assert_eq!(listed[0]["disk_template"], "plain", "{command}");
        cluster.disk("activate web")?;
        assert_eq!(n2.checksum("web", 0, 48)?, sum, "{command}");
        cluster.disk("deactivate web")?;
        cluster.is_as_configured()?;
    }
    cluster.disk("remove web")?;
    cluster.is_as_configured()?;
    cluster.is_clean()
}

/// Starts a command and kills it soon after its operation is listed at one of these steps.
fn killed(manager: Node<'_>, command: &str, steps: &str) -> Done {
    let more = if steps == COPIES { 1.0 } else { 0.2 };
    manager.ok(&format!(
        "gnt-disk {command} >/dev/null 2>&1 & process=$!
         until gnt-disk --json operation list | grep -Eq '{steps}'; do kill -0 $process || exit 1; done
         sleep {more}; kill -9 $process; wait $process 2>/dev/null; true"
    ))?;
    Ok(())
}
