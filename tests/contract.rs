//! Every row of the contract's field table, on every way in: the extractor, `from_body`,
//! `from_slice` and `Deserialize`.
//!
//! `cargo test` runs this file with one of the features of `serde_json` that change how JSON is read
//! (the validator of `tests/oracle` turns it on), the package `tests/json-features` with all of them,
//! and `cargo test -p unsubscribe-webhook` with none.

mod common;

use axum::{Router, body::Bytes, response::IntoResponse};
use common::{EXAMPLE, Fields, assert_refused, authenticated, example, protected, read};
use http_body_util::Full;
use serde::Deserialize;
use tower::ServiceExt;
use unsubscribe_webhook::{ReasonId, Rejection, UnsubscribeEvent};

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

fn verdict_of(result: Result<UnsubscribeEvent, Rejection>) -> Verdict {
    result.map_err(|rejection| (rejection.code().as_str(), rejection.pointer()))
}

/// Through axum, and through `from_body` behind the same layer.
fn by_extractor(body: &[u8]) -> Verdict {
    let (sender, receiver) = std::sync::mpsc::channel();
    let handler = move |head: http::request::Parts, event: Result<UnsubscribeEvent, Rejection>| {
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

#[track_caller]
fn accepted(pointer: &str, raw: &str) -> UnsubscribeEvent {
    match verdict(Fields::example().with(pointer, raw).json()) {
        Ok(event) => event,
        Err(refused) => panic!("{pointer}: {raw} is refused: {refused:?}"),
    }
}

#[test]
fn the_example_is_decoded_and_written_unchanged() {
    let event = verdict(EXAMPLE).expect("the example is an event");
    assert_eq!(event.id.to_string(), "ef58b437-1319-4b0c-961b-17214cf1cf32");
    assert_eq!(event.created_at, Some(1_757_849_748));
    assert_eq!(event.api_version.as_deref(), Some("2022-05-25"));
    assert_eq!(event.attempt_number, Some(1));
    assert_eq!(event.attempts_total, Some(4));
    assert_eq!(event.notification_task_id, None);
    assert_eq!(event.data.phone, "+4911113333444");
    assert_eq!(event.data.user_id, 2);
    assert_eq!(event.data.created_at, 1_757_849_748);
    assert_eq!(event.data.campaign_code, "3KCKb5nMD");
    assert_eq!(event.data.additional_data.reason.id, ReasonId::Incomprehensible);
    assert_eq!(event.data.additional_data.reason.label, "Es ist unverständlich");
    assert_eq!(
        event.data.additional_data.additional_text,
        "zusätzlicher Benutzertext mit Erklärung"
    );
    assert_eq!(event.data.short_link_code, "baaIou");
    assert_eq!(event.data.unsubscribe_request_id, 59);
    assert_eq!(event.data.group_id, None);

    let compact: String = EXAMPLE.lines().map(|line| line.trim().replacen(": ", ":", 1)).collect();
    assert_eq!(serde_json::to_string(&event).expect("JSON"), compact);
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
    let canonical = concat!(
        r#"{"id":"ef58b437-1319-4b0c-961b-17214cf1cf32","data":{"phone":"+4911113333444","#,
        r#""user_id":2,"created_at":1757849748,"campaign_code":"3KCKb5nMD","#,
        r#""additional_data":{"reason":{"id":4,"label":"Es ist unverständlich"},"#,
        r#""additional_text":"zusätzlicher Benutzertext"},"short_link_code":"baaIou","#,
        r#""unsubscribe_request_id":59,"group_id":123},"name":"phone.unsubscribe","#,
        r#""created_at":1757849748,"attempt_number":1,"attempts_total":4,"#,
        r#""notification_task_id":"3378de83-de66-4de8-9d29-2b10d41bb641"}"#,
    );
    let event = verdict(unusual.json()).expect("an event");
    assert_eq!(serde_json::to_string(&event).expect("JSON"), canonical);
    assert_eq!(verdict(canonical), Ok(event));
}

#[test]
fn each_required_field_is_required() {
    for pointer in "/id /name /data /data/phone /data/user_id /data/created_at /data/campaign_code \
        /data/additional_data /data/additional_data/reason /data/additional_data/reason/id \
        /data/additional_data/reason/label /data/additional_data/additional_text \
        /data/short_link_code /data/unsubscribe_request_id"
        .split(' ')
    {
        let absent = Fields::example().without(pointer).json();
        assert_eq!(verdict(absent), Err(("missing_field", Some(pointer))));
        assert_refuses(pointer, "null");
    }
}

#[test]
fn each_optional_field_may_be_absent_or_null() {
    type IsAbsent = fn(&UnsubscribeEvent) -> bool;
    let fields: [(&str, IsAbsent); 6] = [
        ("/api_version", |event| event.api_version.is_none()),
        ("/created_at", |event| event.created_at.is_none()),
        ("/attempt_number", |event| event.attempt_number.is_none()),
        ("/attempts_total", |event| event.attempts_total.is_none()),
        ("/notification_task_id", |event| event.notification_task_id.is_none()),
        ("/data/group_id", |event| event.data.group_id.is_none()),
    ];
    for (pointer, is_absent) in fields {
        let given = verdict(Fields::example().json()).expect("an event");
        assert!(!is_absent(&given), "{pointer}");
        let absent = verdict(Fields::example().without(pointer).json()).expect(pointer);
        assert!(is_absent(&absent), "{pointer}");
        assert_eq!(accepted(pointer, "null"), absent);
    }
}

#[test]
fn strings_are_strings() {
    for pointer in [
        "/data/phone",
        "/data/campaign_code",
        "/data/additional_data/reason/label",
        "/data/additional_data/additional_text",
        "/data/short_link_code",
        "/api_version",
    ] {
        accepted(pointer, r#""""#);
        accepted(pointer, r#""\u0000 \ud83d\ude00 \" \\ \/ tab\t""#);
        assert_refuses(pointer, r#"4 true [] ["x"] {}"#);
        assert_refuses(pointer, r#""\ud800" "\udc00\ud800" "\ud83d!""#);
    }
    let event = accepted("/data/phone", r#""\u002b49 / 1111 \u00e4 (odd)""#);
    assert_eq!(event.data.phone, "+49 / 1111 ä (odd)");
    let event = accepted("/data/phone", r#""""#);
    assert_eq!(event.data.phone, "");
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
    type Field = fn(&UnsubscribeEvent) -> Option<i64>;
    let fields: [(&str, Field); 5] = [
        ("/created_at", |event| event.created_at),
        ("/data/user_id", |event| Some(event.data.user_id)),
        ("/data/created_at", |event| Some(event.data.created_at)),
        ("/data/unsubscribe_request_id", |event| Some(event.data.unsubscribe_request_id)),
        ("/data/group_id", |event| event.data.group_id),
    ];
    for (pointer, field) in fields {
        for (raw, value) in integers() {
            assert_eq!(field(&accepted(pointer, raw)), Some(value), "{pointer}: {raw}");
        }
        assert_refuses(pointer, NOT_INTEGERS);
    }
}

#[test]
fn the_attempt_number_starts_at_one() {
    for (raw, value) in integers().filter(|(_, value)| *value >= 1) {
        assert_eq!(accepted("/attempt_number", raw).attempt_number, Some(value));
    }
    assert_eq!(accepted("/attempt_number", "5").attempt_number, Some(5), "above the total");
    assert_refuses("/attempt_number", NOT_INTEGERS);
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
        let duplicate = neither.and(name, "4").and(name, "4").json();
        assert_eq!(verdict(duplicate), Err(("duplicate_field", Some(name))));
        let duplicate = neither.and(name, "null").and(name, "null").json();
        assert_eq!(verdict(duplicate), Err(("duplicate_field", Some(name))));
    }
    let both =
        |page, example| neither.and("/attempt_total", page).and("/attempts_total", example).json();
    let total = |body| verdict(body).map(|event| event.attempts_total);
    assert_eq!(total(both("3", "3")), Ok(Some(3)));
    assert_eq!(total(both("3", "3.0")), Ok(Some(3)));
    assert_eq!(total(both("null", "3")), Ok(Some(3)));
    assert_eq!(total(both("3", "null")), Ok(Some(3)));
    assert_eq!(total(both("null", "null")), Ok(None));
    assert_eq!(total(both("3", "4")), Err(("invalid_field", Some("/attempts_total"))));
}

#[test]
fn the_reason_is_one_of_six() {
    use ReasonId::{
        DislikesCompany, Incomprehensible, NeverSubscribed, NotInterested, Other, TooManyMessages,
    };
    let pointer = "/data/additional_data/reason/id";
    let reasons = [
        ("1", NeverSubscribed, "I never subscribed"),
        ("2", TooManyMessages, "Too many messages"),
        ("3", NotInterested, "I am not interested"),
        ("4", Incomprehensible, "Content is incomprehensible"),
        ("5", DislikesCompany, "I don’t like your company"),
        ("6", Other, "Other"),
        ("2.0", TooManyMessages, "Too many messages"),
        ("2e0", TooManyMessages, "Too many messages"),
    ];
    for (raw, reason, label) in reasons {
        let event = accepted(pointer, raw);
        assert_eq!(event.data.additional_data.reason.id, reason);
        assert_eq!(reason.to_string(), label);
    }
    assert_refuses(pointer, NOT_INTEGERS);
    assert_refuses(pointer, "0 7 -1 2.5");
}

#[test]
fn the_id_is_a_uuid_in_lower_case_with_hyphens() {
    let event = accepted("/id", r#""00000000-0000-0000-0000-000000000000""#);
    assert!(event.id.is_nil());
    accepted("/id", r#""ffffffff-ffff-ffff-ffff-ffffffffffff""#);
    accepted("/id", r#""\u0065f58b437-1319-4b0c-961b-17214cf1cf32""#);
    assert_refuses("/id", NOT_UUIDS);
    assert_refuses("/id", r#""EF58B437-1319-4B0C-961B-17214CF1CF32""#);
    assert_refuses("/id", r#""ef58b437-1319-4b0c-961b-17214cf1cf3F""#);
}

#[test]
fn the_task_is_a_uuid_with_hyphens_in_either_case() {
    let lower = accepted("/notification_task_id", r#""3378de83-de66-4de8-9d29-2b10d41bb641""#);
    let upper = accepted("/notification_task_id", r#""3378DE83-DE66-4DE8-9D29-2B10D41BB641""#);
    assert_eq!(lower, upper);
    let mixed = accepted("/notification_task_id", r#""3378de83-DE66-4de8-9d29-2b10d41bb641""#);
    assert_eq!(lower, mixed);
    assert_refuses("/notification_task_id", NOT_UUIDS);
}

const NOT_UUIDS: &str = r#"
    "" "ef58b43713194b0c961b17214cf1cf32" "{ef58b437-1319-4b0c-961b-17214cf1cf32}"
    "urn:uuid:ef58b437-1319-4b0c-961b-17214cf1cf32" "ef58b437-1319-4b0c-961b-17214cf1cf3"
    "ef58b437-1319-4b0c-961b-17214cf1cf322" "\u0020ef58b437-1319-4b0c-961b-17214cf1cf32"
    "ef58b437-1319-4b0c-961b-17214cf1cf32\n" "ef58b4371-319-4b0c-961b-17214cf1cf32"
    "ef58b437-1319-4b0c-961b-17214cf1cfg2" "ef58b437-1319-4b0c-961b-17214cf1cfä"
    4 ["ef58b437-1319-4b0c-961b-17214cf1cf32"] {}"#;

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
}

#[test]
fn a_body_that_is_not_an_object_has_no_field() {
    for body in ["[]", "4", "null", "true", r#""phone.unsubscribe""#, "{}", r#"[{"name":"x"}]"#] {
        assert_eq!(verdict(body), Err(("missing_field", Some("/name"))), "{body}");
    }
}

#[test]
fn no_field_may_be_duplicate() {
    let objects = ["/data", "/data/additional_data", "/data/additional_data/reason"];
    let objects = objects.map(|pointer| (pointer, "{}"));
    for (pointer, raw) in Fields::EXAMPLE.into_iter().chain(objects) {
        for raw in [raw, "null"] {
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
    let utf16: Vec<u8> = whole.encode_utf16().flat_map(u16::to_le_bytes).collect();
    let mut bodies: Vec<Vec<u8>> = vec![Vec::new(), b" \n".to_vec(), utf16];
    bodies.extend([&whole[..10], &whole[..whole.len() - 1]].map(|cut| cut.as_bytes().to_vec()));
    bodies.extend(
        ["x", "}", ",", "{}", "\0", "\u{feff}"].map(|after| (whole.clone() + after).into()),
    );
    bodies.push(format!("\u{feff}\u{feff}{whole}").into());
    bodies.push(format!(" \u{feff}{whole}").into());
    // Lone surrogates that no name can hold.
    bodies.push(whole.replacen('{', r#"{"\ud800":0,"#, 1).into());
    bodies.push(whole.replacen(r#"{"phone""#, r#"{"\udc00":0,"phone""#, 1).into());
    bodies.push(whole.replacen(',', ",,", 1).into());
    bodies.push(whole.replacen("\"id\"", "id", 1).into());
    bodies.push(whole.replacen("59", "059", 1).into());
    bodies.push(whole.replacen("59", "NaN", 1).into());
    bodies.push(whole.replacen("59", "+59", 1).into());
    bodies.push(whole.replacen("59", "59.", 1).into());
    bodies.push(whole.replacen("3KCKb5nMD", "raw \n line break", 1).into());
    bodies.push(whole.replacen("3KCKb5nMD", r"\x", 1).into());
    bodies.push(whole.replacen("\"id\"", "\"raw \n name\":0,\"id\"", 1).into());
    bodies.push(Fields::example().and("/unknown", "[01]").json().into());
    bodies.push(Fields::example().and("/unknown", r#""\u12""#).json().into());
    bodies.push(Fields::example().and("/unknown", "[1,]").json().into());
    bodies.push(Fields::example().and("/unknown", &"[".repeat(200)).json().into());
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
    let value = |text: &str| serde_json::from_str::<serde_json::Value>(text).expect("JSON");
    let from_value = |fields: &Fields| UnsubscribeEvent::deserialize(value(&fields.json()));
    let example = Fields::example();

    assert_eq!(from_value(&example).expect("an event"), verdict(example.json()).expect("an event"));
    assert!(from_value(&example.with("/data/user_id", "2.0")).is_ok());
    assert!(from_value(&example.with("/data/user_id", "2.5")).is_err());
    assert!(from_value(&example.with("/data/user_id", "-9223372036854775809")).is_err());
    assert!(from_value(&example.with("/data", "[]")).is_err());
    assert!(from_value(&example.without("/data/phone")).is_err());

    // A map is a deserializer too, and one that does not show newtypes.
    let serde_json::Value::Object(map) = value(EXAMPLE) else { panic!("the example is an object") };
    assert_eq!(UnsubscribeEvent::deserialize(&map).expect("an event"), common::example());
    assert_eq!(UnsubscribeEvent::deserialize(map).expect("an event"), common::example());
}

#[test]
fn an_untagged_enum_of_the_app_sees_events() {
    #[derive(Debug, Deserialize)]
    #[serde(untagged)]
    enum Queued {
        Unsubscribe(Box<UnsubscribeEvent>),
        Other(serde_json::Value),
    }
    let event = |text: &str| match serde_json::from_str(text).expect("JSON") {
        Queued::Unsubscribe(event) => Some(*event),
        Queued::Other(value) => {
            assert!(value.is_object());
            None
        }
    };
    assert_eq!(event(EXAMPLE), Some(example()));
    // With serde_json's `arbitrary_precision`, serde's buffer for such an enum contains no double.
    let has_doubles = serde_json::from_str::<serde_json::Value>("1e999").is_err();
    let with_fraction = event(&Fields::example().with("/data/user_id", "2.0").json());
    assert_eq!(with_fraction.is_some(), has_doubles);
    assert!(event(&Fields::example().with("/data/user_id", "2.5").json()).is_none());
    assert!(event(r#"{"name":"sms.delivery"}"#).is_none());
}

#[test]
fn the_last_attempt_is_known_where_its_number_is() {
    let last = |number, total| {
        let body = Fields::example().with("/attempt_number", number).with("/attempts_total", total);
        verdict(body.json()).expect("an event").is_last_attempt()
    };
    assert_eq!(last("1", "4"), Some(false));
    assert_eq!(last("3", "4"), Some(false));
    assert_eq!(last("4", "4"), Some(true));
    assert_eq!(last("5", "4"), Some(true));
    assert_eq!(last("null", "4"), None);
    // Four in all, where the event names no total.
    assert_eq!(last("3", "null"), Some(false));
    assert_eq!(last("4", "null"), Some(true));
}
