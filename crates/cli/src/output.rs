//! What a command answers, and the one place where anything is printed.
//!
//! Answers go to standard output, as text or as JSON; whatever is said about the work goes to standard error.

use std::io::{self, Write};

use comfy_table::{CellAlignment, Table, presets};
use gnt_config::{Mebibytes, Object};
use serde_json::{Value, json};

use crate::failure::Failure;

/// What a command has to say when it is done.
#[derive(Debug)]
pub(crate) struct Answer {
    body: Body,
    /// It is done, but something needs attention: exit status 3.
    pub(crate) attention: bool,
    /// What was not done of it.
    pub(crate) failure: Option<Failure>,
}

#[derive(Debug)]
enum Body {
    /// The same, for programs and for people.
    Both { json: Value, text: String },
    /// What is as it is, asked for JSON or not: a file, a script.
    Raw(Vec<u8>),
}

impl Answer {
    /// One object, and what people see of it.
    pub(crate) fn new(json: Value, text: impl Into<String>) -> Self {
        let text = text.into();
        Self {
            body: Body::Both { json, text },
            attention: false,
            failure: None,
        }
    }

    /// What would be changed, a line each.
    pub(crate) fn dry_run(changes: &[String]) -> Self {
        let text: String = changes.iter().map(|change| format!("{change}\n")).collect();
        Self::new(json!({"dry_run": true, "changes": changes}), text)
    }

    /// Bytes that are printed as they are.
    pub(crate) fn raw(bytes: impl Into<Vec<u8>>) -> Self {
        Self {
            body: Body::Raw(bytes.into()),
            attention: false,
            failure: None,
        }
    }

    /// The same, but something needs attention if `attention`.
    pub(crate) fn with_attention(mut self, attention: bool) -> Self {
        self.attention |= attention;
        self
    }

    /// The same, but not everything was done.
    pub(crate) fn with_failure(mut self, failure: Option<Failure>) -> Self {
        self.failure = failure;
        self
    }

    /// What is written to standard output.
    pub(crate) fn bytes(self, as_json: bool) -> Vec<u8> {
        match self.body {
            Body::Raw(bytes) => bytes,
            Body::Both { json, .. } if as_json => format!("{json:#}\n").into_bytes(),
            Body::Both { text, .. } => text.into_bytes(),
        }
    }
}

/// Writes to standard output. That nobody reads it any more is no error.
pub(crate) fn print(bytes: &[u8]) -> Result<(), Failure> {
    let mut stdout = io::stdout().lock();
    match stdout.write_all(bytes).and_then(|()| stdout.flush()) {
        Err(source) if source.kind() != io::ErrorKind::BrokenPipe => Err(Failure::Stdout(source)),
        _ => Ok(()),
    }
}

/// Writes a line to standard error; where that is closed, nobody wants to know.
pub(crate) fn say(line: impl std::fmt::Display) {
    let _ = writeln!(io::stderr().lock(), "{line}");
}

/// How a value is shown in a table.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Kind {
    /// As it is.
    Text,
    /// Mebibytes, with a unit.
    Size,
    /// `Y` or `N`.
    Flag,
    /// Seconds since the epoch.
    Time,
    /// Of a list, how many there are.
    Count,
}

/// A column of a list's table and a key of its JSON objects.
#[derive(Debug)]
pub(crate) struct Field {
    /// As gnt-* call it with `-o`.
    name: &'static str,
    /// Heading of the column.
    title: &'static str,
    kind: Kind,
    /// Whether it is shown unless other fields are asked for.
    default: bool,
}

impl Field {
    /// One that is shown.
    pub(crate) const fn shown(name: &'static str, title: &'static str, kind: Kind) -> Self {
        Self {
            name,
            title,
            kind,
            default: true,
        }
    }

    /// One that is shown when it is asked for.
    pub(crate) const fn more(name: &'static str, title: &'static str, kind: Kind) -> Self {
        Self {
            default: false,
            ..Self::shown(name, title, kind)
        }
    }
}

/// What every listing command understands (`gnt-instance list`).
#[derive(Debug, Default, clap::Args)]
#[command(next_help_heading = "Output")]
pub(crate) struct ListOptions {
    /// Fields to show, separated by commas; with a leading + they are added to the default ones
    #[arg(short = 'o', long = "output", value_name = "FIELDS")]
    fields: Option<String>,
    /// Leave the headings out
    #[arg(long)]
    no_headers: bool,
    /// Put this between fields instead of aligning them; sizes are then plain mebibytes
    #[arg(long, value_name = "TEXT")]
    separator: Option<String>,
}

impl ListOptions {
    /// The rows as a JSON array of objects and as a table. JSON objects are complete, unless some fields were asked for.
    pub(crate) fn answer(&self, fields: &[Field], rows: Vec<Object>) -> Result<Answer, Failure> {
        let shown = self.select(fields)?;
        let value = |row: &Object, field: &Field| row.get(field.name).cloned().unwrap_or_default();
        let cells = |row: &Object| {
            shown
                .iter()
                .map(|field| self.cell(field.kind, &value(row, field)))
                .collect()
        };
        let titles = (!self.no_headers).then(|| shown.iter().map(|field| field.title.to_owned()).collect());
        let lines: Vec<Vec<String>> = titles.into_iter().chain(rows.iter().map(cells)).collect();
        let text = match &self.separator {
            Some(separator) => lines.iter().map(|line| line.join(separator) + "\n").collect(),
            None => columns(&lines, |column| {
                matches!(shown[column].kind, Kind::Size | Kind::Count)
            }),
        };
        let asked_for = |row: &Object| -> Object {
            shown
                .iter()
                .map(|field| (field.name.to_owned(), value(row, field)))
                .collect()
        };
        let json = match self.fields {
            Some(_) => rows.iter().map(|row| Value::Object(asked_for(row))).collect(),
            None => rows.into_iter().map(Value::Object).collect(),
        };
        Ok(Answer::new(json, text))
    }

    /// Whether one of the fields `names` is shown, in the table or in JSON.
    pub(crate) fn shows(&self, fields: &[Field], names: &[&str]) -> Result<bool, Failure> {
        let shown = self.select(fields)?;
        Ok(shown.iter().any(|field| names.contains(&field.name)))
    }

    fn select<'f>(&self, fields: &'f [Field]) -> Result<Vec<&'f Field>, Failure> {
        let defaults = || fields.iter().filter(|field| field.default);
        let Some(wanted) = &self.fields else {
            return Ok(defaults().collect());
        };
        let (mut selected, names): (Vec<_>, _) = match wanted.strip_prefix('+') {
            Some(more) => (defaults().collect(), more),
            None => (Vec::new(), wanted.as_str()),
        };
        for name in names.split(',').map(str::trim) {
            let Some(field) = fields.iter().find(|field| field.name == name) else {
                let known: Vec<&str> = fields.iter().map(|field| field.name).collect();
                return Err(Failure::usage(format!("there is no field '{name}'"))
                    .with_hint(format!("the fields are {}", known.join(", "))));
            };
            selected.push(field);
        }
        Ok(selected)
    }

    fn cell(&self, kind: Kind, value: &Value) -> String {
        match (kind, value) {
            (_, Value::Null) => "-".to_owned(),
            (Kind::Count, Value::Array(items)) => items.len().to_string(),
            (_, Value::Array(items)) if items.is_empty() => "-".to_owned(),
            (_, Value::Array(items)) => {
                let items: Vec<String> = items.iter().map(|item| self.cell(kind, item)).collect();
                items.join(",")
            }
            (Kind::Size, Value::Number(number)) if self.separator.is_none() => number
                .as_u64()
                .map_or(number.to_string(), |mib| Mebibytes(mib).to_string()),
            (Kind::Flag, Value::Bool(flag)) => if *flag { "Y" } else { "N" }.to_owned(),
            (Kind::Time, Value::Number(number)) => number.as_f64().map_or(number.to_string(), time),
            (_, Value::String(text)) if text.is_empty() => "-".to_owned(),
            (_, Value::String(text)) => printable(text),
            (_, other) => other.to_string(),
        }
    }
}

/// Text for a terminal: control characters are escaped.
pub(crate) fn printable(text: &str) -> String {
    let escape = |c: char| match c.is_control() {
        true => c.escape_default().to_string(),
        false => c.to_string(),
    };
    text.chars().map(escape).collect()
}

/// A time, in UTC: `2026-01-02 03:04:05Z`.
pub(crate) fn time(seconds: f64) -> String {
    // Whole seconds do; what is out of range is shown as it is.
    match jiff::Timestamp::from_second(seconds as i64) {
        Ok(time) => time.strftime("%F %TZ").to_string(),
        Err(_) => seconds.to_string(),
    }
}

/// Lines of cells in aligned columns.
pub(crate) fn columns(lines: &[Vec<String>], right_aligned: impl Fn(usize) -> bool) -> String {
    let mut table = Table::new();
    table.load_style(presets::NOTHING).add_rows(lines);
    for (index, column) in table.column_iter_mut().enumerate() {
        column.set_padding((0, 1));
        if right_aligned(index) {
            column.set_cell_alignment(CellAlignment::Right);
        }
    }
    table
        .lines()
        .map(|line| line.trim_end().to_owned() + "\n")
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use clap::Parser;

    #[derive(clap::Parser)]
    struct Options {
        #[command(flatten)]
        list: ListOptions,
    }

    const FIELDS: &[Field] = &[
        Field::shown("name", "Instance", Kind::Text),
        Field::shown("size", "Size", Kind::Size),
        Field::more("disks", "Disks", Kind::Count),
        Field::more("active", "Active", Kind::Flag),
        Field::more("since", "Since", Kind::Time),
        Field::more("snodes", "Secondaries", Kind::Text),
    ];

    fn list(arguments: &[&str]) -> Result<(Value, String), String> {
        let rows = [
            json!({"name": "web", "size": 1536, "disks": [{}, {}], "active": true, "since": 0.5, "snodes": ["b", "c"]}),
            json!({"name": "db.example.com", "size": 10, "disks": [], "active": false, "since": null, "snodes": []}),
        ];
        let options = Options::parse_from([&["list"], arguments].concat());
        let answer = options
            .list
            .answer(
                FIELDS,
                rows.iter().filter_map(Value::as_object).cloned().collect(),
            )
            .map_err(|failure| failure.to_string())?;
        match answer.body {
            Body::Both { json, text } => Ok((json, text)),
            Body::Raw(_) => Err("raw".to_owned()),
        }
    }

    #[test]
    fn a_table_is_aligned_and_has_no_borders() {
        let (_, text) = list(&[]).unwrap();
        assert_eq!(
            text,
            "Instance       Size\n\
             web            1.5G\n\
             db.example.com  10M\n"
        );
        let (_, text) = list(&["--no-headers", "-o", "+disks,active,since,snodes"]).unwrap();
        assert_eq!(
            text,
            "web            1.5G 2 Y 1970-01-01 00:00:00Z b,c\n\
             db.example.com  10M 0 N -                    -\n"
        );
    }

    #[test]
    fn with_a_separator_nothing_is_aligned_and_sizes_are_numbers() {
        let (_, text) = list(&["--separator", "|", "-o", "size,name,snodes"]).unwrap();
        assert_eq!(
            text,
            "Size|Instance|Secondaries\n1536|web|b,c\n10|db.example.com|-\n"
        );
    }

    #[test]
    fn json_has_every_field_or_those_asked_for() {
        let (json, _) = list(&[]).unwrap();
        assert_eq!(json[0]["snodes"], json!(["b", "c"]));
        assert_eq!(json[0]["size"], 1536);
        let (json, _) = list(&["-o", "name"]).unwrap();
        assert_eq!(json, json!([{"name": "web"}, {"name": "db.example.com"}]));
    }

    #[test]
    fn an_unknown_field_is_refused() {
        for fields in ["+nonsense", "name,nonsense", "nonsense"] {
            assert_eq!(
                list(&["-o", fields]),
                Err("there is no field 'nonsense'".to_owned())
            );
        }
        assert_eq!(list(&["-o", ""]), Err("there is no field ''".to_owned()));
    }
}
