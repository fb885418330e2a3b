//! Bytes to an event, or to a refusal that says nothing of them.
#![no_main]

use std::{
    convert::Infallible,
    pin::pin,
    sync::LazyLock,
    task::{Context, Poll, Waker},
};

use bytes::Bytes;
use http::{HeaderValue, Request, Response, header::CONTENT_TYPE, request::Parts};
use http_body_util::{BodyExt, Full};
use libfuzzer_sys::{fuzz_mutator, fuzz_target, fuzzer_mutate};
use serde::Deserialize;
use tower::{Layer, Service, service_fn};
use unsubscribe_webhook::{Credential, Rejection, UnsubscribeEvent, WebhookAuth};
use unsubscribe_webhook_fuzz::{
    contract::{self, Fault},
    mutate::{self, Choices},
};

fuzz_target!(|body: &[u8]| {
    let result = UnsubscribeEvent::from_slice(body);
    match (&result, contract::judge(body)) {
        (Ok(event), Ok(fields)) => {
            assert_eq!(contract::fields(event), fields);
            check_canonical(event);
        }
        (Err(rejection), Err(faults)) => {
            assert!(faults.contains(&fault(rejection)), "{rejection}, but {faults:?}");
            check_silent(rejection, None);
        }
        (result, contract) => panic!("{result:?}, but by the contract {contract:?}"),
    }
    check_request(body, &result);
    check_deserialize(body, &result);
    check_exact_reader(body, &result);
    // A tree may have lost what the text said, so it may be judged otherwise.
    if let Ok(tree) = serde_json::from_slice::<serde_json::Value>(body) {
        let _ = UnsubscribeEvent::deserialize(tree);
    }
});

fuzz_mutator!(|data: &mut [u8], size: usize, max_size: usize, seed: u32| {
    let mut choices = Choices::new(seed);
    if choices.below(3) > 0 {
        let body = mutate::json(&data[..size], &mut choices);
        if body.len() <= max_size {
            data[..body.len()].copy_from_slice(&body);
            return body.len();
        }
    }
    fuzzer_mutate(data, size, max_size)
});

fn fault(rejection: &Rejection) -> Fault {
    (rejection.code(), rejection.pointer())
}

/// What is written out is read back, and is written out alike.
fn check_canonical(event: &UnsubscribeEvent) {
    let canonical = serde_json::to_string(event).expect("an event is JSON");
    let again = UnsubscribeEvent::from_slice(canonical.as_bytes()).expect("the canonical form");
    assert_eq!(again, *event);
    assert_eq!(serde_json::to_string(&again).expect("an event is JSON"), canonical);

    // Nothing of the canonical form is lost in a tree.
    let tree: serde_json::Value = serde_json::from_str(&canonical).expect("JSON");
    assert_eq!(UnsubscribeEvent::deserialize(tree).expect("the canonical form"), *event);
}

/// A request with this body is judged alike, and its refusal hands over the body.
fn check_request(body: &[u8], result: &Result<UnsubscribeEvent, Rejection>) {
    static AUTHENTIC: LazyLock<Parts> = LazyLock::new(|| {
        let mut request = Request::new(Full::<Bytes>::default());
        request.headers_mut().insert(CONTENT_TYPE, HeaderValue::from_static("application/json"));
        Credential::token("s3cr3t").expect("usable").apply_to(&mut request);
        let passed = service_fn(async |request: Request<Full<Bytes>>| {
            let mut response = Response::<Full<Bytes>>::default();
            response.extensions_mut().insert(request.into_parts().0);
            Ok::<_, Infallible>(response)
        });
        let answer = at_once(WebhookAuth::new("s3cr3t").layer(passed).call(request));
        answer.ok().and_then(|mut answer| answer.extensions_mut().remove()).expect("it passed")
    });
    let body = Bytes::copy_from_slice(body);
    match (UnsubscribeEvent::from_parts(&AUTHENTIC, body.clone()), result) {
        (Ok(event), Ok(expected)) => assert_eq!(event, *expected),
        (Err(rejection), Err(expected)) => {
            assert_eq!(fault(&rejection), fault(expected));
            check_silent(&rejection, Some(&body));
        }
        (request, result) => panic!("{request:?} as a request, but {result:?}"),
    }
}

/// `Deserialize` reads the same event, or names the same field.
fn check_deserialize(body: &[u8], result: &Result<UnsubscribeEvent, Rejection>) {
    match (serde_json::from_slice::<UnsubscribeEvent>(body), result) {
        (Ok(event), Ok(expected)) => assert_eq!(event, *expected),
        (Err(error), Err(rejection)) => {
            if let Some(pointer) = rejection.pointer() {
                assert!(error.to_string().starts_with(&format!("{pointer}: ")), "{error}");
            }
        }
        (derived, result) => panic!("{derived:?} by serde, but {result:?}"),
    }
}

/// An unknown field whose name is no string of characters is ignored, but only by the exact reader:
/// the fast one gives up on it. So the exact reader alone must say what both said without it.
fn check_exact_reader(body: &[u8], result: &Result<UnsubscribeEvent, Rejection>) {
    let is_blank = |byte: &&u8| b" \t\r\n".contains(byte);
    let blanks = body.iter().take_while(is_blank).count();
    let Some(members) = body[blanks..].strip_prefix(b"{") else { return };
    if members.trim_ascii_start().starts_with(b"}") {
        return;
    }
    let odd = [br#"{"\ud800":1,"#, members].concat();
    let exact = UnsubscribeEvent::from_slice(&odd);
    assert_eq!(exact.map_err(|refused| fault(&refused)), result.clone().map_err(|r| fault(&r)));
}

/// A refusal's texts are made of its code, its pointer and constants, and of nothing that was sent
/// but its length.
fn check_silent(rejection: &Rejection, body: Option<&Bytes>) {
    const DETAILS: [(&str, &str); 13] = [
        ("not_json", "The body is not JSON text in UTF-8."),
        ("missing_field", "The field is missing."),
        ("duplicate_field", "The field is given twice."),
        ("other_event", "The event is not a phone.unsubscribe event."),
        ("invalid_field", "A UUID in lower case, with hyphens, is expected."),
        ("invalid_field", "A UUID with hyphens is expected."),
        ("invalid_field", "A string is expected."),
        ("invalid_field", "An object is expected."),
        ("invalid_field", "An integer from 1 is expected."),
        ("invalid_field", "An integer from 1 to 4 is expected."),
        ("invalid_field", "An integer from 1 to 6 is expected."),
        ("invalid_field", "The same total is expected as in attempt_total."),
        (
            "invalid_field",
            "An integer of 64 bits is expected, exact in a double if spelled as one.",
        ),
    ];
    let (code, pointer) = fault(rejection);
    let (at, member) = match pointer {
        Some(pointer) => (format!(" at {pointer}"), format!(r#","pointer":"{pointer}""#)),
        None => Default::default(),
    };
    let display = rejection.to_string();
    let known = DETAILS.into_iter().filter(|(with, _)| *with == code).map(|(_, detail)| detail);
    let detail = known
        .into_iter()
        .find(|detail| display == format!("400 {code}{at}: {detail}"))
        .unwrap_or_else(|| panic!("another text: {display}"));
    assert_eq!(
        format!("{rejection:?}"),
        format!(
            "Rejection {{ status: 400, code: {code:?}, pointer: {pointer:?}, body_length: {:?}, .. }}",
            body.map(Bytes::len)
        )
    );
    assert_eq!(rejection.body(), body);
    let response = Response::<Full<Bytes>>::from(rejection.clone());
    assert_eq!(response.status(), 400);
    assert_eq!(response.headers().len(), 1);
    assert_eq!(response.headers()["content-type"], "application/problem+json");
    let kind =
        "https://docs.rs/unsubscribe-webhook/latest/unsubscribe_webhook/struct.Rejection.html";
    let title = "Invalid webhook request's body structure";
    let answer = at_once(response.into_body().collect()).expect("a body in memory");
    assert_eq!(
        answer.to_bytes(),
        format!(
            r#"{{"type":"{kind}#{code}","title":"{title}","status":400,"detail":"{detail}","code":"{code}"{member}}}"#
        )
    );
}

/// Nothing here waits, so the first poll is the last.
fn at_once<F: Future>(future: F) -> F::Output {
    match pin!(future).poll(&mut Context::from_waker(Waker::noop())) {
        Poll::Ready(output) => output,
        Poll::Pending => panic!("it waits"),
    }
}
