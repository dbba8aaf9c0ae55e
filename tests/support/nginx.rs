//! Debian's nginx as an origin.

use std::net::TcpListener;
use std::path::{Path, PathBuf};
use std::process::Stdio;
use std::time::Duration;

use super::guards::TempDir;
use super::{Body, Proc, process, wait_until};

/// A running nginx with a directory of files; ended when dropped.
pub(crate) struct Nginx {
    // Before the directory: it ends before its files go.
    proc: Proc,
    port: u16,
    dir: TempDir,
}

/// One line of the access log.
#[derive(Debug)]
pub(crate) struct Access {
    pub(crate) method: String,
    pub(crate) path: String,
    pub(crate) status: u16,
    pub(crate) bytes: u64,
}

impl Nginx {
    /// Starts nginx without limits.
    pub(crate) fn start() -> Nginx {
        Nginx::with("")
    }

    /// Starts nginx with more lines in its location block, for example `limit_rate 50m;`.
    ///
    /// # Panics
    /// It does not answer within five seconds.
    pub(crate) fn with(location: &str) -> Nginx {
        let dir = TempDir::new();
        let port = free_port();
        let base = dir.path().display();
        let user = if super::os::is_root() { "user root;" } else { "" };
        let config = format!(
            "{user} daemon off; master_process off; worker_processes 1; pid {base}/pid;
             error_log {base}/error.log;
             events {{ worker_connections 1024; }}
             http {{
                 log_format plain '$request_method $request_uri $status $body_bytes_sent';
                 access_log {base}/access.log plain;
                 client_body_temp_path {base}/t1; proxy_temp_path {base}/t2;
                 fastcgi_temp_path {base}/t3; uwsgi_temp_path {base}/t4; scgi_temp_path {base}/t5;
                 sendfile on; tcp_nopush on; keepalive_requests 1000000;
                 default_type application/octet-stream;
                 server {{ listen 127.0.0.1:{port}; root {base}/www; location / {{ {location} }} }}
             }}\n"
        );
        std::fs::create_dir(dir.path().join("www")).expect("make the document root");
        let file = dir.path().join("nginx.conf");
        std::fs::write(&file, config).expect("write nginx's configuration");
        let proc = Proc::start(
            process::command("nginx")
                .args(["-e", "stderr", "-p"])
                .arg(dir.path())
                .arg("-c")
                .arg(&file)
                .stdout(Stdio::null())
                .stderr(Stdio::inherit()),
        );
        let nginx = Nginx { proc, port, dir };
        wait_until("nginx answers", Duration::from_secs(5), || {
            std::net::TcpStream::connect(("127.0.0.1", port)).is_ok()
        });
        nginx
    }

    /// Returns the directory that is served.
    pub(crate) fn root(&self) -> PathBuf {
        self.dir.path().join("www")
    }

    /// Returns the URL of a file.
    pub(crate) fn url(&self, name: &str) -> String {
        format!("http://127.0.0.1:{}/{name}", self.port)
    }

    /// Returns the port.
    pub(crate) fn port(&self) -> u16 {
        self.port
    }

    /// Serves a body under a name from now on; an older one is replaced at once.
    pub(crate) fn put(&self, name: &str, body: &Body) {
        let fresh = self.root().join(format!(".{name}.new"));
        body.write_to(&fresh);
        self.place(&fresh, name);
    }

    /// Serves a copy of a file.
    pub(crate) fn put_file(&self, name: &str, file: &Path) {
        let fresh = self.root().join(format!(".{name}.new"));
        std::fs::copy(file, &fresh).expect("copy a sample");
        self.place(&fresh, name);
    }

    fn place(&self, fresh: &Path, name: &str) {
        std::fs::rename(fresh, self.root().join(name)).expect("publish a sample");
    }

    /// Returns the access log from its start.
    pub(crate) fn log(&self) -> Vec<Access> {
        let text = std::fs::read_to_string(self.dir.path().join("access.log")).unwrap_or_default();
        text.lines()
            .filter_map(|line| {
                let mut words = line.split(' ');
                Some(Access {
                    method: words.next()?.to_owned(),
                    path: words.next()?.to_owned(),
                    status: words.next()?.parse().ok()?,
                    bytes: words.next()?.parse().ok()?,
                })
            })
            .collect()
    }

    /// Returns how many requests for a name were answered with a status. nginx writes its log when
    /// an answer is done, so wait for a count with [`wait_until`].
    pub(crate) fn count(&self, name: &str, status: u16) -> usize {
        let path = format!("/{name}");
        self.log().iter().filter(|line| line.path == path && line.status == status).count()
    }

    /// Returns nginx's process id.
    pub(crate) fn pid(&self) -> u32 {
        self.proc.pid()
    }
}

/// Returns a port that was free a moment ago.
pub(crate) fn free_port() -> u16 {
    TcpListener::bind(("127.0.0.1", 0))
        .and_then(|listener| listener.local_addr())
        .expect("a free port on loopback")
        .port()
}
