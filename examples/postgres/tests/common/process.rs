//! A program under test as a process.
#![allow(dead_code, unreachable_pub, reason = "each test program uses a part of it")]

use std::{
    ffi::OsStr,
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
use tokio::task::spawn_blocking;
use tower::{Service, ServiceExt};
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
    /// With a connection for each request.
    pub client: Client<HttpConnector, Body>,
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

    pub async fn run(command: Command) -> Self {
        let (process, line) = Self::spawn(command).await;
        assert!(line.is_some(), "{}", process.log());
        process
    }

    /// Starts a program, and reads the first line of its output.
    async fn spawn(mut command: Command) -> (Self, Option<String>) {
        let mut child =
            command.stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().expect("a process");
        let (stdout, stderr) = (child.stdout.take(), child.stderr.take());
        let log = thread::spawn(|| io::read_to_string(stderr.expect("its log")).expect("UTF-8"));
        let mut stdout = BufReader::new(stdout.expect("its output")).lines();
        let next = spawn_blocking(move || (stdout.next(), stdout));
        let (line, stdout) = next.await.expect("no panic");
        let line = line.transpose().expect("UTF-8");
        let base = line.as_ref().and_then(|line| line.strip_prefix("Listening on  "));
        let url = base.unwrap_or_default().to_owned() + "/webhooks/unsubscribe";
        let client = Client::builder(TokioExecutor::new()).pool_max_idle_per_host(0).build_http();
        (Self { child, stdout, log: Some(log), url, client }, line)
    }

    pub fn address(&self) -> &str {
        self.url.split('/').nth(2).expect("an address")
    }

    /// Stops it, as a person (`-INT`) or a supervisor (`-TERM`) does.
    pub fn signal(&self, signal: &str) {
        let kill = format!("kill {signal} {}", self.child.id()); // the shell's own: there may be no other
        assert!(Command::new("sh").args(["-c", &kill]).status().expect("a shell").success());
    }

    pub fn kill(&mut self) {
        self.child.kill().and_then(|()| self.child.wait()).expect("an end");
    }

    /// Ends it, and returns what it has logged.
    pub fn log(mut self) -> String {
        self.kill();
        self.log.take().expect("its log").join().expect("its log")
    }

    /// Waits until it has ended without an error, and returns the rest of its output.
    pub async fn end(mut self) -> String {
        let end = spawn_blocking(move || {
            let rest = self.stdout.by_ref().map(|line| line.expect("UTF-8") + "\n").collect();
            assert!(self.child.wait().expect("its end").success());
            rest
        });
        end.await.expect("success")
    }

    pub async fn deliver(&self, body: impl Into<Body>) -> Reply {
        self.send(self.delivery().header("x-lox24-token", SECRET), body).await
    }

    /// A delivery without a credential.
    pub fn delivery(&self) -> http::request::Builder {
        Request::post(&self.url).header("content-type", "application/json")
    }

    pub async fn look_up(&self, phone: &str, authorization: &str) -> Reply {
        let url = self.url.replace("webhooks/unsubscribe", "suppressed/") + &percent_encoded(phone);
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

    /// The suite that tries the whole app.
    pub fn conformance(
        &self,
    ) -> Conformance<impl Service<Request<Body>, Response = Response<Body>> + Clone + 'static> {
        let app = self.client.clone().map_response(|response| response.map(Body::new));
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
pub fn command(program: impl AsRef<OsStr>, settings: &[(&str, &str)]) -> Command {
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

/// The error of a program that does not start.
pub async fn failure(command: Command) -> String {
    let (mut process, line) = Process::spawn(command).await;
    assert_eq!(line, None);
    assert_eq!(process.child.wait().expect("its end").code(), Some(1));
    process.log()
}

/// Runs a program to its end: its exit code, stdout and stderr.
pub async fn output(mut command: Command) -> (Option<i32>, String, String) {
    let output = spawn_blocking(move || command.output()).await;
    let output = output.expect("no panic").expect("a process");
    let text = |bytes| String::from_utf8(bytes).expect("UTF-8");
    (output.status.code(), text(output.stdout), text(output.stderr))
}

/// Each byte as `%XX`, which any part of a URL may contain.
pub fn percent_encoded(text: &str) -> String {
    text.bytes().fold(String::new(), |encoded, byte| format!("{encoded}%{byte:02X}"))
}

#[track_caller]
pub fn assert_received(reply: &Reply) {
    assert_eq!((reply.status, &*reply.body), (200, "Webhook received\n"));
}
