//! What a command answers, and the one place where anything is printed.
//!
//! Answers go to standard output, as text or as JSON; whatever is said about the work goes to standard error.

use std::io::{self, Write};

use comfy_table::{CellAlignment, Table, presets};
use gnt_config::Mebibytes;
use serde_json::{Value, json};

use crate::failure::Failure;

/// What a command has to say when it is done.
#[derive(Debug)]
pub(crate) struct Answer {
    body: Body,
    /// It is done, but something needs attention: exit status 3.
    pub(crate) attention: bool,
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
        }
    }

    /// The same, but something needs attention if `attention`.
    pub(crate) fn with_attention(mut self, attention: bool) -> Self {
        self.attention |= attention;
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

/// A field of the rows `R` of a list: a column of the table and a key of the JSON objects.
pub(crate) struct Field<R: ?Sized> {
    /// As gnt-* call it with `-o`.
    pub(crate) name: &'static str,
    /// Heading of the column.
    pub(crate) title: &'static str,
    pub(crate) kind: Kind,
    /// Whether it is shown unless other fields are asked for.
    pub(crate) default: bool,
    pub(crate) value: fn(&R) -> Value,
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
    /// The rows as a JSON array of objects and as a table. JSON objects have all fields, unless some were asked for.
    pub(crate) fn answer<R>(&self, fields: &[Field<R>], rows: &[R]) -> Result<Answer, Failure> {
        let shown = self.select(fields)?;
        let keys: Vec<&Field<R>> = match self.fields {
            Some(_) => shown.clone(),
            None => fields.iter().collect(),
        };
        let object = |row: &R| {
            let fields = keys
                .iter()
                .map(|field| (field.name.to_owned(), (field.value)(row)));
            Value::Object(fields.collect())
        };
        let json = rows.iter().map(object).collect();
        let cells = |row: &R| {
            let cell = |field: &&Field<R>| self.cell(field.kind, &(field.value)(row));
            shown.iter().map(cell).collect::<Vec<_>>()
        };
        let titles = (!self.no_headers).then(|| shown.iter().map(|field| field.title.to_owned()).collect());
        let lines: Vec<Vec<String>> = titles.into_iter().chain(rows.iter().map(cells)).collect();
        let text = match &self.separator {
            Some(separator) => lines.iter().map(|line| line.join(separator) + "\n").collect(),
            None => columns(&lines, |column| {
                matches!(shown[column].kind, Kind::Size | Kind::Count)
            }),
        };
        Ok(Answer::new(json, text))
    }

    fn select<'f, R>(&self, fields: &'f [Field<R>]) -> Result<Vec<&'f Field<R>>, Failure> {
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

/// Something shown at length, in the manner of `gnt-instance info`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Details {
    /// A value.
    Text(String),
    /// Labelled values.
    Map(Vec<(String, Details)>),
    /// Values of one kind.
    List(Vec<Details>),
}

impl Details {
    /// A value; nothing is shown as a dash.
    pub(crate) fn text(value: impl ToString) -> Self {
        Self::Text(value.to_string())
    }

    /// A value that may be missing.
    pub(crate) fn maybe(value: Option<impl ToString>) -> Self {
        Self::Text(value.map_or(String::new(), |value| value.to_string()))
    }

    /// Labelled values.
    pub(crate) fn map<L: Into<String>>(entries: impl IntoIterator<Item = (L, Details)>) -> Self {
        Self::Map(
            entries
                .into_iter()
                .map(|(label, value)| (label.into(), value))
                .collect(),
        )
    }

    /// Several values.
    pub(crate) fn list(items: impl IntoIterator<Item = impl ToString>) -> Self {
        Self::List(items.into_iter().map(Self::text).collect())
    }

    /// A JSON value, each level of objects and arrays one level of this.
    pub(crate) fn json(value: &Value) -> Self {
        match value {
            Value::Object(object) => {
                Self::map(object.iter().map(|(key, value)| (key.clone(), Self::json(value))))
            }
            Value::Array(items) => Self::List(items.iter().map(Self::json).collect()),
            Value::Null => Self::Text(String::new()),
            Value::String(text) => Self::text(text),
            other => Self::text(other),
        }
    }

    /// The whole, with its line ends.
    pub(crate) fn render(&self) -> String {
        let mut text = String::new();
        match self {
            Self::Text(value) => text.push_str(&shown(value)),
            other => other.write(&mut text, 0),
        }
        text
    }

    fn write(&self, text: &mut String, indent: usize) {
        match self {
            Self::Text(value) => {
                text.push_str(&shown(value));
                text.push('\n');
            }
            Self::Map(entries) => {
                for (position, (label, value)) in entries.iter().enumerate() {
                    // The first is where its list's dash is.
                    if position > 0 || !text.ends_with("- ") {
                        text.push_str(&" ".repeat(indent));
                    }
                    text.push_str(&printable(label));
                    text.push(':');
                    value.write_below(text, indent);
                }
            }
            Self::List(items) => {
                for item in items {
                    text.push_str(&" ".repeat(indent));
                    text.push_str("- ");
                    item.write(text, indent + 2);
                }
            }
        }
    }

    /// What stands behind a label.
    fn write_below(&self, text: &mut String, indent: usize) {
        match self {
            Self::Text(_) => {
                text.push(' ');
                self.write(text, indent);
            }
            Self::Map(entries) if entries.is_empty() => text.push_str(" -\n"),
            Self::List(items) if items.is_empty() => text.push_str(" -\n"),
            nested => {
                text.push('\n');
                nested.write(text, indent + 2);
            }
        }
    }
}

fn shown(value: &str) -> String {
    match value {
        "" => "-".to_owned(),
        value => printable(value),
    }
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

    const FIELDS: &[Field<Value>] = &[
        Field {
            name: "name",
            title: "Instance",
            kind: Kind::Text,
            default: true,
            value: |row| row["name"].clone(),
        },
        Field {
            name: "size",
            title: "Size",
            kind: Kind::Size,
            default: true,
            value: |row| row["size"].clone(),
        },
        Field {
            name: "disks",
            title: "Disks",
            kind: Kind::Count,
            default: false,
            value: |row| row["disks"].clone(),
        },
        Field {
            name: "active",
            title: "Active",
            kind: Kind::Flag,
            default: false,
            value: |row| row["active"].clone(),
        },
        Field {
            name: "since",
            title: "Since",
            kind: Kind::Time,
            default: false,
            value: |row| row["since"].clone(),
        },
        Field {
            name: "snodes",
            title: "Secondaries",
            kind: Kind::Text,
            default: false,
            value: |row| row["snodes"].clone(),
        },
    ];

    fn list(arguments: &[&str]) -> Result<(Value, String), String> {
        let rows = [
            json!({"name": "web", "size": 1536, "disks": [{}, {}], "active": true, "since": 0.5, "snodes": ["b", "c"]}),
            json!({"name": "db.example.com", "size": 10, "disks": [], "active": false, "since": null, "snodes": []}),
        ];
        let options = Options::parse_from([&["list"], arguments].concat());
        let answer = options
            .list
            .answer(FIELDS, &rows)
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

    #[test]
    fn details_are_nested_by_indentation() {
        let details = Details::map([
            ("Name", Details::text("web")),
            ("Owner", Details::maybe(None::<&str>)),
            ("Tags", Details::list(["a", "b"])),
            ("None", Details::list(Vec::<String>::new())),
            (
                "Disks",
                Details::List(vec![Details::map([
                    ("disk/0", Details::text("1.0G")),
                    ("params", Details::map([("key", Details::text("line\nline"))])),
                ])]),
            ),
        ]);
        assert_eq!(
            details.render(),
            "Name: web\n\
             Owner: -\n\
             Tags:\n\
             \x20 - a\n\
             \x20 - b\n\
             None: -\n\
             Disks:\n\
             \x20 - disk/0: 1.0G\n\
             \x20   params:\n\
             \x20     key: line\\nline\n"
        );
    }
}
