//! A stand-in for the provider: delivers events to a host as LOX24 does, without an account there.
//!
//! ```sh
//! cargo run --example deliver -- http://127.0.0.1:3000/webhooks/unsubscribe --token s3cr3t
//! ```
//!
//! Each event comes with an id of its own, and up to four times with the same one until the host
//! acknowledges it. `--duplicate` shows whether a host stores a repeated event once, `--corrupt`
//! what it does with one that it cannot read; `--help` tells the rest.

use std::{
    fmt,
    hash::{BuildHasher, RandomState},
    num::NonZeroU64,
    process::ExitCode,
    time::Duration,
};

use anyhow::{Context as _, bail};
use bytes::Bytes;
use http::{Request, Uri, header::CONTENT_TYPE};
use http_body_util::{BodyExt, Collected, Full, Limited};
use hyper_util::{
    client::legacy::{Client, connect::HttpConnector},
    rt::TokioExecutor,
};
use indicatif::{ProgressBar, ProgressStyle};
use serde_json::{Value, json};
use tokio::time::{sleep, timeout};
use unsubscribe_webhook::Credential;
use uuid::{Builder, Uuid};

const USAGE: &str = "\
Usage: deliver URL --token SECRET [--count N] [--duplicate] [--corrupt] [--backoff SECONDS]

  URL                where the host listens, http:// only
  --token SECRET     what X-LOX24-Token holds; others see it in the list of processes
  --count N          how many events, one after another (1)
  --duplicate        send each event again after the host has acknowledged it
  --corrupt          cut every body off in the middle
  --backoff SECONDS  the pause after a first attempt, then doubled (1)
  --help             print this text

At the end: delivered  acknowledged (200-299), as many times as it was sent
            retried    delivered, but not at the first attempt
            lost       not acknowledged in four attempts
Exit code: 0, 1 if an event was lost, 2 for wrong usage
";

/// Attempts in all: after the fourth one the provider gives the event up.
const ATTEMPTS: u32 = 4;
/// How long the host may take to answer.
const PATIENCE: Duration = Duration::from_secs(10);
/// As many lost events are listed; a problem of the host's is seen in the first few.
const LISTED: usize = 10;
/// Of an answer, no more is read: the host under test may be anything.
const ANSWER_LIMIT: usize = 64 * 1024;

#[tokio::main(flavor = "current_thread")]
async fn main() -> anyhow::Result<ExitCode> {
    match Options::from_env() {
        Ok(Some(options)) => {
            let summary = deliver_all(&options).await?;
            print!("{summary}");
            Ok(if summary.lost == 0 { ExitCode::SUCCESS } else { ExitCode::FAILURE })
        }
        Ok(None) => {
            print!("{USAGE}");
            Ok(ExitCode::SUCCESS)
        }
        Err(error) => {
            eprint!("deliver: {}\n\n{USAGE}", without_values(&error));
            Ok(ExitCode::from(2))
        }
    }
}

async fn deliver_all(options: &Options) -> anyhow::Result<Summary> {
    let client = Client::builder(TokioExecutor::new()).build_http();
    let provider = Provider { client, options };
    // Every run has ids and phone numbers of its own, so that a host takes none for a repetition.
    let random = RandomState::new();
    let mut summary = Summary::default();
    // Draws on stderr, and nowhere if that is no terminal.
    let bar = ProgressBar::new(options.count.get())
        .with_style(ProgressStyle::with_template("{bar:40} {pos}/{len}, {eta} left{msg}")?);

    for number in 0..options.count.get() {
        let (id, mut event) = new_event(number, &random);
        let mut outcome = provider.deliver(&mut event, 1).await;
        if let (&Ok(attempt), true) = (&outcome, options.duplicate) {
            // A provider that lost the 200 goes on with the next attempt.
            let duplicate = provider.deliver(&mut event, ATTEMPTS.min(attempt + 1)).await;
            outcome = duplicate.map(|_| attempt).context("the duplicate");
            summary.duplicates += 1;
        }
        match outcome {
            Ok(attempt) => {
                summary.delivered += 1;
                summary.retried += u64::from(attempt > 1);
            }
            Err(answer) => {
                summary.lost += 1;
                bar.set_message(format!(", {} lost", summary.lost));
                if summary.listed.len() < LISTED {
                    summary.listed.push(format!("{id}  {answer:#}"));
                }
            }
        }
        bar.inc(1);
    }
    bar.finish_and_clear();
    Ok(summary)
}

struct Provider<'a> {
    client: Client<HttpConnector, Full<Bytes>>,
    options: &'a Options,
}

impl Provider<'_> {
    /// The number of the attempt that was acknowledged; otherwise the last answer in words.
    async fn deliver(&self, event: &mut Value, first_attempt: u32) -> anyhow::Result<u32> {
        let mut attempt = first_attempt;
        let mut backoff = self.options.backoff;
        loop {
            // The id stays: by it the host knows that this is the same event.
            event["attempt_number"] = json!(attempt);
            match self.post(event).await {
                Ok(()) => return Ok(attempt),
                Err(answer) if attempt == ATTEMPTS => return Err(answer),
                Err(_) => sleep(backoff).await,
            }
            attempt += 1;
            backoff = backoff.saturating_mul(2);
        }
    }

    /// One attempt: `Ok` is an answer from 200 to 299.
    async fn post(&self, event: &Value) -> anyhow::Result<()> {
        let mut body = serde_json::to_vec(event)?;
        if self.options.corrupt {
            // Content-Length is that of the rest: the request is whole, the JSON in it is not.
            body.truncate(body.len() / 2);
        }
        let mut request = Request::post(&self.options.url)
            .header(CONTENT_TYPE, "application/json")
            .body(Full::from(body))?;
        self.options.credential.sign(&mut request);

        let exchange = async {
            let (head, body) = self.client.request(request).await?.into_parts();
            // Read to its end, so that the connection can be used again.
            let body = Limited::new(body, ANSWER_LIMIT).collect().await;
            anyhow::Ok((head, body.map(Collected::to_bytes).unwrap_or_default()))
        };
        let Ok(answer) = timeout(PATIENCE, exchange).await else {
            bail!("no answer in {} s", PATIENCE.as_secs());
        };
        let (head, body) = answer.context("no answer")?;
        if head.status.is_success() {
            return Ok(());
        }
        let mut words = head.status.as_u16().to_string();
        let kind = head.headers.get(CONTENT_TYPE).and_then(|value| value.to_str().ok());
        if kind.is_some_and(|kind| kind.starts_with("application/problem+json")) {
            let problem: Value = serde_json::from_slice(&body).unwrap_or_default();
            for word in ["code", "pointer"].iter().filter_map(|name| problem[name].as_str()) {
                // Escaped: what a host answers must not steer the terminal.
                words.push(' ');
                words.extend(word.escape_debug());
            }
        }
        bail!(words)
    }
}

/// The contract's example as an event of its own: with a new id, phone number and request.
fn new_event(number: u64, random: &RandomState) -> (Uuid, Value) {
    // The standard library's only randomness: it saves a crate, and is enough for a stand-in.
    let [high, low] = ["high", "low"].map(|half| u128::from(random.hash_one((half, number))));
    let id = Builder::from_random_bytes(((high << 64) | low).to_be_bytes()).into_uuid();
    // Counted from a random start, so that no two of a run are alike.
    let serial = (random.hash_one("start") % 100_000_000 + number) % 100_000_000;

    let mut event: Value =
        serde_json::from_str(include_str!("event.json")).expect("the example is JSON");
    event["id"] = json!(id.to_string());
    event["data"]["phone"] = json!(format!("+49111{serial:08}"));
    event["data"]["unsubscribe_request_id"] = json!(serial);
    event["attempts_total"] = json!(ATTEMPTS);
    (id, event)
}

#[derive(Default)]
struct Summary {
    delivered: u64,
    duplicates: u64,
    retried: u64,
    lost: u64,
    /// The first of the lost ones: a long run against a dead host must not fill the memory.
    listed: Vec<String>,
}

impl fmt::Display for Summary {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { delivered, duplicates, retried, lost, listed } = self;
        writeln!(f, "delivered        {delivered}\nduplicates sent  {duplicates}")?;
        writeln!(f, "retried          {retried}\nlost             {lost}")?;
        for event in listed {
            writeln!(f, "  {event}")?;
        }
        match lost - listed.len() as u64 {
            0 => Ok(()),
            more => writeln!(f, "  and {more} more"),
        }
    }
}

struct Options {
    url: Uri,
    credential: Credential,
    count: NonZeroU64,
    duplicate: bool,
    corrupt: bool,
    backoff: Duration,
}

impl Options {
    /// `None` is a call for help.
    fn from_env() -> Result<Option<Self>, lexopt::Error> {
        use lexopt::prelude::*;

        let (mut url, mut credential, mut count) = (None, None, NonZeroU64::MIN);
        let (mut duplicate, mut corrupt, mut backoff) = (false, false, Duration::from_secs(1));
        let mut arguments = lexopt::Parser::from_env();
        while let Some(argument) = arguments.next()? {
            match argument {
                Value(value) if url.is_none() => url = Some(http_url(&value.string()?)?),
                Long("token") => {
                    let secret = arguments.value()?.string()?;
                    // The same check that the host's side makes: a secret that could never match.
                    let token = Credential::token(secret);
                    credential = Some(token.map_err(|error| format!("--token: {error}"))?);
                }
                Long("count") => {
                    let number = arguments.value()?.parse();
                    count = number.map_err(|_| "--count takes a whole number from 1")?;
                }
                Long("duplicate") => duplicate = true,
                Long("corrupt") => corrupt = true,
                Long("backoff") => {
                    let seconds = arguments.value()?.parse().ok();
                    backoff = seconds
                        .and_then(|seconds| Duration::try_from_secs_f64(seconds).ok())
                        .ok_or("--backoff takes seconds, such as 0.5")?;
                }
                Short('h') | Long("help") => return Ok(None),
                other => return Err(other.unexpected()),
            }
        }
        let url = url.ok_or("the URL is missing")?;
        let credential = credential.ok_or("--token is missing")?;
        Ok(Some(Self { url, credential, count, duplicate, corrupt, backoff }))
    }
}

/// No TLS: a stand-in runs beside the host, behind whatever ends TLS in front of it.
fn http_url(url: &str) -> Result<Uri, lexopt::Error> {
    let url = url.parse().ok().filter(|url: &Uri| url.scheme_str() == Some("http"));
    url.ok_or("the URL must be http://HOST:PORT/PATH; https is not supported".into())
}

/// An argument in the wrong place may be the secret, so none is repeated.
fn without_values(error: &lexopt::Error) -> String {
    match error {
        lexopt::Error::UnexpectedArgument(_) => "more than one URL".to_owned(),
        lexopt::Error::UnexpectedValue { option, .. } => format!("{option} takes no value"),
        lexopt::Error::NonUnicodeValue(_) => "an argument is not UTF-8".to_owned(),
        other => other.to_string(),
    }
}
