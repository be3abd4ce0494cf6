//! `cluster`: what holds for the whole cluster.

use std::net::IpAddr;
use std::path::PathBuf;

use gnt_cmdlib::init;
use gnt_cmdlib::ops::cluster::{ClusterChange, ClusterSettings, modify};
use gnt_cmdlib::ops::node::{NodeInfo, set_addresses};
use gnt_config::objects::EXCLUSIVE_STORAGE;
use gnt_config::params::DiskParams;
use gnt_config::{DiskTemplate, Object, names, template};
use gnt_store::Store;
use serde_json::{Value, json};

use crate::args::{Global, template_parser, yes_or_no};
use crate::context::{Context, DEFAULT_CLUSTER, host_name, state_directory};
use crate::details::Details;
use crate::disk_arg;
use crate::failure::Failure;
use crate::output::Answer;
use crate::view::{self, NodeNames};

/// Make, show or change the cluster
#[derive(Debug, clap::Subcommand)]
pub(crate) enum Command {
    Init(InitArgs),
    Info(InfoArgs),
    Modify(ModifyArgs),
}

const INIT_HELP: &str = "\
The first 'gnt-disk add' makes a cluster too, if there is none, with a name and settings that do for one machine. All that is \
written lies below the state directory, unless you choose other directories.

Examples:
  gnt-disk cluster init
  gnt-disk cluster init --name lab --file-storage-dir /srv/instances
  gnt-disk cluster init --vg-name vg0 --enabled-disk-templates plain,ext
  gnt-disk cluster init --node node1 --primary-ip 192.0.2.1 -s 198.51.100.1
  gnt-disk --state /tmp/try cluster init";

/// Make a cluster of this node in the state directory
#[derive(Debug, clap::Args)]
#[command(after_long_help = INIT_HELP)]
pub(crate) struct InitArgs {
    /// Name of the cluster
    #[arg(long, default_value = DEFAULT_CLUSTER)]
    name: String,
    /// Name of this node; by default what the machine is called
    #[arg(long)]
    node: Option<String>,
    /// Address of this node, at which others reach it; needed before there are others
    #[arg(long, value_name = "ADDRESS")]
    primary_ip: Option<IpAddr>,
    /// Address over which disks are replicated; by default the same
    #[arg(short, long, value_name = "ADDRESS", requires = "primary_ip")]
    secondary_ip: Option<IpAddr>,
    #[command(flatten)]
    settings: SettingsArgs,
}

/// Show the cluster, its nodes and its settings
#[derive(Debug, clap::Args)]
pub(crate) struct InfoArgs {}

const MODIFY_HELP: &str = "\
Several changes are made together, or none.

Examples:
  gnt-disk cluster modify --search-path /srv/ganeti/extstorage:/opt/es
  gnt-disk cluster modify --enabled-disk-templates file,ext
  gnt-disk cluster modify --add-file-storage-path /srv --file-storage-dir /srv/i
  gnt-disk cluster modify -D drbd:resync-rate=100000,metavg=fast";

/// Change the cluster's settings
#[derive(Debug, clap::Args)]
#[command(after_long_help = MODIFY_HELP)]
pub(crate) struct ModifyArgs {
    #[command(flatten)]
    settings: SettingsArgs,
    /// Enable one more disk template
    #[arg(long, value_name = "TEMPLATE", value_parser = template_parser())]
    enable_template: Vec<DiskTemplate>,
    /// Disable a disk template that no disk has
    #[arg(long, value_name = "TEMPLATE", value_parser = template_parser())]
    disable_template: Vec<DiskTemplate>,
    /// Allow file-based disks below this directory no longer
    #[arg(long, value_name = "DIR")]
    remove_file_storage_path: Vec<PathBuf>,
    /// Which of the nodes this machine is, where it is not the one that its name or 'cluster init' says
    #[arg(long, value_name = "NODE")]
    this_node: Option<String>,
}

/// What can be chosen at the beginning and later.
#[derive(Debug, clap::Args)]
struct SettingsArgs {
    /// Directories in which External Storage providers are searched for, in this order
    #[arg(long, value_name = "DIR:DIR…")]
    search_path: Option<String>,
    /// Disk templates that new disks may have; the first is the default
    #[arg(long, value_name = "TEMPLATE,…", value_delimiter = ',', value_parser = template_parser())]
    enabled_disk_templates: Option<Vec<DiskTemplate>>,
    /// Default volume group of plain and drbd disks
    #[arg(long, value_name = "VG")]
    vg_name: Option<String>,
    /// Disk parameters of a template; the value 'default' unsets one
    #[arg(short = 'D', long = "disk-parameters", value_name = "TEMPLATE:KEY=VALUE,…")]
    disk_parameters: Vec<String>,
    /// Longest run of an External Storage script, in seconds
    #[arg(long, value_name = "SECONDS")]
    es_timeout: Option<u64>,
    /// Allow file-based disks below this directory
    #[arg(long, value_name = "DIR")]
    add_file_storage_path: Vec<PathBuf>,
    /// Directory of file disks; it must be allowed
    #[arg(long, value_name = "DIR")]
    file_storage_dir: Option<PathBuf>,
    /// Directory of sharedfile disks; it must be allowed
    #[arg(long, value_name = "DIR")]
    shared_file_storage_dir: Option<PathBuf>,
    /// Whether each plain disk has physical disks of its volume group for itself
    #[arg(long, value_name = "YES|NO", ignore_case = true, value_parser = yes_or_no())]
    exclusive_storage: Option<bool>,
    /// Directory in which the Gluster volume is mounted
    #[arg(long, value_name = "DIR")]
    gluster_storage_dir: Option<PathBuf>,
}

impl SettingsArgs {
    fn changes(&self) -> Result<Vec<ClusterChange>, Failure> {
        let mut changes: Vec<_> = self
            .add_file_storage_path
            .iter()
            .cloned()
            .map(ClusterChange::AddFileStoragePath)
            .collect();
        let gluster = self
            .gluster_storage_dir
            .iter()
            .map(|dir| (DiskTemplate::Gluster, dir));
        let dirs = self.storage_dirs().chain(gluster);
        changes.extend(dirs.map(|(template, dir)| ClusterChange::StorageDir(template, dir.clone())));
        if let Some(dirs) = &self.search_path {
            let dirs = dirs.split(':').filter(|dir| !dir.is_empty());
            changes.push(ClusterChange::SearchPath(dirs.map(PathBuf::from).collect()));
        }
        changes.extend(
            self.enabled_disk_templates
                .clone()
                .map(ClusterChange::EnabledTemplates),
        );
        changes.extend(self.vg_name.clone().map(ClusterChange::VolumeGroup));
        changes.extend(self.exclusive_storage.map(ClusterChange::ExclusiveStorage));
        changes.extend(self.es_timeout.map(ClusterChange::EsTimeout));
        for argument in &self.disk_parameters {
            let (template, values) = disk_arg::disk_params(argument)?;
            changes.push(ClusterChange::DiskParams(template, values));
        }
        Ok(changes)
    }

    fn storage_dirs(&self) -> impl Iterator<Item = (DiskTemplate, &PathBuf)> {
        let file = self.file_storage_dir.iter().map(|dir| (DiskTemplate::File, dir));
        file.chain(
            self.shared_file_storage_dir
                .iter()
                .map(|dir| (DiskTemplate::SharedFile, dir)),
        )
    }
}

pub(crate) async fn run(global: &Global, command: Command) -> Result<Answer, Failure> {
    match command {
        Command::Init(args) => make(global, &args),
        Command::Info(InfoArgs {}) => {
            let context = Context::open(global)?;
            let settings = ClusterSettings::load(&context.store)?;
            let (json, text) = show(&context, &settings)?;
            Ok(Answer::new(json, text))
        }
        Command::Modify(args) => change(&Context::open(global)?, &args).await,
    }
}

fn make(global: &Global, args: &InitArgs) -> Result<Answer, Failure> {
    let state = state_directory(global)?;
    let node = args.node.clone().unwrap_or_else(host_name);
    for name in [&args.name, &node] {
        names::host(name).map_err(gnt_cmdlib::Error::from)?;
    }
    // Directories that are chosen at the beginning are allowed by that.
    let allowed = args
        .settings
        .storage_dirs()
        .map(|(_, dir)| ClusterChange::AddFileStoragePath(dir.clone()));
    // So is the volume group of DRBD's metadata, unless there is another for it (`gnt-cluster init`).
    let metavg = args.settings.vg_name.iter().map(|vg| {
        let params = Object::from_iter([("metavg".to_owned(), vg.as_str().into())]);
        ClusterChange::DiskParams(DiskTemplate::Drbd, params)
    });
    let changes: Vec<_> = allowed.chain(metavg).chain(args.settings.changes()?).collect();
    let prepare = |store: &Store| -> Result<(), Failure> {
        init::init(store, &state, &args.name, &node)?;
        if let Some(address) = args.primary_ip {
            set_addresses(store, &node, address, args.secondary_ip)?;
        }
        modify(store, &changes, false)?;
        Ok(())
    };
    // What cannot be is found out before anything is written.
    prepare(&Store::in_memory()?)?;
    let exists = Context::has_cluster(&state)?;
    if exists {
        return Err(Failure::Initialised { state });
    }
    Context::ensure_no_mere_node(&state)?;
    if global.dry_run {
        let line = format!(
            "# make a cluster {} of the node {node} in {}",
            args.name,
            state.display()
        );
        let lines: Vec<String> = [line]
            .into_iter()
            .chain(changes.iter().map(|change| format!("# {change}")))
            .collect();
        return Ok(Answer::dry_run(&lines));
    }
    prepare(&Store::open(&state)?)?;
    let context = Context::open(global)?;
    let (json, _) = show(&context, &ClusterSettings::load(&context.store)?)?;
    Ok(Answer::new(json, ""))
}

async fn change(context: &Context, args: &ModifyArgs) -> Result<Answer, Failure> {
    let mut changes = args.settings.changes()?;
    changes.extend(
        args.enable_template
            .iter()
            .copied()
            .map(ClusterChange::EnableTemplate),
    );
    changes.extend(
        args.disable_template
            .iter()
            .copied()
            .map(ClusterChange::DisableTemplate),
    );
    let removed = args.remove_file_storage_path.iter().cloned();
    changes.extend(removed.map(ClusterChange::RemoveFileStoragePath));
    if changes.is_empty() && args.this_node.is_none() {
        return Err(
            Failure::usage("nothing to change was given").with_hint("see gnt-disk cluster modify --help")
        );
    }
    let this_node = args
        .this_node
        .as_ref()
        .map(|key| NodeInfo::load(&context.store, key));
    let this_node = this_node.transpose()?.map(|info| info.node);
    let settings = modify(&context.store, &changes, context.is_dry_run())?;
    if let Some(node) = this_node {
        match context.is_dry_run() {
            true => context.note(format!("# take this machine for node {}", node.name)),
            false => context.store.set_this_node(&node.uuid)?,
        }
    }
    changes
        .iter()
        .for_each(|change| context.note(format!("# {change}")));
    match context.noted() {
        Some(noted) => Ok(noted),
        None => {
            let attention = !changes.is_empty() && context.tell_nodes(None).await?;
            Ok(Answer::new(show(context, &settings)?.0, "").with_attention(attention))
        }
    }
}

fn show(context: &Context, settings: &ClusterSettings) -> Result<(Value, String), Failure> {
    let ClusterSettings {
        cluster, settings, ..
    } = settings;
    let nodes = context.store.nodes()?;
    let names = NodeNames::new(nodes.clone());
    let shown_nodes: Vec<String> = nodes
        .iter()
        .map(|node| match (node.offline, node.drained) {
            (true, _) => format!("{} (offline)", node.name),
            (_, true) => format!("{} (drained)", node.name),
            _ => node.name.clone(),
        })
        .collect();
    let node_names: Vec<&str> = nodes.iter().map(|node| node.name.as_str()).collect();
    let paths = |paths: &[PathBuf]| {
        paths
            .iter()
            .map(|dir| dir.to_string_lossy().into_owned())
            .collect::<Vec<_>>()
    };
    let (search_path, file_paths) = (
        paths(&settings.es_search_path),
        paths(&settings.file_storage_paths),
    );
    let templates: Vec<&str> = cluster
        .enabled_disk_templates
        .iter()
        .map(|template| template.as_str())
        .collect();
    let effective = DiskParams::layered([&cluster.diskparams]).map_err(gnt_cmdlib::Error::from)?;
    let params = |params: &DiskParams| -> Vec<(DiskTemplate, Object)> {
        let of = |template| (template, params.get(template));
        template::ALL
            .iter()
            .map(of)
            .filter(|(_, params)| !params.is_empty())
            .collect()
    };
    let effective = params(&effective);
    let diskparams: Object = effective
        .iter()
        .map(|(template, params)| (template.to_string(), params.clone().into()))
        .collect();
    let json = json!({
        "name": cluster.cluster_name, "uuid": cluster.uuid, "master": names.of(&cluster.master_node),
        "nodes": node_names, "enabled_disk_templates": templates, "volume_group_name": cluster.volume_group_name,
        "es_search_path": search_path, "file_storage_paths": file_paths,
        "file_storage_dir": cluster.file_storage_dir, "shared_file_storage_dir": cluster.shared_file_storage_dir,
        "gluster_storage_dir": cluster.gluster_storage_dir, "disk_links_dir": view::path(&settings.disk_links_dir),
        "es_log_dir": view::path(&settings.es_log_dir), "es_timeout": settings.es_timeout,
        "diskparams": diskparams, "ndparams": cluster.ndparams, "state_dir": view::path(&context.state), "software_version": env!("CARGO_PKG_VERSION"),
    });
    let exclusive = cluster.ndparams.get(EXCLUSIVE_STORAGE).and_then(Value::as_bool);
    let exclusive = if exclusive == Some(true) { "yes" } else { "no" };
    let details = Details::map([
        ("Cluster name", Details::text(&cluster.cluster_name)),
        ("Cluster UUID", Details::text(&cluster.uuid)),
        ("Master node", Details::text(names.of(&cluster.master_node))),
        ("Nodes", Details::text(shown_nodes.join(", "))),
        ("State directory", Details::text(context.state.display())),
        ("Software version", Details::text(env!("CARGO_PKG_VERSION"))),
        (
            "Cluster parameters",
            Details::map([
                ("enabled disk templates", Details::text(templates.join(", "))),
                (
                    "lvm volume group",
                    Details::maybe(cluster.volume_group_name.as_ref()),
                ),
                ("exclusive storage", Details::text(exclusive)),
                (
                    "ExtStorage Providers search path",
                    Details::text(search_path.join(", ")),
                ),
                (
                    "ExtStorage Providers log directory",
                    Details::text(settings.es_log_dir.display()),
                ),
                (
                    "ExtStorage Providers timeout",
                    Details::text(format!("{} s", settings.es_timeout)),
                ),
                ("file storage paths", Details::text(file_paths.join(", "))),
                ("file storage directory", Details::text(&cluster.file_storage_dir)),
                (
                    "shared file storage directory",
                    Details::text(&cluster.shared_file_storage_dir),
                ),
                (
                    "gluster storage directory",
                    Details::text(&cluster.gluster_storage_dir),
                ),
                (
                    "device links directory",
                    Details::text(settings.disk_links_dir.display()),
                ),
            ]),
        ),
        (
            "Disk parameters",
            params_details(&effective, &params(&DiskParams::default())),
        ),
    ]);
    Ok((json, details.render()))
}

/// The parameters of each template; those that are not the default say what that is.
fn params_details(effective: &[(DiskTemplate, Object)], defaults: &[(DiskTemplate, Object)]) -> Details {
    let text = |value: &Value| match value {
        Value::String(text) => text.clone(),
        other => other.to_string(),
    };
    let templates = effective.iter().map(|(template, params)| {
        let defaults = defaults
            .iter()
            .find(|(other, _)| other == template)
            .map(|(_, params)| params);
        let entries = params.iter().map(|(key, value)| {
            let default = defaults.and_then(|params| params.get(key));
            let shown = match default {
                Some(default) if default == value => Details::text(text(value)),
                Some(default) => Details::text(format!("{} (default {})", text(value), text(default))),
                None => Details::text(format!("{} (default unset)", text(value))),
            };
            (key.clone(), shown)
        });
        (template.to_string(), Details::map(entries))
    });
    Details::map(templates)
}
