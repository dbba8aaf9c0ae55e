//! Trees made from seeds, packed by many programs: what is shown is what is unpacked.

use std::fmt::Write as _;
use std::path::{Path, PathBuf};

use crate::support::dice::Dice;
use crate::support::forest::plant;
use crate::support::guards::TempDir;
use crate::support::packers::{Packer, Squeeze, TARS, ZIPS};
use crate::support::survey::{differences, survey};
use crate::support::{Mounted, Nginx, figure, needs, scaled, wait_until};

/// One archive: everything about it follows from these.
#[derive(Clone)]
struct Case {
    packer: Packer,
    squeeze: Squeeze,
    seed: u64,
    members: u64,
}

/// Where archives are made, served and shown.
struct Bench {
    nginx: Nginx,
    mounted: Mounted,
    dir: TempDir,
}

impl Case {
    fn new(packers: &[Packer], squeeze: Squeeze, seed: u64) -> Case {
        let packer = packers[(seed % packers.len() as u64) as usize];
        // Mostly small, some with hundreds of members.
        let mut dice = Dice::new(seed);
        let most = if dice.once_in(10) { 600 } else { 60 };
        Case { packer, squeeze, seed, members: 1 + dice.below(most) }
    }

    fn name(&self) -> String {
        format!("t{}-{}", self.seed, self.members)
    }

    /// Makes the tree, packs it and serves it; returns where it was unpacked to.
    fn prepare(&self, bench: &Bench) -> PathBuf {
        let at = bench.dir.path().join(self.name());
        // A tree that was made smaller for an earlier failure may have left it.
        let _ = std::fs::remove_dir_all(&at);
        let (tree, unpacked) = (at.join("tree"), at.join("unpacked"));
        std::fs::create_dir_all(&tree).expect("make a directory");
        plant(&tree, self.seed, self.members, self.packer.soil);
        let plain = at.join("plain.archive");
        self.packer.pack(&tree, &plain);
        self.packer.unpack(&plain, &unpacked);
        let served = bench.nginx.root().join(self.name());
        self.squeeze.squeeze(
            &plain,
            &served,
            self.squeeze != Squeeze::None && self.seed.is_multiple_of(4),
        );
        std::fs::remove_file(plain).expect("remove the archive");
        std::fs::remove_dir_all(tree).expect("remove the tree");
        unpacked
    }

    fn binding(&self, bench: &Bench) -> String {
        let (name, url) = (self.name(), bench.nginx.url(&self.name()));
        format!("[downloads.{name}]\nurl = \"{url}\"\nas = \"directory\"\n")
    }

    /// Compares what is shown with what was unpacked.
    fn compare(&self, bench: &Bench, unpacked: &Path) -> Result<usize, String> {
        let expected = survey(unpacked)?;
        let shown = survey(&bench.mounted.path(&self.name()))?;
        let lines = differences(&shown, &expected, &self.packer.rules);
        if lines.is_empty() { Ok(expected.len()) } else { Err(lines.join("\n")) }
    }

    /// Makes, shows and compares it alone.
    fn run(&self, bench: &Bench) -> Result<usize, String> {
        let unpacked = self.prepare(bench);
        bench.mounted.catalog(&format!("{}.toml", self.name()), &self.binding(bench));
        let shown = bench.mounted.path(&self.name());
        wait_until("the name is shown", std::time::Duration::from_secs(5), || shown.exists());
        self.compare(bench, &unpacked)
    }

    /// Returns the smallest tree of this seed that fails too, with what is wrong about it.
    fn smallest(&self, bench: &Bench, complaint: String) -> (u64, String) {
        let smaller = (1..self.members).find_map(|members| {
            let case = Case { members, ..self.clone() };
            case.run(bench).err().map(|complaint| (members, complaint))
        });
        smaller.unwrap_or((self.members, complaint))
    }
}

/// Runs a number of archives of one format through one mount.
fn run(packers: &[Packer], squeeze: Squeeze) {
    let packers: Vec<Packer> = packers
        .iter()
        .filter(|packer| !crate::support::missing(&[packer.program]))
        .copied()
        .collect();
    let given = std::env::var("CACHED_DOWNLOADS_SEED").ok().and_then(|seed| seed.parse().ok());
    let seeds = match given {
        Some(seed) => seed..seed + 1,
        None => 0..scaled(packers.len() as u64, 220),
    };
    let cases: Vec<Case> = seeds.map(|seed| Case::new(&packers, squeeze, seed)).collect();
    let bench =
        Bench { nginx: Nginx::start(), mounted: Mounted::with().start(), dir: TempDir::new() };
    let mut catalog = String::new();
    let mut unpacked = Vec::new();
    for case in &cases {
        unpacked.push(case.prepare(&bench));
        catalog += &case.binding(&bench);
    }
    bench.mounted.catalog("trees.toml", &catalog);
    let last = bench.mounted.path(&cases[cases.len() - 1].name());
    wait_until("the names are shown", std::time::Duration::from_secs(5), || last.exists());

    let (mut nodes, mut failures) = (0, String::new());
    for round in ["cold", "warm"] {
        for (case, unpacked) in cases.iter().zip(&unpacked) {
            match case.compare(&bench, unpacked) {
                Ok(count) => nodes += count,
                Err(complaint) => {
                    let (members, complaint) = case.smallest(&bench, complaint);
                    let (seed, by) = (case.seed, case.packer.name);
                    let _ = writeln!(
                        failures,
                        "{by}, {squeeze:?}, {round}, CACHED_DOWNLOADS_SEED={seed}, fails with {members} members:\n{complaint}"
                    );
                }
            }
        }
    }
    figure(&format!("{} archives, {nodes} nodes compared, {squeeze:?}", cases.len()));
    assert!(failures.is_empty(), "{failures}");
}

#[test]
fn a_zip_shows_what_its_unpacker_makes() {
    needs!("fuse", "nginx", "unzip", "python3");
    run(ZIPS, Squeeze::None);
}

#[test]
fn a_tar_shows_what_its_unpacker_makes() {
    needs!("fuse", "nginx", "python3");
    run(TARS, Squeeze::None);
}

#[test]
fn a_tar_gz_shows_what_its_unpacker_makes() {
    needs!("fuse", "nginx", "python3");
    run(TARS, Squeeze::Gzip);
}

#[test]
fn a_tar_zst_shows_what_its_unpacker_makes() {
    needs!("fuse", "nginx", "python3", "zstd");
    run(TARS, Squeeze::Zstd);
}

#[test]
fn a_tar_xz_shows_what_its_unpacker_makes() {
    needs!("fuse", "nginx", "python3", "xz");
    run(TARS, Squeeze::Xz);
}
