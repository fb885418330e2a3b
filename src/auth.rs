//! Authenticates requests: the layer, its service, and what they add to a request.
//!
//! Most apps need [`WebhookAuth`] only. [`WebhookAuthService`], [`ResponseFuture`] and
//! [`ResponseBody`] are public so that you can name them in your own services.

mod authenticated;
mod credential;
mod discard;
mod future;
mod layer;
mod service;

#[cfg(feature = "testing")]
pub(crate) use self::credential::{Location, MAX_URI_LENGTH};
pub use self::{
    authenticated::Authenticated,
    credential::{ConfigError, Credential},
    future::{ResponseBody, ResponseFuture},
    layer::WebhookAuth,
    service::WebhookAuthService,
};
