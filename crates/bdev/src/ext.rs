//! The ext driver: a volume of an External Storage provider.
//!
//! What there is, and whether it is attached, the provider's `info` tells. Ganeti's providers do not have that script. There
//! is no other way then than to attach, which by contract can be repeated and is cheap: finding such a volume attaches it.

use enumset::enum_set;
use gnt_config::{LogicalDevice, LogicalId, Mebibytes, Object};
use gnt_extstorage::{Action, Attachment, Device, Provider, VolumeInfo, diagnose};

use crate::device;
use crate::driver::{
    BlockDevice, Capabilities, Change, Driver, FoundVolume, Operation, Owner, Target, Uri, refuse,
};
use crate::error::{Cause, Error};
use crate::host::Host;

/// Ganeti's `ExtStorageDevice`.
#[derive(Debug)]
pub(crate) struct ExtDriver;

const CAPABILITIES: Capabilities = enum_set!(
    Operation::Create
        | Operation::Find
        | Operation::Assemble
        | Operation::Open
        | Operation::Close
        | Operation::Shutdown
        | Operation::Grow
        | Operation::Remove
        | Operation::SetInfo
        | Operation::Snapshot
        | Operation::ActualSize
        | Operation::UserspaceUri
        | Operation::Volumes
);

impl Driver for ExtDriver {
    fn device(&self) -> LogicalDevice {
        LogicalDevice::Ext
    }

    fn capabilities(&self) -> Capabilities {
        CAPABILITIES
    }

    /// Its provider is there, may be trusted, and has the script.
    fn check(&self, host: &Host, target: &Target<'_>, operation: Operation) -> Result<(), Error> {
        if !self.capabilities().contains(operation) {
            return refuse(self.device(), operation);
        }
        target.doing(operation, host, || {
            let name = Volume::of(target)?.provider;
            let provider =
                Provider::find(name, host.ext.search_path()).map_err(gnt_extstorage::Error::from)?;
            if operation == Operation::Snapshot && !provider.supports(Action::Snapshot) {
                return Err(gnt_extstorage::Error::Unsupported {
                    provider: name.to_owned(),
                    action: Action::Snapshot,
                }
                .into());
            }
            Ok(())
        })
    }

    fn create(&self, host: &Host, target: &Target<'_>) -> Result<Change, Error> {
        target.doing(Operation::Create, host, || {
            let volume = Volume::of(target)?;
            match host.ext.info(&volume.ext())? {
                Some(Some(info)) => volume.check_same(&info).map(|()| Change::AlreadyThere),
                Some(None) => {
                    volume.create_new(host)?;
                    Ok(Change::Made)
                }
                None => {
                    host.ext.create(&volume.ext())?;
                    Ok(Change::Made)
                }
            }
        })
    }

    fn find(&self, host: &Host, target: &Target<'_>) -> Result<Option<BlockDevice>, Error> {
        target.doing(Operation::Find, host, || Volume::of(target)?.find(host))
    }

    fn assemble(&self, host: &Host, target: &Target<'_>) -> Result<BlockDevice, Error> {
        target.doing(Operation::Assemble, host, || {
            let volume = Volume::of(target)?;
            let device = block_device(host.ext.attach(&volume.ext())?);
            let needs_path = !target.has_userspace_access() && !host.is_dry_run();
            if needs_path && device.path.is_none() {
                return Err(Cause::NoDevice {
                    provider: volume.provider.to_owned(),
                });
            }
            Ok(device)
        })
    }

    fn open(&self, host: &Host, target: &Target<'_>, exclusive: bool) -> Result<(), Error> {
        target.doing(Operation::Open, host, || {
            host.ext.open(&Volume::of(target)?.ext(), exclusive)?;
            Ok(())
        })
    }

    fn take_over(&self, host: &Host, target: &Target<'_>, from: &str) -> Result<(), Error> {
        target.doing(Operation::Open, host, || {
            host.ext.take_over(&Volume::of(target)?.ext(), from)?;
            Ok(())
        })
    }

    fn close(&self, host: &Host, target: &Target<'_>) -> Result<(), Error> {
        target.doing(Operation::Close, host, || {
            host.ext.close(&Volume::of(target)?.ext())?;
            Ok(())
        })
    }

    fn shutdown(&self, host: &Host, target: &Target<'_>) -> Result<Change, Error> {
        target.doing(Operation::Shutdown, host, || {
            let volume = Volume::of(target)?;
            let found = volume.find(host);
            if matches!(found, Ok(None)) {
                return Ok(Change::AlreadyThere);
            }
            // Also if it is not attached as far as we can see: there may be URIs, or what an interrupted detach left.
            let path = found.ok().flatten().and_then(|device| device.path);
            host.ext.detach(&volume.ext(), path.as_deref())?;
            Ok(if path.is_some() {
                Change::Made
            } else {
                Change::AlreadyThere
            })
        })
    }

    fn grow(&self, host: &Host, target: &Target<'_>, to: Mebibytes, dry_run: bool) -> Result<Change, Error> {
        target.doing(Operation::Grow, host, || {
            target.check_growth(to)?;
            let volume = Volume::of(target)?;
            let found = volume.find(host)?.ok_or_else(|| volume.missing())?;
            if found.bytes.is_some_and(|bytes| bytes >= to.bytes()) {
                return Ok(Change::AlreadyThere);
            }
            if !dry_run {
                let grown = host.ext.grow(&volume.ext(), to.0);
                // Growing attaches. A device that nobody had goes again, also after a failure.
                let detached = match found.path {
                    None => volume.detach(host),
                    Some(_) => Ok(()),
                };
                grown?;
                detached?;
            }
            Ok(Change::Made)
        })
    }

    /// A volume that cannot be attached, or not be detached, is removed nevertheless. What went wrong before is told if
    /// the removal fails too, or if the device is still there.
    fn remove(&self, host: &Host, target: &Target<'_>) -> Result<Change, Error> {
        let found = self.find(host, target);
        if matches!(found, Ok(None)) {
            if !host.is_dry_run() {
                // What a killed script was making is no volume yet, and yet takes room: its provider may know of it. One that
                // fails since there is no such volume is right, too.
                let _ = target.doing(Operation::Remove, host, || {
                    Ok(host.ext.remove(&Volume::of(target)?.ext())?)
                });
            }
            return Ok(Change::AlreadyThere);
        }
        let path = found.as_ref().ok().and_then(|found| found.as_ref()?.path.clone());
        let detached = target.doing(Operation::Shutdown, host, || {
            Ok(host.ext.detach(&Volume::of(target)?.ext(), path.as_deref())?)
        });
        let removed = target.doing(Operation::Remove, host, || {
            Ok(host.ext.remove(&Volume::of(target)?.ext())?)
        });
        let earlier = found.map(drop).and(detached).err();
        match (removed, earlier) {
            (Ok(()), Some(error)) if path.is_some_and(|path| Device::at(&path).is_ok()) => Err(error),
            (Ok(()), _) => Ok(Change::Made),
            (Err(error), earlier) => {
                Error::all(earlier.into_iter().chain([error]).collect()).map(|()| Change::Made)
            }
        }
    }

    fn set_info(&self, host: &Host, target: &Target<'_>, text: &str) -> Result<(), Error> {
        target.doing(Operation::SetInfo, host, || {
            let owner = serde_json::json!(Owner::of(target, Some(text))).to_string();
            let volume = Volume::of(target)?;
            Ok(host.ext.setinfo(&volume.ext(), text, Some(&owner))?)
        })
    }

    fn snapshot(
        &self,
        host: &Host,
        target: &Target<'_>,
        name: &str,
        size: Mebibytes,
    ) -> Result<LogicalId, Error> {
        target.doing(Operation::Snapshot, host, || {
            let volume = Volume::of(target)?;
            host.ext.snapshot(&volume.ext(), name, size.0)?;
            let copy = Volume {
                name,
                uuid: "",
                ..volume
            };
            if !host.is_dry_run() && host.ext.info(&copy.ext())? == Some(None) {
                return Err(copy.missing());
            }
            Ok(LogicalId::Ext {
                provider: volume.provider.to_owned(),
                volume: name.to_owned(),
            })
        })
    }

    fn actual_size(&self, host: &Host, target: &Target<'_>) -> Result<u64, Error> {
        target.doing(Operation::ActualSize, host, || {
            let volume = Volume::of(target)?;
            let found = volume.find(host)?.ok_or_else(|| volume.missing())?;
            found.bytes.ok_or_else(|| Cause::NoDevice {
                provider: volume.provider.to_owned(),
            })
        })
    }

    fn userspace_uri(&self, host: &Host, target: &Target<'_>, hypervisor: &str) -> Result<String, Error> {
        target.doing(Operation::UserspaceUri, host, || {
            let volume = Volume::of(target)?;
            let device = block_device(host.ext.attach(&volume.ext())?);
            let uri = device.uri_for(hypervisor).map(str::to_owned);
            uri.ok_or_else(|| Cause::NoUri {
                provider: volume.provider.to_owned(),
                hypervisor: hypervisor.to_owned(),
                offered: device.uris.into_iter().map(|uri| uri.hypervisor).collect(),
            })
        })
    }

    /// Of the provider that `params` name, or else of all that can be used. Those without a script `list` cannot tell.
    /// Without a provider in `params`, all are asked, and those that cannot answer are passed over: one that wants to
    /// know where to look cannot be asked like this.
    fn volumes(&self, host: &Host, params: &Object) -> Result<Vec<FoundVolume>, Error> {
        self.list(host, params, |provider, info| Some(found_volume(provider, info)))
    }

    /// As far as the provider's `list` tells of devices.
    fn attached(&self, host: &Host, params: &Object) -> Result<Vec<LogicalId>, Error> {
        self.list(host, params, |provider, info| {
            info.device.as_ref()?;
            Some(found_volume(provider, info).logical_id)
        })
    }
}

impl ExtDriver {
    fn list<T>(
        &self,
        host: &Host,
        params: &Object,
        wanted: impl Fn(&str, VolumeInfo) -> Option<T>,
    ) -> Result<Vec<T>, Error> {
        let list = |provider: &str| {
            let listed = host.ext.list(provider, params)?.unwrap_or_default().into_iter();
            let found = listed.filter_map(|info| wanted(provider, info));
            Ok(found.collect::<Vec<T>>())
        };
        match params.get("provider").and_then(|provider| provider.as_str()) {
            Some(provider) => list(provider).map_err(|error: gnt_extstorage::Error| Error::Volumes {
                device: self.device(),
                node: host.name.clone(),
                cause: Box::new(error.into()),
            }),
            None => {
                let listed = providers(host)
                    .into_iter()
                    .filter_map(|provider| list(&provider).ok());
                Ok(listed.flatten().collect())
            }
        }
    }
}

/// Names of those that can be used.
pub(crate) fn providers(host: &Host) -> Vec<String> {
    let found = diagnose(host.ext.search_path()).into_iter();
    found
        .filter(|provider| provider.is_usable() && provider.shadowed_by.is_none())
        .map(|provider| provider.name)
        .collect()
}

/// The volume that is a target's.
#[derive(Clone, Copy)]
struct Volume<'a> {
    provider: &'a str,
    name: &'a str,
    uuid: &'a str,
    target: &'a Target<'a>,
}

impl<'a> Volume<'a> {
    fn of(target: &'a Target<'a>) -> Result<Self, Cause> {
        match &target.disk.logical_id {
            LogicalId::Ext { provider, volume } => Ok(Self {
                provider,
                name: volume,
                uuid: &target.disk.uuid,
                target,
            }),
            id => Err(Cause::WrongId {
                device: LogicalDevice::Ext,
                id: id.clone(),
            }),
        }
    }

    fn ext(&self) -> gnt_extstorage::Volume<'a> {
        let Target { disk, instance, .. } = self.target;
        gnt_extstorage::Volume {
            provider: self.provider,
            name: self.name,
            uuid: (!self.uuid.is_empty()).then_some(self.uuid),
            cname: disk.name.as_deref(),
            instance: (!instance.is_empty()).then_some(instance),
            index: disk.index(),
            size_mib: disk.size.0,
            params: &disk.params,
        }
    }

    /// The volume as it is now. Of one that only attaching would tell of, nothing is known in a dry run.
    fn find(&self, host: &Host) -> Result<Option<BlockDevice>, Cause> {
        let info = match host.ext.info(&self.ext())? {
            Some(Some(info)) => info,
            Some(None) => return Ok(None),
            None if host.is_dry_run() => return Ok(Some(BlockDevice::default())),
            None => return Ok(Some(block_device(host.ext.attach(&self.ext())?))),
        };
        match info.device.as_deref().map(device::at).transpose()? {
            Some(device) => Ok(Some(device)),
            None => Ok(Some(BlockDevice {
                bytes: info.size_mib.map(|size| Mebibytes(size).bytes()),
                ..BlockDevice::default()
            })),
        }
    }

    fn detach(&self, host: &Host) -> Result<(), Cause> {
        if let Some(path) = self.find(host)?.and_then(|device| device.path) {
            host.ext.detach(&self.ext(), Some(&path))?;
        }
        Ok(())
    }

    /// Makes a volume that is known not to be there; so one that turns out unusable is ours to remove.
    fn create_new(&self, host: &Host) -> Result<(), Cause> {
        let Err(error) = host.ext.create(&self.ext()) else {
            return Ok(());
        };
        let made = error.reason().is_some_and(|reason| reason.script_succeeded());
        if made && let Err(undo) = host.ext.remove(&self.ext()) {
            return Err(Cause::LeftBehind {
                error: Box::new(error.into()),
                undo: Box::new(undo.into()),
            });
        }
        Err(error.into())
    }

    /// Whether a volume that is there already is this one. Providers may round sizes up.
    fn check_same(&self, info: &VolumeInfo) -> Result<(), Cause> {
        let other_uuid = info
            .uuid
            .as_deref()
            .is_some_and(|uuid| !self.uuid.is_empty() && uuid != self.uuid);
        let smaller = info.size_mib.is_some_and(|size| size < self.target.disk.size.0);
        if other_uuid || smaller {
            return Err(Cause::OtherVolume {
                volume: self.name.to_owned(),
                size: info.size_mib.map(Mebibytes),
                uuid: info.uuid.clone(),
            });
        }
        Ok(())
    }

    fn missing(&self) -> Cause {
        Cause::NoVolume {
            provider: self.provider.to_owned(),
            volume: self.name.to_owned(),
        }
    }
}

fn block_device(attachment: Attachment) -> BlockDevice {
    let uris = attachment.uris.into_iter();
    let uris = uris.map(|(hypervisor, uri)| Uri { hypervisor, uri }).collect();
    match attachment.device {
        None => BlockDevice {
            uris,
            ..BlockDevice::default()
        },
        Some(device) => BlockDevice {
            path: Some(device.path),
            major: Some(device.major),
            minor: Some(device.minor),
            bytes: Some(device.size),
            uris,
        },
    }
}

fn found_volume(provider: &str, info: VolumeInfo) -> FoundVolume {
    let kept = info.kept.and_then(|json| serde_json::from_str(&json).ok());
    FoundVolume {
        device: LogicalDevice::Ext,
        logical_id: LogicalId::Ext {
            provider: provider.to_owned(),
            volume: info.name,
        },
        bytes: info.size_mib.map(|size| Mebibytes(size).bytes()),
        owner: kept.unwrap_or_else(|| Owner {
            instance: info.instance,
            index: info.index,
            uuid: info.uuid,
            name: info.cname,
            info: info.metadata,
            ..Owner::default()
        }),
    }
}
