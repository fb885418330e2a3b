//! Applies a credential to a request, and removes it.

use http::{HeaderName, HeaderValue, Request, Uri, header::AUTHORIZATION};

use crate::{
    Credential,
    auth::{Location, MAX_URI_LENGTH},
};

impl Credential {
    /// Sets the credential of an outgoing request, replacing any value in its location (feature
    /// `testing`).
    ///
    /// # Panics
    ///
    /// With a query credential on a request whose URI cannot take one more parameter: one that would
    /// be longer than 65,534 bytes, or has no path (`*`, or `CONNECT`'s `example.com:443`).
    ///
    /// ```
    /// # use unsubscribe_webhook::Credential;
    /// # fn main() -> Result<(), unsubscribe_webhook::ConfigError> {
    /// let mut request = http::Request::post("/webhooks/unsubscribe").body(()).unwrap();
    /// Credential::token("s3cr3t")?.apply_to(&mut request);
    /// assert_eq!(request.headers()["x-lox24-token"], "s3cr3t");
    ///
    /// Credential::query("token", "s3cr3t&more")?.apply_to(&mut request);
    /// assert_eq!(request.uri(), "/webhooks/unsubscribe?token=s3cr3t%26more");
    /// # Ok(())
    /// # }
    /// ```
    pub fn apply_to<B>(&self, request: &mut Request<B>) {
        self.remove_from(request);
        let (location, value) = self.location_and_value();
        match location {
            Location::Header(name) => insert_sensitive(request, name, value),
            Location::Bearer => {
                insert_sensitive(request, &AUTHORIZATION, &format!("Bearer {value}"));
            }
            Location::Basic => {
                insert_sensitive(request, &AUTHORIZATION, &format!("Basic {value}"));
            }
            Location::Query(parameter) => {
                let pair = format!("{}={}", encoded(parameter), encoded(value));
                *request.uri_mut() = with_pairs(request.uri(), [pair])
                    .expect("the URI cannot take one more parameter");
            }
        }
    }

    /// Empties the location.
    pub(super) fn remove_from<B>(&self, request: &mut Request<B>) {
        match self.location_and_value().0 {
            Location::Header(name) => drop(request.headers_mut().remove(name)),
            Location::Bearer | Location::Basic => {
                drop(request.headers_mut().remove(AUTHORIZATION));
            }
            Location::Query(parameter) => {
                let is_other = |pair: &&str| {
                    form_urlencoded::parse(pair.as_bytes()).all(|(name, _)| name != *parameter)
                };
                let query = request.uri().query().unwrap_or_default();
                let others: Vec<_> = query.split('&').filter(is_other).map(str::to_owned).collect();
                let path = with_path_and_query(request.uri(), request.uri().path());
                if let Some(path) = path {
                    *request.uri_mut() = with_pairs(&path, others).expect("a shorter URI");
                }
            }
        }
    }
}

fn insert_sensitive<B>(request: &mut Request<B>, name: &HeaderName, value: &str) {
    let mut value =
        HeaderValue::from_str(value).expect("the constructors take printable ASCII only");
    value.set_sensitive(true);
    request.headers_mut().insert(name, value);
}

pub(super) fn encoded(text: &str) -> String {
    form_urlencoded::byte_serialize(text.as_bytes()).collect()
}

/// With more encoded `name=value` pairs; `None` if a URI cannot hold them.
pub(super) fn with_pairs(uri: &Uri, pairs: impl IntoIterator<Item = String>) -> Option<Uri> {
    let query = uri.query().into_iter().map(str::to_owned);
    let pairs: Vec<_> = query.chain(pairs).filter(|pair| !pair.is_empty()).collect();
    if pairs.is_empty() {
        return Some(uri.clone());
    }
    with_path_and_query(uri, &format!("{}?{}", uri.path(), pairs.join("&")))
}

fn with_path_and_query(uri: &Uri, path_and_query: &str) -> Option<Uri> {
    if path_and_query.len() > MAX_URI_LENGTH {
        return None;
    }
    let mut parts = uri.clone().into_parts();
    parts.path_and_query = Some(path_and_query.parse().ok()?);
    Uri::from_parts(parts).ok()
}
