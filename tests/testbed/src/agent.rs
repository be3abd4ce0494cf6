//! The inside of a guest: answers requests until the guest goes off.

use std::collections::BTreeSet;
use std::fs;
use std::io;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, PoisonError};
use std::thread;
use std::time::{Duration, Instant};

use gnt_bdev::{BlockDevice, FoundVolume, Host, Target, driver, tree};
use gnt_config::{Disk, Mebibytes};
use gnt_process::{Command, DryRun, Effect, RunError, Runner, System};
use serde_json::Value;

use crate::error::{Error, Refused};
use crate::inventory;
use crate::script;
use crate::wire::{
    Action, ActionOnAll, Answer, Assembled, Call, NodeForm, Program, Request, VolumeForm, json,
};

/// How often it looks for requests: while there are any, and after a second without.
const BUSY: Duration = Duration::from_millis(2);
const IDLE: Duration = Duration::from_millis(10);

/// Answers what comes into `spool`, every request in a thread of its own.
///
/// # Errors
/// When the spool directory cannot be read any more.
pub fn run(spool: &Path) -> Result<(), Error> {
    answer_all(spool).map_err(Error::file(spool))
}

fn answer_all(spool: &Path) -> io::Result<()> {
    let at_boot = Arc::new(inventory::kernel());
    fs::write(spool.join("ready"), "")?;
    let mut last = Instant::now();
    loop {
        for entry in fs::read_dir(spool)? {
            let path = entry?.path();
            if path.extension().is_some_and(|extension| extension == "request") {
                last = Instant::now();
                let text = fs::read_to_string(&path)?;
                fs::remove_file(&path)?;
                let at_boot = Arc::clone(&at_boot);
                thread::spawn(move || serve(&path, &text, &at_boot));
            }
        }
        let busy = last.elapsed() < Duration::from_secs(1);
        thread::sleep(if busy { BUSY } else { IDLE });
    }
}

fn serve(path: &Path, request: &str, at_boot: &BTreeSet<String>) {
    let written = (|| {
        let answer = answer(serde_json::from_str(request)?, at_boot)?;
        let unfinished = path.with_extension("unfinished");
        fs::write(&unfinished, serde_json::to_string(&answer)?)?;
        fs::rename(&unfinished, path.with_extension("answer"))
    })();
    if let Err(error) = written {
        let text = format!("the request {} cannot be answered: {error}\n", path.display());
        // On the console: whoever waits for the answer shows it.
        let _ = fs::write("/dev/console", text);
    }
}

fn answer(request: Request, at_boot: &BTreeSet<String>) -> io::Result<Answer> {
    match request {
        Request::Script { script, timeout } => {
            let timeout = Duration::from_secs_f64(timeout);
            let output = script::run(&[], &script, timeout).map_err(io::Error::other)?;
            Ok(Answer::of(output))
        }
        Request::Inventory => {
            let there = inventory::take();
            Ok(Answer::of(there.difference(at_boot).collect::<Vec<_>>()))
        }
        Request::Storage { node, call } => Ok(storage(&node, &call)),
    }
}

fn storage(node: &NodeForm, call: &Call) -> Answer {
    let recorder = Arc::new(Recorder {
        timeout: node.program_timeout.map(Duration::from_secs_f64),
        ..Recorder::default()
    });
    let dry_run = Arc::new(DryRun::new(System));
    let mut host = match node.dry_run {
        false => Host::new(
            &node.name,
            &node.settings,
            &node.state,
            Arc::<Recorder>::clone(&recorder),
        ),
        true => Host::dry_run(&node.name, &node.settings, &node.state, Arc::clone(&dry_run)),
    };
    host.exclusive_storage = node.exclusive_storage;
    let result = match call {
        Call::Disk {
            disk,
            instance,
            action,
        } => on_disk(&host, disk, instance, action),
        Call::Disks {
            disks,
            instance,
            action,
        } => Ok(on_disks(&host, disks, instance, action)),
        Call::Volumes { device, params } => tree::volumes(&host, *device, params)
            .map(|found| json(found.into_iter().map(volume).collect::<Vec<_>>())),
        Call::Units { kind } => gnt_bdev::storage::storage_units(&host, *kind, &[], None, false).map(json),
        Call::SetAllocatable { pv, allocatable } => {
            gnt_bdev::storage::set_allocatable(&host, pv, *allocatable).map(json)
        }
        Call::RemoveMissing { vg } => gnt_bdev::storage::remove_missing(&host, vg).map(json),
    };
    Answer {
        result: result.map_err(|error| Refused::new(&node.name, &error)),
        programs: recorder.take(),
        noted: dry_run.changes(),
    }
}

fn on_disk(host: &Host, disk: &Disk, instance: &str, action: &Action) -> Result<Value, gnt_bdev::Error> {
    let target = Target::new(disk, instance);
    let driver = || driver(disk.dev_type);
    let with_children = |work: &dyn Fn(&Target<'_>) -> Result<Value, gnt_bdev::Error>| {
        work(&target.with_children(&children(host, &target)?))
    };
    Ok(match action {
        Action::Check { operation } => json(tree::check(host, &target, *operation)?),
        Action::Create { info } => json(tree::create(host, &target, info)?),
        Action::Find => json(tree::find(host, &target)?),
        Action::MirrorStatus => json(tree::mirror_status(host, &target)?),
        Action::Assemble { activation } => json(assembled(
            host,
            tree::assemble(host, &target, activation.activation())?,
        )),
        Action::Open { exclusive } => json(tree::open(host, &target, *exclusive)?),
        Action::Close => json(tree::close(host, &target)?),
        Action::Shutdown => json(tree::shutdown(host, &target)?),
        Action::Grow { to, dry_run, layer } => json(tree::grow(host, &target, *to, *dry_run, *layer)?),
        Action::Remove => json(tree::remove(host, &target)?),
        Action::Rename { to } => json(tree::rename(host, &target, &to.logical_id)?),
        Action::SetInfo { text } => json(tree::set_info(host, &target, text)?),
        Action::Snapshot { name, size } => {
            let id = tree::snapshot(host, &target, name, *size)?;
            let copied = disk.children.first().unwrap_or(disk);
            json(Disk::new(copied.dev_type, id, *size))
        }
        Action::ConvertTo { disk } => json(gnt_bdev::transfer::convert(
            host,
            &target,
            &Target::new(disk, instance),
        )?),
        Action::ActualSize => json(tree::actual_size(host, &target)?),
        Action::AddChildren => with_children(&|target| Ok(json(driver()?.add_children(host, target)?)))?,
        Action::RemoveChildren => {
            with_children(&|target| Ok(json(driver()?.remove_children(host, target)?)))?
        }
        Action::PauseSync => with_children(&|target| Ok(json(driver()?.pause_sync(host, target)?)))?,
        Action::ResumeSync => with_children(&|target| Ok(json(driver()?.resume_sync(host, target)?)))?,
        Action::DisconnectNet => with_children(&|target| Ok(json(driver()?.disconnect_net(host, target)?)))?,
        Action::WaitSync => json(tree::wait_sync(host, &[target])?),
        Action::NeedsActivation => json(tree::needs_activation(host, &[target])?),
        Action::AttachNet { multimaster } => {
            with_children(&|target| Ok(json(driver()?.attach_net(host, target, *multimaster)?)))?
        }
    })
}

fn on_disks(host: &Host, disks: &[Disk], instance: &str, action: &ActionOnAll) -> Value {
    let targets: Vec<_> = disks.iter().map(|disk| Target::new(disk, instance)).collect();
    let refused = |error: gnt_bdev::Error| Refused::new(&host.name, &error);
    match action {
        ActionOnAll::Find => {
            let found = tree::find_all(host, &targets).into_iter();
            json(found.map(|found| found.map_err(refused)).collect::<Vec<_>>())
        }
        ActionOnAll::Assemble { activation } => {
            let all = tree::assemble_all(host, &targets, activation.activation()).into_iter();
            let all = all.map(|one| one.map(|one| assembled(host, one)).map_err(refused));
            json(all.collect::<Vec<_>>())
        }
    }
}

fn assembled(host: &Host, assembled: gnt_bdev::Assembled) -> Assembled {
    let warnings = assembled.warnings.iter();
    Assembled {
        warnings: warnings.map(|error| Refused::new(&host.name, error)).collect(),
        device: assembled.device,
        link: assembled.link,
        uri: assembled.uri,
    }
}

fn children(host: &Host, target: &Target<'_>) -> Result<Vec<Option<BlockDevice>>, gnt_bdev::Error> {
    let children = target.disk.children.iter();
    let found = children.map(|child| tree::find(host, &Target::new(child, target.instance)));
    found
        .map(|status| Ok(status?.map(|status| status.device)))
        .collect()
}

fn volume(found: FoundVolume) -> VolumeForm {
    VolumeForm {
        disk: Disk::new(
            found.device,
            found.logical_id,
            found.bytes.map_or(Mebibytes(0), Mebibytes::from_bytes),
        ),
        bytes: found.bytes,
        owner: found.owner,
    }
}

/// Runs programs and remembers which.
#[derive(Default)]
struct Recorder {
    /// Even those that may run longer end then.
    timeout: Option<Duration>,
    programs: Mutex<Vec<Program>>,
}

impl Recorder {
    fn take(&self) -> Vec<Program> {
        std::mem::take(&mut self.programs.lock().unwrap_or_else(PoisonError::into_inner))
    }
}

impl Runner for Recorder {
    fn run(&self, command: &Command) -> Result<gnt_process::Output, RunError> {
        let started = Instant::now();
        let result = match self.timeout.filter(|limit| *limit < command.get_timeout()) {
            Some(limit) => System.run(&command.clone().timeout(limit)),
            None => System.run(command),
        };
        let name = PathBuf::from(command.get_program());
        let program = Program {
            name: name
                .file_name()
                .unwrap_or_default()
                .to_string_lossy()
                .into_owned(),
            line: command.to_string(),
            changes: command.effect() == Effect::Change,
            seconds: started.elapsed().as_secs_f64(),
        };
        let mut programs = self.programs.lock().unwrap_or_else(PoisonError::into_inner);
        programs.push(program);
        result
    }
}
