//! Why a command failed, how that is told, and the exit status that tells it to programs.

use std::error::Error as StdError;
use std::io;
use std::path::PathBuf;

use gnt_bdev::ToolError;
use gnt_cmdlib::error::overwriting_hint;
use gnt_cmdlib::{Error, Healing};
use gnt_config::ganeti::ConfigError;
use gnt_store::StoreError;

use crate::context::Context;
use crate::disk_arg::DiskArgError;

/// Why a command failed.
#[derive(Debug, thiserror::Error)]
pub(crate) enum Failure {
    /// What was asked for makes no sense, whatever the state of the cluster.
    #[error("{what}")]
    Usage {
        /// What makes no sense.
        what: String,
        /// What does.
        hint: Option<String>,
    },
    /// A `--disk` makes no sense.
    #[error(transparent)]
    Disk(#[from] DiskArgError),
    /// An operation failed or was refused.
    #[error(transparent)]
    Operation(#[from] Error),
    /// The External Storage Interface failed.
    #[error(transparent)]
    ExtStorage(Box<gnt_extstorage::Error>),
    /// A `config.data` cannot be read.
    #[error(transparent)]
    Config(#[from] ConfigError),
    /// A `config.data` cannot be taken in.
    #[error("cannot import {file}")]
    Import {
        /// Where it is.
        file: String,
        /// Why.
        #[source]
        source: Box<Failure>,
    },
    /// There is no such provider, or it cannot be used.
    #[error(transparent)]
    Provider(#[from] gnt_extstorage::ProviderError),
    /// A cluster is there already.
    #[error("there is a cluster in {} already", state.display())]
    Initialised {
        /// The state directory.
        state: PathBuf,
    },
    /// The cluster of this machine is kept on another.
    #[error("this machine is node {name} of cluster {cluster}, which is not kept here")]
    MereNode {
        /// Its name there.
        name: String,
        /// Name of the cluster.
        cluster: String,
        /// What makes it that node.
        file: PathBuf,
    },
    /// There is no cluster to work with.
    #[error("there is no configuration in {}", state.display())]
    NoCluster {
        /// The state directory.
        state: PathBuf,
        /// Whether there was one: the manager's keys are there.
        lost: bool,
    },
    /// Others could change what the program works by.
    #[error("{} is not safe to use: {why}", path.display())]
    NotOurs {
        /// The state directory, or the database in it.
        path: PathBuf,
        /// Who could change it.
        why: String,
        /// The command that keeps them from it.
        mend: String,
    },
    /// This machine belongs to no cluster.
    #[error("this machine is a node of no cluster: there is none in {}", state.display())]
    NoNode {
        /// The state directory.
        state: PathBuf,
    },
    /// The daemon cannot begin.
    #[error(transparent)]
    Serve(#[from] gnt_rpc::server::ServeError),
    /// Several things went wrong, and each was told.
    #[error("{failed} of {all} {things} could not be {what}")]
    Several {
        /// Of what.
        things: &'static str,
        /// How many.
        failed: usize,
        /// Of how many.
        all: usize,
        /// What was to be done to them.
        what: &'static str,
    },
    /// A file cannot be read or written.
    #[error("cannot {doing} {}", path.display())]
    File {
        /// `read`, `write`.
        doing: &'static str,
        /// The file.
        path: PathBuf,
        /// Why.
        #[source]
        source: io::Error,
    },
    /// Whoever was asked said no.
    #[error("nothing was done")]
    Declined,
    /// A signal asked the command to stop in the middle of an operation.
    #[error("interrupted by {signal}")]
    Interrupted {
        /// Name of the signal.
        signal: &'static str,
        /// The operations that were broken off, and what is right for each.
        operations: Vec<(String, Healing)>,
    },
    /// What moves an instance outlived its manager.
    #[error("a command that moves instance {instance} still runs, and cannot be ended")]
    Transfer {
        /// Name of the instance.
        instance: String,
        /// Why.
        #[source]
        source: io::Error,
    },
    /// Keys of the cluster or of a node cannot be made or used.
    #[error(transparent)]
    Keys(#[from] gnt_rpc::keys::KeyError),
    /// The machine that is to be a node could not be told so.
    #[error("node {node} was not added: its keys could not be brought to it")]
    Join {
        /// Its name.
        node: String,
        /// Why.
        #[source]
        source: ToolError,
    },
    /// Standard output cannot be written.
    #[error("cannot write to standard output")]
    Stdout(#[source] io::Error),
    /// Nothing can be run at all.
    #[error("cannot start")]
    Runtime(#[source] io::Error),
}

impl Failure {
    /// Wrong usage.
    pub(crate) fn usage(what: impl Into<String>) -> Self {
        let what = what.into();
        Self::Usage { what, hint: None }
    }

    /// The same, with advice if it is wrong usage.
    pub(crate) fn with_hint(self, hint: impl Into<String>) -> Self {
        match self {
            Self::Usage { what, .. } => {
                let hint = Some(hint.into());
                Self::Usage { what, hint }
            }
            other => other,
        }
    }

    /// There is no cluster in the state directory.
    pub(crate) fn no_cluster(state: PathBuf) -> Self {
        let lost = Context::was_cluster(&state);
        Self::NoCluster { state, lost }
    }

    /// A file cannot be read or written.
    pub(crate) fn file(doing: &'static str, path: impl Into<PathBuf>, source: io::Error) -> Self {
        let path = path.into();
        Self::File { doing, path, source }
    }

    /// The program's exit status: 2 for wrong usage, else 1.
    pub(crate) fn exit_status(&self) -> u8 {
        match self {
            Self::Usage { .. } | Self::Disk(_) => 2,
            Self::Operation(error) if is_usage(error) => 2,
            Self::Import { source, .. } => source.exit_status(),
            _ => 1,
        }
    }

    /// What the user can do.
    fn hint(&self) -> Option<String> {
        match self {
            Self::Usage { hint, .. } => hint.clone(),
            Self::Operation(error) => error.hint(),
            Self::ExtStorage(error) => error.hint(),
            Self::Provider(error) => error.hint(),
            Self::Config(error) => error.hint().map(str::to_owned),
            Self::Import { source, .. } => source.hint(),
            Self::NoNode { .. } => Some(
                "'gnt-disk node add' on the manager makes a bundle, and 'gnt-disk node join' takes it in"
                    .to_owned(),
            ),
            Self::MereNode { file, .. } => Some(format!(
                "run it on the cluster's master node; if this machine should be a node no more, remove {}",
                file.display()
            )),
            Self::NoCluster { lost: true, .. } => Some(
                "it was lost, the manager's keys are still there: 'gnt-disk cluster init' with the settings that it had and \
                 'gnt-disk node add' for each node, then 'gnt-disk recover'; or 'gnt-disk import' of an exported one"
                    .to_owned(),
            ),
            Self::NoCluster { lost: false, .. } => Some(
                "is it another directory, --state DIR? 'gnt-disk cluster init' makes a cluster of this node; if one was lost, \
                 'gnt-disk recover' then finds its disks"
                    .to_owned(),
            ),
            Self::Serve(error) => error.hint(),
            Self::NotOurs { mend, .. } => Some(format!("{mend}, once you know what is in it")),
            Self::Keys(error) => error.hint(),
            Self::Join { .. } => Some(
                "ssh must get there without a password, and find gnt-disk; or write the keys to a file with --bundle FILE".to_owned(),
            ),
            Self::Interrupted { operations, .. } => {
                let hints = operations.iter().map(|(id, healing)| healing_hint(id, *healing));
                let hints: Vec<_> = hints.collect();
                (!hints.is_empty()).then(|| hints.join("\n  hint: "))
            }
            Self::Transfer { .. } => Some("end it, see where the instance runs, and try again".to_owned()),
            Self::File { source, .. } if source.kind() == io::ErrorKind::AlreadyExists => {
                Some("choose another name, or remove that file first".to_owned())
            }
            Self::Initialised { .. } => Some(
                "'gnt-disk cluster modify' changes it; --state DIR makes another one elsewhere".to_owned(),
            ),
            _ => None,
        }
    }

    /// The message, what it is due to, and what the user can do.
    pub(crate) fn report(&self) -> String {
        let mut report = format!("error: {self}");
        let mut cause = self.source();
        while let Some(error) = cause {
            report.push_str(&format!("\n  because: {}", indented(&error.to_string())));
            cause = error.source();
        }
        if let Some(hint) = self.hint() {
            report.push_str(&format!("\n  hint: {}", indented(&hint)));
        }
        report
    }
}

/// Whether no state of the cluster would let it succeed.
fn is_usage(error: &Error) -> bool {
    matches!(
        error,
        Error::Compute(_) | Error::Params(_) | Error::NodeParams(_) | Error::Name(_)
    )
}

/// Lines after the first belong to it.
fn indented(text: &str) -> String {
    text.replace('\n', "\n    ")
}

impl From<StoreError> for Failure {
    fn from(error: StoreError) -> Self {
        Self::Operation(Error::Store(error))
    }
}

impl From<gnt_extstorage::Error> for Failure {
    fn from(error: gnt_extstorage::Error) -> Self {
        Self::ExtStorage(Box::new(error))
    }
}

/// What helps with an operation that was broken off.
fn healing_hint(id: &str, healing: Healing) -> String {
    match healing {
        Healing::Undo => format!(
            "the next command on the instance undoes what was begun, or 'gnt-disk operation abort {id}' now; \
             'gnt-disk operation resume {id}' goes on with it"
        ),
        Healing::Finish => format!(
            "the next command on the instance finishes what was begun, or 'gnt-disk operation resume {id}' now; \
             'gnt-disk operation abort {id}' keeps it from going further"
        ),
        Healing::Ask => overwriting_hint(id),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_chain_is_told_once_and_then_a_hint() {
        let cause = Error::NoInstance {
            instance: "web".to_owned(),
        };
        let failure = Failure::from(Error::Undone {
            operation: "4711".to_owned(),
            source: Box::new(cause),
        });
        assert_eq!(
            failure.report(),
            "error: operation 4711 failed; everything it did was undone\n  \
             because: there is no instance web\n  \
             hint: 'gnt-disk list' shows the instances"
        );
        assert_eq!(failure.exit_status(), 1);
    }

    #[test]
    fn each_operation_that_was_broken_off_is_named() {
        let hint = |ids: &[&str]| {
            let operations = ids.iter().map(|id| ((*id).to_owned(), Healing::Undo)).collect();
            let signal = "SIGINT";
            Failure::Interrupted { signal, operations }.hint()
        };
        assert_eq!(hint(&[]), None);
        let hint = hint(&["4711", "4712"]).unwrap();
        assert!(
            hint.contains("'gnt-disk operation abort 4711'")
                && hint.contains("'gnt-disk operation abort 4712'"),
            "{hint}"
        );
    }

    #[test]
    fn wrong_usage_has_its_own_exit_status() {
        let failure = Failure::usage("no").with_hint("yes");
        assert_eq!(failure.report(), "error: no\n  hint: yes");
        assert_eq!(failure.exit_status(), 2);
    }
}
