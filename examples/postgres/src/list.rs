//! The suppression list: three tables, one statement for each thing that happens to them.

use std::time::Duration;

use anyhow::{Context, ensure};
use sqlx::{
    Connection, PgConnection, PgPool, Postgres, Row,
    pool::PoolConnection,
    postgres::{PgArguments, PgConnectOptions, PgPoolOptions, PgRow},
    query::Query,
};
use tokio::time::{sleep, timeout};
use unsubscribe_webhook::UnsubscribeEvent;
use uuid::Uuid;

use crate::process::{required, setting};

/// How long a replica that starts waits for its database.
const START: Duration = Duration::from_secs(30);

// A database that cannot answer must cost the provider an attempt, not its patience. The bounds lie
// inside each other, so that the log names the narrowest reason.
/// For a connection from the pool.
const ACQUIRE: Duration = Duration::from_secs(1);
/// For a statement, by the server: one that waits for a lock must not keep its connection busy.
const STATEMENT: Duration = Duration::from_secs(1);
/// For both, whatever the network does.
const WORK: Duration = Duration::from_millis(1_500);

/// A handle on the database; cheap to clone.
#[derive(Clone, Debug)]
pub struct SuppressionList {
    pool: PgPool,
}

impl SuppressionList {
    /// From `DATABASE_URL` and `POOL_SIZE`.
    ///
    /// # Errors
    ///
    /// If a setting is missing or wrong; and as [`open`](Self::open).
    pub async fn from_env() -> anyhow::Result<Self> {
        let connections = setting("POOL_SIZE")?.map_or(Ok(10), |number| number.parse());
        let connections = connections.context("POOL_SIZE is no number")?;
        Self::open(&required("DATABASE_URL")?, connections).await.context("DATABASE_URL")
    }

    /// Connects, waiting for a database that is starting, and brings the tables up to date. Replicas
    /// that start together wait for one another.
    ///
    /// # Errors
    ///
    /// If the URL is none, the database is not ready in 30 seconds, its encoding is not UTF-8, or it
    /// is set to report commits before they are on the disk.
    pub async fn open(url: &str, connections: u32) -> anyhow::Result<Self> {
        let options: PgConnectOptions = url.parse().context("no PostgreSQL URL")?;
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
    ///
    /// # Errors
    ///
    /// If the database fails, or does not answer in 1.5 seconds.
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

    /// Stores an authentic body that was refused as a dead letter, once however often it comes.
    ///
    /// # Errors
    ///
    /// If the database fails, or does not answer in 1.5 seconds.
    pub async fn put_aside(
        &self,
        body: &[u8],
        code: &str,
        pointer: Option<&str>,
    ) -> anyhow::Result<()> {
        self.refused(body, code, pointer, None, None, None).await
    }

    /// Does what [`put_aside`](Self::put_aside) does, and in the same transaction adds the number that
    /// can be read from the body, for its account or, without one, for every account.
    ///
    /// # Errors
    ///
    /// If the database fails, or does not answer in 1.5 seconds.
    pub async fn add_opt_out(
        &self,
        phone: &str,
        user_id: Option<i64>,
        id: Option<Uuid>,
        body: &[u8],
        code: &str,
        pointer: Option<&str>,
    ) -> anyhow::Result<()> {
        self.refused(body, code, pointer, Some(key(phone)), user_id, id).await
    }

    async fn refused(
        &self,
        body: &[u8],
        code: &str,
        pointer: Option<&str>,
        phone: Option<String>,
        user_id: Option<i64>,
        id: Option<Uuid>,
    ) -> anyhow::Result<()> {
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
        .bind(code)
        .bind(pointer)
        .bind(phone)
        .bind(user_id)
        .bind(id);
        self.run(statement).await?;
        Ok(())
    }

    /// The accounts that may not text a number, in ascending order; `None` at the end is every account.
    ///
    /// # Errors
    ///
    /// If the database fails, or does not answer in 1.5 seconds. Then do not text.
    pub async fn accounts(&self, phone: &str) -> anyhow::Result<Vec<Option<i64>>> {
        let statement =
            sqlx::query("SELECT user_id FROM suppression WHERE phone = $1 ORDER BY user_id")
                .bind(key(phone));
        let rows = self.run(statement).await?;
        Ok(rows.iter().map(|row| row.get("user_id")).collect())
    }

    /// Adds those of the provider's own list (numbers, and when each was added to it, in Unix seconds) that
    /// are missing for an account, and returns how many they were; with `dry_run`, it only counts them.
    ///
    /// # Errors
    ///
    /// If the database fails, or does not answer in 1.5 seconds.
    pub async fn add_missing(
        &self,
        entries: &[(String, Option<i64>)],
        account: i64,
        dry_run: bool,
    ) -> anyhow::Result<u64> {
        let (phones, times): (Vec<&str>, Vec<Option<i64>>) =
            entries.iter().map(|(phone, added_at)| (&**phone, *added_at)).unzip();
        let rows = self
            .run(
                sqlx::query(
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
                .bind(dry_run),
            )
            .await?;
        Ok(rows[0].get::<i64, _>(0).unsigned_abs())
    }

    /// Whether an account has numbers on the list.
    ///
    /// # Errors
    ///
    /// If the database fails, or does not answer in 1.5 seconds.
    pub async fn has_numbers_of(&self, account: i64) -> anyhow::Result<bool> {
        let statement = sqlx::query("SELECT FROM suppression WHERE user_id = $1 LIMIT 1");
        Ok(!self.run(statement.bind(account)).await?.is_empty())
    }

    async fn run(&self, statement: Query<'_, Postgres, PgArguments>) -> anyhow::Result<Vec<PgRow>> {
        let work = async {
            let mut connection = InUse(Some(self.pool.acquire().await?));
            let rows = statement.fetch_all(connection.get()).await;
            if matches!(rows, Ok(_) | Err(sqlx::Error::Database(_))) {
                connection.give_back();
            }
            rows
        };
        Ok(timeout(WORK, work).await.context("no answer in time")??)
    }
}

/// A connection that is closed unless it is given back: where a statement was broken off nobody knows
/// when its answer comes, and the pool would wait for it, on a silent network for many minutes.
struct InUse(Option<PoolConnection<Postgres>>);

impl InUse {
    fn get(&mut self) -> &mut PgConnection {
        self.0.as_mut().expect("it is given back once, at the end")
    }

    fn give_back(&mut self) {
        self.0 = None;
    }
}

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
