//! What the suite found.

use std::{borrow::Cow, fmt};

use super::evaluator::CRITICAL;

/// At most this many probes are named for each likely cause.
const MAX_LINES: usize = 6;

/// The result of [`conformance`](super::conformance).
///
/// `Display` writes each likely cause once, critical ones first, and below it its probes.
#[derive(Clone, Debug)]
#[must_use = "call `assert_passed`"]
pub struct Report {
    pub(super) probes: usize,
    pub(super) findings: Vec<Finding>,
}

impl Report {
    /// Whether there is no finding.
    #[must_use]
    pub fn passed(&self) -> bool {
        self.findings.is_empty()
    }

    /// The findings, in the order in which they were made.
    #[must_use]
    pub fn findings(&self) -> &[Finding] {
        &self.findings
    }

    /// The number of requests that were sent.
    #[must_use]
    pub fn probes(&self) -> usize {
        self.probes
    }

    /// Fails the test if there is a finding.
    ///
    /// # Panics
    ///
    /// With the report as its message, if there is a finding.
    #[track_caller]
    pub fn assert_passed(&self) {
        assert!(self.passed(), "the app breaks the webhook's contract\n{self}");
    }
}

impl fmt::Display for Report {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let plural = |count| if count == 1 { "" } else { "s" };
        let (probes, findings) = (self.probes, self.findings.len());
        write!(f, "{probes} probe{}, {findings} finding{}", plural(probes), plural(findings))?;
        let mut causes: Vec<&str> = self.findings.iter().map(Finding::likely_cause).collect();
        causes.sort_by_key(|cause| !cause.starts_with(CRITICAL));
        for (index, cause) in causes.iter().enumerate() {
            if causes[..index].contains(cause) {
                continue;
            }
            write!(f, "\n{cause}")?;
            let of_cause = || self.findings.iter().filter(|finding| finding.likely_cause == *cause);
            for finding in of_cause().take(MAX_LINES) {
                write!(f, "\n  - {finding}")?;
            }
            let more = of_cause().skip(MAX_LINES).count();
            if more > 0 {
                write!(f, "\n  - and {more} more")?;
            }
        }
        Ok(())
    }
}

/// A probe that did not have the expected outcome.
///
/// Its strings never contain the secret, or any part of a request or response but a status and a code.
#[derive(Clone, Debug)]
pub struct Finding {
    pub(super) probe: String,
    pub(super) expected: String,
    pub(super) response: String,
    pub(super) likely_cause: Cow<'static, str>,
}

impl Finding {
    /// The name of the probe, such as `no_credential` or `missing_field:/data/phone`.
    #[must_use]
    pub fn probe(&self) -> &str {
        &self.probe
    }

    /// What the contract requires, such as `401 unauthorized`.
    #[must_use]
    pub fn expected(&self) -> &str {
        &self.expected
    }

    /// What happened, such as `200`, `200, body unread` or `a panic`.
    #[must_use]
    pub fn response(&self) -> &str {
        &self.response
    }

    /// What is likely wrong, and what to do.
    #[must_use]
    pub fn likely_cause(&self) -> &str {
        &self.likely_cause
    }
}

impl fmt::Display for Finding {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { probe, expected, response, .. } = self;
        write!(f, "{probe}: expected {expected}, got {response}")
    }
}
