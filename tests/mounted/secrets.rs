//! What is secret appears in no output.

use std::os::unix::fs::PermissionsExt;
use std::time::Duration;

use crate::support::{Item, Mounted, Origin, needs, outputs, process, wait_until};

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
         [downloads.guarded]\nurl = \"http://{addr}/guarded\"\nkey = \"{CANARY}-key\"\n\
         headers = {{ Authorization = {{ file = \"token\" }} }}\n\
         [downloads.denied]\nurl = \"http://{addr}/denied?token={CANARY}-query\"\n\
         headers = {{ X-Tenant = \"{CANARY}-header\" }}\n\
         [downloads.fails]\nurl = \"http://{addr}/fails?token={CANARY}-query\"\n\
         [downloads.moved]\nurl = \"http://{addr}/moved\"\n\
         [downloads.nobody]\nurl = \"http://127.0.0.1:1/?token={CANARY}-query\"\n\
         [downloads.proxied]\nurl = \"http://127.0.0.2:1/?token={CANARY}-query\"\n\
         [downloads.fileless]\nurl = \"http://{addr}/open\"\n\
         headers = {{ Authorization = {{ file = \"gone\" }} }}\n"
    );
    let setup = Mounted::with().catalog("test.toml", &text);
    let secrets = setup.dir().join("secrets");
    std::fs::create_dir(&secrets).expect("make the secrets directory");
    std::fs::write(secrets.join("token"), format!("Bearer {CANARY}-file\n")).expect("a secret");
    std::fs::write(secrets.join("gone"), format!("{CANARY}\n{CANARY}\n")).expect("two lines");
    std::fs::set_permissions(&secrets, std::fs::Permissions::from_mode(0o700)).expect("chmod");
    let config = setup.dir().join("config.toml");
    let text = format!(
        "secrets_dir = \"{}\"\n\
         [origins.\"127.0.0.2:1\"]\nproxy = \"http://u:{CANARY}-proxy@127.0.0.1:1\"\n",
        secrets.display()
    );
    std::fs::write(&config, text).expect("config");
    let mounted = setup
        .args(["--config", config.to_str().expect("a plain path")])
        .env("CACHED_DOWNLOADS_LOG", "trace")
        .start();

    let names = ["open", "guarded", "denied", "fails", "moved", "nobody", "proxied", "fileless"];
    std::thread::scope(|scope| {
        for name in names {
            let mounted = &mounted;
            scope.spawn(move || {
                let expect = matches!(name, "open" | "guarded" | "moved");
                assert_eq!(std::fs::read(mounted.path(name)).is_ok(), expect, "{name}");
            });
        }
    });
    let sent = origin.seen();
    assert!(sent.iter().any(|seen| seen.path.contains("-query")), "the query is sent");
    assert!(
        sent.iter().any(|seen| seen.header("x-tenant") == Some(&format!("{CANARY}-header"))),
        "the header is sent"
    );

    // A catalog with every mistake beside a secret.
    mounted.catalog(
        "wrong.toml",
        &format!(
            "[downloads.user]\nurl = \"http://{CANARY}:{CANARY}@{addr}/\"\n\
             [downloads.scheme]\nurl = \"ftp://{addr}/?{CANARY}\"\n\
             [downloads.none]\nurl = \"http://?{CANARY}\"\n\
             [downloads.unknown]\nurl = \"http://{addr}/?{CANARY}\"\nkei = \"{CANARY}\"\n\
             [downloads.field]\nurl = \"http://{addr}/\"\nheaders = {{ \"a b: {CANARY}\" = \"{CANARY}\" }}\n\
             [downloads.early]\nurl = \"http://u:{CANARY}#{CANARY}@{addr}/\"\n\
             [downloads.value]\nurl = \"http://{addr}/\"\nheaders = {{ A = \"{CANARY}\\n\" }}\n\
             [downloads.digest]\nurl = \"http://{addr}/?{CANARY}\"\nsha256 = \"none\"\n"
        ),
    );
    wait_until("the mistakes are told", Duration::from_secs(5), || {
        mounted.status()["problems"].to_string().contains("wrong.toml")
    });
    outputs::assert_silent(&outputs::all(&mounted, &names, &config), &[CANARY]);
    // What is wrong on a command line is said without what it holds.
    let at = mounted.scratch().join("elsewhere");
    let at = at.to_str().expect("a plain path");
    for download in [
        format!("a=ftp://{CANARY}@h/?{CANARY}"),
        format!("a=http://h/?{CANARY}"),
        format!("a=http://u:{CANARY}#{CANARY}@h/"),
        format!("http://u:{CANARY}@h/plain?token={CANARY}"),
        format!("http://u:{CANARY}@h/plain?token=http://{CANARY}/"),
    ] {
        let args = ["mount", at, "--download", &download];
        let said = process::run(env!("CARGO_BIN_EXE_cached-downloads"), args);
        let text = String::from_utf8_lossy(&[said.stdout, said.stderr].concat()).into_owned();
        assert!(!text.is_empty() && !text.contains(CANARY), "mount --download: {text}");
    }
}
