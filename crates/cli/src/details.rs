//! Things shown at length, in the manner of `gnt-instance info`.

use serde_json::Value;

use crate::output::printable;

/// Something shown at length.
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
