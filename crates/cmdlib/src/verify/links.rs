//! Links that lead nowhere they should.

use gnt_bdev::Link;
use gnt_config as config;
use gnt_process::Command;
use gnt_store::Store;

use super::{Finding, FindingKind, Repair};
use crate::error::Result;

/// The links on a node that are no active disk's.
pub(super) fn left_over_links(store: &Store, node: &config::Node, links: &[Link]) -> Result<Vec<Finding>> {
    let dir = store.settings()?.disk_links_dir;
    let mut findings = Vec::new();
    for link in links {
        let Link { instance, index, .. } = link;
        let owner = store.instance(instance)?;
        let wanted = owner
            .as_ref()
            .is_some_and(|owner| owner.uses_disks_on(&node.uuid) && (*index as usize) < owner.disks.len());
        if wanted {
            continue;
        }
        let name = format!("{instance}:{index}");
        let mend = match owner {
            Some(owner) if !owner.disks_active => format!("gnt-disk deactivate {instance}"),
            _ => Command::change("rm").arg(dir.join(&name)).to_string(),
        };
        findings.push(Finding {
            instance: Some(instance.clone()),
            disk: Some(format!("disk/{index}")),
            ..Finding::new(FindingKind::StaleLink, format!("link {name} is left over"), mend)
                .on(node)
                .repaired_by(Repair::RemoveLink {
                    node: node.uuid.clone(),
                    instance: instance.clone(),
                    index: *index,
                })
        });
    }
    Ok(findings)
}
