//! What came of all tests.

use std::collections::BTreeMap;
use std::fmt;

use crate::data::{Suite, Test};
use crate::play::Outcome;

#[derive(Default)]
pub(crate) struct Report {
    suites: BTreeMap<String, Counts>,
    /// Reason, then the tests.
    left_out: BTreeMap<&'static str, Vec<String>>,
    failures: Vec<String>,
}

#[derive(Clone, Copy, Default)]
struct Counts {
    required: Passes,
    optional: Passes,
    left_out: usize,
}

#[derive(Clone, Copy, Default)]
struct Passes {
    passed: usize,
    failed: usize,
}

impl Report {
    /// Notes a test that says nothing about a mount.
    pub(crate) fn left_out(&mut self, suite: &Suite, test: &Test, reason: &'static str) {
        self.suites.entry(suite.id.clone()).or_default().left_out += 1;
        let required = if test.required() { " (required)" } else { "" };
        self.left_out.entry(reason).or_default().push(format!("{}{required}", test.id));
    }

    /// Notes what came of a test.
    pub(crate) fn played(&mut self, suite: &Suite, test: &Test, outcome: Outcome) {
        let counts = self.suites.entry(suite.id.clone()).or_default();
        let passes = if test.required() { &mut counts.required } else { &mut counts.optional };
        match outcome {
            Outcome::Passed => passes.passed += 1,
            Outcome::Failed(why) => {
                passes.failed += 1;
                let kind = if test.required() { "required" } else { "optional" };
                self.failures.push(format!("{kind} {}: {why}", test.id));
            }
        }
    }

    /// Says whether required tests were played, and all passed.
    pub(crate) fn passes(&self) -> bool {
        let total = self.total();
        total.required.passed > 0 && total.required.failed == 0
    }

    fn total(&self) -> Counts {
        self.suites.values().fold(Counts::default(), |mut sum, counts| {
            for (into, from) in
                [(&mut sum.required, counts.required), (&mut sum.optional, counts.optional)]
            {
                into.passed += from.passed;
                into.failed += from.failed;
            }
            sum.left_out += counts.left_out;
            sum
        })
    }
}

impl fmt::Display for Report {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let row = |f: &mut fmt::Formatter<'_>, name: &str, counts: &Counts| {
            let Counts { required, optional, left_out } = counts;
            writeln!(
                f,
                "{name:<18} {:>6} {:>6} | {:>6} {:>6} | {left_out:>6}",
                required.passed, required.failed, optional.passed, optional.failed
            )
        };
        writeln!(f, "{:<18} {:>13} | {:>13} |", "", "required", "optional")?;
        writeln!(f, "{:<18} passed failed | passed failed | not applicable", "suite")?;
        for (name, counts) in &self.suites {
            row(f, name, counts)?;
        }
        row(f, "all", &self.total())?;
        writeln!(f, "\nnot applicable:")?;
        for (reason, tests) in &self.left_out {
            writeln!(f, "{} tests: {reason}\n    {}", tests.len(), tests.join(", "))?;
        }
        writeln!(f, "\nfailed:")?;
        let mut failures = self.failures.clone();
        failures.sort();
        failures.iter().try_for_each(|failure| writeln!(f, "    {failure}"))
    }
}
