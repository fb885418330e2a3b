//! What a suite sends: each request, and what must be answered to it.

use std::{
    borrow::Cow,
    collections::VecDeque,
    fmt, io,
    pin::Pin,
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
    },
    task::{Context, Poll},
};

use axum_core::body::Body;
use bytes::Bytes;
use http::{
    HeaderValue, Request,
    header::{CONTENT_LENGTH, CONTENT_TYPE},
};
use http_body::{Frame, SizeHint};

use super::{event, fields::Fields, forged, unsigned};
use crate::Credential;

/// One request, and what must be answered to it.
pub(super) struct Probe {
    pub(super) name: Cow<'static, str>,
    pub(super) request: Request<Body>,
    pub(super) expected: Expected,
    /// The likely mistake, where the answer itself does not tell another one.
    pub(super) hint: Cow<'static, str>,
    /// Whether the body was read.
    pub(super) read: Arc<AtomicBool>,
}

#[derive(Clone, Copy, PartialEq, Eq)]
pub(super) enum Expected {
    Acknowledged,
    Unauthorized,
    /// With one of the contract's codes, and its pointer.
    Refused(u16, &'static str, Option<&'static str>),
    /// An event of another kind, which a host may refuse.
    AcknowledgedOrOther,
}

impl fmt::Display for Expected {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Acknowledged => f.write_str("200"),
            Self::Unauthorized => f.write_str("401 unauthorized"),
            Self::Refused(status, code, None) => write!(f, "{status} {code}"),
            Self::Refused(status, code, Some(pointer)) => write!(f, "{status} {code} at {pointer}"),
            Self::AcknowledgedOrOther => f.write_str("200 or 400 other_event"),
        }
    }
}

/// What the probes are made for.
pub(super) struct Plan {
    pub(super) path: String,
    pub(super) credential: Credential,
    /// The accounts that the host accepts, if it was told.
    pub(super) accounts: Vec<i64>,
    pub(super) body_limit: usize,
    pub(super) acknowledges_other_events: bool,
    /// Whether the app hands the request on over a socket.
    pub(super) over_a_socket: bool,
}

/// A good delivery, and the same event again: as often as the provider may send it.
pub(super) fn first_and_again(plan: &Plan) -> (Probe, Vec<Probe>) {
    const HINT: &str = "an event that comes again must be acknowledged again, or the provider sends \
                        it until it gives up: store by `event.id` and leave what is there \
                        (`ON CONFLICT DO NOTHING`)";
    let event = plan.event();
    let attempt = |number: u8| event.clone().with("/attempt_number", number.to_string());
    let first = plan.good(FIRST, "the handler failed", &event);
    let again = vec![
        plan.good("duplicate", HINT, &event),
        plan.good("attempt_2", HINT, &attempt(2)),
        plan.good("attempt_3", HINT, &attempt(3)),
        plan.good("attempt_4", HINT, &attempt(4)),
    ];
    (first, again)
}

pub(super) const FIRST: &str = "good_delivery";

/// Who does not have the secret: 401 from the head alone.
pub(super) fn forged(plan: &Plan) -> Vec<Probe> {
    let mut probes = Vec::new();
    for forgery in forged::forgeries(&plan.credential) {
        let mut probe = plan.unsigned(forgery.name, forgery.hint, sized(&plan.event()));
        // What is the right credential after all is no forgery: a place may have an odd name.
        if forgery.put_on(&mut probe.request) && !plan.credential.is_present(&probe.request) {
            probes.push(probe);
        }
    }
    let unsigned = |name, body| plan.unsigned(name, forged::UNGUARDED, body);
    probes.push(unsigned("no_credential_stream", Content::stream(&plan.event().text())));
    let mut malformed = unsigned("no_credential_malformed", Content::Sized(Bytes::from("{")));
    malformed.request.headers_mut().insert(CONTENT_TYPE, HeaderValue::from_static("text/plain"));
    probes.push(malformed);
    let other = Bytes::from(other_event(None));
    probes.push(unsigned("no_credential_other_event", Content::Sized(other)));
    probes
}

/// Who has the secret, and spells it in another way than `Credential::apply_to`.
pub(super) fn credential_spellings(plan: &Plan) -> Vec<Probe> {
    let spellings = forged::spellings(&plan.credential);
    let probes = spellings.into_iter().filter_map(|spelling| {
        let mut probe = plan.unsigned(spelling.name, spelling.hint, sized(&plan.event()));
        probe.expected = Expected::Acknowledged;
        spelling.put_on(&mut probe.request).then_some(probe)
    });
    probes.collect()
}

const JSON_EXTRACTOR: &str = "the handler takes `axum::Json` (or decodes by itself), which has other rules than the \
                              contract and asks for neither the layer nor the account, or it acknowledges a \
                              `Rejection`: take `UnsubscribeEvent`, and give its `Rejection` back";

pub(super) fn content_types(plan: &Plan) -> Vec<Probe> {
    let content_type = Expected::Refused(400, "content_type", None);
    let refused = |name, types: &[&'static str]| {
        let mut probe = plan.signed(name, content_type, JSON_EXTRACTOR, sized(&plan.event()));
        let headers = probe.request.headers_mut();
        headers.remove(CONTENT_TYPE);
        for value in types {
            headers.append(CONTENT_TYPE, HeaderValue::from_static(value));
        }
        probe
    };
    let accepted = |name, value| {
        let hint = "Content-Type may be in any case and have any parameters: take \
                    `UnsubscribeEvent`, and put no check of your own before it";
        let mut probe = plan.good(name, hint, &plan.event());
        probe.request.headers_mut().insert(CONTENT_TYPE, HeaderValue::from_static(value));
        probe
    };
    vec![
        refused("content_type_missing", &[]),
        refused("content_type_text", &["text/plain"]),
        refused("content_type_suffix", &["application/vnd.api+json"]),
        refused("content_type_twice", &["application/json", "application/json"]),
        accepted("content_type_charset", "application/json; charset=utf-8"),
        accepted("content_type_case", "Application/JSON;charset=\"UTF-8\""),
    ]
}

/// Bodies that are no JSON, or not whole, or too large.
pub(super) fn broken_bodies(plan: &Plan) -> Vec<Probe> {
    const ACCEPTED: &str = "the handler accepts a body that cannot be read, and its event is lost \
                            without a retry: take `UnsubscribeEvent`, and give its `Rejection` back";
    let not_json = |name, body: Bytes| {
        let expected = Expected::Refused(400, "not_json", None);
        plan.signed(name, expected, ACCEPTED, Content::Sized(body))
    };
    let text = plan.event().text();
    let invalid = plan.event().with("/data/phone", "\"\u{1a}\"").text().into_bytes();
    let invalid = invalid.into_iter().map(|byte| if byte == 0x1a { 0xff } else { byte });
    let mut probes = vec![
        not_json("body_empty", Bytes::new()),
        not_json("body_cut_off", Bytes::copy_from_slice(&text.as_bytes()[..text.len() / 2])),
        not_json("body_with_more_behind", Bytes::from(format!("{text}{text}"))),
        not_json("body_not_utf8", invalid.collect()),
    ];
    if !plan.over_a_socket {
        let expected = Expected::Refused(400, "body_incomplete", None);
        let whole = Bytes::from(text.clone());
        probes.push(plan.signed("body_incomplete", expected, ACCEPTED, Content::Broken(whole)));
    }

    let hint = format!(
        "nothing limits the body to {} bytes: axum's `DefaultBodyLimit` does (2 MB unless it is set or \
         disabled), without axum `http_body_util::Limited`; if your limit is another one, tell it by \
         `.body_limit(bytes)`",
        plan.body_limit
    );
    // Good JSON up to its end: nothing but the size is wrong.
    let large = format!("{text}{}", " ".repeat((plan.body_limit + 1).saturating_sub(text.len())));
    let too_large = Expected::Refused(400, "body_too_large", None);
    let stream = Content::stream(&large);
    probes.push(plan.signed(
        "body_too_large",
        too_large,
        hint.clone(),
        Content::Sized(large.into()),
    ));
    probes.push(plan.signed("body_too_large_stream", too_large, hint, stream));
    probes
}

/// Bodies that break a rule of the contract's table.
pub(super) fn broken_fields(plan: &Plan) -> Vec<Probe> {
    const ACCEPTED: &str = "the handler accepts an event that breaks the contract: it decodes by \
                            itself, or acknowledges a `Rejection`: take `UnsubscribeEvent`";
    const DOUBLED: &str = "a doubled field is accepted: a middleware parses the body and writes it \
                           again, or the handler decodes by itself: take `UnsubscribeEvent` from the \
                           body as it came";
    let missing = MUST.iter().map(|pointer| {
        let expected = Expected::Refused(400, "missing_field", Some(pointer));
        let body = sized(&plan.event().without(pointer));
        plan.signed(format!("missing_field:{pointer}"), expected, ACCEPTED, body)
    });
    let invalid = INVALID.iter().map(|(name, pointer, text)| {
        let expected = Expected::Refused(400, "invalid_field", Some(pointer));
        let body = sized(&plan.event().with(pointer, *text));
        plan.signed(format!("invalid_field:{name}"), expected, ACCEPTED, body)
    });
    let doubled = ["/id", "/data/phone", "/data/user_id"].into_iter().map(|pointer| {
        let expected = Expected::Refused(400, "duplicate_field", Some(pointer));
        let text = match pointer {
            "/id" => format!(r#""{}""#, event().id),
            "/data/phone" => r#""+4911113333445""#.to_owned(),
            _ => plan.account().to_string(),
        };
        let body = sized(&plan.event().and(pointer, text));
        plan.signed(format!("duplicate_field:{pointer}"), expected, DOUBLED, body)
    });
    let totals = plan.signed(
        "invalid_field:totals_disagree",
        Expected::Refused(400, "invalid_field", Some("/attempts_total")),
        ACCEPTED,
        sized(&plan.event().with("/attempts_total", "4").with("/attempt_total", "3")),
    );
    missing.chain(invalid).chain([totals]).chain(doubled).collect()
}

/// The fields without which there is no event.
const MUST: [&str; 14] = [
    "/id",
    "/name",
    "/data",
    "/data/phone",
    "/data/user_id",
    "/data/created_at",
    "/data/campaign_code",
    "/data/additional_data",
    "/data/additional_data/reason",
    "/data/additional_data/reason/id",
    "/data/additional_data/reason/label",
    "/data/additional_data/additional_text",
    "/data/short_link_code",
    "/data/unsubscribe_request_id",
];

const REASON: &str = "/data/additional_data/reason/id";

/// Values that the table does not allow.
const INVALID: [(&str, &str, &str); 17] = [
    ("id_upper_case", "/id", r#""EF58B437-1319-4B0C-961B-17214CF1CF32""#),
    ("id_without_hyphens", "/id", r#""ef58b43713194b0c961b17214cf1cf32""#),
    ("id_null", "/id", "null"),
    ("name_number", "/name", "1"),
    ("data_array", "/data", "[]"),
    ("phone_number", "/data/phone", "4911113333444"),
    ("phone_null", "/data/phone", "null"),
    ("account_text", "/data/user_id", r#""2""#),
    ("account_fraction", "/data/user_id", "2.5"),
    ("time_below_64_bits", "/data/created_at", "-9223372036854775809"),
    ("reason_0", REASON, "0"),
    ("reason_7", REASON, "7"),
    ("reason_text", REASON, r#""4""#),
    ("text_null", "/data/additional_data/additional_text", "null"),
    ("attempt_0", "/attempt_number", "0"),
    ("total_5", "/attempts_total", "5"),
    ("task_no_uuid", "/notification_task_id", r#""17""#),
];

/// Good events as the provider may spell them one day, or does already.
pub(super) fn spellings(plan: &Plan) -> Vec<Probe> {
    const SPELLING: &str = "a good event is refused for its spelling, and its opt-out is lost: take \
                            `UnsubscribeEvent`, and put no check of your own before it";
    const VALUE: &str = "a good event is refused for a value, and its opt-out is lost: the handler \
                         or the database cannot take all that the contract allows here";
    let mut probes = Vec::new();
    let mut good = |name: &'static str, hint: &'static str, event: &Fields| {
        probes.push(plan.good(name, hint, event));
    };
    let event = || plan.event();

    good(
        "total_of_the_page",
        SPELLING,
        &event().without("/attempts_total").and("/attempt_total", "4"),
    );
    good("total_in_both_spellings", SPELLING, &event().and("/attempt_total", "4"));
    let bare = OPTIONAL.iter().fold(event(), |event, pointer| event.without(pointer));
    good("without_optional_fields", SPELLING, &bare);
    let null = OPTIONAL.iter().fold(event(), |event, pointer| event.with(pointer, "null"));
    good("optional_fields_null", SPELLING, &null.and("/attempt_total", "null"));
    let fractions = event()
        .with(REASON, "4.0")
        .with("/data/created_at", "1757849748.0")
        .with("/attempt_number", "1.0");
    good("integers_with_fraction", SPELLING, &fractions);
    good(
        "integers_with_exponent",
        SPELLING,
        &event().with(REASON, "0.4e1").with("/attempts_total", "4e0"),
    );
    let unknown = event()
        .and("/new", r#"{"a":[1,{"b":null}],"a":2}"#)
        .and("/data/new", r#""\ud800""#)
        .and("/data/additional_data/new", "1e999")
        .and("/data/additional_data/reason/new", "[[[]]]");
    good("unknown_fields", SPELLING, &unknown);
    good("fields_in_another_order", SPELLING, &event().reversed());
    good("newer_version", SPELLING, &event().with("/api_version", r#""2099-12-31""#));
    good("task_id", SPELLING, &event().with("/notification_task_id", TASK));

    for (name, phone) in PHONES {
        good(
            name,
            "a number in an odd format is still an opt-out: store it as it came",
            &event().with("/data/phone", phone),
        );
    }
    for (name, reason) in REASONS {
        good(name, VALUE, &event().with(REASON, reason));
    }
    let text = "/data/additional_data/additional_text";
    let label = "/data/additional_data/reason/label";
    good("text_empty", VALUE, &event().with(text, r#""""#));
    good(
        "text_long",
        VALUE,
        &event().with(text, format!(r#""{}""#, "Bitte nicht mehr! ".repeat(100))),
    );
    good(
        "text_of_any_script",
        VALUE,
        &event().with(text, r#""'; -- \"<b>אל 🙅🏽 \\""#).with(label, r#""Другое""#),
    );
    good("text_with_control_characters", NUL, &event().with(text, r#""a\u0000b\u001b\r\n""#));
    let large = event()
        .with("/data/unsubscribe_request_id", i64::MAX.to_string())
        .with("/data/group_id", i64::MAX.to_string());
    good("ids_of_64_bits", VALUE, &large);
    good("time_after_2038", VALUE, &event().with("/data/created_at", "4102444800"));
    good("time_zero", VALUE, &event().with("/data/created_at", "0").with("/created_at", "0"));

    let mut raw = |name: &'static str, content| {
        probes.push(plan.signed(name, Expected::Acknowledged, SPELLING, content));
    };
    let text = event().text();
    let spaced = text.replace(r#"":"#, "\" :\t").replace(",\"", "\r\n , \"");
    raw("white_space", Content::Sized(Bytes::from(format!("\r\n{spaced} \n"))));
    let escaped = event().text().replace("phone", r"\u0070hone");
    raw("escaped_characters", Content::Sized(Bytes::from(escaped)));
    raw("stream", Content::stream(&event().text()));
    probes
}

const NUL: &str = "a good event is refused for a control character in a text, and its opt-out is lost: \
                   PostgreSQL's `text` and `jsonb` hold no U+0000, so take it out first, or store bytes";

/// The optional fields, but `attempt_total`.
const OPTIONAL: [&str; 6] = [
    "/created_at",
    "/api_version",
    "/attempt_number",
    "/attempts_total",
    "/notification_task_id",
    "/data/group_id",
];

const TASK: &str = r#""3378DE83-de66-4de8-9d29-2b10d41bb641""#;

const PHONES: [(&str, &str); 4] = [
    ("phone_national", r#""0111 / 133 33-444""#),
    ("phone_with_zeros", r#""0049 (0) 111 13333444""#),
    ("phone_with_extension", r#""tel:+49-1111-333-3444;ext=17""#),
    ("phone_no_number", r#""☎""#),
];

const REASONS: [(&str, &str); 6] = [
    ("reason_1", "1"),
    ("reason_2", "2"),
    ("reason_3", "3"),
    ("reason_4", "4"),
    ("reason_5", "5"),
    ("reason_6", "6"),
];

/// Events of other kinds, which an account sends to the same address unless it is told not to.
pub(super) fn other_events(plan: &Plan) -> Vec<Probe> {
    const HINT: &str = "an event of another kind is sent four times unless it is acknowledged: take \
                        `Option<UnsubscribeEvent>` and return `Received` for `None`";
    let expected = if plan.acknowledges_other_events {
        Expected::Acknowledged
    } else {
        Expected::AcknowledgedOrOther
    };
    let probe = |name, body: String| plan.signed(name, expected, HINT, Content::Sized(body.into()));
    vec![
        probe("other_event", other_event(Some(plan.account()))),
        probe("other_event_bare", other_event(None)),
    ]
}

fn other_event(account: Option<i64>) -> String {
    match account {
        Some(account) => Fields::event()
            .without("/data")
            .and("/data/user_id", account.to_string())
            .and("/data/status_code", "100")
            .with("/name", r#""sms.delivery""#)
            .text(),
        None => r#"{"name":"sms.delivery"}"#.to_owned(),
    }
}

/// Every account of the host's, and one that is not.
pub(super) fn accounts(plan: &Plan) -> Vec<Probe> {
    const REFUSED: &str = "the layer does not accept an account that the suite was told: compare \
                           `allow_users` with `.accounts(..)`";
    const ACCEPTED: &str = "an event of another account gets in: the layer lacks `allow_users`, or the \
                            handler takes `axum::Json<UnsubscribeEvent>`, which does not ask it: take \
                            `UnsubscribeEvent`; or `allow_users` has more accounts than `.accounts(..)`";
    let event = |account: i64| plan.event().with("/data/user_id", account.to_string());
    let own = plan.accounts.iter().skip(1).map(|account| {
        let mut probe = plan.good("own_account", REFUSED, &event(*account));
        probe.name = format!("own_account:{account}").into();
        probe
    });
    let foreign = (1..=i64::MAX).find(|account| !plan.accounts.contains(account));
    let foreign = foreign.filter(|_| !plan.accounts.is_empty()).map(|account| {
        let expected = Expected::Refused(403, "foreign_account", Some("/data/user_id"));
        plan.signed("foreign_account", expected, ACCEPTED, sized(&event(account)))
    });
    own.chain(foreign).collect()
}

impl Plan {
    fn account(&self) -> i64 {
        self.accounts.first().copied().unwrap_or_else(|| event().data.user_id)
    }

    /// The example as an event of the host's account.
    fn event(&self) -> Fields {
        Fields::event().with("/data/user_id", self.account().to_string())
    }

    fn good(&self, name: &'static str, hint: &'static str, event: &Fields) -> Probe {
        self.signed(name, Expected::Acknowledged, hint, sized(event))
    }

    fn signed(
        &self,
        name: impl Into<Cow<'static, str>>,
        expected: Expected,
        hint: impl Into<Cow<'static, str>>,
        content: Content,
    ) -> Probe {
        let mut probe = self.unsigned(name, hint, content);
        self.credential.apply_to(&mut probe.request);
        probe.expected = expected;
        probe
    }

    fn unsigned(
        &self,
        name: impl Into<Cow<'static, str>>,
        hint: impl Into<Cow<'static, str>>,
        content: Content,
    ) -> Probe {
        let read = Arc::new(AtomicBool::new(false));
        let length = content.length();
        let body = Body::new(Watched { frames: content.frames(), length, read: Arc::clone(&read) });
        let mut request = unsigned(&self.path, body);
        // The path may be that of the dashboard's URL, which has the secret in its query.
        self.credential.remove_from(&mut request);
        if let Some(length) = length {
            request.headers_mut().insert(CONTENT_LENGTH, length.into());
        }
        let (name, hint) = (name.into(), hint.into());
        Probe { name, request, expected: Expected::Unauthorized, hint, read }
    }
}

fn sized(event: &Fields) -> Content {
    Content::Sized(event.text().into())
}

enum Content {
    /// In one piece, and announced by `Content-Length`.
    Sized(Bytes),
    /// In pieces, and of unknown length.
    Stream(Vec<Bytes>),
    /// Announced, but cut off by an error in the middle.
    Broken(Bytes),
}

impl Content {
    fn stream(text: &str) -> Self {
        let piece = text.len().div_ceil(7).max(1);
        Self::Stream(text.as_bytes().chunks(piece).map(Bytes::copy_from_slice).collect())
    }

    fn length(&self) -> Option<u64> {
        match self {
            Self::Sized(bytes) | Self::Broken(bytes) => u64::try_from(bytes.len()).ok(),
            Self::Stream(_) => None,
        }
    }

    fn frames(self) -> VecDeque<io::Result<Bytes>> {
        match self {
            Self::Sized(bytes) if bytes.is_empty() => VecDeque::new(),
            Self::Sized(bytes) => [Ok(bytes)].into(),
            Self::Stream(pieces) => pieces.into_iter().map(Ok).collect(),
            Self::Broken(bytes) => {
                let half = bytes.slice(..bytes.len() / 2);
                [Ok(half), Err(io::ErrorKind::ConnectionReset.into())].into()
            }
        }
    }
}

/// A body that tells whether it was read.
struct Watched {
    frames: VecDeque<io::Result<Bytes>>,
    length: Option<u64>,
    read: Arc<AtomicBool>,
}

impl http_body::Body for Watched {
    type Data = Bytes;
    type Error = io::Error;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        _: &mut Context<'_>,
    ) -> Poll<Option<io::Result<Frame<Bytes>>>> {
        self.read.store(true, Ordering::Relaxed);
        Poll::Ready(self.frames.pop_front().map(|piece| piece.map(Frame::data)))
    }

    fn size_hint(&self) -> SizeHint {
        self.length.map(SizeHint::with_exact).unwrap_or_default()
    }
}
