//! What the log tells of a delivery: one event, once its answer is known.
//!
//! A layer that refuses tells at once. Of a request that passed, the extractor notes its verdict in
//! the proof, and the outermost layer tells when the answer comes by. (`untold.rs` stands in for
//! this file without the feature `tracing`.)

use std::{
    error::Error,
    sync::{Mutex, PoisonError},
};

use http::{Response, StatusCode};
use tracing::Level;

use crate::{Authenticated, Rejection, UnsubscribeEvent, decode::exact::Envelope};

/// The crate's name, so that a host's filter holds however the files are called.
const TARGET: &str = "unsubscribe_webhook";

/// What is noted of an authentic delivery on its way.
#[derive(Debug, Default)]
pub(crate) struct Notes(Mutex<Option<Verdict>>);

#[derive(Debug)]
struct Verdict {
    credential: usize,
    refusal: Option<Refusal>,
    envelope: Envelope,
}

#[derive(Clone, Copy, Debug)]
struct Refusal {
    code: &'static str,
    pointer: Option<&'static str>,
}

impl From<&Rejection> for Refusal {
    fn from(rejection: &Rejection) -> Self {
        Self { code: rejection.code(), pointer: rejection.pointer() }
    }
}

/// The extractor found no proof, so no layer may be there to tell.
pub(crate) fn missing_layer(rejection: &Rejection) {
    tracing::error!(
        target: TARGET,
        outcome = "misconfigured",
        status = rejection.status().as_u16(),
        code = rejection.code(),
        "{}",
        rejection.detail()
    );
}

/// A layer found no right credential.
pub(crate) fn unauthenticated(outer: Option<&Authenticated>, rejection: &Rejection) {
    match outer {
        Some(outer) => outer.head_refused(rejection),
        None => tell(None, None, &Ending::Answered(rejection.status(), Some(rejection))),
    }
}

/// The extractor refused the body, of which this has arrived. Its envelope is read as far as it
/// goes: a last attempt must be known as one.
pub(crate) fn body_refused(proof: &Authenticated, rejection: &Rejection, arrived: &[u8]) {
    // Of events of another kind there may be many, and none is an opt-out.
    let is_read = !rejection.is_other_event() || tracing::enabled!(target: TARGET, Level::DEBUG);
    proof.note(Verdict {
        credential: proof.credential(),
        refusal: Some(rejection.into()),
        envelope: if is_read { Envelope::of(arrived) } else { Envelope::default() },
    });
}

/// The extractor hands the event to the handler.
pub(crate) fn event_accepted(proof: &Authenticated, event: &UnsubscribeEvent) {
    proof.note(Verdict {
        credential: proof.credential(),
        refusal: None,
        envelope: Envelope {
            id: Some(event.id),
            attempt_number: event.attempt_number,
            attempts_total: event.attempts_total,
        },
    });
}

impl Authenticated {
    fn head_refused(&self, rejection: &Rejection) {
        self.note(Verdict {
            credential: self.credential(),
            refusal: Some(rejection.into()),
            envelope: Envelope::default(),
        });
    }

    /// In the outermost proof, for its layer tells.
    fn note(&self, verdict: Verdict) {
        *self.outermost().notes().0.lock().unwrap_or_else(PoisonError::into_inner) = Some(verdict);
    }

    fn verdict(&self) -> Option<Verdict> {
        self.notes().0.lock().unwrap_or_else(PoisonError::into_inner).take()
    }
}

/// Tells of a request that passed, once: with its answer, or when it is dropped without one.
#[derive(Debug)]
pub(crate) struct Report {
    /// `None` once it is told, and below another layer.
    proof: Option<Authenticated>,
}

impl Report {
    pub(crate) fn of(proof: &Authenticated) -> Self {
        Self { proof: proof.is_outermost().then(|| proof.clone()) }
    }

    /// The host's own check said no.
    pub(crate) fn forbidden(&mut self, proof: &Authenticated, rejection: &Rejection) {
        proof.head_refused(rejection);
        self.tell(&Ending::Answered(rejection.status(), Some(rejection)));
    }

    pub(crate) fn answered<B, E>(&mut self, answer: &Result<Response<B>, E>) {
        self.tell(&match answer {
            Ok(answer) => Ending::Answered(answer.status(), answer.extensions().get()),
            Err(_) => Ending::Failed,
        });
    }

    fn tell(&mut self, ending: &Ending<'_>) {
        if let Some(proof) = self.proof.take() {
            let verdict = proof.verdict();
            let credential = verdict.as_ref().map_or(proof.credential(), |it| it.credential);
            tell(Some(credential), verdict.as_ref(), ending);
        }
    }
}

/// A timeout, a client that went away, a panic of the handler.
impl Drop for Report {
    fn drop(&mut self) {
        self.tell(&Ending::Dropped);
    }
}

/// How a delivery ended.
enum Ending<'a> {
    /// With this status, and the rejection that the answer carries: another layer may have put
    /// another answer in the place of a refusal.
    Answered(StatusCode, Option<&'a Rejection>),
    /// The inner service failed instead of answering.
    Failed,
    Dropped,
}

fn tell(credential: Option<usize>, verdict: Option<&Verdict>, ending: &Ending<'_>) {
    let (status, rejection) = match *ending {
        Ending::Answered(status, rejection) => (Some(status), rejection),
        Ending::Failed | Ending::Dropped => (None, None),
    };
    let refusal = rejection.map(Refusal::from).or(verdict.and_then(|verdict| verdict.refusal));
    let outcome = match (ending, refusal.map(|refusal| refusal.code)) {
        (Ending::Dropped, _) => Outcome::Abandoned,
        // It was told where it was found.
        (_, Some("missing_layer")) => return,
        (_, Some("unauthorized")) => Outcome::Unauthenticated,
        (_, Some("server_error")) => Outcome::Failed,
        (_, Some("other_event")) => Outcome::OtherEvent,
        (_, Some(_)) => Outcome::Refused,
        (_, None) if !is_acknowledged(status) => Outcome::Failed,
        (_, None) if verdict.is_some() => Outcome::Accepted,
        (_, None) => Outcome::Passed,
    };
    let envelope = verdict.map(|verdict| &verdict.envelope);
    // An event of another kind is no opt-out, so none is lost with it.
    let last_attempt = verdict
        .filter(|verdict| verdict.refusal.is_none_or(|refusal| refusal.code != "other_event"))
        .and_then(|verdict| verdict.envelope.is_last_attempt());
    let is_lost = last_attempt == Some(true) && !is_acknowledged(status);
    let (level, message) = outcome.words(status, is_lost);

    // A macro, because the level of an event is a constant of its place in the code.
    macro_rules! event {
        ($level:expr) => {
            tracing::event!(
                target: TARGET,
                $level,
                outcome = outcome.name(),
                status = status.map(|status| status.as_u16()),
                code = refusal.map(|refusal| refusal.code),
                pointer = refusal.and_then(|refusal| refusal.pointer),
                credential,
                last_attempt,
                attempt_number = envelope.and_then(Envelope::plausible_attempt),
                id = envelope.and_then(|envelope| envelope.id).map(tracing::field::display),
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

/// The provider does not send the event again.
fn is_acknowledged(status: Option<StatusCode>) -> bool {
    status.is_some_and(|status| status.is_success())
}

#[derive(Clone, Copy)]
enum Outcome {
    Accepted,
    OtherEvent,
    Passed,
    Unauthenticated,
    Refused,
    Failed,
    Abandoned,
}

impl Outcome {
    /// The closed set of the field `outcome`.
    fn name(self) -> &'static str {
        match self {
            Self::Accepted => "accepted",
            Self::OtherEvent => "other_event",
            Self::Passed => "passed",
            Self::Unauthenticated => "unauthenticated",
            Self::Refused => "refused",
            Self::Failed => "failed",
            Self::Abandoned => "abandoned",
        }
    }

    fn words(self, status: Option<StatusCode>, is_lost: bool) -> (Level, &'static str) {
        match self {
            // Whatever else became of it: a handler's answer may be another service's refusal.
            _ if is_lost => {
                (Level::ERROR, "the last attempt failed: an opt-out is lost unless it was kept")
            }
            Self::Accepted => (Level::DEBUG, "a delivery was accepted"),
            Self::OtherEvent => (Level::DEBUG, "an authentic delivery is of another kind"),
            Self::Passed => (Level::DEBUG, "an authentic request was answered"),
            Self::Unauthenticated => {
                (Level::INFO, "a request without the right credential was refused")
            }
            Self::Refused => (Level::WARN, "an authentic delivery was refused"),
            // A failure that is acknowledged does not come again.
            Self::Failed if is_acknowledged(status) => {
                (Level::ERROR, "an authentic delivery failed and was acknowledged all the same")
            }
            Self::Failed if status.is_none_or(|status| status.is_server_error()) => {
                (Level::ERROR, "an authentic delivery failed")
            }
            Self::Failed => (Level::WARN, "an authentic delivery failed"),
            Self::Abandoned => (Level::WARN, "an authentic delivery was dropped unanswered"),
        }
    }
}
