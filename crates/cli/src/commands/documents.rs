//! `completions` and `man`: what is generated from the command line's own description.

use std::fs;
use std::path::PathBuf;

use clap::CommandFactory;
use clap_complete::Shell;
use clap_mangen::Man;
use clap_mangen::roff::{Roff, roman};

use crate::args::{Cli, Global};
use crate::failure::Failure;
use crate::output::Answer;

const COMPLETIONS_HELP: &str = "\
Examples:
  gnt-disk completions bash > /usr/share/bash-completion/completions/gnt-disk
  gnt-disk completions zsh > /usr/share/zsh/site-functions/_gnt-disk
  gnt-disk completions fish > ~/.config/fish/completions/gnt-disk.fish";

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

pub(crate) fn man(global: &Global, args: &ManArgs) -> Result<Answer, Failure> {
    let mut command = Cli::command();
    command.build();
    let Some(dir) = &args.dir else {
        return Ok(Answer::raw(page(command)?.1));
    };
    if global.dry_run {
        return Ok(Answer::dry_run(&[format!(
            "# write the manual pages to {}",
            dir.display()
        )]));
    }
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
fn page(mut command: clap::Command) -> Result<(String, Vec<u8>), Failure> {
    let usage = command.render_usage().to_string();
    let more = command
        .get_after_long_help()
        .map(ToString::to_string)
        .unwrap_or_default();
    let has_subcommands = command.has_subcommands();
    let manual = Man::new(command)
        .section("8")
        .source(concat!("gnt-disk ", env!("CARGO_PKG_VERSION")))
        .manual("gnt-disk");
    let mut page = Vec::new();
    let mut render = || {
        manual.render_title(&mut page)?;
        manual.render_name_section(&mut page)?;
        sections("SYNOPSIS", usage.trim_start_matches("Usage: ")).to_writer(&mut page)?;
        manual.render_description_section(&mut page)?;
        if has_subcommands {
            manual.render_subcommands_section(&mut page)?;
        }
        manual.render_options_section(&mut page)?;
        sections("NOTES", &more).to_writer(&mut page)
    };
    render().map_err(Failure::Stdout)?;
    Ok((manual.get_filename(), page))
}

/// The paragraphs of a text, under `title`; one that begins with a line that ends in a colon is a section of its own. Lines
/// of paragraphs with indented lines stay as they are.
fn sections(title: &str, text: &str) -> Roff {
    let mut roff = Roff::new();
    let mut title = Some(title);
    for paragraph in text.split("\n\n").filter(|paragraph| !paragraph.is_empty()) {
        let (first, rest) = paragraph.split_once('\n').unwrap_or((paragraph, ""));
        let heading = first
            .strip_suffix(':')
            .filter(|_| !first.starts_with(' ') && rest.starts_with(' '));
        match heading.map(str::to_uppercase).or(title.take().map(str::to_owned)) {
            Some(title) => roff.control("SH", [title.as_str()]),
            None => roff.control("PP", []),
        };
        let body = if heading.is_some() { rest } else { paragraph };
        let as_is = body.lines().any(|line| line.starts_with(' '));
        if as_is {
            roff.control("nf", []);
        }
        for line in body.lines() {
            roff.text([roman(line)]);
        }
        if as_is {
            roff.control("fi", []);
        }
    }
    roff
}

#[cfg(test)]
mod tests {
    use clap::Parser;

    use super::*;

    #[test]
    fn notes_and_examples_become_sections() {
        let text = "One\nparagraph.\n\nAnother.\n\nExamples:\n  run -x\n\n  run 'y'";
        assert_eq!(
            sections("NOTES", text).to_roff(),
            ".SH NOTES\nOne\nparagraph.\n.PP\nAnother.\n.SH EXAMPLES\n.nf\n  run \\-x\n.fi\n.PP\n.nf\n  run 'y'\n.fi\n"
        );
    }

    #[test]
    fn every_command_has_a_page_that_names_it() {
        let dir = tempfile::tempdir().unwrap();
        let global = Cli::parse_from(["gnt-disk", "man"]).global;
        man(
            &global,
            &ManArgs {
                dir: Some(dir.path().join("man8")),
            },
        )
        .unwrap();
        let mut commands = vec![Cli::command()];
        commands[0].build();
        while let Some(command) = commands.pop() {
            let name = command
                .get_display_name()
                .unwrap_or(command.get_name())
                .to_owned();
            let page = fs::read_to_string(dir.path().join(format!("man8/{name}.8"))).unwrap();
            assert!(page.contains(&name.replace('-', "\\-")), "{name}");
            commands.extend(command.get_subcommands().cloned());
        }
    }

    #[test]
    fn every_shell_has_completions_that_know_the_templates() {
        for shell in [Shell::Bash, Shell::Zsh, Shell::Fish] {
            let script = completions(&CompletionsArgs { shell }).bytes(false);
            let script = String::from_utf8(script).unwrap();
            assert!(
                script.contains("sharedfile") && script.contains("snapshot"),
                "{shell}"
            );
        }
    }
}
