#![doc = "placeholder"]
#![forbid(unsafe_code)]
#![cfg_attr(docsrs, feature(doc_cfg))]

mod credential;
mod decode;
mod event;
mod extract;
mod future;
mod layer;
mod rejection;
mod response;
mod service;

pub use crate::{
    credential::{ConfigError, Credential},
    event::{AdditionalData, Reason, ReasonId, Unsubscribe, UnsubscribeEvent},
    future::{ResponseBody, ResponseFuture},
    layer::WebhookAuth,
    rejection::Rejection,
    response::{Received, ServerError},
    service::{Authenticated, WebhookAuthService},
};
