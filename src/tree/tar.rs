//! tar: ustar, GNU, v7, PAX; read once, from the beginning to the end.
//!
//! The layout is that of POSIX.1-2017, pax, "ustar Interchange Format" and "pax Interchange
//! Format", with what GNU tar adds.

mod block;
mod extended;
mod header;
mod stream;

use std::io::Read;

use super::error::TreeError;
use super::index::{Member, Packed, What};
use super::path::shown;
use block::damaged;
use extended::Extended;
use header::Header;
use stream::Stream;

/// From this length on the field of a header cannot hold a member's size, and a PAX record may
/// differ from it.
const WIDE: u64 = 1 << 33;

/// Who takes what a tar holds, in its order. Blocks where it likes.
pub trait Sink {
    /// Takes a member. The bytes of a file follow through [`bytes`](Sink::bytes) and end with
    /// [`end`](Sink::end); its [`Packed`] is `Plain` with its place in the
    /// uncompressed stream.
    ///
    /// # Errors
    /// Ends the reading.
    fn member(&mut self, member: &Member<'_>) -> Result<(), TreeError>;

    /// Takes the next bytes of the file.
    ///
    /// # Errors
    /// Ends the reading.
    fn bytes(&mut self, bytes: &[u8]) -> Result<(), TreeError>;

    /// Ends the file.
    ///
    /// # Errors
    /// Ends the reading.
    fn end(&mut self) -> Result<(), TreeError>;
}

/// Reads a tar to its end, and what follows it to the end of the stream. Blocks on the stream.
///
/// The end is a block of zeros; what follows the second of them means nothing, unless there was no
/// member: a tar without members is zeros alone. A stream that ends before its end was cut.
///
/// # Errors
/// It is damaged, cut, or no tar; the stream failed; the sink refused. An error of the stream that
/// holds a [`TreeError`] comes out as that.
pub fn read(stream: impl Read, sink: &mut impl Sink) -> Result<(), TreeError> {
    let mut stream = Stream::new(stream);
    let mut globals = Extended::default();
    loop {
        let mut extended = Extended::default();
        let header = loop {
            let at = stream.at();
            let Some(block) = stream.block()? else {
                return Err(damaged(
                    at,
                    "the stream ends without the block of zeros that ends a tar; it was cut",
                ));
            };
            let Some(header) = Header::read(block, at)? else {
                if extended.is_something() {
                    return Err(damaged(at, "the tar ends where a member should follow its names"));
                }
                return stream.finish();
            };
            if !take_extension(&header, &mut stream, &mut extended, &mut globals)? {
                break header;
            }
        };
        extended.inherit(&globals);
        member(&header, &extended, &mut stream, sink)?;
    }
}

/// Says whether a file that begins so is a tar: its first header is sound, or it has no member.
pub(super) fn begins(head: &[u8]) -> bool {
    head.first_chunk().is_some_and(|block| Header::read(*block, 0).is_ok())
}

/// Takes what only tells more about the next member, or about all.
fn take_extension<R: Read>(
    header: &Header,
    stream: &mut Stream<R>,
    extended: &mut Extended,
    globals: &mut Extended,
) -> Result<bool, TreeError> {
    let at = header.at;
    match header.kind {
        b'L' => {
            let name = until_nul(stream.extension(header.size()?, at)?);
            once(&mut extended.long_name, name, at, "long name")?;
        }
        b'K' => {
            let name = until_nul(stream.extension(header.size()?, at)?);
            once(&mut extended.long_link, name, at, "long link")?;
        }
        b'x' | b'X' => {
            let records = stream.extension(header.size()?, at)?;
            extended.read(&records, at)?;
        }
        b'g' => {
            let records = stream.extension(header.size()?, at)?;
            globals.read(&records, at)?;
            if globals.is_about_one() {
                return Err(damaged(
                    at,
                    "the global PAX header gives all members that follow one path, link or size",
                ));
            }
        }
        _ => return Ok(false),
    }
    Ok(true)
}

fn once(slot: &mut Option<Vec<u8>>, name: Vec<u8>, at: u64, what: &str) -> Result<(), TreeError> {
    match slot.replace(name) {
        None => Ok(()),
        Some(_) => Err(damaged(at, format!("a second {what} for one member"))),
    }
}

fn until_nul(mut name: Vec<u8>) -> Vec<u8> {
    name.truncate(name.iter().position(|byte| *byte == 0).unwrap_or(name.len()));
    name
}

/// Hands one member on, and its bytes.
fn member<R: Read>(
    header: &Header,
    extended: &Extended,
    stream: &mut Stream<R>,
    sink: &mut impl Sink,
) -> Result<(), TreeError> {
    let path = extended.path().map_or_else(|| header.path(), <[u8]>::to_vec);
    let link = extended.link().map_or_else(|| header.link(), <[u8]>::to_vec);
    let size = size(header, extended, &path)?;
    let place = stream.at();
    let what = match header.kind {
        // From the times before type 5.
        b'0' | 0 | b'7' if path.ends_with(b"/") => What::Directory,
        b'5' | b'D' => What::Directory,
        b'1' => What::HardLink(&link),
        b'2' => What::Symlink(&link),
        b'3' | b'4' | b'6' => What::Other,
        // The label of a volume, and what Solaris and star keep about members.
        b'V' | b'A' | b'E' | b'I' => What::Other,
        b'S' => return Err(sparse(header.at, &path)),
        b'M' => return Err(several_volumes(header.at, &path)),
        b'N' => {
            let what = format!("{} is a list of names of the first GNU tar", shown(&path));
            return Err(damaged(header.at, what));
        }
        // POSIX: what is not known is a file.
        _ => What::File { size, packed: Packed::Plain { at: place } },
    };
    if extended.is_sparse() {
        return Err(sparse(header.at, &path));
    }
    let is_file = matches!(what, What::File { .. });
    sink.member(&Member {
        path: &path,
        what,
        executable: header.mode().map(|mode| mode & 0o111 != 0),
        modified: extended.modified.or_else(|| header.modified()),
    })?;
    if !is_file {
        return stream.skip(size, &path);
    }
    stream.body(size, &path, |bytes| sink.bytes(bytes))?;
    sink.end()
}

/// Returns how many bytes follow a header.
fn size(header: &Header, extended: &Extended, path: &[u8]) -> Result<u64, TreeError> {
    // Links, devices, directories and fifos have no bytes, whatever their headers say.
    if (b'1'..=b'6').contains(&header.kind) {
        return match extended.size {
            Some(size) if size > 0 => Err(damaged(
                header.at,
                format!(
                    "a PAX record says that {} has {size} bytes, and a member of type {:?} has \
                     none for most programs",
                    shown(path),
                    char::from(header.kind)
                ),
            )),
            _ => Ok(0),
        };
    }
    let Some(size) = extended.size else { return header.size() };
    if size < WIDE && header.size()? != size {
        return Err(damaged(
            header.at,
            format!(
                "a PAX record says that {} has {size} bytes, its header {}; programs differ in \
                 which they believe",
                shown(path),
                header.size()?
            ),
        ));
    }
    Ok(size)
}

fn sparse(at: u64, path: &[u8]) -> TreeError {
    damaged(at, format!("{} is a sparse member; pack it without --sparse", shown(path)))
}

fn several_volumes(at: u64, path: &[u8]) -> TreeError {
    damaged(at, format!("{} goes on from another volume; join them into one archive", shown(path)))
}
