//! The names that generated volumes have (`GenerateDiskTemplate`), by which they are told from other people's.

use crate::device::LogicalDevice;

/// Length of a UUID with its hyphens.
const UUID_LENGTH: usize = 36;

/// What is in the name of a volume that we or Ganeti generated.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct GeneratedName {
    /// Without what is behind the index.
    pub base: String,
    /// Index that the disk had when it was made.
    pub index: u32,
    /// What is behind the index: `_data` and `_meta` of mirrors, or what somebody added, as to a copy.
    pub rest: String,
}

impl GeneratedName {
    /// The parts of `UUID.diskN…` (LVM), `UUID.N` (Gluster) and `UUID.TEMPLATE.diskN…` (all others), with directories in front of it or
    /// not. None for any other name.
    pub fn of(device: LogicalDevice, volume: &str) -> Option<Self> {
        let name = volume.rsplit('/').next()?;
        let (uuid, rest) = name.split_once('.')?;
        let of_a_uuid = |c: char| c == '-' || (c.is_ascii_hexdigit() && !c.is_ascii_uppercase());
        if uuid.len() != UUID_LENGTH || !uuid.chars().all(of_a_uuid) {
            return None;
        }
        let typed = || rest.strip_prefix(<&str>::from(device))?.strip_prefix(".disk");
        let number = match device {
            LogicalDevice::Plain => rest.strip_prefix("disk"),
            LogicalDevice::Gluster => Some(rest),
            _ => typed(),
        }?;
        let end = number.find(|c: char| !c.is_ascii_digit()).unwrap_or(number.len());
        let (digits, rest) = number.split_at(end);
        let base = name.strip_suffix(rest)?;
        Some(Self {
            base: base.to_owned(),
            index: digits.parse().ok()?,
            rest: rest.to_owned(),
        })
    }

    /// Whether nothing is behind the index.
    pub fn is_whole(&self) -> bool {
        self.rest.is_empty()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const UUID: &str = "01234567-89ab-cdef-0123-456789abcdef";

    /// Index and rest.
    fn parts(device: LogicalDevice, name: &str) -> Option<(u32, String)> {
        let name = GeneratedName::of(device, name)?;
        Some((name.index, name.rest))
    }

    #[test]
    fn names_that_disks_get_are_told_from_others() {
        let plain = |name: &str| parts(LogicalDevice::Plain, name);
        assert_eq!(plain(&format!("{UUID}.disk0")), Some((0, String::new())));
        assert_eq!(
            plain(&format!("{UUID}.disk12_data")),
            Some((12, "_data".to_owned()))
        );
        assert_eq!(
            plain(&format!("{UUID}.disk1.snap-1")),
            Some((1, ".snap-1".to_owned()))
        );
        for other in [
            "root",
            "x.disk0",
            &format!("{UUID}.disk"),
            &format!("{UUID}.disk99999999999"),
            &format!("{UUID}.rbd.disk0"),
            &format!("{}.disk0", UUID.to_uppercase()),
        ] {
            assert_eq!(plain(other), None, "{other}");
        }
    }

    #[test]
    fn each_template_has_a_form_of_its_own() {
        for (device, name) in [
            (LogicalDevice::Rbd, format!("{UUID}.rbd.disk3")),
            (LogicalDevice::Ext, format!("{UUID}.ext.disk3")),
            (LogicalDevice::File, format!("/srv/web/{UUID}.file.disk3")),
            (
                LogicalDevice::SharedFile,
                format!("/srv/web/{UUID}.sharedfile.disk3"),
            ),
        ] {
            let found = GeneratedName::of(device, &name).unwrap();
            assert!(found.is_whole() && found.index == 3 && name.ends_with(&found.base));
            assert_eq!(parts(LogicalDevice::Plain, &name), None);
        }
        let name = GeneratedName::of(LogicalDevice::Gluster, &format!("ganeti/{UUID}.3")).unwrap();
        assert_eq!((name.base, name.index), (format!("{UUID}.3"), 3));
    }
}
