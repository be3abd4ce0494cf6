//! Sizes, in mebibytes as everywhere in Ganeti.

use std::fmt;
use std::iter::Sum;
use std::ops::Add;
use std::str::FromStr;

use serde::{Deserialize, Serialize};

/// A number of mebibytes (2^20 bytes).
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Default, Serialize, Deserialize)]
#[serde(transparent)]
pub struct Mebibytes(pub u64);

const MIB: u64 = 1 << 20;

impl Mebibytes {
    /// The largest size that a file or a device can have in Linux (`loff_t`): just below 8 EiB.
    pub const MAX: Self = Self(i64::MAX as u64 / MIB);

    /// The size in bytes; saturates at the largest number (16 EiB).
    pub fn bytes(self) -> u64 {
        self.0.saturating_mul(MIB)
    }

    /// The largest whole number of mebibytes in `bytes`.
    pub fn from_bytes(bytes: u64) -> Self {
        Self(bytes / MIB)
    }

    /// The sum, or none if it does not fit.
    pub fn checked_add(self, other: Self) -> Option<Self> {
        self.0.checked_add(other.0).map(Self)
    }

    /// The difference, or none if `other` is larger.
    pub fn checked_sub(self, other: Self) -> Option<Self> {
        self.0.checked_sub(other.0).map(Self)
    }
}

impl Add for Mebibytes {
    type Output = Self;
    fn add(self, other: Self) -> Self {
        Self(self.0.saturating_add(other.0))
    }
}

impl Sum for Mebibytes {
    fn sum<I: Iterator<Item = Self>>(iter: I) -> Self {
        iter.fold(Self(0), Add::add)
    }
}

/// As `gnt-*` print sizes (`utils.FormatUnit`, unit `h`): `512M`, `1.5G`, `2.0T`.
impl fmt::Display for Mebibytes {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        // The precision lost above 2^53 MiB is not visible in one decimal.
        match self.0 {
            mib @ 0..1024 => write!(f, "{mib}M"),
            mib @ 1024..1_048_576 => write!(f, "{:.1}G", mib as f64 / 1024.0),
            mib => write!(f, "{:.1}T", mib as f64 / 1_048_576.0),
        }
    }
}

/// A size that cannot be read.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("invalid size '{0}': expected a number with an optional unit M, G or T, such as 512, 1.5G or 2T")]
pub struct SizeError(pub String);

/// As `utils.ParseUnit`: a number, with an optional unit; without one it is mebibytes. Fractions are rounded up to a whole mebibyte.
/// Not rounded further: Ganeti's rounding up to a multiple of 4 is LVM's business, whose driver does it.
impl FromStr for Mebibytes {
    type Err = SizeError;

    fn from_str(text: &str) -> Result<Self, SizeError> {
        let error = || SizeError(text.to_owned());
        let trimmed = text.trim();
        let split = trimmed
            .find(|c: char| c.is_ascii_alphabetic())
            .unwrap_or(trimmed.len());
        let (number, unit) = trimmed.split_at(split);
        let factor = match unit.to_ascii_lowercase().as_str() {
            "" | "m" | "mb" | "mib" => 1,
            "g" | "gb" | "gib" => 1 << 10,
            "t" | "tb" | "tib" => 1 << 20,
            _ => return Err(error()),
        };
        let (whole, fraction) = match number.trim_end().split_once('.') {
            Some((whole, fraction)) => (whole, fraction),
            None => (number.trim_end(), ""),
        };
        let digits = |s: &str| s.bytes().all(|b| b.is_ascii_digit());
        if (whole.is_empty() && fraction.is_empty())
            || !digits(whole)
            || !digits(fraction)
            || fraction.len() > 9
        {
            return Err(error());
        }
        let scale = 10u128.pow(fraction.len() as u32);
        let scaled: u128 = format!("{whole}{fraction}").parse().map_err(|_| error())?;
        let mib = scaled.checked_mul(factor).ok_or_else(error)?.div_ceil(scale);
        u64::try_from(mib).map(Self).map_err(|_| error())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn sizes_are_read_as_gnt_tools_read_them() {
        for (text, mib) in [
            ("512", 512),
            ("512M", 512),
            ("1.5G", 1536),
            ("2t", 2_097_152),
            ("0.1", 1),
            (".5G", 512),
            ("5.", 5),
            ("1.0000001T", 1_048_577),
            ("0", 0),
            (" 10 GiB ", 10240),
        ] {
            assert_eq!(text.parse(), Ok(Mebibytes(mib)), "{text}");
        }
        for text in [
            "",
            ".",
            "G",
            "+1",
            "1 0",
            "1.5.G",
            "1G2",
            "\u{661}",
            "-1",
            "1e3",
            "1.2.3",
            "5P",
            "99999999999999999999T",
            "1,5G",
            "0x10",
        ] {
            assert!(text.parse::<Mebibytes>().is_err(), "{text}");
        }
    }

    #[test]
    fn an_error_shows_what_was_given_and_what_is_expected() {
        let error = "1,5G".parse::<Mebibytes>().unwrap_err();
        assert!(
            error
                .to_string()
                .starts_with("invalid size '1,5G': expected a number"),
            "{error}"
        );
    }

    #[test]
    fn sums_do_not_overflow() {
        let (one, most) = (Mebibytes(1), Mebibytes(u64::MAX));
        assert_eq!(most + one, most);
        assert_eq!([one, most, one].into_iter().sum::<Mebibytes>(), most);
        assert_eq!((most.checked_add(one), one.checked_sub(most)), (None, None));
        assert_eq!(
            (one.checked_add(one), most.checked_sub(most)),
            (Some(Mebibytes(2)), Some(Mebibytes(0)))
        );
        assert_eq!(most.bytes(), u64::MAX);
        assert_eq!(Mebibytes::from_bytes(2 * 1_048_576 - 1), one);
    }

    #[test]
    fn sizes_are_shown_in_the_largest_unit() {
        for (mib, text) in [(0, "0M"), (1023, "1023M"), (1536, "1.5G"), (2_097_152, "2.0T")] {
            assert_eq!(Mebibytes(mib).to_string(), text);
        }
    }
}
