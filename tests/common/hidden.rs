//! What must not appear anywhere, and all that is logged.
#![allow(dead_code, unreachable_pub, reason = "each test program uses a part of it")]

use std::{
    fs::File,
    io::{Read, Seek},
    sync::Arc,
};

use tower_http::trace::{
    DefaultMakeSpan, DefaultOnRequest, DefaultOnResponse, HttpMakeClassifier, TraceLayer,
};
use tracing::{Level, subscriber::DefaultGuard};

use crate::common::prelude::*;

pub const PHONE: &str = "+4911113333444";
/// The digits alone: a number may come without its sign.
pub const DIGITS: &str = "4911113333444";
pub const TEXTS: [&str; 5] = [DIGITS, "Es ist", "Benutzertext", "3KCKb5nMD", "baaIou"];

#[track_caller]
pub fn assert_hides(output: &str, secrets: &[&str]) {
    for secret in secrets {
        assert!(!output.contains(secret), "{secret} in {output}");
    }
    assert!(!output.trim().is_empty());
}

/// Bodies that are refused for each kind of fault, with a phone number and a text in each.
pub fn bad_bodies() -> Vec<String> {
    let fields = Fields::example();
    let phone = format!("{PHONE:?}");
    vec![
        EXAMPLE[..EXAMPLE.len() - 3].to_owned(),
        format!("{EXAMPLE}{PHONE}"),
        fields.with("/data/user_id", &phone).json(),
        fields.with("/id", &phone).json(),
        fields.with("/name", &phone).json(),
        fields.with("/data", &phone).json(),
        fields.with("/data/additional_data/reason/id", &phone).json(),
        fields.with("/data/phone", "4911113333444").json(),
        fields.and("/data/phone", &phone).json(),
        // The phone number as an unknown key, beside and around a fault.
        fields.and(&format!("/{PHONE}"), "1").without("/id").json(),
        fields.and(&format!("/data/{PHONE}"), "1").without("/data/user_id").json(),
        format!(r#"{{"{PHONE}":1,"{PHONE}":2}}"#),
        format!(r#"{{"name":"phone.unsubscribe","id":{{"{PHONE}":1}}}}"#),
        format!(r#"["{PHONE}"]"#),
        phone,
    ]
}

/// What a subscriber at TRACE writes about this thread.
pub struct Log {
    file: Arc<File>,
    _guard: DefaultGuard,
}

impl Log {
    pub fn start() -> Self {
        let file = Arc::new(tempfile::tempfile().expect("a file"));
        let subscriber = tracing_subscriber::fmt()
            .with_max_level(Level::TRACE)
            .with_ansi(false)
            .without_time()
            .with_writer(Arc::clone(&file))
            .finish();
        Self { file, _guard: tracing::subscriber::set_default(subscriber) }
    }

    /// What was written since the last call.
    pub fn take(&self) -> String {
        let mut file = self.file.as_ref();
        let mut log = String::new();
        file.rewind().expect("the file");
        file.read_to_string(&mut log).expect("UTF-8");
        file.set_len(0).and_then(|()| file.rewind()).expect("the file");
        log
    }
}

/// tower-http's trace at its most verbose.
pub fn trace() -> TraceLayer<HttpMakeClassifier> {
    TraceLayer::new_for_http()
        .make_span_with(DefaultMakeSpan::new().include_headers(true).level(Level::TRACE))
        .on_request(DefaultOnRequest::new().level(Level::TRACE))
        .on_response(DefaultOnResponse::new().include_headers(true).level(Level::TRACE))
}
