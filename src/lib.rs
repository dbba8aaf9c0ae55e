//! A FUSE filesystem that presents a cache of HTTP downloads as ordinary files.

pub mod cache;
pub mod catalog;
pub mod cli;
pub mod config;
pub mod control;
pub mod daemon;
pub mod demo;
pub mod digest;
pub mod document;
pub mod fs;
pub mod kernel;
pub mod lifetime;
pub mod luck;
pub mod metrics;
pub mod mount;
pub mod origin;
pub mod route;
pub mod source;
pub mod store;
pub mod sys;
pub mod telemetry;
pub mod tree;
pub mod types;
pub mod validators;
