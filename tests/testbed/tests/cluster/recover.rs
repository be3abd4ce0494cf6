//! A configuration that is lost, and rebuilt from what the nodes have.

use std::collections::BTreeMap;
use std::fs;

use gnt_config::Mebibytes;
use gnt_testbed::Error;
use serde_json::Value;

use crate::harness::{Cluster, Done, STATE};

/// Instances: name, how each is added, and its node.
const INSTANCES: [(&str, &str); 7] = [
    (
        "plain1",
        "-t plain -n n2 --disk 0:size=32M,name=root --disk 1:size=16M,mode=ro",
    ),
    ("drbd1", "-t drbd -n n2:n3 --disk 0:size=32M"),
    ("file1", "-t file -n n3 --disk 0:size=16M"),
    ("shared1", "-t sharedfile -n n2 --disk 0:size=16M"),
    ("gluster1", "-t gluster -n n2 --disk 0:size=16M"),
    ("rbd1", "-t rbd -n n3 --disk 0:size=16M"),
    ("ext1", "-t ext -n n2 --disk 0:size=16M,provider=san"),
];

#[test]
#[ignore = "takes minutes: make test-cluster"]
fn a_lost_configuration_is_rebuilt() -> Done {
    let cluster = Cluster::start("cluster-recover", 3, "plain", |plan| {
        plan.modules(["rbd", "fuse"]).shared_disk("SAN", Mebibytes(1024))
    })?;
    let _ceph = cluster.testbed.ceph()?;
    let _gluster = cluster.testbed.gluster()?;
    let files = cluster.shared("files");
    fs::create_dir(cluster.testbed.dir().join("shared/files")).unwrap();
    let settings = format!(
        "--enabled-disk-templates plain,drbd,file,sharedfile,rbd,gluster,ext --add-file-storage-path {files} \
         --shared-file-storage-dir {files} -D gluster:host=192.168.77.254"
    );
    cluster.disk(&format!("cluster modify {settings}"))?;
    for (name, add) in INSTANCES {
        cluster.disk(&format!("add {name} {add}"))?;
        cluster.disk(&format!("activate {name}"))?;
    }
    cluster.synced("drbd1")?;
    let before = pictures(&cluster)?;
    let sums = sums(&cluster, true)?;
    // One of each kind of mirror stays in use.
    for name in ["plain1", "file1", "shared1", "gluster1", "rbd1", "ext1"] {
        cluster.disk(&format!("deactivate {name}"))?;
    }

    let manager = cluster.manager();
    manager.ok(&format!("mkdir /root/lost && mv {STATE}/store.db* /root/lost/"))?;
    cluster.configure("plain")?;
    cluster.disk(&format!("cluster modify {settings}"))?;
    assert_eq!(cluster.json("list")?, Value::Array(Vec::new()));
    let shown = cluster.ends_well("recover")?;
    assert_eq!(cluster.json("list")?, Value::Array(Vec::new()), "{shown}");
    cluster.ends_well("recover --yes")?;

    let found = pictures(&cluster)?;
    for (name, _) in INSTANCES {
        assert_eq!(found[name], before[name], "{name}");
    }
    for (name, _) in INSTANCES {
        cluster.ends_well(&format!("activate {name}"))?;
    }
    cluster.synced("drbd1")?;
    cluster.is_as_configured()?;
    assert_eq!(self::sums(&cluster, false)?, sums);
    for (name, _) in INSTANCES {
        cluster.disk(&format!("deactivate {name}"))?;
        cluster.disk(&format!("remove {name}"))?;
    }
    cluster.is_as_configured()?;
    cluster.is_clean()
}

/// What the configuration says of each instance and no volume may forget.
fn pictures(cluster: &Cluster) -> Result<BTreeMap<String, Value>, Error> {
    let mut pictures = BTreeMap::new();
    for (name, _) in INSTANCES {
        let info = cluster.json_any(&format!("info --static {name}"))?;
        let disks = info["disks"].as_array().unwrap().iter().map(|disk| {
            let mut id = disk["logical_id"].clone();
            // A running pair keeps its secret, one that does not run gets a new one; it is not shown. Nodes have new UUIDs.
            if let Some(parts) = id.as_array_mut().filter(|parts| parts.len() > 2) {
                parts.truncate(5);
                parts.drain(..2);
            }
            let keys = ["uuid", "name", "size", "mode", "dev_type"];
            let told = keys.into_iter().map(|key| (key.to_owned(), disk[key].clone()));
            Value::Object(told.chain([("logical_id".to_owned(), id)]).collect())
        });
        let keys = ["name", "disk_template", "pnode", "snodes"];
        let told = keys.into_iter().map(|key| (key.to_owned(), info[key].clone()));
        let disks = ("disks".to_owned(), Value::Array(disks.collect()));
        pictures.insert(name.to_owned(), Value::Object(told.chain([disks]).collect()));
    }
    Ok(pictures)
}

/// Checksums of the first disks, which are filled first if `fill`.
fn sums(cluster: &Cluster, fill: bool) -> Result<Vec<String>, Error> {
    let sum = |name: &str| {
        let listed = cluster.json(&format!("list {name}"))?;
        let node = cluster.named(listed[0]["pnode"].as_str().unwrap());
        if fill {
            node.fill(name, 0, 16)?;
        }
        node.checksum(name, 0, 16)
    };
    INSTANCES.iter().map(|(name, _)| sum(name)).collect()
}
