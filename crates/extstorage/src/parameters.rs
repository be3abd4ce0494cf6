//! The parameters that a provider declares in its `parameters.list`.

/// The file in a provider's directory that declares its parameters (`constants.ES_PARAMETERS_FILE`).
pub const PARAMETERS_FILE: &str = "parameters.list";

/// A parameter that a provider declares. It says what is useful, not what is allowed: others are passed all
/// the same.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Parameter {
    /// Its name; some providers write a pattern.
    pub name: String,
    /// What it means; may be empty.
    pub description: String,
}

/// The parameters in the text of a `parameters.list`: one `name description` a line, apart by spaces or tabs.
pub fn parse_parameters(text: &str) -> Vec<Parameter> {
    let lines = text.lines().map(str::trim).filter(|line| !line.is_empty());
    lines
        .map(|line| {
            let (name, description) = line.split_once(char::is_whitespace).unwrap_or((line, ""));
            Parameter {
                name: name.to_owned(),
                description: description.trim_start().to_owned(),
            }
        })
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_and_descriptions() {
        let parsed =
            parse_parameters("fromsnap Snapshot to start from\nnas_ip\t \tThe IP\r\n\n  rbd_* any\nbare");
        let pairs: Vec<(&str, &str)> = parsed
            .iter()
            .map(|p| (p.name.as_str(), p.description.as_str()))
            .collect();
        assert_eq!(
            pairs,
            [
                ("fromsnap", "Snapshot to start from"),
                ("nas_ip", "The IP"),
                ("rbd_*", "any"),
                ("bare", "")
            ]
        );
    }

    #[test]
    fn an_empty_file_declares_nothing() {
        assert!(parse_parameters("").is_empty());
        assert!(parse_parameters("\n \n\t\n").is_empty());
    }
}
