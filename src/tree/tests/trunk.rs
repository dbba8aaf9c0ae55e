//! Trees over blobs in a store: of archives that are whole, and of some that arrive in any order.

mod large;
mod races;
mod restarts;
mod rig;
mod room;
mod streamed;
mod zipped;
