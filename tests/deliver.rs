//! The stand-in for the provider, `examples/deliver.rs`, as a process against an app on the network.

#![allow(clippy::unwrap_used)]

mod common;
#[path = "common/socket.rs"]
mod socket;

use std::{
    collections::HashSet,
    future::ready,
    io::{BufRead, BufReader},
    process::{Command, Output, Stdio},
    sync::{
        Arc, Mutex,
        atomic::{AtomicU32, Ordering},
    },
    time::{Duration, Instant},
};

use axum::{
    Router,
    extract::Request,
    middleware::{self, Next},
    response::IntoResponse,
    routing::post,
};
use base64::{Engine, prelude::BASE64_STANDARD};
use common::program;
use serde_json::Value;
use tokio::net::{TcpListener, TcpStream};
use unsubscribe_webhook::{Received, UnsubscribeEvent, WebhookAuth};

const SECRET: &str = "s3cr3t-of-the-dashboard";

#[tokio::test]
async fn delivers_each_event_once_to_a_host_that_acknowledges() {
    let host = Host::start(|_| 200).await;

    let run = host.deliver(&["--count", "5"]).await;

    run.assert_exit(0);
    run.assert_figures([5, 0, 0, 0], "");
    run.assert_stderr("");
    let events = host.events();
    assert_eq!(events.len(), 5);
    assert!(events.iter().all(|event| event.attempt_number == Some(1)), "{events:?}");
    assert!(events.iter().all(|event| event.attempts_total == Some(4)), "{events:?}");
    assert!(events.iter().all(|event| event.id.get_version_num() == 4), "{events:?}");
    assert_eq!(distinct(&events, |event| event.id.to_string()), 5);
    assert_eq!(distinct(&events, |event| event.data.phone.clone()), 5);
    assert_eq!(distinct(&events, |event| event.data.unsubscribe_request_id.to_string()), 5);
}

#[tokio::test]
async fn another_run_sends_other_events() {
    let host = Host::start(|_| 200).await;

    host.deliver(&["--count", "2"]).await.assert_exit(0);
    host.deliver(&["--count", "2"]).await.assert_exit(0);

    assert_eq!(distinct(&host.events(), |event| event.id.to_string()), 4);
    assert_eq!(distinct(&host.events(), |event| event.data.phone.clone()), 4);
}

#[tokio::test]
async fn retries_until_the_host_acknowledges() {
    let host = Host::start(|event| if event.attempt_number < Some(3) { 500 } else { 200 }).await;

    let run = host.deliver(&["--count", "2", "--backoff", "0.01"]).await;

    run.assert_exit(0);
    run.assert_figures([2, 0, 2, 0], "");
    assert_eq!(host.statuses(), [500, 500, 200, 500, 500, 200]);
    host.assert_attempts(&[&[1, 2, 3], &[1, 2, 3]]);
}

#[tokio::test]
async fn every_answer_from_200_to_299_acknowledges_and_no_other() {
    for (status, exit, attempts) in [(202, 0, 1), (299, 0, 1), (302, 1, 4), (404, 1, 4)] {
        let host = Host::start(move |_| status).await;

        let run = host.deliver(&["--backoff", "0.01"]).await;

        run.assert_exit(exit);
        assert_eq!(host.statuses(), vec![status; attempts]);
    }
}

#[tokio::test]
async fn gives_an_event_up_after_four_attempts() {
    let host = Host::start(|_| 500).await;

    let run = host.deliver(&["--backoff", "0.01"]).await;

    run.assert_exit(1);
    host.assert_attempts(&[&[1, 2, 3, 4]]);
    let id = host.events()[0].id;
    run.assert_figures([0, 0, 0, 1], &format!("  {id}  500\n"));
}

#[tokio::test]
async fn lists_what_the_host_says_of_a_lost_event() {
    // The account of the example is another one.
    let host = Host::start_with(WebhookAuth::new(SECRET).allow_accounts([3]), |_| 200).await;

    let run = host.deliver(&["--backoff", "0.01"]).await;

    run.assert_exit(1);
    assert_eq!(host.statuses(), [403; 4]);
    run.assert_stdout_has("  403 foreign_account /data/user_id\n");
}

#[tokio::test]
async fn lists_ten_lost_events_and_counts_the_rest() {
    let host = Host::start(|_| 500).await;

    let run = host.deliver(&["--count", "12", "--backoff", "0"]).await;

    run.assert_exit(1);
    let events = host.events();
    let listed: String = events
        .iter()
        .step_by(4)
        .take(10)
        .fold(String::new(), |list, event| list + &format!("  {}  500\n", event.id));
    run.assert_figures([0, 0, 0, 12], &format!("{listed}  and 2 more\n"));
}

#[tokio::test]
async fn doubles_the_pause_after_each_attempt() {
    let host = Host::start(|_| 500).await;

    host.deliver(&["--backoff", "0.1"]).await.assert_exit(1);

    let seen = host.seen();
    let pauses: Vec<Duration> = seen.windows(2).map(|pair| pair[1].at - pair[0].at).collect();
    let least = [100, 200, 400].map(Duration::from_millis);
    assert_eq!(pauses.len(), least.len());
    let in_time = |(pause, least): (&Duration, Duration)| (least..least * 2).contains(pause);
    assert!(pauses.iter().zip(least).all(in_time), "{pauses:?}");
}

#[tokio::test]
async fn a_duplicate_is_the_same_event_again() {
    let host = Host::start(|_| 200).await;

    let run = host.deliver(&["--count", "3", "--duplicate", "100"]).await;

    run.assert_exit(0);
    run.assert_figures([3, 3, 0, 0], "");
    host.assert_attempts(&[&[1, 2], &[1, 2], &[1, 2]]);
}

#[tokio::test]
async fn a_duplicate_follows_even_on_the_last_attempt() {
    let host = Host::start(|event| if event.attempt_number < Some(4) { 500 } else { 200 }).await;

    let run = host.deliver(&["--duplicate", "100", "--backoff", "0.01"]).await;

    run.assert_exit(0);
    run.assert_figures([1, 1, 1, 0], "");
    host.assert_attempts(&[&[1, 2, 3, 4, 4]]);
}

#[tokio::test]
async fn a_host_that_refuses_duplicates_is_told() {
    let host = Host::start(|event| if event.attempt_number > Some(1) { 500 } else { 200 }).await;

    let run = host.deliver(&["--duplicate", "100", "--backoff", "0.01"]).await;

    run.assert_exit(1);
    host.assert_attempts(&[&[1, 2, 3, 4]]);
    let id = host.events()[0].id;
    run.assert_figures([0, 1, 0, 1], &format!("  {id}  the duplicate: 500\n"));
}

#[tokio::test]
async fn a_corrupt_body_is_refused_four_times() {
    let host = Host::start(|_| 200).await;

    let run = host.deliver(&["--corrupt", "100", "--duplicate", "100", "--backoff", "0.01"]).await;

    run.assert_exit(1);
    assert_eq!(host.statuses(), [400; 4]);
    run.assert_figures_and([0, 0, 0, 1], "  400 not_json\n");
}

/// The app gets half a request, refuses it, and receives the event by the retry.
#[tokio::test]
async fn a_connection_that_breaks_at_the_first_attempt_is_a_retry() {
    let host = Host::start(|_| 200).await;

    let run = host.deliver(&["--count", "2", "--disconnect", "100", "--backoff", "0.01"]).await;

    run.assert_exit(0);
    run.assert_figures([2, 0, 2, 0], "");
    run.assert_stderr("");
    host.assert_attempts(&[&[2], &[2]]);
    let mut statuses = host.statuses();
    statuses.sort_unstable();
    assert_eq!(statuses, [200, 200, 400, 400]);
}

#[tokio::test]
async fn prints_the_first_failure_at_once_with_a_hint() {
    for (status, hint) in [
        (302, "302 (use the final URL)"),
        (401, "401 (is --token the app's secret?)"),
        (403, "403 (does the app accept this sender, and account 2?)"),
        (404, "404 (is the path that of the webhook?)"),
        (500, "500 (see the app's log)"),
    ] {
        let host = Host::start(move |_| status).await;

        let run = host.deliver(&["--count", "2", "--backoff", "0"]).await;

        run.assert_exit(1);
        run.assert_stderr(&format!("Not acknowledged: {hint}\n"));
    }
    let mut child = Command::new(program("deliver"))
        .args(["http://127.0.0.1:1/", "--token", SECRET, "--backoff", "60"])
        .stderr(Stdio::piped())
        .spawn()
        .unwrap();
    let mut line = String::new();
    BufReader::new(child.stderr.take().unwrap()).read_line(&mut line).unwrap();
    child.kill().unwrap();
    child.wait().unwrap();
    assert!(line.ends_with("(is the app running at this address?)\n"), "{line}");
}

#[tokio::test]
async fn a_share_of_the_events_is_duplicated_or_cut_short() {
    let host = Host::start(|_| 200).await;

    let shares = ["--duplicate=20", "--corrupt=10", "--seed", "7"];
    let run = host
        .deliver(
            &[&["--count", "400", "--backoff", "0", "--concurrency", "50"], &shares[..]].concat(),
        )
        .await;

    run.assert_exit(1);
    let refused = host.statuses().iter().filter(|status| **status == 400).count();
    let (corrupt, rest) = (refused / 4, refused % 4);
    let duplicates = host.events().len() - (400 - corrupt);
    assert_eq!(rest, 0, "each one is tried four times");
    // Some five standard deviations around what is expected: 40 and 72.
    assert!((10..=70).contains(&corrupt), "{corrupt}");
    assert!((35..=110).contains(&duplicates), "{duplicates}");
    assert_eq!(distinct(&host.events(), |event| event.id.to_string()), 400 - corrupt);
}

#[tokio::test]
async fn a_seed_makes_a_run_repeatable() {
    let runs = [["--seed", "1"], ["--seed", "1"], ["--seed", "2"]].map(|seed| async move {
        let host = Host::start(|_| 200).await;
        let options = [&["--count", "30", "--duplicate=30"], &seed[..]].concat();
        host.deliver(&options).await.assert_exit(0);
        host.events()
    });
    let [one, again, other] = runs;
    let (one, again, other) = (one.await, again.await, other.await);

    assert_eq!(one, again);
    assert!(one.iter().all(|event| other.iter().all(|unlike| unlike.id != event.id)));
}

#[tokio::test]
async fn events_overlap_as_far_as_they_may() {
    for (concurrency, expected) in [("1", 1), ("8", 8)] {
        let (now, most) = (Arc::new(AtomicU32::new(0)), Arc::new(AtomicU32::new(0)));
        let seen = Arc::clone(&most);
        let app = Router::new().fallback(async move || {
            most.fetch_max(now.fetch_add(1, Ordering::SeqCst) + 1, Ordering::SeqCst);
            tokio::time::sleep(Duration::from_millis(200)).await;
            now.fetch_sub(1, Ordering::SeqCst);
        });
        let url = serve(app).await;

        let options = ["--count", "8", "--concurrency", concurrency];
        let run = deliver(&[&[&url, "--token", SECRET], &options[..]].concat()).await;

        run.assert_exit(0);
        assert_eq!(seen.load(Ordering::SeqCst), expected);
    }
}

#[tokio::test]
async fn a_rate_spreads_the_events_over_time() {
    let host = Host::start(|_| 200).await;

    host.deliver(&["--count", "5", "--rate", "10"]).await.assert_exit(0);

    let seen = host.seen();
    assert_eq!(seen.len(), 5);
    let pauses: Vec<_> = seen.iter().map(|event| event.at - seen[0].at).collect();
    for (pause, least) in pauses.iter().zip([0, 100, 200, 300, 400]) {
        // The first one may have been late itself.
        let least = Duration::from_millis(least).saturating_sub(Duration::from_millis(90));
        assert!(*pause >= least, "{pauses:?}");
    }
}

#[tokio::test]
async fn connections_are_used_again_or_not() {
    for (options, expected) in [(&["--count", "3"][..], 1), (&["--count", "3", "--reconnect"], 3)] {
        let host = Host::start(|_| 200).await;
        let (_, address) = host.url.split_once("//").unwrap();
        let address = address.split('/').next().unwrap().to_owned();
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let url = format!("http://{}/webhooks/unsubscribe", listener.local_addr().unwrap());
        let connections = Arc::new(AtomicU32::new(0));
        let count = Arc::clone(&connections);
        tokio::spawn(async move {
            while let Ok((mut client, _)) = listener.accept().await {
                count.fetch_add(1, Ordering::SeqCst);
                let mut server = TcpStream::connect(&address).await.unwrap();
                tokio::spawn(async move {
                    tokio::io::copy_bidirectional(&mut client, &mut server).await
                });
            }
        });

        deliver(&[&[&*url, "--token", SECRET], options].concat()).await.assert_exit(0);

        assert_eq!(connections.load(Ordering::SeqCst), expected);
    }
}

#[tokio::test]
async fn a_report_tells_what_became_of_each_event() {
    let host = Host::start(|event| if event.attempt_number == Some(1) { 500 } else { 200 }).await;
    let folder = tempfile::tempdir().unwrap();
    let report = folder.path().join("report.jsonl");
    let to_report = ["--backoff", "0", "--report", report.to_str().unwrap()];
    let lines = || -> Vec<Value> {
        let text = std::fs::read_to_string(&report).unwrap();
        text.lines().map(|line| serde_json::from_str(line).unwrap()).collect()
    };
    let statuses = |line: &Value| -> Vec<u64> {
        let answers = line["answers"].as_array().unwrap();
        answers.iter().map(|answer| answer["status"].as_u64().unwrap_or_default()).collect()
    };

    host.deliver(&[&["--count", "3"], &to_report[..]].concat()).await.assert_exit(0);
    assert_eq!(lines().len(), 3);
    for (line, event) in lines().iter().zip(host.events().chunks(2)) {
        assert_eq!(line["id"], event[0].id.to_string());
        assert_eq!(line["acknowledged"], 2);
        assert_eq!(line["duplicated"], false);
        assert_eq!(line.get("corrupt"), None);
        assert_eq!(statuses(line), [500, 200]);
        let sent = UnsubscribeEvent::from_slice(line["event"].to_string().as_bytes());
        assert_eq!(sent.unwrap(), event[1]);
    }

    host.deliver(&[&["--corrupt", "100"], &to_report[..]].concat()).await.assert_exit(1);
    let [line] = &*lines() else { panic!("one event is one line") };
    assert!(line["acknowledged"].is_null());
    assert_eq!(statuses(line), [400; 4]);
    assert_eq!(line["answers"][0]["words"], "400 not_json");
    let body = BASE64_STANDARD.decode(line["corrupt"].as_str().unwrap()).unwrap();
    let whole = line["event"].to_string().into_bytes();
    assert_eq!(body, whole[..whole.len() - 16]);

    let dead =
        deliver(&[&["http://127.0.0.1:1/", "--token", SECRET], &to_report[..]].concat()).await;
    dead.assert_exit(1);
    assert!(lines()[0]["answers"][3]["status"].is_null());
}

#[tokio::test]
async fn a_wrong_token_loses_the_event_and_is_not_printed() {
    let host = Host::start(|_| 200).await;

    let run = deliver(&[&host.url, "--token", "wr0ng-t0ken", "--backoff", "0.01"]).await;

    run.assert_exit(1);
    assert_eq!(host.statuses(), [401; 4]);
    run.assert_figures_and([0, 0, 0, 1], "  401 unauthorized\n");
    run.assert_never_says("wr0ng-t0ken");
}

#[tokio::test]
async fn a_connection_that_breaks_is_an_attempt() {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let url = format!("http://{}/", listener.local_addr().unwrap());
    let accepted = Arc::new(Mutex::new(0));
    let count = Arc::clone(&accepted);
    tokio::spawn(async move {
        while let Ok((connection, _)) = listener.accept().await {
            *count.lock().unwrap() += 1;
            drop(connection);
        }
    });

    let run = deliver(&[&url, "--token", SECRET, "--backoff", "0.01"]).await;

    run.assert_exit(1);
    assert_eq!(*accepted.lock().unwrap(), 4);
    run.assert_figures_and([0, 0, 0, 1], "  no response: ");
}

#[tokio::test]
async fn wrong_usage_says_what_is_wrong() {
    let url = "http://127.0.0.1:9/";
    for (arguments, fault) in [
        (&[][..], "the URL is missing"),
        (&["--token", SECRET], "the URL is missing"),
        (&[url], "--token is missing"),
        (&[url, "--token"], "missing argument for option '--token'"),
        (&[url, "--token", ""], "--token: the secret is empty"),
        (&[url, "--token", "s3cr3t-of-the-dashboard\n"], "--token: the secret ends with a line"),
        (&["/webhooks", "--token", SECRET], "the URL must start with http://"),
        (&["127.0.0.1:3000/webhooks", "--token", SECRET], "the URL must start with http://"),
        (&["https://x.com/", "--token", SECRET], "the URL must start with http:// (https is not"),
        (&[url, "--token", SECRET, "--count", "0"], "--count takes a whole number from 1"),
        (&[url, "--token", "x", "--count", SECRET], "--count takes a whole number from 1"),
        (&[url, "--token", SECRET, "--backoff", "-1"], "--backoff takes seconds"),
        (&[url, "--token", "x", "--backoff", SECRET], "--backoff takes seconds"),
        (&[url, "--token", SECRET, "--backof", "1"], "invalid option '--backof'"),
        (&[url, SECRET], "more than one URL"),
        (&[SECRET, url], "the URL must start with http://"),
        (&[url, "--duplicate", SECRET], "--duplicate takes a percentage"),
        (&[url, "--duplicate", "--count", "3"], "--duplicate takes a percentage, such as 5"),
        (&[url, "--disconnect", "-1"], "--disconnect takes a percentage"),
        (&[url, "--corrupt=101"], "--corrupt takes a percentage"),
        (&[url, "--corrupt=NaN"], "--corrupt takes a percentage"),
        (&[url, "--concurrency", "0"], "--concurrency takes a whole number from 1"),
        (&[url, "--rate", SECRET], "--rate takes a whole number from 1"),
        (&[url, "--seed", SECRET], "--seed takes a whole number"),
        (&[url, "--token", SECRET, "--report", "no/x"], "--report \"no/x\": No such file"),
    ] {
        let run = deliver(arguments).await;

        run.assert_exit(2);
        run.assert_stdout("");
        run.assert_never_says(SECRET);
        let stderr = run.stderr();
        let expected = format!("deliver: {fault}");
        assert!(stderr.starts_with(&expected), "{arguments:?}: {stderr}");
        // Alone, so that it does not scroll off a terminal.
        assert!(stderr.ends_with("\nTry --help.\n"), "{arguments:?}: {stderr}");
        assert_eq!(stderr.lines().count(), 2, "{arguments:?}: {stderr}");
    }
}

#[tokio::test]
async fn help_is_no_error() {
    let run = deliver(&["--help"]).await;

    run.assert_exit(0);
    run.assert_stderr("");
    for option in [
        "URL ",
        "--token SECRET ",
        "--count N ",
        "--concurrency N ",
        "--rate N ",
        "--duplicate PERCENT ",
        "--disconnect PERCENT ",
        "--corrupt PERCENT ",
        "--reconnect ",
        "--backoff SECONDS ",
        "--seed N ",
        "--report FILE ",
    ] {
        run.assert_stdout_has(&format!("\n  {option}"));
    }
    let widest = run.stdout().lines().map(str::len).max();
    assert!(widest <= Some(80) && run.stdout().lines().count() < 24, "{}", run.stdout());
}

fn distinct(events: &[UnsubscribeEvent], key: impl Fn(&UnsubscribeEvent) -> String) -> usize {
    events.iter().map(key).collect::<HashSet<_>>().len()
}

/// A host as the README shows it, that writes down what comes and what it answers.
struct Host {
    url: String,
    log: Arc<Mutex<Vec<Seen>>>,
}

#[derive(Clone)]
struct Seen {
    at: Instant,
    status: u16,
    /// What the handler got; `None` where the request was refused before it.
    event: Option<UnsubscribeEvent>,
}

impl Host {
    /// The handler answers an event with the status that `answer` gives it.
    async fn start(
        answer: impl Fn(&UnsubscribeEvent) -> u16 + Clone + Send + Sync + 'static,
    ) -> Self {
        Self::start_with(WebhookAuth::new(SECRET), answer).await
    }

    async fn start_with(
        auth: WebhookAuth,
        answer: impl Fn(&UnsubscribeEvent) -> u16 + Clone + Send + Sync + 'static,
    ) -> Self {
        let handler = move |event: UnsubscribeEvent| {
            let status = http::StatusCode::from_u16(answer(&event)).unwrap();
            let mut response = (status, Received).into_response();
            response.extensions_mut().insert(event);
            ready(response)
        };
        let log = Arc::new(Mutex::new(Vec::new()));
        let writer = Arc::clone(&log);
        let write_down = move |request: Request, next: Next| {
            let (writer, at) = (Arc::clone(&writer), Instant::now());
            async move {
                let mut response = next.run(request).await;
                let event = response.extensions_mut().remove();
                let status = response.status().as_u16();
                writer.lock().unwrap().push(Seen { at, status, event });
                response
            }
        };
        let app = Router::new()
            .route("/webhooks/unsubscribe", post(handler).layer(auth))
            .layer(middleware::from_fn(write_down));

        Self { url: serve(app).await, log }
    }

    /// Runs the example against this host, with the right token.
    async fn deliver(&self, arguments: &[&str]) -> Run {
        deliver(&[&[&*self.url, "--token", SECRET], arguments].concat()).await
    }

    fn seen(&self) -> Vec<Seen> {
        self.log.lock().unwrap().clone()
    }

    fn statuses(&self) -> Vec<u16> {
        self.seen().iter().map(|seen| seen.status).collect()
    }

    fn events(&self) -> Vec<UnsubscribeEvent> {
        self.seen().into_iter().filter_map(|seen| seen.event).collect()
    }

    /// The events came one after another, each under one id and with these attempt numbers.
    #[track_caller]
    fn assert_attempts(&self, expected: &[&[i64]]) {
        let events = self.events();
        let attempts: Vec<Vec<_>> = events
            .chunk_by(|one, next| one.id == next.id)
            .map(|chunk| chunk.iter().filter_map(|event| event.attempt_number).collect())
            .collect();
        assert_eq!(attempts, expected);
        assert_eq!(distinct(&events, |event| event.id.to_string()), expected.len());
    }
}

/// Its address, with the path of the webhook.
async fn serve(app: Router) -> String {
    format!("http://{}/webhooks/unsubscribe", socket::serve(app).await)
}

struct Run(Output);

/// Runs the example to its end, beside the host of the test.
async fn deliver(arguments: &[&str]) -> Run {
    let mut command = Command::new(program("deliver"));
    command.args(arguments);
    Run(tokio::task::spawn_blocking(move || command.output()).await.unwrap().unwrap())
}

impl Run {
    fn stdout(&self) -> &str {
        std::str::from_utf8(&self.0.stdout).unwrap()
    }

    fn stderr(&self) -> &str {
        std::str::from_utf8(&self.0.stderr).unwrap()
    }

    #[track_caller]
    fn assert_exit(&self, code: i32) {
        assert_eq!(self.0.status.code(), Some(code), "{}{}", self.stdout(), self.stderr());
        self.assert_never_says(SECRET);
    }

    #[track_caller]
    fn assert_stdout(&self, expected: &str) {
        assert_eq!(self.stdout(), expected);
    }

    #[track_caller]
    fn assert_stdout_has(&self, expected: &str) {
        assert!(self.stdout().contains(expected), "{}", self.stdout());
    }

    /// Asserts delivered, duplicates, retried and lost, and exactly what follows the figures.
    #[track_caller]
    fn assert_figures(&self, expected: [u32; 4], rest: &str) {
        assert_eq!(self.figures(expected), rest);
    }

    /// The same, and that this is among what follows.
    #[track_caller]
    fn assert_figures_and(&self, expected: [u32; 4], part: &str) {
        let rest = self.figures(expected);
        assert!(rest.contains(part), "{rest}");
    }

    /// What follows the figures. How long it took is another time each run.
    #[track_caller]
    fn figures(&self, [delivered, duplicates, retried, lost]: [u32; 4]) -> &str {
        let head = format!(
            "delivered        {delivered}\nduplicates sent  {duplicates}\n\
             retried          {retried}\nlost             {lost}\nslowest response "
        );
        let (slowest, rest) = self.stdout().strip_prefix(&*head).unwrap().split_once('\n').unwrap();
        let (seconds, rest) = rest.split_once('\n').unwrap();
        assert!(slowest.strip_suffix(" ms").unwrap().parse::<u64>().is_ok(), "{slowest}");
        let seconds = seconds.strip_prefix("seconds          ").unwrap();
        assert!(seconds.parse::<f64>().unwrap() > 0.0, "{seconds}");
        rest
    }

    #[track_caller]
    fn assert_stderr(&self, expected: &str) {
        assert_eq!(self.stderr(), expected);
    }

    #[track_caller]
    fn assert_never_says(&self, secret: &str) {
        assert!(!self.stdout().contains(secret), "stdout: {}", self.stdout());
        assert!(!self.stderr().contains(secret), "stderr: {}", self.stderr());
    }
}
