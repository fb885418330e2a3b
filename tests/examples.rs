//! The examples as a person runs them: as processes, over the network.
//! Its signals are those of Unix.
#![cfg(unix)]

mod common;
#[path = "common/process.rs"]
mod process;

use std::{
    collections::BTreeSet,
    fmt::Write,
    fs,
    io::{self, BufRead, BufReader},
    path::Path,
    process::{Command, Stdio},
    time::{Duration, Instant},
};

use axum::{body::Body, extract::Request};
use common::{
    EXAMPLE, Fields, PATH, Reply, SECRET, assert_received, assert_refused_over_network,
    authenticated, authenticated_by, program, token, unauthenticated,
};
use futures_util::future::join_all;
use http::HeaderValue;
use process::{PATIENCE, Program, Wire, command, folder};
use rusqlite::types::FromSql;
use tempfile::TempDir;
use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    net::TcpStream,
    time::{sleep, timeout},
};
use unsubscribe_webhook::{UnsubscribeEvent, testing::conformance};

const PHONE: &str = "+4911113333444";
const OTHER_PHONE: &str = "+4911155559999";
const OTHER_EVENT: &str = r#"{"name":"sms.delivery"}"#;

/// What a host has stored in its folder.
#[derive(Default)]
struct Stored {
    numbers: BTreeSet<String>,
    events: Vec<UnsubscribeEvent>,
    refused: BTreeSet<Vec<u8>>,
}

type Host = (&'static str, fn(&Path) -> Stored);

const HOSTS: [Host; 4] = [
    ("minimal", lines),
    ("quickstart", |folder| tables(folder, "suppression_list")),
    ("existing_router", files),
    ("hardened", |folder| tables(folder, "unsubscribed")),
];

/// The file of `minimal`, without what a full disk has cut short.
fn lines(folder: &Path) -> Stored {
    let list = fs::read_to_string(folder.join("unsubscribed.txt")).unwrap_or_default();
    let numbers = list.lines().filter_map(|line| serde_json::from_str(line).ok());
    Stored { numbers: numbers.collect(), ..Stored::default() }
}

/// The database of `quickstart` or `hardened`.
fn tables(folder: &Path, list: &str) -> Stored {
    Stored {
        numbers: rows(folder, &format!("SELECT phone FROM {list}")).into_iter().collect(),
        events: events(folder),
        refused: rows(folder, "SELECT body FROM refused").into_iter().collect(),
    }
}

fn events(folder: &Path) -> Vec<UnsubscribeEvent> {
    let events = "SELECT event FROM unsubscribed WHERE event NOT NULL ORDER BY phone";
    let events: Vec<String> = rows(folder, events);
    events.iter().map(|event| serde_json::from_str(event).expect("an event")).collect()
}

fn rows<T: FromSql>(folder: &Path, query: &str) -> Vec<T> {
    let database = database(folder);
    let mut query = database.prepare(query).expect("a table");
    let rows = query.query_map([], |row| row.get(0)).expect("rows");
    rows.collect::<Result<_, _>>().expect("values")
}

fn database(folder: &Path) -> rusqlite::Connection {
    rusqlite::Connection::open(folder.join("unsubscribed.db")).expect("a database")
}

/// The files of `existing_router`.
fn files(folder: &Path) -> Stored {
    let mut stored = Stored { refused: contents(folder, "refused").collect(), ..Stored::default() };
    for file in contents(folder, "unsubscribed") {
        let json: serde_json::Value = serde_json::from_slice(&file).expect("JSON");
        stored.numbers.extend(json["data"]["phone"].as_str().map(str::to_owned));
        stored.events.extend(UnsubscribeEvent::from_slice(&file));
    }
    stored.events.sort_by_key(|event| event.data.phone.clone());
    stored
}

fn contents(folder: &Path, name: &str) -> impl Iterator<Item = Vec<u8>> {
    let entries = fs::read_dir(folder.join("data").join(name)).expect("the folder");
    entries.map(|entry| fs::read(entry.expect("a file").path()).expect("its content"))
}

fn start(name: &str, folder: &TempDir, settings: &[(&str, &str)]) -> Program {
    Program::start(name, folder, &[&[("WEBHOOK_SECRET", SECRET)], settings].concat())
}

/// The hardened host in a folder of its own.
fn hardened(settings: &[(&str, &str)]) -> (TempDir, Program) {
    let folder = folder();
    let host = start("hardened", &folder, settings);
    (folder, host)
}

/// Whether a number is on the list, as the quickstart's own route says.
async fn suppresses(host: &Program, phone: &str) -> bool {
    let mut path = "/suppressed/".to_owned();
    for byte in phone.bytes() {
        write!(path, "%{byte:02X}").expect("a string has room");
    }
    let reply = host.send(get(&path, SECRET)).await;
    let bodies = [false, true].map(|yes| format!(r#"{{"phone":"{phone}","suppressed":{yes}}}"#));
    assert!(bodies.contains(&reply.body), "{reply:?}");
    reply.body == bodies[1]
}

fn get(path: &str, secret: &str) -> Request {
    let mut request = to(path, Request::new(Body::empty()));
    token(secret).apply_to(&mut request);
    request
}

fn to(path: &str, mut request: Request) -> Request {
    *request.uri_mut() = path.parse().expect("a path");
    request
}

#[track_caller]
fn assert_acknowledged(mut reply: Reply) {
    reply.headers.retain(|(name, _)| name != "date");
    assert_received(&reply);
}

/// Asserts that a response says that it is the last one of its connection, and returns the rest.
#[track_caller]
fn last_of_connection(mut reply: Reply) -> Reply {
    assert_eq!(common::header(&reply, "connection"), ["close"]);
    reply.headers.retain(|(name, _)| name != "connection");
    reply
}

#[tokio::test]
async fn every_host_passes_the_suite() {
    for (name, read) in HOSTS {
        let folder = folder();
        let host = start(name, &folder, &[("WEBHOOK_ACCOUNT", "3")]);
        let mut suite = conformance(host.app(), PATH, &token(SECRET))
            .over_network()
            .acknowledges_other_events();
        match name {
            "quickstart" => suite = suite.accounts([3]),
            "hardened" => suite = suite.body_limit(64 * 1024),
            _ => {}
        }
        let list = async move |phone: &str| match name {
            "quickstart" => suppresses(&host, phone).await,
            _ => read(folder.path()).numbers.contains(phone),
        };
        suite.suppressed(list).await.assert_passed();
    }
}

/// Beyond what the suite sees: what is stored, how often, and what the log says of it.
#[tokio::test]
async fn every_host_stores_each_delivery_once() {
    let fields = |phone: &str| Fields::example().with("/data/phone", &format!("{phone:?}"));
    let latin_1 = fields("+491115555002").with("/data/campaign_code", r#""gr@n""#).json();
    let latin_1 = latin_1.bytes().map(|byte| if byte == b'@' { 0xfc } else { byte }).collect();
    // The code of each refusal, and its number if it can be read.
    let without_code = fields("+491115555001").without("/data/campaign_code").json();
    let refused: [(&str, Vec<u8>, Option<&str>); 5] = [
        ("missing_field", without_code.into(), Some("+491115555001")),
        ("not_json", latin_1, Some("+491115555002")),
        ("content_type", fields("+491115555003").json().into(), Some("+491115555003")),
        ("invalid_field", Fields::example().with("/data/phone", "49111").json().into(), None),
        ("not_json", EXAMPLE[..20].into(), None),
    ];
    let opt_outs = || refused.iter().filter_map(|(_, _, phone)| phone.map(str::to_owned));
    let mut expected_numbers: BTreeSet<String> = opt_outs().collect();
    expected_numbers.extend([PHONE, OTHER_PHONE].map(str::to_owned));
    let expected_bodies: BTreeSet<_> = refused.iter().map(|(_, body, _)| body.clone()).collect();
    let other = EXAMPLE.replace(PHONE, OTHER_PHONE);
    let expected_events = [EXAMPLE, &other].map(|body| serde_json::from_str(body).expect("one"));

    for (name, read) in HOSTS {
        let folder = folder();
        let host = start(name, &folder, &[]);
        // As the provider's page writes the total; and the same id with another number.
        let of_page = EXAMPLE.replace("attempts_total", "attempt_total");
        for body in [EXAMPLE, EXAMPLE, &of_page, &other, OTHER_EVENT] {
            assert_acknowledged(host.send(authenticated(body.to_owned())).await);
        }
        for (code, body, _) in &refused {
            let mut request = authenticated(body.clone());
            if *code == "content_type" {
                let text = HeaderValue::from_static("text/plain");
                request.headers_mut().insert("content-type", text);
            }
            let reply = host.send(request).await;
            let problem: serde_json::Value = serde_json::from_str(&reply.body).expect("a problem");
            assert_refused_over_network(&reply, code, problem["pointer"].as_str());
        }
        let wrong = host.send(authenticated_by(&token("wrong"), "spam")).await;
        assert_refused_over_network(&wrong, "unauthorized", None);
        let log = host.log();
        let kept = log.matches("its opt-out is kept").count();
        assert_eq!(kept, opt_outs().count(), "{name}: {log}");

        let _restarted = start(name, &folder, &[]);
        let stored = read(folder.path());
        assert_eq!(stored.numbers, expected_numbers, "{name}");
        if name != "minimal" {
            assert_eq!(stored.events, expected_events, "{name}");
            assert_eq!(stored.refused, expected_bodies, "{name}");
        }
    }
}

/// A backup, say, holds the write lock: deliveries fail in time, and lookups do not wait at all.
#[tokio::test]
async fn a_host_responds_with_500_while_it_cannot_store() {
    for name in ["quickstart", "hardened"] {
        let folder = folder();
        let host = start(name, &folder, &[]);
        assert_acknowledged(host.send(authenticated(EXAMPLE)).await);
        let database = database(folder.path());
        database.execute_batch("BEGIN IMMEDIATE").expect("a lock");
        let start = Instant::now();
        let deliver = async |body| {
            let reply = host.send(authenticated(body)).await;
            assert_refused_over_network(&reply, "server_error", None);
            start.elapsed()
        };
        let look_up = async {
            sleep(Duration::from_millis(200)).await;
            assert!(name == "hardened" || suppresses(&host, PHONE).await);
            start.elapsed()
        };
        let bodies = [[EXAMPLE, "{"]; 4].concat();
        let (delivered, looked_up) =
            tokio::join!(join_all(bodies.into_iter().map(deliver)), look_up);
        assert!(looked_up < Duration::from_millis(900), "{looked_up:?}");
        assert!(delivered.iter().all(|took| *took < Duration::from_secs(7)), "{delivered:?}");
        database.execute_batch("ROLLBACK").expect("no lock");
        assert_acknowledged(host.send(authenticated(EXAMPLE)).await);
        assert_eq!(host.send(authenticated("{")).await.status, 400);
    }
}

#[tokio::test]
async fn a_host_stops_although_requests_are_unfinished() {
    let short = [("SHUTDOWN_TIMEOUT", "1"), ("BODY_TIMEOUT", "19")];
    for (name, settings) in [("quickstart", &[][..]), ("hardened", &short)] {
        let folder = folder();
        let host = start(name, &folder, settings);
        let mut wires = Vec::new();
        for text in [&delivery()[..50], &head(SECRET), &head("wrong")] {
            let mut wire = Wire::open(&host, text).await;
            wire.assert_silent().await;
            wires.push(wire);
        }
        let start = Instant::now();
        assert!(host.stop("-TERM").ends_with("Stopped.\n"));
        assert!(start.elapsed() < Duration::from_secs(10), "{name}: {:?}", start.elapsed());
        for wire in wires {
            wire.assert_closed().await;
        }
    }
}

#[tokio::test]
async fn the_list_of_the_quickstart_is_not_public() {
    let folder = folder();
    let debug = ("RUST_LOG", "info,unsubscribe_webhook=debug");
    let host = start("quickstart", &folder, &[debug]);
    assert!(!suppresses(&host, PHONE).await);
    for _ in 0..2 {
        assert_acknowledged(host.send(authenticated(EXAMPLE)).await);
    }
    let path = format!("/suppressed/{PHONE}");
    assert_eq!(host.send(get(&path, SECRET)).await.status, 200);
    let reply = host.send(get(&path, "wrong")).await;
    assert_refused_over_network(&reply, "unauthorized", None);
    // The health check has no personal data.
    assert_eq!(host.send(get("/health", "wrong")).await.body, "ok");
    let log = host.log();
    for (line, count) in [("Event stored before. id=", 1), ("Delivery accepted. outcome=", 2)] {
        assert_eq!(log.matches(line).count(), count, "{log}");
    }
}

const SED: &str = "sed 's/\"id\": 4/\"id\": 7/; s/13333444/15555555/'";

#[tokio::test]
async fn the_quickstart_prints_what_to_try() {
    for (account, statuses) in [
        (None, ["(200)", "(true)", "(400, but its number is on the list)"]),
        (Some("7"), ["(403: account 2)", "(false)", "(400)"]),
    ] {
        let folder = folder();
        let settings: Vec<_> = account.iter().map(|it| ("WEBHOOK_ACCOUNT", *it)).collect();
        let host = Program::start("quickstart", &folder, &settings);
        let broken = EXAMPLE.replacen("\"id\": 4", "\"id\": 7", 1).replace("13333444", "15555555");
        for (body, expected) in [(EXAMPLE, statuses[0]), (&broken, statuses[2])] {
            let reply = host.send(authenticated_by(&token("demo-secret"), body.to_owned())).await;
            assert!(expected.contains(&reply.status.to_string()), "{expected}: {reply:?}");
        }
        let is_empty = tables(folder.path(), "suppression_list").numbers.is_empty();
        assert_eq!(is_empty, account == Some("7"));

        let url = format!("http://{}", host.address);
        let printed = host.stop("-INT");
        let [delivered, listed, broken] = statuses;
        for part in [
            format!("Account       {}", account.unwrap_or("any")),
            format!("deliver an example {delivered}:\n  curl -i {url}{PATH} \\\n"),
            format!("on the list {listed}:\n  curl {url}/suppressed/{PHONE} \\\n"),
            format!("Break a field {broken}:\n  {SED} examples/event.json |\n"),
        ] {
            assert!(printed.contains(&part), "{part}: {printed}");
        }
        // Ports have five digits at most.
        let widest = printed.lines().map(|line| line.chars().count()).max();
        assert!(widest <= Some(80), "{widest:?}: {printed}");
    }
}

#[test]
fn the_quickstart_has_help_and_takes_no_other_argument() {
    let folder = folder();
    let output = command("quickstart", &folder, &[]).arg("--help").output().expect("it runs");
    assert!(output.status.success());
    let help = String::from_utf8(output.stdout).expect("UTF-8");
    assert!(help.lines().all(|line| line.len() <= 80), "{help}");
    for name in ["WEBHOOK_SECRET", "WEBHOOK_ACCOUNT", "BIND_ADDR", "DATABASE_PATH", "RUST_LOG"] {
        assert!(help.contains(&format!("\n  {name} ")), "{help}");
    }
    for argument in ["--port=3000", "s3cr3t", ""] {
        let error = error_at_start(command("quickstart", &folder, &[]).arg(argument));
        assert!(error.contains("try --help"), "{error}");
    }
}

/// A slash too many, a prefix, a redirect that made it a GET.
#[tokio::test]
async fn a_wrong_path_or_method_is_logged_without_the_query() {
    let folder = folder();
    for (name, logged) in [
        ("quickstart", " WARN unsubscribe_webhook: No handler"),
        ("existing_router", " WARN existing_router: No handler"),
    ] {
        let host = start(name, &folder, &[]);
        for (path, method, status) in [
            ("/webhooks/unsubscribe/", "POST", 404),
            ("/webhooks/lox24/unsubscribe", "POST", 404),
            (PATH, "GET", 405),
        ] {
            let mut request = to(&format!("{path}?token={SECRET}"), authenticated(EXAMPLE));
            *request.method_mut() = method.parse().expect("a method");
            assert_eq!(host.send(request).await.status, status);
        }
        let log = host.log();
        assert_eq!(log.matches(logged).count(), 3, "{log}");
    }
}

fn error_at_start(command: &mut Command) -> String {
    let mut child = command.spawn().expect("it runs");
    let mut printed = String::new();
    let mut stdout = BufReader::new(child.stdout.take().expect("its output"));
    stdout.read_line(&mut printed).expect("its output");
    let _ = child.kill(); // one that starts does not end
    let error = child.wait_with_output().expect("its end").stderr;
    let error = String::from_utf8(error).expect("UTF-8");
    assert!(printed.is_empty() && !error.contains("s3cr3t"), "{printed}: {error}");
    error
}

#[test]
fn a_host_does_not_start_with_invalid_settings() {
    let folder = folder();
    fs::write(folder.path().join("file"), "no database and no folder").expect("a file");
    for name in ["quickstart", "hardened"] {
        drop(start(name, &folder, &[("DATABASE_PATH", name)]));
    }
    let no_folder = "DATA_DIR must be a folder that can be written";
    for (names, setting, value, why) in [
        ("quickstart hardened", "WEBHOOK_SECRET", "", "the secret is empty"),
        ("quickstart hardened", "WEBHOOK_SECRET", "s3cr3t\n", "the secret ends with a line break"),
        ("quickstart hardened", "DATABASE_PATH", "", "it is not a file"),
        ("quickstart hardened", "DATABASE_PATH", ":memory:", "it is not a file"),
        ("quickstart", "DATABASE_PATH", "file:x?mode=memory", "it is not a file"),
        ("quickstart", "DATABASE_PATH", "file:quickstart?mode=ro", "it is read-only"),
        ("hardened", "DATABASE_PATH", "file:hardened?mode=ro", "it is read-only"),
        ("quickstart hardened", "DATABASE_PATH", "no/x.db", "DATABASE_PATH"),
        ("quickstart", "DATABASE_PATH", "file", "file is not a database"),
        ("quickstart hardened", "RUST_LOG", "debug,x=loud", "RUST_LOG"),
        ("quickstart hardened", "BIND_ADDR", "nowhere", "BIND_ADDR"),
        ("quickstart", "WEBHOOK_ACCOUNT", "", "WEBHOOK_ACCOUNT is not an integer"),
        ("quickstart", "WEBHOOK_ACCOUNT", "two", "WEBHOOK_ACCOUNT is not an integer"),
        ("hardened", "HEAD_TIMEOUT", "0", "HEAD_TIMEOUT takes a whole number from 1"),
        ("hardened", "SHUTDOWN_TIMEOUT", "soon", "SHUTDOWN_TIMEOUT takes a whole number from 1"),
        ("hardened", "MAX_CONNECTIONS", "65536", "MAX_CONNECTIONS takes a whole number from 1"),
        ("existing_router", "DATA_DIR", "file", no_folder),
        ("existing_router", "DATA_DIR", "/proc/self", no_folder),
        ("existing_router", "WEBHOOK_SECRET", "s3cr3t ", "starts or ends with whitespace"),
        ("existing_router", "WEBHOOK_SOURCES", "", "WEBHOOK_SOURCES"),
    ] {
        for name in names.split(' ') {
            let settings = [("WEBHOOK_SECRET", "s3cr3t"), (setting, value)];
            let error = error_at_start(&mut command(name, &folder, &settings));
            assert!(error.contains(why), "{name}: {setting}={value}: {error}");
        }
    }
    let public = [("BIND_ADDR", "0.0.0.0:0")];
    let error = error_at_start(&mut command("quickstart", &folder, &public));
    assert!(error.contains("the demo secret is public"), "{error}");
}

/// A host under a limit of the shell.
fn limited(limit: &str, name: &str, folder: &TempDir) -> Command {
    let mut limited = Command::new("/bin/sh");
    limited.args(["-c", &format!("{limit}; exec \"$0\"")]).arg(program(name));
    limited.env_clear().current_dir(folder.path()).stdout(Stdio::piped()).stderr(Stdio::piped());
    limited.envs([("BIND_ADDR", "127.0.0.1:0"), ("WEBHOOK_SECRET", SECRET)]);
    limited
}

#[tokio::test]
async fn a_full_disk_is_a_500_or_prevents_the_start() {
    let folder = folder();
    let full = "trap '' XFSZ; ulimit -f 0";
    let host = Program::run(&mut limited(full, "minimal", &folder));
    let reply = host.send(authenticated(EXAMPLE)).await;
    assert_refused_over_network(&reply, "server_error", None);

    let error = error_at_start(&mut limited(full, "existing_router", &folder));
    assert!(error.contains("DATA_DIR must be a folder that can be written"), "{error}");
}

#[tokio::test]
async fn what_a_crash_has_left_does_no_harm() {
    let folder = folder();
    let unfinished = folder.path().join("data/unfinished");
    fs::create_dir_all(&unfinished).expect("a folder");
    fs::write(unfinished.join(".tmp1"), "half an event").expect("a file");
    fs::write(folder.path().join("unsubscribed.txt"), "\n\"+49111").expect("the list");
    for (name, read) in [HOSTS[0], HOSTS[2]] {
        let host = start(name, &folder, &[]);
        assert_acknowledged(host.send(authenticated(EXAMPLE)).await);
        assert_eq!(read(folder.path()).numbers, BTreeSet::from([PHONE.to_owned()]), "{name}");
    }
    assert_eq!(contents(folder.path(), "unfinished").count(), 0);
}

#[tokio::test]
async fn an_existing_router_keeps_its_other_routes_open() {
    let folder = folder();
    let host = start("existing_router", &folder, &[("WEBHOOK_SECRET_OLD", "old-secret")]);
    for (method, path, body) in [("GET", "/health", "ok"), ("POST", "/webhooks/ping", "pong")] {
        let mut request = to(path, Request::new(Body::empty()));
        *request.method_mut() = method.parse().expect("a method");
        assert_eq!(host.send(request).await.body, body);
    }
    assert_acknowledged(host.send(authenticated(EXAMPLE)).await);
    assert_acknowledged(host.send(authenticated_by(&token("old-secret"), EXAMPLE)).await);
    // Four attempts of a body that is refused leave one file.
    for _ in 0..4 {
        assert_eq!(host.send(authenticated("{")).await.status, 400);
    }
    assert_eq!(files(folder.path()).refused, BTreeSet::from([b"{".to_vec()]));
    let log = host.log();
    let warning = " WARN existing_router: A delivery has the old secret.";
    assert_eq!(log.matches(warning).count(), 1, "{log}");
}

#[tokio::test]
async fn an_existing_router_checks_where_a_delivery_comes_from() {
    let folder = folder();
    let start = |sources| start("existing_router", &folder, &[("WEBHOOK_SOURCES", sources)]);
    let elsewhere = start("192.0.2.1,2001:db8::1");
    // The client's own header changes nothing.
    let mut forged = authenticated(EXAMPLE);
    forged.headers_mut().insert("x-forwarded-for", HeaderValue::from_static("192.0.2.1"));
    assert_refused_over_network(&elsewhere.send(forged).await, "forbidden", None);
    assert_acknowledged(start("192.0.2.1, 127.0.0.1").send(authenticated(EXAMPLE)).await);
}

/// The head of a delivery, as it goes over the wire.
fn head(token: &str) -> String {
    format!(
        "POST {PATH} HTTP/1.1\r\nHost: x\r\nX-LOX24-Token: {token}\r\nContent-Type: application/json\r\nContent-Length: {}\r\n\r\n",
        EXAMPLE.len(),
    )
}

fn delivery() -> String {
    head(SECRET) + EXAMPLE
}

/// Where the body of a request under way is cut.
const CUT: usize = 100;

async fn under_way(host: &Program, token: &str) -> Wire {
    let mut wire = Wire::open(host, head(token) + &EXAMPLE[..CUT]).await;
    wire.assert_silent().await;
    wire
}

#[tokio::test]
async fn the_hardened_host_does_not_wait_for_a_head() {
    let (_folder, host) = hardened(&[("HEAD_TIMEOUT", "1"), ("IDLE_TIMEOUT", "3")]);
    let start = Instant::now();
    let silent = Wire::open(&host, "").await;
    let in_the_head = Wire::open(&host, &delivery()[..50]).await;
    let mut idle = Wire::open(&host, delivery()).await;
    assert_acknowledged(idle.answer().await);
    silent.assert_closed().await;
    in_the_head.assert_closed().await;
    assert!(start.elapsed() >= Duration::from_millis(950));
    // A connection that was used may be idle for longer.
    sleep(Duration::from_millis(500)).await;
    idle.send(delivery()).await;
    assert_acknowledged(idle.answer().await);
    idle.assert_closed().await;
}

#[tokio::test]
async fn the_hardened_host_limits_the_time_of_a_body() {
    let (folder, host) = hardened(&[("BODY_TIMEOUT", "1")]);
    // The body of a refused request is discarded, for as long.
    for (token, code) in [(SECRET, "body_incomplete"), ("wrong", "unauthorized")] {
        let mut unfinished = under_way(&host, token).await;
        let reply = last_of_connection(unfinished.answer().await);
        assert_refused_over_network(&reply, code, None);
        unfinished.assert_closed().await;
    }
    // For the body as a whole: no pause between two bytes is long.
    let (mut response, mut request) =
        TcpStream::connect(&host.address).await.expect("it").into_split();
    let drip = tokio::spawn(async move {
        request.write_all(head(SECRET).as_bytes()).await?;
        for byte in EXAMPLE.as_bytes() {
            sleep(Duration::from_millis(20)).await;
            request.write_all(&[*byte]).await?;
        }
        io::Result::Ok(())
    });
    let mut status = [0; 12];
    timeout(PATIENCE, response.read_exact(&mut status)).await.expect("in time").expect("a status");
    assert_eq!(&status, b"HTTP/1.1 400");
    drip.abort();
    assert_eq!(events(folder.path()), []);
    // The next request on the connection of a refused one is read where that one ends.
    let mut kept = Wire::open(&host, head("wrong") + EXAMPLE + &delivery()).await;
    assert_refused_over_network(&kept.answer().await, "unauthorized", None);
    assert_acknowledged(kept.answer().await);
}

/// What unauthenticated clients can cause is in the log, but does not fill it.
#[tokio::test]
async fn the_hardened_host_logs_refusals_once_a_minute() {
    let (_folder, host) = hardened(&[]);
    for _ in 0..20 {
        assert_eq!(host.send(unauthenticated(EXAMPLE)).await.status, 401);
        let path = "/prefix/webhooks/unsubscribe?key=s3cr3t";
        assert_eq!(host.send(to(path, authenticated(EXAMPLE))).await.status, 404);
    }
    assert_eq!(host.send(to("/health", Request::new(Body::empty()))).await.status, 200);
    let log = host.log();
    assert_eq!(log.lines().count(), 2, "{log}");
    assert!(log.contains("401") && log.contains("path=\"/prefix/webhooks/unsubscribe\""), "{log}");
}

#[tokio::test]
async fn the_hardened_host_gives_the_places_of_silent_connections_to_newcomers() {
    let (_folder, host) = hardened(&[("MAX_CONNECTIONS", "3"), ("HEAD_TIMEOUT", "60")]);
    let mut under_way = under_way(&host, SECRET).await;
    let mut oldest = Wire::open(&host, &delivery()[..50]).await;
    oldest.assert_silent().await;
    let mut youngest = Wire::open(&host, "").await;
    youngest.assert_silent().await;

    let mut delivered = Wire::open(&host, delivery()).await;
    assert_acknowledged(last_of_connection(delivered.answer().await));
    oldest.assert_closed().await;
    youngest.assert_silent().await;
    under_way.send(&EXAMPLE[CUT..]).await;
    assert_acknowledged(under_way.answer().await);
    youngest.assert_silent().await;
}

#[tokio::test]
async fn the_hardened_host_lets_a_newcomer_wait_for_a_request_under_way() {
    let (folder, host) = hardened(&[("MAX_CONNECTIONS", "1"), ("HEAD_TIMEOUT", "60")]);
    let mut under_way = under_way(&host, SECRET).await;
    let mut newcomer = Wire::open(&host, delivery()).await;
    newcomer.assert_silent().await;
    under_way.send(&EXAMPLE[CUT..]).await;
    assert_acknowledged(last_of_connection(under_way.answer().await));
    assert_acknowledged(last_of_connection(newcomer.answer().await));
    under_way.assert_closed().await;
    assert_eq!(events(folder.path()).len(), 1);
}

#[tokio::test]
async fn the_hardened_host_survives_a_lack_of_descriptors() {
    let folder = folder();
    let mut limited = limited("ulimit -n 32", "hardened", &folder);
    let host = Program::run(limited.stderr(Stdio::null()).env("HEAD_TIMEOUT", "60"));
    let mut silent = Vec::new();
    for _ in 0..50 {
        silent.push(Wire::open(&host, "").await);
    }
    assert_acknowledged(Wire::open(&host, delivery()).await.answer().await);
}

#[tokio::test]
async fn the_hardened_host_responds_to_a_client_that_sends_no_more() {
    let (_folder, host) = hardened(&[]);
    let mut half_closed = Wire::open(&host, delivery()).await;
    half_closed.0.shutdown().await.expect("half of it is closed");
    assert_acknowledged(half_closed.answer().await);
    half_closed.assert_closed().await;
}

#[tokio::test]
async fn the_hardened_host_completes_requests_under_way_before_it_stops() {
    let (folder, host) = hardened(&[("HEAD_TIMEOUT", "60")]);
    let mut under_way = under_way(&host, SECRET).await;
    // Without a whole head there is no request to complete.
    let in_the_head = Wire::open(&host, &delivery()[..50]).await;
    let mut idle = Wire::open(&host, delivery()).await;
    assert_acknowledged(idle.answer().await);

    host.signal("-TERM");
    in_the_head.assert_closed().await;
    idle.assert_closed().await;
    let refused = TcpStream::connect(&host.address).await.expect_err("it listens no more");
    assert_eq!(refused.kind(), io::ErrorKind::ConnectionRefused);
    under_way.assert_silent().await;
    under_way.send(&EXAMPLE[CUT..]).await;
    assert_acknowledged(last_of_connection(under_way.answer().await));
    drop(under_way);
    assert!(host.end().ends_with("Stopped.\n"));
    assert_eq!(events(folder.path()).len(), 1);
}
