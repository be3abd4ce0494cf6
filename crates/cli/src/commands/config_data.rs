//! `import` and `export`: Ganeti's `config.data`.

use std::collections::BTreeSet;
use std::fs::Permissions;
use std::io::{self, Read, Write};
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};

use gnt_config::ganeti::Config;
use gnt_config::template::INSTANCE_DEPENDENT_PATH;
use gnt_config::{LogicalId, Settings};
use gnt_store::Store;
use serde_json::json;

use crate::args::Global;
use crate::confirm::ConfirmArgs;
use crate::context::Context;
use crate::failure::Failure;
use crate::output::{Answer, say};

/// Standard input or output.
const STANDARD: &str = "-";

const IMPORT_HELP: &str = "\
Ganeti's configuration is in /var/lib/ganeti/config.data, of versions 3.0 and 3.1. All of it is kept, also what gnt-disk \
has no use for. Devices and volumes are not touched. What Ganeti compiles in, such as the search path of providers and \
the directories that file-based disks may be in, is not part of it: see 'gnt-disk cluster modify'.

Examples:
  gnt-disk import /var/lib/ganeti/config.data
  ssh master cat /var/lib/ganeti/config.data | gnt-disk import -";

/// Take in the configuration of a Ganeti cluster
#[derive(Debug, clap::Args)]
#[command(after_long_help = IMPORT_HELP)]
pub(crate) struct ImportArgs {
    /// The config.data; - is standard input
    file: PathBuf,
    /// Forget the instances and disks that there are
    #[arg(long)]
    replace: bool,
    #[command(flatten)]
    confirm: ConfirmArgs,
}

const EXPORT_HELP: &str = "\
The file is one that Ganeti reads. It holds the secrets of drbd disks and whatever else is secret in the configuration; \
only its owner may read it.

Examples:
  gnt-disk export config.data
  gnt-disk export | jq .instances";

/// Write the configuration as Ganeti does
#[derive(Debug, clap::Args)]
#[command(after_long_help = EXPORT_HELP)]
pub(crate) struct ExportArgs {
    /// File to write; - or none is standard output
    file: Option<PathBuf>,
}

pub(crate) fn import(global: &Global, args: &ImportArgs) -> Result<Answer, Failure> {
    let text = read(&args.file)?;
    let (context, config) = take_in(global, args, &text).map_err(|source| Failure::Import {
        file: match args.file == Path::new(STANDARD) {
            true => "standard input".to_owned(),
            false => args.file.display().to_string(),
        },
        source: Box::new(source),
    })?;
    let (instances, disks) = (config.instances.len(), config.disks.len());
    context.note(format!("# import {instances} instances and {disks} disks"));
    let forbidden = forbidden_directories(&config, &context.settings);
    if !forbidden.is_empty() {
        let paths = forbidden.iter().map(|dir| dir.display());
        say(format_args!(
            "note: file-based disks cannot be used before their directories are allowed:\n  gnt-disk cluster modify{}",
            paths
                .map(|dir| format!(" --add-file-storage-path {dir}"))
                .collect::<String>()
        ));
    }
    if config.nodes.len() > 1 {
        say(
            "note: other nodes have no keys of gnt-disk yet: 'gnt-disk node add NODE --readd --ssh root@NODE' brings them, then \
             'gnt-disk serve' answers there",
        );
    }
    Ok(context.noted().unwrap_or_else(|| {
        let json = json!({
            "name": config.cluster.cluster_name, "instances": instances, "disks": disks, "nodes": config.nodes.len(),
        });
        Answer::new(json, "")
    }))
}

fn take_in(global: &Global, args: &ImportArgs, text: &[u8]) -> Result<(Context, Config), Failure> {
    let config = Config::from_slice(text)?;
    // What cannot be taken in makes no cluster.
    Store::in_memory()?.import(&config, false)?;
    let context = Context::open_or_make(global)?;
    if args.replace {
        args.confirm.confirm(
            &context,
            "The instances and disks that there are will be forgotten",
        )?;
    }
    if !context.is_dry_run() {
        context.store.import(&config, args.replace)?;
    }
    Ok((context, config))
}

pub(crate) fn export(context: &Context, args: &ExportArgs) -> Result<Answer, Failure> {
    let config = context.store.export()?;
    let text = format!("{}\n", json!(config));
    match args.file.as_deref().filter(|file| *file != Path::new(STANDARD)) {
        None => Ok(Answer::raw(text)),
        Some(file) => {
            if context.is_dry_run() {
                context.note(format!("# write {}", file.display()));
            } else {
                write(file, &text).map_err(|source| Failure::file("write", file, source))?;
            }
            Ok(context
                .noted()
                .unwrap_or_else(|| Answer::new(json!({"file": file.to_string_lossy()}), "")))
        }
    }
}

fn read(file: &Path) -> Result<Vec<u8>, Failure> {
    let mut text = Vec::new();
    let read = match file == Path::new(STANDARD) {
        true => io::stdin().lock().read_to_end(&mut text).map(drop),
        false => std::fs::read(file).map(|content| text = content),
    };
    read.map_err(|source| Failure::file("read", file, source))?;
    Ok(text)
}

/// Puts the file in its place when it is complete; only its owner can read it.
fn write(file: &Path, text: &str) -> io::Result<()> {
    let dir = match file.parent() {
        Some(dir) if dir != Path::new("") => dir,
        _ => Path::new("."),
    };
    let mut new = tempfile::Builder::new().prefix(".gnt-disk-").tempfile_in(dir)?;
    new.write_all(text.as_bytes())?;
    new.as_file().set_permissions(Permissions::from_mode(0o600))?;
    new.as_file().sync_all()?;
    new.persist(file)?;
    Ok(())
}

/// The directories of disks in places where this program may not make files.
fn forbidden_directories(config: &Config, settings: &Settings) -> BTreeSet<PathBuf> {
    let files = config
        .disks
        .values()
        .filter(|disk| INSTANCE_DEPENDENT_PATH.contains(disk.dev_type.template()));
    let paths = files.filter_map(|disk| match &disk.logical_id {
        LogicalId::File { path, .. } => Some(Path::new(path)),
        _ => None,
    });
    let allowed = |path: &&Path| {
        settings
            .file_storage_paths
            .iter()
            .any(|dir| path.starts_with(dir))
    };
    let forbidden = paths.filter(|path| !allowed(path));
    // The file, its instance's directory, the cluster's directory.
    let dirs = forbidden.filter_map(|path| path.ancestors().nth(2));
    dirs.map(Path::to_owned).collect()
}
