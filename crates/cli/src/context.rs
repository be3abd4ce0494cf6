//! What a command works with: the store, this node, and the engine that runs operations.

use std::fs::Permissions;
use std::io;
use std::os::unix::fs::{MetadataExt as _, PermissionsExt as _};
use std::path::{Path, PathBuf};
use std::sync::Arc;

use gnt_bdev::Host;
use gnt_cmdlib::init::init;
use gnt_cmdlib::{Engine, Event, Healing, Report};
use gnt_config::{DiskTemplate, Node, Settings};
use gnt_process::{DryRun, Runner, System};
use gnt_rpc::keys::{Bundle, Manager, NODE_FILE, NodeConfig};
use gnt_rpc::{Client, Cluster};
use gnt_store::{Filter, Owner, Store};
use serde_json::{Value, json};
use tempfile::TempDir;

use crate::args::Global;
use crate::embedded;
use crate::failure::Failure;
use crate::interrupt;
use crate::output::{Answer, say};
use crate::progress::Progress;
use crate::view::NodeNames;

/// Name of a cluster for which none was chosen.
pub(crate) const DEFAULT_CLUSTER: &str = "gnt-disk";
/// Name of the database in the state directory.
const DATABASE: &str = "store.db";
/// Where the shipped provider is installed, below the state directory.
pub(crate) const PROVIDERS: &str = "providers";

/// What a command works with.
pub(crate) struct Context {
    pub(crate) store: Store,
    pub(crate) settings: Settings,
    pub(crate) nodes: Cluster,
    /// Absolute.
    pub(crate) state: PathBuf,
    progress: Progress,
    dry_run: Option<Rehearsal>,
}

/// What is noted instead of done.
struct Rehearsal {
    noted: Arc<DryRun>,
    /// Stands for a state directory that is not there yet.
    scratch: Option<TempDir>,
}

impl Context {
    /// Opens the state directory, in which there must be a cluster.
    pub(crate) fn open(global: &Global) -> Result<Self, Failure> {
        let state = state_directory(global)?;
        if !Self::has_cluster(&state)? {
            Self::ensure_no_mere_node(&state)?;
            return Err(Failure::no_cluster(state));
        }
        let store = Store::open(&state)?;
        if global.dry_run {
            let noted = Arc::new(DryRun::new(System));
            return Self::new(global, store, state, Some(Rehearsal { noted, scratch: None }));
        }
        embedded::install(&state.join(PROVIDERS))?;
        Self::new(global, store, state, None)
    }

    /// The same; where there never was a cluster, one of this node is made.
    pub(crate) fn open_or_make(global: &Global) -> Result<Self, Failure> {
        let state = state_directory(global)?;
        if Self::has_cluster(&state)? {
            return Self::open(global);
        }
        Self::ensure_no_mere_node(&state)?;
        if Self::was_cluster(&state) {
            return Err(Failure::no_cluster(state));
        }
        if global.dry_run {
            return Self::rehearse_new(global, state);
        }
        initialise(&Store::open(&state)?, &state)?;
        Self::open(global)
    }

    /// A new cluster that is nowhere stored, with nothing ever changed.
    fn rehearse_new(global: &Global, state: PathBuf) -> Result<Self, Failure> {
        let noted = Arc::new(DryRun::new(System));
        noted.record(format!("# make a cluster of this node in {}", state.display()));
        let scratch = tempfile::Builder::new()
            .permissions(Permissions::from_mode(0o700))
            .tempdir()
            .map_err(|source| Failure::file("write", std::env::temp_dir(), source))?;
        let store = Store::in_memory()?;
        init(&store, scratch.path(), DEFAULT_CLUSTER, &host_name())?;
        embedded::install(&scratch.path().join(PROVIDERS))?;
        let directory = scratch.path().to_owned();
        let scratch = Some(scratch);
        Self::new(global, store, directory, Some(Rehearsal { noted, scratch }))
            .map(|context| Self { state, ..context })
    }

    /// Whether there is a cluster in a state directory; nothing is made to find out.
    pub(crate) fn has_cluster(state: &Path) -> Result<bool, Failure> {
        let database = state.join(DATABASE);
        match database.try_exists() {
            Ok(exists) => Ok(exists && Store::open(state)?.is_initialised()?),
            // The store knows what to say of that.
            Err(error) if error.kind() == io::ErrorKind::PermissionDenied => {
                Ok(Store::open(state)?.is_initialised()?)
            }
            Err(source) => Err(Failure::file("look at", database, source)),
        }
    }

    /// Refuses a machine that is a node of a cluster that is kept elsewhere: it is to get none of its own.
    pub(crate) fn ensure_no_mere_node(state: &Path) -> Result<(), Failure> {
        match Bundle::load(state)? {
            Some(bundle) if !Self::has_cluster(state)? => Err(Failure::MereNode {
                name: bundle.config.name,
                cluster: bundle.config.cluster_name,
                file: state.join(NODE_FILE),
            }),
            _ => Ok(()),
        }
    }

    /// Whether the keys of a cluster's manager are in a state directory.
    pub(crate) fn was_cluster(state: &Path) -> bool {
        !matches!(Manager::load(state), Ok(None))
    }

    fn new(
        global: &Global,
        store: Store,
        state: PathBuf,
        dry_run: Option<Rehearsal>,
    ) -> Result<Self, Failure> {
        let settings = store.settings()?;
        let nodes = store.nodes()?;
        let this = this_node(&store, &nodes)?;
        let (uuid, name) = match this {
            Some(node) => (node.uuid.clone(), node.name.clone()),
            None => (String::new(), host_name()),
        };
        if dry_run.is_none() && !uuid.is_empty() && store.this_node()?.as_ref() != Some(&uuid) {
            store.set_this_node(&uuid)?;
        }
        let noted = dry_run.as_ref().map(|rehearsal| Arc::clone(&rehearsal.noted));
        let mut host = match &noted {
            Some(noted) => Host::dry_run(&name, &settings, &state, Arc::clone(noted)),
            None => Host::new(&name, &settings, &state, Arc::new(System)),
        };
        if let Some(node) = this
            && let Some(group) = store.group(&node.group)?
        {
            host.exclusive_storage = node.has_exclusive_storage(&group, &store.cluster()?);
        }
        let keys = Manager::load(&state)?.map(|keys| keys.client()).transpose()?;
        if uuid.is_empty() && keys.is_some() {
            let hint = gnt_cmdlib::error::STRANGER_HINT;
            warn(format_args!(
                "no node of the cluster is called like this host ({name}): {hint}"
            ));
        }
        Ok(Self {
            nodes: Cluster::new(&uuid, host, &nodes, keys, noted.as_ref()),
            progress: Progress::new(global.verbose, NodeNames::new(nodes), noted),
            store,
            settings,
            state,
            dry_run,
        })
    }

    /// Tells all other nodes what they work by, as it is kept now. Returns whether somebody did not hear it, of which it warns. `moved` is a
    /// node as it was before it got another address: it listens on the one that it had until it is started again.
    pub(crate) async fn tell_nodes(&self, moved: Option<&Node>) -> Result<bool, Failure> {
        let Some(manager) = Manager::load(&self.state)?.filter(|_| !self.is_dry_run()) else {
            return Ok(false);
        };
        let (cluster, settings, nodes) = (self.store.cluster()?, self.store.settings()?, self.store.nodes()?);
        let here = this_node(&self.store, &nodes)?.map(|node| &node.uuid);
        let mut configs = Vec::new();
        for node in nodes
            .iter()
            .filter(|node| !node.offline && Some(&node.uuid) != here)
        {
            if let Some(group) = self.store.group(&node.group)? {
                configs.push(NodeConfig::new(node, &group, &cluster, &settings));
            }
        }
        let keys = manager.client()?;
        let same = |node: &&Node| moved.is_some_and(|before| before.uuid == node.uuid);
        let moved = moved.zip(nodes.iter().find(same));
        if let Some((before, now)) = moved.filter(|(_, now)| now.offline) {
            warn_of_new_address(now, &before.primary_ip, Err("it is offline".to_owned()));
        }
        let deaf = gnt_rpc::cluster::configure(&keys, configs).await;
        for (config, error) in &deaf {
            match moved.filter(|(_, now)| now.uuid == config.uuid) {
                Some((before, now)) => {
                    let before = &before.primary_ip;
                    let node = Client::new(&config.name, &config.uuid, before, Arc::clone(&keys));
                    let told = node.configure(config).await;
                    warn_of_new_address(
                        now,
                        before,
                        told.map_err(|error| gnt_cmdlib::error::chain(&error)),
                    );
                }
                None => warn(format_args!(
                    "node {0} works by the settings that it had: {1}; 'gnt-disk node modify {0} --offline no' tells it again",
                    config.name,
                    gnt_cmdlib::error::chain(error)
                )),
            }
        }
        Ok(!deaf.is_empty() || moved.is_some_and(|(_, now)| now.offline))
    }

    /// Whether nothing is to be changed.
    pub(crate) fn is_dry_run(&self) -> bool {
        self.dry_run.is_some()
    }

    /// What runs programs: in a dry run it notes those that would change something.
    pub(crate) fn runner(&self) -> Arc<dyn Runner> {
        match &self.dry_run {
            Some(rehearsal) => Arc::clone(&rehearsal.noted) as Arc<dyn Runner>,
            None => Arc::new(System),
        }
    }

    /// How disks are stored unless the user says otherwise.
    pub(crate) fn default_template(&self) -> Result<DiskTemplate, Failure> {
        let first = self.store.cluster()?.enabled_disk_templates.first().copied();
        first.ok_or_else(|| {
            Failure::usage("the cluster has no default disk template").with_hint("choose one with -t")
        })
    }

    /// Runs an operation; what went wrong although it is done is told.
    pub(crate) async fn operate(
        &self,
        operation: impl AsyncFnOnce(&Engine<'_, Cluster>) -> gnt_cmdlib::Result<Report>,
    ) -> Result<Done, Failure> {
        let report = self.work(operation).await?;
        let assembled = report.assembled.iter().flat_map(|disk| &disk.assembled.warnings);
        let warnings: Vec<String> = report
            .warnings
            .iter()
            .cloned()
            .chain(assembled.map(|error| gnt_cmdlib::error::chain(error)))
            .collect();
        for warning in &warnings {
            warn(warning);
        }
        Ok(Done { report, warnings })
    }

    /// Works with an engine, until that is done or a signal asks to stop.
    pub(crate) async fn work<T>(
        &self,
        work: impl AsyncFnOnce(&Engine<'_, Cluster>) -> gnt_cmdlib::Result<T>,
    ) -> Result<T, Failure> {
        let observer = |event: Event<'_>| self.progress.tell(event);
        let engine = Engine {
            store: &self.store,
            nodes: &self.nodes,
            dry_run: self.is_dry_run(),
            observer: &observer,
        };
        tokio::select! {
            result = work(&engine) => Ok(result?),
            never = self.progress.watch() => match never {},
            signal = interrupt::requested() => Err(self.interrupted(signal?)?),
        }
    }

    /// What is told when a signal broke an operation off: what it was running is ended, and the journal knows where it stopped. There may be several at a time.
    fn interrupted(&self, signal: &'static str) -> Result<Failure, Failure> {
        let me = Owner::current();
        let unfinished = self.store.operations(Filter::Unfinished)?.into_iter();
        let ours = unfinished.filter(|record| record.owner == me);
        let operations = ours.map(|record| Ok((record.id.clone(), Healing::of(&record)?)));
        let operations = operations.collect::<Result<_, Failure>>()?;
        Ok(Failure::Interrupted { signal, operations })
    }

    /// Notes a change that no operation makes, instead of making it.
    pub(crate) fn note(&self, change: impl Into<String>) {
        if let Some(rehearsal) = &self.dry_run {
            rehearsal.noted.record(change);
        }
    }

    /// What a dry run answers instead of the command: what would be changed.
    pub(crate) fn noted(&self) -> Option<Answer> {
        let rehearsal = self.dry_run.as_ref()?;
        let mut lines = rehearsal.noted.changes();
        if let Some(scratch) = &rehearsal.scratch {
            let (from, to) = (scratch.path().to_string_lossy(), self.state.to_string_lossy());
            lines
                .iter_mut()
                .for_each(|line| *line = line.replace(&*from, &to));
        }
        Some(Answer::dry_run(&lines))
    }

    /// Warns of operations whose process died, and tells whether there are any.
    pub(crate) fn warn_of_interrupted(&self) -> Result<bool, Failure> {
        let unfinished = self.store.operations(Filter::Unfinished)?;
        let mut interrupted = unfinished.iter().filter(|operation| operation.interrupted);
        let Some(first) = interrupted.next() else {
            return Ok(false);
        };
        match interrupted.count() {
            0 => warn(format_args!(
                "operation {0} ({1} {2}) was interrupted: run gnt-disk operation resume {0}, or abort",
                first.id, first.kind, first.instance
            )),
            more => warn(format_args!(
                "{} operations were interrupted: run gnt-disk operation resume --all, or abort",
                more + 1
            )),
        }
        Ok(true)
    }
}

/// An operation that was done.
#[derive(Debug)]
pub(crate) struct Done {
    pub(crate) report: Report,
    /// What went wrong nevertheless; told already.
    warnings: Vec<String>,
}

impl Done {
    /// Whether something was told that needs attention.
    pub(crate) fn warned(&self) -> bool {
        !self.warnings.is_empty()
    }

    /// What a command on an instance answers: `more` in JSON beside the operation's id, or `text`.
    pub(crate) fn answer(&self, context: &Context, instance: &str, more: Value, text: String) -> Answer {
        self.answer_for(context, "instance", instance, more, text)
    }

    /// The same for a command on something else: `key` says on what.
    pub(crate) fn answer_for(
        &self,
        context: &Context,
        key: &str,
        name: &str,
        more: Value,
        text: String,
    ) -> Answer {
        if let Some(noted) = context.noted() {
            return noted;
        }
        let mut json = json!({"operation": self.report.operation, key: name, "warnings": self.warnings});
        if let (Value::Object(json), Value::Object(more)) = (&mut json, more) {
            json.extend(more);
        }
        Answer::new(json, text).with_attention(self.warned())
    }
}

/// Says what is to be done on a node whose address was `before`, and which does not answer at its new one; `told` is whether it heard of that.
fn warn_of_new_address(node: &Node, before: &str, told: Result<(), String>) {
    let (name, address) = (&node.name, &node.primary_ip);
    let restart = "'systemctl restart gnt-disk' there";
    match told {
        Ok(()) => warn(format_args!(
            "node {name} listens on {before} until it is started again: when it has the address {address}, run {restart}"
        )),
        Err(why) => warn(format_args!(
            "node {name} does not know its new address {address}: {why}; when it has the address, 'gnt-disk node add {name} \
             --readd --ssh root@{name}' here tells it, or --bundle FILE, and {restart} makes it listen"
        )),
    }
}

/// Says that something needs attention.
pub(crate) fn warn(warning: impl std::fmt::Display) {
    say(format_args!("warning: {warning}"));
}

/// The state directory as an absolute path: it is written to where other processes read it.
pub(crate) fn state_directory(global: &Global) -> Result<PathBuf, Failure> {
    let refuse = |why: &str| {
        let what = format!(
            "'{}' cannot be the state directory: {why}",
            global.state.display()
        );
        Err(Failure::usage(what).with_hint("choose a directory with --state DIR"))
    };
    match std::path::absolute(&global.state) {
        Ok(state) if state.to_str().is_none() => refuse("its name is not UTF-8"),
        Ok(state) if state.exists() && !state.is_dir() => refuse("it is not a directory"),
        Ok(state) => {
            ensure_ours(&state)?;
            ensure_ours(&state.join(DATABASE))?;
            Ok(state)
        }
        Err(error) => refuse(&error.to_string()),
    }
}

/// Refuses what others could change: it says which directories files are made and removed in, and which programs are run.
fn ensure_ours(path: &Path) -> Result<(), Failure> {
    // What is not there, or cannot be looked at, cannot be opened either.
    let Ok(metadata) = std::fs::metadata(path) else {
        return Ok(());
    };
    let (owner, mode) = (metadata.uid(), metadata.mode() & 0o7777);
    let us = rustix::process::geteuid();
    let (why, mend) = if owner != 0 && owner != us.as_raw() {
        (
            format!("it belongs to user {owner}"),
            format!("chown -R {} {}", us.as_raw(), path.display()),
        )
    } else if mode & 0o022 != 0 {
        let why = format!("others may write to it (mode {mode:04o})");
        (why, format!("chmod go-w {}", path.display()))
    } else {
        return Ok(());
    };
    Err(Failure::NotOurs {
        path: path.to_owned(),
        why,
        mend,
    })
}

/// Makes the cluster that a state directory has unless another is asked for.
fn initialise(store: &Store, state: &Path) -> Result<(), Failure> {
    let node = host_name();
    match init(store, state, DEFAULT_CLUSTER, &node) {
        Ok(()) => {
            say(format_args!(
                "made a new cluster of one node, {node}, in {}",
                state.display()
            ));
            Ok(())
        }
        // Another process was faster.
        Err(_) if store.is_initialised()? => Ok(()),
        Err(error) => Err(error.into()),
    }
}

/// What this machine calls itself.
pub(crate) fn host_name() -> String {
    let name = rustix::system::uname().nodename().to_string_lossy().into_owned();
    match gnt_config::names::host(&name) {
        Ok(()) => name,
        Err(_) => "localhost".to_owned(),
    }
}

/// Which of the nodes this machine is: the one that was recorded, whatever the machine is called now, or the one with its name.
pub(crate) fn this_node<'a>(store: &Store, nodes: &'a [Node]) -> Result<Option<&'a Node>, Failure> {
    let recorded = store.this_node()?;
    let recorded = recorded.and_then(|uuid| nodes.iter().find(|node| node.uuid == uuid));
    Ok(recorded.or_else(|| named(nodes, &host_name())))
}

/// The node that is called `here`, fully qualified or not, or the only one.
fn named<'a>(nodes: &'a [Node], here: &str) -> Option<&'a Node> {
    let short = |name: &'_ str| name.split('.').next().unwrap_or_default().to_owned();
    let same = |node: &&Node| match here.contains('.') && node.name.contains('.') {
        true => node.name == here,
        false => short(&node.name) == short(here),
    };
    match nodes {
        [only] => Some(only),
        several => several.iter().find(same),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn nodes(names: &[&str]) -> Vec<Node> {
        let node = |name: &&str| json!({"uuid": name, "name": name, "primary_ip": "", "secondary_ip": "", "group": ""});
        let nodes = names
            .iter()
            .map(|name| serde_json::from_value(node(name)).unwrap());
        nodes.collect()
    }

    #[test]
    fn this_node_has_this_machines_name_or_is_the_only_one() {
        let cases = [
            (
                &["a.example.com", "b.example.com"][..],
                "b.example.com",
                Some("b.example.com"),
            ),
            (&["a.example.com", "b.example.com"], "b", Some("b.example.com")),
            (&["a", "b"], "b.example.com", Some("b")),
            (&["a.example.com", "b.example.com"], "b.example.org", None),
            (&["a.example.com", "ab.example.com"], "b", None),
            (&["a", "b"], "c", None),
            (&["a"], "c", Some("a")),
            (&[], "c", None),
        ];
        for (names, here, expected) in cases {
            let nodes = nodes(names);
            let found = named(&nodes, here).map(|node| node.name.as_str());
            assert_eq!(found, expected, "{names:?} {here}");
        }
    }
}
