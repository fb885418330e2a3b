//! The response: the inner service's, or a refusal.

use std::{
    future::Future,
    pin::Pin,
    task::{Context, Poll, ready},
};

use bytes::Bytes;
use http::Response;
use http_body::{Body, Frame, SizeHint};
use http_body_util::Full;
use pin_project_lite::pin_project;

use super::discard::Discard;
use crate::{Rejection, log::DeliveryGuard};

pin_project! {
    /// Response future of [`WebhookAuthService`](super::WebhookAuthService), for an inner future `F`
    /// and a request body `B`.
    #[derive(Debug)]
    pub struct ResponseFuture<F, B> {
        #[pin]
        kind: FutureKind<F, B>,
        guard: DeliveryGuard,
    }
}

pin_project! {
    #[project = FutureKindProj]
    #[derive(Debug)]
    enum FutureKind<F, B> {
        Inner { #[pin] future: F },
        Refused { rejection: Option<Rejection>, #[pin] discard: Discard<B> },
    }
}

impl<F, B> ResponseFuture<F, B> {
    pub(super) fn inner(future: F, guard: DeliveryGuard) -> Self {
        Self { kind: FutureKind::Inner { future }, guard }
    }

    pub(super) fn refused(rejection: Rejection, discard: Discard<B>, guard: DeliveryGuard) -> Self {
        Self { kind: FutureKind::Refused { rejection: Some(rejection), discard }, guard }
    }
}

impl<F, ReqBody, ResBody, E> Future for ResponseFuture<F, ReqBody>
where
    F: Future<Output = Result<Response<ResBody>, E>>,
    ReqBody: Body,
{
    type Output = Result<Response<ResponseBody<ResBody>>, E>;

    fn poll(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Self::Output> {
        let this = self.project();
        let response = match this.kind.project() {
            FutureKindProj::Inner { future } => ready!(future.poll(cx)).map(|response| {
                response.map(|body| ResponseBody { kind: BodyKind::Inner { body } })
            }),
            FutureKindProj::Refused { rejection, discard } => {
                let closes = ready!(discard.poll_closes(cx));
                let rejection = rejection.take().expect("polled after it was ready");
                Ok(if closes { rejection.close_connection() } else { rejection }.into())
            }
        };
        this.guard.complete(&response);
        Poll::Ready(response)
    }
}

pin_project! {
    /// Response body of [`WebhookAuthService`](super::WebhookAuthService): the inner service's, or
    /// the problem details of a refusal.
    #[derive(Debug)]
    pub struct ResponseBody<B> {
        #[pin]
        kind: BodyKind<B>,
    }
}

pin_project! {
    #[project = BodyKindProj]
    #[derive(Debug)]
    enum BodyKind<B> {
        Inner { #[pin] body: B },
        Refused { #[pin] body: Full<Bytes> },
    }
}

impl<B> From<Bytes> for ResponseBody<B> {
    fn from(body: Bytes) -> Self {
        Self { kind: BodyKind::Refused { body: Full::new(body) } }
    }
}

impl<B: Default> Default for ResponseBody<B> {
    fn default() -> Self {
        Self { kind: BodyKind::Inner { body: B::default() } }
    }
}

impl<B: Body<Data = Bytes>> Body for ResponseBody<B> {
    type Data = Bytes;
    type Error = B::Error;

    fn poll_frame(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, B::Error>>> {
        match self.project().kind.project() {
            BodyKindProj::Inner { body } => body.poll_frame(cx),
            BodyKindProj::Refused { body } => body.poll_frame(cx).map_err(|never| match never {}),
        }
    }

    fn is_end_stream(&self) -> bool {
        match &self.kind {
            BodyKind::Inner { body } => body.is_end_stream(),
            BodyKind::Refused { body } => body.is_end_stream(),
        }
    }

    fn size_hint(&self) -> SizeHint {
        match &self.kind {
            BodyKind::Inner { body } => body.size_hint(),
            BodyKind::Refused { body } => body.size_hint(),
        }
    }
}
