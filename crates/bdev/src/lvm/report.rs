//! What `lvs` and `pvs` report (`lvmreport(7)`, `--reportformat json --units b --nosuffix`).

use std::fmt;

use serde::de::{DeserializeOwned, Error as _};
use serde::{Deserialize, Deserializer};

/// A logical volume.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct LogicalVolume {
    pub(super) vg: String,
    /// Of the group, whose name may not be its alone.
    pub(super) vg_uuid: String,
    pub(super) lv: String,
    pub(super) state: State,
    /// The size of its device.
    pub(super) bytes: u64,
    /// For a snapshot the volume that it shows.
    pub(super) origin: Option<String>,
    pub(super) tags: Vec<String>,
    /// Major and minor number of its device, if it is active.
    pub(super) numbers: Option<(u32, u32)>,
    /// Size of the group's extents in bytes.
    pub(super) extent: u64,
    /// Stripes of its end.
    pub(super) stripes: u32,
    /// The physical volumes that it is on.
    pub(super) pvs: Vec<String>,
}

/// What `lv_attr` tells (`lvs(8)`).
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct State {
    /// It has a device.
    pub(super) active: bool,
    /// Something has its device open.
    pub(super) open: bool,
    /// There are several copies of its data.
    pub(super) mirrored: bool,
    /// It is made of its origin and the changes since; a thin snapshot is a volume like any other.
    pub(super) snapshot: bool,
    pub(super) health: Health,
}

/// How much of a volume is there.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Health {
    /// All.
    Whole,
    /// A physical volume is missing, or for one with several copies something else is wrong with one of them.
    Partial,
    /// Nothing (`virtual`), or it is a snapshot that could not take all changes.
    Lost,
    /// LVM cannot tell.
    Unknown,
}

/// A physical volume of a group.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct PhysicalVolume {
    pub(super) name: String,
    pub(super) vg: String,
    pub(super) bytes: u64,
    pub(super) free: u64,
    /// Size of the group's extents in bytes.
    pub(super) extent: u64,
    /// New volumes may be put on it.
    pub(super) allocatable: bool,
    /// It is lost.
    pub(super) missing: bool,
}

/// The report of `lvs`.
pub(super) fn logical_volumes(json: &str) -> Result<Vec<LogicalVolume>, serde_json::Error> {
    let mut volumes: Vec<LogicalVolume> = Vec::new();
    for report in reports::<LvReport>(json)? {
        for segment in report.lv {
            match volumes.last_mut() {
                Some(last) if segment.continues(last) => {
                    last.stripes = segment.stripes.max(1);
                    last.pvs.extend(devices(&segment.devices));
                }
                _ => volumes.push(segment.into()),
            }
        }
    }
    Ok(volumes)
}

/// The report of `pvs`: those that belong to a group. Where its metadata is damaged LVM calls it `[unknown]`.
pub(super) fn physical_volumes(json: &str) -> Result<Vec<PhysicalVolume>, serde_json::Error> {
    let mut pvs = all_physical_volumes(json)?;
    pvs.retain(|pv| !pv.vg.is_empty() && !pv.vg.starts_with('['));
    Ok(pvs)
}

/// The report of `pvs`, with those that belong to no group.
pub(super) fn all_physical_volumes(json: &str) -> Result<Vec<PhysicalVolume>, serde_json::Error> {
    let rows = reports::<PvReport>(json)?
        .into_iter()
        .flat_map(|report| report.pv);
    Ok(rows.map(PhysicalVolume::from).collect())
}

/// Unknown keys, such as the log that `lvm.conf` can ask for, are passed over.
#[derive(Deserialize)]
struct Document<R> {
    report: Vec<R>,
}

fn reports<R: DeserializeOwned>(json: &str) -> Result<Vec<R>, serde_json::Error> {
    serde_json::from_str::<Document<R>>(json).map(|document| document.report)
}

#[derive(Deserialize)]
struct LvReport {
    lv: Vec<Segment>,
}

#[derive(Deserialize)]
struct PvReport {
    pv: Vec<PvRow>,
}

/// One segment of a volume, with all that is true of the whole.
#[derive(Deserialize)]
struct Segment {
    vg_name: String,
    vg_uuid: String,
    lv_name: String,
    lv_attr: String,
    #[serde(deserialize_with = "number")]
    lv_size: u64,
    origin: String,
    origin_size: String,
    lv_tags: String,
    lv_kernel_major: String,
    lv_kernel_minor: String,
    #[serde(deserialize_with = "number")]
    vg_extent_size: u64,
    #[serde(deserialize_with = "number")]
    stripes: u32,
    devices: String,
}

impl Segment {
    fn continues(&self, volume: &LogicalVolume) -> bool {
        (&self.vg_uuid, &self.lv_name) == (&volume.vg_uuid, &volume.lv)
    }
}

#[derive(Deserialize)]
struct PvRow {
    pv_name: String,
    vg_name: String,
    #[serde(deserialize_with = "number")]
    pv_size: u64,
    #[serde(deserialize_with = "number")]
    pv_free: u64,
    pv_missing: String,
    pv_allocatable: String,
    #[serde(deserialize_with = "number")]
    vg_extent_size: u64,
}

/// Numbers are strings in these reports.
fn number<'de, D: Deserializer<'de>, T: std::str::FromStr<Err: fmt::Display>>(
    deserializer: D,
) -> Result<T, D::Error> {
    let text = String::deserialize(deserializer)?;
    text.parse()
        .map_err(|error| D::Error::custom(format_args!("{text:?} is no number: {error}")))
}

impl From<Segment> for LogicalVolume {
    fn from(row: Segment) -> Self {
        // What a snapshot itself takes is the room for changes; its device is as large as its origin's.
        let state = State::of(&row.lv_attr);
        let bytes = match state.snapshot {
            true => row.origin_size.parse().unwrap_or(row.lv_size),
            false => row.lv_size,
        };
        let numbers = row
            .lv_kernel_major
            .parse()
            .ok()
            .zip(row.lv_kernel_minor.parse().ok());
        let list = |text: &str| {
            text.split(',')
                .filter(|item| !item.is_empty())
                .map(str::to_owned)
                .collect()
        };
        Self {
            bytes,
            origin: Some(row.origin).filter(|_| state.snapshot),
            state,
            tags: list(&row.lv_tags),
            numbers,
            extent: row.vg_extent_size,
            stripes: row.stripes.max(1),
            pvs: devices(&row.devices).collect(),
            vg: row.vg_name,
            vg_uuid: row.vg_uuid,
            lv: row.lv_name,
        }
    }
}

impl From<PvRow> for PhysicalVolume {
    fn from(row: PvRow) -> Self {
        let missing = !row.pv_missing.is_empty();
        Self {
            allocatable: !row.pv_allocatable.is_empty() && !missing,
            missing,
            name: row.pv_name,
            vg: row.vg_name,
            bytes: row.pv_size,
            free: row.pv_free,
            extent: row.vg_extent_size,
        }
    }
}

impl State {
    pub(super) fn of(attributes: &str) -> Self {
        let is = |place: usize, letters: &str| {
            let letter = attributes.chars().nth(place);
            letter.is_some_and(|letter| letters.contains(letter))
        };
        const TYPE: usize = 0;
        const STATE: usize = 4;
        const OPEN: usize = 5;
        const HEALTH: usize = 8;
        let mirrored = is(TYPE, "mMrR");
        let health = if is(TYPE, "v") || is(STATE, "IS") {
            Health::Lost
        } else if is(HEALTH, "p") || (mirrored && !is(HEALTH, "-")) {
            Health::Partial
        } else if is(HEALTH, "X") {
            Health::Unknown
        } else {
            Health::Whole
        };
        Self {
            // A suspended one is activated to resume it.
            active: is(STATE, "aI"),
            open: is(OPEN, "o"),
            mirrored,
            snapshot: is(TYPE, "sS"),
            health,
        }
    }
}

/// The names in `/dev/sda(0),/dev/sdb(25)`, each with the first extent.
fn devices(text: &str) -> impl Iterator<Item = String> {
    let devices = text.split(',').filter(|device| !device.is_empty());
    devices.map(|device| {
        device
            .rsplit_once('(')
            .map_or(device, |(name, _)| name)
            .to_owned()
    })
}
