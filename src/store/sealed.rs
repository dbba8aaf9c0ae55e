//! Small text files that say what they are and notice damage.
//!
//! The first line is `cached-downloads <kind> <version> crc32c:<8 hex digits>`; the checksum is
//! that of everything after that line.

/// What every such file begins with.
const MAGIC: &str = "cached-downloads";

/// Why a file is not what it should be.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub(super) enum Damage {
    /// The first line is not the one expected here.
    #[error("it does not begin with the header of its kind and version")]
    Header,
    /// The checksum differs.
    #[error("its checksum differs from its content")]
    Checksum,
    /// The content makes no sense, although it is what was written.
    #[error("its content is not understood")]
    Content,
}

/// Returns `body` with its header.
pub(super) fn seal(kind: &str, version: u32, body: &[u8]) -> Vec<u8> {
    let mut sealed = header(kind, version, body).into_bytes();
    sealed.extend_from_slice(body);
    sealed
}

/// Returns the body of a sealed file.
///
/// # Errors
/// Another kind or version, or damage to any byte.
pub(super) fn unseal<'a>(kind: &str, version: u32, sealed: &'a [u8]) -> Result<&'a [u8], Damage> {
    let end = sealed.iter().position(|b| *b == b'\n').ok_or(Damage::Header)?;
    let (found, body) = sealed.split_at(end + 1);
    let expected = header(kind, version, body);
    // The digits of the checksum stand at the end of the line, eight and the line feed.
    let fixed = expected.len() - 9;
    if found == expected.as_bytes() {
        Ok(body)
    } else if found.starts_with(&expected.as_bytes()[..fixed]) {
        Err(Damage::Checksum)
    } else {
        Err(Damage::Header)
    }
}

fn header(kind: &str, version: u32, body: &[u8]) -> String {
    format!("{MAGIC} {kind} {version} crc32c:{:08x}\n", crc32c::crc32c(body))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn damage_to_any_byte_is_noticed() {
        let sealed = seal("thing", 1, b"{\"a\":1}\n");
        assert_eq!(unseal("thing", 1, &sealed), Ok(&b"{\"a\":1}\n"[..]));
        for at in 0..sealed.len() {
            for flip in 1..=255u8 {
                let mut damaged = sealed.clone();
                damaged[at] ^= flip;
                assert!(unseal("thing", 1, &damaged).is_err(), "byte {at} ^ {flip}");
            }
            assert!(unseal("thing", 1, &sealed[..at]).is_err(), "cut at {at}");
        }
    }

    #[test]
    fn another_kind_and_another_version_are_refused() {
        let sealed = seal("thing", 1, b"x");
        assert_eq!(unseal("other", 1, &sealed), Err(Damage::Header));
        assert_eq!(unseal("thing", 2, &sealed), Err(Damage::Header));
        assert_eq!(unseal("thing", 1, b""), Err(Damage::Header));
    }
}
