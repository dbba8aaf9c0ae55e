//! What one file may say, and what each mistake is answered with.

use std::path::Path;
use std::sync::Arc;
use std::time::{Duration, SystemTime};

use proptest::prelude::*;

use crate::catalog::{CatalogFile, Download, Owner, Rules, Secrets, check, parse};
use crate::source::{Fill, Form, Header, HeaderValue, Integrity, Revalidate, Source};

fn read_as(path: &str, text: &[u8], secrets: &Secrets) -> Result<CatalogFile, Vec<String>> {
    let owner = Owner::new(path);
    parse(owner, Path::new(path), text, SystemTime::UNIX_EPOCH, &secrets.clone().into())
        .map_err(|problems| problems.iter().map(ToString::to_string).collect())
}

fn toml(text: &str) -> Result<CatalogFile, Vec<String>> {
    read_as("c.toml", text.as_bytes(), &Secrets::None)
}

fn good(text: &str) -> CatalogFile {
    toml(text).unwrap()
}

/// Asserts that a text has one problem, which begins so.
fn bad(text: &str, expected: &str) {
    let problems = toml(text).expect_err(text);
    assert_eq!(problems.len(), 1, "{text}: {problems:#?}");
    assert!(problems[0].starts_with(expected), "{text}: {}", problems[0]);
}

const SHA256: &str = "BA7816BF8F01CFEA414140DE5DAE2223B00361A396177A9CB410FF61F20015AD";

const TOML: &str = r#"
[defaults]
integrity = "strict"
headers = { X-Tenant = "a", X-Other = "b" }
[downloads.ruby_buildpack]
url        = "https://blobstore.internal/ruby.zip?sig=1#part"
sha256     = "BA7816BF8F01CFEA414140DE5DAE2223B00361A396177A9CB410FF61F20015AD"
key        = "a5d1-9f86"
size       = 367001600
as         = "file"
aliases    = ["2b1f0f3c9a7d4e55"]
headers    = { x-tenant = "c" }
[downloads."jdk-17.tgz"]
url = "http://h/jdk"
fill = "on-read"
integrity = "eventual"
revalidate = "5m"
allow_close_delimited = true
stale_if_error = "0"
"#;

const JSON: &str = r#"{
 "defaults": { "integrity": "strict", "headers": { "X-Tenant": "a", "X-Other": "b" } },
 "downloads": {
  "ruby_buildpack": {
   "url": "https://blobstore.internal/ruby.zip?sig=1#part",
   "sha256": "BA7816BF8F01CFEA414140DE5DAE2223B00361A396177A9CB410FF61F20015AD",
   "key": "a5d1-9f86", "size": 367001600, "as": "file",
   "aliases": ["2b1f0f3c9a7d4e55"], "headers": { "x-tenant": "c" }
  },
  "jdk-17.tgz": { "url": "http://h/jdk", "fill": "on-read", "integrity": "eventual", "revalidate": "5m",
   "allow_close_delimited": true, "stale_if_error": "0" }
 }
}"#;

#[test]
fn every_key_in_both_languages() {
    let file = good(TOML);
    let ruby = &file.bindings["ruby_buildpack"];
    assert_eq!(ruby.url.as_str(), "https://blobstore.internal/ruby.zip?sig=1");
    let digest = format!("sha256:{}", SHA256.to_lowercase());
    assert_eq!(ruby.digest.as_ref().unwrap().to_string(), digest);
    assert_eq!(ruby.key.as_deref(), Some("a5d1-9f86"));
    assert_eq!((ruby.size, ruby.form), (Some(367_001_600), Form::File));
    assert_eq!(ruby.revalidate, Revalidate::Never, "the default with a digest");
    assert_eq!(ruby.aliases[0].as_str(), "2b1f0f3c9a7d4e55");
    let header = |name: &str, value: &str| Header {
        name: name.to_owned(),
        value: HeaderValue::Literal(value.to_owned()),
    };
    assert_eq!(ruby.headers, [header("x-other", "b"), header("x-tenant", "c")]);
    let jdk = &file.bindings["jdk-17.tgz"];
    assert_eq!(jdk.integrity, Integrity::Eventual);
    assert_eq!(jdk.revalidate, Revalidate::After(Duration::from_secs(300)));
    assert_eq!((ruby.fill, jdk.fill), (Fill::All, Fill::OnRead));
    assert!(jdk.allow_close_delimited);
    assert_eq!(jdk.stale_if_error, Duration::ZERO);
    let json = read_as("c.toml.json", JSON.as_bytes(), &Secrets::None).unwrap();
    assert_eq!(json.bindings, file.bindings);
}

#[test]
fn a_url_alone_has_every_default() {
    let file = good("[downloads.a]\nurl = 'http://h/a'");
    let plain = Source::new("http://h/a".parse().unwrap());
    assert_eq!(file.bindings["a"], Arc::new(plain));
    assert!(good("[downloads]").bindings.is_empty());
}

#[test]
fn the_policy_for_one_download_wins_over_the_default() {
    let text = "[defaults]\nrevalidate = 'http'\nfill = 'on-read'\n[downloads.a]\nurl = 'http://h/a'\n[downloads.b]\nurl = 'http://h/b'\nrevalidate = 'always'\nfill = 'all'";
    let bindings = good(text).bindings;
    let policies = |name: &str| (bindings[name].revalidate, bindings[name].fill);
    assert_eq!(policies("a"), (Revalidate::Http, Fill::OnRead));
    assert_eq!(policies("b"), (Revalidate::Always, Fill::All));
}

#[test]
fn unknown_keys_have_a_line_and_the_nearest() {
    bad(
        "[downloads.a]\nurl = 'http://h/'\nsha265 = 'x'",
        "c.toml:3: unknown key `sha265` in [downloads.a]; did you mean `sha256`?",
    );
    bad(
        "[downloads.\"a.b\"]\nurl = 'http://h/'\nalias = []",
        "c.toml:3: unknown key `alias` in [downloads.\"a.b\"]; did you mean `aliases`?",
    );
    bad(
        "[defaults]\nintegrty = 'strict'\n[downloads]",
        "c.toml:2: unknown key `integrty` in [defaults]; did you mean `integrity`?",
    );
    bad(
        "[download.a]\nurl = 'http://h/'\n[downloads]",
        "c.toml:1: unknown key `download` in a catalog; did you mean `downloads`?",
    );
    let json = b"{\n\"downloads\": {\n\"a\": {\"url\": \"http://h/\",\n\"siez\": 1}}}";
    let problems = read_as("c.json", json, &Secrets::None).unwrap_err();
    assert_eq!(problems, ["c.json:4: unknown key `siez` in [downloads.a]; did you mean `size`?"]);
}

#[test]
fn a_name_with_dots_must_be_quoted() {
    let quote = |n: usize, name: &str| {
        format!("c.toml:{n}: the name `{name}` has dots and must be quoted: [downloads.\"{name}\"]")
    };
    bad("[downloads.jdk-17.tgz]\nurl = 'http://h/'", &quote(1, "jdk-17.tgz"));
    bad("\n[downloads.ruby-3.3.tar.gz]\nurl = 'http://h/'", &quote(2, "ruby-3.3.tar.gz"));
    bad("downloads.a.tgz.url = 'http://h/'", &quote(1, "a.tgz"));
    let both = toml("[downloads.a.tgz]\nurl = 'http://h/'\n[downloads.a.zip]\nurl = 'http://h/'");
    assert_eq!(both.unwrap_err(), [quote(1, "a.tgz"), quote(3, "a.zip")]);
    // A table that belongs to the download is none of these.
    good("[downloads.a]\nurl = 'http://h/'\n[downloads.a.headers]\nX-A = 'b'");
}

#[test]
fn mistakes() {
    let item = |line: &str| format!("[downloads.a]\nurl = 'http://h/'\n{line}");
    for (line, expected) in [
        ("sha256 = 'ab'", "`sha256` is wrong: `ab` is not a sha256 digest; 64 hexadecimal"),
        ("size = '1 elephant'", "`size` has a bad size: `1 elephant` is not a size"),
        ("size = -1", "`size` must be a whole number from 0"),
        ("size = 1.5", "`size` must be a size, for example \"10GB\", not a float"),
        ("as = 'tree'", "`as` must be \"file\" or \"directory\""),
        ("integrity = 'lax'", "`integrity` must be \"strict\" or \"eventual\""),
        ("revalidate = 'sometimes'", "`revalidate` has a bad duration: `sometimes` is not"),
        ("revalidate = 10", "`revalidate` has a bad duration: `10` has no unit"),
        ("fill = true", "`fill` must be a string, not a boolean"),
        ("fill = 'some'", "`fill` must be \"all\" or \"on-read\""),
        ("buildpack_key = ''", "`buildpack_key` is empty"),
        ("buildpack_key = 1", "`buildpack_key` must be a string, not an integer"),
        ("aliases = 'x'", "`aliases` must be an array of strings, not a string"),
        ("aliases = ['a/b']", "`aliases` is wrong: the name `a/b` has a `/`"),
        ("key = ''", "`key` is empty"),
        ("allow_close_delimited = 1", "`allow_close_delimited` must be true or false"),
        ("headers = { 'A B' = 'x' }", "the header `A...` is not a header name"),
        ("headers = { 'A: canary' = 'x' }", "the header `A...` is not a header name"),
        ("headers = { 'Aé: canary' = 'x' }", "the header `...` is not a header name"),
        ("headers = { 'canary/canary' = 'x' }", "the header `...` is not a header name"),
        ("headers = { Range = 'x' }", "the header `Range` is set by this program; remove it"),
        ("headers = { A = 1 }", "the header `A` must be a string or { file"),
        ("headers = { A = \"x\\ny\" }", "the header `A` has a line break"),
        ("headers = { A = { fiel = 'x' } }", "the header `A` must be a string, or { file"),
        ("headers = { A = { file = 'x' } }", "the header `A` names a file, but no secrets"),
        ("headers = { A = '1', a = '2' }", "the header `a` is given twice"),
    ] {
        bad(&item(line), &format!("c.toml:3: {expected}"));
    }
    for (text, expected) in [
        ("", "c.toml:1: has no [downloads]"),
        ("[downloads", "c.toml:1: is not TOML: "),
        ("downloads = 1", "c.toml:1: `downloads` must be a table, not an integer"),
        (
            "[downloads]\na = 'http://h/'",
            "c.toml:2: [downloads.a] must be a table with a `url`, not a string",
        ),
        ("[downloads.a]\nsize = 1", "c.toml:1: [downloads.a] has no `url`"),
        ("[downloads.'.a']\nurl = 'http://h/'", "c.toml:1: the name `.a` begins with a dot"),
        ("[downloads.'a/b']\nurl = 'http://h/'", "c.toml:1: the name `a/b` has a `/`"),
        ("[downloads.a]\nurl = 1", "c.toml:2: `url` must be a string, not an integer"),
        ("[downloads]\n[defaults]\nurl = 'http://h/'", "c.toml:3: `url` belongs to one download"),
        (
            "[downloads]\n[defaults]\nbuildpack_key = 'k'",
            "c.toml:3: `buildpack_key` belongs to one",
        ),
        (
            "[downloads.a]\nurl='http://h/'\nbuildpack_key='abc'\n[downloads.44bc2cf5ad770999]\nurl='http://h/'",
            "c.toml:1: the alias `44bc2cf5ad770999` of `a` is also the name of a download",
        ),
        (
            "[downloads.a]\nurl='http://h/'\nmd5='900150983cd24fb0d6963f7d28e17f72'\nsha1='a9993e364706816aba3e25717850c26c9cd0d89d'",
            "c.toml:4: [downloads.a] has more than one digest",
        ),
        (
            "[downloads.a]\nurl='http://h/'\naliases=['b']\n[downloads.b]\nurl='http://h/'",
            "c.toml:1: the alias `b` of `a` is also the name of a download",
        ),
        (
            "[downloads.a]\nurl='http://h/'\naliases=['c']\n[downloads.b]\nurl='http://h/'\naliases=['c']",
            "c.toml:4: the alias `c` of `b` is also an alias of `a`",
        ),
    ] {
        bad(text, expected);
    }
    let problems = read_as("c.toml", b"a = 1\n\xff", &Secrets::None).unwrap_err();
    assert_eq!(problems, ["c.toml:2: is not UTF-8 text"]);
    assert_eq!(toml("a = 1\nb = 1\n[downloads]").unwrap_err().len(), 2, "all at once");
}

#[test]
fn urls() {
    for (url, expected) in [
        ("ruby.zip", "`url` `ruby.zip` is not a URL"),
        ("ftp://h/x", "`url` `ftp://...` is neither http nor https"),
        ("file:///etc/passwd", "`url` `file://...` is neither http nor https"),
        ("http://", "`url` `http://` is not a URL"),
        (
            "http://canary:canary@h/x?canary",
            "`url` `http://...` has credentials in it; give them as `headers`",
        ),
        ("http://canary@h:port/x?canary", "`url` `http://...` is not a URL"),
        (
            "http://user:canary#canary@h/x",
            "`url` `http://...` is not a URL (invalid port number); \
             write http://HOST/PATH or https://HOST/PATH, and credentials as `headers`",
        ),
        ("user:canary#canary@h/x", "`url` `...` is neither http nor https"),
    ] {
        bad(&format!("[downloads.a]\nurl = '{url}'"), &format!("c.toml:2: {expected}"));
        let problems = toml(&format!("[downloads.a]\nurl = '{url}'")).unwrap_err();
        assert!(!problems[0].contains("canary"), "{}", problems[0]);
    }
}

#[test]
fn no_problem_repeats_a_secret() {
    for text in [
        "[downloads.a]\nurl = 'http://h/?canary'\nheaders = { A = 'canary' }\nfil = 1",
        "[downloads.a]\nurl = 'http://h/?canary'\nheaders = { A = \"canary\\u0001\" }",
        "[downloads.a]\nurl = 'http://h/?canary'\nheaders = { A = ['canary'] }",
        "[downloads.a]\nurl = 'http://h/?canary'\nheaders = { A = 'canary",
        "[downloads.a]\nurl = 'http://h/?canary' 'canary'",
        "[downloads.a]\nurl = ['http://h/?canary']",
        "[downloads.a]\nurl = 'http://u:canary#canary@h/'",
        "[downloads.a]\nurl = 'http://h/'\nheaders = { 'A B: canary' = 'canary' }",
        "[downloads.a]\nurl = 'http://h/'\naliases = ['http://u:canary@h/?canary']",
        "[downloads.'http://u:canary@h/?canary']\nurl = 'http://h/'",
        "[downloads.a]\nurl = 'http://h/'\nkey = ['canary']",
    ] {
        let problems = toml(text).unwrap_err();
        assert!(!problems.join(" ").contains("canary"), "{problems:?}");
        let json = text.replace('\n', " ");
        let problems = read_as("c.json", json.as_bytes(), &Secrets::None).unwrap_err();
        assert!(!problems.join(" ").contains("canary"), "{problems:?}");
    }
}

#[test]
fn a_buildpack_is_found_under_both_hashes_of_its_key() {
    let item = "[downloads.a]\nurl='http://h/'\nbuildpack_key='abc'";
    let aliases = |text: &str| {
        let bindings = good(text).bindings;
        bindings["a"].aliases.iter().map(|alias| alias.as_str().to_owned()).collect::<Vec<_>>()
    };
    let both = ["44bc2cf5ad770999", "900150983cd24fb0d6963f7d28e17f72"];
    assert_eq!(aliases(item), both);
    let more = format!("{item}\naliases = ['44bc2cf5ad770999', 'z', 'b']");
    assert_eq!(aliases(&more), [both[0], both[1], "b", "z"]);
    let twice = format!("{item}\n{}", item.replace("[downloads.a]", "[downloads.b]"));
    let clashes =
        both.map(|alias| format!("c.toml:4: the alias `{alias}` of `b` is also an alias of `a`"));
    assert_eq!(toml(&twice).unwrap_err(), clashes);
}

#[test]
fn a_directory_is_filled_as_it_is_read_unless_something_else_is_said() {
    let text = "[downloads.a]\nurl='http://h/'\n[downloads.b]\nurl='http://h/'\nas='directory'\n\
        [downloads.c]\nurl='http://h/'\nas='directory'\nfill='all'";
    let told = |text: &str| {
        let bindings = good(text).bindings;
        ["a", "b", "c"].map(|name| (bindings[name].form, bindings[name].fill))
    };
    use Form::{Directory, File};
    let (all, read) = (Fill::All, Fill::OnRead);
    assert_eq!(told(text), [(File, all), (Directory, read), (Directory, all)]);
    let text = format!("[defaults]\nas='directory'\n{text}");
    assert_eq!(told(&text), [(Directory, read), (Directory, read), (Directory, all)]);
    let text = text.replacen("as='directory'", "fill='all'", 1);
    assert_eq!(told(&text), [(File, all), (Directory, all), (Directory, all)]);
}

#[test]
fn header_files_lie_in_the_secrets_directory() {
    let dir = tempfile::tempdir().unwrap();
    let secrets = dir.path().join("secrets");
    std::fs::create_dir_all(secrets.join("sub")).unwrap();
    std::fs::write(secrets.join("token"), "t").unwrap();
    std::fs::write(dir.path().join("outside"), "o").unwrap();
    std::os::unix::fs::symlink("../outside", secrets.join("escape")).unwrap();
    std::os::unix::fs::symlink("token", secrets.join("rotated")).unwrap();
    let read = |file: &str| {
        let text =
            format!("[downloads.a]\nurl='http://h/'\nheaders = {{ A = {{ file = '{file}' }} }}");
        let parsed = read_as("c.toml", text.as_bytes(), &Secrets::Dir(secrets.clone()));
        parsed.map(|p| p.bindings["a"].headers[0].value.clone())
    };
    let file = |name: &str| Ok(HeaderValue::File(secrets.join(name)));
    assert_eq!(read("token"), file("token"));
    assert_eq!(read("rotated"), file("rotated"));
    assert_eq!(read(secrets.join("token").to_str().unwrap()), file("token"));
    for outside in ["../outside", "sub/../../outside", "escape", "/etc/passwd"] {
        let problem = read(outside).unwrap_err().remove(0);
        assert!(problem.contains("is outside the secrets directory"), "{problem}");
    }
    assert!(read("lost").unwrap_err()[0].contains("cannot be read: No such file"));
    assert!(read("sub").unwrap_err()[0].contains("is not a file"));
}

#[test]
fn downloads_of_the_command_line() {
    let download: Download = "jdk.tgz=https://h/p?a=b".parse().unwrap();
    assert_eq!(download.name.as_str(), "jdk.tgz");
    assert_eq!(download.source.url.as_str(), "https://h/p?a=b");
    for (text, expected) in [
        ("jdk", "NAME=URL is expected"),
        ("=http://h/", "a name is empty"),
        (".a=http://h/", "the name `.a` begins with a dot"),
        ("a=h", "the URL `h` is not a URL"),
        ("ruby:3=ssh://h", "the URL `ssh://...` is neither http nor https"),
        ("a=ssh://h", "the URL `ssh://...` is neither http nor https"),
    ] {
        let error = text.parse::<Download>().unwrap_err();
        assert!(error.starts_with(expected), "{error}");
    }
    let colon: Download = "ruby:3=http://h/".parse().unwrap();
    assert_eq!(colon.name.as_str(), "ruby:3");
}

#[test]
fn a_forgotten_name_is_told_without_the_url() {
    for text in [
        "http://u:canary@h/plain?token=canary",
        "http://u:canary@h/plain?token=http://canary/y",
        "https://h?sig=canary",
        "//u:canary@h/?a=canary",
        "u:canary@h?token=canary",
        "http:canary?token=canary",
        "h?token=canary",
        "http://h/canary",
    ] {
        let error = text.parse::<Download>().unwrap_err();
        assert!(error.contains("NAME=URL") && !error.contains("canary"), "{error}");
    }
}

#[test]
fn checking_shows_everything() {
    let dir = tempfile::tempdir().unwrap();
    let write = |name: &str, text: &str| {
        let path = dir.path().join(name);
        std::fs::write(&path, text).unwrap();
        path
    };
    let a =
        write("a.toml", "[downloads.x]\nurl='http://a/x?canary'\nheaders = { A = { file = 't' } }");
    let b = write("b.json", "{\"downloads\":{\"x\":{\"url\":\"http://b/x?canary\"}}}");
    let c = write("c.toml", "[downloads.y]\nurl='h'");
    let fine = check(std::slice::from_ref(&a), &Secrets::Unchecked.into());
    assert!(fine.fine, "{}", fine.text);
    assert_eq!(fine.text, "1 file, 1 name, 0 aliases, 0 problems, 0 conflicts\n");
    assert!(
        !check(std::slice::from_ref(&a), &Secrets::None.into()).fine,
        "no directory to have it"
    );
    let report = check(&[a, b, c, dir.path().join("lost.toml")], &Secrets::Unchecked.into());
    assert!(!report.fine);
    let dir = dir.path().display();
    let expected = format!(
        "{dir}/c.toml:2: `url` `h` is not a URL (relative URL without a base); write http://HOST/PATH or https://HOST/PATH\n\
         {dir}/lost.toml: cannot be read: No such file or directory (os error 2)\n\
         conflict: `x`: {dir}/a.toml declares http://a/x, {dir}/b.json declares http://b/x; the one in force stays until they agree\n\
         4 files, 1 name, 0 aliases, 2 problems, 1 conflict\n"
    );
    assert_eq!(report.text, expected);
}

#[test]
fn checking_a_directory_checks_the_catalogs_in_it() {
    let dir = tempfile::tempdir().unwrap();
    let write = |name: &str, text: &str| std::fs::write(dir.path().join(name), text).unwrap();
    write("a.toml", "[downloads.x]\nurl='http://a/x'");
    write("b.json", "{\"downloads\":{\"y\":{\"url\":\"http://b/x\"}}}");
    write("notes.txt", "no catalog");
    write(".c.toml", "hidden");
    // A file that is given beside its directory counts once.
    let paths = [dir.path().to_owned(), dir.path().join("a.toml")];
    let report = check(&paths, &Secrets::Unchecked.into());
    assert_eq!(report.text, "2 files, 2 names, 0 aliases, 0 problems, 0 conflicts\n");
    assert!(report.fine);
    write("c.toml", "[downloads.z]\nurl='h'");
    let report = check(&paths, &Secrets::Unchecked.into());
    assert!(!report.fine && report.text.contains("c.toml:2: `url` `h`"), "{}", report.text);
}

#[test]
fn deep_nesting_does_not_overflow_the_stack() {
    let deep = |open: &str, close: &str| open.repeat(100_000) + "1" + &close.repeat(100_000);
    for (path, text) in [
        ("c.toml", format!("a = {}", deep("[", "]"))),
        ("c.toml", format!("a = {}", deep("{a=", "}"))),
        ("c.toml", format!("[{}a]", "a.".repeat(100_000))),
        ("c.json", format!("{{\"a\":{}}}", deep("[", "]"))),
        ("c.json", deep("{\"a\":", "}")),
    ] {
        assert!(read_as(path, text.as_bytes(), &Secrets::None).is_err());
    }
}

#[test]
fn ten_thousand_names() {
    let text: String = (0..10_000)
        .map(|i| format!("[downloads.name-{i}]\nurl = 'https://host/path/{i}?sig=0123456789'\n"))
        .collect();
    let started = std::time::Instant::now();
    assert_eq!(good(&format!("[downloads]\n{text}")).bindings.len(), 10_000);
    // Generous: a debug build on a busy machine. It catches what is not linear.
    assert!(started.elapsed() < Duration::from_secs(10), "{:?}", started.elapsed());
}

proptest! {
    #[test]
    fn bytes_never_panic(bytes in prop::collection::vec(any::<u8>(), 0..300)) {
        let _ = read_as("c.toml", &bytes, &Secrets::None);
        let _ = read_as("c.json", &bytes, &Secrets::None);
    }

    #[test]
    fn damage_never_panics(at in 0..JSON.len(), length in 0..4usize, with in "[\\[\\]{}\"'=.,a0\u{0}\n]{0,4}") {
        for (path, text) in [("c.toml", TOML), ("c.json", JSON)] {
            let mut text = text.to_owned();
            let at = at.min(text.len());
            let end = (at + length).min(text.len());
            text.replace_range(at..end, &with);
            let _ = read_as(path, text.as_bytes(), &Secrets::None);
        }
    }
}

#[test]
fn where_there_are_directories_only_a_name_is_one_and_nothing_may_say_file() {
    let rules = Rules { secrets: Secrets::None, directories_only: true };
    let read = |text: &str| {
        let owner = Owner::new("c.toml");
        let path = Path::new("c.toml");
        parse(owner, path, text.as_bytes(), SystemTime::UNIX_EPOCH, &rules)
    };
    let file =
        read("[downloads]\na.url = 'http://h/a'\nb = { url = 'http://h/b', as = 'directory' }");
    let file = file.unwrap();
    for source in file.bindings.values() {
        assert_eq!((source.form, source.fill), (Form::Directory, Fill::OnRead));
    }
    for text in [
        "[downloads]\na = { url = 'http://h/a', as = 'file' }",
        "[defaults]\nas = 'file'\n[downloads]\na.url = 'http://h/a'",
    ] {
        let problems = read(text).unwrap_err();
        assert_eq!(problems.len(), 1);
        let problem = problems[0].to_string();
        assert!(problem.contains("must be \"directory\""), "{problem}");
    }
}
