//! What is kept with a volume as LVM tags: Ganeti's own text, and beside it what the configuration can be rebuilt from.
//!
//! Ours are `gnt-disk:KEY=VALUE`, one for each of `instance`, `index`, `uuid`, `name` and `info`, so that LVM finds all volumes of an instance:
//! `lvs @gnt-disk:instance=web1`. Bytes that a tag cannot have are `#` and two hexadecimal digits.

use std::str;

use crate::driver::Owner;

const OURS: &str = "gnt-disk:";
/// With which the tag of an instance's disk begins (`GetInstanceInfoText`).
const GANETI: &str = "originstname+";
/// Longest tag, in bytes (`lvm(8)`).
const LONGEST: usize = 1024;
/// Longest text that Ganeti keeps (`BlockDev.SetInfo`).
const LONGEST_TEXT: usize = 128;

/// The tags for what `owner` says.
pub(super) fn ours(owner: &Owner) -> Vec<String> {
    let index = owner.index.map(|index| index.to_string());
    let tags = [
        ("instance", &owner.instance),
        ("index", &index),
        ("uuid", &owner.uuid),
        ("name", &owner.name),
        ("info", &owner.info),
    ];
    let tags = tags.into_iter();
    tags.filter_map(|(key, value)| Some(tag(key, value.as_deref()?)))
        .collect()
}

/// All tags that [`ours`] makes, and the one that Ganeti makes of the text.
pub(super) fn all(owner: &Owner) -> Vec<String> {
    let text = owner.info.as_deref().map(ganeti);
    let text = text.filter(|text| !text.is_empty());
    text.into_iter().chain(ours(owner)).collect()
}

/// What a volume's tags tell of its owner; none if they are other people's.
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
        index: value("index").and_then(|index| index.parse().ok()),
        uuid: value("uuid"),
        name: value("name"),
        info: value("info").or_else(|| ganeti.cloned()),
    })
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
            ]
        );
        assert_eq!(all(&Owner::default()), [""; 0]);
        assert_eq!(owner(&all(&web())), Some(web()));
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
        assert_eq!(replaced, tags[..6]);
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
