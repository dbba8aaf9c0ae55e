//! After the tour: the mount stays, with a line that lives.

use std::io::IsTerminal as _;
use std::time::Duration;

use super::mounted::Mounted;
use super::origin::Origin;
use super::show;

/// Starts the origin again and shows what happens, until the mount ends.
pub(super) async fn stay(origin: &mut Origin, mounted: &mut Mounted) {
    let path = mounted.path();
    let served = match origin.resume().await {
        Ok(()) => "the origin is back",
        Err(_) => "the origin stays away",
    };
    show(&format!("\n{served}; look around in {}, Ctrl-C ends it\n", path.display()));
    let terminal = std::io::stdout().is_terminal();
    let client = mounted.client();
    let (mut requests, mut last) = (0, String::new());
    while mounted.is_running() {
        requests += origin.take_seen().len();
        if let Ok(status) = client.status().await {
            let line = format!(
                "{} opens, {} hits, {} of {} used, {} pinned, {} evictions; the origin saw {requests} requests",
                status.counters.opens,
                status.counters.hits,
                status.space.stored,
                status.space.quota,
                status.space.pinned,
                status.counters.evictions,
            );
            if line != last {
                // On a terminal each line takes the place of the last.
                show(&if terminal { format!("\r\x1b[K{line}") } else { format!("{line}\n") });
                last = line;
            }
        }
        tokio::time::sleep(Duration::from_millis(500)).await;
    }
    show("\nthe mount has ended\n");
}
