//! What `--disk` says, in the language of `gnt-instance`: `N:KEY=VALUE,…`, with `\,` for a comma in a value.

mod error;

use std::ops::Range;

use gnt_cmdlib::ops::modify::DiskChange;
use gnt_cmdlib::ops::snapshot::SnapshotRequest;
use gnt_config::{AccessMode, DiskTemplate, Mebibytes, Object};

pub(crate) use error::DiskArgError;
use error::Problem;

/// The last disk (`gnt-instance modify --disk -1:…`).
const LAST: &str = "-1";
/// A name that takes the name away (`constants.VALUE_NONE`).
const NO_NAME: &str = "none";

const NAME: &str = "name";
const UUID: &str = "uuid";
const MODE: &str = "mode";
const SIZE: &str = "size";
const SPINDLES: &str = "spindles";
const SNAPSHOT_NAME: &str = "snapshot_name";
const SNAPSHOT_SIZE: &str = "snapshot_size";

/// The disks of a new instance, in the order of their indexes. Without an index, a disk has the place of its argument.
pub(crate) fn new_disks(arguments: &[String]) -> Result<Vec<Object>, DiskArgError> {
    let mut disks: Vec<Option<Object>> = vec![None; arguments.len()];
    for (position, argument) in arguments.iter().enumerate() {
        let option = DiskOption::split(argument, "size=2G")?;
        let (index, at) = match &option.target {
            Some(target) => (option.index(target)?, target.at.clone()),
            None => (position, 0..argument.len()),
        };
        let wish = option.wish(&option.items)?;
        let last = arguments.len() - 1;
        match disks.get_mut(index) {
            Some(slot @ None) => *slot = Some(wish),
            Some(Some(_)) => return Err(option.problem(at, Problem::Repeated(index))),
            None => return Err(option.problem(at, Problem::Gap { index, last })),
        }
    }
    // As many different indexes below their number as there are arguments: all are there.
    Ok(disks.into_iter().flatten().collect())
}

/// The changes of an instance's disks.
pub(crate) fn changes(arguments: &[String]) -> Result<Vec<DiskChange>, DiskArgError> {
    arguments
        .iter()
        .map(|argument| DiskOption::split(argument, "name=NAME")?.change())
        .collect()
}

/// The snapshots to take.
pub(crate) fn snapshots(arguments: &[String]) -> Result<Vec<SnapshotRequest>, DiskArgError> {
    arguments
        .iter()
        .map(|argument| DiskOption::split(argument, "snapshot_name=NAME")?.snapshot())
        .collect()
}

/// What single disks are to be besides: `N:KEY=VALUE,…`.
pub(crate) fn wishes(arguments: &[String]) -> Result<Vec<(String, Object)>, DiskArgError> {
    let wish = |argument: &String| {
        let option = DiskOption::split(argument, "vg=NAME")?;
        match &option.target {
            Some(target) => Ok((target.text.clone(), option.wish(&option.items)?)),
            None => Err(option.problem(0..argument.len(), Problem::NoDisk("vg=NAME"))),
        }
    };
    arguments.iter().map(wish).collect()
}

/// Parameters of all disks: `--ext-params KEY=VALUE,…`.
pub(crate) fn ext_params(argument: &str) -> Result<Object, DiskArgError> {
    let option = DiskOption::split_option("--ext-params", argument, "provider=NAME")?;
    option.wish(&option.items)
}

/// Disk parameters of a template: `-D TEMPLATE:KEY=VALUE,…`.
pub(crate) fn disk_params(argument: &str) -> Result<(DiskTemplate, Object), DiskArgError> {
    let option = DiskOption::split_option("-D", argument, "KEY=default")?;
    let Some(target) = &option.target else {
        return Err(option.problem(0..argument.len(), Problem::NoTemplate));
    };
    let unknown = |_| option.problem(target.at.clone(), Problem::Template(target.text.clone()));
    let template = target.text.parse().map_err(unknown)?;
    let value = |item: &Item| Ok((item.key.text.clone(), option.value(item)?.text.as_str().into()));
    Ok((
        template,
        option.items.iter().map(value).collect::<Result<_, _>>()?,
    ))
}

/// What can be done to a disk of an instance (`constants.DDMS_VALUES_WITH_MODIFY`).
#[derive(Debug, Clone, Copy, PartialEq, Eq, strum::EnumString, strum::IntoStaticStr)]
#[strum(serialize_all = "lowercase")]
enum Action {
    Add,
    Attach,
    Detach,
    Modify,
    Remove,
}

/// A word of the argument, `\` taken out.
#[derive(Debug, Clone, PartialEq, Eq)]
struct Word {
    text: String,
    /// Where it is in the argument, as bytes.
    at: Range<usize>,
}

/// `KEY=VALUE`, or a word alone.
#[derive(Debug, Clone, PartialEq, Eq)]
struct Item {
    key: Word,
    value: Option<Word>,
}

/// A `--disk` taken apart: `TARGET:ITEM,ITEM,…`.
#[derive(Debug, Clone, PartialEq, Eq)]
struct DiskOption<'a> {
    option: &'static str,
    argument: &'a str,
    target: Option<Word>,
    items: Vec<Item>,
}

impl<'a> DiskOption<'a> {
    /// `example` is something that could have been said.
    fn split(argument: &'a str, example: &'static str) -> Result<Self, DiskArgError> {
        Self::split_option("--disk", argument, example)
    }

    fn split_option(
        option: &'static str,
        argument: &'a str,
        example: &'static str,
    ) -> Result<Self, DiskArgError> {
        // A colon behind the first key or value is part of one.
        let colon = argument
            .find(':')
            .filter(|colon| !argument[..*colon].contains(['=', ',']));
        let target = colon.map(|colon| Word {
            text: argument[..colon].to_owned(),
            at: 0..colon,
        });
        let start = colon.map_or(0, |colon| colon + 1);
        let items = split_at_commas(argument, start)
            .map(|part| Item::split(argument, part))
            .collect();
        let split = Self {
            option,
            argument,
            target,
            items,
        };
        split.check(example)?;
        Ok(split)
    }

    fn check(&self, example: &'static str) -> Result<(), DiskArgError> {
        if self.items.is_empty() {
            return Err(self.problem(0..self.argument.len(), Problem::Empty(example)));
        }
        for (position, item) in self.items.iter().enumerate() {
            let key = &item.key;
            if key.text.is_empty() {
                return Err(self.problem(key.at.clone(), Problem::NoKey));
            }
            if self.items[..position]
                .iter()
                .any(|before| before.key.text == key.text)
            {
                return Err(self.problem(key.at.clone(), Problem::Duplicate(key.text.clone())));
            }
        }
        Ok(())
    }

    fn problem(&self, at: Range<usize>, problem: Problem) -> DiskArgError {
        DiskArgError {
            option: self.option,
            argument: self.argument.to_owned(),
            at,
            problem,
        }
    }

    fn index(&self, word: &Word) -> Result<usize, DiskArgError> {
        let digits = word.text.bytes().all(|byte| byte.is_ascii_digit());
        let index = word.text.parse().ok().filter(|_| digits);
        index.ok_or_else(|| self.problem(word.at.clone(), Problem::Index(word.text.clone())))
    }

    fn value<'i>(&self, item: &'i Item) -> Result<&'i Word, DiskArgError> {
        let missing = || self.problem(item.key.at.clone(), Problem::NoValue(item.key.text.clone()));
        item.value.as_ref().ok_or_else(missing)
    }

    fn size(&self, word: &Word) -> Result<Mebibytes, DiskArgError> {
        let error = |error| self.problem(word.at.clone(), Problem::Size(error));
        word.text.parse().map_err(error)
    }

    fn mode(&self, word: &Word) -> Result<AccessMode, DiskArgError> {
        let error = |_| self.problem(word.at.clone(), Problem::Mode(word.text.clone()));
        word.text.parse().map_err(error)
    }

    /// What a new disk is to be. Sizes become mebibytes; what the keys mean to which template is not known here.
    fn wish(&self, items: &[Item]) -> Result<Object, DiskArgError> {
        let mut wish = Object::new();
        for item in items {
            let value = self.value(item)?;
            let json = match item.key.text.as_str() {
                SIZE => self.size(value)?.0.into(),
                SPINDLES => {
                    let error = |_| self.problem(value.at.clone(), Problem::Spindles(value.text.clone()));
                    value.text.parse::<u64>().map_err(error)?.into()
                }
                MODE => self.mode(value)?.to_string().into(),
                _ => value.text.as_str().into(),
            };
            wish.insert(item.key.text.clone(), json);
        }
        Ok(wish)
    }

    /// The action and the disk that it is done to, none where none is named; what is left are the action's values.
    fn change(mut self) -> Result<DiskChange, DiskArgError> {
        let (action, target) = self.take_action()?;
        let disk = || target.as_ref().map_or(LAST, |word| &word.text).to_owned();
        let at = || match &target {
            Some(word) if word.text != LAST => self.index(word).map(Some),
            _ => Ok(None),
        };
        match action {
            Action::Add => Ok(DiskChange::Add {
                at: at()?,
                wish: self.wish(&self.items)?,
            }),
            Action::Attach => Ok(DiskChange::Attach {
                at: at()?,
                disk: self.disk_to_attach()?,
            }),
            Action::Detach => self
                .nothing_else(action)
                .map(|()| DiskChange::Detach { disk: disk() }),
            Action::Remove => self
                .nothing_else(action)
                .map(|()| DiskChange::Remove { disk: disk() }),
            Action::Modify if target.is_none() => {
                Err(self.problem(0..self.argument.len(), Problem::NoDisk("name=NAME")))
            }
            Action::Modify => self.new_values(disk()),
        }
    }

    /// `add:…` and `N:add,…` are the same, but for the index.
    fn take_action(&mut self) -> Result<(Action, Option<Word>), DiskArgError> {
        let mut found: Option<Action> = self.target.as_ref().and_then(|word| word.text.parse().ok());
        let target = self.target.take().filter(|_| found.is_none());
        if found == Some(Action::Attach) {
            // What follows is the disk's name, whatever it looks like.
            return Ok((Action::Attach, None));
        }
        for item in std::mem::take(&mut self.items) {
            match (item.key.text.parse::<Action>(), &item.value) {
                (Ok(second), None) => {
                    if let Some(first) = found.replace(second) {
                        let problem = Problem::TwoActions(first.into(), second.into());
                        return Err(self.problem(item.key.at, problem));
                    }
                }
                _ => self.items.push(item),
            }
        }
        Ok((found.unwrap_or(Action::Modify), target))
    }

    fn nothing_else(&self, action: Action) -> Result<(), DiskArgError> {
        match self.items.first() {
            Some(item) => Err(self.problem(
                item.key.at.start..self.argument.len(),
                Problem::Bare(action.into()),
            )),
            None => Ok(()),
        }
    }

    fn disk_to_attach(&self) -> Result<String, DiskArgError> {
        let mut disk = None;
        for item in &self.items {
            let word = match (item.key.text.as_str(), &item.value) {
                (NAME | UUID, Some(value)) => value,
                (_, None) => &item.key,
                (other, Some(_)) => {
                    let (found, expected) = (other.to_owned(), "name=NAME or uuid=UUID");
                    return Err(self.problem(item.key.at.clone(), Problem::Unknown { found, expected }));
                }
            };
            if disk.replace(word.text.clone()).is_some() {
                return Err(self.problem(item.key.at.clone(), Problem::Duplicate(word.text.clone())));
            }
        }
        disk.ok_or_else(|| self.problem(0..self.argument.len(), Problem::NothingToAttach))
    }

    fn new_values(&self, disk: String) -> Result<DiskChange, DiskArgError> {
        let (mut name, mut mode) = (None, None);
        for item in &self.items {
            match item.key.text.as_str() {
                NAME => {
                    let new = &self.value(item)?.text;
                    name = Some((!new.eq_ignore_ascii_case(NO_NAME)).then(|| new.clone()));
                }
                MODE => mode = Some(self.mode(self.value(item)?)?),
                other => {
                    let expected = "name=NAME, mode=rw|ro, add, attach, detach or remove";
                    let found = other.to_owned();
                    return Err(self.problem(item.key.at.clone(), Problem::Unknown { found, expected }));
                }
            }
        }
        if self.items.is_empty() {
            return Err(self.problem(0..self.argument.len(), Problem::Empty("name=NAME")));
        }
        Ok(DiskChange::Set { disk, name, mode })
    }

    fn snapshot(self) -> Result<SnapshotRequest, DiskArgError> {
        let whole = 0..self.argument.len();
        let disk = match (&self.target, self.items.as_slice()) {
            (Some(target), _) => target,
            // The disk alone.
            (None, [Item { key, value: None }]) => key,
            _ => return Err(self.problem(whole, Problem::NoDisk("snapshot_name=NAME"))),
        };
        let mut request = SnapshotRequest {
            disk: disk.text.clone(),
            name: None,
            size: None,
        };
        for item in self.items.iter().filter(|_| self.target.is_some()) {
            let value = self.value(item)?;
            match item.key.text.as_str() {
                SNAPSHOT_NAME => request.name = Some(value.text.clone()),
                SNAPSHOT_SIZE => request.size = Some(self.size(value)?),
                other => {
                    let (found, expected) = (other.to_owned(), "snapshot_name=NAME or snapshot_size=SIZE");
                    return Err(self.problem(item.key.at.clone(), Problem::Unknown { found, expected }));
                }
            }
        }
        Ok(request)
    }
}

impl Item {
    fn split(argument: &str, part: Range<usize>) -> Self {
        let raw = &argument[part.clone()];
        let text = unescape(raw);
        let equals = part.start + raw.find('=').unwrap_or(raw.len());
        match text.split_once('=') {
            Some((key, value)) => Self {
                key: Word {
                    text: key.to_owned(),
                    at: part.start..equals,
                },
                value: Some(Word {
                    text: value.to_owned(),
                    at: equals + 1..part.end,
                }),
            },
            None => Self {
                key: Word { text, at: part },
                value: None,
            },
        }
    }
}

/// The parts between commas that have no `\` in front (`utils.UnescapeAndSplit`); nothing has no parts.
fn split_at_commas(argument: &str, start: usize) -> impl Iterator<Item = Range<usize>> {
    let mut escaped = false;
    let is_separator = move |c: char| {
        let separates = c == ',' && !escaped;
        escaped = c == '\\' && !escaped;
        separates
    };
    let mut from = start;
    let parts = match &argument[start..] {
        "" => None,
        rest => Some(rest.split(is_separator)),
    };
    parts.into_iter().flatten().map(move |part| {
        let range = from..from + part.len();
        from = range.end + 1;
        range
    })
}

/// `\` and any character stand for that character; a `\` at the end for itself.
fn unescape(text: &str) -> String {
    let mut chars = text.chars();
    let mut plain = String::with_capacity(text.len());
    while let Some(c) = chars.next() {
        match c {
            '\\' => plain.push(chars.next().unwrap_or('\\')),
            c => plain.push(c),
        }
    }
    plain
}

#[cfg(test)]
mod tests;
