//! Sends the probes, one after another, and evaluates what happens.

use std::{
    fmt,
    future::{IntoFuture, poll_fn},
    mem,
    panic::{AssertUnwindSafe, catch_unwind},
    pin::{Pin, pin},
    task::Poll,
};

use axum_core::body::Body;
use bytes::BufMut;
use http::{Request, Response, Uri};
use http_body_util::BodyExt;
use tower_service::Service;

use super::{
    Report,
    evaluator::{ERROR, Evaluator, Outcome, PANIC, Sent, Summary},
    probe::{Expected, Target},
};
use crate::Credential;

/// axum's own.
const DEFAULT_BODY_LIMIT: usize = 2_097_152;

/// A response of the contract has some 300 bytes.
const MAX_RESPONSE: usize = 64 * 1024;

/// Sends an app every kind of delivery that it must acknowledge or refuse, and reports what went
/// wrong: `.await` it.
///
/// The app is any `Clone` service that takes requests, such as an axum `Router`, with all layers; the
/// path is the webhook's, and the credential one that the app's layer accepts. The probes are sent one
/// after another. Each event has its own id and phone number (`+491111` and nine digits, which nobody
/// has), and the app stores some 70 of them: use a database that belongs to the test.
///
/// # Panics
///
/// If `path` does not start with a slash; and when it is awaited, if
/// [`map_request`](Conformance::map_request) adds the credential. A panic of the app is a finding.
#[track_caller]
pub fn conformance<S>(app: S, path: &str, credential: &Credential) -> Conformance<S> {
    let uri = path.parse::<Uri>().ok();
    assert!(
        uri.is_some_and(|uri| uri.path().starts_with('/')),
        "the path of the webhook must start with a slash and be valid in a URI"
    );
    Conformance {
        app,
        target: Target {
            path: path.to_owned(),
            credential: credential.clone(),
            accounts: Vec::new(),
            body_limit: DEFAULT_BODY_LIMIT,
            acknowledges_other_events: false,
            over_network: false,
        },
        map_request: Box::new(|_| ()),
        list: None,
    }
}

type MapRequest = Box<dyn FnMut(&mut Request<Body>)>;

/// A suite that can be configured and then awaited: see [`conformance`].
///
/// It does not apply timeouts. Its future is not `Send`, so the app need not be either.
#[must_use = "nothing is sent until it is awaited"]
pub struct Conformance<S> {
    app: S,
    target: Target,
    map_request: MapRequest,
    list: Option<Box<dyn SuppressionList>>,
}

impl<S> Conformance<S> {
    /// The accounts that the app accepts, as in
    /// [`allow_accounts`](crate::WebhookAuth::allow_accounts).
    ///
    /// The suite's events belong to the first account. Each other account gets one event, and an event
    /// of an account that is not in the list must be refused. Without this, all events belong to the
    /// example's account, 2.
    ///
    /// # Panics
    ///
    /// If the list is empty.
    #[track_caller]
    pub fn accounts(mut self, accounts: impl IntoIterator<Item = i64>) -> Self {
        self.target.accounts = accounts.into_iter().collect();
        assert!(
            !self.target.accounts.is_empty(),
            "an app that accepts no account accepts no event"
        );
        self
    }

    /// Looks a phone number up on the app's suppression list, to check what the app stores.
    ///
    /// It is called once for each probe, after the last response. The list must have the number of
    /// every acknowledged event, and of every refused body with an
    /// [opt-out](crate::Rejection::opt_out), but none of a forged delivery, of another account, or of
    /// a body without a certain opt-out. Without this, only responses are checked.
    ///
    /// For example `.suppressed(async move |phone| list.contains(phone).await)`. Some numbers have
    /// unusual formats (`☎ 1111 / 042?`): percent-encode them in a URL.
    pub fn suppressed(mut self, is_suppressed: impl AsyncFnMut(&str) -> bool + 'static) -> Self {
        self.list = Some(Box::new(is_suppressed));
        self
    }

    /// Requires that events of other kinds are acknowledged, as by a handler that takes
    /// `Option<UnsubscribeEvent>`. Without this, 200 and 400 `other_event` are both expected.
    pub fn acknowledges_other_events(mut self) -> Self {
        self.target.acknowledges_other_events = true;
        self
    }

    /// The app's limit of a body in bytes, if it is not axum's default of 2,097,152.
    ///
    /// # Panics
    ///
    /// With `usize::MAX`, which is not a limit.
    #[track_caller]
    pub fn body_limit(mut self, bytes: usize) -> Self {
        assert!(bytes < usize::MAX, "without a limit, anybody can fill the app's memory");
        self.target.body_limit = bytes;
        self
    }

    /// Changes each request before it is sent, forged or not: to add what a server or a proxy adds
    /// (`ConnectInfo`, a header that [`require`](crate::WebhookAuth::require) checks), except the
    /// credential.
    pub fn map_request(mut self, map: impl FnMut(&mut Request<Body>) + 'static) -> Self {
        self.map_request = Box::new(map);
        self
    }

    /// The app is a client that sends the requests to a running server.
    ///
    /// The suite then cannot check whether the server reads a body, and sends no incomplete bodies. Use
    /// a new connection for each request: a server may close one whose body it did not read.
    pub fn over_network(mut self) -> Self {
        self.target.over_network = true;
        self
    }
}

impl<S, B> IntoFuture for Conformance<S>
where
    S: Service<Request<Body>, Response = Response<B>> + Clone + 'static,
    B: http_body::Body + 'static,
{
    type Output = Report;
    type IntoFuture = Pin<Box<dyn Future<Output = Report>>>;

    fn into_future(mut self) -> Self::IntoFuture {
        Box::pin(async move {
            let mut evaluator = Evaluator::default();
            let mut sent: Vec<Sent> = Vec::new();
            for mut probe in self.target.probes() {
                let is_forged = probe.expected == Expected::UNAUTHORIZED;
                if evaluator.has_first_finding() && !is_forged {
                    continue;
                }
                let mut request = mem::take(&mut probe.request);
                (self.map_request)(&mut request);
                assert!(
                    !is_forged || !self.target.credential.is_present(&request),
                    "`.map_request(..)` adds the credential to a forged delivery"
                );
                // A clone for each request, as a server makes one for each connection.
                let exchange = exchange(self.app.clone(), request);
                let outcome = catch_panic(exchange).await.unwrap_or(Err(PANIC));
                sent.push(evaluator.evaluate(probe, &outcome));
            }
            if let Some(list) = &mut self.list {
                for sent in sent {
                    let is_suppressed = list.contains(&sent.probe.phone).await;
                    evaluator.evaluate_list(sent, is_suppressed);
                }
            }
            evaluator.report()
        })
    }
}

impl<S> fmt::Debug for Conformance<S> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Conformance")
            .field("credential", &self.target.credential)
            .finish_non_exhaustive()
    }
}

/// A `dyn` form of the closure.
trait SuppressionList {
    fn contains<'a>(&'a mut self, phone: &'a str) -> Pin<Box<dyn Future<Output = bool> + 'a>>;
}

impl<F: AsyncFnMut(&str) -> bool> SuppressionList for F {
    fn contains<'a>(&'a mut self, phone: &'a str) -> Pin<Box<dyn Future<Output = bool> + 'a>> {
        Box::pin(self(phone))
    }
}

async fn exchange<S, B>(mut app: S, request: Request<Body>) -> Outcome
where
    S: Service<Request<Body>, Response = Response<B>>,
    B: http_body::Body,
{
    poll_fn(|cx| app.poll_ready(cx)).await.map_err(|_| ERROR)?;
    let (head, body) = app.call(request).await.map_err(|_| ERROR)?.into_parts();
    let mut body = pin!(body);
    let mut bytes = Vec::new();
    while let Some(frame) = body.frame().await {
        if let Ok(data) = frame.map_err(|_| ERROR)?.into_data() {
            bytes.put(data);
        }
        if bytes.len() > MAX_RESPONSE {
            break;
        }
    }
    Ok(Summary::new(head.status, &head.headers, &bytes))
}

/// `None` if it panics.
async fn catch_panic<F: Future>(future: F) -> Option<F::Output> {
    let mut future = pin!(future);
    poll_fn(|cx| {
        let poll = AssertUnwindSafe(|| future.as_mut().poll(cx));
        catch_unwind(poll).map_or(Poll::Ready(None), |poll| poll.map(Some))
    })
    .await
}
