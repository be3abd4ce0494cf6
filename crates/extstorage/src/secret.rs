//! Parameters that are not for everybody's eyes.

/// Whether the value of a parameter is shown nowhere, neither in a log nor in an error: its name says that it
/// is a secret.
pub fn is_secret(name: &str) -> bool {
    let name = name.to_lowercase();
    ["secret", "password", "passwd", "token", "key"]
        .iter()
        .any(|word| name.contains(word))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_that_say_secret() {
        for name in ["password", "EXTP_API_TOKEN", "cephx_key", "chapSecret", "passwd"] {
            assert!(is_secret(name), "{name}");
        }
        for name in ["dir", "EXTP_PROVIDER", "pool", "pass_through"] {
            assert!(!is_secret(name), "{name}");
        }
    }
}
