//! What a mount allows its catalogs to say.

use super::Secrets;

/// What a mount allows its catalogs to say.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Rules {
    /// Which files headers may come from.
    pub secrets: Secrets,
    /// Whether every name is a directory, also where nothing is said; `as = "file"` is a mistake
    /// then.
    pub directories_only: bool,
}

/// A mount that shows files as well.
#[cfg(test)]
impl From<Secrets> for Rules {
    fn from(secrets: Secrets) -> Rules {
        Rules { secrets, directories_only: false }
    }
}
