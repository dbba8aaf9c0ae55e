//! The daemon's numbers for people.

use std::collections::BTreeMap;

use super::text::{clean, columns, count, span};
use crate::control::{CatalogState, Status};
use crate::types::Bytes;

/// How many failures are shown; `--json` has them all.
const ERRORS: usize = 10;

/// Returns a page: who, how full, what happened, what is wrong.
pub(super) fn render(status: &Status) -> String {
    let mut out = head(status);
    let sections = [where_(status), space(status), traffic(status)];
    out.push_str(&columns(&sections.concat(), &[]));
    out.push_str(&complaints(status));
    out
}

fn line(head: &str, text: String) -> Vec<String> {
    vec![format!("  {head}"), text]
}

fn head(status: &Status) -> String {
    let up = status.started_at.map(|at| format!(", up {}", span(at.age()))).unwrap_or_default();
    format!("cached-downloads {}, pid {}{up}\n", clean(&status.version), status.pid)
}

fn where_(status: &Status) -> Vec<Vec<String>> {
    let passthrough = match (&status.passthrough.reason, status.passthrough.on) {
        (_, true) => "on".to_owned(),
        (Some(reason), false) => format!("off: {}", clean(reason)),
        (None, false) => "off".to_owned(),
    };
    vec![
        line("mounted on", status.mountpoint.display().to_string()),
        line("store", status.store.display().to_string()),
        line("passthrough", passthrough),
    ]
}

fn space(status: &Status) -> Vec<Vec<String>> {
    let space = &status.space;
    let percent = match space.quota.0 {
        0 => String::new(),
        quota => format!(" ({} %)", u128::from(space.stored.0) * 100 / u128::from(quota)),
    };
    let mut parts = vec![format!("{} pinned", space.pinned), format!("{} idle", space.idle)];
    for (bytes, what) in [(space.reserved, "reserved"), (space.condemned, "being removed")] {
        if bytes > Bytes(0) {
            parts.push(format!("{bytes} {what}"));
        }
    }
    vec![
        line(
            "space",
            format!(
                "{} of {} quota{percent}, hard limit {}",
                space.stored, space.quota, space.hard_limit
            ),
        ),
        line("", format!("{}: {}", count(space.blobs, "blob"), parts.join(", "))),
        line("disk", format!("{} free, {} always left free", space.disk_free, space.min_free)),
    ]
}

fn traffic(status: &Status) -> Vec<Vec<String>> {
    let (names, counters, now) = (&status.names, &status.counters, &status.now);
    let mut rows = vec![
        line(
            "names",
            format!(
                "{}: {} ready, {} arriving, {} absent",
                names.total, names.ready, names.fetching, names.absent
            ),
        ),
        line(
            "opens",
            format!(
                "{}: {}, {}, {} served stale",
                counters.opens,
                count(counters.hits, "hit"),
                count(counters.misses, "miss"),
                counters.stale_served
            ),
        ),
        line(
            "origins",
            format!(
                "{} received, {} ({} not modified)",
                counters.bytes_from_origin,
                count(counters.revalidations, "revalidation"),
                counters.not_modified
            ),
        ),
        line(
            "evictions",
            format!(
                "{} ({}), {} wanted again",
                counters.evictions, counters.evicted_bytes, counters.evicted_then_wanted_again
            ),
        ),
        line(
            "now",
            format!(
                "{}, {}, {}",
                count(now.open_handles, "open handle"),
                count(now.waiting_requests, "waiting request"),
                count(now.flights, "flight")
            ),
        ),
    ];
    for (head, reasons) in
        [("refused", &counters.refusals), ("failures", &counters.origin_failures)]
    {
        if let Some(text) = by_reason(reasons) {
            rows.push(line(head, text));
        }
    }
    if counters.trees_indexed > 0 {
        let directories = match counters.trees_indexed {
            1 => "1 directory".to_owned(),
            n => format!("{n} directories"),
        };
        let members = count(counters.members_unpacked, "member");
        let text = format!("{directories} indexed, {members} unpacked, {}", status.space.trees);
        rows.push(line("archives", format!("{text} on disk")));
    }
    if counters.damaged > 0 {
        rows.push(line("damaged", count(counters.damaged, "blob")));
    }
    rows
}

fn by_reason(reasons: &BTreeMap<String, u64>) -> Option<String> {
    let shown: Vec<String> = reasons
        .iter()
        .filter(|(_, n)| **n > 0)
        .map(|(reason, n)| format!("{n} {}", clean(reason)))
        .collect();
    (!shown.is_empty()).then(|| shown.join(", "))
}

fn complaints(status: &Status) -> String {
    let mut out = String::new();
    let mut section = |head: &str, lines: Vec<String>| {
        if !lines.is_empty() {
            out.push_str(&format!("{head}\n"));
            for line in lines {
                out.push_str(&format!("  {line}\n"));
            }
        }
    };
    let mut problems: Vec<String> = status.problems.iter().map(|p| clean(p)).collect();
    if status.unwatched_callers_seen {
        problems.push(
            "callers of another pid namespace were seen; they cannot be interrupted while they wait (run the daemon in the host's)"
                .to_owned(),
        );
    }
    section("problems", problems);
    section(
        "catalogs without an opinion (their last good state stays in force)",
        status
            .catalogs
            .iter()
            .filter(|catalog| catalog.state == CatalogState::NoOpinion)
            .map(|catalog| {
                let why = catalog.problem.as_deref().unwrap_or("not readable");
                format!("{}: {}", clean(&catalog.owner), clean(why))
            })
            .collect(),
    );
    section(
        "conflicts",
        status
            .conflicts
            .iter()
            .map(|conflict| {
                format!(
                    "{}: in force from {}; {} another source",
                    conflict.name,
                    clean(&conflict.in_force.join(", ")),
                    match conflict.others.as_slice() {
                        [one] => format!("{} wants", clean(one)),
                        many => format!("{} want", clean(&many.join(", "))),
                    }
                )
            })
            .collect(),
    );
    let mut errors: Vec<String> = status
        .last_errors
        .iter()
        .take(ERRORS)
        .map(|error| {
            format!("{} ({} ago): {}", error.name, span(error.at.age()), clean(&error.message))
        })
        .collect();
    if status.last_errors.len() > ERRORS {
        errors.push(format!("and {} more", status.last_errors.len() - ERRORS));
    }
    section("last failures", errors);
    out
}

#[cfg(test)]
mod tests {
    use std::time::SystemTime;

    use super::*;
    use crate::control::{CatalogStatus, ConflictStatus, Counters, LastError, Space};

    #[test]
    fn a_quiet_daemon_is_one_short_page() {
        let status = Status {
            version: "0.1.0".to_owned(),
            pid: 7,
            mountpoint: "/m".into(),
            store: "/s".into(),
            space: Space {
                quota: Bytes(10 << 30),
                hard_limit: Bytes(12 << 30),
                stored: Bytes(5 << 30),
                blobs: 1,
                ..Space::default()
            },
            counters: Counters { opens: 3, hits: 1, misses: 2, ..Counters::default() },
            ..Status::default()
        };
        assert_eq!(
            render(&status),
            "\
cached-downloads 0.1.0, pid 7
  mounted on   /m
  store        /s
  passthrough  off
  space        5.0 GiB of 10.0 GiB quota (50 %), hard limit 12.0 GiB
               1 blob: 0 B pinned, 0 B idle
  disk         0 B free, 0 B always left free
  names        0: 0 ready, 0 arriving, 0 absent
  opens        3: 1 hit, 2 misses, 0 served stale
  origins      0 B received, 0 revalidations (0 not modified)
  evictions    0 (0 B), 0 wanted again
  now          0 open handles, 0 waiting requests, 0 flights
"
        );
    }

    #[test]
    fn archives_have_a_line_once_there_are_any() {
        let status = Status {
            counters: Counters { trees_indexed: 2, members_unpacked: 1, ..Counters::default() },
            space: Space { trees: Bytes(3 << 20), ..Space::default() },
            ..Status::default()
        };
        let wanted = "  archives     2 directories indexed, 1 member unpacked, 3.0 MiB on disk\n";
        assert!(render(&status).contains(wanted), "{}", render(&status));
    }

    #[test]
    fn what_is_wrong_comes_last_and_names_the_thing() {
        let name: crate::types::Name = "jdk".parse().expect("a name");
        let status = Status {
            unwatched_callers_seen: true,
            problems: vec!["the quota is larger than the disk".to_owned()],
            last_errors: vec![
                LastError {
                    name: name.clone(),
                    kind: "unreachable".to_owned(),
                    message: "connection refused".to_owned(),
                    at: SystemTime::now().into(),
                };
                12
            ],
            conflicts: vec![ConflictStatus {
                name,
                in_force: vec!["cc".to_owned()],
                others: vec!["other".to_owned()],
            }],
            catalogs: vec![CatalogStatus {
                owner: "cc".to_owned(),
                state: CatalogState::NoOpinion,
                problem: Some("line 3: unknown key".to_owned()),
                ..CatalogStatus::default()
            }],
            ..Status::default()
        };
        let page = render(&status);
        for wanted in [
            "problems\n  the quota",
            "cc: line 3",
            "jdk: in force from cc; other wants another source",
            "jdk (0 s ago): connection refused",
            "  and 2 more\n",
        ] {
            assert!(page.contains(wanted), "{wanted} is missing in\n{page}");
        }
    }
}
