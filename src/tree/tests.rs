//! Tests of the formats, of the index, and of the trees as a whole.

mod held;
mod index;
mod mutated;
mod sound;
mod tar;
pub(crate) mod tars;
mod trunk;
mod zip;
mod zip_members;
pub(crate) mod zips;
