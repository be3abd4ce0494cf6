//! `operation`: what is under way, and what was interrupted.

use gnt_cmdlib::{Engine, Report};
use gnt_rpc::Cluster;
use gnt_store::{Filter, OperationRecord, State};
use serde_json::{Value, json};

use crate::confirm::ConfirmArgs;
use crate::context::Context;
use crate::failure::Failure;
use crate::output::{Answer, Field, Kind, ListOptions, say};
use crate::view::{self, NodeNames};

const HELP: &str = "\
An operation is a list of steps. Each is written down before it acts, so that nothing is lost when the process dies: \
the operation is then interrupted, and keeps its instance locked until it is finished or undone. The next command that \
changes the instance does that by itself, but where data that is there was being overwritten (wipe, image, snapshot \
--restore): that goes on only if 'resume' says so.

An operation is named by its id, or by enough of its beginning.

Examples:
  gnt-disk operation list
  gnt-disk operation show 4f2a
  gnt-disk operation resume 4f2a
  gnt-disk operation abort --all";

/// List, show, resume or abort operations
#[derive(Debug, clap::Subcommand)]
#[command(after_long_help = HELP)]
pub(crate) enum Command {
    List(ListArgs),
    Show(ShowArgs),
    Resume(ResumeArgs),
    Abort(AbortArgs),
}

/// List the operations that are not finished
#[derive(Debug, clap::Args)]
#[command(
    after_long_help = "Fields: id, kind, instance, state, step, interrupted, started, finished, steps_done, \
    steps_total, pid, host, command, reason, message."
)]
pub(crate) struct ListArgs {
    /// Finished ones too
    #[arg(short, long)]
    all: bool,
    #[command(flatten)]
    options: ListOptions,
}

/// Show an operation and its steps
#[derive(Debug, clap::Args)]
pub(crate) struct ShowArgs {
    /// Id of the operation
    id: String,
}

/// Which operations.
#[derive(Debug, clap::Args)]
#[group(required = true, multiple = false)]
struct Which {
    /// Id of the operation
    id: Option<String>,
    /// All that were interrupted
    #[arg(long)]
    all: bool,
}

/// Finish an operation that was interrupted; one that was being undone is undone
#[derive(Debug, clap::Args)]
#[command(after_long_help = "If a step fails, everything is undone.")]
pub(crate) struct ResumeArgs {
    #[command(flatten)]
    which: Which,
}

/// Undo an operation that was interrupted
#[derive(Debug, clap::Args)]
#[command(
    after_long_help = "Data that was removed, or a disk that grew, does not come back: what was done before that \
    stays done too."
)]
pub(crate) struct AbortArgs {
    #[command(flatten)]
    which: Which,
    /// Undo nothing: leave everything as it is and forget the operation. 'gnt-disk verify' then shows what is left over
    #[arg(long)]
    force: bool,
    #[command(flatten)]
    confirm: ConfirmArgs,
}

const FIELDS: &[Field] = &[
    Field::shown("id", "ID", Kind::Text),
    Field::shown("kind", "Kind", Kind::Text),
    Field::shown("instance", "Instance", Kind::Text),
    Field::shown("state", "State", Kind::Text),
    Field::shown("step", "Step", Kind::Text),
    Field::more("steps_done", "Done", Kind::Text),
    Field::more("steps_total", "Steps", Kind::Text),
    Field::shown("interrupted", "Interrupted", Kind::Flag),
    Field::shown("started", "Started", Kind::Time),
    Field::more("finished", "Finished", Kind::Time),
    Field::more("pid", "PID", Kind::Text),
    Field::more("host", "Host", Kind::Text),
    Field::more("command", "Command", Kind::Text),
    Field::more("reason", "Reason", Kind::Text),
    Field::more("message", "Message", Kind::Text),
];

pub(crate) async fn run(context: &Context, command: Command) -> Result<Answer, Failure> {
    match command {
        Command::List(args) => list(context, &args),
        Command::Show(args) => show(context, &args),
        Command::Resume(args) => {
            let comes = |record: &OperationRecord| match record.state {
                State::Running => "finished",
                _ => "undone",
            };
            let work =
                async |engine: &Engine<'_, Cluster>, record: &OperationRecord| engine.resume(record).await;
            each(context, &args.which, "resumed", comes, work).await
        }
        Command::Abort(args) if args.force => {
            args.confirm.confirm(
                context,
                "Nothing will be undone: disks may be half made or half removed, and nothing will finish them",
            )?;
            let work = async |engine: &Engine<'_, Cluster>, record: &OperationRecord| {
                engine.give_up(record).await.map(|()| Report::default())
            };
            each(context, &args.which, "given up", |_| "given up", work).await
        }
        Command::Abort(args) => {
            let work =
                async |engine: &Engine<'_, Cluster>, record: &OperationRecord| engine.abort(record).await;
            each(context, &args.which, "aborted", |_| "undone", work).await
        }
    }
}

fn list(context: &Context, args: &ListArgs) -> Result<Answer, Failure> {
    let filter = match args.all {
        true => Filter::All,
        false => Filter::Unfinished,
    };
    let records = context.store.operations(filter)?;
    args.options
        .answer(FIELDS, records.iter().map(view::operation).collect())
}

fn show(context: &Context, args: &ShowArgs) -> Result<Answer, Failure> {
    let record = context.store.operation(&args.id)?;
    let names = NodeNames::new(context.store.nodes()?);
    let mut shown = view::operation(&record);
    shown.insert("steps".to_owned(), view::steps(&record, &names));
    Ok(Answer::new(
        shown.into(),
        view::operation_details(&record, &names).render(),
    ))
}

/// Does the same to each; one that fails does not keep the others from being tried. `comes` tells what is to become of one.
async fn each(
    context: &Context,
    which: &Which,
    what: &'static str,
    comes: impl Fn(&OperationRecord) -> &'static str,
    work: impl AsyncFn(&Engine<'_, Cluster>, &OperationRecord) -> gnt_cmdlib::Result<Report>,
) -> Result<Answer, Failure> {
    let records = match &which.id {
        Some(id) => vec![context.store.operation(id)?],
        None => interrupted(context)?,
    };
    let (mut ended, mut failures, mut attention) = (Vec::new(), Vec::new(), false);
    for record in &records {
        let OperationRecord {
            id, kind, instance, ..
        } = record;
        if context.is_dry_run() {
            let comes = comes(record);
            context.note(format!("# operation {id} ({kind} {instance}) would be {comes}"));
            continue;
        }
        match context.operate(async |engine| work(engine, record).await).await {
            Ok(done) => {
                attention |= done.warned();
                ended.push((record, context.store.operation(id)?));
            }
            Err(failure) => failures.push((record, failure)),
        }
    }
    if let Some(noted) = context.noted() {
        return Ok(noted);
    }
    let failed = failures.len();
    for (record, failure) in &failures {
        if records.len() > 1 {
            say(format_args!("{}: {}", called(record), failure.report()));
        }
    }
    let failure = match failures.pop() {
        // The only one is the command's own.
        Some((_, failure)) if records.len() == 1 => return Err(failure),
        last => last.map(|_| Failure::Several {
            things: "operations",
            failed,
            all: records.len(),
            what,
        }),
    };
    let line = |(before, after): &(&OperationRecord, OperationRecord)| {
        let became = match after.state {
            State::Done => "finished",
            State::Undone if after.message.is_none() => "undone",
            State::Undone => "undone, as far as that could be",
            _ => comes(before),
        };
        format!("{} was {became}\n", called(after))
    };
    let text: String = ended.iter().map(line).collect();
    let operations: Vec<Value> = ended
        .iter()
        .map(|(_, after)| view::operation(after).into())
        .collect();
    Ok(Answer::new(json!({"operations": operations}), text)
        .with_attention(attention)
        .with_failure(failure))
}

fn called(record: &OperationRecord) -> String {
    format!("operation {} ({} {})", record.id, record.kind, record.instance)
}

fn interrupted(context: &Context) -> Result<Vec<OperationRecord>, Failure> {
    let unfinished = context.store.operations(Filter::Unfinished)?;
    Ok(unfinished
        .into_iter()
        .filter(|record| record.interrupted)
        .collect())
}
