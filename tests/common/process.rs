//! An example as a process, and requests to it over the network.
#![allow(dead_code, unreachable_pub, reason = "each test program uses a part of it")]

#[path = "socket.rs"]
mod socket;

use std::{
    io::{self, BufRead, BufReader, Read},
    process::{Child, ChildStdout, Command, Stdio},
    time::Duration,
};

use axum::{body::Body, extract::Request};
use http::Response;
use hyper::body::Incoming;
use hyper_util::{
    client::legacy::{Client, Error},
    rt::TokioExecutor,
};
use tempfile::TempDir;
use tokio::{io::AsyncReadExt, time::timeout};
use tower::{Service, ServiceExt, service_fn};

pub use self::socket::{Client as Wire, PATIENCE};
use crate::common::{Reply, SECRET, program, read};

/// A running example, ended with the test.
pub struct Program {
    child: Child,
    stdout: BufReader<ChildStdout>,
    /// What it printed up to the line with its address.
    greeting: String,
    pub address: String,
}

impl Program {
    /// Starts an example in a folder of its own, without settings but these.
    pub fn start(name: &str, folder: &TempDir, settings: &[(&str, &str)]) -> Self {
        Self::run(&mut command(name, folder, settings))
    }

    pub fn run(command: &mut Command) -> Self {
        let mut child = command.spawn().expect("the example starts");
        let mut stdout = BufReader::new(child.stdout.take().expect("its output"));
        let mut greeting = String::new();
        while !greeting.contains("http://") {
            let read = stdout.read_line(&mut greeting).expect("its output");
            assert!(read > 0, "it ended: {greeting}");
        }
        let address = greeting.split("http://").nth(1).expect("its address").trim().to_owned();
        Self { child, stdout, greeting, address }
    }

    pub async fn send(&self, request: Request) -> Reply {
        let response = self.app().oneshot(request).await.expect("an answer");
        read(response.map(Body::new)).await
    }

    /// The host as a service, with a connection for each request.
    pub fn app(
        &self,
    ) -> impl Service<Request, Response = Response<Incoming>, Error = Error> + Clone + 'static {
        let address = self.address.clone();
        let client: Client<_, Body> =
            Client::builder(TokioExecutor::new()).pool_max_idle_per_host(0).build_http();
        service_fn(move |mut request: Request| {
            let path = request.uri().path_and_query().expect("a path");
            *request.uri_mut() = format!("http://{address}{path}").parse().expect("a URI");
            client.request(request)
        })
    }

    pub fn signal(&self, signal: &str) {
        let pid = self.child.id().to_string();
        let kill = format!("kill {signal} {pid}"); // the shell's own: there may be no other
        assert!(Command::new("sh").args(["-c", &kill]).status().expect("a shell").success());
    }

    /// Stops it as a person or a supervisor does, and returns what it printed.
    pub fn stop(self, signal: &str) -> String {
        self.signal(signal);
        self.end()
    }

    /// Ends it, and returns its log, which contains nothing secret and nothing personal.
    pub fn log(mut self) -> String {
        let mut stderr = self.child.stderr.take().expect("its log");
        self.signal("-TERM");
        self.child.wait().expect("its end");
        let mut log = String::new();
        stderr.read_to_string(&mut log).expect("UTF-8");
        for personal in [SECRET, "49111", "1111333", "Benutzertext", "verst"] {
            assert!(!log.contains(personal), "{personal}: {log}");
        }
        log
    }

    /// Waits until it has ended, and returns what it printed.
    pub fn end(mut self) -> String {
        assert!(self.child.wait().expect("its end").success());
        let mut rest = self.greeting.clone();
        self.stdout.read_to_string(&mut rest).expect("its output");
        rest
    }
}

impl Drop for Program {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

pub fn command(name: &str, folder: &TempDir, settings: &[(&str, &str)]) -> Command {
    let mut command = Command::new(program(name));
    command.env_clear().current_dir(folder.path()).stdout(Stdio::piped()).stderr(Stdio::piped());
    command.env("BIND_ADDR", "127.0.0.1:0").envs(settings.iter().copied());
    command
}

pub fn folder() -> TempDir {
    tempfile::tempdir().expect("a folder")
}

impl Wire {
    pub async fn open(host: &Program, text: impl AsRef<[u8]>) -> Self {
        let mut wire = Self::connect(&host.address).await;
        wire.send(text).await;
        wire
    }

    pub async fn answer(&mut self) -> Reply {
        self.reply().await
    }

    /// Asserts that the host closes the connection without another word.
    pub async fn assert_closed(mut self) {
        let rest = timeout(PATIENCE, self.0.read_u8()).await.expect("it stays open");
        let closed = [io::ErrorKind::UnexpectedEof, io::ErrorKind::ConnectionReset];
        assert!(closed.contains(&rest.expect_err("nothing").kind()));
    }

    /// Asserts that the host says nothing, and does not close the connection.
    pub async fn assert_silent(&mut self) {
        let more = timeout(Duration::from_millis(200), self.0.read_u8()).await;
        assert!(more.is_err(), "{more:?}");
    }
}
