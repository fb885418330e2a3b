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
    /// assert!(request.headers()["x-lox24-token"].is_sensitive());
    ///
    /// Credential::query("token", "s3cr3t&more")?.apply_to(&mut request);
    /// assert_eq!(request.uri(), "/webhooks/unsubscribe?token=s3cr3t%26more");
    /// # Ok(())
    /// # }
    /// ```
    pub fn apply_to<B>(&self, request: &mut Request<B>) {
        self.remove_from(request);
        let (location, value) = self.location_and_value();
        append(request, location, vec![formatted(location, value)])
            .expect("the URI cannot take one more parameter");
    }

    /// Empties the location.
    pub(super) fn remove_from<B>(&self, request: &mut Request<B>) {
        match self.location_and_value().0 {
            Location::Query(parameter) => {
                let mut others = pairs(request.uri());
                others.retain(|pair| {
                    form_urlencoded::parse(pair.as_bytes()).all(|(name, _)| name != *parameter)
                });
                if let Some(uri) = with_query(request.uri(), &others) {
                    *request.uri_mut() = uri;
                }
            }
            location => drop(request.headers_mut().remove(header(location))),
        }
    }
}

/// The value of a location's header, or the pair in the query. A value of Basic is in base64.
pub(super) fn formatted(location: &Location, value: &str) -> String {
    match location {
        Location::Header(_) => value.to_owned(),
        Location::Bearer => format!("Bearer {value}"),
        Location::Basic => format!("Basic {value}"),
        Location::Query(name) => format!("{}={}", encoded(name), encoded(value)),
    }
}

pub(super) fn encoded(text: &str) -> String {
    form_urlencoded::byte_serialize(text.as_bytes()).collect()
}

/// Adds formatted values to a location; `None` if a URI or a header cannot hold them.
pub(super) fn append<B>(
    request: &mut Request<B>,
    location: &Location,
    values: Vec<String>,
) -> Option<()> {
    if let Location::Query(_) = location {
        *request.uri_mut() = with_query(request.uri(), &[pairs(request.uri()), values].concat())?;
        return Some(());
    }
    for value in values {
        let mut value = HeaderValue::try_from(value).ok()?;
        value.set_sensitive(true);
        request.headers_mut().append(header(location), value);
    }
    Some(())
}

/// Of any location but the query.
fn header(location: &Location) -> &HeaderName {
    if let Location::Header(name) = location { name } else { &AUTHORIZATION }
}

fn pairs(uri: &Uri) -> Vec<String> {
    let pairs = uri.query().unwrap_or_default().split('&');
    pairs.filter(|pair| !pair.is_empty()).map(str::to_owned).collect()
}

fn with_query(uri: &Uri, pairs: &[String]) -> Option<Uri> {
    let separator = if pairs.is_empty() { "" } else { "?" };
    let path_and_query = [uri.path(), separator, &pairs.join("&")].concat();
    if path_and_query.len() > MAX_URI_LENGTH {
        return None;
    }
    let mut parts = uri.clone().into_parts();
    parts.path_and_query = Some(path_and_query.parse().ok()?);
    Uri::from_parts(parts).ok()
}
