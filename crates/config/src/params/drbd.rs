//! Parameters of drbd disks.

use std::fmt;
use std::num::NonZeroU32;
use std::str::FromStr;

use strum::{Display, EnumString, IntoStaticStr};

use super::value::text_value;
use super::{LvmParams, VolumeGroupName, parameters};

/// When a write counts as done (`drbdsetup net-options --protocol`).
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Default, Display, EnumString, IntoStaticStr)]
pub enum Protocol {
    /// It is on the local disk and in the local send buffer.
    A,
    /// It is on the local disk and in the other node's memory.
    B,
    /// It is on both disks.
    #[default]
    C,
}

text_value!(Protocol, "A, B or C");

/// What keeps writes in order on the disk and is turned **off** (`constants.DRBD_VALID_BARRIER_OPT`): `n` for nothing, or any
/// of `b`, `d` and `f`.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub struct Barriers(String);

impl Barriers {
    /// Nothing is turned off.
    pub fn none_disabled() -> Self {
        Self("n".to_owned())
    }

    /// Barriers are turned off (`--disk-barrier=no`).
    pub fn without_barriers(&self) -> bool {
        self.0.contains('b')
    }

    /// Draining is turned off (`--disk-drain=no`).
    pub fn without_drain(&self) -> bool {
        self.0.contains('d')
    }

    /// Flushes are turned off (`--disk-flushes=no`).
    pub fn without_flushes(&self) -> bool {
        self.0.contains('f')
    }
}

/// A text that is none of the sets.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("expected n, or any of the letters b, d and f")]
pub struct BarriersError;

impl FromStr for Barriers {
    type Err = BarriersError;

    fn from_str(text: &str) -> Result<Self, BarriersError> {
        let of = |letters: &str| !text.is_empty() && text.chars().all(|c| letters.contains(c));
        match of("n") || of("bdf") {
            true => Ok(Self(text.to_owned())),
            false => Err(BarriersError),
        }
    }
}

impl fmt::Display for Barriers {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

text_value!(Barriers, "n, or any of the letters b, d and f");

/// Resync rate where none is set, in KiB/s (`constants.CLASSIC_DRBD_SYNC_SPEED`).
const CLASSIC_SYNC_SPEED: u64 = 60 * 1024;

parameters! {
    /// Parameters of the template: what is set for a cluster or a group.
    DrbdParams of Drbd {
        /// Delay of the peer's answers that the dynamic resync controller aims at, in tenths of a second.
        "c-delay-target" c_delay_target: u64 = 1,
        /// Amount of resync data in flight that the controller aims at, in sectors of 512 bytes; 0 makes it use the delay.
        "c-fill-target" c_fill_target: u64 = 0,
        /// Highest rate of the controller, in KiB/s.
        "c-max-rate" c_max_rate: u64 = CLASSIC_SYNC_SPEED,
        /// Rate below which resync does not fall on behalf of the application, in KiB/s.
        "c-min-rate" c_min_rate: u64 = 4096,
        /// Time that the controller plans ahead, in tenths of a second; 0 turns it off, so it does not go with
        /// `dynamic-resync`.
        "c-plan-ahead" c_plan_ahead: u64 = 20,
        /// Stripes of the data volume.
        "data-stripes" data_stripes: NonZeroU32 = NonZeroU32::MIN,
        /// What is turned off on the data volume.
        "disk-barriers" disk_barriers: Barriers = Barriers::none_disabled(),
        /// Further options for `drbdsetup disk-options`, as a shell would read them.
        "disk-custom" disk_custom: String = String::new(),
        /// Whether the dynamic controller sets the resync rate, rather than `resync-rate`.
        "dynamic-resync" dynamic_resync: bool = false,
        /// Whether flushes of the metadata volume are turned **off**.
        "meta-barriers" meta_barriers: bool = false,
        /// Stripes of the metadata volume.
        "meta-stripes" meta_stripes: NonZeroU32 = NonZeroU32::MIN,
        /// Volume group for metadata volumes of new disks that name none.
        "metavg" metavg: VolumeGroupName = VolumeGroupName::from_static("xenvg"),
        /// Further options for `drbdsetup net-options`, as a shell would read them.
        "net-custom" net_custom: String = String::new(),
        /// When a write counts as done.
        "protocol" protocol: Protocol = Protocol::C,
        /// Fixed resync rate, in KiB/s.
        "resync-rate" resync_rate: u64 = CLASSIC_SYNC_SPEED,
    }
}

parameters! {
    /// Parameters of one drbd device: what a node gets. The fields are those of [`DrbdParams`], some under other names.
    DrbdDeviceParams of Drbd {
        /// As in [`DrbdParams`].
        "c-delay-target" c_delay_target: u64 = 1,
        /// As in [`DrbdParams`].
        "c-fill-target" c_fill_target: u64 = 0,
        /// As in [`DrbdParams`].
        "c-max-rate" c_max_rate: u64 = CLASSIC_SYNC_SPEED,
        /// As in [`DrbdParams`].
        "c-min-rate" c_min_rate: u64 = 4096,
        /// As in [`DrbdParams`].
        "c-plan-ahead" c_plan_ahead: u64 = 20,
        /// `metavg` of [`DrbdParams`].
        "default-metavg" default_metavg: VolumeGroupName = VolumeGroupName::from_static("xenvg"),
        /// `meta-barriers` of [`DrbdParams`].
        "disable-meta-flush" disable_meta_flush: bool = false,
        /// `disk-barriers` of [`DrbdParams`].
        "disabled-barriers" disabled_barriers: Barriers = Barriers::none_disabled(),
        /// As in [`DrbdParams`].
        "disk-custom" disk_custom: String = String::new(),
        /// As in [`DrbdParams`].
        "dynamic-resync" dynamic_resync: bool = false,
        /// As in [`DrbdParams`].
        "net-custom" net_custom: String = String::new(),
        /// As in [`DrbdParams`].
        "protocol" protocol: Protocol = Protocol::C,
        /// As in [`DrbdParams`].
        "resync-rate" resync_rate: u64 = CLASSIC_SYNC_SPEED,
    }
}

impl DrbdParams {
    /// The parameters of a device and of its data and metadata volume.
    pub fn of_devices(&self) -> (DrbdDeviceParams, LvmParams, LvmParams) {
        let all = self.clone();
        let device = DrbdDeviceParams {
            c_delay_target: all.c_delay_target,
            c_fill_target: all.c_fill_target,
            c_max_rate: all.c_max_rate,
            c_min_rate: all.c_min_rate,
            c_plan_ahead: all.c_plan_ahead,
            default_metavg: all.metavg,
            disable_meta_flush: all.meta_barriers,
            disabled_barriers: all.disk_barriers,
            disk_custom: all.disk_custom,
            dynamic_resync: all.dynamic_resync,
            net_custom: all.net_custom,
            protocol: all.protocol,
            resync_rate: all.resync_rate,
        };
        let volume = |stripes| LvmParams { stripes };
        (device, volume(all.data_stripes), volume(all.meta_stripes))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn barriers_are_the_sets_that_ganeti_allows() {
        for text in ["n", "b", "d", "f", "df", "bd", "bf", "bfd", "dfb"] {
            assert_eq!(
                text.parse::<Barriers>().map(|b| b.to_string()).as_deref(),
                Ok(text)
            );
        }
        for text in ["", "nb", "x", "b f", "B"] {
            assert!(text.parse::<Barriers>().is_err(), "{text:?}");
        }
        let off: Barriers = "bf".parse().unwrap();
        assert_eq!(
            [off.without_barriers(), off.without_drain(), off.without_flushes()],
            [true, false, true]
        );
        let on = Barriers::none_disabled();
        assert!(![on.without_barriers(), on.without_drain(), on.without_flushes()].contains(&true));
    }
}
