//! The host as processes, on a real PostgreSQL.

#![allow(clippy::unwrap_used)]

mod common;

use std::{
    fmt::Write,
    time::{Duration, Instant},
};

use common::{
    Answer, Database, LOOKUP_SECRET, Process, SECRET, Wire, assert_received, assert_refused,
    failure, new_event,
};
use futures_util::future::join_all;
use serde_json::{Value, json};
use sqlx::{Executor, Row};
use tokio::time::sleep;
use uuid::Uuid;

const HOST: &str = env!("CARGO_BIN_EXE_postgres-host");

async fn host(database: &Database) -> Process {
    Process::start(HOST, &[("DATABASE_URL", &database.url)]).await
}

#[tokio::test]
async fn four_replicas_store_each_event_once() {
    const EVENTS: usize = 100;
    let mut database = Database::create().await;
    // They start together, and bring the same empty database up to date.
    let replicas = join_all((0..4).map(|_| host(&database))).await;

    let events: Vec<_> = std::iter::repeat_with(new_event).take(EVENTS).collect();
    for event in &events {
        // All at the same time, and twice.
        let twice = replicas.iter().chain(&replicas);
        let answers = join_all(twice.map(|replica| replica.deliver(event.to_string()))).await;
        answers.iter().for_each(assert_received);
    }

    assert_eq!(database.count("inbox").await, 100);
    assert_eq!(database.count("suppression").await, 100);
    assert_eq!(database.count("dead_letter").await, 0);
    for event in events {
        let row = sqlx::query(
            "SELECT event, phone, user_id FROM inbox JOIN suppression USING (event_id, phone, user_id)
             WHERE event_id = $1",
        )
        .bind(event["id"].as_str().unwrap().parse::<Uuid>().unwrap())
        .fetch_one(&mut database.connection)
        .await
        .unwrap();
        let stored: Value = serde_json::from_str(row.get("event")).unwrap();
        assert_eq!(stored, event);
        assert_eq!(event["data"]["phone"], row.get::<String, _>("phone"));
        assert_eq!(event["data"]["user_id"], row.get::<i64, _>("user_id"));
    }
}

#[tokio::test]
async fn the_host_keeps_the_contract() {
    let mut database = Database::create().await;
    let settings = [("DATABASE_URL", &*database.url.clone()), ("WEBHOOK_ACCOUNT", "7")];
    let host = Process::start(HOST, &settings).await;

    let suite = host.conformance().accounts([7]);
    let list = async move |phone: &str| !look_up(&host, phone).await.is_empty();
    suite.suppressed(list).await.assert_passed();

    assert!(database.count("dead_letter WHERE code = 'foreign_account'").await > 0);
}

#[tokio::test]
async fn an_answer_waits_for_the_commit() {
    let mut database = Database::create().await;
    let host = host(&database).await;
    for (end, rows) in [("ROLLBACK", 1), ("COMMIT", 2)] {
        let event = new_event();
        // Another replica is about to store the event, or to fail.
        database.connection.execute("BEGIN").await.unwrap();
        sqlx::query("INSERT INTO inbox (event_id, phone, user_id, event) VALUES ($1, $2, $3, '')")
            .bind(event["id"].as_str().unwrap().parse::<Uuid>().unwrap())
            .bind(event["data"]["phone"].as_str().unwrap())
            .bind(event["data"]["user_id"].as_i64().unwrap())
            .execute(&mut database.connection)
            .await
            .unwrap();

        let delivery = host.deliver(event.to_string());
        let other_replica = async {
            sleep(Duration::from_millis(300)).await;
            database.connection.execute(end).await.unwrap();
        };
        let (answer, ()) = tokio::join!(delivery, other_replica);

        assert_received(&answer);
        assert!(answer.took >= Duration::from_millis(300), "{:?}", answer.took);
        assert_eq!(database.count("inbox").await, rows);
    }
}

#[tokio::test]
async fn whatever_a_person_or_the_provider_writes_is_stored() {
    let mut database = Database::create().await;
    let host = host(&database).await;
    let texts =
        ["\0", "a\0b", "\u{1}\u{7f}\u{85}\u{feff}", "\u{10ffff}", "'; DROP TABLE inbox; --"];
    let long = "x".repeat(100_000);
    let phones = ["", "\0", "+49\x00111", "0049 (0) 111/22-33", "☎", &long];
    let numbers = [i64::MIN, -1, 0, i64::MAX];

    let mut events = Vec::new();
    let mut event_with = |change: &dyn Fn(&mut Value)| {
        let mut event = new_event();
        change(&mut event);
        events.push(event);
    };
    for text in texts.iter().chain([&&*long]) {
        event_with(&|event| event["data"]["additional_data"]["additional_text"] = json!(text));
        event_with(&|event| event["data"]["additional_data"]["reason"]["label"] = json!(text));
        event_with(&|event| event["data"]["campaign_code"] = json!(text));
        event_with(&|event| event["data"]["short_link_code"] = json!(text));
        event_with(&|event| event["api_version"] = json!(text));
    }
    for phone in phones {
        event_with(&|event| event["data"]["phone"] = json!(phone));
    }
    for number in numbers {
        event_with(&|event| event["data"]["user_id"] = json!(number));
        event_with(&|event| event["data"]["created_at"] = json!(number));
        event_with(&|event| event["data"]["unsubscribe_request_id"] = json!(number));
        event_with(&|event| event["data"]["group_id"] = json!(number));
        event_with(&|event| event["created_at"] = json!(number));
    }

    for event in &events {
        let answer = host.deliver(event.to_string()).await;
        assert_eq!(answer.status, 200, "{}: {event:.200}", answer.body);
        // The inbox has it as it was, whatever the columns beside it can hold.
        let stored: String = sqlx::query_scalar("SELECT event FROM inbox WHERE event_id = $1")
            .bind(event["id"].as_str().unwrap().parse::<Uuid>().unwrap())
            .fetch_one(&mut database.connection)
            .await
            .unwrap();
        assert_eq!(&serde_json::from_str::<Value>(&stored).unwrap(), event);
        let phone = event["data"]["phone"].as_str().unwrap();
        // A path has no room for nothing at all, and for a long text.
        if !phone.is_empty() && phone.len() < 1_000 {
            let accounts = look_up(&host, phone).await;
            assert!(accounts.contains(&event["data"]["user_id"]), "{event}: {accounts:?}");
        }
    }
    assert_eq!(database.count("inbox").await, i64::try_from(events.len()).unwrap());
}

#[tokio::test]
async fn a_sending_app_asks_with_a_secret_of_its_own() {
    let database = Database::create().await;
    let host = host(&database).await;
    let mut event = new_event();
    event["data"]["phone"] = json!("+4911113333444");
    assert_eq!(look_up(&host, "+4911113333444").await, [0; 0]);

    for user_id in [7, 2] {
        event["id"] = json!(Uuid::new_v4().to_string());
        event["data"]["user_id"] = json!(user_id);
        assert_received(&host.deliver(event.to_string()).await);
    }

    assert_eq!(look_up(&host, "+4911113333444").await, [2, 7]);
    assert_eq!(look_up(&host, "+4911113333445").await, [0; 0]);
    for authorization in [format!("Bearer {SECRET}"), "Bearer wrong".to_owned(), String::new()] {
        let answer = host.look_up("+4911113333444", &authorization).await;
        assert_refused(&answer, 401, "unauthorized");
    }
    // And cannot unsubscribe anybody.
    let forged = http::Request::post(host.url())
        .header("content-type", "application/json")
        .header("authorization", format!("Bearer {LOOKUP_SECRET}"))
        .body(new_event().to_string().into());
    assert_refused(&host.send(forged.unwrap()).await, 401, "unauthorized");
}

#[tokio::test]
async fn a_number_that_was_subscribed_again_stays_so_when_an_old_event_comes_again() {
    let mut database = Database::create().await;
    let host = host(&database).await;
    let event = new_event();
    assert_received(&host.deliver(event.to_string()).await);
    database.connection.execute("DELETE FROM suppression").await.unwrap();

    assert_received(&host.deliver(event.to_string()).await);
    assert_eq!(database.count("suppression").await, 0);

    let mut another = event;
    another["id"] = json!(Uuid::new_v4().to_string());
    assert_received(&host.deliver(another.to_string()).await);
    assert_eq!(database.count("suppression").await, 1);
}

#[tokio::test]
async fn an_id_that_comes_again_with_another_number_or_account_is_another_opt_out() {
    let mut database = Database::create().await;
    let host = host(&database).await;
    let mut event = new_event_with_id("ef58b437-1319-4b0c-961b-17214cf1cf32");
    for (phone, user_id) in [("+4911100001", 2), ("+4911100002", 2), ("+4911100002", 7)] {
        event["data"]["phone"] = json!(phone);
        event["data"]["user_id"] = json!(user_id);
        for attempt in [1, 1, 2] {
            event["attempt_number"] = json!(attempt);
            assert_received(&host.deliver(event.to_string()).await);
        }
    }

    assert_eq!(look_up(&host, "+4911100001").await, [2]);
    assert_eq!(look_up(&host, "+4911100002").await, [2, 7]);
    assert_eq!(database.count("inbox").await, 3);
    // As above: what was stored before comes again, and changes nothing.
    database.connection.execute("DELETE FROM suppression").await.unwrap();
    assert_received(&host.deliver(event.to_string()).await);
    assert_eq!(database.count("suppression").await, 0);
}

#[tokio::test]
async fn the_number_of_a_refused_body_is_on_the_list() {
    let mut database = Database::create().await;
    let host = host(&database).await;
    let changed = |change: &dyn Fn(&mut Value)| {
        let mut event = new_event();
        change(&mut event);
        let phone = event["data"]["phone"].as_str().map(str::to_owned).unwrap_or_default();
        (phone, event.to_string().into_bytes())
    };
    let (latin_phone, latin) = changed(&|event| event["data"]["campaign_code"] = json!("~"));
    let latin = latin.into_iter().map(|byte| if byte == b'~' { 0xfc } else { byte }).collect();
    let said = [
        changed(&|event| event["data"]["additional_data"] = json!([])),
        changed(&|event| event["data"]["additional_data"]["reason"] = Value::Null),
        changed(&|event| event["data"]["additional_data"]["reason"]["id"] = json!(7)),
        changed(&|event| _ = event["data"].as_object_mut().unwrap().remove("short_link_code")),
        changed(&|event| event["attempts_total"] = json!(5)),
        (latin_phone, latin),
    ];
    let not_said = [
        changed(&|event| event["data"]["phone"] = json!(4_911_100_001_i64)),
        changed(&|event| _ = event.as_object_mut().unwrap().remove("name")),
    ];

    // And again: once is enough.
    for (phone, body) in said.iter().chain(&said) {
        let answer = host.deliver(body.clone()).await;
        assert_eq!(answer.status, 400, "{}", answer.body);
        assert_eq!(look_up(&host, phone).await, [2]);
    }
    for (phone, body) in &not_said {
        assert_eq!(host.deliver(body.clone()).await.status, 400);
        assert!(phone.is_empty() || look_up(&host, phone).await.is_empty());
    }
    assert_eq!(database.count("suppression WHERE event_id IS NOT NULL").await, 6);
    assert_eq!(database.count("dead_letter").await, 8);
    assert_eq!(database.count("inbox").await, 0);

    // A number that was subscribed again stays so when the next attempt comes.
    database.connection.execute("DELETE FROM suppression").await.unwrap();
    let next = String::from_utf8(said[0].1.clone()).unwrap();
    let next = next.replace("\"attempt_number\":1", "\"attempt_number\":2");
    assert_eq!(host.deliver(next).await.status, 400);
    assert_eq!(database.count("suppression").await, 0);
}

#[tokio::test]
async fn a_number_without_an_account_holds_for_every_account() {
    let database = Database::create().await;
    let host = host(&database).await;
    let body = r#"{"name": "phone.unsubscribe", "data": {"phone": "+4911100001"}}"#;
    for body in [body.to_owned(), body.replace('}', " }")] {
        assert_refused(&host.deliver(body).await, 400, "missing_field");
    }

    let answer = host.look_up("+4911100001", &format!("Bearer {LOOKUP_SECRET}")).await;

    let lookup: Value = serde_json::from_str(&answer.body).unwrap();
    assert_eq!(
        lookup,
        json!({"phone": "+4911100001", "suppressed": true, "every_account": true, "accounts": []})
    );
}

#[tokio::test]
async fn tables_of_the_first_version_are_brought_up_to_date() {
    let mut database = Database::create().await;
    let mut first = sqlx::migrate!();
    first.migrations = first.migrations.iter().take(1).cloned().collect();
    first.run(&mut database.connection).await.unwrap();
    let rows = "INSERT INTO inbox (event_id, event) SELECT gen_random_uuid(), '' FROM generate_series(1, 3);
        INSERT INTO suppression (phone, user_id, event_id) VALUES ('+4911100001', 2, gen_random_uuid())";
    database.connection.execute(rows).await.unwrap();

    let host = host(&database).await;

    assert_eq!(look_up(&host, "+4911100001").await, [2]);
    assert_eq!(database.count("suppression WHERE source = 'webhook'").await, 1);
    assert_received(&host.deliver(new_event().to_string()).await);
    assert_eq!(database.count("inbox").await, 4);
}

#[tokio::test]
async fn four_attempts_of_an_unreadable_delivery_are_one_dead_letter() {
    let mut database = Database::create().await;
    let url = database.url.clone();
    let settings = [("DATABASE_URL", &*url), ("WEBHOOK_ACCOUNT", "2")];
    let host = Process::start(HOST, &settings).await;

    let without_phone = |attempt: u32| {
        let mut event = new_event_with_id("ef58b437-1319-4b0c-961b-17214cf1cf32");
        event["attempt_number"] = json!(attempt);
        event["data"].as_object_mut().unwrap().remove("phone");
        event.to_string()
    };
    let foreign = |attempt: u32| {
        let mut event = new_event_with_id("0f58b437-1319-4b0c-961b-17214cf1cf32");
        event["attempt_number"] = json!(attempt);
        event["data"]["user_id"] = json!(3);
        event.to_string()
    };
    let cut = |attempt: u32| without_phone(attempt)[..200].to_owned();
    for attempt in 1..=4 {
        let spaced =
            without_phone(attempt).replace("\"attempt_number\":", "\"attempt_number\" :\n");
        assert_refused(&host.deliver(without_phone(attempt)).await, 400, "missing_field");
        assert_refused(&host.deliver(spaced).await, 400, "missing_field");
        assert_refused(&host.deliver(cut(attempt)).await, 400, "not_json");
        assert_refused(&host.deliver(foreign(attempt)).await, 403, "foreign_account");
        assert_refused(&host.deliver(&b"\xff\0"[..]).await, 400, "not_json");
    }

    let rows = sqlx::query("SELECT body, code, pointer FROM dead_letter ORDER BY received_at")
        .fetch_all(&mut database.connection)
        .await
        .unwrap();
    let rows: Vec<(Vec<u8>, String, Option<String>)> =
        rows.iter().map(|row| (row.get("body"), row.get("code"), row.get("pointer"))).collect();
    let letters: Vec<_> =
        rows.iter().map(|(body, code, pointer)| (&**body, &**code, pointer.as_deref())).collect();
    let spaced = without_phone(1).replace("\"attempt_number\":", "\"attempt_number\" :\n");
    assert_eq!(
        letters,
        [
            (without_phone(1).as_bytes(), "missing_field", Some("/data/phone")),
            (spaced.as_bytes(), "missing_field", Some("/data/phone")),
            (cut(1).as_bytes(), "not_json", None),
            (foreign(1).as_bytes(), "foreign_account", Some("/data/user_id")),
            (&b"\xff\0"[..], "not_json", None),
        ]
    );
    assert_eq!(database.count("inbox").await, 0);
}

#[tokio::test]
async fn what_differs_in_more_than_its_attempt_is_kept_apart() {
    let mut database = Database::create().await;
    let host = host(&database).await;

    for body in [
        r#"{"attempt_number":1,"id":1}"#,
        r#"{"attempt_number":1,"id":2}"#,
        r#"{"attempt_number":"1","id":1}"#,
        r#"{"attempt_number":null,"id":1}"#,
        r#"{"attempt_number":1,"attempt_number":2}"#,
        r#"{"attempt_number":1,"attempt_number":3}"#,
        r#"{"attempts_total":1}"#,
        r#"{"attempts_total":2}"#,
        "\"attempt_number\"",
        "1",
        "12",
    ] {
        assert_eq!(host.deliver(body).await.status, 400, "{body}");
    }

    assert_eq!(database.count("dead_letter").await, 11);
}

#[tokio::test]
async fn events_of_other_kinds_are_acknowledged_and_strangers_leave_nothing() {
    let mut database = Database::create().await;
    let host = host(&database).await;

    assert_received(&host.deliver(r#"{"name":"sms.delivery","id":"x"}"#).await);
    let stranger = http::Request::post(host.url())
        .header("content-type", "application/json")
        .body(new_event().to_string().into());
    assert_refused(&host.send(stranger.unwrap()).await, 401, "unauthorized");
    let stranger = http::Request::post(host.url()).body("spam".into());
    assert_refused(&host.send(stranger.unwrap()).await, 401, "unauthorized");

    for table in ["inbox", "suppression", "dead_letter"] {
        assert_eq!(database.count(table).await, 0, "{table}");
    }
}

#[tokio::test]
async fn a_database_that_is_away_costs_an_attempt_and_no_patience() {
    let mut database = Database::create().await;
    let (proxy, url) = database.proxied().await;
    let host = Process::start(HOST, &[("DATABASE_URL", &url), ("POOL_SIZE", "3")]).await;
    let event = new_event().to_string();
    let mut stored = 0;

    for wire in [Wire::Cut, Wire::Silent] {
        assert_received(&host.deliver(new_event().to_string()).await);
        stored += 1;
        proxy.set(wire);
        // More than there are connections, so that some wait for one.
        for answer in deliver_at_once(&host, 10, || event.clone()).await {
            assert_refused(&answer, 500, "server_error");
        }
        // What is not put aside is not refused for good either.
        assert_refused(&host.deliver("{").await, 500, "server_error");
        assert_refused(
            &host.look_up("1", &format!("Bearer {LOOKUP_SECRET}")).await,
            500,
            "server_error",
        );
        proxy.set(Wire::Whole);
        host.recovered().await;
        stored += 1;
    }

    assert_received(&host.deliver(event).await);
    // Cut off in the middle of it, a statement may have gone through: then its repetition is none.
    assert_eq!(database.count("inbox").await, stored + 1);
    assert_eq!(database.count("suppression").await, stored + 1);
}

/// The other end of every connection has gone without a word, in the middle of a statement.
#[tokio::test]
async fn connections_that_are_silent_for_good_are_replaced() {
    let mut database = Database::create().await;
    let (proxy, url) = database.proxied().await;
    let host = Process::start(HOST, &[("DATABASE_URL", &url), ("POOL_SIZE", "2")]).await;
    assert_received(&host.deliver(new_event().to_string()).await);

    database.connection.execute("BEGIN; LOCK TABLE inbox").await.unwrap();
    let silence = async {
        sleep(Duration::from_millis(300)).await;
        proxy.forget_connections();
    };
    let body = || new_event().to_string();
    let (answers, ()) = tokio::join!(deliver_at_once(&host, 2, body), silence);
    for answer in &answers {
        assert_refused(answer, 500, "server_error");
    }
    database.connection.execute("ROLLBACK").await.unwrap();

    host.recovered().await;
}

#[tokio::test]
async fn a_pool_that_is_exhausted_costs_an_attempt_and_no_patience() {
    let mut database = Database::create().await;
    let settings = [("DATABASE_URL", &*database.url.clone()), ("POOL_SIZE", "2")];
    let host = Process::start(HOST, &settings).await;

    database.connection.execute("BEGIN; LOCK TABLE inbox").await.unwrap();
    for answer in deliver_at_once(&host, 20, || new_event().to_string()).await {
        assert_refused(&answer, 500, "server_error");
    }
    database.connection.execute("ROLLBACK").await.unwrap();

    host.recovered().await;
    assert_eq!(database.count("inbox").await, 1);
}

#[tokio::test]
async fn a_host_waits_for_a_database_that_is_starting() {
    let database = Database::create().await;
    let (proxy, url) = database.proxied().await;
    proxy.set(Wire::Cut);
    let start = Instant::now();
    let back = async {
        sleep(Duration::from_secs(1)).await;
        proxy.set(Wire::Whole);
    };

    let settings = [("DATABASE_URL", &*url)];
    let (host, ()) = tokio::join!(Process::start(HOST, &settings), back);

    assert!(start.elapsed() >= Duration::from_secs(1));
    assert_received(&host.deliver(new_event().to_string()).await);
}

#[tokio::test]
async fn a_database_that_would_lose_something_is_refused() {
    let mut latin =
        Database::create_with("ENCODING 'LATIN1' LC_COLLATE 'C' LC_CTYPE 'C' TEMPLATE template0")
            .await;
    let text = failure(HOST, &[("DATABASE_URL", &latin.url)]).await;
    assert!(text.contains("the database's encoding is LATIN1"), "{text}");
    assert_eq!(latin.count("pg_tables WHERE schemaname = 'public'").await, 0);

    let mut hasty = Database::create().await;
    let name: String = sqlx::query_scalar("SELECT current_database()::text")
        .fetch_one(&mut hasty.connection)
        .await
        .unwrap();
    let setting = format!("ALTER DATABASE {name} SET synchronous_commit = off");
    hasty.connection.execute(&*setting).await.unwrap();
    let text = failure(HOST, &[("DATABASE_URL", &hasty.url)]).await;
    assert!(text.contains("synchronous_commit is off"), "{text}");
}

#[tokio::test]
async fn wrong_settings_are_named_and_no_secret_is_printed() {
    let url = common::server("DATABASE_URL");
    let (_, password) = url.rsplit_once('@').unwrap().0.rsplit_once(':').unwrap();
    for (settings, fault) in [
        (&[("DATABASE_URL", &*url), ("WEBHOOK_SECRET", "s3cr3t\n")][..], "WEBHOOK_SECRET"),
        (&[("DATABASE_URL", &url), ("LOOKUP_SECRET", "two words")], "LOOKUP_SECRET"),
        (&[("DATABASE_URL", &url), ("LOOKUP_SECRET", SECRET)], "LOOKUP_SECRET is WEBHOOK_SECRET"),
        (&[("DATABASE_URL", &url), ("WEBHOOK_ACCOUNT", "two")], "WEBHOOK_ACCOUNT"),
        (&[("DATABASE_URL", &url), ("POOL_SIZE", "many")], "POOL_SIZE"),
        (&[("DATABASE_URL", password)], "DATABASE_URL"),
        (&[], "DATABASE_URL is not set"),
    ] {
        let text = failure(HOST, settings).await;
        assert!(text.contains(fault), "{fault}: {text}");
        for secret in [password, "s3cr3t", "two words"] {
            assert!(!text.contains(secret), "{fault}: {text}");
        }
    }
}

#[tokio::test]
async fn a_host_that_is_told_to_stop_answers_first() {
    let mut database = Database::create().await;
    let host = host(&database).await;
    database.connection.execute("BEGIN; LOCK TABLE inbox").await.unwrap();
    let stop = async {
        sleep(Duration::from_millis(200)).await;
        host.terminate();
        sleep(Duration::from_millis(200)).await;
        database.connection.execute("ROLLBACK").await.unwrap();
    };

    let (answer, ()) = tokio::join!(host.deliver(new_event().to_string()), stop);

    assert_received(&answer);
    assert_eq!(database.count("inbox").await, 1);
    assert_eq!(host.exit_code().await, Some(0));
}

/// The accounts that may not text a number.
async fn look_up(host: &Process, phone: &str) -> Vec<Value> {
    let mut path = String::new();
    for byte in phone.bytes() {
        write!(path, "%{byte:02X}").unwrap();
    }
    let answer = host.look_up(&path, &format!("Bearer {LOOKUP_SECRET}")).await;
    let lookup: Value = serde_json::from_str(&answer.body).unwrap();
    assert_eq!(lookup["phone"], phone);
    let accounts = lookup["accounts"].as_array().unwrap().clone();
    assert_eq!(lookup["suppressed"], !accounts.is_empty());
    assert_eq!(lookup["every_account"], false);
    accounts
}

async fn deliver_at_once(host: &Process, number: usize, body: impl Fn() -> String) -> Vec<Answer> {
    join_all((0..number).map(|_| host.deliver(body()))).await
}

fn new_event_with_id(id: &str) -> Value {
    let mut event = new_event();
    event["id"] = json!(id);
    event["data"]["phone"] = json!("+4911113333444");
    event
}
