//! The stand-in for the provider, `examples/deliver.rs`, as a process against an app on the network.

#![allow(clippy::unwrap_used)]

mod common;

use std::{
    collections::HashSet,
    future::ready,
    io::{BufRead, BufReader},
    net::SocketAddr,
    process::{Command, Stdio},
    sync::{Arc, Mutex},
    time::Instant,
};

use axum::{Router, extract::ConnectInfo, http::StatusCode, routing::post};
use common::program;
use serde_json::Value;
use tokio::net::TcpListener;
use unsubscribe_webhook::{Received, Rejection, UnsubscribeEvent, WebhookAuth};

const SECRET: &str = "s3cr3t-of-the-dashboard";

#[tokio::test]
async fn an_event_is_sent_until_it_is_acknowledged() {
    // The options, what the app responds with to an attempt, the attempts of each event that reach its
    // handler, and how many are delivered, duplicates, retried and lost.
    type Case = (&'static str, fn(i64) -> u16, &'static [i64], [usize; 4]);
    let cases: [Case; 7] = [
        ("--count=3", |_| 200, &[1], [3, 0, 0, 0]),
        ("--count=2", |_| 299, &[1], [2, 0, 0, 0]),
        ("--count=2", |attempt| if attempt < 3 { 500 } else { 200 }, &[1, 2, 3], [2, 0, 2, 0]),
        // A duplicate is the same event again, as the next attempt or as the last one.
        ("--count=3 --duplicate=100", |_| 202, &[1, 2], [3, 3, 0, 0]),
        (
            "--duplicate=100",
            |attempt| if attempt < 4 { 500 } else { 200 },
            &[1, 2, 3, 4, 4],
            [1, 1, 1, 0],
        ),
        // The app gets half a request, refuses it, and receives the event by the retry.
        ("--count=2 --disconnect=100", |_| 200, &[2], [2, 0, 2, 0]),
        ("--disconnect=100 --duplicate=100", |_| 200, &[2, 3], [1, 1, 1, 0]),
    ];
    for (options, status, attempts, figures) in cases {
        let app = App::start(status).await;

        let run = app.deliver(&format!("--backoff 0.01 {options}")).await;

        run.assert_figures(figures, "");
        assert_eq!(app.assert_attempts(attempts).len(), figures[0], "{options}");
        let is_failure = attempts.len() > 2;
        assert_eq!(run.stderr, if is_failure { SERVER_ERROR } else { "" }, "{options}");
    }
}

const SERVER_ERROR: &str = "Not acknowledged: 500 (see the app's log)\n";

#[tokio::test]
async fn an_event_is_lost_after_four_attempts() {
    for (status, hint) in [
        (302, "use the final URL"),
        (401, "is --token the app's secret?"),
        (403, "does the app accept this sender, and account 2?"),
        (404, "is this the path of the webhook?"),
        (500, "see the app's log"),
    ] {
        let app = App::start(move |_| status).await;

        let run = app.deliver("--count 12 --backoff 0.01").await;

        let ids = app.assert_attempts(&[1, 2, 3, 4]);
        let lost: Vec<_> = ids[..10].iter().map(|id| format!("  {id}  {status}\n")).collect();
        run.assert_figures([0, 0, 0, 12], &(lost.concat() + "  and 2 more\n"));
        assert_eq!(run.stderr, format!("Not acknowledged: {status} ({hint})\n"));
    }
}

#[tokio::test]
async fn an_event_whose_duplicate_is_refused_is_lost() {
    let app = App::start(|attempt| if attempt > 1 { 500 } else { 200 }).await;

    let run = app.deliver("--duplicate 100 --backoff 0.01").await;

    let ids = app.assert_attempts(&[1, 2, 3, 4]);
    run.assert_figures([0, 1, 0, 1], &format!("  {}  the duplicate: 500\n", ids[0]));
}

#[tokio::test]
async fn a_refusal_is_listed_with_its_code() {
    // The account of the example is 2.
    for (auth, refusal) in [
        (WebhookAuth::new("another secret"), "  401 unauthorized\n"),
        (WebhookAuth::new(SECRET).allow_accounts([3]), "  403 foreign_account /data/user_id\n"),
    ] {
        let app = App::start_with(auth, |_| 200).await;

        let run = app.deliver("--backoff 0.01").await;

        run.assert_exit(1);
        assert!(run.stdout.ends_with(refusal), "{}", run.stdout);
    }
}

#[test]
fn the_first_failure_is_printed_at_once() {
    let mut child = Command::new(program("deliver"))
        .args(["http://127.0.0.1:1/", "--token", SECRET, "--backoff", "60"])
        .stderr(Stdio::piped())
        .spawn()
        .unwrap();
    let mut line = String::new();
    BufReader::new(child.stderr.take().unwrap()).read_line(&mut line).unwrap();
    child.kill().unwrap();
    child.wait().unwrap();
    assert!(line.starts_with("Not acknowledged: no response: "), "{line}");
    assert!(line.ends_with("(is the app running at this address?)\n"), "{line}");
}

#[tokio::test]
async fn attempts_follow_the_backoff_and_the_rate() {
    for (options, status, expected) in [
        ("--backoff 0.1", 500, &[0, 100, 300, 700][..]),
        ("--count 5 --rate 10", 200, &[0, 100, 200, 300, 400]),
    ] {
        let app = App::start(move |_| status).await;

        app.deliver(options).await;

        let seen = app.seen();
        assert_eq!(seen.len(), expected.len());
        for (attempt, expected) in seen.iter().zip(expected) {
            // The first one may have been late itself.
            let milliseconds = 90 + (attempt.at - seen[0].at).as_millis();
            assert!((*expected..=2 * expected + 180).contains(&milliseconds), "{milliseconds}");
        }
    }
}

#[tokio::test]
async fn a_run_sends_events_of_its_own_unless_it_has_a_seed() {
    let mut runs = Vec::new();
    for seed in ["--seed 1", "--seed 1", "--seed 2", "", ""] {
        let app = App::start(|_| 200).await;
        let options = "--count 100 --duplicate 20 --disconnect 10 --backoff 0";
        app.deliver(&format!("{options} {seed}")).await.assert_exit(0);
        runs.push(app.events());
    }

    assert_eq!(runs[0], runs[1]);
    let events = runs[1..].concat();
    assert!(events.iter().all(|event| event.attempts_total == Some(4)), "{events:?}");
    assert!(events.iter().all(|event| event.id.get_version_num() == 4), "{events:?}");
    assert_eq!(distinct(&events, |event| event.id.to_string()), 400);
    assert_eq!(distinct(&events, |event| event.data.phone.clone()), 400);
    assert_eq!(distinct(&events, |event| event.data.unsubscribe_request_id.to_string()), 400);
    // Some five standard deviations around what is expected: 80 and 40.
    let duplicates = events.len() - 400;
    assert!((40..=120).contains(&duplicates), "{duplicates}");
    let disconnected = 400 - events.iter().filter(|event| event.attempt_number == Some(1)).count();
    assert!((10..=70).contains(&disconnected), "{disconnected}");
}

#[tokio::test]
async fn events_overlap_as_far_as_they_may() {
    for (concurrency, expected) in [
        (1, [1, 2, 3, 4, 1, 2, 3, 4, 1, 2, 3, 4]),
        (2, [1, 1, 2, 2, 3, 3, 4, 4, 1, 2, 3, 4]),
        (3, [1, 1, 1, 2, 2, 2, 3, 3, 3, 4, 4, 4]),
    ] {
        let app = App::start(|_| 500).await;
        app.deliver(&format!("--count 3 --backoff 0.1 --concurrency {concurrency}")).await;
        let attempts = app.events().into_iter().filter_map(|event| event.attempt_number);
        assert_eq!(attempts.collect::<Vec<_>>(), expected);
    }
}

#[tokio::test]
async fn connections_are_used_again_or_not() {
    for (options, expected) in [("", 1), ("--reconnect", 3)] {
        let app = App::start(|_| 200).await;
        app.deliver(&format!("--count 3 {options}")).await.assert_exit(0);
        let connections: HashSet<_> = app.seen().iter().map(|seen| seen.client).collect();
        assert_eq!(connections.len(), expected);
    }
}

#[tokio::test]
async fn a_report_records_what_became_of_each_event() {
    let app = App::start(|attempt| if attempt == 1 { 500 } else { 200 }).await;
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("report.jsonl");
    let options = format!("--count 3 --backoff 0 --report {}", path.to_str().unwrap());
    let lines = || -> Vec<Value> {
        let text = std::fs::read_to_string(&path).unwrap();
        text.lines().map(|line| serde_json::from_str(line).unwrap()).collect()
    };

    app.deliver(&options).await.assert_exit(0);
    assert_eq!(lines().len(), 3);
    for (line, event) in lines().iter().zip(app.events().chunks(2)) {
        assert_eq!(line["id"], event[0].id.to_string());
        assert_eq!(line["acknowledged"], 2);
        assert_eq!(line["duplicated"], false);
        let responses = line["attempts"].as_array().unwrap().iter();
        let statuses: Vec<_> = responses.map(|response| &response["status"]).collect();
        assert_eq!(statuses, [500, 200]);
        assert_eq!(line["attempts"][0]["words"], "500");
        let sent = UnsubscribeEvent::from_slice(line["event"].to_string().as_bytes());
        assert_eq!(sent.unwrap(), event[1]);
    }

    deliver("http://127.0.0.1:1/", &options).await.assert_exit(1);
    assert_eq!(lines().len(), 3);
    assert!(lines()[0]["acknowledged"].is_null());
    assert!(lines()[0]["attempts"][3]["status"].is_null());
}

#[tokio::test]
async fn wrong_usage_is_an_error_without_values() {
    let url = "http://127.0.0.1:9/";
    for (arguments, fault) in [
        (&[][..], "the URL is missing"),
        (&[url], "--token is missing"),
        (&[url, "--token"], "missing argument for option '--token'"),
        (&[url, "--token", ""], "--token: the secret is empty"),
        (&[url, "--token", "s3cr3t-of-the-dashboard\n"], "--token: the secret ends with a line"),
        (&["127.0.0.1:3000/webhooks", "--token", SECRET], "the URL must start with http://"),
        (&["https://x.com/", "--token", SECRET], "the URL must start with http:// (https is not"),
        (&[url, "--count", "0"], "--count takes a whole number from 1"),
        (&[url, "--count", SECRET], "--count takes a whole number from 1"),
        (&[url, "--backoff", "-1"], "--backoff takes seconds"),
        (&[url, "--backof", "1"], "invalid option '--backof'"),
        (&[url, SECRET], "more than one URL"),
        (&[SECRET, url], "the URL must start with http://"),
        (&[url, "--duplicate", SECRET], "--duplicate takes a percentage"),
        (&[url, "--duplicate", "--count", "3"], "--duplicate takes a percentage, such as 5"),
        (&[url, "--disconnect", "101"], "--disconnect takes a percentage"),
        (&[url, "--disconnect=NaN"], "--disconnect takes a percentage"),
        (&[url, "--concurrency", "0"], "--concurrency takes a whole number from 1"),
        (&[url, "--rate", SECRET], "--rate takes a whole number from 1"),
        (&[url, "--seed", SECRET], "--seed takes a whole number"),
        (&[url, "--report", "no/x"], "--report \"no/x\": No such file"),
    ] {
        let run = run(arguments).await;

        run.assert_exit(2);
        assert_eq!(run.stdout, "");
        let expected = format!("deliver: {fault}");
        assert!(run.stderr.starts_with(&expected), "{arguments:?}: {}", run.stderr);
        // Alone, so that it does not scroll off a terminal.
        assert!(run.stderr.ends_with("\nTry --help.\n"), "{arguments:?}: {}", run.stderr);
        assert_eq!(run.stderr.lines().count(), 2, "{arguments:?}: {}", run.stderr);
    }
}

#[tokio::test]
async fn help_fits_into_a_terminal() {
    let run = run(&["--help"]).await;

    run.assert_exit(0);
    let options = "URL, --token SECRET, --count N, --concurrency N, --rate N, --duplicate PERCENT, \
                   --disconnect PERCENT, --reconnect, --backoff SECONDS, --seed N, --report FILE";
    for option in options.split(", ") {
        assert!(run.stdout.contains(&format!("\n  {option} ")), "{option}: {}", run.stdout);
    }
    let widest = run.stdout.lines().map(str::len).max();
    assert!(widest <= Some(80) && run.stdout.lines().count() < 24, "{}", run.stdout);
}

fn distinct(events: &[UnsubscribeEvent], key: impl Fn(&UnsubscribeEvent) -> String) -> usize {
    events.iter().map(key).collect::<HashSet<_>>().len()
}

/// An app that records each attempt.
struct App {
    url: String,
    log: Arc<Mutex<Vec<Seen>>>,
}

#[derive(Clone)]
struct Seen {
    at: Instant,
    client: SocketAddr,
    /// `None` if the body was refused.
    event: Option<UnsubscribeEvent>,
}

impl App {
    /// The handler responds with the status for an attempt.
    async fn start(status: impl Fn(i64) -> u16 + Clone + Send + Sync + 'static) -> Self {
        Self::start_with(WebhookAuth::new(SECRET), status).await
    }

    async fn start_with(
        auth: WebhookAuth,
        status: impl Fn(i64) -> u16 + Clone + Send + Sync + 'static,
    ) -> Self {
        let log = Arc::new(Mutex::new(Vec::new()));
        let writer = Arc::clone(&log);
        let handler = move |ConnectInfo(client), event: Result<UnsubscribeEvent, Rejection>| {
            let seen = Seen { at: Instant::now(), client, event: event.clone().ok() };
            writer.lock().unwrap().push(seen);
            let response = event.map(|event| {
                let status = status(event.attempt_number.unwrap());
                (StatusCode::from_u16(status).unwrap(), Received)
            });
            ready(response)
        };
        let app = Router::new().route("/webhooks/unsubscribe", post(handler).layer(auth));
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let url = format!("http://{}/webhooks/unsubscribe", listener.local_addr().unwrap());
        let app = app.into_make_service_with_connect_info::<SocketAddr>();
        tokio::spawn(async move { axum::serve(listener, app).await });
        Self { url, log }
    }

    /// Runs the example against this app, with the right token.
    async fn deliver(&self, options: &str) -> Run {
        deliver(&self.url, options).await
    }

    fn seen(&self) -> Vec<Seen> {
        self.log.lock().unwrap().clone()
    }

    fn events(&self) -> Vec<UnsubscribeEvent> {
        self.seen().into_iter().filter_map(|seen| seen.event).collect()
    }

    /// Asserts that the events came one after another, each with these attempts, and returns their ids.
    #[track_caller]
    fn assert_attempts(&self, expected: &[i64]) -> Vec<String> {
        let events = self.events();
        let chunks = events.chunk_by(|one, next| one.id == next.id);
        let mut ids = Vec::new();
        for event in chunks {
            let attempts: Vec<_> =
                event.iter().filter_map(|attempt| attempt.attempt_number).collect();
            assert_eq!(attempts, expected);
            ids.push(event[0].id.to_string());
        }
        assert_eq!(distinct(&events, |event| event.id.to_string()), ids.len());
        ids
    }
}

async fn deliver(url: &str, options: &str) -> Run {
    let options = options.split_whitespace();
    run(&[url, "--token", SECRET].into_iter().chain(options).collect::<Vec<_>>()).await
}

/// Runs the example to its end, beside the app of the test.
async fn run(arguments: &[&str]) -> Run {
    let mut command = Command::new(program("deliver"));
    command.args(arguments);
    let output = tokio::task::spawn_blocking(move || command.output()).await.unwrap().unwrap();
    let [stdout, stderr] =
        [output.stdout, output.stderr].map(|text| String::from_utf8(text).unwrap());
    Run { code: output.status.code(), stdout, stderr }
}

struct Run {
    code: Option<i32>,
    stdout: String,
    stderr: String,
}

impl Run {
    /// Asserts the exit code, and that the secret is not printed.
    #[track_caller]
    fn assert_exit(&self, code: i32) {
        let output = format!("{}{}", self.stdout, self.stderr);
        assert_eq!(self.code, Some(code), "{output}");
        assert!(!output.contains(SECRET), "{output}");
    }

    /// Asserts how many are delivered, duplicates, retried and lost, and what follows the figures.
    #[track_caller]
    fn assert_figures(&self, [delivered, duplicates, retried, lost]: [usize; 4], lines: &str) {
        self.assert_exit(i32::from(lost > 0));
        let figures = format!(
            "delivered        {delivered}\nduplicates sent  {duplicates}\n\
             retried          {retried}\nlost             {lost}\nseconds          "
        );
        let rest = self.stdout.strip_prefix(&figures).unwrap_or_else(|| panic!("{}", self.stdout));
        let (seconds, rest) = rest.split_once('\n').unwrap();
        assert!(seconds.parse::<f64>().unwrap() > 0.0, "{seconds}");
        assert_eq!(rest, lines);
    }
}
