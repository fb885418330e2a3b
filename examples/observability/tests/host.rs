//! The app as a process: the metrics of real deliveries.

#[path = "../../postgres/tests/common/process.rs"]
mod process;

use std::fs;

use axum::body::Body;
use http::Request;
use process::{Process, SECRET, command};
use tempfile::TempDir;

const EXAMPLE: &str = include_str!("../../event.json");

/// The running app, its folder, and the URL of its metrics.
struct Host {
    app: Process,
    folder: TempDir,
    metrics: String,
}

impl Host {
    async fn start() -> Self {
        let folder = TempDir::new().expect("a folder");
        let settings = [("METRICS_ADDR", "127.0.0.1:0")];
        let mut command = command(env!("CARGO_BIN_EXE_observability-host"), &settings);
        command.current_dir(folder.path());
        let mut app = Process::run(command).await;
        let line = app.stdout.next().expect("a line").expect("UTF-8");
        let metrics = line.strip_prefix("Metrics       ").expect("its label").to_owned();
        Self { app, folder, metrics }
    }

    async fn deliver(&self, body: impl Into<Body>) -> u16 {
        self.app.deliver(body).await.status
    }

    /// The value of a metric, by its whole name.
    async fn metric(&self, name: &str) -> String {
        let metrics = self.app.send(Request::get(&self.metrics), "").await.body;
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

#[tokio::test]
async fn the_app_passes_the_suite() {
    let host = Host::start().await;
    let suite = host.app.conformance();
    let list = async move |phone: &str| {
        let list = fs::read_to_string(host.folder.path().join("unsubscribed.txt")).expect("a list");
        list.lines().any(|line| line == format!("{phone:?}"))
    };
    suite.suppressed(list).await.assert_passed();
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

    let host = Host::start().await;
    // Registered before the first delivery, so that `increase` sees it.
    for (labels, _) in COUNTS {
        assert_eq!(host.deliveries(labels).await, "0", "{labels:?}");
    }
    assert_eq!(host.metric("webhook_lost_total").await, "0");

    let last_attempt = EXAMPLE.replace(r#""attempt_number": 1"#, r#""attempt_number": 4"#);
    let invalid = |body: &str| body.replace(r#""id": 4"#, r#""id": 7"#);
    let unnamed = |body: &str| body.replace(r#""name""#, r#""other""#);
    assert_eq!(host.deliver(EXAMPLE).await, 200);
    assert_eq!(host.deliver(last_attempt.clone()).await, 200);
    let request = || host.app.delivery();
    for (request, status) in [
        (request(), 401),
        (request().header("x-lox24-token", "a-guess"), 401),
        (request().header("x-lox24-token", SECRET).method("GET"), 405),
    ] {
        assert_eq!(host.app.send(request, EXAMPLE).await.status, status);
    }
    assert_eq!(host.deliver(r#"{"name":"sms.delivery"}"#).await, 200);
    assert_eq!(host.deliver(unnamed(EXAMPLE)).await, 400);
    // Kept, so nothing is lost with the last attempt.
    assert_eq!(host.deliver(invalid(&last_attempt)).await, 400);
    assert_eq!(host.metric("webhook_lost_total").await, "0");
    assert_eq!(host.deliver(unnamed(&last_attempt)).await, 400);
    assert_eq!(host.metric("webhook_lost_total").await, "1");
    // The handler fails: its file is a folder now.
    let file = host.folder.path().join("unsubscribed.txt");
    fs::remove_file(&file).expect("the list");
    fs::create_dir(&file).expect("a folder");
    assert_eq!(host.deliver(EXAMPLE).await, 500);
    assert_eq!(host.metric("webhook_lost_total").await, "1");
    assert_eq!(host.deliver(invalid(&last_attempt)).await, 500);
    assert_eq!(host.metric("webhook_lost_total").await, "2");

    for (labels, count) in COUNTS {
        assert_eq!(host.deliveries(labels).await, count, "{labels:?}");
    }
    let other_event = ["other_event", "200", "other_event", "", "0"];
    assert_eq!(host.deliveries(other_event).await, "1");
}
