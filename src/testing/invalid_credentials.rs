//! Credentials that must be rejected.

use base64::{Engine as _, engine::general_purpose::STANDARD as BASE64};
use http::HeaderName;

use super::credential::{encoded, formatted};
use crate::{Credential, auth::Location};

/// What a request has instead of the credential.
pub(super) struct InvalidCredential {
    pub(super) name: &'static str,
    pub(super) likely_cause: &'static str,
    pub(super) location: Location,
    /// Formatted for the location.
    pub(super) values: Vec<String>,
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
    let (location, value) = credential.location_and_value();
    let (user, secret) = match location {
        Location::Basic => {
            let pair = BASE64.decode(value).expect("a pair is kept as base64");
            let pair = String::from_utf8(pair).expect("a pair is UTF-8");
            let (user, password) = pair.split_once(':').expect("a pair has a colon");
            (user.to_owned(), password.to_owned())
        }
        _ => (String::new(), value.to_owned()),
    };
    let (user, secret) = (&*user, &*secret);
    let of_user = |user: &str, secret: &str| match location {
        Location::Basic => formatted(location, &BASE64.encode(format!("{user}:{secret}"))),
        _ => formatted(location, secret),
    };
    let format = |secret: &str| of_user(user, secret);
    let other = with_other_end(secret);
    let (right, wrong) = (&*format(secret), &*format(&other));
    let (mut without_start, mut without_end) = (secret.chars(), secret.chars());
    without_start.next();
    without_end.next_back();

    let mut all = Vec::new();
    let mut add = |name, likely_cause, values: &[&str]| {
        let values = values.iter().copied().map(str::to_owned).collect();
        all.push(InvalidCredential { name, likely_cause, location: location.clone(), values });
    };
    add("no_credential", NO_CHECK, &[]);
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
        // Of a secret of one letter nothing is left.
        if !value.is_empty() || name == "secret_empty" {
            add(name, likely_cause, &[&format(value)]);
        }
    }
    add("secret_twice", DUPLICATE, &[right, right]);
    add("secret_before_a_wrong_one", DUPLICATE, &[right, wrong]);
    add("secret_after_a_wrong_one", DUPLICATE, &[wrong, right]);
    match location {
        Location::Header(_) => add("secret_in_a_list", PARTIAL, &[&format!("{wrong}, {right}")]),
        Location::Bearer => {
            add("secret_in_a_list", PARTIAL, &[&format!("{wrong}, {right}")]);
            add("secret_without_scheme", LOCATION, &[secret]);
            add("secret_in_another_scheme", LOCATION, &[&format!("Digest {secret}")]);
        }
        Location::Basic => {
            add("secret_of_another_user", PARTIAL, &[&of_user(&format!("{user}x"), secret)]);
            add("secret_without_base64", LOCATION, &[&format!("Basic {user}:{secret}")]);
            add("secret_in_another_scheme", LOCATION, &[&format!("Token {value}")]);
            add("base64_in_other_case", CASE, &[&formatted(location, &with_other_case(value))]);
        }
        Location::Query(name) => {
            add("secret_in_a_list", PARTIAL, &[&format(&format!("{other},{secret}"))]);
            // A proxy that compares names without decoding them does not see the second one.
            let name = name.bytes().map(|byte| format!("%{byte:02X}")).collect::<Vec<_>>().concat();
            let hidden = format!("{name}={}", encoded(&other));
            add("secret_before_a_hidden_wrong_one", DUPLICATE, &[right, &hidden]);
        }
    }
    all.push(InvalidCredential {
        name: "secret_in_another_header",
        likely_cause: LOCATION,
        location: Location::Header(HeaderName::from_static("x-other-location")),
        values: vec![secret.to_owned()],
    });
    all
}

/// With another last letter. (`=` can only end a bearer token.)
fn with_other_end(secret: &str) -> String {
    let end = secret.trim_end_matches('=');
    let mut letters = end.chars();
    let other = if letters.next_back() == Some('x') { 'y' } else { 'x' };
    format!("{}{other}{}", letters.as_str(), &secret[end.len()..])
}

fn with_other_case(text: &str) -> String {
    match text.to_ascii_uppercase() {
        upper if upper == text => text.to_ascii_lowercase(),
        upper => upper,
    }
}
