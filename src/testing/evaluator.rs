//! Compares what happened with what a probe expects, and names the likely cause of a difference.

use std::{borrow::Cow, fmt};

use http::{
    HeaderMap, HeaderValue, StatusCode,
    header::{CONTENT_TYPE, WWW_AUTHENTICATE},
};
use serde_json::Value;

use super::{
    Finding, Report,
    probe::{Expected, FIRST, Probe},
};
use crate::Code;

pub(super) type Outcome = Result<Summary, Failure>;

/// Of a response.
pub(super) struct Summary {
    status: StatusCode,
    code: Option<Code>,
    pointer: Option<String>,
    /// Whether it is problem details of this code and status.
    is_problem: bool,
    has_challenge: bool,
}

/// The name and the likely cause of what happens instead of a response.
pub(super) struct Failure(&'static str, &'static str);

pub(super) const ERROR: Failure = Failure(
    "an error of the service",
    "the service returns an error, which breaks the connection; make a response of it, or call \
     `.over_network()` if it is a client",
);
pub(super) const PANIC: Failure =
    Failure("a panic", "the app panics, which breaks the connection; return a `ServerError`");

/// Only the status and the code are reported: the rest may contain anything.
impl fmt::Display for Summary {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}", self.status.as_u16())?;
        match self.code {
            Some(code) if self.is_problem => write!(f, " {code}")?,
            Some(code) => write!(f, " with invalid problem details of {code}")?,
            None if !self.status.is_success() => f.write_str(" without problem details")?,
            None => {}
        }
        if self.status == StatusCode::UNAUTHORIZED && !self.has_challenge {
            f.write_str(" without WWW-Authenticate")?;
        }
        Ok(())
    }
}

impl Summary {
    pub(super) fn new(status: StatusCode, headers: &HeaderMap, body: &[u8]) -> Self {
        let body: Value = serde_json::from_slice(body).unwrap_or_default();
        let code = Code::ALL.iter().copied().find(|code| body["code"] == code.as_str());
        let content_type = headers.get(CONTENT_TYPE).map(HeaderValue::as_bytes);
        let is_typed =
            content_type.is_some_and(|value| value.starts_with(b"application/problem+json"));
        Self {
            status,
            code,
            pointer: body["pointer"].as_str().map(str::to_owned),
            is_problem: code.is_some() && is_typed && body["status"] == status.as_u16(),
            has_challenge: headers.contains_key(WWW_AUTHENTICATE),
        }
    }

    fn is(&self, code: Code, pointer: Option<&str>) -> bool {
        self.is_problem
            && self.status == code.status()
            && self.code == Some(code)
            && self.pointer.as_deref() == pointer
            && (code != Code::Unauthorized || self.has_challenge)
    }

    /// Whether an acknowledgement looks like a refusal.
    fn was_refusal(&self) -> bool {
        self.code.is_some() || self.has_challenge
    }
}

/// The prefix of critical causes.
pub(super) const CRITICAL: &str = "CRITICAL: ";

/// A probe after its response; the suppression list is still to be checked.
pub(super) struct Sent {
    pub(super) probe: Probe,
    response: String,
    is_acknowledged: bool,
    has_finding: bool,
}

impl Sent {
    fn finding(&self, likely_cause: Cow<'static, str>) -> Finding {
        Finding {
            probe: self.probe.name.clone(),
            expected: self.probe.expected.to_string(),
            response: self.response.clone(),
            likely_cause,
        }
    }
}

#[derive(Default)]
pub(super) struct Evaluator {
    /// Whether something turns refusals into acknowledgements.
    rewrites_refusals: bool,
    /// The cause of all accepted forgeries, if there is one: causes of single ones are not reported then.
    accepts_forged: Option<&'static str>,
    /// Whether the first delivery was on the list.
    stores: bool,
    sent: usize,
    findings: Vec<Finding>,
    /// Bodies that break the contract and are acknowledged, although their opt-out can be read.
    departures: Vec<Finding>,
}

impl Evaluator {
    pub(super) fn evaluate(&mut self, probe: Probe, outcome: &Outcome) -> Sent {
        self.sent += 1;
        let is_acknowledged = outcome.as_ref().is_ok_and(|summary| summary.status.is_success());
        let (mut response, mut likely_cause) = match outcome {
            Ok(summary) => (summary.to_string(), self.likely_cause(&probe, summary)),
            Err(Failure(name, likely_cause)) => (name.to_string(), Some((*likely_cause).into())),
        };
        if probe.name == FIRST {
            likely_cause = likely_cause.map(|cause| format!("{cause} {NOT_SENT}").into());
        }
        response += match (probe.expected, outcome, probe.was_read()) {
            (Expected::Refused(code, pointer), Ok(summary), _)
                if summary.code == Some(code) && summary.pointer.as_deref() != pointer =>
            {
                ", another pointer"
            }
            (_, _, Some(false)) if is_acknowledged => ", body unread",
            (Expected::UNAUTHORIZED, _, Some(true)) if !is_acknowledged => ", body read",
            _ => "",
        };
        let has_finding = likely_cause.is_some();
        let sent = Sent { probe, response, is_acknowledged, has_finding };
        let is_refusal = matches!(sent.probe.expected, Expected::Refused(..));
        match likely_cause.map(|likely_cause| sent.finding(likely_cause)) {
            Some(_) if self.has_first_finding() && !is_acknowledged => {}
            Some(finding) if is_refusal && is_acknowledged && sent.probe.is_opt_out => {
                self.departures.push(finding);
            }
            finding => self.findings.extend(finding),
        }
        sent
    }

    pub(super) fn evaluate_list(&mut self, mut sent: Sent, is_suppressed: bool) {
        let Probe { expected, is_opt_out, .. } = sent.probe;
        self.stores |= sent.probe.name == FIRST && is_suppressed;
        let likely_cause = match (is_opt_out, is_suppressed, sent.is_acknowledged) {
            (true, false, true) if expected == Expected::Acknowledged && self.stores => {
                sent.probe.likely_cause
            }
            (true, false, true) => NOT_STORED,
            (true, false, false) if !sent.has_finding => REFUSED_NOT_STORED,
            (false, true, true) if sent.has_finding => return,
            (false, true, _) if expected == Expected::UNAUTHORIZED => FORGED_STORED,
            (false, true, _) => WRONGLY_STORED,
            _ => return,
        };
        sent.response += if is_suppressed { ", suppressed" } else { ", not suppressed" };
        let mut finding = sent.finding(likely_cause.into());
        finding.expected += if is_opt_out { ", suppressed" } else { ", not suppressed" };
        self.findings.push(finding);
    }

    /// Whether the first delivery failed: a forged one's only finding is then an acknowledgement.
    pub(super) fn has_first_finding(&self) -> bool {
        self.findings.first().is_some_and(|finding| finding.probe == FIRST)
    }

    pub(super) fn report(mut self) -> Report {
        let others = self.departures.len().saturating_sub(1);
        let mut departure = self.departures.into_iter().next();
        if let (Some(departure), 1..) = (&mut departure, others) {
            departure.response = format!("{}, and {others} more", departure.response);
        }
        self.findings.extend(departure);
        Report { probes: self.sent, findings: self.findings }
    }

    fn likely_cause(&mut self, probe: &Probe, summary: &Summary) -> Option<Cow<'static, str>> {
        match probe.expected {
            Expected::Acknowledged | Expected::OtherEvent if summary.status.is_success() => {
                (probe.was_read() == Some(false)).then(|| UNREAD.into())
            }
            Expected::OtherEvent if summary.is(Code::OtherEvent, Some("/name")) => None,
            Expected::UNAUTHORIZED => self.forged(probe, summary),
            Expected::Refused(code, pointer) if summary.is(code, pointer) => None,
            Expected::Refused(code, _) => Some(self.not_refused(probe, summary, code).into()),
            _ => Some(not_acknowledged(probe, summary).into()),
        }
    }

    fn forged(&mut self, probe: &Probe, summary: &Summary) -> Option<Cow<'static, str>> {
        let was_read = probe.was_read();
        if summary.status.is_success() {
            self.rewrites_refusals |= was_read == Some(false);
            if matches!(probe.name.as_str(), "no_credential" | "secret_wrong") {
                self.accepts_forged.get_or_insert(probe.likely_cause);
            }
        }
        Some(match summary.status.as_u16() {
            200..300 if summary.was_refusal() => STATUS_CHANGED.into(),
            200..300 if was_read == Some(false) => FORGED_UNREAD.into(),
            200..300 => {
                let cause = self.accepts_forged.unwrap_or(probe.likely_cause);
                let or = if was_read.is_none() { OR_FALLBACK } else { "" };
                format!("{FORGED_ACCEPTED}{cause}{or}").into()
            }
            _ if summary.is(Code::Unauthorized, None) => {
                return (was_read == Some(true)).then(|| BUFFERED.into());
            }
            401 => REWRITTEN.into(),
            400 | 413 | 415 | 422 | 500.. => LATE_CHECK.into(),
            _ => OTHER_CHECK.into(),
        })
    }

    fn not_refused(&self, probe: &Probe, summary: &Summary, code: Code) -> &'static str {
        match summary.status.as_u16() {
            200..300 if self.rewrites_refusals || summary.was_refusal() => STATUS_CHANGED,
            200..300 => probe.likely_cause,
            413 => BODY_LIMIT_LAYER,
            415 | 422 => OWN_DECODING,
            500.. => WRAPPED,
            status if status != code.status() => OTHER_CHECK,
            _ if !summary.is_problem => REWRITTEN,
            _ if summary.code == Some(Code::BodyTooLarge) => TOO_SMALL,
            _ => REQUEST_CHANGED,
        }
    }
}

/// Why a valid delivery is not acknowledged.
fn not_acknowledged(probe: &Probe, summary: &Summary) -> &'static str {
    match (summary.status.as_u16(), summary.code) {
        (_, Some(Code::BodyTooLarge)) => TOO_SMALL,
        (413, _) => BODY_LIMIT_LAYER,
        (415 | 422, _) => OWN_DECODING,
        (300..400 | 429, _) => OTHER_CHECK,
        _ if probe.name != FIRST => probe.likely_cause,
        (_, Some(Code::MissingLayer)) => MISSING_LAYER,
        (_, Some(Code::Unauthorized)) => OTHER_CREDENTIAL,
        (_, Some(Code::Forbidden)) => REQUIRE,
        (_, Some(Code::ForeignAccount)) => OTHER_ACCOUNT,
        (400, Some(_)) => REQUEST_CHANGED,
        (404, _) => {
            "there is no route at this path; compare it with the paths in `.route(..)` and `.nest(..)`"
        }
        (405, _) => "the route does not accept POST; use `post(..)`",
        (400 | 401 | 403 | 408 | 503 | 504, _) => OTHER_CHECK,
        _ => FAILED,
    }
}

const NOT_SENT: &str = "(the probes that need a good delivery were not sent)";
const FORGED_ACCEPTED: &str = "CRITICAL: a forged event is accepted: ";
const OR_FALLBACK: &str = "; or a fallback responds 200 to everything (compare the path)";
const FORGED_STORED: &str = "CRITICAL: a forged event is stored before the credential is checked; store it in a handler that takes \
     `UnsubscribeEvent`";
const FORGED_UNREAD: &str = "CRITICAL: a forged event is acknowledged: something turns refusals into acknowledgements, or nothing \
     checks the credential, and the body is read later; return the responses of `Rejection` unchanged";
const UNREAD: &str = "CRITICAL: an opt-out is lost: a fallback or another route responds (compare the path), or the body is \
     read after the response; read it before";
const NOT_STORED: &str = "CRITICAL: an opt-out is lost: it is acknowledged and not on the list; store it before the response, and \
     compare what `.suppressed(..)` queries";
const REFUSED_NOT_STORED: &str = "an opt-out is lost, although the refused body contains it; store `Rejection::opt_out()` and return \
     `rejection.kept()`, and pass the list of `allow_accounts` to `.accounts(..)`";
const WRONGLY_STORED: &str = "a number is stored that is not certainly an opt-out of an accepted account; store only what \
     `UnsubscribeEvent` or `Rejection::opt_out()` has";
const STATUS_CHANGED: &str = "something turns refusals into acknowledgements, so the provider does not send the deliveries again; return the \
     responses of `Rejection` unchanged";
const REWRITTEN: &str = "something rewrites the refusal, or responds first; return the responses of `WebhookAuth` and `Rejection` \
     unchanged";
const BUFFERED: &str = "a middleware reads the body of unauthenticated requests, so that anybody can fill the memory; put it \
     inside `WebhookAuth` (after it in a `ServiceBuilder`)";
const LATE_CHECK: &str = "the body is read, or the app fails, before the credential is checked; put `WebhookAuth` outside (first \
     in a `ServiceBuilder`) and take `UnsubscribeEvent`";
const OTHER_CHECK: &str = "something else responds first (CSRF, a session, a redirect, a rate or load limit, a timeout); exempt \
     this path, or add what it checks by `.map_request(..)`";
const TOO_SMALL: &str = "the body limit is smaller than an event with a long text (some 2,500 bytes); raise \
     `DefaultBodyLimit`";
const BODY_LIMIT_LAYER: &str = "`RequestBodyLimitLayer` or the extractor `Bytes` responds 413; use `DefaultBodyLimit` and take \
     `UnsubscribeEvent`";
const OWN_DECODING: &str =
    "the handler takes `axum::Json` or decodes by itself; take `UnsubscribeEvent`";
const WRAPPED: &str =
    "a refusal becomes a failure; return the `Rejection` as it is, by `?` into a `ServerError`";
const REQUEST_CHANGED: &str =
    "a middleware changes the body, its type or the response; pass all of them on unchanged";
const MISSING_LAYER: &str = "the route is not behind the layer; add `.layer(auth)` to the route itself, and keep the request's \
     extensions in every middleware between them";
const OTHER_CREDENTIAL: &str = "the app has another credential than the suite, or a middleware changes the header or the query";
const REQUIRE: &str = "a check of `WebhookAuth::require` rejects the request; add what it checks by `.map_request(..)`";
const OTHER_ACCOUNT: &str =
    "the layer does not allow the account; pass the list of `allow_accounts` to `.accounts(..)`";
const FAILED: &str = "the handler or a middleware failed, see the log; give it what it needs (a database, `ConnectInfo` by \
     `.map_request(..)`), and return `Result<Received, ServerError>`";
