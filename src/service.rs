//! The check of a request's head, and the proof that it passed.

use std::{
    fmt,
    sync::Arc,
    task::{Context, Poll},
};

use axum_core::extract::FromRequestParts;
use http::{Extensions, Request, Response, request::Parts};
use subtle::{Choice, ConditionallySelectable};
use tower_service::Service;

use crate::{
    Credential, Rejection, ResponseBody, ResponseFuture, UnsubscribeEvent,
    delivery::{self, Notes, Report},
    layer::Policy,
    rejection::Kind,
};

/// The service that [`WebhookAuth`](crate::WebhookAuth) wraps around another one.
///
/// Its error is the inner service's: a refusal is an answer, not an error. The inner service is
/// called only for a request that passed. It must be ready for any request, though: a
/// `ConcurrencyLimit` belongs outside, for inside it may keep the permit of a refused request until
/// this service is called again or dropped.
///
/// ```
/// use tower::{Layer, service_fn};
/// use unsubscribe_webhook::{WebhookAuth, WebhookAuthService};
///
/// # type Request = http::Request<String>;
/// # type Response = http::Response<String>;
/// let inner = service_fn(|_: Request| async { Ok::<_, std::io::Error>(Response::default()) });
/// let service: WebhookAuthService<_> = WebhookAuth::new("s3cr3t").layer(inner);
/// ```
#[derive(Clone)]
pub struct WebhookAuthService<S> {
    inner: S,
    policy: Arc<Policy>,
}

impl<S> WebhookAuthService<S> {
    pub(crate) fn new(inner: S, policy: Arc<Policy>) -> Self {
        Self { inner, policy }
    }
}

impl<S, ReqBody, ResBody> Service<Request<ReqBody>> for WebhookAuthService<S>
where
    S: Service<Request<ReqBody>, Response = Response<ResBody>>,
{
    type Response = Response<ResponseBody<ResBody>>;
    type Error = S::Error;
    type Future = ResponseFuture<S::Future>;

    fn poll_ready(&mut self, cx: &mut Context<'_>) -> Poll<Result<(), Self::Error>> {
        self.inner.poll_ready(cx)
    }

    fn call(&mut self, request: Request<ReqBody>) -> Self::Future {
        let (mut head, body) = request.into_parts();
        match authenticate(&self.policy, &mut head) {
            Ok((proof, report)) => {
                head.extensions.insert(proof);
                ResponseFuture::inner(self.inner.call(Request::from_parts(head, body)), report)
            }
            Err(rejection) => ResponseFuture::refused(rejection),
        }
    }
}

impl<S: fmt::Debug> fmt::Debug for WebhookAuthService<S> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("WebhookAuthService")
            .field("inner", &self.inner)
            .field("credentials", &self.policy.credentials)
            .finish_non_exhaustive()
    }
}

/// First the credential, then the host's own checks: the contract's order of 401 and 403.
fn authenticate(
    policy: &Arc<Policy>,
    head: &mut Parts,
) -> Result<(Authenticated, Report), Rejection> {
    let outer = head.extensions.get::<Authenticated>().cloned();
    let Some(credential) = first_match(policy, head) else {
        let challenges = policy.credentials.iter().map(Credential::challenge);
        let rejection = Rejection::from(Kind::Unauthorized(challenges.collect()));
        delivery::unauthenticated(outer.as_ref(), &rejection);
        return Err(rejection);
    };
    hide_credentials(policy, head);
    let proof = Authenticated::new(credential, Arc::clone(policy), outer);
    // Before the host's checks, so that a panic of theirs is told too.
    let mut report = Report::of(&proof);
    if !policy.requirements.iter().all(|holds| holds(head)) {
        let rejection = Rejection::from(Kind::Forbidden);
        report.forbidden(&proof, &rejection);
        return Err(rejection);
    }
    Ok((proof, report))
}

/// The index of the first credential that the head carries. All are compared, in whichever order
/// they would match, so that the time does not tell which one did.
fn first_match(policy: &Policy, head: &Parts) -> Option<usize> {
    let (mut found, mut first) = (Choice::from(0), 0_u64);
    for (index, credential) in (0..).zip(&policy.credentials) {
        let matches = credential.matches(head);
        first.conditional_assign(&index, matches & !found);
        found |= matches;
    }
    if found.into() { usize::try_from(first).ok() } else { None }
}

fn hide_credentials(policy: &Policy, head: &mut Parts) {
    for (name, value) in &mut head.headers {
        let holds_one = |credential: &Credential| credential.header_name() == Some(name);
        if policy.credentials.iter().any(holds_one) {
            value.set_sensitive(true);
        }
    }
}

/// The proof that a request passed a [`WebhookAuth`](crate::WebhookAuth) layer.
///
/// Only the layer makes one, and puts it into the request's extensions. As an extractor it lets
/// a host's other webhook handlers demand it; a route without the layer answers 500
/// (`missing_layer`). There is no `Option<Authenticated>`: authentication is never optional.
///
/// ```
/// use axum::{Router, routing::post};
/// use unsubscribe_webhook::{Authenticated, WebhookAuth};
///
/// async fn any_event(proof: Authenticated, body: String) {
///     if proof.credential() > 0 {
///         println!("a delivery still came with an old secret");
///     }
/// }
///
/// let app: Router = Router::new()
///     .route("/webhooks/all", post(any_event))
///     .layer(WebhookAuth::new("s3cr3t"));
/// ```
#[derive(Clone)]
pub struct Authenticated(Arc<Proof>);

struct Proof {
    credential: usize,
    policy: Arc<Policy>,
    /// The proof of the layer around this one, whose accounts narrow this one's.
    outer: Option<Authenticated>,
    #[cfg_attr(not(feature = "tracing"), expect(dead_code, reason = "nothing is told"))]
    notes: Notes,
}

impl Authenticated {
    fn new(credential: usize, policy: Arc<Policy>, outer: Option<Self>) -> Self {
        Self(Arc::new(Proof { credential, policy, outer, notes: Notes::default() }))
    }

    /// Which credential matched: 0 for the one of `new` or `with`, 1 for that of the first
    /// [`or`](crate::WebhookAuth::or), and so on. Of nested layers, the innermost one tells.
    ///
    /// ```
    /// use unsubscribe_webhook::{Authenticated, Received, UnsubscribeEvent};
    ///
    /// async fn unsubscribed(proof: Authenticated, event: UnsubscribeEvent) -> Received {
    ///     if proof.credential() > 0 {
    ///         println!("event {} came with an old secret", event.id);
    ///     }
    ///     Received
    /// }
    /// # let _: axum::routing::MethodRouter = axum::routing::post(unsubscribed);
    /// ```
    #[must_use]
    pub fn credential(&self) -> usize {
        self.0.credential
    }

    /// Whether the event belongs to an account that the layer accepts
    /// ([`allow_users`](crate::WebhookAuth::allow_users)).
    ///
    /// [`UnsubscribeEvent`] asks this itself as an extractor and in `from_parts`; it is for those
    /// who decode an event in another way.
    ///
    /// ```
    /// use axum::http::StatusCode;
    /// use unsubscribe_webhook::{Authenticated, UnsubscribeEvent};
    ///
    /// // The body may be of several events, one a line.
    /// async fn batch(proof: Authenticated, lines: String) -> StatusCode {
    ///     for line in lines.lines() {
    ///         match UnsubscribeEvent::from_slice(line.as_bytes()) {
    ///             Ok(event) if proof.accepts(&event) => println!("event {}", event.id),
    ///             _ => return StatusCode::BAD_REQUEST,
    ///         }
    ///     }
    ///     StatusCode::OK
    /// }
    /// # let _: axum::routing::MethodRouter = axum::routing::post(batch);
    /// ```
    #[must_use]
    pub fn accepts(&self, event: &UnsubscribeEvent) -> bool {
        let here = match &self.0.policy.users {
            Some(users) => users.contains(&event.data.user_id),
            None => true,
        };
        here && self.0.outer.as_ref().is_none_or(|outer| outer.accepts(event))
    }

    /// # Errors
    ///
    /// `missing_layer` where no layer left a proof: then nothing must get through.
    pub(crate) fn demand(extensions: &Extensions) -> Result<&Self, Rejection> {
        extensions.get::<Self>().ok_or_else(Rejection::missing_layer)
    }
}

#[cfg(feature = "tracing")]
impl Authenticated {
    /// The proof of the layer that sees a request first and its answer last.
    pub(crate) fn outermost(&self) -> &Self {
        self.0.outer.as_ref().map_or(self, Self::outermost)
    }

    pub(crate) fn is_outermost(&self) -> bool {
        self.0.outer.is_none()
    }

    pub(crate) fn notes(&self) -> &Notes {
        &self.0.notes
    }
}

impl<S: Sync> FromRequestParts<S> for Authenticated {
    type Rejection = Rejection;

    async fn from_request_parts(head: &mut Parts, _: &S) -> Result<Self, Rejection> {
        Self::demand(&head.extensions).cloned()
    }
}

impl fmt::Debug for Authenticated {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Authenticated")
            .field("credential", &self.credential())
            .finish_non_exhaustive()
    }
}
