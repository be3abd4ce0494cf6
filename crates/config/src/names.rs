//! Which names are names. All of them end up in paths, command lines or environments of programs, so each kind has a closed
//! set of characters, and none can climb out of a directory or be taken for an option.

/// A name that cannot be used.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{name:?} is not a valid {kind}: expected {expected}")]
pub struct NameError {
    /// What it should name.
    pub kind: &'static str,
    /// The name.
    pub name: String,
    /// What such a name looks like.
    pub expected: &'static str,
}

/// Longest name of anything that becomes one part of a path (`NAME_MAX`), in bytes.
const NAME_MAX: usize = 255;
/// Longest name that LVM takes (`NAME_LEN` with its end), in bytes.
const LVM_NAME_MAX: usize = 127;

/// An instance's name, as `netutils.Hostname.GetNormalizedName` without the lower-casing: it names the instance's directory
/// of file-based disks and its device links.
pub fn instance(name: &str) -> Result<(), NameError> {
    let good = simple(name, NAME_MAX, ".-") && is_of(name, "._-") && !name.contains("..");
    let expected =
        "at most 255 letters, digits, '.', '_' and '-', without '..', not starting with '.' or '-'";
    check("instance name", name, expected, good)
}

/// A disk's name: what users and providers (`VOL_CNAME`) call it.
pub fn disk(name: &str) -> Result<(), NameError> {
    let good = !name.is_empty() && name.len() <= NAME_MAX && !name.contains(char::is_control);
    let expected = "at most 255 bytes without control characters";
    check("disk name", name, expected, good)
}

/// An External Storage provider's name, which is that of its directory (`constants.EXT_PLUGIN_MASK`, and dots).
pub fn provider(name: &str) -> Result<(), NameError> {
    let good = simple(name, NAME_MAX, ".-") && is_of(name, "._-") && !name.contains("..");
    let expected = "letters, digits, '.', '_' and '-', without '..', not starting with '.' or '-'";
    check("provider name", name, expected, good)
}

/// A parameter for a provider, which it gets as `EXTP_` and the name in upper case.
pub fn provider_parameter(name: &str) -> Result<(), NameError> {
    let good = simple(name, NAME_MAX, "") && is_of(name, "._-");
    check("parameter name", name, "letters, digits, '.', '_' and '-'", good)
}

/// An LVM volume group's name (`lvm(8)`).
pub fn volume_group(name: &str) -> Result<(), NameError> {
    let expected =
        "at most 127 letters, digits, '+', '_', '.' and '-', not starting with '-', not '.' or '..'";
    check("volume group name", name, expected, lvm(name))
}

/// An LVM logical volume's name (`lvm(8)`): none that LVM keeps for itself.
pub fn logical_volume(name: &str) -> Result<(), NameError> {
    const RESERVED_PARTS: [&str; 10] = [
        "_cdata", "_cmeta", "_corig", "_mlog", "_mimage", "_pmspare", "_rimage", "_rmeta", "_tdata", "_tmeta",
    ];
    let reserved = ["snapshot", "pvmove"].iter().any(|start| name.starts_with(start))
        || RESERVED_PARTS.iter().any(|part| name.contains(part));
    let expected = "at most 127 letters, digits, '+', '_', '.' and '-', not starting with '-', not '.' or '..', \
                    and nothing that LVM reserves (snapshot…, pvmove…, …_mlog…, …_rimage… and the like)";
    check("logical volume name", name, expected, lvm(name) && !reserved)
}

/// The name of an rbd image, an rbd pool or user, a Gluster volume, an ext volume.
pub fn volume(name: &str) -> Result<(), NameError> {
    let good = simple(name, NAME_MAX, ".-") && is_of(name, "._+:-");
    let expected = "at most 255 letters, digits, '.', '_', '+', ':' and '-', not starting with '.' or '-'";
    check("volume name", name, expected, good)
}

/// A node group's name.
pub fn group(name: &str) -> Result<(), NameError> {
    let good = simple(name, NAME_MAX, ".-") && is_of(name, "._-");
    let expected = "at most 255 letters, digits, '.', '_' and '-', not starting with '.' or '-'";
    check("node group name", name, expected, good)
}

/// A host's name or address.
pub fn host(name: &str) -> Result<(), NameError> {
    let good = simple(name, NAME_MAX, ".-") && is_of(name, ".-_:[]");
    check("host", name, "a host name or an IP address", good)
}

fn check(kind: &'static str, name: &str, expected: &'static str, good: bool) -> Result<(), NameError> {
    if good {
        return Ok(());
    }
    Err(NameError {
        kind,
        name: name.to_owned(),
        expected,
    })
}

fn simple(name: &str, longest: usize, not_first: &str) -> bool {
    !name.is_empty() && name.len() <= longest && !name.starts_with(|c| not_first.contains(c))
}

fn is_of(name: &str, others: &str) -> bool {
    name.chars()
        .all(|c| c.is_ascii_alphanumeric() || others.contains(c))
}

fn lvm(name: &str) -> bool {
    simple(name, LVM_NAME_MAX, "-") && is_of(name, "+_.-") && name != "." && name != ".."
}

#[cfg(test)]
mod tests {
    use super::*;

    type Check = fn(&str) -> Result<(), NameError>;

    #[test]
    fn names_in_use_are_accepted() {
        let uuid = "5ab57b6b-d5dc-470f-8685-c9417d8cf30b";
        let cases: [(Check, &[&str]); 8] = [
            (instance, &["inst1.example.com", "x", "Web_1", "0"]),
            (disk, &["data", "2", "None", "my disk", "größe"]),
            (provider, &["ext", "loopext", "pure-fa", "v2.1"]),
            (provider_parameter, &["1pr", "fc_wwn", "a-b", "X"]),
            (volume_group, &["xenvg", "39", "vg+1.a_b-c"]),
            (
                logical_volume,
                &[
                    &format!("{uuid}.disk0_data"),
                    &format!("{uuid}.disk0_meta"),
                    "root",
                ],
            ),
            (
                volume,
                &[&format!("{uuid}.ext.disk0"), &format!("{uuid}.rbd.disk12"), "gv0"],
            ),
            (
                host,
                &["127.0.0.1", "gluster.example.com", "fd00::1", "[fd00::1]"],
            ),
        ];
        for (check, names) in cases {
            for name in names {
                assert_eq!(check(name), Ok(()));
            }
        }
    }

    #[test]
    fn names_that_could_do_harm_are_refused() {
        let long = "x".repeat(256);
        let anywhere = ["", "a\0b", "a\nb", &long];
        let paths = ["..", ".", "a/b", "../etc", "-rf", "a b", "$(x)"];
        let cases: [(Check, &[&str], &[&str]); 8] = [
            (disk, &[], &[]),
            (provider_parameter, &[], &["a=b", "a b", "$(x)", "a/b", "ü"]),
            (instance, &paths, &[".hidden", "a..b", "inst:0", "größe"]),
            (provider, &paths, &["a..b", ".git"]),
            (volume_group, &paths, &["vg:1"]),
            (
                logical_volume,
                &paths,
                &["snapshot1", "pvmove0", "x_mlog", "x_rimage_0", "pool_tdata"],
            ),
            (volume, &paths, &["pool/image", "image@snap"]),
            (host, &paths, &["host;reboot"]),
        ];
        for (check, paths, others) in cases {
            for name in anywhere.iter().chain(paths).chain(others) {
                assert!(check(name).is_err(), "{name:?}");
            }
        }
    }

    #[test]
    fn errors_show_the_name_in_quotes() {
        let error = provider("a\u{1b}[2J").unwrap_err();
        assert!(
            error
                .to_string()
                .starts_with(r#""a\u{1b}[2J" is not a valid provider name"#),
            "{error}"
        );
    }
}
