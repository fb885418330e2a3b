//! The requests of the suite, and the expected response to each.

use std::{
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
    credential::append,
    event,
    invalid_credentials::{NO_CHECK, invalid_credentials},
    unauthenticated,
};
use crate::{Code, Credential};

/// A request, and the expected response.
pub(super) struct Probe {
    pub(super) name: String,
    pub(super) request: Request<Body>,
    pub(super) expected: Expected,
    /// Unless the response shows another one.
    pub(super) likely_cause: &'static str,
    pub(super) phone: String,
    /// Whether the number must be on the suppression list afterwards; otherwise it must not.
    pub(super) is_opt_out: bool,
    was_read: Option<Arc<AtomicBool>>,
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

const OPTIONAL: &str = "/created_at /api_version /attempt_number /attempts_total /attempt_total \
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

/// Pointers and raw values; without a value, the fields are removed.
type Changes = &'static [(&'static str, &'static str)];

const VALID: [(&str, &str, Changes); 22] = [
    ("total_of_the_page", FORM, &[(TOTALS, ""), (TOTAL, "4")]),
    ("total_in_both_names", FORM, &[(TOTAL, "4")]),
    ("without_optional_fields", FORM, &[(OPTIONAL, "")]),
    ("optional_fields_null", FORM, &[(OPTIONAL, "null")]),
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

/// What an unusual number has before and after the digits.
const PHONES: [(&str, &str, &str); 4] = [
    ("phone_national", "0", ""),
    ("phone_with_zeros", "0049 (0) ", ""),
    ("phone_with_extension", "tel:+49-", ";ext=17"),
    ("phone_not_number", "☎ ", "?"),
];

const CONTENT_TYPES: [(&str, bool, &[&str]); 6] = [
    ("content_type_missing", false, &[]),
    ("content_type_text", false, &["text/plain"]),
    ("content_type_suffix", false, &["application/vnd.api+json"]),
    ("content_type_twice", false, &["application/json", "application/json"]),
    ("content_type_charset", true, &["application/json; charset=utf-8"]),
    ("content_type_case", true, &["Application/JSON;charset=\"UTF-8\""]),
];

type Edit = fn(&str) -> Vec<u8>;

/// With whether the opt-out can be read.
const NOT_JSON: [(&str, bool, Edit); 6] = [
    ("body_empty", false, |_| Vec::new()),
    // `data` comes before `name`.
    ("body_cut_off_before_name", false, |text| {
        text.split(r#","name""#).take(1).collect::<String>().into()
    }),
    ("body_cut_off_at_end", true, |text| text.trim_end_matches('}').into()),
    ("body_with_more_behind", true, |text| text.repeat(2).into()),
    ("body_latin_1", true, |text| text.chars().flat_map(u8::try_from).collect()),
    ("field_name_surrogate", true, |text| text.replacen('{', r#"{"\ud800":1,"#, 1).into()),
];

const EDITED: [(&str, &str, Edit); 4] = [
    ("text_long", VALUE, |text| text.replace("Benutzer", &"Benutzer ".repeat(200)).into()),
    ("byte_order_mark", FORM, |text| format!("\u{feff}{text}").into()),
    ("whitespace", FORM, |text| (text.replace(':', " :\t").replace(',', "\r\n , ") + "\n").into()),
    ("escaped_characters", FORM, |text| text.replace("phone", r"\u0070hone").into()),
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
    /// In the order in which they are sent: the forged ones follow the first delivery.
    pub(super) fn probes(&self) -> Vec<Probe> {
        let mut probes = self.repeated();
        probes.splice(1..1, self.forged());
        self.add_refused(&mut probes);
        self.add_other_accounts_and_events(&mut probes);
        self.add_valid(&mut probes);
        probes
    }

    /// A valid delivery, and its event as often as the provider may send it.
    fn repeated(&self) -> Vec<Probe> {
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

    fn forged(&self) -> Vec<Probe> {
        let mut probes = Vec::new();
        for invalid in invalid_credentials(&self.credential) {
            let mut probe = self.probe(invalid.name, invalid.likely_cause, &self.event());
            self.credential.remove_from(&mut probe.request);
            // Skipped if a URI or a header cannot hold it, or if it equals the right credential, whose header
            // may be this one and whose secret may lack letters.
            let appended = append(&mut probe.request, &invalid.location, invalid.values);
            if appended.is_some() && !self.credential.is_present(&probe.request) {
                probes.push(probe);
            }
        }
        let malformed = |text: &str| RecordedBody::sized(format!("{{{text}"));
        for mut probe in [
            self.with_body("no_credential_stream", NO_CHECK, &self.event(), RecordedBody::stream),
            self.with_body("no_credential_malformed", NO_CHECK, &self.event(), malformed)
                .content_type(&["text/plain"]),
            self.probe("no_credential_other_event", NO_CHECK, &self.other_event()),
        ] {
            self.credential.remove_from(&mut probe.request);
            probes.push(probe);
        }
        for probe in &mut probes {
            (probe.expected, probe.is_opt_out) = (Expected::UNAUTHORIZED, false);
            if !self.over_network {
                // Over HTTP/1 the layer itself discards the body; over HTTP/2 only a middleware can read it.
                *probe.request.version_mut() = Version::HTTP_2;
            }
        }
        probes
    }

    fn add_refused(&self, probes: &mut Vec<Probe>) {
        for (name, is_valid, values) in CONTENT_TYPES {
            let mut probe = self.probe(name, FORM, &self.event()).content_type(values);
            if !is_valid {
                probe = probe.refused(Code::ContentType, None, true);
            }
            probes.push(probe);
        }
        for (name, is_opt_out, edit) in NOT_JSON {
            let probe =
                self.with_body(name, "", &self.event(), |text| RecordedBody::sized(edit(text)));
            probes.push(probe.refused(Code::NotJson, None, is_opt_out));
        }
        if !self.over_network {
            let probe =
                self.with_body("body_incomplete", "", &self.event(), RecordedBody::interrupted);
            probes.push(probe.refused(Code::BodyIncomplete, None, false));
        }
        // Valid JSON: only its size is wrong.
        let padded = |text: &str| {
            let padding = (self.body_limit + 1).saturating_sub(text.len());
            text.to_owned() + &" ".repeat(padding)
        };
        let sized = |text: &str| RecordedBody::sized(padded(text));
        let stream = |text: &str| RecordedBody::stream(&padded(text));
        for probe in [
            self.with_body("body_too_large", "", &self.event(), sized),
            self.with_body("body_too_large_stream", "", &self.event(), stream),
        ] {
            probes.push(probe.refused(Code::BodyTooLarge, None, false));
        }

        let mut add = |code: Code, name, pointer, event: EventJson| {
            let is_opt_out = match pointer {
                NAME | "/data" | PHONE_AT => false,
                USER => self.accounts.is_empty(),
                _ => true,
            };
            let probe = self.probe(&format!("{code}:{name}"), "", &event);
            probes.push(probe.refused(code, Some(pointer), is_opt_out));
        };
        for pointer in REQUIRED.split(' ') {
            add(Code::MissingField, pointer, pointer, self.event().with(pointer, ""));
        }
        for (name, pointer, raw) in INVALID {
            add(Code::InvalidField, name, pointer, self.event().with(pointer, raw));
        }
        let mut number = self.event();
        number.phone.remove(0);
        let digits = number.phone.clone();
        add(Code::InvalidField, "phone_number", PHONE_AT, number.with(PHONE_AT, digits));
        for pointer in [ID, NAME, PHONE_AT, USER] {
            add(Code::DuplicateField, pointer, pointer, self.event().duplicated(pointer));
        }
    }

    fn add_other_accounts_and_events(&self, probes: &mut Vec<Probe>) {
        for account in self.accounts.iter().skip(1) {
            let name = format!("own_account:{account}");
            probes.push(self.probe(&name, ACCOUNT_REFUSED, &EventJson::new(*account)));
        }
        let mut foreign = (1..=i64::MAX).filter(|account| !self.accounts.contains(account));
        if let (false, Some(account)) = (self.accounts.is_empty(), foreign.next()) {
            let probe = self.probe("foreign_account", "", &EventJson::new(account));
            probes.push(probe.refused(Code::ForeignAccount, Some(USER), false));
        }
        let bare = |_: &str| RecordedBody::sized(r#"{"name":"sms.delivery"}"#);
        for mut probe in [
            self.probe("other_event", OTHER_EVENT, &self.other_event()),
            self.with_body("other_event_bare", OTHER_EVENT, &self.event(), bare),
        ] {
            probe.is_opt_out = false;
            if !self.acknowledges_other_events {
                probe.expected = Expected::OtherEvent;
            }
            probes.push(probe);
        }
    }

    fn add_valid(&self, probes: &mut Vec<Probe>) {
        for (name, likely_cause, changes) in VALID {
            let mut event = self.event();
            for (pointers, raw) in changes {
                event = pointers.split(' ').fold(event, |event, pointer| event.with(pointer, *raw));
            }
            probes.push(self.probe(name, likely_cause, &event));
        }
        for (name, before, after) in PHONES {
            let event = self.event();
            let (start, end) = event.phone["+49".len()..].split_at(4);
            let phone = format!("{before}{start} / {end}{after}");
            probes.push(self.probe(name, PHONE, &event.with_phone(phone)));
        }
        for (name, likely_cause, edit) in EDITED {
            let body = |text: &str| RecordedBody::sized(edit(text));
            probes.push(self.with_body(name, likely_cause, &self.event(), body));
        }
        probes.push(self.with_body("stream", FORM, &self.event(), RecordedBody::stream));
    }

    fn event(&self) -> EventJson {
        EventJson::new(self.accounts.first().copied().unwrap_or_else(|| event().data.user_id))
    }

    fn other_event(&self) -> EventJson {
        self.event().with(NAME, r#""sms.delivery""#)
    }

    /// A delivery of the event, with the credential, that must be acknowledged.
    fn probe(&self, name: &str, likely_cause: &'static str, event: &EventJson) -> Probe {
        self.with_body(name, likely_cause, event, |text| RecordedBody::sized(text.to_owned()))
    }

    /// A delivery whose body is made of the event's JSON.
    fn with_body(
        &self,
        name: &str,
        likely_cause: &'static str,
        event: &EventJson,
        body: impl FnOnce(&str) -> RecordedBody,
    ) -> Probe {
        let body = body(&event.text());
        let mut request = unauthenticated(&self.path, Body::empty());
        self.credential.apply_to(&mut request);
        if let Some(length) = body.length {
            request.headers_mut().insert(CONTENT_LENGTH, length.into());
        }
        Probe {
            name: name.to_owned(),
            expected: Expected::Acknowledged,
            likely_cause,
            phone: event.phone.clone(),
            is_opt_out: true,
            was_read: (!self.over_network).then(|| Arc::clone(&body.was_read)),
            request: request.map(|_| Body::new(body)),
        }
    }
}

impl Probe {
    /// Whether the app read the body; over the network, it is not known.
    pub(super) fn was_read(&self) -> Option<bool> {
        self.was_read.as_ref().map(|was_read| was_read.load(Ordering::Relaxed))
    }

    /// It must be refused; the likely cause of another outcome follows from the code.
    fn refused(self, code: Code, pointer: Option<&'static str>, is_opt_out: bool) -> Self {
        let likely_cause = match code {
            Code::BodyTooLarge => NO_LIMIT,
            Code::DuplicateField => DUPLICATE_ACCEPTED,
            Code::ForeignAccount => ACCOUNT_ACCEPTED,
            _ => INVALID_ACCEPTED,
        };
        Self { expected: Expected::Refused(code, pointer), likely_cause, is_opt_out, ..self }
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
