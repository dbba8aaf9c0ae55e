//! Ordinary programs on names that a real nginx serves: the bytes are the origin's, nobody
//! complains, and the access log shows how little was asked.

use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::time::Duration;

use crate::support::process::{self, quiet};
use crate::support::{Body, MIB, Mounted, Nginx, needs, wait_until};

/// A program that reads a file; returns the file with what it read.
struct Reader {
    name: &'static str,
    read: fn(&Path, &Path) -> PathBuf,
}

const READERS: &[Reader] = &[
    Reader { name: "cat", read: |from, out| shell("cat \"$1\" > \"$2\"", from, out) },
    Reader { name: "cp", read: |from, out| copy("cp", &[], from, out) },
    Reader { name: "cp-a", read: |from, out| copy("cp", &["-a"], from, out) },
    Reader { name: "install", read: |from, out| copy("install", &["-m", "600"], from, out) },
    Reader { name: "rsync", read: |from, out| copy("rsync", &["-a"], from, out) },
    Reader {
        name: "dd",
        read: |from, out| shell("dd if=\"$1\" of=\"$2\" bs=100k status=none", from, out),
    },
    Reader {
        name: "tar",
        read: |from, out| {
            let script = "tar -C \"$(dirname \"$1\")\" -cf \"$2.tar\" \"$(basename \"$1\")\" &&
                tar -xOf \"$2.tar\" > \"$2\"";
            shell(script, from, out)
        },
    },
    Reader {
        name: "git",
        read: |from, out| {
            let script = "git init -q --bare \"$2.git\" && export GIT_DIR=\"$2.git\" &&
                git --work-tree=\"$(dirname \"$1\")\" add \"$(basename \"$1\")\" &&
                git cat-file blob :\"$(basename \"$1\")\" > \"$2\"";
            shell(script, from, out)
        },
    },
    Reader { name: "mmap-shared", read: |from, out| mapped("MAP_SHARED", from, out) },
    Reader { name: "mmap-private", read: |from, out| mapped("MAP_PRIVATE", from, out) },
];

fn shell(script: &str, from: &Path, out: &Path) -> PathBuf {
    quiet("sh", ["-ec".as_ref(), script.as_ref(), "sh".as_ref(), from, out]);
    out.to_owned()
}

fn copy(program: &str, options: &[&str], from: &Path, out: &Path) -> PathBuf {
    let options = options.iter().map(Path::new);
    quiet(program, options.chain([from, out]));
    out.to_owned()
}

fn mapped(flag: &str, from: &Path, out: &Path) -> PathBuf {
    let code = format!(
        "import mmap, sys
f = open(sys.argv[1], 'rb')
m = mmap.mmap(f.fileno(), 0, flags=mmap.{flag}, prot=mmap.PROT_READ)
open(sys.argv[2], 'wb').write(m[:])"
    );
    quiet("python3", ["-c".as_ref(), code.as_ref(), from, out]);
    out.to_owned()
}

/// Runs every reader once and holds what it read against the bodies.
fn read_all(mounted: &Mounted, bodies: &[Body], round: &str) {
    for (reader, body) in READERS.iter().zip(bodies) {
        let out = mounted.scratch().join(format!("{}.{round}", reader.name));
        let result = (reader.read)(&mounted.path(reader.name), &out);
        body.check(&result).unwrap_or_else(|error| panic!("{} ({round}): {error}", reader.name));
    }
}

/// Waits until the log shows `gets` answers of 200 and `same` of 304 for a name; more never.
#[track_caller]
fn expect_log(nginx: &Nginx, name: &str, gets: usize, same: usize) {
    // nginx logs when an answer is done, so the line may come a moment after the bytes.
    let now = || (nginx.count(name, 200), nginx.count(name, 304));
    let begin = std::time::Instant::now();
    while now() != (gets, same) && begin.elapsed() < Duration::from_secs(2) {
        std::thread::sleep(Duration::from_millis(5));
    }
    assert_eq!(now(), (gets, same), "{name}: 200s and 304s");
}

#[test]
fn programs_read_the_origins_bytes_with_one_get_cold_and_one_304_later() {
    needs!("fuse", "nginx", "rsync", "git", "python3");
    let nginx = Nginx::start();
    let bodies: Vec<Body> =
        (0..READERS.len() as u64).map(|seed| Body::made(seed, 3 * MIB + 123)).collect();
    let mut setup = Mounted::with();
    for (reader, body) in READERS.iter().zip(&bodies) {
        nginx.put(reader.name, body);
        setup = setup.download(reader.name, &nginx.url(reader.name));
    }
    let mounted = setup.start();

    read_all(&mounted, &bodies, "cold");
    for reader in READERS {
        mounted.wait_complete(reader.name);
        expect_log(&nginx, reader.name, 1, 0);
    }
    for later in 1..=2 {
        mounted.settle();
        read_all(&mounted, &bodies, &format!("warm{later}"));
        for reader in READERS {
            expect_log(&nginx, reader.name, 1, later);
        }
    }
    assert!(nginx.log().iter().all(|line| line.method == "GET"));
}

#[test]
fn programs_read_while_the_download_completes_underneath() {
    needs!("fuse", "nginx", "rsync", "git", "python3");
    // Two megabytes in about a second: every program meets the moment of completion.
    let nginx = Nginx::with("limit_rate 2m;");
    let bodies: Vec<Body> =
        (0..READERS.len() as u64).map(|seed| Body::made(100 + seed, 2 * MIB + 17)).collect();
    let mut setup = Mounted::with();
    for (reader, body) in READERS.iter().zip(&bodies) {
        nginx.put(reader.name, body);
        setup = setup.download(reader.name, &nginx.url(reader.name));
    }
    let mounted = setup.start();
    std::thread::scope(|scope| {
        for (reader, body) in READERS.iter().zip(&bodies) {
            let mounted = &mounted;
            scope.spawn(move || {
                for round in 0..4 {
                    let out = mounted.scratch().join(format!("{}.{round}", reader.name));
                    let result = (reader.read)(&mounted.path(reader.name), &out);
                    body.check(&result)
                        .unwrap_or_else(|error| panic!("{} ({round}): {error}", reader.name));
                    std::thread::sleep(Duration::from_millis(150));
                }
            });
        }
    });
    for reader in READERS {
        assert_eq!(nginx.count(reader.name, 200), 1, "{}", reader.name);
    }
}

#[test]
fn checksums_and_listings_of_archives_are_right() {
    needs!("fuse", "nginx", "unzip", "python3");
    let nginx = Nginx::start();
    let body = Body::made(1, MIB + 1);
    nginx.put("sum", &body);
    let zip = nginx.root().join("archive.zip");
    let code = "import sys, zipfile
with zipfile.ZipFile(sys.argv[1], 'w') as z:
    z.writestr('bin/detect', '#!/bin/sh\\nexit 0\\n')
    z.writestr('manifest.yml', 'language: sample\\n')";
    quiet("python3", ["-c".as_ref(), code.as_ref(), zip.as_path()]);
    let mounted =
        Mounted::names(&[("sum", &nginx.url("sum")), ("archive.zip", &nginx.url("archive.zip"))]);
    for later in 0..3 {
        let sum = quiet("sha256sum", [mounted.path("sum")]);
        assert!(sum.starts_with(&body.sha256()), "round {later}: {sum}");
        let list = quiet("unzip", ["-l".as_ref(), mounted.path("archive.zip").as_path()]);
        assert!(list.contains("bin/detect") && list.contains("manifest.yml"), "{list}");
        for name in ["sum", "archive.zip"] {
            mounted.wait_complete(name);
            expect_log(&nginx, name, 1, later);
        }
        mounted.settle();
    }
}

#[test]
fn checksums_listings_and_programs_are_right_while_the_download_completes_underneath() {
    needs!("fuse", "nginx", "unzip", "python3");
    let nginx = Nginx::with("limit_rate 2m;");
    let body = Body::made(1, 2 * MIB + 17);
    nginx.put("sum", &body);
    let code = "import sys, zipfile
with zipfile.ZipFile(sys.argv[1], 'w') as z:
    z.writestr('first', bytes(2 << 20))
    z.writestr('last', 'short')";
    let zip = nginx.root().join("archive.zip");
    quiet("python3", ["-c".as_ref(), code.as_ref(), zip.as_path()]);
    // What is read last of a program stands at its end.
    let long =
        format!("#!/bin/sh\n{}echo \"script $1\"\n", "# a line of nothing\n".repeat(100_000));
    std::fs::write(nginx.root().join("script"), long).expect("write a script");
    let binary = process::find("python3").expect("python3").canonicalize().expect("its place");
    nginx.put_file("binary", &binary);
    let names = ["sum", "archive.zip", "script", "binary"];
    let urls = names.map(|name| nginx.url(name));
    let mut setup = Mounted::with();
    for (name, url) in names.iter().zip(&urls) {
        setup = setup.download(name, url);
    }
    let mounted = setup.start();
    std::thread::scope(|scope| {
        for name in names {
            let (mounted, sum) = (&mounted, body.sha256());
            scope.spawn(move || {
                let path = mounted.path(name);
                let file = path.to_str().expect("a plain path");
                for _ in 0..4 {
                    match name {
                        "sum" => assert!(quiet("sha256sum", [&path]).starts_with(&sum)),
                        "archive.zip" => assert!(quiet("unzip", ["-l", file]).contains("last")),
                        "script" => assert_eq!(quiet(file, ["x"]), "script x\n"),
                        _ => assert_eq!(quiet(file, ["-c", "print(6 * 7)"]), "42\n"),
                    }
                    std::thread::sleep(Duration::from_millis(150));
                }
            });
        }
    });
    for name in names {
        mounted.wait_complete(name);
        assert_eq!(nginx.count(name, 200), 1, "{name}");
    }
}

#[test]
fn scripts_and_binaries_run_cold_and_warm() {
    needs!("fuse", "nginx");
    let nginx = Nginx::start();
    std::fs::write(nginx.root().join("script"), "#!/bin/sh\necho \"script $1\"\n")
        .expect("write a script");
    nginx.put_file("binary", &process::find("echo").expect("an echo to copy"));
    let mounted =
        Mounted::names(&[("script", &nginx.url("script")), ("binary", &nginx.url("binary"))]);
    for round in ["cold", "warm", "again"] {
        assert_eq!(execute(&mounted.path("script"), round), format!("script {round}\n"));
        assert_eq!(execute(&mounted.path("binary"), round), format!("{round}\n"));
        mounted.wait_complete("binary");
        mounted.wait_complete("script");
    }
}

/// Runs a file: directly where its mode lets us, else by its interpreter, as `sh FILE` and
/// `ld.so FILE` do.
fn execute(file: &Path, argument: &str) -> String {
    let mode = std::fs::metadata(file).expect("stat").permissions().mode();
    if mode & 0o111 != 0 {
        return quiet(file.to_str().expect("a plain path"), [argument]);
    }
    let loader = if file.ends_with("script") {
        PathBuf::from("/bin/sh")
    } else {
        ["/lib64/ld-linux-x86-64.so.2", "/lib/ld-linux-aarch64.so.1"]
            .into_iter()
            .map(PathBuf::from)
            .find(|loader| loader.exists())
            .expect("a dynamic loader")
    };
    quiet(loader.to_str().expect("a plain path"), [file, Path::new(argument)])
}

#[test]
fn a_file_looks_the_same_before_and_after_its_download() {
    use std::os::unix::fs::MetadataExt;
    needs!("fuse", "nginx");
    let nginx = Nginx::start();
    nginx.put("a", &Body::made(1, 100_000));
    let changed = std::fs::metadata(nginx.root().join("a")).expect("stat the sample");
    let mounted = Mounted::names(&[("a", &nginx.url("a"))]);
    let look = || {
        let meta = std::fs::metadata(mounted.path("a")).expect("stat");
        (meta.ino(), meta.len(), meta.mtime(), meta.ctime(), meta.mode(), meta.blocks())
    };
    let before = look();
    assert_eq!(before.1, 100_000);
    assert_eq!(before.2, changed.mtime(), "mtime is Last-Modified");
    std::fs::read(mounted.path("a")).expect("read");
    mounted.wait_complete("a");
    wait_until("the complete file is shown", Duration::from_secs(1), || look() == before);
    std::fs::read(mounted.path("a")).expect("read");
    assert_eq!(look(), before);
}
