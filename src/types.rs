//! The small value types every room shares, parsed once at the edge.

use std::fmt;
use std::future::Future;
use std::pin::Pin;
use std::str::FromStr;
use std::sync::Arc;

use serde::{Deserialize, Deserializer, Serialize, Serializer};

use crate::source::shown_text;

/// A boxed future, so that a room can be held behind a trait object.
pub type Pending<'a, T> = Pin<Box<dyn Future<Output = T> + Send + 'a>>;

/// The path component under the mount that a download is shown as.
///
/// One component, 1 to 255 bytes, no `/`, no NUL, no control characters, not beginning with a
/// dot. Cloning is cheap.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Name(Arc<str>);

/// Says why a text is not a [`Name`].
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum NameError {
    /// The text is empty.
    #[error("a name is empty; give one path component, for example `ruby.zip`")]
    Empty,
    /// The text has a slash.
    #[error("the name `{0}` has a `/`; a name is one path component")]
    Slash(String),
    /// The text begins with a dot.
    #[error("the name `{0}` begins with a dot; such names are reserved")]
    Dot(String),
    /// The text passes 255 bytes, the longest component Linux accepts.
    #[error("the name `{0}...` has {1} bytes; at most 255 are possible")]
    Long(String, usize),
    /// The text has a NUL or another control character.
    #[error("the name `{0}` has a control character")]
    Control(String),
}

impl Name {
    /// Returns the name as text.
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl FromStr for Name {
    type Err = NameError;

    fn from_str(s: &str) -> Result<Self, NameError> {
        let printable = || s.escape_default().to_string();
        match s {
            "" => Err(NameError::Empty),
            // It may be a URL in the wrong place.
            _ if s.contains('/') => Err(NameError::Slash(shown_text(s))),
            _ if s.starts_with('.') => Err(NameError::Dot(printable())),
            _ if s.len() > 255 => Err(NameError::Long(s.chars().take(32).collect(), s.len())),
            _ if s.chars().any(char::is_control) => Err(NameError::Control(printable())),
            _ => Ok(Name(s.into())),
        }
    }
}

impl fmt::Display for Name {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

impl AsRef<str> for Name {
    fn as_ref(&self) -> &str {
        &self.0
    }
}

impl std::borrow::Borrow<str> for Name {
    fn borrow(&self) -> &str {
        &self.0
    }
}

impl Serialize for Name {
    fn serialize<S: Serializer>(&self, s: S) -> Result<S::Ok, S::Error> {
        s.serialize_str(&self.0)
    }
}

impl<'de> Deserialize<'de> for Name {
    fn deserialize<D: Deserializer<'de>>(d: D) -> Result<Self, D::Error> {
        let text = String::deserialize(d)?;
        text.parse().map_err(serde::de::Error::custom)
    }
}

/// The number of a blob in the store; never used twice in the life of a store.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
pub struct BlobId(pub u64);

impl fmt::Display for BlobId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:016x}", self.0)
    }
}

/// A nodeid: what the kernel keys its caches on. Programs compare `st_ino`, which is another
/// number (see [`crate::fs`]).
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Ino(pub u64);

impl Ino {
    /// The root directory of the mount, fixed by the protocol.
    pub const ROOT: Ino = Ino(1);
}

/// An amount of bytes; parsed from and shown as text with a unit.
#[derive(
    Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize,
)]
#[serde(transparent)]
pub struct Bytes(pub u64);

impl fmt::Display for Bytes {
    /// Shows bytes below 1 KiB, else KiB, MiB or GiB with one decimal.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        const UNITS: [(&str, u64); 3] = [("GiB", 1 << 30), ("MiB", 1 << 20), ("KiB", 1 << 10)];
        for (unit, factor) in UNITS {
            if self.0 >= factor {
                let tenths =
                    (u128::from(self.0) * 10 + u128::from(factor) / 2) / u128::from(factor);
                return write!(f, "{}.{} {unit}", tenths / 10, tenths % 10);
            }
        }
        write!(f, "{} B", self.0)
    }
}

/// Says why a text is not a size.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error(
    "`{0}` is not a size; write bytes, or kB, MB, GB (powers of ten), KiB, MiB, GiB (powers of two), for example 10GB"
)]
pub struct SizeError(pub String);

impl FromStr for Bytes {
    type Err = SizeError;

    /// Parses whole numbers, or decimals before a unit, of bytes, kB, MB, GB, KiB, MiB, GiB.
    fn from_str(s: &str) -> Result<Self, SizeError> {
        let error = || SizeError(s.to_owned());
        let split = s.find(|c: char| !c.is_ascii_digit() && c != '.').unwrap_or(s.len());
        let (number, unit) = s.split_at(split);
        let factor: u64 = match unit.trim_start() {
            "" | "B" => 1,
            "kB" => 1_000,
            "MB" => 1_000_000,
            "GB" => 1_000_000_000,
            "TB" => 1_000_000_000_000,
            "KiB" => 1 << 10,
            "MiB" => 1 << 20,
            "GiB" => 1 << 30,
            "TiB" => 1 << 40,
            _ => return Err(error()),
        };
        if let Ok(whole) = number.parse::<u64>() {
            return whole.checked_mul(factor).map(Bytes).ok_or_else(error);
        }
        // A decimal needs digits on both sides and a unit: "1.5GB", never "1." or ".5" or "1.5".
        let (int, frac) = number.split_once('.').ok_or_else(error)?;
        if factor == 1 || int.is_empty() || frac.is_empty() || frac.len() > 9 || frac.contains('.')
        {
            return Err(error());
        }
        let int: u64 = int.parse().map_err(|_| error())?;
        let scale = 10u128.pow(frac.len() as u32);
        let frac: u64 = frac.parse().map_err(|_| error())?;
        let total =
            u128::from(int) * u128::from(factor) + u128::from(frac) * u128::from(factor) / scale;
        u64::try_from(total).map(Bytes).map_err(|_| error())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn names() {
        for good in ["a", "jdk-17.tgz", "ruby_buildpack", "ü", "a b", "a..", &"x".repeat(255)] {
            assert_eq!(good.parse::<Name>().unwrap().as_str(), good);
        }
        let refused = |text: &str| text.parse::<Name>().unwrap_err();
        assert_eq!(refused(""), NameError::Empty);
        assert!(matches!(refused("a/b"), NameError::Slash(_)));
        for dots in [".", "..", ".views", ".a"] {
            assert!(matches!(refused(dots), NameError::Dot(_)), "{dots}");
        }
        assert!(matches!(refused(&"x".repeat(256)), NameError::Long(_, 256)));
        assert!(matches!(refused(&"ü".repeat(128)), NameError::Long(_, 256)));
        for control in ["a\0", "a\nb", "\u{1b}[31m", "\u{85}"] {
            let error = refused(control);
            assert!(matches!(error, NameError::Control(_)), "{control:?}");
            assert!(!error.to_string().chars().any(char::is_control));
        }
    }

    #[test]
    fn sizes() {
        let size = |text: &str| text.parse::<Bytes>().map(|b| b.0).ok();
        assert_eq!(size("0"), Some(0));
        assert_eq!(size("367001600"), Some(367_001_600));
        assert_eq!(size("10GB"), Some(10_000_000_000));
        assert_eq!(size("10 GB"), Some(10_000_000_000));
        assert_eq!(size("1kB"), Some(1_000));
        assert_eq!(size("256MiB"), Some(256 << 20));
        assert_eq!(size("1.5GiB"), Some(3 << 29));
        assert_eq!(size("18446744073709551615"), Some(u64::MAX));
        for bad in [
            "",
            "GB",
            "10gb",
            "10G",
            "10KB",
            "10Kb",
            "-1",
            "+1",
            "1e9",
            "1.5",
            "1.GB",
            ".5GB",
            "1.5.5GB",
            "10GB ",
            " 10GB",
            "1_000",
            "0x10",
            "18446744073709551616",
            "18446744073709551615kB",
            "99999999999999999999.5GB",
        ] {
            let error = bad.parse::<Bytes>().expect_err(bad).to_string();
            assert!(error.contains("is not a size; write bytes, or kB"), "{error}");
        }
    }

    #[test]
    fn sizes_are_shown_in_powers_of_two() {
        for (bytes, shown) in [
            (0, "0 B"),
            (1023, "1023 B"),
            (1024, "1.0 KiB"),
            (367_001_600, "350.0 MiB"),
            (10_000_000_000, "9.3 GiB"),
            (u64::MAX, "17179869184.0 GiB"),
        ] {
            assert_eq!(Bytes(bytes).to_string(), shown);
        }
    }

    proptest! {
        #[test]
        fn parsing_never_panics(text in "\\PC{0,24}") {
            let _ = text.parse::<Bytes>();
            let _ = text.parse::<Name>();
        }

        #[test]
        fn any_number_of_bytes_is_a_size(n: u64) {
            prop_assert_eq!(n.to_string().parse::<Bytes>(), Ok(Bytes(n)));
        }

        #[test]
        fn a_name_is_one_safe_component(text in any::<String>()) {
            if let Ok(name) = text.parse::<Name>() {
                prop_assert_eq!(name.as_str(), &text);
                prop_assert!(!text.contains(['/', '\0']) && !text.starts_with('.') && text.len() <= 255);
                let json = serde_json::to_string(&name).unwrap();
                prop_assert_eq!(serde_json::from_str::<Name>(&json).unwrap(), name);
            }
        }
    }
}
