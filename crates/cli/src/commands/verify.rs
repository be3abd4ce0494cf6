//! `verify`: hold the configuration against what is really there.

use gnt_cmdlib::verify::{Finding, FindingKind, repair, verify};
use serde_json::{Value, json};

use crate::context::{Context, Done};
use crate::failure::Failure;
use crate::output::Answer;

const HELP: &str = "\
Each finding comes with the command that mends it, where there is one. Without --repair nothing is changed. The exit \
status is 3 if anything was found, or with --repair if anything is left.

Finds disks that are missing, degraded, too small or on the wrong node, disks that should be in use and are not, devices \
and links that are left over, volumes that no disk is or that do not say which disk they are, kernels that call the wrong \
program for drbd's events, operations that were interrupted, and migrations that nobody ends. Nodes that are set offline are named and not asked. \
Volumes that say that they are another cluster's, on storage that both use, are counted.

--repair mends what loses nothing by it: it puts disks into use that should be, takes devices from nodes where the \
instance does not run unless something uses them, removes links that are left over, and tells volumes whose they are. \
Each is an operation of its own. Then all is looked at again, and what is shown is what is left.

With --json it prints an array, the findings; with --repair an object: 'repaired', what was mended, and 'findings', what is left.";

/// Compare the configuration with the storage
#[derive(Debug, clap::Args)]
#[command(after_long_help = HELP)]
pub(crate) struct Args {
    /// Mend what can be mended without losing anything
    #[arg(long)]
    repair: bool,
}

pub(crate) async fn run(context: &Context, args: Args) -> Result<Answer, Failure> {
    let mut findings = verify(&context.store, &context.nodes).await?;
    let mut repaired = Vec::new();
    let mut warned = false;
    if args.repair && findings.iter().any(Finding::is_repairable) {
        let done = context
            .operate(async |engine| repair(engine, &findings).await)
            .await?;
        if let Some(noted) = context.noted() {
            return Ok(noted);
        }
        warned = Done::warned(&done);
        let left = verify(&context.store, &context.nodes).await?;
        repaired = findings;
        repaired.retain(|finding| !left.contains(finding));
        findings = left;
    }
    let mut text: String = repaired
        .iter()
        .map(|finding| format!("mended: {}", line(finding, false)))
        .collect();
    text.extend(findings.iter().map(|finding| line(finding, true)));
    if findings.is_empty() {
        text.push_str("The storage is as configured.\n");
    }
    let json: Value = match args.repair {
        true => json!({"repaired": repaired, "findings": findings}),
        false => json!(findings),
    };
    // That a node is offline somebody wanted, as that clusters share storage.
    let is_wanted =
        |finding: &Finding| matches!(finding.kind, FindingKind::Offline | FindingKind::OtherCluster);
    let attention = !findings.iter().all(is_wanted);
    Ok(Answer::new(json, text).with_attention(attention || warned))
}

fn line(finding: &Finding, with_mend: bool) -> String {
    let node = finding
        .node
        .as_ref()
        .map_or(String::new(), |node| format!("{node}: "));
    let instance = finding
        .instance
        .as_ref()
        .map_or(String::new(), |name| format!("{name}: "));
    let mut line = format!("{}: {node}{instance}{}\n", finding.kind, finding.message);
    if let Some(mend) = finding.mend.as_ref().filter(|_| with_mend) {
        line.push_str(&format!("  mend: {mend}\n"));
    }
    line
}
