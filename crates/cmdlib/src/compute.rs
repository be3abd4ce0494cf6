//! The user's wishes for disks, checked and typed; what they need in volume groups; where their files go.

mod error;
mod file_storage;
mod request;
#[cfg(test)]
mod tests;
mod wish;

use std::collections::BTreeMap;

use gnt_config::device::{DEFAULT_PROVIDER, DRBD_META_SIZE};
use gnt_config::params::Access;
use gnt_config::template::{self, DiskTemplate};
use gnt_config::{AccessMode, Mebibytes, Object};
use serde::{Deserialize, Serialize};
use serde_json::Value;

pub use error::ComputeError;
pub use file_storage::{FileStorageError, calculate_file_storage_dir};
pub use request::check_requests;
pub(crate) use request::disk_name;

use wish::{ACCESS, ADOPT, Key, METAVG, MODE, NAME, PROVIDER, SIZE, SPINDLES, VG, Wish};

/// A name that means "no name", in any case (`constants.VALUE_NONE`).
const VALUE_NONE: &str = "none";

/// The wish for one disk, checked. Its JSON form is the dictionary that Ganeti's `ComputeDisks` makes.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct DiskSpec {
    /// How the disk is to be stored.
    pub dev_type: DiskTemplate,
    /// Size; 0 for a disk that is adopted, which has its own.
    pub size: Mebibytes,
    /// Whether the instance may write.
    pub mode: AccessMode,
    /// A name chosen by the user.
    pub name: Option<String>,
    /// Volume group of the data; matters in [`template::LVM`].
    pub vg: Option<String>,
    /// Volume group of DRBD's metadata, when it is not to be the default one.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub metavg: Option<String>,
    /// The volume or device that becomes the disk; matters in [`template::MAY_ADOPT`].
    #[serde(skip_serializing_if = "Option::is_none")]
    pub adopt: Option<String>,
    /// Number of spindles, where exclusive storage is used.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub spindles: Option<u64>,
    /// How the hypervisor reaches the disk, when not as its template says; only in [`template::HAVE_ACCESS`].
    #[serde(skip_serializing_if = "Option::is_none")]
    pub access: Option<Access>,
    /// The External Storage provider; only in [`template::HAVE_PROVIDER`].
    #[serde(skip_serializing_if = "Option::is_none")]
    pub provider: Option<String>,
    /// What else the provider is told; empty outside [`template::HAVE_PROVIDER`].
    #[serde(flatten)]
    pub ext_params: Object,
}

impl DiskSpec {
    /// The External Storage provider: `ext` unless another one was named.
    pub fn provider_name(&self) -> &str {
        self.provider.as_deref().unwrap_or(DEFAULT_PROVIDER)
    }

    /// What the disk made from the wish has in its `params`: what was wished, not what the template's parameters say.
    pub fn params(&self) -> Object {
        let mut params = self.ext_params.clone();
        if template::HAVE_PROVIDER.contains(self.dev_type) {
            params.insert(PROVIDER.name.to_owned(), self.provider_name().into());
        }
        if let Some(access) = self.access {
            params.insert(ACCESS.name.to_owned(), access.to_string().into());
        }
        params
    }

    fn read(wish: Wish<'_>, default_vg: Option<&str>) -> Result<Self, ComputeError> {
        let template = wish.template;
        let name = wish.text(NAME)?;
        let access = wish.parsed(ACCESS)?;
        let provider = wish.text(PROVIDER)?;
        let vg = wish.text(VG)?.or(default_vg);
        let mut ext_params = Object::new();
        if template::HAVE_PROVIDER.contains(template) {
            if provider.is_none() {
                return Err(wish.missing(PROVIDER));
            }
            let own = |(key, value): &(&String, &Value)| Key::known(key).is_none() && !value.is_null();
            let params = wish.request.iter().filter(own);
            ext_params.extend(params.map(|(key, value)| (key.clone(), value.clone())));
        } else if provider.is_some_and(|name| !name.is_empty()) {
            return Err(wish.wrong_template(PROVIDER));
        }
        Ok(Self {
            dev_type: template,
            size: Mebibytes(wish.number(SIZE)?.ok_or_else(|| wish.missing(SIZE))?),
            mode: wish.parsed(MODE)?.unwrap_or_default(),
            name: name
                .filter(|name| !name.eq_ignore_ascii_case(VALUE_NONE))
                .map(str::to_owned),
            vg: vg.filter(|vg| !vg.is_empty()).map(str::to_owned),
            metavg: wish.text(METAVG)?.map(str::to_owned),
            adopt: wish.text(ADOPT)?.map(str::to_owned),
            spindles: wish.number(SPINDLES)?,
            access: access.filter(|_| template::HAVE_ACCESS.contains(template)),
            provider: provider
                .filter(|_| template::HAVE_PROVIDER.contains(template))
                .map(str::to_owned),
            ext_params,
        })
    }
}

/// Checks and types the wishes for disks of one template (`ComputeDisks`). Keys that mean nothing to the template are
/// left out and values are taken as they are; [`check_requests`], for what comes from a user, is stricter. A null is no
/// value. Sizes are mebibytes, as a number or as text; negative ones are refused, which Ganeti takes, and so are
/// fractions, which it cuts off.
pub fn compute_disks(
    requests: &[Object],
    template: DiskTemplate,
    default_vg: Option<&str>,
) -> Result<Vec<DiskSpec>, ComputeError> {
    (0..)
        .zip(requests)
        .map(|(disk, request)| {
            let wish = Wish {
                disk,
                template,
                request,
            };
            DiskSpec::read(wish, default_vg)
        })
        .collect()
}

/// Space that creating `disks` takes in each volume group (`ComputeDiskSizePerVG`): none for templates outside
/// [`template::LVM`], for some of which Ganeti has no answer. DRBD's metadata is counted in the disk's `metavg`; a disk
/// that has none is counted as in Ganeti, metadata and data together.
pub fn compute_disk_size_per_vg(
    template: DiskTemplate,
    disks: &[DiskSpec],
) -> Result<BTreeMap<&str, Mebibytes>, ComputeError> {
    let mut needed: BTreeMap<&str, Mebibytes> = BTreeMap::new();
    if !template::LVM.contains(template) {
        return Ok(needed);
    }
    for (disk, spec) in (0..).zip(disks) {
        let vg = spec.vg.as_deref().ok_or(ComputeError::NoVolumeGroup { disk })?;
        let metadata = template::DRBD
            .contains(template)
            .then(|| (spec.metavg.as_deref().unwrap_or(vg), DRBD_META_SIZE));
        for (vg, size) in [(vg, spec.size)].into_iter().chain(metadata) {
            let sum = needed.entry(vg).or_default();
            *sum = sum.checked_add(size).ok_or_else(|| ComputeError::TooLarge {
                disk,
                vg: vg.to_owned(),
            })?;
        }
    }
    Ok(needed)
}
