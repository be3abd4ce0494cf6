//! The question before data is lost.

use std::io::{self, BufRead as _, IsTerminal as _, Write as _};

use crate::context::Context;
use crate::failure::Failure;

/// What a command that loses data understands.
#[derive(Debug, clap::Args)]
pub(crate) struct ConfirmArgs {
    /// Do it without asking; it is asked on a terminal only
    #[arg(short, long)]
    yes: bool,
}

impl ConfirmArgs {
    /// Asks whether to go on with what `consequence` tells, where somebody is there to be asked.
    ///
    /// # Errors
    /// [`Failure::Declined`] if the answer is no.
    pub(crate) fn confirm(&self, context: &Context, consequence: &str) -> Result<(), Failure> {
        if !is_asked(self.yes, context.is_dry_run(), io::stdin().is_terminal()) {
            return Ok(());
        }
        match ask(&format!("{consequence}. Go on?"))? {
            true => Ok(()),
            false => Err(Failure::Declined),
        }
    }
}

/// What may come of taking disks over from a node that is marked offline, if `what` is so there.
pub(crate) fn dead_node(node: &str, what: &str) -> String {
    format!(
        "Node {node} is marked offline, and not asked: if it is on, and {what} there, two nodes will write to the same disks and \
         destroy them"
    )
}

/// Whether who sits there says yes.
pub(crate) fn ask(question: &str) -> Result<bool, Failure> {
    let mut stderr = io::stderr().lock();
    let _ = write!(stderr, "{question} [y/N] ");
    let _ = stderr.flush();
    let mut answer = String::new();
    io::stdin()
        .lock()
        .read_line(&mut answer)
        .map_err(|source| Failure::file("read", "/dev/stdin", source))?;
    Ok(is_yes(&answer))
}

/// Scripts are never asked.
fn is_asked(yes: bool, dry_run: bool, terminal: bool) -> bool {
    terminal && !yes && !dry_run
}

fn is_yes(answer: &str) -> bool {
    matches!(answer.trim().to_lowercase().as_str(), "y" | "yes")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_who_sits_at_a_terminal_is_asked() {
        assert!(is_asked(false, false, true));
        for (yes, dry_run, terminal) in [(true, false, true), (false, true, true), (false, false, false)] {
            assert!(!is_asked(yes, dry_run, terminal));
        }
    }

    #[test]
    fn anything_but_yes_is_no() {
        for answer in ["y\n", "Yes\n", " YES "] {
            assert!(is_yes(answer), "{answer}");
        }
        for answer in ["", "\n", "n\n", "yep\n"] {
            assert!(!is_yes(answer), "{answer}");
        }
    }
}
