//! Discards the body of a refused request.

use std::{
    fmt,
    pin::Pin,
    task::{Context, Poll, ready},
};

use bytes::Buf;
use http::{
    Version,
    header::{CONTENT_LENGTH, EXPECT},
    request::Parts,
};
use http_body::Body;
use pin_project_lite::pin_project;

pin_project! {
    /// Reads the body of a refused request and drops it, frame by frame, up to a limit.
    ///
    /// Over HTTP/1, an unread body breaks the connection for every client behind the same proxy: the
    /// server closes it without `Connection: close`, the kernel resets it, and the proxy marks the
    /// server as failed or sends the next request on it (RFC 9112, sections 9.3 and 9.6).
    pub(super) struct Discard<B> {
        #[pin]
        body: B,
        plan: Plan,
    }
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Plan {
    /// Read at most this many further bytes.
    Read(usize),
    /// Leave the body unread, and send `Connection: close`.
    Close,
    /// Leave the connection as it is.
    Keep,
}

impl<B: Body> Discard<B> {
    pub(super) fn new(head: &Parts, body: B, limit: usize) -> Self {
        let plan = if head.version >= Version::HTTP_2 || body.is_end_stream() {
            Plan::Keep
        } else if limit == 0
            // The client waits for permission to send (RFC 9110, section 10.1.1): do not give it.
            || head.headers.contains_key(EXPECT)
            || content_length(head, &body) > limit as u64
        {
            Plan::Close
        } else {
            Plan::Read(limit)
        };
        Self { body, plan }
    }

    /// Whether the connection must be closed, once that is known.
    pub(super) fn poll_closes(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<bool> {
        let mut this = self.project();
        while let Plan::Read(remaining) = *this.plan {
            *this.plan = match ready!(this.body.as_mut().poll_frame(cx)) {
                None => Plan::Keep,
                Some(Err(_)) => Plan::Close,
                Some(Ok(frame)) => {
                    // An empty frame counts too, so that the loop ends.
                    let length = frame.data_ref().map_or(0, |data| data.remaining().max(1));
                    match remaining.checked_sub(length) {
                        // One poll fewer: most bodies have one frame.
                        Some(_) if this.body.is_end_stream() => Plan::Keep,
                        Some(remaining) => Plan::Read(remaining),
                        None => Plan::Close,
                    }
                }
            };
        }
        Poll::Ready(*this.plan == Plan::Close)
    }
}

/// Without the body, which may contain personal data.
impl<B> fmt::Debug for Discard<B> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Discard").field("plan", &self.plan).finish_non_exhaustive()
    }
}

/// What the client announces; 0 for a chunked body.
fn content_length(head: &Parts, body: &impl Body) -> u64 {
    body.size_hint().exact().unwrap_or_else(|| {
        let value = head.headers.get(CONTENT_LENGTH).and_then(|value| value.to_str().ok());
        value.and_then(|value| value.parse().ok()).unwrap_or_default()
    })
}
