//! The ledger against its own rules, over random histories.

use std::collections::HashMap;

use proptest::prelude::*;

use super::books::{Account, Place};
use super::*;

#[derive(Clone, Debug)]
enum Op {
    Reserve(u64),
    Open,
    Settle(usize, u64),
    Pin(usize),
    Clone(usize),
    Unpin(usize),
    Refer(usize),
    Forget(usize),
    Orphan(usize),
    Evict(usize),
    Stayed(usize),
    Gone(usize),
    GiveBack(usize),
    Recovered(u64, u64),
    /// Books for the tree of a blob.
    Grow(usize, u64),
    /// Says what a tree takes, of what was booked for it.
    SettleTree(usize, u64),
    /// Goes on with a blob under another number.
    Resume(usize),
}

fn op() -> impl Strategy<Value = Op> {
    let at = 0usize..8;
    prop_oneof![
        3 => (1u64..400).prop_map(Op::Reserve),
        3 => Just(Op::Open),
        3 => (at.clone(), 0u64..400).prop_map(|(at, bytes)| Op::Settle(at, bytes)),
        2 => at.clone().prop_map(Op::Pin),
        1 => at.clone().prop_map(Op::Clone),
        4 => at.clone().prop_map(Op::Unpin),
        2 => at.clone().prop_map(Op::Refer),
        2 => at.clone().prop_map(Op::Forget),
        1 => at.clone().prop_map(Op::Orphan),
        1 => at.clone().prop_map(Op::Evict),
        1 => at.clone().prop_map(Op::Stayed),
        3 => at.clone().prop_map(Op::Gone),
        1 => at.clone().prop_map(Op::GiveBack),
        1 => (1u64..200, 0u64..100).prop_map(|(bytes, tree)| Op::Recovered(bytes, tree)),
        2 => (at.clone(), 1u64..200).prop_map(|(at, bytes)| Op::Grow(at, bytes)),
        3 => (at.clone(), 0u64..400).prop_map(|(at, bytes)| Op::SettleTree(at, bytes)),
        1 => at.prop_map(Op::Resume),
    ]
}

const LIMITS: Limits = Limits { quota: 1000, hard: 1200, min_free: 0 };

/// Everything that can be held.
struct World {
    ledger: Ledger,
    sent: mpsc::UnboundedReceiver<Victim>,
    next: u64,
    blobs: Vec<BlobId>,
    reservations: Vec<Reservation>,
    /// Downloads: their reservation and their pin.
    downloads: Vec<(Reservation, Pin)>,
    /// What is booked for trees, each with the pin that keeps its blob meanwhile.
    growing: Vec<(Reservation, Pin)>,
    /// What the trees take, as the disk would tell.
    trees: HashMap<BlobId, u64>,
    pins: Vec<Pin>,
    refs: Vec<KernelRef>,
    victims: Vec<Victim>,
}

fn take<T>(from: &mut Vec<T>, at: usize) -> Option<T> {
    (!from.is_empty()).then(|| from.swap_remove(at % from.len()))
}

impl World {
    fn new() -> World {
        let (victims, sent) = mpsc::unbounded_channel();
        World {
            ledger: Ledger::new(LIMITS, victims),
            sent,
            next: 0,
            blobs: Vec::new(),
            reservations: Vec::new(),
            downloads: Vec::new(),
            growing: Vec::new(),
            trees: HashMap::new(),
            pins: Vec::new(),
            refs: Vec::new(),
            victims: Vec::new(),
        }
    }

    fn new_blob(&mut self) -> BlobId {
        self.next += 1;
        self.blobs.push(BlobId(self.next));
        BlobId(self.next)
    }

    fn blob(&self, at: usize) -> Option<BlobId> {
        (!self.blobs.is_empty()).then(|| self.blobs[at % self.blobs.len()])
    }

    fn run(&mut self, op: Op) {
        match op {
            Op::Reserve(bytes) => {
                let room = self.ledger.reserve(bytes, u64::MAX);
                self.victims.extend(room.victims);
                if let Answer::Granted(reservation) = room.answer {
                    self.reservations.push(reservation);
                    let Balance { stored, reserved, .. } = self.ledger.balance();
                    assert!(stored + reserved <= LIMITS.hard, "{stored} + {reserved}");
                }
            }
            Op::Open => {
                let Some(reservation) = self.reservations.pop() else { return };
                let blob = self.new_blob();
                let pin = self.ledger.open(blob);
                self.downloads.push((reservation, pin));
            }
            Op::Settle(at, bytes) => {
                let Some((reservation, pin)) = take(&mut self.downloads, at) else { return };
                // A body never takes more than was reserved for it.
                let bytes = bytes.min(reservation.bytes());
                self.ledger.settle(reservation, pin.blob(), bytes);
                self.pins.push(pin);
            }
            Op::Pin(at) => {
                let pin = self.blob(at).and_then(|blob| self.ledger.pin(blob));
                self.pins.extend(pin);
            }
            Op::Clone(at) => {
                if !self.pins.is_empty() {
                    let pin = self.pins[at % self.pins.len()].clone();
                    self.pins.push(pin);
                }
            }
            Op::Unpin(at) => drop(take(&mut self.pins, at)),
            Op::Refer(at) => {
                let reference = self.blob(at).and_then(|blob| self.ledger.refer(blob));
                self.refs.extend(reference);
            }
            Op::Forget(at) => drop(take(&mut self.refs, at)),
            Op::Orphan(at) => {
                if let Some(blob) = self.blob(at) {
                    self.ledger.orphan(blob);
                }
            }
            Op::Evict(at) => {
                if let Some(blob) = self.blob(at)
                    && let Evicted::Now(victim) = self.ledger.evict(blob)
                {
                    self.victims.push(victim);
                }
            }
            Op::Stayed(at) => {
                if let Some(blob) = self.blob(at) {
                    self.ledger.stayed(blob);
                }
            }
            Op::Gone(at) => {
                if let Some(victim) = take(&mut self.victims, at) {
                    self.blobs.retain(|blob| *blob != victim.blob);
                    self.trees.remove(&victim.blob);
                    victim.gone();
                }
            }
            Op::GiveBack(at) => drop(take(&mut self.reservations, at)),
            Op::Recovered(bytes, tree) => {
                let Balance { stored, reserved, .. } = self.ledger.balance();
                if stored + reserved + bytes + tree <= LIMITS.hard {
                    let blob = self.new_blob();
                    self.trees.insert(blob, tree);
                    self.ledger.recovered(blob, bytes, tree);
                }
            }
            Op::Grow(at, bytes) => {
                let pin = self.blob(at).and_then(|blob| self.ledger.pin(blob));
                let Some(pin) = pin else { return };
                let room = self.ledger.reserve(bytes, u64::MAX);
                self.victims.extend(room.victims);
                if let Answer::Granted(reservation) = room.answer {
                    self.growing.push((reservation, pin));
                }
            }
            Op::SettleTree(at, more) => {
                let Some((reservation, pin)) = take(&mut self.growing, at) else { return };
                // It takes no more than before and what was booked.
                let tree = self.trees.entry(pin.blob()).or_default();
                *tree += more.min(reservation.bytes());
                self.ledger.settle_tree(Some(reservation), pin.blob(), *tree);
                self.pins.push(pin);
            }
            Op::Resume(at) => {
                let Some(old) = self.blob(at) else { return };
                // Whoever reads a part that is put aside may go on; nobody makes anything of it.
                if self.downloads.iter().chain(&self.growing).any(|(_, pin)| pin.blob() == old) {
                    return;
                }
                let Some(mut reservation) = self.reservations.pop() else { return };
                let (bytes, tree) = (self.ledger.bytes(old), self.ledger.tree(old));
                let before = reservation.bytes();
                let new = BlobId(self.next + 1);
                match self.ledger.resume(old, new, &mut reservation) {
                    None => self.reservations.push(reservation),
                    Some(pin) => {
                        assert_eq!(self.new_blob(), new);
                        assert_eq!(reservation.bytes(), before + bytes);
                        assert_eq!(self.ledger.tree(new), tree);
                        self.blobs.retain(|blob| *blob != old);
                        let moved = self.trees.remove(&old);
                        self.trees.extend(moved.map(|tree| (new, tree)));
                        self.downloads.push((reservation, pin));
                    }
                }
            }
        }
        while let Ok(victim) = self.sent.try_recv() {
            self.victims.push(victim);
        }
    }

    fn check(&self) {
        let books = self.ledger.0.books();
        let sum = |f: &dyn Fn(&Account) -> bool| -> u64 {
            books.accounts.values().filter(|a| f(a)).map(Account::all).sum()
        };
        assert_eq!(books.stored, sum(&|_| true));
        assert_eq!(books.going, sum(&|account| account.place.is_going()));
        let making = || self.downloads.iter().chain(&self.growing);
        let held = self.reservations.iter().chain(making().map(|(r, _)| r));
        assert_eq!(books.reserved, held.map(Reservation::bytes).sum::<u64>());
        assert!(books.stored + books.reserved <= LIMITS.hard);
        for (blob, account) in &books.accounts {
            assert_eq!(account.tree, self.trees.get(blob).copied().unwrap_or(0), "{blob}");
            let pins = self.pins.iter().chain(making().map(|(_, pin)| pin));
            let here = |held: BlobId| books.heir(held) == *blob;
            assert_eq!(account.pins as usize, pins.filter(|pin| here(pin.blob)).count());
            assert_eq!(account.refs as usize, self.refs.iter().filter(|r| here(r.blob)).count());
            assert_eq!(account.pins > 0, account.place == Place::Pinned, "{blob}");
            if account.place == Place::Condemned {
                assert_eq!(account.refs, 0, "a victim that the kernel refers to");
                let victims = self.victims.iter().filter(|victim| victim.blob == *blob);
                assert_eq!(victims.count(), 1, "exactly one victim of {blob}");
            } else if account.orphan && account.pins == 0 && account.refs == 0 {
                panic!("{blob} is wanted by nobody, and stays");
            }
        }
    }
}

/// A download that has nothing to do is pinned by itself alone: who needs its room waits until it
/// has said what becomes of it.
#[test]
fn what_was_used_without_being_opened_goes_later_and_what_has_gaps_first_all_the_same() {
    let (victims, _sent) = mpsc::unbounded_channel();
    let ledger = Ledger::new(LIMITS, victims);
    for blob in 1..=3 {
        ledger.recovered(BlobId(blob), 300 + blob, 0);
    }
    ledger.unfinished(BlobId(2));
    for blob in [1, 2, 9] {
        ledger.used(BlobId(blob));
    }
    let room = ledger.reserve(600, u64::MAX);
    let gone: Vec<_> = room.victims.into_iter().map(Victim::gone).collect();
    assert_eq!(gone, [302, 303]);
    let pin = ledger.pin(BlobId(1)).expect("it is there");
    ledger.used(BlobId(1));
    assert!(matches!(ledger.reserve(1000, u64::MAX).answer, Answer::Refused(_)), "it is open");
    drop(pin);
}

#[test]
fn a_download_without_work_is_asked_to_give_way_and_may_refuse() {
    let (victims, _sent) = mpsc::unbounded_channel();
    let ledger = Ledger::new(LIMITS, victims);
    let Answer::Granted(own) = ledger.reserve(1000, u64::MAX).answer else { panic!("no room") };
    let pin = ledger.open(BlobId(1));
    ledger.settle(own, BlobId(1), 1000);
    let ask = || ledger.reserve(400, u64::MAX).answer;
    assert!(matches!(ask(), Answer::Refused(_)), "it is at work");
    ledger.spare(BlobId(1), true);
    assert!(matches!(ask(), Answer::Wait) && ledger.is_pressed(BlobId(1)));
    ledger.spare(BlobId(1), false);
    assert!(matches!(ask(), Answer::Refused(_)) && !ledger.is_pressed(BlobId(1)));
    ledger.spare(BlobId(1), true);
    let reader = pin.clone();
    assert!(matches!(ask(), Answer::Refused(_)), "somebody reads it");
    drop(reader);
    assert!(matches!(ask(), Answer::Wait));
    drop(pin);
    let room = ledger.reserve(400, u64::MAX);
    let gone: Vec<_> = room.victims.into_iter().map(Victim::gone).collect();
    assert_eq!(gone, [1000]);
    assert!(matches!(ask(), Answer::Granted(_)));
}

proptest! {
    #[test]
    fn the_books_always_agree(ops in proptest::collection::vec(op(), 0..120)) {
        let mut world = World::new();
        for op in ops {
            world.run(op);
            world.check();
        }
        // Nobody holds anything: all that was orphaned leaves, the rest is idle or leaving.
        world.pins.clear();
        world.refs.clear();
        world.downloads.clear();
        world.growing.clear();
        world.reservations.clear();
        for blob in world.blobs.clone() {
            world.ledger.orphan(blob);
        }
        while let Ok(victim) = world.sent.try_recv() {
            world.victims.push(victim);
        }
        world.check();
        for victim in world.victims.drain(..) {
            victim.gone();
        }
        prop_assert_eq!(world.ledger.balance(), Balance::default());
        prop_assert!(world.ledger.0.books().heirs.is_empty());
    }
}
