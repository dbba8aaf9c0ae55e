//! Every bad input is named, says what to do, has its exit code, and costs nothing cached.

use std::os::unix::fs::PermissionsExt as _;
use std::os::unix::process::CommandExt as _;
use std::path::Path;
use std::process::Output;

use crate::support::guards::TempDir;
use crate::support::mounted::{program, program_for_all};
use crate::support::{Body, Item, MIB, Mounted, Origin, needs};

/// Runs the program; it must end by itself.
fn run(args: &[&str]) -> Output {
    program()
        .args(args)
        .env_remove("CACHED_DOWNLOADS_CONTROL")
        .stdin(std::process::Stdio::null())
        .output()
        .expect("run the program")
}

/// It was tried and failed.
const FAILED: i32 = 1;
/// It cannot work this way.
const CANNOT: i32 = 2;
/// No daemon answers.
const NO_DAEMON: i32 = 3;

/// Checks that a run ends with this code and says all of `words`.
#[track_caller]
fn refused(expected: i32, args: &[&str], words: &[&str]) {
    let output = run(args);
    // What was asked to check prints what it found; everything else complains.
    let said = [output.stdout, output.stderr].concat();
    let said = String::from_utf8_lossy(&said);
    assert_eq!(output.status.code(), Some(expected), "{args:?}: {said}");
    for word in words {
        assert!(said.contains(word), "{args:?} should say `{word}`: {said}");
    }
    assert!(!said.contains("panicked"), "{said}");
}

fn text(path: &Path) -> &str {
    path.to_str().expect("a plain path")
}

/// Directories for a mount that is refused.
struct Places {
    dir: TempDir,
    mnt: String,
    store: String,
    control: String,
}

impl Places {
    fn new() -> Places {
        let dir = TempDir::new();
        let place = |name: &str| text(&dir.path().join(name)).to_owned();
        let (mnt, store, control) = (place("mnt"), place("store"), place("sock"));
        std::fs::create_dir(&mnt).expect("make the mountpoint");
        Places { dir, mnt, store, control }
    }

    /// Checks that `mount` with more arguments is refused.
    #[track_caller]
    fn refused(&self, more: &[&str], words: &[&str]) {
        let mut args = vec!["mount", &self.mnt, "--store", &self.store];
        args.extend(["--control", &self.control]);
        args.extend(more);
        refused(CANNOT, &args, words);
    }

    fn file(&self, name: &str, content: &str) -> String {
        let path = self.dir.path().join(name);
        std::fs::write(&path, content).expect("write a file");
        text(&path).to_owned()
    }
}

#[test]
fn a_file_in_a_mount_of_directories_only_is_named() {
    let places = Places::new();
    let only = "--directories-only";
    let words = ["--download", "--directory"];
    places.refused(&[only, "--download", "a=http://h/a"], &words);
    let catalog = places.file("c.toml", "[downloads.a]\nurl = 'http://h/'\nas = 'file'\n");
    let words = ["c.toml:3", "`as`", "must be \"directory\"", "directories_only"];
    places.refused(&[only, "--catalog", &catalog], &words);
    let config = places.file("config.toml", "directories_only = true\n");
    refused(FAILED, &["catalog", "check", "--config", &config, &catalog], &words);
    refused(FAILED, &["catalog", "check", "--directories-only", &catalog], &words);
    refused(0, &["catalog", "check", &catalog], &["0 problems"]);
}

#[test]
fn unknown_flags_and_keys_name_the_nearest_known_one() {
    refused(CANNOT, &["mount", "/nowhere", "--qouta", "1GB"], &["--qouta", "--quota"]);
    let places = Places::new();
    let config = places.file("config.toml", "qouta = \"1GB\"\n");
    places.refused(&["--config", &config], &["qouta", "quota", "config.toml"]);
    refused(FAILED, &["config", "check", "--config", &config], &["qouta", "quota"]);
    let catalog = places.file("c.toml", "\n[downloads.a]\nurll = \"http://h/\"\n");
    refused(FAILED, &["catalog", "check", &catalog], &["urll", "url", "c.toml"]);
}

/// What `config check` calls fine, `mount` takes.
#[test]
fn a_configuration_is_checked_as_far_as_a_mount_would_look() {
    let places = Places::new();
    let (pem, missing) =
        (places.file("empty.pem", "\n"), text(&places.dir.path().join("none")).to_owned());
    let origin = |key: &str, path: &str| format!("[origins.\"h\"]\n{key} = \"{path}\"\n");
    for (config, words) in [
        (format!("catalogs = [\"{missing}\"]\n"), ["none", "create the file or directory"]),
        (origin("ca_file", &missing), ["none", "cannot read"]),
        (origin("ca_file", &pem), ["empty.pem", "no certificate"]),
    ] {
        let config = places.file("config.toml", &config);
        refused(FAILED, &["config", "check", "--config", &config], &words);
        places.refused(&["--config", &config], &words);
    }
}

#[test]
fn bad_sizes_urls_and_names_are_refused() {
    let places = Places::new();
    places.refused(&["--quota", "10 parsecs"], &["10 parsecs", "GiB"]);
    places.refused(&["--quota", "10GBB"], &["10GBB"]);
    places.refused(&["--download", "a=ftp://host/file"], &["ftp", "http"]);
    places.refused(&["--download", "a=not a url"], &["not a url"]);
    places.refused(&["--download", "no-equals-sign"], &["NAME=URL"]);
    places.refused(&["--download", "a/b=http://h/"], &["a/b"]);
    places.refused(&["--download", ".a=http://h/"], &[".a", "dot"]);
    let catalog = places.file("c.toml", "[downloads.jdk-17.tgz]\nurl = \"http://h/\"\n");
    refused(FAILED, &["catalog", "check", &catalog], &["\"jdk-17.tgz\""]);
    let good = places.file("g.toml", "[downloads.a]\nurl = \"http://h/\"\n");
    assert_eq!(run(&["catalog", "check", &good]).status.code(), Some(0));
}

#[test]
fn places_that_cannot_work_are_refused() {
    needs!("fuse");
    let places = Places::new();
    let missing = places.dir.path().join("missing");
    places.refused(&["--catalog", text(&missing)], &["missing"]);
    let file = places.file("plain", "");
    for (at, words) in
        [(file.as_str(), &["plain", "not a directory"][..]), (text(&missing), &["missing"])]
    {
        refused(
            CANNOT,
            &["mount", at, "--store", &places.store, "--control", &places.control],
            words,
        );
    }
    let inside = format!("{}/inside", places.mnt);
    refused(
        CANNOT,
        &["mount", &places.mnt, "--store", &inside, "--control", &places.control],
        &["cached-downloads: the store", "inside", "mountpoint"],
    );
    refused(
        CANNOT,
        &["mount", &places.mnt, "--store", &places.store, "--control", &inside],
        &["the control socket", "inside", "mountpoint"],
    );
    std::fs::create_dir(&inside).expect("make a directory");
    places.refused(&["--catalog", &inside], &["the catalog", "inside", "mountpoint"]);
    refused(
        CANNOT,
        &["mount", &places.mnt, "--store", "/proc/self/store", "--control", &places.control],
        &["/proc/self/store"],
    );
    let open = places.dir.path().join("open to all");
    std::fs::create_dir(&open).expect("make a directory");
    let mode = std::os::unix::fs::PermissionsExt::from_mode(0o777);
    std::fs::set_permissions(&open, mode).expect("open it");
    refused(
        CANNOT,
        &["mount", &places.mnt, "--store", text(&open), "--control", &places.control],
        &["the store path", "open to all", "written by everybody", "777", "--store"],
    );
    places.refused(&["--quota", "900TB"], &["900TB", "disk"]);
}

#[test]
fn a_header_file_outside_the_secrets_directory_is_refused() {
    let places = Places::new();
    let catalog = places.file(
        "c.toml",
        "[downloads.a]\nurl = \"http://h/\"\nheaders = { Authorization = { file = \"../../etc/shadow\" } }\n",
    );
    refused(FAILED, &["catalog", "check", &catalog], &["secrets"]);
    let catalog = places.file(
        "c.toml",
        "[downloads.a]\nurl = \"http://h/\"\nheaders = { Authorization = { file = \"/etc/shadow\" } }\n",
    );
    let secrets = places.dir.path().join("secrets");
    std::fs::create_dir(&secrets).expect("make the secrets directory");
    let config = places.file("with.toml", &format!("secrets_dir = \"{}\"\n", secrets.display()));
    refused(
        FAILED,
        &["catalog", "check", "--config", &config, &catalog],
        &["/etc/shadow", text(&secrets)],
    );
    let config = places.file("without.toml", "");
    refused(FAILED, &["catalog", "check", "--config", &config, &catalog], &["secrets_dir"]);
}

#[test]
fn a_second_mount_on_a_live_one_names_its_pid_and_a_dead_one_is_replaced() {
    needs!("fuse");
    let origin = Origin::start();
    origin.put("/a", Item::made(1, MIB));
    let mut mounted = Mounted::names(&[("a", &origin.url("/a"))]);
    let places = Places::new();
    let pid = mounted.pid().to_string();
    refused(
        FAILED,
        &["mount", text(&mounted.mnt()), "--store", &places.store, "--control", &places.control],
        &[&pid],
    );
    Body::made(1, MIB).check(&mounted.path("a")).expect("the live one is undisturbed");
    mounted.wait_complete("a");
    mounted.kill();
    assert!(std::fs::metadata(mounted.path("a")).is_err(), "a dead mount");
    mounted.start();
    Body::made(1, MIB).check(&mounted.path("a")).expect("the new one");
    assert_eq!(origin.count("/a", 200), 1, "nothing cached is lost");
}

#[test]
fn a_bad_reload_keeps_what_was() {
    needs!("fuse");
    let origin = Origin::start();
    origin.put("/a", Item::made(1, MIB));
    let mounted = Mounted::names(&[("a", &origin.url("/a"))]);
    Body::made(1, MIB).check(&mounted.path("a")).expect("cold");
    mounted.wait_complete("a");
    mounted.catalog("test.toml", "[downloads.a]\nurl = 7\n");
    mounted.signal(libc::SIGHUP);
    crate::support::wait_until("told", std::time::Duration::from_secs(3), || {
        mounted.log().contains("test.toml")
    });
    mounted.settle();
    Body::made(1, MIB).check(&mounted.path("a")).expect("still there");
    assert_eq!(origin.count("/a", 200), 1);
}

#[test]
fn client_verbs_without_a_daemon_say_where_they_looked() {
    let places = Places::new();
    for verb in [&["status"][..], &["ls"], &["evict", "a"]] {
        let mut args = verb.to_vec();
        args.extend(["--control", &places.control]);
        refused(NO_DAEMON, &args, &[&places.control]);
    }
    refused(FAILED, &["unmount", &places.mnt], &[&places.mnt]);
}

#[test]
fn an_operator_is_root_or_the_daemons_own_user() {
    needs!("fuse", "root", "curl");
    let mounted = Mounted::names(&[]);
    // Whoever may open the socket is still asked who he is.
    for (path, mode) in [(mounted.scratch().to_owned(), 0o711), (mounted.control(), 0o666)] {
        std::fs::set_permissions(path, std::fs::Permissions::from_mode(mode)).expect("chmod");
    }
    let ask = |uid: u32| {
        let mut curl = crate::support::process::command("curl");
        curl.args(["-s", "http://localhost/v1/status", "--unix-socket"]).arg(mounted.control());
        let output = curl.uid(uid).gid(uid).output().expect("run curl");
        String::from_utf8_lossy(&output.stdout).into_owned()
    };
    assert!(ask(0).contains("\"mountpoint\""), "{}", ask(0));
    let said = ask(65534);
    assert!(said.contains("denied") && said.contains("uid 0"), "{said}");
    assert!(!said.contains("mountpoint"), "{said}");
}

#[test]
fn evict_refuses_what_is_unknown_or_held() {
    needs!("fuse");
    let origin = Origin::start();
    origin.put("/a", Item::made(1, MIB));
    let mounted = Mounted::names(&[("a", &origin.url("/a"))]);
    let output = mounted.client(&["evict", "nobody"]);
    assert!(!output.status.success());
    assert!(String::from_utf8_lossy(&output.stderr).contains("nobody"));
    let aliased = format!("[downloads.a]\nurl = \"{}\"\naliases = [\"other\"]\n", origin.url("/a"));
    mounted.catalog("test.toml", &aliased);
    crate::support::wait_until("aliased", std::time::Duration::from_secs(5), || {
        mounted.path("other").is_symlink()
    });
    let output = mounted.client(&["evict", "other"]);
    assert!(!output.status.success());
    assert!(String::from_utf8_lossy(&output.stderr).contains("an alias of `a`"));
    let file = std::fs::File::open(mounted.path("a")).expect("open");
    mounted.wait_complete("a");
    let output = mounted.client(&["evict", "a"]);
    assert!(!output.status.success(), "held");
    Body::made(1, MIB).check_at(&file, 0, 1000).expect("still readable");
    drop(file);
    crate::support::wait_until("evicted", std::time::Duration::from_secs(5), || {
        mounted.client(&["evict", "a"]).status.success()
    });
    assert_eq!(mounted.state("a"), "absent");
}

/// Runs the program below a shell that first changes its own view of the machine.
fn run_in(program: &Path, change: &str, args: &[&str]) -> Output {
    let script = format!("{change}\nexec \"$@\"");
    crate::support::process::command("unshare")
        .args(["-m", "sh", "-ec", &script, "sh"])
        .args(prefix(change))
        .arg(program)
        .args(args)
        .stdin(std::process::Stdio::null())
        .output()
        .expect("run unshare")
}

/// Returns the command between the shell and the program: an ordinary user where the change is to
/// what such users may do.
fn prefix(change: &str) -> &'static [&'static str] {
    if ["fuse.conf", "a user's"].iter().any(|word| change.contains(word)) {
        &["setpriv", "--reuid=2001", "--regid=2001", "--clear-groups"]
    } else if change.contains("the helper") {
        // The program is called by its whole path.
        &["setpriv", "--reuid=2001", "--regid=2001", "--clear-groups", "env", "PATH=/nowhere"]
    } else if change.contains("capability") {
        &["setpriv", "--bounding-set=-sys_admin"]
    } else {
        &[]
    }
}

#[test]
fn a_machine_that_cannot_mount_is_told_what_to_do() {
    needs!("fuse", "root", "fusermount3", "/etc/mtab");
    let cases: [(&str, &[&str], &[&str]); 6] = [
        ("mount -t tmpfs none /dev", &[], &["/dev/fuse", "modprobe fuse"]),
        (
            "touch \"$PLACE/fuse.conf\"; mount --bind \"$PLACE/fuse.conf\" /etc/fuse.conf",
            &["--allow-other"],
            &["user_allow_other", "/etc/fuse.conf"],
        ),
        (": without the capability", &[], &["CAP_SYS_ADMIN"]),
        (": without the helper", &[], &["fusermount3", "fuse3"]),
        ("mount -t tmpfs none /etc # a user's mtab goes with it", &[], &["/etc/mtab", "ln -s"]),
        (
            "chown 0 \"$PLACE\"; chmod 755 \"$PLACE\" # not a user's store",
            &[],
            &["the store path", "not writable", "--store"],
        ),
    ];
    let dir = TempDir::new();
    let program = program_for_all(dir.path());
    for (change, more, words) in cases {
        let places = Places::new();
        std::os::unix::fs::chown(places.dir.path(), Some(2001), Some(2001)).expect("chown");
        std::os::unix::fs::chown(&places.mnt, Some(2001), Some(2001)).expect("chown");
        let change = change.replace("$PLACE", text(places.dir.path()));
        let mut args = vec!["mount", &places.mnt, "--store", &places.store];
        args.extend(["--control", &places.control]);
        args.extend(more);
        let output = run_in(&program, &change, &args);
        let said = String::from_utf8_lossy(&output.stderr);
        assert_eq!(output.status.code(), Some(CANNOT), "{change}: {said}");
        for word in words {
            assert!(said.contains(word), "{change}: should say `{word}`: {said}");
        }
    }
}
