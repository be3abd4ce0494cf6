//! What the log of a Gluster client tells of a mount that failed: the tool itself says only that it did.

/// Why a volume could not be mounted.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum MountFailure {
    /// The server knows of no such volume.
    NoVolume,
    /// The volume is there, and none of its bricks answers.
    NotStarted,
    /// The server's name means nothing.
    NoName,
    /// The server does not answer.
    NoServer,
    /// This node has no FUSE.
    NoFuse,
    /// The log does not tell.
    Unknown,
}

/// What the log says in each case. The first that is found counts: a server whose name means nothing does not answer either.
const SIGNS: [(&str, MountFailure); 7] = [
    ("cannot open /dev/fuse", MountFailure::NoFuse),
    ("failed to fetch volume file", MountFailure::NoVolume),
    ("DNS resolution failed", MountFailure::NoName),
    ("first lookup on root failed", MountFailure::NotStarted),
    (
        "failed to get the port number for remote subvolume",
        MountFailure::NotStarted,
    ),
    ("Exhausted all volfile servers", MountFailure::NoServer),
    ("disconnected from remote-host", MountFailure::NoServer),
];

/// The reason, and the last lines that tell of errors, without the time and the place in the program.
pub(super) fn reason(log: &str) -> (MountFailure, Vec<String>) {
    const LINES: usize = 5;
    let signs = SIGNS.iter().find(|(sign, _)| log.contains(sign));
    let failure = signs.map_or(MountFailure::Unknown, |(_, failure)| *failure);
    let mut errors: Vec<_> = log.lines().filter_map(error).map(str::to_owned).collect();
    errors.drain(..errors.len().saturating_sub(LINES));
    (failure, errors)
}

/// The message of a line `[TIME] LEVEL [MSGID: …] [FILE:LINE:FUNCTION] N-NAME: MESSAGE` that tells of an error. That a server does not answer
/// is no error to Gluster.
fn error(line: &str) -> Option<&str> {
    let (_, rest) = line.strip_prefix('[')?.split_once("] ")?;
    let (level, rest) = rest.split_once(' ')?;
    let (_, message) = rest.split_once("] ").map_or(("", rest), |(_, rest)| {
        let rest = rest.rsplit_once("] 0-").map_or(rest, |(_, rest)| rest);
        rest.split_once(": ").unwrap_or(("", rest))
    });
    let tells = matches!(level, "E" | "C" | "A") || message.contains("disconnected from remote-host");
    tells.then_some(message.trim())
}
