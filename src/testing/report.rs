//! What a suite has found.

use std::{borrow::Cow, fmt};

use super::judge::GETS_IN;

/// What [`conformance`](super::conformance) has found.
///
/// As text it names each mistake once, the gravest first, with a line for each probe that shows it:
///
/// ```
/// # use axum::{Json, Router, routing::post};
/// # use unsubscribe_webhook::{Credential, Received, UnsubscribeEvent, testing};
/// # #[tokio::main(flavor = "current_thread")]
/// # async fn main() -> Result<(), unsubscribe_webhook::ConfigError> {
/// # let credential = Credential::token("s3cr3t")?;
/// // No layer, and `Json` in place of the extractor.
/// let app: Router =
///     Router::new().route("/hook", post(async |_: Json<UnsubscribeEvent>| Received));
///
/// let report = testing::conformance(app, "/hook", &credential).await;
/// assert!(!report.is_clean());
/// let finding = &report.findings()[0];
/// assert_eq!(finding.probe(), "no_credential");
/// assert_eq!(finding.expected(), "401 unauthorized");
/// assert_eq!(finding.answer(), "200");
/// assert!(finding.mistake().starts_with("A FORGED EVENT GETS IN: nothing asks for the credential"));
/// assert!(report.to_string().contains("\n  - no_credential: expected 401 unauthorized, got 200"));
/// # Ok(())
/// # }
/// ```
#[derive(Clone, Debug)]
#[must_use = "a report that nobody looks at finds nothing: call `assert_clean`"]
pub struct Report {
    pub(super) probes: usize,
    pub(super) findings: Vec<Finding>,
}

impl Report {
    /// Whether every probe was answered as it should be.
    #[must_use]
    pub fn is_clean(&self) -> bool {
        self.findings.is_empty()
    }

    /// What was answered wrongly, in the order in which it was sent.
    #[must_use]
    pub fn findings(&self) -> &[Finding] {
        &self.findings
    }

    /// How many requests were sent.
    #[must_use]
    pub fn probes(&self) -> usize {
        self.probes
    }

    /// Ends a test that has findings.
    ///
    /// # Panics
    ///
    /// With the report as its text, if there is a finding.
    #[track_caller]
    pub fn assert_clean(&self) {
        assert!(self.is_clean(), "the host breaks the webhook's contract\n{self}");
    }
}

/// Each mistake once, and below it a line for each finding. A forged event that gets in comes first.
impl fmt::Display for Report {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let count = |count: usize, what: &str| match count {
            1 => format!("1 {what}"),
            _ => format!("{count} {what}s"),
        };
        write!(f, "{}, ", count(self.probes, "probe"))?;
        f.write_str(&count(self.findings.len(), "finding"))?;
        let (grave, others): (Vec<_>, Vec<_>) =
            self.findings.iter().partition(|finding| finding.mistake.starts_with(GETS_IN));
        let mut named: Vec<&str> = Vec::new();
        for Finding { mistake, .. } in grave.into_iter().chain(others) {
            if named.contains(&&**mistake) {
                continue;
            }
            named.push(mistake);
            write!(f, "\n{mistake}")?;
            for finding in self.findings.iter().filter(|finding| finding.mistake == *mistake) {
                write!(f, "\n  - {}: {}", finding.probe, finding.difference())?;
            }
        }
        Ok(())
    }
}

/// A probe that was answered wrongly, and the mistake that is likely behind it.
///
/// None of its texts holds the secret, or anything else of a request or an answer but the status
/// and a code of the contract.
#[derive(Clone, Debug)]
pub struct Finding {
    pub(super) probe: Cow<'static, str>,
    pub(super) expected: String,
    pub(super) answer: String,
    pub(super) mistake: Cow<'static, str>,
}

impl Finding {
    /// The name of the probe, such as `no_credential` or `missing_field:/data/phone`.
    #[must_use]
    pub fn probe(&self) -> &str {
        &self.probe
    }

    /// The answer that the contract demands: `401 unauthorized`.
    #[must_use]
    pub fn expected(&self) -> &str {
        &self.expected
    }

    /// The answer that came: `200`, or `an error of the service`.
    #[must_use]
    pub fn answer(&self) -> &str {
        &self.answer
    }

    /// What is likely wrong, and what to do.
    #[must_use]
    pub fn mistake(&self) -> &str {
        &self.mistake
    }

    fn difference(&self) -> String {
        format!("expected {}, got {}", self.expected, self.answer)
    }
}

impl fmt::Display for Finding {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}: {}: {}", self.probe, self.difference(), self.mistake)
    }
}
