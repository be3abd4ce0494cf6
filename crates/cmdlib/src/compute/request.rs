//! What a user's wishes must fulfil before disks are generated from them. Ganeti's command line, opcodes and operations each
//! check a part; here it is one function, so that no caller leaves a part out.

use std::collections::HashMap;

use gnt_config::device::DEFAULT_PROVIDER;
use gnt_config::names::{self, NameError};
use gnt_config::params::ExtVolumeParams;
use gnt_config::template::{self, DiskTemplate};
use gnt_config::{Mebibytes, Object};
use serde_json::Value;

use super::wish::{ADOPT, KEYS, Key, METAVG, NAME, PROVIDER, SIZE, SPINDLES, TYPE, VG, Wish};
use super::{ComputeError, DiskSpec};

/// Checks and types what a user wishes for: disks of one template, of which the first gets index `base_index`. As
/// [`compute_disks`](super::compute_disks), and besides:
/// - `size` may have a unit (`2G`); it is not 0, and left out exactly when a volume is adopted;
/// - the provider of an ext disk is `ext` unless it is named;
/// - a key that means nothing to the template is refused, not left out;
/// - names, volume groups, providers, adopted volumes and ext parameters are such as can exist;
/// - no two disks have one name or adopt one volume, and all are adopted or none;
/// - an LVM disk has a volume group, and a diskless instance has no disks.
pub fn check_requests(
    base_index: u32,
    requests: &[Object],
    template: DiskTemplate,
    default_vg: Option<&str>,
) -> Result<Vec<DiskSpec>, ComputeError> {
    let mut specs = Vec::with_capacity(requests.len());
    for (at, request) in requests.iter().enumerate() {
        let disk = index(base_index, at);
        let wish = |request| Wish {
            disk,
            template,
            request,
        };
        let spec = DiskSpec::read(wish(&normal(wish(request))?), default_vg)?;
        if template::LVM.contains(template) && spec.vg.is_none() {
            return Err(ComputeError::NoVolumeGroup { disk });
        }
        if template::HAVE_PROVIDER.contains(template) {
            ExtVolumeParams::from_object(&spec.params())
                .map_err(|source| ComputeError::Param { disk, source })?;
        }
        specs.push(spec);
    }
    check_together(base_index, &specs)?;
    Ok(specs)
}

fn index(base_index: u32, at: usize) -> u32 {
    base_index.saturating_add(u32::try_from(at).unwrap_or(u32::MAX))
}

/// The request with each key checked, in the form that `ComputeDisks` takes.
fn normal(wish: Wish<'_>) -> Result<Object, ComputeError> {
    let template = wish.template;
    if template.device().is_none() {
        return Err(ComputeError::Diskless { disk: wish.disk });
    }
    for name in wish.request.keys() {
        match Key::known(name) {
            Some(key) if !key.only.contains(template) => return Err(wish.wrong_template(key)),
            None if !template::HAVE_PROVIDER.contains(template) => return Err(unknown_key(wish, name)),
            _ => {}
        }
    }
    if wish
        .parsed::<DiskTemplate>(TYPE)?
        .is_some_and(|other| other != template)
    {
        return Err(wish.invalid(TYPE));
    }
    wish.check(NAME, disk_name)?;
    wish.check(VG, names::volume_group)?;
    wish.check(METAVG, names::volume_group)?;
    wish.check(PROVIDER, names::provider)?;
    match template::MUST_ADOPT.contains(template) {
        true => wish.check(ADOPT, device_path)?,
        false => wish.check(ADOPT, names::logical_volume)?,
    }

    let mut request = wish.request.clone();
    request.insert(SIZE.name.to_owned(), size(wish)?.0.into());
    if template::HAVE_PROVIDER.contains(template) && wish.value(PROVIDER.name).is_none() {
        request.insert(PROVIDER.name.to_owned(), DEFAULT_PROVIDER.into());
    }
    Ok(request)
}

const EXPECTED_SIZE: &str = "a size above 0 and below 8 EiB, in mebibytes or with a unit as in 2G";

/// The size; 0 for an adopted volume, which has its own.
fn size(wish: Wish<'_>) -> Result<Mebibytes, ComputeError> {
    let invalid = || wish.expected(SIZE, EXPECTED_SIZE);
    let size = match wish.value(SIZE.name) {
        Some(Value::String(text)) => Some(text.parse().map_err(|_| invalid())?),
        _ => wish.number(SIZE)?.map(Mebibytes),
    };
    let conflict = |key: Key| ComputeError::Conflict {
        disk: wish.disk,
        first: ADOPT.name,
        second: key.name,
    };
    match (wish.value(ADOPT.name), size) {
        (Some(_), Some(size)) if size > Mebibytes(0) => Err(conflict(SIZE)),
        (Some(_), _) if wish.value(SPINDLES.name).is_some() => Err(conflict(SPINDLES)),
        (Some(_), _) => Ok(Mebibytes(0)),
        (None, _) if template::MUST_ADOPT.contains(wish.template) => Err(wish.missing(ADOPT)),
        (None, Some(size)) if size == Mebibytes(0) || size > Mebibytes::MAX => Err(invalid()),
        (None, size) => size.ok_or_else(|| wish.missing(SIZE)),
    }
}

fn unknown_key(wish: Wish<'_>, name: &str) -> ComputeError {
    let known = KEYS.iter().filter(|key| key.only.contains(wish.template));
    ComputeError::UnknownKey {
        disk: wish.disk,
        key: name.to_owned(),
        template: wish.template,
        known: known.map(|key| key.name).collect(),
    }
}

/// Checks what one disk cannot show.
fn check_together(base_index: u32, specs: &[DiskSpec]) -> Result<(), ComputeError> {
    let adopted = |spec: &DiskSpec| spec.adopt.is_some();
    let one = specs.iter().position(adopted);
    let other = specs.iter().position(|spec| !adopted(spec));
    if let (Some(adopted), Some(made)) = (one, other) {
        return Err(ComputeError::MixedAdoption {
            adopted: index(base_index, adopted),
            made: index(base_index, made),
        });
    }
    unique(base_index, NAME, specs.iter().map(|spec| spec.name.clone()))?;
    let volumes = specs.iter().map(|spec| {
        let volume = spec.adopt.as_deref()?;
        Some(match &spec.vg {
            Some(vg) if template::LVM.contains(spec.dev_type) => format!("{vg}/{volume}"),
            _ => volume.to_owned(),
        })
    });
    unique(base_index, ADOPT, volumes)
}

fn unique(
    base_index: u32,
    key: Key,
    values: impl Iterator<Item = Option<String>>,
) -> Result<(), ComputeError> {
    let mut seen = HashMap::new();
    for (at, value) in values.enumerate() {
        let Some(value) = value else { continue };
        if let Some(first) = seen.insert(value.clone(), at) {
            return Err(ComputeError::Duplicate {
                first: index(base_index, first),
                second: index(base_index, at),
                key: key.name,
                value,
            });
        }
    }
    Ok(())
}

/// A name that is not taken for an index (`utils.ValidateDeviceNames`).
pub(crate) fn disk_name(name: &str) -> Result<(), NameError> {
    names::disk(name)?;
    let digits = name.trim().trim_start_matches(['+', '-']);
    refuse_if(
        digits.bytes().all(|byte| byte.is_ascii_digit()),
        name,
        "disk name",
        "more than a number",
    )
}

/// A path below `/dev` without detours.
fn device_path(path: &str) -> Result<(), NameError> {
    let plain = |part: &str| !matches!(part, "" | "." | "..") && !part.contains('\0');
    let below_dev = path
        .strip_prefix("/dev/")
        .is_some_and(|rest| rest.split('/').all(plain));
    refuse_if(
        !below_dev,
        path,
        "device path",
        "a path below /dev without '.' and '..'",
    )
}

fn refuse_if(bad: bool, name: &str, kind: &'static str, expected: &'static str) -> Result<(), NameError> {
    let name = name.to_owned();
    if bad {
        Err(NameError { kind, name, expected })
    } else {
        Ok(())
    }
}
