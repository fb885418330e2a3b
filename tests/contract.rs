//! Every row of the contract's field table, on every way in: the extractor, `from_body`,
//! `from_slice` and `Deserialize`.
//!
//! `cargo test` runs this file with one of the features of `serde_json` that change how JSON is read
//! (the validator of `tests/oracle` turns it on), the package `tests/json-features` with all of them,
//! and `cargo test -p unsubscribe-webhook` with none.

mod common;

use common::prelude::*;
use http_body_util::Full;
use serde::Deserialize;
use serde_json::Value;
use unsubscribe_webhook::ReasonId;

type Verdict = Result<UnsubscribeEvent, (&'static str, Option<&'static str>)>;

/// The one verdict of every way in.
#[track_caller]
fn verdict(body: impl AsRef<[u8]>) -> Verdict {
    let body = body.as_ref();
    let verdict = verdict_of(UnsubscribeEvent::from_slice(body));

    assert_eq!(by_extractor(body), verdict, "extractor");
    // What `serde_json` skips it does not check for UTF-8.
    if let Ok(text) = std::str::from_utf8(body) {
        assert_same(serde_json::from_str(text), &verdict);
        assert_same(serde_json::from_slice(body), &verdict);
        assert_same(serde_json::from_reader(body), &verdict);
    }
    verdict
}

fn verdict_of(result: Decoded) -> Verdict {
    result.map_err(|rejection| (rejection.code().as_str(), rejection.pointer()))
}

/// Through axum, and through `from_body` behind the same layer.
fn by_extractor(body: &[u8]) -> Verdict {
    let (sender, receiver) = std::sync::mpsc::channel();
    let handler = move |head: Parts, event: Decoded| {
        let _ = sender.send((head, event));
        async {}
    };
    let app: Router = protected(handler);
    let runtime = tokio::runtime::Builder::new_current_thread().build().expect("a runtime");
    let body = Bytes::copy_from_slice(body);
    runtime.block_on(app.oneshot(authenticated(body.clone()))).expect("a router does not fail");
    let (head, event) = receiver.recv().expect("the handler was called");

    if let Err(rejection) = &event {
        assert_eq!(rejection.body(), Some(&body), "a rejection contains the body");
        let reply = runtime.block_on(read(rejection.clone().into_response()));
        assert_refused(&reply, rejection.code().as_str(), rejection.pointer());
    }
    let verdict = verdict_of(event);
    let from_body = runtime.block_on(UnsubscribeEvent::from_body(&head, Full::new(body)));
    assert_eq!(verdict_of(from_body), verdict, "from_body");
    verdict
}

/// `Deserialize` has no code, but the same event, or a message with the same field.
#[track_caller]
fn assert_same(result: serde_json::Result<UnsubscribeEvent>, verdict: &Verdict) {
    match (result, verdict) {
        (Ok(event), Ok(expected)) => assert_eq!(event, *expected),
        // It stops at the first fault, which may be another field of an event of another kind.
        (Err(_), Err(("other_event", _) | (_, None))) => {}
        (Err(error), Err((_, Some(pointer)))) => {
            assert!(error.to_string().starts_with(&format!("{pointer}: ")), "{error}");
        }
        (result, verdict) => panic!("{result:?}, but {verdict:?}"),
    }
}

/// Asserts that a field refuses each of the raw values, which are separated by whitespace.
#[track_caller]
fn assert_refuses(pointer: &'static str, raw_values: &str) {
    for raw in raw_values.split_whitespace() {
        let verdict = verdict(Fields::example().with(pointer, raw).json());
        assert_eq!(verdict, Err(("invalid_field", Some(pointer))), "{pointer}: {raw}");
    }
}

/// What an accepted value of a field is in the event's canonical form.
#[track_caller]
fn accepted(pointer: &str, raw: &str) -> Option<Value> {
    match verdict(Fields::example().with(pointer, raw).json()) {
        Ok(event) => written(&event, pointer),
        Err(refused) => panic!("{pointer}: {raw} is refused: {refused:?}"),
    }
}

fn written(event: &UnsubscribeEvent, pointer: &str) -> Option<Value> {
    serde_json::to_value(event).expect("JSON").pointer(pointer).cloned()
}

#[test]
fn the_example_is_decoded_and_written_unchanged() {
    let event = verdict(EXAMPLE).expect("the example is an event");
    assert_eq!(event.id.to_string(), "ef58b437-1319-4b0c-961b-17214cf1cf32");
    assert_eq!(event.created_at, Some(1_757_849_748));
    assert_eq!(event.api_version.as_deref(), Some("2022-05-25"));
    assert_eq!((event.attempt_number, event.attempts_total), (Some(1), Some(4)));
    assert_eq!(event.notification_task_id, None);
    let data = &event.data;
    assert_eq!((&*data.phone, data.user_id, data.group_id), ("+4911113333444", 2, None));
    assert_eq!((data.created_at, data.unsubscribe_request_id), (1_757_849_748, 59));
    assert_eq!((&*data.campaign_code, &*data.short_link_code), ("3KCKb5nMD", "baaIou"));
    let AdditionalData { reason, additional_text, .. } = &data.additional_data;
    assert_eq!(reason.id, ReasonId::Incomprehensible);
    assert_eq!(reason.label, "Es ist unverständlich");
    assert_eq!(additional_text, "zusätzlicher Benutzertext mit Erklärung");

    assert_eq!(serde_json::to_string(&event).expect("JSON"), compact_example());
}

fn compact_example() -> String {
    EXAMPLE.lines().map(|line| line.trim().replacen(": ", ":", 1)).collect()
}

#[test]
fn an_event_is_written_in_canonical_form() {
    let unusual = Fields::example()
        .with("/notification_task_id", r#""3378DE83-DE66-4DE8-9D29-2B10D41BB641""#)
        .with("/data/group_id", "1.23e2")
        .with("/attempts_total", "null")
        .with("/api_version", "null")
        .and("/attempt_total", "4.0")
        .and("/more", "[1]")
        .and("/data/additional_data/more", "{}");
    let task = r#","notification_task_id":"3378de83-de66-4de8-9d29-2b10d41bb641"}"#;
    let canonical = compact_example()
        .replace("59}", r#"59,"group_id":123}"#)
        .replace(r#""api_version":"2022-05-25","#, "")
        .replace(r#""attempts_total":4}"#, &format!(r#""attempts_total":4{task}"#));
    let event = verdict(unusual.json()).expect("an event");
    assert_eq!(serde_json::to_string(&event).expect("JSON"), canonical);
    assert_eq!(verdict(canonical), Ok(event));
}

const REQUIRED: &str = "/id /name /data /data/phone /data/user_id /data/created_at \
    /data/campaign_code /data/additional_data /data/additional_data/reason \
    /data/additional_data/reason/id /data/additional_data/reason/label \
    /data/additional_data/additional_text /data/short_link_code /data/unsubscribe_request_id";

const OPTIONAL: &str = "/api_version /created_at /attempt_number /attempts_total \
    /notification_task_id /data/group_id";

#[test]
fn each_required_field_is_required() {
    for pointer in REQUIRED.split(' ') {
        let absent = Fields::example().without(pointer).json();
        assert_eq!(verdict(absent), Err(("missing_field", Some(pointer))));
        assert_refuses(pointer, "null");
    }
}

#[test]
fn each_optional_field_may_be_absent_or_null() {
    let given = verdict(Fields::example().json()).expect("an event");
    for pointer in OPTIONAL.split(' ') {
        assert!(written(&given, pointer).is_some(), "{pointer}");
        let absent = verdict(Fields::example().without(pointer).json()).expect(pointer);
        assert!(written(&absent, pointer).is_none(), "{pointer}");
        let null = Fields::example().with(pointer, "null").json();
        assert_eq!(verdict(null), Ok(absent), "{pointer}");
    }
}

#[test]
fn strings_are_strings() {
    for pointer in "/data/phone /data/campaign_code /data/additional_data/reason/label \
        /data/additional_data/additional_text /data/short_link_code /api_version"
        .split(' ')
    {
        for (raw, text) in [
            (r#""""#, ""),
            (r#""\u0000 \ud83d\ude00 \" \\ \/ tab\t""#, "\0 😀 \" \\ / tab\t"),
            (r#""\u002b49 / 1111 \u00e4 (odd)""#, "+49 / 1111 ä (odd)"),
        ] {
            assert_eq!(accepted(pointer, raw), Some(text.into()), "{pointer}");
        }
        assert_refuses(pointer, r#"4 true [] ["x"] {}"#);
        assert_refuses(pointer, r#""\ud800" "\udc00\ud800" "\ud83d!""#);
    }
}

/// Raw values, separated by spaces, and what each of them is read as.
const INTEGERS: [(&str, i64); 15] = [
    ("2 2.0 2e0 2E0 2.000000000000000000000000 20e-1 0.2e1 0.02e+2", 2),
    ("0.00000000000000000000000000002e29 2e00000000000000000000000000000000", 2),
    ("-3 -3.0 -30e-1", -3),
    ("0 -0 -0.0 0e400 0.0e-99999999999999999999", 0),
    ("1757849748.0", 1_757_849_748),
    ("9007199254740991.0", 9_007_199_254_740_991),
    ("-9.007199254740991e15", -9_007_199_254_740_991),
    ("9007199254740992", 9_007_199_254_740_992),
    ("9007199254740993", 9_007_199_254_740_993),
    ("9223372036854775807", i64::MAX),
    ("-9223372036854775808", i64::MIN),
    ("1e15", 1_000_000_000_000_000),
    // A double rounds the fraction away.
    ("2.0000000000000000000000001", 2),
    ("1.00000000000000000001", 1),
    ("1e-400", 0),
];

fn integers() -> impl Iterator<Item = (&'static str, i64)> {
    INTEGERS.iter().flat_map(|(raw, value)| raw.split(' ').map(|raw| (raw, *value)))
}

const NOT_INTEGERS: &str = r#"
    2.5 25e-1 2251799813685249.5 9007199254740991.5 9007199254740992.0 -9007199254740992.0
    9007199254740992.5 9007199254740993.0 -9007199254740993.0 90071992547409930e-1 1e16 1e400
    1e99999999999999999999 9223372036854775807.0 9223372036854775808 -9223372036854775809
    -9223372036854775809.0 18446744073709551615 18446744073709551616
    100000000000000000000000000000000000000000 "2" true [] [2] {}
    {"$serde_json::private::Number":"2"}"#;

#[test]
fn integers_are_those_of_json_schema() {
    for pointer in "/created_at /attempt_number /data/user_id /data/created_at \
        /data/unsubscribe_request_id /data/group_id"
        .split(' ')
    {
        // The attempt number starts at 1.
        let minimum = if pointer == "/attempt_number" { 1 } else { i64::MIN };
        for (raw, value) in integers().filter(|(_, value)| *value >= minimum) {
            assert_eq!(accepted(pointer, raw), Some(value.into()), "{pointer}: {raw}");
        }
        assert_refuses(pointer, NOT_INTEGERS);
    }
    assert_refuses("/attempt_number", "0 -1 0.0 -0");
}

#[test]
fn the_total_has_two_names_that_agree() {
    let neither = Fields::example().without("/attempts_total");
    for name in ["/attempts_total", "/attempt_total"] {
        for (raw, value) in [("1", 1), ("4", 4), ("2.0", 2), ("2e0", 2)] {
            let event = verdict(neither.and(name, raw).json()).expect(name);
            assert_eq!(event.attempts_total, Some(value));
        }
        for raw in ["0", "5", "-1", "2.5", "\"2\"", "true", "[]", "[2]", "{}", "4.5"] {
            let refused = Err(("invalid_field", Some(name)));
            assert_eq!(verdict(neither.and(name, raw).json()), refused, "{raw}");
        }
        for raw in ["4", "null"] {
            let duplicate = neither.and(name, raw).and(name, raw).json();
            assert_eq!(verdict(duplicate), Err(("duplicate_field", Some(name))));
        }
    }
    for (page, example, total) in [
        ("3", "3", Ok(Some(3))),
        ("3", "3.0", Ok(Some(3))),
        ("null", "3", Ok(Some(3))),
        ("3", "null", Ok(Some(3))),
        ("null", "null", Ok(None)),
        ("3", "4", Err(("invalid_field", Some("/attempts_total")))),
    ] {
        let both = neither.and("/attempt_total", page).and("/attempts_total", example);
        assert_eq!(verdict(both.json()).map(|event| event.attempts_total), total);
    }
}

#[test]
fn the_reason_is_one_of_six() {
    let pointer = "/data/additional_data/reason/id";
    for (raw, id) in [("1", 1), ("2", 2), ("3", 3), ("4", 4), ("5", 5), ("6.0", 6), ("2e0", 2)] {
        assert_eq!(accepted(pointer, raw), Some(id.into()));
    }
    assert_refuses(pointer, NOT_INTEGERS);
    assert_refuses(pointer, "0 7 -1 2.5");
}

#[test]
fn a_uuid_has_hyphens_and_that_of_the_event_is_in_lower_case() {
    for (uuid, is_id) in [
        ("00000000-0000-0000-0000-000000000000", true),
        ("ffffffff-ffff-ffff-ffff-ffffffffffff", true),
        ("EF58B437-1319-4B0C-961B-17214CF1CF32", false),
        ("ef58b437-1319-4b0c-961b-17214cf1cf3F", false),
    ] {
        let (raw, lower) = (format!("{uuid:?}"), Some(uuid.to_lowercase().into()));
        assert_eq!(accepted("/notification_task_id", &raw), lower);
        if is_id {
            assert_eq!(accepted("/id", &raw), lower);
        } else {
            assert_refuses("/id", &raw);
        }
    }
    for pointer in ["/id", "/notification_task_id"] {
        let escaped = accepted(pointer, r#""\u0065f58b437-1319-4b0c-961b-17214cf1cf32""#);
        assert_eq!(escaped, Some("ef58b437-1319-4b0c-961b-17214cf1cf32".into()));
        assert_refuses(
            pointer,
            r#""" "ef58b43713194b0c961b17214cf1cf32" "{ef58b437-1319-4b0c-961b-17214cf1cf32}"
            "urn:uuid:ef58b437-1319-4b0c-961b-17214cf1cf32" "ef58b437-1319-4b0c-961b-17214cf1cf3"
            "ef58b437-1319-4b0c-961b-17214cf1cf322" "\u0020ef58b437-1319-4b0c-961b-17214cf1cf32"
            "ef58b437-1319-4b0c-961b-17214cf1cf32\n" "ef58b4371-319-4b0c-961b-17214cf1cf32"
            "ef58b437-1319-4b0c-961b-17214cf1cfg2" "ef58b437-1319-4b0c-961b-17214cf1cfä"
            4 ["ef58b437-1319-4b0c-961b-17214cf1cf32"] {}"#,
        );
    }
}

#[test]
fn an_event_of_another_kind_is_known_by_its_name() {
    let other = Err(("other_event", Some("/name")));
    assert_eq!(verdict(r#"{"name":"sms.delivery"}"#), other);
    assert_eq!(verdict(r#"{"name":"sms.delivery","id":1,"id":2,"data":[]}"#), other);
    for name in ["sms.delivery", "phone.unsubscribe ", "Phone.Unsubscribe", "phone.subscribe", ""] {
        assert_eq!(verdict(Fields::example().with("/name", &format!("{name:?}")).json()), other);
    }
    // Whatever else is wrong, wherever the name is.
    for fault in [
        r#""id":1"#,
        r#""data":{"phone":1}"#,
        r#""data":[1e999],"data":[]"#,
        r#""attempts_total":9"#,
        r#""\ud800":1"#,
        r#""id":"\udc00""#,
        r#""attempt_number":1e999"#,
    ] {
        for body in [
            format!(r#"{{{fault},"name":"sms.delivery"}}"#),
            format!(r#"{{"name":"sms.delivery",{fault}}}"#),
        ] {
            assert_eq!(verdict(&body), other, "{body}");
        }
    }
    accepted("/name", r#""phone\u002eunsubscribe""#);
    assert_refuses("/name", r#"4 null true [] ["phone.unsubscribe"] {}"#);
    assert_refuses("/name", r#""\ud800""#);
    for (one, two) in [("sms.delivery", "sms.delivery"), ("sms.delivery", "phone.unsubscribe")] {
        let duplicate = format!(r#"{{"name":"{one}","name":"{two}"}}"#);
        let verdict = verdict_of(UnsubscribeEvent::from_slice(duplicate.as_bytes()));
        assert_eq!(verdict, Err(("duplicate_field", Some("/name"))));
    }
}

#[test]
fn objects_are_objects() {
    for pointer in ["/data", "/data/additional_data", "/data/additional_data/reason"] {
        assert_refuses(pointer, r#"[] 4 "x" true [{"id":4}]"#);
    }
    // In the order that derived serde code takes for the object.
    assert_refuses("/data/additional_data/reason", r#"[4,"label"]"#);
    assert_refuses("/data/additional_data", r#"[{"id":4,"label":"l"},"text"]"#);
    // A body that is none has no field.
    for body in ["[]", "4", "null", "true", r#""phone.unsubscribe""#, "{}", r#"[{"name":"x"}]"#] {
        assert_eq!(verdict(body), Err(("missing_field", Some("/name"))), "{body}");
    }
}

#[test]
fn no_field_may_be_duplicate() {
    for pointer in REQUIRED.split(' ').chain(OPTIONAL.split(' ')) {
        for raw in [r#""x""#, "1", "{}", "null"] {
            let duplicate = Fields::example().and(pointer, raw).json();
            assert_eq!(verdict(duplicate), Err(("duplicate_field", Some(pointer))), "{pointer}");
        }
    }
    let by_escape = Fields::example().and(r"/data/\u0070hone", r#""x""#).json();
    assert_eq!(verdict(by_escape), Err(("duplicate_field", Some("/data/phone"))));
}

#[test]
fn unknown_fields_are_ignored_whatever_they_hold() {
    let expected = verdict(Fields::example().json()).expect("an event");
    let deep = format!("{}{}", "[".repeat(200), "]".repeat(200));
    let deeper = format!("{}1{}", r#"{"a":["#.repeat(100_000), "]}".repeat(100_000));
    let objects = ["", "/data", "/data/additional_data", "/data/additional_data/reason"];
    for object in objects {
        for raw in
            [&*deep, &*deeper, "1e400", "null", r#""\ud800""#, "[[],{}]", r#"{"id":1,"id":2}"#]
        {
            let body = Fields::example().and(&format!("{object}/unknown"), raw);
            assert_eq!(verdict(body.json()).as_ref(), Ok(&expected));
            // Twice is as good as once, and so is a name of another object.
            let body = body.and(&format!("{object}/unknown"), raw);
            assert_eq!(verdict(body.json()).as_ref(), Ok(&expected));
        }
    }
    let elsewhere = Fields::example()
        .and("/phone", "[]")
        .and("/reason", "4")
        .and("/data/name", "[]")
        .and("/data/attempts_total", "77")
        .and("/data/id", "{}")
        .and("/data/additional_data/id", "null")
        .and("/data/additional_data/reason/phone", "0.5");
    assert_eq!(verdict(elsewhere.json()).as_ref(), Ok(&expected));
    let raw = Fields::example().and("/$serde_json::private::RawValue", "\"[\"");
    assert_eq!(verdict(raw.json()).as_ref(), Ok(&expected));
}

#[test]
fn what_is_not_json_is_refused_as_such() {
    let whole = Fields::example().json();
    let not_json = Err(("not_json", None));
    for cut in 0..whole.len() {
        assert_eq!(verdict_of(UnsubscribeEvent::from_slice(&whole.as_bytes()[..cut])), not_json);
    }
    let after = ["x", "}", ",", "{}", "\0", "\u{feff}"].map(|after| whole.clone() + after);
    let before = ["\u{feff}\u{feff}", " \u{feff}"].map(|before| before.to_owned() + &whole);
    let changed = [
        // Lone surrogates that no name can hold.
        ("{", r#"{"\ud800":0,"#),
        (r#"{"phone""#, r#"{"\udc00":0,"phone""#),
        (",", ",,"),
        ("\"id\"", "id"),
        ("59", "059"),
        ("59", "NaN"),
        ("59", "+59"),
        ("59", "59."),
        ("3KCKb5nMD", "raw \n line break"),
        ("3KCKb5nMD", r"\x"),
        ("\"id\"", "\"raw \n name\":0,\"id\""),
    ];
    let changed = changed.map(|(from, into)| whole.replacen(from, into, 1));
    let unknown = ["[01]", r#""\u12""#, "[1,]", &"[".repeat(200)];
    let unknown = unknown.map(|raw| Fields::example().and("/unknown", raw).json());
    let bodies = after.into_iter().chain(before).chain(changed).chain(unknown);
    let utf16 = whole.encode_utf16().flat_map(u16::to_le_bytes).collect();
    let others = [Vec::new(), b" \n".to_vec(), utf16, whole[..10].into()];
    let bodies = bodies.map(String::into_bytes).chain(others);
    for body in bodies {
        assert_eq!(verdict(&body), not_json, "{}", String::from_utf8_lossy(&body));
    }
    for wrapped in [format!(" \r\n\t{whole}\n"), whole.replace(':', " :\n")] {
        assert!(verdict(wrapped).is_ok());
    }
    let with_bom = format!("\u{feff}{whole}");
    assert_eq!(by_extractor(with_bom.as_bytes()), verdict(&whole));
}

#[test]
fn invalid_utf8_anywhere_is_refused() {
    for pointer in ["/data/phone", "/id", "/unknown", "/data/additional_data/unknown"] {
        let body = Fields::example().with(pointer, r#""@""#).json();
        for invalid in [&b"\xff"[..], b"\xc3", b"\xc0\xaf", b"\xed\xa0\x80", b"\xf5\x80\x80\x80"] {
            let at = body.find("\"@\"").expect("the mark") + 1;
            let bytes = [&body.as_bytes()[..at], invalid, &body.as_bytes()[at + 1..]].concat();
            assert_eq!(verdict(bytes), Err(("not_json", None)), "{pointer}");
        }
    }
    let name = [br#"{"\xff":0,"#, EXAMPLE.as_bytes()].concat();
    assert_eq!(verdict(name), Err(("not_json", None)));
}

#[test]
fn values_of_serde_json_follow_the_same_rules() {
    let from_value = |fields: &Fields| {
        let value: Value = serde_json::from_str(&fields.json()).expect("JSON");
        UnsubscribeEvent::deserialize(value)
    };
    let fields = Fields::example();
    let event = verdict(fields.json()).expect("an event");
    assert_eq!(from_value(&fields).expect("an event"), event);
    assert_eq!(from_value(&fields.with("/data/user_id", "2.0")).expect("an event"), event);
    for refused in [
        fields.with("/data/user_id", "2.5"),
        fields.with("/data/user_id", "-9223372036854775809"),
        fields.with("/data", "[]"),
        fields.without("/data/phone"),
    ] {
        assert!(from_value(&refused).is_err());
    }

    // A map is a deserializer too.
    let map: serde_json::Map<String, Value> = serde_json::from_str(EXAMPLE).expect("an object");
    assert_eq!(UnsubscribeEvent::deserialize(&map).expect("an event"), example());
    assert_eq!(UnsubscribeEvent::deserialize(map).expect("an event"), example());
}

#[test]
fn an_untagged_enum_of_the_app_sees_events() {
    #[derive(Debug, Deserialize)]
    #[serde(untagged)]
    enum Queued {
        Unsubscribe(Box<UnsubscribeEvent>),
        Other(Value),
    }
    let event = |text: &str| match serde_json::from_str(text).expect("JSON") {
        Queued::Unsubscribe(event) => Some(*event),
        Queued::Other(value) => value.is_string().then(example),
    };
    assert_eq!(event(EXAMPLE), Some(example()));
    // With serde_json's `arbitrary_precision`, serde's buffer for such an enum contains no double.
    let has_doubles = serde_json::from_str::<Value>("1e999").is_err();
    let with_fraction = event(&Fields::example().with("/data/user_id", "2.0").json());
    assert_eq!(with_fraction.is_some(), has_doubles);
    assert!(event(&Fields::example().with("/data/user_id", "2.5").json()).is_none());
    assert!(event(r#"{"name":"sms.delivery"}"#).is_none());
}

#[test]
fn the_last_attempt_is_known_where_its_number_is() {
    for (number, total, expected) in [
        ("1", "4", Some(false)),
        ("3", "4", Some(false)),
        ("4", "4", Some(true)),
        ("5", "4", Some(true)),
        ("null", "4", None),
        // Four in all, where the event names no total.
        ("3", "null", Some(false)),
        ("4", "null", Some(true)),
    ] {
        let body = Fields::example().with("/attempt_number", number).with("/attempts_total", total);
        let event = verdict(body.json()).expect("an event");
        assert_eq!(event.is_last_attempt(), expected, "{number} of {total}");
    }
}
