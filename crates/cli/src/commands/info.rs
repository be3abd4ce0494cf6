//! `info`: an instance and its disks, as configured and as they really are.

use gnt_bdev::Status;
use gnt_cmdlib::ops::Subject;
use gnt_cmdlib::verify::{link_of, not_in_use};
use gnt_cmdlib::{Node as _, Nodes as _};
use gnt_config::{Disk, Object};
use serde_json::Value;

use crate::context::{Context, warn};
use crate::details::Details;
use crate::failure::Failure;
use crate::output::Answer;
use crate::view::{self, Links, NodeNames};

const HELP: &str = "\
Each disk is looked at on its node. Its status is one of:

  ok        it is there, and in use if it should be
  missing   it is not there
  degraded  it is there, but a part of its mirror is not
  inactive  it should be in use and is not: 'gnt-disk activate' mends that
  unknown   it cannot be looked at

The exit status is 3 if one is not ok.

Examples:
  gnt-disk info web1
  gnt-disk info web1 --static
  gnt-disk --json info web1";

/// Show an instance and its disks
#[derive(Debug, clap::Args)]
#[command(after_long_help = HELP)]
pub(crate) struct Args {
    /// Name or UUID of the instance
    instance: String,
    /// Show the configuration only, do not look at the disks
    #[arg(short = 's', long = "static")]
    only_static: bool,
}

pub(crate) async fn run(context: &Context, args: Args) -> Result<Answer, Failure> {
    let subject = Subject::load(&context.store, &args.instance)?;
    let names = NodeNames::new(context.store.nodes()?);
    let interrupted = context.warn_of_interrupted()?;
    let (looked, links) = match args.only_static {
        true => (
            subject.disks.iter().map(|_| Look::Not).collect(),
            Links::default(),
        ),
        false => look(context, &subject).await?,
    };
    let attention = looked.iter().any(Look::needs_attention);
    let shown = subject.disks.iter().zip(&looked).map(|(disk, look)| {
        let mut fields = view::attached_disk(&subject.instance.name, disk, &names, &links);
        fields.extend(look.fields());
        fields
    });
    let instance = view::instance(&subject.instance, &subject.disks, &names, shown.collect());
    let text = details(&subject, &instance, &looked, &links, &names).render();
    Ok(Answer::new(instance.into(), text).with_attention(interrupted || attention))
}

/// What was seen of a disk.
enum Look {
    /// It was not looked at.
    Not,
    /// It is not there.
    Missing,
    /// It is there.
    Found(Status),
    /// It is there, but not in use although it should be; why, told already.
    Idle(Status, String),
    /// Why it could not be looked at, told already.
    Unknown(String),
}

/// Looks at each disk on its node. What keeps one from being seen is told, and does not keep the others from it. Of the links, those
/// count that lead to their disk.
async fn look(context: &Context, subject: &Subject) -> Result<(Vec<Look>, Links), Failure> {
    let node = match context.nodes.node(&subject.node.uuid) {
        Ok(node) => node,
        Err(error) => {
            let why = gnt_cmdlib::error::chain(&error);
            warn(&why);
            let looked = subject.disks.iter().map(|_| Look::Unknown(why.clone()));
            return Ok((looked.collect(), Links::default()));
        }
    };
    let mut links = node.links().await.map_err(gnt_cmdlib::Error::from)?;
    links.retain(|link| link.instance == subject.instance.name);
    let mut looked = Vec::new();
    for disk in &subject.disks {
        let place = subject.place(disk)?;
        let status = match node.find(&place.disk, &place.instance).await {
            Ok(Some(status)) => status,
            Ok(None) => {
                looked.push(Look::Missing);
                continue;
            }
            Err(error) => {
                let why = gnt_cmdlib::error::chain(&error);
                warn(format_args!("{disk}: {why}"));
                looked.push(Look::Unknown(why));
                continue;
            }
        };
        let link = link_of(&links, &place.instance, disk);
        let idle = not_in_use(&place.disk, &status, link).filter(|_| subject.instance.disks_active);
        links.retain(|link| Some(link.index) != disk.index() || link.leads_to(&status.device));
        looked.push(match idle {
            Some(why) => {
                warn(format_args!("{disk} should be active, and {why}"));
                Look::Idle(status, why)
            }
            None => Look::Found(status),
        });
    }
    Ok((looked, Links::new(&context.settings, links)))
}

impl Look {
    fn status(&self) -> Option<&'static str> {
        Some(match self {
            Self::Not => return None,
            Self::Missing => "missing",
            Self::Unknown(_) => "unknown",
            Self::Found(status) | Self::Idle(status, _) if status.sync.is_degraded => "degraded",
            Self::Idle(..) => "inactive",
            Self::Found(_) => "ok",
        })
    }

    fn needs_attention(&self) -> bool {
        !matches!(self.status(), None | Some("ok"))
    }

    fn fields(&self) -> Object {
        let mut fields = Object::new();
        if let Some(status) = self.status() {
            fields.insert("status".to_owned(), status.into());
            let seen = match self {
                Self::Found(status) | Self::Idle(status, _) => view::status(status),
                _ => Value::Null,
            };
            fields.insert("pstatus".to_owned(), seen);
        }
        fields
    }
}

fn details(subject: &Subject, shown: &Object, looked: &[Look], links: &Links, names: &NodeNames) -> Details {
    let text = |key: &str| Details::maybe(shown.get(key).and_then(Value::as_str));
    let secondaries = shown
        .get("snodes")
        .and_then(Value::as_array)
        .into_iter()
        .flatten();
    let secondaries: Vec<&str> = secondaries.filter_map(Value::as_str).collect();
    let active = if subject.instance.disks_active {
        "yes"
    } else {
        "no"
    };
    let disks = subject.disks.iter().zip(looked);
    let disks = disks.map(|(disk, look)| disk_details(&subject.instance.name, disk, look, links, names));
    Details::map([
        ("Instance name", text("name")),
        ("UUID", text("uuid")),
        ("Disk template", text("disk_template")),
        (
            "Nodes",
            Details::List(vec![
                Details::map([("primary", text("pnode"))]),
                Details::map([("secondaries", Details::text(secondaries.join(", ")))]),
            ]),
        ),
        ("Disks active", Details::text(active)),
        ("Disks", Details::List(disks.collect())),
    ])
}

fn disk_details(instance: &str, disk: &Disk, look: &Look, links: &Links, names: &NodeNames) -> Details {
    let label = disk.iv_name.clone().unwrap_or_else(|| disk.uuid.clone());
    let kind = format!("{}, size {}", disk.dev_type, disk.size);
    let mut entries = vec![(label, Details::text(kind))];
    let mut add = |label: &str, value: Details| entries.push((label.to_owned(), value));
    if let Some(status) = look.status() {
        add("status", Details::text(status));
    }
    match look {
        Look::Found(status) => add("on primary", Details::text(device(status))),
        Look::Idle(status, why) => {
            add("on primary", Details::text(device(status)));
            add("because", Details::text(format!("it {why}")));
        }
        Look::Unknown(why) => add("because", Details::text(why)),
        Look::Missing | Look::Not => {}
    }
    if let Some((link, _)) = links.of(instance, disk) {
        add("link", Details::text(link.display()));
    }
    add("access mode", Details::maybe(disk.mode));
    add("logical_id", Details::text(&disk.logical_id));
    add("name", Details::maybe(disk.name.as_ref()));
    add("UUID", Details::text(&disk.uuid));
    if !disk.nodes.is_empty() {
        add(
            "nodes",
            Details::text(
                disk.nodes
                    .iter()
                    .map(|node| names.of(node))
                    .collect::<Vec<_>>()
                    .join(", "),
            ),
        );
    }
    if !disk.params.is_empty() {
        add("params", Details::json(&view::params(&disk.params).into()));
    }
    if !disk.children.is_empty() {
        let child = |disk: &Disk| format!("{}, size {}, {}", disk.dev_type, disk.size, disk.logical_id);
        add("child devices", Details::list(disk.children.iter().map(child)));
    }
    Details::Map(entries)
}

/// `/dev/loop0 (7:0), 1.0G, in sync`.
fn device(status: &Status) -> String {
    let device = &status.device;
    let mut text = match (&device.path, device.uris.as_slice()) {
        (Some(path), _) => path.display().to_string(),
        (None, []) => return "not active".to_owned(),
        (None, uris) => uris
            .iter()
            .map(|uri| uri.uri.as_str())
            .collect::<Vec<_>>()
            .join(" "),
    };
    if let (Some(major), Some(minor)) = (device.major, device.minor) {
        text.push_str(&format!(" ({major}:{minor})"));
    }
    if let Some(bytes) = device.bytes {
        text.push_str(&format!(", {}", view::bytes(bytes)));
    }
    if let Some(percent) = status.sync.sync_percent {
        text.push_str(&format!(", {percent:.1}% in sync"));
    }
    if let Some(seconds) = status.sync.estimated_time {
        text.push_str(&format!(", {seconds} s to go"));
    }
    text
}
