//! The table of results.

use crate::support::{Mounted, process};

/// What was measured so far.
#[derive(Default)]
pub(crate) struct Report {
    rows: Vec<Row>,
    /// The highest resident memory of any daemon, in KiB.
    peak: u64,
}

struct Row {
    what: String,
    ours: String,
    beside: String,
    target: String,
    /// `None` where there is no target.
    met: Option<bool>,
}

impl Report {
    /// Adds a row whose target is that `ours / beside` is at most `limit`.
    pub(crate) fn at_most(
        &mut self,
        what: &str,
        unit: &str,
        ours: f64,
        beside: (f64, &str),
        limit: f64,
    ) {
        let met = ours / beside.0 <= limit;
        self.ratio(what, unit, ours, beside, format!("at most {limit} x"), Some(met));
    }

    /// Adds a row whose target is that `ours / beside` is at least `limit`.
    pub(crate) fn at_least(
        &mut self,
        what: &str,
        unit: &str,
        ours: f64,
        beside: (f64, &str),
        limit: f64,
    ) {
        let met = ours / beside.0 >= limit;
        self.ratio(what, unit, ours, beside, format!("at least {limit} x"), Some(met));
    }

    /// Adds a row that is worth knowing and has no target.
    pub(crate) fn told(&mut self, what: &str, unit: &str, ours: f64, beside: (f64, &str)) {
        self.ratio(what, unit, ours, beside, "none".to_owned(), None);
    }

    fn ratio(
        &mut self,
        what: &str,
        unit: &str,
        ours: f64,
        (beside, name): (f64, &str),
        target: String,
        met: Option<bool>,
    ) {
        let ours = format!("{} {unit} ({:.2} x)", digits(ours), ours / beside);
        self.row(what, ours, format!("{} {unit}, {name}", digits(beside)), target, met);
    }

    /// Adds a row whose target is a figure of its own.
    pub(crate) fn below(&mut self, what: &str, unit: &str, ours: f64, beside: &str, limit: f64) {
        self.row(
            what,
            format!("{} {unit}", digits(ours)),
            beside.to_owned(),
            format!("at most {limit} {unit}"),
            Some(ours <= limit),
        );
    }

    /// Adds a row whose target is an exact count.
    pub(crate) fn exactly(&mut self, what: &str, ours: usize, expected: usize) {
        self.row(
            what,
            ours.to_string(),
            String::new(),
            expected.to_string(),
            Some(ours == expected),
        );
    }

    fn row(&mut self, what: &str, ours: String, beside: String, target: String, met: Option<bool>) {
        let verdict = verdict(met, "MISSED");
        eprintln!("  {what}: {ours}; {beside}; {target}: {verdict}");
        self.rows.push(Row { what: what.to_owned(), ours, beside, target, met });
    }

    /// Takes note of a daemon's highest memory; call before it ends.
    pub(crate) fn note(&mut self, mounted: &Mounted) {
        self.peak = self.peak.max(process::memory(mounted.pid()).1);
    }

    /// Adds the row of the highest memory of all daemons.
    pub(crate) fn memory(&mut self) {
        let peak = self.peak as f64 / 1024.0;
        self.below(
            "resident memory of the daemon, highest of all the above",
            "MiB",
            peak,
            "",
            64.0,
        );
    }

    /// Prints the table.
    pub(crate) fn print(&self) {
        println!("| what | cached-downloads | beside it | target | |");
        println!("|---|---|---|---|---|");
        for row in &self.rows {
            let verdict = verdict(row.met, "**missed**");
            println!(
                "| {} | {} | {} | {} | {verdict} |",
                row.what, row.ours, row.beside, row.target
            );
        }
    }

    /// Returns how many targets were missed.
    pub(crate) fn missed(&self) -> usize {
        self.rows.iter().filter(|row| row.met == Some(false)).count()
    }
}

fn verdict(met: Option<bool>, missed: &str) -> &str {
    match met {
        Some(true) => "met",
        Some(false) => missed,
        None => "",
    }
}

/// Shows a figure with about three digits.
fn digits(value: f64) -> String {
    match value {
        v if v >= 100.0 => format!("{v:.0}"),
        v if v >= 10.0 => format!("{v:.1}"),
        v => format!("{v:.2}"),
    }
}
