//! A program under test as a process.
#![allow(dead_code, unreachable_pub, reason = "each test program uses a part of it")]

use std::{
    io::{self, BufRead, BufReader, Lines},
    process::{Child, ChildStdout, Command, Stdio},
    thread::{self, JoinHandle},
    time::{Duration, Instant},
};

use axum::body::Body;
use http::{Request, Response};
use http_body_util::BodyExt;
use hyper_util::{
    client::legacy::{Client, connect::HttpConnector},
    rt::TokioExecutor,
};
use tower::{Service, service_fn};
use unsubscribe_webhook::{
    Credential,
    testing::{Conformance, conformance},
};

pub const SECRET: &str = "correct-horse-7";
pub const LOOKUP_SECRET: &str = "battery-staple-9";

/// A process of the crate under test; it ends with the test.
pub struct Process {
    child: Child,
    /// The lines after the first one.
    pub stdout: Lines<BufReader<ChildStdout>>,
    log: Option<JoinHandle<String>>,
    pub url: String,
    client: Client<HttpConnector, Body>,
}

pub struct Reply {
    pub status: u16,
    pub body: String,
    pub took: Duration,
}

impl Process {
    /// Starts a program and waits until it says that it is ready.
    pub async fn start(program: &str, settings: &[(&str, &str)]) -> Self {
        Self::run(command(program, settings)).await
    }

    pub async fn run(mut command: Command) -> Self {
        let mut child =
            command.stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().expect("a process");
        let (stdout, stderr) = (child.stdout.take(), child.stderr.take());
        let log = thread::spawn(|| io::read_to_string(stderr.expect("its log")).expect("UTF-8"));
        let mut stdout = BufReader::new(stdout.expect("its output")).lines();
        let next = tokio::task::spawn_blocking(move || (stdout.next(), stdout));
        let (line, stdout) = next.await.expect("a program that starts");
        let line = line.expect("a line").expect("UTF-8");
        let base = line.strip_prefix("Listening on  ").unwrap_or_default();
        let client = Client::builder(TokioExecutor::new()).build_http();
        Self { child, stdout, log: Some(log), url: format!("{base}/webhooks/unsubscribe"), client }
    }

    /// Stops it, as a supervisor does.
    pub fn terminate(&self) {
        let id = self.child.id().to_string();
        assert!(Command::new("kill").arg(id).status().expect("kill").success());
    }

    pub fn kill(&mut self) {
        self.child.kill().and_then(|()| self.child.wait()).expect("an end");
    }

    /// Ends it, and returns what it has logged.
    pub fn log(mut self) -> String {
        self.kill();
        self.log.take().expect("its log").join().expect("its log")
    }

    /// Waits for its end.
    pub async fn exit_code(mut self) -> Option<i32> {
        let end = tokio::task::spawn_blocking(move || self.child.wait());
        end.await.expect("no panic").expect("an end").code()
    }

    pub async fn deliver(&self, body: impl Into<Body>) -> Reply {
        self.send(self.delivery().header("x-lox24-token", SECRET), body).await
    }

    /// A delivery without a credential.
    pub fn delivery(&self) -> http::request::Builder {
        Request::post(&self.url).header("content-type", "application/json")
    }

    pub async fn look_up(&self, phone: &str, authorization: &str) -> Reply {
        let url = self.url.replace("webhooks/unsubscribe", "suppressed/") + phone;
        self.send(Request::get(url).header("authorization", authorization), "").await
    }

    pub async fn send(&self, request: http::request::Builder, body: impl Into<Body>) -> Reply {
        let start = Instant::now();
        let request = request.body(body.into()).expect("a request");
        let response = self.client.request(request).await.expect("a response");
        let (head, body) = response.into_parts();
        let body = body.collect().await.expect("a whole response").to_bytes();
        Reply {
            status: head.status.as_u16(),
            body: String::from_utf8(body.into()).expect("UTF-8"),
            took: start.elapsed(),
        }
    }

    /// The suite that tries the whole app, with a connection for each request.
    pub fn conformance(
        &self,
    ) -> Conformance<impl Service<Request<Body>, Response = Response<Body>> + Clone + 'static> {
        let client: Client<_, Body> =
            Client::builder(TokioExecutor::new()).pool_max_idle_per_host(0).build_http();
        let app = service_fn(move |request| {
            let response = client.request(request);
            async { response.await.map(|response| response.map(Body::new)) }
        });
        let credential = Credential::token(SECRET).expect("a usable secret");
        conformance(app, &self.url, &credential).over_network().acknowledges_other_events()
    }
}

impl Drop for Process {
    fn drop(&mut self) {
        self.kill();
    }
}

/// The program with the settings of a test; none is inherited.
pub fn command(program: &str, settings: &[(&str, &str)]) -> Command {
    let mut command = Command::new(program);
    command
        .env_clear()
        .envs([
            ("WEBHOOK_SECRET", SECRET),
            ("LOOKUP_SECRET", LOOKUP_SECRET),
            ("BIND_ADDR", "127.0.0.1:0"),
        ])
        .envs(settings.iter().copied());
    command
}

/// The error of a program that cannot start.
pub async fn failure(program: &str, settings: &[(&str, &str)]) -> String {
    let mut command = command(program, settings);
    let output = tokio::task::spawn_blocking(move || command.output());
    let output = output.await.expect("no panic").expect("a process");
    assert_eq!(output.status.code(), Some(1), "{output:?}");
    String::from_utf8(output.stderr).expect("UTF-8")
}

#[track_caller]
pub fn assert_received(reply: &Reply) {
    assert_eq!((reply.status, &*reply.body), (200, "Webhook received\n"));
}
