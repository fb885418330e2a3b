//! The example hosts as a person runs them: as processes, over a real socket.

mod common;

use std::{
    fs,
    io::{self, BufRead, BufReader, Read},
    path::Path,
    process::{Child, ChildStdout, Command, Stdio},
    time::{Duration, Instant},
};

use axum::{
    body::{Body, Bytes},
    extract::Request,
};
use common::{
    Answer, EXAMPLE, Fields, PATH, SECRET, assert_received, assert_refused_over_network, program,
    read, signed, signed_by, token, unsigned,
};
use http::{HeaderValue, Response};
use hyper::body::Incoming;
use hyper_util::{
    client::legacy::{Client, Error},
    rt::TokioExecutor,
};
use tempfile::TempDir;
use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    net::TcpStream,
    time::{sleep, timeout},
};
use tower::{Service, service_fn};
use unsubscribe_webhook::{
    UnsubscribeEvent,
    testing::{Conformance, conformance},
};

const PHONE: &str = "+4911113333444";

/// A running example, ended with the test.
struct Program {
    child: Child,
    stdout: BufReader<ChildStdout>,
    /// What it printed up to the line with its address.
    greeting: String,
    address: String,
}

impl Program {
    /// Starts an example in a folder of its own, without settings but these.
    fn start(name: &str, folder: &TempDir, settings: &[(&str, &str)]) -> Self {
        Self::run(&mut command(name, folder, settings))
    }

    fn run(command: &mut Command) -> Self {
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

    async fn send(&self, mut request: Request) -> Answer {
        let path = request.uri().path_and_query().expect("a path").clone();
        *request.uri_mut() = format!("http://{}{path}", self.address).parse().expect("a URI");
        let client: Client<_, Body> = Client::builder(TokioExecutor::new()).build_http();
        let response = client.request(request).await.expect("an answer");
        read(response.map(Body::new)).await
    }

    /// The host as a service, with a connection for each request.
    fn app(
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

    async fn suppressed(&self, phone: &str) -> String {
        let answer = self.send(get(&format!("/suppressed/{phone}"), SECRET)).await;
        assert_eq!(answer.status, 200);
        answer.body
    }

    fn signal(&self, signal: &str) {
        let pid = self.child.id().to_string();
        let kill = format!("kill {signal} {pid}"); // the shell's own: there may be no other
        assert!(Command::new("sh").args(["-c", &kill]).status().expect("a shell").success());
    }

    /// Stops it as a person or a supervisor does, and returns what it printed.
    fn stop(self, signal: &str) -> String {
        self.signal(signal);
        self.end()
    }

    /// Waits until it has ended, and returns what it printed.
    fn end(mut self) -> String {
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

fn command(name: &str, folder: &TempDir, settings: &[(&str, &str)]) -> Command {
    let mut command = Command::new(program(name));
    command.env_clear().current_dir(folder.path()).stdout(Stdio::piped()).stderr(Stdio::piped());
    command.env("BIND_ADDR", "127.0.0.1:0").envs(settings.iter().copied());
    command
}

fn folder() -> TempDir {
    tempfile::tempdir().expect("a folder")
}

fn get(path: &str, secret: &str) -> Request {
    let mut request = Request::get(path).body(Body::empty()).expect("a request");
    token(secret).apply_to(&mut request);
    request
}

fn to(path: &str, mut request: Request) -> Request {
    *request.uri_mut() = path.parse().expect("a path");
    request
}

#[track_caller]
fn assert_answer(answer: &Answer, status: u16, code: &str, pointer: Option<&str>) {
    assert_refused_over_network(answer, code, pointer);
    assert_eq!(answer.status, status);
}

/// An acknowledgement as it comes over the wire.
fn assert_acknowledged(mut answer: Answer) {
    answer.headers.retain(|(name, _)| name != "date");
    assert_received(&answer);
}

fn stored(folder: &TempDir) -> Vec<(String, String)> {
    let database = rusqlite::Connection::open(folder.path().join("unsubscribed.db")).expect("it");
    let mut query = database.prepare("SELECT phone, event FROM unsubscribed").expect("a table");
    let rows = query.query_map([], |row| Ok((row.get(0)?, row.get(1)?))).expect("rows");
    rows.collect::<Result<_, _>>().expect("texts")
}

/// The suite for a running host.
fn suite(
    host: &Program,
    path: &str,
) -> Conformance<impl Service<Request, Response = Response<Incoming>> + Clone + 'static> {
    conformance(host.app(), path, &token(SECRET)).over_network()
}

#[tokio::test]
async fn every_host_keeps_the_contract() {
    let folder = folder();
    let secret = ("WEBHOOK_SECRET", SECRET);

    let host = Program::start("minimal", &folder, &[secret]);
    suite(&host, PATH).await.assert_passed();
    suite(&host, "/webhooks/lox24").acknowledges_other_events().await.assert_passed();

    let host = Program::start("quickstart", &folder, &[secret, ("WEBHOOK_ACCOUNT", "3")]);
    suite(&host, PATH).accounts([3]).acknowledges_other_events().await.assert_passed();

    let host = Program::start("existing_router", &folder, &[secret]);
    suite(&host, PATH).acknowledges_other_events().await.assert_passed();

    let host = Program::start("openapi", &folder, &[secret]);
    suite(&host, PATH).acknowledges_other_events().await.assert_passed();

    let host = Program::start("hardened", &folder, &[secret, ("DATABASE_PATH", "hardened.db")]);
    let limit = 64 * 1024;
    let report = suite(&host, PATH).body_limit(limit).acknowledges_other_events().await;
    report.assert_passed();
}

/// That it passes tells something: over a socket, too, a host that is wrong does not.
#[tokio::test]
async fn a_host_with_other_settings_does_not_pass() {
    let folder = folder();
    let settings = [("WEBHOOK_SECRET", "another"), ("WEBHOOK_ACCOUNT", "3")];
    let host = Program::start("quickstart", &folder, &settings);
    let report = suite(&host, PATH).await;
    let [finding] = report.findings() else { panic!("{report}") };
    assert_eq!(finding.answer(), "401 unauthorized");
}

#[tokio::test]
async fn the_quickstart_keeps_each_unsubscribe_once() {
    let folder = folder();
    let settings = [("WEBHOOK_SECRET", SECRET)];
    let host = Program::start("quickstart", &folder, &settings);

    let off = r#"{"phone":"+4911113333444","suppressed":false}"#;
    let on = r#"{"phone":"+4911113333444","suppressed":true}"#;
    assert_eq!(host.suppressed(PHONE).await, off);

    // Refused, and not on the list.
    assert_answer(&host.send(unsigned(EXAMPLE)).await, 401, "unauthorized", None);
    let wrong = signed_by(&token("wrong"), EXAMPLE);
    assert_answer(&host.send(wrong).await, 401, "unauthorized", None);
    let reason = "/data/additional_data/reason/id";
    let seven = signed(Fields::example().with(reason, "7").text());
    assert_answer(&host.send(seven).await, 400, "invalid_field", Some(reason));
    assert_answer(&host.send(signed("{")).await, 400, "not_json", None);
    let other = format!(r#"{{"name":"phone.subscribe","data":{{"phone":"{PHONE}"}}}}"#);
    assert_acknowledged(host.send(signed(other)).await);
    assert_eq!(host.suppressed(PHONE).await, off);
    assert_eq!(stored(&folder), []);

    // Accepted, twice, and with either spelling of the total: stored once.
    for _ in 0..2 {
        assert_acknowledged(host.send(signed(EXAMPLE)).await);
    }
    let page = EXAMPLE.replace("attempts_total", "attempt_total");
    assert_acknowledged(host.send(signed(page)).await);
    assert_eq!(host.suppressed(PHONE).await, on);
    assert_eq!(host.suppressed("%2B4911113333444").await, on);
    assert_eq!(host.suppressed("+49").await, r#"{"phone":"+49","suppressed":false}"#);
    let rows = stored(&folder);
    assert_eq!(rows.len(), 1);
    assert_eq!(rows[0].0, PHONE);
    let event: UnsubscribeEvent = serde_json::from_str(&rows[0].1).expect("an event");
    assert_eq!(event, common::example());

    // The list is personal data.
    let open = Request::get(format!("/suppressed/{PHONE}")).body(Body::empty()).expect("a request");
    assert_answer(&host.send(open).await, 401, "unauthorized", None);
    let wrong = get(&format!("/suppressed/{PHONE}"), "wrong");
    assert_answer(&host.send(wrong).await, 401, "unauthorized", None);

    // It survives a restart.
    let printed = host.stop("-TERM");
    assert!(!printed.contains(SECRET), "{printed}");
    assert!(printed.ends_with("Stopped.\n"), "{printed}");
    let host = Program::start("quickstart", &folder, &settings);
    assert_eq!(host.suppressed(PHONE).await, on);
    assert_acknowledged(host.send(signed(EXAMPLE)).await);
    assert_eq!(stored(&folder).len(), 1);
    assert!(host.stop("-INT").ends_with("Stopped.\n"));
}

#[tokio::test]
async fn the_quickstart_accepts_one_account_if_told() {
    let folder = folder();
    let settings = |account| {
        [("WEBHOOK_SECRET", SECRET), ("WEBHOOK_ACCOUNT", account), ("DATABASE_PATH", "x")]
    };
    let host = Program::start("quickstart", &folder, &settings("3"));
    let foreign = host.send(signed(EXAMPLE)).await;
    assert_answer(&foreign, 403, "foreign_account", Some("/data/user_id"));
    let own = signed(Fields::example().with("/data/user_id", "3").text());
    assert_acknowledged(host.send(own).await);
    assert!(folder.path().join("x").exists());
    drop(host);
    let host = Program::start("quickstart", &folder, &settings("2"));
    assert_acknowledged(host.send(signed(EXAMPLE)).await);
}

#[tokio::test]
async fn the_quickstart_answers_500_while_it_cannot_store() {
    let folder = folder();
    let host = Program::start("quickstart", &folder, &[("WEBHOOK_SECRET", SECRET)]);
    let database = rusqlite::Connection::open(folder.path().join("unsubscribed.db")).expect("it");
    database.execute("ALTER TABLE unsubscribed RENAME TO gone", []).expect("renamed");
    assert_answer(&host.send(signed(EXAMPLE)).await, 500, "server_error", None);
    database.execute("ALTER TABLE gone RENAME TO unsubscribed", []).expect("renamed");
    assert_acknowledged(host.send(signed(EXAMPLE)).await);
    assert_eq!(stored(&folder).len(), 1);
}

#[tokio::test]
async fn the_quickstart_says_what_to_try() {
    let folder = folder();
    let host = Program::start("quickstart", &folder, &[]);
    let demo = token("demo-secret");
    assert_acknowledged(host.send(signed_by(&demo, EXAMPLE)).await);
    // The text that the last command replaces is there, and what it makes of it is refused.
    let changed = EXAMPLE.replacen("\"id\": 4", "\"id\": 7", 1);
    let reason = Some("/data/additional_data/reason/id");
    assert_answer(&host.send(signed_by(&demo, changed)).await, 400, "invalid_field", reason);

    let address = host.address.clone();
    let printed = host.stop("-TERM");
    let webhook = format!("curl -i http://{address}{PATH} \\\n");
    assert_eq!(printed.matches(&webhook).count(), 3, "{printed}");
    for part in [
        &format!("curl -i http://{address}/suppressed/{PHONE} \\\n"),
        "    -H \"X-LOX24-Token: demo-secret\" -H 'Content-Type: application/json' \\\n    --data @examples/event.json\n",
        r#"sed 's/"id": 4/"id": 7/' examples/event.json |"#,
        "Account       any",
    ] {
        assert!(printed.contains(part), "{part}: {printed}");
    }
    // Ports have five digits at most.
    let widest = printed.lines().map(|line| line.chars().count()).max();
    assert!(widest <= Some(80), "{widest:?}: {printed}");
}

#[tokio::test]
async fn the_quickstart_logs_what_became_of_a_delivery_and_nothing_personal() {
    let folder = folder();
    let settings = [("WEBHOOK_SECRET", SECRET)];
    let log = async |more: &[(&str, &str)]| {
        let mut host = Program::start("quickstart", &folder, &[&settings, more].concat());
        let mut stderr = host.child.stderr.take().expect("its log");
        for _ in 0..2 {
            assert_acknowledged(host.send(signed(EXAMPLE)).await);
        }
        assert_answer(&host.send(unsigned(EXAMPLE)).await, 401, "unauthorized", None);
        host.stop("-TERM");
        let mut log = String::new();
        stderr.read_to_string(&mut log).expect("UTF-8");
        log
    };

    let first = log(&[]).await;
    let lines: Vec<&str> = first.lines().collect();
    assert_eq!(lines.len(), 3, "{first}");
    assert!(lines[0].contains("INFO quickstart: the number was put on the list id="), "{first}");
    assert!(lines[1].contains("INFO quickstart: this event was stored before id="), "{first}");
    assert!(lines[2].contains("INFO unsubscribe_webhook: a request without the right"), "{first}");
    assert!(!first.contains('\x1b'), "{first}");

    let all = log(&[("RUST_LOG", "info,unsubscribe_webhook=debug")]).await;
    assert_eq!(all.matches("DEBUG unsubscribe_webhook: a delivery was accepted").count(), 2);
    assert_eq!(log(&[("RUST_LOG", "warn")]).await, "");
    for text in [&first, &all] {
        for personal in [SECRET, PHONE, "1111333", "Benutzertext", "verst"] {
            assert!(!text.contains(personal), "{text}");
        }
    }
}

/// SQLite opens a file that it may not write for reading, and would fail on the first delivery.
#[test]
fn a_host_does_not_start_on_a_list_it_cannot_write() {
    for name in ["quickstart", "hardened"] {
        let folder = folder();
        let secret = ("WEBHOOK_SECRET", SECRET);
        Program::start(name, &folder, &[secret]).stop("-TERM");
        let settings = [secret, ("DATABASE_PATH", "file:unsubscribed.db?mode=ro")];
        // Spawned, because one that starts does not end.
        let mut child = command(name, &folder, &settings).spawn().expect("it runs");
        let mut printed = String::new();
        let mut stdout = BufReader::new(child.stdout.take().expect("its output"));
        stdout.read_line(&mut printed).expect("its output");
        let _ = child.kill();
        let output = child.wait_with_output().expect("its end");
        assert_eq!(printed, "", "{name}");
        let error = String::from_utf8(output.stderr).expect("UTF-8");
        assert!(error.contains("it is read-only"), "{name}: {error}");
    }
}

#[test]
fn the_quickstart_refuses_settings_it_cannot_follow() {
    let folder = folder();
    for (settings, why) in [
        (&[("WEBHOOK_SECRET", "")][..], "the secret is empty"),
        (&[("WEBHOOK_SECRET", "s3cr3t\n")], "the secret ends with a line break"),
        (&[("WEBHOOK_ACCOUNT", "")], "WEBHOOK_ACCOUNT is no integer"),
        (&[("WEBHOOK_ACCOUNT", "two")], "WEBHOOK_ACCOUNT is no integer"),
        (&[("BIND_ADDR", "nowhere")], "cannot listen on nowhere: set BIND_ADDR to another"),
        (
            &[("DATABASE_PATH", "no/such/folder.db")],
            "cannot open no/such/folder.db: set DATABASE_PATH",
        ),
        (&[("RUST_LOG", "debug,x=loud")], "RUST_LOG"),
        (&[("BIND_ADDR", "0.0.0.0:0")], "everybody knows the demo secret"),
    ] {
        let output = command("quickstart", &folder, settings).output().expect("it runs");
        assert_eq!(output.status.code(), Some(1), "{settings:?}");
        let error = String::from_utf8(output.stderr).expect("UTF-8");
        assert!(error.contains(why), "{settings:?}: {error}");
        assert!(!error.contains("s3cr3t"), "{error}");
    }
}

#[tokio::test]
async fn minimal_takes_events_in_both_forms() {
    let folder = folder();
    // A line that a full disk or a crash has cut off must not spoil the next one.
    let file = folder.path().join("unsubscribed.txt");
    fs::write(&file, "\n\"+49111").expect("the list");
    let host = Program::start("minimal", &folder, &[("WEBHOOK_SECRET", SECRET)]);
    let other = r#"{"name":"sms.delivery"}"#;

    assert_acknowledged(host.send(signed(EXAMPLE)).await);
    assert_answer(&host.send(signed(other)).await, 400, "other_event", Some("/name"));
    assert_answer(&host.send(unsigned(EXAMPLE)).await, 401, "unauthorized", None);

    let all = "/webhooks/lox24";
    assert_acknowledged(host.send(to(all, signed(EXAMPLE))).await);
    assert_acknowledged(host.send(to(all, signed(other))).await);
    assert_answer(&host.send(to(all, unsigned(EXAMPLE))).await, 401, "unauthorized", None);

    let list = fs::read_to_string(file).expect("the list");
    let whole = format!("\"{PHONE}\"");
    assert_eq!(list.lines().collect::<Vec<_>>(), ["", "\"+49111", &whole, &whole]);
}

/// A disk that takes no more, made by a limit of the shell: what cannot be written is no 200.
#[tokio::test]
async fn minimal_answers_500_while_it_cannot_store() {
    let folder = folder();
    let minimal = command("minimal", &folder, &[("WEBHOOK_SECRET", SECRET)]);
    let mut limited = Command::new("/bin/sh");
    limited.args(["-c", "trap '' XFSZ; ulimit -f 0; exec \"$0\""]).arg(minimal.get_program());
    limited.env_clear().current_dir(folder.path()).stdout(Stdio::piped()).stderr(Stdio::piped());
    limited.envs([("BIND_ADDR", "127.0.0.1:0"), ("WEBHOOK_SECRET", SECRET)]);
    let host = Program::run(&mut limited);
    assert_answer(&host.send(signed(EXAMPLE)).await, 500, "server_error", None);
}

#[tokio::test]
async fn an_existing_router_keeps_its_other_routes_open() {
    let folder = folder();
    let settings = [("WEBHOOK_SECRET", SECRET), ("WEBHOOK_SECRET_OLD", "old-secret")];
    let host = Program::start("existing_router", &folder, &settings);
    let kept = |folder_name: &str| files(&folder.path().join("data").join(folder_name));

    let health = Request::get("/health").body(Body::empty()).expect("a request");
    assert_eq!(host.send(health).await.body, "ok");
    let ping = Request::post("/webhooks/ping").body(Body::empty()).expect("a request");
    assert_eq!(host.send(ping).await.body, "pong");

    assert_answer(&host.send(unsigned(EXAMPLE)).await, 401, "unauthorized", None);
    assert_eq!(kept("unsubscribed").len(), 0);
    assert_acknowledged(host.send(signed(EXAMPLE)).await);
    assert_acknowledged(host.send(signed_by(&token("old-secret"), EXAMPLE)).await);
    assert_acknowledged(host.send(signed(r#"{"name":"sms.delivery"}"#)).await);
    let events = kept("unsubscribed");
    assert_eq!(events.len(), 1);
    assert_eq!(UnsubscribeEvent::from_slice(&events[0]).expect("an event"), common::example());

    // Four attempts of what cannot be read are refused, and leave one file.
    assert_eq!(kept("unreadable").len(), 0);
    let cut = &EXAMPLE[..200];
    for _ in 0..4 {
        assert_answer(&host.send(signed(cut)).await, 400, "not_json", None);
    }
    assert_eq!(kept("unreadable"), [cut]);
    let without_phone = Fields::example().without("/data/phone").text();
    let answer = host.send(signed(without_phone.clone())).await;
    assert_answer(&answer, 400, "missing_field", Some("/data/phone"));
    assert!(kept("unreadable").contains(&Bytes::from(without_phone)));
    // What a stranger sends is not kept.
    assert_answer(&host.send(unsigned("spam")).await, 401, "unauthorized", None);
    assert_eq!(kept("unreadable").len(), 2);
}

#[tokio::test]
async fn an_existing_router_checks_where_a_delivery_comes_from() {
    let folder = folder();
    let settings = |sources| [("WEBHOOK_SECRET", SECRET), ("WEBHOOK_SOURCES", sources)];
    let elsewhere = Program::start("existing_router", &folder, &settings("192.0.2.1,2001:db8::1"));
    assert_answer(&elsewhere.send(signed(EXAMPLE)).await, 403, "forbidden", None);
    // A header of the sender's own changes nothing.
    let mut forged = signed(EXAMPLE);
    forged.headers_mut().insert("x-forwarded-for", HeaderValue::from_static("192.0.2.1"));
    assert_answer(&elsewhere.send(forged).await, 403, "forbidden", None);
    let here = Program::start("existing_router", &folder, &settings("192.0.2.1, 127.0.0.1"));
    assert_acknowledged(here.send(signed(EXAMPLE)).await);
}

fn files(folder: &Path) -> Vec<Bytes> {
    let entries = fs::read_dir(folder).expect("the folder");
    let read = |entry: Result<fs::DirEntry, _>| fs::read(entry.expect("a file").path());
    entries.map(|entry| read(entry).expect("its content").into()).collect()
}

#[tokio::test]
async fn the_openapi_example_describes_its_webhook() {
    let folder = folder();
    let host = Program::start("openapi", &folder, &[("WEBHOOK_SECRET", SECRET)]);
    let open = |path: &str| Request::get(path).body(Body::empty()).expect("a request");

    let document = host.send(open("/openapi.json")).await;
    assert_eq!(document.status, 200);
    assert_eq!(common::header(&document, "content-type"), ["application/json"]);
    assert!(!document.body.contains(SECRET), "{}", document.body);
    let api: serde_json::Value = serde_json::from_str(&document.body).expect("JSON");
    let webhook = &api["paths"][PATH]["post"];
    let body = &webhook["requestBody"]["content"]["application/json"]["schema"];
    assert_eq!(body["$ref"], "#/components/schemas/AnyEvent");
    let schemas = &api["components"]["schemas"];
    assert_eq!(schemas["AnyEvent"]["oneOf"][0]["$ref"], "#/components/schemas/UnsubscribeEvent");
    assert_eq!(schemas["UnsubscribeEvent"]["properties"]["name"]["const"], "phone.unsubscribe");
    let answers: Vec<_> = webhook["responses"].as_object().expect("answers").keys().collect();
    assert_eq!(answers, ["200", "400", "401", "403", "500"]);

    // As the document says, the secret goes into this header.
    let demanded = webhook["security"][0].as_object().expect("a demand").keys().next();
    let scheme = &api["components"]["securitySchemes"][demanded.expect("a scheme")];
    let name: http::HeaderName = scheme["name"].as_str().expect("a name").parse().expect("it");
    let mut delivery = unsigned(EXAMPLE);
    delivery.headers_mut().insert(name, HeaderValue::from_static(SECRET));
    assert_acknowledged(host.send(delivery).await);
    assert_acknowledged(host.send(signed(r#"{"name":"sms.delivery"}"#)).await);
    assert_answer(&host.send(unsigned(EXAMPLE)).await, 401, "unauthorized", None);
    let list = fs::read_to_string(folder.path().join("unsubscribed.txt")).expect("the list");
    assert_eq!(list, format!("\n{PHONE:?}"));

    let page = host.send(open("/docs")).await;
    assert_eq!(common::header(&page, "content-type"), ["text/html; charset=utf-8"]);
    assert!(page.body.contains(r#"spec-url="/openapi.json""#), "{}", page.body);
    // What comes from elsewhere is pinned.
    let [scripts, hashes] = ["<script", "integrity=\"sha384-"].map(|word| page.body.matches(word));
    assert_eq!((scripts.count(), hashes.count()), (1, 1), "{}", page.body);
}

#[test]
fn the_openapi_example_keeps_its_demo_secret_to_itself() {
    let folder = folder();
    let mut everywhere = command("openapi", &folder, &[("BIND_ADDR", "0.0.0.0:0")]);
    let output = everywhere.output().expect("it runs");
    assert_eq!(output.status.code(), Some(1));
    let error = String::from_utf8(output.stderr).expect("UTF-8");
    assert!(error.contains("set WEBHOOK_SECRET"), "{error}");
}

/// Longer than any timeout under test: what takes as long hangs.
const PATIENCE: Duration = Duration::from_secs(20);

/// A connection on which a test says what no client would.
struct Wire(TcpStream);

impl Wire {
    async fn open(host: &Program, text: impl AsRef<[u8]>) -> Self {
        let mut wire = Self(TcpStream::connect(&host.address).await.expect("a connection"));
        wire.send(text).await;
        wire
    }

    async fn send(&mut self, text: impl AsRef<[u8]>) {
        self.0.write_all(text.as_ref()).await.expect("it is sent");
    }

    /// The next answer.
    async fn answer(&mut self) -> Answer {
        let mut head = String::new();
        while !head.ends_with("\r\n\r\n") {
            let byte = timeout(PATIENCE, self.0.read_u8()).await.expect("in time");
            head.push(char::from(byte.expect("an answer")));
        }
        let mut lines = head.trim_end().split("\r\n");
        let status = lines.next().and_then(|line| line.get(9..12)).expect("a status");
        let headers: Vec<(String, String)> = lines
            .map(|line| line.split_once(": ").expect("a header"))
            .map(|(name, value)| (name.to_owned(), value.to_owned()))
            .collect();
        let length = headers.iter().find(|(name, _)| name == "content-length").expect("a length");
        let mut body = vec![0; length.1.parse().expect("a number")];
        self.0.read_exact(&mut body).await.expect("a body");
        Answer {
            status: status.parse().expect("a number"),
            headers,
            body: String::from_utf8(body).expect("UTF-8"),
            rejection: None,
        }
    }

    /// Asserts that the host closes the connection without another word.
    async fn assert_closed(mut self) {
        let rest = timeout(PATIENCE, self.0.read_u8()).await.expect("it stays open");
        let closed = [io::ErrorKind::UnexpectedEof, io::ErrorKind::ConnectionReset];
        assert!(closed.contains(&rest.expect_err("nothing").kind()));
    }

    /// Asserts that the host says nothing, and does not close the connection.
    async fn assert_silent(&mut self) {
        let more = timeout(Duration::from_millis(200), self.0.read_u8()).await;
        assert!(more.is_err(), "{more:?}");
    }
}

/// A delivery as it goes over the wire, in two parts: the head, and the contract's example.
fn on_the_wire(token: &str) -> (String, &'static str) {
    let head = format!(
        "POST {PATH} HTTP/1.1\r\nHost: x\r\nX-LOX24-Token: {token}\r\nContent-Type: application/json\r\nContent-Length: {}\r\n\r\n",
        EXAMPLE.len(),
    );
    (head, EXAMPLE)
}

fn delivery() -> String {
    let (head, body) = on_the_wire(SECRET);
    head + body
}

/// The hardened host in a folder of its own.
fn hardened(settings: &[(&str, &str)]) -> (TempDir, Program) {
    let folder = folder();
    let settings = [&[("WEBHOOK_SECRET", SECRET)], settings].concat();
    let host = Program::start("hardened", &folder, &settings);
    (folder, host)
}

/// A refusal after which the connection is closed, because its body may be unread.
#[track_caller]
fn assert_last_answer(mut answer: Answer, status: u16, code: &str) {
    assert_eq!(common::header(&answer, "connection"), ["close"]);
    answer.headers.retain(|(name, _)| name != "connection");
    assert_answer(&answer, status, code, None);
}

#[tokio::test]
async fn the_hardened_host_keeps_each_unsubscribe_once() {
    let (folder, host) = hardened(&[]);
    for _ in 0..2 {
        assert_acknowledged(host.send(signed(EXAMPLE)).await);
    }
    assert_acknowledged(host.send(signed(r#"{"name":"sms.delivery"}"#)).await);
    assert_answer(&host.send(unsigned(EXAMPLE)).await, 401, "unauthorized", None);
    assert_answer(&host.send(signed("{")).await, 400, "not_json", None);
    let large = EXAMPLE.to_owned() + &" ".repeat(64 * 1024);
    assert_last_answer(host.send(signed(large)).await, 400, "body_too_large");

    let rows = stored(&folder);
    assert_eq!(rows.len(), 1);
    assert_eq!(rows[0].0, PHONE);
    let event: UnsubscribeEvent = serde_json::from_str(&rows[0].1).expect("an event");
    assert_eq!(event, common::example());
    assert!(host.stop("-INT").ends_with("Stopped.\n"));
}

#[tokio::test]
async fn the_hardened_host_does_not_wait_for_a_head() {
    let (_folder, host) = hardened(&[("HEAD_TIMEOUT", "1"), ("IDLE_TIMEOUT", "1")]);
    let start = Instant::now();
    let silent = Wire::open(&host, "").await;
    let in_the_head = Wire::open(&host, &delivery()[..50]).await;
    let mut idle = Wire::open(&host, delivery()).await;
    assert_acknowledged(idle.answer().await);
    for wire in [silent, in_the_head, idle] {
        wire.assert_closed().await;
    }
    assert!(start.elapsed() >= Duration::from_millis(950));
}

#[tokio::test]
async fn the_hardened_host_answers_a_slow_body_in_time() {
    let (folder, host) = hardened(&[("BODY_TIMEOUT", "1")]);
    let (head, body) = on_the_wire(SECRET);
    let mut unfinished = Wire::open(&host, head.clone() + &body[..100]).await;
    assert_last_answer(unfinished.answer().await, 400, "body_incomplete");
    unfinished.assert_closed().await;

    // For the body as a whole: no pause between two bytes is long.
    let (mut answers, mut bytes) =
        TcpStream::connect(&host.address).await.expect("it").into_split();
    let drip = tokio::spawn(async move {
        bytes.write_all(head.as_bytes()).await?;
        for byte in body.as_bytes() {
            sleep(Duration::from_millis(20)).await;
            bytes.write_all(&[*byte]).await?;
        }
        io::Result::Ok(())
    });
    let mut answer = [0; 12];
    timeout(PATIENCE, answers.read_exact(&mut answer)).await.expect("in time").expect("an answer");
    assert_eq!(&answer, b"HTTP/1.1 400");
    drip.abort();
    assert_eq!(stored(&folder), []);
}

#[tokio::test]
async fn the_hardened_host_discards_a_refused_body_in_time() {
    let (_folder, host) = hardened(&[("BODY_TIMEOUT", "1")]);
    let (head, body) = on_the_wire("wrong");
    let mut unfinished = Wire::open(&host, head.clone() + &body[..100]).await;
    unfinished.assert_silent().await;
    assert_last_answer(unfinished.answer().await, 401, "unauthorized");
    unfinished.assert_closed().await;
    // The next request on the connection of a refused one is read where that one ends.
    let mut kept = Wire::open(&host, head + body + &delivery()).await;
    assert_answer(&kept.answer().await, 401, "unauthorized", None);
    assert_acknowledged(kept.answer().await);
}

#[tokio::test]
async fn the_hardened_host_keeps_idle_connections_longer_than_heads() {
    let (_folder, host) = hardened(&[("HEAD_TIMEOUT", "1"), ("BODY_TIMEOUT", "60")]);
    let mut idle = Wire::open(&host, delivery()).await;
    assert_acknowledged(idle.answer().await);
    sleep(Duration::from_millis(1500)).await;
    idle.send(delivery()).await;
    assert_acknowledged(idle.answer().await);
}

/// A refused body is stored as it came, and its number put on the list; an `id` with another number is
/// another row.
#[tokio::test]
async fn the_hardened_host_loses_no_opt_out() {
    let (folder, host) = hardened(&[]);
    let refused = EXAMPLE.replace("\"id\": 4", "\"id\": 7");
    for _ in 0..2 {
        let answer = host.send(signed(refused.clone())).await;
        let pointer = Some("/data/additional_data/reason/id");
        assert_answer(&answer, 400, "invalid_field", pointer);
    }
    assert_answer(&host.send(signed("{")).await, 400, "not_json", None);
    let other = EXAMPLE.replace(PHONE, "+4922222222222");
    assert_acknowledged(host.send(signed(other)).await);
    let query = |sql: &str| {
        let path = folder.path().join("unsubscribed.db");
        let database = rusqlite::Connection::open(path).expect("it");
        let mut query = database.prepare(sql).expect("a table");
        let rows = query.query_map([], |row| row.get::<_, String>(0)).expect("rows");
        rows.collect::<Result<Vec<_>, _>>().expect("texts")
    };
    assert_eq!(query("SELECT phone FROM unsubscribed ORDER BY phone"), [PHONE, "+4922222222222"]);
    assert_eq!(query("SELECT CAST(body AS TEXT) FROM unreadable ORDER BY body"), ["{", &refused]);
}

/// What unauthenticated clients can cause is in the log, but does not fill it.
#[tokio::test]
async fn the_hardened_host_logs_refusals_once_a_minute() {
    let (_folder, mut host) = hardened(&[]);
    for _ in 0..20 {
        assert_answer(&host.send(unsigned(EXAMPLE)).await, 401, "unauthorized", None);
        let path = "/prefix/webhooks/unsubscribe?key=s3cr3t";
        assert_eq!(host.send(to(path, signed(EXAMPLE))).await.status, 404);
    }
    assert_eq!(host.send(to("/health", Request::new(Body::empty()))).await.status, 200);
    host.signal("-TERM");
    let mut log = String::new();
    host.child.stderr.take().expect("its log").read_to_string(&mut log).expect("text");
    assert_eq!(log.lines().count(), 2, "{log}");
    assert!(log.contains("401") && log.contains("path=\"/prefix/webhooks/unsubscribe\""), "{log}");
}

#[tokio::test]
async fn the_hardened_host_answers_500_when_storing_takes_too_long() {
    let (folder, host) = hardened(&[]);
    let database = rusqlite::Connection::open(folder.path().join("unsubscribed.db")).expect("it");
    database.execute_batch("BEGIN IMMEDIATE").expect("a lock");
    assert_answer(&host.send(signed(EXAMPLE)).await, 500, "server_error", None);
    database.execute_batch("ROLLBACK").expect("no lock");
    assert_acknowledged(host.send(signed(EXAMPLE)).await);
    assert_eq!(stored(&folder).len(), 1);
}

#[tokio::test]
async fn the_hardened_host_answers_500_while_it_cannot_store() {
    let (folder, host) = hardened(&[]);
    let database = rusqlite::Connection::open(folder.path().join("unsubscribed.db")).expect("it");
    database.execute("ALTER TABLE unsubscribed RENAME TO gone", []).expect("renamed");
    assert_answer(&host.send(signed(EXAMPLE)).await, 500, "server_error", None);
    database.execute("ALTER TABLE gone RENAME TO unsubscribed", []).expect("renamed");
    assert_acknowledged(host.send(signed(EXAMPLE)).await);
    assert_eq!(stored(&folder).len(), 1);
}

#[tokio::test]
async fn the_hardened_host_gives_the_places_of_silent_connections_to_newcomers() {
    let (_folder, host) = hardened(&[("MAX_CONNECTIONS", "3"), ("HEAD_TIMEOUT", "60")]);
    let (head, body) = on_the_wire(SECRET);
    let mut under_way = Wire::open(&host, head + &body[..100]).await;
    under_way.assert_silent().await;
    let oldest = Wire::open(&host, &delivery()[..50]).await;
    let mut youngest = Wire::open(&host, "").await;
    youngest.assert_silent().await;

    let mut delivered = Wire::open(&host, delivery()).await;
    assert_last_acknowledged(delivered.answer().await);
    oldest.assert_closed().await;
    youngest.assert_silent().await;
    under_way.send(&body[100..]).await;
    assert_acknowledged(under_way.answer().await);
    youngest.assert_silent().await;
}

/// It says that it closes the connection, because others may wait for the place.
#[track_caller]
fn assert_last_acknowledged(mut answer: Answer) {
    assert_eq!(common::header(&answer, "connection"), ["close"]);
    answer.headers.retain(|(name, _)| name != "connection");
    assert_acknowledged(answer);
}

#[tokio::test]
async fn the_hardened_host_lets_a_newcomer_wait_for_a_request_under_way() {
    let (folder, host) = hardened(&[("MAX_CONNECTIONS", "1"), ("HEAD_TIMEOUT", "60")]);
    let (head, body) = on_the_wire(SECRET);
    let mut under_way = Wire::open(&host, head + &body[..100]).await;
    under_way.assert_silent().await;
    let mut newcomer = Wire::open(&host, delivery()).await;
    newcomer.assert_silent().await;
    under_way.send(&body[100..]).await;
    assert_last_acknowledged(under_way.answer().await);
    assert_last_acknowledged(newcomer.answer().await);
    under_way.assert_closed().await;
    assert_eq!(stored(&folder).len(), 1);
}

#[tokio::test]
async fn the_hardened_host_survives_a_lack_of_descriptors() {
    let folder = folder();
    let hardened = command("hardened", &folder, &[]);
    let mut limited = Command::new("/bin/sh");
    limited.args(["-c", "ulimit -n 32; exec \"$0\""]).arg(hardened.get_program());
    limited.env_clear().current_dir(folder.path()).stdout(Stdio::piped()).stderr(Stdio::null());
    limited.envs([("BIND_ADDR", "127.0.0.1:0"), ("WEBHOOK_SECRET", SECRET)]);
    let host = Program::run(limited.env("HEAD_TIMEOUT", "60"));
    let mut silent = Vec::new();
    for _ in 0..50 {
        silent.push(Wire::open(&host, "").await);
    }
    assert_acknowledged(Wire::open(&host, delivery()).await.answer().await);
    assert_eq!(stored(&folder).len(), 1);
}

#[tokio::test]
async fn the_hardened_host_answers_who_has_nothing_more_to_say() {
    let (_folder, host) = hardened(&[]);
    let mut half_closed = Wire::open(&host, delivery()).await;
    half_closed.0.shutdown().await.expect("half of it is closed");
    assert_acknowledged(half_closed.answer().await);
    half_closed.assert_closed().await;
}

#[tokio::test]
async fn the_hardened_host_stops_when_the_requests_under_way_are_answered() {
    let (folder, host) = hardened(&[("HEAD_TIMEOUT", "60")]);
    let (head, body) = on_the_wire(SECRET);
    let mut under_way = Wire::open(&host, head + &body[..100]).await;
    under_way.assert_silent().await;
    // Nothing was asked here, so nobody waits for it.
    let in_the_head = Wire::open(&host, &delivery()[..50]).await;
    let mut idle = Wire::open(&host, delivery()).await;
    assert_acknowledged(idle.answer().await);

    host.signal("-TERM");
    in_the_head.assert_closed().await;
    idle.assert_closed().await;
    let refused = TcpStream::connect(&host.address).await.expect_err("it listens no more");
    assert_eq!(refused.kind(), io::ErrorKind::ConnectionRefused);
    under_way.assert_silent().await;
    under_way.send(&body[100..]).await;
    assert_last_acknowledged(under_way.answer().await);
    drop(under_way);
    assert!(host.end().ends_with("Stopped.\n"));
    assert_eq!(stored(&folder).len(), 1);
}

#[tokio::test]
async fn the_hardened_host_stops_in_time() {
    let (_folder, host) = hardened(&[("SHUTDOWN_TIMEOUT", "1"), ("BODY_TIMEOUT", "19")]);
    let (head, body) = on_the_wire(SECRET);
    let mut under_way = Wire::open(&host, head + &body[..100]).await;
    under_way.assert_silent().await;
    let start = Instant::now();
    assert!(host.stop("-TERM").ends_with("Stopped.\n"));
    assert!(start.elapsed() < Duration::from_secs(15), "{:?}", start.elapsed());
    under_way.assert_closed().await;
}

#[test]
fn the_hardened_host_refuses_settings_it_cannot_follow() {
    let folder = folder();
    let secret = ("WEBHOOK_SECRET", SECRET);
    for (settings, why) in [
        (&[][..], "the secret is empty"),
        (&[("WEBHOOK_SECRET", "s3cr3t\n")], "the secret ends with a line break"),
        (&[secret, ("HEAD_TIMEOUT", "0")], "HEAD_TIMEOUT takes a whole number from 1"),
        (&[secret, ("BODY_TIMEOUT", "-1")], "BODY_TIMEOUT takes a whole number from 1"),
        (&[secret, ("SHUTDOWN_TIMEOUT", "soon")], "SHUTDOWN_TIMEOUT takes a whole number from 1"),
        (&[secret, ("MAX_CONNECTIONS", "65536")], "MAX_CONNECTIONS takes a whole number from 1"),
        (&[secret, ("RUST_LOG", "debug,x=loud")], "RUST_LOG"),
        (&[secret, ("BIND_ADDR", "nowhere")], "BIND_ADDR"),
        (&[secret, ("DATABASE_PATH", "")], "it is not a file"),
        (&[secret, ("DATABASE_PATH", ":memory:")], "it is not a file"),
        (&[secret, ("DATABASE_PATH", "no/such/folder.db")], "DATABASE_PATH"),
    ] {
        let output = command("hardened", &folder, settings).output().expect("it runs");
        assert_eq!(output.status.code(), Some(1), "{settings:?}");
        let error = String::from_utf8(output.stderr).expect("UTF-8");
        assert!(error.contains(why), "{settings:?}: {error}");
        assert!(!error.contains("s3cr3t") && !error.contains(SECRET), "{error}");
    }
}
