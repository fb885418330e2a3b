//! A client of the provider's own list, `GET /blocked_numbers`.
//!
//! Nothing that it says in errors and logs holds the API key, a phone number or a URL: the URL of a page may
//! name a number.

use std::{
    collections::HashSet,
    net::IpAddr,
    ops::RangeInclusive,
    time::{Duration, SystemTime},
};

use anyhow::{Context, anyhow, ensure};
use httpdate::parse_http_date;
use reqwest::{
    Client, StatusCode,
    header::{ACCEPT, HeaderValue, RETRY_AFTER},
    redirect,
};
use secrecy::{ExposeSecret, SecretString};
use serde_json::Value;
use tokio::time::sleep;
use url::Url;

const KEY: &str = "x-lox24-auth-token";

const CONNECT: Duration = Duration::from_secs(10);
/// For a page, from the first byte sent to the last one read.
const WHOLE_REQUEST: Duration = Duration::from_secs(30);
const ATTEMPTS: u32 = 4;
/// Before the second attempt, then twice as long each time.
const BACKOFF: Duration = Duration::from_secs(1);
/// Of a `Retry-After`. A blocked address waits for ten minutes, which a timer's next run does as well.
const LONGEST_WAIT: Duration = Duration::from_secs(120);
const LARGEST_PAGE: usize = 16 * 1024 * 1024;
const MOST_PAGES: usize = 100_000;

/// What PostgreSQL can hold, and more than can be: a wrong time must not cost the number.
const TIMES: RangeInclusive<i64> = 0..=253_402_300_799;

/// The type of an unsubscribed number; 1 is blocked by the customer.
const UNSUBSCRIBED: i64 = 2;

/// The pages of the list, one after another.
pub(crate) struct BlockedNumbers {
    client: Client,
    key: HeaderValue,
    next: Option<Url>,
    visited: HashSet<Url>,
}

/// A page of the list.
#[derive(Default)]
pub(crate) struct Page {
    /// How many entries it has, of whatever type and format.
    pub(crate) read: u64,
    /// The numbers, and when each was added, in Unix seconds.
    pub(crate) entries: Vec<(String, Option<i64>)>,
    /// How many have no number in E.164 format.
    pub(crate) invalid: u64,
    /// How many entries the whole list has.
    pub(crate) total: u64,
}

impl BlockedNumbers {
    /// The unsubscribed numbers below a base URL, for an API key (`CLIENT:KEY`).
    pub(crate) fn new(base: &str, key: &SecretString) -> anyhow::Result<Self> {
        let url = format!("{}/blocked_numbers?type={UNSUBSCRIBED}", base.trim_end_matches('/'));
        let url: Url = url.parse().context("the API's URL is invalid")?;
        let host = url.host_str().unwrap_or_default().trim_matches(['[', ']']);
        let loopback = host == "localhost" || host.parse().is_ok_and(|ip: IpAddr| ip.is_loopback());
        let https = url.scheme() == "https";
        ensure!(
            https || url.scheme() == "http" && loopback,
            "the API's URL must be https://: the key must not travel in plain text"
        );

        let secret = key.expose_secret();
        let two_parts = secret.split_once(':').is_some_and(|(client, key)| {
            !client.is_empty() && !key.is_empty() && !secret.contains(char::is_whitespace)
        });
        ensure!(two_parts, "the API key is not of the form CLIENT:KEY");
        let mut key = HeaderValue::from_str(secret).context("the API key is unusable")?;
        key.set_sensitive(true);

        let client = Client::builder()
            .connect_timeout(CONNECT)
            .timeout(WHOLE_REQUEST)
            // The key would go along.
            .redirect(redirect::Policy::none())
            .user_agent(concat!("unsubscribe-webhook-reconcile/", env!("CARGO_PKG_VERSION")));
        // A proxy is another machine; https:// goes through it as it is.
        let client = if https { client.https_only(true) } else { client.no_proxy() };
        let client = client.build().context("no HTTP client")?;
        Ok(Self { client, key, next: Some(url), visited: HashSet::new() })
    }

    /// The next page; `None` after the last one. After an error the list was not read to its end.
    pub(crate) async fn next_page(&mut self) -> anyhow::Result<Option<Page>> {
        let Some(url) = self.next.take() else { return Ok(None) };
        let body = self.get(&url).await?;
        let collection: Value = serde_json::from_slice(&body).unwrap_or_default();
        let members = collection["hydra:member"].as_array();
        let total = collection["hydra:totalItems"].as_u64();
        let (members, total) =
            members.zip(total).context("a page of the list is not a Hydra collection")?;

        if let Some(next) = collection["hydra:view"]["hydra:next"].as_str() {
            let mut next = url.join(next).ok().context("hydra:next is not a URL")?;
            next.set_fragment(None);
            ensure!(next.origin() == url.origin(), "hydra:next is on another origin: not followed");
            self.visited.insert(url);
            ensure!(
                !self.visited.contains(&next),
                "hydra:next is a page that was read before: a loop"
            );
            ensure!(self.visited.len() < MOST_PAGES, "the list has no end");
            self.next = Some(next);
        }
        let mut page = Page { read: members.len() as u64, total, ..Page::default() };
        for member in members {
            // The query asks for one type; a server that ignores it must not add another.
            if member["type"].as_i64().is_some_and(|kind| kind != UNSUBSCRIBED) {
                continue;
            }
            let added_at = member["added_at"].as_i64().filter(|time| TIMES.contains(time));
            match member["number"].as_str().filter(|number| is_number(number)) {
                Some(number) => page.entries.push((number.to_owned(), added_at)),
                None => page.invalid += 1,
            }
        }
        Ok(Some(page))
    }

    async fn get(&self, url: &Url) -> anyhow::Result<Vec<u8>> {
        let mut backoff = BACKOFF;
        for attempt in 1.. {
            let (reason, wait) = match self.attempt(url).await {
                Ok(body) => return Ok(body),
                Err(Failure::Temporary(reason, wait)) => (reason, wait.unwrap_or(backoff)),
                Err(Failure::Permanent(error)) => return Err(error),
            };
            ensure!(attempt < ATTEMPTS, "{ATTEMPTS} attempts failed, the last one with: {reason}");
            ensure!(wait <= LONGEST_WAIT, "{reason}, to be tried again in {} s", wait.as_secs());
            tracing::warn!("attempt {attempt}: {reason}; trying again in {} s", wait.as_secs());
            sleep(wait).await;
            backoff *= 2;
        }
        unreachable!("the last attempt returns")
    }

    async fn attempt(&self, url: &Url) -> Result<Vec<u8>, Failure> {
        let request = self.client.get(url.clone()).header(KEY, self.key.clone());
        let mut response = request.header(ACCEPT, "application/ld+json").send().await?;
        let status = response.status();
        if status == StatusCode::TOO_MANY_REQUESTS || status.is_server_error() {
            let wait = response.headers().get(RETRY_AFTER).and_then(retry_after);
            return Err(Failure::Temporary(status.to_string(), wait));
        }
        if status != StatusCode::OK {
            return Err(Failure::Permanent(anyhow!("the response is {status}")));
        }
        let mut body = Vec::new();
        while let Some(chunk) = response.chunk().await? {
            body.extend_from_slice(&chunk);
            if body.len() > LARGEST_PAGE {
                return Err(Failure::Permanent(anyhow!("a page exceeds {LARGEST_PAGE} bytes")));
            }
        }
        Ok(body)
    }
}

/// Why an attempt failed, and how long the server wants to be left alone.
enum Failure {
    Temporary(String, Option<Duration>),
    Permanent(anyhow::Error),
}

impl From<reqwest::Error> for Failure {
    fn from(error: reqwest::Error) -> Self {
        let causes = anyhow::Error::from(error.without_url());
        Self::Temporary(format!("{causes:#}"), None)
    }
}

/// Seconds, or a date.
fn retry_after(value: &HeaderValue) -> Option<Duration> {
    let value = value.to_str().ok()?;
    let seconds = value.parse().ok().map(Duration::from_secs);
    seconds.or_else(|| {
        let date = parse_http_date(value).ok()?;
        Some(date.duration_since(SystemTime::now()).unwrap_or_default())
    })
}

fn is_number(text: &str) -> bool {
    text.strip_prefix('+').is_some_and(|digits| {
        (4..=20).contains(&digits.len()) && digits.bytes().all(|byte| byte.is_ascii_digit())
    })
}
