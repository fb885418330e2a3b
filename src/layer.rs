//! The tower layer and what it demands of a request.

use std::{
    collections::{BTreeSet, HashSet},
    fmt,
    sync::Arc,
};

use http::{HeaderName, request::Parts};
use tower_layer::Layer;

use crate::{ConfigError, Credential, WebhookAuthService};

/// A tower [`Layer`] that lets a request through only if it comes from the provider.
///
/// It looks at the head of a request and never at its body, and answers every other request
/// itself: 401 without the right credential, 403 where the host's own check says no
/// ([`Rejection`](crate::Rejection)). A request that passes carries the proof,
/// [`Authenticated`](crate::Authenticated), which
/// [`UnsubscribeEvent`](crate::UnsubscribeEvent) demands. The header that holds the credential is
/// marked sensitive, so that layers and handlers inside this one log it as `Sensitive`.
///
/// Everything narrows and nothing widens, but [`or`](Self::or): several `require` must all hold,
/// several `allow_users` intersect, and so do layers around each other. Of those, each makes its
/// own checks in the order of 401 and 403, the outermost first.
///
/// # Example
///
/// One request that is accepted, and one that is refused:
///
/// ```
/// use axum::{Router, body::Body, routing::post};
/// use http::{Request, StatusCode};
/// use tower::ServiceExt;
/// use unsubscribe_webhook::{Received, UnsubscribeEvent, WebhookAuth};
///
/// async fn unsubscribed(event: UnsubscribeEvent) -> Received {
///     // Put event.data.phone on the suppression list here.
///     Received
/// }
///
/// # #[tokio::main(flavor = "current_thread")]
/// # async fn main() {
/// let app = Router::new().route(
///     "/webhooks/unsubscribe",
///     post(unsubscribed).layer(WebhookAuth::new("s3cr3t")),
/// );
/// let delivery = |token: &str| {
///     Request::post("/webhooks/unsubscribe")
///         .header("content-type", "application/json")
///         .header("x-lox24-token", token)
///         .body(Body::from(include_str!("../examples/event.json")))
///         .unwrap()
/// };
///
/// let answer = app.clone().oneshot(delivery("s3cr3t")).await.unwrap();
/// assert_eq!(answer.status(), StatusCode::OK);
///
/// let answer = app.oneshot(delivery("guess")).await.unwrap();
/// assert_eq!(answer.status(), StatusCode::UNAUTHORIZED);
/// assert_eq!(answer.headers()["www-authenticate"], r#"Token realm="webhook""#);
/// # }
/// ```
///
/// # With other layers
///
/// The layer takes any request body and any response body, so it stacks in either order with
/// those of tower-http. Two `.layer` calls chained on `post(..)` do not infer the error type
/// between them in axum 0.8; a `ServiceBuilder` does:
///
/// ```
/// use axum::{Router, routing::post};
/// use tower::ServiceBuilder;
/// use tower_http::{compression::CompressionLayer, trace::TraceLayer};
/// use unsubscribe_webhook::{Received, UnsubscribeEvent, WebhookAuth};
///
/// # async fn unsubscribed(_: UnsubscribeEvent) -> Received { Received }
/// let app: Router = Router::new().route(
///     "/webhooks/unsubscribe",
///     post(unsubscribed).layer(
///         ServiceBuilder::new()
///             .layer(CompressionLayer::new())
///             .layer(WebhookAuth::new("s3cr3t"))
///             .layer(TraceLayer::new_for_http()),
///     ),
/// );
/// ```
///
/// - A layer *outside* this one sees the request first: it may log the credential's header unless
///   tower-http's `SetSensitiveRequestHeadersLayer` stands before it
///   ([`credential_headers`](Self::credential_headers)). A secret in a query is seen by every layer,
///   inside and outside.
/// - Limit the size of bodies by axum's `DefaultBodyLimit`, whose refusal is the contract's 400.
///   tower-http's `RequestBodyLimitLayer` answers a large `Content-Length` itself, with 413.
/// - A limit that takes its permit in `poll_ready`, as tower's do, takes one before a request is
///   looked at, for strangers too. Put it outside, or take one that waits when it is called.
#[derive(Clone)]
#[must_use]
pub struct WebhookAuth {
    policy: Arc<Policy>,
}

impl WebhookAuth {
    /// Accepts the token of the provider's dashboard in the `X-LOX24-Token` header.
    ///
    /// # Panics
    ///
    /// At start-up, as axum does on a bad route, if the secret is empty or could never match:
    /// `""`, `"s3cr3t\n"` (read from a file and not trimmed), `"pässword"`.
    /// [`try_new`](Self::try_new) returns the error instead.
    ///
    /// ```
    /// # use unsubscribe_webhook::WebhookAuth;
    /// let auth = WebhookAuth::new("s3cr3t");
    /// ```
    #[track_caller]
    pub fn new(secret: impl Into<String>) -> Self {
        match Self::try_new(secret) {
            Ok(auth) => auth,
            Err(error) => panic!("the webhook's secret is unusable: {error}"),
        }
    }

    /// As [`new`](Self::new), for a secret whose fault the host reports in its own way.
    ///
    /// # Errors
    ///
    /// [`ConfigError`] for the secrets on which `new` panics.
    ///
    /// ```
    /// # use unsubscribe_webhook::WebhookAuth;
    /// assert!(WebhookAuth::try_new("s3cr3t").is_ok());
    /// assert!(WebhookAuth::try_new("").is_err());
    /// ```
    pub fn try_new(secret: impl Into<String>) -> Result<Self, ConfigError> {
        Credential::token(secret).map(Self::with)
    }

    /// Accepts any other credential.
    ///
    /// ```
    /// # use unsubscribe_webhook::{Credential, WebhookAuth};
    /// # fn main() -> Result<(), unsubscribe_webhook::ConfigError> {
    /// let auth = WebhookAuth::with(Credential::bearer("s3cr3t")?);
    /// # Ok(())
    /// # }
    /// ```
    pub fn with(credential: Credential) -> Self {
        let policy =
            Policy { credentials: vec![credential], requirements: Vec::new(), users: None };
        Self { policy: Arc::new(policy) }
    }

    /// Accepts one more credential: for a rotation of the secret, or a change of its place.
    ///
    /// Each request is compared with all of them.
    /// [`Authenticated::credential`](crate::Authenticated::credential) says which one matched, so
    /// that a host sees when the old one is out of use.
    ///
    /// ```
    /// # use unsubscribe_webhook::{Credential, WebhookAuth};
    /// # fn main() -> Result<(), unsubscribe_webhook::ConfigError> {
    /// let auth = WebhookAuth::try_new("new-s3cr3t")?.or(Credential::token("old-s3cr3t")?);
    /// # Ok(())
    /// # }
    /// ```
    pub fn or(mut self, credential: Credential) -> Self {
        Arc::make_mut(&mut self.policy).credentials.push(credential);
        self
    }

    /// Adds the host's own check of the head (source address, TLS client, …), asked after the
    /// credential: where it says `false`, the answer is 403.
    ///
    /// A header can be set by any client: ask one only if your proxy sets it on every request.
    ///
    /// ```
    /// use axum::extract::ConnectInfo;
    /// use std::net::{IpAddr, SocketAddr};
    /// # use unsubscribe_webhook::WebhookAuth;
    ///
    /// let gateway = IpAddr::from([192, 0, 2, 1]);
    /// let auth = WebhookAuth::new("s3cr3t").require(move |head| {
    ///     let peer = head.extensions.get::<ConnectInfo<SocketAddr>>();
    ///     peer.is_some_and(|ConnectInfo(peer)| peer.ip().to_canonical() == gateway)
    /// });
    /// ```
    pub fn require<F>(mut self, check: F) -> Self
    where
        F: Fn(&Parts) -> bool + Send + Sync + 'static,
    {
        Arc::make_mut(&mut self.policy).requirements.push(Arc::new(check));
        self
    }

    /// Accepts only events of these accounts (`data.user_id`) and refuses others with 403.
    ///
    /// A second call keeps only the accounts that both name; an empty list refuses every event.
    /// The account is a part of the body, which the layer does not read: it is
    /// [`UnsubscribeEvent`](crate::UnsubscribeEvent) that refuses, or
    /// [`Authenticated::accepts`](crate::Authenticated::accepts) in a handler that decodes by
    /// itself. Events of other kinds have no account. Whoever knows the secret can write any
    /// account: where they do not trust each other, give each a route and a secret of its own.
    ///
    /// ```
    /// # use unsubscribe_webhook::WebhookAuth;
    /// let auth = WebhookAuth::new("s3cr3t").allow_users([2, 3]);
    /// ```
    pub fn allow_users(mut self, users: impl IntoIterator<Item = i64>) -> Self {
        let policy = Arc::make_mut(&mut self.policy);
        let mut users: BTreeSet<i64> = users.into_iter().collect();
        if let Some(earlier) = &policy.users {
            users.retain(|user| earlier.contains(user));
        }
        policy.users = Some(users);
        self
    }

    /// The headers that hold the credentials, each once: for layers around the whole app, which see a
    /// request before this one does and may log its headers.
    ///
    /// A query credential has none, and nothing hides it from a layer that logs URIs.
    ///
    /// ```
    /// use axum::{Router, routing::post};
    /// use tower::ServiceBuilder;
    /// use tower_http::{sensitive_headers::SetSensitiveRequestHeadersLayer, trace::TraceLayer};
    /// # use unsubscribe_webhook::{Received, UnsubscribeEvent, WebhookAuth};
    ///
    /// # async fn unsubscribed(_: UnsubscribeEvent) -> Received { Received }
    /// let auth = WebhookAuth::new("s3cr3t");
    /// let hidden = SetSensitiveRequestHeadersLayer::new(auth.credential_headers());
    /// let app: Router = Router::new()
    ///     .route("/webhooks/unsubscribe", post(unsubscribed).layer(auth))
    ///     .layer(ServiceBuilder::new().layer(hidden).layer(TraceLayer::new_for_http()));
    /// ```
    pub fn credential_headers(&self) -> impl Iterator<Item = HeaderName> + use<> {
        let credentials = self.policy.credentials.iter();
        let names: HashSet<HeaderName> =
            credentials.filter_map(Credential::header_name).cloned().collect();
        names.into_iter()
    }
}

impl<S> Layer<S> for WebhookAuth {
    type Service = WebhookAuthService<S>;

    fn layer(&self, inner: S) -> Self::Service {
        WebhookAuthService::new(inner, Arc::clone(&self.policy))
    }
}

impl fmt::Debug for WebhookAuth {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("WebhookAuth")
            .field("credentials", &self.policy.credentials)
            .field("requirements", &self.policy.requirements.len())
            .field("users", &self.policy.users)
            .finish()
    }
}

type Requirement = Arc<dyn Fn(&Parts) -> bool + Send + Sync>;

/// All that a layer demands, shared by its services and by the proofs they give.
#[derive(Clone)]
pub(crate) struct Policy {
    pub(crate) credentials: Vec<Credential>,
    pub(crate) requirements: Vec<Requirement>,
    /// The accounts whose events are accepted; `None` accepts all.
    pub(crate) users: Option<BTreeSet<i64>>,
}
