//! Credentials that must be rejected.

use base64::{Engine as _, engine::general_purpose::STANDARD as BASE64};
use http::{HeaderName, HeaderValue, Request, header::AUTHORIZATION};

use super::credential::{encoded, with_pairs};
use crate::{Credential, auth::Location};

/// What a request has instead of the credential.
pub(super) struct InvalidCredential {
    pub(super) name: &'static str,
    pub(super) likely_cause: &'static str,
    /// In the credential's location: values of its header, or raw `name=value` pairs.
    values: Vec<String>,
    elsewhere: Option<(HeaderName, String)>,
}

pub(super) const NO_CHECK: &str =
    "nothing checks the credential; add `.layer(auth)` to the route and take `UnsubscribeEvent`";
const PARTIAL: &str = "only a part of the secret is compared; leave the check to `WebhookAuth`";
const CASE: &str = "the secret is compared case-insensitively; leave the check to `WebhookAuth`";
const EMPTY: &str = "an empty secret is accepted; leave the check to `WebhookAuth`";
const DUPLICATE: &str = "a duplicate credential is accepted; leave the check to `WebhookAuth`";
const LOCATION: &str =
    "the secret is accepted in another location; leave the check to `WebhookAuth`";
const OTHER_SECRET: &str = "another secret is accepted; remove old and default ones";

/// The location without the secret, or with anything but the secret exactly once.
pub(super) fn invalid_credentials(credential: &Credential) -> Vec<InvalidCredential> {
    let (user, secret) = &user_and_secret(credential);
    let location = credential.location_and_value().0;
    let format = |secret: &str| formatted(location, user, secret);
    let other = with_other_end(secret);
    let (right, wrong) = (format(secret), format(&other));
    let (mut without_start, mut without_end) = (secret.chars(), secret.chars());
    without_start.next();
    without_end.next_back();

    let mut all = Vec::new();
    let mut add = |name, likely_cause, values| {
        all.push(InvalidCredential { name, likely_cause, values, elsewhere: None });
    };
    add("no_credential", NO_CHECK, vec![]);
    for (name, likely_cause, value) in [
        ("secret_wrong", OTHER_SECRET, &*"x".repeat(secret.chars().count() + 1)),
        ("secret_wrong_at_the_end", PARTIAL, &other),
        ("secret_without_its_start", PARTIAL, without_start.as_str()),
        ("secret_without_its_end", PARTIAL, without_end.as_str()),
        ("secret_with_prefix", PARTIAL, &format!("x{secret}")),
        ("secret_with_suffix", PARTIAL, &format!("{secret}x")),
        ("secret_in_other_case", CASE, &with_other_case(secret)),
        ("secret_empty", EMPTY, ""),
    ] {
        // Of a short secret nothing may be left, or nothing changes.
        if value != secret && (!value.is_empty() || name == "secret_empty") {
            add(name, likely_cause, vec![format(value)]);
        }
    }
    add("secret_twice", DUPLICATE, vec![right.clone(), right.clone()]);
    add("secret_before_a_wrong_one", DUPLICATE, vec![right.clone(), wrong.clone()]);
    add("secret_after_a_wrong_one", DUPLICATE, vec![wrong.clone(), right.clone()]);
    match location {
        Location::Header(_) => add("secret_in_a_list", PARTIAL, vec![format!("{wrong}, {right}")]),
        Location::Bearer => {
            add("secret_in_a_list", PARTIAL, vec![format!("{wrong}, {right}")]);
            add("secret_without_scheme", LOCATION, vec![secret.clone()]);
            add("secret_in_another_scheme", LOCATION, vec![format!("Digest {secret}")]);
        }
        Location::Basic => {
            let other_user = formatted(location, &format!("{user}x"), secret);
            add("secret_of_another_user", PARTIAL, vec![other_user]);
            add("secret_without_base64", LOCATION, vec![format!("Basic {user}:{secret}")]);
            let token = right.replacen("Basic", "Token", 1);
            add("secret_in_another_scheme", LOCATION, vec![token]);
            let other_case = format!("Basic {}", with_other_case(&right["Basic ".len()..]));
            if other_case != right {
                add("base64_in_other_case", CASE, vec![other_case]);
            }
        }
        Location::Query(name) => {
            add("secret_in_a_list", PARTIAL, vec![format(&format!("{other},{secret}"))]);
            // A proxy that compares names without decoding them does not see the second one.
            let name = name.bytes().map(|byte| format!("%{byte:02X}")).collect::<Vec<_>>().concat();
            let hidden = format!("{name}={}", encoded(&other));
            add("secret_before_a_hidden_wrong_one", DUPLICATE, vec![right, hidden]);
        }
    }
    let elsewhere = Some((HeaderName::from_static("x-other-location"), secret.clone()));
    all.push(InvalidCredential {
        name: "secret_in_another_header",
        likely_cause: LOCATION,
        values: vec![],
        elsewhere,
    });
    all
}

/// The user of Basic, and the secret.
fn user_and_secret(credential: &Credential) -> (String, String) {
    match credential.location_and_value() {
        (Location::Basic, pair) => {
            let pair = BASE64.decode(pair).expect("a pair is kept as base64");
            let pair = String::from_utf8(pair).expect("a pair is UTF-8");
            let (user, password) = pair.split_once(':').expect("a pair has a colon");
            (user.to_owned(), password.to_owned())
        }
        (_, secret) => (String::new(), secret.to_owned()),
    }
}

/// What the location holds for a secret.
fn formatted(location: &Location, user: &str, secret: &str) -> String {
    match location {
        Location::Header(_) => secret.to_owned(),
        Location::Bearer => format!("Bearer {secret}"),
        Location::Basic => format!("Basic {}", BASE64.encode(format!("{user}:{secret}"))),
        Location::Query(name) => format!("{}={}", encoded(name), encoded(secret)),
    }
}

impl InvalidCredential {
    /// In place of the credential; `false` if no request can have it: a URI has a maximum length, and
    /// a header holds no control character.
    pub(super) fn apply_to<B>(self, credential: &Credential, request: &mut Request<B>) -> bool {
        credential.remove_from(request);
        let location = credential.location_and_value().0;
        let mut headers = Vec::from_iter(self.elsewhere);
        if let Location::Query(_) = location {
            let Some(uri) = with_pairs(request.uri(), self.values) else { return false };
            *request.uri_mut() = uri;
        } else {
            let name = if let Location::Header(name) = location { name } else { &AUTHORIZATION };
            headers.extend(self.values.into_iter().map(|value| (name.clone(), value)));
        }
        headers.into_iter().all(|(name, value)| {
            let value = HeaderValue::try_from(value).map(|mut value| {
                value.set_sensitive(true);
                request.headers_mut().append(name, value)
            });
            value.is_ok()
        })
    }
}

/// With another last letter. (`=` can only end a bearer token.)
fn with_other_end(secret: &str) -> String {
    let end = secret.trim_end_matches('=');
    let mut letters = end.chars();
    let other = if letters.next_back() == Some('x') { 'y' } else { 'x' };
    format!("{}{other}{}", letters.as_str(), &secret[end.len()..])
}

fn with_other_case(text: &str) -> String {
    let swapped = |letter: char| match letter {
        'a'..='z' => letter.to_ascii_uppercase(),
        _ => letter.to_ascii_lowercase(),
    };
    text.chars().map(swapped).collect()
}
