//! What the testbed promises to tests that are built on it.
#![cfg(test)]

use gnt_bdev::{Activation, Change, ErrorKind, Layer};
use gnt_config::{Disk, FileDriver, LogicalDevice, LogicalId, Mebibytes};
use gnt_testbed::{Error, Net, Testbed};

#[test]
fn guests_reach_each_other_until_they_are_cut_off() -> Result<(), Error> {
    let testbed = Testbed::plan("network").guests(2).start()?;
    let [n1, n2] = testbed.guests() else { panic!() };
    let reaches = |ip: String| {
        n1.sh(&format!("ping -c 1 -W 1 {ip}"))
            .map(|output| output.success())
    };
    assert!(reaches(n2.primary_ip())? && reaches(n2.secondary_ip())?);
    testbed.cut(n2, Net::Secondary)?;
    assert!(reaches(n2.primary_ip())? && !reaches(n2.secondary_ip())?);
    testbed.cut(n2, Net::Primary)?;
    assert!(!reaches(n2.primary_ip())?);
    assert_eq!(n2.ok("hostname")?, "n2\n");
    testbed.heal(n2, Net::Primary)?;
    testbed.heal(n2, Net::Secondary)?;
    assert!(reaches(n2.primary_ip())? && reaches(n2.secondary_ip())?);
    Ok(())
}

#[test]
fn one_guest() -> Result<(), Error> {
    let testbed = Testbed::plan("one")
        .disk(Mebibytes(256))
        .modules(["dm-mod", "loop"])
        .start()?;
    let n1 = testbed.guest(1);
    let output = n1.sh("echo out; echo err >&2; exit 3")?;
    assert_eq!(
        (&*output.stdout, &*output.stderr, output.code),
        ("out\n", "err\n", Some(3))
    );
    let storage = n1.storage();
    let path = "/var/lib/gnt-disk/file-storage/web.example.org/disk0";
    n1.ok("mkdir -p -m 700 /var/lib/gnt-disk/file-storage/web.example.org")?;
    let disk = Disk {
        iv_name: Some("disk/0".to_owned()),
        ..Disk::new(
            LogicalDevice::File,
            LogicalId::File {
                driver: FileDriver::Loop,
                path: path.to_owned(),
            },
            Mebibytes(16),
        )
    };
    assert_eq!(storage.find(&disk)?, None);
    assert_eq!(storage.create(&disk)?, Change::Made);
    assert_eq!(storage.create(&disk)?, Change::AlreadyThere);
    let assembled = storage.assemble(&disk, Activation::primary("kvm"))?;
    assert_eq!(assembled.device.and_then(|device| device.path), Some(path.into()));
    storage.grow(&disk, Mebibytes(32), false, Layer::BackingStore)?;
    assert_eq!(storage.actual_size(&disk)?, 32 << 20);
    assert_eq!(storage.remove(&disk)?, Change::Made);
    assert_eq!(storage.remove(&disk)?, Change::AlreadyThere);
    let refused = storage
        .assemble(&disk, Activation::primary("kvm"))
        .unwrap_err()
        .refused()?;
    assert_eq!(refused.kind, ErrorKind::NotFound);
    n1.ok("dd if=/dev/urandom of=/dev/ubda bs=1M count=8 oflag=direct")?;
    let before = n1.ok("md5sum </dev/ubda")?;
    n1.power_cut()?;
    assert!(n1.sh("true").is_err());
    n1.boot()?;
    assert_eq!(n1.ok("md5sum </dev/ubda")?, before);
    Ok(())
}
