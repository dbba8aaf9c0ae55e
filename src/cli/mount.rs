//! `mount` and `unmount`.

use std::time::Duration;

use super::args::{MountArgs, UnmountArgs};
use super::exit::Failure;
use super::{settings, text};
use crate::{daemon, mount, telemetry};

/// How long `unmount` waits for the daemon to end: as long as its last writes may take.
const ENDING: Duration = Duration::from_secs(10);

/// Mounts and serves; returns when that has ended.
pub(super) fn mount(args: MountArgs) -> Result<(), Failure> {
    let launch = settings::launch(args)?;
    let format = launch.config.log_format;
    telemetry::start(format).map_err(|error| Failure::usage(error.to_string()))?;
    daemon::run(launch)?;
    Ok(())
}

/// Unmounts, and waits for the daemon so that the next one finds the store free.
pub(super) fn unmount(args: &UnmountArgs) -> Result<(), Failure> {
    let pid = mount::unmount(&args.mountpoint, args.lazy)?;
    let shown = args.mountpoint.display();
    if args.lazy {
        return text::print(&format!("{shown} is detached\n"));
    }
    match pid {
        Some(pid) if !mount::wait_gone(pid, ENDING) => {
            text::print(&format!("{shown} is unmounted; its daemon (pid {pid}) is still ending\n"))
        }
        _ => text::print(&format!("{shown} is unmounted\n")),
    }
}
