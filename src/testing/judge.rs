//! Whether an answer is right, and what is likely wrong if it is not.

use std::{borrow::Cow, fmt, sync::atomic::Ordering};

use http::{
    HeaderMap, StatusCode,
    header::{CONTENT_TYPE, WWW_AUTHENTICATE},
};
use serde_json::Value;

use super::{
    Finding,
    probe::{Expected, Probe},
};
use crate::Code;

/// What came back, as far as it matters.
pub(super) enum Answer {
    Response(Head),
    /// The service, or the answer's body, returned an error.
    Error,
    Panic,
}

pub(super) struct Head {
    status: StatusCode,
    /// The contract's code, if the body has one.
    code: Option<&'static str>,
    pointer: Option<String>,
    /// Whether it is called problem details.
    is_typed: bool,
    /// Whether it is problem details with that code, and the status of the answer.
    is_problem: bool,
    has_challenge: bool,
}

impl Answer {
    pub(super) fn read(status: StatusCode, headers: &HeaderMap, body: &[u8]) -> Self {
        let body: Value = serde_json::from_slice(body).unwrap_or_default();
        // What else an answer has for a code is not repeated: it may hold anything.
        let code = Code::ALL.iter().map(|code| code.as_str()).find(|code| body["code"] == *code);
        let pointer = body["pointer"].as_str().map(str::to_owned);
        let content_type = headers.get(CONTENT_TYPE).map(http::HeaderValue::as_bytes);
        let is_typed =
            content_type.is_some_and(|value| value.starts_with(b"application/problem+json"));
        let is_problem = code.is_some() && body["status"] == status.as_u16() && is_typed;
        let has_challenge = headers.contains_key(WWW_AUTHENTICATE);
        Self::Response(Head { status, code, pointer, is_typed, is_problem, has_challenge })
    }

    /// The provider takes it for an acknowledgement, and forgets the event.
    fn is_acknowledgement(&self) -> bool {
        matches!(self, Self::Response(head) if head.status.is_success())
    }

    fn is(&self, status: u16, code: &str, pointer: Option<&str>) -> bool {
        let Self::Response(head) = self else { return false };
        head.is_problem
            && head.status == status
            && head.code == Some(code)
            && head.pointer.as_deref() == pointer
    }
}

impl fmt::Display for Answer {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let head = match self {
            Self::Response(head) => head,
            Self::Error => return f.write_str("an error of the service"),
            Self::Panic => return f.write_str("a panic"),
        };
        write!(f, "{}", head.status.as_u16())?;
        match head.code {
            Some(code) if head.is_problem => write!(f, " {code}")?,
            Some(code) if !head.is_typed => {
                write!(f, " {code}, but not as application/problem+json")?;
            }
            Some(code) => write!(f, " with the problem details of {code}")?,
            None if !head.status.is_success() => f.write_str(" without problem details")?,
            None => {}
        }
        if head.status == StatusCode::UNAUTHORIZED && !head.has_challenge {
            f.write_str(" without WWW-Authenticate")?;
        }
        Ok(())
    }
}

pub(super) struct Judge {
    over_a_socket: bool,
    /// Whether refusals seem to become acknowledgements on their way out.
    turns_refusals: bool,
    /// Why any forged delivery gets in, if any does: then the details of each do not matter.
    open: Option<Cow<'static, str>>,
}

impl Judge {
    pub(super) fn new(over_a_socket: bool) -> Self {
        Self { over_a_socket, turns_refusals: false, open: None }
    }

    pub(super) fn judge(&mut self, probe: &Probe, answer: &Answer) -> Option<Finding> {
        let was_read = probe.read.load(Ordering::Relaxed) && !self.over_a_socket;
        let mistake = match probe.expected {
            Expected::Acknowledged if self.is_dropped(probe, answer) => DROPPED.into(),
            Expected::Acknowledged if answer.is_acknowledgement() => return None,
            Expected::AcknowledgedOrOther
                if answer.is_acknowledgement() || answer.is(400, "other_event", Some("/name")) =>
            {
                return None;
            }
            Expected::Acknowledged | Expected::AcknowledgedOrOther => refused(probe, answer),
            Expected::Unauthorized => {
                if answer.is_acknowledgement() {
                    self.turns_refusals |= !was_read && !self.over_a_socket;
                    if GENERAL.contains(&&*probe.name) {
                        self.open.get_or_insert_with(|| probe.hint.clone());
                    }
                }
                self.forged(probe, answer, was_read)?
            }
            Expected::Refused(status, code, pointer) if answer.is(status, code, pointer) => {
                return None;
            }
            Expected::Refused(status, code, _) => self.malformed(probe, answer, status, code),
        };
        Some(finding(probe, answer, mistake))
    }

    /// Whether a good delivery is acknowledged that nobody has read.
    fn is_dropped(&self, probe: &Probe, answer: &Answer) -> bool {
        answer.is_acknowledgement() && !probe.read.load(Ordering::Relaxed) && !self.over_a_socket
    }

    fn forged(&self, probe: &Probe, answer: &Answer, was_read: bool) -> Option<Cow<'static, str>> {
        let head = match answer {
            Answer::Response(head) => head,
            Answer::Error => return Some(ERROR.into()),
            Answer::Panic => return Some(PANIC.into()),
        };
        let right = answer.is(401, "unauthorized", None);
        Some(match head.status.as_u16() {
            200..300 if shows_a_refusal(head) => TURNED.into(),
            200..300 if !was_read && !self.over_a_socket => UNREAD.into(),
            200..300 => {
                let why = self.open.as_ref().unwrap_or(&probe.hint);
                let or = if self.over_a_socket { OR_ANOTHER_ROUTE } else { "" };
                format!("{GETS_IN}{why}{or}").into()
            }
            401 if !right => REWRITTEN.into(),
            401 if !head.has_challenge => NO_CHALLENGE.into(),
            401 if was_read => READ.into(),
            401 => return None,
            400 | 413 | 415 | 422 => JUDGED_FIRST.into(),
            429 => LIMITED.into(),
            500.. => FAILS_ON_FORGED.into(),
            _ => OTHER_CHECK.into(),
        })
    }

    fn malformed(
        &self,
        probe: &Probe,
        answer: &Answer,
        status: u16,
        code: &str,
    ) -> Cow<'static, str> {
        let head = match answer {
            Answer::Response(head) => head,
            Answer::Error => return ERROR.into(),
            Answer::Panic => return PANIC.into(),
        };
        match head.status.as_u16() {
            200..300 if self.turns_refusals || shows_a_refusal(head) => TURNED.into(),
            200..300 => probe.hint.clone(),
            413 => BODY_LIMIT_LAYER.into(),
            415 | 422 => JSON_EXTRACTOR.into(),
            429 => LIMITED.into(),
            500.. => WRAPPED.into(),
            given if given == status && !head.is_problem => NO_PROBLEM.into(),
            given if given == status && head.code != Some(code) => match head.code {
                Some("body_too_large") => TOO_SMALL.into(),
                _ => OTHER_BODY.into(),
            },
            given if given == status => OTHER_POINTER.into(),
            _ => OTHER_CHECK.into(),
        }
    }

    /// The first delivery of all, on which the others depend.
    pub(super) fn first(&self, probe: &Probe, answer: &Answer) -> Option<Finding> {
        let mistake = match answer {
            _ if self.is_dropped(probe, answer) => DROPPED,
            _ if answer.is_acknowledgement() => return None,
            Answer::Response(head) => first_refused(head),
            Answer::Error => ERROR,
            Answer::Panic => PANIC,
        };
        let mistake = format!("{mistake} (the probes that need a good delivery were not sent)");
        Some(finding(probe, answer, mistake.into()))
    }

    /// While nothing good gets in, all that a forged delivery can show is that it does.
    pub(super) fn only_forged(&mut self, probe: &Probe, answer: &Answer) -> Option<Finding> {
        self.judge(probe, answer).filter(|_| answer.is_acknowledgement())
    }
}

/// Whether an acknowledgement still looks like a refusal.
fn shows_a_refusal(head: &Head) -> bool {
    head.code.is_some() || head.has_challenge
}

/// How the gravest mistake begins.
pub(super) const GETS_IN: &str = "A FORGED EVENT GETS IN: ";

/// The probes that get in only if many others do.
const GENERAL: [&str; 2] = ["no_credential", "secret_wrong"];

fn finding(probe: &Probe, answer: &Answer, mistake: Cow<'static, str>) -> Finding {
    Finding {
        probe: probe.name.clone(),
        expected: probe.expected.to_string(),
        answer: answer.to_string(),
        mistake,
    }
}

fn first_refused(head: &Head) -> &'static str {
    match (head.status.as_u16(), head.code) {
        (_, Some("missing_layer")) => MISSING_LAYER,
        (401, Some("unauthorized")) => {
            "the layer does not accept the credential that the suite was given: another secret, or \
             another place; or a middleware outside takes the header or the query away, or changes it"
        }
        (403, Some("forbidden")) => {
            "a check of `WebhookAuth::require` said no: put on the request what it looks at, by \
             `.on_request(..)`"
        }
        (403, Some("foreign_account")) => {
            "the layer does not accept the account of the events: name yours, as in `allow_accounts`, by \
             `.accounts(..)`"
        }
        (400, Some("content_type")) => "a middleware takes `Content-Type` away, or changes it",
        (400, Some("body_too_large")) => TOO_SMALL,
        (400, Some(_)) => {
            "a middleware eats or rewrites the body before the extractor reads it: hand on the bytes as \
             they came"
        }
        (_, Some("server_error")) => {
            "the handler failed: the log has its error. Does the test give it all that it needs (a \
             database, state)?"
        }
        (404, _) => {
            "there is no route at the path that the suite was given: compare it with that of the \
             route, and with the prefix of a `nest` (or the handler answers 404)"
        }
        (405, _) => "the route does not take the provider's method: use `post(..)`",
        (401 | 403, _) => OTHER_CHECK,
        (413, _) => BODY_LIMIT_LAYER,
        (400, _) => {
            "something other than `UnsubscribeEvent` answers 400: a check of the head (CSRF, `Host`), another \
             extractor of the handler, or `axum::Json`: leave this path out of the check, or put on the \
             request what it looks at, by `.on_request(..)`, and take `UnsubscribeEvent`"
        }
        (415 | 422, _) => JSON_EXTRACTOR,
        (429, _) => LIMITED,
        (300..400, _) => REDIRECT,
        (408 | 503 | 504, _) => {
            "a timeout or a limit of the load answers in the handler's place: does the test give the handler \
             all that it waits for (a database, a permit)?"
        }
        _ => {
            "the handler or a middleware failed or panicked, with an answer that is not the contract's: return \
             `Result<Received, ServerError>`; or an extractor lacks what a server or a layer adds \
             (`ConnectInfo`, an `Extension`): add it, or put it on the request by `.on_request(..)`"
        }
    }
}

/// Why a good delivery was not acknowledged.
fn refused(probe: &Probe, answer: &Answer) -> Cow<'static, str> {
    let head = match answer {
        Answer::Response(head) => head,
        Answer::Error => return ERROR.into(),
        Answer::Panic => return PANIC.into(),
    };
    match (head.status.as_u16(), head.code) {
        (_, Some("body_too_large")) => TOO_SMALL.into(),
        (413, _) => BODY_LIMIT_LAYER.into(),
        (415 | 422, _) => JSON_EXTRACTOR.into(),
        (429, _) => LIMITED.into(),
        (300..400, _) => REDIRECT.into(),
        _ => probe.hint.clone(),
    }
}

const ERROR: &str = "the service returns an error instead of an answer, which breaks the connection: \
                     turn errors into answers (in axum by `HandleErrorLayer`)";
const PANIC: &str = "the host panics, which breaks the connection: return a `ServerError` instead";
const MISSING_LAYER: &str = "the route is not behind the layer: it was added or merged after `.layer(auth)`, or never had it: \
     put it on the route itself, `post(handler).layer(auth)`; or a middleware between the two makes a new \
     request without the extensions of the old one: hand them on";
const DROPPED: &str = "a good delivery is acknowledged that nobody has read, and its opt-out is lost: a fallback, another \
     route (compare the path) or a middleware answers in the handler's place, or the handler reads the \
     body after its answer";
const TURNED: &str = "an error handler or a middleware turns refusals into acknowledgements, and the provider forgets \
     what was refused: let the answers of `Rejection` pass as they are";
const UNREAD: &str = "A FORGED EVENT IS ACKNOWLEDGED, unread: an error handler or a middleware turns refusals into \
     acknowledgements (let the answers of `Rejection` pass as they are), or nothing asks for the \
     credential and the body is read later";
const OR_ANOTHER_ROUTE: &str =
    "; or a fallback or another route answers everything with 200 (compare the path)";
const REWRITTEN: &str = "the refusal is not the contract's: an error handler or a middleware rewrites what `WebhookAuth` \
     answers, or another check stands in its place";
const NO_CHALLENGE: &str = "a middleware strips `WWW-Authenticate` from the 401: let the answers of `WebhookAuth` pass as \
     they are";
const READ: &str = "a middleware reads the body of requests that nobody has authenticated, so anybody can make the \
     host buffer: put it inside `WebhookAuth` (after it in a `ServiceBuilder`); if the app is a client of \
     a running server, say so by `.over_a_socket()`";
const JUDGED_FIRST: &str = "the body or its type is judged before the credential: put `WebhookAuth` outside (first in a \
     `ServiceBuilder`), and take `UnsubscribeEvent` instead of `axum::Json`";
const LIMITED: &str = "a limit of the rate refuses deliveries, and after four attempts an event is gone: let it queue \
     instead, or leave it out in this test";
const FAILS_ON_FORGED: &str = "the host fails on a request that it should refuse: the check of the \
                               credential comes too late: put `WebhookAuth` outside";
const OTHER_CHECK: &str = "a check other than `WebhookAuth` answers before it (CSRF, sessions, a firewall): leave this path \
     out of it";
const TOO_SMALL: &str = "the limit of the body is smaller than a good event with a long text (some 2,500 bytes): raise it \
     (`DefaultBodyLimit`)";
const BODY_LIMIT_LAYER: &str = "`RequestBodyLimitLayer`, or the extractor `Bytes`, answers 413 by itself: limit the body by axum's \
     `DefaultBodyLimit` and take `UnsubscribeEvent`, whose refusal is the contract's";
const JSON_EXTRACTOR: &str = "the handler takes `axum::Json` or decodes by itself, and answers what is not the contract's: take \
     `UnsubscribeEvent`";
const WRAPPED: &str = "a refusal becomes a failure of the host's: the handler wraps the `Rejection` in an error of its \
     own: return it as it is, by `?` into a `ServerError`";
const NO_PROBLEM: &str = "the refusal lacks the contract's problem details: an error handler or a middleware rewrites it, or \
     the handler takes `axum::Json` or `Bytes` instead of `UnsubscribeEvent`";
const OTHER_BODY: &str = "it is refused for another reason, so the extractor got something else than was sent: a middleware \
     rewrites the body or its type";
const OTHER_POINTER: &str =
    "another field is blamed than the one at fault: a middleware rewrites the body, or the answer";
const REDIRECT: &str = "a middleware redirects (to a login, another host, https, a path without a slash), which the provider \
     does not follow: leave this path out of it";
