//! The streams that tars come in, each decoded by the best library for it.

use std::io::{self, BufRead, BufReader, Read};

use flate2::bufread::GzDecoder;
use liblzma::bufread::XzDecoder;
use liblzma::stream::{CONCATENATED, Stream};

use super::budget::Budget;
use crate::tree::error::{TreeError, Why};
use crate::tree::format::Format;

/// How much is read at once.
const BUFFER: usize = 256 << 10;

/// The memory that unpacking may take: what `xz -9` and `zstd --ultra -22` need, and no more.
const MEMORY: u64 = 128 << 20;
const WINDOW_LOG: u32 = 27;

/// Returns the tar in a stream, which is to be read in large steps.
///
/// # Errors
/// A decoder could not be made.
pub(super) fn tar(format: Format, stream: impl Read + 'static) -> Result<impl Read, TreeError> {
    let raw = BufReader::with_capacity(BUFFER, stream);
    let cannot = |error: io::Error| TreeError::new(Why::Disk, format!("no decoder: {error}"));
    let decoder: Box<dyn Read> = match format {
        Format::TarGz => Box::new(Gzip { member: Some(GzDecoder::new(raw)) }),
        Format::TarZst => {
            let mut decoder = zstd::Decoder::with_buffer(raw).map_err(cannot)?;
            decoder.window_log_max(WINDOW_LOG).map_err(cannot)?;
            Box::new(decoder)
        }
        Format::TarXz => {
            let decoder = Stream::new_stream_decoder(MEMORY, CONCATENATED);
            Box::new(XzDecoder::new_stream(raw, decoder.map_err(|e| cannot(e.into()))?))
        }
        Format::Tar | Format::Zip => Box::new(raw),
    };
    Ok(Held { format, decoder, budget: Budget::default() })
}

/// Members of a gzip file, one after another (RFC 1952, 2.2). Zeros behind the last are padding.
struct Gzip<R> {
    member: Option<GzDecoder<R>>,
}

impl<R: BufRead> Read for Gzip<R> {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        while let Some(member) = &mut self.member {
            match member.read(buffer)? {
                0 if !buffer.is_empty() => {}
                read => return Ok(read),
            }
            let Some(mut rest) = self.member.take().map(GzDecoder::into_inner) else { break };
            let mut padded = false;
            let next = loop {
                let bytes = rest.fill_buf()?;
                let zeros = bytes.iter().take_while(|byte| **byte == 0).count();
                let next = bytes.get(zeros).copied();
                padded |= zeros > 0;
                match next {
                    None if zeros > 0 => rest.consume(zeros),
                    next => break next,
                }
            };
            match next {
                None => {}
                Some(0x1f) if !padded => self.member = Some(GzDecoder::new(rest)),
                Some(_) => {
                    return Err(io::Error::new(
                        io::ErrorKind::InvalidData,
                        "something else stands behind its end",
                    ));
                }
            }
        }
        Ok(0)
    }
}

/// A decoder that is held to a budget, with errors that say what is wrong.
struct Held {
    format: Format,
    decoder: Box<dyn Read>,
    budget: Budget,
}

impl Read for Held {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        let Held { format, decoder, budget } = self;
        let read = budget.step(|| {
            let read = decoder.read(buffer).map_err(|error| explain(*format, error))?;
            Ok((read, read as u64))
        });
        read.map_err(io::Error::other)
    }
}

/// Says what is wrong with a stream.
fn explain(format: Format, error: io::Error) -> TreeError {
    if let Some(known) = error.get_ref().and_then(|inner| inner.downcast_ref::<TreeError>()) {
        return known.clone();
    }
    let name = match format {
        Format::TarGz => "gzip",
        Format::TarZst => "zstd",
        Format::TarXz => "xz",
        Format::Tar | Format::Zip => return super::disk("the archive cannot be read", &error),
    };
    let lzma = error.get_ref().and_then(|inner| inner.downcast_ref::<liblzma::stream::Error>());
    let memory = matches!(lzma, Some(liblzma::stream::Error::MemLimit));
    if memory || error.to_string().contains("too much memory") {
        let text = format!("{name}: unpacking needs more than {} MiB of memory", MEMORY >> 20);
        return TreeError::new(Why::Limit, text);
    }
    let text = match error.kind() {
        io::ErrorKind::UnexpectedEof => format!("{name}: the archive is cut"),
        _ => format!("{name}: the archive is damaged: {error}"),
    };
    TreeError::new(Why::Damaged, text)
}
