//! What a provider can be asked to do.

use std::path::Path;

use enumset::{EnumSet, EnumSetType, enum_set};
use gnt_process::{Command, Effect};
use strum::{Display, EnumString, IntoStaticStr};

/// An action of the External Storage Interface; each is a script of that name in the provider's directory.
#[derive(Debug, Hash, PartialOrd, Ord, EnumSetType, Display, EnumString, IntoStaticStr)]
#[strum(serialize_all = "lowercase")]
pub enum Action {
    /// Makes a volume.
    Create,
    /// Makes a volume a block device of this node, and prints its path. Idempotent.
    Attach,
    /// Undoes attach. Idempotent.
    Detach,
    /// Deletes a volume and its data.
    Remove,
    /// Grows a volume to a size.
    Grow,
    /// Has the provider keep a text with a volume.
    Setinfo,
    /// Checks the parameters.
    Verify,
    /// Copies a volume as it is now.
    Snapshot,
    /// Allows I/O from this node.
    Open,
    /// Ends what open has begun.
    Close,
    /// Prints all volumes, one JSON object a line.
    List,
    /// Prints one volume as `list` does, and its device on this node; nothing if there is no such volume.
    Info,
}

impl Action {
    /// The scripts that every provider has (`constants.ES_SCRIPTS` without the optional ones).
    pub const REQUIRED: EnumSet<Action> = enum_set!(
        Action::Create
            | Action::Attach
            | Action::Detach
            | Action::Remove
            | Action::Grow
            | Action::Setinfo
            | Action::Verify
    );

    /// The scripts that a provider may have.
    pub const OPTIONAL: EnumSet<Action> = enum_set!(Action::Snapshot | Action::Open | Action::Close);

    /// The scripts that a provider may have for us; Ganeti does not know them. A file of that name which is
    /// no executable means something else to its author, and does not count.
    pub const EXTENSIONS: EnumSet<Action> = enum_set!(Action::List | Action::Info);

    /// The actions that only look.
    pub const QUERIES: EnumSet<Action> = enum_set!(Action::Verify | Action::List | Action::Info);

    /// The name of its script.
    pub fn script(self) -> &'static str {
        self.into()
    }

    /// Whether it changes anything. Attach does: it makes a device.
    pub fn effect(self) -> Effect {
        if Action::QUERIES.contains(self) {
            Effect::Query
        } else {
            Effect::Change
        }
    }

    pub(crate) fn command(self, script: &Path) -> Command {
        match self.effect() {
            Effect::Query => Command::query(script),
            Effect::Change => Command::change(script),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_action_is_in_exactly_one_set() {
        let sets = [Action::REQUIRED, Action::OPTIONAL, Action::EXTENSIONS];
        for action in EnumSet::<Action>::all() {
            assert_eq!(
                sets.iter().filter(|set| set.contains(action)).count(),
                1,
                "{action}"
            );
        }
    }

    #[test]
    fn scripts_are_named_as_actions() {
        assert_eq!(Action::Setinfo.script(), "setinfo");
        assert_eq!("detach".parse(), Ok(Action::Detach));
        assert!("Detach".parse::<Action>().is_err());
    }
}
