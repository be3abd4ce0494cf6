//! What is kept with a volume as LVM tags: Ganeti's own text, and beside it what the configuration can be rebuilt from.
//!
//! Ours are `gnt-disk:KEY=VALUE`, one for each of `instance`, `index`, `uuid`, `name` and so on, so that LVM finds all volumes of an instance:
//! `lvs @gnt-disk:instance=web1`. Bytes that a tag cannot have are `#` and two hexadecimal digits. The tags of all volumes are in the metadata of
//! their group, which has room for some hundred kilobytes: what is known otherwise has no tag.

use std::fmt::Display;
use std::str::{self, FromStr};

use gnt_config::{Kept, Mebibytes, Mirror, Object};

use crate::driver::Owner;

const OURS: &str = "gnt-disk:";
const YES: &str = "yes";
/// With which the tag of an instance's disk begins (`GetInstanceInfoText`).
const GANETI: &str = "originstname+";
/// Longest tag, in bytes (`lvm(8)`).
const LONGEST: usize = 1024;
/// Longest text that Ganeti keeps (`BlockDev.SetInfo`).
const LONGEST_TEXT: usize = 128;

/// The tags for what `owner` says.
pub(super) fn ours(owner: &Owner) -> Vec<String> {
    let Kept {
        cluster,
        instance_uuid,
        primary,
        detached,
        size,
        mode,
        spindles,
        snapshot_of,
        driver: _,
        params,
        mirror,
    } = &owner.kept;
    let mirror = mirror.as_ref();
    let params = (!params.is_empty()).then(|| serde_json::json!(params));
    let pairs = |pair: [&dyn Display; 2]| format!("{}:{}", pair[0], pair[1]);
    let nodes = mirror.and_then(|mirror| mirror.nodes.as_ref());
    let minors = mirror.and_then(|mirror| mirror.minors.as_ref());
    let tags = [
        ("instance", owner.instance.clone()),
        ("index", owner.index.as_ref().map(ToString::to_string)),
        ("uuid", owner.uuid.clone()),
        ("name", owner.name.clone()),
        ("info", owner.info.clone()),
        ("cluster", cluster.clone()),
        ("instance-uuid", instance_uuid.clone()),
        ("primary", primary.clone()),
        ("detached", detached.then(|| YES.to_owned())),
        ("size", size.map(|size| size.0.to_string())),
        ("mode", mode.map(|mode| mode.to_string())),
        ("spindles", spindles.map(|spindles| spindles.to_string())),
        ("snapshot-of", snapshot_of.clone()),
        ("params", params.map(|params| params.to_string())),
        ("disk", mirror.map(|mirror| mirror.disk.clone())),
        ("part", mirror.map(|mirror| mirror.part.to_string())),
        ("nodes", nodes.map(|[a, b]| pairs([a, b]))),
        ("port", mirror.and_then(|mirror| Some(mirror.port?.to_string()))),
        ("minors", minors.map(|[a, b]| pairs([a, b]))),
    ];
    let tags = tags.into_iter();
    tags.filter_map(|(key, value)| Some(tag(key, &value?))).collect()
}

/// All tags that [`ours`] makes, and the one that Ganeti makes of the text.
pub(super) fn all(owner: &Owner) -> Vec<String> {
    let text = owner.info.as_deref().map(ganeti);
    let text = text.filter(|text| !text.is_empty());
    text.into_iter().chain(ours(owner)).collect()
}

/// What a volume's tags tell of its owner; none if they are other people's. A value that cannot be is passed over.
pub(super) fn owner(tags: &[String]) -> Option<Owner> {
    let value = |key: &str| {
        let mut ours = tags
            .iter()
            .filter_map(|tag| tag.strip_prefix(OURS)?.split_once('='));
        ours.find_map(|(name, value)| (name == key).then(|| unescaped(value)))
    };
    let ganeti = tags.iter().find(|tag| tag.starts_with(GANETI));
    let instance = ganeti.and_then(|tag| tag.strip_prefix(GANETI)).map(str::to_owned);
    let is_ours = ganeti.is_some() || tags.iter().any(|tag| tag.starts_with(OURS));
    is_ours.then(|| Owner {
        instance: value("instance").or(instance),
        index: parsed(value("index")),
        uuid: value("uuid"),
        name: value("name"),
        info: value("info").or_else(|| ganeti.cloned()),
        kept: kept(value),
    })
}

fn kept(value: impl Fn(&str) -> Option<String>) -> Kept {
    let mirror = || {
        Some(Mirror {
            disk: value("disk")?,
            part: parsed(value("part"))?,
            index: None,
            name: None,
            nodes: pair(value("nodes")),
            port: parsed(value("port")),
            minors: pair(value("minors")),
        })
    };
    let params = value("params").and_then(|json| serde_json::from_str::<Object>(&json).ok());
    Kept {
        cluster: value("cluster"),
        instance_uuid: value("instance-uuid"),
        primary: value("primary"),
        detached: value("detached").as_deref() == Some(YES),
        size: parsed(value("size")).map(Mebibytes),
        mode: parsed(value("mode")),
        spindles: parsed(value("spindles")),
        snapshot_of: value("snapshot-of"),
        driver: None,
        params: params.unwrap_or_default(),
        mirror: mirror(),
    }
}

fn parsed<T: FromStr>(value: Option<String>) -> Option<T> {
    value?.parse().ok()
}

/// `A:B`.
fn pair<T: FromStr>(value: Option<String>) -> Option<[T; 2]> {
    let value = value?;
    let (first, second) = value.split_once(':')?;
    Some([first.parse().ok()?, second.parse().ok()?])
}

/// Which of a volume's tags say what [`all`] says anew. Those of others stay.
pub(super) fn replaced(tags: &[String]) -> Vec<String> {
    let text = owner(tags).and_then(|owner| owner.info).map(|text| ganeti(&text));
    let is_replaced =
        |tag: &&String| tag.starts_with(OURS) || tag.starts_with(GANETI) || text.as_ref() == Some(*tag);
    tags.iter().filter(is_replaced).cloned().collect()
}

/// What Ganeti makes of a text (`LogicalVolume.SetInfo`).
fn ganeti(text: &str) -> String {
    let allowed =
        |place: usize, c: char| c.is_ascii_alphanumeric() || "_+.".contains(c) || (place > 0 && c == '-');
    let chars = text.chars().take(LONGEST_TEXT).enumerate();
    chars
        .map(|(place, c)| if allowed(place, c) { c } else { '_' })
        .collect()
}

/// A value that is too long loses its end.
fn tag(key: &str, value: &str) -> String {
    let mut tag = format!("{OURS}{key}=");
    for byte in value.bytes() {
        let escaped = match byte {
            b'.' | b'_' | b'+' | b'-' | b':' | b'/' => char::from(byte).to_string(),
            _ if byte.is_ascii_alphanumeric() => char::from(byte).to_string(),
            _ => format!("#{byte:02x}"),
        };
        if tag.len() + escaped.len() > LONGEST {
            break;
        }
        tag.push_str(&escaped);
    }
    tag
}

fn unescaped(value: &str) -> String {
    let mut pieces = value.split('#');
    let mut bytes = pieces.next().unwrap_or_default().as_bytes().to_vec();
    for piece in pieces {
        let code = piece
            .get(..2)
            .and_then(|digits| u8::from_str_radix(digits, 16).ok());
        match code {
            Some(byte) => {
                bytes.push(byte);
                bytes.extend(piece[2..].bytes());
            }
            None => {
                bytes.push(b'#');
                bytes.extend(piece.bytes());
            }
        }
    }
    String::from_utf8_lossy(&bytes).into_owned()
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn strings(words: &[&str]) -> Vec<String> {
        words.iter().map(|&word| word.to_owned()).collect()
    }

    fn web() -> Owner {
        Owner {
            instance: Some("web.example.org".to_owned()),
            index: Some(0),
            uuid: Some("0a1b".to_owned()),
            name: Some("größe 1".to_owned()),
            info: Some("originstname+web.example.org".to_owned()),
            kept: Kept {
                cluster: Some("prod".to_owned()),
                instance_uuid: Some("2c3d".to_owned()),
                primary: Some("node1.example.org".to_owned()),
                size: Some(Mebibytes(64)),
                ..Kept::default()
            },
        }
    }

    /// The data of a drbd disk, with all that there can be.
    fn data() -> Owner {
        let params = serde_json::json!({"protocol": "A", "disk-custom": "a b"});
        Owner {
            kept: Kept {
                detached: true,
                mode: Some(gnt_config::AccessMode::Ro),
                spindles: Some(2),
                snapshot_of: Some("6a7b".to_owned()),
                params: params.as_object().unwrap().clone(),
                mirror: Some(Mirror {
                    disk: "4e5f".to_owned(),
                    part: gnt_config::Part::Data,
                    index: None,
                    name: None,
                    nodes: Some(["node1", "node2"].map(str::to_owned)),
                    port: Some(11000),
                    minors: Some([0, 4]),
                }),
                ..web().kept
            },
            ..web()
        }
    }

    #[test]
    fn a_disk_has_gaentis_tag_and_ours() {
        assert_eq!(
            all(&web()),
            [
                "originstname+web.example.org",
                "gnt-disk:instance=web.example.org",
                "gnt-disk:index=0",
                "gnt-disk:uuid=0a1b",
                "gnt-disk:name=gr#c3#b6#c3#9fe#201",
                "gnt-disk:info=originstname+web.example.org",
                "gnt-disk:cluster=prod",
                "gnt-disk:instance-uuid=2c3d",
                "gnt-disk:primary=node1.example.org",
                "gnt-disk:size=64",
            ]
        );
        assert_eq!(all(&Owner::default()), [""; 0]);
        assert_eq!(owner(&all(&web())), Some(web()));
        assert_eq!(owner(&all(&data())), Some(data()));
    }

    #[test]
    fn a_volume_of_ganeti_tells_its_instance() {
        let tags = strings(&["backup", "originstname+web"]);
        let told = owner(&tags).unwrap();
        assert_eq!(
            (told.instance.as_deref(), told.info.as_deref()),
            (Some("web"), Some("originstname+web"))
        );
        assert_eq!(owner(&strings(&["backup"])), None);
    }

    #[test]
    fn what_others_put_there_is_not_replaced() {
        let mut tags = all(&Owner {
            info: Some("-my text".to_owned()),
            ..web()
        });
        assert_eq!(tags[0], "_my_text");
        tags.extend(strings(&["backup", "k=v"]));
        let replaced = replaced(&tags);
        assert_eq!(replaced, tags[..tags.len() - 2]);
    }

    #[test]
    fn what_a_tag_cannot_say_is_as_if_it_were_not_there() {
        let nonsense = strings(&[
            "gnt-disk:size=1x",
            "gnt-disk:mode=wx",
            "gnt-disk:params=#7b",
            "gnt-disk:disk=4e5f",
            "gnt-disk:part=half",
            "gnt-disk:index=-1",
            "gnt-disk:from-the-future=1",
        ]);
        assert_eq!(owner(&nonsense), Some(Owner::default()));
        let mut some = nonsense;
        some[4] = "gnt-disk:part=meta".to_owned();
        some.extend(strings(&["gnt-disk:minors=1", "gnt-disk:nodes=a"]));
        let mirror = owner(&some).unwrap().kept.mirror.unwrap();
        assert_eq!((mirror.nodes, mirror.minors), (None, None));
    }

    #[test]
    fn text_becomes_what_ganeti_makes_of_it() {
        assert_eq!(
            ganeti("originstname+web-1.example.org"),
            "originstname+web-1.example.org"
        );
        assert_eq!(ganeti("-a/b c=ü"), "_a_b_c__");
        assert_eq!(ganeti(&"x".repeat(200)).len(), 128);
    }

    #[test]
    fn damaged_tags_are_read_as_they_are() {
        for (value, read) in [
            ("a#", "a#"),
            ("a#zz", "a#zz"),
            ("#c3", "\u{fffd}"),
            ("#2", "#2"),
            ("#ü1", "#ü1"),
        ] {
            assert_eq!(unescaped(value), read);
        }
    }

    proptest! {
        #[test]
        fn any_text_survives(text in any::<String>()) {
            let tag = tag("name", &text);
            prop_assert!(tag.len() <= LONGEST);
            prop_assert!(tag.chars().all(|c| c.is_ascii_alphanumeric() || "_+.-/=!:#&".contains(c)));
            if tag.len() < LONGEST - 3 {
                prop_assert_eq!(owner(&[tag]).unwrap().name.unwrap(), text);
            }
        }
    }
}
