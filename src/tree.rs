//! Archives shown as directories: what lies in them and where, and how a member's bytes come out.
//!
//! An archive is never unpacked into files. Its [`Index`] (path, kind, mode, time, size, place of
//! the bytes) is built once; the bytes of members that are packed lie in one sparse file for each
//! tree, each at a place that the index gives.

mod error;
mod format;
mod index;
mod limits;
mod path;
mod stamp;
pub mod tar;
mod trunk;
pub mod zip;

pub use error::{TreeError, Why};
pub use format::{Format, HEAD};
pub use index::{Builder, Content, ContentNo, Index, Kind, Member, NodeAttr, NodeNo, Packed, What};
pub use limits::Limits;
pub use trunk::{Found, Parts, Ready, Room, Tree};

#[cfg(test)]
pub(crate) mod tests;
