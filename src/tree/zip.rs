//! zip: the index stands at the end, so a cold archive can be listed after a few requests.
//!
//! The layout is that of PKWARE's APPNOTE.TXT 6.3; sections named below are its.

mod cp437;
mod directory;
mod end;
mod extra;
mod local;
mod record;

pub use directory::directory;
pub use end::{End, TAIL, end};
pub use local::{HEADER, data};
