//! The reader of good bodies: one pass, no path, no copy of what is only checked.
//!
//! It may refuse a good body, which costs a second reading, and never accepts a bad one. Each
//! visitor takes a map only, so that no array passes for an object.

use std::{fmt, marker::PhantomData, ops::RangeInclusive};

use serde::{
    Deserialize, Deserializer,
    de::{DeserializeSeed, Error, IgnoredAny, MapAccess, Visitor},
};

use super::{ATTEMPT_NUMBER, ATTEMPTS_TOTAL, event_id, totals_agree, uuid};
use crate::{AdditionalData, Reason, ReasonId, Unsubscribe, UnsubscribeEvent};

pub(super) fn event(text: &str) -> Option<UnsubscribeEvent> {
    let mut json = serde_json::Deserializer::from_str(text);
    let event = json.deserialize_map(EventVisitor).ok()?;
    json.end().ok()?;
    Some(event)
}

/// The names of all four objects.
#[derive(Deserialize)]
#[serde(field_identifier, rename_all = "snake_case")]
enum Field {
    Id,
    Name,
    ApiVersion,
    CreatedAt,
    AttemptTotal,
    AttemptsTotal,
    AttemptNumber,
    NotificationTaskId,
    Data,
    Phone,
    UserId,
    CampaignCode,
    AdditionalData,
    Reason,
    Label,
    AdditionalText,
    ShortLinkCode,
    UnsubscribeRequestId,
    GroupId,
    #[serde(other)]
    Unknown,
}

struct EventVisitor;

impl<'de> Visitor<'de> for EventVisitor {
    type Value = UnsubscribeEvent;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("an event")
    }

    fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<UnsubscribeEvent, A::Error> {
        let (mut id, mut name, mut data) = (None::<&str>, None::<&str>, None);
        let (mut api_version, mut created_at) = (None, None);
        let (mut total_of_page, mut total_of_example, mut attempt_number) = (None, None, None);
        let mut notification_task_id = None::<Option<&str>>;
        while let Some(field) = map.next_key()? {
            match field {
                Field::Id => once(&mut id, &mut map)?,
                Field::Name => once(&mut name, &mut map)?,
                Field::ApiVersion => once(&mut api_version, &mut map)?,
                Field::CreatedAt => once(&mut created_at, &mut map)?,
                Field::AttemptTotal => once(&mut total_of_page, &mut map)?,
                Field::AttemptsTotal => once(&mut total_of_example, &mut map)?,
                Field::AttemptNumber => once(&mut attempt_number, &mut map)?,
                Field::NotificationTaskId => once(&mut notification_task_id, &mut map)?,
                Field::Data => once_as(&mut data, &mut map, Object(DataVisitor))?,
                _ => ignore(&mut map)?,
            }
        }
        if required(name)? != UnsubscribeEvent::NAME {
            return Err(refused());
        }
        let (total_of_page, total_of_example) =
            (total_of_page.flatten(), total_of_example.flatten());
        if !totals_agree(total_of_page, total_of_example) {
            return Err(refused());
        }
        Ok(UnsubscribeEvent {
            id: event_id(required(id)?).ok_or_else(refused)?,
            data: required(data)?,
            created_at: created_at.flatten(),
            api_version: api_version.flatten(),
            attempt_number: within(attempt_number.flatten(), ATTEMPT_NUMBER)?,
            attempts_total: within(total_of_page.or(total_of_example), ATTEMPTS_TOTAL)?,
            notification_task_id: match notification_task_id.flatten() {
                Some(task) => Some(uuid(task).ok_or_else(refused)?),
                None => None,
            },
        })
    }
}

struct DataVisitor;

impl<'de> Visitor<'de> for DataVisitor {
    type Value = Unsubscribe;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("data")
    }

    fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<Unsubscribe, A::Error> {
        let (mut phone, mut user_id, mut created_at, mut campaign_code) = (None, None, None, None);
        let (mut additional_data, mut short_link_code) = (None, None);
        let (mut unsubscribe_request_id, mut group_id) = (None, None);
        while let Some(field) = map.next_key()? {
            match field {
                Field::Phone => once(&mut phone, &mut map)?,
                Field::UserId => once(&mut user_id, &mut map)?,
                Field::CreatedAt => once(&mut created_at, &mut map)?,
                Field::CampaignCode => once(&mut campaign_code, &mut map)?,
                Field::AdditionalData => {
                    once_as(&mut additional_data, &mut map, Object(AdditionalDataVisitor))?;
                }
                Field::ShortLinkCode => once(&mut short_link_code, &mut map)?,
                Field::UnsubscribeRequestId => once(&mut unsubscribe_request_id, &mut map)?,
                Field::GroupId => once(&mut group_id, &mut map)?,
                _ => ignore(&mut map)?,
            }
        }
        Ok(Unsubscribe {
            phone: required(phone)?,
            user_id: required(user_id)?,
            created_at: required(created_at)?,
            campaign_code: required(campaign_code)?,
            additional_data: required(additional_data)?,
            short_link_code: required(short_link_code)?,
            unsubscribe_request_id: required(unsubscribe_request_id)?,
            group_id: group_id.flatten(),
        })
    }
}

struct AdditionalDataVisitor;

impl<'de> Visitor<'de> for AdditionalDataVisitor {
    type Value = AdditionalData;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("additional data")
    }

    fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<AdditionalData, A::Error> {
        let (mut reason, mut additional_text) = (None, None);
        while let Some(field) = map.next_key()? {
            match field {
                Field::Reason => once_as(&mut reason, &mut map, Object(ReasonVisitor))?,
                Field::AdditionalText => once(&mut additional_text, &mut map)?,
                _ => ignore(&mut map)?,
            }
        }
        Ok(AdditionalData {
            reason: required(reason)?,
            additional_text: required(additional_text)?,
        })
    }
}

struct ReasonVisitor;

impl<'de> Visitor<'de> for ReasonVisitor {
    type Value = Reason;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("a reason")
    }

    fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<Reason, A::Error> {
        let (mut id, mut label) = (None, None);
        while let Some(field) = map.next_key()? {
            match field {
                Field::Id => once(&mut id, &mut map)?,
                Field::Label => once(&mut label, &mut map)?,
                _ => ignore(&mut map)?,
            }
        }
        Ok(Reason {
            id: ReasonId::from_i64(required(id)?).ok_or_else(refused)?,
            label: required(label)?,
        })
    }
}

/// Reads a value with a visitor that takes a map only.
struct Object<V>(V);

impl<'de, V: Visitor<'de>> DeserializeSeed<'de> for Object<V> {
    type Value = V::Value;

    fn deserialize<D: Deserializer<'de>>(self, deserializer: D) -> Result<V::Value, D::Error> {
        deserializer.deserialize_map(self.0)
    }
}

/// Reads a field's value, which must be its first.
fn once<'de, T: Deserialize<'de>, A: MapAccess<'de>>(
    slot: &mut Option<T>,
    map: &mut A,
) -> Result<(), A::Error> {
    once_as(slot, map, PhantomData)
}

fn once_as<'de, S: DeserializeSeed<'de>, A: MapAccess<'de>>(
    slot: &mut Option<S::Value>,
    map: &mut A,
    seed: S,
) -> Result<(), A::Error> {
    if slot.is_some() {
        return Err(refused());
    }
    *slot = Some(map.next_value_seed(seed)?);
    Ok(())
}

fn ignore<'de, A: MapAccess<'de>>(map: &mut A) -> Result<(), A::Error> {
    map.next_value::<IgnoredAny>().map(|_| ())
}

fn required<T, E: Error>(slot: Option<T>) -> Result<T, E> {
    slot.ok_or_else(refused)
}

fn within<E: Error>(value: Option<i64>, range: RangeInclusive<i64>) -> Result<Option<i64>, E> {
    match value {
        Some(number) if !range.contains(&number) => Err(refused()),
        value => Ok(value),
    }
}

/// What is wrong is for the second reading to say.
fn refused<E: Error>() -> E {
    E::custom("refused")
}
