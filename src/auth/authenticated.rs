//! What the layer adds to an authenticated request.

use std::{fmt, sync::Arc};

use axum_core::extract::FromRequestParts;
use http::{Extensions, Version, request::Parts};

use super::layer::Policy;
use crate::{
    Code, Rejection,
    log::{self, DeliveryState},
};

/// Shows that a request passed a [`WebhookAuth`](crate::WebhookAuth) layer.
///
/// Only the layer creates it, and inserts it into the request's extensions. Take it as an extractor
/// in other webhook handlers to require the layer: a route without it responds with 500
/// (`missing_layer`). There is no `Option<Authenticated>`: authentication is never optional.
///
/// ```
/// use axum::{Router, routing::post};
/// use unsubscribe_webhook::{Authenticated, WebhookAuth};
///
/// async fn any_event(_: Authenticated, body: String) {
///     println!("{body}");
/// }
///
/// let auth = WebhookAuth::new("s3cr3t");
/// let app: Router = Router::new().route("/webhook", post(any_event).layer(auth));
/// ```
#[derive(Clone)]
pub struct Authenticated {
    credential_index: usize,
    policy: Arc<Policy>,
    /// The `Authenticated` of the outer layer, whose accounts also restrict the request.
    outer: Option<Arc<Self>>,
    delivery: Arc<DeliveryState>,
}

impl Authenticated {
    /// Nested layers share the state of the outermost one, which emits the log event.
    pub(super) fn new(
        credential_index: usize,
        policy: Arc<Policy>,
        outer: Option<Arc<Self>>,
    ) -> Self {
        let delivery = match &outer {
            None => Arc::new(DeliveryState::new(credential_index)),
            Some(outer) => {
                outer.delivery.authenticated(credential_index);
                Arc::clone(&outer.delivery)
            }
        };
        Self { credential_index, policy, outer, delivery }
    }

    /// The index of the credential that matched: 0 for the one of `new` or `from_credential`, 1 for
    /// the first [`or`](crate::WebhookAuth::or), and so on. With nested layers, the innermost layer's.
    #[must_use]
    pub fn credential_index(&self) -> usize {
        self.credential_index
    }

    /// Whether the layer accepts events of this account
    /// ([`allow_accounts`](crate::WebhookAuth::allow_accounts)).
    ///
    /// The extractor already checks this. Call it if you decode events in another way, such as
    /// [`from_slice`](crate::UnsubscribeEvent::from_slice).
    #[must_use]
    pub fn accepts(&self, account: i64) -> bool {
        self.accepts_opt_out(Some(account))
    }

    /// Whether the layer accepts an opt-out. One of an unknown account is accepted only if no layer
    /// restricts accounts.
    pub(crate) fn accepts_opt_out(&self, account: Option<i64>) -> bool {
        let accounts = self.policy.accounts.as_ref();
        accounts.is_none_or(|accounts| account.is_some_and(|account| accounts.contains(&account)))
            && self.outer.as_ref().is_none_or(|outer| outer.accepts_opt_out(account))
    }

    /// # Errors
    ///
    /// `missing_layer` if no layer has authenticated the request.
    pub(crate) fn require(extensions: &Extensions, version: Version) -> Result<&Self, Rejection> {
        extensions.get::<Self>().ok_or_else(|| {
            let rejection = Rejection::from(Code::MissingLayer);
            log::missing_layer(&rejection);
            rejection.body_unread(version)
        })
    }

    pub(crate) fn delivery(&self) -> &Arc<DeliveryState> {
        &self.delivery
    }
}

impl<S: Sync> FromRequestParts<S> for Authenticated {
    type Rejection = Rejection;

    async fn from_request_parts(head: &mut Parts, _: &S) -> Result<Self, Rejection> {
        Self::require(&head.extensions, head.version).cloned()
    }
}

impl fmt::Debug for Authenticated {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Authenticated")
            .field("credential_index", &self.credential_index)
            .finish_non_exhaustive()
    }
}
