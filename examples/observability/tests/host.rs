//! The app as a process: the metrics of real deliveries.

use std::{
    fs,
    io::{BufRead, BufReader},
    process::{Child, Command, Stdio},
};

use axum::body::Body;
use http::Request;
use http_body_util::BodyExt;
use hyper_util::{client::legacy::Client, rt::TokioExecutor};
use tempfile::TempDir;
use tower::service_fn;
use unsubscribe_webhook::{Credential, testing::conformance};

const SECRET: &str = "correct-horse-7";
const EXAMPLE: &str = include_str!("../../event.json");

/// A running app in a temporary folder.
struct Host {
    child: Child,
    folder: TempDir,
    webhook: String,
    metrics: String,
}

impl Host {
    fn start() -> Self {
        let folder = TempDir::new().expect("a folder");
        let mut child = Command::new(env!("CARGO_BIN_EXE_observability-host"))
            .current_dir(folder.path())
            .envs([("BIND_ADDR", "127.0.0.1:0"), ("METRICS_ADDR", "127.0.0.1:0")])
            .env("WEBHOOK_SECRET", SECRET)
            .stdout(Stdio::piped())
            .stderr(Stdio::null())
            .spawn()
            .expect("the app starts");
        let mut lines = BufReader::new(child.stdout.take().expect("piped")).lines();
        let mut address = |label: &str| {
            let line = lines.next().expect("a line").expect("UTF-8");
            line.strip_prefix(label).expect("its label").trim().to_owned()
        };
        let webhook = format!("{}/webhooks/unsubscribe", address("Listening on"));
        let metrics = address("Metrics");
        Self { child, folder, webhook, metrics }
    }

    async fn deliver(&self, secret: &str, body: impl Into<Body>) -> u16 {
        let mut request = Request::post(&self.webhook)
            .header("content-type", "application/json")
            .body(body.into())
            .expect("a request");
        Credential::token(secret).expect("usable").apply_to(&mut request);
        send(request).await.0
    }

    /// The value of a metric, by its whole name.
    async fn metric(&self, name: &str) -> String {
        let (status, metrics) =
            send(Request::get(&self.metrics).body(Body::empty()).expect("a request")).await;
        assert_eq!(status, 200);
        let value = metrics.lines().find_map(|line| line.strip_prefix(name)?.strip_prefix(' '));
        value.unwrap_or_else(|| panic!("no {name} in {metrics}")).to_owned()
    }

    async fn deliveries(&self, labels: [&str; 5]) -> String {
        let [outcome, status, code, cause, credential] = labels;
        self.metric(&format!(
            "webhook_deliveries_total{{outcome=\"{outcome}\",status=\"{status}\",\
             code=\"{code}\",cause=\"{cause}\",credential=\"{credential}\"}}"
        ))
        .await
    }
}

impl Drop for Host {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

async fn send(request: Request<Body>) -> (u16, String) {
    let client = Client::builder(TokioExecutor::new()).build_http();
    let response = client.request(request).await.expect("a response");
    let status = response.status().as_u16();
    let body = response.into_body().collect().await.expect("a body").to_bytes();
    (status, String::from_utf8(body.into()).expect("UTF-8"))
}

#[tokio::test]
async fn the_app_passes_the_suite() {
    let host = Host::start();
    let address = host.webhook.trim_end_matches("/webhooks/unsubscribe").to_owned();
    let client = Client::builder(TokioExecutor::new()).pool_max_idle_per_host(0).build_http();
    let app = service_fn(move |mut request: Request<Body>| {
        let path = request.uri().path_and_query().expect("a path");
        *request.uri_mut() = format!("{address}{path}").parse().expect("a URI");
        client.request(request)
    });
    let credential = Credential::token(SECRET).expect("usable");
    let file = host.folder.path().join("unsubscribed.txt");
    let report = conformance(app, "/webhooks/unsubscribe", &credential)
        .over_network()
        .acknowledges_other_events()
        .suppressed(async move |phone| {
            let list = fs::read_to_string(&file).expect("the list");
            list.lines().any(|line| line == format!("{phone:?}"))
        })
        .await;
    report.assert_passed();
}

#[tokio::test]
async fn each_delivery_is_counted_by_its_outcome() {
    // Outcome, status, code, cause and credential, and how many there are in the end.
    const COUNTS: [([&str; 5], &str); 10] = [
        (["accepted", "200", "", "", "0"], "2"),
        (["unauthenticated", "401", "unauthorized", "absent", ""], "1"),
        (["unauthenticated", "401", "unauthorized", "wrong", ""], "1"),
        (["unauthenticated", "401", "unauthorized", "duplicate", ""], "0"),
        (["refused", "400", "invalid_field", "", "0"], "1"),
        (["refused", "400", "missing_field", "", "0"], "2"),
        (["refused", "403", "foreign_account", "", "0"], "0"),
        (["failed", "500", "server_error", "", "0"], "2"),
        (["not_found", "404", "", "", "0"], "0"),
        (["not_found", "405", "", "", "0"], "1"),
    ];

    let host = Host::start();
    // Registered before the first delivery, so that `increase` sees it.
    for (labels, _) in COUNTS {
        assert_eq!(host.deliveries(labels).await, "0", "{labels:?}");
    }
    assert_eq!(host.metric("webhook_lost_total").await, "0");

    let last_attempt = EXAMPLE.replace(r#""attempt_number": 1"#, r#""attempt_number": 4"#);
    let invalid = |body: &str| body.replace(r#""id": 4"#, r#""id": 7"#);
    let unnamed = |body: &str| body.replace(r#""name""#, r#""other""#);
    assert_eq!(host.deliver(SECRET, EXAMPLE).await, 200);
    assert_eq!(host.deliver(SECRET, last_attempt.clone()).await, 200);
    assert_eq!(host.deliver("a-guess", EXAMPLE).await, 401);
    let without = Request::post(&host.webhook).body(Body::from(EXAMPLE)).expect("a request");
    assert_eq!(send(without).await.0, 401);
    let mut get = Request::get(&host.webhook).body(Body::empty()).expect("a request");
    Credential::token(SECRET).expect("usable").apply_to(&mut get);
    assert_eq!(send(get).await.0, 405);
    assert_eq!(host.deliver(SECRET, r#"{"name":"sms.delivery"}"#).await, 200);
    assert_eq!(host.deliver(SECRET, unnamed(EXAMPLE)).await, 400);
    // Kept, so nothing is lost with the last attempt.
    assert_eq!(host.deliver(SECRET, invalid(&last_attempt)).await, 400);
    assert_eq!(host.metric("webhook_lost_total").await, "0");
    assert_eq!(host.deliver(SECRET, unnamed(&last_attempt)).await, 400);
    assert_eq!(host.metric("webhook_lost_total").await, "1");
    // The handler fails: its file is a folder now.
    let file = host.folder.path().join("unsubscribed.txt");
    fs::remove_file(&file).expect("the list");
    fs::create_dir(&file).expect("a folder");
    assert_eq!(host.deliver(SECRET, EXAMPLE).await, 500);
    assert_eq!(host.metric("webhook_lost_total").await, "1");
    assert_eq!(host.deliver(SECRET, invalid(&last_attempt)).await, 500);
    assert_eq!(host.metric("webhook_lost_total").await, "2");

    for (labels, count) in COUNTS {
        assert_eq!(host.deliveries(labels).await, count, "{labels:?}");
    }
    let other_event = ["other_event", "200", "other_event", "", "0"];
    assert_eq!(host.deliveries(other_event).await, "1");
}
