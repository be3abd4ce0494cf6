//! `recover`: rebuild the configuration from what is on the nodes.

use std::io::{self, IsTerminal as _};

use gnt_cmdlib::recover::{Loose, Proposal, Recovered, Remark, RemarkKind, Selection, import, propose};
use gnt_config::Mebibytes;
use serde_json::{Value, json};

use crate::confirm::ask;
use crate::context::{Context, Done};
use crate::failure::Failure;
use crate::output::{Answer, columns, printable, say};
use crate::view::{self, Links, NodeNames};

const HELP: &str = "\
For when the configuration is lost, or older than the disks are. Every volume says which disk of which instance it is; \
recover looks at all nodes, shows what it found and what is missing, and adds it to the configuration when you agree. \
What the configuration has is never changed, and no data is touched: volumes that do not know everything are told it.

Several clusters may use one pool or directory. What says that it is of a cluster with another name, or was on nodes \
that are not known, is left out and told, unless its instance is named.

Storage that does not answer is told; if no disk was ever there, nothing is missing.

The nodes must be known before: 'gnt-disk cluster init', 'gnt-disk node add'. What was configured for the cluster, such \
as volume groups, pools and directories, is where it looks.

Lost are what no volume can say: hardware and network cards of instances, blockdev disks, secret parameters of \
providers. Where a drbd disk does not run it gets a new secret. Of volumes that Ganeti made itself, all is known that \
their tags and names tell.

On a terminal it asks before anything is recorded; otherwise --yes is needed, and without it is only told what would be.

Exit status: 0 if all was recovered, or there is nothing to recover; 3 if something is missing, contradicts itself, had \
to be chosen, or was not recovered.

Examples:
  gnt-disk recover
  gnt-disk recover --yes
  gnt-disk recover --yes --incomplete web1";

/// Rebuild a lost configuration from the disks
#[derive(Debug, clap::Args)]
#[command(after_long_help = HELP)]
pub(crate) struct Args {
    /// Names of instances to recover; all, and disks that no instance has, if none is given
    instances: Vec<String>,
    /// Do it without asking
    #[arg(short, long)]
    yes: bool,
    /// Also recover instances of which disks were not found: those behind them move up
    #[arg(long)]
    incomplete: bool,
}

pub(crate) async fn run(context: &Context, args: Args) -> Result<Answer, Failure> {
    let selection = Selection {
        instances: args.instances,
        incomplete: args.incomplete,
    };
    let proposal = propose(&context.store, &context.nodes, &selection.instances).await?;
    let selected = proposal.select(&selection)?;
    let names = NodeNames::new(context.store.nodes()?);
    let shown = Shown {
        proposal: &proposal,
        selected: &selected,
        names: &names,
    };
    let mut told = false;
    let agreed = !selected.is_empty()
        && !context.is_dry_run()
        && (args.yes || {
            told = io::stdin().is_terminal();
            told && asked(&shown)?
        });
    let done = match agreed {
        true => Some(
            context
                .operate(async |engine| import(engine, &selected).await)
                .await?,
        ),
        false => None,
    };
    let mut text = if told { String::new() } else { shown.text() };
    text.push_str(&shown.end(done.as_ref(), told));
    let warned = done.as_ref().is_some_and(Done::warned);
    let is_all = done.is_some() && selected.instances.len() == proposal.instances.len();
    let is_done = is_all || (proposal.is_empty() && done.is_none());
    let is_missed = |remark: &Remark| remark.kind != RemarkKind::NoStorage;
    let attention = warned || !is_done || proposal.remarks.iter().any(is_missed);
    Ok(Answer::new(shown.json(done.as_ref()), text).with_attention(attention))
}

/// Shows what was found, and asks.
fn asked(shown: &Shown<'_>) -> Result<bool, Failure> {
    say(shown.text());
    ask("Record this in the configuration?")
}

/// What was found, and which of it is wanted.
struct Shown<'a> {
    proposal: &'a Proposal,
    selected: &'a Proposal,
    names: &'a NodeNames,
}

impl Shown<'_> {
    fn is_selected(&self, found: &Recovered) -> bool {
        let name = &found.instance.name;
        self.selected
            .instances
            .iter()
            .any(|other| other.instance.name == *name)
    }

    fn json(&self, done: Option<&Done>) -> Value {
        let instances = self.proposal.instances.iter().map(|found| {
            let Recovered {
                instance,
                disks,
                missing,
            } = found;
            let own = disks
                .iter()
                .map(|disk| view::attached_disk(&instance.name, disk, self.names, &Links::default()));
            let mut shown = view::instance(instance, disks, self.names, own.collect());
            shown.insert("missing".to_owned(), json!(missing));
            let recovered = done.is_some() && self.is_selected(found);
            shown.insert("recovered".to_owned(), recovered.into());
            Value::Object(shown)
        });
        let detached = self.proposal.detached.iter().map(|Loose { disk, last, .. }| {
            let mut shown = view::disk(disk, self.names);
            shown.insert("last_instance".to_owned(), json!(last));
            Value::Object(shown)
        });
        json!({
            "operation": done.and_then(|done| done.report.operation.as_ref()),
            "recovered": done.is_some(),
            "instances": instances.collect::<Vec<_>>(),
            "detached": detached.collect::<Vec<_>>(),
            "remarks": self.proposal.remarks,
        })
    }

    fn text(&self) -> String {
        let mut text = String::new();
        if !self.proposal.instances.is_empty() {
            let titles = [
                "Instance",
                "Template",
                "Primary",
                "Secondary",
                "Disks",
                "Size",
                "Found",
            ];
            let titles = titles.map(str::to_owned).to_vec();
            let rows = self.proposal.instances.iter().map(|found| self.row(found));
            let lines: Vec<_> = [titles].into_iter().chain(rows).collect();
            text.push_str(&columns(&lines, |column| matches!(column, 4 | 5)));
        }
        if !self.proposal.detached.is_empty() {
            let titles = ["Detached disk", "Volume", "Size", "Last of"].map(str::to_owned);
            let rows = self.proposal.detached.iter().map(|Loose { disk, last, .. }| {
                vec![
                    disk.uuid.clone(),
                    printable(&disk.logical_id.to_string()),
                    disk.size.to_string(),
                    last.as_deref().map_or("-".to_owned(), printable),
                ]
            });
            let lines: Vec<_> = [titles.to_vec()].into_iter().chain(rows).collect();
            if !text.is_empty() {
                text.push('\n');
            }
            text.push_str(&columns(&lines, |column| column == 2));
        }
        if !self.proposal.remarks.is_empty() && !text.is_empty() {
            text.push('\n');
        }
        text.extend(self.proposal.remarks.iter().map(line));
        text
    }

    fn row(&self, found: &Recovered) -> Vec<String> {
        let Recovered {
            instance,
            disks,
            missing,
        } = found;
        let shown = view::instance(instance, disks, self.names, Vec::new());
        let name = |key: &str| match &shown[key] {
            Value::String(name) => printable(name),
            Value::Array(names) if !names.is_empty() => {
                let names = names.iter().filter_map(Value::as_str).map(printable);
                names.collect::<Vec<_>>().join(",")
            }
            _ => "-".to_owned(),
        };
        let size: Mebibytes = disks.iter().map(|disk| disk.size).sum();
        let missing: Vec<_> = missing.iter().map(|index| format!("disk/{index}")).collect();
        vec![
            printable(&instance.name),
            name("disk_template"),
            name("pnode"),
            name("snodes"),
            disks.len().to_string(),
            size.to_string(),
            match missing.is_empty() {
                true => "all".to_owned(),
                false => format!("without {}", missing.join(", ")),
            },
        ]
    }

    /// What became of it.
    fn end(&self, done: Option<&Done>, asked: bool) -> String {
        let Proposal {
            instances, detached, ..
        } = self.selected;
        let count = |count: usize, what: &str| match count {
            1 => format!("1 {what}"),
            more => format!("{more} {what}s"),
        };
        let what = format!(
            "{} and {}",
            count(instances.len(), "instance"),
            count(detached.len(), "detached disk")
        );
        match done {
            Some(_) => format!("Recovered {what}.\n"),
            None if self.proposal.is_empty() => {
                "Nothing was found that the configuration does not have.\n".to_owned()
            }
            None if self.selected.is_empty() => "Nothing of that can be recovered as it is.\n".to_owned(),
            None if asked => "Nothing was recorded.\n".to_owned(),
            None => format!("Nothing was recorded: gnt-disk recover --yes records {what}.\n"),
        }
    }
}

fn line(remark: &Remark) -> String {
    let part = |part: &Option<String>| match part {
        Some(name) => format!("{}: ", printable(name)),
        None => String::new(),
    };
    let (node, instance) = (part(&remark.node), part(&remark.instance));
    let mut line = format!(
        "{}: {node}{instance}{}\n",
        remark.kind,
        printable(&remark.message)
    );
    if let Some(mend) = &remark.mend {
        line.push_str(&format!("  mend: {}\n", printable(mend)));
    }
    line
}
