//! Credentials that are not the right one, and the right one in another spelling.

use base64::{Engine as _, engine::general_purpose::STANDARD as BASE64};
use http::{HeaderName, HeaderValue, Request, header::AUTHORIZATION};

use super::credential::{encoded, with_pairs};
use crate::{Credential, auth::Location};

/// What a request's head carries in place of a credential.
pub(super) struct Forgery {
    pub(super) name: &'static str,
    pub(super) hint: &'static str,
    /// Headers and their values, in order; of one name they replace what was there.
    headers: Vec<(HeaderName, String)>,
    /// Raw `name=value` pairs.
    parameters: Vec<String>,
}

pub(super) const UNGUARDED: &str = "nothing asks for the credential: put `.layer(WebhookAuth::with(credential))` on the route, and \
     take `UnsubscribeEvent`, which demands it";
const BY_HAND: &str = "the secret is compared by hand, and in part: leave it to `WebhookAuth`, which compares all of it";
const CASE: &str = "the secret is compared without regard to case: leave it to `WebhookAuth`";
const EMPTY: &str = "an empty secret gets in: leave the check to `WebhookAuth`";
const DOUBLED: &str = "a place that holds two values gets in, and a proxy may have looked at the other one: leave the \
     check to `WebhookAuth`, which refuses both";
const ANYWHERE: &str =
    "the secret is looked for where it does not belong: leave the check to `WebhookAuth`";
const NOT_THE_SECRET: &str = "another secret than the given one is accepted: nothing compares it, or \
                              the host still accepts an old or a default one";

/// Requests of somebody who does not have the secret, or not in its place exactly once.
pub(super) fn forgeries(credential: &Credential) -> Vec<Forgery> {
    let forger = Forger::new(credential);
    let secret = &*forger.secret;
    let mut all = vec![forger.values("no_credential", UNGUARDED, &[])];
    let mut one = |name, hint, value: &str| {
        // A short secret may leave nothing of itself, or not change.
        if value != secret && (!value.is_empty() || name == "secret_empty") {
            all.push(forger.values(name, hint, &[forger.spelled(value)]));
        }
    };
    let wrong = with_other_end(secret);
    let mut letters = secret.chars();
    letters.next();
    one("secret_wrong", NOT_THE_SECRET, &"x".repeat(secret.chars().count() + 1));
    one("secret_wrong_at_the_end", BY_HAND, &wrong);
    one("secret_without_its_start", BY_HAND, letters.as_str());
    letters = secret.chars();
    letters.next_back();
    one("secret_without_its_end", BY_HAND, letters.as_str());
    one("secret_with_more_before", BY_HAND, &format!("x{secret}"));
    one("secret_with_more_behind", BY_HAND, &format!("{secret}x"));
    one("secret_in_other_case", CASE, &with_other_case(secret));
    one("secret_empty", EMPTY, "");

    let (right, wrong) = (forger.spelled(secret), forger.spelled(&wrong));
    let mut values = |name, hint, values: &[String]| all.push(forger.values(name, hint, values));
    values("secret_twice", DOUBLED, &[right.clone(), right.clone()]);
    values("secret_before_a_wrong_one", DOUBLED, &[right.clone(), wrong.clone()]);
    values("secret_after_a_wrong_one", DOUBLED, &[wrong.clone(), right.clone()]);
    let elsewhere = HeaderName::from_static("x-not-the-place");
    all.push(Forgery {
        name: "secret_in_another_header",
        hint: ANYWHERE,
        headers: vec![(elsewhere, secret.to_owned())],
        parameters: Vec::new(),
    });
    all.extend(forger.forgeries_of_the_place());
    all
}

/// The right credential, in a spelling that `Credential::sign` does not use.
pub(super) fn spellings(credential: &Credential) -> Vec<Forgery> {
    let forger = Forger::new(credential);
    let right = forger.spelled(&forger.secret);
    let mut beside = forger.values(
        "wrong_credential_elsewhere",
        "one right credential is enough, whatever other places hold: another check of \
         credentials stands before `WebhookAuth`",
        std::slice::from_ref(&right),
    );
    let elsewhere = match forger.place {
        Location::Header(name) if *name != AUTHORIZATION => AUTHORIZATION,
        _ => HeaderName::from_static("x-lox24-token"),
    };
    beside.headers.push((elsewhere, "Bearer wrong".to_owned()));

    let another = match forger.place {
        Location::Header(_) => None,
        Location::Bearer | Location::Basic => Some(forger.values(
            "scheme_in_lower_case",
            "the scheme of `Authorization` may be in any case: leave the check to `WebhookAuth`",
            &[with_lower_scheme(&right)],
        )),
        Location::Query(_) => Some(forger.values(
            "parameter_among_others",
            "other parameters do no harm: leave the check to `WebhookAuth`",
            &["a=1".to_owned(), right, "b=%20".to_owned()],
        )),
    };
    [beside].into_iter().chain(another).collect()
}

struct Forger<'a> {
    place: &'a Location,
    /// For Basic.
    user: String,
    secret: String,
}

impl<'a> Forger<'a> {
    fn new(credential: &'a Credential) -> Self {
        let (place, expected) = credential.location_and_value();
        let (user, secret) = match place {
            Location::Basic => {
                let pair = BASE64.decode(expected).expect("a pair is kept as base64");
                let pair = String::from_utf8(pair).expect("a pair is UTF-8");
                let (user, password) = pair.split_once(':').expect("a pair has a colon");
                (user.to_owned(), password.to_owned())
            }
            Location::Header(_) | Location::Bearer | Location::Query(_) => {
                (String::new(), expected.to_owned())
            }
        };
        Self { place, user, secret }
    }

    /// What the place holds for a secret, be it right or wrong.
    fn spelled(&self, secret: &str) -> String {
        match self.place {
            Location::Header(_) => secret.to_owned(),
            Location::Bearer => format!("Bearer {secret}"),
            Location::Basic => basic(&self.user, secret),
            Location::Query(name) => format!("{}={}", encoded(name), encoded(secret)),
        }
    }

    fn values(&self, name: &'static str, hint: &'static str, values: &[String]) -> Forgery {
        let in_header = |name: &HeaderName| -> Vec<_> {
            values.iter().map(|value| (name.clone(), value.clone())).collect()
        };
        let (headers, parameters) = match self.place {
            Location::Header(name) => (in_header(name), Vec::new()),
            Location::Bearer | Location::Basic => (in_header(&AUTHORIZATION), Vec::new()),
            Location::Query(_) => (Vec::new(), values.to_vec()),
        };
        Forgery { name, hint, headers, parameters }
    }

    fn forgeries_of_the_place(&self) -> Vec<Forgery> {
        let (secret, right) = (&*self.secret, self.spelled(&self.secret));
        let one = |name, hint, value: String| self.values(name, hint, &[value]);
        let wrong = with_other_end(secret);
        match self.place {
            Location::Header(_) => {
                vec![one("secret_in_a_list", BY_HAND, format!("{wrong}, {secret}"))]
            }
            Location::Bearer => vec![
                one("secret_in_a_list", BY_HAND, format!("Bearer {wrong}, Bearer {secret}")),
                one("secret_without_scheme", ANYWHERE, secret.to_owned()),
                one("secret_in_another_scheme", ANYWHERE, format!("Digest {secret}")),
            ],
            Location::Basic => {
                let mut all = vec![
                    one(
                        "secret_of_another_user",
                        BY_HAND,
                        basic(&format!("{}x", self.user), secret),
                    ),
                    one("secret_in_plain_text", ANYWHERE, format!("Basic {}:{secret}", self.user)),
                    one("secret_in_another_scheme", ANYWHERE, right.replacen("Basic", "Token", 1)),
                ];
                let other_case = right.replacen("Basic ", "", 1);
                let other_case = format!("Basic {}", with_other_case(&other_case));
                if other_case != right {
                    all.push(one("base64_in_other_case", CASE, other_case));
                }
                all
            }
            Location::Query(name) => {
                let other = format!("{}=", every_byte_encoded(name));
                let twice = [right, format!("{other}{}", encoded(&wrong))];
                vec![
                    one("secret_in_a_list", BY_HAND, self.spelled(&format!("{wrong},{secret}"))),
                    self.values("secret_before_a_wrong_one_in_disguise", DOUBLED, &twice),
                ]
            }
        }
    }
}

impl Forgery {
    /// `false` where no request can carry it: a URI has a greatest length, and a header holds no
    /// control character.
    pub(super) fn put_on<B>(&self, request: &mut Request<B>) -> bool {
        for (name, _) in &self.headers {
            request.headers_mut().remove(name);
        }
        for (name, value) in &self.headers {
            let Ok(mut value) = HeaderValue::from_str(value) else { return false };
            value.set_sensitive(true);
            request.headers_mut().append(name, value);
        }
        if !self.parameters.is_empty() {
            let Some(uri) = with_pairs(request.uri(), self.parameters.iter().cloned()) else {
                return false;
            };
            *request.uri_mut() = uri;
        }
        true
    }
}

/// The text with another last letter. (`=` only ends a bearer token, and cannot be any other.)
fn with_other_end(text: &str) -> String {
    let end = text.trim_end_matches('=');
    let mut letters = end.chars();
    let other = if letters.next_back() == Some('x') { 'y' } else { 'x' };
    format!("{}{other}{}", letters.as_str(), &text[end.len()..])
}

fn with_other_case(text: &str) -> String {
    let swapped = |letter: char| match letter {
        'a'..='z' => letter.to_ascii_uppercase(),
        _ => letter.to_ascii_lowercase(),
    };
    text.chars().map(swapped).collect()
}

fn with_lower_scheme(value: &str) -> String {
    match value.split_once(' ') {
        Some((scheme, rest)) => format!("{} {rest}", scheme.to_ascii_lowercase()),
        None => value.to_owned(),
    }
}

fn basic(user: &str, password: &str) -> String {
    format!("Basic {}", BASE64.encode(format!("{user}:{password}")))
}

/// As a proxy that looks for the plain name does not see it.
fn every_byte_encoded(text: &str) -> String {
    text.bytes().map(|byte| format!("%{byte:02X}")).collect()
}
