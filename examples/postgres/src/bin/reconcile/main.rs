//! Adds what the provider's own list has and ours has not: opt-outs that four attempts could not deliver.

mod blocked_numbers;

use std::{env, process::ExitCode};

use anyhow::{Context, bail, ensure};
use indicatif::{ProgressBar, ProgressStyle};
use postgres_host::{
    SuppressionList,
    process::{log, required, setting},
};

use crate::blocked_numbers::BlockedNumbers;

const USAGE: &str = "\
Usage: reconcile [--dry-run]

Reads GET /blocked_numbers, the provider's own list, and adds the unsubscribed numbers that are missing on
ours.

  --dry-run  add nothing
  --help     print this text

Environment: LOX24_API_KEY    CLIENT:KEY, a key of the API (not the webhook's secret)
             WEBHOOK_ACCOUNT  the account (user_id) of the key
             DATABASE_URL     postgres://user:password@host/database
             LOX24_API_URL    https://api.lox24.eu

Exit code: 0, 1 if numbers were missing, 2 if anything went wrong or looks wrong
";

#[tokio::main]
async fn main() -> ExitCode {
    match run().await {
        Ok(code) => code,
        Err(error) => {
            eprintln!("reconcile: {error:#}");
            ExitCode::from(2)
        }
    }
}

async fn run() -> anyhow::Result<ExitCode> {
    let mut dry_run = false;
    for argument in env::args_os().skip(1) {
        match argument.to_str() {
            Some("--dry-run") => dry_run = true,
            Some("--help" | "-h") => {
                print!("{USAGE}");
                return Ok(ExitCode::SUCCESS);
            }
            // Without the argument itself, which may be the key.
            _ => bail!("unknown arguments: see --help"),
        }
    }
    log();
    let account = required("WEBHOOK_ACCOUNT")?.parse();
    let account = account.ok().context("WEBHOOK_ACCOUNT is not an integer")?;
    let key = required("LOX24_API_KEY")?.into();
    let url = setting("LOX24_API_URL")?.unwrap_or_else(|| "https://api.lox24.eu".to_owned());
    let numbers = BlockedNumbers::new(&url, &key)?;
    let list = SuppressionList::from_env().await?;

    let mut counts = Counts::default();
    let finished = reconcile(numbers, &list, account, dry_run, &mut counts).await;
    // Even if it could not go on: what was added is on the list.
    let Counts { read, known, missing, .. } = counts;
    let added = if dry_run { 0 } else { missing };
    println!("read     {read}\nknown    {known}\nmissing  {missing}\nadded    {added}");
    finished?;
    counts.check(&list, account).await?;
    Ok(ExitCode::from(u8::from(missing > 0)))
}

#[derive(Default)]
struct Counts {
    read: u64,
    known: u64,
    missing: u64,
    invalid: u64,
    /// As the last page says.
    total: u64,
}

async fn reconcile(
    mut numbers: BlockedNumbers,
    list: &SuppressionList,
    account: i64,
    dry_run: bool,
    counts: &mut Counts,
) -> anyhow::Result<()> {
    // Draws on stderr, and nowhere if that is not a terminal.
    let style = ProgressStyle::with_template("{bar:40} {pos}/{len}, {eta} left")?;
    let bar = ProgressBar::new(0).with_style(style);
    while let Some(page) = numbers.next_page().await.context("the provider's list")? {
        let missing =
            list.add_missing(&page.entries, account, dry_run).await.context("our list")?;
        counts.missing += missing;
        counts.known += page.entries.len() as u64 - missing;
        counts.read += page.read;
        counts.invalid += page.invalid;
        counts.total = page.total;
        bar.set_length(page.total);
        bar.inc(page.read);
    }
    bar.finish_and_clear();
    Ok(())
}

impl Counts {
    /// Whether what was read can be the whole list.
    async fn check(&self, list: &SuppressionList, account: i64) -> anyhow::Result<()> {
        let Self { read, invalid, total, .. } = *self;
        let is_ours_empty = !list.has_numbers_of(account).await?;
        ensure!(
            read > 0 || is_ours_empty,
            "the provider's list is empty, and ours is not: is the key of account {account}?"
        );
        ensure!(
            read == total,
            "the provider's list has {total} entries, of which {read} were read"
        );
        ensure!(
            invalid == 0,
            "{invalid} entries of the provider's list have no number in E.164 format"
        );
        Ok(())
    }
}
