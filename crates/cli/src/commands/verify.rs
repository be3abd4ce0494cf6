//! `verify`: hold the configuration against what is really there.

use gnt_cmdlib::verify::{Finding, verify};
use serde_json::json;

use crate::context::Context;
use crate::failure::Failure;
use crate::output::Answer;

const HELP: &str = "\
Nothing is changed. Each finding comes with the command that mends it, where there is one. The exit status is 3 if \
anything was found.

Finds disks that are missing, degraded or too small, disks that should be in use and are not, links that are left \
over, volumes that no disk is, and operations that were interrupted.";

/// Compare the configuration with the storage
#[derive(Debug, clap::Args)]
#[command(after_long_help = HELP)]
pub(crate) struct Args {}

pub(crate) async fn run(context: &Context, Args {}: Args) -> Result<Answer, Failure> {
    let findings = verify(&context.store, &context.nodes).await?;
    let mut text: String = findings.iter().map(line).collect();
    if findings.is_empty() {
        text.push_str("The storage is as configured.\n");
    }
    Ok(Answer::new(json!(findings), text).with_attention(!findings.is_empty()))
}

fn line(finding: &Finding) -> String {
    let node = finding
        .node
        .as_ref()
        .map_or(String::new(), |node| format!("{node}: "));
    let instance = finding
        .instance
        .as_ref()
        .map_or(String::new(), |name| format!("{name}: "));
    let mut line = format!("{}: {node}{instance}{}\n", finding.kind, finding.message);
    if let Some(mend) = &finding.mend {
        line.push_str(&format!("  mend: {mend}\n"));
    }
    line
}
