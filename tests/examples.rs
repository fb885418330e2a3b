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
    process::{Command, Stdio},
    time::{Duration, Instant},
};

use axum::{body::Body, extract::Request};
use common::{
    EXAMPLE, Fields, PATH, Reply, SECRET, assert_received, assert_refused_over_network,
    authenticated, authenticated_by, program, token, unauthenticated,
};
use futures_util::future::join_all;
use http::{HeaderValue, Response};
use hyper::body::Incoming;
use process::{PATIENCE, Program, Wire, command, folder};
use rusqlite::types::FromSql;
use tempfile::TempDir;
use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    net::TcpStream,
    time::{sleep, timeout},
};
use tower::Service;
use unsubscribe_webhook::{
    UnsubscribeEvent,
    testing::{Conformance, conformance},
};

const PHONE: &str = "+4911113333444";
const OTHER_PHONE: &str = "+4911155559999";

/// What the quickstart says about a number.
async fn suppresses(host: &Program, phone: &str) -> bool {
    let mut path = "/suppressed/".to_owned();
    for byte in phone.bytes() {
        write!(path, "%{byte:02X}").expect("a string has room");
    }
    let answer = host.send(get(&path, SECRET)).await;
    let answers = [false, true].map(|yes| format!(r#"{{"phone":"{phone}","suppressed":{yes}}}"#));
    assert!(answers.contains(&answer.body), "{answer:?}");
    answer.body == answers[1]
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
fn assert_answer(answer: &Reply, status: u16, code: &str, pointer: Option<&str>) {
    assert_refused_over_network(answer, code, pointer);
    assert_eq!(answer.status, status);
}

/// An acknowledgement as it comes over the wire.
fn assert_acknowledged(mut answer: Reply) {
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
    conformance(host.app(), path, &token(SECRET)).over_network().acknowledges_other_events()
}

/// A host in a folder of its own, and its suppression list.
fn host_and_list(
    name: &str,
    read: fn(&TempDir) -> BTreeSet<String>,
) -> (Program, impl AsyncFnMut(&str) -> bool + 'static) {
    let folder = folder();
    let host = Program::start(name, &folder, &[("WEBHOOK_SECRET", SECRET)]);
    (host, async move |phone: &str| read(&folder).contains(phone))
}

#[tokio::test]
async fn every_host_keeps_the_contract() {
    let (host, list) = host_and_list("minimal", |folder| lines(folder).into_iter().collect());
    suite(&host, PATH).suppressed(list).await.assert_passed();

    let folder = folder();
    let settings = [("WEBHOOK_SECRET", SECRET), ("WEBHOOK_ACCOUNT", "3")];
    let host = Program::start("quickstart", &folder, &settings);
    let suite_of_account = suite(&host, PATH).accounts([3]);
    let list = async move |phone: &str| suppresses(&host, phone).await;
    suite_of_account.suppressed(list).await.assert_passed();

    let (host, list) = host_and_list("existing_router", phones);
    suite(&host, PATH).suppressed(list).await.assert_passed();

    let (host, list) =
        host_and_list("hardened", |folder| rows(folder, "SELECT phone FROM unsubscribed"));
    let limit = 64 * 1024;
    suite(&host, PATH).body_limit(limit).suppressed(list).await.assert_passed();
}

/// What is replaced in the example, by what (or it ends there), the code of the refusal, and whether
/// the number can be read all the same.
const BROKEN: [(&str, Option<&[u8]>, &str, bool); 10] = [
    (r#""additional_data":{"#, Some(br#""additional_data":[],"x":{"#), "invalid_field", true),
    (r#""reason":{"#, Some(br#""reason":null,"x":{"#), "invalid_field", true),
    (r#","short_link_code":"baaIou""#, Some(b""), "missing_field", true),
    (r#""attempts_total":4"#, Some(br#""attempts_total":5"#), "invalid_field", true),
    (r#""id":4"#, Some(br#""id":7"#), "invalid_field", true),
    ("ä", Some(b"\xe4"), "not_json", true),
    ("", Some(b""), "content_type", true),
    (r#""phone":"+"#, Some(br#""phone":1,"x":""#), "invalid_field", false),
    (r#","name":"phone.unsubscribe""#, Some(b""), "missing_field", false),
    (r#","name":"#, None, "not_json", false),
];

/// The numbers and the refused bodies that an example has stored.
type Stored = (BTreeSet<String>, BTreeSet<Vec<u8>>);

async fn assert_loses_no_opt_out(name: &str, read: impl Fn(&TempDir) -> Stored) {
    let folder = folder();
    let settings = [("WEBHOOK_SECRET", SECRET)];
    let host = Program::start(name, &folder, &settings);
    let mut expected = Stored::default();
    for (index, (old, new, code, is_opt_out)) in BROKEN.into_iter().enumerate() {
        let phone = format!("+4911155550{index:02}");
        let text = Fields::example().json().replace(PHONE, &phone);
        let (start, rest) = text.split_once(old).expect("it is there");
        let end = new.map(|new| [new, rest.as_bytes()].concat()).unwrap_or_default();
        let body = [start.as_bytes(), &end].concat();
        let mut request = authenticated(body.clone());
        if code == "content_type" {
            request.headers_mut().insert("content-type", HeaderValue::from_static("text/plain"));
        }

        let answer = host.send(request).await;
        let problem: serde_json::Value = serde_json::from_str(&answer.body).expect("a problem");
        assert_answer(&answer, 400, code, problem["pointer"].as_str());
        if name == "quickstart" {
            assert_eq!(suppresses(&host, &phone).await, is_opt_out, "{index}");
        }
        expected.0.extend(is_opt_out.then_some(phone));
        expected.1.extend((name != "minimal").then_some(body));
        assert_eq!(read(&folder), expected, "{name}, {index}");
    }
    assert_answer(&host.send(unauthenticated(EXAMPLE)).await, 401, "unauthorized", None);
    let log = host.log();
    assert_eq!(log.matches("its opt-out is kept").count(), expected.0.len(), "{name}: {log}");

    let host = Program::start(name, &folder, &settings);
    assert_eq!(read(&folder), expected);
    if name == "quickstart" {
        assert!(suppresses(&host, "+491115555000").await);
    }
}

#[tokio::test]
async fn no_opt_out_of_a_refused_body_is_lost() {
    let list = "SELECT phone FROM suppression_list";
    assert_loses_no_opt_out("quickstart", |folder| {
        (rows(folder, list), rows(folder, "SELECT body FROM refused"))
    })
    .await;
    assert_loses_no_opt_out("existing_router", |folder| {
        (phones(folder), files(folder, "refused").into_iter().collect())
    })
    .await;
    assert_loses_no_opt_out("minimal", |folder| {
        (lines(folder).into_iter().collect(), BTreeSet::new())
    })
    .await;
}

fn rows<T: FromSql + Ord>(folder: &TempDir, query: &str) -> BTreeSet<T> {
    let database = rusqlite::Connection::open(folder.path().join("unsubscribed.db")).expect("it");
    let mut query = database.prepare(query).expect("a table");
    let rows = query.query_map([], |row| row.get(0)).expect("rows");
    rows.collect::<Result<_, _>>().expect("values")
}

fn files(folder: &TempDir, name: &str) -> Vec<Vec<u8>> {
    let entries = fs::read_dir(folder.path().join("data").join(name)).expect("the folder");
    entries.map(|entry| fs::read(entry.expect("a file").path()).expect("its content")).collect()
}

fn phones(folder: &TempDir) -> BTreeSet<String> {
    let phone = |event: Vec<u8>| {
        let event: serde_json::Value = serde_json::from_slice(&event).expect("JSON");
        event["data"]["phone"].as_str().expect("a number").to_owned()
    };
    files(folder, "unsubscribed").into_iter().map(phone).collect()
}

/// The numbers in the file of `minimal`, without what a full disk has cut short.
fn lines(folder: &TempDir) -> Vec<String> {
    let list = fs::read_to_string(folder.path().join("unsubscribed.txt")).unwrap_or_default();
    list.lines().filter_map(|line| serde_json::from_str(line).ok()).collect()
}

#[tokio::test]
async fn the_quickstart_keeps_each_unsubscribe_once() {
    let folder = folder();
    let settings = [("WEBHOOK_SECRET", SECRET)];
    let host = Program::start("quickstart", &folder, &settings);
    let other = format!(r#"{{"name":"phone.subscribe","data":{{"phone":"{PHONE}"}}}}"#);
    assert_acknowledged(host.send(authenticated(other)).await);
    let wrong = authenticated_by(&token("wrong"), EXAMPLE);
    assert_answer(&host.send(wrong).await, 401, "unauthorized", None);
    assert!(!suppresses(&host, PHONE).await);

    // Three times, and with either name of the total: stored once.
    let page = EXAMPLE.replace("attempts_total", "attempt_total");
    for body in [EXAMPLE, EXAMPLE, &page] {
        assert_acknowledged(host.send(authenticated(body.to_owned())).await);
    }
    assert_eq!(host.send(get("/suppressed/%2B4911113333444", SECRET)).await.status, 200);
    let [(phone, event)] = &*stored(&folder) else { panic!("one row") };
    let event: UnsubscribeEvent = serde_json::from_str(event).expect("an event");
    assert_eq!((&**phone, event), (PHONE, common::example()));
    // The same id with another number is another opt-out.
    assert_acknowledged(host.send(authenticated(EXAMPLE.replace(PHONE, OTHER_PHONE))).await);

    // The list is personal data; the health check is not.
    let answer = host.send(get(&format!("/suppressed/{PHONE}"), "wrong")).await;
    assert_answer(&answer, 401, "unauthorized", None);
    assert_eq!(host.send(get("/health", "wrong")).await.body, "ok");

    let printed = host.stop("-TERM");
    assert!(printed.ends_with("Stopped.\n") && !printed.contains(SECRET), "{printed}");
    let debug = ("RUST_LOG", "info,unsubscribe_webhook=debug");
    let host = Program::start("quickstart", &folder, &[settings[0], debug]);
    assert!(suppresses(&host, PHONE).await && suppresses(&host, OTHER_PHONE).await);
    assert!(!suppresses(&host, "+49").await);
    assert_acknowledged(host.send(authenticated(EXAMPLE)).await);
    assert_eq!(stored(&folder).len(), 2);
    let log = host.log();
    for line in ["INFO quickstart: Event stored before. id=", "DEBUG unsubscribe_webhook: Delivery"]
    {
        assert_eq!(log.matches(line).count(), 1, "{log}");
    }
}

#[tokio::test]
async fn the_quickstart_answers_500_while_it_cannot_store() {
    let folder = folder();
    let host = Program::start("quickstart", &folder, &[("WEBHOOK_SECRET", SECRET)]);
    let database = rusqlite::Connection::open(folder.path().join("unsubscribed.db")).expect("it");
    database.execute_batch("DROP VIEW suppression_list").expect("it"); // it follows renamed tables
    for (table, body) in [("unsubscribed", EXAMPLE), ("refused", "{")] {
        let rename = |from, to| database.execute(&format!("ALTER TABLE {from} RENAME TO {to}"), []);
        rename(table, "gone").expect("renamed");
        assert_answer(&host.send(authenticated(body)).await, 500, "server_error", None);
        rename("gone", table).expect("renamed");
        assert_ne!(host.send(authenticated(body)).await.status, 500);
    }
}

/// A backup, say, holds the write lock: deliveries fail in time, and lookups do not wait at all.
#[tokio::test]
async fn the_quickstart_does_not_wait_for_other_processes() {
    let folder = folder();
    let host = Program::start("quickstart", &folder, &[("WEBHOOK_SECRET", SECRET)]);
    assert_acknowledged(host.send(authenticated(EXAMPLE)).await);
    let database = rusqlite::Connection::open(folder.path().join("unsubscribed.db")).expect("it");
    database.execute_batch("BEGIN IMMEDIATE").expect("a lock");
    let start = Instant::now();
    let deliver = async |_| {
        assert_answer(&host.send(authenticated(EXAMPLE)).await, 500, "server_error", None);
        start.elapsed()
    };
    let look_up = async {
        sleep(Duration::from_millis(200)).await;
        assert!(suppresses(&host, PHONE).await);
        start.elapsed()
    };
    let (delivered, looked_up) = tokio::join!(join_all((0..8).map(deliver)), look_up);
    assert!(looked_up < Duration::from_millis(900), "{looked_up:?}");
    assert!(delivered.iter().all(|took| *took < Duration::from_secs(7)), "{delivered:?}");
}

#[tokio::test]
async fn the_quickstart_stops_although_requests_are_unfinished() {
    let folder = folder();
    let host = Program::start("quickstart", &folder, &[("WEBHOOK_SECRET", SECRET)]);
    let mut wires = Vec::new();
    for text in [&delivery()[..50], &on_the_wire(SECRET).0, &on_the_wire("wrong").0] {
        let mut wire = Wire::open(&host, text).await;
        wire.assert_silent().await;
        wires.push(wire);
    }
    let start = Instant::now();
    assert!(host.stop("-TERM").ends_with("Stopped.\n"));
    assert!(start.elapsed() < Duration::from_secs(10), "{:?}", start.elapsed());
}

const SED: &str = "sed 's/\"id\": 4/\"id\": 7/; s/13333444/15555555/'";

#[tokio::test]
async fn the_quickstart_prints_what_to_try() {
    for (account, statuses) in [
        (None, ["(200)", "(true)", "(400, but its number is on the list)"]),
        (Some("2"), ["(200)", "(true)", "(400, but its number is on the list)"]),
        (Some("7"), ["(403: account 2)", "(false)", "(400)"]),
    ] {
        let folder = folder();
        let settings: Vec<_> = account.iter().map(|it| ("WEBHOOK_ACCOUNT", *it)).collect();
        let host = Program::start("quickstart", &folder, &settings);
        let broken = EXAMPLE.replacen("\"id\": 4", "\"id\": 7", 1).replace("13333444", "15555555");
        for (body, expected) in [(EXAMPLE, statuses[0]), (&broken, statuses[2])] {
            let answer = host.send(authenticated_by(&token("demo-secret"), body.to_owned())).await;
            assert!(expected.contains(&answer.status.to_string()), "{expected}: {answer:?}");
        }
        let list: BTreeSet<String> = rows(&folder, "SELECT phone FROM suppression_list");
        assert_eq!(list.is_empty(), account == Some("7"));

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

/// A slash too many, a prefix, a redirect that made it a GET.
#[tokio::test]
async fn a_wrong_path_or_method_is_logged_without_the_query() {
    for (name, prefixed) in
        [("quickstart", "/lox24/webhooks/unsubscribe"), ("existing_router", "/webhooks/x")]
    {
        let folder = folder();
        let host = Program::start(name, &folder, &[("WEBHOOK_SECRET", SECRET)]);
        let slash = format!("{PATH}/");
        for (path, method, status) in
            [(&*slash, "POST", 404), (prefixed, "POST", 404), (PATH, "GET", 405)]
        {
            let mut request = to(&format!("{path}?token={SECRET}"), authenticated(EXAMPLE));
            *request.method_mut() = method.parse().expect("a method");
            assert_eq!(host.send(request).await.status, status);
        }
        // A path that may contain a number is not logged.
        assert_eq!(host.send(get(&format!("/numbers/{PHONE}"), SECRET)).await.status, 404);
        let log = host.log();
        let ours = format!(" WARN {name}: No handler");
        let warnings: Vec<_> = log.lines().filter(|line| line.contains(&ours)).collect();
        assert_eq!(warnings.len(), 3, "{log}");
        for (line, path) in warnings.iter().zip([&slash, prefixed, PATH]) {
            assert!(line.contains(&format!(" path=\"{path}\"")), "{log}");
        }
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
fn a_host_does_not_start_with_settings_it_cannot_follow() {
    let folder = folder();
    fs::write(folder.path().join("file"), "no database and no folder").expect("a file");
    let secret = ("WEBHOOK_SECRET", "s3cr3t");
    for name in ["quickstart", "hardened"] {
        drop(Program::start(name, &folder, &[secret, ("DATABASE_PATH", name)]));
    }
    let no_folder = "DATA_DIR must be a folder that can be written";
    for (name, setting, why) in [
        ("quickstart", ("WEBHOOK_SECRET", ""), "the secret is empty"),
        ("quickstart", ("WEBHOOK_SECRET", "s3cr3t\n"), "the secret ends with a line break"),
        ("quickstart", ("WEBHOOK_ACCOUNT", ""), "WEBHOOK_ACCOUNT is not an integer"),
        ("quickstart", ("WEBHOOK_ACCOUNT", "two"), "WEBHOOK_ACCOUNT is not an integer"),
        ("quickstart", ("BIND_ADDR", "nowhere"), "cannot listen on nowhere: set BIND_ADDR to"),
        ("quickstart", ("BIND_ADDR", "0.0.0.0:0"), "the demo secret is public"),
        ("quickstart", ("DATABASE_PATH", "no/x.db"), "\"no/x.db\": set DATABASE_PATH"),
        ("quickstart", ("DATABASE_PATH", "file:quickstart?mode=ro"), "it is read-only"),
        ("quickstart", ("DATABASE_PATH", ""), "it is not a file"),
        ("quickstart", ("DATABASE_PATH", ":memory:"), "it is not a file"),
        ("quickstart", ("DATABASE_PATH", "file:x?mode=memory"), "it is not a file"),
        ("quickstart", ("DATABASE_PATH", "file"), "file is not a database"),
        ("quickstart", ("RUST_LOG", "debug,x=loud"), "RUST_LOG"),
        ("hardened", ("DATABASE_PATH", "file:hardened?mode=ro"), "it is read-only"),
        ("existing_router", ("DATA_DIR", "file"), no_folder),
        ("existing_router", ("DATA_DIR", "/proc/self"), no_folder),
        ("existing_router", ("WEBHOOK_SECRET", "s3cr3t "), "starts or ends with whitespace"),
        ("existing_router", ("WEBHOOK_SOURCES", ""), "WEBHOOK_SOURCES"),
    ] {
        let is_without_secret = name == "quickstart" && setting.0 != "DATABASE_PATH";
        let settings = if is_without_secret { &[setting][..] } else { &[secret, setting] };
        let error = error_at_start(&mut command(name, &folder, settings));
        assert!(error.contains(why), "{name}: {setting:?}: {error}");
    }
}

#[test]
fn the_quickstart_has_help_and_takes_no_other_argument() {
    let folder = folder();
    for (argument, code) in [("--help", 0), ("--port=3000", 1), ("s3cr3t", 1), ("", 1)] {
        let output = command("quickstart", &folder, &[]).arg(argument).output().expect("it runs");
        assert_eq!(output.status.code(), Some(code));
        let [help, error] =
            [output.stdout, output.stderr].map(|it| String::from_utf8(it).expect("it"));
        assert!(help.lines().all(|line| line.len() <= 80), "{help}");
        for name in ["WEBHOOK_SECRET", "WEBHOOK_ACCOUNT", "BIND_ADDR", "DATABASE_PATH", "RUST_LOG"]
        {
            assert_eq!(help.contains(&format!("\n  {name} ")), code == 0, "{help}");
        }
        assert_eq!(error.contains("try --help"), code == 1, "{error}");
        assert!(!error.contains("s3cr3t"), "{error}");
    }
}

#[tokio::test]
async fn minimal_keeps_each_number_on_a_line_of_its_own() {
    let folder = folder();
    // A line that a full disk or a crash has cut short does not spoil the next one.
    fs::write(folder.path().join("unsubscribed.txt"), "\n\"+49111").expect("the list");
    let host = Program::start("minimal", &folder, &[("WEBHOOK_SECRET", SECRET)]);
    assert_acknowledged(host.send(authenticated(EXAMPLE)).await);
    assert_acknowledged(host.send(authenticated(r#"{"name":"sms.delivery"}"#)).await);
    assert_answer(&host.send(unauthenticated(EXAMPLE)).await, 401, "unauthorized", None);
    assert_eq!(lines(&folder), [PHONE]);
    assert_eq!(host.send(to("/webhooks/", authenticated(EXAMPLE))).await.status, 404);
    assert!(host.log().contains("outcome"));
}

/// A disk that takes no more, simulated by a limit of the shell.
#[tokio::test]
async fn a_full_disk_is_a_500_or_prevents_the_start() {
    let folder = folder();
    let limited = |name| {
        let mut limited = Command::new("/bin/sh");
        limited.args(["-c", "trap '' XFSZ; ulimit -f 0; exec \"$0\""]).arg(program(name));
        limited.env_clear().current_dir(folder.path());
        limited.stdout(Stdio::piped()).stderr(Stdio::piped());
        limited.envs([("BIND_ADDR", "127.0.0.1:0"), ("WEBHOOK_SECRET", SECRET)]);
        limited
    };
    let host = Program::run(&mut limited("minimal"));
    assert_answer(&host.send(authenticated(EXAMPLE)).await, 500, "server_error", None);

    let error = error_at_start(&mut limited("existing_router"));
    assert!(error.contains("DATA_DIR must be a folder that can be written"), "{error}");
}

#[tokio::test]
async fn an_existing_router_keeps_its_other_routes_open() {
    let folder = folder();
    let settings = [("WEBHOOK_SECRET", SECRET), ("WEBHOOK_SECRET_OLD", "old-secret")];
    // What a crash has left.
    let unfinished = folder.path().join("data/unfinished");
    fs::create_dir_all(&unfinished).expect("a folder");
    fs::write(unfinished.join(".tmp1"), "half an event").expect("a file");
    let host = Program::start("existing_router", &folder, &settings);
    let open = |method, path| Request::builder().method(method).uri(path).body(Body::empty());
    for (method, path, body) in [("GET", "/health", "ok"), ("POST", "/webhooks/ping", "pong")] {
        assert_eq!(host.send(open(method, path).expect("a request")).await.body, body);
    }

    assert_answer(&host.send(unauthenticated(EXAMPLE)).await, 401, "unauthorized", None);
    assert_acknowledged(host.send(authenticated(EXAMPLE)).await);
    assert_acknowledged(host.send(authenticated_by(&token("old-secret"), EXAMPLE)).await);
    assert_acknowledged(host.send(authenticated(r#"{"name":"sms.delivery"}"#)).await);
    let [event] = &*files(&folder, "unsubscribed") else { panic!("one file") };
    assert_eq!(UnsubscribeEvent::from_slice(event).expect("an event"), common::example());
    // The same id with another number does not replace the first one.
    assert_acknowledged(host.send(authenticated(EXAMPLE.replace(PHONE, OTHER_PHONE))).await);
    assert_eq!(phones(&folder), BTreeSet::from([PHONE, OTHER_PHONE].map(str::to_owned)));

    // Four attempts of a body that is refused leave one file.
    for _ in 0..4 {
        assert_answer(&host.send(authenticated(&EXAMPLE[..20])).await, 400, "not_json", None);
    }
    assert_eq!(files(&folder, "refused"), [&EXAMPLE.as_bytes()[..20]]);
    assert_eq!(files(&folder, "unfinished").len(), 0);
    assert!(host.log().contains(" WARN existing_router: A delivery has the old secret."));
}

#[tokio::test]
async fn an_existing_router_checks_where_a_delivery_comes_from() {
    let folder = folder();
    let settings = |sources| [("WEBHOOK_SECRET", SECRET), ("WEBHOOK_SOURCES", sources)];
    let elsewhere = Program::start("existing_router", &folder, &settings("192.0.2.1,2001:db8::1"));
    // The client's own header changes nothing.
    let mut forged = authenticated(EXAMPLE);
    forged.headers_mut().insert("x-forwarded-for", HeaderValue::from_static("192.0.2.1"));
    assert_answer(&elsewhere.send(forged).await, 403, "forbidden", None);
    let here = Program::start("existing_router", &folder, &settings("192.0.2.1, 127.0.0.1"));
    assert_acknowledged(here.send(authenticated(EXAMPLE)).await);
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
fn assert_last_answer(mut answer: Reply, status: u16, code: &str) {
    assert_eq!(common::header(&answer, "connection"), ["close"]);
    answer.headers.retain(|(name, _)| name != "connection");
    assert_answer(&answer, status, code, None);
}

#[tokio::test]
async fn the_hardened_host_keeps_each_unsubscribe_once() {
    let (folder, host) = hardened(&[]);
    for _ in 0..2 {
        assert_acknowledged(host.send(authenticated(EXAMPLE)).await);
    }
    assert_acknowledged(host.send(authenticated(r#"{"name":"sms.delivery"}"#)).await);
    assert_answer(&host.send(unauthenticated(EXAMPLE)).await, 401, "unauthorized", None);
    assert_answer(&host.send(authenticated("{")).await, 400, "not_json", None);
    let large = EXAMPLE.to_owned() + &" ".repeat(64 * 1024);
    assert_last_answer(host.send(authenticated(large)).await, 400, "body_too_large");

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
        let answer = host.send(authenticated(refused.clone())).await;
        let pointer = Some("/data/additional_data/reason/id");
        assert_answer(&answer, 400, "invalid_field", pointer);
    }
    assert_answer(&host.send(authenticated("{")).await, 400, "not_json", None);
    let other = EXAMPLE.replace(PHONE, "+4922222222222");
    assert_acknowledged(host.send(authenticated(other)).await);
    let query = |sql: &str| {
        let path = folder.path().join("unsubscribed.db");
        let database = rusqlite::Connection::open(path).expect("it");
        let mut query = database.prepare(sql).expect("a table");
        let rows = query.query_map([], |row| row.get::<_, String>(0)).expect("rows");
        rows.collect::<Result<Vec<_>, _>>().expect("texts")
    };
    assert_eq!(query("SELECT phone FROM unsubscribed ORDER BY phone"), [PHONE, "+4922222222222"]);
    assert_eq!(query("SELECT CAST(body AS TEXT) FROM refused ORDER BY body"), ["{", &refused]);
}

/// What unauthenticated clients can cause is in the log, but does not fill it.
#[tokio::test]
async fn the_hardened_host_logs_refusals_once_a_minute() {
    let (_folder, host) = hardened(&[]);
    for _ in 0..20 {
        assert_answer(&host.send(unauthenticated(EXAMPLE)).await, 401, "unauthorized", None);
        let path = "/prefix/webhooks/unsubscribe?key=s3cr3t";
        assert_eq!(host.send(to(path, authenticated(EXAMPLE))).await.status, 404);
    }
    assert_eq!(host.send(to("/health", Request::new(Body::empty()))).await.status, 200);
    let log = host.log();
    assert_eq!(log.lines().count(), 2, "{log}");
    assert!(log.contains("401") && log.contains("path=\"/prefix/webhooks/unsubscribe\""), "{log}");
}

#[tokio::test]
async fn the_hardened_host_answers_500_when_storing_takes_too_long() {
    let (folder, host) = hardened(&[]);
    let database = rusqlite::Connection::open(folder.path().join("unsubscribed.db")).expect("it");
    database.execute_batch("BEGIN IMMEDIATE").expect("a lock");
    assert_answer(&host.send(authenticated(EXAMPLE)).await, 500, "server_error", None);
    database.execute_batch("ROLLBACK").expect("no lock");
    assert_acknowledged(host.send(authenticated(EXAMPLE)).await);
    assert_eq!(stored(&folder).len(), 1);
}

#[tokio::test]
async fn the_hardened_host_answers_500_while_it_cannot_store() {
    let (folder, host) = hardened(&[]);
    let database = rusqlite::Connection::open(folder.path().join("unsubscribed.db")).expect("it");
    database.execute("ALTER TABLE unsubscribed RENAME TO gone", []).expect("renamed");
    assert_answer(&host.send(authenticated(EXAMPLE)).await, 500, "server_error", None);
    database.execute("ALTER TABLE gone RENAME TO unsubscribed", []).expect("renamed");
    assert_acknowledged(host.send(authenticated(EXAMPLE)).await);
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
fn assert_last_acknowledged(mut answer: Reply) {
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
