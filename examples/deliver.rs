//! A stand-in for the provider: delivers events to a host as LOX24 does, without an account there.
//!
//! ```sh
//! cargo run --example deliver -- http://127.0.0.1:3000/webhooks/unsubscribe --token s3cr3t
//! ```
//!
//! Each event comes with an id of its own, and up to four times with the same one until the host
//! acknowledges it. `--duplicate` shows whether a host stores a repeated event once, `--corrupt`
//! what it does with one that it cannot read. `--report` writes down what became of each event, to
//! be compared with what the host has stored; `--help` tells the rest.

use std::{
    fmt,
    fs::File,
    hash::{BuildHasher, DefaultHasher, Hash, Hasher, RandomState},
    io::{BufWriter, Write},
    num::{NonZeroU64, NonZeroUsize},
    path::PathBuf,
    pin::pin,
    process::ExitCode,
    str::FromStr,
    time::Duration,
};

use anyhow::{Context as _, bail};
use base64::{Engine, prelude::BASE64_STANDARD};
use bytes::Bytes;
use futures_util::{StreamExt, stream};
use http::{Request, StatusCode, Uri, header::CONTENT_TYPE};
use http_body_util::{BodyExt, Collected, Full, Limited};
use hyper_util::{
    client::legacy::{Client, connect::HttpConnector},
    rt::TokioExecutor,
};
use indicatif::{ProgressBar, ProgressStyle};
use serde::Serialize;
use serde_json::{Value, json};
use tokio::time::{Instant, sleep, sleep_until, timeout};
use unsubscribe_webhook::Credential;
use uuid::Builder;

const USAGE: &str = "\
Usage: deliver URL --token SECRET [OPTIONS]

  URL                    where the host listens, http:// only
  --token SECRET         what X-LOX24-Token holds; others see it in the list of processes
  --count N              how many events (1)
  --concurrency N        how many of them at a time, waits for a retry included (1)
  --rate N               how many to start a second (as fast as it goes)
  --duplicate[=PERCENT]  send an event again after the host has acknowledged it (100)
  --corrupt[=PERCENT]    cut a body off before its end (100)
  --reconnect            a connection of its own for each attempt
  --backoff SECONDS      the pause after a first attempt, then doubled (1)
  --seed N               send what another run with this seed has sent (something new)
  --report FILE          write down each event and what became of it, as lines of JSON
  --help                 print this text

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
/// As many bytes are missing from a corrupt body: few, so that it is still one of a kind.
const CUT_OFF: usize = 16;
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
    let idle_connections = if options.reconnect { 0 } else { usize::MAX };
    let provider = Provider {
        client: Client::builder(TokioExecutor::new())
            .pool_max_idle_per_host(idle_connections)
            .build_http(),
        options,
        // Without a seed every run has ids and numbers of its own, so that a host takes none for a
        // repetition.
        random: Random(options.seed.unwrap_or_else(|| RandomState::new().hash_one(()))),
        start: Instant::now(),
    };
    let mut report = options.report.as_ref().map(File::create).transpose()?.map(BufWriter::new);
    let mut summary = Summary::default();
    // Draws on stderr, and nowhere if that is no terminal.
    let bar = ProgressBar::new(options.count.get())
        .with_style(ProgressStyle::with_template("{bar:40} {pos}/{len}, {eta} left{msg}")?);

    let deliveries = stream::iter(0..options.count.get())
        .then(|number| provider.turn(number))
        .map(|number| provider.deliver(number))
        .buffer_unordered(options.concurrency.get());
    let mut deliveries = pin!(deliveries);
    while let Some(delivery) = deliveries.next().await {
        if let Some(report) = &mut report {
            serde_json::to_writer(&mut *report, &delivery)?;
            report.write_all(b"\n")?;
        }
        summary.add(&delivery);
        if summary.lost > 0 {
            bar.set_message(format!(", {} lost", summary.lost));
        }
        bar.inc(1);
    }
    if let Some(mut report) = report {
        report.flush()?;
    }
    bar.finish_and_clear();
    summary.took = provider.start.elapsed();
    Ok(summary)
}

struct Provider<'a> {
    client: Client<HttpConnector, Full<Bytes>>,
    options: &'a Options,
    random: Random,
    start: Instant,
}

/// An event and what became of it: a line of the report.
#[derive(Serialize)]
struct Delivery {
    id: String,
    /// As it was sent last.
    event: Value,
    /// The body instead, in base64, if it was cut off.
    #[serde(skip_serializing_if = "Option::is_none")]
    corrupt: Option<String>,
    /// The number of the attempt that was acknowledged.
    acknowledged: Option<u32>,
    /// Whether it was sent again after that, and with what attempt this was acknowledged.
    duplicated: bool,
    duplicate_acknowledged: Option<u32>,
    /// Of all attempts, and of those of the duplicate.
    answers: Vec<Answer>,
}

#[derive(Serialize)]
struct Answer {
    /// `None`: no answer came.
    status: Option<u16>,
    milliseconds: u128,
    /// What a refusal says, or why there is no answer.
    #[serde(skip_serializing_if = "Option::is_none")]
    words: Option<String>,
}

impl Provider<'_> {
    /// Waits until it is time for an event.
    async fn turn(&self, number: u64) -> u64 {
        if let Some(rate) = self.options.rate {
            // Precise enough for any number of events that somebody waits for.
            #[allow(clippy::cast_precision_loss)]
            let seconds = number as f64 / rate.get() as f64;
            sleep_until(self.start + Duration::from_secs_f64(seconds)).await;
        }
        number
    }

    async fn deliver(&self, number: u64) -> Delivery {
        let (id, event) = new_event(number, &self.random);
        let corrupt = self.random.happens("corrupt", number, self.options.corrupt);
        let mut delivery = Delivery {
            id,
            event,
            corrupt: corrupt.then(String::new),
            acknowledged: None,
            duplicated: false,
            duplicate_acknowledged: None,
            answers: Vec::new(),
        };
        delivery.acknowledged = self.attempt(&mut delivery, 1).await;
        if let Some(attempt) = delivery.acknowledged {
            delivery.duplicated = self.random.happens("duplicate", number, self.options.duplicate);
            if delivery.duplicated {
                // A provider that lost the 200 goes on with the next attempt.
                let next = ATTEMPTS.min(attempt + 1);
                delivery.duplicate_acknowledged = self.attempt(&mut delivery, next).await;
            }
        }
        delivery
    }

    /// Tries until the host acknowledges, and says at which attempt; or the attempts are used up.
    async fn attempt(&self, delivery: &mut Delivery, first: u32) -> Option<u32> {
        let mut backoff = self.options.backoff;
        for attempt in first..=ATTEMPTS {
            if attempt > first {
                sleep(backoff).await;
                backoff = backoff.saturating_mul(2);
            }
            // The id stays: by it the host knows that this is the same event.
            delivery.event["attempt_number"] = json!(attempt);
            let mut body = delivery.event.to_string().into_bytes();
            if let Some(corrupt) = &mut delivery.corrupt {
                // Content-Length is that of the rest: the request is whole, the JSON in it is not.
                body.truncate(body.len() - CUT_OFF);
                *corrupt = BASE64_STANDARD.encode(&body);
            }
            let start = Instant::now();
            let (status, words) = match self.post(body).await {
                Ok((status, words)) => (Some(status.as_u16()), words),
                Err(error) => (None, Some(format!("{error:#}"))),
            };
            let milliseconds = start.elapsed().as_millis();
            delivery.answers.push(Answer { status, milliseconds, words });
            if status.is_some_and(|status| (200..300).contains(&status)) {
                return Some(attempt);
            }
        }
        None
    }

    /// One attempt: the status, and what the problem details say.
    async fn post(&self, body: Vec<u8>) -> anyhow::Result<(StatusCode, Option<String>)> {
        let mut request = Request::post(&self.options.url)
            .header(CONTENT_TYPE, "application/json")
            .body(Full::from(body))?;
        self.options.credential.apply_to(&mut request);

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
        let kind = head.headers.get(CONTENT_TYPE).and_then(|value| value.to_str().ok());
        if !kind.is_some_and(|kind| kind.starts_with("application/problem+json")) {
            return Ok((head.status, None));
        }
        let problem: Value = serde_json::from_slice(&body).unwrap_or_default();
        let words = ["code", "pointer"].iter().filter_map(|name| problem[name].as_str());
        // Escaped: what a host answers must not steer the terminal.
        let words: Vec<_> = words.map(|word| word.escape_debug().to_string()).collect();
        Ok((head.status, Some(words.join(" "))))
    }
}

/// The standard library's only randomness: it saves a crate, and is enough for a stand-in.
struct Random(u64);

impl Random {
    fn of(&self, what: &str, number: u64) -> u64 {
        let mut hasher = DefaultHasher::new();
        (self.0, what, number).hash(&mut hasher);
        hasher.finish()
    }

    fn happens(&self, what: &str, number: u64, percent: f64) -> bool {
        // As fine as a double is.
        #[allow(clippy::cast_precision_loss)]
        let share = self.of(what, number) as f64 / u64::MAX as f64;
        share * 100.0 < percent
    }
}

/// The contract's example as an event of its own: with a new id, phone number and request.
fn new_event(number: u64, random: &Random) -> (String, Value) {
    let [high, low] = ["high", "low"].map(|half| u128::from(random.of(half, number)));
    let id = Builder::from_random_bytes(((high << 64) | low).to_be_bytes()).into_uuid().to_string();
    // Counted from a random start, so that no two of a run are alike.
    let serial = (random.of("start", 0) % 100_000_000 + number) % 100_000_000;

    let mut event: Value =
        serde_json::from_str(include_str!("event.json")).expect("the example is JSON");
    event["id"] = json!(id);
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
    /// In milliseconds, of all attempts.
    slowest: u128,
    took: Duration,
    /// The first of the lost ones: a long run against a dead host must not fill the memory.
    listed: Vec<String>,
}

impl Summary {
    fn add(&mut self, delivery: &Delivery) {
        self.duplicates += u64::from(delivery.duplicated);
        let slowest = delivery.answers.iter().map(|answer| answer.milliseconds).max();
        self.slowest = self.slowest.max(slowest.unwrap_or_default());
        let again = !delivery.duplicated || delivery.duplicate_acknowledged.is_some();
        if let Some(attempt) = delivery.acknowledged.filter(|_| again) {
            self.delivered += 1;
            self.retried += u64::from(attempt > 1);
            return;
        }
        self.lost += 1;
        if self.listed.len() < LISTED {
            let which = if delivery.duplicated { "the duplicate: " } else { "" };
            let last = delivery.answers.last().map(Answer::to_string).unwrap_or_default();
            self.listed.push(format!("{}  {which}{last}", delivery.id));
        }
    }
}

impl fmt::Display for Answer {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let status = self.status.map(|status| status.to_string());
        let parts: Vec<_> = status.iter().chain(&self.words).map(String::as_str).collect();
        f.write_str(&parts.join(" "))
    }
}

impl fmt::Display for Summary {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { delivered, duplicates, retried, lost, slowest, took, listed } = self;
        writeln!(f, "delivered        {delivered}\nduplicates sent  {duplicates}")?;
        writeln!(f, "retried          {retried}\nlost             {lost}")?;
        writeln!(f, "slowest answer   {slowest} ms\nseconds          {:.3}", took.as_secs_f64())?;
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
    concurrency: NonZeroUsize,
    rate: Option<NonZeroU64>,
    /// In percent of the events.
    duplicate: f64,
    corrupt: f64,
    reconnect: bool,
    backoff: Duration,
    seed: Option<u64>,
    report: Option<PathBuf>,
}

impl Options {
    /// `None` is a call for help.
    fn from_env() -> Result<Option<Self>, lexopt::Error> {
        use lexopt::prelude::*;

        let (mut url, mut credential, mut count) = (None, None, NonZeroU64::MIN);
        let (mut concurrency, mut rate) = (NonZeroUsize::MIN, None);
        let (mut duplicate, mut corrupt, mut backoff) = (0.0, 0.0, Duration::from_secs(1));
        let (mut reconnect, mut seed, mut report) = (false, None, None);
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
                Long("count") => count = whole_number(&mut arguments, "--count")?,
                Long("concurrency") => concurrency = whole_number(&mut arguments, "--concurrency")?,
                Long("rate") => rate = Some(whole_number(&mut arguments, "--rate")?),
                Long("duplicate") => duplicate = percent(&mut arguments, "--duplicate")?,
                Long("corrupt") => corrupt = percent(&mut arguments, "--corrupt")?,
                Long("reconnect") => reconnect = true,
                Long("backoff") => {
                    let seconds = arguments.value()?.parse().ok();
                    backoff = seconds
                        .and_then(|seconds| Duration::try_from_secs_f64(seconds).ok())
                        .ok_or("--backoff takes seconds, such as 0.5")?;
                }
                Long("seed") => {
                    let number = arguments.value()?.parse();
                    seed = Some(number.map_err(|_| "--seed takes a whole number")?);
                }
                Long("report") => report = Some(arguments.value()?.into()),
                Short('h') | Long("help") => return Ok(None),
                other => return Err(other.unexpected()),
            }
        }
        Ok(Some(Self {
            url: url.ok_or("the URL is missing")?,
            credential: credential.ok_or("--token is missing")?,
            count,
            concurrency,
            rate,
            duplicate,
            corrupt,
            reconnect,
            backoff,
            seed,
            report,
        }))
    }
}

fn whole_number<N: FromStr>(
    arguments: &mut lexopt::Parser,
    name: &str,
) -> Result<N, lexopt::Error> {
    let value = arguments.value()?;
    let number = value.to_str().and_then(|value| value.parse().ok());
    number.ok_or_else(|| format!("{name} takes a whole number from 1").into())
}

/// All of them, unless there is a `=PERCENT`.
fn percent(arguments: &mut lexopt::Parser, name: &str) -> Result<f64, lexopt::Error> {
    let Some(value) = arguments.optional_value() else { return Ok(100.0) };
    let percent = value.to_str().and_then(|value| value.parse().ok());
    let percent = percent.filter(|percent| (0.0..=100.0).contains(percent));
    percent.ok_or_else(|| format!("{name} takes percent, such as {name}=5").into())
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
