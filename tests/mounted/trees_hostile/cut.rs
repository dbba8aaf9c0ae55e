//! Archives cut at every byte: what is left is refused, or what shows of it is right.

use super::{Case, DIR, Expect, Harm, Node, file, refused, shows};
use crate::support::tar_bytes::{Block, tar};
use crate::support::zip_bytes::{Member, Zip, filter};
use crate::support::{figure, needs, scaled};

const TEXT: &str = "a line of a file\n";

fn small_tar() -> Vec<u8> {
    tar(&[Block::file("a", TEXT), Block::directory("d"), Block::symlink("d/l", "../a")])
}

fn nodes() -> [(&'static str, Node); 3] {
    [("a", file(TEXT)), ("d", DIR), ("d/l", super::link("../a"))]
}

/// Cuts an archive everywhere, or in a short run at every `step`th byte and around the end.
fn cut_everywhere(whole: &[u8], step: usize, sound: &Expect, least: usize) {
    let step = scaled(step, 1);
    let cuts: Vec<usize> =
        (0..whole.len()).filter(|at| at % step == 0 || at + 4 > whole.len()).collect();
    let cases: Vec<Case> = cuts
        .iter()
        .map(|at| {
            let expect = if *at >= least { sound.clone() } else { refused("") };
            Case::new(&format!("cut at {at}"), whole[..*at].to_vec(), expect)
        })
        .collect();
    let harm = Harm::new(&cases);
    // What a listing refuses may still be reached by name: nothing but the truth.
    let Expect::Shows(truth) = sound else { panic!("a sound archive shows something") };
    for (number, at) in cuts.iter().enumerate() {
        let path = harm.mounted.path(&format!("n{number}"));
        if let Ok(bytes) = std::fs::read(path.join("a")) {
            assert_eq!(truth.get(&b"a"[..]), Some(&Node::File(bytes, false)), "cut at {at}");
        }
    }
    harm.run(&cases);
    figure(&format!("{} cuts of {} bytes", cuts.len(), whole.len()));
}

#[test]
fn a_zip_cut_at_any_byte_is_refused() {
    needs!("fuse");
    let whole = Zip::of([
        Member::stored("a", TEXT),
        Member::deflated("d/b", TEXT.repeat(4)),
        Member::symlink("l", "a"),
    ])
    .bytes();
    let shown = shows([
        ("a", file(TEXT)),
        ("d", DIR),
        ("d/b", Node::File(TEXT.repeat(4).into(), false)),
        ("l", super::link("a")),
    ]);
    cut_everywhere(&whole, 7, &shown, whole.len());
}

#[test]
fn a_tar_cut_at_any_byte_is_refused() {
    needs!("fuse");
    let whole = small_tar();
    // The first block of zeros is the end.
    cut_everywhere(&whole, 61, &shows(nodes()), whole.len() - 512);
}

#[test]
fn a_compressed_tar_cut_at_any_byte_is_refused() {
    needs!("fuse", "zstd", "xz");
    for (program, args) in [("gzip", ["-nc"]), ("zstd", ["-qc"]), ("xz", ["-c"])] {
        let whole = filter(program, &args, &small_tar());
        cut_everywhere(&whole, 7, &shows(nodes()), whole.len());
    }
}
