//! What Ganeti wants a cluster, its groups and nodes to have besides what we know: without any of it, its daemons refuse the
//! whole `config.data` (`src/Ganeti/Objects.hs`). The values are its own defaults, and those of a cluster without virtual machines.

use std::net::IpAddr;

use gnt_config::{Object, template};
use serde_json::{Value, json};

/// The parts of a new cluster that no code of ours looks at.
pub(super) fn cluster() -> Object {
    let parts = [master(), parameters(), lists(), policy()].into_iter();
    parts.flat_map(object).collect()
}

/// A new node with nothing on it.
pub(crate) fn node(uuid: &str, name: &str, primary_ip: IpAddr, secondary_ip: IpAddr, group: &str) -> Object {
    object(json!({
        "uuid": uuid, "name": name, "primary_ip": primary_ip, "secondary_ip": secondary_ip, "group": group,
        "master_candidate": false, "offline": false, "drained": false, "master_capable": true, "vm_capable": true,
        "powered": true, "ndparams": {}, "tags": [],
    }))
}

/// A new group without nodes.
pub(crate) fn group(uuid: &str, name: &str) -> Object {
    object(json!({
        "uuid": uuid, "name": name, "members": [], "diskparams": {}, "ndparams": {}, "ipolicy": {},
        "alloc_policy": "preferred", "networks": {}, "tags": [],
    }))
}

fn object(value: Value) -> Object {
    match value {
        Value::Object(object) => object,
        _ => Object::new(),
    }
}

fn master() -> Value {
    json!({
        "master_ip": "127.0.0.2", "master_netdev": "lo", "master_netmask": 32, "use_external_mip_script": false,
        "primary_ip_family": 2, "mac_prefix": "aa:00:00", "modify_etc_hosts": false, "modify_ssh_setup": false,
        "rsahostkeypub": "", "dsahostkeypub": "", "ssh_key_type": "rsa", "ssh_key_bits": 2048,
        "candidate_pool_size": 10, "candidate_certs": {}, "maintain_node_health": false,
        "max_running_jobs": 20, "max_tracked_jobs": 25, "highest_used_port": 10999, "tcpudp_port_pool": [],
        "prealloc_wipe_disks": false, "enabled_user_shutdown": false, "install_image": "", "zeroing_image": "",
        "instance_communication_network": "",
    })
}

fn parameters() -> Value {
    let backend = json!({
        "always_failover": false, "auto_balance": true, "maxmem": 128, "minmem": 128, "spindle_use": 1, "vcpus": 1,
    });
    let node = json!({
        "cpu_speed": 1, "exclusive_storage": false, "oob_program": "", "ovs": false, "ovs_link": "",
        "ovs_name": "switch1", "spindle_count": 1, "ssh_port": 22,
    });
    json!({
        "enabled_hypervisors": ["fake"], "hvparams": {"fake": {"migration_mode": "live"}}, "os_hvp": {},
        "beparams": {"default": backend}, "ndparams": node, "osparams": {}, "osparams_private_cluster": {},
        "nicparams": {"default": {"link": "xen-br0", "mode": "bridged", "vlan": ""}},
        "default_iallocator": "", "default_iallocator_params": {}, "hv_state_static": {}, "disk_state_static": {},
    })
}

fn lists() -> Value {
    const COLLECTORS: [&str; 6] = [
        "cpu-avg-load",
        "diskstats",
        "drbd",
        "inst-status-xen",
        "lv",
        "xen-cpu-avg-load",
    ];
    let collector = |name: &str| (name.to_owned(), json!({"active": true, "interval": 5_000_000}));
    let collectors: Object = COLLECTORS.into_iter().map(collector).collect();
    json!({
        "data_collectors": collectors, "compression_tools": ["gzip", "gzip-fast", "gzip-slow"], "hidden_os": [],
        "blacklisted_os": [], "reserved_lvs": [], "uid_pool": [], "tags": [],
    })
}

/// An instance policy that forbids nothing.
fn policy() -> Value {
    let spec = |cpus: u32, disks: u32, size: u64, memory: u64, nics: u32, spindles: u32| {
        json!({
            "cpu-count": cpus, "disk-count": disks, "disk-size": size, "memory-size": memory, "nic-count": nics,
            "spindle-use": spindles,
        })
    };
    let (least, most) = (
        spec(1, 0, 0, 1, 0, 0),
        spec(1024, 16, 1 << 40, 1 << 40, 1024, 1024),
    );
    json!({"ipolicy": {
        "disk-templates": template::ALL.iter().collect::<Vec<_>>(), "minmax": [{"min": least, "max": most}],
        "std": spec(1, 1, 1024, 128, 1, 1), "vcpu-ratio": 64.0, "spindle-ratio": 1024.0,
    }})
}
