//! The steps of the tour that look into an archive.

use std::path::PathBuf;
use std::process::Command;
use std::time::{Duration, Instant};

use super::files::{blocking, list};
use super::origin::{Origin, Seen};
use super::samples::{DETECTED, PACKED};
use super::tour::{Why, check};
use crate::types::Bytes;

/// What of the archive may be fetched to list and run one small member of it.
const SHARE: usize = 20;

/// Lists a directory of an archive of which nothing was fetched.
pub(super) async fn listed(origin: &Origin, root: PathBuf) -> Result<(String, Vec<Seen>), Why> {
    let dir = root.join(PACKED).join("bin");
    let began = Instant::now();
    let names = blocking(move || list(&dir)).await?;
    let took = began.elapsed();
    let mut names = names.map_err(|error| format!("ls {PACKED}/bin: {error}"))?;
    names.sort();
    check(names == ["compile", "detect"], || format!("{PACKED}/bin holds {names:?}"))?;
    little(origin, &names.join(" "), took)
}

/// Runs a script of it.
pub(super) async fn ran(origin: &Origin, root: PathBuf) -> Result<(String, Vec<Seen>), Why> {
    let script = root.join(PACKED).join("bin/detect");
    let began = Instant::now();
    let output = blocking(move || Command::new(script).output()).await?;
    let took = began.elapsed();
    let output = output.map_err(|error| format!("{PACKED}/bin/detect: {error}"))?;
    let said = String::from_utf8_lossy(&output.stdout);
    check(output.status.success() && said.trim() == DETECTED, || {
        format!("it should say {DETECTED}: {}, it said {said:?}", output.status)
    })?;
    little(origin, &format!("says \"{DETECTED}\""), took)
}

/// Checks that what was fetched is a small part of the archive, in ranges.
fn little(origin: &Origin, what: &str, took: Duration) -> Result<(String, Vec<Seen>), Why> {
    let seen = origin.take_seen();
    let sent: usize = seen.iter().map(|seen| seen.sent).sum();
    let whole = origin.body(PACKED).len();
    // Where a step took longer than an answer is shared for, the origin was asked as well.
    check(seen.iter().all(|seen| matches!(seen.status, 206 | 304)), || {
        format!("the origin should have answered with ranges, and did {seen:?}")
    })?;
    check(sent * SHARE < whole, || format!("{sent} bytes of {whole} were fetched"))?;
    let came = format!(
        "{what}, after {} ms, {} of {} fetched",
        took.as_millis(),
        Bytes(sent as u64),
        Bytes(whole as u64)
    );
    Ok((came, seen))
}
