//! Looking at all providers, also those that cannot be used.

use std::fs;
use std::path::{Path, PathBuf};

use enumset::EnumSet;

use crate::action::Action;
use crate::parameters::Parameter;
use crate::provider::{Fault, FileProblem, Inspection, SearchPath, check_name};

/// What is to say about one entry of a directory of the search path.
#[derive(Debug)]
pub struct Diagnosis {
    /// The name that a provider in it has. For a directory of the search path that cannot be listed, its
    /// path.
    pub name: String,
    /// Where it is.
    pub dir: PathBuf,
    /// The provider of the same name that is found before it, so that this one is never used.
    pub shadowed_by: Option<PathBuf>,
    /// The scripts that it has and that can be used.
    pub scripts: EnumSet<Action>,
    /// The parameters that it declares.
    pub parameters: Vec<Parameter>,
    /// Why it cannot be used, per file.
    pub problems: Vec<FileProblem>,
    /// Files that have the name of `list` or `info` but are no scripts, and so do not count.
    pub ignored: Vec<FileProblem>,
}

impl Diagnosis {
    /// Whether nothing is wrong with it. It may be shadowed all the same.
    pub fn is_usable(&self) -> bool {
        self.problems.is_empty()
    }

    fn new(name: String, dir: PathBuf, inspection: Inspection) -> Diagnosis {
        Diagnosis {
            name,
            dir,
            shadowed_by: None,
            scripts: inspection.scripts,
            parameters: inspection.parameters,
            problems: inspection.problems,
            ignored: inspection.ignored,
        }
    }
}

/// Everything in the search path that is or could be a provider (`backend.DiagnoseExtStorage`): in the order
/// of the search path, by name within a directory. Hidden entries and files do not count; a directory of the search
/// path need not exist.
pub fn diagnose(search_path: &SearchPath) -> Vec<Diagnosis> {
    let mut diagnoses: Vec<Diagnosis> = Vec::new();
    for directory in search_path.directories() {
        match visible_entries(directory) {
            Ok(names) => {
                for name in names {
                    let mut diagnosis = examine(directory, name);
                    let first = search_path.find(&diagnosis.name).ok();
                    diagnosis.shadowed_by =
                        first.filter(|first| *first != diagnosis.dir && diagnosis.dir.is_dir());
                    diagnoses.push(diagnosis);
                }
            }
            Err(fault) => {
                let name = directory.display().to_string();
                diagnoses.push(Diagnosis::new(name, directory.clone(), Inspection::failed(fault)));
            }
        }
    }
    diagnoses
}

fn visible_entries(directory: &Path) -> Result<Vec<String>, Fault> {
    if !directory.exists() {
        return Ok(Vec::new());
    }
    let entries = fs::read_dir(directory).map_err(Fault::Unreadable)?;
    let mut names = Vec::new();
    for entry in entries {
        let entry = entry.map_err(Fault::Unreadable)?;
        let name = entry.file_name();
        let name = name.to_string_lossy();
        if !name.starts_with('.') && !entry.path().is_file() {
            names.push(name.into_owned());
        }
    }
    names.sort();
    Ok(names)
}

fn examine(directory: &Path, name: String) -> Diagnosis {
    let dir = directory.join(&name);
    let inspection = match check_name(&name) {
        Ok(()) => Inspection::of(&dir),
        Err(_) => Inspection::failed(Fault::InvalidName),
    };
    Diagnosis::new(name, dir, inspection)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::testing::{Providers, chmod, make_dir, write};

    #[test]
    fn every_entry_is_judged() {
        let (first, second) = (Providers::new(), Providers::new());
        first.add("good");
        let broken = first.add("broken");
        fs::remove_file(broken.join("grow")).unwrap();
        write(&first.path().join("README"), "", 0o644);
        make_dir(&first.path().join("two words"));
        make_dir(&first.path().join(".hidden"));
        let shadowed = second.add_with("good", Action::Open.into());
        write(&shadowed.join("list"), "not a script", 0o644);
        second.add("README");

        let search_path = SearchPath::new(["/nonexistent".as_ref(), first.path(), second.path()]);
        let told: Vec<String> = diagnose(&search_path)
            .iter()
            .map(|d| {
                let problems: Vec<String> = d.problems.iter().map(ToString::to_string).collect();
                format!(
                    "{} {} {problems:?} {}",
                    d.name,
                    d.shadowed_by.is_some(),
                    d.ignored.len()
                )
            })
            .collect();
        assert_eq!(
            told,
            [
                r#"broken false ["grow: missing"] 0"#,
                r#"good false [] 0"#,
                r#"two words false [".: the name cannot be one of a provider"] 0"#,
                r#"README false [] 0"#,
                r#"good true [] 1"#,
            ]
        );
        let last = diagnose(&search_path).pop().unwrap();
        assert!(last.is_usable());
        assert_eq!(last.shadowed_by, Some(first.path().join("good")));
        assert_eq!(last.dir, shadowed);
        assert_eq!(last.scripts, Action::REQUIRED | Action::Open);
        assert_eq!(last.parameters.len(), 1);
    }

    #[test]
    fn a_search_path_that_is_no_directory_is_told() {
        let providers = Providers::new();
        let file = providers.path().join("file");
        write(&file, "", 0o644);
        let diagnoses = diagnose(&SearchPath::new([&file]));
        assert_eq!(diagnoses.len(), 1);
        assert_eq!(diagnoses[0].dir, file);
        assert!(!diagnoses[0].is_usable());
    }

    #[test]
    fn an_unsafe_search_path_makes_every_provider_in_it_unusable() {
        let providers = Providers::new();
        providers.add("good");
        chmod(providers.path(), 0o777);
        let diagnoses = diagnose(&providers.search_path());
        assert!(diagnoses[0].problems[0].to_string().ends_with("(mode 0777)"));
    }
}
