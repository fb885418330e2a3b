//! Each location of the secret, and requests that hold any values there.
#![allow(dead_code, unreachable_pub, reason = "each test program uses a part of it")]

use crate::common::prelude::*;

pub struct Location {
    pub credential: Credential,
    /// The header and the scheme in front of the value; `None` is the parameter `key` of the query.
    header: Option<(&'static str, &'static str)>,
    /// The right value.
    pub value: &'static str,
}

/// All locations, each with a secret of its own.
pub fn locations() -> [Location; 5] {
    let location = |credential: Result<_, ConfigError>, header, value| {
        let credential = credential.expect("a usable secret");
        Location { credential, header, value }
    };
    let [token, header] = ["token-s3cr3t", "! header  s3cr3t, ~"];
    let [bearer, query] = ["b-._~+/Z9s3cr3t==", "query-s3cr3t"];
    let basic = "bG94MjQ6cMOkOnMzY3IzdA=="; // lox24:pä:s3cr3t
    [
        location(Credential::token(token), Some(("x-lox24-token", "")), token),
        location(Credential::header("x-hook", header), Some(("x-hook", "")), header),
        location(Credential::bearer(bearer), Some(("authorization", "Bearer ")), bearer),
        location(Credential::basic("lox24", "pä:s3cr3t"), Some(("authorization", "Basic ")), basic),
        location(Credential::query("key", query), None, query),
    ]
}

impl Location {
    pub fn auth(&self) -> WebhookAuth {
        WebhookAuth::from_credential(self.credential.clone())
    }

    pub fn is_query(&self) -> bool {
        self.header.is_none()
    }

    /// A delivery with these values in the location.
    pub fn request<const N: usize>(&self, values: [&str; N], body: impl Into<Body>) -> Request {
        values.iter().fold(unauthenticated(body), |request, value| self.add(request, value))
    }

    /// The same request with one more value in the location.
    pub fn add(&self, request: Request, value: &str) -> Request {
        let Some((name, scheme)) = self.header else {
            let separator = if request.uri().query().is_some() { '&' } else { '?' };
            let value: String = form_urlencoded::byte_serialize(value.as_bytes()).collect();
            return to(&format!("{}{separator}key={value}", request.uri()), request);
        };
        with_headers(request, &[(name, &[scheme, value].concat())])
    }
}
