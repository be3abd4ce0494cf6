//! The command line. What one command understands is beside the command.

use std::path::PathBuf;

use clap::builder::{PossibleValue, PossibleValuesParser, TypedValueParser};
use clap::{Parser, Subcommand};
use gnt_cmdlib::step::Pace;
use gnt_config::{DiskTemplate, FileDriver, Mebibytes, Object, template};

use crate::commands::{
    activate, add, cluster, config_data, convert, deactivate, documents, failover, group, grow, image, info,
    list, migrate, modify, node, operation, provider, recover, recreate, relocate, remove, rename,
    replace_disks, serve, snapshot, verify, wipe,
};
use crate::failure::Failure;

const EXAMPLES: &str = "\
Examples:
  gnt-disk add web1 --disk 0:size=10G  make an instance with one disk
  gnt-disk activate web1               make it a block device, and print which
  gnt-disk grow web1 0 5G              enlarge it
  gnt-disk list                        see what there is
  gnt-disk --dry-run remove web1       see which commands would run

Exit status:
  0  done
  1  the operation failed; what it did was undone, unless it says otherwise
  2  wrong usage
  3  done, but something needs attention: a warning, a degraded disk, a finding";

/// Stores the disks of virtual machines as Ganeti does: file, sharedfile, blockdev, ext (External Storage), and more
///
/// An instance is a virtual machine; its disks are all stored in one way, its disk template. What instances and disks
/// there are is kept in the state directory; the first `add` makes a cluster of this one node in it.
#[derive(Debug, Parser)]
#[command(name = "gnt-disk", version, after_long_help = EXAMPLES, disable_help_subcommand = true)]
pub(crate) struct Cli {
    #[command(flatten)]
    pub(crate) global: Global,
    #[command(subcommand)]
    pub(crate) command: Command,
}

/// What every command understands.
#[derive(Debug, Clone, clap::Args)]
#[command(next_help_heading = "Global options")]
pub(crate) struct Global {
    /// Directory of the configuration, the operation journal and, unless configured otherwise, the volumes
    #[arg(
        long,
        global = true,
        env = "GNT_DISK_STATE",
        default_value = "/var/lib/gnt-disk",
        value_name = "DIR"
    )]
    pub(crate) state: PathBuf,
    /// Change nothing; print every command that would change something, and what else would be changed
    #[arg(long, global = true)]
    pub(crate) dry_run: bool,
    /// Print one JSON value: an array of objects for what lists, an object for the rest
    #[arg(long, global = true)]
    pub(crate) json: bool,
    /// Tell each step on standard error, also when that is no terminal
    #[arg(short, long, global = true)]
    pub(crate) verbose: bool,
}

/// The commands.
#[derive(Debug, Subcommand)]
pub(crate) enum Command {
    #[command(subcommand)]
    Cluster(cluster::Command),
    Add(add::Args),
    #[command(alias = "activate-disks")]
    Activate(activate::Args),
    #[command(alias = "deactivate-disks")]
    Deactivate(deactivate::Args),
    Info(info::Args),
    Remove(remove::Args),
    List(list::Args),
    #[command(alias = "grow-disk")]
    Grow(grow::Args),
    Modify(modify::Args),
    Snapshot(snapshot::Args),
    Convert(convert::Args),
    Move(relocate::Args),
    Wipe(wipe::Args),
    Image(image::Args),
    Rename(rename::Args),
    ReplaceDisks(replace_disks::Args),
    #[command(alias = "recreate-disks")]
    Recreate(recreate::Args),
    Migrate(migrate::Args),
    Failover(failover::Args),
    Verify(verify::Args),
    Recover(recover::Args),
    Import(config_data::ImportArgs),
    Export(config_data::ExportArgs),
    #[command(subcommand)]
    Node(node::Command),
    #[command(subcommand)]
    Group(group::Command),
    #[command(subcommand)]
    Operation(operation::Command),
    Serve(serve::Args),
    #[command(subcommand)]
    Provider(provider::Command),
    Completions(documents::CompletionsArgs),
    Man(documents::ManArgs),
}

/// How a disk's data is moved.
#[derive(Debug, Clone, clap::Args)]
pub(crate) struct PaceArgs {
    /// Most that is written in a second, such as 50M
    #[arg(long, value_name = "SIZE")]
    bwlimit: Option<Mebibytes>,
    /// Read what was written again, and compare
    #[arg(long)]
    verify: bool,
}

impl PaceArgs {
    pub(crate) fn pace(&self) -> Result<Pace, Failure> {
        match self.bwlimit {
            Some(Mebibytes(0)) => {
                Err(Failure::usage("--bwlimit 0 would never end").with_hint("leave it out for no limit"))
            }
            limit => Ok(Pace {
                limit,
                verify: self.verify,
            }),
        }
    }
}

/// Reads yes or no.
pub(crate) fn yes_or_no() -> impl TypedValueParser<Value = bool> {
    let yes = PossibleValue::new("yes").aliases(["true", "y", "t", "on", "1"]);
    let no = PossibleValue::new("no").aliases(["false", "n", "f", "off", "0"]);
    PossibleValuesParser::new([yes.clone(), no]).map(move |word| yes.matches(&word, true))
}

/// The nodes that `PRIMARY[:SECONDARY]` names.
pub(crate) fn primary_and_secondary(named: Option<&str>) -> (Option<String>, Option<String>) {
    match named.and_then(|named| named.split_once(':')) {
        Some((primary, secondary)) => (Some(primary.to_owned()), Some(secondary.to_owned())),
        None => (named.map(str::to_owned), None),
    }
}

/// Reads a disk template; help and completions name all of them.
pub(crate) fn template_parser() -> impl TypedValueParser<Value = DiskTemplate> {
    let names = template::ALL.iter().map(DiskTemplate::as_str);
    PossibleValuesParser::new(names).try_map(|name| name.parse::<DiskTemplate>())
}

/// Reads `KEY=VALUE,…`.
pub(crate) fn parameters(text: &str) -> Result<Object, String> {
    let parameter = |item: &str| match item.split_once('=') {
        Some((key, value)) => Ok((key.trim().to_owned(), value.into())),
        None => Err(format!("{item:?} is not KEY=VALUE")),
    };
    text.split(',').map(parameter).collect()
}

/// Reads a file driver.
pub(crate) fn file_driver_parser() -> impl TypedValueParser<Value = FileDriver> {
    let names = [FileDriver::Loop, FileDriver::Blktap, FileDriver::Blktap2].map(<&str>::from);
    PossibleValuesParser::new(names).try_map(|name| name.parse::<FileDriver>())
}
