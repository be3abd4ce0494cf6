//! Providers as actions use them: checked each time, but not all of it each time.
//!
//! Before every action the way to the provider's directory is followed and everything on it looked at, and right
//! before a script is run the script itself. So nothing is ever run that others could have changed. Which scripts
//! there are, and that those of other actions are as they should be, is remembered for a moment: as long as the
//! directory is the same and has not been touched. A change to one of its files does not touch it, which is why
//! the moment is short.

use std::collections::HashMap;
use std::path::{Path, PathBuf};
use std::sync::{Mutex, PoisonError};
use std::time::{Duration, Instant};

use enumset::EnumSet;

use crate::action::Action;
use crate::provider::{
    Fault, FileProblem, Inspection, ProviderError, SearchPath, check_directory, check_script,
};
use crate::trust::{Identity, TrustedDirectory};

/// How long it takes at most until a fault in a script is seen by the actions that do not run it.
const MOMENT: Duration = Duration::from_secs(10);

/// Finds providers and remembers those that were found usable.
#[derive(Debug)]
pub(crate) struct Providers {
    search_path: SearchPath,
    usable: Mutex<HashMap<String, Usable>>,
}

#[derive(Debug, Clone, Copy)]
struct Usable {
    directory: Identity,
    since: Instant,
    scripts: EnumSet<Action>,
}

impl Providers {
    pub(crate) fn new(search_path: SearchPath) -> Providers {
        Providers {
            search_path,
            usable: Mutex::default(),
        }
    }

    pub(crate) fn search_path(&self) -> &SearchPath {
        &self.search_path
    }

    /// Finds a provider for one action.
    ///
    /// # Errors
    /// When there is no such provider, or one of its files is not as it should be.
    pub(crate) fn find(&self, name: &str) -> Result<CheckedProvider, ProviderError> {
        let dir = self.search_path.find(name)?;
        let location = check_directory(&dir).map_err(|fault| unusable(name, &dir, ".", fault))?;
        let scripts = match self.remembered(name, &location) {
            Some(scripts) => scripts,
            None => self.inspect(name, &dir, &location)?,
        };
        Ok(CheckedProvider {
            name: name.to_owned(),
            dir,
            location,
            scripts,
        })
    }

    fn remembered(&self, name: &str, location: &TrustedDirectory) -> Option<EnumSet<Action>> {
        let known = *self
            .usable
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
            .get(name)?;
        let fresh = known.directory == location.identity() && known.since.elapsed() < MOMENT;
        fresh.then_some(known.scripts)
    }

    fn inspect(
        &self,
        name: &str,
        dir: &Path,
        location: &TrustedDirectory,
    ) -> Result<EnumSet<Action>, ProviderError> {
        let since = Instant::now();
        let inspection = Inspection::of_scripts(location);
        if !inspection.problems.is_empty() {
            return Err(ProviderError::Unusable {
                name: name.to_owned(),
                dir: dir.to_owned(),
                problems: inspection.problems,
            });
        }
        let usable = Usable {
            directory: location.identity(),
            since,
            scripts: inspection.scripts,
        };
        let mut all = self.usable.lock().unwrap_or_else(PoisonError::into_inner);
        all.insert(name.to_owned(), usable);
        Ok(inspection.scripts)
    }
}

/// A provider for one action.
#[derive(Debug)]
pub(crate) struct CheckedProvider {
    pub(crate) name: String,
    /// Its directory, as the search path led to it.
    pub(crate) dir: PathBuf,
    location: TrustedDirectory,
    scripts: EnumSet<Action>,
}

impl CheckedProvider {
    pub(crate) fn supports(&self, action: Action) -> bool {
        self.scripts.contains(action)
    }

    /// The script for this, about to be run, if there is one.
    ///
    /// # Errors
    /// When it is not, or no longer, as it should be.
    pub(crate) fn script(&self, action: Action) -> Result<Option<PathBuf>, ProviderError> {
        if !self.supports(action) {
            return Ok(None);
        }
        match check_script(&self.location, action.script()) {
            Ok(()) => Ok(Some(self.dir.join(action.script()))),
            Err(fault) => Err(unusable(&self.name, &self.dir, action.script(), fault)),
        }
    }
}

fn unusable(name: &str, dir: &Path, file: &str, fault: Fault) -> ProviderError {
    ProviderError::Unusable {
        name: name.to_owned(),
        dir: dir.to_owned(),
        problems: vec![FileProblem {
            file: file.to_owned(),
            fault,
        }],
    }
}

#[cfg(test)]
mod tests {
    use std::fs;
    use std::os::unix::fs::{chown, symlink};

    use gnt_tests::place::private_dir;

    use super::*;
    use crate::testing::{Providers as Directory, assert_root, chmod, write};

    /// What an action does before it runs its script.
    fn prepare(providers: &Providers, action: Action) -> Result<Option<PathBuf>, String> {
        let script = providers.find("nas").and_then(|provider| provider.script(action));
        script.map_err(|error| error.to_string())
    }

    fn refusal(providers: &Providers, action: Action) -> String {
        prepare(providers, action).unwrap_err()
    }

    #[test]
    fn what_others_could_change_since_is_refused() {
        let directory = Directory::new();
        let dir = directory.add("nas");
        let providers = Providers::new(directory.search_path());
        let attach = dir.join("attach");
        assert_eq!(prepare(&providers, Action::Attach), Ok(Some(attach.clone())));
        for (path, mode) in [
            (attach.as_path(), 0o755),
            (&dir, 0o755),
            (directory.path(), 0o700),
        ] {
            chmod(path, mode | 0o002);
            let expected = format!("{} can be changed by everybody", path.display());
            let refusal = refusal(&providers, Action::Attach);
            assert!(refusal.contains(&expected), "{refusal}");
            chmod(path, mode);
            assert_eq!(prepare(&providers, Action::Attach), Ok(Some(attach.clone())));
        }
    }

    #[test]
    fn what_others_own_since_is_refused() {
        assert_root();
        let directory = Directory::new();
        let dir = directory.add("nas");
        let providers = Providers::new(directory.search_path());
        prepare(&providers, Action::Attach).unwrap();
        for path in [dir.join("attach").as_path(), &dir, directory.path()] {
            chown(path, Some(12345), None).unwrap();
            let refusal = refusal(&providers, Action::Attach);
            assert!(refusal.contains("belongs to user 12345"), "{refusal}");
            chown(path, Some(0), None).unwrap();
            prepare(&providers, Action::Attach).unwrap();
        }
    }

    #[test]
    fn what_a_script_links_to_is_looked_at_each_time() {
        let directory = Directory::new();
        let dir = directory.add("nas");
        let elsewhere = private_dir().unwrap();
        let tool = elsewhere.path().join("tool");
        write(&tool, "#!/bin/sh\n", 0o755);
        fs::remove_file(dir.join("attach")).unwrap();
        symlink(&tool, dir.join("attach")).unwrap();
        let providers = Providers::new(directory.search_path());
        prepare(&providers, Action::Attach).unwrap();
        for (path, mode) in [(tool.as_path(), 0o755), (elsewhere.path(), 0o700)] {
            chmod(path, mode | 0o020);
            assert!(refusal(&providers, Action::Attach).contains("can be changed by its group"));
            chmod(path, mode);
        }
        fs::remove_file(&tool).unwrap();
        assert!(refusal(&providers, Action::Attach).contains("which is not there"));
    }

    #[test]
    fn a_script_is_looked_at_by_the_action_that_runs_it() {
        let directory = Directory::new();
        let dir = directory.add("nas");
        let providers = Providers::new(directory.search_path());
        prepare(&providers, Action::Attach).unwrap();
        chmod(&dir.join("detach"), 0o777);
        assert!(refusal(&providers, Action::Detach).contains("detach can be changed by everybody"));
        chmod(&dir.join("detach"), 0o644);
        assert!(refusal(&providers, Action::Detach).contains("not executable"));
    }

    #[test]
    fn what_is_remembered_ends() {
        let directory = Directory::new();
        let dir = directory.add("nas");
        let providers = Providers::new(directory.search_path());
        prepare(&providers, Action::Attach).unwrap();
        chmod(&dir.join("detach"), 0o777);
        for usable in providers.usable.lock().unwrap().values_mut() {
            usable.since = Instant::now().checked_sub(MOMENT).unwrap();
        }
        assert!(refusal(&providers, Action::Attach).contains("detach can be changed by everybody"));
    }

    #[test]
    fn scripts_that_come_and_go_are_seen() {
        let directory = Directory::new();
        let dir = directory.add("nas");
        let providers = Providers::new(directory.search_path());
        assert_eq!(prepare(&providers, Action::Open), Ok(None));
        write(&dir.join("open"), "#!/bin/sh\n", 0o755);
        assert_eq!(prepare(&providers, Action::Open), Ok(Some(dir.join("open"))));
        fs::remove_file(dir.join("open")).unwrap();
        assert_eq!(prepare(&providers, Action::Open), Ok(None));
        fs::remove_file(dir.join("verify")).unwrap();
        assert!(refusal(&providers, Action::Attach).contains("verify: missing"));
    }

    #[test]
    fn another_directory_of_that_name_is_another_provider() {
        let (first, second) = (Directory::new(), Directory::new());
        let later = second.add("nas");
        let providers = Providers::new(SearchPath::new([first.path(), second.path()]));
        assert_eq!(
            prepare(&providers, Action::Attach),
            Ok(Some(later.join("attach")))
        );
        let earlier = first.add("nas");
        fs::remove_file(earlier.join("grow")).unwrap();
        assert!(refusal(&providers, Action::Attach).contains("grow: missing"));
        fs::remove_dir_all(earlier).unwrap();
        prepare(&providers, Action::Attach).unwrap();
        fs::rename(&later, second.path().join("old")).unwrap();
        fs::remove_file(second.add("nas").join("grow")).unwrap();
        assert!(refusal(&providers, Action::Attach).contains("grow: missing"));
    }
}
