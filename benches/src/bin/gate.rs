//! One case for callgrind to count: `gate CASE`. `scripts/check-speed` runs it.

use std::hint::black_box;

use axum::{Router, extract::Request};
use unsubscribe_webhook::UnsubscribeEvent;
use webhook_benches::*;

fn main() {
    let case = std::env::args().nth(1).expect("usage: gate CASE");
    let forged = |host: Host| warm(&host, || refused(Some(WRONG), &EXAMPLE));
    match case.as_str() {
        "accepted-ours" => request(delivery(ours())),
        "accepted-floor" => request(delivery(floor())),
        "refused-ours" => request(forged(ours())),
        "refused-by-hand" => request(forged(hand_written())),
        "decode-ours" => decode(decode_ours),
        "decode-reason-7" => {
            let body = altered(r#""id":4"#, r#""id":7"#);
            measured(|| drop(black_box(UnsubscribeEvent::from_slice(black_box(&body)))));
        }
        "decode-serde-json" => decode(decode_serde_json),
        _ => panic!("no case {case}"),
    }
}

fn request((mut app, request): (Router, Request)) {
    measured(|| drop(black_box(answer(&mut app, black_box(request)))));
}

fn decode<T>(read: fn(&[u8]) -> T) {
    drop(read(&EXAMPLE));
    measured(|| drop(black_box(read(black_box(&EXAMPLE)))));
}

/// callgrind counts inside this function and nowhere else.
#[inline(never)]
fn measured(case: impl FnOnce()) {
    case();
}
