//! Parameters that are not for everybody's eyes.

/// Whether the value of a parameter is shown nowhere, neither in a log nor in an error: its name says that it
/// is a secret.
pub fn is_secret(name: &str) -> bool {
    const WORDS: [&str; 8] = [
        "secret",
        "password",
        "passwd",
        "passphrase",
        "pwd",
        "credential",
        "token",
        "key",
    ];
    let name = name.to_lowercase();
    name.ends_with("pass") || WORDS.iter().any(|word| name.contains(word))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_that_say_secret() {
        for name in [
            "password",
            "EXTP_API_TOKEN",
            "cephx_key",
            "chapSecret",
            "passwd",
            "Passphrase",
            "chap_pass",
            "CREDENTIALS",
        ] {
            assert!(is_secret(name), "{name}");
        }
        for name in ["dir", "EXTP_PROVIDER", "pool", "pass_through"] {
            assert!(!is_secret(name), "{name}");
        }
    }
}
