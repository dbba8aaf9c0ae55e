//! Tests of the room as a whole.

mod agreement;
mod directories;
mod files;
