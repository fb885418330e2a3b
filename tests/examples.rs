//! The example hosts as a person runs them: as processes, over a real socket.

mod common;

use std::{
    fs,
    io::{BufRead, BufReader, Read},
    path::Path,
    process::{Child, ChildStdout, Command, Stdio},
};

use axum::{
    body::{Body, Bytes},
    extract::Request,
};
use common::{
    Answer, EXAMPLE, Fields, SECRET, assert_received, assert_refused_on_the_wire, detail, program,
    read, signed, signed_by, token, unsigned,
};
use http::HeaderValue;
use hyper_util::{client::legacy::Client, rt::TokioExecutor};
use tempfile::TempDir;
use unsubscribe_webhook::UnsubscribeEvent;

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
        Self::run(command(name, folder, settings))
    }

    fn run(mut command: Command) -> Self {
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

    async fn suppressed(&self, phone: &str) -> String {
        let answer = self.send(get(&format!("/suppressed/{phone}"), SECRET)).await;
        assert_eq!(answer.status, 200);
        answer.body
    }

    /// Stops it as a person or a supervisor does, and returns the rest of what it printed.
    fn stop(mut self, signal: &str) -> String {
        let pid = self.child.id().to_string();
        let kill = format!("kill {signal} {pid}"); // the shell's own: there may be no other
        assert!(Command::new("sh").args(["-c", &kill]).status().expect("a shell").success());
        assert!(self.child.wait().expect("its end").success(), "after {signal}");
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
    token(secret).sign(&mut request);
    request
}

fn to(path: &str, mut request: Request) -> Request {
    *request.uri_mut() = path.parse().expect("a path");
    request
}

#[track_caller]
fn assert_answer(answer: &Answer, status: u16, code: &str, pointer: Option<&str>) {
    assert_refused_on_the_wire(answer, code, pointer, detail(code, pointer));
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
    let demo = signed_by(&token("demo-secret"), EXAMPLE);
    assert_acknowledged(host.send(demo).await);

    let address = host.address.clone();
    let printed = host.stop("-TERM");
    let command = format!(
        "  curl -i http://{address}/webhooks/unsubscribe -H 'X-LOX24-Token: demo-secret' \\\n    -H 'Content-Type: application/json' --data @examples/event.json\n"
    );
    assert!(printed.contains(&command), "{printed}");
    assert!(printed.contains(&format!("curl -i http://{address}/suppressed/{PHONE} -H ")));
    assert!(printed.contains("Account       any"));
}

#[test]
fn the_quickstart_refuses_settings_it_cannot_follow() {
    let folder = folder();
    for (settings, why) in [
        (&[("WEBHOOK_SECRET", "")][..], "the secret is empty"),
        (&[("WEBHOOK_SECRET", "s3cr3t\n")], "the secret ends with a line break"),
        (&[("WEBHOOK_ACCOUNT", "")], "WEBHOOK_ACCOUNT is no integer"),
        (&[("WEBHOOK_ACCOUNT", "two")], "WEBHOOK_ACCOUNT is no integer"),
        (&[("BIND_ADDR", "nowhere")], "cannot listen on nowhere"),
        (&[("DATABASE_PATH", "no/such/folder.db")], "cannot open no/such/folder.db"),
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
    let host = Program::run(limited);
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
