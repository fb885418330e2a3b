//! The examples as a person runs them: as processes, over the network.
//! Its signals are those of Unix.
#![cfg(unix)]

mod common;
#[path = "../examples/postgres/tests/common/process.rs"]
mod process;
#[path = "common/socket.rs"]
mod socket;

use std::{
    collections::BTreeSet,
    fs, io,
    path::Path,
    process::Command,
    time::{Duration, Instant},
};

use axum::{body::Body, extract::Request};
use common::{
    EXAMPLE, Fields, PATH, Reply, SECRET, assert_received, assert_refused_over_network,
    authenticated, authenticated_by, header, program, read, to, token, unauthenticated, with,
};
use futures_util::future::join_all;
use process::{Process, failure, output, percent_encoded};
use rusqlite::types::FromSql;
use socket::{Client, PATIENCE, sized};
use tempfile::{TempDir, tempdir};
use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    net::TcpStream,
    time::{sleep, timeout},
};
use unsubscribe_webhook::UnsubscribeEvent;

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

fn folder() -> TempDir {
    tempdir().expect("a folder")
}

fn command(name: &str, folder: &TempDir, settings: &[(&str, &str)]) -> Command {
    let mut command = process::command(program(name), settings);
    command.current_dir(folder.path());
    command
}

/// An example as a process, in a folder of its own.
async fn start(name: &str, settings: &[(&str, &str)]) -> (TempDir, Process) {
    let folder = folder();
    let host = start_in(&folder, name, settings).await;
    (folder, host)
}

async fn start_in(folder: &TempDir, name: &str, settings: &[(&str, &str)]) -> Process {
    Process::run(command(name, folder, settings)).await
}

async fn send(host: &Process, mut request: Request) -> Reply {
    let path = request.uri().path_and_query().expect("a path");
    *request.uri_mut() = host.url.replace(PATH, path.as_str()).parse().expect("a URI");
    let response = host.client.request(request).await.expect("a response");
    read(response.map(Body::new)).await
}

/// Ends a host, and returns its log, which contains nothing secret and nothing personal.
fn log(host: Process) -> String {
    let log = host.log();
    for personal in [SECRET, "49111", "1111333", "Benutzertext", "verst"] {
        assert!(!log.contains(personal), "{personal}: {log}");
    }
    log
}

/// Whether a number is on the list, as the quickstart's own route says.
async fn suppresses(host: &Process, phone: &str) -> bool {
    let path = format!("/suppressed/{}", percent_encoded(phone));
    let reply = send(host, get(&path, SECRET)).await;
    let bodies = [false, true].map(|yes| format!(r#"{{"phone":"{phone}","suppressed":{yes}}}"#));
    assert!(bodies.contains(&reply.body), "{reply:?}");
    reply.body == bodies[1]
}

fn get(path: &str, secret: &str) -> Request {
    to(path, with(Request::default(), "x-lox24-token", secret))
}

#[tokio::test]
async fn every_host_passes_the_suite() {
    for (name, read) in HOSTS {
        let (folder, host) = start(name, &[("WEBHOOK_ACCOUNT", "3")]).await;
        let mut suite = host.conformance();
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
        let (folder, host) = start(name, &[]).await;
        // As the provider's page writes the total; and the same id with another number.
        let of_page = EXAMPLE.replace("attempts_total", "attempt_total");
        for body in [EXAMPLE, EXAMPLE, &of_page, &other, OTHER_EVENT] {
            assert_received(&send(&host, authenticated(body.to_owned())).await);
        }
        for (code, body, _) in &refused {
            let is_text = *code == "content_type";
            let content_type = if is_text { "text/plain" } else { "application/json" };
            let request = with(authenticated(body.clone()), "content-type", content_type);
            let reply = send(&host, request).await;
            let problem: serde_json::Value = serde_json::from_str(&reply.body).expect("a problem");
            assert_refused_over_network(&reply, code, problem["pointer"].as_str());
        }
        let wrong = send(&host, authenticated_by(&token("wrong"), "spam")).await;
        assert_refused_over_network(&wrong, "unauthorized", None);
        let log = log(host);
        let kept = log.matches("its opt-out is kept").count();
        assert_eq!(kept, opt_outs().count(), "{name}: {log}");

        let _restarted = start_in(&folder, name, &[]).await;
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
        let (folder, host) = start(name, &[]).await;
        assert_received(&send(&host, authenticated(EXAMPLE)).await);
        let database = database(folder.path());
        database.execute_batch("BEGIN IMMEDIATE").expect("a lock");
        let start = Instant::now();
        let deliver = async |body| {
            let reply = send(&host, authenticated(body)).await;
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
        assert_received(&send(&host, authenticated(EXAMPLE)).await);
        assert_eq!(send(&host, authenticated("{")).await.status, 400);
    }
}

#[tokio::test]
async fn a_host_stops_although_requests_are_unfinished() {
    let short = [("SHUTDOWN_TIMEOUT", "1"), ("BODY_TIMEOUT", "19")];
    for (name, settings) in [("quickstart", &[][..]), ("hardened", &short)] {
        let (_folder, host) = start(name, settings).await;
        let mut clients = Vec::new();
        for text in [&delivery()[..50], &head(SECRET), &head("wrong")] {
            let mut client = open(&host, text).await;
            client.assert_silent().await;
            clients.push(client);
        }
        let start = Instant::now();
        host.signal("-TERM");
        assert!(host.end().await.ends_with("Stopped.\n"));
        assert!(start.elapsed() < Duration::from_secs(10), "{name}: {:?}", start.elapsed());
        for client in clients {
            client.assert_closed().await;
        }
    }
}

#[tokio::test]
async fn the_list_of_the_quickstart_is_not_public() {
    let debug = ("RUST_LOG", "info,unsubscribe_webhook=debug");
    let (_folder, host) = start("quickstart", &[debug]).await;
    assert!(!suppresses(&host, PHONE).await);
    for _ in 0..2 {
        assert_received(&send(&host, authenticated(EXAMPLE)).await);
    }
    let path = format!("/suppressed/{PHONE}");
    assert_eq!(send(&host, get(&path, SECRET)).await.status, 200);
    let reply = send(&host, get(&path, "wrong")).await;
    assert_refused_over_network(&reply, "unauthorized", None);
    // The health check has no personal data.
    assert_eq!(send(&host, get("/health", "wrong")).await.body, "ok");
    let log = log(host);
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
        let mut command = command("quickstart", &folder, &settings);
        command.env_remove("WEBHOOK_SECRET");
        let host = Process::run(command).await;
        let broken = EXAMPLE.replacen("\"id\": 4", "\"id\": 7", 1).replace("13333444", "15555555");
        for (body, expected) in [(EXAMPLE, statuses[0]), (&broken, statuses[2])] {
            let reply = send(&host, authenticated_by(&token("demo-secret"), body.to_owned())).await;
            assert!(expected.contains(&reply.status.to_string()), "{expected}: {reply:?}");
        }
        let is_empty = tables(folder.path(), "suppression_list").numbers.is_empty();
        assert_eq!(is_empty, account == Some("7"));

        let url = format!("http://{}", host.address());
        host.signal("-INT");
        let printed = host.end().await;
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

#[tokio::test]
async fn the_quickstart_has_help_and_takes_no_other_argument() {
    let folder = folder();
    let with_argument = |argument| {
        let mut command = command("quickstart", &folder, &[]);
        command.arg(argument);
        command
    };
    let (code, help, _) = output(with_argument("--help")).await;
    assert_eq!(code, Some(0));
    assert!(help.lines().all(|line| line.len() <= 80), "{help}");
    for name in ["WEBHOOK_SECRET", "WEBHOOK_ACCOUNT", "BIND_ADDR", "DATABASE_PATH", "RUST_LOG"] {
        assert!(help.contains(&format!("\n  {name} ")), "{help}");
    }
    for argument in ["--port=3000", "s3cr3t", ""] {
        let error = failure(with_argument(argument)).await;
        assert!(error.contains("try --help") && !error.contains("s3cr3t"), "{error}");
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
        let host = start_in(&folder, name, &[]).await;
        for (path, method, status) in [
            ("/webhooks/unsubscribe/", "POST", 404),
            ("/webhooks/lox24/unsubscribe", "POST", 404),
            (PATH, "GET", 405),
        ] {
            let mut request = to(&format!("{path}?token={SECRET}"), authenticated(EXAMPLE));
            *request.method_mut() = method.parse().expect("a method");
            assert_eq!(send(&host, request).await.status, status);
        }
        let log = log(host);
        assert_eq!(log.matches(logged).count(), 3, "{log}");
    }
}

#[tokio::test]
async fn a_host_does_not_start_with_invalid_settings() {
    let folder = folder();
    fs::write(folder.path().join("file"), "no database and no folder").expect("a file");
    for name in ["quickstart", "hardened"] {
        start_in(&folder, name, &[("DATABASE_PATH", name)]).await;
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
            let error = failure(command(name, &folder, &settings)).await;
            assert!(error.contains(why), "{name}: {setting}={value}: {error}");
            assert!(!error.contains("s3cr3t"), "{name}: {setting}={value}: {error}");
        }
    }
    let mut public = command("quickstart", &folder, &[("BIND_ADDR", "0.0.0.0:0")]);
    public.env_remove("WEBHOOK_SECRET");
    let error = failure(public).await;
    assert!(error.contains("the demo secret is public"), "{error}");
}

/// A host under a limit of the shell.
fn limited(limit: &str, name: &str, folder: &TempDir) -> Command {
    let mut limited = process::command("/bin/sh", &[]);
    limited.args(["-c", &format!("{limit}; exec \"$0\"")]).arg(program(name));
    limited.current_dir(folder.path());
    limited
}

#[tokio::test]
async fn a_full_disk_is_a_500_or_prevents_the_start() {
    let folder = folder();
    let full = "trap '' XFSZ; ulimit -f 0";
    let host = Process::run(limited(full, "minimal", &folder)).await;
    let reply = send(&host, authenticated(EXAMPLE)).await;
    assert_refused_over_network(&reply, "server_error", None);

    let error = failure(limited(full, "existing_router", &folder)).await;
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
        let host = start_in(&folder, name, &[]).await;
        assert_received(&send(&host, authenticated(EXAMPLE)).await);
        assert_eq!(read(folder.path()).numbers, BTreeSet::from([PHONE.to_owned()]), "{name}");
    }
    assert_eq!(contents(folder.path(), "unfinished").count(), 0);
}

#[tokio::test]
async fn an_existing_router_keeps_its_other_routes_open() {
    let (folder, host) = start("existing_router", &[("WEBHOOK_SECRET_OLD", "old-secret")]).await;
    for (method, path, body) in [("GET", "/health", "ok"), ("POST", "/webhooks/ping", "pong")] {
        let mut request = to(path, Request::default());
        *request.method_mut() = method.parse().expect("a method");
        assert_eq!(send(&host, request).await.body, body);
    }
    assert_received(&send(&host, authenticated(EXAMPLE)).await);
    assert_received(&send(&host, authenticated_by(&token("old-secret"), EXAMPLE)).await);
    // Four attempts of a body that is refused leave one file.
    for _ in 0..4 {
        assert_eq!(send(&host, authenticated("{")).await.status, 400);
    }
    assert_eq!(files(folder.path()).refused, BTreeSet::from([b"{".to_vec()]));
    let log = log(host);
    let warning = " WARN existing_router: A delivery has the old secret.";
    assert_eq!(log.matches(warning).count(), 1, "{log}");
}

#[tokio::test]
async fn an_existing_router_checks_where_a_delivery_comes_from() {
    let start = async |sources| start("existing_router", &[("WEBHOOK_SOURCES", sources)]).await;
    let (_folder, elsewhere) = start("192.0.2.1,2001:db8::1").await;
    // The client's own header changes nothing.
    let forged = with(authenticated(EXAMPLE), "x-forwarded-for", "192.0.2.1");
    assert_refused_over_network(&send(&elsewhere, forged).await, "forbidden", None);
    let (_folder, here) = start("192.0.2.1, 127.0.0.1").await;
    assert_received(&send(&here, authenticated(EXAMPLE)).await);
}

async fn open(host: &Process, text: impl AsRef<[u8]>) -> Client {
    let mut client = Client::connect(host.address()).await;
    client.send(text).await;
    client
}

/// The head of a delivery, as it goes over the network.
fn head(secret: &str) -> String {
    sized(&authenticated_by(&token(secret), ""), EXAMPLE).replace(EXAMPLE, "")
}

fn delivery() -> String {
    head(SECRET) + EXAMPLE
}

/// Where the body of a request under way is cut.
const CUT: usize = 100;

async fn under_way(host: &Process, token: &str) -> Client {
    let mut client = open(host, head(token) + &EXAMPLE[..CUT]).await;
    client.assert_silent().await;
    client
}

/// The next response, which says that it is the last one of its connection.
async fn last_reply(client: &mut Client) -> Reply {
    let reply = client.reply().await;
    assert_eq!(header(&reply, "connection"), ["close"]);
    reply
}

#[tokio::test]
async fn the_hardened_host_does_not_wait_for_a_head() {
    let (_folder, host) = start("hardened", &[("HEAD_TIMEOUT", "1"), ("IDLE_TIMEOUT", "3")]).await;
    let start = Instant::now();
    let silent = open(&host, "").await;
    let in_the_head = open(&host, &delivery()[..50]).await;
    let mut idle = open(&host, delivery()).await;
    assert_received(&idle.reply().await);
    silent.assert_closed().await;
    in_the_head.assert_closed().await;
    assert!(start.elapsed() >= Duration::from_millis(950));
    // A connection that was used may be idle for longer.
    sleep(Duration::from_millis(500)).await;
    idle.send(delivery()).await;
    assert_received(&idle.reply().await);
    idle.assert_closed().await;
}

#[tokio::test]
async fn the_hardened_host_limits_the_time_of_a_body() {
    let (folder, host) = start("hardened", &[("BODY_TIMEOUT", "1")]).await;
    // The body of a refused request is discarded, for as long.
    for (token, code) in [(SECRET, "body_incomplete"), ("wrong", "unauthorized")] {
        let mut unfinished = under_way(&host, token).await;
        assert_refused_over_network(&last_reply(&mut unfinished).await, code, None);
        unfinished.assert_closed().await;
    }
    // For the body as a whole: no pause between two bytes is long.
    let (mut response, mut request) = open(&host, head(SECRET)).await.0.into_split();
    let drip = tokio::spawn(async move {
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
    let mut kept = open(&host, head("wrong") + EXAMPLE + &delivery()).await;
    assert_refused_over_network(&kept.reply().await, "unauthorized", None);
    assert_received(&kept.reply().await);
}

/// What unauthenticated clients can cause is in the log, but does not fill it.
#[tokio::test]
async fn the_hardened_host_logs_refusals_once_a_minute() {
    let (_folder, host) = start("hardened", &[]).await;
    for _ in 0..20 {
        assert_eq!(send(&host, unauthenticated(EXAMPLE)).await.status, 401);
        let path = "/prefix/webhooks/unsubscribe?key=s3cr3t";
        assert_eq!(send(&host, to(path, authenticated(EXAMPLE))).await.status, 404);
    }
    assert_eq!(send(&host, to("/health", Request::default())).await.status, 200);
    let log = log(host);
    assert_eq!(log.lines().count(), 2, "{log}");
    assert!(log.contains("401") && log.contains("path=\"/prefix/webhooks/unsubscribe\""), "{log}");
}

#[tokio::test]
async fn the_hardened_host_gives_the_places_of_silent_connections_to_newcomers() {
    let (_folder, host) =
        start("hardened", &[("MAX_CONNECTIONS", "3"), ("HEAD_TIMEOUT", "60")]).await;
    let mut under_way = under_way(&host, SECRET).await;
    let mut oldest = open(&host, &delivery()[..50]).await;
    oldest.assert_silent().await;
    let mut youngest = open(&host, "").await;
    youngest.assert_silent().await;

    let mut delivered = open(&host, delivery()).await;
    assert_received(&last_reply(&mut delivered).await);
    oldest.assert_closed().await;
    youngest.assert_silent().await;
    under_way.send(&EXAMPLE[CUT..]).await;
    assert_received(&under_way.reply().await);
    youngest.assert_silent().await;
}

#[tokio::test]
async fn the_hardened_host_lets_a_newcomer_wait_for_a_request_under_way() {
    let (folder, host) =
        start("hardened", &[("MAX_CONNECTIONS", "1"), ("HEAD_TIMEOUT", "60")]).await;
    let mut under_way = under_way(&host, SECRET).await;
    let mut newcomer = open(&host, delivery()).await;
    newcomer.assert_silent().await;
    under_way.send(&EXAMPLE[CUT..]).await;
    assert_received(&last_reply(&mut under_way).await);
    assert_received(&last_reply(&mut newcomer).await);
    under_way.assert_closed().await;
    assert_eq!(events(folder.path()).len(), 1);
}

#[tokio::test]
async fn the_hardened_host_survives_a_lack_of_descriptors() {
    let folder = folder();
    let mut limited = limited("ulimit -n 32", "hardened", &folder);
    limited.env("HEAD_TIMEOUT", "60");
    let host = Process::run(limited).await;
    let mut silent = Vec::new();
    for _ in 0..50 {
        silent.push(open(&host, "").await);
    }
    assert_received(&open(&host, delivery()).await.reply().await);
}

#[tokio::test]
async fn the_hardened_host_responds_to_a_client_that_sends_no_more() {
    let (_folder, host) = start("hardened", &[]).await;
    let mut half_closed = open(&host, delivery()).await;
    half_closed.finish().await;
    assert_received(&half_closed.reply().await);
    half_closed.assert_closed().await;
}

#[tokio::test]
async fn the_hardened_host_completes_requests_under_way_before_it_stops() {
    let (folder, host) = start("hardened", &[("HEAD_TIMEOUT", "60")]).await;
    let mut under_way = under_way(&host, SECRET).await;
    // Without a whole head there is no request to complete.
    let in_the_head = open(&host, &delivery()[..50]).await;
    let mut idle = open(&host, delivery()).await;
    assert_received(&idle.reply().await);

    host.signal("-TERM");
    in_the_head.assert_closed().await;
    idle.assert_closed().await;
    let refused = TcpStream::connect(host.address()).await.expect_err("it listens no more");
    assert_eq!(refused.kind(), io::ErrorKind::ConnectionRefused);
    under_way.assert_silent().await;
    under_way.send(&EXAMPLE[CUT..]).await;
    assert_received(&last_reply(&mut under_way).await);
    drop(under_way);
    assert!(host.end().await.ends_with("Stopped.\n"));
    assert_eq!(events(folder.path()).len(), 1);
}
