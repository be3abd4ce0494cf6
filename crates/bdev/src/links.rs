//! The links `INSTANCE:INDEX` to the devices of active disks (`_SymlinkBlockDev`): what a hypervisor is given, so that a
//! device may have another path after each start.

use std::ffi::OsStr;
use std::fs;
use std::io;
use std::os::unix::fs::symlink;
use std::path::{Path, PathBuf};

use serde::{Deserialize, Serialize};

use crate::device;
use crate::driver::{BlockDevice, Change};
use crate::error::ErrorKind;
use crate::host::Changes;

/// Longest name of a file in Linux.
const NAME_MAX: usize = 255;
/// What the name of a link begins with until it is complete.
const TEMPORARY: &str = ".new-";

/// The directory of the links.
#[derive(Debug, Clone)]
pub struct DeviceLinks {
    dir: PathBuf,
    changes: Changes,
}

/// One link.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
pub struct Link {
    /// The instance.
    pub instance: String,
    /// Index of the disk.
    pub index: u32,
    /// The device that it leads to, there or not.
    pub device: PathBuf,
    /// Major and minor number of the block device that is there.
    pub numbers: Option<(u32, u32)>,
}

impl Link {
    /// Whether it leads to `device`, however that is called.
    pub fn leads_to(&self, device: &BlockDevice) -> bool {
        let numbers = device.major.zip(device.minor);
        device.path.as_ref() == Some(&self.device) || (numbers.is_some() && numbers == self.numbers)
    }
}

/// A link could not be read or changed.
#[derive(Debug, thiserror::Error)]
pub enum LinkError {
    /// It would not be the name of a file in the directory.
    #[error("'{}' is not the name of an instance", .instance.escape_debug())]
    Name {
        /// The name.
        instance: String,
    },
    /// The operating system refused.
    #[error("cannot {doing} {}", .path.display())]
    Io {
        /// `make the link`, `read the link`, `rename the link`, `remove the link` or `list the links in`.
        doing: &'static str,
        /// The link, or the directory.
        path: PathBuf,
        /// Why.
        #[source]
        source: io::Error,
    },
}

impl LinkError {
    /// What kind of thing went wrong.
    pub fn kind(&self) -> ErrorKind {
        match self {
            Self::Name { .. } => ErrorKind::Other,
            Self::Io { source, .. } => ErrorKind::of_io(source),
        }
    }
}

impl DeviceLinks {
    /// The links in `dir`, which is made when the first one is.
    pub fn new(dir: &Path, changes: Changes) -> Self {
        Self {
            dir: dir.to_owned(),
            changes,
        }
    }

    /// Where the link of a disk is, or would be.
    pub fn path(&self, instance: &str, index: u32) -> Result<PathBuf, LinkError> {
        let name = format!("{instance}:{index}");
        let usable = !instance.is_empty()
            && !instance.starts_with('.')
            && name.len() <= NAME_MAX - TEMPORARY.len()
            && !instance.contains(|c: char| c == '/' || c.is_control());
        if !usable {
            let instance = instance.to_owned();
            return Err(LinkError::Name { instance });
        }
        Ok(self.dir.join(name))
    }

    /// Makes the link of a disk lead to `device`, at no time missing, and returns where it is.
    pub fn set(&self, instance: &str, index: u32, device: &Path) -> Result<PathBuf, LinkError> {
        let path = self.path(instance, index)?;
        let error = |source| LinkError::Io {
            doing: "make the link",
            path: path.clone(),
            source,
        };
        if self.read(instance, index)?.as_deref() == Some(device)
            || self
                .changes
                .only_noted(|| format!("link {} to {}", path.display(), device.display()))
        {
            return Ok(path);
        }
        fs::create_dir_all(&self.dir).map_err(error)?;
        let temporary = self.dir.join(format!("{TEMPORARY}{instance}:{index}"));
        // It is left over from a process that was killed: two do not work on the same disk.
        remove(&temporary).map_err(error)?;
        symlink(device, &temporary).map_err(error)?;
        fs::rename(&temporary, &path).map_err(|source| {
            let _ = remove(&temporary);
            error(source)
        })?;
        Ok(path)
    }

    /// Renames the link of a disk that gets another index. One that is not there has its new name already, or the disk none.
    pub fn rename(&self, instance: &str, from: u32, to: u32) -> Result<Change, LinkError> {
        let (path, new) = (self.path(instance, from)?, self.path(instance, to)?);
        if self.read(instance, from)?.is_none() {
            return Ok(Change::AlreadyThere);
        }
        if !self
            .changes
            .only_noted(|| format!("rename the link {} to {}", path.display(), new.display()))
        {
            fs::rename(&path, &new).map_err(|source| LinkError::Io {
                doing: "rename the link",
                path,
                source,
            })?;
        }
        Ok(Change::Made)
    }

    /// Where the link of a disk leads; none if there is none.
    pub fn read(&self, instance: &str, index: u32) -> Result<Option<PathBuf>, LinkError> {
        let path = self.path(instance, index)?;
        match fs::read_link(&path) {
            Ok(device) => Ok(Some(device)),
            Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(None),
            Err(source) => Err(LinkError::Io {
                doing: "read the link",
                path,
                source,
            }),
        }
    }

    /// Removes the link of a disk.
    pub fn remove(&self, instance: &str, index: u32) -> Result<Change, LinkError> {
        let path = self.path(instance, index)?;
        if self.read(instance, index)?.is_none() {
            return Ok(Change::AlreadyThere);
        }
        if self
            .changes
            .only_noted(|| format!("remove the link {}", path.display()))
        {
            return Ok(Change::Made);
        }
        remove(&path).map_err(|source| LinkError::Io {
            doing: "remove the link",
            path,
            source,
        })
    }

    /// Removes every link that leads to `device`: it is going away, and its name may come back as another disk's.
    pub fn remove_to(&self, device: &Path) -> Result<Change, LinkError> {
        let mut change = Change::AlreadyThere;
        for link in self.list()?.iter().filter(|link| link.device == device) {
            change = change.or(self.remove(&link.instance, link.index)?);
        }
        Ok(change)
    }

    /// Every link, in order; other files in the directory are left out.
    pub fn list(&self) -> Result<Vec<Link>, LinkError> {
        let error = |source| LinkError::Io {
            doing: "list the links in",
            path: self.dir.clone(),
            source,
        };
        let entries = match fs::read_dir(&self.dir) {
            Ok(entries) => entries,
            Err(e) if e.kind() == io::ErrorKind::NotFound => return Ok(Vec::new()),
            Err(e) => return Err(error(e)),
        };
        let mut links = Vec::new();
        for entry in entries {
            let entry = entry.map_err(error)?;
            let Some((instance, index)) = parse(&entry.file_name()) else {
                continue;
            };
            // One that is no link, or is gone by now, is not ours to tell of.
            if let Ok(device) = fs::read_link(entry.path()) {
                links.push(Link {
                    instance,
                    index,
                    numbers: device::numbers(&device),
                    device,
                });
            }
        }
        links.sort();
        Ok(links)
    }
}

fn parse(name: &OsStr) -> Option<(String, u32)> {
    let (instance, index) = name.to_str()?.rsplit_once(':')?;
    let canonical = index == "0" || !index.starts_with(['0', '+']);
    (canonical && !instance.starts_with('.') && !instance.is_empty())
        .then(|| index.parse().ok())
        .flatten()
        .map(|index| (instance.to_owned(), index))
}

fn remove(path: &Path) -> io::Result<Change> {
    match fs::remove_file(path) {
        Ok(()) => Ok(Change::Made),
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(Change::AlreadyThere),
        Err(error) => Err(error),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn links() -> (tempfile::TempDir, DeviceLinks) {
        let dir = tempfile::tempdir().unwrap();
        let links = DeviceLinks::new(&dir.path().join("links"), Changes::Made);
        (dir, links)
    }

    #[test]
    fn a_link_is_set_replaced_read_and_removed() {
        let (dir, links) = links();
        let (loop0, loop1) = (Path::new("/dev/loop0"), Path::new("/dev/loop1"));
        assert_eq!(links.read("web", 0).unwrap(), None);
        assert_eq!(links.list().unwrap(), []);
        assert_eq!(links.remove("web", 0).unwrap(), Change::AlreadyThere);
        for device in [loop0, loop0, loop1] {
            assert_eq!(
                links.set("web", 0, device).unwrap(),
                dir.path().join("links/web:0")
            );
            assert_eq!(links.read("web", 0).unwrap().as_deref(), Some(device));
        }
        assert_eq!(links.rename("web", 0, 1).unwrap(), Change::Made);
        assert_eq!(links.rename("web", 0, 1).unwrap(), Change::AlreadyThere);
        assert_eq!(links.read("web", 1).unwrap().as_deref(), Some(loop1));
        assert_eq!(links.remove("web", 1).unwrap(), Change::Made);
        assert_eq!(links.remove("web", 1).unwrap(), Change::AlreadyThere);
        assert_eq!(fs::read_dir(dir.path().join("links")).unwrap().count(), 0);
    }

    #[test]
    fn what_is_no_link_of_a_disk_is_not_listed() {
        let (dir, links) = links();
        links.set("b:1", 10, Path::new("/dev/loop0")).unwrap();
        links.set("b:1", 2, Path::new("/gone")).unwrap();
        links.set("a", 0, Path::new("/dev/loop0")).unwrap();
        let place = dir.path().join("links");
        for name in ["x:01", "x:+1", "x:", ":0", "x", "x:1x", ".new-x:0"] {
            symlink("/dev/loop0", place.join(name)).unwrap();
        }
        fs::write(place.join("file:0"), "").unwrap();
        let link = |instance: &str, index, device: &str| Link {
            instance: instance.to_owned(),
            index,
            device: device.into(),
            numbers: device::numbers(Path::new(device)),
        };
        let all = [
            link("a", 0, "/dev/loop0"),
            link("b:1", 2, "/gone"),
            link("b:1", 10, "/dev/loop0"),
        ];
        assert_eq!(links.list().unwrap(), all);
        assert_eq!(links.remove_to(Path::new("/dev/loop0")).unwrap(), Change::Made);
        assert_eq!(
            links.remove_to(Path::new("/dev/loop0")).unwrap(),
            Change::AlreadyThere
        );
        assert_eq!(links.list().unwrap(), all[1..2]);
    }

    #[test]
    fn a_link_leads_to_a_device_by_any_of_its_names() {
        let link = Link {
            instance: "web".to_owned(),
            index: 0,
            device: "/dev/mapper/web".into(),
            numbers: Some((253, 0)),
        };
        let device = |path: &str, numbers: Option<(u32, u32)>| BlockDevice {
            path: Some(path.into()),
            major: numbers.map(|(major, _)| major),
            minor: numbers.map(|(_, minor)| minor),
            ..BlockDevice::default()
        };
        assert!(link.leads_to(&device("/dev/mapper/web", Some((253, 0)))));
        assert!(link.leads_to(&device("/dev/dm-0", Some((253, 0)))));
        assert!(!link.leads_to(&device("/dev/dm-1", Some((253, 1)))));
        assert!(!link.leads_to(&BlockDevice::default()));
        let file = Link {
            numbers: None,
            ..link
        };
        assert!(file.leads_to(&device("/dev/mapper/web", None)));
        assert!(!file.leads_to(&device("/srv/web", None)));
    }

    #[test]
    fn names_stay_in_the_directory() {
        let (dir, links) = links();
        let long = "x".repeat(300);
        for instance in [
            "", ".", "..", "../x", "a/b", "/etc/x", ".new-x", "a\0b", "a\nb", &long,
        ] {
            let error = links.set(instance, 0, Path::new("/dev/loop0")).unwrap_err();
            assert!(matches!(error, LinkError::Name { .. }), "{instance:?}");
            assert!(links.remove(instance, 0).is_err() && links.read(instance, 0).is_err());
            assert!(links.rename(instance, 0, 1).is_err());
        }
        assert!(!dir.path().join("links").exists());
    }

    #[test]
    fn a_link_that_a_killed_process_was_making_is_in_nobodys_way() {
        let (dir, links) = links();
        fs::create_dir(dir.path().join("links")).unwrap();
        symlink("/dev/loop9", dir.path().join("links/.new-web:0")).unwrap();
        assert_eq!(links.list().unwrap(), []);
        let link = links.set("web", 0, Path::new("/dev/loop0")).unwrap();
        assert_eq!(fs::read_link(link).unwrap(), Path::new("/dev/loop0"));
        assert_eq!(fs::read_dir(dir.path().join("links")).unwrap().count(), 1);
    }

    #[test]
    fn what_is_no_link_is_not_removed() {
        let (dir, links) = links();
        let file = dir.path().join("links/web:0");
        fs::create_dir(dir.path().join("links")).unwrap();
        fs::write(&file, "data").unwrap();
        for error in [
            links.remove("web", 0).unwrap_err(),
            links.read("web", 0).unwrap_err(),
            links.set("web", 0, Path::new("/dev/loop0")).unwrap_err(),
            links.rename("web", 0, 1).unwrap_err(),
        ] {
            assert_eq!(
                error.to_string(),
                format!("cannot read the link {}", file.display())
            );
        }
        assert_eq!(fs::read(&file).unwrap(), b"data");
    }

    #[test]
    fn a_link_is_at_no_time_missing() {
        let (_dir, links) = links();
        links.set("web", 0, Path::new("/dev/loop0")).unwrap();
        std::thread::scope(|scope| {
            scope.spawn(|| {
                for n in 0..500 {
                    links.set("web", 0, Path::new(&format!("/dev/loop{n}"))).unwrap();
                }
            });
            for _ in 0..500 {
                assert!(links.read("web", 0).unwrap().is_some());
            }
        });
    }
}
