//! The log: one event for each delivery, emitted when its response is known.
//!
//! The layer and the extractor record what they find in the [`DeliveryState`]; the guard in the
//! outermost layer's future emits the event when the response is ready, or when it is dropped.

use std::{
    error::Error,
    sync::{Arc, Mutex, PoisonError},
};

use http::{Response, StatusCode};
use tracing::Level;
use uuid::Uuid;

use crate::{Code, Rejection};

/// The crate's name, so that an app's filter does not depend on the modules.
const TARGET: &str = "unsubscribe_webhook";

/// Why no credential matched, the most specific reason last. In the log only, not in the response.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum Cause {
    Absent,
    Wrong,
    Duplicate,
}

impl Cause {
    fn as_str(self) -> &'static str {
        match self {
            Self::Absent => "absent",
            Self::Wrong => "wrong",
            Self::Duplicate => "duplicate",
        }
    }
}

/// What a body says about its own delivery.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct Envelope {
    pub(crate) id: Option<Uuid>,
    pub(crate) attempt_number: Option<i64>,
    pub(crate) is_last_attempt: Option<bool>,
}

/// What the layers and the extractor have recorded about a delivery.
#[derive(Debug)]
pub(crate) struct DeliveryState(Mutex<Record>);

#[derive(Clone, Copy, Debug, Default)]
struct Record {
    /// The index of the credential that matched.
    credential: Option<usize>,
    cause: Option<Cause>,
    refusal: Option<Refusal>,
    /// `None` unless the extractor ran.
    envelope: Option<Envelope>,
}

#[derive(Clone, Copy, Debug)]
struct Refusal {
    code: Code,
    pointer: Option<&'static str>,
}

impl From<&Rejection> for Refusal {
    fn from(rejection: &Rejection) -> Self {
        Self { code: rejection.code(), pointer: rejection.pointer() }
    }
}

impl DeliveryState {
    /// For a request that matched this credential.
    pub(crate) fn new(credential: usize) -> Self {
        Self(Mutex::new(Record { credential: Some(credential), ..Record::default() }))
    }

    /// A nested layer found this credential.
    pub(crate) fn authenticated(&self, credential: usize) {
        self.update(|record| record.credential = Some(credential));
    }

    /// The layer refused the head.
    pub(crate) fn head_refused(&self, code: Code, cause: Option<Cause>) {
        self.update(|record| {
            record.cause = cause;
            record.refusal = Some(Refusal { code, pointer: None });
        });
    }

    /// The extractor refused the body.
    pub(crate) fn body_refused(&self, rejection: &Rejection, envelope: Envelope) {
        self.update(|record| {
            record.refusal = Some(rejection.into());
            record.envelope = Some(envelope);
        });
    }

    /// The extractor hands the event to the handler.
    pub(crate) fn event_accepted(&self, envelope: Envelope) {
        self.update(|record| {
            record.refusal = None;
            record.envelope = Some(envelope);
        });
    }

    fn update(&self, change: impl FnOnce(&mut Record)) {
        change(&mut self.0.lock().unwrap_or_else(PoisonError::into_inner));
    }
}

/// The extractor found no layer, so there may be no guard that emits the event.
pub(crate) fn missing_layer(rejection: &Rejection) {
    tracing::error!(
        target: TARGET,
        outcome = "misconfigured",
        status = rejection.status().as_u16(),
        code = rejection.code().as_str(),
        "{}",
        rejection.detail()
    );
}

/// Emits the event of a delivery, once: with its response, or when it is dropped without one.
#[derive(Debug)]
pub(crate) struct DeliveryGuard(Option<Source>);

#[derive(Debug)]
enum Source {
    Shared(Arc<DeliveryState>),
    /// The outermost layer refused the request, so nothing else records an outcome.
    Unauthenticated(Cause),
}

impl DeliveryGuard {
    pub(crate) fn new(state: Arc<DeliveryState>) -> Self {
        Self(Some(Source::Shared(state)))
    }

    pub(crate) fn unauthenticated(cause: Cause) -> Self {
        Self(Some(Source::Unauthenticated(cause)))
    }

    /// For a nested layer: the outermost one emits the event.
    pub(crate) fn nested() -> Self {
        Self(None)
    }

    pub(crate) fn complete<B, E>(&mut self, response: &Result<Response<B>, E>) {
        self.emit(&match response {
            Ok(response) => Completion::Responded(response.status(), response.extensions().get()),
            Err(_) => Completion::Failed,
        });
    }

    fn emit(&mut self, completion: &Completion<'_>) {
        match self.0.take() {
            None => {}
            Some(Source::Unauthenticated(cause)) => {
                let refusal = Some(Refusal { code: Code::Unauthorized, pointer: None });
                emit(&Record { cause: Some(cause), refusal, ..Record::default() }, completion);
            }
            Some(Source::Shared(state)) => {
                // Copied, so that no lock is held while the subscriber runs.
                let record = *state.0.lock().unwrap_or_else(PoisonError::into_inner);
                emit(&record, completion);
            }
        }
    }
}

/// After a timeout, a disconnected client, or a panic in the handler.
impl Drop for DeliveryGuard {
    fn drop(&mut self) {
        self.emit(&Completion::Dropped);
    }
}

enum Completion<'a> {
    /// With this status, and the response's rejection, if it has one. It can differ from the
    /// recorded one, because a layer in between may have replaced the response.
    Responded(StatusCode, Option<&'a Rejection>),
    /// The inner service returned an error.
    Failed,
    Dropped,
}

fn emit(record: &Record, completion: &Completion<'_>) {
    let (status, rejection) = match *completion {
        Completion::Responded(status, rejection) => (Some(status), rejection),
        Completion::Failed | Completion::Dropped => (None, None),
    };
    let is_acknowledged = status.is_some_and(|status| status.is_success());
    let is_failure = status.is_none_or(|status| status.is_server_error());
    let refusal = rejection.map(Refusal::from).or(record.refusal);
    let is_kept = rejection.is_some_and(Rejection::is_kept);
    let envelope = record.envelope.unwrap_or_default();
    // All values of the field `outcome`, except `misconfigured`.
    let (outcome, level, message) = match (completion, refusal.map(|refusal| refusal.code)) {
        // Logged where it was found.
        (Completion::Responded(..), Some(Code::MissingLayer)) => return,
        (_, Some(Code::Unauthorized)) => {
            ("unauthenticated", Level::INFO, "Missing, invalid or duplicate credentials.")
        }
        (Completion::Dropped, _) => {
            ("abandoned", Level::WARN, "Delivery dropped without a response.")
        }
        // The app failed on its own, whatever the extractor found.
        _ if rejection.is_none() && is_failure => ("failed", Level::ERROR, "Delivery failed."),
        (_, Some(Code::OtherEvent)) => {
            ("other_event", Level::DEBUG, "Authenticated event of another kind.")
        }
        (_, Some(code)) if code != Code::ServerError => {
            let message = match (is_kept, is_acknowledged) {
                (true, _) => "Delivery refused; its opt-out is kept.",
                (false, true) => "Refused delivery was acknowledged: it is not sent again.",
                (false, false) => "Delivery refused.",
            };
            ("refused", Level::WARN, message)
        }
        (_, None) if is_acknowledged && record.envelope.is_some() => {
            ("accepted", Level::DEBUG, "Delivery accepted.")
        }
        (_, None) if is_acknowledged => {
            ("passed", Level::DEBUG, "Authenticated request completed.")
        }
        (_, None) if record.envelope.is_none() && is_not_found(status) => (
            "not_found",
            Level::WARN,
            "No handler for the path or method of an authenticated request.",
        ),
        _ if is_acknowledged => {
            ("failed", Level::ERROR, "Delivery failed but was acknowledged: it is not sent again.")
        }
        _ if is_failure => ("failed", Level::ERROR, "Delivery failed."),
        _ => ("failed", Level::WARN, "Delivery failed."),
    };
    // An event of another kind is not an opt-out, so none is lost with it.
    let is_other = record.refusal.is_some_and(|refusal| refusal.code == Code::OtherEvent);
    let last_attempt = if is_other { None } else { envelope.is_last_attempt };
    // Whatever the outcome: the provider does not send the event again.
    let (level, message) = if last_attempt == Some(true) && !is_acknowledged && !is_kept {
        (Level::ERROR, "Last attempt failed: the opt-out is lost unless it was stored.")
    } else {
        (level, message)
    };

    // A macro, because the level of an event is a constant of its callsite.
    macro_rules! event {
        ($level:expr) => {
            tracing::event!(
                target: TARGET,
                $level,
                outcome,
                status = status.map(|status| status.as_u16()),
                code = refusal.map(|refusal| refusal.code.as_str()),
                pointer = refusal.and_then(|refusal| refusal.pointer),
                cause = record.cause.map(Cause::as_str),
                credential = record.credential,
                kept = is_kept.then_some(true),
                last_attempt,
                // Not a phone number that came in the wrong field.
                attempt_number = envelope.attempt_number.filter(|number| *number < 1_000),
                id = envelope.id.map(tracing::field::display),
                error = rejection.and_then(Error::source),
                "{message}"
            )
        };
    }
    match level {
        Level::ERROR => event!(Level::ERROR),
        Level::WARN => event!(Level::WARN),
        Level::INFO => event!(Level::INFO),
        _ => event!(Level::DEBUG),
    }
}

fn is_not_found(status: Option<StatusCode>) -> bool {
    matches!(status, Some(StatusCode::NOT_FOUND | StatusCode::METHOD_NOT_ALLOWED))
}
