//! Where a new volume goes, and where it grows: pure arithmetic on what the group has. Sizes are bytes.

use std::collections::BTreeMap;

use gnt_config::Mebibytes;

use super::error::LvmError;
use super::report::{LogicalVolume, PhysicalVolume};
use crate::driver::Space;

/// By how much disks of one size may differ (`constants.PART_MARGIN`), and what of each is kept back (`PART_RESERVED`), in hundredths.
const MARGIN_AND_RESERVE: u64 = 1 + 2;
/// What an empty physical volume may lack (`LvmPvInfo.IsEmpty`).
const EMPTY_TOLERANCE: u64 = 1 << 20;

/// A volume group, as its physical volumes describe it.
pub(super) struct Group<'a> {
    vg: &'a str,
    /// Those that may be used, most room first.
    pvs: Vec<&'a PhysicalVolume>,
    extent: u64,
}

/// Where a new volume goes.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct Layout {
    /// Numbers of stripes to try in turn, with the size that results.
    pub(super) attempts: Vec<(u32, u64)>,
    /// Where it may be.
    pub(super) pvs: Vec<String>,
}

impl<'a> Group<'a> {
    /// The group called `vg`, if there is one.
    pub(super) fn of(vg: &'a str, all: &'a [PhysicalVolume]) -> Result<Self, LvmError> {
        let mut pvs: Vec<_> = all.iter().filter(|pv| pv.vg == vg).collect();
        let Some(first) = pvs.first() else {
            let mut others: Vec<_> = all.iter().map(|pv| pv.vg.clone()).collect();
            others.sort();
            others.dedup();
            return Err(LvmError::NoVolumeGroup {
                vg: vg.to_owned(),
                others,
            });
        };
        let extent = first.extent;
        pvs.retain(|pv| pv.allocatable);
        pvs.sort_by_key(|pv| std::cmp::Reverse(pv.free));
        Ok(Self { vg, pvs, extent })
    }

    /// Refuses what cannot fit, however it is laid out.
    pub(super) fn check_free(&self, bytes: u64) -> Result<(), LvmError> {
        let free = self.pvs.iter().map(|pv| pv.free).sum();
        if bytes > free {
            return Err(self.no_space(free, bytes));
        }
        Ok(())
    }

    fn no_space(&self, free: u64, asked: u64) -> LvmError {
        LvmError::NoSpace {
            vg: self.vg.to_owned(),
            free: Mebibytes::from_bytes(free),
            asked: Mebibytes(asked.div_ceil(Mebibytes(1).bytes())),
        }
    }

    /// A volume over as many disks as `stripes` says, or as there are. Where the room is not so well distributed, over fewer.
    pub(super) fn shared(&self, size: Mebibytes, stripes: u32) -> Result<Layout, LvmError> {
        let sized = |stripes| (stripes, rounded(size.bytes(), self.extent, stripes));
        self.check_free(sized(1).1)?;
        let most = stripes
            .min(u32::try_from(self.pvs.len()).unwrap_or(u32::MAX))
            .max(1);
        Ok(Layout {
            attempts: (1..=most).rev().map(sized).collect(),
            pvs: self.pvs.iter().map(|pv| pv.name.clone()).collect(),
        })
    }

    /// A volume that has `spindles` disks for itself (exclusive storage), over all of which it is striped.
    pub(super) fn exclusive(&self, size: Mebibytes, spindles: Option<u64>) -> Result<Layout, LvmError> {
        let spindles = spindles.ok_or(LvmError::NoSpindles)?;
        let each = self.usable_of_each();
        let needed = size.0.div_ceil(each.0.max(1));
        if spindles < needed {
            return Err(LvmError::FewSpindles {
                size,
                spindles,
                needed,
                each,
            });
        }
        let is_empty = |pv: &&&PhysicalVolume| pv.bytes <= pv.free + EMPTY_TOLERANCE;
        let empty: Vec<_> = self.pvs.iter().filter(is_empty).collect();
        let few = || LvmError::FewEmptyPvs {
            vg: self.vg.to_owned(),
            empty: empty.len() as u64,
            needed: spindles,
        };
        let stripes = u32::try_from(spindles).map_err(|_| few())?;
        let chosen = usize::try_from(spindles)
            .ok()
            .and_then(|count| empty.get(..count));
        let chosen = chosen.filter(|chosen| !chosen.is_empty()).ok_or_else(few)?;
        Ok(Layout {
            attempts: vec![(stripes, rounded(size.bytes(), self.extent, stripes))],
            pvs: chosen.iter().map(|pv| pv.name.clone()).collect(),
        })
    }

    /// What a volume can use of each disk of its own (`_GetStdPvSize`): as much as the smallest has, less some margin.
    fn usable_of_each(&self) -> Mebibytes {
        let smallest = self.pvs.iter().map(|pv| pv.bytes).min().unwrap_or_default();
        Mebibytes::from_bytes(smallest.saturating_mul(100) / (100 + MARGIN_AND_RESERVE))
    }

    /// The disks that a volume of exclusive storage has, if there is room for `bytes` more on them.
    pub(super) fn own_disks(&self, volume: &LogicalVolume, bytes: u64) -> Result<Vec<String>, LvmError> {
        let each = self.usable_of_each().bytes();
        let own = || self.pvs.iter().filter(|pv| volume.pvs.contains(&pv.name));
        let free = own()
            .map(|pv| pv.free.saturating_sub(pv.bytes.saturating_sub(each)))
            .sum();
        if bytes > free {
            return Err(self.no_space(free, bytes));
        }
        Ok(own().map(|pv| pv.name.clone()).collect())
    }

    /// `bytes` rounded up to whole extents.
    pub(super) fn whole_extents(&self, bytes: u64) -> u64 {
        rounded(bytes, self.extent, 1)
    }
}

/// What new volumes may take in each group, and what there is in all.
pub(super) fn space(pvs: &[PhysicalVolume]) -> Vec<Space> {
    let mut groups: BTreeMap<&str, [u64; 2]> = BTreeMap::new();
    for pv in pvs {
        let [free, total] = groups.entry(&pv.vg).or_default();
        *total = total.saturating_add(pv.bytes);
        if pv.allocatable {
            *free = free.saturating_add(pv.free);
        }
    }
    let groups = groups.into_iter();
    groups
        .map(|(name, [free, total])| Space {
            name: name.to_owned(),
            free: Mebibytes::from_bytes(free),
            total: Mebibytes::from_bytes(total),
        })
        .collect()
}

/// The next size that consists of whole extents on each stripe.
pub(super) fn rounded(bytes: u64, extent: u64, stripes: u32) -> u64 {
    let step = extent.saturating_mul(u64::from(stripes)).max(1);
    bytes.div_ceil(step).saturating_mul(step)
}

#[cfg(test)]
mod tests {
    use super::super::report::State;
    use super::*;

    const MIB: u64 = 1 << 20;

    fn pv(name: &str, size: u64, free: u64) -> PhysicalVolume {
        PhysicalVolume {
            name: name.to_owned(),
            vg: "xenvg".to_owned(),
            bytes: size * MIB,
            free: free * MIB,
            extent: 4 * MIB,
            allocatable: true,
            missing: false,
        }
    }

    fn told(error: &LvmError) -> String {
        error.to_string()
    }

    #[test]
    fn a_volume_goes_where_most_room_is_over_as_many_disks_as_there_are() {
        let pvs = [pv("a", 1000, 100), pv("b", 1000, 1000), pv("c", 1000, 500)];
        let group = Group::of("xenvg", &pvs).unwrap();
        let layout = group.shared(Mebibytes(65), 5).unwrap();
        assert_eq!(layout.pvs, ["b", "c", "a"]);
        assert_eq!(layout.attempts, [(3, 72 * MIB), (2, 72 * MIB), (1, 68 * MIB)]);
        assert_eq!(
            group.shared(Mebibytes(1600), 1).unwrap().attempts,
            [(1, 1600 * MIB)]
        );
        assert_eq!(
            told(&group.shared(Mebibytes(1601), 1).unwrap_err()),
            "the volume group xenvg has 1600M free, and 1604M are needed"
        );
    }

    #[test]
    fn disks_that_may_not_be_used_are_not_counted() {
        let pvs = [
            PhysicalVolume {
                allocatable: false,
                ..pv("a", 100, 100)
            },
            pv("b", 100, 40),
        ];
        let group = Group::of("xenvg", &pvs).unwrap();
        assert_eq!(group.shared(Mebibytes(40), 2).unwrap().attempts, [(1, 40 * MIB)]);
        let error = group.shared(Mebibytes(41), 2).unwrap_err();
        assert_eq!(
            told(&error),
            "the volume group xenvg has 40M free, and 44M are needed"
        );
        let error = Group::of("other", &pvs).err().unwrap();
        assert_eq!(told(&error), "there is no volume group other, only xenvg");
        let error = Group::of("other", &[]).err().unwrap();
        assert_eq!(told(&error), "there is no volume group other, nor any other");
    }

    #[test]
    fn with_exclusive_storage_disks_are_not_shared() {
        let pvs = [
            pv("a", 1000, 1000),
            pv("b", 1004, 1003),
            pv("c", 1000, 990),
            pv("d", 1000, 1000),
        ];
        let group = Group::of("xenvg", &pvs).unwrap();
        let layout = group.exclusive(Mebibytes(1500), Some(2)).unwrap();
        assert_eq!(
            (layout.pvs, layout.attempts),
            (vec!["b".to_owned(), "a".to_owned()], vec![(2, 1504 * MIB)])
        );
        let error = |size, spindles| told(&group.exclusive(Mebibytes(size), spindles).unwrap_err());
        assert_eq!(
            error(1, None),
            "on a node with exclusive storage a disk needs a number of spindles, and it has none"
        );
        assert_eq!(
            error(972, Some(1)),
            "972M do not fit on 1 spindles of 970M: 2 are needed"
        );
        assert_eq!(
            error(100, Some(4)),
            "the volume group xenvg has 3 empty physical volumes, and 4 are needed"
        );
        assert_eq!(
            error(100, Some(u64::MAX)),
            format!(
                "the volume group xenvg has 3 empty physical volumes, and {} are needed",
                u64::MAX
            )
        );
    }

    #[test]
    fn with_exclusive_storage_a_volume_grows_on_its_own_disks() {
        let pvs = [pv("a", 1030, 530), pv("b", 1030, 530), pv("c", 1030, 1030)];
        let group = Group::of("xenvg", &pvs).unwrap();
        let volume = LogicalVolume {
            vg: "xenvg".to_owned(),
            vg_uuid: String::new(),
            lv: "x".to_owned(),
            state: State::of("-wi-a-----"),
            bytes: 1000 * MIB,
            origin: None,
            tags: Vec::new(),
            numbers: None,
            extent: 4 * MIB,
            stripes: 2,
            pvs: vec!["a".to_owned(), "b".to_owned()],
        };
        assert_eq!(group.own_disks(&volume, 1000 * MIB).unwrap(), ["a", "b"]);
        assert_eq!(
            told(&group.own_disks(&volume, 1008 * MIB).unwrap_err()),
            "the volume group xenvg has 1000M free, and 1008M are needed"
        );
    }

    #[test]
    fn sizes_are_whole_extents_on_each_stripe() {
        for (bytes, extent, stripes, rounded_up) in
            [(0, 4, 1, 0), (1, 4, 1, 4), (9, 4, 2, 16), (16, 4, 2, 16)]
        {
            assert_eq!(rounded(bytes, extent, stripes), rounded_up);
        }
        assert_eq!(rounded(u64::MAX, 4, 3), u64::MAX);
        assert_eq!(rounded(5, 0, 1), 5);
    }
}
