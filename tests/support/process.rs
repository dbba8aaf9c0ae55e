//! Child processes that end with the test, and what /proc says of them.

use std::ffi::OsStr;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, ExitStatus, Output, Stdio};
use std::time::{Duration, Instant};

use super::os;

/// Returns where a program is, looking in the administrator's directories too.
pub(crate) fn find(program: &str) -> Option<PathBuf> {
    let path = std::env::var("PATH").unwrap_or_default();
    // Plain programs before version managers' wrappers, which cost tens of milliseconds.
    ["/usr/bin", "/bin", "/usr/sbin", "/sbin"]
        .into_iter()
        .chain(path.split(':'))
        .map(|dir| Path::new(dir).join(program))
        .find(|file| file.is_file())
}

/// Returns a command for a program found by [`find`] that dies with this thread.
pub(crate) fn command(program: &str) -> Command {
    let mut command = Command::new(find(program).unwrap_or_else(|| program.into()));
    os::die_with_parent(&mut command, libc::SIGKILL);
    command
}

/// Runs a program to its end.
///
/// # Panics
/// It cannot be started.
pub(crate) fn run<S: AsRef<OsStr>>(program: &str, args: impl IntoIterator<Item = S>) -> Output {
    command(program)
        .args(args)
        .stdin(Stdio::null())
        .output()
        .unwrap_or_else(|error| panic!("run {program}: {error}"))
}

/// Runs a program to its end and returns what it printed.
///
/// # Panics
/// It fails, or prints anything to its standard error.
#[track_caller]
pub(crate) fn quiet<S: AsRef<OsStr>>(program: &str, args: impl IntoIterator<Item = S>) -> String {
    let output = run(program, args);
    let errors = String::from_utf8_lossy(&output.stderr);
    assert!(
        output.status.success() && errors.is_empty(),
        "{program}: {}, said: {errors}",
        output.status
    );
    String::from_utf8_lossy(&output.stdout).into_owned()
}

/// A running child; killed, and waited for a moment, when dropped.
pub(crate) struct Proc {
    child: Child,
    ended: Option<ExitStatus>,
}

impl Proc {
    /// Starts a command with nothing on its standard input and its output thrown away unless set.
    pub(crate) fn start(command: &mut Command) -> Proc {
        let child = command
            .stdin(Stdio::null())
            .spawn()
            .unwrap_or_else(|error| panic!("start {:?}: {error}", command.get_program()));
        Proc { child, ended: None }
    }

    /// Starts `cat FILE` with its output thrown away.
    pub(crate) fn cat(path: &Path) -> Proc {
        let mut cat = command("cat");
        Proc::start(cat.arg(path).stdout(Stdio::null()).stderr(Stdio::null()))
    }

    /// Starts a program that maps a file and touches the page at `offset`; SIGINT has its default
    /// action there, as in a C program, since Python's handler would wait for the page.
    pub(crate) fn touch_page(path: &Path, offset: u64) -> Proc {
        const CODE: &str = "import mmap, signal, sys
signal.signal(signal.SIGINT, signal.SIG_DFL)
f = open(sys.argv[1], 'rb')
m = mmap.mmap(f.fileno(), 0, flags=mmap.MAP_SHARED, prot=mmap.PROT_READ)
f.close()
sys.exit(0 if m[int(sys.argv[2])] >= 0 else 1)";
        let mut python = command("python3");
        Proc::start(
            python
                .args(["-c", CODE])
                .arg(path)
                .arg(offset.to_string())
                .stdout(Stdio::null())
                .stderr(Stdio::null()),
        )
    }

    /// Returns the process id.
    pub(crate) fn pid(&self) -> u32 {
        self.child.id()
    }

    /// Sends a signal.
    pub(crate) fn signal(&self, signal: i32) {
        if self.ended.is_none() {
            let _ = os::kill(self.child.id(), signal);
        }
    }

    /// Says whether it has ended.
    pub(crate) fn ended(&mut self) -> bool {
        if self.ended.is_none() {
            self.ended = self.child.try_wait().ok().flatten();
        }
        self.ended.is_some()
    }

    /// Waits for the end, for at most `limit`.
    pub(crate) fn wait(&mut self, limit: Duration) -> Option<ExitStatus> {
        let begin = Instant::now();
        while !self.ended() && begin.elapsed() < limit {
            std::thread::sleep(Duration::from_millis(2));
        }
        self.ended
    }

    /// Waits until the process sleeps in the kernel in a file operation of ours (in the
    /// filesystem's request queue).
    #[track_caller]
    pub(crate) fn wait_blocked(&mut self) {
        let pid = self.pid();
        super::wait_until("the program waits in the filesystem", Duration::from_secs(5), || {
            waits_in_fuse(pid)
        });
    }
}

/// Has programs that wait in the filesystem be told to end, and says how long they took; each must
/// be gone within half a second.
#[track_caller]
pub(crate) fn end_all(waiters: &mut [Proc], signal: i32) -> Duration {
    for waiter in waiters.iter_mut() {
        waiter.wait_blocked();
    }
    // Long enough to be past the grace before a caller is watched.
    std::thread::sleep(Duration::from_millis(300));
    let told = Instant::now();
    for waiter in waiters.iter() {
        waiter.signal(signal);
    }
    for waiter in waiters.iter_mut() {
        let left = Duration::from_millis(500).saturating_sub(told.elapsed());
        assert!(
            waiter.wait(left).is_some(),
            "signal {signal}: still there after half a second, state {:?}",
            state(waiter.pid())
        );
    }
    told.elapsed()
}

impl Drop for Proc {
    fn drop(&mut self) {
        if self.ended() {
            return;
        }
        let _ = self.child.kill();
        // Bounded: a process that nothing can end must not hang the test as well.
        if self.wait(Duration::from_secs(2)).is_none() {
            eprintln!(
                "process {} did not end on SIGKILL, state {:?}",
                self.child.id(),
                state(self.child.id())
            );
        }
    }
}

/// Returns the state letter of a process: R, S, D, Z and so on.
pub(crate) fn state(pid: u32) -> Option<char> {
    let stat = std::fs::read_to_string(format!("/proc/{pid}/stat")).ok()?;
    // The name in parentheses may hold anything, so look behind the last one.
    stat.rsplit_once(") ")?.1.chars().next()
}

/// Returns the processes that a process has started and not yet waited for.
pub(crate) fn children(pid: u32) -> Vec<u32> {
    let path = format!("/proc/{pid}/task/{pid}/children");
    let text = std::fs::read_to_string(path).unwrap_or_default();
    text.split_whitespace().filter_map(|pid| pid.parse().ok()).collect()
}

/// Says whether any thread of a process sleeps waiting for an answer from a FUSE filesystem.
pub(crate) fn waits_in_fuse(pid: u32) -> bool {
    let Ok(tasks) = std::fs::read_dir(format!("/proc/{pid}/task")) else {
        return false;
    };
    tasks.flatten().any(|task| {
        let read = |name: &str| std::fs::read_to_string(task.path().join(name)).unwrap_or_default();
        let wchan = read("wchan");
        ["request_wait_answer", "fuse", "folio"].iter().any(|word| wchan.contains(word))
            || read("stack").contains("fuse_")
    })
}

/// Returns the resident memory of a process, now and at its highest, in KiB.
pub(crate) fn memory(pid: u32) -> (u64, u64) {
    let status = std::fs::read_to_string(format!("/proc/{pid}/status")).unwrap_or_default();
    let field = |name: &str| {
        status
            .lines()
            .find_map(|line| line.strip_prefix(name))
            .and_then(|rest| rest.split_whitespace().next())
            .and_then(|number| number.parse().ok())
            .unwrap_or(0)
    };
    (field("VmRSS:"), field("VmHWM:"))
}

/// Returns the seconds of processor time that a process has used.
pub(crate) fn processor(pid: u32) -> f64 {
    // Clock ticks of 10 ms (USER_HZ), in user and in system mode.
    const TICK: f64 = 0.01;
    let stat = std::fs::read_to_string(format!("/proc/{pid}/stat")).unwrap_or_default();
    let after = stat.rsplit_once(") ").map_or("", |(_, rest)| rest);
    let fields: Vec<f64> = after.split(' ').filter_map(|field| field.parse().ok()).collect();
    // The state letter is no number, so utime (field 14 of proc(5)) is the eleventh here.
    fields.get(10..12).map_or(0.0, |used| used.iter().sum::<f64>() * TICK)
}

/// Returns the processes of ours and their children that are in state D for as long as we look.
pub(crate) fn stuck(pids: &[u32]) -> Vec<u32> {
    let in_d = |pid: &&u32| state(**pid) == Some('D');
    let first: Vec<u32> = pids.iter().filter(in_d).copied().collect();
    std::thread::sleep(Duration::from_millis(200));
    first.iter().filter(in_d).copied().collect()
}
