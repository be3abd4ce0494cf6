//! `completions` and `man`: what is generated from the command line's own description.

use std::fs;
use std::path::PathBuf;

use clap::CommandFactory;
use clap_complete::Shell;
use clap_mangen::Man;

use crate::args::Cli;
use crate::failure::Failure;
use crate::output::Answer;

const COMPLETIONS_HELP: &str = "\
Examples:
  gnt-disk completions bash > /usr/share/bash-completion/completions/gnt-disk
  gnt-disk completions zsh > /usr/share/zsh/site-functions/_gnt-disk
  gnt-disk completions fish > /usr/share/fish/vendor_completions.d/gnt-disk.fish";

/// Print a shell's completion script
#[derive(Debug, clap::Args)]
#[command(after_long_help = COMPLETIONS_HELP)]
pub(crate) struct CompletionsArgs {
    /// The shell
    shell: Shell,
}

const MAN_HELP: &str = "\
Examples:
  gnt-disk man | man -l -
  gnt-disk man /usr/local/share/man/man8";

/// Print the manual page, or write one for each command into a directory
#[derive(Debug, clap::Args)]
#[command(after_long_help = MAN_HELP)]
pub(crate) struct ManArgs {
    /// Directory, made if it is not there
    dir: Option<PathBuf>,
}

pub(crate) fn completions(args: &CompletionsArgs) -> Answer {
    let mut command = Cli::command();
    let name = command.get_name().to_owned();
    let mut script = Vec::new();
    clap_complete::generate(args.shell, &mut command, name, &mut script);
    Answer::raw(script)
}

pub(crate) fn man(args: &ManArgs) -> Result<Answer, Failure> {
    let mut command = Cli::command();
    command.build();
    let Some(dir) = &args.dir else {
        return Ok(Answer::raw(page(command)?.1));
    };
    fs::create_dir_all(dir).map_err(|source| Failure::file("make", dir, source))?;
    let mut pending = vec![command];
    while let Some(command) = pending.pop() {
        pending.extend(
            command
                .get_subcommands()
                .filter(|command| !command.is_hide_set())
                .cloned(),
        );
        let (name, text) = page(command)?;
        let path = dir.join(name);
        fs::write(&path, text).map_err(|source| Failure::file("write", path, source))?;
    }
    Ok(Answer::raw(""))
}

/// The name of a command's page, and the page.
fn page(command: clap::Command) -> Result<(String, Vec<u8>), Failure> {
    let manual = Man::new(command)
        .section("8")
        .source(concat!("gnt-disk ", env!("CARGO_PKG_VERSION")))
        .manual("gnt-disk");
    let mut text = Vec::new();
    manual.render(&mut text).map_err(Failure::Stdout)?;
    Ok((manual.get_filename(), text))
}
