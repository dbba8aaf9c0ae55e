//! The tests on a real mount. Each module holds one promise of the program against a real kernel,
//! a scripted origin or a real nginx, and real programs. `docs/semantics.md` cites them by name.

#[path = "../support/mod.rs"]
mod support;

mod bad_input;
mod beside;
mod churn;
mod container;
mod crash;
mod cuts;
mod down;
mod faults;
mod held;
mod lab;
mod memory;
mod names;
mod ordinary_user;
mod outage;
mod owners;
mod programs;
mod quota;
mod ranges;
mod redirects;
mod replaced;
mod scripted;
mod secrets;
mod signals;
mod slow;
mod smoke;
mod stopping;
mod tls;
mod trees_builder;
mod trees_crash;
mod trees_held;
mod trees_hostile;
mod trees_lookup;
mod trees_only;
mod trees_origin;
mod trees_programs;
mod trees_room;
mod trees_same;
mod versions;
mod ways;
