//! Measures the program on a real mount, each figure beside what it is compared with, taken in the
//! same run, alternately. Prints a Markdown table, one row per target. Run by `scripts/bench`.
//!
//! Arguments: words; only the groups whose name contains one of them run (warm, asked, cold,
//! ranged, crowd, names, trees).

#[path = "../../support/mod.rs"]
mod support;

mod asked;
mod cold;
mod crowd;
mod floor;
mod names;
mod proxy;
mod ranged;
mod report;
mod trees;
mod warm;

use report::Report;

/// Measures some rows.
type Group = fn(&mut Report);

fn main() {
    let mut args = std::env::args().skip(1);
    if args.next().as_deref() == Some(floor::SERVE) {
        return floor::serve(args);
    }
    if support::missing(&["fuse", "nginx", "curl"]) {
        return;
    }
    let words: Vec<String> =
        std::env::args().skip(1).filter(|word| !word.starts_with('-')).collect();
    let wanted = |group: &str| words.is_empty() || words.iter().any(|word| group.contains(word));
    let mut report = Report::default();
    let groups: [(&str, Group); 10] = [
        ("warm", warm::run),
        ("asked", asked::run),
        ("cold", cold::run),
        ("ranged", ranged::run),
        ("crowd", crowd::run),
        ("names", names::run),
        ("trees", trees::run),
        ("packs", trees::packs),
        ("unpacked", trees::unpacked),
        ("members", trees::members),
    ];
    for word in &words {
        if !groups.iter().any(|(group, _)| group.contains(word.as_str())) {
            let known: Vec<_> = groups.iter().map(|(group, _)| *group).collect();
            eprintln!("error: no group is called {word:?}; there are: {}", known.join(" "));
            std::process::exit(2);
        }
    }
    for (group, run) in groups {
        if wanted(group) {
            eprintln!("measuring: {group}");
            run(&mut report);
        }
    }
    report.memory();
    report.print();
    if report.missed() > 0 {
        std::process::exit(1);
    }
}
