//! The event, as the contract names its parts.

use std::fmt;

use serde::{Deserialize, Deserializer, Serialize, Serializer, ser::SerializeStruct};
use uuid::Uuid;

use crate::{Rejection, decode};

/// A person has unsubscribed a phone number: a checked `phone.unsubscribe` event.
///
/// As the argument of an axum handler it demands that the request passed
/// [`WebhookAuth`](crate::WebhookAuth), reads the body within the host's `DefaultBodyLimit`, and
/// refuses with a [`Rejection`] what breaks the contract. `Option<UnsubscribeEvent>` is `None` for
/// an authentic event of another kind, which a default account sends to the same address;
/// `Result<UnsubscribeEvent, Rejection>` leaves the refusal to the handler.
///
/// Fields are in the unit of the contract: times are Unix seconds. The provider repeats an event
/// until it is acknowledged, with the same [`id`](Self::id): store it once by that key.
///
/// ```
/// use unsubscribe_webhook::{Received, ServerError, UnsubscribeEvent};
/// # mod suppression_list { pub async fn add(_: &str) -> std::io::Result<()> { Ok(()) } }
///
/// async fn unsubscribed(event: UnsubscribeEvent) -> Result<Received, ServerError> {
///     suppression_list::add(&event.data.phone).await?;
///     Ok(Received)
/// }
/// # let _: axum::routing::MethodRouter = axum::routing::post(unsubscribed);
/// ```
///
/// Take it as it is: `axum::Json<UnsubscribeEvent>` checks the fields alone, and demands neither
/// the layer nor the accounts that it allows.
///
/// # Without axum, and from a queue
///
/// [`from_body`](Self::from_body) makes all the checks for a host without axum. What has passed
/// them can be written out as JSON by `Serialize`, in the contract's canonical form, and read back
/// by [`from_slice`](Self::from_slice) or `Deserialize` under the same rules:
///
/// ```
/// use unsubscribe_webhook::UnsubscribeEvent;
///
/// # fn main() -> Result<(), Box<dyn std::error::Error>> {
/// let event = UnsubscribeEvent::from_slice(include_bytes!("../examples/event.json"))?;
/// assert_eq!(event.data.phone, "+4911113333444");
///
/// let queued = serde_json::to_vec(&event)?;
/// assert_eq!(UnsubscribeEvent::from_slice(&queued)?, event);
/// # Ok(())
/// # }
/// ```
///
/// `Deserialize` reads the JSON text itself where `serde_json` reads from a text. Elsewhere (a
/// `serde_json::Value`, an untagged or flattened enum, another format) it judges the tree that it
/// is handed, and what that has lost or rounded is not to be had: of a doubled field the last value
/// counts, a number may have become another double, and an unknown field that the tree cannot hold
/// is refused. A format must be self-describing and keep the names of fields, which compact binary
/// ones do not: what they write of an event, nothing reads back. Nor does RON, but with its
/// extension `unwrap_newtypes`.
///
/// `Debug` hides the phone number and every text.
#[derive(Clone, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub struct UnsubscribeEvent {
    /// The event's own id, the same on every attempt: the key to store it under.
    pub id: Uuid,
    /// Who unsubscribed, and why.
    pub data: Unsubscribe,
    /// When the entity was added to the provider's system, in Unix seconds.
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
    ///
    /// ```
    /// # use unsubscribe_webhook::UnsubscribeEvent;
    /// assert_eq!(UnsubscribeEvent::NAME, "phone.unsubscribe");
    /// ```
    pub const NAME: &'static str = "phone.unsubscribe";

    /// Reads an event that was authenticated before: one that a queue kept.
    ///
    /// Nothing proves where these bytes come from. For a request use the extractor or
    /// [`from_body`](Self::from_body).
    ///
    /// # Errors
    ///
    /// The contract's 400 by [`code`](Rejection::code): `not_json` (`b"{"`, invalid UTF-8),
    /// `other_event` (`{"name": "sms.delivery"}`), and `missing_field`, `invalid_field` or
    /// `duplicate_field` with the [`pointer`](Rejection::pointer) of the field.
    ///
    /// ```
    /// # use unsubscribe_webhook::UnsubscribeEvent;
    /// let rejection = UnsubscribeEvent::from_slice(b"{}").unwrap_err();
    /// assert_eq!(rejection.code(), "missing_field");
    /// ```
    pub fn from_slice(body: &[u8]) -> Result<Self, Rejection> {
        Ok(decode::from_slice(body)?)
    }

    /// Whether the provider gives up on the event if this attempt is not acknowledged; `None`
    /// where the event does not say.
    ///
    /// ```
    /// # use unsubscribe_webhook::UnsubscribeEvent;
    /// # let body = include_bytes!("../examples/event.json");
    /// let mut event = UnsubscribeEvent::from_slice(body)?;
    /// assert_eq!(event.is_last_attempt(), Some(false));
    /// event.attempt_number = event.attempts_total;
    /// assert_eq!(event.is_last_attempt(), Some(true));
    /// # Ok::<_, unsubscribe_webhook::Rejection>(())
    /// ```
    #[must_use]
    pub fn is_last_attempt(&self) -> Option<bool> {
        Some(self.attempt_number? >= self.attempts_total?)
    }
}

/// What the person unsubscribed, from which campaign, and why.
///
/// ```
/// # use unsubscribe_webhook::UnsubscribeEvent;
/// # let event = UnsubscribeEvent::from_slice(include_bytes!("../examples/event.json"))?;
/// assert_eq!(event.data.phone, "+4911113333444");
/// assert_eq!(event.data.campaign_code, "3KCKb5nMD");
/// # Ok::<_, unsubscribe_webhook::Rejection>(())
/// ```
#[derive(Clone, PartialEq, Eq, Hash, Serialize)]
#[non_exhaustive]
pub struct Unsubscribe {
    /// The phone number, as the provider writes it: an odd format is still an opt-out.
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

/// Why the person unsubscribed, and the words added to it.
///
/// ```
/// # use unsubscribe_webhook::UnsubscribeEvent;
/// # let event = UnsubscribeEvent::from_slice(include_bytes!("../examples/event.json"))?;
/// let why = event.data.additional_data;
/// assert_eq!(why.additional_text, "zusätzlicher Benutzertext mit Erklärung");
/// # Ok::<_, unsubscribe_webhook::Rejection>(())
/// ```
#[derive(Clone, PartialEq, Eq, Hash, Serialize)]
#[non_exhaustive]
pub struct AdditionalData {
    /// The reason that was picked.
    pub reason: Reason,
    /// The person's own words; may be empty.
    pub additional_text: String,
}

/// The reason that was picked in the form.
///
/// ```
/// # use unsubscribe_webhook::{ReasonId, UnsubscribeEvent};
/// # let event = UnsubscribeEvent::from_slice(include_bytes!("../examples/event.json"))?;
/// let reason = event.data.additional_data.reason;
/// assert_eq!(reason.id, ReasonId::Incomprehensible);
/// assert_eq!(reason.label, "Es ist unverständlich");
/// # Ok::<_, unsubscribe_webhook::Rejection>(())
/// ```
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
/// assert_eq!(ReasonId::from_i64(2), Some(ReasonId::TooManyMessages));
/// assert_eq!(ReasonId::from_i64(7), None);
/// assert_eq!(ReasonId::TooManyMessages.as_i64(), 2);
/// assert_eq!(ReasonId::TooManyMessages.label(), "Too many messages");
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
    /// The reason with this number; `None` for a number outside 1 to 6.
    ///
    /// ```
    /// # use unsubscribe_webhook::ReasonId;
    /// assert_eq!(ReasonId::from_i64(6), Some(ReasonId::Other));
    /// assert_eq!(ReasonId::from_i64(0), None);
    /// ```
    #[must_use]
    pub fn from_i64(id: i64) -> Option<Self> {
        Some(match id {
            1 => Self::NeverSubscribed,
            2 => Self::TooManyMessages,
            3 => Self::NotInterested,
            4 => Self::Incomprehensible,
            5 => Self::DislikesCompany,
            6 => Self::Other,
            _ => return None,
        })
    }

    /// The contract's number of the reason, from 1 to 6.
    ///
    /// ```
    /// # use unsubscribe_webhook::ReasonId;
    /// assert_eq!(ReasonId::NeverSubscribed.as_i64(), 1);
    /// ```
    #[must_use]
    pub fn as_i64(self) -> i64 {
        self as i64
    }

    /// The contract's English words for the reason.
    ///
    /// ```
    /// # use unsubscribe_webhook::ReasonId;
    /// assert_eq!(ReasonId::NeverSubscribed.label(), "I never subscribed");
    /// ```
    #[must_use]
    pub fn label(self) -> &'static str {
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

impl<'de> Deserialize<'de> for UnsubscribeEvent {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        decode::from_deserializer(deserializer, decode::from_text)
    }
}

impl<'de> Deserialize<'de> for Unsubscribe {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        decode::from_deserializer(deserializer, decode::exact::data)
    }
}

impl<'de> Deserialize<'de> for AdditionalData {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        decode::from_deserializer(deserializer, decode::exact::additional_data)
    }
}

impl<'de> Deserialize<'de> for Reason {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        decode::from_deserializer(deserializer, decode::exact::reason)
    }
}

impl<'de> Deserialize<'de> for ReasonId {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        decode::from_deserializer(deserializer, decode::exact::reason_id)
    }
}

/// The canonical form: the contract's fields only, in the order of its example, absent ones left
/// out, the total as `attempts_total`.
impl Serialize for UnsubscribeEvent {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        let optional = [
            self.created_at.is_some(),
            self.api_version.is_some(),
            self.attempt_number.is_some(),
            self.attempts_total.is_some(),
            self.notification_task_id.is_some(),
        ];
        let fields = 3 + optional.into_iter().filter(|given| *given).count();
        let mut event = serializer.serialize_struct("UnsubscribeEvent", fields)?;
        event.serialize_field("id", &Hyphenated(self.id))?;
        event.serialize_field("data", &self.data)?;
        event.serialize_field("name", Self::NAME)?;
        serialize_given(&mut event, "created_at", self.created_at.as_ref())?;
        serialize_given(&mut event, "api_version", self.api_version.as_ref())?;
        serialize_given(&mut event, "attempt_number", self.attempt_number.as_ref())?;
        serialize_given(&mut event, "attempts_total", self.attempts_total.as_ref())?;
        let task = self.notification_task_id.map(Hyphenated);
        serialize_given(&mut event, "notification_task_id", task.as_ref())?;
        event.end()
    }
}

fn serialize_given<S: SerializeStruct>(
    event: &mut S,
    name: &'static str,
    value: Option<&impl Serialize>,
) -> Result<(), S::Error> {
    match value {
        Some(value) => event.serialize_field(name, value),
        None => event.skip_field(name),
    }
}

/// A UUID as the contract spells it, in every format: `uuid`'s own `Serialize` writes bytes into
/// binary ones.
struct Hyphenated(Uuid);

impl Serialize for Hyphenated {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        let mut buffer = Uuid::encode_buffer();
        serializer.serialize_str(self.0.hyphenated().encode_lower(&mut buffer))
    }
}

impl Serialize for ReasonId {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.serialize_i64(self.as_i64())
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
