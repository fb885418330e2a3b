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

/// Why no credential matched, the most telling last. For the log only: the response does not say.
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

/// What is known of a delivery so far, shared by nested layers and the extractor.
#[derive(Debug, Default)]
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
    pub(crate) fn authenticated(&self, credential: usize) {
        self.update(|record| record.credential = Some(credential));
    }

    /// The layer refused the head.
    pub(crate) fn head_refused(&self, rejection: &Rejection, cause: Option<Cause>) {
        self.update(|record| {
            record.cause = cause;
            record.refusal = Some(rejection.into());
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

/// The extractor found no layer, so no guard may be there to emit.
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
    /// Refused by the outermost layer: nothing else records.
    Own(Record),
}

impl DeliveryGuard {
    pub(crate) fn new(state: Arc<DeliveryState>) -> Self {
        Self(Some(Source::Shared(state)))
    }

    pub(crate) fn unauthenticated(rejection: &Rejection, cause: Cause) -> Self {
        let refusal = Some(rejection.into());
        Self(Some(Source::Own(Record { cause: Some(cause), refusal, ..Record::default() })))
    }

    /// For a layer inside another one, which emits.
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
            Some(Source::Own(record)) => emit(&record, completion),
            Some(Source::Shared(state)) => {
                let record = *state.0.lock().unwrap_or_else(PoisonError::into_inner);
                emit(&record, completion);
            }
        }
    }
}

/// A timeout, a client that went away, or a panic of the handler.
impl Drop for DeliveryGuard {
    fn drop(&mut self) {
        self.emit(&Completion::Dropped);
    }
}

enum Completion<'a> {
    /// With this status, and the rejection that the response carries. It may be another one than
    /// was recorded: a layer between may have replaced the response.
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
    let refusal = rejection.map(Refusal::from).or(record.refusal);
    let outcome = match (completion, refusal.map(|refusal| refusal.code)) {
        // Logged where it was found.
        (Completion::Responded(..), Some(Code::MissingLayer)) => return,
        (_, Some(Code::Unauthorized)) => Outcome::Unauthenticated,
        (Completion::Dropped, _) => Outcome::Abandoned,
        (_, Some(Code::ServerError)) => Outcome::Failed,
        (_, Some(Code::OtherEvent)) => Outcome::OtherEvent,
        (_, Some(_)) => Outcome::Refused,
        (_, None) if record.envelope.is_some() && is_acknowledged => Outcome::Accepted,
        (_, None) if is_acknowledged => Outcome::Passed,
        (_, None) if record.envelope.is_none() && is_not_found(status) => Outcome::NotFound,
        (_, None) => Outcome::Failed,
    };
    let is_kept = rejection.is_some_and(Rejection::is_kept);
    let envelope = record.envelope.unwrap_or_default();
    // An event of another kind is not an opt-out, so none is lost with it.
    let is_other = record.refusal.is_some_and(|refusal| refusal.code == Code::OtherEvent);
    let last_attempt = if is_other { None } else { envelope.is_last_attempt };
    let is_lost = last_attempt == Some(true) && !is_acknowledged && !is_kept;
    let (level, message) = match outcome {
        // Whatever the outcome: the provider does not send the event again.
        _ if is_lost => {
            (Level::ERROR, "Last attempt failed: the opt-out is lost unless it was stored.")
        }
        Outcome::Accepted => (Level::DEBUG, "Delivery accepted."),
        Outcome::OtherEvent => (Level::DEBUG, "Authenticated event of another kind."),
        Outcome::Passed => (Level::DEBUG, "Authenticated request completed."),
        Outcome::Unauthenticated => (Level::INFO, "Missing, invalid or duplicate credentials."),
        Outcome::NotFound => {
            (Level::WARN, "Authenticated request to a path or method without a handler.")
        }
        Outcome::Refused if is_kept => (Level::WARN, "Delivery refused; its opt-out is kept."),
        Outcome::Refused => (Level::WARN, "Delivery refused."),
        Outcome::Failed if is_acknowledged => {
            (Level::ERROR, "Delivery failed but was acknowledged: it is not sent again.")
        }
        Outcome::Failed if status.is_none_or(|status| status.is_server_error()) => {
            (Level::ERROR, "Delivery failed.")
        }
        Outcome::Failed => (Level::WARN, "Delivery failed."),
        Outcome::Abandoned => (Level::WARN, "Delivery dropped without a response."),
    };

    // A macro, because the level of an event is a constant of its callsite.
    macro_rules! event {
        ($level:expr) => {
            tracing::event!(
                target: TARGET,
                $level,
                outcome = outcome.as_str(),
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

#[derive(Clone, Copy)]
enum Outcome {
    Accepted,
    OtherEvent,
    Passed,
    Unauthenticated,
    NotFound,
    Refused,
    Failed,
    Abandoned,
}

impl Outcome {
    /// The closed set of the field `outcome`, with `misconfigured`.
    fn as_str(self) -> &'static str {
        match self {
            Self::Accepted => "accepted",
            Self::OtherEvent => "other_event",
            Self::Passed => "passed",
            Self::Unauthenticated => "unauthenticated",
            Self::NotFound => "not_found",
            Self::Refused => "refused",
            Self::Failed => "failed",
            Self::Abandoned => "abandoned",
        }
    }
}
