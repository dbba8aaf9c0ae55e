//! Tells the kernel what changed, from a thread that handles no request: a notification takes locks
//! in the kernel that a request may hold.

use std::ffi::OsStr;
use std::io;
use std::sync::{Arc, mpsc};

use fuser::{INodeNo, Notifier};
use tokio::sync::oneshot;

use super::sweep::{self, Order};
use crate::cache::KernelSide;
use crate::fs::Fs;
use crate::types::{BlobId, Ino, Name, Pending};

/// What the kernel is told.
enum News {
    /// A name moved: drop its entry.
    Moved(Name),
    /// A file has this length.
    Sized(Ino, u64),
    /// Nothing that was shown of a file holds any more.
    Stale(Ino),
}

/// Hands news to the notifying threads.
pub struct Teller {
    news: mpsc::Sender<(News, Option<oneshot::Sender<()>>)>,
    trees: mpsc::Sender<Order>,
}

impl Teller {
    /// Starts the threads; they end when the teller is dropped.
    ///
    /// # Errors
    /// No thread could be started.
    pub(super) fn start(notifier: Notifier, fs: &Arc<Fs>) -> io::Result<Teller> {
        let trees = sweep::start(notifier.clone(), fs)?;
        let (news, queue) = mpsc::channel::<(News, Option<oneshot::Sender<()>>)>();
        // The cache behind it holds the teller.
        let fs = Arc::downgrade(fs);
        std::thread::Builder::new().name("notify".into()).spawn(move || {
            while let Ok((news, done)) = queue.recv() {
                let Some(fs) = fs.upgrade() else { return };
                tell(&notifier, &fs, &news);
                if let Some(done) = done {
                    // The one who waited may have died meanwhile.
                    let _ = done.send(());
                }
            }
        })?;
        Ok(Teller { news, trees })
    }

    fn tell_and_wait(&self, news: News) -> Pending<'static, ()> {
        let (done, told) = oneshot::channel();
        // Fails only when the thread is gone, and the mount with it.
        let _ = self.news.send((news, Some(done)));
        Box::pin(async move {
            let _ = told.await;
        })
    }
}

fn tell(notifier: &Notifier, fs: &Fs, news: &News) {
    let told = match news {
        News::Moved(name) => {
            // Before and after: a LOOKUP that is answered in between may be dropped or not, and one
            // taken for cold is answered at once.
            fs.detach(name);
            let passage = fs.doorway().enter();
            let told = notifier.inval_entry(INodeNo(Ino::ROOT.0), OsStr::new(name.as_str()));
            drop(passage);
            fs.detach(name);
            told
        }
        News::Sized(ino, length) => size(notifier, INodeNo(ino.0), *length),
        // From the first byte, with no end: attributes and all pages.
        News::Stale(ino) => notifier.inval_inode(INodeNo(ino.0), 0, 0),
    };
    if let Err(error) = told {
        // ENODEV means that the mount is going; nothing else is known to come.
        tracing::debug!(%error, "cannot notify the kernel");
    }
}

/// Raises the size that the kernel knows. Nothing says just that; but storing a byte at the end of a
/// file does (fuse_notify_store in fs/fuse/dev.c), and the byte is taken back at once: this comes
/// before the first open of the inode is answered, so nobody can have seen it.
fn size(notifier: &Notifier, ino: INodeNo, length: u64) -> io::Result<()> {
    let Some(last) = length.checked_sub(1) else { return Ok(()) };
    notifier.store(ino, last, &[0])?;
    notifier.inval_inode(ino, i64::try_from(last).unwrap_or(i64::MAX), 1)
}

impl KernelSide for Teller {
    fn moved(&self, name: &Name) -> Pending<'static, ()> {
        self.tell_and_wait(News::Moved(name.clone()))
    }

    fn sized(&self, ino: Ino, length: u64) -> Pending<'static, ()> {
        self.tell_and_wait(News::Sized(ino, length))
    }

    fn stale(&self, ino: Ino) -> Pending<'static, ()> {
        self.tell_and_wait(News::Stale(ino))
    }

    fn clear(&self, blob: BlobId) -> Pending<'static, ()> {
        let (done, told) = oneshot::channel();
        // As above.
        let _ = self.trees.send(Order::Clear(blob, done));
        Box::pin(async move {
            let _ = told.await;
        })
    }

    fn relisted(&self) {
        // As above.
        let _ = self.trees.send(Order::Relist);
    }

    fn leaving(&self, name: &Name) {
        // As above.
        let _ = self.news.send((News::Moved(name.clone()), None));
    }
}
