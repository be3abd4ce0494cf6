//! The mounts of Gluster volumes on this node: one for each volume, shared by the disks on it.
//!
//! A volume has a directory of its own, `VOLUME@HOST:PORT`, with the mount point `mount`, a file in `users` for each disk that is assembled here,
//! the client's `log`, and a `lock`. A volume is unmounted as soon as it has no users. Whoever works on its files has its root open, which the
//! kernel takes for a use as well, and reaches everything from there: what is below the mount point while nothing is mounted is never seen.
//! Users that are left from before the node was rebooted are forgotten when the volume is mounted.

use std::fs::{self, DirBuilder, File};
use std::io;
use std::os::unix::fs::{DirBuilderExt, MetadataExt};
use std::path::{Path, PathBuf};

use gnt_config::params::GlusterParams;
use rustix::fs::{CWD, FlockOperation, Mode, OFlags, flock, openat};

use super::error::GlusterError;
use super::{commands, log};
use crate::error::{Cause, ErrorKind};
use crate::file_storage::{FileStorage, FileStorageError};
use crate::host::Host;
use crate::tool::{self, ToolError};

/// A Gluster volume on this node.
pub(super) struct Volume<'a> {
    host: &'a Host,
    params: &'a GlusterParams,
    directory: PathBuf,
}

impl<'a> Volume<'a> {
    pub(super) fn new(host: &'a Host, params: &'a GlusterParams) -> Self {
        let name = format!("{}@{}:{}", params.volume, params.host, params.port);
        Self {
            host,
            params,
            directory: host.gluster_mounts.join(name),
        }
    }

    pub(super) fn mount_point(&self) -> PathBuf {
        self.directory.join("mount")
    }

    /// Works on the volume's files. It is mounted for that if it is not, and unmounted afterwards if no disk of it is in use.
    pub(super) fn with_files<T>(
        &self,
        work: impl FnOnce(&FileStorage) -> Result<T, Cause>,
    ) -> Result<T, Cause> {
        let files = self.enter()?;
        let done = work(&files).map_err(|cause| self.disconnected(cause));
        drop(files);
        let left = self.leave();
        let done = done?;
        left?;
        Ok(done)
    }

    /// Whether a file is in use by an assembled disk.
    pub(super) fn is_used(&self, path: &str) -> bool {
        self.user(path).exists()
    }

    /// Whether any file is.
    pub(super) fn has_users(&self) -> Result<bool, GlusterError> {
        match fs::read_dir(self.users()) {
            Ok(mut users) => Ok(users.next().is_some()),
            Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(false),
            Err(source) => Err(self.io("list", self.users())(source)),
        }
    }

    /// Keeps the volume mounted for a file. Only while [`with_files`](Self::with_files) has it mounted. Whoever is about to unmount it has
    /// either seen this user, or fails before this returns, for the files are open.
    pub(super) fn add_user(&self, path: &str) -> Result<(), GlusterError> {
        let _lock = self.lock()?;
        let users = self.users();
        make_directory(&users).map_err(self.io("make", users))?;
        let user = self.user(path);
        File::create(&user).map(drop).map_err(self.io("make", user))
    }

    /// The opposite; whether the file was in use. What is left to do is [`leave`](Self::leave).
    pub(super) fn remove_user(&self, path: &str) -> Result<bool, GlusterError> {
        let user = self.user(path);
        match fs::remove_file(&user) {
            Ok(()) => Ok(true),
            Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(false),
            Err(source) => Err(self.io("remove", user)(source)),
        }
    }

    /// Unmounts the volume if it has no users. One that somebody else has a file open on stays, until the next time.
    pub(super) fn leave(&self) -> Result<(), GlusterError> {
        if !self.directory.exists() {
            return Ok(());
        }
        let _lock = self.lock()?;
        let is_mounted = self.is_mounted()?;
        if is_mounted && self.has_users()? {
            return Ok(());
        }
        if is_mounted && let Err(error) = self.run(&commands::unmount(&self.mount_point())) {
            return match error.kind() {
                ErrorKind::Busy => Ok(()),
                _ => Err(error.into()),
            };
        }
        self.remove_directory();
        Ok(())
    }

    /// Only while nothing is mounted and the lock is held, which goes last. What is not as it should be stays, and is in nobody's way.
    fn remove_directory(&self) {
        let _ = fs::remove_dir_all(self.users());
        let _ = fs::remove_file(self.log());
        let _ = fs::remove_dir(self.mount_point());
        let _ = fs::remove_file(self.lock_file());
        let _ = fs::remove_dir(&self.directory);
    }

    /// The files of the volume, mounted. It stays so for as long as they are held.
    fn enter(&self) -> Result<FileStorage, GlusterError> {
        let mount_point = self.mount_point();
        let _lock = self.lock()?;
        if !self.is_mounted()? {
            self.mount().inspect_err(|_| self.remove_directory())?;
        }
        let flags = OFlags::RDONLY | OFlags::DIRECTORY | OFlags::CLOEXEC;
        let root = openat(CWD, &mount_point, flags, Mode::empty()).map_err(|errno| {
            self.no_answer(FileStorageError::Io {
                doing: "open",
                path: mount_point.clone(),
                source: errno.into(),
            })
        })?;
        Ok(FileStorage::mounted(
            &mount_point,
            root,
            self.host.changes.clone(),
        ))
    }

    fn mount(&self) -> Result<(), GlusterError> {
        let (mount_point, log) = (self.mount_point(), self.log());
        if log.to_string_lossy().contains([' ', '\t', '\n', ',']) {
            return Err(GlusterError::MountPoint { mount_point });
        }
        make_directory(&mount_point).map_err(self.io("make", mount_point.clone()))?;
        for left in [self.users(), log.clone()] {
            let removed = fs::remove_dir_all(&left).or_else(|error| match error.kind() {
                io::ErrorKind::NotFound => Ok(()),
                io::ErrorKind::NotADirectory => fs::remove_file(&left),
                _ => Err(error),
            });
            removed.map_err(self.io("remove", left))?;
        }
        let ran = self.run(&commands::mount(self.params, &mount_point, &log));
        // Some versions of the tool succeed whatever happens.
        if ran.is_ok() && self.is_mounted()? {
            return Ok(());
        }
        if self.is_mounted()? {
            let _ = self.run(&commands::abandon(&mount_point));
        }
        match ran {
            Err(error @ (ToolError::Run { .. } | ToolError::Output { .. })) => Err(error.into()),
            Ok(()) | Err(ToolError::Failed { .. }) => {
                let text = fs::read(&log).unwrap_or_default();
                let (failure, log) = log::reason(&String::from_utf8_lossy(&text));
                Err(GlusterError::Mount {
                    volume: self.params.volume.to_string(),
                    server: self.server(),
                    failure,
                    log,
                })
            }
        }
    }

    /// Whether anything is mounted on the mount point, be it dead.
    fn is_mounted(&self) -> Result<bool, GlusterError> {
        let device = |path: &Path| fs::metadata(path).map(|metadata| metadata.dev());
        let mount_point = self.mount_point();
        match device(&mount_point) {
            Ok(inside) => {
                let outside = device(&self.directory);
                Ok(inside != outside.map_err(self.io("look at", self.directory.clone()))?)
            }
            Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(false),
            Err(error) if error.kind() == io::ErrorKind::NotConnected => Ok(true),
            Err(source) => Err(self.io("look at", mount_point)(source)),
        }
    }

    /// Held by whoever mounts or unmounts. One that somebody else removed meanwhile is none.
    fn lock(&self) -> Result<File, GlusterError> {
        let path = self.lock_file();
        let mut options = File::options();
        options.create(true).truncate(false).write(true);
        let attempt = || -> io::Result<Option<File>> {
            make_directory(&self.directory)?;
            let file = options.open(&path)?;
            flock(&file, FlockOperation::LockExclusive)?;
            let same = fs::metadata(&path)?.ino() == file.metadata()?.ino();
            Ok(same.then_some(file))
        };
        loop {
            match attempt() {
                Ok(Some(file)) => return Ok(file),
                Ok(None) => {}
                Err(error) if error.kind() == io::ErrorKind::NotFound => {}
                Err(source) => return Err(self.io("lock", path)(source)),
            }
        }
    }

    fn run(&self, command: &gnt_process::Command) -> Result<(), ToolError> {
        tool::run(self.host, command, commands::classify).map(drop)
    }

    fn users(&self) -> PathBuf {
        self.directory.join("users")
    }

    /// The name of a file in `users` for a path in the volume.
    fn user(&self, path: &str) -> PathBuf {
        self.users().join(path.replace('%', "%25").replace('/', "%2F"))
    }

    fn lock_file(&self) -> PathBuf {
        self.directory.join("lock")
    }

    fn log(&self) -> PathBuf {
        self.directory.join("log")
    }

    fn server(&self) -> String {
        format!("{}:{}", self.params.host, self.params.port)
    }

    /// Tells a volume that does not answer from other failures.
    fn disconnected(&self, cause: Cause) -> Cause {
        match cause {
            Cause::File(error) => match &error {
                FileStorageError::Io { source, .. } if source.kind() == io::ErrorKind::NotConnected => {
                    self.no_answer(error).into()
                }
                _ => error.into(),
            },
            cause => cause,
        }
    }

    fn no_answer(&self, source: FileStorageError) -> GlusterError {
        GlusterError::Disconnected {
            volume: self.params.volume.to_string(),
            server: self.server(),
            mount_point: self.mount_point(),
            source: Box::new(source),
        }
    }

    fn io(&self, doing: &'static str, path: PathBuf) -> impl FnOnce(io::Error) -> GlusterError {
        move |source| GlusterError::Io { doing, path, source }
    }
}

fn make_directory(path: &Path) -> io::Result<()> {
    DirBuilder::new().recursive(true).mode(0o750).create(path)
}
