//! The commands, one file each: what they understand, and how they ask the libraries and show the answer.

pub(crate) mod activate;
pub(crate) mod add;
pub(crate) mod cluster;
pub(crate) mod config_data;
pub(crate) mod convert;
pub(crate) mod deactivate;
pub(crate) mod documents;
pub(crate) mod failover;
pub(crate) mod group;
pub(crate) mod grow;
pub(crate) mod image;
pub(crate) mod info;
pub(crate) mod list;
pub(crate) mod migrate;
pub(crate) mod modify;
pub(crate) mod node;
pub(crate) mod operation;
pub(crate) mod provider;
pub(crate) mod recover;
pub(crate) mod recreate;
pub(crate) mod relocate;
pub(crate) mod remove;
pub(crate) mod rename;
pub(crate) mod replace_disks;
pub(crate) mod serve;
pub(crate) mod snapshot;
pub(crate) mod verify;
pub(crate) mod wipe;

use gnt_cmdlib::ops::Subject;
use gnt_config::LogicalDevice;
use gnt_config::device::DEFAULT_PROVIDER;
use gnt_config::params::ExtVolumeParams;
use gnt_extstorage::{Provider, SearchPath};
use serde_json::{Value, json};

use crate::args::{Command, Global};
use crate::context::{Context, Done};
use crate::failure::Failure;
use crate::output::{Answer, say};
use crate::view::{self, Links, NodeNames};

/// Does what the command line asks for.
pub(crate) async fn run(global: &Global, command: Command) -> Result<Answer, Failure> {
    let open = || Context::open(global);
    match command {
        Command::Cluster(command) => cluster::run(global, command).await,
        Command::Add(args) => add::run(&Context::open_or_make(global)?, args).await,
        Command::Activate(args) => activate::run(&open()?, args).await,
        Command::Deactivate(args) => deactivate::run(&open()?, args).await,
        Command::Info(args) => info::run(&open()?, args).await,
        Command::Remove(args) => remove::run(&open()?, args).await,
        Command::List(args) => list::run(&open()?, args).await,
        Command::Grow(args) => grow::run(&open()?, args).await,
        Command::Modify(args) => modify::run(&open()?, args).await,
        Command::Snapshot(args) => snapshot::run(&open()?, args).await,
        Command::Move(args) => relocate::run(&open()?, args).await,
        Command::Convert(args) => convert::run(&open()?, args).await,
        Command::Wipe(args) => wipe::run(&open()?, args).await,
        Command::Image(args) => image::run(&open()?, args).await,
        Command::Rename(args) => rename::run(&open()?, args).await,
        Command::ReplaceDisks(args) => replace_disks::run(&open()?, args).await,
        Command::Recreate(args) => recreate::run(&open()?, args).await,
        Command::Migrate(args) => migrate::run(&open()?, args).await,
        Command::Failover(args) => failover::run(&open()?, args).await,
        Command::Recover(args) => recover::run(&open()?, args).await,
        Command::Verify(args) => verify::run(&open()?, args).await,
        Command::Import(args) => config_data::import(global, &args),
        Command::Export(args) => config_data::export(&open()?, &args),
        Command::Node(command) => node::run(global, command).await,
        Command::Group(command) => group::run(&open()?, command).await,
        Command::Operation(command) => operation::run(&open()?, command).await,
        Command::Serve(args) => serve::run(global, args).await,
        Command::Provider(command) => provider::run(&open()?, command),
        Command::Completions(args) => Ok(documents::completions(&args)),
        Command::Man(args) => documents::man(global, &args),
    }
}

/// What is answered when an instance may have got another node: where it and its disks are now, when they are synchronised.
async fn moved(context: &Context, done: &Done, instance: &str) -> Result<Answer, Failure> {
    if let Some(noted) = context.noted() {
        return Ok(noted);
    }
    let subject = Subject::load(&context.store, instance)?;
    let (disks, text) = activate::assembled(context, &subject, &done.report, true)?;
    let degraded = subject.instance.disks_active && activate::wait(context, &subject).await?;
    let more = json!({"pnode": subject.node.name, "disks": disks});
    Ok(done
        .answer(context, instance, more, text)
        .with_attention(degraded))
}

/// Tells which parameters of ext disks their providers do not declare. They are passed on all the same, as Ganeti does.
fn tell_of_undeclared_parameters(context: &Context, instance: &str) -> Result<(), Failure> {
    if context.is_dry_run() {
        return Ok(());
    }
    let search_path = SearchPath::new(&context.settings.es_search_path);
    for disk in Subject::load(&context.store, instance)?.disks {
        let params = match ExtVolumeParams::from_object(&disk.params) {
            Ok(params) if disk.dev_type == LogicalDevice::Ext => params,
            _ => continue,
        };
        let name = params.provider.as_deref().unwrap_or(DEFAULT_PROVIDER);
        // Another node may have one that this one has not.
        let Ok(provider) = Provider::find(name, &search_path) else {
            continue;
        };
        let is_declared = |key: &str| {
            let mut declared = provider.parameters.iter();
            declared.any(|declared| declared.name.eq_ignore_ascii_case(key))
        };
        for key in params.own.keys().filter(|key| !is_declared(key)) {
            say(format_args!(
                "note: {disk}: provider {name} declares no parameter {key}; 'gnt-disk provider info {name}' shows those that it has"
            ));
        }
    }
    Ok(())
}

/// What is answered when an instance's disks were changed: all of them as they are now.
fn changed(context: &Context, done: &Done, instance: &str) -> Result<Answer, Failure> {
    if let Some(noted) = context.noted() {
        return Ok(noted);
    }
    let subject = Subject::load(&context.store, instance)?;
    let names = NodeNames::new(context.store.nodes()?);
    let shown = |disk| view::attached_disk(instance, disk, &names, &Links::default());
    let disks: Vec<Value> = subject.disks.iter().map(|disk| shown(disk).into()).collect();
    let text = view::disk_lines(&subject.disks);
    Ok(done.answer(context, instance, json!({"disks": disks}), text))
}
