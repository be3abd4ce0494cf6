//! Asking LVM, and remembering the answer while a batch lasts.

use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use gnt_process::Command;

use super::commands;
use super::error::{LvmError, classify};
use super::report::{self, LogicalVolume, PhysicalVolume};
use crate::host::Host;
use crate::tool::{self, ToolError};

/// What LVM told during a [`Host::batch`]: failures too, as a tool that hangs should hang once.
#[derive(Debug, Default)]
pub(crate) struct Cache(Mutex<Told>);

#[derive(Debug, Default)]
struct Told {
    volumes: Option<Answer<LogicalVolume>>,
    pvs: Option<Answer<PhysicalVolume>>,
}

type Answer<T> = Result<Arc<[T]>, Arc<ToolError>>;

impl Cache {
    fn told(&self) -> MutexGuard<'_, Told> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// Every logical volume of the node.
pub(super) fn logical_volumes(host: &Host) -> Result<Arc<[LogicalVolume]>, LvmError> {
    remembered(
        host,
        |told| &mut told.volumes,
        || ask(host, &commands::logical_volumes(), report::logical_volumes),
    )
}

/// Every physical volume of the node that is in a group.
pub(super) fn physical_volumes(host: &Host) -> Result<Arc<[PhysicalVolume]>, LvmError> {
    remembered(
        host,
        |told| &mut told.pvs,
        || ask(host, &commands::physical_volumes(), report::physical_volumes),
    )
}

/// Every physical volume of the node, also those in no group.
pub(super) fn all_physical_volumes(host: &Host) -> Result<Arc<[PhysicalVolume]>, LvmError> {
    ask(host, &commands::physical_volumes(), report::all_physical_volumes).map_err(LvmError::Tool)
}

/// Asks whether something could be changed.
pub(super) fn try_out(host: &Host, command: &Command) -> Result<(), LvmError> {
    tool::run(host, command, classify)?;
    Ok(())
}

/// Changes something, whereupon nothing that was told before counts any more.
pub(super) fn change(host: &Host, command: &Command) -> Result<(), LvmError> {
    let changed = tool::run(host, command, classify);
    if let Some(cache) = &host.lvm {
        *cache.told() = Told::default();
    }
    changed?;
    Ok(())
}

fn remembered<T>(
    host: &Host,
    place: impl Fn(&mut Told) -> &mut Option<Answer<T>>,
    ask: impl FnOnce() -> Answer<T>,
) -> Result<Arc<[T]>, LvmError> {
    let Some(cache) = &host.lvm else {
        return ask().map_err(LvmError::Tool);
    };
    let mut told = cache.told();
    let answer = place(&mut told).get_or_insert_with(ask);
    answer.clone().map_err(LvmError::Tool)
}

fn ask<T>(
    host: &Host,
    command: &Command,
    parse: impl FnOnce(&str) -> Result<Vec<T>, serde_json::Error>,
) -> Answer<T> {
    let output = tool::run(host, command, classify)?;
    let parsed = parse(&output.stdout.text());
    let parsed = parsed.map_err(|error| ToolError::output(command, &output, error))?;
    Ok(parsed.into())
}
