//! From the cluster's parameters to those of one device.

use std::collections::BTreeMap;

use serde_json::Value;

use super::rbd::USER_ID;
use super::{
    DrbdDeviceParams, DrbdParams, ExtParams, ExtVolumeParams, GlusterParams, LvmParams, ParamError,
    Parameters, RbdParams, Source,
};
use crate::device::LogicalDevice;
use crate::disk::Disk;
use crate::json::Object;
use crate::objects::{Cluster, NodeGroup};
use crate::template::DiskTemplate;

/// The parameters of every template, all values filled in.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct DiskParams {
    /// Of drbd disks.
    pub drbd: DrbdParams,
    /// Of plain disks.
    pub plain: LvmParams,
    /// Of rbd disks.
    pub rbd: RbdParams,
    /// Of Gluster disks.
    pub gluster: GlusterParams,
    /// Of ext disks.
    pub ext: ExtParams,
}

impl DiskParams {
    /// The defaults, overridden by the cluster's, overridden by the group's (`Cluster.SimpleFillDP`).
    pub fn of_group(cluster: &Cluster, group: &NodeGroup) -> Result<Self, ParamError> {
        Self::layered([&cluster.diskparams, &group.diskparams])
    }

    /// The defaults, overridden by each layer in turn (`objects.FillDiskParams`).
    pub fn layered<'a>(
        layers: impl IntoIterator<Item = &'a BTreeMap<DiskTemplate, Object>>,
    ) -> Result<Self, ParamError> {
        let mut filled = Self::default();
        for (template, object) in layers.into_iter().flatten() {
            match filled.of_template_mut(*template) {
                Some(params) => params.apply(object)?,
                None => no_parameters(*template, object)?,
            }
        }
        Ok(filled)
    }

    /// The typed parameters of `template`, if it has any.
    pub fn of_template(&self, template: DiskTemplate) -> Option<&dyn Parameters> {
        Some(match template {
            DiskTemplate::Drbd => &self.drbd,
            DiskTemplate::Plain => &self.plain,
            DiskTemplate::Rbd => &self.rbd,
            DiskTemplate::Gluster => &self.gluster,
            DiskTemplate::Ext => &self.ext,
            DiskTemplate::Diskless
            | DiskTemplate::File
            | DiskTemplate::SharedFile
            | DiskTemplate::Blockdev => return None,
        })
    }

    fn of_template_mut(&mut self, template: DiskTemplate) -> Option<&mut dyn Parameters> {
        Some(match template {
            DiskTemplate::Drbd => &mut self.drbd,
            DiskTemplate::Plain => &mut self.plain,
            DiskTemplate::Rbd => &mut self.rbd,
            DiskTemplate::Gluster => &mut self.gluster,
            DiskTemplate::Ext => &mut self.ext,
            DiskTemplate::Diskless
            | DiskTemplate::File
            | DiskTemplate::SharedFile
            | DiskTemplate::Blockdev => return None,
        })
    }

    /// The parameters of `template` as JSON; empty for a template without parameters.
    pub fn get(&self, template: DiskTemplate) -> Object {
        self.of_template(template)
            .map_or_else(Object::new, Parameters::to_object)
    }

    /// The parameters of the devices that a disk of `template` consists of, from the top down, as a node of Ganeti 3.0
    /// knows them (`Disk.ComputeLDParams`). A diskless instance has no device.
    pub fn ld_params(&self, template: DiskTemplate) -> Vec<Object> {
        match template {
            DiskTemplate::Diskless => Vec::new(),
            DiskTemplate::Drbd => {
                let (device, data, meta) = self.drbd.of_devices();
                vec![device.to_object(), data.to_object(), meta.to_object()]
            }
            DiskTemplate::Rbd => {
                let mut params = self.rbd.to_object();
                params.remove(USER_ID);
                vec![params]
            }
            _ => vec![self.get(template)],
        }
    }

    /// `disk` as a node gets it: the parameters of each device filled in, its own values winning (`AnnotateDiskParams`).
    /// Unlike Ganeti 3.0, which has no such parameter, an rbd disk carries the `user-id` that is set; its nodes ignore it.
    pub fn annotate(&self, disk: &Disk) -> Result<Disk, ParamError> {
        let mut disk = disk.clone();
        let template = disk.dev_type.template();
        let devices = match template {
            DiskTemplate::Rbd => vec![self.rbd.to_object()],
            _ => self.ld_params(template),
        };
        let (found, needed) = (disk.children.len(), devices.len().saturating_sub(1));
        if needed > 0 && found > 0 && found != needed {
            let disk = disk.to_string();
            return Err(ParamError::Children { disk, found });
        }
        let mut devices = devices.into_iter();
        fill(&mut disk, devices.next())?;
        for (child, params) in disk.children.iter_mut().zip(devices) {
            fill(child, Some(params))?;
        }
        Ok(disk)
    }
}

/// Fills in `params` where the device has no value of its own.
fn fill(disk: &mut Disk, params: Option<Object>) -> Result<(), ParamError> {
    let mut filled = params.unwrap_or_default();
    filled.extend(std::mem::take(&mut disk.params));
    disk.params = filled;
    check_device(disk.dev_type, &disk.params)
}

/// `disk` as a node of `group` gets it: see [`DiskParams::annotate`].
pub fn annotate_disk_params(disk: &Disk, cluster: &Cluster, group: &NodeGroup) -> Result<Disk, ParamError> {
    DiskParams::of_group(cluster, group)?.annotate(disk)
}

/// Checks the parameters of one device: those that are set on a disk, or all that a node gets.
pub fn check_device(device: LogicalDevice, params: &Object) -> Result<(), ParamError> {
    match device {
        LogicalDevice::Drbd => DrbdDeviceParams::from_object(params).map(drop),
        LogicalDevice::Plain => LvmParams::from_object(params).map(drop),
        LogicalDevice::Rbd => RbdParams::from_object(params).map(drop),
        LogicalDevice::Gluster => GlusterParams::from_object(params).map(drop),
        LogicalDevice::Ext => ExtVolumeParams::from_object(params).map(drop),
        LogicalDevice::File | LogicalDevice::SharedFile | LogicalDevice::Blockdev => {
            no_parameters(device.template(), params)
        }
    }
}

fn no_parameters(template: DiskTemplate, object: &Object) -> Result<(), ParamError> {
    match object.keys().next() {
        None => Ok(()),
        Some(key) => Err(ParamError::Unknown {
            template,
            key: key.clone(),
            known: Vec::new(),
        }),
    }
}

/// The parameters that are set for `template`, with a user's `changes`; `"default"` or null takes one out
/// (`GetUpdatedParams`, `ForceDictType`, `VerifyDictOptions`).
pub fn update(template: DiskTemplate, set: &Object, changes: &Object) -> Result<Object, ParamError> {
    let mut typed = DiskParams::default();
    let Some(typed) = typed.of_template_mut(template) else {
        return no_parameters(template, changes).map(|()| set.clone());
    };
    let mut updated = set.clone();
    for (key, value) in changes {
        if !(value.is_null() || value == "default") {
            typed.set(key, value, Source::User)?;
        } else if typed.get(key).is_none() {
            return Err(typed.unknown(key));
        } else {
            updated.remove(key);
            continue;
        }
        match typed.get(key) {
            None | Some(Value::Null) => updated.remove(key),
            Some(value) => updated.insert(key.clone(), value),
        };
    }
    Ok(updated)
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;
    use crate::template;

    fn object(value: Value) -> Object {
        value.as_object().cloned().unwrap()
    }

    fn disk(value: Value) -> Disk {
        serde_json::from_value(value).unwrap()
    }

    fn layered(cluster: Value, group: Value) -> Result<DiskParams, ParamError> {
        let layers: [BTreeMap<DiskTemplate, Object>; 2] =
            [cluster, group].map(|layer| serde_json::from_value(layer).unwrap());
        DiskParams::layered(&layers)
    }

    #[test]
    fn the_group_wins_over_the_cluster_and_the_cluster_over_the_default() {
        let cluster =
            json!({"drbd": {"protocol": "A", "resync-rate": 1}, "plain": {"stripes": 2}, "file": {}});
        let filled = layered(cluster, json!({"drbd": {"resync-rate": 2}})).unwrap();
        assert_eq!(filled.drbd.resync_rate, 2);
        assert_eq!(filled.drbd.protocol.to_string(), "A");
        assert_eq!(filled.plain.stripes.get(), 2);
        assert_eq!(filled.gluster, GlusterParams::default());
    }

    #[test]
    fn errors_name_template_key_and_what_is_expected() {
        for (params, message) in [
            (
                json!({"drbd": {"speed": 1}}),
                r#"disk template drbd has no parameter "speed""#,
            ),
            (
                json!({"file": {"stripes": 1}}),
                r#"disk template file has no parameter "stripes""#,
            ),
            (
                json!({"drbd": {"c-max-rate": "5"}}),
                r#"parameter "c-max-rate" of disk template drbd must be a whole number, 0 or more, not "5""#,
            ),
            (
                json!({"drbd": {"resync-rate": -1}}),
                r#"parameter "resync-rate" of disk template drbd must be a whole number, 0 or more, not -1"#,
            ),
            (
                json!({"plain": {"stripes": 0}}),
                r#"parameter "stripes" of disk template plain must be a whole number, 1 or more, not 0"#,
            ),
            (
                json!({"drbd": {"protocol": "c"}}),
                r#"parameter "protocol" of disk template drbd must be A, B or C, not "c""#,
            ),
            (
                json!({"gluster": {"port": 65536}}),
                r#"parameter "port" of disk template gluster must be a port, 1 to 65535, not 65536"#,
            ),
            (
                json!({"rbd": {"access": null}}),
                r#"parameter "access" of disk template rbd must be kernelspace or userspace, not null"#,
            ),
            (
                json!({"drbd": {"dynamic-resync": {}}}),
                r#"parameter "dynamic-resync" of disk template drbd must be true or false, not an object"#,
            ),
        ] {
            assert_eq!(layered(params, json!({})).unwrap_err().to_string(), message);
        }
        let hint = layered(json!({"plain": {"x": 1}}), json!({})).unwrap_err().hint();
        assert_eq!(hint.as_deref(), Some("known parameters: stripes"));
    }

    #[test]
    fn defaults_would_pass_their_own_checks() {
        let defaults = DiskParams::default();
        let written: BTreeMap<_, _> = template::ALL.iter().map(|t| (t, defaults.get(t))).collect();
        assert_eq!(DiskParams::layered([&written]), Ok(defaults));
    }

    #[test]
    fn a_cluster_without_lvm_has_no_volume_group() {
        let filled = layered(json!({"drbd": {"metavg": ""}}), json!({})).unwrap();
        assert_eq!(filled.ld_params(DiskTemplate::Drbd)[0]["default-metavg"], "");
    }

    #[test]
    fn a_drbd_disk_is_annotated_down_to_its_volumes() {
        let params = layered(
            json!({"drbd": {"data-stripes": 3, "meta-stripes": 2, "metavg": "m"}}),
            json!({}),
        )
        .unwrap();
        let volume = |lv| json!({"dev_type": "plain", "logical_id": ["vg", lv], "size": 1});
        let tree = json!({
            "dev_type": "drbd", "logical_id": ["a", "b", 1, 0, 0, "s"], "size": 1, "params": {"protocol": "B"},
            "children": [volume("data"), volume("meta")],
        });
        let annotated = params.annotate(&disk(tree.clone())).unwrap();
        assert_eq!(annotated.params.len(), 13);
        assert_eq!(annotated.params["protocol"], "B");
        assert_eq!(annotated.params["default-metavg"], "m");
        assert_eq!(json!(annotated.children[0].params), json!({"stripes": 3}));
        assert_eq!(json!(annotated.children[1].params), json!({"stripes": 2}));

        let mut one_volume = disk(tree.clone());
        one_volume.children.pop();
        assert!(matches!(
            params.annotate(&one_volume),
            Err(ParamError::Children { found: 1, .. })
        ));
        let mut without_volumes = disk(tree);
        without_volumes.children.clear();
        assert!(params.annotate(&without_volumes).is_ok());
    }

    #[test]
    fn an_ext_disk_keeps_its_own_parameters() {
        let params = layered(json!({"ext": {"access": "userspace"}}), json!({})).unwrap();
        let own = json!({"dev_type": "ext", "logical_id": ["san", "v"], "size": 1, "params": {"pool": "p"}});
        let annotated = params.annotate(&disk(own)).unwrap();
        assert_eq!(
            json!(annotated.params),
            json!({"access": "userspace", "pool": "p"})
        );
    }

    #[test]
    fn the_ceph_user_goes_to_the_node_but_not_into_what_ganeti_3_0_knows() {
        let params = layered(json!({"rbd": {"user-id": "backup"}}), json!({})).unwrap();
        assert_eq!(
            json!(params.ld_params(DiskTemplate::Rbd)),
            json!([{"access": "kernelspace", "pool": "rbd"}])
        );
        let image = disk(json!({"dev_type": "rbd", "logical_id": ["rbd", "v"], "size": 1}));
        let annotated = params.annotate(&image).unwrap();
        assert_eq!(RbdParams::from_object(&annotated.params), Ok(params.rbd));
        let plain = DiskParams::default().annotate(&image).unwrap();
        assert_eq!(
            json!(plain.params),
            json!({"access": "kernelspace", "pool": "rbd"})
        );
    }

    #[test]
    fn wrong_parameters_of_a_disk_are_found() {
        let wrong =
            json!({"dev_type": "file", "logical_id": ["loop", "/x"], "size": 1, "params": {"stripes": 1}});
        assert!(matches!(
            DiskParams::default().annotate(&disk(wrong)),
            Err(ParamError::Unknown { .. })
        ));
    }

    #[test]
    fn users_may_write_numbers_and_truth_values_as_text() {
        let set = object(json!({"protocol": "A", "resync-rate": 1, "c-min-rate": 2}));
        let changes = json!({
            "resync-rate": " 5", "dynamic-resync": "TRUE", "meta-barriers": 1, "disk-custom": false,
            "protocol": "default", "c-min-rate": null, "net-custom": "default",
        });
        let updated = update(DiskTemplate::Drbd, &set, &object(changes)).unwrap();
        let expected =
            json!({"resync-rate": 5, "dynamic-resync": true, "meta-barriers": true, "disk-custom": ""});
        assert_eq!(json!(updated), expected);

        let user = object(json!({"user-id": "u"}));
        let set = update(DiskTemplate::Rbd, &Object::new(), &user).unwrap();
        assert_eq!(set, user);
        assert_eq!(
            update(DiskTemplate::Rbd, &set, &object(json!({"user-id": ""}))),
            Ok(Object::new())
        );
    }

    #[test]
    fn a_users_mistakes_are_found() {
        for (template, changes) in [
            (DiskTemplate::Drbd, json!({"resync-rate": "5.5"})),
            (DiskTemplate::Drbd, json!({"resync-rate": "-5"})),
            (DiskTemplate::Drbd, json!({"resync-rate": true})),
            (DiskTemplate::Drbd, json!({"dynamic-resync": "yes"})),
            (DiskTemplate::Drbd, json!({"speed": "default"})),
            (DiskTemplate::Drbd, json!({"metavg": "-rf"})),
            (DiskTemplate::Drbd, json!({"stripes": 2})),
            (DiskTemplate::Rbd, json!({"pool": "a/b"})),
            (DiskTemplate::Gluster, json!({"host": "a b"})),
            (DiskTemplate::Blockdev, json!({"access": "kernelspace"})),
        ] {
            let changed = update(template, &Object::new(), &object(changes.clone()));
            assert!(changed.is_err(), "{template} {changes}");
        }
    }
}
