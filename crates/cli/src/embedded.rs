//! The External Storage provider that is shipped inside the program: `ext`, the default one.

use std::fs::{self, Permissions};
use std::io::{self, Write};
use std::os::unix::fs::{DirBuilderExt, MetadataExt, PermissionsExt};
use std::path::Path;

use crate::failure::Failure;

const SCRIPT: u32 = 0o755;
const TEXT: u32 = 0o644;

struct File {
    name: &'static str,
    content: &'static str,
    mode: u32,
}

macro_rules! files {
    ($($mode:ident: $($name:literal)*;)*) => {
        &[$($(File {
            name: $name,
            content: include_str!(concat!("../../../providers/ext/", $name)),
            mode: $mode,
        },)*)*]
    };
}

const FILES: &[File] = files! {
    SCRIPT: "create" "attach" "detach" "remove" "grow" "setinfo" "verify" "snapshot" "open" "close" "list" "info";
    TEXT: "common.sh" "parameters.list" "README.md";
};

/// Makes the provider in `providers` be the one that this program was built with. Each file is replaced at once, so that
/// at no time one is missing or half written, and several processes may do this together.
pub(crate) fn install(providers: &Path) -> Result<(), Failure> {
    let dir = providers.join(gnt_config::device::DEFAULT_PROVIDER);
    for file in FILES {
        let path = dir.join(file.name);
        if !file.is_at(&path) {
            make_directories(&dir)
                .and_then(|()| file.write(&dir))
                .map_err(|source| Failure::file("write", path, source))?;
        }
    }
    Ok(())
}

/// Nobody but their owner may change them, whatever the umask is: scripts in them run as root.
fn make_directories(dir: &Path) -> io::Result<()> {
    if dir.is_dir() {
        return Ok(());
    }
    let mut builder = fs::DirBuilder::new();
    builder.recursive(true).mode(0o755).create(dir)?;
    for made in [dir.parent(), Some(dir)].into_iter().flatten() {
        fs::set_permissions(made, Permissions::from_mode(0o755))?;
    }
    Ok(())
}

impl File {
    fn is_at(&self, path: &Path) -> bool {
        let has_mode = fs::symlink_metadata(path)
            .is_ok_and(|metadata| metadata.is_file() && metadata.mode() & 0o7777 == self.mode);
        has_mode && fs::read(path).is_ok_and(|content| content == self.content.as_bytes())
    }

    fn write(&self, dir: &Path) -> io::Result<()> {
        let mut file = tempfile::Builder::new().prefix(".new-").tempfile_in(dir)?;
        file.write_all(self.content.as_bytes())?;
        file.as_file()
            .set_permissions(Permissions::from_mode(self.mode))?;
        file.persist(dir.join(self.name))?;
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;

    use super::*;

    /// Names, modes and contents of what is in a directory.
    fn listing(dir: &Path) -> BTreeMap<String, (u32, String)> {
        let entries = fs::read_dir(dir).unwrap().map(|entry| entry.unwrap());
        entries
            .map(|entry| {
                let mode = entry.metadata().unwrap().mode() & 0o7777;
                let name = entry.file_name().into_string().unwrap();
                (name, (mode, fs::read_to_string(entry.path()).unwrap()))
            })
            .collect()
    }

    /// What is in the clone, with the modes that it should have there, whatever the umask was when it was made.
    fn shipped() -> BTreeMap<String, (u32, String)> {
        let mut files = listing(&Path::new(env!("CARGO_MANIFEST_DIR")).join("../../providers/ext"));
        for (mode, _) in files.values_mut() {
            *mode = if *mode & 0o100 == 0 { TEXT } else { SCRIPT };
        }
        files
    }

    #[test]
    fn what_is_installed_is_what_is_shipped() {
        let state = tempfile::tempdir().unwrap();
        let providers = state.path().join("providers");
        install(&providers).unwrap();
        assert_eq!(listing(&providers.join("ext")), shipped());
        let mode = |path: &Path| fs::metadata(path).unwrap().mode() & 0o7777;
        assert_eq!((mode(&providers), mode(&providers.join("ext"))), (0o755, 0o755));
    }

    #[test]
    fn what_differs_is_replaced_and_what_does_not_is_left() {
        let state = tempfile::tempdir().unwrap();
        install(state.path()).unwrap();
        let file = |name: &str| state.path().join("ext").join(name);
        let inode = |name: &str| fs::metadata(file(name)).unwrap().ino();
        let (grow, list) = (inode("grow"), inode("list"));
        fs::write(file("attach"), "#!/bin/sh\nrm -rf /\n").unwrap();
        fs::set_permissions(file("create"), Permissions::from_mode(0o777)).unwrap();
        fs::remove_file(file("list")).unwrap();
        std::os::unix::fs::symlink("grow", file("list")).unwrap();
        fs::remove_file(file("detach")).unwrap();
        install(state.path()).unwrap();
        assert_eq!(listing(&state.path().join("ext")), shipped());
        assert_eq!(inode("grow"), grow);
        assert_ne!(inode("list"), list);
    }

    #[test]
    fn an_unwritable_place_is_named() {
        let state = tempfile::tempdir().unwrap();
        let providers = state.path().join("file");
        fs::write(&providers, "").unwrap();
        let failure = install(&providers).unwrap_err();
        assert!(failure.to_string().contains("file/ext/create"), "{failure}");
    }
}
