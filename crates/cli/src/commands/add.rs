//! `add`: make an instance and its disks.

use gnt_cmdlib::ops::Subject;
use gnt_cmdlib::ops::activate::{activate, deactivate};
use gnt_cmdlib::ops::add::{AddRequest, add};
use gnt_config::template::INT_MIRROR;
use gnt_config::{DiskTemplate, FileDriver};

use crate::args::{file_driver_parser, primary_and_secondary, template_parser};
use crate::commands::activate::wait;
use crate::commands::{changed, tell_of_undeclared_parameters};
use crate::context::Context;
use crate::disk_arg;
use crate::failure::Failure;
use crate::output::Answer;

const HELP: &str = "\
A disk is described by KEY=VALUE pairs, separated by commas; \\, is a comma in a value. An index and a colon may be in \
front, as with gnt-instance: 0 for the first disk, 1 for the second, …

  size=SIZE        512 and 512M are mebibytes, 1.5G gibibytes, 2T tebibytes
  mode=rw|ro       whether the instance may write
  name=NAME        a name, which other commands take in place of the index
  provider=NAME    ext: the External Storage provider; by default ext, which is shipped
  adopt=PATH       blockdev: the device that becomes the disk; plain: the volume
  vg=NAME          plain, drbd: the volume group of the data
  metavg=NAME      drbd: the volume group of the metadata
  access=userspace ext, rbd, gluster: for a hypervisor that needs no kernel device
  KEY=VALUE        ext: a parameter of the provider ('gnt-disk provider info NAME')

The disks are made, but not in use: 'gnt-disk activate' does that. If anything fails, or the process is killed, all \
that was made is removed again. Disks that are mirrored by drbd are synchronised while they are in use for the first time; \
with --wait-for-sync they are put into use for that, and out of it when it is done.

Examples:
  gnt-disk add web1 --disk 0:size=10G
      one disk in the cluster's default way: a volume of the provider ext

  gnt-disk add web1 --disk 0:size=10G,name=root --disk 1:size=9G,mode=ro
      two disks, the first with a name, the second read-only

  gnt-disk add db1 -t ext --disk 0:size=50G,provider=nas,pool=fast
      a volume of the provider nas, which gets the parameter pool

  gnt-disk add mail1 -t file --disk 0:size=20G --file-storage-dir mail
      a file in mail/mail1 below the cluster's file storage directory

  gnt-disk add db2 -t drbd -n node1:node2 --disk 0:size=50G --wait-for-sync
      a disk on node1 that is mirrored to node2

  gnt-disk add old1 -t blockdev --disk 0:adopt=/dev/disk/by-id/scsi-1234
      a device that exists already; nothing on it is changed";

/// Make an instance with its disks
#[derive(Debug, clap::Args)]
#[command(after_long_help = HELP)]
pub(crate) struct Args {
    /// Name of the new instance
    instance: String,
    /// A disk, such as 0:size=10G; once for each
    #[arg(long = "disk", value_name = "DISK", allow_hyphen_values = true)]
    disks: Vec<String>,
    /// How the disks are stored; by default the first of the cluster's enabled templates
    #[arg(short = 't', long, value_name = "TEMPLATE", value_parser = template_parser())]
    disk_template: Option<DiskTemplate>,
    /// Node that the instance runs on, and the one that its disks are mirrored to; by default the master node
    #[arg(short, long, value_name = "PRIMARY[:SECONDARY]")]
    node: Option<String>,
    /// How files are presented to the hypervisor
    #[arg(long, value_name = "DRIVER", default_value_t = FileDriver::Loop, value_parser = file_driver_parser())]
    file_driver: FileDriver,
    /// Directory below the cluster's file storage directory to make the instance's in
    #[arg(long, value_name = "DIR")]
    file_storage_dir: Option<String>,
    /// Synchronise mirrored disks before the command ends
    #[arg(long)]
    wait_for_sync: bool,
}

pub(crate) async fn run(context: &Context, args: Args) -> Result<Answer, Failure> {
    let (primary, secondary) = primary_and_secondary(args.node.as_deref());
    let request = AddRequest {
        disks: disk_arg::new_disks(&args.disks)?,
        template: match args.disk_template {
            Some(template) => template,
            None => context.default_template()?,
        },
        instance: args.instance,
        primary,
        secondary,
        file_driver: args.file_driver,
        file_storage_dir: args.file_storage_dir,
    };
    let done = context
        .operate(async |engine| add(engine, &request).await)
        .await?;
    tell_of_undeclared_parameters(context, &request.instance)?;
    let synchronises = args.wait_for_sync && INT_MIRROR.contains(request.template) && !context.is_dry_run();
    let degraded = synchronises && synchronise(context, &request.instance).await?;
    Ok(changed(context, &done, &request.instance)?.with_attention(degraded))
}

/// Puts new mirrored disks into use until they are synchronised, and tells whether any is degraded or was told of.
async fn synchronise(context: &Context, instance: &str) -> Result<bool, Failure> {
    let activated = context
        .operate(async |engine| activate(engine, instance).await)
        .await?;
    let subject = Subject::load(&context.store, instance)?;
    // Also when they were not waited for to the end: nobody asked for them to be in use.
    let waited = wait(context, &subject).await;
    let deactivated = context
        .operate(async |engine| deactivate(engine, instance).await)
        .await;
    let (degraded, deactivated) = (waited?, deactivated?);
    Ok(degraded || activated.warned() || deactivated.warned())
}
