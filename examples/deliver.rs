//! A stand-in for the provider: delivers events to an app as LOX24 does, without an account there.
//!
//! ```sh
//! cargo run --example deliver -- http://127.0.0.1:3000/webhooks/unsubscribe --token demo-secret \
//!     --count 20 --duplicate 50 --disconnect 20
//! ```
//!
//! `--duplicate` shows whether an app stores a repeated event once, `--disconnect` that it gets one on
//! a retry, and `--report` records what became of each event, to compare it with what the app has
//! stored.

use std::{
    fmt,
    fs::File,
    hash::{BuildHasher, DefaultHasher, Hash, Hasher, RandomState},
    io::{self, BufWriter, Write},
    ops::RangeBounds,
    process::{ExitCode, exit},
    str::FromStr,
    sync::Once,
    time::Duration,
};

use anyhow::Context as _;
use bytes::Bytes;
use futures_util::{StreamExt, stream};
use http::{Request, Uri};
use http_body_util::{BodyExt, Collected, Full, Limited};
use hyper_util::{
    client::legacy::{Client, connect::HttpConnector},
    rt::TokioExecutor,
};
use indicatif::{ProgressBar, ProgressStyle};
use lexopt::{Error, Parser};
use serde::Serialize;
use serde_json::{Value, json};
use tokio::time::{Instant, sleep, sleep_until, timeout};
use unsubscribe_webhook::Credential;
use uuid::Builder;

const USAGE: &str = "\
Usage: deliver URL --token SECRET [OPTIONS]

  URL                   the app's webhook, http:// only
  --token SECRET        the value of X-LOX24-Token, visible in the process list
  --count N             how many events (1)
  --concurrency N       how many of them at a time, waiting ones included (1)
  --rate N              how many to start per second (as fast as possible)
  --duplicate PERCENT   send an event again after it was acknowledged (0)
  --disconnect PERCENT  break the connection in the middle of attempt 1 (0)
  --reconnect           use a new connection for each attempt
  --backoff SECONDS     wait before the second attempt, then twice as long (1)
  --seed N              send what another run with this seed has sent
  --report FILE         write each event and what became of it as a line of JSON
  --help                print this text

At the end: delivered  acknowledged (200 to 299), with its duplicate if any
            retried    delivered, but not at the first attempt
            lost       not acknowledged in four attempts
Exit code: 0, 1 if an event was lost, 2 for wrong usage
";

/// After so many attempts the provider gives the event up.
const ATTEMPTS: u32 = 4;
/// How long the app may take to respond.
const RESPONSE_TIMEOUT: Duration = Duration::from_secs(10);
/// So many lost events are listed: the first few show what is wrong.
const LISTED: usize = 10;
/// No more of a response is read: the app under test may be anything.
const RESPONSE_LIMIT: usize = 64 * 1024;

#[tokio::main(flavor = "current_thread")]
async fn main() -> anyhow::Result<ExitCode> {
    match arguments() {
        Ok(arguments) => {
            let summary = deliver_all(arguments).await?;
            print!("{summary}");
            Ok(if summary.lost == 0 { ExitCode::SUCCESS } else { ExitCode::FAILURE })
        }
        Err(error) => {
            eprintln!("deliver: {}\nTry --help.", without_values(&error));
            Ok(ExitCode::from(2))
        }
    }
}

async fn deliver_all((url, credential, mut options): Arguments) -> anyhow::Result<Summary> {
    let mut report: Box<dyn Write> = match options.report.take() {
        Some(file) => Box::new(BufWriter::new(file)),
        None => Box::new(io::sink()),
    };
    // Draws on stderr, and nowhere if that is not a terminal.
    let bar = ProgressBar::new(options.count).with_style(ProgressStyle::with_template(
        "{spinner} {bar:30} {pos}/{len}, {elapsed} elapsed, {eta} left{msg}",
    )?);
    bar.enable_steady_tick(Duration::from_millis(100));
    let provider = Provider {
        client: Client::builder(TokioExecutor::new())
            .pool_max_idle_per_host(if options.reconnect { 0 } else { usize::MAX })
            .build_http(),
        // Without a seed, every run has its own ids and numbers.
        random: Random(options.seed.unwrap_or_else(|| RandomState::new().hash_one(()))),
        url,
        credential,
        options: &options,
        start: Instant::now(),
        bar: bar.clone(),
    };
    let mut summary = Summary::default();

    let mut deliveries = stream::iter(0..options.count)
        .map(|number| provider.deliver(number))
        .buffer_unordered(options.concurrency);
    while let Some(delivery) = deliveries.next().await {
        writeln!(report, "{}", serde_json::to_string(&delivery)?)?;
        summary.add(&delivery);
        bar.inc(1);
        bar.set_message(format!(", {} lost", summary.lost));
    }
    report.flush()?;
    bar.finish_and_clear();
    summary.took = provider.start.elapsed();
    Ok(summary)
}

struct Provider<'a> {
    client: Client<HttpConnector, Full<Bytes>>,
    url: Uri,
    credential: Credential,
    options: &'a Options,
    random: Random,
    start: Instant,
    bar: ProgressBar,
}

/// An event and what became of it: a line of the report.
#[derive(Default, Serialize)]
struct Delivery {
    id: String,
    /// As it was sent last.
    event: Value,
    /// The number of the attempt that was acknowledged.
    acknowledged: Option<u32>,
    /// Whether it was sent again after that, and the number of the attempt that was acknowledged.
    duplicated: bool,
    duplicate_acknowledged: Option<u32>,
    /// Those of the duplicate included.
    attempts: Vec<Attempt>,
}

#[derive(Serialize)]
struct Attempt {
    /// `None`: there was no response.
    status: Option<u16>,
    milliseconds: u128,
    /// The status with the code and pointer of a refusal, or why there was no response.
    words: String,
}

impl Attempt {
    fn hint(&self) -> &'static str {
        match self.status {
            None => "is the app running at this address?",
            Some(300..=399) => "use the final URL",
            Some(401) => "is --token the app's secret?",
            Some(403) => "does the app accept this sender, and account 2?",
            Some(404 | 405) => "is this the path of the webhook?",
            Some(_) => "see the app's log",
        }
    }
}

impl Provider<'_> {
    async fn deliver(&self, number: u64) -> Delivery {
        if let Some(rate) = self.options.rate {
            sleep_until(self.start + Duration::from_secs(number) / rate).await;
        }
        let (id, event) = new_event(number, &self.random);
        let mut delivery = Delivery { id, event, ..Delivery::default() };
        delivery.acknowledged = self.attempt(&mut delivery, number, 1).await;
        if let Some(attempt) = delivery.acknowledged {
            delivery.duplicated = self.random.happens("duplicate", number, self.options.duplicate);
            if delivery.duplicated {
                // A provider that lost the 200 goes on with the next attempt.
                let next = ATTEMPTS.min(attempt + 1);
                delivery.duplicate_acknowledged = self.attempt(&mut delivery, number, next).await;
            }
        }
        delivery
    }

    /// Sends until the app acknowledges, and returns the number of that attempt; or all attempts fail.
    async fn attempt(&self, delivery: &mut Delivery, number: u64, first: u32) -> Option<u32> {
        let mut backoff = self.options.backoff;
        for attempt in first..=ATTEMPTS {
            if attempt > first {
                sleep(Duration::from_secs_f64(backoff)).await;
                backoff *= 2.0;
            }
            // The id stays the same: it shows the app that this is the same event.
            delivery.event["attempt_number"] = json!(attempt);
            let body = delivery.event.to_string().into_bytes();
            let disconnects =
                attempt == 1 && self.random.happens("disconnect", number, self.options.disconnect);
            let start = Instant::now();
            let (status, words) = match self.post(body, disconnects).await {
                Ok((status, words)) => (Some(status), words),
                Err(error) => (None, format!("{error:#}")),
            };
            let sent = Attempt { status, milliseconds: start.elapsed().as_millis(), words };
            let is_acknowledged = matches!(status, Some(200..300));
            if !is_acknowledged && !disconnects {
                static FIRST: Once = Once::new();
                let report = || eprintln!("Not acknowledged: {} ({})", sent.words, sent.hint());
                FIRST.call_once(|| self.bar.suspend(report));
            }
            delivery.attempts.push(sent);
            if is_acknowledged {
                return Some(attempt);
            }
        }
        None
    }

    /// One attempt: the status, alone and with what the problem details say.
    async fn post(&self, mut body: Vec<u8>, disconnects: bool) -> anyhow::Result<(u16, String)> {
        let length = body.len();
        // The app waits for the second half until the connection ends with the exchange.
        let patience = if disconnects { Duration::from_millis(50) } else { RESPONSE_TIMEOUT };
        body.truncate(if disconnects { length / 2 } else { length });
        let mut request = Request::post(&self.url)
            .header("content-type", "application/json")
            .header("content-length", length)
            .body(Full::from(body))?;
        self.credential.apply_to(&mut request);

        let exchange = async {
            let (head, body) = self.client.request(request).await?.into_parts();
            // Read to its end, so that the connection can be used again.
            let body = Limited::new(body, RESPONSE_LIMIT).collect().await;
            anyhow::Ok((head, body.map(Collected::to_bytes).unwrap_or_default()))
        };
        let response = timeout(patience, exchange).await;
        let response = response.with_context(|| format!("no response in {patience:?}"))?;
        let (head, body) = response.context("no response")?;
        let status = head.status.as_u16();
        let mut words = status.to_string();
        let problem: Value = serde_json::from_slice(&body).unwrap_or_default();
        for word in ["code", "pointer"].iter().filter_map(|name| problem[name].as_str()) {
            // Escaped: a response must not control the terminal.
            words.push(' ');
            words.extend(word.escape_debug());
        }
        Ok((status, words))
    }
}

/// The standard library's only source of randomness: it avoids a crate, and is enough for a stand-in.
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

/// The contract's example with a new id, phone number and request.
fn new_event(number: u64, random: &Random) -> (String, Value) {
    let [high, low] = ["high", "low"].map(|half| u128::from(random.of(half, number)));
    let id = Builder::from_random_bytes(((high << 64) | low).to_be_bytes()).into_uuid().to_string();
    // Counted from a random start, so that no two of a run are the same.
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
    took: Duration,
    /// The first of the lost events: a long run against a dead app must not fill the memory.
    listed: Vec<String>,
}

impl Summary {
    fn add(&mut self, delivery: &Delivery) {
        self.duplicates += u64::from(delivery.duplicated);
        let again = !delivery.duplicated || delivery.duplicate_acknowledged.is_some();
        if let Some(attempt) = delivery.acknowledged.filter(|_| again) {
            self.delivered += 1;
            self.retried += u64::from(attempt > 1);
            return;
        }
        self.lost += 1;
        if self.listed.len() < LISTED {
            let which = if delivery.duplicated { "the duplicate: " } else { "" };
            let last = delivery.attempts.last().map(|attempt| &*attempt.words).unwrap_or_default();
            self.listed.push(format!("{}  {which}{last}", delivery.id));
        }
    }
}

impl fmt::Display for Summary {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { delivered, duplicates, retried, lost, took, listed } = self;
        writeln!(f, "delivered        {delivered}\nduplicates sent  {duplicates}")?;
        writeln!(f, "retried          {retried}\nlost             {lost}")?;
        writeln!(f, "seconds          {:.3}", took.as_secs_f64())?;
        for event in listed {
            writeln!(f, "  {event}")?;
        }
        match lost - listed.len() as u64 {
            0 => Ok(()),
            more => writeln!(f, "  and {more} more"),
        }
    }
}

#[derive(Default)]
struct Options {
    count: u64,
    concurrency: usize,
    rate: Option<u32>,
    /// In percent of the events, as the next one.
    duplicate: f64,
    disconnect: f64,
    reconnect: bool,
    /// In seconds.
    backoff: f64,
    seed: Option<u64>,
    report: Option<File>,
}

type Arguments = (Uri, Credential, Options);

fn arguments() -> Result<Arguments, Error> {
    use lexopt::prelude::{Long, Short, Value, ValueExt};

    const COUNT: &str = "a whole number from 1";
    const PERCENT: &str = "a percentage, such as 5";
    const SECONDS: &str = "seconds, such as 0.5";

    let (mut url, mut credential) = (None, None);
    let mut options = Options { count: 1, concurrency: 1, backoff: 1.0, ..Options::default() };
    let mut args = Parser::from_env();
    while let Some(argument) = args.next()? {
        match argument {
            Value(value) if url.is_none() => url = Some(http_url(&value.string()?)?),
            Long("token") => {
                // The same check as the app's: a secret that could never match is an error.
                let token = Credential::token(args.value()?.string()?);
                credential = Some(token.map_err(|error| format!("--token: {error}"))?);
            }
            Long("count") => options.count = parse(&mut args, "--count", COUNT, 1..)?,
            Long("concurrency") => {
                options.concurrency = parse(&mut args, "--concurrency", COUNT, 1..)?;
            }
            Long("rate") => options.rate = Some(parse(&mut args, "--rate", COUNT, 1..)?),
            Long("duplicate") => {
                options.duplicate = parse(&mut args, "--duplicate", PERCENT, 0.0..=100.0)?;
            }
            Long("disconnect") => {
                options.disconnect = parse(&mut args, "--disconnect", PERCENT, 0.0..=100.0)?;
            }
            Long("reconnect") => options.reconnect = true,
            Long("backoff") => options.backoff = parse(&mut args, "--backoff", SECONDS, 0.0..=1e6)?,
            Long("seed") => options.seed = Some(parse(&mut args, "--seed", "a whole number", ..)?),
            Long("report") => {
                let path = args.value()?;
                let file =
                    File::create(&path).map_err(|error| format!("--report {path:?}: {error}"));
                options.report = Some(file?);
            }
            Short('h') | Long("help") => {
                print!("{USAGE}");
                exit(0);
            }
            other => return Err(other.unexpected()),
        }
    }
    let url = url.ok_or("the URL is missing")?;
    let credential = credential.ok_or("--token is missing")?;
    Ok((url, credential, options))
}

/// The value of an option. An error does not contain it: it may be the secret.
fn parse<T: FromStr + PartialOrd>(
    args: &mut Parser,
    name: &str,
    what: &str,
    range: impl RangeBounds<T>,
) -> Result<T, Error> {
    let value = args.value()?;
    let value = value.to_str().and_then(|value| value.parse().ok());
    let value = value.filter(|value| range.contains(value));
    value.ok_or_else(|| format!("{name} takes {what}").into())
}

/// Without TLS: this runs beside the app, behind whatever terminates TLS in front of it.
fn http_url(url: &str) -> Result<Uri, Error> {
    let url = url.parse().ok().filter(|url: &Uri| url.scheme_str() == Some("http"));
    url.ok_or("the URL must start with http:// (https is not supported)".into())
}

/// An argument in the wrong place may be the secret, so none is repeated.
fn without_values(error: &Error) -> String {
    match error {
        Error::UnexpectedArgument(_) => "more than one URL".to_owned(),
        Error::UnexpectedValue { option, .. } => format!("{option} takes no value"),
        Error::NonUnicodeValue(_) => "an argument is not UTF-8".to_owned(),
        other => other.to_string(),
    }
}
