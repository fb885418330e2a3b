//! The public API: auto traits and derived ones, and which credentials can be made.

mod common;

use std::{fmt::Debug, hash::Hash};

use common::prelude::*;
use unsubscribe_webhook::{
    Reason, ReasonId, UnknownReasonId, Unsubscribe,
    auth::{ResponseBody, ResponseFuture, WebhookAuthService},
    testing::{Finding, Report},
};

#[test]
fn public_types_can_be_shared_and_printed() {
    fn assert_shared<T: Send + Sync + Unpin + Debug + 'static>() {}
    fn assert_cloned<T: Send + Sync + Unpin + Debug + Clone + 'static>() {}
    fn assert_error<T: std::error::Error + Send + Sync + 'static>() {}
    fn assert_data<T: Eq + Hash + serde::Serialize>() {}
    fn assert_copied<T: Copy + Eq>() {}
    fn assert_keys<T: Eq + Hash>() {}
    fn assert_compared<T: Eq>() {}
    fn assert_ordered<T: Ord>() {}
    fn assert_default<T: Default>() {}

    // A tuple is what all its parts are.
    assert_cloned::<(AdditionalData, Reason, ReasonId, Unsubscribe, UnsubscribeEvent, OptOut)>();
    assert_cloned::<(Authenticated, Code, ConfigError, Credential, Received, Rejection)>();
    assert_cloned::<(ServerError, WebhookAuth, WebhookAuthService<()>)>();
    assert_cloned::<(UnknownReasonId, Report, Finding)>();
    assert_shared::<(ResponseBody<String>, ResponseFuture<std::future::Ready<()>, String>)>();
    assert_data::<(AdditionalData, Reason, ReasonId, Unsubscribe, UnsubscribeEvent)>();
    assert_copied::<(Code, ReasonId, Received, UnknownReasonId)>();
    assert_keys::<(Code, OptOut)>();
    assert_compared::<ConfigError>();
    assert_ordered::<ReasonId>();
    assert_default::<Received>();
    assert_error::<ConfigError>();
    assert_error::<Rejection>();
    assert_error::<UnknownReasonId>();
}

#[track_caller]
fn assert_unusable(made: Result<Credential, ConfigError>, why: &str) {
    assert_eq!(made.expect_err("unusable").to_string(), why);
}

/// CVE-2026-45754, also after its fix: with an empty secret, as of an unset variable, nothing is
/// compared and every request is accepted.
#[test]
fn an_empty_secret_or_one_that_could_never_match_is_refused() {
    type Make = fn(&str) -> Result<Credential, ConfigError>;
    let makers: [(&str, Make); 5] = [
        ("secret", |secret| Credential::token(secret)),
        ("secret", |secret| Credential::header("x-hook", secret)),
        ("secret", |secret| Credential::bearer(secret)),
        ("password", |secret| Credential::basic("lox24", secret)),
        ("secret", |secret| Credential::query("key", secret)),
    ];
    for (what, make) in makers {
        assert!(make(SECRET).is_ok());
        for (secret, why) in [
            ("", "is empty"),
            ("s3cr3t\n", "ends with a line break, as one read from a file does: trim it"),
            ("s3cr3t\r\n", "ends with a line break, as one read from a file does: trim it"),
            ("\n", "ends with a line break, as one read from a file does: trim it"),
            (" ", "starts or ends with whitespace: trim it"),
            ("s3cr3t ", "starts or ends with whitespace: trim it"),
            ("\ts3cr3t", "starts or ends with whitespace: trim it"),
            ("s3cr3t\u{a0}", "starts or ends with whitespace: trim it"),
            ("\u{feff}s3cr3t", "starts with a byte order mark: remove it"),
        ] {
            assert_unusable(make(secret), &format!("the {what} {why}"));
        }
    }
    // `main` prints the `Debug` of an error.
    let error = WebhookAuth::try_new(" ").expect_err("whitespace");
    assert_eq!(format!("{error:?}"), "the secret starts or ends with whitespace: trim it");
}

#[test]
fn a_secret_must_be_valid_in_its_location() {
    let header = "the secret contains a character that a header cannot hold: use printable ASCII";
    for secret in ["pässword", "a\nb", "a\0b", "a\tb", "a\u{7f}b"] {
        assert_unusable(Credential::token(secret), header);
    }
    assert!(Credential::token("two words").is_ok());
    let name = "the header name is not a token of RFC 9110";
    for unusable in ["", "x hook", "x-hööks", "x:hook"] {
        assert_unusable(Credential::header(unusable, SECRET), name);
    }

    let bearer = "the secret is not a bearer token of RFC 6750: use letters, digits and -._~+/, then \
                  any number of =";
    for secret in ["two words", "pässword", "a=b", "=", "a,b", "a\nb"] {
        assert_unusable(Credential::bearer(secret), bearer);
    }
    for secret in ["aZ09-._~+/", "a=", "a=="] {
        assert!(Credential::bearer(secret).is_ok());
    }

    let basic = Credential::basic;
    assert!(basic("user", "p:ässword").is_ok());
    assert!(basic("", "password").is_ok());
    assert_unusable(basic("user ", "password"), "the user starts or ends with whitespace: trim it");
    assert_unusable(basic("us:er", "p"), "the user contains a colon (RFC 7617)");
    let control = "the user or the password contains a control character (RFC 7617)";
    assert_unusable(basic("us\0er", "password"), control);
    assert_unusable(basic("user", "pass\nword"), control);

    assert_unusable(Credential::query("", SECRET), "the query parameter's name is empty");
    assert!(Credential::query("k", "pä&ss+wörd %").is_ok());
    // A URI has 65,534 bytes at most: `/?kk=`, then each `&` as `%26`.
    let too_long = "the secret is too long for a URI";
    for (secret, longest) in [("s", 65_529), ("&", 21_843)] {
        assert!(Credential::query("kk", secret.repeat(longest)).is_ok());
        assert_unusable(Credential::query("kk", secret.repeat(longest + 1)), too_long);
    }
    let replacement = "the query parameter's name or the secret contains U+FFFD, which replaces \
                       invalid UTF-8";
    assert_unusable(Credential::query("k", "s\u{fffd}"), replacement);
    assert_unusable(Credential::query("k\u{fffd}", SECRET), replacement);
}

#[test]
fn a_list_without_accounts_is_refused() {
    let auth = || WebhookAuth::new(SECRET);
    for none in [auth().try_allow_accounts([]), auth().allow_accounts([2]).try_allow_accounts([3])]
    {
        assert_eq!(none.expect_err("none is left").to_string(), NO_ACCOUNT);
    }
    assert!(auth().allow_accounts([2]).try_allow_accounts([2, 3]).is_ok());
}

const NO_ACCOUNT: &str =
    "no account is allowed: the list is empty, or has none in common with an earlier one";

#[test]
fn a_panic_at_start_up_names_the_fault_and_points_at_the_app() {
    type Make = fn() -> WebhookAuth;
    let makers: [(Make, String); 2] = [
        (|| WebhookAuth::new(""), "secret is unusable: the secret is empty".to_owned()),
        (
            || WebhookAuth::new(SECRET).allow_accounts([]),
            format!("accounts are unusable: {NO_ACCOUNT}"),
        ),
    ];
    let (sender, receiver) = std::sync::mpsc::channel();
    let sender = std::sync::Mutex::new(sender);
    let default = std::panic::take_hook();
    std::panic::set_hook(Box::new(move |info| {
        let file = info.location().expect("a location").file().to_owned();
        let _ = sender.lock().map(|sender| sender.send(file));
    }));
    let panics = makers.map(|(make, message)| (std::panic::catch_unwind(make), message));
    std::panic::set_hook(default);
    for (panic, message) in panics {
        let text = panic.expect_err("a panic").downcast::<String>().expect("a text");
        assert_eq!(*text, format!("the webhook's {message}"));
    }
    assert_eq!(receiver.iter().filter(|file| file.ends_with("api.rs")).count(), 2);
}

#[test]
fn each_code_has_a_name_and_a_status() {
    let expected = [
        (401, "unauthorized"),
        (403, "forbidden foreign_account"),
        (400, "content_type body_too_large body_incomplete not_json"),
        (400, "missing_field invalid_field duplicate_field other_event"),
        (500, "missing_layer server_error"),
    ];
    let expected = expected
        .iter()
        .flat_map(|(status, codes)| codes.split(' ').map(|code| (code.to_owned(), *status)));
    let codes = Code::ALL.iter().map(|code| (code.to_string(), code.status().as_u16()));
    assert!(codes.eq(expected));
    assert!(Code::ALL.iter().all(|code| code.to_string() == code.as_str()));
}

#[test]
fn a_reason_converts_from_and_to_its_number() {
    for (number, reason, label) in [
        (1, ReasonId::NeverSubscribed, "I never subscribed"),
        (2, ReasonId::TooManyMessages, "Too many messages"),
        (3, ReasonId::NotInterested, "I am not interested"),
        (4, ReasonId::Incomprehensible, "Content is incomprehensible"),
        (5, ReasonId::DislikesCompany, "I don’t like your company"),
        (6, ReasonId::Other, "Other"),
    ] {
        assert_eq!(ReasonId::try_from(number), Ok(reason));
        assert_eq!(i64::from(reason), number);
        assert_eq!((reason.label(), &*reason.to_string()), (label, label));
    }
    for number in [0, 7, -1, i64::MAX] {
        let error = ReasonId::try_from(number).expect_err("not a reason");
        assert_eq!(error.to_string(), "the id of a reason is an integer from 1 to 6");
    }
}

#[test]
fn the_service_gives_access_to_the_inner_one() {
    let mut service = WebhookAuth::new(SECRET).layer("inner");
    assert_eq!(*service.get_ref(), "inner");
    *service.get_mut() = "other";
    assert_eq!(service.into_inner(), "other");
}

#[test]
fn the_headers_of_the_credentials_are_named_once() {
    let basic = Credential::basic("lox24", SECRET).expect("usable");
    let bearer = Credential::bearer(SECRET).expect("usable");
    let query = Credential::query("key", SECRET).expect("usable");
    let auth = WebhookAuth::new(SECRET).or(basic).or(bearer).or(query.clone());
    assert_eq!(auth.credential_headers(), ["x-lox24-token", "authorization"]);
    assert!(WebhookAuth::from(query).credential_headers().is_empty());
}
