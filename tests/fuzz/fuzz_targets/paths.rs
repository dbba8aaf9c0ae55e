//! Members with any paths and targets: pieces between bytes of 0xff, each of which begins with what
//! the member is.

#![no_main]

use cached_downloads::tree::{self, Builder, Index, Limits, Member, Packed, What};
use libfuzzer_sys::fuzz_target;

#[path = "../../../src/tree/tests/sound.rs"]
mod sound;

fuzz_target!(|bytes: &[u8]| {
    let limits = Limits { members: 100, index: 10_000, depth: 8, path: 600, ..Limits::default() };
    let mut builder = Builder::new(limits, None);
    let mut pieces = bytes.split(|byte| *byte == 0xff);
    while let Some([kind, path @ ..]) = pieces.next() {
        let packed = Packed::Deflated { header: 0, length: 9, crc: 0 };
        let size = u64::from(*kind) * 100;
        let what = match kind % 6 {
            0 => What::Directory,
            1 => What::File { size, packed },
            2 => What::Symlink(pieces.next().unwrap_or_default()),
            3 => What::PackedSymlink { size, packed },
            4 => What::HardLink(pieces.next().unwrap_or_default()),
            _ => What::Other,
        };
        let modified = Some((i64::from(*kind) << 40, 7));
        let member = Member { path, what, executable: None, modified };
        match builder.add(&member) {
            Ok(_) => {}
            Err(error) => {
                assert!(!error.message.contains(['\0', '\n', '\x1b']), "not escaped");
                break;
            }
        }
    }
    let index = builder.finish().expect("nothing is left to be refused");
    sound::check(&index);
    let again = Index::decode(&index.encode()).expect("its own form");
    sound::check(&again);
    assert_eq!(index.encode(), again.encode());
});
