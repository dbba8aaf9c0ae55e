//! The tour: ten steps, each a command, what came, and what the origin saw.

use std::fs::File;
use std::io::{self, Read as _};
use std::os::unix::fs::FileExt as _;
use std::path::PathBuf;
use std::time::{Duration, Instant};

use super::browse;
use super::files::{Cat, blocking, cat, list, used};
use super::mounted::{HARD_LIMIT, Mounted, QUOTA};
use super::origin::{Origin, Seen};
use super::samples::{self, LATE, NOTES, PACKS, SLOW};
use super::{DemoError, show};
use crate::control::{Client, NameState};
use crate::types::{Bytes, Name};

/// Past the window in which one answer of the origin serves all who open.
const WINDOW: Duration = Duration::from_millis(1200);
/// No step may take longer; a mount that hangs must not hang the tour.
const PATIENCE: Duration = Duration::from_secs(40);
/// How soon a copy must be served while its origin is away.
const STALE_OPEN: Duration = Duration::from_millis(2500);
/// How soon a name without a copy must fail while its origin is away.
const COLD_FAILURE: Duration = Duration::from_secs(11);

/// Why a step failed, in words.
pub(super) type Why = String;

/// What is walked through.
struct Tour<'a> {
    origin: &'a mut Origin,
    root: PathBuf,
    store: PathBuf,
    client: Client,
}

/// Takes the tour and prints it.
pub(super) async fn tour(origin: &mut Origin, mounted: &Mounted) -> Result<(), DemoError> {
    let mut tour =
        Tour { origin, root: mounted.path(), store: mounted.store(), client: mounted.client() };
    show(&format!(
        "An origin on {}, a mount on {}, a quota of {QUOTA}.\n",
        tour.origin.url(""),
        tour.root.display(),
    ));
    tour.all().await
}

/// Counts the steps and ends the tour at the first that fails.
#[derive(Default)]
struct Steps {
    number: usize,
}

impl Steps {
    async fn run(
        &mut self,
        what: &'static str,
        command: &str,
        work: impl Future<Output = Result<(String, Vec<Seen>), Why>>,
    ) -> Result<(), DemoError> {
        self.number += 1;
        let number = self.number;
        let result = tokio::time::timeout(PATIENCE, work)
            .await
            .unwrap_or_else(|_| Err(format!("no end after {} s", PATIENCE.as_secs())));
        let (came, seen) = result.map_err(|why| DemoError::Step { number, what, why })?;
        show_step(number, what, command, &came, &seen);
        Ok(())
    }
}

impl Tour<'_> {
    async fn all(&mut self) -> Result<(), DemoError> {
        let began = Instant::now();
        let mut steps = Steps::default();
        steps.run("list the names", "ls", self.list()).await?;
        let jdk = "cat jdk.tar";
        steps.run("open a cold name", jdk, self.cold()).await?;
        steps.run("open it again", jdk, self.again()).await?;
        let head = "head -c 4096 jdk.tar";
        steps.run("and at once", head, self.at_once()).await?;
        let what = "look into a cold archive";
        steps.run(what, "ls buildpack/bin", browse::listed(self.origin, self.root.clone())).await?;
        let what = "and run a script of it";
        steps
            .run(what, "buildpack/bin/detect", browse::ran(self.origin, self.root.clone()))
            .await?;
        let notes = "cat notes.txt";
        let what = "replace a file under its reader";
        steps.run(what, notes, self.replaced()).await?;
        let packs = "cat ruby.zip node.zip go.zip";
        let what = "pass the quota, jdk.tar held";
        steps.run(what, packs, self.pressed()).await?;
        self.origin.stop().await;
        let what = "stop the origin, open a copy";
        steps.run(what, "cat go.zip", self.stale()).await?;
        let what = "and a name without a copy";
        steps.run(what, "cat late.txt", self.refused()).await?;
        show(&format!("\nAll as it should be, in {:.0} s.\n", began.elapsed().as_secs_f64()));
        Ok(())
    }

    fn path(&self, name: &str) -> PathBuf {
        self.root.join(name)
    }

    /// Takes the requests since the last step and checks their statuses.
    fn saw(&self, expected: &[u16]) -> Result<Vec<Seen>, Why> {
        let seen = self.origin.take_seen();
        let statuses: Vec<u16> = seen.iter().map(|seen| seen.status).collect();
        check(statuses == expected, || {
            format!("the origin should have answered {expected:?}, and did {seen:?}")
        })?;
        Ok(seen)
    }

    /// Reads a whole file and compares it with what the origin offers.
    async fn cat(&self, name: &str) -> Result<Cat, Why> {
        let path = self.path(name);
        let cat =
            blocking(move || cat(&path)).await?.map_err(|error| format!("{name}: {error}"))?;
        self.same(name, &cat.bytes)?;
        Ok(cat)
    }

    /// Compares bytes, not hashes: that takes no time of the window in which an answer is shared.
    fn same(&self, name: &str, bytes: &[u8]) -> Result<(), Why> {
        check(self.origin.body(name) == bytes, || {
            format!("the bytes of {name} are not the origin's")
        })
    }

    async fn list(&self) -> Result<(String, Vec<Seen>), Why> {
        let root = self.root.clone();
        let mut names =
            blocking(move || list(&root)).await?.map_err(|error| format!("ls: {error}"))?;
        names.sort();
        check(names == self.origin.names(), || format!("the mount shows {names:?}"))?;
        let seen = self.saw(&[])?;
        Ok((format!("{} names, none of them fetched", names.len()), seen))
    }

    async fn cold(&self) -> Result<(String, Vec<Seen>), Why> {
        let cat = self.cat(SLOW).await?;
        check(cat.first * 3 < cat.whole, || {
            format!(
                "the first bytes came after {:?} of {:?}: not before the end",
                cat.first, cat.whole
            )
        })?;
        let came = format!(
            "{}, first bytes after {} ms, the last after {:.1} s",
            Bytes(cat.bytes.len() as u64),
            cat.first.as_millis(),
            cat.whole.as_secs_f64()
        );
        Ok((came, self.saw(&[200])?))
    }

    async fn again(&self) -> Result<(String, Vec<Seen>), Why> {
        tokio::time::sleep(WINDOW).await;
        let cat = self.cat(SLOW).await?;
        let came = format!(
            "{} from the copy, after {} ms",
            Bytes(cat.bytes.len() as u64),
            cat.whole.as_millis()
        );
        Ok((came, self.saw(&[304])?))
    }

    async fn at_once(&self) -> Result<(String, Vec<Seen>), Why> {
        let path = self.path(SLOW);
        let head = blocking(move || -> io::Result<(Vec<u8>, Duration)> {
            let began = Instant::now();
            let mut head = vec![0; 4096];
            File::open(path)?.read_exact(&mut head)?;
            Ok((head, began.elapsed()))
        });
        let (head, took) = head.await?.map_err(|error| format!("{SLOW}: {error}"))?;
        check(self.origin.body(SLOW).starts_with(&head), || {
            format!("the first bytes of {SLOW} are not the origin's")
        })?;
        let came = format!("4.0 KiB after {} us, one answer serves a second", took.as_micros());
        Ok((came, self.saw(&[])?))
    }

    async fn replaced(&self) -> Result<(String, Vec<Seen>), Why> {
        let old = self.origin.body(NOTES);
        let path = self.path(NOTES);
        let (half, length) = (old.len() / 2, old.len());
        let opened = blocking(move || -> io::Result<(File, Vec<u8>)> {
            let file = File::open(path)?;
            let mut first = vec![0; half];
            file.read_exact_at(&mut first, 0)?;
            Ok((file, first))
        });
        let (file, mut read) = opened.await?.map_err(|error| format!("{NOTES}: {error}"))?;
        // Whole before it is replaced, so that the new open finds a copy to ask about.
        tokio::time::sleep(WINDOW).await;
        self.origin.replace(NOTES, samples::notes(2));
        self.cat(NOTES).await?;
        let rest = blocking(move || -> io::Result<Vec<u8>> {
            let mut rest = vec![0; length - half];
            file.read_exact_at(&mut rest, half as u64)?;
            Ok(rest)
        });
        read.extend(rest.await?.map_err(|error| format!("{NOTES}: {error}"))?);
        check(read == old, || "the open handle did not keep the old bytes".to_owned())?;
        let came = "the open handle reads revision 1 to its end, a new one revision 2";
        Ok((came.to_owned(), self.saw(&[200, 200])?))
    }

    async fn pressed(&self) -> Result<(String, Vec<Seen>), Why> {
        let path = self.path(SLOW);
        let held = blocking(move || File::open(path))
            .await?
            .map_err(|error| format!("{SLOW}: {error}"))?;
        for name in PACKS {
            self.cat(name).await?;
        }
        self.wait_absent(PACKS[0]).await?;
        let store = self.store.clone();
        let used = blocking(move || used(&store))
            .await?
            .map_err(|error| format!("du of the store: {error}"))?;
        check(used <= HARD_LIMIT, || {
            format!("the store takes {} of {}", Bytes(used), Bytes(HARD_LIMIT))
        })?;
        let bytes = blocking(move || -> io::Result<Vec<u8>> {
            let mut bytes = Vec::new();
            (&held).read_to_end(&mut bytes)?;
            Ok(bytes)
        });
        self.same(SLOW, &bytes.await?.map_err(|error| format!("{SLOW}: {error}"))?)?;
        let status = self.client.status().await.map_err(|e| e.to_string())?;
        let came = format!(
            "{} on disk, {} held and kept, {} gone",
            Bytes(used),
            SLOW,
            status.counters.evictions
        );
        // The copy that is held was checked too.
        Ok((came, self.saw(&[304, 200, 200, 200])?))
    }

    /// Waits until the eviction of a name has come through.
    async fn wait_absent(&self, name: &str) -> Result<(), Why> {
        let parsed: Name = name.parse().map_err(|error| format!("{error}"))?;
        let mut state = NameState::Ready;
        for _ in 0..30 {
            let status = self.client.name(&parsed).await;
            state = status.map_err(|error| error.to_string())?.state;
            if state == NameState::Absent {
                return Ok(());
            }
            tokio::time::sleep(Duration::from_millis(100)).await;
        }
        Err(format!(
            "{name}, the oldest that nobody holds, should be evicted but is {}",
            state.as_str()
        ))
    }

    async fn stale(&self) -> Result<(String, Vec<Seen>), Why> {
        tokio::time::sleep(WINDOW).await;
        let cat = self.cat(PACKS[2]).await?;
        check(cat.first <= STALE_OPEN, || {
            format!("the copy was served only after {:?}", cat.first)
        })?;
        let came = format!(
            "{} from the copy, after {} ms",
            Bytes(cat.bytes.len() as u64),
            cat.first.as_millis()
        );
        Ok((came, self.saw(&[])?))
    }

    async fn refused(&self) -> Result<(String, Vec<Seen>), Why> {
        let path = self.path(LATE);
        let began = Instant::now();
        let error = match blocking(move || cat(&path)).await? {
            Ok(_) => return Err(format!("{LATE} was read, from nowhere")),
            Err(error) => error,
        };
        let took = began.elapsed();
        check(error.raw_os_error() == Some(libc::EIO), || {
            format!("{LATE} should fail with EIO, not: {error}")
        })?;
        check(took <= COLD_FAILURE, || format!("{LATE} failed only after {took:?}"))?;
        let name: Name = LATE.parse().map_err(|error| format!("{error}"))?;
        let status = self.client.name(&name).await.map_err(|e| e.to_string())?;
        let reason = status
            .last_error
            .ok_or_else(|| format!("the status of {LATE} does not say why it failed"))?;
        let came =
            format!("EIO after {:.1} s, and `ls` says why: {}", took.as_secs_f64(), reason.message);
        Ok((came, self.saw(&[])?))
    }
}

/// Says why a step failed, unless it is good.
pub(super) fn check(good: bool, why: impl FnOnce() -> String) -> Result<(), Why> {
    if good { Ok(()) } else { Err(why()) }
}

fn show_step(number: usize, what: &str, command: &str, came: &str, seen: &[Seen]) {
    let origin = match seen {
        [] => "nothing".to_owned(),
        seen => seen
            .iter()
            .map(|seen| format!("{} {}", seen.what, seen.status))
            .collect::<Vec<_>>()
            .join(", "),
    };
    show(&format!("{number}  {what}: $ {command} -> {came} [origin saw {origin}]\n"));
}
