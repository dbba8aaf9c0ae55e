//! What is secret appears in no output.

use std::os::unix::fs::PermissionsExt;
use std::time::Duration;

use crate::support::{Item, Mounted, Origin, needs, os, process, wait_until};

const CANARY: &str = "kanarienvogel";

#[test]
fn a_canary_in_url_headers_and_files_appears_in_no_output() {
    needs!("fuse");
    let origin = Origin::start();
    origin.put("/open", Item::made(1, 1000));
    let mut guarded = Item::made(2, 1000);
    guarded.require = Some(("Authorization".into(), format!("Bearer {CANARY}-file")));
    origin.put("/guarded", guarded);
    let mut denied = Item::made(3, 1000);
    denied.status = Some(403);
    origin.put("/denied", denied);
    let mut fails = Item::made(4, 1000);
    fails.status = Some(500);
    // Longer than an open would try again for, so that it fails at once.
    fails.headers.push(("Retry-After".into(), "3600".into()));
    origin.put("/fails", fails);
    let mut moved = Item::made(5, 1000);
    moved.redirect = Some(format!("{}?signature={CANARY}-redirect", origin.url("/open")));
    origin.put("/moved", moved);
    let addr = origin.addr();
    let text = format!(
        "[downloads.open]\nurl = \"http://{addr}/open?token={CANARY}-query\"\n\
         [downloads.guarded]\nurl = \"http://{addr}/guarded\"\n\
         headers = {{ Authorization = {{ file = \"token\" }} }}\n\
         [downloads.denied]\nurl = \"http://{addr}/denied?token={CANARY}-query\"\n\
         headers = {{ X-Tenant = \"{CANARY}-header\" }}\n\
         [downloads.fails]\nurl = \"http://{addr}/fails?token={CANARY}-query\"\n\
         [downloads.moved]\nurl = \"http://{addr}/moved\"\n\
         [downloads.nobody]\nurl = \"http://127.0.0.1:1/?token={CANARY}-query\"\n"
    );
    let setup = Mounted::with().catalog("test.toml", &text);
    let secrets = setup.dir().join("secrets");
    std::fs::create_dir(&secrets).expect("make the secrets directory");
    std::fs::write(secrets.join("token"), format!("Bearer {CANARY}-file\n")).expect("a secret");
    std::fs::set_permissions(&secrets, std::fs::Permissions::from_mode(0o700)).expect("chmod");
    let config = setup.dir().join("config.toml");
    std::fs::write(&config, format!("secrets_dir = \"{}\"\n", secrets.display())).expect("config");
    let mounted = setup
        .args(["--config", config.to_str().expect("a plain path")])
        .env("CACHED_DOWNLOADS_LOG", "trace")
        .start();

    let names = ["open", "guarded", "denied", "fails", "moved", "nobody"];
    for name in names {
        let expect = matches!(name, "open" | "guarded" | "moved");
        assert_eq!(std::fs::read(mounted.path(name)).is_ok(), expect, "{name}");
    }
    let sent = origin.seen();
    assert!(sent.iter().any(|seen| seen.path.contains("-query")), "the query is sent");
    assert!(
        sent.iter().any(|seen| seen.header("x-tenant") == Some(&format!("{CANARY}-header"))),
        "the header is sent"
    );

    let mut outputs = vec![("the log".to_owned(), mounted.log())];
    for args in
        [&["status"][..], &["status", "--json"], &["ls"], &["ls", "--json"], &["evict", "open"]]
    {
        let output = mounted.client(args);
        let text = [output.stdout, output.stderr].concat();
        outputs.push((args.join(" "), String::from_utf8_lossy(&text).into_owned()));
    }
    for name in names {
        for key in ["url", "state", "version", "etag", "digest", "error"] {
            let value = os::xattr(&mounted.path(name), &format!("user.cached_downloads.{key}"));
            outputs.push((format!("xattr {key} of {name}"), value.unwrap_or_default()));
        }
    }
    // What is wrong is said without what it holds.
    let wrong = [
        format!("[downloads.a]\nurl = \"ftp://{CANARY}@h/?{CANARY}\"\n"),
        format!("[downloads.a]\nurl = \"http://{CANARY}:{CANARY}@h/\"\n"),
        format!("[downloads.a]\nurl = \"http://h:port/?{CANARY}\"\nurll = \"{CANARY}\"\n"),
        format!("[downloads.a]\nurl = \"http://h/\"\nheaders = {{ X = \"{CANARY}\\u0001\" }}\n"),
    ];
    for (n, text) in wrong.iter().enumerate() {
        mounted.catalog(&format!("wrong{n}.toml"), text);
    }
    mounted.signal(libc::SIGHUP);
    wait_until("told of the last", Duration::from_secs(3), || mounted.log().contains("wrong3"));
    let catalog = |file: &str| mounted.catalog_path(file).to_str().expect("a path").to_owned();
    let config = config.to_str().expect("a plain path");
    let at = mounted.scratch().join("elsewhere");
    let at = at.to_str().expect("a plain path");
    for args in [
        &["catalog", "check", "--config", config, &catalog("test.toml")][..],
        &["catalog", "check", &catalog("wrong0.toml"), &catalog("wrong1.toml")],
        &["catalog", "check", &catalog("wrong2.toml"), &catalog("wrong3.toml")],
        &["config", "check", "--config", config],
        &["mount", at, "--download", &format!("a=ftp://{CANARY}@h/?{CANARY}")],
        &["mount", at, "--download", &format!("a=http://h/?{CANARY}")],
    ] {
        let said = process::run(env!("CARGO_BIN_EXE_cached-downloads"), args);
        let text = [said.stdout, said.stderr].concat();
        outputs.push((args[..2].join(" "), String::from_utf8_lossy(&text).into_owned()));
    }
    outputs.push(("the log, later".to_owned(), mounted.log()));
    let table = std::fs::read_to_string("/proc/self/mountinfo").expect("the table of mounts");
    outputs.push(("the table of mounts".to_owned(), table));
    for (what, text) in &outputs {
        if let Some(line) = text.lines().find(|line| line.contains(CANARY)) {
            panic!("{what} shows a secret: {line}");
        }
    }
    assert!(outputs[0].1.len() > 100, "the log says something at all");
}
