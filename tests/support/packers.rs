//! The programs that pack archives, each with the one that unpacks them.

use std::path::Path;
use std::time::Duration;

use super::forest::Soil;
use super::process;
use super::survey::Rules;

/// A way to pack a tree and to unpack it again. The scripts are the shell's: `$1` is a directory
/// and `$2` the archive; `$PY` is the script that uses Python's modules.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Packer {
    pub(crate) name: &'static str,
    /// What has to be there.
    pub(crate) program: &'static str,
    pack: &'static str,
    unpack: &'static str,
    pub(crate) soil: Soil,
    pub(crate) rules: Rules,
}

/// How a tar is compressed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Squeeze {
    None,
    Gzip,
    Zstd,
    Xz,
}

const SECOND: Duration = Duration::from_secs(1);
const EXACT: Duration = Duration::from_nanos(1);

const ZIP_SOIL: Soil = Soil { bytes: false, path: 1000, symlinks: true, hard_links: false };
const TAR_SOIL: Soil = Soil { bytes: true, path: 3000, symlinks: true, hard_links: true };
// A link in it has at most 100 bytes, so a name of a file with a longer path has no place there.
const USTAR_SOIL: Soil = Soil { path: 150, hard_links: false, ..TAR_SOIL };
const V7_SOIL: Soil = Soil { path: 99, ..TAR_SOIL };

/// The archive records modes and the times of all that lies in it; what was unpacked from it has
/// exactly the seconds that it records.
const TO_SECONDS: Rules =
    Rules { precision: SECOND, no_modes: false, directories_timed: true, links_timed: true };
/// The same, unpacked by unzip.
const UNZIPPED: Rules = Rules { links_timed: false, ..TO_SECONDS };
/// The archive records nanoseconds.
const TO_NANOSECONDS: Rules = Rules { precision: EXACT, ..TO_SECONDS };

/// The same, but Python takes them for floating point, as it packs or as it unpacks.
const TO_MICROSECONDS: Rules = Rules { precision: Duration::from_micros(1), ..TO_SECONDS };

const UNZIP: &str = "cd \"$1\" && unzip -qq^ \"$2\"";
// With -P, since it otherwise makes some links last and so changes the times of directories.
const GNU_UNTAR: &str = "tar --warning=no-unknown-keyword -xPpf \"$2\" -C \"$1\"";
const BSD_UNTAR: &str = "bsdtar -xpf \"$2\" -C \"$1\"";
const PY_UNZIP: &str = "python3 \"$PY\" unzip \"$2\" \"$1\"";
const PY_UNTAR: &str = "python3 \"$PY\" untar \"$2\" \"$1\"";

/// Those that make zips.
pub(crate) const ZIPS: &[Packer] = &[
    Packer {
        name: "zip",
        program: "zip",
        pack: "cd \"$1\" && zip -qry \"$2\" .",
        unpack: UNZIP,
        soil: ZIP_SOIL,
        rules: UNZIPPED,
    },
    Packer {
        name: "zip, stored",
        program: "zip",
        pack: "cd \"$1\" && zip -0qry \"$2\" .",
        unpack: UNZIP,
        soil: ZIP_SOIL,
        rules: UNZIPPED,
    },
    Packer {
        name: "zip, without directories and extra fields",
        program: "zip",
        pack: "cd \"$1\" && zip -DXqry \"$2\" .",
        unpack: UNZIP,
        soil: ZIP_SOIL,
        rules: Rules { directories_timed: false, ..UNZIPPED },
    },
    Packer {
        name: "zip, to a pipe",
        program: "zip",
        pack: "cd \"$1\" && zip -qr - . | cat > \"$2\"",
        unpack: UNZIP,
        soil: Soil { symlinks: false, ..ZIP_SOIL },
        rules: UNZIPPED,
    },
    Packer {
        name: "bsdtar zip",
        program: "bsdtar",
        pack: "bsdtar --format zip -cf \"$2\" -C \"$1\" .",
        // Not bsdtar, which composes accents as it unpacks.
        unpack: UNZIP,
        soil: ZIP_SOIL,
        rules: UNZIPPED,
    },
    Packer {
        name: "bsdtar zip, to a pipe",
        program: "bsdtar",
        pack: "bsdtar --format zip -cf - -C \"$1\" . | cat > \"$2\"",
        unpack: UNZIP,
        soil: ZIP_SOIL,
        rules: UNZIPPED,
    },
    Packer {
        name: "7z zip",
        program: "7zz",
        pack: "cd \"$1\" && 7zz a -bd -bso0 -bsp0 -snl -tzip \"$2\" .",
        // Not 7z, which leaves out links that climb.
        unpack: UNZIP,
        soil: ZIP_SOIL,
        // It records 100 ns, which unzip does not know; what unzip knows are two seconds.
        rules: Rules { precision: Duration::from_secs(2), ..UNZIPPED },
    },
    Packer {
        name: "python zip",
        program: "python3",
        pack: "python3 \"$PY\" zip plain \"$1\" \"$2\"",
        unpack: PY_UNZIP,
        soil: ZIP_SOIL,
        rules: TO_SECONDS,
    },
    Packer {
        name: "python zip64, to a pipe",
        program: "python3",
        pack: "python3 \"$PY\" zip zip64 \"$1\" \"$2\"",
        unpack: PY_UNZIP,
        soil: ZIP_SOIL,
        rules: TO_SECONDS,
    },
    Packer {
        name: "python zip, to a pipe",
        program: "python3",
        pack: "python3 \"$PY\" zip piped \"$1\" \"$2\"",
        unpack: UNZIP,
        soil: ZIP_SOIL,
        rules: UNZIPPED,
    },
    Packer {
        name: "python zip without Unix modes",
        program: "python3",
        pack: "python3 \"$PY\" zip nomodes \"$1\" \"$2\"",
        unpack: PY_UNZIP,
        soil: Soil { symlinks: false, ..ZIP_SOIL },
        rules: Rules { no_modes: true, ..TO_SECONDS },
    },
];

/// Those that make tars.
pub(crate) const TARS: &[Packer] = &[
    Packer {
        name: "GNU tar, v7",
        program: "tar",
        pack: "tar --format=v7 -cf \"$2\" -C \"$1\" .",
        unpack: GNU_UNTAR,
        soil: V7_SOIL,
        rules: TO_SECONDS,
    },
    Packer {
        name: "GNU tar, ustar",
        program: "tar",
        pack: "tar --format=ustar -cf \"$2\" -C \"$1\" .",
        unpack: GNU_UNTAR,
        soil: USTAR_SOIL,
        rules: TO_SECONDS,
    },
    Packer {
        name: "GNU tar, gnu",
        program: "tar",
        pack: "tar --format=gnu -cf \"$2\" -C \"$1\" .",
        unpack: GNU_UNTAR,
        soil: TAR_SOIL,
        rules: TO_SECONDS,
    },
    Packer {
        name: "GNU tar, pax",
        program: "tar",
        pack: "tar --format=posix -cf \"$2\" -C \"$1\" .",
        unpack: GNU_UNTAR,
        soil: TAR_SOIL,
        rules: TO_NANOSECONDS,
    },
    Packer {
        name: "bsdtar, v7",
        program: "bsdtar",
        pack: "bsdtar --format v7 -cf \"$2\" -C \"$1\" .",
        unpack: BSD_UNTAR,
        soil: V7_SOIL,
        rules: TO_SECONDS,
    },
    Packer {
        name: "bsdtar, ustar",
        program: "bsdtar",
        pack: "bsdtar --format ustar -cf \"$2\" -C \"$1\" .",
        unpack: BSD_UNTAR,
        soil: USTAR_SOIL,
        rules: TO_SECONDS,
    },
    Packer {
        name: "bsdtar, gnutar",
        program: "bsdtar",
        pack: "bsdtar --format gnutar -cf \"$2\" -C \"$1\" .",
        unpack: BSD_UNTAR,
        soil: TAR_SOIL,
        rules: TO_SECONDS,
    },
    Packer {
        name: "bsdtar, pax",
        program: "bsdtar",
        pack: "bsdtar --format pax -cf \"$2\" -C \"$1\" .",
        // Not bsdtar, which composes accents as it unpacks.
        unpack: PY_UNTAR,
        soil: Soil { bytes: false, ..TAR_SOIL },
        rules: TO_MICROSECONDS,
    },
    Packer {
        name: "7z tar",
        program: "7zz",
        pack: "cd \"$1\" && 7zz a -bd -bso0 -bsp0 -snl -ttar \"$2\" .",
        unpack: GNU_UNTAR,
        soil: Soil { bytes: false, hard_links: false, ..TAR_SOIL },
        rules: TO_SECONDS,
    },
    Packer {
        name: "python tar, ustar",
        program: "python3",
        pack: "python3 \"$PY\" tar ustar \"$1\" \"$2\"",
        unpack: PY_UNTAR,
        soil: USTAR_SOIL,
        rules: TO_SECONDS,
    },
    Packer {
        name: "python tar, gnu",
        program: "python3",
        pack: "python3 \"$PY\" tar gnu \"$1\" \"$2\"",
        unpack: GNU_UNTAR,
        soil: TAR_SOIL,
        rules: TO_SECONDS,
    },
    Packer {
        name: "python tar, pax",
        program: "python3",
        pack: "python3 \"$PY\" tar pax \"$1\" \"$2\"",
        unpack: GNU_UNTAR,
        soil: Soil { bytes: false, ..TAR_SOIL },
        rules: TO_MICROSECONDS,
    },
];

impl Packer {
    /// Packs a tree.
    #[track_caller]
    pub(crate) fn pack(&self, tree: &Path, archive: &Path) {
        shell(self.pack, tree, archive);
    }

    /// Unpacks an archive into an empty directory.
    #[track_caller]
    pub(crate) fn unpack(&self, archive: &Path, tree: &Path) {
        std::fs::create_dir_all(tree).expect("make a directory to unpack to");
        shell(self.unpack, tree, archive);
    }
}

impl Squeeze {
    /// Compresses a file. `pieces` has it compressed in two pieces, one behind the other, as
    /// parallel compressors do it.
    #[track_caller]
    pub(crate) fn squeeze(self, plain: &Path, packed: &Path, pieces: bool) {
        let program = match self {
            Squeeze::None => "cat",
            Squeeze::Gzip => "gzip -nc",
            Squeeze::Zstd => "zstd -qc",
            Squeeze::Xz => "xz -1c",
        };
        let script = if pieces {
            let half = "n=$(( $(stat -c %s \"$1\") / 3 ))";
            format!(
                "{half}; {{ head -c $n \"$1\" | {program}; tail -c +$((n + 1)) \"$1\" | {program}; }} > \"$2\""
            )
        } else {
            format!("{program} < \"$1\" > \"$2\"")
        };
        shell(&script, plain, packed);
    }
}

#[track_caller]
fn shell(script: &str, first: &Path, second: &Path) {
    let output = process::command("sh")
        .args(["-ec", script, "sh"])
        .args([first, second])
        .env("PY", concat!(env!("CARGO_MANIFEST_DIR"), "/tests/support/archives.py"))
        // Names are UTF-8, and the local times of zips are those of Greenwich.
        .envs([("LC_ALL", "C.UTF-8"), ("TZ", "UTC")])
        .output()
        .expect("run sh");
    let said = String::from_utf8_lossy(&output.stderr);
    assert!(
        output.status.success() && said.is_empty(),
        "{script}: {}, said: {said}",
        output.status
    );
}
