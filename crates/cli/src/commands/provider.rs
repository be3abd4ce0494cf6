//! `provider`: the External Storage providers of this node.

use std::sync::Arc;

use enumset::EnumSet;
use gnt_config::Object;
use gnt_extstorage::{
    Action, Diagnosis, ExtStorage, FileProblem, Provider, SearchPath, VolumeInfo, diagnose,
};
use gnt_process::System;
use serde_json::{Value, json};

use crate::context::{Context, warn};
use crate::details::Details;
use crate::failure::Failure;
use crate::output::{Answer, Field, Kind, ListOptions, columns};
use crate::view;

const HELP: &str = "\
A provider is a directory of scripts, named after it, in one of the directories of the search path, which 'gnt-disk \
cluster info' shows and 'gnt-disk cluster modify --search-path' sets. Providers written for Ganeti work as they are.

Examples:
  gnt-disk provider list
  gnt-disk provider diagnose
  gnt-disk provider info ext";

/// List, diagnose or show External Storage providers
#[derive(Debug, clap::Subcommand)]
#[command(after_long_help = HELP)]
pub(crate) enum Command {
    List(ListArgs),
    Diagnose(DiagnoseArgs),
    Info(InfoArgs),
    Actions(ActionsArgs),
}

/// List the providers in the search path
#[derive(Debug, clap::Args)]
#[command(
    after_long_help = "Fields: name, dir, status, parameters, actions. The status is one of: ok, broken ('gnt-disk \
    provider diagnose' says why), shadowed (one of the same name comes before it)."
)]
pub(crate) struct ListArgs {
    #[command(flatten)]
    options: ListOptions,
}

/// Say what is wrong with providers, file by file
#[derive(Debug, clap::Args)]
#[command(after_long_help = "The exit status is 3 if something is wrong.")]
pub(crate) struct DiagnoseArgs {
    /// Names of the providers; by default all in the search path
    names: Vec<String>,
}

/// Show a provider: its parameters, what it can do, and its volumes if it can list them
#[derive(Debug, clap::Args)]
pub(crate) struct InfoArgs {
    /// Name of the provider
    name: String,
}

/// List the actions of the External Storage Interface, and which a provider has
#[derive(Debug, clap::Args)]
pub(crate) struct ActionsArgs {
    /// Name of the provider
    name: String,
    #[command(flatten)]
    options: ListOptions,
}

const PROVIDERS: &[Field] = &[
    Field::shown("name", "Name", Kind::Text),
    Field::shown("dir", "Directory", Kind::Text),
    Field::shown("status", "Status", Kind::Text),
    Field::shown("parameters", "Parameters", Kind::Text),
    Field::more("actions", "Actions", Kind::Text),
];

const ACTIONS: &[Field] = &[
    Field::shown("action", "Action", Kind::Text),
    Field::shown("kind", "Kind", Kind::Text),
    Field::shown("present", "Present", Kind::Flag),
];

pub(crate) fn run(context: &Context, command: Command) -> Result<Answer, Failure> {
    match command {
        Command::List(args) => {
            let rows = diagnose(&search_path(context)).iter().map(row).collect();
            args.options.answer(PROVIDERS, rows)
        }
        Command::Diagnose(args) => {
            let mut found = diagnose(&search_path(context));
            for name in &args.names {
                if !found.iter().any(|diagnosis| diagnosis.name == *name) {
                    Provider::find(name, &search_path(context))?;
                }
            }
            found.retain(|diagnosis| args.names.is_empty() || args.names.contains(&diagnosis.name));
            Ok(diagnosis(&found))
        }
        Command::Info(args) => info(context, &args.name),
        Command::Actions(args) => {
            let provider = Provider::find(&args.name, &search_path(context))?;
            let rows = EnumSet::<Action>::all()
                .iter()
                .map(|action| action_row(&provider, action))
                .collect();
            args.options.answer(ACTIONS, rows)
        }
    }
}

fn search_path(context: &Context) -> SearchPath {
    SearchPath::new(&context.settings.es_search_path)
}

fn row(diagnosis: &Diagnosis) -> Object {
    let parameters: Vec<&str> = diagnosis
        .parameters
        .iter()
        .map(|parameter| parameter.name.as_str())
        .collect();
    view::object(json!({
        "name": diagnosis.name, "dir": view::path(&diagnosis.dir), "status": status(diagnosis),
        "parameters": parameters, "actions": scripts(diagnosis.scripts),
    }))
}

fn action_row(provider: &Provider, action: Action) -> Object {
    view::object(
        json!({"action": action.script(), "kind": kind(action), "present": provider.supports(action)}),
    )
}

fn scripts(actions: EnumSet<Action>) -> Vec<&'static str> {
    actions.iter().map(Action::script).collect()
}

/// Who knows of an action: Ganeti, which wants it or can do without, or only gnt-disk.
fn kind(action: Action) -> &'static str {
    match action {
        action if Action::REQUIRED.contains(action) => "required",
        action if Action::OPTIONAL.contains(action) => "optional",
        _ => "extension",
    }
}

fn status(diagnosis: &Diagnosis) -> &'static str {
    match diagnosis {
        diagnosis if diagnosis.shadowed_by.is_some() => "shadowed",
        diagnosis if diagnosis.is_usable() => "ok",
        _ => "broken",
    }
}

fn diagnosis(diagnoses: &[Diagnosis]) -> Answer {
    let problems = |problems: &[FileProblem]| -> Value {
        let problem = |problem: &FileProblem| json!({"file": problem.file, "problem": problem.to_string()});
        problems.iter().map(problem).collect()
    };
    let json = diagnoses
        .iter()
        .map(|diagnosis| {
            json!({
                "name": diagnosis.name, "dir": view::path(&diagnosis.dir), "status": status(diagnosis),
                "shadowed_by": diagnosis.shadowed_by.as_deref().map(view::path),
                "problems": problems(&diagnosis.problems), "ignored": problems(&diagnosis.ignored),
            })
        })
        .collect();
    let text = diagnoses.iter().map(|diagnosis| {
        let mut entries = vec![(diagnosis.name.clone(), Details::text(status(diagnosis)))];
        entries.push(("directory".to_owned(), Details::text(diagnosis.dir.display())));
        if let Some(first) = &diagnosis.shadowed_by {
            entries.push(("shadowed by".to_owned(), Details::text(first.display())));
        }
        for (label, problems) in [("problems", &diagnosis.problems), ("ignored", &diagnosis.ignored)] {
            if !problems.is_empty() {
                entries.push((label.to_owned(), Details::list(problems)));
            }
        }
        Details::Map(entries)
    });
    let wrong = diagnoses.iter().any(|diagnosis| !diagnosis.is_usable());
    Answer::new(json, Details::List(text.collect()).render()).with_attention(wrong)
}

fn info(context: &Context, name: &str) -> Result<Answer, Failure> {
    let provider = Provider::find(name, &search_path(context))?;
    let settings = &context.settings;
    let storage = ExtStorage::new(
        Arc::new(System),
        search_path(context),
        &settings.es_log_dir,
        &context.state,
    )
    .with_timeout(std::time::Duration::from_secs(settings.es_timeout))
    .with_dry_run(context.is_dry_run());
    let listed = storage.list(name, &Default::default());
    let failed = listed.is_err();
    let volumes = listed.unwrap_or_else(|error| {
        warn(gnt_cmdlib::error::chain(&error));
        None
    });
    let parameters: Vec<Value> = provider
        .parameters
        .iter()
        .map(|parameter| json!({"name": parameter.name, "description": parameter.description}))
        .collect();
    let json = json!({
        "name": provider.name, "dir": view::path(&provider.dir), "parameters": parameters,
        "actions": scripts(provider.scripts),
        "log": view::path(&storage.log_path(name)),
        "volumes": volumes.as_ref().map(|volumes| volumes.iter().map(volume).collect::<Vec<_>>()),
    });
    let text = info_text(&provider, &storage, volumes.as_deref(), failed);
    Ok(Answer::new(json, text).with_attention(failed))
}

fn volume(volume: &VolumeInfo) -> Value {
    json!({
        "name": volume.name, "size": volume.size_mib, "uuid": volume.uuid, "cname": volume.cname,
        "instance": volume.instance, "index": volume.index, "metadata": volume.metadata,
    })
}

fn info_text(
    provider: &Provider,
    storage: &ExtStorage,
    volumes: Option<&[VolumeInfo]>,
    failed: bool,
) -> String {
    let parameters = provider
        .parameters
        .iter()
        .map(|parameter| (parameter.name.clone(), Details::text(&parameter.description)));
    let head = Details::map([
        ("Provider", Details::text(&provider.name)),
        ("Directory", Details::text(provider.dir.display())),
        ("Log", Details::text(storage.log_path(&provider.name).display())),
        ("Actions", Details::text(scripts(provider.scripts).join(", "))),
        ("Parameters", Details::map(parameters)),
    ]);
    let mut text = head.render();
    let line = |volume: &VolumeInfo| {
        let size = volume
            .size_mib
            .map_or(String::new(), |mib| gnt_config::Mebibytes(mib).to_string());
        let owner = match (&volume.instance, volume.index) {
            (Some(instance), Some(index)) => format!("disk/{index} of {instance}"),
            (Some(instance), None) => format!("of {instance}"),
            (None, _) => String::new(),
        };
        vec![format!("  {}", volume.name), size, owner]
    };
    match volumes {
        Some([]) => text.push_str("Volumes: -\n"),
        Some(volumes) => {
            text.push_str("Volumes:\n");
            text.push_str(&columns(
                &volumes.iter().map(line).collect::<Vec<_>>(),
                |column| column == 1,
            ));
        }
        None if failed => text.push_str("Volumes: unknown\n"),
        None => text.push_str("Volumes: the provider cannot list them\n"),
    }
    text
}
