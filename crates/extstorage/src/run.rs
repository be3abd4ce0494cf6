//! One way for all actions: command, run, judge, log, report.

use std::path::PathBuf;
use std::sync::Arc;
use std::time::{Duration, Instant};

use gnt_process::{Captured, Command, Effect, Output, Runner};
use jiff::Timestamp;
use serde_json::{Map, Value};

use crate::action::Action;
use crate::checked::CheckedProvider;
use crate::environment::{Arguments, PARAMETER_PREFIX, STATE_VARIABLE, environment};
use crate::error::{Error, Failure, Reason, Result, with_causes};
use crate::log::{Entry, Log, LogError};
use crate::secret::is_secret;
use crate::text::{abridge, escape, last_lines};
use crate::volume::Volume;

/// How many bytes of each stream of a script's output are kept.
const OUTPUT_LIMIT: usize = 32 << 10;

/// The same for list: room for some hundred thousand volumes.
const LIST_LIMIT: usize = 64 << 20;

/// How many bytes of each stream are logged, before they are escaped.
const SHOWN_LIMIT: usize = 16 << 10;

/// No secret, whatever the parameter's name: hiding them would hide every "True" in a script's output.
const PYTHON_CONSTANTS: [&str; 3] = ["True", "False", "None"];

/// How many lines of output an error shows.
const LAST_LINES: usize = 20;

/// An action about to be done.
pub(crate) struct Call<'a> {
    provider: &'a CheckedProvider,
    action: Action,
    volume: Option<&'a Volume<'a>>,
    params: &'a Map<String, Value>,
    arguments: Arguments<'a>,
}

impl<'a> Call<'a> {
    /// On a volume, with the volume's parameters.
    pub(crate) fn on(provider: &'a CheckedProvider, action: Action, volume: &'a Volume<'a>) -> Call<'a> {
        Call {
            volume: Some(volume),
            ..Call::of(provider, action, volume.params)
        }
    }

    /// Of the provider as such.
    pub(crate) fn of(
        provider: &'a CheckedProvider,
        action: Action,
        params: &'a Map<String, Value>,
    ) -> Call<'a> {
        Call {
            provider,
            action,
            volume: None,
            params,
            arguments: Arguments::default(),
        }
    }

    pub(crate) fn with(self, arguments: Arguments<'a>) -> Call<'a> {
        Call { arguments, ..self }
    }

    fn volume_name(&self) -> Option<&'a str> {
        self.volume.map(|volume| volume.name)
    }

    fn instance(&self) -> Option<&'a str> {
        self.volume.and_then(|volume| volume.instance)
    }
}

/// A script that was run with success.
pub(crate) struct Done<T> {
    pub(crate) value: T,
    pub(crate) printed: Printed,
}

/// What runs calls.
#[derive(Clone)]
pub(crate) struct Engine {
    pub(crate) runner: Arc<dyn Runner>,
    pub(crate) log: Log,
    pub(crate) state_dir: PathBuf,
    pub(crate) timeout: Duration,
    pub(crate) dry_run: bool,
    pub(crate) operation: Option<String>,
    pub(crate) on_log_error: Arc<dyn Fn(&LogError) + Send + Sync>,
}

impl Engine {
    /// Runs a script. Exit status 0 is not enough: `judge` has the last word. In a dry run, in which changes
    /// are not made, nothing comes of them.
    pub(crate) fn act<T: Default>(
        &self,
        call: &Call<'_>,
        judge: impl FnOnce(&Output) -> Result<T, Reason>,
    ) -> Result<Done<T>> {
        let command = self.command(call)?;
        let (started, clock) = (Timestamp::now(), Instant::now());
        let ran = self.runner.run(&command);
        if self.dry_run && command.effect() == Effect::Change && ran.is_ok() {
            return Ok(Done {
                value: T::default(),
                printed: Printed::default(),
            });
        }
        let duration = clock.elapsed();

        let mut remark = "";
        let (verdict, stdout, stderr) = match ran {
            Ok(output) => {
                if output.stragglers_killed {
                    remark = "; a process left in the background was killed, because it held the output open";
                }
                let verdict = match output.status.success() {
                    true => judge(&output),
                    false => Err(Reason::Ended(output.status)),
                };
                (verdict, output.stdout, output.stderr)
            }
            Err(error) => {
                let (reason, stdout, stderr) = Reason::of_run_error(error);
                (Err(reason), stdout, stderr)
            }
        };
        let verdict = verdict.map_err(|reason| reason.map_quotes(|text| without_secrets(&command, text)));
        let printed = Printed {
            stdout: shown(&command.redact(stdout)),
            stderr: shown(&command.redact(stderr)),
        };
        let outcome = match &verdict {
            Ok(_) => format!("exit status 0{remark}"),
            Err(reason) if reason.script_succeeded() => {
                format!("exit status 0, but {}{remark}", with_causes(reason))
            }
            Err(reason) => with_causes(reason) + remark,
        };
        let entry = Entry {
            started,
            outcome: &outcome,
            duration: Some(duration),
            command: Some(&command),
            stdout: &printed.stdout,
            stderr: &printed.stderr,
            ..self.entry(call)
        };
        self.log(call, &entry);
        match verdict {
            Ok(value) => Ok(Done { value, printed }),
            Err(reason) => Err(self.failure(call, reason, &printed)),
        }
    }

    /// The error for a script that succeeded but did not do what it should.
    pub(crate) fn refute(&self, call: &Call<'_>, reason: Reason, printed: &Printed) -> Error {
        let entry = Entry {
            outcome: &with_causes(&reason),
            ..self.entry(call)
        };
        self.log(call, &entry);
        self.failure(call, reason, printed)
    }

    fn failure(&self, call: &Call<'_>, reason: Reason, printed: &Printed) -> Error {
        Error::Failed(Box::new(Failure {
            action: call.action,
            provider: call.provider.name.clone(),
            volume: call.volume_name().map(str::to_owned),
            instance: call.instance().map(str::to_owned),
            reason,
            output: printed.last_lines(),
            log: self.log.path(&call.provider.name),
        }))
    }

    fn command(&self, call: &Call<'_>) -> Result<Command> {
        let name = &call.provider.name;
        let Some(script) = call.provider.script(call.action)? else {
            return Err(Error::Unsupported {
                action: call.action,
                provider: name.clone(),
            });
        };
        let variables = environment(name, call.params, call.volume, &call.arguments);
        let variables = variables.map_err(|source| Error::Environment {
            action: call.action,
            provider: name.clone(),
            volume: call.volume_name().map(str::to_owned),
            source: source.into(),
        })?;
        let mut command = call
            .action
            .command(&script)
            .cwd(&call.provider.dir)
            .timeout(self.timeout)
            .output_limit(match call.action {
                Action::List => LIST_LIMIT,
                _ => OUTPUT_LIMIT,
            })
            .env(STATE_VARIABLE, &self.state_dir);
        for (variable, value) in variables {
            command = match variable.strip_prefix(PARAMETER_PREFIX) {
                Some(name) if is_secret(name) && !PYTHON_CONSTANTS.contains(&value.as_str()) => {
                    command.secret_env(variable, value)
                }
                _ => command.env(variable, value),
            };
        }
        Ok(match &self.operation {
            Some(operation) => command.tag(operation),
            None => command,
        })
    }

    fn entry<'a>(&'a self, call: &Call<'a>) -> Entry<'a> {
        Entry {
            started: Timestamp::now(),
            action: call.action,
            volume: call.volume_name(),
            instance: call.instance(),
            operation: self.operation.as_deref(),
            outcome: "",
            duration: None,
            command: None,
            stdout: "",
            stderr: "",
        }
    }

    fn log(&self, call: &Call<'_>, entry: &Entry<'_>) {
        if let Err(error) = self.log.append(&call.provider.name, entry) {
            (self.on_log_error)(&error);
        }
    }
}

/// What a script printed, fit to be shown.
#[derive(Default)]
pub(crate) struct Printed {
    stdout: String,
    stderr: String,
}

impl Printed {
    /// Standard error goes first if there is not room for both, but is shown last, where the cause is looked
    /// for.
    fn last_lines(&self) -> Vec<String> {
        let stderr = last_lines(&self.stderr, LAST_LINES);
        let mut lines = last_lines(&self.stdout, LAST_LINES - stderr.len());
        lines.extend(stderr);
        lines
    }
}

fn without_secrets(command: &Command, text: &str) -> String {
    let redacted = command.redact(Captured::from(text.as_bytes().to_vec()));
    redacted.text().into_owned()
}

fn shown(printed: &Captured) -> String {
    escape(&abridge(&printed.text(), SHOWN_LIMIT))
}
