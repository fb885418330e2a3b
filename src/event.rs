//! The event's types, with the contract's names.

mod decode;
mod extract;
mod refused;

use std::{error::Error, fmt};

use serde::{Serialize, Serializer};
use uuid::{Uuid, fmt::Hyphenated};

use self::refused::RefusedBody;
use crate::{OptOut, Rejection, log::Envelope};

/// A checked `phone.unsubscribe` event: a person has unsubscribed a phone number.
///
/// As an axum extractor, it requires that the request passed
/// [`WebhookAuth`](crate::WebhookAuth), reads the body within the app's `DefaultBodyLimit`, and
/// refuses one that breaks the contract with a [`Rejection`].
///
/// - `Option<UnsubscribeEvent>` is `None` for an authenticated event of another kind. By default the
///   provider sends all events of an account to the same URL.
/// - `Result<UnsubscribeEvent, Rejection>` passes a refusal to the handler, which can store the
///   opt-out of a refused body: see [`Rejection::opt_out`].
///
/// The provider sends an event again until it is acknowledged, with the same [`id`](Self::id): store
/// it once for each id and phone number. `Debug` hides the phone number and every text.
///
/// ```
/// use unsubscribe_webhook::{Received, ServerError, UnsubscribeEvent};
/// # mod suppression_list { pub async fn add(_: &str) -> std::io::Result<()> { Ok(()) } }
///
/// async fn unsubscribed(event: Option<UnsubscribeEvent>) -> Result<Received, ServerError> {
///     if let Some(event) = event {
///         suppression_list::add(&event.data.phone).await?;
///     }
///     Ok(Received)
/// }
/// # let _: axum::routing::MethodRouter = axum::routing::post(unsubscribed);
/// ```
///
/// # Without axum, and from a queue
///
/// [`from_body`](Self::from_body) makes the same checks in an app without axum. `Serialize` writes
/// the contract's canonical form, which [`from_slice`](Self::from_slice) and `Deserialize` read. They
/// check only the fields: a handler that takes `axum::Json<UnsubscribeEvent>` requires neither the
/// layer nor an allowed account.
#[derive(Clone, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub struct UnsubscribeEvent {
    /// The event's own id, the same on every attempt. Store the event under it and the phone number.
    pub id: Uuid,
    /// Who unsubscribed, and why.
    pub data: Unsubscribe,
    /// When the event was added to the provider's system, in Unix seconds.
    pub created_at: Option<i64>,
    /// The version of the event's structure, `2022-05-25` in this contract.
    pub api_version: Option<String>,
    /// The number of this attempt, from 1.
    pub attempt_number: Option<i64>,
    /// How many attempts the provider makes in all, from 1 to 4.
    pub attempts_total: Option<i64>,
    /// The id of the provider's notification task.
    pub notification_task_id: Option<Uuid>,
}

impl UnsubscribeEvent {
    /// The `name` that every event of this type has.
    pub const NAME: &'static str = "phone.unsubscribe";

    /// The number of attempts, unless the event has a total.
    pub(crate) const MAX_ATTEMPTS: i64 = 4;

    /// Reads an event that was authenticated before, such as one from a queue, and checks its fields
    /// only. For a request use the extractor or [`from_body`](Self::from_body).
    ///
    /// # Errors
    ///
    /// A 400 whose [`code`](Rejection::code) is `not_json` (`b"{"`, invalid UTF-8), `other_event`
    /// (`{"name": "sms.delivery"}`), or the code of an invalid field, with the field's
    /// [`pointer`](Rejection::pointer): `missing_field` and `/name` for `{}`.
    ///
    /// ```
    /// # use unsubscribe_webhook::UnsubscribeEvent;
    /// let event = UnsubscribeEvent::from_slice(include_bytes!("../examples/event.json"))?;
    /// let queued = serde_json::to_vec(&event).unwrap();
    /// assert_eq!(UnsubscribeEvent::from_slice(&queued)?, event);
    /// # Ok::<_, unsubscribe_webhook::Rejection>(())
    /// ```
    pub fn from_slice(body: &[u8]) -> Result<Self, Rejection> {
        let text = utf8(body);
        decode::event(text).map_err(|noted| RefusedBody::read(text).fault(noted).into())
    }

    /// Whether the provider gives up on the event if this attempt is not acknowledged; `None` if the
    /// event does not say which attempt it is. An absent total counts as 4.
    ///
    /// ```
    /// # use unsubscribe_webhook::UnsubscribeEvent;
    /// # let body = include_bytes!("../examples/event.json");
    /// let mut event = UnsubscribeEvent::from_slice(body)?;
    /// event.attempt_number = Some(4);
    /// assert_eq!(event.is_last_attempt(), Some(true));
    /// # Ok::<_, unsubscribe_webhook::Rejection>(())
    /// ```
    #[must_use]
    pub fn is_last_attempt(&self) -> Option<bool> {
        is_last_attempt(self.attempt_number, self.attempts_total)
    }

    /// The opt-out, in the form that [`Rejection::opt_out`] has for a refused body.
    #[must_use]
    pub fn opt_out(&self) -> OptOut {
        OptOut {
            phone: self.data.phone.clone(),
            user_id: Some(self.data.user_id),
            id: Some(self.id),
        }
    }

    fn envelope(&self) -> Envelope {
        Envelope {
            id: Some(self.id),
            attempt_number: self.attempt_number,
            is_last_attempt: self.is_last_attempt(),
        }
    }
}

/// The body as text, or the body if it is not UTF-8.
fn utf8(body: &[u8]) -> Result<&str, &[u8]> {
    std::str::from_utf8(body).map_err(|_| body)
}

fn is_last_attempt(attempt_number: Option<i64>, attempts_total: Option<i64>) -> Option<bool> {
    Some(attempt_number? >= attempts_total.unwrap_or(UnsubscribeEvent::MAX_ATTEMPTS))
}

/// The event's data: the phone number, the campaign and the reason.
#[derive(Clone, PartialEq, Eq, Hash, Serialize)]
#[non_exhaustive]
pub struct Unsubscribe {
    /// The phone number, as the provider sends it. Its format is not checked.
    pub phone: String,
    /// The provider's account that the number belongs to.
    pub user_id: i64,
    /// When the person unsubscribed, in Unix seconds.
    pub created_at: i64,
    /// The campaign that the person unsubscribed from.
    pub campaign_code: String,
    /// The reason, and the person's own words.
    pub additional_data: AdditionalData,
    /// The short link that led to the form.
    pub short_link_code: String,
    /// The id of the request to unsubscribe.
    pub unsubscribe_request_id: i64,
    /// The group of contacts that the number is in.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub group_id: Option<i64>,
}

/// Why the person unsubscribed, and what they wrote.
#[derive(Clone, PartialEq, Eq, Hash, Serialize)]
#[non_exhaustive]
pub struct AdditionalData {
    /// The reason that was picked.
    pub reason: Reason,
    /// The person's own words; may be empty.
    pub additional_text: String,
}

/// The reason that was picked in the form.
#[derive(Clone, PartialEq, Eq, Hash, Serialize)]
#[non_exhaustive]
pub struct Reason {
    /// Which of the six reasons.
    pub id: ReasonId,
    /// The reason in the recipient's language; [`ReasonId::label`] is the English one.
    pub label: String,
}

/// The six reasons of the contract. In JSON they are the integers 1 to 6.
///
/// ```
/// use unsubscribe_webhook::ReasonId;
///
/// assert_eq!(ReasonId::try_from(2), Ok(ReasonId::TooManyMessages));
/// assert!(ReasonId::try_from(7).is_err());
/// assert_eq!(i64::from(ReasonId::TooManyMessages), 2);
/// assert_eq!(ReasonId::TooManyMessages.to_string(), "Too many messages");
/// ```
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
#[non_exhaustive]
pub enum ReasonId {
    /// 1: "I never subscribed".
    NeverSubscribed = 1,
    /// 2: "Too many messages".
    TooManyMessages = 2,
    /// 3: "I am not interested".
    NotInterested = 3,
    /// 4: "Content is incomprehensible".
    Incomprehensible = 4,
    /// 5: "I don’t like your company".
    DislikesCompany = 5,
    /// 6: "Other".
    Other = 6,
}

impl ReasonId {
    /// The contract's English words for the reason, as `Display` writes them.
    #[must_use]
    pub const fn label(self) -> &'static str {
        match self {
            Self::NeverSubscribed => "I never subscribed",
            Self::TooManyMessages => "Too many messages",
            Self::NotInterested => "I am not interested",
            Self::Incomprehensible => "Content is incomprehensible",
            Self::DislikesCompany => "I don’t like your company",
            Self::Other => "Other",
        }
    }
}

impl TryFrom<i64> for ReasonId {
    type Error = UnknownReasonId;

    fn try_from(id: i64) -> Result<Self, UnknownReasonId> {
        Ok(match id {
            1 => Self::NeverSubscribed,
            2 => Self::TooManyMessages,
            3 => Self::NotInterested,
            4 => Self::Incomprehensible,
            5 => Self::DislikesCompany,
            6 => Self::Other,
            _ => return Err(UnknownReasonId),
        })
    }
}

impl From<ReasonId> for i64 {
    fn from(reason: ReasonId) -> Self {
        reason as Self
    }
}

impl fmt::Display for ReasonId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.label())
    }
}

/// The error of [`ReasonId`]'s `TryFrom<i64>`: a number outside 1 to 6.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct UnknownReasonId;

impl fmt::Display for UnknownReasonId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("the id of a reason is an integer from 1 to 6")
    }
}

impl Error for UnknownReasonId {}

/// The canonical form: the contract's fields only, in the order of its example, absent ones left
/// out, the total as `attempts_total`.
impl Serialize for UnsubscribeEvent {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        #[derive(Serialize)]
        struct Canonical<'a> {
            // A string in every format, which `Uuid` itself is not.
            id: Hyphenated,
            data: &'a Unsubscribe,
            name: &'static str,
            #[serde(skip_serializing_if = "Option::is_none")]
            created_at: Option<i64>,
            #[serde(skip_serializing_if = "Option::is_none")]
            api_version: Option<&'a str>,
            #[serde(skip_serializing_if = "Option::is_none")]
            attempt_number: Option<i64>,
            #[serde(skip_serializing_if = "Option::is_none")]
            attempts_total: Option<i64>,
            #[serde(skip_serializing_if = "Option::is_none")]
            notification_task_id: Option<Hyphenated>,
        }

        let canonical = Canonical {
            id: self.id.hyphenated(),
            data: &self.data,
            name: Self::NAME,
            created_at: self.created_at,
            api_version: self.api_version.as_deref(),
            attempt_number: self.attempt_number,
            attempts_total: self.attempts_total,
            notification_task_id: self.notification_task_id.map(Uuid::hyphenated),
        };
        canonical.serialize(serializer)
    }
}

impl Serialize for ReasonId {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.serialize_i64((*self).into())
    }
}

impl fmt::Debug for UnsubscribeEvent {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("UnsubscribeEvent")
            .field("id", &self.id)
            .field("data", &self.data)
            .field("created_at", &self.created_at)
            .field("attempt_number", &self.attempt_number)
            .field("attempts_total", &self.attempts_total)
            .field("notification_task_id", &self.notification_task_id)
            .finish_non_exhaustive()
    }
}

impl fmt::Debug for Unsubscribe {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Unsubscribe")
            .field("user_id", &self.user_id)
            .field("created_at", &self.created_at)
            .field("additional_data", &self.additional_data)
            .field("unsubscribe_request_id", &self.unsubscribe_request_id)
            .field("group_id", &self.group_id)
            .finish_non_exhaustive()
    }
}

impl fmt::Debug for AdditionalData {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("AdditionalData").field("reason", &self.reason).finish_non_exhaustive()
    }
}

impl fmt::Debug for Reason {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Reason").field("id", &self.id).finish_non_exhaustive()
    }
}
