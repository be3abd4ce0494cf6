//! The program itself on nodes with a volume group: what an administrator does to plain disks, a process that is killed, a power cut; and
//! a mirrored disk on each of its nodes.
#![cfg(test)]

use std::collections::BTreeSet;
use std::path::PathBuf;

use gnt_config::params::DiskParams;
use gnt_config::{Disk, Mebibytes};
use gnt_testbed::{Error, Guest, Testbed};
use serde_json::{Value, json};

/// `gnt-disk` on a guest whose second disk has the state directory: it survives what the guest does not.
struct Node<'a> {
    testbed: &'a Testbed,
    guest: &'a Guest,
}

/// Where cargo puts the program, beside the test.
fn built() -> PathBuf {
    let own = std::env::current_exe().unwrap();
    let mut places = own.ancestors().skip(1).map(|place| place.join("gnt-disk"));
    let built = places.find(|path| path.is_file());
    built.unwrap_or_else(|| panic!("gnt-disk is not built: cargo build -p gnt-cli"))
}

fn testbed(name: &str, guests: usize, modules: &[&str]) -> Result<Testbed, Error> {
    let plan = Testbed::plan(name)
        .guests(guests)
        .disk(Mebibytes(512))
        .disk(Mebibytes(64));
    plan.modules(modules.iter().copied()).start()
}

impl<'a> Node<'a> {
    /// A guest that gets a volume group and a file system for the state.
    fn new(testbed: &'a Testbed, number: usize, vg: &str) -> Result<Self, Error> {
        let guest = testbed.guest(number);
        let node = Self { testbed, guest };
        node.ok(&format!("vgcreate -q {vg} /dev/ubda && mkfs.ext4 -q /dev/ubdb"))?;
        node.mount()?;
        Ok(node)
    }

    fn mount(&self) -> Result<(), Error> {
        let program = self.testbed.inside(&built());
        let program = program.display();
        self.ok(&format!(
            "mkdir -p -m 700 /var/lib/gnt-disk && mount /dev/ubdb /var/lib/gnt-disk && chmod 700 /var/lib/gnt-disk
             ln -s {program} /usr/local/sbin/gnt-disk"
        ))?;
        Ok(())
    }

    fn ok(&self, script: &str) -> Result<String, Error> {
        self.guest.ok(script)
    }

    /// Runs the program, which must succeed without a warning.
    fn disk(&self, arguments: &str) -> Result<String, Error> {
        self.ok(&format!("gnt-disk {arguments}"))
    }

    fn json(&self, arguments: &str) -> Result<Value, Error> {
        let text = self.disk(&format!("--json {arguments}"))?;
        Ok(serde_json::from_str(&text).unwrap())
    }

    /// What the program says when it ends with this status.
    fn ends(&self, status: i32, arguments: &str) -> Result<String, Error> {
        let output = self.guest.sh(&format!("gnt-disk {arguments}"))?;
        assert_eq!(output.code, Some(status), "{arguments}: {output:?}");
        Ok(output.stdout + &output.stderr)
    }

    /// The link to a disk in use.
    fn link(instance: &str, index: usize) -> String {
        format!("/var/lib/gnt-disk/instance-disks/{instance}:{index}")
    }

    fn checksum(&self, instance: &str, index: usize, mebibytes: u64) -> Result<String, Error> {
        let link = Self::link(instance, index);
        self.ok(&format!("head -c {mebibytes}M {link} | md5sum"))
    }

    fn fill(&self, instance: &str, index: usize) -> Result<(), Error> {
        let link = Self::link(instance, index);
        // Ends when the disk is full.
        self.ok(&format!("cat /dev/urandom >{link} 2>/dev/null; sync"))?;
        Ok(())
    }

    /// Names of the logical volumes, with what `fields` say.
    fn volumes(&self, fields: &str) -> Result<Vec<String>, Error> {
        let lines = self.ok(&format!("lvs --noheadings --options {fields}"))?;
        Ok(lines.lines().map(|line| line.trim().to_owned()).collect())
    }
}

#[test]
fn plain_disks_live_their_whole_life() -> Result<(), Error> {
    let testbed = testbed("program", 1, &["dm-mod", "dm-snapshot", "ext4"])?;
    let node = Node::new(&testbed, 1, "vg0")?;
    node.disk("cluster init --vg-name vg0 --enabled-disk-templates plain,ext")?;
    life(&node)?;
    adoption(&node)?;
    killed(&node)?;
    power_cut(&node)?;
    for instance in ["www", "old"] {
        node.disk(&format!("remove {instance}"))?;
    }
    assert_eq!(node.volumes("lv_name")?, ["busy"]);
    assert_eq!(node.disk("verify")?, "The storage is as configured.\n");
    Ok(())
}

fn life(node: &Node<'_>) -> Result<(), Error> {
    node.disk("add web --disk 0:size=64M --disk 1:size=32M,name=logs")?;
    let listed = node.json("list")?;
    assert_eq!(listed[0]["disk_template"], "plain");
    assert_eq!(listed[0]["disk.sizes"], json!([64, 32]));

    let shown = node.disk("activate web --wait-for-sync")?;
    assert!(
        shown.starts_with("n1:disk/0:/dev/vg0/") && shown.contains("n1:disk/1:/dev/vg0/"),
        "{shown}"
    );
    node.fill("web", 0)?;
    let written = node.checksum("web", 0, 64)?;

    let info = node.json("info web")?;
    let status = &info["disks"][0]["pstatus"];
    assert_eq!(info["disks"][0]["status"], "ok");
    assert_eq!(status["bytes"], 64 << 20);
    assert_eq!(
        (
            &status["sync_percent"],
            &status["is_degraded"],
            &status["ldisk_status"]
        ),
        (&Value::Null, &false.into(), &1.into())
    );

    node.disk("grow web 0 30M")?;
    let info = node.json("info web")?;
    // LVM's extents have 4 MiB.
    assert_eq!(
        (&info["disks"][0]["size"], &info["disks"][0]["pstatus"]["bytes"]),
        (&94.into(), &(96u64 << 20).into())
    );
    assert_eq!(node.checksum("web", 0, 64)?, written);

    node.disk("snapshot web --disk 0:snapshot_name=before")?;
    node.ok(&format!(
        "dd if=/dev/zero of={} bs=1M count=8 conv=notrunc oflag=direct",
        Node::link("web", 0)
    ))?;
    node.disk("modify web --disk attach:before")?;
    assert_eq!(node.checksum("web", 2, 64)?, written);
    assert_ne!(node.checksum("web", 0, 64)?, written);
    let error = node.ends(1, "modify web --disk 0:remove")?;
    assert!(error.contains("before"), "{error}");
    node.disk("modify web --disk 2:remove --disk add:size=16M --disk 1:mode=ro")?;

    assert!(node.ends(1, "rename web www")?.contains("are active"));
    node.disk("deactivate web")?;
    node.disk("rename web www")?;
    let tags = node.volumes("lv_tags")?;
    assert_eq!(tags.len(), 3);
    assert!(
        tags.iter().all(|tags| tags.contains("originstname+www")),
        "{tags:?}"
    );
    assert_eq!(node.disk("verify")?, "The storage is as configured.\n");
    Ok(())
}

fn adoption(node: &Node<'_>) -> Result<(), Error> {
    node.ok("lvcreate -qq -n legacy -L 16M vg0 && lvcreate -qq -n busy -L 16M vg0 && lvchange --addtag kept vg0/legacy")?;
    node.ok("cat /dev/urandom >/dev/vg0/legacy 2>/dev/null; mkfs.ext4 -q /dev/vg0/busy && mount /dev/vg0/busy /mnt")?;
    let written = node.ok("md5sum </dev/vg0/legacy")?;
    let error = node.ends(1, "add old --disk adopt=lost")?;
    assert!(
        error.contains("there is no volume vg0/lost on node n1"),
        "{error}"
    );
    let error = node.ends(1, "add old --disk adopt=busy")?;
    assert!(error.contains("in use"), "{error}");
    let taken = node.json("info www")?["disks"][0]["logical_id"][1]
        .as_str()
        .unwrap()
        .to_owned();
    let error = node.ends(1, &format!("add old --disk adopt={taken}"))?;
    assert!(error.contains("is a disk of instance www already"), "{error}");
    // The second cannot be adopted: the first keeps its name.
    node.ends(1, "add old --disk adopt=legacy --disk adopt=busy")?;
    assert!(node.volumes("lv_name")?.contains(&"legacy".to_owned()));

    node.disk("add old --disk adopt=legacy")?;
    assert!(!node.volumes("lv_name")?.contains(&"legacy".to_owned()));
    assert_eq!(node.json("list old")?[0]["disk.sizes"], json!([16]));
    let tags = node.volumes("lv_tags")?;
    let is_ours = |tags: &String| tags.contains("originstname+old") && tags.contains("kept");
    assert!(tags.iter().any(is_ours), "{tags:?}");
    node.disk("activate old")?;
    assert_eq!(node.checksum("old", 0, 16)?, written);
    node.ok("umount /mnt")?;
    Ok(())
}

/// The process is killed as soon as there is a volume; the program that it was running may go on.
fn killed(node: &Node<'_>) -> Result<(), Error> {
    node.ok(
        "gnt-disk add killed --disk 0:size=8M --disk 1:size=8M --disk 2:size=8M & process=$!
             until lvs --noheadings --options lv_tags | grep -q instance=killed; do :; done
             kill -9 $process; wait $process; true",
    )?;
    let operations = node.json("operation list")?;
    assert_eq!(
        (&operations[0]["instance"], &operations[0]["interrupted"]),
        (&"killed".into(), &true.into()),
        "{operations}"
    );
    let found = node.ends(3, "verify")?;
    assert!(found.contains("was interrupted"), "{found}");
    node.disk("operation abort --all")?;
    let left = node.volumes("lv_tags")?;
    assert!(left.iter().all(|tags| !tags.contains("killed")), "{left:?}");
    assert_eq!(node.disk("verify")?, "The storage is as configured.\n");
    Ok(())
}

fn power_cut(node: &Node<'_>) -> Result<(), Error> {
    node.disk("activate www")?;
    let before = [node.checksum("www", 0, 94)?, node.checksum("old", 0, 16)?];
    node.ok("sync")?;
    node.guest.power_cut()?;
    node.guest.boot()?;
    node.mount()?;
    // A node that starts may activate what LVM has by itself; this one starts with nothing in use.
    node.ok("vgchange -qq -an vg0")?;
    let found = node.ends(3, "verify")?;
    assert_eq!(found.matches("should be active").count(), 4, "{found}");
    for instance in ["www", "old"] {
        node.disk(&format!("activate {instance}"))?;
    }
    assert_eq!(
        [node.checksum("www", 0, 94)?, node.checksum("old", 0, 16)?],
        before
    );
    assert_eq!(node.disk("verify")?, "The storage is as configured.\n");
    Ok(())
}

/// A Ganeti cluster of the two guests, with an instance of two drbd disks that nobody has activated.
fn ganeti_cluster(testbed: &Testbed) -> Value {
    let recorded = concat!(env!("CARGO_MANIFEST_DIR"), "/../../fixtures/config/config.data");
    let mut config: Value = serde_json::from_slice(&std::fs::read(recorded).unwrap()).unwrap();
    for node in config["nodes"].as_object_mut().unwrap().values_mut() {
        let number = if node["name"] == "node1.rn" { 1 } else { 2 };
        let guest = testbed.guest(number);
        node["name"] = guest.name().into();
        node["primary_ip"] = guest.primary_ip().into();
        node["secondary_ip"] = guest.secondary_ip().into();
    }
    let instances = config["instances"].as_object_mut().unwrap();
    instances.retain(|_, instance| instance["name"] == "inst5.rn");
    for instance in instances.values_mut() {
        instance["disks_active"] = false.into();
    }
    let disks = config["disks"].as_object_mut().unwrap();
    disks.retain(|_, disk| disk["dev_type"] == "drbd");
    let params = &mut config["cluster"]["diskparams"]["drbd"];
    // The death of a peer shows in seconds, and a synchronisation takes some.
    params["net-custom"] = "--timeout 10 --ping-int 2 --ping-timeout 10 --connect-int 2".into();
    params["resync-rate"] = (10 << 10).into();
    config
}

/// Makes the halves of the disks that the configuration has, as Ganeti would have.
fn make_disks(testbed: &Testbed, config: &Value) -> Result<(), Error> {
    let nodes = config["nodes"].as_object().unwrap();
    let text = |node: &Value, key: &str| node[key].as_str().unwrap().to_owned();
    let addresses = nodes
        .values()
        .map(|node| (text(node, "uuid"), text(node, "secondary_ip")));
    let addresses = addresses.collect();
    for node in nodes.values() {
        let guests = testbed.guests().iter();
        let guest = guests
            .clone()
            .find(|guest| guest.name() == text(node, "name"))
            .unwrap();
        for disk in config["disks"].as_object().unwrap().values() {
            let disk: Disk = serde_json::from_value(disk.clone()).unwrap();
            let mut disk = DiskParams::default().annotate(&disk).unwrap();
            disk.set_dynamic_params(&text(node, "uuid"), &addresses).unwrap();
            guest.storage().create(&disk)?;
        }
    }
    Ok(())
}

#[test]
fn a_mirrored_disk_is_worked_on_half_by_half() -> Result<(), Error> {
    let testbed = testbed("program-drbd", 2, &["dm-mod", "drbd", "ext4"])?;
    let [n1, n2] = [Node::new(&testbed, 1, "xenvg")?, Node::new(&testbed, 2, "xenvg")?];
    let mut config = ganeti_cluster(&testbed);
    // So slow that it is seen.
    config["cluster"]["diskparams"]["drbd"]["resync-rate"] = json!(8 * 1024);
    make_disks(&testbed, &config)?;
    let file = testbed.dir().join("config.data");
    std::fs::write(&file, config.to_string()).unwrap();
    for node in [&n1, &n2] {
        node.disk(&format!("import {}", testbed.inside(&file).display()))?;
    }

    let unreachable = "node n2 cannot be reached from this machine (n1)";
    for refused in [
        "add new -t drbd -n n1:n2 --disk 0:size=64M",
        "grow inst5.rn 0 32M",
        "modify inst5.rn --disk 0:detach",
        "remove inst5.rn",
    ] {
        let error = n1.ends(1, refused)?;
        assert!(error.contains(unreachable), "{refused}: {error}");
    }

    let shown = n2.disk("activate inst5.rn")?;
    assert_eq!(shown, "n2:disk/0:/dev/drbd0\nn2:disk/1:/dev/drbd1\n");
    let shown = n1.ends(0, "activate inst5.rn --wait-for-sync")?;
    assert!(
        shown.starts_with("n1:disk/0:/dev/drbd0\nn1:disk/1:/dev/drbd1\n"),
        "{shown}"
    );
    assert!(shown.contains("% in sync"), "{shown}");
    n1.fill("inst5.rn", 0)?;
    let info = n1.json("info inst5.rn")?;
    let status = &info["disks"][0]["pstatus"];
    assert_eq!(
        json!([
            info["disks"][0]["status"],
            status["sync_percent"],
            status["is_degraded"],
            status["bytes"]
        ]),
        json!(["ok", null, false, 64 << 20])
    );
    let info = n2.json("info inst5.rn")?;
    assert_eq!(
        json!([
            info["disks"][1]["status"],
            info["disks"][1]["pstatus"],
            info["disks"][1]["sstatus"]["dev_path"]
        ]),
        json!(["ok", null, "/dev/drbd1"])
    );
    // The volumes were made for somebody else, and the other node has no keys to be asked with.
    let found = n1.ends(3, "verify")?;
    let kinds: BTreeSet<_> = found
        .lines()
        .filter(|line| !line.starts_with(' '))
        .filter_map(|line| line.split(':').next())
        .collect();
    assert_eq!(kinds, BTreeSet::from(["stale-metadata", "unknown"]), "{found}");

    n2.guest.power_cut()?;
    n1.ok(
        "for i in $(seq 40); do gnt-disk info inst5.rn | grep -q degraded && exit; sleep 0.5; done; exit 1",
    )?;
    n1.fill("inst5.rn", 1)?;
    let shown = n1.ends(3, "activate inst5.rn --wait-for-sync")?;
    assert!(shown.contains("is degraded"), "{shown}");
    let found = n1.ends(3, "verify")?;
    assert_eq!(found.matches("is degraded").count(), 2, "{found}");

    n2.guest.boot()?;
    n2.mount()?;
    n2.disk("activate inst5.rn")?;
    let shown = n1.ends(0, "activate inst5.rn --wait-for-sync")?;
    assert!(!shown.contains("degraded"), "{shown}");
    for node in [&n1, &n2] {
        node.disk("deactivate inst5.rn")?;
        assert_eq!(
            node.ok("ls /dev/drbd0 2>/dev/null || true; cat /proc/drbd | grep -c cs: || true")?
                .trim(),
            "0"
        );
        node.ok("vgchange -qq -ay xenvg")?;
    }
    let data = "for lv in /dev/xenvg/*_data; do head -c 32M $lv | md5sum; done";
    assert_eq!(n1.ok(data)?, n2.ok(data)?);
    Ok(())
}

#[test]
fn shared_storage_serves_instances() -> Result<(), Error> {
    let testbed = testbed("program-shared", 1, &["rbd", "fuse", "ext4"])?;
    let node = Node::new(&testbed, 1, "vg0")?;
    let (ceph, gluster) = (testbed.ceph()?, testbed.gluster()?);
    node.disk("cluster init --enabled-disk-templates rbd,gluster -D gluster:host=192.168.77.254")?;

    node.disk("add image --disk 0:size=64M")?;
    let shown = node.disk("activate image")?;
    assert!(shown.starts_with("n1:disk/0:/dev/rbd"), "{shown}");
    node.fill("image", 0)?;
    let written = node.checksum("image", 0, 64)?;
    node.disk("grow image 0 32M")?;
    assert_eq!(node.json("info image")?["disks"][0]["pstatus"]["bytes"], 96 << 20);
    node.disk("snapshot image --disk 0:snapshot_name=before")?;
    node.disk("modify image --disk attach:before")?;
    assert_eq!(node.checksum("image", 1, 64)?, written);

    node.disk("add file -t gluster --disk 0:size=16M --disk 1:size=16M")?;
    node.disk("activate file")?;
    let second = Node::link("file", 1);
    node.ok(&format!(
        "dd if=/dev/urandom of={second} bs=1M count=16 conv=notrunc,fsync"
    ))?;
    let kept = node.checksum("file", 1, 16)?;
    // What comes after a disk that is removed has a name of its own.
    node.disk("modify file --disk 0:remove")?;
    node.disk("modify file --disk add:size=8M")?;
    node.disk("grow file 0 16M")?;
    assert_eq!(node.checksum("file", 0, 16)?, kept);
    assert_eq!(node.json("list file")?[0]["disk.sizes"], json!([32, 8]));
    assert_eq!(node.disk("verify")?, "The storage is as configured.\n");

    node.ok("sync")?;
    node.guest.power_cut()?;
    node.guest.boot()?;
    node.mount()?;
    node.ends(3, "verify")?;
    for instance in ["image", "file"] {
        node.disk(&format!("activate {instance}"))?;
    }
    assert_eq!(node.checksum("image", 0, 64)?, written);
    assert_eq!(node.checksum("file", 0, 16)?, kept);
    assert_eq!(node.disk("verify")?, "The storage is as configured.\n");
    for instance in ["image", "file"] {
        node.disk(&format!("remove {instance}"))?;
    }
    assert_eq!(ceph.run("rbd ls rbd")?, "");
    let left = std::fs::read_dir(gluster.brick("gv0").join("ganeti"));
    assert_eq!(left.into_iter().flatten().count(), 0);
    assert_eq!(
        node.ok("ls /dev/rbd[0-9]* 2>/dev/null; grep -c glusterfs /proc/mounts || true")?,
        "0\n"
    );
    Ok(())
}
