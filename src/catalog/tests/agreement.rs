//! The rule of agreement: its table of cases, and a model of it.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::{Duration, SystemTime};

use proptest::prelude::*;

use crate::catalog::{Binding, Bindings, CatalogFile, Opinion, Owner, agree};
use crate::source::Source;
use crate::types::Name;

type Opinions = BTreeMap<Owner, Opinion>;
type Said = Vec<(Owner, Opinion)>;

fn name(text: &str) -> Name {
    text.parse().unwrap()
}

fn at(seconds: u64) -> SystemTime {
    SystemTime::UNIX_EPOCH + Duration::from_secs(seconds)
}

/// Builds sources from words: `x` is http://x/, `x@k` is http://x/ with the key `k`.
fn source(word: &str, aliases: &[&str]) -> Arc<Source> {
    let (host, key) = word.split_once('@').map_or((word, None), |(h, k)| (h, Some(k)));
    Arc::new(Source {
        key: key.map(str::to_owned),
        aliases: aliases.iter().map(|a| name(a)).collect(),
        ..Source::new(format!("http://{host}/").parse().unwrap())
    })
}

fn file(owner: &str, seconds: u64, binds: &[(&str, &str)]) -> Arc<CatalogFile> {
    Arc::new(CatalogFile {
        owner: Owner::new(owner),
        bindings: binds.iter().map(|(n, s)| (name(n), source(s, &[]))).collect(),
        declared_at: at(seconds),
    })
}

fn says(owner: &str, binds: &[(&str, &str)]) -> (Owner, Opinion) {
    (Owner::new(owner), Opinion::Says(file(owner, 0, binds)))
}

fn silent(owner: &str, last: Option<&[(&str, &str)]>) -> (Owner, Opinion) {
    let last = last.map(|binds| file(owner, 0, binds));
    (Owner::new(owner), Opinion::Silent(last))
}

/// Shows a state as text: `n=host(owners)` and, in conflict, `!host(owner)` for each claim.
fn show(bindings: &Bindings) -> String {
    let host = |s: &Source| s.url.host_str().unwrap_or_default().to_owned();
    let one = |(name, binding): (&Name, &Binding)| {
        let owners: Vec<_> = binding.owners.iter().map(Owner::as_str).collect();
        let mut text = format!("{name}={}({})", host(&binding.source), owners.join(","));
        for claim in binding.conflict.iter().flat_map(|c| &c.claims) {
            text += &format!("!{}({})", host(&claim.source), claim.owner);
        }
        text
    };
    bindings.names().map(one).collect::<Vec<_>>().join(" ")
}

#[test]
fn table() {
    // Each line goes on from the state the line above left.
    let x: &[(&str, &str)] = &[("n", "x")];
    let y: &[(&str, &str)] = &[("n", "y")];
    let z: &[(&str, &str)] = &[("n", "z")];
    let none: &[(&str, &str)] = &[];
    let cases: Vec<(&str, Said, &str)> = vec![
        ("nobody", vec![], ""),
        ("one owner", vec![says("a", x)], "n=x(a)"),
        ("two agree", vec![says("a", x), says("b", x)], "n=x(a,b)"),
        ("the first departs", vec![says("a", y), says("b", x)], "n=x(b)!y(a)"),
        ("the other departs too", vec![says("a", y), says("b", z)], "n=x()!y(a)!z(b)"),
        ("still nobody wants it", vec![says("a", y), says("b", z)], "n=x()!y(a)!z(b)"),
        ("they agree again", vec![says("a", y), says("b", y)], "n=y(a,b)"),
        ("one is unreadable", vec![says("a", y), silent("b", Some(y))], "n=y(a,b)"),
        ("and the other departs", vec![says("a", x), silent("b", Some(y))], "n=y(b)!x(a)"),
        ("both are unreadable", vec![silent("a", Some(x)), silent("b", Some(y))], "n=y(b)!x(a)"),
        ("the holder lacks the name", vec![says("a", x), says("b", none)], "n=x(a)"),
        ("a third owner, first by name", vec![says("A", z), says("a", x)], "n=x(a)!z(A)"),
        ("the holder is deleted", vec![says("A", z)], "n=z(A)"),
        ("its only owner is unreadable", vec![silent("A", Some(z))], "n=z(A)"),
        ("a catalog that was never read", vec![says("A", none), silent("new", None)], "n=z()"),
        ("it is read", vec![says("A", none), says("new", none)], ""),
        ("a conflict with nothing in force", vec![says("b", y), says("a", x)], "n=x(a)!y(b)"),
        ("every owner lacks it", vec![says("a", none), says("b", none)], ""),
    ];
    let mut state = Bindings::default();
    for (what, opinions, expected) in cases {
        let opinions: Opinions = opinions.into_iter().collect();
        (state, _) = agree(&state, &opinions);
        assert_eq!(show(&state), expected, "{what}");
        let never_read = opinions.values().any(|o| o.file().is_none());
        assert_eq!(state.may_prune(), !never_read, "{what}");
        let (again, _) = agree(&state, &opinions);
        assert_eq!(again, state, "{what}: saying it again changes nothing");
    }
}

#[test]
fn of_the_same_source_the_latest_change_decides() {
    let opinions = |a: u64, b: u64| -> Opinions {
        [file("a", a, &[("n", "x@k")]), file("b", b, &[("n", "y@k")])]
            .map(|f| (f.owner.clone(), Opinion::Says(f)))
            .into()
    };
    let (first, _) = agree(&Bindings::default(), &opinions(2, 1));
    assert_eq!(show(&first), "n=x(a,b)");
    let (second, _) = agree(&first, &opinions(2, 3));
    assert_eq!(show(&second), "n=y(a,b)");
    assert_eq!(second.get("n").unwrap().declared_at, at(3));
    assert_eq!(second.since(&first).changed, [name("n")]);
    let (touched, _) = agree(&second, &opinions(2, 4));
    assert!(second.since(&touched).changed.is_empty());
    let same = |b: &Bindings| b.get("n").unwrap().source.clone();
    assert!(Arc::ptr_eq(&same(&touched), &same(&second)));
}

#[test]
fn aliases_across_catalogs() {
    let with = |owner: &str, binds: &[(&str, &[&str])]| {
        let bindings = binds.iter().map(|(n, aliases)| (name(n), source("x", aliases)));
        let file = CatalogFile {
            owner: Owner::new(owner),
            bindings: bindings.collect(),
            declared_at: at(0),
        };
        (Owner::new(owner), Opinion::Says(Arc::new(file)))
    };
    let shown =
        |b: &Bindings| -> Vec<String> { b.aliases().map(|(a, t)| format!("{a}>{t}")).collect() };
    // Owners of one name may each want aliases of it.
    let opinions: Opinions = [with("a", &[("n", &["p"])]), with("b", &[("n", &["q"])])].into();
    let (first, problems) = agree(&Bindings::default(), &opinions);
    assert_eq!((shown(&first), problems.len()), (vec!["p>n".to_owned(), "q>n".to_owned()], 0));
    // An alias stays with the name that has it; a name goes before an alias.
    let opinions: Opinions =
        [with("a", &[("n", &["p", "q"])]), with("b", &[("m", &["p"]), ("q", &[])])].into();
    let (second, problems) = agree(&first, &opinions);
    assert_eq!(shown(&second), ["p>n"]);
    let problems: Vec<_> = problems.iter().map(ToString::to_string).collect();
    assert_eq!(
        problems,
        [
            "b: the alias `p` of `m` is left out: it stands for `n`",
            "a: the alias `q` of `n` is left out: another catalog has that name",
        ]
    );
    let diff = second.since(&first);
    assert_eq!((diff.added, diff.aliases), (vec![name("m"), name("q")], vec![name("q")]));
    let opinions: Opinions = [with("b", &[("m", &["p"])])].into();
    let (third, _) = agree(&second, &opinions);
    assert_eq!(shown(&third), ["p>m"]);
    assert_eq!(third.since(&second).aliases, [name("p")]);
    assert_eq!(third.alias("p"), Some(&name("m")));
    assert_eq!(third.since(&second).removed, [name("n"), name("q")]);
}

/// The rule for one name, written down a second time: what each owner declares (`None`: lacks it).
fn model(previous: Option<u8>, declared: &[Option<u8>], blind: bool) -> (Option<u8>, bool) {
    let mut said = declared.iter().flatten();
    let Some(first) = said.next() else {
        return (previous.filter(|_| blind), false);
    };
    if said.all(|other| other == first) {
        (Some(*first), false)
    } else {
        (previous.or(Some(*first)), true)
    }
}

#[derive(Clone, Debug)]
enum Step {
    /// The owner's file now binds the name so.
    Write(Option<u8>),
    /// The owner's file cannot be read.
    Break,
    /// The owner's file is gone.
    Delete,
}

fn step() -> impl Strategy<Value = (usize, Step)> {
    let step = prop_oneof![
        4 => prop::option::weighted(0.8, 0..3u8).prop_map(Step::Write),
        2 => Just(Step::Break),
        1 => Just(Step::Delete),
    ];
    (0..3usize, step)
}

proptest! {
    #[test]
    fn follows_the_model(steps in prop::collection::vec(step(), 1..40)) {
        // Per owner: `None` withdrawn; `Some(None)` never read; `Some(Some(d))` declares d, now or last.
        let mut owners: [Option<Option<Option<u8>>>; 3] = [None; 3];
        let mut expected = None;
        let mut state = Bindings::default();
        for (who, step) in steps {
            owners[who] = match step {
                Step::Write(declared) => Some(Some(declared)),
                Step::Break => Some(owners[who].flatten()),
                Step::Delete => None,
            };
            let mut opinions = Opinions::new();
            for (i, owner) in owners.iter().enumerate() {
                let Some(said) = owner else { continue };
                let label = ["a", "b", "c"][i];
                let last = said.map(|d| {
                    let word = d.map(|d| ["x", "y", "z"][usize::from(d)]);
                    let binds: Vec<_> = word.iter().map(|w| ("n", *w)).collect();
                    file(label, 0, &binds)
                });
                let opinion = match (&step, last) {
                    (Step::Write(_) | Step::Delete, Some(file)) => Opinion::Says(file),
                    (_, last) => Opinion::Silent(last),
                };
                opinions.insert(Owner::new(label), opinion);
            }
            let blind = owners.contains(&Some(None));
            let declared: Vec<_> = owners.iter().map(|o| o.flatten().flatten()).collect();
            let conflict;
            (expected, conflict) = model(expected, &declared, blind);
            (state, _) = agree(&state, &opinions);
            let binding = state.get("n");
            let host = binding.map(|b| b.source.url.host_str().unwrap().to_owned());
            prop_assert_eq!(host.as_deref(), expected.map(|d| ["x", "y", "z"][usize::from(d)]));
            prop_assert_eq!(binding.is_some_and(|b| b.conflict.is_some()), conflict);
            if let Some(binding) = binding {
                let differing = binding.conflict.iter().map(|c| c.claims.len()).sum::<usize>();
                prop_assert_eq!(binding.owners.len() + differing, declared.iter().flatten().count());
            }
        }
    }
}
