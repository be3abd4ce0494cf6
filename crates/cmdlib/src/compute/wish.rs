//! Reading typed values from the wish for one disk.

use std::str::FromStr;

use gnt_config::Object;
use gnt_config::names::NameError;
use gnt_config::params;
use gnt_config::template::{self, DiskTemplate, TemplateSet};
use serde_json::Value;

use super::ComputeError;

/// A key of a wish that Ganeti knows.
#[derive(Clone, Copy)]
pub(super) struct Key {
    pub(super) name: &'static str,
    /// The templates to whose disks it means something.
    pub(super) only: TemplateSet,
    expected: &'static str,
}

impl Key {
    const fn new(name: &'static str, only: TemplateSet, expected: &'static str) -> Self {
        Self { name, only, expected }
    }

    /// The key called `name`; none for a provider's own parameter.
    pub(super) fn known(name: &str) -> Option<Self> {
        KEYS.into_iter().find(|key| key.name == name)
    }
}

pub(super) const SIZE: Key = Key::new("size", template::ALL, "a whole number of mebibytes");
pub(super) const MODE: Key = Key::new("mode", template::ALL, "rw or ro");
pub(super) const NAME: Key = Key::new("name", template::ALL, "a text that is not only a number");
pub(super) const TYPE: Key = Key::new("dev_type", template::ALL, "the template of the instance's disks");
pub(super) const VG: Key = Key::new("vg", template::LVM, "a volume group");
pub(super) const METAVG: Key = Key::new("metavg", template::DRBD, "a volume group");
pub(super) const ADOPT: Key = Key::new(
    "adopt",
    template::MAY_ADOPT,
    "a logical volume, or a path below /dev",
);
pub(super) const SPINDLES: Key = Key::new("spindles", template::EXCLUSIVE_STORAGE, "a number of spindles");
pub(super) const ACCESS: Key = Key::new("access", template::HAVE_ACCESS, "kernelspace or userspace");
pub(super) const PROVIDER: Key = Key::new(
    params::PROVIDER,
    template::HAVE_PROVIDER,
    "an External Storage provider",
);

/// `constants.IDISK_PARAMS`.
pub(super) const KEYS: [Key; 10] = [
    SIZE, MODE, NAME, TYPE, VG, METAVG, ADOPT, SPINDLES, ACCESS, PROVIDER,
];

/// The wish for one disk.
#[derive(Clone, Copy)]
pub(super) struct Wish<'a> {
    /// Index of the disk.
    pub(super) disk: u32,
    pub(super) template: DiskTemplate,
    pub(super) request: &'a Object,
}

impl<'a> Wish<'a> {
    /// The value of `key`, null being none.
    pub(super) fn value(self, key: &str) -> Option<&'a Value> {
        self.request.get(key).filter(|value| !value.is_null())
    }

    pub(super) fn text(self, key: Key) -> Result<Option<&'a str>, ComputeError> {
        let text = |value: &'a Value| value.as_str().ok_or_else(|| self.invalid(key));
        self.value(key.name).map(text).transpose()
    }

    /// A text that names a `T`.
    pub(super) fn parsed<T: FromStr>(self, key: Key) -> Result<Option<T>, ComputeError> {
        let parse = |text: &str| text.parse().map_err(|_| self.invalid(key));
        self.text(key)?.map(parse).transpose()
    }

    /// Refuses a text that is not such a name.
    pub(super) fn check(
        self,
        key: Key,
        check: impl FnOnce(&str) -> Result<(), NameError>,
    ) -> Result<(), ComputeError> {
        let expected = |error: NameError| self.expected(key, error.expected);
        self.text(key)?
            .map_or(Ok(()), |text| check(text).map_err(expected))
    }

    /// A whole number, which may come as text.
    pub(super) fn number(self, key: Key) -> Result<Option<u64>, ComputeError> {
        let number = |value: &Value| match value {
            Value::String(text) => text.trim().parse().ok(),
            other => other.as_u64(),
        };
        let read = |value| number(value).ok_or_else(|| self.invalid(key));
        self.value(key.name).map(read).transpose()
    }

    pub(super) fn missing(self, key: Key) -> ComputeError {
        ComputeError::Missing {
            disk: self.disk,
            key: key.name,
            expected: key.expected,
        }
    }

    pub(super) fn invalid(self, key: Key) -> ComputeError {
        self.expected(key, key.expected)
    }

    /// The value of `key` is not what it has to be here.
    pub(super) fn expected(self, key: Key, expected: &'static str) -> ComputeError {
        ComputeError::Invalid {
            disk: self.disk,
            key: key.name,
            found: self.request.get(key.name).unwrap_or(&Value::Null).to_string(),
            expected,
        }
    }

    pub(super) fn wrong_template(self, key: Key) -> ComputeError {
        ComputeError::WrongTemplate {
            disk: self.disk,
            key: key.name,
            template: self.template,
            only: key.only,
        }
    }
}
