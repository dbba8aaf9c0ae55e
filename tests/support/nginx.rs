//! Debian's nginx as an origin.

use std::net::TcpListener;
use std::path::{Path, PathBuf};
use std::process::Stdio;
use std::time::Duration;

use super::certs::{Pair, replace};
use super::guards::TempDir;
use super::{Body, Proc, os, process, wait_until};

/// A running nginx with a directory of files; ended when dropped.
pub(crate) struct Nginx {
    // Before the directory: it ends before its files go.
    proc: Proc,
    port: u16,
    tls: bool,
    dir: TempDir,
}

/// One line of the access log.
#[derive(Debug)]
pub(crate) struct Access {
    pub(crate) method: String,
    pub(crate) path: String,
    pub(crate) status: u16,
    pub(crate) bytes: u64,
    /// The subject of the client's certificate, with TLS.
    pub(crate) client: String,
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
        // One process is all it takes, and nothing can be left of it.
        Nginx::run(TempDir::new(), "master_process off;", "", location)
    }

    /// Starts nginx with TLS: it shows this certificate, and demands one of the client that was
    /// issued by an authority in `clients` (PEM).
    ///
    /// # Panics
    /// It does not answer within five seconds.
    pub(crate) fn with_tls(server: &Pair, clients: &str) -> Nginx {
        let dir = TempDir::new();
        server.write(dir.path(), "server");
        replace(&dir.path().join("clients.pem"), clients);
        let base = dir.path().display().to_string();
        let tls = format!(
            "ssl_certificate {base}/server.pem; ssl_certificate_key {base}/server.key;
             ssl_client_certificate {base}/clients.pem; ssl_verify_client on;"
        );
        Nginx::run(dir, "worker_shutdown_timeout 5s;", &tls, "")
    }

    fn run(dir: TempDir, main: &str, tls: &str, location: &str) -> Nginx {
        let port = free_port();
        let base = dir.path().display();
        let user = if os::is_root() { "user root;" } else { "" };
        let (ssl, client) = if tls.is_empty() { ("", "") } else { ("ssl", "$ssl_client_s_dn") };
        let config = format!(
            "{user} daemon off; {main} worker_processes 1; pid {base}/pid;
             error_log {base}/error.log;
             events {{ worker_connections 1024; }}
             http {{
                 log_format plain '$request_method $request_uri $status $body_bytes_sent {client}';
                 access_log {base}/access.log plain;
                 client_body_temp_path {base}/t1; proxy_temp_path {base}/t2;
                 fastcgi_temp_path {base}/t3; uwsgi_temp_path {base}/t4; scgi_temp_path {base}/t5;
                 sendfile on; tcp_nopush on; keepalive_requests 1000000;
                 default_type application/octet-stream;
                 server {{
                     listen 127.0.0.1:{port} {ssl}; {tls} root {base}/www;
                     location / {{ {location} }}
                 }}
             }}\n"
        );
        std::fs::create_dir(dir.path().join("www")).expect("make the document root");
        let file = dir.path().join("nginx.conf");
        std::fs::write(&file, config).expect("write nginx's configuration");
        let mut command = process::command("nginx");
        // A master that is killed leaves its workers running; one that is told to end does not.
        let proc = Proc::start(
            os::die_with_parent(&mut command, libc::SIGTERM)
                .args(["-e", "stderr", "-p"])
                .arg(dir.path())
                .arg("-c")
                .arg(&file)
                .stdout(Stdio::null())
                .stderr(Stdio::inherit()),
        );
        let nginx = Nginx { proc, port, tls: !tls.is_empty(), dir };
        wait_until("nginx answers", Duration::from_secs(5), || {
            std::net::TcpStream::connect(("127.0.0.1", port)).is_ok()
        });
        nginx
    }

    /// Shows another certificate from now on; kept connections are closed.
    pub(crate) fn show(&self, server: &Pair) {
        server.write(self.dir.path(), "server");
        self.reload();
    }

    /// Demands a certificate of other authorities (PEM) from now on; kept connections are closed.
    pub(crate) fn demand(&self, clients: &str) {
        replace(&self.dir.path().join("clients.pem"), clients);
        self.reload();
    }

    /// Has nginx read its files again, and waits until the workers of before are gone.
    fn reload(&self) {
        let before = process::children(self.proc.pid());
        self.proc.signal(libc::SIGHUP);
        wait_until("nginx has new workers alone", Duration::from_secs(10), || {
            let now = process::children(self.proc.pid());
            !now.is_empty() && now.iter().all(|worker| !before.contains(worker))
        });
    }

    /// Returns the directory that is served.
    pub(crate) fn root(&self) -> PathBuf {
        self.dir.path().join("www")
    }

    /// Returns the URL of a file.
    pub(crate) fn url(&self, name: &str) -> String {
        let scheme = if self.tls { "https" } else { "http" };
        format!("{scheme}://127.0.0.1:{}/{name}", self.port)
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
                let mut words = line.splitn(5, ' ');
                Some(Access {
                    method: words.next()?.to_owned(),
                    path: words.next()?.to_owned(),
                    status: words.next()?.parse().ok()?,
                    bytes: words.next()?.parse().ok()?,
                    client: words.next().unwrap_or_default().to_owned(),
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

impl Drop for Nginx {
    fn drop(&mut self) {
        self.proc.signal(libc::SIGTERM);
        if self.proc.wait(Duration::from_secs(5)).is_none() {
            eprintln!("nginx outlived SIGTERM by five seconds");
        }
    }
}

/// Returns a port that was free a moment ago.
pub(crate) fn free_port() -> u16 {
    TcpListener::bind(("127.0.0.1", 0))
        .and_then(|listener| listener.local_addr())
        .expect("a free port on loopback")
        .port()
}
