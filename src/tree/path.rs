//! Paths of members, before and after they are believed.

use super::error::{TreeError, Why};
use super::limits::Limits;

/// The longest name of a file that Linux knows, in bytes.
const LONGEST_NAME: usize = 255;

/// The longest target of a symbolic link that Linux knows, in bytes.
pub(super) const LONGEST_TARGET: usize = 4095;

/// How much of a name an error shows, in bytes.
const SHOWN: usize = 200;

/// Takes a path apart. `.` and empty components (`a//b`, `a/`) mean nothing, as for the kernel; a
/// path of nothing else is the root.
///
/// # Errors
/// It is empty, absolute, climbs (`..`), holds a NUL, or is longer or deeper than allowed. The text
/// calls it `role` of the member.
pub(super) fn components<'a>(
    path: &'a [u8],
    role: &str,
    limits: &Limits,
) -> Result<impl Iterator<Item = &'a [u8]> + use<'a>, TreeError> {
    let refused = |what: &str| {
        TreeError::new(
            Why::Damaged,
            format!(
                "{role} {} {what}; relative paths that stay within the archive are shown, so it \
                 has to be packed again",
                shown(path)
            ),
        )
    };
    if path.is_empty() {
        return Err(refused("is empty"));
    }
    if path.len() > limits.path as usize {
        return Err(limit(role, path, path.len(), "bytes of path", limits.path, "path"));
    }
    if path[0] == b'/' {
        return Err(refused("is absolute"));
    }
    if path.contains(&0) {
        return Err(refused("holds a NUL byte"));
    }
    let parts = parts(path);
    let mut depth = 0;
    for part in parts.clone() {
        depth += 1;
        if part == b".." {
            return Err(refused("climbs"));
        }
        if part.len() > LONGEST_NAME {
            return Err(refused("has a component of more than 255 bytes"));
        }
    }
    if depth > limits.depth as usize {
        return Err(limit(role, path, depth, "components", limits.depth, "depth"));
    }
    Ok(parts)
}

/// Returns the components that name something.
fn parts(path: &[u8]) -> impl Iterator<Item = &[u8]> + Clone {
    path.split(|byte| *byte == b'/').filter(|part| !part.is_empty() && *part != b".")
}

/// Says whether these bytes can be one name in a directory.
pub(super) fn is_name(name: &[u8]) -> bool {
    let bytes = !name.contains(&b'/') && !name.contains(&0);
    bytes && (1..=LONGEST_NAME).contains(&name.len()) && name != b"." && name != b".."
}

fn limit(role: &str, path: &[u8], found: usize, unit: &str, allowed: u32, key: &str) -> TreeError {
    TreeError::new(
        Why::Limit,
        format!("{role} {} has {found} {unit}; archives.{key} allows {allowed}", shown(path)),
    )
}

/// Returns a path for a person, in quotes: what is not printable is escaped, and a long one is cut
/// in its middle.
pub(super) fn shown(path: &[u8]) -> String {
    if path.len() <= SHOWN {
        return format!("\"{}\"", escaped(path));
    }
    let (head, tail) = (&path[..SHOWN / 2], &path[path.len() - SHOWN / 2..]);
    format!("\"{}\" ... \"{}\"", escaped(head), escaped(tail))
}

fn escaped(bytes: &[u8]) -> String {
    let mut text = String::new();
    for chunk in bytes.utf8_chunks() {
        text.extend(chunk.valid().chars().flat_map(char::escape_debug));
        text.extend(chunk.invalid().iter().map(|byte| format!("\\x{byte:02x}")));
    }
    text
}
