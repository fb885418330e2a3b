//! The app as processes, on a real PostgreSQL.

#![allow(clippy::unwrap_used)]

mod common;

use std::{iter::zip, time::Duration};

use common::{
    Database, LOOKUP_SECRET, Process, Proxy, SECRET, Wire, assert_fails_without,
    assert_keeps_refused_bodies, assert_received, assert_recovers, assert_refused,
    assert_stores_one_dead_letter, command, deliver_at_once, failure, new_event, start_before,
};
use futures_util::future::join_all;
use serde_json::{Value, json};
use tokio::time::sleep;
use uuid::Uuid;

const APP: &str = env!("CARGO_BIN_EXE_postgres-host");

/// A host with a database of its own.
async fn start(settings: &[(&str, &str)]) -> (Database, Process) {
    let database = Database::create().await;
    let host = host(&database, settings).await;
    (database, host)
}

async fn host(database: &Database, settings: &[(&str, &str)]) -> Process {
    Process::start(APP, &[&[("DATABASE_URL", &*database.url)], settings].concat()).await
}

#[tokio::test]
async fn four_replicas_store_each_event_once() {
    let mut database = Database::create().await;
    // They start together, and bring the same empty database up to date.
    let replicas = join_all((0..4).map(|_| host(&database, &[]))).await;
    let events: Vec<_> = std::iter::repeat_with(new_event).take(100).collect();

    for event in &events {
        // All at the same time, and twice.
        let twice = replicas.iter().chain(&replicas);
        let replies = join_all(twice.map(|replica| replica.deliver(event.to_string()))).await;
        replies.iter().for_each(assert_received);
    }

    database.assert_stored(&events).await;
}

#[tokio::test]
async fn the_host_passes_the_suite() {
    let (mut database, host) = start(&[("WEBHOOK_ACCOUNT", "7")]).await;

    let suite = host.conformance().accounts([7]);
    let list = async move |phone: &str| !look_up(&host, phone).await.is_empty();
    suite.suppressed(list).await.assert_passed();

    assert!(database.count("dead_letter WHERE code = 'foreign_account'").await > 0);
}

#[tokio::test]
async fn a_response_waits_for_the_commit() {
    let (mut database, host) = start(&[]).await;
    for (end, rows) in [("ROLLBACK", 1), ("COMMIT", 2)] {
        let event = new_event();
        // Another replica is about to store the event, or to fail.
        let (id, phone) = (&event["id"], &event["data"]["phone"]);
        let row = format!("({id}, {phone}, 2, '')").replace('"', "'");
        let insert = "INSERT INTO inbox (event_id, phone, user_id, event) VALUES";
        database.execute(&format!("BEGIN; {insert} {row}")).await;

        let delivery = host.deliver(event.to_string());
        let other_replica = async {
            sleep(Duration::from_millis(300)).await;
            database.execute(end).await;
        };
        let (reply, ()) = tokio::join!(delivery, other_replica);

        assert_received(&reply);
        assert!(reply.took >= Duration::from_millis(300), "{:?}", reply.took);
        assert_eq!(database.count("inbox").await, rows);
    }
}

#[tokio::test]
async fn every_value_that_the_contract_allows_is_stored() {
    let (mut database, host) = start(&[]).await;
    let long = "x".repeat(100_000);
    let texts =
        ["\0", "a\0b", "\u{1}\u{7f}\u{85}\u{feff}", "\u{10ffff}", "'; DROP TABLE inbox; --", &long];
    let phones = ["", "\0", "+49\x00111", "0049 (0) 111/22-33", "☎", &long];
    let numbers = [i64::MIN, -1, 0, 1, 2, i64::MAX];

    let mut events = Vec::new();
    for (number, (text, phone)) in zip(numbers, zip(texts, phones)) {
        let mut event = new_event();
        event["data"]["phone"] = json!(phone);
        event["data"]["campaign_code"] = json!(text);
        event["data"]["additional_data"]["additional_text"] = json!(text);
        event["data"]["additional_data"]["reason"]["label"] = json!(text);
        event["api_version"] = json!(text);
        event["created_at"] = json!(number);
        for field in ["user_id", "created_at", "unsubscribe_request_id", "group_id"] {
            event["data"][field] = json!(number);
        }
        assert_received(&host.deliver(event.to_string()).await);
        // A path has no room for an empty or a long text.
        if !phone.is_empty() && phone != long {
            assert!(look_up(&host, phone).await.contains(&json!(number)), "{event:.200}");
        }
        events.push(event);
    }
    // The inbox has them as they were, whatever the columns beside it can hold.
    database.assert_stored(&events).await;
}

#[tokio::test]
async fn a_sending_app_has_a_secret_of_its_own() {
    let (mut database, host) = start(&[]).await;
    for authorization in [format!("Bearer {SECRET}"), "Bearer wrong".to_owned(), String::new()] {
        let reply = host.look_up("+4911100001", &authorization).await;
        assert_refused(&reply, 401, "unauthorized");
    }
    // It cannot unsubscribe anybody, and what has no credential leaves nothing.
    let lookup_secret = format!("Bearer {LOOKUP_SECRET}");
    let forged = host.delivery().header("authorization", lookup_secret);
    for (request, body) in [(forged, new_event().to_string()), (host.delivery(), "spam".into())] {
        assert_refused(&host.send(request, body).await, 401, "unauthorized");
    }
    database.assert_stored(&[]).await;
}

#[tokio::test]
async fn an_id_that_comes_again_with_another_number_or_account_is_another_opt_out() {
    let (mut database, host) = start(&[]).await;
    let mut event = new_event();
    for (phone, user_id) in [("+4911100001", 2), ("+4911100002", 2), ("+4911100002", 7)] {
        event["data"]["phone"] = json!(phone);
        event["data"]["user_id"] = json!(user_id);
        for attempt in [1, 1, 2] {
            event["attempt_number"] = json!(attempt);
            assert_received(&host.deliver(event.to_string()).await);
        }
    }
    let mut refused = event.clone();
    refused["data"]["phone"] = json!("+4911100003");
    refused["data"]["additional_data"] = json!([]);
    assert_refused(&host.deliver(refused.to_string()).await, 400, "invalid_field");

    assert_eq!(look_up(&host, "+4911100001").await, [2]);
    assert_eq!(look_up(&host, "+4911100002").await, [2, 7]);
    assert_eq!(look_up(&host, "+4911100003").await, [7]);
    assert_eq!(database.count("inbox").await, 3);

    // A number that was subscribed again stays so when an old delivery comes again.
    database.execute("DELETE FROM suppression").await;
    assert_received(&host.deliver(event.to_string()).await);
    refused["attempt_number"] = json!(3);
    assert_refused(&host.deliver(refused.to_string()).await, 400, "invalid_field");
    assert_eq!(database.count("suppression").await, 0);
    event["id"] = json!(Uuid::new_v4().to_string());
    assert_received(&host.deliver(event.to_string()).await);
    assert_eq!(database.count("suppression").await, 1);
}

#[tokio::test]
async fn a_refused_body_is_stored_and_its_number_is_on_the_list() {
    let (mut database, host) = start(&[]).await;
    assert_keeps_refused_bodies(host, &mut database).await;
}

#[tokio::test]
async fn four_attempts_of_a_refused_delivery_are_one_dead_letter() {
    let (mut database, host) = start(&[("WEBHOOK_ACCOUNT", "2")]).await;
    assert_stores_one_dead_letter(&host, &mut database).await;
}

#[tokio::test]
async fn a_number_without_an_account_holds_for_every_account() {
    let (_, host) = start(&[]).await;
    let body = r#"{"name": "phone.unsubscribe", "data": {"phone": "+4911100001"}}"#;
    assert_refused(&host.deliver(body).await, 400, "missing_field");

    let reply = host.look_up("+4911100001", &format!("Bearer {LOOKUP_SECRET}")).await;

    let lookup: Value = serde_json::from_str(&reply.body).unwrap();
    assert_eq!(
        lookup,
        json!({"phone": "+4911100001", "suppressed": true, "every_account": true, "accounts": []})
    );
}

#[tokio::test]
async fn bodies_that_differ_in_more_than_the_attempt_are_dead_letters_of_their_own() {
    let (mut database, host) = start(&[]).await;

    for body in [
        r#"{"attempt_number":1,"id":1}"#,
        r#"{"attempt_number":1,"id":2}"#,
        r#"{"attempt_number":"1","id":1}"#,
        r#"{"attempt_number":1,"attempt_number":2}"#,
        r#"{"attempt_number":1,"attempt_number":3}"#,
        r#"{"attempts_total":1}"#,
        r#"{"attempts_total":2}"#,
        "\"attempt_number\"",
    ] {
        assert_eq!(host.deliver(body).await.status, 400, "{body}");
    }

    assert_eq!(database.count("dead_letter").await, 8);
}

#[tokio::test]
async fn an_unavailable_database_is_a_500_in_time() {
    let mut database = Database::create().await;
    let (proxy, url) = Proxy::to(&database.url).await;
    let host = Process::start(APP, &[("DATABASE_URL", &url), ("POOL_SIZE", "3")]).await;

    assert_fails_without(&host, &proxy).await;

    assert_eq!(database.count("inbox").await, 6);
    assert_eq!(database.count("suppression").await, 6);
    proxy.set(Wire::Cut);
    let reply = host.look_up("1", &format!("Bearer {LOOKUP_SECRET}")).await;
    assert_refused(&reply, 500, "server_error");
}

#[tokio::test]
async fn a_locked_table_is_a_500_in_time() {
    let mut database = Database::create().await;
    let (proxy, url) = Proxy::to(&database.url).await;
    let host = Process::start(APP, &[("DATABASE_URL", &url), ("POOL_SIZE", "2")]).await;
    // The second time, the connections become silent in the middle of a statement.
    for is_silent in [false, true] {
        database.execute("BEGIN; LOCK TABLE inbox").await;
        let silence = async {
            sleep(Duration::from_millis(300)).await;
            if is_silent {
                proxy.forget_connections();
            }
        };
        let body = || new_event().to_string();
        let (replies, ()) = tokio::join!(deliver_at_once(&host, 20, body), silence);
        for reply in &replies {
            assert_refused(reply, 500, "server_error");
        }
        database.execute("ROLLBACK").await;

        assert_recovers(&host).await;
    }
    assert_eq!(database.count("inbox").await, 2);
}

#[tokio::test]
async fn the_host_waits_for_a_database_that_is_starting() {
    let database = Database::create().await;
    let (proxy, url) = Proxy::to(&database.url).await;
    let host = start_before(&proxy, APP, &[("DATABASE_URL", &url)]).await;
    assert_received(&host.deliver(new_event().to_string()).await);
}

#[tokio::test]
async fn a_database_that_would_lose_something_is_refused() {
    let mut latin =
        Database::create_with("ENCODING 'LATIN1' LC_COLLATE 'C' LC_CTYPE 'C' TEMPLATE template0")
            .await;
    let text = failure(command(APP, &[("DATABASE_URL", &latin.url)])).await;
    assert!(text.contains("the database's encoding is LATIN1"), "{text}");
    assert_eq!(latin.count("pg_tables WHERE schemaname = 'public'").await, 0);

    let mut hasty = Database::create().await;
    let (_, name) = hasty.url.rsplit_once('/').unwrap();
    let setting = format!("ALTER DATABASE {name} SET synchronous_commit = off");
    hasty.execute(&setting).await;
    let text = failure(command(APP, &[("DATABASE_URL", &hasty.url)])).await;
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
        let text = failure(command(APP, settings)).await;
        assert!(text.contains(fault), "{fault}: {text}");
        for secret in [password, "s3cr3t", "two words"] {
            assert!(!text.contains(secret), "{fault}: {text}");
        }
    }
}

#[tokio::test]
async fn a_request_under_way_is_completed_before_the_host_stops() {
    let (mut database, host) = start(&[]).await;
    database.execute("BEGIN; LOCK TABLE inbox").await;
    let stop = async {
        sleep(Duration::from_millis(200)).await;
        host.signal("-TERM");
        sleep(Duration::from_millis(200)).await;
        database.execute("ROLLBACK").await;
    };

    let (reply, ()) = tokio::join!(host.deliver(new_event().to_string()), stop);

    assert_received(&reply);
    assert_eq!(database.count("inbox").await, 1);
    host.end().await;
}

/// The accounts that may not text a number.
async fn look_up(host: &Process, phone: &str) -> Vec<Value> {
    let reply = host.look_up(phone, &format!("Bearer {LOOKUP_SECRET}")).await;
    let lookup: Value = serde_json::from_str(&reply.body).unwrap();
    assert_eq!(lookup["phone"], phone);
    let accounts = lookup["accounts"].as_array().unwrap().clone();
    assert_eq!(lookup["suppressed"], !accounts.is_empty());
    assert_eq!(lookup["every_account"], false);
    accounts
}
