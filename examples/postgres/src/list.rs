//! The suppression list: three tables, one statement for each thing that happens to them.

use std::time::Duration;

use anyhow::{Context, ensure};
use serde::{Deserialize, Serialize};
use sqlx::{
    Connection, PgConnection, PgPool, Postgres, Row,
    pool::PoolConnection,
    postgres::{PgArguments, PgConnectOptions, PgPoolOptions, PgRow},
    query::Query,
};
use tokio::time::{sleep, timeout};
use unsubscribe_webhook::{Rejection, UnsubscribeEvent};
use uuid::Uuid;

use crate::process::{required, setting};

/// Timeout for the database at start-up.
const START: Duration = Duration::from_secs(30);

/// Timeout for a connection from the pool.
const ACQUIRE: Duration = Duration::from_secs(1);
/// Timeout for a statement, by the server: one that waits for a lock must not keep its connection busy.
const STATEMENT: Duration = Duration::from_secs(1);
/// Timeout for both, whatever the network does: the provider gets its 500 before it gives up on the
/// connection.
const WORK: Duration = Duration::from_millis(1_500);

/// What is known of a refused body; the number, account and id are those of its opt-out.
#[derive(Serialize, Deserialize)]
#[expect(missing_debug_implementations, reason = "a log must not contain the number")]
pub struct Refused {
    code: String,
    pointer: Option<String>,
    phone: Option<String>,
    user_id: Option<i64>,
    id: Option<Uuid>,
}

impl From<&Rejection> for Refused {
    fn from(rejection: &Rejection) -> Self {
        let opt_out = rejection.opt_out();
        Self {
            code: rejection.code().to_string(),
            pointer: rejection.pointer().map(str::to_owned),
            phone: opt_out.map(|opt_out| opt_out.phone.clone()),
            user_id: opt_out.and_then(|opt_out| opt_out.user_id),
            id: opt_out.and_then(|opt_out| opt_out.id),
        }
    }
}

/// A handle on the database; cheap to clone. A method returns an error if the database fails, or does not
/// respond in 1.5 seconds.
#[derive(Clone, Debug)]
pub struct SuppressionList {
    pool: PgPool,
}

impl SuppressionList {
    /// From `DATABASE_URL` and `POOL_SIZE`.
    pub async fn from_env() -> anyhow::Result<Self> {
        let connections = setting("POOL_SIZE")?.map_or(Ok(10), |number| number.parse());
        let connections = connections.context("POOL_SIZE is not a number")?;
        Self::open(&required("DATABASE_URL")?, connections).await.context("DATABASE_URL")
    }

    /// Connects, waiting up to 30 seconds for a database that is starting, and brings the tables up to date.
    /// Replicas that start together wait for one another. A database whose encoding is not UTF-8, or that
    /// reports commits before they are on the disk, is an error.
    pub async fn open(url: &str, connections: u32) -> anyhow::Result<Self> {
        let options: PgConnectOptions = url.parse().context("not a PostgreSQL URL")?;
        // Or each start would log that the migrations' own table exists.
        let options = options.options([("client_min_messages", "warning")]);
        timeout(START, prepare(&options)).await.context("the database is not ready in time")??;
        let bound = STATEMENT.as_millis().to_string();
        let pool = PgPoolOptions::new()
            .max_connections(connections)
            .acquire_timeout(ACQUIRE)
            .connect_lazy_with(options.options([("statement_timeout", bound)]));
        Ok(Self { pool })
    }

    /// Stores an event and its opt-out, once however often it comes. It is on the disk when this
    /// returns `Ok`; after an error it may be (its confirmation was lost) or may not.
    pub async fn add(&self, event: &UnsubscribeEvent) -> anyhow::Result<()> {
        // One statement is one transaction, in one round trip. For more of your own in it:
        // `pool.begin()`, and `commit()` before `Ok`. A repeated event changes nothing, so a number
        // that was subscribed again in the meantime stays so.
        let statement = sqlx::query(
            "WITH new AS (
                 INSERT INTO inbox (event_id, phone, user_id, event) VALUES ($1, $2, $3, $4)
                 ON CONFLICT DO NOTHING
                 RETURNING event_id, phone, user_id
             )
             INSERT INTO suppression (phone, user_id, event_id)
             SELECT phone, user_id, event_id FROM new
             ON CONFLICT DO NOTHING",
        )
        .bind(event.id)
        .bind(key(&event.data.phone))
        .bind(event.data.user_id)
        .bind(serde_json::to_string(event)?);
        self.run(statement).await?;
        Ok(())
    }

    /// Stores a refused body as a dead letter, once however often it comes, and in the same transaction
    /// adds its number, if it can be read, for its account or, without one, for every account.
    pub async fn add_refused(&self, body: &[u8], refused: &Refused) -> anyhow::Result<()> {
        let statement = sqlx::query(
            "WITH new AS (
                 INSERT INTO dead_letter (fingerprint, body, code, pointer)
                 VALUES (sha256($1), $2, $3, $4)
                 ON CONFLICT DO NOTHING
                 RETURNING fingerprint
             )
             INSERT INTO suppression (phone, user_id, event_id)
             SELECT $5, $6, $7 FROM new WHERE $5 IS NOT NULL
             ON CONFLICT DO NOTHING",
        )
        .bind(without_attempt(body))
        .bind(body)
        .bind(&refused.code)
        .bind(&refused.pointer)
        .bind(refused.phone.as_deref().map(key))
        .bind(refused.user_id)
        .bind(refused.id);
        self.run(statement).await?;
        Ok(())
    }

    /// The accounts that may not text a number, in ascending order; `None` at the end is every account.
    /// After an error, do not text.
    pub async fn accounts(&self, phone: &str) -> anyhow::Result<Vec<Option<i64>>> {
        let statement =
            sqlx::query("SELECT user_id FROM suppression WHERE phone = $1 ORDER BY user_id")
                .bind(key(phone));
        let rows = self.run(statement).await?;
        Ok(rows.iter().map(|row| row.get("user_id")).collect())
    }

    /// Adds those of the provider's own list (numbers, and when each was added to it, in Unix seconds) that
    /// are missing for an account, and returns how many they were; with `dry_run`, it only counts them.
    pub async fn add_missing(
        &self,
        entries: &[(String, Option<i64>)],
        account: i64,
        dry_run: bool,
    ) -> anyhow::Result<u64> {
        let (phones, times): (Vec<&str>, Vec<Option<i64>>) =
            entries.iter().map(|(phone, added_at)| (&**phone, *added_at)).unzip();
        let statement = sqlx::query(
            "WITH missing AS (
                 SELECT phone, min(added_at) AS added_at
                 FROM unnest($1::text[], $2::bigint[]) AS listed (phone, added_at)
                 WHERE NOT EXISTS (
                     SELECT FROM suppression WHERE suppression.phone = listed.phone
                     AND (user_id = $3 OR user_id IS NULL)
                 )
                 GROUP BY phone
             ), added AS (
                 INSERT INTO suppression (phone, user_id, source, provider_added_at)
                 SELECT phone, $3, 'provider_list', to_timestamp(added_at)
                 FROM missing WHERE NOT $4
                 ON CONFLICT DO NOTHING
             )
             SELECT count(*) FROM missing",
        )
        .bind(phones)
        .bind(times)
        .bind(account)
        .bind(dry_run);
        let rows = self.run(statement).await?;
        Ok(rows[0].get::<i64, _>(0).unsigned_abs())
    }

    /// Whether an account has numbers on the list.
    pub async fn has_numbers_of(&self, account: i64) -> anyhow::Result<bool> {
        let statement = sqlx::query("SELECT FROM suppression WHERE user_id = $1 LIMIT 1");
        Ok(!self.run(statement.bind(account)).await?.is_empty())
    }

    async fn run(&self, statement: Query<'_, Postgres, PgArguments>) -> anyhow::Result<Vec<PgRow>> {
        let work = async {
            let mut connection = InUse(Some(self.pool.acquire().await?));
            let rows = statement.fetch_all(connection.0.as_deref_mut().expect("it is there")).await;
            if matches!(rows, Ok(_) | Err(sqlx::Error::Database(_))) {
                connection.0 = None; // back to the pool
            }
            rows
        };
        Ok(timeout(WORK, work).await.context("no response in time")??)
    }
}

/// Closes a connection whose statement was interrupted: the pool would wait for its response, on a silent
/// network for many minutes.
struct InUse(Option<PoolConnection<Postgres>>);

impl Drop for InUse {
    fn drop(&mut self) {
        if let Some(connection) = self.0.take() {
            drop(connection.detach());
        }
    }
}

/// Whether the database keeps what it is given, and its tables.
async fn prepare(options: &PgConnectOptions) -> anyhow::Result<()> {
    let mut connection = connect(options).await;
    let (encoding, commit, fsync): (String, String, String) = sqlx::query_as(
        "SELECT current_setting('server_encoding'), current_setting('synchronous_commit'),
                current_setting('fsync')",
    )
    .fetch_one(&mut connection)
    .await?;
    ensure!(encoding == "UTF8", "the database's encoding is {encoding}: text would be lost");
    let kept = fsync == "on" && ["on", "remote_apply"].contains(&&*commit);
    ensure!(kept, "synchronous_commit is {commit}, fsync is {fsync}: a 200 would not mean stored");
    // A replica of the last version must be able to start beside one of the next: migrations only add.
    sqlx::migrate!().set_ignore_missing(true).run(&mut connection).await.context("migrations")?;
    Ok(connection.close().await?)
}

async fn connect(options: &PgConnectOptions) -> PgConnection {
    loop {
        let attempt = timeout(ACQUIRE, PgConnection::connect_with(options)).await;
        let error = match attempt.map_err(|_| sqlx::Error::PoolTimedOut) {
            Ok(Ok(connection)) => return connection,
            Ok(Err(error)) | Err(error) => error,
        };
        tracing::warn!(%error, "waiting for the database");
        sleep(Duration::from_millis(200)).await;
    }
}

/// A phone number as it is stored and looked up. Any text may stand where a number should, and it is
/// an opt-out all the same; but PostgreSQL's text holds no NUL, and its index no long text. What is
/// left out here is still in the inbox.
fn key(phone: &str) -> String {
    const LONGEST: usize = 64; // E.164 needs 16
    phone.chars().filter(|char| *char != '\0').take(LONGEST).collect()
}

/// A body without the digits of its attempt number, by which alone the attempts of one delivery
/// differ. It may be broken anywhere, so it is searched as bytes.
fn without_attempt(body: &[u8]) -> Vec<u8> {
    const NAME: &[u8] = b"\"attempt_number\"";
    let Some(start) = body.windows(NAME.len()).position(|window| window == NAME) else {
        return body.to_vec();
    };
    let separator = |byte: &u8| byte.is_ascii_whitespace() || *byte == b':';
    let value = &body[start + NAME.len()..];
    let digits = start + NAME.len() + value.iter().take_while(|byte| separator(byte)).count();
    let (before, after) = body.split_at(digits);
    let after = after.iter().skip_while(|byte| byte.is_ascii_digit());
    before.iter().chain(after).copied().collect()
}
