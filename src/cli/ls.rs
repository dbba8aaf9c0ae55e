//! The list of names for people.

use std::collections::HashSet;

use super::text::{clean, columns, count, span};
use crate::control::{NameState, NameStatus, TreeStatus};
use crate::source::Form;
use crate::types::Bytes;

/// Returns one line for each name, with the last failure below it.
pub(super) fn render(names: &[NameStatus]) -> String {
    if names.is_empty() {
        return "no names; bind some with --download NAME=URL or a catalog\n".to_owned();
    }
    let heads = ["NAME", "STATE", "SIZE", "PINS", "CHECKED", "URL"];
    let mut rows = vec![heads.map(str::to_owned).to_vec()];
    rows.extend(names.iter().map(row));
    let table = columns(&rows, &[2, 3]);
    let mut lines = table.lines();
    let mut out = String::new();
    out.push_str(lines.next().unwrap_or_default());
    out.push('\n');
    for (name, line) in names.iter().zip(lines) {
        out.push_str(line);
        out.push('\n');
        if let Some(tree) = &name.tree {
            out.push_str(&format!("  {}\n", directory(tree)));
        }
        for alias in &name.aliases {
            out.push_str(&format!("  alias {alias}\n"));
        }
        if let Some(error) = &name.last_error {
            out.push_str(&format!("  {} ago: {}\n", span(error.at.age()), clean(&error.message)));
        }
    }
    // A file and a directory may be one download.
    let mut counted = HashSet::new();
    let once = names.iter().filter(|name| name.version.as_ref().is_none_or(|v| counted.insert(v)));
    let filled: u64 = once.map(|name| name.filled.0).sum();
    out.push_str(&format!("{}, {} on disk\n", count(names.len() as u64, "name"), Bytes(filled)));
    out
}

fn row(name: &NameStatus) -> Vec<String> {
    vec![
        match name.form {
            Form::File => name.name.to_string(),
            Form::Directory => format!("{}/", name.name),
        },
        state(name),
        name.length.map_or("?".to_owned(), |l| l.to_string()),
        match name.pins {
            0 => String::new(),
            pins => pins.to_string(),
        },
        match name.validated_at {
            Some(at) => format!("{} ago", span(at.age())),
            None => "never".to_owned(),
        },
        clean(&name.url),
    ]
}

fn directory(tree: &TreeStatus) -> String {
    let unpacked = match tree.unpacked {
        Bytes(0) => "nothing unpacked".to_owned(),
        bytes => format!("{bytes} unpacked"),
    };
    match tree.members {
        Some(members) => format!("{}, {unpacked}", count(members, "member")),
        None => unpacked,
    }
}

fn state(name: &NameStatus) -> String {
    let mut state = name.state.as_str().to_owned();
    if let (
        NameState::Kept | NameState::Partial | NameState::PartialUnverified,
        Some(Bytes(length @ 1..)),
    ) = (name.state, name.length)
    {
        let percent = u128::from(name.filled.0) * 100 / u128::from(length);
        state.push_str(&format!(" {} %", percent.min(99)));
    }
    if name.conflict {
        state.push_str(", conflict");
    }
    state
}

#[cfg(test)]
mod tests {
    use std::time::SystemTime;

    use super::*;
    use crate::control::LastError;

    fn status(name: &str, state: NameState) -> NameStatus {
        NameStatus {
            name: name.parse().expect("a name"),
            state,
            conflict: false,
            url: format!("https://example.org/{name}"),
            length: Some(Bytes(4 << 20)),
            filled: Bytes(1 << 20),
            present: Vec::new(),
            version: None,
            etag: None,
            digest: None,
            pins: 0,
            validated_at: None,
            last_error: None,
            owners: Vec::new(),
            aliases: Vec::new(),
            form: Form::File,
            tree: None,
        }
    }

    #[test]
    fn a_list_lines_up() {
        let mut jdk = status("jdk.tgz", NameState::Partial);
        jdk.pins = 2;
        jdk.validated_at = Some(SystemTime::now().into());
        let mut ruby = status("ruby", NameState::Absent);
        ruby.length = None;
        ruby.filled = Bytes(0);
        ruby.conflict = true;
        ruby.last_error = Some(LastError {
            name: ruby.name.clone(),
            kind: "status".to_owned(),
            message: "503\x07".to_owned(),
            at: SystemTime::now().into(),
        });
        assert_eq!(
            render(&[jdk, ruby]),
            "\
NAME     STATE                SIZE  PINS  CHECKED  URL
jdk.tgz  partial 25 %      4.0 MiB     2  0 s ago  https://example.org/jdk.tgz
ruby     absent, conflict        ?        never    https://example.org/ruby
  0 s ago: 503\\u{7}
2 names, 1.0 MiB on disk
"
        );
        assert!(render(&[]).starts_with("no names"));
    }

    #[test]
    fn a_directory_tells_what_is_known_of_it() {
        let mut tree = status("ruby", NameState::Ready);
        tree.form = Form::Directory;
        tree.version = Some("7".to_owned());
        let both = [tree.clone(), NameStatus { form: Form::File, ..tree.clone() }];
        assert!(render(&both).ends_with("2 names, 1.0 MiB on disk\n"), "{}", render(&both));
        tree.tree = Some(TreeStatus { unpacked: Bytes(3 << 20), ..TreeStatus::default() });
        assert!(render(&[tree.clone()]).contains("\nruby/ "), "{}", render(&[tree.clone()]));
        assert!(render(&[tree.clone()]).contains("\n  3.0 MiB unpacked\n"));
        tree.tree = Some(TreeStatus { indexed: true, members: Some(2), unpacked: Bytes(0) });
        assert!(render(&[tree]).contains("\n  2 members, nothing unpacked\n"));
    }
}
