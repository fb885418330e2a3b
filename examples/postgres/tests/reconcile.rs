//! `reconcile` as a process, with a real PostgreSQL and a stand-in for the provider's API.

#![allow(clippy::unwrap_used)]

mod common;

use std::{
    future::ready,
    io::Error,
    sync::{Arc, Mutex},
    time::{Duration, Instant},
};

use axum::{
    Json, Router,
    body::{Body, Bytes},
    response::{IntoResponse, Response},
};
use common::{Database, command, output};
use futures_util::stream;
use http::{Request, StatusCode, header::LOCATION};
use postgres_host::SuppressionList;
use serde_json::json;
use sqlx::Row;
use tokio::net::TcpListener;

const RECONCILE: &str = env!("CARGO_BIN_EXE_reconcile");
const KEY: &str = "4711:k3y-of-the-api";
const FIRST: &str = "/blocked_numbers?type=2";

#[tokio::test]
async fn what_is_missing_is_added_from_all_pages() {
    let mut database = database().await;
    let rows = "('+4911100001', 2), ('+4911100002', NULL), ('+4911100003', 7)";
    database.execute(&format!("INSERT INTO suppression (phone, user_id) VALUES {rows}")).await;
    // References that are resolved in three ways; the last page says null, as some do.
    let provider = Provider::start(|path, _| match path {
        FIRST => page(&["+4911100001", "+4911100002"], 6, Some("/blocked_numbers?type=2&page=2")),
        "/blocked_numbers?type=2&page=2" => {
            page(&["+4911100003", "+4911100004"], 6, Some("?page=3#a"))
        }
        "/blocked_numbers?page=3" => page(&["+4911100005", "+4911100005"], 6, None),
        _ => StatusCode::NOT_FOUND.into_response(),
    });
    let provider = provider.await;

    let output = database.reconcile(&provider, &["--dry-run"]).await;
    assert_eq!(output, (1, summary(6, 3, 3, 0), String::new()));
    assert_eq!(database.count("suppression").await, 3);

    let output = database.reconcile(&provider, &[]).await;
    assert_eq!(output, (1, summary(6, 3, 3, 3), String::new()));
    assert_eq!(provider.paths().len(), 6);
    let added = database.rows("source = 'provider_list'").await;
    let number = |phone: &str| (phone.to_owned(), Some(2), Some(1_700_000_000));
    assert_eq!(added, [number("+4911100003"), number("+4911100004"), number("+4911100005")]);

    // And is known from then on.
    let output = database.reconcile(&provider, &[]).await;
    assert_eq!(output, (0, summary(6, 6, 0, 0), String::new()));
    assert_eq!(database.count("suppression").await, 6);
}

#[tokio::test]
async fn temporary_errors_are_tried_again() {
    let database = database().await;
    let provider = Provider::start(|_, number| match number {
        0 => page(&["+4911100001"], 2, Some("?page=2")),
        1 => StatusCode::SERVICE_UNAVAILABLE.into_response(),
        2 => {
            // The connection breaks in the middle of the body.
            let parts = [Ok(Bytes::from("{\"hydra:member\"")), Err(Error::other("broken"))];
            Body::from_stream(stream::iter(parts)).into_response()
        }
        3 => too_many_requests("3"),
        _ => page(&["+4911100002"], 2, None),
    });
    let (provider, start) = (provider.await, Instant::now());

    let (code, stdout, stderr) = database.reconcile(&provider, &[]).await;

    assert_eq!((code, stdout), (1, summary(2, 0, 2, 2)));
    for warning in ["503 Service Unavailable; trying again in 1 s", "Requests; trying again in 3 s"]
    {
        assert!(stderr.contains(warning), "{stderr}");
    }
    assert!(start.elapsed() >= Duration::from_secs(6), "{:?}", start.elapsed());
    assert_eq!(provider.paths().len(), 5);
}

fn too_many_requests(retry_after: &'static str) -> Response {
    (StatusCode::TOO_MANY_REQUESTS, [("retry-after", retry_after)]).into_response()
}

const FAR: &str = "Fri, 31 Dec 9999 23:59:59 GMT";

/// The error, how many numbers are read before it, how many requests are sent, and the provider's responses
/// by the path and another origin.
type Case = (&'static str, u64, usize, fn(&str, &str) -> Response);

#[tokio::test]
async fn a_list_that_is_not_read_to_its_end_is_an_error() {
    // A page of one number out of two, that refers to another page.
    fn first(next: &str) -> Response {
        page(&["+4911100001"], 2, Some(next))
    }
    let cases: [Case; 14] = [
        ("the response is 401", 0, 1, |_, _| StatusCode::UNAUTHORIZED.into_response()),
        ("the response is 302", 0, 1, |_, elsewhere| {
            (StatusCode::FOUND, [(LOCATION, format!("{elsewhere}{FIRST}"))]).into_response()
        }),
        ("not a Hydra collection", 0, 1, |_, _| Json(json!(["+4911100001"])).into_response()),
        ("not a Hydra collection", 0, 1, |_, _| "+4911100001".into_response()),
        ("a page exceeds", 0, 1, |_, _| vec![b' '; 17 << 20].into_response()),
        ("429 Too Many Requests, to be tried again", 0, 1, |_, _| too_many_requests("600")),
        ("429 Too Many Requests, to be tried again", 0, 1, |_, _| too_many_requests(FAR)),
        ("3 entries, of which 1 were read", 1, 1, |_, _| page(&["+4911100001"], 3, None)),
        ("a loop", 1, 2, |path, _| match path {
            FIRST => first("?page=2"),
            _ => page(&["+4911100002"], 2, Some(&format!("{FIRST}#again"))),
        }),
        ("4 attempts failed, the last one with: 500", 1, 5, |path, _| match path {
            FIRST => first("?page=2"),
            _ => StatusCode::INTERNAL_SERVER_ERROR.into_response(),
        }),
        // The key stays on its origin.
        ("another origin", 0, 1, |_, elsewhere| first(elsewhere)),
        ("another origin", 0, 1, |_, elsewhere| first(&elsewhere.replace("http:", ""))),
        ("another origin", 0, 1, |_, elsewhere| {
            first(&elsewhere.replace("127.0.0.1", "localhost"))
        }),
        ("another origin", 0, 1, |_, _| first("https://api.lox24.eu/blocked_numbers?page=2")),
    ];
    let elsewhere = Provider::start(|_, _| page(&["+4911100001"], 1, None)).await;
    for (error, read, requests, responses) in cases {
        let url = elsewhere.url.clone();
        let provider = Provider::start(move |path, _| responses(path, &url)).await;
        let mut database = database().await;
        let (code, stdout, stderr) = database.reconcile(&provider, &[]).await;
        assert_eq!((code, stdout), (2, summary(read, 0, read, read)), "{error}");
        assert!(stderr.contains(error), "{error}: {stderr}");
        assert_eq!(provider.paths().len(), requests, "{error}");
        assert_eq!(database.count("suppression").await.unsigned_abs(), read, "{error}");
    }
    assert_eq!(elsewhere.paths().len(), 0);
}

#[tokio::test]
async fn each_entry_counts_by_its_format_and_type() {
    const TIME: i64 = 1_700_000_000;
    let mut database = database().await;
    let provider = Provider::start(|_, _| {
        let mut members: Vec<_> = [
            json!("4911100001"),
            json!("+49111x"),
            json!("+491"),
            json!(""),
            json!("+4911100001\n"),
            json!("+４９１１１"),
            json!("+491110000111100001111"),
            json!(4_911_100_001_i64),
        ]
        .map(|invalid| json!({"number": invalid, "type": 2, "added_at": TIME}))
        .into();
        members.extend([json!({"type": 2}), json!("+4911100001")]);
        // A wrong time costs no number, and a missing type is that of the query.
        for (digit, time) in (0..).zip([json!(i64::MAX), json!(-1), json!("today"), json!(TIME)]) {
            let number = format!("+491110000{digit}");
            members.push(json!({"number": number, "type": 2, "added_at": time}));
        }
        members.push(json!({"number": "+4911100008"}));
        // The customer blocked this one, whatever the query says.
        members.push(json!({"number": "+4911100009", "type": 1, "added_at": TIME}));
        Json(json!({"hydra:totalItems": members.len(), "hydra:member": members})).into_response()
    });
    let provider = provider.await;

    let (code, stdout, stderr) = database.reconcile(&provider, &[]).await;

    assert_eq!((code, stdout), (2, summary(16, 0, 5, 5)));
    assert!(stderr.contains("10 entries of the provider's list have no number"), "{stderr}");
    let times: Vec<_> = database.rows("true").await.into_iter().map(|row| row.2).collect();
    assert_eq!(times, [None, None, None, Some(TIME), None]);
}

#[tokio::test]
async fn an_empty_list_is_an_error_when_ours_is_not() {
    let mut database = database().await;
    let provider = Provider::start(|_, _| page(&[], 0, None)).await;
    assert_eq!(database.reconcile(&provider, &[]).await.0, 0);

    database.execute("INSERT INTO suppression (phone, user_id) VALUES ('+4911100001', 2)").await;
    let (code, stdout, stderr) = database.reconcile(&provider, &[]).await;

    assert_eq!((code, stdout), (2, summary(0, 0, 0, 0)));
    assert!(stderr.contains("is empty, and ours is not"), "{stderr}");
}

#[tokio::test]
async fn wrong_settings_are_named_and_the_key_is_not_sent() {
    let database = database().await;
    let provider = Provider::start(|_, _| page(&[], 0, None)).await;
    let port = provider.url.rsplit_once(':').unwrap().1;
    let url = &*provider.url;
    for (name, value, words) in [
        // 0.0.0.0 reaches this machine, but so does a name that may have another owner tomorrow.
        ("LOX24_API_URL", &*format!("http://0.0.0.0:{port}"), "must be https://"),
        ("LOX24_API_URL", &format!("http://localhost.example:{port}"), "must be https://"),
        ("LOX24_API_URL", "ftp://127.0.0.1", "must be https://"),
        ("LOX24_API_URL", "k3y-of-the-api", "the API's URL is invalid"),
        ("LOX24_API_KEY", "k3y-of-the-api", "not of the form CLIENT:KEY"),
        ("LOX24_API_KEY", "4711:k3y-of-the-api\n", "not of the form CLIENT:KEY"),
        ("LOX24_API_KEY", "4711:k3y-of-the-api\u{1}", "the API key is unusable"),
        ("LOX24_API_KEY", "4711:", "not of the form CLIENT:KEY"),
        ("WEBHOOK_ACCOUNT", "k3y-of-the-api", "WEBHOOK_ACCOUNT is not an integer"),
        ("HTTP_PROXY", "http://127.0.0.1:1", ""),
    ] {
        let (code, _, stderr) = database.reconcile_with(url, &[(name, value)], &[]).await;
        assert!(stderr.contains(words), "{words}: {stderr}");
        // Only the last one: to this machine there is no proxy.
        assert_eq!(code, if words.is_empty() { 0 } else { 2 }, "{words}");
        assert_eq!(provider.paths().len(), usize::from(words.is_empty()), "{words}");
    }
    for argument in [KEY, &format!("--dry-run={KEY}"), &format!("--key={KEY}"), &format!("--{KEY}")]
    {
        let output = database.reconcile(&provider, &[argument]).await;
        let error = "reconcile: unknown arguments: see --help\n";
        assert_eq!(output, (2, String::new(), error.to_owned()));
    }
    assert_eq!(database.reconcile(&provider, &["--help"]).await.0, 0);
}

/// A list of this test's own, without rows.
async fn database() -> Database {
    let database = Database::create().await;
    SuppressionList::open(&database.url, 1).await.unwrap();
    database
}

/// The exit code, stdout and stderr.
type Output = (i32, String, String);

impl Database {
    /// Number, account and the provider's time of rows of the list.
    async fn rows(&mut self, condition: &str) -> Vec<(String, Option<i64>, Option<i64>)> {
        let query = format!(
            "SELECT phone, user_id, extract(epoch FROM provider_added_at)::bigint FROM suppression
             WHERE {condition} ORDER BY phone, user_id"
        );
        let rows = sqlx::query(&query).fetch_all(&mut self.connection).await.unwrap();
        rows.iter().map(|row| (row.get(0), row.get(1), row.get(2))).collect()
    }

    async fn reconcile(&self, provider: &Provider, arguments: &[&str]) -> Output {
        self.reconcile_with(&provider.url, &[], arguments).await
    }

    /// Asserts that neither a number nor the key is printed.
    async fn reconcile_with(
        &self,
        url: &str,
        settings: &[(&str, &str)],
        arguments: &[&str],
    ) -> Output {
        let mut all = vec![
            ("DATABASE_URL", &*self.url),
            ("LOX24_API_URL", url),
            ("LOX24_API_KEY", KEY),
            ("WEBHOOK_ACCOUNT", "2"),
        ];
        all.extend(settings);
        let mut command = command(RECONCILE, &all);
        command.args(arguments);
        let (code, stdout, stderr) = output(command).await;
        for text in [&stdout, &stderr] {
            assert!(!text.contains("k3y") && !text.contains("11100"), "{text}");
        }
        (code.unwrap(), stdout, stderr)
    }
}

fn summary(read: u64, known: u64, missing: u64, added: u64) -> String {
    format!("read     {read}\nknown    {known}\nmissing  {missing}\nadded    {added}\n")
}

/// A stand-in for the provider's API.
struct Provider {
    url: String,
    paths: Arc<Mutex<Vec<String>>>,
}

impl Provider {
    /// Responds to requests that have the key, by their path and query or by their number.
    async fn start(responses: impl Fn(&str, usize) -> Response + Send + Sync + 'static) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let url = format!("http://{}", listener.local_addr().unwrap());
        let paths = Arc::new(Mutex::new(Vec::new()));
        let (requested, responses) = (paths.clone(), Arc::new(responses));
        let api = move |request: Request<Body>| {
            let path = request.uri().to_string();
            let mut requested = requested.lock().unwrap();
            let response = if request.headers()["x-lox24-auth-token"] == KEY {
                responses(&path, requested.len())
            } else {
                StatusCode::FORBIDDEN.into_response()
            };
            requested.push(path);
            ready(response)
        };
        let server = axum::serve(listener, Router::new().fallback(api));
        tokio::spawn(server.into_future());
        Self { url, paths }
    }

    /// Of the requests that came.
    fn paths(&self) -> Vec<String> {
        self.paths.lock().unwrap().clone()
    }
}

/// A page of the list.
fn page(numbers: &[&str], total: u64, next: Option<&str>) -> Response {
    let entry = |(id, number): (usize, _)| {
        json!({"@id": format!("/blocked_numbers/{id}"), "id": id, "number": number, "type": 2,
            "added_at": 1_700_000_000})
    };
    let members: Vec<_> = numbers.iter().enumerate().map(entry).collect();
    Json(json!({
        "@type": "hydra:Collection",
        "hydra:member": members,
        "hydra:totalItems": total,
        "hydra:view": {"@type": "hydra:PartialCollectionView", "hydra:next": next},
    }))
    .into_response()
}
