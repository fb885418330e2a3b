//! The requests of the suite, and the expected response to each.

use std::{
    borrow::Cow,
    fmt,
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
    },
};

use axum_core::body::Body;
use http::{
    HeaderValue, Request, Version,
    header::{CONTENT_LENGTH, CONTENT_TYPE},
};

use super::{
    body::{EventJson, RecordedBody},
    event,
    invalid_credentials::{NO_CHECK, invalid_credentials},
    unauthenticated,
};
use crate::{Code, Credential};

/// A request, and the expected response.
pub(super) struct Probe {
    pub(super) name: Cow<'static, str>,
    pub(super) request: Request<Body>,
    pub(super) expected: Expected,
    /// Unless the response shows another one.
    pub(super) likely_cause: &'static str,
    pub(super) phone: String,
    /// Whether the number must be on the suppression list afterwards; otherwise it must not.
    pub(super) is_opt_out: bool,
    was_read: Arc<AtomicBool>,
}

#[derive(Clone, Copy, PartialEq, Eq)]
pub(super) enum Expected {
    Acknowledged,
    /// Acknowledged, or refused as an event of another kind.
    OtherEvent,
    Refused(Code, Option<&'static str>),
}

impl Expected {
    pub(super) const UNAUTHORIZED: Self = Self::Refused(Code::Unauthorized, None);
}

impl fmt::Display for Expected {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Acknowledged => f.write_str("200"),
            Self::OtherEvent => f.write_str("200 or 400 other_event"),
            Self::Refused(code, pointer) => {
                write!(f, "{} {code}", code.status().as_u16())?;
                pointer.map_or(Ok(()), |pointer| write!(f, " at {pointer}"))
            }
        }
    }
}

pub(super) const FIRST: &str = "good_delivery";

const FORM: &str = "a valid event is refused for its form; take `UnsubscribeEvent`, with no check of your own before it";
const VALUE: &str =
    "the handler or the database does not take every value that the contract allows here";
const PHONE: &str = "a number in an unusual format is an opt-out too; store it as it came";
const CONTROL: &str =
    "PostgreSQL's `text` and `jsonb` cannot hold U+0000; remove it from texts, or store bytes";
const AGAIN: &str = "a repeated event must be acknowledged again; store it once for each `event.id` and number (`ON \
     CONFLICT DO NOTHING`)";
const SAME_ID: &str =
    "a known `id` with another number must be stored too; make both the unique key";
const INVALID_ACCEPTED: &str = "the handler takes `axum::Json`, decodes by itself, or acknowledges a `Rejection`; take \
     `UnsubscribeEvent`, and return its `Rejection`";
const NO_LIMIT: &str = "the body is not limited; set axum's `DefaultBodyLimit` or `http_body_util::Limited`, or pass your limit \
     to `.body_limit(bytes)`";
const DUPLICATE_ACCEPTED: &str = "a middleware parses the body and writes it again, or the handler decodes by itself; pass the body \
     on as it came and take `UnsubscribeEvent`";
const OTHER_EVENT: &str = "the provider sends events of other kinds four times unless they are acknowledged; take \
     `Option<UnsubscribeEvent>` and return `Received` for `None`";
const ACCOUNT_REFUSED: &str =
    "`allow_accounts` lacks an account of `.accounts(..)`; make them equal";
const ACCOUNT_ACCEPTED: &str = "another account's event is accepted: `allow_accounts` is absent or has more than `.accounts(..)`, or \
     the handler takes `axum::Json`, which does not check it";

const NAME: &str = "/name";
const ID: &str = "/id";
const PHONE_AT: &str = "/data/phone";
const USER: &str = "/data/user_id";
const CREATED: &str = "/data/created_at";
const REASON: &str = "/data/additional_data/reason/id";
const TEXT: &str = "/data/additional_data/additional_text";
const TOTAL: &str = "/attempt_total";
const TOTALS: &str = "/attempts_total";

const REQUIRED: &str = "/id /name /data /data/phone /data/user_id /data/created_at /data/campaign_code \
     /data/additional_data /data/additional_data/reason /data/additional_data/reason/id \
     /data/additional_data/reason/label /data/additional_data/additional_text /data/short_link_code \
     /data/unsubscribe_request_id";

/// Except `attempt_total`.
const OPTIONAL: &str = "/created_at /api_version /attempt_number /attempts_total \
                        /notification_task_id /data/group_id";

const INVALID: [(&str, &str, &str); 18] = [
    ("id_upper_case", ID, r#""EF58B437-1319-4B0C-961B-17214CF1CF32""#),
    ("id_without_hyphens", ID, r#""ef58b43713194b0c961b17214cf1cf32""#),
    ("name_number", NAME, "1"),
    ("data_array", "/data", "[]"),
    ("phone_null", PHONE_AT, "null"),
    ("account_string", USER, r#""2""#),
    ("account_fraction", USER, "2.5"),
    ("time_below_64_bits", CREATED, "-9223372036854775809"),
    ("campaign_number", "/data/campaign_code", "17"),
    ("additional_data_array", "/data/additional_data", "[]"),
    ("reason_null", "/data/additional_data/reason", "null"),
    ("reason_7", REASON, "7"),
    ("reason_string", REASON, r#""4""#),
    ("text_surrogate", TEXT, r#""\ud800""#),
    ("attempt_0", "/attempt_number", "0"),
    ("total_5", TOTALS, "5"),
    ("totals_disagree", TOTALS, r#"4,"attempt_total":3"#),
    ("task_not_uuid", "/notification_task_id", r#""17""#),
];

/// Pointers and raw values; without a value, the field is removed.
type Changes = &'static [(&'static str, &'static str)];

const VALID: [(&str, &str, Changes); 20] = [
    ("total_of_the_page", FORM, &[(TOTALS, ""), (TOTAL, "4")]),
    ("total_in_both_names", FORM, &[(TOTAL, "4")]),
    ("integers_with_fraction", FORM, &[(REASON, "2.0"), (CREATED, "1757849748.0")]),
    ("integers_with_exponent", FORM, &[(REASON, "2e0"), (TOTALS, "0.4e1")]),
    (
        "unknown_fields",
        FORM,
        &[("/new", r#"{"a":[1],"a":2}"#), ("/data/new", r#"["\ud800",1e999]"#)],
    ),
    ("newer_version", FORM, &[("/api_version", r#""2099-12-31""#)]),
    ("task_id", FORM, &[("/notification_task_id", r#""3378DE83-de66-4de8-9d29-2b10d41bb641""#)]),
    ("reason_1", VALUE, &[(REASON, "1")]),
    ("reason_2", VALUE, &[(REASON, "2")]),
    ("reason_3", VALUE, &[(REASON, "3")]),
    ("reason_4", VALUE, &[(REASON, "4")]),
    ("reason_5", VALUE, &[(REASON, "5")]),
    ("reason_6", VALUE, &[(REASON, "6")]),
    ("text_empty", VALUE, &[(TEXT, r#""""#)]),
    ("text_of_any_script", VALUE, &[(TEXT, r#""'; -- \"<b>אל 🙅🏽 Другое \\""#)]),
    ("text_with_control_characters", CONTROL, &[(TEXT, r#""a\u0000b\u001b\r\n""#)]),
    ("request_id_of_64_bits", VALUE, &[("/data/unsubscribe_request_id", "9223372036854775807")]),
    ("group_id_of_64_bits", VALUE, &[("/data/group_id", "9223372036854775807")]),
    ("time_after_2038", VALUE, &[(CREATED, "4102444800")]),
    ("time_zero", VALUE, &[(CREATED, "0"), ("/created_at", "0")]),
];

/// What the probes are made for.
pub(super) struct Target {
    pub(super) path: String,
    pub(super) credential: Credential,
    /// Those that the app accepts; empty if it accepts all.
    pub(super) accounts: Vec<i64>,
    pub(super) body_limit: usize,
    pub(super) acknowledges_other_events: bool,
    pub(super) over_network: bool,
}

impl Target {
    /// A valid delivery, and its event as often as the provider may send it.
    pub(super) fn repeated(&self) -> Vec<Probe> {
        let event = self.event();
        let attempt = |number: &str| event.clone().with("/attempt_number", number);
        let other_phone = event.clone().with_phone(self.event().phone);
        vec![
            self.probe(FIRST, "the handler failed", &event),
            self.probe("duplicate", AGAIN, &event),
            self.probe("attempt_2", AGAIN, &attempt("2")),
            self.probe("attempt_3", AGAIN, &attempt("3")),
            self.probe("attempt_4", AGAIN, &attempt("4")),
            self.probe("same_id_other_phone", SAME_ID, &other_phone),
        ]
    }

    pub(super) fn forged(&self) -> Vec<Probe> {
        let mut probes = Vec::new();
        for invalid in invalid_credentials(&self.credential) {
            let mut probe = self.probe(invalid.name, invalid.likely_cause, &self.event());
            let is_sendable = invalid.apply_to(&self.credential, &mut probe.request);
            // It may be the right credential after all: a header may have any name.
            if is_sendable && !self.credential.is_present(&probe.request) {
                probes.push(probe);
            }
        }
        let probe = |name, event: &EventJson| {
            let mut probe = self.probe(name, NO_CHECK, event);
            self.credential.remove_from(&mut probe.request);
            probe
        };
        let event = self.event();
        let stream = RecordedBody::stream(&event.text());
        let malformed = RecordedBody::sized(format!("{{{}", event.text()));
        probes.extend([
            probe("no_credential_stream", &event).body(stream),
            probe("no_credential_malformed", &event).body(malformed).content_type(&["text/plain"]),
            probe("no_credential_other_event", &self.other_event()),
        ]);
        let forged = |probe: Probe| {
            let mut probe = probe.refused(Code::Unauthorized, None, false);
            if !self.over_network {
                // The layer discards a body of HTTP/1; one of HTTP/2 only a middleware can read.
                *probe.request.version_mut() = Version::HTTP_2;
            }
            probe
        };
        probes.into_iter().map(forged).collect()
    }

    /// All others, once the first delivery is acknowledged.
    pub(super) fn authenticated(&self) -> Vec<Probe> {
        let mut probes = Vec::new();
        self.content_types(&mut probes);
        self.broken_bodies(&mut probes);
        self.broken_fields(&mut probes);
        self.other_accounts_and_events(&mut probes);
        self.valid_variants(&mut probes);
        probes
    }

    fn content_types(&self, probes: &mut Vec<Probe>) {
        for (name, values) in [
            ("content_type_missing", &[][..]),
            ("content_type_text", &["text/plain"]),
            ("content_type_suffix", &["application/vnd.api+json"]),
            ("content_type_twice", &["application/json", "application/json"]),
        ] {
            let probe = self.probe(name, INVALID_ACCEPTED, &self.event());
            probes.push(probe.refused(Code::ContentType, None, true).content_type(values));
        }
        for (name, value) in [
            ("content_type_charset", "application/json; charset=utf-8"),
            ("content_type_case", "Application/JSON;charset=\"UTF-8\""),
        ] {
            probes.push(self.probe(name, FORM, &self.event()).content_type(&[value]));
        }
    }

    fn broken_bodies(&self, probes: &mut Vec<Probe>) {
        let mut add = |name, code, is_opt_out, body: &dyn Fn(&EventJson) -> RecordedBody| {
            let event = self.event();
            let is_too_large = code == Code::BodyTooLarge;
            let likely_cause = if is_too_large { NO_LIMIT } else { INVALID_ACCEPTED };
            let probe = self.probe(name, likely_cause, &event).body(body(&event));
            probes.push(probe.refused(code, None, is_opt_out));
        };
        let mut not_json = |name, is_opt_out, body: fn(&EventJson) -> Vec<u8>| {
            add(name, Code::NotJson, is_opt_out, &|event| RecordedBody::sized(body(event)));
        };
        not_json("body_empty", false, |_| Vec::new());
        not_json("body_cut_off_before_name", false, |event| {
            // `data` comes before `name`.
            let text = event.text();
            let (start, _) = text.split_once(r#","name""#).expect("the example has a name");
            start.into()
        });
        not_json("body_cut_off_at_end", true, |event| event.text().trim_end_matches('}').into());
        not_json("body_with_more_behind", true, |event| event.text().repeat(2).into());
        not_json("body_latin_1", true, |event| {
            let body = event.clone().with(TEXT, "\"gr\u{1a}n\"").text().into_bytes();
            body.into_iter().map(|byte| if byte == 0x1a { 0xfc } else { byte }).collect()
        });
        not_json("field_name_surrogate", true, |event| {
            event.text().replacen('{', r#"{"\ud800":1,"#, 1).into()
        });
        if !self.over_network {
            let interrupted = |event: &EventJson| RecordedBody::interrupted(&event.text());
            add("body_incomplete", Code::BodyIncomplete, false, &interrupted);
        }
        // Valid JSON: only its size is wrong.
        let padded = |event: &EventJson| {
            let text = event.text();
            let padding = (self.body_limit + 1).saturating_sub(text.len());
            text + &" ".repeat(padding)
        };
        let sized = |event: &EventJson| RecordedBody::sized(padded(event));
        let stream = |event: &EventJson| RecordedBody::stream(&padded(event));
        add("body_too_large", Code::BodyTooLarge, false, &sized);
        add("body_too_large_stream", Code::BodyTooLarge, false, &stream);
    }

    fn broken_fields(&self, probes: &mut Vec<Probe>) {
        let mut add = |name: String, code, pointer, likely_cause, event: EventJson| {
            let is_opt_out = match pointer {
                NAME | "/data" | PHONE_AT => false,
                USER => self.accounts.is_empty(),
                _ => true,
            };
            let probe = self.probe(name, likely_cause, &event);
            probes.push(probe.refused(code, Some(pointer), is_opt_out));
        };
        for pointer in REQUIRED.split(' ') {
            let event = self.event().without(pointer);
            let name = format!("missing_field:{pointer}");
            add(name, Code::MissingField, pointer, INVALID_ACCEPTED, event);
        }
        for (name, pointer, raw) in INVALID {
            let event = self.event().with(pointer, raw);
            let name = format!("invalid_field:{name}");
            add(name, Code::InvalidField, pointer, INVALID_ACCEPTED, event);
        }
        let mut number = self.event();
        number.phone.remove(0);
        let digits = number.phone.clone();
        let number = number.with(PHONE_AT, digits);
        let name = "invalid_field:phone_number".to_owned();
        add(name, Code::InvalidField, PHONE_AT, INVALID_ACCEPTED, number);
        for pointer in [ID, NAME, PHONE_AT, USER] {
            let event = self.event().duplicated(pointer);
            let name = format!("duplicate_field:{pointer}");
            add(name, Code::DuplicateField, pointer, DUPLICATE_ACCEPTED, event);
        }
    }

    fn other_accounts_and_events(&self, probes: &mut Vec<Probe>) {
        for account in self.accounts.iter().skip(1) {
            let name = format!("own_account:{account}");
            probes.push(self.probe(name, ACCOUNT_REFUSED, &EventJson::new(*account)));
        }
        let mut foreign = (1..=i64::MAX).filter(|account| !self.accounts.contains(account));
        if let (false, Some(account)) = (self.accounts.is_empty(), foreign.next()) {
            let event = EventJson::new(account);
            let probe = self.probe("foreign_account", ACCOUNT_ACCEPTED, &event);
            probes.push(probe.refused(Code::ForeignAccount, Some(USER), false));
        }
        let probe = |name| self.probe(name, OTHER_EVENT, &self.other_event());
        let bare = RecordedBody::sized(r#"{"name":"sms.delivery"}"#);
        for mut probe in [probe("other_event"), probe("other_event_bare").body(bare)] {
            probe.is_opt_out = false;
            if !self.acknowledges_other_events {
                probe.expected = Expected::OtherEvent;
            }
            probes.push(probe);
        }
    }

    fn valid_variants(&self, probes: &mut Vec<Probe>) {
        for (name, likely_cause, changes) in VALID {
            let event = changes.iter().fold(self.event(), |event, (pointer, raw)| match *raw {
                "" => event.without(pointer),
                raw => event.with(pointer, raw),
            });
            probes.push(self.probe(name, likely_cause, &event));
        }
        let optional = || OPTIONAL.split(' ').chain([TOTAL]);
        let absent = optional().fold(self.event(), EventJson::without);
        let null = optional().fold(self.event(), |event, pointer| event.with(pointer, "null"));
        let text = format!(r#""{}""#, "Bitte nicht mehr! ".repeat(100));
        probes.extend([
            self.probe("without_optional_fields", FORM, &absent),
            self.probe("optional_fields_null", FORM, &null),
            self.probe("text_long", VALUE, &self.event().with(TEXT, text)),
        ]);
        for (name, before, after) in [
            ("phone_national", "0", ""),
            ("phone_with_zeros", "0049 (0) ", ""),
            ("phone_with_extension", "tel:+49-", ";ext=17"),
            ("phone_not_number", "☎ ", "?"),
        ] {
            let event = self.event();
            let (start, end) = event.phone["+49".len()..].split_at(4);
            let phone = format!("{before}{start} / {end}{after}");
            probes.push(self.probe(name, PHONE, &event.with_phone(phone)));
        }
        let edited = |name, edit: fn(String) -> String| {
            let event = self.event();
            self.probe(name, FORM, &event).body(RecordedBody::sized(edit(event.text())))
        };
        let event = self.event();
        probes.extend([
            edited("byte_order_mark", |text| format!("\u{feff}{text}")),
            edited("whitespace", |text| {
                text.replace(r#"":"#, "\" :\t").replace(",\"", "\r\n , \"") + "\n"
            }),
            edited("escaped_characters", |text| text.replace("phone", r"\u0070hone")),
            self.probe("stream", FORM, &event).body(RecordedBody::stream(&event.text())),
        ]);
    }

    fn event(&self) -> EventJson {
        EventJson::new(self.accounts.first().copied().unwrap_or_else(|| event().data.user_id))
    }

    fn other_event(&self) -> EventJson {
        self.event().with(NAME, r#""sms.delivery""#)
    }

    /// A delivery of the event, with the credential, that must be acknowledged.
    fn probe(
        &self,
        name: impl Into<Cow<'static, str>>,
        likely_cause: &'static str,
        event: &EventJson,
    ) -> Probe {
        let mut request = unauthenticated(&self.path, Body::empty());
        self.credential.apply_to(&mut request);
        let probe = Probe {
            name: name.into(),
            request,
            expected: Expected::Acknowledged,
            likely_cause,
            phone: event.phone.clone(),
            is_opt_out: true,
            was_read: Arc::default(),
        };
        probe.body(RecordedBody::sized(event.text()))
    }
}

impl Probe {
    pub(super) fn was_read(&self) -> bool {
        self.was_read.load(Ordering::Relaxed)
    }

    fn body(mut self, body: RecordedBody) -> Self {
        self.was_read = Arc::clone(&body.was_read);
        let headers = self.request.headers_mut();
        match body.length {
            Some(length) => drop(headers.insert(CONTENT_LENGTH, length.into())),
            None => drop(headers.remove(CONTENT_LENGTH)),
        }
        *self.request.body_mut() = Body::new(body);
        self
    }

    fn refused(self, code: Code, pointer: Option<&'static str>, is_opt_out: bool) -> Self {
        Self { expected: Expected::Refused(code, pointer), is_opt_out, ..self }
    }

    fn content_type(mut self, values: &[&'static str]) -> Self {
        let headers = self.request.headers_mut();
        headers.remove(CONTENT_TYPE);
        for value in values {
            headers.append(CONTENT_TYPE, HeaderValue::from_static(value));
        }
        self
    }
}
