//! What lies in an archive and where.

mod builder;
mod decode;
mod encode;
mod member;
mod records;
mod whole;

pub use builder::Builder;
pub use member::{Content, ContentNo, Kind, Member, NodeAttr, NodeNo, Packed, What};
pub use whole::Index;
