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
pub(crate) mod relocate;
pub(crate) mod remove;
pub(crate) mod rename;
pub(crate) mod snapshot;
pub(crate) mod verify;
pub(crate) mod wipe;

use gnt_cmdlib::ops::Subject;
use serde_json::{Value, json};

use crate::args::{Command, Global};
use crate::context::{Context, Done};
use crate::failure::Failure;
use crate::output::Answer;
use crate::view::{self, Links, NodeNames};

/// Does what the command line asks for.
pub(crate) async fn run(global: &Global, command: Command) -> Result<Answer, Failure> {
    let open = || Context::open(global);
    match command {
        Command::Cluster(command) => cluster::run(global, command).await,
        Command::Add(args) => add::run(&open()?, args).await,
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
        Command::Migrate(args) => migrate::run(&open()?, args).await,
        Command::Failover(args) => failover::run(&open()?, args).await,
        Command::Verify(args) => verify::run(&open()?, args).await,
        Command::Import(args) => config_data::import(&open()?, &args),
        Command::Export(args) => config_data::export(&open()?, &args),
        Command::Node(command) => node::run(global, command).await,
        Command::Group(command) => group::run(&open()?, command),
        Command::Operation(command) => operation::run(&open()?, command).await,
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
