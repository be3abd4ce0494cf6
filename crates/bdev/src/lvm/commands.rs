//! The command lines of LVM (`lvmreport(7)`, `lvcreate(8)` and so on). Questions of theirs are answered with `--yes`: there is nobody to ask.

use std::time::Duration;

use gnt_process::Command;

/// A report waits for the locks of whatever else changes LVM's metadata.
const QUERY_TIMEOUT: Duration = Duration::from_secs(120);
/// A change must not be broken off lightly: a device may be suspended meanwhile.
const CHANGE_TIMEOUT: Duration = Duration::from_secs(600);
/// Room for some hundred thousand volumes.
const REPORT_LIMIT: usize = 256 << 20;

const VOLUME_FIELDS: &str = "vg_name,vg_uuid,lv_name,lv_attr,lv_size,origin,origin_size,lv_tags,lv_kernel_major,\
                             lv_kernel_minor,vg_extent_size,stripes,devices";
const PV_FIELDS: &str = "pv_name,vg_name,pv_size,pv_free,pv_missing,pv_allocatable,vg_extent_size";

/// Every volume, a row for each of its segments.
pub(super) fn logical_volumes() -> Command {
    report("lvs", VOLUME_FIELDS)
}

/// Every physical volume, with what there is to know of its group.
pub(super) fn physical_volumes() -> Command {
    report("pvs", PV_FIELDS)
}

fn report(tool: &str, fields: &str) -> Command {
    Command::query(tool)
        .args(["--reportformat", "json", "--units", "b", "--nosuffix"])
        .args(["--options", fields])
        .timeout(QUERY_TIMEOUT)
        .output_limit(REPORT_LIMIT)
}

fn change(tool: &str) -> Command {
    Command::change(tool).arg("--yes").timeout(CHANGE_TIMEOUT)
}

/// What to make of a new volume.
pub(super) struct NewVolume<'a> {
    pub(super) vg: &'a str,
    pub(super) lv: &'a str,
    pub(super) bytes: u64,
    pub(super) stripes: u32,
    pub(super) tags: &'a [String],
    /// Where it may be.
    pub(super) pvs: &'a [String],
}

/// Makes a volume with its tags at once, so that there is never one that nobody knows. Whatever was on the disk before does not show
/// through: neither as a file system nor as something that this node would assemble.
pub(super) fn create(new: &NewVolume<'_>) -> Command {
    change("lvcreate")
        .args(["--wipesignatures", "y", "--zero", "y"])
        .args(["--name", new.lv, "--size", &size(new.bytes)])
        .args(["--stripes", &new.stripes.to_string()])
        .args(options("--addtag", new.tags))
        .arg(new.vg)
        .args(new.pvs.iter().map(|pv| escaped(pv)))
}

/// Makes a snapshot with room for `bytes` of changes.
pub(super) fn snapshot(vg: &str, lv: &str, name: &str, bytes: u64, tags: &[String]) -> Command {
    change("lvcreate")
        .args(["--snapshot", "--name", name, "--size", &size(bytes)])
        .args(options("--addtag", tags))
        .arg(full_name(vg, lv))
}

/// Activates or deactivates volumes, each given as `VG/LV`; what cannot be done to one does not keep it from being done to the others.
pub(super) fn activate(volumes: &[String], active: bool) -> Command {
    let flag = if active { "y" } else { "n" };
    change("lvchange").args(["--activate", flag]).args(volumes)
}

/// Adds and removes tags.
pub(super) fn tag(vg: &str, lv: &str, add: &[String], remove: &[String]) -> Command {
    change("lvchange")
        .args(options("--deltag", remove))
        .args(options("--addtag", add))
        .arg(full_name(vg, lv))
}

/// How a volume grows.
pub(super) struct Growth<'a> {
    pub(super) vg: &'a str,
    pub(super) lv: &'a str,
    /// The size afterwards.
    pub(super) bytes: u64,
    /// Of what is added.
    pub(super) stripes: u32,
    /// Where it may grow; anywhere if empty.
    pub(super) pvs: &'a [String],
}

/// Enlarges a volume: beside what it has already if possible, else on the same disks, else anywhere (`--alloc normal` tries them in this order).
pub(super) fn extend(growth: &Growth<'_>) -> Command {
    extending(change("lvextend"), growth)
}

/// Whether [`extend`] would succeed.
pub(super) fn test_extend(growth: &Growth<'_>) -> Command {
    extending(
        Command::query("lvextend").arg("--test").timeout(QUERY_TIMEOUT),
        growth,
    )
}

fn extending(command: Command, growth: &Growth<'_>) -> Command {
    command
        .args(["--alloc", "normal", "--size", &size(growth.bytes)])
        .args(["--stripes", &growth.stripes.to_string()])
        .arg(full_name(growth.vg, growth.lv))
        .args(growth.pvs.iter().map(|pv| escaped(pv)))
}

/// Removes a volume.
pub(super) fn remove(vg: &str, lv: &str) -> Command {
    change("lvremove").arg(full_name(vg, lv))
}

/// Gives a volume another name.
pub(super) fn rename(vg: &str, from: &str, to: &str) -> Command {
    change("lvrename").args([vg, from, to])
}

/// Lets new volumes be put on a physical volume, or no longer.
pub(super) fn set_allocatable(pv: &str, allocatable: bool) -> Command {
    let flag = if allocatable { "y" } else { "n" };
    change("pvchange").args(["--allocatable", flag, pv])
}

/// Removes the physical volumes that are lost from a group, with all that was on them.
pub(super) fn remove_missing(vg: &str) -> Command {
    change("vgreduce").args(["--removemissing", "--force", vg])
}

pub(super) fn full_name(vg: &str, lv: &str) -> String {
    format!("{vg}/{lv}")
}

fn options(name: &str, values: &[String]) -> Vec<String> {
    let pairs = values.iter().map(|value| [name.to_owned(), value.clone()]);
    pairs.flatten().collect()
}

/// Volumes have whole extents, and those have whole kibibytes.
fn size(bytes: u64) -> String {
    const KIB: u64 = 1 << 10;
    const MIB: u64 = 1 << 20;
    match bytes % MIB {
        0 => format!("{}m", bytes / MIB),
        _ => format!("{}k", bytes.div_ceil(KIB)),
    }
}

/// After a colon there would be a range of extents, after an at sign a tag.
fn escaped(pv: &str) -> String {
    pv.replace(':', "\\:").replace('@', "\\@")
}

#[cfg(test)]
mod tests {
    use super::*;

    fn strings(words: &[&str]) -> Vec<String> {
        words.iter().map(|&word| word.to_owned()).collect()
    }

    #[test]
    fn command_lines() {
        let new = NewVolume {
            vg: "xenvg",
            lv: "u.disk0",
            bytes: 68 << 20,
            stripes: 2,
            tags: &strings(&["gnt-disk:uuid=u", "gnt-disk:index=0"]),
            pvs: &strings(&["/dev/sda", "/dev/disk/by-path/pci-0:1"]),
        };
        let growth = Growth {
            vg: "xenvg",
            lv: "u.disk0",
            bytes: (72 << 20) + 1024,
            stripes: 2,
            pvs: &[],
        };
        for (command, line) in [
            (
                create(&new),
                "lvcreate --yes --wipesignatures y --zero y --name u.disk0 --size 68m --stripes 2 --addtag gnt-disk:uuid=u \
                 --addtag gnt-disk:index=0 xenvg /dev/sda '/dev/disk/by-path/pci-0\\:1'",
            ),
            (
                snapshot("xenvg", "a", "b", 64 << 20, &strings(&["t"])),
                "lvcreate --yes --snapshot --name b --size 64m --addtag t xenvg/a",
            ),
            (
                activate(&strings(&["xenvg/a", "xenvg/b"]), true),
                "lvchange --yes --activate y xenvg/a xenvg/b",
            ),
            (
                tag("xenvg", "a", &strings(&["new"]), &strings(&["old", "older"])),
                "lvchange --yes --deltag old --deltag older --addtag new xenvg/a",
            ),
            (
                extend(&growth),
                "lvextend --yes --alloc normal --size 73729k --stripes 2 xenvg/u.disk0",
            ),
            (
                test_extend(&growth),
                "lvextend --test --alloc normal --size 73729k --stripes 2 xenvg/u.disk0",
            ),
            (remove("xenvg", "a"), "lvremove --yes xenvg/a"),
            (rename("xenvg", "a", "b"), "lvrename --yes xenvg a b"),
            (
                set_allocatable("/dev/sda", false),
                "pvchange --yes --allocatable n /dev/sda",
            ),
            (
                remove_missing("xenvg"),
                "vgreduce --yes --removemissing --force xenvg",
            ),
        ] {
            assert_eq!(command.to_string(), line);
        }
    }
}
