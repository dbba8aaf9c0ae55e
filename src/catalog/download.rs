//! Bindings given as `--download` and `--directory`.

use std::collections::BTreeMap;
use std::str::FromStr;
use std::sync::Arc;
use std::time::SystemTime;

use super::{CatalogFile, Owner, Problem, item};
use crate::source::{Fill, Form, Source};
use crate::types::{Name, NameError};

/// `NAME=URL`, as `--download` and `--directory` take it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Download {
    /// The name.
    pub name: Name,
    /// The source, with every default.
    pub source: Arc<Source>,
}

impl Download {
    /// Returns the same name, shown as the directory that its archive is.
    #[must_use]
    pub fn as_directory(self) -> Download {
        let (form, fill) = (Form::Directory, Fill::of(Form::Directory));
        let source = Source { form, fill, ..Source::new(self.source.url.clone()) };
        Download { source: Arc::new(source), ..self }
    }
}

impl FromStr for Download {
    type Err = String;

    fn from_str(text: &str) -> Result<Download, String> {
        let (name, url) = text
            .split_once('=')
            .ok_or("NAME=URL is expected, for example `jdk.tgz=https://host/jdk.tgz`")?;
        // A URL alone is divided within its query, and then neither part may be repeated. A name
        // may have one of these characters, and be given a `/` by mistake.
        let like_a_url = name.contains([':', '@', '?', '#']);
        let alone = like_a_url && (name.contains('/') || !url.contains("://"));
        if alone {
            return Err("NAME= is missing before the URL; write NAME=URL, for example \
                        `jdk.tgz=https://host/jdk.tgz`"
                .to_owned());
        }
        let url = item::parse_url(url).map_err(|e| format!("the URL {e}"))?;
        Ok(Download {
            name: name.parse().map_err(|e: NameError| e.to_string())?,
            source: Arc::new(Source::new(url)),
        })
    }
}

/// Returns what the command line declares, if anything, as an owner of its own.
pub(super) fn command_line(downloads: &[Download]) -> Result<Option<CatalogFile>, Problem> {
    if downloads.is_empty() {
        return Ok(None);
    }
    let owner = Owner::command_line();
    let mut bindings = BTreeMap::new();
    for Download { name, source } in downloads {
        if bindings.insert(name.clone(), source.clone()).is_some() {
            return Err(Problem {
                file: owner.as_str().into(),
                line: None,
                text: format!(
                    "--download and --directory give the name `{name}` twice; give it once"
                ),
            });
        }
    }
    Ok(Some(CatalogFile { owner, bindings, declared_at: SystemTime::now() }))
}
