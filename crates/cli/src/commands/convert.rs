//! `convert`: store an instance's disks in another way.

use gnt_cmdlib::ops::Subject;
use gnt_cmdlib::ops::convert::{ConvertRequest, convert};
use gnt_config::template::NEEDS_SECONDARY;
use gnt_config::{DiskTemplate, FileDriver};

use crate::args::{PaceArgs, file_driver_parser, primary_and_secondary, template_parser};
use crate::commands::changed;
use crate::context::Context;
use crate::disk_arg;
use crate::failure::Failure;
use crate::output::Answer;

const HELP: &str = "\
New disks are made, the data is copied, the configuration is switched, and only then the old disks are removed. Between \
plain and drbd nothing is copied, if the instance stays on its node: a volume gets or loses its mirror. The disks must \
not be in use. Sizes may be rounded up by the new storage; disks keep their names and access modes.

If anything fails, the instance is as it was. If the process is killed, 'gnt-disk operation resume' goes on where it \
stopped, and 'gnt-disk operation abort' removes the new disks.

N is a disk's index, name or UUID; 'gnt-disk add --help' has the keys.

Examples:
  gnt-disk convert web1 -t ext --ext-params provider=nas,pool=fast
      volumes of the provider nas, which gets the parameter pool

  gnt-disk convert web1 -t plain --disk 0:vg=fast --disk 1:vg=slow
      logical volumes, in two volume groups

  gnt-disk convert web1 -t drbd -n node2
      mirrored on node2; logical volumes stay where they are

  gnt-disk convert web1 -t drbd -n node2:node3
      copied to node2, where the instance is from then on, and mirrored on node3

  gnt-disk convert web1 -t plain -n node2
      logical volumes on node2

  gnt-disk convert web1 -t file --bwlimit 50M --verify
      no more than 50 MiB a second, and compared with what was read";

/// Store an instance's disks in another way: convert them to another disk template
#[derive(Debug, clap::Args)]
#[command(after_long_help = HELP)]
pub(crate) struct Args {
    /// Name or UUID of the instance
    instance: String,
    /// How the disks are to be stored
    #[arg(short = 't', long, value_name = "TEMPLATE", value_parser = template_parser())]
    disk_template: DiskTemplate,
    /// Node that the instance is on from then on, with its new disks; of drbd disks the one that they are mirrored to, or both
    #[arg(short, long, value_name = "[PRIMARY:]SECONDARY|PRIMARY")]
    node: Option<String>,
    /// What one of the new disks is to be, such as 0:vg=fast; once for each
    #[arg(long = "disk", value_name = "DISK", allow_hyphen_values = true)]
    disks: Vec<String>,
    /// The provider of ext disks, and its parameters: provider=NAME,KEY=VALUE,…
    #[arg(short, long, value_name = "PARAMS")]
    ext_params: Option<String>,
    /// How files are presented to the hypervisor
    #[arg(long, value_name = "DRIVER", default_value_t = FileDriver::Loop, value_parser = file_driver_parser())]
    file_driver: FileDriver,
    /// Directory below the cluster's file storage directory to make the instance's in
    #[arg(long, value_name = "DIR")]
    file_storage_dir: Option<String>,
    #[command(flatten)]
    pace: PaceArgs,
}

pub(crate) async fn run(context: &Context, args: Args) -> Result<Answer, Failure> {
    let params = args.ext_params.as_deref().map(disk_arg::ext_params);
    let (primary, secondary) = match primary_and_secondary(args.node.as_deref()) {
        (secondary, None) if NEEDS_SECONDARY.contains(args.disk_template) => (None, secondary),
        both => both,
    };
    let request = ConvertRequest {
        template: args.disk_template,
        primary,
        secondary,
        params: params.transpose()?.unwrap_or_default(),
        disks: disk_arg::wishes(&args.disks)?,
        file_driver: args.file_driver,
        file_storage_dir: args.file_storage_dir,
        pace: args.pace.pace()?,
    };
    let name = Subject::load(&context.store, &args.instance)?.instance.name;
    let done = context
        .operate(async |engine| convert(engine, &name, &request).await)
        .await?;
    changed(context, &done, &name)
}
