//! The operator's side door: HTTP/1.1 and JSON on a unix socket.

mod client;
mod names;
mod server;
mod status;
mod timestamp;
mod types;

pub use client::{Client, ClientError};
pub use names::{LastError, NameState, NameStatus, Names, TreeStatus};
pub use server::{Server, ServerError};
pub use status::{
    CatalogState, CatalogStatus, ConflictStatus, Counters, NameCounts, Now, PassthroughStatus,
    Space, Status,
};
pub use timestamp::Timestamp;
pub use types::{ApiError, EvictRefusal, EvictRefused, Evicted, Operator, ReloadReport};

#[cfg(test)]
mod tests;
