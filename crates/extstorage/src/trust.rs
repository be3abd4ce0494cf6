//! Who could change a file.
//!
//! A provider's scripts run as root, so nobody else may be able to change what they are: not the file, not a
//! directory on the way to it, not a symbolic link that it goes through.

use std::ffi::OsString;
use std::fs;
use std::io;
use std::path::{Component, Path, PathBuf};

use rustix::fs::{FileType, Stat};
use rustix::io::Errno;
use thiserror::Error;

/// Others than root (or the user as whom we run) could change a file, or it cannot be told.
#[derive(Debug, Error)]
pub enum TrustError {
    /// Somebody else owns it.
    #[error("{} belongs to user {uid}, who could change it", path.display())]
    ForeignOwner {
        /// The file, directory or symbolic link.
        path: PathBuf,
        /// Who owns it.
        uid: u32,
    },
    /// Others may write to it. A group's right counts even if it has no members today; an access control list
    /// that lets anybody else write shows as the group's.
    #[error("{} can be changed by {} (mode {mode:04o})", path.display(), writers(*.mode))]
    Writable {
        /// The file or directory.
        path: PathBuf,
        /// Its permissions.
        mode: u32,
    },
    /// More symbolic links than the kernel would follow.
    #[error("{} leads through too many symbolic links", .0.display())]
    Loop(PathBuf),
    /// It is not there, or cannot be looked at.
    #[error("{} cannot be examined", path.display())]
    Io {
        /// The file or directory.
        path: PathBuf,
        /// Why not.
        #[source]
        source: io::Error,
    },
}

impl TrustError {
    /// Whether the file, or what it links to, is not there.
    pub fn is_not_found(&self) -> bool {
        matches!(self, TrustError::Io { source, .. }
            if matches!(source.kind(), io::ErrorKind::NotFound | io::ErrorKind::NotADirectory))
    }

    /// What the user can do about it.
    pub fn hint(&self) -> Option<String> {
        match self {
            TrustError::ForeignOwner { path, .. } => {
                Some(format!("chown --no-dereference root {}", path.display()))
            }
            TrustError::Writable { path, .. } => Some(format!("chmod go-w {}", path.display())),
            TrustError::Loop(_) | TrustError::Io { .. } => None,
        }
    }
}

const STICKY: u32 = 0o1000;
const WRITABLE_BY_OTHERS: u32 = 0o022;

/// How many symbolic links are followed on the way to one file, as in Linux.
const MAX_LINKS: usize = 40;

fn writers(mode: u32) -> &'static str {
    if mode & 0o002 == 0 {
        "its group"
    } else {
        "everybody"
    }
}

/// A file or directory that only those could change whom we trust.
#[derive(Debug)]
pub(crate) struct Trusted {
    /// Where it is, without symbolic links.
    pub(crate) path: PathBuf,
    stat: Stat,
}

impl Trusted {
    /// What it is; never a symbolic link.
    pub(crate) fn file_type(&self) -> FileType {
        FileType::from_raw_mode(self.stat.st_mode)
    }

    /// Its permissions.
    pub(crate) fn mode(&self) -> u32 {
        self.stat.st_mode & 0o7777
    }

    fn identity(&self) -> Identity {
        Identity {
            device: self.stat.st_dev,
            inode: self.stat.st_ino,
            changed: (self.stat.st_ctime, self.stat.st_ctime_nsec),
        }
    }
}

/// Which file it is, and in which state: every change to it, of a directory's entries too, sets its ctime, which
/// nobody can set back.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Identity {
    device: u64,
    inode: u64,
    changed: (i64, u64),
}

/// Follows an absolute path to what it leads to, and looks at everything on the way.
///
/// # Errors
/// When others than root and `user` could make it lead elsewhere, or change what it leads to.
pub(crate) fn follow(path: &Path, user: u32) -> Result<Trusted, TrustError> {
    Walk { user, links: 0 }.go(located("/".into())?, path)
}

/// A directory that only those could change whom we trust.
#[derive(Debug)]
pub(crate) struct TrustedDirectory {
    location: Trusted,
    user: u32,
}

impl TrustedDirectory {
    /// The directory that [`follow`] led to.
    pub(crate) fn new(location: Trusted, user: u32) -> TrustedDirectory {
        TrustedDirectory { location, user }
    }

    pub(crate) fn path(&self) -> &Path {
        &self.location.path
    }

    pub(crate) fn identity(&self) -> Identity {
        self.location.identity()
    }

    /// The same as [`follow`] for a file in this directory. Of a file that is no symbolic link only the file
    /// itself needs a look.
    pub(crate) fn follow(&self, name: &str) -> Result<Trusted, TrustError> {
        let file = located(self.path().join(name))?;
        let walk = Walk {
            user: self.user,
            links: 0,
        };
        if file.file_type().is_symlink() {
            return walk.go(located(self.path().to_owned())?, Path::new(name));
        }
        walk.check_end(&file)?;
        Ok(file)
    }
}

struct Walk {
    user: u32,
    links: usize,
}

impl Walk {
    fn go(mut self, start: Trusted, path: &Path) -> Result<Trusted, TrustError> {
        let mut at = start;
        let mut ahead = components(path);
        while let Some(component) = ahead.pop() {
            self.check_directory(&at)?;
            match component {
                Step::Root if at.path.parent().is_none() => {}
                Step::Root => at = located("/".into())?,
                Step::Parent => at = located(at.path.parent().unwrap_or(&at.path).to_owned())?,
                Step::Name(name) => {
                    let next = located(at.path.join(name))?;
                    self.check_owner(&next)?;
                    if next.file_type().is_symlink() {
                        ahead.extend(self.read_link(&next.path, path)?);
                    } else {
                        at = next;
                    }
                }
            }
        }
        self.check_end(&at)?;
        Ok(at)
    }

    fn read_link(&mut self, link: &Path, path: &Path) -> Result<Vec<Step>, TrustError> {
        self.links += 1;
        if self.links > MAX_LINKS {
            return Err(TrustError::Loop(path.to_owned()));
        }
        match fs::read_link(link) {
            Ok(target) => Ok(components(&target)),
            Err(source) => Err(TrustError::Io {
                path: link.to_owned(),
                source,
            }),
        }
    }

    fn check_owner(&self, file: &Trusted) -> Result<(), TrustError> {
        let uid = file.stat.st_uid;
        if uid == 0 || uid == self.user {
            return Ok(());
        }
        Err(TrustError::ForeignOwner {
            path: file.path.clone(),
            uid,
        })
    }

    /// In a sticky directory, such as /tmp, others can make files but not replace ours.
    fn check_directory(&self, directory: &Trusted) -> Result<(), TrustError> {
        if directory.mode() & STICKY != 0 {
            return self.check_owner(directory);
        }
        self.check_end(directory)
    }

    fn check_end(&self, file: &Trusted) -> Result<(), TrustError> {
        self.check_owner(file)?;
        let mode = file.mode();
        if mode & WRITABLE_BY_OTHERS == 0 {
            return Ok(());
        }
        Err(TrustError::Writable {
            path: file.path.clone(),
            mode,
        })
    }
}

enum Step {
    Root,
    Parent,
    Name(OsString),
}

/// The steps along a path, the first one last.
fn components(path: &Path) -> Vec<Step> {
    let steps = path.components().rev().filter_map(|component| match component {
        Component::RootDir => Some(Step::Root),
        Component::ParentDir => Some(Step::Parent),
        Component::Normal(name) => Some(Step::Name(name.to_owned())),
        Component::CurDir | Component::Prefix(_) => None,
    });
    steps.collect()
}

fn located(path: PathBuf) -> Result<Trusted, TrustError> {
    match rustix::fs::lstat(&path) {
        Ok(stat) => Ok(Trusted { path, stat }),
        Err(error) => Err(unreadable(&path, error)),
    }
}

fn unreadable(path: &Path, error: Errno) -> TrustError {
    TrustError::Io {
        path: path.to_owned(),
        source: error.into(),
    }
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::{chown, lchown, symlink};

    use gnt_tests::place::private_dir;
    use tempfile::TempDir;

    use super::*;
    use crate::testing::{assert_root, chmod, make_dir, write};

    const STRANGER: u32 = 12345;

    /// A file `dir/file` in a new directory.
    fn file() -> (TempDir, PathBuf) {
        let temp = private_dir().unwrap();
        let dir = temp.path().join("dir");
        make_dir(&dir);
        write(&dir.join("file"), "", 0o644);
        let file = dir.join("file");
        (temp, file)
    }

    fn refused(path: &Path) -> String {
        follow(path, 0).unwrap_err().to_string()
    }

    #[test]
    fn what_is_roots_alone_is_trusted() {
        assert_root();
        let (_temp, file) = file();
        assert_eq!(follow(&file, 0).unwrap().path, file.canonicalize().unwrap());
    }

    #[test]
    fn what_others_may_write_is_not() {
        let (temp, file) = file();
        chmod(&file, 0o664);
        assert_eq!(
            refused(&file),
            format!("{} can be changed by its group (mode 0664)", file.display())
        );
        chmod(&file, 0o646);
        assert_eq!(
            refused(&file),
            format!("{} can be changed by everybody (mode 0646)", file.display())
        );
        chmod(&file, 0o644);

        chmod(temp.path(), 0o777);
        let error = follow(&file, 0).unwrap_err();
        assert!(matches!(&error, TrustError::Writable { path, mode: 0o777 } if path == temp.path()));
        assert_eq!(
            error.hint(),
            Some(format!("chmod go-w {}", temp.path().display()))
        );
        chmod(temp.path(), 0o1777);
        follow(&file, 0).unwrap();
    }

    #[test]
    fn a_sticky_directory_is_fine_on_the_way_but_not_at_the_end() {
        let (_temp, file) = file();
        let dir = file.parent().unwrap();
        chmod(dir, 0o1777);
        follow(&file, 0).unwrap();
        assert!(refused(dir).contains("mode 1777"));
    }

    #[test]
    fn what_belongs_to_others_is_not_trusted_but_what_belongs_to_the_user_is() {
        assert_root();
        let (temp, file) = file();
        for path in [file.as_path(), file.parent().unwrap(), temp.path()] {
            chown(path, Some(STRANGER), None).unwrap();
            let expected = format!(
                "{} belongs to user {STRANGER}, who could change it",
                path.display()
            );
            assert_eq!(refused(&file), expected);
            follow(&file, STRANGER).unwrap();
            chown(path, Some(0), None).unwrap();
        }
    }

    #[test]
    fn all_that_a_link_leads_through_counts() {
        assert_root();
        let (temp, file) = file();
        let link = temp.path().join("link");
        symlink("dir/../dir/file", &link).unwrap();
        assert_eq!(follow(&link, 0).unwrap().path, file);

        lchown(&link, Some(STRANGER), None).unwrap();
        assert!(refused(&link).contains("link belongs to user 12345"));
        lchown(&link, Some(0), None).unwrap();

        chmod(&file, 0o666);
        assert!(refused(&link).contains("dir/file can be changed by everybody"));
        chmod(&file, 0o644);

        let open = temp.path().join("open");
        make_dir(&open);
        symlink(&file, open.join("detour")).unwrap();
        fs::remove_file(&link).unwrap();
        symlink(open.join("detour"), &link).unwrap();
        follow(&link, 0).unwrap();
        chmod(&open, 0o777);
        assert!(refused(&link).contains("open can be changed by everybody"));
    }

    #[test]
    fn links_that_lead_nowhere() {
        let (temp, file) = file();
        let link = temp.path().join("link");
        symlink("link", &link).unwrap();
        assert!(matches!(follow(&link, 0), Err(TrustError::Loop(path)) if path == link));

        let error = follow(&temp.path().join("missing"), 0).unwrap_err();
        assert!(error.is_not_found());
        assert!(follow(&file.join("below"), 0).unwrap_err().is_not_found());
    }
}
