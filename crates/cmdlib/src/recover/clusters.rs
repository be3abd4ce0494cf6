//! Which volumes are this cluster's, where several use the same storage.

use std::collections::{BTreeMap, BTreeSet};

use super::candidate::Claim;
use super::known::Known;
use super::{Remark, RemarkKind};

/// The volumes that are not said to be another cluster's. Those of a `named` instance are ours nevertheless, if there is only one of the
/// name: the cluster had another one then.
pub(super) fn ours(
    claims: Vec<Claim>,
    known: &Known,
    named: &[String],
    remarks: &mut Vec<Remark>,
) -> Vec<Claim> {
    let instances = known.instances.iter();
    let mut uuids: BTreeMap<String, BTreeSet<String>> = instances
        .map(|instance| (instance.name.clone(), BTreeSet::from([instance.uuid.clone()])))
        .collect();
    for owner in claims.iter().map(|claim| &claim.volume.owner) {
        if let Some((name, uuid)) = owner.instance.as_ref().zip(owner.kept.instance_uuid.as_ref()) {
            uuids.entry(name.clone()).or_default().insert(uuid.clone());
        }
    }
    let is_named = |claim: &Claim| {
        let name = claim.volume.owner.instance.as_ref();
        name.is_some_and(|name| named.contains(name) && uuids.get(name).is_none_or(|uuids| uuids.len() == 1))
    };
    let mut others: BTreeMap<String, usize> = BTreeMap::new();
    let mut ours = Vec::new();
    for claim in claims {
        let cluster = claim.volume.owner.kept.cluster.as_ref();
        let other = cluster.filter(|name| **name != known.cluster.cluster_name);
        match other.filter(|_| !is_named(&claim)) {
            Some(name) => *others.entry(name.clone()).or_default() += 1,
            None => ours.push(claim),
        }
    }
    remarks.extend(others.into_iter().map(|(name, count)| {
        let volumes = if count == 1 { "volume" } else { "volumes" };
        let message =
            format!("{count} {volumes} are left out, which say that they are of the cluster {name}");
        let mend = "gnt-disk recover INSTANCE, if this cluster was called so before";
        Remark::new(RemarkKind::OtherCluster, message).mended_by(mend)
    }));
    ours
}
