//! `info`: an instance and its disks, as configured and as they really are.

use gnt_bdev::{Status, SyncStatus};
use gnt_cmdlib::node::{NodeError, Role};
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
    let looked = match args.only_static {
        true => Looked {
            disks: subject.disks.iter().map(|_| Look::Not).collect(),
            ..Looked::default()
        },
        false => look(context, &subject).await?,
    };
    let migrating = instance_migrates(&subject, &names);
    let attention = looked.disks.iter().any(Look::needs_attention);
    let shown = subject.disks.iter().zip(&looked.disks).map(|(disk, look)| {
        let mut fields = view::attached_disk(&subject.instance.name, disk, &names, &looked.links);
        fields.extend(look.fields(looked.on_secondary));
        fields
    });
    let instance = view::instance(&subject.instance, &subject.disks, &names, shown.collect());
    let text = details(&subject, &instance, &looked, &names).render();
    Ok(Answer::new(instance.into(), text).with_attention(interrupted || migrating || attention))
}

/// Whether it is being migrated, which is told.
fn instance_migrates(subject: &Subject, names: &NodeNames) -> bool {
    let Some(migration) = &subject.instance.migration else {
        return false;
    };
    warn(format_args!(
        "{name} is being migrated from node {} to node {}; if that was broken off, run 'gnt-disk migrate --cleanup --runs-on NODE {name}'",
        names.of(&migration.source),
        names.of(&migration.target),
        name = subject.instance.name,
    ));
    true
}

/// What was seen.
#[derive(Default)]
struct Looked {
    /// Of each disk.
    disks: Vec<Look>,
    links: Links,
    /// Whether it was seen on a secondary node.
    on_secondary: bool,
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

/// Looks at each disk on its primary node, or on a secondary one if only that can be asked. What keeps one from being seen is told, and
/// does not keep the others from it. Of the links, those count that lead to their disk.
async fn look(context: &Context, subject: &Subject) -> Result<Looked, Failure> {
    let unseen = |error: gnt_cmdlib::Error| {
        let why = gnt_cmdlib::error::chain(&error);
        warn(match error.hint() {
            Some(hint) => format!("{why}\n  hint: {hint}"),
            None => why.clone(),
        });
        let unknown = subject.disks.iter().map(|_| Look::Unknown(why.clone()));
        Looked {
            disks: unknown.collect(),
            ..Looked::default()
        }
    };
    // The primary node is the last.
    let places = match subject.places_within_reach(&context.nodes) {
        Ok(mut places) => places.pop(),
        Err(error) => return Ok(unseen(error)),
    };
    let Some(places) = places else {
        return Ok(Looked::default());
    };
    let node = context.nodes.node(&places.node)?;
    let targets = places.targets();
    let asked = async { Ok::<_, NodeError>((node.links().await?, node.find_all(&targets).await?)) };
    let (mut links, found) = match asked.await {
        Ok(told) => told,
        Err(error) => return Ok(unseen(gnt_cmdlib::Error::from(error))),
    };
    links.retain(|link| link.instance == subject.instance.name);
    let mut found = places.disks.iter().zip(found).peekable();
    let mut disks = Vec::new();
    for disk in &subject.disks {
        // One that is not there has nothing to be looked at on this node.
        let Some((placed, status)) = found.next_if(|(placed, _)| placed.uuid == disk.uuid) else {
            disks.push(Look::Not);
            continue;
        };
        let status = match status {
            Ok(Some(status)) => status,
            Ok(None) => {
                disks.push(Look::Missing);
                continue;
            }
            Err(error) => {
                let why = gnt_cmdlib::error::chain(&error);
                warn(format_args!("{disk}: {why}"));
                disks.push(Look::Unknown(why));
                continue;
            }
        };
        let idle = match places.role {
            Role::Primary | Role::Shared => {
                not_in_use(placed, &status, link_of(&links, &places.instance, disk))
            }
            Role::Secondary => status.device.path.is_none().then(|| "is not attached".to_owned()),
        };
        links.retain(|link| Some(link.index) != disk.index() || link.leads_to(&status.device));
        disks.push(match idle.filter(|_| subject.instance.disks_active) {
            Some(why) => {
                warn(format_args!("{disk} should be active, and {why}"));
                Look::Idle(status, why)
            }
            None => Look::Found(status),
        });
    }
    Ok(Looked {
        disks,
        links: Links::new(&context.settings, links),
        on_secondary: places.role == Role::Secondary,
    })
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

    fn fields(&self, on_secondary: bool) -> Object {
        let mut fields = Object::new();
        if let Some(status) = self.status() {
            fields.insert("status".to_owned(), status.into());
            let seen = match self {
                Self::Found(status) | Self::Idle(status, _) => view::status(status),
                _ => Value::Null,
            };
            let (primary, secondary) = match on_secondary {
                true => (Value::Null, Some(seen)),
                false => (seen, None),
            };
            fields.insert("pstatus".to_owned(), primary);
            fields.extend(secondary.map(|seen| ("sstatus".to_owned(), seen)));
        }
        fields
    }
}

fn details(subject: &Subject, shown: &Object, looked: &Looked, names: &NodeNames) -> Details {
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
    let disks = subject.disks.iter().zip(&looked.disks);
    let disks = disks.map(|(disk, look)| disk_details(&subject.instance.name, disk, look, looked, names));
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

fn disk_details(instance: &str, disk: &Disk, look: &Look, looked: &Looked, names: &NodeNames) -> Details {
    let label = disk.iv_name.clone().unwrap_or_else(|| disk.uuid.clone());
    let kind = format!("{}, size {}", disk.dev_type, disk.size);
    let mut entries = vec![(label, Details::text(kind))];
    let mut add = |label: &str, value: Details| entries.push((label.to_owned(), value));
    if let Some(status) = look.status() {
        add("status", Details::text(status));
    }
    if let Look::Found(status) | Look::Idle(status, _) = look {
        let seat = if looked.on_secondary {
            "on secondary"
        } else {
            "on primary"
        };
        add(seat, Details::text(device(status)));
        if status.sync != SyncStatus::OKAY {
            add("mirror", Details::text(status.sync));
        }
    }
    match look {
        Look::Idle(_, why) => add("because", Details::text(format!("it {why}"))),
        Look::Unknown(why) => add("because", Details::text(why)),
        Look::Found(_) | Look::Missing | Look::Not => {}
    }
    if let Some((link, _)) = looked.links.of(instance, disk) {
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

/// `/dev/loop0 (7:0), 1.0G`.
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
    text
}
