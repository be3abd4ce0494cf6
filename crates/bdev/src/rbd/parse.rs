//! What `rbd` prints.

use std::collections::BTreeMap;
use std::path::PathBuf;

use gnt_config::Mebibytes;
use serde::Deserialize;

use crate::driver::Space;

/// An image, or a snapshot of one, that is mapped to a device.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Mapping {
    pub(super) pool: String,
    /// Empty but for images in a namespace of the pool.
    pub(super) namespace: String,
    pub(super) image: String,
    /// None for the image itself.
    pub(super) snapshot: Option<String>,
    pub(super) device: PathBuf,
}

/// An image of a pool.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Listed {
    pub(super) name: String,
    pub(super) bytes: u64,
}

/// The output is not what it should be.
#[derive(Debug, thiserror::Error)]
pub(super) enum ParseError {
    #[error("it is not the JSON expected: {0}")]
    Json(#[from] serde_json::Error),
    #[error("it has no columns pool, image, snap and device")]
    Columns,
    #[error("there is no column {column} in the line {line:?}")]
    Line { column: &'static str, line: String },
}

/// `rbd showmapped --format json`: a list since Ceph 14 (Nautilus), before that an object whose keys are the devices' ids.
pub(super) fn mappings(json: &str) -> Result<Vec<Mapping>, ParseError> {
    #[derive(Deserialize)]
    #[serde(untagged)]
    enum Report {
        List(Vec<Entry>),
        ById(BTreeMap<String, Entry>),
    }
    #[derive(Deserialize)]
    struct Entry {
        pool: String,
        #[serde(default)]
        namespace: String,
        // `image` in some versions.
        #[serde(alias = "image")]
        name: String,
        #[serde(default)]
        snap: String,
        device: PathBuf,
    }
    let entries = match serde_json::from_str(json)? {
        Report::List(entries) => entries,
        Report::ById(entries) => entries.into_values().collect(),
    };
    let mapping = |entry: Entry| Mapping {
        pool: entry.pool,
        namespace: entry.namespace,
        image: entry.name,
        snapshot: snapshot(&entry.snap),
        device: entry.device,
    };
    Ok(entries.into_iter().map(mapping).collect())
}

/// `rbd showmapped`: a table, its columns parted by tabs before Ceph 0.55 and since then as wide as what is in them, or nothing at
/// all. The column `namespace` came with Ceph 14; it is mostly blank.
pub(super) fn mappings_plain(text: &str) -> Result<Vec<Mapping>, ParseError> {
    let mut lines = text.lines().filter(|line| !line.trim().is_empty());
    let Some(header) = lines.next() else {
        return Ok(Vec::new());
    };
    let columns = Columns::of(header)?;
    lines.map(|line| columns.mapping(line)).collect()
}

/// The columns of a table, by name.
struct Columns<'a> {
    names: Vec<(&'a str, usize)>,
    tabs: bool,
}

impl<'a> Columns<'a> {
    fn of(header: &'a str) -> Result<Self, ParseError> {
        let start = |name: &str| name.as_ptr().addr() - header.as_ptr().addr();
        let names: Vec<_> = header
            .split_whitespace()
            .map(|name| (name, start(name)))
            .collect();
        let has = |wanted: &str| names.iter().any(|(name, _)| *name == wanted);
        if !["pool", "image", "snap", "device"].into_iter().all(has) {
            return Err(ParseError::Columns);
        }
        let tabs = header.contains('\t');
        Ok(Self { names, tabs })
    }

    /// What is in a column of a line, without the blanks around it.
    fn field<'b>(&self, line: &'b str, column: &str) -> Option<&'b str> {
        let at = self.names.iter().position(|(name, _)| *name == column)?;
        let field = if self.tabs {
            line.split('\t').nth(at)?
        } else {
            let start = self.names[at].1;
            let end = self.names.get(at + 1).map_or(line.len(), |(_, next)| *next);
            line.get(start..end.min(line.len()))?
        };
        Some(field.trim())
    }

    fn mapping(&self, line: &str) -> Result<Mapping, ParseError> {
        let needed = |column| {
            let field = self.field(line, column).filter(|field| !field.is_empty());
            field.ok_or_else(|| ParseError::Line {
                column,
                line: line.to_owned(),
            })
        };
        Ok(Mapping {
            pool: needed("pool")?.to_owned(),
            namespace: self.field(line, "namespace").unwrap_or_default().to_owned(),
            image: needed("image")?.to_owned(),
            snapshot: snapshot(needed("snap")?),
            device: needed("device")?.into(),
        })
    }
}

fn snapshot(name: &str) -> Option<String> {
    (!name.is_empty() && name != "-").then(|| name.to_owned())
}

/// `rbd info --format json`: the size in bytes.
pub(super) fn size(json: &str) -> Result<u64, ParseError> {
    #[derive(Deserialize)]
    struct Info {
        size: u64,
    }
    Ok(serde_json::from_str::<Info>(json)?.size)
}

/// `rbd ls --long --format json`: the images, without their snapshots.
pub(super) fn images(json: &str) -> Result<Vec<Listed>, ParseError> {
    #[derive(Deserialize)]
    struct Entry {
        image: String,
        size: u64,
        snapshot: Option<String>,
    }
    let entries: Vec<Entry> = serde_json::from_str(json)?;
    let images = entries.into_iter().filter(|entry| entry.snapshot.is_none());
    let listed = images.map(|entry| Listed {
        name: entry.image,
        bytes: entry.size,
    });
    Ok(listed.collect())
}

/// `ceph df --format json`: what can still be written to the pool, and how much that is with what was; none where that is not known, as
/// when the cluster's manager has not told the monitors.
pub(super) fn space(json: &str, pool: &str) -> Result<Option<Space>, ParseError> {
    #[derive(Deserialize)]
    struct Report {
        pools: Vec<Entry>,
    }
    #[derive(Deserialize)]
    struct Entry {
        name: String,
        stats: Stats,
    }
    #[derive(Deserialize)]
    struct Stats {
        // `bytes_used` until Ceph 13 (Mimic); since then that counts the copies.
        stored: Option<u64>,
        bytes_used: u64,
        max_avail: u64,
    }
    let report: Report = serde_json::from_str(json)?;
    let found = report.pools.into_iter().find(|entry| entry.name == pool);
    Ok(found.map(|Entry { name, stats }| {
        let written = stats.stored.unwrap_or(stats.bytes_used);
        Space {
            name,
            free: Mebibytes::from_bytes(stats.max_avail),
            total: Mebibytes::from_bytes(written.saturating_add(stats.max_avail)),
        }
    }))
}

/// `rbd snap ls --format json`: the names.
pub(super) fn snapshots(json: &str) -> Result<Vec<String>, ParseError> {
    #[derive(Deserialize)]
    struct Entry {
        name: String,
    }
    let entries: Vec<Entry> = serde_json::from_str(json)?;
    Ok(entries.into_iter().map(|entry| entry.name).collect())
}

/// `rbd status --format json`: the addresses of those that have the image open, each once. A list since Ceph 12.2, before
/// that an object.
pub(super) fn watchers(json: &str) -> Result<Vec<String>, ParseError> {
    #[derive(Deserialize)]
    struct Status {
        #[serde(default)]
        watchers: Watchers,
    }
    #[derive(Deserialize)]
    #[serde(untagged)]
    enum Watchers {
        List(Vec<Watcher>),
        ByKey(BTreeMap<String, Watcher>),
    }
    impl Default for Watchers {
        fn default() -> Self {
            Self::List(Vec::new())
        }
    }
    #[derive(Deserialize)]
    struct Watcher {
        address: String,
    }
    let watchers = match serde_json::from_str::<Status>(json)?.watchers {
        Watchers::List(watchers) => watchers,
        Watchers::ByKey(watchers) => watchers.into_values().collect(),
    };
    let mut addresses: Vec<_> = watchers.into_iter().map(|watcher| watcher.address).collect();
    addresses.sort();
    addresses.dedup();
    Ok(addresses)
}

/// `rbd image-meta list --format json`: the value of one key. Nothing at all is printed where there is no metadata.
pub(super) fn metadata(json: &str, key: &str) -> Result<Option<String>, ParseError> {
    if json.trim().is_empty() {
        return Ok(None);
    }
    let mut values: BTreeMap<String, String> = serde_json::from_str(json)?;
    Ok(values.remove(key))
}
