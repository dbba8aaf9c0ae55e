//! Declared digests and the hashers that check them.

use std::fmt;

use serde::{Deserialize, Deserializer, Serialize, Serializer};
use sha2::Digest as _;

/// The algorithms a catalog may declare.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Algorithm {
    /// MD5, for stagers that know nothing better.
    Md5,
    /// SHA-1, the same.
    Sha1,
    /// SHA-256.
    Sha256,
    /// SHA-512.
    Sha512,
}

impl Algorithm {
    /// Every algorithm, weakest first.
    pub const ALL: [Algorithm; 4] =
        [Algorithm::Md5, Algorithm::Sha1, Algorithm::Sha256, Algorithm::Sha512];

    /// Returns the catalog key and prefix of this algorithm.
    pub fn as_str(self) -> &'static str {
        match self {
            Algorithm::Md5 => "md5",
            Algorithm::Sha1 => "sha1",
            Algorithm::Sha256 => "sha256",
            Algorithm::Sha512 => "sha512",
        }
    }

    fn hex_len(self) -> usize {
        match self {
            Algorithm::Md5 => 32,
            Algorithm::Sha1 => 40,
            Algorithm::Sha256 => 64,
            Algorithm::Sha512 => 128,
        }
    }
}

/// A digest: the algorithm and lower-case hex. Shown as `sha256:<hex>`.
#[derive(Clone, PartialEq, Eq, Hash)]
pub struct Digest {
    /// The algorithm.
    pub algorithm: Algorithm,
    hex: String,
}

/// Says why a text is not a digest.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("`{text}` is not a {} digest; {} hexadecimal digits are expected", .algorithm.as_str(), .algorithm.hex_len())]
pub struct DigestError {
    algorithm: Algorithm,
    text: String,
}

impl Digest {
    /// Parses hexadecimal digits in either case.
    ///
    /// # Errors
    /// A wrong count of digits, or something that is none.
    pub fn parse(algorithm: Algorithm, hex: &str) -> Result<Digest, DigestError> {
        if hex.len() != algorithm.hex_len() || !hex.bytes().all(|b| b.is_ascii_hexdigit()) {
            return Err(DigestError { algorithm, text: hex.chars().take(140).collect() });
        }
        Ok(Digest { algorithm, hex: hex.to_ascii_lowercase() })
    }

    /// Returns the lower-case hexadecimal digits.
    pub fn hex(&self) -> &str {
        &self.hex
    }
}

impl fmt::Display for Digest {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}:{}", self.algorithm.as_str(), self.hex)
    }
}

impl fmt::Debug for Digest {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, f)
    }
}

impl Serialize for Digest {
    fn serialize<S: Serializer>(&self, s: S) -> Result<S::Ok, S::Error> {
        s.collect_str(self)
    }
}

impl<'de> Deserialize<'de> for Digest {
    fn deserialize<D: Deserializer<'de>>(d: D) -> Result<Self, D::Error> {
        let text = String::deserialize(d)?;
        let (name, hex) = text.split_once(':').unwrap_or(("", &text));
        let algorithm =
            Algorithm::ALL.into_iter().find(|a| a.as_str() == name).ok_or_else(|| {
                serde::de::Error::custom(format!("`{text}` names no known algorithm"))
            })?;
        Digest::parse(algorithm, hex).map_err(serde::de::Error::custom)
    }
}

/// Hashes bytes as they come.
pub enum Hasher {
    /// MD5.
    Md5(md5::Md5),
    /// SHA-1.
    Sha1(sha1::Sha1),
    /// SHA-256.
    Sha256(sha2::Sha256),
    /// SHA-512.
    Sha512(sha2::Sha512),
}

impl Hasher {
    /// Starts a hash.
    pub fn new(algorithm: Algorithm) -> Hasher {
        match algorithm {
            Algorithm::Md5 => Hasher::Md5(Default::default()),
            Algorithm::Sha1 => Hasher::Sha1(Default::default()),
            Algorithm::Sha256 => Hasher::Sha256(Default::default()),
            Algorithm::Sha512 => Hasher::Sha512(Default::default()),
        }
    }

    /// Takes in more bytes.
    pub fn update(&mut self, bytes: &[u8]) {
        match self {
            Hasher::Md5(h) => h.update(bytes),
            Hasher::Sha1(h) => h.update(bytes),
            Hasher::Sha256(h) => h.update(bytes),
            Hasher::Sha512(h) => h.update(bytes),
        }
    }

    /// Ends the hash.
    pub fn finish(self) -> Digest {
        let (algorithm, hex) = match self {
            Hasher::Md5(h) => (Algorithm::Md5, hex(&h.finalize())),
            Hasher::Sha1(h) => (Algorithm::Sha1, hex(&h.finalize())),
            Hasher::Sha256(h) => (Algorithm::Sha256, hex(&h.finalize())),
            Hasher::Sha512(h) => (Algorithm::Sha512, hex(&h.finalize())),
        };
        Digest { algorithm, hex }
    }
}

/// Returns the SHA-256 of some bytes as lower-case hex.
pub fn sha256_hex(bytes: &[u8]) -> String {
    hex(&sha2::Sha256::digest(bytes))
}

/// Returns lower-case hexadecimal digits of some bytes.
pub fn hex(bytes: &[u8]) -> String {
    const DIGITS: [char; 16] =
        ['0', '1', '2', '3', '4', '5', '6', '7', '8', '9', 'a', 'b', 'c', 'd', 'e', 'f'];
    let halves = bytes.iter().flat_map(|byte| [byte >> 4, byte & 15]);
    halves.map(|half| DIGITS[usize::from(half)]).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn known_answers() {
        let expected = [
            "900150983cd24fb0d6963f7d28e17f72",
            "a9993e364706816aba3e25717850c26c9cd0d89d",
            "ba7816bf8f01cfea414140de5dae2223b00361a396177a9cb410ff61f20015ad",
            "ddaf35a193617abacc417349ae20413112e6fa4e89a97ea20a9eeee64b55d39a\
             2192992a274fc1a836ba3c23a3feebbd454d4423643ce80e2a9ac94fa54ca49f",
        ];
        for (algorithm, hex) in Algorithm::ALL.into_iter().zip(expected) {
            let mut hasher = Hasher::new(algorithm);
            hasher.update(b"a");
            hasher.update(b"bc");
            assert_eq!(hasher.finish(), Digest::parse(algorithm, hex).unwrap());
        }
        assert_eq!(sha256_hex(b"abc"), expected[2]);
    }

    #[test]
    fn either_case_and_the_right_length() {
        let lower = Digest::parse(Algorithm::Md5, &"ab".repeat(16)).unwrap();
        assert_eq!(Digest::parse(Algorithm::Md5, &"AB".repeat(16)), Ok(lower.clone()));
        assert_eq!(lower.to_string(), format!("md5:{}", "ab".repeat(16)));
        for bad in ["", "ab", &"g".repeat(32), &"a".repeat(33), &"é".repeat(16)] {
            let error = Digest::parse(Algorithm::Md5, bad).unwrap_err().to_string();
            assert!(error.contains("32 hexadecimal digits"), "{error}");
        }
    }

    #[test]
    fn json_round_trip() {
        let digest = Digest::parse(Algorithm::Sha1, &"0f".repeat(20)).unwrap();
        let text = serde_json::to_string(&digest).unwrap();
        assert_eq!(text, format!("\"sha1:{}\"", "0f".repeat(20)));
        assert_eq!(serde_json::from_str::<Digest>(&text).unwrap(), digest);
        for bad in ["\"sha1:00\"", "\"crc:00\"", "\"00\"", "1"] {
            assert!(serde_json::from_str::<Digest>(bad).is_err(), "{bad}");
        }
    }
}
