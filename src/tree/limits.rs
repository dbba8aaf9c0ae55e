//! How much of an archive is believed.

/// The limits of one archive; past one, nothing of it is shown or kept.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Limits {
    /// Members, implied directories included.
    pub members: u32,
    /// Bytes of memory that the index takes.
    pub index: u64,
    /// Bytes that all members unpack to.
    pub expanded: u64,
    /// Unpacked bytes for each byte of the archive.
    pub ratio: u64,
    /// Bytes that one member unpacks to.
    pub member: u64,
    /// Components of a path.
    pub depth: u32,
    /// Bytes of a path.
    pub path: u32,
}

impl Default for Limits {
    fn default() -> Limits {
        Limits {
            members: 200_000,
            index: 64 << 20,
            expanded: 8 << 30,
            ratio: 200,
            member: 4 << 30,
            depth: 64,
            path: 4096,
        }
    }
}
