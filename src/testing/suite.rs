//! The suite: it sends the probes, one after another, and has the answers judged.

use std::{
    fmt,
    future::{IntoFuture, poll_fn},
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
    judge::{Answer, Judge},
    probe::{self, Expected, Plan, Probe},
};
use crate::Credential;

/// axum's own limit of a body.
const DEFAULT_BODY_LIMIT: usize = 2_097_152;

/// An answer of the contract has some 300 bytes.
const MAX_ANSWER: usize = 64 * 1024;

/// Sends a host every delivery that it must refuse or acknowledge, and reports what it answered
/// wrongly: `.await` it.
///
/// The app is any service that takes requests, such as an axum `Router`, as a whole: with all its
/// layers. The path is that of the webhook in it; the credential is the one that the app's layer was
/// made with.
///
/// Each good delivery is an event that the host stores, some 35 of them, with ids of their own and
/// the phone numbers of the contract's example: run it on a database that is the test's own. The
/// order of the probes is fixed, and each is sent when the one before it was answered.
///
/// ```
/// # use axum::{Router, routing::post};
/// # use unsubscribe_webhook::{Credential, Received, UnsubscribeEvent, WebhookAuth};
/// use unsubscribe_webhook::testing;
///
/// # #[tokio::main(flavor = "current_thread")]
/// # async fn main() -> Result<(), unsubscribe_webhook::ConfigError> {
/// # let credential = Credential::token("s3cr3t")?;
/// # let auth = WebhookAuth::from_credential(credential.clone()).allow_accounts([17, 18]);
/// # let any_event = async |_: Option<UnsubscribeEvent>| Received;
/// # let app: Router = Router::new().route("/hook", post(any_event).layer(auth));
/// let report = testing::conformance(app, "/hook", &credential)
///     .accounts([17, 18])
///     .acknowledges_other_events()
///     .await;
/// report.assert_clean();
/// # Ok(())
/// # }
/// ```
///
/// # Panics
///
/// If `path` has no slash at its start; and when it is awaited, if
/// [`on_request`](Conformance::on_request) puts the credential on a forged delivery. What the app
/// panics with is a finding.
#[track_caller]
pub fn conformance<S>(app: S, path: &str, credential: &Credential) -> Conformance<S> {
    let uri = path.parse::<Uri>().ok();
    assert!(
        uri.is_some_and(|uri| uri.path().starts_with('/')),
        "the path of the webhook begins with a slash and is a part of a URI"
    );
    Conformance {
        app,
        plan: Plan {
            path: path.to_owned(),
            credential: credential.clone(),
            accounts: Vec::new(),
            body_limit: DEFAULT_BODY_LIMIT,
            acknowledges_other_events: false,
            over_a_socket: false,
        },
        prepare: Box::new(|_| ()),
    }
}

type Prepare = Box<dyn FnMut(&mut Request<Body>)>;

/// A run of the suite, to be told more about the host and then awaited: see [`conformance`].
///
/// It waits for each answer as long as the app takes, and its future is not `Send`, so that the app
/// need not be either.
#[must_use = "nothing is sent until it is awaited"]
pub struct Conformance<S> {
    app: S,
    plan: Plan,
    prepare: Prepare,
}

impl<S> Conformance<S> {
    /// The accounts that the host accepts, as it gave them to
    /// [`allow_accounts`](crate::WebhookAuth::allow_accounts).
    ///
    /// The events are then of the first of them; each other one gets an event, and so does an
    /// account that is not among them, which must be refused. Without this the events are of the
    /// example's account, 2, and no other one is tried.
    ///
    /// # Panics
    ///
    /// If there is none.
    #[track_caller]
    pub fn accounts(mut self, accounts: impl IntoIterator<Item = i64>) -> Self {
        self.plan.accounts = accounts.into_iter().collect();
        assert!(!self.plan.accounts.is_empty(), "a host that accepts no account accepts no event");
        self
    }

    /// Demands that events of other kinds are acknowledged, as a handler does that takes
    /// `Option<UnsubscribeEvent>`. Without this both are right, 200 and 400 `other_event`.
    pub fn acknowledges_other_events(mut self) -> Self {
        self.plan.acknowledges_other_events = true;
        self
    }

    /// The host's limit of a body in bytes, if it is not axum's default of 2 MB (2,097,152).
    ///
    /// Bodies of one byte more are made in memory.
    ///
    /// # Panics
    ///
    /// With `usize::MAX`: that is no limit.
    #[track_caller]
    pub fn body_limit(mut self, bytes: usize) -> Self {
        assert!(bytes < usize::MAX, "a host without a limit lets anybody fill its memory");
        self.plan.body_limit = bytes;
        self
    }

    /// Changes each request before it is sent, good or forged: for what a server or a proxy adds.
    /// The credential is not among that: the suite puts it where it belongs.
    ///
    /// ```
    /// use axum::extract::ConnectInfo;
    /// use std::net::SocketAddr;
    /// # use axum::{Router, routing::post};
    /// # use unsubscribe_webhook::{Credential, Received, UnsubscribeEvent, WebhookAuth, testing};
    ///
    /// # #[tokio::main(flavor = "current_thread")]
    /// # async fn main() -> Result<(), unsubscribe_webhook::ConfigError> {
    /// # let credential = Credential::token("s3cr3t")?;
    /// # let auth = WebhookAuth::from_credential(credential.clone())
    /// #     .require(|head| head.extensions.get::<ConnectInfo<SocketAddr>>().is_some());
    /// # let unsubscribed = async |_: UnsubscribeEvent| Received;
    /// # let app: Router = Router::new().route("/hook", post(unsubscribed).layer(auth));
    /// let gateway = SocketAddr::from(([192, 0, 2, 1], 443));
    /// testing::conformance(app, "/hook", &credential)
    ///     .on_request(move |request| {
    ///         request.extensions_mut().insert(ConnectInfo(gateway));
    ///     })
    ///     .await
    ///     .assert_clean();
    /// # Ok(())
    /// # }
    /// ```
    pub fn on_request<F>(mut self, change: F) -> Self
    where
        F: FnMut(&mut Request<Body>) + 'static,
    {
        self.prepare = Box::new(change);
        self
    }

    /// The app is a client that sends the requests to a running server.
    ///
    /// The client reads each body, so what the server reads cannot be seen: that probe's question
    /// is left out, and so is a body that breaks off. Give each request a connection of its own: a
    /// server may close one whose body it did not read, and the next request on it fails.
    pub fn over_a_socket(mut self) -> Self {
        self.plan.over_a_socket = true;
        self
    }

    async fn run<B>(self) -> Report
    where
        S: Service<Request<Body>, Response = Response<B>> + Clone,
        B: http_body::Body,
    {
        let Self { app, plan, prepare } = self;
        let credential = plan.credential.clone();
        let mut run = Run { app, prepare, credential, sent: 0, findings: Vec::new() };
        let mut judge = Judge::new(plan.over_a_socket);

        let (mut first, again) = probe::first_and_again(&plan);
        let answer = run.ask(&mut first).await;
        if let Some(finding) = judge.first(&first, &answer) {
            run.findings.push(finding);
            for mut probe in probe::forged(&plan) {
                let answer = run.ask(&mut probe).await;
                run.findings.extend(judge.only_forged(&probe, &answer));
            }
        } else {
            let probes = [
                again,
                probe::forged(&plan),
                probe::credential_spellings(&plan),
                probe::content_types(&plan),
                probe::broken_bodies(&plan),
                probe::broken_fields(&plan),
                probe::accounts(&plan),
                probe::other_events(&plan),
                probe::spellings(&plan),
            ];
            for mut probe in probes.into_iter().flatten() {
                let answer = run.ask(&mut probe).await;
                run.findings.extend(judge.judge(&probe, &answer));
            }
        }
        Report { probes: run.sent, findings: run.findings }
    }
}

impl<S, B> IntoFuture for Conformance<S>
where
    S: Service<Request<Body>, Response = Response<B>> + Clone + 'static,
    B: http_body::Body + 'static,
{
    type Output = Report;
    type IntoFuture = Pin<Box<dyn Future<Output = Report>>>;

    fn into_future(self) -> Self::IntoFuture {
        Box::pin(self.run())
    }
}

impl<S> fmt::Debug for Conformance<S> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Conformance")
            .field("credential", &self.plan.credential)
            .field("accounts", &self.plan.accounts)
            .field("body_limit", &self.plan.body_limit)
            .finish_non_exhaustive()
    }
}

struct Run<S> {
    app: S,
    prepare: Prepare,
    credential: Credential,
    sent: usize,
    findings: Vec<super::Finding>,
}

impl<S> Run<S> {
    async fn ask<B>(&mut self, probe: &mut Probe) -> Answer
    where
        S: Service<Request<Body>, Response = Response<B>> + Clone,
        B: http_body::Body,
    {
        let mut request = std::mem::take(&mut probe.request);
        (self.prepare)(&mut request);
        assert!(
            probe.expected != Expected::Unauthorized || !self.credential.is_present(&request),
            "`.on_request(..)` puts the right credential on a forged delivery: leave that to the suite"
        );
        self.sent += 1;
        // A clone for each request, as a server makes one for each connection.
        let mut app = self.app.clone();
        let exchange = async move {
            if poll_fn(|cx| app.poll_ready(cx)).await.is_err() {
                return Answer::Error;
            }
            match app.call(request).await {
                Ok(response) => read(response).await,
                Err(_) => Answer::Error,
            }
        };
        unless_it_panics(exchange).await.unwrap_or(Answer::Panic)
    }
}

async fn read<B: http_body::Body>(response: Response<B>) -> Answer {
    let (head, body) = response.into_parts();
    let mut body = pin!(body);
    let mut bytes = Vec::new();
    while let Some(frame) = body.frame().await {
        let Ok(frame) = frame else { return Answer::Error };
        if let Ok(data) = frame.into_data() {
            bytes.put(data);
        }
        if bytes.len() > MAX_ANSWER {
            break;
        }
    }
    Answer::read(head.status, &head.headers, &bytes)
}

/// `None` for a panic.
async fn unless_it_panics<F: Future>(future: F) -> Option<F::Output> {
    let mut future = pin!(future);
    poll_fn(|cx| {
        let poll = AssertUnwindSafe(|| future.as_mut().poll(cx));
        catch_unwind(poll).map_or(Poll::Ready(None), |poll| poll.map(Some))
    })
    .await
}
