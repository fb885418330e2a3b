//! Requests on one connection to a whole app: hyper's server, axum's router, the layer and the extractor.
//! Each response is the contract's. After a refusal without `Connection: close` the connection serves the
//! next request, whatever the refused body was.
#![no_main]

use std::{convert::Infallible, sync::LazyLock, time::Duration};

use arbitrary::Arbitrary;
use axum::{Router, extract::DefaultBodyLimit, routing::post};
use hyper::{Request, body::Incoming, server::conn::http1, service::service_fn};
use hyper_util::rt::TokioIo;
use libfuzzer_sys::fuzz_target;
use oracle::mutate::{self, Choices};
use tokio::io::{AsyncReadExt, AsyncWriteExt, duplex, split};
use tower::ServiceExt;
use unsubscribe_webhook::{Received, UnsubscribeEvent, WebhookAuth};

const TOKEN: &str = "correct-horse-7";
const EXAMPLE: &str = include_str!("../../examples/event.json");
const BODY_LIMIT: usize = 1024;
const DISCARD_LIMIT: usize = 1500;

static APP: LazyLock<Router> = LazyLock::new(|| {
    async fn unsubscribed(_: UnsubscribeEvent) -> Received {
        Received
    }
    let auth = WebhookAuth::new(TOKEN).discard_limit(DISCARD_LIMIT);
    Router::new()
        .route("/", post(unsubscribed).layer(auth))
        .layer(DefaultBodyLimit::max(BODY_LIMIT))
        .with_state(())
});

fuzz_target!(|connection: Connection| {
    let mut deliveries = connection.deliveries;
    deliveries.push(Delivery { tokens: RIGHT, ..Delivery::default() });
    let mut expected: Vec<_> = deliveries.iter().map(Delivery::expected).collect();
    if let Some(last) = expected.iter().position(|expected| expected.closes) {
        expected.truncate(last + 1);
    }
    let sent: Vec<u8> = deliveries.iter().flat_map(Delivery::bytes).collect();
    let received = talk(&sent, 16 * usize::from(connection.piece) + 16);
    let mut rest = &received[..];
    for expected in expected {
        assert_eq!(Outcome::read(&mut rest), expected);
    }
    assert_eq!(rest, b"");
});

#[derive(Arbitrary, Debug)]
struct Connection {
    deliveries: Vec<Delivery>,
    piece: u8,
}

#[derive(Arbitrary, Debug, Default)]
struct Delivery {
    /// An index of `TOKENS`.
    tokens: u8,
    /// The size of a chunk less one; `None` for a `Content-Length`.
    chunked: Option<u8>,
    expects_continue: bool,
    body: Body,
}

const TOKENS: [&[&str]; 6] = [
    &[],
    &[TOKEN],
    &[TOKEN, TOKEN],
    &["correct-horse-8"],
    &["correct-horse"],
    &[TOKEN, "correct-horse-8"],
];
const RIGHT: u8 = 1;

#[derive(Arbitrary, Debug, Default)]
enum Body {
    #[default]
    Example,
    Mutated(u32),
    Whitespace(u16),
    Any(Vec<u8>),
}

impl Body {
    fn bytes(&self) -> Vec<u8> {
        match self {
            Self::Example => EXAMPLE.into(),
            Self::Mutated(seed) => {
                mutate::json(EXAMPLE.as_bytes(), &mut Choices::new((*seed).into()))
            }
            Self::Whitespace(length) => vec![b' '; usize::from(*length) % (2 * DISCARD_LIMIT)],
            Self::Any(bytes) => bytes.clone(),
        }
    }
}

impl Delivery {
    fn tokens(&self) -> &'static [&'static str] {
        TOKENS[usize::from(self.tokens) % TOKENS.len()]
    }

    fn bytes(&self) -> Vec<u8> {
        let mut head =
            "POST / HTTP/1.1\r\nHost: a\r\nContent-Type: application/json\r\n".to_owned();
        for token in self.tokens() {
            head += &format!("X-LOX24-Token: {token}\r\n");
        }
        if self.expects_continue {
            head += "Expect: 100-continue\r\n";
        }
        let body = self.body.bytes();
        let Some(size) = self.chunked else {
            return [format!("{head}Content-Length: {}\r\n\r\n", body.len()).into(), body].concat();
        };
        let mut sent = format!("{head}Transfer-Encoding: chunked\r\n\r\n").into_bytes();
        for chunk in body.chunks(usize::from(size) + 1).chain([&b""[..]]) {
            sent.extend([format!("{:x}\r\n", chunk.len()).as_bytes(), chunk, b"\r\n"].concat());
        }
        sent
    }

    /// From the contract, and from the documentation of `discard_limit`.
    fn expected(&self) -> Outcome {
        let refused = |status, code: &str, closes| Outcome { status, code: code.into(), closes };
        let body = self.body.bytes();
        if self.tokens() != [TOKEN] {
            let has_body = !body.is_empty() || self.chunked.is_some();
            let closes = has_body && self.expects_continue || body.len() > DISCARD_LIMIT;
            return refused(401, "unauthorized", closes);
        }
        if body.len() > BODY_LIMIT {
            return refused(400, "body_too_large", true);
        }
        match UnsubscribeEvent::from_slice(&body) {
            Ok(_) => refused(200, "", false),
            Err(rejection) => refused(400, rejection.code().as_str(), false),
        }
    }
}

/// A response.
#[derive(Debug, PartialEq)]
struct Outcome {
    status: u16,
    /// Empty for a 200.
    code: String,
    closes: bool,
}

impl Outcome {
    /// Takes the next response.
    fn read(received: &mut &[u8]) -> Self {
        let mut head = take_head(received);
        if head.starts_with("HTTP/1.1 100 ") {
            head = take_head(received);
        }
        let field = |name: &str| head.lines().find_map(|line| line.strip_prefix(name));
        let length = field("content-length: ").expect("a length").parse().expect("a number");
        let (body, rest) = received.split_at(length);
        *received = rest;
        let status = head[9..12].parse().expect("a status");
        let closes = field("connection: ") == Some("close");
        let mut code = String::new();
        if status == 200 {
            assert_eq!(body, b"Webhook received\n");
        } else {
            let problem: serde_json::Value = serde_json::from_slice(body).expect("JSON");
            assert_eq!(problem["status"], status);
            code += problem["code"].as_str().expect("a code");
        }
        Self { status, code, closes }
    }
}

fn take_head<'a>(received: &mut &'a [u8]) -> &'a str {
    let end = received.windows(4).position(|at| at == b"\r\n\r\n").expect("a whole head");
    let head = std::str::from_utf8(&received[..end]).expect("UTF-8");
    *received = &received[end + 4..];
    head
}

/// Sends it in pieces, and reads until the server closes. The clock is paused: it jumps where nothing
/// is left to do, so a wait shows as one and takes no time.
fn talk(sent: &[u8], piece: usize) -> Vec<u8> {
    let mut builder = tokio::runtime::Builder::new_current_thread();
    let runtime = builder.enable_time().start_paused(true).build().expect("a runtime");
    let mut received = Vec::new();
    let (client, server) = duplex(1 << 12);
    let (mut from_server, mut to_server) = split(client);
    let service = service_fn(async |request: Request<Incoming>| {
        APP.clone().oneshot(request).await.map_err(|never: Infallible| never)
    });
    let serve = async {
        // Its error is the client's: what is not HTTP, or a request cut off.
        let _ = http1::Builder::new()
            .half_close(true)
            .serve_connection(TokioIo::new(server), service)
            .await;
    };
    let write = async {
        for piece in sent.chunks(piece) {
            // The server may have closed already.
            let _ = to_server.write_all(piece).await;
            tokio::task::yield_now().await;
        }
        let _ = to_server.shutdown().await;
    };
    let read = from_server.read_to_end(&mut received);
    let conversation = async { tokio::join!(serve, write, read) };
    let timeout = async { tokio::time::timeout(Duration::from_secs(60), conversation).await };
    let (.., read) = runtime.block_on(timeout).expect("the connection ends");
    read.expect("memory does not fail");
    received
}
