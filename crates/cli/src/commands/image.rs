//! `image`: write an image to a disk.

use std::path::PathBuf;

use gnt_cmdlib::ops::Subject;
use gnt_cmdlib::ops::image::{ImageRequest, image};

use crate::args::PaceArgs;
use crate::commands::changed;
use crate::confirm::ConfirmArgs;
use crate::context::Context;
use crate::failure::Failure;
use crate::output::Answer;

const HELP: &str = "\
The image is a file or a block device whose bytes are taken as they are: one in a format such as qcow2 has to be \
converted before. What is behind the image's end on the disk stays. The disks must not be in use. If the process is \
killed, 'gnt-disk operation resume' goes on where it stopped.

Examples:
  gnt-disk image web1 0 debian-12.raw
  gnt-disk image web1 root /dev/vg/template --bwlimit 50M --verify";

/// Write an image to the beginning of a disk
#[derive(Debug, clap::Args)]
#[command(after_long_help = HELP)]
pub(crate) struct Args {
    /// Name or UUID of the instance
    instance: String,
    /// Index, name or UUID of the disk; -1 is the last
    #[arg(allow_negative_numbers = true)]
    disk: String,
    /// The image
    image: PathBuf,
    /// Node that has the image; by default the master node
    #[arg(short, long, value_name = "NODE")]
    node: Option<String>,
    #[command(flatten)]
    pace: PaceArgs,
    #[command(flatten)]
    confirm: ConfirmArgs,
}

pub(crate) async fn run(context: &Context, args: Args) -> Result<Answer, Failure> {
    let absolute = std::path::absolute(&args.image).ok();
    let Some(path) = absolute.as_deref().and_then(|path| path.to_str()) else {
        return Err(Failure::usage(format!(
            "'{}' cannot be an image: its name is not UTF-8",
            args.image.display()
        )));
    };
    let request = ImageRequest {
        disk: args.disk,
        path: path.to_owned(),
        node: args.node,
        pace: args.pace.pace()?,
    };
    let name = Subject::load(&context.store, &args.instance)?.instance.name;
    args.confirm.confirm(
        context,
        &format!("What is on disk {} of {name} will be overwritten", request.disk),
    )?;
    let done = context
        .operate(async |engine| image(engine, &name, &request).await)
        .await?;
    changed(context, &done, &name)
}
