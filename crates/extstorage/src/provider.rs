//! Finding a provider and checking what is in its directory.

use std::collections::BTreeSet;
use std::fmt;
use std::fs;
use std::io;
use std::path::{Path, PathBuf};

use enumset::EnumSet;
use rustix::fs::FileType;
use thiserror::Error;

use crate::action::Action;
use crate::device::kind;
use crate::error::with_causes;
use crate::parameters::{PARAMETERS_FILE, Parameter, parse_parameters};
use crate::trust::{self, TrustError, Trusted, TrustedDirectory};

/// The directories in which providers are searched for, in this order.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct SearchPath(Vec<PathBuf>);

impl SearchPath {
    /// These directories; a relative one is meant from the present working directory.
    pub fn new<P: Into<PathBuf>>(directories: impl IntoIterator<Item = P>) -> SearchPath {
        let directories = directories.into_iter().map(Into::into);
        SearchPath(
            directories
                .map(|directory| std::path::absolute(&directory).unwrap_or(directory))
                .collect(),
        )
    }

    /// The directories.
    pub fn directories(&self) -> &[PathBuf] {
        &self.0
    }

    /// The directory of a provider: the first of that name. One that cannot be used is not passed over in
    /// favour of another further on.
    ///
    /// # Errors
    /// When the name is none, or there is no directory of that name.
    pub fn find(&self, name: &str) -> Result<PathBuf, ProviderError> {
        check_name(name)?;
        let mut candidates = self.0.iter().map(|directory| directory.join(name));
        candidates
            .find(|candidate| candidate.is_dir())
            .ok_or_else(|| ProviderError::NotFound {
                name: name.to_owned(),
                searched: self.0.clone(),
            })
    }
}

/// A provider that can be used.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Provider {
    /// Its name.
    pub name: String,
    /// Its directory, as the search path led to it.
    pub dir: PathBuf,
    /// The scripts that it has.
    pub scripts: EnumSet<Action>,
    /// The parameters that it declares.
    pub parameters: Vec<Parameter>,
}

impl Provider {
    /// Finds a provider and checks its files.
    ///
    /// # Errors
    /// When there is no such provider, or one of its files is not as it should be.
    pub fn find(name: &str, search_path: &SearchPath) -> Result<Provider, ProviderError> {
        let dir = search_path.find(name)?;
        let inspection = Inspection::of(&dir);
        if !inspection.problems.is_empty() {
            return Err(ProviderError::Unusable {
                name: name.to_owned(),
                dir,
                problems: inspection.problems,
            });
        }
        Ok(Provider {
            name: name.to_owned(),
            dir,
            scripts: inspection.scripts,
            parameters: inspection.parameters,
        })
    }

    /// Whether it has a script for this.
    pub fn supports(&self, action: Action) -> bool {
        self.scripts.contains(action)
    }

    /// The script for this, if it has one: its path as given, because a provider may be one program that all
    /// names link to and that looks at how it was called.
    pub fn script(&self, action: Action) -> Option<PathBuf> {
        self.supports(action).then(|| self.dir.join(action.script()))
    }
}

/// A provider that cannot be used.
#[derive(Debug, Error)]
pub enum ProviderError {
    /// The name cannot be one.
    #[error(
        "{name:?} cannot be the name of a provider: it is made of letters, digits, `.`, `_` and `-`, and starts with \
         neither `.` nor `-`"
    )]
    InvalidName {
        /// The name.
        name: String,
    },
    /// There is none of that name.
    #[error("there is no provider {name} in {}", list(searched))]
    NotFound {
        /// The name.
        name: String,
        /// The directories in which it was searched for.
        searched: Vec<PathBuf>,
    },
    /// Something is wrong with its files.
    #[error("the provider {name} in {} cannot be used: {}", dir.display(), join(problems, "; "))]
    Unusable {
        /// The name.
        name: String,
        /// Its directory.
        dir: PathBuf,
        /// What is wrong, per file.
        problems: Vec<FileProblem>,
    },
}

impl ProviderError {
    /// What the user can do about it.
    pub fn hint(&self) -> Option<String> {
        match self {
            ProviderError::InvalidName { .. } => None,
            ProviderError::NotFound { .. } => {
                Some("`gnt-disk provider list` lists those that are there".to_owned())
            }
            ProviderError::Unusable { problems, .. } => {
                let commands: BTreeSet<String> = problems.iter().filter_map(FileProblem::hint).collect();
                (!commands.is_empty()).then(|| Vec::from_iter(commands).join("; "))
            }
        }
    }
}

/// What is wrong with one file of a provider.
#[derive(Debug)]
pub struct FileProblem {
    /// Its name in the provider's directory; `.` is the directory itself.
    pub file: String,
    /// What is wrong.
    pub fault: Fault,
}

impl FileProblem {
    fn hint(&self) -> Option<String> {
        match &self.fault {
            Fault::Untrusted(error) => error.hint(),
            _ => None,
        }
    }
}

/// One line, with the causes.
impl fmt::Display for FileProblem {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}: {}", self.file, with_causes(&self.fault))
    }
}

/// What can be wrong with a file of a provider.
#[derive(Debug, Error)]
pub enum Fault {
    /// It is not there.
    #[error("missing")]
    Missing,
    /// It is a symbolic link to nowhere.
    #[error("links to {}, which is not there", .0.display())]
    Dangling(PathBuf),
    /// It is not a file, or the provider's directory is not a directory.
    #[error("is {0}")]
    WrongKind(&'static str),
    /// Its owner may not execute it.
    #[error("not executable (mode {mode:04o})")]
    NotExecutable {
        /// Its permissions.
        mode: u32,
    },
    /// The name of the directory cannot be a provider's.
    #[error("the name cannot be one of a provider")]
    InvalidName,
    /// Others than root could change it, or that cannot be told.
    #[error(transparent)]
    Untrusted(TrustError),
    /// It cannot be read.
    #[error("cannot be read")]
    Unreadable(#[source] io::Error),
}

/// What is in a provider's directory.
#[derive(Debug, Default)]
pub(crate) struct Inspection {
    pub(crate) scripts: EnumSet<Action>,
    pub(crate) parameters: Vec<Parameter>,
    pub(crate) problems: Vec<FileProblem>,
    /// Files with the name of an extension that are no scripts.
    pub(crate) ignored: Vec<FileProblem>,
}

impl Inspection {
    pub(crate) fn of(dir: &Path) -> Inspection {
        let mut inspection = match check_directory(dir) {
            Ok(dir) => Inspection::of_scripts(&dir),
            Err(fault) => Inspection::failed(fault),
        };
        if inspection.problems.is_empty() {
            match fs::read(dir.join(PARAMETERS_FILE)) {
                Ok(text) => inspection.parameters = parse_parameters(&String::from_utf8_lossy(&text)),
                Err(error) => inspection.note(PARAMETERS_FILE, Fault::Unreadable(error)),
            }
        }
        inspection
    }

    /// When it cannot be looked into.
    pub(crate) fn failed(fault: Fault) -> Inspection {
        let mut inspection = Inspection::default();
        inspection.note(".", fault);
        inspection
    }

    /// Without reading the parameters.
    pub(crate) fn of_scripts(dir: &TrustedDirectory) -> Inspection {
        let mut inspection = Inspection::default();
        for action in EnumSet::<Action>::all() {
            match check_script(dir, action.script()) {
                Ok(()) => {
                    inspection.scripts.insert(action);
                }
                Err(Fault::Missing | Fault::Dangling(_)) if !Action::REQUIRED.contains(action) => {}
                Err(fault @ (Fault::WrongKind(_) | Fault::NotExecutable { .. }))
                    if Action::EXTENSIONS.contains(action) =>
                {
                    inspection.ignored.push(FileProblem {
                        file: action.script().to_owned(),
                        fault,
                    });
                }
                Err(fault) => inspection.note(action.script(), fault),
            }
        }
        if let Err(fault) = check_file(dir, PARAMETERS_FILE) {
            inspection.note(PARAMETERS_FILE, fault);
        }
        inspection
    }

    fn note(&mut self, file: &str, fault: Fault) {
        self.problems.push(FileProblem {
            file: file.to_owned(),
            fault,
        });
    }
}

pub(crate) fn check_directory(dir: &Path) -> Result<TrustedDirectory, Fault> {
    let user = rustix::process::geteuid().as_raw();
    let location = trust::follow(dir, user).map_err(Fault::Untrusted)?;
    match location.file_type() {
        FileType::Directory => Ok(TrustedDirectory::new(location, user)),
        other => Err(Fault::WrongKind(kind(other))),
    }
}

pub(crate) fn check_script(dir: &TrustedDirectory, name: &str) -> Result<(), Fault> {
    let mode = check_file(dir, name)?.mode();
    if mode & 0o100 == 0 {
        return Err(Fault::NotExecutable { mode });
    }
    Ok(())
}

fn check_file(dir: &TrustedDirectory, name: &str) -> Result<Trusted, Fault> {
    let file = dir.follow(name).map_err(|error| match error {
        TrustError::Io { path, .. } if error.is_not_found() && path != dir.path().join(name) => {
            Fault::Dangling(path)
        }
        error if error.is_not_found() => Fault::Missing,
        error => Fault::Untrusted(error),
    })?;
    match file.file_type() {
        FileType::RegularFile => Ok(file),
        other => Err(Fault::WrongKind(kind(other))),
    }
}

pub(crate) fn check_name(name: &str) -> Result<(), ProviderError> {
    let allowed = |c: char| c.is_ascii_alphanumeric() || "._-".contains(c);
    if name.is_empty() || name.starts_with(['.', '-']) || !name.chars().all(allowed) {
        return Err(ProviderError::InvalidName {
            name: name.to_owned(),
        });
    }
    Ok(())
}

fn list(directories: &[PathBuf]) -> String {
    match directories {
        [] => "the search path, which is empty".to_owned(),
        _ => join(directories.iter().map(|directory| directory.display()), ", "),
    }
}

fn join<T: fmt::Display>(items: impl IntoIterator<Item = T>, separator: &str) -> String {
    let texts: Vec<String> = items.into_iter().map(|item| item.to_string()).collect();
    texts.join(separator)
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::{lchown, symlink};
    use std::time::Instant;

    use gnt_tests::place::private_dir;

    use super::*;
    use crate::testing::{Providers, assert_root, chmod, make_dir, write};

    fn problems(name: &str, providers: &Providers) -> Vec<String> {
        match Provider::find(name, &providers.search_path()) {
            Err(ProviderError::Unusable { problems, .. }) => {
                problems.iter().map(ToString::to_string).collect()
            }
            other => panic!("{other:?}"),
        }
    }

    #[test]
    fn a_complete_provider() {
        let providers = Providers::new();
        let dir = providers.add_with("nas-1.x", Action::Open | Action::List);
        let provider = Provider::find("nas-1.x", &providers.search_path()).unwrap();
        assert_eq!(provider.dir, dir);
        assert_eq!(provider.scripts, Action::REQUIRED | Action::Open | Action::List);
        assert_eq!(provider.parameters[0].name, "dir");
        assert_eq!(provider.script(Action::Open), Some(dir.join("open")));
        assert_eq!(provider.script(Action::Close), None);
    }

    #[test]
    fn names_that_could_lead_elsewhere_or_be_an_option() {
        let providers = Providers::new();
        providers.add("nas");
        for name in [
            "", ".", "..", "../nas", "nas/", "./nas", "/etc", ".nas", "-nas", "n as", "näs", "nas\n", "a\0b",
        ] {
            assert!(
                matches!(
                    Provider::find(name, &providers.search_path()),
                    Err(ProviderError::InvalidName { .. })
                ),
                "{name:?}"
            );
        }
    }

    #[test]
    fn the_first_directory_of_that_name_counts() {
        let (first, second) = (Providers::new(), Providers::new());
        let search_path = SearchPath::new(["/nonexistent".as_ref(), first.path(), second.path()]);
        let error = Provider::find("nas", &search_path).unwrap_err();
        assert_eq!(
            error.to_string(),
            format!(
                "there is no provider nas in /nonexistent, {}, {}",
                first.path().display(),
                second.path().display()
            )
        );
        assert!(error.hint().is_some());

        let later = second.add("nas");
        write(&first.path().join("nas"), "a file is no provider", 0o644);
        assert_eq!(search_path.find("nas").unwrap(), later);

        fs::remove_file(first.path().join("nas")).unwrap();
        make_dir(&first.path().join("nas"));
        assert!(matches!(
            Provider::find("nas", &search_path),
            Err(ProviderError::Unusable { dir, .. }) if dir == first.path().join("nas")
        ));
    }

    #[test]
    fn every_file_that_is_wrong_is_named() {
        let providers = Providers::new();
        let dir = providers.add_with("nas", Action::Snapshot.into());
        fs::remove_file(dir.join("attach")).unwrap();
        fs::remove_file(dir.join("parameters.list")).unwrap();
        fs::remove_file(dir.join("detach")).unwrap();
        make_dir(&dir.join("detach"));
        symlink("nowhere", dir.join("attach")).unwrap();
        chmod(&dir.join("grow"), 0o644);
        chmod(&dir.join("snapshot"), 0o666);
        fs::remove_file(dir.join("verify")).unwrap();
        assert_eq!(
            problems("nas", &providers),
            [
                format!("attach: links to {}/nowhere, which is not there", dir.display()),
                "detach: is a directory".to_owned(),
                "grow: not executable (mode 0644)".to_owned(),
                "verify: missing".to_owned(),
                format!(
                    "snapshot: {}/snapshot can be changed by everybody (mode 0666)",
                    dir.display()
                ),
                "parameters.list: missing".to_owned(),
            ]
        );
    }

    #[test]
    fn an_optional_script_is_right_or_not_there() {
        let providers = Providers::new();
        let dir = providers.add_with("nas", Action::Open.into());
        chmod(&dir.join("open"), 0o644);
        assert_eq!(problems("nas", &providers), ["open: not executable (mode 0644)"]);
        fs::remove_file(dir.join("open")).unwrap();
        symlink("nowhere", dir.join("open")).unwrap();
        assert!(
            !Provider::find("nas", &providers.search_path())
                .unwrap()
                .supports(Action::Open)
        );
    }

    #[test]
    fn a_file_that_only_has_the_name_of_our_extension_is_the_authors_business() {
        let providers = Providers::new();
        let dir = providers.add("nas");
        write(&dir.join("info"), "how this provider works", 0o644);
        make_dir(&dir.join("list"));
        let provider = Provider::find("nas", &providers.search_path()).unwrap();
        assert_eq!(provider.scripts, Action::REQUIRED);
        assert_eq!(Inspection::of(&dir).ignored.len(), 2);

        chmod(&dir.join("info"), 0o777);
        assert_eq!(
            problems("nas", &providers).len(),
            1,
            "what would run must be safe"
        );
    }

    #[test]
    fn a_provider_that_others_could_change_is_refused() {
        assert_root();
        let providers = Providers::new();
        let dir = providers.add("nas");
        let elsewhere = private_dir().unwrap();
        let target = elsewhere.path().join("tool");
        write(&target, "#!/bin/sh\n", 0o755);
        fs::remove_file(dir.join("attach")).unwrap();
        symlink(&target, dir.join("attach")).unwrap();
        Provider::find("nas", &providers.search_path()).unwrap();

        chmod(&target, 0o777);
        assert_eq!(
            problems("nas", &providers),
            [format!(
                "attach: {} can be changed by everybody (mode 0777)",
                target.display()
            )]
        );
        chmod(&target, 0o755);

        chmod(elsewhere.path(), 0o777);
        assert_eq!(
            problems("nas", &providers),
            [format!(
                "attach: {} can be changed by everybody (mode 0777)",
                elsewhere.path().display()
            )]
        );
        chmod(elsewhere.path(), 0o755);

        lchown(dir.join("attach"), Some(12345), None).unwrap();
        assert_eq!(
            problems("nas", &providers),
            [format!(
                "attach: {}/attach belongs to user 12345, who could change it",
                dir.display()
            )]
        );
        lchown(dir.join("attach"), Some(0), None).unwrap();

        for ancestor in [dir.as_path(), providers.path()] {
            chmod(ancestor, 0o775);
            assert_eq!(
                problems("nas", &providers),
                [format!(
                    ".: {} can be changed by its group (mode 0775)",
                    ancestor.display()
                )]
            );
            chmod(ancestor, 0o755);
        }
        chmod(&dir.join("parameters.list"), 0o666);
        let error = Provider::find("nas", &providers.search_path()).unwrap_err();
        assert_eq!(
            error.hint(),
            Some(format!("chmod go-w {}/parameters.list", dir.display()))
        );
    }

    #[test]
    fn parameters_may_be_anything() {
        let providers = Providers::new();
        let dir = providers.add("nas");
        fs::write(dir.join("parameters.list"), b"a\tone\n\xff\xfe\n").unwrap();
        assert_eq!(
            Provider::find("nas", &providers.search_path())
                .unwrap()
                .parameters
                .len(),
            2
        );
        write(&dir.join("parameters.list"), "", 0o755);
        assert!(
            Provider::find("nas", &providers.search_path())
                .unwrap()
                .parameters
                .is_empty()
        );
    }

    #[test]
    fn finding_is_cheap() {
        let providers = Providers::new();
        providers.add("nas");
        let search_path = providers.search_path();
        let fastest = (0..50).map(|_| {
            let start = Instant::now();
            Provider::find("nas", &search_path).unwrap();
            start.elapsed()
        });
        let fastest = fastest.min().unwrap();
        assert!(fastest.as_micros() < 1000, "{fastest:?}");
    }
}
