//! Request bodies of unknown length, and what is allocated for them.
#![allow(dead_code, unreachable_pub, reason = "each test program uses a part of it")]

use std::{
    convert::Infallible,
    io,
    sync::{
        Arc,
        atomic::{AtomicUsize, Ordering},
    },
    task::Poll,
};

use allocation_counter::AllocationInfo;
use futures_util::stream;

use crate::common::prelude::*;

/// What a body ends with.
pub enum End {
    Complete,
    /// An error of the connection.
    Broken,
    /// This frame without end.
    Endless(Bytes),
}

/// A body in these frames, and how often it was polled.
pub fn counted<T: Into<Bytes>>(
    frames: impl IntoIterator<Item = T, IntoIter: Send + 'static>,
    end: End,
) -> (Body, Arc<AtomicUsize>) {
    let polls = Arc::<AtomicUsize>::default();
    let (counter, mut frames) = (Arc::clone(&polls), frames.into_iter());
    let body = Body::from_stream(stream::poll_fn(move |_| {
        let polls = counter.fetch_add(1, Ordering::Relaxed);
        assert!(polls < 1_000_000, "nothing ends the reading");
        Poll::Ready(match (frames.next(), &end) {
            (Some(frame), _) => Some(Ok(frame.into())),
            (None, End::Complete) => None,
            (None, End::Broken) => Some(Err(io::Error::from(io::ErrorKind::ConnectionReset))),
            (None, End::Endless(frame)) => Some(Ok(frame.clone())),
        })
    }));
    (body, polls)
}

/// A body in these frames.
pub fn frames<const N: usize>(frames: [&str; N], end: End) -> Body {
    counted(frames.map(|frame| Bytes::copy_from_slice(frame.as_bytes())), end).0
}

/// A body that must not be read.
pub fn untouchable() -> Body {
    Body::from_stream(stream::poll_fn(|_| -> Poll<Option<Result<Bytes, Infallible>>> {
        panic!("the body was polled")
    }))
}

/// What is allocated while a future runs, on a runtime of one thread that was made before.
pub fn allocations_of(future: impl Future<Output = ()>) -> AllocationInfo {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build();
    let runtime = runtime.expect("a runtime");
    allocation_counter::measure(|| runtime.block_on(future))
}
