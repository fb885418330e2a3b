//! The check of a request's head.

use std::{
    fmt,
    sync::Arc,
    task::{Context, Poll},
};

use http::{Request, Response, request::Parts};
use http_body::Body;
use tower_service::Service;

use super::{Authenticated, ResponseBody, ResponseFuture, discard::Discard, layer::Policy};
use crate::{
    Code, Rejection,
    log::{Cause, DeliveryGuard},
};

/// Middleware that lets only authenticated requests through to the inner service.
///
/// A refusal is a response, not an error. `poll_ready` waits for the inner service, even for a request
/// that is then refused. So put a `ConcurrencyLimit` outside: inside, it may hold the permit of a
/// refused request until this service is called again or dropped. Outside, a permit is also held
/// while the body of a refused request is discarded
/// ([`WebhookAuth::discard_limit`](crate::WebhookAuth::discard_limit)).
///
/// ```
/// use tower::{Layer, service_fn};
/// use unsubscribe_webhook::{WebhookAuth, auth::WebhookAuthService};
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
    pub(super) fn new(inner: S, policy: Arc<Policy>) -> Self {
        Self { inner, policy }
    }

    /// The inner service.
    pub fn get_ref(&self) -> &S {
        &self.inner
    }

    /// The inner service, mutably.
    pub fn get_mut(&mut self) -> &mut S {
        &mut self.inner
    }

    /// Takes the inner service out.
    pub fn into_inner(self) -> S {
        self.inner
    }
}

impl<S, ReqBody, ResBody> Service<Request<ReqBody>> for WebhookAuthService<S>
where
    S: Service<Request<ReqBody>, Response = Response<ResBody>>,
    ReqBody: Body,
{
    type Response = Response<ResponseBody<ResBody>>;
    type Error = S::Error;
    type Future = ResponseFuture<S::Future, ReqBody>;

    fn poll_ready(&mut self, cx: &mut Context<'_>) -> Poll<Result<(), Self::Error>> {
        self.inner.poll_ready(cx)
    }

    fn call(&mut self, request: Request<ReqBody>) -> Self::Future {
        let (mut head, body) = request.into_parts();
        match authenticate(&self.policy, &mut head) {
            Ok((authenticated, guard)) => {
                head.extensions.insert(authenticated);
                ResponseFuture::inner(self.inner.call(Request::from_parts(head, body)), guard)
            }
            Err((code, guard)) => {
                let rejection = match code {
                    Code::Unauthorized => Rejection::unauthorized(&self.policy.challenges),
                    code => code.into(),
                };
                let discard = Discard::new(&head, body, self.policy.discard_limit);
                ResponseFuture::refused(rejection, discard, guard)
            }
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

/// First the credential (401), then the checks of the app (403). A refusal is a code, because a
/// rejection is expensive to move.
fn authenticate(
    policy: &Arc<Policy>,
    head: &mut Parts,
) -> Result<(Authenticated, DeliveryGuard), (Code, DeliveryGuard)> {
    let outer = head.extensions.get::<Authenticated>().cloned().map(Arc::new);
    let index = match find_credential(policy, head) {
        Ok(index) => index,
        Err(cause) => {
            let guard = match outer {
                None => DeliveryGuard::unauthenticated(cause),
                Some(outer) => {
                    outer.delivery().head_refused(Code::Unauthorized, Some(cause));
                    DeliveryGuard::nested()
                }
            };
            return Err((Code::Unauthorized, guard));
        }
    };
    mark_sensitive(policy, head);
    let is_nested = outer.is_some();
    let authenticated = Authenticated::new(index, Arc::clone(policy), outer);
    // Before the app's checks, so that a panic in them is logged.
    let guard = if is_nested {
        DeliveryGuard::nested()
    } else {
        DeliveryGuard::new(Arc::clone(authenticated.delivery()))
    };
    if !policy.requirements.iter().all(|holds| holds(head)) {
        authenticated.delivery().head_refused(Code::Forbidden, None);
        return Err((Code::Forbidden, guard));
    }
    Ok((authenticated, guard))
}

/// The index of the first credential that matches. All are compared, even after a match.
fn find_credential(policy: &Policy, head: &Parts) -> Result<usize, Cause> {
    let mut found = Err(Cause::Absent);
    for (index, credential) in policy.credentials.iter().enumerate() {
        found = match (found, credential.check(head)) {
            (Ok(first), _) => Ok(first),
            (Err(_), Ok(())) => Ok(index),
            (Err(earlier), Err(cause)) => Err(cause.max(earlier)),
        };
    }
    found
}

fn mark_sensitive(policy: &Policy, head: &mut Parts) {
    for (name, value) in &mut head.headers {
        if policy.credentials.iter().any(|credential| credential.header_name() == Some(name)) {
            value.set_sensitive(true);
        }
    }
}
