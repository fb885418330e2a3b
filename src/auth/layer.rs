//! The tower layer and its policy.

use std::{collections::BTreeSet, fmt, sync::Arc};

use http::{HeaderName, HeaderValue, request::Parts};
use tower_layer::Layer;

use super::{ConfigError, Credential, WebhookAuthService};

/// The default of [`WebhookAuth::discard_limit`]: above nginx's default limit of a body, 1 MiB.
const DISCARD_LIMIT: usize = 2 * 1024 * 1024;

/// Layer that passes only authenticated webhook requests to the inner service.
///
/// It checks the head of each request and refuses it with a [`Rejection`](crate::Rejection): 401
/// without the credential, 403 if a check of the app rejects it. A request that passes carries
/// [`Authenticated`](crate::Authenticated) in its extensions, which
/// [`UnsubscribeEvent`](crate::UnsubscribeEvent) requires, and the credential's header is marked
/// sensitive. The body of a refused request is never buffered, parsed or passed on, only discarded
/// ([`discard_limit`](Self::discard_limit)).
///
/// Rules are restrictive: all [`require`](Self::require) checks must pass, and repeated
/// [`allow_accounts`](Self::allow_accounts) calls intersect, as nested layers do. Only
/// [`or`](Self::or) accepts more.
///
/// ```
/// use axum::{Router, routing::post};
/// use unsubscribe_webhook::{Received, UnsubscribeEvent, WebhookAuth};
///
/// async fn unsubscribed(event: UnsubscribeEvent) -> Received {
///     // Add event.data.phone to the suppression list here.
///     Received
/// }
///
/// let auth = WebhookAuth::new("s3cr3t");
/// let app: Router = Router::new().route("/webhook", post(unsubscribed).layer(auth));
/// ```
///
/// # With other layers
///
/// The layer takes any request body, and any response body of `Bytes`, so it combines with tower-
/// http's layers in either order. Use a `ServiceBuilder` for several, because axum 0.8 cannot infer
/// the error type between two `.layer` calls on `post(..)`:
///
/// ```
/// # use axum::{Router, routing::post};
/// # use unsubscribe_webhook::{Received, UnsubscribeEvent, WebhookAuth};
/// # use tower_http::trace::TraceLayer;
/// # async fn unsubscribed(_: UnsubscribeEvent) -> Received { Received }
/// let layers = tower::ServiceBuilder::new()
///     .layer(WebhookAuth::new("s3cr3t"))
///     .layer(TraceLayer::new_for_http());
/// let app: Router = Router::new().route("/webhook", post(unsubscribed).layer(layers));
/// ```
///
/// - A layer *outside* this one may log the credential's header
///   ([`credential_headers`](Self::credential_headers)). A secret in a query is visible to every
///   layer.
/// - Limit the size of bodies with axum's `DefaultBodyLimit`, whose refusal is the contract's 400.
///   tower-http's `RequestBodyLimitLayer` responds to a large `Content-Length` itself, with 413.
/// - A `ConcurrencyLimit` takes its permit before a request is authenticated: see
///   [`WebhookAuthService`].
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
    /// At start-up, as axum does on an invalid route, if the secret is empty or could never match:
    /// `""`, `"s3cr3t\n"` (read from a file and not trimmed), `"pässword"`.
    /// [`try_new`](Self::try_new) returns the error instead.
    #[track_caller]
    pub fn new(secret: impl Into<String>) -> Self {
        match Self::try_new(secret) {
            Ok(auth) => auth,
            Err(error) => panic!("the webhook's secret is unusable: {error}"),
        }
    }

    /// As [`new`](Self::new), but returns the error.
    ///
    /// # Errors
    ///
    /// [`ConfigError`] for the secrets on which `new` panics.
    ///
    /// ```
    /// assert!(unsubscribe_webhook::WebhookAuth::try_new("").is_err());
    /// ```
    pub fn try_new(secret: impl Into<String>) -> Result<Self, ConfigError> {
        Credential::token(secret).map(Self::from_credential)
    }

    /// Accepts a credential in another location.
    ///
    /// ```
    /// # use unsubscribe_webhook::{Credential, WebhookAuth};
    /// let auth = WebhookAuth::from_credential(Credential::bearer("s3cr3t")?);
    /// # Ok::<_, unsubscribe_webhook::ConfigError>(())
    /// ```
    pub fn from_credential(credential: Credential) -> Self {
        let policy = Policy {
            challenges: Arc::new([credential.challenge()]),
            credentials: vec![credential],
            requirements: Vec::new(),
            accounts: None,
            discard_limit: DISCARD_LIMIT,
        };
        Self { policy: Arc::new(policy) }
    }

    /// Accepts one more credential: to rotate the secret, or to change its location.
    ///
    /// [`Authenticated::credential_index`](crate::Authenticated::credential_index) and the log report
    /// which one matched, so you can see when the old one is no longer used.
    ///
    /// ```
    /// # use unsubscribe_webhook::{Credential, WebhookAuth};
    /// let auth = WebhookAuth::try_new("new-s3cr3t")?.or(Credential::token("old-s3cr3t")?);
    /// # Ok::<_, unsubscribe_webhook::ConfigError>(())
    /// ```
    pub fn or(mut self, credential: Credential) -> Self {
        let policy = Arc::make_mut(&mut self.policy);
        let challenge = credential.challenge();
        if !policy.challenges.contains(&challenge) {
            policy.challenges = policy.challenges.iter().cloned().chain([challenge]).collect();
        }
        policy.credentials.push(credential);
        self
    }

    /// Adds a check of the head, called after the credential matched: if it returns `false`, the
    /// response is 403. Check a header only if your proxy sets it on every request, because any
    /// client can set one.
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

    /// Accepts only events of these accounts (`data.user_id`). A second call keeps only the accounts
    /// in both lists.
    ///
    /// The account is in the body, so the extractor refuses the event with 403, not the layer. Events
    /// of other kinds are not checked. Anyone who knows the secret can claim any account: accounts
    /// that do not trust each other need separate routes and secrets.
    ///
    /// # Panics
    ///
    /// At start-up, if no account is left: `[]` (a setting is missing), or `[3]` after `[2]`.
    /// [`try_allow_accounts`](Self::try_allow_accounts) returns the error instead.
    ///
    /// ```
    /// # use unsubscribe_webhook::WebhookAuth;
    /// let auth = WebhookAuth::new("s3cr3t").allow_accounts([2, 3]);
    /// ```
    #[track_caller]
    pub fn allow_accounts(self, accounts: impl IntoIterator<Item = i64>) -> Self {
        match self.try_allow_accounts(accounts) {
            Ok(auth) => auth,
            Err(error) => panic!("the webhook's accounts are unusable: {error}"),
        }
    }

    /// As [`allow_accounts`](Self::allow_accounts), but returns the error.
    ///
    /// # Errors
    ///
    /// [`ConfigError`] for the lists on which `allow_accounts` panics.
    ///
    /// ```
    /// # use unsubscribe_webhook::WebhookAuth;
    /// assert!(WebhookAuth::new("s3cr3t").try_allow_accounts([]).is_err());
    /// ```
    pub fn try_allow_accounts(
        mut self,
        accounts: impl IntoIterator<Item = i64>,
    ) -> Result<Self, ConfigError> {
        let policy = Arc::make_mut(&mut self.policy);
        let mut accounts: BTreeSet<i64> = accounts.into_iter().collect();
        if let Some(earlier) = &policy.accounts {
            accounts.retain(|account| earlier.contains(account));
        }
        if accounts.is_empty() {
            return Err(ConfigError::new(
                "no account is allowed: the list is empty, or has none in common with an earlier one",
            ));
        }
        policy.accounts = Some(accounts);
        Ok(self)
    }

    /// Sets how many bytes of a refused request's body are read and discarded over HTTP/1; 2 MiB by
    /// default.
    ///
    /// A server resets a connection on which it leaves a request body unread. A proxy in front then
    /// marks the server as failed, or sends the next request on the closed connection. So the layer
    /// reads the body of a refused request to its end before it responds, keeping none of it. It
    /// stops reading and sends `Connection: close` if the request has `Expect: 100-continue`, if the
    /// body exceeds the limit, or if the limit is 0. Over HTTP/2 and HTTP/3, where a refusal ends
    /// only its own stream, it responds at once.
    ///
    /// Let your proxy refuse bodies larger than this (nginx: `client_max_body_size`, 1 MiB by
    /// default). The layer does not apply timeouts: configure them in your server or proxy.
    ///
    /// ```
    /// # use unsubscribe_webhook::WebhookAuth;
    /// let auth = WebhookAuth::new("s3cr3t").discard_limit(64 * 1024);
    /// ```
    pub fn discard_limit(mut self, bytes: usize) -> Self {
        Arc::make_mut(&mut self.policy).discard_limit = bytes;
        self
    }

    /// The headers that hold the credentials, each once, so that an outer layer can mark them
    /// sensitive before any layer logs them. A query credential has none.
    ///
    /// ```
    /// use tower_http::sensitive_headers::SetSensitiveRequestHeadersLayer;
    /// # use unsubscribe_webhook::WebhookAuth;
    ///
    /// let auth = WebhookAuth::new("s3cr3t");
    /// let sensitive = SetSensitiveRequestHeadersLayer::new(auth.credential_headers());
    /// // Router::new().route(…layer(auth)).layer(TraceLayer::new_for_http()).layer(sensitive)
    /// ```
    #[must_use]
    pub fn credential_headers(&self) -> Vec<HeaderName> {
        let mut names = Vec::new();
        for name in self.policy.credentials.iter().filter_map(Credential::header_name) {
            if !names.contains(name) {
                names.push(name.clone());
            }
        }
        names
    }
}

impl From<Credential> for WebhookAuth {
    fn from(credential: Credential) -> Self {
        Self::from_credential(credential)
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
            .field("accounts", &self.policy.accounts)
            .field("discard_limit", &self.policy.discard_limit)
            .finish()
    }
}

type Requirement = Arc<dyn Fn(&Parts) -> bool + Send + Sync>;

/// What a layer requires, shared by its services and by [`Authenticated`](super::Authenticated).
#[derive(Clone)]
pub(super) struct Policy {
    pub(super) credentials: Vec<Credential>,
    /// One for each distinct kind of credential, for a 401.
    pub(super) challenges: Arc<[HeaderValue]>,
    pub(super) requirements: Vec<Requirement>,
    /// The accounts whose events are accepted; `None` accepts all.
    pub(super) accounts: Option<BTreeSet<i64>>,
    pub(super) discard_limit: usize,
}
