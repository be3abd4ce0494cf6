//! The volume that an action is about.

use std::fmt;

use serde_json::{Map, Value};

/// A volume as its owner knows it.
#[derive(Clone, Copy)]
pub struct Volume<'a> {
    /// The provider that has it.
    pub provider: &'a str,
    /// Its name, by which the provider knows it (`UUID.ext.diskN`).
    pub name: &'a str,
    /// The disk's uuid.
    pub uuid: Option<&'a str>,
    /// The disk's name, if the user gave it one.
    pub cname: Option<&'a str>,
    /// The instance whose disk it is.
    pub instance: Option<&'a str>,
    /// Which of the instance's disks it is.
    pub index: Option<u32>,
    /// Its size in MiB: for create the one to make, else the one that it should have.
    pub size_mib: u64,
    /// The parameters for the provider.
    pub params: &'a Map<String, Value>,
}

/// Without the parameters: there may be secrets in them.
impl fmt::Debug for Volume<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Volume")
            .field("provider", &self.provider)
            .field("name", &self.name)
            .field("uuid", &self.uuid)
            .field("cname", &self.cname)
            .field("instance", &self.instance)
            .field("index", &self.index)
            .field("size_mib", &self.size_mib)
            .finish_non_exhaustive()
    }
}
