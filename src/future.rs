//! The answer on its way out: the inner service's, or a refusal.

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

use crate::{Rejection, delivery::Report};

pin_project! {
    /// The future of a [`WebhookAuthService`](crate::WebhookAuthService)'s answer: a name for the
    /// services around it.
    ///
    /// ```
    /// use tower::Service;
    /// use unsubscribe_webhook::{ResponseFuture, WebhookAuthService};
    ///
    /// # type Request = http::Request<String>;
    /// # type Response = http::Response<String>;
    /// fn deliver<S>(host: &mut WebhookAuthService<S>, request: Request) -> ResponseFuture<S::Future>
    /// where
    ///     S: Service<Request, Response = Response>,
    /// {
    ///     host.call(request)
    /// }
    /// ```
    #[derive(Debug)]
    pub struct ResponseFuture<F> {
        #[pin]
        kind: FutureKind<F>,
    }
}

pin_project! {
    #[project = FutureKindProj]
    #[derive(Debug)]
    enum FutureKind<F> {
        Inner { #[pin] future: F, report: Report },
        Refused { rejection: Option<Rejection> },
    }
}

impl<F> ResponseFuture<F> {
    pub(crate) fn inner(future: F, report: Report) -> Self {
        Self { kind: FutureKind::Inner { future, report } }
    }

    pub(crate) fn refused(rejection: Rejection) -> Self {
        Self { kind: FutureKind::Refused { rejection: Some(rejection) } }
    }
}

impl<F, B, E> Future for ResponseFuture<F>
where
    F: Future<Output = Result<Response<B>, E>>,
{
    type Output = Result<Response<ResponseBody<B>>, E>;

    fn poll(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Self::Output> {
        let response = match self.project().kind.project() {
            FutureKindProj::Inner { future, report } => {
                let answer = ready!(future.poll(cx));
                report.answered(&answer);
                answer?.map(|body| ResponseBody { kind: BodyKind::Inner { body } })
            }
            FutureKindProj::Refused { rejection } => {
                rejection.take().expect("polled again after it was ready").into()
            }
        };
        Poll::Ready(Ok(response))
    }
}

pin_project! {
    /// The body of a [`WebhookAuthService`](crate::WebhookAuthService)'s answer: the inner
    /// service's, or a refusal's problem details.
    ///
    /// ```
    /// use bytes::Bytes;
    /// use http_body_util::{BodyExt, Empty};
    /// use unsubscribe_webhook::{Rejection, ResponseBody, UnsubscribeEvent};
    ///
    /// # #[tokio::main(flavor = "current_thread")]
    /// # async fn main() {
    /// # let rejection: Rejection = UnsubscribeEvent::from_slice(b"{").unwrap_err();
    /// let refusal: http::Response<ResponseBody<Empty<Bytes>>> = rejection.into();
    /// let problem = refusal.into_body().collect().await.unwrap().to_bytes();
    /// assert!(problem.starts_with(br#"{"type":"https://docs.rs/"#));
    /// # }
    /// ```
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
