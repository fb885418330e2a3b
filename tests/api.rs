//! The public face: auto traits, and which credentials can be made.

mod common;

use std::fmt::Debug;

use common::SECRET;
use unsubscribe_webhook::{
    AdditionalData, Authenticated, ConfigError, Credential, Reason, ReasonId, Received, Rejection,
    ResponseBody, ResponseFuture, ServerError, Unsubscribe, UnsubscribeEvent, WebhookAuth,
    WebhookAuthService,
};

#[test]
fn public_types_can_be_shared_and_printed() {
    fn assert_shared<T: Send + Sync + Unpin + Debug + 'static>() {}
    fn assert_cloned<T: Send + Sync + Unpin + Debug + Clone + 'static>() {}
    fn assert_error<T: std::error::Error + Send + Sync + 'static>() {}
    fn assert_data<T: Eq + std::hash::Hash + serde::Serialize + serde::de::DeserializeOwned>() {}

    assert_cloned::<AdditionalData>();
    assert_cloned::<Authenticated>();
    assert_cloned::<ConfigError>();
    assert_cloned::<Credential>();
    assert_cloned::<Reason>();
    assert_cloned::<ReasonId>();
    assert_cloned::<Received>();
    assert_cloned::<Rejection>();
    assert_cloned::<ServerError>();
    assert_cloned::<Unsubscribe>();
    assert_cloned::<UnsubscribeEvent>();
    assert_cloned::<WebhookAuth>();
    assert_cloned::<WebhookAuthService<()>>();
    assert_shared::<ResponseBody<String>>();
    assert_shared::<ResponseFuture<std::future::Ready<()>>>();
    assert_error::<ConfigError>();
    assert_error::<Rejection>();
    assert_data::<AdditionalData>();
    assert_data::<Reason>();
    assert_data::<ReasonId>();
    assert_data::<Unsubscribe>();
    assert_data::<UnsubscribeEvent>();
}

#[track_caller]
fn assert_unusable(made: Result<Credential, ConfigError>, why: &str) {
    assert_eq!(made.expect_err("unusable").to_string(), why);
}

#[test]
fn a_secret_that_could_never_match_is_refused() {
    const EMPTY: &str = "the secret is empty";
    const LINE: &str =
        "the secret ends with a line break, as one read from a file does: trim it first";
    const BLANK: &str = "the secret begins or ends with a blank: trim it first";

    const MARK: &str =
        "the secret begins with a byte order mark, as one read from a file may do: remove it first";

    type Make = fn(&str) -> Result<Credential, ConfigError>;
    let makers: [Make; 4] = [
        |secret| Credential::token(secret),
        |secret| Credential::header("x-hook", secret),
        |secret| Credential::bearer(secret),
        |secret| Credential::query("key", secret),
    ];
    for make in makers {
        assert!(make(SECRET).is_ok());
        assert_unusable(make(""), EMPTY);
        assert_unusable(make("s3cr3t\n"), LINE);
        assert_unusable(make("s3cr3t\r\n"), LINE);
        assert_unusable(make("\n"), LINE);
        assert_unusable(make(" "), BLANK);
        assert_unusable(make("s3cr3t "), BLANK);
        assert_unusable(make("\ts3cr3t"), BLANK);
        assert_unusable(make("s3cr3t\u{a0}"), BLANK);
        assert_unusable(make("\u{feff}s3cr3t"), MARK);
    }
}

#[test]
fn a_secret_must_be_sendable_in_its_place() {
    let header = "the secret holds a character that no header carries: use printable ASCII";
    for secret in ["pässword", "a\nb", "a\0b", "a\tb", "a\u{7f}b"] {
        assert_unusable(Credential::token(secret), header);
    }
    assert!(Credential::token("two words").is_ok());
    let name = "the header's name is not a token of RFC 9110";
    for unusable in ["", "x hook", "x-hööks", "x:hook"] {
        assert_unusable(Credential::header(unusable, SECRET), name);
    }

    let bearer =
        "the secret is no bearer token of RFC 6750: use letters, digits and -._~+/, then any =";
    for secret in ["two words", "pässword", "a=b", "=", "a,b", "a\nb"] {
        assert_unusable(Credential::bearer(secret), bearer);
    }
    for secret in ["aZ09-._~+/", "a=", "a=="] {
        assert!(Credential::bearer(secret).is_ok());
    }

    let basic = Credential::basic;
    assert!(basic("user", "p:ässword").is_ok());
    assert!(basic("", "password").is_ok());
    assert_unusable(basic("user", ""), "the password is empty");
    assert_unusable(
        basic("user", "password\n"),
        "the password ends with a line break, as one read from a file does: trim it first",
    );
    assert_unusable(
        basic("user ", "password"),
        "the user begins or ends with a blank: trim it first",
    );
    assert_unusable(basic("us:er", "p"), "the user holds a colon, which would end it (RFC 7617)");
    let control = "the user or the password holds a control character (RFC 7617)";
    assert_unusable(basic("us\0er", "password"), control);
    assert_unusable(basic("user", "pass\nword"), control);

    assert_unusable(Credential::query("", SECRET), "the query parameter's name is empty");
    assert!(Credential::query("k", "pä&ss+wörd %").is_ok());
    let long = "s".repeat(70_000);
    assert_unusable(Credential::query("k", long), "the secret is too long for a URI");
}

#[test]
fn a_secret_read_from_a_file_is_refused_with_its_line_break() {
    let file = std::env::temp_dir().join(format!("unsubscribe-webhook-{}", std::process::id()));
    std::fs::write(&file, format!("{SECRET}\n")).expect("a file");
    let secret = std::fs::read_to_string(&file).expect("the file");
    std::fs::remove_file(&file).expect("the file");

    let error = WebhookAuth::try_new(secret.clone()).expect_err("a line break");
    assert!(error.to_string().contains("ends with a line break, as one read from a file does"));
    assert!(WebhookAuth::try_new(secret.trim()).is_ok());
    let panic = std::panic::catch_unwind(|| WebhookAuth::new(secret)).expect_err("a panic");
    let text = panic.downcast_ref::<String>().expect("a text");
    assert_eq!(*text, format!("the webhook's secret is unusable: {error}"));
}

#[test]
fn a_panic_at_start_up_points_at_the_host() {
    let (sender, receiver) = std::sync::mpsc::channel();
    let sender = std::sync::Mutex::new(sender);
    let default = std::panic::take_hook();
    std::panic::set_hook(Box::new(move |info| {
        let file = info.location().expect("a location").file().to_owned();
        let _ = sender.lock().map(|sender| sender.send(file));
    }));
    let line = std::panic::catch_unwind(|| WebhookAuth::new(""));
    std::panic::set_hook(default);
    assert!(line.is_err());
    assert!(receiver.iter().any(|file| file.ends_with("api.rs")));
}

#[test]
fn the_headers_of_the_credentials_are_named_once() {
    let basic = Credential::basic("lox24", SECRET).expect("usable");
    let bearer = Credential::bearer(SECRET).expect("usable");
    let query = Credential::query("key", SECRET).expect("usable");
    let auth = WebhookAuth::new(SECRET).or(basic).or(bearer).or(query.clone());
    let mut names: Vec<_> = auth.credential_headers().map(|name| name.to_string()).collect();
    names.sort();
    assert_eq!(names, ["authorization", "x-lox24-token"]);
    assert_eq!(WebhookAuth::from_credential(query).credential_headers().count(), 0);
}
