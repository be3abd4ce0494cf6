//! Instances on storage that all nodes reach, in Ceph and behind an ExtStorage provider, with writes going on.

use gnt_config::Mebibytes;
use gnt_testbed::Error;

use crate::harness::{Cluster, Done, Node, Running};

/// What is peculiar to a template.
struct Row {
    /// Name of the instance.
    name: &'static str,
    /// Template and parameters of the disk.
    add: &'static str,
    /// Prints a line for each device of an instance's disk on a node.
    mapped: &'static str,
}

const ROWS: [Row; 2] = [
    Row {
        name: "web1",
        add: "-t ext --disk 0:size=64M,provider=san",
        mapped: "ls /dev/mapper | grep ^san- || true",
    },
    Row {
        name: "web2",
        add: "-t rbd --disk 0:size=64M",
        mapped: "ls -d /sys/bus/rbd/devices/* 2>/dev/null || true",
    },
];

#[test]
#[ignore = "takes minutes: make test-cluster"]
fn instances_on_shared_storage_are_migrated_while_they_write() -> Done {
    let cluster = Cluster::start("cluster-external", 3, "ext,rbd", |plan| {
        plan.modules(["rbd"]).shared_disk("SAN", Mebibytes(1024))
    })?;
    let _ceph = cluster.testbed.ceph()?;
    for row in &ROWS {
        row.live(&cluster)?;
    }
    cluster.is_as_configured()?;
    cluster.is_clean()
}

impl Row {
    fn live(&self, cluster: &Cluster) -> Done {
        let [n1, n2, n3] = [1, 2, 3].map(|number| cluster.node(number));
        let name = self.name;
        cluster.disk(&format!("add {name} -n n2 {}", self.add))?;
        cluster.disk(&format!("activate {name}"))?;
        self.is_only_on(cluster, n2)?;
        let web = &cluster.machine(name, &[n1, n2, n3])?;
        web.start(n2)?;
        web.machine.goes_on(20)?;
        for (from, to) in [(n2, n3), (n3, n1)] {
            cluster.disk(&format!(
                "migrate {name} -n {} --transfer '{}'",
                to.name(),
                web.transfer()
            ))?;
            assert!(web.machine.runs_on(to.name()) && !web.machine.runs_on(from.name()));
            web.machine.goes_on(20)?;
            self.is_only_on(cluster, to)?;
        }
        let error = cluster.ends(
            1,
            &format!("migrate {name} -n n2 --transfer 'echo no memory >&2; exit 1'"),
        )?;
        assert!(error.contains("no memory"), "{error}");
        web.machine.goes_on(20)?;
        self.is_only_on(cluster, n1)?;

        web.stop(n1)?;
        cluster.disk(&format!("failover {name} -n n2"))?;
        self.is_only_on(cluster, n2)?;
        web.is_whole_on(n2)?;
        web.start(n2)?;
        web.machine.goes_on(20)?;

        self.power_is_lost(cluster, web)?;
        cluster.disk(&format!("deactivate {name}"))?;
        cluster.disk(&format!("remove {name}"))?;
        web.give_up()
    }

    /// The target dies, then, on the way to where it was, the source.
    fn power_is_lost(&self, cluster: &Cluster, web: &Running<'_>) -> Done {
        let name = self.name;
        let [n2, n3] = [2, 3].map(|number| cluster.node(number));
        cluster.disk(&format!("migrate {name} -n n3 --prepare"))?;
        assert_eq!([self.has_device(n2)?, self.has_device(n3)?], [true, true]);
        n3.power_cut()?;
        web.machine.goes_on(20)?;
        cluster.disk("node modify n3 --offline yes")?;
        cluster.ends(3, &format!("migrate {name} --cleanup --runs-on n2"))?;
        web.machine.goes_on(20)?;
        n3.boot()?;
        web.spawn(n3)?;
        cluster.disk("node modify n3 --offline no")?;
        // A link survives what the device does not.
        cluster.ends_well("verify --repair")?;
        self.is_only_on(cluster, n2)?;
        cluster.is_as_configured()?;

        cluster.disk(&format!("migrate {name} -n n3 --prepare"))?;
        n2.power_cut()?;
        web.machine.died("n2")?;
        cluster.disk("node modify n2 --offline yes")?;
        cluster.ends(3, &format!("migrate {name} --cleanup --runs-on n3"))?;
        web.is_whole_on(n3)?;
        web.start(n3)?;
        web.machine.goes_on(20)?;
        n2.boot()?;
        cluster.disk("node modify n2 --offline no")?;
        cluster.ends_well("verify --repair")?;
        self.is_only_on(cluster, n3)?;
        cluster.is_as_configured()?;
        web.stop(n3)?;
        web.is_whole_on(n3)?;
        Ok(())
    }

    fn has_device(&self, node: Node<'_>) -> Result<bool, Error> {
        Ok(!node.ok(self.mapped)?.is_empty())
    }

    /// The instance is on this node, and no other has a device of it.
    fn is_only_on(&self, cluster: &Cluster, node: Node<'_>) -> Done {
        let listed = cluster.json(&format!("list {}", self.name))?;
        assert_eq!(listed[0]["pnode"], node.name(), "{listed}");
        for other in cluster.nodes() {
            let here = other.name() == node.name();
            let found = (other.has_link(self.name)?, self.has_device(other)?);
            assert_eq!(found, (here, here), "{} {}", self.add, other.name());
        }
        Ok(())
    }
}
