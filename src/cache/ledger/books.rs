//! The sums of the ledger and the rules by which blobs move; used only under its lock.

use std::collections::HashMap;
use std::sync::Arc;

use super::{Answer, Balance, Limits, Reservation, Room, Shared, Short, Victim};
use crate::cache::order::Order;
use crate::types::BlobId;

/// Where a blob stands; each is in exactly one place.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Place {
    /// Somebody has it open.
    Pinned,
    /// Nobody has it open; the next victims come from here.
    Idle,
    /// A victim whose directory entry was invalidated and whose FORGET is awaited.
    Leaving,
    /// The kernel did not forget it: somebody holds it by a bind mount, a working directory, O_PATH.
    Held,
    /// Being unlinked.
    Condemned,
    /// To be unlinked, but the disk refuses; the next start tries again.
    Stuck,
}

impl Place {
    /// Says whether nobody may take it up any more.
    pub(super) fn is_gone(self) -> bool {
        matches!(self, Place::Condemned | Place::Stuck)
    }

    /// Says whether its bytes will be free soon.
    pub(super) fn is_going(self) -> bool {
        matches!(self, Place::Leaving | Place::Condemned)
    }
}

pub(super) struct Account {
    pub(super) bytes: u64,
    /// What the tree takes that its archive is shown as.
    pub(super) tree: u64,
    pub(super) pins: u32,
    pub(super) refs: u32,
    /// No entry points here any more: it goes as soon as nobody holds it.
    pub(super) orphan: bool,
    /// Its download has every byte and commits: soon its own pin falls.
    pub(super) committing: bool,
    /// Its download has nothing to do and would give way.
    pub(super) spare: bool,
    /// And should.
    pub(super) pressed: bool,
    /// An operator wants it gone: if its download gives way, that counts as an eviction.
    pub(super) doomed: bool,
    /// It has gaps that nobody fills: the first to go.
    pub(super) unfinished: bool,
    pub(super) place: Place,
}

impl Account {
    /// Returns everything that goes with the blob.
    pub(super) fn all(&self) -> u64 {
        self.bytes + self.tree
    }

    /// Makes the account of a blob that is pinned by nobody yet.
    pub(super) fn new() -> Account {
        Account {
            bytes: 0,
            tree: 0,
            pins: 0,
            refs: 0,
            orphan: false,
            committing: false,
            spare: false,
            pressed: false,
            doomed: false,
            unfinished: false,
            place: Place::Pinned,
        }
    }
}

pub(super) struct Books {
    pub(super) limits: Limits,
    pub(super) accounts: HashMap<BlobId, Account>,
    /// Which blob those hold now whose blob was gone on with under another number.
    pub(super) heirs: HashMap<BlobId, BlobId>,
    pub(super) idle: Box<dyn Order>,
    /// Bytes of all accounts, condemned ones too.
    pub(super) stored: u64,
    /// Bytes of accounts that will be gone soon: condemned or leaving.
    pub(super) going: u64,
    /// Bytes promised to downloads, and how many of them are on disk already.
    pub(super) reserved: u64,
    pub(super) allocated: u64,
}

impl Books {
    pub(super) fn new(limits: Limits, idle: Box<dyn Order>) -> Books {
        Books {
            limits,
            accounts: HashMap::new(),
            heirs: HashMap::new(),
            idle,
            stored: 0,
            going: 0,
            reserved: 0,
            allocated: 0,
        }
    }

    /// Returns the number that a blob has now.
    pub(super) fn heir(&self, blob: BlobId) -> BlobId {
        self.heirs.get(&blob).copied().unwrap_or(blob)
    }

    /// Has whoever holds a blob hold another from now on.
    pub(super) fn inherit(&mut self, old: BlobId, new: BlobId) {
        self.heirs.values_mut().filter(|heir| **heir == old).for_each(|heir| *heir = new);
        self.heirs.insert(old, new);
    }

    /// Moves a blob to another place and keeps the sums.
    pub(super) fn place(&mut self, blob: BlobId, to: Place) {
        let Some(account) = self.accounts.get_mut(&blob) else {
            return;
        };
        if account.place.is_going() {
            self.going -= account.all();
        }
        if to.is_going() {
            self.going += account.all();
        }
        account.place = to;
        match to {
            Place::Idle if account.unfinished => self.idle.spare(blob),
            Place::Idle => self.idle.used(blob),
            _ => self.idle.remove(blob),
        }
    }

    /// Changes what a blob takes and keeps the sums.
    pub(super) fn weigh(&mut self, blob: BlobId, change: impl FnOnce(&mut Account)) {
        let Some(account) = self.accounts.get_mut(&blob) else { return };
        let before = account.all();
        change(account);
        let (after, going) = (account.all(), account.place.is_going());
        self.stored = self.stored + after - before;
        if going {
            self.going = self.going + after - before;
        }
    }

    /// Decides where a blob goes that just lost a holder.
    pub(super) fn let_go(&mut self, shared: &Arc<Shared>, blob: BlobId) -> Option<Victim> {
        let account = self.accounts.get(&blob)?;
        let (refs, orphan) = (account.refs, account.orphan);
        let (leaving, doomed) = (account.place == Place::Leaving, account.doomed);
        let to = match account.place {
            Place::Condemned | Place::Stuck => return None,
            _ if account.pins > 0 => return None,
            _ if orphan && refs == 0 => Place::Condemned,
            Place::Leaving if refs == 0 => Place::Condemned,
            Place::Pinned => Place::Idle,
            Place::Held if refs == 0 => Place::Idle,
            _ => return None,
        };
        self.place(blob, to);
        (to == Place::Condemned).then(|| shared.victim(blob, doomed || (leaving && !orphan)))
    }

    pub(super) fn reserve(&mut self, shared: &Arc<Shared>, bytes: u64, ceiling: u64) -> Room {
        let Limits { quota, hard, .. } = self.limits;
        let (soft, top) = (quota.min(ceiling), hard.min(ceiling));
        let asked = self.stored.saturating_add(self.reserved).saturating_add(bytes);
        let (mut victims, mut leaving) = (Vec::new(), Vec::new());
        if asked.saturating_sub(self.going + self.idle_bytes()) > top {
            if self.press() || self.accounts.values().any(|a| a.committing) {
                return Room { answer: Answer::Wait, victims, leaving };
            }
            // Evicting everything would not help, so nothing is evicted.
            let Balance { pinned, held, reserved, pins, .. } = self.balance();
            let disk = ceiling < hard;
            let short = Short { wanted: bytes, pinned, pins, held, reserved, hard, disk };
            return Room { answer: Answer::Refused(short), victims, leaving };
        }
        while asked.saturating_sub(self.going) > soft {
            let Some(blob) = self.idle.oldest() else {
                self.press();
                break;
            };
            if self.accounts.get(&blob).is_some_and(|a| a.refs > 0) {
                self.place(blob, Place::Leaving);
                leaving.push(blob);
            } else {
                self.place(blob, Place::Condemned);
                victims.push(shared.victim(blob, true));
            }
        }
        let answer = if asked <= top {
            self.reserved += bytes;
            Answer::Granted(Reservation { ledger: shared.clone(), bytes, allocated: 0 })
        } else {
            Answer::Wait
        };
        Room { answer, victims, leaving }
    }

    /// Has the downloads give way that have nothing to do and that nobody reads; says whether there
    /// are any.
    fn press(&mut self) -> bool {
        let spare = self.accounts.values_mut().filter(|a| a.spare && a.pins <= 1);
        spare.map(|account| account.pressed = true).count() > 0
    }

    /// Returns what is on the disk now, as far as is known.
    pub(super) fn on_disk(&self) -> u64 {
        self.stored + self.allocated
    }

    pub(super) fn idle_bytes(&self) -> u64 {
        self.accounts.values().filter(|a| a.place == Place::Idle).map(Account::all).sum()
    }

    pub(super) fn balance(&self) -> Balance {
        let mut balance = Balance {
            stored: self.stored,
            reserved: self.reserved,
            blobs: self.accounts.len() as u64,
            ..Balance::default()
        };
        for account in self.accounts.values() {
            balance.pins += u64::from(account.pins);
            balance.trees += account.tree;
            match account.place {
                Place::Pinned => balance.pinned += account.all(),
                Place::Held => balance.held += account.all(),
                Place::Idle | Place::Leaving => balance.idle += account.all(),
                Place::Condemned | Place::Stuck => balance.condemned += account.all(),
            }
        }
        balance
    }
}
